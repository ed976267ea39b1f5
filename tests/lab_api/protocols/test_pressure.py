"""ISO 81060-2 from tables to verdicts: limits, samples, references, plans, bad input."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from analysis.pressure_accuracy import SUBJECT_SD_LIMITS_MMHG
from lab_api import cli
from lab_api.evidence.sources import from_tables
from protocols.clinical.verdict import Outcome
from protocols.errors import DefinitionError
from tests.lab_api.protocols.pressure_studies import (
    ADULTS,
    PRESSURES,
    PROTOCOLS,
    START_NS,
    People,
    Row,
    applied,
    criterion,
    judged,
    sequential,
    table,
    unmet,
)


@pytest.mark.shared_data
def test_limits_are_those_of_the_collected_criteria(shared: Path) -> None:
    collected = json.loads((shared / "protocol_criteria.json").read_text())
    iso = collected["iso_81060_2_2018"]
    for name in ADULTS:
        limits = {c.id: c.limit for c in PROTOCOLS[name].criteria}
        least = {(d.fact, d.comparison): d.limit for d in PROTOCOLS[name].design}
        for quantity in PRESSURES:
            assert limits[f"{quantity}-mean-error"] == iso["crit1"]["abs_mean_max"]
            assert limits[f"{quantity}-sd"] == iso["crit1"]["sd_max"]
        assert least["subjects", ">="] == iso["min_subjects"]
        assert least["pairs", ">="] == iso["min_pairs"]
        assert least["youngest_years", ">"] == iso["age_min_exclusive"]
        assert least["smaller_sex_share_percent", ">="] == 100 * iso["sex_min_share"]
        for part, share in ((p, iso["cuff"][p]) for p in ("half", "quarter", "octile")):
            for side in ("lower", "upper"):
                assert least[f"limb_{side}_{part}_share_percent", ">="] == pytest.approx(100 * share)
        for rule, share in iso["bp_share_min"].items():
            assert least[fact_of(rule), ">="] == pytest.approx(100 * share)
    invasive = {d.fact: d.limit for d in PROTOCOLS["iso-81060-2-2018-invasive"].design}
    for rule, share in iso["invasive_share_min"].items():
        assert invasive[fact_of(rule)] == pytest.approx(100 * share)
    continuous, iso3 = PROTOCOLS["iso-81060-3-2022"], collected["iso_81060_3_2022"]
    limits = {c.id: c.limit for c in continuous.criteria}
    assert continuous.design[0].limit == iso3["n_ind_min"]
    for quantity in PRESSURES:
        assert limits[f"{quantity}-mean-error"] == iso3["abs_mean_max"]
        assert limits[f"{quantity}-s-corr"] == iso3["s_corr_max"]
        assert limits[f"{quantity}-stability"] == iso3["trend_s_corr_max"]
        assert limits[f"{quantity}-change-median"] == iso3["change_error_pct"]["p50_avg_max"]
        assert limits[f"{quantity}-change-p85"] == iso3["change_error_pct"]["p85_avg_max"]
    esh, ip = PROTOCOLS["esh-ip-2010"], collected["esh_ip_2010"]
    limits = {c.id: c.limit for c in esh.criteria}
    assert [limits[f"sbp-all-of-{k}"] for k in (5, 10, 15)] == ip["all_of"]
    assert limits["dbp-subjects-with-two"] == ip["part2"]["2of3_within5_min"]
    assert limits["dbp-subjects-with-none"] == ip["part2"]["0of3_within5_max"]
    assert {d.limit for d in esh.design if d.fact == "subjects"} == {ip["n"]}


def fact_of(rule: str) -> str:
    """Return the fact of a rule of the notes, such as `sbp<=100`."""
    return rule.replace("<=", "_up_to_").replace(">=", "_from_") + "_share_percent"


@pytest.mark.parametrize("protocol_id", ADULTS)
def test_a_good_monitor_passes_and_a_biased_and_a_scattered_one_fail(tmp_path: Path, protocol_id: str) -> None:
    people = People(85)
    good = judged(tmp_path, protocol_id, people.pairs(bias=1.0), people.facts)
    assert unmet(good) == []
    assert good.verdict.outcome is Outcome.PASS
    assert criterion(good, "sbp-mean-error")["value"] == pytest.approx(
        1.0, abs=1.0
    )  # 2 / sqrt(85) and rounding
    biased = judged(tmp_path, protocol_id, people.pairs(bias=7.0), people.facts)
    assert biased.verdict.outcome is Outcome.FAIL
    assert criterion(biased, "sbp-mean-error")["outcome"] == "FAIL"
    # beyond 5.0 table 1 has no limit: criterion 2 says so and takes nothing back of the failure
    assert criterion(biased, "sbp-subject-sd")["outcome"] == "NOT_MEASURED"
    scattered = judged(tmp_path, protocol_id, people.pairs(subject_sd=7.5, sd=1.0), people.facts)
    assert criterion(scattered, "sbp-mean-error")["outcome"] == "PASS"
    assert criterion(scattered, "sbp-subject-sd")["outcome"] == "FAIL"
    assert scattered.verdict.outcome is Outcome.FAIL


def test_criterion_2_is_held_against_table_1_at_the_rounded_mean(tmp_path: Path) -> None:
    people = People(85)
    evaluation = judged(tmp_path, "iso-81060-2-2018", people.pairs(bias=3.0), people.facts)
    items = evaluation.document["items"]
    differences = np.subtract(items["test"], items["reference"])
    errors = {q: differences[np.array(items["quantity"]) == q] for q in PRESSURES}
    for quantity in PRESSURES:
        mean = float(np.mean(errors[quantity]))
        limit = SUBJECT_SD_LIMITS_MMHG[int(10 * abs(mean) + 0.5)]
        assert criterion(evaluation, f"{quantity}-subject-sd")["limit"] == limit
        by_subject = np.reshape(errors[quantity], (85, 3)).mean(axis=1)
        assert criterion(evaluation, f"{quantity}-subject-sd")["value"] == pytest.approx(
            np.sqrt(((by_subject - mean) ** 2).sum() / 84)
        )


def test_a_sample_that_lacks_people_pressures_or_limbs_concludes_nothing(tmp_path: Path) -> None:
    few = People(60)
    evaluation = judged(tmp_path, "iso-81060-2-2018", few.pairs(bias=9.0), few.facts)
    assert evaluation.verdict.outcome is Outcome.INCONCLUSIVE  # nor does a large error make it a failure
    assert {"subjects", "pairs", "three-pairs"} <= set(unmet(evaluation))
    healthy = People(85, sbp=(105.0, 135.0), dbp=(62.0, 84.0))
    evaluation = judged(tmp_path, "iso-81060-2-2018", healthy.pairs(), healthy.facts)
    assert unmet(evaluation) == [
        *("sbp-up-to-100", "sbp-from-160", "sbp-from-140", "dbp-up-to-60", "dbp-from-100", "dbp-from-85"),
    ]
    people = People(85)
    slim = [{**facts, "arm_circumference_cm": 23 + number % 4} for number, facts in enumerate(people.facts)]
    evaluation = judged(tmp_path, "iso-81060-2-2018", people.pairs(), slim)
    assert unmet(evaluation) == ["limbs-upper-half", "limbs-upper-quarter", "limbs-upper-octile"]
    unknown = judged(tmp_path, "iso-81060-2-2018", people.pairs())
    assert unknown.verdict.outcome is Outcome.INCONCLUSIVE
    assert {"age", "sexes", "limbs-from", "limbs-upper-half"} <= set(unmet(unknown))


def test_the_range_of_the_cuffs_is_stated_for_an_evaluation(tmp_path: Path) -> None:
    people = People(85)
    wide = judged(tmp_path, "iso-81060-2-2018", people.pairs(), people.facts, {"limb_high_cm": 60.0})
    assert set(unmet(wide)) == {"limbs-upper-half", "limbs-upper-quarter", "limbs-upper-octile"}
    narrow = judged(tmp_path, "iso-81060-2-2018", people.pairs(), people.facts, {"limb_high_cm": 32.0})
    assert "limbs-to" in unmet(narrow)


def test_the_reports_single_pairs_show_what_the_table_said(tmp_path: Path) -> None:
    people = People(2)
    evaluation = judged(tmp_path, "iso-81060-2-2018", sequential(people.pairs()), people.facts)
    assert set(evaluation.document["items"]) == {
        *("session", "subject", "quantity", "time_ns", "reference", "test"),
        *("reference_before", "reference_after", "reference_change"),
    }


def test_every_size_of_cuff_needs_its_subjects(tmp_path: Path) -> None:
    people = People(85)
    for n_large, met in ((22, True), (21, False)):  # 85 / 4 = 21.25
        facts = [{**f, "cuff": "large" if k < n_large else "medium"} for k, f in enumerate(people.facts)]
        evaluation = judged(tmp_path, "iso-81060-2-2018", people.pairs(), facts)
        assert ("cuffs" not in unmet(evaluation)) == met
    sizes = [{**row, "cuff": 1 + (int(str(row["subject"])[2:]) % 2)} for row in people.pairs()]
    evaluation = judged(tmp_path, "iso-81060-2-2018", sizes, people.facts)
    assert evaluation.document["facts"]["cuffs"] == 2
    some = [{**row, "cuff": "A" if row["subject"] == "S-000" else ""} for row in people.pairs()]
    assert "cuffs" in unmet(judged(tmp_path, "iso-81060-2-2018", some, people.facts))


def test_special_populations_need_35_subjects_and_criterion_1_alone(tmp_path: Path) -> None:
    people = People(35)
    rows = people.pairs(subject_sd=0.0, sd=0.0)
    for row in rows:  # half of them 7 above, half below: beyond criterion 2, within criterion 1
        row["test"] = int(str(row["reference"])) + 7 * (-1) ** int(str(row["subject"])[2:])
    evaluation = judged(tmp_path, "iso-81060-2-2018-special", rows)
    assert criterion(evaluation, "sbp-subject-sd")["value"] == pytest.approx(7 * np.sqrt(35 / 34), abs=0.01)
    assert SUBJECT_SD_LIMITS_MMHG[2] < 7
    assert evaluation.verdict.outcome is Outcome.PASS
    assert judged(tmp_path, "iso-81060-2-2018-special", people.pairs(bias=8.0)).verdict.outcome is Outcome.FAIL
    few = judged(tmp_path, "iso-81060-2-2018-special", People(34).pairs())
    assert few.verdict.outcome is Outcome.INCONCLUSIVE


def test_an_invasive_reference_forgives_what_lies_within_its_spread(tmp_path: Path) -> None:
    people = People(30)
    rows = [{**row, "reference_sd": 4.0} for row in people.pairs(each=5, bias=6.0, subject_sd=1.0, sd=1.0)]
    good = judged(tmp_path, "iso-81060-2-2018-invasive", rows)
    assert unmet(good) == []
    assert good.verdict.outcome is Outcome.PASS
    errors = [float(str(r["test"])) - float(str(r["reference"])) for r in rows if r["quantity"] == "sbp"]
    expected = np.mean([np.sign(e) * max(abs(e) - 4.0, 0.0) for e in errors])
    assert criterion(good, "sbp-mean-error")["value"] == pytest.approx(expected)
    bad = judged(tmp_path, "iso-81060-2-2018-invasive", [{**row, "reference_sd": 0.0} for row in rows])
    assert bad.verdict.outcome is Outcome.FAIL
    unknown = judged(tmp_path, "iso-81060-2-2018-invasive", [{**rows[0], "reference_sd": ""}, *rows[1:]])
    assert unmet(unknown) == ["reference-sd"]
    assert unknown.verdict.outcome is Outcome.INCONCLUSIVE


def test_two_observers_make_the_reference_and_those_who_differ_are_listed(tmp_path: Path) -> None:
    people = People(85)
    rows = [
        {
            **row,
            "reference": "",
            "observer_1": int(str(row["reference"])) - 1,
            "observer_2": int(str(row["reference"])) + 1,
        }
        for row in people.pairs()
    ]
    plain = judged(tmp_path, "iso-81060-2-2018", people.pairs(), people.facts)
    for row in rows:
        del row["reference"]  # the column is not needed
    both = judged(tmp_path, "iso-81060-2-2018", rows, people.facts)
    assert both.verdict.outcome is Outcome.PASS
    assert criterion(both, "sbp-sd")["value"] == criterion(plain, "sbp-sd")["value"]
    rows[0]["observer_2"] = int(str(rows[0]["observer_1"])) + 5
    rows[4]["observer_2"] = ""
    apart = judged(tmp_path, "iso-81060-2-2018", rows, people.facts)
    assert [(e["subject"], e["reason"]) for e in apart.document["excluded"]] == [
        ("S-001", "one of the two observers has no reading"),
        ("S-000", "the observers differ by more than 4 mmHg"),
    ]
    assert {"pairs", "three-pairs"} == set(unmet(apart))
    assert len(apart.document["items"]["test"]) == 6 * 85 - 2
    rows[0]["observer_2"] = int(str(rows[0]["observer_1"])) + 4
    edge = judged(tmp_path, "iso-81060-2-2018", rows, people.facts)
    assert len(edge.document["excluded"]) == 1


def test_subjects_whose_reference_was_not_steady_are_excluded_and_listed(tmp_path: Path) -> None:
    people = People(86)
    rows = sequential(people.pairs())
    calm = judged(tmp_path, "iso-81060-2-2018", rows, people.facts)
    assert calm.document["excluded"] == []
    rows[3] |= {"reference": "", "reference_before": 80.0, "reference_after": 93.0}
    unsteady = judged(tmp_path, "iso-81060-2-2018", rows, people.facts)
    assert {e["subject"] for e in unsteady.document["excluded"]} == {"S-001"}
    assert len(unsteady.document["excluded"]) == 6  # three pairs of both pressures
    assert "varied by more than 12 mmHg systolic or 8" in unsteady.document["excluded"][0]["reason"]
    assert unsteady.document["facts"]["subjects"] == 85
    assert unsteady.verdict.outcome is Outcome.PASS
    assert "S-001" not in unsteady.document["items"]["subject"]
    # simultaneous measurement has no such rule
    kept = judged(tmp_path, "iso-81060-2-2018-simultaneous", rows, people.facts)
    assert kept.document["excluded"] == []


def test_a_reference_that_contradicts_its_readings_is_excluded(tmp_path: Path) -> None:
    people = People(85)
    rows = sequential(people.pairs())
    rows[0]["reference"] = float(str(rows[0]["reference"])) + 3
    evaluation = judged(tmp_path, "iso-81060-2-2018", rows, people.facts)
    assert [e["reason"] for e in evaluation.document["excluded"]] == [
        "the stated reference is not the mean of its two readings"
    ]


def test_further_pressures_of_a_line_are_in_its_unit(tmp_path: Path) -> None:
    rows = [
        {"subject": "S-1", "quantity": q, "test": 16.0, "unit": "kPa", "observer_1": 15.9, "observer_2": 16.1}
        for q in PRESSURES
    ]
    evaluation = judged(tmp_path, "iso-81060-2-2018", rows)
    assert evaluation.document["items"]["reference"] == pytest.approx([16.0 * 7.50062] * 2)
    assert criterion(evaluation, "sbp-mean-error")["value"] == pytest.approx(0.0, abs=1e-9)


# ---- grades, ESH


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "subject,quantity,test\nS-1,sbp,120\n",
            "line 1: columns subject, quantity, test, expected reference or",
        ),
        ("subject,quantity,test,observer_1\nS-1,sbp,120,120\n", "observer_1 and observer_2"),
        ("subject,quantity,reference,test,unit\nS-1,sbp,120,121,mL\n", "line 2: sbp in 'mL', expected one of"),
        ("subject,quantity,test,observer_1,observer_2\nS-1,sbp,120,120,high\n", "line 2: observer_2 = 'high'"),
        ("subject,reference,test\nS-1,120,120\n", "line 2: quantity '', expected one of sbp, dbp"),
    ],
)
def test_a_mistake_in_a_table_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(DefinitionError, match=says):
        from_tables([path], applied("iso-81060-2-2018"))


@pytest.mark.parametrize("protocol_id", [n for n, p in PROTOCOLS.items() if p.measurand == "blood_pressure"])
def test_nothing_a_table_can_hold_makes_a_protocol_crash_or_pass(tmp_path: Path, protocol_id: str) -> None:
    base: Row = {"subject": "S-1", "quantity": "sbp", "reference": 120, "test": 121}
    studies: dict[str, list[Row]] = {
        "one pair": [base],
        "one subject": [{**base, "test": 120 + k} for k in range(3)],
        "constant": [{**base, "subject": f"S-{k // 3}"} for k in range(300)],
        "nothing shown": [{**base, "test": ""}],
        "no reference": [{**base, "reference": ""}],
        "impossible": [{**base, "test": 900}, {**base, "reference": -5}],
        "twice": [{**base, "time": START_NS}, {**base, "time": START_NS}],
        "only diastolic": [{**base, "quantity": "dbp", "reference": 80, "test": 82}],
    }
    for rows in studies.values():
        evaluation = judged(tmp_path, protocol_id, rows)
        assert evaluation.verdict.outcome in (Outcome.INCONCLUSIVE, Outcome.NOT_MEASURED)
        assert json.loads(evaluation.to_json())["verdict"]["criteria"]
    reasons = {
        name: {e["reason"] for e in judged(tmp_path, protocol_id, rows).document["excluded"]}
        for name, rows in studies.items()
    }
    assert reasons["nothing shown"] == {"the device showed no value"}
    assert reasons["no reference"] == {"the reference has no value"}
    assert reasons["impossible"] == {"the device's value is impossible", "the reference is impossible"}
    assert reasons["twice"] == {"the pair is there twice"}


def test_a_plan_says_which_pressures_and_limbs_are_wanting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = People(60, sbp=(105.0, 150.0))
    pairs = table(tmp_path / "pairs.csv", people.pairs())
    subjects = table(tmp_path / "subjects.csv", people.facts)
    asked = ["protocol", "plan", "iso-81060-2-2018", "--pairs", str(pairs), "--subjects", str(subjects)]
    assert cli.main(asked) == 0
    said = capsys.readouterr().out
    assert "missing: subjects with pairs: 60 of >= 85, at least 25 more" in said
    assert "missing: systolic reference readings from 160 mmHg: 0 % of >= 5 %, at least 10 more" in said
    assert "met: subjects with a limb in the upper half of the range" in said


def test_every_command_of_the_page_is_understood() -> None:
    page = (Path(__file__).parents[3] / "docs/protocols/blood_pressure.md").read_text(encoding="utf-8")
    commands = [line for line in page.splitlines() if line.startswith("lab ")]
    assert len(commands) >= 4
    for command in commands:
        assert callable(cli.command_parser().parse_args(shlex.split(command)[1:]).run)


def test_the_page_names_every_protocol_and_no_other() -> None:
    page = (Path(__file__).parents[3] / "docs/protocols/blood_pressure.md").read_text(encoding="utf-8")
    ours = {name for name, protocol in PROTOCOLS.items() if protocol.measurand == "blood_pressure"}
    assert ours == set(re.findall(r"`((?:iso-81060|ieee|bhs|esh)-[\w-]+)`", page))
