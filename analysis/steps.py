"""Steps counted by a phone or wearable accelerometer in any place and orientation.

Theory of operation. Only the norm of the acceleration is looked at, so orientation does not matter. It is
smoothed and brought to 25 Hz. For every second, the spectrum of the 6 s around it gives the step frequency:
where the norm is strongest between 1.0 and 3.2 Hz, among those whose stride explains the spectrum. A second is
walking where movement is strong enough and repeats: the harmonics of half the step frequency (the stride) hold
much of the power, and the movement is like itself a stride later (the autocorrelation of Brajdic & Harle and of
Moe-Nilssen & Helbostad), which gestures and a car's springs, however slow, are not. Within walking, the norm is
filtered by a Hann-windowed cosine of four step periods: its zeros lie on the stride frequency, on one and a
half and on twice the step frequency, so that a swinging arm or a hard heel neither hides nor doubles a step.
Each maximum is a step.

Everything rests on a bounded neighbourhood, `REACH_S`; so a long recording is taken in stretches, and
`StepStream` finds what the batch finds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from analysis.arrays import as_positive, as_signal
from analysis.intervals import intervals_of, mask_of
from analysis.step_frequency import (
    GRID_HZ,
    SMOOTH_S,
    Worn,
    at_step_frequency,
    on_grid,
    peaks_of,
    step_frequency,
    whole_seconds,
)
from protocols.errors import SignalError

LOWEST_RATE_HZ = 15.0
HIGHEST_RATE_HZ = 1000.0
LEAST_BOUT_S = 4
LONGEST_PAUSE_S = 2
# half a window 4, sure walking 8, pause 2, bout 4, filter 2, neighbours of a peak 1, and some to spare
REACH_S = 24
STRETCH_S = 600


def detect_steps(
    accel: ArrayLike,
    *,
    rate_hz: float,
    times_s: ArrayLike | None = None,
    bouts: ArrayLike | None = None,
    worn: Worn = "anywhere",
) -> NDArray[np.int64]:
    """Return the sample index of every step.

    Parameters
    ----------
    accel
        Acceleration with gravity in m/s², shape (3, n_samples); NaN where missing. Axes in any direction.
    rate_hz
        Sampling rate, 15 to 1000 Hz; with `times_s` the rate at which the samples are laid out before analysis.
    times_s
        Time of each sample, ascending, where sampling is uneven (phones). Gaps above 0.5 s count as missing.
    bouts
        Where walking is already known: half-open intervals of sample indices, shape (n, 2). Steps are then
        sought there alone, and neither strength nor regularity is asked for. Not together with `times_s`.
    worn
        "trunk" where the sensor is known to be fixed to the trunk, which does not gesture: then walking need
        not repeat itself, so that irregular steps among turns count too.

    Returns
    -------
    Ascending indices, shape (n_steps,): the maximum of the norm's step frequency, within about a quarter of a
    step of the push-off. No step is reported outside walking bouts of at least 4 s.

    Raises
    ------
    SignalError
        If the shape, the rate or the times are not as said.

    References
    ----------
    Brajdic & Harle (2013), doi:10.1145/2493432.2493449; Salvi et al. (2018), doi:10.1109/EMBC.2018.8513187;
    Straczkiewicz et al. (2023), doi:10.1038/s41746-022-00745-z. Differs from them in the filter between
    frequency and peaks, and in taking steps as its maxima rather than integrating the frequency.
    """
    signal = checked(accel, rate_hz)
    rate_hz = float(rate_hz)
    if bouts is not None:
        if times_s is not None:
            raise SignalError("bouts and times_s both given, expected one of them")
        known = mask_of(bouts, signal.shape[1])
        found, _ = _in_stretches(signal, rate_hz, worn, known)
        return found[known[found]]
    if times_s is None:
        return _in_stretches(signal, rate_hz, worn)[0]
    even, times = _lay_out(signal, times_s, rate_hz)
    found = times[0] + _in_stretches(even, rate_hz, worn)[0] / rate_hz
    after = np.clip(np.searchsorted(times, found), 1, times.size - 1)
    earlier = found - times[after - 1] < times[after] - found
    return np.asarray(after - earlier, dtype=np.int64)


def count_steps(
    accel: ArrayLike, *, rate_hz: float, times_s: ArrayLike | None = None, worn: Worn = "anywhere"
) -> int:
    """Return the number of steps that `detect_steps` finds."""
    return int(detect_steps(accel, rate_hz=rate_hz, times_s=times_s, worn=worn).size)


def walking_bouts(accel: ArrayLike, *, rate_hz: float, worn: Worn = "anywhere") -> NDArray[np.int64]:
    """Return when the wearer walks, as half-open intervals of sample indices, shape (n_bouts, 2).

    Whole seconds; pauses up to 2 s are part of a bout, and a bout has at least 4 s.
    """
    signal = checked(accel, rate_hz)
    walking = _in_stretches(signal, float(rate_hz), worn)[1]
    edges = np.rint(intervals_of(walking) * float(rate_hz)).astype(np.int64)
    return np.asarray(np.minimum(edges, signal.shape[1]), dtype=np.int64)


def step_count(accel_x: ArrayLike, accel_y: ArrayLike, accel_z: ArrayLike, *, rate_hz: float) -> float:
    """Return the number of steps of a recording, NaN where over half of the samples are missing."""
    accel = checked(stacked(accel_x, accel_y, accel_z), rate_hz)
    if np.isfinite(accel).all(axis=0).sum() * 2 < max(accel.shape[1], 1):
        return float("nan")
    return float(count_steps(accel, rate_hz=rate_hz))


class StepStream:
    """Finds the steps of an acceleration as it comes: the very steps that `detect_steps` finds in the whole.

    Keeps at most some 50 s beside what is being pushed.

    Raises
    ------
    SignalError
        If the rate is outside 15 to 1000 Hz.
    """

    def __init__(self, rate_hz: float) -> None:
        checked(np.empty((3, 0)), rate_hz)
        self._rate_hz = float(rate_hz)
        self._first = 0  # index of the first sample kept
        self._second = 0  # the next second to be reported
        self._kept: NDArray[np.float64] = np.empty(0)  # norm
        self._ended = False

    @property
    def latency_s(self) -> float:
        """How long after a step it is reported at the latest, if samples come without delay."""
        return float(REACH_S + 2)

    def push(self, accel: ArrayLike) -> NDArray[np.int64]:
        """Take the next samples, shape (3, n), and return the steps they settle.

        Returns
        -------
        Indices from the first sample ever pushed, ascending, shape (n_steps,).

        Raises
        ------
        SignalError
            If the samples are not of that shape or infinite, or if the stream was flushed.
        """
        if self._ended:
            raise SignalError("push after flush, expected a new StepStream")
        chunk = checked(accel, self._rate_hz)
        step = round(30 * self._rate_hz)  # bounds the memory
        found = [self._take(chunk[:, k : k + step]) for k in range(0, chunk.shape[1], step)]
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)

    def flush(self) -> NDArray[np.int64]:
        """Return the steps that the end of the signal settles; nothing may be pushed any more."""
        self._ended = True
        return self._settle(whole_seconds(self._first + self._kept.size, self._rate_hz))

    def _take(self, chunk: NDArray[Any]) -> NDArray[np.int64]:
        self._kept = np.concatenate([self._kept, _norm(chunk)])
        return self._settle(int((self._first + self._kept.size) / self._rate_hz) - REACH_S - 1)

    def _settle(self, until: int) -> NDArray[np.int64]:
        if until <= self._second:
            return np.empty(0, dtype=np.int64)
        seconds = (self._second, until)
        steps, _ = _steps_of_stretch(self._kept, self._first, seconds, self._rate_hz, "anywhere")
        self._second = until
        keep = max(0, _first_sample(until - REACH_S, self._rate_hz) - self._first)
        self._kept, self._first = self._kept[keep:].copy(), self._first + keep
        return steps


def checked(accel: ArrayLike, rate_hz: float) -> NDArray[Any]:
    """Return the acceleration as an array (3, n_samples), with the rate checked too."""
    rate = as_positive(rate_hz, name="rate_hz", unit="Hz")
    if not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
        raise SignalError(f"rate_hz={rate_hz!r}, expected {LOWEST_RATE_HZ:g} to {HIGHEST_RATE_HZ:g} Hz")
    signal = as_signal(accel, name="accel")
    if signal.ndim != 2 or signal.shape[0] != 3:
        raise SignalError(f"accel of shape {signal.shape}, expected (3, n_samples)")
    return signal


def stacked(*axes: ArrayLike) -> NDArray[Any]:
    """Return the axes of an acceleration as one array; SignalError if their shapes differ."""
    signals = [as_signal(axis, name="accel") for axis in axes]
    if len({s.shape for s in signals}) != 1:
        raise SignalError(f"accel axes of shapes {[s.shape for s in signals]}, expected equal ones")
    return np.stack(signals)


def _lay_out(
    accel: NDArray[Any], times_s: ArrayLike, rate_hz: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the acceleration at even times, NaN within gaps, and the times as float64."""
    times = np.asarray(as_signal(times_s, name="times_s"), dtype=np.float64)
    if times.shape != accel.shape[1:] or times.size < 2 or not np.all(np.diff(times) >= 0):
        raise SignalError(
            f"times_s of shape {times.shape}, expected ascending times of {accel.shape[1]} >= 2 samples"
        )
    even_s = times[0] + np.arange(int((times[-1] - times[0]) * rate_hz) + 1) / rate_hz
    even = np.stack([np.interp(even_s, times, axis) for axis in accel])
    after = np.clip(np.searchsorted(times, even_s), 1, times.size - 1)
    even[:, times[after] - times[after - 1] > 0.5] = np.nan
    return even, times


def _norm(accel: NDArray[Any]) -> NDArray[np.float64]:
    x, y, z = (np.asarray(axis, dtype=np.float64) for axis in accel)
    return np.asarray(np.sqrt(x * x + y * y + z * z))


def _first_sample(second: int, rate_hz: float) -> int:
    """Return the first sample that the grid of a second needs."""
    return max(0, int((second - SMOOTH_S) * rate_hz) - 2)


def _in_stretches(
    accel: NDArray[Any], rate_hz: float, worn: Worn, known: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the steps and which seconds are walking, in stretches so that memory does not grow."""
    if worn not in ("anywhere", "trunk"):
        raise SignalError(f"worn={worn!r}, expected 'anywhere' or 'trunk'")
    n = accel.shape[1]
    n_seconds = whole_seconds(n, rate_hz)
    steps, walking = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.bool_)]
    for second in range(0, n_seconds, STRETCH_S):
        until = min(second + STRETCH_S, n_seconds)
        first = _first_sample(second - REACH_S, rate_hz)
        end = min(n, int((until + REACH_S + 1) * rate_hz) + 1)
        here = None if known is None else known[first:end]
        norm = _norm(accel[:, first:end])
        found, walks = _steps_of_stretch(norm, first, (second, until), rate_hz, worn, here)
        steps.append(found)
        walking.append(walks)
    return np.concatenate(steps), np.concatenate(walking)


def _steps_of_stretch(
    norm: NDArray[np.float64],
    first: int,
    seconds: tuple[int, int],
    rate_hz: float,
    worn: Worn,
    known: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the steps within `seconds` and which of these are walking; `norm` starts at sample `first`."""
    if norm.size == 0:
        return np.empty(0, dtype=np.int64), np.zeros(max(0, seconds[1] - seconds[0]), dtype=np.bool_)
    start = max(0, seconds[0] - REACH_S)
    grid = on_grid(norm, first, start, rate_hz)
    missing = np.isnan(grid).reshape(-1, GRID_HZ).any(axis=1)
    grid = np.where(np.isnan(grid), 0.0, grid)
    step_hz, walking = step_frequency(grid, worn, everywhere=known is not None)
    if known is None:
        pause = LONGEST_PAUSE_S
        walking = ndimage.binary_closing(np.pad(walking & ~missing, pause), np.ones(pause + 1))[pause:-pause]
        walking = ndimage.binary_opening(walking & ~missing, np.ones(LEAST_BOUT_S))
    else:
        second = np.minimum((first + np.flatnonzero(known)) // rate_hz - start, walking.size - 1).astype(
            np.int64
        )
        walking = np.bincount(second[second >= 0], minlength=walking.size) > 0
    points = GRID_HZ * start + peaks_of(at_step_frequency(grid, step_hz, walking))
    points = points[(points >= GRID_HZ * seconds[0]) & (points < GRID_HZ * seconds[1])]
    steps = np.rint(points * (rate_hz / GRID_HZ)).astype(np.int64)
    return np.minimum(steps, first + norm.size - 1), walking[seconds[0] - start : seconds[1] - start]
