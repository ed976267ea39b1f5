"""Turns while walking or standing, from one gyroscope on the lower back.

Theory of operation. The rate about the vertical is smoothed at 1.5 Hz, which leaves turning and lessens the
pelvis' rotation with each stride. A turn is where it stays above 5 degrees/s and peaks above 15; turns of the
same direction next to each other are one. Of these count those of 0.5 to 10 s and at least 45 degrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, signal

from analysis.arrays import as_positive, as_signal
from analysis.intervals import intervals_of
from analysis.steps import HIGHEST_RATE_HZ
from protocols.errors import SignalError

LOWEST_RATE_HZ = 10.0

# El-Gohary et al. (2013), section 2.4
LOWPASS_HZ = 1.5
PEAK_DPS = 15.0
BORDER_DPS = 5.0
JOIN_S = 0.05
LEAST_S, MOST_S = 0.5, 10.0
LEAST_ANGLE_DEG = 45.0


@dataclass(frozen=True, slots=True, eq=False)
class Turns:
    """Turns in order of time; every array of shape (n_turns,) but the intervals."""

    intervals: NDArray[np.int64]
    """Half-open intervals of sample indices, shape (n_turns, 2)."""
    angle_deg: NDArray[np.float64]
    """Positive counter-clockwise seen from above: to the left."""
    duration_s: NDArray[np.float64]
    peak_dps: NDArray[np.float64]
    """Highest smoothed rate about the vertical, without sign, in degrees/s."""


def detect_turns(
    gyro_dps: ArrayLike, accel: ArrayLike, *, rate_hz: float, least_angle_deg: float = LEAST_ANGLE_DEG
) -> Turns:
    """Return the turns of a recording.

    Parameters
    ----------
    gyro_dps
        Angular rate in degrees/s, shape (3, n_samples), right-handed in the axes of `accel`; NaN where missing.
    accel
        Acceleration with gravity in m/s², same shape: upright and at rest +9.81 on the axis that points up.
    rate_hz
        Sampling rate, 10 to 1000.
    least_angle_deg
        Smallest angle that counts.

    Returns
    -------
    None across missing samples: a turn that touches one is left out.

    Raises
    ------
    SignalError
        If the shapes differ or the rate is not from 10 to 1000 Hz.

    References
    ----------
    El-Gohary et al. (2013), doi:10.3390/s140100356. Differs from it in taking the vertical from the mean
    acceleration of the 4 s around instead of an orientation filter, and in a filter without phase.
    """
    gyro = np.asarray(as_signal(gyro_dps, name="gyro_dps"), dtype=np.float64)
    rate = as_positive(rate_hz, name="rate_hz", unit="Hz")
    least = as_positive(least_angle_deg, name="least_angle_deg", unit="degrees")
    force = np.asarray(as_signal(accel, name="accel"), dtype=np.float64)
    if gyro.ndim != 2 or gyro.shape[0] != 3 or force.shape != gyro.shape:
        raise SignalError(f"gyro_dps of shape {gyro.shape}, accel {force.shape}, expected (3, n_samples) both")
    if not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
        raise SignalError(f"rate_hz={rate_hz!r}, expected {LOWEST_RATE_HZ:g} to {HIGHEST_RATE_HZ:g} Hz")
    missing = np.asarray(np.isnan(gyro + force).any(axis=0))
    yaw = _yaw(np.where(missing, 0, gyro), np.where(missing, 0, force), rate)
    low = int(rate / LOWPASS_HZ)
    if yaw.size > 2 * low:
        sos = signal.butter(2, LOWPASS_HZ, fs=rate, output="sos")
        yaw = signal.sosfiltfilt(sos, yaw, padlen=min(3 * low, yaw.size - 1))
    spans = _joined(intervals_of(np.abs(yaw) > BORDER_DPS), yaw, rate)
    return _counted(spans, yaw, missing, rate, least)


def turn_count(gyro_dps: ArrayLike, accel: ArrayLike, *, rate_hz: float) -> float:
    """Return the number of turns, NaN where over half of the samples are missing."""
    turns = detect_turns(gyro_dps, accel, rate_hz=rate_hz)
    valid = np.isfinite(np.asarray(gyro_dps)).all(axis=0) & np.isfinite(np.asarray(accel)).all(axis=0)
    return float(turns.angle_deg.size) if valid.sum() * 2 > valid.size else float("nan")


def _yaw(gyro: NDArray[np.float64], force: NDArray[np.float64], rate_hz: float) -> NDArray[np.float64]:
    """Return the angular rate about the upward vertical."""
    width = 2 * round(2 * rate_hz) + 1
    up = [ndimage.uniform_filter1d(axis, width, mode="nearest") for axis in force]
    norm = np.sqrt(up[0] ** 2 + up[1] ** 2 + up[2] ** 2)
    along = gyro[0] * up[0] + gyro[1] * up[1] + gyro[2] * up[2]
    return np.asarray(along / np.maximum(norm, 1e-9))


def _joined(spans: NDArray[np.int64], yaw: NDArray[np.float64], rate_hz: float) -> NDArray[np.int64]:
    """Return the spans with those joined that turn the same way and lie next to each other."""
    if len(spans) < 2:
        return spans
    side = np.sign(yaw[spans[:, 0]])
    apart = (spans[1:, 0] - spans[:-1, 1] > JOIN_S * rate_hz) | (side[1:] != side[:-1])
    return np.column_stack([spans[np.append(True, apart), 0], spans[np.append(apart, True), 1]])


def _counted(
    spans: NDArray[np.int64],
    yaw: NDArray[np.float64],
    missing: NDArray[np.bool_],
    rate_hz: float,
    least_deg: float,
) -> Turns:
    if len(spans) == 0:
        none = np.empty(0)
        return Turns(np.empty((0, 2), dtype=np.int64), none, none, none)
    padded = np.append(yaw, 0.0)
    angle = np.add.reduceat(padded, spans.ravel())[::2] / rate_hz
    peak = np.maximum.reduceat(np.abs(padded), spans.ravel())[::2]
    holes = np.append(0, np.cumsum(missing))
    whole = holes[spans[:, 1]] == holes[spans[:, 0]]
    duration = (spans[:, 1] - spans[:, 0]) / rate_hz
    keep = (peak >= PEAK_DPS) & (np.abs(angle) >= least_deg) & whole
    keep &= (duration >= LEAST_S) & (duration <= MOST_S)
    return Turns(spans[keep], angle[keep], duration[keep], peak[keep])
