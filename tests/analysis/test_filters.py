"""Filters: pass bands, hum, motion; streaming equals batch; missing samples; bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.filters import (
    PASSBANDS,
    StreamingFilter,
    band_pass,
    bridged,
    filter_causal,
    mains_frequency_hz,
    remove_baseline,
    remove_mains,
    remove_motion,
)
from protocols.errors import SignalError

RATE_HZ = 360.0
TIMES_S = np.arange(int(30 * RATE_HZ)) / RATE_HZ
MIDDLE = slice(int(10 * RATE_HZ), int(20 * RATE_HZ))


def tone(frequency_hz: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.sin(2 * np.pi * frequency_hz * TIMES_S)


@pytest.mark.parametrize("use", ["ecg_monitoring", "ecg_diagnostic_digital", "ppg", "gait"])
def test_half_of_the_power_is_left_at_both_edges(use: str) -> None:
    for edge_hz in PASSBANDS[use]:
        assert edge_hz is not None
        passed = band_pass(tone(edge_hz), rate_hz=RATE_HZ, passband_hz=PASSBANDS[use])[MIDDLE]
        # 10 s hold no whole number of periods of every edge, and an end's transient of 2 % is left
        assert np.sqrt(2 * np.mean(passed**2)) == pytest.approx(np.sqrt(0.5), rel=0.03)


def test_a_wave_stays_where_it_is() -> None:
    wave = np.exp(-0.5 * ((TIMES_S - 15.0) / 0.012) ** 2)
    filtered = band_pass(wave, rate_hz=RATE_HZ, passband_hz=PASSBANDS["ecg_monitoring"])
    assert filtered.argmax() == wave.argmax()
    around = filtered[wave.argmax() - 2000 : wave.argmax() + 2001]
    assert around == pytest.approx(around[::-1], abs=1e-9)  # symmetric as the wave is


def test_baseline_wander_goes_and_the_rest_stays() -> None:
    clean = remove_baseline(5.0 + tone(10.0) + 20.0 * tone(0.1), rate_hz=RATE_HZ)[MIDDLE]
    # 24 dB an octave twice over below 0.67 Hz leave 1e-3 of 0.1 Hz, and at 10 Hz nothing is lost
    assert clean == pytest.approx(tone(10.0)[MIDDLE], abs=0.03)


@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_the_hum_present_is_found_and_removed(mains_hz: float, rng: np.random.Generator) -> None:
    ecg = np.cumsum(rng.standard_normal(TIMES_S.size)) / 10 + tone(8.0)
    hum = 2.0 * tone(mains_hz + 0.1) + 0.5 * tone(3 * mains_hz)
    both = np.stack([ecg, ecg + hum])
    found_hz = mains_frequency_hz(both, rate_hz=RATE_HZ)
    assert np.isnan(found_hz[0])
    assert found_hz[1] == mains_hz
    clean = remove_mains(both, rate_hz=RATE_HZ)
    assert np.array_equal(clean[0], ecg)
    # 40 dB at 0.1 Hz off, and what the notches take from the noise itself
    assert np.std((clean[1] - ecg)[MIDDLE]) < 0.03 * np.std(hum)


@pytest.mark.parametrize("rate_hz", [100.0, 101.0, 20.0])
def test_hum_near_half_the_rate_cannot_be_told(rate_hz: float) -> None:
    assert np.isnan(mains_frequency_hz(np.cos(np.pi * np.arange(4000)), rate_hz=rate_hz))


def test_hum_in_a_short_or_missing_signal_cannot_be_told() -> None:
    assert np.isnan(mains_frequency_hz(tone(50.0)[:1000], rate_hz=RATE_HZ))
    assert np.isnan(mains_frequency_hz(np.full(9000, np.nan), rate_hz=RATE_HZ))


def test_motion_that_acceleration_explains_is_removed(rng: np.random.Generator) -> None:
    pulse, accel = tone(1.2), np.stack([tone(2.3), rng.standard_normal(TIMES_S.size), 9.81 + 0.0 * TIMES_S])
    disturbed = pulse + 4.0 * np.roll(accel[0], 18) + 0.5 * accel[1]  # 50 ms late, within the delays used
    clean = remove_motion(disturbed, accel, rate_hz=RATE_HZ)
    # 16 regressors on 8 s take some 2 % of a pulse they have nothing to do with
    assert np.std((clean - pulse)[MIDDLE]) < 0.05 * np.std(disturbed - pulse)


def test_motion_needs_a_fitting_acceleration_and_leaves_a_still_one_alone() -> None:
    with pytest.raises(SignalError, match=r"expected \(n,\) and \(n_axes, n\)"):
        remove_motion(TIMES_S, np.zeros((3, 5)), rate_hz=RATE_HZ)
    still = remove_motion(tone(1.2), np.zeros((3, TIMES_S.size)), rate_hz=RATE_HZ)
    assert still == pytest.approx(tone(1.2), abs=1e-9)
    assert np.isnan(remove_motion(np.full(100, np.nan), np.zeros((3, 100)), rate_hz=RATE_HZ)).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_streaming_equals_batch_to_the_last_bit_whatever_the_chunks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = np.cumsum(rng.standard_normal((2, 1500)), axis=-1)
    for start in rng.integers(0, 1500, 6):
        samples[rng.integers(0, 2), start : start + rng.integers(1, 120)] = np.nan
    options: dict[str, Any] = {"rate_hz": 250.0, "passband_hz": (0.5, 40.0), "mains_hz": 50.0}
    whole = filter_causal(samples, **options)
    assert np.array_equal(np.isnan(whole), np.isnan(samples))
    live = StreamingFilter(**options)
    cuts = np.sort(rng.integers(0, 1500, rng.integers(0, 60)))
    pieces = [live.push(piece) for piece in np.split(samples, cuts, axis=-1)]
    assert np.array_equal(np.concatenate(pieces, axis=-1), whole, equal_nan=True)
    rows = np.stack([filter_causal(row, **options) for row in samples])
    assert np.array_equal(rows, whole, equal_nan=True)


def test_streaming_starts_at_rest_and_starts_anew_after_a_long_gap() -> None:
    samples = np.full(2000, 1000.0)
    samples[500:505], samples[1000:1300], samples[1300:] = np.nan, np.nan, 400.0
    filtered = filter_causal(samples, rate_hz=250.0, passband_hz=(0.5, 40.0))
    there = ~np.isnan(samples)
    assert np.abs(filtered[there]).max() < 1e-6  # a step of 600 would pass a running filter


@pytest.mark.parametrize("at_hz", [2.0, 10.0, 17.0])
def test_the_stated_delay_is_that_of_a_wave_packet(at_hz: float) -> None:
    live = StreamingFilter(rate_hz=RATE_HZ, passband_hz=(0.5, 40.0), mains_hz=50.0)
    envelope = np.exp(-0.5 * ((TIMES_S - 15.0) / 1.5) ** 2)
    filtered = live.push(envelope * tone(at_hz))
    centre_s = np.sum(TIMES_S * filtered**2) / np.sum(filtered**2)
    # a packet 0.1 Hz wide sees the mean of the delays around its frequency: within a ms here
    assert centre_s - 15.0 == pytest.approx(live.delay_s(at_hz), abs=1e-3)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: band_pass(x, rate_hz=RATE_HZ, passband_hz=(0.5, 40.0)),
        lambda x: remove_mains(x, rate_hz=RATE_HZ, mains_hz=50.0),
        lambda x: filter_causal(x, rate_hz=RATE_HZ, passband_hz=(0.5, 40.0)),
    ],
)
def test_rows_gaps_dtypes_orders_and_scale(
    function: Callable[[Any], np.ndarray[Any, np.dtype[np.float64]]], rng: np.random.Generator
) -> None:
    samples = rng.integers(-500, 500, (2, 3, 2000)).astype(np.int16)
    samples.flags.writeable = False
    expected = function(samples)
    assert expected.dtype == np.float64
    assert np.array_equal(expected[1, 2], function(samples[1, 2]))
    assert np.array_equal(expected, function(np.asfortranarray(samples)))
    assert function(samples.astype(np.float32)) == pytest.approx(expected)
    assert function(samples * 8.0) == pytest.approx(expected * 8.0)
    gappy = samples.astype(float)
    gappy[0, 0, 700:900], gappy[1, 1] = np.nan, np.nan
    filtered = function(gappy)
    assert np.array_equal(np.isnan(filtered), np.isnan(gappy))
    # a period of the lower edge (2 s) away, what the bridge of a 1000 units wide signal brought in is 1 %
    assert filtered[0, 0, :10] == pytest.approx(expected[0, 0, :10], abs=10.0)
    assert function(np.empty((2, 0))).shape == (2, 0)
    assert function(np.ones((2, 1))).shape == (2, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: band_pass(TIMES_S, rate_hz=0.0, passband_hz=(1, 2)), "rate_hz=0.0"),
        (lambda: band_pass(TIMES_S, rate_hz=250.0, passband_hz=(0.05, 150.0)), "below 125.0 Hz"),
        (lambda: band_pass(TIMES_S, rate_hz=250.0, passband_hz=(40.0, 0.5)), "ascending edges"),
        (lambda: band_pass(TIMES_S, rate_hz=250.0, passband_hz=(None, None)), "ascending edges"),
        (lambda: band_pass([np.inf, 1.0], rate_hz=250.0, passband_hz=(1, 2)), "infinite"),
        (lambda: band_pass(3.0, rate_hz=250.0, passband_hz=(1, 2)), "time axis"),
        (lambda: remove_mains(TIMES_S, rate_hz=90.0, mains_hz=50.0), "mains_hz=50.0"),
        (lambda: StreamingFilter(rate_hz=250.0, passband_hz=(0.5, 40.0)).delay_s(125.0), "at_hz=125.0"),
        (lambda: band_pass(TIMES_S, rate_hz=1e9, passband_hz=(0.5, 40.0)), "at least 1000.0 Hz"),
        (lambda: filter_causal(TIMES_S, rate_hz=1e9, passband_hz=(None, 40.0)), "at least 1000.0 Hz"),
        (lambda: remove_mains(TIMES_S, rate_hz=1e9, mains_hz=50.0), "at least 1000.0 Hz"),
    ],
)
def test_misuse_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(SignalError, match=message):
        call()


@pytest.mark.parametrize("shape", [(0, 1000), (3, 0, 1000), (0, 0), (2, 0)])
def test_no_rows_or_no_samples_give_none(shape: tuple[int, ...]) -> None:
    none = np.empty(shape)
    for filtered in (
        band_pass(none, rate_hz=200.0, passband_hz=(0.5, 40.0)),
        filter_causal(none, rate_hz=200.0, passband_hz=(0.5, 40.0), mains_hz=50.0),
        remove_mains(none, rate_hz=200.0),
    ):
        assert filtered.shape == shape
    found_hz = mains_frequency_hz(none, rate_hz=200.0)
    assert found_hz.shape == shape[:-1]
    assert np.isnan(found_hz).all()


def test_an_edge_of_a_millionth_of_the_rate_still_holds_a_level() -> None:
    level = np.full(20_000, 3.0)
    for filtered in (band_pass, filter_causal):
        low = filtered(level, rate_hz=1e6, passband_hz=(None, 1.0))
        np.testing.assert_allclose(low, level, rtol=1e-4)  # as stated beside the limit


def test_a_stream_keeps_its_shape() -> None:
    live = StreamingFilter(rate_hz=250.0, passband_hz=(0.5, 40.0))
    live.push(np.zeros((2, 5)))
    with pytest.raises(SignalError, match=r"expected \(2, 'n'\)"):
        live.push(np.zeros((3, 5)))


def test_bridges_are_straight_and_ends_are_held() -> None:
    nan = np.nan
    assert bridged(np.array([nan, 1.0, nan, nan, 4.0, nan])).tolist() == [1, 1, 2, 3, 4, 4]
    assert bridged(np.full((2, 3), nan)).tolist() == [[0, 0, 0]] * 2


def test_gaps_are_bridged_whatever_the_layout_in_memory() -> None:
    samples = np.array([[0.0, np.nan, 2.0], [1.0, np.nan, np.nan]])
    for layout in (samples, np.asfortranarray(samples), np.stack([samples, samples], axis=-1)[..., 0]):
        assert bridged(layout).tolist() == [[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]]
        assert np.isnan(layout[0, 1])
