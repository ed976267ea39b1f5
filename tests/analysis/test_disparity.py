"""Differences of bias between groups and along a covariate: known values, theory at the limit, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.disparity import largest_group_difference, slope_difference
from protocols.errors import SignalError


def test_two_groups_give_welchs_interval_of_subjects_means(rng: np.random.Generator) -> None:
    one, other = rng.normal(0.0, 1.0, 12), rng.normal(2.0, 3.0, 9)
    means = np.concatenate([one, other])
    spread = np.tile([-1.0, 1.0], means.size)  # two pairs about each subject's mean
    found = largest_group_difference(
        np.repeat(means, 2) + spread,
        np.repeat(["a", "b"], [24, 18]),
        subject=np.repeat(np.arange(means.size), 2),
    )
    expected = stats.ttest_ind(other, one, equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert found.value == pytest.approx(abs(other.mean() - one.mean()))
    assert found.high == pytest.approx(max(abs(low), abs(high)))
    assert found.low == pytest.approx(max(0.0, low))
    assert found.n == 42
    assert found.details["difference_a_to_b"] == pytest.approx(other.mean() - one.mean())


def test_a_subject_with_many_pairs_counts_once() -> None:
    subject = np.repeat(["a1", "a2", "b1", "b2"], [1, 99, 1, 1])
    values = np.repeat([0.0, 4.0, 1.0, 1.0], [1, 99, 1, 1])
    group = np.repeat(["a", "a", "b", "b"], [1, 99, 1, 1])
    assert largest_group_difference(values, group, subject=subject).value == 1.0


def test_the_largest_of_three_differences_and_the_farthest_end_are_given(rng: np.random.Generator) -> None:
    group = np.repeat(["a", "b", "c"], 20)
    values = rng.normal(0, 1, 60) + np.repeat([0.0, 1.0, 3.0], 20)
    subject = np.arange(60)
    whole = largest_group_difference(values, group, subject=subject)
    ends = [
        largest_group_difference(values[group != left], group[group != left], subject=subject[group != left])
        for left in "abc"
    ]
    assert whole.value == max(end.value for end in ends)
    assert whole.high == max(end.high or 0.0 for end in ends)
    assert whole.low is not None
    assert whole.low < max(end.low or 0.0 for end in ends)  # its level is raised for three of them


def test_shift_sign_and_order_do_not_matter(rng: np.random.Generator) -> None:
    group, subject = np.repeat(["a", "b", "c"], 20), np.repeat(np.arange(30), 2)
    values, angle = rng.normal(0, 1, 60), np.repeat(rng.uniform(-60, 60, 30), 2)
    order = rng.permutation(60)
    for changed, where in ((values + 7.0, slice(None)), (-values, slice(None)), (values[order], order)):
        same = largest_group_difference(changed, group[where], subject=subject[where])
        found = largest_group_difference(values, group, subject=subject)
        assert (same.value, same.low, same.high) == pytest.approx((found.value, found.low, found.high))
        sloped = slope_difference(changed, angle[where], subject=subject[where], per=100.0)
        line = slope_difference(values, angle, subject=subject, per=100.0)
        assert (sloped.value, sloped.high) == pytest.approx((line.value, line.high))


def test_a_line_is_found_and_its_interval_is_that_of_a_least_squares_fit_or_wider(
    rng: np.random.Generator,
) -> None:
    angle = rng.uniform(-70, 60, 150)
    values = 0.5 - 0.02 * angle + rng.normal(0, 1, 150)
    found = slope_difference(values, angle, subject=np.arange(150), per=100.0)
    fit = stats.linregress(angle, values)
    assert found.value == pytest.approx(abs(fit.slope) * 100)
    assert found.details["slope_per_unit"] == pytest.approx(fit.slope)
    assert found.high is not None
    reach = stats.t.ppf(0.975, 148) * fit.stderr * 100
    assert found.high - found.value == pytest.approx(reach, rel=0.15)  # HC3 on equal errors


def test_the_error_of_the_slope_is_hc3_by_its_matrix_formula(rng: np.random.Generator) -> None:
    angle = np.array([-60.0, -10.0, 0.0, 5.0, 12.0, 55.0])  # few, so that leverages are large and unequal
    values = rng.normal(0, 1, 6)
    design = np.column_stack([np.ones(6), angle])
    bread = np.linalg.inv(design.T @ design)
    leverage = np.diag(design @ bread @ design.T)
    residual = values - design @ (bread @ design.T @ values)
    covariance = bread @ design.T @ np.diag((residual / (1 - leverage)) ** 2) @ design @ bread
    found = slope_difference(values, angle, subject=np.arange(6), per=10.0)
    assert found.high is not None
    reach = stats.t.ppf(0.975, 4) * np.sqrt(covariance[1, 1]) * 10
    assert found.high - found.value == pytest.approx(reach)


@pytest.mark.parametrize("spreads", [(1.0, 1.0, 1.0), (0.7, 1.0, 2.0)])
def test_a_device_exactly_at_the_limit_passes_as_often_as_theory_says(
    spreads: tuple[float, float, float], rng: np.random.Generator
) -> None:
    # One difference is the limit of 1.5 and the others are half of it: the upper end of a two-sided 95 %
    # interval lies below the true difference in 2.5 % of the studies. Standard error of 2,500: 0.31 points.
    trials, limit = 2500, 1.5
    group, subject = np.repeat(["a", "b", "c"], [50, 50, 50]), np.arange(150)
    sd, bias = np.repeat(spreads, 50), np.repeat([0.0, limit / 2, limit], 50)
    passes = 0
    for values in bias + sd * rng.normal(0, 1, (trials, 150)):
        high = largest_group_difference(values, group, subject=subject).high
        passes += high is not None and high < limit
    assert passes / trials == pytest.approx(0.025, abs=3.5 * 0.0031)


def test_a_slope_exactly_at_the_limit_passes_as_often_as_theory_says(rng: np.random.Generator) -> None:
    # HC3 errors are a little wide: of 150 subjects 0.1 points fewer pass than the 2.5 % meant.
    trials, limit = 2500, 1.5
    angle = np.linspace(-65, 60, 150)
    passes = 0
    for values in limit / 100 * angle + rng.normal(0, 1, (trials, 150)):
        high = slope_difference(values, angle, subject=np.arange(150), per=100.0).high
        passes += high is not None and high < limit
    assert passes / trials == pytest.approx(0.024, abs=3.5 * 0.0031)


def test_too_little_gives_nan_and_no_end() -> None:
    one = largest_group_difference([1.0, 2.0], ["a", "a"], subject=["s", "t"])
    assert np.isnan([one.value, one.low, one.high]).all()
    alone = largest_group_difference([1.0, 2.0, 3.0], ["a", "a", "b"], subject=["s", "t", "u"])
    assert alone.value == 1.5
    assert np.isnan([alone.low, alone.high]).all()
    for values, angle, subject in (
        ([], [], []),
        ([1.0, 2.0], [3.0, 4.0], ["s", "t"]),
        ([1.0, 2.0, 3.0], [5.0] * 3, ["s", "t", "u"]),
        ([np.nan] * 3, [1.0, 2.0, 3.0], ["s", "t", "u"]),
    ):
        found = slope_difference(values, angle, subject=subject, per=100.0)
        assert np.isnan([found.value, found.low, found.high]).all()


def test_differences_that_are_all_equal_have_no_spread() -> None:
    found = largest_group_difference([0.1] * 6, list("aabbcc"), subject=list("stuvwx"))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_missing_values_and_groups_are_left_out(rng: np.random.Generator) -> None:
    values, group, subject = rng.normal(0, 1, 40), np.repeat(["a", "b"], 20), np.arange(40)
    more = np.concatenate([values, [np.nan, 9.0]])
    found = largest_group_difference(more, np.append(group, ["a", ""]), subject=np.append(subject, [40, 41]))
    assert found == largest_group_difference(values, group, subject=subject)
    angle = rng.uniform(-60, 60, 40)
    line = slope_difference(
        more, np.append(angle, [1.0, np.nan]), subject=np.append(subject, [40, 41]), per=100.0
    )
    assert line == slope_difference(values, angle, subject=subject, per=100.0)


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="a subject in two groups"):
        largest_group_difference([1.0, 2.0], ["a", "b"], subject=["s", "s"])
    with pytest.raises(SignalError, match="group of shape"):
        largest_group_difference([1.0, 2.0], ["a"], subject=["s", "t"])
    with pytest.raises(SignalError, match="infinite"):
        slope_difference([np.inf, 1.0], [1.0, 2.0], subject=["s", "t"], per=1.0)
    with pytest.raises(SignalError, match="per=0"):
        slope_difference([1.0, 1.0], [1.0, 2.0], subject=["s", "t"], per=0.0)
    with pytest.raises(SignalError, match="level=1"):
        largest_group_difference([1.0], ["a"], subject=["s"], level=1.0)
