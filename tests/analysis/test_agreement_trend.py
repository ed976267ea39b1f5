"""Proportional bias and heteroscedasticity: a published regression, known truth, coverage by subject."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.agreement_trend import agreement_trend
from protocols.errors import SignalError


@pytest.mark.shared_data
def test_milk_fat_of_1999(shared: Path) -> None:
    data = np.genfromtxt(shared / "oracles/ba1999_milk_fat.csv", delimiter=",", names=True)
    found = agreement_trend(data["Trig"], data["Gerber"])
    assert (found.bias.intercept, found.bias.slope) == pytest.approx((0.079, -0.0283), abs=(5e-4))
    assert found.bias.slope == pytest.approx(-0.0283, abs=5e-5)
    assert found.bias.residual_sd == pytest.approx(0.08033, abs=5e-6)
    lower, upper = found.limits_at([1.0, 4.0], constant_spread=True)
    assert upper - lower == pytest.approx([2 * 1.96 * 0.08033] * 2, rel=1e-4)
    assert (lower + upper) / 2 == pytest.approx(found.bias.at([1.0, 4.0]))


def test_limits_follow_a_spread_that_grows(rng: np.random.Generator) -> None:
    size = rng.uniform(50, 150, 20_000)
    test = 1.05 * size + rng.normal(0, 0.04 * size)
    found = agreement_trend(test, size, size="reference")
    assert found.bias.slope_interval.low < 0.05 < found.bias.slope_interval.high
    assert found.spread.p < 1e-6
    lower, upper = found.limits_at([60.0, 140.0])
    # slope and spread are known to 1 % here
    assert upper == pytest.approx([60 * (0.05 + 1.96 * 0.04), 140 * (0.05 + 1.96 * 0.04)], rel=0.03)
    assert lower == pytest.approx([60 * (0.05 - 1.96 * 0.04), 140 * (0.05 - 1.96 * 0.04)], rel=0.1)


def test_the_slope_by_subject_covers_where_pairs_of_a_subject_share_their_error(
    rng: np.random.Generator,
) -> None:
    subject = np.repeat(np.arange(30), 6)
    hits = np.zeros(2)
    trials = 400
    for _ in range(trials):
        size = rng.normal(100, 10, 30)[subject] + rng.normal(0, 1, subject.size)
        test = 1.1 * size + rng.normal(0, 3, 30)[subject] + rng.normal(0, 1, subject.size)
        for which, own in enumerate((subject, None)):
            low, high = agreement_trend(test, size, subject=own, size="reference").bias.slope_interval
            hits[which] += low <= 0.1 <= high
    by_subject, by_pair = hits / trials
    # the sandwich of 30 subjects is a point or two narrow; pairs taken for independent are far off
    assert by_subject == pytest.approx(0.95, abs=0.02 + 0.03)
    assert by_pair < 0.75


def test_order_shift_and_scale(rng: np.random.Generator) -> None:
    test, reference = rng.normal(10, 2, (2, 25))
    first = agreement_trend(test, reference)
    order = rng.permutation(25)
    again = agreement_trend(3 * test[order] + 100, 3 * reference[order] + 100)
    assert again.bias.slope == pytest.approx(first.bias.slope)
    assert again.bias.residual_sd == pytest.approx(3 * first.bias.residual_sd)
    assert again.bias.at(100 + 3 * 10) == pytest.approx(3 * first.bias.at(10))


@pytest.mark.parametrize(
    ("test", "reference", "says"),
    [
        ([1.0, 2.0], [1.0, 3.0], "fewer than 3"),
        ([1.0, 2.0, np.nan], [1.0, 3.0, 4.0], "fewer than 3"),
        ([5.0, 5.0, 5.0], [5.0, 5.0, 5.0], "size does not vary"),
        ([1e-300, 2e-300, 5e-300], [0.0, 0.0, 0.0], "size does not vary"),
        ([1.0, 2.0, 3.0], [0.9, 1.9, 2.9], "on a line"),
    ],
)
def test_what_cannot_be_known_is_nan_with_its_reason(
    test: list[float], reference: list[float], says: str
) -> None:
    found = agreement_trend(test, reference)
    assert np.isnan(found.bias.slope_interval).all()
    assert any(says in remark for remark in found.remarks)
    assert np.isfinite(found.bias.slope) == (says == "on a line")


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="expected pairs"):
        agreement_trend([1.0], [1.0, 2.0])
    with pytest.raises(SignalError, match="size='test'"):
        agreement_trend([1.0], [1.0], size="test")
    with pytest.raises(SignalError, match="one dimension"):
        agreement_trend([[1.0]], [[1.0]])
