"""What is taken as a signal, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.arrays import as_positive, as_signal
from protocols.errors import SignalError


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "int64", "uint64", "f4", "f8", ">f8", "longdouble"]
)
def test_real_numbers_stay_in_their_own_type(dtype: str) -> None:
    assert as_signal(np.array([1, 2, 3], dtype=dtype)).dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (3.0, "time axis"),
        ([True, False], "bool"),
        ([1j], "complex"),
        (["a"], "<U1"),
        ([None], "object"),
        ([[1.0], [1.0, 2.0]], "signal"),
        ([0.0, np.inf], "infinite"),
        ([0.0, -np.inf], "infinite"),
        ([np.nan, 2e30], "2e\\+30, expected at most 1e\\+30"),
        ([-1e300, 0.0], "1e\\+300"),
    ],
)
def test_what_is_no_signal_is_refused_by_name(values: Any, said: str) -> None:
    with pytest.raises(SignalError, match=said):
        as_signal(values)


@pytest.mark.parametrize(
    "values", [np.empty(0), np.empty((2, 0)), np.full(3, np.nan), np.array([np.nan, -1e30])]
)
def test_nothing_missing_samples_and_the_largest_value_are_taken(values: Any) -> None:
    assert as_signal(values) is values


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, True, None, "1", np.array([1.0])])
def test_a_rate_is_one_finite_number_above_0(value: Any) -> None:
    with pytest.raises(SignalError, match="expected a"):
        as_positive(value, name="rate_hz", unit="Hz")


def test_a_mask_is_refused_rather_than_dropped() -> None:
    with pytest.raises(SignalError, match="signal is masked, expected NaN where a value is missing"):
        as_signal(np.ma.masked_array([1.0, 2.0, 99.0], mask=[False, False, True]))
