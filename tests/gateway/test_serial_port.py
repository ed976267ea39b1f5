"""Every byte of a port arrives, stamped; a port that is missing or goes away says so; closing never hangs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pty
import random
import socket
import threading
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from firmware_sim.catalogue import Setup, simulated_device
from firmware_sim.links.rfc2217 import serve_rfc2217
from firmware_sim.signals.subject import Subject
from gateway.serial_port import SerialTransport
from gateway.transport import Frame
from protocols.devices.kind import SERIAL_SOURCE, SerialLink
from protocols.errors import TransportError
from protocols.lab_clock import LabClock

LINK = SerialLink(921600)
CLOCK = LabClock(time.time_ns, time.monotonic_ns)


@dataclass
class Pty:
    master: int
    slave: int
    path: str

    def unplug(self) -> None:
        for descriptor in (self.master, self.slave):
            if descriptor >= 0:
                os.close(descriptor)
        self.master = self.slave = -1


@pytest.fixture
def port() -> Iterator[Pty]:
    master, slave = pty.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    made = Pty(master, slave, os.ttyname(slave))
    yield made
    made.unplug()


async def read_bytes(transport: SerialTransport, n: int) -> list[Frame]:
    frames = []
    async for frame in transport.frames():
        frames.append(frame)
        n -= len(frame.data)
        if n <= 0:
            return frames
    return frames


async def collect(transport: SerialTransport, got: list[bytes]) -> None:
    async for frame in transport.frames():
        got.append(frame.data)  # noqa: PERF401 - what came before the end is wanted


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view[:4096]) :]


def test_bytes_arrive_in_order_with_the_moment_they_came(port: Pty) -> None:
    async def run() -> None:
        async with SerialTransport(port.path, LINK, CLOCK) as transport:
            before = (time.time_ns(), time.monotonic_ns())
            os.write(port.master, b"hello ")
            os.write(port.master, b"world")
            frames = await asyncio.wait_for(read_bytes(transport, 11), 5)
        assert b"".join(f.data for f in frames) == b"hello world"
        assert {f.source for f in frames} == {SERIAL_SOURCE}
        assert before[0] <= frames[0].arrival_ns <= time.time_ns()
        assert before[1] <= frames[0].arrival_monotonic_ns <= time.monotonic_ns()

    asyncio.run(run())


def test_no_byte_is_lost_at_full_speed_into_a_slow_reader(port: Pty) -> None:
    data = random.Random(3).randbytes(3_000_000)

    async def run() -> None:
        async with SerialTransport(port.path, LINK, CLOCK, max_buffered_bytes=50_000) as transport:
            writer = threading.Thread(target=write_all, args=(port.master, data), daemon=True)
            writer.start()
            digest, n = hashlib.sha256(), 0
            async for frame in transport.frames():
                digest.update(frame.data)
                n += len(frame.data)
                assert transport._buffered_bytes < 50_000 + 65_536
                if n >= len(data):
                    break
                if n % 7 == 0:
                    await asyncio.sleep(0.001)
            writer.join()
        assert (n, digest.digest()) == (len(data), hashlib.sha256(data).digest())

    asyncio.run(run())


def test_a_port_that_is_not_there_is_named_with_the_settings_tried() -> None:
    async def run() -> None:
        async with SerialTransport("/dev/no-such-port", SerialLink(9600), CLOCK):
            pass

    with pytest.raises(TransportError, match="/dev/no-such-port cannot be opened with 9600 baud, 8N1"):
        asyncio.run(run())


@pytest.mark.parametrize("url", ["socket://127.0.0.1:1", "rfc2217://127.0.0.1:1", "nonsense://x"])
def test_an_address_that_leads_nowhere_is_named(url: str) -> None:
    async def run() -> None:
        async with SerialTransport(url, LINK, CLOCK):
            pass

    with pytest.raises(TransportError, match=url):
        asyncio.run(run())


def test_a_port_is_opened_by_one_only(port: Pty) -> None:
    async def run() -> None:
        async with SerialTransport(port.path, LINK, CLOCK):
            with pytest.raises(TransportError, match=port.path):
                async with SerialTransport(port.path, LINK, CLOCK):
                    pass
        async with SerialTransport(port.path, LINK, CLOCK):
            pass

    asyncio.run(run())


def test_an_unplugged_port_hands_over_what_came_and_then_says_that_it_was_lost(port: Pty) -> None:
    async def run() -> list[bytes]:
        got: list[bytes] = []
        async with SerialTransport(port.path, LINK, CLOCK) as transport:
            os.write(port.master, b"last words")
            await asyncio.sleep(0.1)
            port.unplug()
            with pytest.raises(TransportError, match=f"{port.path} was lost"):
                await collect(transport, got)
        return got

    assert b"".join(asyncio.run(asyncio.wait_for(run(), 5))) == b"last words"


def test_the_start_up_command_is_sent(port: Pty) -> None:
    async def run() -> None:
        async with SerialTransport(port.path, SerialLink(115200, startup=b"\x7d\x81"), CLOCK):
            assert os.read(port.master, 10) == b"\x7d\x81"

    asyncio.run(run())


def test_closing_an_idle_port_takes_no_time_and_leaves_no_thread(port: Pty) -> None:
    async def run() -> None:
        async with SerialTransport(port.path, LINK, CLOCK):
            await asyncio.sleep(0.05)

    started = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - started < 1
    for thread in threading.enumerate():
        if thread.name.startswith("serial "):
            thread.join(1)
            assert not thread.is_alive()


def test_closing_while_the_buffer_is_full_does_not_hang(port: Pty) -> None:
    async def run() -> None:
        async with SerialTransport(port.path, LINK, CLOCK, max_buffered_bytes=10) as transport:
            os.write(port.master, b"x" * 1000)
            await asyncio.sleep(0.05)
            os.write(port.master, b"x" * 1000)
            await asyncio.sleep(0.05)
            assert transport._buffered_bytes >= 10

    asyncio.run(asyncio.wait_for(run(), 5))


def test_a_cancelled_opening_leaves_the_port_free(port: Pty) -> None:
    async def run() -> None:
        opening = asyncio.create_task(SerialTransport(port.path, LINK, CLOCK).__aenter__())
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await asyncio.sleep(0.2)
        async with SerialTransport(port.path, LINK, CLOCK):
            pass

    asyncio.run(run())


@pytest.fixture
def tcp_device() -> Iterator[tuple[str, Callable[[], socket.socket]]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted: list[socket.socket] = []

        def accept() -> socket.socket:
            accepted.append(server.accept()[0])
            return accepted[-1]

        yield f"socket://127.0.0.1:{server.getsockname()[1]}", accept
        for connection in accepted:
            connection.close()


def test_a_tcp_port_delivers_every_byte_until_the_other_side_closes(
    tcp_device: tuple[str, Callable[[], socket.socket]],
) -> None:
    url, accept = tcp_device
    data = random.Random(4).randbytes(500_000)

    async def run() -> bytes:
        got: list[bytes] = []
        async with SerialTransport(url, LINK, CLOCK) as transport:
            peer = accept()
            writer = threading.Thread(target=lambda: (peer.sendall(data), peer.close()), daemon=True)
            writer.start()
            with pytest.raises(TransportError, match="was lost"):
                await collect(transport, got)
            writer.join()
        return b"".join(got)

    assert asyncio.run(asyncio.wait_for(run(), 10)) == data


@pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # of pyserial
def test_an_rfc2217_port_is_opened_with_its_settings_and_delivers_whole_packets() -> None:
    clock = LabClock(time.time_ns, time.monotonic_ns, speed=20.0, origin_ns=time.time_ns())
    device = simulated_device("nonin-7", Setup(Subject(1)))
    decoder = device.kind.new_decoder()

    async def run() -> list[Frame]:
        async with (
            serve_rfc2217(device, clock, refuse_wrong_settings=True) as url,
            SerialTransport(url, SerialLink(9600), clock) as transport,
        ):
            return await read_bytes(transport, 125 * 20)

    decoded = [decoder.feed(f.source, f.data) for f in asyncio.run(asyncio.wait_for(run(), 20))]
    assert sum(len(d.samples) for d in decoded) >= 2 * 20
    assert not [error for d in decoded for error in d.errors]
