"""Bounds of waves on rows: one wave each, of known slope and curvature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.ecg_waves import Rows, p_waves, qrs_bounds, t_waves

RATE_HZ = 1000.0
R = 450
COLUMNS = np.arange(1201)


def gaussian(at: float, sd: float, height: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return height * np.exp(-0.5 * ((COLUMNS - R - at) / sd) ** 2)


def rows(*samples: np.ndarray[Any, np.dtype[np.float64]], last: int = 1200) -> Rows:
    n = len(samples)
    return Rows(np.stack(samples), RATE_HZ, R, np.zeros(n, dtype=int), np.full(n, last), np.ones(n))


def test_a_qrs_complex_ends_where_the_smoothed_slope_is_small() -> None:
    # A Gaussian of 10 ms smoothed by one of 8 ms has 12.8 ms; its slope is 5 % of the steepest 3.04 deviations
    # before its peak, and 12.5 % 2.67 deviations behind it (u exp(-u^2 / 2) = share exp(-1/2)).
    onset, offset = qrs_bounds(rows(gaussian(0, 10, 1.0), gaussian(0, 10, -3.0)))
    assert onset - R == pytest.approx([-3.04 * 12.8] * 2, abs=1.5)
    assert offset - R == pytest.approx([2.67 * 12.8] * 2, abs=1.5)


def test_notches_belong_to_the_complex_and_distant_waves_do_not() -> None:
    notched = gaussian(0, 10, 1.0) + gaussian(60, 10, -0.4)
    distant = gaussian(0, 10, 1.0) + gaussian(170, 10, -0.4)
    _, offset = qrs_bounds(rows(notched, distant))
    assert offset[0] - R == pytest.approx(60 + 2.67 * 12.8, abs=2.0)
    assert offset[1] - R < 60


def test_a_t_wave_ends_where_its_tangent_meets_zero() -> None:
    # two deviations behind the peak of a Gaussian, here of sqrt(45^2 + 15^2) ms
    both = rows(gaussian(0, 10, 1.0) + gaussian(300, 45, 0.3), gaussian(0, 10, 1.0) - gaussian(300, 45, 0.3))
    peak, end = t_waves(both, *qrs_bounds(both))
    assert peak - R == pytest.approx([300, 300], abs=1)
    assert end - R == pytest.approx([300 + 2 * 47.4] * 2, abs=2)


def test_a_t_wave_that_the_next_beat_cuts_has_no_end() -> None:
    cut = rows(gaussian(0, 10, 1.0) + gaussian(300, 45, 0.3), last=R + 340)
    _, end = t_waves(cut, *qrs_bounds(cut))
    assert np.isnan(end).all()


def test_a_p_wave_is_bounded_by_half_of_its_steepest_slopes() -> None:
    # 1.93 deviations either side of the peak of a Gaussian of sqrt(22^2 + 10^2) ms
    beat = rows(gaussian(0, 10, 1.0) + gaussian(-170, 22, 0.1))
    onset, _ = qrs_bounds(beat)
    p_onset, p_peak, p_end = p_waves(beat, onset, np.array([np.nan]))
    assert p_peak - R == pytest.approx([-170], abs=1)
    assert [p_onset[0] - R, p_end[0] - R] == pytest.approx([-170 - 1.93 * 24.2, -170 + 1.93 * 24.2], abs=1.5)
    late = p_waves(beat, onset, np.array([R - 150.0]))
    assert np.isnan(late).all() or late[1][0] > R - 150


def test_flat_rows_have_no_waves() -> None:
    flat = rows(np.zeros(COLUMNS.size), np.full(COLUMNS.size, 7.0))
    bounds = qrs_bounds(flat)
    assert np.isnan(bounds).all()
    assert np.isnan(t_waves(flat, *bounds)).all()
    assert np.isnan(p_waves(flat, bounds[0], np.full(2, np.nan))).all()
