"""What health figures are made of: how a gateway is at one moment, and its counts some minutes before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gateway.clock_offset import ClockOffset
    from gateway.device_health import DeviceHealth, StreamHealth
    from gateway.supervisor import GatewayHealth


@dataclass(frozen=True, slots=True)
class Disk:
    """The spool's disk: free bytes, and the size of the spool's files."""

    free_bytes: int
    spool_bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known at one moment.

    Parameters
    ----------
    gateway
        Gateway and devices.
    taken_s
        When, on the machine's monotonic clock.
    now_ns
        Lab time.
    max_spool_bytes, put_bytes
        How much backlog the spool may hold, and how much was put into it since the gateway started.
    disk, clock
        The spool's disk, and what is known of this machine's clock; None where that is not known.
    speed
        Lab seconds per real second.
    """

    gateway: GatewayHealth
    taken_s: float
    now_ns: int
    max_spool_bytes: int
    put_bytes: int
    disk: Disk | None = None
    clock: ClockOffset | None = None
    speed: float = 1.0

    @property
    def given_up_blocks(self) -> int:
        """How many blocks the spool refused, or dropped as too old, since the gateway started."""
        return self.gateway.refused_blocks + self.gateway.expired_blocks


class Counts(NamedTuple):
    """The counts of a snapshot that rates are made of."""

    taken_s: float
    put_bytes: int
    given_up_blocks: int
    frames: Mapping[str, int]
    decode_errors: Mapping[str, int]
    samples: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class OfGateway:
    """What the figures of a gateway are made of: now, and the counts some minutes ago."""

    now: Snapshot
    before: Counts | None


@dataclass(frozen=True, slots=True)
class OfDevice:
    """What the figures of a device are made of: now, and the counts a minute ago."""

    now: Snapshot
    before: Counts | None
    device: DeviceHealth


@dataclass(frozen=True, slots=True)
class OfStream:
    """What the figures of a stream are made of: now, and the counts a minute ago."""

    now: Snapshot
    before: Counts | None
    device: DeviceHealth
    stream: StreamHealth
