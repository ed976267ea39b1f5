"""Beats, classes and episodes of one lead together: each asked only where it can answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from analysis.ecg_rhythm import (
    atrial_fibrillation_percent,
    ecg_rhythm,
    supraventricular_beats_percent,
    ventricular_beats_percent,
    ventricular_fibrillation_percent,
)
from analysis.heart_rate import mean_heart_rate_per_min
from analysis.intervals import intersection, total_length
from analysis.quality import ecg_quality
from protocols.errors import SignalError
from tests.analysis.synthetic_rhythms import (
    Floats,
    ecg_of,
    fibrillating,
    sinus,
    ventricular_fibrillation_uv,
)

RATE_HZ = 250.0
FIGURES = (
    atrial_fibrillation_percent,
    ventricular_fibrillation_percent,
    ventricular_beats_percent,
    supraventricular_beats_percent,
)


def all_rhythms(rng: np.random.Generator) -> tuple[Floats, dict[str, tuple[float, float]]]:
    """Return sinus rhythm with ectopy, atrial fibrillation, sinus rhythm, ventricular fibrillation, noise."""
    kinds = ["N"] * 150 + ["A"] * 200 + ["N"] * 150
    rr_s = np.concatenate([sinus(150, rng), fibrillating(200, rng), sinus(150, rng)])
    for k in range(10, 150, 10):
        kinds[k], rr_s[k], rr_s[k + 1] = "V", 0.65 * rr_s[k], 1.35 * rr_s[k + 1]
    ecg, _ = ecg_of(kinds, rr_s, rng)
    edges_s = np.cumsum([rr_s[:150].sum(), rr_s[150:350].sum(), rr_s[350:].sum(), 60.0, 60.0])
    n = int(60 * RATE_HZ)
    ecg = np.concatenate(
        [
            ecg[: int(edges_s[2] * RATE_HZ)],
            ventricular_fibrillation_uv(n, rng),
            400.0 * rng.standard_normal(n),
        ]
    )
    return ecg, {
        "AF": (edges_s[0], edges_s[1]),
        "VF": (edges_s[2], edges_s[3]),
        "noise": (edges_s[3], edges_s[4]),
    }


def test_every_rhythm_is_told_in_its_place_and_noise_is_undetermined(rng: np.random.Generator) -> None:
    ecg, truth_s = all_rhythms(rng)
    found = ecg_rhythm(ecg, rate_hz=RATE_HZ)
    # the detector of AF averages over some 50 beats, that of VF decides in windows of 8 s
    assert found.atrial_fibrillation / RATE_HZ == pytest.approx(np.array([truth_s["AF"]]), abs=25.0)
    assert found.ventricular_fibrillation / RATE_HZ == pytest.approx(np.array([truth_s["VF"]]), abs=5.0)
    # what else is undetermined are the seconds between beats and fibrillation
    assert total_length(found.undetermined) / RATE_HZ == pytest.approx(60.0, abs=10.0)
    assert found.undetermined[-1] / RATE_HZ == pytest.approx(np.array(truth_s["noise"]), abs=11.0)
    assert total_length(intersection(found.atrial_fibrillation, found.undetermined)) == 0
    assert total_length(intersection(found.ventricular_fibrillation, found.undetermined)) == 0
    assert (found.classes == "V").sum() == 14
    start, end = found.ventricular_fibrillation[0]
    assert not ((found.beats >= start) & (found.beats < end)).any()
    noise_starts = int((truth_s["noise"][0] + 11.0) * RATE_HZ)
    assert set(found.classes[found.beats > noise_starts]) <= {"Q"}


def test_ventricular_fibrillation_has_no_heart_rate(rng: np.random.Generator) -> None:
    ecg = ventricular_fibrillation_uv(int(60 * RATE_HZ), rng)
    quality = ecg_quality(ecg, rate_hz=RATE_HZ)
    assert quality.reasons["fibrillation"].all()
    assert not quality.quality.any()
    assert np.isnan(mean_heart_rate_per_min(ecg, rate_hz=RATE_HZ))
    assert ventricular_fibrillation_percent(ecg, rate_hz=RATE_HZ) == 100.0


def test_figures_are_shares_of_what_is_determined(rng: np.random.Generator) -> None:
    ecg, truth_s = all_rhythms(rng)
    determined_s = truth_s["noise"][0]
    assert atrial_fibrillation_percent(ecg, rate_hz=RATE_HZ) == pytest.approx(
        100.0 * np.diff(truth_s["AF"])[0] / determined_s, abs=100.0 * 25.0 / determined_s
    )
    assert ventricular_fibrillation_percent(ecg, rate_hz=RATE_HZ) == pytest.approx(
        100.0 * 60.0 / determined_s, abs=100.0 * 8.0 / determined_s
    )
    assert ventricular_beats_percent(ecg, rate_hz=RATE_HZ) == pytest.approx(100.0 * 14 / 500, abs=0.2)
    assert supraventricular_beats_percent(ecg, rate_hz=RATE_HZ) < 1.0


@pytest.mark.parametrize("figure", FIGURES)
def test_a_poor_lead_has_no_figure(figure: Callable[..., float], rng: np.random.Generator) -> None:
    for poor in (rng.standard_normal(15_000), np.zeros(15_000), np.full(15_000, np.nan), np.zeros(300)):
        assert np.isnan(figure(poor, rate_hz=RATE_HZ))


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("wave_hz", [1.2, 0.9, 2.0])
def test_a_sine_has_no_rhythm(figure: Callable[..., float], wave_hz: float) -> None:
    sine = np.sin(2.0 * np.pi * wave_hz * np.arange(int(120 * RATE_HZ)) / RATE_HZ)
    assert not ecg_quality(sine, rate_hz=RATE_HZ).good.any()
    assert np.isnan(figure(sine, rate_hz=RATE_HZ))


def test_beats_may_be_given(rng: np.random.Generator) -> None:
    ecg, beats = ecg_of(["N"] * 100, sinus(100, rng), rng)
    given = ecg_rhythm(ecg, beats, rate_hz=RATE_HZ)
    assert np.array_equal(given.beats, beats)
    assert given.n_samples == ecg.size
    assert atrial_fibrillation_percent(ecg, rate_hz=RATE_HZ) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ecg_rhythm(np.zeros((2, 900)), rate_hz=250.0), "expected one lead"),
        (lambda: ecg_rhythm(np.zeros(9000), rate_hz=50.0), "rate_hz=50.0"),
        (lambda: ecg_rhythm(np.zeros(9000), [5, 4], rate_hz=250.0), "ascend"),
        (lambda: ecg_rhythm(np.full(9000, np.inf), rate_hz=250.0), "infinite"),
    ],
)
def test_misuse_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(SignalError, match=message):
        call()


@pytest.mark.shared_data
def test_sinus_arrhythmia_and_ectopy_of_records_are_no_fibrillation(mit_bih: Any) -> None:
    for record in (106, 113):  # intervals alone would make minutes of them atrial fibrillation
        found = ecg_rhythm(mit_bih(record)[0][: 10 * 60 * 360], rate_hz=360.0)
        assert found.atrial_fibrillation.shape == (0, 2)
        assert found.ventricular_fibrillation.shape == (0, 2)
