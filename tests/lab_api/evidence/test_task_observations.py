"""Use errors from a table to a report: counts, findings with their risk, and mistakes that are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.proportions import clopper_pearson
from lab_api.evaluation import Evaluation, clinical_protocol, evaluate
from lab_api.evidence.sources import from_sessions, from_tables
from lab_api.report.page import html
from lab_api.store.session_store import SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.errors import DefinitionError

PROTOCOL = clinical_protocol("iec-62366-1")
HEAD = "subject,user_group,task,result,critical,severity,root_cause,harm,residual_risk"
TASKS = (("set dose", "yes"), ("read value", "no"))


def table(folder: Path, lines: list[str], head: str = HEAD) -> Path:
    path = folder / "tasks.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


def successes(group: str, n: int = 15) -> list[str]:
    return [
        f"{group}-{number},{group},{task},success,{critical},,,,"
        for number in range(n)
        for task, critical in TASKS
    ]


def with_errors(lines: list[str]) -> list[str]:
    """Three findings: a serious use error that is open, one whose risk was accepted, and a close call."""
    found = {
        "nurse-1,nurse,set dose": "use_error,yes,serious,label unclear,overdose,",
        "nurse-2,nurse,set dose": "use_error,yes,critical,label unclear,overdose,acceptable",
        "nurse-3,nurse,read value": "close_call,no,minor,glare,delay,",
    }
    return [
        f"{key},{found[key]}" if (key := ",".join(line.split(",")[:3])) in found else line for line in lines
    ]


def judged(path: Path) -> Evaluation:
    return evaluate(from_tables([path], PROTOCOL), PROTOCOL)


def values(evaluation: Evaluation) -> dict[str, float]:
    return {v.criterion.id: v.measurement.value for v in evaluation.verdict.criteria if v.measurement}


def test_counts_are_reported_and_findings_listed_critical_ones_first(tmp_path: Path) -> None:
    evaluation = judged(table(tmp_path, with_errors(successes("nurse") + successes("patient"))))
    assert evaluation.verdict.outcome == "REPORTED"
    assert all(v.criterion.comparison == "report" for v in evaluation.verdict.criteria)
    found = values(evaluation)
    assert found["use-errors"] == found["critical"] == found["serious"] == 2
    assert (found["close-calls"], found["difficulties"]) == (1, 0)
    assert found["serious-open"] == found["residual-open"] == 1
    assert found["unjudged"] == 0
    assert found["participants"] == pytest.approx(100 * 2 / 30)
    assert found["worst-task"] == pytest.approx(100 * 2 / 15)
    details = {v.criterion.id: v.measurement.details for v in evaluation.verdict.criteria if v.measurement}
    assert details["use-errors"] == {"set dose (nurse)": 2}
    items = evaluation.document["items"]
    assert items["result"] == ["use_error", "use_error", "close_call"]
    assert items["residual_risk"] == ["", "acceptable", ""]
    assert items["harm"] == ["overdose", "overdose", "delay"]


def test_the_report_lists_every_finding_in_both_languages(tmp_path: Path) -> None:
    lines = [line.replace("nurse-1,", "nurse_1,") for line in with_errors(successes("nurse"))]
    document = judged(table(tmp_path, lines)).document
    english, french = (html(document, language) for language in ("en", "fr"))
    for word in ("Item by item", "label unclear", "overdose", "nurse_1", "use error", "serious"):
        assert word in english, word
    for word in ("label unclear", "nurse_1", "grave", "risque résiduel", "quasi-erreur"):
        assert word in french, word


def test_no_error_in_fifteen_still_allows_many(tmp_path: Path) -> None:
    evaluation = judged(table(tmp_path, successes("nurse")))
    (share,) = [v.measurement for v in evaluation.verdict.criteria if v.criterion.id == "participants"]
    assert share is not None
    assert share.value == share.low == 0.0
    assert share.high == pytest.approx(100 * float(clopper_pearson(0, 15).high))
    assert 21.0 < share.high < 22.0


@pytest.mark.parametrize(
    ("lines", "requirement"),
    [
        (successes("nurse") + successes("patient", 14), "group"),
        ([line.replace(",yes,", ",no,") for line in successes("nurse")], "critical-tasks"),
        (successes("nurse")[1:], "tried"),
    ],
)
def test_a_sample_that_is_not_enough_concludes_nothing(
    tmp_path: Path, lines: list[str], requirement: str
) -> None:
    evaluation = judged(table(tmp_path, lines))
    assert evaluation.verdict.outcome == "INCONCLUSIVE"
    assert [d.requirement.id for d in evaluation.verdict.design if not d.met] == [requirement]


def test_no_observation_is_not_measured(tmp_path: Path) -> None:
    assert judged(table(tmp_path, [])).verdict.outcome == "NOT_MEASURED"


def test_a_second_try_is_left_out_and_listed(tmp_path: Path) -> None:
    again = "nurse-0,nurse,set dose,use_error,yes,serious,haste,overdose,"
    evaluation = judged(table(tmp_path, [*successes("nurse"), again]))
    assert values(evaluation)["use-errors"] == 0
    (excluded,) = evaluation.document["excluded"]
    assert (excluded["subject"], excluded["quantity"]) == ("nurse-0", "set dose")
    assert excluded["reason"] == "the participant tried the task before"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("N-1,nurse,set dose,failed,yes,,,,", "line 2: result = 'failed', expected one of success, difficulty"),
        (
            "N-1,nurse,set dose,use_error,yes,,,,",
            "line 2: use error of 'N-1' in 'set dose' without its root cause",
        ),
        (
            "N-1,nurse,set dose,success,perhaps,,,,",
            "line 2: critical = 'perhaps', expected one of nothing, yes, no",
        ),
        (
            "N-1,nurse,set dose,use_error,yes,bad,a,b,",
            "line 2: severity = 'bad', expected one of nothing, negligible",
        ),
        ("N-1,nurse,set dose,use_error,yes,serious,a,b,low", "line 2: residual_risk = 'low', expected one of"),
        ("N-1,,set dose,success,yes,,,,", "line 2: user_group is empty"),
    ],
)
def test_a_mistake_is_named_with_line_and_column(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        from_tables([table(tmp_path, [line])], PROTOCOL)


def test_contradictions_between_lines_are_named(tmp_path: Path) -> None:
    other_group = "nurse-0,patient,walk,success,no,,,,"
    with pytest.raises(DefinitionError, match="'nurse-0' belongs to two user groups"):
        from_tables([table(tmp_path, [*successes("nurse"), other_group])], PROTOCOL)
    at_times = "nurse-99,nurse,set dose,success,no,,,,"
    with pytest.raises(DefinitionError, match="task 'set dose' is critical for some participants only"):
        from_tables([table(tmp_path, [*successes("nurse"), at_times])], PROTOCOL)


def test_a_session_holds_no_observations_and_says_so(store: SqliteSessionStore) -> None:
    opened = store.open_session(subject="P-1", devices=[SessionDevice("test", "gw", "pump")], opened_ns=1)
    with pytest.raises(DefinitionError, match=r"holds no observations of tasks, expected a table \(--pairs\)"):
        from_sessions(store, [opened.id], PROTOCOL)
