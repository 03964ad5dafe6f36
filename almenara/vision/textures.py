"""Procedural surfaces for rendered scenes: layered noise, concrete, and the colours of sludge."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def layered_noise(rng: np.random.Generator, size: int, *, coarsest: int, finest: int) -> NDArray[np.uint8]:
    """Smooth noise that tiles: octaves of random grids, each twice as fine and weaker by a quarter.

    Args:
        size: side in pixels.
        coarsest: grid points across the first octave.
        finest: grid points across the last.

    Returns:
        uint8, shape (size, size), equalised to use the whole range around a mean of 128.
    """
    total = np.zeros((size, size), dtype=np.float32)
    points, weight = coarsest, 1.0
    while points <= finest:
        grid = rng.normal(0, weight, (points, points)).astype(np.float32)
        margin = 4
        wrapped = np.pad(grid, margin, mode="wrap")
        scale = size // points
        large = cv2.resize(wrapped, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        total += large[margin * scale : margin * scale + size, margin * scale : margin * scale + size]
        points, weight = points * 2, weight * 0.75
    total -= total.mean()
    return np.asarray(np.clip(128 + 42 * total / total.std(), 0, 255), dtype=np.uint8)


def concrete(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """Weathered concrete: blotches, grain, pores and streaks that ran down; float32 RGB in 0-255."""
    side = 1024
    blotches = layered_noise(rng, side, coarsest=4, finest=64)
    tone = cv2.resize(blotches, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) - 128
    grain = cv2.GaussianBlur(rng.normal(0, 16, (height, width)).astype(np.float32), (0, 0), 0.8)
    streaks = cv2.GaussianBlur(rng.normal(0, 30, (height, width)).astype(np.float32), (0, 0), 2.5, sigmaY=60)
    tone = 142 + 0.28 * tone + grain + 4 * streaks
    pores = rng.uniform(0, 1, (height, width)) > 0.9985
    tone -= 55 * cv2.GaussianBlur(pores.astype(np.float32), (0, 0), 0.9) * 3
    return np.asarray(np.clip(tone, 30, 225)[..., None] * np.array([1.02, 1.0, 0.95]), dtype=np.float32)


def sludge_colours() -> NDArray[np.uint8]:
    """Table from tone to colour, shape (256, 1, 3): near black in troughs, brown, greyish on crests."""
    tones = [0, 70, 128, 180, 225, 255]
    colours = np.array([(30, 26, 20), (58, 49, 36), (88, 75, 54), (116, 101, 76), (148, 135, 110), (186, 178, 160)])
    table = np.stack([np.interp(np.arange(256), tones, colours[:, channel]) for channel in range(3)], axis=-1)
    return table.astype(np.uint8)[:, None]
