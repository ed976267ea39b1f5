"""Shares within tolerances against counts by hand and published limits; special controls of iCGM."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.counted_share import counted_share
from analysis.glucose_accuracy import (
    FDA_OTC_95,
    FDA_OTC_99,
    FDA_POC_95,
    ISO_15197_2013,
    Tolerance,
    agreement_20_20,
    mard_percent,
    mgdl_from_mmoll,
    within_tolerance,
)
from analysis.icgm import ICGM_CONTROLS, icgm_contradictions, icgm_controls, icgm_rates
from protocols.errors import SignalError


@pytest.mark.shared_data
def test_mard_of_published_pairs(shared: Path) -> None:
    data = np.genfromtxt(shared / "oracles/ega_glucose_pairs.csv", delimiter=",", names=True)
    assert mard_percent(data["ref"], data["test"]) == pytest.approx(20.82, abs=0.005)


@pytest.mark.parametrize(
    ("tolerance", "reference", "test", "within"),
    [
        (ISO_15197_2013, 99.0, 114.0, True),  # 15 mg/dL below 100
        (ISO_15197_2013, 99.0, 115.0, False),
        (ISO_15197_2013, 100.0, 115.0, True),  # 15 % from 100
        (ISO_15197_2013, 200.0, 170.0, True),
        (ISO_15197_2013, 200.0, 169.0, False),
        (FDA_OTC_95, 40.0, 46.0, True),  # 15 % at any glucose, no mg/dL
        (FDA_OTC_95, 40.0, 47.0, False),
        (FDA_OTC_99, 55.0, 66.0, True),
        (FDA_OTC_99, 55.0, 67.0, False),
        (FDA_POC_95, 74.0, 86.0, True),  # 12 mg/dL below 75, 12 % from there
        (FDA_POC_95, 75.0, 84.0, True),
        (FDA_POC_95, 75.0, 85.0, False),
    ],
)
def test_tolerances_at_their_edges(tolerance: Tolerance, reference: float, test: float, within: bool) -> None:
    assert within_tolerance([reference], [test], tolerance).count == int(within)


def test_the_split_of_20_20_is_a_parameter() -> None:
    assert agreement_20_20([75.0], [94.0]).count == 1
    assert agreement_20_20([75.0], [94.0], split_mgdl=70.0).count == 0


def test_bounds_are_the_exact_binomial_ones() -> None:
    share = counted_share(95, 100)
    by_scipy = stats.binomtest(95, 100).proportion_ci(0.95, method="exact")
    assert (share.low_percent, share.high_percent) == pytest.approx((100 * by_scipy.low, 100 * by_scipy.high))
    assert share.lower_bound_percent == pytest.approx(100 * stats.beta.ppf(0.05, 95, 6))
    assert share.upper_bound_percent == pytest.approx(100 * stats.beta.ppf(0.95, 96, 5))


@pytest.mark.parametrize(("n", "percent"), [(149, 98.0), (299, 99.0)])
def test_a_range_without_errors_needs_so_many_pairs(n: int, percent: float) -> None:
    assert counted_share(n, n).lower_bound_percent > percent
    assert counted_share(n - 1, n - 1).lower_bound_percent < percent


def test_lower_bounds_hold_as_often_as_they_say() -> None:
    # exact bounds: at least 95 %, and discrete, so somewhat more
    counts = np.random.default_rng(3).binomial(150, 0.9, 2000)
    bounds = {count: counted_share(count, 150).lower_bound_percent for count in set(counts.tolist())}
    covered = np.mean([bounds[count] <= 90.0 for count in counts.tolist()])
    assert 0.95 - 3 * 0.0049 <= covered <= 0.985


@pytest.mark.shared_data
def test_special_controls_are_those_of_the_regulation(shared: Path) -> None:
    ranges = {"<70": (0.0, 70.0), "70-180": (70.0, 180.0), ">180": (180.0, np.inf), "all": (0.0, np.inf)}
    with (shared / "oracles/icgm_21cfr862_1355.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(ICGM_CONTROLS)
    for row, (letter, between, tolerance, must_exceed) in zip(rows, ICGM_CONTROLS, strict=True):
        assert (row["criterion"], ranges[row["icgm_range_mgdl"]]) == (letter, between)
        assert float(row["tolerance"]) == (tolerance.mgdl if row["kind"] == "abs" else tolerance.percent)
        assert float(row["lower_one_sided_95_bound_must_exceed_pct"]) == must_exceed


def test_special_controls_sort_by_the_sensor() -> None:
    reference = [60.0, 90.0, 100.0, 200.0, 260.0, 185.0, np.nan]
    sensor = [69.0, 69.0, 70.0, 180.0, 200.0, 181.0, 100.0]
    found = {control.control: control for control in icgm_controls(reference, sensor)}
    assert {letter: control.within.n for letter, control in found.items()} == {
        **dict.fromkeys("AD", 2),
        **dict.fromkeys("BE", 2),
        **dict.fromkeys("CF", 2),
        "G": 6,
    }
    assert {letter: control.within.count for letter, control in found.items()} == {
        "A": 1,  # 60 and 69; not 90 and 69
        "B": 1,  # 200 and 180; not 100 and 70
        "C": 1,
        "D": 2,
        "E": 2,
        "F": 2,
        "G": 3,
    }
    assert all(control.within.excluded == 1 for control in found.values())
    assert all(np.isnan(control.subject_lower_bound_percent) for control in found.values())


def test_bound_by_subjects_is_lower_where_subjects_differ(rng: np.random.Generator) -> None:
    subject = np.repeat(np.arange(60), 20)
    reference = rng.uniform(75.0, 175.0, subject.size)
    good_subject = (np.arange(60) % 5 > 0)[subject]  # a fifth of the subjects has a sensor that is always off
    sensor = np.clip(np.where(good_subject, reference, 1.5 * reference), 70.0, 180.0)
    first = icgm_controls(reference, sensor, subject=subject, seed=1)
    again = icgm_controls(reference, sensor, subject=subject, seed=1)
    assert repr(first) == repr(again)
    control = next(one for one in first if one.control == "B")
    # by subjects: 80 % less 1.645 standard errors of 60 subjects; by pairs the bound is much too near
    assert control.subject_lower_bound_percent < control.within.lower_bound_percent - 3.0
    order = rng.permutation(subject.size)
    shuffled = icgm_controls(reference[order], sensor[order], subject=subject[order], seed=1)
    assert [one.subject_lower_bound_percent for one in shuffled] == pytest.approx(
        [one.subject_lower_bound_percent for one in first], nan_ok=True
    )


def test_contradictions_and_rates() -> None:
    found = icgm_contradictions([181.0, 180.0, 69.0, 70.0, np.nan], [69.0, 69.0, 181.0, 181.0, 60.0])
    assert (found.low_over_high, found.high_over_low, found.n, found.excluded) == (1, 1, 4, 1)
    rates = icgm_rates([-2.5, -2.5, -2.0, 2.5, np.nan], [1.5, 1.0, 1.5, -1.5, 0.0])
    falling, rising = rates.rising_while_falling, rates.falling_while_rising
    assert (falling.count, falling.n, rising.count, rising.n) == (1, 2, 1, 1)
    assert np.isnan(icgm_rates([0.0], [0.0]).rising_while_falling.percent)


def test_mmoll_are_converted_by_18_0182() -> None:
    assert mgdl_from_mmoll([5.0, 10.0]) == pytest.approx([90.091, 180.182])


def test_no_pairs_give_nan() -> None:
    empty = within_tolerance([np.nan], [100.0], ISO_15197_2013)
    assert (empty.n, empty.excluded) == (0, 1)
    assert np.isnan([empty.percent, empty.low_percent, empty.lower_bound_percent]).all()
    assert np.isnan(mard_percent([], []))


@pytest.mark.parametrize(
    ("reference", "test", "says"),
    [
        ([100.0], [100.0, 101.0], "1 reference_mgdl for 2"),
        ([0.0], [100.0], "reference_mgdl from 0 to 0"),
        ([100.0], [-5.0], "test_mgdl from -5"),
        ([100.0], [2500.0], "test_mgdl from 2500"),
        ([100.0], [np.inf], "infinite"),
    ],
)
def test_impossible_glucose_is_named(reference: list[float], test: list[float], says: str) -> None:
    for call in (mard_percent, agreement_20_20, icgm_controls, icgm_contradictions):
        with pytest.raises(SignalError, match=says):
            call(reference, test)


def test_misuse_of_options_is_named() -> None:
    with pytest.raises(SignalError, match="level=95"):
        within_tolerance([100.0], [100.0], ISO_15197_2013, level=95)
    with pytest.raises(SignalError, match="split_mgdl=0"):
        agreement_20_20([100.0], [100.0], split_mgdl=0)
    with pytest.raises(SignalError, match="1 reference rates for 2"):
        icgm_rates([1.0], [1.0, 2.0])
    with pytest.raises(SignalError, match="one for each of 1 pairs"):
        icgm_controls([100.0], [100.0], subject=["a", "b"])
