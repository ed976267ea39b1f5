"""A device streams, is lost, comes back, sends rubbish: nothing stops, and everything is counted."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from gateway.clock import BootIds
from gateway.device_health import DeviceState
from gateway.device_session import DeviceSession, keep_ticking
from gateway.silence import Remedy, Watchdog
from gateway.transport import LinkError, Trouble
from protocols.devices.kind import DeviceKind
from protocols.frames import FrameBlock
from protocols.gaps import Gap, GapReason
from protocols.lab_clock import LabClock
from protocols.records import Record
from protocols.samples import SampleBlock


class Bench:
    """A session with a fake device, and what it handed over."""

    def __init__(
        self, kind: DeviceKind, device: Any, *, block_s: float = 0.05, silence_s: float | None = None
    ) -> None:
        self.blocks: list[SampleBlock] = []
        self.frames: list[FrameBlock] = []
        self.gaps: list[Gap] = []
        self.states: list[DeviceState] = []
        self.room = True
        self.power_cycles = 0
        self.block_s = block_s
        self.session = DeviceSession(
            "dut",
            kind,
            connect=device.connect,
            store=self._store,
            clock=LabClock(time.time_ns, time.monotonic_ns),
            boot_ids=BootIds(),
            block_s=block_s,
            on_change=lambda session: self.states.append(session.state),
            silence_s=silence_s,
            power_cycle=self._power_cycle,
        )

    def _store(self, record: Record) -> bool:
        if isinstance(record, Gap):
            self.gaps.append(record)
            return True
        if self.room:
            kept: list[Any] = self.frames if isinstance(record, FrameBlock) else self.blocks
            kept.append(record)
        return self.room

    async def _power_cycle(self) -> bool:
        self.power_cycles += 1
        return True

    def last_gap(self, stream: str) -> Gap:
        return next(gap for gap in reversed(self.gaps) if gap.stream.name == stream)

    @property
    def n_samples(self) -> int:
        return sum(b.n_samples for b in self.blocks)

    @asynccontextmanager
    async def running(self) -> Any:
        tasks = [
            asyncio.create_task(self.session.run()),
            asyncio.create_task(keep_ticking([self.session], self.block_s)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def test_samples_become_a_block_although_no_more_of_them_come(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any]
) -> None:
    bench = Bench(kind, fake_device, block_s=0.2)

    async def run() -> None:
        async with bench.running():
            await until(lambda: fake_device.connections)
            fake_device.say_counted(10)
            await until(lambda: bench.blocks)
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


def test_a_lost_link_is_taken_up_again_and_a_device_that_counted_on_keeps_its_boot(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any]
) -> None:
    bench = Bench(replace(kind, counter_modulus={"counted": 1 << 32}), fake_device)
    counters: list[int] = []

    async def run() -> None:
        started_s = time.monotonic()
        async with bench.running():
            for k in range(3):
                await until(lambda: len(fake_device.connections) == k + 1)  # noqa: B023 - awaited at once
                counters.append(1000 + round((time.monotonic() - started_s) * 250))
                said = {"values": [list(range(10))] * 2, "counter": counters[-1]}
                fake_device.say({"samples": {"counted": said}})
                await until(lambda: bench.session.state is DeviceState.STREAMING)
                fake_device.break_link()
            await until(lambda: len(fake_device.connections) == 4)
            health = bench.session.health()
            assert (health.connections, health.samples) == (4, 30)
            assert health.lost_samples == counters[2] - counters[0] - 20
            assert health.last_error == "the link broke"

    asyncio.run(run())
    assert [(b.first_index, b.n_samples) for b in bench.blocks] == [(counter, 10) for counter in counters]
    assert len({b.boot_id for b in bench.blocks}) == 1
    gaps = [g for g in bench.gaps if g.stream.name == "counted" and g.after_index >= 0]
    assert [(g.reason, g.after_index, g.n_samples) for g in gaps] == [
        (GapReason.DISCONNECTED, before + 9, after - before - 10)
        for before, after in itertools.pairwise(counters)
    ]


def test_without_a_counter_or_clock_a_new_connection_is_a_new_boot(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any]
) -> None:
    bench = Bench(kind, fake_device)

    async def run() -> None:
        async with bench.running():
            for k in range(2):
                await until(lambda: len(fake_device.connections) == k + 1)  # noqa: B023 - awaited at once
                fake_device.say({"samples": {"plain": {"values": [[1, 2, 3]]}}})
                await until(lambda: bench.session.state is DeviceState.STREAMING)
                fake_device.break_link()
            await until(lambda: len(fake_device.connections) == 3)

    asyncio.run(run())
    first, second = bench.blocks
    assert first.boot_id < second.boot_id
    gap = bench.last_gap("plain")
    assert (gap.reason, gap.after_boot_id, gap.after_index) == (GapReason.DISCONNECTED, first.boot_id, 2)
    assert (gap.n_samples, gap.end_ns) == (None, second.start_ns)


def test_every_frame_is_recorded_as_it_came_and_numbered_in_its_connection(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any]
) -> None:
    bench = Bench(kind, fake_device)

    async def run() -> None:
        async with bench.running():
            await until(lambda: fake_device.connections)
            fake_device.say(b"\xff rubbish")
            fake_device.say_counted(10)
            fake_device.break_link()
            await until(lambda: len(fake_device.connections) == 2)
            for _ in range(3):
                fake_device.say_counted(10)
                await asyncio.sleep(0.06)
            await until(lambda: bench.session.health().frames == 5)

    asyncio.run(run())
    one = [f for f in bench.frames if f.connection_id == bench.frames[0].connection_id]
    two = [f for f in bench.frames if f.connection_id > bench.frames[0].connection_id]
    assert len(one) + len(two) == len(bench.frames)
    assert [f.first_frame + i for f in one for i in range(f.n_frames)] == [0, 1]
    assert [f.first_frame + i for f in two for i in range(f.n_frames)] == [0, 1, 2]
    assert one[0].data[0] == b"\xff rubbish"
    assert b"counted" in two[-1].data[-1]
    assert all(f.sources == ("serial",) * f.n_frames for f in bench.frames)


def test_a_silent_device_is_revived_over_its_live_connection(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any]
) -> None:
    bench = Bench(kind, fake_device, silence_s=0.4)

    async def run() -> None:
        async with bench.running():
            await until(lambda: fake_device.connections)
            fake_device.say_counted(10)
            await until(lambda: fake_device.revivals == 1)
            assert bench.session.state is DeviceState.SILENT
            assert bench.session.online
            fake_device.say_counted(10)
            await until(lambda: bench.session.state is DeviceState.STREAMING)
            assert len(fake_device.connections) == 1
            assert bench.session.health().silences == 1

    asyncio.run(run())
    assert bench.last_gap("plain").reason is GapReason.DISCONNECTED  # never seen


def test_what_reviving_does_not_help_is_connected_anew_then_its_adapter_power_cycled_then_alarms(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.device_session.FIRST_SILENCE_S", 0.4)
    bench = Bench(kind, fake_device, silence_s=0.4)

    async def run() -> None:
        async with bench.running():
            await until(lambda: fake_device.connections)
            fake_device.say_counted(10)
            await until(lambda: len(fake_device.connections) == 2)
            assert (fake_device.revivals, bench.power_cycles) == (1, 0)
            await until(lambda: len(fake_device.connections) == 3)
            assert bench.power_cycles == 1
            await until(lambda: bench.session.health().alarm)
            assert "silent for 0.4 s" in bench.session.health().alarm
            await until(lambda: len(fake_device.connections) == 4)
            assert bench.power_cycles == 1
            fake_device.say_counted(10)
            await until(lambda: bench.session.state is DeviceState.STREAMING)
            while bench.session.health().alarm:
                fake_device.say_counted(10)
                await asyncio.sleep(0.05)
            assert fake_device.revivals == 1

    asyncio.run(run())


def test_a_device_that_cannot_be_revived_is_connected_anew_without_a_further_remedy(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    only = iter([Remedy.REVIVE])
    monkeypatch.setattr(Watchdog, "silent", lambda *_, **__: next(only, None))
    bench = Bench(kind, fake_device, silence_s=0.4)
    fake_device.revivable = False

    async def run() -> None:
        async with bench.running():
            await until(lambda: fake_device.connections)
            fake_device.say_counted(10)
            await until(lambda: len(fake_device.connections) == 2)
            assert fake_device.revivals == 1

    asyncio.run(run())


def test_while_one_stream_flows_a_silent_one_does_not_cost_the_link_again_and_again(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any]
) -> None:
    bench = Bench(kind, fake_device, silence_s=0.4)

    async def run() -> None:
        async with bench.running():
            await until(lambda: fake_device.connections)
            fake_device.say({"samples": {"plain": {"values": [[1, 2, 3]]}}})
            deadline_s = time.monotonic() + 20
            while not bench.session.health().alarm:
                assert time.monotonic() < deadline_s
                fake_device.say_counted(10)
                await asyncio.sleep(0.05)
            assert "no plain" in bench.session.health().alarm
            connections = len(fake_device.connections)
            assert connections == 2
            for _ in range(30):
                fake_device.say_counted(10)
                await asyncio.sleep(0.05)
            assert len(fake_device.connections) == connections
            assert bench.power_cycles == 0
            assert bench.session.health().stream("plain").silent

    asyncio.run(run())


def test_the_pause_before_the_next_attempt_suits_the_trouble(
    kind: DeviceKind, fake_device: Any, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(kind, fake_device)
    asked: list[tuple[Trouble, int]] = []

    def pause_s(error: LinkError, n_failures: int) -> float:
        asked.append((error.trouble, n_failures))
        return 0.01

    monkeypatch.setattr("gateway.device_session.pause_s", pause_s)

    async def run() -> None:
        async with bench.running():
            for k, trouble in enumerate((Trouble.TRANSIENT, Trouble.TRANSIENT, Trouble.REFUSED)):
                await until(lambda: len(fake_device.connections) == k + 1)  # noqa: B023 - awaited at once
                fake_device.connections[-1].put_nowait(LinkError("no", trouble))
            await until(lambda: len(fake_device.connections) == 4)
            fake_device.say_counted(10)
            fake_device.connections[-1].put_nowait(LinkError("no"))
            await until(lambda: len(fake_device.connections) == 5)

    asyncio.run(run())
    assert asked == [
        (Trouble.TRANSIENT, 1),
        (Trouble.TRANSIENT, 2),
        (Trouble.REFUSED, 3),
        (Trouble.TRANSIENT, 1),
    ]


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
            assert (health.lost_samples, health.duplicate_frames) == (15 + 10, 1)
            counted = health.stream("counted")
            assert (counted.samples, counted.refused_samples, counted.duplicate_frames) == (20, 10, 1)
            assert bench.last_gap("counted").reason is GapReason.SPOOL_FULL
            await until(lambda: bench.session.health().refused_frames > 0)

    asyncio.run(run())
