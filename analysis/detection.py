"""How well beats are found, by the beat-by-beat comparison of ANSI/AAMI EC57.

Beats are paired as `beat_matching` tells. Only annotations that mark a beat count: rhythm, noise and comments
do not. Test beats in ventricular flutter or fibrillation that the reference marks are not counted unless they
pair with a beat outside; reference annotations inside are not used. Scores are gross (all beats of all records
together) and average (mean of the records). Classes of beats are compared in `detection_classes`, episodes of
a rhythm in `detection_episodes`.

Source: as `beat_matching`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.beat_matching import LEARNING_S, MATCH_WINDOW_S, NEVER, as_indices, inside, pair_beats
from analysis.intervals import as_intervals
from protocols.errors import SignalError

AAMI_CLASSES: Final = {
    "N": "N",  # normal
    "L": "N",  # left bundle branch block
    "R": "N",  # right bundle branch block
    "B": "N",  # bundle branch block, unspecified
    "A": "S",  # atrial premature
    "a": "S",  # aberrated atrial premature
    "J": "S",  # nodal premature
    "S": "S",  # supraventricular premature
    "e": "S",  # atrial escape
    "j": "S",  # nodal escape
    "n": "S",  # supraventricular escape
    "V": "V",  # premature ventricular
    "r": "V",  # R-on-T premature ventricular
    "E": "V",  # ventricular escape
    "F": "F",  # fusion of ventricular and normal
    "/": "Q",  # paced
    "f": "Q",  # fusion of paced and normal
    "Q": "Q",  # unclassifiable
    "?": "Q",  # not classified during learning
}
"""MIT annotation symbol of a beat -> class N, S, V, F or Q. Every other symbol (rhythm, noise, comment, blocked
P wave, flutter wave `!`, pacing spike, …) is no beat."""


_FLUTTER_STARTS, _FLUTTER_ENDS = "[", "]"


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceBeats:
    """What an annotator says: beats, their AAMI classes, and segments of ventricular flutter or fibrillation.

    Parameters
    ----------
    samples
        Sample index of every beat outside flutter, ascending, shape (n_beats,).
    classes
        N, S, V, F or Q of every beat, shape (n_beats,).
    flutter
        Half-open `[start, end)` sample indices, shape (n_segments, 2).
    paced
        Whether any beat is paced or a fusion with a paced one.
    """

    samples: NDArray[np.int64]
    classes: NDArray[np.str_]
    flutter: NDArray[np.int64]
    paced: bool


@dataclass(frozen=True, slots=True, eq=False)
class BeatComparison:
    """Test beats against reference beats of one record, learning time left out.

    Parameters
    ----------
    offsets_s
        Test minus reference time of every matched pair, shape (n_true_positives,).
    missed
        Sample indices of the reference beats without partner.
    extra
        Sample indices of the test beats without partner.
    """

    offsets_s: NDArray[np.float64]
    missed: NDArray[np.int64]
    extra: NDArray[np.int64]

    @property
    def true_positives(self) -> int:
        """Matched pairs."""
        return int(self.offsets_s.size)

    @property
    def false_negatives(self) -> int:
        """Missed reference beats."""
        return int(self.missed.size)

    @property
    def false_positives(self) -> int:
        """Extra test beats."""
        return int(self.extra.size)

    @property
    def sensitivity_percent(self) -> float:
        """Share of the reference beats that were found; NaN without reference beats."""
        return percent(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def positive_predictivity_percent(self) -> float:
        """Share of the test beats that are beats; NaN without test beats."""
        return percent(self.true_positives, self.true_positives + self.false_positives)

    @property
    def median_offset_s(self) -> float:
        """Median of test minus reference time; NaN without matched pairs."""
        return float(np.median(self.offsets_s)) if self.offsets_s.size else float("nan")

    @property
    def jitter_s(self) -> float:
        """Standard deviation (n - 1) of test minus reference time; NaN below two matched pairs."""
        return float(np.std(self.offsets_s, ddof=1)) if self.offsets_s.size > 1 else float("nan")


@dataclass(frozen=True, slots=True)
class BeatScore:
    """Sensitivity and positive predictivity over several records; NaN where undefined."""

    sensitivity_percent: float
    positive_predictivity_percent: float


def read_annotations(samples: ArrayLike, symbols: Sequence[str]) -> ReferenceBeats:
    """Return the beats among the annotations of a record.

    Parameters
    ----------
    samples
        Sample index of every annotation, ascending, shape (n,).
    symbols
        MIT annotation symbol of every annotation, n of them.

    Raises
    ------
    SignalError
        If there are not as many symbols as samples, or samples do not ascend.
    """
    indices = as_indices(samples, name="samples")
    if len(symbols) != indices.size:
        raise SignalError(f"{len(symbols)} symbols for {indices.size} samples, expected one for each")
    marks = np.asarray(symbols, dtype=np.str_)
    flutter = _flutter_segments(indices, marks)
    classes = np.array([AAMI_CLASSES.get(symbol, "") for symbol in marks.tolist()], dtype=np.str_)
    beats = (classes != "") & ~inside(indices, flutter)
    paced = bool(np.isin(marks, ("/", "f")).any())
    return ReferenceBeats(indices[beats], classes[beats], flutter, paced)


def compare_beats(
    reference: ArrayLike,
    test: ArrayLike,
    *,
    rate_hz: float,
    window_s: float = MATCH_WINDOW_S,
    learning_s: float = LEARNING_S,
    flutter: ArrayLike = (),
) -> BeatComparison:
    """Return how the test beats of one record compare with its reference beats.

    Parameters
    ----------
    reference, test
        Sample indices of beats, ascending, shapes (n_reference,) and (n_test,).
    rate_hz
        Samples per second of both.
    window_s
        Largest distance of a pair, inclusive.
    learning_s
        Time from sample 0 that is left out; 0 for none.
    flutter
        Half-open `[start, end)` sample indices in which extra test beats are not counted, shape (n_segments,
        2).

    Raises
    ------
    SignalError
        If indices are not ascending integers or a parameter is out of range.

    References
    ----------
    ANSI/AAMI EC57, as `bxb` does it; see `beat_matching`.
    """
    reference, test = as_indices(reference, name="reference"), as_indices(test, name="test")
    segments = as_intervals(flutter, name="flutter")
    pairs = pair_beats(reference, test, rate_hz=rate_hz, window_s=window_s, learning_s=learning_s)
    offsets_s = (test[pairs.in_test] - reference[pairs.in_reference]) / rate_hz
    extra = test[pairs.extra]
    return BeatComparison(offsets_s, reference[pairs.missed], extra[~inside(extra, segments)])


def gross(comparisons: Sequence[BeatComparison]) -> BeatScore:
    """Return the score of all beats of all records together, so that long records count more."""
    matched = sum(c.true_positives for c in comparisons)
    missed = sum(c.false_negatives for c in comparisons)
    extra = sum(c.false_positives for c in comparisons)
    return BeatScore(percent(matched, matched + missed), percent(matched, matched + extra))


def average(comparisons: Sequence[BeatComparison]) -> BeatScore:
    """Return the mean of the records' scores, so that each counts the same; undefined ones are left out."""
    return BeatScore(
        _mean([c.sensitivity_percent for c in comparisons]),
        _mean([c.positive_predictivity_percent for c in comparisons]),
    )


def percent(part: float, whole: float) -> float:
    """Return `part` of `whole` in percent; NaN of nothing."""
    return 100.0 * part / whole if whole else float("nan")


def _mean(scores: list[float]) -> float:
    defined = [score for score in scores if not math.isnan(score)]
    return sum(defined) / len(defined) if defined else float("nan")


def _flutter_segments(samples: NDArray[np.int64], symbols: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return `[start, end)` of each flutter; both marks are inside, one that is not ended lasts for ever."""
    segments: list[tuple[int, int]] = []
    for index in np.flatnonzero(np.isin(symbols, (_FLUTTER_STARTS, _FLUTTER_ENDS))):
        open_now = bool(segments) and segments[-1][1] == NEVER
        if symbols[index] == _FLUTTER_STARTS and not open_now:
            segments.append((int(samples[index]), NEVER))
        elif symbols[index] == _FLUTTER_ENDS and open_now:
            segments[-1] = (segments[-1][0], int(samples[index]) + 1)
    return np.array(segments, dtype=np.int64).reshape(-1, 2)
