"""One record compared: by the protocol's rule, with classes, episodes and heart rates where both tell them."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.beat_detection import compare_marks, compare_record
from analysis.beat_marks import BeatMarks, read_marks
from analysis.detection import read_annotations
from protocols.clinical.criteria import Pairing, Provenance

PAIRING = Pairing(window_s=0.15, learning_s=0.0, provenance=Provenance("test", "lab"))
RATE_HZ = 250.0
N_SAMPLES = int(120 * RATE_HZ)
BEATS = np.arange(125, N_SAMPLES, 250)


def marks(symbols: dict[int, str], beats: list[int] | None = None) -> BeatMarks:
    """Return normal beats once a second, with further marks by sample."""
    all_marks = {int(sample): "N" for sample in (BEATS if beats is None else beats)} | symbols
    samples = sorted(all_marks)
    return read_marks(samples, [all_marks[sample] for sample in samples], n_samples=N_SAMPLES)


def test_a_record_is_compared_by_the_protocols_rule() -> None:
    reference = read_annotations([100, 500, 900], ["N", "/", "N"])
    found = compare_record("x", reference, [100, 500, 955], rate_hz=360.0, pairing=PAIRING)
    assert (found.record, found.paced, found.n_reference) == ("x", True, 3)
    assert found.comparison.false_positives == 1
    assert found.classes is found.atrial_fibrillation is None


def test_classes_episodes_and_heart_rates_are_compared_where_both_sides_tell_them() -> None:
    reference = marks({1: "(N", 1125: "V", 10_001: "(AFIB", 20_001: "(N"})
    test = marks({1: "(N", 1125: "A", 15_001: "(AFIB", 22_001: "(N"})
    found = compare_marks("x", reference, test, rate_hz=RATE_HZ, n_samples=N_SAMPLES, pairing=PAIRING)
    assert found.classes is not None
    assert found.classes.count("V", "S") == 1
    assert found.classes.count("N", "N") == BEATS.size - 1
    episodes = found.atrial_fibrillation
    assert episodes is not None
    assert (episodes.reference_s, episodes.test_s, episodes.overlap_s) == (40.0, 28.0, 20.0)
    assert found.ventricular_fibrillation is not None
    assert found.ventricular_fibrillation.reference_episodes == 0
    assert found.heart_rates.n_windows == 12
    assert found.heart_rates.rms_percent == 0.0


def test_a_side_that_marks_no_rhythm_has_said_nothing_of_rhythms() -> None:
    reference, test = marks({1: "(AFIB"}), marks({})
    found = compare_marks("x", reference, test, rate_hz=RATE_HZ, n_samples=N_SAMPLES, pairing=PAIRING)
    assert found.atrial_fibrillation is found.ventricular_fibrillation is None


def test_beats_in_the_references_fibrillation_count_on_neither_side() -> None:
    reference = marks({10_000: "[", 20_000: "]"})
    found = compare_marks("x", reference, marks({}), rate_hz=RATE_HZ, n_samples=N_SAMPLES, pairing=PAIRING)
    inside = int(((BEATS >= 10_000) & (BEATS <= 20_000)).sum())
    assert found.n_reference == BEATS.size - inside
    assert found.comparison.false_positives == 0
    assert found.heart_rates.n_windows == 12 - 5  # windows of 2500 samples that hold any of it


def test_atrial_flutter_counts_neither_for_nor_against_fibrillation() -> None:
    reference = marks({1: "(AFL", 15_001: "(AFIB"})
    test = marks({1: "(AFIB"})
    found = compare_marks("x", reference, test, rate_hz=RATE_HZ, n_samples=N_SAMPLES, pairing=PAIRING)
    assert found.atrial_fibrillation is not None
    assert found.atrial_fibrillation.duration_positive_predictivity_percent == 100.0


def test_beats_missed_where_no_samples_were_are_tallied_apart_and_still_missed() -> None:
    off = np.array([[10_000, 12_000]])
    heard = BEATS[(BEATS < 10_000) | (BEATS >= 12_000)]
    test = BeatMarks(heard, np.full(heard.size, "N"), off=off)
    found = compare_marks("x", marks({}), test, rate_hz=RATE_HZ, n_samples=N_SAMPLES, pairing=PAIRING)
    assert found.classes is not None
    assert found.classes.count("N", "X") == found.comparison.false_negatives == 8
    assert found.undetermined_s == pytest.approx(8.0)
    assert np.isnan(found.heart_rates.test_per_min).sum() == 1
    assert found.heart_rates.rms_percent == 0.0


@pytest.mark.parametrize("n_samples", [0, 1, 100])
def test_a_record_too_short_for_anything_gives_nothing(n_samples: int) -> None:
    empty = BeatMarks(np.empty(0, dtype=np.int64), np.empty(0, dtype="<U1"))
    found = compare_marks("x", empty, empty, rate_hz=RATE_HZ, n_samples=n_samples, pairing=PAIRING)
    assert found.n_reference == found.heart_rates.n_windows == 0
    assert np.isnan(found.heart_rates.rms_percent)
