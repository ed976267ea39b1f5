"""Questionnaires from a table to a verdict: scores of known truth, exclusions by reason, mistakes by line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lab_api.evaluation import Evaluation, clinical_protocol, evaluate
from lab_api.evidence.sources import from_sessions, from_tables
from lab_api.store.session_store import SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.clinical.library import shipped
from protocols.errors import DefinitionError
from protocols.samples import Channel, SampleBlock, Stream

SUS = clinical_protocol("sus")
UEQ = clinical_protocol("ueq")
TLX = clinical_protocol("nasa-tlx")
WEIGHTED = clinical_protocol("nasa-tlx-weighted")
ITEMS = ",".join(f"item_{n}" for n in range(1, 11))
SCALES = "mental,physical,temporal,performance,effort,frustration"
GOOD, FAIR, POOR = "4,2,4,2,4,2,4,2,4,2", "3,3,3,3,3,3,3,3,3,3", "2,4,2,4,2,4,2,4,2,4"  # 75, 50 and 25


def table(folder: Path, head: str, lines: list[str]) -> Path:
    path = folder / "answers.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


def sus(folder: Path, answers: list[str], head: str = "") -> Path:
    lines = [f"P-{number},sus,{one}" for number, one in enumerate(answers)]
    return table(folder, head or f"subject,questionnaire,{ITEMS}", lines)


def judged(path: Path, protocol=SUS) -> Evaluation:  # type: ignore[no-untyped-def]
    return evaluate(from_tables([path], protocol), protocol)


def labels(evaluation: Evaluation) -> dict[str, str]:
    return {v.criterion.id: v.measurement.label for v in evaluation.verdict.criteria if v.measurement}


def values(evaluation: Evaluation) -> dict[str, float]:
    return {v.criterion.id: v.measurement.value for v in evaluation.verdict.criteria if v.measurement}


def reasons(evaluation: Evaluation) -> list[str]:
    return [excluded["reason"] for excluded in evaluation.document["excluded"]]


def test_a_good_score_passes_with_the_grades_its_interval_spans(tmp_path: Path) -> None:
    evaluation = judged(sus(tmp_path, [GOOD] * 10 + [FAIR, GOOD]))
    assert evaluation.verdict.outcome == "PASS"
    scores = np.array([75.0] * 10 + [50.0, 75.0])
    assert values(evaluation)["mean"] == pytest.approx(scores.mean())
    assert labels(evaluation)["grade"] == "B-"
    assert labels(evaluation)["grade-low"] == "C"  # the mean is 72.9, its interval 68.3 to 77.5
    assert labels(evaluation)["grade-high"] == "B+"


def test_a_poor_score_fails_and_a_lab_may_set_its_own(tmp_path: Path) -> None:
    path = sus(tmp_path, [GOOD, FAIR] * 6)
    assert judged(path).verdict.outcome == "FAIL"
    assert judged(path, clinical_protocol("sus", None, {"acceptance_score": 60})).verdict.outcome == "PASS"


def test_too_few_persons_conclude_nothing(tmp_path: Path) -> None:
    assert judged(sus(tmp_path, [GOOD] * 11)).verdict.outcome == "INCONCLUSIVE"
    assert judged(sus(tmp_path, [POOR])).verdict.outcome == "INCONCLUSIVE"
    assert judged(sus(tmp_path, [])).verdict.outcome == "NOT_MEASURED"


def test_one_person_has_no_interval_that_could_meet_a_limit(tmp_path: Path) -> None:
    (mean, *rest) = SUS.criteria
    strict = replace(SUS, criteria=(replace(mean, judged="low"), *rest))
    alone = judged(sus(tmp_path, [GOOD]), strict).verdict.criteria[0]
    assert alone.outcome == "NOT_MEASURED"
    assert "75 (n = 1, no interval)" in str(alone)
    assert judged(sus(tmp_path, [GOOD] * 11 + [FAIR]), strict).verdict.outcome == "PASS"
    assert judged(sus(tmp_path, [GOOD] * 9 + [FAIR] * 3), strict).verdict.outcome == "FAIL"


def test_equal_scores_have_a_mean(tmp_path: Path) -> None:
    evaluation = judged(sus(tmp_path, [GOOD] * 12))
    assert values(evaluation)["mean"] == 75.0
    assert labels(evaluation)["grade"] == labels(evaluation)["grade-low"] == "B"


def test_what_has_no_score_is_listed_and_never_filled(tmp_path: Path) -> None:
    answers = [GOOD] * 12 + ["4,2,4,2,,2,4,2,4,2", "4,2,4,2,6,2,4,2,4,2", "4,2,4,2,2.5,2,4,2,4,2"]
    path = sus(tmp_path, answers)
    path.write_text(path.read_text() + f"P-0,sus,{POOR}\n")
    evaluation = judged(path)
    assert values(evaluation)["mean"] == 75.0
    first, second, third, fourth = reasons(evaluation)
    assert first == "an item was not answered"
    assert second.startswith("an answer is impossible: answers holds 6")
    assert third.startswith("an answer is impossible: answers holds 2.5")
    assert fourth == "the person answered it on this occasion before"


def test_a_person_counts_once_however_often_asked(tmp_path: Path) -> None:
    head = f"subject,questionnaire,session,{ITEMS}"
    lines = [f"P-{n},sus,first,{GOOD}" for n in range(12)] + [f"P-{n},sus,second,{FAIR}" for n in range(6)]
    evaluation = judged(table(tmp_path, head, lines))
    assert evaluation.document["facts"]["sus_subjects"] == 12
    assert values(evaluation)["mean"] == pytest.approx((6 * 62.5 + 6 * 75.0) / 12)


def test_scales_of_the_user_experience_questionnaire(tmp_path: Path) -> None:
    # the best answer to every item: 1 where the positive word stands left, else 7
    left = {3, 4, 5, 9, 10, 12, 17, 18, 19, 21, 23, 24}
    best = ",".join("1" if n in left else "7" for n in range(1, 27))
    random = ",".join("17"[n % 2] for n in range(26))
    head = "subject,questionnaire," + ",".join(f"item_{n}" for n in range(1, 27))
    lines = [f"P-{n},ueq,{best}" for n in range(20)]
    evaluation = judged(table(tmp_path, head, lines), UEQ)
    assert evaluation.verdict.outcome == "REPORTED"
    assert {values(evaluation)[scale] for scale in ("attractiveness", "novelty", "dependability")} == {3.0}
    assert values(evaluation)["inconsistent"] == 0.0
    mixed = judged(table(tmp_path, head, [*lines[:15], *(f"R-{n},ueq,{random}" for n in range(5))]), UEQ)
    assert values(mixed)["inconsistent"] == 25.0
    assert judged(table(tmp_path, head, lines[:19]), UEQ).verdict.outcome == "INCONCLUSIVE"


def test_raw_and_weighted_load(tmp_path: Path) -> None:
    weights = ",".join(f"weight_{scale}" for scale in SCALES.split(","))
    head = f"subject,questionnaire,{SCALES},{weights}"
    lines = [f"P-{n},nasa_tlx,60,20,40,30,50,10,5,0,3,2,4,1" for n in range(10)]
    path = table(tmp_path, head, lines)
    assert judged(path, TLX).verdict.outcome == judged(path, WEIGHTED).verdict.outcome == "REPORTED"
    assert values(judged(path, TLX))["index"] == pytest.approx(35.0)
    by_hand = (5 * 60 + 0 * 20 + 3 * 40 + 2 * 30 + 4 * 50 + 1 * 10) / 15
    assert values(judged(path, WEIGHTED))["index"] == pytest.approx(by_hand)
    assert values(judged(path, TLX))["mental"] == 60.0
    unweighed = table(tmp_path, f"subject,questionnaire,{SCALES}", ["P-1,nasa_tlx,60,20,40,30,50,10"])
    assert judged(unweighed, WEIGHTED).verdict.outcome == "INCONCLUSIVE"
    wrong = table(tmp_path, head, [*lines, "P-11,nasa_tlx,60,20,40,30,50,10,5,5,5,5,5,5"])
    assert "weights add up to 30, expected 15 comparisons" in reasons(judged(wrong, TLX))[0]


def test_one_table_may_hold_several_questionnaires(tmp_path: Path) -> None:
    lines = [f"P-{n},sus,{GOOD}" + "," * 6 for n in range(12)]
    lines += [f"P-{n},nasa_tlx" + "," * 10 + ",60,20,40,30,50,10" for n in range(12)]
    path = table(tmp_path, f"subject,questionnaire,{ITEMS},{SCALES}", lines)
    assert judged(path).verdict.outcome == "PASS"
    assert judged(path, TLX).verdict.outcome == "REPORTED"


def test_a_mistake_is_named_with_line_and_column(tmp_path: Path) -> None:
    for head, line, said in (
        (f"subject,{ITEMS}", f"P-1,{GOOD}", "expected subject, questionnaire among them"),
        (
            f"subject,questionnaire,{ITEMS}",
            f"P-1,sas,{GOOD}",
            "line 2: questionnaire = 'sas', expected one of sus",
        ),
        (f"subject,questionnaire,{ITEMS}", f",sus,{GOOD}", "line 2: subject is empty"),
        (
            f"subject,questionnaire,{ITEMS}",
            "P-1,sus,agree" + ",3" * 9,
            "line 2: item_1 = 'agree', expected a number",
        ),
        ("subject,questionnaire,item_1", "P-1,sus,3", "line 2: no column item_2"),
    ):
        with pytest.raises(DefinitionError, match=said):
            from_tables([table(tmp_path, head, [line])], SUS)


def test_a_session_without_a_questionnaire_says_so(store: SqliteSessionStore) -> None:
    opened = store.open_session(subject="P-1", devices=[SessionDevice("test", "gw", "app")], opened_ns=1)
    with pytest.raises(
        DefinitionError, match=r"holds no questionnaires, expected .* a table \(--pairs\) for sus"
    ):
        from_sessions(store, [opened.id], SUS)


def asked(store: SqliteSessionStore, subject: str, *answers: list[int]) -> str:
    """A session in which an app asked, once or more."""
    stream = Stream("sus", tuple(Channel(f"item_{n}", "1") for n in range(10, 0, -1)), "int8", None)
    opened = store.open_session(subject=subject, devices=[SessionDevice("test", "gw", "app")], opened_ns=1)
    values = np.array(answers, dtype=np.int8).T[::-1]
    times_ns = 10 + np.arange(len(answers), dtype=np.int64)
    block = SampleBlock("app", stream, 1, 0, 10, values, 10, 0, 0, None, times_ns)
    store.write({opened.id: [("gw", block)]})
    store.close_session(opened.id, closed_ns=1000)
    return opened.id


def test_an_app_that_asks_gives_what_its_table_gives(store: SqliteSessionStore, tmp_path: Path) -> None:
    good, fair = ([int(one) for one in answers.split(",")] for answers in (GOOD, FAIR))
    ids = [asked(store, f"P-{n}", good if n else fair) for n in range(12)]
    evaluation = evaluate(from_sessions(store, ids, SUS), SUS)
    assert evaluation.verdict.outcome == "PASS"
    assert values(evaluation) == values(judged(sus(tmp_path, [FAIR] + [GOOD] * 11)))
    again = evaluate(from_sessions(store, [asked(store, "P-1", good, fair)], SUS), SUS)
    assert values(again)["mean"] == 75.0
    assert reasons(again) == ["the person answered it on this occasion before"]


@pytest.mark.shared_data
def test_the_score_to_reach_is_the_collected_mean(shared: Path) -> None:
    collected = json.loads((shared / "protocol_criteria.json").read_text())["sus"]
    (parameter,) = shipped()["sus"].parameters
    assert parameter.default == collected["mean"]
    assert parameter.provenance.confidence == "lab"
