"""One MQTT connection over paho-mqtt, as an event loop sees it.

paho's network thread only puts events into the loop. Every connection has a client of its own, so that nothing
meant for one connection can be sent over the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from gateway.broker import Broker
from protocols.errors import DefinitionError, TransportError
from protocols.sparkplug.topics import Message

_KEEPALIVE_S: Final = 10
_CONNECT_TIMEOUT_S: Final = 5.0
_LEAVE_TIMEOUT_S: Final = 2.0
_REFUSALS: Final = ("Bad user name or password", "Not authorized")


class LoginError(TransportError):
    """The broker is there, but does not accept this login: trying again soon is of no use."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker has accepted the connection."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection has ended, or the broker refused the login."""

    reason: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message has come."""

    topic: str
    payload: bytes


Event = Connected | Lost | Arrived


class MqttConnection:
    """One MQTT connection: connected when entered, its events in order, gone when left."""

    def __init__(self, broker: Broker, will: Message) -> None:
        self._broker = broker
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._woken = asyncio.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        self._client.connect_timeout = _CONNECT_TIMEOUT_S
        self._client.will_set(will.topic, will.payload, will.qos, will.retain)
        if broker.username is not None:
            self._client.username_pw_set(broker.username, broker.password)
        self._logged_in = self._given_up = False
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    async def __aenter__(self) -> Self:
        """Connect; raises TransportError that names broker and reason, LoginError if it is the login."""
        address = (self._broker.host, self._broker.port, _KEEPALIVE_S)
        try:
            if (context := self._broker.tls_context()) is not None:
                self._client.tls_set_context(context)
            await asyncio.to_thread(self._connect, *address)
        except asyncio.CancelledError:
            self._give_up()
            raise
        except DefinitionError as error:
            raise LoginError(f"broker {self._broker} not asked: {error}") from error
        except (OSError, ValueError) as error:
            raise TransportError(f"broker {self._broker} cannot be reached: {error}") from error
        self._client.loop_start()
        try:
            await self._accepted()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Send what was published, disconnect."""
        await self._leave()

    def subscribe(self, subscriptions: list[tuple[str, int]]) -> None:
        """Ask for topics with their QoS."""
        self._client.subscribe(subscriptions)

    def publish(self, message: Message) -> None:
        """Hand a message to the network thread."""
        self._client.publish(message.topic, message.payload, message.qos, message.retain)

    def take_events(self) -> list[Event]:
        """Return what has happened since the last call."""
        events = list(self._events)
        self._events.clear()
        return events

    def wake(self) -> None:
        """End a `wait`."""
        self._woken.set()

    async def wait(self, timeout_s: float) -> None:
        """Wait for events, at most for `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        self._woken.clear()

    def _connect(self, *address: Any) -> None:
        """Connect, in a thread that no cancellation ends."""
        self._client.connect(*address)
        if self._given_up:
            self._client.disconnect()

    def _give_up(self) -> None:
        """Have whichever of the two threads comes second close the link."""
        self._given_up = True
        self._client.disconnect()

    async def _accepted(self) -> None:
        """Wait for the broker's answer to CONNECT."""
        deadline_s = self._loop.time() + _CONNECT_TIMEOUT_S
        while True:
            for event in self.take_events():
                if isinstance(event, Connected):
                    return
                if isinstance(event, Lost):
                    kind = LoginError if event.refused else TransportError
                    raise kind(f"broker {self._broker} refused the connection: {event.reason}")
            if self._loop.time() > deadline_s:
                raise TransportError(
                    f"broker {self._broker} does not answer, expected within {_CONNECT_TIMEOUT_S} s"
                )
            await self.wait(deadline_s - self._loop.time())

    async def _leave(self) -> None:
        """Disconnect; the network thread ends once everything is written, which a dead link may prevent."""
        self._client.on_disconnect = None
        link = self._client.socket()
        self._client.disconnect()
        stopped = asyncio.create_task(asyncio.to_thread(self._client.loop_stop))
        try:
            await asyncio.wait({stopped}, timeout=_LEAVE_TIMEOUT_S)
        finally:  # also when cancelled: nothing could end the threads afterwards
            if not stopped.done() and isinstance(link, socket.socket):
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)
        await stopped
        del self._client  # paho closes its own sockets only when it is freed

    def _put(self, event: Event) -> None:
        self._events.append(event)
        self._woken.set()

    def _from_thread(self, event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._put, event)

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._logged_in = not reason.is_failure
        refused = str(reason) in _REFUSALS
        self._from_thread(Lost(str(reason), refused) if reason.is_failure else Connected())

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if self._broker.tls and not self._logged_in:
            # in TLS 1.3 the broker judges our certificate after the handshake; some just hang up then
            reason = "it was ended at login, expected a certificate that is neither revoked nor expired"
            self._from_thread(Lost(reason, refused=True))
        else:
            self._from_thread(Lost(f"the connection has ended ({reason})"))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._from_thread(Arrived(message.topic, bytes(message.payload)))
