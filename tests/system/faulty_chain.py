"""The chain as separate processes, with means to hurt it and to tell afterwards what came of every sample."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx
from paho.mqtt import publish

from lab_api.store.sqlite import SqliteSessionStore
from protocols.errors import LivingLabError
from protocols.samples import SampleBlock, Stream
from protocols.sparkplug.blocks import BlockReader, birth_metrics, encode_block
from protocols.sparkplug.edge_node import DeviceBirth, EdgeNodeSession, encode_state
from protocols.sparkplug.host import HostApplication
from protocols.sparkplug.payload import encode_payload, parse
from protocols.sparkplug.topics import Message, MessageType, NodeId, state_topic

LAB = [sys.executable, "-m", "lab_api.cli"]
GATEWAY = "gateway-1"
HOST = "127.0.0.1"

SCENARIO = """
[[subject]]
name = "s"
seed = 3

[[device]]
kind = "fablab"
name = "counted"
replay = "{record}"

[[device]]
kind = "nonin-7"
name = "finger"
subject = "s"

[[device]]
kind = "polar-h10"
name = "strap"
subject = "s"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], *, what: str, timeout_s: float = 30.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {what}")


class Process:
    """A process that may be killed and started again; what it says goes to one file."""

    def __init__(self, name: str, command: list[str], folder: Path, *, ready: Callable[[], bool]) -> None:
        self.name, self.command = name, command
        self.said = folder / f"{name}.log"
        self.kills = 0
        self.peak_kib = 0
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        out: IO[bytes]
        with self.said.open("ab") as out:
            self._process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=out, stderr=out)
        if wait:
            until(self._ready, what=f"{self.name} is ready")

    def kill(self) -> None:
        self._note_memory()
        assert self.alive, f"{self.name} ended by itself: {self.said.read_text()[-2000:]}"
        self.kills += 1
        self.put_down()

    def put_down(self) -> None:
        """Kill it if it lives."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()

    def pause(self, seconds: float) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGCONT)

    def end(self, *, timeout_s: float = 30.0) -> int:
        """Ask it to end; return its exit code, -9 if it does not."""
        assert self._process is not None
        self._note_memory()
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self.put_down()
        return int(self._process.returncode)

    def _note_memory(self) -> None:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
            peak = next(line for line in lines if line.startswith("VmHWM"))
            self.peak_kib = max(self.peak_kib, int(peak.split()[1]))


class Wire:
    """A TCP connection's way to the broker, which can be cut, or carry nothing while it looks alive."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._dead = threading.Event()
        self._links: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, self.port))
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def cut(self) -> None:
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            for end in link:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def go_dead(self) -> None:
        """Carry nothing any more, in either direction, and say nothing of it."""
        self._dead.set()

    def revive(self) -> None:
        """Carry on; what waited arrives, except on links cut meanwhile."""
        self._dead.clear()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._dead.clear()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _run(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((HOST, self._target_port), 2)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._links.append((near, far))
            for source, sink in ((near, far), (far, near)):
                self._run(self._carry, source, sink)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self._dead.is_set():
                    time.sleep(0.02)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()  # the other direction's thread closes the other end


@dataclass
class SpoolWitness:
    """Sees every block that the gateway has committed, by reading its spool beside it."""

    path: Path
    blocks: dict[int, SampleBlock] = field(default_factory=dict)
    incarnation: int = 0
    _readers: dict[int, BlockReader] = field(default_factory=dict)

    def look(self) -> None:
        """Take note of new blocks."""
        with self._database() as database:
            newest = max(self.blocks, default=0)
            query = "SELECT seq, device, stream, body FROM block WHERE seq > ? ORDER BY seq"
            for seq, device, number, body in database.execute(query, (newest,)).fetchall():
                self._note(database, seq, device, number, body)
            (self.incarnation,) = database.execute(
                "SELECT value FROM fact WHERE name = 'incarnation'"
            ).fetchone()

    def oldest(self) -> int:
        """Return the first block that the gateway still keeps."""
        with self._database() as database:
            query = "SELECT coalesce(min(seq), 1 << 62) FROM block"
            return int(database.execute(query).fetchone()[0])

    def _database(self) -> contextlib.closing[sqlite3.Connection]:
        return contextlib.closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True))

    def _note(self, database: sqlite3.Connection, seq: int, device: str, number: int, body: bytes) -> None:
        if number not in self._readers:
            query = "SELECT description FROM stream WHERE number = ?"
            stream = Stream.from_json(database.execute(query, (number,)).fetchone()[0])
            births = birth_metrics(stream, stream_number=number, timestamp_ms=0)
            self._readers[number] = BlockReader(device, births)
        (received,) = self._readers[number].read(parse(body))
        assert received.spool_seq == seq
        self.blocks[seq] = received.block


class Chain:
    """Devices, gateway, broker and recorder, each a process; both MQTT clients reach the broker by a `Wire`."""

    def __init__(self, folder: Path, record: Path, *, broker: str = "mosquitto") -> None:
        self.folder = folder
        self.actions: list[str] = []
        broker_port = self._broker_port = free_port()
        self._api_port = free_port()
        self.broker = Process(
            "broker", _broker(broker, broker_port, folder), folder, ready=_listens(broker_port)
        )
        self.gateway_wire, self.serve_wire = Wire(broker_port), Wire(broker_port)
        scenario = folder / "scenario.toml"
        scenario.write_text(SCENARIO.format(record=record))
        command = [*LAB, "sim", "run", "--scenario", str(scenario), "--json"]
        self.sim = Process("sim", command, folder, ready=lambda: "serving;" in self.sim.said.read_text())
        self.data = folder / "lab"
        command = [*LAB, "serve", "--port", str(self._api_port), "--data", str(self.data)]
        command += ["--broker", f"mqtt://{HOST}:{self.serve_wire.port}"]
        self.serve = Process("serve", command, folder, ready=_listens(self._api_port))
        config = folder / "gateway.toml"
        spool = folder / "spool" / "spool.sqlite"
        command = [*LAB, "gateway", "run", "--config", str(config), "--json"]
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
        session = self.open_session()
        self.gateway.start()
        return session

    def open_session(self) -> str:
        answer = self.api.post("sessions", json={"subject": "S-1", "devices": self._devices})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def close_session(self, session: str) -> None:
        self.api.post(f"sessions/{session}/close").raise_for_status()

    def recorder(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.api.get("health").raise_for_status().json()["recorder"]
        return answer

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
        harms: list[Callable[[random.Random], str]] = [
            lambda c: self._kill(self.gateway, c),
            lambda c: self._kill(self.serve, c),
            lambda c: self._kill(self.broker, c),
            lambda c: self._pause(c.choice([self.gateway, self.serve, self.broker]), c),
            lambda c: self._cut(c.choice(["gateway", "serve"])),
            lambda c: self._half_open(c.choice(["gateway", "serve"]), c),
            lambda c: self._kill_all(c),
        ]
        self.actions.append(chance.choice(harms)(chance))

    def _kill(self, process: Process, chance: random.Random) -> str:
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

    def _pause(self, process: Process, chance: random.Random) -> str:
        pause_s = chance.uniform(0.2, 3.0)
        process.pause(pause_s)
        return f"stop {process.name} for {pause_s:.1f} s"

    def _cut(self, whose: str) -> str:
        self._wire(whose).cut()
        return f"cut the wire of {whose}"

    def _half_open(self, whose: str, chance: random.Random) -> str:
        pause_s, cut = chance.uniform(0.5, 4.0), chance.random() < 0.5
        wire = self._wire(whose)
        wire.go_dead()
        time.sleep(pause_s)
        if cut:
            wire.cut()
        wire.revive()
        return f"dead wire of {whose} for {pause_s:.1f} s{', then cut' if cut else ''}"

    def _wire(self, whose: str) -> Wire:
        return self.gateway_wire if whose == "gateway" else self.serve_wire

    def forge(self, chance: random.Random) -> None:
        """Publish what nobody may say: random bytes and contradictions on every topic of gateway and host."""
        node = NodeId("lab", GATEWAY)
        seq, incarnation = max(self.witness.blocks), self.witness.incarnation
        host = HostApplication("lab")
        data = chance.choice(list(self.witness.blocks.values()))
        nonsense = encode_block(data, spool_seq=seq + 1, stream_number=1)
        births = EdgeNodeSession(node, host_id="lab", incarnation=incarnation)
        births.connecting(0)
        births.device_birth("counted", DeviceBirth({1: data.stream}), 0)
        messages = [
            host.watermark(node, incarnation, seq + 10**6, 0),
            host.watermark(node, incarnation + 1, seq, 0),
            Message(state_topic("lab"), encode_state(online=False, timestamp_ms=10**14), qos=1, retain=True),
            Message(state_topic("lab"), encode_state(online=True, timestamp_ms=10**14)),
            *births.births(0, oldest_seq=seq + 10**6),
            Message(node.topic(MessageType.DDATA, "counted"), nonsense[:-3]),
            Message(node.topic(MessageType.NDEATH), encode_payload([], timestamp_ms=0)),
            Message(node.topic(MessageType.DDEATH, "counted"), encode_payload([], timestamp_ms=0, seq=3)),
        ]
        for kind in MessageType:
            topic = node.topic(kind, "counted" if kind.startswith("D") else None)
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
        newest = max(self.witness.blocks, default=0)
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


def _broker(which: str, port: int, folder: Path) -> list[str]:
    if which == "amqtt":
        return [sys.executable, "-m", "lab_api.broker", str(port)]
    binary = shutil.which("mosquitto", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
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
