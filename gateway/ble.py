"""The connection to one Bluetooth Low Energy device.

On every connection, `BleTransport` subscribes to every notifying characteristic of its `BleLink`, reads what is
to be read, sends the start-up commands, and hands on each value as a `Frame` stamped in the radio's callback.
What is read (battery level, device information) is used as far as a device has it, for few have it all; all
else a device must have.

The platform remembers a device's services, and may remember wrongly: after a firmware update handles move. A
device that seems to lack a characteristic, or tells another firmware revision than before, is therefore
forgotten by the platform and connected once more before it is called wrong.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.device import BLEDevice
from bleak.backends.service import BleakGATTServiceCollection
from bleak.exc import BleakGATTProtocolError

from gateway.ble_errors import LINK_ERRORS, trouble_of
from gateway.ble_radio import Advertisement, BleRadio, open_radio, scan
from gateway.transport import Frame, LinkError, Trouble
from protocols.devices.kind import BleLink
from protocols.errors import TransportError
from protocols.lab_clock import LabClock

__all__ = ["Advertisement", "BleRadio", "BleTransport", "open_radio", "scan"]

_CLOSE_TIMEOUT_S: Final = 5.0
_FIRMWARE_REVISION: Final = "00002a26-0000-1000-8000-00805f9b34fb"
_NOTIFY_OPTIONS: Final[dict[str, Any]] = {"bluez": {"use_start_notify": True}}
"""With AcquireNotify, devices that send before they have confirmed a subscription lose data or the link."""

_logger = logging.getLogger(__name__)


class _ServicesError(LinkError):
    """The device does not offer what its kind has, or what it offers is no longer what is remembered."""


class BleTransport:
    """One connection to one BLE device; fits `gateway.transport.Transport`.

    Parameters
    ----------
    address_or_name
        The device's address, or the name it advertises.
    link
        Which services it must have and how they are used.
    clock
        Stamps the frames.
    radio
        Where to look for it.
    find_timeout_s
        How long to look for it, in real seconds.
    answer_timeout_s
        How long it may take to answer each request, in real seconds.
    """

    def __init__(
        self,
        address_or_name: str,
        link: BleLink,
        clock: LabClock,
        radio: BleRadio,
        *,
        find_timeout_s: float = 15.0,
        answer_timeout_s: float = 10.0,
    ) -> None:
        self._target = address_or_name
        self._link = link
        self._clock = clock
        self._radio = radio
        self._find_timeout_s = find_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._client: BleakClient | None = None
        self._offered: dict[str, BleakGATTCharacteristic] = {}
        self._arrived: asyncio.Queue[Frame | None] = asyncio.Queue()
        self.last_arrival_s = time.monotonic()
        """When the device was heard last, or this transport made: `time.monotonic()`."""

    async def __aenter__(self) -> Self:
        device = await self._radio.find(self._target, timeout_s=self._find_timeout_s)
        try:
            await self._connect(device)
        except _ServicesError:
            if not await self._radio.forget(device):
                raise
            device = await self._radio.find(self._target, timeout_s=self._find_timeout_s)
            await self._connect(device)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._disconnect()
        self._arrived.put_nowait(None)

    async def frames(self) -> AsyncIterator[Frame]:
        """Yield the frames in order of arrival; raises `TransportError` when none will follow."""
        while (frame := await self._arrived.get()) is not None:
            yield frame
        self._arrived.put_nowait(None)
        raise LinkError(f"BLE device {self._target} with {self._radio.spec}: connection lost")

    async def revive(self) -> bool:
        """Subscribe and start anew over the connection there is; returns whether the device took it."""
        client = self._client
        if client is None or not client.is_connected:
            return False
        try:
            await self._subscribe(client, anew=True)
            await self._start(client)
        except TransportError as error:
            _logger.info("%s: cannot be revived: %s", self._target, error)
            return False
        return True

    async def _connect(self, device: BLEDevice) -> None:
        services = [service.uuid for service in self._link.services]
        with self._reporting("connecting"):
            self._client = await self._radio.connect(device, services, self._on_lost)
        try:
            await self._set_up(self._client)
        except BaseException:
            await self._disconnect()
            raise

    async def _set_up(self, client: BleakClient) -> None:
        """Subscribe, read and start, as the link says."""
        with self._reporting("listing its services"):
            self._offered = self._find_characteristics(client.services)
        await self._subscribe(client)
        for uuid in (uuid for uuid in self._link.reads if uuid in self._offered):
            async with self._asking(f"reading {uuid}"):
                await self._read(client, self._offered[uuid])
        await self._start(client)

    async def _subscribe(self, client: BleakClient, *, anew: bool = False) -> None:
        for uuid, characteristic in self._offered.items():
            if {"notify", "indicate"} & set(characteristic.properties):
                async with self._asking(f"subscribing to {uuid}"):
                    if anew:
                        with suppress(*LINK_ERRORS):  # it may have ended already, which is what is to be mended
                            await client.stop_notify(characteristic)
                    await client.start_notify(characteristic, self._on_value, **_NOTIFY_OPTIONS)

    async def _start(self, client: BleakClient) -> None:
        for write in self._link.startup:
            async with self._asking(f"writing {write.data.hex()} to {write.characteristic}"):
                characteristic = self._offered[write.characteristic]
                await client.write_gatt_char(characteristic, write.data, response=True)

    def _find_characteristics(self, services: BleakGATTServiceCollection) -> dict[str, BleakGATTCharacteristic]:
        """Return those of the link's characteristics that the device has; raises _ServicesError if too few."""
        must_have = _must_have(self._link)
        offered: dict[str, BleakGATTCharacteristic] = {}
        for wanted in self._link.services:
            service = services.get_service(wanted.uuid)
            for uuid in (characteristic.uuid for characteristic in wanted.characteristics):
                if found := service and service.get_characteristic(uuid):
                    offered[uuid] = found
                elif uuid in must_have:
                    what = f"service {wanted.uuid} with characteristic {uuid}"
                    raise _ServicesError(
                        f"BLE device {self._target} has no {what}, expected by its kind", Trouble.PERMANENT
                    )
        self._check_mtu(offered)
        return offered

    def _check_mtu(self, offered: dict[str, BleakGATTCharacteristic]) -> None:
        """Tell of a connection that carries less than the device can send at once."""
        mtu = min((c.max_write_without_response_size + 3 for c in offered.values()), default=self._link.mtu)
        if mtu < self._link.mtu:
            _logger.info("%s: ATT MTU %d, expected %d: long values may fail", self._target, mtu, self._link.mtu)

    async def _read(self, client: BleakClient, characteristic: BleakGATTCharacteristic) -> None:
        """Take in a value as if it had been notified; a device may refuse to tell it."""
        try:
            value = await client.read_gatt_char(characteristic)
        except BleakGATTProtocolError as error:
            _logger.info("%s does not tell %s: %s", self._target, characteristic.uuid, error)
        else:
            self._on_value(characteristic, value)
            if characteristic.uuid == _FIRMWARE_REVISION:
                self._check_firmware(client.address, bytes(value))

    def _check_firmware(self, address: str, revision: bytes) -> None:
        before = self._radio.firmware.get(address, revision)
        self._radio.firmware[address] = revision
        if revision != before:
            change = f"from {before!r} to {revision!r}"
            raise _ServicesError(
                f"BLE device {self._target}: firmware changed {change}; its services may have too"
            )

    @asynccontextmanager
    async def _asking(self, what: str) -> AsyncIterator[None]:
        with self._reporting(what):
            async with asyncio.timeout(self._answer_timeout_s):
                yield

    @contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        """Turn whatever a radio may raise into a `TransportError` that says what was tried."""
        try:
            yield
        except TransportError:
            raise
        except LINK_ERRORS as error:
            reason = str(error) or "no answer in time"
            message = f"BLE device {self._target} with {self._radio.spec}: {what}: {reason}"
            raise LinkError(message, trouble_of(error)) from error

    def _on_value(self, characteristic: BleakGATTCharacteristic, data: bytearray) -> None:
        arrival_ns, arrival_monotonic_ns = self._clock.now_ns(), self._clock.monotonic_ns()
        self.last_arrival_s = time.monotonic()
        self._arrived.put_nowait(Frame(characteristic.uuid, bytes(data), arrival_ns, arrival_monotonic_ns))

    def _on_lost(self, client: BleakClient) -> None:
        if client is self._client:  # and not lost while still connecting, which is tried again
            self._arrived.put_nowait(None)

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await client.disconnect()
        except LINK_ERRORS as error:
            _logger.debug("%s: disconnecting: %r", self._target, error)


def _must_have(link: BleLink) -> set[str]:
    """Return the characteristics without which a device is not of its kind: all but information."""
    listed = {characteristic.uuid for service in link.services for characteristic in service.characteristics}
    return listed - set(link.reads) | {write.characteristic for write in link.startup}
