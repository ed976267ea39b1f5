"""Oximeter accuracy: formulas of pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.oximetry import arms_percent, bias_percent, precision_percent
from protocols.errors import SignalError

saturations = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=40)


@given(saturations)
def test_arms_squared_is_bias_squared_plus_the_spread(pairs: list[tuple[float, float]]) -> None:
    test, reference = np.array(pairs).T
    n = len(pairs)
    spread = precision_percent(test, reference) ** 2 * (n - 1) / n
    expected = bias_percent(test, reference) ** 2 + spread
    assert arms_percent(test, reference) ** 2 == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(saturations, st.floats(-20, 20))
def test_a_shift_moves_bias_alone(pairs: list[tuple[float, float]], shift: float) -> None:
    test, reference = np.array(pairs).T
    assert bias_percent(test + shift, reference) == pytest.approx(
        bias_percent(test, reference) + shift, abs=1e-9
    )
    assert precision_percent(test + shift, reference) == pytest.approx(
        precision_percent(test, reference), abs=1e-6
    )


def test_a_batch_equals_its_rows_and_missing_values_are_left_out(rng: np.random.Generator) -> None:
    test, reference = rng.uniform(70, 100, (2, 5, 50))
    test[rng.random(test.shape) < 0.2] = np.nan
    for figure in (arms_percent, bias_percent, precision_percent):
        rows = [float(figure(t[~np.isnan(t)], r[~np.isnan(t)])) for t, r in zip(test, reference, strict=True)]
        assert figure(test, reference) == pytest.approx(rows, rel=1e-12)


def test_too_few_pairs_give_nan() -> None:
    assert np.isnan(arms_percent([], []))
    assert np.isnan(bias_percent([np.nan], [90.0]))
    assert np.isnan(precision_percent([91.0], [90.0]))


def test_pairs_of_different_length_are_refused() -> None:
    with pytest.raises(SignalError, match="expected pairs"):
        arms_percent([1.0, 2.0], [1.0])
