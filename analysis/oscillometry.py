"""Blood pressure from a cuff: the oscillations that the artery makes in it while it deflates.

Theory of operation
-------------------
1. *Deflation*: from the highest cuff pressure to where it has fallen below 20 mmHg, or to the end.
2. *Oscillations*: the pulses of the cuff pressure. The height of each is that of its peak above the line from
   its valley to the next one, so that an even deflation has no part in it. A pulse in which the cuff falls much
   more steeply than it rises (a step of the valve) is set aside, and so is one much unlike its neighbours.
3. *Envelope*: heights against cuff pressure, smoothed by local straight lines.
4. *Mean pressure* is the cuff pressure of the largest oscillation. Systolic and diastolic pressure are, above
   and below it, where the envelope has fallen to given shares of its maximum, or where it is steepest.

Nothing in an oscillation marks systole or diastole: the shares are conventions, every maker has its own, and
they belong to a device as a calibration does. What this module gives compares signals and algorithms, not
devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, signal

from analysis.arrays import as_positive, as_signal
from analysis.filters import bridged
from analysis.pulses import detect_pulses
from protocols.errors import SignalError

Method: TypeAlias = Literal["ratio", "slope"]
"""How systolic and diastolic pressure are read off the envelope."""

SYSTOLIC_RATIO: Final = 0.55
DIASTOLIC_RATIO: Final = 0.82
"""Geddes et al. 1982: share of the largest oscillation at systolic and at diastolic pressure."""
LOWEST_RATE_HZ: Final = 20.0
"""As `pulses.detect_pulses`."""

_HIGHEST_MMHG: Final = 400.0  # cuffs let go of their air at 300 to 330; what is above is no mmHg, or a spike
_WIDEST_HOLE_MMHG: Final = 10.0
"""Two to three pulses of a usual deflation; across more the envelope, and maybe its maximum, is a guess."""
_DEFLATED_MMHG: Final = 20.0  # no artery is this slack, and the valve dumps the rest
_LONGEST_S: Final = 300.0  # a deflation from 300 mmHg at 1 mmHg/s: bounds the memory
_SMOOTHING_S: Final = 0.5  # of the cuff pressure, to find its top
_LOW_PASS_S: Final = 0.025  # Gaussian, half power at 5 Hz: the fifth harmonic of 60 beats/min
_RISE_S: Final = 0.5  # the longest rise, as in `pulses_points`
_STEEP: Final = 1.5  # times the steepest rise: a pulse rises faster than it falls
_VALVE_MMHG_PER_S: Final = 10.0  # twice a usual deflation
_AROUND: Final = 7  # pulses that a height is compared with: three artefacts are a minority
_UNLIKE: Final = 0.3  # of the largest height: a height that far from the median around is an artefact
_GRID_MMHG: Final = 0.5
_RIDGE: Final = 0.1  # of the bandwidth squared
_NARROWEST_MMHG: Final = 4.0  # bandwidth, else the median fall from pulse to pulse: three to five pulses count
_FEWEST: Final = 8  # pulses: at 8 mmHg each they span 60 mmHg
_FEWEST_HIGH: Final = 4  # above half the maximum: a maximum of one or two pulses is an artefact
_MOST_SET_ASIDE: Final = 2.0 / 3.0  # where the valve steps with every second pulse, half are
_LEAST_HEIGHT_MMHG: Final = 0.3  # at the maximum; below, resolution and noise of the transducer rule
_LEAST_EXPLAINED: Final = 0.9  # of the variance of the heights; of noise smoothing explains 0.4 to 0.85
_SECOND_PEAK: Final = 0.25  # of the maximum, above the valley between the two
_RATE_PER_MIN: Final = (30.0, 240.0)

_Floats: TypeAlias = NDArray[np.float64]
_Bools: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Oscillations:
    """The oscillations of one deflation, in their order, shape (n_pulses,).

    Parameters
    ----------
    times_s
        Of the peaks, from the first sample.
    cuff_mmhg
        Pressure of the cuff under the peak, without the oscillation.
    height_mmhg
        Of the peak above that.
    kept
        Neither on a step of the cuff pressure nor unlike its neighbours.
    """

    times_s: _Floats
    cuff_mmhg: _Floats
    height_mmhg: _Floats
    kept: _Bools


@dataclass(frozen=True, slots=True, eq=False)
class CuffReading:
    """What one deflation says, and what there is to review by eye.

    Parameters
    ----------
    systolic_mmhg, diastolic_mmhg, mean_mmhg, pulse_per_min
        NaN where a reason holds; one side alone is NaN where the envelope does not fall far enough on it.
    quality
        Share of the variance of the kept heights that the envelope explains, 0 to 1.
    reasons
        Name -> whether it holds: `few_pulses` (fewer than 8 kept, or than 4 of half the maximum), `artefacts`
        (over two thirds set aside), `small` (no height above 0.3 mmHg), `noise` (quality below 0.9),
        `hole` (missing samples between pulses more than 10 mmHg apart), `two_peaks` (of the envelope),
        `one_sided` (the maximum lies at an end of the envelope), `rate` (median
        interval not of 30 to 240 per min).
    oscillations
        What the envelope is made of.
    envelope_cuff_mmhg, envelope_mmhg
        The envelope on a grid of 0.5 mmHg, ascending.
    """

    systolic_mmhg: float
    diastolic_mmhg: float
    mean_mmhg: float
    pulse_per_min: float
    quality: float
    reasons: Mapping[str, bool]
    oscillations: Oscillations
    envelope_cuff_mmhg: _Floats
    envelope_mmhg: _Floats


def read_cuff(
    cuff_mmhg: ArrayLike,
    *,
    rate_hz: float,
    method: Method = "ratio",
    systolic_ratio: float = SYSTOLIC_RATIO,
    diastolic_ratio: float = DIASTOLIC_RATIO,
) -> CuffReading:
    """Return systolic, diastolic and mean pressure from one deflation of a cuff.

    Parameters
    ----------
    cuff_mmhg
        Pressure of the cuff, oscillations included, shape (n_samples,), NaN where missing. Of several
        deflations the one after the highest pressure counts.
    rate_hz
        Sampling rate, at least 20.
    method
        `ratio`: where the envelope falls to shares of its maximum. `slope`: where it is steepest.
    systolic_ratio, diastolic_ratio
        The shares, 0 to 1.

    Raises
    ------
    SignalError
        If the signal is not one-dimensional, holds infinite or no real values, the rate is below 20 Hz, the
        method is unknown, or a ratio is not between 0 and 1.

    References
    ----------
    Geddes et al. 1982, Annals of Biomedical Engineering 10:271: ratios 0.55 and 0.82 (from memory,
    unconfirmed). Drzewiecki, Hood & Apple 1994, Annals of Biomedical Engineering 22:88: mean pressure at the
    maximum, steepest slopes (from memory, unconfirmed). Chandrasekhar et al. 2019,
    doi:10.3389/fphys.2019.01415: what each of these gives for a given artery. Envelope, artefact rules and
    quality are of our own making; their figures are round.
    """
    samples, rate_hz = _checked(cuff_mmhg, rate_hz)
    if method not in get_args(Method):
        raise SignalError(f"method={method!r}, expected one of {', '.join(get_args(Method))}")
    for name, ratio in (("systolic_ratio", systolic_ratio), ("diastolic_ratio", diastolic_ratio)):
        if not 0.0 < ratio < 1.0:
            raise SignalError(f"{name}={ratio!r}, expected a share between 0 and 1")
    oscillations = cuff_oscillations(samples, rate_hz=rate_hz)
    grid_mmhg, envelope_mmhg = _envelope(oscillations)
    quality = _explained(oscillations, grid_mmhg, envelope_mmhg)
    intervals_s = np.diff(oscillations.times_s)
    pulse_per_min = 60.0 / float(np.median(intervals_s)) if intervals_s.size else float("nan")
    reasons = _reasons(oscillations, envelope_mmhg, quality, pulse_per_min)
    reasons["hole"] = _has_hole(samples, oscillations, rate_hz)
    systolic = diastolic = mean = float("nan")
    if any(reasons.values()):
        pulse_per_min = float("nan")
    else:
        mean = _summit(grid_mmhg, envelope_mmhg)
        if method == "ratio":
            systolic = _crossing(grid_mmhg, envelope_mmhg, systolic_ratio, upwards=True)
            diastolic = _crossing(grid_mmhg, envelope_mmhg, diastolic_ratio, upwards=False)
        else:
            systolic, diastolic = _steepest(grid_mmhg, envelope_mmhg)
    return CuffReading(
        systolic, diastolic, mean, pulse_per_min, quality, reasons, oscillations, grid_mmhg, envelope_mmhg
    )


def cuff_oscillations(cuff_mmhg: ArrayLike, *, rate_hz: float) -> Oscillations:
    """Return the oscillations of the deflation; parameters and errors as `read_cuff`."""
    samples, rate_hz = _checked(cuff_mmhg, rate_hz)
    start, end = _deflation(samples, rate_hz)
    if end - start < rate_hz:
        return Oscillations(np.empty(0), np.empty(0), np.empty(0), np.empty(0, dtype=bool))
    falling = _low_pass(samples[start:end], rate_hz)
    peaks = detect_pulses(falling, rate_hz=rate_hz, polarity="rising")
    valleys = _valleys(falling, peaks, rate_hz)
    peaks, after, valleys = peaks[:-1], valleys[1:], valleys[:-1]
    durations = np.maximum(after - valleys, 1)
    falls_mmhg = falling[valleys] - falling[after]
    under = falling[valleys] - falls_mmhg * (peaks - valleys) / durations
    heights = falling[peaks] - under
    kept = np.isfinite(heights) & (under <= _HIGHEST_MMHG) & ~_stepped(falling, valleys, after, rate_hz)
    kept &= _like_neighbours(np.where(kept, heights, np.nan))
    return Oscillations((start + peaks) / rate_hz, under, heights, kept)


def oscillometric_systolic_mmhg(cuff_mmhg: ArrayLike, *, rate_hz: float) -> float:
    """Return the systolic pressure of one deflation in mmHg by `read_cuff`, NaN where it cannot be read."""
    return read_cuff(cuff_mmhg, rate_hz=rate_hz).systolic_mmhg


def oscillometric_diastolic_mmhg(cuff_mmhg: ArrayLike, *, rate_hz: float) -> float:
    """Return the diastolic pressure of one deflation in mmHg by `read_cuff`, NaN where it cannot be read."""
    return read_cuff(cuff_mmhg, rate_hz=rate_hz).diastolic_mmhg


def oscillometric_mean_mmhg(cuff_mmhg: ArrayLike, *, rate_hz: float) -> float:
    """Return the mean pressure of one deflation in mmHg by `read_cuff`, NaN where it cannot be read."""
    return read_cuff(cuff_mmhg, rate_hz=rate_hz).mean_mmhg


def _checked(cuff_mmhg: ArrayLike, rate_hz: float) -> tuple[NDArray[Any], float]:
    samples = as_signal(cuff_mmhg, name="cuff_mmhg")
    if samples.ndim != 1:
        raise SignalError(f"cuff_mmhg of shape {samples.shape}, expected one signal (n_samples,)")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    if rate_hz < LOWEST_RATE_HZ:
        raise SignalError(f"rate_hz={rate_hz!r}, expected at least {LOWEST_RATE_HZ} Hz")
    return samples, rate_hz


def _deflation(samples: NDArray[Any], rate_hz: float) -> tuple[int, int]:
    """Return the half-open stretch from the top of the cuff pressure to where it is deflated, at most 5 min."""
    if samples.size == 0 or np.isnan(samples).all():
        return 0, 0
    level = ndimage.gaussian_filter1d(bridged(samples), _SMOOTHING_S * rate_hz, mode="nearest")
    start = int(level.argmax())
    low = np.flatnonzero(level[start:] < _DEFLATED_MMHG)
    longest = min(samples.size, start + round(_LONGEST_S * rate_hz))
    return start, min(longest, start + int(low[0])) if low.size else longest


def _low_pass(samples: NDArray[Any], rate_hz: float) -> _Floats:
    """Return the samples without the transducer's noise, missing ones missing."""
    smooth = ndimage.gaussian_filter1d(bridged(samples), _LOW_PASS_S * rate_hz, mode="nearest")
    smooth[np.isnan(samples)] = np.nan
    return np.asarray(smooth)


def _valleys(samples: _Floats, peaks: NDArray[np.int64], rate_hz: float) -> NDArray[np.int64]:
    """Return the lowest sample of the half second before each peak, after the peak before."""
    offsets = np.arange(-int(_RISE_S * rate_hz), 1)
    room = np.diff(peaks, prepend=np.full(min(1, peaks.size), -1))
    reach = np.minimum(room[:, np.newaxis] - 1, peaks[:, np.newaxis])
    waves = samples[np.maximum(peaks[:, np.newaxis] + offsets, 0)]
    lowest = np.where((offsets >= -reach) & ~np.isnan(waves), waves, np.inf).argmin(axis=1)
    return np.asarray(peaks + offsets[lowest])


def _stepped(falling: _Floats, starts: NDArray[np.int64], ends: NDArray[np.int64], rate_hz: float) -> _Bools:
    """Return which pulses fall much more steeply than they rise, as none does by itself."""
    if starts.size == 0:
        return np.empty(0, dtype=bool)
    slopes = np.nan_to_num(np.diff(falling[starts[0] : ends[-1] + 1]) * rate_hz)
    at = starts - starts[0]
    steepest_fall, steepest_rise = -np.minimum.reduceat(slopes, at), np.maximum.reduceat(slopes, at)
    return np.asarray(steepest_fall > _STEEP * np.maximum(steepest_rise, 0.0) + _VALVE_MMHG_PER_S)


def _like_neighbours(heights: _Floats) -> _Bools:
    """Return which heights, NaN for none, do not stand out from the median of the 7 around."""
    kept = np.isfinite(heights)
    for _ in range(2):  # what stood out the first time has no say the second
        there = np.flatnonzero(kept)
        if there.size == 0:
            break
        values = heights[there]
        middle = ndimage.median_filter(values, size=_AROUND, mode="mirror")
        kept[there] = np.abs(values - middle) <= _UNLIKE * max(float(middle.max()), 0.0)
    return kept


def _envelope(oscillations: Oscillations) -> tuple[_Floats, _Floats]:
    """Return a grid of cuff pressures and the smoothed height at each, empty below 3 kept pulses."""
    cuff, height = oscillations.cuff_mmhg[oscillations.kept], oscillations.height_mmhg[oscillations.kept]
    if cuff.size < 3 or np.ptp(cuff) < _GRID_MMHG:
        return np.empty(0), np.empty(0)
    grid = np.arange(np.ceil(cuff.min() / _GRID_MMHG), np.floor(cuff.max() / _GRID_MMHG) + 1.0) * _GRID_MMHG
    falls = np.diff(np.sort(cuff))
    falls = np.append(falls[falls >= _GRID_MMHG], _NARROWEST_MMHG)  # pulses on one step have one pressure
    width = max(_NARROWEST_MMHG, float(np.median(falls)))
    away = cuff - grid[:, np.newaxis]
    weights = np.exp(-0.5 * (away / width) ** 2)
    moments = [(weights * away**k).sum(axis=1) for k in range(3)]
    sums = [(weights * away**k * height).sum(axis=1) for k in range(2)]
    # the slope is drawn towards 0, lest pulses that all lie on one side of a gap make one of their noise
    spread = moments[2] + _RIDGE * width**2 * moments[0]
    determinant = moments[0] * spread - moments[1] ** 2
    return grid, (spread * sums[0] - moments[1] * sums[1]) / np.maximum(determinant, 1e-300)


def _explained(oscillations: Oscillations, grid_mmhg: _Floats, envelope_mmhg: _Floats) -> float:
    heights = oscillations.height_mmhg[oscillations.kept]
    total = float(((heights - heights.mean()) ** 2).sum()) if heights.size else 0.0
    if total == 0.0 or grid_mmhg.size == 0:
        return 0.0
    rest = heights - np.interp(oscillations.cuff_mmhg[oscillations.kept], grid_mmhg, envelope_mmhg)
    return float(np.clip(1.0 - (rest**2).sum() / total, 0.0, 1.0))


def _reasons(
    oscillations: Oscillations, envelope_mmhg: _Floats, quality: float, pulse_per_min: float
) -> dict[str, bool]:
    heights = oscillations.height_mmhg[oscillations.kept]
    n_kept = heights.size
    largest = float(envelope_mmhg.max()) if envelope_mmhg.size else 0.0
    peaks, _ = signal.find_peaks(np.pad(envelope_mmhg, 1), prominence=_SECOND_PEAK * max(largest, 1e-12))
    top = int(envelope_mmhg.argmax()) if envelope_mmhg.size else 0
    return {
        "few_pulses": n_kept < _FEWEST or int((heights > largest / 2.0).sum()) < _FEWEST_HIGH,
        "artefacts": n_kept < (1.0 - _MOST_SET_ASIDE) * oscillations.kept.size,
        "small": largest < _LEAST_HEIGHT_MMHG,
        "noise": quality < _LEAST_EXPLAINED,
        "two_peaks": peaks.size > 1,
        "one_sided": top in (0, envelope_mmhg.size - 1),
        "rate": not _RATE_PER_MIN[0] <= pulse_per_min <= _RATE_PER_MIN[1],
    }


def _has_hole(samples: NDArray[Any], oscillations: Oscillations, rate_hz: float) -> bool:
    """Return whether samples are missing between kept pulses whose pressures are too far apart."""
    peaks = np.rint(oscillations.times_s[oscillations.kept] * rate_hz).astype(np.int64)
    missing = np.concatenate([[0], np.cumsum(np.isnan(samples))])
    lost = np.diff(missing[peaks]) > 0
    return bool((np.abs(np.diff(oscillations.cuff_mmhg[oscillations.kept]))[lost] > _WIDEST_HOLE_MMHG).any())


def _summit(grid_mmhg: _Floats, envelope_mmhg: _Floats) -> float:
    """Return where a parabola through the highest point of the envelope and its neighbours peaks."""
    top = int(np.clip(envelope_mmhg.argmax(), 1, envelope_mmhg.size - 2))
    left, middle, right = envelope_mmhg[top - 1 : top + 2]
    bend = left - 2.0 * middle + right
    return float(grid_mmhg[top] + (_GRID_MMHG * 0.5 * (left - right) / bend if bend < 0.0 else 0.0))


def _crossing(grid_mmhg: _Floats, envelope_mmhg: _Floats, ratio: float, *, upwards: bool) -> float:
    """Return the first cuff pressure, away from the maximum, where the envelope is down to a share of it."""
    top = int(envelope_mmhg.argmax())
    side = slice(top, None) if upwards else slice(top, None, -1)
    pressures, heights = grid_mmhg[side], envelope_mmhg[side]
    level = ratio * heights[0]
    below = np.flatnonzero(heights <= level)
    if below.size == 0:
        return float("nan")
    k = int(below[0])
    share = (heights[k - 1] - level) / (heights[k - 1] - heights[k])
    return float(pressures[k - 1] + share * (pressures[k] - pressures[k - 1]))


def _steepest(grid_mmhg: _Floats, envelope_mmhg: _Floats) -> tuple[float, float]:
    """Return where the envelope falls most steeply above its maximum and rises most steeply below it.

    NaN where that is at an end of the envelope: it may be steeper beyond.
    """
    slopes, top = np.gradient(envelope_mmhg, _GRID_MMHG), int(envelope_mmhg.argmax())
    high, low = top + int(slopes[top:].argmin()), int(slopes[: top + 1].argmax())
    systolic = grid_mmhg[high] if high < grid_mmhg.size - 2 else np.nan
    return float(systolic), float(grid_mmhg[low] if low > 1 else np.nan)
