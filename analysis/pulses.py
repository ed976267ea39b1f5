"""Pulses in a photoplethysmogram.

Theory of operation
-------------------
Systole is the steepest part of a pulse wave. Everything runs on the slope of the signal at 40 to 80 samples a
second; the few thousand rises that come out are then judged all at once, each by its neighbours in time.

1. *Slope.* Means of `rate // 40` samples, first differences, one Gaussian of 35 ms, less the mean slope of the
   baseline. An offset has no part in it, so missing samples need no filling: a short run of them gets an even
   slope, a long one none.
2. *Polarity.* A pulse rises faster than it falls, and its peak is narrower than its valley. So the skewness of
   the slope plus that of the signal without its baseline tells which way is up: positive for light absorbed,
   negative for raw counts of light received.
3. *Candidates* are the ends of the rises; their strength is the steepest slope of the rise.
4. *Amplitude.* A candidate must reach a share of the usual strength around it, the more so the more candidates
   there are (noise), and not exceed it many times (a step of the baseline).
5. *Shadow.* Within the ejection time around a beat nothing much weaker is a beat: so dicrotic waves fall away.
6. *Rhythm.* A weak candidate that splits one regular interval in two falls away.
7. *Fiducial point.* The systolic peak: the highest of the samples themselves around the end of the rise.

Every step rests on blocks of the signal at fixed places and on neighbours in bounded time, and on sums of
which every one is taken alone (no running sums). So a stretch of signal with some more on either side gives the
pulses of the whole, to the last bit: long signals are done in stretches, and live ones as they come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from analysis.arrays import as_positive, as_signal
from analysis.pulses_points import PulsePoints as PulsePoints
from analysis.pulses_points import pulse_points as pulse_points
from protocols.errors import SignalError

Polarity: TypeAlias = Literal["auto", "rising", "falling"]
"""Which way systole goes: `rising`, `falling`, or what the shape of the signal says."""

LOWEST_RATE_HZ: Final = 20.0
"""Below, a systolic rise of 0.1 s has no two samples."""
SHORTEST_S: Final = 1.0
"""Shorter than a heart cycle at 60 beats/min there is no neighbourhood to judge a candidate by."""
BLOCKS_BEFORE: Final = 50
"""Blocks of signal before a pulse that may have a say in it: polarity 35, strength 4, rhythm and rest 7."""
BLOCKS_AFTER: Final = {"auto": 10, "rising": 6, "falling": 6}
"""Blocks after a pulse that may have a say in it: next pulse, shadow 3, strength 2, baseline 1, polarity 4."""

_WORKING_RATE_HZ: Final = 40.0  # lowest rate after averaging; pulse waves end below 15 Hz
_SMOOTHING_S: Final = 0.035  # strongest response at 4.5 Hz; a systolic rise takes 100 to 200 ms
_LONGEST_BRIDGE_S: Final = 0.3  # a dropped packet; longer holes may hide a systole
_BLOCK_S: Final = 2.0  # holds a beat down to 30 beats/min
_COARSE: Final = 4  # working samples in one of the signal without its baseline: 10 to 20 Hz
_BASELINE_S: Final = 0.3  # a Gaussian mean of half power at 0.44 Hz: 26 breaths/min, more than at rest
_PEAK_S: Final = 0.15  # a Gaussian mean as wide as a systolic wave
_DUST: Final = 1e-9  # rounding errors, relative to the baseline's slope
_SKEWNESS_BLOCKS: Final = 5  # 10 s, as is common for indices of signal quality
_POLARITY_BEFORE, _POLARITY_AFTER = 30, 4  # a minute of past settles it; the future costs latency
_STRENGTH_BLOCKS, _STRENGTH_SHIFT = 5, 1  # 3 before, 1 after: 10 s
_LOW_RANK, _HIGH_RANK = 1, 3  # of 5: one empty block, or one with an artefact, must not decide
_THRESHOLD: Final = 0.25  # share of the usual strength, as Pan & Tompkins 1985 for QRS
_NOISY_THRESHOLD: Final = 0.6  # ... and among noise alone a bit more than half
_MOST_PULSES_PER_S: Final = 3.0  # 180 beats/min, or 90 with a dicrotic wave each: no more rises, no noise
_NOISE_PER_S: Final = 5.5  # rises of white noise behind the smoothing: sqrt(3 / 2) / (2 pi 35 ms), Rice 1945
_LARGEST: Final = 4.0  # steeper than that is no pulse: a pulse after a pause is at most about twice the usual
_REFRACTORY_S: Final = 0.2  # 300 beats/min
_EJECTION_S: Final = 0.4  # the longest ejection; the dicrotic notch marks its end
_SHADOW_END: Final = 0.5  # share of the strength that a neighbour at the end of ejection must reach
_SHADOW_PASSES: Final = 3
_LONGEST_INTERVAL_S: Final = 2.5  # 24 beats/min
_USUAL_INTERVAL_S: Final = 8.0  # time over which intervals are compared
_INTERVALS: Final = 8  # as many as Pan & Tompkins 1985
_FEWEST_INTERVALS: Final = 3  # fewer have no median worth the name
_REGULAR: Final = 1.16  # Pan & Tompkins 1985: an interval up to 116 % of the usual one is regular
_WEAK: Final = 0.9  # clearly weaker than both neighbours
_FIDUCIAL_S: Final = 0.080  # about twice the smoothing
_STRETCH_BLOCKS: Final = 950  # half an hour

_Floats: TypeAlias = NDArray[np.float64]


def detect_pulses(ppg: ArrayLike, *, rate_hz: float, polarity: Polarity = "auto") -> NDArray[np.int64]:
    """Return the sample indices of the systolic peaks of one photoplethysmogram, ascending.

    Parameters
    ----------
    ppg
        One signal, shape (n_samples,), integers or floats in any unit. NaN marks missing samples; no pulse is
        ever reported on one.
    rate_hz
        Sampling rate, at least 20.
    polarity
        `rising` where systole raises the signal, `falling` where it lowers it (raw counts of light received);
        `auto` decides for every 2 s by the last minute and the next 8 to 10 s.

    Returns
    -------
    Shape (n_pulses,). The highest sample (lowest where systole falls) within 80 ms of the end of the rise; the
    middle of a plateau. Empty for a constant or wholly missing signal. Noise alone gives pulses at random: ask
    `pulses_intervals.pulse_rate_per_min` or a quality index before believing them.

    Raises
    ------
    SignalError
        If `ppg` is not one-dimensional, is shorter than 1 s, holds infinite or no real values, if the rate is
        below 20 Hz, or if the polarity is none of the three.

    References
    ----------
    Zong et al. 2003, doi:10.1109/CIC.2003.1291140: the rise, not the peak, tells a pulse from its neighbours.
    Pan & Tompkins 1985, doi:10.1109/TBME.1985.325532: threshold, regular interval.
    Elgendi et al. 2013, doi:10.1371/journal.pone.0076585: band of the signal.

    Differs from Zong et al. in the steepest slope instead of a sum of slopes, in thresholds from neighbours on
    both sides, and in the rules of polarity, shadow and rhythm.

    Constants are published or round figures, for the reasons that stand beside them. Strength (steepest slope,
    height, their mean), smoothing (20-60 ms), baseline (0.2-0.6 s), threshold (0.15-0.4), shadow (up to
    0.36-0.6 s) and the future that polarity waits for were compared, on the recordings of the benchmark, none
    of which was kept aside, and on synthetic waves: F1 moves by less than 0.015 next to the values taken;
    smoothing of 50 ms and a shadow up to 0.6 s lose 0.04 to 0.08 of it on the one patient above 120 beats/min.
    """
    samples = _checked(ppg, rate_hz, polarity)
    block = block_samples(rate_hz)
    stretch = _STRETCH_BLOCKS * block
    found = []
    for start in range(0, samples.size, stretch):  # half an hour at a time keeps memory bounded
        first = max(0, start - BLOCKS_BEFORE * block)
        end = start + stretch
        pulses = first + pulses_of_stretch(
            samples[first : end + BLOCKS_AFTER[polarity] * block], rate_hz=rate_hz, polarity=polarity
        )
        found.append(pulses[(pulses >= start) & (pulses < end)])
    return np.concatenate(found)


def detect_pulses_batch(
    ppg: ArrayLike, *, rate_hz: float, polarity: Polarity = "auto"
) -> list[NDArray[np.int64]]:
    """Return `detect_pulses` of every row of `ppg`, shape (n_signals, n_samples).

    Raises
    ------
    SignalError
        As `detect_pulses`, or if `ppg` is not two-dimensional.
    """
    signals = as_signal(ppg, name="ppg")
    if signals.ndim != 2:
        raise SignalError(f"ppg of shape {signals.shape}, expected (n_signals, n_samples)")
    return [detect_pulses(row, rate_hz=rate_hz, polarity=polarity) for row in signals]  # ragged: one by one


def block_samples(rate_hz: float) -> int:
    """Return the samples in a block, about 2 s; a stretch must start at a multiple of it."""
    factor = _factor(rate_hz)
    return factor * _block(rate_hz / factor)


def pulses_of_stretch(samples: NDArray[Any], *, rate_hz: float, polarity: Polarity) -> NDArray[np.int64]:
    """Return the pulses of one stretch of signal; those near an end that is cut are only provisional."""
    factor = _factor(rate_hz)
    working_hz = rate_hz / factor
    bridge = 1 + int(_LONGEST_BRIDGE_S * working_hz)
    slopes = _slopes(_averaged(samples, factor), longest=bridge)
    slopes = ndimage.correlate1d(slopes, _gaussian(_SMOOTHING_S * working_hz), mode="constant")
    block = _block(working_hz)
    baseline = _baseline(slopes, sigma=_BASELINE_S * working_hz)
    slopes -= np.repeat(baseline, _COARSE)[: slopes.size]
    if polarity == "auto":
        signs = _signs(slopes, block)
    else:
        signs = np.full(-(-slopes.size // block), 1.0 if polarity == "rising" else -1.0)
    if (signs < 0).any():
        slopes *= np.repeat(signs, block)[: slopes.size]
    rises = _find_rises(slopes, _DUST * np.abs(baseline), rate_hz=working_hz, block=block)
    ends = rises.ends[_choose(rises)]
    return _peaks(samples, ends * factor, signs[ends // block], half_width=int(_FIDUCIAL_S * rate_hz))


def _checked(ppg: ArrayLike, rate_hz: float, polarity: str) -> NDArray[Any]:
    samples = as_signal(ppg, name="ppg")
    if samples.ndim != 1:
        raise SignalError(f"ppg of shape {samples.shape}, expected one signal (n_samples,)")
    check_options(rate_hz, polarity)
    if samples.size < SHORTEST_S * rate_hz:
        raise SignalError(f"ppg of {samples.size} samples at {rate_hz} Hz, expected at least {SHORTEST_S} s")
    return samples


def check_options(rate_hz: float, polarity: str) -> None:
    """Raise SignalError if the rate is below 20 Hz or the polarity is none of the three."""
    if as_positive(rate_hz, name="rate_hz", unit="Hz") < LOWEST_RATE_HZ:
        raise SignalError(f"rate_hz={rate_hz!r}, expected at least {LOWEST_RATE_HZ} Hz")
    if polarity not in get_args(Polarity):
        raise SignalError(f"polarity={polarity!r}, expected one of {', '.join(get_args(Polarity))}")


def _factor(rate_hz: float) -> int:
    return max(1, int(rate_hz // _WORKING_RATE_HZ))


def _block(working_hz: float) -> int:
    return _COARSE * round(_BLOCK_S * working_hz / _COARSE)


def _averaged(samples: NDArray[Any], factor: int) -> _Floats:
    """Return the means of `factor` samples each, of those that are there; a rest at the end is left out."""
    end = samples.size // factor * factor
    total = samples[0:end:factor].astype(np.float64)
    for k in range(1, factor):
        total += samples[k:end:factor]
    if not np.isnan(total).any():
        total /= factor
        return total
    groups = samples[:end].reshape(-1, factor)
    present = ~np.isnan(groups)
    count = present.sum(axis=1)
    sums = np.where(present, groups, 0.0).sum(axis=1, dtype=np.float64)
    intact = count == factor
    sums[intact] = total[intact]  # summed in the same order with holes elsewhere as without
    means = np.full(count.size, np.nan)
    np.divide(sums, count, out=means, where=count > 0)
    return means


def _slopes(values: _Floats, *, longest: int) -> _Floats:
    """Return first differences: even across `longest` missing values at most, 0 across more of them."""
    present = np.flatnonzero(~np.isnan(values))
    if present.size == values.size:
        return np.diff(values)
    slopes = np.zeros(values.size - 1)
    if present.size > 1:
        lengths = np.diff(present)
        even = np.where(lengths <= longest, np.diff(values[present]) / lengths, 0.0)
        slopes[present[0] : present[-1]] = np.repeat(even, lengths)
    return slopes


def _gaussian(sigma: float) -> _Floats:
    half = int(np.ceil(3.0 * sigma))
    taps = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    return np.asarray(taps / taps.sum())


def _baseline(slopes: _Floats, *, sigma: float) -> _Floats:
    """Return the Gaussian mean of the slopes, for every few of them."""
    coarse = _summed(slopes)
    coarse /= _COARSE
    return np.asarray(ndimage.correlate1d(coarse, _gaussian(sigma / _COARSE), mode="nearest"))


def _summed(slopes: _Floats) -> _Floats:
    """Return the sums of every few slopes, the last one of what is left."""
    padded = np.zeros(-(-slopes.size // _COARSE) * _COARSE)
    padded[: slopes.size] = slopes
    total = padded[0::_COARSE].copy()
    for k in range(1, _COARSE):
        total += padded[k::_COARSE]
    return total


def _signs(slopes: _Floats, block: int) -> _Floats:
    """Return +1 or -1 for every block: which way systole goes."""
    n_blocks = -(-slopes.size // block)
    padded = np.zeros(n_blocks * block)
    padded[: slopes.size] = slopes
    width = block // _COARSE
    values = ndimage.correlate1d(_summed(padded), _above_mean(_PEAK_S * width / _BLOCK_S), mode="constant")
    votes = _skewness(padded.reshape(n_blocks, block)) + _skewness(values.reshape(n_blocks, width))
    weights = np.zeros(2 * _POLARITY_BEFORE + 1)
    weights[: _POLARITY_BEFORE + _POLARITY_AFTER + 1] = 1.0
    return np.where(ndimage.correlate1d(votes, weights, mode="constant") < 0.0, -1.0, 1.0)


def _above_mean(sigma: float) -> _Floats:
    """Return taps that make the signal without its Gaussian mean from the signal's differences."""
    taps = np.cumsum(_gaussian(sigma))[:-1]
    taps[taps.size // 2 :] -= 1.0
    return taps


def _skewness(rows: _Floats) -> _Floats:
    """Return the skewness about zero of every row with the rows before it."""
    weights = np.zeros(2 * _SKEWNESS_BLOCKS - 1)
    weights[:_SKEWNESS_BLOCKS] = 1.0 / _SKEWNESS_BLOCKS
    power = rows * rows
    second = ndimage.correlate1d(power.mean(axis=1), weights, mode="constant")
    power *= rows
    third = ndimage.correlate1d(power.mean(axis=1), weights, mode="constant")
    skewness = np.zeros(second.size)
    np.divide(third, second * np.sqrt(second), out=skewness, where=second > 0.0)
    return skewness


@dataclass(frozen=True, slots=True, eq=False)
class _Rises:
    """Candidates: index of the end of the rise, strength, least and largest strength of a pulse, each (n,)."""

    rate_hz: float
    ends: NDArray[np.int64]
    strengths: _Floats
    least: _Floats
    largest: _Floats


def _find_rises(slopes: _Floats, dust: _Floats, *, rate_hz: float, block: int) -> _Rises:
    rising = np.zeros(slopes.size + 1, dtype=bool)
    rising[1:] = slopes > 0.0
    edges = np.flatnonzero(rising[1:] != rising[:-1])
    starts, ends = edges[0::2], edges[1::2]
    starts = starts[: ends.size]  # a rise that the end of the signal cuts off has no peak
    if ends.size == 0:
        none = np.empty(0)
        return _Rises(rate_hz, ends, none, none, none)
    strengths = np.maximum.reduceat(slopes, starts)
    strengths[strengths <= dust[starts // _COARSE]] = 0.0
    blocks = ends // block
    maxima = np.zeros(-(-slopes.size // block))
    np.maximum.at(maxima, blocks, strengths)
    if maxima.size > 1 and slopes.size % block:
        maxima[-1] = max(maxima[-1], maxima[-2])  # the last block is short and may hold no pulse
    usual, largest = (
        ndimage.rank_filter(maxima, rank, size=_STRENGTH_BLOCKS, mode="mirror", origin=_STRENGTH_SHIFT)
        for rank in (_LOW_RANK, _HIGH_RANK)
    )
    per_s = _rises_per_s(blocks, n_blocks=maxima.size, block_s=block / rate_hz)
    share = np.interp(per_s, (_MOST_PULSES_PER_S, _NOISE_PER_S), (_THRESHOLD, _NOISY_THRESHOLD))
    return _Rises(rate_hz, ends, strengths, (share * usual)[blocks], _LARGEST * largest[blocks])


def _rises_per_s(blocks: NDArray[np.int64], *, n_blocks: int, block_s: float) -> _Floats:
    """Return the rises per second around every block."""
    counts = np.bincount(blocks, minlength=n_blocks).astype(np.float64)
    if n_blocks > 1:
        counts[-1] = max(counts[-1], counts[-2])  # of a short block
    ones = np.ones(_STRENGTH_BLOCKS)
    total = ndimage.correlate1d(counts, ones, mode="mirror", origin=_STRENGTH_SHIFT)
    return np.asarray(total / (_STRENGTH_BLOCKS * block_s))


def _choose(rises: _Rises) -> NDArray[np.intp]:
    """Return which rises are pulses, ascending."""
    strong = (rises.strengths > rises.least) & (rises.strengths <= rises.largest)
    return _without_inserted(_without_shadowed(np.flatnonzero(strong), rises), rises)


def _without_shadowed(pulses: NDArray[np.intp], rises: _Rises) -> NDArray[np.intp]:
    """Return the pulses that no stronger neighbour shadows, removing first those next to a pulse that stands.

    The shadow is complete for the refractory period, falls linearly to half of the neighbour's strength at the
    end of ejection, and ends there.
    """
    fade_per_s = (1.0 - _SHADOW_END) / (_EJECTION_S - _REFRACTORY_S)
    for _ in range(_SHADOW_PASSES):
        strengths = rises.strengths[pulses]
        gaps_s = np.diff(rises.ends[pulses]) / rises.rate_hz  # of integers: the same wherever a stretch starts
        shadow = np.minimum(1.0, 1.0 - fade_per_s * (gaps_s - _REFRACTORY_S))
        shadow[gaps_s >= _EJECTION_S] = 0.0
        by_previous = np.append(False, strengths[1:] < shadow * strengths[:-1])[: pulses.size]
        by_next = np.append(strengths[:-1] <= shadow * strengths[1:], False)[: pulses.size]
        shadowed = by_previous | by_next
        if not shadowed.any():
            break
        standing = np.concatenate([[False], ~shadowed, [False]])
        pulses = pulses[~((by_previous & standing[:-2]) | (by_next & standing[2:]))]
    return pulses


def _without_inserted(pulses: NDArray[np.intp], rises: _Rises) -> NDArray[np.intp]:
    """Return the pulses without weak ones that split a regular interval; never two in a row."""
    if pulses.size < 3:
        return pulses
    strengths, ends = rises.strengths[pulses], rises.ends[pulses]
    merged = ends[2:] - ends[:-2]
    weak = strengths[1:-1] < _WEAK * np.minimum(strengths[:-2], strengths[2:])
    inserted = weak & (merged < _REGULAR * _usual_intervals(ends, rate_hz=rises.rate_hz)[:-1])
    inserted[1:] &= ~inserted[:-1]
    return np.delete(pulses, np.flatnonzero(inserted) + 1)


def _usual_intervals(ends: NDArray[np.int64], *, rate_hz: float) -> _Floats:
    """Return the median of the last intervals before every pulse but the first; NaN where there are too few."""
    intervals = np.diff(ends).astype(np.float64)
    intervals[intervals > _LONGEST_INTERVAL_S * rate_hz] = np.nan
    nothing = np.full(_INTERVALS - 1, np.nan)
    past = np.lib.stride_tricks.sliding_window_view(np.append(nothing, intervals), _INTERVALS).copy()
    since = np.lib.stride_tricks.sliding_window_view(np.append(nothing, ends[:-1]), _INTERVALS)
    past[ends[1:, np.newaxis] - since > _USUAL_INTERVAL_S * rate_hz] = np.nan
    past.sort(axis=1)
    count = np.isfinite(past).sum(axis=1)
    medians = past[np.arange(count.size), np.maximum(count, 1) // 2]
    return np.where(count >= _FEWEST_INTERVALS, medians, np.nan)


def _peaks(
    samples: NDArray[Any], centres: NDArray[np.int64], signs: _Floats, *, half_width: int
) -> NDArray[np.int64]:
    """Return the highest sample within `half_width` of each centre, the middle where several are."""
    if centres.size == 0:
        return np.empty(0, dtype=np.int64)
    indices = centres[:, np.newaxis] + np.arange(-half_width, half_width + 1)
    outside = (indices < 0) | (indices >= samples.size)
    indices = np.clip(indices, 0, samples.size - 1)
    heights = samples[indices] * signs[:, np.newaxis]
    heights[outside | np.isnan(heights)] = -np.inf
    highest = heights.max(axis=1)
    tops = heights == highest[:, np.newaxis]
    first, last = tops.argmax(axis=1), tops.shape[1] - 1 - tops[:, ::-1].argmax(axis=1)
    rows = np.arange(centres.size)
    best = (first + last) // 2
    best = np.where(tops[rows, best], best, first)
    peaks = indices[rows, best]
    distinct = np.isfinite(highest)
    distinct[1:] &= peaks[1:] > peaks[:-1]
    return np.asarray(peaks[distinct], dtype=np.int64)
