"""Ratio of ratios of red and infrared light, and the saturation that a device's calibration makes of it.

The logarithm of received light falls with the blood in its way by its absorption, and red and infrared differ
in that by the saturation of the blood. What pulses is arterial, so the slope of one logarithm's pulses over the
other's, R = d ln red / d ln infrared = (AC/DC of red) / (AC/DC of infrared), tells the arterial saturation. How
depends on wavelengths, optics and site: a curve belongs to a device and comes from its calibration study. So
there is no curve in here; `analysis.saturation_curve` applies one and fits one.

Theory of operation
-------------------
1. A step of the logarithm that no pulse can make (a change of gain, a lamp that settles) is healed.
2. Both are filtered to the pass band of pulses.
3. In each window R is the slope of the principal axis (total least squares: both wavelengths are noisy).
4. Blood pulses in both alike, so without correlation there is no pulse to be seen; a pulse repeats itself, so
   the infrared's autocorrelation must have a second peak; and its size must be a pulse's. Otherwise R is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from analysis.arrays import as_positive, as_series
from analysis.filters import PASSBANDS, band_pass
from analysis.perfusion import LARGEST_PERCENT
from analysis.saturation_curve import SaturationCurve
from analysis.signal_faults import MOST_MISSING, clipping, in_motion
from analysis.windows import window_starts, windowed
from protocols.errors import SignalError

LEAST_CORRELATION: Final = 0.8
"""Red and infrared share at least 64 % of their power; independent noise stays below 0.2."""
LEAST_PERIODICITY: Final = 0.5
"""Half of a window's power comes back one beat later; noise in the pass band stays below 0.5."""
SMALLEST_PERCENT: Final = 0.02
"""The lowest pulse that oximeters claim to read, as share of the light."""
LOWEST_RATE_HZ: Final = 20.0
SHORTEST_WINDOW_S: Final = 2.0
"""A beat and most of the next one at 60 per min."""

_STEEPEST_PER_S: Final = 2.0  # 20 % of the light, the largest perfusion index, in a systolic rise of 0.1 s
_BEATS_HZ: Final = (0.5, 3.5)  # 30 to 210 per min
_LONGEST_LAG: Final = 0.75  # of the window: beyond, too little is left that overlaps
_SINE: Final = 2.0 * np.sqrt(2.0)  # from the root mean square of a sine to its height
_WINDOWS_AT_ONCE: Final = 128  # bounds the memory

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Ratios:
    """Ratio of ratios of windows, shape (n_windows,) each.

    Parameters
    ----------
    ratio
        R, NaN where the window does not show a pulse well enough, by the limits of this module.
    correlation
        Of the two filtered logarithms; NaN where one is flat.
    periodicity
        Largest autocorrelation of the infrared at a lag of a heartbeat.
    red_percent, infrared_percent
        Height of a sine of the pulses' power, in % of the light: a perfusion index.
    intervals
        Half-open `[start, end)` sample indices, shape (n_windows, 2).
    """

    ratio: _Floats
    correlation: _Floats
    periodicity: _Floats
    red_percent: _Floats
    infrared_percent: _Floats
    intervals: NDArray[np.int64]


def ratio_of_ratios(
    red: ArrayLike,
    infrared: ArrayLike,
    *,
    rate_hz: float,
    window_s: float = 8.0,
    step_s: float = 2.0,
    ambient: ArrayLike | None = None,
    accel_mps2: ArrayLike | None = None,
) -> Ratios:
    """Return the ratio of ratios of every window.

    Parameters
    ----------
    red, infrared
        Light as it was received, with its constant part, shape (n_samples,) each; their units and gains do not
        matter. NaN, and what is not above 0, is missing.
    rate_hz
        Sampling rate, at least 20.
    window_s, step_s
        Windows, half-open, at least 2 s. Oximeters average 4 to 16 s.
    ambient
        What the detector receives with both lamps off, in the unit of both; subtracted.
    accel_mps2
        Acceleration with gravity at the same samples, shape (n_axes, n_samples): windows that move are NaN.

    Returns
    -------
    NaN where more than a tenth of a window is missing, where either light is clipped, the device moves, the
    correlation is below 0.8, the periodicity below 0.5, or a pulse outside 0.02 to 30 % of the light.

    Raises
    ------
    SignalError
        If shapes do not fit, values are infinite, or an option is out of its range.

    References
    ----------
    Yoshiya, Shimada & Tanaka 1980, doi:10.1007/BF02443387: ratio of the two logarithms' pulses.
    Webster (ed.) 1997, Design of Pulse Oximeters: ratio of ratios by slopes of the logarithms (from memory).
    Differs from pulse-by-pulse AC over DC in using every sample of a window, and in the slope's being that of
    the principal axis instead of one of the two regressions, which noise biases either way.

    Ways to take the slope (either regression, their mean, principal axis, medians, Huber) and pass bands were
    compared on the 29 finger recordings of the benchmark: cross-validated errors are 3.0 to 3.3 %, but for
    slopes of raw differences and medians, which noise harms.
    """
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    if rate_hz < LOWEST_RATE_HZ:
        raise SignalError(f"rate_hz={rate_hz!r}, expected at least {LOWEST_RATE_HZ} Hz")
    if as_positive(window_s, name="window_s", unit="s") < SHORTEST_WINDOW_S:
        raise SignalError(f"window_s={window_s!r}, expected at least {SHORTEST_WINDOW_S} s")
    lights = _lights(red, infrared, ambient)
    starts, width = window_starts(lights.shape[1], rate_hz=rate_hz, window_s=window_s, step_s=step_s)
    low_hz, high_hz = PASSBANDS["ppg"]
    high_hz = None if high_hz is None or high_hz >= 0.45 * rate_hz else high_hz
    pulses = band_pass(_healed_logarithms(lights, rate_hz), rate_hz=rate_hz, passband_hz=(low_hz, high_hz))
    blocks = [starts[k : k + _WINDOWS_AT_ONCE] for k in range(0, max(starts.size, 1), _WINDOWS_AT_ONCE)]
    columns = [_figures(windowed(pulses, block, width), rate_hz) for block in blocks]
    ratio, correlation, periodicity, present, red_percent, infrared_percent = np.concatenate(columns, axis=1)
    good = (correlation >= LEAST_CORRELATION) & (periodicity >= LEAST_PERIODICITY)
    good &= present >= 1.0 - MOST_MISSING
    for percent in (red_percent, infrared_percent):
        good &= (percent >= SMALLEST_PERCENT) & (percent <= LARGEST_PERCENT)
    if starts.size:
        clipped = clipping(lights, rate_hz=rate_hz, window_s=window_s, step_s=step_s)
        good &= ~clipped.any(axis=0)
    if accel_mps2 is not None:
        moving = in_motion(accel_mps2, rate_hz=rate_hz, window_s=window_s, step_s=step_s)
        if moving.shape != good.shape:
            raise SignalError(f"accel_mps2 {np.shape(accel_mps2)}, expected (n_axes, {lights.shape[1]})")
        good &= ~moving
    intervals = np.stack([starts, starts + width], axis=1)
    ratio = np.where(good, ratio, np.nan)
    return Ratios(ratio, correlation, periodicity, red_percent, infrared_percent, intervals)


def spo2_percent(
    red: ArrayLike,
    infrared: ArrayLike,
    curve: SaturationCurve,
    *,
    rate_hz: float,
    window_s: float = 8.0,
    step_s: float = 2.0,
    ambient: ArrayLike | None = None,
    accel_mps2: ArrayLike | None = None,
) -> _Floats:
    """Return the saturation of every window in %, by the curve of the device that recorded the light.

    NaN where `ratio_of_ratios` is, or where the ratio lies outside what the curve was calibrated for.
    """
    ratios = ratio_of_ratios(
        red,
        infrared,
        rate_hz=rate_hz,
        window_s=window_s,
        step_s=step_s,
        ambient=ambient,
        accel_mps2=accel_mps2,
    )
    return curve.spo2_percent(ratios.ratio)


def median_ratio_of_ratios(red: ArrayLike, infrared: ArrayLike, *, rate_hz: float) -> float:
    """Return the median ratio of a recording's windows, NaN where less than half of them have one.

    A recording shorter than 8 s is one window.
    """
    duration_s = np.asarray(red).size / as_positive(rate_hz, name="rate_hz", unit="Hz")
    window_s = min(8.0, duration_s)
    if window_s < SHORTEST_WINDOW_S:
        return float("nan")
    ratios = ratio_of_ratios(red, infrared, rate_hz=rate_hz, window_s=window_s).ratio
    known = ratios[np.isfinite(ratios)]
    return float(np.median(known)) if known.size and 2 * known.size >= ratios.size else float("nan")


def _lights(red: ArrayLike, infrared: ArrayLike, ambient: ArrayLike | None) -> _Floats:
    """Return red and infrared without ambient light, shape (2, n_samples), NaN where not above 0."""
    rows = [as_series(red, name="red"), as_series(infrared, name="infrared")]
    if ambient is not None:
        rows.append(as_series(ambient, name="ambient"))
    if len({row.size for row in rows}) != 1:
        raise SignalError(f"lights of {[row.size for row in rows]} samples, expected as many of each")
    lights = np.stack(rows[:2]) - (rows[2] if ambient is not None else 0.0)
    lights[~(lights > 0.0)] = np.nan
    return lights


def _healed_logarithms(lights: _Floats, rate_hz: float) -> _Floats:
    """Return logarithms, shape (2, n), that stay where they were when they would step further than a pulse."""
    logarithms = np.log(lights)
    for row in logarithms:  # each has gaps of its own
        there = np.flatnonzero(~np.isnan(row))
        changes, spans = np.diff(row[there]), np.diff(there)
        jump = np.abs(changes) > _STEEPEST_PER_S * spans / rate_hz
        row[there[1:]] -= np.cumsum(np.where(jump, changes, 0.0))
    return logarithms


def _figures(windows: _Floats, rate_hz: float) -> _Floats:
    """Return ratio, correlation, periodicity, share present, red and infrared in %, shape (6, n_windows)."""
    there = ~np.isnan(windows).any(axis=0)
    count = np.maximum(there.sum(axis=-1), 1)
    pulses = np.where(there, windows, 0.0)
    pulses = np.where(there, pulses - pulses.sum(axis=-1, keepdims=True) / count[:, np.newaxis], 0.0)
    red, infrared = (pulses**2).sum(axis=-1)
    both = (pulses[0] * pulses[1]).sum(axis=-1)
    nothing = np.full(both.size, np.nan)
    scale = np.sqrt(red * infrared)
    correlation = np.divide(both, scale, out=nothing.copy(), where=scale > 0.0)
    half = np.divide(0.5 * (red - infrared), both, out=nothing.copy(), where=both > 0.0)
    percent = 100.0 * _SINE * np.sqrt(np.stack([red, infrared]) / count)
    figures = [half + np.sqrt(half**2 + 1.0), correlation, _periodicity(pulses[1], rate_hz)]
    return np.stack([*figures, there.mean(axis=-1), *percent])


def _periodicity(windows: _Floats, rate_hz: float) -> _Floats:
    """Return the largest autocorrelation past its first fall below 0, at lags of 30 to 210 per min."""
    step = max(1, int(rate_hz // LOWEST_RATE_HZ))  # the pass band ends at 8 Hz
    windows, rate_hz = windows[..., ::step], rate_hz / step
    n = windows.shape[-1]
    lags = np.arange(int(_LONGEST_LAG * n) + 1)
    size = fft.next_fast_len(2 * n, real=True)
    spectrum = fft.rfft(windows, size, axis=-1)
    products = fft.irfft(spectrum.real**2 + spectrum.imag**2, size, axis=-1)[..., : lags.size]
    power = products[..., :1]
    shares = np.divide(products, power, out=np.zeros_like(products), where=power > 0.0) * n / (n - lags)
    below = shares < 0.0
    allowed = lags >= np.where(below.any(axis=-1), below.argmax(axis=-1), lags.size)[:, np.newaxis]
    allowed &= (lags >= rate_hz / _BEATS_HZ[1]) & (lags <= rate_hz / _BEATS_HZ[0])
    return np.asarray(np.clip(np.where(allowed, shares, 0.0).max(axis=-1), 0.0, 1.0))
