"""From a raw anomaly map to a verdict: one definition of score, label, regions and pictures, by the card alone."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

from almenara.calibration import anomaly_scale, p_value
from almenara.contracts import Card, ModelRef, Picture, Region, VisionVerdict
from almenara.errors import InputError
from almenara.vision.images import encode_png

SMOOTHING = 1 / 32
"""Standard deviation of the smoothing, in units of the map's longer side (8 pixels of a 256-pixel picture)."""

_BLOCK_PIXELS = 1 << 18
"""Pixels that are mixed at a time: floats of a whole large picture would take a gigabyte."""

_COLOURS: NDArray[np.uint8] = np.asarray(
    cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1], dtype=np.uint8
)


def score(raw_map: NDArray[np.floating], card: Card) -> float:
    """Raw score of a picture: the greatest value of the smoothed map inside the region of interest.

    Args:
        raw_map: the graph's `map` of one picture, shape (h, w).

    Raises:
        InputError: the region of interest holds no cell of the map.
    """
    return float(smoothed(raw_map, card).max())


def verdict(raw_map: NDArray[np.floating], card: Card, model: ModelRef) -> VisionVerdict:
    """Judge one picture by its raw map, shape (h, w).

    Raises:
        InputError: the card has no threshold, or its region of interest holds no cell.
    """
    smooth = smoothed(raw_map, card)
    value = float(smooth.max())
    threshold = _threshold(card)
    return VisionVerdict(
        model=model,
        label=card.labels[int(value > threshold)],
        score=value,
        anomaly=float(anomaly_scale(value, card)),
        p_value=p_value(value, card),
        threshold=threshold,
        regions=_regions(smooth, threshold),
    )


def smoothed(raw_map: NDArray[np.floating], card: Card) -> NDArray[np.float64]:
    """The map that score, regions and pictures are read from, shape (h, w); -inf outside the region of interest.

    A Gaussian, normalised so that cells outside the region and beyond the border weigh nothing.
    """
    values = np.asarray(raw_map, dtype=np.float64)
    if values.ndim != 2 or values.size == 0:
        raise InputError("map-shape", f"A map (h, w) is needed, and this is {values.shape}.")
    inside = region_mask(values.shape, card)
    sigma = SMOOTHING * max(values.shape)
    weights = _blur(inside.astype(np.float64), sigma)
    total = _blur(np.where(inside, values, 0.0), sigma)
    return np.where(inside, total / np.maximum(weights, np.finfo(float).tiny), -np.inf)


def region_mask(shape: tuple[int, ...], card: Card) -> NDArray[np.bool_]:
    """Cells of an (h, w) map whose centre lies inside the card's region of interest; all of them without one."""
    height, width = shape
    if card.region_of_interest is None:
        return np.ones((height, width), dtype=bool)
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    inside = _inside_polygon(x, y, np.asarray(card.region_of_interest, dtype=np.float64))
    if not inside.any():
        raise InputError(
            "region-empty",
            f"The region of interest of {card.name} holds no cell of the {height}x{width} map.",
            "Draw a larger polygon, in relative coordinates from 0 to 1.",
        )
    return inside


def heatmap_png(raw_map: NDArray[np.floating], card: Card, size: tuple[int, int]) -> bytes:
    """PNG of the heatmap alone, size = (width, height) in pixels, on the card's fixed display range."""
    return encode_png(_COLOURS[_intensity(_stretched(raw_map, card, size), card)])


def overlay(image: NDArray[np.uint8], raw_map: NDArray[np.floating], card: Card) -> NDArray[np.uint8]:
    """The picture with its heatmap laid over it: the hotter, the more opaque; a normal picture stays as it is.

    Args:
        image: uint8 RGB, shape (height, width, 3), any size.
        raw_map: the graph's map of that picture, shape (h, w).

    Returns:
        uint8 RGB of the picture's shape, with a white outline around what is above the threshold.
    """
    height, width = image.shape[:2]
    stretched = _stretched(raw_map, card, (width, height))
    mixed = np.empty(image.shape, dtype=np.uint8)
    step = max(1, _BLOCK_PIXELS // width)
    for rows in (slice(start, start + step) for start in range(0, height, step)):
        intensity = _intensity(stretched[rows], card)
        opacity = (0.6 / 255) * intensity[..., None].astype(np.float32)
        mixed[rows] = np.clip((1 - opacity) * image[rows] + opacity * _COLOURS[intensity], 0, 255).astype(np.uint8)
    above = (stretched > _threshold(card)).view(np.uint8)
    outlines, _ = cv2.findContours(above, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return np.asarray(cv2.drawContours(mixed, outlines, -1, (255, 255, 255), max(1, width // 400)), dtype=np.uint8)


def picture(body: bytes) -> Picture:
    """A PNG file for a JSON answer."""
    return Picture(media_type="image/png", base64=base64.b64encode(body).decode("ascii"))


def display_range(threshold: float, calibration_scores: NDArray[np.floating]) -> tuple[float, float]:
    """Fixed range of the heatmap: dark at and below the median normal score, full at about three thresholds."""
    low = float(np.median(calibration_scores))
    return low, low + 2 * max(threshold - low, abs(threshold), 1e-6)


def _threshold(card: Card) -> float:
    if card.threshold is None:
        raise InputError("card-uncalibrated", f"The card of {card.name} has no threshold.", "Train the model again.")
    return card.threshold.value


def _regions(smooth: NDArray[np.float64], threshold: float) -> tuple[Region, ...]:
    """Boxes of the connected parts above the threshold, the strongest first."""
    height, width = smooth.shape
    count, parts, boxes, _ = cv2.connectedComponentsWithStats((smooth > threshold).astype(np.uint8), connectivity=8)
    found = [
        Region(
            x=int(boxes[part, cv2.CC_STAT_LEFT]) / width,
            y=int(boxes[part, cv2.CC_STAT_TOP]) / height,
            width=int(boxes[part, cv2.CC_STAT_WIDTH]) / width,
            height=int(boxes[part, cv2.CC_STAT_HEIGHT]) / height,
            score=float(smooth[parts == part].max()),
        )
        for part in range(1, count)
    ]
    return tuple(sorted(found, key=lambda region: -region.score))


def _intensity(stretched: NDArray[np.float64], card: Card) -> NDArray[np.uint8]:
    """Rows of a stretched map on the card's display range, 0-255."""
    if card.display_range is None:
        raise InputError(
            "card-uncalibrated", f"The card of {card.name} has no display range.", "Train the model again."
        )
    low, high = card.display_range
    return np.asarray(np.clip((stretched - low) / (high - low), 0, 1) * 255, dtype=np.uint8)


def _stretched(raw_map: NDArray[np.floating], card: Card, size: tuple[int, int]) -> NDArray[np.float64]:
    """The smoothed map stretched to (width, height); the region of interest keeps its hard border."""
    smooth = smoothed(raw_map, card)
    outside = np.isneginf(smooth)
    finite = np.where(outside, smooth[~outside].min(), smooth)
    stretched = cv2.resize(finite, size, interpolation=cv2.INTER_LINEAR)
    if outside.any():
        stretched[cv2.resize(outside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0] = -np.inf
    return np.asarray(stretched, dtype=np.float64)


def _blur(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    side = 2 * max(1, round(4 * sigma)) + 1
    blurred = cv2.GaussianBlur(values, (side, side), sigma, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(blurred, dtype=np.float64)


def _inside_polygon(x: NDArray[np.float64], y: NDArray[np.float64], polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Even-odd rule: a ray to the right crosses the polygon's edges an odd number of times."""
    inside = np.zeros(x.shape, dtype=bool)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y1 != y2:
            crosses = (y1 > y) != (y2 > y)
            inside ^= crosses & (x < x1 + (y - y1) / (y2 - y1) * (x2 - x1))
    return inside
