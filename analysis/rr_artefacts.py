"""Artefacts in a series of RR intervals: which intervals are no normal ones, and the series without them.

A missed beat makes one interval of two, an extra beat makes two of one, an ectopic beat comes early and is
followed by a pause. Left in, a handful of them rules every figure of variability. Three ways out:
`physiological` and `malik_rule` reject intervals (NaN); `correct_rr` classifies and repairs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from analysis.arrays import as_positive, as_signal
from protocols.errors import SignalError

NORMAL: Final = 0
ECTOPIC: Final = 1
MISSED: Final = 2
EXTRA: Final = 3
LONG: Final = 4
SHORT: Final = 5
KINDS: Final = ("normal", "ectopic", "missed", "extra", "long", "short")
"""Names of the kinds, by their number."""

SHORTEST_RR_MS: Final = 300.0  # 200 beats/min
LONGEST_RR_MS: Final = 2000.0  # 30 beats/min
LONGEST_PAUSE_MS: Final = 60_000.0
"""No heart pauses for a minute: above, the unit is wrong."""
_LEAST_MS: Final = 10.0  # 6,000 beats/min: the unit is wrong, seconds most likely

_ALPHA: Final = 5.2  # Lipponen & Tarvainen 2019: quartile deviations that hold 99.95 % of normal differences
_SPREAD_BEATS: Final = 91  # Lipponen & Tarvainen 2019: beats of the local quartile deviation
_MEDIAN_BEATS: Final = 11  # Lipponen & Tarvainen 2019: beats of the local median
_C1: Final = 0.13  # Lipponen & Tarvainen 2019: slope and ...
_C2: Final = 0.17  # ... intercept of the ectopic subspace
_LONG_LIMIT: Final = 3.0  # Lipponen & Tarvainen 2019: deviations from the median, in thresholds
_BLOCK_BEATS: Final = 8192  # judged at once
_MARGIN_BEATS: Final = 128  # a kind depends on 48 beats to either side, and a block needs 91 in all
_LEAST_THRESHOLD_MS: Final = 1.0  # resolution of an RR series; a constant rhythm has no spread of its own

_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class CorrectedRr:
    """A repaired series and what was done to it.

    Parameters
    ----------
    rr_ms
        Repaired intervals, shape (m,): one more than before for each missed beat, one less for each extra one.
    kinds
        What each interval of the input was, shape (n,): an index of `KINDS`.
    was_corrected
        Which of `rr_ms` are not as measured, shape (m,).
    """

    rr_ms: _Floats
    kinds: NDArray[np.int8]
    was_corrected: NDArray[np.bool_]

    @property
    def counts(self) -> dict[str, int]:
        """How many intervals of the input were of each kind but normal."""
        of_kind = np.bincount(self.kinds, minlength=len(KINDS))
        return {name: int(of_kind[kind]) for kind, name in enumerate(KINDS) if kind != NORMAL}

    @property
    def corrected_share(self) -> float:
        """Share of the input's intervals that were no normal ones, 0 to 1; NaN for an empty series."""
        return float(np.mean(self.kinds != NORMAL)) if self.kinds.size else float("nan")


def as_rr_ms(rr_ms: ArrayLike) -> _Floats:
    """Return RR intervals in ms as float64, shape (..., n_beats), NaN where rejected.

    Raises
    ------
    SignalError
        If there is no beat axis, a value is infinite, not above 0 or above one minute, or if all are below
        10 ms (seconds given for ms).
    """
    values = np.asarray(as_signal(rr_ms, name="rr_ms"), dtype=np.float64)
    if values.size:
        least, largest = float(np.fmin.reduce(values, axis=None)), float(np.fmax.reduce(values, axis=None))
        if least <= 0.0 or largest > LONGEST_PAUSE_MS or largest < _LEAST_MS:
            raise SignalError(f"rr_ms from {least:g} to {largest:g}, expected intervals in ms, 0 to 60000")
    return values


def physiological(
    rr_ms: ArrayLike, *, shortest_ms: float = SHORTEST_RR_MS, longest_ms: float = LONGEST_RR_MS
) -> _Floats:
    """Return `rr_ms`, shape (..., n), with NaN for every interval outside `[shortest_ms, longest_ms]`.

    The limits are 200 and 30 beats/min, the round figures in general use for adults at rest.
    """
    shortest_ms = as_positive(shortest_ms, name="shortest_ms", unit="ms")
    longest_ms = as_positive(longest_ms, name="longest_ms", unit="ms")
    values = as_rr_ms(rr_ms)
    return np.where((values >= shortest_ms) & (values <= longest_ms), values, np.nan)


def malik_rule(rr_ms: ArrayLike, *, limit: float = 0.20) -> _Floats:
    """Return `rr_ms`, shape (..., n), with NaN for every interval that differs too much from the one before.

    Parameters
    ----------
    rr_ms
        NaN marks rejected beats; an interval after one is kept, as there is nothing to compare it with.
    limit
        Largest difference, as a share of the interval before (as measured, whether it was rejected or not).

    References
    ----------
    Malik et al. 1989, doi:10.1093/oxfordjournals.eurheartj.a059429: 20 %.
    """
    limit = as_positive(limit, name="limit", unit="1")
    values = as_rr_ms(rr_ms)
    rejected = np.zeros(values.shape, dtype=bool)
    rejected[..., 1:] = np.abs(np.diff(values, axis=-1)) > limit * values[..., :-1]
    return np.where(rejected, np.nan, values)


def bridged(rr_ms: ArrayLike) -> _Floats:
    """Return `rr_ms`, shape (..., n), with each run of NaN replaced by a straight line between its neighbours.

    At the ends the nearest interval is repeated; a row without any interval stays NaN.
    """
    values = as_rr_ms(rr_ms)
    missing = np.isnan(values)
    if not missing.any():
        return values
    filled = values.copy()
    for row in np.ndindex(values.shape[:-1]):  # rows have gaps of their own
        gaps = missing[row]
        if gaps.any() and not gaps.all():
            present = np.flatnonzero(~gaps)
            filled[row][gaps] = np.interp(np.flatnonzero(gaps), present, values[row][present])
    return filled


def classify_rr(rr_ms: ArrayLike) -> NDArray[np.int8]:
    """Return the kind of every interval, an index of `KINDS`, same shape (..., n); a NaN is normal.

    References
    ----------
    Lipponen & Tarvainen 2019, doi:10.1080/03091902.2019.1640306.

    Differs from it in bridging rejected beats before, in a threshold of at least 1 ms, in mirrored ends of the
    windows of 91 and 11 beats, in taking the quartile deviation of the signed values (5.2 of those hold the
    99.95 % of normal differences that the paper states), in judging all beats at once (no repetition after a
    repair), and in counting the two parts of an interval that an extra beat split as one artefact.
    """
    values = bridged(rr_ms)
    kinds = np.zeros(values.shape, dtype=np.int8)
    if values.shape[-1] < 3:
        return kinds
    n_beats = values.shape[-1]
    for row in np.ndindex(values.shape[:-1]):  # rows, and blocks of them, keep memory bounded
        if np.isnan(values[row][0]):
            continue  # no interval at all
        for start in range(0, n_beats, _BLOCK_BEATS):
            first, end = max(start - _MARGIN_BEATS, 0), min(start + _BLOCK_BEATS, n_beats)
            of_block = _classify(values[row][first : end + _MARGIN_BEATS])
            kinds[row][start:end] = of_block[start - first : end - first]
    kinds[np.isnan(as_rr_ms(rr_ms))] = NORMAL
    return kinds


def correct_rr(rr_ms: ArrayLike) -> CorrectedRr:
    """Return one series with its artefacts repaired.

    Parameters
    ----------
    rr_ms
        Shape (n,); a NaN stays one.

    Returns
    -------
    A missed beat's interval is halved, an extra beat's interval joins the next one, and an ectopic,
    long or short one is replaced on the straight line between its nearest normal neighbours.

    Raises
    ------
    SignalError
        If `rr_ms` is not one series of intervals in ms.

    References
    ----------
    As `classify_rr`. Differs in interpolating on a line instead of a cubic spline, which overshoots in runs.
    """
    values = as_rr_ms(rr_ms)
    if values.ndim != 1:
        raise SignalError(f"rr_ms of shape {values.shape}, expected one series (n,)")
    kinds = classify_rr(values)
    joined, touched, of_kind = _joined(values, kinds)
    replaced = np.isin(of_kind, (ECTOPIC, LONG, SHORT))
    usable = np.flatnonzero((of_kind == NORMAL) & ~np.isnan(joined))
    if usable.size:
        joined[replaced] = np.interp(np.flatnonzero(replaced), usable, joined[usable])
    missed = of_kind == MISSED
    joined[missed] /= 2.0
    repeats = np.where(missed, 2, 1)
    touched |= missed | replaced
    return CorrectedRr(np.repeat(joined, repeats), kinds, np.repeat(touched, repeats))


def _classify(rr_ms: _Floats) -> NDArray[np.int8]:
    differences = np.diff(rr_ms, prepend=rr_ms[0])
    differences[0] = differences[1:].mean()
    differences /= _threshold_ms(differences)
    median = ndimage.median_filter(rr_ms, size=_MEDIAN_BEATS, mode="reflect")
    deviations = rr_ms - median
    deviations[deviations < 0.0] *= 2.0
    threshold = _threshold_ms(deviations)
    large = np.abs(differences) > 1.0
    before, after, second = (_shifted(differences, by) for by in (-1, 1, 2))
    rises = differences > 0.0
    around = np.where(rises, np.maximum(before, after), np.minimum(before, after))
    ectopic = large & np.where(rises, around < -_C1 * differences - _C2, around > -_C1 * differences + _C2)
    following = np.where(rises, np.minimum(after, second), np.maximum(after, second))
    far = deviations / threshold
    long = ~ectopic & ((large & rises & (following < -1.0)) | (far > _LONG_LIMIT))
    short = ~ectopic & ~long & ((large & ~rises & (following > 1.0)) | (far < -_LONG_LIMIT))
    missed = long & (np.abs(rr_ms / 2.0 - median) < threshold)
    next_rr_ms = np.append(rr_ms[1:], rr_ms[-1])
    extra = short & (np.abs(rr_ms + next_rr_ms - median) < threshold)
    extra[1:] &= ~extra[:-1]
    short[1:] &= ~extra[:-1]  # the other part of an interval that an extra beat split
    return np.select(
        [ectopic, missed, extra & short, long, short], [ECTOPIC, MISSED, EXTRA, LONG, SHORT], NORMAL
    ).astype(np.int8)


def _threshold_ms(deviations: _Floats) -> _Floats:
    """Return 5.2 local quartile deviations."""
    size = min(_SPREAD_BEATS, (deviations.size - 1) // 2 * 2 + 1)
    quartiles = [ndimage.percentile_filter(deviations, q, size=size, mode="reflect") for q in (75, 25)]
    return np.asarray(np.maximum(_ALPHA * (quartiles[0] - quartiles[1]) / 2.0, _LEAST_THRESHOLD_MS))


def _shifted(values: _Floats, by: int) -> _Floats:
    """Return what stands `by` beats later, 0 beyond the ends."""
    out = np.zeros_like(values)
    if by > 0:
        out[:-by] = values[by:]
    else:
        out[-by:] = values[:by]
    return out


def _joined(values: _Floats, kinds: NDArray[np.int8]) -> tuple[_Floats, NDArray[np.bool_], NDArray[np.int8]]:
    """Return the series with extra beats' intervals added to the next one, what was touched, and the kinds."""
    joined, touched, of_kind = values.copy(), np.zeros(values.size, dtype=bool), kinds.copy()
    extra = np.flatnonzero(kinds[:-1] == EXTRA)
    extra = extra[np.diff(extra, prepend=-2) > 1]
    joined[extra + 1] += joined[extra]
    touched[extra + 1] = True
    of_kind[extra + 1] = NORMAL
    return np.delete(joined, extra), np.delete(touched, extra), np.delete(of_kind, extra)
