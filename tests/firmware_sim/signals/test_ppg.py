from __future__ import annotations

import numpy as np
import pytest

from firmware_sim.signals.desaturation import constant_saturation
from firmware_sim.signals.ppg import TRANSIT_S, pleth, red_infrared
from firmware_sim.signals.subject import Subject


def test_every_beat_is_followed_by_one_pulse() -> None:
    subject = Subject(4)
    times_s = np.arange(0, 60, 1 / 200)
    wave = pleth(times_s, subject)
    for beat_s in subject.beats_s(1, 58):
        pulse = (times_s >= beat_s) & (times_s < beat_s + 0.45)
        assert times_s[pulse][np.argmax(wave[pulse])] == pytest.approx(beat_s + TRANSIT_S + 0.13, abs=0.03)
    assert 0.9 < wave.max() < 1.2
    assert wave.min() >= 0


def test_the_wave_is_the_same_however_it_is_cut() -> None:
    subject = Subject(4)
    times_s = np.arange(0, 30, 1 / 75)
    pieces = [pleth(times_s[k : k + 25], subject) for k in range(0, times_s.size, 25)]
    assert np.concatenate(pieces) == pytest.approx(pleth(times_s, subject), abs=1e-4)


@pytest.mark.parametrize("sao2_percent", [98.0, 85.0, 70.0])
def test_ratio_of_ratios_tells_the_saturation(sao2_percent: float) -> None:
    subject = Subject(4, constant_saturation(sao2_percent))
    red, infrared = red_infrared(np.arange(2, 12, 1 / 100), subject)
    ratio = (np.ptp(red) / red.max()) / (np.ptp(infrared) / infrared.max())
    assert 110 - 25 * ratio == pytest.approx(sao2_percent, abs=0.1)
