"""Rhythms that the times and classes of heartbeats show: atrial fibrillation, and runs of ventricular beats.

Theory of operation
-------------------
Atrial fibrillation has no pattern of intervals. Its detector (Petrėnas, Marozas & Sörnmo 2015) asks three
things of the RR intervals around every beat: how many pairs of them differ by more than 30 ms, how fast the
rhythm is, and whether a median of three leaves their sum as it is, as it does where ectopic beats only shift
time from one interval to the next (bigeminy, extrasystoles with a compensatory pause). As 30 ms are no more
than breathing in a young subject, successive intervals must also differ by more than a tenth of their mean
(Dash et al. 2009). Intervals next to a ventricular or unclassifiable beat, and across a pause that no beat ends
in time, say nothing about the atria and are left out.

Intervals alone do not tell it from a very strong sinus arrhythmia or frequent atrial ectopy. Its definition has
a second half, the absence of P waves; where the lead was delineated, that half is asked as well.

Ventricular runs are counted from the classes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, signal

from analysis.arrays import as_positive
from protocols.errors import SignalError

SHORTEST_AF_S: Final = 30.0
"""Shorter irregularity is no episode: ESC guideline 2020, doi:10.1093/eurheartj/ehaa612, section 3.2."""
FASTEST_SLOW_RUN_PER_MIN: Final = 100.0
"""Above this rate a ventricular run is a tachycardia: AHA/ACC/HRS 2017, doi:10.1161/CIR.0000000000000549."""
AAMI_LETTERS: Final = ("N", "S", "V", "F", "Q")

_WINDOW_BEATS: Final = 8  # Petrėnas et al. 2015: N; its constants are remembered and unconfirmed
_DIFFERENT_S: Final = 0.030  # gamma
_SMOOTHING: Final = 0.02  # alpha
_ORDERLY: Final = 2e-4  # delta
_IRREGULAR: Final = 0.725  # eta
_SPREAD: Final = 0.1  # Dash et al. 2009: RMSSD over mean interval, likewise
_SPREAD_BEATS: Final = 31  # as for P waves below
_LONGEST_RR_S: Final = 3.0  # 20 beats/min: a longer interval is a gap in the detection, or asystole
_RUN_BEATS: Final = 3  # AHA/ACC/HRS 2017: three or more beats in a row
_P_BEATS: Final = 31  # 15 beats on each side: some 30 s at 60 beats/min, the shortest episode
_MEDIAN_TO_SD: Final = 0.6745  # of the absolute values of a normal distribution
_FEW_P_WAVES: Final = 0.5  # half of the conducted beats: the rhythm that most of them show
_PATTERN_CYCLES: Final = 3  # three couples of N and V in a row make bigeminy; MIT-BIH annotators use as few

_Floats: TypeAlias = NDArray[np.float64]
_Intervals: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class VentricularRuns:
    """Ventricular beats that follow one another, as half-open `[start, end)` sample indices, shape (n, 2).

    Each starts at its first ventricular beat, and ends one sample after its last.

    Parameters
    ----------
    couplets
        Two ventricular beats in a row.
    tachycardias
        Three or more, with a mean rate above 100 beats/min.
    slow_runs
        Three or more that are slower (accelerated idioventricular rhythm and escape).
    bigeminy
        Every second beat ventricular, for at least three times.
    trigeminy
        Every third beat ventricular, for at least three times.
    """

    couplets: NDArray[np.int64]
    tachycardias: NDArray[np.int64]
    slow_runs: NDArray[np.int64]
    bigeminy: NDArray[np.int64]
    trigeminy: NDArray[np.int64]


def atrial_fibrillation_episodes(
    beats: ArrayLike,
    *,
    rate_hz: float,
    classes: ArrayLike | None = None,
    p_waves: ArrayLike | None = None,
    shortest_s: float = SHORTEST_AF_S,
) -> NDArray[np.int64]:
    """Return the episodes of atrial fibrillation as half-open `[start, end)` sample indices, shape (n, 2).

    Parameters
    ----------
    beats
        Sample indices of the heartbeats, ascending, shape (n_beats,).
    rate_hz
        Samples per second.
    classes
        N, S, V, F or Q of every beat, as `classify_beats` returns them; without them every beat counts as
        conducted from the atria.
    p_waves
        Whether a P wave was told before every beat, shape (n_beats,): ``np.isfinite(delineate(...).p_peak)``.
        Without them intervals decide alone, and a strong sinus arrhythmia may count.
    shortest_s
        Shorter episodes are not reported.

    Returns
    -------
    An episode runs from its first beat to its last, both inside. None with fewer than 16 usable intervals.

    Raises
    ------
    SignalError
        If beats do not ascend, classes do not fit them, or a parameter is out of range.

    References
    ----------
    Petrėnas, Marozas & Sörnmo 2015, doi:10.1016/j.compbiomed.2015.01.019, with its constants.
    Dash et al. 2009, doi:10.1007/s10439-009-9740-z: least RMSSD over the mean interval; here of 31 beats, and
    from the median, where they leave out the longest and shortest intervals.
    Differs from both in a window centred on the beat instead of one before it, in leaving out intervals next to
    ventricular and unclassifiable beats and longer than 3 s, in the shortest episode, and in P waves, whose
    absence is the other half of the definition (ESC 2020, doi:10.1093/eurheartj/ehaa612, section 3.1): fewer
    than half of the 31 beats around, ventricular and unclassifiable ones left out, have one.
    """
    samples = as_beats(beats)
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    shortest_s = as_positive(shortest_s, name="shortest_s", unit="s")
    irregular = irregular_beats(samples, rate_hz=rate_hz, classes=classes)
    if p_waves is not None:
        if np.size(p_waves) != samples.size:
            raise SignalError(f"{np.size(p_waves)} p_waves for {samples.size} beats, expected one for each")
        irregular &= without_p_waves(p_waves, classes)
    return _episodes(samples, irregular, shortest=shortest_s * rate_hz)


def irregular_beats(beats: ArrayLike, *, rate_hz: float, classes: ArrayLike | None = None) -> NDArray[np.bool_]:
    """Return of every beat whether the rhythm around it is irregular as in atrial fibrillation, (n_beats,)."""
    samples = as_beats(beats)
    letters = as_classes(classes, samples.size) if classes is not None else None
    rr_s = np.diff(samples) / as_positive(rate_hz, name="rate_hz", unit="Hz")
    usable = (rr_s > 0.0) & (rr_s <= _LONGEST_RR_S)
    if letters is not None:
        foreign = np.isin(letters, ("V", "F", "Q"))
        usable &= ~(foreign[1:] | foreign[:-1])
    irregular = np.zeros(samples.size, dtype=bool)
    if usable.sum() < 2 * _WINDOW_BEATS:
        return irregular
    centres = 0.5 * (samples[1:] + samples[:-1])
    of_intervals = (_irregularity(rr_s[usable]) > _IRREGULAR) & (_spread(rr_s[usable]) > _SPREAD)
    nearest = np.searchsorted(centres[usable], samples).clip(1, of_intervals.size - 1)
    before = samples - centres[usable][nearest - 1] < centres[usable][nearest] - samples
    return np.asarray(of_intervals[nearest - before])


def without_p_waves(p_waves: ArrayLike, classes: ArrayLike | None = None) -> NDArray[np.bool_]:
    """Return of every beat whether fewer than half of the 31 beats around have a P wave, shape (n_beats,).

    Parameters
    ----------
    p_waves
        Whether a P wave was told before every beat, boolean, shape (n_beats,).
    classes
        N, S, V, F or Q of every beat; of V, F and Q none is expected to have one, and they do not count.

    Raises
    ------
    SignalError
        If they do not fit.
    """
    told = np.asarray(p_waves)
    if told.ndim != 1 or told.dtype.kind != "b":
        raise SignalError(f"p_waves of shape {told.shape}, {told.dtype}, expected a boolean for every beat")
    counts = np.ones(told.size)
    if classes is not None:
        counts[np.isin(as_classes(classes, told.size), ("V", "F", "Q"))] = 0.0
    if told.size == 0:
        return np.empty(0, dtype=bool)
    sums = [
        np.convolve(values, np.ones(_P_BEATS))[_P_BEATS // 2 :][: told.size]
        for values in (counts * told, counts)
    ]
    return np.asarray(np.rint(sums[0]) < _FEW_P_WAVES * np.rint(sums[1]))


def ventricular_runs(beats: ArrayLike, classes: ArrayLike, *, rate_hz: float) -> VentricularRuns:
    """Return couplets, tachycardias, slow runs, bigeminy and trigeminy.

    Parameters
    ----------
    beats, classes
        Sample index, ascending, and N, S, V, F or Q of every beat, shapes (n_beats,).
    rate_hz
        Samples per second.

    Raises
    ------
    SignalError
        If beats do not ascend, classes do not fit them, or the rate is out of range.

    References
    ----------
    Al-Khatib et al. 2017 (AHA/ACC/HRS guideline), doi:10.1161/CIR.0000000000000549, table 4: tachycardia is
    three or more beats in a row above 100/min. A pause above 3 s ends a run.
    """
    samples = as_beats(beats)
    letters = as_classes(classes, samples.size)
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    ventricular = letters == "V"
    joined = ventricular[1:] & ventricular[:-1] & (np.diff(samples) <= _LONGEST_RR_S * rate_hz)
    runs = _true_stretches(joined)
    n_beats = runs[:, 1] - runs[:, 0] + 1
    spans = np.column_stack([samples[runs[:, 0]], samples[runs[:, 1]] + 1]) if runs.size else runs
    long = n_beats >= _RUN_BEATS
    seconds = (spans[:, 1] - 1 - spans[:, 0]) / rate_hz
    rate_per_min = 60.0 * (n_beats - 1) / np.where(seconds > 0.0, seconds, np.nan)
    fast = rate_per_min > FASTEST_SLOW_RUN_PER_MIN
    return VentricularRuns(
        spans[~long],
        spans[long & fast],
        spans[long & ~fast],
        _pattern(samples, ventricular, letters == "Q", period=2),
        _pattern(samples, ventricular, letters == "Q", period=3),
    )


def as_beats(beats: ArrayLike) -> NDArray[np.int64]:
    """Return beats as int64 sample indices.

    Raises
    ------
    SignalError
        If they are not integers, not one-dimensional, or do not ascend.
    """
    array = np.asarray(beats)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise SignalError(f"beats of shape {array.shape} and dtype {array.dtype}, expected sample indices (n,)")
    samples = array.astype(np.int64)
    if (np.diff(samples) <= 0).any():
        raise SignalError("beats do not ascend, expected each sample index once, in time order")
    return samples


def as_classes(classes: ArrayLike, n_beats: int) -> NDArray[np.str_]:
    """Return classes as letters, one for each of `n_beats`.

    Raises
    ------
    SignalError
        If their number differs or one is none of N, S, V, F, Q.
    """
    letters = np.asarray(classes, dtype=np.str_).reshape(-1) if np.size(classes) else np.empty(0, dtype="<U1")
    if letters.size != n_beats:
        raise SignalError(f"{letters.size} classes for {n_beats} beats, expected one for each")
    unknown = np.setdiff1d(letters, AAMI_LETTERS)
    if unknown.size:
        raise SignalError(f"class {str(unknown[0])!r}, expected one of {', '.join(AAMI_LETTERS)}")
    return letters


def _irregularity(rr_s: _Floats) -> _Floats:
    """Return the decision function O of Petrėnas et al. for every interval."""
    padded = np.pad(rr_s, (_WINDOW_BEATS // 2, _WINDOW_BEATS // 2 - 1), mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_BEATS)
    n_pairs = _WINDOW_BEATS * (_WINDOW_BEATS - 1) / 2
    different = np.zeros(rr_s.size)
    for apart in range(1, _WINDOW_BEATS):  # seven distances between two of eight intervals
        different += (np.abs(around[:, apart:] - around[:, :-apart]) > _DIFFERENT_S).sum(axis=1)
    rr_padded = np.pad(rr_s, 1, mode="edge")
    median_s = np.median(np.lib.stride_tricks.sliding_window_view(rr_padded, 3), axis=1)
    ones = np.ones(_WINDOW_BEATS)
    shifted = np.convolve(np.pad(median_s, (4, 3), mode="reflect"), ones, "valid") / np.convolve(
        np.pad(rr_s, (4, 3), mode="reflect"), ones, "valid"
    )
    irregular = _smoothed(different / n_pairs) / _smoothed(rr_s)
    orderly = _smoothed((shifted - 1.0) ** 2)
    return np.where(orderly < _ORDERLY, orderly, irregular)


def _spread(rr_s: _Floats) -> _Floats:
    """Return how much successive intervals around each differ, over the usual interval.

    The root mean square of a normal distribution from its median, which premature beats hardly move.
    """
    steps_s = np.abs(np.diff(rr_s, prepend=rr_s[:1]))
    return np.asarray(
        ndimage.median_filter(steps_s, _SPREAD_BEATS)
        / (_MEDIAN_TO_SD * ndimage.median_filter(rr_s, _SPREAD_BEATS))
    )


def _smoothed(values: _Floats) -> _Floats:
    """Return the exponential average, run forwards and then backwards."""
    taps, recursion = [_SMOOTHING], [1.0, _SMOOTHING - 1.0]
    for _ in range(2):
        state = [(1.0 - _SMOOTHING) * values[: 2 * _WINDOW_BEATS].mean()]
        values = signal.lfilter(taps, recursion, values, zi=state)[0][::-1]
    return values


def _episodes(samples: NDArray[np.int64], irregular: NDArray[np.bool_], *, shortest: float) -> _Intervals:
    """Return the stretches of irregular beats that last long enough."""
    stretches = _true_stretches(irregular)
    if stretches.size == 0:
        return np.empty((0, 2), dtype=np.int64)
    spans = np.column_stack([samples[stretches[:, 0]], samples[stretches[:, 1] - 1] + 1])
    long = np.diff(spans, axis=1)[:, 0] >= shortest
    return np.ascontiguousarray(spans[long])


def _pattern(
    samples: NDArray[np.int64], ventricular: NDArray[np.bool_], unclear: NDArray[np.bool_], *, period: int
) -> _Intervals:
    """Return where every `period`-th beat is ventricular and no other, for at least three cycles."""
    if samples.size <= period:
        return np.empty((0, 2), dtype=np.int64)
    first = ventricular[:-period] & ventricular[period:]
    for k in range(1, period):
        first &= ~(ventricular[k : k - period] | unclear[k : k - period])
    spans = []
    for offset in range(period):  # the ventricular beats of one pattern stand at the same offset
        cycles = _true_stretches(first[offset::period])
        cycles = cycles[cycles[:, 1] - cycles[:, 0] >= _PATTERN_CYCLES - 1]
        indices = cycles * period + offset
        spans.append(np.column_stack([samples[indices[:, 0]], samples[indices[:, 1]] + 1]))
    pattern = np.concatenate(spans)
    return pattern[np.argsort(pattern[:, 0], kind="stable")]


def _true_stretches(flags: NDArray[np.bool_]) -> _Intervals:
    """Return half-open index ranges of consecutive True values, shape (n, 2)."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    return edges.reshape(-1, 2).astype(np.int64)
