"""Calibration curves: known polynomials, limits, cross-validation by recording, misuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.saturation_curve import SaturationCurve, fit_curve
from protocols.errors import SignalError


def test_curve_gives_the_textbook_s_values_and_nan_outside_its_range() -> None:
    curve = SaturationCurve("textbook", (110.0, -25.0), 0.3, 2.0)
    found = curve.spo2_percent([[0.2, 0.3, 0.4], [1.0, 2.0, np.nan]])
    np.testing.assert_allclose(found, [[np.nan, 100.0, 100.0], [85.0, 60.0, np.nan]])


def test_what_lies_below_zero_is_no_saturation() -> None:
    assert np.isnan(SaturationCurve("x", (10.0, -25.0), 0.0, 2.0).spo2_percent([1.0])).all()


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_fit_finds_the_polynomial_of_exact_pairs(degree: int) -> None:
    coefficients = (105.0, -15.0, -4.0, 1.0)[: degree + 1]
    ratio = np.linspace(0.4, 2.0, 20)
    fit = fit_curve(
        ratio,
        np.polynomial.polynomial.polyval(ratio, coefficients),
        recording=np.repeat(np.arange(5), 4),
        device="x",
        degree=degree,
    )
    np.testing.assert_allclose(fit.curve.coefficients, coefficients, rtol=1e-6)
    assert fit.arms_percent < 1e-6
    assert fit.cross_validated_arms_percent < 1e-6
    assert (fit.curve.lowest_ratio, fit.curve.highest_ratio) == (0.4, 2.0)
    assert (fit.n_pairs, fit.n_recordings) == (20, 5)


def test_cross_validation_leaves_a_recording_out_as_a_whole() -> None:
    ratio = np.array([0.5, 1.0, 1.5, 0.5, 1.0, 1.5])
    truth = 110.0 - 25.0 * ratio + np.array([3.0, 3.0, 3.0, -3.0, -3.0, -3.0])
    fit = fit_curve(ratio, truth, recording=["a"] * 3 + ["b"] * 3, device="x")
    assert fit.arms_percent == pytest.approx(3.0)
    assert fit.cross_validated_arms_percent == pytest.approx(6.0)  # each by the other's curve, 6 % away


def test_pairs_with_nan_are_left_out_and_one_recording_has_no_cross_validation() -> None:
    fit = fit_curve([0.5, np.nan, 1.0], [97.0, 90.0, 85.0], recording=["a", "a", "a"], device="x")
    assert fit.n_pairs == 2
    assert np.isnan(fit.cross_validated_arms_percent)


@pytest.mark.parametrize(
    "arguments",
    [
        {"coefficients": (110.0,)},
        {"coefficients": (110.0, float("nan"))},
        {"lowest_ratio": 2.0},
        {"lowest_ratio": -1.0},
        {"highest_ratio": float("inf")},
    ],
)
def test_a_curve_that_is_none_is_refused(arguments: dict[str, Any]) -> None:
    whole = {"device": "x", "coefficients": (110.0, -25.0), "lowest_ratio": 0.3, "highest_ratio": 2.0}
    with pytest.raises(SignalError):
        SaturationCurve(**{**whole, **arguments})


@pytest.mark.parametrize(
    ("ratio", "reference", "recording", "degree", "named"),
    [
        ([0.5, 1.0], [90.0], ["a", "b"], 1, "expected pairs"),
        ([0.5, 1.0], [90.0, 80.0], ["a", "b"], 0, "degree"),
        ([0.5, 1.0], [90.0, 80.0], ["a", "b"], 4, "degree"),
        ([0.5, 0.5], [90.0, 80.0], ["a", "b"], 1, "different ratios"),
    ],
)
def test_misuse_is_named(ratio: Any, reference: Any, recording: Any, degree: int, named: str) -> None:
    with pytest.raises(SignalError, match=named):
        fit_curve(ratio, reference, recording=recording, device="x", degree=degree)
