"""ECG intervals and levels: synthetic waves of exactly known bounds, formulas, records, gaps, bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from analysis.ecg_morphology import (
    Delineation,
    corrected_qt_ms,
    delineate,
    delineate_average,
    median_over_strips,
    median_pr_ms,
    median_qrs_ms,
    median_qt_ms,
    median_qtc_bazett_ms,
    median_qtc_fridericia_ms,
    median_st_j60,
)
from analysis.heartbeats import detect_qrs
from protocols.errors import SignalError

Floats = np.ndarray[Any, np.dtype[np.float64]]
RATE_HZ = 500.0
P, Q, R, S, T = (
    (-0.165, 0.045, 0.12),
    (-0.034, 0.016, -0.1),
    (0.0, 0.022, 1.1),
    (0.032, 0.016, -0.2),
    (0.29, 0.1, 0.3),
)
"""Centre after R in s, half width in s, height in mV, of waves (1 + cos) / 2 high that end exactly there."""


def synthetic(
    rate_hz: float = RATE_HZ,
    *,
    waves: tuple[tuple[float, float, float], ...] = (P, Q, R, S, T),
    st_mv: float = 0.0,
) -> tuple[Floats, Floats]:
    """Return 40 s of an ECG in mV, 0 between its waves, and the times of its R peaks."""
    times_s = np.arange(int(40 * rate_hz)) / rate_hz
    beats_s = 0.6 + np.cumsum(0.85 + 0.05 * np.sin(np.arange(44.0)))
    ecg = np.zeros(times_s.size)
    for beat_s in beats_s:
        for at_s, half_s, height in waves:
            phase = np.clip((times_s - beat_s - at_s) / half_s, -1.0, 1.0)
            ecg += 0.5 * height * (1.0 + np.cos(np.pi * phase))
        # an ST segment of one level from the J point to the top of T, gone with T
        since = times_s - beat_s
        ecg += st_mv * np.clip((since - 0.048) / 0.004, 0, 1) * np.clip((0.39 - since) / 0.1, 0, 1)
    return ecg, beats_s


def errors_ms(found: Floats, beats: Any, truth_after_r_s: float, beats_s: Floats, rate_hz: float) -> Floats:
    nearest = np.abs(beats[:, np.newaxis] / rate_hz - beats_s).argmin(axis=1)
    errors = 1000.0 * (found / rate_hz - beats_s[nearest] - truth_after_r_s)
    return errors[np.isfinite(errors)]


# Mean and standard deviation in ms. The means are the definitions' own: slopes smoothed by a Gaussian of 8 ms
# reach beyond the wave by one to two of its deviations; a tangent to (1 + cos) / 2 ends at 0.818 of its half
# width, 18 ms before T does; P ends where half of the steepest slope is left, at 5/6 of its half width, 7 ms
# early. Standard deviations: the tolerances of CSE 1985, which delineators are measured by (Martinez 2004), and
# half of them, as they are two deviations of readers, where there is no noise.
CSE_SD_MS = {"p_onset": 10.2, "p_offset": 12.7, "qrs_onset": 6.5, "qrs_offset": 11.6, "t_end": 30.6}
TRUTH_S = {
    "p_onset": P[0] - P[1],
    "p_offset": P[0] + P[1],
    "qrs_onset": Q[0] - Q[1],
    "qrs_offset": S[0] + S[1],
    "t_end": T[0] + T[1],
}
MEAN_MS = {"p_onset": 8.0, "p_offset": -8.0, "qrs_onset": -8.0, "qrs_offset": 8.0, "t_end": -15.0}


@pytest.mark.parametrize("rate_hz", [250.0, 360.0, 1000.0])
@pytest.mark.parametrize("noise_mv", [0.0, 0.01])
def test_bounds_of_synthetic_waves_are_within_the_tolerances_of_cse(
    rate_hz: float, noise_mv: float, rng: np.random.Generator
) -> None:
    ecg, beats_s = synthetic(rate_hz)
    times_s = np.arange(ecg.size) / rate_hz
    ecg += noise_mv * rng.standard_normal(ecg.size) + 0.15 * np.sin(2 * np.pi * 0.25 * times_s)
    beats = detect_qrs(ecg, rate_hz=rate_hz)
    found = delineate(ecg, beats, rate_hz=rate_hz)
    for wave, truth_s in TRUTH_S.items():
        errors = errors_ms(getattr(found, wave), beats, truth_s, beats_s, rate_hz)
        assert errors.size >= beats.size - 2  # the first and the last may lie at an end
        assert errors.mean() == pytest.approx(MEAN_MS[wave], abs=6.0)
        assert errors.std() <= (CSE_SD_MS[wave] if noise_mv else CSE_SD_MS[wave] / 2)
    for wave, (at_s, _, _) in (("p_peak", P), ("t_peak", T)):
        errors = errors_ms(getattr(found, wave), beats, at_s, beats_s, rate_hz)
        assert np.abs(errors.mean()) <= 1.0 + 500.0 / rate_hz  # half a sample


@pytest.mark.parametrize("st_mv", [-0.2, 0.0, 0.3])
def test_st_level_is_that_after_the_j_point_whatever_the_baseline(st_mv: float) -> None:
    ecg, _ = synthetic(st_mv=st_mv)
    ecg += 2.0 + 0.3 * np.sin(2 * np.pi * 0.2 * np.arange(ecg.size) / RATE_HZ)
    found = delineate(ecg, detect_qrs(ecg, rate_hz=RATE_HZ), rate_hz=RATE_HZ)
    # T begins 190 ms after R, so J + 80 ms is clean; EC 60601-2-27 asks of ST 25 uV
    assert np.nanmedian(found.st_j60) == pytest.approx(st_mv, abs=0.025)
    assert np.nanmedian(found.st_j80) == pytest.approx(st_mv, abs=0.025)
    assert np.nanstd(found.st_j60) < 0.025


def test_polarity_unit_and_offset_do_not_matter() -> None:
    ecg, _ = synthetic()
    beats = detect_qrs(ecg, rate_hz=RATE_HZ)
    expected = delineate(ecg, beats, rate_hz=RATE_HZ)
    for factor, offset in ((-1.0, 0.0), (1000.0, 50.0), (1e-3, -3.0)):
        found = delineate(factor * ecg + offset, beats, rate_hz=RATE_HZ)
        for name in ("p_onset", "p_peak", "p_offset", "qrs_onset", "qrs_offset", "t_peak", "t_end"):
            # rounding moves where a slope crosses its threshold by a sample at most
            assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1.0, nan_ok=True)
        assert found.st_j60 == pytest.approx(factor * expected.st_j60, abs=1e-6 * abs(factor), nan_ok=True)


def test_dtypes_orders_and_read_only_input_do_not_matter_and_input_is_kept() -> None:
    ecg, _ = synthetic()
    lead = np.rint(200 * ecg).astype(np.int16)
    beats = detect_qrs(lead, rate_hz=RATE_HZ)
    before = lead.copy()
    lead.flags.writeable = False
    expected = delineate(lead, beats, rate_hz=RATE_HZ)
    found = delineate(np.stack([lead, lead], axis=1)[:, 0].astype(np.float32), beats.tolist(), rate_hz=RATE_HZ)
    assert found.qt_ms == pytest.approx(expected.qt_ms, nan_ok=True)
    assert np.array_equal(lead, before)


def test_the_averaged_beat_measures_what_the_single_ones_do_with_less_noise(rng: np.random.Generator) -> None:
    ecg, _ = synthetic()
    clean = delineate_average(ecg, detect_qrs(ecg, rate_hz=RATE_HZ), rate_hz=RATE_HZ)
    noisy_ecg = ecg + 0.03 * rng.standard_normal(ecg.size)
    beats = detect_qrs(noisy_ecg, rate_hz=RATE_HZ)
    single = delineate(noisy_ecg, beats, rate_hz=RATE_HZ)
    average = delineate_average(noisy_ecg, beats, rate_hz=RATE_HZ)
    assert average.beats.shape == (4,)
    assert clean.rr_ms == pytest.approx(np.full(4, 850.0), abs=15.0)
    assert np.nanstd(average.qt_ms - clean.qt_ms) < np.nanstd(single.qt_ms)
    assert average.qt_ms == pytest.approx(clean.qt_ms, abs=15.3)  # half of what CSE allows the end of T
    assert average.pr_ms == pytest.approx(clean.pr_ms, abs=12.0)


def test_without_p_waves_none_are_told(rng: np.random.Generator) -> None:
    ecg, _ = synthetic(waves=(Q, R, S, T))
    ecg += 0.02 * np.sin(2 * np.pi * 6.0 * np.arange(ecg.size) / RATE_HZ)  # fibrillation waves at 6 Hz
    ecg += 0.005 * rng.standard_normal(ecg.size)
    found = delineate(ecg, detect_qrs(ecg, rate_hz=RATE_HZ), rate_hz=RATE_HZ)
    # by chance a wave is where those of half of its nine neighbours are
    assert np.isfinite(found.p_peak).mean() < 0.3
    assert np.isfinite(found.qt_ms).mean() > 0.9


def test_without_t_wave_and_with_a_low_one_qt_is_not_told(rng: np.random.Generator) -> None:
    for t_wave in ((0.29, 0.1, 0.0), (0.29, 0.1, 0.05), (0.29, 0.1, 0.09)):
        ecg, _ = synthetic(waves=(P, Q, R, S, t_wave))
        ecg += 0.003 * rng.standard_normal(ecg.size)  # without it the line between beats is flat
        assert np.isnan(median_qt_ms(ecg, rate_hz=RATE_HZ))
        assert np.isfinite(median_pr_ms(ecg, rate_hz=RATE_HZ))


def test_a_figure_that_fewer_than_half_of_the_strips_show_is_none(rng: np.random.Generator) -> None:
    ecg, _ = synthetic(waves=(Q, R, S, T))
    with_p, _ = synthetic()
    ecg += 0.003 * rng.standard_normal(ecg.size)
    quarter, most = ecg.copy(), ecg.copy()
    quarter[:5000] += (with_p - synthetic(waves=(Q, R, S, T))[0])[:5000]
    most[:15000] += (with_p - synthetic(waves=(Q, R, S, T))[0])[:15000]
    assert np.isnan(median_pr_ms(quarter, rate_hz=RATE_HZ))
    assert np.isfinite(median_pr_ms(most, rate_hz=RATE_HZ))


def test_missing_samples_cost_the_waves_they_touch_only() -> None:
    ecg, beats_s = synthetic()
    beats = detect_qrs(ecg, rate_hz=RATE_HZ)
    expected = delineate(ecg, beats, rate_hz=RATE_HZ)
    gappy = ecg.copy()
    r = int(beats_s[10] * RATE_HZ)
    k = int(np.abs(beats - r).argmin())
    gappy[r + 130 : r + 150] = np.nan  # in T
    found = delineate(gappy, beats, rate_hz=RATE_HZ)
    assert np.isnan(found.t_end[k])
    assert found.qrs_ms[k] == pytest.approx(expected.qrs_ms[k], abs=4.0)
    assert np.delete(found.qt_ms, k) == pytest.approx(np.delete(expected.qt_ms, k), abs=4.0, nan_ok=True)
    gappy[r - 20 : r + 1] = np.nan  # in the QRS complex
    found = delineate(gappy, beats, rate_hz=RATE_HZ)
    assert np.isnan([found.qrs_ms[k], found.pr_ms[k], found.st_j60[k], found.isoelectric[k]]).all()


def test_a_gap_where_st_is_read_costs_st() -> None:
    ecg, beats_s = synthetic()
    beats = detect_qrs(ecg, rate_hz=RATE_HZ)
    r = int(beats_s[10] * RATE_HZ)
    ecg[r + 60 : r + 64] = np.nan  # 120 ms after R: some 60 ms after the J point
    found = delineate(ecg, beats, rate_hz=RATE_HZ)
    assert np.flatnonzero(np.isnan(found.st_j60)).tolist() == [np.abs(beats - r).argmin()]


@pytest.mark.parametrize("samples", [np.zeros(5000), np.full(5000, np.nan), np.full(5000, 3, dtype=np.int32)])
def test_a_constant_or_missing_lead_has_no_waves(samples: Floats) -> None:
    found = delineate(samples, np.arange(100, 5000, 400), rate_hz=RATE_HZ)
    assert np.isnan(found.qrs_ms).all()
    assert np.isnan(found.st_j60).all()
    assert np.isnan(delineate_average(samples, [300], rate_hz=RATE_HZ, window_s=5.0, step_s=5.0).qrs_ms).all()
    assert np.isnan(median_qtc_fridericia_ms(samples, rate_hz=RATE_HZ))


def test_no_beats_and_one_beat_work() -> None:
    ecg, beats_s = synthetic()
    assert delineate(ecg, [], rate_hz=RATE_HZ).qt_ms.shape == (0,)
    one = delineate(ecg, [int(beats_s[3] * RATE_HZ)], rate_hz=RATE_HZ)
    assert np.isnan(one.rr_ms).all()
    assert np.isfinite(one.qt_ms).all()


def test_corrections_give_the_values_of_their_formulas() -> None:
    for formula in ("bazett", "fridericia", "framingham", "hodges"):
        assert corrected_qt_ms(400.0, 1000.0, formula=formula) == pytest.approx(400.0)
    # QT 360 ms at 100 per min, computed by hand
    assert corrected_qt_ms(360.0, 600.0, formula="bazett") == pytest.approx(464.758, abs=1e-3)
    assert corrected_qt_ms(360.0, 600.0) == pytest.approx(426.827, abs=1e-3)
    assert corrected_qt_ms(360.0, 600.0, formula="framingham") == pytest.approx(421.6)
    assert corrected_qt_ms(360.0, 600.0, formula="hodges") == pytest.approx(430.0)
    both = corrected_qt_ms([[360.0], [400.0]], [600.0, 0.0, np.nan])
    assert both.shape == (2, 3)
    assert np.isnan(both[:, 1:]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: delineate(np.zeros((2, 900)), [], rate_hz=500.0), "expected one lead"),
        (lambda: delineate(np.zeros(900), [], rate_hz=50.0), "rate_hz=50.0"),
        (lambda: delineate(np.zeros(900), [5, 5], rate_hz=500.0), "ascend"),
        (lambda: delineate(np.zeros(900), [5, 900], rate_hz=500.0), "in 900 samples"),
        (lambda: delineate(np.zeros(900), [5.5], rate_hz=500.0), "sample indices"),
        (lambda: delineate(np.full(900, np.inf), [5], rate_hz=500.0), "infinite"),
        (lambda: corrected_qt_ms(400.0, 800.0, formula="rautaharju"), "formula='rautaharju'"),
        (lambda: delineate_average(np.zeros(900), [5], rate_hz=500.0, window_s=0.0), "window_s=0.0"),
    ],
)
def test_misuse_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(SignalError, match=message):
        call()


@pytest.mark.shared_data
def test_a_record_of_normal_beats_has_normal_intervals(mit_bih) -> None:  # type: ignore[no-untyped-def]
    lead = mit_bih(103)[0][: 360 * 120]
    # normal limits of an adult, as the record's beats are labelled normal; QT of NeuroKit2's dwt 386 ms, with
    # the tolerance that CSE gives the end of T
    assert 120.0 <= median_pr_ms(lead, rate_hz=360.0) <= 200.0
    assert 60.0 <= median_qrs_ms(lead, rate_hz=360.0) <= 110.0
    assert median_qt_ms(lead, rate_hz=360.0) == pytest.approx(386.0, abs=30.6)
    assert median_qtc_bazett_ms(lead, rate_hz=360.0) > median_qtc_fridericia_ms(
        lead, rate_hz=360.0
    )  # 71 per min
    assert abs(median_st_j60(lead, rate_hz=360.0) / 200.0) < 0.1  # 200 units per mV
    assert np.isnan(median_over_strips(lambda d: np.full_like(d.rr_ms, np.nan), lead, rate_hz=360.0))


@pytest.mark.shared_data
def test_bundle_branch_block_is_wide_and_normal_conduction_is_not(mit_bih) -> None:  # type: ignore[no-untyped-def]
    def qrs_ms(record: int) -> float:
        return median_qrs_ms(mit_bih(record)[0][: 360 * 120], rate_hz=360.0)

    assert min(qrs_ms(109), qrs_ms(111), qrs_ms(118)) >= 120.0  # left, left and right, by their labels
    assert max(qrs_ms(100), qrs_ms(101), qrs_ms(103), qrs_ms(115)) < 110.0


def test_a_plateau_before_the_peak_belongs_to_the_complex() -> None:
    # 70 ms of plateau between a steep rise and the peak: flat, and 0.6 mV above the baseline
    ecg, _ = synthetic(waves=(P, R, S, T))
    times_s = np.arange(ecg.size) / RATE_HZ
    for beat_s in 0.6 + np.cumsum(0.85 + 0.05 * np.sin(np.arange(44.0))):
        since_s = times_s - beat_s
        ecg += 0.6 * np.clip((since_s + 0.09) / 0.01, 0, 1) * np.clip(-since_s / 0.02, 0, 1)
    found = delineate(ecg, detect_qrs(ecg, rate_hz=RATE_HZ), rate_hz=RATE_HZ)
    # from 90 ms before R to 48 behind it, 12 ms wider on either side by smoothing
    assert np.nanmedian(found.qrs_ms) == pytest.approx(138.0 + 24.0, abs=8.0)


def test_the_record_holds_one_entry_per_beat() -> None:
    ecg, _ = synthetic()
    beats = detect_qrs(ecg, rate_hz=RATE_HZ)
    found = delineate(ecg, beats, rate_hz=RATE_HZ)
    assert isinstance(found, Delineation)
    assert found.qtc_ms("hodges").shape == beats.shape
    assert (found.p_onset < found.p_peak)[1:].all()
    assert (found.p_offset <= found.qrs_onset)[1:].all()
    assert (found.t_peak < found.t_end)[:-1].all()
