"""Plateaus are where the signal is still, and an exponential approach is found again from its samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.plateaus import find_plateaus, plateau_temperature_celsius, settling
from protocols.errors import SignalError


def test_steps_of_a_desaturation_are_plateaus_without_the_slopes_between() -> None:
    values = np.concatenate(
        [np.full(60, 98.0), np.linspace(98, 88, 20), np.full(45, 88.0), np.linspace(88, 70, 30)]
    )
    found = find_plateaus(values, rate_hz=1.0, shortest_s=30.0, largest_range=0.4)
    np.testing.assert_array_equal(found, [[0, 61], [79, 126]])


def test_a_missing_sample_ends_a_plateau() -> None:
    values = np.full(100, 37.0)
    values[50] = np.nan
    np.testing.assert_array_equal(
        find_plateaus(values, rate_hz=1.0, shortest_s=30.0, largest_range=0.1), [[0, 50], [51, 100]]
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0.5, 4.0))
def test_plateaus_are_the_union_of_all_still_stretches(seed: int, width: int, largest: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, 60).cumsum()
    values[rng.random(60) < 0.03] = np.nan
    inside = np.zeros(60, dtype=bool)
    for start in range(60 - width + 1):
        stretch = values[start : start + width]
        if np.ptp(stretch) <= largest:
            inside[start : start + width] = True
    found = find_plateaus(values, rate_hz=2.0, shortest_s=width / 2, largest_range=largest)
    union = np.zeros(60, dtype=bool)
    for start, end in found:
        union[start:end] = True
    np.testing.assert_array_equal(union, inside)
    assert (found[1:, 0] > found[:-1, 1]).all()


def test_a_thermometer_taken_off_early_says_where_it_was_going(rng: np.random.Generator) -> None:
    times_s = np.arange(0, 60, 0.5)
    errors = []
    for _ in range(200):
        found = settling(37.4 - 12.0 * np.exp(-times_s / 25.0) + rng.normal(0, 0.02, times_s.size), rate_hz=2.0)
        errors.append(
            ((found.final - 37.4) / found.final_se, (found.time_constant_s - 25.0) / found.time_constant_se_s)
        )
    # standardised errors have standard deviation 1; of 200 it is known to 5 %, three times that are allowed
    np.testing.assert_allclose(np.std(errors, axis=0), 1.0, atol=0.15)
    assert settling(37.4 - 12.0 * np.exp(-times_s / 25.0), rate_hz=2.0).settled_s(
        step=12.0, tolerance=0.1
    ) == pytest.approx(25.0 * np.log(120.0), rel=1e-3)


@pytest.mark.parametrize(
    "values", [np.full(100, 37.0), np.full(100, np.nan), np.arange(5.0), np.arange(100.0), np.empty(0)]
)
def test_a_signal_without_an_approach_has_none(values: np.ndarray) -> None:
    assert np.isnan(settling(values, rate_hz=1.0).final)


def test_the_highest_plateau_is_the_temperature(rng: np.random.Generator) -> None:
    at_s = np.arange(0, 300.0)
    room, taken = np.full(120, 22.0), 37.2 - 15.2 * np.exp(-at_s / 20.0)
    away = 22.0 + (taken[-1] - 22.0) * np.exp(-at_s / 20.0)
    whole = np.concatenate([room, taken, away, room])
    # 15 time constants after it was put on: what is left of the step is nothing
    assert plateau_temperature_celsius(whole, rate_hz=1.0) == pytest.approx(37.2, abs=0.01)
    noisy = whole + rng.normal(0, 0.01, whole.size)
    assert plateau_temperature_celsius(noisy, rate_hz=1.0) == pytest.approx(37.2, abs=0.01)
    # taken off after 3 time constants it was nowhere still but in the room
    early = np.concatenate([room, taken[:60], away])
    assert np.isnan(plateau_temperature_celsius(early[:180], rate_hz=1.0))
    assert np.isnan(plateau_temperature_celsius(32.0 + 1.8 * whole, rate_hz=1.0))  # Fahrenheit
    assert np.isnan(plateau_temperature_celsius(np.arange(300.0), rate_hz=1.0))
    assert np.isnan(plateau_temperature_celsius(np.full(300, np.nan), rate_hz=1.0))


@pytest.mark.parametrize(
    ("values", "options", "says"),
    [
        (np.zeros((2, 9)), {}, "shape"),
        (["a"], {}, "dtype"),
        ([np.inf, 1.0], {}, "infinite"),
        (np.zeros(9), {"largest_range": 0.0}, "largest_range=0.0"),
        (np.zeros(9), {"rate_hz": -1.0}, "rate_hz=-1.0"),
        (np.zeros(9), {"rate_hz": 0}, "rate_hz=0"),
        (np.zeros(9), {"rate_hz": None}, "rate_hz=None"),
        (np.zeros(9), {"shortest_s": 0.0}, "window_s=0.0"),
    ],
)
def test_misuse_is_named(values, options, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SignalError, match=says):
        find_plateaus(values, **{"rate_hz": 1.0, "shortest_s": 3.0, "largest_range": 1.0} | options)
