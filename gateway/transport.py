"""What the gateway needs from any link to a device, whatever radio or wire carries it.

A link that fails says what kind of trouble it is in, because that decides when the next attempt makes sense: a
radio that hiccups is asked again at once, a device that refuses to pair is not asked ten times a second.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from protocols.errors import TransportError


class Trouble(enum.StrEnum):
    """Why a link cannot be had, or was lost."""

    TRANSIENT = "transient"
    """It may work at the next attempt: interference, a link that broke."""
    BUSY = "busy"
    """Somebody else has it: a radio without a free connection, a port that another process holds."""
    NOT_FOUND = "not found"
    """Device, port or adapter are not there at present."""
    REFUSED = "refused"
    """The device refuses us: it must be paired, or it rejects a command."""
    PERMANENT = "permanent"
    """It is no such device, or cannot be opened with these settings; a person must mend that."""


_PAUSES_S: Final = {
    Trouble.TRANSIENT: (0.1, 2.0),
    Trouble.BUSY: (1.0, 4.0),
    Trouble.NOT_FOUND: (0.1, 1.0),  # short also in the end: to look is what finds a device that comes back
    Trouble.REFUSED: (1.0, 30.0),
    Trouble.PERMANENT: (2.0, 60.0),
}
"""The first pause and the longest, in real seconds."""


class LinkError(TransportError):
    """A link that cannot be had, or was lost; `trouble` says what kind of failure it is."""

    def __init__(self, message: str, trouble: Trouble = Trouble.TRANSIENT) -> None:
        super().__init__(message)
        self.trouble = trouble


def pause_s(error: TransportError, n_failures: int) -> float:
    """Return how long to wait before the next attempt, in real seconds.

    Parameters
    ----------
    error
        The latest failure; one that does not tell its kind is taken to be transient.
    n_failures
        How many attempts have failed in a row, at least 1: the pause doubles with each, up to its kind's limit.
    """
    first_s, longest_s = _PAUSES_S[getattr(error, "trouble", Trouble.TRANSIENT)]
    return float(min(first_s * 2.0 ** min(n_failures - 1, 16), longest_s))


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes as one delivery of a link handed them over.

    Parameters
    ----------
    source
        What the decoder is fed under: a characteristic's UUID, or `protocols.devices.kind.SERIAL_SOURCE`.
    data
        The bytes of one notification, or those that one read of a port returned.
    arrival_ns, arrival_monotonic_ns
        Lab time and the lab's monotonic clock, read as soon as the bytes reached this process.
    """

    source: str
    data: bytes
    arrival_ns: int
    arrival_monotonic_ns: int


class Transport(Protocol):
    """One connection to one device; a new object for every attempt.

    Entering connects, subscribes and sends the kind's start-up commands, and raises `TransportError` (mostly a
    `LinkError`, see `pause_s`) naming the device and what was tried. Leaving disconnects, and never raises for
    a link that is already dead.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def frames(self) -> AsyncIterator[Frame]:
        """Return the frames in order of arrival; ends by raising `TransportError` when the link is lost."""

    async def revive(self) -> bool:
        """Subscribe anew and start anew over the live connection, for a device that fell silent.

        Returns whether the device took it; never raises. Frames may go on arriving meanwhile.
        """
