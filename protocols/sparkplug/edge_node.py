"""What an edge node says and understands (Sparkplug 3.0), without I/O.

One `EdgeNodeSession` lives as long as the gateway. For every MQTT connection, to whichever server:
`connecting()` gives the Will, after CONNACK subscribe to `subscriptions`, and once the primary host is online
publish `births()`; then data, births and deaths of devices as they come, and `death()` before a planned
disconnect. Whatever arrives goes through `receive()`, which answers with what it means for the caller.

What was heard of the primary host holds for one connection only, since its statements are stamped per server.
With several servers the caller goes on to the next one when the host is offline here, doubted, or silent.

Every message but a death carries as `uuid` which spool and connection it is of, so that a host can tell two
gateways that were given one id by mistake.

Metrics of a stream's blocks travel by alias. All others, of the node or beside the streams of a device, have
no alias and travel by name; a birth announces them with type and present value.

On top of Sparkplug, two metrics of the node tell the recorder about the spool (`Spool/incarnation` names it,
`Spool/oldest_seq` is the first block not yet known to be durable) and one that it writes, `Spool/watermark`,
tells the gateway up to which block the recorder has stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from protocols.errors import DecodeError, DefinitionError
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

OWN_METRICS: Final[Mapping[int | str | None, DataType]] = {
    BD_SEQ: DataType.INT64,
    REBIRTH: DataType.BOOLEAN,
    INCARNATION: DataType.UINT64,
    OLDEST_SEQ: DataType.UINT64,
    WATERMARK: DataType.UINT64,
}
"""The node's metrics that this module gives a meaning, and their types."""


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
    """The primary host is online or offline at this server: said for the first time or changed."""

    online: bool


@dataclass(frozen=True, slots=True)
class HostDoubted:
    """The host is said to be online by a statement older than one that it is not: a new connection tells."""


Command = Rebirth | Watermark | HostState | HostDoubted


@dataclass(frozen=True, slots=True)
class DeviceBirth:
    """What a device's birth announces.

    Parameters
    ----------
    streams
        By their number in the spool.
    properties
        What is known of the device, by name.
    metrics
        Metrics beside the streams, each with a name of its own, a type and its present value.
    """

    streams: Mapping[int, Stream]
    properties: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[Metric] = ()


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
        self._incarnation = incarnation
        self._session = ""
        self._state_topic = state_topic(host_id)
        self._host_online: bool | None = None
        self._state_ms = self._online_ms = -1
        self._seq = 0
        self._node_datatypes: dict[str | None, DataType | None] = {}
        self._devices: dict[str, DeviceBirth] = {}

    @property
    def host_online(self) -> bool:
        """Whether the primary host has said at this server that it is there."""
        return self._host_online is True

    @property
    def subscriptions(self) -> Sequence[tuple[str, int]]:
        """Topics and QoS to subscribe to before anything is published."""
        return [(self.node.topic(MessageType.NCMD), 1), (self._state_topic, 1)]

    def connecting(self, now_ms: int) -> Message:
        """Begin a connection: return its Will, an NDEATH with the next birth-death number."""
        self.bd_seq = (self.bd_seq + 1) % 256
        self._session = f"{self._incarnation:x}/{self.bd_seq}"
        self._host_online = None
        self._state_ms = self._online_ms = -1
        self._node_datatypes = {}
        return self._death(now_ms, qos=1)

    def births(self, now_ms: int, *, oldest_seq: int, metrics: Sequence[Metric] = ()) -> list[Message]:
        """Return the NBIRTH and a DBIRTH for every device that is online.

        Parameters
        ----------
        now_ms
            UTC of the births, and of metrics that do not say when they were taken.
        oldest_seq
            The first block not known to be durable.
        metrics
            All metrics of the node itself that `node_data` will report, with their present values.

        Raises
        ------
        DefinitionError
            If a metric has no name or type, or a name that is taken.
        """
        own: dict[str, int | bool] = {
            BD_SEQ: self.bd_seq,
            REBIRTH: False,
            INCARNATION: self._incarnation,
            OLDEST_SEQ: oldest_seq,
            WATERMARK: oldest_seq - 1,
        }
        _check_names(metrics, taken=own)
        self._node_datatypes = {metric.name: metric.datatype for metric in metrics}
        self._seq = 0
        announced = [Metric(name, datatype=OWN_METRICS[name], value=value) for name, value in own.items()]
        birth = self._message(MessageType.NBIRTH, None, [*announced, *metrics], now_ms)
        return [birth, *(self._device_birth(device, now_ms) for device in self._devices)]

    def device_birth(self, device: str, birth: DeviceBirth, now_ms: int) -> Message:
        """Bring a device online, or announce its changed birth; return its DBIRTH.

        Raises
        ------
        DefinitionError
            If a stream cannot be announced, or a metric has no name or type, or a name that is taken.
        """
        _check_names(birth.metrics, taken=(), streams=birth.streams.values())
        self._devices[device] = birth
        return self._device_birth(device, now_ms)

    def device_death(self, device: str, now_ms: int) -> Message | None:
        """Take a device offline; return its DDEATH, or None if it was not online."""
        if self._devices.pop(device, None) is None:
            return None
        return self._message(MessageType.DDEATH, device, [], now_ms)

    def data(self, device: str, body: bytes, now_ms: int, *, historical: bool = False) -> Message:
        """Return a DDATA that carries a body made by `blocks.encode_record`."""
        if historical:
            body = mark_historical(body)
        header = encode_header(timestamp_ms=now_ms, seq=self._seq, uuid=self._session)
        return self._sent(Message(self.node.topic(MessageType.DDATA, device), header + body))

    def node_data(self, metrics: Sequence[Metric], now_ms: int) -> Message:
        """Return an NDATA with those metrics of the node that have changed.

        Raises
        ------
        DefinitionError
            If the births of this connection have not announced a metric, or with another type.
        """
        _check_announced(metrics, self._node_datatypes)
        return self._message(MessageType.NDATA, None, metrics, now_ms)

    def device_data(self, device: str, metrics: Sequence[Metric], now_ms: int) -> Message:
        """Return a DDATA with those metrics beside its streams that have changed; later births tell them too.

        Raises
        ------
        DefinitionError
            If the device is not online, or its birth has not announced a metric, or with another type.
        """
        birth = self._devices.get(device, DeviceBirth({}))
        _check_announced(metrics, {metric.name: metric.datatype for metric in birth.metrics})
        changed = {metric.name: metric for metric in metrics if not metric.is_historical}
        current = tuple(changed.get(metric.name, metric) for metric in birth.metrics)
        self._devices[device] = replace(birth, metrics=current)
        return self._message(MessageType.DDATA, device, metrics, now_ms)

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
        metrics = {m.name: m for m in decode_payload(payload, datatypes=OWN_METRICS).metrics}
        commands: list[Command] = []
        if REBIRTH in metrics and metrics[REBIRTH].value is True:
            commands.append(Rebirth())
        if WATERMARK in metrics:
            commands.append(_watermark(metrics))
        return commands

    def _receive_state(self, payload: bytes) -> list[Command]:
        """Believe an online statement that is not older than any, an offline one not older than online."""
        online, timestamp_ms = decode_state(payload)
        if timestamp_ms < (self._state_ms if online else self._online_ms):
            return [HostDoubted()] if online and not self.host_online else []
        self._state_ms = max(self._state_ms, timestamp_ms)
        if online:
            self._online_ms = timestamp_ms
        if online == self._host_online:
            return []
        self._host_online = online
        return [HostState(online)]

    def _device_birth(self, device: str, now_ms: int) -> Message:
        birth = self._devices[device]
        metrics = [
            Metric(PROPERTY + name, datatype=DataType.STRING, value=value)
            for name, value in birth.properties.items()
        ]
        for number, stream in birth.streams.items():
            metrics += birth_metrics(stream, stream_number=number, timestamp_ms=now_ms)
        return self._message(MessageType.DBIRTH, device, [*metrics, *birth.metrics], now_ms)

    def _death(self, now_ms: int, *, qos: int) -> Message:
        bd_seq = Metric(BD_SEQ, datatype=DataType.INT64, value=self.bd_seq, timestamp_ms=now_ms)
        payload = encode_payload([bd_seq], timestamp_ms=now_ms)
        return Message(self.node.topic(MessageType.NDEATH), payload, qos=qos)

    def _message(
        self, kind: MessageType, device: str | None, metrics: Sequence[Metric], now_ms: int
    ) -> Message:
        """Return the next message of the sequence, its metrics in the order of time."""
        stamped = [m if m.timestamp_ms is not None else replace(m, timestamp_ms=now_ms) for m in metrics]
        payload = encode_payload(
            sorted(stamped, key=lambda metric: metric.timestamp_ms or 0),
            timestamp_ms=now_ms,
            seq=self._seq,
            uuid=self._session,
            with_datatypes=kind in (MessageType.NBIRTH, MessageType.DBIRTH),
        )
        return self._sent(Message(self.node.topic(kind, device), payload))

    def _sent(self, message: Message) -> Message:
        """Count a message, once it could be made."""
        self._seq = (self._seq + 1) % 256
        return message


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


def _check_names(metrics: Sequence[Metric], *, taken: Iterable[str], streams: Iterable[Stream] = ()) -> None:
    """Raise `DefinitionError` unless each metric has a type and a name of its own."""
    seen = set(taken)
    folders = {PROPERTY, *(f"{stream.name}/" for stream in streams)}
    for metric in metrics:
        name = metric.name
        if not name or metric.alias is not None or metric.datatype is None:
            raise DefinitionError(f"metric {name!r}, expected a name, a data type and no alias")
        if name in seen or name[: name.rfind("/") + 1] in folders:
            raise DefinitionError(f"metric {name!r}, expected a name not yet taken, outside {sorted(folders)}")
        seen.add(name)


def _check_announced(metrics: Sequence[Metric], announced: Mapping[str | None, DataType | None]) -> None:
    for metric in metrics:
        if metric.datatype is None or announced.get(metric.name) is not metric.datatype:
            known = {str(name): datatype and datatype.name for name, datatype in announced.items()}
            raise DefinitionError(f"metric {metric.name!r} as {metric.datatype!r}, expected one of {known}")


def _watermark(metrics: Mapping[str | None, Metric]) -> Watermark:
    seq = metrics[WATERMARK].value
    incarnation = metrics[INCARNATION].value if INCARNATION in metrics else None
    if not isinstance(seq, int) or not isinstance(incarnation, int):
        raise DecodeError(f"watermark {seq!r} of incarnation {incarnation!r}, expected two integers")
    return Watermark(incarnation, seq)
