"""Stores that outlive a process: killed writers, readers elsewhere."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lab_api.store.session_store import Session, SessionStore
from tests.contracts.session_store.recordings import indices_of, make_block, open_session, read, write

ROOT = Path(__file__).parents[3]


@pytest.fixture
def start_writer(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[Session, int], subprocess.Popen[str]]:
    kind = request.node.callspec.params["make_store"]

    def start(session: Session, first_index: int) -> subprocess.Popen[str]:
        arguments = [kind, str(tmp_path / "sessions"), session.id, str(first_index)]
        command = [sys.executable, "-m", "tests.contracts.session_store.writer", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    return start


def test_a_killed_writer_loses_nothing_it_was_told_is_stored(
    make_store: Callable[[], SessionStore], start_writer: Callable[[Session, int], subprocess.Popen[str]]
) -> None:
    store = make_store()
    session = open_session(store)
    store.close()
    delays = random.Random(20261123)
    acknowledged = 0
    for _ in range(5):
        with start_writer(session, acknowledged) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            time.sleep(delays.uniform(0.0, 0.2))
            process.kill()
            lines += process.stdout.readlines()
        acknowledged = int([line for line in lines if line.endswith("\n")][-1])
        reading = read(make_store(), session)
        assert [s.first_index for s in reading.segments] == [0]
        assert reading.n_samples >= acknowledged
        assert reading.n_samples % 200 == 0
        assert np.array_equal(reading.values(), make_block(0, reading.n_samples).values)

    survivor = make_store()
    again = write(survivor, session, make_block(0, acknowledged + 400))
    assert (again.new <= 400, again.conflicts) == (True, ())
    assert indices_of(read(survivor, session)) == [(7, i) for i in range(acknowledged + 400)]


def test_a_session_is_read_while_another_process_writes_it(
    make_store: Callable[[], SessionStore], start_writer: Callable[[Session, int], subprocess.Popen[str]]
) -> None:
    store = make_store()
    session = open_session(store)
    store.close()
    reader = make_store()
    with start_writer(session, 0) as process:
        assert process.stdout is not None
        for line in process.stdout:
            acknowledged = int(line)
            reading = read(reader, session)
            assert len(reading.segments) == 1
            assert reading.n_samples >= acknowledged
            if acknowledged >= 6000:
                break
        process.kill()
