"""How many pairs or subjects a study needs: for limits of agreement, bias, Arms, and shares of errors.

Each sample size is the smallest that reaches the wanted power or precision; tables that round the power to the
nearest may have one less.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from analysis.arrays import as_positive
from analysis.estimates import as_share
from analysis.limit_intervals import exact_factors
from analysis.rms_error import mean_square_interval
from analysis.variance_components import OneWay
from protocols.errors import SignalError

Floats = NDArray[np.float64]

METHODS: Final = ("lu", "exact")

_MOST: Final = 10_000_000
"""Where a search gives up: no study of this kind is larger."""
_SOBOL_POINTS: Final = 4096
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


def limits_power(
    n: ArrayLike,
    *,
    bias: float,
    sd: float,
    margin: float,
    coverage: float = 0.95,
    level: float = 0.95,
    method: str = "lu",
) -> Floats:
    """Return how probably the intervals of both limits of agreement lie inside -+ `margin`.

    Parameters
    ----------
    n
        Independent pairs, shape (...); NaN below 3.
    bias, sd
        True mean and standard deviation of the differences.
    margin
        In their unit.
    coverage, level
        Of the limits, and of the intervals of each.
    method
        `lu`: approximate intervals, power 1 - beta_1 - beta_2 by noncentral t, as published (below 0 counts as
        0). `exact`: exact intervals of the limits (Carkeet 2015), both inside at once, by integration.

    References
    ----------
    Lu et al. 2016, doi:10.1515/ijb-2015-0039.
    """
    as_positive(sd, name="sd", unit="the differences")
    as_positive(margin, name="margin", unit="the differences")
    as_share(coverage, name="coverage")
    as_share(level, name="level")
    if method not in METHODS:
        raise SignalError(f"method={method!r}, expected one of {', '.join(METHODS)}")
    size = np.asarray(n, dtype=np.float64)
    size = np.where(size >= 3, size, np.nan)
    z = float(special.ndtri(0.5 + 0.5 * coverage))
    if method == "exact":
        return _both_inside(size, exact_factors(size, coverage, level)[1], bias, sd, margin)
    t = special.stdtrit(size - 1, 0.5 + 0.5 * level)
    error = sd * np.sqrt(1 / size + z**2 / (2 * (size - 1)))
    missed = [stats.nct.cdf(t, size - 1, (margin + side * bias - z * sd) / error) for side in (-1, 1)]
    return np.asarray(np.maximum(0.0, 1.0 - missed[0] - missed[1]))


def limits_sample_size(
    *,
    bias: float,
    sd: float,
    margin: float,
    power: float = 0.8,
    coverage: float = 0.95,
    level: float = 0.95,
    method: str = "lu",
) -> int:
    """Return the smallest number of independent pairs with the wanted `limits_power`; parameters as there.

    Raises
    ------
    SignalError
        If the true limits are not inside the margin: no number is enough.
    """
    as_share(power, name="power")
    z = float(special.ndtri(0.5 + 0.5 * as_share(coverage, name="coverage")))
    if abs(bias) + z * sd >= margin:
        raise SignalError(
            f"margin={margin!r} within the true limits {bias:g} -+ {z * sd:g}, expected them inside it"
        )

    def enough(n: int) -> bool:
        found = limits_power(n, bias=bias, sd=sd, margin=margin, coverage=coverage, level=level, method=method)
        return bool(found >= power)

    return _smallest(enough, start=3)


def equivalence_power(n: ArrayLike, *, bias: float, sd: float, margin: float, alpha: float = 0.05) -> Floats:
    """Return how probably two one-sided paired t tests at `alpha` show the bias inside -+ `margin`.

    Parameters
    ----------
    n
        Independent differences (pairs, or subjects' means), shape (...); NaN below 2.
    bias, sd
        True mean and standard deviation of the differences.
    margin, alpha
        Of the tests.
    """
    as_positive(sd, name="sd", unit="the differences")
    as_positive(margin, name="margin", unit="the differences")
    size = np.asarray(n, dtype=np.float64)
    size = np.where(size >= 2, size, np.nan)
    return _both_inside(size, special.stdtrit(size - 1, 1 - alpha) / np.sqrt(size), bias, sd, margin)


def equivalence_sample_size(
    *, bias: float, sd: float, margin: float, power: float = 0.8, alpha: float = 0.05
) -> int:
    """Return the smallest number of independent differences with the wanted `equivalence_power`.

    Raises
    ------
    SignalError
        If the true bias is not inside the margin.
    """
    as_share(power, name="power")
    if abs(bias) >= margin:
        raise SignalError(f"margin={margin!r} not beyond the true bias {bias:g}, expected it inside")
    return _smallest(
        lambda n: bool(equivalence_power(n, bias=bias, sd=sd, margin=margin, alpha=alpha) >= power), start=2
    )


def bias_sample_size(
    *,
    half_width: float,
    between_sd: float,
    within_sd: float = 0.0,
    pairs_per_subject: int = 1,
    level: float = 0.95,
) -> int:
    """Return the number of subjects whose interval of the bias is expected within -+ `half_width`.

    Parameters
    ----------
    half_width
        Half the width of the interval, by t over the subjects' means.
    between_sd, within_sd
        Standard deviations of the differences between and within subjects. With one pair of each subject, all
        of it may be given as either.
    pairs_per_subject
        Equal for all.
    level
        Confidence level of the interval.
    """
    as_positive(half_width, name="half_width", unit="the differences")
    as_share(level, name="level")
    if pairs_per_subject < 1:
        raise SignalError(f"pairs_per_subject={pairs_per_subject!r}, expected at least 1")
    sd = math.sqrt(between_sd**2 + within_sd**2 / pairs_per_subject)
    return _smallest(
        lambda n: float(special.stdtrit(n - 1, 0.5 + 0.5 * level)) * sd / math.sqrt(n) <= half_width, start=2
    )


def rms_error_sample_size(
    *,
    bias: float,
    between_sd: float,
    within_sd: float,
    limit: float,
    pairs_per_subject: int,
    power: float = 0.8,
    level: float = 0.95,
) -> int:
    """Return the number of subjects whose upper bound of the root mean square error is below `limit`.

    Parameters
    ----------
    bias, between_sd, within_sd
        True mean difference; standard deviations between and within subjects.
    limit
        Of the root mean square error, in the unit of the differences.
    pairs_per_subject
        Equal for all.
    power, level
        How probably it is to be so; one-sided confidence level of the bound.

    Raises
    ------
    SignalError
        If the true error is not below the limit.

    Notes
    -----
    Bias and mean squares of a study are independent, normal and chi-square. The bound of `analysis.rms_error`
    is taken at 4,096 points of a Sobol sequence of the three, so the power is known to tenths of a percent.
    """
    as_share(power, name="power")
    as_share(level, name="level")
    if pairs_per_subject < 1:
        raise SignalError(f"pairs_per_subject={pairs_per_subject!r}, expected at least 1")
    square = bias**2 + between_sd**2 + within_sd**2
    if level <= 0.5:
        raise SignalError(f"level={level!r}, expected above 0.5")
    if not 0 < square < limit**2:
        raise SignalError(
            f"limit={limit!r}, expected above the true error {math.sqrt(square):g}, itself above 0"
        )

    chances = stats.qmc.Sobol(3, scramble=False).random(_SOBOL_POINTS) + 0.5 / _SOBOL_POINTS
    m, within = pairs_per_subject, within_sd**2
    between = m * between_sd**2 + within  # expected mean square

    def enough(k: int) -> bool:
        n = float(k * m)
        free = max(n - k, 1.0)
        whole = np.full(_SOBOL_POINTS, n)
        found = OneWay(
            n_values=whole,
            n_subjects=whole / m,
            mean=bias + special.ndtri(chances[:, 0]) * math.sqrt(between / n),
            mean_of_means=whole,
            variance_of_means=whole,
            between=between * special.chdtri(k - 1, chances[:, 1]) / (k - 1),
            within=within * special.chdtri(free, chances[:, 2]) / free,
            size=np.full(_SOBOL_POINTS, float(m)),
            mean_inverse_size=1.0 / whole,
            sum_squared_sizes=whole * m,
        )
        bound = mean_square_interval(found, 2 * level - 1).high
        return bool(np.mean(bound < limit**2) >= power)

    return _smallest(enough, start=2)


def share_sample_size(*, largest_share: float, level: float = 0.95, errors: int = 0) -> int:
    """Return how many trials with at most `errors` errors show their share to be below `largest_share`.

    Parameters
    ----------
    largest_share
        That the exact one-sided upper bound is not to exceed.
    level
        Confidence level of the bound.
    errors
        Errors that may occur; 0 gives log(1 - level) / log(1 - largest_share), near 3 / largest_share at 95 %.
    """
    as_share(largest_share, name="largest_share")
    as_share(level, name="level")
    if errors < 0:
        raise SignalError(f"errors={errors!r}, expected at least 0")
    return _smallest(lambda n: bool(special.bdtr(errors, n, largest_share) <= 1 - level), start=errors + 1)


def _both_inside(size: Floats, factor: Floats, bias: float, sd: float, margin: float) -> Floats:
    """Return the chance that mean -+ factor sd of `size` normal differences lies inside -+ margin."""
    freedom = (size - 1)[..., None]
    # where sd is small enough for any mean to fit, but not beyond what it ever is
    largest = np.minimum((margin / sd / factor[..., None]) ** 2 * freedom, special.chdtri(freedom, 1e-12))
    least = special.chdtri(freedom, 1 - 1e-12)
    some = largest > least
    half = np.where(some, (largest - least) / 2, 0.0)
    square = least + half * (_NODES + 1)
    room = margin - factor[..., None] * sd * np.sqrt(square / freedom)
    error = sd / np.sqrt(size)[..., None]
    inside = special.ndtr((room - bias) / error) - special.ndtr((-room - bias) / error)
    log_density = (
        (freedom / 2 - 1) * np.log(square)
        - square / 2
        - freedom / 2 * math.log(2)
        - special.gammaln(freedom / 2)
    )
    return np.asarray((inside * np.exp(log_density) * half) @ _WEIGHTS)


def _smallest(enough: Callable[[int], bool], *, start: int) -> int:
    """Return the smallest n from `start` that is enough, for a condition that stays true once it is."""
    low, high = start - 1, start
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST:
            raise SignalError(f"more than {_MOST} needed, expected a study of at most so many")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
