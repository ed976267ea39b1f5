"""Respiratory rate and its variability, from the breaths of a respiration signal.

The rate of a window is the breaths that pass in it, parts of breaths included, over the time these take, so
that no window need begin and end with a breath. Where the breaths are not those of a breathing person, as in
noise or motion, or where too many samples are missing, there is no rate but NaN and the reason for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_signal
from analysis.breaths import averaged, checked_rate_hz, detect_breaths, smoothed, working_factor
from analysis.breaths import detect_breaths_batch as detect_breaths_batch
from analysis.breaths import find_apnoeas as find_apnoeas
from analysis.windows import window_starts

SLOWEST_PER_MIN: Final = 3.0
FASTEST_PER_MIN: Final = 60.0
"""Rates between which a rate is given; the smoothing of `breaths` is made for them."""
WINDOW_S: Final = 32.0
"""Karlen et al. 2013."""
STEP_S: Final = 2.0

_MARGIN: Final = 1.05  # so that breathing at the limits, whose windows lie on both sides of them, has a rate
_LONGEST_S: Final = 25.0  # a longer way from top to top is a pause and no breath
_SHORTEST_S: Final = 0.75  # 80 per min: breaths differ by a quarter around the fastest rate
_LEAST_COVERED: Final = 0.6  # Charlton 2021: share of the window that breaths take up
_LARGEST_SPREAD: Final = 0.25  # Charlton 2021: standard deviation of the breaths' durations over their mean
_LEAST_ALIKE: Final = 0.75  # Charlton 2021: mean correlation of the breaths with their mean
_FEWEST: Final = 2  # breaths, in part at least: one alone has no likeness and no spread
_LEAST_GOOD: Final = 0.5  # share of a recording's windows that must have a rate
_POINTS: Final = 32  # of a breath's shape; 0.8 s of the longest breath
_MARGIN_S: Final = 2.0  # the smoothing looks half a second to either side
_AT_ONCE: Final = 1024  # breaths whose shapes are compared together; bounds the memory

_Floats: TypeAlias = NDArray[np.float64]
_Bools: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class RespiratoryRate:
    """Respiratory rate of windows.

    Parameters
    ----------
    rate_per_min
        Shape (..., n_windows), NaN where a reason holds.
    quality
        0 to 1: the mean correlation of the window's breaths with their mean, 0 where a reason holds.
    reasons
        Name -> in which windows it rules the rate out: `uncovered` (breaths, those with holes or above 25 s
        left out, take up less than 60 % of the window, or are fewer than 2), `irregular` (durations spread by
        more than 25 %), `unlike` (correlation below 0.75), `out_of_range` (not 3 to 60 per min, give or take 5
        %).
    intervals
        The windows, half-open, in samples, shape (n_windows, 2).
    """

    rate_per_min: _Floats
    quality: _Floats
    reasons: Mapping[str, _Bools]
    intervals: NDArray[np.int64]


def respiratory_rate_per_min(
    respiration: ArrayLike, *, rate_hz: float, window_s: float = WINDOW_S, step_s: float = STEP_S
) -> RespiratoryRate:
    """Return the respiratory rate of every window, NaN where breathing cannot be told or is irregular.

    Parameters
    ----------
    respiration
        Shape (..., n_samples), as in `breaths.detect_breaths`.
    rate_hz
        Sampling rate, at least 4.
    window_s, step_s
        Windows, half-open. Below 6 breaths/min a window of 32 s holds parts of two or three breaths only, which
        is little to judge by: take 60 s.

    Raises
    ------
    SignalError
        If there is no time axis, values are infinite or no real numbers, the rate is below 4 Hz, or a duration
        is no number above 0.

    References
    ----------
    Charlton et al. 2021, doi:10.1016/j.bspc.2020.102339: when breaths of an impedance signal can be believed
    (limits as in the program its authors published). Differs in counting parts of breaths, and in leaving out
    its limit on the share of outlying durations, which the limit on their spread implies nearly always.
    """
    samples = as_signal(respiration, name="respiration")
    rate_hz = checked_rate_hz(rate_hz)
    starts, width = window_starts(samples.shape[-1], rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    rows = samples.reshape(-1, samples.shape[-1]) if samples.size else np.empty((0, samples.shape[-1]))
    edges_s = np.stack([starts, starts + width]) / rate_hz
    found = np.full((5, rows.shape[0], starts.size), np.nan)
    for k, row in enumerate(rows):  # each has breaths of its own
        found[:, k] = _judge_windows(Breaths.of(row, rate_hz), edges_s)
    rate, covered, spread, alike, count = found.reshape(5, *samples.shape[:-1], starts.size)
    reasons: dict[str, _Bools] = {
        "uncovered": ~(covered >= _LEAST_COVERED) | (count < _FEWEST),
        "irregular": ~(spread <= _LARGEST_SPREAD),
        "unlike": ~(alike >= _LEAST_ALIKE),
        "out_of_range": ~((rate >= SLOWEST_PER_MIN / _MARGIN) & (rate <= FASTEST_PER_MIN * _MARGIN)),
    }
    poor = np.any(list(reasons.values()), axis=0)
    return RespiratoryRate(
        np.where(poor, np.nan, rate),
        np.where(poor, 0.0, np.clip(alike, 0.0, 1.0)),
        reasons,
        np.stack([starts, starts + width], axis=1),
    )


def breath_durations_s(respiration: ArrayLike, *, rate_hz: float) -> _Floats:
    """Return the time from each breath to the next in s, NaN where it is no breath.

    Parameters
    ----------
    respiration
        One signal, shape (n_samples,), as in `breaths.detect_breaths`.
    rate_hz
        Sampling rate, at least 4.

    Returns
    -------
    Shape (n_breaths - 1,), empty below two breaths. NaN for less than 0.75 s, more than 25 s, where samples are
    missing in between, and where the breath lies in no window of 32 s with a rate. All NaN where no window has
    one.
    """
    samples = as_signal(respiration, name="respiration")
    breaths = Breaths.of(samples, checked_rate_hz(rate_hz))
    rate = respiratory_rate_per_min(samples, rate_hz=rate_hz)
    good_s = rate.intervals[np.isfinite(rate.rate_per_min)] / rate_hz
    # windows ascend, so a breath lies in one if the last that starts before the breath's start ends after its
    # end
    last = np.searchsorted(good_s[:, 0], breaths.starts_s, side="right") - 1
    inside = np.zeros(last.size, dtype=bool)
    inside[last >= 0] = good_s[last[last >= 0], 1] >= breaths.ends_s[last >= 0]
    return np.where(breaths.kept & inside, breaths.ends_s - breaths.starts_s, np.nan)


def mean_respiratory_rate_per_min(respiration: ArrayLike, *, rate_hz: float) -> float:
    """Return the mean respiratory rate of a recording in 1/min.

    The mean over the windows of 32 s, every 2 s, that have a rate; NaN where fewer than half of them have one.
    """
    return mean_of_good(respiratory_rate_per_min(respiration, rate_hz=rate_hz).rate_per_min)


def respiratory_rate_variability_percent(respiration: ArrayLike, *, rate_hz: float) -> float:
    """Return the coefficient of variation of the breaths' durations in %, NaN as the mean rate.

    Of breaths in windows with a rate only; as these are not irregular by more than 25 %, larger variability
    gives NaN and not a number.
    """
    durations_s = _recorded_durations_s(respiration, rate_hz)
    if durations_s.size < _FEWEST:
        return float("nan")
    return float(100.0 * durations_s.std(ddof=1) / durations_s.mean())


def breath_rmssd_s(respiration: ArrayLike, *, rate_hz: float) -> float:
    """Return the root mean square of successive differences of the durations in s, NaN as the mean rate."""
    if not np.isfinite(mean_respiratory_rate_per_min(respiration, rate_hz=rate_hz)):
        return float("nan")
    steps_s = np.diff(breath_durations_s(respiration, rate_hz=rate_hz))
    steps_s = steps_s[np.isfinite(steps_s)]
    return float(np.sqrt((steps_s**2).mean())) if steps_s.size else float("nan")


def mean_of_good(rates_per_min: _Floats) -> float:
    """Return the mean of the finite rates of one recording, NaN where fewer than half are."""
    good = rates_per_min[np.isfinite(rates_per_min)]
    if good.size == 0 or good.size < _LEAST_GOOD * rates_per_min.size:
        return float("nan")
    return float(good.mean())


@dataclass(frozen=True, slots=True, eq=False)
class Breaths:
    """The breaths of one signal from top to top: when, which can be kept, and their shapes summed up.

    Parameters
    ----------
    starts_s, ends_s
        Shape (n,).
    kept
        Neither too short nor too long, and no sample missing.
    shapes
        Cumulative sums of the kept breaths' shapes, each about 0 and of norm 1, shape (n + 1, 32).
    """

    starts_s: _Floats
    ends_s: _Floats
    kept: _Bools
    shapes: _Floats

    @classmethod
    def of(cls, samples: NDArray[Any], rate_hz: float) -> Breaths:
        """Return the breaths of one signal."""
        tops_s = detect_breaths(samples, rate_hz=rate_hz) / rate_hz
        starts_s, ends_s = tops_s[:-1], tops_s[1:]
        durations_s = ends_s - starts_s
        kept = (durations_s >= _SHORTEST_S) & (durations_s <= _LONGEST_S)
        shapes = np.zeros((kept.size + 1, _POINTS))
        for k in range(0, kept.size, _AT_ONCE):
            some = slice(k, k + _AT_ONCE)
            at_s = starts_s[some, np.newaxis] + durations_s[some, np.newaxis] * np.linspace(0.0, 1.0, _POINTS)
            kept[some] &= _fill_shapes(samples, at_s, rate_hz, kept[some], out=shapes[1:][some])
        np.cumsum(shapes, axis=0, out=shapes)
        return cls(starts_s, ends_s, kept, shapes)


def _fill_shapes(samples: NDArray[Any], at_s: _Floats, rate_hz: float, kept: _Bools, *, out: _Floats) -> _Bools:
    """Write the shapes of some breaths, whose points are `at_s`, and return which have no sample missing."""
    factor = working_factor(rate_hz)
    first = max(0, int((at_s[0, 0] - _MARGIN_S) * rate_hz) // factor * factor)
    end = int((at_s[-1, -1] + _MARGIN_S) * rate_hz)
    smooth = smoothed(averaged(samples[first:end], factor), rate_hz / factor)
    at = (at_s * rate_hz - first) / factor
    holes = np.concatenate([[0], np.cumsum(np.isnan(smooth))])
    low, high = (np.clip(at[:, k].astype(np.int64), 0, smooth.size) for k in (0, -1))
    whole = holes[np.minimum(high + 1, smooth.size)] == holes[low]
    out[:] = _shapes(smooth, at, kept & whole)
    return np.asarray(whole)


def _shapes(smooth: _Floats, at: _Floats, kept: _Bools) -> _Floats:
    """Return the signal at fractional indices, each row about 0 and of norm 1; 0 where a breath is not kept."""
    rows = np.interp(at.ravel(), np.arange(smooth.size), np.nan_to_num(smooth)).reshape(at.shape)
    rows -= rows.mean(axis=1, keepdims=True)
    norms = np.sqrt((rows**2).sum(axis=1))
    rows[~kept | (norms == 0.0)] = 0.0
    return rows / np.where(norms > 0.0, norms, 1.0)[:, np.newaxis]


def _judge_windows(breaths: Breaths, edges_s: _Floats) -> _Floats:
    """Return rate, covered share, spread, likeness and count of each window's breaths, shape (5, n_windows)."""
    durations_s = breaths.ends_s - breaths.starts_s
    if durations_s.size == 0:
        return np.full((5, edges_s.shape[1]), np.nan)
    kept_s = np.where(breaths.kept, durations_s, 0.0)
    knots_s = np.append(breaths.starts_s, breaths.ends_s[-1])
    # breathing time and breaths since the first top, at the windows' edges: parts of breaths count in
    # proportion
    sums_s, counts = (
        np.concatenate([[0.0], np.cumsum(values)]) for values in (kept_s, breaths.kept.astype(np.float64))
    )
    breathed_s = np.diff(np.interp(edges_s, knots_s, sums_s), axis=0)[0]
    passed = np.diff(np.interp(edges_s, knots_s, counts), axis=0)[0]
    first = np.clip(np.searchsorted(knots_s, edges_s[0], side="right") - 1, 0, durations_s.size)
    last = np.clip(np.searchsorted(knots_s, edges_s[1], side="left"), 0, durations_s.size)
    last = np.maximum(first, last)
    count = counts[last] - counts[first]
    some = np.where(count > 0, count, np.nan)
    mean_s = (sums_s[last] - sums_s[first]) / some
    squares_s2 = np.concatenate([[0.0], np.cumsum(kept_s**2)])
    variance_s2 = np.maximum((squares_s2[last] - squares_s2[first]) / some - mean_s**2, 0.0)
    mean_shape = (breaths.shapes[last] - breaths.shapes[first]) / some[:, np.newaxis]
    # correlations with the mean of shapes of norm 1 are, on average, the norm of that mean
    alike = np.sqrt((mean_shape**2).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = 60.0 * passed / breathed_s
    covered = breathed_s / (edges_s[1] - edges_s[0])
    return np.stack([rate, covered, np.sqrt(variance_s2) / mean_s, alike, count])


def _recorded_durations_s(respiration: ArrayLike, rate_hz: float) -> _Floats:
    """Return the kept durations of a recording that has a mean rate, else none."""
    if not np.isfinite(mean_respiratory_rate_per_min(respiration, rate_hz=rate_hz)):
        return np.empty(0)
    durations_s = breath_durations_s(respiration, rate_hz=rate_hz)
    return durations_s[np.isfinite(durations_s)]
