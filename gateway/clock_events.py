"""The connection events of a BLE link, found from when its frames arrive.

A BLE frame waits for the next connection event, and events come at a fixed interval, a multiple of 1.25 ms. So
arrivals cluster at one phase of that interval, a little late by what the host adds. Where interval and phase
are known, an arrival can be put back to its event, which takes the host's share away.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

UNIT_NS: Final = 1_250_000
LEAST_UNITS: Final = 6
"""Connection intervals are multiples of 1.25 ms from 7.5 ms on (Bluetooth Core 5.4, vol. 6, part B, 4.5.1)."""
RADIO_PPM: Final = 60
"""So fast the radio's clock may run away from the host's."""

_ARRIVALS: Final = 64
_ENOUGH: Final = 16
_CLUSTERED: Final = 0.85
_WIDTH_NS: Final = 1_500_000
_WIDTH_SHARE: Final = 0.15
"""Arrivals cluster if that share of them lies so near to one phase, in ns and in intervals."""
_EARLY_NS: Final = 1_000_000
_ODD_SHARE: Final = 0.25
_MOST_ODD: Final = 12
"""Arrivals later than that share of the interval are odd; so many more odd ones than others show a new one."""
_REFUTED: Final = 3
_REFUTED_FOR_NS: Final = 600_000_000_000
_LONGER: Final = 4
"""An interval contradicted three times is refuted: for ten minutes only longer ones are looked for, up to four
times the longest ordinary one. Not at once, as what contradicts may be the device's clock."""


class ConnectionEvents:
    """Finds and follows the events of one connection, and finds them again after the interval was changed.

    Parameters
    ----------
    longest_ns
        Longest interval that is looked for.
    speed
        Lab seconds per real second.

    Attributes
    ----------
    interval_ns
        None until known. Where all frames come equally far apart, it is the longest interval that explains
        this; the true one may be a part of it.
    odd
        Whether the latest arrival was so late after an event that it may belong to another one.
    """

    def __init__(self, *, longest_ns: int, speed: float = 1.0) -> None:
        self.interval_ns: float | None = None
        self.odd = False
        units = np.arange(LEAST_UNITS, int(_LONGER * longest_ns / (UNIT_NS * speed)) + 1)
        self._candidates_ns = units * (UNIT_NS * speed)
        self._longest_ns = longest_ns
        self._width_ns = _WIDTH_NS * speed
        self._speed = speed
        self._early_ns = _EARLY_NS * speed
        self._arrivals: deque[int] = deque(maxlen=_ARRIVALS)
        self._n_new = 0
        self._event_ns = 0.0
        self._n_odd = 0
        self._contradicted_ns = 0.0
        self._contradictions = 0
        self._refuted_ns = self._refuted_until_ns = 0.0

    def latency_ns(self, arrival_ns: int) -> float:
        """Learn of an arrival; return how long before it the event was, 0 if unknown."""
        self._arrivals.append(arrival_ns)
        if self.interval_ns is None:
            self._n_new += 1
            if self._n_new % _ENOUGH == 0:
                self._find()
            return 0.0
        elapsed_ns = arrival_ns - self._event_ns
        n_events = (elapsed_ns + self._early_ns) // self.interval_ns
        latency_ns = elapsed_ns - n_events * self.interval_ns - abs(elapsed_ns) * RADIO_PPM * 1e-6
        latency_ns = max(latency_ns, 0.0)
        self._event_ns = arrival_ns - latency_ns
        self.odd = latency_ns > _ODD_SHARE * self.interval_ns
        if self.odd:
            latency_ns = 0.0
        self._watch()
        return latency_ns

    def forget(self) -> None:
        """Look for the events anew, among the arrivals from now on."""
        self._lose()
        self._arrivals.clear()
        self._contradicted_ns = 0.0
        self._refuted_ns = self._refuted_until_ns = 0.0

    def contradict(self) -> None:
        """Look anew, because frames come later than the interval explains; in the end only for longer ones."""
        if self.interval_ns is not None:
            known = self.interval_ns <= self._contradicted_ns
            self._contradictions = self._contradictions + 1 if known else 1
            self._contradicted_ns = self.interval_ns
            if self._contradictions >= _REFUTED:
                self._refuted_ns = self.interval_ns
                self._refuted_until_ns = self._event_ns + _REFUTED_FOR_NS * self._speed
        self._lose()
        self._arrivals.clear()

    def _lose(self) -> None:
        self.interval_ns = None
        self.odd = False
        self._n_odd = self._n_new = 0

    def _watch(self) -> None:
        """Look for the interval anew once most frames no longer come shortly after an event."""
        self._n_odd = max(self._n_odd + (1 if self.odd else -1), 0)
        if self._n_odd >= _MOST_ODD:
            self._lose()

    def _find(self) -> None:
        """Take the longest interval of which most arrivals lie near to one phase."""
        last_ns = self._arrivals[-1]
        since_ns = np.array([arrival_ns - last_ns for arrival_ns in self._arrivals], np.float64)
        turns = since_ns / self._candidates_ns[:, np.newaxis]
        phases = np.angle(np.exp(2j * np.pi * turns).mean(axis=1, keepdims=True)) / (2 * np.pi)
        lags_ns = (np.mod(turns - phases + 0.5, 1.0) - 0.5) * self._candidates_ns[:, np.newaxis]
        widths_ns = np.minimum(self._width_ns, _WIDTH_SHARE * self._candidates_ns)
        shares = (np.abs(lags_ns) <= widths_ns[:, np.newaxis]).mean(axis=1)
        if last_ns > self._refuted_until_ns:
            self._refuted_ns = 0.0
        longest_ns = _LONGER * self._longest_ns if self._refuted_ns else self._longest_ns
        possible = (self._candidates_ns > self._refuted_ns) & (self._candidates_ns <= longest_ns)
        clustered = np.flatnonzero(possible & (shares >= _CLUSTERED))
        if clustered.size:
            best = clustered[-1]
            self.interval_ns = float(self._candidates_ns[best])
            self._event_ns = last_ns - float(lags_ns[best, -1] - np.quantile(lags_ns[best], 0.1))
