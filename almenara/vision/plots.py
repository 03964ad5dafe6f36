"""Figures of a training as PNG files: score histogram and contact sheets; training only."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def score_histogram(scores: Mapping[str, ArrayLike], threshold: float, title: str) -> bytes:
    """Histogram of raw scores by kind ("calibration", "crack", …) with the threshold drawn in."""
    figure, axes = _figure(7, 3.6)
    values = {kind: np.asarray(some, dtype=np.float64) for kind, some in scores.items() if np.size(some)}
    bins = np.histogram_bin_edges(np.concatenate([*values.values(), [threshold]]), bins=40)
    axes.hist(list(values.values()), bins=bins, stacked=True, label=list(values))
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1.2, label=f"threshold {threshold:.3g}")
    axes.set(xlabel="raw score (standard deviations)", ylabel="pictures", title=title)
    axes.legend(fontsize="small")
    return _png(figure)


def contact_sheet(pictures: Sequence[NDArray[np.uint8]], titles: Sequence[str], columns: int = 6) -> bytes:
    """Pictures, uint8 RGB, side by side under their titles."""
    rows = max(1, -(-len(pictures) // columns))
    figure, axes = _figure(1.9 * columns, 2.15 * rows, rows, columns)
    for place, axis in enumerate(np.asarray(axes).flat):
        axis.axis("off")
        if place < len(pictures):
            axis.imshow(pictures[place])
            axis.set_title(titles[place], fontsize=7)
    return _png(figure)


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A figure outside pyplot: no display, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
