"""Intervals between pulses: what is kept, what is rejected, and the rates they make."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.pulses_intervals import (
    mean_pulse_rate_per_min,
    pulse_intervals_ms,
    pulse_rate_per_min,
    pulse_rate_rmssd_ms,
    pulse_rate_sdnn_ms,
)
from protocols.errors import SignalError


def pulses(beats_s: np.ndarray, rate_hz: float) -> np.ndarray:
    times_s = np.arange(round((beats_s[-1] + 1.0) * rate_hz)) / rate_hz
    waves = [
        height * np.exp(-((times_s - beat_s - at_s) ** 2) / (2 * sd_s**2))
        for beat_s in beats_s
        for height, at_s, sd_s in ((1.0, 0.13, 0.055), (0.35, 0.33, 0.075))
    ]
    return np.sum(waves, axis=0)


def test_regular_intervals_are_kept() -> None:
    np.testing.assert_allclose(pulse_intervals_ms(np.arange(20) * 0.8), 800.0)


def test_missed_and_invented_pulses_are_rejected() -> None:
    times_s = np.arange(30) * 0.8
    missed = pulse_intervals_ms(np.delete(times_s, 10))
    assert np.flatnonzero(np.isnan(missed)).tolist() == [9]
    invented = pulse_intervals_ms(np.insert(times_s, 11, times_s[10] + 0.35))
    assert np.flatnonzero(np.isnan(invented)).tolist() == [10, 11]
    absent = times_s.copy()
    absent[5] = np.nan
    assert np.flatnonzero(np.isnan(pulse_intervals_ms(absent))).tolist() == [4, 5]


def test_limits_are_inclusive_and_deviation_may_be_left_out() -> None:
    times_s = np.cumsum([0.0, 0.25, 0.5, 1.5, 2.5, 0.5])
    kept = pulse_intervals_ms(times_s, shortest_ms=500.0, longest_ms=1500.0, deviation=None)
    np.testing.assert_allclose(kept, [np.nan, 500.0, 1500.0, np.nan, 500.0])
    assert pulse_intervals_ms([]).size == 0
    assert pulse_intervals_ms([1.0]).size == 0


def test_windows_without_pulses_have_no_rate() -> None:
    times_s = np.concatenate([np.arange(0.0, 20.0, 0.75), np.arange(40.0, 60.0, 0.5)])
    rates = pulse_rate_per_min(times_s, rate_hz=50.0, n_samples=3000)
    np.testing.assert_allclose(rates.rate_per_min, [80.0, 80.0, np.nan, np.nan, 120.0, 120.0])
    assert rates.quality[2] == 0.0
    assert rates.quality[1] > 0.9
    np.testing.assert_array_equal(rates.intervals[:, 0], np.arange(6) * 500)
    np.testing.assert_array_equal(rates.intervals[:, 1], np.arange(1, 7) * 500)


def test_figures_of_a_recording_with_known_beats(rng: np.random.Generator) -> None:
    intervals_s = 0.9 + 0.05 * rng.normal(size=100)
    signal = pulses(0.5 + np.cumsum(intervals_s), 100.0)
    true_ms = 1000.0 * np.diff(np.cumsum(intervals_s))
    # feet are found to some ms, as the wave before moves each: 10 ms beside 50 adds 2 %, beside 70 adds 1 %
    assert mean_pulse_rate_per_min(signal, rate_hz=100.0) == pytest.approx(60_000.0 / true_ms.mean(), rel=0.003)
    assert pulse_rate_sdnn_ms(signal, rate_hz=100.0) == pytest.approx(true_ms.std(ddof=1), rel=0.05)
    assert pulse_rate_rmssd_ms(signal, rate_hz=100.0) == pytest.approx(
        np.sqrt((np.diff(true_ms) ** 2).mean()), rel=0.05
    )


def test_noise_and_silence_have_no_figures(rng: np.random.Generator) -> None:
    for signal in (np.zeros(6000), np.full(6000, np.nan), rng.normal(size=6000)):
        assert np.isnan(mean_pulse_rate_per_min(signal, rate_hz=50.0))
        assert np.isnan(pulse_rate_rmssd_ms(signal, rate_hz=50.0))
        assert np.isnan(pulse_rate_sdnn_ms(signal, rate_hz=50.0))


@pytest.mark.parametrize("start", [0, 4000, 8000])
def test_a_sensor_that_is_off_for_a_third_of_the_time_leaves_no_figure(
    start: int, rng: np.random.Generator
) -> None:
    ppg = pulses(0.5 + 0.85 * np.arange(145), 100.0)[:12_000]
    ppg[start : start + 4000] = 0.01 * rng.normal(size=4000)
    for figure in (mean_pulse_rate_per_min, pulse_rate_rmssd_ms, pulse_rate_sdnn_ms):
        assert np.isnan(figure(ppg, rate_hz=100.0))


@pytest.mark.parametrize("per_min", [35.0, 60.0, 120.0, 180.0, 220.0])
def test_slow_and_fast_hearts_have_their_rate(per_min: float, rng: np.random.Generator) -> None:
    stretch = max(1.0, 0.015 * per_min)  # pulses are shorter where the heart is fast
    ppg = pulses(0.5 + stretch * 60.0 / per_min * np.arange(100), 100.0 / stretch)
    ppg += 0.002 * rng.normal(size=ppg.size)
    assert mean_pulse_rate_per_min(ppg, rate_hz=100.0) == pytest.approx(per_min, rel=0.01)


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="back in time"):
        pulse_intervals_ms([1.0, 0.5])
    with pytest.raises(SignalError, match="deviation"):
        pulse_intervals_ms([0.5, 1.0], deviation=0.0)
    with pytest.raises(SignalError, match="one dimension"):
        pulse_intervals_ms([[0.5, 1.0]])
