"""From the spool to the broker: publishes committed blocks as a Sparkplug edge node.

QoS 0 and a clean session, as Sparkplug demands, promise nothing; the watermark that the recorder sends back
does. `SendWindow` says what goes next: live blocks at once, history beside them, and what got lost again.

Of several brokers one is used at a time. If it cannot be reached, is lost, or the primary host is not online
there, the next one's turn comes; after a round without a birth there is a pause, longer each time.

Health figures travel beside the blocks: in births, and by exception as they change. They are not spooled.

All state belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.announced_devices import AnnouncedDevices, by_name, changed, datatypes
from gateway.broker import Broker
from gateway.mqtt_connection import Arrived, LoginError, Lost, MqttConnection
from gateway.send_window import STALL_S, WINDOW_BLOCKS, Kind, SendWindow
from gateway.spool import Spool, SpooledBlock
from protocols.errors import DecodeError, DefinitionError, StoreError, TransportError
from protocols.lab_clock import LabClock
from protocols.samples import Stream
from protocols.sparkplug.edge_node import (
    EdgeNodeSession,
    HostDoubted,
    HostState,
    Rebirth,
    Watermark,
)
from protocols.sparkplug.payload import Metric
from protocols.sparkplug.topics import Message, NodeId

MAX_COMMAND_BYTES: Final = 1 << 16
HOST_SILENT_S: Final = 5.0
"""With several brokers, one at which nothing is heard of the primary host for so long is left."""
BIRTH_INTERVAL_S: Final = 1.0
"""However often births are asked for, they are not given more often."""

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 3.0
_LONGEST_LOGIN_PAUSE_S: Final = 30.0
_COMPLAINT_S: Final = 60.0
_BLOCKS_AT_ONCE: Final = 100
_BD_SEQ: Final = "bd_seq"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EdgeNodeHealth:
    """The way to the recorder at one moment; counts are since the start.

    Parameters
    ----------
    connected, host_online
        Whether the broker is connected, and whether the primary host said that it is there.
    sent_blocks, resent_blocks
        Blocks published, and how many of these again.
    last_error
        Why the latest connection failed or ended; empty if none did.
    broker
        The one that is connected or was tried last.
    rejected_commands
        Messages to this node that were damaged or too large.
    ignored_watermarks
        Watermarks of another spool, or beyond what was sent.
    refused_logins
        Attempts to connect that failed because of the login.
    """

    connected: bool
    host_online: bool
    sent_blocks: int
    resent_blocks: int
    last_error: str
    broker: str = ""
    rejected_commands: int = 0
    ignored_watermarks: int = 0
    refused_logins: int = 0


class EdgeNode:
    """Publishes one spool until cancelled; then says goodbye.

    Parameters
    ----------
    node, host
        Its identity, and the primary host application's id.
    brokers
        Where to publish, preferred first; at least one.
    spool
        What to publish; the caller passes `committed` on to the spool as its `on_commit`.
    clock
        Stamps the messages.
    window_blocks
        Most blocks ahead of the watermark, live ones beside history not counted.
    stall_s
        Real time without progress of the watermark after which blocks in flight are sent again.
    """

    def __init__(
        self,
        node: NodeId,
        *,
        host: str,
        brokers: Sequence[Broker],
        spool: Spool,
        clock: LabClock,
        window_blocks: int = WINDOW_BLOCKS,
        stall_s: float = STALL_S,
    ) -> None:
        self._node, self._host = node, host
        self._brokers = tuple(brokers)
        self._turn = 0
        self._spool = spool
        self._clock = clock
        self._window_blocks = window_blocks
        self._stall_s = stall_s
        self._node_metrics: dict[str | None, Metric] = {}
        self._session = self._new_session(spool.fact(_BD_SEQ, -1))
        self._devices = AnnouncedDevices(
            self._session, spool, publish=self._publish_if_born, now_ms=self._now_ms
        )
        self._connection: MqttConnection | None = None
        self._born = self._birth_wanted = False
        self._born_s = 0.0
        self._complained_s: dict[str, float] = {}
        self._sent_blocks = self._resent_blocks = self._rejected_commands = self._ignored_watermarks = 0
        self._refused_logins = 0
        self._last_error = ""
        self._progress = asyncio.Event()

    def health(self) -> EdgeNodeHealth:
        """Return the state of the way to the recorder."""
        return EdgeNodeHealth(
            connected=self._connection is not None,
            host_online=self._connection is not None and self._session.host_online,
            sent_blocks=self._sent_blocks,
            resent_blocks=self._resent_blocks,
            last_error=self._last_error,
            broker=str(self._brokers[self._turn]),
            rejected_commands=self._rejected_commands,
            ignored_watermarks=self._ignored_watermarks,
            refused_logins=self._refused_logins,
        )

    def device_online(self, device: str, streams: tuple[Stream, ...], properties: Mapping[str, str]) -> None:
        """Announce a device, or its changed properties, as soon as there is a connection."""
        self._devices.online(device, streams, properties)

    def device_offline(self, device: str) -> None:
        """Announce that a device is gone, once its last block is durable."""
        self._devices.offline(device)
        self._wake()

    def report(
        self, node_metrics: Sequence[Metric], device_metrics: Mapping[str, Sequence[Metric]] | None = None
    ) -> None:
        """Take the present values of all metrics beside the blocks; those that changed are published.

        Parameters
        ----------
        node_metrics
            Of the node, each with name, data type and value.
        device_metrics
            By device; those of devices that are not announced wait until they are.

        Raises
        ------
        DefinitionError
            If a device's metric has no name or type, or a name that is taken.
        """
        self._report_node(by_name(node_metrics))
        for device, metrics in (device_metrics or {}).items():
            self._devices.report(device, metrics)

    def committed(self) -> None:
        """Look for new blocks."""
        self._progress.set()
        self._wake()

    async def drained(self) -> None:
        """Wait until everything put into the spool so far is durable at the recorder."""
        incarnation, newest = self._spool.incarnation, self._spool.newest
        while self._spool.acknowledged < newest:
            self._progress.clear()
            await self._progress.wait()
            if self._spool.incarnation != incarnation:
                incarnation, newest = self._spool.incarnation, self._spool.newest

    async def run(self) -> None:
        """Publish until cancelled, connecting as often as it takes."""
        task = asyncio.current_task()
        pause_s, tries = _FIRST_PAUSE_S, 0
        while True:
            longest_s = _LONGEST_PAUSE_S
            self._born_s = 0.0
            try:
                await self._connect_and_serve(self._brokers[self._turn])
            except LoginError as error:
                self._refused_logins += 1
                self._note_lost(str(error))
                longest_s = _LONGEST_LOGIN_PAUSE_S
            except (TransportError, StoreError) as error:
                self._note_lost(str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, the devices go on into the spool
                _log.exception("defect on the way to the broker")
                self._note_lost(f"{type(error).__name__}: {error}")
            if task is not None and task.cancelling():  # an error on the way out took the cancellation's place
                raise asyncio.CancelledError
            if self._born_s:
                pause_s, tries = _FIRST_PAUSE_S, 0
            tries += 1
            self._turn = (self._turn + 1) % len(self._brokers)
            if tries % len(self._brokers) == 0:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, longest_s)

    async def _connect_and_serve(self, broker: Broker) -> None:
        async with MqttConnection(broker, self._begin()) as connection:
            self._connection = connection
            self._last_error = ""
            _log.info("connected to %s", broker)
            try:
                await self._serve(connection)
            finally:
                self._end(connection)

    def _new_session(self, bd_seq: int) -> EdgeNodeSession:
        """Begin with what the spool is now."""
        spool = self._spool
        session = EdgeNodeSession(self._node, host_id=self._host, incarnation=spool.incarnation, bd_seq=bd_seq)
        self._incarnation = spool.incarnation
        self._window = SendWindow(spool.acknowledged, window_blocks=self._window_blocks, stall_s=self._stall_s)
        return session

    def _begin(self) -> Message:
        """Begin a connection: return its Will."""
        if self._spool.incarnation != self._incarnation:
            self._session = self._new_session(self._session.bd_seq)
            self._devices.move_to(self._session)
        will = self._session.connecting(self._now_ms())
        self._spool.keep(_BD_SEQ, self._session.bd_seq)
        return will

    def _end(self, connection: MqttConnection) -> None:
        """Say goodbye if somebody still listens."""
        if self._born:
            connection.publish(self._session.death(self._now_ms()))
        self._born = self._birth_wanted = False
        self._connection = None

    async def _serve(self, connection: MqttConnection) -> None:
        """Live through one connection; returns when another one, perhaps elsewhere, is to begin."""
        connection.subscribe(list(self._session.subscriptions))
        started_s = _now_s()
        while self._spool.incarnation == self._incarnation:
            for event in connection.take_events():
                if isinstance(event, Lost):
                    self._born = False
                    raise TransportError(f"broker {self._brokers[self._turn]}: {event.reason}")
                if isinstance(event, Arrived) and not self._receive(event):
                    return
            if len(self._brokers) > 1 and not self._born and _now_s() - started_s > HOST_SILENT_S:
                _log.info("the recorder is not heard of at %s", self._brokers[self._turn])
                return
            if self._born:
                self._publish(connection)
            await connection.wait(min(self._stall_s, BIRTH_INTERVAL_S) / 4)

    def _receive(self, message: Arrived) -> bool:
        """Act on a message; False if the connection must end."""
        if len(message.payload) > MAX_COMMAND_BYTES:
            self._reject(f"message of {len(message.payload)} bytes on {message.topic}")
            return True
        try:
            commands = self._session.receive(message.topic, message.payload)
        except DecodeError as error:
            self._reject(f"message on {message.topic}: {error}")
            return True
        for command in commands:
            match command:
                case HostState(online=True):
                    self._give_birth()
                case HostState(online=False):
                    _log.info("the recorder is offline at %s", self._brokers[self._turn])
                    if self._born or len(self._brokers) > 1:
                        return False
                case HostDoubted():
                    return False
                case Rebirth():
                    self._birth_wanted = self._born
                case Watermark(incarnation, seq):
                    self._take_watermark(incarnation, seq)
        return True

    def _give_birth(self) -> None:
        """Publish all births; what is not durable by now is history."""
        if self._connection is None:
            return
        oldest_seq, committed = self._spool.acknowledged + 1, self._spool.committed
        try:
            messages = self._session.births(
                self._now_ms(), oldest_seq=oldest_seq, metrics=tuple(self._node_metrics.values())
            )
        except DefinitionError as error:
            self._complain("births", f"metrics left out of the births: {error}")
            self._node_metrics = {}
            messages = self._session.births(self._now_ms(), oldest_seq=oldest_seq)
        for message in messages:
            self._connection.publish(message)
        self._born, self._birth_wanted = True, False
        self._born_s = _now_s()
        self._window.born(oldest_seq - 1, committed, self._born_s)

    def _take_watermark(self, incarnation: int, seq: int) -> None:
        if incarnation != self._incarnation:
            self._ignore_watermark(f"{seq} of spool {incarnation}, expected {self._incarnation}")
        elif not self._window.believes(seq):
            self._ignore_watermark(f"{seq}, which was not sent yet")
        elif self._spool.acknowledge(seq, incarnation=incarnation):
            self._window.acknowledge(seq, _now_s())
            self._progress.set()

    def _publish(self, connection: MqttConnection) -> None:
        """Publish births that are due, then some of what the window lets through."""
        dropped = self._spool.acknowledged > self._window.acknowledged  # too old: the recorder must not wait
        if (self._birth_wanted or dropped) and _now_s() - self._born_s >= BIRTH_INTERVAL_S:
            self._give_birth()
        self._window.go_back_if_stalled(_now_s())
        self._devices.bury()
        n_blocks = 0
        while n_blocks < _BLOCKS_AT_ONCE:
            chunk = self._window.next(self._spool.committed, _BLOCKS_AT_ONCE - n_blocks)
            if chunk is None:
                return
            blocks = self._spool.read(chunk.after_seq, chunk.limit, incarnation=self._incarnation)
            if not blocks:
                return
            for block in blocks:
                self._publish_block(connection, block, chunk.kind)
            n_blocks += len(blocks)
        connection.wake()

    def _publish_block(self, connection: MqttConnection, block: SpooledBlock, kind: Kind) -> None:
        self._devices.announce_stream_of(block)
        historical = kind is not Kind.LIVE
        connection.publish(self._session.data(block.device, block.body, self._now_ms(), historical=historical))
        self._sent_blocks += 1
        self._resent_blocks += self._window.sent(kind, block.seq, _now_s())

    def _report_node(self, metrics: dict[str | None, Metric]) -> None:
        before, self._node_metrics = self._node_metrics, metrics
        if not self._born or self._connection is None:
            return
        if datatypes(metrics) != datatypes(before):
            self._birth_wanted = True
        elif news := changed(before, metrics):
            self._connection.publish(self._session.node_data(news, self._now_ms()))

    def _publish_if_born(self, message: Message) -> None:
        if self._born and self._connection is not None:
            self._connection.publish(message)

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000

    def _wake(self) -> None:
        if self._connection is not None:
            self._connection.wake()

    def _reject(self, what: str) -> None:
        self._rejected_commands += 1
        self._complain("commands", f"{what}, ignored ({self._rejected_commands} so far)")

    def _ignore_watermark(self, what: str) -> None:
        self._ignored_watermarks += 1
        self._complain("watermarks", f"watermark {what}, ignored ({self._ignored_watermarks} so far)")

    def _complain(self, kind: str, message: str) -> None:
        """Log, but of each kind only once in a while."""
        now_s = _now_s()
        if now_s - self._complained_s.get(kind, -_COMPLAINT_S) >= _COMPLAINT_S:
            self._complained_s[kind] = now_s
            _log.warning("%s", message)

    def _note_lost(self, message: str) -> None:
        """Keep the reason; log it once, not at every attempt."""
        if message != self._last_error:
            self._last_error = message
            _log.warning("%s", message)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
