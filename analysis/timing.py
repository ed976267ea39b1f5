"""When samples were taken: rate, jitter and gaps of their times.

Times are UTC in ns. A gap is where two neighbours are farther apart than the clock alone explains; it counts
from the moment at which the next sample was due, so that recorded time and gaps add up to the whole.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive, as_times_ns

NS_PER_S: Final = 1_000_000_000
_GAP_PERIODS: Final = 1.5
"""A neighbour later than one and a half periods has at least one sample missing before it, if the clock jitters
by less than half a period."""


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
        else NS_PER_S / as_positive(rate_hz, name="rate_hz", unit="Hz")
    )
    before = np.flatnonzero(np.diff(times) > _GAP_PERIODS * period_ns)
    return np.column_stack([times[before] + round(period_ns), times[before + 1]])


def effective_rate_hz(times_ns: ArrayLike) -> float:
    """Return the samples per second of recorded time, gaps left out; NaN where fewer than two are together."""
    times = as_times_ns(times_ns, name="times_ns")
    steps_ns = np.diff(times)
    together = steps_ns[steps_ns <= _GAP_PERIODS * np.median(steps_ns)] if steps_ns.size else steps_ns
    total_ns = float(together.sum())
    return together.size / total_ns * NS_PER_S if total_ns > 0 else float("nan")


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
    return float(np.sqrt(residual @ residual / freedom)) / NS_PER_S
