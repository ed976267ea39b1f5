"""Rate, jitter and gaps of known clocks, and values on a common clock."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.timing import effective_rate_hz, find_gaps, jitter_s, resample_to_clock
from protocols.errors import SignalError

START_NS = 1_790_000_000_000_000_000


def clock(rate_hz: float, n: int, *, jitter_ns: float = 0.0, lost: slice = slice(0, 0)) -> NDArray[np.int64]:
    times_ns = START_NS + np.rint(np.arange(n) * 1e9 / rate_hz).astype(np.int64)
    times_ns += np.rint(np.random.default_rng(1).normal(0, jitter_ns, n)).astype(np.int64)
    return np.delete(times_ns, np.r_[lost])


@pytest.mark.parametrize("lost", [slice(0, 0), slice(1000, 1500)])
def test_a_clock_that_is_off_is_measured_and_gaps_do_not_count(lost: slice) -> None:
    times_ns = clock(250.0 * (1 + 40e-6), 10_000, jitter_ns=200_000, lost=lost)
    # neighbours across a cut carry the jitter of both ends: 4 x 0.2 ms in 40 s are 20 ppm
    assert effective_rate_hz(times_ns) == pytest.approx(250.01, rel=20e-6)
    assert jitter_s(times_ns) == pytest.approx(200e-6, rel=0.03)  # known to 1 / sqrt(2 n), 0.7 %


def test_a_gap_is_from_when_the_next_sample_was_due() -> None:
    times_ns = clock(100.0, 1000, lost=slice(300, 310))
    np.testing.assert_array_equal(find_gaps(times_ns), [[START_NS + 3_000_000_000, START_NS + 3_100_000_000]])
    np.testing.assert_array_equal(find_gaps(times_ns, rate_hz=100.0), find_gaps(times_ns))
    assert find_gaps(times_ns, rate_hz=5.0).size == 0


def test_recorded_time_and_gaps_make_the_whole() -> None:
    times_ns = clock(100.0, 1000, lost=slice(300, 310))
    gaps_ns = int(np.diff(find_gaps(times_ns)).sum())
    recorded_s = times_ns.size / effective_rate_hz(times_ns)
    assert recorded_s + gaps_ns / 1e9 == pytest.approx(10.0)


@pytest.mark.parametrize("times_ns", [[], [5], [5, 5], [5, 5, 5]])
def test_too_few_times_have_no_rate(times_ns: list[int]) -> None:
    assert np.isnan(effective_rate_hz(times_ns))
    assert np.isnan(jitter_s(times_ns))


def test_a_slow_sine_is_the_same_on_another_clock() -> None:
    times_ns = clock(100.0, 3000, jitter_ns=100_000)
    values = np.sin(2 * np.pi * 0.5 * (times_ns - START_NS) / 1e9)
    found = resample_to_clock(
        values, times_ns, start_ns=START_NS + 500_000_000, rate_hz=64.0, n_samples=1800, longest_gap_s=0.1
    )
    expected = np.sin(2 * np.pi * 0.5 * (0.5 + np.arange(1800) / 64.0))
    np.testing.assert_allclose(
        found, expected, atol=2e-3
    )  # linear: (2 pi 0.5 / 100)^2 / 8 = 1.2e-4, and the filter


def test_what_the_slower_clock_cannot_hold_does_not_fold_down() -> None:
    times_ns = clock(250.0, 5000)
    noise = np.sin(2 * np.pi * 62.0 * (times_ns - START_NS) / 1e9)  # would fold to 2 Hz at 60 Hz
    found = resample_to_clock(
        noise, times_ns, start_ns=START_NS, rate_hz=60.0, n_samples=1000, longest_gap_s=0.1
    )
    assert np.abs(found[60:-60]).max() < 0.01


def test_gaps_missing_samples_and_ends_stay_empty() -> None:
    times_ns = clock(100.0, 1000, lost=slice(300, 400))
    values = np.vstack([np.ones(900), np.arange(900.0)])
    values[0, 500:600] = np.nan  # 6 to 7 s of the clock
    found = resample_to_clock(
        values, times_ns, start_ns=START_NS - 1_000_000_000, rate_hz=100.0, n_samples=1200, longest_gap_s=0.05
    )
    sample = np.arange(1200) - 100
    outside = (sample < 0) | (sample > 999)
    gap = (sample > 299) & (sample < 400)
    missing = (sample > 599) & (sample < 700)
    np.testing.assert_array_equal(np.isnan(found[1]), outside | gap)
    np.testing.assert_array_equal(np.isnan(found[0]), outside | gap | missing)
    np.testing.assert_allclose(found[0][~np.isnan(found[0])], 1.0, rtol=1e-12)


def test_nothing_but_missing_samples_gives_none() -> None:
    for values, times_ns in ((np.full(9, np.nan), np.arange(9)), (np.empty(0), np.empty(0, np.int64))):
        found = resample_to_clock(values, times_ns, start_ns=0, rate_hz=1.0, n_samples=4, longest_gap_s=1.0)
        assert np.isnan(found).all()


@pytest.mark.parametrize(
    ("values", "times_ns", "options", "says"),
    [
        ([1.0], [1, 2], {}, "1 values at 2 times"),
        ([1.0, 2.0], [2, 1], {}, "go back"),
        ([1.0, 2.0], [1.5, 2.5], {}, "expected integers"),
        ([1.0, 2.0], [1, 2], {"rate_hz": 0.0}, "rate_hz=0.0"),
        ([1.0, 2.0], [1, 2], {"longest_gap_s": -1.0}, "longest_gap_s=-1.0"),
    ],
)
def test_misuse_is_named(values, times_ns, options, says: str) -> None:  # type: ignore[no-untyped-def]
    parameters = {"start_ns": 0, "rate_hz": 1.0, "n_samples": 3, "longest_gap_s": 1.0} | options
    with pytest.raises(SignalError, match=says):
        resample_to_clock(values, times_ns, **parameters)
