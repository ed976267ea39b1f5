"""Breaths in a respiration signal, and the pauses between them.

Theory of operation
-------------------
Everything runs at 10 to 20 samples a second. A breath is a swing: up and down again by a good part of what the
signal swings by around it, whatever its shape and wherever its baseline is.

1. *Smoothing.* Means of `rate // 10` samples, then a Gaussian of 0.15 s against the heart's part in the signal.
   Missing samples have no weight. Nothing is taken away from below: what follows does not mind a baseline, and
   a high-pass filter would swing back in a pause and make a breath of that.
2. *Usual swing.* The range of blocks of 5 s: their median over some 35 s around and, that a pause may not turn
   noise into breaths, half their upper quartile over the last two minutes, whichever is larger.
3. *Breaths* are the maxima that rise above the valleys on both sides, within 20 s, by a share of the usual
   swing.

Nothing rests on samples farther away than `BEFORE_S` and `AFTER_S`, on blocks at fixed places and on sums of
which each is taken alone. So a long signal is done stretch by stretch, and a live one (`breaths_stream`) gives
the very same breaths.
"""

from __future__ import annotations

import warnings
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, signal

from analysis.arrays import as_positive, as_signal
from analysis.intervals import intervals_of, union
from protocols.errors import SignalError

LOWEST_RATE_HZ: Final = 4.0
"""Four samples in the fastest breath of 60 per min."""
BEFORE_S: Final = 130.0
AFTER_S: Final = 25.0
"""How far before and after it a breath depends on the signal: steps 1 to 3 together, in whole blocks."""

_WORKING_RATE_HZ: Final = 10.0  # lowest rate after averaging; ten samples in the fastest breath
_SMOOTHING_S: Final = 0.15  # keeps 64 % of 60 breaths/min, 37 % of 90 heartbeats/min
_REACH: Final = 3.0  # standard deviations at which a Gaussian ends
_LEAST_WEIGHT: Final = 0.25  # of a Gaussian's weight that must lie on samples that are there
_BLOCK_S: Final = 5.0  # one breath at 12 per min
_LOCAL_BLOCKS: Final = (3, 3)  # before and after: 35 s, the window of Karlen 2013 in whole blocks
_LONG_BLOCKS: Final = (24, 3)  # AASM: apnoea is told against the two minutes before it
_LONG_SHARE: Final = 0.5
_LEAST_SWING: Final = 0.3  # of the usual one; Schaefer & Kratky 2008: 0.2 of the upper quartile of maxima
_SWING_S: Final = 20.0  # one breath at 3 per min
_DUST: Final = 1e-9  # rounding errors, relative to the level of the signal
_APNOEA_SHARE: Final = 0.1  # AASM: a fall of the amplitude by nine tenths
_LEAST_CHANGES: Final = 0.1  # share of the samples that differ from the one before, even of a coarse converter
_STRETCH_S: Final = 1800.0

_Floats: TypeAlias = NDArray[np.float64]


def detect_breaths(respiration: ArrayLike, *, rate_hz: float) -> NDArray[np.int64]:
    """Return the sample indices of the breaths of one respiration signal, ascending.

    Parameters
    ----------
    respiration
        Impedance, belt, nasal pressure or carbon dioxide, shape (n_samples,), in any unit; NaN where missing.
    rate_hz
        Sampling rate, at least 4.

    Returns
    -------
    Shape (n_breaths,). The top of each breath: the end of inspiration where it raises the signal. Holes of up
    to about half a second are bridged; nothing is found in a longer one, and no swing is seen across it. Noise
    alone gives breaths at random: ask `respiration.respiratory_rate_per_min` before believing them.

    Raises
    ------
    SignalError
        If the signal is not one-dimensional, holds infinite or no real values, or the rate is below 4 Hz.

    References
    ----------
    Schaefer & Kratky 2008, doi:10.1007/s10439-007-9428-1 ("advanced counting"): a breath is a swing that passes
    a share of the upper quartile of swings. Differs in measuring each swing against its neighbourhood, in the
    share, and in no high-pass filter.
    """
    samples, rate_hz = checked(respiration, rate_hz)
    before, after, stretch = (_whole_blocks(length_s, rate_hz) for length_s in (BEFORE_S, AFTER_S, _STRETCH_S))
    found = [np.empty(0, dtype=np.int64)]
    for start in range(0, samples.size, stretch):  # half an hour at a time keeps memory bounded
        first = max(0, start - before)
        breaths = first + breaths_of_stretch(samples[first : start + stretch + after], rate_hz=rate_hz)
        found.append(breaths[(breaths >= start) & (breaths < start + stretch)])
    return np.concatenate(found)


def detect_breaths_batch(respiration: ArrayLike, *, rate_hz: float) -> list[NDArray[np.int64]]:
    """Return `detect_breaths` of every row of `respiration`, shape (n_signals, n_samples).

    Raises
    ------
    SignalError
        As `detect_breaths`, or if `respiration` is not two-dimensional.
    """
    signals = as_signal(respiration, name="respiration")
    if signals.ndim != 2:
        raise SignalError(f"respiration of shape {signals.shape}, expected (n_signals, n_samples)")
    return [detect_breaths(row, rate_hz=rate_hz) for row in signals]  # ragged: one by one


def find_apnoeas(respiration: ArrayLike, *, rate_hz: float, shortest_s: float = 10.0) -> NDArray[np.int64]:
    """Return where breathing pauses, as half-open intervals of sample indices, shape (n_pauses, 2).

    Parameters
    ----------
    respiration
        As in `detect_breaths`.
    rate_hz
        Sampling rate, at least 4.
    shortest_s
        Shortest pause that counts.

    Returns
    -------
    The stretches, of `shortest_s` or longer, within which the smoothed signal moves by less than a tenth of the
    upper quartile of the ranges of 5 s of the two minutes before. Missing samples are no pause, nor is a signal
    of which less than a tenth changes at all: a sensor that fell off has no noise either. What effort there is
    during a pause cannot be told: a belt shows efforts against a closed airway as breaths.

    References
    ----------
    Berry et al., AASM Manual for the Scoring of Sleep (apnoea: amplitude down by 90 % or more for 10 s or more;
    cited from memory, unconfirmed). Differs in a baseline of 5 s ranges.
    """
    samples, rate_hz = checked(respiration, rate_hz)
    shortest_s = as_positive(shortest_s, name="shortest_s", unit="s")
    before, stretch = (_whole_blocks(length_s, rate_hz) for length_s in (BEFORE_S, _STRETCH_S))
    after = int(np.ceil((shortest_s + 1.0) * rate_hz))
    found = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, samples.size, stretch):
        first = max(0, start - before)
        found.append(first + _pauses(samples[first : start + stretch + after], rate_hz, shortest_s))
    return union(*found)


def checked(respiration: ArrayLike, rate_hz: float) -> tuple[NDArray[Any], float]:
    """Return the signal and the rate, or raise SignalError."""
    samples = as_signal(respiration, name="respiration")
    if samples.ndim != 1:
        raise SignalError(f"respiration of shape {samples.shape}, expected one signal (n_samples,)")
    return samples, checked_rate_hz(rate_hz)


def checked_rate_hz(rate_hz: float) -> float:
    """Return the rate, or raise SignalError if it is below 4 Hz."""
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    if rate_hz < LOWEST_RATE_HZ:
        raise SignalError(f"rate_hz={rate_hz!r}, expected at least {LOWEST_RATE_HZ} Hz")
    return rate_hz


def unit_samples(rate_hz: float) -> int:
    """Return the samples in a block; a stretch must start at a multiple of it."""
    factor = working_factor(rate_hz)
    return factor * _block(rate_hz / factor)


def breaths_of_stretch(samples: NDArray[Any], *, rate_hz: float) -> NDArray[np.int64]:
    """Return the breaths of one stretch of signal; those near an end that is cut are only provisional."""
    factor = working_factor(rate_hz)
    working_hz = rate_hz / factor
    swings = smoothed(averaged(samples, factor), working_hz)
    if swings.size < 3 or np.isnan(swings).all():
        return np.empty(0, dtype=np.int64)
    block = _block(working_hz)
    ranges = _ranges(swings, block)
    usual = np.fmax(
        _quantile_around(ranges, *_LOCAL_BLOCKS, 0.5),
        _LONG_SHARE * _quantile_around(ranges, *_LONG_BLOCKS, 0.75),
    )
    tops, _ = signal.find_peaks(swings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a top beside a hole has no valley there: prominence 0, no breath
        heights = signal.peak_prominences(swings, tops, wlen=2 * round(_SWING_S * working_hz) + 1)[0]
    usual = usual[tops // block]
    kept = tops[(heights >= _LEAST_SWING * usual) & (usual > _DUST * np.abs(swings[tops]))]
    left, middle, right = (swings[kept + k] for k in (-1, 0, 1))
    bend = left - 2.0 * middle + right
    shift = np.divide(0.5 * (left - right), bend, out=np.zeros(kept.size), where=bend < 0.0)
    centres = (kept + shift + 0.5) * factor - 0.5
    return np.asarray(np.clip(np.rint(centres), 0, samples.size - 1).astype(np.int64))


def _whole_blocks(length_s: float, rate_hz: float) -> int:
    """Return a length in samples, rounded up to whole blocks."""
    unit = unit_samples(rate_hz)
    return unit * int(np.ceil(length_s * rate_hz / unit))


def _pauses(samples: NDArray[Any], rate_hz: float, shortest_s: float) -> NDArray[np.int64]:
    """Return the pauses of one stretch of signal."""
    factor = working_factor(rate_hz)
    working_hz = rate_hz / factor
    values = averaged(samples, factor)
    smooth = smoothed(values, working_hz)
    width = max(2, round(shortest_s * working_hz))
    if smooth.size < width:
        return np.empty((0, 2), dtype=np.int64)
    missing = np.isnan(smooth)
    filled = np.where(missing, 0.0, smooth)
    shift = width // 2 - width + 1  # so that entry k looks at samples k to k + width
    high = ndimage.maximum_filter1d(filled, width, origin=shift)[: smooth.size - width + 1]
    low = ndimage.minimum_filter1d(filled, width, origin=shift)[: smooth.size - width + 1]
    holes = np.concatenate([[0], np.cumsum(missing)])
    whole = holes[width:] == holes[:-width]
    block = _block(working_hz)
    usual = np.repeat(_quantile_around(_ranges(smooth, block), _LONG_BLOCKS[0], 0, 0.75), block)
    changes = np.concatenate([[0], np.cumsum(np.diff(values, prepend=values[0]) != 0.0)])
    alive = changes[width:] - changes[:-width] >= _LEAST_CHANGES * width
    still = whole & alive & (high - low < _APNOEA_SHARE * usual[: high.size])
    edges = np.zeros(smooth.size + 1, dtype=np.int64)
    edges[: still.size] += still
    edges[width:] -= still
    return np.asarray(intervals_of(np.cumsum(edges[:-1]) > 0) * factor)


def averaged(samples: NDArray[Any], factor: int) -> _Floats:
    """Return the means of `factor` samples each, along the last axis, NaN where fewer than half are there."""
    end = samples.shape[-1] // factor * factor
    groups = samples[..., :end].reshape(*samples.shape[:-1], -1, factor)
    means = groups.mean(axis=-1, dtype=np.float64)
    poor = np.isnan(means)
    if poor.any():
        rest = groups[poor]
        there = ~np.isnan(rest)
        count = there.sum(axis=-1)
        sums = np.where(there, rest, 0.0).sum(axis=-1, dtype=np.float64)
        means[poor] = np.divide(sums, count, out=np.full(count.size, np.nan), where=2 * count >= factor)
    return np.asarray(means)


def smoothed(values: _Floats, rate_hz: float) -> _Floats:
    """Return one signal without what is faster than breathing, NaN where too little is there."""
    sigma = _SMOOTHING_S * rate_hz
    half = int(np.ceil(_REACH * sigma))
    taps = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    taps /= taps.sum()
    there = ~np.isnan(values)
    weight = ndimage.correlate1d(there.astype(np.float64), taps, mode="constant")
    total = ndimage.correlate1d(np.where(there, values, 0.0), taps, mode="constant")
    return np.asarray(np.divide(total, weight, out=np.full(values.size, np.nan), where=weight >= _LEAST_WEIGHT))


def working_factor(rate_hz: float) -> int:
    """Return how many samples are averaged into one of the 10 to 20 per second that breaths are found in."""
    return max(1, int(rate_hz // _WORKING_RATE_HZ))


def _block(working_hz: float) -> int:
    return max(1, round(_BLOCK_S * working_hz))


def _ranges(values: _Floats, block: int) -> _Floats:
    """Return the range of every block, NaN where nothing is there; a rest at the end is a block too."""
    n_blocks = -(-values.size // block)
    padded = np.full(n_blocks * block, np.nan)
    padded[: values.size] = values
    blocks = padded.reshape(n_blocks, block)
    low = np.where(np.isnan(blocks), np.inf, blocks).min(axis=1, initial=np.inf)
    high = np.where(np.isnan(blocks), -np.inf, blocks).max(axis=1, initial=-np.inf)
    return np.where(high >= low, high - low, np.nan)


def _quantile_around(values: _Floats, before: int, after: int, quantile: float) -> _Floats:
    """Return the quantile of the finite values from `before` to `after` each one, 0 where there is none."""
    padded = np.concatenate([np.full(before, np.nan), values, np.full(after, np.nan)])
    around = np.sort(np.lib.stride_tricks.sliding_window_view(padded, before + after + 1), axis=1)
    count = np.isfinite(around).sum(axis=1)
    rank = np.maximum(np.ceil(quantile * count).astype(np.int64) - 1, 0)
    return np.where(count > 0, around[np.arange(count.size), rank], 0.0)
