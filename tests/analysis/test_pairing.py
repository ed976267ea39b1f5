"""Pairs of readings by time: windows, stability, missing readings, lag."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.pairing import estimate_lag, pair_bracketed, pair_nearest, pair_preceding, pair_readings
from protocols.errors import SignalError

START_NS = 1_790_000_000_000_000_000


def ns(times_s):  # type: ignore[no-untyped-def]
    return START_NS + np.rint(np.asarray(times_s, dtype=float) * 1e9).astype(np.int64)


def test_a_window_gives_the_means_of_its_readings() -> None:
    pairs = pair_readings(
        ns([0, 1, 2, 3, 4, 5]), [90, 92, 94, 80, 80, 80], ns([0.5, 2.9, 3.0, 9]), [91, 93, 82, 70], window_s=3
    )
    assert pairs.times_ns.tolist() == ns([0, 3]).tolist()
    assert pairs.reference.tolist() == [92, 80]
    assert pairs.test.tolist() == [92, 82]


def test_windows_are_half_open() -> None:
    pairs = pair_readings(ns([0, 5]), [90, 80], ns([4.999, 5]), [90, 80], window_s=5)
    assert pairs.test.tolist() == [90, 80]


def test_a_moment_without_a_value_of_the_device_stays_as_nan() -> None:
    pairs = pair_readings(ns([0, 5, 10]), [90, 90, 90], ns([1, 6, 11]), [91, np.nan, 92], window_s=5)
    assert pairs.test.tolist() == pytest.approx([91, np.nan, 92], nan_ok=True)


def test_a_moment_without_reference_is_no_pair() -> None:
    pairs = pair_readings(ns([0, 5, 10]), [90, np.nan, 90], ns([1, 6, 11]), [91, 91, 91], window_s=5)
    assert pairs.times_ns.tolist() == ns([0, 10]).tolist()


def test_only_windows_that_end_a_stable_stretch_make_pairs() -> None:
    reference = np.repeat([98.0, 80.0], 30)
    times = np.arange(60.0)
    pairs = pair_readings(ns(times), reference, ns(times), reference, window_s=5, stable_s=15, stable_range=2)
    assert pairs.times_ns.tolist() == ns([10, 15, 20, 25, 40, 45, 50, 55]).tolist()
    assert pairs.unstable_ns.size == 4


def test_a_gap_in_the_reference_breaks_a_stable_stretch() -> None:
    times = np.concatenate([np.arange(15.0), np.arange(40.0, 60.0)])
    pairs = pair_readings(ns(times), np.full(times.size, 90.0), [], [], window_s=5, stable_s=10, stable_range=1)
    assert pairs.times_ns.tolist() == ns([5, 10, 45, 50, 55]).tolist()
    assert np.isnan(pairs.test).all()


def test_a_stretch_that_is_no_whole_number_of_windows_is_rounded_up() -> None:
    times = np.arange(20.0)
    pairs = pair_readings(ns(times), np.full(20, 90.0), [], [], window_s=5, stable_s=11)
    assert pairs.times_ns.tolist() == ns([10, 15]).tolist()


def test_a_reference_three_times_a_second_meets_an_irregular_device() -> None:
    rng = np.random.default_rng(3)
    reference_s = np.arange(0, 300, 1 / 3)
    test_s = np.sort(rng.uniform(0, 300, 290))
    pairs = pair_readings(ns(reference_s), 90 + reference_s / 60, ns(test_s), 92 + test_s / 60, window_s=10)
    assert pairs.times_ns.size == 30
    # within a window the two are read at different moments: at most 10 s apart, 1/6 percent here
    assert np.abs(pairs.test - pairs.reference - 2).max() < 10 / 60


@given(st.integers(-(10**15), 10**15))
def test_a_common_shift_of_the_clock_shifts_the_pairs(shift_ns: int) -> None:
    times = ns(np.arange(0, 40, 1.3))
    values = 90 + np.arange(times.size) % 3
    here = pair_readings(times, values, times, values, window_s=4, stable_s=8, stable_range=3)
    there = pair_readings(
        times + shift_ns, values, times + shift_ns, values, window_s=4, stable_s=8, stable_range=3
    )
    assert np.array_equal(here.times_ns + shift_ns, there.times_ns)
    assert np.array_equal(here.test, there.test)


def test_a_clock_that_is_years_off_costs_no_memory() -> None:
    pairs = pair_readings([0, START_NS], [90, 90], [0, START_NS], [91, 91], window_s=1)
    assert pairs.test.tolist() == [91, 91]


def test_no_readings_give_no_pairs() -> None:
    assert pair_readings([], [], ns([1]), [90], window_s=5).times_ns.size == 0
    pairs = pair_readings(ns([1]), [90], [], [], window_s=5)
    assert np.isnan(pairs.test).tolist() == [True]


@pytest.mark.parametrize("lag_s", [-12.0, 0.0, 7.4, 31.0])
def test_the_lag_of_the_device_is_found(lag_s: float) -> None:
    times = np.arange(0.0, 600.0)
    truth = 85 + 10 * np.cos(times / 40) + 3 * np.cos(times / 13)
    late = 85 + 10 * np.cos((times - lag_s) / 40) + 3 * np.cos((times - lag_s) / 13)
    found = estimate_lag(ns(times), truth, ns(times), late)
    assert found.lag_s == pytest.approx(lag_s, abs=0.1)
    assert found.correlation > 0.99


def test_a_lag_that_cannot_be_told_is_nan() -> None:
    times = np.arange(0.0, 600.0)
    for reference, test in (
        (np.full(600, 97.0), 90 + times % 5),
        (90 + times % 5, np.full(600, 97.0)),
        (np.full(600, np.nan), times),
    ):
        assert np.isnan(estimate_lag(ns(times), reference, ns(times), test).lag_s)
    assert np.isnan(estimate_lag(ns(times[:100]), times[:100], ns(times), times).lag_s)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"window_s": 0.0}, "window_s=0.0"),
        ({"stable_s": -1.0}, "stable_s=-1.0"),
        ({"stable_range": 0.0}, "stable_range=0.0"),
        ({"reference_times_ns": [2, 1]}, "reference_times_ns go back"),
        ({"test_times_ns": [1.0, 2.0]}, "test_times_ns of shape"),
        ({"test": [90.0]}, "1 readings of the test at 2 times"),
        ({"test": [90.0, np.inf]}, "infinite"),
    ],
)
def test_misuse_is_named(arguments, says: str) -> None:  # type: ignore[no-untyped-def]
    good = {
        "reference_times_ns": [1, 2],
        "reference": [90.0, 90.0],
        "test_times_ns": [1, 2],
        "test": [90.0, 90.0],
        "window_s": 5.0,
    }
    with pytest.raises(SignalError, match=says):
        pair_readings(**(good | arguments))


S = 1_000_000_000


def test_each_reference_meets_the_nearest_reading_once() -> None:
    pairs = pair_nearest(
        np.array([0, 10, 12, 100]) * S,
        [1.0, 2.0, 3.0, 4.0],
        np.array([1, 11, 160]) * S,
        [10.0, 20.0, 30.0],
        window_s=30,
    )
    # 10 s and 12 s are as near to 11 s: the earlier has it; 100 s has none within 30 s
    assert pairs.reference.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert pairs.test[:2].tolist() == [10.0, 20.0]
    assert np.isnan(pairs.test[2:]).all()


def test_the_largest_distance_of_a_pair_is_inclusive() -> None:
    for distance_s, paired in ((30, True), (31, False)):
        pairs = pair_nearest([0], [1.0], np.array([distance_s]) * S, [2.0], window_s=30)
        assert np.isfinite(pairs.test[0]) == paired


def test_readings_are_never_served_twice(rng: np.random.Generator) -> None:
    reference_ns, test_ns = (np.sort(rng.integers(0, 10_000, 200)) * S for _ in range(2))
    pairs = pair_nearest(reference_ns, rng.random(200), test_ns, np.arange(200.0), window_s=100)
    served = pairs.test[np.isfinite(pairs.test)]
    assert np.unique(served).size == served.size > 100
    at_ns = test_ns[served.astype(int)]
    assert (np.abs(at_ns - pairs.times_ns[np.isfinite(pairs.test)]) <= 100 * S).all()


def test_a_reading_is_bracketed_by_the_reference_before_and_after_it() -> None:
    pairs = pair_bracketed(
        np.array([0, 60, 120]) * S,
        [120.0, 124.0, 130.0],
        np.array([30, 90, 150]) * S,
        [121.0, 126.0, 131.0],
        window_s=60,
    )
    assert pairs.reference.tolist() == [122.0, 127.0]
    assert pairs.test.tolist() == [121.0, 126.0]
    assert pairs.change.tolist() == [4.0, 6.0]
    assert pairs.unpaired == ((150 * S, "no reading of the reference after it within 60 s"),)


def test_mean_and_spread_are_of_the_readings_in_the_time_before() -> None:
    rng = np.random.default_rng(5)
    times = np.sort(rng.choice(np.arange(1, 10_000), 300, replace=False)) * S
    values = 1e6 + rng.normal(0.0, 2.0, 300)
    values[rng.random(300) < 0.1] = np.nan
    at = np.sort(rng.choice(np.arange(1, 10_000), 40, replace=False)) * S
    pairs = pair_preceding(times, values, at, np.arange(40.0), window_s=100)
    expected = []
    for number, moment in enumerate(at):
        inside = values[(times > moment - 100 * S) & (times <= moment) & np.isfinite(values)]
        if inside.size >= 2:
            expected.append((number, inside.mean(), inside.std(ddof=1)))
    assert np.column_stack([pairs.test, pairs.reference, pairs.spread]) == pytest.approx(np.array(expected))
    assert len(pairs.unpaired) == 40 - len(expected) > 0


@pytest.mark.parametrize("pair", [pair_nearest, pair_bracketed, pair_preceding])
def test_without_readings_there_are_no_pairs(pair) -> None:  # type: ignore[no-untyped-def]
    assert pair([], [], [S], [1.0], window_s=1).times_ns.size == 0
    nothing_shown = pair([0, 2 * S], [1.0, np.nan], [S], [np.nan], window_s=1)
    assert not np.isfinite(nothing_shown.test).any()


def test_the_reference_may_not_go_back_in_time() -> None:
    with pytest.raises(SignalError, match="reference_times_ns go back in time"):
        pair_nearest([S, 0], [1.0, 2.0], [0], [1.0], window_s=1)


def test_a_lag_beyond_the_largest_considered_is_not_told() -> None:
    times_s = np.arange(0.0, 600.0)
    reference = 90 + 5 * np.sin(times_s / 60) + 3 * np.sin(times_s / 23)
    late = 90 + 5 * np.sin((times_s - 25) / 60) + 3 * np.sin((times_s - 25) / 23)
    times_ns = (times_s * S).astype(np.int64)
    assert np.isnan(estimate_lag(times_ns, reference, times_ns, late, max_lag_s=20).lag_s)
    assert estimate_lag(times_ns, reference, times_ns, late, max_lag_s=40).lag_s == pytest.approx(25, abs=0.1)
