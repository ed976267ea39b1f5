"""Half-open intervals `[start, end)`: what lies in any, in both, in one but not the other.

Intervals are int64, shape (n, 2), of sample indices or ns. Results are ascending, without overlap, and such
that two that touch are one; empty ones vanish.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protocols.errors import SignalError


def as_intervals(values: ArrayLike, *, name: str = "intervals") -> NDArray[np.int64]:
    """Return `values` as int64, shape (n, 2).

    Raises
    ------
    SignalError
        If they are no pairs of integers, or one ends before it starts.
    """
    array = np.asarray(values)
    if array.size == 0:
        return np.empty((0, 2), dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        raise SignalError(f"{name} of shape {array.shape} and dtype {array.dtype}, expected integers (n, 2)")
    intervals = array.astype(np.int64)
    wrong = np.flatnonzero(intervals[:, 1] < intervals[:, 0])
    if wrong.size:
        raise SignalError(f"{name} hold {intervals[wrong[0]].tolist()}, expected none to end before it starts")
    return intervals


def union(*intervals: ArrayLike) -> NDArray[np.int64]:
    """Return what lies in any of the intervals."""
    return _where_depth(np.concatenate([np.empty((0, 2), np.int64), *map(as_intervals, intervals)]), 1)


def intersection(first: ArrayLike, second: ArrayLike) -> NDArray[np.int64]:
    """Return what lies in both."""
    return _where_depth(np.concatenate([union(first), union(second)]), 2)


def difference(first: ArrayLike, second: ArrayLike) -> NDArray[np.int64]:
    """Return what lies in the first and not in the second."""
    kept, taken = union(first), union(second)
    if kept.size == 0:
        return kept
    low, high = kept[0, 0], kept[-1, 1]
    outside = np.column_stack([np.append(low, taken[:, 1]), np.append(taken[:, 0], high)])
    return intersection(kept, outside[outside[:, 1] > outside[:, 0]])


def total_length(intervals: ArrayLike) -> int:
    """Return how much lies in any of the intervals, in their own unit."""
    merged = union(intervals)
    return int((merged[:, 1] - merged[:, 0]).sum())


def intervals_of(mask: ArrayLike) -> NDArray[np.int64]:
    """Return the runs of true in `mask`, shape (n,), as intervals of its indices."""
    flags = np.asarray(mask, dtype=bool)
    if flags.ndim != 1:
        raise SignalError(f"mask of shape {flags.shape}, expected one dimension")
    edges = np.diff(flags.astype(np.int8), prepend=0, append=0)
    return np.column_stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)])


def mask_of(intervals: ArrayLike, n: int) -> NDArray[np.bool_]:
    """Return which of `n` samples lie in the intervals, shape (n,)."""
    merged = np.clip(union(intervals), 0, n)
    steps = np.zeros(n + 1, dtype=np.int64)
    np.add.at(steps, merged[:, 0], 1)
    np.add.at(steps, merged[:, 1], -1)
    return np.cumsum(steps[:-1]) > 0


def _where_depth(intervals: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
    """Return where at least `depth` of the intervals lie over one another."""
    intervals = intervals[intervals[:, 1] > intervals[:, 0]]
    edges = intervals.ravel()
    steps = np.tile([1, -1], len(intervals))
    order = np.lexsort((-steps, edges))  # where one ends and another starts they touch: the start comes first
    over = np.cumsum(steps[order]) >= depth
    begins = edges[order][over & ~np.append(False, over[:-1])]
    ends = edges[order][~over & np.append(False, over[:-1])]
    found = np.column_stack([begins, ends])
    return found[found[:, 1] > found[:, 0]]
