"""One connection to a simulated device, through a real HCI connection: set up, streaming, lost, regained."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest

from firmware_sim.device import AttError, FrameDevice
from firmware_sim.links.virtual_ble import serve_ble
from gateway.ble import BleTransport, open_radio
from gateway.transport import Frame, LinkError, Trouble
from protocols.devices.kind import BleLink, GattCharacteristic, GattService, GattWrite
from protocols.devices.registry import device_kind
from protocols.errors import TransportError
from protocols.lab_clock import LabClock
from tests.gateway.ble_lab import (
    BATTERY,
    BATTERY_SERVICE,
    CLOCK,
    CONTROL,
    ECG,
    ECG_SERVICE,
    INFORMED_LINK,
    LINK,
    PULSE,
    PULSE_SERVICE,
    Counter,
    drain,
    lab,
    let_go,
    numbers,
    strap,
    take,
    transport,
)
from tests.gateway.conftest import wait_until


def test_reads_answers_and_notifications_arrive_as_frames() -> None:
    async def frames() -> list[Frame]:
        async with lab(strap()) as (_, radio), transport(radio) as connection:
            return await take(connection, 20)

    by_source: dict[str, list[Frame]] = {}
    for frame in asyncio.run(frames()):
        by_source.setdefault(frame.source, []).append(frame)
    assert [frame.data for frame in by_source[BATTERY]] == [b"\x57"]
    assert [frame.data for frame in by_source[CONTROL]] == [b"\xf0\x02\x00\x00"]
    assert numbers(by_source[PULSE]) == list(range(len(by_source[PULSE])))
    assert numbers(by_source[ECG]) == list(range(len(by_source[ECG])))
    ecg = Counter(ECG, period_s=1, size=229)
    assert [frame.data for frame in by_source[ECG]] == [ecg.encode(i, 0) for i in range(len(by_source[ECG]))]


def test_frames_are_stamped_with_lab_time_when_they_arrive() -> None:
    origin_ns = time.time_ns()
    clock = LabClock(time.time_ns, time.monotonic_ns, speed=10, origin_ns=origin_ns)

    async def stamps() -> tuple[list[Frame], list[int]]:
        async with (
            asyncio.timeout(10),
            serve_ble([strap(period_s=1.0)], clock) as air,
            open_radio(air.adapter) as radio,
            BleTransport("strap", LINK, clock, radio) as connection,
        ):
            began_ns = clock.now_ns()
            await asyncio.sleep(0.5)
            woke_ns = clock.now_ns()
            return await take(connection, 5, PULSE), [began_ns, woke_ns, clock.now_ns()]

    frames, (began_ns, woke_ns, ended_ns) = asyncio.run(stamps())
    stamps_ns = [frame.arrival_ns for frame in frames]
    assert began_ns < stamps_ns[0] < woke_ns  # not when it was taken
    assert stamps_ns == sorted(stamps_ns)
    assert stamps_ns[-1] < ended_ns
    steps_s = [(b.arrival_monotonic_ns - a.arrival_monotonic_ns) / 1e9 for a, b in itertools.pairwise(frames)]
    assert sum(steps_s) == pytest.approx(4.0, abs=0.5)


def test_twenty_devices_deliver_all_their_frames_in_order() -> None:
    names = [f"strap-{i}" for i in range(20)]

    async def all_frames() -> list[list[Frame]]:
        async with lab(*(strap(name, period_s=0.1) for name in names)) as (_, radio):

            async def one(name: str) -> list[Frame]:
                async with transport(radio, name) as connection:
                    return await take(connection, 10, ECG)

            return await asyncio.gather(*(one(name) for name in names))

    for frames in asyncio.run(all_frames()):
        assert numbers(frames) == list(range(10))


@pytest.mark.parametrize(
    ("services", "missing"),
    [
        (LINK.services[1:], f"service {PULSE_SERVICE} with characteristic {PULSE}"),
        (
            (*LINK.services[:2], GattService(ECG_SERVICE, LINK.services[2].characteristics[:1])),
            f"service {ECG_SERVICE} with characteristic {ECG}",
        ),
    ],
)
def test_a_device_without_what_makes_its_kind_is_an_error_that_names_it(
    services: tuple[GattService, ...], missing: str
) -> None:
    async def connect() -> None:
        device = strap(link=BleLink(services=services, mtu=232))
        async with lab(device) as (air, radio):
            with pytest.raises(
                TransportError, match=f"BLE device strap has no {missing}, expected by its kind"
            ):
                async with transport(radio):
                    pytest.fail("entered")
            await let_go(air, device)

    asyncio.run(connect())


def test_a_device_need_not_have_or_tell_what_is_only_information() -> None:
    def refuse(_run_s: float) -> bytes:
        raise AttError(0x05, "not to you")

    without_battery = strap("a", link=BleLink((LINK.services[0], LINK.services[2]), mtu=232))
    battery_only_read = GattService(BATTERY_SERVICE, (GattCharacteristic(BATTERY, frozenset({"read"})),))
    quiet_battery = strap("b", link=BleLink((LINK.services[0], battery_only_read, LINK.services[2]), mtu=232))

    async def sources() -> list[set[str]]:
        devices = without_battery, quiet_battery, strap("c", battery=refuse)
        async with lab(*devices) as (_, radio):
            told = []
            for device in devices:
                async with transport(radio, device.name) as connection:
                    told.append({frame.source for frame in await take(connection, 12)})
            return told

    streams = {PULSE, CONTROL, ECG}
    assert asyncio.run(sources()) == [streams, streams | {BATTERY}, streams]


def test_a_device_that_refuses_its_startup_command_is_an_error_that_says_so() -> None:
    link = BleLink(LINK.services, startup=(GattWrite(CONTROL, b"\x99"),), mtu=232)

    async def connect() -> None:
        device = strap()
        async with lab(device) as (air, radio):
            refused = f"BLE device strap .*: writing 99 to {CONTROL}: .*128"
            with pytest.raises(LinkError, match=refused) as raised:
                async with BleTransport("strap", link, CLOCK, radio):
                    pytest.fail("entered")
            assert raised.value.trouble is Trouble.REFUSED
            await let_go(air, device)

    asyncio.run(connect())


def test_a_device_that_falls_silent_in_setting_up_is_an_error() -> None:
    async def connect() -> None:
        def fall_silent(_run_s: float) -> bytes:
            air.mute(device)
            return b"\x57"

        device = strap(battery=fall_silent)
        async with lab(device) as (air, radio):
            with pytest.raises(TransportError, match=f"reading {BATTERY}: no answer in time"):
                async with transport(radio, answer_timeout_s=0.2):
                    pytest.fail("entered")

    asyncio.run(connect())


def test_a_device_that_vanishes_in_setting_up_is_an_error() -> None:
    async def connect() -> None:
        def vanish(_run_s: float) -> bytes:
            air.link_loss(device)
            raise AttError(0x0E, "gone")

        device = strap(battery=vanish)
        async with lab(device) as (air, radio):
            with pytest.raises(TransportError, match=f"reading {BATTERY}: .*Disconnected"):
                async with transport(radio, answer_timeout_s=60):  # longer than the test may take
                    pytest.fail("entered")

    asyncio.run(connect())


def test_a_lost_link_ends_the_frames_after_the_last_that_arrived() -> None:
    async def lose() -> list[int]:
        device = strap()
        async with lab(device) as (air, radio), transport(radio) as connection:
            await take(connection, 5, PULSE)
            await asyncio.sleep(0.3)
            air.link_loss(device)
            waiting: list[Frame] = []
            with pytest.raises(TransportError, match=r"BLE device strap with .*: connection lost"):
                await drain(connection, waiting)
            with pytest.raises(TransportError):
                await take(connection, 1)
            return numbers([frame for frame in waiting if frame.source == PULSE])

    waiting = asyncio.run(lose())
    assert waiting == list(range(5, 5 + len(waiting)))
    assert waiting


def test_a_lost_device_can_be_connected_again_and_its_subscriptions_are_new() -> None:
    async def reconnect() -> list[list[int]]:
        device, counts = strap(), []
        async with lab(device) as (air, radio):
            for _attempt in range(3):
                async with transport(radio) as connection:
                    counts.append(numbers(await take(connection, 5, ECG)))
                    air.link_loss(device)
            return counts

    counts = asyncio.run(reconnect())
    for count in counts:
        assert count == list(range(count[0], count[0] + 5))
    assert counts[0][0] == 0
    assert counts[1][0] > counts[0][-1]
    assert counts[2][0] > counts[1][-1]


def test_a_link_lost_in_the_middle_of_connecting_is_tried_again() -> None:
    async def connect() -> list[int]:
        device = strap()
        async with lab(device) as (air, radio):

            async def cut_once() -> None:
                while not air.is_connected(device):
                    await asyncio.sleep(0)
                air.link_loss(device)

            cutting = asyncio.create_task(cut_once())
            async with transport(radio) as connection:
                await cutting
                return numbers(await take(connection, 5, PULSE))

    assert asyncio.run(connect()) == [0, 1, 2, 3, 4]


def test_many_devices_lost_at_random_are_all_back_in_the_end(rng: Any) -> None:
    async def churn() -> None:
        devices = [strap(f"strap-{i}", period_s=0.05) for i in range(6)]
        async with lab(*devices) as (air, radio):
            stop = asyncio.Event()
            n_frames = [0] * len(devices)

            async def keep(index: int) -> None:
                while not stop.is_set():
                    try:
                        async with transport(radio, devices[index].name) as connection:
                            async for _frame in connection.frames():
                                n_frames[index] += 1
                    except TransportError:
                        continue

            keeping = [asyncio.create_task(keep(index)) for index in range(len(devices))]
            for index in rng.integers(0, len(devices), 60):
                await asyncio.sleep(0.02)
                air.link_loss(devices[index])
            before = list(n_frames)
            more = 100  # more than may still wait of the links lost
            await wait_until(lambda: all(now > was + more for was, now in zip(before, n_frames, strict=True)))
            for task in keeping:
                task.cancel()
            results = await asyncio.gather(*keeping, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)

    asyncio.run(churn())


def test_a_cancelled_connection_ends_as_cancelled_and_lets_go_of_the_device() -> None:
    async def cancel() -> None:
        device = strap()
        async with lab(device) as (air, radio):
            for after_s in (0.0, 0.005, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05, 0.06):
                attempt = asyncio.create_task(transport(radio).__aenter__())
                await asyncio.sleep(after_s)
                attempt.cancel()
                await asyncio.wait({attempt})
                if not attempt.cancelled():
                    await attempt.result().__aexit__(None, None, None)
                await let_go(air, device)
            async with transport(radio) as connection:
                await take(connection, 3)

    asyncio.run(cancel())


@pytest.mark.parametrize("name", ["heart-rate-strap", "pulse-oximeter", "polar-h10"])
def test_the_kinds_of_the_registry_connect(name: str) -> None:
    kind = device_kind(name)
    assert isinstance(kind.link, BleLink)
    link = kind.link
    commands: list[bytes] = []

    def take_command(_device: FrameDevice, command: bytes) -> bytes:
        commands.append(command)
        return b"\xf0" + command[:2] + b"\x00\x00"

    async def connect() -> None:
        values = dict.fromkeys(link.reads, b"\x01")
        controls = {write.characteristic: take_command for write in link.startup}
        device = FrameDevice(kind, "device", [], values=values, controls=controls)
        async with lab(device) as (_, radio), BleTransport("device", link, CLOCK, radio) as connection:
            frames = await take(connection, len(link.reads) + len(link.startup))
            assert {frame.source for frame in frames} == {*link.reads, *controls}

    asyncio.run(connect())
    assert commands == [write.data for write in link.startup]


def test_a_revived_connection_is_subscribed_and_started_anew() -> None:
    async def run() -> None:
        device = strap()
        async with lab(device) as (_, radio), transport(radio) as connection:
            before = numbers(await take(connection, 3, ECG))
            for outlet in device.outlets:
                outlet.running = False
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await drain(connection, [])
            assert await connection.revive()
            assert numbers(await take(connection, 3, ECG))[0] > before[-1]

    asyncio.run(run())


def test_a_connection_that_was_lost_or_does_not_answer_cannot_be_revived() -> None:
    async def run() -> None:
        device = strap()
        async with lab(device) as (air, radio):
            assert not await transport(radio).revive()
            async with transport(radio, answer_timeout_s=0.2) as connection:
                await take(connection, 3, ECG)
                air.mute(device)
                assert not await connection.revive()
                air.unmute(device)
                assert await connection.revive()
                air.link_loss(device)
                with pytest.raises(LinkError):
                    await drain(connection, [])
                assert not await connection.revive()

    asyncio.run(run())


def test_a_device_whose_firmware_changed_is_connected_anew() -> None:
    versions = iter([b"1.0", b"1.0", b"2.0", b"2.0"])

    async def run() -> None:
        device = strap(link=INFORMED_LINK, firmware=lambda _run_s: next(versions))
        async with lab(device) as (_, radio):
            for _ in range(2):
                async with transport(radio, link=INFORMED_LINK) as connection:
                    await take(connection, 3, ECG)
            with pytest.raises(LinkError, match=r"firmware changed from b'1\.0' to b'2\.0'") as raised:
                async with transport(radio, link=INFORMED_LINK):
                    pytest.fail("entered")
            assert raised.value.trouble is Trouble.TRANSIENT
            async with transport(radio, link=INFORMED_LINK) as connection:
                await take(connection, 3, ECG)

    asyncio.run(run())


def test_a_connection_too_narrow_for_the_device_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    wide = BleLink(LINK.services, reads=LINK.reads, startup=LINK.startup, mtu=500)

    async def run() -> None:
        async with lab(strap()) as (_, radio), transport(radio, link=wide) as connection:
            await take(connection, 3, PULSE)

    asyncio.run(run())
    assert "strap: ATT MTU 232, expected 500" in caplog.text
