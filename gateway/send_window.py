"""Which blocks to publish next, and when to publish some again; without I/O.

From the birth of a connection on, what is committed newly is live and goes at once. What was there before is
history and drains beside it, at most a window ahead of the watermark::

    acknowledged      history            born                 live
    .............|=======>-------------------|===================>|
                 `- in flight -' ` waiting   '  sent at once      committed

The recorder's watermark is cumulative: while history drains it says nothing about live blocks, so these have a
wider window of their own; it passes over them at once when history meets them. If it does not move although
blocks are in flight, the first few behind it are sent again. The recorder knows what it has of the rest: if all
that was missing is among these the watermark jumps, and if it stops just behind them more are sent again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

WINDOW_BLOCKS: Final = 500
LIVE_WINDOW_BLOCKS: Final = 20_000
STALL_S: Final = 2.0
LONGEST_STALL_S: Final = 30.0
FIRST_AGAIN_BLOCKS: Final = 50


class Kind(enum.Enum):
    """Why blocks are published."""

    LIVE = enum.auto()
    AGAIN = enum.auto()
    HISTORY = enum.auto()


@dataclass(frozen=True, slots=True)
class Chunk:
    """Blocks to publish: at most `limit` after `after_seq`."""

    kind: Kind
    after_seq: int
    limit: int


class SendWindow:
    """What of one spool was sent, is in flight, and is next.

    Parameters
    ----------
    acknowledged
        The watermark.
    window_blocks
        Most blocks ahead of the watermark, live ones beside history not counted.
    stall_s
        Time without progress of the watermark after which blocks are sent again; doubles up to
        `LONGEST_STALL_S` while nothing moves.
    """

    def __init__(
        self, acknowledged: int, *, window_blocks: int = WINDOW_BLOCKS, stall_s: float = STALL_S
    ) -> None:
        self._window = window_blocks
        self._first_stall_s = self._stall_s = stall_s
        self._acknowledged = self._born_at = self._history = self._live = self._proven = acknowledged
        self._again = self._again_end = acknowledged
        self._again_blocks = FIRST_AGAIN_BLOCKS
        self._earlier: list[tuple[int, int]] = []
        self._moved_s = 0.0

    @property
    def acknowledged(self) -> int:
        """The watermark."""
        return self._acknowledged

    def born(self, acknowledged: int, committed: int, now_s: float) -> None:
        """Begin anew after births: everything committed by now is history."""
        runs = [(self._acknowledged, self._history), (self._born_at, self._live)]
        self._earlier += [run for run in runs if run[0] < run[1] and run not in self._earlier]
        self._acknowledged = self._history = self._again = self._again_end = acknowledged
        self._born_at = self._live = committed
        self._moved_s = now_s
        self._forget()

    def next(self, committed: int, limit: int) -> Chunk | None:
        """Return what to publish next, at most `limit` blocks; live ones come first."""
        live_window = self._window if self._drained else LIVE_WINDOW_BLOCKS
        ahead = self._live - max(self._born_at, self._acknowledged)
        room = min(limit, committed - self._live, live_window - ahead)
        if room > 0:
            return Chunk(Kind.LIVE, self._live, room)
        if self._again < self._again_end:
            return Chunk(Kind.AGAIN, self._again, min(limit, self._again_end - self._again))
        room = min(limit, self._born_at - self._history, self._window - (self._history - self._acknowledged))
        if room > 0:
            return Chunk(Kind.HISTORY, self._history, room)
        return None

    def sent(self, kind: Kind, seq: int, now_s: float) -> bool:
        """Take note that a block was published; return whether it had been before."""
        again = kind is Kind.AGAIN or any(first < seq <= last for first, last in self._earlier)
        if self._in_order <= self._acknowledged:
            self._moved_s = now_s
        match kind:
            case Kind.LIVE:
                self._live = seq
            case Kind.AGAIN:
                self._again = seq
            case Kind.HISTORY:
                self._history = seq
        self._proven = max(self._proven, self._in_order)
        return again

    def believes(self, seq: int) -> bool:
        """Return whether the recorder can have everything up to that block."""
        return seq <= self._proven

    def acknowledge(self, seq: int, now_s: float) -> None:
        """Take a watermark that has moved on."""
        stopped_behind_again = self._again_end == seq == self._again
        self._acknowledged = seq
        self._moved_s = now_s
        self._stall_s = self._first_stall_s
        self._history = max(self._history, min(seq, self._born_at))
        self._live = max(self._live, seq)
        self._again = max(self._again, seq)
        if stopped_behind_again and seq < self._in_order:
            self._again_blocks *= 2
            self._send_again()
        elif seq > self._again_end:
            self._again_blocks = FIRST_AGAIN_BLOCKS
        self._forget()

    def go_back_if_stalled(self, now_s: float) -> None:
        """Send some again if the watermark has not moved for too long."""
        if self._in_order > self._acknowledged and now_s - self._moved_s > self._stall_s:
            self._stall_s = min(2 * self._stall_s, LONGEST_STALL_S)
            self._moved_s = now_s
            self._again_blocks = FIRST_AGAIN_BLOCKS
            self._send_again()

    @property
    def _drained(self) -> bool:
        return self._acknowledged >= self._born_at

    @property
    def _in_order(self) -> int:
        """The last block up to which all were sent."""
        return self._history if self._history < self._born_at else self._live

    def _send_again(self) -> None:
        self._again = self._acknowledged
        self._again_end = min(self._acknowledged + self._again_blocks, self._in_order)

    def _forget(self) -> None:
        self._earlier = [run for run in self._earlier if run[1] > self._acknowledged]
