"""Pulses: real recordings, synthetic waves of known truth, and input that is poor or wrong."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.heartbeats import detect_qrs
from analysis.pulses import detect_pulses, detect_pulses_batch
from protocols.errors import SignalError

Floats = NDArray[np.float64]


def wave(
    beats_s: Floats, *, rate_hz: float, duration_s: float, dicrotic: float = 0.35, dicrotic_s: float = 0.33
) -> Floats:
    """Return pulses whose systolic peaks lie 130 ms after the beats; the reflected wave 200 ms later."""
    times_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    signal = np.zeros(times_s.size)
    for height, at_s, sd_s in ((1.0, 0.13, 0.055), (dicrotic, dicrotic_s, 0.075)):
        for beat_s in beats_s:
            signal += height * np.exp(-((times_s - beat_s - at_s) ** 2) / (2 * sd_s**2))
    return signal


def f1(reference_s: Floats, found_s: Floats, tolerance_s: float) -> float:
    """Return F1 of nearest neighbours; both are sparse, so that a neighbour serves one partner only."""
    if found_s.size == 0:
        return 0.0
    matched = (np.abs(found_s[:, np.newaxis] - reference_s).min(axis=0) <= tolerance_s).sum()
    return float(2 * matched / (reference_s.size + found_s.size))


@cache
def bidmc(shared: Path) -> tuple[Floats, Floats]:
    """Return the first 80 s of finger pleth and ECG lead II at 125 Hz."""
    with gzip.open(shared / "data/resp/bidmc/bidmc_01_Signals.csv.gz", "rt") as file:
        names = [name.strip() for name in file.readline().split(",")]
        rows = np.loadtxt(
            file, delimiter=",", max_rows=10_000, usecols=(names.index("PLETH"), names.index("II"))
        )
    return rows[:, 0], rows[:, 1]


def test_intensive_care_pleth_agrees_with_ecg(shared: Path) -> None:
    pleth, ecg = bidmc(shared)
    beats_s = detect_qrs(ecg, rate_hz=125.0) / 125.0
    pulses_s = detect_pulses(pleth, rate_hz=125.0) / 125.0
    delay_s = 0.640  # of this monitor, from R to systolic peak; 150 ms around it is the window of EC57
    reference_s = beats_s[beats_s + delay_s < 79.5] + delay_s
    # at most 2 of 120 wrong: the recording begins inside a pulse and ends inside another
    assert f1(reference_s, pulses_s[pulses_s > 0.5], 0.150) > 0.98


@pytest.mark.parametrize("rate_hz", [20.0, 25.0, 30.0, 64.0, 99.7, 125.0, 300.0, 1000.0])
@pytest.mark.parametrize("rate_bpm", [35.0, 72.0, 150.0, 200.0])
def test_every_pulse_is_found_and_no_dicrotic_wave(rate_hz: float, rate_bpm: float) -> None:
    beats_s = np.arange(0.3, 39.0, 60.0 / rate_bpm)
    signal = wave(beats_s, rate_hz=rate_hz, duration_s=40.0, dicrotic=0.35 if rate_bpm < 140 else 0.0)
    # pulses this fast are all but sinusoidal here: their shape does not tell which way is up
    pulses_s = detect_pulses(signal, rate_hz=rate_hz, polarity="auto" if rate_bpm < 140 else "rising") / rate_hz
    assert pulses_s.size == beats_s.size
    # half a sample, and 15 ms by which the flank of the reflected wave or of the next pulse moves the top
    assert np.abs(pulses_s - beats_s - 0.13).max() <= 0.5 / rate_hz + 0.015


@pytest.mark.parametrize(("snr_db", "least"), [(20, 0.999), (10, 0.98), (6, 0.96)])
def test_noise_costs_little(snr_db: float, least: float, rng: np.random.Generator) -> None:
    beats_s = np.cumsum(rng.uniform(0.9, 1.5, 60))  # slow: most room for noise between the pulses
    clean = wave(beats_s, rate_hz=50.0, duration_s=float(beats_s[-1]) + 1.0)
    noisy = clean + rng.normal(size=clean.size) * clean.std() * 10 ** (-snr_db / 20)  # white, up to 25 Hz
    # two wrong pulses of 60 are 0.017 of F1, five are 0.04; 100 ms: a noisy top may lie off by half a width
    assert f1(beats_s + 0.13, detect_pulses(noisy, rate_hz=50.0) / 50.0, 0.100) >= least


def test_irregular_pulses_of_atrial_fibrillation_are_found(rng: np.random.Generator) -> None:
    beats_s = np.cumsum(rng.uniform(0.6, 1.4, 100))
    # a dicrotic wave half as steep as the pulse, 300 ms after it: no rhythm tells the two apart
    signal = wave(beats_s, rate_hz=125.0, duration_s=float(beats_s[-1]) + 1.0, dicrotic=0.7, dicrotic_s=0.43)
    pulses_s = detect_pulses(signal, rate_hz=125.0) / 125.0
    assert (
        f1(beats_s + 0.13, pulses_s, 0.05) > 0.99
    )  # one of 100 may be wrong where a wave rides on the one before


@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0.0), (3.0, 1e4), (-2.0, 5e4)])
def test_unit_offset_and_polarity_do_not_matter(shared: Path, scale: float, offset: float) -> None:
    pleth, _ = bidmc(shared)
    plain = detect_pulses(pleth, rate_hz=125.0)
    # a sum with the offset rounds the last bits, which may move the top of a plateau by a sample
    moved = detect_pulses(scale * pleth + offset, rate_hz=125.0)
    assert plain.size == moved.size
    assert np.abs(plain - moved).max() <= 1


def test_given_polarity_is_kept(shared: Path) -> None:
    pleth, _ = bidmc(shared)
    found = detect_pulses(pleth, rate_hz=125.0)
    np.testing.assert_array_equal(found, detect_pulses(pleth, rate_hz=125.0, polarity="rising"))
    np.testing.assert_array_equal(found, detect_pulses(-pleth, rate_hz=125.0, polarity="falling"))


def test_baseline_step_wander_and_clipping_make_no_pulses() -> None:
    beats_s = np.arange(0.3, 59.0, 0.8)
    signal = wave(beats_s, rate_hz=100.0, duration_s=60.0)
    signal[3010:] += 30.0  # thirty pulse heights
    signal += 6.0 * np.sin(2 * np.pi * 0.25 * np.arange(6000) / 100.0)  # breathing, six times the pulse
    pulses_s = detect_pulses(signal, rate_hz=100.0) / 100.0
    assert f1(beats_s + 0.13, pulses_s, 0.1) > 0.97  # the two pulses that the step may bury or make
    clipped = np.clip(wave(beats_s, rate_hz=100.0, duration_s=60.0), 0.1, 0.6)
    assert f1(beats_s + 0.13, detect_pulses(clipped, rate_hz=100.0) / 100.0, 0.05) == 1.0


def test_a_silent_start_spoils_no_pulse_after_it(rng: np.random.Generator) -> None:
    beats_s = np.arange(10.3, 59.0, 0.8)
    signal = wave(beats_s, rate_hz=100.0, duration_s=60.0)
    signal += 1e-3 * rng.normal(size=6000)  # the last bits of a converter
    found_s = detect_pulses(signal, rate_hz=100.0) / 100.0
    assert f1(beats_s + 0.13, found_s[found_s > 10.0], 0.05) == 1.0


def test_amplitude_may_fall_to_a_fifth() -> None:
    beats_s = np.arange(0.3, 59.0, 0.8)
    signal = wave(beats_s, rate_hz=100.0, duration_s=60.0)
    signal *= np.interp(np.arange(6000), [0, 2000, 4000, 6000], [1.0, 1.0, 0.2, 0.2])
    assert f1(beats_s + 0.13, detect_pulses(signal, rate_hz=100.0) / 100.0, 0.05) == 1.0


def test_missing_samples_hold_no_pulse_and_spoil_no_other() -> None:
    beats_s = np.arange(0.3, 59.0, 0.8)
    signal = wave(beats_s, rate_hz=100.0, duration_s=60.0)
    signal[2000:2600] = np.nan
    signal[4000::97] = np.nan  # single samples lost
    pulses = detect_pulses(signal, rate_hz=100.0)
    assert not np.isnan(signal[pulses]).any()
    assert not ((pulses >= 2000) & (pulses < 2600)).any()
    clear_s = pulses[(pulses < 2000) | (pulses > 2610)] / 100.0  # of the pulse at 26.03 s the rise is hidden
    there_s = beats_s[(beats_s < 19.6) | (beats_s > 26.1)] + 0.13
    assert f1(there_s, clear_s, 0.05) == 1.0


def test_batch_equals_row_by_row(shared: Path, rng: np.random.Generator) -> None:
    pleth, _ = bidmc(shared)
    rows = np.asfortranarray(np.stack([pleth, -pleth, pleth + rng.normal(size=pleth.size)]))
    for row, found in zip(rows, detect_pulses_batch(rows, rate_hz=125.0), strict=True):
        np.testing.assert_array_equal(found, detect_pulses(row, rate_hz=125.0))


def test_stretches_leave_no_seam() -> None:
    period = wave(np.array([0.3]), rate_hz=25.0, duration_s=0.8)
    signal = np.tile(period, 4800)  # 64 min: longer than two stretches
    pulses = detect_pulses(signal, rate_hz=25.0)
    assert pulses.size == 4800
    assert set(np.diff(pulses)) == {20}


def test_types_of_input_do_not_matter_and_input_is_left_alone(shared: Path) -> None:
    pleth, _ = bidmc(shared)
    counts = np.rint(1000 * pleth).astype(np.int16)
    counts.flags.writeable = False
    expected = detect_pulses(counts, rate_hz=125.0)
    for dtype in (np.int32, np.float32, np.float64):
        np.testing.assert_array_equal(expected, detect_pulses(counts.astype(dtype), rate_hz=125.0))
    assert expected.dtype == np.int64


@pytest.mark.parametrize(
    "signal",
    [np.zeros(1000), np.full(1000, 0.1), np.full(1000, np.nan), np.arange(1000), np.zeros(1000, np.uint8)],
)
def test_signal_without_pulses_has_none(signal: NDArray[Any]) -> None:
    assert detect_pulses(signal, rate_hz=100.0).size == 0


@pytest.mark.parametrize(
    ("ppg", "rate_hz", "polarity", "message"),
    [
        (np.zeros((2, 500)), 100.0, "auto", "shape"),
        (np.zeros(99), 100.0, "auto", "at least 1.0 s"),
        (np.full(500, np.inf), 100.0, "auto", "infinite"),
        (np.zeros(500, complex), 100.0, "auto", "real numbers"),
        (np.zeros(500), 19.9, "auto", "at least 20"),
        (np.zeros(500), np.nan, "auto", "rate_hz"),
        (np.zeros(500), 0.0, "auto", "rate_hz"),
        (np.zeros(500), 100.0, "up", "polarity"),
    ],
)
def test_misuse_is_named(ppg: NDArray[Any], rate_hz: float, polarity: Any, message: str) -> None:
    with pytest.raises(SignalError, match=message):
        detect_pulses(ppg, rate_hz=rate_hz, polarity=polarity)


def test_batch_of_one_dimension_is_misuse() -> None:
    with pytest.raises(SignalError, match="n_signals"):
        detect_pulses_batch(np.zeros(500), rate_hz=100.0)
