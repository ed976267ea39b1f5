"""Blocks on disk, in order, until the recorder has them.

A block is published only after it is committed here, and leaves only when the recorder's watermark has passed
it. One SQLite file in WAL mode with `synchronous=FULL`; one thread owns its one writing connection and commits
in groups, at most `commit_s` after a block was put. Readers use a read-only connection beside it.

::

    put --> queue --(writer thread: one transaction)--> committed --read--> published
                                                             `--acknowledge--> trimmed

What outlives the process besides the blocks: the incarnation (a random number that names this spool), the next
sequence number (none is ever given to two blocks that could both have been published), the numbers of the
streams (which the stored bodies refer to) and where each of them ends, and facts such as the largest boot id.

Bounds. From a backlog of `max_bytes` on blocks are refused and counted: the oldest data are kept, and who puts
declares the gap. Blocks older than `max_age_s` are dropped, oldest first, and gap records with their exact
number of samples take their place at the end. Gap records are never refused or dropped.

While the disk takes nothing, blocks wait in memory up to `MAX_WAITING_BYTES`, then they are refused; `fault`
says why. A reserve file is given up so that what the recorder has can be trimmed, and then all goes on.

A file that is damaged, and one whose fsync failed, is replaced by a new one with all that is readable, also
while the gateway runs (`spool_salvage`); `damage` tells. Blocks then have other numbers in another incarnation.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.spool_file import (
    SELECT_BLOCKS,
    Contents,
    Position,
    SpoolDamagedError,
    SpooledBlock,
    close_untouched,
    is_damage,
    lock,
    open_file,
    open_reader,
    read_contents,
    renew_if_moved,
)
from gateway.spool_gaps import BodyReader, expired, renumbered
from gateway.spool_pending import Pending, write_pending
from gateway.spool_reserve import LOG_BYTES, TRANSACTION_BYTES, Reserve
from gateway.spool_salvage import finish_move, salvage
from gateway.stream_numbers import StreamNumbers
from protocols.errors import DecodeError, StoreError
from protocols.gaps import Gap
from protocols.records import Record
from protocols.samples import Stream
from protocols.sparkplug.blocks import encode_record

__all__ = ["COMMIT_S", "MAX_WAITING_BYTES", "Backlog", "Position", "Spool", "SpooledBlock"]

COMMIT_S: Final = 0.1
MAX_WAITING_BYTES: Final = 64 << 20

_RETRY_S: Final = 1.0
_RESERVE_S: Final = 60.0
_HEAL_PAUSE_S: Final = 10.0
_LONGEST_HEAL_PAUSE_S: Final = 3600.0
_EXPIRED_AT_ONCE: Final = 5000
_TRIMMED_AT_ONCE: Final = 100
_SHORTEST_EXPIRY_S: Final = 0.05
_EXPIRIES: Final = 50
"""So many times within `max_age_s` blocks are dropped: no block is older by more than a fiftieth, and no stream
has more gap records of this kind for each such time."""

_log = logging.getLogger(__name__)


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
    max_age_s
        Real time after which a block that the recorder has not got is dropped; None keeps it for ever.
    commit_s
        Longest real time for which a block waits to be committed.
    on_commit
        Called in the writer thread after every commit; must return at once.

    Attributes
    ----------
    incarnation
        The random number that names this spool.
    put_bytes
        Size of all bodies put since it was opened.
    refused_blocks, expired_blocks
        How many blocks were refused for size, and dropped for age, since then.
    fault
        Why the last transaction failed; empty if it did not.
    damage
        Which files were put aside since then, and what was lost; empty if none was.

    Raises
    ------
    StoreError
        If the file belongs to something else, to a later version or to a running gateway, or cannot be used.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 4 << 30,
        max_age_s: float | None = None,
        commit_s: float = COMMIT_S,
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self.fault = self.damage = ""
        self.put_bytes = self.refused_blocks = self.expired_blocks = 0
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._commit_s = commit_s
        self._on_commit = on_commit
        self._changed = threading.Condition()
        self._read_lock = threading.Lock()  # taken before _changed where both are
        self._pending = Pending()
        self._waiting_bytes = 0
        self._acknowledged = self._trimmed = self._committed = 0
        self._closing = False
        self._suspicion = ""
        self._tight = False
        self._next_expiry_s = self._next_reserve_s = self._next_heal_s = 0.0
        self._heal_pause_s = _HEAL_PAUSE_S / 2
        self._reserve = Reserve(Path(f"{path}.reserve"))
        self._guard = lock(path)
        try:
            finish_move(path)
            try:
                contents = self._open()
            except SpoolDamagedError as error:
                contents = self._replace(str(error), None)
            self._reserve.hold()
        except (sqlite3.Error, OSError) as error:
            self._guard.close()
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"spool {path}: {error}, expected a folder with room for it") from error
        self._take_over(contents)
        self._thread = threading.Thread(target=self._write_all, name="spool", daemon=True)
        self._thread.start()

    @property
    def acknowledged(self) -> int:
        """The watermark: every block up to and including this one is durable at the recorder, or dropped."""
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
            oldest_ns = self._pending.blocks[0].put_ns if self._pending.blocks else None
            blocks, size = self.newest - self._acknowledged, self._backlog_bytes
        row = self._select("SELECT put_ns FROM block WHERE seq > ? ORDER BY seq LIMIT 1", self._acknowledged)
        oldest_ns = row[0][0] if row else oldest_ns
        age_s = 0.0 if oldest_ns is None else max(0.0, (self._now_ns() - oldest_ns) / 1e9)
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
            return {
                number: stream for number, (owner, stream) in self._numbers.streams.items() if owner == device
            }

    def position(self, device: str, stream: Stream) -> Position | None:
        """Return where a stream ended when its latest block with a position was put; None if none ever was."""
        with self._changed:
            number = self._numbers.find(device, stream)
            return None if number is None else self._positions.get(number)

    def fact(self, name: str, default: int) -> int:
        """Return a number kept with `keep`."""
        with self._changed:
            return self._facts.get(name, default)

    def keep(self, name: str, value: int) -> None:
        """Keep a number; it is on disk no later than any block put after this."""
        with self._changed:
            if self._facts.get(name) != value:
                self._facts[name] = self._pending.facts[name] = value
                self._changed.notify_all()

    def put(
        self,
        device: str,
        stream: Stream,
        encode: Callable[[int, int], bytes],
        *,
        position: Position | None = None,
        always: bool = False,
    ) -> int | None:
        """Take a block and return its sequence number, or None if it was refused.

        Parameters
        ----------
        encode
            Makes the body from the sequence number and the stream's number.
        position
            Where the stream ends with this block; on disk in the same transaction, and kept when it is trimmed.
        always
            Take it whatever the bounds: a gap record.

        Raises
        ------
        StoreError
            If the spool is closed.
        """
        with self._changed:
            if self._closing:
                raise StoreError(f"spool {self.path} is closed, expected no block of {device} any more")
            number = self._number(device, stream)
            body = encode(self._next_seq, number)
            full = self._backlog_bytes + len(body) > self._max_bytes
            full = full or self._waiting_bytes + len(body) > MAX_WAITING_BYTES
            if full and not always:
                self.refused_blocks += 1
                return None
            self.put_bytes += len(body)
            if position is not None:
                self._positions[number] = position
            return self._append(device, number, body, position)

    def acknowledge(self, seq: int, *, incarnation: int | None = None) -> bool:
        """Take a watermark; False, and nothing is done, if it lies outside what is on disk and waiting.

        With `incarnation` also if the spool has another one by now.
        """
        with self._changed:
            foreign = incarnation is not None and incarnation != self.incarnation
            if foreign or not self._acknowledged < seq <= self._committed:
                return False
            self._acknowledged = seq
            self._changed.notify_all()
            return True

    def read(self, after_seq: int, limit: int, *, incarnation: int | None = None) -> list[SpooledBlock]:
        """Return the first committed blocks after `after_seq`, at most `limit`, in order.

        With `incarnation` nothing if the spool has another one by now.

        Raises
        ------
        StoreError
            If the disk cannot be read now.
        """
        committed = self._committed
        rows = self._select(SELECT_BLOCKS, after_seq, limit, incarnation=incarnation)
        blocks = [SpooledBlock(*row[:5]) for row in rows]
        first = max(after_seq, self._acknowledged) + 1
        if not blocks:
            if limit > 0 and first <= min(committed, self._committed) and self._reads(incarnation):
                self._suspect(f"block {first} is missing")
            return []
        if blocks[0].seq > first:
            self._suspect(f"block {first} is missing")
            return []
        for i, (block, row) in enumerate(zip(blocks, rows, strict=True)):
            if block.seq != blocks[0].seq + i or row[5] not in (None, block.crc):
                self._suspect(f"block {blocks[0].seq + i} is missing or fails its checksum")
                return blocks[:i]
        return blocks

    def close(self) -> None:
        """Commit what waits and close; what could not be committed is named in the log and in `fault`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._close_reader()
        self._writer.close()
        self._guard.close()

    def _open(self) -> Contents:
        """Open the file and return what it holds."""
        self._writer = open_file(self.path)
        try:
            contents = read_contents(self._writer, self.path)
            with contextlib.suppress(sqlite3.OperationalError):  # a full disk; the next time will do
                renew_if_moved(self._writer, contents)
            self._reader: sqlite3.Connection | None = open_reader(self.path)
        except BaseException:
            close_untouched(self._writer, self.path)
            raise
        return contents

    def _close_reader(self) -> None:
        with self._read_lock:
            if self._reader is not None:
                self._reader.close()
            self._reader = None

    def _replace(self, why: str, known: Contents | None) -> Contents:
        """Carry what is readable over into a new file; return what that holds."""
        _log.error("%s", why)
        self._reserve.release()
        outcome = salvage(self.path, known)
        self.damage = f"{self.damage}; {outcome}" if self.damage else outcome
        _log.error("spool %s was damaged, %s", self.path, outcome)
        return self._open()

    def _take_over(self, contents: Contents) -> None:
        """Go on from what a file holds, with what waits numbered after it."""
        self.incarnation = contents.facts["incarnation"]
        self._acknowledged = self._trimmed = contents.facts["acknowledged"]
        self._committed = contents.facts["committed"]
        self._next_seq = self._committed + 1
        self._backlog_bytes = contents.n_bytes
        self._last_seq = contents.newest
        self._numbers = StreamNumbers(contents.streams | self._pending.streams)
        self._positions_on_disk = contents.positions
        self._positions = contents.positions | self._pending.last_positions()
        self._facts = contents.facts | self._pending.facts
        newest = self._writer.execute("SELECT put_ns FROM block ORDER BY seq DESC LIMIT 1").fetchone()
        self._steady_ns = max(time.time_ns(), newest[0] if newest else 0) - time.monotonic_ns()
        waiting = list(zip(self._pending.blocks, self._pending.positions, strict=True))
        self._pending.blocks, self._pending.positions, self._waiting_bytes = [], [], 0
        for block, position in waiting:
            try:
                moved = renumbered(block, self._next_seq)
            except DecodeError as error:
                _log.error("spool %s: block %d says nothing: %s", self.path, block.seq, error)
                continue
            self._append(moved.device, moved.stream_number, moved.body, position)

    def _now_ns(self) -> int:
        """Return UTC that no step of the clock disturbs; never before the newest block of an earlier run."""
        return self._steady_ns + time.monotonic_ns()

    def _append(self, device: str, stream_number: int, body: bytes, position: Position | None = None) -> int:
        seq = self._next_seq
        self._next_seq += 1
        self._pending.blocks.append(SpooledBlock(seq, device, stream_number, self._now_ns(), body))
        self._pending.positions.append(position)
        self._waiting_bytes += len(body)
        self._backlog_bytes += len(body)
        self._last_seq[device] = seq
        if len(self._pending.blocks) == 1:  # else the writer knows already
            self._changed.notify_all()
        return seq

    def _number(self, device: str, stream: Stream) -> int:
        number = self._numbers.find(device, stream)
        if number is None:
            number = self._numbers.add(device, stream)
            self._pending.streams[number] = (device, stream)
        return number

    def _select(self, query: str, *values: int, incarnation: int | None = None) -> list[Any]:
        with self._read_lock:
            if self._reader is None or not self._reads(incarnation):
                return []
            try:
                return self._reader.execute(query, values).fetchall()
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise StoreError(f"spool {self.path} cannot be read: {error}") from error
                why = str(error)
        self._suspect(why)
        return []

    def _reads(self, incarnation: int | None) -> bool:
        return self._reader is not None and incarnation in (None, self.incarnation)

    def _suspect(self, why: str) -> None:
        """Have the writer replace the file."""
        with self._changed:
            self._suspicion = self._suspicion or why
            self._changed.notify_all()

    def _write_all(self) -> None:
        """Commit in groups until closed: the whole life of the writer thread."""
        while self._wait_for_work():
            if self._round():
                if not self._pending.blocks or self._waiting_bytes < TRANSACTION_BYTES:
                    self._pause(self._commit_s)
            elif self._pause(_RETRY_S):
                break
        while self._pending.blocks and self._transact():
            pass
        if self._pending.blocks:
            n_blocks = len(self._pending.blocks)
            _log.error("spool %s: %d blocks were not stored: %s", self.path, n_blocks, self.fault)

    def _wait_for_work(self) -> bool:
        """Wait until there is something to do; False if closed and there is nothing."""
        with self._changed:
            while not (self._has_work() or self._closing):
                in_s = None if self._max_age_s is None else self._next_expiry_s - time.monotonic()
                if in_s is not None and in_s <= 0:
                    return True
                self._changed.wait(in_s)
            return self._has_work()

    def _pause(self, pause_s: float) -> bool:
        """Wait for company for the next commit; return whether the spool is being closed."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closing, pause_s)

    def _has_work(self) -> bool:
        return bool(self._pending or self._acknowledged > self._trimmed or self._suspicion)

    def _round(self) -> bool:
        """Do what there is to do; return whether that succeeded."""
        if self._suspicion and not self._heal():
            return False
        if self._max_age_s is not None and time.monotonic() >= self._next_expiry_s:
            self._expire(self._max_age_s)
        if self._tight and not self._make_room():
            return False
        return not self._has_work() or self._transact()

    def _heal(self) -> bool:
        """Replace the file, not too often since each time one is put aside; return whether that succeeded."""
        if time.monotonic() < self._next_heal_s:
            return False
        self._heal_pause_s = min(2 * self._heal_pause_s, _LONGEST_HEAL_PAUSE_S)
        self._next_heal_s = time.monotonic() + self._heal_pause_s
        with self._changed:
            facts = {**self._facts, "acknowledged": self._trimmed, "committed": self._committed}
            known = Contents(dict(self._numbers.streams), dict(self._positions_on_disk), facts)
        self._close_reader()
        close_untouched(self._writer, self.path)
        try:
            contents = self._replace(f"spool {self.path} is damaged: {self._suspicion}", known)
        except (OSError, sqlite3.Error) as error:
            self._note_fault(f"the damaged spool cannot be replaced: {error}")
            return False
        with self._read_lock, self._changed:
            self._suspicion = ""
            self._take_over(contents)
        self._on_commit()
        return True

    def _expire(self, max_age_s: float) -> None:
        """Let the oldest blocks go if they are too old, and put gap records in their place."""
        before_ns = self._now_ns() - round(max_age_s * 1e9)
        try:
            blocks = self.read(self._acknowledged, _EXPIRED_AT_ONCE)
        except StoreError as error:
            self._note_fault(str(error))
            blocks = []
        blocks = list(itertools.takewhile(lambda block: block.put_ns < before_ns, blocks))
        if len(blocks) < _EXPIRED_AT_ONCE:
            self._next_expiry_s = time.monotonic() + max(max_age_s / _EXPIRIES, _SHORTEST_EXPIRY_S)
        if blocks:
            self._let_go(blocks, list(self._records(blocks)))

    def _records(self, blocks: list[SpooledBlock]) -> Iterator[Record]:
        reader = BodyReader(self._numbers.streams)
        for block in blocks:
            try:
                yield reader.read(block)
            except DecodeError as error:
                _log.error("spool %s: block %d says nothing: %s", self.path, block.seq, error)

    def _let_go(self, blocks: list[SpooledBlock], records: list[Record]) -> None:
        """Drop blocks but for the gaps among them, which are put again at the end."""
        n_dropped = len(blocks) - sum(isinstance(record, Gap) for record in records)
        gaps = list(expired(records))
        with self._changed:
            if self._acknowledged >= blocks[0].seq:  # the recorder has some of them after all
                return
            for gap in gaps:
                number = self._number(gap.device, gap.stream)
                body = encode_record(gap, spool_seq=self._next_seq, stream_number=number)
                self._append(gap.device, number, body)
            self._acknowledged = blocks[-1].seq
            self.expired_blocks += n_dropped
        if n_dropped:
            _log.warning("spool %s: %d blocks were too old and are dropped", self.path, n_dropped)

    def _make_room(self) -> bool:
        """Trim on a full disk, little by little; return whether blocks may be written again."""
        trimmed_before = self._trimmed
        try:
            while self._trimmed < (acknowledged := self._acknowledged):
                acknowledged = min(acknowledged, self._trimmed + _TRIMMED_AT_ONCE)
                freed_bytes = write_pending(self._writer, Pending(), trim_to=acknowledged)
                with self._changed:
                    self._trimmed = acknowledged
                    self._backlog_bytes -= freed_bytes
            self._bring_log_in()
        except sqlite3.Error as error:
            self._after_failure(error)
            return False
        self._reserve.hold()
        self._tight = not self._reserve.held
        return not self._tight or self._trimmed > trimmed_before

    def _bring_log_in(self) -> None:
        """Keep the log within what the reserve can make room for."""
        log = Path(f"{self.path}-wal")
        if log.exists() and log.stat().st_size > LOG_BYTES:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _transact(self) -> bool:
        """Write what waits, at most `TRANSACTION_BYTES`, in one transaction; return whether that succeeded."""
        with self._changed:
            pending, self._pending = self._pending.split(TRANSACTION_BYTES)
            acknowledged = self._acknowledged
        try:
            self._bring_log_in()
            trim_to = acknowledged if acknowledged > self._trimmed else None
            freed_bytes = write_pending(self._writer, pending, trim_to=trim_to)
        except sqlite3.Error as error:
            with self._changed:
                self._pending = pending.before(self._pending)
            self._after_failure(error)
            return False
        self._after_success(pending, acknowledged, freed_bytes)
        return True

    def _after_success(self, pending: Pending, acknowledged: int, freed_bytes: int) -> None:
        with self._changed:
            self.fault = ""
            self._trimmed = acknowledged
            self._waiting_bytes -= pending.n_bytes
            self._backlog_bytes -= freed_bytes
            self._positions_on_disk.update(pending.last_positions())
            if pending.blocks:
                self._committed = pending.blocks[-1].seq
        if time.monotonic() >= self._next_reserve_s:
            self._next_reserve_s = time.monotonic() + _RESERVE_S
            self._reserve.hold()
        self._on_commit()

    def _after_failure(self, error: sqlite3.Error) -> None:
        self._note_fault(str(error))
        if is_damage(error):
            self._suspect(str(error))
        elif not self._tight:
            self._tight = True
            self._reserve.release()

    def _note_fault(self, fault: str) -> None:
        if not self.fault:
            _log.error("spool %s takes nothing: %s", self.path, fault)
        self.fault = fault
