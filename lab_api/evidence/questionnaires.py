"""Evidence of usability: answers to questionnaires, from a table or from sessions.

A table has a line for each person and questionnaire: `subject` and `questionnaire` (sus, ueq, nasa_tlx) must be
there, and the items: `item_1` to `item_10` for SUS, `item_1` to `item_26` for UEQ, and `mental`, `physical`,
`temporal`, `performance`, `effort`, `frustration` for NASA-TLX, with `weight_mental`, … where the scales were
compared. `session` tells occasions apart. In a session a stream named as the questionnaire has a channel for
each item, and one sample for each time it was answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.usability_study import ITEMS, TLX_WEIGHTS, Questionnaire, UsabilityStudy
from lab_api.evidence import cells
from lab_api.evidence.records import Part, Source, StreamAccount
from lab_api.evidence.tables import Row, read_table
from lab_api.store.session_store import Session, SessionStore
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.subjects import SubjectFacts
from protocols.errors import DefinitionError


def from_session(store: SessionStore, session: Session, protocol: ClinicalProtocol) -> Part:
    """Return the questionnaires of one session, of any device such as an app that asks, in order of time.

    Raises
    ------
    DefinitionError
        If no stream of the session is a questionnaire.
    """
    found: list[Questionnaire] = []
    accounts: list[StreamAccount] = []
    for key in store.streams(session.id):
        channels = [channel.name for channel in key.stream.channels]
        items = ITEMS.get(key.stream.name, ())
        if not items or not set(items) <= set(channels):
            continue
        reading = store.read(session.id, key.gateway, key.device, key.stream)
        order = np.argsort(reading.times_ns(), kind="stable")
        given = reading.physical()[:, order].astype(np.float64)
        weights = TLX_WEIGHTS if set(TLX_WEIGHTS) <= set(channels) else ()
        accounts.append(StreamAccount.of(store, session, key, reading.n_samples))
        found += [
            Questionnaire(
                key.stream.name,
                session.subject,
                session.id,
                given[[channels.index(item) for item in items], place],
                given[[channels.index(weight) for weight in weights], place],
            )
            for place in range(order.size)
        ]
    if not found:
        raise DefinitionError(
            f"session {session.id} holds no questionnaires, expected a stream of answers, or a table (--pairs) "
            f"for {protocol.id}"
        )
    source = Source(
        session.id,
        session.subject,
        store.content_hash(session.id),
        _counts(found),
        tuple(note for account in accounts for note in account.notes()),
        tuple(accounts),
    )
    return Part(source, found)


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
    source = Source(
        path.name, "", sha256, _counts(found), ("answers as a table gives them; not recorded here",)
    )
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


def _counts(found: Sequence[Questionnaire]) -> dict[str, float]:
    counts = {name: float(sum(one.name == name for one in found)) for name in ITEMS}
    return {name: count for name, count in counts.items() if count}


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
