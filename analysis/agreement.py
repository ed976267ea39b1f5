"""How far a method of measurement is from its reference: bias, limits of agreement, intervals by subject.

Differences are test minus reference. Pairs of one subject resemble one another, so the subject is an argument
wherever it changes the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.arrays import as_series
from protocols.errors import SignalError

DESIGNS: Final = ("independent", "varying_truth")

_DRAWN_AT_ONCE: Final = 1 << 20  # keeps the bootstrap of many subjects within some 16 MB


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, what it rests on, and its interval where it has one.

    Parameters
    ----------
    value
        NaN where there is too little data for one.
    n
        Pairs, beats or records that it rests on.
    low, high, level
        Ends and confidence level of its interval; None without one.
    method
        How it was computed, in one line.
    details
        Further figures by name.
    """

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    level: float | None = None
    method: str = ""
    details: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class BlandAltman:
    """Bias and limits of agreement, in the unit of the pairs; NaN where there are too few.

    Parameters
    ----------
    bias
        Mean difference.
    sd
        Standard deviation of a single difference, between and within subjects together.
    lower, upper
        Limits of agreement, `bias` -+ z `sd`.
    between_variance, within_variance
        Components of the variance; NaN for independent pairs.
    n_pairs, n_subjects
        Size of the sample.
    """

    bias: float
    sd: float
    lower: float
    upper: float
    between_variance: float
    within_variance: float
    n_pairs: int
    n_subjects: int


def bland_altman(
    test: ArrayLike,
    reference: ArrayLike,
    *,
    subject: ArrayLike | None = None,
    design: str = "independent",
    coverage: float = 0.95,
) -> BlandAltman:
    """Return bias and limits of agreement.

    Parameters
    ----------
    test, reference
        Paired values, shape (n_pairs,); a pair with a NaN is left out.
    subject
        Whose pair it is, shape (n_pairs,); needed for `varying_truth`.
    design
        `independent`: every pair is of another subject. `varying_truth`: several pairs of each subject while
        the true value varies (Bland & Altman 2007, section 3): variance components by one-way analysis of
        variance of the differences, a negative component between subjects counting as 0.
    coverage
        Share of the differences that the limits are to hold.

    Raises
    ------
    SignalError
        If shapes differ, the design is unknown or lacks its subjects, or the coverage is not between 0 and 1.

    References
    ----------
    Bland & Altman 1986, doi:10.1016/S0140-6736(86)90837-8, with 1.96 for their 2.
    Bland & Altman 2007, doi:10.1080/10543400701329422, section 3.
    """
    test, reference = as_series(test, name="test"), as_series(reference, name="reference")
    if test.shape != reference.shape:
        raise SignalError(f"{test.size} test values for {reference.size} of the reference, expected pairs")
    if design not in DESIGNS:
        raise SignalError(f"design={design!r}, expected one of {', '.join(DESIGNS)}")
    if not 0 < coverage < 1:
        raise SignalError(f"coverage={coverage!r}, expected above 0 and below 1")
    differences = test - reference
    present = np.isfinite(differences)
    if design == "independent":
        return _independent(differences[present], coverage)
    if subject is None:
        raise SignalError(f"subject=None with design={design!r}, expected the subject of every pair")
    subjects = _subject_numbers(subject, differences.size)[present]
    return _varying_truth(differences[present], np.unique(subjects, return_inverse=True)[1], coverage)


def resampled_sums(
    values: NDArray[np.float64], subject: ArrayLike, *, replicates: int, seed: int
) -> NDArray[np.float64]:
    """Return sums over bootstrap samples of subjects, each subject with all its values.

    Parameters
    ----------
    values
        Quantities to sum, shape (n_quantities, n_pairs).
    subject
        Whose pair it is, shape (n_pairs,).
    replicates
        How many bootstrap samples.
    seed
        Equal seeds give equal samples.

    Returns
    -------
    Shape (n_quantities, replicates). A statistic that is a function of sums (a mean, a standard deviation, a
    share) is so resampled without touching the pairs again.
    """
    numbers = _subject_numbers(subject, values.shape[-1])
    per_subject = np.stack([np.bincount(numbers, weights=row) for row in values])
    n_subjects = per_subject.shape[1]
    rng = np.random.default_rng(seed)
    shares = np.full(n_subjects, 1.0 / n_subjects)
    sums = np.empty((values.shape[0], replicates))
    block = max(1, _DRAWN_AT_ONCE // n_subjects)
    for start in range(0, replicates, block):
        end = min(start + block, replicates)
        drawn = rng.multinomial(n_subjects, shares, size=end - start)
        sums[:, start:end] = per_subject @ drawn.T.astype(np.float64)
    return sums


def percentile_interval(resampled: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Return the percentile bootstrap interval of resampled statistics, undefined ones left out."""
    tail = 50.0 * (1.0 - level)
    defined = resampled[np.isfinite(resampled)]
    if defined.size == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [tail, 100.0 - tail])
    return float(low), float(high)


def _subject_numbers(subject: ArrayLike, n_pairs: int) -> NDArray[np.intp]:
    subjects = np.asarray(subject)
    if subjects.shape != (n_pairs,):
        raise SignalError(f"subject of shape {subjects.shape}, expected one for each of {n_pairs} pairs")
    return np.unique(subjects, return_inverse=True)[1]


def _independent(differences: NDArray[np.float64], coverage: float) -> BlandAltman:
    n = differences.size
    bias = float(differences.mean()) if n else float("nan")
    sd = float(differences.std(ddof=1)) if n > 1 else float("nan")
    return _with_limits(bias, sd, coverage, float("nan"), float("nan"), n, n)


def _varying_truth(
    differences: NDArray[np.float64], subjects: NDArray[np.intp], coverage: float
) -> BlandAltman:
    counts = np.bincount(subjects)
    n, n_subjects = differences.size, counts.size
    bias = float(differences.mean()) if n else float("nan")
    if n_subjects < 2 or n == n_subjects:
        nan = float("nan")
        return BlandAltman(bias, nan, nan, nan, nan, nan, n, n_subjects)
    means = np.bincount(subjects, weights=differences) / counts
    within = float(((differences - means[subjects]) ** 2).sum() / (n - n_subjects))
    mean_square_between = float((counts * (means - bias) ** 2).sum() / (n_subjects - 1))
    pairs_per_subject = (n - (counts**2).sum() / n) / (n_subjects - 1)
    between = max(0.0, (mean_square_between - within) / float(pairs_per_subject))
    return _with_limits(bias, float(np.sqrt(between + within)), coverage, between, within, n, n_subjects)


def _with_limits(
    bias: float, sd: float, coverage: float, between: float, within: float, n: int, n_subjects: int
) -> BlandAltman:
    reach = float(special.ndtri(0.5 + 0.5 * coverage)) * sd
    return BlandAltman(bias, sd, bias - reach, bias + reach, between, within, n, n_subjects)
