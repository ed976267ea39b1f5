"""The devices of an edge node as its births tell them: their streams, properties and health metrics.

A device that has gone stays announced until the last of its blocks is durable at the recorder. Blocks of an
earlier configuration bring their stream back, in place of the one that has its name now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gateway.spool import Spool, SpooledBlock
from protocols.samples import Stream
from protocols.sparkplug.edge_node import DeviceBirth, EdgeNodeSession
from protocols.sparkplug.payload import Metric
from protocols.sparkplug.topics import Message


class AnnouncedDevices:
    """What the births of an edge node's devices say.

    Parameters
    ----------
    session
        Makes the messages.
    spool
        Numbers the streams, and knows of which devices blocks wait.
    publish
        Takes every message, and drops it while there is no birth of the node that it could follow.
    now_ms
        UTC in ms.
    """

    def __init__(
        self,
        session: EdgeNodeSession,
        spool: Spool,
        *,
        publish: Callable[[Message], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._session = session
        self._spool = spool
        self._publish = publish
        self._now_ms = now_ms
        self._present: dict[str, Mapping[str, str]] = {}
        self._births: dict[str, DeviceBirth] = {}
        self._metrics: dict[str, dict[str | None, Metric]] = {}

    def move_to(self, session: EdgeNodeSession) -> None:
        """Go on with another session, which the births of all devices are told at once."""
        self._session = session
        for device, birth in self._births.items():
            session.device_birth(device, birth, self._now_ms())

    def online(self, device: str, streams: Sequence[Stream], properties: Mapping[str, str]) -> None:
        """Announce a device, or its changed streams or properties."""
        self._present[device] = properties
        numbers = {self._spool.stream_number(device, stream): stream for stream in streams}
        self._announce(device, numbers, properties)

    def offline(self, device: str) -> None:
        """Take note that a device has gone."""
        self._present.pop(device, None)

    def announce_stream_of(self, block: SpooledBlock) -> None:
        """Announce the stream of a block unless it is; if need be one of an earlier configuration."""
        birth = self._births.get(block.device)
        if birth is not None and block.stream_number in birth.streams:
            return
        stream = self._spool.streams(block.device)[block.stream_number]
        others = {} if birth is None else birth.streams
        streams = {number: s for number, s in others.items() if s.name != stream.name}
        properties = self._present.get(block.device, {})
        self._announce(block.device, {**streams, block.stream_number: stream}, properties)

    def report(self, device: str, metrics: Sequence[Metric]) -> None:
        """Take the present values of all metrics of a device; those that changed are published.

        Raises
        ------
        DefinitionError
            If one has no name or type, or a name that is taken.
        """
        before, now = self._metrics.get(device, {}), by_name(metrics)
        self._metrics[device] = now
        birth = self._births.get(device)
        if birth is None:
            return
        if datatypes(now) != datatypes(before):
            self._give_birth(device, birth.streams, birth.properties)
        elif news := changed(before, now):
            self._publish(self._session.device_data(device, news, self._now_ms()))

    def bury(self) -> None:
        """Announce the death of the devices that have gone and of which nothing waits any more."""
        gone = self._births.keys() - self._present.keys()
        for device in gone - self._spool.waiting_devices() if gone else ():
            del self._births[device]
            message = self._session.device_death(device, self._now_ms())
            if message is not None:
                self._publish(message)

    def _announce(self, device: str, streams: Mapping[int, Stream], properties: Mapping[str, str]) -> None:
        birth = self._births.get(device)
        if birth is None or (birth.streams, birth.properties) != (streams, properties):
            self._give_birth(device, streams, properties)

    def _give_birth(self, device: str, streams: Mapping[int, Stream], properties: Mapping[str, str]) -> None:
        birth = DeviceBirth(dict(streams), dict(properties), tuple(self._metrics.get(device, {}).values()))
        message = self._session.device_birth(device, birth, self._now_ms())
        self._births[device] = birth
        self._publish(message)


def by_name(metrics: Sequence[Metric]) -> dict[str | None, Metric]:
    """Return metrics by name."""
    return {metric.name: metric for metric in metrics}


def datatypes(metrics: Mapping[str | None, Metric]) -> dict[str | None, object]:
    """Return what a birth promises of metrics: names and types."""
    return {name: metric.datatype for name, metric in metrics.items()}


def changed(before: Mapping[str | None, Metric], metrics: Mapping[str | None, Metric]) -> list[Metric]:
    """Return the metrics with another value than before."""
    return [metric for name, metric in metrics.items() if metric.value != before[name].value]
