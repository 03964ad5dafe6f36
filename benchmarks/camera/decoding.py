"""The baseline of the cost: the same stream, taken apart and decoded as the worker does it, and nothing else.

Run as a process: ``python -m benchmarks.camera.decoding URL [--keyframes]``; says ``decoding`` at the first picture
and goes on until it is ended.
"""

from __future__ import annotations

import argparse

import av

_OPTIONS = {"rtsp_transport": "tcp", "allowed_media_types": "video", "analyzeduration": "0", "probesize": "32768"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--keyframes", action="store_true")
    arguments = parser.parse_args()
    with av.open(arguments.url, options=dict(_OPTIONS), timeout=(3, 3)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        seen = 0
        for packet in container.demux(stream):
            if arguments.keyframes and not packet.is_keyframe:
                continue
            seen += len(packet.decode())
            if seen == 1:
                print("decoding", flush=True)


if __name__ == "__main__":
    main()
