"""Rhythm from beats: what is and is not atrial fibrillation, ventricular runs and patterns, bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from analysis.detection import read_annotations
from analysis.rhythm import (
    atrial_fibrillation_episodes,
    irregular_beats,
    ventricular_runs,
    without_p_waves,
)
from protocols.errors import SignalError
from tests.analysis.synthetic_rhythms import Floats, fibrillating, sinus

RATE_HZ = 250.0


def beats_of(rr_s: Floats) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.rint(np.cumsum(rr_s) * RATE_HZ).astype(np.int64)


def test_an_episode_runs_from_its_first_beat_to_its_last(rng: np.random.Generator) -> None:
    beats = beats_of(np.concatenate([sinus(200, rng), fibrillating(300, rng), sinus(200, rng)]))
    found = atrial_fibrillation_episodes(beats, rate_hz=RATE_HZ)
    assert found.shape == (1, 2)
    # the exponential average of the method reaches over some 50 beats, half of that to either side
    assert np.searchsorted(beats, found[0]) == pytest.approx([200, 500], abs=25)
    assert found[0, 0] in beats
    assert found[0, 1] - 1 in beats


@pytest.mark.parametrize("rr_s", [0.45, 0.65, 0.9])
def test_fast_and_slow_fibrillation_is_told(rr_s: float, rng: np.random.Generator) -> None:
    beats = beats_of(fibrillating(300, rng, rr_s=rr_s))
    assert irregular_beats(beats, rate_hz=RATE_HZ).mean() > 0.9


@pytest.mark.parametrize("depth", [0.02, 0.05, 0.10])
def test_breathing_sinus_rhythm_is_none(depth: float, rng: np.random.Generator) -> None:
    rr_s = 0.85 * (1.0 + depth * np.sin(2 * np.pi * np.arange(400) / 5.3) + 0.01 * rng.standard_normal(400))
    assert atrial_fibrillation_episodes(beats_of(rr_s), rate_hz=RATE_HZ).shape == (0, 2)


@pytest.mark.parametrize("every", [2, 3, 4, 9])
def test_ventricular_ectopy_is_none_with_classes_nor_where_it_compensates(
    every: int, rng: np.random.Generator
) -> None:
    rr_s, classes = sinus(400, rng), np.full(400, "N")
    for k in range(every, 399, every):
        rr_s[k], rr_s[k + 1] = 0.6 * rr_s[k], 1.4 * rr_s[k + 1]
        classes[k] = "V"
    beats = beats_of(rr_s)
    assert atrial_fibrillation_episodes(beats, rate_hz=RATE_HZ, classes=classes).shape == (0, 2)


def test_a_shift_of_rate_and_rising_rate_are_none(rng: np.random.Generator) -> None:
    rising = np.linspace(1.1, 0.45, 400) * (1.0 + 0.01 * rng.standard_normal(400))
    stepped = np.repeat([1.0, 0.6, 0.9, 0.5], 100) * (1.0 + 0.01 * rng.standard_normal(400))
    for rr_s in (rising, stepped):
        assert atrial_fibrillation_episodes(beats_of(rr_s), rate_hz=RATE_HZ).shape == (0, 2)


def test_p_waves_before_most_beats_rule_it_out(rng: np.random.Generator) -> None:
    beats = beats_of(fibrillating(300, rng))
    told = rng.random(300) < 0.2  # by chance
    assert atrial_fibrillation_episodes(beats, rate_hz=RATE_HZ, p_waves=told).shape == (1, 2)
    told = rng.random(300) < 0.8  # strong sinus arrhythmia
    assert atrial_fibrillation_episodes(beats, rate_hz=RATE_HZ, p_waves=told).shape == (0, 2)


def test_ventricular_beats_without_p_waves_are_no_evidence() -> None:
    classes = np.array(["N", "V"] * 50)
    told = classes == "N"
    assert not without_p_waves(told, classes).any()
    assert without_p_waves(np.zeros(100, dtype=bool), classes).all()
    assert without_p_waves(np.zeros(0, dtype=bool)).shape == (0,)


def test_short_irregularity_is_no_episode(rng: np.random.Generator) -> None:
    beats = beats_of(np.concatenate([sinus(100, rng), fibrillating(300, rng)]))
    long = atrial_fibrillation_episodes(beats, rate_hz=RATE_HZ)
    duration_s = float(np.diff(long)[0, 0] / RATE_HZ)
    assert atrial_fibrillation_episodes(beats, rate_hz=RATE_HZ, shortest_s=duration_s + 1.0).shape == (0, 2)
    assert np.array_equal(atrial_fibrillation_episodes(beats, rate_hz=RATE_HZ, shortest_s=duration_s), long)


def test_time_base_and_offset_do_not_matter(rng: np.random.Generator) -> None:
    beats = beats_of(np.concatenate([sinus(200, rng), fibrillating(200, rng)]))
    expected = irregular_beats(beats, rate_hz=RATE_HZ)
    assert np.array_equal(irregular_beats(4 * beats + 12345, rate_hz=4 * RATE_HZ), expected)


@pytest.mark.parametrize("n", [0, 1, 2, 15])
def test_few_beats_show_no_fibrillation(n: int, rng: np.random.Generator) -> None:
    beats = beats_of(fibrillating(20, rng))[:n]
    assert atrial_fibrillation_episodes(beats, rate_hz=RATE_HZ).shape == (0, 2)
    assert irregular_beats(beats, rate_hz=RATE_HZ).tolist() == [False] * n


def test_runs_are_told_by_length_and_rate() -> None:
    letters = "NNVVNN" + "VVVV" + "NNN" + "VVV" + "N"
    rr = [80] * 6 + [40] * 4 + [80] * 3 + [70] * 3 + [80]  # at 100 Hz
    beats = np.cumsum(rr)
    runs = ventricular_runs(beats, list(letters), rate_hz=100.0)
    assert runs.couplets.tolist() == [[beats[2], beats[3] + 1]]
    assert runs.tachycardias.tolist() == [[beats[6], beats[9] + 1]]  # 150 per min
    assert runs.slow_runs.tolist() == [[beats[13], beats[15] + 1]]  # 86 per min


def test_a_pause_of_over_3_s_ends_a_run() -> None:
    beats = np.cumsum([50, 50, 50, 400, 50, 50])
    assert ventricular_runs(beats, list("VVVVVV"), rate_hz=100.0).tachycardias.tolist() == [
        [beats[0], beats[2] + 1],
        [beats[3], beats[5] + 1],
    ]


def test_bigeminy_and_trigeminy_are_patterns_of_three_cycles_and_more() -> None:
    beats = np.arange(1, 40) * 80
    letters = "NNNNVNVNVNVNNNN" + "NVNNVNNVNNV" + "NNNNN" + "VNVN" + "NNNN"
    runs = ventricular_runs(beats, list(letters), rate_hz=100.0)
    assert runs.bigeminy.tolist() == [[beats[4], beats[10] + 1]]
    assert runs.trigeminy.tolist() == [[beats[16], beats[25] + 1]]
    unclear = ventricular_runs(beats, list(letters.replace("VNVNVNV", "VNVQVNV")), rate_hz=100.0)
    assert unclear.bigeminy.shape == (0, 2)


@pytest.mark.parametrize("letters", ["", "V", "VV", "NVN"])
def test_few_beats_show_no_pattern(letters: str) -> None:
    runs = ventricular_runs(np.arange(len(letters)) * 50, list(letters), rate_hz=100.0)
    assert [runs.tachycardias.shape, runs.bigeminy.shape, runs.trigeminy.shape] == [(0, 2)] * 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: irregular_beats([3, 2], rate_hz=250.0), "do not ascend"),
        (lambda: irregular_beats([1.0, 2.0], rate_hz=250.0), "sample indices"),
        (lambda: irregular_beats([1, 2], rate_hz=0.0), "rate_hz=0.0"),
        (lambda: irregular_beats([1, 2], rate_hz=250.0, classes=["N"]), "1 classes for 2 beats"),
        (lambda: ventricular_runs([1, 2], ["N", "x"], rate_hz=250.0), "class 'x'"),
        (lambda: atrial_fibrillation_episodes([1, 2], rate_hz=250.0, shortest_s=-1.0), "shortest_s=-1.0"),
        (lambda: atrial_fibrillation_episodes([1, 2], rate_hz=250.0, p_waves=[1.0, 0.0]), "expected a boolean"),
        (lambda: atrial_fibrillation_episodes([1, 2], rate_hz=250.0, p_waves=[True]), "expected one for each"),
    ],
)
def test_misuse_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(SignalError, match=message):
        call()


@pytest.mark.shared_data
def test_records_without_fibrillation_show_none_by_their_beats_and_classes(mit_bih: Any) -> None:
    for record in (100, 106, 119, 123):  # 106 and 119: bigeminy and trigeminy; 123: strong breathing
        _, samples, symbols = mit_bih(record)
        reference = read_annotations(samples, symbols)
        found = atrial_fibrillation_episodes(reference.samples, rate_hz=360.0, classes=reference.classes)
        assert found.shape == (0, 2)
