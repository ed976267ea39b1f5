"""A cohort of sessions evaluated with two processes against one, in the same run; memory of a day of ECG.

Sessions hold half an hour of one lead at 250 Hz with reference beats. The processes are running and have loaded
the software before the time is taken: starting them costs a second and a half, whatever the cohort's size.

    python benchmarks/cohort.py
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import numpy as np
from report import Report

from lab_api.evaluation import clinical_protocol
from lab_api.evidence.sources import from_folder, workers
from lab_api.store.session_store import AnnotationSet, SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.samples import Channel, SampleBlock, Stream

SESSIONS = 48
SECONDS = 1800
RATE_HZ = 250.0
START_NS = 1_790_000_000_000_000_000
ROUNDS = 3
SPEEDUP_LIMIT = 1.6
DAY_RATE_HZ = 500.0
DAY_LEADS = 8
DAY_S = 24 * 3600
MEMORY_LIMIT = 8.0
EC57 = clinical_protocol("ansi-aami-ec57")
BEATS = replace(EC57, criteria=tuple(c for c in EC57.criteria if c.metric.startswith("qrs_")))
"""Beats without classes and rhythms: these take several times as long, and would hide what the store costs."""


def main() -> int:
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = record(folder, SESSIONS, SECONDS, RATE_HZ, n_leads=1)
        if (os.cpu_count() or 1) < 2:
            report.skip("cohort: two processes against one", "one core")
        else:
            alone_s, together_s = times_s(folder, ids)
            report.figure(
                f"cohort: {SESSIONS} sessions of 30 min on 2 cores",
                SESSIONS / together_s,
                "sessions/s",
                ratio=alone_s / together_s,
                of="the rate on one",
                at_least=SPEEDUP_LIMIT,
            )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (day,) = record(folder, 1, DAY_S, DAY_RATE_HZ, n_leads=DAY_LEADS)
        lead_bytes = int(DAY_S * DAY_RATE_HZ) * 2
        peak_bytes = memory_of(folder, day)
        report.figure(
            f"cohort: memory for a day of {DAY_LEADS} leads at 500 Hz",
            peak_bytes / 2**20,
            "MiB",
            ratio=peak_bytes / lead_bytes,
            of=f"one lead's {lead_bytes / 2**20:.0f} MiB",
            at_most=MEMORY_LIMIT,
        )
    return report.exit_code


def record(folder: Path, n_sessions: int, seconds: int, rate_hz: float, *, n_leads: int) -> list[str]:
    """Record sessions of spikes in noise, one a second, minute by minute; return their ids."""
    rng = np.random.default_rng(1)
    stream = Stream("ecg", tuple(Channel(f"lead_{n}", "uV") for n in range(n_leads)), "int16", rate_hz)
    step = int(60 * rate_hz)
    minute = rng.normal(0, 20, (n_leads, step)).astype(np.int16)
    spikes = np.arange(int(rate_hz) // 2, step, int(rate_hz))
    minute[:, spikes] += 1000
    beats = (np.arange(seconds) + 0.5) * rate_hz
    ids = []
    with SqliteSessionStore(folder) as store:
        for number in range(n_sessions):
            device = SessionDevice("test", "gw", "holter")
            session = store.open_session(subject=f"S-{number}", devices=[device], opened_ns=START_NS + number)
            for first in range(0, int(seconds * rate_hz), step):
                start_ns = START_NS + number + round(first / rate_hz * 1e9)
                block = SampleBlock("holter", stream, 1, first, start_ns, minute, start_ns, 0, 0)
                store.write({session.id: [("gw", block)]})
            symbols = ("N",) * beats.size
            samples = beats.astype(np.int64)
            store.annotate(session.id, AnnotationSet("atr", "gw", "holter", "ecg", rate_hz, samples, symbols))
            store.close_session(session.id, closed_ns=START_NS + number + seconds * 1_000_000_000)
            ids.append(session.id)
    return ids


def times_s(folder: Path, ids: list[str]) -> tuple[float, float]:
    """Return the shortest times of one process and of two, in turns."""
    with workers(jobs=2) as two:
        assert two is not None
        from_folder(folder, ids[:8], BEATS, workers=two)
        from_folder(folder, ids[:2], BEATS, workers=None)
        rounds = [(time_s(folder, ids, None), time_s(folder, ids, two)) for _ in range(ROUNDS)]
    return min(alone for alone, _ in rounds), min(together for _, together in rounds)


def time_s(folder: Path, ids: list[str], pool: Executor | None) -> float:
    start_s = time.perf_counter()
    from_folder(folder, ids, BEATS, workers=pool)
    return time.perf_counter() - start_s


def memory_of(folder: Path, session_id: str) -> int:
    """Return by how much evaluating a session raises the memory of a process that has loaded the software."""
    printed = subprocess.run(
        [sys.executable, __file__, "--memory", str(folder), session_id],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(printed.stdout)


def print_memory(folder: Path, session_id: str) -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    from_folder(folder, [session_id], BEATS, workers=None)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) * 1024)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        print_memory(Path(sys.argv[2]), sys.argv[3])
        sys.exit()
    sys.exit(main())
