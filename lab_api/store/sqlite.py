"""The embedded session store: a folder with one SQLite file for each session.

A session that is not being written is one plain file, to be copied, verified and erased like any other. A write
is durable when it returns (WAL journal, `synchronous=FULL`). One process at a time writes to a folder, through
one connection for each file: SQLite before 3.51.3 can lose a WAL that two connections write. Readers open the
file read-only for each call, from any thread or process, and are never kept waiting.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import itertools
import logging
import os
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote, unquote

from lab_api.store import frame_table, session_file
from lab_api.store.content_hash import content_hash
from lab_api.store.session_file import SessionWriter, StreamTable
from lab_api.store.session_gaps import SessionGap, index_gaps
from lab_api.store.session_store import (
    AnnotationExistsError,
    AnnotationSet,
    Arrivals,
    Extent,
    Reading,
    Session,
    SessionDevice,
    SessionNotFoundError,
    StreamKey,
    StreamNotFoundError,
    WriteResult,
)
from protocols.errors import LivingLabError, StoreError
from protocols.frames import RAW, FrameBlock
from protocols.records import Record
from protocols.samples import Stream

_SUFFIX: Final = ".session"
_UNFINISHED: Final = ".unfinished"
_LOCK: Final = ".writer"
_ASIDE: Final = "aside"
_SESSION_ID = re.compile(r"[0-9a-f]{32}")
_MAX_WRITERS: Final = 64
_PROBE_BYTES: Final = 4096

_DAMAGED_CONTENT: Final = (ValueError, TypeError, LookupError, ArithmeticError)

_log = logging.getLogger(__name__)


class SqliteSessionStore:
    """A `SessionStore` in a folder, which is made if need be.

    Parameters
    ----------
    folder
        Holds a file `<session id>.session` for each session.

    Raises
    ------
    StoreError
        If the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"session folder {folder}: {error.strerror}") from error
        self._folder = folder
        self._lock = threading.RLock()
        self._opening = threading.Lock()
        self._writers: dict[str, SessionWriter] = {}
        self._folder_lock: IO[bytes] | None = None
        self._closed_sessions: dict[str, Session] = {}
        self._unreadable: dict[str, str] = {}

    def __enter__(self) -> SqliteSessionStore:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files and let another process write."""
        with self._lock:
            for session_id in list(self._writers):
                self._forget_writer(session_id)
            if self._folder_lock is not None:
                self._folder_lock.close()
                self._folder_lock = None

    def open_session(
        self, *, subject: str, devices: Sequence[SessionDevice], opened_ns: int, title: str = ""
    ) -> Session:
        """Return a new session; it is durable. DefinitionError names a field at fault."""
        session = Session(
            id=f"{max(opened_ns, 0):016x}{secrets.token_hex(8)}",
            subject=subject,
            devices=tuple(devices),
            opened_ns=opened_ns,
            closed_ns=None,
            software_version=importlib.metadata.version("living-lab"),
            title=title,
        )
        path = self._path(session.id)
        with self._opening, self._lock, _store_errors(path):
            self._claim_folder()
            session_file.create(path.with_suffix(_UNFINISHED), session)
            path.with_suffix(_UNFINISHED).rename(path)
            _sync_folder(self._folder)
        return session

    def close_session(self, session_id: str, *, closed_ns: int) -> Session:
        """Return the session, closed; one that was closed already stays as it is."""
        with self._lock:
            session = self.session(session_id)
            if session.closed_ns is None:
                session = replace(session, closed_ns=closed_ns)
                with self._writing(session_id) as writer:
                    writer.db.execute("UPDATE session SET closed_ns = ?", (closed_ns,))
                self._forget_writer(session_id)
            return session

    def session(self, session_id: str) -> Session:
        """Return the session; SessionNotFoundError if there is none such."""
        with self._reading(session_id) as (_, session):
            return session

    def sessions(self, *, before: str | None = None, limit: int | None = None) -> list[Session]:
        """Return the sessions, newest first: at most `limit`, and only those older than the id `before`."""
        with self._opening, _store_errors(self._folder):
            self._check_folder()
            paths = [Path(name) for name in os.listdir(self._folder) if name.endswith(_SUFFIX)]
        ids = sorted((path.stem for path in paths if _SESSION_ID.fullmatch(path.stem)), reverse=True)
        for gone in self._unreadable.keys() - set(ids):
            self._unreadable.pop(gone, None)
        older = (i for i in ids if before is None or i < before)
        readable = (session for i in older if (session := self._session_if_readable(i)) is not None)
        return list(itertools.islice(readable, limit))

    def unreadable(self) -> dict[str, str]:
        """Return what was wrong with the sessions that the last call of `sessions` left out, by their ids."""
        return self._unreadable.copy()

    def set_aside(self, name: str, content: bytes) -> None:
        """Keep bytes that cannot be recorded, under a name; they are durable on return."""
        folder = self._folder / _ASIDE
        path = folder / quote(name, safe="")
        with self._lock, _store_errors(path):
            self._claim_folder()
            folder.mkdir(exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            _sync_folder(folder)
            _sync_folder(self._folder)

    def aside(self) -> list[str]:
        """Return the names of what is set aside, in order; empty once somebody has taken care of it."""
        folder = self._folder / _ASIDE
        with _store_errors(folder):
            self._check_folder()
            return sorted(unquote(name) for name in os.listdir(folder)) if folder.exists() else []

    def read_aside(self, name: str) -> bytes:
        """Return what is set aside under a name; StoreError if there is none such."""
        path = self._folder / _ASIDE / quote(name, safe="")
        with _store_errors(path):
            return path.read_bytes()

    def write(self, writes: Mapping[str, Sequence[tuple[str, Record]]]) -> WriteResult:
        """Store records, given as (gateway, record) for each session id; they are durable on return."""
        results: list[WriteResult] = []
        with self._lock:
            for session_id, records in writes.items():
                with self._writing(session_id) as writer:
                    results += [writer.write(gateway, record) for gateway, record in records]
        return WriteResult.total(results)

    def streams(self, session_id: str) -> list[StreamKey]:
        """Return the streams of which samples or gaps were written, in the order of their first record."""
        with self._reading(session_id) as (db, _):
            return [key for key in session_file.read_streams(db) if key.stream != RAW]

    def gaps(
        self,
        session_id: str,
        key: StreamKey | None = None,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[SessionGap]:
        """Return where the session is not whole, by stream and time: all of it, or one stream."""
        with self._reading(session_id) as (db, session):
            low_ns, high_ns = _range_ns(session, start_ns, end_ns)
            keys = session_file.read_streams(db) if key is None else [key]
            keys.sort(key=lambda k: (k.gateway, k.device, k.stream.name, k.stream.to_json()))
            tables = {k: StreamTable.find(db, k.gateway, k.device, k.stream) for k in keys}
            gaps: list[SessionGap] = []
            for k, table in tables.items():
                if k.stream != RAW:
                    gaps += table.gaps(k.gateway, k.device, session, low_ns, high_ns)
            framed = set(frame_table.framed_devices(db)) if key is None else set()
            for gateway, device in sorted(framed | {(k.gateway, k.device) for k in keys if k.stream == RAW}):
                table_of_gaps = tables.get(StreamKey(gateway, device, RAW))
                declared = [] if table_of_gaps is None else table_of_gaps.declared(device)
                runs = frame_table.frame_runs(db, gateway, device, *session.interval_ns())
                found = index_gaps(gateway, device, RAW, runs, declared)
                gaps += [part for gap in found if (part := gap.between(low_ns, high_ns)) is not None]
            return gaps

    def frames(self, session_id: str, gateway: str, device: str) -> Iterator[FrameBlock]:
        """Yield the raw frames of a device that arrived in the session's interval, by connection and index."""
        self._existing(session_id)
        return self._frames(session_id, gateway, device)

    def _frames(self, session_id: str, gateway: str, device: str) -> Iterator[FrameBlock]:
        with self._reading(session_id) as (db, session):
            yield from frame_table.frames_in(db, gateway, device, *session.interval_ns())

    def framed_devices(self, session_id: str) -> dict[tuple[str, str], int]:
        """Return how many frames were written for every (gateway, device) that has any."""
        with self._reading(session_id) as (db, _):
            return frame_table.framed_devices(db)

    def arrivals(self, session_id: str, key: StreamKey) -> Arrivals:
        """Return when the stored samples of a stream reached their gateway, by boot id and index."""
        with self._reading(session_id) as (db, _):
            return StreamTable.find(db, key.gateway, key.device, key.stream).arrivals()

    def extent(self, session_id: str, key: StreamKey) -> Extent | None:
        """Return how much of the stream lies in the session's interval, or None if nothing does."""
        with self._reading(session_id) as (db, session):
            table = StreamTable.find(db, key.gateway, key.device, key.stream)
            return table.extent(*session.interval_ns())

    def read(
        self,
        session_id: str,
        gateway: str,
        device: str,
        stream_name: str | Stream,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        max_samples: int | None = None,
    ) -> Reading:
        """Return the samples with times in `[start_ns, end_ns)` and in the session's interval."""
        with self._reading(session_id) as (db, session):
            table = StreamTable.find(db, gateway, device, stream_name)
            low_ns, high_ns = _range_ns(session, start_ns, end_ns)
            return Reading(table.stream, table.segments_in(low_ns, high_ns, max_samples=max_samples))

    def annotate(self, session_id: str, annotations: AnnotationSet) -> None:
        """Keep a set of annotations; the same set again changes nothing."""
        content = annotations.canonical()
        with self._lock, self._writing(session_id) as writer:
            stream = (annotations.gateway, annotations.device, annotations.stream)
            if (
                writer.db.execute(
                    "SELECT 1 FROM stream WHERE (gateway, device, name) = (?, ?, ?)", stream
                ).fetchone()
                is None
            ):
                raise StreamNotFoundError(f"no stream {'/'.join(stream)} in session {session_id}")
            writer.db.execute("INSERT OR IGNORE INTO annotation VALUES (?, ?)", (annotations.name, content))
            (kept,) = writer.db.execute(
                "SELECT content FROM annotation WHERE name = ?", (annotations.name,)
            ).fetchone()
            if kept != content:
                raise AnnotationExistsError(
                    f"another annotation set {annotations.name!r} is in session {session_id}, "
                    "expected a new name for a new version"
                )

    def annotations(self, session_id: str) -> list[AnnotationSet]:
        """Return the session's annotation sets by name."""
        with self._reading(session_id) as (db, _):
            return _annotations(db)

    def content_hash(self, session_id: str) -> str:
        """Return `content_hash` of the session as it is now."""
        with self._reading(session_id) as (db, session):
            keys = session_file.read_streams(db)
            tables = [(key, StreamTable.find(db, key.gateway, key.device, key.stream)) for key in keys]
            low_ns, high_ns = session.interval_ns()
            streams = ((key, table.pieces_in(low_ns, high_ns)) for key, table in tables)
            declared = (
                SessionGap(key.gateway, gap).between(low_ns, high_ns)
                for key, table in tables
                for gap in table.declared(key.device)
            )
            frames = (
                (gateway, device, frame_table.frames_in(db, gateway, device, low_ns, high_ns))
                for gateway, device in frame_table.framed_devices(db)
            )
            gaps = (gap for gap in declared if gap is not None)
            return content_hash(session, streams, _annotations(db), gaps=gaps, frames=frames)

    def is_writable(self) -> bool:
        """Return whether the store takes anything right now; the log says why not."""
        try:
            with self._lock:
                self._claim_folder()
                self._check_folder()
                (self._folder / _LOCK).write_bytes(b"\0" * _PROBE_BYTES)
        except OSError as error:
            _log.warning("session folder %s cannot be written: %s", self._folder, error)
            return False
        return True

    def _path(self, session_id: str) -> Path:
        if not _SESSION_ID.fullmatch(session_id):
            raise SessionNotFoundError(f"no session {session_id[:80]!r}")
        return self._folder / f"{session_id}{_SUFFIX}"

    def _existing(self, session_id: str) -> Path:
        path = self._path(session_id)
        if not path.is_file():
            self._check_folder()
            raise SessionNotFoundError(f"no session {session_id!r}")
        return path

    def _check_folder(self) -> None:
        """Raise StoreError if the folder is gone (a disk taken out): its sessions are not erased."""
        expected = self._folder if self._folder_lock is None else self._folder / _LOCK
        if not expected.exists():
            raise StoreError(f"session folder {self._folder} is not there any more")

    def _session_if_readable(self, session_id: str) -> Session | None:
        """Return the session; once it is closed its metadata never changes, so it is remembered."""
        session = self._closed_sessions.get(session_id)
        if session is not None:
            return session
        try:
            session = self.session(session_id)
        except StoreError as error:
            if session_id not in self._unreadable:
                _log.warning("left out of the list of sessions: %s", error)
            self._unreadable[session_id] = str(error)
            return None
        self._unreadable.pop(session_id, None)
        if session.closed_ns is not None:
            self._closed_sessions[session_id] = session
        return session

    @contextlib.contextmanager
    def _reading(self, session_id: str) -> Iterator[tuple[sqlite3.Connection, Session]]:
        """Yield a connection that sees one moment, and the session as it is at that moment."""
        path = self._existing(session_id)
        with _store_errors(path), contextlib.closing(session_file.connect(path, write=False)) as db:
            db.execute("BEGIN")
            yield db, session_file.read_session(db)

    @contextlib.contextmanager
    def _writing(self, session_id: str) -> Iterator[SessionWriter]:
        """Yield the session's writer within one transaction; after an error a new one takes its place."""
        path = self._existing(session_id)
        with _store_errors(path):
            self._claim_folder()
            writer = self._writers.get(session_id)
            if writer is None:
                if len(self._writers) >= _MAX_WRITERS:
                    self._forget_writer(next(iter(self._writers)))
                writer = SessionWriter(session_id, session_file.connect(path, write=True))
                self._writers[session_id] = writer
            try:
                writer.db.execute("BEGIN IMMEDIATE")
                yield writer
                writer.db.execute("COMMIT")
            except BaseException:
                self._forget_writer(session_id)
                raise

    def _forget_writer(self, session_id: str) -> None:
        writer = self._writers.pop(session_id, None)
        if writer is not None:
            session_file.disconnect(writer.db)

    def _claim_folder(self) -> None:
        """Become the folder's only writer, and remove what one before left half made."""
        if self._folder_lock is not None:
            return
        lock = (self._folder / _LOCK).open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise StoreError(f"session folder {self._folder}: another process writes to it") from error
        self._folder_lock = lock
        for unfinished in self._folder.glob(f"*{_UNFINISHED}*"):
            unfinished.unlink()


def _range_ns(session: Session, start_ns: int | None, end_ns: int | None) -> tuple[int, int]:
    """Return the part of `[start_ns, end_ns)` that lies in the session's interval."""
    opened_ns, closed_ns = session.interval_ns()
    low_ns = opened_ns if start_ns is None else min(max(opened_ns, start_ns), closed_ns)
    high_ns = closed_ns if end_ns is None else max(min(closed_ns, end_ns), opened_ns)
    return low_ns, high_ns


def _annotations(db: sqlite3.Connection) -> list[AnnotationSet]:
    rows = db.execute("SELECT content FROM annotation ORDER BY name").fetchall()
    return [AnnotationSet.from_canonical(content) for (content,) in rows]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite, the file system and damaged content raise into a StoreError that names the path."""
    try:
        yield
    except StoreError:
        raise
    except (sqlite3.Error, LivingLabError, OSError, *_DAMAGED_CONTENT) as error:
        raise StoreError(f"{path}: {error}") from error
