"""Samples that are missing, and why: the record that stands in for them.

A gateway accounts for every stream of every device it was told to listen to: at any moment there are samples,
or a gap that says why not. A gap begins after a known sample, which gives it its identity
`(gateway, device, stream, after_boot_id, after_index)`, and only ever grows: while it goes on it is declared
again with a later end, and of two records of one gap the one that ends later holds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from protocols.errors import DefinitionError
from protocols.samples import Stream, check_device_name

_INT64_END = 1 << 63


class GapReason(enum.StrEnum):
    """Why samples are missing; new reasons go to the end, for spools and messages name them by their place."""

    LOST_ON_LINK = "lost-on-link"
    """The device took them and was connected; its counter, clock or rate says that they did not arrive."""
    DISCONNECTED = "disconnected"
    """There was no connection to the device."""
    SILENT = "silent"
    """The device was connected and brought nothing."""
    DEVICE_RESTARTED = "device-restarted"
    """The device began a new count; what it took in between, if anything, is unknown."""
    CLOCK_SET = "clock-set"
    """The gateway's clock was set, or its times were corrected by much: a hole in time, whether or not
    (`n_samples` 0) samples are missing."""
    GATEWAY_STOPPED = "gateway-stopped"
    """The gateway did not run, or ended before what it had read was durable."""
    SPOOL_FULL = "spool-full"
    """They arrived, and the gateway's disk or the size or age it may fill there was exhausted."""
    SPOOL_DAMAGED = "spool-damaged"
    """They were durable at the gateway, and its file was damaged before the recorder had them."""
    NOT_UNDERSTOOD = "not-understood"
    """They reached the recorder in a form that made no sense however often they came, and are set aside."""
    UNDECLARED = "undeclared"
    """Nobody said why: found by the store where samples do not follow each other."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Consecutive samples of one stream that are missing.

    Parameters
    ----------
    device, stream
        Whose samples.
    after_boot_id, after_index
        The last sample before the gap. `after_index` is -1, and `after_boot_id` a boot id of the gap's own, if
        no sample is known before it.
    start_ns, end_ns
        UTC, half open: from when the first missing sample was due, up to when the first one after it was taken
        or, while the gap goes on, up to when that was last known.
    n_samples
        How many are missing in each channel; None where nobody knows.
    reason
        Why.

    Raises
    ------
    DefinitionError
        Names the field at fault.
    """

    device: str
    stream: Stream
    after_boot_id: int
    after_index: int
    start_ns: int
    end_ns: int
    n_samples: int | None
    reason: GapReason

    def __post_init__(self) -> None:
        check_device_name(self.device)
        if not 0 <= self.after_boot_id < _INT64_END:
            raise DefinitionError(f"after_boot_id={self.after_boot_id!r}, expected 0 to 2^63-1")
        if not -1 <= self.after_index < _INT64_END:
            raise DefinitionError(f"after_index={self.after_index!r}, expected -1 to 2^63-1")
        if not -_INT64_END <= self.start_ns <= self.end_ns < _INT64_END:
            raise DefinitionError(f"gap from {self.start_ns} to {self.end_ns} ns, expected 64 bits, in order")
        if self.n_samples is not None and not 0 <= self.n_samples < _INT64_END:
            raise DefinitionError(f"n_samples={self.n_samples!r} of a gap, expected 0 to 2^63-1 or None")

    def between(self, start_ns: int, end_ns: int) -> Gap | None:
        """Return the whole gap if any of it lies in `[start_ns, end_ns)`, or None."""
        touches = start_ns < max(self.end_ns, self.start_ns + 1) and self.start_ns < end_ns
        return self if touches else None

    def outlasts(self, other: Gap) -> bool:
        """Return whether this record of the same gap holds rather than the other one."""
        return (self.end_ns, self.n_samples is not None) > (other.end_ns, other.n_samples is not None)
