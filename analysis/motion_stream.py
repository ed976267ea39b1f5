"""Heart rate under motion while it is being recorded.

`MotionStream` gives what `motion.heart_rate` gives of the whole recording with the same lookahead, however the
samples arrive; the two differ by rounding at most. A window is reported `lookahead_s` after its end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.motion import MotionHeartRate, Tracker, as_channels, check_options, record
from analysis.motion_evidence import evidence
from protocols.errors import SignalError


class MotionStream:
    """Tracks the heart rate of one subject as it comes.

    Parameters
    ----------
    rate_hz, window_s, step_s
        As in `heart_rate`.
    lookahead_s
        How long after its end a window is decided; 0 decides at once.

    Raises
    ------
    SignalError
        If an option is out of its range.
    """

    def __init__(
        self, rate_hz: float, *, window_s: float = 8.0, step_s: float = 2.0, lookahead_s: float = 4.0
    ) -> None:
        check_options(rate_hz, window_s, step_s, lookahead_s)
        self._rate_hz = float(rate_hz)
        self._width = round(window_s * rate_hz)
        self._step = step_s * rate_hz
        self._lookahead_s, self._window_s = lookahead_s, window_s
        self._tracker = Tracker(rate_hz, window_s=window_s, step_s=step_s, lookahead_s=lookahead_s)
        self._light: NDArray[Any] | None = None
        self._moving: NDArray[Any] | None = None
        self._first = 0  # index of the first sample kept
        self._next = 0  # number of the next window to look at
        self._reported = 0
        self._ended = False

    @property
    def latency_s(self) -> float:
        """How long after the start of a window it is reported, if samples come without delay."""
        return self._window_s + self._lookahead_s

    def push(self, ppg: ArrayLike, accel: ArrayLike | None) -> MotionHeartRate:
        """Take the next samples of light and acceleration, and return the windows settled by them.

        Raises
        ------
        SignalError
            If shapes do not fit one another or those before, values are infinite, or the stream was flushed.
        """
        if self._ended:
            raise SignalError("push after flush, expected a new MotionStream")
        light, moving = as_channels(ppg, accel)
        if self._light is None:
            self._light, self._moving = light, moving
        else:
            if light.shape[0] != self._light.shape[0] or (moving is None) != (self._moving is None):
                raise SignalError(f"ppg of shape {light.shape}, expected the channels pushed before")
            self._light = np.concatenate([self._light, light], axis=1)
            if moving is not None and self._moving is not None:
                if moving.shape[0] != self._moving.shape[0]:
                    raise SignalError(f"accel of shape {moving.shape}, expected the axes pushed before")
                self._moving = np.concatenate([self._moving, moving], axis=1)
        return self._report(self._tracker.push(self._look(self._light, self._moving)))

    def flush(self) -> MotionHeartRate:
        """Return the windows that the end of the recording settles; nothing may be pushed any more."""
        self._ended = True
        return self._report(self._tracker.flush())

    def _look(self, light: NDArray[Any], moving: NDArray[Any] | None) -> NDArray[np.float64]:
        """Return the evidence of the windows that are whole now, and drop samples no longer needed."""
        received = self._first + light.shape[1]
        latest = max(self._next, int((received - self._width) / self._step) + 2)
        starts = np.rint(np.arange(self._next, latest) * self._step).astype(np.int64)
        starts = starts[starts + self._width <= received]
        rows = evidence(light, moving, starts - self._first, self._width, rate_hz=self._rate_hz)
        self._next += starts.size
        kept = min(received, round(self._next * self._step))
        self._light = light[:, kept - self._first :].copy()
        self._moving = None if moving is None else moving[:, kept - self._first :].copy()
        self._first = kept
        return rows

    def _report(self, settled: NDArray[np.float64]) -> MotionHeartRate:
        numbers = np.arange(self._reported, self._reported + len(settled))
        self._reported += len(settled)
        return record(settled, np.rint(numbers * self._step).astype(np.int64), self._width)
