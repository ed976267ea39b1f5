"""The table of raw frames in a session's file: bytes as they came from a device, once each, compressed.

A frame is known by `(gateway, device, connection_id, frame index)`; the first bytes stored under that identity
stay, as with samples.
"""

from __future__ import annotations

import itertools
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from lab_api.store import chunk_codec
from lab_api.store.chunks import runs
from lab_api.store.session_gaps import Run
from lab_api.store.session_store import Conflict, WriteResult
from protocols.frames import RAW, FrameBlock

SCHEMA: Final = """
CREATE {temporary} TABLE frames (
    gateway TEXT NOT NULL, device TEXT NOT NULL,
    connection_id INTEGER NOT NULL, first_frame INTEGER NOT NULL, n_frames INTEGER NOT NULL,
    earliest_ns INTEGER NOT NULL, latest_ns INTEGER NOT NULL,
    codec INTEGER NOT NULL, arrivals BLOB NOT NULL,  -- int64, UTC and monotonic clock of every frame
    sources TEXT NOT NULL,  -- separated by commas
    content BLOB NOT NULL,  -- zlib: lengths (uint32), which source (uint8), bytes, of all frames
    UNIQUE (gateway, device, connection_id, first_frame)
);
"""

_SELECT: Final = (
    "SELECT connection_id, first_frame, n_frames, codec, arrivals, sources, content FROM frames "
    "WHERE (gateway, device) = (?, ?) "
)
_BLOCKS_AT_ONCE: Final = 500


@dataclass(slots=True)
class FrameWriter:
    """Writes frames into one session's file, and remembers how far each connection goes."""

    session_id: str
    db: sqlite3.Connection
    ends: dict[tuple[str, str, int], int] = field(default_factory=dict)

    def write(self, gateway: str, block: FrameBlock) -> WriteResult:
        """Store the frames of `block` that are not there yet."""
        key = (gateway, block.device, block.connection_id)
        first, end = block.first_frame, block.first_frame + block.n_frames
        known_end = self._end(key)
        self.ends[key] = max(known_end, end)
        if first >= known_end:
            self._insert(gateway, block)
            return WriteResult(new_frames=block.n_frames)
        missing, differing = _compare(block, self._holding(key, first, end))
        for i, j in runs(missing):
            self._insert(gateway, block.part(i, j))
        n_new, n_differing = int(missing.sum()), int(differing.sum())
        conflicts = [
            Conflict(self.session_id, gateway, block.device, RAW.name, block.connection_id, first + i, j - i)
            for i, j in runs(differing)
        ]
        return WriteResult(
            new_frames=n_new,
            duplicate_frames=block.n_frames - n_new - n_differing,
            conflicts=tuple(conflicts),
        )

    def _insert(self, gateway: str, block: FrameBlock) -> None:
        sources = sorted(set(block.sources))
        place = {source: i for i, source in enumerate(sources)}
        lengths = np.array([len(data) for data in block.data], dtype="<u4").tobytes()
        indices = bytes([place[source] for source in block.sources])
        codec, arrivals = chunk_codec.pack(np.stack([block.arrival_ns, block.arrival_monotonic_ns]))
        self.db.execute(
            "INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                gateway,
                block.device,
                block.connection_id,
                block.first_frame,
                block.n_frames,
                int(block.arrival_ns.min()),
                int(block.arrival_ns.max()),
                codec,
                arrivals,
                ",".join(sources),
                zlib.compress(lengths + indices + b"".join(block.data), 1),
            ),
        )

    def _end(self, key: tuple[str, str, int]) -> int:
        """Return the index after the last stored frame of a connection, 0 if there is none."""
        end = self.ends.get(key)
        if end is not None:
            return end
        row = self.db.execute(
            "SELECT first_frame + n_frames FROM frames WHERE (gateway, device, connection_id) = (?, ?, ?) "
            "ORDER BY first_frame DESC LIMIT 1",
            key,
        ).fetchone()
        return 0 if row is None else int(row[0])

    def _holding(self, key: tuple[str, str, int], first: int, end: int) -> list[FrameBlock]:
        cursor = self.db.execute(
            _SELECT + "AND connection_id = ? AND first_frame < ? ORDER BY first_frame DESC",
            (*key, end),
        )
        blocks = (_block(key[1], row) for row in cursor)
        return list(itertools.takewhile(lambda b: b.first_frame + b.n_frames > first, blocks))


def frames_in(
    db: sqlite3.Connection, gateway: str, device: str, low_ns: int, high_ns: int
) -> Iterator[FrameBlock]:
    """Yield the frames of a device that arrived in `[low_ns, high_ns)`, by connection and index."""
    cursor = db.execute(
        _SELECT + "AND earliest_ns < ? AND latest_ns >= ? ORDER BY connection_id, first_frame",
        (gateway, device, high_ns, low_ns),
    )
    while rows := cursor.fetchmany(_BLOCKS_AT_ONCE):
        for row in rows:
            block = _block(device, row)
            inside = (block.arrival_ns >= low_ns) & (block.arrival_ns < high_ns)
            for i, j in runs(inside):
                yield block.part(i, j)


def framed_devices(db: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """Return how many frames are stored for every (gateway, device) that has any."""
    rows = db.execute("SELECT gateway, device, sum(n_frames) FROM frames GROUP BY gateway, device").fetchall()
    return {(gateway, device): int(n_frames) for gateway, device, n_frames in rows}


def frame_runs(db: sqlite3.Connection, gateway: str, device: str, low_ns: int, high_ns: int) -> list[Run]:
    """Return the runs of stored frames of a device by connection, with a connection in place of a boot."""
    rows = db.execute(
        "SELECT connection_id, first_frame, first_frame + n_frames, earliest_ns, latest_ns FROM frames "
        "WHERE (gateway, device) = (?, ?) AND earliest_ns < ? AND latest_ns >= ? "
        "ORDER BY connection_id, first_frame",
        (gateway, device, high_ns, low_ns),
    )
    found: list[Run] = []
    for connection_id, first, end, earliest_ns, latest_ns in rows:
        if found and found[-1][:3:2] == (connection_id, first):
            found[-1] = found[-1]._replace(end_index=end, last_ns=latest_ns)
        else:
            found.append(Run(connection_id, first, end, earliest_ns, latest_ns, 0, 0))
    return found


def _block(device: str, row: Sequence[Any]) -> FrameBlock:
    connection_id, first_frame, n_frames, codec, arrivals, sources, content = row
    plain = chunk_codec.unpack(codec, arrivals, itemsize=8, n_channels=2)
    times_ns = np.frombuffer(plain, dtype="<i8").reshape(n_frames, 2).T.astype(np.int64)
    try:
        joined = zlib.decompress(content)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    names = sources.split(",")
    first = 5 * n_frames
    ends = (first + np.cumsum(np.frombuffer(joined, dtype="<u4", count=n_frames), dtype=np.int64)).tolist()
    if ends[-1] != len(joined):
        raise ValueError(f"raw frames of {len(joined)} bytes, expected {ends[-1]}")
    return FrameBlock(
        device=device,
        connection_id=connection_id,
        first_frame=first_frame,
        sources=tuple([names[i] for i in joined[4 * n_frames : first]]),
        data=tuple([joined[i:j] for i, j in zip([first, *ends[:-1]], ends, strict=True)]),
        arrival_ns=times_ns[0],
        arrival_monotonic_ns=times_ns[1],
    )


def _compare(
    block: FrameBlock, known: Sequence[FrameBlock]
) -> tuple[np.ndarray[Any, np.dtype[np.bool_]], np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return which frames of `block` are in none of the `known` blocks, and which are there but differ."""
    missing = np.ones(block.n_frames, dtype=np.bool_)
    differing = np.zeros(block.n_frames, dtype=np.bool_)
    for other in known:
        first = max(block.first_frame, other.first_frame)
        end = min(block.first_frame + block.n_frames, other.first_frame + other.n_frames)
        for i in range(first, end):
            here, there = i - block.first_frame, i - other.first_frame
            missing[here] = False
            differing[here] = block.part(here, here + 1) != other.part(there, there + 1)
    return missing, differing
