"""Every byte of a port arrives, stamped; a port that is missing or goes away says so; closing never hangs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pty
import random
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import serial
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from firmware_sim.catalogue import Setup, simulated_device
from firmware_sim.links.rfc2217 import serve_rfc2217
from firmware_sim.signals.subject import Subject
from gateway.serial_port import CLOSE_TIMEOUT_S, SerialTransport
from gateway.transport import Frame, LinkError, Trouble
from protocols.devices.kind import SERIAL_SOURCE, SerialLink
from protocols.errors import TransportError
from protocols.lab_clock import LabClock
from tests.gateway.conftest import wait_until

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


def new_pty() -> Pty:
    master, slave = pty.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    return Pty(master, slave, os.ttyname(slave))


@pytest.fixture
def port() -> Iterator[Pty]:
    made = new_pty()
    yield made
    made.unplug()


def usb_port(device: str, vendor: int, product: int, serial_number: str | None) -> ListPortInfo:
    port = ListPortInfo(device, skip_link_detection=True)
    port.vid, port.pid, port.serial_number = vendor, product, serial_number
    return port


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


@pytest.mark.parametrize("refusal", [None, ValueError("Failed to update"), NotImplementedError(), OSError(25)])
def test_a_port_is_asked_for_low_latency_and_works_without(
    port: Pty, refusal: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def set_low_latency_mode(_port: serial.Serial, wanted: bool) -> None:
        asked.append(wanted)
        if refusal is not None:
            raise refusal

    monkeypatch.setattr(serial.Serial, "set_low_latency_mode", set_low_latency_mode, raising=False)

    async def run() -> None:
        async with SerialTransport(port.path, LINK, CLOCK) as transport:
            os.write(port.master, b"hello")
            frames = await asyncio.wait_for(read_bytes(transport, 5), 10)
        assert b"".join(f.data for f in frames) == b"hello"

    asyncio.run(run())
    assert asked == [True]


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


HOLD = """
import os, sys
from serial import Serial
port = Serial(sys.argv[1], exclusive=True)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_port_that_another_process_holds_is_an_error_that_names_the_process(port: Pty) -> None:
    async def run(holder: int) -> None:
        with pytest.raises(
            LinkError, match=rf"serial port {port.path} is in use \(python.*, process {holder}\): "
        ) as raised:
            async with SerialTransport(port.path, LINK, CLOCK):
                pytest.fail("opened")
        assert raised.value.trouble is Trouble.BUSY

    command = [sys.executable, "-c", HOLD, port.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        asyncio.run(run(other.pid))
        other.stdin.close()


def test_a_port_is_opened_by_one_only(port: Pty) -> None:
    async def run() -> None:
        async with SerialTransport(port.path, LINK, CLOCK):
            with pytest.raises(LinkError, match=f"serial port {port.path} is in use: ") as raised:
                async with SerialTransport(port.path, LINK, CLOCK):
                    pytest.fail("opened")
            assert raised.value.trouble is Trouble.BUSY
        async with SerialTransport(port.path, LINK, CLOCK):
            pass

    asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "link", "trouble"),
    [
        ("/dev/no-such-port", LINK, Trouble.NOT_FOUND),
        ("socket://127.0.0.1:1", LINK, Trouble.NOT_FOUND),
        ("nonsense://x", LINK, Trouble.PERMANENT),
        ("/dev/null", SerialLink(9600, bytesize=3), Trouble.PERMANENT),
        ("/", LINK, Trouble.TRANSIENT),
    ],
)
def test_a_port_that_cannot_be_opened_says_what_kind_of_trouble_it_is(
    url: str, link: SerialLink, trouble: Trouble
) -> None:
    async def run() -> None:
        async with SerialTransport(url, link, CLOCK):
            pytest.fail("opened")

    with pytest.raises(LinkError, match=url) as raised:
        asyncio.run(run())
    assert raised.value.trouble is trouble


def test_an_adapter_that_comes_back_under_another_name_is_opened_by_its_id(tmp_path: Path) -> None:
    by_id = tmp_path / "usb-FTDI_FT232R_A50285BI-if00-port0"

    async def run() -> None:
        for round_ in range(3):
            made = new_pty()
            by_id.symlink_to(made.path)
            async with SerialTransport(str(by_id), LINK, CLOCK) as transport:
                os.write(made.master, b"round %d" % round_)
                assert (await read_bytes(transport, 7))[0].data == b"round %d" % round_
                by_id.unlink()
                made.unplug()
                with pytest.raises(LinkError, match="was lost") as raised:
                    await collect(transport, [])
                assert raised.value.trouble is Trouble.TRANSIENT
            with pytest.raises(LinkError) as raised:
                await SerialTransport(str(by_id), LINK, CLOCK).__aenter__()
            assert raised.value.trouble is Trouble.NOT_FOUND

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_usb_id_leads_to_the_port_that_its_adapter_has_now(monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[ListPortInfo] = []
    monkeypatch.setattr(list_ports, "comports", lambda: there)

    async def run() -> None:
        for name in ("usb:0403:6001", "usb:0403:6001:A50285BI", "USB:0403:6001:A50285BI"):
            made = new_pty()
            there[:] = [
                usb_port("/dev/other", 0x10C4, 0xEA60, "1"),
                usb_port(made.path, 0x0403, 0x6001, "A50285BI"),
            ]
            async with SerialTransport(name, LINK, CLOCK) as transport:
                os.write(made.master, b"here")
                assert (await read_bytes(transport, 4))[0].data == b"here"
            made.unplug()

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.parametrize(
    ("name", "said", "trouble"),
    [
        ("usb:0403:6015", "expected a USB adapter of this id, found none", Trouble.NOT_FOUND),
        ("usb:0403:6001:X", "expected a USB adapter of this id, found none", Trouble.NOT_FOUND),
        (
            "usb:0403:6001",
            r"2 adapters have this id: /dev/a \(A\), /dev/b \(no serial number\); expected a serial number",
            Trouble.PERMANENT,
        ),
        ("usb:ftdi", "expected usb:VID:PID or usb:VID:PID:SERIAL, ids in hexadecimal", Trouble.PERMANENT),
    ],
)
def test_a_usb_id_that_leads_to_no_one_port_is_an_error_that_says_why(
    name: str, said: str, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [usb_port("/dev/a", 0x0403, 0x6001, "A"), usb_port("/dev/b", 0x0403, 0x6001, None)]
    monkeypatch.setattr(list_ports, "comports", lambda: there)
    with pytest.raises(LinkError, match=f"serial port {name}: {said}") as raised:
        asyncio.run(SerialTransport(name, LINK, CLOCK).__aenter__())
    assert raised.value.trouble is trouble


def test_an_unplugged_port_hands_over_what_came_and_then_says_that_it_was_lost(port: Pty) -> None:
    async def run() -> list[bytes]:
        got: list[bytes] = []
        async with SerialTransport(port.path, LINK, CLOCK) as transport:
            os.write(port.master, b"last words")
            await wait_until(lambda: transport._buffered_bytes == 10)
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


def test_a_revived_port_is_started_anew_and_streams_on(port: Pty) -> None:
    async def run() -> None:
        link = SerialLink(115200, startup=b"\x7d\x81")
        async with SerialTransport(port.path, link, CLOCK) as transport:
            assert os.read(port.master, 10) == b"\x7d\x81"
            reading = asyncio.create_task(read_bytes(transport, 5))
            await asyncio.sleep(0.05)
            assert await transport.revive()
            assert os.read(port.master, 10) == b"\x7d\x81"
            os.write(port.master, b"again")
            assert b"".join(frame.data for frame in await reading) == b"again"
        assert not await transport.revive()

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_port_that_is_unplugged_as_soon_as_it_was_opened_says_that_it_was_lost(port: Pty) -> None:
    async def run() -> None:
        async with SerialTransport(port.path, LINK, CLOCK) as transport:
            port.unplug()
            with pytest.raises(LinkError, match="was lost"):
                await collect(transport, [])

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_port_that_is_gone_cannot_be_revived(port: Pty) -> None:
    async def run() -> None:
        transport = SerialTransport(port.path, SerialLink(115200, startup=b"\x7d\x81"), CLOCK)
        assert not await transport.revive()
        async with transport:
            port.unplug()
            assert not await transport.revive()
            with pytest.raises(LinkError, match="was lost"):
                await collect(transport, [])

    asyncio.run(asyncio.wait_for(run(), 10))


def test_closing_an_idle_port_takes_no_time_and_leaves_no_thread(port: Pty) -> None:
    async def run() -> None:
        async with SerialTransport(port.path, LINK, CLOCK):
            await asyncio.sleep(0.05)

    started = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - started < CLOSE_TIMEOUT_S
    for thread in threading.enumerate():
        if thread.name.startswith("serial "):
            thread.join(1)
            assert not thread.is_alive()


def test_closing_while_the_buffer_is_full_does_not_hang(port: Pty) -> None:
    async def run() -> None:
        async with SerialTransport(port.path, LINK, CLOCK, max_buffered_bytes=10) as transport:
            os.write(port.master, b"x" * 1000)
            await wait_until(lambda: transport._buffered_bytes >= 10)
            os.write(port.master, b"x" * 1000)
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(run(), 15))


def test_a_cancelled_opening_leaves_the_port_free(port: Pty) -> None:
    async def run() -> None:
        opening = asyncio.create_task(SerialTransport(port.path, LINK, CLOCK).__aenter__())
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        name = f"serial {port.path}"
        await wait_until(lambda: all(thread.name != name for thread in threading.enumerate()))
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
            assert await transport.revive()
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
            first = await read_bytes(transport, 125 * 20)
            assert await transport.revive()
            return first

    decoded = [decoder.feed(f.source, f.data) for f in asyncio.run(asyncio.wait_for(run(), 20))]
    assert sum(len(d.samples) for d in decoded) >= 2 * 20
    assert not [error for d in decoded for error in d.errors]
