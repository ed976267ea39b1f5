"""What a host application says and understands (Sparkplug 3.0), without I/O.

`HostApplication.receive` turns messages into events: births, records, metrics, deaths, and messages to send. It
asks a node for its births again when something cannot be understood for want of them, and when the node's
message sequence shows that something was lost: a message that is missing is waited for up to
`reorder_timeout_ms`, which `tick` watches over when nothing arrives. Requests to one node are at least
`rebirth_interval_ms` apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from protocols.errors import DecodeError
from protocols.sparkplug.edge_node import (
    BD_SEQ,
    INCARNATION,
    OWN_METRICS,
    REBIRTH,
    WATERMARK,
    decode_state,
    encode_state,
)
from protocols.sparkplug.host_events import (
    DeviceBorn,
    DeviceDied,
    DeviceMetrics,
    Event,
    HostDisconnected,
    Metrics,
    NodeBorn,
    NodeDied,
    NodeIdShared,
    NodeMetrics,
    PayloadRejected,
    RecordReceived,
    RecordRejected,
    SendMessage,
)
from protocols.sparkplug.payload import Metric, decode_payload, encode_payload, parse
from protocols.sparkplug.remote_node import Arrived, RemoteNode
from protocols.sparkplug.topics import (
    NAMESPACE,
    Message,
    MessageType,
    NodeId,
    NodeTopic,
    parse_topic,
    state_topic,
)

__all__ = [
    "MAX_NODES",
    "REBIRTH_INTERVAL_MS",
    "REORDER_TIMEOUT_MS",
    "DeviceBorn",
    "DeviceDied",
    "DeviceMetrics",
    "Event",
    "HostApplication",
    "HostDisconnected",
    "Metrics",
    "NodeBorn",
    "NodeDied",
    "NodeIdShared",
    "NodeMetrics",
    "PayloadRejected",
    "RecordReceived",
    "RecordRejected",
    "SendMessage",
]

REBIRTH_INTERVAL_MS: Final = 2000
REORDER_TIMEOUT_MS: Final = 500
MAX_NODES: Final = 10_000


class HostApplication:
    """The state of a host application towards all nodes of one server.

    Parameters
    ----------
    host_id
        The name under which it says that it is online.
    rebirth_interval_ms
        Least time between two rebirth requests to one node.
    reorder_timeout_ms
        How long a message that is missing in a node's sequence is waited for.
    """

    def __init__(
        self,
        host_id: str,
        *,
        rebirth_interval_ms: int = REBIRTH_INTERVAL_MS,
        reorder_timeout_ms: int = REORDER_TIMEOUT_MS,
    ) -> None:
        self._state_topic = state_topic(host_id)
        self._rebirth_interval_ms = rebirth_interval_ms
        self._reorder_timeout_ms = reorder_timeout_ms
        self._timestamp_ms = 0
        self._is_online = False
        self._nodes: dict[NodeId, RemoteNode] = {}

    @property
    def subscriptions(self) -> Sequence[tuple[str, int]]:
        """Topics and QoS to subscribe to before `online` is published."""
        return [(f"{NAMESPACE}/#", 1)]

    def connecting(self, now_ms: int) -> Message:
        """Begin a connection: return its Will, which says offline."""
        self.disconnected(now_ms)
        self._timestamp_ms = now_ms
        return self._state(online=False)

    def online(self) -> Message:
        """Return the statement to publish once connected and subscribed."""
        self._is_online = True
        return self._state(online=True)

    def offline(self, now_ms: int) -> Message:
        """Return the statement to publish before a planned disconnect."""
        self._is_online = False
        self._timestamp_ms = now_ms
        return self._state(online=False)

    def disconnected(self, now_ms: int) -> list[Event]:
        """Note that the connection is lost: what the nodes have told is stale until they are born again."""
        self._is_online = False
        for node in self._nodes.values():
            node.born = False
        return [HostDisconnected(now_ms)]

    def watermark(self, node: NodeId, incarnation: int, seq: int, now_ms: int) -> Message:
        """Return the command that tells a gateway that all blocks up to `seq` are durable."""
        values = {INCARNATION: incarnation, WATERMARK: seq}
        metrics = [Metric(name, datatype=OWN_METRICS[name], value=value) for name, value in values.items()]
        payload = encode_payload(metrics, timestamp_ms=now_ms, with_datatypes=False)
        return Message(node.topic(MessageType.NCMD), payload)

    def receive(self, topic: str, payload: bytes, now_ms: int) -> list[Event]:
        """Return what a message means; never raises for any topic and payload."""
        try:
            if topic.startswith(f"{NAMESPACE}/STATE/"):
                return self._receive_state(topic, payload)
            return self._receive_node(parse_topic(topic), payload, now_ms)
        except DecodeError as error:
            return [PayloadRejected(topic, str(error))]

    def tick(self, now_ms: int) -> list[Event]:
        """Return what follows from time alone: requests for births where a message stayed missing."""
        events: list[Event] = []
        for node_id, node in self._nodes.items():
            taken, missing = node.tick(now_ms)
            events += taken
            if missing:
                events += self._ask_rebirth(node_id, node, now_ms)
        return events

    def _receive_state(self, topic: str, payload: bytes) -> list[Event]:
        """Contradict whoever says that this host is offline, as the specification demands."""
        if topic != self._state_topic:
            return []
        online, _ = decode_state(payload)
        return [SendMessage(self.online())] if self._is_online and not online else []

    def _receive_node(self, topic: NodeTopic, payload: bytes, now_ms: int) -> list[Event]:
        match topic.kind:
            case MessageType.NCMD | MessageType.DCMD:
                return []
            case MessageType.NBIRTH:
                return self._node(topic.node).birth(topic, parse(payload), now_ms)
            case MessageType.NDEATH:
                return self._node_death(topic.node, payload, now_ms)
        node = self._node(topic.node)
        if node.bd_seq is None:
            return self._ask_rebirth(topic.node, node, now_ms)
        events, missing = node.receive(Arrived(topic, parse(payload), payload), now_ms)
        return [*self._ask_rebirth(topic.node, node, now_ms), *events] if missing else events

    def _node(self, node_id: NodeId) -> RemoteNode:
        """Return what is known of a node; of those not online, no more than `MAX_NODES` are remembered."""
        node = self._nodes.get(node_id)
        if node is None:
            if len(self._nodes) >= MAX_NODES:
                self._nodes = {i: known for i, known in self._nodes.items() if known.bd_seq is not None}
            if len(self._nodes) >= MAX_NODES:
                raise DecodeError(f"node {node_id} is one too many, expected at most {MAX_NODES}")
            node = self._nodes[node_id] = RemoteNode(self._reorder_timeout_ms)
        return node

    def _node_death(self, node_id: NodeId, payload: bytes, now_ms: int) -> list[Event]:
        """Bury a node if the death is that of its present session."""
        values = {m.name: m.value for m in decode_payload(payload, datatypes=OWN_METRICS).metrics}
        node, bd_seq = self._nodes.get(node_id), values.get(BD_SEQ)
        if node is None or node.bd_seq is None or not isinstance(bd_seq, int) or bd_seq != node.bd_seq:
            return []
        node.death()
        return [NodeDied(node_id, now_ms)]

    def _ask_rebirth(self, node_id: NodeId, node: RemoteNode, now_ms: int) -> list[Event]:
        """Ask for births; the data type, which a command ought to leave out, is there for others' nodes."""
        asked_ms = node.rebirth_asked_ms
        if asked_ms is not None and 0 <= now_ms - asked_ms < self._rebirth_interval_ms:
            return []
        node.rebirth_asked_ms = now_ms
        metric = Metric(REBIRTH, datatype=OWN_METRICS[REBIRTH], value=True)
        payload = encode_payload([metric], timestamp_ms=now_ms)
        return [SendMessage(Message(node_id.topic(MessageType.NCMD), payload))]

    def _state(self, *, online: bool) -> Message:
        payload = encode_state(online=online, timestamp_ms=self._timestamp_ms)
        return Message(self._state_topic, payload, qos=1, retain=True)
