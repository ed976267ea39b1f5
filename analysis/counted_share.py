"""A share that was counted, in percent, with its exact interval and bounds, as limits of accuracy need it."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.proportions import clopper_pearson


@dataclass(frozen=True, slots=True)
class CountedShare:
    """How many of n, in percent, with exact (Clopper-Pearson) bounds that take the n for independent.

    Parameters
    ----------
    count, n
        Of how many, and how many were judged.
    excluded
        Left out because a value is missing.
    percent
        NaN where n is 0, like the bounds.
    low_percent, high_percent
        Two-sided interval at `level`.
    lower_bound_percent, upper_bound_percent
        One-sided bounds at `level`, each by itself.
    """

    count: int
    n: int
    excluded: int
    percent: float
    low_percent: float
    high_percent: float
    lower_bound_percent: float
    upper_bound_percent: float
    level: float


def counted_share(count: int, n: int, *, excluded: int = 0, level: float = 0.95) -> CountedShare:
    """Return `count` of `n` in percent, with exact bounds.

    Raises
    ------
    SignalError
        If the count is below 0 or above n, or the level is not between 0 and 1.
    """
    low, high = clopper_pearson(count, n, level=level)
    lower, _ = clopper_pearson(count, n, level=level, side="lower")
    _, upper = clopper_pearson(count, n, level=level, side="upper")
    return CountedShare(
        count=count,
        n=n,
        excluded=excluded,
        percent=100.0 * count / n if n else float("nan"),
        low_percent=100.0 * float(low),
        high_percent=100.0 * float(high),
        lower_bound_percent=100.0 * float(lower),
        upper_bound_percent=100.0 * float(upper),
        level=level,
    )
