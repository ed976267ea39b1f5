"""What Linux's Bluetooth service is asked for beyond what bleak asks: adapters, their power, and left-overs.

Each question opens the system bus anew: questions are rare, and bluetoothd may be restarted at any time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from bleak.backends.device import BLEDevice
from dbus_fast import BusType, DBusError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError
from dbus_fast.unpack import unpack_variants

from gateway.ble_errors import AdapterError
from gateway.transport import Trouble

BUS_ERRORS: Final = (DBusError, AuthError, OSError, EOFError, TimeoutError)

_ADAPTER: Final = "org.bluez.Adapter1"
_DEVICE: Final = "org.bluez.Device1"
_CALL_TIMEOUT_S: Final = 10.0
_POWER_OFF_S: Final = 0.5
"""How long an adapter stays off, so that its firmware starts anew."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BluezAdapter:
    """One adapter of BlueZ; fits `gateway.ble_adapter.Adapter`.

    Parameters
    ----------
    name
        Such as `hci0`.
    """

    name: str
    lost: asyncio.Future[None] | None = None
    client_options: dict[str, Any] = field(default_factory=dict)

    @property
    def scanner_options(self) -> dict[str, Any]:
        """For `BleakScanner`: what it finds carries the adapter in its path, and is connected by it."""
        return {"bluez": {"adapter": self.name}}

    async def release(self, address_or_name: str) -> None:
        """End what any adapter has of the device: a link left behind by a dead process, or an attempt."""
        with suppress(*BUS_ERRORS):
            async with _system_bus() as bus:
                for path in await _paths_of(bus, address_or_name):
                    with suppress(DBusError):  # not connected
                        await _call(bus, path, _DEVICE, "Disconnect")

    async def forget(self, device: BLEDevice) -> bool:
        """Remove what BlueZ knows of the device, unless it is paired; return whether it did."""
        removed = False
        with suppress(*BUS_ERRORS):
            async with _system_bus() as bus:
                for path, known in (await _paths_of(bus, device.address)).items():
                    if not known.get("Paired"):
                        adapter = path.rpartition("/")[0]
                        await _call(bus, adapter, _ADAPTER, "RemoveDevice", "o", path)
                        removed = True
        return removed

    async def power_cycle(self) -> bool:
        """Switch off and on; return whether it is on again."""
        path = f"/org/bluez/{self.name}"
        try:
            async with _system_bus() as bus:
                await _set_powered(bus, path, on=False)
                await asyncio.sleep(_POWER_OFF_S)
                await _set_powered(bus, path, on=True)
        except BUS_ERRORS as error:
            _logger.warning("BLE adapter %s: switching it off and on: %s", self.name, error)
            return False
        return True

    async def close(self) -> None:
        """Leave it to others."""


async def find_adapter(wanted: str) -> str:
    """Return the name, such as `hci0`, of an adapter that is switched on.

    Parameters
    ----------
    wanted
        Its name, or its address (which it keeps when names change); empty for the first there is.

    Raises
    ------
    AdapterError
        If there is none such, or no BlueZ.
    """
    spec = f"bluez:{wanted}" if wanted else "bluez"
    try:
        async with _system_bus() as bus:
            objects = await _objects(bus)
    except BUS_ERRORS as error:
        raise AdapterError(f"BLE adapter {spec}: no BlueZ: {error}", Trouble.NOT_FOUND) from error
    adapters = {
        path.rpartition("/")[2]: interfaces[_ADAPTER]
        for path, interfaces in sorted(objects.items())
        if _ADAPTER in interfaces
    }
    for name, adapter in adapters.items():
        named = wanted.lower() in ("", name, str(adapter.get("Address", "")).lower())
        if named and adapter.get("Powered"):
            return name
    states = [
        f"{name} ({a.get('Address')}, {'on' if a.get('Powered') else 'off'})" for name, a in adapters.items()
    ]
    there = ", ".join(states) or "no adapter at all"
    raise AdapterError(f"BLE adapter {spec}: expected it to be there and on, found {there}", Trouble.NOT_FOUND)


@asynccontextmanager
async def _system_bus() -> AsyncIterator[MessageBus]:
    bus = MessageBus(bus_type=BusType.SYSTEM)
    try:
        async with asyncio.timeout(_CALL_TIMEOUT_S):
            await bus.connect()
        yield bus
    finally:
        bus.disconnect()


async def _call(
    bus: MessageBus, path: str, interface: str, member: str, signature: str = "", *body: Any
) -> Message:
    """Return the answer; raises DBusError if it is an error, TimeoutError if none comes."""
    message = Message("org.bluez", path, interface, member, signature=signature, body=list(body))
    async with asyncio.timeout(_CALL_TIMEOUT_S):
        reply = await bus.call(message)
    if reply is None or reply.message_type is MessageType.ERROR:
        name, said = (reply.error_name, reply.body) if reply else ("", [])
        raise DBusError(name or "org.bluez.Error.Failed", " ".join(map(str, said)) or f"{member} failed")
    return reply


async def _objects(bus: MessageBus) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    reply = await _call(bus, "/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
    return {path: unpack_variants(interfaces) for path, interfaces in reply.body[0].items()}


async def _paths_of(bus: MessageBus, address_or_name: str) -> dict[str, Mapping[str, Any]]:
    """Return the properties of the device by its path, one path for each adapter that knows it."""
    return {
        path: known
        for path, interfaces in (await _objects(bus)).items()
        if (known := interfaces.get(_DEVICE))
        and (address_or_name == known.get("Name") or address_or_name.lower() == known["Address"].lower())
    }


async def _set_powered(bus: MessageBus, path: str, *, on: bool) -> None:
    arguments = (_ADAPTER, "Powered", Variant("b", on))
    await _call(bus, path, "org.freedesktop.DBus.Properties", "Set", "ssv", *arguments)
