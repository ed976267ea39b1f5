from __future__ import annotations

import math

import numpy as np
import pytest

from firmware_sim.signals.ecg import EcgLead
from firmware_sim.signals.subject import Subject
from protocols.errors import DefinitionError


@pytest.mark.parametrize("resting_bpm", [45.0, 75.0, 150.0])
def test_every_r_peak_lies_at_its_true_beat(resting_bpm: float) -> None:
    subject = Subject(3, resting_bpm=resting_bpm)
    rate_hz = 2000
    times_s = np.arange(0, 60, 1 / rate_hz)
    ecg_uv = EcgLead(subject).clean_uv(times_s)
    for beat_s in subject.beats_s(1, 59):
        around = np.abs(times_s - beat_s) < 0.1
        assert times_s[around][np.argmax(ecg_uv[around])] == pytest.approx(beat_s, abs=0.001)


def test_amplitudes_are_those_of_an_adult_lead_in_microvolt() -> None:
    ecg_uv = EcgLead(Subject(3)).clean_uv(np.arange(0, 30, 1 / 500))
    assert 1000 < ecg_uv.max() < 1200
    assert -350 < ecg_uv.min() < -100


def test_samples_are_the_same_however_they_are_cut_into_frames() -> None:
    lead = EcgLead(Subject(3), snr_db=10, seed=4)
    times_s = np.arange(4000) / 130
    whole = lead.samples_uv(times_s, 0)
    frames = [lead.samples_uv(times_s[k : k + 73], k) for k in range(0, 4000, 73)]
    assert np.concatenate(frames) == pytest.approx(whole, abs=1e-6)


def test_noise_has_the_stated_ratio_to_the_signal() -> None:
    lead = EcgLead(Subject(3), snr_db=12, seed=1)
    times_s = np.arange(0, 120, 1 / 250)
    clean = lead.clean_uv(times_s)
    noise = lead.samples_uv(times_s, 0) - clean
    assert 10 * math.log10(np.var(clean) / np.var(noise)) == pytest.approx(12, abs=0.3)


def test_without_noise_the_samples_are_the_clean_ecg() -> None:
    lead = EcgLead(Subject(3))
    times_s = np.arange(0, 3, 1 / 130)
    assert np.array_equal(lead.samples_uv(times_s, 0), lead.clean_uv(times_s))


def test_a_senseless_ratio_is_refused() -> None:
    with pytest.raises(DefinitionError, match="snr_db=nan"):
        EcgLead(Subject(3), snr_db=math.nan)
