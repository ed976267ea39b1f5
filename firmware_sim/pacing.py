"""Keeps a simulated device to lab time: each frame leaves when it is due, on an absolute schedule.

Sleeping until the due time on the device's own grid, and never for a period after the last frame, keeps the
rate exact however late single wake-ups are.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from firmware_sim.device import SimulatedDevice
from protocols.lab_clock import LabClock

Send = Callable[[str, bytes], Awaitable[None]]
"""Sends bytes from a characteristic's UUID or `SERIAL_SOURCE`; returns when the link took them."""


@dataclass(slots=True)
class Pacing:
    """How well a device was kept to its schedule, in real seconds: how late frames were handed to the link."""

    n_frames: int = 0
    worst_lag_s: float = 0.0
    total_lag_s: float = 0.0

    @property
    def mean_lag_s(self) -> float:
        """Mean lateness of a frame; NaN before the first."""
        return self.total_lag_s / self.n_frames if self.n_frames else math.nan

    def note(self, lag_s: float, n_frames: int) -> None:
        """Count frames of which the first was `lag_s` late."""
        self.n_frames += n_frames
        self.total_lag_s += lag_s * n_frames
        self.worst_lag_s = max(self.worst_lag_s, lag_s)


async def drive(
    device: SimulatedDevice,
    clock: LabClock,
    send: Send,
    *,
    start: asyncio.Event | None = None,
    pacing: Pacing | None = None,
) -> None:
    """Send the device's frames as they become due, until it has finished.

    May run as long as the device is served, or anew for every connection: run time goes on from
    `device.powered_on_ns`. While `send` waits nothing is lost: what became due meanwhile follows.

    Parameters
    ----------
    start
        Nothing is sent, and a device without `powered_on_ns` is not powered on, before this is set.
    pacing
        Kept up to date.
    """
    if start is not None:
        await start.wait()
    power_on([device], clock)
    powered_on_ns = clock.monotonic_ns() - (clock.now_ns() - (device.powered_on_ns or 0))
    changed = asyncio.Event()
    device.on_change = changed.set
    while not device.finished:
        changed.clear()
        due_s = device.next_due_s()
        now_s = (clock.monotonic_ns() - powered_on_ns) / 1e9
        if due_s > now_s:
            await _wait(changed, clock.real_s(due_s - now_s))
            continue
        frames = device.advance(now_s)
        if frames and pacing is not None:
            pacing.note(clock.real_s(now_s - due_s), len(frames))
        for source, data in frames:
            await send(source, data)
            await asyncio.sleep(0)  # a link that takes all at once must not hold up everybody else


def power_on(devices: Iterable[SimulatedDevice], clock: LabClock) -> None:
    """Power on, at the same lab time, those devices that are not yet."""
    now_ns = clock.now_ns()
    for device in devices:
        if device.powered_on_ns is None:
            device.powered_on_ns = now_ns


async def _wait(changed: asyncio.Event, real_s: float) -> None:
    """Wait for the event, at most for `real_s`."""
    if math.isinf(real_s):
        await changed.wait()
        return
    timer = asyncio.get_running_loop().call_later(real_s, changed.set)
    try:
        await changed.wait()
    finally:
        timer.cancel()
