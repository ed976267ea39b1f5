"""How often a study shows that bias differs little between people: the contrasts of `analysis.disparity`.

Each subject counts by the mean of its differences, which are normal. The upper end of a difference is that of
its two-sided interval farther from zero, as there; it has to be below the limit for any two groups. Means and
variances of the groups (or slope and scatter about the line) stand at 4,096 fixed points of a Sobol sequence.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from analysis.arrays import as_positive
from analysis.estimates import as_share
from analysis.skin_tone import MONK_GROUPS

Floats = NDArray[np.float64]

_SOBOL_POINTS: Final = 4096
_GROUPS: Final = len(MONK_GROUPS)


def group_contrast_power(
    n_subjects: int, *, largest_difference: float, subject_sd: float, limit: float, level: float = 0.95
) -> float:
    """Return how probably the largest difference of mean bias between groups is shown to be below `limit`.

    Parameters
    ----------
    n_subjects
        Of all three groups, evenly.
    largest_difference
        True one, between the first and the last group; the bias of the middle one lies half way.
    subject_sd
        Of the subjects' means, the same in each group.
    limit, level
        Of the two-sided interval's end farther from zero (Welch).

    Returns
    -------
    0 where a group has fewer than 2 subjects.
    """
    as_positive(limit, name="limit", unit="the differences")
    as_positive(subject_sd, name="subject_sd", unit="the differences")
    tail = 0.5 + 0.5 * as_share(level, name="level")
    n = n_subjects // _GROUPS
    if n < 2:
        return 0.0
    chances = _chances(2 * _GROUPS)
    bias = np.linspace(-0.5, 0.5, _GROUPS) * largest_difference
    means = bias + special.ndtri(chances[:, :_GROUPS]) * subject_sd / np.sqrt(n)
    of_mean = subject_sd**2 * special.chdtri(n - 1, chances[:, _GROUPS:]) / (n - 1) / n  # variance of each mean
    below = np.ones(_SOBOL_POINTS, dtype=bool)
    for one, other in itertools.combinations(range(_GROUPS), 2):
        a, b = of_mean[:, one], of_mean[:, other]
        freedom = (a + b) ** 2 * (n - 1) / (a**2 + b**2)
        reach = special.stdtrit(freedom, tail) * np.sqrt(a + b)
        below &= np.abs(means[:, other] - means[:, one]) + reach < limit
    return float(below.mean())


def slope_contrast_power(
    n_subjects: int,
    *,
    difference: float,
    subject_sd: float,
    covariate_sd: float,
    per: float,
    limit: float,
    level: float = 0.95,
) -> float:
    """Return how probably the change of bias for `per` of a covariate is shown to be below `limit`.

    Parameters
    ----------
    n_subjects
        Of all.
    difference
        True change of bias for `per`.
    subject_sd
        Of the subjects' means about the line.
    covariate_sd, per
        Standard deviation of the covariate over subjects, and the change of it that is meant, in its unit.
    limit, level
        Of the two-sided interval's end farther from zero, by least squares with equal scatter: with the HC3
        errors of a study a few subjects more are needed.

    Returns
    -------
    0 below 3 subjects.
    """
    as_positive(limit, name="limit", unit="the differences")
    as_positive(subject_sd, name="subject_sd", unit="the differences")
    as_positive(covariate_sd, name="covariate_sd", unit="the covariate")
    tail = 0.5 + 0.5 * as_share(level, name="level")
    if n_subjects < 3:
        return 0.0
    chances = _chances(2)
    error = subject_sd * per / covariate_sd / np.sqrt(n_subjects - 1)
    found = difference + special.ndtri(chances[:, 0]) * error
    seen = error * np.sqrt(special.chdtri(n_subjects - 2, chances[:, 1]) / (n_subjects - 2))
    reach = float(special.stdtrit(n_subjects - 2, tail)) * seen
    return float((np.abs(found) + reach < limit).mean())


def _chances(dimensions: int) -> Floats:
    points = stats.qmc.Sobol(dimensions, scramble=False).random(_SOBOL_POINTS)
    return np.asarray(points + 0.5 / _SOBOL_POINTS)
