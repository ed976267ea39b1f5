"""What one side says of a record: beats with their classes, and episodes of fibrillation.

An annotator, or a device that hands out its own findings, says it by marks: MIT symbols for beats, `[` and `]`
around ventricular flutter or fibrillation, and a text that begins with "(" where a rhythm begins, such as
"(AFIB", lasting to the next such text. This software's own detector says it by what it finds in a lead. Both
come out alike, so that either can be compared with a reference.

Who marks no rhythm at all has said nothing of rhythms: that is not the same as having found none.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive
from analysis.beat_matching import as_indices
from analysis.detection import AAMI_CLASSES, read_annotations
from analysis.detection_episodes import read_rhythm
from analysis.ecg_rhythm import ecg_rhythm
from analysis.heartbeats import detect_qrs
from analysis.intervals import intersection, intervals_of, union

ATRIAL_FIBRILLATION: Final = ("(AFIB",)
ATRIAL_FLUTTER: Final = ("(AFL",)
VENTRICULAR: Final = ("(VFL", "(VF")
"""Texts of ventricular flutter and fibrillation, which EC57 takes together."""
LONGEST_PIECE_S: Final = 3600.0
"""A longer lead is judged in pieces, so that a day needs no more memory than an hour. Whole windows of 10 s, as
signal quality is told of these."""

_SHORTEST_LEAD_S: Final = 1.0  # what `ecg_rhythm` asks for
_SHORTEST_PIECE_S: Final = 60.0  # a usual beat needs some to be the usual one of; a shorter rest joins the last

_Intervals: TypeAlias = NDArray[np.int64]


def _none() -> _Intervals:
    return np.empty((0, 2), dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class BeatMarks:
    """What one side says; intervals are half-open `[start, end)` sample indices, shape (n, 2).

    Parameters
    ----------
    samples
        Sample index of every beat, ascending, shape (n_beats,).
    classes
        N, S, V, F or Q of every beat, shape (n_beats,); None where it tells no classes.
    atrial_fibrillation, ventricular_fibrillation
        Episodes, the latter with flutter; None where it says nothing of rhythms.
    atrial_flutter
        Episodes, in which atrial fibrillation is not compared.
    off
        Where it had no samples to look at.
    undetermined
        Where it said that the signal was too poor.
    paced
        Whether any beat is paced or a fusion with a paced one.
    """

    samples: NDArray[np.int64]
    classes: NDArray[np.str_] | None = None
    atrial_fibrillation: _Intervals | None = None
    ventricular_fibrillation: _Intervals | None = None
    atrial_flutter: _Intervals = field(default_factory=_none)
    off: _Intervals = field(default_factory=_none)
    undetermined: _Intervals = field(default_factory=_none)
    paced: bool = False

    def resampled(self, factor: float) -> BeatMarks:
        """Return the same with all sample indices multiplied, as another rate counts them."""
        if factor == 1.0:
            return self

        def scaled(indices: Any) -> Any:
            return None if indices is None else np.rint(indices * factor).astype(np.int64)

        names = (
            "samples",
            "atrial_fibrillation",
            "ventricular_fibrillation",
            "atrial_flutter",
            "off",
            "undetermined",
        )
        return replace(self, **{name: scaled(getattr(self, name)) for name in names})


def read_marks(samples: ArrayLike, symbols: Sequence[str], *, n_samples: int) -> BeatMarks:
    """Return what an annotator's or a device's marks say.

    Parameters
    ----------
    samples
        Sample index of every mark, ascending, shape (n,).
    symbols
        MIT symbol of every mark, or its text where a rhythm begins, n of them.
    n_samples
        Length of the record, where the last rhythm ends.

    Returns
    -------
    See `BeatMarks`; beats inside ventricular fibrillation are kept.

    Raises
    ------
    SignalError
        If there are not as many symbols as samples, or samples do not ascend.
    """
    indices = as_indices(samples, name="samples")
    annotated = read_annotations(indices, symbols)
    letters = np.array([AAMI_CLASSES.get(symbol, "") for symbol in symbols], dtype="<U1")
    beats = letters != ""
    rhythms = _rhythms(indices, symbols, n_samples)
    if any(symbol.startswith("(") for symbol in symbols) or annotated.flutter.size:
        flutter = np.clip(annotated.flutter, 0, n_samples)  # one that is not ended lasts to the end
        atrial, ventricular = rhythms(ATRIAL_FIBRILLATION), union(flutter, rhythms(VENTRICULAR))
    else:
        atrial = ventricular = None
    return BeatMarks(
        indices[beats],
        letters[beats],
        atrial,
        ventricular,
        rhythms(ATRIAL_FLUTTER),
        paced=annotated.paced,
    )


def marks_of_lead(ecg: ArrayLike, *, rate_hz: float, rhythms: bool = True) -> BeatMarks:
    """Return what this software's own detector finds in one lead.

    Parameters
    ----------
    ecg
        Shape (n_samples,), in any unit and polarity, NaN where missing.
    rate_hz
        Sampling rate, at least 100.
    rhythms
        Whether classes and episodes are wanted; without them it takes a thirtieth of the time.

    Returns
    -------
    See `BeatMarks`. Beats inside what is told as ventricular fibrillation have the class Q.

    Raises
    ------
    SignalError
        As `detect_qrs` and `ecg_rhythm`.
    """
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    lead = np.asarray(ecg)
    beats = detect_qrs(lead, rate_hz=rate_hz)
    off = intervals_of(np.isnan(lead)) if lead.dtype.kind == "f" else _none()
    if not rhythms or lead.size < _SHORTEST_LEAD_S * rate_hz:
        return BeatMarks(beats, off=off)
    classes = np.full(beats.size, "Q", dtype="<U1")
    atrial, ventricular, undetermined = [_none()], [_none()], [_none()]
    borders = _pieces(lead.size, rate_hz)
    for start, end in itertools.pairwise(borders):
        first, last = np.searchsorted(beats, [start, end])
        found = ecg_rhythm(lead[start:end], beats[first:last] - start, rate_hz=rate_hz)
        classes[first + np.flatnonzero(np.isin(beats[first:last] - start, found.beats))] = found.classes
        atrial.append(found.atrial_fibrillation + start)
        ventricular.append(found.ventricular_fibrillation + start)
        undetermined.append(found.undetermined + start)
    return BeatMarks(
        beats,
        classes,
        _joined_at(atrial, beats, np.array(borders[1:-1], dtype=np.int64)),
        union(*ventricular),
        off=off,
        undetermined=union(*undetermined),
    )


def _pieces(n_samples: int, rate_hz: float) -> list[int]:
    """Return where pieces begin, and the end of the last."""
    step = LONGEST_PIECE_S * rate_hz
    n_pieces = max(1, math.ceil((n_samples - _SHORTEST_PIECE_S * rate_hz) / step))
    return [*(round(k * step) for k in range(n_pieces)), n_samples]


def _joined_at(
    episodes: Sequence[_Intervals], beats: NDArray[np.int64], borders: NDArray[np.int64]
) -> _Intervals:
    """Return episodes of all pieces; two that reach the beats on either side of a border are one."""
    found = union(*episodes)
    after = np.searchsorted(beats, borders)
    whole = (after > 0) & (after < beats.size)
    bridges = np.column_stack([beats[after[whole] - 1], beats[after[whole]] + 1])
    both = [
        bridge
        for bridge in bridges.astype(np.int64)
        if len(intersection(found, [[bridge[0], bridge[0] + 1]]))
        and len(intersection(found, [[bridge[1] - 1, bridge[1]]]))
    ]
    return union(found, np.array(both, dtype=np.int64).reshape(-1, 2))


def _rhythms(indices: NDArray[np.int64], symbols: Sequence[str], n_samples: int) -> Any:
    """Return what tells where a rhythm lasts, by the beginnings of its texts."""

    def where(starts_with: tuple[str, ...]) -> _Intervals:
        return read_rhythm(indices, symbols, starts_with=starts_with, n_samples=n_samples)

    return where
