from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_sim.device import FrameDevice, SimulatedDevice
from firmware_sim.links.pty import serve_pty
from firmware_sim.pacing import drive
from firmware_sim.replay import Recording, read_wfdb, replay_as, replay_options
from protocols.devices import polar
from protocols.devices.kind import BleLink, Decoder, Samples
from protocols.devices.registry import device_kind
from protocols.errors import DefinitionError
from protocols.lab_clock import LabClock


def recording(values: Any, **changes: Any) -> Recording:
    values = np.atleast_2d(np.asarray(values, dtype=np.int32))
    n = len(values)
    facts: dict[str, Any] = {
        "name": "made",
        "rate_hz": 250.0,
        "values": values,
        "gain": (200.0,) * n,
        "baseline": (1024,) * n,
        "units": ("mV",) * n,
        "channel_names": tuple(f"ch{k}" for k in range(n)),
        "annotation_samples": np.empty(0, dtype=np.int64),
        "annotation_symbols": (),
    }
    return Recording(**(facts | changes))


def listen(device: SimulatedDevice) -> None:
    """Connect as a gateway does."""
    device.connect()
    if isinstance(device.kind.link, BleLink):
        for command in device.kind.link.startup:
            device.write(command.characteristic, command.data)
    device.advance(0)


def decode(decoder: Decoder, frames: list[tuple[str, bytes]]) -> list[Samples]:
    samples = []
    for source, data in frames:
        decoded = decoder.feed(source, data)
        assert decoded.errors == ()
        samples.extend(decoded.samples)
    return samples


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["100", "103", "116"])
def test_every_sample_of_a_real_record_comes_back_bit_by_bit(shared: Path, name: str) -> None:
    record = read_wfdb(shared / "data/ecg/mitdb" / name)
    device = replay_as(record, "fablab")
    kind = device_kind("fablab", replay_options(record, "fablab"))
    listen(device)
    samples = decode(kind.new_decoder(), device.advance(record.duration_s + 1))
    assert device.finished
    assert np.array_equal(np.concatenate([part.values for part in samples], axis=1), record.values)
    assert [part.counter for part in samples] == list(
        np.cumsum([0] + [part.values.shape[1] for part in samples[:-1]])
    )
    stream = kind.streams[0]
    assert stream.rate_hz == record.rate_hz
    assert np.allclose(stream.physical(record.values), record.physical(), rtol=0, atol=1e-9)


@pytest.mark.shared_data
def test_half_an_hour_of_a_real_record_passes_a_serial_port_unchanged(shared: Path) -> None:
    record = read_wfdb(shared / "data/ecg/mitdb/117")
    device = replay_as(record, "fablab")
    decoder = device.kind.new_decoder()
    received: list[Samples] = []

    def read(path: str) -> None:
        import serial

        n_samples, end_s = 0, time.monotonic() + 60
        with serial.Serial(path, 921_600, timeout=0.2) as port:
            while n_samples < record.n_samples and time.monotonic() < end_s:
                decoded = decoder.feed("serial", port.read(max(1, port.in_waiting)))
                assert decoded.errors == ()
                received.extend(decoded.samples)
                n_samples += sum(part.values.shape[1] for part in decoded.samples)

    async def scene() -> None:
        clock = LabClock(time.time_ns, time.monotonic_ns, speed=1000, origin_ns=time.time_ns())
        async with serve_pty(device, clock) as path:
            await asyncio.to_thread(read, path)

    asyncio.run(scene())
    assert np.array_equal(np.concatenate([part.values for part in received], axis=1), record.values)


@pytest.mark.shared_data
def test_a_chest_strap_sends_the_first_channel_at_130_hz_in_microvolt(shared: Path) -> None:
    record = read_wfdb(shared / "data/ecg/mitdb/100")
    device = replay_as(record, "polar-h10")
    listen(device)
    samples = decode(device.kind.new_decoder(), device.advance(record.duration_s + 1))
    ecg_uv = np.concatenate([part.values for part in samples if part.stream == "ecg"], axis=1)[0]
    assert device.finished
    assert ecg_uv.size == -(-record.n_samples * 13 // 36)
    at_s = np.arange(ecg_uv.size) / 130
    original_uv = 1000 * np.interp(at_s, np.arange(record.n_samples) / 360, record.physical()[0])
    assert np.corrcoef(ecg_uv, original_uv)[0, 1] > 0.98
    beats = record.annotation_samples[np.isin(record.annotation_symbols, ["N", "A", "V"])] / 360
    peaks = [ecg_uv[round(130 * t) - 6 : round(130 * t) + 7].max() for t in beats[5:-5]]
    assert np.median(peaks) == pytest.approx(1000 * 0.95, rel=0.15)


def test_a_device_is_not_finished_before_its_last_short_frame() -> None:
    record = recording(np.arange(1000) % 300, rate_hz=360.0)
    device = replay_as(record, "fablab")
    listen(device)
    n_before = sum(part.values.shape[1] for part in decode(device.kind.new_decoder(), device.advance(2.77)))
    assert n_before < 1000
    assert not device.finished
    last = decode(device.kind.new_decoder(), device.advance(2.7778))
    assert n_before + sum(part.values.shape[1] for part in last) == 1000
    assert last[-1].values.shape[1] == 1000 % 18
    assert device.finished


def test_a_replay_begins_when_somebody_listens(virtual_time: Any) -> None:
    device = replay_as(recording(range(500)), "fablab")
    received = []

    async def send(_source: str, data: bytes) -> None:
        received.append(data)

    async def scene() -> None:
        driving = asyncio.create_task(drive(device, virtual_time.clock(), send))
        await asyncio.sleep(1000)
        device.connect()
        await driving

    virtual_time.run(scene())
    samples = decode(device.kind.new_decoder(), [("serial", b"".join(received))])
    assert np.array_equal(np.concatenate([part.values for part in samples], axis=1)[0], np.arange(500))
    assert samples[0].device_ns == pytest.approx(1000e9, abs=2e3)


def test_what_a_disconnection_took_is_told_by_the_counter() -> None:
    device = replay_as(recording(range(1000)), "fablab")
    listen(device)
    device.advance(1.0)
    device.disconnect()
    device.advance(1.5)
    device.connect()
    device.advance(2.0)
    samples = decode(device.kind.new_decoder(), device.advance(5))
    assert samples[0].counter == samples[0].values[0, 0]
    assert 500 <= samples[0].counter < 520
    assert device.finished


def test_large_values_travel_in_24_bits_and_larger_ones_are_refused() -> None:
    record = recording([[-40_000, 8_388_607, 5]])
    device = replay_as(record, "fablab")
    listen(device)
    (part,) = decode(device.kind.new_decoder(), device.advance(1))
    assert np.array_equal(part.values, record.values)
    with pytest.raises(DefinitionError, match="8388608, expected 24 bits"):
        replay_as(recording([[0, 8_388_608]]), "fablab")


def test_names_that_are_no_identifiers_or_equal_become_different_ones() -> None:
    options = replay_options(recording(np.zeros((4, 9)), channel_names=("col 1", "COL-1", "12", "")), "fablab")
    assert [channel["name"] for channel in options["channels"]] == ["col_1", "col_1_2", "channel_12", "channel"]


def test_kinds_that_cannot_carry_the_signal_are_refused_with_the_reason() -> None:
    record = recording([[1, 2]], units=("parsec",))
    with pytest.raises(DefinitionError, match=r"nonin-7.*expected one of \['fablab', 'polar-h10'\]"):
        replay_as(record, "nonin-7")
    with pytest.raises(DefinitionError, match="unit 'parsec' of channel ch0 of made"):
        replay_as(record, "fablab")
    with pytest.raises(DefinitionError, match=r"unit 'parsec'.*for polar-h10"):
        replay_as(record, "polar-h10")


def test_a_polar_replay_waits_for_the_start_command() -> None:
    device = replay_as(recording(np.zeros(2500)), "polar-h10")
    device.connect()
    assert device.advance(5) == []
    assert isinstance(device, FrameDevice)
    device.write(polar.CONTROL_UUID, polar.START_ECG)
    device.advance(5)
    frames = device.advance(20)
    samples = decode(device.kind.new_decoder(), frames)
    assert sum(part.values.shape[1] for part in samples) == 1300
