"""Envelope spectra of demodulation bands, read at the orders where bearing faults show.

A spall strikes once a pass and rings the housing; the ringing's envelope repeats at the fault frequency (Randall and
Antoni, "Rolling element bearing diagnostics: a tutorial", MSSP 25, 2011). One band is cepstrum-prewhitened: its
spectrum keeps the phase alone, so that no gear or resonance dominates (Borghesani et al., MSSP 36, 2013).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

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

_ALIKE = ((0,), (1,), (2,), (3, 4))
"""Positions in `BANDS`, side by side, of those with the same limits."""


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


@lru_cache(maxsize=64)
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
    search = _search(np.array([line.order for line in lines(bearing)]), shaft_hz, seconds)
    shape = (spectrum.shape[0], len(BANDS), search.bins.shape[1])
    levels, frequencies = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    variations = np.zeros(shape[:2], np.float32)
    reach = int(search.bins.max()) + 1
    for bands, envelope in _envelopes(spectrum, seconds, nyquist_hz, reach):
        at = slice(bands[0], bands[-1] + 1)
        variations[:, at] = envelope.variation
        levels[:, at], frequencies[:, at] = envelope.read(search)
    return Spectra(levels, frequencies, variations)


def envelope_spectrum(
    spectrum: NDArray[np.complex64], seconds: float, nyquist_hz: float, band: Band
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Envelope spectrum of one band, for a picture.

    Returns:
        Frequencies in Hz, shape (m,), and amplitudes over the background, float32 (n, m).
    """
    envelope = _demodulate(spectrum, seconds, min(band.high_hz, _USABLE * nyquist_hz), (band,))
    frequencies = np.arange(envelope.width, dtype=np.float64) * envelope.bin_hz
    return frequencies, envelope.amplitudes[:, 0] / envelope.background[:, 0, None]


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
        bins: (n, lines, width), one after the other; those after the end of a narrower range are not `inside`.
        inside: (n, lines, width).
        last: (n, lines), the last bin inside.
    """

    bins: NDArray[np.intp]
    inside: NDArray[np.bool_]
    last: NDArray[np.intp]


def _search(orders: NDArray[np.float64], shaft_hz: NDArray[np.float64], seconds: float) -> _Search:
    """Search ranges around orders, kept off the shaft harmonic beside them: 6203's BPFO is at 3.053x."""
    resolution_hz, bin_hz = 1 / seconds, 1 / (_PADDING * seconds)
    centre = shaft_hz[:, None] * orders
    half = np.maximum(_SEARCH * centre, 0.75 * resolution_hz)
    nearest = np.round(orders)
    gap = np.where(nearest >= 1, np.abs(orders - nearest), 0)
    half = np.where(gap > 0, np.minimum(half, np.maximum(shaft_hz[:, None] * gap / 2, 0.25 * resolution_hz)), half)
    first = np.maximum(np.ceil((centre - half) / bin_hz), 0).astype(np.intp)  # a slow cage in a short window
    last = np.maximum(np.floor((centre + half) / bin_hz).astype(np.intp), first)
    bins = first[..., None] + np.arange(int((last - first).max()) + 1)
    return _Search(bins, bins <= last[..., None], last)


@dataclass(frozen=True)
class _Envelope:
    """Spectra of the normalised squared envelopes of bands that have the same limits.

    Attributes:
        amplitudes: float32 (n, bands, m), every `bin_hz`, as far as they are needed.
        background: float32 (n, bands).
        variation: float32 (n, bands).
        bin_hz: from a bin to the next.
        width: bins up to the bandwidth; above it an envelope has nothing.
    """

    amplitudes: NDArray[np.float32]
    background: NDArray[np.float32]
    variation: NDArray[np.float32]
    bin_hz: float
    width: int

    def read(self, search: _Search) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Highest amplitude of each line, as logarithm over the background, and its frequency: (n, bands, lines)."""
        count, bands, _ = self.amplitudes.shape
        flat = np.minimum(search.bins, self.width - 1).reshape(count, 1, -1)
        picked = np.take_along_axis(self.amplitudes, flat, axis=-1).reshape(count, bands, *search.bins.shape[1:])
        picked = np.where(search.inside[:, None], picked, 0)
        best = picked.argmax(axis=-1)
        background = self.background[..., None]
        level = np.log(np.maximum(picked.max(axis=-1), 1e-3 * background) / background)
        frequency = (search.bins[:, None, :, 0] + best) * self.bin_hz
        return np.where(search.last[:, None] < self.width, level, 0), frequency.astype(np.float32)


def _envelopes(
    spectrum: NDArray[np.complex64], seconds: float, nyquist_hz: float, reach: int
) -> Iterator[tuple[tuple[int, ...], _Envelope]]:
    """The bands that were sampled; one cut off by the Nyquist frequency keeps what lies below it.

    Those with the same limits come together: their transforms are one call.
    """
    for numbers in _ALIKE:
        bands = tuple(BANDS[number] for number in numbers)
        high_hz = min(bands[0].high_hz, _USABLE * nyquist_hz)
        if high_hz - bands[0].low_hz >= _LEAST_BANDWIDTH_HZ:
            yield numbers, _demodulate(spectrum, seconds, high_hz, bands, reach)


def _demodulate(
    spectrum: NDArray[np.complex64], seconds: float, high_hz: float, bands: tuple[Band, ...], reach: int | None = None
) -> _Envelope:
    """Squared envelopes by shifting the bands to zero frequency, where their analytic signals need few samples.

    Args:
        spectrum: complex64 (n, bins).
        seconds: length of the windows.
        high_hz: where the bands end.
        bands: of the same limits.
        reach: bins of the envelope spectra that are needed; all of them by default.
    """
    first, last = int(bands[0].low_hz * seconds), int(high_hz * seconds)
    analytic = spectrum[:, first:last]
    stacked = np.stack([_whitened(analytic) if band.whitened else analytic for band in bands], axis=1)
    samples = fft.next_fast_len(2 * (last - first))
    complex_envelope = fft.ifft(stacked, samples, axis=-1)
    relative = complex_envelope.real**2
    relative += complex_envelope.imag**2
    relative /= relative.mean(axis=-1, keepdims=True) + 1e-30
    relative -= 1
    spread = np.sqrt(np.einsum("...i,...i->...", relative, relative) / np.float32(samples))
    taper, gain = _taper(samples)
    relative *= taper
    padded = fft.rfft(relative, _PADDING * samples, axis=-1)
    bin_hz = 1 / (_PADDING * seconds)
    width = min(padded.shape[-1], math.ceil((high_hz - bands[0].low_hz) / bin_hz))
    low, high = (round(limit / bin_hz) for limit in _BACKGROUND_HZ)
    kept = padded[..., : width if reach is None else min(width, max(reach, high))]
    amplitudes = np.sqrt(kept.real**2 + kept.imag**2)
    amplitudes *= gain / (spread[..., None] + np.float32(1e-20))
    return _Envelope(
        amplitudes=amplitudes,
        background=_median(amplitudes[..., low:high]) + np.float32(1e-9),
        variation=np.log(spread + np.float32(1e-6)),
        bin_hz=bin_hz,
        width=width,
    )


def _whitened(analytic: NDArray[np.complex64]) -> NDArray[np.complex64]:
    magnitude = np.abs(analytic)
    return np.asarray(analytic / np.maximum(magnitude, 1e-9 * magnitude.max(axis=1, keepdims=True) + 1e-20))


def _median(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Along the last axis, as np.median, which takes four times as long for a few thousand values."""
    upper = values.shape[-1] // 2
    lower = upper - 1 + values.shape[-1] % 2
    parted = np.partition(values, (lower, upper), axis=-1)
    return np.asarray((parted[..., lower] + parted[..., upper]) / 2)


@lru_cache(maxsize=64)
def _taper(samples: int) -> tuple[NDArray[np.float32], np.float32]:
    """A Hann window, and what brings a line's amplitude under it to its height."""
    taper = np.hanning(samples).astype(np.float32)
    taper.flags.writeable = False
    return taper, np.float32(2 / taper.sum())
