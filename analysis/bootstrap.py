"""Bootstrap of subjects: how far a figure would move if the study were done with other people.

Pairs of one subject resemble one another, so subjects are drawn with replacement, each with all its pairs;
pairs drawn one by one would make the interval too narrow. Equal seeds give equal samples.

A statistic that is a function of sums (a mean, a standard deviation, a share) is resampled from
`resampled_sums` without touching the pairs again; any other through `resampled_statistic`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from protocols.errors import SignalError

_DRAWN_AT_ONCE: Final = 1 << 17  # two megabytes of look-ups at most
_LARGEST_TABLE: Final = 1 << 16  # sums of two subjects: up to 256, so that four fit into 32 bits

Floats = NDArray[np.float64]


def subject_numbers(subject: ArrayLike, n_pairs: int) -> NDArray[np.intp]:
    """Return subjects as numbers from 0 in the order of their names, shape (n_pairs,).

    Raises
    ------
    SignalError
        If there is not one for each pair, if one is missing, or if they cannot be ordered.
    """
    subjects = np.asarray(subject)
    if subjects.shape != (n_pairs,):
        raise SignalError(f"subject of shape {subjects.shape}, expected one for each of {n_pairs} pairs")
    if subjects.dtype.kind == "f" and np.isnan(subjects).any():
        raise SignalError(f"subject missing for {int(np.isnan(subjects).sum())} pairs, expected one for each")
    try:
        return np.unique(subjects, return_inverse=True)[1]
    except TypeError as error:
        raise SignalError(f"subject: {error}; expected names of one type") from error


def resampled_sums(values: Floats, subject: ArrayLike, *, replicates: int, seed: int) -> Floats:
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
    per_subject = _sums_per_subject(values, subject_numbers(subject, values.shape[-1]))
    n_subjects = per_subject.shape[1]
    if n_subjects == 0:
        return np.zeros((values.shape[0], replicates))
    # what every subject has alike, such as its number of pairs, no sample has otherwise
    alike = (per_subject == per_subject[:, :1]).all(axis=1)
    sums = np.empty((values.shape[0], replicates))
    sums[alike] = n_subjects * per_subject[alike, :1]
    if alike.all():
        return sums
    drawn = _drawn_sums(_two_by_two(per_subject[~alike]), replicates, np.random.default_rng(seed))
    for k, row in enumerate(np.flatnonzero(~alike)):
        sums[row] = (drawn.imag if k % 2 else drawn.real)[k // 2]
    return sums


def sums_without_each(values: Floats, subject: ArrayLike) -> Floats:
    """Return the sums with one subject left out at a time, shape (n_quantities, n_subjects): the jackknife."""
    per_subject = _sums_per_subject(values, subject_numbers(subject, values.shape[-1]))
    left: Floats = per_subject.sum(axis=1, keepdims=True) - per_subject
    return left


def resampled_statistic(
    statistic: Callable[[Floats], float],
    columns: Floats,
    subject: ArrayLike,
    *,
    replicates: int,
    seed: int,
) -> Floats:
    """Return a statistic of bootstrap samples of subjects, shape (replicates,).

    Parameters
    ----------
    statistic
        Takes columns of the drawn pairs, shape (n_columns, n_drawn), and returns one figure.
    columns
        What belongs to each pair, shape (n_columns, n_pairs).
    subject
        Whose pair it is, shape (n_pairs,).
    replicates, seed
        How many samples, and of which random numbers.
    """
    numbers = subject_numbers(subject, columns.shape[-1])
    if numbers.size == 0:
        raise SignalError("0 pairs, expected at least one to draw from")
    order = np.argsort(numbers, kind="stable")
    counts = np.bincount(numbers)
    of_subject = np.split(order, np.cumsum(counts)[:-1])
    drawn = np.random.default_rng(seed).integers(0, counts.size, size=(replicates, counts.size))
    # one call for each sample: samples differ in length, and the statistic is any function
    return np.array([statistic(columns[:, np.concatenate([of_subject[i] for i in row])]) for row in drawn])


def percentile_interval(resampled: Floats, level: float) -> tuple[float, float]:
    """Return the percentile bootstrap interval of resampled statistics, undefined ones left out."""
    tail = 50.0 * (1.0 - level)
    defined = resampled[np.isfinite(resampled)]
    if defined.size == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [tail, 100.0 - tail])
    return float(low), float(high)


def bca_interval(value: float, resampled: Floats, left_out: Floats, level: float) -> tuple[float, float]:
    """Return the bias-corrected and accelerated interval of a resampled statistic.

    Parameters
    ----------
    value
        The statistic of the study itself.
    resampled
        The statistic of bootstrap samples, shape (replicates,); undefined ones are left out.
    left_out
        The statistic with each subject left out in turn, shape (n_subjects,).
    level
        Confidence level.

    Returns
    -------
    NaN where the statistic does not vary, or where all samples lie on one side of the value.

    References
    ----------
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 14; the jackknife is by subject.
    """
    defined, left_out = resampled[np.isfinite(resampled)], left_out[np.isfinite(left_out)]
    # ties count half, as a share of a few subjects often equals the study's own
    below = (np.count_nonzero(defined < value) + 0.5 * np.count_nonzero(defined == value)) / max(
        defined.size, 1
    )
    from_mean = left_out.mean() - left_out if left_out.size else left_out
    spread = float((from_mean**2).sum())
    if not 0 < below < 1 or spread == 0:
        return float("nan"), float("nan")
    acceleration = float((from_mean**3).sum()) / (6.0 * spread**1.5)
    correction = special.ndtri(below)
    ends = correction + special.ndtri(np.array([0.5 - 0.5 * level, 0.5 + 0.5 * level]))
    shares = special.ndtr(correction + ends / (1.0 - acceleration * ends))
    low, high = np.quantile(defined, shares)
    return float(low), float(high)


def _two_by_two(rows: Floats) -> NDArray[np.complex128]:
    """Return two rows as the real and the imaginary parts of one, so that a look-up finds both."""
    joined = np.zeros((-(-rows.shape[0] // 2), rows.shape[1]), dtype=np.complex128)
    joined.real, joined.imag[: rows.shape[0] // 2] = rows[0::2], rows[1::2]
    return joined


def _drawn_sums(
    per_subject: NDArray[np.complex128], replicates: int, rng: np.random.Generator
) -> NDArray[np.complex128]:
    """Return sums over as many draws as there are subjects, shape (n_rows, replicates).

    Few subjects are drawn four at a time, as a number below n^4 whose halves are two ordered pairs of them, and
    looked up in a table of the sums of all pairs: the same chances, fewer random numbers and look-ups.
    """
    n_subjects = per_subject.shape[1]
    in_pairs = n_subjects**2 <= _LARGEST_TABLE
    tables = [(row[:, None] + row).ravel() for row in per_subject] if in_pairs else per_subject
    n_found = n_subjects // 2 if in_pairs else n_subjects
    n_drawn = 2 * -(-n_subjects // 4) if in_pairs else n_subjects
    block = max(1, min(replicates, _DRAWN_AT_ONCE // n_subjects))
    sums = np.empty((per_subject.shape[0], replicates), dtype=np.complex128)
    # one piece of memory for all blocks: fresh pages cost more than what is done in them
    memory = np.empty((2 * n_found + n_drawn) * block)
    found_memory = memory[: 2 * n_found * block].view(np.complex128)
    drawn_memory = memory[2 * n_found * block :].view(np.intp)
    # a Python loop over blocks, whose look-ups stay in the cache
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        found = found_memory[: n_found * size].reshape(n_found, size)
        drawn = drawn_memory[: n_drawn * size].reshape(n_drawn, size)
        if in_pairs:
            _draw_pairs(drawn, n_subjects, rng)
        else:
            drawn[:] = rng.integers(0, n_subjects, size=drawn.shape)
        for row, table, total in zip(per_subject, tables, sums[:, start : start + size], strict=True):
            table.take(drawn[:n_found], out=found, mode="clip").sum(axis=0, out=total)
            if in_pairs and n_subjects % 2:
                total += row.take(drawn[n_found] // n_subjects)  # the first of one more pair
    return sums


def _draw_pairs(pairs: NDArray[np.intp], n_subjects: int, rng: np.random.Generator) -> None:
    """Fill `pairs`, of an even number of rows, with ordered pairs of subjects as numbers below n^2."""
    half, n_pairs = pairs.shape[0] // 2, np.uint32(n_subjects**2)
    fours = rng.integers(0, n_subjects**4, size=(half, pairs.shape[1]), dtype=np.uint32)
    first = fours // n_pairs  # np.divmod takes four times as long
    pairs[:half], pairs[half:] = first, fours - first * n_pairs


def _sums_per_subject(values: Floats, numbers: NDArray[np.intp]) -> Floats:
    return np.stack([np.bincount(numbers, weights=row) for row in values])
