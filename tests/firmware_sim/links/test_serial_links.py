from __future__ import annotations

import asyncio
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import serial

from firmware_sim.device import FrameDevice
from firmware_sim.faults import Faulty
from firmware_sim.links.pty import serve_pty
from firmware_sim.links.rfc2217 import serve_rfc2217
from firmware_sim.pacing import Pacing
from protocols.devices.kind import SERIAL_SOURCE
from protocols.errors import DefinitionError, TransportError
from protocols.lab_clock import LabClock

NewCounter = Callable[..., FrameDevice]
Serve = Callable[..., AbstractAsyncContextManager[str]]

ON_UNIX = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
LINKS = [
    pytest.param(serve_pty, id="pty", marks=ON_UNIX),
    pytest.param(serve_rfc2217, id="rfc2217"),
]
# pyserial's client of RFC 2217 sets up its thread in an outdated way
pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")


def open_port(url: str, parity: str = "O") -> serial.SerialBase:
    # a pseudo-terminal has no parity
    return serial.serial_for_url(url, 19_200, parity=parity if ":" in url else "N", timeout=0.2)


def read_bytes(port: Any, n_bytes: int, within_s: float = 15) -> bytes:
    data, end_s = b"", time.monotonic() + within_s
    while len(data) < n_bytes and time.monotonic() < end_s:
        data += port.read(max(1, min(port.in_waiting, n_bytes - len(data))))
    return data


def counted(n_frames: int, repeat: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") * repeat for number in range(n_frames))


@pytest.mark.parametrize("serve", LINKS)
def test_a_reader_gets_every_byte_once_and_in_order(
    serve: Serve, new_counter: NewCounter, fast_clock: LabClock
) -> None:
    device = new_counter(600, repeat=20)

    def read(url: str) -> bytes:
        with open_port(url) as port:
            return read_bytes(port, 48_000)

    async def scene() -> bytes:
        async with serve(device, fast_clock) as url:
            return await asyncio.to_thread(read, url)

    assert asyncio.run(scene()) == counted(600, 20)
    assert device.finished


@ON_UNIX
def test_a_reader_that_sleeps_holds_the_device_back_and_loses_nothing(
    new_counter: NewCounter, fast_clock: LabClock
) -> None:
    device, pacing = new_counter(4000, period_s=0.05, repeat=50), Pacing()

    def read(url: str) -> bytes:
        with open_port(url) as port:
            start = read_bytes(port, 10_000)
            time.sleep(0.7)
            return start + read_bytes(port, 790_000)

    async def scene() -> bytes:
        async with serve_pty(device, fast_clock, pacing=pacing) as url:
            return await asyncio.to_thread(read, url)

    assert asyncio.run(scene()) == counted(4000, 50)
    assert pacing.worst_lag_s > 0.3


@pytest.mark.parametrize("serve", LINKS)
def test_nothing_is_sent_before_the_start_is_given(
    serve: Serve, new_counter: NewCounter, fast_clock: LabClock
) -> None:
    device = new_counter(5)

    def read(url: str, give_start: Callable[[], None]) -> tuple[bytes, bytes]:
        with open_port(url) as port:
            early = read_bytes(port, 1, within_s=0.5)
            give_start()
            return early, read_bytes(port, 20)

    async def scene() -> tuple[bytes, bytes]:
        start = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with serve(device, fast_clock, start=start) as url:
            return await asyncio.to_thread(read, url, lambda: loop.call_soon_threadsafe(start.set))

    assert asyncio.run(scene()) == (b"", counted(5, 1))


@pytest.mark.parametrize("serve", LINKS)
def test_a_port_can_be_closed_and_opened_again(serve: Serve, new_counter: NewCounter) -> None:
    device = new_counter(origin_s=0.0)
    clock = LabClock(time.time_ns, time.monotonic_ns, speed=20, origin_ns=time.time_ns())

    def read(url: str) -> list[int]:
        firsts = []
        for _ in range(2):
            with open_port(url) as port:
                data = read_bytes(port, 40)
                firsts.append(int.from_bytes(data[:4], "big"))
                assert data == b"".join(n.to_bytes(4, "big") for n in range(firsts[-1], firsts[-1] + 10))
            time.sleep(0.3)
        return firsts

    async def scene() -> list[int]:
        async with serve(device, clock) as url:
            return await asyncio.to_thread(read, url)

    first, second = asyncio.run(scene())
    assert second >= first + 10 + 20 * 0.3 / 0.1 - 2


@pytest.mark.parametrize("serve", LINKS)
def test_what_is_written_reaches_the_device_and_its_answer_comes_back(
    serve: Serve, new_counter: NewCounter, fast_clock: LabClock
) -> None:
    heard = []

    def control(_device: FrameDevice, data: bytes) -> bytes:
        heard.append(data)
        return b"\xff" + data.upper()

    device = new_counter(0, controls={SERIAL_SOURCE: control})

    def talk(url: str) -> bytes:
        with open_port(url) as port:
            time.sleep(0.3)
            port.write(b"st\xffart")
            return read_bytes(port, 7, within_s=3)

    async def scene() -> bytes:
        async with serve(device, fast_clock) as url:
            return await asyncio.to_thread(talk, url)

    assert asyncio.run(scene()) == b"\xffST\xffART"
    assert b"".join(heard) == b"st\xffart"


@pytest.mark.parametrize("serve", LINKS)
def test_a_reader_notices_that_the_device_vanished_in_mid_frame(
    serve: Serve, new_counter: NewCounter, fast_clock: LabClock
) -> None:
    device = Faulty(new_counter(100, repeat=5), vanish_after_bytes=57)

    def read(url: str) -> bytes:
        data = b""
        with open_port(url) as port:
            try:
                for _ in range(50):
                    data += port.read(max(1, port.in_waiting))
            except OSError:
                return data
        pytest.fail("the port is still there")

    async def scene() -> bytes:
        async with serve(device, fast_clock) as url:
            return await asyncio.to_thread(read, url)

    received = asyncio.run(scene())
    assert 20 <= len(received) <= 57
    assert counted(100, 5).startswith(received)


def test_a_reader_with_wrong_settings_gets_garbage(new_counter: NewCounter, fast_clock: LabClock) -> None:
    device = new_counter(200)

    def read(url: str) -> bytes:
        with open_port(url, parity="N") as port:
            return read_bytes(port, 800)

    async def scene() -> bytes:
        async with serve_rfc2217(device, fast_clock) as url:
            return await asyncio.to_thread(read, url)

    data = asyncio.run(scene())
    assert len(data) == 800
    assert data != counted(200, 1)


def test_a_reader_with_wrong_settings_can_be_refused(new_counter: NewCounter, fast_clock: LabClock) -> None:
    async def scene() -> None:
        async with serve_rfc2217(new_counter(), fast_clock, refuse_wrong_settings=True) as url:
            with pytest.raises((serial.SerialException, ValueError), match="reject"):
                await asyncio.to_thread(open_port, url, "E")
            port = await asyncio.to_thread(open_port, url, "O")
            await asyncio.to_thread(port.close)

    asyncio.run(scene())


def test_a_second_client_is_turned_away(new_counter: NewCounter, fast_clock: LabClock) -> None:
    async def scene() -> bytes:
        async with serve_rfc2217(new_counter(), fast_clock) as url:
            host, port = url.removeprefix("rfc2217://").split(":")
            _, first = await asyncio.open_connection(host, int(port))
            reader, second = await asyncio.open_connection(host, int(port))
            answer = await asyncio.wait_for(reader.read(), 2)
            first.close()
            second.close()
            return answer

    assert asyncio.run(scene()) == b""


@pytest.mark.parametrize(
    "noise", [b"\xff\xfa\x2c\x01\x00\xff\xf0", b"\xff\xfa\x2c\x03\x77\xff\xf0", b"hello" * 9]
)
def test_a_client_that_talks_nonsense_harms_nobody_else(
    noise: bytes, new_counter: NewCounter, fast_clock: LabClock
) -> None:
    device = new_counter(5)

    def read(url: str) -> bytes:
        with open_port(url) as port:
            return read_bytes(port, 20)

    async def scene() -> bytes:
        async with serve_rfc2217(device, fast_clock) as url:
            host, port = url.removeprefix("rfc2217://").split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(noise)
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.close()
            await asyncio.sleep(0.1)
            return await asyncio.to_thread(read, url)

    assert asyncio.run(scene()) == counted(5, 1)


def test_leaving_ends_everything_while_a_reader_is_connected(
    new_counter: NewCounter, fast_clock: LabClock
) -> None:
    async def scene() -> None:
        async with (
            serve_pty(new_counter(), fast_clock) as path,
            serve_rfc2217(new_counter(), fast_clock) as url,
        ):
            ports = [await asyncio.to_thread(open_port, address) for address in (path, url)]
            await asyncio.sleep(0.4)
        for port in ports:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                await asyncio.to_thread(port.close)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scene())
    assert threading.active_count() < 10


def test_a_taken_port_and_a_device_without_port_are_named(
    new_counter: NewCounter, fast_clock: LabClock
) -> None:
    async def scene() -> None:
        async with serve_rfc2217(new_counter(), fast_clock) as url:
            with pytest.raises(TransportError, match="cannot be listened on"):
                async with serve_rfc2217(new_counter(), fast_clock, port=int(url.rsplit(":", 1)[1])):
                    pass

    asyncio.run(scene())
    device = new_counter()
    device.kind = type(device.kind)(
        "radio",
        "Radio",
        link=None,
        streams=device.kind.streams,
        new_decoder=device.kind.new_decoder,  # type: ignore[arg-type]
    )

    async def wrong() -> None:
        async with serve_rfc2217(device, fast_clock):
            pass

    with pytest.raises(DefinitionError, match="radio is no serial device"):
        asyncio.run(wrong())
