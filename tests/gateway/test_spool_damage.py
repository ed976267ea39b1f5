"""A damaged spool costs what was destroyed and nothing else, and the rest says so."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gateway import spool as spool_module
from gateway import spool_salvage
from gateway.spool import Position, Spool, SpooledBlock
from protocols.errors import StoreError
from protocols.gaps import Gap, GapReason
from protocols.records import Record
from protocols.samples import Channel, SampleBlock, Stream
from protocols.sparkplug.blocks import encode_record
from tests.gateway.conftest import put_record, read_records, wait_for

ECG = Stream("ecg", (Channel("ecg", "uV"),), "int16", 250.0)
PLETH = Stream("pleth", (Channel("pleth", "1"),), "uint16", 75.0)
N_SAMPLES = {ECG: 50, PLETH: 15}
START_NS = 1_767_225_600_000_000_000
PAGE = 4096


def block_of(stream: Stream, k: int) -> SampleBlock:
    n = N_SAMPLES[stream]
    values = np.random.default_rng(k).integers(0, 1000, (1, n)).astype(stream.dtype)
    start_ns = START_NS + round(k * n * 1e9 / (stream.rate_hz or 1))
    return SampleBlock("dut", stream, 9, k * n, start_ns, values, start_ns, 5, 1000)


def fill(spool: Spool, n: int, first: int = 0) -> None:
    """Put blocks of two streams in turns, each with its position, and have them committed in several groups."""
    for k in range(first, first + n):
        stream = (ECG, PLETH)[k % 2]
        block = block_of(stream, k // 2)
        last_index = block.first_index + block.n_samples - 1
        due_ns = START_NS + round((last_index + 1) * 1e9 / (stream.rate_hz or 1))
        put_record(spool, block, position=Position(9, last_index, due_ns))
        if k % 25 == 24:
            newest = spool.newest
            wait_for(lambda: spool.committed >= newest)  # noqa: B023 - called at once
    wait_for(lambda: spool.committed == spool.newest)


def image(spool: Spool, target: Path) -> None:
    """Copy the files of a spool in use, as a power cut would leave them."""
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(f"{spool.path}{suffix}", f"{target}{suffix}")


def records(spool: Spool) -> list[Record]:
    wait_for(lambda: spool.committed == spool.newest)
    return read_records(spool)


def check_account(spool: Spool, n: int, acknowledged: int = 0) -> int:
    """Check that every sample put is there, bit for bit, or in one gap of the right place; return how many."""
    missing = 0
    found = records(spool)
    for stream in (ECG, PLETH):
        own = [record for record in found if record.stream == stream]
        indices: set[int] = set()
        for record in own:
            if isinstance(record, SampleBlock):
                assert record == block_of(stream, record.first_index // N_SAMPLES[stream])
                assert indices.isdisjoint(
                    held := range(record.first_index, record.first_index + record.n_samples)
                )
            else:
                assert isinstance(record, Gap)
                assert record.reason is GapReason.SPOOL_DAMAGED
                if record.n_samples is None:
                    assert record.after_index == -1
                    indices.update(range(first_found(own)))
                    continue
                held = range(record.after_index + 1, record.after_index + 1 + record.n_samples)
                assert indices.isdisjoint(held)
                assert record.start_ns == START_NS + round(held.start * 1e9 / (stream.rate_hz or 1))
                missing += record.n_samples
            indices.update(held)
        put_blocks = [k // 2 for k in range(acknowledged, n) if (ECG, PLETH)[k % 2] == stream]
        expected = {k * N_SAMPLES[stream] + i for k in put_blocks for i in range(N_SAMPLES[stream])}
        assert expected <= indices
    return missing


def first_found(own: list[Record]) -> int:
    return min((r.first_index for r in own if isinstance(r, SampleBlock)), default=1 << 30)


@pytest.fixture
def full_spool(tmp_path: Path) -> Iterator[Spool]:
    (tmp_path / "live").mkdir()
    spool = Spool(tmp_path / "live" / "spool.sqlite", commit_s=0.001)
    fill(spool, 200)
    yield spool
    spool.close()


def checkpointed(spool: Spool, target: Path) -> None:
    """Copy a spool of which everything is in the main file."""
    spool._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(spool.path, target)


def test_positions_and_blocks_survive_a_restart_together(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    spool = Spool(path, commit_s=0.001)
    fill(spool, 10)
    spool.acknowledge(10)
    wait_for(lambda: spool.backlog().bytes == 0)
    spool.close()
    again = Spool(path)
    assert again.position("dut", ECG) == Position(9, 249, START_NS + 10**9)
    assert again.position("dut", PLETH) == Position(9, 74, START_NS + 10**9)
    assert again.position("other", ECG) is None
    assert (again.damage, again.read(0, 10)) == ("", [])
    again.close()


@pytest.mark.parametrize("kind", ["zeros", "garbage", "bits"])
def test_damaged_pages_cost_their_blocks_which_are_declared(
    full_spool: Spool, tmp_path: Path, kind: str
) -> None:
    rng = random.Random(3)
    declared = 0
    for attempt in range(12):
        path = tmp_path / f"{attempt}.sqlite"
        checkpointed(full_spool, path)
        data = bytearray(path.read_bytes())
        for _ in range(rng.choice([1, 1, 2, 5])):
            at = rng.randrange(1, len(data) // PAGE) * PAGE
            if kind == "bits":
                for _ in range(8):
                    data[at + rng.randrange(PAGE)] ^= 1 << rng.randrange(8)
            else:
                data[at : at + PAGE] = bytes(PAGE) if kind == "zeros" else rng.randbytes(PAGE)
        path.write_bytes(data)
        spool = Spool(path, commit_s=0.001)
        spool.read(0, 1000)
        if spool._suspicion or spool.damage:
            wait_for(lambda: bool(spool.damage) and not spool._suspicion)  # noqa: B023 - called at once
            assert spool.incarnation != full_spool.incarnation
        if spool.streams("dut").keys() == {1, 2}:
            declared += check_account(spool, 200)
        spool.close()
        names = [p.name for p in tmp_path.glob(f"{attempt}.sqlite.damaged-*Z")]
        assert bool(names) == bool(spool.damage)
        assert all(name in spool.damage for name in names)
    assert declared > 0


def test_without_header_and_schema_everything_is_carried_over(full_spool: Spool, tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    checkpointed(full_spool, path)
    data = bytearray(path.read_bytes())
    data[:PAGE] = random.Random(1).randbytes(PAGE)
    path.write_bytes(data)
    spool = Spool(path)
    assert "200 blocks carried over, 0 lost" in spool.damage
    assert check_account(spool, 200) == 0
    assert len(records(spool)) == 200
    assert spool.position("dut", ECG) == full_spool.position("dut", ECG)
    assert spool.incarnation != full_spool.incarnation
    spool.close()
    aside = next(tmp_path.glob("spool.sqlite.damaged-*Z"))
    assert aside.read_bytes() == data
    again = Spool(path)
    assert again.damage == ""
    again.close()


def test_a_log_damaged_in_its_middle_gives_up_the_commits_behind_the_damage(
    full_spool: Spool, tmp_path: Path
) -> None:
    rng = random.Random(5)
    for attempt in range(8):
        path = tmp_path / f"{attempt}.sqlite"
        image(full_spool, path)
        log = Path(f"{path}-wal")
        data = bytearray(log.read_bytes())
        at = rng.randrange(len(data) // 2)
        data[at : at + 600] = rng.choice([b"\xff" * 600, rng.randbytes(600)])
        log.write_bytes(data)
        spool = Spool(path, commit_s=0.001)
        assert "put aside" in spool.damage
        check_account(spool, 200)
        assert len(records(spool)) > 150
        spool.close()
        assert list(tmp_path.glob(f"{attempt}.sqlite.damaged-*Z-wal"))


@pytest.mark.parametrize("left", [b"", None])
def test_a_lost_main_file_leaves_what_is_in_the_log(
    full_spool: Spool, tmp_path: Path, left: bytes | None
) -> None:
    path = tmp_path / "spool.sqlite"
    image(full_spool, path)
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    spool = Spool(path, commit_s=0.001)
    assert "put aside" in spool.damage
    assert check_account(spool, 200) == 0
    spool.close()


def test_what_the_recorder_had_does_not_come_back(full_spool: Spool, tmp_path: Path) -> None:
    full_spool.acknowledge(120)
    wait_for(lambda: full_spool._trimmed == 120)
    path = tmp_path / "spool.sqlite"
    checkpointed(full_spool, path)
    data = bytearray(path.read_bytes())
    data[:100] = bytes(100)
    path.write_bytes(data)
    spool = Spool(path, commit_s=0.001)
    assert "80 blocks carried over, 0 lost" in spool.damage
    assert check_account(spool, 200, acknowledged=120) == 0
    spool.close()


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to look at " * 500, bytes(9000)])
def test_a_file_that_is_no_database_is_put_aside_and_stops_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spool.sqlite"
    path.write_bytes(content)
    spool = Spool(path, commit_s=0.001)
    fill(spool, 4)
    assert check_account(spool, 4) == 0
    assert "0 blocks carried over" in spool.damage
    assert "put aside" in spool.damage
    spool.close()
    assert next(tmp_path.glob("spool.sqlite.damaged-*")).read_bytes() == content


def test_a_body_that_rots_while_the_gateway_runs_is_declared_and_the_rest_goes_on(full_spool: Spool) -> None:
    spool = full_spool
    before = spool.incarnation
    other = sqlite3.connect(spool.path)
    other.execute("UPDATE block SET body = x'00ff' WHERE seq = 51")
    other.commit()
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # no older version of it is left
    other.close()
    assert [block.seq for block in spool.read(0, 1000, incarnation=before)] == list(range(1, 51))
    wait_for(lambda: bool(spool.damage))
    wait_for(lambda: spool.incarnation != before)
    assert spool.read(0, 1000, incarnation=before) == []
    assert not spool.acknowledge(10, incarnation=before)
    fill(spool, 20, first=200)
    assert check_account(spool, 220) == N_SAMPLES[ECG]
    assert spool.read(0, 1000)[-1].seq == spool.newest == 220
    assert spool.position("dut", ECG) == Position(9, 5499, START_NS + 22 * 10**9)


def test_blocks_put_while_the_file_is_replaced_are_kept_under_new_numbers(
    full_spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = full_spool
    salvage = spool_salvage.salvage

    def slow(*args: object) -> str:
        for k in range(200, 210):
            put_record(spool, block_of((ECG, PLETH)[k % 2], k // 2))
        return salvage(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(spool_module, "salvage", slow)
    spool._suspect("a test says so")
    wait_for(lambda: bool(spool.damage) and not spool._suspicion and spool.committed == spool.newest)
    assert check_account(spool, 210) == 0
    assert [block.seq for block in spool.read(0, 1000)] == list(range(1, 211))


def test_a_salvage_that_was_cut_short_is_finished_or_done_again(full_spool: Spool, tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    checkpointed(full_spool, path)
    shutil.copy(path, f"{path}.salvage")
    path.rename(tmp_path / "moved-aside")  # the damaged file is away, the new one not yet in
    spool = Spool(path, commit_s=0.001)
    assert check_account(spool, 200) == 0
    spool.close()
    Path(f"{path}.salvage").write_bytes(b"half a file")
    spool = Spool(path, commit_s=0.001)
    assert spool.damage == ""
    assert check_account(spool, 200) == 0
    spool.close()
    assert not Path(f"{path}.salvage").exists()


def test_a_spool_of_version_1_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    database = sqlite3.connect(path)
    database.executescript(
        "PRAGMA journal_mode = WAL;"
        "CREATE TABLE block (seq INTEGER PRIMARY KEY, device TEXT NOT NULL, stream INTEGER NOT NULL,"
        " put_ns INTEGER NOT NULL, body BLOB NOT NULL);"
        "CREATE TABLE stream (number INTEGER PRIMARY KEY, device TEXT NOT NULL, description TEXT NOT NULL);"
        "CREATE TABLE fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
        "INSERT INTO fact VALUES ('incarnation', 42), ('acknowledged', 3), ('boot_id', 7);"
        "PRAGMA application_id = 1280070480; PRAGMA user_version = 1;"
    )
    database.execute("INSERT INTO stream VALUES (1, 'dut', ?)", (ECG.to_json(),))
    for seq in (4, 5):
        body = encode_record(block_of(ECG, seq), spool_seq=seq, stream_number=1)
        database.execute("INSERT INTO block VALUES (?, 'dut', 1, 0, ?)", (seq, body))
    database.commit()
    database.close()
    spool = Spool(path, commit_s=0.001)
    assert (spool.damage, spool.incarnation, spool.acknowledged, spool.newest) == ("", 42, 3, 5)
    assert spool.fact("boot_id", 0) == 7
    assert records(spool) == [block_of(ECG, 4), block_of(ECG, 5)]
    spool.close()


def test_a_later_version_is_refused_in_a_sentence_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    Spool(path).close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 3")
    before = path.read_bytes()
    with pytest.raises(
        StoreError, match=r"is a spool of version 3, expected one of version 2 or before: let the"
    ):
        Spool(path)
    assert path.read_bytes() == before


def test_facts_never_go_backwards(full_spool: Spool, tmp_path: Path) -> None:
    full_spool.keep("boot_id", 10**12)
    full_spool.keep("bd_seq", 17)
    fill(full_spool, 2, first=200)
    path = tmp_path / "spool.sqlite"
    checkpointed(full_spool, path)
    data = bytearray(path.read_bytes())
    data[:16] = bytes(16)
    path.write_bytes(data)
    spool = Spool(path)
    assert (spool.fact("boot_id", 0), spool.fact("bd_seq", -1)) == (10**12, 17)
    assert spool.stream_number("dut", PLETH) == full_spool.stream_number("dut", PLETH)
    spool.close()


def test_a_watermark_that_rots_does_not_take_blocks_with_it(full_spool: Spool, tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    checkpointed(full_spool, path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE fact SET value = 150 WHERE name = 'acknowledged'")
    spool = Spool(path, commit_s=0.001)
    assert "200 blocks carried over" in spool.damage
    assert check_account(spool, 200) == 0
    spool.close()


def test_a_checksum_covers_place_and_owner() -> None:
    block = SpooledBlock(1, "dut", 1, 0, b"body")
    others = [
        SpooledBlock(2, "dut", 1, 0, b"body"),
        SpooledBlock(1, "dux", 1, 0, b"body"),
        SpooledBlock(1, "dut", 2, 0, b"body"),
        SpooledBlock(1, "dut", 1, 0, b"bodz"),
    ]
    assert block.crc not in {other.crc for other in others}
