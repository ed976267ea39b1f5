"""Variation between and within subjects: one-way analysis of variance, for one sample or many at once.

Sums are taken about the sample's mean, so that a large common value costs no digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class OneWay:
    """Analysis of variance by subject; every field has the leading shape of the values, (...).

    Parameters
    ----------
    n_values, n_subjects
        Values that are no NaN, and subjects that have one.
    mean, mean_of_means
        Mean of all values; mean of the subjects' means, each subject counting once.
    variance_of_means
        Variance of the subjects' means (divisor n_subjects - 1), each counting once.
    between, within
        Mean squares, of n_subjects - 1 and n_values - n_subjects degrees of freedom; NaN where these are 0.
    size
        The analysis of variance's mean number of values of a subject, m0 = (N - sum m^2 / N) / (k - 1).
    mean_inverse_size
        Mean of 1/m over subjects; its inverse is the harmonic mean.
    sum_squared_sizes
        sum m^2.
    """

    n_values: Floats
    n_subjects: Floats
    mean: Floats
    mean_of_means: Floats
    variance_of_means: Floats
    between: Floats
    within: Floats
    size: Floats
    mean_inverse_size: Floats
    sum_squared_sizes: Floats

    @property
    def between_component(self) -> Floats:
        """Variance between subjects, (between - within) / size; negative by chance where it is small."""
        component: Floats = (self.between - self.within) / self.size
        return component


def one_way(values: Floats, numbers: NDArray[np.intp]) -> OneWay:
    """Return the analysis of variance of `values` (..., n), NaN where missing, by subject number (n,)."""
    present = np.isfinite(values)
    n = present.sum(axis=-1).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(present, values, 0.0).sum(axis=-1) / n
        centred = np.where(present, values - mean[..., None], 0.0)
        # once more: what rounding left in the mean
        mean, centred = recentred(mean, centred, present, n)
        counts = sums_by_subject(present.astype(np.float64), numbers)
        sums = sums_by_subject(centred, numbers)
        means = np.where(counts > 0, sums / counts, 0.0)
        n_subjects = (counts > 0).sum(axis=-1).astype(np.float64)
        rest = np.where(present, centred - means[..., numbers], 0.0)
        mean_of_means = means.sum(axis=-1) / n_subjects
        from_mean = np.where(counts > 0, means - mean_of_means[..., None], 0.0)
        squared = (counts**2).sum(axis=-1)
        inverse = np.where(counts > 0, 1.0 / counts, 0.0).sum(axis=-1) / n_subjects
        return OneWay(
            n_values=n,
            n_subjects=n_subjects,
            mean=mean,
            mean_of_means=mean + mean_of_means,
            variance_of_means=(from_mean**2).sum(axis=-1) / _positive(n_subjects - 1),
            between=(counts * means**2).sum(axis=-1) / _positive(n_subjects - 1),
            within=(rest**2).sum(axis=-1) / _positive(n - n_subjects),
            size=(n - squared / n) / _positive(n_subjects - 1),
            mean_inverse_size=inverse,
            sum_squared_sizes=squared,
        )


def recentred(mean: Floats, centred: Floats, present: NDArray[np.bool_], n: Floats) -> tuple[Floats, Floats]:
    """Return mean and centred values with the rounding of the first pass taken out; values missing are 0."""
    left = centred.sum(axis=-1) / n
    return mean + left, np.where(present, centred - left[..., None], 0.0)


def sums_by_subject(values: Floats, numbers: NDArray[np.intp]) -> Floats:
    """Return sums of `values`, shape (..., n), over the values of each subject, shape (..., n_subjects)."""
    if numbers.size == 0:
        return np.zeros((*values.shape[:-1], 0))
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    return np.add.reduceat(values[..., order], starts, axis=-1)


def _positive(freedom: Floats) -> Floats:
    """Return degrees of freedom, NaN where there are none."""
    return np.where(freedom > 0, freedom, np.nan)
