from __future__ import annotations

import numpy as np
import pytest

from firmware_sim.signals.desaturation import Plateau, SaturationProfile
from firmware_sim.signals.subject import Subject
from protocols.errors import DefinitionError


def test_beats_come_at_the_subjects_heart_rate() -> None:
    subject = Subject(1, resting_bpm=72.0)
    beats_s = subject.beats_s(0, 1800)
    assert beats_s.size == pytest.approx(72 * 30, abs=5)


def test_beats_are_the_same_however_they_are_asked_for() -> None:
    whole = Subject(5).beats_s(0, 400)
    subject = Subject(5)
    late_first = subject.beats_s(399, 400)
    pieces = [subject.beats_s(float(t), float(t) + 0.7) for t in np.arange(0, 400, 0.7)]
    assert np.array_equal(np.concatenate(pieces)[: whole.size], whole)
    assert np.array_equal(late_first, whole[whole >= 399])


def test_subjects_differ_by_seed_and_are_reproduced_by_it() -> None:
    assert np.array_equal(Subject(2).beats_s(0, 60), Subject(2).beats_s(0, 60))
    assert not np.array_equal(Subject(2).beats_s(0, 60)[:20], Subject(3).beats_s(0, 60)[:20])


def test_variability_of_rr_is_the_stated_one_and_has_its_two_peaks() -> None:
    beats_s = Subject(7, resting_bpm=60.0, variability=0.04).beats_s(0, 1800)
    rr_s = np.diff(beats_s)
    assert np.std(rr_s) / np.mean(rr_s) == pytest.approx(0.04, rel=0.25)
    times_s = np.arange(5, 1795, 0.25)
    spectrum = np.abs(np.fft.rfft(np.interp(times_s, beats_s[1:], rr_s) - rr_s.mean())) ** 2
    frequency_hz = np.fft.rfftfreq(times_s.size, 0.25)
    low = spectrum[(frequency_hz > 0.04) & (frequency_hz < 0.15)].sum()
    high = spectrum[(frequency_hz > 0.15) & (frequency_hz < 0.4)].sum()
    assert low + high > 0.95 * spectrum[1:].sum()
    assert 0.3 < low / high < 1.2


def test_a_metronome_has_equal_intervals() -> None:
    rr_s = np.diff(Subject(1, resting_bpm=60.0, variability=0.0).beats_s(0, 500))
    assert rr_s == pytest.approx(1.0, abs=1e-6)


def test_the_heart_beats_faster_in_hypoxia() -> None:
    profile = SaturationProfile((Plateau(0, 100, 98.0), Plateau(120, 300, 78.0)))
    subject = Subject(1, profile, resting_bpm=60.0)
    assert subject.beats_s(120, 300).size == pytest.approx(3 * (60 + 0.8 * 20), abs=3)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"seed": -1}, "seed=-1"), ({"resting_bpm": 10.0}, "resting_bpm"), ({"variability": 0.5}, "variability")],
)
def test_an_impossible_subject_is_refused_by_name(options: dict[str, float], named: str) -> None:
    with pytest.raises(DefinitionError, match=named):
        Subject(**{"seed": 1, **options})  # type: ignore[arg-type]
