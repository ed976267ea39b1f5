"""`lab gateway run` as its user meets it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

CONFIG = """
[gateway]
group = "lab"
name = "gateway-1"
broker = "mqtt://127.0.0.1:1"
data = "spool"

[[device]]
name = "reference"
kind = "nonin-7"
port = "{port}"
"""


RUN = """
import argparse, sys
from gateway.cli import add_commands
parser = argparse.ArgumentParser()
add_commands(parser.add_subparsers())
options = parser.parse_args()
sys.exit(options.run(options))
"""


def command(tmp_path: Path, config: str, *options: str) -> list[str]:
    path = tmp_path / "gateway.toml"
    path.write_text(config)
    return [sys.executable, "-c", RUN, "gateway", "run", "--config", str(path), *options]


@pytest.fixture
def port() -> Iterator[tuple[int, str]]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_with_a_summary(
    tmp_path: Path, port: tuple[int, str], number: signal.Signals
) -> None:
    master, path = port
    run = command(tmp_path, CONFIG.format(port=path), "--json")
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "reference -> mqtt://127.0.0.1:1" in process.stderr.readline()
            time.sleep(0.5)  # opening a port throws away what had come before
            os.write(master, b"\x00" * 300)
            time.sleep(0.5)
            process.send_signal(number)
            output, errors = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    summary: dict[str, Any] = json.loads(output)
    assert summary["broker_connected"] is False
    (device,) = summary["devices"]
    assert (device["name"], device["state"], device["bytes"]) == ("reference", "stopped", 300)
    assert errors.count("cannot be reached") == 1
    assert "Traceback" not in errors


def test_it_says_where_its_health_is_once_it_is_served(tmp_path: Path, port: tuple[int, str]) -> None:
    config = CONFIG.format(port=port[1]).replace("[gateway]", "[gateway]\nhealth_port = 0")
    run = command(tmp_path, config)
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if line.startswith("health at "))
            assert httpx.get(line.split()[2], timeout=5).json()["gateway"] == "gateway-1"
        finally:
            process.kill()


def test_a_mistake_in_the_configuration_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    run = command(tmp_path, CONFIG.replace('kind = "nonin-7"', 'kind = "nonin-77"'))
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "gateway.toml: [[device]] 'reference': kind='nonin-77'" in line


def test_a_device_with_the_gateways_own_name_is_one_sentence_and_exit_code_2(
    tmp_path: Path, port: tuple[int, str]
) -> None:
    config = CONFIG.format(port=port[1]).replace('"reference"', '"gateway"')
    ended = subprocess.run(command(tmp_path, config), capture_output=True, text=True, check=False, timeout=20)
    assert ended.returncode == 2
    assert "another name" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_spool_that_another_gateway_uses_is_one_sentence_and_exit_code_1(
    tmp_path: Path, port: tuple[int, str]
) -> None:
    run = command(tmp_path, CONFIG.format(port=port[1]))
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        try:
            assert first.stderr is not None
            assert "reference -> mqtt://127.0.0.1:1" in first.stderr.readline()
            ended = subprocess.run(run, capture_output=True, text=True, check=False, timeout=20)
        finally:
            first.kill()
    assert ended.returncode == 1
    assert "in use by another gateway" in ended.stderr
    assert "Traceback" not in ended.stderr
