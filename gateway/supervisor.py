"""A whole gateway: a task for each device, one spool, one way to the broker; and how they all are.

Devices know nothing of each other: a device that fails, hangs or sends rubbish delays nobody. A gateway starts
whether or not broker, recorder, radio and devices are there, and takes up each when it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from gateway.clock import BootIds
from gateway.config import DeviceConfig, GatewayConfig
from gateway.device_health import DeviceHealth, DeviceState
from gateway.device_session import DeviceSession, keep_ticking
from gateway.edge_node import EdgeNode
from gateway.gaps import position_after
from gateway.monitor import Monitor
from gateway.radios import Radios
from gateway.serial_port import SerialTransport
from gateway.spool import Spool
from gateway.transport import Transport
from protocols.devices.kind import BleLink
from protocols.errors import DefinitionError
from protocols.frames import RAW
from protocols.gaps import Gap
from protocols.lab_clock import LabClock
from protocols.records import CLOCK, GATEWAY_DEVICE, Record, stream_of
from protocols.sparkplug.blocks import encode_record

SPOOL_FILE: Final = "spool.sqlite"

_BOOT_ID: Final = "boot_id"


@dataclass(frozen=True, slots=True)
class GatewayHealth:
    """A gateway at one moment; counts are since it started.

    Parameters
    ----------
    backlog_blocks, backlog_bytes
        What is not yet known to be durable at the recorder.
    oldest_unsent_s
        Real age of the oldest of these; 0 if there is none.
    refused_blocks, expired_blocks
        What the spool did not take, and what it gave up because it was too old.
    spool_fault
        Why the disk takes nothing; empty if it does.
    spool_damage
        What was wrong with the spool when it was opened, and what became of it; empty if nothing was.
    last_error
        Why the latest connection to the broker failed or ended; empty if none did.
    refused_logins
        How often the broker did not accept the login.
    """

    devices: tuple[DeviceHealth, ...]
    backlog_blocks: int
    backlog_bytes: int
    oldest_unsent_s: float
    refused_blocks: int
    spool_fault: str
    broker_connected: bool
    host_online: bool
    sent_blocks: int
    resent_blocks: int
    last_error: str
    expired_blocks: int = 0
    spool_damage: str = ""
    refused_logins: int = 0

    def device(self, name: str) -> DeviceHealth:
        """Return the device called `name`; KeyError if there is none."""
        for device in self.devices:
            if device.name == name:
                return device
        raise KeyError(f"device {name!r}, expected one of {[d.name for d in self.devices]}")


class Gateway:
    """A running gateway; entering starts it, leaving stops it cleanly.

    A clean stop ends the devices, waits up to `config.drain_s` until a recorder that is online has everything,
    and says goodbye to the broker. What the recorder has not got stays in the spool for the next start.

    Parameters
    ----------
    config
        All settings.
    clock
        Lab time; by default the machine's clocks with the configured speed and origin.

    Raises
    ------
    DefinitionError
        If a device has the name under which a gateway records what it knows of itself.
    StoreError
        On entering, if the spool cannot be opened.
    """

    def __init__(self, config: GatewayConfig, *, clock: LabClock | None = None) -> None:
        if any(device.name == GATEWAY_DEVICE for device in config.devices):
            raise DefinitionError(
                f"device {GATEWAY_DEVICE!r}, expected another name: this one is the gateway's own"
            )
        self._config = config
        self._clock = clock or LabClock(time.time_ns, time.monotonic_ns, config.speed, config.origin_ns)
        self._changed = asyncio.Event()
        self._final: GatewayHealth | None = None

    async def __aenter__(self) -> Self:
        config = self._config
        self._loop = asyncio.get_running_loop()
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        open_spool = functools.partial(
            Spool,
            config.data / SPOOL_FILE,
            max_bytes=config.max_spool_bytes,
            max_age_s=config.max_spool_age_s,
            on_commit=self._on_commit,
        )
        self._spool = await asyncio.to_thread(open_spool)
        self._boot_ids = BootIds(self._spool.fact(_BOOT_ID, 0))
        self._edge_node = EdgeNode(
            config.node, host=config.host, brokers=config.brokers, spool=self._spool, clock=self._clock
        )
        self._edge_node.device_online(GATEWAY_DEVICE, (CLOCK,), {"kind": GATEWAY_DEVICE})
        self._radios = Radios(self._clock)
        self._sessions = [self._session(device) for device in config.devices]
        self._monitor = Monitor(
            config,
            self._spool,
            health=self.health,
            store=self.store,
            report=self._edge_node.report,
            clock=self._clock,
            boot_ids=self._boot_ids,
        )
        self._edge_task = asyncio.create_task(self._edge_node.run(), name="edge node")
        self._device_tasks = [asyncio.create_task(s.run(), name=f"device {s.name}") for s in self._sessions]
        self._watch_tasks = [
            asyncio.create_task(keep_ticking(self._sessions, config.block_s), name="ticker"),
            asyncio.create_task(self._monitor.run(), name="monitor"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await _cancel(*self._watch_tasks)
            await _cancel(*self._device_tasks)
            if self._edge_node.health().host_online:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._config.drain_s):
                        await self._edge_node.drained()
            self._final = self.health()
        finally:
            await _cancel(self._edge_task)
            await self._radios.close()
            await asyncio.to_thread(self._spool.close)

    def health(self) -> GatewayHealth:
        """Return how everything is now; after the end, how it was when the devices had stopped."""
        if self._final is not None:
            return self._final
        backlog = self._spool.backlog()
        edge_node = self._edge_node.health()
        return GatewayHealth(
            devices=tuple(session.health() for session in self._sessions),
            backlog_blocks=backlog.blocks,
            backlog_bytes=backlog.bytes,
            oldest_unsent_s=backlog.oldest_age_s,
            refused_blocks=self._spool.refused_blocks,
            spool_fault=self._spool.fault,
            broker_connected=edge_node.connected,
            host_online=edge_node.host_online,
            sent_blocks=edge_node.sent_blocks,
            resent_blocks=edge_node.resent_blocks,
            last_error=edge_node.last_error,
            expired_blocks=self._spool.expired_blocks,
            spool_damage=self._spool.damage,
            refused_logins=edge_node.refused_logins,
        )

    @property
    def health_address(self) -> str | None:
        """Where the health is served, as `http://host:port`; None where it is not."""
        return self._monitor.address

    def store(self, record: Record) -> bool:
        """Put a record into the spool; return False if it was refused."""
        self._spool.keep(_BOOT_ID, self._boot_ids.last)

        def encode(seq: int, stream_number: int) -> bytes:
            return encode_record(record, spool_seq=seq, stream_number=stream_number)

        seq = self._spool.put(
            record.device,
            stream_of(record),
            encode,
            position=position_after(record),
            always=isinstance(record, Gap),
        )
        return seq is not None

    async def online(self, *names: str) -> None:
        """Wait until the named devices (all, if none is named) are connected and subscribed."""
        await self._until(names, lambda session: session.online)

    async def streaming(self, *names: str) -> None:
        """Wait until the named devices (all, if none is named) have brought samples over a live connection."""
        await self._until(names, lambda session: session.state is DeviceState.STREAMING)

    async def drained(self) -> None:
        """Close the blocks begun so far, and wait until everything is durable at the recorder."""
        for session in self._sessions:
            session.flush()
        await self._edge_node.drained()

    async def _until(self, names: tuple[str, ...], reached: Callable[[DeviceSession], bool]) -> None:
        known = {session.name: session for session in self._sessions}
        sessions = [known[name] for name in names or known]
        while not all(reached(session) for session in sessions):
            await self._changed.wait()

    def _session(self, device: DeviceConfig) -> DeviceSession:
        power_cycle = None
        if isinstance(device.kind.link, BleLink):
            power_cycle = functools.partial(self._radios.power_cycle, device)
        return DeviceSession(
            device.name,
            device.kind,
            connect=functools.partial(self._connect, device),
            store=self.store,
            clock=self._clock,
            boot_ids=self._boot_ids,
            block_s=self._config.block_s,
            on_change=self._on_change,
            position=functools.partial(self._spool.position, device.name),
            silence_s=device.silence_s,
            power_cycle=power_cycle,
        )

    def _connect(self, device: DeviceConfig) -> Transport:
        if isinstance(device.kind.link, BleLink):
            return self._radios.connect(device, device.kind.link)
        return SerialTransport(device.port or "", device.kind.link, self._clock)

    def _on_change(self, session: DeviceSession) -> None:
        if session.online:
            properties = {"kind": session.kind.name, **session.properties}
            self._edge_node.device_online(session.name, (*session.kind.streams, RAW), properties)
        elif session.state is not DeviceState.CONNECTING:
            self._edge_node.device_offline(session.name)
        self._changed.set()
        self._changed = asyncio.Event()

    def _on_commit(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody publishes any more
            self._loop.call_soon_threadsafe(self._edge_node.committed)


async def run_gateway(
    config: GatewayConfig,
    *,
    clock: LabClock | None = None,
    ready: Callable[[Gateway], None] | None = None,
    stop: asyncio.Event | None = None,
) -> GatewayHealth:
    """Run a gateway until `stop` is set (for ever without); return how it ended.

    Parameters
    ----------
    ready
        Called once everything has been started.

    Raises
    ------
    StoreError
        If the spool cannot be opened.
    """
    async with Gateway(config, clock=clock) as gateway:
        if ready is not None:
            ready(gateway)
        await (stop or asyncio.Event()).wait()
    return gateway.health()


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they have ended, however they do."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
