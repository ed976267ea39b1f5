"""Pulse arrival and transit: pairing rule, and simulated subjects whose transit is known."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from analysis.pulse_transit import (
    median_pulse_arrival_time_ms,
    median_pulse_transit_time_ms,
    pulse_arrival_times_ms,
    pulse_transit_times_ms,
)
from protocols.errors import SignalError


def test_every_beat_is_paired_with_its_pulse() -> None:
    beats_s = np.arange(10) * 0.8
    arrivals_ms = pulse_arrival_times_ms(beats_s, beats_s + 0.25)
    np.testing.assert_allclose(arrivals_ms, 250.0)


def test_unpaired_beats_and_pulses_have_no_arrival() -> None:
    beats_s = [0.0, 1.0, 2.0, np.nan, 4.0, 5.0]
    feet_s = [0.25, 1.05, 2.25, 3.25, np.nan, 5.65]  # 1: too soon, 4: no foot, 5: too late
    expected = [250.0, np.nan, 250.0, np.nan, np.nan, np.nan]
    np.testing.assert_allclose(pulse_arrival_times_ms(beats_s, feet_s), expected)


def test_a_pulse_that_two_beats_claim_is_paired_with_neither() -> None:
    np.testing.assert_allclose(pulse_arrival_times_ms([0.0, 0.3], [0.5]), [np.nan, np.nan])


def test_limits_are_the_caller_s() -> None:
    assert pulse_arrival_times_ms([0.0], [0.7], longest_ms=800.0) == pytest.approx([700.0])
    assert np.isnan(pulse_arrival_times_ms([0.0], [0.7])).all()
    assert pulse_arrival_times_ms([], [0.7]).size == 0


def test_transit_between_two_sites() -> None:
    proximal_s = np.arange(10) * 0.8
    np.testing.assert_allclose(pulse_transit_times_ms(proximal_s, proximal_s + 0.05), 50.0)
    assert np.isnan(pulse_transit_times_ms(proximal_s, proximal_s + 0.35)).all()


def test_median_transit_of_a_delayed_copy() -> None:
    times_s = np.arange(0.0, 30.0, 0.008)
    proximal = np.exp(3.0 * np.cos(2 * np.pi * (1.1 * times_s + 0.05 * np.sin(2.0 * np.pi * 1.1 * times_s))))
    delayed_s = times_s - 0.060
    distal = np.exp(3.0 * np.cos(2 * np.pi * (1.1 * delayed_s + 0.05 * np.sin(2.0 * np.pi * 1.1 * delayed_s))))
    found_ms = median_pulse_transit_time_ms(proximal, distal, rate_hz=125.0, polarity="rising")
    assert found_ms == pytest.approx(60.0, abs=2.0)  # a quarter of a sample of 8 ms


def test_arrival_at_the_finger_of_a_patient(shared: Path) -> None:
    with gzip.open(shared / "data/resp/bidmc/bidmc_01_Signals.csv.gz", "rt") as file:
        names = [name.strip() for name in file.readline().split(",")]
        rows = np.loadtxt(file, delimiter=",", max_rows=7500, usecols=(names.index("PLETH"), names.index("II")))
    found_ms = median_pulse_arrival_time_ms(rows[:, 1], rows[:, 0], rate_hz=125.0)
    # R to systolic peak is 640 ms in this monitor, and a rise from the foot takes 100 to 150 ms
    assert 490.0 <= found_ms <= 540.0


def test_signals_of_different_hearts_have_no_arrival(shared: Path, rng: np.random.Generator) -> None:
    with gzip.open(shared / "data/resp/bidmc/bidmc_01_Signals.csv.gz", "rt") as file:
        names = [name.strip() for name in file.readline().split(",")]
        rows = np.loadtxt(file, delimiter=",", max_rows=7500, usecols=(names.index("PLETH"), names.index("II")))
    assert np.isnan(median_pulse_arrival_time_ms(rows[:, 1], rng.normal(size=7500), rate_hz=125.0))
    assert np.isnan(median_pulse_arrival_time_ms(rows[:, 1], np.zeros(7500), rate_hz=125.0))


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="shortest < longest"):
        pulse_arrival_times_ms([0.0], [0.2], shortest_ms=300.0, longest_ms=200.0)
    with pytest.raises(SignalError, match="second_s go back"):
        pulse_arrival_times_ms([0.0], [0.2, 0.1])
