"""Root mean square error: its value, and how often its intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.rms_error import mean_square_interval, rms_error
from analysis.variance_components import one_way
from protocols.errors import SignalError


def test_bias_and_spread_are_held_together() -> None:
    found = rms_error([93.0, 91.0, 96.0], [90.0, 90.0, 92.0])
    assert found.value == pytest.approx(np.sqrt((9 + 1 + 16) / 3))
    assert found.details["bias"] == pytest.approx(8 / 3)
    assert found.value**2 == pytest.approx(found.details["bias"] ** 2 + found.details["sd"] ** 2 * 2 / 3)


@pytest.mark.parametrize(
    ("n_subjects", "n_pairs", "between", "bias"),
    [(10, 20, 1.0, 0.0), (10, 20, 1.0, 2.0), (24, 20, 0.5, 0.5), (40, 1, 0.0, 1.0), (30, 3, 2.0, 1.0)],
)
def test_the_analytic_interval_covers(
    n_subjects: int, n_pairs: int, between: float, bias: float, rng: np.random.Generator
) -> None:
    subject = np.repeat(np.arange(n_subjects), n_pairs)
    truth = np.sqrt(bias**2 + between**2 + 1.0)
    own = rng.normal(0, between, (3000, n_subjects))[:, subject]
    found = mean_square_interval(one_way(bias + own + rng.normal(0, 1, own.shape), subject), 0.95)
    covered = np.mean((found.low <= truth**2) & (truth**2 <= found.high))
    # MOVER holds back a little: 94.5 to 97.5 %, and four Monte-Carlo standard errors of 0.4 points
    assert 0.945 - 0.016 < covered < 0.975 + 0.012


def test_the_interval_is_the_root_of_that_of_the_mean_square(rng: np.random.Generator) -> None:
    subject, test = rng.integers(0, 5, 30), rng.normal(1, 1, 30)
    found = rms_error(test, np.zeros(30), subject=subject)
    squares = mean_square_interval(one_way(test, subject), 0.95)
    assert (found.low, found.high) == pytest.approx(tuple(np.sqrt(squares)))


def test_the_interval_of_balanced_pairs_written_out(rng: np.random.Generator) -> None:
    test = 1.5 + rng.normal(0, 2, (6, 1)) + rng.normal(0, 1, (6, 4))
    bias, squares = test.mean(), (test**2).mean()
    between = 4 * test.mean(axis=1).var(ddof=1) / 4
    within = 0.75 * test.var(axis=1, ddof=1).mean()
    sums = [(between, 5), (within, 18)]
    low = sum((part * (1 - df / stats.chi2.ppf(0.975, df))) ** 2 for part, df in sums)
    high = sum((part * (df / stats.chi2.ppf(0.025, df) - 1)) ** 2 for part, df in sums)
    reach = stats.t.ppf(0.975, 5) * np.sqrt(between / 6)
    low += (bias**2 - max(0.0, abs(bias) - reach) ** 2) ** 2
    high += ((abs(bias) + reach) ** 2 - bias**2) ** 2
    found = mean_square_interval(one_way(test.ravel(), np.repeat(np.arange(6), 4)), 0.95)
    assert found == pytest.approx((max(0.0, squares - np.sqrt(low)), squares + np.sqrt(high)))


def test_the_bootstrap_of_many_subjects_agrees_with_theory(rng: np.random.Generator) -> None:
    subject = np.repeat(np.arange(200), 5)
    test = 0.5 + rng.normal(0, 1, 200)[subject] + rng.normal(0, 1, 1000)
    analytic, drawn = (
        rms_error(test, np.zeros(1000), subject=subject, method=m) for m in ("analytic", "bootstrap")
    )
    assert (drawn.low, drawn.high) == pytest.approx((analytic.low, analytic.high), abs=0.05)
    again = rms_error(test, np.zeros(1000), subject=subject, method="bootstrap")
    assert (again.low, again.high) == (drawn.low, drawn.high)
    other = rms_error(test, np.zeros(1000), subject=subject, method="bootstrap", seed=1)
    assert other.low != drawn.low


def test_unit_order_and_shift_of_both(rng: np.random.Generator) -> None:
    subject, test, reference = np.repeat(np.arange(6), 4), rng.normal(95, 2, 24), rng.normal(95, 1, 24)
    first = rms_error(test, reference, subject=subject)
    order = rng.permutation(24)
    again = rms_error(2 * test[order] + 5, 2 * reference[order] + 5, subject=-subject[order])
    assert (again.value, again.low, again.high) == pytest.approx(
        tuple(2 * end for end in (first.value, first.low or 0.0, first.high or 0.0))
    )


def test_too_little_gives_no_interval_and_the_reason() -> None:
    assert np.isnan(rms_error([], []).value)
    one = rms_error([91.0, 92.0, np.nan], [90.0, 90.0, 90.0], subject=["a", "a", "a"])
    assert one.low is None
    assert "fewer than 2 subjects" in one.method
    assert one.details["n_excluded"] == 1
    equal = rms_error([90.3, 91.3], [90.0, 91.0])
    assert equal.low is None
    assert "equal" in equal.method


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="method='exact'"):
        rms_error([1.0], [1.0], method="exact")
    with pytest.raises(SignalError, match="expected pairs"):
        rms_error([1.0], [1.0, 2.0])
