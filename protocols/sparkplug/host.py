"""What a host application says and understands (Sparkplug 3.0), without I/O.

`HostApplication.receive` turns messages into events: births, blocks, deaths, and messages to send. It asks a
node for its births again when data cannot be understood (a birth was missed, an alias is unknown) or when the
node's message sequence shows that something was lost; such requests are at least `rebirth_interval_ms` apart.

Not yet here: the reorder timer (a message out of order is treated as a loss) and stale marking of metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

from protocols.errors import DecodeError
from protocols.samples import Stream
from protocols.sparkplug.blocks import BlockReader, ReceivedBlock
from protocols.sparkplug.edge_node import (
    BD_SEQ,
    INCARNATION,
    OLDEST_SEQ,
    PROPERTY,
    REBIRTH,
    WATERMARK,
    decode_state,
    encode_state,
)
from protocols.sparkplug.payload import DataType, Metric, decode_payload, encode_payload, parse
from protocols.sparkplug.topics import (
    NAMESPACE,
    Message,
    MessageType,
    NodeId,
    NodeTopic,
    parse_topic,
    state_topic,
)

REBIRTH_INTERVAL_MS: Final = 2000
MAX_NODES: Final = 10_000


@dataclass(frozen=True, slots=True)
class NodeBorn:
    """A node is online; its spool `incarnation` has everything before `oldest_seq` stored already."""

    node: NodeId
    incarnation: int
    oldest_seq: int


@dataclass(frozen=True, slots=True)
class NodeDied:
    """A node and all its devices are offline."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class DeviceBorn:
    """A device is online with these streams and properties."""

    node: NodeId
    device: str
    streams: tuple[Stream, ...]
    properties: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DeviceDied:
    """A device is offline."""

    node: NodeId
    device: str


@dataclass(frozen=True, slots=True)
class BlockReceived:
    """A block of samples has arrived."""

    node: NodeId
    incarnation: int
    received: ReceivedBlock


@dataclass(frozen=True, slots=True)
class BlockRejected:
    """A known gateway's block made no sense; `streams` are its device's, by the alias of their `block`."""

    node: NodeId
    incarnation: int
    device: str
    spool_seq: int
    reason: str
    payload: bytes
    streams: Mapping[int, Stream]


@dataclass(frozen=True, slots=True)
class PayloadRejected:
    """A message said what it must not; nothing else is affected."""

    topic: str
    reason: str


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Something is to be published."""

    message: Message


Event = (
    NodeBorn
    | NodeDied
    | DeviceBorn
    | DeviceDied
    | BlockReceived
    | BlockRejected
    | PayloadRejected
    | SendMessage
)


@dataclass(slots=True)
class _Node:
    """What is known of a node: `bd_seq` once born, `incarnation` if it is a gateway of this platform."""

    bd_seq: int | None = None
    incarnation: int | None = None
    next_seq: int | None = None
    devices: dict[str, BlockReader] = field(default_factory=dict)
    rebirth_asked_ms: int | None = None


class HostApplication:
    """The state of a host application towards all nodes.

    Parameters
    ----------
    host_id
        The name under which it says that it is online.
    rebirth_interval_ms
        Least time between two rebirth requests to one node.
    """

    def __init__(self, host_id: str, *, rebirth_interval_ms: int = REBIRTH_INTERVAL_MS) -> None:
        self._state_topic = state_topic(host_id)
        self._rebirth_interval_ms = rebirth_interval_ms
        self._timestamp_ms = 0
        self._nodes: dict[NodeId, _Node] = {}

    @property
    def subscriptions(self) -> Sequence[tuple[str, int]]:
        """Topics and QoS to subscribe to before `online` is published."""
        return [(f"{NAMESPACE}/#", 1)]

    def connecting(self, now_ms: int) -> Message:
        """Begin a connection: return its Will, which says offline."""
        self._timestamp_ms = now_ms
        for node in self._nodes.values():
            node.next_seq = None
        return self._state(online=False)

    def online(self) -> Message:
        """Return the statement to publish once connected and subscribed."""
        return self._state(online=True)

    def offline(self, now_ms: int) -> Message:
        """Return the statement to publish before a planned disconnect."""
        self._timestamp_ms = now_ms
        return self._state(online=False)

    def watermark(self, node: NodeId, incarnation: int, seq: int, now_ms: int) -> Message:
        """Return the command that tells a gateway that all blocks up to `seq` are durable."""
        metrics = [
            Metric(INCARNATION, datatype=DataType.UINT64, value=incarnation, timestamp_ms=now_ms),
            Metric(WATERMARK, datatype=DataType.UINT64, value=seq, timestamp_ms=now_ms),
        ]
        return Message(node.topic(MessageType.NCMD), encode_payload(metrics, timestamp_ms=now_ms))

    def receive(self, topic: str, payload: bytes, now_ms: int) -> list[Event]:
        """Return what a message means; never raises for any topic and payload."""
        try:
            if topic.startswith(f"{NAMESPACE}/STATE/"):
                return self._receive_state(topic, payload)
            return self._receive_node(parse_topic(topic), payload, now_ms)
        except DecodeError as error:
            return [PayloadRejected(topic, str(error))]

    def _receive_state(self, topic: str, payload: bytes) -> list[Event]:
        if topic != self._state_topic:
            return []
        online, timestamp_ms = decode_state(payload)
        if online or timestamp_ms < self._timestamp_ms:
            return []
        return [SendMessage(self.online())]

    def _receive_node(self, topic: NodeTopic, payload: bytes, now_ms: int) -> list[Event]:
        match topic.kind:
            case MessageType.NBIRTH:
                return self._node_birth(topic.node, payload)
            case MessageType.NDEATH:
                return self._node_death(topic.node, payload)
            case MessageType.NCMD | MessageType.DCMD:
                return []
        node = self._node(topic.node)
        if node.bd_seq is None:
            return self._ask_rebirth(topic.node, node, now_ms)
        if node.incarnation is None:
            return []
        message = parse(payload)
        events: list[Event] = []
        if message.seq != node.next_seq:
            events += self._ask_rebirth(topic.node, node, now_ms)
        node.next_seq = (message.seq + 1) % 256
        try:
            return events + self._device_message(topic, node, message, payload, now_ms)
        except DecodeError as error:
            return [*events, PayloadRejected(topic.node.topic(topic.kind, topic.device), str(error))]

    def _device_message(
        self, topic: NodeTopic, node: _Node, message: Any, payload: bytes, now_ms: int
    ) -> list[Event]:
        device = topic.device or ""
        if topic.kind is MessageType.DBIRTH:
            return self._device_birth(topic.node, node, device, payload)
        if topic.kind is MessageType.DDEATH:
            node.devices.pop(device, None)
            return [DeviceDied(topic.node, device)]
        if topic.kind is MessageType.NDATA:
            return []
        reader = node.devices.get(device)
        if reader is None or any(metric.alias not in reader.aliases for metric in message.metrics):
            return self._ask_rebirth(topic.node, node, now_ms)
        incarnation = node.incarnation or 0
        try:
            return [BlockReceived(topic.node, incarnation, received) for received in reader.read(message)]
        except DecodeError as error:
            spool_seq = reader.spool_seq(message)
            if spool_seq is None:
                raise
            streams = reader.streams_by_alias()
            return [BlockRejected(topic.node, incarnation, device, spool_seq, str(error), payload, streams)]

    def _node(self, node_id: NodeId) -> _Node:
        """Return what is known of a node; of those never born, no more than `MAX_NODES` are remembered."""
        node = self._nodes.get(node_id)
        if node is None:
            if len(self._nodes) >= MAX_NODES:
                self._nodes = {i: known for i, known in self._nodes.items() if known.bd_seq is not None}
            node = self._nodes[node_id] = _Node()
        return node

    def _node_birth(self, node_id: NodeId, payload: bytes) -> list[Event]:
        """Take a birth; one that makes no sense changes nothing about a gateway that is known."""
        birth = decode_payload(payload)
        values = {m.name: m.value for m in birth.metrics}
        bd_seq, incarnation, oldest_seq = (values.get(name) for name in (BD_SEQ, INCARNATION, OLDEST_SEQ))
        if not isinstance(bd_seq, int) or birth.seq is None:
            raise DecodeError(
                f"birth of {node_id} with bdSeq {bd_seq!r} and seq {birth.seq!r}, expected integers"
            )
        node = self._node(node_id)
        if not (_is_positive(incarnation) and _is_positive(oldest_seq)):
            if node.incarnation is None:
                node.bd_seq = bd_seq
            raise DecodeError(
                f"birth of {node_id} with {INCARNATION} {incarnation!r} and {OLDEST_SEQ} {oldest_seq!r}, "
                "expected positive integers: not a gateway of this lab"
            )
        node.bd_seq = bd_seq
        node.next_seq = (birth.seq + 1) % 256
        node.incarnation = incarnation
        node.devices.clear()
        return [NodeBorn(node_id, incarnation, oldest_seq)]

    def _node_death(self, node_id: NodeId, payload: bytes) -> list[Event]:
        values = {m.name: m.value for m in decode_payload(payload).metrics}
        node, bd_seq = self._nodes.get(node_id), values.get(BD_SEQ)
        if node is None or node.bd_seq is None or not isinstance(bd_seq, int) or bd_seq != node.bd_seq:
            return []
        self._nodes[node_id] = _Node(rebirth_asked_ms=node.rebirth_asked_ms)
        return [NodeDied(node_id)]

    def _device_birth(self, node_id: NodeId, node: _Node, device: str, payload: bytes) -> list[Event]:
        metrics = decode_payload(payload).metrics
        reader = BlockReader(device, metrics)
        node.devices[device] = reader
        properties = {
            m.name.removeprefix(PROPERTY): m.value
            for m in metrics
            if m.name is not None and m.name.startswith(PROPERTY) and isinstance(m.value, str)
        }
        return [DeviceBorn(node_id, device, reader.streams, properties)]

    def _ask_rebirth(self, node_id: NodeId, node: _Node, now_ms: int) -> list[Event]:
        asked_ms = node.rebirth_asked_ms
        if asked_ms is not None and 0 <= now_ms - asked_ms < self._rebirth_interval_ms:
            return []
        node.rebirth_asked_ms = now_ms
        metric = Metric(REBIRTH, datatype=DataType.BOOLEAN, value=True, timestamp_ms=now_ms)
        payload = encode_payload([metric], timestamp_ms=now_ms)
        return [SendMessage(Message(node_id.topic(MessageType.NCMD), payload))]

    def _state(self, *, online: bool) -> Message:
        payload = encode_state(online=online, timestamp_ms=self._timestamp_ms)
        return Message(self._state_topic, payload, qos=1, retain=True)


def _is_positive(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 63
