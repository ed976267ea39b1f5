"""The dicrotic notch of arterial pressure: where the aortic valve closes, as far as a curve tells.

It is the first valley after systole from which a wave rises; where none does, the point at which the curve
bends upwards most sharply, if it bends there much more than elsewhere; else it cannot be told. A filtered or
damped line, and many a peripheral one, has none.

The rule is of our own making. Published ones (shear transform, second derivative) always give a point, on
curves without a notch as well, and differ by tens of ms among themselves.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_SMOOTHING_S: Final = 0.015  # as of the slope in `pressure`
_EJECTION_S: Final = (0.1, 0.5)  # from the valley: shortest and longest time to the aortic valve's closing
_LATEST_NOTCH: Final = 2.0 / 3.0  # of the beat: with a fast heart the next beat is near
_SHARP: Final = 3.0  # bend of a notch over the usual bend after the peak
_LEAST_WAVE: Final = 0.02  # of the pulse, by which a dicrotic wave rises: 1 mmHg of 50
_WAVE_S: Final = 0.2  # within which it does
_AT_ONCE: Final = 1024  # beats looked at together; bounds the memory

_Floats: TypeAlias = NDArray[np.float64]
_Bools: TypeAlias = NDArray[np.bool_]


def notches(
    samples: NDArray[Any],
    marks: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    whole: _Bools,
    rate_hz: float,
) -> tuple[_Floats, _Floats]:
    """Return time from the valley and pressure of every dicrotic notch, NaN where none is to be told."""
    found_s, found_mmhg = np.full(starts.size, np.nan), np.full(starts.size, np.nan)
    margin = int(np.ceil(4.0 * _SMOOTHING_S * rate_hz)) + 1
    offsets = np.arange(-margin, int(_EJECTION_S[1] * rate_hz) + margin + 1)
    beats = np.flatnonzero(whole)
    for k in range(0, beats.size, _AT_ONCE):
        some = beats[k : k + _AT_ONCE]
        indices = np.clip(starts[some, np.newaxis] + offsets, 0, samples.size - 1)
        waves = samples[indices].astype(np.float64)
        bend = ndimage.gaussian_filter1d(waves, _SMOOTHING_S * rate_hz, axis=1, order=2, mode="nearest")
        latest = np.minimum(
            starts[some] + _EJECTION_S[1] * rate_hz,
            starts[some] + _LATEST_NOTCH * (ends[some] - starts[some]),
        )
        top = marks[some] + np.ceil(2.0 * _SMOOTHING_S * rate_hz)
        earliest = np.maximum(starts[some] + _EJECTION_S[0] * rate_hz, top)
        allowed = (indices >= earliest[:, np.newaxis]) & (indices <= latest[:, np.newaxis])
        smooth = ndimage.gaussian_filter1d(waves, _SMOOTHING_S * rate_hz, axis=1, mode="nearest")
        least_mmhg = _LEAST_WAVE * (waves.max(axis=1) - samples[starts[some]])
        at, told = _turns(smooth, allowed, ahead=round(_WAVE_S * rate_hz), least_mmhg=least_mmhg)
        bent, sharp = _bends(bend, allowed)
        at, told = np.where(told, at, bent), told | sharp
        found_s[some[told]] = offsets[at[told]] / rate_hz
        found_mmhg[some[told]] = waves[told, at[told]]
    return found_s, found_mmhg


def _turns(
    smooth: _Floats, allowed: _Bools, *, ahead: int, least_mmhg: _Floats
) -> tuple[NDArray[np.int64], _Bools]:
    """Return the first allowed valley of each row from which it rises enough, and which rows have one."""
    valley = np.zeros(smooth.shape, dtype=bool)
    valley[:, 1:-1] = (smooth[:, 1:-1] <= smooth[:, :-2]) & (smooth[:, 1:-1] < smooth[:, 2:])
    # the highest of the samples from each one to `ahead` later
    size = ahead + 1
    top = ndimage.maximum_filter1d(smooth, size, axis=1, mode="nearest", origin=-(size // 2) + (size + 1) % 2)
    turning = valley & allowed & (top - smooth >= least_mmhg[:, np.newaxis])
    return turning.argmax(axis=1), turning.any(axis=1)


def _bends(bend: _Floats, allowed: _Bools) -> tuple[NDArray[np.int64], _Bools]:
    """Return where each row bends upwards most, and where that is a peak far above its usual bend."""
    at = np.where(allowed, bend, -np.inf).argmax(axis=1)
    rows, inner = np.arange(at.size), np.clip(at, 1, bend.shape[1] - 2)
    sizes = np.sort(np.where(allowed, np.abs(bend), np.inf), axis=1)
    usual = sizes[rows, allowed.sum(axis=1) // 2]  # the median; infinite where nothing is allowed
    peaked = (bend[rows, inner] >= bend[rows, inner - 1]) & (bend[rows, inner] >= bend[rows, inner + 1])
    return at, peaked & (bend[rows, at] >= _SHARP * usual) & np.isfinite(usual)
