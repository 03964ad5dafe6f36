"""Pictures for the simulated camera: a rendered sludge outflow with anomalies, or a folder's photographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from almenara.errors import InputError
from almenara.vision.scenes import ANOMALIES, Anomaly, Scene

PictureSource = Callable[[float], NDArray[np.uint8]]
"""The picture (height, width, 3), RGB, at a time in seconds."""

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def parse_scene(
    scene: str, *, width: int, height: int, seed: int, anomaly_every: float, anomaly_for: float
) -> PictureSource:
    """The picture source that ``sludge`` or ``folder:DIR`` names; InputError `scene-unknown` otherwise."""
    if scene == "sludge":
        schedule = AnomalySchedule(anomaly_every, anomaly_for)
        return sludge(seed=seed, width=width, height=height, schedule=schedule)
    kind, _, folder = scene.partition(":")
    if kind == "folder" and folder:
        return photographs(Path(folder))
    raise InputError("scene-unknown", f"'{scene}' is no scene.", "Say --scene sludge or --scene folder:DIR.")


class AnomalySchedule:
    """Which anomaly is shown when: every `every` seconds for `lasting` seconds, the three kinds in turn.

    Args:
        every: seconds from one beginning to the next, and before the first; 0 means never.
        lasting: seconds that each lasts, at most `every`.
    """

    def __init__(self, every: float, lasting: float) -> None:
        if every < 0 or lasting < 0 or (every and lasting > every):
            raise InputError(
                "anomaly-schedule",
                f"Anomalies of {lasting:g} s every {every:g} s cannot be shown.",
                "Give positive seconds, and --anomaly-for no longer than --anomaly-every.",
            )
        self._every, self._lasting = every, lasting

    def __call__(self, t: float) -> Anomaly | None:
        if not self._every or not self._lasting:
            return None
        turn, since = divmod(t, self._every)
        if turn < 1 or since >= self._lasting:
            return None
        return ANOMALIES[int(turn - 1) % len(ANOMALIES)]


def sludge(*, seed: int, width: int, height: int, schedule: AnomalySchedule) -> PictureSource:
    """A rendered sludge outflow under a fixed camera, with the schedule's anomalies in it."""
    scene = Scene(seed, width=width, height=height)
    return lambda t: scene.frame(t, anomaly=schedule(t))


def photographs(folder: Path, *, seconds_each: float = 0.5) -> PictureSource:
    """The pictures of a folder in the order of their names, over and over.

    A PNG whose name extends that of a photograph beside it (``a.jpg``, ``a_mask.png``) is taken for its mask
    and left out. InputError `folder-empty` when there is none, `image-corrupt` when one cannot be read.
    """
    files = _photographs(folder)
    if not files:
        raise InputError("folder-empty", f"{folder} holds no picture.", "Name a folder with JPEG or PNG files.")
    shown: tuple[int, NDArray[np.uint8]] | None = None

    def picture(t: float) -> NDArray[np.uint8]:
        nonlocal shown
        index = int(t / seconds_each) % len(files)
        if shown is None or shown[0] != index:
            shown = (index, _read(files[index]))
        return shown[1]

    return picture


def _photographs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError("folder-absent", f"{folder} is no folder.", "Name a folder with JPEG or PNG files.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    photographed = [f"{path.stem}_" for path in files if path.suffix.lower() != ".png"]
    return [path for path in files if path.suffix.lower() != ".png" or not _extends(path.stem, photographed)]


def _extends(stem: str, prefixes: list[str]) -> bool:
    return any(stem.startswith(prefix) for prefix in prefixes)


def _read(path: Path) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise InputError("image-corrupt", f"{path} cannot be read as a picture.", "Remove it from the folder.")
    return image.astype(np.uint8, copy=False)
