"""Respiratory rate: real impedance, synthetic breathing, and noise that must not have a rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.respiration import (
    breath_durations_s,
    breath_rmssd_s,
    mean_respiratory_rate_per_min,
    respiratory_rate_per_min,
    respiratory_rate_variability_percent,
)
from protocols.errors import SignalError
from tests.analysis.test_breaths import bidmc_respiration, breathing


@pytest.mark.parametrize("per_min", [3.0, 4.0, 6.0, 12.0, 24.0, 40.0, 60.0])
@pytest.mark.parametrize("rate_hz", [8.0, 25.0, 125.0])
def test_steady_breathing_has_its_rate_in_every_inner_window(per_min: float, rate_hz: float) -> None:
    signal, _ = breathing(np.full(int(3 * per_min), per_min), rate_hz=rate_hz)  # 3 min
    result = respiratory_rate_per_min(signal, rate_hz=rate_hz, window_s=60.0)
    inner = result.rate_per_min[2:-2]  # the first and last breath have a single neighbour
    # 0.1 s of jitter at either end of the breaths of a window, of 40 s at least
    assert np.abs(inner - per_min).max() <= per_min * 0.2 / 40.0


def test_rate_follows_breaths_that_quicken() -> None:
    signal, tops_s = breathing(np.linspace(8.0, 24.0, 60), rate_hz=25.0)
    result = respiratory_rate_per_min(signal, rate_hz=25.0)
    middles_s = result.intervals.mean(axis=1) / 25.0
    truth = np.interp(middles_s, tops_s, np.linspace(8.0, 24.0, 60))
    good = np.isfinite(result.rate_per_min)
    assert good.mean() > 0.9
    assert np.abs(result.rate_per_min - truth)[good].max() < 0.5  # curved within a window, by less than that


@pytest.mark.parametrize("snr_db", [20, 10, 5])
def test_noise_upon_breaths_costs_little(snr_db: float, rng: np.random.Generator) -> None:
    signal, _ = breathing(15.0 * rng.uniform(0.9, 1.1, 60), rate_hz=25.0)
    noisy = signal + rng.normal(size=signal.size) * signal.std() * 10 ** (-snr_db / 20)
    clean, result = (respiratory_rate_per_min(values, rate_hz=25.0) for values in (signal, noisy))
    assert np.isfinite(result.rate_per_min).all()
    assert np.abs(result.rate_per_min - clean.rate_per_min).max() < 0.5


def test_noise_alone_has_no_rate(rng: np.random.Generator) -> None:
    for noise in (rng.normal(size=50_000), np.cumsum(rng.normal(size=50_000))):
        result = respiratory_rate_per_min(noise, rate_hz=25.0, step_s=8.0)
        assert np.isfinite(result.rate_per_min).mean() < 0.03  # 250 windows: one in a hundred by chance
        assert np.isnan(mean_respiratory_rate_per_min(noise, rate_hz=25.0))
        assert np.isnan(respiratory_rate_variability_percent(noise, rate_hz=25.0))
        assert np.isnan(breath_rmssd_s(noise, rate_hz=25.0))


def test_a_heart_rate_is_no_respiratory_rate() -> None:
    result = respiratory_rate_per_min(np.sin(2 * np.pi * 1.3 * np.arange(0, 120, 0.02)), rate_hz=50.0)
    assert result.reasons["out_of_range"].all()


def test_window_with_a_pause_has_no_rate_and_says_why(rng: np.random.Generator) -> None:
    before, _ = breathing(np.full(30, 15.0), rate_hz=25.0)
    signal = np.concatenate([before, np.full(20 * 25, before[-1]), before])
    signal += rng.normal(size=signal.size) * 0.02
    result = respiratory_rate_per_min(signal, rate_hz=25.0)
    pause = np.array([before.size, before.size + 500])
    whole = (result.intervals[:, 0] <= pause[0]) & (result.intervals[:, 1] >= pause[1])
    breath = 100  # the long way from the last top before the pause begins a part of a breath earlier
    apart = (result.intervals[:, 1] <= pause[0] - breath) | (result.intervals[:, 0] >= pause[1] + breath)
    assert result.reasons["irregular"][whole].all()
    assert np.isnan(result.rate_per_min[whole]).all()
    assert np.isfinite(result.rate_per_min[apart]).all()


def test_missing_samples_lower_what_is_covered() -> None:
    signal, _ = breathing(np.full(60, 15.0), rate_hz=25.0)
    signal[2000:3000] = np.nan  # 40 s
    result = respiratory_rate_per_min(signal, rate_hz=25.0)
    inside = (result.intervals[:, 0] >= 2000) & (result.intervals[:, 1] <= 3000)
    assert inside.any()
    assert result.reasons["uncovered"][inside].all()
    good = np.isfinite(result.rate_per_min)
    assert good.mean() > 0.5
    assert np.abs(result.rate_per_min[good] - 15.0).max() < 0.1
    assert np.isnan(breath_durations_s(signal, rate_hz=25.0)).sum() == 1  # the one across the hole


def test_a_breath_with_a_hole_in_it_is_none() -> None:
    signal, _ = breathing(np.full(60, 15.0), rate_hz=25.0)
    signal[2000:2300] = np.nan  # 12 s: shorter than the longest breath
    durations_s = breath_durations_s(signal, rate_hz=25.0)
    assert np.nanmax(durations_s) < 4.2
    result = respiratory_rate_per_min(signal, rate_hz=25.0)
    within = (result.intervals[:, 0] <= 2000) & (result.intervals[:, 1] >= 2300)
    assert np.abs(result.rate_per_min[within] - 15.0).max() < 0.2 or result.reasons["uncovered"][within].all()
    short = respiratory_rate_per_min(signal, rate_hz=25.0, window_s=20.0)  # 12 of 20 s missing: over 40 %
    within = (short.intervals[:, 0] <= 2000) & (short.intervals[:, 1] >= 2300)
    assert within.any()
    assert short.reasons["uncovered"][within].all()


@pytest.mark.shared_data
def test_impedance_of_intensive_care_has_a_rate_in_every_window(shared: Path) -> None:
    signal = bidmc_respiration(shared)
    result = respiratory_rate_per_min(signal, rate_hz=125.0)
    assert np.isfinite(result.rate_per_min).all()
    assert result.quality.min() > 0.9
    # 170 breaths: 169 from the first top to the last, 1.9 s before the end of 480 s
    assert mean_respiratory_rate_per_min(signal, rate_hz=125.0) == pytest.approx(60 * 169 / 477.5, abs=0.3)
    durations_s = breath_durations_s(signal, rate_hz=125.0)
    assert respiratory_rate_variability_percent(signal, rate_hz=125.0) == pytest.approx(
        100 * np.nanstd(durations_s, ddof=1) / np.nanmean(durations_s)
    )
    assert 0.1 < breath_rmssd_s(signal, rate_hz=125.0) < 0.3


def test_variability_is_that_of_the_breaths(rng: np.random.Generator) -> None:
    rates = 15.0 * rng.uniform(0.85, 1.15, 200)
    signal, tops_s = breathing(rates, rate_hz=25.0)
    truth_s = np.diff(tops_s)
    expected = 100 * truth_s.std(ddof=1) / truth_s.mean()
    assert respiratory_rate_variability_percent(signal, rate_hz=25.0) == pytest.approx(expected, rel=0.1)
    rmssd_s = np.sqrt((np.diff(truth_s) ** 2).mean())
    assert breath_rmssd_s(signal, rate_hz=25.0) == pytest.approx(rmssd_s, rel=0.1)


def test_batch_equals_row_by_row(rng: np.random.Generator) -> None:
    signal, _ = breathing(np.full(30, 15.0), rate_hz=25.0)
    batch = np.stack([signal, -signal, rng.normal(size=signal.size), np.full(signal.size, np.nan)])
    result = respiratory_rate_per_min(batch.reshape(2, 2, -1), rate_hz=25.0)
    for k, row in enumerate(batch):
        alone = respiratory_rate_per_min(row, rate_hz=25.0)
        at = np.unravel_index(k, (2, 2))
        np.testing.assert_array_equal(result.rate_per_min[at], alone.rate_per_min)
        np.testing.assert_array_equal(result.quality[at], alone.quality)
        for name, where in alone.reasons.items():
            np.testing.assert_array_equal(result.reasons[name][at], where)
    assert np.isnan(result.rate_per_min[1, 1]).all()
    assert result.rate_per_min[0, 0] == pytest.approx(result.rate_per_min[0, 1], abs=0.1)  # polarity


def test_result_does_not_depend_on_the_sampling_rate(rng: np.random.Generator) -> None:
    rates = 15.0 * rng.uniform(0.9, 1.1, 30)
    slow, fast = (breathing(rates, rate_hz=rate_hz)[0] for rate_hz in (25.0, 200.0))
    first = respiratory_rate_per_min(slow, rate_hz=25.0).rate_per_min
    second = respiratory_rate_per_min(fast, rate_hz=200.0).rate_per_min
    assert np.abs(first - second[: first.size]).max() < 0.1


def test_input_is_never_altered() -> None:
    signal, _ = breathing(np.full(30, 15.0), rate_hz=25.0)
    signal[100:300] = np.nan
    signal.flags.writeable = False
    respiratory_rate_per_min(signal, rate_hz=25.0)


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_nothing_gives_nan(value: float) -> None:
    signal = np.full(2000, value)
    assert np.isnan(respiratory_rate_per_min(signal, rate_hz=25.0).rate_per_min).all()
    assert np.isnan(mean_respiratory_rate_per_min(signal, rate_hz=25.0))
    assert np.isnan(breath_rmssd_s(signal, rate_hz=25.0))


def test_less_than_a_window_gives_no_window_and_nan() -> None:
    signal, _ = breathing(np.full(6, 15.0), rate_hz=25.0)
    assert respiratory_rate_per_min(signal, rate_hz=25.0).rate_per_min.shape == (0,)
    assert np.isnan(mean_respiratory_rate_per_min(signal, rate_hz=25.0))
    assert respiratory_rate_per_min(np.empty((0, 1000)), rate_hz=25.0).rate_per_min.shape == (0, 5)


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="time axis"):
        respiratory_rate_per_min(np.float64(1.0), rate_hz=25.0)
    with pytest.raises(SignalError, match="at least 4"):
        respiratory_rate_per_min(np.zeros(100), rate_hz=3.9)
    with pytest.raises(SignalError, match="window_s"):
        respiratory_rate_per_min(np.zeros(100), rate_hz=25.0, window_s=-1.0)
    with pytest.raises(SignalError, match="infinite"):
        respiratory_rate_per_min(np.full(1000, np.inf), rate_hz=25.0)
