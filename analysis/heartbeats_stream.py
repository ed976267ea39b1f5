"""Heartbeats of an electrocardiogram that is still being recorded.

`QrsStream` finds the very beats that `heartbeats.detect_qrs` finds in the whole recording, however the samples
arrive. A beat is reported once nothing that is still to come can change it; `expected` are those found so far
that something still could. As much of the past is kept as a decision may rest on, about a minute.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_signal
from analysis.heartbeats import CONTEXT_S, SHORTEST_S, beats_of_stretch, check_rate, settled, unit_samples
from protocols.errors import SignalError

_NOTHING: NDArray[np.int64] = np.empty(0, dtype=np.int64)


class QrsStream:
    """Finds the beats of one lead as it comes.

    Parameters
    ----------
    rate_hz
        Sampling rate, at least 100.

    Raises
    ------
    SignalError
        If the rate is below 100 Hz.
    """

    def __init__(self, rate_hz: float) -> None:
        check_rate(rate_hz)
        self._rate_hz = float(rate_hz)
        self._unit = unit_samples(self._rate_hz)
        self._context = int(np.ceil(CONTEXT_S * self._rate_hz / self._unit)) * self._unit
        self._kept: NDArray[Any] = np.empty(0)
        self._start = 0  # index of the first sample kept, a multiple of the unit
        self._settled = 0  # beats whose energy peaks before it have been reported
        self._ended = False

    @property
    def latency_s(self) -> float:
        """How long after a beat it is reported at the latest, if samples come without delay."""
        return (self._context + self._unit) / self._rate_hz

    def push(self, samples: ArrayLike) -> NDArray[np.int64]:
        """Take the next samples, shape (n,), and return the beats that they settle.

        Returns
        -------
        Indices counted from the first sample ever pushed, ascending, shape (n_beats,).

        Raises
        ------
        SignalError
            If the samples are not one-dimensional, not real or infinite, or if the stream was flushed.
        """
        if self._ended:
            raise SignalError("push after flush, expected a new QrsStream")
        chunk = as_signal(samples, name="samples")
        if chunk.ndim != 1:
            raise SignalError(f"samples of shape {chunk.shape}, expected one dimension")
        step = self._context  # bounds the memory
        return np.concatenate(
            [_NOTHING, *(self._take(chunk[k : k + step]) for k in range(0, chunk.size, step))]
        )

    def flush(self) -> NDArray[np.int64]:
        """Return the beats that the end of the signal settles; nothing may be pushed any more."""
        found = self.expected()
        self._ended = True
        self._kept, self._settled = np.empty(0), self._start + self._kept.size
        return found

    def expected(self) -> NDArray[np.int64]:
        """Return the beats found since those reported, as if the signal ended here."""
        received = self._start + self._kept.size
        return _NOTHING if received < SHORTEST_S * self._rate_hz else self._beats(self._settled, received)

    def _take(self, chunk: NDArray[Any]) -> NDArray[np.int64]:
        self._kept = np.concatenate([self._kept, chunk]) if self._kept.size else chunk.copy()
        until = (self._start + self._kept.size - self._context) // self._unit * self._unit
        if until <= self._settled:
            return _NOTHING
        found = self._beats(self._settled, until)
        self._settled = until
        start = max(0, until - self._context)
        self._kept, self._start = self._kept[start - self._start :].copy(), start
        return found

    def _beats(self, start: int, end: int) -> NDArray[np.int64]:
        """Return the beats whose energy peaks from sample `start` to before `end`."""
        centres, beats = beats_of_stretch(self._kept, rate_hz=self._rate_hz)
        centres = centres + self._start
        return settled(np.where(beats >= 0, beats + self._start, -1)[(centres >= start) & (centres < end)])
