"""The chain as separate processes, with means to hurt it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from paho.mqtt import publish

from lab_api.store.sqlite import SqliteSessionStore
from protocols.errors import LivingLabError
from protocols.samples import SampleBlock
from protocols.sparkplug.blocks import encode_record
from protocols.sparkplug.edge_node import DeviceBirth, EdgeNodeSession, encode_state
from protocols.sparkplug.host import HostApplication
from protocols.sparkplug.payload import encode_payload
from protocols.sparkplug.topics import Message, MessageType, NodeId, state_topic
from tests.system.faults import stepped_clock
from tests.system.faults.processes import HOST, Process, Wire, free_port, until
from tests.system.faults.witness import SpoolWitness

LAB = [sys.executable, "-m", "lab_api.cli"]
GATEWAY = "gateway-1"
REPLAYED = ("100", "103", "119", "121")
"""Records of the MIT-BIH database that four of the devices send: their values are known by their index."""

_KINDS = {"fablab": 5, "nonin-7": 4, "polar-h10": 3, "pulse-oximeter": 2, "heart-rate-strap": 2}


def scenario(records: Path) -> str:
    """Return a scenario of twenty devices."""
    tables = ['[[subject]]\nname = "s"\nseed = 3']
    tables += [
        f'[[device]]\nkind = "fablab"\nname = "record-{name}"\nreplay = "{records / name}"' for name in REPLAYED
    ]
    for kind, count in _KINDS.items():
        tables += [
            f'[[device]]\nkind = "{kind}"\nname = "{kind}-{i}"\nsubject = "s"\nseed = {i}' for i in range(count)
        ]
    return "\n".join(tables)


class Chain:
    """Devices, gateway, broker and recorder, each a process; both MQTT clients reach the broker by a `Wire`.

    Parameters
    ----------
    folder
        Where everything is kept; empty.
    records
        Folder of the MIT-BIH database.
    broker
        `mosquitto` or `amqtt`.
    """

    def __init__(self, folder: Path, records: Path, *, broker: str = "mosquitto") -> None:
        self.folder = folder
        self.actions: list[str] = []
        broker_port = self._broker_port = free_port()
        self._api_port = free_port()
        self.broker = Process(
            "broker", _broker(broker, broker_port, folder), folder, ready=_listens(broker_port)
        )
        self.gateway_wire, self.serve_wire = Wire(broker_port), Wire(broker_port)
        devices = folder / "scenario.toml"
        devices.write_text(scenario(records))
        command = [*LAB, "sim", "run", "--scenario", str(devices), "--json"]
        self.sim = Process("sim", command, folder, ready=lambda: "serving;" in self.sim.said.read_text())
        self.data = folder / "lab"
        command = [*LAB, "serve", "--port", str(self._api_port), "--data", str(self.data)]
        command += ["--broker", f"mqtt://{HOST}:{self.serve_wire.port}"]
        self.serve = Process("serve", command, folder, ready=_listens(self._api_port))
        config = folder / "gateway.toml"
        spool = folder / "spool" / "spool.sqlite"
        self._clock = folder / "clock"
        self._ahead_ns = 0
        self.was_ahead = False
        stepped_clock.set_ahead(self._clock, 0)
        command = [sys.executable, "-m", stepped_clock.__name__, str(self._clock)]
        command += ["gateway", "run", "--config", str(config), "--json"]
        self.gateway = Process("gateway", command, folder, ready=spool.exists)
        self.api = httpx.Client(base_url=f"http://{HOST}:{self._api_port}/v1/", timeout=20)
        self.witness = SpoolWitness(spool)
        self._devices: list[dict[str, str]] = []

    @property
    def processes(self) -> tuple[Process, ...]:
        return self.broker, self.sim, self.serve, self.gateway

    def start(self) -> str:
        """Start everything; return the id of a session that holds all of it."""
        self.broker.start()
        self.sim.start()
        served = [json.loads(line) for line in self.sim.said.read_text().splitlines() if line.startswith("{")]
        (self.folder / "gateway.toml").write_text(_gateway_toml(self.gateway_wire.port, served))
        self._devices = [
            {"role": f"test-{i}", "gateway": GATEWAY, "device": each["name"]} for i, each in enumerate(served)
        ]
        self.serve.start()
        self.gateway.start()
        until(lambda: "Ctrl-C stops it" in self.gateway.said.read_text(), what="the gateway accounts for all")
        return self.open_session()

    def open_session(self) -> str:
        answer = self.api.post("sessions", json={"subject": "S-1", "devices": self._devices})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def close_session(self, session: str) -> None:
        self.api.post(f"sessions/{session}/close").raise_for_status()

    def recorder(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.api.get("health").raise_for_status().json()["recorder"]
        return answer

    def state(self) -> str:
        """Return what the recorder says of itself and its gateway, if it still answers."""
        try:
            recorder = self.recorder()
        except httpx.HTTPError as error:
            return f"recorder: {error!r}"
        return f"recorder: {recorder}"

    @contextlib.contextmanager
    def witnessed(self) -> Iterator[None]:
        """Have the witness look all the time."""
        done = threading.Event()
        errors: list[BaseException] = []

        def watch() -> None:
            while not done.wait(0.03):
                try:
                    self.witness.look()
                except sqlite3.OperationalError:
                    continue  # not there yet
                except (AssertionError, LivingLabError) as error:
                    errors.append(error)
                    return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            assert not errors, errors

    def hurt(self, chance: random.Random) -> None:
        """Do one harm, and let it heal."""
        kill, other = chance.random() < 0.5, chance.choice
        if kill:
            harm = other([self._kill, self._kill, self._kill, self._kill_all])
        else:
            harm = other([self._pause, self._cut, self._half_open, self._fill_disk, self._step_clock])
        self.actions.append(harm(chance))

    @property
    def kills(self) -> int:
        """How often a process was killed so far."""
        return sum(process.kills for process in self.processes)

    def _kill(self, chance: random.Random) -> str:
        process = chance.choice([self.gateway, self.serve, self.broker])
        process.kill()
        self.witness.look()
        pause_s = chance.choice([0.0, 0.3, 1.0])
        time.sleep(pause_s)
        process.start()
        return f"kill {process.name}, down {pause_s} s"

    def _kill_all(self, chance: random.Random) -> str:
        processes = [self.gateway, self.serve, self.broker]
        for process in chance.sample(processes, 3):
            process.kill()
        for process in (order := chance.sample(processes, 3)):
            process.start(wait=False)
        until(lambda: all(process._ready() for process in processes), what="all are up again")
        return f"kill all three, start {[p.name for p in order]}"

    def _pause(self, chance: random.Random) -> str:
        process, pause_s = chance.choice(self.processes), chance.uniform(0.2, 3.0)
        process.pause(pause_s)
        return f"stop {process.name} for {pause_s:.1f} s"

    def _cut(self, chance: random.Random) -> str:
        whose = chance.choice(["gateway", "serve"])
        self._wire(whose).cut()
        return f"cut the wire of {whose}"

    def _half_open(self, chance: random.Random) -> str:
        whose, pause_s, cut = (
            chance.choice(["gateway", "serve"]),
            chance.uniform(0.5, 4.0),
            chance.random() < 0.5,
        )
        wire = self._wire(whose)
        wire.go_dead()
        time.sleep(pause_s)
        if cut:
            wire.cut()
        wire.revive()
        return f"dead wire of {whose} for {pause_s:.1f} s{', then cut' if cut else ''}"

    def _fill_disk(self, chance: random.Random) -> str:
        process, pause_s = chance.choice([self.gateway, self.serve]), chance.uniform(0.5, 4.0)
        kill = chance.random() < 0.3
        process.fill_disk()
        time.sleep(pause_s)
        if kill:
            process.kill()
            process.start()
        else:
            process.free_disk()
        return f"disk of {process.name} full for {pause_s:.1f} s{', then kill' if kill else ''}"

    def _step_clock(self, chance: random.Random) -> str:
        step_ns = round(chance.choice([-0.8, -0.3, -0.05, 0.05, 0.3, 0.8, 20.0]) * 1e9)
        self._ahead_ns = max(self._ahead_ns + step_ns, -1_000_000_000)  # the session began at least so long ago
        self.was_ahead |= self._ahead_ns > 0
        stepped_clock.set_ahead(self._clock, self._ahead_ns)
        return f"clock of gateway set by {step_ns / 1e9} s"

    def _wire(self, whose: str) -> Wire:
        return self.gateway_wire if whose == "gateway" else self.serve_wire

    def forge(self, chance: random.Random) -> None:
        """Publish what nobody may say: random bytes and contradictions on every topic of gateway and host."""
        node = NodeId("lab", GATEWAY)
        seq, incarnation = max(self.witness.records), self.witness.incarnation
        host = HostApplication("lab")
        data = chance.choice([r for r in self.witness.records.values() if isinstance(r, SampleBlock)])
        nonsense = encode_record(data, spool_seq=seq + 1, stream_number=1)
        births = EdgeNodeSession(node, host_id="lab", incarnation=incarnation)
        births.connecting(0)
        births.device_birth(data.device, DeviceBirth({1: data.stream}), 0)
        messages = [
            host.watermark(node, incarnation, seq + 10**6, 0),
            host.watermark(node, incarnation + 1, seq, 0),
            Message(state_topic("lab"), encode_state(online=False, timestamp_ms=10**14), qos=1, retain=True),
            Message(state_topic("lab"), encode_state(online=True, timestamp_ms=10**14)),
            *births.births(0, oldest_seq=seq + 10**6),
            Message(node.topic(MessageType.DDATA, data.device), nonsense[:-3]),
            Message(node.topic(MessageType.NDEATH), encode_payload([], timestamp_ms=0)),
            Message(node.topic(MessageType.DDEATH, data.device), encode_payload([], timestamp_ms=0, seq=3)),
        ]
        for kind in MessageType:
            topic = node.topic(kind, data.device if kind.startswith("D") else None)
            messages += [Message(topic, chance.randbytes(chance.randrange(80))) for _ in range(5)]
        chance.shuffle(messages)
        publish.multiple(
            [(m.topic, m.payload, m.qos, m.retain) for m in messages], hostname=HOST, port=self._broker_port
        )
        self.actions.append(f"{len(messages)} forged messages")

    def drain(self, *, timeout_s: float = 30.0) -> float:
        """Wait until the gateway has let go of everything committed by now; return how long that took."""
        began_s = time.monotonic()
        self.witness.look()
        newest = max(self.witness.records, default=0)
        until(lambda: self.witness.oldest() > newest, what=f"watermark {newest}", timeout_s=timeout_s)
        return time.monotonic() - began_s

    def end(self) -> dict[str, int]:
        """End all cleanly; return exit codes."""
        codes = {process.name: process.end() for process in (self.gateway, self.serve, self.sim)}
        self.witness.look()
        self.broker.end()
        return codes

    def abandon(self) -> None:
        for process in self.processes:
            process.put_down()
        self.gateway_wire.close()
        self.serve_wire.close()
        self.api.close()

    def store(self) -> SqliteSessionStore:
        return SqliteSessionStore(self.data / "sessions")


def mosquitto() -> str | None:
    """Return the path of a mosquitto binary, None if there is none."""
    return shutil.which("mosquitto", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")


def _broker(which: str, port: int, folder: Path) -> list[str]:
    if which == "amqtt":
        return [sys.executable, "-m", "lab_api.broker", str(port)]
    binary = mosquitto()
    assert binary is not None
    configuration = folder / "mosquitto.conf"
    configuration.write_text(f"listener {port} {HOST}\nallow_anonymous true\nmax_queued_messages 0\n")
    return [binary, "-c", str(configuration)]


def _listens(port: int) -> Callable[[], bool]:
    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 0.5):
            return True
        return False

    return listens


def _gateway_toml(broker_port: int, served: list[dict[str, Any]]) -> str:
    lines = ["[gateway]", 'group = "lab"', f'name = "{GATEWAY}"', 'data = "spool"']
    lines.append(f'broker = "mqtt://{HOST}:{broker_port}"')
    for device in served:
        lines += ["[[device]]", *(f'{key} = "{device[key]}"' for key in ("name", "kind"))]
        lines += [f'{key} = "{device[key]}"' for key in ("port", "address", "adapter") if key in device]
        if device["options"]:
            lines.append(f"options = {_inline(device['options'])}")
    return "\n".join(lines)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value)
