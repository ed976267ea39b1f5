"""One session's SQLite file: its tables, how it is read, and how records are written into it.

A write stores only the samples that are not there yet and compares the others with what is, so the chunks of a
stream never overlap. A part of a block keeps the exact time of each of its samples.

A file of version 1 has no tables of gaps and frames. It is read as if they were there and empty, and gets them
when something is written into it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lab_api.store import chunk_codec, frame_table, gap_table
from lab_api.store.chunks import Chunk, cut, joined_times_ns, joined_values, runs, segments
from lab_api.store.frame_table import FrameWriter
from lab_api.store.gap_table import declared_gaps, put_gap
from lab_api.store.session_gaps import Run, SessionGap, stream_gaps
from lab_api.store.session_store import (
    AmbiguousStreamError,
    Arrivals,
    Conflict,
    Extent,
    Segment,
    Session,
    SessionDevice,
    StreamKey,
    StreamNotFoundError,
    TooManySamplesError,
    WriteResult,
)
from protocols.errors import StoreError
from protocols.frames import FrameBlock
from protocols.gaps import Gap
from protocols.records import Record
from protocols.samples import SampleBlock, Stream

SCHEMA_VERSION: Final = 2
APPLICATION_ID: Final = 0x4C4C5331  # "LLS1" in the file's header

_SCHEMA: Final = """
CREATE TABLE session (
    id TEXT NOT NULL, subject TEXT NOT NULL, devices TEXT NOT NULL,
    opened_ns INTEGER NOT NULL, closed_ns INTEGER, software_version TEXT NOT NULL, title TEXT NOT NULL
);
CREATE TABLE stream (
    id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, device TEXT NOT NULL, name TEXT NOT NULL,
    description TEXT NOT NULL,
    longest_ns INTEGER NOT NULL DEFAULT 0,  -- from the earliest to the latest sample of any of its chunks
    UNIQUE (gateway, device, description)
);
CREATE TABLE chunk (
    stream INTEGER NOT NULL REFERENCES stream,
    boot_id INTEGER NOT NULL, first_index INTEGER NOT NULL,
    n_samples INTEGER NOT NULL, start_ns INTEGER NOT NULL,
    earliest_ns INTEGER NOT NULL, latest_ns INTEGER NOT NULL, uncertainty_ns INTEGER NOT NULL,
    codec INTEGER NOT NULL, samples BLOB NOT NULL,
    times BLOB,  -- int64, little-endian; null where start_ns and the stream's rate say it
    arrival_ns INTEGER NOT NULL, arrival_monotonic_ns INTEGER NOT NULL, device_ns INTEGER,
    UNIQUE (stream, boot_id, first_index)
);
CREATE INDEX chunk_by_time ON chunk (stream, earliest_ns, latest_ns, n_samples);
CREATE TABLE annotation (name TEXT PRIMARY KEY, content TEXT NOT NULL);
"""
_SINCE_VERSION_2: Final = gap_table.SCHEMA + frame_table.SCHEMA

_CHUNKS_AT_ONCE: Final = 1000
_VALUES_AT_ONCE: Final = 2_000_000
_INT64_MAX: Final = (1 << 63) - 1
_PLAIN_FILE_TIMEOUT_MS: Final = 200
_ROUNDING_NS: Final = 1  # a cut block counts its times from another sample


def create(path: Path, session: Session) -> None:
    """Make the file of a new session; it is durable on return."""
    with contextlib.closing(_connect(path, mode="rwc")) as db:
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(f"BEGIN; {_SCHEMA} {_SINCE_VERSION_2.format(temporary='')}")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        fields = asdict(session)
        fields["devices"] = json.dumps(fields["devices"])
        db.execute(
            "INSERT INTO session VALUES "
            "(:id, :subject, :devices, :opened_ns, :closed_ns, :software_version, :title)",
            fields,
        )
        db.execute("COMMIT")


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Return a connection to a session's file, which has a WAL from here on if it is to be written.

    Raises
    ------
    StoreError
        If the file is none of ours or of a later schema version.
    sqlite3.Error
        If it cannot be read.
    """
    db = _connect(path, mode="rw" if write else "ro")
    try:
        version = _schema_version(db, path)
        if write:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
        if version == 1:
            _add_missing_tables(db, write=write)
    except BaseException:
        db.close()
        raise
    return db


def disconnect(db: sqlite3.Connection) -> None:
    """Close a writing connection; unless someone reads just then, the session is one plain file after it."""
    with contextlib.suppress(sqlite3.Error):
        if db.in_transaction:
            db.execute("ROLLBACK")
        db.execute(f"PRAGMA busy_timeout = {_PLAIN_FILE_TIMEOUT_MS}")
        db.execute("PRAGMA journal_mode = DELETE")
    db.close()


def read_session(db: sqlite3.Connection) -> Session:
    """Return the session that the file holds."""
    session_id, subject, devices, *rest = db.execute("SELECT * FROM session").fetchone()
    return Session(session_id, subject, tuple(SessionDevice(**d) for d in json.loads(devices)), *rest)


def read_streams(db: sqlite3.Connection) -> list[StreamKey]:
    """Return the file's streams in the order of their first record."""
    rows = db.execute("SELECT gateway, device, description FROM stream ORDER BY id").fetchall()
    return [StreamKey(gateway, device, Stream.from_json(text)) for gateway, device, text in rows]


@dataclass(frozen=True, slots=True)
class StreamTable:
    """The chunks of one stream in one file."""

    db: sqlite3.Connection
    id: int
    stream: Stream
    longest_ns: int

    @classmethod
    def find(cls, db: sqlite3.Connection, gateway: str, device: str, stream: str | Stream) -> StreamTable:
        """Return the table of a stream given by its name or its description.

        Raises
        ------
        StreamNotFoundError, AmbiguousStreamError
        """
        name = stream if isinstance(stream, str) else stream.name
        rows = db.execute(
            "SELECT id, description, longest_ns FROM stream WHERE (gateway, device, name) = (?, ?, ?)",
            (gateway, device, name),
        ).fetchall()
        if isinstance(stream, Stream):
            rows = [row for row in rows if row[1] == stream.to_json()]
        if not rows:
            raise StreamNotFoundError(f"no stream {gateway}/{device}/{name} in this session")
        if len(rows) > 1:
            raise AmbiguousStreamError(
                f"stream {gateway}/{device}/{name} has {len(rows)} descriptions in this session, "
                "expected one of them instead of the name"
            )
        stream_id, description, longest_ns = rows[0]
        return cls(db, stream_id, Stream.from_json(description), longest_ns)

    def segments_in(self, low_ns: int, high_ns: int, *, max_samples: int | None) -> tuple[Segment, ...]:
        """Return the segments of samples with times in `[low_ns, high_ns)`.

        Raises
        ------
        TooManySamplesError
            If these are more than `max_samples`.
        """
        cursor = self.db.execute(
            "SELECT * FROM chunk WHERE stream = ? AND earliest_ns >= ? AND earliest_ns < ? AND latest_ns >= ?",
            (self.id, max(low_ns - self.longest_ns, -_INT64_MAX), high_ns, low_ns),
        )
        chunks: list[Chunk] = []
        n_samples = 0
        for row in cursor:
            for chunk in cut(self.stream, _chunk(row), low_ns, high_ns):
                chunks.append(chunk)
                n_samples += chunk.n_samples
                if max_samples is not None and n_samples > max_samples:
                    raise TooManySamplesError(
                        f"more than {max_samples} samples of stream {self.stream.name} in this range"
                    )
        chunks.sort()
        return tuple(segments(self.stream, chunks))

    def pieces_in(self, low_ns: int, high_ns: int) -> Iterator[Segment]:
        """Yield the same segments as `segments_in`, in pieces that fit in memory."""
        cursor = self.db.execute(
            "SELECT * FROM chunk WHERE stream = ? ORDER BY boot_id, first_index", (self.id,)
        )
        parts: list[Chunk] = []
        n_values = 0
        for row in cursor:
            chunk = _chunk(row)
            parts += cut(self.stream, chunk, low_ns, high_ns)
            n_values += chunk.n_samples * len(self.stream.channels)
            if n_values >= _VALUES_AT_ONCE or len(parts) >= _CHUNKS_AT_ONCE:
                yield from segments(self.stream, parts)
                parts, n_values = [], 0
        yield from segments(self.stream, parts)

    def extent(self, low_ns: int, high_ns: int) -> Extent | None:
        """Return how many samples have times in `[low_ns, high_ns)`, and the first and last of these times."""
        whole = self.db.execute(
            "SELECT sum(n_samples), min(earliest_ns), max(latest_ns) FROM chunk "
            "WHERE stream = ? AND earliest_ns >= ? AND latest_ns < ?",
            (self.id, low_ns, high_ns),
        ).fetchone()
        at_edges = self.db.execute(
            "SELECT * FROM chunk WHERE stream = ? AND earliest_ns < ? AND latest_ns >= ? "
            "AND (earliest_ns < ? OR latest_ns >= ?)",
            (self.id, high_ns, low_ns, low_ns, high_ns),
        )
        parts = [part for row in at_edges for part in cut(self.stream, _chunk(row), low_ns, high_ns)]
        extents = [(part.n_samples, part.earliest_ns, part.latest_ns) for part in parts]
        if whole[0] is not None:
            extents.append(whole)
        if not extents:
            return None
        n_samples, firsts_ns, lasts_ns = zip(*extents, strict=True)
        return Extent(sum(n_samples), min(firsts_ns), max(lasts_ns))

    def declared(self, device: str) -> list[Gap]:
        """Return the gaps that were declared."""
        return declared_gaps(self.db, self.id, device, self.stream)

    def gaps(self, gateway: str, device: str, session: Session, low_ns: int, high_ns: int) -> list[SessionGap]:
        """Return where the stream is not whole in `[low_ns, high_ns)` of its session, declared or not.

        The samples next to the range are looked at too: a gap that reaches into it lies between them.
        """
        before_ns, after_ns = self.db.execute(
            "SELECT (SELECT max(earliest_ns) FROM chunk WHERE stream = :id AND earliest_ns < :low), "
            "(SELECT min(earliest_ns) FROM chunk WHERE stream = :id AND earliest_ns >= :high)",
            {"id": self.id, "low": low_ns, "high": high_ns},
        ).fetchone()
        opened_ns, closed_ns = session.interval_ns()
        first_ns = opened_ns if before_ns is None else max(before_ns, opened_ns)
        runs = self.runs_in(first_ns, closed_ns if after_ns is None else min(after_ns + 1, closed_ns))
        interval_ns = session.opened_ns, session.closed_ns
        gaps = stream_gaps(gateway, device, self.stream, runs, self.declared(device), interval_ns)
        return [part for gap in gaps if (part := gap.between(low_ns, high_ns)) is not None]

    def runs_in(self, low_ns: int, high_ns: int) -> list[Run]:
        """Return the runs of samples without a missing index of which some lie in `[low_ns, high_ns)`."""
        cursor = self.db.execute(
            """
            SELECT * FROM (
                SELECT boot_id, first_index, first_index + n_samples AS end_index,
                    earliest_ns, latest_ns, uncertainty_ns,
                    (lag(boot_id) OVER each, lag(first_index + n_samples) OVER each)
                        IS NOT (boot_id, first_index) AS begins,
                    (lead(boot_id) OVER each, lead(first_index) OVER each)
                        IS NOT (boot_id, first_index + n_samples) AS ends
                FROM chunk WHERE stream = ? AND earliest_ns >= ? AND earliest_ns < ? AND latest_ns >= ?
                WINDOW each AS (ORDER BY boot_id, first_index)
            ) WHERE begins OR ends
            """,
            (self.id, max(low_ns - self.longest_ns, -_INT64_MAX), high_ns, low_ns),
        )
        found: list[Run] = []
        for boot_id, first, end, earliest_ns, latest_ns, uncertainty_ns, begins, _ in cursor:
            if begins:
                found.append(Run(boot_id, first, end, earliest_ns, latest_ns, uncertainty_ns, uncertainty_ns))
            else:
                found[-1] = found[-1]._replace(
                    end_index=end, last_ns=latest_ns, last_uncertainty_ns=uncertainty_ns
                )
        return found

    def arrivals(self) -> Arrivals:
        """Return when the pieces of the stream reached their gateway."""
        rows = self.db.execute(
            "SELECT boot_id, first_index, start_ns, uncertainty_ns, arrival_monotonic_ns FROM chunk "
            "WHERE stream = ? ORDER BY boot_id, first_index",
            (self.id,),
        ).fetchall()
        return Arrivals(*np.array(rows, dtype=np.int64).reshape(-1, 5).T)

    def holding(self, boot_id: int, first_index: int, last_index: int) -> list[Chunk]:
        """Return the chunks that hold any of the samples from `first_index` to `last_index` of a boot."""
        cursor = self.db.execute(
            "SELECT * FROM chunk WHERE stream = ? AND boot_id = ? AND first_index <= ? "
            "ORDER BY first_index DESC",
            (self.id, boot_id, last_index),
        )
        chunks = map(_chunk, cursor)
        return list(itertools.takewhile(lambda c: c.first_index + c.n_samples > first_index, chunks))


@dataclass(slots=True)
class SessionWriter:
    """The one writing connection of a session's file, and what it remembers of the tables."""

    session_id: str
    db: sqlite3.Connection
    tables: dict[StreamKey, StreamTable] = field(default_factory=dict)
    ends: dict[tuple[int, int], int] = field(default_factory=dict)
    frames: FrameWriter = field(init=False)

    def __post_init__(self) -> None:
        self.frames = FrameWriter(self.session_id, self.db)

    def write(self, gateway: str, record: Record) -> WriteResult:
        """Store what of `record` is not there yet."""
        if isinstance(record, FrameBlock):
            return self.frames.write(gateway, record)
        if isinstance(record, Gap):
            table = self._table(StreamKey(gateway, record.device, record.stream))
            return WriteResult(gaps=int(put_gap(self.db, table.id, record)))
        return self._write_samples(gateway, record)

    def _write_samples(self, gateway: str, block: SampleBlock) -> WriteResult:
        key = StreamKey(gateway, block.device, block.stream)
        table = self._table(key)
        first, end = block.first_index, block.first_index + block.n_samples
        known_end = self._end(table, block.boot_id)
        self.ends[table.id, block.boot_id] = max(known_end, end)
        if first >= known_end:
            self._insert(key, block, 0, block.n_samples)
            return WriteResult(new=block.n_samples)
        missing, differing = _compare(block, table.holding(block.boot_id, first, end - 1))
        for i, j in runs(missing):
            self._insert(key, block, i, j)
        n_new, n_differing = int(missing.sum()), int(differing.sum())
        conflicts = [
            Conflict(self.session_id, gateway, block.device, block.stream.name, block.boot_id, first + i, j - i)
            for i, j in runs(differing)
        ]
        return WriteResult(n_new, block.n_samples - n_new - n_differing, tuple(conflicts))

    def _insert(self, key: StreamKey, block: SampleBlock, i: int, j: int) -> None:
        table = self.tables[key]
        times_ns = block.times_ns if j - i == block.n_samples else block.sample_times_ns()[i:j]
        start_ns = block.start_ns if i == 0 or times_ns is None else int(times_ns[0])
        if times_ns is None:
            earliest_ns = start_ns
            last_ns = start_ns + round((block.n_samples - 1) * (1e9 / (block.stream.rate_hz or 1.0)))
            latest_ns = min(last_ns, _INT64_MAX)
        else:
            earliest_ns, latest_ns = int(times_ns.min()), int(times_ns.max())
        codec, samples = chunk_codec.pack(block.values[:, i:j])
        self.db.execute(
            "INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                table.id,
                block.boot_id,
                block.first_index + i,
                j - i,
                start_ns,
                earliest_ns,
                latest_ns,
                block.uncertainty_ns,
                codec,
                samples,
                None if times_ns is None else times_ns.astype("<i8", copy=False).tobytes(),
                block.arrival_ns,
                block.arrival_monotonic_ns,
                None if block.device_ns is None else block.device_ns + start_ns - block.start_ns,
            ),
        )
        if latest_ns - earliest_ns > table.longest_ns:
            self.tables[key] = replace(table, longest_ns=latest_ns - earliest_ns)
            self.db.execute(
                "UPDATE stream SET longest_ns = ? WHERE id = ?", (latest_ns - earliest_ns, table.id)
            )

    def _table(self, key: StreamKey) -> StreamTable:
        table = self.tables.get(key)
        if table is None:
            self.db.execute(
                "INSERT OR IGNORE INTO stream (gateway, device, name, description) VALUES (?, ?, ?, ?)",
                (key.gateway, key.device, key.stream.name, key.stream.to_json()),
            )
            table = self.tables[key] = StreamTable.find(self.db, key.gateway, key.device, key.stream)
        return table

    def _end(self, table: StreamTable, boot_id: int) -> int:
        """Return the index after the last stored sample of a boot, 0 if there is none."""
        end = self.ends.get((table.id, boot_id))
        if end is not None:
            return end
        row = self.db.execute(
            "SELECT first_index, n_samples FROM chunk WHERE stream = ? AND boot_id = ? "
            "ORDER BY first_index DESC LIMIT 1",
            (table.id, boot_id),
        ).fetchone()
        return 0 if row is None else int(row[0]) + int(row[1])


def _connect(path: Path, *, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def _schema_version(db: sqlite3.Connection, path: Path) -> int:
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        raise StoreError(f"{path}: not a session file")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if not 1 <= version <= SCHEMA_VERSION:
        raise StoreError(f"{path}: schema version {version}, expected 1 to {SCHEMA_VERSION}")
    return int(version)


def _add_missing_tables(db: sqlite3.Connection, *, write: bool) -> None:
    """Add the tables that version 1 lacks: to the file, or for a reader beside it and empty."""
    if write:
        tables = _SINCE_VERSION_2.format(temporary="")
        db.executescript(f"BEGIN IMMEDIATE; {tables} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT")
    else:
        db.execute("PRAGMA temp_store = MEMORY")
        db.executescript(_SINCE_VERSION_2.format(temporary="TEMPORARY"))


def _chunk(row: Sequence[Any]) -> Chunk:
    return Chunk(*row[1:11])


def _compare(block: SampleBlock, known: Sequence[Chunk]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which samples of `block` are in none of the `known` chunks, and which are there but differ."""
    missing = np.ones(block.n_samples, dtype=np.bool_)
    differing = np.zeros(block.n_samples, dtype=np.bool_)
    times_ns = block.sample_times_ns()
    for chunk in known:
        ahead = chunk.first_index - block.first_index
        here = slice(max(ahead, 0), min(ahead + chunk.n_samples, block.n_samples))
        there = slice(here.start - ahead, here.stop - ahead)
        known_values = joined_values(block.stream, [chunk])[:, there]
        known_ns = joined_times_ns(block.stream, [chunk])[there]
        missing[here] = False
        differing[here] = np.any(_bits(block.values[:, here]) != _bits(known_values), axis=0)
        differing[here] |= np.abs(times_ns[here] - known_ns) > _ROUNDING_NS
    return missing, differing


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
