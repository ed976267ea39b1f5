"""Known lag and drift between two recordings of one heart are found again, within what is stated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import io, ndimage

from analysis.alignment import _on_a_line, align_beats, estimate_alignment
from analysis.heartbeats import detect_qrs
from analysis.pulses import detect_pulses
from protocols.errors import SignalError

RATE_HZ = 100.0


def heart(rng: np.random.Generator, *, duration_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return beat times with some variability, and spikes of 80 ms at them, at 100 Hz."""
    beats_s = np.cumsum(rng.normal(0.8, 0.05, int(duration_s / 0.6)))
    beats_s = beats_s[beats_s < duration_s]
    return beats_s, spikes(beats_s, duration_s)


def spikes(beats_s: NDArray[np.float64], duration_s: float) -> NDArray[np.float64]:
    times_s = np.arange(0, duration_s, 1 / RATE_HZ)
    nearest = np.clip(np.searchsorted(beats_s, times_s), 1, beats_s.size - 1)
    distance_s = np.minimum(np.abs(times_s - beats_s[nearest - 1]), np.abs(times_s - beats_s[nearest]))
    return np.exp(-0.5 * (distance_s / 0.02) ** 2)


@pytest.mark.parametrize(("lag_s", "drift_ppm"), [(0.0, 0.0), (1.234, 60.0), (-3.3, -150.0)])
def test_the_stated_interval_holds_the_truth_as_often_as_it_says(lag_s: float, drift_ppm: float) -> None:
    held = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        beats_s, reference = heart(rng, duration_s=240.0)
        test = spikes(beats_s + lag_s + 1e-6 * drift_ppm * beats_s, 240.0)
        noise = rng.normal(0, 0.3, (2, test.size))
        found = estimate_alignment(
            test + noise[0], reference + noise[1], rate_hz=RATE_HZ, max_lag_s=5.0, window_s=20.0
        )
        low_s, high_s = found.lag_interval_s()
        low_ppm, high_ppm = found.drift_interval_ppm()
        true_s = lag_s + 1e-6 * drift_ppm * found.middle_s
        held.append((low_s <= true_s <= high_s, low_ppm <= drift_ppm <= high_ppm))
    # 95 % of 40 is 38; binomially fewer than 34 in one of a hundred runs
    assert (np.sum(held, axis=0) >= 34).all()


@pytest.mark.parametrize("part", [0.0, 0.25, 0.5, 0.9])
def test_the_stated_error_holds_that_of_the_parabola_between_samples(
    part: float, rng: np.random.Generator
) -> None:
    reference = ndimage.gaussian_filter1d(rng.normal(size=30_000), 0.7)  # sampled just finely enough
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(30_000) * (37 + part))
    test = np.fft.irfft(np.fft.rfft(reference) * turn, 30_000)
    low_s, high_s = estimate_alignment(test, reference, rate_hz=RATE_HZ, max_lag_s=2.0).lag_interval_s()
    assert low_s <= (37 + part) / RATE_HZ <= high_s
    assert high_s - low_s < 0.5 / RATE_HZ


@pytest.mark.shared_data
def test_two_leads_of_noise_on_a_real_heart_are_aligned_to_the_millisecond(mit_bih) -> None:  # type: ignore[no-untyped-def]
    ecg = mit_bih(100)[0][: 360 * 300].astype(float)
    times_s = np.arange(ecg.size) / 360.0
    delayed = np.interp((times_s - 1.234) / (1 + 80e-6), times_s, ecg)
    noise = np.random.default_rng(1).normal(0, 0.5 * ecg.std(), (2, ecg.size))
    found = estimate_alignment(delayed + noise[0], ecg + noise[1], rate_hz=360.0, max_lag_s=5.0)
    assert found.lag_at_s(0.0) == pytest.approx(1.234, abs=0.001)
    assert found.drift_ppm == pytest.approx(80.0, abs=2.0)
    beats_s = [detect_qrs(lead, rate_hz=360.0) / 360.0 for lead in (delayed + noise[0], ecg + noise[1])]
    by_beats = align_beats(*beats_s, max_lag_s=5.0)
    assert by_beats.lag_at_s(0.0) == pytest.approx(1.234, abs=0.003)  # beats are marked to a sample, 2.8 ms


@pytest.mark.shared_data
def test_a_clock_put_off_is_found_again_between_heart_and_pulse(shared: Path) -> None:
    recording = io.loadmat(shared / "data/ppg/spc2015/DATA_07_TYPE02.mat")["sig"]  # running, 125 Hz
    beats_s = detect_qrs(recording[0], rate_hz=125.0) / 125.0
    pulses_s = detect_pulses(recording[1], rate_hz=125.0) / 125.0
    found = align_beats(pulses_s, beats_s, max_lag_s=2.0)
    later = align_beats(pulses_s * (1 + 90e-6) + 1.234, beats_s, max_lag_s=5.0)
    assert 0.2 <= found.lag_s <= 0.4  # pulse arrival at the wrist, to the systolic peak
    apart_s = later.lag_at_s(found.middle_s) - found.lag_s
    assert apart_s == pytest.approx(1.234 + 90e-6 * found.middle_s, abs=0.02)  # a few windows choose otherwise
    low_ppm, high_ppm = later.drift_interval_ppm()
    assert low_ppm <= found.drift_ppm + 90.0 <= high_ppm


def test_a_metronome_has_no_lag_but_one_that_varies_has(rng: np.random.Generator) -> None:
    even_s = np.arange(0, 400, 0.8)
    jitter = rng.normal(0, 0.003, (2, even_s.size))
    assert np.isnan(align_beats(even_s + jitter[0], even_s + jitter[1], max_lag_s=3.0).lag_s)
    varied_s = even_s + 0.08 * np.sin(
        2 * np.pi * (0.2 + 1e-4 * even_s) * even_s
    )  # breathing, faster and faster
    found = align_beats(varied_s + 1.5 + jitter[0], varied_s + jitter[1], max_lag_s=3.0)
    assert found.lag_s == pytest.approx(1.5, abs=0.002)  # 3 ms of each beat, 490 beats


def test_times_go_to_the_reference_and_back(rng: np.random.Generator) -> None:
    beats_s, _ = heart(rng, duration_s=600.0)
    found = align_beats(beats_s * (1 - 200e-6) + 3.0, beats_s, max_lag_s=5.0)
    for time_s in (0.0, 300.0, 600.0):
        assert found.reference_time_s(time_s + found.lag_at_s(time_s)) == pytest.approx(time_s, abs=1e-9)
        assert found.lag_at_s(time_s) == pytest.approx(3.0 - 200e-6 * time_s, abs=0.001)


def test_windows_that_err_alike_widen_the_interval() -> None:
    times_s = np.arange(40) * 30.0
    slow = 0.01 * np.sin(2 * np.pi * np.arange(40) / 20)
    widened = _on_a_line(times_s, [(np.array([lag]), np.array([0.9])) for lag in slow], 500.0)
    shuffled = np.random.default_rng(1).permutation(slow)
    plain = _on_a_line(times_s, [(np.array([lag]), np.array([0.9])) for lag in shuffled], 500.0)
    assert widened.lag_se_s > 2.5 * plain.lag_se_s


def test_missed_and_extra_beats_do_no_harm(rng: np.random.Generator) -> None:
    beats_s, _ = heart(rng, duration_s=600.0)
    test_s = np.sort(np.concatenate([beats_s[rng.random(beats_s.size) > 0.1] - 2.5, rng.uniform(0, 600, 60)]))
    found = align_beats(test_s, beats_s, max_lag_s=10.0)
    assert found.lag_s == pytest.approx(-2.5, abs=0.001)
    assert found.n_agreeing > 0.9 * found.n_windows


def test_unrelated_recordings_are_not_aligned(rng: np.random.Generator) -> None:
    (first_s, first), (second_s, second) = (heart(rng, duration_s=400.0) for _ in range(2))
    assert np.isnan(estimate_alignment(first, second, rate_hz=RATE_HZ, max_lag_s=5.0).lag_s)
    assert np.isnan(align_beats(first_s, second_s, max_lag_s=5.0).lag_s)


@pytest.mark.parametrize("signal", [np.zeros(20_000), np.full(20_000, np.nan), np.zeros(500), np.empty(0)])
def test_nothing_to_see_gives_nothing(signal: NDArray[np.float64]) -> None:
    found = estimate_alignment(signal, signal, rate_hz=RATE_HZ, max_lag_s=5.0)
    assert np.isnan([found.lag_s, found.drift_ppm, found.lag_interval_s()[0]]).all()
    assert found.n_agreeing == 0


def test_windows_with_missing_samples_are_left_out(rng: np.random.Generator) -> None:
    beats_s, reference = heart(rng, duration_s=300.0)
    test = spikes(beats_s + 0.5, 300.0)
    test[5000:5600] = np.nan
    found = estimate_alignment(test, reference, rate_hz=RATE_HZ, max_lag_s=2.0, window_s=20.0)
    assert found.lag_s == pytest.approx(0.5, abs=0.001)


def test_unit_offset_and_the_roles_do_not_matter(rng: np.random.Generator) -> None:
    beats_s, reference = heart(rng, duration_s=240.0)
    test = spikes(beats_s + 0.4, 240.0)
    found, scaled, swapped = (
        estimate_alignment(a, b, rate_hz=RATE_HZ, max_lag_s=2.0)
        for a, b in ((test, reference), (1e4 * test - 7e5, reference), (reference, test))
    )
    assert scaled.lag_s == pytest.approx(found.lag_s, abs=1e-6)
    assert swapped.lag_s == pytest.approx(-found.lag_s, abs=1e-4)


@pytest.mark.parametrize(
    ("test", "reference", "options", "says"),
    [
        (np.zeros(5), np.zeros(6), {}, "5 test samples for 6"),
        (np.zeros((2, 5)), np.zeros(5), {}, "shape"),
        (np.full(5, np.inf), np.zeros(5), {}, "infinite"),
        (np.zeros(5), np.zeros(5), {"rate_hz": 0.0}, "rate_hz=0.0"),
        (np.zeros(5), np.zeros(5), {"max_lag_s": -1.0}, "max_lag_s=-1.0"),
        (np.zeros(5), np.zeros(5), {"max_lag_s": 1e-9}, "expected more than a sample"),
        (np.zeros(5), np.zeros(5), {"max_drift_ppm": 0.0}, "max_drift_ppm=0.0"),
    ],
)
def test_misuse_is_named(test, reference, options, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SignalError, match=says):
        estimate_alignment(test, reference, **({"rate_hz": 1.0, "max_lag_s": 1.0, "window_s": 2.0} | options))


def test_beats_that_go_back_are_refused() -> None:
    with pytest.raises(SignalError, match="test_s lack values or go back"):
        align_beats([2.0, 1.0], [1.0, 2.0], max_lag_s=1.0)
