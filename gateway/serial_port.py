"""Serial ports by pyserial URL (`/dev/...`, `COM3`, `socket://host:port`, `rfc2217://host:port`) or USB id.

A thread per port opens it, reads, stamps what each read returned, and closes it, so that no two threads ever
touch a port. Frames wait in a bounded buffer; the event loop is woken once for all that wait, not once for
each. When the buffer is full the thread stops reading: the bytes then wait in the operating system, and no byte
is dropped here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import select
import socket
import threading
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

import serial

from gateway.serial_id import find_port, holder_of
from gateway.transport import Frame, LinkError, Trouble
from protocols.devices.kind import SERIAL_SOURCE, SerialLink
from protocols.lab_clock import LabClock

MAX_BUFFERED_BYTES: Final = 1 << 20
MAX_READ_BYTES: Final = 1 << 16
CLOSE_TIMEOUT_S: Final = 3.0

_BLIND_WAIT_S: Final = 0.05
_WRITE_TIMEOUT_S: Final = 2.0
_REVIVE_TIMEOUT_S: Final = 5.0
_TROUBLES: Final[dict[int | None, Trouble]] = {
    errno.ENOENT: Trouble.NOT_FOUND,
    errno.ENXIO: Trouble.NOT_FOUND,
    errno.ENODEV: Trouble.NOT_FOUND,
    errno.ECONNREFUSED: Trouble.NOT_FOUND,
    errno.EHOSTUNREACH: Trouble.NOT_FOUND,
    errno.EAGAIN: Trouble.BUSY,
    errno.EBUSY: Trouble.BUSY,
    errno.EACCES: Trouble.PERMANENT,
    errno.EPERM: Trouble.PERMANENT,
}


class SerialTransport:
    """One opened serial port.

    Parameters
    ----------
    url
        As pyserial understands it, or a USB id, see `gateway.serial_id`. Looked up when the port is opened: an
        adapter that comes back under another name is found again.
    link
        Settings of the port and what to send once it is open.
    clock
        Stamps what arrives.
    max_buffered_bytes
        How much may wait for the event loop before reading pauses.
    """

    def __init__(
        self, url: str, link: SerialLink, clock: LabClock, *, max_buffered_bytes: int = MAX_BUFFERED_BYTES
    ) -> None:
        self._url = url
        self._link = link
        self._clock = clock
        self._max_buffered_bytes = max_buffered_bytes
        self._changed = threading.Condition()
        self._frames: list[Frame] = []
        self._buffered_bytes = 0
        self._error: LinkError | None = None
        self._stopping = False
        self._wake: tuple[socket.socket, socket.socket] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._readable = asyncio.Event()
        self._opened: asyncio.Future[None] | None = None
        self._ended = asyncio.Event()
        self._revival: asyncio.Future[bool] | None = None

    async def __aenter__(self) -> Self:
        """Open the port; raises LinkError that names it and the reason."""
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._wake = socket.socketpair()
        name = f"serial {self._url}"
        threading.Thread(target=self._run, args=(self._wake[1],), name=name, daemon=True).start()
        try:
            await self._opened
        except BaseException:
            self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the port; a driver that hangs in closing is left behind after `CLOSE_TIMEOUT_S`."""
        self._stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._ended.wait()

    async def frames(self) -> AsyncIterator[Frame]:
        """Yield what was read, in order; raises LinkError once the port is lost and all is handed over."""
        while True:
            await self._readable.wait()
            self._readable.clear()
            frames, error = self._take()
            for frame in frames:
                yield frame
            if error is not None:
                raise error

    async def revive(self) -> bool:
        """Empty the port's input and send the start-up bytes anew; returns whether the port took them."""
        if self._loop is None or self._wake is None or self._stopping or self._error is not None:
            return False
        revival: asyncio.Future[bool] = self._loop.create_future()
        self._revival = revival
        with contextlib.suppress(OSError):
            self._wake[0].send(b"\0")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REVIVE_TIMEOUT_S):
                return await revival
        return False

    def _take(self) -> tuple[list[Frame], LinkError | None]:
        with self._changed:
            frames, self._frames = self._frames, []
            self._buffered_bytes = 0
            self._changed.notify_all()
            return frames, self._error

    def _stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._wake is not None:
            self._wake[0].close()

    def _run(self, woken: socket.socket) -> None:
        """Open, read and close the port: the whole life of its thread."""
        try:
            port = _open(self._url, self._link)
        except LinkError as error:
            self._call_loop(self._report_opened, error)
        else:
            self._call_loop(self._report_opened, None)
            try:
                self._read_all(port, woken)
            finally:
                _close(port)
        finally:
            woken.close()
            self._call_loop(self._ended.set)

    def _report_opened(self, error: LinkError | None) -> None:
        if self._opened is None or self._opened.done():
            return
        if error is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(error)

    def _read_all(self, port: serial.Serial, woken: socket.socket) -> None:
        try:
            descriptor = _descriptor(port)
            port.timeout = _BLIND_WAIT_S if descriptor is None else 0
            while not self._stopping:
                if self._revival is not None:
                    self._start_anew(port)
                data = _read(port, descriptor, woken)
                if data and not self._put(data):
                    return
        except Exception as error:  # noqa: BLE001 - drivers let out anything when a device goes away
            self._fail(LinkError(f"serial port {self._url} was lost: {error}"))

    def _start_anew(self, port: serial.Serial) -> None:
        """Do what `revive` asked for; a port that refuses is lost."""
        revival, self._revival = self._revival, None
        try:
            port.reset_input_buffer()
            port.write(self._link.startup)
        except Exception:
            self._call_loop(_answer, revival, False)
            raise
        self._call_loop(_answer, revival, True)

    def _put(self, data: bytes) -> bool:
        """Hand over stamped bytes, waiting while the buffer is full; False if that ended in a stop."""
        # UTC first: a pause between the two readings then only makes the frame look later, never earlier
        arrival_ns = self._clock.now_ns()
        frame = Frame(SERIAL_SOURCE, data, arrival_ns, self._clock.monotonic_ns())
        with self._changed:
            while self._buffered_bytes >= self._max_buffered_bytes and not self._stopping:
                self._changed.wait()
            if self._stopping:
                return False
            wake = not self._frames
            self._frames.append(frame)
            self._buffered_bytes += len(data)
        if wake:
            self._call_loop(self._readable.set)
        return True

    def _fail(self, error: LinkError) -> None:
        with self._changed:
            self._error = error
        self._call_loop(_answer, self._revival, False)
        self._call_loop(self._readable.set)

    def _call_loop(self, callback: object, *args: object) -> None:
        if self._loop is None or self._loop.is_closed():
            return
        try:
            self._loop.call_soon_threadsafe(callback, *args)  # type: ignore[arg-type]
        except RuntimeError:
            return  # the loop was closed in between; nobody waits any more


def _open(name: str, link: SerialLink) -> serial.Serial:
    settings = f"{link.baudrate} baud, {link.bytesize}{link.parity}{link.stopbits}"
    url = find_port(name)
    write_timeout_s = None if "://" in url else _WRITE_TIMEOUT_S  # pyserial's network ports know none
    try:
        port = serial.serial_for_url(
            url,
            baudrate=link.baudrate,
            bytesize=link.bytesize,
            parity=link.parity,
            stopbits=link.stopbits,
            exclusive=True,
            write_timeout=write_timeout_s,
        )
    except Exception as error:
        trouble = _trouble(error)
        tried = f"is in use{holder_of(url)}" if trouble is Trouble.BUSY else f"cannot be opened with {settings}"
        raise LinkError(f"serial port {name} {tried}: {error}", trouble) from error
    _shorten_latency(port)
    try:
        if link.startup:
            port.write(link.startup)
    except Exception as error:
        _close(port)
        raise LinkError(f"serial port {name} does not take the start-up command: {error}") from error
    return port


def _shorten_latency(port: serial.Serial) -> None:
    """Ask Linux to hand over bytes at once: USB adapters by FTDI otherwise keep them for up to 16 ms."""
    with contextlib.suppress(Exception):  # most ports know no such mode, and none needs it
        port.set_low_latency_mode(True)


def _trouble(error: BaseException) -> Trouble:
    """Return what kind of trouble a failed opening is; pyserial keeps the system's reason in various places."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ValueError):
            return Trouble.PERMANENT
        if known := _TROUBLES.get(getattr(cause, "errno", None)):
            return known
        cause = cause.__cause__ or cause.__context__
    said = str(error)
    if "PermissionError" in said:  # Windows: somebody else has it
        return Trouble.BUSY
    return Trouble.NOT_FOUND if "FileNotFoundError" in said else Trouble.TRANSIENT


def _read(port: serial.Serial, descriptor: int | None, woken: socket.socket) -> bytes:
    """Return what has arrived, waiting for it; nothing if woken."""
    if descriptor is None:
        first = port.read(1)
        return bytes(first + port.read(port.in_waiting)) if first else b""
    readable, _, _ = select.select([descriptor, woken.fileno()], [], [])
    if woken.fileno() in readable:
        woken.recv(64)
    return bytes(port.read(MAX_READ_BYTES)) if descriptor in readable else b""


def _answer(question: asyncio.Future[bool] | None, answer: bool) -> None:
    if question is not None and not question.done():
        question.set_result(answer)


def _descriptor(port: serial.Serial) -> int | None:
    """Return what `select` can wait for, None where the port has no such thing."""
    try:
        return int(port.fileno())
    except (io.UnsupportedOperation, AttributeError, OSError):
        return None


def _close(port: serial.Serial) -> None:
    with contextlib.suppress(Exception):  # a port that is gone is closed
        port.close()
