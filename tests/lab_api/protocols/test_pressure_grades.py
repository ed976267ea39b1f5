"""Grades, counts and continuous monitors: IEEE 1708, BHS, ESH-IP and ISO 81060-3 from tables to verdicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protocols.clinical.verdict import Outcome
from tests.lab_api.protocols.pressure_studies import (
    PRESSURES,
    People,
    Row,
    criterion,
    judged,
    sequential,
    unmet,
)


def test_grades_of_known_errors(tmp_path: Path) -> None:
    people = People(85)
    for error, bhs, ieee in ((4, "A", "A"), (6, "D", "B"), (7, "D", "C"), (8, "D", "D")):
        rows = people.pairs(subject_sd=0.0, sd=0.0)
        for number, row in enumerate(rows):
            row["test"] = int(str(row["reference"])) + error * (-1) ** number
        for protocol_id, metric in (("ieee-1708-2014", "grade"), ("ieee-1708-2025", "grade")):
            evaluation = judged(tmp_path, protocol_id, rows, people.facts)
            assert criterion(evaluation, metric)["label"] == ieee
            assert evaluation.verdict.outcome is (Outcome.FAIL if ieee == "D" else Outcome.PASS)
        evaluation = judged(tmp_path, "bhs-1993", rows, people.facts)
        assert criterion(evaluation, "sbp-grade")["label"] == bhs


def test_the_worst_category_decides_the_grade_of_2025(tmp_path: Path) -> None:
    people = People(85)
    rows = people.pairs(subject_sd=0.0, sd=0.0)
    for row in rows:
        row["test"] = int(str(row["reference"])) + (9 if 120 <= int(str(row["reference"])) < 130 else 1)
    sbp = [r for r in rows if r["quantity"] == "sbp"] + [
        {**r, "test": r["reference"]} for r in rows if r["quantity"] == "dbp"
    ]
    old, new = (judged(tmp_path, f"ieee-1708-{year}", sbp, people.facts) for year in (2014, 2025))
    assert (old.verdict.outcome, new.verdict.outcome) == (Outcome.PASS, Outcome.FAIL)
    details = criterion(new, "grade")["details"]
    assert (details["sbp_all_grade"], details["sbp_from_120_grade"], details["sbp_from_140_grade"]) == (1, 4, 1)
    stated = [{**row, "category": "normal"} for row in sbp]
    assert judged(tmp_path, "ieee-1708-2025", stated, people.facts).verdict.outcome is Outcome.PASS


def bhs_people() -> People:
    people = People(85)
    spread = {
        "sbp": ((84, 8), (110, 25), (145, 24), (170, 20), (186, 8)),
        "dbp": ((54, 8), (70, 25), (90, 24), (105, 20), (116, 8)),
    }
    for quantity, bands in spread.items():
        people.pressure[quantity] = np.repeat([float(p) for p, _ in bands], [n for _, n in bands])
    return people


def test_bhs_passes_b_fails_c_and_asks_for_every_band(tmp_path: Path) -> None:
    people = bhs_people()
    good = judged(tmp_path, "bhs-1993", people.pairs(subject_sd=1.0, sd=3.0), people.facts)
    assert unmet(good) == []
    assert good.verdict.outcome is Outcome.PASS
    bad = judged(tmp_path, "bhs-1993", people.pairs(bias=7.0, sd=4.0), people.facts)
    assert {criterion(bad, f"{q}-grade")["label"] for q in PRESSURES} <= {"C", "D"}
    assert bad.verdict.outcome is Outcome.FAIL
    spread = People(85)
    assert "sbp-130-to-160" not in unmet(judged(tmp_path, "bhs-1993", spread.pairs(), spread.facts))
    assert "sbp-below-90" in unmet(judged(tmp_path, "bhs-1993", spread.pairs(), spread.facts))


def esh_people() -> People:
    people = People(33)
    people.pressure = {
        q: np.repeat(bands, 11).astype(float) for q, bands in (("sbp", (110, 145, 170)), ("dbp", (70, 90, 110)))
    }
    return people


def test_esh_counts_pairs_and_subjects(tmp_path: Path) -> None:
    people = esh_people()
    good = judged(tmp_path, "esh-ip-2010", people.pairs(subject_sd=1.0, sd=2.0), people.facts)
    assert unmet(good) == []
    assert good.verdict.outcome is Outcome.PASS
    # four subjects without any pair within 5 mmHg: part 1 is met, part 2 is not
    rows = people.pairs(subject_sd=0.0, sd=0.0)
    for row in rows:
        row["test"] = int(str(row["reference"])) + (6 if row["subject"] in people.names[:4] else 0)
    bad = judged(tmp_path, "esh-ip-2010", rows, people.facts)
    assert criterion(bad, "sbp-all-of-5")["value"] == 87
    assert criterion(bad, "sbp-two-of")["value"] == 3
    assert (
        criterion(bad, "sbp-subjects-with-two")["value"],
        criterion(bad, "sbp-subjects-with-none")["value"],
    ) == (29, 4)
    assert bad.verdict.outcome is Outcome.FAIL
    assert (
        judged(tmp_path, "esh-ip-2010", people.pairs(each=2), people.facts).verdict.outcome
        is Outcome.INCONCLUSIVE
    )
    more = People(34)
    assert "subjects-to" in unmet(judged(tmp_path, "esh-ip-2010", more.pairs(), more.facts))


def test_esh_takes_the_nearer_of_the_readings_around(tmp_path: Path) -> None:
    people = esh_people()
    rows = people.pairs(subject_sd=0.0, sd=0.0)
    for row in rows:
        row["test"] = int(str(row["reference"])) + 8
    assert criterion(judged(tmp_path, "esh-ip-2010", rows, people.facts), "sbp-all-of-5")["value"] == 0
    around = sequential(rows, change=6.0)  # 8 from the mean, 5 from the later one
    assert criterion(judged(tmp_path, "esh-ip-2010", around, people.facts), "sbp-all-of-5")["value"] == 99


def continuous(*, sd: float = 3.0, change: float = 0.1, stable: float = 2.0) -> list[Row]:
    """Return accuracy, stability and changes of 30 subjects; changes are missed by a share of them."""
    people = People(30)
    accuracy = people.pairs(each=20, sd=sd)
    stability = [
        {**row, "phase": "stability"} for row in people.pairs(each=5, subject_sd=0.5, sd=stable, seed=8)
    ]
    changes = [
        {
            **row,
            "phase": "change",
            "reference_baseline": int(str(row["reference"])) - 20,
            "test_baseline": int(str(row["reference"])) - 20,
            "test": int(str(row["reference"])) + 20 * change,
        }
        for row in people.pairs(each=4, subject_sd=0.0, sd=0.0)
    ]
    return [*accuracy, *stability, *changes]


def test_a_continuous_monitor_is_judged_by_accuracy_stability_and_changes(tmp_path: Path) -> None:
    good = judged(tmp_path, "iso-81060-3-2022", continuous())
    assert good.verdict.outcome is Outcome.PASS
    assert criterion(good, "sbp-s-corr")["n"] == 600
    assert criterion(good, "sbp-change-median")["value"] == pytest.approx(10.0)
    for made, failing in (
        (continuous(sd=12.0), "sbp-s-corr"),
        (continuous(change=0.6), "sbp-change-p85"),
        (continuous(stable=8.0), "sbp-stability"),
    ):
        bad = judged(tmp_path, "iso-81060-3-2022", made)
        assert criterion(bad, failing)["outcome"] == "FAIL"
        assert bad.verdict.outcome is Outcome.FAIL
    only = [row for row in continuous() if "phase" not in row]
    part = judged(tmp_path, "iso-81060-3-2022", only)
    assert (part.verdict.outcome, criterion(part, "sbp-s-corr")["outcome"]) == (Outcome.NOT_MEASURED, "PASS")
    few = judged(tmp_path, "iso-81060-3-2022", People(30).pairs(each=3))
    assert few.verdict.outcome is Outcome.INCONCLUSIVE
