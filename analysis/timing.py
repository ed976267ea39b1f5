"""When samples were taken: rate, jitter and gaps of their times, and values brought to a common clock.

Times are UTC in ns. A gap is where two neighbours are farther apart than the clock alone explains; it counts
from the moment at which the next sample was due, so that recorded time and gaps add up to the whole.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import signal

from analysis.arrays import as_positive, as_signal, as_times_ns
from protocols.errors import SignalError

_NS_PER_S: Final = 1_000_000_000
_GAP_PERIODS: Final = 1.5
"""A neighbour later than one and a half periods has at least one sample missing before it, if the clock jitters
by less than half a period."""
_ANTI_ALIAS_ORDER: Final = 4
_ANTI_ALIAS_SHARE: Final = (
    0.4  # of the new rate: a Butterworth of 4th order, run twice, is 20 dB down at half of it
)


def nominal_period_ns(times_ns: ArrayLike) -> float:
    """Return the median distance of neighbours in ns, which gaps do not move; NaN below two samples."""
    times = as_times_ns(times_ns, name="times_ns")
    return float(np.median(np.diff(times))) if times.size > 1 else float("nan")


def find_gaps(times_ns: ArrayLike, *, rate_hz: float | None = None) -> NDArray[np.int64]:
    """Return where samples are missing, as half-open intervals of ns, shape (n_gaps, 2).

    Parameters
    ----------
    times_ns
        UTC of the samples, ascending, shape (n,).
    rate_hz
        Nominal rate; None for the median of what is there.

    Raises
    ------
    SignalError
        If times go back or the rate is not above 0.
    """
    times = as_times_ns(times_ns, name="times_ns")
    if times.size < 2:
        return np.empty((0, 2), dtype=np.int64)
    period_ns = (
        nominal_period_ns(times)
        if rate_hz is None
        else _NS_PER_S / as_positive(rate_hz, name="rate_hz", unit="Hz")
    )
    before = np.flatnonzero(np.diff(times) > _GAP_PERIODS * period_ns)
    return np.column_stack([times[before] + round(period_ns), times[before + 1]])


def effective_rate_hz(times_ns: ArrayLike) -> float:
    """Return the samples per second of recorded time, gaps left out; NaN where fewer than two are together."""
    times = as_times_ns(times_ns, name="times_ns")
    steps_ns = np.diff(times)
    together = steps_ns[steps_ns <= _GAP_PERIODS * np.median(steps_ns)] if steps_ns.size else steps_ns
    total_ns = float(together.sum())
    return together.size / total_ns * _NS_PER_S if total_ns > 0 else float("nan")


def jitter_s(times_ns: ArrayLike) -> float:
    """Return how far samples are from an even clock: root mean square distance from a straight line, in s.

    The line is fitted to each stretch between gaps, all with one rate; NaN below three samples.
    """
    times = as_times_ns(times_ns, name="times_ns")
    if times.size < 3:
        return float("nan")
    steps_ns = np.diff(times)
    stretch = np.concatenate([[0], np.cumsum(steps_ns > _GAP_PERIODS * np.median(steps_ns))])
    counts = np.bincount(stretch).astype(np.float64)
    since_ns = (times - times[0]).astype(np.float64)
    index = np.arange(times.size, dtype=np.float64)
    index -= (np.bincount(stretch, weights=index) / counts)[stretch]
    since_ns -= (np.bincount(stretch, weights=since_ns) / counts)[stretch]
    power = float(index @ index)
    freedom = times.size - counts.size - 1
    if power == 0.0 or freedom < 1 or times[0] == times[-1]:
        return float("nan")
    residual = since_ns - index * (float(index @ since_ns) / power)
    return float(np.sqrt(residual @ residual / freedom)) / _NS_PER_S


def resample_to_clock(
    values: ArrayLike,
    times_ns: ArrayLike,
    *,
    start_ns: int,
    rate_hz: float,
    n_samples: int,
    longest_gap_s: float,
) -> NDArray[np.float64]:
    """Return values on an even clock, by linear interpolation.

    Where the clock is slower than the samples, they are low-passed first (zero phase, 4th-order Butterworth at
    0.4 of the new rate), so that nothing folds down.

    Parameters
    ----------
    values
        Shape (..., n); NaN marks missing samples.
    times_ns
        UTC of the samples, ascending, shape (n,).
    start_ns, rate_hz, n_samples
        The clock: `n_samples` from `start_ns` on.
    longest_gap_s
        Neighbours farther apart than that are not joined.

    Returns
    -------
    Shape (..., n_samples); NaN before the first sample, after the last, and in gaps.

    Raises
    ------
    SignalError
        If there are not as many times as samples, times go back, or a parameter is not above 0.
    """
    array = np.asarray(as_signal(values, name="values"), dtype=np.float64)
    times = as_times_ns(times_ns, name="times_ns")
    if array.shape[-1] != times.size:
        raise SignalError(f"{array.shape[-1]} values at {times.size} times, expected as many")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    longest_ns = as_positive(longest_gap_s, name="longest_gap_s", unit="s") * _NS_PER_S
    clock_ns = np.rint(np.arange(n_samples) * (_NS_PER_S / rate_hz)).astype(np.int64) + (
        start_ns - _origin(times)
    )
    rows = array.reshape(math.prod(array.shape[:-1]), times.size)
    resampled = np.full((rows.shape[0], n_samples), np.nan)
    for row, out in zip(rows, resampled, strict=True):  # channels, each with samples missing elsewhere
        present = np.isfinite(row)
        if present.any():
            out[:] = _interpolated(row[present], times[present] - _origin(times), clock_ns, rate_hz, longest_ns)
    return resampled.reshape(*array.shape[:-1], n_samples)


def _origin(times: NDArray[np.int64]) -> int:
    """Return what is subtracted from times before they become floats, which hold a day of ns exactly."""
    return int(times[0]) if times.size else 0


def _interpolated(
    values: NDArray[np.float64],
    times: NDArray[np.int64],
    clock_ns: NDArray[np.int64],
    rate_hz: float,
    longest_ns: float,
) -> NDArray[np.float64]:
    steps_ns = np.diff(times)
    own_rate_hz = (
        _NS_PER_S / float(np.median(steps_ns)) if steps_ns.size and np.median(steps_ns) > 0 else rate_hz
    )
    if _ANTI_ALIAS_SHARE * rate_hz < 0.5 * own_rate_hz:
        values = _low_passed(values, np.flatnonzero(steps_ns > longest_ns) + 1, rate_hz, own_rate_hz)
    result = np.interp(clock_ns, times, values, left=np.nan, right=np.nan)
    after = np.searchsorted(times, clock_ns)
    inside = (after > 0) & (after < times.size)
    apart = np.zeros(clock_ns.size, dtype=bool)
    apart[inside] = (steps_ns[after[inside] - 1] > longest_ns) & (times[after[inside]] != clock_ns[inside])
    result[apart] = np.nan
    return np.asarray(result)


def _low_passed(
    values: NDArray[np.float64], cuts: NDArray[np.intp], rate_hz: float, own_rate_hz: float
) -> NDArray[np.float64]:
    """Return values without what a slower clock cannot hold, each stretch between gaps by itself."""
    sections = signal.butter(_ANTI_ALIAS_ORDER, _ANTI_ALIAS_SHARE * rate_hz, fs=own_rate_hz, output="sos")
    padding = 3 * (2 * len(sections) + 1)
    stretches = [
        signal.sosfiltfilt(sections, stretch) if stretch.size > padding else stretch
        for stretch in np.split(values, cuts)
    ]
    return np.concatenate(stretches)
