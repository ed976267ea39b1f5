from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import serial

from protocols.devices.kind import Samples
from protocols.devices.registry import KINDS, device_kind

RUN = (
    "import argparse, sys; from firmware_sim.cli import add_commands\n"
    "from protocols.errors import LivingLabError\n"
    "parser = argparse.ArgumentParser(); add_commands(parser.add_subparsers(required=True))\n"
    "options = parser.parse_args()\n"
    "try: sys.exit(options.run(options))\n"
    "except LivingLabError as error: sys.exit(f'lab: {error}')"
)


def sim(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, "sim", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def running(*arguments: str, n_devices: int = 1) -> Iterator[tuple[subprocess.Popen[str], list[Any]]]:
    command = [sys.executable, "-c", RUN, "sim", "run", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, [json.loads(process.stdout.readline()) for _ in range(n_devices)]
    finally:
        process.kill()
        process.communicate()


def read_samples(kind_name: str, options: dict[str, Any], path: str, n_blocks: int) -> list[Samples]:
    decoder = device_kind(kind_name, options).new_decoder()
    samples: list[Samples] = []
    end_s = time.monotonic() + 20
    with serial.Serial(path, timeout=0.2) as port:
        while len(samples) < n_blocks and time.monotonic() < end_s:
            decoded = decoder.feed("serial", port.read(max(1, port.in_waiting)))
            assert decoded.errors == ()
            samples.extend(decoded.samples)
    return samples


def test_every_kind_is_listed() -> None:
    rows = json.loads(sim("list", "--json").stdout)
    assert [row["kind"] for row in rows] == list(KINDS)
    text = sim("list").stdout
    assert all(name in text for name in KINDS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_device_runs_as_a_process_until_it_is_told_to_stop(number: int) -> None:
    with running("nonin-7", "--link", "pty", "--speed", "50", "--json") as (process, (device,)):
        samples = read_samples(device["kind"], device["options"], device["port"], 20)
        spo2 = [part.values[0, 0] for part in samples if part.stream == "oximetry"]
        assert spo2[-1] == pytest.approx(98, abs=4)
        process.send_signal(number)
        assert process.wait(10) == 0


@pytest.mark.shared_data
def test_a_record_is_replayed_with_the_options_that_a_gateway_needs(shared: Path) -> None:
    record = shared / "data/ecg/mitdb/100"
    arguments = ("fablab", "--replay", str(record), "--link", "pty", "--speed", "100", "--json")
    with running(*arguments) as (process, (device,)):
        (first, *_) = read_samples(device["kind"], device["options"], device["port"], 1)
        assert first.values[:, 0].tolist() == [995, 1011]
        process.terminate()
        assert process.wait(10) == 0


def test_a_scenario_serves_all_its_devices(tmp_path: Path) -> None:
    file = tmp_path / "ward.toml"
    file.write_text(
        """
        speed = 20
        [[subject]]
        name = "S01"
        desaturation = { n_plateaus = 4 }
        [[device]]
        kind = "nonin-7"
        name = "reference"
        subject = "S01"
        oximeter = "reference"
        [[device]]
        kind = "pulse-oximeter"
        name = "candidate"
        subject = "S01"
        oximeter = { bias_percent = 2.0, random_percent = 1.0 }
        [[device]]
        kind = "polar-h10"
        subject = "S01"
        """
    )
    with running("--scenario", str(file), "--json", n_devices=3) as (process, devices):
        assert [device["name"] for device in devices] == ["reference", "candidate", "polar-h10-0"]
        assert devices[0]["port"].startswith("rfc2217://127.0.0.1:")
        assert devices[1]["adapter"] == devices[2]["adapter"]
        assert {device["speed"] for device in devices} == {20.0}
        host, port = devices[1]["adapter"].removeprefix("tcp-client:").split(":")
        socket.create_connection((host, int(port)), timeout=5).close()
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "either a device kind or --scenario"),
        (("toaster",), "device kind 'toaster', expected one of"),
        (("nonin-7", "--link", "ble"), "link='ble' of nonin-7, expected one of ['pty', 'rfc2217']"),
        (("polar-h10", "--link", "pty"), "link='pty' of polar-h10"),
        (("nonin-7", "--speed", "0"), "speed=0.0"),
        (("nonin-7", "--seed", "-1"), "seed=-1"),
        (("nonin-7", "--origin", "noon"), "--origin noon"),
        (("fablab", "--replay", "/nowhere/100"), "/nowhere/100.hea: no such file"),
        (("nonin-7", "--replay", "/nowhere/100"), "replay as nonin-7, expected one of"),
        (("--scenario", "/nowhere.toml"), "/nowhere.toml"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(arguments: tuple[str, ...], named: str) -> None:
    done = sim("run", *arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.startswith("lab: ")
    assert done.stderr.count("\n") == 1
    assert named in done.stderr


@pytest.mark.parametrize("kind", ["nonin-7", "polar-h10"])
def test_a_taken_port_is_named(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = sim("run", kind, "--port" if kind == "nonin-7" else "--hci-port", port)
    assert done.returncode == 1
    assert port in done.stderr
    assert "Traceback" not in done.stderr
