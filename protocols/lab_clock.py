"""Lab time: the one time line that gateway, simulators and recorder share.

Lab time is UTC, or runs at a stated multiple of it from a stated origin so that an hour of simulated trial can
pass in a minute. Two processes given the same origin and speed agree on lab time. The clock reads nothing by
itself: whoever owns a process hands in how UTC and the monotonic clock are read there.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protocols.errors import DefinitionError

MIN_SPEED: Final = 1e-3
MAX_SPEED: Final = 1e4

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class LabClock:
    """Reads lab time.

    Parameters
    ----------
    read_utc_ns, read_monotonic_ns
        The machine's clocks, such as `time.time_ns` and `time.monotonic_ns`.
    speed
        Lab seconds per real second, `MIN_SPEED` to `MAX_SPEED`.
    origin_ns
        The UTC at which lab time equals UTC; without effect at speed 1.

    Raises
    ------
    DefinitionError
        If `speed` lies outside.
    """

    read_utc_ns: Callable[[], int]
    read_monotonic_ns: Callable[[], int]
    speed: float = 1.0
    origin_ns: int = 0

    def __post_init__(self) -> None:
        if not MIN_SPEED <= self.speed <= MAX_SPEED:
            raise DefinitionError(f"speed={self.speed!r}, expected {MIN_SPEED:g} to {MAX_SPEED:g}")

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


def parse_origin_ns(what: str, origin: datetime.datetime | str | None, speed: float = 1.0) -> int:
    """Return an origin of lab time, as a person wrote it, in ns since 1970; whole microseconds.

    Parameters
    ----------
    what
        How the person knows it, for the message: such as `--origin`.
    origin
        A moment with its time zone, or its text in ISO 8601; None will do at speed 1, and is 0 then.
    speed
        Of lab time.

    Raises
    ------
    DefinitionError
        If it is no such moment, or missing.
    """
    if origin is None:
        if speed != 1:
            raise DefinitionError(f"no {what} at speed {speed!r}, expected the UTC where lab time begins")
        return 0
    moment = origin
    try:
        if isinstance(moment, str):
            moment = datetime.datetime.fromisoformat(moment)
        return (moment - _EPOCH) // datetime.timedelta(microseconds=1) * 1000
    except (ValueError, TypeError) as error:  # TypeError: a moment without time zone cannot be subtracted
        raise DefinitionError(
            f"{what} {origin}, expected a moment with its time zone, such as 2026-01-31T12:00:00Z"
        ) from error
