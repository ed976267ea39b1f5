"""Figures of windows that signal quality is judged by: likeness of beats, moments, shares of power.

Comparing beats of a second kind with one another was added for MIT-BIH record 119 (trigeminy); its limit is a
published one, and the noise-stress excerpts, which a laxer rule let pass, confirmed it.

Windows are taken a bounded number of samples at a time, so that memory does not grow with their overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from analysis.filters import bridged
from analysis.windows import windowed

_Floats: TypeAlias = NDArray[np.float64]
_Bools: TypeAlias = NDArray[np.bool_]

BREATHS_HZ: Final = (0.07, 1.0)
"""4 to 60 breaths/min."""

_SLOWEST_PER_MIN: Final = 30.0  # IEC 60601-2-27: the rates a monitor must show are 30 ...
_FASTEST_PER_MIN: Final = 250.0  # ... to 250 (paediatric); Orphanidou 2015 has 40 to 180 of adults at rest
_LONGEST_GAP_S: Final = 3.0  # Orphanidou 2015: no heart rate below 20
_HALF_BEAT_S: Final = 1.0  # a template reaches half an interval either side, at most that of 30 beats/min
_FEWEST_OTHERS: Final = 2  # of a second kind of beat in a window,
_SAME_KIND: Final = 0.86  # which resemble one another as the stricter of the two limits of Orphanidou 2015 asks
_BREATH_SPREAD_HZ: Final = 0.05  # either side of the peak: 3 breaths/min
_BLOCK_SAMPLES: Final = 1 << 18  # windows of so many samples at once


def beats_alike(
    values: _Floats,
    marks: NDArray[np.int64],
    starts: NDArray[np.int64],
    width: int,
    rate_hz: float,
    least: float,
) -> tuple[_Floats, _Bools]:
    """Return the likeness of each window's beats, and if there are beats as of a heart.

    A beat reaches half the window's median interval either side of its mark.
    """
    alike, feasible = np.full(starts.size, np.nan), np.zeros(starts.size, dtype=bool)
    firsts, lasts = np.searchsorted(marks, starts), np.searchsorted(marks, starts + width)
    for k, (first, last) in enumerate(zip(firsts, lasts, strict=True)):  # the numbers of beats differ
        inside = marks[first:last]
        if inside.size < 3:
            continue
        gaps_s = np.diff(np.concatenate([[starts[k]], inside, [starts[k] + width]])) / rate_hz
        usual_s = float(np.median(gaps_s[1:-1]))
        feasible[k] = (
            gaps_s.max() <= _LONGEST_GAP_S and 60.0 / _FASTEST_PER_MIN <= usual_s <= 60.0 / _SLOWEST_PER_MIN
        )
        half = max(1, round(min(usual_s / 2.0, _HALF_BEAT_S) * rate_hz))
        whole = inside[(inside >= half) & (inside + half < values.size)]
        if whole.size < 3:
            continue
        beats = values[whole[:, np.newaxis] + np.arange(-half, half + 1)]
        beats = beats - beats.mean(axis=1, keepdims=True)
        alike[k] = _mean_likeness(beats, least)
    return alike, feasible


def _mean_likeness(beats: _Floats, least: float) -> float:
    """Return the mean correlation of beats, rows about 0, with their mean.

    Beats that do not resemble it are compared with the mean of the others of their kind, if they are of one:
    ectopic beats resemble one another, noise resembles nothing.
    """
    likeness = _correlations(beats, beats.mean(axis=0))
    other = np.flatnonzero(likeness < least)
    if other.size >= _FEWEST_OTHERS:
        rest = beats[other]
        among = _correlations(rest, rest.sum(axis=0) - rest)
        if among.mean() >= _SAME_KIND:
            likeness[other] = among
    return float(np.mean(likeness))


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

    def standardised(order: int) -> Callable[[_Floats], _Floats]:
        def moment(windows: _Floats) -> _Floats:
            variance = (windows**2).mean(axis=-1)
            scale = np.where(variance > 0.0, variance, np.nan) ** (order / 2)
            return np.asarray((windows**order).mean(axis=-1) / scale)

        return moment

    return {
        name: over_windows(values, starts, width, standardised(order))
        for name, order in (("s_sqi", 3), ("k_sqi", 4))
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
