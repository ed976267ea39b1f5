"""Perfusion index of waves whose AC and DC are known."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.perfusion import (
    median_perfusion_index_percent,
    perfusion_index_percent,
    pulse_perfusion_percent,
)
from analysis.pulses import detect_pulses
from protocols.errors import SignalError

RATE_HZ = 100.0
PERIOD = 80  # samples


def light(percent: float, n_pulses: int = 60) -> np.ndarray:
    """Return light received: triangles that fall by `percent` of DC within 20 samples and come back in 60."""
    fall = np.interp(np.arange(PERIOD), [0, 20, PERIOD], [0.0, -1.0, 0.0])
    return 50_000.0 * (
        1.0 + percent / 100.0 * (np.tile(fall, n_pulses) + 0.5)
    )  # the mean of the triangle is -0.5


@pytest.mark.parametrize("percent", [0.1, 1.0, 10.0])
def test_index_of_a_triangle(percent: float) -> None:
    signal = light(percent)
    pulses = detect_pulses(signal, rate_hz=RATE_HZ)
    index = pulse_perfusion_percent(signal, pulses, rate_hz=RATE_HZ)
    assert np.isnan(index[-1])
    # smoothing rounds the onset by a sample or two: 1 of 20 samples on the steep side
    np.testing.assert_allclose(index[1:-1], percent, rtol=0.05)
    np.testing.assert_allclose(perfusion_index_percent(signal, rate_hz=RATE_HZ), percent, rtol=0.05)
    assert median_perfusion_index_percent(signal, rate_hz=RATE_HZ) == pytest.approx(percent, rel=0.05)


def test_index_does_not_depend_on_gain_or_slow_drift() -> None:
    signal = light(2.0)
    expected = median_perfusion_index_percent(signal, rate_hz=RATE_HZ)
    assert median_perfusion_index_percent(7.0 * signal, rate_hz=RATE_HZ) == pytest.approx(expected)
    drifting = signal + np.linspace(-500.0, 500.0, signal.size)  # 2 % of DC, as much as a pulse
    assert median_perfusion_index_percent(drifting, rate_hz=RATE_HZ) == pytest.approx(expected, rel=0.02)


def test_signal_without_constant_part_has_no_index() -> None:
    signal = light(2.0) - 50_000.0
    assert np.isnan(median_perfusion_index_percent(signal, rate_hz=RATE_HZ))
    assert np.isnan(median_perfusion_index_percent(signal + 1000.0, rate_hz=RATE_HZ))


def test_windows_without_pulses_have_no_index() -> None:
    signal = light(2.0, 75)  # six windows of 10 s
    signal[2000:4000] = np.nan
    windows = perfusion_index_percent(signal, rate_hz=RATE_HZ)
    np.testing.assert_array_equal(np.isnan(windows), [False, False, True, True, False, False])


def test_silence_and_short_signals_have_no_index() -> None:
    assert np.isnan(median_perfusion_index_percent(np.full(3000, 5.0), rate_hz=RATE_HZ))
    assert np.isnan(median_perfusion_index_percent(np.full(3000, np.nan), rate_hz=RATE_HZ))
    assert np.isnan(median_perfusion_index_percent(light(2.0, 5), rate_hz=RATE_HZ))
    assert pulse_perfusion_percent(np.ones(10), [], rate_hz=RATE_HZ).size == 0


@pytest.mark.parametrize("rate_hz", [25.0, 125.0])
def test_noise_and_clipped_light_have_no_index(rng: np.random.Generator, rate_hz: float) -> None:
    noise = 1e5 + 100.0 * rng.standard_normal(round(60 * rate_hz))
    assert np.isnan(median_perfusion_index_percent(noise, rate_hz=rate_hz))
    clipped = np.maximum(light(2.0), 49_800.0)
    assert np.isnan(perfusion_index_percent(clipped, rate_hz=RATE_HZ)).all()


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="at least 20"):
        perfusion_index_percent(np.ones(1000), rate_hz=10.0)
