"""Two one-sided tests: published p values, error rates at the margin, properties."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.agreement import bland_altman
from analysis.equivalence import limits_within, tost, tost_two_groups
from protocols.errors import SignalError

A = np.array([4, 7, 8, 6, 3, 2])
B = np.array([6, 8, 7, 10, 11, 9])


def test_p_values_of_two_groups_and_of_pairs() -> None:
    # by R's package equivalence
    found = tost_two_groups(A, B, margin=1.0)
    assert (found.p, found.freedom) == (pytest.approx(0.9650974, abs=5e-8), 10)
    assert tost_two_groups(A, B, margin=10.0).p == pytest.approx(0.00017933, abs=1e-8)
    assert tost(A, B, margin=1.0).p == pytest.approx(0.9293826, abs=5e-8)


def test_welch_equals_student_where_groups_vary_alike() -> None:
    student = tost_two_groups(A, A + 1, margin=3.0)
    welch = tost_two_groups(A, A + 1, margin=3.0, equal_variances=False)
    assert (welch.p, welch.freedom) == pytest.approx((student.p, student.freedom))
    unequal = tost_two_groups(A, 10 * A, margin=30.0, equal_variances=False)
    assert unequal.freedom < 6


def test_the_interval_inside_the_margin_is_the_test(rng: np.random.Generator) -> None:
    test = rng.normal(0.3, 1.0, (500, 15))
    found = tost(test, np.zeros_like(test), margin=(-0.5, 1.0))
    inside = (found.interval.low > -0.5) & (found.interval.high < 1.0)
    assert np.array_equal(inside, found.equivalent)
    assert 0 < inside.sum() < 500


def test_a_device_exactly_at_the_margin_passes_as_often_as_alpha(rng: np.random.Generator) -> None:
    test = rng.normal(2.0, 1.0, (6000, 20))  # the lower test is passed always
    found = tost(test, np.zeros_like(test), margin=2.0)
    assert found.equivalent.mean() == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 6000))


def test_subjects_not_pairs_are_what_is_counted(rng: np.random.Generator) -> None:
    subject = np.repeat(np.arange(12), 8)
    test = 1.0 + rng.normal(0, 1, (4000, 12))[:, subject] + rng.normal(0, 1, (4000, 96))
    by_subject = tost(test, np.zeros_like(test), margin=1.0, subject=subject)
    by_pair = tost(test, np.zeros_like(test), margin=1.0)
    assert by_subject.equivalent.mean() == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 4000))
    assert by_pair.equivalent.mean() > 0.15
    assert (by_subject.n[0], by_pair.n[0]) == (12, 96)


def test_a_batch_equals_its_rows_and_missing_pairs_are_counted(rng: np.random.Generator) -> None:
    test = rng.normal(0, 1, (3, 10))
    test[1, 2] = np.nan
    batch = tost(test, np.zeros((3, 10)), margin=1.0)
    rows = [tost(row, np.zeros(10), margin=1.0) for row in test]
    assert batch.p == pytest.approx([row.p for row in rows])
    assert batch.n.tolist() == [row.n for row in rows] == [10, 9, 10]
    assert batch.n_excluded.tolist() == [0, 1, 0]


def test_equal_or_single_differences_test_nothing() -> None:
    for found in (tost([0.1, 0.2], [0.3, 0.4], margin=1.0), tost([1.0], [1.0], margin=1.0)):
        assert np.isnan(found.p)
        assert found.equivalent is False
    assert np.isnan(tost_two_groups([1.0, 1.0], [1.0, 1.0], margin=1.0).p)


def test_limits_lie_within_a_margin_only_with_their_intervals(rng: np.random.Generator) -> None:
    found = bland_altman(rng.normal(0, 1, 30), np.zeros(30))
    reach = max(-found.lower_interval.low, found.upper_interval.high)
    assert limits_within(found, reach + 0.01) is True
    assert limits_within(found, reach - 0.01) is False
    assert limits_within(bland_altman([1.0], [0.0]), 9.0) is False
    batch = bland_altman(rng.normal(0, 1, (4, 9)), np.zeros((4, 9)))
    assert limits_within(batch, (-50.0, 50.0)).tolist() == [True] * 4


def test_misuse_is_named() -> None:
    for margin in (0.0, (1.0, 2.0), (3.0, -3.0)):
        with pytest.raises(SignalError, match="margin"):
            tost(A, B, margin=margin)
    with pytest.raises(SignalError, match=r"alpha=0\.5"):
        tost(A, B, margin=1.0, alpha=0.5)
    with pytest.raises(SignalError, match="expected pairs"):
        tost(A, B[:4], margin=1.0)
    with pytest.raises(SignalError, match="margin"):
        limits_within(bland_altman(A, B), -1.0)
