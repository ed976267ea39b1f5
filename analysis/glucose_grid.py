"""Readings of a glucose sensor as figures need them: checked, and at even times of day.

`daily_grid` runs from midnight to midnight in local time, at the sensor's own interval, interpolated on a
straight line between readings at most 45 min apart: the rule of the iglu package, Broll et al. 2021,
doi:10.1371/journal.pone.0248560.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive, as_series, as_signal, as_times_ns
from protocols.errors import SignalError

LONGEST_GAP_MIN: Final = 45.0
"""Readings further apart are not joined; Broll et al. 2021."""

_LARGEST_MGDL: Final = 2000.0  # no meter reads more than 1,000; above, the unit is wrong
_MINUTE_NS: Final = 60_000_000_000
_DAY_MIN: Final = 1440

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class GlucoseGrid:
    """Readings at even times.

    Parameters
    ----------
    glucose_mgdl
        Shape (n_days, n_times), NaN where nothing is known. Column k stands for (k + 1) `step_min` after local
        midnight.
    step_min
        A whole number of minutes.
    first_midnight_ns
        UTC of the local midnight at which the first row begins.
    """

    glucose_mgdl: _Floats
    step_min: int
    first_midnight_ns: int

    @property
    def series_mgdl(self) -> _Floats:
        """All days one after the other, shape (n_days * n_times,)."""
        return np.asarray(self.glucose_mgdl.reshape(-1))


def daily_grid(
    glucose_mgdl: ArrayLike,
    *,
    times_ns: ArrayLike,
    utc_offset_min: float = 0.0,
    step_min: int | None = None,
    longest_gap_min: float = LONGEST_GAP_MIN,
) -> GlucoseGrid:
    """Return one recording at even times of day.

    Parameters
    ----------
    glucose_mgdl, times_ns
        Readings, shape (n,), NaN where missing, and their UTC.
    utc_offset_min
        Local time less UTC; one for the whole recording.
    step_min
        Divides a day; without it, the median interval of the readings in whole minutes.
    longest_gap_min
        Readings further apart than this are not joined.

    Raises
    ------
    SignalError
        If shapes differ, times go back, values are no glucose, or the step does not divide a day.
    """
    values, times = as_readings(glucose_mgdl, times_ns=times_ns)
    longest_gap_min = as_positive(longest_gap_min, name="longest_gap_min", unit="min")
    if step_min is None:
        step_min = step_of(times) if values.size > 1 else 5
    if step_min < 1 or _DAY_MIN % step_min:
        raise SignalError(f"step_min={step_min!r}, expected whole minutes that divide a day")
    n_times = _DAY_MIN // step_min
    if values.size == 0:
        return GlucoseGrid(np.empty((0, n_times)), step_min, 0)
    offset_ns = round(utc_offset_min * _MINUTE_NS)
    day_ns = _DAY_MIN * _MINUTE_NS
    first_day = (int(times[0]) + offset_ns) // day_ns
    n_days = (int(times[-1]) + offset_ns) // day_ns - first_day + 1
    midnight_ns = int(first_day * day_ns - offset_ns)
    at_min = (times - midnight_ns) / _MINUTE_NS
    grid_min = np.arange(1, n_days * n_times + 1) * float(step_min)
    series = np.interp(grid_min, at_min, values, left=np.nan, right=np.nan)
    for gap in np.flatnonzero(np.diff(at_min) > longest_gap_min):  # gaps, not readings
        series[(grid_min > at_min[gap]) & (grid_min < at_min[gap + 1])] = np.nan
    return GlucoseGrid(series.reshape(n_days, n_times), step_min, midnight_ns)


def as_glucose_mgdl(glucose_mgdl: ArrayLike) -> _Floats:
    """Return glucose in mg/dL as float64, shape (..., n), NaN where missing.

    Raises
    ------
    SignalError
        If there is no time axis, or a value is infinite, not above 0 or above 2,000.
    """
    values = np.asarray(as_signal(glucose_mgdl, name="glucose_mgdl"), dtype=np.float64)
    if values.size:
        least, largest = float(np.fmin.reduce(values, axis=None)), float(np.fmax.reduce(values, axis=None))
        if least <= 0.0 or largest > _LARGEST_MGDL:
            raise SignalError(f"glucose_mgdl from {least:g} to {largest:g}, expected mg/dL above 0, to 2000")
    return values


def as_readings(glucose_mgdl: ArrayLike, *, times_ns: ArrayLike) -> tuple[_Floats, NDArray[np.int64]]:
    """Return the readings that are there and their times, one for each time (the first); see `daily_grid`."""
    values = as_glucose_mgdl(as_series(glucose_mgdl, name="glucose_mgdl"))
    times = as_times_ns(times_ns, name="times_ns")
    if values.size != times.size:
        raise SignalError(f"{values.size} readings at {times.size} times, expected as many")
    present = np.isfinite(values)
    values, times = values[present], times[present]
    first = np.diff(times, prepend=times[:1] - 1) > 0
    return values[first], times[first]


def step_of(times_ns: NDArray[np.int64]) -> int:
    """Return the median interval in whole minutes, at least 1, brought to the nearest divisor of a day."""
    median_min = max(1.0, float(np.median(np.diff(times_ns))) / _MINUTE_NS)
    divisors = [step for step in range(1, _DAY_MIN + 1) if _DAY_MIN % step == 0]
    return min(divisors, key=lambda step: abs(step - median_min))
