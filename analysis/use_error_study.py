"""Use errors of a summative evaluation: counts by task, what harm they could do, and what is left open.

IEC 62366-1 gives no number to pass. The counts are reported, the list of everything that was no success is the
result, and people judge whether the risk that is left is acceptable. What has not been judged counts as open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from analysis.counted_share import counted_share
from analysis.estimates import Estimate
from analysis.metric import Fact, Metric, Study
from analysis.paired_study import Excluded
from analysis.study_subjects import SUBJECT_FACTS, known_of
from analysis.use_errors import SEVERITIES, TaskObservation, UseErrorTable, use_error_table
from protocols.clinical.criteria import Statistics
from protocols.clinical.subjects import SubjectFacts

SERIOUS: Final = SEVERITIES[SEVERITIES.index("serious") :]
_IEC: Final = "IEC 62366-1:2015, summative evaluation"


@dataclass(frozen=True, slots=True)
class UseErrorStudy:
    """Observations of a study, what is known of the participants, and which observations were left out."""

    observations: tuple[TaskObservation, ...] = ()
    facts: SubjectFacts = field(default_factory=lambda: MappingProxyType({}))
    excluded: tuple[Excluded, ...] = ()

    @classmethod
    def of_observations(
        cls, observations: Iterable[TaskObservation], facts: SubjectFacts = MappingProxyType({})
    ) -> UseErrorStudy:
        """Return the study of observations; a second one of the same person and task is left out and listed."""
        seen: dict[tuple[str, str], TaskObservation] = {}
        left_out = []
        for number, one in enumerate(observations, start=1):
            key = one.participant, one.task
            if key in seen:
                reason = "the participant tried the task before"
                left_out.append(Excluded(one.participant, one.user_group, number, one.task, reason))
            else:
                seen[key] = one
        return cls(tuple(seen.values()), facts, tuple(left_out))

    def table(self, *, level: float = 0.95) -> UseErrorTable:
        """Return the tallies by task and the list of findings."""
        return use_error_table(self.observations, level=level)


def count(
    which: Callable[[TaskObservation], bool], method: str
) -> Callable[[UseErrorStudy, Statistics], Estimate]:
    """Return the metric that counts the observations for which `which` is true, by task in its details."""

    def metric(study: UseErrorStudy, statistics: Statistics) -> Estimate:  # noqa: ARG001
        n = len(study.observations)
        by_task: dict[str, float] = {}
        for one in filter(which, study.observations):
            name = f"{one.task} ({one.user_group})"
            by_task[name] = by_task.get(name, 0.0) + 1.0
        value = sum(by_task.values()) if n else float("nan")
        return Estimate(float(value), n, method=method, details=by_task)

    return metric


def participants_with_use_error(study: UseErrorStudy, statistics: Statistics) -> Estimate:
    """Return the percentage of participants with at least one use error, with its exact interval."""
    everyone = {one.participant for one in study.observations}
    erring = {one.participant for one in study.observations if _erred(one)}
    level = statistics.confidence_level
    share = counted_share(len(erring), len(everyone), level=level)
    if not everyone:
        return Estimate(float("nan"), 0, method="no observation")
    method = "participants with at least one use error, Clopper-Pearson"
    return Estimate(share.percent, share.n, share.low_percent, share.high_percent, level, method)


def worst_task(study: UseErrorStudy, statistics: Statistics) -> Estimate:
    """Return the largest percentage of a user group's participants that made a use error in one task."""
    level = statistics.confidence_level
    tasks = study.table(level=level).tasks
    if not tasks:
        return Estimate(float("nan"), 0, method="no observation")
    worst = max(tasks, key=lambda tally: tally.use_error_share.percent)
    share = worst.use_error_share
    method = f"participants with a use error in {worst.task} ({worst.user_group}), Clopper-Pearson"
    details = {f"{t.task} ({t.user_group})": t.use_error_share.percent for t in tasks}
    return Estimate(share.percent, share.n, share.low_percent, share.high_percent, level, method, details)


def design_facts(study: UseErrorStudy, statistics: Statistics) -> dict[str, float]:  # noqa: ARG001
    """Return what the sample of participants and tasks is like."""
    table = study.table()
    groups = dict(table.participants)
    tasks = {one.task: one.critical for one in study.observations}
    participants = {one.participant for one in study.observations}
    critical = sum(tasks.values())
    tried = sum(one.critical for one in study.observations)
    facts = {
        "subjects": float(len(participants)),
        "user_groups": float(len(groups)),
        "fewest_subjects_per_group": float(min(groups.values(), default=0)),
        "tasks": float(len(tasks)),
        "critical_tasks": float(critical),
        "observations": float(len(study.observations)),
        "untried_critical_tasks": float(critical * len(participants) - tried),
        "excluded": float(len(study.excluded)),
    }
    return facts | known_of(participants, study.facts)


FACTS: Final[Mapping[str, Fact]] = MappingProxyType(
    {
        "subjects": Fact("participants", title_fr="participants"),
        "user_groups": Fact("user groups", title_fr="groupes d'utilisateurs"),
        "fewest_subjects_per_group": Fact(
            "participants of the user group that has fewest",
            title_fr="participants du groupe d'utilisateurs qui en a le moins",
        ),
        "tasks": Fact("tasks", title_fr="tâches"),
        "critical_tasks": Fact(
            "tasks in which a use error could do serious harm",
            title_fr="tâches dans lesquelles une erreur d'utilisation peut causer un dommage grave",
        ),
        "observations": Fact(
            "participants times tasks that were observed", title_fr="participants fois tâches observés"
        ),
        "untried_critical_tasks": Fact(
            "critical tasks that a participant was not observed in, over all",
            title_fr="tâches critiques dans lesquelles un participant n'a pas été observé, en tout",
        ),
        "excluded": Fact("observations left out", title_fr="observations écartées"),
        **SUBJECT_FACTS,
    }
)


def _erred(one: TaskObservation) -> bool:
    return one.outcome == "use_error"


def _serious(one: TaskObservation) -> bool:
    return _erred(one) and one.severity in SERIOUS


def _metrics() -> dict[str, Metric]:
    def counting(which: Callable[[TaskObservation], bool], method: str) -> Metric:
        return Metric("use_errors", "1", count(which, method), ("observations",), _IEC)

    def share(function: Callable[[UseErrorStudy, Statistics], Estimate]) -> Metric:
        return Metric("use_errors", "%", function, ("observations",), _IEC)

    return {
        "use_errors": counting(_erred, "observations with a use error"),
        "close_calls": counting(lambda one: one.outcome == "close_call", "observations with a close call"),
        "use_difficulties": counting(lambda one: one.outcome == "difficulty", "observations with a difficulty"),
        "use_errors_critical_tasks": counting(
            lambda one: _erred(one) and one.critical, "use errors in critical tasks"
        ),
        "use_errors_serious_harm": counting(
            _serious, "use errors whose potential harm was judged serious or worse"
        ),
        "use_errors_serious_harm_open": counting(
            lambda one: _serious(one) and one.residual_risk != "acceptable",
            "the same whose residual risk was not judged acceptable",
        ),
        "use_errors_without_severity": counting(
            lambda one: _erred(one) and not one.severity, "use errors whose potential harm was not judged"
        ),
        "use_errors_residual_risk_open": counting(
            lambda one: _erred(one) and one.residual_risk != "acceptable",
            "use errors whose residual risk was not judged acceptable",
        ),
        "participants_with_use_error": share(participants_with_use_error),
        "use_error_worst_task": share(worst_task),
    }


USE_ERRORS: Final = Study(_metrics(), FACTS, design_facts, UseErrorStudy())
"""What can be asked of a summative evaluation."""
