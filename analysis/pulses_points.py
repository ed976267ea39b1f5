"""Points of a pulse wave: onset, foot, steepest point and peak, between the samples.

The foot is where the tangent at the steepest point of the rise meets the level of the onset ("intersecting
tangents"): of the ways to time a pulse wave the one that noise and reflections move least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from analysis.arrays import as_positive, as_signal
from protocols.errors import SignalError

HIGHEST_RATE_HZ: Final = 10_000.0
"""Light is sampled below 5 kHz; a rate above was given in another unit, and would ask for huge windows."""
_LONGEST_RISE_S: Final = 0.5  # a systolic rise takes 100 to 200 ms, with slow ejection or a slow filter 400 ms
_SMOOTHING_S: Final = 0.010  # noise above 16 Hz; a fifth of the shortest time from onset to steepest point
_AROUND_S: Final = 0.1  # of this much on either side, the peak is the extreme one: that tells polarity
_AT_ONCE: Final = 1024  # pulses looked at together; bounds the memory

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PulsePoints:
    """Times in s from the first sample, one per pulse, NaN where samples are missing or the rise is cut off.

    Parameters
    ----------
    onsets_s
        Where the slope turns positive for the last time before the steepest point.
    feet_s
        Where the tangent at the steepest point meets the level of the onset.
    steepest_s
        Where the rise is steepest.
    peaks_s
        Top of a parabola through the systolic peak and its neighbours.
    heights
        Peak minus onset, in the signal's unit, negative where systole lowers the signal.
    """

    onsets_s: _Floats
    feet_s: _Floats
    steepest_s: _Floats
    peaks_s: _Floats
    heights: _Floats


def pulse_points(ppg: ArrayLike, pulses: ArrayLike, *, rate_hz: float) -> PulsePoints:
    """Return onset, foot, steepest point and peak of every pulse.

    Parameters
    ----------
    ppg
        Shape (n_samples,), either polarity, NaN where missing.
    pulses
        Sample indices of the systolic peaks, ascending, as `detect_pulses` returns them.

    Raises
    ------
    SignalError
        If an array is not one-dimensional, the indices are not ascending integers inside the signal, or the
        rate is no number above 0, to 10 kHz.

    References
    ----------
    Chiu et al. 1991, American Heart Journal 121:1460-1470: intersecting tangents. Differs in a Gaussian of
    10 ms before differences are taken, and in parabolas for what lies between samples.
    """
    samples = as_signal(ppg, name="ppg")
    if samples.ndim != 1:
        raise SignalError(f"ppg of shape {samples.shape}, expected one signal (n_samples,)")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    if rate_hz > HIGHEST_RATE_HZ:
        raise SignalError(f"rate_hz={rate_hz!r}, expected at most {HIGHEST_RATE_HZ:g} Hz")
    peaks = as_indices(pulses, name="pulses", n_samples=samples.size)
    sign = _polarity(samples, peaks, around=max(1, round(_AROUND_S * rate_hz)))
    columns = [np.empty((5, 0))]
    for k in range(0, peaks.size, _AT_ONCE):
        some = peaks[k : k + _AT_ONCE]
        room = np.diff(peaks[max(0, k - 1) : k + _AT_ONCE], prepend=np.full(int(k == 0), -1 << 40))
        columns.append(_points(samples, some, room[-some.size :], sign=sign, rate_hz=rate_hz))
    onsets, feet, steepest, tops, heights = np.concatenate(columns, axis=1)
    return PulsePoints(onsets / rate_hz, feet / rate_hz, steepest / rate_hz, tops / rate_hz, heights * sign)


def as_indices(values: ArrayLike, *, name: str, n_samples: int) -> NDArray[np.int64]:
    """Return ascending sample indices as int64, or raise SignalError."""
    array = np.asarray(values)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise SignalError(f"{name} of shape {array.shape} and dtype {array.dtype}, expected integers (n,)")
    indices = array.astype(np.int64)
    if (np.diff(indices) <= 0).any() or indices[0] < 0 or indices[-1] >= n_samples:
        raise SignalError(f"{name} not ascending inside 0 to {n_samples - 1}, expected sample indices")
    return indices


def _polarity(samples: NDArray[Any], peaks: NDArray[np.int64], *, around: int) -> float:
    """Return +1 if most peaks are higher than what lies around them, -1 if lower."""
    inside = peaks[(peaks >= around) & (peaks + around < samples.size)]
    sides = samples[inside - around].astype(np.float64) + samples[inside + around]
    above = np.sign(2.0 * samples[inside] - sides)
    return -1.0 if np.nansum(above) < 0.0 else 1.0


def _points(
    samples: NDArray[Any], peaks: NDArray[np.int64], room: NDArray[np.int64], *, sign: float, rate_hz: float
) -> _Floats:
    """Return onset, foot, steepest point and peak as fractional indices, and the height: shape (5, n)."""
    before = int(np.ceil(_LONGEST_RISE_S * rate_hz)) + 1
    margin = int(np.ceil(3.0 * _SMOOTHING_S * rate_hz)) + 2
    offsets = np.arange(-before - margin, margin + 1)
    indices = peaks[:, np.newaxis] + offsets
    waves = sign * samples[np.clip(indices, 0, samples.size - 1)].astype(np.float64)
    waves = ndimage.gaussian_filter1d(waves, _SMOOTHING_S * rate_hz, axis=1, mode="nearest", truncate=3.0)
    slopes = np.diff(waves, axis=1)  # slope k lies half a sample after wave k
    rows = np.arange(peaks.size)
    allowed = (offsets[:-1] >= -before) & (offsets[:-1] < 0) & (offsets[:-1] >= -room[:, np.newaxis])
    allowed &= indices[:, :-1] >= 0
    steepest = np.where(allowed & ~np.isnan(slopes), slopes, -np.inf).argmax(axis=1)
    not_rising = (slopes <= 0.0) & allowed & (np.arange(slopes.shape[1]) < steepest[:, np.newaxis])
    last_flat = not_rising.shape[1] - 1 - not_rising[:, ::-1].argmax(axis=1)
    hidden = np.isnan(slopes) & allowed & (np.arange(slopes.shape[1]) >= last_flat[:, np.newaxis])
    found = not_rising.any(axis=1) & (slopes[rows, steepest] > 0.0) & ~hidden.any(axis=1)
    low, high = slopes[rows, last_flat], slopes[rows, np.minimum(last_flat + 1, slopes.shape[1] - 1)]
    turn = last_flat + 0.5 + np.divide(-low, high - low, out=np.zeros(peaks.size), where=high > low)
    level = _value_at(waves, turn)
    shift = _vertex(slopes, steepest)
    point = steepest + 0.5 + shift
    foot = point - (_value_at(waves, point) - level) / np.where(found, slopes[rows, steepest], np.nan)
    middle = np.full(peaks.size, before + margin)
    top = middle + _vertex(waves, middle)
    height = waves[rows, middle] - level
    start = peaks + offsets[0]
    points = np.stack([turn + start, np.maximum(foot, turn) + start, point + start, top + start, height])
    points[:, ~found] = np.nan
    return points


def _value_at(rows: _Floats, at: _Floats) -> _Floats:
    """Return the value of every row at a fractional column, along a straight line."""
    left = np.clip(np.floor(at).astype(np.int64), 0, rows.shape[1] - 2)
    index = np.arange(left.size)
    return np.asarray(rows[index, left] + (at - left) * (rows[index, left + 1] - rows[index, left]))


def _vertex(rows: _Floats, columns: NDArray[np.int64]) -> _Floats:
    """Return how far from `columns` the top of a parabola through three neighbours lies, at most half."""
    index = np.arange(columns.size)
    columns = np.clip(columns, 1, rows.shape[1] - 2)
    left, middle, right = (rows[index, columns + k] for k in (-1, 0, 1))
    bend = left - 2.0 * middle + right
    return np.clip(np.divide(0.5 * (left - right), bend, out=np.zeros(bend.size), where=bend < 0.0), -0.5, 0.5)
