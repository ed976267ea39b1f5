"""Readings at even times of day: midnight, gaps, duplicates, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.glucose_grid import as_readings, daily_grid, step_of
from protocols.errors import SignalError

MINUTE_NS = 60_000_000_000
DAY_NS = 1440 * MINUTE_NS


def test_readings_on_the_grid_stay_what_they_are() -> None:
    values = 100.0 + np.arange(2 * 288)
    grid = daily_grid(values, times_ns=5 * DAY_NS + np.arange(1, 577) * 5 * MINUTE_NS)
    assert grid.step_min == 5
    assert grid.first_midnight_ns == 5 * DAY_NS
    # the last point of the second day is midnight of a third, which it opens
    np.testing.assert_array_equal(grid.glucose_mgdl[:2].ravel(), values)
    assert np.isnan(grid.glucose_mgdl[2:]).all()


def test_between_readings_runs_a_straight_line_unless_they_are_far_apart() -> None:
    times_ns = np.array([0, 10, 40, 85, 131]) * MINUTE_NS
    grid = daily_grid([100.0, 110.0, 140.0, 185.0, 231.0], times_ns=times_ns, step_min=5)
    series = grid.series_mgdl
    np.testing.assert_allclose(series[:17], 105.0 + 5.0 * np.arange(17))  # 45 min are joined
    assert np.isnan(series[17:26]).all()  # 46 min are not
    assert np.isnan(series[26:]).all()


def test_days_are_those_of_local_time() -> None:
    times_ns = 10 * DAY_NS + np.arange(0, 120, 5) * MINUTE_NS
    west = daily_grid(np.full(24, 100.0), times_ns=times_ns, utc_offset_min=-300.0)
    assert west.first_midnight_ns == 10 * DAY_NS - 19 * 60 * MINUTE_NS
    known = np.flatnonzero(np.isfinite(west.glucose_mgdl[0]))
    assert (known[0] + 1) * 5 == 19 * 60
    midnight_between = daily_grid(np.full(24, 100.0), times_ns=times_ns, utc_offset_min=-60.0)
    assert midnight_between.glucose_mgdl.shape == (2, 288)


def test_interval_of_the_sensor_is_recognised_despite_jitter_and_gaps(rng: np.random.Generator) -> None:
    for step in (1, 3, 5, 15):
        times_min = np.arange(300) * step + rng.uniform(-0.2, 0.2, 300)
        times_min[150:] += 400.0
        assert step_of((times_min * MINUTE_NS).astype(np.int64)) == step


def test_missing_readings_and_second_ones_of_a_time_are_left_out() -> None:
    values, times = as_readings([100.0, np.nan, 120.0, 130.0], times_ns=[0, 1, 2, 2])
    np.testing.assert_array_equal(values, [100.0, 120.0])
    np.testing.assert_array_equal(times, [0, 2])


def test_a_missing_reading_does_not_hide_a_second_one_of_its_time() -> None:
    values, times = as_readings([np.nan, 120.0], times_ns=[7, 7])
    np.testing.assert_array_equal(values, [120.0])
    np.testing.assert_array_equal(times, [7])


def test_no_reading_makes_an_empty_grid() -> None:
    grid = daily_grid([], times_ns=[])
    assert grid.glucose_mgdl.shape == (0, 288)
    assert daily_grid([100.0], times_ns=[0]).glucose_mgdl.shape == (1, 288)


def test_misuse_is_named() -> None:
    for change, says in (
        ({"times_ns": [0, 2, 1]}, "back in time"),
        ({"times_ns": [0, 1]}, "expected as many"),
        ({"times_ns": [0.0, 1.0, 2.0]}, "integers"),
        ({"step_min": 7}, "divide a day"),
        ({"step_min": 0}, "divide a day"),
        ({"longest_gap_min": 0.0}, "longest_gap_min"),
    ):
        with pytest.raises(SignalError, match=says):
            daily_grid([100.0, 110.0, 120.0], **{"times_ns": [0, MINUTE_NS, 2 * MINUTE_NS]} | change)  # type: ignore[arg-type]
