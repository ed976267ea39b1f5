"""Evidence of a sleep tracker: its hypnograms with the reference's, from sessions or from a table of epochs.

A session has a stream with a channel `sleep_stage` of each of its devices: 0 wake, 1 light (N1 and N2), 2 deep
(N3), 3 REM, -1 not scored. Its epochs are those of its rate or, where each carries a time, as long as the
protocol's epochs. A table has `subject`, `epoch`, `reference` and `test`, one line an epoch, and `session` if
a subject slept several nights. Its stages are W, N1, N2, N3, R or the numbers above; S is sleep of any stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.paired_study import Excluded
from analysis.sleep import DEEP, LIGHT, NOT_SCORED, REM, WAKE, align_hypnograms, as_stages
from analysis.sleep_study import Night, SleepStudy, measures_of
from lab_api.evidence import cells
from lab_api.evidence.paired import items_of
from lab_api.evidence.records import (
    REFERENCE_ROLE,
    TEST_ROLE,
    Part,
    Source,
    StreamAccount,
    the_device,
    the_stream,
)
from lab_api.evidence.tables import Row, read_table
from lab_api.store.session_store import Session, SessionStore
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.subjects import SubjectFacts
from protocols.errors import DefinitionError, SignalError

_CHANNEL: Final = ("sleep_stage",)
_NEEDED: Final = ("subject", "epoch", "reference", "test")
_MOST_EPOCHS: Final = 100_000
"""Of one night: 34 days of 30 s. A larger number is no epoch."""
_ANY_SLEEP: Final = ("s", "sleep")
_STAGES: Final[Mapping[str, int]] = {
    **dict.fromkeys(("w", "wake", "0"), WAKE),
    **dict.fromkeys(("n1", "n2", "light", "1"), LIGHT),
    **dict.fromkeys(("n3", "deep", "2"), DEEP),
    **dict.fromkeys(("r", "rem", "3"), REM),
    **dict.fromkeys(_ANY_SLEEP, LIGHT),
    **dict.fromkeys(("", "-1", "?"), NOT_SCORED),
}
_NUMBERS: Final = "numbers are read as 0 wake, 1 light, 2 deep, 3 REM"
_TWICE: Final = "the epoch is there twice"


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Nights as a source gives them, before they are compared."""

    nights: tuple[Night, ...]
    excluded: tuple[Excluded, ...]


def from_session(store: SessionStore, session: Session, protocol: ClinicalProtocol) -> Part:
    """Return the night of one session.

    Raises
    ------
    DefinitionError
        If the session lacks a device in either role or its channel, or a stage is none.
    """
    epoch_s = _epoch_s(protocol)
    excluded: list[Excluded] = []
    streams = [_hypnogram(store, session, role, epoch_s, excluded) for role in (REFERENCE_ROLE, TEST_ROLE)]
    (reference, reference_ns, reference_s, reference_account), (test, test_ns, test_s, test_account) = streams
    of_test, of_reference = align_hypnograms(
        test,
        reference,
        device_start_ns=test_ns,
        reference_start_ns=reference_ns,
        device_epoch_s=test_s,
        reference_epoch_s=reference_s,
    )
    night = Night(session.subject, session.id, of_reference, of_test, reference_s)
    accounts = (reference_account, test_account)
    notes = [_NUMBERS, *(note for account in accounts for note in account.notes())]
    apart = reference.size - of_reference.size
    if apart:
        notes.append(f"{apart} epochs of the reference lie outside what the device recorded and take no part")
    source = Source(
        session.id,
        session.subject,
        store.content_hash(session.id),
        _figures([night]),
        tuple(notes),
        accounts,
    )
    return _part(source, [night], excluded)


def from_table(path: Path, protocol: ClinicalProtocol) -> Part:
    """Return the nights in a CSV file.

    Raises
    ------
    StoreError
        If the file cannot be read.
    DefinitionError
        If the table has a mistake; names file, line and column.
    """
    epoch_s = _epoch_s(protocol)
    rows, sha256 = read_table(path, _NEEDED)
    of_night: dict[tuple[str, str], dict[int, tuple[str, str]]] = {}
    excluded: list[Excluded] = []
    for line, row in enumerate(rows, start=2):
        where = f"{path.name}, line {line}"
        subject, session = cells.name(row, "subject", where=where), row.get("session") or path.stem
        epoch = cells.whole(row, "epoch", where=where, most=_MOST_EPOCHS)
        stages = of_night.setdefault((subject, session), {})
        said = tuple(_stage(row, column, where) for column in ("reference", "test"))
        if epoch in stages:
            excluded.append(Excluded(subject, session, epoch, "epoch", _TWICE))
        else:
            stages[epoch] = (said[0], said[1])
    nights = [_night(*key, stages, epoch_s) for key, stages in of_night.items()]
    notes = ["epochs as a table gives them; not recorded here"]
    if any(stage.isdigit() for stages in of_night.values() for pair in stages.values() for stage in pair):
        notes.append(_NUMBERS)
    source = Source(path.name, "", sha256, _figures(nights), tuple(notes))
    return _part(source, nights, excluded)


def joined(parts: Sequence[Part], subjects: SubjectFacts) -> SleepStudy:
    """Return the nights of all sources, with what is known of their subjects."""
    nights = [night for part in parts for night in part.measured.nights]
    known = {night.subject for night in nights}
    return SleepStudy.of_nights(
        nights,
        {subject: facts for subject, facts in subjects.items() if subject in known},
        (epoch for part in parts for epoch in part.measured.excluded),
    )


def _part(source: Source, nights: Sequence[Night], excluded: Sequence[Excluded]) -> Part:
    return Part(source, _Recorded(tuple(nights), tuple(excluded)), items_of(measures_of(nights)))


def _epoch_s(protocol: ClinicalProtocol) -> float:
    rule = protocol.pairing_rule
    if rule.rule != "epochs":
        raise DefinitionError(f"pairing rule {rule.rule!r} of {protocol.id}, expected epochs for sleep")
    return rule.window_s


def _stage(row: Row, column: str, where: str) -> str:
    return cells.word(row, column, _STAGES, where=where)


def _night(subject: str, session: str, stages: Mapping[int, tuple[str, str]], epoch_s: float) -> Night:
    first, last = min(stages), max(stages)
    hypnograms = np.full((2, last - first + 1), NOT_SCORED, dtype=np.int8)
    for epoch, pair in stages.items():  # lines of a table
        hypnograms[:, epoch - first] = [_STAGES[stage] for stage in pair]
    staged = not any(stage in _ANY_SLEEP for pair in stages.values() for stage in pair)
    return Night(subject, session, hypnograms[0], hypnograms[1], epoch_s, staged)


def _hypnogram(
    store: SessionStore, session: Session, role: str, epoch_s: float, excluded: list[Excluded]
) -> tuple[NDArray[np.int8], int, float, StreamAccount]:
    """Return the stages of the device in a role, the time of the first, and the length of its epochs."""
    device = the_device(session, role)
    key, channel = the_stream(store, session, device, _CHANNEL)
    length_s = epoch_s if key.stream.rate_hz is None else 1.0 / key.stream.rate_hz
    reading = store.read(session.id, device.gateway, device.device, key.stream)
    times_ns = reading.times_ns()
    order = np.argsort(times_ns, kind="stable")
    times_ns, values = times_ns[order], reading.physical()[channel][order]
    account = StreamAccount.of(store, session, key, reading.n_samples)
    if times_ns.size == 0:
        return np.empty(0, dtype=np.int8), session.opened_ns, length_s, account
    places = np.rint((times_ns - times_ns[0]) / (length_s * 1e9)).astype(np.int64)
    if places[-1] >= _MOST_EPOCHS:
        raise DefinitionError(
            f"{account.name} of session {session.id} spans {places[-1] + 1} epochs, "
            f"expected at most {_MOST_EPOCHS}"
        )
    hypnogram = np.full(int(places[-1]) + 1, float(NOT_SCORED))
    first = np.concatenate([[True], np.diff(places) > 0])
    hypnogram[places[first]] = values[first]
    excluded += list(_repeated(session, role, places[~first]))
    try:
        return as_stages(hypnogram), int(times_ns[0]), length_s, account
    except SignalError as error:
        raise DefinitionError(f"{account.name} of session {session.id}: {error}") from error


def _repeated(session: Session, role: str, places: NDArray[np.int64]) -> Iterator[Excluded]:
    for place in places.tolist():
        yield Excluded(session.subject, session.id, place + 1, "epoch", f"{_TWICE} in the {role}")


def _figures(nights: Sequence[Night]) -> dict[str, float]:
    return {
        "nights": float(len(nights)),
        "epochs": float(sum(night.reference.size for night in nights)),
        "epochs_scored_by_both": float(sum(int(night.scored.sum()) for night in nights)),
    }
