"""Envelope spectra of demodulation bands, read at the orders where bearing faults show.

A spall strikes once a pass and rings the housing; the ringing's envelope repeats at the fault frequency (Randall and
Antoni, "Rolling element bearing diagnostics: a tutorial", MSSP 25, 2011). One band is cepstrum-prewhitened: its
spectrum keeps the phase alone, so that no gear or resonance dominates (Borghesani et al., MSSP 36, 2013).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from almenara.vibration.bearings import Bearing


@dataclass(frozen=True)
class Band:
    """A demodulation band in Hz; `whitened` drops the magnitudes."""

    name: str
    low_hz: float
    high_hz: float
    whitened: bool = False

    @property
    def title(self) -> str:
        """For a person: `2-3.8 kHz`."""
        limits = f"{self.low_hz / 1e3:g}-{self.high_hz / 1e3:g} kHz"
        return f"{limits} whitened" if self.whitened else limits


BANDS = (
    Band("low", 500, 2000),
    Band("mid", 2000, 3800),
    Band("high", 3800, 5800),
    Band("wide", 500, 5800),
    Band("whitened", 500, 5800, whitened=True),
)


@dataclass(frozen=True)
class Line:
    """Where to look in an envelope spectrum: a fault's name, its harmonic, the order, and which sideband (-1, 0, 1)."""

    name: str
    harmonic: int
    order: float
    sideband: int = 0


@dataclass(frozen=True)
class Spectra:
    """What the envelope spectra of n windows say.

    Attributes:
        levels: float32 (n, bands, lines), natural logarithm of the line's amplitude over the background; 0 (at the
            background) where the band or the line lies beyond what was sampled.
        frequencies: float32 (n, bands, lines), Hz, where in its search range the line was found.
        variations: float32 (n, bands), logarithm of the squared envelope's coefficient of variation.
    """

    levels: NDArray[np.float32]
    frequencies: NDArray[np.float32]
    variations: NDArray[np.float32]


def lines(bearing: Bearing) -> tuple[Line, ...]:
    """The lines that are looked for: three harmonics and one pair of sidebands a fault, then cage and shaft.

    Inner and outer race are modulated once a revolution, a ball once a turn of the cage.
    """
    faults = (("BPFI", bearing.bpfi, 1.0), ("BPFO", bearing.bpfo, 1.0), ("2xBSF", 2 * bearing.bsf, bearing.ftf))
    found: list[Line] = []
    for name, order, modulation in faults:
        found += [Line(name, harmonic, harmonic * order) for harmonic in (1, 2, 3)]
        found += [Line(name, 1, order + side * modulation, sideband=side) for side in (1, -1)]
    return (*found, Line("FTF", 1, bearing.ftf), Line("1x", 1, 1.0), Line("2x", 1, 2.0))


def read_lines(
    spectrum: NDArray[np.complex64], seconds: float, nyquist_hz: float, shaft_hz: NDArray[np.float64], bearing: Bearing
) -> Spectra:
    """Read every line of every band.

    Args:
        spectrum: complex64 (n, bins), one-sided and unscaled (`rfft`) of windows of zero mean.
        seconds: length of the windows.
        nyquist_hz: half of their sampling rate.
        shaft_hz: shape (n,).
        bearing: gives the orders.
    """
    orders = np.array([line.order for line in lines(bearing)])
    search = _search(orders, shaft_hz, seconds)
    shape = (spectrum.shape[0], len(BANDS), orders.size)
    levels, frequencies = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    variations = np.zeros(shape[:2], np.float32)
    for index, envelope in _envelopes(spectrum, seconds, nyquist_hz):
        variations[:, index] = envelope.variation
        levels[:, index], frequencies[:, index] = envelope.read(search)
    return Spectra(levels, frequencies, variations)


def envelope_spectrum(
    spectrum: NDArray[np.complex64], seconds: float, nyquist_hz: float, band: Band
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Envelope spectrum of one band, for a picture.

    Returns:
        Frequencies in Hz, shape (m,), and amplitudes over the background, float32 (n, m).
    """
    envelope = _demodulate(spectrum, seconds, min(band.high_hz, _USABLE * nyquist_hz), band)
    frequencies = np.arange(envelope.amplitudes.shape[1], dtype=np.float64) * envelope.bin_hz
    return frequencies, (envelope.amplitudes / envelope.background[:, None]).astype(np.float32)


_USABLE = 0.97
"""Share of the Nyquist frequency below which the anti-aliasing filter of the sensor lets a band through."""
_LEAST_BANDWIDTH_HZ = 400.0
_PADDING = 4
"""Zero padding of the envelope: bins a quarter of the resolution apart lose little of a peak between two of them."""
_BACKGROUND_HZ = (10.0, 600.0)
_SEARCH = 0.01
"""Half of the search range, relative: slip moves fault frequencies by about 1 %."""


@dataclass(frozen=True)
class _Search:
    """Bins to look at for every line of every window, the same in every band.

    Attributes:
        bins: (n, lines, width); those after the end of a narrower range are not `inside`.
        inside: (n, lines, width).
    """

    bins: NDArray[np.intp]
    inside: NDArray[np.bool_]


def _search(orders: NDArray[np.float64], shaft_hz: NDArray[np.float64], seconds: float) -> _Search:
    """Search ranges around orders, kept off the shaft harmonic beside them: 6203's BPFO is at 3.053x."""
    resolution_hz, bin_hz = 1 / seconds, 1 / (_PADDING * seconds)
    centre = shaft_hz[:, None] * orders
    half = np.maximum(_SEARCH * centre, 0.75 * resolution_hz)
    nearest = np.round(orders)
    gap = np.where(nearest >= 1, np.abs(orders - nearest), 0)
    half = np.where(gap > 0, np.minimum(half, np.maximum(shaft_hz[:, None] * gap / 2, 0.25 * resolution_hz)), half)
    first = np.ceil((centre - half) / bin_hz).astype(np.intp)
    last = np.maximum(np.floor((centre + half) / bin_hz).astype(np.intp), first)
    bins = first[..., None] + np.arange(int((last - first).max()) + 1)
    return _Search(bins, bins <= last[..., None])


@dataclass(frozen=True)
class _Envelope:
    """Spectrum of the normalised squared envelope of one band: amplitudes (n, m) every `bin_hz`."""

    amplitudes: NDArray[np.float32]
    background: NDArray[np.float32]
    variation: NDArray[np.float32]
    bin_hz: float

    def read(self, search: _Search) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Highest amplitude of each line, as logarithm over the background, and its frequency; both (n, lines)."""
        count, width = self.amplitudes.shape
        rows = np.arange(count)[:, None, None]
        picked = np.where(search.inside, self.amplitudes[rows, np.minimum(search.bins, width - 1)], 0)
        best = picked.argmax(axis=-1)[..., None]
        highest = np.take_along_axis(picked, best, axis=-1)[..., 0]
        background = self.background[:, None]
        level = np.log(np.maximum(highest, 1e-3 * background) / background)
        sampled = np.where(search.inside, search.bins, 0).max(axis=-1) < width
        frequency = np.take_along_axis(search.bins, best, axis=-1)[..., 0] * self.bin_hz
        return np.where(sampled, level, 0).astype(np.float32), frequency.astype(np.float32)


def _envelopes(spectrum: NDArray[np.complex64], seconds: float, nyquist_hz: float) -> Iterator[tuple[int, _Envelope]]:
    """The bands that were sampled; one cut off by the Nyquist frequency keeps what lies below it."""
    for index, band in enumerate(BANDS):
        high_hz = min(band.high_hz, _USABLE * nyquist_hz)
        if high_hz - band.low_hz >= _LEAST_BANDWIDTH_HZ:
            yield index, _demodulate(spectrum, seconds, high_hz, band)


def _demodulate(spectrum: NDArray[np.complex64], seconds: float, high_hz: float, band: Band) -> _Envelope:
    """Squared envelope by shifting the band to zero frequency, where its analytic signal needs few samples."""
    first, last = int(band.low_hz * seconds), int(high_hz * seconds)
    analytic = spectrum[:, first:last]
    if band.whitened:
        magnitude = np.abs(analytic)
        analytic = analytic / np.maximum(magnitude, 1e-9 * magnitude.max(axis=1, keepdims=True) + 1e-20)
    samples = fft.next_fast_len(2 * (last - first))
    complex_envelope = fft.ifft(analytic, samples, axis=1)
    squared = complex_envelope.real**2 + complex_envelope.imag**2
    relative = squared / (squared.mean(axis=1, keepdims=True) + 1e-30) - 1
    spread = np.sqrt((relative**2).mean(axis=1, keepdims=True))
    taper = np.hanning(samples).astype(np.float32)
    padded = fft.rfft(relative / (spread + 1e-20) * taper, _PADDING * samples, axis=1)
    bin_hz = 1 / (_PADDING * seconds)
    # Above the bandwidth of the band its envelope has nothing.
    kept = min(padded.shape[1], math.ceil((high_hz - band.low_hz) / bin_hz))
    amplitudes = np.abs(padded[:, :kept]) * np.float32(2 / taper.sum())
    low, high = (round(limit / bin_hz) for limit in _BACKGROUND_HZ)
    background = np.median(amplitudes[:, low:high], axis=1) + np.float32(1e-9)
    return _Envelope(
        amplitudes=amplitudes.astype(np.float32),
        background=background.astype(np.float32),
        variation=np.log(spread[:, 0] + 1e-6).astype(np.float32),
        bin_hz=bin_hz,
    )
