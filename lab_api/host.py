"""The recorder's place at the broker: a Sparkplug host application over paho-mqtt.

paho's network thread connects and reconnects by itself. What arrives becomes events, which are handed on in
that thread; messages to gateways that follow are sent at once. A second thread lets time pass, for what is
waited for in vain. Never are two events handed on at once, and whoever takes them must not keep the threads
waiting for as long as the keep-alive lasts.

However many senseless messages arrive, few lines are logged; `counts` tells how many there were.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from gateway.config import Broker
from protocols.lab_clock import LabClock
from protocols.sparkplug.host import (
    REBIRTH_INTERVAL_MS,
    REORDER_TIMEOUT_MS,
    Event,
    HostApplication,
    NodeIdShared,
    PayloadRejected,
    SendMessage,
)
from protocols.sparkplug.topics import NAMESPACE, Message, NodeId

KEEPALIVE_S: Final = 10

_CONNECT_TIMEOUT_S: Final = 5.0
_MIN_PAUSE_S: Final = 1
_MAX_PAUSE_S: Final = 5
_LEAVE_TIMEOUT_S: Final = 2.0
_TICK_S: Final = 0.2
_REJECTION_LOG_S: Final = 10.0
_MAX_NODES_LOGGED: Final = 1000

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

    def counts(self) -> HostCounts:
        """Return what has been seen since the start."""


@dataclass(frozen=True, slots=True)
class HostCounts:
    """What a host has seen since its start.

    Parameters
    ----------
    rejected_messages
        Messages that could not be understood.
    rebirth_requests
        How often a node was asked for its births.
    id_conflicts
        Births that show that two gateways go by one id.
    """

    rejected_messages: int = 0
    rebirth_requests: int = 0
    id_conflicts: int = 0


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
    reorder_timeout_ms
        Real time for which a message that is missing in a node's sequence is waited for.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        host_id: str,
        clock: LabClock,
        reorder_timeout_ms: int = REORDER_TIMEOUT_MS,
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._application = HostApplication(
            host_id,
            rebirth_interval_ms=round(REBIRTH_INTERVAL_MS * clock.speed),
            reorder_timeout_ms=round(reorder_timeout_ms * clock.speed),
        )
        self._deliver: Callable[[Event], None] | None = None
        self._one_at_a_time = threading.Lock()
        self._stopping = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="host-timer", daemon=True)
        self._reported = ""
        self._rejected = self._rebirths = self._conflicts = 0
        self._rejections_logged = 0
        self._next_rejection_log_s = 0.0
        self._nodes_logged: set[NodeId] = set()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.connect_timeout = _CONNECT_TIMEOUT_S
        self._client.reconnect_delay_set(_MIN_PAUSE_S, _MAX_PAUSE_S)
        if broker.username is not None:
            self._client.username_pw_set(broker.username, broker.password)
        if (context := broker.tls_context()) is not None:
            self._client.tls_set_context(context)
        self._client.on_pre_connect = self._on_pre_connect
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    @property
    def connected(self) -> bool:
        """Whether the broker is reached right now."""
        return self._client.is_connected()

    def counts(self) -> HostCounts:
        """Return what has been seen since the start."""
        return HostCounts(self._rejected, self._rebirths, self._conflicts)

    def start(self, deliver: Callable[[Event], None]) -> None:
        """Connect in a thread of its own, as often as it takes."""
        self._deliver = deliver
        self._client.connect_async(self._broker.host, self._broker.port, KEEPALIVE_S)
        self._client.loop_start()
        self._ticker.start()

    def stop(self) -> None:
        """Say that the host is offline and disconnect."""
        self._deliver = None
        self._stopping.set()
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

    def _on_subscribe(self, _client: Client, _data: Any, _id: int, reasons: Any, _properties: Any) -> None:
        """Be online once the broker has promised the nodes' messages, and not before."""
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self._report(f"refuses the subscription ({', '.join(refused)})")
        elif self._deliver is not None:
            self._publish(self._application.online())

    def _on_connect_fail(self, _client: Client, _data: Any) -> None:
        self._report("not reached")

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        deliver = self._deliver
        if deliver is None:
            return
        self._report(f"connection lost ({reason})")
        self._hand_on(lambda: self._application.disconnected(self._now_ms()), deliver)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        deliver = self._deliver
        if deliver is None:  # leaving: its own goodbye must not be contradicted
            return
        topic, payload = message.topic, bytes(message.payload)
        if message.retain and not topic.startswith(f"{NAMESPACE}/STATE/"):
            return  # nothing of a node is ever retained, and what is old says nothing of who is there now
        self._hand_on(lambda: self._application.receive(topic, payload, self._now_ms()), deliver)

    def _tick(self) -> None:
        """Let time pass: the whole life of the second thread."""
        while not self._stopping.wait(_TICK_S):
            deliver = self._deliver
            if deliver is not None:
                self._hand_on(lambda: self._application.tick(self._now_ms()), deliver)

    def _hand_on(self, happen: Callable[[], Iterable[Event]], deliver: Callable[[Event], None]) -> None:
        """Let something happen to the application, and act on its events."""
        try:
            with self._one_at_a_time:
                for event in happen():
                    self._note(event)
                    if isinstance(event, SendMessage):
                        self._publish(event.message)
                    else:
                        deliver(event)
        except Exception:  # noqa: BLE001 - let out, it would end the thread, and with it the recording
            _log.exception("defect in taking a message")

    def _note(self, event: Event) -> None:
        """Count what ought not to happen, and log it sparingly."""
        match event:
            case PayloadRejected(topic=topic, reason=reason):
                self._rejected += 1
                if time.monotonic() >= self._next_rejection_log_s:
                    others = self._rejected - self._rejections_logged - 1
                    self._rejections_logged = self._rejected
                    self._next_rejection_log_s = time.monotonic() + _REJECTION_LOG_S
                    _log.warning("message on %s not understood, nor %d before it: %s", topic, others, reason)
            case NodeIdShared(node=node):
                self._conflicts += 1
                if node not in self._nodes_logged and len(self._nodes_logged) < _MAX_NODES_LOGGED:
                    self._nodes_logged.add(node)
                    _log.error("two gateways go by the id %s: give one of them another name", node)
            case SendMessage(message=message) if "/NCMD/" in message.topic:
                self._rebirths += 1
            case _:
                pass

    def _report(self, state: str) -> None:
        """Log a change of the connection's state, once."""
        if state != self._reported:
            self._reported = state
            _log.log(
                logging.INFO if state == "connected" else logging.WARNING, "broker %s %s", self._broker, state
            )
