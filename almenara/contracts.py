"""What travels between the parts: the model card, the candidate for registration, verdicts and observations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Task = Literal["vision", "vibration"]
AlarmKind = Literal["vision", "vibration", "system"]
"""What an alarm is about: a model's verdict, or the platform itself (a blind camera, the API away)."""
Role = Literal["anomaly", "classifier", "novelty"]
Machine = Literal["group1-rigid", "group1-flexible", "group2-rigid", "group2-flexible"]
"""Groups of ISO 20816-3 (1: over 300 kW, 2: 15 to 300 kW) and what the machine stands on."""
Zone = Literal["A", "B", "C", "D"]

Progress = Callable[[str, int, int], None]
"""Told by long work how far it is: (stage, done, total)."""


class Contract(BaseModel):
    """Base of everything that crosses a border: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# --- the model card ---------------------------------------------------------------------------------------


class Shortcut(Contract):
    """Whether a cheaper way to the score leads to the same verdict; measured on pictures that were not fitted on."""

    allowed: bool
    pictures: int = Field(ge=0, description="JPEG files that were judged both ways")
    p50: float | None = Field(default=None, ge=0, description="of the score's change, in units of the threshold")
    p99: float | None = Field(default=None, ge=0, description="of the score's change, in units of the threshold")
    flips: int = Field(default=0, ge=0, description="labels that changed though not within 2 % of the threshold")
    divisor: int = Field(
        default=2, ge=2, le=8, description="of reduced decoding: by how much enough files were reduced"
    )
    reason: str


class ImageInput(Contract):
    """How a picture becomes the graph's input: preprocessing ``image-input/1``, uint8 RGB, NHWC."""

    kind: Literal["image"] = "image"
    preprocessing: Literal["image-input/1"] = "image-input/1"
    height: int = Field(gt=0, le=2048, description="pixels of the graph's input")
    width: int = Field(gt=0, le=2048, description="pixels of the graph's input")
    reduced_decoding: Shortcut | None = Field(
        default=None, description="decoding large JPEGs at reduced scale; null: never measured, and not done"
    )
    reencoding: Shortcut | None = Field(
        default=None, description="pictures shrunk and encoded again by the camera worker; null: never measured"
    )


class BearingFeaturesInput(Contract):
    """How a vibration window becomes the graph's input: preprocessing ``bearing-features/1``, float32 rows."""

    kind: Literal["bearing-features"] = "bearing-features"
    preprocessing: Literal["bearing-features/1"] = "bearing-features/1"
    sampling_rate_hz: float = Field(gt=0, description="canonical rate that windows are resampled to")
    window_seconds: float = Field(gt=0)
    hop_seconds: float = Field(gt=0)
    groups: tuple[str, ...] = Field(min_length=1, description="feature groups: time, spectrum, envelope")
    needs_rpm: bool
    feature_names: tuple[str, ...] = Field(min_length=1, description="columns of the graph's input, in order")
    schema_hash: str = Field(description="SHA-256 of preprocessing, parameters and feature names")
    unit: str | None = Field(
        default=None, description="that level features were learned in; null without them or when nobody said it"
    )


class Threshold(Contract):
    """A decision threshold on the raw score and the false-alarm rate it was calibrated for."""

    value: float
    false_alarm_rate: float = Field(gt=0, lt=1, description="promised rate per frame or window of a new group")
    promise: Literal["held", "unverified"] = Field(description="held: enough calibration groups for the rate")
    calibration_size: int = Field(gt=0, description="frames or windows")
    groups: int = Field(gt=0, description="calibration groups there were")
    groups_needed: int = Field(gt=0, description="calibration groups that the promise needs: 1/rate - 1")
    interval: tuple[float, float] = Field(description="95 % group-bootstrap interval of the realised rate")
    assumption: str = Field(description="what must be exchangeable for the promise to hold")
    calibrated_at: datetime


class Card(Contract):
    """``card.json``: everything about a model that is not in its graph."""

    contract: Literal["almenara-card/1"] = "almenara-card/1"
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,79}$", description="registered model name")
    task: Task
    role: Role
    method: str = Field(description="padim, random-forest, mahalanobis, …")
    asset: str | None = Field(default=None, description="the one asset that a novelty model was commissioned for")
    input: Annotated[ImageInput | BearingFeaturesInput, Field(discriminator="kind")]
    labels: tuple[str, ...] = Field(min_length=2)
    abstain_below: float | None = Field(default=None, ge=0, le=1, description="classifier: least top probability")
    threshold: Threshold | None = None
    calibration_scores: tuple[float, ...] = Field(default=(), description="sorted raw scores of held-out normals")
    display_range: tuple[float, float] | None = Field(default=None, description="heatmap: dark at and below, full at")
    region_of_interest: tuple[tuple[float, float], ...] | None = Field(
        default=None, description="polygon in relative coordinates (x, y), 0 to 1; outside it nothing counts"
    )
    training_data: dict[str, Any] = Field(description="fingerprint, counts and origin of the training data")
    metrics: dict[str, dict[str, float]] = Field(default={}, description="protocol -> metric -> value")
    libraries: dict[str, str] = Field(default={}, description="library -> version it was trained with")
    created_at: datetime


@dataclass(frozen=True)
class Candidate:
    """A trained model on its way to the registry, with what the export gates need.

    Attributes:
        card: the model card.
        graph: the serialised ONNX model; exactly one input.
        probes: at least 64 graph inputs (uint8 NHWC for images, float32 rows for features).
        reference: graph output name -> float64 values for ``probes``, computed without the exporter.
        scales: graph output name -> s0, the tolerance's floor (IQR of calibration scores, .01 for probabilities).
        parameters: what the training was told.
        figures: file name -> PNG bytes.
    """

    card: Card
    graph: bytes
    probes: NDArray[Any]
    reference: Mapping[str, NDArray[np.float64]]
    scales: Mapping[str, float]
    parameters: Mapping[str, str | int | float] = field(default_factory=dict)
    figures: Mapping[str, bytes] = field(default_factory=dict)


# --- verdicts ---------------------------------------------------------------------------------------------


class ModelRef(Contract):
    """Which registered model version said it."""

    name: str
    version: str
    alias: str | None = None


class Region(Contract):
    """A connected part of a picture above the threshold, in relative coordinates."""

    x: float = Field(ge=0, le=1)
    y: float = Field(ge=0, le=1)
    width: float = Field(ge=0, le=1)
    height: float = Field(ge=0, le=1)
    score: float


class Picture(Contract):
    """A picture inside a JSON answer."""

    media_type: Literal["image/png", "image/jpeg"]
    base64: str


class VisionVerdict(Contract):
    """What a vision model says of one picture."""

    task: Literal["vision"] = "vision"
    model: ModelRef
    label: str
    score: float = Field(description="raw score, in the model's own units")
    anomaly: float = Field(ge=0, le=1, description="monotone in the score; .5 at the card's threshold")
    p_value: float = Field(gt=0, le=1, description="conformal: how rare such a score is among held-out normals")
    threshold: float
    regions: tuple[Region, ...] = ()
    heatmap: Picture | None = Field(default=None, description="only when asked for: ?heatmap=png|overlay")


class Novelty(Contract):
    """What an asset's commissioning baseline says of its windows; this decides the alarm."""

    model: ModelRef
    label: Literal["normal", "anomaly"]
    score: float
    anomaly: float = Field(ge=0, le=1)
    p_value: float = Field(gt=0, le=1)
    threshold: float
    quality: tuple[str, ...] = Field(
        default=(), description="flags, as of the verdict; unit_assumed: taken to be in the baseline's unit unsaid"
    )


class Peak(Contract):
    """A line of an envelope spectrum beside the fault frequency it was looked for at."""

    band: str = Field(description="demodulation band")
    name: str = Field(description="BPFI, BPFO, 2xBSF, FTF, 1x or 2x")
    harmonic: int = Field(ge=1)
    order: float = Field(description="multiples of the shaft frequency")
    frequency_hz: float
    snr_db: float = Field(description="over the median of the envelope spectrum")
    matched: bool


class Severity(Contract):
    """How strongly the housing vibrates, as ISO 20816 measures it; it names no fault."""

    velocity_rms_mm_s: float = Field(ge=0, description="broadband velocity, mm/s r.m.s., about the mean")
    from_hz: float = Field(description="where the band begins: 10, and 2 of a shaft below 600 revolutions a minute")
    to_hz: float = Field(description="where the band ends: 1000")
    machine: Machine | None = Field(default=None, description="that the zone is for, as it was posted")
    zone: Zone | None = Field(
        default=None, description="ISO 20816-3, by velocity; null without a machine: see severity_reason"
    )


class VibrationVerdict(Contract):
    """What the vibration models say of a window, or of a recording pooled over its windows."""

    task: Literal["vibration"] = "vibration"
    model: ModelRef
    label: str = Field(description="most probable label, or `unknown` when the model abstains")
    probabilities: dict[str, float]
    abstained: bool
    novelty: Novelty | None = Field(default=None, description="null without a commissioned baseline of the asset")
    evidence: tuple[Peak, ...] = ()
    quality: tuple[str, ...] = Field(default=(), description="flags: low_resolution, clipped, no_rpm, no_baseline, …")
    windows: int = Field(ge=1)
    rms: float = Field(description="of the window, in the unit that was posted")
    unit: str | None = None
    severity: Severity | None = Field(default=None, description="null without a unit, and where the band is not seen")
    severity_reason: str | None = Field(default=None, description="why the severity or its zone is null")
    reason: str = Field(description="one sentence for a person")


class Reading(Contract):
    """A verdict on an asset, as its trend keeps it."""

    id: int
    asset: str
    channel: str | None = Field(description="of the sensor, null where none was named")
    record_id: str | None = Field(description="the client's own id of the recording")
    measured_at: AwareDatetime = Field(description="end of the window; when it arrived, if nobody said it")
    received_at: AwareDatetime
    late: bool = Field(description="newer windows had been judged: it changed no alarm")
    model: ModelRef
    label: str
    probability: float = Field(description="of the most probable label")
    novelty: Novelty | None = Field(description="null without a commissioned baseline")
    rms: float = Field(description="in the unit; of unknown size where the unit is null")
    unit: str | None
    snr_db: dict[str, float] = Field(description="of each fault frequency's line, over the envelope spectrum's median")
    windows: int
    quality: tuple[str, ...]


# --- from verdict to alarm --------------------------------------------------------------------------------


class Observation(Contract):
    """One verdict about one source, as the alarm engine takes it."""

    source: str = Field(min_length=1, max_length=200, description="camera or asset")
    kind: AlarmKind
    anomaly: float | None = Field(default=None, ge=0, le=1, description="null: nothing could be scored")
    reason: str = ""
    model: ModelRef | None = None
    observed_at: datetime
