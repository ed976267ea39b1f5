from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from firmware_sim.device import DeviceClock, FrameDevice
from firmware_sim.pacing import Pacing, drive, power_on

NewCounter = Callable[..., FrameDevice]


@pytest.mark.parametrize("speed", [0.5, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("drift_ppm", [0.0, 200.0])
def test_every_frame_leaves_when_it_is_due(
    virtual_time: Any, new_counter: NewCounter, speed: float, drift_ppm: float
) -> None:
    device = new_counter(1000, period_s=0.37, clock=DeviceClock(drift_ppm))
    sent_s = []

    async def send(_source: str, _data: bytes) -> None:
        sent_s.append(virtual_time.now_ns() / 1e9 * speed)

    device.connect()
    virtual_time.run(drive(device, virtual_time.clock(speed), send))
    expected = [0.37 * (k + 1) / (1 + drift_ppm * 1e-6) for k in range(1000)]
    assert sent_s == pytest.approx(expected, abs=2e-6 * speed)


def test_a_slow_link_delays_but_never_shifts_the_schedule(virtual_time: Any, new_counter: NewCounter) -> None:
    device, pacing = new_counter(100, period_s=1.0), Pacing()
    sent = []

    async def send(_source: str, data: bytes) -> None:
        number = int.from_bytes(data, "big")
        sent.append((number, virtual_time.now_ns() / 1e9))
        await asyncio.sleep(5.5 if number == 10 else 0)

    device.connect()
    virtual_time.run(drive(device, virtual_time.clock(), send, pacing=pacing))
    assert [number for number, _ in sent] == list(range(100))
    late = dict(sent)
    assert late[15] == pytest.approx(16.5)
    assert late[99] == pytest.approx(100.0)
    assert pacing.n_frames == 100
    assert pacing.worst_lag_s == pytest.approx(4.5)


def test_nothing_is_sent_and_time_does_not_begin_before_the_start(
    virtual_time: Any, new_counter: NewCounter
) -> None:
    device = new_counter(5, period_s=1.0)
    sent_s: list[float] = []

    async def send(_source: str, _data: bytes) -> None:
        sent_s.append(virtual_time.now_ns() / 1e9)

    async def scene() -> None:
        start = asyncio.Event()
        device.connect()
        driving = asyncio.create_task(drive(device, virtual_time.clock(), send, start=start))
        await asyncio.sleep(100)
        assert sent_s == []
        assert device.powered_on_ns is None
        start.set()
        await driving

    virtual_time.run(scene())
    assert sent_s == pytest.approx([101, 102, 103, 104, 105])
    assert device.powered_on_ns == virtual_time.START_NS + 100 * 10**9


def test_run_time_goes_on_over_connections(virtual_time: Any, new_counter: NewCounter) -> None:
    device = new_counter(origin_s=0.0, period_s=1.0)
    sent = []

    async def send(_source: str, data: bytes) -> None:
        sent.append(int.from_bytes(data, "big"))

    async def connection(lasting_s: float) -> None:
        device.connect()
        driving = asyncio.create_task(drive(device, virtual_time.clock(), send))
        await asyncio.sleep(lasting_s)
        driving.cancel()
        device.disconnect()

    async def scene() -> None:
        await connection(3.5)
        await asyncio.sleep(10)
        await connection(3)

    virtual_time.run(scene())
    assert sent == [0, 1, 2, 14, 15]


def test_one_drive_serves_every_connection(virtual_time: Any, new_counter: NewCounter) -> None:
    device = new_counter(origin_s=0.0, period_s=1.0)
    sent = []

    async def send(_source: str, data: bytes) -> None:
        sent.append(int.from_bytes(data, "big"))

    async def scene() -> None:
        driving = asyncio.create_task(drive(device, virtual_time.clock(), send))
        for _ in range(2):
            await asyncio.sleep(10.5)
            device.connect()
            await asyncio.sleep(2.2)
            device.disconnect()
        driving.cancel()

    virtual_time.run(scene())
    assert sent == [11, 24]


def test_devices_powered_on_together_share_their_time(virtual_time: Any, new_counter: NewCounter) -> None:
    devices = [new_counter(1), new_counter(1)]
    power_on(devices, virtual_time.clock())
    assert devices[0].powered_on_ns == devices[1].powered_on_ns == virtual_time.START_NS
    devices[0].powered_on_ns = 5
    power_on(devices, virtual_time.clock())
    assert devices[0].powered_on_ns == 5


def test_a_busy_device_does_not_hold_up_others(virtual_time: Any, new_counter: NewCounter) -> None:
    device = new_counter(10_000, period_s=0.001)
    sent, turns = 0, 0

    async def send(_source: str, _data: bytes) -> None:
        nonlocal sent
        sent += 1

    async def other() -> None:
        nonlocal turns
        while sent < 10_000:
            await asyncio.sleep(0)
            turns += 1

    async def scene() -> None:
        device.connect()
        device.advance(0)
        device.powered_on_ns = virtual_time.START_NS - 100 * 10**9
        await asyncio.gather(drive(device, virtual_time.clock(), send), other())

    virtual_time.run(scene())
    assert turns > 100
