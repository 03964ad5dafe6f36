"""The baseline of the cost: the same streams, taken apart and decoded as the worker does it, and nothing else.

Run as a process: ``python -m benchmarks.camera.decoding URL COUNT [--keyframes]``; reads the stream COUNT times, each
in a thread, says ``decoding`` at the last one's first picture, then twice a second the time (monotonic) and how many
pictures were decoded so far, and goes on until it is ended.
"""

from __future__ import annotations

import argparse
import threading
import time

import av

_OPTIONS = {"rtsp_transport": "tcp", "allowed_media_types": "video", "analyzeduration": "0", "probesize": "32768"}
_REPORT_SECONDS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    parser.add_argument("--keyframes", action="store_true")
    arguments = parser.parse_args()
    began = threading.Barrier(arguments.count, action=lambda: print("decoding", flush=True))
    seen = [0] * arguments.count
    readers = [
        threading.Thread(target=_decode, args=(arguments.url, began, seen, number, arguments.keyframes))
        for number in range(arguments.count)
    ]
    for reader in readers:
        reader.start()
    while all(reader.is_alive() for reader in readers):
        if all(seen):
            print(time.monotonic(), sum(seen), flush=True)
        time.sleep(_REPORT_SECONDS)


def _decode(url: str, began: threading.Barrier, seen: list[int], number: int, keyframes: bool) -> None:
    with av.open(url, options=dict(_OPTIONS), timeout=(3, 3)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            if keyframes and not packet.is_keyframe:
                continue
            first = not seen[number]
            seen[number] += len(packet.decode())
            if first and seen[number]:
                began.wait()


if __name__ == "__main__":
    main()
