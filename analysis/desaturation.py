"""Desaturations: falls of SpO2, their index per hour, and the time spent low.

No standard says how a program finds desaturations. The AASM scoring manual asks for a fall of 3 % or 4 % from
the "pre-event baseline" to confirm a hypopnea found in the airflow; oximetry alone needs more:

- An event begins at the last sample at the highest value of the 120 s before, once the saturation is
  `drop_percent` lower or more. A slower drift is none.
- Its nadir is the first sample at its lowest value.
- It ends where the saturation has risen again by two thirds of the fall or by `drop_percent`, whichever is
  less. So the ripple of a deep fall does not split it, and a fall after a partial recovery counts.
- It ends as well, not recovered, 120 s after its nadir (what was a fall is the new level then), at a gap of
  more than 10 s, and at the end of the recording.
- It counts if it lasts 10 s or longer from beginning to end, as a respiratory event must.
- Shorter gaps are passed over. Readings outside 50 to 100 % are missing.

Time is that of samples that are there; the hours of an index are hours of readings, not of sleep. For an index
per hour of sleep, set what was not slept to NaN.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive, as_series

BASELINE_S: Final = 120.0
"""How far back the level before a fall lies at most; Chung 2012 take the mean of as much."""
SHORTEST_S: Final = 10.0
"""The shortest respiratory event (AASM); Chung 2012 ask it of desaturations."""
LONGEST_GAP_S: Final = 10.0
"""A longer gap may hide an event."""
RECOVERY_SHARE: Final = 2.0 / 3.0
READABLE_PERCENT: Final = (50.0, 100.0)
"""What lower readings are is not known: oximeters are calibrated down to 70 %."""
LEAST_HOURS: Final = 1.0
LEAST_SHARE: Final = 0.5
"""An index per hour is not extrapolated from less than an hour, nor from less than half of a recording."""

_ROUNDING: Final = 1e-6  # 65.1 - 62.1 is a fall of 3

_Floats: TypeAlias = NDArray[np.float64]
_Indices: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Desaturations:
    """Events, ascending, shape (n_events,) each.

    Parameters
    ----------
    intervals
        Half-open `[start, end)` sample indices, shape (n_events, 2): from the last sample before the fall to
        the first that has recovered.
    nadirs
        Sample index of the lowest value.
    start_percent, nadir_percent
        SpO2 there.
    recovered
        False where an event was ended by time, a gap or the end of the recording.
    rate_hz
        Of the samples.
    """

    intervals: _Indices
    nadirs: _Indices
    start_percent: _Floats
    nadir_percent: _Floats
    recovered: NDArray[np.bool_]
    rate_hz: float

    @property
    def drop_percent(self) -> _Floats:
        """How far the saturation fell, in percentage points."""
        return self.start_percent - self.nadir_percent

    @property
    def duration_s(self) -> _Floats:
        """From start to end."""
        return np.asarray((self.intervals[:, 1] - self.intervals[:, 0]) / self.rate_hz)

    @property
    def fall_s(self) -> _Floats:
        """From start to nadir."""
        return np.asarray((self.nadirs - self.intervals[:, 0]) / self.rate_hz)


@dataclass(frozen=True, slots=True)
class DesaturationSummary:
    """What a recording comes to; NaN where there are too few readings (or no events, for means over these).

    Parameters
    ----------
    hours
        Of readings.
    missing_share
        Share of the recording without any.
    n_events, index_per_h
        Desaturations, and per hour of readings (ODI).
    mean_drop_percent, mean_duration_s, mean_nadir_percent
        Over the events.
    area_percent
        Area between the level an event started from and SpO2, over the time of readings: by how much events
        lower the mean saturation.
    mean_percent, lowest_percent
        Over the readings.
    below_percent
        Level -> share of the time of readings below it, in %; T90 is that of 90.
    """

    hours: float
    missing_share: float
    n_events: int
    index_per_h: float
    mean_drop_percent: float
    mean_duration_s: float
    mean_nadir_percent: float
    area_percent: float
    mean_percent: float
    lowest_percent: float
    below_percent: dict[float, float]


def find_desaturations(spo2_percent: ArrayLike, *, rate_hz: float, drop_percent: float = 3.0) -> Desaturations:
    """Return the desaturations of a series, by the rules above.

    Parameters
    ----------
    spo2_percent
        Shape (n_samples,), NaN where missing.
    rate_hz
        Samples per second; oximeters give 1, or one in 3 s.
    drop_percent
        Smallest fall that counts, inclusive: 3 for ODI3, 4 for ODI4.

    Raises
    ------
    SignalError
        If the series is not one-dimensional or not real, or an option is not above 0.

    References
    ----------
    AASM Manual for the Scoring of Sleep (falls of 3 % and 4 %, 10 s; unconfirmed). Chung et al. 2012,
    doi:10.1213/ANE.0b013e318248f4f5: a fall of 4 % from the mean of 120 s for at least 10 s (unconfirmed).
    Differs from Chung in starting from the highest value of the 120 s instead of their mean, which earlier
    events lower, and in the 10 s being those of the whole event. The rules of recovery and ending are ours.
    """
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    least = as_positive(drop_percent, name="drop_percent", unit="percentage points") - _ROUNDING
    values = _readings(spo2_percent)
    memory, gap = BASELINE_S * rate_hz, LONGEST_GAP_S * rate_hz
    found = []
    for first, last, level in _stretches(values, longest_gap=gap):
        found += _events(first, last, level, memory=memory, least=least)
    columns = np.array(found, dtype=np.float64).reshape(-1, 6)
    columns = columns[columns[:, 1] - columns[:, 0] >= SHORTEST_S * rate_hz - _ROUNDING]
    indices = columns[:, :3].astype(np.int64)
    start, nadir, recovered = columns[:, 3:].T
    return Desaturations(indices[:, :2], indices[:, 2], start, nadir, recovered > 0.5, rate_hz)


def summarise_desaturations(
    spo2_percent: ArrayLike,
    *,
    rate_hz: float,
    drop_percent: float = 3.0,
    levels_percent: tuple[float, ...] = (94.0, 90.0, 88.0, 85.0, 80.0),
) -> DesaturationSummary:
    """Return what the desaturations and the saturation of a recording come to.

    Time below a level is strictly below it. Shapes and errors as `find_desaturations`.
    """
    values = _readings(spo2_percent)
    events = find_desaturations(values, rate_hz=rate_hz, drop_percent=drop_percent)
    there = ~np.isnan(values)
    count = int(there.sum())
    hours = count / rate_hz / 3600.0
    missing = 1.0 - count / values.size if values.size else 1.0
    enough = hours >= LEAST_HOURS and missing <= 1.0 - LEAST_SHARE
    area = 0.0
    for (start, end), level in zip(events.intervals, events.start_percent, strict=True):
        area += float(np.nansum(np.maximum(level - values[start:end], 0.0)))
    nothing = float("nan")
    return DesaturationSummary(
        hours=hours,
        missing_share=missing,
        n_events=events.nadirs.size,
        index_per_h=events.nadirs.size / hours if enough else nothing,
        mean_drop_percent=_mean(events.drop_percent),
        mean_duration_s=_mean(events.duration_s),
        mean_nadir_percent=_mean(events.nadir_percent),
        area_percent=area / count if enough else nothing,
        mean_percent=_mean(values[there]),
        lowest_percent=float(values[there].min()) if count else nothing,
        below_percent={
            level: 100.0 * float((values[there] < level).mean()) if count else nothing
            for level in levels_percent
        },
    )


def desaturation_index_per_h(spo2_percent: ArrayLike, *, rate_hz: float, drop_percent: float = 3.0) -> float:
    """Return the desaturations per hour of readings (ODI); NaN below an hour or half of the recording."""
    return summarise_desaturations(spo2_percent, rate_hz=rate_hz, drop_percent=drop_percent).index_per_h


def time_below_percent(spo2_percent: ArrayLike, *, rate_hz: float, level_percent: float = 90.0) -> float:
    """Return the share of readings strictly below a level in % (T90); NaN where over half are missing."""
    summary = summarise_desaturations(spo2_percent, rate_hz=rate_hz, levels_percent=(level_percent,))
    return summary.below_percent[level_percent] if summary.missing_share <= 1.0 - LEAST_SHARE else float("nan")


def _readings(spo2_percent: ArrayLike) -> _Floats:
    values = as_series(spo2_percent, name="spo2_percent")
    low, high = READABLE_PERCENT
    return np.where((values >= low) & (values <= high), values, np.nan)


def _stretches(values: _Floats, *, longest_gap: float) -> list[tuple[_Indices, _Indices, _Floats]]:
    """Return first and last index and value of the runs of equal readings, for each stretch between gaps."""
    there = np.flatnonzero(~np.isnan(values))
    if there.size == 0:
        return []
    new = np.flatnonzero(np.diff(values[there]) != 0.0) + 1
    broken = np.flatnonzero(np.diff(there) - 1 > longest_gap) + 1
    starts = np.union1d([0], np.concatenate([new, broken]))
    first, last = there[starts], there[np.append(starts[1:], there.size) - 1]
    cuts = np.searchsorted(starts, broken)
    return list(zip(np.split(first, cuts), np.split(last, cuts), np.split(values[first], cuts), strict=True))


def _events(
    first: _Indices, last: _Indices, level: _Floats, *, memory: float, least: float
) -> list[tuple[float, ...]]:
    """Return start, end, nadir, their values and whether it recovered, of each event of one stretch."""
    events: list[tuple[float, ...]] = []
    highs: deque[tuple[float, int]] = deque()  # falling values since the last event, and where they were last
    start: tuple[float, int] | None = None
    nadir, nadir_at = np.inf, 0
    before = (np.inf, 0)
    # An event decides where the next may begin, so runs are taken one by one; there are few of them.
    for begin, end, value in zip(first.tolist(), last.tolist(), level.tolist(), strict=True):
        if start is not None and begin > nadir_at + memory:  # too late to recover
            events.append((start[1], int(nadir_at + memory), nadir_at, start[0], nadir, 0.0))
            start, highs = None, deque([before])
        before = (value, end)
        if start is None:
            while highs and highs[-1][0] <= value:
                highs.pop()
            highs.append(before)
            while highs[0][1] < begin - memory:
                highs.popleft()
            if highs[0][0] - value >= least:
                start, nadir, nadir_at = highs[0], value, begin
        elif value < nadir:
            nadir, nadir_at = value, begin
        elif value - nadir + _ROUNDING >= min(least, RECOVERY_SHARE * (start[0] - nadir)):
            events.append((start[1], begin, nadir_at, start[0], nadir, 1.0))
            start, highs = None, deque([before])
    if start is not None:
        stop = min(int(last[-1]) + 1, int(nadir_at + memory))
        events.append((start[1], stop, nadir_at, start[0], nadir, 0.0))
    return events


def _mean(values: _Floats) -> float:
    return float(values.mean()) if values.size else float("nan")
