"""One opening of a serial port by a reader: the device sends, and hears what is written to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from firmware_sim.device import AttError, SimulatedDevice
from firmware_sim.pacing import Pacing, drive
from protocols.devices.kind import SERIAL_SOURCE
from protocols.lab_clock import LabClock

SETTLE_S = 0.2
"""Real time between a reader's last act of opening a port and the first byte.

Readers flush what arrived while they were still configuring the port; nothing may be sent before that.
"""

LAST_BYTES_S = 0.1
"""Real time for a reader to take what a vanished device sent last, before the port goes too."""


async def serve_opening(
    device: SimulatedDevice,
    clock: LabClock,
    receive: Callable[[], Awaitable[bytes]],
    send: Callable[[bytes], Awaitable[None]],
    *,
    start: asyncio.Event | None,
    pacing: Pacing | None,
) -> None:
    """Serve the device until the reader closes the port, or the device vanishes.

    Parameters
    ----------
    receive
        Returns what the reader wrote, `b""` once it has closed the port.
    send
        Returns when the port took the bytes; they leave whole and in order.
    start, pacing
        As for `drive`.

    Raises
    ------
    DeviceVanishedError
        When the device is gone.
    """
    turn = asyncio.Lock()

    async def send_whole(_source: str, data: bytes) -> None:
        async with turn:
            await send(data)

    async def listen() -> None:
        while data := await receive():
            with suppress(AttError):  # a port has nobody to tell that bytes were not understood
                answer = device.write(SERIAL_SOURCE, data)
                if answer:
                    await send_whole(SERIAL_SOURCE, answer)

    device.connect()
    listening = asyncio.create_task(listen())
    driving = asyncio.create_task(drive(device, clock, send_whole, start=start, pacing=pacing))
    try:
        await asyncio.wait((listening, driving), return_when=asyncio.FIRST_COMPLETED)
        if driving.done():
            driving.result()  # raises what ended it; a device that has finished stays connected
        await listening
    finally:
        listening.cancel()
        driving.cancel()
        await asyncio.gather(listening, driving, return_exceptions=True)
        device.disconnect()
