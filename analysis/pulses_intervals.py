"""Intervals between pulses, and the pulse rate and pulse-rate variability they make.

Where a pulse was missed, invented or hidden in missing samples, the interval is rejected (NaN), never guessed;
so every function of `analysis.hrv` takes what `pulse_intervals_ms` returns. Pulse-rate variability is not
heart-rate variability: the time from heart to skin varies as well (Schafer & Vagedes 2013,
doi:10.1016/j.ijcard.2012.03.119).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis import hrv
from analysis.arrays import as_positive, as_series
from analysis.pulses import Polarity, detect_pulses
from analysis.pulses_points import pulse_points
from analysis.quality import ppg_quality
from analysis.windows import window_starts
from protocols.errors import SignalError

SHORTEST_MS: Final = 250.0
LONGEST_MS: Final = 2500.0
"""240 and 24 beats/min: what hearts do, from an infant's tachycardia to an athlete asleep, with a margin."""
DEVIATION: Final = 0.3
"""Intervals further than this from the usual one are rejected; Malik's 20 % and the 10 to 15 % of jitter that
a peak at 25 Hz may have."""
LEAST_QUALITY: Final = 2.0 / 3.0
"""Share of the time that kept intervals must cover; of noise alone about half passes as plausible."""

_NEIGHBOURS: Final = 11  # intervals the usual one is the median of: about 10 s
_FEWEST: Final = 3  # intervals below which there is no rate

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PulseRate:
    """Mean pulse rate of windows.

    Parameters
    ----------
    rate_per_min
        60 000 over the mean of the kept intervals that end in the window, NaN where quality is too low.
    quality
        Share of the window that kept intervals cover, 0 to 1.
    intervals
        Half-open `[start, end)` sample indices of the windows, shape (n_windows, 2).
    """

    rate_per_min: _Floats
    quality: _Floats
    intervals: NDArray[np.int64]


def pulse_intervals_ms(
    pulses_s: ArrayLike,
    *,
    shortest_ms: float = SHORTEST_MS,
    longest_ms: float = LONGEST_MS,
    deviation: float | None = DEVIATION,
) -> _Floats:
    """Return the intervals between successive pulses in ms, NaN where implausible.

    Parameters
    ----------
    pulses_s
        Times of the pulses (feet are best, as they jitter least), ascending, NaN where a pulse has none.
    shortest_ms, longest_ms
        Limits, inclusive.
    deviation
        Largest relative deviation from the median of the 11 intervals around; None for none, as atrial
        fibrillation asks for.

    Returns
    -------
    Shape (n_pulses - 1,), empty below two pulses.

    Raises
    ------
    SignalError
        If times are infinite or go back, or a limit is no number above 0.

    References
    ----------
    Malik et al. 1989, European Heart Journal 10:1060-1074: rejection by relative deviation; here from
    the local median instead of the interval before, and by 30 instead of 20 %.
    """
    times_s = as_series(pulses_s, name="pulses_s")
    as_positive(shortest_ms, name="shortest_ms", unit="ms")
    as_positive(longest_ms, name="longest_ms", unit="ms")
    if deviation is not None:
        as_positive(deviation, name="deviation", unit="1")
    if (np.diff(times_s[~np.isnan(times_s)]) < 0).any():
        raise SignalError("pulses_s go back in time, expected them in ascending order")
    intervals_ms = 1000.0 * np.diff(times_s)
    intervals_ms[(intervals_ms < shortest_ms) | (intervals_ms > longest_ms)] = np.nan
    if deviation is not None and intervals_ms.size:
        usual_ms = _running_median(intervals_ms)
        intervals_ms[~(np.abs(intervals_ms - usual_ms) <= deviation * usual_ms)] = np.nan
    return intervals_ms


def pulse_rate_per_min(
    pulses_s: ArrayLike, *, rate_hz: float, n_samples: int, window_s: float = 10.0, step_s: float = 10.0
) -> PulseRate:
    """Return the mean pulse rate of every window, NaN where too few intervals are plausible.

    Parameters
    ----------
    pulses_s
        Times of the pulses from the first sample.
    rate_hz, n_samples
        Of the signal they were found in: these lay out the windows.

    Raises
    ------
    SignalError
        As `pulse_intervals_ms`, or if a duration or the rate is no number above 0.
    """
    times_s = as_series(pulses_s, name="pulses_s")
    intervals_ms = pulse_intervals_ms(times_s)
    starts, width = window_starts(n_samples, rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    kept = np.isfinite(intervals_ms)
    ends_s, kept_ms = times_s[1:][kept], intervals_ms[kept]
    first = np.searchsorted(ends_s, starts / rate_hz, side="left")
    last = np.searchsorted(ends_s, (starts + width) / rate_hz, side="left")
    total_ms = np.diff(np.append(0.0, np.cumsum(kept_ms))[np.stack([first, last])], axis=0)[0]
    quality = np.clip(total_ms * rate_hz / (1000.0 * width), 0.0, 1.0)
    good = (quality >= LEAST_QUALITY) & (last - first >= _FEWEST)
    rate = np.divide(60_000.0 * (last - first), total_ms, out=np.full(starts.size, np.nan), where=good)
    return PulseRate(rate, quality, np.stack([starts, starts + width], axis=1))


def mean_pulse_rate_per_min(ppg: ArrayLike, *, rate_hz: float, polarity: Polarity = "auto") -> float:
    """Return the mean pulse rate of a recording in 1/min, NaN where good intervals cover less than two thirds.

    Good are plausible intervals that end in a 10 s window of good quality (`quality.ppg_quality`).
    """
    intervals_ms, duration_ms = _intervals_of(ppg, rate_hz, polarity)
    total_ms = float(np.nansum(intervals_ms))
    count = int(np.isfinite(intervals_ms).sum())
    if count < _FEWEST or total_ms < LEAST_QUALITY * duration_ms:
        return float("nan")
    return 60_000.0 * count / total_ms


def pulse_rate_rmssd_ms(ppg: ArrayLike, *, rate_hz: float, polarity: Polarity = "auto") -> float:
    """Return the RMSSD of the intervals from foot to foot in ms, NaN where these cover less than two thirds."""
    intervals_ms, duration_ms = _intervals_of(ppg, rate_hz, polarity)
    if np.nansum(intervals_ms) < LEAST_QUALITY * duration_ms:
        return float("nan")
    return float(hrv.rmssd_ms(intervals_ms))


def pulse_rate_sdnn_ms(ppg: ArrayLike, *, rate_hz: float, polarity: Polarity = "auto") -> float:
    """Return the standard deviation of the intervals from foot to foot in ms, NaN as `pulse_rate_rmssd_ms`."""
    intervals_ms, duration_ms = _intervals_of(ppg, rate_hz, polarity)
    if np.nansum(intervals_ms) < LEAST_QUALITY * duration_ms:
        return float("nan")
    return float(hrv.sdnn_ms(intervals_ms))


def _intervals_of(ppg: ArrayLike, rate_hz: float, polarity: Polarity) -> tuple[_Floats, float]:
    """Return the intervals between the feet of a recording, NaN in poor windows, and its duration in ms."""
    pulses = detect_pulses(ppg, rate_hz=rate_hz, polarity=polarity)
    feet_s = pulse_points(ppg, pulses, rate_hz=rate_hz).feet_s
    intervals_ms = pulse_intervals_ms(feet_s)
    quality = ppg_quality(ppg, pulses, rate_hz=rate_hz)
    if quality.good.size and intervals_ms.size:  # what is left at the end is as good as the window before
        starts = quality.intervals[:, 0]
        intervals_ms[~quality.good[np.searchsorted(starts, pulses[1:], side="right") - 1]] = np.nan
    return intervals_ms, 1000.0 * np.asarray(ppg).size / rate_hz


def _running_median(values: _Floats) -> _Floats:
    """Return the median of the finite values around each, NaN where fewer than three are."""
    half = np.full(_NEIGHBOURS // 2, np.nan)
    around = np.lib.stride_tricks.sliding_window_view(np.concatenate([half, values, half]), _NEIGHBOURS).copy()
    around.sort(axis=1)
    count = np.isfinite(around).sum(axis=1)
    rows = np.arange(count.size)
    medians = 0.5 * (around[rows, np.maximum(count - 1, 0) // 2] + around[rows, count // 2])
    return np.where(count >= _FEWEST, medians, np.nan)
