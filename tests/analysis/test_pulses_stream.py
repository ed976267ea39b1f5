"""Streaming finds the pulses of the whole signal, to the sample, however it is cut."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.pulses import Polarity, detect_pulses
from analysis.pulses_stream import PulseStream
from protocols.errors import SignalError


@pytest.mark.parametrize("polarity", ["auto", "rising", "falling"])
@pytest.mark.parametrize("rate_hz", [20.0, 25.0, 50.0, 79.9, 125.0])
@pytest.mark.parametrize("largest_chunk", [100, 20_000])
def test_stream_equals_batch(
    rate_hz: float, polarity: Polarity, largest_chunk: int, rng: np.random.Generator
) -> None:
    signal = rng.normal(size=int(300 * rate_hz)).cumsum()  # of rises of every size: the hardest to agree on
    for start in rng.integers(0, signal.size, 20):
        signal[start : start + rng.integers(1, 100)] = np.nan
    stream = PulseStream(rate_hz, polarity=polarity)
    found, at = [], 0
    while at < signal.size:
        step = int(rng.integers(1, largest_chunk))
        found.append(stream.push(signal[at : at + step]))
        at += step
    found.append(stream.flush())
    np.testing.assert_array_equal(
        np.concatenate(found), detect_pulses(signal, rate_hz=rate_hz, polarity=polarity)
    )


@pytest.mark.parametrize(("polarity", "latency_s"), [("auto", 22.0), ("rising", 14.0)])
def test_latency_and_memory_are_bounded(polarity: Polarity, latency_s: float) -> None:
    times_s = np.arange(0.0, 200.0, 0.02)
    signal = np.exp(np.cos(2 * np.pi * 1.2 * times_s) + 0.5 * np.sin(4 * np.pi * 1.2 * times_s))
    stream = PulseStream(50.0, polarity=polarity)
    assert stream.latency_s == pytest.approx(latency_s)
    received, latest_s = 0, 0.0
    for chunk in np.split(signal, 1000):
        received += chunk.size
        pulses = stream.push(chunk)
        if pulses.size:
            latest_s = max(latest_s, (received - pulses[0]) / 50.0)
    assert 0.0 < latest_s <= latency_s
    assert stream._kept.size <= 50.0 * (100 + 2 * 20)  # the past, what is not settled, and a step


def test_short_or_empty_stream_has_no_pulses() -> None:
    stream = PulseStream(100.0)
    assert stream.push(np.zeros(99)).size == 0
    assert stream.push([]).size == 0
    assert stream.flush().size == 0


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="rate_hz"):
        PulseStream(10.0)
    with pytest.raises(SignalError, match="one dimension"):
        PulseStream(100.0).push(np.zeros((2, 10)))
    stream = PulseStream(100.0)
    stream.flush()
    with pytest.raises(SignalError, match="after flush"):
        stream.push(np.zeros(10))
