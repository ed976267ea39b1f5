"""Power of contrasts between people: against simulated studies judged by `analysis.disparity`."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.disparity import largest_group_difference, slope_difference
from analysis.disparity_power import group_contrast_power, slope_contrast_power
from protocols.errors import SignalError

TRIALS = 600
ERROR = 4 * np.sqrt(0.25 / TRIALS)


@pytest.mark.parametrize(("n", "difference"), [(60, 0.5), (150, 0.8), (24, 0.0)])
def test_groups_pass_as_often_as_in_simulated_studies(
    rng: np.random.Generator, n: int, difference: float
) -> None:
    group = np.repeat(["a", "b", "c"], n // 3)
    bias = np.repeat([-difference / 2, 0.0, difference / 2], n // 3)
    passed = np.mean(
        [
            largest_group_difference(bias + rng.normal(0, 1.2, n), group, subject=np.arange(n)).high < 1.5
            for _ in range(TRIALS)
        ]
    )
    power = group_contrast_power(n, largest_difference=difference, subject_sd=1.2, limit=1.5)
    assert 0.05 < power < 0.95
    assert passed == pytest.approx(power, abs=ERROR)


def test_slopes_pass_as_often_as_in_simulated_studies(rng: np.random.Generator) -> None:
    n, ita_sd, difference = 150, 35.0, 0.9
    passed = 0
    for _ in range(TRIALS):
        ita = rng.normal(0, ita_sd, n)
        d = difference / 100.0 * ita + rng.normal(0, 1.2, n)
        passed += slope_difference(d, ita, subject=np.arange(n), per=100.0).high < 1.5
    power = slope_contrast_power(
        n, difference=difference, subject_sd=1.2, covariate_sd=ita_sd, per=100.0, limit=1.5
    )
    assert 0.2 < power < 0.95
    assert passed / TRIALS == pytest.approx(power, abs=ERROR + 0.03)  # HC3 errors are a little larger


def test_a_difference_at_the_limit_passes_in_a_fortieth_at_most() -> None:
    assert group_contrast_power(300, largest_difference=1.5, subject_sd=1.2, limit=1.5) <= 0.027
    at_limit = {"difference": 1.5, "subject_sd": 1.2, "covariate_sd": 40.0, "per": 100.0, "limit": 1.5}
    assert slope_contrast_power(300, **at_limit) == pytest.approx(0.025, abs=0.002)


def test_two_groups_far_from_the_third_decide_alone() -> None:
    # with little scatter only the largest difference matters: a two-sample t test of its farther end
    n, sd = 50, 0.5
    t = stats.t.ppf(0.975, 2 * (n - 1))
    plain = stats.nct.cdf(-t, 2 * (n - 1), (1.3 - 1.5) / (sd * np.sqrt(2 / n)))
    power = group_contrast_power(3 * n, largest_difference=1.3, subject_sd=sd, limit=1.5)
    assert power == pytest.approx(plain, abs=0.01)


def test_too_few_subjects_show_nothing_and_misuse_is_named() -> None:
    assert group_contrast_power(5, largest_difference=0.0, subject_sd=1.0, limit=1.5) == 0.0
    few = {"difference": 0.0, "subject_sd": 1.0, "covariate_sd": 40.0, "per": 100.0, "limit": 1.5}
    assert slope_contrast_power(2, **few) == 0.0
    with pytest.raises(SignalError, match="subject_sd"):
        group_contrast_power(30, largest_difference=0.0, subject_sd=0.0, limit=1.5)
