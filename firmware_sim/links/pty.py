"""A simulated serial device behind a pseudo-terminal: the gateway opens a path as if it were `/dev/ttyUSB0`.

The device is connected from `SETTLE_S` after somebody opened the path until the last one closed it; the kernel
tells both. A pseudo-terminal has no line: it carries neither parity nor 7-bit characters nor modem lines (use
RFC 2217 where they matter), and its speed is without effect: a frame arrives at once. A reader that does not
keep up holds the device back; nothing is lost. Linux and other Unix systems only.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from firmware_sim.device import DeviceVanishedError, SimulatedDevice
from firmware_sim.links.port import LAST_BYTES_S, SETTLE_S, serve_opening
from firmware_sim.pacing import Pacing
from protocols.errors import TransportError
from protocols.lab_clock import LabClock

_POLL_S = 0.01


@asynccontextmanager
async def serve_pty(
    device: SimulatedDevice,
    clock: LabClock,
    *,
    start: asyncio.Event | None = None,
    pacing: Pacing | None = None,
) -> AsyncIterator[str]:
    """Serve the device and yield the path to open.

    When the device vanishes the pseudo-terminal is closed for good, as an adapter that is pulled out.

    Parameters
    ----------
    start, pacing
        As for `drive`.

    Raises
    ------
    TransportError
        Where there are no pseudo-terminals.
    """
    port = _Pty()
    serving = asyncio.create_task(_serve(port, device, clock, start, pacing), name=f"pty {device.name}")
    try:
        yield port.path
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
        port.close()


async def _serve(
    port: _Pty,
    device: SimulatedDevice,
    clock: LabClock,
    start: asyncio.Event | None,
    pacing: Pacing | None,
) -> None:
    try:
        while True:
            await port.opened()
            try:
                await serve_opening(device, clock, port.receive, port.send, start=start, pacing=pacing)
            finally:
                port.ignore()
    except DeviceVanishedError:
        await asyncio.sleep(LAST_BYTES_S)
        port.close()


class _Pty:
    """The master end of a pseudo-terminal in raw mode, without anybody at the other end."""

    def __init__(self) -> None:
        try:
            import tty

            self._master, slave = os.openpty()
        except (ImportError, AttributeError, OSError) as error:
            raise TransportError(f"no pseudo-terminal ({error}), expected one; RFC 2217 needs none") from error
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        os.close(slave)  # from now on the kernel reports a hang-up while nobody has the path open
        os.set_blocking(self._master, False)
        self._hang_up = select.poll()
        self._hang_up.register(self._master, 0)
        self._received: asyncio.Queue[bytes] = asyncio.Queue()

    async def opened(self) -> None:
        """Return when somebody has the path open and has had time to set it up."""
        while True:
            while self._is_hung_up():
                await asyncio.sleep(_POLL_S)
            await asyncio.sleep(SETTLE_S)
            if not self._is_hung_up():
                break
        self._received = asyncio.Queue()
        asyncio.get_running_loop().add_reader(self._master, self._on_readable)

    async def receive(self) -> bytes:
        """Return what was written to the path; `b""` when it was closed."""
        return await self._received.get()

    async def send(self, data: bytes) -> None:
        """Return when the pseudo-terminal took the bytes."""
        while data:
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                await self._writable()

    def ignore(self) -> None:
        """Stop receiving."""
        if self._master >= 0:
            asyncio.get_running_loop().remove_reader(self._master)

    def close(self) -> None:
        """Close the pseudo-terminal: who has it open gets an error."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def _is_hung_up(self) -> bool:
        return any(event & select.POLLHUP for _, event in self._hang_up.poll(0))

    def _on_readable(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except BlockingIOError:
            return
        except OSError:  # Linux: EIO when the last one closed the path
            data = b""
        if not data:
            self.ignore()
        self._received.put_nowait(data)

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        writable = asyncio.Event()
        loop.add_writer(self._master, writable.set)
        try:
            await writable.wait()
        finally:
            loop.remove_writer(self._master)
