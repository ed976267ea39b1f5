"""Figures of glucose readings: published answers to their last digit, limits, shapes, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis import glucose
from protocols.errors import SignalError

Floats = NDArray[np.float64]
MINUTE_NS = 60_000_000_000
FIGURES = (
    glucose.mean_mgdl,
    glucose.sd_mgdl,
    glucose.cv_percent,
    glucose.gmi_percent,
    glucose.ea1c_percent,
    glucose.in_range_percent,
    glucose.below_percent,
    glucose.above_percent,
    glucose.lbgi,
    glucose.hbgi,
    glucose.bgri,
    glucose.j_index,
    glucose.grade,
    glucose.m_value,
    glucose.cogi,
    glucose.gri,
    glucose.hyper_index,
    glucose.hypo_index,
)


@pytest.fixture(scope="session")
def subject_1(shared: Path) -> Floats:
    """2,915 readings in 14 days, the example of the iglu package; answers in the README of the oracles."""
    return np.loadtxt(shared / "oracles/iglu_cgm_1_subject.csv", delimiter=",", skiprows=1, usecols=1)


@pytest.mark.shared_data
def test_published_answers_of_fourteen_days(subject_1: Floats) -> None:
    assert subject_1.size == 2915
    assert glucose.mean_mgdl(subject_1) == pytest.approx(123.6655, abs=5e-5)
    assert glucose.sd_mgdl(subject_1) == pytest.approx(33.2681, abs=5e-5)
    assert glucose.in_range_percent(subject_1) == pytest.approx(91.6638, abs=5e-5)
    assert glucose.gmi_percent(subject_1) == pytest.approx(6.2681, abs=5e-5)
    assert glucose.lbgi(subject_1) == pytest.approx(0.4321, abs=5e-5)
    assert glucose.hbgi(subject_1) == pytest.approx(1.8074, abs=5e-5)
    assert glucose.j_index(subject_1) == pytest.approx(24.6282, abs=5e-5)
    # quartiles and shares that the package's page prints
    np.testing.assert_array_equal(np.percentile(subject_1, [0, 25, 50, 75, 100]), [66, 99, 112, 143, 276])
    assert glucose.in_range_percent(subject_1, low_mgdl=63, high_mgdl=140) == pytest.approx(73.9, abs=0.05)


def test_limits_belong_to_the_range() -> None:
    readings = [53.0, 54.0, 69.0, 70.0, 140.0, 141.0, 180.0, 181.0, 250.0, 251.0]
    assert glucose.in_range_percent(readings) == 40.0
    assert glucose.below_percent(readings) == 30.0
    assert glucose.below_percent(readings, limit_mgdl=54.0) == 10.0
    assert glucose.above_percent(readings) == 30.0
    assert glucose.above_percent(readings, limit_mgdl=250.0) == 10.0
    # 3 x 10 + 2.4 x 20 + 1.6 x 10 + 0.8 x 20
    assert glucose.gri(readings) == pytest.approx(100.0)
    assert glucose.gri([*readings, *[100.0] * 10]) == pytest.approx(55.0)


def test_shares_add_up(rng: np.random.Generator) -> None:
    readings = rng.uniform(40.0, 300.0, 1000)
    parts = (
        glucose.in_range_percent(readings) + glucose.below_percent(readings) + glucose.above_percent(readings)
    )
    assert parts == pytest.approx(100.0)
    assert sum(float(share) for share in glucose.grade_shares_percent(readings)) == pytest.approx(100.0)


def test_figures_worked_out_by_hand() -> None:
    assert glucose.gmi_percent([150.0]) == pytest.approx(6.898)
    assert glucose.ea1c_percent([154.0]) == pytest.approx((46.7 + 154.0) / 28.7)  # about 7 %
    assert glucose.cv_percent([90.0, 110.0]) == pytest.approx(100.0 * np.sqrt(200.0) / 100.0)
    assert glucose.m_value([90.0, 900.0]) == pytest.approx(500.0)
    assert glucose.grade([180.0]) == pytest.approx(425.0 * 0.16**2)  # 10 mmol/L
    assert glucose.hyper_index([140.0 + 30.0]) == pytest.approx(30.0**1.1 / 30.0)
    assert glucose.hypo_index([80.0 - 30.0]) == pytest.approx(30.0)
    assert glucose.cogi([100.0] * 20) == 100.0
    # Kovatchev: the scale is zero at 112.5 mg/dL and +-sqrt(10) at 20 and 600 mg/dL, so risks reach 100
    assert glucose.bgri([112.5]) == pytest.approx(0.0, abs=1e-3)
    assert glucose.lbgi([20.0]) == pytest.approx(100.0, rel=0.01)
    assert glucose.hbgi([600.0]) == pytest.approx(100.0, rel=0.01)


def test_order_does_not_matter_and_missing_readings_are_left_out(rng: np.random.Generator) -> None:
    readings = rng.uniform(45.0, 320.0, 300)
    gaps = np.insert(rng.permutation(readings), [0, 10, 299], np.nan)
    for figure in FIGURES:
        assert figure(gaps) == pytest.approx(float(figure(readings))), figure.__name__


def test_batch_equals_row_by_row_whatever_the_layout(rng: np.random.Generator) -> None:
    rows = np.rint(rng.uniform(45.0, 320.0, (2, 3, 50)))
    kept = rows.copy()
    rows.flags.writeable = False
    for figure in FIGURES:
        batch = figure(np.asfortranarray(rows))
        np.testing.assert_allclose(figure(rows.astype(np.uint16)), batch)
        for index in np.ndindex(2, 3):
            assert batch[index] == pytest.approx(float(figure(rows[index])))
    np.testing.assert_array_equal(rows, kept)


@pytest.mark.parametrize("readings", [[], [np.nan, np.nan]])
def test_no_reading_gives_nan(readings: list[float]) -> None:
    for figure in FIGURES:
        assert np.isnan(figure(readings)), figure.__name__
    summary = glucose.cgm_summary(readings, times_ns=np.arange(len(readings)))
    assert summary.n_readings == 0
    assert np.isnan([summary.wear_percent, summary.in_range_percent]).all()
    assert not summary.sufficient


def test_constant_glucose_does_not_vary() -> None:
    readings = np.full(100, 110.0)
    assert glucose.sd_mgdl(readings) == glucose.cv_percent(readings) == 0.0
    assert np.isnan(glucose.sd_mgdl([110.0]))


def test_summary_counts_wear_from_the_sensors_own_interval() -> None:
    times_ns = np.arange(14 * 288) * 5 * MINUTE_NS
    worn = np.full(times_ns.size, 100.0)
    full = glucose.cgm_summary(worn, times_ns=times_ns)
    assert full.wear_percent == 100.0
    assert full.days == pytest.approx(14.0, abs=0.01)
    assert full.in_range_percent == full.tight_range_percent == 100.0
    assert full.sufficient
    worn[288 : 288 * 6] = np.nan
    part = glucose.cgm_summary(worn, times_ns=times_ns)
    assert part.wear_percent == pytest.approx(100 * 9 / 14, abs=0.1)
    assert not part.sufficient
    every_15_min = glucose.cgm_summary(np.full(96, 100.0), times_ns=np.arange(96) * 15 * MINUTE_NS)
    assert every_15_min.wear_percent == 100.0
    assert not every_15_min.sufficient


def test_other_units_and_infinities_are_named() -> None:
    for readings, says in (
        ([100.0, 0.0], "mg/dL"),
        ([100.0, -5.0], "mg/dL"),
        ([3000.0], "mg/dL"),
        ([100.0, np.inf], "infinite"),
        (100.0, "time axis"),
        (["100"], "dtype"),
    ):
        with pytest.raises(SignalError, match=says):
            glucose.mean_mgdl(readings)  # type: ignore[arg-type]
    with pytest.raises(SignalError, match="limit_mgdl"):
        glucose.below_percent([100.0], limit_mgdl=-1.0)
    with pytest.raises(SignalError, match="expected as many"):
        glucose.cgm_summary([100.0, 110.0], times_ns=[0])
