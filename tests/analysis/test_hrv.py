"""Heart-rate variability in time: published answers, figures worked out by hand, gaps and bad input."""

from __future__ import annotations

import tracemalloc
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis import hrv
from analysis.hrv import Hrv
from protocols.errors import SignalError

Floats = NDArray[np.float64]


@pytest.fixture(scope="session")
def nn_ms(shared: Path) -> Floats:
    """A thousand NN intervals of the hrv-analysis package; answers in the README of the oracles."""
    return np.loadtxt(shared / "oracles/hrv_nn_intervals.csv", skiprows=1)


@pytest.fixture
def day_ms(rng: np.random.Generator) -> Floats:
    """Twenty hours at 800 ms with slow, LF and HF waves, in steps of 1 ms."""
    beats = np.arange(90_000)
    waves = 60 * np.sin(beats / 9000.0) + 30 * np.sin(beats * 0.5) + 20 * np.sin(beats * 1.3)
    return np.rint(800.0 + waves + rng.normal(0.0, 10.0, beats.size))


def figures(of: Hrv) -> dict[str, Floats]:
    return {field.name: getattr(of, field.name) for field in fields(of)}


@pytest.mark.shared_data
def test_published_answers_of_a_thousand_intervals(nn_ms: Floats) -> None:
    of = hrv.hrv(nn_ms)
    assert of.mean_nn_ms == pytest.approx(718.248, abs=5e-4)
    assert of.sdnn_ms == pytest.approx(43.113075, abs=5e-7)
    assert of.rmssd_ms == pytest.approx(19.519401, abs=5e-7)
    assert of.nn50 == 24
    assert of.pnn50_percent == pytest.approx(2.4024, abs=5e-5)  # of 999 differences
    assert 100.0 * of.nn50 / of.n_beats == pytest.approx(2.4)  # of 1000 intervals, as other programs have it
    # printed over n; ours is over n - 1
    assert of.sdsd_ms * np.sqrt(998 / 999) == pytest.approx(19.519368, abs=5e-7)
    assert of.sd1_ms == pytest.approx(13.80919, abs=5e-6)
    assert of.sd2_ms == pytest.approx(59.38670, abs=5e-6)
    assert of.sample_entropy == pytest.approx(1.20467, abs=5e-6)
    # printed as the mean of the beats' own rates, ours is the rate of the mean interval
    assert np.mean(60_000.0 / nn_ms) == pytest.approx(83.84733, abs=5e-6)
    assert of.mean_hr_bpm == pytest.approx(60_000.0 / 718.248)
    # printed with bins of 8 ms from 300 ms on, which are the ones that centre on multiples of 8
    assert hrv.triangular_index(nn_ms, bin_ms=8.0) == pytest.approx(11.3636, abs=5e-5)


def test_time_figures_worked_out_by_hand() -> None:
    rr_ms = [800.0, 860.0, 850.0, 790.0]
    assert hrv.mean_nn_ms(rr_ms) == 825.0
    assert hrv.median_nn_ms(rr_ms) == 825.0
    assert hrv.sdnn_ms(rr_ms) == pytest.approx(np.sqrt((25**2 + 35**2 + 25**2 + 35**2) / 3))
    assert hrv.rmssd_ms(rr_ms) == pytest.approx(np.sqrt((60**2 + 10**2 + 60**2) / 3))
    assert hrv.nn50(rr_ms) == 2
    assert hrv.pnn_percent(rr_ms) == pytest.approx(200 / 3)
    assert hrv.pnn_percent(rr_ms, limit_ms=60.0) == 0.0  # larger, not equal
    assert hrv.mad_ms(rr_ms) == pytest.approx(1.4826 * 30)


def test_segments_of_five_minutes_have_the_means_and_spreads_they_were_given() -> None:
    # 375 beats of 800 ms are 300 s; alternating by +-d they have mean 800 and a known SD
    segments = [
        level + swing * (-1.0) ** np.arange(300_000 // level) for level, swing in ((800, 20), (750, 10))
    ]
    rr_ms = np.concatenate([*segments, np.full(10, 750.0)])
    spreads = [np.std(segment, ddof=1) for segment in segments]
    # a segment's last beat may fall into the next: one of some 375 beats, 50 ms off, moves a mean by 0.13 ms
    assert hrv.sdann_ms(rr_ms) == pytest.approx(50 / np.sqrt(2), abs=0.2)
    assert hrv.sdnn_index_ms(rr_ms) == pytest.approx(np.mean(spreads), rel=0.05)
    assert np.isnan(hrv.sdann_ms(segments[0]))  # one segment has no spread of means


def test_a_segment_that_is_mostly_missing_does_not_count() -> None:
    rr_ms = np.concatenate([np.full(375, level) for level in (800.0, 800.0, 800.0, 800.0)])
    rr_ms[400:700] = 1.6 * 800  # would pull the second mean far off
    rr_ms[400:700] = np.nan
    assert hrv.sdann_ms(rr_ms) == pytest.approx(0.0, abs=1e-9)


def test_triangle_fits_a_triangular_histogram() -> None:
    heights = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1])
    rr_ms = np.repeat(100 * hrv.BIN_MS + hrv.BIN_MS * np.arange(9), heights)
    assert hrv.triangular_index(rr_ms) == 25 / 5
    assert hrv.tinn_ms(rr_ms) == pytest.approx(10 * hrv.BIN_MS)
    shifted = rr_ms + 16 * hrv.BIN_MS
    assert hrv.tinn_ms(shifted) == hrv.tinn_ms(rr_ms)
    # one far outlier hardly moves the base, and needs little memory
    assert hrv.tinn_ms(np.append(rr_ms, 50_000.0)) == pytest.approx(10 * hrv.BIN_MS)


def test_rejected_beats_break_differences_instead_of_joining_neighbours() -> None:
    rr_ms = [800.0, 810.0, np.nan, 900.0, 910.0]
    assert hrv.rmssd_ms(rr_ms) == pytest.approx(10.0)
    assert hrv.pnn_percent(rr_ms) == 0.0
    assert hrv.mean_nn_ms(rr_ms) == 855.0
    assert np.isnan(hrv.rmssd_ms([800.0, np.nan, 810.0]))
    assert np.isnan(hrv.sdnn_ms([np.nan, 810.0]))


def test_shift_and_scale_do_to_figures_what_they_should(rng: np.random.Generator) -> None:
    rr_ms = 800.0 + 30.0 * rng.normal(size=500)
    for figure in (hrv.sdnn_ms, hrv.rmssd_ms, hrv.sdsd_ms, hrv.mad_ms):
        assert figure(rr_ms + 100.0) == pytest.approx(float(figure(rr_ms)))
        assert figure(1.5 * rr_ms) == pytest.approx(1.5 * float(figure(rr_ms)))
        assert figure(rr_ms[::-1]) == pytest.approx(float(figure(rr_ms)))


def test_batch_equals_row_by_row(rng: np.random.Generator) -> None:
    rows = 800.0 + 40.0 * rng.normal(size=(2, 3, 1600))
    rows[0, 1, 50:60] = np.nan
    rows[1, 2] = np.nan
    batch = figures(hrv.hrv(rows))
    for index in np.ndindex(2, 3):
        for name, of_row in figures(hrv.hrv(rows[index])).items():
            np.testing.assert_allclose(batch[name][index], of_row, rtol=1e-9, err_msg=name)


def test_layout_type_and_protection_of_the_input_do_not_matter(rng: np.random.Generator) -> None:
    rows = np.rint(800.0 + 40.0 * rng.normal(size=(2, 1600)))
    kept = rows.copy()
    rows.flags.writeable = False
    expected = figures(hrv.hrv(rows))
    np.testing.assert_array_equal(rows, kept)
    for other in (np.asfortranarray(rows), rows.astype(np.int16), rows.astype(np.float32), rows.tolist()):
        for name, value in figures(hrv.hrv(other)).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-9, err_msg=name)


def test_short_recordings_have_only_the_figures_they_are_long_enough_for() -> None:
    def known(rr_ms: Floats) -> set[str]:
        return {name for name, value in figures(hrv.hrv(rr_ms)).items() if np.isfinite(value)}

    generator = np.random.default_rng(7)
    rr_ms = 800.0 + 40.0 * generator.normal(size=2000)
    for n_beats, without in (
        (60, {"hf_ms2", "lf_ms2", "vlf_ms2", "sample_entropy", "dfa_alpha1", "triangular_index", "sdann_ms"}),
        (100, {"lf_ms2", "vlf_ms2", "dfa_alpha2", "triangular_index", "sdann_ms"}),
        (300, {"vlf_ms2", "triangular_index", "sdann_ms", "sdnn_index_ms"}),
        (1600, {"ulf_ms2"}),
    ):
        assert not known(rr_ms[:n_beats]) & without
    assert known(rr_ms[:100]) >= {"hf_ms2", "sample_entropy", "rmssd_ms", "dfa_alpha1"}
    assert known(rr_ms[:1600]) >= {"lf_hf", "vlf_ms2", "sdann_ms", "tinn_ms", "dfa_alpha2", "triangular_index"}


def test_a_day_has_all_figures_and_memory_stays_below_eight_times_the_input(day_ms: Floats) -> None:
    hrv.hrv(day_ms[:2000])  # what is loaded at first use does not count
    tracemalloc.start()
    of = hrv.hrv(day_ms)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * day_ms.nbytes
    lacking = [name for name, value in figures(of).items() if not np.isfinite(value)]
    assert lacking == []
    assert of.valid_share == 1.0
    # waves of 30 and 20 ms at 0.5 and 1.3 rad/beat are 0.0995 and 0.259 Hz; the noise adds some to each
    assert of.lf_ms2 == pytest.approx(450.0, rel=0.1)
    assert of.hf_ms2 == pytest.approx(200.0, rel=0.25)


@pytest.mark.parametrize("rr_ms", [np.empty(0), np.full(2000, np.nan), np.full(1, 800.0)])
def test_nothing_to_measure_gives_nan_not_numbers(rr_ms: Floats) -> None:
    of = figures(hrv.hrv(rr_ms))
    for name in of.keys() - {
        "n_beats",
        "valid_share",
        "duration_s",
        "mean_nn_ms",
        "median_nn_ms",
        "mean_hr_bpm",
    }:
        assert name == "mad_ms" or np.isnan(of[name]), name


def test_constant_rhythm_has_no_variability_and_no_ratios() -> None:
    of = hrv.hrv(np.full(2000, 800.0))
    assert of.sdnn_ms == of.rmssd_ms == of.pnn50_percent == 0.0
    for name in ("sd1_sd2", "lf_hf", "lf_nu", "sample_entropy", "dfa_alpha1"):
        assert np.isnan(getattr(of, name)), name


def test_seconds_and_infinities_are_named() -> None:
    with pytest.raises(SignalError, match="expected intervals in ms"):
        hrv.hrv([0.8, 0.81, 0.79])
    with pytest.raises(SignalError, match="infinite"):
        hrv.rmssd_ms([800.0, np.inf])
    with pytest.raises(SignalError, match="time axis"):
        hrv.sdnn_ms(800.0)
    with pytest.raises(SignalError, match="limit_ms"):
        hrv.pnn_percent([800.0, 810.0], limit_ms=0.0)
