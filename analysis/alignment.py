"""How two recordings of the same subject lie in time: lag and drift, estimated from what they show.

Theory of operation
-------------------
The reference is cut into windows. In each, the lag of the test recording is sought by itself: where the
normalised cross-correlation peaks, or, for beats, the lag that most pairs of beats agree on. Rhythms repeat, so
a single window can err by a whole beat; a clock cannot. So the lags of all windows are held against every line
that two of them define and that a clock could follow, and the line on which most windows lie is taken. Its
inliers give lag, drift and their standard errors by least squares. Where fewer than half of the windows lie on
one line, nothing is said. Times are those of the reference: what it shows at `t`, the test recording shows at
`t + lag`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, stats

from analysis.arrays import as_positive, as_series
from protocols.errors import SignalError

MAX_DRIFT_PPM: Final = 500.0
"""Quartz clocks of devices are within 100 ppm; software timers are worse."""

_MOST_WINDOWS: Final = 64  # enough for a line, and few enough for every pair of them to be tried
_FEWEST_WINDOWS: Final = 4  # two define a line, two more confirm it
_AGREEING_SHARE: Final = 0.5
_CORRELATED: Final = 0.3  # below this a window's best lag is no better than that of unrelated rhythms
_NEAR_S: Final = 0.1  # windows on one line: less than half the shortest beat interval, so no neighbouring beat
_BEATS_PER_WINDOW: Final = 30
_BEAT_SPREAD_S: Final = 0.025  # beats of two devices agree on a lag within half of the physiological 50 ms

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Alignment:
    """By how much the test recording is late: `lag_s` in the middle of the recording, growing by the drift.

    Parameters
    ----------
    lag_s, lag_se_s
        Positive where the test recording shows later what the reference shows; standard error. NaN where it
        cannot be told.
    drift_ppm, drift_se_ppm
        Growth of the lag; standard error.
    middle_s
        Time of the reference, from its first sample, to which `lag_s` belongs.
    correlation
        Median of the windows on the line: correlation of the signals, or share of beats that pair.
    n_windows, n_agreeing
        Windows that have a lag, and those of them on the line.
    """

    lag_s: float
    lag_se_s: float
    drift_ppm: float
    drift_se_ppm: float
    middle_s: float
    correlation: float
    n_windows: int
    n_agreeing: int

    def lag_at_s(self, time_s: float) -> float:
        """Return the lag at a time of the reference, from its first sample."""
        return self.lag_s + 1e-6 * self.drift_ppm * (time_s - self.middle_s)

    def lag_interval_s(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of `lag_s`, by Student's t with two degrees of freedom less than windows."""
        return self._interval(self.lag_s, self.lag_se_s, level)

    def drift_interval_ppm(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of `drift_ppm`, likewise."""
        return self._interval(self.drift_ppm, self.drift_se_ppm, level)

    def _interval(self, value: float, error: float, level: float) -> tuple[float, float]:
        reach = float(stats.t.ppf(0.5 + 0.5 * level, max(1, self.n_agreeing - 2))) * error
        return value - reach, value + reach


def estimate_alignment(
    test: ArrayLike,
    reference: ArrayLike,
    *,
    rate_hz: float,
    max_lag_s: float,
    window_s: float = 30.0,
    max_drift_ppm: float = MAX_DRIFT_PPM,
) -> Alignment:
    """Return lag and drift of two signals of the same kind on one clock.

    Parameters
    ----------
    test, reference
        Shape (n,), sampled together by the clocks as they are; NaN marks missing samples, and a window with one
        gives no lag. Amplitude and offset do not matter, polarity does.
    rate_hz
        Samples per second of both.
    max_lag_s
        Largest lag considered, to either side.
    window_s
        Length of the windows; 30 s hold enough beats or breaths to be told from their neighbours.
    max_drift_ppm
        Largest drift considered, to either side.

    Raises
    ------
    SignalError
        If shapes differ, values are not real numbers or infinite, or a parameter is not above 0.

    References
    ----------
    Knapp & Carter 1976, doi:10.1109/TASSP.1976.1162830: delay by cross-correlation. Differs from it in
    weighting all frequencies as they come, and in asking for agreement of windows (Fischler & Bolles 1981,
    doi:10.1145/358669.358692). The peak is refined by the parabola through its neighbours.
    """
    test, reference = as_series(test, name="test"), as_series(reference, name="reference")
    if test.shape != reference.shape:
        raise SignalError(f"{test.size} test samples for {reference.size} of the reference, expected as many")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    width = round(as_positive(window_s, name="window_s", unit="s") * rate_hz)
    reach = round(as_positive(max_lag_s, name="max_lag_s", unit="s") * rate_hz)
    starts = _spread(reach, test.size - reach - width, width)
    if width < 2 or reach < 1:
        raise SignalError(f"window_s={window_s!r}, max_lag_s={max_lag_s!r}, expected more than a sample each")
    lags_s, correlations = np.full(starts.size, np.nan), np.zeros(starts.size)
    for number, start in enumerate(starts):  # at most 64 windows, however long the recording
        window = reference[start : start + width]
        around = test[start - reach : start + width + reach]
        if np.isfinite(window).all() and np.isfinite(around).all():
            lags_s[number], correlations[number] = _window_lag(around, window, rate_hz)
    lags_s[correlations < _CORRELATED] = np.nan
    return _on_a_line((starts + 0.5 * width) / rate_hz, lags_s, correlations, max_drift_ppm)


def align_beats(
    test_s: ArrayLike, reference_s: ArrayLike, *, max_lag_s: float, max_drift_ppm: float = MAX_DRIFT_PPM
) -> Alignment:
    """Return lag and drift of two series of beat times of one heart.

    Parameters
    ----------
    test_s, reference_s
        Times of beats in s, ascending, shapes (n_test,) and (n_reference,). Missed and extra beats do no harm.
    max_lag_s, max_drift_ppm
        Largest ones considered, to either side.

    Raises
    ------
    SignalError
        If times go back, are missing or infinite, or a parameter is not above 0.
    """
    test, reference = (_ascending(s, name=n) for s, n in ((test_s, "test_s"), (reference_s, "reference_s")))
    max_lag_s = as_positive(max_lag_s, name="max_lag_s", unit="s")
    firsts = _spread(0, reference.size - _BEATS_PER_WINDOW, _BEATS_PER_WINDOW)
    lags_s, shares, middles_s = (np.full(firsts.size, np.nan) for _ in range(3))
    for number, first in enumerate(firsts):  # at most 64 windows
        window = reference[first : first + _BEATS_PER_WINDOW]
        low, high = np.searchsorted(test, [window[0] - max_lag_s, window[-1] + max_lag_s])
        differences = np.sort((test[low:high, np.newaxis] - window).ravel())
        differences = differences[np.abs(differences) <= max_lag_s]
        middles_s[number] = window.mean()
        lags_s[number], shares[number] = _most_agreed(differences)
    lags_s[~(shares >= _AGREEING_SHARE)] = np.nan
    return _on_a_line(middles_s, lags_s, shares, max_drift_ppm)


def _spread(first: int, last: int, step: int) -> NDArray[np.intp]:
    """Return where windows start: one after another, or, where they were too many, evenly spread."""
    if last < first:
        return np.empty(0, dtype=np.intp)
    n = min(_MOST_WINDOWS, (last - first) // max(1, step) + 1)
    return np.rint(np.linspace(first, last, n)).astype(np.intp) if n > 1 else np.array([first], dtype=np.intp)


def _window_lag(around: _Floats, window: _Floats, rate_hz: float) -> tuple[float, float]:
    """Return lag and correlation where the window fits best into what is around it; NaN and 0 where flat."""
    window = window - window.mean()
    around = around - around.mean()
    size = fft.next_fast_len(around.size + window.size, real=True)
    products = fft.irfft(fft.rfft(around, size) * np.conj(fft.rfft(window, size)), size)
    n = around.size - window.size + 1
    total = np.concatenate([[0.0], np.cumsum(around)])
    squares = np.concatenate([[0.0], np.cumsum(around**2)])
    sums = total[window.size :] - total[:n]
    powers = squares[window.size :] - squares[:n] - sums**2 / window.size
    scale = np.sqrt(np.maximum(powers, 0.0) * float(window @ window))
    floor = 1e-9 * float(squares[-1])
    correlations = np.where(scale > floor, products[:n] / np.where(scale > floor, scale, 1.0), 0.0)
    best = int(np.argmax(correlations))
    if correlations[best] <= 0.0 or best in (0, n - 1):
        return float("nan"), 0.0
    before, at, after = correlations[best - 1 : best + 2]
    bend = before - 2.0 * at + after
    vertex = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return (best + vertex - (n - 1) / 2) / rate_hz, float(at)


def _most_agreed(differences: _Floats) -> tuple[float, float]:
    """Return the lag that most beats agree on, and the share of a window's beats that do."""
    if differences.size == 0:
        return float("nan"), 0.0
    ends = np.searchsorted(differences, differences + 2 * _BEAT_SPREAD_S, side="right")
    best = int(np.argmax(ends - np.arange(differences.size)))
    agreeing = differences[best : ends[best]]
    return float(np.median(agreeing)), agreeing.size / _BEATS_PER_WINDOW


def _on_a_line(
    times_s: NDArray[np.floating[Any]], lags_s: _Floats, correlations: _Floats, max_drift_ppm: float
) -> Alignment:
    """Return the line on which most windows lie."""
    slope_limit = 1e-6 * as_positive(max_drift_ppm, name="max_drift_ppm", unit="ppm")
    known = np.isfinite(lags_s)
    times, lags, correlations = times_s[known], lags_s[known], correlations[known]
    nan = float("nan")
    unknown = Alignment(nan, nan, nan, nan, nan, nan, int(known.sum()), 0)
    if times.size < _FEWEST_WINDOWS:
        return unknown
    first, second = np.triu_indices(times.size, 1)
    slopes = (lags[second] - lags[first]) / (times[second] - times[first])
    possible = np.abs(slopes) <= slope_limit
    if not possible.any():
        return unknown
    slopes, first = slopes[possible], first[possible]
    near = np.abs(lags - lags[first, np.newaxis] - slopes[:, np.newaxis] * (times - times[first, np.newaxis]))
    near = np.minimum(near, _NEAR_S)  # most windows near, and of equals the line that is nearest
    on_line = near[int(np.argmin(near.sum(axis=1)))] < _NEAR_S
    n = int(on_line.sum())
    if n < max(_FEWEST_WINDOWS, _AGREEING_SHARE * lags_s.size):
        return unknown
    times, lags = times[on_line], lags[on_line]
    middle_s = float(times.mean())
    centred = times - middle_s
    spread = float(centred @ centred)
    slope = float(centred @ lags) / spread
    lag_s = float(lags.mean())
    error_s = float(np.sqrt(((lags - lag_s - slope * centred) ** 2).sum() / (n - 2)))
    correlation = float(np.median(correlations[on_line]))
    return Alignment(
        lag_s,
        error_s / np.sqrt(n),
        1e6 * slope,
        1e6 * error_s / np.sqrt(spread),
        middle_s,
        correlation,
        int(known.sum()),
        n,
    )


def _ascending(values: ArrayLike, *, name: str) -> _Floats:
    times = as_series(values, name=name)
    if np.isnan(times).any() or (np.diff(times) < 0).any():
        raise SignalError(f"{name} lack values or go back in time, expected them in ascending order")
    return times
