"""The gateway on bleak's own BlueZ backend: what goes wrong at real Linux machines is survived."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("dbus_fast", reason="D-Bus, and BlueZ on it, are Linux's")

from firmware_sim.device import FrameDevice
from firmware_sim.links.virtual_ble import VirtualRadio, serve_ble
from gateway import ble_radio, bluez, radios
from gateway.ble_errors import AdapterError
from gateway.ble_radio import open_radio, scan
from gateway.config import DeviceConfig
from gateway.radios import Radios
from gateway.transport import LinkError, Transport, Trouble
from tests.bluez.fake_bluez import FakeAdapter, FakeBluez, FakeDevice, running_bluez
from tests.gateway.ble_lab import (
    BATTERY,
    CLOCK,
    CONTROL,
    ECG,
    INFORMED_LINK,
    LINK,
    PULSE,
    drain,
    numbers,
    strap,
    strap_kind,
    take,
    transport,
)


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bluez, "_POWER_OFF_S", 0.05)
    monkeypatch.setattr(ble_radio, "_DEAF_AFTER_S", 1.0)
    monkeypatch.setattr(ble_radio, "_BUSY_SCANS", 3)
    monkeypatch.setattr(radios, "POWER_CYCLE_AFTER_S", 3.0)


@asynccontextmanager
async def lab(
    *devices: FrameDevice, adapters: tuple[str, ...] = ("hci0",)
) -> AsyncIterator[tuple[VirtualRadio, FakeBluez, Radios]]:
    async with (
        asyncio.timeout(40),
        serve_ble(devices, CLOCK, advertising_interval_ms=20.0) as air,
        running_bluez(**dict.fromkeys(adapters, air.adapter)) as service,
    ):
        gateway = Radios(CLOCK)
        try:
            yield air, service, gateway
        finally:
            await gateway.close()


def config(adapter: str = "bluez", name: str = "strap") -> DeviceConfig:
    return DeviceConfig(name, strap_kind(), address=name, adapter=adapter)


async def persist(gateway: Radios, device: DeviceConfig) -> Transport:
    """Return the connection that the first successful one of many attempts brings."""
    while True:
        attempt = gateway.connect(device, LINK)
        try:
            return await attempt.__aenter__()
        except LinkError as error:
            if error.trouble in {Trouble.PERMANENT, Trouble.REFUSED}:
                raise
            await asyncio.sleep(0.05)


def known(adapter: FakeAdapter, name: str = "strap") -> FakeDevice:
    return next(device for device in adapter.devices.values() if device.name == name)


def test_notifications_reads_and_answers_arrive() -> None:
    async def run() -> None:
        async with lab(strap()) as (_, _, gateway), gateway.connect(config(), LINK) as connection:
            frames = await take(connection, 30)
            by_source = {source: [f for f in frames if f.source == source] for source in (PULSE, ECG)}
            assert {f.source for f in frames} == {PULSE, ECG, BATTERY, CONTROL}
            for sent in by_source.values():
                assert numbers(sent) == list(range(len(sent)))
            assert {len(frame.data) for frame in by_source[ECG]} == {229}

    asyncio.run(run())


def test_a_scan_lists_what_advertises() -> None:
    async def run() -> None:
        async with lab(strap("a"), strap("b")) as (air, _, _), open_radio() as radio:
            assert {device.name: device.address for device in await scan(radio, 0.5)} == air.addresses

    asyncio.run(run())


def test_a_lost_device_is_connected_again_and_subscribed_again() -> None:
    async def run() -> None:
        device = strap()
        async with lab(device) as (air, service, gateway):
            counts: list[list[int]] = []
            for _attempt in range(3):
                async with gateway.connect(config(), LINK) as connection:
                    counts.append(numbers(await take(connection, 5, ECG)))
                    air.link_loss(device)
                    with pytest.raises(LinkError, match="connection lost"):
                        await drain(connection, [])
            assert counts[0][0] == 0
            for before, after in itertools.pairwise(counts):
                assert after[0] > before[-1]
                assert after == list(range(after[0], after[0] + 5))
            assert service.adapters["hci0"].calls["Connect"] == 3

    asyncio.run(run())


def test_a_device_that_is_silent_though_connected_streams_again_once_revived() -> None:
    async def run() -> None:
        async with lab(strap()) as (_, service, gateway), gateway.connect(config(), LINK) as connection:
            before = numbers(await take(connection, 5, ECG))
            known(service.adapters["hci0"]).silent = True
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await drain(connection, [])
            assert await connection.revive()
            assert numbers(await take(connection, 5, ECG))[0] > before[-1]

    asyncio.run(run())


def test_a_discovery_in_progress_is_waited_for() -> None:
    async def run() -> None:
        async with lab(strap()) as (_, service, gateway):
            service.adapters["hci0"].busy_discoveries = 2
            async with gateway.connect(config(), LINK) as connection:
                await take(connection, 3, PULSE)
            assert service.adapters["hci0"].calls["StartDiscovery"] >= 3

    asyncio.run(run())


def test_a_discovery_that_is_in_progress_for_ever_is_ended_by_a_power_cycle() -> None:
    async def run() -> None:
        async with lab(strap()) as (_, service, gateway):
            service.adapters["hci0"].busy_discoveries = 1_000_000
            connection = await persist(gateway, config())
            await take(connection, 3, PULSE)
            await connection.__aexit__(None, None, None)
            assert service.adapters["hci0"].calls["PowerOff"] == 1

    asyncio.run(run())


def test_a_connection_that_is_in_progress_for_ever_ends_when_the_device_is_removed() -> None:
    async def run() -> None:
        async with lab(strap()) as (air, service, gateway):
            service.adapters["hci0"].stuck.add(air.addresses["strap"])
            with pytest.raises(LinkError, match="InProgress") as raised:
                async with gateway.connect(config(), LINK):
                    pytest.fail("entered")
            assert raised.value.trouble is Trouble.TRANSIENT
            async with gateway.connect(config(), LINK) as connection:
                await take(connection, 3, PULSE)

    asyncio.run(run())


def test_a_link_that_a_dead_process_left_behind_is_ended_first() -> None:
    async def run() -> None:
        device = strap()
        async with lab(device, adapters=("hci0", "hci1")) as (air, service, gateway):
            async with open_radio("bluez:hci0") as radio:
                await scan(radio, 0.3)
            await known(service.adapters["hci0"]).connect()
            assert air.is_connected(device)
            async with gateway.connect(config("bluez:hci1"), LINK) as connection:
                await take(connection, 3, PULSE)
            assert "Disconnect" in service.adapters["hci0"].log

    asyncio.run(run())


def test_services_remembered_wrongly_are_forgotten_and_the_device_is_connected_once_more() -> None:
    async def run() -> None:
        async with lab(strap()) as (air, service, gateway):
            service.adapters["hci0"].outdated[air.addresses["strap"]] = {ECG}
            async with gateway.connect(config(), LINK) as connection:
                await take(connection, 3, ECG)
            assert service.adapters["hci0"].calls["RemoveDevice"] == 1

    asyncio.run(run())


def test_a_paired_device_is_not_removed_whatever_is_wrong_with_it() -> None:
    async def run() -> None:
        async with lab(strap()) as (air, service, gateway):
            adapter = service.adapters["hci0"]
            adapter.outdated[air.addresses["strap"]] = {ECG}
            async with open_radio() as radio:
                await scan(radio, 0.3)
            known(adapter).change(Paired=bluez.Variant("b", True))
            with pytest.raises(LinkError, match=f"has no .* with characteristic {ECG}") as raised:
                await gateway.connect(config(), LINK).__aenter__()
            assert raised.value.trouble is Trouble.PERMANENT
            assert adapter.calls["RemoveDevice"] == 0

    asyncio.run(run())


def test_a_changed_firmware_has_the_services_discovered_anew() -> None:
    async def run() -> None:
        versions = iter([b"1.0", b"1.0", b"2.0", b"2.0"])
        device = strap(link=INFORMED_LINK, firmware=lambda _run_s: next(versions))
        async with lab(device) as (_, service, gateway):
            for _ in range(3):
                async with gateway.connect(config(), INFORMED_LINK) as connection:
                    await take(connection, 3, ECG)
            assert service.adapters["hci0"].calls["RemoveDevice"] == 1
            assert service.adapters["hci0"].calls["Connect"] == 4

    asyncio.run(run())


def test_services_that_vanish_from_a_live_connection_are_survived() -> None:
    async def run() -> None:
        async with lab(strap()) as (_, service, gateway):
            connection = await persist(gateway, config())
            await take(connection, 3, PULSE)
            known(service.adapters["hci0"]).unlist_services()
            assert not await connection.revive()
            await connection.__aexit__(None, None, None)
            again = await persist(gateway, config())
            await take(again, 3, ECG)
            await again.__aexit__(None, None, None)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (("org.bluez.Error.Failed", "le-connection-abort-by-remote"), Trouble.TRANSIENT),
        (("org.bluez.Error.AuthenticationFailed", "Authentication Failed"), Trouble.REFUSED),
        (("org.bluez.Error.Failed", "le-connection-concurrent-connection-limit"), Trouble.BUSY),
        (("org.freedesktop.DBus.Error.UnknownObject", "no such object"), Trouble.NOT_FOUND),
    ],
)
def test_a_refused_connection_says_what_kind_of_trouble_it_is(
    answer: tuple[str, str], trouble: Trouble
) -> None:
    async def run() -> None:
        async with lab(strap()) as (_, service, _), open_radio() as radio:
            service.adapters["hci0"].connect_errors = [answer] * 20
            with pytest.raises(LinkError) as raised:
                async with transport(radio):
                    pytest.fail("entered")
            assert raised.value.trouble is trouble

    asyncio.run(run())


def test_a_single_hiccup_in_connecting_is_not_even_noticed() -> None:
    async def run() -> None:
        async with lab(strap()) as (_, service, _), open_radio() as radio:
            service.adapters["hci0"].connect_errors = [
                ("org.bluez.Error.Failed", "le-connection-abort-by-remote")
            ]
            async with transport(radio) as connection:
                await take(connection, 3, PULSE)

    asyncio.run(run())


def test_a_full_adapter_hands_over_to_the_next_and_is_not_asked_again() -> None:
    async def run() -> None:
        names = ("a", "b", "c", "d")
        async with lab(*map(strap, names), adapters=("hci0", "hci1")) as (_, service, gateway):
            service.adapters["hci0"].max_links = 2
            links = [await persist(gateway, config("bluez:hci0,bluez:hci1", name)) for name in names]
            for link in links:
                await take(link, 2, PULSE)
            assert [len(a.bumble.clients) for a in service.adapters.values()] == [2, 2]
            asked = service.adapters["hci0"].calls["Connect"]
            with pytest.raises(
                LinkError, match="BLE adapter bluez:hci0 holds 2 links and has room for no more"
            ):
                await gateway.connect(config("bluez:hci0", "d"), LINK).__aenter__()
            assert service.adapters["hci0"].calls["Connect"] == asked
            for link in links:
                await link.__aexit__(None, None, None)

    asyncio.run(run())


def test_an_adapter_that_is_pulled_out_is_passed_over_and_returned_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radios, "ADAPTER_REST_S", 0.5)

    async def run() -> None:
        async with lab(strap(), adapters=("hci0", "hci1")) as (air, service, gateway):
            both = config("bluez:hci1, bluez:hci0")
            first, second = service.adapters["hci0"], service.adapters["hci1"]
            connection = await persist(gateway, both)
            await take(connection, 3, PULSE)
            assert (first.calls["Connect"], second.calls["Connect"]) == (0, 1)
            await service.pull_out("hci1")
            with pytest.raises(LinkError, match="connection lost"):
                await drain(connection, [])
            await connection.__aexit__(None, None, None)
            connection = await persist(gateway, both)
            await take(connection, 3, PULSE)
            assert first.calls["Connect"] == 1
            await connection.__aexit__(None, None, None)
            third = await service.plug_in("hci1", air.adapter)
            await asyncio.sleep(0.6)
            connection = await persist(gateway, both)
            await take(connection, 3, PULSE)
            assert third.calls["Connect"] == 1
            await connection.__aexit__(None, None, None)

    asyncio.run(run())


def test_a_deaf_adapter_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with lab(strap(), adapters=("hci0", "hci1")) as (_, service, gateway):
            service.adapters["hci0"].deaf = True
            monkeypatch.setattr(radios, "_FIND_BY_ONE_OF_MANY_S", 1.5)
            async with gateway.connect(config("bluez:hci0,bluez:hci1"), LINK) as connection:
                await take(connection, 3, PULSE)
            assert service.adapters["hci1"].calls["Connect"] == 1

    asyncio.run(run())


def test_an_adapter_is_named_by_its_address_whatever_its_number() -> None:
    async def run() -> None:
        async with lab(strap(), adapters=("hci0", "hci1")) as (_, service, gateway):
            address = service.adapters["hci1"].address
            async with gateway.connect(config(f"bluez:{address}"), LINK) as connection:
                await take(connection, 3, PULSE)
            assert service.adapters["hci1"].calls["Connect"] == 1

    asyncio.run(run())


def test_an_adapter_that_is_missing_or_off_is_an_error_that_says_what_is_there() -> None:
    async def run() -> None:
        async with lab(strap(), adapters=("hci0", "hci1")) as (_, service, _):
            service.adapters["hci1"].change(Powered=bluez.Variant("b", False))
            for wanted in ("bluez:hci1", "bluez:hci7"):
                there = r"hci0 \(00:1A:7D:DA:71:00, on\), hci1 \(00:1A:7D:DA:71:01, off\)"
                with pytest.raises(AdapterError, match=f"BLE adapter {wanted}: expected .* found {there}"):
                    async with open_radio(wanted):
                        pytest.fail("opened")

    asyncio.run(run())


def test_a_power_cycle_ends_all_links_and_the_device_comes_back() -> None:
    async def run() -> None:
        async with lab(strap()) as (_, service, gateway):
            connection = await persist(gateway, config())
            await take(connection, 3, PULSE)
            known(service.adapters["hci0"]).silent = True
            assert await gateway.power_cycle(config())
            with pytest.raises(LinkError, match="connection lost"):
                await drain(connection, [])
            await connection.__aexit__(None, None, None)
            again = await persist(gateway, config())
            await take(again, 3, PULSE)
            await again.__aexit__(None, None, None)
            assert not await gateway.power_cycle(config()), "a second one within a minute"
            assert service.adapters["hci0"].log.count("PowerOff") == 1

    asyncio.run(run())


def test_an_adapter_over_which_another_device_streams_is_not_switched_off() -> None:
    async def run() -> None:
        async with lab(strap("a"), strap("b")) as (_, service, gateway):
            silent = await persist(gateway, config(name="a"))
            lively = await persist(gateway, config(name="b"))
            await take(lively, 3, PULSE)
            assert not await gateway.power_cycle(config(name="a"))
            assert "PowerOff" not in service.adapters["hci0"].log
            await take(lively, 3, PULSE)
            for link in (silent, lively):
                await link.__aexit__(None, None, None)

    asyncio.run(run())


def test_a_restarted_bluetooth_service_is_taken_up_again() -> None:
    async def run() -> None:
        async with asyncio.timeout(60), serve_ble([strap()], CLOCK, advertising_interval_ms=20.0) as air:
            gateway = Radios(CLOCK)
            async with running_bluez(hci0=air.adapter):
                connection = await persist(gateway, config())
                await take(connection, 3, PULSE)
            with pytest.raises(LinkError, match="connection lost"):
                await drain(connection, [])
            await connection.__aexit__(None, None, None)
            with pytest.raises(LinkError, match="BLE adapter bluez: no BlueZ"):
                await gateway.connect(config(), LINK).__aenter__()
            async with running_bluez(hci0=air.adapter):
                connection = await persist(gateway, config())
                await take(connection, 3, PULSE)
                await connection.__aexit__(None, None, None)
            await gateway.close()

    asyncio.run(run())
