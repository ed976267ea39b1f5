"""The recorder's host at a real broker."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from gateway.config import Broker
from lab_api.broker import embedded_broker
from lab_api.host import MqttHost
from lab_api.recorder import Recorder
from lab_api.store.session_store import SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.lab_clock import LabClock
from protocols.sparkplug.blocks import encode_record
from protocols.sparkplug.edge_node import DeviceBirth, EdgeNodeSession, Watermark, decode_state
from protocols.sparkplug.host import Event, HostApplication
from protocols.sparkplug.topics import Message, NodeId
from tests.lab_api.direct_gateways import ECG, ecg_block, wait_until

CLOCK = LabClock(time.time_ns, time.monotonic_ns)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker that runs in a loop of its own thread."""
    urls: list[str] = []
    started, stop = threading.Event(), threading.Event()

    async def run() -> None:
        async with embedded_broker() as url:
            urls.append(url)
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert started.wait(20)
    yield Broker.from_url(urls[0])
    stop.set()
    thread.join()


class Peer:
    """Someone else at the broker."""

    def __init__(self, broker: Broker) -> None:
        self.received: list[tuple[str, bytes]] = []
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._on_message
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        wait_until(self._client.is_connected)

    def subscribe(self, topic: str) -> None:
        self._client.subscribe(topic, 1)

    def publish(self, message: Message) -> None:
        self._client.publish(message.topic, message.payload, message.qos, message.retain).wait_for_publish(5)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.received.append((message.topic, bytes(message.payload)))


@pytest.fixture
def peer(broker: Broker) -> Iterator[Peer]:
    peer = Peer(broker)
    yield peer
    peer.close()


def states(peer: Peer, host_id: str) -> list[bool]:
    return [decode_state(payload)[0] for topic, payload in peer.received if topic.endswith(f"/STATE/{host_id}")]


def test_the_host_says_when_it_is_there_and_when_it_goes(broker: Broker, peer: Peer) -> None:
    peer.subscribe("spBv1.0/STATE/lab-1")
    host = MqttHost(broker, host_id="lab-1", clock=CLOCK)
    host.start(lambda _: None)
    wait_until(lambda: states(peer, "lab-1") == [True])
    assert host.connected
    host.stop()

    wait_until(lambda: states(peer, "lab-1") == [True, False])
    assert not host.connected


def test_blocks_travel_from_a_gateway_through_the_broker_into_a_session(
    broker: Broker, peer: Peer, tmp_path: Path
) -> None:
    node = NodeId("lab", "gw-1")
    edge = EdgeNodeSession(node, host_id="lab-2", incarnation=5)
    edge.connecting(0)
    edge.device_birth("strap", DeviceBirth({1: ECG}), 0)
    for topic, _ in edge.subscriptions:
        peer.subscribe(topic)

    def watermarks() -> list[int]:
        commands = [c for topic, payload in list(peer.received) for c in edge.receive(topic, payload)]
        return [c.seq for c in commands if isinstance(c, Watermark)]

    with SqliteSessionStore(tmp_path) as store:
        devices = [SessionDevice("test", "gw-1", "strap")]
        session = store.open_session(subject="S-001", devices=devices, opened_ns=CLOCK.now_ns())
        with Recorder(store, MqttHost(broker, host_id="lab-2", clock=CLOCK), CLOCK) as recorder:
            wait_until(lambda: recorder.status().connected)
            wait_until(lambda: states(peer, "lab-2") == [True])
            for message in edge.births(0, oldest_seq=1):
                peer.publish(message)
            for seq in range(1, 41):
                block = ecg_block(session.opened_ns + seq * 10**8, first_index=seq * 25, n_samples=25)
                body = encode_record(block, spool_seq=seq, stream_number=1)
                peer.publish(edge.data("strap", body, 0))
            wait_until(lambda: 40 in watermarks())

        (segment,) = store.read(session.id, "gw-1", "strap", "ecg").segments
        assert segment.values[0].tolist() == list(range(25, 41 * 25))


def test_data_of_an_unknown_gateway_makes_the_host_ask_for_its_births(broker: Broker, peer: Peer) -> None:
    peer.subscribe("spBv1.0/lab/NCMD/gw-9")
    host = MqttHost(broker, host_id="lab-3", clock=CLOCK)
    events: list[Event] = []
    host.start(events.append)
    wait_until(lambda: host.connected)
    wait_until(published(peer, Message("spBv1.0/lab/DDATA/gw-9/strap", b"")))
    host.stop()


def test_a_defect_in_taking_one_message_does_not_deafen_the_host(
    broker: Broker, peer: Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    peer.subscribe("spBv1.0/lab/NCMD/gw-9")
    host = MqttHost(broker, host_id="lab-4", clock=CLOCK)
    with monkeypatch.context() as patch:
        patch.setattr(HostApplication, "receive", lambda *_: 1 / 0)
        host.start(lambda _: None)
        wait_until(lambda: host.connected)
        peer.publish(Message("spBv1.0/lab/DDATA/gw-8/strap", b""))
        wait_until(lambda: "ZeroDivisionError" in caplog.text)
    wait_until(published(peer, Message("spBv1.0/lab/DDATA/gw-9/strap", b"")))
    host.stop()


def published(peer: Peer, message: Message) -> Callable[[], bool]:
    def answered() -> bool:
        peer.publish(message)
        time.sleep(0.05)
        return bool(peer.received)

    return answered


def test_a_host_waits_for_its_broker(broker: Broker) -> None:
    host = MqttHost(Broker("127.0.0.1", 1), host_id="lab", clock=CLOCK)
    host.start(lambda _: None)
    time.sleep(0.1)
    assert not host.connected
    started_s = time.monotonic()
    host.stop()

    assert time.monotonic() - started_s < 3
