"""Rows are found in the pages as SQLite finds them, and in whatever is left of them."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sqlite_pages import count_commits_after, log_is_headless, rows, wal_path

VALUES = st.one_of(
    st.none(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.text(max_size=40),
    st.binary(max_size=40),
    st.integers(3000, 30_000).map(lambda n: random.Random(n).randbytes(n)),
)


@settings(max_examples=25, deadline=None)
@given(
    table=st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=60), page_size=st.sampled_from([512, 4096])
)
def test_every_row_that_sqlite_stored_is_found(table: list[tuple[object, object]], page_size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.sqlite"
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute(f"PRAGMA page_size = {page_size}")
            database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)")
            database.executemany("INSERT INTO t (a, b) VALUES (?, ?)", table)
            database.commit()
        found = {row.rowid: row.values[1:] for row in rows(path) if len(row.values) == 3}
        assert found == dict(enumerate(table, 1))


@pytest.mark.parametrize("checkpointed", [0, 1, 2])
def test_rows_of_the_log_are_found_with_the_file_or_without_it(tmp_path: Path, checkpointed: int) -> None:
    path = tmp_path / "some.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)")
        for i in range(30):
            database.execute("INSERT INTO t (body) VALUES (?)", (bytes([i]) * 9000,))
            if checkpointed == 1 and i == 15:
                database.execute("PRAGMA wal_checkpoint")
        bodies = {row.values[1] for row in rows(path) if len(row.values) == 2}
        assert {bytes([i]) * 9000 for i in range(30)} <= bodies
        assert not log_is_headless(path)
        if checkpointed == 0:
            assert count_commits_after(path, 0) == 31
            data = wal_path(path).read_bytes()
            alone = tmp_path / "alone.sqlite"
            wal_path(alone).write_bytes(data)
            assert {row.values[1] for row in rows(alone) if len(row.values) == 2} >= bodies
            wal_path(alone).write_bytes(bytes(32) + data[32:])
            assert log_is_headless(alone)
            assert {row.values[1] for row in rows(alone) if len(row.values) == 2} >= bodies


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 32), n_bytes=st.integers(0, 20_000), kind=st.sampled_from([0x0A, 0x0D]))
def test_arbitrary_bytes_are_read_without_complaint(seed: int, n_bytes: int, kind: int) -> None:
    rng = random.Random(seed)
    data = bytearray(rng.randbytes(n_bytes))
    for at in range(0, n_bytes, 512):
        data[at] = kind
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.sqlite"
        path.write_bytes(data)
        wal_path(path).write_bytes(bytes(reversed(data)))
        list(rows(path))
        count_commits_after(path, rng.randrange(5))
        log_is_headless(path)
