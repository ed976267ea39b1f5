"""One Bluetooth Low Energy radio for the whole gateway: it finds devices and connects them.

A radio does one thing at a time, as radios like it: it scans, or it connects one device. Whoever waits for a
device shares the one scan, which pauses whenever a device was found so that it can be connected::

    find(A) ─┐ scan ··· A seen    connect A    scan ······ B seen    connect B
    find(B) ─┘                                 find(C) ─┐ (C is absent: LinkError when its time is up)

How many links an adapter holds no adapter tells. One that refuses for want of room is taken to hold as many as
it had then, and is not asked for more.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak_retry_connector import establish_connection

from gateway.ble_adapter import Adapter, canonical, open_adapter
from gateway.ble_errors import LINK_ERRORS, AdapterError, has_lost_services, is_in_progress, trouble_of
from gateway.transport import LinkError, Trouble

_SCAN_RESTART_S: Final = 30.0
"""A scan that found nobody for so long is started anew, in case the radio fell silent."""
_SETTLE_S: Final = 0.1
"""How long a scan goes on for the others when it has found somebody."""
_DEAF_AFTER_S: Final = 4.0
"""An adapter that hears nobody at all for so long may itself be the trouble."""
_BUSY_SCAN_S: Final = 0.5
_BUSY_SCANS: Final = 10
"""How often, and after what pause, a scan is tried that BlueZ refuses as being already in progress."""
_CONNECT_TIMEOUT_S: Final = 25.0

Listener = Callable[[BLEDevice, AdvertisementData], None]


@dataclass(frozen=True, slots=True)
class Advertisement:
    """A device as it was seen last in a scan; `services` are full UUIDs in lower case."""

    address: str
    name: str | None
    rssi_dbm: int
    services: tuple[str, ...]


@asynccontextmanager
async def open_radio(adapter_spec: str = "") -> AsyncIterator[BleRadio]:
    """Open the gateway's radio for as long as the context lasts.

    Parameters
    ----------
    adapter_spec
        See `gateway.ble_adapter`.

    Raises
    ------
    TransportError
        If there is no such adapter.
    """
    radio = BleRadio(await canonical(adapter_spec))
    try:
        await radio.adapter()
        yield radio
    finally:
        await radio.close()


class BleRadio:
    """One adapter: finds devices in a shared scan and connects one at a time. Made by `open_radio`.

    Attributes
    ----------
    spec
        Of the adapter, canonical.
    firmware
        The firmware revision that each device told last, by address.
    """

    def __init__(self, adapter_spec: str) -> None:
        self.spec = adapter_spec
        self.firmware: dict[str, bytes] = {}
        self._adapter: Adapter | None = None
        self._busy = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._listeners: set[Listener] = set()
        self._pause = asyncio.Event()
        self._scanning: asyncio.Task[None] | None = None
        self._clients: set[BleakClient] = set()
        self._room: int | None = None
        self._n_heard = 0

    @property
    def n_links(self) -> int:
        """How many devices are connected."""
        self._clients = {client for client in self._clients if client.is_connected}
        return len(self._clients)

    async def find(self, address_or_name: str, *, timeout_s: float) -> BLEDevice:
        """Return the device with that address or advertised name, freshly seen.

        Raises
        ------
        LinkError
            If it is not seen in time; an AdapterError if the adapter fails.
        """
        with suppress(AdapterError):  # which the scan tells
            await (await self.adapter()).release(address_or_name)
        found: asyncio.Future[BLEDevice] = asyncio.get_running_loop().create_future()

        def look(device: BLEDevice, advertised: AdvertisementData) -> None:
            names = (device.address.lower(), advertised.local_name)
            if (address_or_name in names or address_or_name.lower() == names[0]) and not found.done():
                found.set_result(device)

        n_heard_before = self._n_heard
        async with self.listening(look) as scanning:
            either: set[asyncio.Future[Any]] = {found, scanning}
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if found.done():
            return found.result()
        if failure := _failure(scanning):
            raise AdapterError(
                f"BLE device {address_or_name}: no scan with {self.spec}: {failure}", trouble_of(failure)
            ) from failure
        not_seen = f"BLE device {address_or_name}: not seen by {self.spec} in {timeout_s:g} s of scanning"
        if timeout_s >= _DEAF_AFTER_S and self._n_heard == n_heard_before:
            raise AdapterError(f"{not_seen}, nor was any other device", Trouble.NOT_FOUND)
        raise LinkError(
            f"{not_seen}; expected it to be on, near, and not connected to anything else", Trouble.NOT_FOUND
        )

    async def connect(
        self, device: BLEDevice, services: list[str], on_lost: Callable[[BleakClient], None]
    ) -> BleakClient:
        """Return a client connected to a device just found.

        bleak's own memory of services is left aside: BlueZ has one, and can be told to drop it.

        Raises
        ------
        LinkError
            If the adapter has no room for another link; otherwise what bleak raises.
        """
        async with self._busy, asyncio.timeout(_CONNECT_TIMEOUT_S):
            if self._room is not None and self.n_links >= self._room:
                raise LinkError(
                    f"BLE adapter {self.spec} holds {self.n_links} links and has room for no more; expected "
                    "fewer devices on it, or a further adapter",
                    Trouble.BUSY,
                )
            adapter = await self.adapter()
            try:
                client = await _connect(device, services, on_lost, adapter.client_options)
            except LINK_ERRORS as error:
                if trouble_of(error) is Trouble.BUSY:
                    self._room = max(1, self.n_links)
                if is_in_progress(error) or has_lost_services(error):
                    await adapter.forget(device)
                raise
            self._clients.add(client)
            return client

    async def forget(self, device: BLEDevice) -> bool:
        """Drop what the adapter remembers of a device, its services too; returns whether anything was."""
        async with self._busy:
            return await (await self.adapter()).forget(device)

    async def power_cycle(self, is_idle: Callable[[], bool]) -> bool:
        """Switch off and on if `is_idle` once nothing else is under way; returns whether that was done."""
        self._pause.set()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S + 5):
                await self._busy.acquire()
        except TimeoutError:
            return False
        try:
            self._room = None
            return is_idle() and await (await self.adapter()).power_cycle()
        finally:
            self._busy.release()

    async def adapter(self) -> Adapter:
        """Return the adapter; opens a lost one anew.

        Raises
        ------
        AdapterError
            If there is no such adapter.
        """
        async with self._opening:
            if self._adapter is not None and self._adapter.lost is not None and self._adapter.lost.done():
                await self._adapter.close()
                self._adapter = None
            if self._adapter is None:
                self._adapter = await open_adapter(self.spec)
                if self._adapter.lost is not None:
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
        tries = 0
        while self._listeners:
            async with self._busy:
                adapter = await self.adapter()
                self._pause.clear()
                try:
                    async with BleakScanner(self._report, **adapter.scanner_options):
                        tries = 0
                        await self._until_paused()
                        continue
                except LINK_ERRORS as error:
                    tries += 1
                    if not is_in_progress(error) or tries > _BUSY_SCANS:
                        raise
            await asyncio.sleep(_BUSY_SCAN_S)

    async def _until_paused(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_SCAN_RESTART_S):
                await self._pause.wait()
        if self._listeners:
            await asyncio.sleep(_SETTLE_S)

    def _report(self, device: BLEDevice, advertised: AdvertisementData) -> None:
        self._n_heard += 1
        for listener in tuple(self._listeners):
            listener(device, advertised)


async def scan(radio: BleRadio, timeout_s: float) -> list[Advertisement]:
    """Return the devices that advertise within `timeout_s`, strongest first.

    Raises
    ------
    AdapterError
        If the adapter fails.
    """
    seen: dict[str, Advertisement] = {}

    def note(device: BLEDevice, advertised: AdvertisementData) -> None:
        name, services = advertised.local_name, tuple(sorted(advertised.service_uuids))
        seen[device.address] = Advertisement(device.address, name, advertised.rssi, services)

    async with radio.listening(note) as scanning:
        await asyncio.wait({scanning}, timeout=timeout_s)
    if failure := _failure(scanning):
        raise AdapterError(f"no scan with {radio.spec}: {failure}") from failure
    return sorted(seen.values(), key=lambda device: (-device.rssi_dbm, device.address))


async def _connect(
    device: BLEDevice,
    services: list[str],
    on_lost: Callable[[BleakClient], None],
    options: Mapping[str, Any],
) -> BleakClient:
    """Connect, with a second try after a hiccup; whatever takes longer to mend must not hold up others."""
    once = functools.partial(
        establish_connection,
        BleakClient,
        device,
        device.name or device.address,
        on_lost,
        max_attempts=0,  # once; with 1 it would repeat nine times what it takes to be passing
        use_services_cache=False,
        services=services,
        **options,
    )
    try:
        return await once()
    except LINK_ERRORS as error:
        if trouble_of(error) is not Trouble.TRANSIENT or is_in_progress(error):
            raise
    return await once()


def _failure(scanning: asyncio.Task[None]) -> BaseException | None:
    """Return why a scan ended before its time, None if it has not."""
    if scanning.cancelled():
        return ConnectionError("the radio was closed")
    return scanning.exception() if scanning.done() else None
