"""Episodes of low and high glucose, and the lag of a sensor, on traces of known truth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.glucose_events import episodes, sensor_lag
from analysis.glucose_grid import GlucoseGrid
from protocols.errors import SignalError

Floats = NDArray[np.float64]
MINUTE_NS = 60_000_000_000


def grid_with(level_mgdl: float, *stretches: tuple[int, int], rest_mgdl: float = 100.0) -> GlucoseGrid:
    """Return a day of 5-minute points at one level, with another from start to end of each stretch."""
    day = np.full(288, rest_mgdl)
    for start, end in stretches:
        day[start:end] = level_mgdl
    return GlucoseGrid(day[np.newaxis], 5, 0)


def test_three_readings_begin_an_episode_and_two_do_not() -> None:
    found = episodes(grid_with(60.0, (10, 13), (50, 52)), limit_mgdl=70.0, side="below")
    np.testing.assert_array_equal(found.intervals, [[10, 13]])
    np.testing.assert_array_equal(found.durations_min, [15.0])
    np.testing.assert_array_equal(found.mean_mgdl, [60.0])
    assert found.per_day == 1.0
    assert found.n_extended == 0


def test_two_readings_of_recovery_do_not_end_an_episode_and_three_do() -> None:
    one = episodes(grid_with(60.0, (10, 20), (22, 30)), limit_mgdl=70.0, side="below")
    np.testing.assert_array_equal(one.intervals, [[10, 30]])
    two = episodes(grid_with(60.0, (10, 20), (23, 30)), limit_mgdl=70.0, side="below")
    np.testing.assert_array_equal(two.intervals, [[10, 20], [23, 30]])
    # a short dip after the recovery began belongs to the episode, one before its start does not
    tail = episodes(grid_with(60.0, (5, 6), (8, 20), (21, 22)), limit_mgdl=70.0, side="below")
    np.testing.assert_array_equal(tail.intervals, [[8, 22]])


def test_the_limit_itself_is_within_range() -> None:
    assert episodes(grid_with(70.0, (10, 20)), limit_mgdl=70.0, side="below").intervals.size == 0
    assert episodes(grid_with(180.0, (10, 20)), limit_mgdl=180.0, side="above").intervals.size == 0
    assert len(episodes(grid_with(180.1, (10, 20)), limit_mgdl=180.0, side="above").intervals) == 1


def test_more_than_two_hours_are_extended() -> None:
    assert episodes(grid_with(50.0, (10, 34)), limit_mgdl=54.0, side="below").n_extended == 0
    assert episodes(grid_with(50.0, (10, 35)), limit_mgdl=54.0, side="below").n_extended == 1


def test_an_unknown_stretch_ends_an_episode() -> None:
    grid = grid_with(60.0, (10, 40))
    grid.glucose_mgdl[0, 20:22] = np.nan
    found = episodes(grid, limit_mgdl=70.0, side="below")
    np.testing.assert_array_equal(found.intervals, [[10, 20], [22, 40]])
    assert found.per_day == pytest.approx(2.0 / (286 / 288))


def test_episodes_run_over_midnight_and_to_the_ends() -> None:
    days = np.full((2, 288), 100.0)
    days[0, 280:], days[1, :5], days[0, :3], days[1, -4:] = 300.0, 300.0, 300.0, 300.0
    found = episodes(GlucoseGrid(days, 5, 0), limit_mgdl=250.0, side="above")
    np.testing.assert_array_equal(found.intervals, [[0, 3], [280, 293], [572, 576]])


def test_mirrored_traces_have_mirrored_episodes(rng: np.random.Generator) -> None:
    walk = 150.0 + 30.0 * np.sin(np.arange(864) / 20.0) + 8.0 * rng.normal(size=864)
    low = episodes(GlucoseGrid(walk.reshape(3, 288), 5, 0), limit_mgdl=130.0, side="below")
    high = episodes(GlucoseGrid((300.0 - walk).reshape(3, 288), 5, 0), limit_mgdl=170.0, side="above")
    assert len(low.intervals) > 0
    np.testing.assert_array_equal(low.intervals, high.intervals)


def test_nothing_known_has_no_episodes_and_no_rate() -> None:
    for grid in (GlucoseGrid(np.full((1, 288), np.nan), 5, 0), GlucoseGrid(np.empty((0, 288)), 5, 0)):
        found = episodes(grid, limit_mgdl=70.0, side="below")
        assert found.intervals.shape == (0, 2)
        assert np.isnan(found.per_day)


def meals(times_min: Floats) -> Floats:
    """Return blood glucose of a day with three meals, in mg/dL."""
    return 100.0 + sum(
        height * np.exp(-(((times_min - at) / 50.0) ** 2)) for at, height in ((480, 90), (780, 70), (1140, 110))
    )


def lagging(
    lag_min: float, *, noise_mgdl: float, rng: np.random.Generator, gain: float = 1.0
) -> tuple[Floats, ...]:
    sensor_min = np.arange(0.0, 1440.0, 5.0)
    reference_min = np.arange(60.0, 1380.0, 15.0)
    sensor = gain * meals(sensor_min - lag_min) + 15.0 + noise_mgdl * rng.normal(size=sensor_min.size)
    return sensor, meals(reference_min), sensor_min, reference_min


def lag_of(sensor: Floats, reference: Floats, sensor_min: Floats, reference_min: Floats):  # type: ignore[no-untyped-def]
    return sensor_lag(
        sensor,
        reference,
        times_ns=(sensor_min * MINUTE_NS).astype(np.int64),
        reference_times_ns=(reference_min * MINUTE_NS).astype(np.int64),
    )


@pytest.mark.parametrize("lag_min", [-4.0, 0.0, 6.0, 12.5])
def test_lag_is_found_whatever_gain_and_offset(lag_min: float, rng: np.random.Generator) -> None:
    found = lag_of(*lagging(lag_min, noise_mgdl=0.0, rng=rng, gain=0.8))
    # lines between readings 5 min apart cut peaks of 50 min by little
    assert found.lag_min == pytest.approx(lag_min, abs=0.3)
    assert found.correlation > 0.999
    assert found.n_pairs > 80


def test_stated_error_of_the_lag_is_the_one_it_has(rng: np.random.Generator) -> None:
    found = [lag_of(*lagging(8.0, noise_mgdl=10.0, rng=rng)) for _ in range(100)]
    lags = np.array([each.lag_min for each in found])
    errors = np.array([each.standard_error_min for each in found])
    assert lags.mean() == pytest.approx(8.0, abs=0.5)
    assert lags.std() < 1.7  # 2.3 where readings are joined by lines alone, which draw the lag between them
    # ten stretches of unequal steepness give a rough error, and one that rather overstates
    assert 0.8 < np.sqrt(np.mean(errors**2)) / lags.std() < 1.8


def test_unrelated_flat_or_few_values_have_no_lag(rng: np.random.Generator) -> None:
    sensor, reference, sensor_min, reference_min = lagging(8.0, noise_mgdl=0.0, rng=rng)
    for found in (
        lag_of(100.0 + rng.normal(size=sensor.size), reference, sensor_min, reference_min),
        lag_of(np.full(sensor.size, 100.0), reference, sensor_min, reference_min),
        lag_of(np.full(sensor.size, np.nan), reference, sensor_min, reference_min),
        lag_of(sensor, reference[:19], sensor_min, reference_min[:19]),
        lag_of(*lagging(60.0, noise_mgdl=0.0, rng=rng)),
    ):
        assert np.isnan(found.lag_min)
        assert np.isnan(found.standard_error_min)


def test_gaps_of_the_sensor_take_their_pairs_out(rng: np.random.Generator) -> None:
    sensor, reference, sensor_min, reference_min = lagging(8.0, noise_mgdl=0.0, rng=rng)
    sensor[100:130] = np.nan
    found = lag_of(sensor, reference, sensor_min, reference_min)
    assert found.lag_min == pytest.approx(8.0, abs=0.4)
    assert found.n_pairs < lag_of(*lagging(8.0, noise_mgdl=0.0, rng=rng)).n_pairs


def test_misuse_is_named() -> None:
    grid = grid_with(60.0)
    for call in (
        lambda: episodes(grid, limit_mgdl=0.0, side="below"),
        lambda: episodes(grid, limit_mgdl=70.0, side="under"),  # type: ignore[arg-type]
        lambda: episodes(grid, limit_mgdl=70.0, side="below", start_min=0.0),
        lambda: sensor_lag([100.0], [100.0], times_ns=[0, 1], reference_times_ns=[0]),
        lambda: sensor_lag([100.0], [100.0], times_ns=[0], reference_times_ns=[0], longest_lag_min=-1.0),
    ):
        with pytest.raises(SignalError, match="expected"):
            call()
