"""Where the simulated camera's pictures are drawn, disturbed and encoded: once, for all who watch."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from camera_worker.simulator.encoder import H264Encoder, is_key_frame, parameter_sets
from camera_worker.simulator.faults import FaultKind, FaultSwitch
from camera_worker.simulator.scenes import PictureSource

_JPEG_QUALITY = 85
_BLUR = 24
"""How many pixels become one when the picture is out of focus."""
_PICTURE_FAULTS = {FaultKind.FREEZE, FaultKind.BLACK, FaultKind.BLUR}


@dataclass(frozen=True)
class Shot:
    """One picture, encoded for those who want it.

    Attributes:
        units: H.264 NAL units without start codes; empty when nobody watches over RTSP.
        jpeg: None when nobody watches over HTTP.
    """

    units: list[bytes]
    jpeg: bytes | None


@dataclass
class _Stream:
    """What belongs to one size of the picture: the encoder, and the loop that it encoded."""

    encoder: H264Encoder
    parameter_sets: tuple[bytes, bytes]
    loop: list[list[bytes]] = field(default_factory=list)
    position: int = 0


class Studio:
    """Draws and encodes; `shoot` may run in a thread, one call at a time.

    Args:
        pictures: the picture at a time in seconds, RGB, any size (it is resized).
        width, height: of the stream, pixels, even.
        fps: frames per second.
        keyframe_interval: seconds from one key frame to the next.
        loop: seconds that are encoded once, as thoroughly as a camera does, and then sent over and over, so that a
            camera costs next to nothing; None to encode every picture. Pictures of a fault, and those for HTTP, are
            encoded in any case.
        faults: asked which picture faults are on.
    """

    def __init__(
        self,
        pictures: PictureSource,
        *,
        width: int,
        height: int,
        fps: int,
        keyframe_interval: float,
        loop: float | None,
        faults: FaultSwitch,
    ) -> None:
        self._pictures, self._faults, self._fps = pictures, faults, fps
        self._keyframe_interval = max(1, round(keyframe_interval * fps))
        self._loop_length = 0 if loop is None else max(1, round(loop * fps))
        self._last: NDArray[np.uint8] | None = None
        self._frozen: NDArray[np.uint8] | None = None
        self._in_loop = False
        self._stream = self._new_stream(width, height)

    @property
    def parameter_sets(self) -> tuple[bytes, bytes]:
        """Sequence and picture parameter sets of the stream as it is."""
        return self._stream.parameter_sets

    def resize(self, width: int, height: int) -> None:
        """The next picture is a key frame of that size (pixels, even)."""
        self._stream = self._new_stream(width, height)

    def prepare(self) -> None:
        """Encodes the loop, if there is one; `shoot` does it otherwise, and takes its time."""
        self._fill_loop(self._stream)

    def shoot(self, t: float, *, video: bool, jpeg: bool, key_frame: bool) -> Shot:
        """The picture of time `t` (seconds), as video, as JPEG or both; as a key frame if so wished."""
        stream = self._stream
        disturbed = self._faults.fault.kind in _PICTURE_FAULTS
        if self._loop_length and video and not disturbed:
            self._fill_loop(stream)
            units = self._from_loop(stream, key_frame=key_frame or not self._in_loop)
            self._in_loop = True
            return Shot(units, _jpeg(self._picture(t), stream.encoder) if jpeg else None)
        key_frame, self._in_loop = key_frame or self._in_loop, False
        picture = self._picture(t)
        units = stream.encoder.encode(picture, key_frame=key_frame) if video else []
        return Shot(units, _jpeg(picture, stream.encoder) if jpeg else None)

    def _picture(self, t: float) -> NDArray[np.uint8]:
        """As drawn, or as the fault of the moment leaves it."""
        if self._faults.on(FaultKind.FREEZE):
            if self._frozen is None:
                self._frozen = self._pictures(t) if self._last is None else self._last
            return self._frozen
        self._frozen = None
        self._last = picture = self._pictures(t)
        if self._faults.on(FaultKind.BLACK):
            return np.zeros_like(picture)
        return _blurred(picture) if self._faults.on(FaultKind.BLUR) else picture

    def _fill_loop(self, stream: _Stream) -> None:
        missing = range(len(stream.loop), self._loop_length)
        stream.loop += [
            stream.encoder.encode(self._pictures(number / self._fps), key_frame=number == 0) for number in missing
        ]

    def _from_loop(self, stream: _Stream, *, key_frame: bool) -> list[bytes]:
        """The loop's next picture; its next key frame if so wished, what lies before it is left out."""
        while key_frame and not is_key_frame(stream.loop[stream.position]):
            stream.position = (stream.position + 1) % self._loop_length
        units = stream.loop[stream.position]
        stream.position = (stream.position + 1) % self._loop_length
        return units

    def _new_stream(self, width: int, height: int) -> _Stream:
        black = np.zeros((height, width, 3), np.uint8)
        sets = parameter_sets(self._new_encoder(width, height).encode(black, key_frame=True))
        return _Stream(self._new_encoder(width, height), sets)

    def _new_encoder(self, width: int, height: int) -> H264Encoder:
        return H264Encoder(
            width, height, self._fps, keyframe_interval=self._keyframe_interval, thorough=self._loop_length > 0
        )


def _jpeg(picture: NDArray[np.uint8], encoder: H264Encoder) -> bytes:
    size = (encoder.width, encoder.height)
    if picture.shape[1::-1] != size:
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    _, body = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return body.tobytes()


def _blurred(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    size = (max(1, width // _BLUR), max(1, height // _BLUR))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
