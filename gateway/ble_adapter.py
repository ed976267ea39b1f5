"""The Bluetooth adapters that a radio can use, and how a configuration names them.

============================  ======================================================================
spec                          adapter
============================  ======================================================================
`bluez`, or nothing           the operating system's own, also on macOS and Windows
`bluez:hci1`                  on Linux, one of several by its name, which may change with the next boot
`bluez:00:1A:7D:DA:71:13`     on Linux, one of several by its address
`tcp-client:127.0.0.1:9000`   a controller that speaks HCI over TCP: the simulator's virtual radio
`usb:0`, `serial:/dev/…`      a dongle or development kit of our own, or any other HCI transport of Bumble
============================  ======================================================================
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, Protocol

from bleak.backends.device import BLEDevice

from gateway.ble_errors import LINK_ERRORS, AdapterError
from gateway.transport import Trouble

PLATFORM_RADIO: Final = "bluez"
"""The adapter spec for the operating system's own Bluetooth stack."""

_BLUEZ_NAME: Final = re.compile(r"hci\d+")


class Adapter(Protocol):
    """What a radio needs from the software below it."""

    @property
    def scanner_options(self) -> Mapping[str, Any]:
        """What binds `BleakScanner` to this adapter."""

    @property
    def client_options(self) -> Mapping[str, Any]:
        """What binds `BleakClient` to this adapter."""

    @property
    def lost(self) -> asyncio.Future[None] | None:
        """Done once the adapter is gone; None where that shows only in failures."""

    async def release(self, address_or_name: str) -> None:
        """End what dead processes left of links to a device, which does not advertise while it is connected."""

    async def forget(self, device: BLEDevice) -> bool:
        """Drop what is remembered of the device, its services too; returns whether anything was."""

    async def power_cycle(self) -> bool:
        """Switch off and on; returns whether it could. All links are lost."""

    async def close(self) -> None:
        """Let go of the adapter."""


async def canonical(adapter_spec: str) -> str:
    """Return the spec that stands for the same adapter however it was named; `bluez:hci0` for `bluez`.

    Raises
    ------
    AdapterError
        If it is BlueZ's and not there now, or the name of one of BlueZ's alone.
    """
    kind, _, wanted = (adapter_spec or PLATFORM_RADIO).partition(":")
    if _BLUEZ_NAME.fullmatch(kind):
        raise AdapterError(f"BLE adapter {kind}: expected {PLATFORM_RADIO}:{kind}", Trouble.PERMANENT)
    if kind != PLATFORM_RADIO:
        return adapter_spec
    if sys.platform != "linux":
        return PLATFORM_RADIO
    from gateway.bluez import find_adapter

    return f"{PLATFORM_RADIO}:{await find_adapter(wanted)}"


async def open_adapter(spec: str) -> Adapter:
    """Return the adapter with a canonical spec.

    Raises
    ------
    AdapterError
        If there is none such.
    """
    kind, _, name = spec.partition(":")
    if kind == PLATFORM_RADIO:
        if not name:
            return _PlatformAdapter()
        from gateway.bluez import BluezAdapter  # D-Bus is Linux's

        return BluezAdapter(name)
    try:
        from gateway.bumble_backend import BumbleAdapter  # the platform's radio works without Bumble
    except ImportError as error:
        raise AdapterError(
            f"BLE adapter {spec}: {error}; expected the package bumble to be installed", Trouble.PERMANENT
        ) from error
    try:
        return await BumbleAdapter.open(spec)
    except LINK_ERRORS as error:
        raise AdapterError(f"BLE adapter {spec}: {error}", Trouble.NOT_FOUND) from error


class _PlatformAdapter:
    """The one adapter that macOS and Windows have, as far as bleak lets it be used."""

    scanner_options: Final[Mapping[str, Any]] = {}
    client_options: Final[Mapping[str, Any]] = {}
    lost: Final = None

    async def release(self, address_or_name: str) -> None: ...

    async def forget(self, device: BLEDevice) -> bool:
        del device
        return False

    async def power_cycle(self) -> bool:
        return False

    async def close(self) -> None: ...
