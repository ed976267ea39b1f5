"""One radio for many devices: finding, one thing at a time, and adapters that come, go and fail."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from bleak.exc import BleakError

from firmware_sim.links.virtual_ble import serve_ble
from gateway import ble_radio
from gateway.ble import Advertisement, BleRadio, open_radio, scan
from gateway.ble_errors import AdapterError
from gateway.transport import LinkError, Trouble
from protocols.errors import TransportError
from tests.gateway.ble_lab import (
    BATTERY,
    CLOCK,
    PULSE,
    PULSE_SERVICE,
    lab,
    let_go,
    numbers,
    strap,
    take,
    transport,
)


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
            absent = f"BLE device ring: not seen by {air.adapter} in 0.2 s of scanning; expected it to be on"
            with pytest.raises(LinkError, match=absent) as raised:
                async with transport(radio, "ring", find_timeout_s=0.2):
                    pytest.fail("entered")
            assert raised.value.trouble is Trouble.NOT_FOUND

    asyncio.run(look())


def test_absent_devices_do_not_hold_up_those_that_are_there() -> None:
    async def connect_all() -> None:
        async with lab(*(strap(f"here-{i}") for i in range(5))) as (_, radio):

            async def look(name: str) -> bool:
                try:
                    async with transport(radio, name, find_timeout_s=25):
                        return True
                except TransportError:
                    return False

            absent = [asyncio.create_task(look(f"absent-{i}")) for i in range(20)]
            await asyncio.sleep(0.1)
            assert all(await asyncio.gather(*(look(f"here-{i}") for i in range(5))))
            assert not any(task.done() for task in absent)
            for task in absent:
                task.cancel()
            await asyncio.gather(*absent, return_exceptions=True)

    asyncio.run(connect_all())


def test_leaving_disconnects_and_a_closed_radio_can_be_opened_again() -> None:
    async def reopen() -> list[int]:
        device, firsts = strap(), []
        async with serve_ble([device], CLOCK, advertising_interval_ms=20) as air:
            for _gateway in range(3):
                async with open_radio(air.adapter) as radio:
                    async with transport(radio) as connection:
                        firsts.append(numbers(await take(connection, 1, PULSE))[0])
                    await let_go(air, device)
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
    async def lose() -> None:
        async with asyncio.timeout(20):
            serving = serve_ble([strap()], CLOCK)
            air = await serving.__aenter__()
            async with open_radio(air.adapter) as radio:
                looking = asyncio.create_task(transport(radio, "absent", find_timeout_s=60).__aenter__())
                await asyncio.sleep(0.1)
                await serving.__aexit__(None, None, None)
                with pytest.raises(TransportError, match="BLE device absent: no scan with"):
                    await looking

    asyncio.run(lose())


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


def test_a_scan_lists_what_advertises() -> None:
    async def seen() -> list[Advertisement]:
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
        with pytest.raises(AdapterError, match="BLE adapter bluez: no BlueZ: ") as raised:
            async with open_radio():
                pytest.fail("opened")
        assert raised.value.trouble is Trouble.NOT_FOUND

    asyncio.run(look())


def test_the_bare_name_of_an_adapter_is_answered_by_its_spec() -> None:
    async def open_it() -> None:
        with pytest.raises(AdapterError, match="BLE adapter hci1: expected bluez:hci1") as raised:
            async with open_radio("hci1"):
                pytest.fail("opened")
        assert raised.value.trouble is Trouble.PERMANENT

    asyncio.run(open_it())


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
            async with asyncio.timeout(10):
                await radio.close()

    asyncio.run(run())


def test_a_device_that_was_switched_off_is_found_once_it_is_on_again() -> None:
    async def run() -> None:
        device = strap()
        async with lab(device) as (air, radio):
            async with transport(radio) as connection:
                await take(connection, 3, PULSE)
                await air.switch_off(device)
                with pytest.raises(LinkError, match="connection lost"):
                    await take(connection, 10_000)
            looking = asyncio.create_task(transport(radio).__aenter__())
            await asyncio.sleep(0.3)
            assert not looking.done()
            await air.switch_on(device)
            again = await looking
            await take(again, 3, PULSE)
            await again.__aexit__(None, None, None)

    asyncio.run(run())


def test_an_adapter_without_room_for_another_link_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = ble_radio.establish_connection
    asked: list[str] = []

    async def two_at_most(*args: Any, **options: Any) -> Any:
        asked.append(args[1].name)
        if len(options["backend"].adapter.clients) == 2:
            raise BleakError("HCI: CONNECTION_LIMIT_EXCEEDED_ERROR")
        return await connect(*args, **options)

    monkeypatch.setattr(ble_radio, "establish_connection", two_at_most)

    async def run() -> None:
        async with lab(*map(strap, "abc")) as (air, radio):
            a, b = [await transport(radio, name).__aenter__() for name in "ab"]
            for said in ("LIMIT_EXCEEDED", f"BLE adapter {air.adapter} holds 2 links and has room for no more"):
                with pytest.raises(LinkError, match=said) as raised:
                    await transport(radio, "c").__aenter__()
                assert raised.value.trouble is Trouble.BUSY
            await a.__aexit__(None, None, None)
            async with transport(radio, "c") as c:
                await take(c, 3, PULSE)
            await b.__aexit__(None, None, None)
        assert asked == ["a", "b", "c", "c"]

    asyncio.run(run())
