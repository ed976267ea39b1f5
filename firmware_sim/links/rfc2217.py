"""A simulated serial device behind RFC 2217: works on every system and carries the port's settings.

Unlike a pseudo-terminal it sees the speed, character size, parity and stop bits that the reader chose. With
other settings than the device's own the reader gets garbage, as from a real line, or is refused when opening.

The device is connected from `SETTLE_S` after the client's last command of opening until it hangs up. One client
at a time; a further one is turned away.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from serial import rfc2217

from firmware_sim.device import DeviceVanishedError, SimulatedDevice
from firmware_sim.links.port import LAST_BYTES_S, SETTLE_S, serve_opening
from firmware_sim.pacing import Pacing
from protocols.devices.kind import SerialLink
from protocols.errors import DefinitionError, TransportError
from protocols.lab_clock import LabClock


@asynccontextmanager
async def serve_rfc2217(
    device: SimulatedDevice,
    clock: LabClock,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    refuse_wrong_settings: bool = False,
    start: asyncio.Event | None = None,
    pacing: Pacing | None = None,
) -> AsyncIterator[str]:
    """Serve the device and yield the URL to open, `rfc2217://HOST:PORT`.

    When the device vanishes the client is cut off and no further one is accepted.

    Parameters
    ----------
    port
        0 for any free one.
    refuse_wrong_settings
        Whether a client that wants other settings is refused, instead of reading garbage.
    start, pacing
        As for `drive`.

    Raises
    ------
    DefinitionError
        If the device is not a serial one.
    TransportError
        If the port cannot be listened on.
    """
    link = device.kind.link
    if not isinstance(link, SerialLink):
        raise DefinitionError(f"{device.kind.name} is no serial device, expected one for RFC 2217")
    listener = _Listener(device, link, clock, refuse_wrong_settings, start, pacing)
    try:
        server = await asyncio.start_server(listener.accept, host, port)
    except OSError as error:
        raise TransportError(f"rfc2217://{host}:{port} cannot be listened on: {error}") from error
    listener.server = server
    try:
        yield f"rfc2217://{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await listener.stop()


class _Listener:
    """Accepts one client at a time and serves the device to it."""

    def __init__(
        self,
        device: SimulatedDevice,
        link: SerialLink,
        clock: LabClock,
        refuse: bool,
        start: asyncio.Event | None,
        pacing: Pacing | None,
    ) -> None:
        self.server: asyncio.Server | None = None
        self._device, self._link, self._clock, self._refuse = device, link, clock, refuse
        self._start, self._pacing = start, pacing
        self._serving: asyncio.Task[None] | None = None

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client until it hangs up."""
        if self._serving is not None:
            writer.close()
            return
        self._serving = asyncio.current_task()
        client = _Client(reader, writer, self._link, refuse=self._refuse)
        try:
            await client.opened()
            await serve_opening(
                self._device, self._clock, client.receive, client.send, start=self._start, pacing=self._pacing
            )
        except DeviceVanishedError:
            await asyncio.sleep(LAST_BYTES_S)
            if self.server is not None:
                self.server.close()
        except (ConnectionError, _HungUp):
            pass
        except asyncio.CancelledError:
            pass  # by `stop`, which waits for this task
        finally:
            self._serving = None
            client.close()

    async def stop(self) -> None:
        """Hang up."""
        if self._serving is not None:
            serving = self._serving
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving


class _HungUp(Exception):  # noqa: N818 - no error: the client went away while opening
    pass


class _Client:
    """A connected client: Telnet options and settings are dealt with here, data passes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: SerialLink, *, refuse: bool
    ) -> None:
        self._reader, self._writer = reader, writer
        self._uart = _Uart(link, refuse=refuse)
        self._noise = random.Random(0)  # noqa: S311 - garbage on a line, no secret
        self._is_being_set_up = False
        self._received = b""
        self._manager = _PortManager(self._uart, writer, self._on_command)

    async def opened(self) -> None:
        """Return when the client has set up the port; data written meanwhile is kept."""
        while True:
            try:
                async with asyncio.timeout(SETTLE_S if self._is_being_set_up else None):
                    self._received += await self._read()
            except TimeoutError:
                return

    async def receive(self) -> bytes:
        """Return what the client wrote; `b""` when it hung up."""
        received, self._received = self._received, b""
        try:
            while not received:
                received = await self._read()
        except (_HungUp, ConnectionError):
            return b""
        return received

    async def send(self, data: bytes) -> None:
        """Return when the connection took the bytes."""
        if not self._uart.is_right:
            data = self._noise.randbytes(len(data))
        self._writer.write(data.replace(rfc2217.IAC, rfc2217.IAC_DOUBLED))
        with suppress(ConnectionError):  # `receive` notices
            await self._writer.drain()

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def _read(self) -> bytes:
        """Return data of the client, `b""` if it sent commands alone."""
        raw = await self._reader.read(4096)
        if not raw:
            raise _HungUp
        try:
            return b"".join(self._manager.filter(raw))
        except Exception as error:
            raise _HungUp from error  # malformed commands lead the library to errors of many kinds

    def _on_command(self) -> None:
        self._is_being_set_up = True


class _Uart:
    """What `PortManager` takes for the port; it refuses wrong settings by ValueError, or remembers them."""

    rtscts = xonxoff = dsrdtr = ri = break_condition = False
    rts = dtr = cts = dsr = cd = True

    def __init__(self, link: SerialLink, *, refuse: bool) -> None:
        self._right = {
            "baudrate": link.baudrate,
            "bytesize": link.bytesize,
            "parity": link.parity,
            "stopbits": link.stopbits,
        }
        self._refuse = refuse
        for name, value in self._right.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in getattr(self, "_right", {}) and self._refuse and value != self._right[name]:
            raise ValueError(f"{name}={value!r}, expected {self._right[name]!r}")
        object.__setattr__(self, name, value)

    @property
    def is_right(self) -> bool:
        """Whether the settings are the device's own."""
        return all(getattr(self, name) == value for name, value in self._right.items())

    def reset_input_buffer(self) -> None:
        """Have nothing buffered."""

    def reset_output_buffer(self) -> None:
        """Have nothing buffered."""


class _PortManager(rfc2217.PortManager):
    """Tells of every command, and acknowledges the two masks that the library leaves unanswered."""

    def __init__(self, uart: _Uart, writer: asyncio.StreamWriter, on_command: Any) -> None:
        self._on_command = on_command
        super().__init__(uart, writer)  # type: ignore[arg-type]

    def _telnet_process_subnegotiation(self, suboption: bytes) -> None:
        super()._telnet_process_subnegotiation(suboption)  # type: ignore[misc]
        self._on_command()
        command = suboption[1:2]
        if command in (rfc2217.SET_LINESTATE_MASK, rfc2217.SET_MODEMSTATE_MASK):
            self.rfc2217_send_subnegotiation(bytes([command[0] + 100]), suboption[2:3])
