"""Gait from one inertial sensor on the lower back: initial contacts, times, sides, regularity, walking speed.

Theory of operation. Gravity tells the vertical, so the sensor may be worn at any tilt. Within walking
(`steps.walking_bouts`, or bouts given by the caller) an initial contact is a maximum of the vertical
acceleration smoothed by a Gaussian: McCamley's wavelet, which differentiates the integrated acceleration, is
the same smoothing. A maximum that stands out is one. So is a weak one half way between two that are two steps
apart. The body then vaults over the standing leg like an inverted pendulum: its rise and fall tells the step's
length.

Axes: acceleration is what an accelerometer feels, +9.81 m/s² upwards at rest. Where the sides of the body
matter the gyroscope must be right-handed in the same axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, signal

from analysis import steps
from analysis.arrays import as_positive, as_signal
from analysis.filters import band_pass
from analysis.intervals import mask_of
from analysis.step_frequency import GRAVITY_MPS2, WINDOW_S
from protocols.errors import SignalError

SMOOTH_S = 0.1  # standard deviation
STANDS_OUT = 1 / 3  # prominence of a contact, of the smoothed acceleration's rms within 6 s
LEAST_STEP_S = 0.25  # 240 steps a minute
TWO_STEPS = (1.5, 2.5)  # a gap of so many of the steps around has lost one: there a weak one is believed
STEPS_AROUND = 7  # whose median is the step; three lost ones among them do not change it
STRIDE_S = (0.2, 3.0)  # strides outside are no strides: Mobilise-D, Kluge et al. (2021)
SIDE_HZ = (0.5, 2.0)  # Ullrich et al. (2021)
FEWEST_CONTACTS = 10  # of a recording: eight strides; a bump in the road makes fewer
WALKING_HZ = (0.5, 10.0)  # without posture; 98 % of the power of walking, at the foot: Antonsson & Mann (1985)
LEAST_SMOOTH = 0.5  # more of a walk than of anything else
# Soltani et al. (2021): see `step_lengths_m`
ACCEL_HIGHPASS_HZ = 0.1
SPEED_HIGHPASS_HZ = 1.0
SPEED_FACTOR = 4.587 / 4
SETTLE_S = 1.0  # a period of the higher high-pass, taken from either side of a bout


def initial_contacts(accel: ArrayLike, *, rate_hz: float, bouts: ArrayLike | None = None) -> NDArray[np.int64]:
    """Return the sample index of every initial contact.

    Parameters
    ----------
    accel
        Acceleration with gravity in m/s², shape (3, n_samples), sensor on the lower back; NaN where missing.
    rate_hz
        Sampling rate, 15 to 1000 Hz.
    bouts
        Where walking is already known: half-open intervals of sample indices, shape (n, 2). Else
        `steps.walking_bouts` of a sensor worn on the trunk.

    Returns
    -------
    Ascending, shape (n_contacts,). Later than a contact measured at the foot by some 50 ms.

    Raises
    ------
    SignalError
        If shape, rate or bouts are not as said.

    References
    ----------
    McCamley et al. (2012), doi:10.1016/j.gaitpost.2012.02.019; compared in Micó-Amigo et al. (2023),
    doi:10.1186/s12984-023-01198-5. Differs from it in asking maxima to stand out, and in looking for weak
    ones in gaps. On eight bouts of one participant every smoothing of 0.08 to 0.12 s with a prominence of 0.25
    to 0.5 gave an F1 of 0.94 to 0.96; the weak ones are needed where steps are of unequal strength, as in a
    recording of another person.
    """
    force, rate = _check(accel, rate_hz)
    bouts = steps.walking_bouts(force, rate_hz=rate, worn="trunk") if bouts is None else bouts
    walking = mask_of(bouts, force.shape[1])
    if not walking.any():
        return np.empty(0, dtype=np.int64)
    smooth = ndimage.gaussian_filter1d(_vertical(force), SMOOTH_S * rate, mode="nearest", truncate=3.0)
    peaks = signal.find_peaks(smooth)[0]
    peaks = peaks[walking[peaks]]
    strong = _standing_out(smooth, peaks, walking, rate)
    contacts = np.union1d(strong, _lost(strong, peaks, rate))
    return contacts[np.isfinite(force[:, contacts]).all(axis=0)].astype(np.int64)


def stride_times_s(contacts: ArrayLike, *, rate_hz: float) -> NDArray[np.float64]:
    """Return the time from each contact to the next but one, shape (n_contacts - 2,).

    NaN outside 0.2 to 3 s, or where one of its steps is over twice the other: a pause or a lost step.
    """
    rate = as_positive(rate_hz, name="rate_hz", unit="Hz")
    times_s = np.asarray(as_signal(contacts, name="contacts"), dtype=np.float64) / rate
    if times_s.ndim != 1:
        raise SignalError(f"contacts of shape {times_s.shape}, expected one dimension")
    if times_s.size < 3:
        return np.empty(0)
    step_s = np.diff(times_s)
    stride_s = times_s[2:] - times_s[:-2]
    even = np.maximum(step_s[1:], step_s[:-1]) <= 2 * np.minimum(step_s[1:], step_s[:-1])
    return np.where((stride_s >= STRIDE_S[0]) & (stride_s <= STRIDE_S[1]) & even, stride_s, np.nan)


def cadence_per_min(contacts: ArrayLike, *, rate_hz: float) -> float:
    """Return the steps per minute while walking, from the mean stride time; NaN below three strides."""
    stride_s = stride_times_s(contacts, rate_hz=rate_hz)
    stride_s = stride_s[np.isfinite(stride_s)]
    return float(120 / stride_s.mean()) if stride_s.size >= 3 else float("nan")


def contact_sides(
    contacts: ArrayLike, gyro_dps: ArrayLike, accel: ArrayLike, *, rate_hz: float
) -> NDArray[np.int8]:
    """Return the foot of each contact: -1 left, 1 right, 0 where it cannot be told.

    The sign of the rate about the vertical at 0.5 to 2 Hz, at the contact.

    References
    ----------
    McCamley et al. (2012); band of Ullrich et al. (2021), doi:10.1109/EMBC46164.2021.9629898.
    """
    force, rate = _check(accel, rate_hz)
    gyro = np.asarray(as_signal(gyro_dps, name="gyro_dps"), dtype=np.float64)
    if gyro.shape != force.shape:
        raise SignalError(f"gyro_dps of shape {gyro.shape}, expected that of accel, {force.shape}")
    at = _as_contacts(contacts, force.shape[1])
    yaw = _up(force) @ np.nan_to_num(gyro)
    sos = signal.butter(4, SIDE_HZ, "bandpass", fs=rate, output="sos")
    if at.size == 0 or yaw.size < 2:
        return np.zeros(at.size, dtype=np.int8)
    yaw = signal.sosfiltfilt(sos, yaw, padlen=min(yaw.size - 1, round(2 * rate)))
    return np.asarray(np.sign(yaw[at]), dtype=np.int8)


def regularity(accel: ArrayLike, *, rate_hz: float, contacts: ArrayLike) -> tuple[float, float, float]:
    """Return step regularity, stride regularity and their ratio (symmetry) of one walk, each NaN if too short.

    The unbiased autocorrelation of the vertical acceleration between the first and last contact, at the median
    step and stride; its highest value within 15 % around. Wants at least four strides in one bout.

    References
    ----------
    Moe-Nilssen & Helbostad (2004), doi:10.1016/S0021-9290(03)00233-1.
    """
    force, _ = _check(accel, rate_hz)
    at = _as_contacts(contacts, force.shape[1])
    nan = float("nan")
    if at.size < 9:
        return nan, nan, nan
    walk = _vertical(force[:, at[0] : at[-1]])
    walk = walk - walk.mean()
    power = float(walk @ walk) / walk.size
    if not power > 0:
        return nan, nan, nan
    step = float(np.median(np.diff(at)))

    def highest(lag: float) -> float:
        lags = np.arange(int(0.85 * lag), min(int(1.15 * lag) + 2, walk.size - 1))
        values = [walk[k:] @ walk[:-k] / (walk.size - k) for k in lags if k > 0]  # a few tens of lags
        return float(max(values, default=nan) / power)

    of_step, of_stride = highest(step), highest(2 * step)
    return of_step, of_stride, of_step / of_stride if of_stride > 0 else nan


def step_lengths_m(
    accel: ArrayLike, *, rate_hz: float, contacts: ArrayLike, leg_length_m: float
) -> NDArray[np.float64]:
    """Return the length of each step in m, shape (n_contacts - 1,); NaN across pauses and missing samples.

    Parameters
    ----------
    leg_length_m
        Height of the sensor, or of the hip, above the ground.

    References
    ----------
    Zijlstra & Hof (2003), doi:10.1016/S0966-6362(02)00190-X: twice sqrt(2 l h - h²), times a factor, where h is
    how far the sensor rises and falls in the step. Filters and factor are those of Soltani et al. (2021),
    doi:10.1109/TNSRE.2021.3111681, as the Mobilise-D project published them: acceleration high-passed at 0.1
    Hz, its integral at 1 Hz, and 4.587 / 4 for 1.25, trained on other people. Differs from it in leaving out
    the filter against outliers.
    """
    force, rate = _check(accel, rate_hz)
    leg_m = as_positive(leg_length_m, name="leg_length_m", unit="m")
    at = _as_contacts(contacts, force.shape[1])
    lengths = np.full(max(0, at.size - 1), np.nan)
    if at.size < 2:
        return lengths
    vertical = _vertical(force)
    gaps = np.diff(at) > STRIDE_S[1] / 2 * rate
    firsts = np.append(0, np.flatnonzero(gaps) + 1)
    lasts = np.append(np.flatnonzero(gaps), at.size - 1)
    for first, last in zip(firsts, lasts, strict=True):  # bouts: each is integrated from its own start
        if last - first >= 2:
            own = at[first : last + 1]
            start = max(0, own[0] - round(SETTLE_S * rate))
            height = _height_m(vertical[start : own[-1] + 1 + round(SETTLE_S * rate)], rate)
            edges, last_sample = own - start, own[-1] - start + 1
            rise = np.maximum.reduceat(height[:last_sample], edges[:-1]) - np.minimum.reduceat(
                height[:last_sample], edges[:-1]
            )
            lengths[first:last] = 2 * SPEED_FACTOR * np.sqrt(np.maximum(2 * leg_m * rise - rise**2, 0))
    holes = np.append(0, np.cumsum(np.asarray(np.isnan(force).any(axis=0))))
    lengths[holes[at[1:]] > holes[at[:-1]]] = np.nan
    return lengths


def walking_speed_mps(accel: ArrayLike, *, rate_hz: float, leg_length_m: float) -> float:
    """Return the speed while walking in m/s: step lengths over step times; NaN below six steps."""
    contacts = initial_contacts(accel, rate_hz=rate_hz)
    lengths = step_lengths_m(accel, rate_hz=rate_hz, contacts=contacts, leg_length_m=leg_length_m)
    valid = np.isfinite(lengths)
    if valid.sum() < 6:
        return float("nan")
    return float(lengths[valid].sum() / (np.diff(contacts)[valid].sum() / rate_hz))


def cadence(accel_x: ArrayLike, accel_y: ArrayLike, accel_z: ArrayLike, *, rate_hz: float) -> float:
    """Return the steps per minute while walking; NaN below ten contacts, three strides, or in noise.

    Noise: more than half of the power above 0.5 Hz while walking lies above 10 Hz.
    """
    accel = steps.stacked(accel_x, accel_y, accel_z)
    return cadence_per_min(_contacts_of_recording(accel, rate_hz), rate_hz=rate_hz)


def median_stride_time_ms(
    accel_x: ArrayLike, accel_y: ArrayLike, accel_z: ArrayLike, *, rate_hz: float
) -> float:
    """Return the median stride time in ms; NaN as `cadence`."""
    accel = steps.stacked(accel_x, accel_y, accel_z)
    stride_s = stride_times_s(_contacts_of_recording(accel, rate_hz), rate_hz=rate_hz)
    stride_s = stride_s[np.isfinite(stride_s)]
    return float(1000 * np.median(stride_s)) if stride_s.size >= 3 else float("nan")


def _contacts_of_recording(accel: NDArray[np.float64], rate_hz: float) -> NDArray[np.int64]:
    """Return the initial contacts, none where they are too few or the movement is too rough for walking."""
    force, rate = _check(accel, rate_hz)
    bouts = steps.walking_bouts(force, rate_hz=rate, worn="trunk")
    contacts = initial_contacts(force, rate_hz=rate, bouts=bouts)
    if contacts.size < FEWEST_CONTACTS or not _is_smooth(force, bouts, rate):
        return contacts[:0]
    return contacts


def _is_smooth(force: NDArray[np.float64], bouts: NDArray[np.int64], rate_hz: float) -> bool:
    """Return whether half of the power of movement lies below 10 Hz; true where the rate leaves no more."""
    if rate_hz <= 2 * WALKING_HZ[1]:
        return True
    walking = mask_of(bouts, force.shape[1])
    moving = band_pass(force, rate_hz=rate_hz, passband_hz=(WALKING_HZ[0], None))
    slowly = band_pass(moving, rate_hz=rate_hz, passband_hz=(None, WALKING_HZ[1]))
    return bool(np.nansum(slowly[:, walking] ** 2) >= LEAST_SMOOTH * np.nansum(moving[:, walking] ** 2))


def _check(accel: ArrayLike, rate_hz: float) -> tuple[NDArray[np.float64], float]:
    return np.asarray(steps.checked(accel, rate_hz), dtype=np.float64), float(rate_hz)


def _as_contacts(contacts: ArrayLike, n_samples: int) -> NDArray[np.int64]:
    at = np.asarray(contacts)
    if at.size == 0:
        return np.empty(0, dtype=np.int64)
    if at.ndim != 1 or at.dtype.kind not in "iu" or (np.diff(at) <= 0).any():
        raise SignalError(
            f"contacts of shape {at.shape} and dtype {at.dtype}, expected ascending integers (n,)"
        )
    if at[0] < 0 or at[-1] >= n_samples:
        raise SignalError(f"contacts from {at[0]} to {at[-1]}, expected 0 to {n_samples - 1}")
    return at.astype(np.int64)


def _up(force: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the unit vector of the mean acceleration."""
    valid = np.asarray(np.isfinite(force).all(axis=0))
    mean = force.mean(axis=1, where=valid[None]) if valid.any() else np.zeros(3)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9))


def _vertical(force: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upward acceleration less gravity; 0 where missing."""
    return np.nan_to_num(_up(force) @ force - GRAVITY_MPS2)


def _height_m(vertical: NDArray[np.float64], rate_hz: float) -> NDArray[np.float64]:
    """Return the vertical displacement within each step, to a constant."""
    padlen = min(vertical.size - 1, round(3 * rate_hz))
    for cutoff_hz in (ACCEL_HIGHPASS_HZ, SPEED_HIGHPASS_HZ):  # each high-passed and then integrated
        sos = signal.butter(4, cutoff_hz, "highpass", fs=rate_hz, output="sos")
        vertical = np.cumsum(signal.sosfiltfilt(sos, vertical, padlen=padlen)) / rate_hz
    return vertical


def _standing_out(
    smooth: NDArray[np.float64], peaks: NDArray[np.int64], walking: NDArray[np.bool_], rate_hz: float
) -> NDArray[np.int64]:
    """Return the peaks that stand out of the movement around, the highest of those within a least step."""
    prominence = signal.peak_prominences(smooth, peaks, wlen=round(STRIDE_S[1] * rate_hz))[0]
    width = round(WINDOW_S * rate_hz)
    power = ndimage.uniform_filter1d(np.where(walking, smooth**2, 0.0), width, mode="constant")[peaks]
    share = ndimage.uniform_filter1d(walking.astype(np.float64), width, mode="constant")[peaks]
    rms = np.sqrt(np.maximum(power, 0.0) / np.maximum(share, 1.0 / width))
    peaks = peaks[prominence >= STANDS_OUT * rms]
    while peaks.size > 1:  # the lower of two that are too near goes; rarely more than once
        near = np.flatnonzero(np.diff(peaks) < LEAST_STEP_S * rate_hz)
        if near.size == 0:
            break
        lower = np.where(smooth[peaks[near]] < smooth[peaks[near + 1]], near, near + 1)
        peaks = np.delete(peaks, lower)
    return peaks


def _lost(strong: NDArray[np.int64], peaks: NDArray[np.int64], rate_hz: float) -> NDArray[np.int64]:
    """Return the peaks half way between two contacts that are some two steps apart."""
    if strong.size < 3:
        return strong[:0]
    gaps = np.diff(strong).astype(np.float64)
    step = ndimage.median_filter(gaps, STEPS_AROUND, mode="nearest")
    two = (gaps >= TWO_STEPS[0] * step) & (gaps <= TWO_STEPS[1] * step) & (gaps <= STRIDE_S[1] * rate_hz)
    middle = ((strong[1:] + strong[:-1]) / 2)[two]
    after = np.clip(np.searchsorted(peaks, middle), 1, peaks.size - 1)
    before, after = peaks[after - 1], peaks[after]
    nearest = np.where(middle - before <= after - middle, before, after)
    return np.asarray(nearest[np.abs(nearest - middle) <= gaps[two] / 4])
