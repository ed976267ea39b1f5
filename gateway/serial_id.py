"""Which serial port a name stands for at this moment.

A USB adapter that is pulled out and put in again may come back as another `/dev/ttyUSB…` or `COM…`. Names that
stay are `/dev/serial/by-id/…`, which the system keeps as a link, and here, on every platform,
`usb:VID:PID` or `usb:VID:PID:SERIAL` with vendor and product in hexadecimal: `usb:0403:6001:A50285BI`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from serial.tools import list_ports

from gateway.transport import LinkError, Trouble

USB_PREFIX: Final = "usb:"


def find_port(name: str) -> str:
    """Return the pyserial URL that `name` stands for now.

    Raises
    ------
    LinkError
        If no port has this USB id, several have, or it is none.
    """
    if not name.lower().startswith(USB_PREFIX):
        return name
    vendor, product, serial_number = _parse(name)
    ports = [
        port
        for port in list_ports.comports()
        if (port.vid, port.pid) == (vendor, product) and serial_number in ("", port.serial_number)
    ]
    if not ports:
        raise LinkError(f"serial port {name}: expected a USB adapter of this id, found none", Trouble.NOT_FOUND)
    if len(ports) > 1:
        found = ", ".join(
            sorted(f"{port.device} ({port.serial_number or 'no serial number'})" for port in ports)
        )
        raise LinkError(
            f"serial port {name}: {len(ports)} adapters have this id: {found}; expected a serial number with "
            "it, or /dev/serial/by-path/…",
            Trouble.PERMANENT,
        )
    return str(ports[0].device)


def holder_of(path: str) -> str:
    """Return which other process has a port open, as ` (program, process 123)`; empty if unknown."""
    try:
        target = os.stat(path).st_rdev
    except OSError:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        if process.name != str(os.getpid()) and _has_open(process, target):
            program = (process / "comm").read_text(errors="replace").strip()
            return f" ({program}, process {process.name})"
    return ""


def _parse(name: str) -> tuple[int, int, str]:
    vendor, _, rest = name[len(USB_PREFIX) :].partition(":")
    product, _, serial_number = rest.partition(":")
    try:
        return int(vendor, 16), int(product, 16), serial_number
    except ValueError as error:
        raise LinkError(
            f"serial port {name}: expected usb:VID:PID or usb:VID:PID:SERIAL, ids in hexadecimal",
            Trouble.PERMANENT,
        ) from error


def _has_open(process: Path, device_number: int) -> bool:
    try:
        return any(_device_number(opened) == device_number for opened in (process / "fd").iterdir())
    except OSError:  # it has ended, or is somebody else's
        return False


def _device_number(path: Path) -> int:
    try:
        return path.stat().st_rdev
    except OSError:
        return 0
