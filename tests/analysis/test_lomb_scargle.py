"""Lomb-Scargle periodogram by fast Fourier transform: against its direct sums, Parseval, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from analysis.lomb_scargle import lomb_scargle_psd
from protocols.errors import SignalError


@pytest.mark.parametrize("n", [2, 5, 40, 3000])
def test_equals_the_direct_sums(rng: np.random.Generator, n: int) -> None:
    times_s = 5.0 + np.cumsum(rng.uniform(0.5, 1.2, n))
    values = rng.normal(size=n)
    values -= values.mean()
    step_hz, n_frequencies = 1.0 / (times_s[-1] - times_s[0]) / 1.7, max(2, n // 3)
    frequencies = step_hz * np.arange(1, n_frequencies + 1)
    direct = signal.lombscargle(times_s, values, 2 * np.pi * frequencies)
    expected = 2.0 * direct * (times_s[-1] - times_s[0]) / (n - 1)
    found = lomb_scargle_psd(times_s, values, step_hz=step_hz, n_frequencies=n_frequencies)
    # twelve cells of kernel promise 1e-11 a sum; phases lose some of it
    np.testing.assert_allclose(found, expected, atol=1e-8 * expected.max())


def test_even_times_give_the_ordinary_periodogram(rng: np.random.Generator) -> None:
    values = rng.normal(size=256)
    values -= values.mean()
    found = lomb_scargle_psd(np.arange(256.0), values, step_hz=1 / 256, n_frequencies=127)
    expected = 2.0 * np.abs(np.fft.rfft(values))[1:128] ** 2 / 256
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_a_sine_has_half_its_squared_amplitude(rng: np.random.Generator) -> None:
    times_s = np.cumsum(rng.uniform(0.7, 0.9, 2000))
    values = 3.0 * np.sin(2 * np.pi * 0.1 * times_s)
    step_hz = 1.0 / (times_s[-1] - times_s[0])
    density = lomb_scargle_psd(times_s, values - values.mean(), step_hz=step_hz, n_frequencies=800)
    near = slice(int(0.08 / step_hz), int(0.12 / step_hz))
    assert density[near].sum() * step_hz == pytest.approx(4.5, rel=0.02)  # the rest leaks further away


def test_time_may_start_anywhere_and_input_is_left_alone(rng: np.random.Generator) -> None:
    times_s, values = np.cumsum(rng.uniform(0.5, 1.2, 100)), rng.normal(size=100)
    kept = times_s.copy(), values.copy()
    times_s.flags.writeable = values.flags.writeable = False
    here = lomb_scargle_psd(times_s, values, step_hz=0.01, n_frequencies=30)
    later = lomb_scargle_psd(times_s + 1e5, values, step_hz=0.01, n_frequencies=30)
    np.testing.assert_allclose(later, here, rtol=1e-6)
    np.testing.assert_array_equal(times_s, kept[0])
    np.testing.assert_array_equal(values, kept[1])


@pytest.mark.parametrize(
    ("times_s", "values", "step_hz", "n", "says"),
    [
        ([0.0, 1.0], [1.0], 0.1, 3, "expected as many"),
        ([0.0], [1.0], 0.1, 3, "at least 2"),
        ([0.0, np.nan], [1.0, 2.0], 0.1, 3, "no NaN"),
        ([1.0, 1.0], [1.0, 2.0], 0.1, 3, "ascending"),
        ([0.0, 1.0], [1.0, 2.0], 0.0, 3, "step_hz"),
        ([0.0, 1.0], [1.0, 2.0], 0.1, 0, "n_frequencies"),
        ([[0.0, 1.0]], [1.0, 2.0], 0.1, 3, "one dimension"),
    ],
)
def test_misuse_is_named(times_s: object, values: object, step_hz: float, n: int, says: str) -> None:
    with pytest.raises(SignalError, match=says):
        lomb_scargle_psd(times_s, values, step_hz=step_hz, n_frequencies=n)  # type: ignore[arg-type]
