"""H.264 for the simulated camera: pictures to NAL units (libx264), those to RTP packets (RFC 6184)."""

from __future__ import annotations

import random
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
from numpy.typing import NDArray

RTP_CLOCK_HZ = 90_000
RTP_HEADER_BYTES = 12
_PAYLOAD_TYPE = 96
_MOST_PAYLOAD_BYTES = 1400
_FRAGMENTATION_UNIT_A = 28
_IDR, _SPS, _PPS = 5, 7, 8


class H264Encoder:
    """Encodes pictures of one size without delay; every key frame carries its parameter sets.

    Args:
        width, height: pixels, even.
        fps: pictures a second.
        keyframe_interval: pictures from one key frame to the next.
        thorough: whether to encode as cameras' hardware does (High profile: CABAC, deblocking), at four times the cost
            here and for whoever decodes, instead of as fast as possible (Baseline).
        bit_rate: bits a second.
    """

    def __init__(
        self,
        width: int,
        height: int,
        fps: int,
        *,
        keyframe_interval: int,
        thorough: bool = False,
        bit_rate: int = 4_000_000,
    ) -> None:
        self._context = av.VideoCodecContext.create("libx264", "w")
        self._context.width, self._context.height = width, height
        self._context.pix_fmt = "yuv420p"
        self._context.time_base = Fraction(1, fps)
        self._context.framerate = Fraction(fps, 1)
        self._context.bit_rate = bit_rate
        self._context.gop_size = keyframe_interval
        self._context.thread_count = 1
        self._context.options = {
            "forced-idr": "1",
            "preset": "superfast" if thorough else "ultrafast",
            "tune": "zerolatency",
            "x264-params": f"keyint={keyframe_interval}:scenecut=0:annexb=1:repeat-headers=1",
        }
        self.width, self.height = width, height
        self._count = 0

    def encode(self, picture: NDArray[np.uint8], *, key_frame: bool = False) -> list[bytes]:
        """NAL units, without start codes, of an RGB picture (height, width, 3) of any size."""
        if picture.shape[:2] != (self.height, self.width):
            size = (self.width, self.height)
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = self._count
        self._count += 1
        if key_frame:
            frame.pict_type = av.video.frame.PictureType.I
        return split_nal_units(b"".join(bytes(packet) for packet in self._context.encode(frame)))


def split_nal_units(annex_b: bytes) -> list[bytes]:
    """The NAL units of an Annex B byte stream, in order, without start codes."""
    units = annex_b.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [unit for unit in units if unit]


def parameter_sets(units: list[bytes]) -> tuple[bytes, bytes]:
    """The sequence and picture parameter sets of a key frame's NAL units."""
    by_kind = {unit[0] & 31: unit for unit in units}
    return by_kind[_SPS], by_kind[_PPS]


def is_key_frame(units: list[bytes]) -> bool:
    return any(unit[0] & 31 == _IDR for unit in units)


class RtpPacketizer:
    """Numbers and cuts the NAL units of one receiver's stream into RTP packets."""

    def __init__(self) -> None:
        self._sequence = random.randrange(1 << 16)  # noqa: S311 - RFC 3550 asks for a random start, not a secret
        self._source = random.randrange(1 << 32)  # noqa: S311

    def packets(self, units: list[bytes], timestamp: int) -> list[bytes]:
        """RTP packets of one picture; `timestamp` in ticks of the 90 kHz clock."""
        payloads = [payload for unit in units for payload in _payloads(unit)]
        last = len(payloads) - 1
        return [self._packet(payload, timestamp, marker=index == last) for index, payload in enumerate(payloads)]

    def _packet(self, payload: bytes, timestamp: int, *, marker: bool) -> bytes:
        self._sequence = (self._sequence + 1) & 0xFFFF
        kind = _PAYLOAD_TYPE | (0x80 if marker else 0)
        return struct.pack(">BBHII", 0x80, kind, self._sequence, timestamp & 0xFFFFFFFF, self._source) + payload


def _payloads(unit: bytes) -> list[bytes]:
    """A NAL unit as it is, or as fragmentation units (FU-A) when it is longer than a packet."""
    if len(unit) <= _MOST_PAYLOAD_BYTES:
        return [unit]
    indicator, kind = (unit[0] & 0xE0) | _FRAGMENTATION_UNIT_A, unit[0] & 31
    room = _MOST_PAYLOAD_BYTES - 2
    starts = range(1, len(unit), room)
    return [
        bytes([indicator, kind | (0x80 if start == 1 else 0) | (0x40 if start + room >= len(unit) else 0)])
        + unit[start : start + room]
        for start in starts
    ]
