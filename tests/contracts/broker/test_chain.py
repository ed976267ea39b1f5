"""From enrolment to a recorded session over TLS with client certificates, every part a process of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

LAB = [sys.executable, "-m", "lab_api.cli"]


@contextlib.contextmanager
def running(*arguments: str, folder: Path, stderr: Any = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """A `lab` command, which must end cleanly when told to."""
    process = subprocess.Popen([*LAB, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)
        assert process.returncode == 0, f"{arguments}: {said}"
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def lab(*arguments: str, folder: Path) -> str:
    done = subprocess.run([*LAB, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return result


@pytest.mark.mosquitto
def test_an_enrolled_gateway_is_recorded_over_tls_until_it_is_revoked(
    tmp_path: Path, mosquitto_from: Callable[[Path], Any]
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"mqtts://localhost:{probe.getsockname()[1]}"
    lab("enrol", "lab/gateway-1", "--data", "data", "--broker", url, folder=tmp_path)
    with contextlib.ExitStack() as stack:
        sim = stack.enter_context(
            running("sim", "run", "nonin-7", "--link", "rfc2217", "--json", folder=tmp_path)
        )
        assert sim.stdout is not None
        port = json.loads(sim.stdout.readline())["port"]
        (tmp_path / "gateway.toml").write_text(
            '[gateway]\nenrolment = "gateway-1.enrolment"\ndata = "spool"\n'
            f'[[device]]\nname = "finger"\nkind = "nonin-7"\nport = "{port}"\n'
        )
        serve = stack.enter_context(running("serve", "--port", "0", "--data", "data", folder=tmp_path))
        assert serve.stdout is not None
        api = stack.enter_context(httpx.Client(base_url=serve.stdout.readline().split()[-1], timeout=10))
        said = tmp_path / "gateway.log"
        stderr = stack.enter_context(said.open("w"))
        stack.enter_context(
            running("gateway", "run", "--config", "gateway.toml", folder=tmp_path, stderr=stderr)
        )
        with mosquitto_from(tmp_path / "data/broker") as log:
            record_two_seconds(api)
            assert "u'lab/gateway-1'" in log.read_text()
            assert "u'lab'" in log.read_text()
            revoked = lab("enrol", "lab/gateway-1", "--revoke", "--data", "data", folder=tmp_path)
            assert "the running broker knows" in revoked
        with mosquitto_from(tmp_path / "data/broker") as log:
            until(lambda: "refused the connection" in said.read_text(), "the gateway told why")
            before = log.read_text().count("New connection")
            time.sleep(3)
            assert log.read_text().count("New connection") - before <= 6
    told = [line for line in said.read_text().splitlines() if "refused the connection" in line]
    assert len(told) == 1


def record_two_seconds(api: httpx.Client) -> None:
    until(lambda: api.get("health").json()["recorder"]["gateways"], "gateway known to the recorder")
    device = {"role": "test", "gateway": "gateway-1", "device": "finger"}
    session = api.post("sessions", json={"subject": "S-1", "devices": [device]}).json()["id"]

    def n_samples() -> int:
        streams = api.get(f"sessions/{session}").json()["streams"]
        return max((stream["n_samples"] for stream in streams), default=0)

    until(lambda: n_samples() >= 150, "2 s of signal")
    api.post(f"sessions/{session}/close")
