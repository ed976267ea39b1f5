"""A gateway's connection, packet by packet."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from gateway.config import Broker
from gateway.mqtt_connection import MqttConnection
from protocols.sparkplug.edge_node import EdgeNodeSession
from protocols.sparkplug.topics import NodeId
from tests.sparkplug_interop.scripted_broker import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBLISH,
    SUBSCRIBE,
    ScriptedBroker,
)


@pytest.fixture
def broker() -> Iterator[ScriptedBroker]:
    broker = ScriptedBroker()
    yield broker
    broker.close()


def test_a_gateway_connects_with_a_clean_session_and_its_will_and_says_goodbye_before_it_disconnects(
    broker: ScriptedBroker,
) -> None:
    session = EdgeNodeSession(NodeId("lab", "gw-1"), host_id="lab", incarnation=5)
    will = session.connecting(0)

    async def live() -> None:
        async with MqttConnection(Broker("127.0.0.1", broker.port), will) as connection:
            connection.subscribe(list(session.subscriptions))
            connection.publish(session.births(0, oldest_seq=1)[0])
            connection.publish(session.death(0))

    gateway = threading.Thread(target=lambda: asyncio.run(live()))
    gateway.start()
    broker.next_connection()
    connect = broker.read(CONNECT).body
    flags = connect[7]
    assert (flags & 2, flags & 4, flags >> 3 & 3, flags & 32) == (2, 4, 1, 0)
    assert will.topic.encode() in connect
    assert will.payload in connect
    broker.send(CONNACK, b"\0\0")
    assert broker.read(SUBSCRIBE).body[2:] == b"\0\x15spBv1.0/lab/NCMD/gw-1\x01\0\x11spBv1.0/STATE/lab\x01"
    birth, death = broker.read(PUBLISH), broker.read(PUBLISH)
    assert (birth.topic, birth.flags) == ("spBv1.0/lab/NBIRTH/gw-1", 0)
    assert (death.topic, death.flags) == ("spBv1.0/lab/NDEATH/gw-1", 0)
    broker.read(DISCONNECT)
    gateway.join()
