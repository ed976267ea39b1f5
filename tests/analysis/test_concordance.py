"""Lin's concordance and the correlation within subjects: published answers, coverage, properties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.agreement import lin_ccc, within_subject_correlation
from protocols.errors import SignalError

# Bland & Altman 1995, doi:10.1136/bmj.310.6977.446: intramural pH and PaCO2 of eight subjects
ACID = """
1 6.68 3.97 1 6.53 4.12 1 6.43 4.09 1 6.33 3.97 2 6.85 5.27 2 7.06 5.37 2 7.13 5.41 2 7.17 5.44 3 7.40 5.67
3 7.42 3.64 3 7.41 4.32 3 7.37 4.73 3 7.34 4.96 3 7.35 5.04 3 7.28 5.22 3 7.30 4.82 3 7.34 5.07 4 7.36 5.67
4 7.33 5.10 4 7.29 5.53 4 7.30 4.75 4 7.35 5.51 5 7.35 4.28 5 7.30 4.44 5 7.30 4.32 5 7.37 3.23 5 7.27 4.46
5 7.28 4.72 5 7.32 4.75 5 7.32 4.99 6 7.38 4.78 6 7.30 4.73 6 7.29 5.12 6 7.33 4.93 6 7.31 5.03 6 7.33 4.93
7 6.86 6.85 7 6.94 6.44 7 6.92 6.52 8 7.19 5.28 8 7.29 4.56 8 7.21 4.34 8 7.25 4.32 8 7.20 4.41 8 7.19 3.69
8 6.77 6.09 8 6.82 5.58
"""


@pytest.mark.shared_data
def test_peak_flow_of_1986_with_either_divisor(shared: Path) -> None:
    data = np.genfromtxt(shared / "oracles/ba1986_pefr.csv", delimiter=",", names=True)
    found = lin_ccc(data["wright1"], data["mini1"])
    assert found.divisor == "n-1"
    assert (found.value, found.low, found.high) == pytest.approx((0.94275, 0.8505, 0.9787), abs=5e-5)
    assert lin_ccc(data["wright1"], data["mini1"], divisor="n").value == pytest.approx(0.94274, abs=5e-6)
    assert found.value == pytest.approx(found.correlation * found.bias_correction)


def test_concordance_falls_with_shift_and_scale_and_keeps_its_parts() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0, 6.0])
    assert lin_ccc(x, x).value == 1.0
    assert lin_ccc(x, -x + 2 * x.mean()).value == pytest.approx(-1.0)
    shifted = lin_ccc(x + 1.0, x)
    sd = x.std(ddof=1)
    assert (shifted.correlation, shifted.scale_shift) == pytest.approx((1.0, 1.0))
    assert shifted.location_shift == pytest.approx(1.0 / sd)
    assert shifted.bias_correction == pytest.approx(2.0 / (2.0 + 1.0 / sd**2))


def test_the_interval_of_concordance_covers(rng: np.random.Generator) -> None:
    x = rng.normal(0, 1, (4000, 40))
    y = 0.2 + 0.8 * x + rng.normal(0, 0.4, (4000, 40))
    truth = 2 * 0.8 / (1 + 0.64 + 0.16 + 0.04)
    found = lin_ccc(x, y)
    # four Monte-Carlo standard errors, and half a point for Fisher's z with 40 pairs
    assert np.mean((found.low <= truth) & (truth <= found.high)) == pytest.approx(0.95, abs=0.014 + 0.005)


def test_a_batch_equals_its_rows_and_missing_pairs_are_counted(rng: np.random.Generator) -> None:
    x, y = rng.normal(0, 1, (2, 3, 4, 12)) + rng.normal(0, 1, (3, 4, 12))
    x[rng.random(x.shape) < 0.15] = np.nan
    subject = rng.integers(0, 3, 12)
    batch, within = lin_ccc(x, y), within_subject_correlation(x, y, subject)
    for at in np.ndindex(3, 4):
        present = np.isfinite(x[at])
        row = lin_ccc(x[at][present], y[at][present])
        inside = within_subject_correlation(x[at], y[at], subject)
        for name in ("value", "low", "high", "n_pairs"):
            assert getattr(batch, name)[at] == pytest.approx(getattr(row, name), nan_ok=True)
            assert getattr(within, name)[at] == pytest.approx(getattr(inside, name), nan_ok=True)
        assert batch.n_excluded[at] == 12 - present.sum()


def test_unit_and_exchange_do_not_matter(rng: np.random.Generator) -> None:
    x, y = rng.normal(90, 3, (2, 20))
    first = lin_ccc(x, y)
    for other in (lin_ccc(y, x), lin_ccc(5 * x - 1000, 5 * y - 1000)):
        assert (other.value, other.low, other.high) == pytest.approx((first.value, first.low, first.high))


@pytest.mark.parametrize("values", [[], [1.0], [0.1, 0.1, 0.1]])
def test_too_few_or_constant_pairs_have_no_concordance(values: list[float]) -> None:
    found = lin_ccc(values, values)
    assert np.isnan([found.value, found.low, found.high]).all()


@pytest.mark.parametrize("unit", [1e-145, 1e-100, 1e12, 1e25])
def test_units_do_not_matter_however_small(unit: float) -> None:
    x, subject = np.array([1.0, 2.0, 4.0, 3.0, 6.0, 5.0]), [1, 1, 1, 2, 2, 2]
    y = x + np.array([0.1, -0.2, 0.3, 0.5, -0.1, 0.2])
    plain, small = lin_ccc(x, y), lin_ccc(unit * x, unit * y)
    for name in ("value", "low", "high", "correlation", "bias_correction", "location_shift"):
        assert getattr(small, name) == pytest.approx(getattr(plain, name), rel=1e-9), name
    assert small.interval == (small.low, small.high)
    within, of_small = (within_subject_correlation(u * x, u * y, subject) for u in (1.0, unit))
    assert of_small.value == pytest.approx(within.value, rel=1e-9)


def test_one_constant_method_has_a_concordance_of_none() -> None:
    found = lin_ccc([1.0, 2.0, 3.0, 4.0], [0.1 + 0.2] * 4)
    assert found.value == 0.0
    assert np.isnan([found.low, found.correlation]).all()


def test_bland_and_altman_1995_correlation_within_subjects() -> None:
    subject, ph, pco2 = np.array(ACID.split(), dtype=float).reshape(-1, 3).T
    found = within_subject_correlation(ph, pco2, subject)
    assert found.value == pytest.approx(-0.51, abs=0.005)
    # to these digits by R's rmcorr (Bakdash & Marusich 2017)
    assert (found.value, found.p) == pytest.approx((-0.5067697, 0.0008471081), rel=1e-6)
    # as Bakdash & Marusich print it; rmcorr's own, with df - 3 for df - 1, is 0.005 wider on either side
    assert (found.low, found.high) == pytest.approx((-0.71, -0.23), abs=0.005)
    assert (found.freedom, found.n_pairs, found.n_subjects) == (38, 47, 8)


def test_the_interval_within_subjects_covers_whatever_lies_between(rng: np.random.Generator) -> None:
    subject = np.repeat(np.arange(12), 4)
    own = rng.normal(0, 3, (2, 4000, 12))[..., subject]
    x = rng.normal(0, 1, (4000, 48))
    y = 0.5 * x + rng.normal(0, 1, x.shape)
    truth = 0.5 / np.sqrt(1.25)
    found = within_subject_correlation(x + own[0], y + own[1], subject)
    assert np.mean((found.low <= truth) & (truth <= found.high)) == pytest.approx(0.95, abs=0.014)


def test_without_change_within_subjects_there_is_no_correlation() -> None:
    found = within_subject_correlation([0.1, 0.1, 0.7, 0.7, 0.7], [1.0, 2.0, 3.0, 5.0, 4.0], [1, 1, 2, 2, 2])
    assert np.isnan([found.value, found.low, found.p, found.slope]).all()
    single = within_subject_correlation([1.0, 2.0, 3.0], [1.0, 2.0, 5.0], [1, 2, 3])
    assert np.isnan([single.value, single.freedom]).all()


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="expected pairs"):
        lin_ccc([1.0, 2.0], [1.0])
    with pytest.raises(SignalError, match="divisor='N'"):
        lin_ccc([1.0, 2.0], [1.0, 2.0], divisor="N")
    with pytest.raises(SignalError, match="infinite"):
        within_subject_correlation([1.0, np.inf], [1.0, 2.0], [1, 1])
