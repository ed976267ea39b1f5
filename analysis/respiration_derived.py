"""What breathing does to an electrocardiogram and to a photoplethysmogram, beat by beat.

Breathing turns the heart's axis and changes the chest's impedance, fills and empties the great vessels, and
quickens the heart. So the amplitude, the baseline and the intervals of beats carry it, each in some people and
postures and not in others. `respiration_fusion` makes one rate of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive, as_signal
from analysis.heartbeats import detect_qrs
from analysis.pulses import Polarity, detect_pulses
from analysis.pulses_points import as_indices, pulse_points
from protocols.errors import SignalError

EVEN_RATE_HZ: Final = 4.0
"""Twice the rate of 120 beats/min; the fastest breath has four samples."""

_HALF_QRS_S: Final = 0.05  # a normal QRS complex lasts 80 to 100 ms
_RISE_S: Final = 0.5  # the longest rise, as in `pulses_points`
_BASELINE_S: Final = (
    0.2  # either side: the median of 0.4 s around is not moved by the QRS complex in its middle
)
_NEIGHBOURS: Final = 11  # beats around that a value is judged by, about 10 s, as in `pulses_intervals`
_OUTLIER: Final = 5.0  # robust standard deviations; breathing itself keeps within two
_MAD_TO_SD: Final = 1.4826
_AT_ONCE: Final = 1024  # beats looked at together; bounds the memory

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Modulations:
    """Series that breathing modulates, one value per beat.

    Parameters
    ----------
    times_s
        Of the beats from the first sample, ascending, shape (n_beats,).
    values
        Name -> values, shape (n_beats,), NaN where there is none.
    """

    times_s: _Floats
    values: Mapping[str, _Floats]


def ecg_modulations(ecg: ArrayLike, beats: ArrayLike | None = None, *, rate_hz: float) -> Modulations:
    """Return what breathing modulates in one ECG lead, for every beat.

    Parameters
    ----------
    ecg
        Shape (n_samples,), in any unit and polarity, NaN where missing. A baseline filtered away carries
        nothing.
    beats
        Sample indices of the QRS complexes; None to detect them.
    rate_hz
        Sampling rate, at least 100.

    Returns
    -------
    `qrs_area`: mean deviation within 50 ms of the beat, from its mean there. `r_amplitude`: the largest
    deflection from the baseline, with its sign. `baseline`: the median within 200 ms. `rr_s`: the interval to
    the beat before. NaN where samples are missing or the recording ends.

    Raises
    ------
    SignalError
        If `ecg` is not one-dimensional, holds infinite values, or the rate is below 100 Hz.

    References
    ----------
    Moody et al. 1985, Computers in Cardiology 12:113-116: respiration from the area of the QRS complex.
    Charlton et al. 2016, doi:10.1088/0967-3334/37/4/610: amplitude, baseline and interval modulation.
    """
    samples, rate_hz = _one(ecg, "ecg", rate_hz)
    marks = (
        detect_qrs(samples, rate_hz=rate_hz)
        if beats is None
        else as_indices(beats, name="beats", n_samples=samples.size)
    )
    half, reach = max(1, round(_HALF_QRS_S * rate_hz)), max(2, round(_BASELINE_S * rate_hz))
    values = np.full((3, marks.size), np.nan)
    inside = np.flatnonzero((marks >= reach) & (marks + reach < samples.size))
    for k in range(0, inside.size, _AT_ONCE):
        some = inside[k : k + _AT_ONCE]
        around = samples[marks[some, np.newaxis] + np.arange(-reach, reach + 1)].astype(np.float64)
        baseline = np.median(around, axis=1)
        qrs = around[:, reach - half : reach + half + 1]
        deflection = qrs - baseline[:, np.newaxis]
        largest = np.take_along_axis(deflection, np.abs(deflection).argmax(axis=1)[:, np.newaxis], axis=1)
        area = np.abs(qrs - qrs.mean(axis=1, keepdims=True)).mean(axis=1)
        values[:, some] = area, largest[:, 0], baseline
    times_s = marks / rate_hz
    rr_s = np.diff(times_s, prepend=np.nan)
    return _modulations(times_s, dict(zip(("qrs_area", "r_amplitude", "baseline"), values, strict=True)), rr_s)


def ppg_modulations(
    ppg: ArrayLike, pulses: ArrayLike | None = None, *, rate_hz: float, polarity: Polarity = "auto"
) -> Modulations:
    """Return what breathing modulates in a photoplethysmogram or an arterial pressure, for every pulse.

    Parameters
    ----------
    ppg
        Shape (n_samples,), NaN where missing.
    pulses
        Sample indices of the systolic peaks; None to detect them.
    rate_hz
        Sampling rate, at least 20.
    polarity
        As in `pulses.detect_pulses`.

    Returns
    -------
    `amplitude`: peak minus onset. `intensity`: the level of the peak. `interval_s`: from foot to foot. Times
    are those of the feet; pulses without one are left out.

    Raises
    ------
    SignalError
        As `pulses.detect_pulses`.

    References
    ----------
    Karlen et al. 2013, doi:10.1109/TBME.2013.2246160: amplitude, intensity and frequency variations.
    """
    samples, rate_hz = _one(ppg, "ppg", rate_hz)
    marks = (
        detect_pulses(samples, rate_hz=rate_hz, polarity=polarity)
        if pulses is None
        else as_indices(pulses, name="pulses", n_samples=samples.size)
    )
    points = pulse_points(samples, marks, rate_hz=rate_hz)
    sign = -1.0 if np.nansum(np.sign(points.heights)) < 0.0 else 1.0
    level = np.full(marks.size, np.nan)
    amplitude = np.full(marks.size, np.nan)
    offsets = np.arange(-int(_RISE_S * rate_hz), 1)
    room = np.diff(marks, prepend=offsets[0])  # before the pulse before, a valley is not this pulse's
    for k in range(0, marks.size, _AT_ONCE):
        some = slice(k, k + _AT_ONCE)
        indices = np.maximum(marks[some, np.newaxis] + np.maximum(offsets, -room[some, np.newaxis]), 0)
        rises = sign * samples[indices].astype(np.float64)
        level[some], amplitude[some] = sign * rises[:, -1], rises[:, -1] - rises.min(axis=1)
    intervals_s = np.diff(points.feet_s, prepend=np.nan)
    values = {"amplitude": amplitude, "intensity": level}
    return _modulations(marks / rate_hz, values, intervals_s, interval="interval_s")


def evenly(modulations: Modulations, name: str, *, duration_s: float, rate_hz: float = EVEN_RATE_HZ) -> _Floats:
    """Return one modulation as an evenly sampled signal: a respiration signal, in the modulation's own unit.

    Parameters
    ----------
    modulations, name
        Which one, such as `qrs_area`.
    duration_s
        Of the recording.
    rate_hz
        Of the result.

    Returns
    -------
    Shape (round(duration_s * rate_hz),), straight lines between the beats; before the first and after the last
    beat their values are repeated. Values far from those of the 11 beats around (ectopic beats, artefacts) are
    left out. All NaN below 3 values.

    Raises
    ------
    SignalError
        If there is no such modulation, or the duration or rate is no number above 0.
    """
    if name not in modulations.values:
        raise SignalError(f"modulation {name!r}, expected one of {', '.join(modulations.values)}")
    n_samples = round(
        as_positive(duration_s, name="duration_s", unit="s") * as_positive(rate_hz, name="rate_hz", unit="Hz")
    )
    times_s, values = usual_values(modulations.times_s, modulations.values[name])
    if values.size < 3:
        return np.full(n_samples, np.nan)
    return np.interp(np.arange(n_samples) / rate_hz, times_s, values)


def usual_values(times_s: _Floats, values: _Floats) -> tuple[_Floats, _Floats]:
    """Return times and values without the missing ones and those more than 5 robust SD from the 11 around.

    Median and median deviation (Hampel's filter); a series that repeats one value keeps that value only.
    """
    there = np.isfinite(values)
    times_s, values = times_s[there], values[there]
    if values.size < _NEIGHBOURS:
        return times_s, values
    padded = np.pad(values, _NEIGHBOURS // 2, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, _NEIGHBOURS)
    middle = np.median(around, axis=1)
    spread = _MAD_TO_SD * np.median(np.abs(around - middle[:, np.newaxis]), axis=1)
    usual = np.abs(values - middle) <= _OUTLIER * spread
    return times_s[usual], values[usual]


def _one(samples: ArrayLike, name: str, rate_hz: float) -> tuple[NDArray[Any], float]:
    values = as_signal(samples, name=name)
    if values.ndim != 1:
        raise SignalError(f"{name} of shape {values.shape}, expected one signal (n_samples,)")
    return values, as_positive(rate_hz, name="rate_hz", unit="Hz")


def _modulations(
    times_s: _Floats, values: dict[str, _Floats], intervals_s: _Floats, *, interval: str = "rr_s"
) -> Modulations:
    return Modulations(times_s, MappingProxyType({**values, interval: intervals_s}))
