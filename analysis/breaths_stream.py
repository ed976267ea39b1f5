"""Breaths of a respiration signal that is still being recorded.

`BreathStream` finds the very breaths that `breaths.detect_breaths` finds in the whole signal, however the
samples arrive. A breath is reported once nothing that is still to come can change it, 25 to 30 s later;
`expected` are those found so far that something still could, and what a display shows. Some three minutes of
the past are kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_signal
from analysis.breaths import AFTER_S, BEFORE_S, breaths_of_stretch, checked_rate_hz, unit_samples
from protocols.errors import SignalError

_NOTHING: NDArray[np.int64] = np.empty(0, dtype=np.int64)


class BreathStream:
    """Finds the breaths of one signal as it comes.

    Parameters
    ----------
    rate_hz
        Sampling rate, at least 4.

    Raises
    ------
    SignalError
        If the rate is below 4 Hz.
    """

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = checked_rate_hz(rate_hz)
        self._unit = unit_samples(self._rate_hz)
        self._before, self._after = (
            self._unit * int(np.ceil(length_s * self._rate_hz / self._unit)) for length_s in (BEFORE_S, AFTER_S)
        )
        self._kept: NDArray[Any] = np.empty(0)
        self._start = 0  # index of the first sample kept, a multiple of the unit
        self._settled = 0  # breaths before it have been reported
        self._ended = False

    @property
    def latency_s(self) -> float:
        """How long after a breath it is reported at the latest, if samples come without delay."""
        return (self._after + self._unit) / self._rate_hz

    def push(self, samples: ArrayLike) -> NDArray[np.int64]:
        """Take the next samples, shape (n,), and return the breaths that they settle.

        Returns
        -------
        Indices counted from the first sample ever pushed, ascending, shape (n_breaths,).

        Raises
        ------
        SignalError
            If the samples are not one-dimensional, not real or infinite, or if the stream was flushed.
        """
        if self._ended:
            raise SignalError("push after flush, expected a new BreathStream")
        chunk = as_signal(samples, name="samples")
        if chunk.ndim != 1:
            raise SignalError(f"samples of shape {chunk.shape}, expected one dimension")
        step = self._before  # bounds the memory
        return np.concatenate(
            [_NOTHING, *(self._take(chunk[k : k + step]) for k in range(0, chunk.size, step))]
        )

    def flush(self) -> NDArray[np.int64]:
        """Return the breaths that the end of the signal settles; nothing may be pushed any more."""
        found = self.expected()
        self._ended = True
        self._settled, self._kept = self._start + self._kept.size, np.empty(0)
        return found

    def expected(self) -> NDArray[np.int64]:
        """Return the breaths found since those reported, as if the signal ended here."""
        return self._breaths(self._settled, self._start + self._kept.size)

    def _take(self, chunk: NDArray[Any]) -> NDArray[np.int64]:
        self._kept = np.concatenate([self._kept, chunk]) if self._kept.size else chunk.copy()
        until = (self._start + self._kept.size - self._after) // self._unit * self._unit
        if until <= self._settled:
            return _NOTHING
        found = self._breaths(self._settled, until)
        self._settled = until
        start = max(0, until - self._before)
        self._kept, self._start = self._kept[start - self._start :].copy(), start
        return found

    def _breaths(self, start: int, end: int) -> NDArray[np.int64]:
        """Return the breaths from sample `start` to before `end`."""
        breaths = self._start + breaths_of_stretch(self._kept, rate_hz=self._rate_hz)
        return breaths[(breaths >= start) & (breaths < end)]
