"""Marks of an annotator, and what the software's own detector finds, come out alike."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import beat_marks
from analysis.beat_marks import marks_of_lead, read_marks
from analysis.ecg_rhythm import ecg_rhythm
from analysis.heartbeats import detect_qrs
from protocols.errors import SignalError
from tests.analysis.synthetic_rhythms import Floats, ecg_of, fibrillating, sinus

RATE_HZ = 250.0


def test_beats_classes_and_rhythms_are_read_from_marks() -> None:
    found = read_marks([5, 10, 20, 30, 40, 50], ["(N", "N", "V", "(AFIB", "a", "(AFL"], n_samples=60)
    assert found.samples.tolist() == [10, 20, 40]
    assert found.classes is not None
    assert found.classes.tolist() == ["N", "V", "S"]
    assert found.atrial_fibrillation is not None
    assert found.atrial_fibrillation.tolist() == [[30, 50]]
    assert found.atrial_flutter.tolist() == [[50, 60]]
    assert found.ventricular_fibrillation is not None
    assert found.ventricular_fibrillation.size == 0


def test_ventricular_fibrillation_is_marked_by_brackets_or_by_rhythm_and_may_last_to_the_end() -> None:
    for symbols, expected in (
        (["[", "!", "]"], [[10, 31]]),
        (["[", "!", "!"], [[10, 100]]),
        (["(VFL", "!", "(N"], [[10, 30]]),
        (["(VFIB", "!", "!"], [[10, 100]]),
    ):
        found = read_marks([10, 20, 30], symbols, n_samples=100)
        assert found.ventricular_fibrillation is not None
        assert found.ventricular_fibrillation.tolist() == expected


def test_who_marks_no_rhythm_has_said_nothing_of_rhythms() -> None:
    found = read_marks([10, 20], ["N", "/"], n_samples=60)
    assert found.atrial_fibrillation is found.ventricular_fibrillation is None
    assert found.paced
    assert read_marks([], [], n_samples=60).samples.size == 0


def test_marks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SignalError, match="2 symbols for 1 samples"):
        read_marks([1], ["N", "N"], n_samples=5)
    with pytest.raises(SignalError, match="do not ascend"):
        read_marks([2, 1], ["N", "N"], n_samples=5)


def test_another_rate_counts_the_same_moments() -> None:
    found = read_marks([10, 20, 30], ["(AFIB", "N", "(N"], n_samples=60).resampled(2.5)
    assert found.samples.tolist() == [50]
    assert found.atrial_fibrillation is not None
    assert found.atrial_fibrillation.tolist() == [[25, 75]]


@pytest.fixture(scope="module")
def lead() -> Floats:
    """Sinus rhythm with ventricular beats, then atrial fibrillation."""
    rng = np.random.default_rng(20261130)
    kinds = ["N"] * 150 + ["A"] * 200
    rr_s = np.concatenate([sinus(150, rng), fibrillating(200, rng)])
    for k in range(10, 150, 10):
        kinds[k], rr_s[k], rr_s[k + 1] = "V", 0.65 * rr_s[k], 1.35 * rr_s[k + 1]
    return ecg_of(kinds, rr_s, rng)[0]


def test_the_own_detector_tells_beats_classes_and_episodes(lead: Floats) -> None:
    found, rhythm = marks_of_lead(lead, rate_hz=RATE_HZ), ecg_rhythm(lead, rate_hz=RATE_HZ)
    assert np.array_equal(found.samples, detect_qrs(lead, rate_hz=RATE_HZ))
    assert found.classes is not None
    assert (found.classes == "V").sum() == 14
    assert found.atrial_fibrillation is not None
    assert np.array_equal(found.atrial_fibrillation, rhythm.atrial_fibrillation)
    assert found.off.size == 0


def test_beats_alone_need_no_rhythms(lead: Floats) -> None:
    found = marks_of_lead(lead, rate_hz=RATE_HZ, rhythms=False)
    assert np.array_equal(found.samples, detect_qrs(lead, rate_hz=RATE_HZ))
    assert found.classes is found.atrial_fibrillation is None


def test_pieces_of_a_long_lead_give_what_the_whole_gives_but_for_a_beat_at_a_border(
    lead: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = marks_of_lead(lead, rate_hz=RATE_HZ)
    monkeypatch.setattr(beat_marks, "LONGEST_PIECE_S", 160.0)  # ends within the atrial fibrillation
    pieces = marks_of_lead(lead, rate_hz=RATE_HZ)
    assert whole.classes is not None
    assert pieces.classes is not None
    assert (whole.classes != pieces.classes).sum() <= 4
    assert whole.atrial_fibrillation is not None
    assert pieces.atrial_fibrillation is not None
    assert len(pieces.atrial_fibrillation) == len(whole.atrial_fibrillation) == 1  # joined over the border
    # a window of 31 beats looks to either side: half of it may be lost where a piece begins
    assert np.abs(pieces.atrial_fibrillation - whole.atrial_fibrillation).max() < 20 * RATE_HZ


def test_missing_samples_are_told(lead: Floats) -> None:
    gapped = lead.copy()
    gapped[10_000:14_000] = np.nan
    found = marks_of_lead(gapped, rate_hz=RATE_HZ)
    assert found.off.tolist() == [[10_000, 14_000]]
    assert not ((found.samples > 10_100) & (found.samples < 13_900)).any()


@pytest.mark.parametrize("n", [260, 1000])
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_lead_without_anything_gives_no_beats(n: int, value: float) -> None:
    found = marks_of_lead(np.full(n, value), rate_hz=RATE_HZ)
    assert found.samples.size == 0


def test_integers_read_only_and_a_second_view_give_the_same(lead: Floats) -> None:
    integers = np.rint(lead).astype(np.int16)
    integers.flags.writeable = False
    first, second = marks_of_lead(integers, rate_hz=RATE_HZ), marks_of_lead(np.rint(lead), rate_hz=RATE_HZ)
    assert np.array_equal(first.samples, second.samples)
    assert first.classes is not None
    assert second.classes is not None
    assert np.array_equal(first.classes, second.classes)


@pytest.mark.parametrize(("rate_hz", "says"), [(0.0, "rate_hz"), (50.0, "rate_hz"), (np.nan, "rate_hz")])
def test_a_wrong_rate_is_refused(lead: Floats, rate_hz: float, says: str) -> None:
    with pytest.raises(SignalError, match=says):
        marks_of_lead(lead, rate_hz=rate_hz)
