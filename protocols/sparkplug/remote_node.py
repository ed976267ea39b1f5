"""One node as a host application knows it, from its births.

Every message of a session carries the `uuid` of its NBIRTH (of a gateway: spool and birth-death number), so
that two gateways with one id are not taken for each other: a block counted for the wrong spool would be lost.

Records need no order, since each names its place in the spool: they are taken as they come, whatever is missing
before them. Everything else waits for its turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from protocols.errors import DecodeError
from protocols.sparkplug.blocks import RecordReader
from protocols.sparkplug.edge_node import BD_SEQ, INCARNATION, OLDEST_SEQ, OWN_METRICS, PROPERTY
from protocols.sparkplug.host_events import (
    DeviceBorn,
    DeviceDied,
    DeviceMetrics,
    Event,
    NodeBorn,
    NodeIdShared,
    NodeMetrics,
    PayloadRejected,
    RecordReceived,
    RecordRejected,
)
from protocols.sparkplug.payload import DataType, Metric, Value, read_payload
from protocols.sparkplug.reorder import MessageOrder
from protocols.sparkplug.topics import MessageType, NodeTopic

_REMEMBERED_SPOOLS: Final = 8


class BirthMissingError(DecodeError):
    """A message cannot be understood for want of the births before it; the node is to give them again."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message of a node."""

    topic: NodeTopic
    message: Any
    payload: bytes


class _Announced:
    """Metrics that a birth has announced, for reading those of data messages.

    Parameters
    ----------
    metrics
        The birth's; those that travel in records or have a meaning of their own left out.
    datatypes
        Of all the birth's metrics, by alias and by name.
    """

    def __init__(self, metrics: Sequence[Metric], datatypes: Mapping[int | str | None, DataType]) -> None:
        self.values = {m.name: m.value for m in metrics if m.name is not None and not m.is_historical}
        self._datatypes = datatypes
        self._names = {m.name if m.alias is None else m.alias: m.name for m in metrics}

    def changed(self, message: Any, skip_aliases: frozenset[int] = frozenset()) -> dict[str, Value | None]:
        """Return the present values that a data message tells.

        Raises
        ------
        BirthMissingError
            If a metric was not announced.
        DecodeError
            If a value or type is another than announced.
        """
        values: dict[str, Value | None] = {}
        for metric in read_payload(message, self._datatypes).metrics:
            key = metric.name if metric.alias is None else metric.alias
            if key in skip_aliases:
                continue
            name = self._names.get(key)
            if name is None:
                raise BirthMissingError(f"metric {key!r}, expected one of the birth")
            if not metric.is_historical:
                values[name] = metric.value
        return values


class _Device:
    """A device by its birth."""

    def __init__(self, name: str, birth: Any) -> None:
        metrics = read_payload(birth, {}).metrics
        self.reader = RecordReader(name, metrics)
        folders = {stream.name for stream in self.reader.streams} | {PROPERTY.rstrip("/")}
        others = [m for m in metrics if (m.name or "").rpartition("/")[0] not in folders]
        self.metrics = _Announced(others, _datatypes(metrics))
        self.record_aliases = self.reader.aliases - {m.alias for m in others}
        self.properties = {
            m.name.removeprefix(PROPERTY): m.value
            for m in metrics
            if m.name is not None and m.name.startswith(PROPERTY) and isinstance(m.value, str)
        }

    def has_only_records(self, message: Any) -> bool:
        """Return whether a data message has nothing but records of streams that the birth announced."""
        aliases = self.record_aliases
        return all(metric.alias in aliases and not metric.datatype for metric in message.metrics)


class RemoteNode:
    """What is known of a node.

    Parameters
    ----------
    reorder_timeout_ms
        How long a message that is missing in the sequence is waited for.

    Attributes
    ----------
    bd_seq
        Of the present session; None while the node is not online.
    born
        Whether its births have been heard on the present connection; if not, its metrics are stale, and what
        changes is left for the births to tell.
    rebirth_asked_ms
        When it was last asked for its births.
    """

    def __init__(self, reorder_timeout_ms: int) -> None:
        self._reorder_timeout_ms = reorder_timeout_ms
        self.bd_seq: int | None = None
        self.born = False
        self.rebirth_asked_ms: int | None = None
        self._incarnation: int | None = None
        self._latest_bd_seq = 0
        self._earlier_spools: deque[int] = deque(maxlen=_REMEMBERED_SPOOLS)
        self._session = ""
        self._metrics = _Announced([], {})
        self._devices: dict[str, _Device] = {}
        self._order: MessageOrder[Arrived] = MessageOrder(reorder_timeout_ms, first_seq=0)

    def birth(self, topic: NodeTopic, message: Any, now_ms: int) -> list[Event]:
        """Take an NBIRTH; one that makes no sense changes nothing.

        Raises
        ------
        DecodeError
            If it is not a birth, or a gateway's with impossible numbers.
        """
        birth = read_payload(message, {})
        values = {m.name: m.value for m in birth.metrics}
        bd_seq = values.get(BD_SEQ)
        if not isinstance(bd_seq, int) or birth.seq is None or birth.seq > 255:
            raise DecodeError(
                f"birth of {topic.node} with bdSeq {bd_seq!r} and seq {birth.seq!r}, expected integers to 255"
            )
        gateway = self._gateway(topic, values)
        events: list[Event] = []
        if gateway is not None:
            if self._is_shared(gateway.incarnation, bd_seq):
                events.append(NodeIdShared(topic.node, gateway.incarnation, bd_seq))
            self._incarnation, self._latest_bd_seq = gateway.incarnation, bd_seq
            events.append(gateway)
        self.bd_seq, self.born, self._session = bd_seq, True, message.uuid
        self._devices.clear()
        others = [m for m in birth.metrics if m.name not in OWN_METRICS]
        self._metrics = _Announced(others, _datatypes(birth.metrics))
        self._order = MessageOrder(self._reorder_timeout_ms, first_seq=birth.seq)
        if gateway is None or others:
            told_ms = now_ms if birth.timestamp_ms is None else birth.timestamp_ms
            events.append(NodeMetrics(topic.node, self._metrics.values, told_ms, is_birth=True))
        return events

    def death(self) -> None:
        """Forget what the births told."""
        self.bd_seq, self.born, self._session = None, False, ""
        self._devices.clear()

    def receive(self, arrived: Arrived, now_ms: int) -> tuple[list[Event], bool]:
        """Take a message between birth and death; return its events, and whether births are missing.

        Raises
        ------
        DecodeError
            If it has no place in the sequence.
        """
        message = arrived.message
        if self.bd_seq is None or message.uuid != self._session:
            return [], True
        if not message.HasField("seq") or message.seq > 255:
            raise DecodeError(f"seq {message.seq if message.HasField('seq') else None}, expected 0 to 255")
        missing = not self.born
        device = self._devices.get(arrived.topic.device or "")
        is_data = arrived.topic.kind is MessageType.DDATA
        if is_data and device is not None and device.has_only_records(message):
            events = self._records(arrived, device)
            due = self._order.put(message.seq, None, now_ms)
        else:
            events = []
            due = self._order.put(message.seq, arrived, now_ms)
        if due:
            taken, lacking = self._take(due, now_ms)
            events += taken
            missing |= lacking
        given_up, lost = self.tick(now_ms)
        return events + given_up, missing or lost

    def tick(self, now_ms: int) -> tuple[list[Event], bool]:
        """Give up what was waited for in vain; return the events of what was held, and whether it was so."""
        if not self._order.is_missing(now_ms):
            return [], False
        events, _ = self._take(self._order.give_up(), now_ms)
        return events, True

    def _gateway(self, topic: NodeTopic, values: Mapping[str | None, Value | None]) -> NodeBorn | None:
        """Return what a gateway's birth says of its spool; None for a node of another maker."""
        incarnation, oldest_seq = values.get(INCARNATION), values.get(OLDEST_SEQ)
        if INCARNATION not in values and self._incarnation is None:
            return None
        if not (_is_positive(incarnation) and _is_positive(oldest_seq)):
            raise DecodeError(
                f"birth of {topic.node} with {INCARNATION} {incarnation!r} and {OLDEST_SEQ} {oldest_seq!r}, "
                "expected positive integers"
            )
        return NodeBorn(topic.node, incarnation, oldest_seq)

    def _is_shared(self, incarnation: int, bd_seq: int) -> bool:
        """Return whether a spool comes back after another, or its birth-death number goes back."""
        if incarnation == self._incarnation:
            return (bd_seq - self._latest_bd_seq) % 256 > 127
        if self._incarnation is not None:
            self._earlier_spools.append(self._incarnation)
        return incarnation in self._earlier_spools

    def _take(self, due: Sequence[Arrived], now_ms: int) -> tuple[list[Event], bool]:
        """Return the events of messages whose turn it is, and whether births are missing for any."""
        events: list[Event] = []
        missing = False
        for arrived in due:
            try:
                events += _TAKERS[arrived.topic.kind](self, arrived, now_ms)
            except BirthMissingError:
                missing = True
            except DecodeError as error:
                events.append(_rejected(arrived, error))
        return events, missing

    def _node_data(self, arrived: Arrived, now_ms: int) -> list[Event]:
        changed = self._metrics.changed(arrived.message)
        if not (changed and self.born):
            return []
        return [NodeMetrics(arrived.topic.node, changed, _told_ms(arrived, now_ms))]

    def _device_birth(self, arrived: Arrived, now_ms: int) -> list[Event]:
        node, name = arrived.topic.node, arrived.topic.device or ""
        device = self._devices[name] = _Device(name, arrived.message)
        events: list[Event] = []
        if self._incarnation is not None:
            events.append(DeviceBorn(node, name, device.reader.streams, device.properties))
        if device.metrics.values and self.born:
            events.append(DeviceMetrics(node, name, device.metrics.values, _told_ms(arrived, now_ms)))
        return events

    def _device_death(self, arrived: Arrived, now_ms: int) -> list[Event]:
        name = arrived.topic.device or ""
        self._devices.pop(name, None)
        return [DeviceDied(arrived.topic.node, name, _told_ms(arrived, now_ms))]

    def _device_data(self, arrived: Arrived, now_ms: int) -> list[Event]:
        node, name = arrived.topic.node, arrived.topic.device or ""
        device = self._devices.get(name)
        if device is None:
            raise BirthMissingError(f"device {name}, expected its birth first")
        if device.has_only_records(arrived.message):  # when it came, its device's birth was still missing
            return self._records(arrived, device)
        changed = device.metrics.changed(arrived.message, skip_aliases=device.record_aliases)
        events = self._records(arrived, device)
        if changed and self.born:
            events.append(DeviceMetrics(node, name, changed, _told_ms(arrived, now_ms)))
        return events

    def _records(self, arrived: Arrived, device: _Device) -> list[Event]:
        node, incarnation = arrived.topic.node, self._incarnation
        if incarnation is None:
            return []
        try:
            return [RecordReceived(node, incarnation, record) for record in device.reader.read(arrived.message)]
        except DecodeError as error:
            seq = device.reader.spool_seq(arrived.message)
            if seq is None:
                return [_rejected(arrived, error)]
            streams = device.reader.streams_by_alias()
            name = device.reader.device
            return [RecordRejected(node, incarnation, name, seq, str(error), arrived.payload, streams)]


_TAKERS: Final = {
    MessageType.NDATA: RemoteNode._node_data,
    MessageType.DBIRTH: RemoteNode._device_birth,
    MessageType.DDATA: RemoteNode._device_data,
    MessageType.DDEATH: RemoteNode._device_death,
}


def _datatypes(metrics: Sequence[Metric]) -> dict[int | str | None, DataType]:
    declared: dict[int | str | None, DataType] = {}
    for metric in metrics:
        if metric.datatype is not None:
            declared[metric.name if metric.alias is None else metric.alias] = metric.datatype
    return declared


def _rejected(arrived: Arrived, error: DecodeError) -> PayloadRejected:
    topic = arrived.topic
    return PayloadRejected(topic.node.topic(topic.kind, topic.device), str(error))


def _told_ms(arrived: Arrived, now_ms: int) -> int:
    message = arrived.message
    return int(message.timestamp) if message.HasField("timestamp") else now_ms


def _is_positive(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 63
