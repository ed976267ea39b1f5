"""`lab serve` as its users meet it: started, asked, stopped."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from lab_api import cli
from lab_api.serve import serving
from protocols.errors import DefinitionError, TransportError
from tests.lab_api.requests import NEW

LAB = "import sys; from lab_api import cli; cli.ROOMS = ('lab_api.serve',); sys.exit(cli.main())"
SERVE = [sys.executable, "-c", LAB, "serve"]


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs `lab serve` in this process, which must fail; returns what it says."""
    monkeypatch.setattr(cli, "ROOMS", ("lab_api.serve",))
    monkeypatch.setenv("LAB_DATA", str(tmp_path))

    def run(*arguments: str) -> str:
        assert cli.main(["serve", "--broker", "mqtt://127.0.0.1:1", *arguments]) != 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("lab: ")
        return line

    return run


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_server_serves_until_it_is_told_to_stop(tmp_path: Path, stop: signal.Signals) -> None:
    arguments = ["--port", "0", "--data", str(tmp_path), "--broker", "mqtt://127.0.0.1:1"]
    with subprocess.Popen([*SERVE, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.fullmatch(r"lab: serving (http://127\.0\.0\.1:\d+/v1)\n", line)
        assert address is not None, line
        opened = httpx.post(f"{address[1]}/sessions", json=NEW, timeout=10)
        health = httpx.get(f"{address[1]}/health", timeout=10).json()
        process.send_signal(stop)
        assert process.wait(10) == 0

    assert opened.status_code == 201
    assert (health["status"], health["recorder"]["broker_connected"]) == ("degraded", False)
    assert len(list((tmp_path / "sessions").glob("*.session"))) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0"], "no access control"),  # noqa: S104
        (["--host", "example.org"], "no access control"),
        (["--broker", "http://x"], "expected mqtt://"),
        (["--speed", "0", "--origin", "2026-01-01T00:00:00Z"], "speed=0.0"),
        (["--speed", "2"], "--origin"),
        (["--speed", "2", "--origin", "yesterday"], "--origin yesterday"),
        (["--origin", "2026-01-01T00:00:00"], "with its time zone"),
        (["--port", "70000"], "port 70000"),
        (["--data", "/dev/null/x"], "Not a directory"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    refused: Callable[..., str], arguments: list[str], sentence: str
) -> None:
    assert sentence in refused("--port", "0", *arguments)


def test_a_port_that_is_taken_is_reported_in_one_sentence(refused: Callable[..., str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused("--port", str(port))

    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in line


def test_an_application_is_served_in_a_running_loop(app: FastAPI) -> None:
    async def ask() -> tuple[int, str]:
        async with serving(app, port=0) as address, httpx.AsyncClient() as client:
            response = await client.get(f"{address}/v1/health")
            return response.status_code, address

    status, address = asyncio.run(ask())

    assert status == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/v1/health")


def test_serving_again_on_the_same_port_works_at_once(app: FastAPI) -> None:
    async def serve(port: int) -> str:
        async with serving(app, port=port) as address, httpx.AsyncClient() as client:
            await client.get(f"{address}/v1/health")
            return address

    address = asyncio.run(serve(0))

    assert asyncio.run(serve(int(address.rpartition(":")[2]))) == address


def test_other_machines_are_not_served(app: FastAPI) -> None:
    async def serve(host: str) -> None:
        async with serving(app, host=host, port=0):
            pass

    with pytest.raises(DefinitionError, match="no access control"):
        asyncio.run(serve("0.0.0.0"))  # noqa: S104


def test_two_applications_cannot_share_a_port(app: FastAPI) -> None:
    async def serve_twice() -> None:
        async with serving(app, port=0) as address, serving(app, port=int(address.rpartition(":")[2])):
            pass

    with pytest.raises(TransportError, match="Address already in use"):
        asyncio.run(serve_twice())
