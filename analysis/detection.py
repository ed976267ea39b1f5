"""How well beats, their classes, and episodes of a rhythm are found, by the comparisons of ANSI/AAMI EC57.

Theory of operation
-------------------
Reference and test beats are walked through in time order. The earlier of the two next beats is paired with the
other if they lie within the match window (150 ms, inclusive) and the other's successor is no better partner;
else it stays alone: a reference beat is missed, a test beat is extra. Pairing is one to one. Learning time (the
first 5 minutes) is left out: a test beat just before its end may still be paired with the first reference beat
after it, and a test beat just after its end that is a worse partner than the next one is not counted. Test
beats in ventricular flutter or fibrillation that the reference marks are not counted unless they pair with a
beat outside; reference annotations inside are not used.

Classes are counted over the same pairs: a matrix of reference class by test class, where O stands for no beat,
and X for no beat while the other side was switched off. Ventricular and supraventricular ectopic beats have
conventions of their own: a fusion or unclassifiable beat called ventricular is neither right nor wrong, and
neither is an unclassifiable one called supraventricular.

Episodes are compared twice: by number, where any overlap makes one found (reference) or true (test), and by
duration, where the overlap itself counts.

Source: the comparisons as `bxb` and `epicmp` of the WFDB software package state and do them (George B. Moody,
revisions of 2010), for AAMI EC38:1998, EC38:2007 and EC57:1998. Differs from them in applying the rule for the
end of learning time only where there is a learning time, and in beats not being left out in shutdown segments
that are not given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive
from protocols.errors import SignalError

MATCH_WINDOW_S: Final = 0.150
LEARNING_S: Final = 300.0

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

CLASS_ROWS: Final = ("N", "S", "V", "F", "Q", "O", "X")
"""Rows (reference) and columns (test) of a class matrix; O: no beat, X: no beat while switched off."""

_FLUTTER_STARTS, _FLUTTER_ENDS = "[", "]"
_NEVER: Final = 1 << 62


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
        return _percent(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def positive_predictivity_percent(self) -> float:
        """Share of the test beats that are beats; NaN without test beats."""
        return _percent(self.true_positives, self.true_positives + self.false_positives)

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


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How well the beats of one class are told from all others; NaN where undefined."""

    sensitivity_percent: float
    positive_predictivity_percent: float
    false_positive_rate_percent: float


@dataclass(frozen=True, slots=True, eq=False)
class ClassComparison:
    """Classes of test beats against those of reference beats, learning time left out.

    Parameters
    ----------
    counts
        Beats by reference class (row) and test class (column), shape (7, 7), in the order of `CLASS_ROWS`.
    """

    counts: NDArray[np.int64]

    def count(self, reference: str, test: str) -> int:
        """Return how many beats of class `reference` were called `test`; each may be several letters."""
        rows, columns = ([CLASS_ROWS.index(letter) for letter in letters] for letters in (reference, test))
        return int(self.counts[np.ix_(rows, columns)].sum())

    @property
    def beats(self) -> BeatScore:
        """Detection of beats of whatever class."""
        found = self.count("NSVFQ", "NSVFQ")
        missed, extra = self.count("NSVFQ", "OX"), self.count("OX", "NSVFQ")
        return BeatScore(_percent(found, found + missed), _percent(found, found + extra))

    @property
    def veb(self) -> ClassScore:
        """Ventricular ectopic beats; F and Q called V count neither as true nor as false."""
        return self._score("V", wrong="NSOX", others="NSFQOX")

    @property
    def sveb(self) -> ClassScore:
        """Supraventricular ectopic beats; Q called S counts neither as true nor as false."""
        return self._score("S", wrong="NVFOX", others="NVFQOX")

    def _score(self, letter: str, *, wrong: str, others: str) -> ClassScore:
        true, false = self.count(letter, letter), self.count(wrong, letter)
        all_of_class = self.count(letter, "NSVFQOX")
        rightly_not = self.count(others, "NSVFQ".replace(letter, ""))
        return ClassScore(
            _percent(true, all_of_class), _percent(true, true + false), _percent(false, false + rightly_not)
        )


@dataclass(frozen=True, slots=True)
class EpisodeComparison:
    """Test episodes against reference episodes, of one record or of several together; durations in seconds."""

    reference_episodes: int
    found_episodes: int
    test_episodes: int
    true_episodes: int
    reference_s: float
    test_s: float
    overlap_s: float

    @property
    def sensitivity_percent(self) -> float:
        """Share of the reference episodes that a test episode overlaps; NaN without any."""
        return _percent(self.found_episodes, self.reference_episodes)

    @property
    def positive_predictivity_percent(self) -> float:
        """Share of the test episodes that a reference episode overlaps; NaN without any."""
        return _percent(self.true_episodes, self.test_episodes)

    @property
    def duration_sensitivity_percent(self) -> float:
        """Share of the reference duration that test episodes cover; NaN without any."""
        return _percent(self.overlap_s, self.reference_s)

    @property
    def duration_positive_predictivity_percent(self) -> float:
        """Share of the test duration that reference episodes cover; NaN without any."""
        return _percent(self.overlap_s, self.test_s)


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
    indices = _as_indices(samples, name="samples")
    if len(symbols) != indices.size:
        raise SignalError(f"{len(symbols)} symbols for {indices.size} samples, expected one for each")
    marks = np.asarray(symbols, dtype=np.str_)
    flutter = _flutter_segments(indices, marks)
    classes = np.array([AAMI_CLASSES.get(symbol, "") for symbol in marks.tolist()], dtype=np.str_)
    beats = (classes != "") & ~_inside(indices, flutter)
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
    ANSI/AAMI EC57, as `bxb` does it; see the module's theory of operation.
    """
    reference, test = _as_indices(reference, name="reference"), _as_indices(test, name="test")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    window = _samples(as_positive(window_s, name="window_s", unit="s"), rate_hz)
    segments = _segments(flutter)
    if learning_s:
        start = round(as_positive(learning_s, name="learning_s", unit="s") * rate_hz)
        reference, test = _after_learning(reference, test, start=start, window=window)
    in_reference, in_test = _match(reference, test, window)
    offsets_s = (test[in_test] - reference[in_reference]) / rate_hz
    missed = np.delete(reference, in_reference)
    extra = np.delete(test, in_test)
    return BeatComparison(offsets_s, missed, extra[~_inside(extra, segments)])


def gross(comparisons: Sequence[BeatComparison]) -> BeatScore:
    """Return the score of all beats of all records together, so that long records count more."""
    matched = sum(c.true_positives for c in comparisons)
    missed = sum(c.false_negatives for c in comparisons)
    extra = sum(c.false_positives for c in comparisons)
    return BeatScore(_percent(matched, matched + missed), _percent(matched, matched + extra))


def average(comparisons: Sequence[BeatComparison]) -> BeatScore:
    """Return the mean of the records' scores, so that each counts the same; undefined ones are left out."""
    return BeatScore(
        _mean([c.sensitivity_percent for c in comparisons]),
        _mean([c.positive_predictivity_percent for c in comparisons]),
    )


def read_rhythm(
    samples: ArrayLike, notes: Sequence[str], *, starts_with: tuple[str, ...], n_samples: int
) -> NDArray[np.int64]:
    """Return where a rhythm lasts by the rhythm changes of a record, as `[start, end)` samples, shape (n, 2).

    Parameters
    ----------
    samples, notes
        Sample index and auxiliary text of every annotation, ascending; a rhythm change is a text that starts
        with "(" and lasts to the next.
    starts_with
        Beginnings of the texts that name the rhythm, such as "(AFIB".
    n_samples
        Length of the record, where the last rhythm ends.

    Raises
    ------
    SignalError
        If there are not as many notes as samples, or samples do not ascend.
    """
    indices = _as_indices(samples, name="samples")
    if len(notes) != indices.size:
        raise SignalError(f"{len(notes)} notes for {indices.size} samples, expected one for each")
    changes = [k for k, note in enumerate(notes) if note.startswith("(")]
    borders = np.append(indices[changes], n_samples)
    named = np.array([notes[k].startswith(starts_with) for k in changes], dtype=bool)
    return merged(np.column_stack([borders[:-1], borders[1:]])[named])


def compare_classes(
    reference: ArrayLike,
    reference_classes: ArrayLike,
    test: ArrayLike,
    test_classes: ArrayLike,
    *,
    rate_hz: float,
    window_s: float = MATCH_WINDOW_S,
    learning_s: float = LEARNING_S,
    flutter: ArrayLike = (),
    reference_off: ArrayLike = (),
    test_off: ArrayLike = (),
) -> ClassComparison:
    """Return the class matrix of one record.

    Parameters
    ----------
    reference, test
        Sample indices of beats, ascending, shapes (n_reference,) and (n_test,).
    reference_classes, test_classes
        N, S, V, F or Q of each.
    rate_hz, window_s, learning_s, flutter
        As for `compare_beats`.
    reference_off, test_off
        Half-open `[start, end)` sample indices in which the reference was unreadable or the detector switched
        off, shape (n_segments, 2): beats without partner inside count as X instead of O.

    Raises
    ------
    SignalError
        If indices are not ascending integers, classes do not fit them, or a parameter is out of range.

    References
    ----------
    ANSI/AAMI EC57, as `bxb` does it; see the module's theory of operation.
    """
    reference, test = _as_indices(reference, name="reference"), _as_indices(test, name="test")
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    window = _samples(as_positive(window_s, name="window_s", unit="s"), rate_hz)
    rows = _class_numbers(reference_classes, reference.size, name="reference_classes")
    columns = _class_numbers(test_classes, test.size, name="test_classes")
    if learning_s:
        start = round(as_positive(learning_s, name="learning_s", unit="s") * rate_hz)
        reference, test = _after_learning(reference, test, start=start, window=window)
        rows, columns = rows[rows.size - reference.size :], columns[columns.size - test.size :]
    in_reference, in_test = _match(reference, test, window)
    missed = np.delete(np.arange(reference.size), in_reference)
    extra = np.delete(np.arange(test.size), in_test)
    extra = extra[~_inside(test[extra], _segments(flutter))]
    no_test = CLASS_ROWS.index("O") + _inside(reference[missed], _segments(test_off))
    no_reference = CLASS_ROWS.index("O") + _inside(test[extra], _segments(reference_off))
    counts = np.zeros((len(CLASS_ROWS), len(CLASS_ROWS)), dtype=np.int64)
    np.add.at(counts, (rows[in_reference], columns[in_test]), 1)
    np.add.at(counts, (rows[missed], no_test), 1)
    np.add.at(counts, (no_reference, columns[extra]), 1)
    return ClassComparison(counts)


def compare_episodes(
    reference: ArrayLike,
    test: ArrayLike,
    *,
    rate_hz: float,
    n_samples: int,
    learning_s: float = LEARNING_S,
    excluded: ArrayLike = (),
) -> EpisodeComparison:
    """Return how the test episodes of one record compare with its reference episodes.

    Parameters
    ----------
    reference, test
        Episodes as half-open `[start, end)` sample indices, shapes (n, 2); those that touch are one.
    rate_hz
        Samples per second of both.
    n_samples
        Length of the record; what lies beyond is left out.
    learning_s
        Time from sample 0 that is left out; 0 for none.
    excluded
        Half-open intervals in which test episodes are not counted, shape (n, 2): EC38:1998 asks it of atrial
        flutter in the positive predictivity of atrial fibrillation.

    Raises
    ------
    SignalError
        If an interval is none or a parameter is out of range.

    References
    ----------
    ANSI/AAMI EC57, as `epicmp` does it; see the module's theory of operation.
    """
    rate_hz = as_positive(rate_hz, name="rate_hz", unit="Hz")
    start = round(as_positive(learning_s, name="learning_s", unit="s") * rate_hz) if learning_s else 0
    truth, found = (_clipped(merged(episodes), start, n_samples) for episodes in (reference, test))
    outside = _without(found, merged(excluded))
    return EpisodeComparison(
        reference_episodes=len(truth),
        found_episodes=int((_overlaps(truth, found) > 0).sum()),
        test_episodes=len(outside),
        true_episodes=int((_overlaps(outside, truth) > 0).sum()),
        reference_s=float(np.diff(truth, axis=1).sum()) / rate_hz,
        test_s=float(np.diff(outside, axis=1).sum()) / rate_hz,
        overlap_s=float(_overlaps(truth, found).sum()) / rate_hz,
    )


def gross_classes(comparisons: Sequence[ClassComparison]) -> ClassComparison:
    """Return the class matrix of all beats of all records together."""
    return ClassComparison(sum((c.counts for c in comparisons), np.zeros((7, 7), dtype=np.int64)))


def gross_episodes(comparisons: Sequence[EpisodeComparison]) -> EpisodeComparison:
    """Return the comparison of all episodes of all records together."""
    return EpisodeComparison(
        sum(c.reference_episodes for c in comparisons),
        sum(c.found_episodes for c in comparisons),
        sum(c.test_episodes for c in comparisons),
        sum(c.true_episodes for c in comparisons),
        sum(c.reference_s for c in comparisons),
        sum(c.test_s for c in comparisons),
        sum(c.overlap_s for c in comparisons),
    )


def merged(intervals: ArrayLike) -> NDArray[np.int64]:
    """Return half-open intervals in ascending order, those that touch or overlap made one, shape (n, 2).

    Raises
    ------
    SignalError
        If they are no integers of shape (n, 2), or one ends before it starts.
    """
    spans = _segments(intervals)
    if (spans[:, 1] < spans[:, 0]).any():
        raise SignalError("an interval ends before it starts, expected [start, end)")
    spans = spans[spans[:, 1] > spans[:, 0]]
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    ends = np.maximum.accumulate(spans[:, 1]) if spans.size else spans[:, 1]
    first = np.append(True, spans[1:, 0] > ends[:-1])[: len(spans)]
    last = np.append(first[1:], True)[: len(spans)]
    return np.column_stack([spans[first, 0], ends[last]])


def _percent(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole else float("nan")


def _mean(scores: list[float]) -> float:
    defined = [score for score in scores if not math.isnan(score)]
    return sum(defined) / len(defined) if defined else float("nan")


def _samples(duration_s: float, rate_hz: float) -> int:
    """Return how many whole samples fit, forgiving the rounding error of the product."""
    return int(duration_s * rate_hz + 1e-6)


def _as_indices(values: ArrayLike, *, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise SignalError(
            f"{name} of shape {array.shape} and dtype {array.dtype}, expected sample indices (n,)"
        )
    indices = array.astype(np.int64)
    if (np.diff(indices) < 0).any():
        raise SignalError(f"{name} do not ascend, expected sample indices in time order")
    return indices


def _segments(intervals: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(intervals)
    if array.size == 0:
        return np.empty((0, 2), dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        raise SignalError(f"intervals of shape {array.shape} and dtype {array.dtype}, expected integers (n, 2)")
    return array.astype(np.int64)


def _class_numbers(classes: ArrayLike, n_beats: int, *, name: str) -> NDArray[np.intp]:
    """Return the row of every class in a class matrix."""
    letters = np.asarray(classes, dtype=np.str_).ravel() if np.size(classes) else np.empty(0, dtype=np.str_)
    if letters.size != n_beats:
        raise SignalError(f"{letters.size} {name} for {n_beats} beats, expected one for each")
    equal = letters[:, np.newaxis] == np.array(CLASS_ROWS[:5])
    if not equal.any(axis=1).all():
        raise SignalError(f"{name}: {letters[~equal.any(axis=1)][0]!s}, expected one of N, S, V, F, Q")
    return np.asarray(equal.argmax(axis=1))


def _clipped(spans: NDArray[np.int64], start: int, end: int) -> NDArray[np.int64]:
    spans = np.clip(spans, start, max(start, end))
    return spans[spans[:, 1] > spans[:, 0]]


def _overlaps(spans: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many samples of each interval lie in any of the others, both merged."""
    return _covered(others, spans[:, 1]) - _covered(others, spans[:, 0])


def _covered(spans: NDArray[np.int64], until: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many samples of merged intervals lie before each of `until`."""
    before = np.append(0, np.cumsum(spans[:, 1] - spans[:, 0]))
    number = np.searchsorted(spans[:, 0], until)
    if spans.size == 0:
        return np.zeros(until.size, dtype=np.int64)
    beyond = np.maximum(spans[number - 1, 1] - until, 0)
    return np.asarray(before[number] - np.where(number > 0, beyond, 0))


def _without(spans: NDArray[np.int64], excluded: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return merged intervals without the parts that are excluded."""
    borders = np.unique(np.concatenate([spans.ravel(), excluded.ravel()]))
    pieces = np.column_stack([borders[:-1], borders[1:]])
    inside = (_overlaps(pieces, spans) > 0) & ~(_overlaps(pieces, excluded) > 0)
    return merged(pieces[inside])


def _flutter_segments(samples: NDArray[np.int64], symbols: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return `[start, end)` of each flutter; both marks are inside, one that is not ended lasts for ever."""
    segments: list[tuple[int, int]] = []
    for index in np.flatnonzero(np.isin(symbols, (_FLUTTER_STARTS, _FLUTTER_ENDS))):
        open_now = bool(segments) and segments[-1][1] == _NEVER
        if symbols[index] == _FLUTTER_STARTS and not open_now:
            segments.append((int(samples[index]), _NEVER))
        elif symbols[index] == _FLUTTER_ENDS and open_now:
            segments[-1] = (segments[-1][0], int(samples[index]) + 1)
    return np.array(segments, dtype=np.int64).reshape(-1, 2)


def _inside(samples: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.bool_]:
    inside = np.zeros(samples.size, dtype=bool)
    for start, end in segments:
        inside |= (samples >= start) & (samples < end)
    return inside


def _after_learning(
    reference: NDArray[np.int64], test: NDArray[np.int64], *, start: int, window: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the beats that take part once learning ends at sample `start`."""
    reference = reference[np.searchsorted(reference, start) :]
    first_after = int(np.searchsorted(test, start))
    first_reference = _at(reference, 0)
    last_learnt, first, second = (_at(test, first_after + k) for k in (-1, 0, 1))
    if first_after > 0:
        distance = first_reference - last_learnt
        if distance <= window and distance < abs(first_reference - first):
            return reference, test[first_after - 1 :]
    if first - start <= window and abs(first_reference - second) < abs(first_reference - first):
        first_after += 1
    return reference, test[first_after:]


def _at(samples: NDArray[np.int64], index: int) -> int:
    return int(samples[index]) if 0 <= index < samples.size else _NEVER


def _match(
    reference: NDArray[np.int64], test: NDArray[np.int64], window: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of the paired beats in `reference` and in `test`.

    Beats more than a window apart cannot influence one another, so the beats fall into groups; one of each kind
    is a pair, and only the rare group with more of both is walked through.
    """
    times = np.concatenate([reference, test])
    order = np.argsort(times, kind="stable")
    group = np.empty(times.size, dtype=np.intp)
    group[order] = np.cumsum(np.diff(times[order], prepend=times[order][:1]) > window)
    reference_group, test_group = group[: reference.size], group[reference.size :]
    n_groups = int(group.max()) + 1 if group.size else 0
    in_reference = np.bincount(reference_group, minlength=n_groups)
    in_test = np.bincount(test_group, minlength=n_groups)
    single = (in_reference == 1) & (in_test == 1)
    pairs = [np.column_stack([np.flatnonzero(single[reference_group]), np.flatnonzero(single[test_group])])]
    for crowded in np.flatnonzero((in_reference > 0) & (in_test > 0) & ~single):
        of_reference, of_test = _members(reference_group, int(crowded)), _members(test_group, int(crowded))
        walked = _walk(reference, test, window, of_reference, of_test)
        pairs.append(np.array(walked, dtype=np.intp).reshape(-1, 2))
    matched = np.concatenate(pairs)
    return matched[:, 0], matched[:, 1]


def _members(groups: NDArray[np.intp], group: int) -> range:
    """Return where `group` stands in ascending `groups`."""
    return range(int(np.searchsorted(groups, group)), int(np.searchsorted(groups, group, side="right")))


def _walk(
    reference: NDArray[np.int64],
    test: NDArray[np.int64],
    window: int,
    of_reference: range,
    of_test: range,
) -> list[tuple[int, int]]:
    """Return the pairs among two ranges of beats, walking in time order."""
    pairs = []
    i, j = of_reference.start, of_test.start
    while i in of_reference and j in of_test:
        distance = abs(_at(test, j) - _at(reference, i))
        next_distance = abs(_at(test, j + 1) - _at(reference, i + 1))
        test_is_first = test[j] < reference[i]
        other = abs(reference[i] - _at(test, j + 1)) if test_is_first else abs(test[j] - _at(reference, i + 1))
        if distance <= window and (distance < other or next_distance < other):
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif test_is_first:
            j += 1
        else:
            i += 1
    return pairs
