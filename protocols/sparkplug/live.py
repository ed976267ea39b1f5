"""The present values of all nodes' metrics, and since when they are stale, from a host's events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from protocols.sparkplug.host_events import (
    DeviceDied,
    DeviceMetrics,
    Event,
    HostDisconnected,
    Metrics,
    NodeBorn,
    NodeDied,
    NodeMetrics,
)
from protocols.sparkplug.topics import NodeId


@dataclass(frozen=True, slots=True)
class LiveDevice:
    """A device's metrics beside its streams.

    Parameters
    ----------
    metrics
        Their latest values.
    timestamp_ms
        Of the latest message that told some.
    stale_since_ms
        UTC since when they may be otherwise; None while the device is online.
    """

    metrics: Metrics = field(default_factory=dict)
    timestamp_ms: int = 0
    stale_since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class LiveNode:
    """A node's own metrics, and its devices; fields as of a device.

    Parameters
    ----------
    is_gateway
        Whether it is a gateway of this platform, not a node of another maker.
    """

    is_gateway: bool = False
    metrics: Metrics = field(default_factory=dict)
    timestamp_ms: int = 0
    stale_since_ms: int | None = None
    devices: Mapping[str, LiveDevice] = field(default_factory=dict)


class LiveMetrics:
    """Follows a host's events; not for use by two threads at once."""

    def __init__(self) -> None:
        self._nodes: dict[NodeId, LiveNode] = {}

    def nodes(self) -> Mapping[NodeId, LiveNode]:
        """Return what is known of every node that has been heard, and of its devices since its birth."""
        return dict(self._nodes)

    def take(self, event: Event) -> None:
        """Take one event; those that say nothing of metrics are ignored."""
        match event:
            case NodeBorn(node=node_id):
                self._nodes[node_id] = LiveNode(is_gateway=True)
            case NodeMetrics(node=node_id, metrics=told, timestamp_ms=told_ms, is_birth=is_birth):
                node = self._node(node_id)
                if is_birth:
                    node = LiveNode(is_gateway=node.is_gateway)
                self._nodes[node_id] = replace(node, metrics={**node.metrics, **told}, timestamp_ms=told_ms)
            case DeviceMetrics(node=node_id, device=name, metrics=told, timestamp_ms=told_ms):
                known = self._node(node_id).devices.get(name, LiveDevice())
                self._put(node_id, name, LiveDevice({**known.metrics, **told}, told_ms))
            case DeviceDied(node=node_id, device=name, timestamp_ms=died_ms):
                known = self._node(node_id).devices.get(name, LiveDevice())
                self._put(node_id, name, _stale_device(known, died_ms))
            case NodeDied(node=node_id, timestamp_ms=died_ms):
                self._nodes[node_id] = _stale_node(self._node(node_id), died_ms)
            case HostDisconnected(timestamp_ms=lost_ms):
                self._nodes = {node_id: _stale_node(node, lost_ms) for node_id, node in self._nodes.items()}
            case _:
                pass

    def _node(self, node_id: NodeId) -> LiveNode:
        return self._nodes.get(node_id, LiveNode())

    def _put(self, node_id: NodeId, name: str, device: LiveDevice) -> None:
        node = self._node(node_id)
        self._nodes[node_id] = replace(node, devices={**node.devices, name: device})


def _stale_device(device: LiveDevice, since_ms: int) -> LiveDevice:
    """Mark a device stale; it stays so since when it first was."""
    return device if device.stale_since_ms is not None else replace(device, stale_since_ms=since_ms)


def _stale_node(node: LiveNode, since_ms: int) -> LiveNode:
    """Mark a node and its devices stale, each since when it first was."""
    devices = {name: _stale_device(device, since_ms) for name, device in node.devices.items()}
    stale_since_ms = since_ms if node.stale_since_ms is None else node.stale_since_ms
    return replace(node, stale_since_ms=stale_since_ms, devices=devices)
