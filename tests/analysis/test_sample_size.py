"""Sample sizes: published tables, and studies simulated at the size that was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.agreement import bland_altman
from analysis.equivalence import limits_within, tost
from analysis.proportions import clopper_pearson
from analysis.rms_error import mean_square_interval
from analysis.sample_size import (
    bias_sample_size,
    equivalence_power,
    equivalence_sample_size,
    limits_power,
    limits_sample_size,
    rms_error_sample_size,
    share_sample_size,
)
from analysis.variance_components import one_way
from protocols.errors import SignalError


@pytest.mark.parametrize(
    ("n", "bias", "sd", "margin", "power"),
    [
        # computed by the authors' method and printed in the tests and help pages of SimplyAgree
        (59, 0.5, 2.5, 7.0, 0.799),
        (78, 0.5, 2.5, 7.0, 0.901),
        (82, 0.5, 2.6, 7.0, 0.801),
        (108, 0.5, 2.6, 7.0, 0.900),
        (117, 0.5, 2.7, 7.0, 0.7999),
        (156, 0.5, 2.7, 7.0, 0.900),
        (79, 0.001167, 0.001129, 0.004, 0.8023),
        (145, 0.0, 3.3, 8.0, 0.800),
    ],
)
def test_power_of_limits_after_lu_2016(n: int, bias: float, sd: float, margin: float, power: float) -> None:
    assert limits_power(n, bias=bias, sd=sd, margin=margin) == pytest.approx(power, abs=1e-3)
    wanted = float(limits_power(n, bias=bias, sd=sd, margin=margin))
    assert limits_sample_size(bias=bias, sd=sd, margin=margin, power=wanted) == n


def test_the_example_of_peak_flow_needs_86() -> None:
    assert limits_sample_size(bias=2.12, sd=38.77, margin=100.0) == 86


def test_studies_simulated_pass_as_often_as_the_power_says(rng: np.random.Generator) -> None:
    n = limits_sample_size(bias=0.5, sd=2.5, margin=7.0, method="exact")
    power = float(limits_power(n, bias=0.5, sd=2.5, margin=7.0, method="exact"))
    assert power >= 0.8 > limits_power(n - 1, bias=0.5, sd=2.5, margin=7.0, method="exact")
    passed = limits_within(bland_altman(rng.normal(0.5, 2.5, (4000, n)), np.zeros((4000, n))), 7.0).mean()
    assert passed == pytest.approx(power, abs=4 * np.sqrt(0.16 / 4000))


def test_a_device_whose_limits_are_the_margin_passes_as_seldom_as_theory_says(rng: np.random.Generator) -> None:
    margin = 1.959964
    power = float(limits_power(50, bias=0.0, sd=1.0, margin=margin, method="exact"))
    passed = limits_within(bland_altman(rng.normal(0, 1, (8000, 50)), np.zeros((8000, 50))), margin).mean()
    assert power < 0.025
    assert passed == pytest.approx(power, abs=4 * np.sqrt(0.025 / 8000))


def test_power_grows_with_the_number_and_shrinks_with_the_bias() -> None:
    power = limits_power(np.array([2.0, 3.0, 20.0, 60.0, 200.0]), bias=0.5, sd=2.5, margin=7.0, method="exact")
    assert np.isnan(power[0])
    assert (np.diff(power[1:]) > 0).all()
    assert power[-1] <= 1.0
    mirrored = [float(limits_power(60, bias=bias, sd=2.5, margin=7.0)) for bias in (-1.0, 1.0)]
    assert mirrored[0] == pytest.approx(mirrored[1])


def test_equivalence_power_is_that_of_simulated_tests(rng: np.random.Generator) -> None:
    n = equivalence_sample_size(bias=0.1, sd=1.0, margin=0.5)
    power = float(equivalence_power(n, bias=0.1, sd=1.0, margin=0.5))
    assert power >= 0.8
    test = rng.normal(0.1, 1.0, (6000, n))
    found = tost(test, np.zeros_like(test), margin=0.5).equivalent.mean()
    assert found == pytest.approx(power, abs=4 * np.sqrt(0.16 / 6000))
    # at the margin the power is alpha
    assert equivalence_power(30, bias=1.0, sd=1.0, margin=1.0) == pytest.approx(0.05, abs=1e-6)


def test_the_bias_is_as_precise_as_asked() -> None:
    # t(0.975, 17) = 2.1098: 2.1098 / sqrt 18 = 0.497
    assert bias_sample_size(half_width=0.5, between_sd=1.0) == 18
    assert bias_sample_size(half_width=0.5, between_sd=0.0, within_sd=1.0) == 18
    many = bias_sample_size(half_width=0.5, between_sd=1.0, within_sd=3.0, pairs_per_subject=1000)
    assert many == 18


def test_subjects_for_a_limit_of_the_rms_error(rng: np.random.Generator) -> None:
    n = rms_error_sample_size(bias=0.5, between_sd=1.0, within_sd=1.5, limit=2.3, pairs_per_subject=20)
    assert 10 < n < 100
    passed = []
    for k in (n - 2, n):
        subject = np.repeat(np.arange(k), 20)
        own = rng.normal(0, 1, (4000, k))[:, subject]
        test = 0.5 + own + rng.normal(0, 1.5, own.shape)
        # the upper end of a 90 % interval is a bound of 95 %
        passed.append(float(np.mean(mean_square_interval(one_way(test, subject), 0.9).high < 2.3**2)))
    # three Monte-Carlo standard errors
    assert passed[0] < 0.8 + 0.019
    assert passed[1] == pytest.approx(0.8, abs=0.019 + 0.01)


def test_a_larger_limit_or_more_pairs_never_need_more_subjects() -> None:
    sizes = [
        rms_error_sample_size(bias=0.5, between_sd=1.0, within_sd=1.5, limit=limit, pairs_per_subject=pairs)
        for limit, pairs in ((2.2, 5), (2.2, 20), (2.6, 20), (3.0, 20))
    ]
    assert sizes == sorted(sizes, reverse=True)


def test_trials_without_and_with_errors() -> None:
    assert share_sample_size(largest_share=0.05) == 59
    assert share_sample_size(largest_share=0.01) == 299
    n = share_sample_size(largest_share=0.1, errors=2)
    assert clopper_pearson(2, n, side="upper").high <= 0.1 < clopper_pearson(2, n - 1, side="upper").high


def test_what_no_number_can_show_is_named() -> None:
    with pytest.raises(SignalError, match="within the true limits"):
        limits_sample_size(bias=0.0, sd=1.0, margin=1.9)
    with pytest.raises(SignalError, match=r"margin=1\.0"):
        equivalence_sample_size(bias=1.0, sd=1.0, margin=1.0)
    with pytest.raises(SignalError, match=r"limit=1\.0"):
        rms_error_sample_size(bias=1.0, between_sd=1.0, within_sd=1.0, limit=1.0, pairs_per_subject=3)
    with pytest.raises(SignalError, match=r"power=1\.0"):
        equivalence_sample_size(bias=0.0, sd=1.0, margin=1.0, power=1.0)
    with pytest.raises(SignalError, match="errors=-1"):
        share_sample_size(largest_share=0.1, errors=-1)
    with pytest.raises(SignalError, match="more than 10000000"):
        bias_sample_size(half_width=1e-9, between_sd=1.0)
