"""Evidence of a summative evaluation: what participants did in each task, one line of a table for each.

`subject`, `user_group`, `task` and `result` (success, difficulty, close_call, use_error) must be there, and for
a use error `root_cause` and `harm`. `critical` (yes or no) says of a task whether a use error could do serious
harm, `severity` how bad the potential harm is, `residual_risk` (acceptable, not_acceptable) what was judged of
the risk that is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from analysis.use_error_study import UseErrorStudy
from analysis.use_errors import OUTCOMES, RESIDUAL_RISKS, SEVERITIES, TaskObservation
from lab_api.evidence import cells
from lab_api.evidence.records import Part, Source
from lab_api.evidence.tables import Row, read_table
from lab_api.store.session_store import Session, SessionStore
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.subjects import SubjectFacts
from protocols.errors import DefinitionError, SignalError

_NEEDED: Final = ("subject", "user_group", "task", "result")
_YES_NO: Final = {"": False, "yes": True, "no": False}


def from_session(store: SessionStore, session: Session, protocol: ClinicalProtocol) -> Part:  # noqa: ARG001
    """Refuse a session, in which no observer's words are.

    Raises
    ------
    DefinitionError
        Always.
    """
    raise DefinitionError(
        f"session {session.id} holds no observations of tasks, expected a table (--pairs) for {protocol.id}"
    )


def from_table(path: Path, protocol: ClinicalProtocol) -> Part:  # noqa: ARG001
    """Return the observations in a CSV file.

    Raises
    ------
    StoreError
        If the file cannot be read.
    DefinitionError
        If the table has a mistake; names file, line and column.
    """
    rows, sha256 = read_table(path, _NEEDED)
    found = [_observation(row, f"{path.name}, line {line}") for line, row in enumerate(rows, start=2)]
    figures = {
        "observations": float(len(found)),
        "use_errors": float(sum(one.outcome == "use_error" for one in found)),
    }
    source = Source(path.name, "", sha256, figures, ("observations as a table gives them; not recorded here",))
    return Part(source, found)


def joined(parts: Sequence[Part], subjects: SubjectFacts) -> UseErrorStudy:
    """Return the observations of all sources, with what is known of the participants.

    Raises
    ------
    DefinitionError
        If a participant belongs to two user groups, or a task is critical only at times.
    """
    found = [one for part in parts for one in part.measured]
    known = {one.participant for one in found}
    study = UseErrorStudy.of_observations(
        found, {subject: facts for subject, facts in subjects.items() if subject in known}
    )
    try:
        study.table()
    except SignalError as error:
        raise DefinitionError(f"observations of tasks: {error}") from error
    return study


def items(study: UseErrorStudy) -> dict[str, list[str]]:
    """Return everything that was no success as columns, critical tasks first, then by severity."""
    findings = study.table().findings
    return {
        "task": [one.task for one in findings],
        "critical": ["yes" if one.critical else "no" for one in findings],
        "user_group": [one.user_group for one in findings],
        "subject": [one.participant for one in findings],
        "result": [one.outcome for one in findings],
        "root_cause": [one.root_cause for one in findings],
        "harm": [one.potential_harm for one in findings],
        "severity": [one.severity for one in findings],
        "residual_risk": [one.residual_risk for one in findings],
    }


def _observation(row: Row, where: str) -> TaskObservation:
    words = {name: dict.fromkeys(("", *known)) for name, known in _WORDS.items()}
    try:
        return TaskObservation(
            task=cells.name(row, "task", where=where),
            participant=cells.name(row, "subject", where=where),
            user_group=cells.name(row, "user_group", where=where),
            outcome=cells.word(row, "result", dict.fromkeys(OUTCOMES), where=where),
            critical=_YES_NO[cells.word(row, "critical", _YES_NO, where=where)],
            root_cause=row.get("root_cause", ""),
            potential_harm=row.get("harm", ""),
            severity=cells.word(row, "severity", words["severity"], where=where),
            residual_risk=cells.word(row, "residual_risk", words["residual_risk"], where=where),
        )
    except SignalError as error:
        raise DefinitionError(f"{where}: {error}") from error


_WORDS: Final = {"severity": SEVERITIES, "residual_risk": RESIDUAL_RISKS}
