"""How a gateway does: a snapshot goes in, the values of all figures come out, here and as Sparkplug metrics.

`HealthWatch` remembers the counts of the last minutes, so that a count can also be said as a rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from gateway.health_figures import (
    DEVICE_FIGURES,
    FIGURES,
    GATEWAY_FIGURES,
    STREAM_FIGURES,
    Figure,
    Scalar,
    Scope,
    Sort,
)
from gateway.health_snapshot import Counts, OfDevice, OfGateway, OfStream, Snapshot
from protocols.sparkplug.payload import DataType, Metric

MINUTE_S: Final = 60.0
BUFFER_WINDOW_S: Final = 300.0
METRIC_PREFIX: Final = "Health/"

_KEPT_EVERY_S: Final = 5.0
_SIGNIFICANT: Final = 5

_T = TypeVar("_T")

DATATYPES: Final = {
    Sort.COUNTER: DataType.INT64,
    Sort.GAUGE: DataType.DOUBLE,
    Sort.FLAG: DataType.BOOLEAN,
    Sort.WARNING: DataType.BOOLEAN,
    Sort.TEXT: DataType.STRING,
}


class Value(NamedTuple):
    """The value of a figure: of the gateway, of a device, or of one of its streams."""

    figure: Figure[Any]
    device: str
    stream: str
    value: Scalar | None

    @property
    def metric_name(self) -> str:
        """The name of its Sparkplug metric, of the node or of the device."""
        folder = f"{self.stream}/" if self.stream else ""
        return f"{METRIC_PREFIX}{folder}{self.figure.name}"


class Report(NamedTuple):
    """A gateway's values, and when on the machine's monotonic clock they were taken."""

    taken_s: float
    values: Sequence[Value]


class HealthWatch:
    """Turns snapshots into values; remembers the counts of the last minutes."""

    def __init__(self) -> None:
        self._history: deque[Counts] = deque()

    def values(self, now: Snapshot) -> tuple[Value, ...]:
        """Return the values of all figures; snapshots come in the order of their time."""
        while self._history and self._history[0].taken_s < now.taken_s - BUFFER_WINDOW_S:
            self._history.popleft()
        values = values_of(now, self._history)
        if not self._history or now.taken_s - self._history[-1].taken_s >= _KEPT_EVERY_S:
            self._history.append(counts_of(now))
        return values


def values_of(now: Snapshot, history: Sequence[Counts]) -> tuple[Value, ...]:
    """Return the values of all figures of the gateway, then of each device and its streams.

    Parameters
    ----------
    history
        Counts of the last `BUFFER_WINDOW_S`, oldest first.
    """
    lately = history[0] if history else None
    minute = next((counts for counts in history if counts.taken_s >= now.taken_s - MINUTE_S), None)
    values = [_value(f, OfGateway(now, lately)) for f in GATEWAY_FIGURES]
    for device in now.gateway.devices:
        values += [_value(f, OfDevice(now, minute, device), device.name) for f in DEVICE_FIGURES]
        for stream in device.streams:
            of_stream = OfStream(now, minute, device, stream)
            values += [_value(f, of_stream, device.name, stream.name) for f in STREAM_FIGURES]
    return tuple(values)


def counts_of(now: Snapshot) -> Counts:
    """Return the counts that later rates are made of."""
    devices = now.gateway.devices
    return Counts(
        taken_s=now.taken_s,
        put_bytes=now.put_bytes,
        given_up_blocks=now.given_up_blocks,
        frames={d.name: d.frames for d in devices},
        decode_errors={d.name: d.decode_errors for d in devices},
        samples={(d.name, s.name): s.samples for d in devices for s in d.streams},
    )


def warnings_of(values: Iterable[Value]) -> list[Value]:
    """Return the warnings that are set."""
    return [value for value in values if value.figure.sort is Sort.WARNING and value.value is True]


def sparkplug_metrics(values: Iterable[Value]) -> tuple[list[Metric], dict[str, list[Metric]]]:
    """Return the metrics of the node, and those of each device by its name; what is not known is null."""
    of_node: list[Metric] = []
    of_devices: dict[str, list[Metric]] = {}
    for value in values:
        metrics = of_devices.setdefault(value.device, []) if value.device else of_node
        properties = {"engUnit": value.figure.unit} if value.figure.unit else {}
        metrics.append(
            Metric(
                value.metric_name,
                datatype=DATATYPES[value.figure.sort],
                value=value.value,
                properties=properties,
            )
        )
    return of_node, of_devices


def value_of_metric(name: str, value: Any, *, device: str = "") -> Value | None:
    """Return what a Sparkplug metric of a node, or of a device, says; None if it is no figure of ours.

    The way back from `sparkplug_metrics`, for whoever receives them.
    """
    if not name.startswith(METRIC_PREFIX):
        return None
    stream, _, figure_name = name.removeprefix(METRIC_PREFIX).rpartition("/")
    scope = Scope.STREAM if stream else Scope.DEVICE if device else Scope.GATEWAY
    figure = _BY_NAME.get((scope, figure_name))
    if figure is None or (stream and not device) or type(value) not in _TYPES[figure.sort]:
        return None
    return Value(figure, device, stream, value)


def _value(figure: Figure[_T], subject: _T, device: str = "", stream: str = "") -> Value:
    value = figure.read(subject)
    if isinstance(value, float):
        value = float(f"{value:.{_SIGNIFICANT}g}")
    return Value(figure, device, stream, value)


_BY_NAME: Final = {(figure.scope, figure.name): figure for figure in FIGURES}
_TYPES: Final[Mapping[Sort, tuple[type, ...]]] = {
    Sort.COUNTER: (int,),
    Sort.GAUGE: (int, float),
    Sort.FLAG: (bool,),
    Sort.WARNING: (bool,),
    Sort.TEXT: (str,),
}
