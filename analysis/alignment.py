"""How two recordings of the same subject lie in time: lag and drift, estimated from what they show.

Theory of operation
-------------------
The reference is cut into windows. In each, every lag is noted at which the test recording fits: the maxima of
the normalised cross-correlation, or, for beats, the lags that most pairs of beats agree on. Rhythms repeat,
so a single window fits at every whole beat; but intervals vary, and a clock does not. So all lines that two
such lags define and a clock could follow are tried, and the one on which the windows together fit best is
taken, if it is clearly better than any line elsewhere: a metronome has no lag. The lags on it give lag, drift
and their standard errors by least squares, widened where neighbouring windows err alike. Where fewer than
half of the windows lie on one line, nothing is said. Times are those of the reference: what it shows at `t`,
the test recording shows at `t + lag`.

What the signals cannot tell is how much later one of them shows the same event: an R wave in another lead peaks
some 10 ms earlier or later, a pulse at the finger comes a fifth of a second after it. That is part of the lag.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage, stats

from analysis.arrays import as_positive, as_series
from protocols.errors import SignalError

MAX_DRIFT_PPM: Final = 500.0
"""Quartz clocks of devices are within 100 ppm; software timers are worse."""

_MOST_WINDOWS: Final = 64  # enough for a line, and few enough for every pair of them to be tried
_FEWEST_WINDOWS: Final = 4  # two define a line, two more confirm it
_MOST_FITS: Final = 12  # of a window: whole beats within some 5 s to either side
_MOST_LINES: Final = 5_000  # of the pairs, those that fit best
_AGREEING_SHARE: Final = 0.5
_CORRELATED: Final = 0.3  # below this a window's best lag is no better than that of unrelated rhythms
_NEAR_S: Final = 0.05  # windows on one line: a fifth of the shortest beat interval
_ELSEWHERE_S: Final = 0.2  # another line: less than the shortest beat interval
_CLEARLY: Final = 0.9  # of the line's fit is the most that any elsewhere may have, or else ...
_SURELY: Final = 3.0  # ... windows must prefer the line by so many standard errors
_PARABOLA_SAMPLES: Final = 0.05
"""By so much the parabola through a peak may err alike in all windows: in white noise by up to 0.12 samples, in
noise smoothed over 0.7 samples by 0.05, over 4 by 0.0015."""
_BEATS_PER_WINDOW: Final = 30
_BEAT_SPREAD_S: Final = 0.025  # beats of two devices agree on a lag within half of the physiological 50 ms
_BEAT_BIN_S: Final = 0.005

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
        Median of the windows on the line: correlation of the signals, or share of beats that pair, less where
        they scatter.
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

    def reference_time_s(self, test_time_s: float) -> float:
        """Return the time of the reference at which it shows what the test recording shows at its time."""
        drift = 1e-6 * self.drift_ppm
        return (test_time_s - self.lag_s + drift * self.middle_s) / (1.0 + drift)

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
    doi:10.1145/358669.358692). The peak is refined by the parabola through its neighbours,
    whose error is part of the standard error of the lag.
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
    fits: list[tuple[_Floats, _Floats]] = []
    for start in starts:  # at most 64 windows, however long the recording
        window = reference[start : start + width]
        around = test[start - reach : start + width + reach]
        whole = np.isfinite(window).all() and np.isfinite(around).all()
        fits.append(_window_lags(around, window, rate_hz) if whole else (np.empty(0), np.empty(0)))
    found = _on_a_line((starts + 0.5 * width) / rate_hz, fits, max_drift_ppm)
    return replace(found, lag_se_s=float(np.hypot(found.lag_se_s, _PARABOLA_SAMPLES / rate_hz)))


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
    fits, middles_s = [], np.empty(firsts.size)
    for number, first in enumerate(firsts):  # at most 64 windows
        window = reference[first : first + _BEATS_PER_WINDOW]
        low, high = np.searchsorted(test, [window[0] - max_lag_s, window[-1] + max_lag_s])
        differences = np.sort((test[low:high, np.newaxis] - window).ravel())
        differences = differences[np.abs(differences) <= max_lag_s]
        middles_s[number] = window.mean()
        fits.append(_agreed_lags(differences))
    return _on_a_line(middles_s, fits, max_drift_ppm)


def _spread(first: int, last: int, step: int) -> NDArray[np.intp]:
    """Return where windows start: one after another, or, where they were too many, evenly spread."""
    if last < first:
        return np.empty(0, dtype=np.intp)
    n = min(_MOST_WINDOWS, (last - first) // max(1, step) + 1)
    return np.rint(np.linspace(first, last, n)).astype(np.intp) if n > 1 else np.array([first], dtype=np.intp)


def _window_lags(around: _Floats, window: _Floats, rate_hz: float) -> tuple[_Floats, _Floats]:
    """Return the lags at which the window fits into what is around it, and the correlations there."""
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
    before, at, after = correlations[:-2], correlations[1:-1], correlations[2:]
    tops = np.flatnonzero((at >= _CORRELATED) & (at > before) & (at >= after))
    tops = tops[np.argsort(at[tops], kind="stable")[::-1][:_MOST_FITS]]
    before, at, after = before[tops], at[tops], after[tops]
    vertex = 0.5 * (before - after) / (before - 2.0 * at + after)
    return (tops + 1 + vertex - (n - 1) / 2) / rate_hz, at


def _agreed_lags(differences: _Floats) -> tuple[_Floats, _Floats]:
    """Return the lags on which at least half of a window's beats agree, and how well: 1 is all, exactly."""
    nothing = np.empty(0), np.empty(0)
    if differences.size == 0:
        return nothing
    bins = np.floor((differences - differences[0]) / _BEAT_BIN_S).astype(np.int64)
    counts = ndimage.gaussian_filter1d(np.bincount(bins, minlength=3).astype(np.float64), 2.0, mode="constant")
    tops = np.flatnonzero((counts == ndimage.maximum_filter1d(counts, 11, mode="constant")) & (counts > 0))
    tops_s = differences[0] + (tops + 0.5) * _BEAT_BIN_S
    lags, strengths = [], []
    for low, high in np.searchsorted(differences, tops_s[:, np.newaxis] + [-_BEAT_SPREAD_S, _BEAT_SPREAD_S]):
        if high - low >= _AGREEING_SHARE * _BEATS_PER_WINDOW:  # some tens of tops, two for each second
            lags.append(float(np.median(differences[low:high])))
            off = (differences[low:high] - lags[-1]) / (2.0 * _BEAT_SPREAD_S)
            strengths.append(min(1.0, float((1.0 - off**2).sum()) / _BEATS_PER_WINDOW))
    order = np.argsort(strengths, kind="stable")[::-1][:_MOST_FITS]
    return np.asarray(lags)[order], np.asarray(strengths)[order]


def _on_a_line(
    times_s: NDArray[np.floating[Any]], fits: list[tuple[_Floats, _Floats]], max_drift_ppm: float
) -> Alignment:
    """Return the line on which the windows fit best."""
    slope_limit = 1e-6 * as_positive(max_drift_ppm, name="max_drift_ppm", unit="ppm")
    n_all = len(fits)
    known = np.array([lags.size > 0 for lags, _ in fits], dtype=bool)
    times, fits = times_s[known], [fit for fit in fits if fit[0].size]
    nan = float("nan")
    unknown = Alignment(nan, nan, nan, nan, nan, nan, times.size, 0)
    if times.size < _FEWEST_WINDOWS:
        return unknown
    lags, strengths = np.full((2, times.size, _MOST_FITS), np.nan)
    for number, (of_lag, of_strength) in enumerate(fits):
        lags[number, : of_lag.size], strengths[number, : of_lag.size] = of_lag, of_strength
    lines = _lines(times, lags, strengths, slope_limit)
    if lines.size == 0:
        return unknown
    middle_s = float(times.mean())
    chunks = np.array_split(lines, max(1, len(lines) // 500))
    gains = np.concatenate([_gains(chunk, times - middle_s, lags, strengths)[0] for chunk in chunks])
    best = int(np.argmax(gains.sum(axis=1)))
    elsewhere = np.flatnonzero(np.abs(lines[:, 0] - lines[best, 0]) > _ELSEWHERE_S)
    if elsewhere.size:
        second = elsewhere[int(np.argmax(gains[elsewhere].sum(axis=1)))]
        ahead = gains[best] - gains[second]
        is_close = gains[second].sum() > _CLEARLY * gains[best].sum()
        if is_close and ahead.sum() <= _SURELY * np.sqrt(ahead.size) * ahead.std(ddof=1):
            return unknown
    chosen = _gains(lines[best : best + 1], times - middle_s, lags, strengths)[1][0]
    on_line = gains[best] > 0.0
    n = int(on_line.sum())
    if n < max(_FEWEST_WINDOWS, _AGREEING_SHARE * n_all):
        return unknown
    rows = np.flatnonzero(on_line)
    return _fitted(times[rows], lags[rows, chosen[rows]], strengths[rows, chosen[rows]], times.size)


def _lines(times: _Floats, lags: _Floats, strengths: _Floats, slope_limit: float) -> _Floats:
    """Return lag in the middle and slope of every line through two fits that a clock could follow."""
    window, fit = np.nonzero(np.isfinite(lags))
    first, second = np.triu_indices(window.size, 1)
    apart = times[window[second]] - times[window[first]]
    first, second, apart = first[apart > 0], second[apart > 0], apart[apart > 0]
    flat = lags[window, fit]
    slopes = (flat[second] - flat[first]) / apart
    possible = np.abs(slopes) <= slope_limit
    first, second, slopes = first[possible], second[possible], slopes[possible]
    if first.size > _MOST_LINES:
        strength = strengths[window, fit]
        best = np.argsort(-(strength[first] + strength[second]), kind="stable")[:_MOST_LINES]
        first, slopes = first[best], slopes[best]
    return np.column_stack([flat[first] + slopes * (times.mean() - times[window[first]]), slopes])


def _gains(
    lines: _Floats, centred: _Floats, lags: _Floats, strengths: _Floats
) -> tuple[_Floats, NDArray[np.intp]]:
    """Return how well each window fits each line, shape (n_lines, n_windows), and which of its fits does."""
    expected = lines[:, :1] + lines[:, 1:] * centred
    off = (lags - expected[..., np.newaxis]) / _NEAR_S
    gains = np.where(np.abs(off) < 1.0, strengths * (1.0 - off**2), 0.0)
    best = np.argmax(gains, axis=-1)
    return np.take_along_axis(gains, best[..., np.newaxis], axis=-1)[..., 0], best


def _fitted(times: _Floats, lags: _Floats, strengths: _Floats, n_windows: int) -> Alignment:
    """Return the least-squares line, its errors widened by the correlation of neighbouring residuals.

    That correlation is estimated too low in few windows: by (1 + 4 r) / n about a mean (Kendall 1954,
    doi:10.1093/biomet/41.3-4.403), taken as (2 + 4 r) / n about a line.
    """
    n, middle_s = times.size, float(times.mean())
    centred = times - middle_s
    spread = float(centred @ centred)
    slope, lag_s = float(centred @ lags) / spread, float(lags.mean())
    residual = lags - lag_s - slope * centred
    power = float(residual @ residual)
    together = float(residual[1:] @ residual[:-1]) / power if power > 0.0 else 0.0
    together = min(0.9, max(0.0, together + (2.0 + 4.0 * max(0.0, together)) / n))
    error_s = float(np.sqrt(power / (n - 2) * (1.0 + together) / (1.0 - together)))
    return Alignment(
        lag_s,
        error_s / float(np.sqrt(n)),
        1e6 * slope,
        1e6 * error_s / float(np.sqrt(spread)),
        middle_s,
        float(np.median(strengths)),
        n_windows,
        n,
    )


def _ascending(values: ArrayLike, *, name: str) -> _Floats:
    times = as_series(values, name=name)
    if np.isnan(times).any() or (np.diff(times) < 0).any():
        raise SignalError(f"{name} lack values or go back in time, expected them in ascending order")
    return times
