"""Which test beat is which reference beat, by the matching rules of ANSI/AAMI EC57.

Theory of operation
-------------------
Reference and test beats are walked through in time order. The earlier of the two next beats is paired with the
other if they lie within the match window (150 ms, inclusive) and the other's successor is no better partner;
else it stays alone: a reference beat is missed, a test beat is extra. Pairing is one to one. Learning time (the
first 5 minutes) is left out: a test beat just before its end may still be paired with the first reference beat
after it, and a test beat just after its end that is a worse partner than the next one is not counted.

Source: the comparison as `bxb` of the WFDB software package states and does it (George B. Moody, revision of
2010), for AAMI EC38:1998, EC38:2007 and EC57:1998. Differs from it in applying the rule for the end of learning
time only where there is a learning time and a reference beat after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive
from protocols.errors import SignalError

MATCH_WINDOW_S: Final = 0.150
LEARNING_S: Final = 300.0
NEVER: Final = 1 << 62
"""The sample index of what does not come."""


@dataclass(frozen=True, slots=True, eq=False)
class BeatPairs:
    """Who is whose partner; all are indices into the beats that were given, learning time left out.

    Parameters
    ----------
    in_reference, in_test
        The two beats of every pair, shape (n_pairs,).
    missed
        Reference beats without partner.
    extra
        Test beats without partner.
    """

    in_reference: NDArray[np.intp]
    in_test: NDArray[np.intp]
    missed: NDArray[np.intp]
    extra: NDArray[np.intp]


def pair_beats(
    reference: NDArray[np.int64],
    test: NDArray[np.int64],
    *,
    rate_hz: float,
    window_s: float = MATCH_WINDOW_S,
    learning_s: float = LEARNING_S,
) -> BeatPairs:
    """Return which beats are pairs and which stay alone.

    Parameters
    ----------
    reference, test
        Ascending sample indices, shapes (n_reference,) and (n_test,).
    rate_hz
        Samples per second of both.
    window_s
        Largest distance of a pair, inclusive.
    learning_s
        Time from sample 0 that is left out; 0 for none.

    Raises
    ------
    SignalError
        If a parameter is out of range.
    """
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    window = _samples(as_positive(window_s, name="window_s", unit="s"), rate_hz)
    first_reference = first_test = 0
    if learning_s:
        start = round(as_positive(learning_s, name="learning_s", unit="s") * rate_hz)
        first_reference, first_test = _after_learning(reference, test, start=start, window=window)
    in_reference, in_test = _match(reference[first_reference:], test[first_test:], window)
    return BeatPairs(
        in_reference + first_reference,
        in_test + first_test,
        np.delete(np.arange(first_reference, reference.size), in_reference),
        np.delete(np.arange(first_test, test.size), in_test),
    )


def as_indices(values: ArrayLike, *, name: str) -> NDArray[np.int64]:
    """Return sample indices as int64, shape (n,).

    Raises
    ------
    SignalError
        If they are not one-dimensional ascending integers.
    """
    array = np.asarray(values)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise SignalError(
            f"{name} of shape {array.shape} and dtype {array.dtype}, expected sample indices (n,)"
        )
    indices = array.astype(np.int64)
    if (np.diff(indices) < 0).any():
        raise SignalError(f"{name} do not ascend, expected sample indices in time order")
    return indices


def inside(samples: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which samples lie in any of the half-open segments, shape (n,)."""
    within = np.zeros(samples.size, dtype=bool)
    for start, end in segments:
        within |= (samples >= start) & (samples < end)
    return within


def _samples(duration_s: float, rate_hz: float) -> int:
    """Return how many whole samples fit, forgiving the rounding error of the product."""
    return int(duration_s * rate_hz + 1e-6)


def _after_learning(
    reference: NDArray[np.int64], test: NDArray[np.int64], *, start: int, window: int
) -> tuple[int, int]:
    """Return the first beats of both that take part once learning ends at sample `start`."""
    reference_index, test_index = (int(np.searchsorted(beats, start)) for beats in (reference, test))
    if reference_index == reference.size:
        return reference_index, test_index
    first_reference = int(reference[reference_index])
    last_learnt, first, second = (_at(test, test_index + k) for k in (-1, 0, 1))
    if test_index > 0:
        distance = first_reference - last_learnt
        if distance <= window and distance < abs(first_reference - first):
            return reference_index, test_index - 1
    if first - start <= window and abs(first_reference - second) < abs(first_reference - first):
        test_index += 1
    return reference_index, test_index


def _at(samples: NDArray[np.int64], index: int) -> int:
    return int(samples[index]) if 0 <= index < samples.size else NEVER


def _match(
    reference: NDArray[np.int64], test: NDArray[np.int64], window: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of the paired beats in `reference` and in `test`.

    Beats more than a window apart cannot influence one another, so the beats fall into groups; one of each kind
    is a pair, and only the rare group with more of both is walked through.
    """
    times = np.concatenate([reference, test])
    order = np.argsort(times, kind="stable")
    group = np.empty(times.size, dtype=np.intp)
    group[order] = np.cumsum(np.diff(times[order], prepend=times[order][:1]) > window)
    reference_group, test_group = group[: reference.size], group[reference.size :]
    n_groups = int(group.max()) + 1 if group.size else 0
    in_reference = np.bincount(reference_group, minlength=n_groups)
    in_test = np.bincount(test_group, minlength=n_groups)
    single = (in_reference == 1) & (in_test == 1)
    pairs = [np.column_stack([np.flatnonzero(single[reference_group]), np.flatnonzero(single[test_group])])]
    for crowded in np.flatnonzero((in_reference > 0) & (in_test > 0) & ~single):
        of_reference, of_test = _members(reference_group, int(crowded)), _members(test_group, int(crowded))
        walked = _walk(reference, test, window, of_reference, of_test)
        pairs.append(np.array(walked, dtype=np.intp).reshape(-1, 2))
    matched = np.concatenate(pairs)
    return matched[:, 0], matched[:, 1]


def _members(groups: NDArray[np.intp], group: int) -> range:
    """Return where `group` stands in ascending `groups`."""
    return range(int(np.searchsorted(groups, group)), int(np.searchsorted(groups, group, side="right")))


def _walk(
    reference: NDArray[np.int64],
    test: NDArray[np.int64],
    window: int,
    of_reference: range,
    of_test: range,
) -> list[tuple[int, int]]:
    """Return the pairs among two ranges of beats, walking in time order."""
    pairs = []
    i, j = of_reference.start, of_test.start
    while i in of_reference and j in of_test:
        distance = abs(_at(test, j) - _at(reference, i))
        next_distance = abs(_at(test, j + 1) - _at(reference, i + 1))
        test_is_first = test[j] < reference[i]
        other = abs(reference[i] - _at(test, j + 1)) if test_is_first else abs(test[j] - _at(reference, i + 1))
        if distance <= window and (distance < other or next_distance < other):
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif test_is_first:
            j += 1
        else:
            i += 1
    return pairs
