"""The bleak backend on Bumble's host, against simulated devices."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from bleak import BleakAdapter, BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.exc import BleakDeviceNotFoundError, BleakError, BleakGATTProtocolError
from bleak_retry_connector import BleakConnectionError, BleakNotFoundError, establish_connection
from bumble.transport.common import Transport

from firmware_sim.device import AttError, FrameDevice
from firmware_sim.links.virtual_ble import VirtualRadio, serve_ble
from gateway import bumble_backend
from gateway.bumble_backend import BumbleAdapter
from protocols.devices.kind import BleLink, DeviceKind, GattCharacteristic, GattService
from protocols.lab_clock import LabClock
from tests.gateway.ble_lab import let_go
from tests.gateway.conftest import wait_until

SERVICE = "fb005c80-02e7-f387-1cad-8acd2d8df0c8"
ECHO = "fb005c81-02e7-f387-1cad-8acd2d8df0c8"
BATTERY_SERVICE = "0000180f-0000-1000-8000-00805f9b34fb"
BATTERY = "00002a19-0000-1000-8000-00805f9b34fb"

CLOCK = LabClock(time.time_ns, time.monotonic_ns)
LINK = BleLink(
    services=(
        GattService(SERVICE, (GattCharacteristic(ECHO, frozenset({"read", "write", "indicate"})),)),
        GattService(BATTERY_SERVICE, (GattCharacteristic(BATTERY, frozenset({"read"})),)),
    ),
    mtu=100,
)


def echo_device(name: str = "echo", battery: Callable[[float], bytes] = lambda _run_s: b"\x57") -> FrameDevice:
    kind = DeviceKind("echo", "Answers what it is told", LINK, (), lambda: pytest.fail("decodes nothing"))
    values = {ECHO: bytes(range(250)), BATTERY: battery}
    return FrameDevice(kind, name, [], values=values, controls={ECHO: lambda _device, data: data})


@asynccontextmanager
async def lab(*devices: FrameDevice) -> AsyncIterator[tuple[VirtualRadio, BumbleAdapter]]:
    async with (
        asyncio.timeout(20),
        serve_ble(devices, CLOCK, advertising_interval_ms=20) as air,
        await BumbleAdapter.open(air.adapter) as adapter,
    ):
        yield air, adapter


async def find(adapter: BumbleAdapter, name: str = "echo") -> BLEDevice:
    found = await BleakScanner.find_device_by_name(name, timeout=5, backend=adapter.scanner_class)
    assert found is not None
    return found


async def connect(adapter: BumbleAdapter, on_lost: Callable[[], None] = lambda: None) -> BleakClient:
    client = BleakClient(await find(adapter), lambda _: on_lost(), backend=adapter.client_class)
    await client.connect()
    return client


def test_a_client_finds_services_reads_writes_and_is_answered() -> None:
    async def use() -> None:
        answers: list[bytes] = []
        async with lab(echo_device()) as (_, adapter):
            client = await connect(adapter)
            assert (client.name, client.mtu_size) == ("echo", 100)
            offered = {service.uuid: [c.uuid for c in service.characteristics] for service in client.services}
            assert offered[SERVICE] == [ECHO]
            assert offered[BATTERY_SERVICE] == [BATTERY]
            assert await client.read_gatt_char(ECHO) == bytes(range(250))
            await client.start_notify(ECHO, lambda _sender, value: answers.append(bytes(value)))
            await client.write_gatt_char(ECHO, b"first", response=True)
            await wait_until(lambda: answers)
            await client.stop_notify(ECHO)
            await client.write_gatt_char(ECHO, b"unheard", response=True)
            await asyncio.sleep(0.05)
            await client.disconnect()
        assert answers == [b"first"]

    asyncio.run(use())


def test_connections_asked_for_at_once_are_made_one_after_the_other() -> None:
    async def connected() -> int:
        names = [f"echo-{i}" for i in range(4)]
        async with lab(*map(echo_device, names)) as (_, adapter):
            clients = [BleakClient(await find(adapter, name), backend=adapter.client_class) for name in names]
            await asyncio.gather(*(client.connect() for client in clients))
            return sum(client.is_connected for client in clients)

    assert asyncio.run(connected()) == 4


def test_a_device_can_be_paired_with_and_forgotten() -> None:
    async def pair() -> None:
        async with lab(echo_device()) as (_, adapter):
            async with BleakClient(await find(adapter), pair=True, backend=adapter.client_class) as client:
                assert await client.read_gatt_char(BATTERY) == b"\x57"
                assert len(await adapter.device.keystore.get_all()) == 1
                await client.unpair()
            assert await adapter.device.keystore.get_all() == []

    asyncio.run(pair())


def test_only_the_wanted_services_are_discovered() -> None:
    async def services() -> list[str]:
        async with lab(echo_device()) as (_, adapter):
            found = await find(adapter)
            async with BleakClient(found, services=[BATTERY_SERVICE], backend=adapter.client_class) as client:
                return [service.uuid for service in client.services]

    assert asyncio.run(services()) == [BATTERY_SERVICE]


def test_the_adapter_names_its_connected_devices() -> None:
    async def names() -> list[list[str | None]]:
        async with lab(echo_device("one"), echo_device("two")) as (_, adapter):
            bleak_adapter = await BleakAdapter.get(backend=adapter.adapter_class)
            async with BleakClient(await find(adapter, "two"), backend=adapter.client_class):
                connected = await bleak_adapter.get_connected_devices([SERVICE])
            return [[device.name for device in connected], await bleak_adapter.get_connected_devices([SERVICE])]

    assert asyncio.run(names()) == [["two"], []]


def test_the_retry_connector_connects_through_it() -> None:
    async def battery() -> bytearray:
        async with lab(echo_device()) as (_, adapter):
            device = await find(adapter)
            client = await establish_connection(BleakClient, device, "echo", backend=adapter.client_class)
            return await client.read_gatt_char(BATTERY)

    assert asyncio.run(battery()) == b"\x57"


def test_the_retry_connector_understands_its_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bleak_retry_connector.BLEAK_TIMEOUT", 0.2)

    async def connect_in_vain() -> None:
        device = echo_device()
        async with lab(device) as (air, adapter):
            found = await find(adapter)
            air.mute(device)
            with pytest.raises(BleakNotFoundError, match="after 2 attempt"):
                await establish_connection(
                    BleakClient, found, "echo", max_attempts=2, backend=adapter.client_class
                )

    asyncio.run(connect_in_vain())


def test_a_connection_attempt_that_timed_out_leaves_the_radio_usable() -> None:
    async def connect_again() -> bytearray:
        device = echo_device()
        async with lab(device) as (air, adapter):
            found = await find(adapter)
            air.mute(device)
            with pytest.raises(TimeoutError):
                await BleakClient(found, backend=adapter.client_class, timeout=0.1).connect()
            air.unmute(device)
            return await (await connect(adapter)).read_gatt_char(BATTERY)

    assert asyncio.run(connect_again()) == b"\x57"


def test_a_cancelled_connection_attempt_leaves_the_radio_and_the_device_usable() -> None:
    async def connect_again() -> bytearray:
        device = echo_device()
        async with lab(device) as (air, adapter):
            found = await find(adapter)
            for after_s in (0.0, 0.001, 0.004, 0.008, 0.012, 0.016, 0.02, 0.03):
                client = BleakClient(found, backend=adapter.client_class)
                attempt = asyncio.create_task(client.connect())
                await asyncio.sleep(after_s)
                attempt.cancel()
                await asyncio.wait({attempt})
                if not attempt.cancelled():
                    await client.disconnect()
                await let_go(air, device)
            return await (await connect(adapter)).read_gatt_char(BATTERY)

    assert asyncio.run(connect_again()) == b"\x57"


def test_a_link_lost_during_a_request_is_an_error_and_no_cancellation() -> None:
    async def lose() -> bool:
        losses: list[None] = []

        def lose_the_link(_run_s: float) -> bytes:
            air.link_loss(device)
            raise AttError(0x0E, "too late")

        device = echo_device(battery=lose_the_link)
        async with lab(device) as (air, adapter):
            client = await connect(adapter, lambda: losses.append(None))
            with pytest.raises(BleakError, match=r"read of 00002a19-.*: Disconnected"):
                await client.read_gatt_char(BATTERY)
            assert losses == [None]
            with pytest.raises(BleakError):
                await client.read_gatt_char(BATTERY)
            return client.is_connected

    assert not asyncio.run(lose())


def test_requests_that_were_queued_for_a_lost_link_end_with_it() -> None:
    async def lose() -> None:
        device = echo_device()
        async with lab(device) as (air, adapter):
            client = await connect(adapter)
            air.mute(device)
            reads = [asyncio.create_task(client.read_gatt_char(BATTERY)) for _ in range(3)]
            await asyncio.sleep(0.05)
            air.link_loss(device)
            async with asyncio.timeout(10):
                results = await asyncio.gather(*reads, return_exceptions=True)
            assert [type(result) for result in results] == [BleakError] * 3

    asyncio.run(lose())


def test_a_cancelled_request_is_cancelled() -> None:
    async def cancel() -> None:
        device = echo_device()
        async with lab(device) as (air, adapter):
            client = await connect(adapter)
            air.mute(device)
            read = asyncio.create_task(client.read_gatt_char(BATTERY))
            await asyncio.sleep(0.05)
            read.cancel()
            with pytest.raises(asyncio.CancelledError):
                await read

    asyncio.run(cancel())


def test_an_att_error_keeps_its_code() -> None:
    async def code() -> int:
        def refuse(_run_s: float) -> bytes:
            raise AttError(0x05, "not authenticated")

        async with lab(echo_device(battery=refuse)) as (_, adapter):
            client = await connect(adapter)
            with pytest.raises(BleakGATTProtocolError) as raised:
                await client.read_gatt_char(BATTERY)
            return raised.value.code

    assert asyncio.run(code()) == 5


def test_a_device_never_seen_is_not_found() -> None:
    async def search() -> None:
        async with lab() as (_, adapter):
            with pytest.raises(BleakDeviceNotFoundError, match="F0:00:00:00:00:99 was not seen"):
                await BleakClient("F0:00:00:00:00:99", backend=adapter.client_class).connect()

    asyncio.run(search())


def test_a_wrong_transport_is_an_error_that_names_it() -> None:
    async def open_all() -> None:
        for spec in ("tcp-client:127.0.0.1:9", "tcp-client:nowhere", "carrier-pigeon:1", "tcp-client", ""):
            with pytest.raises(BleakError, match=f"HCI transport '{spec}': "):
                await BumbleAdapter.open(spec)

    asyncio.run(open_all())


def test_a_controller_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bumble_backend, "_OPEN_TIMEOUT_S", 0.2)

    async def open_silence() -> None:
        async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with await asyncio.start_server(ignore, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(BleakError, match=f"'tcp-client:127.0.0.1:{port}': no answer in 0.2 s"):
                await BumbleAdapter.open(f"tcp-client:127.0.0.1:{port}")

    asyncio.run(open_silence())


def test_a_controller_that_hangs_up_is_an_error() -> None:
    async def open_hang_up() -> None:
        async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            with pytest.raises(BleakError):
                await BumbleAdapter.open(f"tcp-client:127.0.0.1:{server.sockets[0].getsockname()[1]}")

    asyncio.run(open_hang_up())


def test_two_scanners_share_the_radio() -> None:
    async def scan() -> tuple[set[str | None], set[str | None]]:
        async with lab(echo_device("one"), echo_device("two")) as (_, adapter):
            first, second = (BleakScanner(backend=adapter.scanner_class) for _ in range(2))
            await first.start()
            async with second:
                await wait_until(lambda: len(first.discovered_devices) == len(second.discovered_devices) == 2)
            first._backend.seen_devices.clear()
            await wait_until(lambda: len(first.discovered_devices) == 2)  # it goes on alone
            await first.stop()
            names = [{device.name for device in scanner.discovered_devices} for scanner in (first, second)]
            return names[0], names[1]

    assert asyncio.run(scan()) == ({"one", "two"}, {"one", "two"})


def test_a_scan_may_be_limited_to_services() -> None:
    async def scan(service: str) -> list[str | None]:
        async with lab(echo_device()) as (_, adapter):
            found = await BleakScanner.discover(0.5, service_uuids=[service], backend=adapter.scanner_class)
            return [device.name for device in found]

    assert asyncio.run(scan(BATTERY_SERVICE)) == ["echo"]
    assert asyncio.run(scan("0000180d-0000-1000-8000-00805f9b34fb")) == []


def test_the_failure_of_a_connection_is_told_to_the_retry_connector_as_a_lost_one() -> None:
    async def connect_in_vain() -> None:
        device = echo_device()
        async with lab(device) as (air, adapter):
            found = await find(adapter)

            async def cut() -> None:
                while True:
                    await asyncio.sleep(0)
                    air.link_loss(device)

            cutting = asyncio.create_task(cut())
            with pytest.raises(BleakConnectionError, match="Disconnected"):
                await establish_connection(
                    BleakClient, found, "echo", max_attempts=3, backend=adapter.client_class
                )
            cutting.cancel()

    asyncio.run(connect_in_vain())


def test_a_closed_adapter_and_its_links_are_lost_even_if_its_transport_does_not_say_so() -> None:
    async def run() -> None:
        async with lab(echo_device()) as (_, adapter):
            lost = asyncio.Event()
            client = await connect(adapter, lost.set)
            closing, adapter._transport = adapter._transport, _MuteTransport()
            assert await adapter.power_cycle()
            assert lost.is_set()
            assert not client.is_connected
            assert adapter.lost.done()
            await closing.close()

    asyncio.run(run())


class _MuteTransport(Transport):
    """Closes without a word, as Bumble's for USB."""

    def __init__(self) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    ("error", "shown"), [(asyncio.InvalidStateError("invalid state"), 0), (ValueError("odd"), 1)]
)
def test_an_answer_to_a_request_that_was_given_up_is_no_defect(
    error: Exception, shown: int, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("bumble.transport.common").error("on_packet", exc_info=error)
    assert len(caplog.records) == shown
