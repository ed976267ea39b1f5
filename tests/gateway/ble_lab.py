"""A chest strap in the air and a gateway's radio: what the BLE tests share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from firmware_sim.device import AttError, FrameDevice, Outlet
from firmware_sim.links.virtual_ble import VirtualRadio, serve_ble
from gateway.ble import BleRadio, BleTransport, open_radio
from gateway.transport import Frame, Transport
from protocols.devices.kind import BleLink, Decoded, DeviceKind, GattCharacteristic, GattService, GattWrite
from protocols.lab_clock import LabClock
from tests.gateway.conftest import wait_until

PULSE_SERVICE = "0000180d-0000-1000-8000-00805f9b34fb"
PULSE = "00002a37-0000-1000-8000-00805f9b34fb"
BATTERY_SERVICE = "0000180f-0000-1000-8000-00805f9b34fb"
BATTERY = "00002a19-0000-1000-8000-00805f9b34fb"
INFORMATION_SERVICE = "0000180a-0000-1000-8000-00805f9b34fb"
FIRMWARE = "00002a26-0000-1000-8000-00805f9b34fb"
ECG_SERVICE = "fb005c80-02e7-f387-1cad-8acd2d8df0c8"
CONTROL = "fb005c81-02e7-f387-1cad-8acd2d8df0c8"
ECG = "fb005c82-02e7-f387-1cad-8acd2d8df0c8"
START = b"\x02\x00"

CLOCK = LabClock(time.time_ns, time.monotonic_ns)
PULSE_GATT = GattService(PULSE_SERVICE, (GattCharacteristic(PULSE, frozenset({"notify"})),))
BATTERY_GATT = GattService(BATTERY_SERVICE, (GattCharacteristic(BATTERY, frozenset({"read", "notify"})),))
INFORMATION_GATT = GattService(INFORMATION_SERVICE, (GattCharacteristic(FIRMWARE, frozenset({"read"})),))
ECG_GATT = GattService(
    ECG_SERVICE,
    (
        GattCharacteristic(CONTROL, frozenset({"write", "indicate"})),
        GattCharacteristic(ECG, frozenset({"notify"})),
    ),
)
STARTUP = (GattWrite(CONTROL, START),)
LINK = BleLink((PULSE_GATT, BATTERY_GATT, ECG_GATT), reads=(BATTERY,), startup=STARTUP, mtu=232)
INFORMED_LINK = BleLink((*LINK.services, INFORMATION_GATT), reads=(BATTERY, FIRMWARE), startup=STARTUP, mtu=232)


class Counter:
    """Frames that carry their number and are filled up to a size."""

    n_frames = None

    def __init__(self, uuid: str, *, period_s: float, size: int) -> None:
        self.uuid, self.period_s, self.size = uuid, period_s, size

    def due_s(self, frame: int) -> float:
        return (frame + 1) * self.period_s

    def encode(self, frame: int, origin_s: float) -> bytes:
        return frame.to_bytes(4, "little") + bytes(i % 251 for i in range(self.size - 4))


class DeafDecoder:
    def feed(self, source: str, data: bytes) -> Decoded:
        raise AssertionError(f"decodes nothing, but was fed {data!r} from {source}")


def strap_kind(link: BleLink = LINK) -> DeviceKind:
    return DeviceKind("strap", "A chest strap", link, (), DeafDecoder)


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
    firmware: Callable[[float], bytes] = lambda _run_s: b"1.0",
) -> FrameDevice:
    outlets = [
        Outlet(Counter(PULSE, period_s=period_s, size=20)),
        Outlet(Counter(ECG, period_s=period_s, size=229), on_connect=False),
    ]
    values = {BATTERY: battery, FIRMWARE: firmware}
    return FrameDevice(strap_kind(link), name, outlets, values=values, controls={CONTROL: start_ecg})


@asynccontextmanager
async def lab(*devices: FrameDevice, **options: Any) -> AsyncIterator[tuple[VirtualRadio, BleRadio]]:
    async with (
        asyncio.timeout(30),
        serve_ble(devices, CLOCK, **{"advertising_interval_ms": 20.0, **options}) as air,
        open_radio(air.adapter) as radio,
    ):
        yield air, radio


def transport(radio: BleRadio, name: str = "strap", link: BleLink = LINK, **options: Any) -> BleTransport:
    return BleTransport(name, link, CLOCK, radio, **{"find_timeout_s": 5.0, **options})


async def take(connection: Transport, n: int, source: str | None = None) -> list[Frame]:
    """Return the next frames; the connection's others are gone."""
    taken: list[Frame] = []
    async for frame in connection.frames():
        if source in {None, frame.source}:
            taken.append(frame)
        if len(taken) == n:
            break
    return taken


async def drain(connection: Transport, into: list[Frame]) -> None:
    async for frame in connection.frames():
        into.append(frame)  # noqa: PERF401 - those before the error count


async def let_go(air: VirtualRadio, device: FrameDevice) -> None:
    """Wait until a device is connected to nobody."""
    await wait_until(lambda: not air.is_connected(device), f"{device.name} is still connected")


def numbers(frames: list[Frame]) -> list[int]:
    return [int.from_bytes(frame.data[:4], "little") for frame in frames]
