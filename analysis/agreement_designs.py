"""What limits of agreement rest on: bias, variance and its parts, for each design of a study.

The designs are explained in `analysis.agreement`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.limit_intervals import MeanSquare
from analysis.variance_components import OneWay, one_way, sums_by_subject

Floats = NDArray[np.float64]


class Components(NamedTuple):
    """What the intervals need to know of a design; all of shape (...).

    Parameters
    ----------
    bias, bias_variance, freedom
        Mean difference, its sampling variance and the degrees of freedom of that.
    variance
        Of a single difference; NaN where it cannot be known.
    parts
        Mean squares that `variance` is made of.
    between, within
        Components between (as computed, negative by chance) and within subjects; NaN for independent pairs.
    n_pairs, n_subjects
        Size of the sample.
    spread
        Largest distance of a difference from what all would be if none differed.
    """

    bias: Floats
    bias_variance: Floats
    freedom: Floats
    variance: Floats
    parts: tuple[MeanSquare, ...]
    between: Floats
    within: Floats
    n_pairs: Floats
    n_subjects: Floats
    spread: Floats


def independent(d: Floats) -> Components:
    """Return the components of differences of different subjects, shape (..., n_pairs), NaN where missing."""
    every = one_way(d, np.arange(d.shape[-1]))
    n = every.n_values
    variance = every.variance_of_means
    none = np.full_like(n, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        bias_variance = variance / n
    return Components(
        every.mean,
        bias_variance,
        n - 1,
        variance,
        (MeanSquare(variance, n - 1),),
        none,
        none,
        n,
        n,
        _spread(d, every.mean),
    )


def constant_truth(x: Floats, y: Floats, numbers: NDArray[np.intp]) -> Components:
    """Return the components of unlinked replicates; only subjects with readings of both methods count."""
    both = _read_by(x, numbers) & _read_by(y, numbers)
    x, y = np.where(both, x, np.nan), np.where(both, y, np.nan)
    of_x, of_y = one_way(x, numbers), one_way(y, numbers)
    d = _subject_means(x, numbers) - _subject_means(y, numbers)
    means = one_way(d, np.arange(d.shape[-1]))
    k = means.n_values
    parts = [MeanSquare(means.variance_of_means, k - 1)]
    within, between = np.zeros_like(k), means.variance_of_means
    for method in (of_x, of_y):
        # without a replicate there is nothing to give back: its weight is 0
        square = np.where(method.n_values > method.n_subjects, method.within, 0.0)
        parts.append(MeanSquare((1.0 - method.mean_inverse_size) * square, method.n_values - k))
        within, between = within + square, between - method.mean_inverse_size * square
    replicated = (of_x.n_values > k) | (of_y.n_values > k)
    variance = np.where(replicated, np.sum([p.part for p in parts], axis=0), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        bias_variance = means.variance_of_means / k
    spread = _spread(d, means.mean)
    for values in (x, y):
        away = np.where(
            np.isfinite(values), np.abs(values - _subject_means(values, numbers)[..., numbers]), 0.0
        )
        spread = np.maximum(spread, away.max(axis=-1, initial=0.0))
    return Components(
        means.mean,
        bias_variance,
        k - 1,
        variance,
        tuple(parts),
        between,
        within,
        (np.isfinite(x) & np.isfinite(y)).sum(axis=-1).astype(np.float64),
        k,
        spread,
    )


def varying_truth(d: Floats, numbers: NDArray[np.intp], weighting: str) -> Components:
    """Return the components of linked pairs, by one-way analysis of variance of the differences."""
    found = one_way(d, numbers)
    if weighting == "subjects":
        return _by_subject_means(found, _spread(d, found.mean))
    rest = 1.0 - 1.0 / found.size
    between = np.maximum(found.between_component, 0.0)
    return Components(
        found.mean,
        between * found.sum_squared_sizes / found.n_values**2 + found.within / found.n_values,
        found.n_subjects - 1,
        between + found.within,
        (
            MeanSquare(found.between / found.size, found.n_subjects - 1),
            MeanSquare(rest * found.within, found.n_values - found.n_subjects),
        ),
        found.between_component,
        found.within,
        found.n_values,
        found.n_subjects,
        _spread(d, found.mean),
    )


def _by_subject_means(found: OneWay, spread: Floats) -> Components:
    rest = (1.0 - found.mean_inverse_size) * found.within
    return Components(
        found.mean_of_means,
        found.variance_of_means / found.n_subjects,
        found.n_subjects - 1,
        found.variance_of_means + rest,
        (
            MeanSquare(found.variance_of_means, found.n_subjects - 1),
            MeanSquare(rest, found.n_values - found.n_subjects),
        ),
        found.variance_of_means - found.mean_inverse_size * found.within,
        found.within,
        found.n_values,
        found.n_subjects,
        spread,
    )


def _read_by(values: Floats, numbers: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return at each reading whether its subject has a reading that is present, shape of `values`."""
    means = _subject_means(values, numbers)
    return np.asarray(np.isfinite(means)[..., numbers])


def _subject_means(values: Floats, numbers: NDArray[np.intp]) -> Floats:
    present = np.isfinite(values)
    counts = sums_by_subject(present.astype(np.float64), numbers)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Floats = sums_by_subject(np.where(present, values, 0.0), numbers) / counts
    return means


def _spread(differences: Floats, bias: Floats) -> Floats:
    away = np.where(np.isfinite(differences), np.abs(differences - bias[..., None]), 0.0)
    return np.asarray(away.max(axis=-1, initial=0.0))
