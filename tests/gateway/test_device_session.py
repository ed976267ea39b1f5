"""A device streams, is lost, comes back, sends rubbish: nothing stops, and everything is counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.clock import BootIds
from gateway.device_session import DeviceSession, DeviceState
from protocols.devices.kind import DeviceKind
from protocols.lab_clock import LabClock
from protocols.samples import SampleBlock


class Bench:
    """A session with a fake device, and what it handed over."""

    def __init__(self, kind: DeviceKind, device: Any, *, block_s: float = 0.05) -> None:
        self.blocks: list[SampleBlock] = []
        self.states: list[DeviceState] = []
        self.room = True
        self.session = DeviceSession(
            "dut",
            kind,
            connect=device.connect,
            store=self._store,
            clock=LabClock(time.time_ns, time.monotonic_ns),
            boot_ids=BootIds(),
            block_s=block_s,
            on_change=lambda session: self.states.append(session.state),
        )

    def _store(self, block: SampleBlock) -> bool:
        if self.room:
            self.blocks.append(block)
        return self.room

    @property
    def n_samples(self) -> int:
        return sum(b.n_samples for b in self.blocks)

    @asynccontextmanager
    async def running(self) -> Any:
        task = asyncio.create_task(self.session.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def test_samples_become_blocks_no_later_than_block_s(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any]
) -> None:
    bench = Bench(kind, fake_device, block_s=0.2)

    async def run() -> None:
        async with bench.running():
            await until(lambda: fake_device.connections)
            fake_device.say_counted(10)
            said_s = time.monotonic()
            await until(lambda: bench.blocks)
            assert 0.05 < time.monotonic() - said_s < 0.3
            health = bench.session.health()
            assert (health.state, health.frames, health.samples, health.blocks) == ("streaming", 1, 10, 1)

    asyncio.run(run())
    assert bench.states == ["connected", "streaming", "stopped"]


def test_a_stop_hands_over_what_was_waiting_and_disconnects(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any]
) -> None:
    bench = Bench(kind, fake_device, block_s=60)

    async def run() -> None:
        async with bench.running():
            await until(lambda: fake_device.connections)
            fake_device.say_counted(10)
            fake_device.say_counted(10)
            await until(lambda: bench.session.health().frames == 2)
            assert bench.blocks == []

    asyncio.run(run())
    assert bench.n_samples == 20
    assert fake_device.open_links == 0


def test_a_lost_link_is_reported_and_taken_up_again_with_a_new_boot(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any]
) -> None:
    bench = Bench(kind, fake_device)

    async def run() -> None:
        async with bench.running():
            for k in range(3):
                await until(lambda: len(fake_device.connections) == k + 1)  # noqa: B023 - awaited at once
                fake_device.say_counted(10)
                await until(lambda: bench.session.state is DeviceState.STREAMING)
                fake_device.break_link()
            await until(lambda: len(fake_device.connections) == 4)
            health = bench.session.health()
            assert (health.connections, health.samples) == (4, 30)
            assert health.last_error == "the link broke"

    asyncio.run(run())
    assert [b.n_samples for b in bench.blocks] == [10, 10, 10]
    boots = [b.boot_id for b in bench.blocks]
    assert sorted(set(boots)) == boots


def test_a_device_that_is_back_streams_within_5_s(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any]
) -> None:
    bench = Bench(kind, fake_device)
    fake_device.refuse = "out of range"

    async def run() -> None:
        async with bench.running():
            await asyncio.sleep(3.5)
            assert bench.session.health().last_error == "out of range"
            fake_device.refuse = ""
            back_s = time.monotonic()
            await until(lambda: fake_device.connections)
            fake_device.say_counted(10)
            await until(lambda: bench.session.state is DeviceState.STREAMING)
            assert time.monotonic() - back_s < 5

    asyncio.run(run())


def test_an_absent_device_is_logged_once(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(kind, fake_device)
    fake_device.refuse = "out of range"

    async def run() -> None:
        async with bench.running():
            await until(lambda: bench.states.count(DeviceState.CONNECTING) >= 3)

    asyncio.run(run())
    assert [r.message for r in caplog.records] == ["device dut: out of range"]


def test_rubbish_is_counted_and_stops_nothing(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any]
) -> None:
    bench = Bench(kind, fake_device)

    async def run() -> None:
        async with bench.running():
            await until(lambda: fake_device.connections)
            for _ in range(5):
                fake_device.say(b"\xff rubbish")
                fake_device.say_counted(10)
            await until(lambda: bench.n_samples == 50)
            health = bench.session.health()
            assert (health.decode_errors, health.frames, health.connections) == (5, 10, 1)
            assert "expected JSON" in health.last_error

    asyncio.run(run())


def test_a_defect_in_the_transport_is_a_lost_link_and_no_end(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(kind, fake_device)

    async def run() -> None:
        async with bench.running():
            await until(lambda: fake_device.connections)
            fake_device.connections[-1].put_nowait(ZeroDivisionError("a bug"))
            await until(lambda: len(fake_device.connections) == 2)
            fake_device.say_counted(10)
            await until(lambda: bench.n_samples == 10)

    asyncio.run(run())
    assert "ZeroDivisionError: a bug" in bench.session.health().last_error


def test_properties_are_kept_and_announced_when_they_change(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any]
) -> None:
    bench = Bench(kind, fake_device)

    async def run() -> None:
        async with bench.running():
            await until(lambda: fake_device.connections)
            for battery in ("80", "80", "79"):
                fake_device.say({"properties": {"battery_percent": battery, "model": "X"}})
            await until(lambda: bench.session.health().frames == 3)
            assert bench.session.health().properties == {"battery_percent": "79", "model": "X"}

    asyncio.run(run())
    assert bench.states == ["connected", "connected", "connected", "stopped"]


def test_refused_blocks_lost_samples_and_repeats_are_counted(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any]
) -> None:
    bench = Bench(kind, fake_device)

    async def run() -> None:
        async with bench.running():
            await until(lambda: fake_device.connections)
            fake_device.say_counted(10)
            fake_device.next_counter = 5
            fake_device.say({"samples": {"counted": {"values": [list(range(10))] * 2, "counter": 0}}})
            fake_device.next_counter = 25
            fake_device.say_counted(10)
            await until(lambda: bench.n_samples == 20)
            bench.room = False
            fake_device.say_counted(10)
            await until(lambda: bench.session.health().refused_blocks == 1)
            health = bench.session.health()
            assert (health.lost_samples, health.duplicate_frames) == (15, 1)

    asyncio.run(run())
