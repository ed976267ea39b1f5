"""The recorder's host, packet by packet, as a broker sees it that answers when the test likes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from gateway.config import Broker
from lab_api.host import HostCounts, MqttHost
from protocols.lab_clock import LabClock
from protocols.samples import Channel, Stream
from protocols.sparkplug.edge_node import DeviceBirth, EdgeNodeSession
from protocols.sparkplug.host import Event, HostDisconnected, NodeBorn, NodeIdShared, PayloadRejected
from protocols.sparkplug.payload import DataType, Metric
from protocols.sparkplug.topics import Message, NodeId
from tests.sparkplug_interop.scripted_broker import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    Packet,
    ScriptedBroker,
)

CLOCK = LabClock(time.time_ns, time.monotonic_ns)
TIMEOUT_S = 20.0


@pytest.fixture
def broker() -> Iterator[ScriptedBroker]:
    broker = ScriptedBroker()
    yield broker
    broker.close()


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def host(broker: ScriptedBroker, events: list[Event]) -> Iterator[MqttHost]:
    host = MqttHost(Broker("127.0.0.1", broker.port), host_id="lab", clock=CLOCK, reorder_timeout_ms=50)
    host.start(events.append)
    broker.next_connection()
    yield host
    broker.close()
    wait_until(lambda: not host.connected)
    host.stop()


def get_online(broker: ScriptedBroker) -> Packet:
    connect = broker.read(CONNECT)
    broker.send(CONNACK, b"\0\0")
    broker.accept_subscription()
    broker.take_state()
    return connect


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def wait_for(events: list[Event], kind: type) -> list[Event]:
    wait_until(lambda: any(isinstance(event, kind) for event in events))
    return [event for event in events if isinstance(event, kind)]


def gateway(incarnation: int) -> EdgeNodeSession:
    session = EdgeNodeSession(NodeId("lab", "gw-1"), host_id="lab", incarnation=incarnation)
    session.connecting(0)
    stream = Stream("ecg", (Channel("ecg", "uV"),), "int32", 130.0)
    session.device_birth("strap", DeviceBirth({1: stream}), 0)
    return session


def test_it_connects_with_a_clean_session_and_a_retained_will_that_says_offline(
    broker: ScriptedBroker, host: MqttHost
) -> None:
    now_ms = time.time_ns() // 1_000_000
    connect = get_online(broker).body
    flags = connect[7]
    clean_session, will_flag, will_qos, will_retain = flags & 2, flags & 4, flags >> 3 & 3, flags & 32
    assert (bool(clean_session), bool(will_flag), will_qos, bool(will_retain)) == (True, True, 1, True)
    assert b"spBv1.0/STATE/lab" in connect
    will = json.loads(connect[connect.index(b"{") :])
    assert will["online"] is False
    assert abs(will["timestamp"] - now_ms) < 60_000


def test_it_says_that_it_is_online_first_of_all_and_only_once_it_hears_the_nodes(
    broker: ScriptedBroker, host: MqttHost
) -> None:
    connect = broker.read(CONNECT).body
    broker.send(CONNACK, b"\0\0")
    subscription = broker.read(SUBSCRIBE)
    assert subscription.body[2:] == b"\0\x09spBv1.0/#\x01"
    assert broker.is_silent(0.2)
    broker.send(SUBACK, subscription.body[:2] + b"\x01")
    state, document = broker.take_state()
    assert (state.topic, state.flags >> 1 & 3, state.flags & 1) == ("spBv1.0/STATE/lab", 1, 1)
    assert document == {**json.loads(connect[connect.index(b"{") :]), "online": True}


def test_it_is_not_online_where_it_may_not_hear_the_nodes(
    broker: ScriptedBroker, host: MqttHost, caplog: pytest.LogCaptureFixture
) -> None:
    broker.read(CONNECT)
    broker.send(CONNACK, b"\0\0")
    broker.accept_subscription(granted=0x80)
    assert broker.is_silent(0.3)
    assert "refuses the subscription" in caplog.text


def test_before_it_disconnects_it_says_that_it_goes(broker: ScriptedBroker, events: list[Event]) -> None:
    host = MqttHost(Broker("127.0.0.1", broker.port), host_id="lab", clock=CLOCK)
    host.start(events.append)
    broker.next_connection()
    get_online(broker)
    began_ms = time.time_ns() // 1_000_000
    leaving = threading.Thread(target=host.stop)
    leaving.start()
    state, document = broker.take_state()
    assert (state.topic, state.flags >> 1 & 3, state.flags & 1) == ("spBv1.0/STATE/lab", 1, 1)
    assert document["online"] is False
    assert isinstance(document["timestamp"], int)
    assert document["timestamp"] >= began_ms
    broker.read(DISCONNECT)
    leaving.join()


def test_a_lost_connection_is_told_and_the_next_one_begins_anew(
    broker: ScriptedBroker, host: MqttHost, events: list[Event]
) -> None:
    first = get_online(broker).body
    broker.cut()
    wait_for(events, HostDisconnected)
    broker.next_connection()
    second = get_online(broker).body
    times = [json.loads(connect[connect.index(b"{") :])["timestamp"] for connect in (first, second)]
    assert times[0] < times[1]


def test_whoever_says_that_it_is_offline_is_contradicted_at_once(
    broker: ScriptedBroker, host: MqttHost
) -> None:
    get_online(broker)
    broker.publish(Message("spBv1.0/STATE/lab", b'{"online": false, "timestamp": 9999999999999}'))
    _, document = broker.take_state()
    assert document["online"] is True


def test_a_message_that_stays_missing_is_noticed_though_nothing_more_arrives(
    broker: ScriptedBroker, host: MqttHost
) -> None:
    get_online(broker)
    session = gateway(1)
    backlog = Metric("backlog", datatype=DataType.INT64, value=1)
    for message in session.births(0, oldest_seq=1, metrics=[backlog]):
        broker.publish(message)
    session.node_data([backlog], 0)  # lost
    broker.publish(session.node_data([backlog], 0))
    assert broker.read(PUBLISH).topic == "spBv1.0/lab/NCMD/gw-1"
    assert host.counts() == HostCounts(rebirth_requests=1)


def test_a_birth_that_a_broker_has_kept_says_nothing_of_who_is_there(
    broker: ScriptedBroker, host: MqttHost, events: list[Event]
) -> None:
    get_online(broker)
    old, new = gateway(1).births(0, oldest_seq=1)[0], gateway(2).births(0, oldest_seq=1)[0]
    broker.publish(replace(old, retain=True))
    broker.publish(new)
    assert [event.incarnation for event in wait_for(events, NodeBorn)] == [2]


def test_a_flood_of_senseless_messages_is_counted_and_logged_once(
    broker: ScriptedBroker, host: MqttHost, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    get_online(broker)
    for _ in range(500):
        broker.publish(Message("spBv1.0/lab/NBIRTH/gw-1", b"\xff"))
    wait_until(lambda: host.counts().rejected_messages == 500)
    assert len(wait_for(events, PayloadRejected)) == 500
    assert caplog.text.count("not understood") < 5


def test_two_gateways_with_one_id_are_counted_and_logged_once(
    broker: ScriptedBroker, host: MqttHost, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    get_online(broker)
    one, two = gateway(1), gateway(2)
    for session in (one, two, one, two, one):
        for message in session.births(0, oldest_seq=1):
            broker.publish(message)
    wait_until(lambda: host.counts().id_conflicts == 3)
    assert len(wait_for(events, NodeIdShared)) == 3
    assert caplog.text.count("two gateways go by the id lab/gw-1") == 1
