"""Putting a node's messages back into their order, by the number from 0 to 255 that each carries.

A message that comes early is held, and a timer starts, until those before it are there (specification 3.0,
chapter 5, host application message ordering). When the timer runs out, or so many came early that a number
could mean two of them, what is missing is given up and what was held goes on.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

MAX_HELD: Final = 127

_NUMBERS: Final = 256
_Message = TypeVar("_Message")


class MessageOrder(Generic[_Message]):
    """The order of one node's messages since its birth.

    Parameters
    ----------
    timeout_ms
        How long a missing message is waited for.
    first_seq
        The number of the birth; the next message has the one after it.
    """

    def __init__(self, timeout_ms: int, *, first_seq: int) -> None:
        self._timeout_ms = timeout_ms
        self._next = (first_seq + 1) % _NUMBERS
        self._newest = first_seq
        self._held: dict[int, _Message | None] = {}
        self._waiting_since_ms = 0

    def put(self, seq: int, message: _Message | None, now_ms: int) -> list[_Message]:
        """Note that a message has come; return those whose turn it is now, in order.

        Of a message that does not have to wait for its turn, only the number is given, with None.
        """
        self._newest = seq
        if seq == self._next and not self._held:
            self._next = (seq + 1) % _NUMBERS
            return [] if message is None else [message]
        self._held[seq] = message
        if seq != self._next:
            if len(self._held) == 1:
                self._waiting_since_ms = now_ms
            return []
        due = []
        while self._next in self._held:
            held = self._held.pop(self._next)
            self._next = (self._next + 1) % _NUMBERS
            if held is not None:
                due.append(held)
        self._waiting_since_ms = now_ms
        return due

    def is_missing(self, now_ms: int) -> bool:
        """Return whether a message has been waited for in vain."""
        waited_ms = now_ms - self._waiting_since_ms
        return bool(self._held) and (not 0 <= waited_ms < self._timeout_ms or len(self._held) > MAX_HELD)

    def give_up(self) -> list[_Message]:
        """Wait no more; return what was held, in order, and go on after the newest message."""
        in_order = sorted(self._held, key=lambda seq: (seq - self._next) % _NUMBERS)
        held = [self._held[seq] for seq in in_order]
        self._held.clear()
        self._next = (self._newest + 1) % _NUMBERS
        return [message for message in held if message is not None]
