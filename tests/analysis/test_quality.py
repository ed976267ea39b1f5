"""Signal quality: clean and disturbed recordings, each fault under its name, invariances, bad input."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import io

from analysis.quality import (
    accelerometer_quality,
    ecg_quality,
    good_ecg_share,
    good_ppg_share,
    good_respiration_share,
    ppg_quality,
    pressure_quality,
    respiration_quality,
)
from analysis.signal_faults import Quality
from firmware_sim.signals.ecg import clean_ecg_uv
from protocols.errors import SignalError

Floats = np.ndarray[Any, np.dtype[np.float64]]
RATE_HZ = 125.0
TIMES_S = np.arange(int(60 * RATE_HZ)) / RATE_HZ
BEATS_S = np.arange(-3.0, 65.0, 0.8)


@pytest.fixture
def ecg(rng: np.random.Generator) -> Floats:
    return clean_ecg_uv(TIMES_S, BEATS_S) + 20.0 * rng.standard_normal(TIMES_S.size)


@pytest.fixture
def ppg(rng: np.random.Generator) -> Floats:
    since_s = (TIMES_S - 0.3) % 0.8
    pulse = np.exp(-0.5 * ((since_s - 0.2) / 0.07) ** 2) + 0.3 * np.exp(-0.5 * ((since_s - 0.45) / 0.08) ** 2)
    return 100.0 * pulse + rng.standard_normal(TIMES_S.size)


def disturb(samples: Floats, rng: np.random.Generator) -> dict[str, Floats]:
    """Return the signal with window 2 of 10 s at fault, by the reason it should be given."""
    span = slice(2 * 1250, 3 * 1250)
    faults = {name: samples.copy() for name in ("missing", "flat_line", "clipping", "unlike_beats")}
    faults["missing"][span.start + 100 : span.start + 300] = np.nan
    faults["flat_line"][span.start + 300 : span.start + 1000] = 7.0
    faults["clipping"][span] = np.clip(faults["clipping"][span] * 3.0, -1e9, samples.max())
    faults["unlike_beats"][span] += 3.0 * np.std(samples) * np.cumsum(rng.standard_normal(1250)) / 3.0
    return faults


@pytest.mark.parametrize("reason", ["missing", "flat_line", "clipping", "unlike_beats"])
@pytest.mark.parametrize("modality", [ecg_quality, ppg_quality])
def test_a_fault_is_named_and_its_window_only_is_ruled_out(
    modality: Callable[..., Quality], reason: str, ecg: Floats, ppg: Floats, rng: np.random.Generator
) -> None:
    clean = ecg if modality is ecg_quality else ppg
    assert modality(clean, rate_hz=RATE_HZ).good.all()
    assert modality(clean, rate_hz=RATE_HZ).quality.min() > 0.9
    found = modality(disturb(clean, rng)[reason], rate_hz=RATE_HZ)
    assert found.reasons[reason].tolist() == [False, False, True, False, False, False]
    assert found.good.tolist() == [True, True, False, True, True, True]
    assert found.quality[2] < (0.86 if reason == "unlike_beats" else 1e-9)
    assert found.intervals[2].tolist() == [2500, 3750]


@pytest.mark.parametrize("modality", [ecg_quality, ppg_quality])
def test_unit_offset_and_type_do_not_matter(modality: Callable[..., Quality], ecg: Floats, ppg: Floats) -> None:
    clean = ecg if modality is ecg_quality else ppg
    expected = modality(clean, rate_hz=RATE_HZ).quality
    for other in (clean * 1e-3 + 5.0, -clean, clean.astype(np.float32), np.asfortranarray(clean)):
        other.flags.writeable = False
        # single precision, and an inverted lead's marks a sample apart
        assert modality(other, rate_hz=RATE_HZ).quality == pytest.approx(expected, abs=0.02)


def test_marks_at_any_peak_of_the_complex_give_the_same_quality(ecg: Floats, rng: np.random.Generator) -> None:
    beats = np.rint(BEATS_S[(BEATS_S > 0) & (BEATS_S < 60)] * RATE_HZ).astype(np.int64)
    moved = beats + rng.integers(-5, 6, beats.size)  # 40 ms: between R and the end of a wide complex
    expected = ecg_quality(ecg, beats, rate_hz=RATE_HZ).quality
    # marks beside the window's edge change sides, and with them a beat of the mean
    assert ecg_quality(ecg, moved, rate_hz=RATE_HZ).quality == pytest.approx(expected, abs=0.02)


def test_windows_of_other_lengths_and_steps_judge_the_same_beats(ecg: Floats) -> None:
    whole = ecg_quality(ecg, rate_hz=RATE_HZ, window_s=20.0, step_s=5.0)
    assert whole.intervals.tolist() == [[k * 625, k * 625 + 2500] for k in range(9)]
    assert whole.good.all()
    assert whole.quality == pytest.approx(
        np.full(9, ecg_quality(ecg, rate_hz=RATE_HZ).quality.mean()), abs=0.02
    )


def test_a_window_with_a_pause_of_over_3_s_has_no_rate(rng: np.random.Generator) -> None:
    beats_s = np.concatenate([np.arange(-3.0, 13.0, 0.8), np.arange(17.0, 65.0, 0.8)])
    ecg = clean_ecg_uv(TIMES_S, beats_s) + 20.0 * rng.standard_normal(TIMES_S.size)
    assert np.flatnonzero(ecg_quality(ecg, rate_hz=RATE_HZ).reasons["no_beats"]).tolist() == [1]


def test_noise_has_no_beats_to_resemble(rng: np.random.Generator) -> None:
    noise = rng.standard_normal(10_000)
    for quality in (ecg_quality(noise, rate_hz=250.0), ecg_quality(np.cumsum(noise), rate_hz=250.0)):
        assert not quality.good.any()
    # white noise is spread over 5-40 Hz: its QRS band holds 10 of 35 Hz
    assert ecg_quality(noise, rate_hz=250.0).indices["p_sqi"] == pytest.approx(10 / 35, abs=0.08)
    assert ecg_quality(noise, rate_hz=250.0).indices["k_sqi"] == pytest.approx(3.0, abs=0.6)
    assert good_ppg_share(noise, rate_hz=50.0) < 0.1


@pytest.mark.parametrize("tone_hz", [10.0, 30.0, 45.0, 60.0])
def test_a_tone_above_all_pulses_is_no_good(tone_hz: float) -> None:
    times_s = np.arange(0.0, 120.0, 0.01)
    assert good_ppg_share(np.sin(2.0 * np.pi * tone_hz * times_s), rate_hz=100.0) == 0.0


def test_hum_of_five_times_the_pulse_is_no_harm() -> None:
    times_s = np.arange(0.0, 120.0, 0.005)
    pulses = np.sin(2.0 * np.pi * 1.1 * times_s) + 0.4 * np.sin(4.0 * np.pi * 1.1 * times_s)
    hum = 5.0 * np.sin(2.0 * np.pi * 50.0 * times_s + 0.3)
    assert good_ppg_share(pulses + hum, rate_hz=200.0) == 1.0


@pytest.mark.parametrize("value", [0.0, np.nan, 3.5])
def test_a_constant_or_missing_signal_is_worthless_everywhere(value: float) -> None:
    samples = np.full(10_000, value)
    for quality in (
        ecg_quality(samples, rate_hz=100.0),
        ppg_quality(samples, rate_hz=100.0),
        respiration_quality(samples, rate_hz=100.0),
        pressure_quality(samples, rate_hz=100.0),
        accelerometer_quality(np.stack([samples] * 3), rate_hz=100.0),
    ):
        assert quality.quality.shape == (quality.intervals.shape[0],)
        assert not quality.good.any()
        assert not quality.quality.any()


def test_too_short_a_signal_has_no_share() -> None:
    assert np.isnan(good_ecg_share(np.zeros(500), rate_hz=100.0))
    assert np.isnan(good_ppg_share(np.zeros(500), rate_hz=100.0))
    assert np.isnan(good_respiration_share(np.zeros(500), rate_hz=100.0))


@pytest.mark.shared_data
def test_clean_records_with_ectopic_beats_are_good(mit_bih) -> None:  # type: ignore[no-untyped-def]
    for record in (100, 106, 118, 119):  # 106 and 119: ventricular bigeminy and trigeminy
        lead = mit_bih(record)[0][: 360 * 300]
        # where every other beat is ectopic the mean is of both kinds, and two windows of 119 resemble neither
        assert good_ecg_share(lead, rate_hz=360.0) >= 0.9


@pytest.mark.shared_data
@pytest.mark.parametrize("excerpt", ["118e00", "118e12"])
def test_electrode_motion_noise_is_told_from_the_clean_part(shared: Path, excerpt: str) -> None:
    # The database adds noise in every other two minutes; these two-minute excerpts are clean for 40 s.
    quality = ecg_quality(np.loadtxt(shared / f"data/ecg/nstdb_heartpy/{excerpt}.csv"), rate_hz=360.0)
    assert quality.good[:4].all()
    assert quality.quality[:4].min() > quality.quality[4:].max()
    assert quality.good[4:].mean() < 0.5


@pytest.mark.shared_data
def test_pulses_at_the_wrist_are_worse_in_motion(shared: Path) -> None:
    record = io.loadmat(shared / "data/ppg/spc2015/DATA_01_TYPE01.mat")["sig"][1:6]
    alone = ppg_quality(record[0], rate_hz=125.0)
    assert alone.good[:3].all()  # the subject stands for 30 s before running
    assert np.median(alone.quality[4:27]) < alone.quality[:3].min()
    both = ppg_quality(record[0], rate_hz=125.0, accel_mps2=9.81 * record[2:])
    assert both.reasons["motion"][4:27].all()
    assert not both.good[4:27].any()


@pytest.mark.shared_data
def test_breaths_and_pulses_of_a_ward_monitor_are_good(shared: Path) -> None:
    with gzip.open(next((shared / "data/resp/bidmc").glob("*.gz")), "rt") as file:
        names = [name.strip() for name in file.readline().split(",")]
        columns = np.loadtxt(file, delimiter=",", max_rows=20_000).T
    assert good_respiration_share(columns[names.index("RESP")], rate_hz=125.0) >= 0.75
    # an artefact at 91 to 106 s costs two of the sixteen windows
    assert good_ppg_share(columns[names.index("PLETH")], rate_hz=125.0) >= 0.85


def test_breathing_is_good_and_noise_is_not_whatever_the_rows(rng: np.random.Generator) -> None:
    times_s = np.arange(0, 128, 0.1)
    breaths = np.sin(2 * np.pi * 0.25 * times_s) + 0.2 * rng.standard_normal(times_s.size)
    noise = rng.standard_normal(times_s.size)
    quality = respiration_quality(np.stack([breaths, noise]), rate_hz=10.0)
    # the band of 0.93 Hz holds 0.93 / 5 of the noise's 0.04, against 0.5 of the breaths
    assert quality.quality[0].min() > 0.95
    assert quality.good[0].all()
    assert not quality.good[1].any()
    assert np.array_equal(quality.quality[0], respiration_quality(breaths, rate_hz=10.0).quality)


@pytest.mark.parametrize("rate_hz", [4.0, 25.0])
def test_a_random_walk_is_no_breathing_but_breaths_on_one_are(rng: np.random.Generator, rate_hz: float) -> None:
    n = round(3200 * rate_hz)
    walk = np.cumsum(rng.standard_normal(n)) / np.sqrt(rate_hz)  # 1 per second
    # one in twenty frequencies of noise stands out; the strongest is one of a few
    assert good_respiration_share(walk, rate_hz=rate_hz) < 0.25
    for breath_hz in (0.1, 0.25, 0.7):  # 6 to 42 per min
        breaths = 5.0 * np.sin(2.0 * np.pi * breath_hz * np.arange(n) / rate_hz)
        assert good_respiration_share(breaths, rate_hz=rate_hz) == 1.0
        assert good_respiration_share(breaths + 0.1 * walk, rate_hz=rate_hz) > 0.9


def test_breaths_of_unequal_in_and_expiration_are_good() -> None:
    times_s = np.arange(0, 64, 0.1)
    breaths = np.sin(2 * np.pi * 0.2 * times_s) + 0.9 * np.sin(2 * np.pi * 0.4 * times_s + 1.0)
    # the overtone's 45 % of the power count
    assert respiration_quality(breaths, rate_hz=10.0).quality.min() > 0.9


def test_pressure_faults_have_names() -> None:
    wave = 90.0 + 20.0 * np.sin(2 * np.pi * 1.2 * TIMES_S) + 1e-3 * np.sin(TIMES_S)
    assert pressure_quality(wave, rate_hz=RATE_HZ).quality == pytest.approx(1.0)
    wave[1250:1300], wave[2500:3750] = 320.0, 90.0 + 0.05 * (wave[2500:3750] - 90.0)
    reasons = pressure_quality(wave, rate_hz=RATE_HZ).reasons
    assert reasons["out_of_range"].tolist() == [False, True, False, False, False, False]
    assert reasons["damped"].tolist() == [False, False, True, False, False, False]


def test_accelerometer_faults_have_names(rng: np.random.Generator) -> None:
    accel = rng.standard_normal((2, 3, 6000)) + np.array([0.0, 0.0, 9.81])[:, np.newaxis]
    assert accelerometer_quality(accel, rate_hz=100.0).good.all()
    accel[0, 1, 1000:1050], accel[1, :, 2000:3000] = 78.5, 9.81 / np.sqrt(3)
    accel[0, 2, 3000:3200], accel[1, 2, 4000:5000] = np.nan, 0.0
    quality = accelerometer_quality(accel, rate_hz=100.0, range_mps2=78.5)
    assert quality.quality.shape == (2, 6)
    assert np.argwhere(quality.reasons["saturation"]).tolist() == [[0, 1]]
    assert np.argwhere(quality.reasons["stuck"]).tolist() == [[1, 2]]
    assert np.argwhere(quality.reasons["missing"]).tolist() == [[0, 3]]
    assert np.argwhere(quality.reasons["gravity"]).tolist() == [[1, 4]]
    assert quality.indices["motion_mps2"][0, 5] == pytest.approx(np.sqrt(3), rel=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ecg_quality(np.zeros((2, 900)), rate_hz=100.0), "expected one signal"),
        (lambda: ecg_quality(np.zeros(2000), rate_hz=50.0), "rate_hz=50.0"),
        (lambda: ecg_quality(np.zeros(2000), [5, 3], rate_hz=100.0), "ascending sample indices"),
        (lambda: ecg_quality(np.zeros(2000), [5, 3000], rate_hz=100.0), "within 2000"),
        (lambda: ppg_quality(np.full(2000, np.inf), rate_hz=100.0), "infinite"),
        (lambda: ppg_quality(np.zeros(2000), [], rate_hz=100.0, accel_mps2=np.zeros((3, 9000))), "accel_mps2"),
        (lambda: respiration_quality(np.zeros(2000), rate_hz=1.0), "rate_hz=1.0"),
        (lambda: accelerometer_quality(np.zeros(2000), rate_hz=100.0), "n_axes"),
        (lambda: pressure_quality(np.zeros(2000), rate_hz=100.0, window_s=-1.0), "window_s=-1.0"),
    ],
)
def test_misuse_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(SignalError, match=message):
        call()
