"""Lab time: the one time line that gateway, simulators and recorder share.

Lab time is UTC, or runs at a stated multiple of it from a stated origin so that an hour of simulated trial can
pass in a minute. Two processes given the same origin and speed agree on lab time. The clock reads nothing by
itself: whoever owns a process hands in how UTC and the monotonic clock are read there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from protocols.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class LabClock:
    """Reads lab time.

    Parameters
    ----------
    read_utc_ns, read_monotonic_ns
        The machine's clocks, such as `time.time_ns` and `time.monotonic_ns`.
    speed
        Lab seconds per real second, finite and positive.
    origin_ns
        The UTC at which lab time equals UTC; without effect at speed 1.

    Raises
    ------
    DefinitionError
        If `speed` is not finite and positive.
    """

    read_utc_ns: Callable[[], int]
    read_monotonic_ns: Callable[[], int]
    speed: float = 1.0
    origin_ns: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.speed) and self.speed > 0):
            raise DefinitionError(f"speed={self.speed!r}, expected a finite number > 0")

    def now_ns(self) -> int:
        """Return lab time in ns since 1970."""
        utc_ns = self.read_utc_ns()
        if self.speed == 1:
            return utc_ns
        return self.origin_ns + round((utc_ns - self.origin_ns) * self.speed)

    def monotonic_ns(self) -> int:
        """Return a lab clock that no wall-clock step disturbs, in ns of no particular epoch."""
        return round(self.read_monotonic_ns() * self.speed)

    def real_s(self, lab_s: float) -> float:
        """Return how many real seconds `lab_s` lab seconds take."""
        return lab_s / self.speed
