"""Use errors of a summative evaluation, IEC 62366-1: what happened in every task, and what could come of it.

There is no numeric limit to pass: the result is the table of tasks and the list of everything that was no
success, with its cause and the harm it could do, for the residual risk to be judged by people. Bounds of the
error rate say how little few participants tell: none in 15 still allows 18 percent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from analysis.counted_share import CountedShare, counted_share
from protocols.errors import SignalError

OUTCOMES: Final = ("success", "difficulty", "close_call", "use_error")
"""What an observer can say of a task, in the order of severity."""
SEVERITIES: Final = ("negligible", "minor", "serious", "critical", "catastrophic")
"""What harm a use error could do, as in examples of ISO 14971 (unconfirmed), the least first."""
RESIDUAL_RISKS: Final = ("acceptable", "not_acceptable")
"""What people judged of the risk that is left after all control measures."""
LEAST_PARTICIPANTS: Final = 15
"""Per user group, in the practice of the US (FDA 2016, human factors; unconfirmed)."""


@dataclass(frozen=True, slots=True)
class TaskObservation:
    """What one participant did in one task.

    Parameters
    ----------
    task, participant, user_group
        Names; a participant may try a task once.
    outcome
        One of `OUTCOMES`.
    critical
        Whether a use error in this task could do serious harm.
    root_cause, potential_harm
        In the words of the evaluation; needed for a use error.
    severity
        Of the potential harm, one of `SEVERITIES`; empty where it was not judged.
    residual_risk
        One of `RESIDUAL_RISKS`; empty where it was not judged.
    """

    task: str
    participant: str
    user_group: str
    outcome: str
    critical: bool = False
    root_cause: str = ""
    potential_harm: str = ""
    severity: str = ""
    residual_risk: str = ""

    def __post_init__(self) -> None:
        """Refuse an observation that a report could not show."""
        if self.outcome not in OUTCOMES:
            raise SignalError(f"outcome={self.outcome!r}, expected one of {', '.join(OUTCOMES)}")
        for name, words in (("severity", SEVERITIES), ("residual_risk", RESIDUAL_RISKS)):
            word = getattr(self, name)
            if word and word not in words:
                raise SignalError(f"{name}={word!r}, expected one of {', '.join(words)}, or nothing")
        for name in ("task", "participant", "user_group"):
            if not getattr(self, name).strip():
                raise SignalError(f"{name}='', expected a name")
        if self.outcome == "use_error" and not (self.root_cause.strip() and self.potential_harm.strip()):
            raise SignalError(
                f"use error of {self.participant!r} in {self.task!r} without its root cause or harm"
            )


@dataclass(frozen=True, slots=True)
class TaskTally:
    """Outcomes of one task in one user group.

    Parameters
    ----------
    success, difficulty, close_call, use_error
        Participants with that outcome.
    use_error_share
        CountedShare of participants with a use error, with exact bounds.
    """

    task: str
    user_group: str
    critical: bool
    success: int
    difficulty: int
    close_call: int
    use_error: int
    use_error_share: CountedShare


@dataclass(frozen=True, slots=True)
class UseErrorTable:
    """Result of a summative evaluation.

    Parameters
    ----------
    tasks
        A tally for each task and user group, in the order of their first observation.
    findings
        Observations that were no success, critical tasks first, then by severity, then as they came.
    participants
        User group and how many took part.
    groups_too_small
        User groups with fewer than 15 participants.
    """

    tasks: tuple[TaskTally, ...]
    findings: tuple[TaskObservation, ...]
    participants: tuple[tuple[str, int], ...]
    groups_too_small: tuple[str, ...]


def use_error_table(observations: Iterable[TaskObservation], *, level: float = 0.95) -> UseErrorTable:
    """Return the table of tasks and the list of findings.

    Parameters
    ----------
    observations
        One for each participant and task.
    level
        Confidence level of the bounds.

    Raises
    ------
    SignalError
        If a participant tried a task twice, belongs to two groups, or a task is critical only at times.
    """
    seen: dict[tuple[str, str], TaskObservation] = {}
    group_of: dict[str, str] = {}
    critical: dict[str, bool] = {}
    for observation in observations:
        key = observation.task, observation.participant
        if key in seen:
            raise SignalError(f"{key[1]!r} tried {key[0]!r} twice, expected one observation of each")
        seen[key] = observation
        if group_of.setdefault(observation.participant, observation.user_group) != observation.user_group:
            raise SignalError(f"{observation.participant!r} belongs to two user groups, expected one")
        if critical.setdefault(observation.task, observation.critical) != observation.critical:
            raise SignalError(f"task {observation.task!r} is critical for some participants only, expected all")
    rows = dict.fromkeys((one.task, one.user_group) for one in seen.values())
    participants = dict.fromkeys(group_of.values(), 0)
    for group in group_of.values():
        participants[group] += 1
    findings = [one for one in seen.values() if one.outcome != "success"]
    findings.sort(key=lambda one: (not one.critical, -OUTCOMES.index(one.outcome)))
    return UseErrorTable(
        tasks=tuple(_tally(task, group, list(seen.values()), level) for task, group in rows),
        findings=tuple(findings),
        participants=tuple(participants.items()),
        groups_too_small=tuple(group for group, count in participants.items() if count < LEAST_PARTICIPANTS),
    )


def _tally(task: str, group: str, observations: list[TaskObservation], level: float) -> TaskTally:
    here = [one for one in observations if (one.task, one.user_group) == (task, group)]
    counts = {outcome: sum(one.outcome == outcome for one in here) for outcome in OUTCOMES}
    use_error_share = counted_share(counts["use_error"], len(here), level=level)
    return TaskTally(task, group, here[0].critical, **counts, use_error_share=use_error_share)
