"""Times computed again from what is stored: the clock model with the whole recording before it.

While a device streams, its clock model knows the past only. Afterwards it can look from both sides: the model
is led over the arrivals once forwards and once backwards, and what both allow is taken. The first seconds gain
most, because the drift learnt later holds for them too. Pure: the same arrays give the same times, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway.clock import READINGS, ClockModel
from protocols.errors import SignalError
from protocols.samples import SampleBlock

IntArray = NDArray[np.int64]

_UNKNOWN_LOWER: Final = -(1 << 62)


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """Moments in ns and half the widths of the intervals that hold the truth, int64, both of one shape."""

    time_ns: IntArray
    uncertainty_ns: IntArray


def times_in_hindsight(
    device_ns: IntArray,
    arrival_monotonic_ns: IntArray,
    at_device_ns: IntArray,
    *,
    link_delay_ns: int,
    scheduled: bool = False,
    connections: IntArray | None = None,
    speed: float = 1.0,
) -> Times:
    """Return when on the gateway's monotonic clock it was `at_device_ns`.

    Parameters
    ----------
    device_ns
        Device time of the last sample of every frame of one uninterrupted device clock, in order of arrival,
        shape (n_frames,), at least one.
    arrival_monotonic_ns
        When each arrived, shape (n_frames,).
    at_device_ns
        Device times asked for, any shape.
    link_delay_ns, scheduled, speed
        As for `ClockModel`.
    connections
        For every frame a number of the connection that it came by, shape (n_frames,); None if it was one.

    Raises
    ------
    SignalError
        If the shapes differ or there is no frame.
    """
    if not device_ns.size or not device_ns.shape == arrival_monotonic_ns.shape == (device_ns.size,):
        raise SignalError(
            f"device_ns of shape {device_ns.shape} and arrival_monotonic_ns of shape "
            f"{arrival_monotonic_ns.shape}, expected one shape (n_frames,) with at least 1 frame"
        )
    if connections is None:
        connections = np.zeros(device_ns.size, np.int64)
    frames = list(zip(device_ns.tolist(), arrival_monotonic_ns.tolist(), connections.tolist(), strict=True))
    model = partial(ClockModel, link_delay_ns=link_delay_ns, scheduled=scheduled, speed=speed)
    forward = _bounds(model(), frames)
    backward = _bounds(model(backward=True), frames[::-1])[::-1]
    offset_ns, uncertainty_ns = _both(forward, backward)
    order = np.argsort(device_ns, kind="stable")
    known_ns = device_ns[order] - device_ns[0]
    wanted_ns = at_device_ns - device_ns[0]
    base_ns = int(offset_ns[0])
    offsets = np.interp(wanted_ns, known_ns, (offset_ns - base_ns)[order])
    widths = np.interp(wanted_ns, known_ns, uncertainty_ns[order])
    times_ns: IntArray = at_device_ns + base_ns + np.rint(offsets).astype(np.int64)
    return Times(times_ns, np.ceil(widths).astype(np.int64))


def block_times_in_hindsight(
    blocks: Sequence[SampleBlock],
    *,
    link_delay_ns: int,
    scheduled: bool = False,
    connections: IntArray | None = None,
    frame_samples: int | None = None,
    speed: float = 1.0,
) -> Times:
    """Return the UTC of the first sample of every block, shape (n_blocks,).

    Parameters
    ----------
    blocks
        Of one stream with a rate, of one device and boot id, in order of arrival, at least one.
    link_delay_ns, scheduled, speed, connections
        As for `times_in_hindsight`, with blocks in place of frames.
    frame_samples
        Samples to a frame of the device; None takes that of the smallest block. What a block tells of its
        arrival is that of its first frame.

    Raises
    ------
    SignalError
        If the blocks are none, or not of one such count.
    """
    counts = {(block.device, block.stream.name, block.boot_id) for block in blocks}
    if len(counts) != 1 or blocks[0].stream.rate_hz is None:
        raise SignalError(f"blocks of {sorted(counts)}, expected one stream with a rate, of one boot id")
    period_ns = 1e9 / blocks[0].stream.rate_hz
    smallest = min(block.n_samples for block in blocks)
    frame_ns = round((min(frame_samples or smallest, smallest) - 1) * period_ns)
    first_ns = np.array([_device_ns(block, period_ns) for block in blocks], np.int64)
    arrival_monotonic_ns = np.array([block.arrival_monotonic_ns for block in blocks], np.int64)
    times = times_in_hindsight(
        first_ns + frame_ns,
        arrival_monotonic_ns,
        first_ns,
        link_delay_ns=link_delay_ns,
        scheduled=scheduled,
        connections=connections,
        speed=speed,
    )
    arrival_ns = np.array([block.arrival_ns for block in blocks], np.int64)
    return Times(times.time_ns + _utc_difference_ns(arrival_ns, arrival_monotonic_ns), times.uncertainty_ns)


def _device_ns(block: SampleBlock, period_ns: float) -> int:
    return block.device_ns if block.device_ns is not None else round(block.first_index * period_ns)


def _utc_difference_ns(arrival_ns: IntArray, arrival_monotonic_ns: IntArray) -> IntArray:
    """UTC minus monotonic clock: the largest of some readings before and after, as pauses make it smaller."""
    difference_ns = np.pad(arrival_ns - arrival_monotonic_ns, READINGS // 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(difference_ns, 2 * (READINGS // 2) + 1)
    largest_ns: IntArray = windows.max(axis=1)
    return largest_ns


def _bounds(model: ClockModel, frames: Sequence[tuple[int, int, int]]) -> IntArray:
    """Lower and upper limit of the offset at every frame, whether arrivals tell both: shape (n_frames, 3)."""
    bounds = []
    connection = frames[0][2]
    for device_ns, arrival_ns, of_connection in frames:
        if of_connection != connection:
            model.reconnected()
            connection = of_connection
        model.observe(device_ns, arrival_ns)
        bounds.append((*model.bounds_ns(device_ns), model.bounded))
    return np.array(bounds, np.int64)


def _both(forward: IntArray, backward: IntArray) -> tuple[IntArray, IntArray]:
    """Return the offsets that both passes allow, and half the width of what they allow."""
    either = np.stack([forward, backward])
    lower_ns, upper_ns, bounded = either[..., 0], either[..., 1], either[..., 2].astype(bool)
    any_bounded = bounded.any(axis=0)
    counted = bounded | ~any_bounded
    low_ns = np.where(counted, lower_ns, _UNKNOWN_LOWER).max(axis=0)
    high_ns = upper_ns.min(axis=0)
    apart = low_ns > high_ns
    low_ns, high_ns = np.where(apart, high_ns, low_ns), np.where(apart, low_ns, high_ns)
    half_ns = (high_ns - low_ns + 1) // 2
    offset_ns: IntArray = np.where(any_bounded, low_ns + half_ns, high_ns)
    uncertainty_ns: IntArray = np.where(any_bounded, half_ns, high_ns - low_ns)
    return offset_ns, uncertainty_ns
