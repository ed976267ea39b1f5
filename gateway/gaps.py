"""One stream's account: after which sample others are missing, since when, and why.

Between the last stored sample and the next one lies at most one gap, named by the sample before it::

    stored ──────┤ due          missing            ├────── stored
                 └── start ── gap, growing ── end ─┘

What happens in between is remembered as the cause; the first one holds, because it began the gap, except that a
full spool explains more than what came before it. When the next sample is placed, its index tells how many are
missing if its count is the one before it went on; otherwise nobody knows.

Of events a device may have none to tell, so that their gap may end without a sample. It is then settled, and
what goes missing later, still without one, is a gap of its own, after no known sample.

A gap is declared before the block that ends it, so that no kill can leave the one without the other, and again
with a later end if that block is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from gateway.spool import Position
from protocols.gaps import Gap, GapReason
from protocols.records import Record
from protocols.samples import SampleBlock, Stream


class StreamAccount:
    """Accounts for every moment of one stream of one device.

    Whoever keeps it puts what `before`, `refused` and `declaration` return into the spool.

    Parameters
    ----------
    device, stream
        Whose samples.
    position
        The last stored sample; of a stream that was never seen, index -1, a boot id of its own and the moment
        from which on it is accounted for.
    cause
        Why nothing follows it so far.
    new_boot_id
        Gives a gap that begins after no known sample a boot id of its own.
    """

    def __init__(
        self,
        device: str,
        stream: Stream,
        position: Position,
        cause: GapReason,
        *,
        new_boot_id: Callable[[], int],
    ) -> None:
        self.device = device
        self.stream = stream
        self.position = position
        self._due_ns = position.due_ns
        self._new_boot_id = new_boot_id
        self.cause: GapReason | None = cause
        self._open: Gap | None = None
        self._declared: Gap | None = None
        self._settled = False
        self._ended_gaps = self._ended_lost = 0

    @property
    def open(self) -> bool:
        """Whether samples are known to be missing now."""
        return self._open is not None and not self._settled

    @property
    def gaps(self) -> int:
        """How many gaps there were, the present one included."""
        return self._ended_gaps + (self._open is not None and self._open.n_samples != 0)

    @property
    def lost(self) -> int:
        """How many samples were missing in all gaps, as far as known."""
        return self._ended_lost + (self._open.n_samples or 0 if self._open is not None else 0)

    def begin(self) -> Gap | None:
        """Declare from when on the stream is accounted for, so that no kill makes that forgotten."""
        if self.cause is not None:
            self._open = self._gap(self.position.due_ns, None, self.cause)
        return self.declaration(again=False)

    def blame(self, reason: GapReason) -> None:
        """Take note of what may keep samples away from now on."""
        self._end_settled()
        self.cause = self.cause or reason

    def grow(self, end_ns: int) -> None:
        """Take note that nothing came up to `end_ns`, for the reason blamed."""
        if self.cause is not None and not self._settled and end_ns > self._due_ns:
            self._open = self._gap(end_ns, None, self.cause)

    def settle(self, end_ns: int) -> None:
        """Let the gap end there: up to then, and from now on, the device may have nothing to say."""
        self.grow(end_ns)
        self._settled = self._open is not None
        if self.stream.rate_hz is None:
            self._due_ns = end_ns

    def before(self, block: SampleBlock, *, same_count: bool) -> Gap | None:
        """Return the gap that ends with a block about to be stored, if there is one to declare.

        Parameters
        ----------
        same_count
            Whether the block's index goes on from the last stored sample's.
        """
        if self._settled and self.stream.rate_hz is None:
            return self.declaration(again=True)
        missing = self._missing(block.first_index, same_count=same_count)
        if missing == 0 and self._open is None and block.boot_id == self.position.boot_id:
            return None
        anew = GapReason.CLOCK_SET if same_count else GapReason.DEVICE_RESTARTED
        lost = GapReason.LOST_ON_LINK if block.boot_id == self.position.boot_id else anew
        self._open = self._gap(block.start_ns, missing, self.cause or lost)
        return self.declaration(again=True)

    def stored(self, block: SampleBlock) -> None:
        """Go on from the end of a block that was stored."""
        self._ended_gaps, self._ended_lost = self.gaps, self.lost
        self.position = _end_of(block)
        self._due_ns = self.position.due_ns
        self.cause = self._open = self._declared = None
        self._settled = False

    def refused(self, block: SampleBlock, *, same_count: bool) -> None:
        """Count a block that the spool did not take."""
        self._end_settled()
        self.cause = GapReason.SPOOL_FULL
        missing = self._missing(block.first_index + block.n_samples, same_count=same_count)
        self._open = self._gap(_end_of(block).due_ns, missing, self.cause)

    def declaration(self, *, again: bool) -> Gap | None:
        """Return the present gap if it was not declared yet or, with `again`, if it has changed since."""
        if self._open is None or self._open == self._declared or not (again or self._declared is None):
            return None
        if self._declared is not None and not self._open.outlasts(self._declared):
            declared = self._declared  # UTC was set back: what was said of the time holds
            self._open = replace(self._open, start_ns=declared.start_ns, end_ns=declared.end_ns + 1)
        self._declared = self._open
        return self._open

    def _end_settled(self) -> None:
        """Let events that are missing from now on be another gap than the one that was settled."""
        if self._settled and self.stream.rate_hz is None:
            self._ended_gaps, self._ended_lost = self.gaps, self.lost
            self.position = Position(self._new_boot_id(), -1, self._due_ns)
            self.cause = self._open = self._declared = None
        self._settled = False

    def _missing(self, next_index: int, *, same_count: bool) -> int | None:
        uncounted = self.stream.rate_hz is None and self.cause not in (None, GapReason.SPOOL_FULL)
        return next_index - self.position.last_index - 1 if same_count and not uncounted else None

    def _gap(self, end_ns: int, n_samples: int | None, reason: GapReason) -> Gap:
        return Gap(
            device=self.device,
            stream=self.stream,
            after_boot_id=self.position.boot_id,
            after_index=self.position.last_index,
            start_ns=min(self._due_ns, end_ns),
            end_ns=end_ns,
            n_samples=n_samples,
            reason=reason,
        )


def position_after(record: Record) -> Position | None:
    """Return where its stream stands after a record, to be kept with it; None if that is not told."""
    if isinstance(record, Gap):
        return Position(record.after_boot_id, record.after_index, record.start_ns, record.reason)
    return _end_of(record) if isinstance(record, SampleBlock) else None


def _end_of(block: SampleBlock) -> Position:
    """Return the last sample of a block, and when the next one is due."""
    if block.times_ns is not None:
        due_ns = int(block.times_ns[-1]) + 1
    else:
        due_ns = block.start_ns + round(block.n_samples * 1e9 / (block.stream.rate_hz or math.nan))
    return Position(block.boot_id, block.first_index + block.n_samples - 1, due_ns)
