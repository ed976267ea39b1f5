"""Root mean square error of a device against its reference (Arms of pulse oximetry), with its interval.

It holds bias and spread together, sqrt(mean d^2), so it is no standard deviation. Its interval comes from a
bootstrap of the subjects, or from normal differences with variance components:

With m_i pairs of subject i, s_b^2 and s_w^2 the variances between and within subjects and s^2 their sum, the
mean square of N differences d_ij = bias + b_i + e_ij has the expectation bias^2 + s^2 and the variance

    sum_i [2 (m_i s^4 + m_i (m_i - 1) s_b^4) + 4 bias^2 (m_i s^2 + m_i (m_i - 1) s_b^2)] / N^2.

Taken as a multiple of a chi-square with the same two moments (Satterthwaite 1946, doi:10.2307/3002019), it has
twice its squared expectation over its variance as degrees of freedom.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.arrays import as_series
from analysis.bootstrap import percentile_interval, resampled_sums, subject_numbers
from analysis.estimates import Estimate, as_share
from analysis.variance_components import OneWay, one_way
from protocols.errors import SignalError

Floats = NDArray[np.float64]

METHODS: Final = ("analytic", "bootstrap")


def rms_error(
    test: ArrayLike,
    reference: ArrayLike,
    *,
    subject: ArrayLike | None = None,
    method: str = "analytic",
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Return the root mean square error, with its interval.

    Parameters
    ----------
    test, reference
        Paired values, shape (n_pairs,); a pair with a NaN is left out and counted.
    subject
        Whose pair it is; without it every pair is of another subject.
    method
        `analytic`, normal differences as the module explains; `bootstrap` of the subjects, percentiles.
    level
        Confidence level of the interval.
    replicates, seed
        Of the bootstrap.

    Returns
    -------
    NaN without a pair; no interval below 2 subjects or where all differences are equal. `details` holds `bias`,
    `sd` (about the bias, divisor n - 1), `n_subjects`, `n_excluded` and, for the analytic interval, `freedom`.

    Raises
    ------
    SignalError
        If shapes differ, values are infinite, or an option is unknown.

    Notes
    -----
    Percentile intervals of few subjects are too narrow: of 10 subjects, one of 95 % covers about 87 %.
    """
    as_share(level, name="level")
    if method not in METHODS:
        raise SignalError(f"method={method!r}, expected one of {', '.join(METHODS)}")
    x, y = as_series(test, name="test"), as_series(reference, name="reference")
    if x.shape != y.shape:
        raise SignalError(f"{x.size} test values for {y.size} of the reference, expected pairs")
    numbers = np.arange(x.size) if subject is None else subject_numbers(subject, x.size)
    present = np.isfinite(x) & np.isfinite(y)
    d = (x - y)[present]
    numbers = np.unique(numbers[present], return_inverse=True)[1]
    n_subjects = int(numbers.max(initial=-1)) + 1
    value = float(np.sqrt((d**2).mean())) if d.size else float("nan")
    details = {
        "bias": float(d.mean()) if d.size else float("nan"),
        "sd": float(d.std(ddof=1)) if d.size > 1 else float("nan"),
        "n_subjects": float(n_subjects),
        "n_excluded": float((~present).sum()),
    }
    if n_subjects < 2:
        return Estimate(value, d.size, method="no interval: fewer than 2 subjects", details=details)
    if np.ptp(d) <= 8 * np.finfo(np.float64).eps * max(np.abs(x[present]).max(), np.abs(y[present]).max()):
        return Estimate(value, d.size, method="no interval: all differences are equal", details=details)
    if method == "analytic":
        freedom = _freedom(one_way(d, numbers))
        details["freedom"] = freedom
        low = value * float(np.sqrt(freedom / special.chdtri(freedom, 0.5 - 0.5 * level)))
        high = value * float(np.sqrt(freedom / special.chdtri(freedom, 0.5 + 0.5 * level)))
        how = f"chi-square with {freedom:.4g} degrees of freedom, {n_subjects} subjects"
    else:
        n, squares = resampled_sums(
            np.stack([np.ones_like(d), d**2]), numbers, replicates=replicates, seed=seed
        )
        low, high = percentile_interval(np.sqrt(squares / n), level)
        how = f"percentile bootstrap of {n_subjects} subjects with all their pairs"
        how += f", {replicates} replicates, seed {seed}"
    return Estimate(value, d.size, low, high, level, method=how, details=details)


def mean_square_freedom(
    *, squared_bias: float, between: float, within: float, pairs: float, sum_squared_sizes: float
) -> float:
    """Return the degrees of freedom of the mean square of differences.

    Parameters
    ----------
    squared_bias
        Square of the mean difference.
    between, within
        Variances between and within subjects.
    pairs, sum_squared_sizes
        Number of pairs, and sum over subjects of the square of theirs.
    """
    total = between + within
    twins = sum_squared_sizes - pairs
    of_spread = pairs * total**2 + twins * between**2
    of_bias = squared_bias * (pairs * total + twins * between)
    return (squared_bias + total) ** 2 * pairs**2 / (of_spread + 2 * of_bias)


def _freedom(found: OneWay) -> float:
    replicated = float(found.n_values) > float(found.n_subjects)
    within = float(found.within) if replicated else float(found.between)
    between = max(0.0, float(found.between_component)) if replicated else 0.0
    pairs, squared = float(found.n_values), float(found.sum_squared_sizes)
    # the squared bias is taken without what chance adds to it
    error = (between * squared / pairs + within) / pairs
    squared_bias = max(0.0, float(found.mean) ** 2 - error)
    return mean_square_freedom(
        squared_bias=squared_bias, between=between, within=within, pairs=pairs, sum_squared_sizes=squared
    )
