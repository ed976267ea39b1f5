"""Where the waves of a heartbeat begin, peak and end, told for many beats at once.

Theory of operation
-------------------
Beats are rows of equal width, gathered around their R peaks; every step is one operation on all rows.

1. *QRS complex.* The slope (derivative of a narrow Gaussian) of a row has its peaks where the complex rises and
   falls. From the steepest one outwards, peaks that still count belong to it; the complex begins and ends where
   the slope of the outermost has fallen to a small share.
2. *T wave.* The complex is replaced by a straight line, so that what is left curves most at the T wave: its
   peak is that of the second derivative of a wide Gaussian, moved to the extremum of the samples. Its end is
   where the tangent at the steepest point behind the peak meets the isoelectric level.
3. *P wave.* The same before the complex, with a narrower Gaussian; it begins and ends where its slope has
   fallen to half of the steepest.

A wave that does not stand out from the noise, or reaches the end of where it may be, is not told.

Constants are published or round figures, for the reasons that stand beside them. Two rules were added for what
MIT-BIH records showed: 80 ms between slopes behind the peak (109, 118: bundle branch block) and onsets near the
baseline (108: a plateau). The width of the slope's Gaussian (5 or 8 ms) was chosen on synthetic beats in noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_Floats: TypeAlias = NDArray[np.float64]
_Ints: TypeAlias = NDArray[np.int64]

BEFORE_S: Final = 0.45  # the longest PR looked for (300 ms), half a wide QRS complex, and room for the filters
AFTER_S: Final = 0.75  # T peak within 500 ms (Laguna 1994), its second half, and room

_SLOPE_SD_S: Final = 0.008  # steepest for a wave of 8 ms deviation, as Q, R and S waves have
_STEEPEST_S: Final = 0.080  # around the beat's mark: half of a wide (160 ms) complex
_QRS_BEFORE_S: Final = 0.150  # a ventricular beat, 200 ms and more wide, marked late in it
_QRS_AFTER_S: Final = 0.200
_QRS_GAP_S: Final = (
    0.050,
    0.080,
)  # further apart slopes are of two waves: a PR segment is 50 ms and more, and T
# begins later still, while the S wave of a bundle branch block may take 80 ms
_COUNTS_BEFORE: Final = 0.06  # Martinez 2004: a slope before the largest counts from 6 % of it on,
_COUNTS_AFTER: Final = 0.09  # one after it from 9 %;
_ONSET_SHARE: Final = 0.05  # the complex begins where 5 % of the first slope are reached
_OFFSET_SHARE: Final = 0.125  # and ends where 12.5 % of the last are left
_FLAT_SHARE: Final = 0.01  # 1 % of the largest slope, some 1 uV/ms: the baseline itself wanders that fast
_VALLEY_SHARE: Final = 0.25  # or where the slope has a minimum below a quarter of its peak
_NOISE_TO_COUNT: Final = 3.0  # standard deviations that hardly any of a row's samples exceed by chance
_NOISE_TO_END: Final = 2.0
_BASELINE_S: Final = (0.200, 0.060)  # before R: the PR segment and, at most half of it, P
_QRS_PASSES: Final = 4  # notched complexes have up to four slopes on a side of the steepest

_T_CURVE_SD_S: Final = 0.040  # T waves are some 160 ms wide: four standard deviations
_T_SLOPE_SD_S: Final = 0.015  # halves the noise of the QRS slope and widens the T wave by 5 %
_T_TREND_SD_S: Final = 0.030  # tells where the fall behind the peak is over and the next wave rises
_P_CURVE_SD_S: Final = 0.020  # P waves are some 80 ms wide
_P_SLOPE_SD_S: Final = 0.010
_T_FROM_S: Final = (0.140, 0.100)  # Laguna 1994: after the R peak, at RR from 700 ms on, and below
_T_TO_S: Final = 0.500
_T_TO_RR: Final = 0.7
_T_BEFORE_NEXT_S: Final = 0.140  # with half of the next QRS complex (80 ms): where its P wave is
_SHORT_RR_S: Final = 0.700
_T_HALF_S: Final = 0.250  # from the peak to the end at most
_PR_LONGEST_S: Final = 0.300  # from the P peak to the QRS complex: a first degree block of 350 ms
_P_HALF_S: Final = 0.070  # its steepest points lie within: P waves of 140 ms are very wide
_WAVE_NOISE: Final = 3.0  # a wave is told if it is that many standard deviations of the (smoothed) noise high
_R_REACH_S: Final = 0.050  # either side of the mark: holds Q, R and S of a normal complex
_LOW_T: Final = 0.1  # AHA/ACC/HRS 2009: a T wave below a tenth of R is low: its end is not told, nor, below
# half of that, its peak, which a baseline's bend may be
_WAVE_SHARE: Final = 0.015  # and 1.5 % of the QRS complex: 15 uV of 1 mV, below which no one measures

_MEDIAN_TO_SD: Final = 0.6745  # of the absolute values of a normal distribution


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Beats around their R peaks.

    Parameters
    ----------
    samples
        Shape (n, width), without missing values.
    rate_hz
        Sampling rate.
    r
        Column of the R peaks.
    first, last
        Columns between which a row may be read, both inclusive, shape (n,): its neighbours begin beyond.
    rr_s
        Usual RR interval, shape (n,).
    """

    samples: _Floats
    rate_hz: float
    r: int
    first: _Ints
    last: _Ints
    rr_s: _Floats


def qrs_bounds(rows: Rows) -> tuple[_Floats, _Floats]:
    """Return the columns where the QRS complexes begin and end, shapes (n,); NaN where it cannot be told."""
    slope = np.abs(_gaussian(rows.samples, _SLOPE_SD_S, rows.rate_hz, order=1))
    columns = np.arange(slope.shape[1])
    noise = _slope_noise(rows)
    around = np.abs(columns - rows.r) <= round(_STEEPEST_S * rows.rate_hz)
    steepest = np.where(around, slope, -1.0).argmax(axis=1)
    largest = _at(slope, steepest)
    peak = np.zeros(slope.shape, dtype=bool)
    peak[:, 1:-1] = (slope[:, 1:-1] >= slope[:, :-2]) & (slope[:, 1:-1] > slope[:, 2:])
    told = (largest > 0.0) & (largest > 2.0 * _NOISE_TO_COUNT * noise)
    quiet = _near_baseline(rows)  # the top of a plateau is flat as well, and no onset
    bounds = []
    for flip, reach_s, gap_s, counts, share in (
        (False, _QRS_BEFORE_S, _QRS_GAP_S[0], _COUNTS_BEFORE, _ONSET_SHARE),
        (True, _QRS_AFTER_S, _QRS_GAP_S[1], _COUNTS_AFTER, _OFFSET_SHARE),
    ):
        # The end is the onset of the mirrored row.
        s, p = (slope[:, ::-1], peak[:, ::-1]) if flip else (slope, peak)
        r = slope.shape[1] - 1 - rows.r if flip else rows.r
        outermost = slope.shape[1] - 1 - steepest if flip else steepest
        limit = max(0, r - round(reach_s * rows.rate_hz))
        p = p & (s >= np.maximum(counts * largest, _NOISE_TO_COUNT * noise)[:, np.newaxis])
        outermost = _chained(p, outermost, gap=round(gap_s * rows.rate_hz), limit=limit)
        height = _at(s, outermost)
        flat = np.maximum(_FLAT_SHARE * largest, _NOISE_TO_END * noise)
        low = s <= np.maximum(share * height, flat)[:, np.newaxis]
        valley = np.zeros(s.shape, dtype=bool)
        valley[:, 1:-1] = (s[:, 1:-1] <= s[:, :-2]) & (s[:, 1:-1] < s[:, 2:])
        low |= valley & (s <= _VALLEY_SHARE * height[:, np.newaxis])
        low &= columns < outermost[:, np.newaxis]
        if not flip:
            low &= quiet
        found = slope.shape[1] - 1 - low[:, ::-1].argmax(axis=1)
        good = told & low.any(axis=1) & (found >= limit)
        if flip:
            found = slope.shape[1] - 1 - found
        bounds.append(np.where(good, found, np.nan))
    onset, offset = bounds
    told = (onset >= rows.first) & (offset <= rows.last)
    return np.where(told, onset, np.nan), np.where(told, offset, np.nan)


def t_waves(rows: Rows, onset: _Floats, offset: _Floats) -> tuple[_Floats, _Floats]:
    """Return the columns of T peaks and T ends, shapes (n,); NaN where they cannot be told.

    The isoelectric level of the rows is 0.
    """
    rate_hz, n_columns = rows.rate_hz, rows.samples.shape[1]
    told = np.isfinite(onset) & np.isfinite(offset)
    start, end = np.where(told, onset, rows.r).astype(np.int64), np.where(told, offset, rows.r).astype(np.int64)
    bare = _without(rows, start, end)
    low = np.maximum(
        end + round(0.02 * rate_hz),  # the end of the complex itself curves
        rows.r + np.rint(np.where(rows.rr_s < _SHORT_RR_S, *reversed(_T_FROM_S)) * rate_hz).astype(np.int64),
    )
    span_s = np.where(rows.rr_s < _SHORT_RR_S, _T_TO_RR * rows.rr_s, _T_TO_S)
    high = np.minimum(
        rows.r + np.rint(span_s * rate_hz).astype(np.int64), rows.last - round(_T_BEFORE_NEXT_S * rate_hz)
    )
    centre, sign, found = _most_curved(bare, low, high, _T_CURVE_SD_S, rate_hz)
    smooth = _gaussian(bare, _T_SLOPE_SD_S, rate_hz, order=0)
    slope = _gaussian(bare, _T_SLOPE_SD_S, rate_hz, order=1)
    reach = round(_T_CURVE_SD_S * rate_hz)
    peak = _argmax_within(sign[:, np.newaxis] * smooth, np.maximum(centre - reach, low), centre + reach)
    behind = np.minimum(peak + round(_T_HALF_S * rate_hz), rows.last)
    trend = sign[:, np.newaxis] * _gaussian(bare, _T_TREND_SD_S, rate_hz, order=1)
    turned = (trend >= 0.0) & (np.arange(n_columns) > peak[:, np.newaxis] + round(_T_CURVE_SD_S * rate_hz))
    behind = np.where(turned.any(axis=1), np.minimum(behind, turned.argmax(axis=1)), behind)
    steepest = _argmax_within(-sign[:, np.newaxis] * slope, peak, behind)
    height = sign * _at(smooth, peak)
    with np.errstate(divide="ignore", invalid="ignore"):
        t_end = steepest - _at(smooth, steepest) / _at(slope, steepest)
    share = height / np.maximum(np.abs(_near_r(rows)).max(axis=1), np.finfo(np.float64).tiny)
    clear = told & found & (height > _least_height(rows, smooth, bare)) & (share >= 0.5 * _LOW_T)
    ended = clear & (share >= _LOW_T) & (steepest < behind)
    ended &= (t_end > peak) & (t_end <= np.minimum(behind, n_columns - 1))
    return np.where(clear, peak, np.nan), np.where(ended, t_end, np.nan)


def p_waves(rows: Rows, onset: _Floats, earliest: _Floats) -> tuple[_Floats, _Floats, _Floats]:
    """Return the columns of P onsets, peaks and ends, shapes (n,), not before `earliest`; NaN if not told."""
    rate_hz, n_columns = rows.rate_hz, rows.samples.shape[1]
    told = np.isfinite(onset)
    start = np.where(told, onset, rows.r).astype(np.int64)
    first = np.maximum(rows.first, np.ceil(np.where(np.isfinite(earliest), earliest, 0.0)).astype(np.int64))
    clipped = np.clip(np.arange(n_columns), first[:, np.newaxis], start[:, np.newaxis])
    bare = np.take_along_axis(rows.samples, clipped, axis=1)
    low = np.maximum(first, start - round(_PR_LONGEST_S * rate_hz))
    high = start - round(2.0 * _P_CURVE_SD_S * rate_hz)  # its second half lies between
    centre, sign, found = _most_curved(bare, low, high, _P_CURVE_SD_S, rate_hz)
    smooth = _gaussian(bare, _P_SLOPE_SD_S, rate_hz, order=0)
    slope = sign[:, np.newaxis] * _gaussian(bare, _P_SLOPE_SD_S, rate_hz, order=1)
    reach, half = round(_P_CURVE_SD_S * rate_hz), round(_P_HALF_S * rate_hz)
    peak = _argmax_within(
        sign[:, np.newaxis] * smooth, np.maximum(centre - reach, low), np.minimum(centre + reach, high)
    )
    rise = _argmax_within(slope, np.maximum(peak - half, first), peak)
    fall = _argmax_within(-slope, peak, np.minimum(peak + half, start - round(_P_SLOPE_SD_S * rate_hz)))
    columns = np.arange(n_columns)
    slow = slope <= 0.5 * _at(slope, rise)[:, np.newaxis]
    slow &= (columns < rise[:, np.newaxis]) & (columns >= first[:, np.newaxis])
    p_onset = n_columns - 1 - slow[:, ::-1].argmax(axis=1)
    slow_after = slope >= 0.5 * _at(slope, fall)[:, np.newaxis]
    slow_after &= (columns > fall[:, np.newaxis]) & (columns <= start[:, np.newaxis])
    p_end = slow_after.argmax(axis=1)
    bounded = slow.any(axis=1) & slow_after.any(axis=1)
    height = sign * (_at(smooth, peak) - 0.5 * (_at(smooth, p_onset) + _at(smooth, p_end)))
    clear = told & found & bounded & (height > _least_height(rows, smooth, bare))
    return np.where(clear, p_onset, np.nan), np.where(clear, peak, np.nan), np.where(clear, p_end, np.nan)


def _gaussian(samples: _Floats, sd_s: float, rate_hz: float, *, order: int) -> _Floats:
    """Return the derivative of `order` per sample, smoothed by a Gaussian of at least 0.7 samples."""
    sd = max(sd_s * rate_hz, 0.7)
    return np.asarray(ndimage.gaussian_filter1d(samples, sd, axis=1, order=order, mode="nearest"))


def _near_baseline(rows: Rows) -> NDArray[np.bool_]:
    """Return where rows are within a quarter of the QRS complex of their level before it."""
    start, end = (max(0, rows.r - round(before_s * rows.rate_hz)) for before_s in _BASELINE_S)
    above = rows.samples - np.median(rows.samples[:, start : end + 1], axis=1, keepdims=True)
    reach = round(_R_REACH_S * rows.rate_hz)
    size = np.abs(above[:, max(0, rows.r - reach) : rows.r + reach + 1]).max(axis=1, keepdims=True)
    return np.asarray(np.abs(above) <= _VALLEY_SHARE * size)


def _slope_noise(rows: Rows) -> _Floats:
    """Return the standard deviation that white noise gives the slope: that of what smoothing takes away.

    For a Gaussian of s samples that of its derivative is 1 / sqrt(4 sqrt(pi) s^3) of the noise's own.
    """
    sd = max(_SLOPE_SD_S * rows.rate_hz, 0.7)
    rest = rows.samples - _gaussian(rows.samples, _SLOPE_SD_S, rows.rate_hz, order=0)
    return np.asarray(np.median(np.abs(rest), axis=1) / _MEDIAN_TO_SD / np.sqrt(4.0 * np.sqrt(np.pi) * sd**3))


def _at(values: _Floats, columns: _Ints) -> _Floats:
    return np.asarray(np.take_along_axis(values, columns[:, np.newaxis], axis=1)[:, 0])


def _argmax_within(values: _Floats, low: _Ints, high: _Ints) -> _Ints:
    """Return the column of each row's largest value from `low` to `high`, both inclusive."""
    columns = np.arange(values.shape[1])
    inside = (columns >= low[:, np.newaxis]) & (columns <= high[:, np.newaxis])
    return np.asarray(np.where(inside, values, -np.inf).argmax(axis=1), dtype=np.int64)


def _chained(peak: NDArray[np.bool_], outermost: _Ints, *, gap: int, limit: int) -> _Ints:
    """Return the leftmost peak that can be reached from `outermost` in steps of at most `gap` columns."""
    columns = np.arange(peak.shape[1])
    for _ in range(_QRS_PASSES):
        near = peak & (columns < outermost[:, np.newaxis]) & (columns >= outermost[:, np.newaxis] - gap)
        near &= columns >= limit
        outermost = np.where(near.any(axis=1), near.argmax(axis=1), outermost)
    return outermost


def _without(rows: Rows, start: _Ints, end: _Ints) -> _Floats:
    """Return the rows with a line for the QRS complex, and held where the neighbouring beats begin."""
    columns = np.arange(rows.samples.shape[1])
    clipped = np.clip(columns, rows.first[:, np.newaxis], rows.last[:, np.newaxis])
    bare = np.take_along_axis(rows.samples, clipped, axis=1)
    share = (columns - start[:, np.newaxis]) / np.maximum(end - start, 1)[:, np.newaxis]
    line = _at(bare, start)[:, np.newaxis] * (1.0 - share) + _at(bare, end)[:, np.newaxis] * share
    return np.where((share > 0.0) & (share < 1.0), line, bare)


def _most_curved(
    bare: _Floats, low: _Ints, high: _Ints, sd_s: float, rate_hz: float
) -> tuple[_Ints, _Floats, NDArray[np.bool_]]:
    """Return where a row curves most from `low` to `high`, which way (1 up, -1 down), and if it is a peak."""
    curve = -_gaussian(bare, sd_s, rate_hz, order=2)
    size = np.abs(curve)
    peak = np.zeros(size.shape, dtype=bool)
    peak[:, 1:-1] = (size[:, 1:-1] >= size[:, :-2]) & (size[:, 1:-1] > size[:, 2:])
    centre = _argmax_within(np.where(peak, size, -1.0), low, high)
    found = _at(peak.astype(np.float64), centre) > 0.0
    found &= (centre >= low) & (centre <= high)
    return centre, np.where(_at(curve, centre) < 0.0, -1.0, 1.0), found


def _least_height(rows: Rows, smooth: _Floats, bare: _Floats) -> _Floats:
    """Return what a wave must reach to be told; `smooth` is `bare` smoothed, and its noise is less."""
    noise = np.median(np.abs(bare - smooth), axis=1) / _MEDIAN_TO_SD
    return np.asarray(np.maximum(_WAVE_NOISE * noise / 2.0, _WAVE_SHARE * np.ptp(_near_r(rows), axis=1)))


def _near_r(rows: Rows) -> _Floats:
    reach = round(_R_REACH_S * rows.rate_hz)
    return rows.samples[:, max(0, rows.r - reach) : rows.r + reach + 1]
