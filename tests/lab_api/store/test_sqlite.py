"""What the embedded store promises beyond the contract: its files."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lab_api.store.session_file import SCHEMA_VERSION
from lab_api.store.session_store import Session, SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.errors import StoreError
from protocols.gaps import Gap, GapReason
from protocols.samples import Channel, SampleBlock, Stream

OPENED_NS = 1_790_000_000_000_000_000
STREAM = Stream("ecg", (Channel("lead_i", "uV"),), "int16", 250.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def store(folder: Path) -> Iterator[SqliteSessionStore]:
    with SqliteSessionStore(folder) as store:
        yield store


def open_session(store: SqliteSessionStore, opened_ns: int = OPENED_NS) -> Session:
    return store.open_session(
        subject="S-001", devices=[SessionDevice("test", "gw", "strap")], opened_ns=opened_ns
    )


def write(store: SqliteSessionStore, session: Session, n_samples: int = 500) -> None:
    values = (np.arange(n_samples, dtype=np.int16) % 50)[np.newaxis]
    block = SampleBlock("strap", STREAM, 1, 0, OPENED_NS, values, OPENED_NS, 0, 0)
    store.write({session.id: [("gw", block)]})


def file_of(folder: Path, session: Session) -> Path:
    return folder / f"{session.id}.session"


def test_a_closed_session_is_one_file_that_can_be_moved(
    store: SqliteSessionStore, folder: Path, tmp_path: Path
) -> None:
    session = open_session(store)
    write(store, session)
    store.close_session(session.id, closed_ns=OPENED_NS + 10**10)
    content_hash = store.content_hash(session.id)
    assert sorted(p.name for p in folder.iterdir()) == [".writer", f"{session.id}.session"]

    (tmp_path / "elsewhere").mkdir()
    shutil.move(file_of(folder, session), tmp_path / "elsewhere")

    with SqliteSessionStore(tmp_path / "elsewhere") as elsewhere:
        assert elsewhere.content_hash(session.id) == content_hash
    assert store.sessions() == []


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database, by any means" * 100)


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def foreign_database(path: Path) -> None:
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE session (x)")
    db.commit()
    db.close()


def newer_schema(path: Path) -> None:
    alter(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def broken_metadata(path: Path) -> None:
    alter(path, "UPDATE session SET devices = '[{}]'")


def no_metadata(path: Path) -> None:
    alter(path, "DELETE FROM session")


def alter(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()


@pytest.mark.parametrize(
    "damage", [garbage, nothing, foreign_database, newer_schema, broken_metadata, no_metadata]
)
def test_a_damaged_file_is_named_and_disturbs_no_other_session(
    store: SqliteSessionStore, folder: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = open_session(store), open_session(store, OPENED_NS + 1)
    damage(file_of(folder, bad))  # type: ignore[operator]

    with pytest.raises(StoreError, match=str(file_of(folder, bad))):
        store.session(bad.id)
    with pytest.raises(StoreError, match=str(file_of(folder, bad))):
        store.read(bad.id, "gw", "strap", "ecg")
    with caplog.at_level(logging.WARNING):
        assert [s.id for s in store.sessions()] == [good.id]
        store.sessions()
    assert [bad.id in record.getMessage() for record in caplog.records] == [True]
    write(store, good)
    assert store.read(good.id, "gw", "strap", "ecg").n_samples == 500


def make_version_1(path: Path) -> None:
    """Turn a session's file into what version 1 would have made of it."""
    for statement in ("DROP TABLE gap", "DROP TABLE frames", "PRAGMA user_version = 1"):
        alter(path, statement)


def test_a_session_of_version_1_is_read_as_it_is_and_keeps_its_hash(
    store: SqliteSessionStore, folder: Path
) -> None:
    session = open_session(store)
    write(store, session)
    store.close_session(session.id, closed_ns=OPENED_NS + 2 * 10**9)
    expected = store.content_hash(session.id)
    make_version_1(file_of(folder, session))
    before = file_of(folder, session).read_bytes()

    assert store.sessions()[0].id == session.id
    assert store.read(session.id, "gw", "strap", "ecg").n_samples == 500
    assert store.content_hash(session.id) == expected
    assert store.gaps(session.id) == list(store.frames(session.id, "gw", "strap")) == []
    assert file_of(folder, session).read_bytes() == before


def test_a_session_of_version_1_can_be_written_on(store: SqliteSessionStore, folder: Path) -> None:
    session = open_session(store)
    write(store, session)
    store.close()
    make_version_1(file_of(folder, session))
    gap = Gap("strap", STREAM, 1, 499, OPENED_NS, OPENED_NS + 1, 5, GapReason.SPOOL_FULL)
    for _ in range(2):
        write(store, session, 600)
        store.write({session.id: [("gw", gap)]})
        store.close()

    assert store.read(session.id, "gw", "strap", "ecg").n_samples == 600
    assert store.gaps(session.id) == []  # what it declares is there
    store.write({session.id: [("gw", replace(gap, after_index=700))]})
    assert [g.gap.after_index for g in store.gaps(session.id)] == [700]


def test_the_hash_of_a_session_without_gaps_and_frames_never_changes(
    store: SqliteSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda n: "ab" * n)
    session = open_session(store)
    write(store, session)
    store.close_session(session.id, closed_ns=OPENED_NS + 2 * 10**9)

    assert store.content_hash(session.id) == "45ca3ef7557a5d4180bae55d9d56fb55ebf7fe4e024fa501bf7d4d7fb85c40e2"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE chunk SET samples = zeroblob(7)",
        "UPDATE chunk SET codec = 9",
        "UPDATE chunk SET codec = 0",
        "UPDATE chunk SET n_samples = 3",
        "UPDATE chunk SET times = zeroblob(9)",
        "UPDATE stream SET description = '{}'",
        "DROP TABLE chunk",
    ],
)
def test_a_damaged_chunk_is_reported_instead_of_samples(
    store: SqliteSessionStore, folder: Path, statement: str
) -> None:
    session = open_session(store)
    write(store, session)
    store.close_session(session.id, closed_ns=OPENED_NS + 10**10)
    alter(file_of(folder, session), statement)

    with pytest.raises(StoreError, match=session.id):
        store.read(session.id, "gw", "strap", "ecg")
    with pytest.raises(StoreError, match=session.id):
        store.content_hash(session.id)


def test_a_torn_file_is_reported(store: SqliteSessionStore, folder: Path) -> None:
    session = open_session(store)
    for _ in range(3):
        write(store, session, 20_000)
    store.close_session(session.id, closed_ns=OPENED_NS + 10**12)
    path = file_of(folder, session)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(StoreError, match=session.id):
        store.read(session.id, "gw", "strap", "ecg")


def test_a_second_writer_of_a_folder_is_refused_and_may_read(store: SqliteSessionStore, folder: Path) -> None:
    session = open_session(store)
    write(store, session)

    with SqliteSessionStore(folder) as second:
        with pytest.raises(StoreError, match="another process"):
            open_session(second)
        with pytest.raises(StoreError, match="another process"):
            write(second, session)
        assert second.read(session.id, "gw", "strap", "ecg").n_samples == 500
        store.close()
        write(second, session, 600)
    assert store.read(session.id, "gw", "strap", "ecg").n_samples == 600


def test_what_was_left_half_made_is_removed(folder: Path) -> None:
    folder.mkdir()
    for name in ("00.unfinished", "00.unfinished-wal"):
        (folder / name).write_bytes(b"half")

    with SqliteSessionStore(folder) as store:
        session = open_session(store)
        assert [s.id for s in store.sessions()] == [session.id]

    assert not list(folder.glob("*unfinished*"))


def test_other_files_in_the_folder_are_left_alone(store: SqliteSessionStore, folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    (folder / "x.session").write_text("mine")

    assert store.sessions() == []
    assert (folder / "notes.txt").read_text() == "mine"


def test_more_sessions_than_open_files_may_be_written_at_once(
    store: SqliteSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab_api.store.sqlite._MAX_WRITERS", 2)
    sessions = [open_session(store, OPENED_NS) for _ in range(5)]
    for _ in range(2):
        for session in sessions:
            write(store, session, 2)

    assert all(store.read(s.id, "gw", "strap", "ecg").n_samples == 2 for s in sessions)


def test_a_folder_that_is_taken_away_does_not_look_empty(
    store: SqliteSessionStore, folder: Path, tmp_path: Path
) -> None:
    session = open_session(store)
    write(store, session)
    store.close_session(session.id, closed_ns=OPENED_NS + 10**10)
    folder.rename(tmp_path / "unplugged")

    for _ in range(2):
        with pytest.raises(StoreError, match="not there any more"):
            store.sessions()
        with pytest.raises(StoreError, match="not there any more"):
            store.session(session.id)
        with pytest.raises(StoreError, match="not there any more"):
            write(store, session, 600)
        assert not store.is_writable()
        folder.mkdir(exist_ok=True)

    folder.rmdir()
    (tmp_path / "unplugged").rename(folder)
    write(store, session, 600)
    assert store.is_writable()
    assert store.sessions()[0].id == session.id


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="Not a directory"):
        SqliteSessionStore(tmp_path / "file" / "sessions")


def test_a_write_that_fails_leaves_the_session_as_it_was(
    store: SqliteSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(store)
    write(store, session, 100)

    def full(_: object) -> tuple[int, bytes]:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("lab_api.store.chunk_codec.pack", full)
        with pytest.raises(StoreError, match="disk is full"):
            write(store, session, 200)

    assert store.read(session.id, "gw", "strap", "ecg").n_samples == 100
    write(store, session, 200)
    assert store.read(session.id, "gw", "strap", "ecg").n_samples == 200


def test_ecg_takes_less_space_than_its_samples(store: SqliteSessionStore, folder: Path) -> None:
    session = open_session(store)
    times_s = np.arange(250 * 1200) / 250
    noise = np.random.default_rng(1).normal(0, 4, times_s.size)
    signal = (400 * np.sin(7 * times_s) ** 31 + 50 * np.sin(times_s) + noise).astype(np.int16)[np.newaxis]
    blocks = [
        ("gw", SampleBlock("strap", STREAM, 1, i, OPENED_NS + i * 4_000_000, signal[:, i : i + 250], 0, 0, 0))
        for i in range(0, signal.size, 250)
    ]
    store.write({session.id: blocks})
    store.close_session(session.id, closed_ns=OPENED_NS + 10**12)

    assert file_of(folder, session).stat().st_size < signal.nbytes
