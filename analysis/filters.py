"""Filters: pass bands, baseline wander, mains hum and motion, for records and for live displays.

Two families. For records, filters of zero phase: run forwards and backwards, they leave every wave where it is,
and their edges (-3 dB) are those of both passes together. For live displays, `StreamingFilter` runs forwards
only; it delays each frequency by a time that it can tell, and its output does not depend on how the samples
were cut into chunks, to the last bit.

Missing samples (NaN) stay missing and no others become so. Zero-phase filters bridge them by a straight line
and causal ones by the last value, so samples next to a gap are filtered as if that had been recorded: what a
bridge brings in fades to some percent within one period of the lower edge.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import signal

from analysis.arrays import as_positive, as_signal
from protocols.errors import SignalError

_Floats: TypeAlias = NDArray[np.float64]
Passband: TypeAlias = tuple[float | None, float | None]
"""Lower and upper edge in Hz, -3 dB; None where there is none."""

PASSBANDS: Final[Mapping[str, Passband]] = MappingProxyType(
    {
        "ecg_diagnostic": (0.05, 150.0),  # AHA/ACC/HRS 2007: 0.05 Hz; 150 Hz for adolescents and adults
        "ecg_diagnostic_infant": (0.05, 250.0),  # AHA/ACC/HRS 2007: 250 Hz for children
        "ecg_diagnostic_digital": (0.67, 150.0),  # AHA/ACC/HRS 2007: 0.67 Hz where the phase is zero
        "ecg_monitoring": (0.5, 40.0),  # IEC 60601-2-27 monitoring band (0.67-40 Hz at least), customary edges
        "ecg_st": (0.05, 40.0),  # ST level on a monitor: the low edge of diagnosis, the high one of monitoring
        "ppg": (0.5, 8.0),  # 30 beats/min to the 2nd harmonic of 240; Elgendi 2013 uses 0.5-8 Hz for beats
        "respiration": (0.05, 1.0),  # 3 to 60 breaths/min
        "pressure": (None, 40.0),  # the level is the measurement; ten harmonics of 240 beats/min
        "gait": (
            0.5,
            20.0,
        ),  # 98 % of the power of walking lies below 10 Hz at the foot (Antonsson & Mann 1985)
    }
)
"""Use -> pass band, for `band_pass` and `StreamingFilter`."""

BASELINE_CUTOFF_HZ: Final = 0.67
"""AHA/ACC/HRS 2007: the highest lower edge of a filter without phase distortion."""

_ORDER: Final = 2  # Butterworth; twice run it falls by 24 dB an octave and overshoots by little
_MAINS_HZ: Final = (50.0, 60.0)
_NOTCH_HZ: Final = 2.0  # width: 40 dB less where the mains is off by 0.1 Hz, the usual control band of a grid
_N_HARMONICS: Final = 3  # the hum itself and two harmonics: 150 or 180 Hz, the upper edge of the ECG
_MAINS_SEGMENT_S: Final = 4.0  # resolves 0.25 Hz
_MAINS_BAND_HZ: Final = 1.0  # either side: holds the main lobe of the Hann window and the mains' deviation
_MAINS_SURROUND_HZ: Final = 4.0  # either side: what the line must stand out from
_MAINS_RATIO: Final = 10.0  # 10 dB; chance leaves the mean of 8 bins within a factor 4 even of one segment
_LOWEST_EDGE: Final = 1e-6  # of the rate: double precision leaves 1e-4 of a steady level there, soon all
_FILTERED_AT_ONCE: Final = 1 << 18  # samples: what a pass needs beside its result stays small
_HOLD_S: Final = 0.1  # a shorter gap costs a live display less than a fresh start would
_MOTION_WINDOW_S: Final = 8.0  # the window of Zhang 2015 (TROIKA): motion is taken as steady within it
_MOTION_LAG_S: Final = 0.12  # tissue follows the case within a tenth of a second or so, either way


def band_pass(samples: ArrayLike, *, rate_hz: float, passband_hz: Passband) -> _Floats:
    """Return the samples within a pass band, in their unit, at zero phase.

    Parameters
    ----------
    samples
        Shape (..., n_samples), NaN where missing.
    rate_hz
        Sampling rate.
    passband_hz
        Edges in Hz at which half the power is left; one of them may be None. `PASSBANDS` holds those in use.

    Returns
    -------
    Shape (..., n_samples), NaN where `samples` are, a wholly missing row included.

    Raises
    ------
    SignalError
        If there is no time axis, values are infinite, or the edges do not ascend from a millionth of the rate
        to below half of it.

    References
    ----------
    Butterworth filter of 2nd order per edge, forwards and backwards (Gustafsson 1996 discusses such filters),
    edges corrected for the two passes; ends continued by point reflection for a period of the lower edge.
    Pass bands: Kligfield et al. 2007 (AHA/ACC/HRS), doi:10.1161/CIRCULATIONAHA.106.180200.
    """
    samples, rate_hz = as_signal(samples, name="samples"), as_positive(rate_hz, name="rate_hz", unit="Hz")
    low_hz, _ = passband_hz
    sections = _sections(passband_hz, rate_hz, n_passes=2)
    return _both_ways(samples, sections, pad_s=1.0 / low_hz if low_hz else 1.0, rate_hz=rate_hz)


def remove_baseline(samples: ArrayLike, *, rate_hz: float, cutoff_hz: float = BASELINE_CUTOFF_HZ) -> _Floats:
    """Return the samples without what varies more slowly than `cutoff_hz`; shapes and errors as `band_pass`."""
    return band_pass(samples, rate_hz=rate_hz, passband_hz=(cutoff_hz, None))


def mains_frequency_hz(samples: ArrayLike, *, rate_hz: float) -> _Floats:
    """Return which mains frequency hums in each row: 50, 60, or NaN where neither stands out by 10 dB.

    Parameters
    ----------
    samples
        Shape (..., n_samples), NaN where missing; at least 4 s, else NaN is returned.
    rate_hz
        Sampling rate. A frequency within 1 Hz of half of it, or above, cannot be told.

    Returns
    -------
    Shape (...). The power density within 1 Hz of the line, over the median of the band within 4 Hz around it.

    References
    ----------
    Power density by Welch 1967, doi:10.1109/TAU.1967.1161901, Hann windows of 4 s without overlap.
    """
    samples, rate_hz = as_signal(samples, name="samples"), as_positive(rate_hz, name="rate_hz", unit="Hz")
    segment = round(_MAINS_SEGMENT_S * rate_hz)
    ratios = np.zeros((len(_MAINS_HZ), *samples.shape[:-1]))
    if samples.size and samples.shape[-1] >= segment >= 2:
        frequencies_hz, power = signal.welch(
            bridged(samples), rate_hz, nperseg=segment, noverlap=0, detrend="linear"
        )
        for row, line_hz in enumerate(_MAINS_HZ):
            distance_hz = np.abs(frequencies_hz - line_hz)
            near, around = distance_hz <= _MAINS_BAND_HZ, distance_hz <= _MAINS_SURROUND_HZ
            if line_hz + _MAINS_BAND_HZ < rate_hz / 2:
                floor = np.median(power[..., around & ~near], axis=-1)
                peak = power[..., near].max(axis=-1)
                ratios[row] = np.divide(peak, floor, out=np.zeros_like(peak), where=floor > 0)
    best = ratios.argmax(axis=0)
    return np.asarray(np.where(ratios.max(axis=0) >= _MAINS_RATIO, np.asarray(_MAINS_HZ)[best], np.nan))


def remove_mains(samples: ArrayLike, *, rate_hz: float, mains_hz: float | None = None) -> _Floats:
    """Return the samples without mains hum and its first two overtones, in their unit, at zero phase.

    Parameters
    ----------
    samples
        Shape (..., n_samples), NaN where missing.
    rate_hz
        Sampling rate.
    mains_hz
        50 or 60 as a rule; None looks for it in each row and leaves rows without hum as they are.

    Raises
    ------
    SignalError
        As `band_pass`, or if `mains_hz` is below a millionth of the rate or not below half of it.

    References
    ----------
    Notches of 2nd order, 2 Hz wide at -3 dB for each of the two passes. What is taken from the ECG itself in so
    narrow a band is small; a mains off by 0.1 Hz still falls by 40 dB.
    """
    samples, rate_hz = as_signal(samples, name="samples"), as_positive(rate_hz, name="rate_hz", unit="Hz")
    if mains_hz is not None:
        return _both_ways(samples, _notches(mains_hz, rate_hz), pad_s=1.0, rate_hz=rate_hz)
    found_hz = mains_frequency_hz(samples, rate_hz=rate_hz)
    clean = samples.astype(np.float64)
    for line_hz in _MAINS_HZ:
        rows = found_hz == line_hz
        if rows.any():
            clean[rows] = _both_ways(samples[rows], _notches(line_hz, rate_hz), pad_s=1.0, rate_hz=rate_hz)
    return clean


def remove_motion(samples: ArrayLike, accel_mps2: ArrayLike, *, rate_hz: float) -> _Floats:
    """Return the samples without what the acceleration explains linearly, in their unit.

    Parameters
    ----------
    samples
        One signal, shape (n_samples,), NaN where missing; band-passed, as its use asks.
    accel_mps2
        Acceleration sampled together with it, shape (n_axes, n_samples); its unit does not matter.
    rate_hz
        Sampling rate.

    Returns
    -------
    Shape (n_samples,), NaN where the signal or any axis is missing. A signal shorter than 8 s is one window.

    Raises
    ------
    SignalError
        If shapes do not fit, or values are infinite.

    References
    ----------
    Least squares (Wiener) noise cancelling with a reference, Widrow et al. 1975, doi:10.1109/PROC.1975.10036.
    Differs in solving each window of 8 s as a whole, on five delays of every axis within 120 ms, and in
    cross-fading half-overlapping windows, instead of adapting from sample to sample. Motion at the frequency of
    the heart takes the heart's own wave with it: this lowers artefacts and does not prove their absence.
    """
    samples, accel = as_signal(samples, name="samples"), as_signal(accel_mps2, name="accel_mps2")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    if samples.ndim != 1 or accel.ndim != 2 or accel.shape[1] != samples.size:
        raise SignalError(f"samples {samples.shape}, accel_mps2 {accel.shape}, expected (n,) and (n_axes, n)")
    missing = np.isnan(samples) | np.isnan(accel).any(axis=0)
    whole = np.where(missing, np.nan, bridged(samples))
    width = min(samples.size, 2 * round(_MOTION_WINDOW_S * rate_hz / 2))
    if width < 2 or missing.all():
        return whole
    delays = np.unique(np.rint(np.linspace(-_MOTION_LAG_S, _MOTION_LAG_S, 5) * rate_hz).astype(int))
    axes = np.pad(bridged(accel), ((0, 0), (-delays[0], -delays[0])), mode="edge")
    explained, weights = np.zeros(samples.size), np.zeros(samples.size)
    taper = signal.windows.hann(width + 2)[1:-1]
    last = samples.size - width
    # One pass per window: all of their regressors at once would take fifteen times the memory of the signal.
    for start in np.unique(np.append(np.arange(0, last, max(1, width // 2)), last)):
        span = slice(start, start + width)
        regressors = np.concatenate(
            [axes[:, start - delays[0] + delay :][:, :width] for delay in delays] + [np.ones((1, width))]
        )
        explained[span] += taper * _explained(whole[span], regressors)
        weights[span] += taper
    return np.asarray(whole - explained / weights)


class StreamingFilter:
    """A causal filter for live displays: chunks in, filtered chunks of the same length out.

    A sample that is missing gives NaN. A gap of up to 0.1 s is filled with the last value before it; after a
    longer one, and at the start, the filter begins anew at rest on the first sample that is there. Memory: four
    numbers per section and channel, whatever has passed.

    Parameters
    ----------
    rate_hz
        Sampling rate.
    passband_hz
        Edges in Hz (-3 dB), as for `band_pass`, by a Butterworth filter of 2nd order each.
    mains_hz
        Where to notch out hum and its first two overtones; None for nowhere.

    Raises
    ------
    SignalError
        If the edges do not ascend from a millionth of the rate to below half of it, or the mains is not within.
    """

    def __init__(self, *, rate_hz: float, passband_hz: Passband, mains_hz: float | None = None) -> None:
        self.rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
        sections = _sections(passband_hz, self.rate_hz, n_passes=1)
        if mains_hz is not None:
            sections = np.concatenate([sections, _notches(mains_hz, self.rate_hz)])
        self._sections = sections
        self._at_rest = signal.sosfilt_zi(sections)
        self._hold = math.floor(_HOLD_S * self.rate_hz)
        self._shape: tuple[int, ...] | None = None
        self._states: list[_Floats] = []
        self._held: list[float] = []
        self._gaps: list[int] = []

    def delay_s(self, at_hz: float) -> float:
        """Return by how much a wave packet of this frequency comes later out than in (group delay), in s.

        Raises
        ------
        SignalError
            If the frequency does not lie between 0 and half the rate.
        """
        if not 0.0 < as_positive(at_hz, name="at_hz", unit="Hz") < self.rate_hz / 2:
            raise SignalError(f"at_hz={at_hz!r} at {self.rate_hz} Hz, expected less than half of it")
        step_hz = 1e-4 * min(at_hz, self.rate_hz / 2 - at_hz)
        _, response = signal.sosfreqz(
            self._sections, worN=np.array([at_hz - step_hz, at_hz + step_hz]), fs=self.rate_hz
        )
        turn = float(np.angle(response[1] / response[0]))
        return -turn / (2.0 * np.pi * 2.0 * step_hz)

    def push(self, chunk: ArrayLike) -> _Floats:
        """Return the next samples filtered, in their unit.

        Parameters
        ----------
        chunk
            Shape (..., n_samples) for any n_samples, 0 included; the leading axes are the same in every call.

        Raises
        ------
        SignalError
            If the leading axes changed, or values are infinite.
        """
        samples = as_signal(chunk, name="chunk")
        if self._shape is None:
            self._shape = samples.shape[:-1]
            n_rows = math.prod(self._shape)
            self._states = [np.zeros_like(self._at_rest) for _ in range(n_rows)]
            self._held, self._gaps = [np.nan] * n_rows, [self._hold + 1] * n_rows
        if samples.shape[:-1] != self._shape:
            raise SignalError(f"chunk of shape {samples.shape}, expected {(*self._shape, 'n')} as before")
        filtered = np.empty(samples.shape, dtype=np.float64)
        n_rows = math.prod(self._shape)
        shape = (n_rows, samples.shape[-1])  # rows may be none
        rows, rows_out = samples.reshape(shape), filtered.reshape(shape)
        if samples.shape[-1]:
            for row in range(n_rows):  # each channel has gaps of its own
                rows_out[row] = self._push_row(row, rows[row].astype(np.float64))
        return filtered

    def _push_row(self, row: int, samples: _Floats) -> _Floats:
        present = ~np.isnan(samples)
        index = np.arange(samples.size)
        latest = np.maximum.accumulate(np.where(present, index, -1))
        filled = np.where(latest >= 0, samples[latest], self._held[row])
        before = np.concatenate([[-1], latest[:-1]])
        gaps = np.where(before >= 0, index - before - 1, index + self._gaps[row])
        starts = np.flatnonzero(present & (gaps > self._hold))
        filtered = np.full(samples.size, np.nan)
        bounds = [0, *starts.tolist(), samples.size]
        for start, end in itertools.pairwise(bounds):  # once per long gap
            if start in starts:
                self._states[row] = self._at_rest * filled[start]
            if end > start and not np.isnan(filled[start]):
                filtered[start:end], self._states[row] = signal.sosfilt(
                    self._sections, filled[start:end], zi=self._states[row]
                )
        self._held[row] = float(filled[-1])
        self._gaps[row] = int(gaps[-1]) + 1 if not present[-1] else 0
        filtered[~present] = np.nan
        return filtered


def filter_causal(
    samples: ArrayLike, *, rate_hz: float, passband_hz: Passband, mains_hz: float | None = None
) -> _Floats:
    """Return what `StreamingFilter` gives for the samples in one chunk, or in any chunks put together."""
    return StreamingFilter(rate_hz=rate_hz, passband_hz=passband_hz, mains_hz=mains_hz).push(samples)


def bridged(samples: NDArray[Any]) -> _Floats:
    """Return the samples, shape (..., n), as float64, missing ones on the line between their neighbours.

    Before the first and after the last sample that is there, it is repeated; a wholly missing row becomes 0.
    """
    filled = np.array(samples, dtype=np.float64, order="C")  # so that its rows are views
    missing = np.isnan(filled)
    if missing.any():
        rows, gaps = filled.reshape(-1, filled.shape[-1]), missing.reshape(-1, filled.shape[-1])
        for row in np.flatnonzero(gaps.any(axis=-1)):  # each row has gaps of its own
            there = np.flatnonzero(~gaps[row])
            absent = np.flatnonzero(gaps[row])
            rows[row, absent] = np.interp(absent, there, rows[row, there]) if there.size else 0.0
    return filled


def _both_ways(samples: NDArray[Any], sections: _Floats, *, pad_s: float, rate_hz: float) -> _Floats:
    if samples.shape[-1] == 0 or samples.size == 0:
        return samples.astype(np.float64)
    filtered = bridged(samples)
    pad = min(samples.shape[-1] - 1, math.ceil(pad_s * rate_hz))
    before = 2.0 * filtered[..., :1] - filtered[..., pad:0:-1]
    after = 2.0 * filtered[..., -1:] - filtered[..., -2 : -pad - 2 : -1]
    at_rest = signal.sosfilt_zi(sections).reshape(len(sections), *[1] * (samples.ndim - 1), 2)
    state = at_rest * (before if pad else filtered)[..., :1]
    _, state = _run(sections, before, state)
    state = _run_in_place(sections, filtered, state)
    after, _ = _run(sections, after, state)
    state = at_rest * (after if pad else filtered)[..., -1:]
    _, state = _run(sections, after[..., ::-1], state)
    _run_in_place(sections, filtered[..., ::-1], state)
    if samples.dtype.kind == "f":
        filtered[np.isnan(samples)] = np.nan
    return filtered


def _run(sections: _Floats, samples: _Floats, state: _Floats) -> tuple[_Floats, _Floats]:
    """Return samples filtered forwards, and the state that is left; `sosfilt` wants some to filter."""
    if samples.shape[-1] == 0:
        return samples, state
    filtered, state = signal.sosfilt(sections, samples, axis=-1, zi=state)
    return filtered, state


def _run_in_place(sections: _Floats, samples: _Floats, state: _Floats) -> _Floats:
    """Filter samples forwards where they stand, a bounded number at once, and return the state that is left."""
    step = max(1, _FILTERED_AT_ONCE // max(1, math.prod(samples.shape[:-1])))
    for start in range(0, samples.shape[-1], step):
        part = samples[..., start : start + step]
        part[...], state = _run(sections, part, state)
    return state


def _sections(passband_hz: Passband, rate_hz: float, *, n_passes: int) -> _Floats:
    """Return second-order sections whose edges, after `n_passes`, are at -3 dB."""
    low_hz, high_hz = passband_hz
    edges = [as_positive(edge, name="passband_hz", unit="Hz") for edge in (low_hz, high_hz) if edge is not None]
    if not edges or edges != sorted(set(edges)) or edges[-1] >= rate_hz / 2:
        raise SignalError(
            f"passband_hz={passband_hz!r} at {rate_hz} Hz, expected ascending edges below {rate_hz / 2} Hz"
        )
    _check_edge(edges[0], rate_hz, name="passband_hz")
    spread = (2.0 ** (1.0 / n_passes) - 1.0) ** (1.0 / (2 * _ORDER))
    sections = []
    for edge_hz, kind, factor in ((low_hz, "highpass", spread), (high_hz, "lowpass", 1.0 / spread)):
        if edge_hz is not None:
            # in the bilinear transform's frequency, where half the rate is infinitely far
            corrected = np.arctan(np.tan(np.pi * edge_hz / rate_hz) * factor) / np.pi * rate_hz
            sections.append(signal.butter(_ORDER, corrected, kind, fs=rate_hz, output="sos"))
    return np.concatenate(sections)


def _check_edge(edge_hz: float, rate_hz: float, *, name: str) -> None:
    lowest_hz = _LOWEST_EDGE * rate_hz
    if edge_hz < lowest_hz:
        raise SignalError(f"{name} of {edge_hz} Hz at {rate_hz} Hz, expected at least {lowest_hz} Hz")


def _notches(mains_hz: float, rate_hz: float) -> _Floats:
    mains_hz = as_positive(mains_hz, name="mains_hz", unit="Hz")
    if mains_hz >= rate_hz / 2:
        raise SignalError(f"mains_hz={mains_hz!r} at {rate_hz} Hz, expected less than half of it")
    _check_edge(mains_hz, rate_hz, name="mains_hz")
    lines_hz = [k * mains_hz for k in range(1, _N_HARMONICS + 1) if k * mains_hz < rate_hz / 2]
    return np.concatenate(
        [signal.tf2sos(*signal.iirnotch(line_hz, line_hz / _NOTCH_HZ, fs=rate_hz)) for line_hz in lines_hz]
    )


def _explained(samples: _Floats, regressors: _Floats) -> _Floats:
    """Return the part of the samples, shape (n,), that regressors, shape (k, n), explain without their mean."""
    there = ~np.isnan(samples)
    if there.sum() <= regressors.shape[0]:
        return np.zeros_like(samples)
    coefficients, *_ = np.linalg.lstsq(regressors[:, there].T, samples[there], rcond=1e-6)
    coefficients[-1] = 0.0
    centred = regressors - regressors[:, there].mean(axis=1, keepdims=True)
    return np.asarray(coefficients @ centred)
