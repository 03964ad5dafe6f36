"""The truth about corrupt pictures: a reader beside the worker that notes which pictures came sound.

Run as a process: ``python -m benchmarks.camera.reference URL``; says one line a decoded picture, its time code (or
``none``) and ``sound`` or ``flagged``, and goes on until it is ended. Flagged is what FFmpeg's decoder
says is damaged. The simulated camera damages the same packets in the same way for all who watch.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

import av
import numpy as np

from camera_worker.simulator.scenes import read_timecode

_OPTIONS = {"rtsp_transport": "tcp", "allowed_media_types": "video", "analyzeduration": "0", "probesize": "32768"}


def wrongly_posted(records: Iterable[dict[str, Any]], lines: Sequence[str]) -> int:
    """How many posted pictures the reference did not see sound.

    A picture is known by its time code. Of those that cannot be told by it, as many are right as the reference saw
    sound without one: the decoder did not notice their damage.
    """
    seen = [line.split() for line in lines]
    codes = [int(code) for code, _ in seen if code != "none"]
    if not codes:
        raise RuntimeError("the reference reader saw no time code")
    sound = {code for code, word in seen if word == "sound" and code != "none"}
    nameless = sum(code == "none" and word == "sound" for code, word in seen)
    posted: list[int | None] = [record["timecode"] for record in records]
    wrong = sum(code is not None and codes[0] <= code <= codes[-1] and str(code) not in sound for code in posted)
    return wrong + max(0, posted.count(None) - nameless)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    with av.open(parser.parse_args().url, options=dict(_OPTIONS), timeout=(3, 3)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            for frame in _decoded(packet):
                code = read_timecode(np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8))
                flagged = frame.is_corrupt or packet.is_corrupt
                print("none" if code is None else code, "flagged" if flagged else "sound", flush=True)


def _decoded(packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame]:
    try:
        return packet.decode()
    except (av.FFmpegError, ValueError):
        return []


if __name__ == "__main__":
    main()
