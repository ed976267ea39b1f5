"""The table of declared gaps in a session's file: one row for a gap, which grows as it is declared again."""

from __future__ import annotations

import sqlite3
from typing import Final

from protocols.gaps import Gap, GapReason
from protocols.samples import Stream

SCHEMA: Final = """
CREATE {temporary} TABLE gap (
    stream INTEGER NOT NULL, after_boot_id INTEGER NOT NULL, after_index INTEGER NOT NULL,
    start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
    n_samples INTEGER,  -- null where nobody knows
    reason TEXT NOT NULL,
    PRIMARY KEY (stream, after_boot_id, after_index)
) WITHOUT ROWID;
"""


def put_gap(db: sqlite3.Connection, stream_id: int, gap: Gap) -> bool:
    """Store a gap unless a record of it that holds is there; return whether it was stored."""
    rows = db.execute(
        "SELECT after_boot_id, after_index, start_ns, end_ns, n_samples, reason FROM gap "
        "WHERE (stream, after_boot_id, after_index) = (?, ?, ?)",
        (stream_id, gap.after_boot_id, gap.after_index),
    )
    known = [_gap(gap.device, gap.stream, *row) for row in rows]
    if known and not gap.outlasts(known[0]):
        return False
    db.execute(
        "INSERT OR REPLACE INTO gap VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            stream_id,
            gap.after_boot_id,
            gap.after_index,
            gap.start_ns,
            gap.end_ns,
            gap.n_samples,
            gap.reason.value,
        ),
    )
    return True


def declared_gaps(db: sqlite3.Connection, stream_id: int, device: str, stream: Stream) -> list[Gap]:
    """Return the gaps that were declared for a stream, by what they follow."""
    rows = db.execute(
        "SELECT after_boot_id, after_index, start_ns, end_ns, n_samples, reason FROM gap WHERE stream = ? "
        "ORDER BY after_boot_id, after_index",
        (stream_id,),
    )
    return [_gap(device, stream, *row) for row in rows]


def _gap(
    device: str,
    stream: Stream,
    after_boot_id: int,
    after_index: int,
    start_ns: int,
    end_ns: int,
    n_samples: int | None,
    reason: str,
) -> Gap:
    return Gap(device, stream, after_boot_id, after_index, start_ns, end_ns, n_samples, GapReason(reason))
