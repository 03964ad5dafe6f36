"""From a signal and a model's outputs to a verdict: one function for training, API and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from almenara import calibration
from almenara.contracts import (
    BearingFeaturesInput,
    Card,
    ModelRef,
    Novelty,
    Peak,
    VibrationVerdict,
)
from almenara.errors import InputError
from almenara.vibration.bearings import Bearing
from almenara.vibration.features import BearingFeatures, peaks
from almenara.vibration.severity import Graded
from almenara.vibration.units import factor
from almenara.vibration.windowing import check_windows, windows

UNKNOWN = "unknown"
"""Label of a verdict whose classifier abstained."""

FAULT_LINES = {"inner_race": "BPFI", "outer_race": "BPFO", "ball": "2xBSF", "cage": "FTF"}
"""Which line of the envelope spectrum speaks for which label."""

_LEAST_PROBABILITY = 1e-3
"""One window that a model is wrongly certain of must not decide for a whole recording."""


@dataclass(frozen=True)
class Recorded:
    """A signal and what is known of it.

    Attributes:
        signal: shape (samples,), any real dtype.
        sampling_rate_hz: of the signal; never assumed.
        shaft_rpm: revolutions a minute; needed when the card says so.
        bearing: needed when the card says so.
        unit: of the samples, when known.
    """

    signal: NDArray[Any]
    sampling_rate_hz: float
    shaft_rpm: float | None = None
    bearing: Bearing | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A signal cut into windows and described.

    Attributes:
        features: float32 (windows, features), the graph's input.
        quality: flags: `low_resolution` (shorter than the model's window), `narrow_band` (sampled below the canonical
            rate), `clipped`, `no_rpm` (no evidence could be looked for), `unit_assumed` (the model reads levels, and
            the unit of the signal or of the model is not known).
        peaks: evidence, averaged over the windows.
        rms: root mean square about the mean, in the unit of the signal.
        windows: how many.
    """

    features: NDArray[np.float32]
    quality: tuple[str, ...]
    peaks: tuple[Peak, ...]
    rms: float
    windows: int


def prepare(
    signal: NDArray[Any],
    sampling_rate_hz: float,
    shaft_rpm: float | None,
    bearing: Bearing | None,
    spec: BearingFeaturesInput,
    unit: str | None = None,
) -> Prepared:
    """Cut a signal into the model's windows and describe them; levels are brought to the model's unit.

    Args:
        signal: shape (samples,), any real dtype.
        sampling_rate_hz: of the signal; never assumed.
        shaft_rpm: revolutions a minute; needed when the card says so.
        bearing: needed when the card says so.
        spec: the card's input.
        unit: of the samples, when known.

    Raises:
        InputError: the signal cannot be judged; see `windowing.check_windows`, `BearingFeatures.describe` and
            `units.factor`.
    """
    (prepared,) = prepare_many([Recorded(signal, sampling_rate_hz, shaft_rpm, bearing, unit)], spec)
    if isinstance(prepared, InputError):
        raise prepared
    return prepared


def prepare_many(signals: Sequence[Recorded], spec: BearingFeaturesInput) -> list[Prepared | InputError]:
    """As `prepare`, for many: signals of the same length, rate and bearing are described in one go.

    Returns:
        In the order of the signals; of one that cannot be judged the error, which touches no other.
    """
    extractor = BearingFeatures.from_input(spec)
    found: dict[int, Prepared | InputError] = {}
    alike: dict[tuple[int, float, Bearing | None], list[tuple[int, _Cut]]] = {}
    for index, recorded in enumerate(signals):
        try:
            cut = _cut(recorded, extractor, spec)
        except InputError as error:
            found[index] = error
        else:
            key = (cut.windows.shape[1], recorded.sampling_rate_hz, recorded.bearing)
            alike.setdefault(key, []).append((index, cut))
    for (_, rate, bearing), members in alike.items():
        counts = [cut.windows.shape[0] for _, cut in members]
        rpm = [signals[index].shaft_rpm for index, _ in members]
        speeds = np.repeat(np.array(rpm, dtype=np.float64), counts) if extractor.needs_rpm else None
        described = extractor.describe(np.concatenate([cut.windows for _, cut in members]), rate, speeds, bearing)
        ends = np.cumsum(counts)
        for (index, cut), end, count in zip(members, ends, counts, strict=True):
            part = described.rows(slice(end - count, end))
            found[index] = Prepared(
                features=part.features,
                quality=cut.quality,
                peaks=peaks(part.spectra, bearing) if part.spectra and bearing else (),
                rms=cut.rms,
                windows=count,
            )
    return [found[index] for index in range(len(signals))]


@dataclass(frozen=True)
class _Cut:
    """A signal in windows, in the model's unit, float32 (windows, samples); the rest is as in `Prepared`."""

    windows: NDArray[np.float32]
    quality: tuple[str, ...]
    rms: float


def _cut(recorded: Recorded, extractor: BearingFeatures, spec: BearingFeaturesInput) -> _Cut:
    samples, rate = np.asarray(recorded.signal), recorded.sampling_rate_hz
    if samples.ndim != 1 or samples.dtype.kind not in "fiu":
        raise InputError(
            "recording-shape",
            f"The signal has shape {samples.shape} and type {samples.dtype}.",
            "Give one dimension of real numbers.",
        )
    gain = _gain(recorded.unit, spec)
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused as not finite
        batch = windows(samples, rate, spec.window_seconds, spec.hop_seconds)
        scaled = batch if gain is None or gain == 1 else batch * np.float32(gain)
    clipped = check_windows(batch, rate)
    if scaled is not batch:
        check_windows(scaled, rate)
    extractor.shaft_hz(recorded.shaft_rpm, 1, recorded.bearing)
    quality = [
        *(["low_resolution"] if samples.size / rate < spec.window_seconds * (1 - 1e-6) else []),
        *(["narrow_band"] if rate < spec.sampling_rate_hz * (1 - 1e-3) else []),
        *clipped,
        *(["no_rpm"] if recorded.shaft_rpm is None or recorded.bearing is None else []),
        *(["unit_assumed"] if gain is None else []),
    ]
    return _Cut(scaled, tuple(quality), float(batch.std(axis=1, dtype=np.float64).mean()))


def pool(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities of a recording from those of its windows: their geometric mean, brought back to sum 1.

    Args:
        probabilities: shape (windows, classes).

    Returns:
        float64, shape (classes,).
    """
    logarithm = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _LEAST_PROBABILITY)).mean(axis=0)
    pooled = np.exp(logarithm - logarithm.max())
    return np.asarray(pooled / pooled.sum())


def novelty(scores: NDArray[Any], card: Card, model: ModelRef, quality: tuple[str, ...] = ()) -> Novelty:
    """What a baseline says of a signal: its median window against the threshold.

    The threshold promises a rate for single windows; half of a signal's windows must exceed it, so that one knock
    does not alarm.

    Args:
        scores: shape (windows,).
        card: of the novelty model, with its threshold and calibration scores.
        model: which registered version.
        quality: flags of the signal.
    """
    threshold = card.threshold
    if threshold is None:
        raise InputError("card-uncalibrated", f"The card of {card.name} has no threshold.")
    score = float(np.median(np.asarray(scores, dtype=np.float64)))
    return Novelty(
        model=model,
        label="anomaly" if score > threshold.value else "normal",
        score=score,
        anomaly=float(calibration.anomaly_scale(score, card)),
        p_value=calibration.p_value(score, card),
        threshold=threshold.value,
        quality=quality,
    )


def verdict(
    prepared: Prepared,
    probabilities: NDArray[Any],
    card: Card,
    model: ModelRef,
    novelty: Novelty | None,
    unit: str | None,
    graded: Graded = (None, None),
) -> VibrationVerdict:
    """Verdict on a signal.

    Args:
        prepared: the signal.
        probabilities: the classifier's, shape (windows, classes) in the order of the card's labels.
        card: of the classifier.
        model: which registered version.
        novelty: what the asset's baseline says, when it has one.
        unit: of the samples.
        graded: how strongly the machine vibrates, and why that is not told.
    """
    pooled = pool(probabilities)
    if pooled.size != len(card.labels):
        raise InputError(
            "package-graph", f"{card.name} gives {pooled.size} probabilities for {len(card.labels)} labels."
        )
    best = int(pooled.argmax())
    abstained = card.abstain_below is not None and pooled[best] < card.abstain_below
    return VibrationVerdict(
        model=model,
        label=UNKNOWN if abstained else card.labels[best],
        probabilities={label: float(value) for label, value in zip(card.labels, pooled, strict=True)},
        abstained=bool(abstained),
        novelty=novelty,
        evidence=prepared.peaks,
        quality=tuple(dict.fromkeys((*prepared.quality, *(novelty.quality if novelty else ())))),
        windows=prepared.windows,
        rms=prepared.rms,
        unit=unit,
        severity=graded[0],
        severity_reason=graded[1],
        reason=_reason(card.labels[best], float(pooled[best]), bool(abstained), prepared, novelty),
    )


def _gain(unit: str | None, spec: BearingFeaturesInput) -> float | None:
    """Factor to the unit that the model's levels were learned in; None when it reads levels and a unit is unknown."""
    if "level" not in spec.groups:
        return 1.0
    if unit is None or not unit.strip() or spec.unit is None:
        return None
    return factor(unit, spec.unit)


def _reason(label: str, probability: float, abstained: bool, prepared: Prepared, novelty: Novelty | None) -> str:
    """One sentence: against the baseline, the label, and what the spectrum shows of it."""
    named = f"{label} ({probability:.2f})"
    opinion = f"no fault named, {named} comes closest" if abstained else named
    if novelty is None:
        baseline = ""
    elif novelty.label == "anomaly":
        baseline = f"unlike its baseline (score {novelty.score:.3g} over {novelty.threshold:.3g}), "
    else:
        baseline = f"like its baseline (score {novelty.score:.3g}, threshold {novelty.threshold:.3g}), "
    return f"{baseline}{opinion}{_seen(label, prepared.peaks)}"


def _seen(label: str, evidence: tuple[Peak, ...]) -> str:
    name = FAULT_LINES.get(label)
    fundamental = next((peak for peak in evidence if peak.name == name and peak.harmonic == 1), None)
    if name is None or fundamental is None:
        return ""
    if not fundamental.matched:
        return f": no line at {name} ({fundamental.frequency_hz:.1f} Hz) stands out of the envelope spectrum"
    harmonics = sum(peak.matched for peak in evidence if peak.name == name and peak.harmonic > 1)
    and_more = f" and {harmonics} harmonic{'s' * (harmonics > 1)}" if harmonics else ""
    return (
        f": envelope {fundamental.band} shows {name} {fundamental.frequency_hz:.1f} Hz{and_more}, "
        f"{fundamental.snr_db:.0f} dB above background"
    )
