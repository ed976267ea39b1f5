"""Stand-ins for everything around the gateway: a device's wire, its clock, a recorder, a broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
import pytest

from gateway.spool import Position, Spool
from gateway.spool_gaps import BodyReader
from gateway.transport import Frame
from protocols.devices.kind import SERIAL_SOURCE, Decoded, DeviceKind, Samples, SerialLink
from protocols.errors import DecodeError, TransportError
from protocols.gaps import Gap
from protocols.lab_clock import LabClock
from protocols.records import Record, stream_of
from protocols.samples import Channel, SampleBlock, Stream
from protocols.sparkplug.blocks import encode_record
from protocols.sparkplug.host import (
    DeviceBorn,
    DeviceDied,
    HostApplication,
    NodeBorn,
    NodeDied,
    RecordReceived,
    SendMessage,
)
from protocols.sparkplug.topics import Message

COUNTED = Stream("counted", (Channel("a", "uV"), Channel("b", "uV")), "int16", 250.0)
PLAIN = Stream("plain", (Channel("pleth", "1"),), "uint16", 75.0)
CLOCKED = Stream("clocked", (Channel("ecg", "uV"),), "int32", 130.0)
EVENTS = Stream("events", (Channel("rr", "ms"),), "uint16", None)
MODULUS = 1000


class JsonDecoder:
    """One JSON object per feed: what a device of the kind below says; anything else is an error."""

    def feed(self, source: str, data: bytes) -> Decoded:
        try:
            said = json.loads(data)
        except ValueError:
            return Decoded(errors=(DecodeError(f"{data!r}, expected JSON"),))
        samples = []
        for name, part in said.get("samples", {}).items():
            dtype = {s.name: s.dtype for s in KIND.streams}[name]
            offsets = part.get("offsets_ns")
            samples.append(
                Samples(
                    name,
                    np.array(part["values"], dtype),
                    part.get("counter"),
                    part.get("device_ns"),
                    None if offsets is None else np.array(offsets, np.int64),
                )
            )
        return Decoded(tuple(samples), said.get("properties", {}))


KIND = DeviceKind(
    "test-kind",
    "A device that speaks JSON",
    SerialLink(115200),
    (COUNTED, PLAIN, CLOCKED, EVENTS),
    JsonDecoder,
    {"counted": MODULUS},
)


@pytest.fixture
def kind() -> DeviceKind:
    return KIND


@dataclass
class ManualClock:
    """Machine clocks that a test sets."""

    utc_ns: int = 1_767_225_600_000_000_000
    monotonic_ns: int = 5_000_000_000

    def advance(self, seconds: float) -> None:
        self.utc_ns += round(seconds * 1e9)
        self.monotonic_ns += round(seconds * 1e9)

    @property
    def lab(self) -> LabClock:
        return LabClock(lambda: self.utc_ns, lambda: self.monotonic_ns)

    def frame(self, data: bytes = b"") -> Frame:
        return Frame(SERIAL_SOURCE, data, self.utc_ns, self.monotonic_ns)


@pytest.fixture
def machine() -> ManualClock:
    return ManualClock()


@dataclass
class FakeDevice:
    """What a test makes its device say; every connection is one `FakeTransport`."""

    clock: LabClock = field(default_factory=lambda: LabClock(time.time_ns, time.monotonic_ns))
    refuse: str = ""
    revivable: bool = True
    revivals: int = 0
    connections: list[asyncio.Queue[Frame | Exception]] = field(default_factory=list)
    open_links: int = 0
    next_counter: int = 0

    def connect(self) -> FakeTransport:
        return FakeTransport(self)

    def say(self, said: dict[str, Any] | bytes) -> None:
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        frame = Frame(SERIAL_SOURCE, data, self.clock.now_ns(), self.clock.monotonic_ns())
        self.connections[-1].put_nowait(frame)

    def say_counted(self, n_samples: int = 10) -> None:
        first = self.next_counter
        self.next_counter += n_samples
        values = [[i % 30000 for i in range(first, first + n_samples)]] * 2
        self.say({"samples": {"counted": {"values": values, "counter": first % MODULUS}}})

    def break_link(self) -> None:
        self.connections[-1].put_nowait(TransportError("the link broke"))


class FakeTransport:
    def __init__(self, device: FakeDevice) -> None:
        self.device = device

    async def __aenter__(self) -> FakeTransport:
        if self.device.refuse:
            raise TransportError(self.device.refuse)
        self.device.connections.append(asyncio.Queue())
        self.device.open_links += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.device.open_links -= 1

    async def frames(self) -> AsyncIterator[Frame]:
        queue = self.device.connections[-1]
        while True:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            yield item

    async def revive(self) -> bool:
        self.device.revivals += 1
        return self.device.revivable


@pytest.fixture
def fake_device() -> FakeDevice:
    return FakeDevice()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class Mosquitto:
    """A broker that a test may kill and start again."""

    binary: str
    folder: Path
    port: int = field(default_factory=_free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self.folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 100000\n")
        self.process = subprocess.Popen(
            [self.binary, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return
            time.sleep(0.02)
        raise AssertionError("mosquitto does not listen")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        message = "no mosquitto binary on the PATH"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    broker = Mosquitto(binary, tmp_path)
    broker.start()
    yield broker
    broker.kill()


class FakeRecorder:
    """A Sparkplug host that keeps every block in a dictionary and acknowledges what is contiguous."""

    def __init__(self, port: int, *, host: str = "lab") -> None:
        self.application = HostApplication(host)
        self.blocks: dict[int, SampleBlock] = {}
        self.received: list[int] = []
        self.historical: list[bool] = []
        self.births: list[NodeBorn] = []
        self.devices: dict[str, DeviceBorn] = {}
        self.log: list[str] = []
        self.acknowledging = True
        self.mute = False
        self.unheard = 0
        self.node: NodeBorn | None = None
        self._contiguous = 0
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(0.1, 0.5)
        self._client.on_pre_connect = lambda *_: self._set_will()
        self._client.on_connect = lambda *_: self._come_online()
        self._client.on_message = lambda _c, _d, message: self._receive(message.topic, bytes(message.payload))
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()

    def acknowledge(self, seq: int, incarnation: int | None = None) -> None:
        assert self.node is not None
        number = self.node.incarnation if incarnation is None else incarnation
        self._publish(self.application.watermark(self.node.node, number, seq, _now_ms()))

    def publish_raw(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, 1)

    def go_offline(self) -> None:
        self._publish(self.application.offline(_now_ms()))

    def come_back(self) -> None:
        self.application.connecting(_now_ms())
        self._publish(self.application.online())

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _set_will(self) -> None:
        will = self.application.connecting(_now_ms())
        self._client.will_set(will.topic, will.payload, will.qos, will.retain)

    def _come_online(self) -> None:
        self._client.subscribe(list(self.application.subscriptions))
        self._publish(self.application.online())

    def _publish(self, message: Message) -> None:
        self._client.publish(message.topic, message.payload, message.qos, message.retain)

    def _receive(self, topic: str, payload: bytes) -> None:
        if self.mute:
            self.unheard += 1
            return
        for event in self.application.receive(topic, payload, _now_ms()):
            self.log.append(type(event).__name__)
            match event:
                case SendMessage(message):
                    self._publish(message)
                case NodeBorn():
                    self.node = event
                    self.births.append(event)
                case DeviceBorn():
                    self.devices[event.device] = event
                case DeviceDied():
                    self.devices.pop(event.device, None)
                case NodeDied():
                    self.devices.clear()
                case RecordReceived(received=received):
                    self.received.append(received.spool_seq)
                    self.historical.append(received.is_historical)
                    self.blocks.setdefault(received.spool_seq, received.record)
                    if self.acknowledging:
                        self.acknowledge(self.contiguous)

    @property
    def contiguous(self) -> int:
        self._contiguous = max(self._contiguous, self.births[-1].oldest_seq - 1)
        while self._contiguous + 1 in self.blocks:
            self._contiguous += 1
        return self._contiguous


@pytest.fixture
def recorders() -> Iterator[Callable[..., FakeRecorder]]:
    made: list[FakeRecorder] = []

    def make(port: int, **options: Any) -> FakeRecorder:
        made.append(FakeRecorder(port, **options))
        return made[-1]

    yield make
    for recorder in made:
        recorder.close()


async def wait_until(condition: Callable[[], object], what: str = "", timeout_s: float = 15) -> None:
    """Let the event loop go on until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"still waiting: {what}"
        await asyncio.sleep(0.01)


def wait_for(condition: Callable[[], object], timeout_s: float = 20) -> None:
    """Let other threads and processes go on until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def until() -> Callable[..., Any]:
    return wait_until


def put_record(spool: Spool, record: Record, *, position: Position | None = None) -> int | None:
    """Put a record as the gateway does."""

    def encode(seq: int, number: int) -> bytes:
        return encode_record(record, spool_seq=seq, stream_number=number)

    always = isinstance(record, Gap)
    return spool.put(record.device, stream_of(record), encode, position=position, always=always)


def read_records(spool: Spool, device: str = "dut") -> list[Record]:
    """Return the committed records of a device that is alone in the spool."""
    reader = BodyReader({number: (device, stream) for number, stream in spool.streams(device).items()})
    return [reader.read(block) for block in spool.read(spool.acknowledged, 1_000_000)]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
