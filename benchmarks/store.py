"""The embedded session store against bare SQLite and a bare array, the same bytes in the same run.

Writing: durable blocks per second, 64 blocks to a commit, over inserts of the same sample bytes into one table;
the store adds identity, two indexes, times and compression. Then the same blocks with the raw frames that
they came in, and a gap after every hundredth, over the blocks alone. Reading: an hour of 8 channels at 250 Hz,
over one blob of the same bytes as an array, and ten seconds out of the hour, over the hour.

    python benchmarks/store.py
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from report import Report

from lab_api.store.session_store import Session, SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.frames import FrameBlock
from protocols.gaps import Gap, GapReason
from protocols.records import Record
from protocols.samples import Channel, SampleBlock, Stream

WRITE_LIMIT = 0.1
FRAMES_LIMIT = 0.25
READ_LIMIT = 40.0
PART_LIMIT = 0.1
REPEATS = 3
BLOCKS_PER_COMMIT = 64
RATE_HZ = 250.0
OPENED_NS = 1_790_000_000_000_000_000


def main() -> int:
    report = Report()
    hour = signal(n_channels=8, n_samples=3600 * 250)
    with tempfile.TemporaryDirectory() as folder:
        for n_samples in (64, 250):
            store_per_s, bare_per_s, ratio = write_figures(
                Path(folder) / str(n_samples), blocks_of(hour[:1], n_samples=n_samples)
            )
            report.figure(
                f"store: write, {n_samples} samples to a block",
                store_per_s,
                "blocks/s",
                ratio=ratio,
                of=f"{bare_per_s:.0f} of bare SQLite",
                at_least=WRITE_LIMIT,
            )
            alone_per_s, with_frames_per_s, ratio = frame_figures(
                Path(folder) / f"frames-{n_samples}", blocks_of(hour[:1], n_samples=n_samples)
            )
            report.figure(
                f"store: write, {n_samples}, with raw frames and gaps",
                with_frames_per_s,
                "blocks/s",
                ratio=ratio,
                of=f"{alone_per_s:.0f} without them",
                at_least=FRAMES_LIMIT,
            )
        hour_ms, blob_ms, ten_s_ms = read_ms(Path(folder) / "hour", hour)
    report.figure(
        "store: read an hour, 8 channels at 250 Hz",
        hour_ms,
        "ms",
        ratio=hour_ms / blob_ms,
        of=f"{blob_ms:.1f} as one blob",
        at_most=READ_LIMIT,
    )
    report.figure(
        "store: read ten seconds of it",
        ten_s_ms,
        "ms",
        ratio=ten_s_ms / hour_ms,
        of="the whole hour",
        at_most=PART_LIMIT,
    )
    return report.exit_code


def signal(*, n_channels: int, n_samples: int) -> np.ndarray:
    """Return int16 samples that look like an ECG: beats, wander, noise of some counts."""
    times_s = np.arange(n_samples) / RATE_HZ
    beats = 400 * np.sin(2 * np.pi * 0.6 * times_s) ** 62
    noise = np.random.default_rng(1).normal(0, 4, (n_channels, n_samples))
    samples: np.ndarray = (beats + 50 * np.sin(2 * np.pi * 0.2 * times_s) + noise).astype(np.int16)
    return samples


def blocks_of(values: np.ndarray, *, n_samples: int) -> list[SampleBlock]:
    channels = tuple(Channel(f"lead_{i}", "uV") for i in range(len(values)))
    stream = Stream("ecg", channels, "int16", RATE_HZ)
    return [
        SampleBlock(
            device="strap",
            stream=stream,
            boot_id=1,
            first_index=first,
            start_ns=OPENED_NS + first * 4_000_000,
            values=values[:, first : first + n_samples],
            arrival_ns=OPENED_NS,
            arrival_monotonic_ns=0,
            uncertainty_ns=1000,
        )
        for first in range(0, values.shape[1], n_samples)
    ]


def write_figures(folder: Path, blocks: Sequence[SampleBlock]) -> tuple[float, float, float]:
    """Return blocks per second of the store and of bare SQLite, and the median ratio of the rounds."""
    folder.mkdir()
    bodies = [block.values.tobytes() for block in blocks]
    bare_s, store_s = [], []
    with SqliteSessionStore(folder) as store:
        for i in range(REPEATS):
            bare_s.append(write_bare(folder / f"bare-{i}", bodies))
            started = time.perf_counter()
            write(store, open_session(store), blocks)
            store_s.append(time.perf_counter() - started)
    ratio = statistics.median(bare / own for bare, own in zip(bare_s, store_s, strict=True))
    return len(blocks) / statistics.median(store_s), len(blocks) / statistics.median(bare_s), ratio


def frame_figures(folder: Path, blocks: Sequence[SampleBlock]) -> tuple[float, float, float]:
    """Return blocks per second alone and with frames and gaps, and the median ratio of the rounds."""
    folder.mkdir()
    records: list[list[Record]] = [[block, frames_of(block)] for block in blocks]
    for i in range(0, len(blocks), 100):
        records[i].append(gap_after(blocks[i]))
    alone_s, together_s = [], []
    with SqliteSessionStore(folder) as store:
        for _ in range(REPEATS):
            for elapsed_s, groups in ((alone_s, [[block] for block in blocks]), (together_s, records)):
                session = open_session(store)
                started = time.perf_counter()
                for i in range(0, len(groups), BLOCKS_PER_COMMIT):
                    together = [("gateway-1", r) for g in groups[i : i + BLOCKS_PER_COMMIT] for r in g]
                    store.write({session.id: together})
                elapsed_s.append(time.perf_counter() - started)
    ratio = statistics.median(alone / both for alone, both in zip(alone_s, together_s, strict=True))
    return len(blocks) / statistics.median(alone_s), len(blocks) / statistics.median(together_s), ratio


def frames_of(block: SampleBlock) -> FrameBlock:
    """Return the notifications that a block came in: 16 samples and a header of 9 bytes in each."""
    values = block.values.T.tobytes()
    data = tuple(b"headers__" + values[i : i + 32] for i in range(0, len(values), 32))
    arrivals_ns = block.start_ns + np.arange(len(data), dtype=np.int64) * 64_000_000
    return FrameBlock(
        device=block.device,
        connection_id=1,
        first_frame=block.first_index // block.n_samples * len(data),
        sources=("fb005c82-02e7-f387-1cad-8acd2d8df0c8",) * len(data),
        data=data,
        arrival_ns=arrivals_ns,
        arrival_monotonic_ns=arrivals_ns - OPENED_NS,
    )


def gap_after(block: SampleBlock) -> Gap:
    end_index = block.first_index + block.n_samples
    start_ns = OPENED_NS + end_index * 4_000_000
    reason = GapReason.LOST_ON_LINK
    return Gap(block.device, block.stream, 1, end_index - 1, start_ns, start_ns + 10**9, 250, reason)


def write_bare(path: Path, bodies: Sequence[bytes]) -> float:
    """Return the seconds it takes to insert the bodies into a table, durably."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE block (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    started = time.perf_counter()
    for i in range(0, len(bodies), BLOCKS_PER_COMMIT):
        database.execute("BEGIN")
        rows = [(body,) for body in bodies[i : i + BLOCKS_PER_COMMIT]]
        database.executemany("INSERT INTO block (body) VALUES (?)", rows)
        database.execute("COMMIT")
    elapsed_s = time.perf_counter() - started
    database.close()
    return elapsed_s


def open_session(store: SqliteSessionStore) -> Session:
    devices = [SessionDevice("test", "gateway-1", "strap")]
    return store.open_session(subject="S-001", devices=devices, opened_ns=OPENED_NS)


def write(store: SqliteSessionStore, session: Session, blocks: Sequence[SampleBlock]) -> None:
    for i in range(0, len(blocks), BLOCKS_PER_COMMIT):
        store.write({session.id: [("gateway-1", block) for block in blocks[i : i + BLOCKS_PER_COMMIT]]})


def read_ms(folder: Path, hour: np.ndarray) -> tuple[float, float, float]:
    """Return the ms to read the hour, the same as one blob, and ten seconds of it."""
    folder.mkdir()
    database = sqlite3.connect(folder / "bare", isolation_level=None)
    database.execute("CREATE TABLE hour (body BLOB NOT NULL)")
    database.execute("INSERT INTO hour VALUES (?)", (hour.tobytes(),))
    bare_s, store_s, ten_s = [], [], []
    with SqliteSessionStore(folder) as store:
        session = open_session(store)
        write(store, session, blocks_of(hour, n_samples=250))
        store.close_session(session.id, closed_ns=OPENED_NS + 3600 * 10**9)
        for _ in range(2 * REPEATS + 1):
            started = time.perf_counter()
            (body,) = database.execute("SELECT body FROM hour").fetchone()
            bare = np.frombuffer(body, dtype=np.int16).reshape(hour.shape)
            read = time.perf_counter()
            values = store.read(session.id, "gateway-1", "strap", "ecg").values()
            done = time.perf_counter()
            middle_ns = OPENED_NS + 1800 * 10**9
            store.read(session.id, "gateway-1", "strap", "ecg", start_ns=middle_ns, end_ns=middle_ns + 10**10)
            ten_s.append(time.perf_counter() - done)
            bare_s.append(read - started)
            store_s.append(done - read)
            assert np.array_equal(values, bare)
    database.close()
    hour_ms, blob_ms, ten_s_ms = (1e3 * statistics.median(times_s) for times_s in (store_s, bare_s, ten_s))
    return hour_ms, blob_ms, ten_s_ms


if __name__ == "__main__":
    sys.exit(main())
