"""The mean over subjects: everyone counts the same, and few subjects are told as few."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.subject_means import mean_of_subjects
from protocols.errors import SignalError


def test_subjects_count_the_same_however_often_each_was_measured() -> None:
    found = mean_of_subjects([1.0, 1.0, 1.0, 1.0, 4.0], ["a", "a", "a", "a", "b"], level=0.95)
    assert (found.value, found.n, found.details["subjects"]) == (2.5, 5, 2.0)


def test_the_interval_is_students_where_each_was_measured_once(rng: np.random.Generator) -> None:
    values = rng.normal(3.0, 2.0, 9)
    found = mean_of_subjects(values, np.arange(9), level=0.9)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    assert (found.low, found.high, found.level) == pytest.approx((expected.low, expected.high, 0.9))


@pytest.mark.parametrize(("scale", "least"), [("linear", 0.94), ("log", 0.88)])
def test_six_subjects_give_intervals_that_hold_the_truth_as_often_as_they_say(
    rng: np.random.Generator, scale: str, least: float
) -> None:
    # positive figures whose spread is half their mean; three standard errors of 2,000 trials are 1.5 points,
    # and on a logarithm the mean of six lies off the truth's
    subjects = np.repeat(np.arange(6), 3)
    held = 0
    for _ in range(2000):
        of_each = rng.gamma(4.0, 2.5, 6) if scale == "log" else rng.normal(10.0, 5.0, 6)
        values = of_each[subjects] + 0.1 * rng.standard_normal(18)
        found = mean_of_subjects(values, subjects, level=0.95, scale=scale)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 10.0 <= found.high
    assert least - 0.015 <= held / 2000 <= 0.975


def test_on_a_logarithm_the_ends_stay_above_zero() -> None:
    found = mean_of_subjects([0.1, 9.0], ["a", "b"], level=0.95, scale="log")
    assert found.low is not None
    assert found.low > 0.0


@pytest.mark.parametrize(
    ("values", "subjects", "scale", "why"),
    [
        ([3.0, 4.0], ["a", "a"], "linear", "fewer than 2 subjects"),
        ([3.0, 3.0], ["a", "b"], "linear", "all subjects say the same"),
        ([0.0, 4.0], ["a", "b"], "log", "log scale"),
    ],
)
def test_without_an_interval_the_reason_is_given(
    values: list[float], subjects: list[str], scale: str, why: str
) -> None:
    found = mean_of_subjects(values, subjects, level=0.95, scale=scale)
    assert found.value == np.mean(values)
    assert (found.low, found.high, found.level) == (None, None, None)
    assert why in found.method


def test_without_a_value_there_is_no_mean() -> None:
    assert np.isnan(mean_of_subjects([], [], level=0.95).value)


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(SignalError, match="scale='cube'"):
        mean_of_subjects([1.0, 2.0], ["a", "b"], level=0.95, scale="cube")
