"""Pulse arrival time (heart to skin) and pulse transit time (skin to skin).

Arrival is counted from the R wave of the electrocardiogram, so it holds the pre-ejection period as well;
transit, between two sites of the body, does not. Delays within the instruments are part of both: bedside
monitors are known to delay the photoplethysmogram by hundreds of ms.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_series
from analysis.heartbeats import detect_qrs
from analysis.pulses import Polarity, detect_pulses
from analysis.pulses_points import pulse_points
from protocols.errors import SignalError

SHORTEST_ARRIVAL_MS: Final = 100.0
LONGEST_ARRIVAL_MS: Final = 600.0
"""To the foot at ear, finger, wrist or toe: pre-ejection of 50 to 130 ms, then 1 to 2 m at 5 to 15 m/s; twice
the usual 150 to 300 ms leaves room for a filter's delay."""
LONGEST_TRANSIT_MS: Final = 300.0
"""Two metres at 7 m/s."""

_FEWEST: Final = 5  # pairs below which a median is no figure
_LEAST_PAIRED: Final = 0.5  # share of heartbeats whose pulse was found
_LARGEST_SPREAD_MS: Final = 50.0  # quartile range; within minutes at rest arrival varies by some 10 ms

_Floats: TypeAlias = NDArray[np.float64]


def pulse_arrival_times_ms(
    r_peaks_s: ArrayLike,
    feet_s: ArrayLike,
    *,
    shortest_ms: float = SHORTEST_ARRIVAL_MS,
    longest_ms: float = LONGEST_ARRIVAL_MS,
) -> _Floats:
    """Return the time from every R wave to the foot of its pulse in ms, NaN where it has none.

    Parameters
    ----------
    r_peaks_s, feet_s
        Times of R waves and of pulse feet on one clock, each ascending; NaN is no event.
    shortest_ms, longest_ms
        Limits of a plausible arrival, inclusive.

    Returns
    -------
    Shape of `r_peaks_s`. A beat is paired with the first foot within the limits. Where two beats claim
    one foot, neither is paired: which of them made it cannot be told.

    Raises
    ------
    SignalError
        If times are not one-dimensional, infinite or go back, or if the limits are not ascending numbers.

    References
    ----------
    Mukkamala et al. 2015, doi:10.1109/TBME.2015.2441951.
    """
    return _paired_ms(r_peaks_s, feet_s, shortest_ms=shortest_ms, longest_ms=longest_ms)


def pulse_transit_times_ms(
    proximal_feet_s: ArrayLike, distal_feet_s: ArrayLike, *, longest_ms: float = LONGEST_TRANSIT_MS
) -> _Floats:
    """Return the time from every pulse at one site to the same pulse at a later site in ms, NaN where unpaired.

    Pairs are made as in `pulse_arrival_times_ms`, from 0 to `longest_ms`.
    """
    return _paired_ms(proximal_feet_s, distal_feet_s, shortest_ms=0.0, longest_ms=longest_ms)


def median_pulse_arrival_time_ms(
    ecg: ArrayLike, ppg: ArrayLike, *, rate_hz: float, polarity: Polarity = "auto"
) -> float:
    """Return the median pulse arrival time of a recording in ms.

    NaN where fewer than 5 or than half of the heartbeats have a pulse, or where the quartiles of arrival lie
    more than 50 ms apart: then the two signals are not of one heart, or one of them is too poor.
    """
    beats = detect_qrs(ecg, rate_hz=rate_hz)
    arrivals_ms = pulse_arrival_times_ms(beats / rate_hz, _feet_s(ppg, rate_hz, polarity))
    return _median(arrivals_ms)


def median_pulse_transit_time_ms(
    proximal: ArrayLike, distal: ArrayLike, *, rate_hz: float, polarity: Polarity = "auto"
) -> float:
    """Return the median pulse transit time between two photoplethysmograms in ms, NaN as for arrival."""
    feet_s = [_feet_s(ppg, rate_hz, polarity) for ppg in (proximal, distal)]
    return _median(pulse_transit_times_ms(*feet_s))


def _feet_s(ppg: ArrayLike, rate_hz: float, polarity: Polarity) -> _Floats:
    pulses = detect_pulses(ppg, rate_hz=rate_hz, polarity=polarity)
    return pulse_points(ppg, pulses, rate_hz=rate_hz).feet_s


def _median(times_ms: _Floats) -> float:
    paired_ms = times_ms[np.isfinite(times_ms)]
    if paired_ms.size < max(_FEWEST, _LEAST_PAIRED * times_ms.size):
        return float("nan")
    low_ms, median_ms, high_ms = np.percentile(paired_ms, [25, 50, 75])
    return float(median_ms) if high_ms - low_ms <= _LARGEST_SPREAD_MS else float("nan")


def _paired_ms(first_s: ArrayLike, second_s: ArrayLike, *, shortest_ms: float, longest_ms: float) -> _Floats:
    if not 0.0 <= shortest_ms < longest_ms < np.inf:
        raise SignalError(f"limits of {shortest_ms!r} to {longest_ms!r} ms, expected 0 <= shortest < longest")
    causes_s, effects_s = as_series(first_s, name="first_s"), as_series(second_s, name="second_s")
    effects_s = effects_s[~np.isnan(effects_s)]
    for name, times_s in (("first_s", causes_s[~np.isnan(causes_s)]), ("second_s", effects_s)):
        if (np.diff(times_s) < 0).any():
            raise SignalError(f"{name} go back in time, expected them in ascending order")
    claimed = np.searchsorted(effects_s, causes_s + shortest_ms / 1000.0, side="left")
    delays_ms = 1000.0 * (np.append(effects_s, np.nan)[claimed] - causes_s)
    delays_ms[~(delays_ms <= longest_ms)] = np.nan
    claims = np.bincount(claimed[np.isfinite(delays_ms)], minlength=effects_s.size + 1)
    delays_ms[claims[claimed] > 1] = np.nan
    return delays_ms
