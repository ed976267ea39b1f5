"""Pairs of readings: a device under test against its reference, by time.

*Windows.* The time that the reference covers is cut into windows of equal length; each gives at most one pair:
the mean of the reference's readings and the mean of the device's, or NaN where the device showed none. A window
makes a pair only where the reference has been stable, as controlled desaturation studies pair at plateaus only:
then neither the delay of a device's averaging nor a lag of its clock moves the difference.

*Nearest.* Each reading of the reference is paired with the nearest of the device, as with samples of blood.

*Bracketed.* Each reading of the device is paired with the mean of the reference's readings just before and just
after it, as in sequential measurements of blood pressure on one arm.

*Preceding.* Each reading of the device is paired with the mean and the standard deviation of the reference's
readings in the time that it took, as a cuff against an arterial line.

*Spans.* Each stated span of time gives one pair, as counts of steps in a bout of walking.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive, as_series, as_times_ns
from protocols.errors import SignalError

_NS_PER_S = 1_000_000_000
_LAG_STEP_S = 1.0
"""Grid of the lag's correlation; oximeters show a new value about once a second."""


@dataclass(frozen=True, slots=True, eq=False)
class PairedReadings:
    """Pairs of one recording, in time order.

    Parameters
    ----------
    times_ns
        UTC of the start of each pair's window, shape (n_pairs,).
    reference, test
        Shape (n_pairs,); the device under test is NaN where it showed nothing.
    unstable_ns
        UTC of the start of each window with a reference that was not, or not yet, stable: no pairs.
    unpaired
        Time and reason of each reading that could make no pair.
    change
        By how much the reference's two readings around a bracketed one differ, the later minus the earlier,
        shape (n_pairs,); NaN for other rules.
    spread
        Standard deviation (n - 1) of the reference's readings that a preceding mean is of, shape (n_pairs,);
        NaN for other rules.
    """

    times_ns: NDArray[np.int64]
    reference: NDArray[np.float64]
    test: NDArray[np.float64]
    unstable_ns: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    unpaired: tuple[tuple[int, str], ...] = ()
    change: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    spread: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        for name in ("change", "spread"):
            if getattr(self, name).shape != self.times_ns.shape:
                object.__setattr__(self, name, np.full(self.times_ns.size, np.nan))


@dataclass(frozen=True, slots=True)
class Lag:
    """How much later the device under test shows what the reference shows; NaN where it cannot be told."""

    lag_s: float
    correlation: float


def pair_readings(
    reference_times_ns: ArrayLike,
    reference: ArrayLike,
    test_times_ns: ArrayLike,
    test: ArrayLike,
    *,
    window_s: float,
    stable_s: float = 0.0,
    stable_range: float = np.inf,
) -> PairedReadings:
    """Return the pairs of one recording.

    Parameters
    ----------
    reference_times_ns, test_times_ns
        UTC of every reading, ascending, shapes (n_reference,) and (n_test,).
    reference, test
        The readings; NaN where none was shown.
    window_s
        Length of the windows; the first starts with the first reading of the reference. Half-open.
    stable_s, stable_range
        A window makes a pair only if the reference has readings in it and in every window of the `stable_s`
        that end with it, and its largest and smallest reading there differ by at most `stable_range`.

    Raises
    ------
    SignalError
        If times go back, shapes differ, values are infinite, or a parameter is out of range.
    """
    window_ns = round(as_positive(window_s, name="window_s", unit="s") * _NS_PER_S)
    if stable_s < 0 or not stable_range > 0:
        raise SignalError(f"stable_s={stable_s!r}, stable_range={stable_range!r}, expected >= 0 and > 0")
    reference_ns, reference = _shown(reference_times_ns, reference, name="reference")
    test_ns, test = _shown(test_times_ns, test, name="test")
    if reference.size == 0:
        return PairedReadings(np.empty(0, dtype=np.int64), np.empty(0), np.empty(0))
    windows, starts = np.unique((reference_ns - reference_ns[0]) // window_ns, return_index=True)
    stable = _stable(
        windows,
        np.maximum.reduceat(reference, starts),
        np.minimum.reduceat(reference, starts),
        n_windows=max(1, int(np.ceil(stable_s * _NS_PER_S / window_ns))),
        stable_range=stable_range,
    )
    counts = np.diff(starts, append=reference.size)
    begins_ns = reference_ns[0] + windows * window_ns
    return PairedReadings(
        times_ns=begins_ns[stable],
        reference=(np.add.reduceat(reference, starts) / counts)[stable],
        test=_means((test_ns - reference_ns[0]) // window_ns, test, windows)[stable],
        unstable_ns=begins_ns[~stable],
    )


def pair_nearest(
    reference_times_ns: ArrayLike,
    reference: ArrayLike,
    test_times_ns: ArrayLike,
    test: ArrayLike,
    *,
    window_s: float,
) -> PairedReadings:
    """Return each reading of the reference with the nearest of the device, at most `window_s` away.

    Each reading of the device serves one pair: that of the nearest reading of the reference that has it for
    nearest, the earlier of two as near. A reading of the reference that is left without has NaN: the device
    showed nothing.

    Parameters
    ----------
    reference_times_ns, test_times_ns
        UTC of every reading, ascending, shapes (n_reference,) and (n_test,).
    reference, test
        The readings; NaN where none was shown.
    window_s
        Largest distance of a pair.

    Raises
    ------
    SignalError
        If times go back, shapes differ, values are infinite, or `window_s` is not above 0.
    """
    window_ns = round(as_positive(window_s, name="window_s", unit="s") * _NS_PER_S)
    reference_ns, reference = _shown(reference_times_ns, reference, name="reference")
    test_ns, test = _shown(test_times_ns, test, name="test")
    paired = np.full(reference.size, np.nan)
    if reference.size and test.size:
        after = np.minimum(np.searchsorted(test_ns, reference_ns), test.size - 1)
        before = np.maximum(after - 1, 0)
        nearest = np.where(
            np.abs(test_ns[before] - reference_ns) <= np.abs(test_ns[after] - reference_ns), before, after
        )
        distance_ns = np.abs(test_ns[nearest] - reference_ns)
        order = np.lexsort((np.arange(reference.size), distance_ns))
        first = np.unique(nearest[order], return_index=True)[1]
        served = order[first]
        served = served[distance_ns[served] <= window_ns]
        paired[served] = test[nearest[served]]
    return PairedReadings(reference_ns, reference, paired)


def pair_bracketed(
    reference_times_ns: ArrayLike,
    reference: ArrayLike,
    test_times_ns: ArrayLike,
    test: ArrayLike,
    *,
    window_s: float,
) -> PairedReadings:
    """Return each reading of the device with the mean of the reference's just before and just after it.

    Both are at most `window_s` away, inclusive; a reading of the device that lacks either makes no pair and is
    listed. Parameters and errors as `pair_nearest`.
    """
    window_ns = round(as_positive(window_s, name="window_s", unit="s") * _NS_PER_S)
    reference_ns, reference = _shown(reference_times_ns, reference, name="reference")
    test_ns, test = _shown(test_times_ns, test, name="test")
    if reference.size == 0:
        unpaired = tuple((int(t), "no reading of the reference") for t in test_ns)
        return PairedReadings(np.empty(0, dtype=np.int64), np.empty(0), np.empty(0), unpaired=unpaired)
    after = np.searchsorted(reference_ns, test_ns)
    before = after - 1
    has_before, has_after = before >= 0, after < reference.size
    before, after = np.maximum(before, 0), np.minimum(after, reference.size - 1)
    has_before &= test_ns - reference_ns[before] <= window_ns
    has_after &= reference_ns[after] - test_ns <= window_ns
    whole = has_before & has_after
    missing = np.where(has_before, "after", np.where(has_after, "before", "before or after"))
    return PairedReadings(
        times_ns=test_ns[whole],
        reference=0.5 * (reference[before] + reference[after])[whole],
        test=test[whole],
        unpaired=tuple(
            (int(time_ns), f"no reading of the reference {side} it within {window_s:g} s")
            for time_ns, side in zip(test_ns[~whole], missing[~whole], strict=True)
        ),
        change=(reference[after] - reference[before])[whole],
    )


def pair_preceding(
    reference_times_ns: ArrayLike,
    reference: ArrayLike,
    test_times_ns: ArrayLike,
    test: ArrayLike,
    *,
    window_s: float,
) -> PairedReadings:
    """Return each reading of the device with mean and spread of the reference's in the time before it.

    That is the `window_s` that end with the reading, open at their start. A reading with fewer than two of the
    reference before it makes no pair and is listed. Parameters and errors as `pair_nearest`.
    """
    window_ns = round(as_positive(window_s, name="window_s", unit="s") * _NS_PER_S)
    reference_ns, reference = _shown(reference_times_ns, reference, name="reference")
    test_ns, test = _shown(test_times_ns, test, name="test")
    first = np.searchsorted(reference_ns, test_ns - window_ns, side="right")
    end = np.searchsorted(reference_ns, test_ns, side="right")
    whole = end - first >= 2
    first, end = first[whole], end[whole]
    # sums up to each reading, about the mean of all, so that a large common value costs no digits
    centre = float(reference.mean()) if reference.size else 0.0
    sums = np.append(0.0, np.cumsum(reference - centre))
    squares = np.append(0.0, np.cumsum((reference - centre) ** 2))
    n = (end - first).astype(np.float64)
    means = (sums[end] - sums[first]) / n
    variances = np.maximum(squares[end] - squares[first] - n * means**2, 0.0) / (n - 1.0)
    return PairedReadings(
        times_ns=test_ns[whole],
        reference=centre + means,
        test=test[whole],
        unpaired=tuple(
            (int(time_ns), f"fewer than two readings of the reference in the {window_s:g} s before it")
            for time_ns in test_ns[~whole]
        ),
        spread=np.sqrt(variances),
    )


def estimate_lag(
    reference_times_ns: ArrayLike,
    reference: ArrayLike,
    test_times_ns: ArrayLike,
    test: ArrayLike,
    *,
    max_lag_s: float = 60.0,
) -> Lag:
    """Return by how much the device under test is late, where the correlation with the reference is largest.

    Both are interpolated to one value a second; the peak of the correlation is refined by a parabola. NaN where
    the two overlap for less than three times `max_lag_s`, where either does not change, or where the
    correlation still rises at the largest lag considered: the lag is beyond it.

    Parameters
    ----------
    reference_times_ns, test_times_ns
        UTC of every reading, ascending, shapes (n_reference,) and (n_test,).
    reference, test
        The readings; NaN where none was shown.
    max_lag_s
        Largest lag considered, to either side.

    Raises
    ------
    SignalError
        If times go back, shapes differ, or values are infinite.
    """
    reference_ns, reference = _shown(reference_times_ns, reference, name="reference")
    test_ns, test = _shown(test_times_ns, test, name="test")
    reach = round(as_positive(max_lag_s, name="max_lag_s", unit="s") / _LAG_STEP_S)
    unknown = Lag(float("nan"), float("nan"))
    if reference.size == 0 or test.size == 0:
        return unknown
    start_ns = max(reference_ns[0], test_ns[0])
    overlap_s = (min(reference_ns[-1], test_ns[-1]) - start_ns) / _NS_PER_S
    if overlap_s < 3.0 * max_lag_s:
        return unknown
    grid_s = np.arange(int(overlap_s / _LAG_STEP_S)) * _LAG_STEP_S
    still = np.interp(grid_s, (reference_ns - start_ns) / _NS_PER_S, reference)[reach:-reach]
    moved = np.lib.stride_tricks.sliding_window_view(
        np.interp(grid_s, (test_ns - start_ns) / _NS_PER_S, test), still.size
    )
    correlations = _correlations(moved, still)
    if not np.isfinite(correlations).all():
        return unknown
    best = int(np.argmax(correlations))
    if best in (0, correlations.size - 1):
        return unknown
    return Lag((best - reach + _vertex(correlations, best)) * _LAG_STEP_S, float(correlations[best]))


def _shown(
    times_ns: ArrayLike, readings: ArrayLike, *, name: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return times and values of the readings that are not NaN."""
    times = as_times_ns(times_ns, name=f"{name}_times_ns")
    values = as_series(readings, name=name)
    if times.shape != values.shape:
        raise SignalError(f"{values.size} readings of the {name} at {times.size} times, expected as many")
    present = ~np.isnan(values)
    return times[present], values[present]


def _stable(
    windows: NDArray[np.int64],
    highest: NDArray[np.float64],
    lowest: NDArray[np.float64],
    *,
    n_windows: int,
    stable_range: float,
) -> NDArray[np.bool_]:
    """Return for which windows the last `n_windows`, this one included, are unbroken and within the range."""
    stable = np.zeros(windows.size, dtype=bool)
    if windows.size < n_windows:
        return stable
    view = np.lib.stride_tricks.sliding_window_view
    spread = view(highest, n_windows).max(axis=1) - view(lowest, n_windows).min(axis=1)
    unbroken = windows[n_windows - 1 :] - windows[: windows.size - n_windows + 1] == n_windows - 1
    stable[n_windows - 1 :] = unbroken & (spread <= stable_range)
    return stable


def _means(
    window_of_value: NDArray[np.int64], values: NDArray[np.float64], windows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the mean of the values in each of `windows`, NaN where there are none."""
    at = np.minimum(np.searchsorted(windows, window_of_value), windows.size - 1)
    inside = windows[at] == window_of_value
    counts = np.bincount(at[inside], minlength=windows.size)
    sums = np.bincount(at[inside], weights=values[inside], minlength=windows.size)
    return np.asarray(sums / np.where(counts > 0, counts, np.nan))


def _correlations(moved: NDArray[np.float64], still: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correlation of each row with `still`, row by row: all at once were a copy for each lag."""
    still = still - still.mean()
    correlations = np.full(moved.shape[0], np.nan)
    for number, row in enumerate(moved):
        centred = row - row.mean()
        scale = np.sqrt((centred @ centred) * (still @ still))
        if scale > 0:
            correlations[number] = (centred @ still) / scale
    return correlations


def _vertex(values: NDArray[np.float64], best: int) -> float:
    """Return where the parabola through a maximum and its neighbours peaks, relative to it."""
    before, at, after = values[best - 1 : best + 2]
    bend = before - 2.0 * at + after
    return float(0.5 * (before - after) / bend) if bend < 0 else 0.0
