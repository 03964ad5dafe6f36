"""What can go wrong in a rendered scene: cracks, clumps and foreign objects, drawn with their ground truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
_SUBPIXEL = 3  # fractional bits of the coordinates that OpenCV draws with

_BOTTLE, _BOARD, _BAG = range(3)
_PLASTICS = ((205, 222, 232), (60, 128, 205), (222, 116, 44), (228, 226, 214))


def draw_crack(
    canvas: NDArray[np.float32], covered: NDArray[np.float32], rng: np.random.Generator, start: Point, *, reach: float
) -> None:
    """A crack that wanders right and down from a point and branches, darkest in its middle.

    Args:
        canvas: float32 RGB in 0-255, drawn on in place.
        covered: float32 in 0-1, same height and width: the ground truth, written in place.
        rng: decides the course.
        start: (x, y) in pixels.
        reach: length of the main course in pixels.
    """
    ink = np.zeros(covered.shape, dtype=np.uint8)
    thickness = max(2, round(reach / 42))
    course = _wander(rng, start, heading=rng.uniform(0.15, 0.5), steps=26, step=reach / 26)
    _polyline(ink, course, thickness)
    for joint in rng.choice(len(course) - 8, 3, replace=False) + 4:
        heading = rng.uniform(0.5, 1.2) * rng.choice([-1, 1])
        _polyline(ink, _wander(rng, course[joint], heading, steps=9, step=reach / 34), max(1, thickness // 2))
    ink[round(covered.shape[0] * 0.3) :] = 0
    soft = cv2.GaussianBlur(ink, (0, 0), 0.8).astype(np.float32) / 255
    canvas *= 1 - 0.85 * soft[..., None]
    covered[:] = np.maximum(covered, soft)


def draw_clump(
    canvas: NDArray[np.float32],
    covered: NDArray[np.float32],
    rng: np.random.Generator,
    place: Point,
    *,
    radius: float,
    turn: float,
) -> None:
    """A lump of thickened sludge: an uneven dark mound, lit from above, with a shadow on the surface."""
    angles = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    uneven = sum(
        rng.uniform(0.04, 0.14) / math.sqrt(k) * np.sin(k * angles + rng.uniform(0, 2 * math.pi)) for k in range(2, 8)
    )
    outline = _around(place, radius * (1 + np.asarray(uneven)), angles + turn, flat=0.62)
    shape = _filled(covered.shape, outline)
    _cast_shadow(canvas, shape, radius)
    lumps = cv2.GaussianBlur(rng.normal(0, 1, (48, 48)).astype(np.float32), (0, 0), 1.6)
    x, y, side = round(place[0] - 1.5 * radius), round(place[1] - 1.5 * radius), max(8, round(3 * radius))
    relief = np.zeros(covered.shape, dtype=np.float32)
    _paste(relief, cv2.resize(lumps * 130, (side, side), interpolation=cv2.INTER_CUBIC), x, y)
    dome = cv2.GaussianBlur(shape, (0, 0), 0.35 * radius)
    light = cv2.Sobel(dome, cv2.CV_32F, 0, 1, ksize=5, scale=0.018 * radius)
    tone = (50 + relief + 26 * light)[..., None] * np.array([1.0, 0.82, 0.6], dtype=np.float32)
    canvas += shape[..., None] * (np.clip(tone, 8, 200) - canvas)
    covered[:] = np.maximum(covered, shape)


def draw_foreign_object(
    canvas: NDArray[np.float32],
    covered: NDArray[np.float32],
    rng: np.random.Generator,
    place: Point,
    *,
    radius: float,
    turn: float,
) -> None:
    """Something that does not belong there: a bottle, a board or a plastic bag."""
    kind = int(rng.integers(3))
    angle = float(rng.uniform(-0.9, 0.9)) + turn
    colour = np.array(_PLASTICS[int(rng.integers(len(_PLASTICS)))], dtype=np.float32)
    if kind == _BOTTLE:
        body, cap = _bar(place, 1.25 * radius, 0.42 * radius, angle), _ahead(place, 1.45 * radius, angle)
        shape = np.maximum(
            cv2.GaussianBlur(_filled(covered.shape, body), (0, 0), 1.2),
            _filled(covered.shape, _bar(cap, 0.3 * radius, 0.16 * radius, angle)),
        )
    elif kind == _BOARD:
        colour = np.array([186, 148, 98], dtype=np.float32)
        shape = _filled(covered.shape, _bar(place, 1.7 * radius, 0.3 * radius, angle))
    else:
        angles = np.linspace(0, 2 * math.pi, 17, endpoint=False)
        shape = _filled(covered.shape, _around(place, radius * rng.uniform(0.6, 1.15, 17), angles + turn, flat=0.7))
    _cast_shadow(canvas, shape, radius)
    shading = cv2.GaussianBlur(shape, (0, 0), 0.3 * radius)
    rim = cv2.Sobel(shading, cv2.CV_32F, 0, 1, ksize=5, scale=0.012 * radius)
    folds = 12 * np.sin(np.arange(covered.shape[1], dtype=np.float32) * (7.0 / radius) + rng.uniform(0, 6))
    painted = colour * (0.86 + 0.4 * rim)[..., None] + folds[None, :, None] * (kind != _BOTTLE)
    canvas += shape[..., None] * (np.clip(painted, 10, 250) - canvas)
    covered[:] = np.maximum(covered, shape)


def _wander(rng: np.random.Generator, start: Point, heading: float, steps: int, step: float) -> list[Point]:
    headings = heading + 0.75 * rng.normal(0, 1, steps)
    x = start[0] + np.concatenate([[0], np.cumsum(step * np.cos(headings))])
    y = start[1] + np.concatenate([[0], np.cumsum(step * np.sin(headings))])
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _around(place: Point, radii: NDArray[np.float64], angles: NDArray[np.float64], flat: float) -> list[Point]:
    """Outline in polar coordinates, flattened as seen from a slant."""
    x, y = place[0] + radii * np.cos(angles), place[1] + flat * radii * np.sin(angles)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _bar(place: Point, length: float, breadth: float, angle: float) -> list[Point]:
    """Corners of a rectangle of half-length and half-breadth around a place, turned and flattened."""
    along = np.array([math.cos(angle), 0.75 * math.sin(angle)])
    across = np.array([-math.sin(angle), 0.75 * math.cos(angle)])
    signs = ((1, 1), (1, -1), (-1, -1), (-1, 1))
    corners = [np.array(place) + ahead * length * along + side * breadth * across for ahead, side in signs]
    return [(float(x), float(y)) for x, y in corners]


def _ahead(place: Point, distance: float, angle: float) -> Point:
    return place[0] + distance * math.cos(angle), place[1] + 0.75 * distance * math.sin(angle)


def _filled(shape: tuple[int, ...], outline: Sequence[Point]) -> NDArray[np.float32]:
    """Coverage 0-1 of a polygon."""
    ink = np.zeros(shape, dtype=np.uint8)
    cv2.fillPoly(ink, [_fixed_point(outline)], 255, cv2.LINE_AA, _SUBPIXEL)
    return np.asarray(ink / np.float32(255), dtype=np.float32)


def _polyline(ink: NDArray[np.uint8], course: Sequence[Point], thickness: int) -> None:
    cv2.polylines(ink, [_fixed_point(course)], False, 255, thickness, cv2.LINE_AA, _SUBPIXEL)


def _fixed_point(points: Sequence[Point]) -> NDArray[np.int32]:
    return np.round(np.asarray(points) * (1 << _SUBPIXEL)).astype(np.int32)


def _cast_shadow(canvas: NDArray[np.float32], shape: NDArray[np.float32], radius: float) -> None:
    """Darken the surface just below and beside a shape."""
    drop = np.array([[1, 0, 0.12 * radius], [0, 1, 0.22 * radius]])
    shadow = cv2.warpAffine(shape, drop, (shape.shape[1], shape.shape[0]))
    canvas *= 1 - 0.5 * cv2.GaussianBlur(shadow, (0, 0), max(1.0, 0.14 * radius))[..., None]


def _paste(target: NDArray[np.float32], patch: NDArray[Any], x: int, y: int) -> None:
    """Copy a patch into a target at (x, y), cut at the target's border."""
    height, width = target.shape
    top, left = max(0, y), max(0, x)
    bottom, right = min(height, y + patch.shape[0]), min(width, x + patch.shape[1])
    if top < bottom and left < right:
        target[top:bottom, left:right] = patch[top - y : bottom - y, left - x : right - x]
