"""Spirometry from tables and sessions to a verdict: what passes, fails, concludes nothing, or is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lab_api.evaluation import Evaluation, clinical_protocol, evaluate
from lab_api.evidence.sources import from_sessions, from_tables
from lab_api.store.session_store import SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.clinical.subjects import SubjectFacts
from protocols.errors import DefinitionError
from protocols.samples import Channel, SampleBlock, Stream

PROTOCOL = clinical_protocol("ats-ers-2019")
START_NS = 1_790_000_000_000_000_000
RATE_HZ = 100.0
ADULT: SubjectFacts = {"S-1": {"age_years": 40.0}}
HEAD = "subject,manoeuvre,fev1,fvc,bev,last_second\n"


def table(folder: Path, text: str) -> Path:
    path = folder / "manoeuvres.csv"
    path.write_text(text, encoding="utf-8")
    return path


def judged(path: Path, subjects: SubjectFacts = ADULT) -> Evaluation:
    return evaluate(from_tables([path], PROTOCOL, subjects), PROTOCOL)


def outcomes(evaluation: Evaluation) -> dict[str, str]:
    return {v.criterion.id: v.outcome.value for v in evaluation.verdict.criteria}


def grades(evaluation: Evaluation) -> tuple[str, str]:
    labels = {v.criterion.id: v.measurement.label for v in evaluation.verdict.criteria if v.measurement}
    return labels["fev1-grade"], labels["fvc-grade"]


def rows(fev1: Sequence[float], fvc: Sequence[float], subject: str = "S-1") -> str:
    return "".join(
        f"{subject},{n},{one:g},{other:g},0.08,0.02\n"
        for n, (one, other) in enumerate(zip(fev1, fvc, strict=True), start=1)
    )


def test_a_repeatable_session_passes_with_grade_a(tmp_path: Path) -> None:
    evaluation = judged(table(tmp_path, HEAD + rows([3.00, 3.10, 2.95], [4.00, 4.15, 3.90])))
    assert evaluation.verdict.outcome == "PASS"
    assert grades(evaluation) == ("A", "A")  # 3.10 - 3.00, and 4.15 - 4.00: the limit itself is within it
    (repeatability,) = [v for v in evaluation.verdict.criteria if v.criterion.id == "fvc-repeatability"]
    assert repeatability.limit == 0.15
    assert repeatability.measurement is not None
    assert repeatability.measurement.value == pytest.approx(0.15)
    assert evaluation.document["items"]["session_fvc_grade"] == ["A"] * 3


def test_fev1_and_fvc_are_judged_apart(tmp_path: Path) -> None:
    evaluation = judged(table(tmp_path, HEAD + rows([3.00, 3.10, 2.95], [4.00, 4.24, 3.90])))
    assert evaluation.verdict.outcome == "FAIL"
    assert outcomes(evaluation)["fev1-repeatability"] == "PASS"
    assert outcomes(evaluation)["fvc-repeatability"] == "FAIL"
    assert grades(evaluation) == ("A", "D")


def test_too_few_manoeuvres_conclude_nothing(tmp_path: Path) -> None:
    evaluation = judged(table(tmp_path, HEAD + rows([3.00, 3.60], [4.00, 4.90])))
    assert evaluation.verdict.outcome == "INCONCLUSIVE"
    assert not evaluation.verdict.design_sufficient


def test_a_session_without_two_acceptable_manoeuvres_never_fails(tmp_path: Path) -> None:
    slow = "S-1,1,3.0,4.0,0.08,0.02\nS-1,2,3.0,4.0,0.9,0.02\nS-1,3,3.9,4.9,0.9,0.02\n"
    evaluation = judged(table(tmp_path, HEAD + slow))
    assert outcomes(evaluation)["fev1-repeatability"] == "INCONCLUSIVE"
    assert evaluation.verdict.outcome == "INCONCLUSIVE"
    assert grades(evaluation) == ("E", "E")


def test_one_session_that_cannot_be_judged_leaves_the_others_without_a_pass(tmp_path: Path) -> None:
    good = rows([3.00, 3.10, 2.95], [4.00, 4.10, 3.90])
    poor = "S-2,1,3.0,4.0,0.08,0.02\nS-2,2,3.0,4.0,0.9,0.02\nS-2,3,3.0,4.0,0.9,0.02\n"
    ages: SubjectFacts = {"S-1": {"age_years": 40.0}, "S-2": {"age_years": 60.0}}
    assert outcomes(judged(table(tmp_path, HEAD + good + poor), ages))["fev1-repeatability"] == "INCONCLUSIVE"
    bad = rows([3.00, 3.60, 2.95], [4.00, 4.90, 3.90])
    assert outcomes(judged(table(tmp_path, HEAD + bad + poor), ages))["fev1-repeatability"] == "FAIL"


def test_limits_follow_the_subjects_age(tmp_path: Path) -> None:
    text = HEAD + rows([1.00, 1.12, 0.95], [1.20, 1.33, 1.15])
    evaluation = judged(table(tmp_path, text), {"S-1": {"age_years": 6.0}})
    limits = {v.criterion.id: v.limit for v in evaluation.verdict.criteria}
    assert limits["fev1-repeatability"] == pytest.approx(0.112)  # 10 % of 1.12 L, above 0.100 L
    assert outcomes(evaluation)["fev1-repeatability"] == "FAIL"
    assert outcomes(judged(table(tmp_path, text), {"S-1": {"age_years": 7.0}}))["fev1-repeatability"] == "PASS"


def test_a_session_whose_subjects_age_is_not_known_is_listed(tmp_path: Path) -> None:
    path = table(tmp_path, HEAD + rows([3.00, 3.10, 2.95], [4.00, 4.10, 3.90]))
    evaluation = judged(path, {})
    assert evaluation.verdict.outcome == "NOT_MEASURED"
    assert [e["reason"] for e in evaluation.document["excluded"]] == ["the subject's age is not known"]


def test_what_cannot_be_is_left_out_for_a_stated_reason(tmp_path: Path) -> None:
    bad = (
        "S-1,4,3000,4000,80,20\n"  # millilitres taken for litres
        "S-1,5,3.0,2.9,0.08,0.02\n"
        "S-1,6,3.0,4.0,-0.1,0.02\n"
        "S-1,7,,,,\n"
        "S-1,1,3.0,4.0,0.08,0.02\n"
    )
    evaluation = judged(table(tmp_path, HEAD + rows([3.00, 3.10, 2.95], [4.00, 4.10, 3.90]) + bad))
    assert evaluation.verdict.outcome == "PASS"
    reasons = [e["reason"] for e in evaluation.document["excluded"]]
    assert reasons == [
        "the manoeuvre is there twice",
        "a volume is impossible, expected above 0 and up to 12 L",
        "FEV1 is larger than FVC",
        "a volume or time is below 0",
        "the manoeuvre has no values: its signal has a gap or no expiration",
    ]
    assert evaluation.document["facts"]["manoeuvres"] == 3


def test_units_are_converted_and_the_operator_is_heard(tmp_path: Path) -> None:
    text = (
        "subject,manoeuvre,fev1,fvc,bev,last_second,unit,usable,age_years\n"
        "S-1,1,3000,4000,80,20,mL,yes,40\nS-1,2,3100,4100,80,20,mL,,40\nS-1,3,3950,4950,80,20,mL,no,40\n"
    )
    evaluation = judged(table(tmp_path, text), {})
    assert grades(evaluation) == ("B", "B")
    assert evaluation.document["items"]["fev1_l"] == [3.0, 3.1, 3.95]
    assert evaluation.document["items"]["acceptable_fev1"] == ["yes", "yes", "no"]


def test_a_mistake_is_named_with_line_and_column(tmp_path: Path) -> None:
    for text, said in (
        (
            "subject,manoeuvre,fev1\nS-1,1,3\n",
            "no column fvc, bev, expected time_s and flow, or fev1, fvc and bev",
        ),
        (HEAD + "S-1,1,three,4,0.08,0.02\n", "line 2: fev1 = 'three', expected a number"),
        (HEAD + ",1,3,4,0.08,0.02\n", "line 2: subject is empty"),
        (
            "subject,manoeuvre,fev1,fvc,bev,unit\nS-1,1,3,4,0.1,gal\n",
            "line 2: unit = 'gal', expected one of L, mL",
        ),
        ("subject,manoeuvre,fev1,fvc,bev,age_years\nS-1,1,3,4,0.1,400\n", "age_years=400.0, expected a number"),
        (
            "subject,manoeuvre,time_s,flow\nS-1,1,0,1\nS-1,1,0.01,1\nS-1,1,0.5,1\n",
            "time_s of the manoeuvre is not even",
        ),
        ("subject,manoeuvre,time_s,flow,unit\nS-1,1,0,1,L/s\nS-1,1,0.01,60,L/min\n", "line 3: unit = 'L/min'"),
        ("subject,manoeuvre,time_s,flow\nS-1,1,0,1\nS-1,1,0.1,1\nS-1,1,0.2,1\n", "rate_hz="),
    ):
        with pytest.raises(DefinitionError, match=said):
            from_tables([table(tmp_path, text)], PROTOCOL)


def forced(fvc_l: float, *, lasts_s: float = 7.0) -> np.ndarray:
    """Flow that rises in 50 ms and falls exponentially, tau 0.6 s, with a breath before and after."""
    times_s = np.arange(0, lasts_s, 1 / RATE_HZ)
    shape = np.where(times_s < 0.05, times_s / 0.05, np.exp(-(times_s - 0.05) / 0.6))
    breath = np.sin(np.pi * np.arange(150) / 150)
    breath_in = -fvc_l * breath / (breath.sum() / RATE_HZ)
    return np.concatenate([breath_in, fvc_l * shape / (shape.sum() / RATE_HZ), breath_in, np.zeros(2000)])


def test_a_table_of_flows_gives_what_its_values_give(tmp_path: Path) -> None:
    lines = ["subject,manoeuvre,time_s,flow,unit,age_years"]
    for number, fvc_l in enumerate((4.0, 4.1, 3.9), start=1):
        lines += [
            f"S-1,{number},{place / RATE_HZ:.2f},{60 * one:.4f},L/min,40"
            for place, one in enumerate(forced(fvc_l))
        ]
    evaluation = judged(table(tmp_path, "\n".join(lines)), {})
    assert evaluation.verdict.outcome == "PASS"
    assert grades(evaluation) == ("A", "A")
    assert evaluation.document["items"]["fvc_l"] == pytest.approx([4.0, 4.1, 3.9], abs=0.03)


@pytest.mark.shared_data
def test_grades_are_those_of_the_collected_criteria(tmp_path: Path, shared: Path) -> None:
    collected = json.loads((shared / "protocol_criteria.json").read_text())["ats_ers_2019"]
    worse = dict(zip("ABCD", "CCDE", strict=True))  # what a hair more than allowed comes to
    for grade, (n, limit_l) in collected["repeat_L"].items():
        for over_l, expected in ((0.0, grade), (0.001, worse[grade])):
            fev1 = [3.0, round(3.0 + limit_l + over_l, 3), 2.5][:n]
            text = HEAD + rows(fev1, [round(one + 1, 3) for one in fev1])
            assert grades(judged(table(tmp_path, text))) == (expected, expected)
    for grade, (n, limit) in collected["le6y"].items():
        least_l = float(limit.removeprefix("max(").split(",")[0])
        fev1 = [0.5, round(0.5 + least_l, 3), 0.4][:n]
        text = HEAD + rows(fev1, [round(one + 0.2, 3) for one in fev1])
        child: SubjectFacts = {"S-1": {"age_years": 5.0}}
        assert grades(judged(table(tmp_path, text), child)) == (grade, grade)


def session(store: SqliteSessionStore, flow: np.ndarray, *, unit: str = "L/s", name: str = "flow") -> str:
    stream = Stream("spirometer", (Channel(name, unit),), "float64", RATE_HZ)
    devices = [SessionDevice("test", "gw", "spirometer")]
    opened = store.open_session(subject="S-1", devices=devices, opened_ns=START_NS)
    block = SampleBlock("spirometer", stream, 1, 0, START_NS, flow[np.newaxis], START_NS, 0, 0)
    store.write({opened.id: [("gw", block)]})
    store.close_session(opened.id, closed_ns=START_NS + 3_600_000_000_000)
    return opened.id


def test_manoeuvres_are_found_in_a_sessions_flow(store: SqliteSessionStore) -> None:
    good = session(store, np.concatenate([forced(v) for v in (4.0, 4.1, 3.9)]))
    evaluation = evaluate(from_sessions(store, [good], PROTOCOL, ADULT), PROTOCOL)
    assert evaluation.verdict.outcome == "PASS"
    assert grades(evaluation) == ("A", "A")
    assert evaluation.document["sources"][0]["figures"]["manoeuvres"] == 3
    bad = session(store, np.concatenate([forced(v) for v in (4.0, 3.4, 2.9)]))
    evaluation = evaluate(from_sessions(store, [bad], PROTOCOL, ADULT), PROTOCOL)
    assert evaluation.verdict.outcome == "FAIL"
    assert grades(evaluation) == ("E", "E")


def test_a_session_without_flow_or_with_a_gap_in_it_is_told(store: SqliteSessionStore) -> None:
    with pytest.raises(DefinitionError, match="has 0 streams with a channel flow"):
        from_sessions(store, [session(store, forced(4.0), name="pressure")], PROTOCOL)
    with pytest.raises(DefinitionError, match=r"flow of gw/spirometer in 'L', expected L/s, mL/s, L/min"):
        from_sessions(store, [session(store, forced(4.0), unit="L")], PROTOCOL)
    quiet = session(store, np.zeros(6000))
    assert evaluate(from_sessions(store, [quiet], PROTOCOL, ADULT), PROTOCOL).verdict.outcome == "INCONCLUSIVE"
    flow = np.concatenate([forced(v) for v in (4.0, 4.1, 3.9, 4.05)])
    flow[300:320] = np.nan  # within the first
    evaluation = evaluate(from_sessions(store, [session(store, flow)], PROTOCOL, ADULT), PROTOCOL)
    assert evaluation.verdict.outcome == "PASS"
    assert evaluation.document["facts"]["manoeuvres_without_value"] == 1
    assert "gap" in evaluation.document["excluded"][0]["reason"]
