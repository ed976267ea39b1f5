"""Watches a running gateway: its health and its clock every few seconds; tells whoever asks.

The values go to the recorder as Sparkplug metrics and to a small HTTP server; what is known of the clock is
also recorded. Nothing here ends a gateway: what fails is logged once, and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.clock import BootIds
from gateway.clock_offset import ClockOffset, read_clock_offset
from gateway.config import GatewayConfig
from gateway.health import HealthWatch, Report, sparkplug_metrics
from gateway.health_figures import Sort
from gateway.health_snapshot import Disk, Snapshot
from gateway.self_report import SelfReport
from gateway.spool import Spool
from protocols.lab_clock import LabClock
from protocols.samples import SampleBlock
from protocols.sparkplug.payload import Metric

if TYPE_CHECKING:
    from gateway.prometheus import HealthServer
    from gateway.supervisor import GatewayHealth

WATCH_S: Final = 2.0
REPORT_S: Final = 10.0
CLOCK_S: Final = 10.0

_log = logging.getLogger(__name__)


class Monitor:
    """Watches one gateway until cancelled; belongs to the event loop.

    Parameters
    ----------
    config
        Says where the health is served, if anywhere.
    spool
        Whose disk is watched.
    health
        Returns the state of gateway and devices.
    store
        Records a block.
    report
        Takes all metrics of the node, and those of each device.
    clock, boot_ids
        Lab time, and the numbers of counts of samples.
    read_clock
        Returns how this machine's clock compares with UTC; called in another thread.

    Attributes
    ----------
    latest
        The newest values; None before the first.
    """

    def __init__(
        self,
        config: GatewayConfig,
        spool: Spool,
        *,
        health: Callable[[], GatewayHealth],
        store: Callable[[SampleBlock], object],
        report: Callable[[Sequence[Metric], Mapping[str, Sequence[Metric]]], object],
        clock: LabClock,
        boot_ids: BootIds,
        read_clock: Callable[[], ClockOffset] = read_clock_offset,
    ) -> None:
        self.latest: Report | None = None
        self._config = config
        self._spool = spool
        self._health = health
        self._store = store
        self._report = report
        self._clock = clock
        self._read_clock = read_clock
        self._self_report = SelfReport(clock, boot_ids)
        self._watch = HealthWatch()
        self._known_clock: ClockOffset | None = None
        self._server: HealthServer | None = None
        self._open = contextlib.ExitStack()
        self._reported_s = -REPORT_S
        self._noted: dict[str, str] = {}

    @property
    def address(self) -> str | None:
        """Where the health is served, as `http://host:port`; None where it is not, or not yet."""
        return None if self._server is None else self._server.address

    async def run(self) -> None:
        """Watch until cancelled."""
        with self._open:
            await asyncio.gather(
                self._repeat("clock", self._tell_clock, CLOCK_S), self._repeat("health", self._look, WATCH_S)
            )

    async def _repeat(self, what: str, step: Callable[[], Awaitable[None]], pause_s: float) -> None:
        while True:
            try:
                await step()
                self._note(what, "")
            except Exception as error:  # noqa: BLE001 - whatever is wrong here must not end the gateway
                self._note(what, f"{type(error).__name__}: {error}")
            await asyncio.sleep(pause_s)

    async def _tell_clock(self) -> None:
        """Ask how the clock is and record the answer."""
        self._known_clock = await asyncio.to_thread(self._read_clock)
        self._store(self._self_report.block(self._known_clock))

    async def _look(self) -> None:
        """Take a snapshot and tell it."""
        disk = await asyncio.to_thread(_disk, self._spool.path)
        snapshot = Snapshot(
            gateway=self._health(),
            taken_s=time.monotonic(),
            now_ns=self._clock.now_ns(),
            max_spool_bytes=self._config.max_spool_bytes,
            put_bytes=self._spool.put_bytes,
            disk=disk,
            clock=self._known_clock,
            speed=self._clock.speed,
        )
        self.latest = Report(snapshot.taken_s, self._watch.values(snapshot))
        for value in self.latest.values:
            if value.figure.sort is Sort.WARNING:
                what = " ".join(filter(None, (value.device or "gateway", value.stream, value.figure.name)))
                self._note(what, value.figure.help if value.value else "")
        if snapshot.taken_s - self._reported_s >= REPORT_S:
            self._reported_s = snapshot.taken_s
            self._report(*sparkplug_metrics(self.latest.values))
        self._serve()

    def _serve(self) -> None:
        """Begin to serve the health if it is to be served and is not yet."""
        if self._server is not None or self._config.health_port is None:
            return
        from gateway.prometheus import HealthServer

        host, port = self._config.health_host, self._config.health_port
        server = HealthServer(self._config.node, host, port, lambda: self.latest)
        try:
            self._server = self._open.enter_context(server)
        except OSError as error:
            self._note("health server", f"cannot listen at {host}:{port}: {error}")
            return
        self._note("health server", "")
        _log.info("health at %s/metrics and %s/health", server.address, server.address)

    def _note(self, what: str, trouble: str) -> None:
        """Log a trouble once, not each time."""
        if trouble != self._noted.get(what, ""):
            self._noted[what] = trouble
            if trouble:
                _log.warning("%s: %s", what, trouble)


def _disk(spool: Path) -> Disk | None:
    """Return how full the spool's disk is; None if it does not say."""
    try:
        size = sum(path.stat().st_size for path in spool.parent.glob(f"{spool.name}*"))
        return Disk(shutil.disk_usage(spool.parent).free, size)
    except OSError:
        return None
