"""What a gateway records of itself: how its clock compares with UTC, beside what its devices said.

Two gateways stamp by two clocks. With these blocks in a session its samples can be lined up later, by what each
gateway knew of its own clock at the time.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from gateway.clock import BootIds
from gateway.clock_offset import ClockOffset
from protocols.lab_clock import LabClock
from protocols.records import CLOCK, GATEWAY_DEVICE
from protocols.samples import SampleBlock

UNKNOWN_NS: Final = (1 << 63) - 1


class SelfReport:
    """Makes the blocks of the `CLOCK` stream, one sample each.

    Offsets are in lab time, as are the stamps that they belong to: where lab time runs faster, so does an error
    of the clock.

    Parameters
    ----------
    clock
        Lab time.
    boot_ids
        Shared with the devices of the gateway.
    """

    def __init__(self, clock: LabClock, boot_ids: BootIds) -> None:
        self._clock = clock
        self._boot_ids = boot_ids
        self._boot_id = 0
        self._next_index = 0
        self._last_ns: int | None = None

    def block(self, known: ClockOffset) -> SampleBlock:
        """Return what is known of the clock now as a block."""
        now_ns = self._clock.now_ns()
        if self._last_ns is None or now_ns <= self._last_ns:  # first of all, or the clock was set back
            self._boot_id = self._boot_ids.next(now_ns)
            self._next_index = 0
        self._last_ns = now_ns
        index, self._next_index = self._next_index, self._next_index + 1
        return SampleBlock(
            device=GATEWAY_DEVICE,
            stream=CLOCK,
            boot_id=self._boot_id,
            first_index=index,
            start_ns=now_ns,
            values=np.array(self._values(known), np.int64)[:, np.newaxis],
            arrival_ns=now_ns,
            arrival_monotonic_ns=self._clock.monotonic_ns(),
            uncertainty_ns=0,
            times_ns=np.array([now_ns], np.int64),
        )

    def _values(self, known: ClockOffset) -> list[int]:
        if known.offset_ns is None or known.uncertainty_ns is None:
            return [0, UNKNOWN_NS, 0]
        return [self._lab_ns(known.offset_ns), self._lab_ns(known.uncertainty_ns), int(known.synchronised)]

    def _lab_ns(self, real_ns: int) -> int:
        return max(-UNKNOWN_NS, min(UNKNOWN_NS, round(real_ns * self._clock.speed)))
