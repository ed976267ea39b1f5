"""Blocks on disk, in order, until the recorder has them.

A block is published only after it is committed here, and leaves only when the recorder's watermark has passed
it. One SQLite file in WAL mode with `synchronous=FULL`; one thread owns its one writing connection and commits
in groups, at most `commit_s` after a block was put. Readers use a read-only connection beside it.

::

    put --> queue --(writer thread: one transaction)--> committed --read--> published
                                                             `--acknowledge--> trimmed

What outlives the process besides the blocks: the incarnation (a random number that names this spool), the next
sequence number (none is ever given to two blocks that could both have been published), the numbers of the
streams (which the stored bodies refer to), the largest boot id, and the last birth-death number.

When the backlog reaches `max_bytes` further blocks are refused and counted: the oldest data are kept. While
the disk takes nothing, blocks wait in memory up to `MAX_WAITING_BYTES`; `fault` says why.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from protocols.errors import StoreError
from protocols.samples import Stream

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x4C4C5350
"""`LLSP` in the file's header, so that no other SQLite file is taken for a spool."""
COMMIT_S: Final = 0.1
MAX_WAITING_BYTES: Final = 64 << 20

_RETRY_S: Final = 1.0
_SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE block (seq INTEGER PRIMARY KEY, device TEXT NOT NULL, stream INTEGER NOT NULL,
                    put_ns INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE stream (number INTEGER PRIMARY KEY, device TEXT NOT NULL, description TEXT NOT NULL);
CREATE TABLE fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO fact VALUES ('incarnation', {incarnation}), ('acknowledged', 0);
PRAGMA application_id = {application};
PRAGMA user_version = {version};
COMMIT;
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpooledBlock:
    """A block's place, its device and number of stream, when it was put (UTC), and the body to publish."""

    seq: int
    device: str
    stream_number: int
    put_ns: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is not yet known to be durable at the recorder, and for how long the oldest of it has waited."""

    blocks: int
    bytes: int
    oldest_age_s: float


class Spool:
    """An open spool; every method may be called from any thread.

    Parameters
    ----------
    path
        The file; made if missing, in a folder that exists.
    max_bytes
        Size of backlog from which blocks are refused.
    commit_s
        Longest real time for which a block waits to be committed.
    on_commit
        Called in the writer thread after every commit; must return at once.

    Attributes
    ----------
    incarnation
        The random number that names this spool.
    refused_blocks
        How many blocks were refused since it was opened.
    fault
        Why the last transaction failed; empty if it did not.

    Raises
    ------
    StoreError
        If the file is not a spool, one of another version, damaged, or in use by another gateway.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 4 << 30,
        commit_s: float = COMMIT_S,
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self.fault = ""
        self.refused_blocks = 0
        self._max_bytes = max_bytes
        self._commit_s = commit_s
        self._on_commit = on_commit
        self._changed = threading.Condition()
        self._read_lock = threading.Lock()
        self._waiting: list[SpooledBlock] = []
        self._waiting_bytes = 0
        self._new_streams: list[tuple[int, str, str]] = []
        self._new_facts: dict[str, int] = {}
        self._closing = False
        self._acknowledged = self._trimmed = self._committed = 0
        self._guard = _lock(path)
        try:
            self._writer = _open(path)
            self._load()
            uri = f"{path.absolute().as_uri()}?mode=ro"
            self._reader = sqlite3.connect(uri, uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            self._guard.close()
            raise StoreError(f"spool {path}: {error}, expected a spool of version {SCHEMA_VERSION}") from error
        except BaseException:
            self._guard.close()
            raise
        self._thread = threading.Thread(target=self._write_all, name="spool", daemon=True)
        self._thread.start()

    @property
    def acknowledged(self) -> int:
        """The watermark: every block up to and including this one is durable at the recorder."""
        return self._acknowledged

    @property
    def committed(self) -> int:
        """The newest block that is on disk."""
        return self._committed

    @property
    def newest(self) -> int:
        """The newest block that was put, perhaps not yet on disk."""
        return self._next_seq - 1

    def backlog(self) -> Backlog:
        """Return how much waits for the recorder."""
        with self._changed:
            oldest_ns = self._waiting[0].put_ns if self._waiting else None
            blocks, size = self.newest - self._acknowledged, self._backlog_bytes
        row = self._select("SELECT put_ns FROM block WHERE seq > ? ORDER BY seq LIMIT 1", self._acknowledged)
        oldest_ns = row[0][0] if row else oldest_ns
        age_s = 0.0 if oldest_ns is None else max(0.0, (time.time_ns() - oldest_ns) / 1e9)
        return Backlog(blocks, size, age_s)

    def waiting_devices(self) -> set[str]:
        """Return the devices of which blocks are not yet acknowledged."""
        with self._changed:
            return {device for device, seq in self._last_seq.items() if seq > self._acknowledged}

    def stream_number(self, device: str, stream: Stream) -> int:
        """Return the number that stands for this stream of this device for ever."""
        with self._changed:
            return self._number(device, stream)

    def streams(self, device: str) -> dict[int, Stream]:
        """Return the streams of a device by number, those of earlier configurations included."""
        with self._changed:
            return {number: s for (owner, s), number in self._numbers.items() if owner == device}

    def fact(self, name: str, default: int) -> int:
        """Return a number kept with `keep`."""
        with self._changed:
            return self._facts.get(name, default)

    def keep(self, name: str, value: int) -> None:
        """Keep a number; it is on disk no later than any block put after this."""
        with self._changed:
            if self._facts.get(name) != value:
                self._facts[name] = self._new_facts[name] = value
                self._changed.notify_all()

    def put(self, device: str, stream: Stream, encode: Callable[[int, int], bytes]) -> int | None:
        """Take a block and return its sequence number, or None if it was refused.

        Parameters
        ----------
        encode
            Makes the body from the sequence number and the stream's number.

        Raises
        ------
        StoreError
            If the spool is closed.
        """
        with self._changed:
            if self._closing:
                raise StoreError(f"spool {self.path} is closed, expected no block of {device} any more")
            seq = self._next_seq
            number = self._number(device, stream)
            body = encode(seq, number)
            full = self._backlog_bytes + len(body) > self._max_bytes
            if full or self._waiting_bytes + len(body) > MAX_WAITING_BYTES:
                self.refused_blocks += 1
                return None
            self._next_seq += 1
            self._waiting.append(SpooledBlock(seq, device, number, time.time_ns(), body))
            self._waiting_bytes += len(body)
            self._backlog_bytes += len(body)
            self._last_seq[device] = seq
            if len(self._waiting) == 1:  # else the writer knows already
                self._changed.notify_all()
            return seq

    def acknowledge(self, seq: int) -> bool:
        """Take a watermark; False, and nothing is done, if it lies outside what is on disk and waiting."""
        with self._changed:
            if not self._acknowledged < seq <= self._committed:
                return False
            self._acknowledged = seq
            self._changed.notify_all()
            return True

    def read(self, after_seq: int, limit: int) -> list[SpooledBlock]:
        """Return the first committed blocks after `after_seq`, at most `limit`, in order."""
        rows = self._select(
            "SELECT seq, device, stream, put_ns, body FROM block WHERE seq > ? ORDER BY seq LIMIT ?",
            after_seq,
            limit,
        )
        return [SpooledBlock(*row) for row in rows]

    def close(self) -> None:
        """Commit what waits and close; what could not be committed is named in the log and in `fault`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        with self._read_lock:
            self._reader.close()
        self._writer.close()
        self._guard.close()

    def _load(self) -> None:
        self._facts: dict[str, int] = dict(self._writer.execute("SELECT name, value FROM fact"))
        self.incarnation = self._facts["incarnation"]
        self._acknowledged = self._facts["acknowledged"]
        self._trimmed = self._acknowledged
        # rows that were acknowledged are trimmed in the transaction that says so
        newest, size = self._writer.execute("SELECT max(seq), total(length(body)) FROM block").fetchone()
        self._committed = max(newest or 0, self._acknowledged)
        self._next_seq = self._committed + 1
        self._backlog_bytes = int(size)
        self._last_seq = dict(self._writer.execute("SELECT device, max(seq) FROM block GROUP BY device"))
        rows = self._writer.execute("SELECT number, device, description FROM stream")
        self._numbers = {(device, Stream.from_json(text)): number for number, device, text in rows}

    def _number(self, device: str, stream: Stream) -> int:
        number = self._numbers.get((device, stream))
        if number is None:
            number = len(self._numbers) + 1
            self._numbers[device, stream] = number
            self._new_streams.append((number, device, stream.to_json()))
        return number

    def _select(self, query: str, *values: int) -> list[Any]:
        with self._read_lock:
            try:
                return self._reader.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"spool {self.path} cannot be read: {error}") from error

    def _write_all(self) -> None:
        """Commit in groups until closed: the whole life of the writer thread."""
        while self._wait_for_work():
            if self._transact():
                self._pause(self._commit_s)
            elif self._pause(_RETRY_S):
                break
        if self._waiting:
            self._transact()
        if self._waiting:
            _log.error("spool %s: %d blocks were not stored: %s", self.path, len(self._waiting), self.fault)

    def _wait_for_work(self) -> bool:
        """Wait until there is something to write; False if closed and there is nothing."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_work() or self._closing)
            return self._has_work()

    def _pause(self, pause_s: float) -> bool:
        """Wait for company for the next commit; return whether the spool is being closed."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closing, pause_s)

    def _has_work(self) -> bool:
        return bool(self._waiting or self._new_streams or self._new_facts or self._acknowledged > self._trimmed)

    def _transact(self) -> bool:
        """Write everything that waits in one transaction; return whether that succeeded."""
        with self._changed:
            blocks, self._waiting = self._waiting, []
            streams, self._new_streams = self._new_streams, []
            facts, self._new_facts = self._new_facts, {}
            acknowledged = self._acknowledged
        try:
            freed_bytes = self._write(blocks, streams, facts, acknowledged)
        except sqlite3.Error as error:
            if not self.fault:
                _log.error("spool %s takes nothing: %s", self.path, error)
            with self._changed:
                self.fault = str(error)
                self._waiting = blocks + self._waiting
                self._new_streams = streams + self._new_streams
                self._new_facts = facts | self._new_facts
            return False
        with self._changed:
            self.fault = ""
            self._trimmed = acknowledged
            self._waiting_bytes -= sum(len(block.body) for block in blocks)
            self._backlog_bytes -= freed_bytes
            if blocks:
                self._committed = blocks[-1].seq
        self._on_commit()
        return True

    def _write(
        self,
        blocks: list[SpooledBlock],
        streams: list[tuple[int, str, str]],
        facts: Mapping[str, int],
        acknowledged: int,
    ) -> int:
        """Write one transaction; return how many bytes of bodies it freed."""
        freed_bytes = 0
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            rows = [(b.seq, b.device, b.stream_number, b.put_ns, b.body) for b in blocks]
            self._writer.executemany("INSERT INTO block VALUES (?, ?, ?, ?, ?)", rows)
            self._writer.executemany("INSERT INTO stream VALUES (?, ?, ?)", streams)
            if acknowledged > self._trimmed:
                query = "SELECT total(length(body)) FROM block WHERE seq <= ?"
                freed_bytes = int(self._writer.execute(query, (acknowledged,)).fetchone()[0])
                self._writer.execute("DELETE FROM block WHERE seq <= ?", (acknowledged,))
                facts = {**facts, "acknowledged": acknowledged}
            self._writer.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?)", list(facts.items()))
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        return freed_bytes


def _lock(path: Path) -> sqlite3.Connection:
    """Return what keeps other processes away from this spool until it is closed or the process dies."""
    guard = sqlite3.connect(f"{path}.lock", timeout=0, isolation_level=None, check_same_thread=False)
    try:
        guard.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        guard.close()
        raise StoreError(
            f"spool {path} is in use by another gateway, expected to be alone ({error})"
        ) from error
    return guard


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA synchronous = FULL")
        _check_or_create(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _check_or_create(database: sqlite3.Connection, path: Path) -> None:
    version = database.execute("PRAGMA user_version").fetchone()[0]
    application = database.execute("PRAGMA application_id").fetchone()[0]
    if (application, version) == (APPLICATION_ID, SCHEMA_VERSION):
        return
    if (application, version) == (0, 0) and database.execute("SELECT 1 FROM sqlite_schema").fetchone() is None:
        database.execute("PRAGMA journal_mode = WAL")
        incarnation = secrets.randbits(62) + 1
        database.executescript(
            _SCHEMA.format(incarnation=incarnation, application=APPLICATION_ID, version=SCHEMA_VERSION)
        )
        return
    kind = f"a spool of version {version}" if application == APPLICATION_ID else "no spool"
    raise StoreError(f"{path} is {kind}, expected a spool of version {SCHEMA_VERSION}")
