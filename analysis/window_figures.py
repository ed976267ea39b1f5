"""Figures of windows that signal quality is judged by: likeness of beats, moments, shares of power.

Beats are aligned before they are compared: a mark may be at one peak of a wide beat or at another. That
replaced a rule for two kinds of beats, which let regular electrode motion pass (noise-stress excerpts of
record 118).

Windows are taken a bounded number of samples at a time, so that memory does not grow with their overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from analysis.filters import bridged
from analysis.heartbeats import averaged
from analysis.windows import windowed

_Floats: TypeAlias = NDArray[np.float64]
_Bools: TypeAlias = NDArray[np.bool_]

BREATHS_HZ: Final = (0.07, 1.0)
"""4 to 60 breaths/min."""

_SLOWEST_PER_MIN: Final = 30.0  # IEC 60601-2-27: the rates a monitor must show are 30 ...
_FASTEST_PER_MIN: Final = 250.0  # ... to 250 (paediatric); Orphanidou 2015 has 40 to 180 of adults at rest
_LONGEST_GAP_S: Final = 3.0  # Orphanidou 2015: no heart rate below 20
_HALF_BEAT_S: Final = 1.0  # a template reaches half an interval either side, at most that of 30 beats/min
_FEWEST_BEATS: Final = 3  # with a mean of their own
_ALIGNING_PASSES: Final = 2  # the second against a mean of aligned beats
_WORKING_RATE_HZ: Final = 120.0  # as in the detection: holds the pass bands up to 40 Hz
_TINY: Final = 1e-12
_BREATH_SPREAD_HZ: Final = 0.05  # either side of the peak: 3 breaths/min
_MOST_ALIKE: Final = 0.999  # 1 would have no power but at 0 Hz
_BLOCK_SAMPLES: Final = 1 << 18  # windows of so many samples at once


def beats_alike(
    values: _Floats,
    marks: NDArray[np.int64],
    starts: NDArray[np.int64],
    width: int,
    rate_hz: float,
    *,
    lag_s: float = 0.0,
) -> tuple[_Floats, _Bools]:
    """Return the likeness of each window's beats, and if there are beats as of a heart.

    Likeness is the mean correlation of a window's beats with their mean. A beat reaches half the window's
    median interval either side of its mark, and is taken where it fits best within `lag_s` of it, as marks may
    be at one peak of a beat or another.
    """
    alike = np.full(starts.size, np.nan)
    usual_s, longest_s, n_beats = _window_intervals(marks, starts, width, rate_hz)
    feasible = (n_beats >= _FEWEST_BEATS) & (longest_s <= _LONGEST_GAP_S)
    feasible &= (usual_s >= 60.0 / _FASTEST_PER_MIN) & (usual_s <= 60.0 / _SLOWEST_PER_MIN)
    factor = max(1, int(rate_hz // _WORKING_RATE_HZ))
    slow, rate_hz = averaged(values, factor), rate_hz / factor
    lags = round(lag_s * rate_hz)
    several = np.flatnonzero(n_beats >= _FEWEST_BEATS)
    halves = np.maximum(np.rint(np.minimum(usual_s / 2.0, _HALF_BEAT_S)[several] * rate_hz), 1.0).astype(
        np.int64
    )
    firsts = np.searchsorted(marks, starts[several])
    for block in _beat_blocks(n_beats[several], 2 * (int(halves.max(initial=0)) + lags) + 1):
        counts = n_beats[several][block]
        window = np.repeat(np.arange(block.size), counts)
        beat = np.repeat(firsts[block] - (np.cumsum(counts) - counts), counts) + np.arange(window.size)
        at, half = marks[beat] // factor, halves[block][window]
        whole = (at >= half) & (at + half < slow.size)
        at, half, window = at[whole], half[whole], window[whole]
        reach = int(half.max(initial=0))
        offsets = np.arange(-reach - lags, reach + lags + 1)
        pieces = slow[np.clip(at[:, np.newaxis] + offsets, 0, slow.size - 1)]
        inside = np.abs(np.arange(-reach, reach + 1)) <= half[:, np.newaxis]
        alike[several[block]] = _mean_likeness(pieces, inside, window, block.size, lags)
    return alike, feasible


def _window_intervals(
    marks: NDArray[np.int64], starts: NDArray[np.int64], width: int, rate_hz: float
) -> tuple[_Floats, _Floats, NDArray[np.int64]]:
    """Return the median interval, the longest time without a beat, ends included, and the number of beats."""
    first, last = np.searchsorted(marks, starts), np.searchsorted(marks, starts + width)
    n_beats = (last - first).astype(np.int64)
    usual, longest = np.full(starts.size, np.nan), np.full(starts.size, float(width))
    several = np.flatnonzero(n_beats >= 2)
    if several.size:
        columns = np.arange(int(n_beats.max()) - 1)
        index = np.minimum(first[several, np.newaxis] + columns, marks.size - 2)
        intervals = np.diff(marks)[index].astype(np.float64)
        intervals[columns >= n_beats[several, np.newaxis] - 1] = np.nan
        usual[several] = np.nanmedian(intervals, axis=1)
        ends = np.maximum(
            marks[first[several]] - starts[several], starts[several] + width - marks[last[several] - 1]
        )
        longest[several] = np.maximum(np.nanmax(intervals, axis=1), ends)
    return usual / rate_hz, longest / rate_hz, n_beats


def _beat_blocks(n_beats: NDArray[np.int64], n_columns: int) -> list[NDArray[np.intp]]:
    """Return the numbers of windows in blocks whose beats, as rows, hold a bounded number of samples."""
    block = np.cumsum(n_beats) * n_columns // _BLOCK_SAMPLES
    return [np.flatnonzero(block == k) for k in np.unique(block)]


def _mean_likeness(
    pieces: _Floats, inside: _Bools, window: NDArray[np.intp], n_windows: int, lags: int
) -> _Floats:
    """Return the mean likeness of the beats of each window, NaN where there are fewer than three.

    Pieces have shape (n_beats, width + 2 lags); `inside` tells which of the width belong to the beat.
    """
    beats = _best_aligned(pieces, inside, window, n_windows, lags)
    likeness = _correlations(beats, _sums_by_window(beats, window, n_windows)[window])
    count = np.bincount(window, minlength=n_windows)
    total = np.bincount(window, likeness, minlength=n_windows)
    return np.asarray(np.where(count >= _FEWEST_BEATS, total / np.maximum(count, 1), np.nan))


def _best_aligned(
    pieces: _Floats, inside: _Bools, window: NDArray[np.intp], n_windows: int, lags: int
) -> _Floats:
    """Return the beats, about 0, each where it fits best to the mean of its window; 0 where they end."""
    width = inside.shape[1]
    chosen = np.full(window.size, lags)
    for _ in range(_ALIGNING_PASSES if lags else 0):
        beats = _centred(np.take_along_axis(pieces, chosen[:, np.newaxis] + np.arange(width), axis=1), inside)
        beats /= np.maximum(np.linalg.norm(beats, axis=1, keepdims=True), _TINY)
        template = _sums_by_window(beats, window, n_windows)[window]
        fits = [np.einsum("nw,nw->n", pieces[:, lag : lag + width], template) for lag in range(2 * lags + 1)]
        chosen = np.argmax(fits, axis=0)
    return _centred(np.take_along_axis(pieces, chosen[:, np.newaxis] + np.arange(width), axis=1), inside)


def _centred(beats: _Floats, inside: _Bools) -> _Floats:
    mean = (beats * inside).sum(axis=1, keepdims=True) / inside.sum(axis=1, keepdims=True)
    return np.where(inside, beats - mean, 0.0)


def _sums_by_window(beats: _Floats, window: NDArray[np.intp], n_windows: int) -> _Floats:
    """Return the sum of each window's beats, which are in the windows' order, shape (n_windows, width)."""
    sums = np.zeros((n_windows, beats.shape[1]))
    if window.size:
        begins = np.flatnonzero(np.diff(window, prepend=-1))
        sums[window[begins]] = np.add.reduceat(beats, begins, axis=0)
    return sums


def _correlations(beats: _Floats, template: _Floats) -> _Floats:
    scale = np.sqrt((beats**2).sum(axis=-1) * (template**2).sum(axis=-1))
    products = (beats * template).sum(axis=-1)
    return np.asarray(np.divide(products, scale, out=np.zeros(scale.size), where=scale > 0.0))


def over_windows(
    values: _Floats,
    starts: NDArray[np.int64],
    width: int,
    function: Callable[[_Floats], NDArray[Any]],
    *,
    centred: bool = True,
) -> _Floats:
    """Return a function of windows, shape (..., n_windows), a bounded number of samples at a time."""
    found = np.empty((*values.shape[:-1], starts.size))
    column = 0
    for block in _blocks(starts, width):
        windows = _centred_windows(values, block, width, centred=centred)
        found[..., column : column + block.size] = function(windows)
        column += block.size
    return found


def moments(values: _Floats, starts: NDArray[np.int64], width: int) -> dict[str, _Floats]:
    """Return skewness and kurtosis of each window."""

    def skewness(windows: _Floats) -> _Floats:
        squares = windows * windows
        return np.asarray(np.einsum("...w,...w->...", squares, windows) / width / scale(squares) ** 1.5)

    def kurtosis(windows: _Floats) -> _Floats:
        squares = windows * windows
        return np.asarray(np.einsum("...w,...w->...", squares, squares) / width / scale(squares) ** 2)

    def scale(squares: _Floats) -> _Floats:
        variance = squares.mean(axis=-1)
        return np.where(variance > 0.0, variance, np.nan)

    return {
        "s_sqi": over_windows(values, starts, width, skewness),
        "k_sqi": over_windows(values, starts, width, kurtosis),
    }


def band_share(
    values: _Floats,
    starts: NDArray[np.int64],
    width: int,
    rate_hz: float,
    part_hz: tuple[float, float],
    whole_hz: tuple[float, float],
) -> _Floats:
    """Return which share of the power of one band another holds."""

    def share(windows: _Floats) -> _Floats:
        frequencies_hz, power = signal.periodogram(windows, rate_hz, window="hann")
        part = (frequencies_hz >= part_hz[0]) & (frequencies_hz <= part_hz[1])
        whole = (frequencies_hz >= whole_hz[0]) & (frequencies_hz <= whole_hz[1])
        total = power[..., whole].sum(axis=-1)
        return np.asarray(power[..., part].sum(axis=-1) / np.where(total > 0.0, total, np.nan))

    return over_windows(values, starts, width, share)


def rhythm_share(windows: _Floats, rate_hz: float) -> _Floats:
    """Return the share of the power of `BREATHS_HZ` near its peak and near twice its peak, for each window."""
    frequencies_hz, power = signal.periodogram(windows, rate_hz, window="hann", detrend="linear")
    band = (frequencies_hz >= BREATHS_HZ[0]) & (frequencies_hz <= BREATHS_HZ[1])
    if not band.any():
        return np.full(windows.shape[:-1], np.nan)
    frequencies_hz, power = frequencies_hz[band], power[..., band]
    peak_hz = frequencies_hz[power.argmax(axis=-1)][..., np.newaxis]
    near = np.abs(frequencies_hz - peak_hz) <= _BREATH_SPREAD_HZ
    near |= np.abs(frequencies_hz - 2.0 * peak_hz) <= _BREATH_SPREAD_HZ
    total = power.sum(axis=-1)
    return np.asarray((power * near).sum(axis=-1) / np.where(total > 0.0, total, np.nan))


def peak_over_red_noise(windows: _Floats, rate_hz: float) -> _Floats:
    """Return the peak power of `BREATHS_HZ` over that of red noise as alike from half second to half second.

    Red noise is an autoregressive process of first order, brought to the power from 0 to 1 Hz of the window.
    The power of noise is over 3 times that in 5 % of the frequencies: Torrence & Compo 1998,
    doi:10.1175/1520-0477(1998)079<0061:APGTWA>2.0.CO;2.
    """
    lag = max(1, round(rate_hz / (2.0 * BREATHS_HZ[1])))  # the rate at which 1 Hz is half of the rate
    if windows.shape[-1] <= lag:
        return np.full(windows.shape[:-1], np.nan)
    level = signal.detrend(windows, axis=-1)
    frequencies_hz, power = signal.periodogram(level, rate_hz, window="hann")
    below = (frequencies_hz > 0.0) & (frequencies_hz <= BREATHS_HZ[1])
    frequencies_hz, power = frequencies_hz[below], power[..., below]
    breaths = frequencies_hz >= BREATHS_HZ[0]
    if not breaths.any():
        return np.full(windows.shape[:-1], np.nan)
    energy = np.einsum("...w,...w->...", level, level)
    product = np.einsum("...w,...w->...", level[..., lag:], level[..., :-lag])
    alike = np.clip(product / np.where(energy > 0.0, energy, np.nan), 0.0, _MOST_ALIKE)[..., np.newaxis]
    noise = (1.0 - alike**2) / (
        1.0 + alike**2 - 2.0 * alike * np.cos(2.0 * np.pi * frequencies_hz * lag / rate_hz)
    )
    total = power.sum(axis=-1, keepdims=True)
    noise *= total / noise.sum(axis=-1, keepdims=True)
    peak = power[..., breaths].argmax(axis=-1)[..., np.newaxis]
    ratio = power[..., breaths] / np.where(noise[..., breaths] > 0.0, noise[..., breaths], np.nan)
    return np.asarray(np.take_along_axis(ratio, peak, axis=-1)[..., 0])


def _blocks(starts: NDArray[np.int64], width: int) -> list[NDArray[np.int64]]:
    """Return the windows' starts in blocks that hold a bounded number of samples."""
    size = max(1, _BLOCK_SAMPLES // max(width, 1))
    return [starts[k : k + size] for k in range(0, starts.size, size)]


def _centred_windows(
    values: NDArray[Any], starts: NDArray[np.int64], width: int, *, centred: bool = True
) -> _Floats:
    """Return the windows, bridged and about their mean, shape (..., n_windows, width)."""
    windows = bridged(windowed(values, starts, width))
    if centred:
        windows -= windows.mean(axis=-1, keepdims=True)
    return windows
