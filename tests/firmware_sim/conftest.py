"""A world in which nothing takes real time, and the simplest device."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from firmware_sim.device import FrameDevice, Outlet
from protocols.devices.kind import SERIAL_SOURCE, DeviceKind, SerialLink
from protocols.lab_clock import LabClock
from protocols.samples import Channel, Stream


class _SkippingSelector(selectors.DefaultSelector):
    """Instead of waiting, moves its time on."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if not events:
            assert timeout is not None, "everybody waits for nothing"
            self.now_s += timeout
        return events


class VirtualTime:
    """Runs coroutines on an event loop whose sleeps end at once; `clock` follows it."""

    START_NS = 1_700_000_000_000_000_000

    def __init__(self) -> None:
        self._selector = _SkippingSelector()

    def clock(self, speed: float = 1.0) -> LabClock:
        return LabClock(
            lambda: self.START_NS + self.now_ns(), self.now_ns, speed=speed, origin_ns=self.START_NS
        )

    def now_ns(self) -> int:
        return round(self._selector.now_s * 1e9)

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        loop = asyncio.SelectorEventLoop(self._selector)
        loop.time = lambda: self._selector.now_s  # type: ignore[method-assign]
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(coroutine)


@pytest.fixture
def virtual_time() -> VirtualTime:
    return VirtualTime()


class CountingSource:
    """Frames that consist of their number."""

    def __init__(self, period_s: float, n_frames: int | None, repeat: int = 1) -> None:
        self.uuid = SERIAL_SOURCE
        self.period_s, self.n_frames, self.repeat = period_s, n_frames, repeat

    def due_s(self, frame: int) -> float:
        return (frame + 1) * self.period_s

    def encode(self, frame: int, origin_s: float) -> bytes:
        return frame.to_bytes(4, "big") * self.repeat


KIND = DeviceKind(
    "counter",
    "Counter",
    SerialLink(19_200, parity="O"),
    (Stream("count", (Channel("count", "1"),), "int32", 10.0),),
    new_decoder=lambda: pytest.fail("not needed"),
)

NewCounter = Callable[..., FrameDevice]


@pytest.fixture
def new_counter() -> NewCounter:
    """Make a serial device that sends its frames' numbers."""

    def make(
        n_frames: int | None = None, *, period_s: float = 0.1, repeat: int = 1, **options: Any
    ) -> FrameDevice:
        source = CountingSource(period_s, n_frames, repeat)
        return FrameDevice(
            KIND, "counter-1", [Outlet(source, origin_s=options.pop("origin_s", None))], **options
        )

    return make


@pytest.fixture
def fast_clock() -> LabClock:
    """Real time, a thousandfold."""
    return LabClock(time.time_ns, time.monotonic_ns, speed=1000, origin_ns=time.time_ns())
