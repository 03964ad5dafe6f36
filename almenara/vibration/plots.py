"""Pictures of an evaluation and of a signal, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from almenara.vibration.bearings import Bearing
from almenara.vibration.envelope import BANDS, Band, envelope_spectrum
from almenara.vibration.windowing import resample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CANONICAL_HZ = 12_000.0


def confusion_matrix(confusion: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> bytes:
    """Windows by true and found label, coloured by share of the true label.

    Args:
        confusion: rows are true labels, columns found ones.
        labels: of rows and columns.
        title: names the protocol.
    """
    counts = np.asarray(confusion)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = _figure(5.2, 4.4)
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    for row, column in np.ndindex(counts.shape):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
    axes.set(xlabel="found label", ylabel="true label", title=title)
    figure.colorbar(image, label="share of the true label")
    return _png(figure)


def protocols(scores: Mapping[str, Mapping[str, float]]) -> bytes:
    """Macro-F1 of each protocol, so that the split that leaks stands beside the honest one.

    Args:
        scores: protocol -> metric -> value, with the metrics `macro_f1` and `record_macro_f1`.
    """
    figure = _figure(6.0, 3.6)
    axes = figure.subplots()
    place = np.arange(len(scores))
    for offset, (metric, label) in enumerate((("macro_f1", "per window"), ("record_macro_f1", "per record"))):
        bars = axes.bar(place + 0.38 * offset - 0.19, [row[metric] for row in scores.values()], 0.36, label=label)
        axes.bar_label(bars, fmt="%.3f", padding=2)
    axes.set_xticks(place, list(scores))
    axes.set(ylabel="macro-F1", ylim=(0, 1.12), title="The same model, judged by each split")
    axes.legend(loc="lower center")
    return _png(figure)


def envelope(
    window: NDArray[Any], sampling_rate_hz: float, shaft_rpm: float, bearing: Bearing, band: Band | None = None
) -> bytes:
    """Envelope spectrum of a window with the fault frequencies marked.

    Args:
        window: shape (samples,).
        sampling_rate_hz: of the window.
        shaft_rpm: revolutions a minute.
        bearing: gives the fault orders.
        band: demodulation band; 2-3.8 kHz when left out.
    """
    chosen = band or BANDS[1]
    samples, rate = resample(np.atleast_2d(window), sampling_rate_hz, _CANONICAL_HZ)
    seconds = samples.shape[1] / rate
    frequencies, amplitudes = envelope_spectrum(fft.rfft(samples, axis=1), seconds, rate / 2, chosen)
    limit = 3.5 * bearing.bpfi * shaft_rpm / 60
    shown = frequencies <= limit
    figure = _figure(8.0, 3.6)
    axes = figure.subplots()
    axes.plot(frequencies[shown], 20 * np.log10(amplitudes[0, shown] + 1e-3), color="0.35", linewidth=0.7)
    orders = {"BPFI": bearing.bpfi, "BPFO": bearing.bpfo, "2xBSF": 2 * bearing.bsf}
    for colour, (name, order) in zip(("tab:red", "tab:blue", "tab:green"), orders.items(), strict=True):
        for harmonic in (1, 2, 3):
            label = f"{name} {order * shaft_rpm / 60:.1f} Hz" if harmonic == 1 else None
            axes.axvline(harmonic * order * shaft_rpm / 60, color=colour, linestyle="--", linewidth=0.8, label=label)
    title = f"Envelope spectrum of {chosen.title} at {shaft_rpm:g} rpm"
    axes.set(xlabel="frequency in Hz", ylabel="over background in dB", xlim=(0, limit), title=title)
    axes.legend(loc="upper right", fontsize="small")
    return _png(figure)


def calibration(scores: Sequence[float], threshold: float) -> bytes:
    """Scores of held-out healthy windows and the threshold set on them."""
    figure = _figure(6.0, 3.4)
    axes = figure.subplots()
    axes.hist(scores, bins=30, color="tab:blue", alpha=0.8)
    axes.axvline(threshold, color="tab:red", label=f"threshold {threshold:.3g}")
    axes.set(xlabel="novelty score (1: typical)", ylabel="windows", title="Held-out healthy windows")
    axes.legend()
    return _png(figure)


def _figure(width: float, height: float) -> Figure:
    """A figure without pyplot: no global state, no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
