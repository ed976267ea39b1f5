"""Studies of use errors: counts that people judge, and what has not been judged."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.estimates import Estimate
from analysis.use_error_study import USE_ERRORS, UseErrorStudy
from analysis.use_errors import TaskObservation
from protocols.clinical.criteria import Statistics
from protocols.errors import SignalError

STATISTICS = Statistics()


def observed(
    participant: str, outcome: str = "success", task: str = "set dose", **other: object
) -> TaskObservation:
    said = {"root_cause": "label", "potential_harm": "overdose"} if outcome == "use_error" else {}
    return TaskObservation(task, participant, "nurse", outcome, True, **{**said, **other})  # type: ignore[arg-type]


def figure(name: str, *observations: TaskObservation) -> Estimate:
    return USE_ERRORS.metrics[name].function(UseErrorStudy.of_observations(observations), STATISTICS)


SERIOUS_OPEN = observed("P-1", "use_error", severity="serious")
SERIOUS_REFUSED = observed("P-2", "use_error", severity="catastrophic", residual_risk="not_acceptable")
SERIOUS_ACCEPTED = observed("P-3", "use_error", severity="critical", residual_risk="acceptable")
MINOR = observed("P-4", "use_error", severity="minor", residual_risk="acceptable")
UNJUDGED = observed("P-5", "use_error")
FINE = observed("P-6")
ALL = (SERIOUS_OPEN, SERIOUS_REFUSED, SERIOUS_ACCEPTED, MINOR, UNJUDGED, FINE)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("use_errors", 5),
        ("use_errors_critical_tasks", 5),
        ("use_errors_serious_harm", 3),
        ("use_errors_serious_harm_open", 2),
        ("use_errors_without_severity", 1),
        ("use_errors_residual_risk_open", 3),
        ("close_calls", 0),
    ],
)
def test_what_was_not_judged_stays_open(name: str, count: int) -> None:
    assert figure(name, *ALL).value == count
    assert figure(name, *ALL[::-1]).value == count


def test_participants_and_tasks_are_two_shares() -> None:
    two = [observed(f"P-{k}", "use_error" if k == 0 else "success", task) for k in range(4) for task in "ab"]
    assert figure("participants_with_use_error", *two).value == 25.0
    assert figure("use_errors", *two).value == 2
    assert figure("use_errors", *two).details == {"a (nurse)": 1.0, "b (nurse)": 1.0}
    worst = figure("use_error_worst_task", *two)
    assert (worst.value, worst.n) == (25.0, 4)


def test_facts_count_the_critical_tasks_that_were_not_tried() -> None:
    study = UseErrorStudy.of_observations([observed("P-1"), observed("P-2"), observed("P-1", task="stop")])
    facts = USE_ERRORS.design_facts(study, STATISTICS)
    assert (facts["critical_tasks"], facts["untried_critical_tasks"]) == (2, 1)
    assert (facts["subjects"], facts["fewest_subjects_per_group"]) == (2, 2)
    assert facts.keys() <= USE_ERRORS.facts.keys()


def test_nothing_gives_no_figures() -> None:
    for metric in USE_ERRORS.metrics.values():
        assert np.isnan(metric.function(UseErrorStudy(), STATISTICS).value)


def test_a_word_that_nobody_agreed_on_is_refused() -> None:
    with pytest.raises(SignalError, match="severity='grave', expected one of negligible"):
        observed("P-1", "use_error", severity="grave")
    with pytest.raises(SignalError, match="residual_risk='low', expected one of acceptable"):
        observed("P-1", "use_error", residual_risk="low")
