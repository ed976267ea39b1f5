"""What is in the spool survives, in order, until it is acknowledged."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway import spool as spool_module
from gateway import spool_file, spool_reserve
from gateway.spool import Position, Spool
from protocols.errors import StoreError
from protocols.frames import FrameBlock
from protocols.gaps import Gap, GapReason
from protocols.samples import Channel, SampleBlock, Stream
from tests.gateway.conftest import put_record, read_records, wait_for

ECG = Stream("ecg", (Channel("ecg", "uV"),), "int16", 250.0)
PLETH = Stream("pleth", (Channel("pleth", "1"),), "uint16", 75.0)


def body_of(seq: int, number: int) -> bytes:
    return b"%d/%d " % (seq, number) + b"x" * 100


def ecg_block(k: int) -> SampleBlock:
    start_ns = 1_767_225_600_000_000_000 + k * 200_000_000
    return SampleBlock("dut", ECG, 1, 50 * k, start_ns, np.full((1, 50), k, "int16"), start_ns, 5, 1000)


@pytest.fixture
def open_spool(tmp_path: Path) -> Iterator[Callable[..., Spool]]:
    opened: list[Spool] = []

    def open_it(name: str = "spool.sqlite", **options: Any) -> Spool:
        opened.append(Spool(tmp_path / name, **{"commit_s": 0.01, **options}))
        return opened[-1]

    yield open_it
    for spool in opened:
        if spool._thread.is_alive():
            spool.close()


def test_blocks_come_out_in_order_with_their_sequence_and_stream_number(
    open_spool: Callable[..., Spool],
) -> None:
    spool = open_spool()
    seqs = [spool.put("dut", stream, body_of) for stream in (ECG, PLETH, ECG)]
    wait_for(lambda: spool.committed == 3)
    assert seqs == [1, 2, 3]
    blocks = spool.read(0, 10)
    assert [(b.seq, b.device, b.stream_number) for b in blocks] == [(1, "dut", 1), (2, "dut", 2), (3, "dut", 1)]
    assert [b.body for b in blocks] == [body_of(1, 1), body_of(2, 2), body_of(3, 1)]
    assert [b.seq for b in spool.read(1, 1)] == [2]


def test_only_committed_blocks_are_read_and_a_commit_is_announced(open_spool: Callable[..., Spool]) -> None:
    announced = threading.Event()
    spool = open_spool(commit_s=0.3, on_commit=announced.set)
    spool.put("dut", ECG, body_of)
    assert announced.wait(5)
    announced.clear()
    spool.put("dut", ECG, body_of)
    assert [b.seq for b in spool.read(0, 10)] == [1]
    assert announced.wait(5)
    assert [b.seq for b in spool.read(0, 10)] == [1, 2]


def test_a_commit_waits_for_the_disk(open_spool: Callable[..., Spool]) -> None:
    spool = open_spool()
    assert spool._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert spool._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_block_is_on_disk_within_the_commit_time(open_spool: Callable[..., Spool]) -> None:
    spool = open_spool(commit_s=0.1)
    waits = []
    for _ in range(8):
        seq = spool.put("dut", ECG, body_of) or 0
        put_s = time.monotonic()
        wait_for(lambda: spool.committed >= seq)  # noqa: B023 - called at once
        waits.append(time.monotonic() - put_s)
    assert min(waits) < 0.15  # the others may have met a busy machine


def test_everything_survives_a_restart(open_spool: Callable[..., Spool]) -> None:
    spool = open_spool()
    incarnation = spool.incarnation
    for _ in range(5):
        spool.put("dut", ECG, body_of)
    spool.put("other", ECG, body_of)
    spool.keep("boot_id", 77)
    wait_for(lambda: spool.committed == 6)
    assert spool.acknowledge(2)
    spool.close()
    again = open_spool()
    assert (again.incarnation, again.acknowledged, again.committed, again.newest) == (incarnation, 2, 6, 6)
    assert [b.seq for b in again.read(0, 10)] == [3, 4, 5, 6]
    assert again.streams("dut") == {1: ECG}
    assert again.stream_number("other", ECG) == 2
    assert again.stream_number("other", PLETH) == 3
    assert again.fact("boot_id", 0) == 77
    assert again.waiting_devices() == {"dut", "other"}


def test_a_sequence_number_is_never_given_again_after_trimming(open_spool: Callable[..., Spool]) -> None:
    spool = open_spool()
    for _ in range(3):
        spool.put("dut", ECG, body_of)
    wait_for(lambda: spool.committed == 3)
    spool.acknowledge(3)
    spool.close()
    again = open_spool()
    assert again.read(0, 10) == []
    assert again.put("dut", ECG, body_of) == 4


@pytest.mark.parametrize("seq", [0, 2, 6, -1])
def test_a_watermark_outside_what_is_stored_and_waiting_changes_nothing(
    open_spool: Callable[..., Spool], seq: int
) -> None:
    spool = open_spool()
    for _ in range(5):
        spool.put("dut", ECG, body_of)
    wait_for(lambda: spool.committed == 5)
    assert spool.acknowledge(2)
    assert not spool.acknowledge(seq)
    assert spool.acknowledged == 2


def test_backlog_tells_count_size_and_age(open_spool: Callable[..., Spool]) -> None:
    spool = open_spool()
    assert (spool.backlog().blocks, spool.backlog().bytes, spool.backlog().oldest_age_s) == (0, 0, 0)
    for _ in range(4):
        spool.put("dut", ECG, body_of)
    wait_for(lambda: spool.committed == 4)
    time.sleep(0.05)
    assert spool.backlog().blocks == 4
    assert spool.backlog().bytes == 4 * len(body_of(1, 1))
    assert 0.05 <= spool.backlog().oldest_age_s < 5
    spool.acknowledge(3)
    wait_for(lambda: spool.backlog().bytes == len(body_of(1, 1)))
    assert spool.backlog().blocks == 1
    assert spool.waiting_devices() == {"dut"}
    spool.acknowledge(4)
    assert spool.waiting_devices() == set()


def test_a_full_spool_refuses_the_newest_and_counts_it(open_spool: Callable[..., Spool]) -> None:
    spool = open_spool(max_bytes=350)
    seqs = [spool.put("dut", ECG, body_of) for _ in range(5)]
    assert seqs == [1, 2, 3, None, None]
    assert spool.refused_blocks == 2
    wait_for(lambda: spool.committed == 3)
    spool.acknowledge(1)
    wait_for(lambda: spool.backlog().bytes < 250)
    assert spool.put("dut", ECG, body_of) == 4


def test_a_disk_that_takes_nothing_keeps_blocks_waiting_until_it_does(
    open_spool: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_RETRY_S", 0.02)
    spool = open_spool()
    spool.put("dut", ECG, body_of)
    wait_for(lambda: spool.committed == 1)
    pages = spool._writer.execute("PRAGMA page_count").fetchone()[0]
    spool._writer.execute(f"PRAGMA max_page_count = {pages}")
    spool.put("dut", ECG, lambda seq, number: b"y" * 50_000)
    wait_for(lambda: "full" in spool.fault)
    assert spool.committed == 1
    spool._writer.execute("PRAGMA max_page_count = 1000000")
    wait_for(lambda: spool.committed == 2)
    assert spool.fault == ""
    assert [len(b.body) for b in spool.read(1, 10)] == [50_000]


def test_while_the_disk_takes_nothing_memory_is_bounded(
    open_spool: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MAX_WAITING_BYTES", 250)
    spool = open_spool()
    with spool._changed:  # the writer cannot take anything meanwhile
        seqs = [spool.put("dut", ECG, body_of) for _ in range(3)]
    assert seqs == [1, 2, None]
    assert spool.refused_blocks == 1


def test_gap_records_are_taken_however_full_the_spool_is(open_spool: Callable[..., Spool]) -> None:
    spool = open_spool(max_bytes=250)
    seqs = [spool.put("dut", ECG, body_of, position=Position(1, k, 0)) for k in range(4)]
    assert seqs == [1, 2, None, None]
    assert spool.position("dut", ECG) == Position(1, 1, 0)
    reason = GapReason.SPOOL_FULL
    assert spool.put("dut", ECG, body_of, position=Position(1, 1, 0, reason), always=True) == 3
    wait_for(lambda: spool.committed == 3)
    spool.close()
    again = open_spool(max_bytes=250)
    assert again.position("dut", ECG) == Position(1, 1, 0, reason)
    assert again.put("dut", ECG, body_of) is None


def test_a_full_disk_takes_the_watermark_and_then_blocks_again(
    open_spool: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_RETRY_S", 0.02)
    spool = open_spool()
    for _ in range(20):
        spool.put("dut", ECG, lambda seq, number: b"y" * 20_000)
    wait_for(lambda: spool.committed == 20)
    assert spool._reserve.held
    pages = spool._writer.execute("PRAGMA page_count").fetchone()[0]
    spool._writer.execute(f"PRAGMA max_page_count = {pages}")
    for _ in range(5):
        spool.put("dut", ECG, lambda seq, number: b"y" * 20_000)
    with monkeypatch.context() as nothing_free:
        nothing_free.setattr(spool_reserve.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        wait_for(lambda: "full" in spool.fault)
        wait_for(lambda: not spool._reserve.held)
        time.sleep(0.1)
        assert spool.committed == 20
        spool.acknowledge(10)
        wait_for(lambda: spool.committed == 25)
    assert spool.fault == ""
    assert [b.seq for b in spool.read(10, 100)] == list(range(11, 26))
    spool.put("dut", ECG, body_of)
    wait_for(lambda: spool._reserve.held)


def test_blocks_too_old_give_way_to_gaps_of_exactly_their_samples(open_spool: Callable[..., Spool]) -> None:
    spool = open_spool()
    start_ns = 1_767_225_600_000_000_000
    for k in [0, 1, 2, 5, 6]:
        put_record(spool, ecg_block(k))
    kept = Gap("dut", ECG, 1, 149, start_ns, start_ns + 5, 100, GapReason.LOST_ON_LINK)
    put_record(spool, kept)
    put_record(spool, FrameBlock("dut", 4, 0, ("s",), (b"raw",), np.array([5]), np.array([5])))
    spool.close()
    time.sleep(0.3)
    spool = open_spool(max_age_s=0.3)
    wait_for(lambda: spool.acknowledged >= 7)
    wait_for(lambda: len(read_records(spool)) == 3)
    gaps = set(read_records(spool))
    full = GapReason.SPOOL_FULL
    assert kept in gaps
    assert Gap("dut", ECG, 1, -1, start_ns, start_ns + 600_000_000, 150, full) in gaps
    assert Gap("dut", ECG, 1, 249, start_ns + 10**9, start_ns + 1_400_000_000, 100, full) in gaps
    time.sleep(0.5)  # and these stay, however old
    wait_for(lambda: set(read_records(spool)) == gaps)
    assert spool.expired_blocks == 6
    put_record(spool, ecg_block(7))
    wait_for(lambda: ecg_block(7) in read_records(spool))


def test_a_step_of_the_clock_makes_no_block_too_old(
    open_spool: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(max_age_s=5)
    put_record(spool, ecg_block(0))
    wait_for(lambda: spool.committed == 1)
    now_ns = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns + 10**15)
    put_record(spool, ecg_block(1))
    time.sleep(0.3)
    assert spool.expired_blocks == 0
    monkeypatch.setattr(time, "time_ns", lambda: now_ns - 10**15)
    spool.close()
    again = open_spool(max_age_s=5)
    time.sleep(0.3)
    assert (again.expired_blocks, again.backlog().oldest_age_s < 5) == (0, True)


def test_a_copy_on_another_machine_is_another_spool(
    open_spool: Callable[..., Spool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = tmp_path / "machine-id"
    name.write_text("one")
    monkeypatch.setattr(spool_file, "_MACHINE_ID", name)
    spool = open_spool()
    spool.put("dut", ECG, body_of)
    before = spool.incarnation
    spool.close()
    again = open_spool()
    assert again.incarnation == before
    again.close()
    name.write_text("two")
    copy = open_spool()
    assert copy.incarnation != before
    assert (copy.damage, [b.seq for b in copy.read(0, 10)]) == ("", [1])


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (x)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"other.sqlite is no spool, expected a spool of version 2 or no file"):
        Spool(path)
    assert path.read_bytes() == before


def test_two_gateways_cannot_share_a_spool(open_spool: Callable[..., Spool], tmp_path: Path) -> None:
    open_spool()
    with pytest.raises(StoreError, match="in use by another gateway"):
        Spool(tmp_path / "spool.sqlite")


def test_a_closed_spool_takes_no_block(open_spool: Callable[..., Spool]) -> None:
    spool = open_spool()
    spool.close()
    with pytest.raises(StoreError, match="closed"):
        spool.put("dut", ECG, body_of)


def test_closing_commits_what_waits(open_spool: Callable[..., Spool]) -> None:
    spool = open_spool(commit_s=5)
    for _ in range(50):
        spool.put("dut", ECG, body_of)
    spool.close()
    assert open_spool().committed == 50


WRITER = """
import os, sys
from pathlib import Path
from gateway.spool import Spool
from protocols.samples import Channel, Stream
stream = Stream("ecg", (Channel("ecg", "uV"),), "int16", 250.0)
out = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
spool = Spool(Path(sys.argv[1]), commit_s=0.005)
spool._on_commit = lambda: os.write(out, b"%d %d\\n" % (spool.committed, spool.acknowledged))
while True:
    seq = spool.put("dut", stream, lambda seq, number: b"%d/%d " % (seq, number) + b"x" * 100)
    if seq % 40 == 0:
        spool.acknowledge(seq - 60)
    while spool.newest - spool.committed > 200:
        pass
"""


def test_nothing_committed_is_lost_when_the_gateway_is_killed(tmp_path: Path) -> None:
    random.seed(7)
    path, log = tmp_path / "spool.sqlite", tmp_path / "committed"
    committed = acknowledged = 0
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(log)])
        length = log.stat().st_size if log.exists() else 0
        wait_for(lambda: log.exists() and log.stat().st_size > length)  # noqa: B023 - called at once
        time.sleep(random.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        committed, acknowledged = map(int, log.read_bytes().splitlines()[-1].split())
        spool = Spool(path)
        blocks = spool.read(0, 1_000_000)
        assert spool.committed >= committed
        assert spool.acknowledged <= committed
        assert [b.seq for b in blocks] == list(range(spool.acknowledged + 1, spool.committed + 1))
        assert all(b.body == body_of(b.seq, 1) for b in blocks)
        spool.close()
    assert acknowledged > 0


@pytest.mark.parametrize("damage", ["cut", "garbage", "zeros"])
def test_a_torn_tail_costs_no_earlier_commit(tmp_path: Path, damage: str) -> None:
    random.seed(11)
    live = tmp_path / "live"
    live.mkdir()
    for attempt in range(6):
        spool = Spool(live / f"{attempt}.sqlite", commit_s=0.001)
        wal = live / f"{attempt}.sqlite-wal"
        ends = []
        for _ in range(4):
            for _ in range(20):
                seq = spool.put("dut", ECG, body_of)
            wait_for(lambda: spool.committed == seq)  # noqa: B023 - called at once
            ends.append((spool.committed, wal.stat().st_size))
        torn = tmp_path / f"torn{attempt}.sqlite"
        shutil.copy(live / f"{attempt}.sqlite", torn)
        data = bytearray(wal.read_bytes())
        spool.close()
        at = random.randrange(ends[-2][1] + 1, len(data))
        tail = {"cut": b"", "garbage": random.randbytes(len(data) - at), "zeros": bytes(len(data) - at)}[damage]
        Path(f"{torn}-wal").write_bytes(data[:at] + tail)
        again = Spool(torn)
        assert again.committed >= ends[-2][0]
        assert [b.seq for b in again.read(0, 1000)] == list(range(1, again.committed + 1))
        assert all(b.body == body_of(b.seq, 1) for b in again.read(0, 1000))
        again.close()


_TRY_LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as index:
    try:
        fcntl.lockf(index, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)
    except OSError:
        print("held")
"""


def test_whoever_looks_at_the_spool_cannot_take_its_index_away(
    open_spool: Callable[..., Spool], tmp_path: Path
) -> None:
    """SQLite's lock on its index says that it is in use: else the next one to open the file truncates it."""
    first = open_spool()
    first.put("dut", ECG, body_of)
    wait_for(lambda: first.committed == 1)
    for suffix in ("", "-wal"):  # what a killed gateway leaves
        shutil.copy(f"{first.path}{suffix}", tmp_path / f"killed.sqlite{suffix}")
    spool = open_spool("killed.sqlite")
    assert spool.committed == 1
    command = [sys.executable, "-c", _TRY_LOCK, str(tmp_path / "killed.sqlite-shm")]
    tried = subprocess.run(command, capture_output=True, text=True, check=True)
    assert tried.stdout == "held\n"
