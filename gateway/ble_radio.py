"""One Bluetooth Low Energy radio for the whole gateway: it finds devices and connects them.

A radio does one thing at a time, as radios like it: it scans, or it connects one device. Whoever waits for a
device shares the one scan, which pauses whenever a device was found so that it can be connected::

    find(A) ─┐ scan ··· A seen    connect A    scan ······ B seen    connect B
    find(B) ─┘                                 find(C) ─┐ (C is absent: TransportError when its time is up)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak_retry_connector import BLEAK_RETRY_EXCEPTIONS, establish_connection

from protocols.errors import TransportError

if TYPE_CHECKING:
    from gateway.bumble_backend import BumbleAdapter

PLATFORM_RADIO: Final = "bluez"
"""The adapter spec for the operating system's own Bluetooth stack."""

LINK_ERRORS: Final = (*BLEAK_RETRY_EXCEPTIONS, KeyError, OSError)
"""What bleak may raise: also errors of D-Bus, and AttributeError and KeyError where an object vanished."""

_SCAN_RESTART_S: Final = 30.0
"""A scan that found nobody for so long is started anew, in case the radio fell silent."""
_SETTLE_S: Final = 0.1
"""How long a scan goes on for the others when it has found somebody."""
_CONNECT_TIMEOUT_S: Final = 25.0
_CONNECT_ATTEMPTS: Final = 2

Listener = Callable[[BLEDevice, AdvertisementData], None]


@dataclass(frozen=True, slots=True)
class Advertisement:
    """A device as it was seen last in a scan; `services` are full UUIDs in lower case."""

    address: str
    name: str | None
    rssi_dbm: int
    services: tuple[str, ...]


@asynccontextmanager
async def open_radio(adapter_spec: str = PLATFORM_RADIO) -> AsyncIterator[BleRadio]:
    """Open the gateway's radio for as long as the context lasts.

    Parameters
    ----------
    adapter_spec
        `bluez` (or nothing) for the operating system's Bluetooth stack; otherwise a Bumble HCI transport, such
        as `tcp-client:127.0.0.1:9000` (the simulator's virtual radio) or `usb:0` (a dongle of our own).

    Raises
    ------
    TransportError
        If there is no such adapter.
    """
    radio = BleRadio(adapter_spec)
    try:
        await radio.adapter()
        yield radio
    finally:
        await radio.close()


class BleRadio:
    """One adapter: finds devices in a shared scan and connects one at a time. Made by `open_radio`."""

    def __init__(self, adapter_spec: str) -> None:
        self.spec = adapter_spec or PLATFORM_RADIO
        self._adapter: BumbleAdapter | None = None
        self._busy = asyncio.Lock()
        self._listeners: set[Listener] = set()
        self._pause = asyncio.Event()
        self._scanning: asyncio.Task[None] | None = None

    async def find(self, address_or_name: str, *, timeout_s: float) -> BLEDevice:
        """Return the device with that address or advertised name, freshly seen.

        Raises
        ------
        TransportError
            If it is not seen in time, or the adapter fails.
        """
        found: asyncio.Future[BLEDevice] = asyncio.get_running_loop().create_future()

        def look(device: BLEDevice, advertised: AdvertisementData) -> None:
            names = (device.address.lower(), advertised.local_name)
            if (address_or_name in names or address_or_name.lower() == names[0]) and not found.done():
                found.set_result(device)

        async with self.listening(look) as scanning:
            either: set[asyncio.Future[Any]] = {found, scanning}
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if found.done():
            return found.result()
        if failure := _failure(scanning):
            raise TransportError(
                f"BLE device {address_or_name}: no scan with {self.spec}: {failure}"
            ) from failure
        raise TransportError(
            f"BLE device {address_or_name}: not seen by {self.spec} in {timeout_s:g} s of scanning; "
            "expected it to be on, near, and not connected to anything else"
        )

    async def connect(
        self, device: BLEDevice, services: list[str], on_lost: Callable[[BleakClient], None]
    ) -> BleakClient:
        """Return a client connected to a device just found; raises what bleak raises."""
        async with self._busy, asyncio.timeout(_CONNECT_TIMEOUT_S):
            adapter = await self.adapter()
            options: dict[str, Any] = {"backend": adapter.client_class} if adapter else {}
            return await establish_connection(
                BleakClient,
                device,
                device.name or device.address,
                on_lost,
                max_attempts=_CONNECT_ATTEMPTS,
                services=services,
                **options,
            )

    async def adapter(self) -> BumbleAdapter | None:
        """Return the adapter that has the backend classes, None for the platform's; opens a lost one anew.

        Raises
        ------
        TransportError
            If there is no such adapter.
        """
        if self.spec == PLATFORM_RADIO:
            return None
        if self._adapter is not None and self._adapter.lost.done():
            await self._adapter.close()
            self._adapter = None
        if self._adapter is None:
            self._adapter = await _open_adapter(self.spec)
            self._adapter.lost.add_done_callback(lambda _: self._pause.set())
        return self._adapter

    async def close(self) -> None:
        """Stop scanning and let go of the adapter."""
        if self._scanning is not None:
            self._scanning.cancel()
            await asyncio.wait({self._scanning})
        if self._adapter is not None:
            await self._adapter.close()
            self._adapter = None

    @asynccontextmanager
    async def listening(self, listener: Listener) -> AsyncIterator[asyncio.Task[None]]:
        """Have advertisements reported while the context lasts; yields the scan, which only an error ends."""
        self._listeners.add(listener)
        if self._scanning is None or self._scanning.done():
            self._scanning = asyncio.create_task(self._scan())
        try:
            yield self._scanning
        finally:
            self._listeners.discard(listener)
            self._pause.set()

    async def _scan(self) -> None:
        """Scan while somebody listens, with a pause whenever a listener leaves."""
        while self._listeners:
            async with self._busy:
                adapter = await self.adapter()
                options: dict[str, Any] = {"backend": adapter.scanner_class} if adapter else {}
                self._pause.clear()
                async with BleakScanner(self._report, **options):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_SCAN_RESTART_S):
                            await self._pause.wait()
                    if self._listeners:
                        await asyncio.sleep(_SETTLE_S)

    def _report(self, device: BLEDevice, advertised: AdvertisementData) -> None:
        for listener in tuple(self._listeners):
            listener(device, advertised)


async def scan(radio: BleRadio, timeout_s: float) -> list[Advertisement]:
    """Return the devices that advertise within `timeout_s`, strongest first.

    Raises
    ------
    TransportError
        If the adapter fails.
    """
    seen: dict[str, Advertisement] = {}

    def note(device: BLEDevice, advertised: AdvertisementData) -> None:
        name, services = advertised.local_name, tuple(sorted(advertised.service_uuids))
        seen[device.address] = Advertisement(device.address, name, advertised.rssi, services)

    async with radio.listening(note) as scanning:
        await asyncio.wait({scanning}, timeout=timeout_s)
    if failure := _failure(scanning):
        raise TransportError(f"no scan with {radio.spec}: {failure}") from failure
    return sorted(seen.values(), key=lambda device: (-device.rssi_dbm, device.address))


def _failure(scanning: asyncio.Task[None]) -> BaseException | None:
    """Return why a scan ended before its time, None if it has not."""
    if scanning.cancelled():
        return ConnectionError("the radio was closed")
    return scanning.exception() if scanning.done() else None


async def _open_adapter(spec: str) -> BumbleAdapter:
    try:
        from gateway.bumble_backend import BumbleAdapter  # the platform's radio works without Bumble
    except ImportError as error:
        raise TransportError(
            f"BLE adapter {spec}: {error}; expected the package bumble to be installed"
        ) from error
    try:
        return await BumbleAdapter.open(spec)
    except LINK_ERRORS as error:
        raise TransportError(f"BLE adapter {spec}: {error}") from error
