"""Studies of glucose meters and sensors, judged from their tables as a startup would."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.glucose import LEAST_WEAR_PERCENT
from analysis.icgm import ICGM_CONTROLS
from lab_api.cli import main
from lab_api.evaluation import Evaluation, clinical_protocol, evaluate
from lab_api.evidence.sources import from_tables
from lab_api.evidence.tables import read_subjects
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.library import shipped
from protocols.clinical.verdict import Outcome, Verdict
from protocols.errors import DefinitionError

Row = dict[str, Any]
BINS = ((30, 50, 5), (52, 80, 15), (82, 120, 20), (122, 200, 30), (202, 300, 15), (302, 400, 10), (402, 550, 5))


def written(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    rows = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@functools.cache
def protocol(name: str) -> ClinicalProtocol:
    """Return a shipped protocol with few bootstrap samples: no limit here is held against them."""
    shipped_one = clinical_protocol(name)
    return replace(shipped_one, statistics=replace(shipped_one.statistics, bootstrap_replicates=100))


def judged(path: Path, name: str, *, subjects: Path | None = None) -> Evaluation:
    facts = read_subjects(subjects) if subjects else {}
    return evaluate(from_tables([path], protocol(name), facts), protocol(name))


def outcomes(verdict: Verdict) -> dict[str, Outcome]:
    return {c.criterion.id: c.outcome for c in verdict.criteria}


def not_met(verdict: Verdict) -> set[str]:
    return {d.requirement.id for d in verdict.design if not d.met}


def iso_rows(*, bias_of_lot_c: float = 0.0, subjects: int = 100) -> list[Row]:
    """As many subjects in each bin as the standard asks for, three lots, two readings each."""
    rng = np.random.default_rng(15197)
    references = np.concatenate([rng.uniform(low, high, n) for low, high, n in BINS])[:subjects]
    return [
        {
            "subject": f"S-{k:03}",
            "reference": round(float(reference), 1),
            "test": round(float(reference * rng.normal(1 + bias_of_lot_c * (lot == "C"), 0.05)), 1),
            "lot": lot,
        }
        for k, reference in enumerate(references)
        for lot in "ABC"
        for _ in range(2)
    ]


def test_a_meter_as_good_as_iso_15197_asks_passes(tmp_path: Path) -> None:
    verdict = judged(written(tmp_path / "pairs.csv", iso_rows()), "iso-15197-2013").verdict
    assert verdict.outcome is Outcome.PASS
    assert not_met(verdict) == set()


def test_one_bad_lot_fails_though_all_together_would_pass(tmp_path: Path) -> None:
    path = written(tmp_path / "pairs.csv", iso_rows(bias_of_lot_c=0.08))
    verdict = judged(path, "iso-15197-2013").verdict
    assert verdict.outcome is Outcome.FAIL
    a = next(c.measurement for c in verdict.criteria if c.criterion.id == "a")
    together = next(c.measurement for c in verdict.criteria if c.criterion.id == "a-all-lots")
    assert a.value < 95.0 <= min(a.details["lot A"], a.details["lot B"])
    assert a.value == a.details["lot C"]
    assert a.method.startswith("lot C, the worst of 3")
    assert a.n == 200
    assert together.value > a.value


def test_numbered_lots_are_lots_and_pairs_without_one_do_not_escape(tmp_path: Path) -> None:
    rows = [{**row, "lot": "ABC".index(row["lot"]) + 1} for row in iso_rows(bias_of_lot_c=0.08)]
    verdict = judged(written(tmp_path / "pairs.csv", rows), "iso-15197-2013").verdict
    assert verdict.outcome is Outcome.FAIL
    a = next(c.measurement for c in verdict.criteria if c.criterion.id == "a")
    assert {"lot 1", "lot 2", "lot 3"} <= set(a.details)
    rows = [{**row, "lot": "" if row["lot"] == 3 else row["lot"]} for row in rows]
    verdict = judged(written(tmp_path / "pairs.csv", rows), "iso-15197-2013").verdict
    a = next(c.measurement for c in verdict.criteria if c.criterion.id == "a")
    assert a.method.startswith("lot not stated, the worst of 3")
    assert not_met(verdict) == {"lots"}


@pytest.mark.parametrize("subjects", [60, 1])
def test_too_few_subjects_or_lots_are_inconclusive_however_bad_the_meter(tmp_path: Path, subjects: int) -> None:
    rows = iso_rows(bias_of_lot_c=0.5, subjects=subjects)
    verdict = judged(written(tmp_path / "pairs.csv", rows), "iso-15197-2013").verdict
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert {"subjects", "pairs", "above-400"} <= not_met(verdict)
    for row in rows:
        del row["lot"]
    assert "lots" in not_met(judged(written(tmp_path / "pairs.csv", rows), "iso-15197-2013").verdict)


def test_a_plan_says_which_range_is_still_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row for row in iso_rows() if row["reference"] > 80]
    path = written(tmp_path / "pairs.csv", rows)
    assert main(["protocol", "plan", "iso-15197-2013", "--pairs", str(path)]) == 0
    said = capsys.readouterr().out
    # 0 of 480: (0.045 * 480) / (1 - 0.045) = 22.6
    assert "references up to 50 mg/dL (5 %): 0 % of >= 4.5 %, at least 23 more" in said
    assert "met: subjects of" not in said


def otc_rows(sd: float, *, subjects: int = 360) -> list[Row]:
    rng = np.random.default_rng(2020)
    references = np.concatenate([rng.uniform(50, 78, 15), rng.uniform(255, 400, 15), rng.uniform(80, 250, 400)])
    return [
        {
            "subject": f"S-{k:03}",
            "reference": round(float(references[k]), 1),
            "test": round(float(references[k] * rng.normal(1, sd)), 1),
            "lot": f"L{k % 3}",
            "vial": k % 12,
            "matrix": "capillary",
            "operator": f"op-{k % 9}",
        }
        for k in range(subjects)
    ]


def lay_users(path: Path, subjects: int = 400, *, naive_every: int = 5) -> Path:
    return written(
        path,
        [
            {
                "subject": f"S-{k:03}",
                "user_group": "patient",
                "naive": "yes" if k % naive_every == 0 else "no",
            }
            for k in range(subjects)
        ],
    )


@pytest.mark.parametrize(("sd", "outcome"), [(0.045, Outcome.PASS), (0.1, Outcome.FAIL)])
def test_a_meter_for_self_monitoring(tmp_path: Path, sd: float, outcome: Outcome) -> None:
    path, subjects = written(tmp_path / "pairs.csv", otc_rows(sd)), lay_users(tmp_path / "subjects.csv")
    verdict = judged(path, "fda-smbg-otc-2020", subjects=subjects).verdict
    assert not_met(verdict) == set()
    assert verdict.outcome is outcome


def test_lay_users_vials_and_unaltered_extremes_have_to_be_shown(tmp_path: Path) -> None:
    path, nobody = written(tmp_path / "pairs.csv", otc_rows(0.2)), None
    verdict = judged(path, "fda-smbg-otc-2020", subjects=nobody).verdict
    assert not_met(verdict) == {"lay-users", "naive"}
    assert verdict.outcome is Outcome.INCONCLUSIVE
    rows = [{**row, "altered": "yes" if row["reference"] < 80 else "", "vial": 1} for row in otc_rows(0.04)]
    subjects = lay_users(tmp_path / "subjects.csv", naive_every=20)
    verdict = judged(written(path, rows), "fda-smbg-otc-2020", subjects=subjects).verdict
    # one vial of each of three lots are three
    assert not_met(verdict) == {"naive", "low", "vials"}
    assert next(d.value for d in verdict.design if d.requirement.id == "vials") == 3.0


def test_every_site_of_the_puncture_has_its_own_users_and_the_worst_decides(tmp_path: Path) -> None:
    subjects = lay_users(tmp_path / "subjects.csv")
    rows = [{**row, "site": "finger"} for row in otc_rows(0.04)]
    palm = [{**row, "site": "palm"} for row in otc_rows(0.1)]
    verdict = judged(
        written(tmp_path / "pairs.csv", rows + palm), "fda-smbg-otc-2020", subjects=subjects
    ).verdict
    assert verdict.outcome is Outcome.FAIL
    few = written(tmp_path / "few.csv", rows + palm[:100])
    verdict = judged(few, "fda-smbg-otc-2020", subjects=subjects).verdict
    assert "lay-users" in not_met(verdict)
    assert verdict.outcome is Outcome.INCONCLUSIVE


def test_a_value_that_was_left_out_forbids_a_conclusion_where_nothing_may_be(tmp_path: Path) -> None:
    rows = otc_rows(0.045)
    rows[100]["test"] = 0.2
    subjects = lay_users(tmp_path / "subjects.csv")
    found = judged(written(tmp_path / "pairs.csv", rows), "fda-smbg-otc-2020", subjects=subjects)
    assert not_met(found.verdict) == {"left-out"}
    assert [e["reason"] for e in found.document["excluded"]] == ["the device's value is impossible"]
    rows[100]["test"] = ""  # a meter that shows nothing is not left out by anybody
    found = judged(written(tmp_path / "pairs.csv", rows), "fda-smbg-otc-2020", subjects=subjects)
    assert found.verdict.outcome is Outcome.PASS
    assert found.document["facts"]["read_rate_percent"] < 100.0


def poc_rows(sd: float, **other: Any) -> list[Row]:
    rows = otc_rows(sd)
    rng = np.random.default_rng(7)
    for k in range(15, 30):
        reference = float(rng.uniform(300, 500))
        rows[k] |= {"reference": round(reference, 1), "test": round(reference * rng.normal(1, sd), 1)}
    return [{**row, **other} for row in rows]


@pytest.mark.parametrize(("sd", "outcome"), [(0.04, Outcome.PASS), (0.09, Outcome.FAIL)])
def test_a_meter_at_the_point_of_care(tmp_path: Path, sd: float, outcome: Outcome) -> None:
    verdict = judged(written(tmp_path / "pairs.csv", poc_rows(sd)), "fda-bgms-poc-2020").verdict
    assert not_met(verdict) == set()
    assert verdict.outcome is outcome


def test_every_matrix_has_its_own_patients_and_the_worst_decides(tmp_path: Path) -> None:
    rows = poc_rows(0.04) + poc_rows(0.09, matrix="venous")
    verdict = judged(written(tmp_path / "pairs.csv", rows), "fda-bgms-poc-2020").verdict
    assert verdict.outcome is Outcome.FAIL
    rows = poc_rows(0.04) + poc_rows(0.04, matrix="venous")[:100] + poc_rows(0.04, operator="one")[:1]
    verdict = judged(written(tmp_path / "pairs.csv", rows), "fda-bgms-poc-2020").verdict
    assert not_met(verdict) == {"patients"}
    assert verdict.outcome is Outcome.INCONCLUSIVE


def icgm_rows(sd: float, *, subjects: int = 110, opposite: int = 0) -> list[Row]:
    rng = np.random.default_rng(862)
    rows = []
    for k in range(subjects):
        references = [*rng.uniform(45, 62, 4), *rng.uniform(80, 170, 6), *rng.uniform(200, 380, 6)]
        for m, reference in enumerate(references):
            rate = (3.0, -3.0, 0.5)[m % 3]
            rows.append(
                {
                    "subject": f"S-{k:03}",
                    "reference": round(float(reference), 1),
                    "test": round(float(reference * rng.normal(1, sd)), 1),
                    "reference_rate": rate,
                    "rate": -rate if len(rows) % 3 == 1 and len(rows) < 3 * opposite else 0.8 * rate,
                }
            )
    return rows


def test_a_sensor_as_good_as_the_special_controls_ask_passes(tmp_path: Path) -> None:
    found = judged(written(tmp_path / "pairs.csv", icgm_rows(0.06)), "icgm-21cfr862-1355")
    assert found.verdict.outcome is Outcome.PASS
    d = next(c for c in found.verdict.criteria if c.criterion.id == "control-d")
    # without a single error both bounds are exact: of as many pairs, and of as many subjects
    assert d.measurement.low == pytest.approx(100 * 0.05 ** (1 / d.measurement.n))
    assert d.measurement.details["lower_bound_by_subject"] == pytest.approx(100 * 0.05 ** (1 / 110))
    assert d.measurement.high == 100.0


def test_the_bound_and_not_the_share_is_held_against_the_limit(tmp_path: Path) -> None:
    # sd 11.7 %: 80 % within 15 %, and the bound of 660 pairs above 180 mg/dL is 2.6 % lower
    verdict = judged(written(tmp_path / "pairs.csv", icgm_rows(0.117)), "icgm-21cfr862-1355").verdict
    assert verdict.outcome is Outcome.FAIL
    c = next(c for c in verdict.criteria if c.criterion.id == "control-c")
    assert c.outcome is Outcome.FAIL
    assert c.measurement.low <= 80.0 < c.measurement.value + 2.0
    assert outcomes(verdict)["control-e"] is Outcome.PASS


def test_opposite_ends_and_opposite_rates_fail(tmp_path: Path) -> None:
    rows = icgm_rows(0.06, opposite=20)
    rows[-1] |= {"reference": 190.0, "test": 65.0}
    verdict = judged(written(tmp_path / "pairs.csv", rows), "icgm-21cfr862-1355").verdict
    failed = {name for name, outcome in outcomes(verdict).items() if outcome is Outcome.FAIL}
    assert failed >= {"control-h", "control-j"}
    assert outcomes(verdict)["control-k"] is Outcome.PASS


def test_a_sensor_without_rates_or_with_few_low_values_is_no_pass(tmp_path: Path) -> None:
    rows = icgm_rows(0.06)
    still = [{name: value for name, value in row.items() if "rate" not in name} for row in rows]
    verdict = judged(written(tmp_path / "pairs.csv", still), "icgm-21cfr862-1355").verdict
    assert verdict.outcome is Outcome.NOT_MEASURED
    assert outcomes(verdict)["control-j"] is Outcome.NOT_MEASURED
    few = [row for row in rows if row["test"] >= 70 or row["subject"] < "S-020"]
    verdict = judged(written(tmp_path / "pairs.csv", few), "icgm-21cfr862-1355").verdict
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert not_met(verdict) == {"low"}


def test_millimoles_give_the_same_verdict_rates_included(tmp_path: Path) -> None:
    rows = icgm_rows(0.06, opposite=20)
    molar = [
        {"unit": "mmol/L", "subject": row["subject"]}
        | {name: row[name] / 18.0182 for name in ("reference", "test", "reference_rate", "rate")}
        for row in rows
    ]
    values = [
        {
            c.criterion.id: c.measurement.value
            for c in judged(written(tmp_path / "pairs.csv", table), "icgm-21cfr862-1355").verdict.criteria
        }
        for table in (rows, molar)
    ]
    assert values[0] == pytest.approx(values[1])


def test_a_wrong_unit_or_rate_is_named_with_its_line(tmp_path: Path) -> None:
    rows = icgm_rows(0.06, subjects=3)
    rows[4]["rate"] = "fast"
    with pytest.raises(DefinitionError, match=r"pairs.csv, line 6: rate = 'fast'"):
        judged(written(tmp_path / "pairs.csv", rows), "icgm-21cfr862-1355")
    rows = [{**row, "unit": "g/L"} for row in icgm_rows(0.06, subjects=3)]
    with pytest.raises(DefinitionError, match=r"pairs.csv, line 2: glucose in 'g/L', expected one of mg/dL"):
        judged(written(tmp_path / "pairs.csv", rows), "icgm-21cfr862-1355")


@pytest.mark.parametrize(
    "name", ["iso-15197-2013", "fda-smbg-otc-2020", "fda-bgms-poc-2020", "icgm-21cfr862-1355"]
)
def test_poor_tables_are_never_a_verdict_and_never_a_crash(tmp_path: Path, name: str) -> None:
    one = {"subject": "S-1", "time": "2026-03-01T09:30:00+01:00", "reference": 100, "test": 101}
    tables: dict[str, list[Row]] = {
        "one pair": [one],
        "constant, one subject, all at one time": [one] * 30,
        "no values": [{**one, "reference": "", "test": ""}] * 3,
        "impossible": [{**one, "reference": -4, "test": 5000}] * 3,
    }
    for what, rows in tables.items():
        found = judged(written(tmp_path / "pairs.csv", rows), name)
        assert found.verdict.outcome in (Outcome.INCONCLUSIVE, Outcome.NOT_MEASURED), what
        assert len(found.document["excluded"]) == len(rows) - found.document["facts"]["pairs"], what


@pytest.mark.shared_data
def test_published_pairs_lie_in_the_published_zones(
    tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (shared / "oracles" / "ega_glucose_pairs.csv").open() as file:
        pairs = [{"subject": "S-1", "reference": p["ref"], "test": p["test"]} for p in csv.DictReader(file)]
    path = written(tmp_path / "pairs.csv", pairs)
    assert main(["evaluate", "--protocol", "iso-15197-2013", "--pairs", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    details = {c["id"]: c["details"] for c in document["verdict"]["criteria"]}
    for criterion, grid, counts in (
        ("b", "parkes_1", (3906, 951, 166, 47, 2)),
        ("clarke-ab", "clarke", (3657, 1166, 53, 180, 16)),
    ):
        assert tuple(details[criterion][f"{grid}_{zone}"] for zone in "ABCDE") == counts
    values = {c["id"]: c["value"] for c in document["verdict"]["criteria"]}
    assert round(values["mard"], 2) == 20.82
    assert values["b"] == pytest.approx(100 * (3906 + 951) / 5072)


@pytest.mark.shared_data
def test_limits_are_those_of_the_collected_criteria(shared: Path) -> None:
    collected = json.loads((shared / "protocol_criteria.json").read_text())
    protocols = shipped()
    limits = {
        name: {rule.id: rule.limit for rule in (*each.design, *each.criteria)}
        for name, each in protocols.items()
    }
    iso, otc, poc = (collected[k] for k in ("iso_15197_2013", "fda_smbg_otc_2020", "fda_bgms_poc_2020"))
    found = limits["iso-15197-2013"]
    assert (found["a"], found["b"]) == (100 * iso["A"]["share"], 100 * iso["B"]["share"])
    assert (found["subjects"], found["lots"]) == (iso["subjects"], iso["lots"])
    bins = ("up-to-50", "50-to-80", "80-to-120", "120-to-200", "200-to-300", "300-to-400", "above-400")
    assert [found[name] + 0.5 for name in bins] == list(iso["bins_pct"].values())
    found = limits["fda-smbg-otc-2020"]
    assert found["within-15"] == 100 * otc["within15_share"]
    assert found["within-20"] == 100 * otc["within20_share"]
    assert [found[name] for name in ("lay-users", "lots", "vials", "low", "high")] == [
        *(otc[name] for name in ("subjects", "lots", "vials")),
        *otc["extreme"].values(),
    ]
    assert found["naive"] == 100 * otc["naive_share"]
    found = limits["fda-bgms-poc-2020"]
    assert (found["within-12"], found["within-15"]) == (95, 98)
    assert [found[name] for name in ("patients", "operators", "low", "high")] == [
        poc["patients_per_matrix"],
        poc["operators"],
        *poc["extreme"].values(),
    ]
    found, cgm = limits["cgm-consensus-2019"], collected["cgm_consensus_2019"]
    for criterion, key in (
        ("in-range", "tir70_180"),
        ("below-70", "tbr70"),
        ("below-54", "tbr54"),
        ("above-180", "tar180"),
        ("above-250", "tar250"),
        ("cv", "cv"),
    ):
        rule = next(c for c in protocols["cgm-consensus-2019"].criteria if c.id == criterion)
        assert f"{rule.comparison}{rule.limit:g}" == cgm[key]
    assert cgm["active_pct"] == LEAST_WEAR_PERCENT


@pytest.mark.shared_data
def test_the_special_controls_are_those_of_the_regulation(shared: Path) -> None:
    with (shared / "oracles" / "icgm_21cfr862_1355.csv").open() as file:
        controls = list(csv.DictReader(file))
    rules = {c.id: c for c in shipped()["icgm-21cfr862-1355"].criteria}
    ranges = {"<70": (0.0, 70.0), "70-180": (70.0, 180.0), ">180": (180.0, np.inf), "all": (0.0, np.inf)}
    for row, (letter, edges, tolerance, _) in zip(controls, ICGM_CONTROLS, strict=True):
        rule = rules[f"control-{row['criterion'].lower()}"]
        assert rule.limit == float(row["lower_one_sided_95_bound_must_exceed_pct"])
        assert (rule.judged, rule.comparison) == ("low", ">")
        assert (letter, edges) == (row["criterion"], ranges[row["icgm_range_mgdl"]])
        allowed = tolerance.mgdl if row["kind"] == "abs" else tolerance.percent
        assert allowed == float(row["tolerance"])
    assert [rules[f"control-{letter}"].limit for letter in "hijk"] == [0, 0, 1, 1]
