"""The first thing a stranger does: `lab demo --once`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAB = [sys.executable, "-m", "lab_api.cli"]


@pytest.mark.timeout(180)
def test_the_demo_ends_with_two_verdicts_and_every_figure_leads_back_to_its_sessions(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*LAB, "demo", "--once", "--json", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    oximetry, ecg = json.loads(ended.stdout)
    assert [oximetry["verdict"]["outcome"], ecg["verdict"]["outcome"]] == ["PASS", "PASS"]
    assert oximetry["facts"]["subjects"] == 12
    assert len({source["id"] for source in oximetry["sources"]}) == 12
    # the device is 2 s late; a busy machine adds up to a second and a half of lab time, which runs fast here
    assert all(1.0 < source["figures"]["lag_s"] < 3.5 for source in oximetry["sources"])
    files = {path.stem for path in (tmp_path / "sessions").glob("*.session")}
    assert files == {source["id"] for source in oximetry["sources"] + ecg["sources"]}
    assert ecg["sources"][0]["figures"]["missing_samples"] == 0
    criteria = {criterion["id"]: criterion for criterion in oximetry["verdict"]["criteria"]}
    assert 0.5 < criteria["arms"]["value"] < 2.5


def test_a_broker_that_is_not_there_is_named(tmp_path: Path) -> None:
    command = [*LAB, "demo", "--once", "--broker", "mqtt://127.0.0.1:1", "--data", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert "lab: broker mqtt://127.0.0.1:1 not reached" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_at_once_and_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals
) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    demo = subprocess.Popen(
        [*LAB, "demo", "--data", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("broker"):
            break
    time.sleep(1.0)
    demo.send_signal(number)
    _, said = demo.communicate(timeout=20)
    assert demo.returncode == 130
    assert "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        _wait_until_gone(demo.pid)


def _wait_until_gone(group: int) -> None:
    """Raise ProcessLookupError as soon as no process of the group is left."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        os.killpg(group, 0)
        time.sleep(0.1)
