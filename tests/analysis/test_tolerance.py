"""Tolerance factors against tables, and the bounds of coverage probability and total deviation index."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from analysis.tolerance import coverage_probability, tolerance_factor, total_deviation_index
from protocols.errors import SignalError


def test_exact_two_sided_factors() -> None:
    # ISO 16269-6 and the tables of Odeh & Owen 1980 have 2.856 and 3.393 for n = 10 (remembered, unconfirmed)
    assert tolerance_factor(10, share=0.90, level=0.95) == pytest.approx(2.856, abs=5e-4)
    assert tolerance_factor(10, share=0.95, level=0.95) == pytest.approx(3.393, abs=5e-4)
    # Howe's approximation as the NIST handbook computes it for n = 43, within half a percent
    assert tolerance_factor(43, share=0.90, level=0.99) == pytest.approx(2.2173, rel=5e-3)


def test_factors_hold_their_share_with_their_confidence(rng: np.random.Generator) -> None:
    for n in (5, 30):
        x = rng.normal(0, 1, (20_000, n))
        mean, reach = x.mean(axis=1), float(tolerance_factor(n, share=0.9, level=0.95)) * x.std(axis=1, ddof=1)
        held = special.ndtr(mean + reach) - special.ndtr(mean - reach) >= 0.9
        assert held.mean() == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 20_000))


def test_factors_keep_the_shape_and_close_in_on_the_normal_quantile() -> None:
    found = tolerance_factor(np.array([[1.0, 2.0], [1e7, 30.0]]), share=0.9, level=0.95)
    assert np.isnan(found[0, 0])
    assert found[1, 0] == pytest.approx(1.645, abs=2e-3)
    assert found[0, 1] > found[1, 1] > found[1, 0]


def test_index_and_probability_are_each_others_inverse(rng: np.random.Generator) -> None:
    test = rng.normal(0.7, 1.0, 25)
    index = total_deviation_index(test, np.zeros(25), share=0.8)
    assert coverage_probability(test, np.zeros(25), margin=index.value).value == pytest.approx(0.8)
    assert coverage_probability(test, np.zeros(25), margin=index.bound).bound == pytest.approx(0.8)
    assert index.bound > index.value


def test_probability_of_known_moments() -> None:
    test = np.array([-1.0, 1.0]) * np.sqrt(0.5) * 2 + 1.0  # mean 1, sd 2
    found = coverage_probability(test, [0.0, 0.0], margin=3.0)
    assert found.value == pytest.approx(special.ndtr(1.0) - special.ndtr(-2.0))


@pytest.mark.parametrize(("bias", "between"), [(0.0, 0.0), (0.0, 1.0), (2.0, 1.0)])
def test_bounds_hold_at_least_as_often_as_they_say(
    bias: float, between: float, rng: np.random.Generator
) -> None:
    subject = np.repeat(np.arange(12), 5)
    sd = np.hypot(between, 1.0)
    margin = 2.5
    # the bound of the probability is below it where the bound of the index for that share is above the margin
    truth = float(special.ndtr((margin - bias) / sd) - special.ndtr((-margin - bias) / sd))
    held, trials = 0, 300
    for _ in range(trials):
        test = bias + rng.normal(0, between, 12)[subject] + rng.normal(0, 1, 60)
        held += total_deviation_index(test, np.zeros(60), share=truth, subject=subject).bound >= margin
    # three Monte-Carlo standard errors below
    assert held / trials > 0.95 - 3 * np.sqrt(0.95 * 0.05 / trials)


def test_pairs_of_few_subjects_are_worth_less() -> None:
    rng = np.random.default_rng(8)
    subject = np.repeat(np.arange(10), 20)
    test = rng.normal(0, 1, 10)[subject] + rng.normal(0, 1, 200)
    by_subject = total_deviation_index(test, np.zeros(200), subject=subject)
    by_pair = total_deviation_index(test, np.zeros(200))
    assert by_subject.bound > by_pair.bound
    assert by_subject.effective_n < 40 < by_pair.effective_n == 200
    assert by_subject.freedom < 100


def test_pairs_that_repeat_themselves_are_worth_their_subjects() -> None:
    subject = np.repeat(np.arange(10), 20)
    own = np.random.default_rng(9).normal(0, 1, 10)
    test = own[subject] + np.tile([1e-4, -1e-4], 100)
    repeated = total_deviation_index(test, np.zeros(200), subject=subject)
    single = total_deviation_index(own, np.zeros(10))
    assert (repeated.effective_n, repeated.freedom) == pytest.approx((10, 9), rel=1e-5)
    assert repeated.bound == pytest.approx(single.bound, rel=1e-5)


def test_order_unit_and_names_do_not_matter(rng: np.random.Generator) -> None:
    subject, test = np.repeat([1, 2, 3, 4], 5), rng.normal(0, 1, 20)
    first = total_deviation_index(test, np.zeros(20), subject=subject)
    order = rng.permutation(20)
    again = total_deviation_index(9 * test[order], np.zeros(20), subject=(10 - subject)[order])
    assert (again.value, again.bound) == pytest.approx((9 * first.value, 9 * first.bound))


def test_small_units_keep_bounds_and_degrees_of_freedom(rng: np.random.Generator) -> None:
    test, subject = rng.normal(size=12), np.arange(12) // 3
    plain, small = (total_deviation_index(u * test, np.zeros(12), subject=subject) for u in (1.0, 1e-100))
    assert small.freedom == pytest.approx(plain.freedom, rel=1e-9)
    assert small.bound == pytest.approx(1e-100 * plain.bound, rel=1e-9)


def test_too_few_or_equal_differences_have_no_bound() -> None:
    few = coverage_probability([1.0, np.nan], [0.0, 0.0], margin=2.0)
    assert np.isnan([few.value, few.bound]).all()
    assert (few.n_pairs, few.n_excluded) == (1, 1)
    assert "fewer than 2 pairs" in few.remark
    one = coverage_probability([1.0, 2.0], [0.0, 0.0], margin=2.0, subject=["a", "a"])
    assert "fewer than 2 subjects" in one.remark
    for margin, share in ((2.0, 1.0), (0.5, 0.0)):
        equal = coverage_probability([1.1, 1.2, 1.3], [0.1, 0.2, 0.3], margin=margin)
        assert equal.value == share
        assert np.isnan(equal.bound)
        assert "equal" in equal.remark
    assert total_deviation_index([1.1, 1.2], [0.1, 0.2]).value == pytest.approx(1.0)
    # their squares are too small to be told from 0
    assert np.isnan(total_deviation_index([1e-300, 2e-300, 5e-300], [0.0] * 3).bound)


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="margin=0"):
        coverage_probability([1.0], [1.0], margin=0.0)
    with pytest.raises(SignalError, match="share=90"):
        total_deviation_index([1.0], [1.0], share=90)
    with pytest.raises(SignalError, match="expected pairs"):
        total_deviation_index([1.0], [1.0, 2.0])
