"""The gateway's BLE transport, from simulated devices through a real HCI connection."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from firmware_sim.device import AttError, FrameDevice, Outlet
from firmware_sim.links.virtual_ble import VirtualRadio, serve_ble
from gateway import ble, ble_radio
from gateway.ble import BleRadio, BleTransport, open_radio, scan
from gateway.transport import Frame
from protocols.devices.kind import BleLink, DeviceKind, GattCharacteristic, GattService, GattWrite
from protocols.devices.registry import device_kind
from protocols.errors import TransportError
from protocols.lab_clock import LabClock

PULSE_SERVICE = "0000180d-0000-1000-8000-00805f9b34fb"
PULSE = "00002a37-0000-1000-8000-00805f9b34fb"
BATTERY_SERVICE = "0000180f-0000-1000-8000-00805f9b34fb"
BATTERY = "00002a19-0000-1000-8000-00805f9b34fb"
ECG_SERVICE = "fb005c80-02e7-f387-1cad-8acd2d8df0c8"
CONTROL = "fb005c81-02e7-f387-1cad-8acd2d8df0c8"
ECG = "fb005c82-02e7-f387-1cad-8acd2d8df0c8"
START = b"\x02\x00"

CLOCK = LabClock(time.time_ns, time.monotonic_ns)
LINK = BleLink(
    services=(
        GattService(PULSE_SERVICE, (GattCharacteristic(PULSE, frozenset({"notify"})),)),
        GattService(BATTERY_SERVICE, (GattCharacteristic(BATTERY, frozenset({"read", "notify"})),)),
        GattService(
            ECG_SERVICE,
            (
                GattCharacteristic(CONTROL, frozenset({"write", "indicate"})),
                GattCharacteristic(ECG, frozenset({"notify"})),
            ),
        ),
    ),
    reads=(BATTERY,),
    startup=(GattWrite(CONTROL, START),),
    mtu=232,
)


class Counter:
    """Frames that carry their number and are filled up to a size."""

    n_frames = None

    def __init__(self, uuid: str, *, period_s: float, size: int) -> None:
        self.uuid, self.period_s, self.size = uuid, period_s, size

    def due_s(self, frame: int) -> float:
        return (frame + 1) * self.period_s

    def encode(self, frame: int, origin_s: float) -> bytes:
        return frame.to_bytes(4, "little") + bytes(i % 251 for i in range(self.size - 4))


def start_ecg(device: FrameDevice, command: bytes) -> bytes:
    if command != START:
        raise AttError(0x80, "unknown command")
    device.start(ECG)
    return b"\xf0" + command + b"\x00"


def strap(
    name: str = "strap",
    *,
    period_s: float = 0.02,
    link: BleLink = LINK,
    battery: Callable[[float], bytes] = lambda _run_s: b"\x57",
) -> FrameDevice:
    kind = DeviceKind("strap", "A chest strap", link, (), lambda: pytest.fail("decodes nothing"))
    outlets = [
        Outlet(Counter(PULSE, period_s=period_s, size=20)),
        Outlet(Counter(ECG, period_s=period_s, size=229), on_connect=False),
    ]
    return FrameDevice(kind, name, outlets, values={BATTERY: battery}, controls={CONTROL: start_ecg})


@asynccontextmanager
async def lab(*devices: FrameDevice, **options: Any) -> AsyncIterator[tuple[VirtualRadio, BleRadio]]:
    async with (
        asyncio.timeout(30),
        serve_ble(devices, CLOCK, **{"advertising_interval_ms": 20.0, **options}) as air,
        open_radio(air.adapter) as radio,
    ):
        yield air, radio


def transport(radio: BleRadio, name: str = "strap", **options: Any) -> BleTransport:
    return BleTransport(name, LINK, CLOCK, radio, **{"find_timeout_s": 5.0, **options})


async def take(connection: BleTransport, n: int, source: str | None = None) -> list[Frame]:
    taken: list[Frame] = []
    async for frame in connection.frames():
        if source in {None, frame.source}:
            taken.append(frame)
        if len(taken) == n:
            break
    return taken


async def drain(connection: BleTransport, into: list[Frame]) -> None:
    async for frame in connection.frames():
        into.append(frame)  # noqa: PERF401 - those before the error count


def numbers(frames: list[Frame]) -> list[int]:
    return [int.from_bytes(frame.data[:4], "little") for frame in frames]


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

    async def stamps() -> tuple[list[Frame], int, int]:
        async with (
            asyncio.timeout(10),
            serve_ble([strap(period_s=1.0)], clock) as air,
            open_radio(air.adapter) as radio,
            BleTransport("strap", LINK, clock, radio) as connection,
        ):
            before_ns = clock.now_ns()
            await asyncio.sleep(0.5)
            return await take(connection, 5, PULSE), before_ns, clock.now_ns()

    frames, before_ns, after_ns = asyncio.run(stamps())
    stamps_ns = [frame.arrival_ns for frame in frames]
    assert before_ns < stamps_ns[0] < before_ns + 3e9
    assert stamps_ns[-1] < after_ns
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


def test_a_device_is_found_by_its_address_in_any_case() -> None:
    async def batteries() -> list[bytes]:
        async with lab(strap()) as (air, radio):
            address = air.addresses["strap"]
            found = []
            for spelling in (address.lower(), address.upper()):
                async with transport(radio, spelling) as connection:
                    found += await take(connection, 1, BATTERY)
            return [frame.data for frame in found]

    assert asyncio.run(batteries()) == [b"\x57", b"\x57"]


def test_an_absent_device_is_an_error_that_names_it_and_the_radio() -> None:
    async def look() -> None:
        async with lab(strap()) as (air, radio):
            with pytest.raises(TransportError, match=f"BLE device ring: not seen by {air.adapter} in 0.2 s"):
                async with transport(radio, "ring", find_timeout_s=0.2):
                    pytest.fail("entered")

    asyncio.run(look())


def test_absent_devices_do_not_hold_up_those_that_are_there() -> None:
    async def connected_after_s() -> float:
        async with lab(*(strap(f"here-{i}") for i in range(5))) as (_, radio):

            async def look(name: str) -> bool:
                try:
                    async with transport(radio, name, find_timeout_s=2):
                        return True
                except TransportError:
                    return False

            absent = [asyncio.create_task(look(f"absent-{i}")) for i in range(20)]
            await asyncio.sleep(0.1)
            began_s = time.monotonic()
            assert all(await asyncio.gather(*(look(f"here-{i}") for i in range(5))))
            took_s = time.monotonic() - began_s
            assert not any(await asyncio.gather(*absent))
            return took_s

    assert asyncio.run(connected_after_s()) < 3


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
            await asyncio.sleep(0.05)
            assert not air.is_connected(device)

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
            with pytest.raises(TransportError, match=f"BLE device strap .*: writing 99 to {CONTROL}: .*128"):
                async with BleTransport("strap", link, CLOCK, radio):
                    pytest.fail("entered")
            await asyncio.sleep(0.05)
            assert not air.is_connected(device)

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
            began_s = time.monotonic()
            with pytest.raises(TransportError, match=f"reading {BATTERY}: .*Disconnected"):
                async with transport(radio):
                    pytest.fail("entered")
            assert time.monotonic() - began_s < 2

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
    async def churn() -> list[int]:
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
            await asyncio.sleep(1.5)
            before = list(n_frames)
            await asyncio.sleep(0.5)
            for task in keeping:
                task.cancel()
            results = await asyncio.gather(*keeping, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            return [after - earlier for earlier, after in zip(before, n_frames, strict=True)]

    assert min(asyncio.run(churn())) > 5


def test_leaving_disconnects_and_a_closed_radio_can_be_opened_again() -> None:
    async def reopen() -> list[int]:
        device, firsts = strap(), []
        async with serve_ble([device], CLOCK, advertising_interval_ms=20) as air:
            for _gateway in range(3):
                async with open_radio(air.adapter) as radio:
                    async with transport(radio) as connection:
                        firsts.append(numbers(await take(connection, 1, PULSE))[0])
                    await asyncio.sleep(0.02)
                    assert not air.is_connected(device)
        return firsts

    firsts = asyncio.run(reopen())
    assert firsts == sorted(set(firsts))


def test_the_radio_finds_a_simulator_that_was_started_again() -> None:
    async def restart() -> list[bytes]:
        async with asyncio.timeout(20):
            async with serve_ble([strap()], CLOCK, advertising_interval_ms=20) as air:
                port = int(air.adapter.rsplit(":", 1)[1])
                opened = open_radio(air.adapter)
                radio = await opened.__aenter__()
                connection = await transport(radio).__aenter__()
            with pytest.raises(TransportError, match="connection lost"):
                await take(connection, 1000)
            await connection.__aexit__(None, None, None)
            with pytest.raises(TransportError, match=f"BLE device strap: no scan with {air.adapter}: "):
                await transport(radio).__aenter__()
            async with serve_ble([strap()], CLOCK, port=port, advertising_interval_ms=20):
                async with transport(radio) as again:
                    frames = await take(again, 1, BATTERY)
                await opened.__aexit__(None, None, None)
            return [frame.data for frame in frames]

    assert asyncio.run(restart()) == [b"\x57"]


def test_a_radio_lost_while_looking_for_a_device_is_an_error_at_once() -> None:
    async def lose() -> float:
        async with asyncio.timeout(20):
            serving = serve_ble([strap()], CLOCK)
            air = await serving.__aenter__()
            async with open_radio(air.adapter) as radio:
                looking = asyncio.create_task(transport(radio, "absent").__aenter__())
                await asyncio.sleep(0.1)
                began_s = time.monotonic()
                await serving.__aexit__(None, None, None)
                with pytest.raises(TransportError, match="BLE device absent: no scan with"):
                    await looking
                return time.monotonic() - began_s

    assert asyncio.run(lose()) < 2


def test_whoever_looks_for_a_device_is_told_when_the_radio_is_closed() -> None:
    async def close() -> None:
        async with asyncio.timeout(20), serve_ble([strap()], CLOCK) as air:
            async with open_radio(air.adapter) as radio:
                looking = asyncio.create_task(transport(radio, "absent").__aenter__())
                await asyncio.sleep(0.1)
            with pytest.raises(TransportError, match=r"no scan with .*: the radio was closed"):
                await looking

    asyncio.run(close())


def test_the_radio_does_one_thing_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = ble_radio.establish_connection
    under_way: list[int] = []

    async def watched(*args: Any, **options: Any) -> Any:
        device = options["backend"].adapter.device
        under_way.append(len(under_way))
        assert len(under_way) == 1
        assert not device.is_scanning
        client = await connect(*args, **options)
        assert not device.is_scanning
        under_way.pop()
        return client

    monkeypatch.setattr(ble_radio, "establish_connection", watched)
    names = [f"strap-{i}" for i in range(5)]

    async def connect_all() -> None:
        async with lab(*map(strap, names)) as (_, radio):

            async def one(name: str) -> None:
                async with transport(radio, name) as connection:
                    await take(connection, 3)

            absent = asyncio.create_task(transport(radio, "absent").__aenter__())
            await asyncio.gather(*map(one, names))
            absent.cancel()
            await asyncio.wait({absent})

    asyncio.run(connect_all())


def test_an_adapter_that_is_not_there_is_an_error_that_names_it() -> None:
    async def open_nothing() -> None:
        with pytest.raises(TransportError, match=r"BLE adapter tcp-client:127\.0\.0\.1:9: "):
            async with open_radio("tcp-client:127.0.0.1:9"):
                pytest.fail("opened")

    asyncio.run(open_nothing())


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
                await asyncio.sleep(0.03)
                assert not air.is_connected(device)
            async with transport(radio) as connection:
                await take(connection, 3)

    asyncio.run(cancel())


def test_a_scan_lists_what_advertises() -> None:
    async def seen() -> list[ble.Advertisement]:
        async with lab(strap("a"), strap("b")) as (air, radio):
            found = await scan(radio, 0.2)
            assert {device.name: device.address for device in found} == air.addresses
            return found

    for device in asyncio.run(seen()):
        assert device.rssi_dbm < 0
        assert PULSE_SERVICE in device.services


def test_a_scan_goes_on_beside_devices_that_connect() -> None:
    async def both() -> set[str | None]:
        async with lab(strap("a"), strap("b")) as (_, radio):
            scanning = asyncio.create_task(scan(radio, 0.5))
            async with transport(radio, "a") as connection:
                await take(connection, 3)
                return {device.name for device in await scanning}

    assert "b" in asyncio.run(both())


@pytest.mark.skipif(sys.platform != "linux", reason="BlueZ is Linux's")
def test_a_machine_without_bluetooth_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/at/all")

    async def look() -> None:
        async with open_radio() as radio:
            with pytest.raises(TransportError, match="BLE device strap: no scan with bluez: "):
                await transport(radio).__aenter__()
            with pytest.raises(TransportError, match="no scan with bluez: "):
                await scan(radio, 1)

    asyncio.run(look())


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


def test_an_adapter_of_our_own_without_bumble_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gateway.bumble_backend", None)

    async def open_it() -> None:
        with pytest.raises(
            TransportError, match=r"BLE adapter usb:0: .*expected the package bumble to be installed"
        ):
            async with open_radio("usb:0"):
                pytest.fail("opened")

    asyncio.run(open_it())


def test_a_radio_closes_even_if_a_listener_leaves_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    class SilentScanner:
        def __init__(self, *_: object, **__: object) -> None: ...

        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *_: object) -> None: ...

    monkeypatch.setattr(ble_radio, "BleakScanner", SilentScanner)

    async def run() -> None:
        radio = BleRadio("")
        async with radio.listening(lambda *_: None):
            await asyncio.sleep(0.01)
            async with radio.listening(lambda *_: None):
                pass
            async with asyncio.timeout(2):
                await radio.close()

    asyncio.run(run())
