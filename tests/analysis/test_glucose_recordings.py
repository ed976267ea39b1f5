"""One number for a recording of a glucose sensor: NaN where it was worn too little."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import glucose, glucose_recordings
from protocols.errors import SignalError

MINUTE_NS = 60_000_000_000
FIGURES = {
    glucose_recordings.recording_mean_mgdl: glucose.mean_mgdl,
    glucose_recordings.recording_cv_percent: glucose.cv_percent,
    glucose_recordings.recording_gmi_percent: glucose.gmi_percent,
    glucose_recordings.recording_in_range_percent: glucose.in_range_percent,
    glucose_recordings.recording_below_70_percent: glucose.below_percent,
    glucose_recordings.recording_above_180_percent: glucose.above_percent,
    glucose_recordings.recording_lbgi: glucose.lbgi,
    glucose_recordings.recording_hbgi: glucose.hbgi,
}


@pytest.fixture
def readings(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(45.0, 300.0, 3 * 288), np.arange(3 * 288) * 5 * MINUTE_NS


def test_a_worn_sensor_has_the_figures_of_its_readings(readings: tuple[np.ndarray, np.ndarray]) -> None:
    values, times_ns = readings
    for recorded, figure in FIGURES.items():
        assert recorded(values, times_ns=times_ns) == pytest.approx(float(figure(values)))
    below = glucose_recordings.recording_below_54_percent(values, times_ns=times_ns)
    assert below == pytest.approx(100.0 * np.mean(values < 54.0))
    above = glucose_recordings.recording_above_250_percent(values, times_ns=times_ns)
    assert above == pytest.approx(100.0 * np.mean(values > 250.0))
    assert glucose_recordings.recording_wear_percent(values, times_ns=times_ns) == 100.0


def test_a_sensor_worn_too_little_or_for_part_of_a_day_has_none(
    readings: tuple[np.ndarray, np.ndarray],
) -> None:
    values, times_ns = readings
    seldom = np.where(np.arange(values.size) % 288 < 160, values, np.nan)
    assert glucose_recordings.recording_wear_percent(seldom, times_ns=times_ns) < 70.0
    for recorded in FIGURES:
        assert np.isnan(recorded(seldom, times_ns=times_ns))
        assert np.isnan(recorded(values[:150], times_ns=times_ns[:150]))
        assert np.isfinite(
            recorded(values[:288], times_ns=times_ns[:288])
        )  # a day, first to last reading 23:55
        assert np.isnan(recorded(np.full(9, np.nan), times_ns=times_ns[:9]))
        assert np.isnan(recorded([], times_ns=[]))
    assert np.isnan(glucose_recordings.recording_wear_percent([], times_ns=[]))


@pytest.mark.parametrize("at_the_end", [True, False])
def test_missing_readings_at_either_end_count_against_wear(
    readings: tuple[np.ndarray, np.ndarray], at_the_end: bool
) -> None:
    values, times_ns = readings
    lacking = np.arange(values.size) >= 432 if at_the_end else np.arange(values.size) < 432
    half = np.where(lacking, np.nan, values)
    assert glucose_recordings.recording_wear_percent(half, times_ns=times_ns) == 50.0
    assert glucose_recordings.recording_wear_percent(half[~lacking], times_ns=times_ns[~lacking]) == 100.0
    for recorded in FIGURES:
        assert np.isnan(recorded(half, times_ns=times_ns))
        assert np.isfinite(recorded(half[~lacking], times_ns=times_ns[~lacking]))


def test_a_recording_in_mmol_per_litre_is_refused() -> None:
    times_ns = np.arange(2 * 288) * 5 * MINUTE_NS
    with pytest.raises(SignalError, match="not mmol/L"):
        glucose_recordings.recording_mean_mgdl(np.full(times_ns.size, 7.8), times_ns=times_ns)
