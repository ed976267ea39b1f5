"""The frames of one connection after another as they came, in blocks for the spool."""

from __future__ import annotations

from typing import Final

import numpy as np

from gateway.transport import Frame
from protocols.frames import FrameBlock

MAX_BLOCK_BYTES: Final = 1 << 16
MAX_BLOCK_FRAMES: Final = 4096


class FrameLog:
    """Collects a device's frames; every one is in exactly one block, numbered from 0 in its connection.

    Parameters
    ----------
    device
        Its name at the gateway.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._connection_id = 0
        self._next_frame = 0
        self._waiting: list[Frame] = []
        self._waiting_bytes = 0

    @property
    def full(self) -> bool:
        """Whether the next block is large enough."""
        return self._waiting_bytes >= MAX_BLOCK_BYTES or len(self._waiting) >= MAX_BLOCK_FRAMES

    def connected(self, connection_id: int) -> None:
        """Begin a connection; what was waiting must have been flushed."""
        self._connection_id = connection_id
        self._next_frame = 0

    def add(self, frame: Frame) -> None:
        """Take a frame."""
        self._waiting.append(frame)
        self._waiting_bytes += len(frame.data)

    def due(self, arrived_before_ns: int) -> bool:
        """Return whether a frame waits that arrived before that, on the monotonic clock."""
        return bool(self._waiting) and self._waiting[0].arrival_monotonic_ns <= arrived_before_ns

    def flush(self) -> FrameBlock | None:
        """Return what is waiting, or None."""
        if not self._waiting:
            return None
        frames, self._waiting, self._waiting_bytes = self._waiting, [], 0
        first, self._next_frame = self._next_frame, self._next_frame + len(frames)
        return FrameBlock(
            device=self._device,
            connection_id=self._connection_id,
            first_frame=first,
            sources=tuple(frame.source for frame in frames),
            data=tuple(frame.data for frame in frames),
            arrival_ns=np.array([frame.arrival_ns for frame in frames], np.int64),
            arrival_monotonic_ns=np.array([frame.arrival_monotonic_ns for frame in frames], np.int64),
        )
