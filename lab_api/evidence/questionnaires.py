"""Evidence of usability: answers to questionnaires, from a table with a line for each person and questionnaire.

`subject` and `questionnaire` (sus, ueq, nasa_tlx) must be there, and the items: `item_1` to `item_10` for SUS,
`item_1` to `item_26` for UEQ, and `mental`, `physical`, `temporal`, `performance`, `effort`, `frustration` for
NASA-TLX, with `weight_mental`, … where the scales were compared. `session` tells occasions apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.usability_study import ITEMS, TLX_WEIGHTS, Questionnaire, UsabilityStudy
from lab_api.evidence import cells
from lab_api.evidence.records import Part, Source
from lab_api.evidence.tables import Row, read_table
from lab_api.store.session_store import Session, SessionStore
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.subjects import SubjectFacts
from protocols.errors import DefinitionError


def from_session(store: SessionStore, session: Session, protocol: ClinicalProtocol) -> Part:  # noqa: ARG001
    """Refuse a session, in which nobody answers a questionnaire.

    Raises
    ------
    DefinitionError
        Always.
    """
    raise DefinitionError(
        f"session {session.id} holds no questionnaires, expected a table of answers (--pairs) for {protocol.id}"
    )


def from_table(path: Path, protocol: ClinicalProtocol) -> Part:  # noqa: ARG001
    """Return the questionnaires in a CSV file.

    Raises
    ------
    StoreError
        If the file cannot be read.
    DefinitionError
        If the table has a mistake; names file, line and column.
    """
    rows, sha256 = read_table(path, ("subject", "questionnaire"))
    found = [_questionnaire(row, f"{path.name}, line {line}") for line, row in enumerate(rows, start=2)]
    counts = {name: float(sum(one.name == name for one in found)) for name in ITEMS}
    figures = {name: count for name, count in counts.items() if count}
    source = Source(path.name, "", sha256, figures, ("answers as a table gives them; not recorded here",))
    return Part(source, found)


def joined(parts: Sequence[Part], subjects: SubjectFacts) -> UsabilityStudy:
    """Return the scores of all sources, with what is known of the persons."""
    found = [one for part in parts for one in part.measured]
    known = {one.subject for one in found}
    return UsabilityStudy.of_questionnaires(
        found, {subject: facts for subject, facts in subjects.items() if subject in known}
    )


def items(study: UsabilityStudy) -> dict[str, list[float | str]]:
    """Return the scores of the persons as columns."""
    rows = [(subject, name, score) for name, of in study.scores.items() for subject, score in of.items()]
    return {
        "subject": [subject for subject, _, _ in rows],
        "score": [name for _, name, _ in rows],
        "value": [round(score, 6) for _, _, score in rows],
    }


def _questionnaire(row: Row, where: str) -> Questionnaire:
    name = cells.word(row, "questionnaire", ITEMS, where=where)
    lacking = [item for item in ITEMS[name] if item not in row]
    if lacking:
        raise DefinitionError(f"{where}: no column {lacking[0]}, expected {', '.join(ITEMS[name])} for {name}")
    weighed = name == "nasa_tlx" and any(row.get(weight) for weight in TLX_WEIGHTS)
    return Questionnaire(
        name,
        cells.name(row, "subject", where=where),
        row.get("session", ""),
        np.array([cells.number(row, item, where=where) for item in ITEMS[name]]),
        np.array([cells.number(row, weight, where=where) for weight in TLX_WEIGHTS] if weighed else []),
    )
