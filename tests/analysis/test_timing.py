"""Rate, jitter and gaps of known clocks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.timing import effective_rate_hz, find_gaps, jitter_s, nominal_period_ns
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


@pytest.mark.parametrize(
    ("times_ns", "says"),
    [([2, 1], "go back"), ([1.5, 2.5], "expected integers"), ([[1, 2]], "expected integers")],
)
def test_misuse_is_named(times_ns: list[float], says: str) -> None:
    for measure in (effective_rate_hz, jitter_s, find_gaps, nominal_period_ns):
        with pytest.raises(SignalError, match=says):
            measure(times_ns)


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(SignalError, match="rate_hz=0"):
        find_gaps([1, 2], rate_hz=0.0)
