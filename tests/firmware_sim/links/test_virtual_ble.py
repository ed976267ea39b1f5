"""Simulated devices over virtual Bluetooth, as any Bluetooth client sees them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakError, BleakGATTProtocolError

from firmware_sim.device import AttError, FrameDevice, Outlet
from firmware_sim.faults import Faulty
from firmware_sim.links.virtual_ble import VirtualRadio, serve_ble
from gateway.bumble_backend import BumbleAdapter
from protocols.devices.kind import BleLink, Decoder, DeviceKind, GattCharacteristic, GattService, SerialLink
from protocols.errors import DefinitionError
from protocols.lab_clock import LabClock

HEART_RATE_SERVICE = "0000180d-0000-1000-8000-00805f9b34fb"
HEART_RATE = "00002a37-0000-1000-8000-00805f9b34fb"
BATTERY = "00002a19-0000-1000-8000-00805f9b34fb"
ECG_SERVICE = "fb005c80-02e7-f387-1cad-8acd2d8df0c8"
CONTROL = "fb005c81-02e7-f387-1cad-8acd2d8df0c8"
ECG = "fb005c82-02e7-f387-1cad-8acd2d8df0c8"
START = b"\x02\x00"

CLOCK = LabClock(time.time_ns, time.monotonic_ns)


def new_decoder() -> Decoder:
    raise AssertionError("nothing is decoded here")


def characteristic(uuid: str, *properties: str) -> GattCharacteristic:
    return GattCharacteristic(uuid, frozenset(properties))


STRAP_LINK = BleLink(
    services=(
        GattService(
            HEART_RATE_SERVICE,
            (characteristic(HEART_RATE, "notify"), characteristic(BATTERY, "read", "notify")),
        ),
        GattService(ECG_SERVICE, (characteristic(CONTROL, "write", "indicate"), characteristic(ECG, "notify"))),
    ),
    mtu=232,
)


class Counter:
    """Frames that carry their number and are filled up to a size."""

    def __init__(self, uuid: str, *, period_s: float, size: int, n_frames: int | None = None) -> None:
        self.uuid, self.period_s, self.size, self.n_frames = uuid, period_s, size, n_frames

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
    name: str = "strap", *, period_s: float = 0.02, size: int = 229, n_frames: int | None = None
) -> FrameDevice:
    kind = DeviceKind("strap", "A chest strap", STRAP_LINK, (), new_decoder)
    outlets = [
        Outlet(Counter(HEART_RATE, period_s=period_s, size=20, n_frames=n_frames)),
        Outlet(Counter(ECG, period_s=period_s, size=size, n_frames=n_frames), on_connect=False),
    ]
    return FrameDevice(kind, name, outlets, values={BATTERY: b"\x57"}, controls={CONTROL: start_ecg})


@asynccontextmanager
async def lab(*devices: FrameDevice, **options: Any) -> AsyncIterator[tuple[VirtualRadio, BumbleAdapter]]:
    """The devices in the air, and one gateway's adapter."""
    async with (
        asyncio.timeout(20),
        serve_ble(devices, CLOCK, **{"advertising_interval_ms": 20.0, **options}) as air,
        await BumbleAdapter.open(air.adapter) as adapter,
    ):
        yield air, adapter


async def find(adapter: BumbleAdapter, name: str) -> BLEDevice:
    found = await BleakScanner.find_device_by_name(name, timeout=5, backend=adapter.scanner_class)
    assert found is not None, f"{name} does not advertise"
    return found


@asynccontextmanager
async def connection(adapter: BumbleAdapter, name: str = "strap") -> AsyncIterator[BleakClient]:
    async with BleakClient(await find(adapter, name), backend=adapter.client_class) as client:
        yield client


class Received:
    """Collects what is notified, by UUID."""

    def __init__(self) -> None:
        self.values: dict[str, list[bytes]] = {}
        self.times_s: list[float] = []

    async def subscribe(self, client: BleakClient, *uuids: str) -> None:
        for uuid in uuids:
            await client.start_notify(uuid, self._note)

    def _note(self, sender: Any, value: bytearray) -> None:
        self.values.setdefault(sender.uuid, []).append(bytes(value))
        self.times_s.append(time.monotonic())

    async def at_least(self, n: int, uuid: str) -> list[bytes]:
        while len(self.values.get(uuid, [])) < n:
            await asyncio.sleep(0.005)
        return self.values[uuid]


def numbers(values: list[bytes]) -> list[int]:
    return [int.from_bytes(value[:4], "little") for value in values]


def test_a_device_advertises_its_services_and_answers_an_active_scan_with_its_name() -> None:
    async def seen(mode: str) -> AdvertisementData:
        async with lab(strap()) as (_, adapter):
            options: Any = {"scanning_mode": mode, "backend": adapter.scanner_class}
            async with BleakScanner(**options) as scanner:
                await asyncio.sleep(0.1)
            ((_device, data),) = scanner.discovered_devices_and_advertisement_data.values()
            return data

    active, passive = asyncio.run(seen("active")), asyncio.run(seen("passive"))
    assert (active.local_name, passive.local_name) == ("strap", None)
    assert active.service_uuids == passive.service_uuids == [HEART_RATE_SERVICE, ECG_SERVICE]


def test_an_address_belongs_to_the_name_and_is_a_static_random_one() -> None:
    async def addresses() -> dict[str, str]:
        async with serve_ble([strap("a"), strap("b")], CLOCK) as air:
            return air.addresses

    first, second = asyncio.run(addresses()), asyncio.run(addresses())
    assert first == second
    assert first["a"] != first["b"]
    assert all(int(address[:2], 16) >= 0xC0 for address in first.values())


def test_a_device_with_a_public_address_answers() -> None:
    async def battery() -> bytearray:
        async with lab(strap(), addresses={"strap": "A0:9E:1A:00:00:01/P"}) as (air, adapter):
            assert air.addresses == {"strap": "A0:9E:1A:00:00:01"}
            async with connection(adapter) as client:
                return await client.read_gatt_char(BATTERY)

    assert asyncio.run(battery()) == b"\x57"


def test_nothing_is_sent_before_the_last_subscription() -> None:
    async def first_numbers() -> list[int]:
        received = Received()
        async with lab(strap(period_s=0.01)) as (_, adapter), connection(adapter) as client:
            for uuid in (HEART_RATE, BATTERY, CONTROL, ECG):
                await asyncio.sleep(0.1)
                assert not received.values
                await received.subscribe(client, uuid)
            return numbers(await received.at_least(5, HEART_RATE))

    assert asyncio.run(first_numbers())[:5] == [0, 1, 2, 3, 4]


def test_a_client_that_wants_one_characteristic_only_is_served_soon() -> None:
    async def sources() -> set[str]:
        received = Received()
        async with lab(strap()) as (_, adapter), connection(adapter) as client:
            await received.subscribe(client, HEART_RATE)
            await received.at_least(5, HEART_RATE)
        return set(received.values)

    assert asyncio.run(sources()) == {HEART_RATE}


def test_a_device_waits_for_the_start_it_is_given() -> None:
    async def first_number() -> int:
        start, received = asyncio.Event(), Received()
        async with lab(strap(), start=start) as (_, adapter), connection(adapter) as client:
            await received.subscribe(client, HEART_RATE, BATTERY, CONTROL, ECG)
            await asyncio.sleep(0.2)
            assert not received.values
            start.set()
            return numbers(await received.at_least(1, HEART_RATE))[0]

    assert asyncio.run(first_number()) == 0


def test_the_answer_to_a_command_is_indicated_on_its_characteristic() -> None:
    async def answers() -> list[bytes]:
        received = Received()
        async with lab(strap()) as (_, adapter), connection(adapter) as client:
            await received.subscribe(client, CONTROL, ECG)
            await client.write_gatt_char(CONTROL, START, response=True)
            await received.at_least(1, ECG)
            return received.values[CONTROL]

    assert asyncio.run(answers()) == [b"\xf0\x02\x00\x00"]


def test_the_error_a_device_answers_with_reaches_the_client() -> None:
    async def code() -> int:
        async with lab(strap()) as (_, adapter), connection(adapter) as client:
            with pytest.raises(BleakGATTProtocolError) as raised:
                await client.write_gatt_char(CONTROL, b"\x99", response=True)
            assert await client.read_gatt_char(BATTERY) == b"\x57"
            return raised.value.code

    assert asyncio.run(code()) == 0x80


def test_values_as_long_as_the_mtu_allows_arrive_whole_and_in_order() -> None:
    n_frames = 400

    async def values() -> list[bytes]:
        received = Received()
        async with (
            lab(strap(period_s=0.001, n_frames=n_frames)) as (air, adapter),
            connection(adapter) as client,
        ):
            await received.subscribe(client, HEART_RATE, BATTERY, CONTROL, ECG)
            await client.write_gatt_char(CONTROL, START, response=True)
            await air.finished()
            first = numbers(received.values[ECG])[0]
            return await received.at_least(n_frames - first, ECG)

    received = asyncio.run(values())
    first = numbers(received)[0]
    source = Counter(ECG, period_s=1, size=229)
    assert received == [source.encode(number, 0) for number in range(first, n_frames)]
    assert {len(value) for value in received} == {STRAP_LINK.mtu - 3}


def test_a_value_longer_than_the_mtu_allows_is_refused_not_cut() -> None:
    received = Received()

    async def overflow() -> None:
        async with lab(strap(size=230)) as (air, adapter), connection(adapter) as client:
            await received.subscribe(client, HEART_RATE, BATTERY, CONTROL, ECG)
            await client.write_gatt_char(CONTROL, START, response=True)
            await air.finished()

    with pytest.raises(
        DefinitionError, match=r"strap sends 230 bytes from fb005c82-.* at most 229 \(ATT MTU 232\)"
    ):
        asyncio.run(overflow())
    assert ECG not in received.values


def test_after_a_link_loss_the_device_can_be_found_again_and_its_count_has_gone_on() -> None:
    async def counts() -> tuple[list[int], list[int]]:
        device, lost = strap(period_s=0.01), asyncio.Event()
        async with lab(device) as (air, adapter):
            before, after = Received(), Received()
            client = BleakClient(
                await find(adapter, "strap"), lambda _: lost.set(), backend=adapter.client_class
            )
            await client.connect()
            await before.subscribe(client, HEART_RATE, BATTERY, CONTROL, ECG)
            await before.at_least(3, HEART_RATE)
            assert air.is_connected(device)
            air.link_loss(device)
            await lost.wait()
            assert not air.is_connected(device)
            assert not client.is_connected
            assert not any(outlet.running for outlet in device.outlets)
            await asyncio.sleep(0.1)
            async with connection(adapter) as again:
                await after.subscribe(again, HEART_RATE, BATTERY, CONTROL, ECG)
                await after.at_least(3, HEART_RATE)
            return numbers(before.values[HEART_RATE]), numbers(after.values[HEART_RATE])

    before, after = asyncio.run(counts())
    assert before == list(range(len(before)))
    assert after == list(range(after[0], after[0] + len(after)))
    assert after[0] >= before[-1] + 10


def test_a_device_that_was_switched_off_is_lost_unseen_and_found_again_once_it_is_on() -> None:
    async def run() -> None:
        device, lost = strap(), asyncio.Event()
        async with lab(device) as (air, adapter):
            client = BleakClient(
                await find(adapter, "strap"), lambda _: lost.set(), backend=adapter.client_class
            )
            await client.connect()
            await air.switch_off(device)
            await asyncio.wait_for(lost.wait(), 5)
            assert await BleakScanner.find_device_by_name("strap", 0.3, backend=adapter.scanner_class) is None
            await air.switch_on(device)
            async with connection(adapter) as again:
                assert await again.read_gatt_char(BATTERY) == b"\x57"

    asyncio.run(run())


def test_a_device_that_vanishes_is_lost_by_its_gateway_and_never_seen_again() -> None:
    async def run() -> list[bytes]:
        received, lost = Received(), asyncio.Event()
        device = Faulty(strap(size=20), vanish_after_bytes=50)
        async with lab(device) as (air, adapter):
            client = BleakClient(
                await find(adapter, "strap"), lambda _: lost.set(), backend=adapter.client_class
            )
            await client.connect()
            await received.subscribe(client, HEART_RATE, BATTERY, CONTROL, ECG)
            await asyncio.wait_for(lost.wait(), 5)
            assert not air.is_connected(device)
            assert await BleakScanner.find_device_by_name("strap", 0.3, backend=adapter.scanner_class) is None
            await air.finished()
        return received.values[HEART_RATE]

    assert [len(value) for value in asyncio.run(run())] == [20, 20, 10]


def test_a_muted_device_is_silent_but_connected_until_it_is_unmuted() -> None:
    async def silence() -> tuple[int, int]:
        device, received = strap(), Received()
        async with lab(device) as (air, adapter), connection(adapter) as client:
            await received.subscribe(client, HEART_RATE, BATTERY, CONTROL, ECG)
            await received.at_least(3, HEART_RATE)
            air.mute(device)
            n_before = len(received.values[HEART_RATE])
            await asyncio.sleep(0.2)
            n_muted = len(received.values[HEART_RATE]) - n_before
            assert client.is_connected
            air.unmute(device)
            await received.at_least(n_before + 3, HEART_RATE)
            return n_muted, n_before

    n_muted, _ = asyncio.run(silence())
    assert n_muted == 0


def test_a_device_that_was_given_up_while_muted_can_be_found_again() -> None:
    async def battery() -> bytearray:
        device = strap()
        async with lab(device) as (air, adapter):
            async with connection(adapter):
                air.mute(device)
            air.unmute(device)
            async with connection(adapter) as client:
                return await client.read_gatt_char(BATTERY)

    assert asyncio.run(battery()) == b"\x57"


def test_gateways_come_and_go_at_the_same_port_and_share_the_air() -> None:
    async def batteries() -> list[bytearray]:
        first, second = strap("first"), strap("second")
        async with lab(first, second) as (air, adapter), connection(adapter, "first") as client:
            for _restart in range(3):
                async with await BumbleAdapter.open(air.adapter) as other, connection(other, "second") as its:
                    assert await its.read_gatt_char(BATTERY) == b"\x57"
            async with await BumbleAdapter.open(air.adapter) as crashed:
                await BleakClient(await find(crashed, "second"), backend=crashed.client_class).connect()
            async with connection(adapter, "second") as again:
                return [await client.read_gatt_char(BATTERY), await again.read_gatt_char(BATTERY)]

    assert asyncio.run(batteries()) == [b"\x57", b"\x57"]


def test_somebody_who_does_not_speak_hci_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def battery() -> bytearray:
        async with lab(strap()) as (air, adapter), connection(adapter) as client:
            _, host, port = air.adapter.split(":")
            for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x01\x03", b"\x04" * 300, bytes(range(256))):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(noise)
                writer.write_eof()
                await reader.read()
                writer.close()
                await writer.wait_closed()
            return await client.read_gatt_char(BATTERY)

    assert asyncio.run(battery()) == b"\x57"
    assert "Unhandled exception" not in caplog.text


def test_data_move_at_connection_events_and_survive_failed_ones() -> None:
    interval_s, n_frames = 0.04, 100

    async def arrivals() -> tuple[list[int], list[float]]:
        received = Received()
        options = {"connection_interval_s": interval_s, "event_loss": 0.5, "seed": 1}
        device = strap(period_s=0.005, n_frames=n_frames)
        async with lab(device, **options) as (_, adapter), connection(adapter) as client:
            await received.subscribe(client, HEART_RATE, BATTERY, CONTROL, ECG)
            await received.at_least(n_frames, HEART_RATE)
        return numbers(received.values[HEART_RATE]), received.times_s

    counts, times_s = asyncio.run(arrivals())
    assert counts == list(range(n_frames))
    gaps_s = [after - before for before, after in itertools.pairwise(times_s)]
    n_bursts = 1 + sum(gap_s > interval_s / 2 for gap_s in gaps_s)
    assert n_bursts <= n_frames * 0.005 / interval_s + 2
    assert max(gaps_s) > 1.5 * interval_s


def test_a_replay_is_finished_when_its_last_frame_is_sent() -> None:
    async def last() -> int:
        received = Received()
        device = strap(n_frames=5)
        device.outlets = device.outlets[:1]
        async with lab(device) as (air, adapter), connection(adapter) as client:
            await received.subscribe(client, HEART_RATE, BATTERY, CONTROL, ECG)
            await air.finished()
            return numbers(await received.at_least(5, HEART_RATE))[-1]

    assert asyncio.run(last()) == 4


@pytest.mark.parametrize(
    ("devices", "addresses", "message"),
    [
        ([strap("a"), strap("a")], {}, "devices a at .* and a at .*, expected different names and addresses"),
        (
            [strap("a"), strap("b")],
            {"a": "F0:00:00:00:00:01", "b": "F0:00:00:00:00:01"},
            "devices a at F0:00:00:00:00:01 and b at F0:00:00:00:00:01, expected different",
        ),
        ([strap("n" * 30)], {}, "device name 'n+', expected 1 to 29 bytes"),
        ([strap("a")], {"a": "nonsense"}, "address 'nonsense' of a, expected like F0:F1:F2:F3:F4:F5"),
        (
            [FrameDevice(DeviceKind("s", "S", SerialLink(9600), (), new_decoder), "a", [])],
            {},
            "device a of kind s, expected a kind with a BLE link",
        ),
        (
            [
                FrameDevice(
                    DeviceKind(
                        "b",
                        "B",
                        BleLink((GattService(ECG_SERVICE, (characteristic(ECG, "broadcast"),)),)),
                        (),
                        new_decoder,
                    ),
                    "a",
                    [],
                )
            ],
            {},
            r"properties \['broadcast'\] of fb005c82-.*, expected some of",
        ),
    ],
)
def test_devices_that_cannot_be_in_one_air_are_refused(
    devices: list[FrameDevice], addresses: dict[str, str], message: str
) -> None:
    async def serve() -> None:
        async with serve_ble(devices, CLOCK, addresses=addresses):
            pytest.fail("served")

    with pytest.raises(DefinitionError, match=message):
        asyncio.run(serve())


def test_the_simulator_ending_is_a_lost_link_for_the_gateway() -> None:
    async def end() -> bool:
        lost = asyncio.Event()
        async with serve_ble([strap()], CLOCK, advertising_interval_ms=20) as air:
            adapter = await BumbleAdapter.open(air.adapter)
            found = await find(adapter, "strap")
            client = BleakClient(found, lambda _: lost.set(), backend=adapter.client_class)
            await client.connect()
        await asyncio.wait_for(lost.wait(), 2)
        with pytest.raises(BleakError):
            await client.read_gatt_char(BATTERY)
        await adapter.close()
        return client.is_connected

    assert not asyncio.run(end())
