"""The step frequency of each second, and where steps lie on the grid."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from analysis.step_frequency import GRID_HZ, at_step_frequency, on_grid, peaks_of, step_frequency, whole_seconds

Floats = NDArray[np.float64]


def movement(step_hz: float, *, swing: float = 0.0, duration_s: int = 30) -> Floats:
    phase = 2 * np.pi * step_hz * np.arange(duration_s * GRID_HZ) / GRID_HZ
    return 2.5 * np.sin(phase) + swing * np.sin(phase / 2)


@pytest.mark.parametrize("swing", [0.0, 2.0])
@pytest.mark.parametrize("step_hz", [1.0, 1.5, 2.0, 2.6, 3.2])
def test_the_frequency_is_that_of_the_steps_not_of_the_stride(step_hz: float, swing: float) -> None:
    found_hz, walking = step_frequency(movement(step_hz, swing=swing), "anywhere", everywhere=False)
    inner = slice(3, -3)  # windows of 6 s that hold nothing else
    np.testing.assert_allclose(found_hz[inner], step_hz, atol=0.101)  # the grid of frequencies
    assert walking[inner].all()


def test_only_a_sensor_anywhere_is_asked_to_repeat() -> None:
    shaken = ndimage.gaussian_filter1d(np.random.default_rng(3).normal(size=200 * GRID_HZ), 0.06 * GRID_HZ)
    shaken *= 1.5 / shaken.std()
    (_, anywhere), (_, trunk) = (
        step_frequency(shaken, worn, everywhere=False) for worn in ("anywhere", "trunk")
    )
    assert trunk.mean() > 0.5
    assert anywhere.mean() < 0.2


def test_peaks_lie_on_the_steps_between_the_points_of_the_grid() -> None:
    grid = movement(1.9)
    peaks = peaks_of(at_step_frequency(grid, np.full(30, 1.9), np.ones(30, dtype=bool))) / GRID_HZ
    inner = peaks[(peaks > 3) & (peaks < 27)]
    off = (inner * 1.9 - 0.25 + 0.5) % 1.0 - 0.5
    assert np.abs(off / 1.9).max() < 0.01  # of a point's 0.04 s


@pytest.mark.parametrize("rate_hz", [15.0, 33.3, 100.0, 1000.0])
def test_the_grid_shows_the_norm_and_its_gaps(rate_hz: float) -> None:
    at_s = np.arange(int(10 * rate_hz)) / rate_hz
    norm = 9.80665 + np.sin(2 * np.pi * at_s)
    norm[(at_s >= 4.0) & (at_s < 5.0)] = np.nan
    grid = on_grid(norm, 0, 0, rate_hz)
    assert grid.size == GRID_HZ * whole_seconds(norm.size, rate_hz)
    grid_s = np.arange(grid.size) / GRID_HZ
    there = ((grid_s > 0.2) & (grid_s < 3.8)) | ((grid_s > 5.2) & (grid_s < 9.8))
    np.testing.assert_allclose(
        grid[there], np.sin(2 * np.pi * grid_s[there]), atol=0.08
    )  # smoothed by 0.12 s; at 15 Hz by 4 %, and lines
    assert np.isnan(grid[(grid_s > 4.2) & (grid_s < 4.8)]).all()
