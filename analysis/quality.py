"""Signal quality of ECG, PPG, respiration, pressure and acceleration, window by window.

Every function returns a `Quality`: a figure of 0 to 1 whose meaning stands in its docstring, and the reasons
that rule a window out. `good` windows are those without a reason; every other window's figures are not to be
believed. Good quality means that beats or breaths can be measured: a window of ventricular fibrillation is no
good, and no window is good because a rhythm is normal.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive, as_signal
from analysis.filters import PASSBANDS, band_pass, bridged
from analysis.heartbeats import HALF_QRS_S, detect_qrs
from analysis.pulses import detect_pulses
from analysis.signal_faults import (
    MOST_MISSING,
    Quality,
    clipping,
    common_faults,
    in_motion,
    missing_share,
    motion_mps2,
)
from analysis.ventricular_fibrillation import ventricular_fibrillation_episodes
from analysis.window_figures import (
    BREATHS_HZ,
    band_share,
    beats_alike,
    moments,
    over_windows,
    peak_over_red_noise,
    rhythm_share,
)
from analysis.windows import window_starts
from protocols.errors import SignalError

_Floats: TypeAlias = NDArray[np.float64]
_Bools: TypeAlias = NDArray[np.bool_]

_WINDOW_S: Final = 10.0  # Li 2008, Orphanidou 2015
_ECG_ALIKE: Final = 0.66  # Orphanidou 2015: least mean correlation with the template, ECG
_PPG_ALIKE: Final = 0.86  # and PPG
_LOWEST_QRS_SHARE: Final = 0.5  # Li 2008: the QRS band holds 0.5 to 0.8 of 5-40 Hz; less is muscle or mains
_LEAST_KURTOSIS: Final = 5.0  # Li 2008: peaky; noise is at 3
_PPG_BAND_HZ: Final = (0.5, 8.0)  # `PASSBANDS["ppg"]`
_LEAST_IN_BAND: Final = (
    0.01  # hum of ten times the pulse is filtered well; of more, what is left may be its rest
)
_QRS_BAND_HZ: Final = (5.0, 15.0)
_ECG_BAND_HZ: Final = (5.0, 40.0)
_LEAST_BREATH_SHARE: Final = 0.5  # half of the power in the breath and its overtone: more signal than noise
_OVER_RED_NOISE: Final = 3.0  # Torrence & Compo 1998: -ln 0.05, the power that noise exceeds in 5 %
_RESPIRATION_WINDOW_S: Final = 32.0  # the window of Karlen 2013: two breaths at 4 per minute
_PRESSURE_MMHG: Final = (-10.0, 300.0)  # zero drift to the top of a transducer: beyond is a flush or a fault
_LEAST_PULSE_MMHG: Final = 5.0  # a damped or closed line shows less
_GRAVITY_MPS2: Final = (4.9, 19.6)  # half to twice: a whole window's mean outside is a scale or axis fault


def ecg_quality(
    ecg: ArrayLike,
    beats: ArrayLike | None = None,
    *,
    rate_hz: float,
    window_s: float = _WINDOW_S,
    step_s: float = _WINDOW_S,
) -> Quality:
    """Return how well the beats of an ECG lead can be measured, in each window.

    Parameters
    ----------
    ecg
        One lead, shape (n_samples,), in any unit and polarity, NaN where missing.
    beats
        Sample indices of the QRS complexes; None to detect them.
    rate_hz
        Sampling rate, at least 100.
    window_s, step_s
        Windows, half-open.

    Returns
    -------
    `quality` is the mean correlation of the window's beats with their mean, 0 where a reason holds but for
    `unlike_beats`. Reasons: `missing` (over a tenth), `flat_line`, `clipping`, `no_beats` (fewer than 3, none
    for 3 s, or a median rate outside 30 to 250 per min), `fibrillation` (of the ventricles, over a tenth),
    `noise` (`p_sqi` below 0.5 and `k_sqi` below 5, or both unknown), `unlike_beats` (quality below 0.66).
    Indices: `template_correlation`, `p_sqi`, `k_sqi` (kurtosis, 3 for noise), `s_sqi` (skewness).

    Raises
    ------
    SignalError
        If `ecg` is not one-dimensional, shorter than 1 s, holds infinite values, or the rate is below 100 Hz.

    References
    ----------
    Orphanidou et al. 2015, doi:10.1109/JBHI.2014.2338351: template correlation, its limit, longest gap.
    Li, Mark & Clifford 2008, doi:10.1088/0967-3334/29/1/002: p_sqi, k_sqi and their limits; s_sqi.
    Differs from Orphanidou in the rates, which are a monitor's, in aligning beats within 60 ms, and in no limit
    on the ratio of the longest to the shortest interval, which premature beats and fibrillation break in clean
    signals; from Li in using the limits of p_sqi and k_sqi only together, as either alone rules out clean leads
    of wide QRS complexes.
    """
    values, rate_hz = _one(ecg, "ecg", rate_hz)
    marks = detect_qrs(values, rate_hz=rate_hz) if beats is None else _marks(beats, values.size)
    starts, width = window_starts(values.size, rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    reasons = common_faults(values, rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    reasons["fibrillation"] = _fibrillating(values, starts, width, rate_hz)
    filtered = _filtered(values, "ecg_monitoring", rate_hz)
    alike, feasible = beats_alike(filtered, marks, starts, width, rate_hz, lag_s=HALF_QRS_S)
    indices = {"template_correlation": alike} | moments(filtered, starts, width)
    indices["p_sqi"] = band_share(values, starts, width, rate_hz, _QRS_BAND_HZ, _ECG_BAND_HZ)
    reasons["no_beats"] = ~feasible
    reasons["noise"] = ~(indices["p_sqi"] >= _LOWEST_QRS_SHARE) & ~(indices["k_sqi"] >= _LEAST_KURTOSIS)
    return _judged(alike, "unlike_beats", _ECG_ALIKE, reasons, indices, starts, width)


def ppg_quality(
    ppg: ArrayLike,
    pulses: ArrayLike | None = None,
    *,
    rate_hz: float,
    accel_mps2: ArrayLike | None = None,
    window_s: float = _WINDOW_S,
    step_s: float = _WINDOW_S,
) -> Quality:
    """Return how well the pulses of a photoplethysmogram can be measured, in each window.

    Parameters
    ----------
    ppg
        One signal, shape (n_samples,), in any unit and polarity, NaN where missing.
    pulses
        Sample indices of the pulses; None to detect them.
    rate_hz
        Sampling rate, at least 20.
    accel_mps2
        Acceleration with gravity at the same samples, shape (n_axes, n_samples); None if there is none.
    window_s, step_s
        Windows, half-open.

    Returns
    -------
    `quality` is the mean correlation of the window's pulses with their mean, 0 where a reason holds but for
    `unlike_beats`. Reasons: `missing`, `flat_line`, `clipping`, `no_beats` as for `ecg_quality`, `out_of_band`
    (less than 1 % of the power above 0.5 Hz lies below 8 Hz, where pulses are), `motion` (above 1 m/s2, if
    acceleration is given), `unlike_beats` (quality below 0.86). Indices:
    `template_correlation`, `s_sqi` (skewness, whose sign follows the sensor's polarity), `k_sqi`.

    Raises
    ------
    SignalError
        If `ppg` is not one-dimensional, holds infinite values, or the rate is below 20 Hz.

    References
    ----------
    Orphanidou et al. 2015, doi:10.1109/JBHI.2014.2338351: template correlation and its limit; deviations as for
    `ecg_quality`. Elgendi 2016, doi:10.3390/bioengineering3040021: skewness as an index; it is given, and rules
    nothing out, as its sign depends on the sensor and its limit on the site.
    """
    values, rate_hz = _one(ppg, "ppg", rate_hz)
    marks = detect_pulses(values, rate_hz=rate_hz) if pulses is None else _marks(pulses, values.size)
    starts, width = window_starts(values.size, rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    reasons = common_faults(values, rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    filtered = _filtered(values, "ppg", rate_hz)
    alike, feasible = beats_alike(filtered, marks, starts, width, rate_hz)
    reasons["no_beats"] = ~feasible
    low_hz, high_hz = _PPG_BAND_HZ
    in_band = band_share(values, starts, width, rate_hz, _PPG_BAND_HZ, (low_hz, max(high_hz, rate_hz / 2.0)))
    reasons["out_of_band"] = in_band < _LEAST_IN_BAND
    if accel_mps2 is not None:
        reasons["motion"] = in_motion(accel_mps2, rate_hz=rate_hz, window_s=window_s, step_s=step_s)
        if reasons["motion"].shape != alike.shape:
            raise SignalError(f"accel_mps2 of shape {np.shape(accel_mps2)}, expected (n_axes, {values.size})")
    indices = {"template_correlation": alike} | moments(filtered, starts, width)
    return _judged(alike, "unlike_beats", _PPG_ALIKE, reasons, indices, starts, width)


def respiration_quality(
    respiration: ArrayLike,
    *,
    rate_hz: float,
    window_s: float = _RESPIRATION_WINDOW_S,
    step_s: float = _RESPIRATION_WINDOW_S,
) -> Quality:
    """Return how well breaths can be measured in each window.

    Parameters
    ----------
    respiration
        Impedance, belt, flow or CO2, shape (..., n_samples), in any unit, NaN where missing.
    rate_hz
        Sampling rate, at least 2.
    window_s, step_s
        Windows, half-open.

    Returns
    -------
    `quality` is the share of the power of 0.07 to 1 Hz that lies within 0.05 Hz of its peak and of twice its
    peak: 1 for regular breaths, low for noise or motion. 0 where a reason holds but for `no_rhythm`. Reasons:
    `missing`, `flat_line`, `red_noise` (the peak is not three times that of a random walk or the like),
    `no_rhythm` (quality below 0.5). A cut-off top costs no breath and is no reason.

    Raises
    ------
    SignalError
        If there is no time axis, values are infinite, or the rate is below 2 Hz.

    References
    ----------
    The respiratory quality index by Fourier transform of Birrenkott et al. 2018, IEEE Trans Biomed Eng 65:2033
    (ratio of the power around the peak to that of the band); differs in counting the first overtone, which
    breaths of unequal in- and expiration have.
    Torrence & Compo 1998, doi:10.1175/1520-0477(1998)079<0061:APGTWA>2.0.CO;2: test against red noise, at 5 %.
    """
    values = as_signal(respiration, name="respiration").astype(np.float64)
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    if rate_hz < 2.0 * BREATHS_HZ[1]:
        raise SignalError(f"rate_hz={rate_hz!r}, expected at least {2.0 * BREATHS_HZ[1]} Hz")
    starts, width = window_starts(values.shape[-1], rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    share = over_windows(values, starts, width, lambda windows: rhythm_share(windows, rate_hz))
    reasons = common_faults(values, rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    standing_out = over_windows(values, starts, width, lambda windows: peak_over_red_noise(windows, rate_hz))
    reasons["red_noise"] = ~(standing_out >= _OVER_RED_NOISE)
    del reasons["clipping"]  # breaths are counted as well with their tops cut off
    return _judged(share, "no_rhythm", _LEAST_BREATH_SHARE, reasons, {}, starts, width)


def pressure_quality(
    pressure_mmhg: ArrayLike, *, rate_hz: float, window_s: float = _WINDOW_S, step_s: float = _WINDOW_S
) -> Quality:
    """Return whether an arterial pressure can be measured in each window.

    Parameters
    ----------
    pressure_mmhg
        Shape (..., n_samples), NaN where missing.
    rate_hz, window_s, step_s
        Sampling rate and windows.

    Returns
    -------
    `quality` is the share of samples that are there and lie within -10 to 300 mmHg, 0 where a reason holds.
    Reasons: `missing`, `flat_line`, `clipping`, `out_of_range` (more than 1 % outside), `damped` (the 5th to
    95th percentile span less than 5 mmHg: a closed or clotted line).
    """
    values = as_signal(pressure_mmhg, name="pressure_mmhg").astype(np.float64)
    cut = {"rate_hz": as_positive(rate_hz, name="rate_hz", unit="Hz"), "window_s": window_s, "step_s": step_s}
    starts, width = window_starts(values.shape[-1], **cut)
    reasons = common_faults(values, **cut)
    reasons["out_of_range"] = clipping(values, **cut, limits=_PRESSURE_MMHG)
    span = over_windows(
        values, starts, width, lambda windows: np.diff(np.percentile(windows, (5, 95), axis=-1), axis=0)[0]
    )
    reasons["damped"] = ~(span >= _LEAST_PULSE_MMHG)
    low, high = _PRESSURE_MMHG
    inside = np.where((values > low) & (values < high), values, np.nan)
    return _with_reasons(1.0 - missing_share(inside, **cut), reasons, {}, starts, width)


def accelerometer_quality(
    accel_mps2: ArrayLike,
    *,
    rate_hz: float,
    range_mps2: float | None = None,
    window_s: float = _WINDOW_S,
    step_s: float = _WINDOW_S,
) -> Quality:
    """Return whether an accelerometer recorded each window.

    Parameters
    ----------
    accel_mps2
        Acceleration with gravity, shape (..., n_axes, n_samples), NaN where missing.
    rate_hz, window_s, step_s
        Sampling rate and windows.
    range_mps2
        Full scale of the sensor, such as 78.5 for 8 g; None takes runs at the extremes of a row as saturation.

    Returns
    -------
    Shape (..., n_windows). `quality` is the share of samples with all axes there, 0 where a reason holds.
    Reasons: `missing` (of any axis), `saturation` (any axis, over 1 % of the time), `stuck` (every axis is a
    flat line), `gravity` (for three axes: the mean vector is not within half and twice gravity). Index:
    `motion_mps2`.
    """
    values = as_signal(accel_mps2, name="accel_mps2").astype(np.float64)
    cut = {"rate_hz": as_positive(rate_hz, name="rate_hz", unit="Hz"), "window_s": window_s, "step_s": step_s}
    motion = motion_mps2(values, **cut)
    starts, width = window_starts(values.shape[-1], **cut)
    limits = None if range_mps2 is None else (-range_mps2, range_mps2)
    faults = common_faults(values, **cut)
    together = np.where(np.isnan(values).any(axis=-2), np.nan, 0.0)
    reasons: dict[str, _Bools] = {
        "missing": missing_share(together, **cut) > MOST_MISSING,
        "saturation": np.asarray(clipping(values, **cut, limits=limits).any(axis=-2)),
        "stuck": np.asarray(faults["flat_line"].all(axis=-2)),
    }
    if values.shape[-2] == 3:
        level = over_windows(values, starts, width, lambda windows: windows.mean(axis=-1), centred=False)
        size = np.sqrt((level**2).sum(axis=-2))
        reasons["gravity"] = (size < _GRAVITY_MPS2[0]) | (size > _GRAVITY_MPS2[1])
    return _with_reasons(1.0 - missing_share(together, **cut), reasons, {"motion_mps2": motion}, starts, width)


def good_ecg_share(ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return the share of 10 s windows of one lead in which beats can be measured; NaN below one window."""
    return _good_share(ecg_quality(ecg, rate_hz=rate_hz))


def good_ppg_share(ppg: ArrayLike, *, rate_hz: float) -> float:
    """Return the share of 10 s windows in which pulses can be measured; NaN below one window."""
    return _good_share(ppg_quality(ppg, rate_hz=rate_hz))


def good_respiration_share(respiration: ArrayLike, *, rate_hz: float) -> float:
    """Return the share of 32 s windows in which breaths can be measured; NaN below one window."""
    return _good_share(respiration_quality(respiration, rate_hz=rate_hz))


def _good_share(quality: Quality) -> float:
    return float(quality.good.mean()) if quality.good.size else float("nan")


def _one(samples: ArrayLike, name: str, rate_hz: float) -> tuple[NDArray[Any], float]:
    values = as_signal(samples, name=name)
    if values.ndim != 1:
        raise SignalError(f"{name} of shape {values.shape}, expected one signal (n_samples,)")
    return values, as_positive(rate_hz, name="rate_hz", unit="Hz")


def _filtered(values: NDArray[Any], use: str, rate_hz: float) -> _Floats:
    """Return the samples within the pass band of a use, missing ones bridged."""
    low_hz, high_hz = PASSBANDS[use]
    if high_hz is not None and high_hz >= 0.45 * rate_hz:
        high_hz = None  # the rate leaves it out anyway
    filtered = band_pass(values, rate_hz=rate_hz, passband_hz=(low_hz, high_hz))
    return bridged(filtered) if np.isnan(filtered).any() else filtered


def _fibrillating(values: NDArray[Any], starts: NDArray[np.int64], width: int, rate_hz: float) -> _Bools:
    """Return which windows lie in ventricular fibrillation for more than a tenth of their time."""
    episodes = ventricular_fibrillation_episodes(values, rate_hz=rate_hz).episodes
    ends = np.minimum(episodes[:, 1], (starts + width)[:, np.newaxis])
    inside = np.maximum(ends - np.maximum(episodes[:, 0], starts[:, np.newaxis]), 0).sum(axis=1)
    return np.asarray(inside > MOST_MISSING * width)


def _marks(beats: ArrayLike, n_samples: int) -> NDArray[np.int64]:
    marks = np.asarray(beats)
    if marks.size == 0:
        return np.empty(0, dtype=np.int64)
    if marks.ndim != 1 or marks.dtype.kind not in "iu" or (np.diff(marks.astype(np.int64)) <= 0).any():
        raise SignalError(
            f"beats of shape {marks.shape}, {marks.dtype}, expected ascending sample indices (n,)"
        )
    if marks[0] < 0 or marks[-1] >= n_samples:
        raise SignalError(f"beats from {marks[0]} to {marks[-1]}, expected them within {n_samples} samples")
    return marks.astype(np.int64)


def _judged(
    figure: _Floats,
    reason: str,
    least: float,
    reasons: dict[str, _Bools],
    indices: dict[str, _Floats],
    starts: NDArray[np.int64],
    width: int,
) -> Quality:
    """Return the record whose figure, NaN counting as 0, must reach `least` lest it is a reason itself."""
    result = _with_reasons(np.clip(np.nan_to_num(figure), 0.0, 1.0), reasons, indices, starts, width)
    return Quality(result.quality, {**reasons, reason: ~(figure >= least)}, indices, result.intervals)


def _with_reasons(
    figure: _Floats,
    reasons: dict[str, _Bools],
    indices: dict[str, _Floats],
    starts: NDArray[np.int64],
    width: int,
) -> Quality:
    ruled_out = np.any(list(reasons.values()), axis=0)
    return Quality(
        np.where(ruled_out, 0.0, figure), reasons, indices, np.stack([starts, starts + width], axis=1)
    )
