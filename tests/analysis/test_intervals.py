"""The algebra of half-open intervals is that of the samples in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from analysis.intervals import difference, intersection, intervals_of, mask_of, total_length, union
from protocols.errors import SignalError

N = 40
some = st.lists(st.tuples(st.integers(0, N), st.integers(0, N)).map(sorted), max_size=6).map(
    lambda pairs: np.array(pairs, dtype=np.int64).reshape(-1, 2)
)


def samples(intervals: NDArray[np.int64]) -> NDArray[np.bool_]:
    inside = np.zeros(N, dtype=bool)
    for start, end in intervals:
        inside[start:end] = True
    return inside


@given(some, some)
def test_results_hold_the_samples_they_should(first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
    a, b = samples(first), samples(second)
    for found, expected in (
        (union(first, second), a | b),
        (intersection(first, second), a & b),
        (difference(first, second), a & ~b),
    ):
        np.testing.assert_array_equal(samples(found), expected)
        np.testing.assert_array_equal(found, intervals_of(expected))  # ascending, apart, none empty
        np.testing.assert_array_equal(mask_of(found, N), expected)
        assert total_length(found) == expected.sum()


def test_nothing_is_made_of_nothing() -> None:
    for found in (union(), union([]), intersection([], [[0, 5]]), difference([], [[0, 5]]), intervals_of([])):
        assert found.shape == (0, 2)


@pytest.mark.parametrize(
    ("values", "says"),
    [([[3, 1]], r"\[3, 1\]"), ([[0.5, 1.0]], "float64"), ([1, 2], "shape"), ([[1, 2, 3]], "shape")],
)
def test_misuse_is_named(values: list[list[float]], says: str) -> None:
    with pytest.raises(SignalError, match=says):
        union(values)
