"""What the gateway needs from any link to a device, whatever radio or wire carries it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self


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

    Entering connects, subscribes and sends the kind's start-up commands, and raises `TransportError` naming the
    device and what was tried. Leaving disconnects, and never raises for a link that is already dead.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def frames(self) -> AsyncIterator[Frame]:
        """Return the frames in order of arrival; ends by raising `TransportError` when the link is lost."""
