"""One connection to a broker, and what it says when there is none."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client

from gateway import mqtt_connection
from gateway.broker import Broker
from gateway.mqtt_connection import Arrived, Event, LoginError, Lost, MqttConnection
from protocols.errors import TransportError
from protocols.sparkplug.topics import Message

WILL = Message("will", b"gone", 1)


def failure(broker: Broker) -> TransportError:
    async def connect() -> None:
        async with MqttConnection(broker, WILL):
            pass

    try:
        asyncio.run(connect())
    except TransportError as error:
        return error
    pytest.fail("connected")


@pytest.fixture
def strange_server() -> Iterator[Callable[[Callable[[socket.socket], Any]], Broker]]:
    """Starts a server that does something else with its one connection than speak MQTT."""
    threads: list[threading.Thread] = []

    def start(behave: Callable[[socket.socket], Any]) -> Broker:
        listener = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            with listener, listener.accept()[0] as link:
                behave(link)

        threads.append(threading.Thread(target=serve))
        threads[0].start()
        return Broker("127.0.0.1", listener.getsockname()[1])

    yield start
    for thread in threads:
        thread.join()


def test_a_broker_that_is_not_there_is_named() -> None:
    error = failure(Broker("127.0.0.1", 1))
    assert "broker mqtt://127.0.0.1:1 cannot be reached: " in str(error)
    assert not isinstance(error, LoginError)


def test_a_server_that_hangs_up_has_not_refused_the_login(strange_server: Callable[..., Broker]) -> None:
    error = failure(strange_server(lambda link: link.recv(10)))
    assert "refused the connection: the connection has ended" in str(error)
    assert "mqtt://127.0.0.1:" in str(error)
    assert not isinstance(error, LoginError)


@pytest.mark.parametrize(
    ("code", "is_login", "reason"),
    [(3, False, "Server unavailable"), (4, True, "Bad user name or password"), (5, True, "Not authorized")],
)
def test_a_refusal_is_told_apart_from_a_broker_that_cannot(
    strange_server: Callable[..., Broker], code: int, is_login: bool, reason: str
) -> None:
    def answer(link: socket.socket) -> None:
        link.recv(1000)
        link.sendall(bytes([0x20, 2, 0, code]))

    error = failure(strange_server(answer))
    assert f"refused the connection: {reason}" in str(error)
    assert isinstance(error, LoginError) is is_login


def test_a_server_that_says_nothing_is_given_up(
    strange_server: Callable[..., Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_connection, "_CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(mqtt_connection, "_LEAVE_TIMEOUT_S", 0.1)

    def listen(link: socket.socket) -> None:
        while link.recv(1000):
            pass

    assert "does not answer, expected within 0.3 s" in str(failure(strange_server(listen)))


def test_a_cancellation_while_leaving_leaves_no_thread_behind(
    strange_server: Callable[..., Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_connection, "_KEEPALIVE_S", 60)
    frozen, threads = threading.Event(), list[threading.Thread]()

    def accept_and_freeze(link: socket.socket) -> None:
        link.recv(1000)
        link.sendall(bytes([0x20, 2, 0, 0]))
        frozen.wait(60)

    async def live(broker: Broker) -> None:
        async with MqttConnection(broker, WILL) as connection:
            threads.extend(t for t in threading.enumerate() if t.name.startswith("paho"))
            connection.publish(Message("a", bytes(32 << 20)))  # more than the system takes on its own

    async def scenario() -> None:
        leaving = asyncio.create_task(live(strange_server(accept_and_freeze)))
        while not threads:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        for thread in threads:
            await asyncio.to_thread(thread.join, 10)
        still_there = [thread.name for thread in threads if thread.is_alive()]
        frozen.set()
        assert leaving.cancelled()
        assert not still_there

    asyncio.run(scenario())


def test_a_cancellation_while_connecting_leaves_no_link_open(
    strange_server: Callable[..., Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    connect = Client.connect

    def slowly_connect(client: Client, *address: Any) -> Any:
        begun.set()
        go_on.wait(10)
        return connect(client, *address)

    def read_to_the_end(link: socket.socket) -> None:
        link.settimeout(10)
        with contextlib.suppress(TimeoutError):
            while link.recv(1000):
                pass
            ended.set()

    async def scenario() -> None:
        connection = MqttConnection(strange_server(read_to_the_end), WILL)
        entering = asyncio.create_task(connection.__aenter__())
        await asyncio.to_thread(begun.wait, 10)
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
        assert entering.cancelled()
        go_on.set()
        assert await asyncio.to_thread(ended.wait, 5), "the server still has its link"

    monkeypatch.setattr(Client, "connect", slowly_connect)
    asyncio.run(scenario())


def test_a_certificate_that_has_gone_is_named_and_the_broker_not_asked(tmp_path: Path) -> None:
    error = failure(Broker("127.0.0.1", 1, tls=True, certificate=tmp_path / "gone.pem"))
    assert isinstance(error, LoginError)
    assert f"not asked: {tmp_path}/gone.pem: " in str(error)


@pytest.mark.mosquitto
def test_messages_come_and_a_broker_that_dies_is_noticed(mosquitto: Any) -> None:
    async def events_of(connection: MqttConnection) -> list[Event]:
        while not (events := connection.take_events()):
            await connection.wait(5)
        return events

    async def scenario() -> tuple[list[Event], list[Event]]:
        async with MqttConnection(Broker("127.0.0.1", mosquitto.port), WILL) as connection:
            connection.subscribe([("a/#", 1)])
            connection.publish(Message("a/b", b"said", 1))
            heard = await events_of(connection)
            mosquitto.kill()
            return heard, await events_of(connection)

    heard, ended = asyncio.run(scenario())
    assert heard == [Arrived("a/b", b"said")]
    assert isinstance(ended[0], Lost)
    assert not ended[0].refused
    assert "the connection has ended" in ended[0].reason
