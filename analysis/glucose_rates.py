"""Rates of change of glucose at given moments, from whatever readings there are: every 5 min or every 15."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive, as_times_ns
from analysis.glucose_grid import as_readings
from protocols.errors import SignalError

RATE_OVER_MIN: Final = 15.0
"""Blood is drawn every 15 min in studies of sensors, and three intervals of a sensor make it (lab)."""

_SLACK_MIN: Final = 2.0  # draws are not on time to the minute
_LATEST_MIN: Final = 5.0  # one interval of a sensor: an older reading tells of another moment
_LEAST_SHARE: Final = 2 / 3  # of the time that the readings have to span
_MOST_AT_ONCE: Final = 1 << 22  # readings looked at together: 32 MB an array
_MINUTE_NS: Final = 60_000_000_000

_Floats: TypeAlias = NDArray[np.float64]


def rates_at_mgdl_per_min(
    glucose_mgdl: ArrayLike, *, times_ns: ArrayLike, at_ns: ArrayLike, over_min: float = RATE_OVER_MIN
) -> _Floats:
    """Return by how much glucose was changing up to given moments, in mg/dL per min.

    It is the slope of the least-squares line through the readings of the last `over_min` (and 2 min more, as
    draws are not punctual), the moment itself included.

    Parameters
    ----------
    glucose_mgdl, times_ns
        Readings of one recording, shape (n,), NaN where missing, and their UTC.
    at_ns
        Moments, shape (m,).
    over_min
        Time that the line is drawn over.

    Returns
    -------
    Shape (m,). NaN where there are fewer than 2 readings, where they span less than two thirds of `over_min`,
    or where the last one is more than 5 min old.

    Raises
    ------
    SignalError
        If shapes differ, times go back, values are no glucose, or `over_min` is not above 0.
    """
    over_min = as_positive(over_min, name="over_min", unit="min")
    values, times = as_readings(glucose_mgdl, times_ns=times_ns)
    moments = np.asarray(at_ns)
    if moments.ndim != 1:
        raise SignalError(f"at_ns of shape {moments.shape}, expected (m,)")
    moments = as_times_ns(np.sort(moments), name="at_ns")[np.argsort(np.argsort(moments, kind="stable"))]
    rates = np.full(moments.size, np.nan)
    if values.size < 2:
        return rates
    begins = np.searchsorted(times, moments - round((over_min + _SLACK_MIN) * _MINUTE_NS), side="left")
    ends = np.searchsorted(times, moments, side="right")
    block = max(1, _MOST_AT_ONCE // max(1, int((ends - begins).max(initial=0))))
    # a Python loop over blocks of moments, so that memory does not grow with their number
    for start in range(0, moments.size, block):
        part = slice(start, start + block)
        rates[part] = _slopes(values, times, moments[part], begins[part], ends[part], over_min)
    return rates


def _slopes(
    values: _Floats,
    times: NDArray[np.int64],
    moments: NDArray[np.int64],
    begins: NDArray[np.intp],
    ends: NDArray[np.intp],
    over_min: float,
) -> _Floats:
    """Return the slope of the readings from `begins` to `ends` of each moment."""
    width = int((ends - begins).max(initial=0))
    places = begins[:, None] + np.arange(width)
    inside = places < ends[:, None]
    places = np.minimum(places, values.size - 1)
    ago_min = np.where(inside, (times[places] - moments[:, None]) / _MINUTE_NS, 0.0)
    glucose = np.where(inside, values[places], 0.0)
    n = inside.sum(axis=1)
    safe = np.maximum(n, 1)[:, None]
    x = np.where(inside, ago_min - ago_min.sum(axis=1, keepdims=True) / safe, 0.0)
    y = np.where(inside, glucose - glucose.sum(axis=1, keepdims=True) / safe, 0.0)
    last = np.maximum(ends - 1, 0)
    span_min = (times[last] - times[np.minimum(begins, values.size - 1)]) / _MINUTE_NS
    old = moments - times[last] > round(_LATEST_MIN * _MINUTE_NS)
    told = (n >= 2) & ~old & (span_min >= _LEAST_SHARE * over_min)
    spread = (x * x).sum(axis=1)
    return np.asarray((x * y).sum(axis=1) / np.where(told & (spread > 0.0), spread, np.nan))
