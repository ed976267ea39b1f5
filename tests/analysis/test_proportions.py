"""Shares: published intervals, exact coverage by summing over all outcomes, and shares by subject."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.proportions import clopper_pearson, share_by_subject, wilson
from protocols.errors import SignalError


def test_newcombe_1998_intervals_of_four_shares() -> None:
    successes, trials = [81, 15, 0, 1], [263, 148, 20, 29]
    # doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I
    exact, score = clopper_pearson(successes, trials), wilson(successes, trials)
    assert exact.low == pytest.approx([0.2527, 0.0578, 0.0, 0.0009], abs=5e-5)
    assert exact.high == pytest.approx([0.3676, 0.1617, 0.1684, 0.1776], abs=5e-5)
    assert score.low == pytest.approx([0.2553, 0.0624, 0.0, 0.0061], abs=5e-5)
    assert score.high == pytest.approx([0.3662, 0.1605, 0.1611, 0.1718], abs=5e-5)


def test_exact_intervals_never_cover_less_and_wilsons_do_on_average() -> None:
    n, truths = 40, np.linspace(0.01, 0.99, 99)
    x = np.arange(n + 1)
    chance = stats.binom.pmf(x, n, truths[:, None])
    for function, least in ((clopper_pearson, 0.95), (wilson, 0.83)):
        low, high = function(x, n)
        covered = (chance * ((low <= truths[:, None]) & (truths[:, None] <= high))).sum(axis=1)
        assert covered.min() >= least
    assert covered.mean() == pytest.approx(0.95, abs=0.01)
    for side in ("lower", "upper"):
        low, high = clopper_pearson(x, n, side=side)
        covered = (chance * ((low <= truths[:, None]) & (truths[:, None] <= high))).sum(axis=1)
        assert covered.min() >= 0.95


def test_no_errors_in_59_trials_bound_their_share_below_5_percent() -> None:
    assert clopper_pearson(0, 59, side="upper").high < 0.05 < clopper_pearson(0, 58, side="upper").high
    assert clopper_pearson(0, 59, side="upper").low == 0.0
    # at both sides the rule is of 3.7, not of 3
    assert clopper_pearson(0, 1000).high == pytest.approx(0.00368, abs=5e-6)


def test_errors_and_successes_mirror_each_other() -> None:
    for function in (clopper_pearson, wilson):
        low, high = function(3, 17)
        assert function(14, 17) == pytest.approx((1 - high, 1 - low))


def test_without_trials_there_is_no_interval() -> None:
    for function in (clopper_pearson, wilson):
        assert np.isnan(function(0, 0)).all()
        assert np.isnan(function([0, 1], [0, 2]).low).tolist() == [True, False]


def test_the_share_by_subject_covers(rng: np.random.Generator) -> None:
    subject, hits, trials = np.repeat(np.arange(60), 10), 0, 400
    for trial in range(trials):
        own = rng.beta(2, 2, 60)[subject]
        found = share_by_subject(rng.random(600) < own, subject, replicates=200, seed=trial)
        hits += (found.low or 0.0) <= 0.5 <= (found.high or 0.0)
    # the percentile bootstrap of 60 subjects is one or two points narrow; three standard errors of 1.1 points
    assert 0.93 - 0.033 < hits / trials < 0.95 + 0.033


def test_subjects_all_alike_are_the_trials() -> None:
    found = share_by_subject([True] * 40, np.repeat(np.arange(8), 5))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 8))
    upper = share_by_subject([0, 0, np.nan], ["a", "b", "b"], side="upper")
    assert (upper.low, upper.high) == (0.0, pytest.approx(1 - 0.05 ** (1 / 2)))
    assert upper.details["n_excluded"] == 1


def test_one_sided_bounds_by_subject_lie_inside_the_interval(rng: np.random.Generator) -> None:
    subject = np.repeat(np.arange(20), 5)
    hits = rng.random(100) < 0.7
    both, lower, upper = (share_by_subject(hits, subject, side=side) for side in ("both", "lower", "upper"))
    assert (both.low or 0) < (lower.low or 0) < both.value < (upper.high or 1) < (both.high or 1)
    assert (lower.high, upper.low) == (1.0, 0.0)
    assert share_by_subject(hits, subject) == both


def test_no_trial_and_one_subject_have_no_interval() -> None:
    assert np.isnan(share_by_subject([], []).value)
    one = share_by_subject([1, 0], ["a", "a"])
    assert (one.value, one.low) == (0.5, None)


@pytest.mark.parametrize(("successes", "trials"), [(3, 2), (-1, 2), (0.5, 2), (np.nan, 2)])
def test_counts_that_are_none_are_named(successes: float, trials: int) -> None:
    for function in (clopper_pearson, wilson):
        with pytest.raises(SignalError, match="success"):
            function(successes, trials)


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="other than 0 and 1"):
        share_by_subject([0.5, 1.0], ["a", "b"])
    with pytest.raises(SignalError, match="side='left'"):
        clopper_pearson(1, 2, side="left")
    with pytest.raises(SignalError, match="level=95"):
        wilson(1, 2, level=95)
