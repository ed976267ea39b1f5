"""A stream finds the beats of the whole recording, in time and in little memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analysis import heartbeats
from analysis.heartbeats import detect_qrs
from analysis.heartbeats_stream import QrsStream
from protocols.errors import SignalError


def streamed(ecg: NDArray[np.generic], rate_hz: float, ends: list[int]) -> NDArray[np.int64]:
    stream = QrsStream(rate_hz)
    found = [stream.push(chunk) for chunk in np.split(ecg, sorted(ends))]
    return np.concatenate([*found, stream.flush()])


def noisy_beats(seed: int, rate_hz: float, duration_s: float) -> NDArray[np.float64]:
    """Beats of changing height and distance in noise, with pauses, pops, missing samples and an offset."""
    rng = np.random.default_rng(seed)
    n = int(duration_s * rate_hz)
    ecg = rng.normal(0, rng.choice([0.02, 0.2, 0.6]), n) + rng.normal() * 1e3
    times_s = np.cumsum(rng.choice([0.3, 0.45, 0.8, 0.85, 1.9, 5.0], n, p=[0.1, 0.1, 0.4, 0.35, 0.04, 0.01]))
    at = (times_s[times_s < duration_s - 0.1] * rate_hz).astype(int)
    ecg[at] += rng.choice([0.5, 1.0, 3.0, -1.0], at.size)
    ecg[rng.integers(0, n)] += 50.0
    for length_s in (0.1, 1.5, 2.5, 20.0):
        start = rng.integers(0, n)
        ecg[start : start + int(rng.choice([0, length_s]) * rate_hz)] = np.nan
    return ecg


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([100.0, 130.0, 250.0, 257.3, 360.0, 500.0]), st.data())
def test_the_stream_finds_what_the_whole_finds_however_it_is_cut(
    seed: int, rate_hz: float, data: st.DataObject
) -> None:
    ecg = noisy_beats(seed, rate_hz, 150.0)
    ends = data.draw(st.lists(st.integers(0, ecg.size), max_size=8))
    np.testing.assert_array_equal(streamed(ecg, rate_hz, ends), detect_qrs(ecg, rate_hz=rate_hz))


@pytest.mark.parametrize("seed", range(6))
def test_a_long_recording_is_the_same_in_stretches_as_at_once(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ecg = noisy_beats(seed, 250.0, 600.0)
    at_once = detect_qrs(ecg, rate_hz=250.0)
    monkeypatch.setattr(heartbeats, "_STRETCH", 5_000)
    np.testing.assert_array_equal(detect_qrs(ecg, rate_hz=250.0), at_once)


@pytest.mark.shared_data
@pytest.mark.parametrize("record", [105, 108])
def test_a_real_record_second_by_second(mit_bih, record: int) -> None:  # type: ignore[no-untyped-def]
    ecg = mit_bih(record)[0][: 360 * 240]
    found = streamed(ecg, 360.0, list(range(360, ecg.size, 360)))
    np.testing.assert_array_equal(found, detect_qrs(ecg, rate_hz=360.0))


def test_beats_come_within_the_latency_and_are_expected_before() -> None:
    rate_hz = 250.0
    ecg = np.zeros(int(120 * rate_hz))
    beats = np.arange(125, ecg.size, 200)
    ecg[beats] = 1.0
    stream, reported = QrsStream(rate_hz), []
    for second in range(120):
        reported += stream.push(ecg[second * 250 : (second + 1) * 250]).tolist()
        received = (second + 1) * 250
        due = beats[beats < received - stream.latency_s * rate_hz]
        assert set(due) <= set(reported)
        seen = beats[beats < received - rate_hz]  # the last second lacks what comes after it
        assert set(seen) <= {*reported, *stream.expected().tolist()}
        assert stream._kept.size <= 3 * stream.latency_s * rate_hz
    assert stream.latency_s <= 30.0


@pytest.mark.parametrize("n_samples", [0, 1, 50, 249])
def test_a_stream_that_ends_at_once_has_no_beats(n_samples: int) -> None:
    assert streamed(np.ones(n_samples), 250.0, []).size == 0


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match=r"rate_hz=50\.0"):
        QrsStream(50.0)
    stream = QrsStream(250.0)
    with pytest.raises(SignalError, match=r"shape \(2, 3\)"):
        stream.push(np.zeros((2, 3)))
    with pytest.raises(SignalError, match="infinite"):
        stream.push([np.inf])
    stream.flush()
    with pytest.raises(SignalError, match="push after flush"):
        stream.push([1.0])
