"""Perfusion index: how much of the light the pulse modulates.

AC is the height of a pulse: from the line between its onset and the next to its peak. DC is the mean of the
signal from onset to onset. The index is 100 AC / DC, in percent. It needs the signal with its constant part,
as the light was received: what a monitor sends on as "pleth" is filtered and scaled, and has none.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_signal
from analysis.pulses import Polarity, detect_pulses
from analysis.pulses_intervals import LONGEST_MS, pulse_rate_per_min
from analysis.pulses_points import pulse_points
from analysis.signal_faults import clipping
from analysis.windows import window_starts

LARGEST_PERCENT: Final = 30.0
"""Fingers, ears and wrists have 0.02 to 20 %; beyond, the signal has lost its constant part."""

_FEWEST: Final = 3  # pulses below which a window has no median
_LEAST_COVERED: Final = 0.5  # share of a window that lies between the onsets of pulses

_Floats: TypeAlias = NDArray[np.float64]


def pulse_perfusion_percent(ppg: ArrayLike, pulses: ArrayLike, *, rate_hz: float) -> _Floats:
    """Return the perfusion index of every pulse in percent.

    Parameters
    ----------
    ppg
        Shape (n_samples,), with its constant part, either polarity, NaN where missing.
    pulses
        Sample indices of the systolic peaks, ascending.

    Returns
    -------
    Shape (n_pulses,). NaN for the last pulse, where the next onset is unknown or over 2.5 s away, where
    samples are missing, and where DC is not above 0 or the index exceeds 30 % (a signal without
    its constant part).

    Raises
    ------
    SignalError
        As `pulse_points`.

    References
    ----------
    Lima, Beishuizen & Bakker 2002, doi:10.1097/00003246-200206000-00006: pulsatile over constant light. Makers
    differ in how they filter AC; here it is not filtered.
    """
    _, ac, dc = _components(ppg, pulses, rate_hz)
    return _percent(ac, dc)


def perfusion_index_percent(
    ppg: ArrayLike, *, rate_hz: float, window_s: float = 10.0, step_s: float = 10.0, polarity: Polarity = "auto"
) -> _Floats:
    """Return the median perfusion index of the pulses of every window in percent, shape (n_windows,).

    A pulse belongs to the window that its onset lies in. NaN where fewer than 3 pulses of a window have an
    index, where these cover less than half of it, where the pulses are too irregular for a pulse rate (noise
    has heights as well), and where the signal is clipped.
    """
    samples = as_signal(ppg, name="ppg")
    starts, width = window_starts(samples.shape[-1], rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    pulses = detect_pulses(samples, rate_hz=rate_hz, polarity=polarity)
    onsets_s, ac, dc = _components(samples, pulses, rate_hz)
    rates = pulse_rate_per_min(
        pulses / rate_hz, rate_hz=rate_hz, n_samples=samples.size, window_s=window_s, step_s=step_s
    )
    usable = np.isfinite(rates.rate_per_min)
    if starts.size:
        usable &= ~clipping(samples, rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    index = _percent(ac, dc)
    good = np.isfinite(index)
    lengths = np.diff(onsets_s, append=np.nan)[good] * rate_hz
    onsets, index = onsets_s[good] * rate_hz, index[good]
    first, last = np.searchsorted(onsets, starts), np.searchsorted(onsets, starts + width)
    medians = np.full(starts.size, np.nan)
    for k, (i, j) in enumerate(zip(first, last, strict=True)):  # windows hold unequal numbers of pulses
        if usable[k] and j - i >= _FEWEST and lengths[i:j].sum() >= _LEAST_COVERED * width:
            medians[k] = np.median(index[i:j])
    return medians


def median_perfusion_index_percent(ppg: ArrayLike, *, rate_hz: float, polarity: Polarity = "auto") -> float:
    """Return the median over 10 s windows in percent, NaN where less than half of them have an index."""
    windows = perfusion_index_percent(ppg, rate_hz=rate_hz, polarity=polarity)
    good = windows[np.isfinite(windows)]
    return float(np.median(good)) if 2 * good.size >= max(windows.size, 1) else float("nan")


def _percent(ac: _Floats, dc: _Floats) -> _Floats:
    index = np.full(ac.size, np.nan)
    np.divide(100.0 * ac, dc, out=index, where=dc > 0.0)
    index[index > LARGEST_PERCENT] = np.nan
    return index


def _components(ppg: ArrayLike, pulses: ArrayLike, rate_hz: float) -> tuple[_Floats, _Floats, _Floats]:
    """Return onset in s, AC and DC of every pulse, NaN where there is none."""
    points = pulse_points(ppg, pulses, rate_hz=rate_hz)
    samples: NDArray[Any] = as_signal(ppg, name="ppg")
    peaks = np.asarray(pulses, dtype=np.int64)
    onsets_s = points.onsets_s
    ac, dc = np.full(peaks.size, np.nan), np.full(peaks.size, np.nan)
    until_s = np.append(onsets_s[1:], np.nan)[: peaks.size]
    whole = np.flatnonzero(until_s - onsets_s <= LONGEST_MS / 1000.0)
    if whole.size == 0:
        return onsets_s, ac, dc
    first = np.rint(onsets_s[whole] * rate_hz).astype(np.int64)
    last = np.minimum(np.rint(until_s[whole] * rate_hz).astype(np.int64), samples.size - 1)
    sums = np.add.reduceat(samples, np.stack([first, last], axis=1).ravel(), dtype=np.float64)[::2]
    dc[whole] = sums / (last - first)
    share = (peaks[whole] - first) / (last - first)
    base = (1.0 - share) * samples[first] + share * samples[last]
    ac[whole] = np.abs(samples[peaks[whole]] - base)
    return onsets_s, ac, dc
