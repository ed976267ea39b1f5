"""Exact factors of limits of agreement against a table computed elsewhere, and their symmetry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.limit_intervals import (
    MeanSquare,
    exact_factors,
    exact_intervals,
    mover_intervals,
    variance_interval,
)


@pytest.mark.shared_data
def test_exact_factors_of_the_95_percent_interval(shared: Path) -> None:
    table = np.genfromtxt(shared / "oracles/exact_loa_factors_derived.csv", delimiter=",", names=True)
    inner, outer = exact_factors(table["n"], 0.95, 0.95)
    # six significant digits are given
    assert inner == pytest.approx(table["inner_factor_for_SD"], rel=6e-6)
    assert outer == pytest.approx(table["outer_factor_for_SD"], rel=6e-6)


def test_factors_close_in_on_the_normal_quantile_and_need_three_pairs() -> None:
    inner, outer = exact_factors(np.array([2.0, 1e6]), 0.95, 0.95)
    assert np.isnan([inner[0], outer[0]]).all()
    assert (inner[1], outer[1]) == pytest.approx((1.96, 1.96), abs=0.005)
    assert inner[1] < 1.959964 < outer[1]


def test_the_two_limits_mirror_each_other() -> None:
    bias, sd, n = np.array([-3.0, 3.0]), np.array([2.0, 2.0]), np.array([12.0, 12.0])
    found = exact_intervals(bias, sd, n, 0.9, 0.95)
    assert found.lower.low[0] == pytest.approx(-found.upper.high[1])
    assert found.lower.high[0] == pytest.approx(-found.upper.low[1])


def test_one_mean_square_has_the_chi_square_interval() -> None:
    # quantiles of chi-square with 10 degrees of freedom: 3.24697 and 20.48318
    found = variance_interval([MeanSquare(np.array(4.0), np.array(10.0))], 0.95)
    assert found == pytest.approx((40 / 20.48318, 40 / 3.24697), rel=1e-5)


def test_a_part_of_no_weight_and_no_freedom_adds_nothing() -> None:
    one = [MeanSquare(np.array(4.0), np.array(10.0))]
    two = [*one, MeanSquare(np.array(0.0), np.array(0.0))]
    assert variance_interval(two, 0.95) == pytest.approx(variance_interval(one, 0.95))
    bias, sd = np.array(0.0), np.array(2.0)
    # with two parts the bias enters by the normal quantile, so these differ unless the bias is known
    limits = [mover_intervals(bias, np.array(0.0), sd, parts, 0.95, 0.95).upper for parts in (one, two)]
    assert limits[0] == pytest.approx(limits[1])
