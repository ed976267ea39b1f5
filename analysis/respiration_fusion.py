"""Respiratory rate from an electrocardiogram, a photoplethysmogram or both: one rate of all modulations.

Each modulation's power spectrum in a window says where breathing may be, and how sharply. The spectra are added
up, sharp ones with more weight, and the peak of the sum is the rate, if the sum is sharp itself and at least
two modulations peak there. Fusing spectra and not rates lets a breath that is second in every modulation come
first.

No rate beyond half the heart rate can be told: beats are the samples of these signals.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import signal

from analysis.arrays import as_positive, as_signal
from analysis.pulses import Polarity
from analysis.respiration import (
    FASTEST_PER_MIN,
    STEP_S,
    WINDOW_S,
    RespiratoryRate,
    mean_of_good,
)
from analysis.respiration_derived import (
    EVEN_RATE_HZ,
    Modulations,
    ecg_modulations,
    evenly,
    ppg_modulations,
    usual_values,
)
from analysis.windows import window_starts, windowed
from protocols.errors import SignalError

SLOWEST_PER_MIN: Final = 4.0
"""Two breaths in 32 s, below which a spectrum does not tell a breath from drift."""

_LEAST_SHARE: Final = 0.5  # of the fused power near the peak: more breath than anything else
_OVER_CHANCE: Final = 2.5
"""Times the share that an even spectrum has near any peak. It rules below 65 beats/min, where half the heart
rate leaves so narrow a band that half of its power is near the peak by chance; below 38 there is no rate."""
_NEAR_HZ: Final = 0.05  # either side, as in `quality.respiration_quality`: the main lobe of a 32 s Hann window
_AGREE_HZ: Final = 2.0 / 60.0  # half the spread that Karlen 2013 allows
_FEWEST_AGREEING: Final = 2
_LONGEST_GAP_S: Final = 4.0  # between beats: two breaths at 30 per min would pass unseen
_RESOLUTION_HZ: Final = 0.5 / 60.0  # of the padded spectrum; a parabola does the rest
_DUST: Final = 1e-9  # what rounding leaves of a constant
_AT_ONCE: Final = 512  # windows; bounds the memory

_Floats: TypeAlias = NDArray[np.float64]


def ecg_respiratory_rate_per_min(
    ecg: ArrayLike, *, rate_hz: float, window_s: float = WINDOW_S, step_s: float = STEP_S
) -> RespiratoryRate:
    """Return the respiratory rate of every window from one ECG lead; see `fused_rate_per_min`.

    Raises
    ------
    SignalError
        As `respiration_derived.ecg_modulations`.
    """
    modulations = ecg_modulations(ecg, rate_hz=rate_hz)
    return fused_rate_per_min(
        [modulations], n_samples=np.size(ecg), rate_hz=rate_hz, window_s=window_s, step_s=step_s
    )


def ppg_respiratory_rate_per_min(
    ppg: ArrayLike,
    *,
    rate_hz: float,
    window_s: float = WINDOW_S,
    step_s: float = STEP_S,
    polarity: Polarity = "auto",
) -> RespiratoryRate:
    """Return the respiratory rate of every window from a photoplethysmogram; see `fused_rate_per_min`.

    Raises
    ------
    SignalError
        As `respiration_derived.ppg_modulations`.
    """
    modulations = ppg_modulations(ppg, rate_hz=rate_hz, polarity=polarity)
    return fused_rate_per_min(
        [modulations], n_samples=np.size(ppg), rate_hz=rate_hz, window_s=window_s, step_s=step_s
    )


def derived_respiratory_rate_per_min(
    ecg: ArrayLike, ppg: ArrayLike, *, rate_hz: float, window_s: float = WINDOW_S, step_s: float = STEP_S
) -> RespiratoryRate:
    """Return the respiratory rate of every window from an ECG lead and a photoplethysmogram sampled together.

    Raises
    ------
    SignalError
        If the two are not of one shape, or as for each of them.
    """
    first, second = as_signal(ecg, name="ecg"), as_signal(ppg, name="ppg")
    if first.shape != second.shape:
        raise SignalError(f"ecg of shape {first.shape} and ppg of shape {second.shape}, expected one shape")
    modulations = [ecg_modulations(first, rate_hz=rate_hz), ppg_modulations(second, rate_hz=rate_hz)]
    return fused_rate_per_min(
        modulations, n_samples=first.size, rate_hz=rate_hz, window_s=window_s, step_s=step_s
    )


def fused_rate_per_min(
    modulations: list[Modulations],
    *,
    n_samples: int,
    rate_hz: float,
    window_s: float = WINDOW_S,
    step_s: float = STEP_S,
) -> RespiratoryRate:
    """Return the respiratory rate of every window that the modulations of one or several signals tell together.

    Parameters
    ----------
    modulations
        Of each signal, all on one clock.
    n_samples, rate_hz
        Of these signals: they lay out the windows.
    window_s, step_s
        Windows, half-open; at least 16 s, or there is no rate.

    Returns
    -------
    Arrays of shape (n_windows,). `quality` is the share of the fused power that lies within 0.05 Hz of its
    peak, 0 where a reason holds. Reasons: `beats` (4 s or more between beats of every signal), `unclear` (share
    below one half, or below 2.5 times what an even spectrum has there), `disagreeing` (fewer than two
    modulations peak within 2 per min of the fused peak). Rates are 4 to 60 per min, and below half the heart
    rate.

    References
    ----------
    Karlen et al. 2013, doi:10.1109/TBME.2013.2246160 (fusion of modulations, 32 s); Lazaro et al. 2013,
    doi:10.1007/s11517-012-0954-0 (averaging of peaked spectra); Birrenkott et al. 2018, IEEE Trans Biomed Eng
    65:2033 (power near the peak as quality). Differs from these in adding spectra weighted by the square of
    their share near the peak, and in dividing power by the period, as drift and the waves of 0.1 Hz in blood
    pressure and heart rate are stronger the slower they are.

    The weights (power times frequency to the 0, 1 or 2; share to the 0, 1, 2 or 4) and limits (0.35 to 0.6)
    were compared on recordings of 29 ventilated patients and of four people at rest, of which one is bidmc 01,
    as the benchmark has it; errors change little between shares to the 1 and 4.
    """
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    starts, width = window_starts(n_samples, rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    starts_s, duration_s = starts / rate_hz, n_samples / rate_hz
    intervals = np.stack([starts, starts + width], axis=1)
    parts = [
        _fuse(modulations, starts_s[k : k + _AT_ONCE], window_s, duration_s)
        for k in range(0, starts.size, _AT_ONCE)
    ]
    rate, share, agreeing, beats, band_hz = np.concatenate([np.empty((5, 0)), *parts], axis=1)
    by_chance = np.divide(2.0 * _NEAR_HZ, band_hz, out=np.ones(band_hz.size), where=band_hz > 2.0 * _NEAR_HZ)
    reasons = {
        "beats": ~(beats > 0.0),
        "unclear": ~(share >= np.maximum(_LEAST_SHARE, _OVER_CHANCE * by_chance)),
        "disagreeing": ~(agreeing >= _FEWEST_AGREEING),
    }
    poor = np.any(list(reasons.values()), axis=0)
    return RespiratoryRate(np.where(poor, np.nan, rate), np.where(poor, 0.0, share), reasons, intervals)


def mean_ecg_respiratory_rate_per_min(ecg: ArrayLike, *, rate_hz: float) -> float:
    """Return the mean respiratory rate of a recording from one ECG lead in 1/min.

    The mean over the windows of 32 s, every 2 s, that have a rate; NaN where fewer than half of them have one.
    """
    return mean_of_good(ecg_respiratory_rate_per_min(ecg, rate_hz=rate_hz).rate_per_min)


def mean_ppg_respiratory_rate_per_min(ppg: ArrayLike, *, rate_hz: float) -> float:
    """Return the mean respiratory rate of a recording from a photoplethysmogram in 1/min, NaN as with ECG."""
    return mean_of_good(ppg_respiratory_rate_per_min(ppg, rate_hz=rate_hz).rate_per_min)


def mean_derived_respiratory_rate_per_min(ecg: ArrayLike, ppg: ArrayLike, *, rate_hz: float) -> float:
    """Return the mean respiratory rate of a recording from an ECG lead and a photoplethysmogram in 1/min."""
    return mean_of_good(derived_respiratory_rate_per_min(ecg, ppg, rate_hz=rate_hz).rate_per_min)


def _fuse(modulations: list[Modulations], starts_s: _Floats, window_s: float, duration_s: float) -> _Floats:
    """Return rate, share near the peak, agreeing modulations, signals with beats, and width of the widest band.

    Shape (5, n_windows).
    """
    width = round(window_s * EVEN_RATE_HZ)
    n_bins = 1 << int(np.ceil(np.log2(max(EVEN_RATE_HZ / _RESOLUTION_HZ, width))))
    frequencies_hz = np.asarray(np.arange(n_bins // 2 + 1) * (EVEN_RATE_HZ / n_bins), dtype=np.float64)
    frequencies_hz = frequencies_hz[frequencies_hz <= FASTEST_PER_MIN / 60.0]
    starts = np.rint(starts_s * EVEN_RATE_HZ).astype(np.int64)
    fused = np.zeros((starts.size, frequencies_hz.size))
    peaks_hz, n_beating, band_hz = [], np.zeros(starts.size), np.zeros(starts.size)
    for source in modulations:
        fastest_hz, beating = _beating(source.times_s, starts_s, window_s)
        n_beating += beating
        band_hz = np.maximum(band_hz, np.where(beating, fastest_hz - SLOWEST_PER_MIN / 60.0, 0.0))
        band = (frequencies_hz >= SLOWEST_PER_MIN / 60.0) & (frequencies_hz <= fastest_hz[:, np.newaxis])
        for name in source.values:
            power = _spectra(source, name, starts, width, n_bins, duration_s)[:, : frequencies_hz.size]
            power = power * frequencies_hz
            power[~band | ~beating[:, np.newaxis]] = 0.0
            total = power.sum(axis=1, keepdims=True)
            power /= np.where(total > 0.0, total, 1.0)
            peak_hz, share = _peak(power, frequencies_hz)
            fused += share[:, np.newaxis] ** 2 * power
            peaks_hz.append(np.where(share > 0.0, peak_hz, np.nan))
    total = fused.sum(axis=1, keepdims=True)
    fused /= np.where(total > 0.0, total, 1.0)
    peak_hz, share = _peak(fused, frequencies_hz)
    agreeing = sum((np.abs(peak - peak_hz) <= _AGREE_HZ for peak in peaks_hz), np.zeros(starts.size))
    return np.stack([60.0 * peak_hz, share, agreeing, n_beating, band_hz])


def _beating(times_s: _Floats, starts_s: _Floats, window_s: float) -> tuple[_Floats, NDArray[np.bool_]]:
    """Return half the beat rate of each window in Hz, at most 1 Hz, and which windows have no long gap."""
    first = np.searchsorted(times_s, starts_s)
    last = np.searchsorted(times_s, starts_s + window_s)
    fastest_hz = np.minimum(0.5 * (last - first) / window_s, FASTEST_PER_MIN / 60.0)
    # gap k lies before beat k; edges of the recording count as beats, so that a late first beat is a gap too
    gaps_s = np.diff(times_s, prepend=0.0) if times_s.size else np.empty(0)
    long = np.concatenate([[0], np.cumsum(gaps_s >= _LONGEST_GAP_S)])
    before = long[np.minimum(last, times_s.size)] - long[first]
    next_s = np.append(times_s, np.inf)[last]
    last_s = np.append(-np.inf, times_s)[last]
    cut = np.minimum(next_s, starts_s + window_s) - np.maximum(last_s, starts_s) >= _LONGEST_GAP_S
    return fastest_hz, (before == 0) & ~cut & (last > first)


def _spectra(
    source: Modulations, name: str, starts: NDArray[np.int64], width: int, n_bins: int, duration_s: float
) -> _Floats:
    """Return the power spectrum of one modulation in every window, shape (n_windows, n_bins // 2 + 1)."""
    if starts.size == 0 or usual_values(source.times_s, source.values[name])[1].size < 3:
        return np.zeros((starts.size, n_bins // 2 + 1))
    even = evenly(source, name, duration_s=duration_s + 1.0)  # a window may end between two samples
    windows = windowed(even, starts, width)
    windows -= windows.mean(axis=-1, keepdims=True)
    ramp = np.linspace(-1.0, 1.0, width)
    windows -= ((windows @ ramp) / (ramp @ ramp))[:, np.newaxis] * ramp
    flat = np.abs(windows).max(axis=-1) <= _DUST * np.abs(even).max()
    windows[flat] = 0.0
    windows *= signal.windows.hann(width, sym=False)
    spectra = np.fft.rfft(windows, n_bins, axis=-1)
    return np.asarray(spectra.real**2 + spectra.imag**2)


def _peak(power: _Floats, frequencies_hz: _Floats) -> tuple[_Floats, _Floats]:
    """Return where each row of spectra of sum 1 peaks, and what share lies near that."""
    rows, top = np.arange(power.shape[0]), power.argmax(axis=1)
    inner = np.clip(top, 1, power.shape[1] - 2)
    left, middle, right = (power[rows, inner + k] for k in (-1, 0, 1))
    bend = left - 2.0 * middle + right
    shift = np.divide(0.5 * (left - right), bend, out=np.zeros(bend.size), where=bend < 0.0)
    peak_hz = frequencies_hz[top] + np.clip(shift, -0.5, 0.5) * frequencies_hz[1]
    near = np.abs(frequencies_hz - frequencies_hz[top][:, np.newaxis]) <= _NEAR_HZ
    return peak_hz, (power * near).sum(axis=1)
