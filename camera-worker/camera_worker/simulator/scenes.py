"""Pictures for the simulated camera: a rendered sludge outflow with anomalies, static scenes, photographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from almenara.errors import InputError
from almenara.vision.scenes import ANOMALIES, Anomaly, Scene
from camera_worker.simulator.timecode import now_milliseconds, read_timecode, write_timecode

__all__ = [
    "SCENES_HELP",
    "AnomalySchedule",
    "PictureSource",
    "noise",
    "parse_scene",
    "photographs",
    "read_timecode",
    "sludge",
    "still",
    "timecode",
]

PictureSource = Callable[[float], NDArray[np.uint8]]
"""The picture (height, width, 3), RGB, at a time in seconds."""

SCENES_HELP = "sludge, noise, still, timecode, folder:DIR"

_NOISE_AMPLITUDE = 8  # grey levels, of a normal distribution with a third of it as standard deviation
_NOISE_SHIFTS = 64
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def parse_scene(
    scene: str, *, width: int, height: int, seed: int, anomaly_every: float, anomaly_for: float
) -> PictureSource:
    """The picture source that a name of `SCENES_HELP` stands for; InputError `scene-unknown` otherwise."""
    folder = scene.removeprefix("folder:")
    match scene:
        case "sludge":
            schedule = AnomalySchedule(anomaly_every, anomaly_for)
            return sludge(seed=seed, width=width, height=height, schedule=schedule)
        case "noise":
            return noise(seed=seed, width=width, height=height)
        case "still":
            return still(seed=seed, width=width, height=height)
        case "timecode":
            return timecode(seed=seed, width=width, height=height)
        case _ if folder not in {"", scene}:
            return photographs(Path(folder))
        case _:
            raise InputError("scene-unknown", f"'{scene}' is no scene.", f"Give one of {SCENES_HELP}.")


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


def still(*, seed: int, width: int, height: int) -> PictureSource:
    """The same picture for ever, without any noise: as from a camera whose encoder hides all that is small."""
    picture = Scene(seed, width=width, height=height).frame(0)
    return lambda _: picture


def noise(*, seed: int, width: int, height: int) -> PictureSource:
    """A scene in which nothing moves, with the noise of a sensor, new in every picture."""
    low = np.clip(Scene(seed, width=width, height=height).frame(0), _NOISE_AMPLITUDE, 255 - _NOISE_AMPLITUDE)
    low -= np.uint8(_NOISE_AMPLITUDE)
    random = np.random.default_rng((seed, 4))
    grain = random.normal(0, _NOISE_AMPLITUDE / 3, (height + _NOISE_SHIFTS, width + _NOISE_SHIFTS, 3))
    grain = np.clip(grain.round() + _NOISE_AMPLITUDE, 0, 2 * _NOISE_AMPLITUDE).astype(np.uint8)

    def picture(_: float) -> NDArray[np.uint8]:
        y, x = random.integers(0, _NOISE_SHIFTS, 2)
        return np.asarray(cv2.add(low, grain[y : y + height, x : x + width]), dtype=np.uint8)

    return picture


def timecode(*, seed: int, width: int, height: int) -> PictureSource:
    """As `noise`, with the machine's monotonic time in milliseconds drawn into its top (`read_timecode`)."""
    background = noise(seed=seed, width=width, height=height)

    def picture(t: float) -> NDArray[np.uint8]:
        drawn = background(t)
        write_timecode(drawn, now_milliseconds())
        return drawn

    return picture


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
