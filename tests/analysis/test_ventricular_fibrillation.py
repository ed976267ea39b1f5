"""Ventricular fibrillation and flutter: synthetic episodes, what resembles them, gaps, records, bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import signal

from analysis.intervals import total_length
from analysis.ventricular_fibrillation import (
    VentricularFibrillation,
    ventricular_fibrillation_episodes,
    wave_figures,
)
from protocols.errors import SignalError
from tests.analysis.synthetic_rhythms import Floats, ecg_of, sinus, ventricular_fibrillation_uv

RATE_HZ = 250.0


def with_episode(rng: np.random.Generator, *, rate_hz: float = RATE_HZ) -> Floats:
    """Return 80 s of sinus rhythm, fibrillation from 80 to 120 s, and sinus rhythm to 180 s."""
    ecg, _ = ecg_of(["N"] * 240, sinus(240, rng), rng, rate_hz=rate_hz)
    ecg = ecg[: int(180 * rate_hz)]
    start, end = int(80 * rate_hz), int(120 * rate_hz)
    ecg[start:end] = ventricular_fibrillation_uv(end - start, rng, rate_hz=rate_hz)
    return ecg


def shares(found: VentricularFibrillation, n: int) -> tuple[float, float]:
    return total_length(found.episodes) / n, total_length(found.undetermined) / n


@pytest.mark.parametrize("rate_hz", [125.0, 250.0, 360.0, 1000.0])
def test_an_episode_is_found_where_it_is_at_any_rate(rate_hz: float, rng: np.random.Generator) -> None:
    found = ventricular_fibrillation_episodes(with_episode(rng, rate_hz=rate_hz), rate_hz=rate_hz)
    assert found.episodes.shape == (1, 2)
    # a second belongs to what half of the windows of 8 s over it show, so an edge is known to some seconds
    assert found.episodes[0] / rate_hz == pytest.approx([80.0, 120.0], abs=4.0)
    assert total_length(found.undetermined) <= 8.0 * rate_hz


def test_unit_offset_polarity_type_and_order_do_not_matter(rng: np.random.Generator) -> None:
    ecg = with_episode(rng)
    expected = ventricular_fibrillation_episodes(ecg, rate_hz=RATE_HZ)
    column = np.stack([ecg, ecg], axis=1)[:, 0]
    for other in (1e-3 * ecg + 7.0, -ecg, np.rint(10 * ecg).astype(np.int32), ecg.astype(np.float32), column):
        before = other.copy()
        other.flags.writeable = False
        found = ventricular_fibrillation_episodes(other, rate_hz=RATE_HZ)
        # rounding may turn a window at the very limit, which moves an edge by a second
        assert found.episodes == pytest.approx(expected.episodes, abs=RATE_HZ)
        assert np.array_equal(other, before)


def test_flutter_is_told_and_tachycardia_is_none(rng: np.random.Generator) -> None:
    times_s = np.arange(int(60 * RATE_HZ)) / RATE_HZ
    flutter = 800.0 * np.sin(2 * np.pi * 4.7 * times_s) + 20.0 * rng.standard_normal(times_s.size)
    assert shares(ventricular_fibrillation_episodes(flutter, rate_hz=RATE_HZ), flutter.size) == (1.0, 0.0)
    fast, _ = ecg_of(["V"] * 180, np.full(180, 60.0 / 180.0), rng)
    assert shares(ventricular_fibrillation_episodes(fast, rate_hz=RATE_HZ), fast.size) == (0.0, 0.0)


@pytest.mark.parametrize("per_min", [50, 75, 130, 190])
def test_beats_at_any_rate_are_none_and_determined(per_min: int, rng: np.random.Generator) -> None:
    n = int(per_min * 1.5)
    ecg, _ = ecg_of(["N"] * n, sinus(n, rng, rr_s=60.0 / per_min), rng)
    ecg += 300.0 * np.sin(2 * np.pi * 0.25 * np.arange(ecg.size) / RATE_HZ)
    assert shares(ventricular_fibrillation_episodes(ecg, rate_hz=RATE_HZ), ecg.size) == (0.0, 0.0)


def noises(rng: np.random.Generator) -> dict[str, Floats]:
    n = int(90 * RATE_HZ)
    times_s, white = np.arange(n) / RATE_HZ, rng.standard_normal(n)
    muscle = signal.butter(2, (20.0, 100.0), "bandpass", fs=RATE_HZ, output="sos")
    return {
        "white": white,
        "random walk": np.cumsum(white),
        "muscle": signal.sosfiltfilt(muscle, white),
        "mains": np.sin(2 * np.pi * 50.0 * times_s) + 0.01 * white,
        "breath": np.sin(2 * np.pi * 0.3 * times_s) + 0.01 * white,
        "steps": np.abs(np.sin(np.pi * 1.9 * times_s)) + 0.3 * np.sin(2 * np.pi * 1.9 * times_s) + 0.05 * white,
    }


@pytest.mark.parametrize("kind", ["white", "random walk", "muscle", "mains", "breath", "steps"])
def test_noise_and_motion_are_no_fibrillation(kind: str, rng: np.random.Generator) -> None:
    noise = noises(rng)[kind]
    found, undetermined = shares(ventricular_fibrillation_episodes(noise, rate_hz=RATE_HZ), noise.size)
    assert found == 0.0
    if kind != "steps":  # a wave that repeats slowly is taken for beats, whose quality says more
        assert undetermined > 0.8


def test_a_flat_clipped_or_missing_stretch_is_undetermined(rng: np.random.Generator) -> None:
    ecg, _ = ecg_of(["N"] * 120, sinus(120, rng), rng)
    for fault in (0.0, np.nan):
        faulty = ecg.copy()
        faulty[int(30 * RATE_HZ) : int(50 * RATE_HZ)] = fault
        found = ventricular_fibrillation_episodes(faulty, rate_hz=RATE_HZ)
        assert found.episodes.shape == (0, 2)
        assert found.undetermined.shape == (1, 2)
        assert found.undetermined[0] / RATE_HZ == pytest.approx([30.0, 50.0], abs=4.0)
    clipped = np.clip(with_episode(rng), -100.0, 100.0)
    assert ventricular_fibrillation_episodes(clipped, rate_hz=RATE_HZ).episodes.shape == (0, 2)


@pytest.mark.parametrize("samples", [np.zeros(5000), np.full(5000, np.nan), np.full(5000, 7, dtype=np.int16)])
def test_a_constant_or_missing_lead_is_undetermined(samples: Floats) -> None:
    found = ventricular_fibrillation_episodes(samples, rate_hz=RATE_HZ)
    assert found.episodes.shape == (0, 2)
    assert found.undetermined.tolist() == [[0, 5000]]


@pytest.mark.parametrize("n", [0, 1, 1999])
def test_less_than_a_window_is_undetermined(n: int) -> None:
    found = ventricular_fibrillation_episodes(np.sin(np.arange(n)), rate_hz=RATE_HZ)
    assert found.episodes.shape == (0, 2)
    assert total_length(found.undetermined) == n


def test_the_figures_of_a_sine_and_of_beats_are_those_of_their_definitions() -> None:
    times_s = np.arange(int(30 * RATE_HZ)) / RATE_HZ
    # 5.3 Hz: half a period is 9.4 samples of 100 Hz, rounded to 9
    figures = wave_figures(np.sin(2 * np.pi * 5.3 * times_s), rate_hz=RATE_HZ)
    assert figures.mean_hz[5:-5] == pytest.approx(5.3, rel=0.02)
    assert figures.leakage[5:-5].max() < 0.1
    spikes = np.exp(-0.5 * (((times_s % 1.0) - 0.5) / 0.01) ** 2)
    assert wave_figures(spikes, rate_hz=RATE_HZ).leakage[5:-5].min() > 0.8
    assert wave_figures(spikes, rate_hz=RATE_HZ).box_share.max() < 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ventricular_fibrillation_episodes(np.zeros((2, 900)), rate_hz=250.0), "expected one lead"),
        (lambda: ventricular_fibrillation_episodes(np.zeros(9000), rate_hz=50.0), "rate_hz=50.0"),
        (lambda: ventricular_fibrillation_episodes(np.full(9000, np.inf), rate_hz=250.0), "infinite"),
        (lambda: ventricular_fibrillation_episodes(["a"], rate_hz=250.0), "real numbers"),
    ],
)
def test_misuse_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(SignalError, match=message):
        call()


@pytest.mark.shared_data
@pytest.mark.parametrize("record", [104, 106, 107, 108, 109, 119])
def test_records_with_ectopy_block_pacing_and_noise_show_none(mit_bih: Any, record: int) -> None:
    lead = mit_bih(record)[0][: 15 * 60 * 360]
    found, undetermined = shares(ventricular_fibrillation_episodes(lead, rate_hz=360.0), lead.size)
    assert found == 0.0
    assert undetermined < 0.05  # noise in 108, a clipped minute in others


@pytest.mark.shared_data
@pytest.mark.parametrize("excerpt", ["118e00", "118e12"])
def test_electrode_motion_is_no_fibrillation(shared: Path, excerpt: str) -> None:
    lead = np.loadtxt(shared / f"data/ecg/nstdb_heartpy/{excerpt}.csv")
    assert ventricular_fibrillation_episodes(lead, rate_hz=360.0).episodes.shape == (0, 2)
