"""Several channels find the beats together, whatever becomes of some of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis import heartbeats_multilead
from analysis.detection import compare_beats, gross, read_annotations
from analysis.heartbeats import detect_qrs
from analysis.heartbeats_multilead import detect_qrs_multilead
from protocols.errors import SignalError

RATE_HZ = 250.0


def beats_and_lead(duration_s: float = 60.0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(3)
    times_s = np.cumsum(rng.normal(0.8, 0.04, int(2 * duration_s)))
    beats = np.rint(times_s[times_s < duration_s - 0.5] * RATE_HZ).astype(np.int64)
    lead = np.zeros(int(duration_s * RATE_HZ))
    for offset, height in ((-8, -0.1), (-4, 0.4), (0, 1.0), (4, 0.3), (9, -0.2)):
        lead[beats + offset] += height
    return beats, np.convolve(lead, np.hanning(9) / 2.0, "same")


def errors(found: NDArray[np.int64], beats: NDArray[np.int64]) -> tuple[int, int]:
    compared = compare_beats(beats, found, rate_hz=RATE_HZ, learning_s=0)
    return compared.false_negatives, compared.false_positives


@pytest.mark.parametrize(
    "kind", ["noise", "flat", "missing", "constant drift", "mains", "off for a while", "clipped"]
)
def test_a_bad_channel_does_no_harm(kind: str, rng: np.random.Generator) -> None:
    beats, lead = beats_and_lead()
    lead = lead + rng.normal(0, 0.03, lead.size)
    seconds = np.arange(lead.size) / RATE_HZ
    bad = {
        "noise": rng.normal(0, 5, lead.size),
        "flat": np.zeros(lead.size),
        "missing": np.full(lead.size, np.nan),
        "constant drift": 100 * seconds,
        "mains": 10 * np.sin(2 * np.pi * 50 * seconds),
        "off for a while": np.where((seconds > 20) & (seconds < 40), np.nan, -lead),
        "clipped": np.clip(lead, -0.05, 0.05),
    }[kind]
    assert errors(detect_qrs_multilead([bad, lead], rate_hz=RATE_HZ), beats) == (0, 0)
    assert errors(detect_qrs_multilead([lead, bad], rate_hz=RATE_HZ), beats) == (0, 0)


def test_what_one_channel_misses_another_tells(rng: np.random.Generator) -> None:
    beats, lead = beats_and_lead()
    channels = np.stack([lead, -2.0 * lead]) + rng.normal(0, 0.03, (2, lead.size))
    channels[0, : lead.size // 2] = rng.normal(0, 1, lead.size // 2)
    channels[1, lead.size // 2 :] = np.nan
    found = detect_qrs_multilead(channels, rate_hz=RATE_HZ)
    # the last noise of the first channel, within a QRS complex of the switch, may count as the second's beat
    switch = np.abs(found - lead.size // 2) < 0.1 * RATE_HZ
    assert errors(found[~switch], beats) == (0, 0)


def test_one_channel_alone_is_as_it_is_by_itself() -> None:
    beats, lead = beats_and_lead()
    found = detect_qrs_multilead(lead[np.newaxis], rate_hz=RATE_HZ)
    np.testing.assert_array_equal(found, detect_qrs(lead, rate_hz=RATE_HZ))
    assert errors(found, beats) == (0, 0)


def test_gain_offset_and_polarity_of_a_channel_do_not_matter(rng: np.random.Generator) -> None:
    _, lead = beats_and_lead()
    channels = np.stack([lead, 0.5 * lead]) + rng.normal(0, 0.1, (2, lead.size))
    changed = np.stack([4.0 * channels[0] + 64.0, -0.25 * channels[1]])
    first, second = (detect_qrs_multilead(c, rate_hz=RATE_HZ) for c in (channels, changed))
    np.testing.assert_array_equal(first, second)


def test_stretches_make_no_difference(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    _, lead = beats_and_lead(300.0)
    channels = np.stack([lead, lead]) + rng.normal(0, 0.3, (2, lead.size))
    at_once = detect_qrs_multilead(channels, rate_hz=RATE_HZ)
    monkeypatch.setattr(heartbeats_multilead, "_STRETCH", 8_000)
    np.testing.assert_array_equal(detect_qrs_multilead(channels, rate_hz=RATE_HZ), at_once)


@pytest.mark.shared_data
def test_a_good_lead_beside_noise_is_as_good_as_alone(mit_bih) -> None:  # type: ignore[no-untyped-def]
    alone, beside = [], []
    for record in (100, 105, 108, 119):
        lead, samples, symbols = mit_bih(record)
        lead, reference = lead[: 360 * 700], read_annotations(samples, symbols)
        reference_beats = reference.samples[reference.samples < lead.size]
        noise = np.random.default_rng(record).normal(0, lead.std(), lead.size)
        for results, found in (
            (alone, detect_qrs(lead, rate_hz=360.0)),
            (beside, detect_qrs_multilead([noise, lead], rate_hz=360.0)),
        ):
            results.append(compare_beats(reference_beats, found, rate_hz=360.0))
    # the noise still weighs a little: half a percent of predictivity, seen on these four
    assert gross(beside).sensitivity_percent >= gross(alone).sensitivity_percent - 0.2
    assert gross(beside).positive_predictivity_percent >= gross(alone).positive_predictivity_percent - 0.5


@pytest.mark.parametrize(
    "channels", [np.zeros((3, 1000)), np.full((2, 1000), np.nan), np.ones((1, 1000), np.int16)]
)
def test_channels_without_beats_give_none(channels: NDArray[np.generic]) -> None:
    assert detect_qrs_multilead(channels, rate_hz=RATE_HZ).size == 0


@pytest.mark.parametrize(
    ("ecg", "rate_hz", "says"),
    [
        (np.zeros(1000), 250.0, "shape"),
        (np.zeros((0, 1000)), 250.0, "shape"),
        (np.zeros((2, 200)), 250.0, "200 samples"),
        (np.full((2, 1000), np.inf), 250.0, "infinite"),
        (np.zeros((2, 1000)), 99.0, "rate_hz=99.0"),
    ],
)
def test_misuse_is_named(ecg: NDArray[np.float64], rate_hz: float, says: str) -> None:
    with pytest.raises(SignalError, match=says):
        detect_qrs_multilead(ecg, rate_hz=rate_hz)
