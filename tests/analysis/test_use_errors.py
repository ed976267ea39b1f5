"""The table of use errors, and what it refuses."""

from __future__ import annotations

import pytest

from analysis.use_errors import TaskObservation, use_error_table
from protocols.errors import SignalError


def saw(task: str, who: str, outcome: str = "success", group: str = "nurse", **more: object) -> TaskObservation:
    if outcome == "use_error":
        more = {"root_cause": "label hidden", "potential_harm": "overdose", **more}
    return TaskObservation(task, who, group, outcome, **more)  # type: ignore[arg-type]


def test_outcomes_are_counted_by_task_and_group() -> None:
    found = use_error_table(
        [
            saw("fill", "n1"),
            saw("fill", "n2", "use_error"),
            saw("fill", "p1", "difficulty", group="patient"),
            saw("start", "n1", "close_call", critical=True),
            saw("start", "n2", critical=True),
        ]
    )
    tallies = [
        (one.task, one.user_group, one.critical, one.success, one.difficulty, one.close_call, one.use_error)
        for one in found.tasks
    ]
    assert tallies == [
        ("fill", "nurse", False, 1, 0, 0, 1),
        ("fill", "patient", False, 0, 1, 0, 0),
        ("start", "nurse", True, 1, 0, 1, 0),
    ]
    assert found.participants == (("nurse", 2), ("patient", 1))
    assert found.groups_too_small == ("nurse", "patient")
    assert [(one.task, one.outcome) for one in found.findings] == [
        ("start", "close_call"),  # critical first
        ("fill", "use_error"),
        ("fill", "difficulty"),
    ]


def test_no_use_error_among_fifteen_still_allows_18_percent() -> None:
    found = use_error_table(saw("fill", f"n{k}") for k in range(15))
    assert found.groups_too_small == ()
    assert found.findings == ()
    # 1 - 0.05 ** (1 / 15)
    assert found.tasks[0].use_error_share.upper_bound_percent == pytest.approx(18.1, abs=0.05)
    assert found.tasks[0].use_error_share.percent == 0.0


def test_nothing_seen_is_an_empty_table() -> None:
    found = use_error_table([])
    assert found.tasks == found.findings == found.participants == ()


@pytest.mark.parametrize(
    ("observations", "says"),
    [
        (lambda: [saw("fill", "n1", "failed")], "outcome='failed'"),
        (lambda: [saw("fill", "n1", "use_error", root_cause=" ")], "without its root cause"),
        (lambda: [saw(" ", "n1")], "task=''"),
        (lambda: [saw("fill", "n1"), saw("fill", "n1")], "'n1' tried 'fill' twice"),
        (lambda: [saw("fill", "n1"), saw("start", "n1", group="patient")], "two user groups"),
        (lambda: [saw("fill", "n1"), saw("fill", "n2", critical=True)], "critical for some"),
    ],
)
def test_misuse_is_named(observations, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SignalError, match=says):
        use_error_table(observations())
