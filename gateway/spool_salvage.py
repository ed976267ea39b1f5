"""Carries what is readable of a damaged spool over into a new one; the damaged files are put aside, and kept.

::

    spool.sqlite, -wal --(every row that makes sense)--> spool.sqlite.salvage
    spool.sqlite, -wal --(renamed)--> spool.sqlite.damaged-20261124T090000Z, -wal
    spool.sqlite.salvage --(renamed)--> spool.sqlite

A crash at any point leaves either the damaged files where they were, or the finished new file to be moved in.

The new spool is another incarnation: under the old one the recorder may know blocks that are lost here. Blocks
are numbered anew without holes. Where one is missing a gap record is put in its place; numbers, boot ids and
positions never go backwards, because of several versions of a fact the largest counts.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway import sqlite_pages
from gateway.spool_file import (
    INSERT_BLOCK,
    SELECT_BLOCKS,
    Contents,
    SpooledBlock,
    confirmed,
    create,
    position_of,
    write_contents,
)
from gateway.spool_gaps import (
    BodyReader,
    missing_at_end,
    missing_before,
    missing_between,
    missing_stream,
    renumbered,
)
from protocols.errors import DecodeError, DefinitionError
from protocols.frames import RAW
from protocols.gaps import Gap
from protocols.samples import Stream
from protocols.sparkplug.blocks import encode_record

_BATCH: Final = 1000
_UPSERT: Final = (
    f"{INSERT_BLOCK} ON CONFLICT (seq) DO UPDATE SET device = excluded.device, stream = excluded.stream, \
put_ns = excluded.put_ns, body = excluded.body, crc = excluded.crc WHERE excluded.put_ns > put_ns"
)

_log = logging.getLogger(__name__)


def finish_move(path: Path) -> None:
    """Move a finished new spool in where a crash interrupted it; remove one that was not finished."""
    new = _new_path(path)
    if not new.exists():
        return
    if path.exists():
        new.unlink()
    else:
        _move(path, new)


def salvage(path: Path, known: Contents | None = None) -> str:
    """Replace a damaged spool by a new one; return a sentence that says what was put aside and lost.

    Parameters
    ----------
    known
        What a running gateway knows of the contents, newer than the file's.

    Raises
    ------
    OSError, sqlite3.Error
        If the new file cannot be written; the damaged one is where it was.
    """
    finish_move(path)
    new = _new_path(path)
    for leftover in (new, Path(f"{new}-journal"), Path(f"{new}-wal"), Path(f"{new}-shm")):
        leftover.unlink(missing_ok=True)
    with closing(create(new)) as database:
        database.execute("BEGIN IMMEDIATE")
        found = _collect(path, database)
        if known is not None:
            found.streams.update(known.streams)
            found.positions.update(known.positions)
            found.facts.update(known.facts)
        renewal = _Renewal(database, found)
        renewal.run()
        database.execute("COMMIT")
        database.execute("PRAGMA journal_mode = WAL")
    aside = _move(path, new)
    return f"{aside.name} put aside: {renewal.summary()}"


def _new_path(path: Path) -> Path:
    return Path(f"{path}.salvage")


def _move(path: Path, new: Path) -> Path:
    """Put the damaged files aside and the new one in their place, durably; return the damaged file."""
    aside = _aside_path(path)
    for suffix in ("", "-wal"):
        if Path(f"{path}{suffix}").exists():
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    Path(f"{path}-shm").unlink(missing_ok=True)  # only an index of the log
    _sync_folder(path.parent)
    os.rename(new, path)
    _sync_folder(path.parent)
    return aside


def _aside_path(path: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    name, i = f"{path}.damaged-{stamp}", 1
    while Path(name).exists() or Path(f"{name}-wal").exists():
        i += 1
        name = f"{path}.damaged-{stamp}-{i}"
    return Path(name)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _collect(path: Path, database: sqlite3.Connection) -> Contents:
    """Copy every block whose checksum holds into the new file; return the rest of what makes sense."""
    contents, facts = Contents(), defaultdict[str, set[int]](set)
    for row in sqlite_pages.rows(path):
        match row.rowid, row.values:
            case int(seq), (None, str(device), int(stream), int(put_ns), bytes(body), *crc) if seq > 0:
                block = SpooledBlock(seq, device, stream, put_ns, body)
                if crc in ([block.crc], [], [None]):  # none before version 2
                    database.execute(_UPSERT, block.row())
            case int(number), (None, str(device), str(text)) if number > 0:
                try:
                    contents.streams.setdefault(number, (device, Stream.from_json(text)))
                except DefinitionError:
                    continue
            case int(number), (None, int(boot_id), int(last_index), int(due_ns), (str() | None) as reason):
                try:
                    position = position_of(boot_id, last_index, due_ns, reason)
                except ValueError:
                    continue
                before = contents.positions.get(number, position)
                contents.positions[number] = max(
                    position, before, key=lambda p: (p.boot_id, p.last_index, p.due_ns)
                )
            case None, (str(name), int(value)):
                facts[name].add(value)
            case _:
                continue
    contents.facts = confirmed(facts)
    return contents


@dataclass(slots=True)
class _Last:
    """A stream's latest block in the new file, and how many were lost before it."""

    block: SpooledBlock
    lost_before: int


@dataclass(slots=True)
class _Renewal:
    """Numbers the blocks of the new file without holes, in order, and adds gap records for what is missing."""

    database: sqlite3.Connection
    found: Contents
    kept: int = 0
    gaps: list[tuple[int, Gap]] = field(default_factory=list)
    lost: int = 0
    complete: bool = True
    _reader: BodyReader = field(init=False)
    _last: dict[int, _Last] = field(default_factory=dict)
    _next_seq: int = 1
    _expected: int = 1
    _put_ns: int = 0

    def __post_init__(self) -> None:
        self._reader = BodyReader(self.found.streams)

    def run(self) -> None:
        """Do it, and write the rest of the contents."""
        facts = self.found.facts
        self.complete = "acknowledged" in facts and "committed" in facts
        acknowledged = facts.get("acknowledged", 0)
        self.database.execute("DELETE FROM block WHERE seq <= ?", (acknowledged,))
        if not self.complete:
            first = self.database.execute("SELECT min(seq) FROM block").fetchone()[0]
            acknowledged = (first or 1) - 1
        self._next_seq = self._expected = acknowledged + 1
        for block in self._blocks(acknowledged):
            self._take(block)
        self.lost += max(0, facts.get("committed", 0) - self._expected + 1)
        self._declare_at_end()
        for stream_number, gap in self.gaps:
            self._put_gap(stream_number, gap)
        facts["incarnation"] = secrets.randbits(62) + 1
        facts["acknowledged"], facts["committed"] = acknowledged, self._next_seq - 1
        write_contents(self.database, self.found)

    def summary(self) -> str:
        """Return what became of the blocks."""
        lost = f"{self.lost}" if self.complete else f"{self.lost} or more"
        samples = sum(gap.n_samples or 0 for _, gap in self.gaps)
        return (
            f"{self.kept} blocks carried over, {lost} lost; {len(self.gaps)} gaps declared, {samples} samples"
        )

    def _blocks(self, after_seq: int) -> Iterator[SpooledBlock]:
        while rows := self.database.execute(SELECT_BLOCKS, (after_seq, _BATCH)).fetchall():
            yield from (SpooledBlock(*row[:5]) for row in rows)
            after_seq = rows[-1][0]

    def _take(self, block: SpooledBlock) -> None:
        """Give a block its new number; declare what is missing of its stream before it."""
        self.lost += block.seq - self._expected
        self._expected = block.seq + 1
        last = self._last.get(block.stream_number)
        unclear = self.lost > (0 if last is None else last.lost_before)
        try:
            if unclear or block.stream_number not in self.found.streams:
                self._declare_before(last, block)
            moved = renumbered(block, self._next_seq)
        except DecodeError as error:
            _log.warning("block %d is not carried over: %s", block.seq, error)
            self.database.execute("DELETE FROM block WHERE seq = ?", (block.seq,))
            self.lost += 1
            return
        if moved is not block:
            self.database.execute("DELETE FROM block WHERE seq = ?", (block.seq,))
            self.database.execute(INSERT_BLOCK, moved.row())
        self._last[block.stream_number] = _Last(moved, self.lost)
        self._put_ns = moved.put_ns
        self._next_seq += 1
        self.kept += 1

    def _declare_before(self, last: _Last | None, block: SpooledBlock) -> None:
        record = self._reader.read(block)
        gap = missing_before(record) if last is None else missing_between(self._reader.read(last.block), record)
        if gap is not None:
            self.gaps.append((block.stream_number, gap))

    def _declare_at_end(self) -> None:
        """Declare what is missing at the end of each stream, as far as its position tells."""
        if self.lost == 0 and self.complete:
            return
        for number, (device, stream) in self.found.streams.items():
            position, last = self.found.positions.get(number), self._last.get(number)
            if position is None or stream == RAW:
                continue
            if last is None:
                self.gaps.append((number, missing_stream(device, stream, position)))
            elif (gap := missing_at_end(self._reader.read(last.block), position)) is not None:
                self.gaps.append((number, gap))

    def _put_gap(self, stream_number: int, gap: Gap) -> None:
        body = encode_record(gap, spool_seq=self._next_seq, stream_number=stream_number)
        block = SpooledBlock(self._next_seq, gap.device, stream_number, self._put_ns, body)
        self.database.execute(INSERT_BLOCK, block.row())
        self._next_seq += 1
