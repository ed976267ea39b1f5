"""The class matrix against a slow second implementation, and its conventions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.detection import compare_beats
from analysis.detection_classes import CLASS_ROWS, ClassComparison, compare_classes, gross_classes
from protocols.errors import SignalError

classed = st.lists(st.tuples(st.integers(0, 5000), st.sampled_from("NSVFQ")), max_size=20).map(sorted)


def split(beats: list[tuple[int, str]]) -> tuple[list[int], list[str]]:
    return [at for at, _ in beats], [letter for _, letter in beats]


@given(classed, classed)
def test_the_matrix_holds_the_counts_of_the_beat_comparison(
    reference: list[tuple[int, str]], test: list[tuple[int, str]]
) -> None:
    (at, letters), (test_at, test_letters) = split(reference), split(test)
    found = compare_classes(at, letters, test_at, test_letters, rate_hz=250.0, learning_s=0)
    beats = compare_beats(at, test_at, rate_hz=250.0, learning_s=0)
    assert found.count("NSVFQ", "NSVFQ") == beats.true_positives
    assert found.count("NSVFQ", "O") == beats.false_negatives
    assert found.count("O", "NSVFQ") == beats.false_positives
    for letter in "NSVFQ":
        assert found.count(letter, "NSVFQOX") == letters.count(letter)
        assert found.count("NSVFQOX", letter) == test_letters.count(letter)


@given(st.lists(st.tuples(st.sampled_from("NSVFQ"), st.sampled_from("NSVFQ")), max_size=30))
def test_beats_far_apart_are_counted_pair_by_pair(pairs: list[tuple[str, str]]) -> None:
    at = [1000 * k for k in range(len(pairs))]
    found = compare_classes(
        at, [a for a, _ in pairs], [t + 30 for t in at], [b for _, b in pairs], rate_hz=250.0, learning_s=0
    )
    for row in "NSVFQ":
        for column in "NSVFQ":
            assert found.count(row, column) == pairs.count((row, column))


def test_fusion_and_unclassifiable_beats_called_ventricular_are_neither_right_nor_wrong() -> None:
    counts = np.zeros((7, 7), dtype=np.int64)
    for row, column, n in (("V", "V", 80), ("V", "N", 10), ("V", "O", 10), ("N", "V", 15), ("O", "V", 5)):
        counts[CLASS_ROWS.index(row), CLASS_ROWS.index(column)] = n
    counts[CLASS_ROWS.index("N"), CLASS_ROWS.index("N")] = 980
    plain = ClassComparison(counts)
    assert plain.veb.sensitivity_percent == pytest.approx(80.0)  # Vv / (Vn + Vv + Vo)
    assert plain.veb.positive_predictivity_percent == pytest.approx(80.0)  # Vv / (Nv + Vv + Ov)
    assert plain.veb.false_positive_rate_percent == pytest.approx(2.0)  # (Nv + Ov) / (Nn + Nv + Ov)
    counts[CLASS_ROWS.index("F"), CLASS_ROWS.index("V")] = 50
    counts[CLASS_ROWS.index("Q"), CLASS_ROWS.index("V")] = 50
    assert ClassComparison(counts).veb == plain.veb


def test_beats_lost_while_switched_off_are_tallied_apart() -> None:
    found = compare_classes(
        [100, 600, 1100],
        ["N", "V", "N"],
        [100, 3000],
        ["N", "S"],
        rate_hz=250.0,
        learning_s=0,
        reference_off=[[2900, 3100]],
        test_off=[[500, 700]],
    )
    assert found.count("V", "X") == found.count("N", "O") == found.count("X", "S") == 1
    assert gross_classes([found, found]).count("V", "X") == 2
    assert np.isnan(gross_classes([]).veb.sensitivity_percent)


@pytest.mark.parametrize(
    ("classes", "says"),
    [(["N"], "1 reference_classes for 2"), (["N", "X"], "X, expected one of N, S, V, F, Q")],
)
def test_misuse_is_named(classes: list[str], says: str) -> None:
    with pytest.raises(SignalError, match=says):
        compare_classes([1, 2], classes, [], [], rate_hz=250.0)
