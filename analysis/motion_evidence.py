"""What each window of a photoplethysmogram says about the heart rate, once the acceleration was heard.

For every window of some seconds and every rate of 30 to 210 per min, on a grid of about 1 per min:

1. Samples are averaged down to 25 to 50 Hz, and a cubic, the baseline, is taken off each channel.
2. What the acceleration explains linearly, within a tenth of a second, is taken off the light. The heart may
   beat with the steps and be taken off with them, so the light as it was counts as much as the rest.
3. Power spectra without a taper: the mean rate of a window is what is asked for, each beat counting alike.
   Amplitudes are weighted by the root of the frequency: motion and baseline have about 1/f of power, and an
   even background gives no rate an advantage.
4. Spectra are scaled to their largest value; those of the axes are averaged: light L, acceleration A.
5. A Wiener filter L / (L + A) lowers what moves as the arm does, by about half at most, for the same reason.
6. The evidence of a rate is the filtered amplitude at it, the more so the more there is at twice the rate: a
   pulse wave has an overtone, and no evidence comes from an overtone alone.
7. Any channel may be the one that sees the heart, so the evidence of several is their root mean square.

Every window is judged alone, so a live signal gives what the whole recording gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from analysis.filters import bridged
from analysis.signal_faults import MOST_MISSING

LOWEST_PER_MIN: Final = 30
HIGHEST_PER_MIN: Final = 210
"""A trained sleeper, and the maximum of a young adult, 208 - 0.7 age (Tanaka 2001), rounded up."""
LOWEST_RATE_HZ: Final = 20.0
"""The overtone of the highest rate lies at 7 Hz."""

_WORKING_RATE_HZ: Final = 25.0
_TREND_ORDER: Final = 3  # a baseline with one turn either way; two heartbeats in 4 s have more
_LAG_S: Final = 0.12  # as in `filters.remove_motion`: tissue follows the case within a tenth of a second or so
_N_LAGS: Final = 5
_RIDGE: Final = 0.1  # of an axis' power: keeps 15 regressors from explaining a pulse by chance
_FLAT_SHARE: Final = 0.5  # one value for half of a window: no sensor
_CLIPPED_SHARE: Final = 0.25  # cut tops keep their rate; a quarter of the samples at the rails is no wave
_DUST: Final = 1e-12  # rounding, relative to the samples
_BLOCK_SAMPLES: Final = 200_000  # bounds the memory

_Floats: TypeAlias = NDArray[np.float64]
_Bools: TypeAlias = NDArray[np.bool_]

_RATES: Final = slice(LOWEST_PER_MIN, HIGHEST_PER_MIN + 1)
_OVERTONES: Final = slice(2 * LOWEST_PER_MIN, 2 * HIGHEST_PER_MIN + 1, 2)


@dataclass(frozen=True, slots=True)
class Grid:
    """Rates that evidence is given for, and how windows are brought there.

    Parameters
    ----------
    factor
        Samples averaged into one.
    n_fft
        Length of the transform: about one minute, so that its bins are about 1 per min apart.
    unit_per_min
        What they are apart exactly.
    """

    factor: int
    n_fft: int
    unit_per_min: float

    @classmethod
    def of(cls, rate_hz: float) -> Grid:
        """Return the grid of a sampling rate."""
        factor = max(1, int(rate_hz // _WORKING_RATE_HZ))
        n_fft = round(60.0 * rate_hz / factor)
        return cls(factor, n_fft, 60.0 * rate_hz / factor / n_fft)

    @property
    def working_hz(self) -> float:
        """The rate after averaging."""
        return self.unit_per_min * self.n_fft / 60.0

    @property
    def rates_per_min(self) -> _Floats:
        """The rates in 1/min, shape (n_rates,)."""
        return np.arange(LOWEST_PER_MIN, HIGHEST_PER_MIN + 1, dtype=np.float64) * self.unit_per_min


def evidence(
    ppg: NDArray[Any], accel: NDArray[Any] | None, starts: NDArray[np.int64], width: int, *, rate_hz: float
) -> _Floats:
    """Return the evidence of every rate in every window, shape (n_windows, n_rates); each row sums to 1.

    NaN in windows in which no channel of light can be used.
    """
    grid = Grid.of(rate_hz)
    found = np.empty((starts.size, HIGHEST_PER_MIN - LOWEST_PER_MIN + 1))
    n_rows = ppg.shape[0] + (0 if accel is None else accel.shape[0])
    at_once = max(1, _BLOCK_SAMPLES // (width * n_rows))
    for first in range(0, starts.size, at_once):
        block = starts[first : first + at_once]
        light, lit = _windows(ppg, block, width, grid)
        power = _power(light, lit, grid)
        moving_power = np.zeros_like(power[0])
        if accel is not None and accel.shape[0]:
            moving, moved = _windows(accel, block, width, grid)
            rest = _unexplained(light, np.where(moved[..., np.newaxis], moving, 0.0), grid)
            power = 0.5 * (power + _power(rest, lit, grid))
            count = np.maximum(moved.sum(axis=0), 1)
            moving_power = _power(moving, moved, grid).sum(axis=0) / count[:, np.newaxis]
        total = power + moving_power
        clean = np.sqrt(power) * np.divide(power, total, out=np.zeros_like(power), where=total > 0.0)
        clean = _shares(clean, clean[..., _RATES].max(axis=-1))
        strength = clean[..., _RATES] * (1.0 + clean[..., _OVERTONES])
        strength = np.sqrt((_shares(strength, strength.sum(axis=-1)) ** 2).sum(axis=0))
        strength[~lit.any(axis=0)] = np.nan
        whole = strength.sum(axis=-1, keepdims=True)
        found[first : first + block.size] = np.divide(
            strength, whole, out=np.full_like(strength, np.nan), where=whole > 0.0
        )
    return found


def _windows(
    channels: NDArray[Any], starts: NDArray[np.int64], width: int, grid: Grid
) -> tuple[_Floats, _Bools]:
    """Return windows without trend at the working rate, (n_channels, n_windows, n), and the usable ones."""
    cut = width // grid.factor * grid.factor
    raw = np.lib.stride_tricks.sliding_window_view(channels, cut, axis=-1)[:, starts]
    usable = _usable(raw)
    means = bridged(np.ascontiguousarray(raw)).reshape(*raw.shape[:2], -1, grid.factor).mean(axis=-1)
    usable &= (means[..., 1:] == means[..., :-1]).mean(axis=-1) < _FLAT_SHARE
    places = np.linspace(-1.0, 1.0, means.shape[-1])
    basis = np.linalg.qr(np.polynomial.legendre.legvander(places, _TREND_ORDER))[0]
    size = np.abs(means).max(axis=-1)
    means -= (means @ basis) @ basis.T
    usable &= np.abs(means).max(axis=-1) > _DUST * size
    return means, usable


def _usable(windows: NDArray[Any]) -> _Bools:
    """Return where few samples are missing and the values do not sit at their extremes."""
    good = np.isnan(windows).mean(axis=-1) <= MOST_MISSING
    at_rails = np.zeros(good.shape)
    for extreme in (np.fmin, np.fmax):
        rail = extreme.reduce(windows, axis=-1)[..., np.newaxis] == windows
        at_rails += (rail[..., 1:] & rail[..., :-1]).mean(axis=-1)  # runs: a lone extreme is any wave's top
    return np.asarray(good & (at_rails < _CLIPPED_SHARE))


def _unexplained(light: _Floats, moving: _Floats, grid: Grid) -> _Floats:
    """Return what is left of the light once delayed copies of all axes are fitted to it by least squares."""
    n = light.shape[-1]
    power = (moving**2).mean(axis=-1, keepdims=True)
    moving = np.divide(moving, np.sqrt(power), out=np.zeros_like(moving), where=power > 0.0)
    lags = np.unique(np.rint(np.linspace(-_LAG_S, _LAG_S, _N_LAGS) * grid.working_hz).astype(int))
    most = int(lags[-1])
    padded = np.pad(moving, ((0, 0), (0, 0), (most, most)))
    delayed = np.concatenate([padded[..., most - lag : most - lag + n] for lag in lags]).transpose(1, 0, 2)
    gram = delayed @ delayed.transpose(0, 2, 1)
    gram += _RIDGE * n * np.eye(gram.shape[-1])
    light = light.transpose(1, 0, 2)
    weights = np.linalg.solve(gram, delayed @ light.transpose(0, 2, 1))
    return np.asarray((light - weights.transpose(0, 2, 1) @ delayed).transpose(1, 0, 2))


def _power(values: _Floats, usable: _Bools, grid: Grid) -> _Floats:
    """Return power spectra scaled to their largest value, shape (..., n_bins), 0 where not usable."""
    amplitudes = fft.rfft(values, grid.n_fft, axis=-1)[..., : 2 * HIGHEST_PER_MIN + 1]
    power = (amplitudes.real**2 + amplitudes.imag**2) * np.arange(amplitudes.shape[-1])
    return _shares(power, np.where(usable, power[..., _RATES].max(axis=-1), 0.0))


def _shares(rows: _Floats, whole: _Floats) -> _Floats:
    """Return the rows, each over its whole; 0 where that is 0."""
    factors = np.divide(1.0, whole, out=np.zeros_like(whole), where=whole > 0.0)
    return np.asarray(rows * factors[..., np.newaxis])
