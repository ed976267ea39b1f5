"""Variability of glucose over time: amplitude of excursions, differences between and within days.

Figures are of one recording's `GlucoseGrid` (`adrr`: of its readings); a value the grid does not know takes no
part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive
from analysis.glucose import high_risk, low_risk, nan_sd
from analysis.glucose_grid import GlucoseGrid, as_readings
from protocols.errors import SignalError

SHORT_MEAN: Final = 5
"""Grid points of the short moving average of MAGE: Fernandes et al. 2022."""
LONG_MEAN: Final = 32
"""Grid points of the long moving average of MAGE: Fernandes et al. 2022."""
LONGEST_GAP_MIN: Final = 180
"""A longer gap splits the trace for MAGE: Fernandes et al. 2022."""

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DailySds:
    """Standard deviations in mg/dL after Rodbard 2009, doi:10.1089/dia.2009.0015.

    Parameters
    ----------
    within_days
        Mean of the SD of each day (SDw).
    between_times
        SD of the mean profile of a day (SDhh:mm).
    within_hours
        Mean of the SD of each hour, beginning at every grid point (SDws 1).
    between_days
        SD of the daily means (SDdm).
    same_time
        Mean over times of day of the SD across days (SDb).
    same_time_corrected
        The same once the daily mean was taken off (SDb // dm).
    """

    within_days: float
    between_times: float
    within_hours: float
    between_days: float
    same_time: float
    same_time_corrected: float


def mage_mgdl(
    grid: GlucoseGrid,
    *,
    direction: Literal["average", "service", "max", "plus", "minus"] = "average",
    short_mean: int = SHORT_MEAN,
    long_mean: int = LONG_MEAN,
) -> float:
    """Return the mean amplitude of glycaemic excursions in mg/dL.

    Parameters
    ----------
    grid
        At 5 min, for which the lengths of the means were chosen.
    direction
        Mean of rises (plus), of falls (minus), of both figures (average), the larger of them (max), or the one
        whose direction passes one SD first (service).
    short_mean, long_mean
        Lengths of the moving averages, in grid points.

    Returns
    -------
    Mean over the parts of the trace between gaps longer than 3 h, weighted by length. NaN without an excursion.

    References
    ----------
    Service et al. 1970, doi:10.2337/diab.19.9.644. Fernandes et al. 2022, doi:10.1177/19322968211061165:
    turning points between the crossings of two moving averages; an excursion counts if its rise and its fall
    are larger than the SD of the trace. Written from the published description, which leaves details open; how
    near it comes to published figures is in `docs/signals/glucose.md`.
    """
    if not 1 <= short_mean < long_mean:
        raise SignalError(f"short_mean={short_mean}, long_mean={long_mean}, expected 1 <= short < long")
    series = grid.series_mgdl
    amplitudes, weights = [], []
    for start, end in _parts(np.isfinite(series), LONGEST_GAP_MIN // grid.step_min):  # a part is days long
        part = series[start:end]
        amplitude = _mage_of_part(part, direction, short_mean, long_mean)
        if np.isfinite(amplitude):
            amplitudes.append(amplitude)
            weights.append(part.size)
    return float(np.average(amplitudes, weights=weights)) if amplitudes else float("nan")


def modd_mgdl(grid: GlucoseGrid, *, lag_days: int = 1) -> float:
    """Return the mean of daily differences in mg/dL: Molnar et al. 1972, doi:10.1007/BF01218495."""
    if lag_days < 1:
        raise SignalError(f"lag_days={lag_days}, expected at least 1")
    return _mean(np.abs(_differences(grid, lag_days * 1440)))


def conga_mgdl(grid: GlucoseGrid, *, hours: float = 24.0) -> float:
    """Return the SD (n - 1) of differences between values `hours` apart, in mg/dL.

    References
    ----------
    McDonnell et al. 2005, doi:10.1089/dia.2005.7.253 (1, 2 and 4 h); 24 h is the default of iglu.
    """
    return float(nan_sd(_differences(grid, 60.0 * as_positive(hours, name="hours", unit="h"))))


def mag_mgdl_per_h(grid: GlucoseGrid) -> float:
    """Return the mean absolute change in mg/dL per hour, over the time that neighbouring grid points cover.

    References
    ----------
    Hermanides et al. 2010, doi:10.1097/CCM.0b013e3181cc4be9.
    """
    return 60.0 / grid.step_min * _mean(np.abs(np.diff(grid.series_mgdl)))


def gvp_percent(grid: GlucoseGrid) -> float:
    """Return by how much the trace is longer than a flat one, in percent: Peyser et al. 2018.

    doi:10.1089/dia.2017.0187; a minute counts as long as 1 mg/dL.
    """
    lengths = np.hypot(np.diff(grid.series_mgdl), grid.step_min)
    return 100.0 * (_mean(lengths) / grid.step_min - 1.0)


def auc_mgdl_h_per_h(grid: GlucoseGrid) -> float:
    """Return the area under the curve per hour by the trapezoidal rule, in mg/dL.

    Danne et al. 2017, doi:10.2337/dc17-1600; over the time that is covered by neighbouring grid points.
    """
    series = grid.series_mgdl
    return _mean((series[1:] + series[:-1]) / 2.0)


def adrr(glucose_mgdl: ArrayLike, *, times_ns: ArrayLike, utc_offset_min: float = 0.0) -> float:
    """Return the average daily risk range of readings, shape (n,): the mean over local days.

    References
    ----------
    Kovatchev et al. 2006, doi:10.2337/dc06-1085: the highest high risk plus the highest low risk of a day (see
    `hbgi` and `lbgi`; 0 for a side without a reading). Of the readings themselves, not of a grid.
    """
    values, times = as_readings(glucose_mgdl, times_ns=times_ns)
    if values.size == 0:
        return float("nan")
    local_ns = times + round(utc_offset_min * 60e9)
    _, begins = np.unique(local_ns // 86_400_000_000_000, return_index=True)
    risks = (np.maximum.reduceat(risk(values), begins) for risk in (high_risk, low_risk))
    return float(np.mean(sum(risks)))


def rates_mgdl_per_min(grid: GlucoseGrid, *, over_min: float = 15.0) -> _Floats:
    """Return the rate of change over the last `over_min`, for every grid point, NaN where unknown."""
    lag = round(as_positive(over_min, name="over_min", unit="min") / grid.step_min)
    rates = np.full(grid.series_mgdl.size, np.nan)
    if 1 <= lag < rates.size:
        rates[lag:] = (grid.series_mgdl[lag:] - grid.series_mgdl[:-lag]) / (lag * grid.step_min)
    return rates


def sd_of_rates_mgdl_per_min(grid: GlucoseGrid, *, over_min: float = 15.0) -> float:
    """Return the SD (n - 1) of the rates of change: Clarke & Kovatchev 2009, doi:10.1089/dia.2008.0138."""
    return float(nan_sd(rates_mgdl_per_min(grid, over_min=over_min)))


def daily_sds(grid: GlucoseGrid) -> DailySds:
    """Return the standard deviations within and between days."""
    days = grid.glucose_mgdl
    means = _means(days)
    hour = max(2, round(60 / grid.step_min))
    hours = np.lib.stride_tricks.sliding_window_view(grid.series_mgdl, hour) if days.size >= hour else days[:0]
    return DailySds(
        within_days=_mean(nan_sd(days)),
        between_times=float(nan_sd(_means(days.T))),
        within_hours=_mean(nan_sd(hours[np.isfinite(hours).all(axis=-1)])),
        between_days=float(nan_sd(means)),
        same_time=_mean(nan_sd(days.T)),
        same_time_corrected=_mean(nan_sd((days - means[:, np.newaxis]).T)),
    )


def daily_cvs_percent(grid: GlucoseGrid) -> tuple[float, float]:
    """Return mean and SD (n - 1) of the days' coefficients of variation, in percent."""
    cvs = 100.0 * nan_sd(grid.glucose_mgdl) / _means(grid.glucose_mgdl)
    return _mean(cvs), float(nan_sd(cvs))


def _mean(values: _Floats) -> float:
    present = values[np.isfinite(values)]
    return float(present.mean()) if present.size else float("nan")


def _means(rows: _Floats) -> _Floats:
    n = np.isfinite(rows).sum(axis=-1)
    return np.asarray(np.nansum(rows, axis=-1) / np.where(n > 0, n, np.nan))


def _differences(grid: GlucoseGrid, apart_min: float) -> _Floats:
    lag = round(apart_min / grid.step_min)
    series = grid.series_mgdl
    return series[lag:] - series[:-lag] if 1 <= lag < series.size else np.empty(0)


def _parts(known: NDArray[np.bool_], longest_gap: int) -> list[tuple[int, int]]:
    """Return `[start, end)` of the parts that begin and end with a known value and hold no longer gap."""
    places = np.flatnonzero(known)
    if places.size == 0:
        return []
    breaks = np.flatnonzero(np.diff(places) - 1 > longest_gap)
    starts, ends = np.append(places[0], places[breaks + 1]), np.append(places[breaks], places[-1])
    return [(int(start), int(end) + 1) for start, end in zip(starts, ends, strict=True)]


def _mage_of_part(part: _Floats, direction: str, short_mean: int, long_mean: int) -> float:
    known = part[np.isfinite(part)]
    if known.size < long_mean:
        return float("nan")
    turns, first_is_peak = _turning_points(known, short_mean, long_mean)
    heights = known[turns]
    sd = float(known.std(ddof=1))
    rises, first_rise = _excursions(heights if not first_is_peak else heights[1:], sd)
    falls, first_fall = _excursions(-(heights if first_is_peak else heights[1:]), sd)
    plus, minus = (float(np.mean(sizes)) if sizes else float("nan") for sizes in (rises, falls))
    if direction == "plus":
        return plus
    if direction == "minus":
        return minus
    both = [size for size in (plus, minus) if np.isfinite(size)]
    if not both:
        return float("nan")
    if direction == "service":
        rise_first = first_rise + first_is_peak <= first_fall + (not first_is_peak)
        return plus if rise_first or not falls else minus
    return max(both) if direction == "max" else float(np.mean(both))


def _turning_points(values: _Floats, short_mean: int, long_mean: int) -> tuple[list[int], bool]:
    """Return where alternating peaks and nadirs are, and whether the first is a peak."""
    difference = _trailing_mean(values, short_mean) - _trailing_mean(values, long_mean)
    above = difference > 0.0
    crossings = np.flatnonzero(above[1:] != above[:-1]) + 1
    bounds = np.concatenate([[0], crossings, [values.size - 1]])
    first_is_peak = bool(above[int(crossings[0]) - 1]) if crossings.size else bool(difference[-1] > 0.0)
    turns: list[int] = []
    for k in range(bounds.size - 1):  # crossings, a few a day; each search begins at the point found before
        start = turns[-1] + 1 if turns else int(bounds[k])
        stretch = values[start : int(bounds[k + 1]) + 1]
        if stretch.size:
            is_peak = first_is_peak == (len(turns) % 2 == 0)
            turns.append(start + int(stretch.argmax() if is_peak else stretch.argmin()))
    return turns, first_is_peak


def _trailing_mean(values: _Floats, width: int) -> _Floats:
    """Return the mean of the last `width` values; the first that is whole stands for those before it."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    means = (sums[width:] - sums[:-width]) / width
    return np.concatenate([np.full(width - 1, means[0]), means])


def _excursions(heights: _Floats, sd: float) -> tuple[list[float], int]:
    """Return the rises above `sd` that a fall above `sd` or the end follows, and where the first one is.

    `heights` alternate, a nadir first. A rise takes in smaller waves on its way; so does a fall.
    """
    sizes: list[float] = []
    first = heights.size
    low, high, rising = 0, -1, False
    for k in range(heights.size):  # turning points, some tens a day
        if not rising:
            if heights[k] <= heights[low]:
                low = k
            elif heights[k] - heights[low] > sd:
                high, rising = k, True
                first = min(first, k)
        elif heights[k] >= heights[high]:
            high = k
        elif heights[high] - heights[k] > sd:
            sizes.append(float(heights[high] - heights[low]))
            low, rising = k, False
    if rising:
        sizes.append(float(heights[high] - heights[low]))
    return sizes, first
