"""Heart rate from beats: from one to the next, and per window.

A window's rate is that of the intervals that lie wholly in it: ``mean`` is 60 over the mean interval, which is
what counting beats over a long time comes to; ``median`` is 60 over the median interval, which one premature
beat, or one missed or extra one, does not move. A mean of rates is never taken: short intervals would outweigh.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive
from analysis.heartbeats import detect_qrs
from analysis.quality import ecg_quality
from analysis.windows import window_starts
from protocols.errors import SignalError

_Floats: TypeAlias = NDArray[np.float64]

SLOWEST_PER_MIN: Final = 20.0
"""An interval above 3 s is a pause or a loss of signal, and no rate (Orphanidou 2015)."""
FASTEST_PER_MIN: Final = 300.0
"""An interval below 200 ms, the refractory period, is no rate."""

_FEWEST_INTERVALS: Final = 2
_WINDOW_S: Final = 10.0
_LEAST_KNOWN: Final = 0.5  # of the windows: a figure of less than half of a recording is none of the recording


@dataclass(frozen=True, slots=True, eq=False)
class HeartRate:
    """Heart rates of windows.

    Parameters
    ----------
    per_min
        Shape (n_windows,), NaN where poor.
    n_intervals
        Intervals each is taken from, shape (n_windows,).
    intervals
        The windows, half-open, in samples, shape (n_windows, 2).
    """

    per_min: _Floats
    n_intervals: NDArray[np.int64]
    intervals: NDArray[np.int64]


def beat_to_beat_per_min(beats: ArrayLike, *, rate_hz: float) -> _Floats:
    """Return the rate from each beat to the next, shape (n_beats - 1,), NaN outside 20 to 300 per min.

    Parameters
    ----------
    beats
        Ascending sample indices, shape (n_beats,).
    rate_hz
        Sampling rate.

    Raises
    ------
    SignalError
        If the beats are no ascending integers.
    """
    marks = _ascending(beats)
    per_min = 60.0 * as_positive(rate_hz, name="rate_hz", unit="Hz") / np.diff(marks)
    return np.asarray(np.where((per_min >= SLOWEST_PER_MIN) & (per_min <= FASTEST_PER_MIN), per_min, np.nan))


def heart_rate_per_min(
    beats: ArrayLike,
    *,
    rate_hz: float,
    n_samples: int,
    window_s: float = _WINDOW_S,
    step_s: float = _WINDOW_S,
    statistic: Literal["mean", "median"] = "mean",
    usable: ArrayLike | None = None,
) -> HeartRate:
    """Return the heart rate of each window of a recording, in beats per minute.

    Parameters
    ----------
    beats
        Ascending sample indices, shape (n_beats,).
    rate_hz, n_samples
        Sampling rate and length of the recording.
    window_s, step_s
        Windows, half-open; only whole ones.
    statistic
        Of the intervals: see the module.
    usable
        Which windows count, shape (n_windows,), as `quality.ecg_quality(...).good` says; None for all.

    Returns
    -------
    NaN where fewer than 2 intervals between 200 ms and 3 s lie in the window, where more time than the longest
    such interval passes without a beat, or where the window is not usable.

    Raises
    ------
    SignalError
        If beats are no ascending indices below `n_samples`, the statistic is unknown, or `usable` does not fit.

    References
    ----------
    IEC 60601-2-27 and ANSI/AAMI EC13 test a monitor's rate against known beats and leave the averaging to the
    maker, who has to state it (clauses not checked here): it is stated in the module.
    """
    marks, rate_hz = _ascending(beats), as_positive(rate_hz, name="rate_hz", unit="Hz")
    if marks.size and (marks[0] < 0 or marks[-1] >= n_samples):
        raise SignalError(f"beats from {marks[0]} to {marks[-1]}, expected them within {n_samples} samples")
    if statistic not in ("mean", "median"):
        raise SignalError(f"statistic={statistic!r}, expected 'mean' or 'median'")
    starts, width = window_starts(n_samples, rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    counts = np.ones(starts.size, dtype=bool) if usable is None else np.asarray(usable, dtype=bool)
    if counts.shape != starts.shape:
        raise SignalError(f"usable of shape {counts.shape}, expected {starts.shape} windows")
    rr_s = np.diff(marks) / rate_hz
    real = (rr_s >= 60.0 / FASTEST_PER_MIN) & (rr_s <= 60.0 / SLOWEST_PER_MIN)
    first, last = np.searchsorted(marks, starts), np.searchsorted(marks, starts + width)
    per_min, n_intervals = np.full(starts.size, np.nan), np.zeros(starts.size, dtype=np.int64)
    longest = 60.0 / SLOWEST_PER_MIN * rate_hz
    for k in np.flatnonzero(counts & (last - first > _FEWEST_INTERVALS)):  # windows hold different numbers
        inside = slice(first[k], last[k] - 1)
        chosen = rr_s[inside][real[inside]]
        ends = max(marks[first[k]] - starts[k], starts[k] + width - marks[last[k] - 1])
        n_intervals[k] = chosen.size
        if chosen.size >= _FEWEST_INTERVALS and ends <= longest and real[inside].all():
            per_min[k] = 60.0 / (np.mean(chosen) if statistic == "mean" else np.median(chosen))
    return HeartRate(per_min, n_intervals, np.stack([starts, starts + width], axis=1))


def mean_heart_rate_per_min(ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return the mean heart rate over the good 10 s windows of one lead, per min; NaN if few are good."""
    return _over_good_windows(ecg, rate_hz, np.mean)


def lowest_heart_rate_per_min(ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return the lowest heart rate of a good 10 s window of one lead, per min; NaN if few are good."""
    return _over_good_windows(ecg, rate_hz, np.min)


def highest_heart_rate_per_min(ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return the highest heart rate of a good 10 s window of one lead, per min; NaN if few are good."""
    return _over_good_windows(ecg, rate_hz, np.max)


def _over_good_windows(
    ecg: ArrayLike, rate_hz: float, statistic: Callable[[_Floats], np.floating[Any]]
) -> float:
    """Return a statistic of the windows that have a rate; NaN where those are less than half of the recording.

    A window of hum or of noise may look like beats by chance; half of all windows hardly do. And a rate of the
    few beats around an asystole is not that of the recording.
    """
    beats = detect_qrs(ecg, rate_hz=rate_hz)
    quality = ecg_quality(ecg, beats, rate_hz=rate_hz)
    n_samples = int(np.shape(ecg)[-1])
    rates = heart_rate_per_min(beats, rate_hz=rate_hz, n_samples=n_samples, usable=quality.good).per_min
    known = np.isfinite(rates)
    enough = known.any() and known.mean() >= _LEAST_KNOWN
    return float(statistic(rates[known])) if enough else float("nan")


def _ascending(beats: ArrayLike) -> NDArray[np.int64]:
    marks = np.asarray(beats)
    if marks.size == 0:
        return np.empty(0, dtype=np.int64)
    if marks.ndim != 1 or marks.dtype.kind not in "iu":
        raise SignalError(f"beats of shape {marks.shape} and dtype {marks.dtype}, expected sample indices (n,)")
    marks = marks.astype(np.int64)
    if (np.diff(marks) <= 0).any():
        raise SignalError("beats do not ascend, expected ascending sample indices")
    return marks
