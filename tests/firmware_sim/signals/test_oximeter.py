from __future__ import annotations

import math

import numpy as np
import pytest

from firmware_sim.signals.desaturation import Plateau, SaturationProfile, controlled_desaturation
from firmware_sim.signals.oximeter import GOOD, MODELS, POOR, Oximeter, OximeterModel
from firmware_sim.signals.subject import Subject
from protocols.errors import DefinitionError


def readings(oximeter: Oximeter, start_s: float, end_s: float) -> np.ndarray:
    return np.array([oximeter.spo2_percent(float(t)) for t in np.arange(start_s, end_s)], dtype=float)


def arms(model: OximeterModel, n_subjects: int = 40) -> float:
    errors = []
    for seed in range(n_subjects):
        subject = Subject(seed, controlled_desaturation(seed))
        oximeter = Oximeter(subject, model, seed=9)
        errors += [
            readings(oximeter, plateau.start_s + 20, plateau.end_s) - plateau.sao2_percent
            for plateau in subject.saturation.plateaus[1:-1]
        ]
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def test_a_perfect_oximeter_shows_the_truth_to_one_percent() -> None:
    subject = Subject(1, SaturationProfile((Plateau(0, 1, 88.0),)))
    oximeter = Oximeter(subject, OximeterModel(), seed=1)
    assert set(readings(oximeter, 10, 100)) == {88.0}
    assert oximeter.pulse_rate_bpm(60) == pytest.approx(subject.resting_bpm + 8, abs=6)


def test_nothing_is_shown_before_the_first_window_is_full() -> None:
    oximeter = Oximeter(Subject(1), OximeterModel(averaging_s=4, delay_s=3), seed=1)
    assert oximeter.spo2_percent(6.0) is None
    assert oximeter.pulse_rate_bpm(6.0) is None
    assert oximeter.spo2_percent(7.0) == 98


def test_error_over_many_subjects_is_the_stated_one() -> None:
    model = OximeterModel(bias_percent=-1.0, between_percent=1.5, random_percent=1.0)
    assert arms(model, 150) == pytest.approx(math.sqrt(1 + 1.5**2 + 1 + 1 / 12), rel=0.12)


def test_random_error_has_the_stated_spread_and_is_shared_by_overlapping_windows() -> None:
    subject = Subject(1, SaturationProfile((Plateau(0, 1, 85.0),)))
    oximeter = Oximeter(subject, OximeterModel(random_percent=2.0, averaging_s=4), seed=3)
    errors = readings(oximeter, 10, 4000) - 85
    assert np.std(errors) == pytest.approx(math.sqrt(2.0**2 + 1 / 12), rel=0.1)
    assert np.corrcoef(errors[1:], errors[:-1])[0, 1] == pytest.approx(0.75, abs=0.1)
    assert np.corrcoef(errors[5:], errors[:-5])[0, 1] == pytest.approx(0.0, abs=0.1)


def test_the_good_device_meets_the_usual_limit_and_the_poor_one_does_not() -> None:
    assert arms(GOOD) < 2.0
    assert arms(POOR) > 4.0
    assert arms(MODELS["reference"]) < 0.5


def test_response_lags_by_delay_and_half_the_window() -> None:
    profile = SaturationProfile((Plateau(0, 50, 98.0), Plateau(90, 200, 78.0)))
    oximeter = Oximeter(Subject(1, profile), OximeterModel(averaging_s=8, delay_s=6), seed=1)
    shown = readings(oximeter, 50, 130)
    crossing_s = 50 + int(np.argmax(shown <= 88))
    assert crossing_s == pytest.approx(70 + 6 + 4, abs=1)


def test_two_devices_on_one_subject_err_differently_and_each_repeats_itself() -> None:
    subject = Subject(1)
    first, second = Oximeter(subject, GOOD, seed=1), Oximeter(subject, GOOD, seed=2)
    assert not np.array_equal(readings(first, 10, 100), readings(second, 10, 100))
    assert np.array_equal(readings(first, 10, 100), readings(Oximeter(Subject(1), GOOD, seed=1), 10, 100))


@pytest.mark.parametrize("field", ["between_percent", "random_percent", "delay_s", "averaging_s"])
def test_a_negative_parameter_is_refused_by_name(field: str) -> None:
    with pytest.raises(DefinitionError, match=field):
        OximeterModel(**{field: -1.0})
    with pytest.raises(DefinitionError, match=field):
        OximeterModel(**{field: math.nan})
