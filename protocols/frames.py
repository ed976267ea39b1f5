"""Raw frames: the bytes as they came from a device, recorded beside what was decoded from them.

With them a decoder mended next year can be run again on this year's sessions, and times can be computed anew.
A frame is identified by `(gateway, device, connection_id, frame index)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocols.errors import DefinitionError
from protocols.samples import Channel, Stream, check_device_name

RAW: Final = Stream("raw", (Channel("data", "1"),), "uint8", None)
"""The name under which a gateway numbers and announces a device's frames; no device has a stream so called."""

MAX_SOURCES: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class FrameBlock:
    """Consecutive frames of one connection to one device.

    Parameters
    ----------
    device
        Name of the device at its gateway.
    connection_id
        Names the connection, 0 to 2^63-1; larger is later.
    first_frame
        Index of the first frame within the connection, 0 to 2^63-1.
    sources
        For every frame what the decoder is fed under: a characteristic's UUID, or `SERIAL_SOURCE`.
    data
        The bytes of every frame, at least one.
    arrival_ns, arrival_monotonic_ns
        When each was received: UTC and the gateway's monotonic clock, int64, shape (n_frames,). Read-only.

    Raises
    ------
    DefinitionError
        Names the field at fault.
    """

    device: str
    connection_id: int
    first_frame: int
    sources: tuple[str, ...]
    data: tuple[bytes, ...]
    arrival_ns: NDArray[np.int64]
    arrival_monotonic_ns: NDArray[np.int64]

    def __post_init__(self) -> None:
        check_device_name(self.device)
        for name in ("connection_id", "first_frame"):
            if not 0 <= getattr(self, name) < 1 << 63:
                raise DefinitionError(f"{name}={getattr(self, name)!r}, expected 0 to 2^63-1")
        n_frames = len(self.data)
        if self.first_frame + n_frames > 1 << 63:
            raise DefinitionError(f"first_frame={self.first_frame!r} of {n_frames}, expected all below 2^63")
        if n_frames == 0 or len(self.sources) != n_frames:
            raise DefinitionError(f"{n_frames} frames with {len(self.sources)} sources, expected one for each")
        if len(set(self.sources)) > MAX_SOURCES or any("," in source for source in self.sources):
            raise DefinitionError(f"sources {sorted(set(self.sources))[:3]}, expected few and without a comma")
        for name in ("arrival_ns", "arrival_monotonic_ns"):
            times: NDArray[Any] = getattr(self, name)
            if times.shape != (n_frames,) or times.dtype != np.int64:
                raise DefinitionError(
                    f"{name} of shape {times.shape} and dtype {times.dtype}, expected ({n_frames},) and int64"
                )
            if times.flags.writeable:
                times = times.copy()
                times.flags.writeable = False
                object.__setattr__(self, name, times)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.data)

    def between(self, start_ns: int, end_ns: int) -> FrameBlock | None:
        """Return the frames from the first to the last that arrived in `[start_ns, end_ns)`, or None."""
        chosen = np.flatnonzero((self.arrival_ns >= start_ns) & (self.arrival_ns < end_ns))
        if chosen.size == 0:
            return None
        return self.part(int(chosen[0]), int(chosen[-1]) + 1)

    def part(self, first: int, end: int) -> FrameBlock:
        """Return frames `[first, end)` of this block."""
        if (first, end) == (0, self.n_frames):
            return self
        return FrameBlock(
            device=self.device,
            connection_id=self.connection_id,
            first_frame=self.first_frame + first,
            sources=self.sources[first:end],
            data=self.data[first:end],
            arrival_ns=self.arrival_ns[first:end],
            arrival_monotonic_ns=self.arrival_monotonic_ns[first:end],
        )

    def __eq__(self, other: object) -> bool:
        """Bit-for-bit equality."""
        if not isinstance(other, FrameBlock):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        return (
            self.device,
            self.connection_id,
            self.first_frame,
            self.sources,
            self.data,
            self.arrival_ns.tobytes(),
            self.arrival_monotonic_ns.tobytes(),
        )
