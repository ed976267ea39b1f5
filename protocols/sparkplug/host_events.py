"""What a host application learns from its nodes, and what it is to send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocols.samples import Stream
from protocols.sparkplug.blocks import Received
from protocols.sparkplug.payload import Value
from protocols.sparkplug.topics import Message, NodeId

Metrics = Mapping[str, Value | None]
"""Present values by name; None is null."""


@dataclass(frozen=True, slots=True)
class NodeBorn:
    """A gateway is online; its spool `incarnation` has everything before `oldest_seq` stored already."""

    node: NodeId
    incarnation: int
    oldest_seq: int


@dataclass(frozen=True, slots=True)
class NodeMetrics:
    """Metrics of a node itself: all of them at its birth, later those that changed.

    Nodes of other makers, of which there is no `NodeBorn`, have them too.
    """

    node: NodeId
    metrics: Metrics
    timestamp_ms: int
    is_birth: bool = False


@dataclass(frozen=True, slots=True)
class NodeDied:
    """A node and all its devices are offline, their metrics stale since `timestamp_ms` (of this host)."""

    node: NodeId
    timestamp_ms: int = 0


@dataclass(frozen=True, slots=True)
class NodeIdShared:
    """A birth shows that two gateways go by one id: the one it came from was followed by another before."""

    node: NodeId
    incarnation: int
    bd_seq: int


@dataclass(frozen=True, slots=True)
class DeviceBorn:
    """A gateway's device is online with these streams and properties."""

    node: NodeId
    device: str
    streams: tuple[Stream, ...]
    properties: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DeviceMetrics:
    """Metrics of a device beside its streams: all of them at its birth, later those that changed."""

    node: NodeId
    device: str
    metrics: Metrics
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class DeviceDied:
    """A device is offline, its metrics stale since `timestamp_ms` (of its node)."""

    node: NodeId
    device: str
    timestamp_ms: int = 0


@dataclass(frozen=True, slots=True)
class HostDisconnected:
    """The host itself has lost its server: all metrics are stale until the next birth of their node."""

    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class RecordReceived:
    """A record has arrived."""

    node: NodeId
    incarnation: int
    received: Received


@dataclass(frozen=True, slots=True)
class RecordRejected:
    """A known gateway's record made no sense; `streams` are its device's, by their first alias."""

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
    | NodeMetrics
    | NodeDied
    | NodeIdShared
    | DeviceBorn
    | DeviceMetrics
    | DeviceDied
    | HostDisconnected
    | RecordReceived
    | RecordRejected
    | PayloadRejected
    | SendMessage
)
