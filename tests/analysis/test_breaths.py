"""Breaths and pauses: real impedance, synthetic breathing of known truth, poor and wrong input."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.breaths import detect_breaths, detect_breaths_batch, find_apnoeas
from analysis.breaths_stream import BreathStream
from protocols.errors import SignalError

Floats = NDArray[np.float64]


@cache
def bidmc_respiration(shared: Path) -> Floats:
    """Return 480 s of impedance respiration at 125 Hz, its tops cut off."""
    with gzip.open(shared / "data/resp/bidmc/bidmc_01_Signals.csv.gz", "rt") as file:
        names = [name.strip() for name in file.readline().split(",")]
        return np.loadtxt(file, delimiter=",", usecols=names.index("RESP"))


def breathing(rates_per_min: Floats, *, rate_hz: float) -> tuple[Floats, Floats]:
    """Return breaths that rise for two fifths of their time and fall for three, and when they are on top."""
    durations_s = 60.0 / np.asarray(rates_per_min)
    starts_s = np.concatenate([[0.0], np.cumsum(durations_s)])
    tops_s = starts_s[:-1] + 0.4 * durations_s
    times_s = np.arange(int(starts_s[-1] * rate_hz)) / rate_hz
    k = np.searchsorted(starts_s, times_s, side="right") - 1
    phase = (times_s - starts_s[k]) / durations_s[k]
    warped = np.where(phase < 0.4, phase / 0.8, 0.5 + (phase - 0.4) / 1.2)
    return -np.cos(2 * np.pi * warped), tops_s


@pytest.mark.parametrize("rate_hz", [4.0, 10.0, 12.5, 31.7, 125.0, 1000.0])
@pytest.mark.parametrize("per_min", [3.0, 6.0, 12.0, 30.0, 60.0])
def test_every_breath_is_found_at_its_top(rate_hz: float, per_min: float, rng: np.random.Generator) -> None:
    count = max(6, int(per_min))
    signal, tops_s = breathing(per_min * rng.uniform(0.9, 1.1, count), rate_hz=rate_hz)
    found_s = detect_breaths(signal, rate_hz=rate_hz) / rate_hz
    # the last top of a slow breath may have no valley after it yet
    assert found_s.size in (count, count - 1)
    # an asymmetric top moves by smoothing by a few per cent of the breath; a sample of at least 0.1 s besides
    assert np.abs(found_s - tops_s[: found_s.size]).max() <= max(0.1, 1 / rate_hz) + 0.04 * 60.0 / per_min


@pytest.mark.shared_data
def test_impedance_of_intensive_care_has_a_breath_every_two_to_four_seconds(shared: Path) -> None:
    breaths = detect_breaths(bidmc_respiration(shared), rate_hz=125.0)
    assert (
        breaths.size == 170
    )  # crossings of half the scale, rearmed at 0.45, 0.4 or 0.35 of it, of means of 0.2 s
    durations_s = np.diff(breaths) / 125.0
    assert durations_s.min() > 2.0
    assert durations_s.max() < 4.0


@pytest.mark.shared_data
def test_stream_equals_batch_on_a_real_signal_however_it_is_cut(shared: Path, rng: np.random.Generator) -> None:
    signal = bidmc_respiration(shared)
    for largest in (300, 30_000):
        assert np.array_equal(streamed(signal, 125.0, largest, rng), detect_breaths(signal, rate_hz=125.0))


@pytest.mark.parametrize("rate_hz", [5.0, 25.0, 31.7])
def test_stream_equals_batch_on_random_walks_with_holes(rate_hz: float, rng: np.random.Generator) -> None:
    signal = np.cumsum(rng.normal(size=60_000))
    for start in rng.integers(0, signal.size, 12):
        signal[start : start + rng.integers(1, 600)] = np.nan
    expected = detect_breaths(signal, rate_hz=rate_hz)
    assert expected.size > 100
    assert np.array_equal(streamed(signal, rate_hz, 5_000, rng), expected)


def streamed(signal: Floats, rate_hz: float, largest: int, rng: np.random.Generator) -> NDArray[np.int64]:
    stream, found, k = BreathStream(rate_hz), [], 0
    while k < signal.size:
        n = int(rng.integers(1, largest))
        found.append(stream.push(signal[k : k + n]))
        k += n
    return np.concatenate([*found, stream.flush()])


def test_long_signal_done_in_stretches_equals_its_stream(rng: np.random.Generator) -> None:
    signal, _ = breathing(rng.uniform(8, 20, 1200), rate_hz=8.0)  # an hour and a half
    signal += rng.normal(size=signal.size) * 0.1
    assert np.array_equal(streamed(signal, 8.0, 40_000, rng), detect_breaths(signal, rate_hz=8.0))


def test_breath_is_reported_within_the_latency() -> None:
    signal, _ = breathing(np.full(60, 12.0), rate_hz=25.0)
    stream = BreathStream(25.0)
    for k in range(0, signal.size, 25):
        for breath in stream.push(signal[k : k + 25]):
            assert (k + 25 - breath) / 25.0 <= stream.latency_s + 1.0
    assert stream.expected().size > 0  # those of the last 25 s
    stream.flush()
    with pytest.raises(SignalError, match="push after flush"):
        stream.push(signal)


def test_unit_offset_and_drift_do_not_matter() -> None:
    signal, _ = breathing(np.full(60, 15.0), rate_hz=25.0)
    expected = detect_breaths(signal, rate_hz=25.0)
    assert np.array_equal(detect_breaths(1e-6 * signal + 1e-3, rate_hz=25.0), expected)
    drifting = signal + np.arange(signal.size) * 0.002  # 0.2 of a swing in every breath
    assert np.abs(detect_breaths(drifting, rate_hz=25.0) - expected).max() <= 3
    stepped = signal + np.where(np.arange(signal.size) > 3000, 50.0, 0.0)  # the patient turns over
    found = detect_breaths(stepped, rate_hz=25.0)
    assert found.size >= expected.size - 3


def test_integers_fortran_order_and_read_only_arrays_are_taken_as_they_are() -> None:
    signal, _ = breathing(np.full(30, 15.0), rate_hz=25.0)
    counts = np.rint(1000 * signal).astype(np.int16)
    counts.flags.writeable = False
    expected = detect_breaths(counts.astype(float), rate_hz=25.0)
    assert np.array_equal(detect_breaths(counts, rate_hz=25.0), expected)
    rows = np.asfortranarray(np.stack([counts, -counts]))
    first, second = detect_breaths_batch(rows, rate_hz=25.0)
    assert np.array_equal(first, expected)
    assert np.array_equal(second, detect_breaths(-counts, rate_hz=25.0))


def test_a_cut_off_top_costs_no_breath() -> None:
    signal, _ = breathing(np.full(30, 15.0), rate_hz=25.0)
    assert detect_breaths(np.minimum(signal, 0.3), rate_hz=25.0).size == 30


def test_heartbeats_in_the_signal_are_no_breaths(rng: np.random.Generator) -> None:
    signal, _ = breathing(np.full(40, 15.0), rate_hz=25.0)
    times_s = np.arange(signal.size) / 25.0
    heart = 0.4 * np.sin(2 * np.pi * 1.3 * times_s)  # two fifths of the amplitude of the breaths
    assert detect_breaths(signal + heart, rate_hz=25.0).size == 40


def test_pause_is_found_and_filled_with_no_breath(rng: np.random.Generator) -> None:
    before, _ = breathing(np.full(30, 15.0), rate_hz=25.0)
    pause = np.full(20 * 25, before[-1])
    signal = np.concatenate([before, pause, before]) + rng.normal(size=2 * before.size + pause.size) * 0.02
    breaths = detect_breaths(signal, rate_hz=25.0)
    assert not ((breaths > before.size + 25) & (breaths < before.size + pause.size)).any()
    ((start, end),) = find_apnoeas(signal, rate_hz=25.0)
    # a tenth of the swing belongs to the pause at its ends: some 0.4 s of each neighbouring breath
    assert abs(start - before.size) <= 25
    assert abs(end - before.size - pause.size) <= 25
    assert find_apnoeas(signal, rate_hz=25.0, shortest_s=25.0).shape == (0, 2)


def test_a_pause_across_the_stretches_of_a_long_signal_is_one(rng: np.random.Generator) -> None:
    before, _ = breathing(np.full(448, 15.0), rate_hz=4.0)  # up to 8 s before half an hour
    pause = np.full(20 * 4, before[-1])
    signal = np.concatenate([before, pause, before[: 60 * 4]])
    signal += rng.normal(size=signal.size) * 0.01
    ((start, end),) = find_apnoeas(signal, rate_hz=4.0)
    assert start < 7200 < end  # half an hour, at 4 Hz
    assert (end - start) / 4.0 == pytest.approx(20.0, abs=2.0)


def test_long_pause_after_breathing_is_not_filled_with_noise(rng: np.random.Generator) -> None:
    before, _ = breathing(np.full(30, 15.0), rate_hz=25.0)
    signal = np.concatenate([before, np.full(60 * 25, before[-1])])
    signal += rng.normal(size=signal.size) * 0.1
    assert (detect_breaths(signal, rate_hz=25.0) > before.size + 25).sum() <= 1


def test_a_sensor_that_fell_off_is_no_pause() -> None:
    before, _ = breathing(np.full(30, 15.0), rate_hz=25.0)
    signal = np.concatenate([before, np.full(20 * 25, before[-1])])
    assert find_apnoeas(signal, rate_hz=25.0).shape == (0, 2)
    signal[before.size :] = np.nan
    assert find_apnoeas(signal, rate_hz=25.0).shape == (0, 2)


@pytest.mark.parametrize("value", [0.0, -3.0, 1e9, np.nan])
def test_a_constant_or_missing_signal_has_no_breaths_and_no_pauses(value: float) -> None:
    signal = np.full(5000, value)
    assert detect_breaths(signal, rate_hz=25.0).size == 0
    assert find_apnoeas(signal, rate_hz=25.0).shape == (0, 2)


def test_a_short_hole_costs_no_breath_and_a_long_one_those_in_it() -> None:
    signal, _tops_s = breathing(np.full(30, 15.0), rate_hz=25.0)
    short = signal.copy()
    short[1000:1010] = np.nan
    assert detect_breaths(short, rate_hz=25.0).size == 30
    long = signal.copy()
    long[1000:1500] = np.nan  # 40 to 60 s
    found_s = detect_breaths(long, rate_hz=25.0) / 25.0
    assert not ((found_s > 40.0) & (found_s < 60.0)).any()
    assert found_s.size >= 30 - 5 - 1  # those in it, and one cut by its edge


@pytest.mark.parametrize("n", [0, 1, 2, 3, 20])
def test_a_signal_shorter_than_a_breath_has_none(n: int) -> None:
    assert detect_breaths(np.zeros(n), rate_hz=25.0).size == 0
    assert find_apnoeas(np.zeros(n), rate_hz=25.0).shape == (0, 2)


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match=r"shape \(2, 100\)"):
        detect_breaths(np.zeros((2, 100)), rate_hz=25.0)
    with pytest.raises(SignalError, match="at least 4"):
        detect_breaths(np.zeros(100), rate_hz=2.0)
    with pytest.raises(SignalError, match="infinite"):
        detect_breaths(np.array([0.0, np.inf]), rate_hz=25.0)
    with pytest.raises(SignalError, match="n_signals"):
        detect_breaths_batch(np.zeros(100), rate_hz=25.0)
    with pytest.raises(SignalError, match="shortest_s"):
        find_apnoeas(np.zeros(100), rate_hz=25.0, shortest_s=0.0)
    with pytest.raises(SignalError, match="one dimension"):
        BreathStream(25.0).push(np.zeros((2, 10)))
