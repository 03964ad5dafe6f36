"""From windows to feature rows, preprocessing `bearing-features/1`: the same code for training and serving."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from almenara.contracts import BearingFeaturesInput, Peak
from almenara.errors import InputError
from almenara.vibration import envelope
from almenara.vibration.bearings import BEARINGS, Bearing
from almenara.vibration.windowing import check_windows, resample

VERSION: Literal["bearing-features/1"] = "bearing-features/1"

Group = Literal["level", "time", "spectrum", "envelope"]
GROUPS: tuple[Group, ...] = get_args(Group)
SCALE_FREE: tuple[Group, ...] = ("time", "spectrum", "envelope")
"""Groups that a change of unit or of sensor gain leaves alone."""

MATCH_DB = 10.0
"""Level from which a line counts as found. The background is the median of Rayleigh-distributed amplitudes, so noise
alone lifts one bin this high with a probability of 1 in 1000."""


@dataclass(frozen=True)
class Description:
    """Features of n windows and, with the envelope group, the lines that they were read from."""

    features: NDArray[np.float32]
    spectra: envelope.Spectra | None

    def rows(self, rows: slice) -> Description:
        """That of some of the windows."""
        spectra = self.spectra
        if spectra is not None:
            spectra = envelope.Spectra(spectra.levels[rows], spectra.frequencies[rows], spectra.variations[rows])
        return Description(self.features[rows], spectra)


@dataclass(frozen=True)
class BearingFeatures:
    """Features of bearing vibration in four groups, float32 columns with stable names.

    `level`: RMS and peak to peak, in decades of the unit. `time`: shape statistics. `spectrum`: power in 24 bands
    relative to their sum, in decades, and the spectrum's shape. `envelope`: levels of fault and shaft orders in
    five envelope spectra; needs rpm and a bearing.

    Windows are resampled to the canonical rate, never up: below it, spectrum bands above the Nyquist frequency stay
    at their floor (-6) and envelope bands at their background (0). There is nothing to fit.

    Attributes:
        sampling_rate_hz: canonical rate.
        window_seconds: length that verdicts are made for; shorter windows are accepted.
        hop_seconds: from the start of a window to the start of the next.
        groups: which groups, in the order of the columns.
    """

    sampling_rate_hz: float = 12_000.0
    window_seconds: float = 1.0
    hop_seconds: float = 0.5
    groups: tuple[Group, ...] = SCALE_FREE

    def __post_init__(self) -> None:
        if not self.groups or len(set(self.groups)) < len(self.groups) or not set(self.groups) <= set(GROUPS):
            raise InputError(
                "feature-groups", f"Feature groups {self.groups} are not distinct ones of {', '.join(GROUPS)}."
            )

    @classmethod
    @lru_cache(maxsize=64)
    def from_input(cls, spec: BearingFeaturesInput) -> Self:
        """The extractor that a card asks for.

        Raises:
            InputError: `features-version`, this library computes other columns under that name.
        """
        groups = tuple(group for group in GROUPS if group in spec.groups)
        unknown = set(spec.groups) - set(GROUPS)
        if not unknown:
            made = cls(spec.sampling_rate_hz, spec.window_seconds, spec.hop_seconds, groups)
            if made.schema_hash == spec.schema_hash and made.names == spec.feature_names:
                return made
        raise InputError(
            "features-version",
            f"The model was trained on features that this version does not compute ({spec.preprocessing}, "
            f"groups {', '.join(spec.groups)}, schema {spec.schema_hash[:12]}).",
            "Upgrade almenara, or train the model again with this version.",
        )

    def to_input(self, unit: str | None = None) -> BearingFeaturesInput:
        """What the card says of the graph's input; the unit is that of the samples, where levels were learned."""
        return BearingFeaturesInput(
            preprocessing=VERSION,
            sampling_rate_hz=self.sampling_rate_hz,
            window_seconds=self.window_seconds,
            hop_seconds=self.hop_seconds,
            groups=self.groups,
            needs_rpm=self.needs_rpm,
            feature_names=self.names,
            schema_hash=self.schema_hash,
            unit=unit,
        )

    @property
    def needs_rpm(self) -> bool:
        """Whether shaft speed and bearing must be known."""
        return "envelope" in self.groups

    @property
    def names(self) -> tuple[str, ...]:
        """Column names."""
        return tuple(name for group in self.groups for name in _NAMES[group])

    @property
    def schema_hash(self) -> str:
        """SHA-256 of version, parameters and column names."""
        schema = [VERSION, self.sampling_rate_hz, self.window_seconds, self.hop_seconds, self.groups, self.names]
        return hashlib.sha256(json.dumps(schema).encode()).hexdigest()

    def fit(self, windows: object = None, labels: object = None) -> Self:  # noqa: ARG002  scikit-learn's signature
        """Nothing to learn; there so that it can stand in a pipeline."""
        return self

    def transform(
        self,
        windows: NDArray[Any],
        sampling_rate_hz: float,
        shaft_rpm: ArrayLike | None = None,
        bearing: Bearing | None = None,
    ) -> NDArray[np.float32]:
        """Feature rows of windows, float32 (n, features). See `describe`."""
        return self.describe(windows, sampling_rate_hz, shaft_rpm, bearing).features

    def describe(
        self,
        windows: NDArray[Any],
        sampling_rate_hz: float,
        shaft_rpm: ArrayLike | None = None,
        bearing: Bearing | None = None,
    ) -> Description:
        """Features and envelope lines of windows.

        Args:
            windows: shape (n, samples), any real dtype, one unit throughout.
            sampling_rate_hz: of the windows.
            shaft_rpm: revolutions a minute, one number or shape (n,); the envelope group needs it.
            bearing: the envelope group needs it.

        Raises:
            InputError: a window cannot be judged (its index is named), `shaft-rpm-missing`, `shaft-rpm-invalid` or
                `bearing-missing`.
        """
        batch = np.asarray(windows)
        if batch.ndim != 2 or batch.shape[0] == 0:
            raise InputError("window-shape", f"Windows must have the shape (n, samples); these have {batch.shape}.")
        check_windows(batch, sampling_rate_hz)
        shaft_hz = self.shaft_hz(shaft_rpm, batch.shape[0], bearing)
        parts = [
            self._describe(batch[rows], sampling_rate_hz, None if shaft_hz is None else shaft_hz[rows], bearing)
            for rows in (slice(start, start + _CHUNK) for start in range(0, batch.shape[0], _CHUNK))
        ]
        spectra = [part.spectra for part in parts if part.spectra is not None]
        return Description(np.concatenate([part.features for part in parts]), _joined(spectra) if spectra else None)

    def shaft_hz(self, shaft_rpm: ArrayLike | None, size: int, bearing: Bearing | None) -> NDArray[np.float64] | None:
        """Revolutions a second of `size` windows, None where no group needs them.

        Raises:
            InputError: `shaft-rpm-missing`, `shaft-rpm-invalid` or `bearing-missing`.
        """
        if not self.needs_rpm:
            return None
        if shaft_rpm is None:
            raise InputError(
                "shaft-rpm-missing",
                "The shaft speed is not given, and this model reads fault frequencies as multiples of it.",
                "Give shaft_rpm, or use a model trained on the groups time and spectrum alone.",
            )
        if bearing is None:
            raise InputError(
                "bearing-missing",
                "The bearing is not given, and this model looks for its fault frequencies.",
                f"Give its designation ({', '.join(BEARINGS)}) or its geometry.",
            )
        shaft_hz = np.broadcast_to(np.asarray(shaft_rpm, dtype=np.float64) / 60, (size,))
        if not (np.isfinite(shaft_hz).all() and (shaft_hz >= 1).all() and (shaft_hz <= 1000).all()):
            raise InputError(
                "shaft-rpm-invalid",
                f"A shaft speed of {shaft_rpm} revolutions a minute cannot be used.",
                "Give it in revolutions a minute, 60 to 60000.",
            )
        return shaft_hz

    def _describe(
        self, batch: NDArray[Any], rate: float, shaft_hz: NDArray[np.float64] | None, bearing: Bearing | None
    ) -> Description:
        samples, rate = resample(batch, rate, self.sampling_rate_hz)
        spectrum = fft.rfft(samples, axis=1)
        seconds = samples.shape[1] / rate
        columns: list[NDArray[np.float32]] = []
        spectra = None
        for group in self.groups:
            if group == "level":
                columns.append(_levels(samples))
            elif group == "time":
                columns.append(_time_statistics(samples))
            elif group == "spectrum":
                columns.append(_spectrum_shape(spectrum, seconds))
            elif shaft_hz is not None and bearing is not None:
                spectra = envelope.read_lines(spectrum, seconds, rate / 2, shaft_hz, bearing)
                columns.append(_envelope_levels(spectra))
        return Description(np.concatenate(columns, axis=1, dtype=np.float32), spectra)


def envelope_peaks(
    window: NDArray[Any], sampling_rate_hz: float, shaft_rpm: float, bearing: Bearing
) -> tuple[Peak, ...]:
    """Evidence for a person: each fault's lines in the band where they stand out most.

    Args:
        window: shape (samples,), or (n, samples) whose levels are averaged.
        sampling_rate_hz: of the window.
        shaft_rpm: revolutions a minute.
        bearing: gives the orders.

    Returns:
        Three harmonics of BPFI, BPFO and 2xBSF, then FTF, 1x and 2x; `matched` from `MATCH_DB` up.
    """
    extractor = BearingFeatures(groups=("envelope",))
    found = extractor.describe(np.atleast_2d(window), sampling_rate_hz, shaft_rpm, bearing)
    return peaks(found.spectra, bearing) if found.spectra else ()


def peaks(spectra: envelope.Spectra, bearing: Bearing) -> tuple[Peak, ...]:
    """The evidence that `envelope_peaks` gives, from lines that were read already."""
    alone = len(spectra.levels) == 1
    level_db = (spectra.levels[0] if alone else spectra.levels.mean(axis=0)) * np.float32(20 / np.log(10))
    frequency = spectra.frequencies[0] if alone else np.median(spectra.frequencies, axis=0)
    wanted = envelope.lines(bearing)
    found: list[Peak] = []
    for name, columns in _harmonics(wanted):
        band = int(level_db[:, columns].mean(axis=1).argmax())
        found += [
            Peak(
                band=envelope.BANDS[band].title,
                name=name,
                harmonic=wanted[at].harmonic,
                order=round(wanted[at].order, 4),
                frequency_hz=round(float(frequency[band, at]), 2),
                snr_db=round(float(level_db[band, at]), 1),
                matched=bool(level_db[band, at] >= MATCH_DB),
            )
            for at in columns
        ]
    return tuple(found)


@lru_cache(maxsize=64)
def _harmonics(wanted: tuple[envelope.Line, ...]) -> tuple[tuple[str, list[int]], ...]:
    """Each name with the positions of its lines, sidebands left out."""
    names = dict.fromkeys(line.name for line in wanted)
    return tuple(
        (name, [at for at, line in enumerate(wanted) if line.name == name and not line.sideband]) for name in names
    )


_CHUNK = 32
"""Windows at a time: keeps the padded envelopes of 1 s windows below 50 MB."""
_SPECTRUM_BANDS = 24
_SPECTRUM_LIMIT_HZ = 5800.0
_FLOOR = 1e-6

_LEVEL_NAMES = ("rms", "peak_to_peak")
_TIME_NAMES = ("kurtosis", "skewness", "crest", "shape", "impulse", "clearance", "hyperkurtosis", "roughness")
_SPECTRUM_NAMES = (*(f"band_{index:02d}" for index in range(_SPECTRUM_BANDS)), "centroid", "spread", "entropy", "low")
_FAULTS = ("bpfi", "bpfo", "2xbsf")
_ENVELOPE_NAMES = (
    "variation",
    *(f"{fault}_{what}" for fault in _FAULTS for what in ("1", "mean", "sidebands")),
    *("ftf", "1x", "2x", "inner_outer", "ball_outer", "strongest"),
)
_NAMES: dict[Group, tuple[str, ...]] = {
    "level": tuple(f"level_{name}" for name in _LEVEL_NAMES),
    "time": tuple(f"time_{name}" for name in _TIME_NAMES),
    "spectrum": tuple(f"spectrum_{name}" for name in _SPECTRUM_NAMES),
    "envelope": tuple(f"envelope_{band.name}_{name}" for band in envelope.BANDS for name in _ENVELOPE_NAMES),
}


def _levels(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Columns `_LEVEL_NAMES`."""
    rms = np.sqrt((samples**2).mean(axis=1))
    return np.stack([np.log10(rms), np.log10(np.ptp(samples, axis=1))], axis=1).astype(np.float32)


def _time_statistics(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Columns `_TIME_NAMES` of windows of zero mean; ratios as logarithms, which are closer to normal."""
    magnitude = np.abs(samples)
    rms = np.sqrt(_mean_square(samples))
    peak, mean = magnitude.max(axis=1), magnitude.mean(axis=1)
    root = np.sqrt(magnitude).mean(axis=1) ** 2
    scaled = samples / rms[:, None]
    squared = scaled**2
    fourth = squared**2
    columns = (
        np.log(fourth.mean(axis=1)),
        (squared * scaled).mean(axis=1),
        np.log(peak / rms),
        rms / mean,
        np.log(peak / mean),
        np.log(peak / root),
        np.log((fourth * squared).mean(axis=1)),
        np.sqrt(_mean_square(scaled[:, 1:] - scaled[:, :-1])),
    )
    return np.stack(columns, axis=1).astype(np.float32)


def _mean_square(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.square(values).mean(axis=1))


def _spectrum_shape(spectrum: NDArray[np.complex64], seconds: float) -> NDArray[np.float32]:
    """Columns `_SPECTRUM_NAMES`, from the spectrum that the envelope bands use too."""
    tapered = spectrum / 2  # a Hann window, applied where it is a sum of three bins
    tapered[:, 1:-1] -= (spectrum[:, :-2] + spectrum[:, 2:]) / 4
    power = tapered.real**2 + tapered.imag**2
    total = np.concatenate([np.zeros((len(power), 1)), np.cumsum(power, axis=1, dtype=np.float64)], axis=1)
    edges_hz = np.linspace(0, _SPECTRUM_LIMIT_HZ, _SPECTRUM_BANDS + 1)
    edges = np.minimum(np.ceil(edges_hz * seconds).astype(np.intp), power.shape[1])
    bands = np.diff(total[:, edges], axis=1)
    everything = bands.sum(axis=1, keepdims=True) + 1e-30
    share = bands / everything
    centres = (edges_hz[:-1] + edges_hz[1:]) / 2e3
    centroid = share @ centres
    spread = np.sqrt((share * (centres - centroid[:, None]) ** 2).sum(axis=1))
    entropy = -(share * np.log(share + 1e-12)).sum(axis=1)
    first, last = (min(int(np.ceil(limit * seconds)), power.shape[1]) for limit in (5, 500))
    low = np.log10((total[:, last] - total[:, first]) / everything[:, 0] + _FLOOR)
    return np.column_stack([np.log10(share + _FLOOR), centroid, spread, entropy, low]).astype(np.float32)


def _envelope_levels(spectra: envelope.Spectra) -> NDArray[np.float32]:
    """Columns `_ENVELOPE_NAMES` a band; the lines of a fault are its harmonics 1 to 3, then a pair of sidebands."""
    count, bands, _ = spectra.levels.shape
    faults = spectra.levels[:, :, : 5 * len(_FAULTS)].reshape(count, bands, len(_FAULTS), 5)
    harmonics = faults[..., :3].mean(axis=-1)
    sidebands = np.log(np.exp(faults[..., 3:]).mean(axis=-1))
    per_fault = np.stack([faults[..., 0], harmonics, sidebands], axis=-1).reshape(count, bands, -1)
    inner, outer, ball = (harmonics[..., index] for index in range(3))
    against = np.stack([inner - outer, ball - outer, harmonics.max(axis=-1)], axis=-1)
    rest = spectra.levels[:, :, 5 * len(_FAULTS) :]
    columns = np.concatenate([spectra.variations[..., None], per_fault, rest, against], axis=-1)
    return columns.reshape(count, -1).astype(np.float32)


def _joined(parts: list[envelope.Spectra]) -> envelope.Spectra:
    return envelope.Spectra(
        levels=np.concatenate([part.levels for part in parts]),
        frequencies=np.concatenate([part.frequencies for part in parts]),
        variations=np.concatenate([part.variations for part in parts]),
    )
