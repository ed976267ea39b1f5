"""Accuracy of continuous blood pressure monitors: the statistics of ISO 81060-3:2022.

Pressures are in mmHg; errors are test minus reference; a pair with a NaN is left out and counted. The
standard's text was not at hand: the definitions are secondary. Limits: |mean| <= 6.0, `s_corr` <= 10.0 and at
least 278 independent pairs; for stability `s_corr` <= 6.0; for changes <= 25 and <= 50 percent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from analysis.arrays import as_positive, as_series
from analysis.bootstrap import subject_numbers
from analysis.pressure_accuracy import pressure_pairs
from analysis.variance_components import one_way
from protocols.errors import SignalError

CHANGE_THRESHOLDS_MMHG: Final = {"sbp": 15.0, "map": 12.0, "dbp": 10.0}
"""ISO 81060-3:2022: smaller changes of the reference are not tracked (secondary)."""


@dataclass(frozen=True, slots=True)
class ContinuousErrors:
    """Errors of a continuous monitor, as ISO 81060-3 counts them, in mmHg; NaN where there are too few.

    Parameters
    ----------
    mean
        Mean of all errors.
    s_corr
        Root of the variance between plus within subjects (Bland & Altman 2007, section 3).
    icc
        Share of the variance that lies between subjects.
    n_independent
        Number of independent pairs that these are worth, k (1 + (1 - icc)(r - 1)).
    n_pairs, n_subjects, excluded
        As in `PressureErrors`.
    """

    mean: float
    s_corr: float
    icc: float
    n_independent: float
    n_pairs: int
    n_subjects: int
    excluded: int


@dataclass(frozen=True, slots=True)
class ChangeErrors:
    """How far changes of pressure are missed, in percent of the change; NaN without a large enough change.

    Parameters
    ----------
    median_percent, p85_percent
        50th and 85th percentile of each subject's errors, averaged over subjects.
    n_changes, n_subjects
        Changes of at least the threshold, and subjects that have one.
    below_threshold, excluded
        Changes too small, and changes with a value missing.
    """

    median_percent: float
    p85_percent: float
    n_changes: int
    n_subjects: int
    below_threshold: int
    excluded: int


def iso_81060_3(test_mmhg: ArrayLike, reference_mmhg: ArrayLike, *, subject: ArrayLike) -> ContinuousErrors:
    """Return the accuracy statistics of ISO 81060-3:2022 (secondary).

    Parameters
    ----------
    test_mmhg, reference_mmhg
        Paired pressures, shape (n,), several of each subject.
    subject
        Whose pair it is, shape (n,).

    Returns
    -------
    A negative component between subjects counts as 0. Where subjects have unequal numbers of pairs, r of the
    number of independent pairs is their mean.

    Raises
    ------
    SignalError
        As `iso_81060_2`.
    """
    test, reference, numbers, excluded = pressure_pairs(test_mmhg, reference_mmhg, subject)
    errors = test - reference
    n, n_subjects = errors.size, int(np.unique(numbers).size)
    mean = float(errors.mean()) if n else float("nan")
    if n_subjects < 2 or n == n_subjects:
        nan = float("nan")
        return ContinuousErrors(mean, nan, nan, nan, n, n_subjects, excluded)
    parts = one_way(errors, np.unique(numbers, return_inverse=True)[1])
    between, within = max(0.0, float(parts.between_component)), float(parts.within)
    variance = between + within
    icc = between / variance if variance > 0.0 else float("nan")
    independent = n_subjects * (1.0 + (1.0 - icc) * (n / n_subjects - 1.0))
    return ContinuousErrors(mean, variance**0.5, icc, independent, n, n_subjects, excluded)


def change_errors(
    test_change_mmhg: ArrayLike,
    reference_change_mmhg: ArrayLike,
    *,
    subject: ArrayLike,
    threshold_mmhg: float,
) -> ChangeErrors:
    """Return how far a continuous monitor misses changes, as ISO 81060-3:2022 has it (secondary).

    Parameters
    ----------
    test_change_mmhg, reference_change_mmhg
        Changes over the same time, signed, shape (n,).
    subject
        Whose change it is, shape (n,).
    threshold_mmhg
        Changes of the reference smaller than this are left out and counted: `CHANGE_THRESHOLDS_MMHG`.

    Raises
    ------
    SignalError
        If lengths differ, a value is infinite or the threshold is not above 0.

    Notes
    -----
    The error of a change is |test - reference| / |reference|. Percentiles are interpolated linearly; the
    standard's way of doing so is not known to us.
    """
    threshold = as_positive(threshold_mmhg, name="threshold_mmhg", unit="mmHg")
    test = as_series(test_change_mmhg, name="test_change_mmhg")
    reference = as_series(reference_change_mmhg, name="reference_change_mmhg")
    if test.size != reference.size:
        raise SignalError(f"{test.size} changes of the test for {reference.size} of reference, expected pairs")
    numbers = subject_numbers(subject, test.size)
    present = ~(np.isnan(test) | np.isnan(reference))
    large = present & (np.abs(reference) >= threshold)
    errors_percent = 100.0 * np.abs(test - reference)[large] / np.abs(reference)[large]
    groups = [errors_percent[numbers[large] == number] for number in np.unique(numbers[large])]
    percentiles = np.array([np.percentile(group, [50.0, 85.0]) for group in groups]).reshape(-1, 2)
    median, p85 = percentiles.mean(axis=0) if groups else (float("nan"), float("nan"))
    small = int((present & ~large).sum())
    return ChangeErrors(float(median), float(p85), int(large.sum()), len(groups), small, int((~present).sum()))
