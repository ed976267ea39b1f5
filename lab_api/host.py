"""The recorder's place at the broker: a Sparkplug host application over paho-mqtt.

paho's network thread connects and reconnects by itself. What arrives becomes events, which are handed on in
that thread; messages to gateways that follow are sent at once. Whoever takes the events must not keep the
thread waiting for as long as the keep-alive lasts.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from gateway.config import Broker
from protocols.lab_clock import LabClock
from protocols.sparkplug.host import REBIRTH_INTERVAL_MS, Event, HostApplication, SendMessage
from protocols.sparkplug.topics import Message, NodeId

KEEPALIVE_S: Final = 10

_CONNECT_TIMEOUT_S: Final = 5.0
_MIN_PAUSE_S: Final = 1
_MAX_PAUSE_S: Final = 5
_LEAVE_TIMEOUT_S: Final = 2.0

_log = logging.getLogger(__name__)


class Host(Protocol):
    """What a recorder needs of the way to its gateways."""

    @property
    def connected(self) -> bool:
        """Whether the broker is reached right now."""

    def start(self, deliver: Callable[[Event], None]) -> None:
        """Begin to hand events to `deliver`, from whatever thread."""

    def stop(self) -> None:
        """Say goodbye; no event is delivered after it."""

    def send_watermark(self, node: NodeId, incarnation: int, seq: int) -> None:
        """Tell a gateway that all its blocks up to `seq` are durable; it may get lost."""


class MqttHost:
    """A `Host` at an MQTT broker.

    Parameters
    ----------
    broker
        Where to connect; it need not be there yet.
    host_id
        The name that gateways know as their primary host.
    clock
        Stamps the messages.
    """

    def __init__(self, broker: Broker, *, host_id: str, clock: LabClock) -> None:
        self._broker = broker
        self._clock = clock
        self._application = HostApplication(
            host_id, rebirth_interval_ms=round(REBIRTH_INTERVAL_MS * clock.speed)
        )
        self._deliver: Callable[[Event], None] | None = None
        self._reported = ""
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.connect_timeout = _CONNECT_TIMEOUT_S
        self._client.reconnect_delay_set(_MIN_PAUSE_S, _MAX_PAUSE_S)
        if broker.username is not None:
            self._client.username_pw_set(broker.username, broker.password)
        if broker.tls:
            self._client.tls_set_context(ssl.create_default_context())
        self._client.on_pre_connect = self._on_pre_connect
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    @property
    def connected(self) -> bool:
        """Whether the broker is reached right now."""
        return self._client.is_connected()

    def start(self, deliver: Callable[[Event], None]) -> None:
        """Connect in a thread of its own, as often as it takes."""
        self._deliver = deliver
        self._client.connect_async(self._broker.host, self._broker.port, KEEPALIVE_S)
        self._client.loop_start()

    def stop(self) -> None:
        """Say that the host is offline and disconnect."""
        self._deliver = None
        if self.connected:
            goodbye = self._publish(self._application.offline(self._now_ms()))
            goodbye.wait_for_publish(_LEAVE_TIMEOUT_S)
        self._client.disconnect()
        self._client.loop_stop()

    def send_watermark(self, node: NodeId, incarnation: int, seq: int) -> None:
        """Tell a gateway that all its blocks up to `seq` are durable; it may get lost."""
        self._publish(self._application.watermark(node, incarnation, seq, self._now_ms()))

    def _publish(self, message: Message) -> Any:
        return self._client.publish(message.topic, message.payload, message.qos, message.retain)

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000

    def _on_pre_connect(self, client: Client, _data: Any) -> None:
        will = self._application.connecting(self._now_ms())
        client.will_set(will.topic, will.payload, will.qos, will.retain)

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._report(f"connection refused ({reason})")
            return
        self._report("connected")
        client.subscribe(list(self._application.subscriptions))
        self._publish(self._application.online())

    def _on_connect_fail(self, _client: Client, _data: Any) -> None:
        self._report("not reached")

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if self._deliver is not None:
            self._report(f"connection lost ({reason})")

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        deliver = self._deliver
        if deliver is None:  # leaving: its own goodbye must not be contradicted
            return
        try:
            self._take(message, deliver)
        except Exception:  # noqa: BLE001 - let out, it would end paho's thread, and with it the recording
            _log.exception("defect in taking a message")

    def _take(self, message: MQTTMessage, deliver: Callable[[Event], None]) -> None:
        for event in self._application.receive(message.topic, bytes(message.payload), self._now_ms()):
            if isinstance(event, SendMessage):
                self._publish(event.message)
            else:
                deliver(event)

    def _report(self, state: str) -> None:
        """Log a change of the connection's state, once."""
        if state != self._reported:
            self._reported = state
            _log.log(
                logging.INFO if state == "connected" else logging.WARNING, "broker %s %s", self._broker, state
            )
