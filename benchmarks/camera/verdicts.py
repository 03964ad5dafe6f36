"""How far the camera worker's own way to the API moves the score of a picture that it decoded.

Run it with ``python -m benchmarks.camera.verdicts FOLDER…``, on folders of JPEGs of one size each, numbered in their
order. Three models are trained on them, eight neighbours a group, and judge the frames that they were not fitted on.
Each folder becomes an H.264 stream of high quality; what PyAV decodes from it is scored as it is, and as the worker
sends it: shrunk to 1024 pixels, converted, encoded as JPEG. The stream's own loss is in both, for it is the camera's.
Prints a JSON line.
"""

from __future__ import annotations

import argparse
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from almenara.contracts import ModelRef
from almenara.servable import Package, VisionModel
from almenara.vision import images
from almenara.vision.images import EXACT_QUALITY, MAX_PIXELS, SENT_QUALITY, Sample
from almenara.vision.shortcuts import compare
from almenara.vision.splits import training_split
from almenara.vision.train import train
from camera_worker.picture import Preparer
from camera_worker.slot import Frame
from camera_worker.view import View

_NEIGHBOURS = 8
_FALSE_ALARM_RATE = 0.05
_FRAMES_PER_SECOND = 5
_FINE = {"crf": "8", "preset": "medium"}

Look = Callable[[av.VideoFrame], NDArray[np.uint8]]
Changes = dict[str, dict[str, float | int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="one model instead of three")
    arguments = parser.parse_args()
    reels = [_numbered(folder) for folder in arguments.folders]
    print(json.dumps(changes(reels, seeds=range(1 if arguments.quick else 3))))


def changes(reels: Sequence[Sequence[Path]], *, seeds: Sequence[int]) -> Changes:
    """By way to the API, how far scores move from those of the decoded frames, as shares of the threshold.

    Args:
        reels: files of frames in their order, those of one reel of one size.
        seeds: one a model, of its split.

    Returns:
        Of each way: how many frames were judged, p50, p99, most, how many labels changed, and how many of them though
        the score was not within 2 % of the threshold.
    """
    samples = [
        Sample(file, "good", None, f"{number}-{index // _NEIGHBOURS}")
        for number, reel in enumerate(reels)
        for index, file in enumerate(reel)
    ]
    decoded = [frame for reel in reels for frame in _streamed(reel)]
    found: dict[str, list[NDArray[np.float64]]] = {}
    for seed in seeds:
        candidate = train(samples, name="frames", false_alarm_rate=_FALSE_ALARM_RATE, seed=seed)
        model = VisionModel(Package(candidate.card, candidate.graph), ModelRef(name="frames", version="1"))
        fitted = training_split(samples, _FALSE_ALARM_RATE, seed).fit
        unknown = [frame for index, frame in enumerate(decoded) if index not in fitted]
        for way, look in _ways(model).items():
            found.setdefault(way, []).append(_scores(model, look, unknown))
    scores = {way: np.concatenate(parts) for way, parts in found.items()}
    whole = scores.pop("whole")
    return {way: _told(whole, moved) for way, moved in scores.items()}


def _numbered(folder: Path) -> list[Path]:
    """The JPEGs of a folder by the last number in their names."""
    return sorted(folder.glob("*.jpg"), key=lambda path: int(re.findall(r"\d+", path.stem)[-1]))


def _scores(model: VisionModel, look: Look, frames: Sequence[av.VideoFrame]) -> NDArray[np.float64]:
    """In units of the threshold."""
    verdicts = [model.predict(look(frame)).verdict for frame in frames]
    return np.array([verdict.score / verdict.threshold for verdict in verdicts])


def _told(whole: NDArray[np.float64], moved: NDArray[np.float64]) -> dict[str, float | int]:
    change = np.abs(moved - whole)
    return {
        "frames": whole.size,
        "p50": round(float(np.quantile(change, 0.5)), 4),
        "p99": round(float(np.quantile(change, 0.99)), 4),
        "most": round(float(change.max()), 4),
        "flips": int(np.sum((moved > 1) != (whole > 1))),
        "flips_outside_band": compare(whole, moved, 1.0).flips,
    }


def _ways(model: VisionModel) -> dict[str, Look]:
    view = View()
    preparer = Preparer(view, frozen_after=None)

    def sent(quality: int) -> Look:
        def look(picture: av.VideoFrame) -> NDArray[np.uint8]:
            frame = Frame(picture, 0.0, datetime.now(UTC), 1, 1)
            return model.decode(preparer.prepare(frame, quality).jpeg, max_pixels=MAX_PIXELS)

        return look

    return {
        "whole": _converted,
        "shrunk": lambda picture: _converted(view.shrink(picture)),
        **{f"quality {quality}": sent(quality) for quality in (EXACT_QUALITY, SENT_QUALITY)},
    }


def _converted(picture: av.VideoFrame) -> NDArray[np.uint8]:
    """RGB of a decoded frame, exactly."""
    return np.asarray(cv2.cvtColor(picture.to_ndarray(), cv2.COLOR_YUV2RGB_I420), dtype=np.uint8)


def _streamed(reel: Sequence[Path]) -> Iterator[av.VideoFrame]:
    """The frames as PyAV decodes them from an H.264 stream of high quality."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="mpegts") as container:
        video = container.add_stream("libx264", rate=_FRAMES_PER_SECOND, options=_FINE)
        height, width = images.read(reel[0]).shape[:2]
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        for file in reel:
            container.mux(video.encode(av.VideoFrame.from_ndarray(images.read(file), format="rgb24")))
        container.mux(video.encode())
    stream.seek(0)
    with av.open(stream, "r") as container:
        yield from container.decode(video=0)


if __name__ == "__main__":
    main()
