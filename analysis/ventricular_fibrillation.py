"""Ventricular fibrillation and flutter, told from the waveform of an ECG lead.

Theory of operation
-------------------
In ventricular fibrillation there are no beats to time: the lead is a wave of 150 to 500 swings a minute that
never repeats and never rests. Two published measures of windows of 8 s look at it from different sides, and
both must agree:

1. *Phase space* (Amann, Tratnig & Unterkofler 2007). Each sample is plotted against the one 0.5 s later, on a
   grid of 40 by 40 boxes that spans the window. A heart that rests between beats visits few boxes, fibrillation
   many: more than 0.15 of them.
2. *Filter leakage* (Kuo & Dillman 1978). The window is added to itself shifted by half of its mean period. A
   wave like a sine cancels and little leaks through; of beats, and of noise of many frequencies, much does.

Flutter repeats, so it visits few boxes: it is a wave of more than 240 swings a minute that cancels by the
stricter of the two published limits of the leakage. A window that visits many boxes without such a wave is
noise, or fibrillation under noise: it is *undetermined*, and so is one that is missing, flat or clipped.
Windows start every second; a second is what most of the windows that cover it say.

Limits are those of the sources, remembered and not read again (unconfirmed), or round figures of physiology;
none was chosen on a recording. Only ratios count: unit, gain, offset and polarity do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive, as_signal
from analysis.filters import band_pass, bridged
from analysis.heartbeats import LOWEST_RATE_HZ, averaged
from analysis.intervals import intervals_of
from analysis.signal_faults import common_faults
from analysis.window_figures import over_windows
from analysis.windows import window_starts
from protocols.errors import SignalError

WINDOW_S: Final = 8.0
"""Amann et al. 2005: all algorithms decide on windows of 8 s ..."""
STEP_S: Final = 1.0
"""... every second."""

_BAND_HZ: Final = (1.0, 30.0)  # Amann et al. 2005: preparation of the signal for every algorithm
_WORKING_RATE_HZ: Final = 100.0  # holds the band; two samples for each of the phase space
_GRID: Final = 40  # Amann et al. 2007: boxes to a side,
_DELAY_S: Final = 0.5  # delay,
_PHASE_RATE_HZ: Final = 50.0  # rate,
_MANY_BOXES: Final = 0.15  # and least share of boxes in fibrillation
_LEAKAGE: Final = 0.625  # Kuo & Dillman 1978, as Amann et al. 2005 give it: fibrillation leaks less;
_STRICT_LEAKAGE: Final = 0.406  # and less than that where the wave is as high as QRS complexes
_FIBRILLATION_HZ: Final = (2.5, 10.0)  # 150 to 600 swings/min: below is motion, above is muscle or mains
_FLUTTER_HZ: Final = 4.0  # 240/min: sinus rhythm and nearly all tachycardias are slower
_TINY: Final = 1e-12

_Floats: TypeAlias = NDArray[np.float64]
_Bools: TypeAlias = NDArray[np.bool_]
_Intervals: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class VentricularFibrillation:
    """Where a lead shows fibrillation or flutter, and where it cannot be told.

    Parameters
    ----------
    episodes
        Fibrillation or flutter, half-open `[start, end)` sample indices, shape (n, 2).
    undetermined
        Neither shown nor ruled out, likewise; apart from the episodes.
    """

    episodes: _Intervals
    undetermined: _Intervals


@dataclass(frozen=True, slots=True, eq=False)
class WaveFigures:
    """What windows of 8 s, a second apart, look like: each of shape (n_windows,), NaN where of one value.

    Parameters
    ----------
    box_share
        Share of the phase space's boxes that are visited.
    leakage
        Share that is left of the window once it is added to itself half a mean period later: 0 for a sine.
    mean_hz
        Mean frequency: one over the mean period.
    """

    box_share: _Floats
    leakage: _Floats
    mean_hz: _Floats


def ventricular_fibrillation_episodes(ecg: ArrayLike, *, rate_hz: float) -> VentricularFibrillation:
    """Return where one ECG lead shows ventricular fibrillation or flutter, to the second.

    Parameters
    ----------
    ecg
        One lead, shape (n_samples,), in any unit and polarity, NaN where missing.
    rate_hz
        Sampling rate, at least 100.

    Returns
    -------
    Episodes, and stretches that are undetermined: noise, missing samples, a flat or clipped lead, and all of a
    lead shorter than 8 s. What is in neither has beats.

    Raises
    ------
    SignalError
        If `ecg` is not one-dimensional, holds infinite values, or the rate is below 100 Hz.

    References
    ----------
    Amann, Tratnig & Unterkofler 2007, doi:10.1109/TBME.2006.880909: phase space, its grid, delay and limit.
    Kuo & Dillman 1978, Computers in Cardiology, pages 347-349: leakage; limits as given by Amann, Tratnig &
    Unterkofler 2005, doi:10.1186/1475-925X-4-60, from where windows and preparation are as well.
    Differs from them in asking for both measures at once and for a mean frequency of fibrillation, in the rule
    for flutter, in deciding each second by all windows that cover it instead of by the one that ends there, in
    a band-pass filter of zero phase at about 100 Hz, and in leaving noise undetermined.
    """
    values, rate_hz = _checked(ecg, rate_hz)
    starts, _ = window_starts(values.size, rate_hz=rate_hz, window_s=WINDOW_S, step_s=STEP_S)
    if starts.size == 0:
        return VentricularFibrillation(_none(), intervals_of(np.ones(values.size, dtype=bool)))
    figures = wave_figures(values, rate_hz=rate_hz)
    faulty = np.any(
        list(common_faults(values, rate_hz=rate_hz, window_s=WINDOW_S, step_s=STEP_S).values()), axis=0
    )
    many = figures.box_share > _MANY_BOXES
    low_hz, high_hz = _FIBRILLATION_HZ
    fibrillating = many & (figures.leakage < _LEAKAGE)
    fibrillating &= (figures.mean_hz >= low_hz) & (figures.mean_hz <= high_hz)
    fluttering = (figures.leakage < _STRICT_LEAKAGE) & (figures.mean_hz >= _FLUTTER_HZ)
    fluttering &= figures.mean_hz <= high_hz
    found = (fibrillating | fluttering) & ~faulty
    unclear = faulty | (many & ~found)
    shown = _most(found)
    return VentricularFibrillation(
        _in_samples(shown, values.size, rate_hz), _in_samples(_most(unclear) & ~shown, values.size, rate_hz)
    )


def wave_figures(ecg: ArrayLike, *, rate_hz: float) -> WaveFigures:
    """Return the measures that `ventricular_fibrillation_episodes` rests on; shapes and errors as there."""
    values, rate_hz = _checked(ecg, rate_hz)
    n_windows = window_starts(values.size, rate_hz=rate_hz, window_s=WINDOW_S, step_s=STEP_S)[0].size
    factor = max(1, int(rate_hz // _WORKING_RATE_HZ))
    slow = band_pass(
        bridged(averaged(values, factor)), rate_hz=rate_hz / factor, passband_hz=_BAND_HZ
    )  # missing samples are a line here, and the window's fault there
    at_s = np.arange(int(np.ceil(values.size / rate_hz * _WORKING_RATE_HZ))) / _WORKING_RATE_HZ
    slow = np.interp(at_s, (np.arange(slow.size) + 0.5 * (factor - 1) / factor) * factor / rate_hz, slow)
    width = round(WINDOW_S * _WORKING_RATE_HZ)
    starts = np.arange(n_windows) * round(STEP_S * _WORKING_RATE_HZ)
    slow = np.pad(slow, (0, max(0, int(starts[-1]) + width - slow.size) if n_windows else 0), mode="edge")
    return WaveFigures(
        *(over_windows(slow, starts, width, figure) for figure in (_box_share, _leakage, _mean_hz))
    )


def _checked(ecg: ArrayLike, rate_hz: float) -> tuple[NDArray[Any], float]:
    values = as_signal(ecg, name="ecg")
    if values.ndim != 1:
        raise SignalError(f"ecg of shape {values.shape}, expected one lead (n_samples,)")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    if rate_hz < LOWEST_RATE_HZ:
        raise SignalError(f"rate_hz={rate_hz!r}, expected at least {LOWEST_RATE_HZ} Hz")
    return values, rate_hz


def _box_share(windows: _Floats) -> _Floats:
    """Return the share of boxes that each row's path through its phase space visits, NaN for a constant row."""
    thinned = windows[:, :: round(_WORKING_RATE_HZ / _PHASE_RATE_HZ)]
    low, span = thinned.min(axis=1, keepdims=True), np.ptp(thinned, axis=1, keepdims=True)
    side = np.minimum(_GRID * (thinned - low) / np.maximum(span, _TINY), _GRID - 1).astype(np.intp)
    delay = round(_DELAY_S * _PHASE_RATE_HZ)
    visited = np.zeros((windows.shape[0], _GRID**2), dtype=bool)
    visited[np.arange(windows.shape[0])[:, np.newaxis], side[:, :-delay] * _GRID + side[:, delay:]] = True
    return np.where(span[:, 0] > 0.0, visited.mean(axis=1), np.nan)


def _leakage(windows: _Floats) -> _Floats:
    """Return what is left of each row added to itself half a mean period later, over what went in."""
    half_period = np.nan_to_num(0.5 * _WORKING_RATE_HZ / _mean_hz(windows), nan=1.0)
    shifts = np.clip(np.rint(half_period), 1, windows.shape[1] // 2).astype(np.intp)
    leakage = np.full(windows.shape[0], np.nan)
    for shift in np.unique(shifts):  # some tens of different ones
        rows = windows[shifts == shift]
        later, earlier = rows[:, shift:], rows[:, :-shift]
        went_in = (np.abs(later) + np.abs(earlier)).sum(axis=1)
        left = np.abs(later + earlier).sum(axis=1)
        leakage[shifts == shift] = np.divide(left, went_in, out=np.full(left.size, np.nan), where=went_in > 0.0)
    return leakage


def _mean_hz(windows: _Floats) -> _Floats:
    """Return the mean frequency of each row: that of the sine with its mean size and mean slope."""
    size, slope = np.abs(windows).mean(axis=1), np.abs(np.diff(windows, axis=1)).mean(axis=1)
    ratio = np.divide(slope, size, out=np.full(size.size, np.nan), where=size > 0.0)
    return np.asarray(ratio * _WORKING_RATE_HZ / (2.0 * np.pi))


def _most(flags: _Bools) -> _Bools:
    """Return of every second whether at least half of the windows that cover it are flagged."""
    per_window = round(WINDOW_S / STEP_S)
    cover = np.ones(per_window)
    return np.asarray(np.convolve(flags, cover) >= 0.5 * np.convolve(np.ones(flags.size), cover))


def _in_samples(seconds: _Bools, n_samples: int, rate_hz: float) -> _Intervals:
    """Return stretches of seconds in samples; what is left of the last second belongs to the one before."""
    spans = intervals_of(seconds)
    if spans.size == 0:
        return _none()
    edges = np.minimum(np.rint(np.arange(seconds.size + 1) * STEP_S * rate_hz).astype(np.int64), n_samples)
    edges[-1] = n_samples
    return np.asarray(edges[spans])


def _none() -> _Intervals:
    return np.empty((0, 2), dtype=np.int64)
