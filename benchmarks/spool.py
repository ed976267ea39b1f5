"""The spool against bare SQLite: the same bodies, the same durability, commits equally far apart.

Beside throughput, what it costs at 625 blocks/s, 20 gateways' worth, with the recorder a second behind: CPU
share of one core, and how long a block waits to be committed, against the longest pause between commits.

    python benchmarks/spool.py
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from report import Report

from gateway.spool import COMMIT_S, Spool
from protocols.samples import Channel, Stream

THROUGHPUT_LIMIT = 0.3
CPU_LIMIT_PERCENT = 10.0
WAIT_LIMIT = 2.0
N_BLOCKS = 200_000
PACED_PER_S = 625
PACED_S = 8.0
BODY = bytes(range(200))
STREAM = Stream("ecg", (Channel("ecg", "uV"),), "int16", 250.0)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        bare_per_s = bare_sqlite(Path(folder) / "bare.sqlite")
        spool_per_s = saturated(Path(folder) / "saturated.sqlite")
        cpu_percent, waits_ms = paced(Path(folder) / "paced.sqlite")
    report = Report()
    report.figure(
        "spool: put to committed",
        spool_per_s,
        "blocks/s",
        ratio=spool_per_s / bare_per_s,
        of=f"{bare_per_s:.0f} of bare SQLite",
        at_least=THROUGHPUT_LIMIT,
    )
    report.figure(
        f"spool: at {PACED_PER_S} blocks/s",
        cpu_percent,
        "% of a core",
        ratio=cpu_percent / CPU_LIMIT_PERCENT,
        of=f"{CPU_LIMIT_PERCENT:g} % of a core",
        at_most=1.0,
    )
    p99_ms = statistics.quantiles(waits_ms, n=100)[98]
    report.figure(
        "spool: wait for the commit, p99",
        p99_ms,
        "ms",
        ratio=p99_ms / (1e3 * COMMIT_S),
        of=f"{1e3 * COMMIT_S:g} ms between commits",
        at_most=WAIT_LIMIT,
    )
    return report.exit_code


def body(_seq: int, _stream_number: int) -> bytes:
    return BODY


def bare_sqlite(path: Path) -> float:
    """Rows per second of one table, committed every `COMMIT_S` with synchronous=FULL."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE block (seq INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    started = committed = time.perf_counter()
    database.execute("BEGIN")
    for seq in range(N_BLOCKS):
        database.execute("INSERT INTO block VALUES (?, ?)", (seq, BODY))
        if time.perf_counter() - committed > COMMIT_S:
            database.execute("COMMIT")
            committed = time.perf_counter()
            database.execute("BEGIN")
    database.execute("COMMIT")
    elapsed_s = time.perf_counter() - started
    database.close()
    return N_BLOCKS / elapsed_s


def saturated(path: Path) -> float:
    """Blocks per second from put to committed, as fast as they can be put."""
    spool = Spool(path)
    started = time.perf_counter()
    for _ in range(N_BLOCKS):
        while spool.put("device", STREAM, body) is None:
            time.sleep(0.001)
    while spool.committed < N_BLOCKS:
        time.sleep(0.001)
    elapsed_s = time.perf_counter() - started
    spool.close()
    return N_BLOCKS / elapsed_s


def paced(path: Path) -> tuple[float, list[float]]:
    """Return the CPU share in percent, and every block's time from put to commit in ms."""
    commits: list[tuple[float, int]] = []
    spool = Spool(path, on_commit=lambda: commits.append((time.perf_counter(), spool.committed)))
    puts: list[float] = []
    started, cpu_started_s = time.perf_counter(), time.process_time()
    while (elapsed_s := time.perf_counter() - started) < PACED_S:
        while len(puts) < elapsed_s * PACED_PER_S:
            puts.append(time.perf_counter())
            spool.put("device", STREAM, body)
        spool.acknowledge(len(puts) - PACED_PER_S)
        time.sleep(0.01)
    cpu_s = time.process_time() - cpu_started_s
    spool.close()
    waits_ms, done = [], 0
    for at_s, committed in commits:
        waits_ms += [1e3 * (at_s - put_s) for put_s in puts[done:committed]]
        done = max(done, committed)
    return 100 * cpu_s / PACED_S, waits_ms


if __name__ == "__main__":
    sys.exit(main())
