"""The connection to one Bluetooth Low Energy device.

On every connection, `BleTransport` subscribes to every notifying characteristic of its `BleLink`, reads what is
to be read, sends the start-up commands, and hands on each value as a `Frame` stamped in the radio's callback.
What is read (battery level, device information) is used as far as a device has it, for few have it all; all
else a device must have.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Final, Self

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.service import BleakGATTServiceCollection
from bleak.exc import BleakGATTProtocolError

from gateway.ble_radio import LINK_ERRORS, PLATFORM_RADIO, Advertisement, BleRadio, open_radio, scan
from gateway.transport import Frame
from protocols.devices.kind import BleLink
from protocols.errors import TransportError
from protocols.lab_clock import LabClock

__all__ = ["PLATFORM_RADIO", "Advertisement", "BleRadio", "BleTransport", "open_radio", "scan"]

_CLOSE_TIMEOUT_S: Final = 5.0
_logger = logging.getLogger(__name__)


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
        self._arrived: asyncio.Queue[Frame | None] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        device = await self._radio.find(self._target, timeout_s=self._find_timeout_s)
        services = [service.uuid for service in self._link.services]
        with self._reporting("connecting"):
            self._client = await self._radio.connect(device, services, self._on_lost)
        try:
            await self._set_up(self._client)
        except BaseException:
            await self._disconnect()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._disconnect()

    async def frames(self) -> AsyncIterator[Frame]:
        """Yield the frames in order of arrival; raises `TransportError` when none will follow."""
        while (frame := await self._arrived.get()) is not None:
            yield frame
        self._arrived.put_nowait(None)
        raise TransportError(f"BLE device {self._target} with {self._radio.spec}: connection lost")

    async def _set_up(self, client: BleakClient) -> None:
        """Subscribe, read and start, as the link says."""
        with self._reporting("listing its services"):
            offered = self._offered(client.services)
        for uuid, characteristic in offered.items():
            if {"notify", "indicate"} & set(characteristic.properties):
                async with self._asking(f"subscribing to {uuid}"):
                    await client.start_notify(characteristic, self._on_value)
        for uuid in (uuid for uuid in self._link.reads if uuid in offered):
            async with self._asking(f"reading {uuid}"):
                await self._read(client, offered[uuid])
        for write in self._link.startup:
            async with self._asking(f"writing {write.data.hex()} to {write.characteristic}"):
                await client.write_gatt_char(offered[write.characteristic], write.data, response=True)

    def _offered(self, services: BleakGATTServiceCollection) -> dict[str, BleakGATTCharacteristic]:
        """Return those of the link's characteristics that the device has; raises TransportError if too few."""
        must_have = _must_have(self._link)
        offered: dict[str, BleakGATTCharacteristic] = {}
        for wanted in self._link.services:
            service = services.get_service(wanted.uuid)
            for uuid in (characteristic.uuid for characteristic in wanted.characteristics):
                if found := service and service.get_characteristic(uuid):
                    offered[uuid] = found
                elif uuid in must_have:
                    what = f"service {wanted.uuid} with characteristic {uuid}"
                    raise TransportError(f"BLE device {self._target} has no {what}, expected by its kind")
        return offered

    async def _read(self, client: BleakClient, characteristic: BleakGATTCharacteristic) -> None:
        """Take in a value as if it had been notified; a device may refuse to tell it."""
        try:
            value = await client.read_gatt_char(characteristic)
        except BleakGATTProtocolError as error:
            _logger.info("%s does not tell %s: %s", self._target, characteristic.uuid, error)
        else:
            self._on_value(characteristic, value)

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
            raise TransportError(
                f"BLE device {self._target} with {self._radio.spec}: {what}: {reason}"
            ) from error

    def _on_value(self, characteristic: BleakGATTCharacteristic, data: bytearray) -> None:
        arrival_ns, arrival_monotonic_ns = self._clock.now_ns(), self._clock.monotonic_ns()
        self._arrived.put_nowait(Frame(characteristic.uuid, bytes(data), arrival_ns, arrival_monotonic_ns))

    def _on_lost(self, client: BleakClient) -> None:
        if client is self._client:  # and not lost while still connecting, which is tried again
            self._arrived.put_nowait(None)

    async def _disconnect(self) -> None:
        if self._client is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._client.disconnect()
        except LINK_ERRORS as error:
            _logger.debug("%s: disconnecting: %r", self._target, error)


def _must_have(link: BleLink) -> set[str]:
    """Return the characteristics without which a device is not of its kind: all but information."""
    listed = {characteristic.uuid for service in link.services for characteristic in service.characteristics}
    return listed - set(link.reads) | {write.characteristic for write in link.startup}
