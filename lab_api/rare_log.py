"""A log that a flood cannot fill: one line for each kind of message and minute, with how many there were."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

INTERVAL_S: Final = 60.0


@dataclass(slots=True)
class _Kind:
    next_s: float
    unsaid: int = 0


class RareLog:
    """Logs the first message of a kind at once, and what follows within a minute as a number in the next line.

    Parameters
    ----------
    log
        Where lines go.
    monotonic_s
        The time.
    """

    def __init__(self, log: logging.Logger, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._monotonic_s = monotonic_s
        self._kinds: dict[str, _Kind] = {}

    def line(self, level: int, kind: str, message: str) -> None:
        """Log a message of a kind, of which there must be few."""
        now_s = self._monotonic_s()
        known = self._kinds.get(kind)
        if known is not None and now_s < known.next_s:
            known.unsaid += 1
            return
        more = f" (and {known.unsaid} more {kind} before)" if known is not None and known.unsaid else ""
        self._kinds[kind] = _Kind(now_s + INTERVAL_S)
        self._log.log(level, "%s%s", message, more)
