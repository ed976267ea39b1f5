"""What gateways say of their health, as their Sparkplug metrics told it last."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from gateway.health import Value, value_of_metric
from protocols.sparkplug.host_events import Event
from protocols.sparkplug.live import LiveMetrics, LiveNode
from protocols.sparkplug.topics import NodeId


class GatewayFigures:
    """Follows the events of a host application; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live = LiveMetrics()

    def take(self, event: Event) -> None:
        """Take note of an event."""
        with self._lock:
            self._live.take(event)

    def values(self) -> dict[NodeId, Sequence[Value]]:
        """Return the values of every gateway that was born, without what is stale."""
        with self._lock:
            return {node: _values(live) for node, live in self._live.nodes().items() if live.is_gateway}

    def stale(self) -> dict[NodeId, bool]:
        """Return for every gateway that was born whether what it said last no longer holds."""
        with self._lock:
            nodes = self._live.nodes().items()
            return {node: live.stale_since_ms is not None for node, live in nodes if live.is_gateway}


def _values(node: LiveNode) -> list[Value]:
    if node.stale_since_ms is not None:
        return []
    found = [value_of_metric(name, value) for name, value in node.metrics.items()]
    for device, live in node.devices.items():
        if live.stale_since_ms is None:
            found += [value_of_metric(name, value, device=device) for name, value in live.metrics.items()]
    return [value for value in found if value is not None]
