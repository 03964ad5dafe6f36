"""The peer: the read loop of OpenCV's tutorials, each frame in its turn, behind a model that takes its time.

Run as a process: ``python -m benchmarks.camera.naive URL --model SECONDS --seconds SECONDS`` prints the age in seconds
of each picture at the moment it would be posted, one a line. OpenCV stays as its documentation has it; only the
transport is set to TCP, as for the worker.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

from camera_worker.simulator.scenes import read_timecode


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--model", type=float, required=True, help="seconds that a verdict takes")
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "rtsp_transport;tcp"
    import cv2

    capture = cv2.VideoCapture(arguments.url)
    end = time.monotonic() + arguments.seconds
    while time.monotonic() < end:
        there, picture = capture.read()
        if not there:
            break
        shown = read_timecode(np.asarray(picture[:, :, ::-1], dtype=np.uint8))
        if shown is not None:
            print(f"{time.monotonic() - shown / 1e3:.4f}", flush=True)
        time.sleep(arguments.model)
    capture.release()
    print("end", flush=True)


if __name__ == "__main__":
    main()
