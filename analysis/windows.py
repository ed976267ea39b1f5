"""Windows over a signal: how every figure that is given "every so often" cuts its time.

Windows are half-open, of equal length, and start at multiples of the step from the first sample. Only whole
windows count: a rest at the end gives no figure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.arrays import as_positive
from protocols.errors import SignalError


def window_starts(
    n_samples: int, *, rate_hz: float, window_s: float, step_s: float
) -> tuple[NDArray[np.int64], int]:
    """Return the index of every window's first sample, shape (n_windows,), and the samples in a window.

    The start of window k is the sample nearest to k times `step_s`, so that windows do not drift where the step
    is no whole number of samples. Empty where the signal is shorter than one window.

    Raises
    ------
    SignalError
        If a duration or the rate is no number above 0, or a window or step is shorter than a sample.
    """
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    width = round(as_positive(window_s, name="window_s", unit="s") * rate_hz)
    step = as_positive(step_s, name="step_s", unit="s") * rate_hz
    if width < 1 or step < 1:
        raise SignalError(
            f"window_s={window_s!r}, step_s={step_s!r} at {rate_hz} Hz, expected at least a sample each"
        )
    n_windows = int((n_samples - width) / step) + 2 if n_samples >= width else 0
    starts = np.rint(np.arange(n_windows) * step).astype(np.int64)
    return starts[starts + width <= n_samples], width


def windowed(signal: NDArray[Any], starts: NDArray[np.int64], width: int) -> NDArray[Any]:
    """Return the windows of `signal`, shape (..., n_samples), as a copy of shape (..., n_windows, width)."""
    if starts.size == 0:
        return np.empty((*signal.shape[:-1], 0, width), dtype=signal.dtype)
    return np.lib.stride_tricks.sliding_window_view(signal, width, axis=-1)[..., starts, :]
