"""From the spool to the broker: publishes committed blocks in order as a Sparkplug edge node.

QoS 0 and a clean session, as Sparkplug demands, promise nothing; the watermark that the recorder sends back
does. At most `window` blocks are ahead of it. If it does not move, or the connection or the host was lost,
publishing goes back to the first block behind it::

    spool   ... 41 42 | 43 44 45 46 47 | 48 49 50 ...          | committed 50
                      ^ watermark 42   ^ sent 47
              durable |    in flight   | waiting

All state belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.config import Broker
from gateway.mqtt_connection import Arrived, Lost, MqttConnection
from gateway.spool import Spool, SpooledBlock
from protocols.errors import DecodeError, StoreError, TransportError
from protocols.lab_clock import LabClock
from protocols.samples import Stream
from protocols.sparkplug.edge_node import (
    DeviceBirth,
    EdgeNodeSession,
    HostDoubted,
    HostState,
    Rebirth,
    Watermark,
)
from protocols.sparkplug.topics import Message, NodeId

WINDOW_BLOCKS: Final = 500
STALL_S: Final = 2.0
LONGEST_STALL_S: Final = 30.0

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 3.0
_BLOCKS_AT_ONCE: Final = 100
_BD_SEQ: Final = "bd_seq"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EdgeNodeHealth:
    """The way to the recorder at one moment.

    Parameters
    ----------
    connected, host_online
        Whether the broker is connected, and whether the primary host said that it is there.
    sent_blocks, resent_blocks
        Blocks published, and how many of these again.
    last_error
        Why the latest connection failed or ended; empty if none did.
    """

    connected: bool
    host_online: bool
    sent_blocks: int
    resent_blocks: int
    last_error: str


class EdgeNode:
    """Publishes one spool until cancelled; then says goodbye.

    Parameters
    ----------
    node, host
        Its identity, and the primary host application's id.
    broker
        Where to publish.
    spool
        What to publish; the caller passes `committed` on to the spool as its `on_commit`.
    clock
        Stamps the messages.
    window_blocks
        Most blocks ahead of the watermark.
    stall_s
        Real time without progress of the watermark after which blocks in flight are sent again; doubles up to
        `LONGEST_STALL_S` while nothing moves.
    """

    def __init__(
        self,
        node: NodeId,
        *,
        host: str,
        broker: Broker,
        spool: Spool,
        clock: LabClock,
        window_blocks: int = WINDOW_BLOCKS,
        stall_s: float = STALL_S,
    ) -> None:
        self._broker = broker
        self._spool = spool
        self._clock = clock
        self._window_blocks = window_blocks
        self._first_stall_s = self._stall_s = stall_s
        bd_seq = spool.fact(_BD_SEQ, -1)
        self._session = EdgeNodeSession(node, host_id=host, incarnation=spool.incarnation, bd_seq=bd_seq)
        self._devices: dict[str, Mapping[str, str]] = {}
        self._announced: dict[str, DeviceBirth] = {}
        self._connection: MqttConnection | None = None
        self._born = False
        self._sent = self._ever_sent = spool.acknowledged
        self._live_after = 0
        self._moved_s = 0.0
        self._sent_blocks = self._resent_blocks = 0
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
        )

    def device_online(self, device: str, streams: tuple[Stream, ...], properties: Mapping[str, str]) -> None:
        """Announce a device, or its changed properties, as soon as there is a connection."""
        self._devices[device] = properties
        numbers = {self._spool.stream_number(device, stream): stream for stream in streams}
        self._announce(device, numbers, properties)

    def device_offline(self, device: str) -> None:
        """Announce that a device is gone, once its last block is durable."""
        self._devices.pop(device, None)
        self._wake()

    def committed(self) -> None:
        """Look for new blocks."""
        self._wake()

    async def drained(self) -> None:
        """Wait until everything put into the spool so far is durable at the recorder."""
        newest = self._spool.newest
        while self._spool.acknowledged < newest:
            self._progress.clear()
            await self._progress.wait()

    async def run(self) -> None:
        """Publish until cancelled, connecting as often as it takes."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                async with MqttConnection(self._broker, self._begin()) as connection:
                    self._connection = connection
                    self._last_error = ""
                    _log.info("connected to %s", self._broker)
                    pause_s = _FIRST_PAUSE_S
                    try:
                        await self._serve(connection)
                    finally:
                        self._end(connection)
            except (TransportError, StoreError) as error:
                self._note_lost(str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, the devices go on into the spool
                _log.exception("defect on the way to the broker")
                self._note_lost(f"{type(error).__name__}: {error}")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _begin(self) -> Message:
        """Begin a connection: return its Will."""
        will = self._session.connecting(self._now_ms())
        self._spool.keep(_BD_SEQ, self._session.bd_seq)
        return will

    def _end(self, connection: MqttConnection) -> None:
        """Say goodbye if somebody still listens."""
        if self._born:
            connection.publish(self._session.death(self._now_ms()))
        self._born = False
        self._connection = None

    async def _serve(self, connection: MqttConnection) -> None:
        """Live through one connection; returns when the host went offline or is in doubt: a new one begins."""
        connection.subscribe(list(self._session.subscriptions))
        while True:
            for event in connection.take_events():
                if isinstance(event, Lost):
                    self._born = False
                    raise TransportError(f"broker {self._broker}: {event.reason}")
                if isinstance(event, Arrived) and not self._receive(connection, event):
                    return
            if self._born:
                self._go_back_if_stalled()
                self._bury_devices(connection)
                self._publish_blocks(connection)
            await connection.wait(self._first_stall_s / 4)

    def _receive(self, connection: MqttConnection, message: Arrived) -> bool:
        """Act on a message; False if the connection must end."""
        try:
            commands = self._session.receive(message.topic, message.payload)
        except DecodeError as error:
            _log.warning("message on %s ignored: %s", message.topic, error)
            return True
        for command in commands:
            match command:
                case HostState(online=False):
                    _log.info("the recorder is offline")
                    if self._born:
                        return False
                case HostDoubted():
                    return False
                case HostState() | Rebirth():
                    self._give_birth(connection)
                case Watermark(incarnation, seq):
                    self._take_watermark(incarnation, seq)
        return True

    def _give_birth(self, connection: MqttConnection) -> None:
        """Publish all births and go back to the first block that is not durable."""
        if not self._session.host_online:
            return
        for message in self._session.births(self._now_ms(), oldest_seq=self._spool.acknowledged + 1):
            connection.publish(message)
        self._born = True
        self._live_after = self._spool.committed
        self._go_back()

    def _take_watermark(self, incarnation: int, seq: int) -> None:
        if incarnation != self._spool.incarnation:
            _log.warning(
                "watermark %d of spool %d ignored: this one is %d", seq, incarnation, self._spool.incarnation
            )
        elif seq > self._ever_sent:
            _log.warning("watermark %d ignored: only %d blocks were sent", seq, self._ever_sent)
        elif self._spool.acknowledge(seq):
            self._moved_s = _now_s()
            self._stall_s = self._first_stall_s
            self._progress.set()

    def _go_back_if_stalled(self) -> None:
        in_flight = self._sent > self._spool.acknowledged
        if in_flight and _now_s() - self._moved_s > self._stall_s:
            self._stall_s = min(2 * self._stall_s, LONGEST_STALL_S)
            self._go_back()

    def _go_back(self) -> None:
        self._sent = self._spool.acknowledged
        self._moved_s = _now_s()

    def _publish_blocks(self, connection: MqttConnection) -> None:
        acknowledged = self._spool.acknowledged
        self._sent = max(self._sent, acknowledged)
        room = self._window_blocks - (self._sent - acknowledged)
        if room <= 0 or self._sent >= self._spool.committed:
            return
        if self._sent == acknowledged:
            self._moved_s = _now_s()
        blocks = self._spool.read(self._sent, min(room, _BLOCKS_AT_ONCE))
        for block in blocks:
            self._publish_block(connection, block)
        if len(blocks) == _BLOCKS_AT_ONCE:
            connection.wake()

    def _publish_block(self, connection: MqttConnection, block: SpooledBlock) -> None:
        birth = self._announced.get(block.device)
        if birth is None or block.stream_number not in birth.streams:
            self._announce_stream(block, birth)
        again = block.seq <= self._ever_sent
        historical = again or block.seq <= self._live_after
        connection.publish(self._session.data(block.device, block.body, self._now_ms(), historical=historical))
        self._sent = block.seq
        self._ever_sent = max(self._ever_sent, block.seq)
        self._sent_blocks += 1
        self._resent_blocks += again

    def _announce_stream(self, block: SpooledBlock, birth: DeviceBirth | None) -> None:
        """Announce a stream of an earlier configuration in place of the one that has its name now."""
        known = self._spool.streams(block.device)
        stream = known[block.stream_number]
        others = {} if birth is None else birth.streams
        streams = {number: s for number, s in others.items() if s.name != stream.name}
        properties = self._devices.get(block.device, {})
        self._announce(block.device, {**streams, block.stream_number: stream}, properties)

    def _announce(self, device: str, streams: Mapping[int, Stream], properties: Mapping[str, str]) -> None:
        birth = DeviceBirth(streams, dict(properties))
        if self._announced.get(device) == birth:
            return
        self._announced[device] = birth
        message = self._session.device_birth(device, birth, self._now_ms())
        if self._born and self._connection is not None:
            self._connection.publish(message)

    def _bury_devices(self, connection: MqttConnection) -> None:
        gone = self._announced.keys() - self._devices.keys()
        for device in gone - self._spool.waiting_devices() if gone else ():
            del self._announced[device]
            message = self._session.device_death(device, self._now_ms())
            if message is not None:
                connection.publish(message)

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000

    def _wake(self) -> None:
        if self._connection is not None:
            self._connection.wake()

    def _note_lost(self, message: str) -> None:
        """Keep the reason; log it once, not at every attempt."""
        if message != self._last_error:
            self._last_error = message
            _log.warning("%s", message)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
