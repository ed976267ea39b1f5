"""Equivalence by two one-sided tests: of the mean difference, and of the limits of agreement, within a margin.

Two one-sided tests at alpha say the same as an interval of 1 - 2 alpha inside the margin (Schuirmann 1987,
doi:10.1007/BF01068419). A mean difference inside a margin says nothing of single differences; for agreement ask
that both limits of agreement lie inside it, `limits_within`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.agreement import BlandAltman
from analysis.arrays import as_signal
from analysis.bootstrap import subject_numbers
from analysis.estimates import Figure, Interval, as_count, as_figure
from analysis.variance_components import one_way, sums_by_subject
from protocols.errors import SignalError

Floats = NDArray[np.float64]
Margin = float | tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Equivalence:
    """Two one-sided tests; floats, or arrays of shape (...) for several samples. NaN where there is no test.

    Parameters
    ----------
    difference
        Mean of test minus reference.
    interval
        Of 1 - 2 alpha.
    p
        The larger of `p_low` (that the difference is not above the lower margin) and `p_high`.
    freedom
        Degrees of freedom of the t tests.
    margin, alpha
        As asked for.
    n, n_excluded
        Differences (or values of both groups) used, and those left out because a value is missing.
    equivalent
        `p` below alpha; False where it is NaN.
    """

    difference: Figure
    interval: Interval
    p: Figure
    p_low: Figure
    p_high: Figure
    freedom: Figure
    margin: tuple[float, float]
    alpha: float
    n: Figure
    n_excluded: Figure
    equivalent: Figure


def tost(
    test: ArrayLike,
    reference: ArrayLike,
    *,
    margin: Margin,
    subject: ArrayLike | None = None,
    alpha: float = 0.05,
) -> Equivalence:
    """Return the two one-sided paired t tests of the mean difference.

    Parameters
    ----------
    test, reference
        Paired values, shape (..., n_pairs); a pair with a NaN is left out and counted.
    margin
        Largest difference that does not matter, in the unit of the pairs; or its lower and upper end.
    subject
        Whose pair it is, shape (n_pairs,); then the subjects' mean differences are tested, each counting once.
    alpha
        Of each test.

    Returns
    -------
    NaN below 2 differences, and where they are all equal: then nothing is known of their error.

    Raises
    ------
    SignalError
        If shapes differ, values are infinite, or the margin does not hold 0 inside or alpha is not in 0..0.5.
    """
    ends = _margin(margin, alpha)
    x = np.asarray(as_signal(test, name="test"), dtype=np.float64)
    y = np.asarray(as_signal(reference, name="reference"), dtype=np.float64)
    if x.shape != y.shape:
        raise SignalError(f"test of shape {x.shape}, reference {y.shape}, expected pairs")
    d = x - y
    present = np.isfinite(d)
    if subject is not None:
        numbers = subject_numbers(subject, d.shape[-1])
        counts = sums_by_subject(present.astype(np.float64), numbers)
        with np.errstate(invalid="ignore", divide="ignore"):
            d = sums_by_subject(np.where(present, d, 0.0), numbers) / counts
    found = one_way(d, np.arange(d.shape[-1]))
    freedom = np.where(found.n_values > 1, found.n_values - 1, np.nan)
    largest = np.maximum(np.nan_to_num(np.abs(x)), np.nan_to_num(np.abs(y))).max(axis=-1, initial=0.0)
    variance = _unless_equal(found.variance_of_means, largest)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(variance / found.n_values)
    return _tests(found.mean, error, freedom, ends, alpha, n=found.n_values, n_excluded=(~present).sum(axis=-1))


def tost_two_groups(
    test: ArrayLike,
    reference: ArrayLike,
    *,
    margin: Margin,
    equal_variances: bool = True,
    alpha: float = 0.05,
) -> Equivalence:
    """Return the two one-sided t tests of the difference of the means of two groups of different subjects.

    Parameters
    ----------
    test, reference
        Values of the groups, shapes (..., n_test) and (..., n_reference); NaN is left out and counted.
    margin, alpha
        As for `tost`.
    equal_variances
        Pool the variances (Student), or not (Welch, with Satterthwaite's degrees of freedom).

    Returns
    -------
    NaN below 2 values of a group, and where no value differs from its group's mean.
    """
    ends = _margin(margin, alpha)
    x = np.asarray(as_signal(test, name="test"), dtype=np.float64)
    y = np.asarray(as_signal(reference, name="reference"), dtype=np.float64)
    if x.shape[:-1] != y.shape[:-1]:
        raise SignalError(f"test of shape {x.shape}, reference {y.shape}, expected the same leading axes")
    of_x, of_y = (one_way(values, np.arange(values.shape[-1])) for values in (x, y))
    var_x = _unless_equal(of_x.variance_of_means, np.nan_to_num(np.abs(x)).max(axis=-1, initial=0.0), 0.0)
    var_y = _unless_equal(of_y.variance_of_means, np.nan_to_num(np.abs(y)).max(axis=-1, initial=0.0), 0.0)
    free_x, free_y = of_x.n_values - 1, of_y.n_values - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        if equal_variances:
            freedom = free_x + free_y
            pooled = (free_x * var_x + free_y * var_y) / freedom
            squared = pooled * (1.0 / of_x.n_values + 1.0 / of_y.n_values)
        else:
            part_x, part_y = var_x / of_x.n_values, var_y / of_y.n_values
            squared = part_x + part_y
            freedom = squared**2 / (part_x**2 / free_x + part_y**2 / free_y)
    error = np.sqrt(np.where(squared > 0, squared, np.nan))
    excluded = (~np.isfinite(x)).sum(axis=-1) + (~np.isfinite(y)).sum(axis=-1)
    n = of_x.n_values + of_y.n_values
    return _tests(of_x.mean - of_y.mean, error, freedom, ends, alpha, n=n, n_excluded=excluded)


def limits_within(limits: BlandAltman, margin: Margin) -> Figure:
    """Return whether the intervals of both limits of agreement lie inside the margin; False without intervals.

    The decision of Lu et al. 2016, doi:10.1515/ijb-2015-0039, with the interval that the design gives (exact
    for independent pairs, MOVER otherwise) for their approximate one. Each limit errs with (1 - level) / 2.

    Raises
    ------
    SignalError
        If the margin's lower end is not below its upper.
    """
    low, high = margin if isinstance(margin, tuple) else (-margin, margin)
    if not low < high:
        raise SignalError(f"margin={margin!r}, expected a number > 0, or a lower end below an upper one")
    within = (np.asarray(limits.lower_interval.low) > low) & (np.asarray(limits.upper_interval.high) < high)
    return bool(within) if within.ndim == 0 else within


def _margin(margin: Margin, alpha: float) -> tuple[float, float]:
    if not 0 < alpha < 0.5:
        raise SignalError(f"alpha={alpha!r}, expected above 0 and below 0.5")
    low, high = margin if isinstance(margin, tuple) else (-margin, margin)
    if not low < 0 < high:
        raise SignalError(f"margin={margin!r}, expected a number > 0, or ends on both sides of 0")
    return float(low), float(high)


def _unless_equal(variance: Floats, largest: Floats, instead: float = float("nan")) -> Floats:
    """Return the variance, unless it is what rounding leaves of equal values."""
    rounding = variance <= (8 * np.finfo(np.float64).eps * largest) ** 2
    return np.where(rounding, instead, variance)


def _tests(
    difference: Floats,
    error: Floats,
    freedom: Floats,
    margin: tuple[float, float],
    alpha: float,
    *,
    n: Floats,
    n_excluded: Floats,
) -> Equivalence:
    p_low = special.stdtr(freedom, -(difference - margin[0]) / error)
    p_high = special.stdtr(freedom, (difference - margin[1]) / error)
    p = np.maximum(p_low, p_high)
    reach = special.stdtrit(freedom, 1.0 - alpha) * error
    equivalent = np.asarray(p < alpha)
    return Equivalence(
        difference=as_figure(difference),
        interval=Interval(as_figure(difference - reach), as_figure(difference + reach)),
        p=as_figure(p),
        p_low=as_figure(p_low),
        p_high=as_figure(p_high),
        freedom=as_figure(freedom),
        margin=margin,
        alpha=alpha,
        n=as_count(n),
        n_excluded=as_count(n_excluded),
        equivalent=bool(equivalent) if equivalent.ndim == 0 else equivalent,
    )
