"""What is wrong with windows of a signal (missing, flat, clipped, off the body, moved), and the record of it.

A fault is a boolean per window. `Quality` holds the faults of a signal by name, with a figure of 0 to 1 whose
meaning each modality states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive, as_signal
from analysis.windows import window_starts
from protocols.errors import SignalError

_Floats: TypeAlias = NDArray[np.float64]
_Bools: TypeAlias = NDArray[np.bool_]

MOST_MISSING: Final = 0.1
"""A window that lacks more than a tenth of its samples lacks a beat in ten: too poor for any figure."""

_FLAT_SHARE: Final = 0.5  # a flat line in a working signal is shorter than half a window
_DIASTOLE_S: Final = 0.2  # flatter for longer than that to the last digit, and a converter is stuck
_CLIPPED_SHARE: Final = 0.01  # 100 ms of 10 s: a clipped peak in every beat lasts longer
_RAIL_RUN: Final = 3  # samples at one extreme in a row: two happen by chance at the top of any wave
_MOTION_MPS2: Final = 1.0  # a tenth of g: above standing or typing, below walking (1.5 and more)


@dataclass(frozen=True, slots=True, eq=False)
class Quality:
    """How good windows of a signal are, and why they are not.

    Parameters
    ----------
    quality
        0 (worthless) to 1, shape (..., n_windows); the function that made it states its meaning.
    reasons
        Name of the fault -> in which windows it rules the signal out, shape (..., n_windows).
    indices
        Name of an index -> its value, shape (..., n_windows), NaN where it cannot be computed.
    intervals
        The windows, half-open, in samples, shape (n_windows, 2).
    """

    quality: _Floats
    reasons: Mapping[str, _Bools]
    indices: Mapping[str, _Floats]
    intervals: NDArray[np.int64]

    @property
    def good(self) -> _Bools:
        """Windows that no reason rules out, shape (..., n_windows)."""
        return np.asarray(~np.any(list(self.reasons.values()), axis=0))

    def good_samples(self, n_samples: int) -> _Bools:
        """Return which of the samples lie in a good window, shape (..., n_samples)."""
        steps = np.zeros((*self.quality.shape[:-1], n_samples + 1), dtype=np.int64)
        good = self.good.astype(np.int64)
        for column, (start, end) in enumerate(self.intervals):  # windows overlap
            steps[..., start] += good[..., column]
            steps[..., end] -= good[..., column]
        return np.asarray(np.cumsum(steps, axis=-1)[..., :n_samples] > 0)


def missing_share(samples: ArrayLike, *, rate_hz: float, window_s: float, step_s: float) -> _Floats:
    """Return the share of NaN in each window, shape (..., n_windows)."""
    values, starts, width = _cut(samples, rate_hz, window_s, step_s)
    return _share(np.isnan(values), starts, width)


def flat_line(samples: ArrayLike, *, rate_hz: float, window_s: float, step_s: float) -> _Bools:
    """Return which windows hold one value, to the last digit, for more than half of their time.

    Runs of equal samples count from 0.2 s on, so that a coarse converter's diastole does not. Missing samples
    belong to no run; a window without any sample that is there is flat.
    """
    values, starts, width = _cut(samples, rate_hz, window_s, step_s)
    shortest = max(2, round(_DIASTOLE_S * as_positive(rate_hz, name="rate_hz", unit="Hz")))
    absent = _share(np.isnan(values), starts, width)
    return np.asarray((_share(_in_runs(values, shortest), starts, width) > _FLAT_SHARE) | (absent == 1.0))


def clipping(
    samples: ArrayLike,
    *,
    rate_hz: float,
    window_s: float,
    step_s: float,
    limits: tuple[float, float] | None = None,
) -> _Bools:
    """Return which windows spend more than 1 % of their time at the limits of the converter.

    Parameters
    ----------
    samples
        Shape (..., n_samples), NaN where missing.
    rate_hz, window_s, step_s
        Sampling rate and windows.
    limits
        Lowest and highest value of the converter, in the samples' unit; samples at or beyond count. None takes
        runs of 3 and more samples at the lowest or highest value of each row.
    """
    values, starts, width = _cut(samples, rate_hz, window_s, step_s)
    if limits is not None:
        low, high = limits
        if not low < high:
            raise SignalError(f"limits={limits!r}, expected a lower and a higher value")
        return np.asarray(_share((values <= low) | (values >= high), starts, width) > _CLIPPED_SHARE)
    if values.shape[-1] == 0:
        return np.zeros((*values.shape[:-1], 0), dtype=bool)
    low_end = np.fmin.reduce(values, axis=-1, keepdims=True)  # NaN only where nothing is there
    high_end = np.fmax.reduce(values, axis=-1, keepdims=True)
    at_end = ((values == low_end) | (values == high_end)) & (low_end < high_end)
    return np.asarray(_share(at_end & _in_runs(values, _RAIL_RUN), starts, width) > _CLIPPED_SHARE)


def motion_mps2(accel_mps2: ArrayLike, *, rate_hz: float, window_s: float, step_s: float) -> _Floats:
    """Return how strongly a body part is accelerated in each window, in m/s2, shape (..., n_windows).

    Parameters
    ----------
    accel_mps2
        Acceleration with gravity, shape (..., n_axes, n_samples), NaN where missing.
    rate_hz, window_s, step_s
        Sampling rate and windows.

    Returns
    -------
    The root of the sum of the axes' variances, so that neither gravity nor the sensor's attitude matters. NaN
    where more than a tenth of the samples are missing.
    """
    values = as_signal(accel_mps2, name="accel_mps2")
    if values.ndim < 2:
        raise SignalError(f"accel_mps2 of shape {values.shape}, expected (..., n_axes, n_samples)")
    values, starts, width = _cut(values, rate_hz, window_s, step_s)
    there = ~np.isnan(values)
    centred = np.where(there, values, 0.0)
    centred -= centred.sum(axis=-1, keepdims=True) / np.maximum(there.sum(axis=-1, keepdims=True), 1)
    centred[~there] = 0.0
    count = _sums(there, starts, width)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = _sums(centred, starts, width) / count
        variance = np.maximum(_sums(centred**2, starts, width) / count - mean**2, 0.0)
    level = np.sqrt(variance.sum(axis=-2))
    return np.asarray(np.where((count >= (1.0 - MOST_MISSING) * width).all(axis=-2), level, np.nan))


def in_motion(accel_mps2: ArrayLike, *, rate_hz: float, window_s: float, step_s: float) -> _Bools:
    """Return which windows `motion_mps2` shows above 1 m/s2, a tenth of gravity; unknown motion is none."""
    return np.asarray(motion_mps2(accel_mps2, rate_hz=rate_hz, window_s=window_s, step_s=step_s) > _MOTION_MPS2)


def off_contact(contact: ArrayLike, *, rate_hz: float, window_s: float, step_s: float) -> _Bools:
    """Return which windows have a contact signal (1 on the body, 0 off) that is not 1 for more than a tenth.

    For leads off, skin contact and finger-out flags of a device, sampled with the signal; missing is off.
    """
    values, starts, width = _cut(contact, rate_hz, window_s, step_s)
    return np.asarray(_share(~(values >= 0.5), starts, width) > MOST_MISSING)


def common_faults(values: _Floats, *, rate_hz: float, window_s: float, step_s: float) -> dict[str, _Bools]:
    """Return the faults any signal can have by itself: missing, flat_line, clipping."""
    return {
        "missing": missing_share(values, rate_hz=rate_hz, window_s=window_s, step_s=step_s) > MOST_MISSING,
        "flat_line": flat_line(values, rate_hz=rate_hz, window_s=window_s, step_s=step_s),
        "clipping": clipping(values, rate_hz=rate_hz, window_s=window_s, step_s=step_s),
    }


def _cut(
    samples: ArrayLike, rate_hz: float, window_s: float, step_s: float
) -> tuple[NDArray[Any], NDArray[np.int64], int]:
    values = as_signal(samples, name="samples")
    starts, width = window_starts(values.shape[-1], rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    return values, starts, width


def _sums(values: NDArray[Any], starts: NDArray[np.int64], width: int) -> NDArray[Any]:
    """Return the sum of each window, of booleans their number."""
    flags = values.dtype.kind == "b"  # int32 counts up to 2 10^9 samples in half of the memory
    total = np.zeros((*values.shape[:-1], values.shape[-1] + 1), dtype=np.int32 if flags else np.float64)
    np.cumsum(values, axis=-1, out=total[..., 1:])
    return np.asarray(total[..., starts + width] - total[..., starts])


def _share(where: _Bools, starts: NDArray[np.int64], width: int) -> _Floats:
    return np.asarray(_sums(where, starts, width) / width)


def _in_runs(values: NDArray[Any], shortest: int) -> _Bools:
    """Return which samples are in a run of at least `shortest` equal ones, shape of `values`."""
    n = values.shape[-1]
    if n < shortest:
        return np.zeros(values.shape, dtype=bool)
    counts = np.zeros((*values.shape[:-1], n + 1), dtype=np.int32)  # one such array at a time: memory
    np.cumsum(values[..., 1:] == values[..., :-1], axis=-1, out=counts[..., 2:])
    # a run of `shortest` samples starts where the next shortest - 1 differences are all 0
    begins = counts[..., shortest:] - shortest + 1 == counts[..., 1 : n - shortest + 2]
    counts[...] = 0
    counts[..., : n - shortest + 1] += begins
    counts[..., shortest : n + 1] -= begins
    np.cumsum(counts, axis=-1, out=counts)
    return np.asarray(counts[..., :n] > 0)
