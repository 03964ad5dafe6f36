"""Rendered sludge outflow under a fixed camera, for training, the simulated camera and tests; NumPy and OpenCV only."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from almenara.contracts import Progress
from almenara.vision.images import GROUND_TRUTH, MANIFEST, encode_jpeg, encode_png
from almenara.vision.objects import draw_clump, draw_crack, draw_foreign_object
from almenara.vision.textures import concrete, layered_noise, sludge_colours

Anomaly = Literal["crack", "clump", "foreign_object"]
ANOMALIES: tuple[Anomaly, ...] = get_args(Anomaly)

LIGHT_PERIOD_SECONDS = 240.0
EPISODE_SECONDS = 30.0
"""An anomaly keeps its place and shape for so long, then another one follows."""

_HORIZON, _LIP = 0.30, 0.87  # relative heights of the far shore and of the weir's edge
_FAR_LEFT, _FAR_RIGHT = 0.13, 0.87  # relative positions of the side walls at the far shore
_TEXTURE = 1024
_SENSOR_NOISE = 2.5  # standard deviation in grey levels


@dataclass(frozen=True)
class Rendering:
    """A frame and where its anomaly is.

    Attributes:
        image: uint8 RGB, shape (height, width, 3).
        mask: bool, shape (height, width); all False without an anomaly.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


class Scene:
    """One camera's view: everything that does not move is drawn once, from the seed.

    Args:
        seed: of the surroundings and of everything that happens; the same seed is the same place.
        width: of the frames, pixels.
        height: of the frames, pixels.
    """

    def __init__(self, seed: int, width: int = 640, height: int = 480) -> None:
        self.seed, self.width, self.height = seed, width, height
        rng = np.random.default_rng((seed, 0))
        self._top, self._bottom = round(_HORIZON * height), round(_LIP * height)
        self._surroundings = self._draw_surroundings(rng)
        self._ripples = layered_noise(rng, _TEXTURE, coarsest=8, finest=256)
        self._foam = layered_noise(rng, _TEXTURE, coarsest=8, finest=256)
        self._colours = sludge_colours()
        self._u, self._v = self._surface_coordinates()
        self._opacity = self._surface_opacity()
        self._noise = rng.normal(0, _SENSOR_NOISE, (height + 64, width + 64, 3)).astype(np.float32)
        self._light_phase = float(rng.uniform(0, 2 * math.pi))

    def frame(self, t: float, anomaly: Anomaly | None = None, light: float | None = None) -> NDArray[np.uint8]:
        """The picture at a time; the same (seed, t) gives the same picture.

        Args:
            t: seconds.
            anomaly: what is wrong at that time, if anything.
            light: 0 (dusk) to 1 (noon); changes slowly with t when left out.

        Returns:
            uint8 RGB, shape (height, width, 3).
        """
        return self.render(t, anomaly, light).image

    def render(self, t: float, anomaly: Anomaly | None = None, light: float | None = None) -> Rendering:
        """Like `frame`, with the anomaly's ground truth."""
        canvas = self._surroundings.copy()
        surface = canvas[self._top : self._bottom]
        surface += self._opacity * (self._sludge(t) - surface)
        mask = self._draw_anomaly(canvas, t, anomaly)
        canvas *= self._illumination(self._light(t) if light is None else light, t)
        rng = np.random.default_rng((self.seed, 1, round(abs(t) * 1000)))
        y, x = rng.integers(0, 64, 2)
        canvas += self._noise[y : y + self.height, x : x + self.width]
        return Rendering(np.asarray(np.clip(canvas, 0, 255), dtype=np.uint8), mask)

    def _light(self, t: float) -> float:
        return 0.5 + 0.45 * math.sin(2 * math.pi * t / LIGHT_PERIOD_SECONDS + self._light_phase)

    def _illumination(self, light: float, t: float) -> NDArray[np.float32]:
        """Gain of every pixel: a broad gradient whose bright side wanders with the light, warmer when it is low."""
        x = np.linspace(-1, 1, 17, dtype=np.float32)
        y = np.linspace(-1, 1, 13, dtype=np.float32)[:, None]
        tilt = 0.16 * (light - 0.5) + 0.02 * math.sin(t / 7)
        level = (0.68 + 0.42 * light) * (1 + tilt * x - 0.06 * y)
        warmth = np.array([1.04 - 0.05 * light, 1.0, 0.93 + 0.08 * light], dtype=np.float32)
        gain = cv2.resize(level[..., None] * warmth, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(gain, dtype=np.float32)

    def _draw_surroundings(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Concrete walls, the waterline's stain, and the weir's steel plate with its bolts."""
        width, height = self.width, self.height
        canvas = concrete(rng, width, height)
        left, right = round(_FAR_LEFT * width), round(_FAR_RIGHT * width)
        sides = np.zeros((height, width), dtype=np.uint8)
        for wall in (
            [(0, 0), (left, 0), (left, self._top), (0, self._bottom)],
            [(width, 0), (right, 0), (right, self._top), (width, self._bottom)],
        ):
            cv2.fillPoly(sides, [np.array(wall, dtype=np.int32)], 255)
        canvas *= (1 - 0.22 * cv2.GaussianBlur(sides, (0, 0), 1.5).astype(np.float32) / 255)[..., None]
        for x in (left, right):
            cv2.line(canvas, (x, 0), (x, self._top), (70.0, 66.0, 60.0), max(1, width // 320), cv2.LINE_AA)
        depth = np.clip((np.arange(height) - 0.72 * self._top) / (0.28 * self._top), 0, 1).astype(np.float32)
        canvas *= (1 - 0.45 * depth**2)[:, None, None]
        for seam in rng.uniform(0.3, 0.7, 2) * width:
            cv2.line(canvas, (round(seam), 0), (round(seam), self._top), (105.0, 100.0, 92.0), 1, cv2.LINE_AA)
        self._draw_weir(canvas, rng)
        return canvas

    def _draw_weir(self, canvas: NDArray[np.float32], rng: np.random.Generator) -> None:
        width, height = self.width, self.height
        plate = canvas[self._bottom :]
        brushed = cv2.GaussianBlur(rng.normal(0, 22, plate.shape[:2]).astype(np.float32), (0, 0), 12, sigmaY=0.6)
        shade = np.linspace(150, 96, len(plate), dtype=np.float32)[:, None]
        plate[:] = (shade + 4 * brushed)[..., None] * np.array([0.98, 1.0, 1.03], dtype=np.float32)
        edge = max(2, height // 120)
        canvas[self._bottom : self._bottom + edge] = (205, 208, 210)
        canvas[self._bottom + edge : self._bottom + 2 * edge] *= 0.55
        for x in np.linspace(0.08, 0.92, 8) * width:
            centre = (round(x), round((height + self._bottom) / 2 + edge))
            cv2.circle(canvas, centre, max(2, width // 90), (62.0, 62.0, 62.0), -1, cv2.LINE_AA)
            cv2.circle(canvas, centre, max(1, width // 130), (138.0, 140.0, 142.0), -1, cv2.LINE_AA)

    def _surface_coordinates(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Texture coordinates (across, along) of the surface's pixels, in perspective."""
        nearness = self._nearness()[:, None]
        across = (np.arange(self.width, dtype=np.float32)[None] / self.width - 0.5) / nearness
        along = np.broadcast_to(-1.0 / nearness, across.shape)
        return (across * 0.75 * _TEXTURE).astype(np.float32), (along * 0.9 * _TEXTURE).astype(np.float32)

    def _nearness(self) -> NDArray[np.float32]:
        """Scale of things on each row of the surface: 1 at the weir, less towards the far shore."""
        far = _FAR_RIGHT - _FAR_LEFT
        return np.linspace(far, 1, self._bottom - self._top, dtype=np.float32)

    def _surface_opacity(self) -> NDArray[np.float32]:
        """1 on the sludge, 0 on the walls, soft at the shore; shape (rows, width, 1)."""
        rows = self._bottom - self._top
        mask = np.zeros((rows, self.width), dtype=np.uint8)
        left, right = round(_FAR_LEFT * self.width), round(_FAR_RIGHT * self.width)
        shore = np.array([(left, 0), (right, 0), (self.width, rows), (0, rows)], dtype=np.int32)
        cv2.fillPoly(mask, [shore], 255, cv2.LINE_AA)
        soft = cv2.GaussianBlur(mask, (0, 0), 1.2).astype(np.float32) / 255
        soft[-2:] = 1
        return np.asarray(soft[..., None], dtype=np.float32)

    def _sludge(self, t: float) -> NDArray[np.float32]:
        """Colours of the moving surface: two layers that drift at different speeds and swirl."""
        swirl = np.float32(6) * np.sin(self._v * np.float32(0.013) + np.float32(0.7 * t))
        u, v = self._u + swirl, self._v + np.float32(5) * np.sin(self._u * np.float32(0.017) - np.float32(0.5 * t))
        ripples = _sample(self._ripples, u, v - np.float32(34 * t % _TEXTURE))
        foam = _sample(self._foam, u + np.float32(3 * t % _TEXTURE), v - np.float32(52 * t % _TEXTURE))
        slope = cv2.Sobel(ripples, cv2.CV_32F, 0, 1, ksize=3, scale=0.11)
        tone = np.clip(ripples + slope, 0, 255).astype(np.uint8)
        colours = cv2.LUT(cv2.merge([tone] * 3), self._colours).astype(np.float32)
        bubbles = cv2.convertScaleAbs(np.maximum(foam - np.float32(178), 0), alpha=3.2).astype(np.float32) / 255
        colours += bubbles[..., None] * (np.array([198, 190, 168], dtype=np.float32) - colours) * np.float32(0.55)
        return np.asarray(colours, dtype=np.float32)

    def _draw_anomaly(self, canvas: NDArray[np.float32], t: float, anomaly: Anomaly | None) -> NDArray[np.bool_]:
        """Draw it in its place for this time; clumps and objects drift towards the weir, a crack stays."""
        covered = np.zeros((self.height, self.width), dtype=np.float32)
        if anomaly is None:
            return covered > 0
        episode, since = divmod(t, EPISODE_SECONDS)
        rng = np.random.default_rng((self.seed, 2, ANOMALIES.index(anomaly), int(abs(episode))))
        if anomaly == "crack":
            start = (rng.uniform(0.2, 0.62) * self.width, rng.uniform(0.06, 0.14) * self.height)
            draw_crack(canvas, covered, rng, start, reach=0.34 * self.width)
            return covered > 0.3
        along = rng.uniform(0.12, 0.3) + 0.5 * since / EPISODE_SECONDS
        nearness = float(np.interp(along, [0, 1], [_FAR_RIGHT - _FAR_LEFT, 1]))
        x = 0.5 + (rng.uniform(0.26, 0.74) - 0.5 + 0.01 * math.sin(1.3 * t)) * nearness
        y = _HORIZON + along * (_LIP - _HORIZON) + 0.004 * math.sin(2.1 * t)
        place = (x * self.width, y * self.height)
        draw, radius = (draw_clump, 0.1) if anomaly == "clump" else (draw_foreign_object, 0.085)
        draw(canvas, covered, rng, place, radius=radius * self.width * nearness, turn=0.1 * math.sin(0.4 * t))
        return covered > 0.5


def render_dataset(
    folder: Path,
    *,
    normals: int,
    anomalies: int,
    groups: int,
    seed: int = 0,
    progress: Progress | None = None,
    width: int = 640,
    height: int = 480,
) -> Path:
    """Write a data set: JPEG frames in good/, crack/, clump/ and foreign_object/, masks, and a manifest with groups.

    A group is a period of its own light and time. Normals and anomalies are spread over the groups; JPEG qualities
    vary, as cameras' do. The manifest is written last: a folder that has one is complete.

    Args:
        folder: made if need be; files of the same names are replaced.
        normals: number of normal frames.
        anomalies: number of frames with an anomaly, of the three kinds in turn.
        groups: number of periods, at most `normals`.
        seed: of the scene and of the periods.
        progress: told of every frame.

    Returns:
        The manifest.
    """
    scene = Scene(seed, width, height)
    rng = np.random.default_rng((seed, 3))
    lights = rng.permutation((np.arange(groups) + rng.uniform(0, 1, groups)) / groups)
    starts = rng.uniform(0, 24 * 3600, groups)
    rows: list[tuple[str, str, str, str]] = []
    (folder / MANIFEST).unlink(missing_ok=True)
    for index in range(normals + anomalies):
        number = index if index < normals else index - normals
        anomaly = None if index < normals else ANOMALIES[number % len(ANOMALIES)]
        group = number % groups if anomaly is None else number * groups // anomalies
        t = float(starts[group] + rng.uniform(0, 60))
        light = float(np.clip(lights[group] + rng.normal(0, 0.02), 0, 1))
        rendering = scene.render(t, anomaly, light)
        label, name = anomaly or "good", f"{number:04d}"
        _write(folder / label / f"{name}.jpg", encode_jpeg(rendering.image, int(rng.integers(75, 96))))
        mask = f"{GROUND_TRUTH}/{label}/{name}.png" if anomaly else ""
        if mask:
            _write(folder / mask, encode_png(rendering.mask.astype(np.uint8) * 255))
        rows.append((f"{label}/{name}.jpg", label, mask, f"period-{group:03d}"))
        if progress is not None:
            progress("rendering", index + 1, normals + anomalies)
    with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "label", "mask", "group"))
        writer.writerows(rows)
    return folder / MANIFEST


def _sample(texture: NDArray[np.uint8], u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), dtype=np.uint8)


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
