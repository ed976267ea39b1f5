"""Desaturations of synthetic nights whose events are known, and the conventions stated in the module."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.desaturation import (
    desaturation_index_per_h,
    find_desaturations,
    summarise_desaturations,
    time_below_percent,
)
from firmware_sim.signals.desaturation import controlled_desaturation
from protocols.errors import SignalError

Floats = NDArray[np.float64]


def night(
    *, hours: float = 2.0, every_s: float = 60.0, drop: float = 5.0, level: float = 97.0, rate_hz: float = 1.0
) -> tuple[Floats, int]:
    """Return SpO2 with a dip of 20 s down and 15 s up every so often, rounded to 1 %, and their number."""
    time_s = np.arange(round(hours * 3600 * rate_hz)) / rate_hz
    phase_s = np.mod(time_s, every_s) - 10.0
    dip = np.interp(phase_s, [0.0, 20.0, 35.0], [0.0, drop, 0.0])
    return np.rint(level - dip), int(hours * 3600 / every_s)


def path(*points: tuple[float, float]) -> Floats:
    """Return a series at 1 Hz through (second, percent), by straight lines, rounded to 1 %."""
    seconds, percent = np.array(points).T
    return np.rint(np.interp(np.arange(int(seconds[-1]) + 1), seconds, percent))


@pytest.mark.parametrize("rate_hz", [1.0 / 3.0, 0.5, 1.0, 4.0, 25.0])
def test_every_dip_is_found_at_any_rate(rate_hz: float) -> None:
    spo2, count = night(rate_hz=rate_hz)
    summary = summarise_desaturations(spo2, rate_hz=rate_hz)
    assert summary.n_events == count
    assert summary.index_per_h == pytest.approx(60.0, abs=0.1)
    assert summary.hours == pytest.approx(2.0)
    assert summary.mean_nadir_percent == pytest.approx(92.0, abs=0.5)


def test_onset_nadir_and_end_are_where_they_were_put() -> None:
    spo2 = path((0, 97), (60, 97), (80, 90), (90, 90), (105, 97), (200, 97))
    found = find_desaturations(spo2, rate_hz=1.0)
    assert found.nadirs.tolist() == [int(np.flatnonzero(spo2 == 90.0)[0])]
    assert found.intervals[0].tolist() == [
        int(np.flatnonzero(spo2[:80] == 97.0)[-1]),
        90 + int(np.flatnonzero(spo2[90:] >= 93.0)[0]),
    ]
    assert found.drop_percent.tolist() == [7.0]
    assert found.recovered.tolist() == [True]


@pytest.mark.parametrize(("drop", "odi3", "odi4"), [(2.0, 0, 0), (3.0, 1, 0), (4.0, 1, 1)])
def test_the_threshold_is_inclusive(drop: float, odi3: int, odi4: int) -> None:
    spo2 = path((0, 97), (60, 97), (80, 97 - drop), (100, 97), (200, 97))
    assert find_desaturations(spo2, rate_hz=1.0, drop_percent=3.0).nadirs.size == odi3
    assert find_desaturations(spo2, rate_hz=1.0, drop_percent=4.0).nadirs.size == odi4


def test_a_fall_in_tenths_of_a_percent_is_judged_as_written() -> None:
    spo2 = np.repeat([65.1, 62.1, 65.1], 30)  # 2.999999999999993 apart in binary
    assert find_desaturations(spo2, rate_hz=1.0).nadirs.size == 1


def test_a_slow_drift_is_no_desaturation() -> None:
    assert find_desaturations(path((0, 98), (1200, 88)), rate_hz=1.0).nadirs.size == 0


def test_the_ripple_of_a_deep_fall_does_not_split_it() -> None:
    spo2 = path((0, 97), (30, 97), (60, 80), (65, 82), (70, 79), (75, 81), (110, 97), (200, 97))
    found = find_desaturations(spo2, rate_hz=1.0)
    assert found.nadir_percent.tolist() == [79.0]


def test_falls_from_a_partial_recovery_count_each() -> None:
    spo2 = path((0, 97), (30, 97), (50, 88), (65, 93), (85, 88), (100, 93), (120, 88), (140, 97), (200, 97))
    assert find_desaturations(spo2, rate_hz=1.0).nadirs.size == 3


def test_dips_below_a_new_level_count_from_there() -> None:
    lowered = [(0, 97), (60, 97), (90, 93), (600, 93)]
    dips = [
        (second + 600.0, percent) for second, percent in ((20, 89), (40, 93), (80, 93), (100, 89), (120, 93))
    ]
    found = find_desaturations(path(*lowered, *dips, (900, 93)), rate_hz=1.0)
    assert found.nadirs.size == 3  # the fall to the level, which did not recover, and two from it
    assert found.recovered.tolist() == [False, True, True]
    assert found.start_percent.tolist() == [97.0, 93.0, 93.0]


def test_a_drop_of_a_few_seconds_is_no_event() -> None:
    spo2 = np.full(600, 97.0)
    spo2[300:305] = 90.0
    assert find_desaturations(spo2, rate_hz=1.0).nadirs.size == 0


def test_a_stepwise_desaturation_is_one_event_while_it_goes_on_down() -> None:
    profile = controlled_desaturation(seed=3)
    spo2 = profile.sao2_percent(np.arange(0.0, profile.end_s))
    found = find_desaturations(spo2, rate_hz=1.0)
    assert found.nadir_percent.tolist() == [min(plateau.sao2_percent for plateau in profile.plateaus)]
    assert found.recovered.all()


def test_short_gaps_are_passed_over_and_long_ones_end_an_event() -> None:
    spo2 = path((0, 97), (60, 97), (80, 90), (110, 97), (200, 97))
    short, long = spo2.copy(), spo2.copy()
    short[70:78] = np.nan
    assert (
        find_desaturations(short, rate_hz=1.0).nadirs.tolist()
        == find_desaturations(spo2, rate_hz=1.0).nadirs.tolist()
    )
    long[82:100] = np.nan
    found = find_desaturations(long, rate_hz=1.0)
    assert found.recovered.tolist() == [False]
    assert found.intervals[0, 1] == 82


def test_hours_are_those_of_readings() -> None:
    spo2, _ = night(hours=3.0)
    spo2[: 3600 + 1800] = np.nan
    summary = summarise_desaturations(spo2, rate_hz=1.0)
    assert summary.hours == pytest.approx(1.5)
    assert summary.missing_share == pytest.approx(0.5)
    assert summary.index_per_h == pytest.approx(60.0, abs=1.0)


def test_what_no_oximeter_reads_is_missing() -> None:
    spo2 = np.full(7200, 97.0)
    spo2[100:150] = 0.0
    spo2[300:350] = 127.0
    summary = summarise_desaturations(spo2, rate_hz=1.0)
    assert summary.n_events == 0
    assert summary.lowest_percent == 97.0
    assert summary.missing_share == pytest.approx(100 / 7200)


def test_time_below_a_level_is_strict_and_of_readings() -> None:
    spo2 = np.repeat([95.0, 90.0, 89.0, np.nan], 100)
    summary = summarise_desaturations(spo2, rate_hz=1.0)
    assert summary.below_percent[90.0] == pytest.approx(100.0 / 3.0)
    assert time_below_percent(spo2, rate_hz=1.0) == pytest.approx(100.0 / 3.0)
    assert time_below_percent(spo2, rate_hz=1.0, level_percent=95.0) == pytest.approx(200.0 / 3.0)


def test_area_is_that_of_the_dips() -> None:
    spo2 = np.full(7200, 97.0)
    spo2[1000:1060] = 92.0
    summary = summarise_desaturations(spo2, rate_hz=1.0)
    assert summary.area_percent == pytest.approx(60 * 5.0 / 7200)
    assert summary.mean_percent == pytest.approx(97.0 - summary.area_percent)


@pytest.mark.parametrize("shift", [-6.0, 2.0])
def test_events_do_not_depend_on_the_level(shift: float) -> None:
    spo2, _ = night()
    expected = find_desaturations(spo2, rate_hz=1.0)
    found = find_desaturations(spo2 + shift, rate_hz=1.0)
    np.testing.assert_array_equal(found.intervals, expected.intervals)
    np.testing.assert_array_equal(found.nadirs, expected.nadirs)


@pytest.mark.parametrize("spo2", [[], [np.nan] * 8000, [97] * 8000])
def test_without_readings_or_falls_there_are_no_events(spo2: list[float]) -> None:
    summary = summarise_desaturations(spo2, rate_hz=1.0)
    assert summary.n_events == 0
    assert np.isnan(summary.mean_drop_percent)
    assert np.isnan(summary.index_per_h) == (spo2 != [97] * 8000)


def test_an_index_is_not_extrapolated_from_minutes_or_from_a_few_readings() -> None:
    spo2, _ = night(hours=0.9)
    assert np.isnan(desaturation_index_per_h(spo2, rate_hz=1.0))
    sparse, _ = night(hours=4.0)
    sparse[7000:] = np.nan
    assert np.isnan(desaturation_index_per_h(sparse, rate_hz=1.0))
    assert np.isnan(time_below_percent(sparse, rate_hz=1.0))
    assert desaturation_index_per_h(night()[0], rate_hz=1.0) == pytest.approx(60.0, abs=0.1)


def test_integers_serve_and_inputs_stay_as_they_were() -> None:
    spo2, count = night()
    integers = spo2.astype(np.uint8)
    integers.setflags(write=False)
    assert find_desaturations(integers, rate_hz=1.0).nadirs.size == count


@pytest.mark.parametrize(
    ("spo2", "options", "named"),
    [
        (np.ones((2, 9)), {}, "one dimension"),
        ([np.inf, 90.0], {}, "infinite"),
        ([90.0], {"rate_hz": 0.0}, "rate_hz"),
        ([90.0], {"drop_percent": -3.0}, "drop_percent"),
    ],
)
def test_misuse_is_named(spo2: Any, options: dict[str, Any], named: str) -> None:
    with pytest.raises(SignalError, match=named):
        find_desaturations(spo2, **{"rate_hz": 1.0, **options})
