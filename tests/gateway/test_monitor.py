"""The monitor of a running gateway: what it tells, records and survives."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import monitor
from gateway.broker import Broker
from gateway.clock import BootIds
from gateway.clock_offset import UNKNOWN, ClockOffset
from gateway.config import GatewayConfig
from gateway.monitor import Monitor
from gateway.spool import Spool
from gateway.supervisor import Gateway, GatewayHealth
from protocols.records import CLOCK
from protocols.samples import SampleBlock
from protocols.sparkplug.payload import Metric
from tests.gateway import health_snapshots
from tests.gateway.conftest import ManualClock

GOOD = ClockOffset(1_000_000, 2_000_000, "chrony", synchronised=True)
Until = Callable[..., Awaitable[None]]


@dataclass
class Watched:
    """A monitor of a gateway that a test makes up."""

    config: GatewayConfig
    spool: Spool
    health: GatewayHealth = field(default_factory=lambda: health_snapshots.gateway(health_snapshots.strap()))
    broken: Exception | None = None
    clock_offset: ClockOffset = GOOD
    stored: list[SampleBlock] = field(default_factory=list)
    reports: list[tuple[Sequence[Metric], Mapping[str, Sequence[Metric]]]] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    def monitor(self) -> Monitor:
        return Monitor(
            self.config,
            self.spool,
            health=self.read_health,
            store=self.stored.append,
            report=lambda node, devices: self.reports.append((node, devices)),
            clock=ManualClock().lab,
            boot_ids=BootIds(),
            read_clock=self.read_clock,
        )

    def read_health(self) -> GatewayHealth:
        if self.broken is not None:
            raise self.broken
        return self.health

    def read_clock(self) -> ClockOffset:
        self.threads.add(threading.current_thread().name)
        return self.clock_offset


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(monitor, "WATCH_S", 0.02)
    config = GatewayConfig("lab", "bench-1", Broker.from_url("mqtt://localhost"), tmp_path, (), health_port=0)
    spool = Spool(tmp_path / "spool.sqlite")
    yield Watched(config, spool)
    spool.close()


def run(watched: Watched, act: Callable[[Monitor], Awaitable[None]]) -> None:
    """Run a monitor while a test acts."""

    async def both() -> None:
        watcher = watched.monitor()
        task = asyncio.create_task(watcher.run())
        try:
            await act(watcher)
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(asyncio.wait_for(both(), 30))


async def get(watcher: Monitor, path: str) -> httpx.Response:
    return await asyncio.to_thread(httpx.get, f"{watcher.address}{path}", timeout=10)


def test_what_is_known_of_the_clock_is_recorded_at_once(watched: Watched, until: Until) -> None:
    async def act(_: Monitor) -> None:
        await until(lambda: watched.stored, "a block")

    run(watched, act)
    (block,) = watched.stored
    assert (block.stream, block.values.tolist()) == (CLOCK, [[1_000_000], [2_000_000], [1]])


def test_the_clock_is_read_in_another_thread_since_that_may_take_long(watched: Watched, until: Until) -> None:
    async def act(_: Monitor) -> None:
        await until(lambda: watched.stored, "a block")

    run(watched, act)
    assert threading.current_thread().name not in watched.threads


def test_a_clock_that_nobody_keeps_is_recorded_and_warned_of(
    watched: Watched, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    watched.clock_offset = UNKNOWN

    async def act(_: Monitor) -> None:
        await until(lambda: "gateway clock_doubtful" in caplog.text, "a warning")

    run(watched, act)
    assert watched.stored[0].values.tolist() == [[0], [(1 << 63) - 1], [0]]


def test_a_clock_that_takes_long_to_read_delays_nothing(
    watched: Watched, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def read() -> ClockOffset:
        asked.set()
        answer.wait(20)
        return GOOD

    watched.read_clock = read  # type: ignore[method-assign]

    async def act(watcher: Monitor) -> None:
        await until(lambda: asked.is_set() and watcher.latest, "values")
        assert "clock_doubtful" not in caplog.text
        answer.set()
        await until(lambda: watched.stored, "a block")

    run(watched, act)


def test_the_recorder_is_told_at_once_and_then_every_ten_seconds(watched: Watched, until: Until) -> None:
    rounds = 0

    def count() -> GatewayHealth:
        nonlocal rounds
        rounds += 1
        return health_snapshots.gateway(health_snapshots.strap())

    watched.read_health = count  # type: ignore[method-assign]

    async def act(_: Monitor) -> None:
        await until(lambda: rounds >= 5, "rounds")

    run(watched, act)
    ((node, devices),) = watched.reports
    assert "Health/backlog_blocks" in {m.name for m in node}
    assert {"Health/frames", "Health/ecg/rate_hz"} <= {m.name for m in devices["strap"]}


def test_both_pages_are_served(watched: Watched, until: Until) -> None:
    async def act(watcher: Monitor) -> None:
        await until(lambda: watcher.address, "an address")
        metrics, health = await get(watcher, "/metrics"), await get(watcher, "/health")
        assert 'lab_device_streaming{device="strap",gateway="bench-1",group="lab"} 1.0' in metrics.text
        assert 'lab_gateway_disk_free_bytes{gateway="bench-1",group="lab"}' in metrics.text
        files = [path.stat().st_size for path in watched.config.data.glob("spool.sqlite*")]
        assert health.json()["figures"]["spool_file_bytes"] == sum(files)

    run(watched, act)


def test_a_disk_that_does_not_answer_leaves_the_other_figures(
    watched: Watched, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise OSError("no such device")

    monkeypatch.setattr("shutil.disk_usage", broken)

    async def act(watcher: Monitor) -> None:
        await until(lambda: watcher.latest, "values")
        assert watcher.latest is not None
        assert health_snapshots.said(watcher.latest.values, "disk_free_bytes") is None
        assert health_snapshots.said(watcher.latest.values, "broker_connected") is True

    run(watched, act)


def test_nothing_is_served_without_a_port(watched: Watched, until: Until) -> None:
    watched.config = replace(watched.config, health_port=None)

    async def act(watcher: Monitor) -> None:
        await until(lambda: watcher.latest, "values")
        assert watcher.address is None

    run(watched, act)


def test_a_port_that_is_taken_is_logged_once_and_tried_again(
    watched: Watched, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(first: Monitor) -> None:
        await until(lambda: first.address, "an address")
        port = int(str(first.address).rpartition(":")[2])
        watched.config = replace(watched.config, health_port=port)
        second = watched.monitor()
        task = asyncio.create_task(second.run())
        await until(lambda: "cannot listen" in caplog.text, "a warning")
        await asyncio.sleep(0.2)
        assert caplog.text.count("cannot listen") == 1
        first_task.cancel()
        await asyncio.gather(first_task, return_exceptions=True)
        await until(lambda: second.address, "the port is free now")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def both() -> None:
        nonlocal first_task
        first = watched.monitor()
        first_task = asyncio.create_task(first.run())
        await act(first)

    first_task: asyncio.Task[Any]
    asyncio.run(asyncio.wait_for(both(), 30))


def test_a_defect_in_the_figures_ends_nothing(
    watched: Watched, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    watched.broken = ValueError("a defect")

    async def act(watcher: Monitor) -> None:
        await until(lambda: "a defect" in caplog.text, "a warning")
        assert watcher.latest is None
        watched.broken = None
        await until(lambda: watcher.latest, "values after all")

    run(watched, act)
    assert caplog.text.count("a defect") == 1


def test_a_warning_is_logged_when_it_is_set_and_not_again(
    watched: Watched, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    watched.health = health_snapshots.gateway(health_snapshots.strap(alarm="radio is gone"))

    async def act(_: Monitor) -> None:
        await until(lambda: "strap failing" in caplog.text, "a warning")
        await asyncio.sleep(0.1)

    run(watched, act)
    assert caplog.text.count("strap failing") == 1


def test_a_gateway_serves_its_health_and_keeps_what_it_knows_of_its_clock_without_any_broker(
    tmp_path: Path, until: Until
) -> None:
    nowhere = Broker.from_url("mqtt://127.0.0.1:1")
    config = GatewayConfig("lab", "bench-1", nowhere, tmp_path / "data", (), health_port=0)

    async def act() -> None:
        async with Gateway(config) as gateway:
            await until(lambda: gateway.health_address and gateway.health().backlog_blocks, "the clock's block")
            answer = await asyncio.to_thread(httpx.get, f"{gateway.health_address}/health", timeout=10)
            assert answer.json()["figures"]["broker_connected"] is False

    asyncio.run(asyncio.wait_for(act(), 60))
