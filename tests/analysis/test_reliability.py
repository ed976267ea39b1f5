"""Intraclass correlations and repeatability: published answers, coverage, missing ratings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.agreement import icc, repeatability
from protocols.errors import SignalError

SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


def columns(shared: Path, name: str) -> np.ndarray:  # type: ignore[type-arg]
    return np.genfromtxt(shared / "oracles" / name, delimiter=",", names=True)


def test_shrout_and_fleiss_1979() -> None:
    found = icc(SHROUT_FLEISS)
    published = [0.1657, 0.2898, 0.7148, 0.4428, 0.6201, 0.9093]
    assert [form.value for form in found] == pytest.approx(published, abs=5e-5)
    # as R's psych prints them, to two or three digits
    assert [form.low for form in found] == pytest.approx([-0.133, 0.019, 0.342, -0.884, 0.071, 0.676], abs=6e-4)
    assert [form.high for form in found] == pytest.approx([0.72, 0.76, 0.95, 0.91, 0.93, 0.99], abs=6e-3)
    assert [form.name for form in found] == [f"ICC({f},{u})" for u in "1k" for f in "123"]
    assert found.icc_3_1.freedom == (5, 15)
    assert found.icc_1_1.f == pytest.approx(1.79, abs=0.005)
    assert (found.n_targets, found.n_raters, found.n_excluded) == (6, 4, 0)


@pytest.mark.shared_data
def test_the_stored_table_is_the_one_typed_here(shared: Path) -> None:
    data = columns(shared, "shrout_fleiss_1979.csv")
    assert np.array_equal(np.stack([data[f"J{k}"] for k in (1, 2, 3, 4)], axis=1), SHROUT_FLEISS)


def test_intervals_cover(rng: np.random.Generator) -> None:
    targets = rng.normal(0, 1, (4000, 20, 1))
    raters, noise = rng.normal(0, 0.5, (4000, 1, 4)), rng.normal(0, 1, (4000, 20, 4))
    within = 4 * np.sqrt(0.95 * 0.05 / 4000)
    consistent = icc(targets + noise)
    for form in consistent:
        truth = 0.5 if form.name.endswith("1)") else 0.8
        assert np.mean((form.low <= truth) & (truth <= form.high)) == pytest.approx(0.95, abs=within), form.name
    found = icc(targets + raters + noise).icc_2_1
    truth = 1 / 2.25
    # Satterthwaite's degrees of freedom are an approximation: half a point more
    assert np.mean((found.low <= truth) & (truth <= found.high)) == pytest.approx(0.95, abs=within + 0.005)


def test_a_batch_equals_its_tables_and_incomplete_targets_are_left_out(rng: np.random.Generator) -> None:
    tables = rng.normal(5, 2, (2, 3, 9, 3))
    tables[rng.random(tables.shape) < 0.1] = np.nan
    tables[1, 1] = np.nan
    batch = icc(tables)
    for at in np.ndindex(2, 3):
        complete = tables[at][np.isfinite(tables[at]).all(axis=1)]
        rows, alone = icc(tables[at]), icc(complete)
        for whole, one, kept in zip(batch, rows, alone, strict=True):
            for name in ("value", "low", "high", "f", "p"):
                assert getattr(whole, name)[at] == pytest.approx(getattr(one, name), nan_ok=True)
                assert getattr(one, name) == pytest.approx(getattr(kept, name), nan_ok=True)
        assert rows.n_excluded == 9 - len(complete)
    assert any("left out" in remark for remark in batch.remarks)


def test_scale_shift_and_order_do_not_matter(rng: np.random.Generator) -> None:
    table = rng.normal(0, 1, (8, 3)) + rng.normal(0, 1, (8, 1))
    first = [form.low for form in icc(table)]
    other = [form.low for form in icc(1e6 - 4.0 * rng.permutation(table)[:, ::-1])]
    assert other == pytest.approx(first, rel=1e-6)


def test_small_units_keep_the_intervals(rng: np.random.Generator) -> None:
    table = rng.normal(size=(8, 3))
    for plain, small in zip(icc(table), icc(1e-100 * table), strict=True):
        assert small.interval == pytest.approx(plain.interval, rel=1e-9), plain.name


def test_forms_are_found_by_their_names() -> None:
    found = icc([[9.0, 2.0], [6.0, 1.0], [8.0, 4.0]])
    assert found["ICC(2,1)"] is found.icc_2_1
    assert [found[form.name] for form in found] == list(found)
    with pytest.raises(SignalError, match=r"'ICC2', expected one of ICC\(1,1\)"):
        found["ICC2"]


def test_raters_who_agree_and_raters_apart() -> None:
    agreed = icc(np.repeat(np.arange(5.0)[:, None], 3, axis=1) / 3)
    assert [form.value for form in agreed] == [1.0] * 6
    assert [form.low for form in agreed] == [1.0] * 6
    apart = icc(np.arange(5.0)[:, None] + np.array([0.0, 10.0]))
    assert apart.icc_3_1.value == 1.0
    assert apart.icc_2_1.value < 0.1


def test_equal_ratings_and_single_targets_have_no_coefficient() -> None:
    for table, says in ((np.full((4, 3), 0.1), "all ratings are equal"), ([[1.0, 2.0]], "fewer than 2")):
        found = icc(table)
        assert np.isnan([end for form in found for end in (form.value, form.low, form.high, form.p)]).all()
        assert any(says in remark for remark in found.remarks)


@pytest.mark.parametrize("table", [[1.0, 2.0], [[1.0], [2.0]], [[1.0, np.inf], [2.0, 3.0]]])
def test_misuse_is_named(table: list[object]) -> None:
    with pytest.raises(SignalError, match="ratings"):
        icc(table)


@pytest.mark.shared_data
def test_repeatability_of_1986_and_1999(shared: Path) -> None:
    data = columns(shared, "ba1986_pefr.csv")
    for meter, published in (("wright", 43.29), ("mini", 56.32)):
        both = np.concatenate([data[f"{meter}1"], data[f"{meter}2"]])
        # the paper's 2 for 1.96
        found = repeatability(both, np.tile(data["subject"], 2), coverage=0.9544997361036416)
        assert found.coefficient == pytest.approx(published, abs=0.005)
    data = columns(shared, "ba1999_sbp.csv")
    for who, published in (("J", 37.408), ("R", 37.980), ("S", 83.141)):
        values = np.concatenate([data[f"{who}{k}"] for k in (1, 2, 3)])
        found = repeatability(values, np.tile(data["subject"], 3))
        assert found.within_sd**2 == pytest.approx(published, abs=0.001)
        assert found.coefficient == pytest.approx(2.77 * np.sqrt(published), abs=0.05)
        assert found.freedom == 170


def test_the_interval_of_repeatability_covers(rng: np.random.Generator) -> None:
    subject = np.repeat(np.arange(8), [2, 2, 3, 4, 2, 1, 3, 2])
    values = rng.normal(0, 9, (4000, 8))[:, subject] + rng.normal(0, 2, (4000, subject.size))
    low, high = repeatability(values, subject).within_sd_interval
    assert np.mean((low <= 2) & (high >= 2)) == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 4000))


def test_repeats_that_are_equal_and_repeats_that_are_none() -> None:
    equal = repeatability([1.0, 1.0, 3.0, 3.0], [1, 1, 2, 2])
    assert (equal.within_sd, equal.coefficient) == (0.0, 0.0)
    assert np.isnan(equal.within_sd_interval).all()
    none = repeatability([1.0, np.nan, 3.0], [1, 1, 2])
    assert np.isnan(none.within_sd)
    assert none.n_excluded == 1
