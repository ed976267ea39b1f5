"""What waits to be written to the spool's file, and the one transaction that writes it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from gateway.spool_file import (
    INSERT_BLOCK,
    Position,
    SpooledBlock,
    write_facts,
    write_positions,
    write_streams,
)
from protocols.samples import Stream


@dataclass(slots=True)
class Pending:
    """What is to be written.

    Parameters
    ----------
    blocks
        In order.
    positions
        Where each block leaves its stream; None where it does not say.
    streams
        Device and stream by number.
    facts
        Numbers by name.
    """

    blocks: list[SpooledBlock] = field(default_factory=list)
    positions: list[Position | None] = field(default_factory=list)
    streams: dict[int, tuple[str, Stream]] = field(default_factory=dict)
    facts: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.blocks or self.streams or self.facts)

    @property
    def n_bytes(self) -> int:
        """Size of all bodies."""
        return sum(len(block.body) for block in self.blocks)

    def split(self, n_bytes: int) -> tuple[Pending, Pending]:
        """Return the first blocks, of about so many bytes, with everything else; and the other blocks."""
        total = end = 0
        for block in self.blocks:
            if total >= n_bytes:
                break
            total += len(block.body)
            end += 1
        first = Pending(self.blocks[:end], self.positions[:end], self.streams, self.facts)
        return first, Pending(self.blocks[end:], self.positions[end:])

    def before(self, later: Pending) -> Pending:
        """Return this with what has come since."""
        return Pending(
            self.blocks + later.blocks,
            self.positions + later.positions,
            self.streams | later.streams,
            self.facts | later.facts,
        )

    def last_positions(self) -> dict[int, Position]:
        """Return the newest position of each stream, by number of stream."""
        pairs = zip(self.blocks, self.positions, strict=True)
        return {block.stream_number: position for block, position in pairs if position is not None}


def write_pending(database: sqlite3.Connection, pending: Pending, *, trim_to: int | None) -> int:
    """Write one transaction; return how many bytes of bodies it freed.

    Parameters
    ----------
    trim_to
        The newest block to remove, with all before it; None to remove none.

    Raises
    ------
    sqlite3.Error
        Nothing was written.
    """
    freed_bytes, facts = 0, pending.facts
    database.execute("BEGIN IMMEDIATE")
    try:
        if trim_to is not None:
            query = "SELECT total(length(body)) FROM block WHERE seq <= ?"
            freed_bytes = int(database.execute(query, (trim_to,)).fetchone()[0])
            database.execute("DELETE FROM block WHERE seq <= ?", (trim_to,))
            facts = {**facts, "acknowledged": trim_to}
        if pending.blocks:
            database.executemany(INSERT_BLOCK, [block.row() for block in pending.blocks])
            facts = {**facts, "committed": pending.blocks[-1].seq}
        write_streams(database, pending.streams.items())
        write_positions(database, pending.last_positions().items())
        write_facts(database, facts.items())
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    return freed_bytes
