"""Heart-rate variability without frequencies: Poincaré plot, entropies, fluctuation analysis, fragmentation.

Theory of operation of the entropies
------------------------------------
Sample and approximate entropy count, for every run of two (and of three) successive intervals, how many others
lie within a tolerance in every member. Comparing all pairs takes the square of the number of beats. Here runs
are visited in the order of their first member. A table, one row for each distinct second member, one column for
each distinct third, holds how many of the runs whose first member is near have at most that third; runs enter
and leave it once each, and a count is the difference of two columns, summed over the few rows that are near. A
recorder resolves an interval to 1 to 8 ms, so the table is small; a series of more distinct values is counted
by a k-d tree. Either way the counts are exact.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import spatial

from analysis.arrays import as_positive
from analysis.rr_artefacts import as_rr_ms
from protocols.errors import SignalError

TOLERANCE_SD: Final = 0.2
"""Tolerance in standard deviations: Pincus 1991 and Richman & Moorman 2000 use 0.1 to 0.25, mostly 0.2."""
LEAST_ENTROPY_BEATS: Final = 100
"""Pincus 1991: 10 to the power of the run length, at least, for runs of two."""
ALPHA1_BEATS: Final = (4, 16)
"""Peng et al. 1995: box sizes of the short-term exponent, both inclusive."""
ALPHA2_BEATS: Final = (16, 64)
"""Peng et al. 1995: box sizes of the long-term exponent, both inclusive."""

_LEAST_BOXES: Final = 4  # the largest box fits four times; general use
_BOX_RATIO: Final = 2.0**0.125  # Goldberger et al. 2000 (PhysioNet's dfa): eight box sizes an octave

_TABLE_CELLS: Final = 16  # per beat: with two bytes each the table takes at most 4 times the series
_ROWS_AT_ONCE: Final = 64  # of the table

_Floats: TypeAlias = NDArray[np.float64]
_Counts: TypeAlias = NDArray[np.int64] | NDArray[np.int32]


def sd1_ms(rr_ms: ArrayLike) -> _Floats:
    """Return the width of the Poincaré plot in ms, shape (...): the SD across the line of identity.

    References
    ----------
    Brennan et al. 2001, doi:10.1109/10.959330: SDSD / sqrt(2). Standard deviations are over n - 1.
    """
    return np.asarray(_sd(_neighbour_differences(rr_ms)) / np.sqrt(2.0))


def sd2_ms(rr_ms: ArrayLike) -> _Floats:
    """Return the length of the Poincaré plot in ms, shape (...): the SD along the line of identity.

    References
    ----------
    Brennan et al. 2001, doi:10.1109/10.959330: sqrt(2 SDNN**2 - SD1**2). Standard deviations are over n - 1.
    """
    squared = 2.0 * _sd(as_rr_ms(rr_ms)) ** 2 - sd1_ms(rr_ms) ** 2
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def sample_entropy(rr_ms: ArrayLike, *, run_beats: int = 2, tolerance_ms: float | None = None) -> _Floats:
    """Return the sample entropy, shape (...).

    Parameters
    ----------
    rr_ms
        Shape (..., n_beats); a run with a rejected beat (NaN) does not take part.
    run_beats
        Length of the shorter runs.
    tolerance_ms
        How near the members of similar runs are, inclusive; 0.2 SDNN unless given.

    Returns
    -------
    NaN where no two of the longer runs are similar.

    References
    ----------
    Richman & Moorman 2000, doi:10.1152/ajpheart.2000.278.6.H2039: as many runs of either length.
    """
    return _by_row(rr_ms, lambda row: _sample_entropy(*_counts(row, run_beats, tolerance_ms)))


def approximate_entropy(rr_ms: ArrayLike, *, run_beats: int = 2, tolerance_ms: float | None = None) -> _Floats:
    """Return the approximate entropy, shape (...); parameters as `sample_entropy`.

    References
    ----------
    Pincus 1991, doi:10.1073/pnas.88.6.2297. A run counts itself; the last run of the shorter length counts.
    """
    return _by_row(
        rr_ms,
        lambda row: _approximate_entropy(row, run_beats, tolerance_ms, *_counts(row, run_beats, tolerance_ms)),
    )


def entropies(rr_ms: ArrayLike) -> tuple[_Floats, _Floats]:
    """Return sample and approximate entropy of runs of two, each of shape (...), from the same counts."""
    rows = as_rr_ms(rr_ms)
    sample, approximate = np.full(rows.shape[:-1], np.nan), np.full(rows.shape[:-1], np.nan)
    for row in np.ndindex(rows.shape[:-1]):  # each has neighbours of its own
        counts = _counts(rows[row], 2, None)
        sample[row] = _sample_entropy(*counts)
        approximate[row] = _approximate_entropy(rows[row], 2, None, *counts)
    return sample, approximate


def multiscale_entropy(
    rr_ms: ArrayLike, *, scales: int = 5, run_beats: int = 2, tolerance_sd: float = 0.15
) -> _Floats:
    """Return the sample entropy of the means of 1, 2 ... `scales` beats, shape (..., scales).

    References
    ----------
    Costa, Goldberger & Peng 2002, doi:10.1103/PhysRevLett.89.068102: runs of two, tolerance 0.15 SDNN of the
    series itself at every scale. A mean with a rejected beat is rejected.
    """
    if scales < 1:
        raise SignalError(f"scales={scales}, expected at least 1")
    tolerance_sd = as_positive(tolerance_sd, name="tolerance_sd", unit="SD")
    rows = as_rr_ms(rr_ms)
    out = np.full((*rows.shape[:-1], scales), np.nan)
    for row in np.ndindex(rows.shape[:-1]):
        tolerance_ms = tolerance_sd * float(_sd(rows[row]))
        for scale in range(1, scales + 1) if tolerance_ms > 0.0 else ():
            end = rows.shape[-1] // scale * scale
            means = rows[row][:end].reshape(-1, scale).mean(axis=-1)
            out[(*row, scale - 1)] = _sample_entropy(*_counts(means, run_beats, tolerance_ms))
    return out


def dfa_alpha(rr_ms: ArrayLike, *, box_beats: tuple[int, int] = ALPHA1_BEATS) -> _Floats:
    """Return the scaling exponent of the detrended fluctuation, shape (...).

    Parameters
    ----------
    rr_ms
        Shape (..., n_beats); rejected beats (NaN) are left out and their neighbours joined.
    box_beats
        Smallest and largest box, both inclusive: `ALPHA1_BEATS` or `ALPHA2_BEATS`.

    Returns
    -------
    NaN for fewer beats than four of the largest boxes, or a series without fluctuation.

    References
    ----------
    Peng et al. 1995, doi:10.1063/1.166141. Boxes from the first beat on, without overlap, a rest left out; box
    sizes eight an octave; least-squares slope of the logarithms.
    """
    low, high = box_beats
    if not 4 <= low < high:
        raise SignalError(f"box_beats={box_beats}, expected 4 <= smallest < largest")
    n_sizes = int(np.ceil(np.log(high / low) / np.log(_BOX_RATIO))) + 1
    sizes = np.unique(np.rint(np.geomspace(low, high, n_sizes)).astype(int))
    return _by_row(rr_ms, lambda row: _scaling_exponent(row[np.isfinite(row)], sizes))


def inflection_percent(rr_ms: ArrayLike) -> _Floats:
    """Return the percentage of inflection points (PIP), shape (...): how often acceleration changes sign.

    References
    ----------
    Costa, Davis & Goldberger 2017, doi:10.3389/fphys.2017.00255: points where successive differences have
    opposite signs or either is 0, per interval. Rejected beats (NaN) and what touches them are left out.
    """
    rows = as_rr_ms(rr_ms)
    differences = np.diff(rows, axis=-1)
    inflections = (differences[..., 1:] * differences[..., :-1] <= 0.0).sum(axis=-1)
    n_valid = np.isfinite(rows).sum(axis=-1)
    return np.asarray(100.0 * inflections / np.where(n_valid > 2, n_valid, np.nan))


def _neighbour_differences(rr_ms: ArrayLike) -> _Floats:
    return np.asarray(np.diff(as_rr_ms(rr_ms), axis=-1))


def _sd(values: _Floats) -> _Floats:
    """Return the standard deviation (n - 1) of what is no NaN; NaN below two values."""
    present = np.isfinite(values)
    n = present.sum(axis=-1)
    means = np.nansum(values, axis=-1) / np.where(n > 0, n, np.nan)
    rest = values - means[..., np.newaxis]
    rest *= rest
    return np.asarray(np.sqrt(np.nansum(rest, axis=-1) / np.where(n > 1, n - 1, np.nan)))


def _by_row(rr_ms: ArrayLike, of_row: Any) -> _Floats:
    """Return the figure of every series; each has neighbours of its own."""
    rows = as_rr_ms(rr_ms)
    out = np.full(rows.shape[:-1], np.nan)
    for row in np.ndindex(rows.shape[:-1]):
        out[row] = of_row(rows[row])
    return np.asarray(out)


def _counts(row: _Floats, run_beats: int, tolerance_ms: float | None) -> tuple[_Counts, _Counts]:
    """Return how many runs are similar to each (itself included), of the shorter and of the longer length.

    Runs of the shorter length are those that begin a longer one.
    """
    if run_beats < 1:
        raise SignalError(f"run_beats={run_beats}, expected at least 1")
    if tolerance_ms is None:
        tolerance_ms = TOLERANCE_SD * float(_sd(row))
    else:
        as_positive(tolerance_ms, name="tolerance_ms", unit="ms")
    none = np.empty(0, dtype=np.int64)
    if row.size <= run_beats or not tolerance_ms > 0.0:
        return none, none
    whole = _whole_runs(row, run_beats + 1)
    if run_beats == 2 and whole.any():
        distinct = np.unique(row[np.isfinite(row)])
        if distinct.size**2 <= _TABLE_CELLS * row.size:
            return _counts_by_table(row, whole, distinct, tolerance_ms)
    runs = np.lib.stride_tricks.sliding_window_view(row, run_beats + 1)[whole]
    return _counts_by_tree(runs[:, :-1], tolerance_ms), _counts_by_tree(runs, tolerance_ms)


def _whole_runs(row: _Floats, n_beats: int) -> NDArray[np.bool_]:
    """Return which runs of `n_beats` hold no rejected beat."""
    valid = np.isfinite(row)
    whole = np.ones(row.size - n_beats + 1, dtype=bool)
    for k in range(n_beats):  # members of a run
        whole &= valid[k : k + whole.size]
    return whole


def _counts_by_tree(runs: _Floats, tolerance_ms: float) -> _Counts:
    if runs.shape[0] == 0:
        return np.empty(0, dtype=np.int64)
    tree = spatial.cKDTree(runs)
    counts = tree.query_ball_point(runs, tolerance_ms, p=np.inf, return_length=True)
    return np.asarray(counts, dtype=np.int64)


def _counts_by_table(
    row: _Floats, whole: NDArray[np.bool_], distinct: _Floats, tolerance_ms: float
) -> tuple[_Counts, _Counts]:
    """Return the counts as the module's theory of operation tells."""
    low = np.searchsorted(distinct, distinct - tolerance_ms, side="left")
    high = np.searchsorted(distinct, distinct + tolerance_ms, side="right")
    numbers = np.searchsorted(distinct, row).astype(np.int32)
    first, second, third = (numbers[k : k + whole.size][whole] for k in range(3))
    del numbers
    order = np.argsort(first, kind="stable").astype(np.int32)
    begins = np.concatenate([[0], np.cumsum(np.bincount(first, minlength=distinct.size))])
    second, third = second[order], third[order]
    del first
    fits = np.bincount(second).max() <= np.iinfo(np.int16).max  # the largest a cell can become
    shape = (distinct.size + 1, distinct.size + 1)  # a row of nothing at the end
    table = np.zeros(shape, dtype=np.int16 if fits else np.int32)
    shorter, longer = np.empty(order.size, dtype=np.int32), np.empty(order.size, dtype=np.int32)
    spread = np.arange(int((high - low).max()))
    inside = left = 0
    for value in range(distinct.size):  # distinct first members, a few hundred
        entering, leaving = slice(inside, begins[high[value]]), slice(left, begins[low[value]])
        _add(table, second[entering], third[entering], 1)
        _add(table, second[leaving], third[leaving], -1)
        inside, left = entering.stop, leaving.stop
        asked = slice(begins[value], begins[value + 1])
        if asked.start == asked.stop:
            continue
        of_second, of_third = second[asked], third[asked]
        totals = np.concatenate([[0], np.cumsum(table[:-1, -1], dtype=np.int64)])
        shorter[order[asked]] = totals[high[of_second]] - totals[low[of_second]]
        near = low[of_second, np.newaxis] + spread
        near[near >= high[of_second, np.newaxis]] = distinct.size
        columns = table[near, high[of_third, np.newaxis]] - table[near, low[of_third, np.newaxis]]
        longer[order[asked]] = columns.sum(axis=-1, dtype=np.int64)
    return shorter, longer


def _add(table: NDArray[Any], rows: NDArray[np.int32], columns: NDArray[np.int32], sign: int) -> None:
    """Add runs to the table: to every column above their own."""
    width = table.shape[1]
    order = np.argsort(rows, kind="stable")
    touched, begins = np.unique(rows[order], return_index=True)
    begins = np.append(begins, rows.size)
    for k in range(0, touched.size, _ROWS_AT_ONCE):  # bounds the memory
        some = touched[k : k + _ROWS_AT_ONCE]
        runs = order[begins[k] : begins[k + some.size]]
        places = np.searchsorted(some, rows[runs]) * width + columns[runs] + 1
        added = np.bincount(places, minlength=some.size * width).reshape(-1, width)
        table[some] += sign * np.cumsum(added, axis=-1, dtype=table.dtype)


def _sample_entropy(shorter: _Counts, longer: _Counts) -> float:
    pairs, longer_pairs = (int(counts.sum(dtype=np.int64)) - counts.size for counts in (shorter, longer))
    return float(np.log(pairs / longer_pairs)) if longer_pairs else float("nan")


def _approximate_entropy(
    row: _Floats, run_beats: int, tolerance_ms: float | None, shorter: _Counts, longer: _Counts
) -> float:
    if shorter.size == 0:
        return float("nan")
    tolerance_ms = tolerance_ms or TOLERANCE_SD * float(_sd(row))
    log_longer = _mean_log(longer)
    last = row[row.size - run_beats :]
    if np.isnan(last).any():
        return _mean_log(shorter) - log_longer
    n_runs = row.size - run_beats
    similar = np.ones(n_runs, dtype=bool)
    for k in range(run_beats + 1):  # members of a run
        members = row[k : k + n_runs]
        similar &= np.abs(members - last[k]) <= tolerance_ms if k < run_beats else np.isfinite(members)
    if shorter.size < n_runs:
        similar = similar[_whole_runs(row, run_beats + 1)]
    return _mean_log(np.append(shorter + similar, similar.sum() + 1)) - log_longer


def _mean_log(counts: _Counts) -> float:
    return float(np.log(counts).mean() - np.log(counts.size))


def _scaling_exponent(row: _Floats, sizes: NDArray[np.int_]) -> float:
    if row.size < _LEAST_BOXES * sizes[-1]:
        return float("nan")
    profile = np.cumsum(row - row.mean())
    fluctuations = np.sqrt([_squared_fluctuation(profile, int(size)) for size in sizes])
    if not (fluctuations > 1e-9 * row.mean()).all():
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(fluctuations), 1)[0])


def _squared_fluctuation(profile: _Floats, size: int) -> float:
    """Return the mean square about the straight line of each box."""
    boxes = profile[: profile.size // size * size].reshape(-1, size)
    centred = np.arange(size) - (size - 1) / 2.0
    rest = boxes - boxes.mean(axis=-1, keepdims=True)
    slopes = rest @ centred / (centred @ centred)
    left = float(np.einsum("ij,ij", rest, rest) - (slopes @ slopes) * (centred @ centred))
    return max(left, 0.0) / boxes.size
