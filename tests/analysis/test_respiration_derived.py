"""Respiration from ECG and photoplethysmogram: real recordings, simulated modulations, noise without breath."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.heartbeats import detect_qrs
from analysis.respiration import respiratory_rate_per_min
from analysis.respiration_derived import ecg_modulations, evenly, ppg_modulations
from analysis.respiration_fusion import (
    derived_respiratory_rate_per_min,
    ecg_respiratory_rate_per_min,
    fused_rate_per_min,
    mean_derived_respiratory_rate_per_min,
    mean_ecg_respiratory_rate_per_min,
    mean_ppg_respiratory_rate_per_min,
    ppg_respiratory_rate_per_min,
)
from firmware_sim.signals.ecg import clean_ecg_uv
from protocols.errors import SignalError

Floats = NDArray[np.float64]
DURATION_S = 120.0


@cache
def bidmc(shared: Path) -> tuple[Floats, Floats, Floats]:
    """Return impedance respiration, finger pleth and ECG lead II, 480 s at 125 Hz."""
    with gzip.open(shared / "data/resp/bidmc/bidmc_01_Signals.csv.gz", "rt") as file:
        names = [name.strip() for name in file.readline().split(",")]
        columns = tuple(names.index(name) for name in ("RESP", "PLETH", "II"))
        respiration, pleth, ecg = np.loadtxt(file, delimiter=",", usecols=columns).T
    return respiration, pleth, ecg


def beats_s(per_min: float, breaths_per_min: float, depth: float) -> Floats:
    """Return beats whose rate breathing modulates by `depth`, a share of it."""
    times_s = np.arange(0.0, DURATION_S + 4.0, 0.005)
    rate_hz = per_min / 60 * (1 + depth * np.sin(2 * np.pi * breaths_per_min / 60 * times_s))
    cycles = np.cumsum(rate_hz) * 0.005
    return np.interp(np.arange(0.5, cycles[-1], 1.0), cycles, times_s)


def simulated_ecg(
    breaths_per_min: float,
    *,
    per_min: float = 75.0,
    amplitude: float = 0.0,
    baseline_uv: float = 0.0,
    rr: float = 0.0,
) -> Floats:
    """Return an ECG at 250 Hz that breathing modulates in three ways."""
    times_s = np.arange(0.0, DURATION_S, 0.004)
    breath = np.sin(2 * np.pi * breaths_per_min / 60 * times_s)
    ecg_uv = clean_ecg_uv(times_s, beats_s(per_min, breaths_per_min, rr))
    return ecg_uv * (1 + amplitude * breath) + baseline_uv * breath


def simulated_ppg(
    breaths_per_min: float,
    *,
    per_min: float = 75.0,
    amplitude: float = 0.0,
    baseline: float = 0.0,
    rr: float = 0.0,
) -> Floats:
    """Return pulses of height 1 at 100 Hz that breathing modulates in three ways."""
    times_s = np.arange(0.0, DURATION_S, 0.01)
    breath = np.sin(2 * np.pi * breaths_per_min / 60 * times_s)
    wave = np.zeros(times_s.size)
    for foot_s in beats_s(per_min, breaths_per_min, rr):
        near = slice(max(0, int(foot_s * 100) - 50), int(foot_s * 100) + 100)
        since_s = times_s[near] - foot_s
        wave[near] += np.exp(-((since_s - 0.13) ** 2) / (2 * 0.055**2))
    return wave * (1 + amplitude * breath) + baseline * breath


@pytest.mark.shared_data
def test_rates_of_intensive_care_agree_with_impedance(shared: Path) -> None:
    respiration, pleth, ecg = bidmc(shared)
    reference = respiratory_rate_per_min(respiration, rate_hz=125.0, step_s=4.0).rate_per_min
    for result, least_kept in (
        (ecg_respiratory_rate_per_min(ecg, rate_hz=125.0, step_s=4.0), 0.8),
        (ppg_respiratory_rate_per_min(pleth, rate_hz=125.0, step_s=4.0), 0.65),
        (derived_respiratory_rate_per_min(ecg, pleth, rate_hz=125.0, step_s=4.0), 0.8),
    ):
        kept = np.isfinite(result.rate_per_min)
        error = np.abs(result.rate_per_min - reference)[kept]
        # a monitor shows whole breaths; the worst window misses by less than the 2 per min of a usual claim
        assert kept.mean() >= least_kept
        assert error.mean() < 0.5
        assert error.max() < 2.0
    assert mean_ecg_respiratory_rate_per_min(ecg, rate_hz=125.0) == pytest.approx(21.17, abs=0.2)
    assert mean_ppg_respiratory_rate_per_min(pleth, rate_hz=125.0) == pytest.approx(21.17, abs=0.2)
    assert mean_derived_respiratory_rate_per_min(ecg, pleth, rate_hz=125.0) == pytest.approx(21.17, abs=0.2)


@pytest.mark.parametrize("per_min", [5.0, 12.0, 20.0, 34.0])
@pytest.mark.parametrize("way", [{"amplitude": 0.1, "rr": 0.03}, {"baseline_uv": 80.0, "rr": 0.03}])
def test_ecg_tells_the_rate_whatever_it_modulates(per_min: float, way: dict[str, float]) -> None:
    result = ecg_respiratory_rate_per_min(simulated_ecg(per_min, **way), rate_hz=250.0)
    assert np.isfinite(result.rate_per_min).mean() > 0.9
    # 32 s tell two sinusoids apart by 2 per min; one alone is placed to a tenth of that, two breaths to a fifth
    assert np.nanmax(np.abs(result.rate_per_min - per_min)) < 0.4


@pytest.mark.parametrize("per_min", [6.0, 15.0, 30.0])
@pytest.mark.parametrize("falling", [False, True])
def test_ppg_tells_the_rate_in_either_polarity(per_min: float, falling: bool) -> None:
    ppg = simulated_ppg(per_min, amplitude=0.15, baseline=0.2, rr=0.03)
    result = ppg_respiratory_rate_per_min(-ppg if falling else ppg, rate_hz=100.0)
    assert np.isfinite(result.rate_per_min).mean() > 0.9
    assert np.nanmax(np.abs(result.rate_per_min - per_min)) < 0.4


def test_fast_breathing_of_a_fast_heart_is_told_and_beyond_half_the_heart_rate_nothing_is() -> None:
    fast = ecg_respiratory_rate_per_min(
        simulated_ecg(55.0, per_min=150.0, amplitude=0.1, rr=0.02), rate_hz=250.0
    )
    assert np.isfinite(fast.rate_per_min).mean() > 0.9
    assert np.nanmax(np.abs(fast.rate_per_min - 55.0)) < 0.4
    slow = ecg_respiratory_rate_per_min(simulated_ecg(45.0, per_min=60.0, amplitude=0.1), rate_hz=250.0)
    given = slow.rate_per_min[np.isfinite(slow.rate_per_min)]
    assert (given <= 30.5).all()  # aliased, at best: what the heart does not sample cannot be told


def test_a_heart_without_breathing_gives_no_rate(rng: np.random.Generator) -> None:
    n_given = n_windows = 0
    for _ in range(4):
        ecg = simulated_ecg(15.0) + rng.normal(size=30_000) * 20.0
        ppg = np.interp(np.arange(30_000), np.arange(0, 30_000, 2.5), simulated_ppg(15.0))
        ppg += rng.normal(size=30_000) * 0.02
        result = derived_respiratory_rate_per_min(ecg, ppg, rate_hz=250.0, step_s=8.0)
        n_given += int(np.isfinite(result.rate_per_min).sum())
        n_windows += result.rate_per_min.size
    assert (
        n_given <= 0.1 * n_windows
    )  # 48 windows; a twentieth is given by chance where 4 to 7 series are noise


@pytest.mark.parametrize("per_min", [26.0, 32.0, 38.0, 46.0])
def test_a_slow_heart_without_breathing_gives_no_rate(per_min: float, rng: np.random.Generator) -> None:
    # half the heart rate leaves a narrow band, of which any peak of noise holds half
    ecg = simulated_ecg(15.0, per_min=per_min) + rng.normal(size=30_000) * 20.0
    rates = ecg_respiratory_rate_per_min(ecg, rate_hz=250.0, step_s=8.0).rate_per_min
    assert np.isfinite(rates).sum() <= 1


def test_a_slow_heart_tells_breaths_that_are_slow() -> None:
    ecg = simulated_ecg(12.0, per_min=46.0, rr=0.05, amplitude=0.08)
    rates = ecg_respiratory_rate_per_min(ecg, rate_hz=250.0, step_s=8.0).rate_per_min
    np.testing.assert_allclose(rates, 12.0, atol=0.5)  # as for faster hearts


def test_noise_gives_no_rate(rng: np.random.Generator) -> None:
    ecg = rng.normal(size=int(250 * DURATION_S))
    result = ecg_respiratory_rate_per_min(ecg, rate_hz=250.0, step_s=8.0)
    assert np.isfinite(result.rate_per_min).mean() <= 0.1
    assert np.isnan(mean_ecg_respiratory_rate_per_min(ecg, rate_hz=250.0))


def test_windows_without_beats_have_no_rate_and_say_why() -> None:
    ecg = simulated_ecg(15.0, amplitude=0.1, rr=0.03)
    ecg[40 * 250 : 46 * 250] = np.nan
    result = ecg_respiratory_rate_per_min(ecg, rate_hz=250.0)
    touching = (result.intervals[:, 0] < 41 * 250) & (result.intervals[:, 1] > 45 * 250)
    assert result.reasons["beats"][touching].all()
    assert np.isnan(result.rate_per_min[touching]).all()
    apart = (result.intervals[:, 1] <= 40 * 250) | (result.intervals[:, 0] >= 47 * 250)
    assert np.isfinite(result.rate_per_min[apart]).all()


def test_one_good_signal_speaks_where_the_other_has_no_beats() -> None:
    ecg = simulated_ecg(15.0, amplitude=0.1, rr=0.03)
    result = derived_respiratory_rate_per_min(ecg, np.full(ecg.size, np.nan), rate_hz=250.0)
    alone = ecg_respiratory_rate_per_min(ecg, rate_hz=250.0)
    np.testing.assert_allclose(result.rate_per_min, alone.rate_per_min)


def test_gain_offset_and_polarity_do_not_matter() -> None:
    ecg = simulated_ecg(15.0, amplitude=0.1, rr=0.03)
    expected = ecg_respiratory_rate_per_min(ecg, rate_hz=250.0).rate_per_min
    found = ecg_respiratory_rate_per_min(-0.001 * ecg + 7.0, rate_hz=250.0).rate_per_min
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_modulations_are_what_was_put_in() -> None:
    ecg = simulated_ecg(15.0, amplitude=0.1, baseline_uv=50.0)
    beats = detect_qrs(ecg, rate_hz=250.0)
    modulations = ecg_modulations(ecg, beats, rate_hz=250.0)
    breath = np.sin(2 * np.pi * 0.25 * modulations.times_s)
    whole = np.isfinite(modulations.values["baseline"])
    assert whole.sum() >= beats.size - 2
    for name in ("qrs_area", "r_amplitude", "baseline"):
        assert np.corrcoef(modulations.values[name][whole], breath[whole])[0, 1] > 0.97, name
    assert np.nanmedian(modulations.values["rr_s"]) == pytest.approx(0.8, abs=0.004)
    pulses = ppg_modulations(simulated_ppg(15.0, amplitude=0.2, baseline=0.1), rate_hz=100.0)
    breath = np.sin(2 * np.pi * 0.25 * pulses.times_s)
    for name in ("amplitude", "intensity"):
        assert np.corrcoef(pulses.values[name], breath)[0, 1] > 0.95, name


def test_derived_respiration_is_even_and_leaves_ectopic_beats_out() -> None:
    ecg = simulated_ecg(15.0, amplitude=0.1)
    beats = detect_qrs(ecg, rate_hz=250.0)
    modulations = ecg_modulations(ecg, beats, rate_hz=250.0)
    clean = evenly(modulations, "qrs_area", duration_s=DURATION_S)
    assert clean.shape == (480,)
    modulations.values["qrs_area"][40] *= 5.0
    without = evenly(modulations, "qrs_area", duration_s=DURATION_S)
    # the line across the beat left out misses a top by at most 1 - cos(0.8 s / 4 s * pi) of the amplitude
    assert np.abs(without - clean).max() < 0.2 * np.ptp(clean)


@pytest.mark.parametrize("value", [0.0, 5.0, np.nan])
def test_nothing_gives_nan(value: float) -> None:
    signal = np.full(10_000, value)
    assert np.isnan(derived_respiratory_rate_per_min(signal, signal, rate_hz=250.0).rate_per_min).all()
    assert np.isnan(mean_ppg_respiratory_rate_per_min(signal, rate_hz=250.0))


def test_integers_fortran_order_and_read_only_arrays_are_taken_as_they_are() -> None:
    ecg = np.rint(simulated_ecg(15.0, amplitude=0.1, rr=0.03)).astype(np.int16)
    expected = ecg_respiratory_rate_per_min(ecg.astype(float), rate_hz=250.0).rate_per_min
    row = np.asfortranarray(np.stack([ecg, ecg]))[0]
    row.flags.writeable = False
    np.testing.assert_array_equal(ecg_respiratory_rate_per_min(row, rate_hz=250.0).rate_per_min, expected)


def test_less_than_a_window_gives_no_window() -> None:
    result = ecg_respiratory_rate_per_min(simulated_ecg(15.0)[:5000], rate_hz=250.0)
    assert result.rate_per_min.shape == (0,)
    assert result.intervals.shape == (0, 2)


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="one shape"):
        derived_respiratory_rate_per_min(np.zeros(1000), np.zeros(900), rate_hz=250.0)
    with pytest.raises(SignalError, match="n_samples"):
        ecg_respiratory_rate_per_min(np.zeros((2, 1000)), rate_hz=250.0)
    with pytest.raises(SignalError, match="100"):
        ecg_respiratory_rate_per_min(np.zeros(1000), rate_hz=50.0)
    modulations = ecg_modulations(simulated_ecg(15.0), rate_hz=250.0)
    with pytest.raises(SignalError, match="expected one of"):
        evenly(modulations, "colour", duration_s=10.0)
    with pytest.raises(SignalError, match="not ascending"):
        ecg_modulations(np.zeros(1000), [30, 20], rate_hz=250.0)
    with pytest.raises(SignalError, match="window_s"):
        fused_rate_per_min([modulations], n_samples=1000, rate_hz=250.0, window_s=0.0)
