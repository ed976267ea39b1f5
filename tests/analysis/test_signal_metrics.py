"""Figures of one recording: every entry of the table gives a value on a good signal, and none on a poor one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.signal_metrics import SIGNAL_METRICS, figure
from analysis.signal_study import Signal
from protocols.errors import SignalError

START_NS = 1_790_000_000_000_000_000
SHARES_OF_GOOD = {"ecg_good_share", "ppg_good_share", "respiration_good_share"}
_MAY_BE_CONSTANT = ("glucose_mgdl", "spo2", "temperature_celsius", "flow_lps")
_MAY_SCATTER = ("glucose_mgdl", "rr_ms", "spo2")
COUNTS = {"steps_counted", "gait_turns"}
"""Nothing counted is a count, not the lack of one."""


def waveform(values: NDArray[np.float64], rate_hz: float) -> Signal:
    times_ns = START_NS + np.rint(np.arange(values.size) * (1e9 / rate_hz)).astype(np.int64)
    return Signal(values, times_ns, rate_hz)


def readings(values: NDArray[np.float64], every_s: float) -> Signal:
    times_ns = START_NS + np.rint(np.arange(values.size) * every_s * 1e9).astype(np.int64)
    return Signal(values, times_ns, None)


def beats_s(duration_s: float) -> NDArray[np.float64]:
    """Times of heartbeats at 72 a minute, with respiratory arrhythmia at 15 breaths a minute."""
    count = int(duration_s * 2)
    rng = np.random.default_rng(5)
    rr_s = 60 / 72 + 0.04 * np.sin(2 * np.pi * 0.25 * np.arange(count) * 60 / 72) + rng.normal(0, 0.01, count)
    times_s = 0.7 + np.cumsum(rr_s)
    return times_s[times_s < duration_s - 0.7]


def bumps(times_s: NDArray[np.float64], at_s: NDArray[np.float64], width_s: float) -> NDArray[np.float64]:
    return np.exp(-0.5 * ((times_s[:, np.newaxis] - at_s) / width_s) ** 2).sum(axis=1)


@cache
def good() -> dict[str, Signal]:
    """Three minutes of one quiet, then walking, person."""
    rng = np.random.default_rng(8)
    ecg_s, slow_s = np.arange(0, 180, 1 / 250), np.arange(0, 180, 1 / 100)
    beats = beats_s(180)
    breath = np.sin(2 * np.pi * 0.25 * ecg_s)
    ecg = sum(
        height * bumps(ecg_s, beats + delay, width)
        for delay, width, height in (
            (-0.16, 0.02, 0.12),
            (0.0, 0.011, 1.0),
            (0.03, 0.01, -0.2),
            (0.26, 0.04, 0.3),
        )
    )
    ecg = ecg * (1 + 0.1 * breath) + 0.005 * rng.standard_normal(ecg_s.size)
    pulse = bumps(slow_s, beats + 0.28, 0.09) + 0.35 * bumps(slow_s, beats + 0.55, 0.1)
    slow_breath = np.sin(2 * np.pi * 0.25 * slow_s)
    light = 1 + 0.1 * slow_breath
    walk = 2 * np.pi * 1.8 * slow_s
    cuff_s = np.arange(0, 60, 1 / 100)
    cuff = 180 - 2.5 * cuff_s
    envelope = np.exp(-0.5 * ((cuff - 93) / np.where(cuff > 93, 25, 18)) ** 2)
    return {
        "ecg": waveform(ecg, 250),
        "ppg": waveform(1000.0 + 20 * pulse * light + 0.05 * rng.standard_normal(slow_s.size), 100),
        "red": waveform(50_000 - 400 * pulse * light + rng.standard_normal(slow_s.size), 100),
        "infrared": waveform(60_000 - 900 * pulse * light + rng.standard_normal(slow_s.size), 100),
        "respiration": waveform(slow_breath + 0.01 * rng.standard_normal(slow_s.size), 100),
        "pressure_mmhg": waveform(
            80 + 40 * (bumps(slow_s, beats + 0.2, 0.09) + 0.3 * bumps(slow_s, beats + 0.45, 0.1)), 100
        ),
        "cuff_mmhg": waveform(cuff + 2 * envelope * np.sin(2 * np.pi * 1.2 * cuff_s), 100),
        "accel_x": waveform(0.8 * np.sin(walk / 2) + 0.05 * rng.standard_normal(slow_s.size), 100),
        "accel_y": waveform(0.8 * np.cos(walk) + 0.05 * rng.standard_normal(slow_s.size), 100),
        "accel_z": waveform(9.81 + 2.5 * np.sin(walk) + 0.05 * rng.standard_normal(slow_s.size), 100),
        **{name: waveform(20 * np.sin(walk / 2), 100) for name in ("gyro_x", "gyro_y", "gyro_z")},
        "spo2": readings(np.where(np.arange(3600) % 600 < 40, 88.0, 97.0), 1.0),
        "rr_ms": readings(1000 * np.diff(beats_s(900)), 60 / 72),
        "glucose_mgdl": readings(140 + 60 * np.sin(np.arange(14 * 288) / 20), 300.0),
        "temperature_celsius": waveform(37.1 - 8 * np.exp(-np.arange(1200) / 60), 1.0),
        "flow_lps": waveform(_expiration(), 100),
    }


def _expiration() -> NDArray[np.float64]:
    times_s = np.arange(0, 9, 0.01)
    flow = np.where(times_s < 1, 0.0, np.exp(-(times_s - 1) / 0.8) * np.clip((times_s - 1) / 0.05, 0, 1) * 5.0)
    return np.where(times_s > 8, 0.0, flow)


@pytest.mark.parametrize("name", SIGNAL_METRICS)
def test_a_good_signal_gives_a_figure(name: str) -> None:
    assert np.isfinite(figure(name, good()))


@pytest.mark.parametrize(
    ("name", "expected", "tolerance"),
    [
        ("ecg_mean_heart_rate", 72.0, 1.0),
        ("ppg_pulse_rate", 72.0, 1.0),
        ("ecg_respiratory_rate", 15.0, 1.0),
        ("ppg_respiratory_rate", 15.0, 1.0),
        ("respiratory_rate", 15.0, 0.3),
        ("odi_3", 5.0, 0.1),  # the drop at the very beginning has nothing to fall from
        ("spo2_below_90", 100 * 40 / 600, 0.5),
        ("gait_cadence", 108.0, 1.0),
        ("temperature_plateau", 37.1, 0.05),
        ("ecg_atrial_fibrillation", 0.0, 1e-9),
        ("ecg_good_share", 100.0, 1e-9),
    ],
)
def test_a_known_truth_is_found(name: str, expected: float, tolerance: float) -> None:
    assert figure(name, good()) == pytest.approx(expected, abs=tolerance)


def poor_cases() -> list[tuple[str, str]]:
    """Every metric with every way to be poor, but for constant readings, which are some, and scattered ones."""
    return [
        (name, kind)
        for name in sorted(set(SIGNAL_METRICS) - SHARES_OF_GOOD - COUNTS)
        for kind in ("flat", "missing", "noise")
        if kind != "flat" or SIGNAL_METRICS[name].channels[0] not in _MAY_BE_CONSTANT
        if kind != "noise" or SIGNAL_METRICS[name].channels[0] not in _MAY_SCATTER
    ]


@pytest.mark.parametrize(("name", "kind"), poor_cases())
def test_a_poor_signal_gives_no_figure_rather_than_a_wrong_one(name: str, kind: str) -> None:
    rng = np.random.default_rng(11)
    poor = {}
    for channel, signal in good().items():
        values = {
            "flat": np.full(signal.values.size, 5.0),
            "missing": np.full(signal.values.size, np.nan),
            "noise": rng.standard_normal(signal.values.size),
        }[kind]
        poor[channel] = Signal(values, signal.times_ns, signal.rate_hz)
    try:
        found = figure(name, poor)
    except SignalError:
        return
    assert np.isnan(found)


def test_the_share_of_good_signal_is_none_on_noise_and_gaps() -> None:
    rng = np.random.default_rng(3)
    for name in SHARES_OF_GOOD:
        (channel,) = SIGNAL_METRICS[name].channels
        signal = good()[channel]
        noise = Signal(rng.standard_normal(signal.values.size), signal.times_ns, signal.rate_hz)
        assert figure(name, {channel: noise}) < 20.0


def test_channels_of_different_rates_are_brought_to_one_clock() -> None:
    assert good()["ecg"].rate_hz != good()["ppg"].rate_hz
    # the pulse peaks 280 ms after the R wave and rises over some two widths of 90 ms
    assert figure("pulse_arrival_time", good()) == pytest.approx(100, abs=20)


def test_a_missing_channel_an_unknown_metric_and_readings_for_waveforms_are_named() -> None:
    with pytest.raises(SignalError, match="pulse_arrival_time of channels ecg: ppg expected as well"):
        figure("pulse_arrival_time", {"ecg": good()["ecg"]})
    with pytest.raises(SignalError, match="metric 'mood', expected one of ecg_mean_heart_rate"):
        figure("mood", good())
    with pytest.raises(SignalError, match="expected waveforms with a rate"):
        figure("ecg_qrs", {"ecg": readings(np.zeros(100), 1.0)})
