"""From what was recorded to what a clinical protocol judges: sessions, WFDB records or tables -> evidence.

A session's part of the evidence depends on that session and the protocol alone, so the parts can be taken side
by side: on all cores, or by the workers of a Dask scheduler. They are joined in the order the sessions were
named in, so the evidence is the same however it was computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from firmware_sim.recordings import Recording, read_wfdb
from lab_api.evidence import (
    beats,
    glucose,
    hypnograms,
    paired,
    pressure,
    questionnaires,
    signals,
    spans,
    spirograms,
    tables,
    task_observations,
)
from lab_api.evidence.examples import largest
from lab_api.evidence.quantities import QUANTITIES
from lab_api.evidence.records import Evidence, Part
from lab_api.store.session_store import Session, SessionStore
from lab_api.store.sqlite import SqliteSessionStore
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.subjects import NOTHING_KNOWN, SubjectFacts
from protocols.errors import DefinitionError, TransportError

_DASK_TIMEOUT_S: Final = 10


def from_sessions(
    store: SessionStore,
    session_ids: Sequence[str],
    protocol: ClinicalProtocol,
    subjects: SubjectFacts = NOTHING_KNOWN,
) -> Evidence:
    """Return the evidence that sessions hold for a protocol's measurand, taken in this process.

    Parameters
    ----------
    store
        Where the sessions are.
    session_ids
        In the order in which they are to be reported.
    protocol
        Whose measurand and pairing rule hold.
    subjects
        What is known of the subjects.

    Raises
    ------
    DefinitionError
        If there are no sessions, one is named twice, or one lacks what the measurand needs; says what.
    SessionNotFoundError
        If there is no such session.
    """
    _check_ids(session_ids)
    from_session = _OF_MEASURAND[protocol.measurand].from_session
    parts = [from_session(store, store.session(i), protocol) for i in session_ids]
    return _joined(parts, protocol, subjects)


def from_folder(
    folder: Path,
    session_ids: Sequence[str],
    protocol: ClinicalProtocol,
    subjects: SubjectFacts = NOTHING_KNOWN,
    *,
    workers: Executor | None,
) -> Evidence:
    """Return the same as `from_sessions` of the embedded store in `folder`, taken by workers that reach it."""
    _check_ids(session_ids)
    n = len(session_ids)
    parts = _mapped(workers, _of_session, [folder] * n, session_ids, [protocol] * n)
    return _joined(parts, protocol, subjects)


def from_tables(
    paths: Sequence[Path], protocol: ClinicalProtocol, subjects: SubjectFacts = NOTHING_KNOWN
) -> Evidence:
    """Return the evidence that tables of pairs hold for a protocol that compares readings.

    Raises
    ------
    StoreError
        If a table cannot be read.
    DefinitionError
        If the protocol judges something else, or a table has a mistake; names file, line and column.
    """
    from_table = _OF_MEASURAND[protocol.measurand].from_table
    return _joined([from_table(path, protocol) for path in paths], protocol, subjects)


def from_recordings(recordings: Sequence[Recording], protocol: ClinicalProtocol) -> Evidence:
    """Return the evidence that WFDB records with beat annotations hold for a beat detector.

    Raises
    ------
    DefinitionError
        If the protocol judges something else, or a record has no annotations.
    """
    return _joined([beats.from_recording(recording, protocol) for recording in recordings], protocol)


def from_record_files(
    paths: Sequence[Path],
    protocol: ClinicalProtocol,
    *,
    workers: Executor | None,
    annotator: str | None = None,
) -> Evidence:
    """Return the same of records named by their path without ending, taken by workers that reach it.

    With an `annotator`, the annotation files with that suffix are the device under test.
    """
    n = len(paths)
    return _joined(_mapped(workers, _of_record, paths, [protocol] * n, [annotator] * n), protocol)


@contextmanager
def workers(*, jobs: int, dask: str | None = None) -> Iterator[Executor | None]:
    """Return who takes evidence side by side: a process for each job, or the workers of a Dask scheduler.

    Parameters
    ----------
    jobs
        How many processes; with 1 nobody: this one does it.
    dask
        Address of a scheduler, such as `tcp://10.0.0.5:8786`, whose workers have this software installed and
        reach the data under the same path.

    Raises
    ------
    DefinitionError
        If Dask is asked for and not installed.
    TransportError
        If no scheduler answers.
    """
    if dask is None and jobs == 1:
        yield None
        return
    if dask is None:
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
            yield pool
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise DefinitionError("Dask is not installed, expected the extra living-lab[cluster]") from error
    try:
        client = Client(dask, timeout=_DASK_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise TransportError(f"Dask scheduler {dask}: {error}") from error
    with client, client.get_executor(pure=False) as pool:
        yield pool


def _mapped(workers: Executor | None, take: Callable[..., Part], *columns: Sequence[Any]) -> list[Part]:
    return list(workers.map(take, *columns) if workers else map(take, *columns))


def _of_session(folder: Path, session_id: str, protocol: ClinicalProtocol) -> Part:
    with SqliteSessionStore(folder) as store:
        return _OF_MEASURAND[protocol.measurand].from_session(store, store.session(session_id), protocol)


def _of_record(path: Path, protocol: ClinicalProtocol, annotator: str | None) -> Part:
    recording = read_wfdb(path)
    if annotator is None:
        return beats.from_recording(recording, protocol)
    return beats.from_record_file(path, recording, protocol, annotator)


def _check_ids(session_ids: Sequence[str]) -> None:
    if not session_ids:
        raise DefinitionError("no sessions, expected at least one")
    if len(set(session_ids)) != len(session_ids):
        raise DefinitionError("a session is named twice, expected each once")


def _joined(
    parts: Sequence[Part], protocol: ClinicalProtocol, subjects: SubjectFacts = NOTHING_KNOWN
) -> Evidence:
    names = dict.fromkeys(name for part in parts for name in part.items)
    items: dict[str, list[Any]] = {name: [] for name in names}
    for part in parts:
        n = max((len(column) for column in part.items.values()), default=0)
        for name in names:
            items[name] += part.items.get(name, [None] * n)
    of_measurand = _OF_MEASURAND[protocol.measurand]
    measured = of_measurand.joined(parts, subjects)
    if of_measurand.items is not None:
        items = {name: list(column) for name, column in of_measurand.items(measured).items()}
    sources = tuple(part.source for part in parts)
    return Evidence(measured, sources, items, largest(example for part in parts for example in part.examples))


@dataclass(frozen=True, slots=True)
class _Measurand:
    """How evidence of one kind is taken from a session or a table, and joined.

    `items` makes the single items of all that was joined, where they need more than their own source knows.
    """

    from_session: Callable[[SessionStore, Session, ClinicalProtocol], Part]
    joined: Callable[[Sequence[Part], SubjectFacts], Any]
    from_table: Callable[[Path, ClinicalProtocol], Part] = tables.from_table
    items: Callable[[Any], Mapping[str, Sequence[Any]]] | None = None


_OF_MEASURAND: Final[Mapping[str, _Measurand]] = MappingProxyType(
    {
        **{
            measurand: _Measurand(paired.from_session, paired.joined, items=paired.items_of)
            for measurand in QUANTITIES
        },
        "blood_pressure": _Measurand(pressure.from_session, paired.joined, pressure.from_table),
        "glucose": _Measurand(glucose.from_session, paired.joined, glucose.from_table, paired.items_of),
        "steps": _Measurand(spans.from_session, paired.joined, items=paired.items_of),
        "qrs": _Measurand(beats.from_session, beats.joined),
        "signal": _Measurand(signals.from_session, signals.joined),
        "sleep": _Measurand(hypnograms.from_session, hypnograms.joined, hypnograms.from_table),
        "spirometry": _Measurand(
            spirograms.from_session, spirograms.joined, spirograms.from_table, spirograms.items
        ),
        "usability": _Measurand(
            questionnaires.from_session, questionnaires.joined, questionnaires.from_table, questionnaires.items
        ),
        "use_errors": _Measurand(
            task_observations.from_session,
            task_observations.joined,
            task_observations.from_table,
            task_observations.items,
        ),
    }
)
