"""Arterial pressure beat by beat, from a pressure line or a continuous finger cuff.

Theory of operation
-------------------
1. *Beats* are the systolic rises that `pulses.detect_pulses` finds: after Zong, the slope tells a beat.
2. *Valley*: the lowest sample of the half second before the peak, after the peak before: end of diastole. A
   beat lasts from its valley to that of the next one.
3. *Figures* of a beat: the highest sample is systolic, the valley's diastolic, the mean over the beat mean
   pressure.
4. *Plausibility*: limits of pressure, rate, pulse and of change from beat to beat say which beats are signal.
   Flushes, closed taps, damping and motion break one or another of them.
5. *Notch*: see `pressure_notch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from analysis.arrays import as_positive, as_signal
from analysis.intervals import intervals_of
from analysis.pressure_notch import notches
from analysis.pulses import detect_pulses
from analysis.windows import window_starts
from protocols.errors import SignalError

LOWEST_RATE_HZ: Final = 50.0
"""Below, the systolic peak falls between samples by more than 1 mmHg of a pulse of 60."""

_RISE_S: Final = 0.5  # the longest rise, as in `pulses_points`
_SMOOTHING_S: Final = 0.015  # of slope and bend; 10 Hz, the tenth harmonic of 60 beats/min, keeps two thirds
_LEAST_COVERED: Final = 0.5  # share of a recording or window that plausible beats take up
_FEWEST: Final = 3
_FLAT_TOP_S: Final = 0.04  # a pulse in whole mmHg stays at its highest for 10 to 30 ms
_AT_ONCE: Final = 1024  # beats looked at together; bounds the memory

_Floats: TypeAlias = NDArray[np.float64]
_Bools: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PressureLimits:
    """What a beat's figures must keep to. The defaults are those of Sun et al. 2006 for arterial lines.

    Parameters
    ----------
    highest_systolic_mmhg, lowest_diastolic_mmhg, lowest_mean_mmhg, highest_mean_mmhg, least_pulse_mmhg
        Of a beat.
    slowest_per_min, fastest_per_min
        60 over its duration.
    largest_step_mmhg, largest_step_s
        By which systolic or diastolic pressure, and duration, may differ from the median of the 5 beats around.
    steepest_fall_mmhg_per_s
        Mean of the beat's negative slopes; noise falls as steeply as it rises.
    """

    highest_systolic_mmhg: float = 300.0
    lowest_diastolic_mmhg: float = 20.0
    lowest_mean_mmhg: float = 30.0
    highest_mean_mmhg: float = 200.0
    least_pulse_mmhg: float = 20.0
    slowest_per_min: float = 20.0
    fastest_per_min: float = 200.0
    largest_step_mmhg: float = 20.0
    largest_step_s: float = 2.0 / 3.0
    steepest_fall_mmhg_per_s: float = 400.0


ARTERIAL: Final = PressureLimits()
"""Systemic arteries of adults."""
PULMONARY: Final = PressureLimits(
    highest_systolic_mmhg=120.0,
    lowest_diastolic_mmhg=-5.0,
    lowest_mean_mmhg=3.0,
    highest_mean_mmhg=80.0,
    least_pulse_mmhg=5.0,
)
"""The pulmonary artery: round figures around 15 to 30 over 4 to 12 mmHg at rest, and severe hypertension."""


@dataclass(frozen=True, slots=True, eq=False)
class PressureBeats:
    """Figures of every beat, shape (n_beats,), NaN where samples are missing or the beat is cut off.

    Parameters
    ----------
    starts
        Sample indices of the valleys.
    durations_s
        To the next valley.
    systolic_mmhg, diastolic_mmhg, mean_mmhg
        Highest sample, sample of the valley, and mean over the beat.
    dpdt_max_mmhg_per_s
        Steepest rise of the smoothed pressure.
    notch_s, notch_mmhg
        Time from the valley to the dicrotic notch and pressure there; NaN where it cannot be told.
    reasons
        Name -> beats it rules out: `cut` (missing samples, or no next beat within 6 s), `pressure` (systolic,
        diastolic, mean or pulse pressure out of limits), `rate`, `step` (from the beats around), `noise`,
        `clipped` (at the highest value of the recording for 40 ms and more).
    """

    starts: NDArray[np.int64]
    durations_s: _Floats
    systolic_mmhg: _Floats
    diastolic_mmhg: _Floats
    mean_mmhg: _Floats
    dpdt_max_mmhg_per_s: _Floats
    notch_s: _Floats
    notch_mmhg: _Floats
    reasons: Mapping[str, _Bools]

    @property
    def pulse_mmhg(self) -> _Floats:
        """Systolic less diastolic pressure."""
        return self.systolic_mmhg - self.diastolic_mmhg

    @property
    def plausible(self) -> _Bools:
        """Beats that no reason rules out."""
        return np.asarray(~np.any(list(self.reasons.values()), axis=0))


@dataclass(frozen=True, slots=True, eq=False)
class PressureWindows:
    """Mean figures of windows, shape (n_windows,), NaN where plausible beats cover less than half of one.

    Parameters
    ----------
    systolic_mmhg, diastolic_mmhg, mean_mmhg
        Means over the plausible beats that begin in the window; mean pressure weighted by their duration.
    quality
        Share of the window that plausible beats take up, 0 to 1.
    intervals
        The windows, half-open, in samples, shape (n_windows, 2).
    """

    systolic_mmhg: _Floats
    diastolic_mmhg: _Floats
    mean_mmhg: _Floats
    quality: _Floats
    intervals: NDArray[np.int64]


def pressure_beats(
    pressure_mmhg: ArrayLike, *, rate_hz: float, limits: PressureLimits = ARTERIAL
) -> PressureBeats:
    """Return the figures of every beat of one arterial pressure signal.

    Parameters
    ----------
    pressure_mmhg
        Shape (n_samples,), NaN where missing.
    rate_hz
        Sampling rate, at least 50.
    limits
        What makes a beat plausible.

    Raises
    ------
    SignalError
        If the signal is not one-dimensional, is shorter than 1 s, holds infinite or no real values, or the rate
        is below 50 Hz.

    References
    ----------
    Zong et al. 2003, doi:10.1109/CIC.2003.1291140: beats by the slope of the rise.
    Sun, Reisner & Mark 2006, Computers in Cardiology 33:13-16: limits of plausible beats (cited from memory,
    unconfirmed). Differs in comparing a beat with the median of the 5 around instead of the one before, so that
    the first good beat after an artefact is not blamed for it.
    """
    samples = as_signal(pressure_mmhg, name="pressure_mmhg")
    if samples.ndim != 1:
        raise SignalError(f"pressure_mmhg of shape {samples.shape}, expected one signal (n_samples,)")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    if rate_hz < LOWEST_RATE_HZ:
        raise SignalError(f"rate_hz={rate_hz!r}, expected at least {LOWEST_RATE_HZ} Hz")
    marks = detect_pulses(samples, rate_hz=rate_hz, polarity="rising")
    starts, slopes = _valleys(samples, marks, rate_hz)
    ends = np.append(starts[1:], samples.size)[: starts.size]
    durations_s = (ends - starts) / rate_hz
    values, falls = _figures(samples, starts, rate_hz)
    whole = np.isfinite(values).all(axis=0) & (durations_s <= 60.0 / limits.slowest_per_min * 2.0)
    if whole.size:
        whole[-1] = False  # its end is not known
    values[:, ~whole] = np.nan
    systolic, mean, diastolic = values
    notch_s, notch_mmhg = notches(samples, marks, starts, ends, whole, rate_hz)
    reasons = _reasons(systolic, diastolic, mean, durations_s, falls, whole, limits)
    reasons["clipped"] = _clipped(samples, starts, rate_hz)
    durations_s = np.where(whole, durations_s, np.nan)
    return PressureBeats(starts, durations_s, systolic, diastolic, mean, slopes, notch_s, notch_mmhg, reasons)


def pressure_per_window(
    pressure_mmhg: ArrayLike,
    *,
    rate_hz: float,
    window_s: float = 10.0,
    step_s: float = 10.0,
    limits: PressureLimits = ARTERIAL,
) -> PressureWindows:
    """Return the mean pressures of every window; parameters and errors as `pressure_beats`."""
    beats = pressure_beats(pressure_mmhg, rate_hz=rate_hz, limits=limits)
    starts, width = window_starts(np.size(pressure_mmhg), rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    good = beats.plausible
    first, last = np.searchsorted(beats.starts, starts), np.searchsorted(beats.starts, starts + width)

    def sums(values: _Floats) -> _Floats:
        total = np.concatenate([[0.0], np.cumsum(np.where(good, values, 0.0))])
        return np.asarray(total[last] - total[first])

    count, covered_s = sums(np.ones(good.size)), sums(beats.durations_s)
    quality = np.clip(covered_s * rate_hz / width, 0.0, 1.0)
    enough = (quality >= _LEAST_COVERED) & (count >= _FEWEST)
    count, covered_s = np.where(enough, count, np.nan), np.where(enough, covered_s, np.nan)
    return PressureWindows(
        sums(beats.systolic_mmhg) / count,
        sums(beats.diastolic_mmhg) / count,
        sums(beats.mean_mmhg * beats.durations_s) / covered_s,
        quality,
        np.stack([starts, starts + width], axis=1),
    )


def mean_systolic_mmhg(pressure_mmhg: ArrayLike, *, rate_hz: float) -> float:
    """Return the mean systolic pressure of a recording in mmHg.

    NaN where plausible beats take up less than half of the recording, or are fewer than 3.
    """
    return _mean(_plausible_beats(pressure_mmhg, rate_hz)[0])


def mean_diastolic_mmhg(pressure_mmhg: ArrayLike, *, rate_hz: float) -> float:
    """Return the mean diastolic pressure of a recording in mmHg, NaN as `mean_systolic_mmhg`."""
    return _mean(_plausible_beats(pressure_mmhg, rate_hz)[1])


def mean_arterial_pressure_mmhg(pressure_mmhg: ArrayLike, *, rate_hz: float) -> float:
    """Return the mean pressure over the time of the plausible beats in mmHg, NaN as `mean_systolic_mmhg`."""
    _, _, mean, durations_s = _plausible_beats(pressure_mmhg, rate_hz)
    return float((mean * durations_s).sum() / durations_s.sum()) if mean.size else float("nan")


def mean_pulse_pressure_mmhg(pressure_mmhg: ArrayLike, *, rate_hz: float) -> float:
    """Return the mean pulse pressure of a recording in mmHg, NaN as `mean_systolic_mmhg`."""
    systolic, diastolic, *_ = _plausible_beats(pressure_mmhg, rate_hz)
    return _mean(systolic - diastolic)


def systolic_sd_mmhg(pressure_mmhg: ArrayLike, *, rate_hz: float) -> float:
    """Return the standard deviation (n - 1) of the beats' systolic pressure in mmHg, NaN as its mean."""
    systolic = _plausible_beats(pressure_mmhg, rate_hz)[0]
    return float(systolic.std(ddof=1)) if systolic.size else float("nan")


def systolic_arv_mmhg(pressure_mmhg: ArrayLike, *, rate_hz: float) -> float:
    """Return the average real variability of systolic pressure in mmHg.

    The mean absolute difference of successive beats that are both plausible; NaN as `mean_systolic_mmhg`.

    References
    ----------
    Mena et al. 2005, doi:10.1097/01.hjh.0000160205.81652.5a. There of readings over a day, here of beats.
    """
    beats = pressure_beats(pressure_mmhg, rate_hz=rate_hz)
    if not _enough(beats, np.size(pressure_mmhg) / rate_hz):
        return float("nan")
    steps = np.abs(np.diff(np.where(beats.plausible, beats.systolic_mmhg, np.nan)))
    steps = steps[np.isfinite(steps)]
    return float(steps.mean()) if steps.size else float("nan")


def _plausible_beats(pressure_mmhg: ArrayLike, rate_hz: float) -> tuple[_Floats, ...]:
    """Return systolic, diastolic, mean and duration of a recording's plausible beats, of none if too few."""
    beats = pressure_beats(pressure_mmhg, rate_hz=rate_hz)
    good = beats.plausible & _enough(beats, np.size(pressure_mmhg) / rate_hz)
    return tuple(
        values[good]
        for values in (beats.systolic_mmhg, beats.diastolic_mmhg, beats.mean_mmhg, beats.durations_s)
    )


def _enough(beats: PressureBeats, duration_s: float) -> bool:
    good = beats.plausible
    return bool(good.sum() >= _FEWEST and beats.durations_s[good].sum() >= _LEAST_COVERED * duration_s)


def _mean(values: _Floats) -> float:
    return float(values.mean()) if values.size else float("nan")


def _valleys(
    samples: NDArray[Any], marks: NDArray[np.int64], rate_hz: float
) -> tuple[NDArray[np.int64], _Floats]:
    """Return the lowest sample before each peak, and the steepest slope from there to the peak."""
    offsets = np.arange(-int(_RISE_S * rate_hz), 1)
    room = np.diff(marks, prepend=np.full(min(1, marks.size), -1))
    starts, slopes = np.empty(marks.size, dtype=np.int64), np.full(marks.size, np.nan)
    for k in range(0, marks.size, _AT_ONCE):
        some = slice(k, k + _AT_ONCE)
        reach = np.minimum(room[some, np.newaxis] - 1, marks[some, np.newaxis])
        waves = samples[np.maximum(marks[some, np.newaxis] + offsets, 0)].astype(np.float64)
        allowed = offsets >= -reach
        lowest = np.where(allowed & ~np.isnan(waves), waves, np.inf)
        lowest = lowest.shape[1] - 1 - lowest[:, ::-1].argmin(axis=1)  # the last of equals
        starts[some] = marks[some] + offsets[lowest]
        slope = rate_hz * ndimage.gaussian_filter1d(
            waves, _SMOOTHING_S * rate_hz, axis=1, order=1, mode="nearest"
        )
        rising = allowed & (np.arange(offsets.size) >= lowest[:, np.newaxis])
        highest = np.where(rising & ~np.isnan(slope), slope, -np.inf).max(axis=1)
        slopes[some] = np.where(np.isfinite(highest), highest, np.nan)
    return starts, slopes


def _figures(samples: NDArray[Any], starts: NDArray[np.int64], rate_hz: float) -> tuple[_Floats, _Floats]:
    """Return systolic, mean and diastolic pressure of every beat, shape (3, n), and its mean negative slope."""
    values, falls = np.empty((3, starts.size)), np.empty(starts.size)
    for k in range(0, starts.size, _AT_ONCE):
        some = slice(k, k + _AT_ONCE)
        end = starts[k + _AT_ONCE] if k + _AT_ONCE < starts.size else samples.size
        within = samples[starts[k] : end].astype(np.float64)
        at = starts[some] - starts[k]
        mean = np.add.reduceat(within, at) / np.diff(np.append(at, within.size))
        values[:, some] = np.maximum.reduceat(within, at), mean, within[at]
        steps = np.diff(within, append=within[-1:])
        falling = steps < 0.0
        n_falls = np.add.reduceat(falling.astype(np.float64), at)
        total = np.add.reduceat(np.where(falling, steps, 0.0), at)
        falls[some] = total * rate_hz / np.maximum(n_falls, 1.0)
    return values, falls


def _reasons(
    systolic: _Floats,
    diastolic: _Floats,
    mean: _Floats,
    durations_s: _Floats,
    falls: _Floats,
    whole: _Bools,
    limits: PressureLimits,
) -> dict[str, _Bools]:
    rate = 60.0 / durations_s
    in_limits = (systolic <= limits.highest_systolic_mmhg) & (diastolic >= limits.lowest_diastolic_mmhg)
    in_limits &= (mean >= limits.lowest_mean_mmhg) & (mean <= limits.highest_mean_mmhg)
    in_limits &= systolic - diastolic >= limits.least_pulse_mmhg
    steady = _steps(durations_s) <= limits.largest_step_s
    for values in (systolic, diastolic):
        steady &= _steps(values) <= limits.largest_step_mmhg
    return {
        "cut": ~whole,
        "pressure": ~in_limits,
        "rate": ~((rate >= limits.slowest_per_min) & (rate <= limits.fastest_per_min)),
        "step": ~steady,
        "noise": ~(falls >= -limits.steepest_fall_mmhg_per_s),
    }


def _clipped(samples: NDArray[Any], starts: NDArray[np.int64], rate_hz: float) -> _Bools:
    """Return which beats stay at the highest value of the recording, as the top of no pulse does."""
    if starts.size == 0:
        return np.empty(0, dtype=bool)
    runs = intervals_of(samples == np.fmax.reduce(samples))
    flat = runs[runs[:, 1] - runs[:, 0] >= max(_FEWEST, _FLAT_TOP_S * rate_hz), 0]
    return np.diff(np.searchsorted(flat, np.append(starts, samples.size))) > 0


def _steps(values: _Floats) -> _Floats:
    """Return by how much each value differs from the median of the finite ones of 5 around."""
    if values.size == 0:
        return values
    around = np.lib.stride_tricks.sliding_window_view(np.pad(values, 2, constant_values=np.nan), 5)
    ordered = np.sort(around, axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    rows = np.arange(count.size)
    middle = 0.5 * (ordered[rows, np.maximum(count - 1, 0) // 2] + ordered[rows, count // 2])
    return np.asarray(np.abs(values - middle))
