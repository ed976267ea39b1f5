"""What an edge node says and understands (Sparkplug 3.0), without I/O.

One `EdgeNodeSession` lives as long as the gateway. For every MQTT connection: `connecting()` gives the Will,
after CONNACK subscribe to `subscriptions`, and once the primary host is online publish `births()`; then data,
births and deaths of devices as they come, and `death()` before a planned disconnect. Whatever arrives goes
through `receive()`, which answers with what it means for the caller.

On top of Sparkplug, two metrics of the node tell the recorder about the spool (`Spool/incarnation` names it,
`Spool/oldest_seq` is the first block not yet known to be durable) and one command metric, `Spool/watermark`,
tells the gateway up to which block the recorder has stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from protocols.errors import DecodeError
from protocols.samples import Stream
from protocols.sparkplug.blocks import birth_metrics, mark_historical
from protocols.sparkplug.payload import DataType, Metric, decode_payload, encode_header, encode_payload
from protocols.sparkplug.topics import Message, MessageType, NodeId, parse_topic, state_topic

REBIRTH: Final = "Node Control/Rebirth"
BD_SEQ: Final = "bdSeq"
INCARNATION: Final = "Spool/incarnation"
OLDEST_SEQ: Final = "Spool/oldest_seq"
WATERMARK: Final = "Spool/watermark"
PROPERTY: Final = "Properties/"


@dataclass(frozen=True, slots=True)
class Rebirth:
    """The host asks for the births again."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """Every block of spool `incarnation` up to and including `seq` is durable."""

    incarnation: int
    seq: int


@dataclass(frozen=True, slots=True)
class HostState:
    """The primary host went online or offline."""

    online: bool


@dataclass(frozen=True, slots=True)
class HostDoubted:
    """The host is said to be online by a statement older than one that it is not: a new connection tells."""


Command = Rebirth | Watermark | HostState | HostDoubted


@dataclass(frozen=True, slots=True)
class DeviceBirth:
    """What a device's birth announces: its streams by their number in the spool, and its properties."""

    streams: Mapping[int, Stream]
    properties: Mapping[str, str] = field(default_factory=dict)


class EdgeNodeSession:
    """The state of one edge node towards its host.

    Parameters
    ----------
    node
        Group and name.
    host_id
        The primary host application.
    incarnation
        Names the spool whose blocks are published.
    bd_seq
        The birth-death number of the last connection, -1 before the first; keep `bd_seq` for the next start.
    """

    def __init__(self, node: NodeId, *, host_id: str, incarnation: int, bd_seq: int = -1) -> None:
        self.node = node
        self.bd_seq = bd_seq
        self.host_online = False
        self._incarnation = incarnation
        self._state_topic = state_topic(host_id)
        self._host_timestamp_ms = -1
        self._seq = 0
        self._devices: dict[str, DeviceBirth] = {}

    @property
    def subscriptions(self) -> Sequence[tuple[str, int]]:
        """Topics and QoS to subscribe to before anything is published."""
        return [(self.node.topic(MessageType.NCMD), 1), (self._state_topic, 1)]

    def connecting(self, now_ms: int) -> Message:
        """Begin a connection: return its Will, an NDEATH with the next birth-death number."""
        self.bd_seq = (self.bd_seq + 1) % 256
        self.host_online = False
        self._host_timestamp_ms = -1
        return self._death(now_ms, qos=1)

    def births(self, now_ms: int, *, oldest_seq: int) -> list[Message]:
        """Return the NBIRTH and a DBIRTH for every device that is online."""
        metrics = [
            self._bd_seq_metric(now_ms),
            Metric(REBIRTH, datatype=DataType.BOOLEAN, value=False, timestamp_ms=now_ms),
            Metric(INCARNATION, datatype=DataType.UINT64, value=self._incarnation, timestamp_ms=now_ms),
            Metric(OLDEST_SEQ, datatype=DataType.UINT64, value=oldest_seq, timestamp_ms=now_ms),
        ]
        self._seq = 0
        topic = self.node.topic(MessageType.NBIRTH)
        birth = Message(topic, encode_payload(metrics, timestamp_ms=now_ms, seq=self._next_seq()))
        return [birth, *(self._device_birth(device, now_ms) for device in self._devices)]

    def device_birth(self, device: str, birth: DeviceBirth, now_ms: int) -> Message:
        """Bring a device online, or announce its changed birth; return its DBIRTH.

        Raises
        ------
        DefinitionError
            If a stream cannot be announced.
        """
        self._devices[device] = birth
        return self._device_birth(device, now_ms)

    def device_death(self, device: str, now_ms: int) -> Message | None:
        """Take a device offline; return its DDEATH, or None if it was not online."""
        if self._devices.pop(device, None) is None:
            return None
        topic = self.node.topic(MessageType.DDEATH, device)
        return Message(topic, encode_payload([], timestamp_ms=now_ms, seq=self._next_seq()))

    def data(self, device: str, body: bytes, now_ms: int, *, historical: bool = False) -> Message:
        """Return a DDATA that carries a body made by `blocks.encode_block`."""
        if historical:
            body = mark_historical(body)
        header = encode_header(timestamp_ms=now_ms, seq=self._next_seq())
        return Message(self.node.topic(MessageType.DDATA, device), header + body)

    def death(self, now_ms: int) -> Message:
        """Return the NDEATH to publish before a planned disconnect."""
        return self._death(now_ms, qos=0)

    def receive(self, topic: str, payload: bytes) -> list[Command]:
        """Return what a message means for this node; nothing for what is not addressed to it.

        Raises
        ------
        DecodeError
            If a message to this node is not what Sparkplug and this platform say.
        """
        if topic == self._state_topic:
            return self._receive_state(payload)
        if topic != self.node.topic(MessageType.NCMD):
            return []
        parse_topic(topic)
        metrics = {m.name: m for m in decode_payload(payload).metrics if m.name is not None}
        commands: list[Command] = []
        if REBIRTH in metrics and metrics[REBIRTH].value is True:
            commands.append(Rebirth())
        if WATERMARK in metrics:
            commands.append(_watermark(metrics))
        return commands

    def _receive_state(self, payload: bytes) -> list[Command]:
        online, timestamp_ms = decode_state(payload)
        if timestamp_ms < self._host_timestamp_ms:
            return [HostDoubted()] if online and not self.host_online else []
        self._host_timestamp_ms = timestamp_ms
        if online == self.host_online:
            return []
        self.host_online = online
        return [HostState(online)]

    def _device_birth(self, device: str, now_ms: int) -> Message:
        birth = self._devices[device]
        metrics = [
            Metric(PROPERTY + name, datatype=DataType.STRING, value=value, timestamp_ms=now_ms)
            for name, value in birth.properties.items()
        ]
        for number, stream in birth.streams.items():
            metrics += birth_metrics(stream, stream_number=number, timestamp_ms=now_ms)
        payload = encode_payload(metrics, timestamp_ms=now_ms, seq=self._next_seq())
        return Message(self.node.topic(MessageType.DBIRTH, device), payload)

    def _death(self, now_ms: int, *, qos: int) -> Message:
        payload = encode_payload([self._bd_seq_metric(now_ms)], timestamp_ms=now_ms)
        return Message(self.node.topic(MessageType.NDEATH), payload, qos=qos)

    def _bd_seq_metric(self, now_ms: int) -> Metric:
        return Metric(BD_SEQ, datatype=DataType.INT64, value=self.bd_seq, timestamp_ms=now_ms)

    def _next_seq(self) -> int:
        seq = self._seq
        self._seq = (seq + 1) % 256
        return seq


def encode_state(*, online: bool, timestamp_ms: int) -> bytes:
    """Return a host application's STATE payload (specification 3.0, section 6.4.27)."""
    return json.dumps({"online": online, "timestamp": timestamp_ms}).encode()


def decode_state(payload: bytes) -> tuple[bool, int]:
    """Return whether the host is online, and the timestamp in ms that the statement carries.

    Raises
    ------
    DecodeError
        If the payload is not a STATE payload.
    """
    try:
        state = json.loads(payload)
        online, timestamp_ms = state["online"], state["timestamp"]
    except (ValueError, TypeError, KeyError, RecursionError):
        online = timestamp_ms = None
    if not isinstance(online, bool) or not isinstance(timestamp_ms, int) or isinstance(timestamp_ms, bool):
        raise DecodeError(f"STATE {payload[:80]!r}, expected JSON with online and timestamp")
    return online, timestamp_ms


def _watermark(metrics: Mapping[str, Metric]) -> Watermark:
    seq = metrics[WATERMARK].value
    incarnation = metrics[INCARNATION].value if INCARNATION in metrics else None
    if not isinstance(seq, int) or not isinstance(incarnation, int):
        raise DecodeError(f"watermark {seq!r} of incarnation {incarnation!r}, expected two integers")
    return Watermark(incarnation, seq)
