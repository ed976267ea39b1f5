"""Blocks per second from a device's bytes to the durable store, against bare paho publish-subscribe.

The chain is the real one, gateway and recorder in this one process (one interpreter lock for both)::

    encoded frames -> DeviceSession -> Spool -> EdgeNode -> broker -> MqttHost -> Recorder -> SqliteSessionStore
                                         ^------------------- watermark -------------------------'

Frames of 64 int16 samples come from memory as fast as the chain takes them: the source waits while more than
`AHEAD_RECORDS` are not yet durable. Every frame becomes two records, a block of its own and the raw frame, as
if the gateway closed its blocks after each. A round ends when the spool knows that all is durable; what is
stored must then equal what was sent.

Bare paho publishes the very messages that a chain published before, QoS 0, on the same broker, with as many in
flight as the gateway allows itself. What the watermark costs shows against the same chain without it: nothing
is acknowledged, waited for or trimmed. Rounds take turns; the ratios are the medians of the pairs.

    python benchmarks/chain.py
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from report import Report

from gateway.clock import BootIds
from gateway.config import Broker
from gateway.device_session import DeviceSession
from gateway.edge_node import WINDOW_BLOCKS, EdgeNode
from gateway.gaps import position_after
from gateway.spool import Spool
from gateway.transport import Frame
from lab_api.broker import embedded_broker
from lab_api.host import MqttHost
from lab_api.recorder import Recorder
from lab_api.store.session_store import SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.devices.fablab import encode_frame, fablab
from protocols.devices.kind import SERIAL_SOURCE
from protocols.frames import RAW
from protocols.gaps import Gap
from protocols.lab_clock import LabClock
from protocols.records import Record, stream_of
from protocols.samples import Channel
from protocols.sparkplug.blocks import encode_record
from protocols.sparkplug.topics import MessageType, NodeId

LIMIT = 0.15
WATERMARK_LIMIT = 0.7
ROUNDS = 3
N_FRAMES = 5_000
AHEAD_RECORDS = 4 * WINDOW_BLOCKS
FRAMES_AT_ONCE = 16
TIMEOUT_S = 60.0
N_SAMPLES = 64
RATE_HZ = 500.0
HOST = "lab"
DEVICE = "prototype"
NODE = NodeId("lab", "gateway-1")
KIND = fablab(channels=[Channel("lead_ii", "uV")], rate_hz=RATE_HZ, stream="ecg")
CLOCK = LabClock(time.time_ns, time.monotonic_ns)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(compare(Path(folder)))


async def compare(folder: Path) -> int:
    """Run both in turns on one broker; print the figure and return the exit code."""
    signal = ecg(N_FRAMES * N_SAMPLES)
    chains_s, bares_s, unmarked_s = [], [], []
    async with embedded_broker() as url:
        broker = Broker.from_url(url)
        with captured(broker) as payloads:
            await chain_s(folder / "first", broker, signal)
        name = broker_name(broker)
        for i in range(ROUNDS):
            bares_s.append(await asyncio.to_thread(bare_s, broker, payloads))
            chains_s.append(await chain_s(folder / str(i), broker, signal))
            unmarked_s.append(await chain_s(folder / f"unmarked {i}", broker, signal, watermark=False))
    report = Report()
    report.figure(
        "chain: device to durable store",
        len(payloads) / statistics.median(chains_s),
        "records/s",
        ratio=_median_ratio(bares_s, chains_s),
        of=f"{len(payloads) / statistics.median(bares_s):.0f} of bare paho on {name}",
        at_least=LIMIT,
    )
    report.figure(
        "chain: with the watermark",
        len(payloads) / statistics.median(chains_s),
        "records/s",
        ratio=_median_ratio(unmarked_s, chains_s),
        of=f"{len(payloads) / statistics.median(unmarked_s):.0f} without",
        at_least=WATERMARK_LIMIT,
    )
    return report.exit_code


def _median_ratio(peers_s: list[float], ours_s: list[float]) -> float:
    return statistics.median(peer / ours for peer, ours in zip(peers_s, ours_s, strict=True))


class SilentHost(MqttHost):
    """Tells no gateway what is durable."""

    def send_watermark(self, node: NodeId, incarnation: int, seq: int) -> None:
        """Send nothing."""


def ecg(n_samples: int) -> NDArray[np.int16]:
    """Return samples that look like an ECG: beats, wander, noise of some counts."""
    times_s = np.arange(n_samples) / RATE_HZ
    beats = 400 * np.sin(2 * np.pi * 0.6 * times_s) ** 62
    noise = np.random.default_rng(1).normal(0, 4, n_samples)
    samples: NDArray[np.int16] = (beats + 50 * np.sin(2 * np.pi * 0.2 * times_s) + noise).astype(np.int16)
    return samples


async def chain_s(folder: Path, broker: Broker, signal: NDArray[np.int16], *, watermark: bool = True) -> float:
    """Return the seconds from the first frame until all is durable and, with the watermark, the spool knows."""
    folder.mkdir()
    with SqliteSessionStore(folder) as store:
        host = (MqttHost if watermark else SilentHost)(broker, host_id=HOST, clock=CLOCK)
        recorder = Recorder(store, host, CLOCK)
        session = store.open_session(
            subject="S-001", devices=[SessionDevice("test", NODE.name, DEVICE)], opened_ns=CLOCK.now_ns()
        )
        frames = encoded_frames(signal)
        with recorder:
            elapsed_s = await gateway_s(folder / "spool.sqlite", broker, frames, recorder, watermark=watermark)
        stored = store.read(session.id, NODE.name, DEVICE, "ecg").values()
    if not np.array_equal(stored, signal[np.newaxis]):
        raise AssertionError(f"stored samples of shape {stored.shape} differ from the {signal.size} sent")
    return elapsed_s


async def gateway_s(
    path: Path, broker: Broker, frames: list[Frame], recorder: Recorder, *, watermark: bool
) -> float:
    """Run a gateway of one device; return the seconds its frames took until all were durable."""
    loop = asyncio.get_running_loop()

    def committed() -> None:
        loop.call_soon_threadsafe(edge_node.committed)

    def behind() -> int:
        return spool.newest - (spool.acknowledged if watermark else recorder.status().blocks)

    spool = Spool(path, on_commit=committed)
    window = {} if watermark else {"window_blocks": 1 << 40, "stall_s": 1e9}
    edge_node = EdgeNode(NODE, host=HOST, brokers=[broker], spool=spool, clock=CLOCK, **window)
    source = Source(frames, behind)
    device = source.device = device_session(source, spool, edge_node)
    publishing = asyncio.create_task(edge_node.run())
    async with asyncio.timeout(TIMEOUT_S):
        while not edge_node.health().host_online:
            await asyncio.sleep(0.01)
        started = time.perf_counter()
        streaming = asyncio.create_task(device.run())
        await source.exhausted.wait()
        while behind() > 0:
            await asyncio.sleep(0.002)
        elapsed_s = time.perf_counter() - started
    for task in (streaming, publishing):
        task.cancel()
    await asyncio.gather(streaming, publishing, return_exceptions=True)
    await asyncio.to_thread(spool.close)
    return elapsed_s


def device_session(source: Source, spool: Spool, edge_node: EdgeNode) -> DeviceSession:
    """Return a device wired to spool and edge node as `gateway.supervisor` does it."""
    boot_ids = BootIds()

    def store(record: Record) -> bool:
        spool.keep("boot_id", boot_ids.last)
        return put(spool, record)

    def announce(session: DeviceSession) -> None:
        if session.online:
            edge_node.device_online(session.name, (*session.kind.streams, RAW), session.properties)

    return DeviceSession(
        DEVICE,
        KIND,
        connect=lambda: source,
        store=store,
        clock=CLOCK,
        boot_ids=boot_ids,
        block_s=0.5,
        on_change=announce,
    )


def put(spool: Spool, record: Record) -> bool:
    """Put a record as `gateway.supervisor` does it."""

    def encode(seq: int, stream_number: int) -> bytes:
        return encode_record(record, spool_seq=seq, stream_number=stream_number)

    position, always = position_after(record), isinstance(record, Gap)
    seq = spool.put(record.device, stream_of(record), encode, position=position, always=always)
    return seq is not None


def encoded_frames(signal: NDArray[np.int16]) -> list[Frame]:
    """Return the signal as Fab Lab frames that arrive when their last sample is taken, from a second on."""
    utc_ns, monotonic_ns = CLOCK.now_ns() + 10**9, CLOCK.monotonic_ns() + 10**9
    frames = []
    for first in range(0, signal.size, N_SAMPLES):
        taken_ns = round(first * 1e9 / RATE_HZ)
        samples = signal[np.newaxis, first : first + N_SAMPLES]
        data = encode_frame(samples, boot=1, counter=first, device_us=taken_ns // 1000)
        full_ns = taken_ns + round(N_SAMPLES * 1e9 / RATE_HZ)
        frames.append(Frame(SERIAL_SOURCE, data, utc_ns + full_ns, monotonic_ns + full_ns))
    return frames


class Source:
    """A `Transport` that hands over frames from memory, and waits while the chain is behind."""

    device: DeviceSession

    def __init__(self, frames: list[Frame], behind: Callable[[], int]) -> None:
        self.exhausted = asyncio.Event()
        self._frames = frames
        self._behind = behind

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def frames(self) -> AsyncIterator[Frame]:
        """Yield every frame, closing its block before the next."""
        for i, frame in enumerate(self._frames):
            if i % FRAMES_AT_ONCE == 0:
                await asyncio.sleep(0)
                while self._behind() > AHEAD_RECORDS:
                    await asyncio.sleep(0.005)
            yield frame
            self.device.flush()
        self.exhausted.set()
        await asyncio.Event().wait()


@contextlib.contextmanager
def captured(broker: Broker) -> Iterator[list[bytes]]:
    """Collect the payloads that are published as the device's data."""
    payloads: list[bytes] = []

    def keep(_client: Client, _data: Any, message: MQTTMessage) -> None:
        payloads.append(bytes(message.payload))

    with subscribed(broker, keep):
        yield payloads


def bare_s(broker: Broker, payloads: list[bytes]) -> float:
    """Return the seconds from the first publication of the payloads to the arrival of the last."""
    room = threading.Semaphore(WINDOW_BLOCKS)
    done = threading.Event()
    arrived = 0

    def count(_client: Client, _data: Any, _message: MQTTMessage) -> None:
        nonlocal arrived
        arrived += 1
        room.release()
        if arrived == len(payloads):
            done.set()

    topic = data_topic()
    with subscribed(broker, count), connected(broker) as publisher:
        started = time.perf_counter()
        for payload in payloads:
            room.acquire()
            publisher.publish(topic, payload, 0)
        done.wait()
        return time.perf_counter() - started


def data_topic() -> str:
    return NODE.topic(MessageType.DDATA, DEVICE)


@contextlib.contextmanager
def subscribed(broker: Broker, on_message: Any) -> Iterator[None]:
    """Subscribe to the device's data."""
    ready = threading.Event()
    with connected(broker) as client:
        client.on_message = on_message
        client.on_subscribe = lambda *_: ready.set()
        client.subscribe(data_topic(), 0)
        ready.wait()
        yield


@contextlib.contextmanager
def connected(broker: Broker) -> Iterator[Client]:
    """Connect a client with a network thread of its own."""
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect(broker.host, broker.port)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def broker_name(broker: Broker) -> str:
    """Return what the broker calls itself; amqtt says nothing."""
    topic, said = "$SYS/broker/version", threading.Event()
    names = ["amqtt"]

    def hear(_client: Client, _data: Any, message: MQTTMessage) -> None:
        if message.topic == topic:  # amqtt also hands over what was not asked for
            names[0] = message.payload.decode()
            said.set()

    with connected(broker) as client:
        client.on_message = hear
        client.subscribe(topic)
        said.wait(1.0)
    return names[0]


if __name__ == "__main__":
    sys.exit(main())
