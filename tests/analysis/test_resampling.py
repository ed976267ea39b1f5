"""Signals on a common clock agree with what they were made of, and with scipy where the clocks are ideal."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from analysis.resampling import clock_times_ns, interpolate_to_clock, resample_to_clock, to_common_clock
from protocols.errors import SignalError

START_NS = 1_790_000_000_000_000_000
Floats = NDArray[np.float64]
Times = NDArray[np.int64]


def sampled(rate_hz: float, n: int, *, jitter: float = 0.0, seed: int = 1) -> Times:
    """Times of samples, each off by up to `jitter` periods."""
    off = np.random.default_rng(seed).uniform(-jitter, jitter, n) if jitter else 0.0
    return START_NS + np.rint((np.arange(n) + off) * 1e9 / rate_hz).astype(np.int64)


def sine(times_ns: Times, hz: float) -> Floats:
    return np.sin(2 * np.pi * hz * (times_ns - START_NS) / 1e9 + 0.3)


def on_clock(
    values: Floats, times_ns: Times, rate_hz: float, n: int, *, from_s: float = 0.0
) -> tuple[Floats, Times]:
    clock = {"start_ns": START_NS + round(1e9 * from_s), "rate_hz": rate_hz, "n_samples": n}
    found = resample_to_clock(values, times_ns, longest_gap_s=0.1, **clock)
    return found, clock_times_ns(**clock)


# 80 dB, the window's own, for the band and for its image: 2e-4. A sine is no point reflection of itself at the
# ends: half a second is left out.
@pytest.mark.parametrize(
    ("own_hz", "new_hz", "hz"),
    [
        (100.0, 128.0, 40.0),
        (100.0, 64.0, 25.0),  # 0.4 of the new rate
        (360.0, 250.0, 90.0),
        (250.0, 250.0, 100.0),
        (250.0 * (1 + 40e-6), 250.0, 100.0),  # a clock that drifts: no ratio of small numbers
        (130.0, 1000.0 / 3, 50.0),
        (1000.0, 25.0, 8.0),
    ],
)
def test_a_sine_is_the_same_on_another_clock(own_hz: float, new_hz: float, hz: float) -> None:
    times_ns = sampled(own_hz, 5000)
    n = int(5000 / own_hz * new_hz) - round(0.2 * new_hz)
    found, clock_ns = on_clock(sine(times_ns, hz), times_ns, new_hz, n, from_s=0.123)
    inner = slice(round(max(0.5, 24 / min(own_hz, new_hz)) * new_hz), -round(max(0.5, 24 / new_hz) * new_hz))
    np.testing.assert_allclose(found[inner], sine(clock_ns, hz)[inner], atol=2e-4)


@pytest.mark.parametrize("hz", [31.0, 40.0, 62.0, 110.0])
def test_what_the_slower_clock_cannot_hold_is_gone(hz: float) -> None:
    times_ns = sampled(250.0, 5000)
    found, _ = on_clock(sine(times_ns, hz), times_ns, 60.0, 1190)
    assert np.abs(found[60:-60]).max() < 2e-4  # 80 dB of the window, and the row sums


def test_a_sweep_ends_where_the_new_rate_does() -> None:
    times_ns = sampled(500.0, 30_000)
    since_s = (times_ns - START_NS) / 1e9
    sweep = np.sin(2 * np.pi * (2.0 * since_s**2))  # 4 Hz more each second, 240 at the end
    found, clock_ns = on_clock(sweep, times_ns, 100.0, 5990)
    at_s = (clock_ns - START_NS) / 1e9
    low = (at_s > 1.0) & (at_s < 9.5)  # below 38 Hz: 0.4 of the new rate and some for the window's length
    np.testing.assert_allclose(found[low], np.sin(2 * np.pi * 2.0 * at_s[low] ** 2), atol=1e-3)
    assert np.abs(found[(at_s > 13.5) & (at_s < 59.0)]).max() < 1e-3  # above 54 Hz


@pytest.mark.parametrize(("up", "down"), [(36, 25), (25, 36), (1, 4), (3, 1)])
def test_ideal_clocks_agree_with_scipy_given_the_same_window(
    up: int, down: int, rng: np.random.Generator
) -> None:
    samples = rng.normal(size=2000)
    own_hz = 100.0
    cutoff = 0.5 if up >= down else up / down * (0.5 - 72 / (2.285 * 48) / (4 * np.pi))
    half = int(np.ceil(24 / (2 * cutoff)))
    distance = np.arange(-half * up, half * up + 1) / up
    window = np.sinc(2 * cutoff * distance) * np.kaiser(distance.size, 0.1102 * 71.3)
    expected = signal.resample_poly(samples, up, down, window=window / window.sum())
    found, _ = on_clock(samples, sampled(own_hz, 2000), own_hz * up / down, expected.size - up)
    inner = slice(2 * half * up // down, -2 * half * up // down)
    # ours sum to 1 in each phase, scipy's over all phases: the difference is the window's 80 dB
    np.testing.assert_allclose(found[inner], expected[: found.size][inner], atol=1e-3)
    if up == 1:  # one phase: the same numbers, but for the outermost weight, a thousandth of a lobe
        np.testing.assert_allclose(found[inner], expected[: found.size][inner], atol=5e-5)


def test_the_table_and_the_phases_are_one_kernel(rng: np.random.Generator) -> None:
    values, times_ns = rng.normal(size=3000), sampled(100.0, 3000)
    near, _ = on_clock(values, times_ns, 64.0, 1800)
    # 5e-7 away: at most a thousandth of a sample over the recording, and no ratio of small numbers
    off, _ = on_clock(values, times_ns, 64.0 * (1 + 5e-7), 1800)
    np.testing.assert_allclose(off, near, atol=5e-3)  # 0.0015 samples of noise whose slope is up to 3 a sample


def test_the_same_clock_gives_the_same_samples(rng: np.random.Generator) -> None:
    values, times_ns = rng.normal(size=(2, 3, 500)), sampled(360.0, 500)
    found, _ = on_clock(values, times_ns, 360.0, 500)
    np.testing.assert_allclose(found, values, atol=1e-5)  # to the ns of the times


@pytest.mark.parametrize("new_hz", [30.0, 77.7, 100.0, 250.0])
@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_a_ramp_stays_one_up_to_its_ends(new_hz: float, jitter: float) -> None:
    times_ns = sampled(100.0, 400, jitter=jitter)
    ramp = 3.0 * (times_ns - START_NS) / 1e9 - 5.0
    found, clock_ns = on_clock(ramp, times_ns, new_hz, int(4 * new_hz))
    inside = (clock_ns >= times_ns[0]) & (clock_ns <= times_ns[-1])
    assert inside.sum() > 3.8 * new_hz
    expected = 3.0 * (clock_ns[inside] - START_NS) / 1e9 - 5.0
    np.testing.assert_allclose(
        found[inside], expected, atol=2e-3
    )  # the window's ripple on its own slope: 0.03 x 80 dB
    assert np.isnan(found[~inside]).all()


@pytest.mark.parametrize("jitter", [0.05, 0.1, 0.3, 0.45])
@pytest.mark.parametrize("hz", [2.0, 5.0, 20.0])
def test_jitter_harms_less_than_on_the_line_between_neighbours(jitter: float, hz: float) -> None:
    times_ns = sampled(100.0, 5000, jitter=jitter)
    values = sine(times_ns, hz)
    found, clock_ns = on_clock(values, times_ns, 100.0, 4980, from_s=0.05)
    line = np.interp(clock_ns, times_ns, values)
    error, of_line = (np.sqrt(np.mean((y - sine(clock_ns, hz))[50:-50] ** 2)) for y in (found, line))
    # a cubic spline errs by the fourth power of the frequency, a line by the second
    assert error < of_line * max(0.01, 2 * (hz / 100.0))


def test_nothing_is_invented_in_a_gap(rng: np.random.Generator) -> None:
    times_ns = np.delete(sampled(100.0, 1000), np.r_[300:400])
    values = rng.normal(size=(2, 900))
    values[0, 500:600] = np.nan  # 6 to 7 s of the clock
    found, _ = on_clock(values, times_ns, 100.0, 1200, from_s=-1.0)
    sample = np.arange(1200) - 100
    outside = (sample < 0) | (sample > 999)
    gap, missing = (sample > 299) & (sample < 400), (sample > 599) & (sample < 700)
    np.testing.assert_array_equal(np.isnan(found[1]), outside | gap)
    np.testing.assert_array_equal(np.isnan(found[0]), outside | gap | missing)


def test_short_gaps_are_joined_by_a_line_and_long_ones_are_not() -> None:
    times_ns = np.delete(sampled(100.0, 1000), np.r_[300:305])
    values = sine(times_ns, 1.0)
    clock = {"start_ns": START_NS, "rate_hz": 100.0, "n_samples": 1000}
    joined = resample_to_clock(values, times_ns, longest_gap_s=0.06, **clock)
    np.testing.assert_allclose(joined, sine(clock_times_ns(**clock), 1.0), atol=0.02)  # (2 pi 0.06)^2 / 8
    assert np.isnan(resample_to_clock(values, times_ns, longest_gap_s=0.059, **clock)[300:305]).all()
    assert np.isnan(interpolate_to_clock(values, times_ns, longest_gap_s=0.059, **clock)[300:305]).all()


def test_what_lies_beyond_a_gap_does_not_matter(rng: np.random.Generator) -> None:
    times_ns = np.delete(sampled(100.0, 1000), np.r_[400:500])
    values = rng.normal(size=900)
    whole, _ = on_clock(values, times_ns, 64.0, 630)
    values[400:] = 1e6
    other, _ = on_clock(values, times_ns, 64.0, 630)
    np.testing.assert_array_equal(whole[:250], other[:250])


@pytest.mark.parametrize("own_hz", [100.0, 100.003])
@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_rows_together_are_rows_alone_and_types_do_not_matter(own_hz: float, jitter: float) -> None:
    times_ns = sampled(own_hz, 700, jitter=jitter)
    values = np.random.default_rng(2).integers(-1000, 1000, (2, 3, 700)).astype(np.int16)
    together, _ = on_clock(values, times_ns, 64.0, 440)
    frozen = np.asfortranarray(values.astype(np.float64))
    frozen.flags.writeable = False
    for row in np.ndindex(2, 3):
        np.testing.assert_array_equal(on_clock(frozen[row], times_ns, 64.0, 440)[0], together[row])


def test_scale_and_offset_go_through() -> None:
    times_ns = sampled(100.0, 700, jitter=0.1)
    values = np.random.default_rng(3).normal(size=700)
    found, scaled = (on_clock(v, times_ns, 64.0, 440)[0] for v in (values, 5.0 - 2.0 * values))
    np.testing.assert_allclose(scaled, 5.0 - 2.0 * found, atol=1e-12)


def test_blocks_leave_no_seam() -> None:
    times_ns = sampled(100.0, 300_000, jitter=0.1)
    values = sine(times_ns, 5.0)
    found, clock_ns = on_clock(values, times_ns, 100.0, 299_900, from_s=0.1)
    np.testing.assert_allclose(found[50:-50], sine(clock_ns, 5.0)[50:-50], atol=3e-5)  # as everywhere


def test_of_samples_at_one_time_the_last_counts() -> None:
    found = resample_to_clock(
        [1.0, 5.0, 2.0, 3.0],
        [0, 10**9, 10**9, 2 * 10**9],
        start_ns=0,
        rate_hz=1.0,
        n_samples=3,
        longest_gap_s=2.0,
    )
    np.testing.assert_allclose(found, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_samples_say_what_they_can(n: int) -> None:
    values, times_ns = np.full(n, 7.0), 2 * 10**9 + np.arange(n) * 10**9
    for onto in (resample_to_clock, interpolate_to_clock):
        found = onto(values, times_ns, start_ns=0, rate_hz=1.0, n_samples=6, longest_gap_s=1.0)
        np.testing.assert_allclose(found, [np.nan] * 2 + [7.0] * n + [np.nan] * (4 - n))


def test_nothing_but_missing_samples_gives_none() -> None:
    for onto in (resample_to_clock, interpolate_to_clock):
        found = onto(np.full(9, np.nan), np.arange(9), start_ns=0, rate_hz=1.0, n_samples=4, longest_gap_s=1.0)
        assert np.isnan(found).all()


def test_readings_lie_on_the_line_between_neighbours() -> None:
    found = interpolate_to_clock(
        [4.0, np.nan, 8.0, 5.0],
        [0, 1, 4 * 10**9, 14 * 10**9],
        start_ns=0,
        rate_hz=1.0,
        n_samples=16,
        longest_gap_s=5.0,
    )
    np.testing.assert_allclose(found, [4, 5, 6, 7, 8, *[np.nan] * 9, 5, np.nan])


def test_signals_of_different_clocks_share_one() -> None:
    slow_ns, fast_ns = sampled(50.0, 500), sampled(130.0, 1300, jitter=0.05) + 730_000_000
    clock_ns, (slow, fast) = to_common_clock(
        [(sine(slow_ns, 3.0), slow_ns), (np.stack([sine(fast_ns, 3.0)] * 2), fast_ns)],
        rate_hz=100.0,
        longest_gap_s=0.1,
    )
    assert clock_ns[0] == fast_ns[0]
    assert slow_ns[-1] - 10_000_000 < clock_ns[-1] <= slow_ns[-1]
    assert (slow.shape, fast.shape) == ((clock_ns.size,), (2, clock_ns.size))
    inner = slice(60, -60)
    np.testing.assert_allclose(fast[0, inner], slow[inner], atol=2e-4)


def test_signals_that_share_no_time_share_no_clock() -> None:
    early_ns, late_ns = sampled(50.0, 100), sampled(50.0, 100) + 10**10
    clock_ns, found = to_common_clock(
        [(np.zeros(100), early_ns), (np.zeros(100), late_ns)], rate_hz=50.0, longest_gap_s=1.0
    )
    assert clock_ns.size == found[0].size == found[1].size == 0
    assert to_common_clock([], rate_hz=1.0, longest_gap_s=1.0)[1] == []


@pytest.mark.parametrize(
    ("values", "times_ns", "options", "says"),
    [
        ([1.0], [1, 2], {}, "1 values at 2 times"),
        ([1.0, 2.0], [2, 1], {}, "go back"),
        ([1.0, 2.0], [1.5, 2.5], {}, "expected integers"),
        ([1.0, np.inf], [1, 2], {}, "infinite"),
        ([1.0, 2.0], [1, 2], {"rate_hz": 0.0}, "rate_hz=0.0"),
        ([1.0, 2.0], [1, 2], {"n_samples": -1}, "n_samples=-1"),
        ([1.0, 2.0], [1, 2], {"longest_gap_s": -1.0}, "longest_gap_s=-1.0"),
        ([1.0, 2.0], [1, 2], {"n_samples": 1 << 29}, "no wrong time stamp"),
        ([1.0, 2.0], [1, 2], {"rate_hz": 1e-10}, "ends before 2262"),
    ],
)
def test_misuse_is_named(values, times_ns, options, says: str) -> None:  # type: ignore[no-untyped-def]
    parameters = {"start_ns": 0, "rate_hz": 1.0, "n_samples": 3, "longest_gap_s": 1.0} | options
    for onto in (resample_to_clock, interpolate_to_clock):
        with pytest.raises(SignalError, match=says):
            onto(values, times_ns, **parameters)


def test_one_wrong_stamp_takes_no_memory() -> None:
    times_ns = 1_700_000_000_000_000_000 + 2_000_000 * np.arange(1000)
    times_ns[0] = 0  # a clock that was not yet set: 54 years at 500 Hz
    with pytest.raises(SignalError, match="no wrong time stamp"):
        to_common_clock([(np.zeros(1000), times_ns)], rate_hz=500.0, longest_gap_s=1.0)


def test_packets_of_one_stamp_each_are_a_signal_of_their_last_samples() -> None:
    stamps_ns = np.arange(20) * 100_000_000
    values, times_ns = np.repeat(np.arange(20.0), 10), np.repeat(stamps_ns, 10)
    options = {"start_ns": 0, "rate_hz": 10.0, "n_samples": 20, "longest_gap_s": 1.0}
    found = resample_to_clock(values, times_ns, **options)
    np.testing.assert_allclose(found, np.arange(20.0), atol=1e-9)


def test_readings_of_any_float_type_are_joined() -> None:
    longs = np.array([1.0, 2.0], dtype=np.longdouble)
    options = {"start_ns": 0, "rate_hz": 2.0, "n_samples": 3, "longest_gap_s": 2.0}
    assert interpolate_to_clock(longs, [0, 1_000_000_000], **options).tolist() == [1.0, 1.5, 2.0]
