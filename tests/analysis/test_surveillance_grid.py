"""Look-up of risks in a table that the caller brings."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.surveillance_grid import RISK_LEVELS, surveillance_levels, surveillance_risk
from protocols.errors import SignalError


@pytest.fixture(scope="module")
def table() -> np.ndarray:  # type: ignore[type-arg]
    """A table of known risks: a hundredth of reference minus test."""
    whole = np.arange(601.0)
    return (whole[:, None] - whole) / 100.0


def test_rows_are_the_reference_and_values_are_rounded(table: np.ndarray) -> None:  # type: ignore[type-arg]
    found = surveillance_risk([300.0, 100.4, 100.5, 600.4], [100.0, 300.0, 300.0, 0.0], risk_table=table)
    assert found == pytest.approx([2.0, -2.0, -1.99, 6.0])


def test_missing_and_beyond_the_table_have_no_risk(table: np.ndarray) -> None:  # type: ignore[type-arg]
    found = surveillance_risk([[np.nan, 600.5], [100.0, 100.0]], [[1.0, 1.0], [601.0, 100.0]], risk_table=table)
    assert np.isnan(found).tolist() == [[True, True], [True, False]]
    assert surveillance_levels(found).tolist() == [[-1, -1], [-1, 0]]


def test_levels_include_their_upper_edge() -> None:
    edges = [0.0, 0.5, 0.51, -1.0, 1.5, 2.0, 2.5, 3.0, -3.5, 3.51, 9.0]
    assert surveillance_levels(edges).tolist() == [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 7]
    assert len(RISK_LEVELS) == 8


def test_misuse_is_named(table: np.ndarray) -> None:  # type: ignore[type-arg]
    for reference, test, risks, says in (
        ([100.0], [100.0], table[:600, :600], r"shape \(600, 600\)"),
        ([100.0], [100.0], np.flipud(table), "for equal values"),
        ([100.0], [100.0], np.full((601, 601), np.nan), "NaN"),
        ([100.0], [100.0, 1.0], table, "expected one shape"),
        ([-1.0], [100.0], table, "reference_mgdl holds -1"),
        ([100.0], [np.inf], table, "test_mgdl holds infinite"),
    ):
        with pytest.raises(SignalError, match=says):
            surveillance_risk(reference, test, risk_table=risks)
