"""The spool against bare SQLite: the same bodies, the same durability, commits equally far apart.

Prints one JSON object. `ratio` is spool over bare SQLite (limit: at least 0.3); `paced` is what the spool costs
at 625 blocks/s, 20 gateways' worth: CPU share of one core and time from put to commit.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from gateway.spool import COMMIT_S, Spool
from protocols.samples import Channel, Stream

N_BLOCKS = 200_000
PACED_PER_S = 625
PACED_S = 8.0
BODY = bytes(range(200))
STREAM = Stream("ecg", (Channel("ecg", "uV"),), "int16", 250.0)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bare_per_s = bare_sqlite(Path(folder) / "bare.sqlite")
        spool_per_s = saturated(Path(folder) / "saturated.sqlite")
        paced_figures = paced(Path(folder) / "paced.sqlite")
    ratio = spool_per_s / bare_per_s
    figures = {
        "bare_sqlite_per_s": round(bare_per_s),
        "spool_per_s": round(spool_per_s),
        "ratio": round(ratio, 3),
        "limit": 0.3,
        "ok": ratio >= 0.3,
        "paced": paced_figures,
    }
    print(json.dumps(figures))


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


def paced(path: Path) -> dict[str, float]:
    """Cost and latency at an ordinary rate, with the recorder a second behind."""
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
    quantiles = statistics.quantiles(waits_ms, n=100)
    return {
        "cpu_percent": round(100 * cpu_s / PACED_S, 2),
        "commit_p50_ms": round(quantiles[49], 1),
        "commit_p99_ms": round(quantiles[98], 1),
    }


if __name__ == "__main__":
    main()
