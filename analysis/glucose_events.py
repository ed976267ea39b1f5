"""Episodes of low and high glucose, and by how much a sensor lags behind a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from analysis.arrays import as_positive
from analysis.glucose_grid import GlucoseGrid, as_readings, step_of
from protocols.errors import SignalError

EPISODE_MIN: Final = 15.0
"""Battelino et al. 2023: an episode begins with 15 min beyond the limit and ends with 15 min within it."""
EXTENDED_MIN: Final = 120.0
"""Battelino et al. 2023: extended hypoglycaemia lasts longer than 120 min."""
LONGEST_LAG_MIN: Final = 40.0
"""Twice the largest lag reported between blood and sensor glucose, some 20 min (Basu et al. 2013)."""

_STEP_MIN: Final = 0.5  # of the search; a tenth of the sensor's interval
_LONGEST_JOIN_MIN: Final = 15.0  # sensor readings that are joined by a line; three intervals of 5 min
_LEAST_PAIRS: Final = 20  # two in each stretch
_STRETCHES: Final = 10  # of the jackknife; general use, each longer than errors resemble one another
_LEAST_CORRELATION: Final = 0.5  # less is explained by the reference than is left over: no common course

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Episodes:
    """Episodes of one kind.

    Parameters
    ----------
    intervals
        Grid points `[start, end)`, shape (n, 2), of `GlucoseGrid.series_mgdl`; ends where recovery begins.
    durations_min, mean_mgdl
        Shape (n,).
    per_day
        Number over the days that are known; NaN without any.
    """

    intervals: NDArray[np.int64]
    durations_min: _Floats
    mean_mgdl: _Floats
    per_day: float

    @property
    def n_extended(self) -> int:
        """How many last longer than 120 min."""
        return int((self.durations_min > EXTENDED_MIN).sum())


@dataclass(frozen=True, slots=True)
class GlucoseLag:
    """Lag of a sensor behind a reference in min, its standard error, correlation there, pairs; NaN: unknown."""

    lag_min: float
    standard_error_min: float
    correlation: float
    n_pairs: int


def episodes(
    grid: GlucoseGrid,
    *,
    limit_mgdl: float,
    side: Literal["below", "above"],
    start_min: float = EPISODE_MIN,
    end_min: float = EPISODE_MIN,
) -> Episodes:
    """Return the episodes in which glucose was below or above a limit.

    Parameters
    ----------
    grid
        One recording.
    limit_mgdl, side
        The consensus: below 70 (level 1) and 54 (level 2), above 180 and 250. Level 1 includes level 2.
    start_min, end_min
        So many minutes beyond the limit begin an episode, so many within it end it. A reading stands for one
        step of the grid: 15 min are three readings at 5 min.

    Raises
    ------
    SignalError
        If the limit or a duration is no number above 0, or `side` is another word.

    References
    ----------
    Battelino et al. 2023, doi:10.1016/S2213-8587(22)00319-9. An unknown stretch ends an episode.
    """
    limit_mgdl = as_positive(limit_mgdl, name="limit_mgdl", unit="mg/dL")
    needed, ending = (
        max(1, int(np.ceil(as_positive(minutes, name=name, unit="min") / grid.step_min - 1e-9)))
        for name, minutes in (("start_min", start_min), ("end_min", end_min))
    )
    if side not in ("below", "above"):
        raise SignalError(f"side={side!r}, expected 'below' or 'above'")
    series = grid.series_mgdl
    beyond = series < limit_mgdl if side == "below" else series > limit_mgdl
    starts, ends, states = _runs(np.where(np.isnan(series), -1, beyond.astype(np.int8)))
    sizes = ends - starts
    section = np.cumsum((states == -1) | ((states == 0) & (sizes >= ending)))
    out = states == 1
    begins = np.flatnonzero(out & (sizes >= needed))
    first = begins[np.unique(section[begins], return_index=True)[1]]
    last = np.flatnonzero(out)[np.searchsorted(section[out], section[first], side="right") - 1]
    intervals = np.column_stack([starts[first], ends[last]]).astype(np.int64)
    sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(series))])
    lengths = intervals[:, 1] - intervals[:, 0]
    means = (sums[intervals[:, 1]] - sums[intervals[:, 0]]) / np.maximum(lengths, 1)
    known_days = np.isfinite(series).sum() * grid.step_min / 1440.0
    return Episodes(
        intervals,
        np.asarray(lengths * grid.step_min, dtype=np.float64),
        np.asarray(means, dtype=np.float64),
        float(intervals.shape[0] / known_days) if known_days else float("nan"),
    )


def sensor_lag(
    glucose_mgdl: ArrayLike,
    reference_mgdl: ArrayLike,
    *,
    times_ns: ArrayLike,
    reference_times_ns: ArrayLike,
    longest_lag_min: float = LONGEST_LAG_MIN,
) -> GlucoseLag:
    """Return by how many minutes the sensor follows the reference.

    The sensor is smoothed (`_smoothed`) and read `lag` after every reference value; the lag is the one at which
    a straight line through the pairs leaves the least error, so that gain and offset of the sensor do not
    matter. The same reference values are compared at every lag.

    Parameters
    ----------
    glucose_mgdl, times_ns
        Sensor, shape (n,), NaN where missing, and its UTC.
    reference_mgdl, reference_times_ns
        Reference, shape (m,), and its UTC.
    longest_lag_min
        Lags from minus to plus this are tried, every half minute.

    Returns
    -------
    The standard error is that of the jackknife over ten stretches of neighbouring pairs, as errors resemble
    their neighbours. NaN with fewer than 20 pairs, a correlation below 0.5, or the least error at the edge of
    the search, with or without any of the stretches.

    References
    ----------
    Boyne et al. 2003, doi:10.2337/diabetes.52.11.2790: lag as the shift of least error. Künsch 1989,
    doi:10.1214/aos/1176347265: jackknife by blocks.
    """
    sensor, sensor_ns = as_readings(glucose_mgdl, times_ns=times_ns)
    reference, reference_ns = as_readings(reference_mgdl, times_ns=reference_times_ns)
    longest = as_positive(longest_lag_min, name="longest_lag_min", unit="min")
    unknown = GlucoseLag(float("nan"), float("nan"), float("nan"), 0)
    if sensor.size < 2 or reference.size < _LEAST_PAIRS:
        return unknown
    at_min, sensor_min = ((times - sensor_ns[0]) / 60e9 for times in (reference_ns, sensor_ns))
    fine_min, smooth = _smoothed(sensor, sensor_min, float(step_of(sensor_ns)))
    n_lags = int(longest / _STEP_MIN)
    lags: _Floats = np.linspace(-n_lags * _STEP_MIN, n_lags * _STEP_MIN, 2 * n_lags + 1, dtype=np.float64)
    shifted = np.stack([np.interp(at_min + lag, fine_min, smooth, left=np.nan, right=np.nan) for lag in lags])
    common = np.isfinite(shifted).all(axis=0)
    n = int(common.sum())
    if n < _LEAST_PAIRS:
        return unknown
    begins = np.arange(_STRETCHES) * n // _STRETCHES
    values, truth = shifted[:, common], np.broadcast_to(reference[common], (lags.size, n))
    values -= values.mean()
    truth = truth - truth.mean()
    products = (np.ones_like(values), values, truth, values**2, truth**2, values * truth)
    sums = np.stack([np.add.reduceat(product, begins, axis=-1) for product in products])
    correlations = _correlations(sums.sum(axis=-1))
    lag_min = _peak(correlations, lags)
    without = [_peak(_correlations(np.delete(sums, k, axis=-1).sum(axis=-1)), lags) for k in range(_STRETCHES)]
    correlation = float(np.nan_to_num(correlations, nan=-1.0).max())
    if np.isnan([lag_min, *without]).any() or correlation < _LEAST_CORRELATION:
        return GlucoseLag(float("nan"), float("nan"), correlation, n)
    error = float(np.sqrt((_STRETCHES - 1) * np.var(without)))
    return GlucoseLag(lag_min, error, correlation, n)


def _runs(states: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    """Return start, end and value of every run of equal values."""
    changes = np.flatnonzero(states[1:] != states[:-1]) + 1
    starts = np.concatenate([[0], changes])[: max(states.size, 1) if states.size else 0].astype(np.int64)
    ends = np.append(starts[1:], states.size).astype(np.int64)[: starts.size]
    return starts, ends, states[starts]


def _smoothed(values: _Floats, times_min: _Floats, step_min: float) -> tuple[_Floats, _Floats]:
    """Return a fine clock and the readings on it, joined by lines and smoothed by a Gaussian of their interval.

    A line between two noisy readings is quieter in its middle, which would draw the lag there; a Gaussian is
    as quiet everywhere. Unknown near the ends and near gaps of more than 15 min.
    """
    fine_min = np.arange(times_min[0], times_min[-1] + _STEP_MIN, _STEP_MIN)
    after = np.clip(np.searchsorted(times_min, fine_min), 1, times_min.size - 1)
    joined = np.interp(fine_min, times_min, values, right=np.nan)
    joined[times_min[after] - times_min[after - 1] > _LONGEST_JOIN_MIN] = np.nan
    smooth = ndimage.gaussian_filter1d(joined, step_min / _STEP_MIN, mode="constant", cval=np.nan, truncate=3.0)
    return fine_min, np.asarray(smooth, dtype=np.float64)


def _correlations(sums: _Floats) -> _Floats:
    """Return the correlation at every lag from n and sums of x, y, x**2, y**2 and xy; NaN without spread."""
    n, of_x, of_y, of_xx, of_yy, of_xy = sums
    spreads = (of_xx - of_x**2 / n) * (of_yy - of_y**2 / n)
    return np.asarray((of_xy - of_x * of_y / n) / np.sqrt(np.where(spreads > 1e-9 * n**2, spreads, np.nan)))


def _peak(correlations: _Floats, lags: _Floats) -> float:
    """Return the lag of the largest correlation, between lags by a parabola; NaN at the edge of the search."""
    if np.isnan(correlations).any():
        return float("nan")
    best = int(correlations.argmax())
    if best in (0, lags.size - 1):
        return float("nan")
    left, top, right = correlations[best - 1 : best + 2]
    bend = left - 2.0 * top + right
    return float(lags[best] + (0.5 * _STEP_MIN * (left - right) / bend if bend < 0.0 else 0.0))
