"""The chain as separate processes on a real Mosquitto: `lab sim run`, `lab gateway run`, `lab serve`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

LAB = [sys.executable, "-m", "lab_api.cli"]

SCENARIO = """
[[subject]]
name = "s"
seed = 3

[[device]]
kind = "nonin-7"
name = "nonin"
link = "rfc2217"
subject = "s"

[[device]]
kind = "polar-h10"
name = "strap"
link = "ble"
subject = "s"
"""


@contextlib.contextmanager
def running(command: list[str], *, name: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process; it must end cleanly when told to."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0, f"{name}: {said}"
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def lines(process: subprocess.Popen[str], n: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(n)]


def until(condition: Callable[[], Any], *, what: str, timeout_s: float = 30.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.1)
    pytest.fail(f"not within {timeout_s} s: {what}")


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[str]:
    binary = shutil.which("mosquitto", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if binary is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no mosquitto binary on the PATH")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen([str(binary), "-c", str(configuration)], stderr=subprocess.DEVNULL)
    try:
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.mosquitto
def test_devices_are_recorded_across_processes_and_all_end_cleanly(mosquitto: str, tmp_path: Path) -> None:
    scenario, config = tmp_path / "scenario.toml", tmp_path / "gateway.toml"
    scenario.write_text(SCENARIO)
    with contextlib.ExitStack() as stack:
        sim = stack.enter_context(
            running([*LAB, "sim", "run", "--scenario", str(scenario), "--json"], name="sim")
        )
        nonin, strap = (json.loads(line) for line in lines(sim, 2))
        config.write_text(
            f"""
            [gateway]
            group = "lab"
            name = "gateway-7"
            broker = "{mosquitto}"
            data = "spool"
            [[device]]
            name = "finger"
            kind = "nonin-7"
            port = "{nonin["port"]}"
            [[device]]
            name = "strap"
            kind = "polar-h10"
            address = "{strap["address"]}"
            adapter = "{strap["adapter"]}"
            """
        )
        serve = stack.enter_context(
            running(
                [*LAB, "serve", "--port", "0", "--broker", mosquitto, "--data", str(tmp_path / "lab")],
                name="serve",
            )
        )
        address = lines(serve, 1)[0].split()[-1]
        stack.enter_context(running([*LAB, "gateway", "run", "--config", str(config)], name="gateway"))
        api = stack.enter_context(httpx.Client(base_url=address, timeout=10))
        until(lambda: api.get("health").json()["recorder"]["gateways"], what="gateway known to the recorder")
        devices = [
            {"role": "test", "gateway": "gateway-7", "device": "strap"},
            {"role": "reference", "gateway": "gateway-7", "device": "finger"},
        ]
        session = api.post("sessions", json={"subject": "S-1", "devices": devices}).json()["id"]

        def streams() -> dict[str, int]:
            found = api.get(f"sessions/{session}").json()["streams"]
            return {stream["name"]: stream["n_samples"] for stream in found}

        until(
            lambda: streams().get("ecg", 0) >= 400 and streams().get("pleth", 0) >= 200,
            what=f"3 s of signal, last seen {streams()}",
        )
        api.post(f"sessions/{session}/close")
        path = f"sessions/{session}/streams/gateway-7/strap/ecg/samples"
        binary = api.get(path, headers={"Accept": "application/x-npz"})
        as_json = api.get(path).json()
        assert binary.status_code == 200, binary.text
        values = np.concatenate([np.array(segment["values"]) for segment in as_json["segments"]], axis=1)
        np.testing.assert_array_equal(np.load(BytesIO(binary.content))["values"], values)
        assert np.ptp(values) > 200
