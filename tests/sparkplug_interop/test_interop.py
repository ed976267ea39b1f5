"""Our Sparkplug and an unrelated one understand each other, in both directions, over a real broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from gateway.config import Broker
from gateway.edge_node import EdgeNode
from gateway.spool import Spool
from lab_api.host import MqttHost
from protocols.lab_clock import LabClock
from protocols.samples import Channel, SampleBlock, Stream
from protocols.sparkplug.blocks import encode_record
from protocols.sparkplug.edge_node import Command, DeviceBirth, EdgeNodeSession, HostState, Rebirth
from protocols.sparkplug.host import DeviceDied, DeviceMetrics, Event, NodeDied, NodeMetrics
from protocols.sparkplug.payload import DataType, Metric
from protocols.sparkplug.topics import Message, NodeId

pytestmark = pytest.mark.mosquitto

CLOCK = LabClock(time.time_ns, time.monotonic_ns)
PRESS = NodeId("plant", "press")
ECG = Stream("ecg", (Channel("ecg", "uV", 131328),), "int16", 130.0)


def wait_until(holds: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.fixture
def our_host(port: int) -> Iterator[list[Event]]:
    events: list[Event] = []
    host = MqttHost(Broker("127.0.0.1", port), host_id="lab", clock=CLOCK)
    host.start(events.append)
    wait_until(lambda: host.connected)
    time.sleep(0.2)
    yield events
    host.stop()


class OurEdge:
    """Our edge node's session on a plain MQTT client."""

    def __init__(self, port: int, host_id: str) -> None:
        self.session = EdgeNodeSession(NodeId("lab", "gw-1"), host_id=host_id, incarnation=5)
        self.commands: list[Command] = []
        self._client = Client(CallbackAPIVersion.VERSION2)
        will = self.session.connecting(now_ms())
        self._client.will_set(will.topic, will.payload, will.qos, will.retain)
        self._client.on_message = lambda _c, _d, m: self.commands.extend(
            self.session.receive(m.topic, bytes(m.payload))
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_until(self._client.is_connected)
        self._client.subscribe(list(self.session.subscriptions))

    def publish(self, *messages: Message | None) -> None:
        for message in messages:
            assert message is not None
            self._client.publish(message.topic, message.payload, message.qos, message.retain).wait_for_publish(
                5
            )

    def give_birth(self) -> None:
        metrics = [
            Metric("Health/backlog", datatype=DataType.INT64, value=-1),
            Metric("Health/disk", datatype=DataType.DOUBLE, value=None),
        ]
        self.publish(*self.session.births(now_ms(), oldest_seq=1, metrics=metrics))

    def cut(self) -> None:
        """Go without saying so, for the broker to publish the Will."""
        link = self._client.socket()
        assert link is not None
        self._client.loop_stop()
        link.close()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def our_edge(port: int) -> Iterator[OurEdge]:
    edge = OurEdge(port, "theirs")
    yield edge
    edge.close()


def now_ms() -> int:
    return CLOCK.now_ns() // 1_000_000


def of(message: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [metric for metric in message["metrics"] if metric["name"] == name]
    return found


def test_our_host_understands_their_births_data_and_deaths(
    our_host: list[Event], their_side: Callable[[str], Any]
) -> None:
    their_edge = their_side("edge")
    their_edge.do("connect")
    wait_until(lambda: sum(isinstance(e, DeviceMetrics) for e in our_host) == 1)
    birth, device_birth = our_host
    assert isinstance(birth, NodeMetrics)
    assert (birth.node, birth.is_birth) == (PRESS, True)
    assert birth.metrics == {"Force": 1.5, "Count": -3, "Big": -(2**40), "Name": "Presse", "Unknown": None}
    assert isinstance(device_birth, DeviceMetrics)
    assert np.array_equal(device_birth.metrics["Curve"], [-1, 2, 300])  # type: ignore[arg-type]

    their_edge.do("update")
    their_edge.do("deregister")
    wait_until(lambda: isinstance(our_host[-1], DeviceDied))
    node_data, device_data, device_death = our_host[2:]
    assert isinstance(node_data, NodeMetrics)
    assert node_data.metrics == {"Force": 2.5}
    assert isinstance(device_data, DeviceMetrics)
    assert np.array_equal(device_data.metrics["Curve"], [4, 5])  # type: ignore[arg-type]
    assert isinstance(device_death, DeviceDied)

    their_edge.do("die")
    wait_until(lambda: isinstance(our_host[-1], NodeDied))
    assert len(our_host) == 6


def test_a_goodbye_of_theirs_that_is_not_of_the_present_session_kills_nobody(
    our_host: list[Event], their_side: Callable[[str], Any]
) -> None:
    """Their planned NDEATH carries the number of the next connection: by the rules it must be ignored."""
    their_edge = their_side("edge")
    their_edge.do("connect")
    wait_until(lambda: sum(isinstance(e, DeviceMetrics) for e in our_host) == 1)
    their_edge.do("leave")
    their_edge.wait_for(lambda told: told.get("done") == "leave")
    time.sleep(0.3)
    assert not any(isinstance(e, NodeDied) for e in our_host)


def test_our_request_for_births_reaches_their_edge_node(
    our_host: list[Event], their_side: Callable[[str], Any], port: int
) -> None:
    their_edge = their_side("edge")
    their_edge.do("connect")
    wait_until(lambda: len(our_host) == 2)
    late = MqttHost(Broker("127.0.0.1", port), host_id="late", clock=CLOCK)
    late.start(lambda _: None)
    wait_until(lambda: late.connected)
    time.sleep(0.2)
    their_edge.do("update")
    command = their_edge.message("NCmd", "plant/NCMD/press")
    assert of(command, "Node Control/Rebirth")["value"] is True
    late.stop()


def test_their_host_understands_our_births_arrays_and_stored_data(
    their_side: Callable[[str], Any], our_edge: OurEdge
) -> None:
    their_host = their_side("host")
    battery = Metric("Health/battery", datatype=DataType.DOUBLE, value=0.5)
    our_edge.session.device_birth("strap", DeviceBirth({1: ECG}, {"Maker": "Fab Lab"}, [battery]), now_ms())
    our_edge.give_birth()

    birth = their_host.message("NBirth")
    assert (birth["topic"], birth["seq"]) == ("spBv1.0/lab/NBIRTH/gw-1", 0)
    assert (of(birth, "bdSeq")["value"], of(birth, "bdSeq")["datatype"]) == (0, "INT64")
    assert of(birth, "Node Control/Rebirth")["value"] is False
    assert of(birth, "Health/backlog")["value"] == -1
    assert of(birth, "Health/disk")["is_null"]
    device_birth = their_host.message("DBirth", "gw-1/strap")
    assert of(device_birth, "Properties/Maker")["value"] == "Fab Lab"
    assert of(device_birth, "ecg/ecg")["datatype"] == "INT16_ARRAY"

    values = np.array([[1, -2, 300]], np.int16)
    block = SampleBlock("strap", ECG, 1, 0, 10**18, values, 10**18, 17, 3)
    body = encode_record(block, spool_seq=41, stream_number=1)
    our_edge.publish(our_edge.session.data("strap", body, now_ms(), historical=True))
    data = their_host.message("DData")
    assert data["seq"] == 2
    assert of(data, "ecg/ecg")["value"] == [1, -2, 300]
    assert of(data, "ecg/ecg")["is_historical"]
    assert of(data, "ecg/ecg")["timestamp"] == 10**12
    assert of(data, "ecg/block")["value"][0] == 41

    our_edge.publish(
        our_edge.session.device_data(
            "strap", [Metric("Health/battery", datatype=DataType.DOUBLE, value=0.4)], now_ms()
        )
    )
    changed = their_host.message("DData")
    assert (of(changed, "Health/battery")["value"], of(changed, "Health/battery")["is_historical"]) == (
        0.4,
        False,
    )
    our_edge.publish(
        our_edge.session.node_data([Metric("Health/backlog", datatype=DataType.INT64, value=-7)], now_ms())
    )
    assert of(their_host.message("NData"), "Health/backlog")["value"] == -7
    our_edge.publish(our_edge.session.device_death("strap", now_ms()))
    assert their_host.message("DDeath", "gw-1/strap")["seq"] == 5
    our_edge.cut()
    assert of(their_host.message("NDeath"), "bdSeq")["value"] == 0


def test_our_edge_node_believes_their_state_and_obeys_their_request(
    their_side: Callable[[str], Any], our_edge: OurEdge
) -> None:
    their_host = their_side("host")
    their_host.do("state theirs online")
    wait_until(lambda: our_edge.commands == [HostState(online=True)])
    our_edge.give_birth()
    assert of(their_host.message("NBirth"), "bdSeq")["value"] == 0

    their_host.do("rebirth lab gw-1")
    wait_until(lambda: Rebirth() in our_edge.commands)
    our_edge.give_birth()
    again = their_host.message("NBirth")
    assert (again["seq"], of(again, "bdSeq")["value"]) == (0, 0)

    their_host.do("state theirs offline")
    wait_until(lambda: our_edge.commands[-1] == HostState(online=False))
    our_edge.publish(our_edge.session.death(now_ms()))
    assert of(their_host.message("NDeath"), "bdSeq")["value"] == 0


def test_a_whole_gateway_serves_their_host(their_side: Callable[[str], Any], port: int, tmp_path: Path) -> None:
    their_host = their_side("host")
    node = NodeId("lab", "gw-2")
    values = np.array([[1, -2, 300]], np.int16)
    block = SampleBlock("strap", ECG, 1, 0, 10**18, values, 10**18, 17, 3)

    async def converse(edge_node: EdgeNode, told: Callable[[str], Awaitable[dict[str, Any]]]) -> None:
        their_host.do("state their-lab online")
        assert of(await told("NBirth"), "Health/backlog")["value"] == 1
        assert of(await told("DBirth"), "ecg/ecg")["datatype"] == "INT16_ARRAY"
        assert of(await told("DData"), "ecg/ecg")["value"] == [1, -2, 300]
        edge_node.report([Metric("Health/backlog", datatype=DataType.INT64, value=2)])
        assert of(await told("NData"), "Health/backlog")["value"] == 2

        their_host.do("rebirth lab gw-2")
        again = await told("NBirth")
        assert (again["seq"], of(again, "bdSeq")["value"], of(again, "Health/backlog")["value"]) == (0, 0, 2)
        stored = of(await told("DData"), "ecg/ecg")
        assert (stored["value"], stored["is_historical"]) == ([1, -2, 300], True)

        their_host.do("state their-lab offline")
        assert of(await told("NDeath"), "bdSeq")["value"] == 0
        their_host.do("state their-lab online")
        assert of(await told("NBirth"), "bdSeq")["value"] > 0

    async def live(told: Callable[[str], Awaitable[dict[str, Any]]]) -> None:
        loop = asyncio.get_running_loop()
        spool = Spool(
            tmp_path / "spool.sqlite",
            commit_s=0.02,
            on_commit=lambda: loop.call_soon_threadsafe(lambda: edge_node.committed()),
        )
        brokers = [Broker("127.0.0.1", port)]
        edge_node = EdgeNode(node, host="their-lab", brokers=brokers, spool=spool, clock=CLOCK, stall_s=60)
        edge_node.device_online("strap", (ECG,), {})
        edge_node.report([Metric("Health/backlog", datatype=DataType.INT64, value=1)])
        spool.put("strap", ECG, lambda seq, number: encode_record(block, spool_seq=seq, stream_number=number))
        running = asyncio.create_task(edge_node.run())
        try:
            await converse(edge_node, told)
        finally:
            running.cancel()
            ended, _ = await asyncio.wait({running}, timeout=10)
            assert ended
            spool.close()

    asyncio.run(live(lambda kind: asyncio.to_thread(their_host.message, kind)))


def test_their_host_reads_the_state_of_ours(their_side: Callable[[str], Any], port: int) -> None:
    their_host = their_side("host")
    host = MqttHost(Broker("127.0.0.1", port), host_id="lab-7", clock=CLOCK)
    host.start(lambda _: None)
    assert their_host.message("State", "STATE/lab-7")["online"] is True
    host.stop()
    assert their_host.message("State", "STATE/lab-7")["online"] is False
