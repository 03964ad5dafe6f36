"""From data to registered models: train, gate, register and promote, for the command and the demo alike."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from almenara.comparison import PromotionError
from almenara.contracts import Candidate, Card, ModelRef, Progress
from almenara.errors import InputError
from almenara.registry import Registry
from almenara.vibration.recordings import Recording
from almenara.vision.images import Sample

ASSET_LETTERS = 20
LEAST_BASELINE_RECORDS = 2  # one to fit on, one to calibrate on


@dataclass(frozen=True)
class Registered:
    """A new version, its card, and whether it became the champion (`ref.alias`).

    Attributes:
        refused: why it did not become the champion although it was to, and what to do; empty otherwise.
    """

    ref: ModelRef
    card: Card
    refused: str = ""

    @property
    def sentence(self) -> str:
        """What was registered, for a person."""
        ref, threshold = self.ref, self.card.threshold
        parts = [f"Registered {ref.name} version {ref.version}" + (", the champion." if ref.alias else ".")]
        if threshold is not None:
            parts.append(
                f"Threshold {threshold.value:.4g} for a false-alarm rate of {threshold.false_alarm_rate:.1%} "
                f"({threshold.promise}: {threshold.groups} groups, {threshold.groups_needed} needed)."
            )
        if self.refused:
            parts.append(f"Not promoted: {self.refused}")
        elif not ref.alias:
            parts.append(f"Promote it: almenara models promote {ref.name} {ref.version} --reason …")
        return " ".join(parts)


@dataclass(frozen=True)
class Outcome:
    """Everything that a training registered, and what it left out with the reason."""

    registered: tuple[Registered, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trainer:
    """Where models go and how far the work is.

    Attributes:
        registry: gates and registers.
        experiment: MLflow experiment of the runs.
        promote: make new versions champions unless they are worse than the champion or cannot be compared with it; the
            first version of a name becomes one anyway.
        progress: told by long work how far it is.
    """

    registry: Registry
    experiment: str
    promote: bool = False
    progress: Progress | None = None

    def vibration(
        self,
        recordings: Sequence[Recording],
        *,
        name: str,
        method: str = "ensemble",
        false_alarm_rate: float = 0.05,
        strict: bool = False,
        seed: int = 0,
    ) -> Outcome:
        """Train the fault classifier, and a novelty baseline for every asset with enough healthy records.

        All of them are trained before the first is registered: bad input leaves nothing half-registered.
        """
        from almenara.vibration.train import train_classifier, train_novelty

        check_name(name)
        recordings = list(recordings)
        candidates = [train_classifier(recordings, name=name, method=method, seed=seed, progress=self.progress)]
        by_asset = healthy_by_asset(recordings)
        too_few = [asset for asset, healthy in by_asset.items() if len(healthy) < LEAST_BASELINE_RECORDS]
        for asset in (asset for asset in by_asset if asset not in too_few):
            healthy = by_asset[asset]
            baseline = train_novelty(
                healthy,
                name=baseline_name(name, asset),
                asset=asset,
                false_alarm_rate=false_alarm_rate,
                strict=strict,
                seed=seed,
                progress=self.progress,
            )
            candidates.append(baseline)
        notes: tuple[str, ...] = ()
        if too_few:
            named = ", ".join(too_few[:5]) + (f" and {len(too_few) - 5} more" if len(too_few) > 5 else "")
            notes = (
                f"No baseline for {named}: fewer than {LEAST_BASELINE_RECORDS} healthy records. Without one the "
                f"classifier names faults but raises no alarm.",
            )
        return Outcome(tuple(self.register(candidate) for candidate in candidates), notes)

    def vision(
        self,
        samples: Sequence[Sample],
        *,
        name: str,
        method: str = "padim",
        backbone: str = "efficientnet-lite0",
        size: int = 256,
        false_alarm_rate: float = 0.05,
        strict: bool = False,
        seed: int = 0,
    ) -> Outcome:
        """Train a picture model on normal pictures and calibrate it on others."""
        from almenara.vision.train import train

        check_name(name)
        candidate = train(
            list(samples),
            name=name,
            method=method,
            backbone=backbone,
            size=size,
            false_alarm_rate=false_alarm_rate,
            strict=strict,
            seed=seed,
            progress=self.progress,
        )
        return Outcome((self.register(candidate),))

    def register(self, candidate: Candidate) -> Registered:
        """Gate and register a candidate; promote it when asked and not refused, or when it is the first version."""
        made = self.registry.register(candidate, self.experiment)
        refused = ""
        if self.promote or made.version == "1":
            reason = "promoted at training" if self.promote else "first version"
            try:
                made = self.registry.promote(made.name, made.version, reason=reason)
            except PromotionError as error:
                refused = str(error)
        return Registered(made, candidate.card, refused)


def baseline_name(name: str, asset: str) -> str:
    """Registered name of an asset's novelty model; two assets never share one."""
    plain = re.sub(r"[^a-z0-9_-]", "-", asset.lower())[:ASSET_LETTERS]
    if plain != asset:
        plain += f"-{hashlib.sha256(asset.encode()).hexdigest()[:8]}"
    return f"{name}-baseline-{plain}"


def check_name(name: str) -> None:
    """Refuse a name that a card could not carry, before anything is trained."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name):
        raise InputError(
            "model-name",
            f"{name!r} cannot name a model.",
            "Use up to 40 of a-z, 0-9, - and _, a letter or digit first.",
        )


def healthy_by_asset(recordings: Sequence[Recording]) -> dict[str, list[Recording]]:
    """Healthy recordings of each asset, assets in order of appearance."""
    found: dict[str, list[Recording]] = {}
    for recording in recordings:
        if recording.fault == "normal":
            found.setdefault(recording.asset, []).append(recording)
    return found
