"""A whole scenario on its links, listened to as a gateway would."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serial
from bleak import BleakClient, BleakScanner

from firmware_sim.replay import read_wfdb, replay_as
from firmware_sim.scenario import DeviceSettings, Scenario, SubjectSettings
from firmware_sim.serving import Served, serve_scenario
from firmware_sim.signals.oximeter import OximeterModel
from gateway.bumble_backend import BumbleAdapter
from protocols.devices.kind import BleLink, Samples
from protocols.lab_clock import LabClock

SPEED = 20.0


def new_clock(speed: float) -> LabClock:
    return LabClock(time.time_ns, time.monotonic_ns, speed=speed, origin_ns=time.time_ns())


async def listen_ble(served: Served, stream: str, n_samples: int) -> tuple[list[Samples], dict[str, str]]:
    """Return the samples and properties that a client gets, by the kind's own link description."""
    link, decoder = served.device.kind.link, served.device.kind.new_decoder()
    assert isinstance(link, BleLink)
    samples: list[Samples] = []
    properties: dict[str, str] = {}

    def feed(sender: Any, value: bytes) -> None:
        decoded = decoder.feed(sender if isinstance(sender, str) else sender.uuid, bytes(value))
        assert decoded.errors == ()
        samples.extend(part for part in decoded.samples if part.stream == stream)
        properties.update(decoded.properties)

    async with await BumbleAdapter.open(served.adapter) as adapter:
        found = await BleakScanner.find_device_by_address(served.address, backend=adapter.scanner_class)
        assert found is not None
        async with BleakClient(found, backend=adapter.client_class) as client:
            for uuid in link.reads:
                feed(uuid, await client.read_gatt_char(uuid))
            for service in link.services:
                for characteristic in service.characteristics:
                    if characteristic.properties & {"notify", "indicate"}:
                        await client.start_notify(characteristic.uuid, feed)
            for command in link.startup:
                await client.write_gatt_char(command.characteristic, command.data, response=True)
            async with asyncio.timeout(30):
                while sum(part.values.shape[1] for part in samples) < n_samples:
                    await asyncio.sleep(0.01)
    return samples, properties


def listen_serial(served: Served, stream: str, n_samples: int) -> list[Samples]:
    decoder, samples = served.device.kind.new_decoder(), []
    end_s = time.monotonic() + 30
    with serial.Serial(served.address, timeout=0.2) as port:
        while sum(part.values.shape[1] for part in samples) < n_samples and time.monotonic() < end_s:
            decoded = decoder.feed("serial", port.read(max(1, port.in_waiting)))
            samples += [part for part in decoded.samples if part.stream == stream]
    return samples


def test_reference_and_candidate_on_one_subject_agree_over_serial_and_ble() -> None:
    perfect = OximeterModel()
    scenario = Scenario(
        devices=(
            DeviceSettings("nonin-7", link="pty", subject="S01", oximeter=perfect),
            DeviceSettings("pulse-oximeter", subject="S01", oximeter=perfect),
            DeviceSettings("polar-h10", subject="S01"),
        ),
        subjects=(SubjectSettings("S01", seed=2, sao2_percent=83.0),),
        speed=SPEED,
    )

    async def scene() -> tuple[Any, ...]:
        async with asyncio.timeout(60), serve_scenario(scenario, new_clock(SPEED)) as (nonin, plx, strap):
            return await asyncio.gather(
                asyncio.to_thread(listen_serial, nonin, "oximetry", 60),
                listen_ble(plx, "oximetry", 20),
                listen_ble(strap, "ecg", 1300),
            )

    reference, (candidate, about), (ecg, about_strap) = asyncio.run(scene())
    assert {part.values[0, -1] for part in reference[-10:]} == {83.0}
    assert {part.values[0, -1] for part in candidate[-10:]} == {83.0}
    assert (about["model"], about_strap["model"]) == ("Oximeter", "H10")
    assert all(part.values.shape == (1, 73) for part in ecg)
    steps_ns = np.diff([part.device_ns for part in ecg])
    assert steps_ns == pytest.approx(73 / 130 * 1e9, abs=2)


@pytest.mark.shared_data
def test_a_record_replayed_as_a_chest_strap_arrives_whole_over_ble(shared: Path) -> None:
    path = shared / "data/ecg/mitdb/101"
    scenario = Scenario(devices=(DeviceSettings("polar-h10", replay=path),), speed=500.0)
    expected = replay_as(read_wfdb(path), "polar-h10")
    n_samples = -(-650_000 * 13 // 36)

    async def scene() -> list[Samples]:
        start = asyncio.Event()
        async with asyncio.timeout(60), serve_scenario(scenario, new_clock(500), start=start) as (strap,):
            start.set()
            samples, _ = await listen_ble(strap, "ecg", n_samples)
            assert strap.device.finished
            return samples

    received = np.concatenate([part.values for part in asyncio.run(scene())], axis=1)
    expected.connect()
    assert isinstance(expected.kind.link, BleLink)
    for command in expected.kind.link.startup:
        expected.write(command.characteristic, command.data)
    expected.advance(0)
    decoder = expected.kind.new_decoder()
    sent = [part for frame in expected.advance(1e5) for part in decoder.feed(*frame).samples]
    assert np.array_equal(received, np.concatenate([part.values for part in sent], axis=1))
    assert received.shape[1] == n_samples


def test_the_radio_of_a_ble_device_makes_its_link_fail_and_tells_why_it_failed() -> None:
    scenario = Scenario(
        devices=(
            DeviceSettings("nonin-7", link="pty", subject="S01"),
            DeviceSettings("heart-rate-strap", subject="S01"),
        ),
        subjects=(SubjectSettings("S01", seed=2),),
    )

    async def scene() -> None:
        async with asyncio.timeout(30), serve_scenario(scenario, new_clock(1)) as (nonin, strap):
            assert nonin.radio is None
            assert strap.radio is not None
            lost = asyncio.Event()
            async with await BumbleAdapter.open(strap.adapter) as adapter:
                found = await BleakScanner.find_device_by_address(strap.address, backend=adapter.scanner_class)
                assert found is not None
                await BleakClient(found, lambda _: lost.set(), backend=adapter.client_class).connect()
                strap.radio.link_loss(strap.device)
                await lost.wait()
            strap.radio.raise_failure()

    asyncio.run(scene())
