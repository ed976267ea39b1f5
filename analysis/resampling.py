"""Signals brought to a common clock: values at even times, from samples whose clock is their own.

Theory of operation
-------------------
Where a stretch of samples has an even clock, drift included, its times are a straight line, and the signal is
interpolated by a sinc under a Kaiser window: exact up to the window. Where the ratio of the clocks is one of
small numbers the window's phases come again and are one polyphase filter; else it gives a finer grid, and a
spline of 5th order the values between its points. Where times jitter, a cubic spline through the samples at
their own times takes the sinc's place. Where the new clock is slower, the sinc is also the low-pass filter
(after the spline, if there is one): what the new rate cannot hold is gone before it can fold down.

Between present samples farther apart than `longest_gap_s` nothing is said. In shorter gaps the missing samples
lie on the line between their neighbours. Before a stretch and after it the signal is continued by point
reflection, so that a ramp stays one. Work goes in blocks, beside one padded copy of the stretch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import interpolate, ndimage, signal

from analysis.arrays import as_positive, as_signal, as_times_ns
from analysis.timing import NS_PER_S, nominal_period_ns
from protocols.errors import SignalError

_CROSSINGS: Final = 24  # zeros of the sinc to each side: with the window below, a tenth of the rate to fall in
_STOP_DB: Final = 80.0  # below the noise of a 12-bit converter
_BETA: Final = 0.1102 * (_STOP_DB - 8.7)  # Kaiser's own formulas, for the window and ...
_TRANSITION: Final = (_STOP_DB - 8.0) / (2.285 * 2 * _CROSSINGS) / (2 * math.pi)  # ... its width, of the rate
_SAME_RATE: Final = 0.99  # clocks closer than that are the same: a drift must not cost a tenth of the band
_SPLINE_CUTOFF: Final = 1 / 6  # of a grid's rate: a spline of 5th order errs there by 1e-4, half way by 1e-6
_MARGIN: Final = 16  # points of the grid to either side; a spline forgets its ends by 0.43 for every one
_EVEN: Final = 1e-5  # of a period: 50 times what rounding to ns does at 5 kHz, and an error of 3e-5
_LARGEST_UP: Final = 1000  # 360 to 250 Hz is 25 / 36; the kernel is kept for each phase
_ONE_MISSING: Final = 1.5  # periods between neighbours: one is missing, as `timing.find_gaps` says ...
_SOME_MISSING: Final = 2.5  # ... and where clocks jitter two, before a spline must not swing freely
_BLOCK: Final = 1 << 17  # values of a spline computed at a time: a megabyte
_KNOTS: Final = 40  # a spline forgets a knot by 0.27 for every one between: 1e-23 here
_MOST_SAMPLES: Final = 1 << 28  # of a clock (six days at 500 Hz), unless there are as many readings ...
_SAMPLES_PER_READING: Final = 8  # ... or nearly: more memory is not taken for one wrong time stamp
_NEAREST_PERIODS: Final = 0.1  # a spline through two samples nearer than that would overshoot

_Floats = NDArray[np.float64]
_Times = NDArray[np.int64]


def clock_times_ns(*, start_ns: int, rate_hz: float, n_samples: int) -> _Times:
    """Return the times of an even clock, shape (n_samples,), each rounded to the ns by itself.

    Raises
    ------
    SignalError
        If the rate is not above 0, `n_samples` is negative, or the clock runs past the year 2262.
    """
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    if n_samples < 0:
        raise SignalError(f"n_samples={n_samples!r}, expected none or more")
    if int(start_ns) + (n_samples - 1) * (NS_PER_S / rate_hz) >= float(1 << 63):
        raise SignalError(f"{n_samples} samples at {rate_hz} Hz, expected a clock that ends before 2262")
    since_ns = np.rint(np.arange(n_samples) * (NS_PER_S / rate_hz)).astype(np.int64)
    return np.asarray(since_ns + int(start_ns))


def resample_to_clock(
    values: ArrayLike,
    times_ns: ArrayLike,
    *,
    start_ns: int,
    rate_hz: float,
    n_samples: int,
    longest_gap_s: float,
) -> _Floats:
    """Return sampled signals at the times of an even clock, in their unit.

    Parameters
    ----------
    values
        Shape (..., n); NaN marks missing samples.
    times_ns
        UTC of the samples, ascending, shape (n,): when they were taken. Where stamps jitter and samples do not
        (arrival times), smooth the stamps before. Of samples within a tenth of the period the last counts.
    start_ns, rate_hz, n_samples
        The clock: `n_samples` from `start_ns` on.
    longest_gap_s
        Neighbours farther apart than that are not joined.

    Returns
    -------
    Shape (..., n_samples); NaN before the first sample, after the last, and in gaps.

    Raises
    ------
    SignalError
        If there are not as many times as samples, times go back, a parameter is not above 0, or the clock is
        over 2^28 samples long and over eight times as long as the signal.

    References
    ----------
    Interpolation by a windowed sinc: Smith & Gossett 1984, doi:10.1109/ICASSP.1984.1172555; window and its
    length by Kaiser 1974. Splines: Unser 1999, doi:10.1109/79.799930. Differs from them in weights that sum to
    1, so that a constant stays one. A clock at the rate of the signal or above leaves its band whole (-6 dB at
    half the rate); one slower by over 1 % takes away what lies above 0.4 of the new rate (-80 dB at half).
    """
    array, times = _checked(values, times_ns, n_samples)
    longest_ns = as_positive(longest_gap_s, name="longest_gap_s", unit="s") * NS_PER_S
    clock = clock_times_ns(start_ns=start_ns, rate_hz=rate_hz, n_samples=n_samples)
    # most samples share their stamps with another where packets are stamped: then it is those that count
    period_ns = nominal_period_ns(times) or nominal_period_ns(np.unique(times))
    own = np.append(np.diff(times) > _NEAREST_PERIODS * period_ns, True)[: times.size]
    if not own.all():
        array, times = array[..., own], times[own]
    rows = array.reshape(math.prod(array.shape[:-1]), times.size)
    resampled = np.full((rows.shape[0], n_samples), np.nan)
    cutoff = _cutoff(rate_hz * period_ns / NS_PER_S)
    for row, out in zip(rows, resampled, strict=True):  # channels, each with samples missing elsewhere
        present = np.isfinite(row)
        samples, own_ns = (row, times) if present.all() else (row[present], times[present])
        for first, end in _stretches(own_ns, longest_ns):
            low, high = np.searchsorted(clock, [own_ns[first], own_ns[end - 1] + 1])
            if high > low:
                out[low:high] = _resampled(
                    samples[first:end], own_ns[first:end], clock[low:high], period_ns, cutoff
                )
    return resampled.reshape(*array.shape[:-1], n_samples)


def interpolate_to_clock(
    values: ArrayLike,
    times_ns: ArrayLike,
    *,
    start_ns: int,
    rate_hz: float,
    n_samples: int,
    longest_gap_s: float,
) -> _Floats:
    """Return readings that come when they come (RR intervals, glucose) at the times of an even clock.

    On the line between neighbours; shapes, gaps and errors are those of `resample_to_clock`. Nothing is
    filtered: readings denser than the clock are left out, not averaged.
    """
    array, times = _checked(values, times_ns, n_samples)
    longest_ns = as_positive(longest_gap_s, name="longest_gap_s", unit="s") * NS_PER_S
    clock = clock_times_ns(start_ns=start_ns, rate_hz=rate_hz, n_samples=n_samples)
    rows = array.reshape(math.prod(array.shape[:-1]), times.size)
    joined = np.full((rows.shape[0], n_samples), np.nan)
    for row, out in zip(rows, joined, strict=True):  # channels, each with readings missing elsewhere
        present = np.isfinite(row)
        own_ns = times[present]
        if own_ns.size:
            # from one origin and as floats, which hold a hundred days of ns exactly
            since, at = (own_ns - own_ns[0]).astype(np.float64), (clock - own_ns[0]).astype(np.float64)
            out[:] = np.interp(at, since, row[present].astype(np.float64), left=np.nan, right=np.nan)
            out[_between_far(own_ns, clock, longest_ns)] = np.nan
    return joined.reshape(*array.shape[:-1], n_samples)


def to_common_clock(
    signals: Sequence[tuple[ArrayLike, ArrayLike]], *, rate_hz: float, longest_gap_s: float
) -> tuple[_Times, list[_Floats]]:
    """Return the times of one even clock, and several signals at these times.

    Parameters
    ----------
    signals
        Values, shape (..., n), and times in ns, shape (n,), of each; as for `resample_to_clock`.
    rate_hz
        Of the clock.
    longest_gap_s
        Neighbours farther apart than that are not joined.

    Returns
    -------
    The clock runs over the time that all signals share, from the latest first sample to the earliest last one;
    it is empty where they share none.

    Raises
    ------
    SignalError
        As `resample_to_clock`.
    """
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    every_ns = [as_times_ns(times_ns, name="times_ns") for _, times_ns in signals]
    start_ns = n_samples = 0
    if every_ns and all(times.size for times in every_ns):
        start_ns = max(int(times[0]) for times in every_ns)
        length_ns = min(int(times[-1]) for times in every_ns) - start_ns
        n_samples = max(0, math.floor(length_ns * rate_hz / NS_PER_S + 1e-9) + 1)
        _check_length(n_samples, max(times.size for times in every_ns))
    at_ns = clock_times_ns(start_ns=start_ns, rate_hz=rate_hz, n_samples=n_samples)
    return at_ns, [
        resample_to_clock(
            values,
            times_ns,
            start_ns=start_ns,
            rate_hz=rate_hz,
            n_samples=n_samples,
            longest_gap_s=longest_gap_s,
        )
        for values, times_ns in signals
    ]


def _checked(values: ArrayLike, times_ns: ArrayLike, n_samples: int) -> tuple[NDArray[Any], _Times]:
    array, times = as_signal(values, name="values"), as_times_ns(times_ns, name="times_ns")
    if array.shape[-1] != times.size:
        raise SignalError(f"{array.shape[-1]} values at {times.size} times, expected as many")
    _check_length(n_samples, times.size)
    return array, times


def _check_length(n_samples: int, n_readings: int) -> None:
    if n_samples > max(_MOST_SAMPLES, _SAMPLES_PER_READING * n_readings):
        raise SignalError(
            f"{n_samples} samples of a clock for {n_readings} readings, expected no wrong time stamp"
        )


def _cutoff(ratio: float) -> float:
    """Return where the kernel is 6 dB down, in cycles per sample, for the new rate over the old one."""
    return 0.5 if not ratio < _SAME_RATE else ratio * (0.5 - _TRANSITION / 2)


def _stretches(times: _Times, longest_ns: float) -> Iterator[tuple[int, int]]:
    """Yield first sample and end of every stretch without a long gap."""
    if times.size:
        cuts = np.flatnonzero(np.diff(times) > longest_ns) + 1
        yield from zip([0, *cuts.tolist()], [*cuts.tolist(), times.size], strict=True)


def _between_far(times: _Times, clock: _Times, longest_ns: float) -> NDArray[np.bool_]:
    after = np.searchsorted(times, clock)
    inside = (after > 0) & (after < times.size)
    inside[inside] = times[after[inside]] != clock[inside]
    inside[inside] = times[after[inside]] - times[after[inside] - 1] > longest_ns
    return inside


def _resampled(samples: NDArray[Any], times: _Times, clock: _Times, period_ns: float, cutoff: float) -> _Floats:
    """Return the samples of a stretch, shape (n,), at the times of the clock, all within it."""
    if times.size == 1:
        return np.repeat(samples.astype(np.float64), clock.size)
    even, even_ns = _evenly(samples, times, period_ns)
    if not even_ns:
        filled, since = _filled(samples, times, _SOME_MISSING, period_ns)
        if cutoff == 0.5:
            return _by_spline(filled, since, clock, times[0])
        n = max(2, round(since[-1] / period_ns) + 1)
        even_ns = since[-1] / (n - 1)
        even = _by_spline(filled, since, np.minimum(even_ns * np.arange(n), since[-1]), 0)
    up, down = _as_ratio(float(clock[-1] - clock[0]) / max(1, clock.size - 1) / even_ns, clock.size)
    if up:
        return _by_phases(even, float(clock[0] - times[0]) / even_ns, up, down, clock.size, cutoff)
    return _by_grid(even, clock, times[0], even_ns, cutoff)


def _evenly(samples: NDArray[Any], times: _Times, period_ns: float) -> tuple[_Floats, float]:
    """Return the samples, with those that are missing, and their period if their clock is even; else 0."""
    filled, since = _filled(samples, times, _ONE_MISSING, period_ns)
    even_ns = float(since[-1]) / (since.size - 1)
    line = even_ns * np.arange(since.size)
    line -= since
    is_even = max(line.max(), -line.min()) <= _EVEN * even_ns
    return (filled, even_ns) if is_even else (filled[:0], 0.0)


def _filled(samples: NDArray[Any], times: _Times, periods: float, period_ns: float) -> tuple[_Floats, _Floats]:
    """Return samples and times from the first; between neighbours so far apart, more of them on the line."""
    samples, since = samples.astype(np.float64), (times - times[0]).astype(np.float64)
    far = np.diff(times) > periods * period_ns
    if not far.any():
        return samples, since
    steps = np.where(far, np.maximum(1, np.rint(np.diff(since) / period_ns)), 1)
    places = np.concatenate([[0], np.cumsum(steps)])
    every = np.arange(int(places[-1]) + 1)
    return np.interp(every, places, samples), np.interp(every, places, since)


def _by_spline(samples: _Floats, since: _Floats, clock: NDArray[Any], origin: Any) -> _Floats:
    """Return the values at `clock - origin` by a cubic spline, in blocks that are one curve."""
    out = np.empty(clock.size)
    for start in range(0, clock.size, _BLOCK):
        at_ns = clock[start : start + _BLOCK] - origin
        low, high = np.searchsorted(since, [at_ns[0], at_ns[-1]])
        knots = slice(max(0, low - _KNOTS), high + _KNOTS)
        out[start : start + _BLOCK] = interpolate.CubicSpline(since[knots], samples[knots])(at_ns)
    return out


def _half(cutoff: float) -> int:
    """Return how many samples the kernel reaches to each side."""
    return math.ceil(_CROSSINGS / (2 * cutoff))


def _kernel(distance: _Floats, cutoff: float) -> _Floats:
    """Return the weight, not yet normalised, of a sample at a distance in samples."""
    half = _half(cutoff)
    inside = np.maximum(0.0, 1.0 - (distance / half) ** 2)
    return np.asarray(np.sinc(2 * cutoff * distance) * np.i0(_BETA * np.sqrt(inside)) * (inside > 0))


def _by_grid(samples: _Floats, clock: _Times, origin: Any, even_ns: float, cutoff: float) -> _Floats:
    """Return the values at `clock - origin`, by a grid so fine that a spline of 5th order adds no error."""
    up = math.ceil(cutoff / _SPLINE_CUTOFF)
    down = max(1, math.floor(_SPLINE_CUTOFF / cutoff))
    start = float(clock[0] - origin) / even_ns - _MARGIN * down / up
    n = math.ceil((float(clock[-1] - origin) / even_ns - start) * up / down) + _MARGIN
    grid = _by_phases(samples, start, up, down, n, cutoff)
    ndimage.spline_filter1d(grid, order=5, output=grid, mode="mirror")  # in its place: memory
    out = np.empty(clock.size)
    for first in range(0, clock.size, _BLOCK):
        place = ((clock[first : first + _BLOCK] - origin) / even_ns - start) * (up / down)
        out[first : first + _BLOCK] = ndimage.map_coordinates(grid, place[np.newaxis], order=5, prefilter=False)
    return out


def _as_ratio(step: float, n: int) -> tuple[int, int]:
    """Return up and down where the clock's step is down / up samples over all of `n` samples; else 0 and 0."""
    ratio = Fraction(step).limit_denominator(_LARGEST_UP)
    fits = ratio > 0 and abs(step - ratio) * n <= 10 * _EVEN
    return (ratio.denominator, ratio.numerator) if fits else (0, 0)


def _by_phases(samples: _Floats, place: float, up: int, down: int, n: int, cutoff: float) -> _Floats:
    """Return `n` values from `place` on, `down` / `up` samples apart: filtered, as the phases come again."""
    half = _half(cutoff)
    before = max(0, half - 1 - math.floor(place))
    after = max(0, math.floor(place + (n - 1) * down / up) + half + 1 - samples.size)
    padded = np.pad(samples, (before, after), mode="reflect", reflect_type="odd")
    first = math.floor(place) + 1 - half + before  # of the samples within reach
    needed = padded[first : first + math.ceil((n - 1) * down / up) + 2 * half]
    late = half - 1 + place - math.floor(place)  # where the first value lies among them
    lead = math.ceil(2 * half * up / down)  # values that come before the first, for a causal filter
    at = np.arange(math.ceil(lead * down + up)) / up - (lead * down / up - late)
    weights = _kernel(at, cutoff)
    by_phase = np.zeros(up)
    np.add.at(by_phase, np.arange(at.size) % up, weights)
    weights /= by_phase[np.arange(at.size) % up]
    return np.asarray(signal.upfirdn(weights, needed, up, down)[lead : lead + n])
