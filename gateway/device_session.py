"""One device: connect, decode, stamp, hand over; revive it when it falls silent, connect again when it is lost.

Nothing that a device does or fails to do leaves this module as an exception: bad bytes are counted, a lost link
leads to another attempt after a pause that suits the trouble it is in.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.assembly import DeviceAssembler
from gateway.clock import BootIds
from gateway.device_health import DeviceHealth, DeviceState
from gateway.device_streams import DeviceStreams
from gateway.frame_log import FrameLog
from gateway.silence import FIRST_SILENCE_S, Remedy, Watchdog
from gateway.spool import Position
from gateway.transport import Frame, LinkError, Transport, Trouble, pause_s
from protocols.devices.kind import DeviceKind
from protocols.errors import TransportError
from protocols.lab_clock import LabClock
from protocols.records import Record
from protocols.samples import SampleBlock, Stream

LONGEST_TICK_S: Final = 0.25

_log = logging.getLogger(__name__)


class DeviceSession:
    """Keeps one device streaming until cancelled; whoever runs it calls `tick` regularly.

    Parameters
    ----------
    name, kind
        Its name at the gateway, and what it is.
    connect
        Makes the transport of one attempt.
    store
        Takes a finished block, a gap or raw frames; returns False if it was refused.
    clock
        Lab time.
    boot_ids
        Shared by all devices of the gateway.
    block_s
        Longest real time for which a sample waits to become a block.
    on_change
        Called after `state`, `properties` or the alarm changed.
    position
        Where a stream stands in the spool; None if it was never there.
    silence_s
        Lab seconds without samples after which the device counts as silent; None to judge by its kind.
    power_cycle
        Switches the device's adapter off and on; returns whether that was done. None where there is none.
    """

    def __init__(
        self,
        name: str,
        kind: DeviceKind,
        *,
        connect: Callable[[], Transport],
        store: Callable[[Record], bool],
        clock: LabClock,
        boot_ids: BootIds,
        block_s: float,
        on_change: Callable[[DeviceSession], None],
        position: Callable[[Stream], Position | None] = lambda _stream: None,
        silence_s: float | None = None,
        power_cycle: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.state = DeviceState.CONNECTING
        self.properties: dict[str, str] = {}
        self._connect = connect
        self._store = store
        self._clock = clock
        self._boot_ids = boot_ids
        self._half_block_ns = round(block_s / 2 * clock.speed * 1e9)
        self._on_change = on_change
        self._power_cycle = power_cycle
        self._assembler = DeviceAssembler(name, kind, boot_ids, speed=clock.speed)
        self._assembler.resume(position)
        self._streams = DeviceStreams(
            name,
            kind,
            store=store,
            position=position,
            clock=clock,
            boot_ids=boot_ids,
            silence_s=silence_s,
        )
        self._frame_log = FrameLog(name)
        self._watchdog = Watchdog()
        self._transport: Transport | None = None
        self._hold: asyncio.Timeout | None = None
        self._reviving: asyncio.Task[None] | None = None
        self._cycle_adapter = False
        counts = ("connections", "frames", "bytes", "samples", "blocks", "decode_errors", "refused_blocks")
        self._counts = dict.fromkeys((*counts, "refused_frames", "silences"), 0)
        self._alarm = ""
        self._last_error = ""
        self._logged_error = ""

    @property
    def online(self) -> bool:
        """Whether the device is connected."""
        return self.state in (DeviceState.CONNECTED, DeviceState.STREAMING, DeviceState.SILENT)

    def health(self) -> DeviceHealth:
        """Return what is known now."""
        streams = self._streams.health(self._assembler.duplicates)
        return DeviceHealth(
            name=self.name,
            kind=self.kind.name,
            state=self.state,
            lost_samples=sum(stream.lost_samples for stream in streams),
            duplicate_frames=sum(stream.duplicate_frames for stream in streams),
            alarm=self._alarm,
            last_error=self._last_error,
            properties=dict(self.properties),
            streams=streams,
            **self._counts,
        )

    async def run(self) -> None:
        """Stream until cancelled, connecting as often as it takes."""
        failures = 0
        try:
            while True:
                heard, error = await self._connection()
                failures = 1 if heard else failures + 1
                self._enter(DeviceState.WAITING)
                await asyncio.sleep(pause_s(error, failures))
                if self._cycle_adapter and self._power_cycle is not None:
                    _log.warning("device %s: power-cycling its adapter", self.name)
                    await self._power_cycle()
                self._cycle_adapter = False
        finally:
            self._enter(DeviceState.STOPPED)

    def tick(self, elapsed_s: float) -> None:
        """Take note that so much real time has passed: blocks are closed, gaps declared, silence is acted upon.

        At half the longest wait blocks are closed, so that no sample waits longer than that.
        """
        due_ns = self._clock.monotonic_ns() - self._half_block_ns
        self._hand_over(self._assembler.flush(due_ns))
        if self._frame_log.due(due_ns):
            self._log_frames()
        self._streams.tick(elapsed_s)
        if self._hold is not None:
            self._watch(elapsed_s)

    def flush(self) -> None:
        """Make blocks of all samples and frames that wait."""
        self._hand_over(self._assembler.flush())
        self._log_frames()

    async def _connection(self) -> tuple[bool, TransportError]:
        """Live through one connection; return whether it brought samples, and why it ended."""
        self._enter(DeviceState.CONNECTING)
        samples_before = self._counts["samples"]
        error: TransportError = LinkError("the connection ended")
        try:
            async with self._connect() as transport:
                await self._stream(transport)
        except TransportError as failure:
            error = failure
        except Exception as defect:  # noqa: BLE001 - a defect in one device must not stop the others
            _log.exception("device %s: defect in its transport or decoder", self.name)
            error = LinkError(f"{type(defect).__name__}: {defect}")
        self._note_lost(str(error))
        return self._counts["samples"] > samples_before, error

    async def _stream(self, transport: Transport) -> None:
        self._frame_log.connected(self._boot_ids.next(self._clock.now_ns()))
        self._assembler.reconnected()
        self._streams.connected()
        self._watchdog.connected()
        self._counts["connections"] += 1
        self._enter(DeviceState.CONNECTED)
        self._transport = transport
        hold = asyncio.timeout(None)
        try:
            async with hold as self._hold:
                async for frame in transport.frames():
                    self._take(frame)
        except TimeoutError:
            if not hold.expired():
                raise
            trouble = Trouble.BUSY if self._watchdog.alarm else Trouble.TRANSIENT
            raise LinkError(self._silence(), trouble) from None
        finally:
            self._hold = self._transport = None
            self.flush()
            self._streams.disconnected()
            await self._stop_reviving()

    def _take(self, frame: Frame) -> None:
        self._frame_log.add(frame)
        decoded, blocks = self._assembler.feed(frame)
        self._counts["frames"] += 1
        self._counts["bytes"] += len(frame.data)
        for samples in decoded.samples:
            self._counts["samples"] += samples.values.shape[1]
            self._streams.hear(samples)
        if decoded.errors:
            self._counts["decode_errors"] += len(decoded.errors)
            self._last_error = str(decoded.errors[-1])
        if decoded.properties and not decoded.properties.items() <= self.properties.items():
            self.properties.update(decoded.properties)
            self._on_change(self)
        if decoded.samples and self.state is not DeviceState.STREAMING and not self._streams.silent:
            self._logged_error = ""
            self._enter(DeviceState.STREAMING)
        self._hand_over(blocks)
        if self._frame_log.full:
            self._log_frames()

    def _watch(self, elapsed_s: float) -> None:
        """Act upon silence over a live connection."""
        streams = self._streams
        if not streams.silent:
            if streams.heard and streams.connected_s > streams.limit_s:
                self._watchdog.well()
                self._raise_alarm("")
        elif streams.heard or streams.connected_s >= FIRST_SILENCE_S:
            if self.state is not DeviceState.SILENT:
                self._counts["silences"] += 1
                self._note_lost(self._silence())
                self._enter(DeviceState.SILENT)
            if self._reviving is None or self._reviving.done():
                self._remedy(elapsed_s)

    def _remedy(self, elapsed_s: float) -> None:
        """Try what is next against the silence."""
        limit_s, whole = self._streams.limit_s, self._streams.whole_silent
        remedy = self._watchdog.silent(elapsed_s, limit_s=limit_s, whole=whole)
        if self._watchdog.alarm:
            self._raise_alarm(f"{self._silence()}, and nothing that was tried helps")
        if remedy is Remedy.REVIVE and self._transport is not None:
            self._reviving = asyncio.create_task(self._revive(self._transport))
        elif remedy is not None:
            self._cycle_adapter = remedy is Remedy.POWER_CYCLE
            self._drop()

    def _raise_alarm(self, alarm: str) -> None:
        """Raise an alarm, or with nothing to say end it."""
        if alarm != self._alarm:
            self._alarm = alarm
            if alarm:
                _log.error("device %s: %s", self.name, alarm)
            self._on_change(self)

    async def _revive(self, transport: Transport) -> None:
        if not await transport.revive():
            self._drop()

    def _drop(self) -> None:
        """End the connection from this side."""
        if self._hold is not None:
            self._hold.reschedule(asyncio.get_running_loop().time())

    async def _stop_reviving(self) -> None:
        if self._reviving is not None:
            self._reviving.cancel()
            await asyncio.wait([self._reviving])
            self._reviving = None

    def _silence(self) -> str:
        """Return what is silent, in words."""
        what = "silent" if self._streams.whole_silent else f"no {', '.join(self._streams.silent_streams)}"
        return f"{what} for {self._streams.limit_s:.1f} s although it is connected"

    def _hand_over(self, blocks: list[SampleBlock]) -> None:
        for block in blocks:
            stored = self._streams.put(block, follows=functools.partial(self._assembler.follows, block))
            self._counts["blocks" if stored else "refused_blocks"] += 1

    def _log_frames(self) -> None:
        frames = self._frame_log.flush()
        if frames is not None and not self._store(frames):
            self._counts["refused_frames"] += frames.n_frames

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


async def keep_ticking(sessions: Sequence[DeviceSession], block_s: float) -> None:
    """Call the sessions' `tick` until cancelled, often enough for blocks of `block_s`."""
    last_s = time.monotonic()
    while True:
        await asyncio.sleep(min(block_s / 2, LONGEST_TICK_S))
        now_s = time.monotonic()
        for session in sessions:
            try:
                session.tick(now_s - last_s)
            except Exception:  # noqa: BLE001 - a defect in one device must not stop the others
                _log.exception("device %s: defect while its time passed", session.name)
        last_s = now_s
