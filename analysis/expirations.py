"""Forced expirations in a recording of flow: where each begins and ends, for `analysis.spirometry` to measure.

A spirometer that is read continuously shows tidal breathing, forced manoeuvres, pauses in which nobody breathes
through it, and its own noise and offset. A forced expiration is told from all of these by its peak flow. It
begins where flow last was not expiratory before the peak, and ends with the inspiration that follows or, where
there is none, with the first second without flow: volume is an integral, and every second of an offset would be
counted as air.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive, as_series
from protocols.errors import SignalError

_LEAST_PEAK_LPS: Final = 1.0
"""Peak flow of a forced expiration: above that of quiet breathing (about 0.5 L/s in adults), below that of a
child of three (about 1.5 L/s)."""
_SHARE_OF_LARGEST: Final = 0.5
"""Of the recording's largest peak flow: an effort below half of the best is none of the maximal efforts."""
_BREATH_L: Final = 0.1
"""Breathed in, in all: an inspiration and no noise (the standard's own grain of volume)."""
_STILL_LPS: Final = 0.025
"""Flow that brings less than the 25 mL in 1 s by which the standard calls an expiration over."""
_STILL_S: Final = 1.0
_LONGEST_S: Final = 15.0
"""After a peak in which an inspiration belongs to the manoeuvre: as long as the standard has anyone blow."""


def find_expirations(flow_lps: ArrayLike, *, rate_hz: float) -> list[tuple[int, int]]:
    """Return the forced expirations of a recording as half-open ranges of samples, in time order.

    Parameters
    ----------
    flow_lps
        Flow in L/s, expiration positive, shape (n,); a missing sample (NaN) counts as no flow for finding, and
        stays in the range that is returned, so that nothing is measured across it.
    rate_hz
        Sampling rate.

    Returns
    -------
    Ranges with the last moment before expiration, the expiration and the inspiration after it; none where no
    flow reaches 1 L/s.

    Raises
    ------
    SignalError
        If the flow is not of real, finite numbers in one dimension, or the rate is not above 0.

    Notes
    -----
    Two peaks are one manoeuvre (a cough) unless at least 0.1 L are breathed in between or flow stops for 1 s.
    An expiration below half of the recording's largest peak flow is not returned.
    """
    flow = as_series(flow_lps, name="flow_lps")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    if rate_hz < 2.0 / _STILL_S:
        raise SignalError(f"rate_hz={rate_hz!r}, expected at least {2.0 / _STILL_S} Hz")
    if not np.isfinite(flow).any():
        return []
    flow = np.where(np.isnan(flow), 0.0, flow)
    high = flow >= max(_LEAST_PEAK_LPS, _SHARE_OF_LARGEST * float(flow.max()))
    edges = np.flatnonzero(np.diff(high.astype(np.int8), prepend=0, append=0))
    peaks: list[tuple[int, int]] = []
    for first, end in edges.reshape(-1, 2).tolist():  # a handful of peaks, not samples
        if peaks and not _parted(flow[peaks[-1][1] : first], rate_hz):
            peaks[-1] = (peaks[-1][0], end)
        else:
            peaks.append((first, end))
    if not peaks:
        return []
    starts = [_start(flow, first) for first, _ in peaks]
    limits = [*starts[1:], flow.size]
    return [
        (start, _end(flow, end, limit, rate_hz))
        for start, (_, end), limit in zip(starts, peaks, limits, strict=True)
    ]


def _parted(between: NDArray[np.float64], rate_hz: float) -> bool:
    """Return whether flow between two peaks shows that a manoeuvre ended: an inspiration, or a pause."""
    if between.size == 0:
        return False
    return _breathed_in(between, rate_hz).max() >= _BREATH_L or _first_pause(between, rate_hz) < between.size


def _start(flow: NDArray[np.float64], first: int) -> int:
    """Return the last sample without expiratory flow before a peak, or the first of all."""
    before = np.flatnonzero(flow[:first] <= 0.0)
    return int(before[-1]) if before.size else 0


def _end(flow: NDArray[np.float64], after: int, limit: int, rate_hz: float) -> int:
    """Return the end of the inspiration that follows a peak or, where none does, of the second without flow."""
    rest = flow[after:limit]
    if rest.size == 0:
        return limit
    inspired = np.flatnonzero(_breathed_in(rest, rate_hz) >= _BREATH_L)
    if inspired.size == 0 or inspired[0] > _LONGEST_S * rate_hz:
        still = round(
            1.25 * _STILL_S * rate_hz
        )  # a little longer, so that its last second is still beyond doubt
        return after + min(rest.size, _first_pause(rest, rate_hz) + still)
    begun = int(inspired[0])
    volume = np.cumsum(rest[begun:]) / rate_hz
    out_again = np.flatnonzero(volume - np.minimum.accumulate(volume) >= _BREATH_L)
    until = min([_first_pause(rest[begun:], rate_hz) + 1, volume.size, *out_again[:1].tolist()])
    return after + begun + int(np.argmin(volume[:until])) + 1


def _breathed_in(flow: NDArray[np.float64], rate_hz: float) -> NDArray[np.float64]:
    """Return how far volume is below its largest so far, in L: noise about no flow adds up to nothing."""
    volume = np.concatenate([[0.0], np.cumsum(flow) / rate_hz])
    return np.asarray((np.maximum.accumulate(volume) - volume)[1:])


def _first_pause(flow: NDArray[np.float64], rate_hz: float) -> int:
    """Return where flow first stops for a while, or the number of samples.

    Each quarter of that while is still by its mean, which noise hardly moves; the mean of the whole would take
    the turn from inspiration to expiration for a pause.
    """
    n = max(1, round(_STILL_S * rate_hz / 4))
    if flow.size < 4 * n:
        return flow.size
    sums = np.concatenate([[0.0], np.cumsum(flow)])
    quarters = np.abs(sums[n:] - sums[:-n]) / n <= _STILL_LPS
    last = flow.size - 4 * n + 1
    still = np.flatnonzero(np.logical_and.reduce([quarters[k * n : k * n + last] for k in range(4)]))
    return int(still[0]) if still.size else flow.size
