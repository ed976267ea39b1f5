"""Plateaus: where a slow signal stays still, and what it settles to.

A thermometer is read when its reading no longer moves, a desaturation study pairs only where the saturation
stands. Both are one question: where does the signal stay within a range for long enough? A thermometer that is
taken off too early can still be asked where it was going: `settling` fits its exponential approach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, optimize

from analysis.arrays import as_positive, as_series
from analysis.windows import window_starts

_FEWEST_SAMPLES: Final = 8
"""A fit of three parameters needs more samples than that leave no freedom."""
_BODY_CELSIUS: Final = (25.0, 45.0)  # from deep hypothermia to beyond the highest fever: round figures
_STABLE_S: Final = 30.0
_STABLE_CELSIUS: Final = 0.1
"""A thermometer's reading counts as stable once it stays within 0.1 degrees Celsius, the resolution of a
clinical thermometer, for half a minute; round figures, not a standard's."""


@dataclass(frozen=True, slots=True)
class Settling:
    """An exponential approach to a final value; NaN where the signal shows none.

    Parameters
    ----------
    final, final_se
        Value after infinite time and its standard error, in the signal's unit.
    time_constant_s, time_constant_se_s
        Time to come within 37 % of the step, and its standard error.
    residual_sd
        Standard deviation of the samples around the curve, three degrees of freedom less than samples.
    """

    final: float
    final_se: float
    time_constant_s: float
    time_constant_se_s: float
    residual_sd: float

    def settled_s(self, *, step: float, tolerance: float) -> float:
        """Return the time after a step until the signal stays within `tolerance` of its final value."""
        return max(0.0, self.time_constant_s * float(np.log(abs(step) / tolerance))) if step else 0.0


def find_plateaus(
    values: ArrayLike, *, rate_hz: float, shortest_s: float, largest_range: float
) -> NDArray[np.int64]:
    """Return where a signal is still, as half-open intervals of samples, shape (n_plateaus, 2), ascending.

    A sample belongs to a plateau if it lies in any stretch of `shortest_s` over which the largest and the
    smallest value differ by at most `largest_range`. So a plateau may drift, by that range in that time.

    Parameters
    ----------
    values
        Shape (n,); a stretch with a NaN is not still.
    rate_hz
        Samples per second.
    shortest_s
        Shortest plateau.
    largest_range
        In the unit of the values; inclusive.

    Raises
    ------
    SignalError
        If values are not real numbers in one dimension, or a parameter is not above 0.
    """
    series = as_series(values, name="values")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    largest_range = as_positive(largest_range, name="largest_range", unit="the values' unit")
    starts, width = window_starts(series.size, rate_hz=rate_hz, window_s=shortest_s, step_s=1.0 / rate_hz)
    if starts.size == 0:
        return np.empty((0, 2), dtype=np.int64)
    missing = np.isnan(series)
    filled = np.where(missing, 0.0, series)
    origin = -(width // 2)  # the window that begins at a sample, not the one around it
    spread = ndimage.maximum_filter1d(filled, width, origin=origin) - ndimage.minimum_filter1d(
        filled, width, origin=origin
    )
    holes = ndimage.maximum_filter1d(missing.astype(np.int8), width, origin=origin)
    still = (spread <= largest_range) & (holes == 0)
    still[series.size - width + 1 :] = False
    edges = np.diff(still.astype(np.int8), prepend=0, append=0)
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1 + width
    if begins.size == 0:
        return np.empty((0, 2), dtype=np.int64)
    apart = begins[1:] > ends[:-1]
    return np.column_stack([begins[np.append(True, apart)], ends[np.append(apart, True)]])


def settling(values: ArrayLike, *, rate_hz: float) -> Settling:
    """Return the exponential approach that fits a signal best, by least squares.

    For every time constant the final value and the step follow by linear regression, so only the time constant
    is searched for, between one sample and ten times the signal's length. NaN for a signal of fewer than eight
    samples, one that does not move, and one whose time constant cannot be told: beyond five times its length a
    curve is a straight line.

    Parameters
    ----------
    values
        From the moment of the step on, shape (n,); NaN marks missing samples.
    rate_hz
        Samples per second.

    Raises
    ------
    SignalError
        If values are not real numbers in one dimension, or the rate is not above 0.

    References
    ----------
    First-order response of a contact thermometer; separable least squares after Golub & Pereyra 1973,
    doi:10.1137/0710036. Standard errors from the slopes at the optimum, for independent errors of the samples.
    """
    series = as_series(values, name="values")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    present = np.isfinite(series)
    times_s, series = np.flatnonzero(present) / rate_hz, series[present]
    nan = float("nan")
    unknown = Settling(nan, nan, nan, nan, nan)
    if series.size < _FEWEST_SAMPLES or np.ptp(series) == 0.0:
        return unknown
    length_s = float(times_s[-1])
    low, high = np.log(1.0 / rate_hz), np.log(10.0 * length_s)
    found = optimize.minimize_scalar(
        lambda log_s: _squares(series, times_s, float(np.exp(log_s))), bounds=(low, high), method="bounded"
    )
    time_constant_s = float(np.exp(found.x))
    if time_constant_s > 5.0 * length_s or time_constant_s < 2.0 / rate_hz:
        return unknown
    decay = np.exp(-times_s / time_constant_s)
    (final, step), *_ = np.linalg.lstsq(np.column_stack([np.ones_like(decay), decay]), series, rcond=None)
    slopes = np.column_stack([np.ones_like(decay), decay, step * decay * times_s / time_constant_s**2])
    residual = series - final - step * decay
    variance = float(residual @ residual) / (series.size - 3)
    covariance = variance * np.linalg.pinv(slopes.T @ slopes)
    return Settling(
        float(final),
        float(np.sqrt(max(0.0, covariance[0, 0]))),  # rounding may bring it below 0
        time_constant_s,
        float(np.sqrt(max(0.0, covariance[2, 2]))),
        float(np.sqrt(variance)),
    )


def plateau_temperature_celsius(temperature_celsius: ArrayLike, *, rate_hz: float) -> float:
    """Return the temperature of a body from a thermometer put to it and taken away, in degrees Celsius.

    The mean of the last half minute of the highest plateau: before and after it the thermometer may rest in a
    cooler room. A plateau is half a minute within 0.1 degrees Celsius; NaN where there is none, and where the
    highest is no temperature of a living body (25 to 45): a room, or degrees Fahrenheit.
    """
    series = as_series(temperature_celsius, name="temperature_celsius")
    found = find_plateaus(series, rate_hz=rate_hz, shortest_s=_STABLE_S, largest_range=_STABLE_CELSIUS)
    width = max(1, round(_STABLE_S * rate_hz))
    highest = max((float(series[end - width : end].mean()) for _, end in found), default=float("nan"))
    return highest if _BODY_CELSIUS[0] <= highest <= _BODY_CELSIUS[1] else float("nan")


def _squares(series: NDArray[np.float64], times_s: NDArray[np.float64], time_constant_s: float) -> float:
    """Return the residual sum of squares of the best final value and step for a time constant."""
    decay = np.exp(-times_s / time_constant_s)
    decay = decay - decay.mean()
    centred = series - series.mean()
    power = float(decay @ decay)
    return float(centred @ centred) - (float(centred @ decay) ** 2 / power if power > 0 else 0.0)
