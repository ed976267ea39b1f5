"""Heart-rate variability by frequency: power of the RR series in the bands of the Task Force, in ms2.

Theory of operation
-------------------
Beats are an uneven clock. `welch_bands` draws a cubic spline through the intervals at the times of their beats
and samples it evenly: at 4 Hz in windows of 5 minutes that overlap by half (straight line removed, Hann window,
periodograms averaged), which gives LF and HF; and at 1 Hz over the whole recording (straight line removed, no
window, one periodogram), which gives VLF and ULF, too slow for 5 minutes. `lomb_scargle_bands` needs no spline:
it fits sines to the beats themselves, in the same windows and over the whole recording. Windows serve LF and HF
there too: one fit to a day gives the hours of fast beats the more weight and spreads slow changes of rate into
both bands.

Powers are one-sided: a sine of amplitude A has A**2 / 2, and the bands of a recording add up to its variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, interpolate

from analysis.lomb_scargle import lomb_scargle_psd
from analysis.rr_artefacts import as_rr_ms, bridged

VLF_HZ: Final = 0.003
"""Lower edge of the very low frequencies; below is ULF. All edges: Task Force 1996, table 2."""
LF_HZ: Final = 0.04
HF_HZ: Final = 0.15
END_HZ: Final = 0.40

LEAST_HF_S: Final = 60.0
"""Task Force 1996, "duration": about 1 min for HF."""
LEAST_LF_S: Final = 120.0
"""Task Force 1996, "duration": about 2 min for LF."""
LEAST_VLF_S: Final = 300.0
"""Task Force 1996: VLF from less than 5 min is a dubious measure."""
LEAST_ULF_S: Final = 18.0 * 3600.0
"""Task Force 1996: a 24 h recording holds at least 18 h that can be analysed."""

_WINDOW_S: Final = 300.0  # Task Force 1996: short-term recordings are of 5 min
_RATE_HZ: Final = 4.0  # ten times the upper edge of HF; general use
_SLOW_RATE_HZ: Final = 1.0  # its half stands above HF, so that nothing folds into VLF
_LEAST_SHARE: Final = 0.8  # of a window's beats that are valid; a fifth bridged takes a fifth of the power
_LEAST_BEATS: Final = 10  # in a window: it holds 60 s, so fewer are no rhythm
_BLOCK_WINDOWS: Final = 16  # windows worked on at once; keeps memory at a part of the input's
_MARGIN_BEATS: Final = 24  # a beat's weight in a cubic spline falls by 0.27 a beat: 1e-13 at 24

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class BandPowers:
    """Powers in ms2, normalised units in percent, each of shape (...); NaN where the recording is too short."""

    ulf_ms2: _Floats
    vlf_ms2: _Floats
    lf_ms2: _Floats
    hf_ms2: _Floats

    @property
    def total_ms2(self) -> _Floats:
        """All power up to 0.4 Hz: the four bands, without ULF where that is NaN."""
        return np.asarray(np.nan_to_num(self.ulf_ms2) + self.vlf_ms2 + self.lf_ms2 + self.hf_ms2)

    @property
    def lf_nu(self) -> _Floats:
        """LF in normalised units: percent of LF + HF (the Task Force's total power less VLF, up to 0.4 Hz)."""
        return np.asarray(100.0 * self.lf_ms2 / _or_nan(self.lf_ms2 + self.hf_ms2))

    @property
    def hf_nu(self) -> _Floats:
        """HF in normalised units: percent of LF + HF."""
        return np.asarray(100.0 * self.hf_ms2 / _or_nan(self.lf_ms2 + self.hf_ms2))

    @property
    def lf_hf(self) -> _Floats:
        """LF power over HF power."""
        return np.asarray(self.lf_ms2 / _or_nan(self.hf_ms2))


def welch_bands(rr_ms: ArrayLike) -> BandPowers:
    """Return the band powers by averaged periodograms of the evenly sampled RR series.

    Parameters
    ----------
    rr_ms
        RR intervals in ms in the order of their beats, shape (..., n_beats). NaN marks a rejected beat: time
        runs on by the straight line between its neighbours, and a window of which a fifth or more is so bridged
        does not count.

    Returns
    -------
    Each band of shape (...). NaN where the recording is shorter than 1 min (HF), 2 min (LF), 5 min (VLF), 18 h
    of valid beats (ULF), or no window counts; VLF and ULF also where a fifth of all beats is missing.

    Raises
    ------
    SignalError
        If there is no beat axis or the values are no intervals in ms.

    References
    ----------
    Task Force 1996, doi:10.1161/01.CIR.93.5.1043: bands, units, least durations. Welch 1967,
    doi:10.1109/TAU.1967.1161901: windows, overlap. Differs from the Task Force in taking VLF and ULF from one
    periodogram of the whole recording, LF and HF from 5-minute windows whatever its length (a shorter one is
    one window, padded to 5 min so that the bands keep their edges), and in normalising by LF + HF.
    """
    return _by_row(as_rr_ms(rr_ms), _welch_row)


def lomb_scargle_bands(rr_ms: ArrayLike) -> BandPowers:
    """Return the band powers by Lomb-Scargle periodograms of the valid beats.

    Parameters, windows, tapers, shapes, least durations and errors as `welch_bands`, but rejected beats are no
    part of the sums. HF ends at half a window's mean heart rate where that is below 0.4 Hz: what lies above is
    a mirror image of what lies below.

    References
    ----------
    Lomb 1976, doi:10.1007/BF00648343; Scargle 1982, doi:10.1086/160554: the periodogram. Press & Rybicki 1989,
    doi:10.1086/167197: by fast Fourier transform; differs in the kernel that spreads the beats, which is that
    of Barnett, Magland & af Klinteberg 2019, doi:10.1137/18M120885X.
    """
    return _by_row(as_rr_ms(rr_ms), _lomb_row)


def _or_nan(values: _Floats) -> _Floats:
    return np.where(values > 0.0, values, np.nan)


def _by_row(rr_ms: _Floats, of_row: Any) -> BandPowers:
    """Return the powers of each row; rows have times of their own."""
    powers = np.full((4, *rr_ms.shape[:-1]), np.nan)
    for row in np.ndindex(rr_ms.shape[:-1]):
        filled = bridged(rr_ms[row])
        if filled.size > 3 and not np.isnan(filled[0]):
            powers[(slice(None), *row)] = of_row(filled, np.isfinite(rr_ms[row]))
    return BandPowers(*(np.asarray(power) for power in powers))


def _welch_row(rr_ms: _Floats, valid: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    times_s = _beat_times_s(rr_ms)
    duration_s = float(times_s[-1])
    starts, width = _windows(times_s, valid)
    if width == 0:
        return (np.nan,) * 4
    density = _averaged_periodogram(rr_ms, times_s, starts, width)
    lf = _power(density, 1.0 / _WINDOW_S, LF_HZ, HF_HZ) if duration_s >= LEAST_LF_S else np.nan
    hf = _power(density, 1.0 / _WINDOW_S, HF_HZ, END_HZ)
    if duration_s < LEAST_VLF_S or valid.mean() <= _LEAST_SHARE:
        return np.nan, np.nan, lf, hf
    slow = _sampled_slowly(rr_ms, times_s)
    whole = fft.rfft(_detrended(slow[np.newaxis], in_place=True)[0])
    density = whole.real**2
    density += whole.imag**2
    del whole
    density *= 2.0 / (slow.size * _SLOW_RATE_HZ)
    step_hz = _SLOW_RATE_HZ / slow.size
    ulf = _power(density, step_hz, step_hz, VLF_HZ) if _valid_s(rr_ms, valid) >= LEAST_ULF_S else np.nan
    return ulf, _power(density, step_hz, VLF_HZ, LF_HZ), lf, hf


def _lomb_row(rr_ms: _Floats, valid: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    times_s = _beat_times_s(rr_ms)
    duration_s = float(times_s[-1])
    starts, width = _windows(times_s, valid)
    edges = np.searchsorted(times_s, [starts / _RATE_HZ, (starts + width) / _RATE_HZ])
    powers = np.full((starts.size, 2), np.nan)
    for k, (first, end) in enumerate(edges.T):  # windows have beats of their own
        here = slice(first, end)
        of_window = times_s[here][valid[here]], rr_ms[here][valid[here]]
        powers[k] = _lomb_fast(*of_window, starts[k] / _RATE_HZ, width / _RATE_HZ)
    lf, hf = powers.mean(axis=0) if starts.size else (np.nan, np.nan)
    lf = float(lf) if duration_s >= LEAST_LF_S else np.nan
    if duration_s < LEAST_VLF_S or valid.mean() <= _LEAST_SHARE:
        return np.nan, np.nan, lf, float(hf)
    step_hz = 1.0 / duration_s
    density = _lomb_density(times_s[valid], rr_ms[valid], step_hz, int(LF_HZ * duration_s) + 1)
    ulf = _power(density, step_hz, step_hz, VLF_HZ) if _valid_s(rr_ms, valid) >= LEAST_ULF_S else np.nan
    return ulf, _power(density, step_hz, VLF_HZ, LF_HZ), lf, float(hf)


def _lomb_fast(times_s: _Floats, rr_ms: _Floats, start_s: float, window_s: float) -> tuple[float, float]:
    """Return LF and HF of one window."""
    if times_s.size < _LEAST_BEATS:
        return np.nan, np.nan
    step_hz = 1.0 / _WINDOW_S
    end_hz = min(END_HZ, 0.5 * (times_s.size - 1) / float(times_s[-1] - times_s[0]))
    taper = np.sin(np.pi / window_s * (times_s - start_s)) ** 2
    density = _lomb_density(times_s, rr_ms, step_hz, int(END_HZ * _WINDOW_S), taper)
    hf = _power(density, step_hz, HF_HZ, end_hz) if end_hz > HF_HZ else np.nan
    return _power(density, step_hz, LF_HZ, HF_HZ), hf


def _lomb_density(
    times_s: _Floats, rr_ms: _Floats, step_hz: float, n: int, taper: _Floats | None = None
) -> _Floats:
    """Return the density at 0 (none) to `n` times `step_hz`, a straight line removed; alters its input."""
    times_s -= times_s.mean()
    rr_ms -= rr_ms.mean()
    rr_ms -= times_s * ((times_s @ rr_ms) / (times_s @ times_s))
    if taper is not None:
        rr_ms *= taper / np.sqrt(np.mean(taper**2))
    return np.append(0.0, lomb_scargle_psd(times_s, rr_ms, step_hz=step_hz, n_frequencies=n))


def _windows(times_s: _Floats, valid: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int]:
    """Return starts and length, at 4 Hz, of windows with enough valid beats; length 0: too short for one."""
    duration_s = float(times_s[-1])
    width = int(min(_WINDOW_S, duration_s) * _RATE_HZ)
    if width < LEAST_HF_S * _RATE_HZ:
        return np.empty(0, dtype=np.int64), 0
    step = width // 2 if duration_s >= _WINDOW_S else width
    starts = np.arange(0, int(duration_s * _RATE_HZ) - width + 1, step)
    edges = np.searchsorted(times_s, [starts / _RATE_HZ, (starts + width) / _RATE_HZ])
    n_valid = np.concatenate([[0], np.cumsum(valid, dtype=np.int32)])
    shares = (n_valid[edges[1]] - n_valid[edges[0]]) / np.maximum(edges[1] - edges[0], 1)
    return starts[shares > _LEAST_SHARE], width


def _valid_s(rr_ms: _Floats, valid: NDArray[np.bool_]) -> float:
    return 1e-3 * float(np.sum(rr_ms, where=valid))


def _beat_times_s(rr_ms: _Floats) -> _Floats:
    """Return the time of the beat that ends each interval, from the first of them."""
    times_s = np.cumsum(rr_ms)
    times_s -= times_s[0]
    times_s *= 1e-3
    return times_s


def _power(density: _Floats, step_hz: float, low_hz: float, high_hz: float) -> float:
    """Return the sum of a density over the frequencies in [low_hz, high_hz)."""
    first, end = (int(np.ceil(edge / step_hz - 1e-6)) for edge in (low_hz, high_hz))
    return float(density[first:end].sum() * step_hz)


def _averaged_periodogram(rr_ms: _Floats, times_s: _Floats, starts: NDArray[np.int64], width: int) -> _Floats:
    """Return the mean density of the windows, all NaN without one; blocks of windows bound the memory."""
    n_padded = round(_WINDOW_S * _RATE_HZ)
    taper = np.sin(np.pi * np.arange(width) / width) ** 2
    total = np.zeros(n_padded // 2 + 1)
    for k in range(0, starts.size, _BLOCK_WINDOWS):
        block = starts[k : k + _BLOCK_WINDOWS]
        grid = np.arange(block[0], block[-1] + width)
        series = _spline(rr_ms, times_s, grid / _RATE_HZ)
        windows = np.lib.stride_tricks.sliding_window_view(series, width)[block - block[0]]
        spectra = fft.rfft(_detrended(windows) * taper, n_padded, axis=-1)
        total += (spectra.real**2 + spectra.imag**2).sum(axis=0)
    scale = 2.0 / (_RATE_HZ * (taper**2).sum() * max(starts.size, 1))
    return total * scale if starts.size else np.full_like(total, np.nan)


def _sampled_slowly(rr_ms: _Floats, times_s: _Floats) -> _Floats:
    """Return the RR series at 1 Hz, an hour at a time."""
    series = np.empty(int(times_s[-1] * _SLOW_RATE_HZ))
    for k in range(0, series.size, 3600):
        stop = min(k + 3600, series.size)
        series[k:stop] = _spline(rr_ms, times_s, np.arange(k, stop) / _SLOW_RATE_HZ)
    return series


def _spline(rr_ms: _Floats, times_s: _Floats, at_s: _Floats) -> _Floats:
    """Return the cubic spline through the intervals at ascending times, from the beats around them only."""
    first = max(0, int(np.searchsorted(times_s, at_s[0])) - _MARGIN_BEATS)
    end = int(np.searchsorted(times_s, at_s[-1])) + _MARGIN_BEATS
    return np.asarray(interpolate.CubicSpline(times_s[first:end], rr_ms[first:end])(at_s))


def _detrended(windows: _Floats, *, in_place: bool = False) -> _Floats:
    """Return rows less their straight lines."""
    centred = np.arange(windows.shape[-1]) - (windows.shape[-1] - 1) / 2.0
    rest = np.subtract(windows, windows.mean(axis=-1, keepdims=True), out=windows if in_place else None)
    slopes = rest @ centred / (centred @ centred)
    for row, slope in zip(rest, slopes, strict=True):  # windows; saves an array of all of them
        row -= slope * centred
    return np.asarray(rest)
