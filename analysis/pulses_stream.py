"""Pulses of a photoplethysmogram that is still being recorded.

`PulseStream` finds the very pulses that `pulses.detect_pulses` finds in the whole signal, however the samples
arrive. It keeps as much of the past as a decision may rest on, about 100 s, and reports a pulse once nothing
that is still to come can change it: 20 to 22 s after the pulse, or 12 to 14 s if the polarity is given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_signal
from analysis.pulses import (
    BLOCKS_AFTER,
    BLOCKS_BEFORE,
    SHORTEST_S,
    Polarity,
    block_samples,
    check_options,
    pulses_of_stretch,
)
from protocols.errors import SignalError


class PulseStream:
    """Finds the pulses of one signal as it comes.

    Parameters
    ----------
    rate_hz
        Sampling rate, at least 20.
    polarity
        As in `detect_pulses`.

    Raises
    ------
    SignalError
        If the rate is below 20 Hz or the polarity is none of the three.
    """

    def __init__(self, rate_hz: float, *, polarity: Polarity = "auto") -> None:
        check_options(rate_hz, polarity)
        self._rate_hz = float(rate_hz)
        self._polarity: Polarity = polarity
        self._block = block_samples(self._rate_hz)
        self._start = 0  # index of the first sample kept, always that of a block
        self._settled = 0  # no pulse before it is still to be reported
        self._due = 0  # from this number of samples on, looking again may settle something
        self._kept: NDArray[Any] = np.empty(0)
        self._ended = False

    @property
    def latency_s(self) -> float:
        """How long after a pulse it is reported at the latest, if samples come without delay."""
        return (BLOCKS_AFTER[self._polarity] + 1) * self._block / self._rate_hz

    def push(self, samples: ArrayLike) -> NDArray[np.int64]:
        """Take the next samples, shape (n,), and return the pulses settled by them.

        Returns
        -------
        Indices from the first sample ever pushed, ascending, shape (n_pulses,).

        Raises
        ------
        SignalError
            If the samples are not one-dimensional, not real or infinite, or if the stream was flushed.
        """
        if self._ended:
            raise SignalError("push after flush, expected a new PulseStream")
        chunk = as_signal(samples, name="samples")
        if chunk.ndim != 1:
            raise SignalError(f"samples of shape {chunk.shape}, expected one dimension")
        step = BLOCKS_BEFORE * self._block
        found = [self._take(chunk[k : k + step]) for k in range(0, chunk.size, step)]  # bounds the memory
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)

    def flush(self) -> NDArray[np.int64]:
        """Return the pulses that the end of the signal settles; nothing may be pushed any more."""
        self._ended = True
        received = self._start + self._kept.size
        if received < SHORTEST_S * self._rate_hz:
            return np.empty(0, dtype=np.int64)
        return self._settle(received)

    def _take(self, chunk: NDArray[Any]) -> NDArray[np.int64]:
        self._kept = np.concatenate([self._kept, chunk]) if self._kept.size else chunk.copy()
        received = self._start + self._kept.size
        if received < self._due:
            return np.empty(0, dtype=np.int64)
        self._due = received + self._block // 2
        return self._settle(received - BLOCKS_AFTER[self._polarity] * self._block)

    def _settle(self, until: int) -> NDArray[np.int64]:
        """Return the pulses that are new up to sample `until`, and drop samples no longer needed."""
        if until <= self._settled:
            return np.empty(0, dtype=np.int64)
        pulses = self._start + pulses_of_stretch(self._kept, rate_hz=self._rate_hz, polarity=self._polarity)
        pulses = pulses[(pulses >= self._settled) & (pulses < until)]
        self._settled = until
        start = max(0, until // self._block - BLOCKS_BEFORE) * self._block
        if start > self._start:
            self._kept = self._kept[start - self._start :].copy()
            self._start = start
        return pulses
