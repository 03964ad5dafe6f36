"""What a camera tells of itself: its state, why it is blind, what became of its frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from almenara.alarms import Phase
from almenara.contracts import Observation, VisionVerdict
from camera_worker.ages import AgeHistogram


class CameraState(StrEnum):
    """What a person is told about a camera."""

    CONNECTING = "connecting"
    LIVE = "live"
    """Its pictures come; whether they have verdicts is detection's to tell."""
    DEGRADED = "degraded"
    """Live, but many pictures are damaged or missing."""
    FROZEN = "frozen"
    BLACK = "black"
    BLURRED = "blurred"
    OFFLINE = "offline"
    UNAUTHORISED = "unauthorised"
    PAUSED = "paused"
    """Outside its schedule, and not connected."""
    ENDED = "ended"

    @property
    def good(self) -> bool:
        """Whether nobody has to look after the camera."""
        return self in (CameraState.CONNECTING, CameraState.LIVE, CameraState.PAUSED, CameraState.ENDED)


class Blindness(StrEnum):
    """Why nothing can be scored; a change of kind is logged, a repetition is not, nor a flicker of verdicts."""

    CAMERA = "camera"
    PICTURE = "picture"
    API = "api"
    """The API is away."""
    REFUSED = "refused"
    """The API answers without a verdict."""
    VERDICT = "verdict"
    """The API's answer is no verdict."""
    ERROR = "error"
    """The frame or its verdict made this program fail."""

    @property
    def of_detection(self) -> bool:
        """Whether the camera gives pictures and the API no verdict on them."""
        return self in (Blindness.API, Blindness.REFUSED, Blindness.VERDICT)


@dataclass
class CameraCounters:
    """What became of a camera's frames."""

    scored: int = 0
    unscorable: int = 0
    malformed: int = 0
    api_failures: int = 0
    refused: int = 0
    store_failures: int = 0
    abandoned_threads: int = 0
    ages: AgeHistogram = field(default_factory=AgeHistogram)
    """Of scored frames, when they were posted."""


@dataclass(frozen=True)
class Scored:
    """A frame and its verdict.

    Attributes:
        jpeg: the picture exactly as it was sent.
        age: seconds from capture to verdict.
        posted_age: seconds from capture to the moment the request was sent.
        position: seconds into a video file; None for a live source.
    """

    camera: str
    captured_at: datetime
    jpeg: bytes
    verdict: VisionVerdict
    age: float
    posted_age: float
    position: float | None = None


class AlarmSink(Protocol):
    """Where one camera's observations go."""

    def observe(self, observation: Observation, now: float, scored: Scored | None) -> Phase:
        """Takes an observation made at `now` (monotonic) and answers with the phase that the camera is in then."""
        ...
