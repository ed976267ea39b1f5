"""Which adapter a device is reached by, and what is done about one that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from firmware_sim.device import FrameDevice
from firmware_sim.links.virtual_ble import VirtualRadio, serve_ble
from gateway import radios
from gateway.config import DeviceConfig
from gateway.radios import Radios, adapter_specs
from gateway.transport import LinkError, Trouble
from protocols.devices.kind import BleLink
from tests.gateway.ble_lab import CLOCK, LINK, PULSE, PULSE_GATT, drain, strap, strap_kind, take
from tests.gateway.conftest import wait_until

NOWHERE = "tcp-client:127.0.0.1:9"


@asynccontextmanager
async def lab(*devices: FrameDevice) -> AsyncIterator[tuple[VirtualRadio, Radios]]:
    async with asyncio.timeout(30), serve_ble(devices, CLOCK, advertising_interval_ms=20.0) as air:
        gateway = Radios(CLOCK)
        try:
            yield air, gateway
        finally:
            await gateway.close()


def config(adapter: str, name: str = "strap") -> DeviceConfig:
    return DeviceConfig(name, strap_kind(), address=name, adapter=adapter)


@pytest.mark.parametrize(
    ("adapter", "specs"),
    [
        ("", ("",)),
        ("bluez", ("bluez",)),
        ("bluez:hci1,bluez", ("bluez:hci1", "bluez")),
        ("bluez:hci1, bluez:00:1A:7D:DA:71:13", ("bluez:hci1", "bluez:00:1A:7D:DA:71:13")),
        ("serial:/dev/ttyACM0,1000000, usb:0", ("serial:/dev/ttyACM0,1000000", "usb:0")),
        ("serial:/dev/ttyACM0,1000000,rtscts,bluez", ("serial:/dev/ttyACM0,1000000,rtscts", "bluez")),
    ],
)
def test_several_adapters_are_named_in_order_of_preference(adapter: str, specs: tuple[str, ...]) -> None:
    assert adapter_specs(adapter) == specs


def test_a_missing_adapter_is_passed_over_and_asked_again_after_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radios, "ADAPTER_REST_S", 3.0)

    async def run() -> None:
        async with lab(strap()) as (air, gateway):
            both = config(f"{NOWHERE},{air.adapter}")
            async with gateway.connect(both, LINK) as connection:
                assert gateway.in_turn("strap", adapter_specs(both.adapter)) == [air.adapter]
                await take(connection, 3, PULSE)
            specs = adapter_specs(both.adapter)
            await wait_until(lambda: gateway.in_turn("strap", specs) == [NOWHERE, air.adapter])

    asyncio.run(run())


def test_an_adapter_that_fails_twice_for_a_device_rests_for_that_device_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(radios, "_FIND_BY_ONE_OF_MANY_S", 0.3)

    async def run() -> None:
        device = strap()
        async with lab() as (empty, gateway), serve_ble([device], CLOCK, advertising_interval_ms=20) as air:
            specs = (empty.adapter, air.adapter)
            turns = []
            for _ in range(3):
                turns.append(gateway.in_turn("strap", specs))
                async with gateway.connect(config(",".join(specs)), LINK) as connection:
                    await take(connection, 1)
            assert turns == [list(specs), list(specs), [air.adapter]]
            assert gateway.in_turn("other", specs) == list(specs)

    asyncio.run(run())


def test_when_no_adapter_gets_the_device_the_error_tells_what_each_met() -> None:
    async def run() -> None:
        async with lab() as (_, gateway):
            other = "tcp-client:127.0.0.1:10"
            with pytest.raises(LinkError, match=f"BLE adapter {NOWHERE}: .*; BLE adapter {other}: ") as raised:
                async with gateway.connect(config(f"{NOWHERE},{other}"), LINK):
                    pytest.fail("entered")
            assert raised.value.trouble is Trouble.NOT_FOUND

    asyncio.run(run())


def test_what_the_device_itself_is_the_cause_of_is_not_tried_over_another_adapter() -> None:
    async def run() -> None:
        async with lab(strap(link=BleLink((PULSE_GATT,), mtu=232))) as (air, gateway):
            with pytest.raises(LinkError, match=r"expected by its kind$") as raised:
                async with gateway.connect(config(f"{air.adapter},{NOWHERE}"), LINK):
                    pytest.fail("entered")
            assert raised.value.trouble is Trouble.PERMANENT

    asyncio.run(run())


def test_a_power_cycle_ends_the_links_of_its_adapter_and_devices_come_back() -> None:
    async def run() -> None:
        async with lab(strap()) as (air, gateway):
            device = config(air.adapter)
            assert not await gateway.power_cycle(device), "nothing is open yet"
            async with gateway.connect(device, LINK) as connection:
                await take(connection, 3, PULSE)
                assert await gateway.power_cycle(device)
                with pytest.raises(LinkError, match="connection lost"):
                    await drain(connection, [])
            async with gateway.connect(device, LINK) as connection:
                await take(connection, 3, PULSE)
                assert not await gateway.power_cycle(device), "a second one within a minute"
                await take(connection, 3, PULSE)

    asyncio.run(run())


def test_an_adapter_over_which_another_device_streams_is_not_switched_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        straps = strap("a"), strap("b")
        async with (
            lab(*straps) as (air, gateway),
            gateway.connect(config(air.adapter, "a"), LINK),
            gateway.connect(config(air.adapter, "b"), LINK) as lively,
        ):
            await take(lively, 3, PULSE)
            assert not await gateway.power_cycle(config(air.adapter, "a"))
            await take(lively, 3, PULSE)
            monkeypatch.setattr(radios, "QUIET_S", 0.0)
            assert await gateway.power_cycle(config(air.adapter, "a"))

    asyncio.run(run())


def test_an_adapter_that_hears_nobody_for_long_is_switched_off_and_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway import ble_radio

    monkeypatch.setattr(ble_radio, "_DEAF_AFTER_S", 0.1)
    monkeypatch.setattr(radios, "_FIND_S", 0.2)
    monkeypatch.setattr(radios, "POWER_CYCLE_AFTER_S", 0.3)

    async def run() -> list[str]:
        device, cycled = strap(), []

        async def cycle(of: DeviceConfig) -> bool:
            cycled.append(of.name)
            return True

        async with lab(device) as (air, gateway):
            monkeypatch.setattr(gateway, "power_cycle", cycle)
            await air.switch_off(device)
            for _ in range(3):
                assert not cycled
                with pytest.raises(LinkError, match=r"in 0\.2 s of scanning, nor was any other device"):
                    async with gateway.connect(config(air.adapter), LINK):
                        pytest.fail("entered")
            await air.switch_on(device)
            async with gateway.connect(config(air.adapter), LINK) as connection:
                await take(connection, 3, PULSE)
        return cycled

    assert asyncio.run(run()) == ["strap"]
