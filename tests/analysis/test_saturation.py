"""Ratio of ratios: simulated light of known saturation, real recordings, curves, and bad input."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.saturation import median_ratio_of_ratios, ratio_of_ratios, spo2_percent
from analysis.saturation_curve import SaturationCurve, fit_curve
from protocols.errors import SignalError

Floats = NDArray[np.float64]

TEXTBOOK = SaturationCurve("simulated", (110.0, -25.0), 0.0, 4.0)


def lights(
    ratio: float | Floats, *, rate_hz: float = 64.0, duration_s: float = 60.0, noise: float = 0.0, seed: int = 1
) -> tuple[Floats, Floats]:
    """Return red and infrared counts: a pulse wave with an overtone, 2 % of the light, and breathing drift."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    turn = 2 * np.pi * 1.2 * time_s
    wave = -0.01 * (np.sin(turn) + 0.4 * np.sin(2 * turn))
    drift = 0.02 * np.sin(2 * np.pi * 0.2 * time_s)
    red = 7e4 * np.exp(ratio * wave + 0.7 * drift) + noise * rng.standard_normal(time_s.size)
    infrared = 7e4 * np.exp(wave + drift) + noise * rng.standard_normal(time_s.size)
    return red, infrared


@pytest.mark.parametrize("rate_hz", [25.0, 31.25, 64.0, 125.0, 500.0])
@pytest.mark.parametrize("ratio", [0.4, 1.0, 2.5])
def test_ratio_of_clean_light_is_exact(ratio: float, rate_hz: float) -> None:
    found = ratio_of_ratios(*lights(ratio, rate_hz=rate_hz), rate_hz=rate_hz)
    assert np.isfinite(found.ratio).all()
    np.testing.assert_allclose(found.ratio, ratio, rtol=0.005, atol=0.005)  # the drift leaks in: 0.2 % SpO2
    np.testing.assert_allclose(found.infrared_percent, 100 * 0.01 * 2 * np.hypot(1.0, 0.4), rtol=0.1)


def test_noise_of_a_tenth_of_the_pulse_moves_the_ratio_little() -> None:
    found = ratio_of_ratios(*lights(1.0, noise=140.0), rate_hz=64.0)
    assert np.isfinite(found.ratio).all()
    np.testing.assert_allclose(found.ratio, 1.0, atol=0.05)  # four standard errors of a window


def test_principal_axis_is_not_biased_by_noise_of_both_lights() -> None:
    runs = [ratio_of_ratios(*lights(1.0, noise=400.0, seed=seed), rate_hz=64.0).ratio for seed in range(8)]
    assert abs(np.nanmean(runs) - 1.0) < 0.02  # a regression of red on infrared is 5 % low here


def test_saturation_follows_a_desaturation() -> None:
    truth = np.repeat([97.0, 85.0, 75.0, 90.0], 64 * 40)
    red, infrared = lights((110.0 - truth) / 25.0, duration_s=160.0)
    found = spo2_percent(red, infrared, TEXTBOOK, rate_hz=64.0)
    starts = ratio_of_ratios(red, infrared, rate_hz=64.0).intervals[:, 0]
    still = truth[starts] == truth[starts + 8 * 64 - 1]
    away = still & (np.abs((starts / 64 + 4) % 40 - 20) < 14)  # 2 s from a step the filter still sees it
    np.testing.assert_allclose(found[away], truth[starts[away]], atol=0.3)


def test_gain_unit_and_ambient_light_do_not_matter() -> None:
    red, infrared = lights(0.8, noise=50.0)
    expected = ratio_of_ratios(red, infrared, rate_hz=64.0).ratio
    scaled = ratio_of_ratios(1e-3 * red, 7.0 * infrared, rate_hz=64.0).ratio
    np.testing.assert_allclose(scaled, expected, rtol=1e-9)
    ambient = np.full(red.size, 5000.0)
    lit = ratio_of_ratios(red + ambient, infrared + ambient, rate_hz=64.0, ambient=ambient).ratio
    np.testing.assert_allclose(lit, expected, rtol=1e-9)


def test_a_change_of_gain_is_healed() -> None:
    red, infrared = lights(0.8)
    expected = ratio_of_ratios(red, infrared, rate_hz=64.0).ratio
    red[2000:] *= 1.5
    infrared[:2] *= 0.6
    found = ratio_of_ratios(red, infrared, rate_hz=64.0).ratio
    np.testing.assert_allclose(found, expected, atol=0.02)  # the step hides one slope of the wave


@pytest.mark.parametrize("kind", ["noise", "common noise", "constant", "missing", "dark", "drift", "clipped"])
def test_light_without_a_pulse_has_no_ratio(rng: np.random.Generator, kind: str) -> None:
    red, infrared = lights(0.8)
    common = rng.standard_normal(red.size)
    spoilt: dict[str, tuple[Any, Any]] = {
        "noise": tuple(1e5 + 300.0 * rng.standard_normal((2, red.size))),
        "common noise": (1e5 + 300.0 * common, 1e5 + 250.0 * common),
        "constant": (np.full(red.size, 100), np.full(red.size, 100)),
        "missing": (np.full(red.size, np.nan), infrared),
        "dark": (np.zeros(red.size), np.zeros(red.size)),
        "drift": (1e5 + np.arange(red.size), 1e5 + 2.0 * np.arange(red.size)),
        "clipped": (np.minimum(red, np.median(red)), infrared),
    }
    found = ratio_of_ratios(*spoilt[kind], rate_hz=64.0)
    assert found.ratio.size > 0
    assert np.isnan(found.ratio).all()
    assert np.isnan(median_ratio_of_ratios(*spoilt[kind], rate_hz=64.0))


def test_windows_that_move_have_no_ratio() -> None:
    red, infrared = lights(0.8)
    accel = np.zeros((3, red.size))
    accel[2] = 9.81
    accel[0, 640:1280] = 5.0 * np.sin(np.arange(640))
    found = ratio_of_ratios(red, infrared, rate_hz=64.0, accel_mps2=accel)
    inside = (found.intervals[:, 0] < 1280 - 128) & (found.intervals[:, 1] > 640 + 128)
    assert np.isnan(found.ratio[inside]).all()
    assert np.isfinite(found.ratio[found.intervals[:, 0] >= 1280]).all()


def test_a_gap_is_nan_and_inputs_stay_as_they_were() -> None:
    red, infrared = lights(0.8)
    red[1000:1200] = np.nan
    copies = red.copy(), infrared.copy()
    red.setflags(write=False)
    found = ratio_of_ratios(red, infrared, rate_hz=64.0)
    touched = (found.intervals[:, 0] < 1149) & (found.intervals[:, 1] > 1051)  # more than a tenth is missing
    assert np.isnan(found.ratio[touched]).all()
    np.testing.assert_allclose(found.ratio[~touched], 0.8, rtol=0.05)
    np.testing.assert_array_equal(red, copies[0])
    np.testing.assert_array_equal(infrared, copies[1])


def test_integers_serve_as_floats() -> None:
    red, infrared = (np.rint(light).astype(np.int32) for light in lights(0.8))
    found = ratio_of_ratios(red, infrared, rate_hz=64.0).ratio
    np.testing.assert_allclose(found, 0.8, rtol=0.01)


def test_too_short_a_recording_has_no_ratio() -> None:
    red, infrared = lights(0.8, duration_s=1.5)
    assert ratio_of_ratios(red, infrared, rate_hz=64.0).ratio.size == 0
    assert np.isnan(median_ratio_of_ratios(red, infrared, rate_hz=64.0))


@pytest.mark.parametrize(
    ("red", "infrared", "options", "named"),
    [
        (np.ones(500), np.ones(400), {}, "samples"),
        (np.ones((2, 500)), np.ones(500), {}, "one dimension"),
        (np.full(500, np.inf), np.ones(500), {}, "infinite"),
        (np.ones(500), np.ones(500), {"rate_hz": 10.0}, "rate_hz"),
        (np.ones(500), np.ones(500), {"window_s": 1.0}, "window_s"),
        (np.ones(900), np.ones(900), {"accel_mps2": np.ones((3, 800))}, "accel_mps2"),
    ],
)
def test_misuse_is_named(red: Any, infrared: Any, options: dict[str, Any], named: str) -> None:
    with pytest.raises(SignalError, match=named):
        ratio_of_ratios(red, infrared, **{"rate_hz": 64.0, **options})


@pytest.mark.shared_data
def test_finger_recordings_are_within_the_standard_s_limit_when_cross_validated(shared: Path) -> None:
    ratios, truth, names = [], [], []
    for path in sorted((shared / "data/spo2/oxiwear/proto1").glob("*.csv")):
        lines = [line.split(",") for line in path.read_text().splitlines() if re.match(r"\d{13}", line)]
        rows = np.array([[float(fields[6]), float(fields[5])] for fields in lines])
        ratios.append(median_ratio_of_ratios(rows[:, 0], rows[:, 1], rate_hz=64.0))
        truth.append(float(path.name.split("-")[1]))
        names.append(path.name)
    assert np.isfinite(ratios).sum() >= 26
    fit = fit_curve(ratios, truth, recording=names, device="MAXM86161 at the finger")
    assert fit.cross_validated_arms_percent < 4.0  # ISO 80601-2-61:2017
    assert fit.curve.coefficients[1] < 0.0
    assert fit.cross_validated_arms_percent >= fit.arms_percent


@pytest.mark.shared_data
def test_an_unattached_sensor_has_no_ratio(shared: Path) -> None:
    path = next((shared / "data/spo2/oxiwear/proto2").glob("*unattached.csv"))
    rows = np.genfromtxt(path, delimiter=",", skip_header=1)
    found = ratio_of_ratios(rows[:, 2], rows[:, 0], rate_hz=24.995, window_s=3.0, step_s=0.5)
    assert np.isnan(found.ratio).all()
