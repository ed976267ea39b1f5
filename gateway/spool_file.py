"""The spool's file: its tables, its versions, who may open it, and how damage shows.

Rows of `block` are only ever added at the end and removed from the front, so between the watermark and the
newest every sequence number is there; a checksum covers each row. A file in which that, or anything SQLite
relies on, does not hold is damaged.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.sqlite_pages import count_commits_after, log_is_headless, wal_path
from protocols.errors import DefinitionError, StoreError
from protocols.gaps import GapReason
from protocols.samples import Stream

SCHEMA_VERSION: Final = 2
APPLICATION_ID: Final = 0x4C4C5350
"""`LLSP` in the file's header, so that no other SQLite file is taken for a spool."""

INSERT_BLOCK: Final = "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?)"
SELECT_BLOCKS: Final = (
    "SELECT seq, device, stream, put_ns, body, crc FROM block WHERE seq > ? ORDER BY seq LIMIT ?"
)

_LAST_LIKELY_VERSION: Final = 1000
"""A larger number in the header is damage, not a version to come."""
_SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE block (seq INTEGER PRIMARY KEY, device TEXT NOT NULL, stream INTEGER NOT NULL,
                    put_ns INTEGER NOT NULL, body BLOB NOT NULL, crc INTEGER);
CREATE TABLE stream (number INTEGER PRIMARY KEY, device TEXT NOT NULL, description TEXT NOT NULL);
CREATE TABLE fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE position (stream INTEGER PRIMARY KEY, boot_id INTEGER NOT NULL, last_index INTEGER NOT NULL,
                       due_ns INTEGER NOT NULL, reason TEXT);
INSERT INTO fact VALUES ('incarnation', {incarnation}), ('acknowledged', 0), ('committed', 0),
                        ('~acknowledged', -1), ('~committed', -1);
PRAGMA application_id = {application};
PRAGMA user_version = {version};
COMMIT;
"""
_FROM_VERSION_1: Final = """
BEGIN IMMEDIATE;
ALTER TABLE block ADD COLUMN crc INTEGER;
CREATE TABLE position (stream INTEGER PRIMARY KEY, boot_id INTEGER NOT NULL, last_index INTEGER NOT NULL,
                       due_ns INTEGER NOT NULL, reason TEXT);
INSERT INTO fact SELECT 'committed', max(value, coalesce((SELECT max(seq) FROM block), 0))
                 FROM fact WHERE name = 'acknowledged';
PRAGMA user_version = 2;
COMMIT;
"""
_DAMAGE_CODES: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_FSYNC_CODES: Final = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)
_BOUNDS: Final = ("acknowledged", "committed")
_MACHINE: Final = "machine"
_MACHINE_ID: Final = Path("/etc/machine-id")


class SpoolDamagedError(StoreError):
    """The file cannot be trusted: what is readable must be carried over into a new one."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a stream ends.

    Parameters
    ----------
    boot_id, last_index
        Its last sample; -1 before the first.
    due_ns
        UTC at which the next one was due.
    reason
        Of the gap that is open after it; None if none is.
    """

    boot_id: int
    last_index: int
    due_ns: int
    reason: GapReason | None = None


@dataclass(frozen=True, slots=True)
class SpooledBlock:
    """A block's place, its device and number of stream, when it was put (UTC), and the body to publish."""

    seq: int
    device: str
    stream_number: int
    put_ns: int
    body: bytes

    @property
    def crc(self) -> int:
        """The checksum of all but `put_ns`."""
        place = (self.seq * 65_537 + self.stream_number) & 0xFFFFFFFF
        return zlib.crc32(self.body, zlib.crc32(self.device.encode(), place))

    def row(self) -> tuple[int, str, int, int, bytes, int]:
        """Return what `INSERT_BLOCK` takes."""
        return self.seq, self.device, self.stream_number, self.put_ns, self.body, self.crc


@dataclass(slots=True)
class Contents:
    """What a spool holds beside its blocks.

    Parameters
    ----------
    streams
        Device and stream by the number that bodies refer to.
    positions
        By number of stream.
    facts
        Numbers by name.
    n_bytes
        Size of all bodies.
    newest
        The newest block of each device.
    """

    streams: dict[int, tuple[str, Stream]] = field(default_factory=dict)
    positions: dict[int, Position] = field(default_factory=dict)
    facts: dict[str, int] = field(default_factory=dict)
    n_bytes: int = 0
    newest: dict[str, int] = field(default_factory=dict)


def lock(path: Path) -> sqlite3.Connection:
    """Return what keeps other processes away from this spool until it is closed or the process dies."""
    try:
        guard = sqlite3.connect(f"{path}.lock", timeout=0, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise StoreError(f"spool {path}: {error}, expected a folder that can be written") from error
    try:
        guard.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        guard.close()
        raise StoreError(
            f"spool {path} is in use by another gateway, expected to be alone ({error})"
        ) from error
    except sqlite3.DatabaseError:  # holds nothing, so nothing is lost with it
        guard.close()
        Path(f"{path}.lock").unlink(missing_ok=True)
        return lock(path)
    return guard


def open_file(path: Path) -> sqlite3.Connection:
    """Open a spool, made if missing, or brought to the present version.

    Raises
    ------
    SpoolDamagedError
        If it was a spool, or no database at all.
    StoreError
        If it belongs to something else or to a later version, or cannot be opened.
    """
    _check_before_opening(path)
    try:
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise StoreError(f"spool {path}: {error}, expected a file that can be written") from error
    try:
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA secure_delete = FAST")  # trimming must not need room
        database.execute("SELECT 1 FROM sqlite_schema").fetchone()  # reads the log
        _check_log(database, path)
        _check_or_create(database, path)
    except sqlite3.Error as error:
        close_untouched(database, path)
        raise as_store_error(path, error) from error
    except BaseException:
        close_untouched(database, path)
        raise
    return database


def open_reader(path: Path) -> sqlite3.Connection:
    """Return a connection that only reads, for any thread."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)


def close_untouched(database: sqlite3.Connection, path: Path) -> None:
    """Close without what SQLite does at the last writer's close: bring the log into the file and delete it."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(sqlite3.Error):
            reader = stack.enter_context(contextlib.closing(open_reader(path)))
            reader.execute("PRAGMA user_version").fetchone()
        database.close()


def create(path: Path) -> sqlite3.Connection:
    """Return a new empty spool at a path where there is none, with a rollback journal in memory only."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = MEMORY")
    database.execute("PRAGMA synchronous = FULL")
    _create_tables(database)
    return database


def as_store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """Return the error that says whether the file is damaged or merely cannot be used now."""
    if is_damage(error):
        return SpoolDamagedError(f"spool {path} is damaged: {error}")
    return StoreError(f"spool {path}: {error}, expected a file that can be read and written")


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error speaks of the file's contents, or makes them doubtful.

    After an fsync that failed nobody knows what of the file is on disk, and trying again would not tell.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # text that is not UTF-8
        return isinstance(error, sqlite3.OperationalError)
    return code & 0xFF in _DAMAGE_CODES or code in _FSYNC_CODES


def read_contents(database: sqlite3.Connection, path: Path) -> Contents:
    """Return everything but the blocks; SpoolDamagedError if it cannot be, or blocks are missing."""
    try:
        facts = dict(database.execute("SELECT name, value FROM fact"))
        rows = database.execute("SELECT number, device, description FROM stream")
        streams = {number: (device, Stream.from_json(text)) for number, device, text in rows}
        rows = database.execute("SELECT stream, boot_id, last_index, due_ns, reason FROM position")
        positions = {number: position_of(*values) for number, *values in rows}
        blocks = database.execute(
            "SELECT device, stream, count(*), min(seq), max(seq), total(length(body)) FROM block "
            "GROUP BY device, stream"
        ).fetchall()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:  # a table or column is not there
            raise SpoolDamagedError(f"spool {path} is damaged: {error}") from error
        raise as_store_error(path, error) from error
    except (DefinitionError, TypeError, ValueError) as error:
        raise SpoolDamagedError(f"spool {path} is damaged: {error}") from error
    if not {"incarnation", "acknowledged", "committed"} <= facts.keys():
        raise SpoolDamagedError(f"spool {path} is damaged: it does not say how far it is")
    if any(streams.get(number, ("",))[0] != device for device, number, *_ in blocks):
        raise SpoolDamagedError(f"spool {path} is damaged: it does not say what its blocks are")
    count = sum(n for _, _, n, *_ in blocks)
    first, last = min((row[3] for row in blocks), default=0), max((row[4] for row in blocks), default=0)
    acknowledged, committed = facts["acknowledged"], facts["committed"]
    if count != committed - acknowledged or (count and (first, last) != (acknowledged + 1, committed)):
        raise SpoolDamagedError(
            f"spool {path} is damaged: {count} blocks from {first} to {last}, "
            f"expected {acknowledged + 1} to {committed}"
        )
    newest: dict[str, int] = {}
    for device, _, _, _, seq, _ in blocks:
        newest[device] = max(seq, newest.get(device, 0))
    return Contents(streams, positions, facts, int(sum(row[5] for row in blocks)), newest)


def renew_if_moved(database: sqlite3.Connection, contents: Contents) -> None:
    """Give a spool that was made on another machine an incarnation of its own: it may be a copy."""
    machine = _machine()
    if machine is None or contents.facts.get(_MACHINE) == machine:
        return
    facts = {_MACHINE: machine}
    if _MACHINE in contents.facts:
        facts["incarnation"] = secrets.randbits(62) + 1
    database.execute("BEGIN IMMEDIATE")
    write_facts(database, facts.items())
    database.execute("COMMIT")
    contents.facts.update(facts)


def write_contents(database: sqlite3.Connection, contents: Contents) -> None:
    """Write everything but the blocks over what there is."""
    write_streams(database, contents.streams.items())
    write_positions(database, contents.positions.items())
    write_facts(database, contents.facts.items())


def write_streams(database: sqlite3.Connection, streams: Iterable[tuple[int, tuple[str, Stream]]]) -> None:
    """Write streams by number."""
    rows = [(number, device, stream.to_json()) for number, (device, stream) in streams]
    database.executemany("INSERT OR REPLACE INTO stream VALUES (?, ?, ?)", rows)


def write_positions(database: sqlite3.Connection, positions: Iterable[tuple[int, Position]]) -> None:
    """Write positions by number of stream."""
    rows = [(number, at.boot_id, at.last_index, at.due_ns, at.reason) for number, at in positions]
    database.executemany("INSERT OR REPLACE INTO position VALUES (?, ?, ?, ?, ?)", rows)


def position_of(boot_id: int, last_index: int, due_ns: int, reason: str | None) -> Position:
    """Return the position that a row says; ValueError if its reason is none."""
    return Position(boot_id, last_index, due_ns, None if reason is None else GapReason(reason))


def write_facts(database: sqlite3.Connection, facts: Iterable[tuple[str, int]]) -> None:
    """Write facts by name; those that say which blocks there are also as their complement, to be known by."""
    rows = list(facts)
    rows += [(complement(name), ~value) for name, value in rows if name in _BOUNDS]
    database.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?)", rows)


def complement(name: str) -> str:
    """Return the name under which a fact's complement is kept."""
    return f"~{name}"


def confirmed(seen: Mapping[str, set[int]]) -> dict[str, int]:
    """Return the largest value seen of each fact, where there is a complement of one that it confirms."""
    facts = {name: max(values) for name, values in seen.items() if name not in _BOUNDS}
    for name in _BOUNDS:
        values = {value for value in seen.get(name, ()) if ~value in seen.get(complement(name), ())}
        if values:
            facts[name] = max(values)
    return facts


def _machine() -> int | None:
    """Return a number that stands for this machine, or None where it has no name."""
    try:
        name = _MACHINE_ID.read_bytes().strip()
    except OSError:
        return None
    return int.from_bytes(hashlib.sha256(name).digest()[:7], "big") if name else None


def _check_before_opening(path: Path) -> None:
    """Notice what SQLite would silently take for a new file, deleting a log that still holds blocks."""
    size = path.stat().st_size if path.exists() else None
    log = wal_path(path)
    log_size = log.stat().st_size if log.exists() else 0
    if size == 0 or (size is None and log_size > 0):
        raise SpoolDamagedError(f"spool {path} is damaged: {'the file is empty' if size == 0 else 'no file'}")
    if log_is_headless(path):
        raise SpoolDamagedError(f"spool {path} is damaged: the header of its log")


def _check_or_create(database: sqlite3.Connection, path: Path) -> None:
    version = database.execute("PRAGMA user_version").fetchone()[0]
    application = database.execute("PRAGMA application_id").fetchone()[0]
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if (application, version) == (0, 0) and not tables:
        database.execute("PRAGMA journal_mode = WAL")
        _create_tables(database)
        return
    was_spool = {"block", "stream", "fact"} <= tables
    if application != APPLICATION_ID and not was_spool:
        raise StoreError(f"{path} is no spool, expected a spool of version {SCHEMA_VERSION} or no file")
    if application != APPLICATION_ID or not was_spool or not 1 <= version <= _LAST_LIKELY_VERSION:
        raise SpoolDamagedError(f"spool {path} is damaged: its header or schema")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} is a spool of version {version}, expected one of version {SCHEMA_VERSION} or before: "
            "let the gateway that made it send what it holds, or give this one another data folder"
        )
    if version == 1:
        database.executescript(_FROM_VERSION_1)


def _create_tables(database: sqlite3.Connection) -> None:
    incarnation = secrets.randbits(62) + 1
    database.executescript(
        _SCHEMA.format(incarnation=incarnation, application=APPLICATION_ID, version=SCHEMA_VERSION)
    )


def _check_log(database: sqlite3.Connection, path: Path) -> None:
    """Notice commits in the log behind the place where SQLite stopped to read it.

    One commit there may be the last, torn one, which was never promised; the one before a second was. SQLite is
    asked for that place: to open its index beside it would let go of its locks when that is closed again.
    """
    try:
        _, n_frames, _ = database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.OperationalError as error:
        if is_damage(error):
            raise
        return  # a full disk, which must not keep the gateway from starting
    if n_frames < 0:
        return
    lost = count_commits_after(path, n_frames)
    if lost > 1:
        raise SpoolDamagedError(f"spool {path} is damaged: {lost} commits behind a bad frame of its log")
