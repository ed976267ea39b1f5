"""One device: connect, decode, stamp, hand over blocks; connect again when the link is lost.

Nothing that a device does or fails to do leaves this module as an exception: bad bytes are counted, a lost link
leads to another attempt after a pause that grows while nothing comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.assembly import DeviceAssembler
from gateway.clock import BootIds
from gateway.transport import Frame, Transport
from protocols.devices.kind import DeviceKind
from protocols.errors import TransportError
from protocols.lab_clock import LabClock
from protocols.samples import SampleBlock

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 3.0

_log = logging.getLogger(__name__)


class DeviceState(enum.StrEnum):
    """Where a device stands."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    STREAMING = "streaming"
    WAITING = "waiting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """What is known of a device at one moment; counts are since the gateway started.

    Parameters
    ----------
    state
        Streaming once samples came over the present connection.
    lost_samples
        Missing according to the device's counter, clock or rate.
    duplicate_frames
        Left out because they repeated the one before.
    refused_blocks
        Not stored because the spool was full.
    last_error
        The latest decode or transport error; empty if none.
    """

    name: str
    kind: str
    state: DeviceState = DeviceState.CONNECTING
    connections: int = 0
    frames: int = 0
    bytes: int = 0
    samples: int = 0
    blocks: int = 0
    lost_samples: int = 0
    duplicate_frames: int = 0
    decode_errors: int = 0
    refused_blocks: int = 0
    last_error: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)


class DeviceSession:
    """Keeps one device streaming until cancelled.

    Parameters
    ----------
    name, kind
        Its name at the gateway, and what it is.
    connect
        Makes the transport of one attempt.
    store
        Takes a finished block; returns False if it was refused.
    clock
        Lab time.
    boot_ids
        Shared by all devices of the gateway.
    block_s
        Longest real time for which a sample waits to become a block.
    on_change
        Called after `state` or `properties` changed.
    """

    def __init__(
        self,
        name: str,
        kind: DeviceKind,
        *,
        connect: Callable[[], Transport],
        store: Callable[[SampleBlock], bool],
        clock: LabClock,
        boot_ids: BootIds,
        block_s: float,
        on_change: Callable[[DeviceSession], None],
    ) -> None:
        self.name = name
        self.kind = kind
        self.state = DeviceState.CONNECTING
        self.properties: dict[str, str] = {}
        self._connect = connect
        self._store = store
        self._clock = clock
        self._boot_ids = boot_ids
        self._block_s = block_s
        self._on_change = on_change
        self._counts = dict.fromkeys(
            ("connections", "frames", "bytes", "samples", "blocks", "decode_errors", "refused_blocks"), 0
        )
        self._assembler = self._new_assembler()
        self._lost_before = self._duplicates_before = 0
        self._last_error = ""
        self._logged_error = ""

    @property
    def online(self) -> bool:
        """Whether the device is connected."""
        return self.state in (DeviceState.CONNECTED, DeviceState.STREAMING)

    def health(self) -> DeviceHealth:
        """Return what is known now."""
        return DeviceHealth(
            name=self.name,
            kind=self.kind.name,
            state=self.state,
            lost_samples=self._lost_before + self._assembler.lost,
            duplicate_frames=self._duplicates_before + self._assembler.duplicates,
            last_error=self._last_error,
            properties=dict(self.properties),
            **self._counts,
        )

    async def run(self) -> None:
        """Stream until cancelled, connecting as often as it takes."""
        pause_s = FIRST_PAUSE_S
        try:
            while True:
                streamed = await self._connection()
                pause_s = FIRST_PAUSE_S if streamed else min(2 * pause_s, LONGEST_PAUSE_S)
                self._enter(DeviceState.WAITING)
                await asyncio.sleep(pause_s)
        finally:
            self._enter(DeviceState.STOPPED)

    def flush(self) -> None:
        """Make blocks of all samples that wait."""
        self._hand_over(self._assembler.flush())

    async def _connection(self) -> bool:
        """Live through one connection; return whether it brought samples."""
        self._enter(DeviceState.CONNECTING)
        samples_before = self._counts["samples"]
        try:
            async with self._connect() as transport:
                await self._stream(transport)
        except TransportError as error:
            self._note_lost(str(error))
        except Exception as error:  # noqa: BLE001 - a defect in one device must not stop the others
            _log.exception("device %s: defect in its transport or decoder", self.name)
            self._note_lost(f"{type(error).__name__}: {error}")
        return self._counts["samples"] > samples_before

    async def _stream(self, transport: Transport) -> None:
        self._lost_before += self._assembler.lost
        self._duplicates_before += self._assembler.duplicates
        self._assembler = self._new_assembler()
        self._counts["connections"] += 1
        self._enter(DeviceState.CONNECTED)
        ticker = asyncio.create_task(self._flush_regularly())
        try:
            async for frame in transport.frames():
                self._take(frame)
        finally:
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker
            self.flush()

    def _take(self, frame: Frame) -> None:
        decoded, blocks = self._assembler.feed(frame)
        self._counts["frames"] += 1
        self._counts["bytes"] += len(frame.data)
        self._counts["samples"] += sum(s.values.shape[1] for s in decoded.samples)
        if decoded.errors:
            self._counts["decode_errors"] += len(decoded.errors)
            self._last_error = str(decoded.errors[-1])
        if decoded.properties and not decoded.properties.items() <= self.properties.items():
            self.properties.update(decoded.properties)
            self._on_change(self)
        if decoded.samples and self.state is not DeviceState.STREAMING:
            self._logged_error = ""
            self._enter(DeviceState.STREAMING)
        self._hand_over(blocks)

    async def _flush_regularly(self) -> None:
        """Close blocks at half the longest wait, so that none waits longer than that."""
        half_ns = round(self._block_s / 2 * self._clock.speed * 1e9)
        while True:
            await asyncio.sleep(self._block_s / 2)
            self._hand_over(self._assembler.flush(self._clock.monotonic_ns() - half_ns))

    def _hand_over(self, blocks: list[SampleBlock]) -> None:
        for block in blocks:
            stored = self._store(block)
            self._counts["blocks" if stored else "refused_blocks"] += 1

    def _new_assembler(self) -> DeviceAssembler:
        return DeviceAssembler(self.name, self.kind, self._boot_ids, speed=self._clock.speed)

    def _enter(self, state: DeviceState) -> None:
        if state is not self.state:
            self.state = state
            self._on_change(self)

    def _note_lost(self, message: str) -> None:
        """Keep the reason; log it once, not at every attempt."""
        self._last_error = message
        if message != self._logged_error:
            self._logged_error = message
            _log.warning("device %s: %s", self.name, message)
