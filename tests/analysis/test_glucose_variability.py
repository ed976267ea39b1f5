"""Variability of glucose: published answers to their last digit, known waves, gaps."""

from __future__ import annotations

import csv
import gzip
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis import glucose_variability as variability
from analysis.glucose import gri
from analysis.glucose_grid import GlucoseGrid, daily_grid
from protocols.errors import SignalError

Floats = NDArray[np.float64]
MINUTE_NS = 60_000_000_000
EST = timezone(timedelta(hours=-5))
DIRECTIONS = {"plus": "plus", "minus": "minus", "avg": "average", "service": "service", "max": "max"}


def grid_of(values: Floats, step_min: int = 5) -> GlucoseGrid:
    """Return a grid of whole days."""
    return GlucoseGrid(values.reshape(-1, 1440 // step_min), step_min, 0)


@pytest.fixture(scope="session")
def five_subjects(shared: Path) -> tuple[list[str], NDArray[np.int64], Floats]:
    """Subject, UTC in ns and reading of the rows of iglu's example that are at hand."""
    with gzip.open(shared / "data/cgm/iglu/example_5_subjects_1to3.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    times_ns = [int(datetime.fromisoformat(f"{row['time']}+00:00").timestamp()) * 10**9 for row in rows]
    return [row["id"] for row in rows], np.array(times_ns), np.array([float(row["gl"]) for row in rows])


@pytest.fixture(scope="session")
def subject_1(shared: Path) -> tuple[NDArray[np.int64], Floats]:
    with (shared / "oracles/iglu_cgm_1_subject.csv").open() as file:
        rows = list(csv.DictReader(file))
    times = [datetime.fromisoformat(row["local_time_est"]).replace(tzinfo=EST) for row in rows]
    times_ns = [int(time.timestamp()) * 10**9 for time in times]
    return np.array(times_ns), np.array([float(row["glucose_mgdl"]) for row in rows])


@pytest.mark.shared_data
def test_mage_equals_the_published_figures_to_their_last_digit(
    shared: Path, five_subjects: tuple[list[str], NDArray[np.int64], Floats]
) -> None:
    _, times_ns, values = five_subjects
    folder = shared / "data/cgm/iglu"
    with (folder / "manual_calculations.csv").open() as file:
        stretches = [row for row in csv.DictReader(file) if row["dataset"] == "JHU"]
    with (folder / "mage_ground_truth.csv").open() as file:
        answers = list(csv.DictReader(file))  # one for each of these stretches
    n_compared = 0
    for stretch, answer in zip(stretches, answers, strict=True):
        rows = slice(int(stretch["start"]) - 1, int(stretch["end"]))
        if rows.stop > values.size:
            continue  # a subject that is not at hand
        grid = daily_grid(values[rows], times_ns=times_ns[rows])
        for column, direction in DIRECTIONS.items():
            found = variability.mage_mgdl(grid, direction=direction)  # type: ignore[arg-type]
            assert found == pytest.approx(float(answer[f"mage_{column}"]), rel=1e-12), (stretch, column)
        n_compared += 1
    assert n_compared == 7


@pytest.mark.shared_data
def test_published_answers_of_fourteen_days(subject_1: tuple[NDArray[np.int64], Floats]) -> None:
    times_ns, values = subject_1
    grid = daily_grid(values, times_ns=times_ns, utc_offset_min=-300.0)
    assert grid.glucose_mgdl.shape == (14, 288)
    assert variability.conga_mgdl(grid) == pytest.approx(37.0, abs=0.05)  # printed on the package's page
    # Rodbard: the spread of single times splits into days and what is left
    sds = variability.daily_sds(grid)
    assert sds.same_time_corrected < sds.same_time
    assert sds.within_hours < sds.within_days


@pytest.mark.shared_data
def test_published_risk_index_of_three_subjects(
    five_subjects: tuple[list[str], NDArray[np.int64], Floats],
) -> None:
    names, _, values = five_subjects
    # printed on the reference page of iglu's `gri`, three digits
    for name, printed in (("Subject 1", 7.19), ("Subject 2", 79.7), ("Subject 3", 20.0)):
        of_subject = values[np.array(names) == name]
        assert gri(of_subject) == pytest.approx(printed, abs=0.5 * 10 ** (np.floor(np.log10(printed)) - 2))


def test_mage_of_a_sawtooth_is_its_height() -> None:
    wave = 150.0 - 40.0 * np.cos(2 * np.pi * np.arange(288 * 2) / 72.0)  # four meals a day, from nadir to nadir
    grid = grid_of(wave)
    for direction in DIRECTIONS.values():
        # a grid of 5 min meets the peaks
        assert variability.mage_mgdl(grid, direction=direction) == pytest.approx(80.0, abs=1.0)  # type: ignore[arg-type]


def test_small_waves_on_large_ones_are_no_excursions() -> None:
    times = np.arange(288 * 2)
    grid = grid_of(150.0 - 40.0 * np.cos(2 * np.pi * times / 144.0) + 3.0 * np.sin(2 * np.pi * times / 9.0))
    assert variability.mage_mgdl(grid) == pytest.approx(83.0, abs=3.0)  # 80 of the large, up to 6 of the small


def test_mage_turns_with_the_trace() -> None:
    rising = np.tile(np.concatenate([np.linspace(90, 190, 30), np.linspace(190, 90, 66)]), 6)
    upright, turned = grid_of(rising), grid_of(300.0 - rising)
    plus = variability.mage_mgdl(upright, direction="plus")
    assert variability.mage_mgdl(turned, direction="minus") == pytest.approx(plus)
    assert variability.mage_mgdl(grid_of(2.0 * rising), direction="plus") == pytest.approx(2.0 * plus)


def test_mage_is_unknown_without_an_excursion() -> None:
    assert np.isnan(variability.mage_mgdl(grid_of(np.full(288, 120.0))))
    assert np.isnan(variability.mage_mgdl(grid_of(np.full(288, np.nan))))
    assert np.isnan(variability.mage_mgdl(daily_grid([], times_ns=[])))


def test_differences_of_days_are_what_days_differ_by() -> None:
    day = 120.0 + 30.0 * np.sin(2 * np.pi * np.arange(288) / 288.0)
    grid = grid_of(np.concatenate([day, day + 10.0, day - 4.0]))
    assert variability.modd_mgdl(grid) == pytest.approx(12.0)
    assert variability.modd_mgdl(grid, lag_days=2) == pytest.approx(4.0)
    assert variability.conga_mgdl(grid) == pytest.approx(np.std(np.repeat([10.0, -14.0], 288), ddof=1))
    assert np.isnan(variability.modd_mgdl(grid_of(day)))


def test_conga_of_a_ramp_is_nought_and_of_a_wave_is_known() -> None:
    assert variability.conga_mgdl(grid_of(60.0 + np.arange(288.0) / 2), hours=1) == pytest.approx(0.0, abs=1e-9)
    times_h = np.arange(288 * 4) / 12.0
    grid = grid_of(150.0 + 40.0 * np.sin(2 * np.pi * times_h / 4.0))
    # a wave of 4 h less itself 1 h before is a wave of 40 sqrt(2), whose SD is 40
    assert variability.conga_mgdl(grid, hours=1) == pytest.approx(40.0, rel=0.01)
    assert variability.conga_mgdl(grid, hours=4) == pytest.approx(0.0, abs=1e-9)


def test_change_length_and_area_of_a_ramp() -> None:
    grid = grid_of(60.0 + np.arange(288.0))  # 12 mg/dL an hour
    assert variability.mag_mgdl_per_h(grid) == pytest.approx(12.0)
    assert variability.gvp_percent(grid) == pytest.approx(100.0 * (np.hypot(1.0, 5.0) / 5.0 - 1.0))
    assert variability.auc_mgdl_h_per_h(grid) == pytest.approx(60.0 + 287 / 2)
    rates = variability.rates_mgdl_per_min(grid)
    assert np.isnan(rates[:3]).all()
    np.testing.assert_allclose(rates[3:], 0.2)
    assert variability.sd_of_rates_mgdl_per_min(grid) == pytest.approx(0.0, abs=1e-9)


def test_risk_of_a_day_is_its_highest_plus_its_lowest() -> None:
    times_ns = np.array([0, 60, 120, 1440, 1500]) * MINUTE_NS
    # risks 100 at 20 and 600 mg/dL, none at 112.5; the second day has the low side only
    risk = variability.adrr([20.0, 112.5, 600.0, 20.0, 112.5], times_ns=times_ns)
    assert risk == pytest.approx(150.0, rel=0.01)
    # an hour west the first reading of the second day belongs to the first
    moved = variability.adrr([112.5, 112.5, 600.0, 20.0, 112.5], times_ns=times_ns, utc_offset_min=-30.0)
    assert moved == pytest.approx(np.mean([0.0, 200.0, 0.0]), rel=0.02)
    assert np.isnan(variability.adrr([], times_ns=[]))


def test_standard_deviations_of_days_are_those_that_were_put_in() -> None:
    levels = np.array([100.0, 120.0, 140.0])
    wave = 20.0 * np.sin(2 * np.pi * np.arange(288) / 288.0)
    sds = variability.daily_sds(grid_of((levels[:, np.newaxis] + wave).ravel()))
    assert sds.within_days == pytest.approx(wave.std(ddof=1))
    assert sds.between_times == pytest.approx(wave.std(ddof=1))
    assert sds.between_days == pytest.approx(20.0)
    assert sds.same_time == pytest.approx(20.0)
    assert sds.same_time_corrected == pytest.approx(0.0, abs=1e-9)
    mean, spread = variability.daily_cvs_percent(grid_of((levels[:, np.newaxis] + wave).ravel()))
    expected = 100.0 * wave.std(ddof=1) / levels
    assert (mean, spread) == pytest.approx((expected.mean(), expected.std(ddof=1)))


def test_what_the_grid_does_not_know_takes_no_part(rng: np.random.Generator) -> None:
    day = np.rint(rng.uniform(80.0, 200.0, 288 * 3))
    day[300:310] = np.nan
    grid = grid_of(day)
    assert variability.modd_mgdl(grid) == pytest.approx(np.nanmean(np.abs(day[288:] - day[:-288])))
    assert variability.mag_mgdl_per_h(grid) == pytest.approx(12.0 * np.nanmean(np.abs(np.diff(day))))
    assert variability.daily_sds(grid).within_days == pytest.approx(
        np.mean([np.nanstd(part, ddof=1) for part in day.reshape(3, 288)])
    )


def test_an_empty_recording_has_no_figure() -> None:
    grid = daily_grid([], times_ns=[])
    for figure in (
        variability.modd_mgdl,
        variability.conga_mgdl,
        variability.mag_mgdl_per_h,
        variability.gvp_percent,
        variability.auc_mgdl_h_per_h,
        variability.sd_of_rates_mgdl_per_min,
    ):
        assert np.isnan(figure(grid)), figure.__name__
    sds = variability.daily_sds(grid)
    assert np.isnan([sds.within_days, sds.within_hours, sds.between_days, sds.same_time]).all()


def test_misuse_is_named() -> None:
    grid = grid_of(np.full(288, 100.0))
    for call in (
        lambda: variability.mage_mgdl(grid, short_mean=9, long_mean=9),
        lambda: variability.modd_mgdl(grid, lag_days=0),
        lambda: variability.conga_mgdl(grid, hours=0.0),
        lambda: variability.rates_mgdl_per_min(grid, over_min=-1.0),
    ):
        with pytest.raises(SignalError, match="expected"):
            call()
