"""One number for a recording of RR readings: artefacts repaired, pauses not bridged, poor ones NaN."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis import hrv, hrv_recordings
from protocols.errors import SignalError

Floats = NDArray[np.float64]
FIGURES = (
    hrv_recordings.recording_mean_nn_ms,
    hrv_recordings.recording_sdnn_ms,
    hrv_recordings.recording_rmssd_ms,
    hrv_recordings.recording_pnn50_percent,
    hrv_recordings.recording_lf_ms2,
    hrv_recordings.recording_hf_ms2,
    hrv_recordings.recording_lf_hf,
    hrv_recordings.recording_sd1_ms,
    hrv_recordings.recording_sd2_ms,
    hrv_recordings.recording_sample_entropy,
    hrv_recordings.recording_dfa_alpha1,
)


@pytest.fixture
def rr_ms(rng: np.random.Generator) -> Floats:
    beats = np.arange(600)
    return 850.0 + 30 * np.sin(beats * 0.5) + 25 * np.sin(beats * 1.4) + 10.0 * rng.normal(size=600)


def times_ns_of(rr_ms: Floats) -> NDArray[np.int64]:
    return np.cumsum(np.nan_to_num(rr_ms, nan=800.0) * 1e6).astype(np.int64)


def test_clean_recording_has_all_figures(rr_ms: Floats) -> None:
    values = [figure(rr_ms, times_ns=times_ns_of(rr_ms)) for figure in FIGURES]
    assert np.isfinite(values).all()
    assert values[2] == pytest.approx(float(hrv.rmssd_ms(rr_ms)), rel=0.02)


def test_a_few_missed_beats_do_not_show(rr_ms: Floats) -> None:
    dirty = rr_ms.copy()
    dirty[50:550:50] += rr_ms[51:551:50]
    dirty = np.delete(dirty, np.arange(51, 551, 50))
    assert hrv.rmssd_ms(dirty) > 3.0 * hrv.rmssd_ms(rr_ms)
    assert hrv_recordings.recording_rmssd_ms(dirty, times_ns=times_ns_of(dirty)) == pytest.approx(
        float(hrv.rmssd_ms(rr_ms)), rel=0.05
    )


def test_intervals_that_are_none_are_missing_beats(rr_ms: Floats) -> None:
    dirty = rr_ms.copy()
    dirty[[20, 300]] = 0.0, 63_999.0  # lost contact, overflow of a counter
    expected = np.where(np.isin(np.arange(600), [20, 300]), np.nan, rr_ms)
    times_ns = times_ns_of(rr_ms)
    found = hrv_recordings.recording_rmssd_ms(dirty, times_ns=times_ns)
    assert found == hrv_recordings.recording_rmssd_ms(expected, times_ns=times_ns)
    assert np.isfinite(found)


def test_beats_on_both_sides_of_a_pause_are_no_neighbours() -> None:
    rr_ms = np.repeat([700.0, 900.0], 100)
    times_ns = times_ns_of(rr_ms)
    times_ns[100:] += 60_000_000_000
    assert hrv_recordings.recording_rmssd_ms(rr_ms, times_ns=times_ns) == 0.0


def test_poor_recordings_have_no_figure(rng: np.random.Generator, rr_ms: Floats) -> None:
    fibrillation = np.maximum(rng.normal(650.0, 0.22 * 650.0, 600), 310.0)  # coefficient of variation as in AF
    missing = np.where(rng.random(600) < 0.3, np.nan, rr_ms)
    for poor in (fibrillation, missing, rr_ms[:50], np.full(600, np.nan), np.empty(0)):
        for figure in FIGURES:
            assert np.isnan(figure(poor, times_ns=times_ns_of(poor)))


def test_entropy_needs_a_hundred_beats(rr_ms: Floats) -> None:
    short = rr_ms[:90]
    assert np.isfinite(hrv_recordings.recording_rmssd_ms(short, times_ns=times_ns_of(short)))
    assert np.isnan(hrv_recordings.recording_sample_entropy(short, times_ns=times_ns_of(short)))


def test_misuse_is_named(rr_ms: Floats) -> None:
    with pytest.raises(SignalError, match="expected as many"):
        hrv_recordings.recording_sdnn_ms(rr_ms, times_ns=times_ns_of(rr_ms)[1:])
    with pytest.raises(SignalError, match="ms"):
        hrv_recordings.recording_sdnn_ms(rr_ms / 1000.0, times_ns=times_ns_of(rr_ms))
