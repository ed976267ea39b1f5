"""Poincaré plot, entropies, fluctuations and fragmentation: against all pairs, known processes, and gaps."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.hrv_nonlinear import (
    ALPHA2_BEATS,
    approximate_entropy,
    dfa_alpha,
    entropies,
    inflection_percent,
    multiscale_entropy,
    sample_entropy,
    sd1_ms,
    sd2_ms,
)
from protocols.errors import SignalError

Floats = NDArray[np.float64]


def similar(row: Floats, run: int, tolerance: float) -> NDArray[np.bool_]:
    """Return which runs are similar, by comparing all pairs."""
    runs = np.lib.stride_tricks.sliding_window_view(row, run)
    with np.errstate(invalid="ignore"):
        return (np.abs(runs[:, np.newaxis] - runs[np.newaxis]) <= tolerance).all(axis=-1)


def sample_entropy_of_all_pairs(row: Floats, run: int, tolerance: float) -> float:
    whole = np.isfinite(np.lib.stride_tricks.sliding_window_view(row, run + 1)).all(axis=-1)
    shorter = similar(row, run, tolerance)[:-1, :-1][np.ix_(whole, whole)]
    longer = similar(row, run + 1, tolerance)[np.ix_(whole, whole)]
    return float(np.log((shorter.sum() - len(shorter)) / (longer.sum() - len(longer))))


def approximate_entropy_of_all_pairs(row: Floats, run: int, tolerance: float) -> float:
    def mean_log(length: int) -> float:
        return float(np.log(similar(row, length, tolerance).mean(axis=-1)).mean())

    return mean_log(run) - mean_log(run + 1)


@pytest.mark.shared_data
def test_published_sample_entropy_and_poincare_plot(shared: Path) -> None:
    nn_ms = np.loadtxt(shared / "oracles/hrv_nn_intervals.csv", skiprows=1)
    assert sample_entropy(nn_ms) == pytest.approx(1.20467, abs=5e-6)
    assert sd1_ms(nn_ms) == pytest.approx(13.80919, abs=5e-6)
    assert sd2_ms(nn_ms) == pytest.approx(59.38670, abs=5e-6)


@pytest.mark.parametrize("run_beats", [1, 2, 3])
@pytest.mark.parametrize("step_ms", [8.0, 1.0, None])
def test_entropies_equal_comparing_all_pairs(
    rng: np.random.Generator, run_beats: int, step_ms: float | None
) -> None:
    row = 800.0 + np.cumsum(rng.normal(0.0, 8.0, 400)) + 10.0 * rng.normal(size=400)
    if step_ms is not None:  # few distinct values are counted by table, many by tree
        row = step_ms * np.rint(row / step_ms)
    tolerance = 0.2 * float(row.std(ddof=1))
    expected = sample_entropy_of_all_pairs(row, run_beats, tolerance)
    assert sample_entropy(row, run_beats=run_beats) == pytest.approx(expected, rel=1e-12)
    expected = approximate_entropy_of_all_pairs(row, run_beats, tolerance)
    assert approximate_entropy(row, run_beats=run_beats) == pytest.approx(expected, rel=1e-9)
    # a tolerance on the edge of a step counts as similar
    assert sample_entropy(row, run_beats=run_beats, tolerance_ms=16.0) == pytest.approx(
        sample_entropy_of_all_pairs(row, run_beats, 16.0), rel=1e-12
    )


@pytest.mark.parametrize("step_ms", [8.0, None])
def test_runs_with_a_rejected_beat_take_no_part(rng: np.random.Generator, step_ms: float | None) -> None:
    row = 800.0 + 30.0 * rng.normal(size=300)
    row = row if step_ms is None else step_ms * np.rint(row / step_ms)
    row[[0, 40, 41, 150, 299]] = np.nan
    expected = sample_entropy_of_all_pairs(row, 2, 0.2 * float(np.nanstd(row, ddof=1)))
    assert sample_entropy(row) == pytest.approx(expected, rel=1e-12)
    assert np.isfinite(approximate_entropy(row))


def test_both_entropies_at_once_are_the_two(rng: np.random.Generator) -> None:
    rows = np.rint(800.0 + 30.0 * rng.normal(size=(3, 200)))
    sample, approximate = entropies(rows)
    np.testing.assert_allclose(sample, sample_entropy(rows))
    np.testing.assert_allclose(approximate, approximate_entropy(rows))


def test_entropy_knows_neither_unit_nor_offset_and_orders_noise_above_rhythm(rng: np.random.Generator) -> None:
    row = 800.0 + 30.0 * rng.normal(size=500)
    assert sample_entropy(3.0 * row + 100.0) == pytest.approx(float(sample_entropy(row)))
    wave = 800.0 + 30.0 * np.sin(np.arange(500) / 3.0)
    assert sample_entropy(wave) < 0.5 * sample_entropy(row)
    assert sample_entropy(800.0 + 30.0 * np.tile([0.0, 1.0, 0.0, -1.0], 100)) == 0.0


def test_white_noise_has_the_entropy_that_theory_gives(rng: np.random.Generator) -> None:
    row = 800.0 + 30.0 * rng.normal(size=20_000)
    # two normal values lie within 0.2 SD with probability erf(0.1) = 0.1125
    assert sample_entropy(np.rint(10.0 * row) / 10.0) == pytest.approx(-np.log(0.1125), rel=0.02)


def test_coarse_graining_lowers_the_entropy_of_white_noise_not_of_pink(rng: np.random.Generator) -> None:
    white = 800.0 + 30.0 * rng.normal(size=3000)
    of_white = multiscale_entropy(white, scales=5)
    assert of_white.shape == (5,)
    assert (np.diff(of_white) < 0.0).all()
    assert of_white[0] == pytest.approx(float(sample_entropy(white, tolerance_ms=0.15 * white.std(ddof=1))))
    spectrum = np.fft.rfft(rng.normal(size=3000))
    spectrum[1:] /= np.sqrt(np.arange(1, spectrum.size))
    pink = np.fft.irfft(spectrum)
    pink = 800.0 + 30.0 * pink / pink.std()
    of_pink = multiscale_entropy(pink, scales=5)
    assert of_pink[4] > of_white[4]  # Costa et al. 2002, figure 1: their order is reversed
    assert of_pink[0] < of_white[0]


def test_scaling_exponents_of_known_noises(rng: np.random.Generator) -> None:
    white = 800.0 + 30.0 * rng.normal(size=50_000)
    brown = 800.0 + np.cumsum(rng.normal(size=50_000)) * 0.5
    # 0.5 and 1.5 for long boxes; below 16 beats the exponent of white noise is known to lie higher
    assert dfa_alpha(white, box_beats=ALPHA2_BEATS) == pytest.approx(0.5, abs=0.04)
    assert dfa_alpha(brown, box_beats=ALPHA2_BEATS) == pytest.approx(1.5, abs=0.04)
    assert 0.5 < dfa_alpha(white) < 0.7
    assert dfa_alpha(5.0 * white - 100.0) == pytest.approx(float(dfa_alpha(white)))


def test_fluctuation_is_that_of_boxes_fitted_one_by_one(rng: np.random.Generator) -> None:
    row = 800.0 + 20.0 * rng.normal(size=200)
    profile = np.cumsum(row - row.mean())
    sizes, fluctuations = np.array([4, 5]), []
    for size in sizes:
        squares = []
        for box in profile[: 200 // size * size].reshape(-1, size):
            slope, offset = np.polyfit(np.arange(size), box, 1)
            squares.append(np.mean((box - slope * np.arange(size) - offset) ** 2))
        fluctuations.append(np.sqrt(np.mean(squares)))
    expected = np.diff(np.log(fluctuations)) / np.diff(np.log(sizes))
    assert dfa_alpha(row, box_beats=(4, 5)) == pytest.approx(float(expected[0]), rel=1e-9)


def test_rejected_beats_are_left_out_of_the_fluctuation(rng: np.random.Generator) -> None:
    row = 800.0 + 20.0 * rng.normal(size=300)
    gaps = np.insert(row, [10, 100, 200], np.nan)
    assert dfa_alpha(gaps) == pytest.approx(float(dfa_alpha(row)))


def test_inflections_worked_out_by_hand() -> None:
    assert inflection_percent([800, 810, 820, 830, 840.0]) == 0.0
    assert inflection_percent([800, 810, 800, 810, 800.0]) == pytest.approx(60.0)  # 3 of 5 intervals
    assert inflection_percent([800, 810, 810, 820.0]) == pytest.approx(50.0)  # a standstill counts
    assert inflection_percent([800, 810, np.nan, 800, 810, 800.0]) == pytest.approx(20.0)
    assert np.isnan(inflection_percent([800, 810.0]))


def test_poincare_plot_is_that_of_the_rotated_pairs(rng: np.random.Generator) -> None:
    row = 800.0 + np.cumsum(rng.normal(0.0, 3.0, 2000))
    across, along = (row[1:] - row[:-1]) / np.sqrt(2), (row[1:] + row[:-1]) / np.sqrt(2)
    assert sd1_ms(row) == pytest.approx(across.std(ddof=1))
    assert sd2_ms(row) == pytest.approx(
        along.std(ddof=1), rel=0.01
    )  # by SDNN, which holds the end beats as well


def test_rows_and_layouts_do_not_matter(rng: np.random.Generator) -> None:
    rows = np.rint(800.0 + 30.0 * rng.normal(size=(2, 2, 300)))
    rows[0, 0, 5] = np.nan
    rows.flags.writeable = False
    for figure in (sd1_ms, sd2_ms, sample_entropy, approximate_entropy, dfa_alpha, inflection_percent):
        batch = figure(np.asfortranarray(rows))
        for index in np.ndindex(2, 2):
            assert batch[index] == pytest.approx(float(figure(rows[index])), rel=1e-12)


@pytest.mark.parametrize("row", [np.empty(0), np.full(300, np.nan), np.full(300, 800.0), np.full(2, 800.0)])
def test_nothing_to_compare_gives_nan(row: Floats) -> None:
    assert np.isnan([sample_entropy(row), approximate_entropy(row), dfa_alpha(row)]).all()
    assert np.isnan(multiscale_entropy(row)).all()


def test_long_series_are_counted_in_little_memory(rng: np.random.Generator) -> None:
    row = np.rint(800.0 + 100.0 * np.sin(np.arange(100_000) / 9e3) + 20.0 * rng.normal(size=100_000))
    tracemalloc.start()
    value = sample_entropy(row)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.0 < value < 2.5
    assert peak < 8 * row.nbytes  # all pairs would be 10 GB


def test_misuse_is_named() -> None:
    row = np.linspace(700.0, 900.0, 100)
    for call in (
        lambda: sample_entropy(row, run_beats=0),
        lambda: sample_entropy(row, tolerance_ms=0.0),
        lambda: multiscale_entropy(row, scales=0),
        lambda: dfa_alpha(row, box_beats=(16, 4)),
        lambda: sd1_ms(0.8 * np.ones(50)),
    ):
        with pytest.raises(SignalError, match="expected"):
            call()
