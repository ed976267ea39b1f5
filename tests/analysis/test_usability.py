"""Questionnaires against published scores, and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.usability import (
    SUS_GRADES,
    UEQ_POSITIVE_LEFT,
    UEQ_SCALES,
    sus_grade,
    sus_scores,
    sus_summary,
    tlx_raw,
    tlx_weighted,
    ueq_inconsistent_scales,
    ueq_scales,
)
from protocols.errors import SignalError


@pytest.mark.shared_data
def test_published_sus_answers(shared: Path) -> None:
    data = np.loadtxt(shared / "oracles/sus_examples.csv", delimiter=",", skiprows=1)
    assert sus_scores(data[:, :10]).tolist() == data[:, 10].tolist()


@pytest.mark.shared_data
def test_grades_are_the_curved_ones(shared: Path) -> None:
    rows = np.genfromtxt(
        shared / "oracles/sus_curved_grades.csv", delimiter=",", names=True, dtype=None, encoding="utf-8"
    )
    assert [(row["grade"], row["sus_min"]) for row in rows] == list(SUS_GRADES)
    for row in rows:
        assert sus_grade(row["sus_min"]) == sus_grade(row["sus_max"]) == row["grade"]


def test_a_score_between_two_bands_has_the_lower_grade() -> None:
    assert (sus_grade(80.75), sus_grade(80.8), sus_grade(51.65), sus_grade(np.nan)) == ("A-", "A", "F", "")


@given(st.lists(st.integers(1, 5), min_size=10, max_size=10))
def test_reversed_answers_mirror_the_sus_score(answers: list[int]) -> None:
    score = sus_scores(answers).item()
    assert 0.0 <= score <= 100.0
    assert sus_scores([6 - answer for answer in answers]).item() == 100.0 - score


def test_a_group_has_an_interval_and_the_grades_it_spans() -> None:
    scores = [70.0, 75.0, 80.0, 85.0, 62.5, np.nan]
    found = sus_summary(scores)
    low, high = stats.t.interval(0.95, 4, 74.5, stats.sem(scores[:5]))
    assert (found.mean, found.low, found.high) == pytest.approx((74.5, low, high))
    assert (found.grade, found.grade_low, found.grade_high) == ("B", "C-", "A+")
    assert (found.n, found.excluded) == (5, 1)
    assert sus_summary([100.0, 99.0, 60.0]).high == 100.0


def test_a_mean_of_one_has_no_interval_and_none_has_nothing() -> None:
    one = sus_summary([80.0])
    assert (one.mean, one.grade, one.grade_low) == (80.0, "A-", "")
    assert np.isnan(one.low)
    none = sus_summary([])
    assert (none.grade, none.n) == ("", 0)
    assert np.isnan(none.mean)


def test_sus_of_a_group_is_that_of_each() -> None:
    answers = np.random.default_rng(1).integers(1, 6, (4, 7, 10))
    assert sus_scores(answers).shape == (4, 7)
    assert sus_scores(answers)[2, 3] == sus_scores(answers[2, 3])
    holed = answers.astype(float)
    holed[0, 0, 4] = np.nan
    assert np.isnan(sus_scores(holed)[0, 0])
    assert np.isnan(sus_scores(holed)).sum() == 1


def test_ueq_items_make_up_six_scales() -> None:
    assert sorted(item for items in UEQ_SCALES.values() for item in items) == list(range(1, 27))
    best = np.full(26, 7)
    best[np.array(UEQ_POSITIVE_LEFT) - 1] = 1
    assert all(scale.item() == 3.0 for scale in ueq_scales(best).values())
    assert all(scale.item() == -3.0 for scale in ueq_scales(8 - best).values())
    assert all(scale.item() == 0.0 for scale in ueq_scales(np.full(26, 4)).values())


def test_ueq_scales_of_one_changed_item() -> None:
    answers = np.full((2, 26), 4.0)
    answers[0, 2] = 1.0  # item 3, creative ... dull: the good word is on the left
    answers[1, 2] = np.nan
    scales = ueq_scales(answers)
    assert scales["novelty"].tolist() == [0.75, 0.0]
    assert scales["stimulation"].tolist() == [0.0, 0.0]
    answers[1, [2, 9, 14]] = np.nan  # three of four left out
    assert np.isnan(ueq_scales(answers)["novelty"][1])


def test_contradictory_ueq_answers_show() -> None:
    assert ueq_inconsistent_scales(np.full(26, 4)).item() == 0
    assert ueq_inconsistent_scales(np.full(26, 7)).item() == 6  # the right word throughout, good or bad
    assert ueq_inconsistent_scales(np.full(26, np.nan)).item() == 0


def test_tlx_raw_and_weighted() -> None:
    ratings = [[90.0, 10.0, 60.0, 30.0, 70.0, 40.0]]
    assert tlx_raw(ratings).tolist() == [50.0]
    weights = [[5, 0, 3, 1, 4, 2]]
    assert tlx_weighted(ratings, weights).item() == pytest.approx((450 + 180 + 30 + 280 + 80) / 15)
    assert tlx_weighted([[50.0] * 6], weights).item() == 50.0
    assert np.isnan(tlx_raw([90.0, 10.0, np.nan, 30.0, 70.0, 40.0]))
    assert np.isnan(tlx_weighted([[50.0] * 6], [[5, 0, 3, 1, 4, np.nan]])).all()


def test_misuse_is_named() -> None:
    for call, says in (
        (lambda: sus_scores([3] * 9), "answers with 9 items, expected 10"),
        (lambda: sus_scores([3] * 9 + [6]), "answers holds 6, expected whole numbers from 1 to 5"),
        (lambda: sus_scores([3] * 9 + [0]), "answers holds 0"),
        (lambda: sus_scores([3.5] * 10), "answers holds 3.5"),
        (lambda: sus_scores(3), "expected an array"),
        (lambda: sus_grade(101.0), "score=101.0"),
        (lambda: sus_summary([-1.0]), "scores from -1"),
        (lambda: sus_summary([50.0], level=1.0), "level=1.0"),
        (lambda: ueq_scales([4] * 25), "25 items, expected 26"),
        (lambda: ueq_scales([8] * 26), "answers holds 8"),
        (lambda: tlx_raw([50.0] * 5), "5 scales, expected 6"),
        (lambda: tlx_raw([101.0] * 6), "ratings holds 101"),
        (lambda: tlx_weighted([50.0] * 6, [5, 5, 5, 0, 0, 1]), "weights add up to 16"),
        (lambda: tlx_weighted([50.0] * 6, [6, 5, 4, 0, 0, 0]), "weights holds 6"),
        (lambda: tlx_weighted([[50.0] * 6], [5, 0, 3, 1, 4, 2]), "expected one shape"),
    ):
        with pytest.raises(SignalError, match=says):
            call()


def test_answers_are_not_altered() -> None:
    answers = np.full(26, 7.0)
    answers.flags.writeable = False
    ueq_scales(answers)
    assert (answers == 7.0).all()
