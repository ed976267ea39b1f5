"""How well the classes of beats are told, by the class matrix of ANSI/AAMI EC57.

Classes are counted over the pairs of `beat_matching`: a matrix of reference class by test class, where O stands
for no beat, and X for no beat while the other side was switched off. Ventricular and supraventricular ectopic
beats have conventions of their own: a fusion or unclassifiable beat called ventricular is neither right nor
wrong, and neither is an unclassifiable one called supraventricular.

Source: as `beat_matching`. Differs from it in beats not being left out in shutdown segments that are not given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.beat_matching import LEARNING_S, MATCH_WINDOW_S, as_indices, inside, pair_beats
from analysis.detection import BeatScore, percent
from analysis.intervals import as_intervals
from protocols.errors import SignalError

CLASS_ROWS: Final = ("N", "S", "V", "F", "Q", "O", "X")
"""Rows (reference) and columns (test) of a class matrix; O: no beat, X: no beat while switched off."""

_WRONG: Final = {"V": "NSOX", "S": "NVFOX"}  # whose beats called by the letter are false


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
        return BeatScore(percent(found, found + missed), percent(found, found + extra))

    @property
    def veb(self) -> ClassScore:
        """Ventricular ectopic beats; F and Q called V count neither as true nor as false."""
        return self._score("V")

    @property
    def sveb(self) -> ClassScore:
        """Supraventricular ectopic beats; Q called S counts neither as true nor as false."""
        return self._score("S")

    def shares(self, letter: str) -> dict[str, tuple[int, int]]:
        """Return part and whole of the three figures of class V or S, by the names of `ClassScore`."""
        wrong = _WRONG[letter]
        true, false = self.count(letter, letter), self.count(wrong, letter)
        others = "NSVFQOX".replace(letter, "")
        rightly_not = self.count(others, "NSVFQ".replace(letter, ""))
        return {
            "sensitivity": (true, self.count(letter, "NSVFQOX")),
            "positive_predictivity": (true, true + false),
            "false_positive_rate": (false, false + rightly_not),
        }

    def _score(self, letter: str) -> ClassScore:
        return ClassScore(*(percent(part, whole) for part, whole in self.shares(letter).values()))


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
        As for `detection.compare_beats`.
    reference_off, test_off
        Half-open `[start, end)` sample indices in which the reference was unreadable or the detector switched
        off, shape (n_segments, 2): beats without partner inside count as X instead of O.

    Raises
    ------
    SignalError
        If indices are not ascending integers, classes do not fit them, or a parameter is out of range.

    References
    ----------
    ANSI/AAMI EC57, as `bxb` does it; see `beat_matching`.
    """
    reference, test = as_indices(reference, name="reference"), as_indices(test, name="test")
    rows = _class_numbers(reference_classes, reference.size, name="reference_classes")
    columns = _class_numbers(test_classes, test.size, name="test_classes")
    off = as_intervals(reference_off, name="reference_off"), as_intervals(test_off, name="test_off")
    segments = as_intervals(flutter, name="flutter")
    pairs = pair_beats(reference, test, rate_hz=rate_hz, window_s=window_s, learning_s=learning_s)
    extra = pairs.extra[~inside(test[pairs.extra], segments)]
    no_reference = CLASS_ROWS.index("O") + inside(test[extra], off[0])
    no_test = CLASS_ROWS.index("O") + inside(reference[pairs.missed], off[1])
    counts = np.zeros((len(CLASS_ROWS), len(CLASS_ROWS)), dtype=np.int64)
    np.add.at(counts, (rows[pairs.in_reference], columns[pairs.in_test]), 1)
    np.add.at(counts, (rows[pairs.missed], no_test), 1)
    np.add.at(counts, (no_reference, columns[extra]), 1)
    return ClassComparison(counts)


def gross_classes(comparisons: Sequence[ClassComparison]) -> ClassComparison:
    """Return the class matrix of all beats of all records together."""
    return ClassComparison(sum((c.counts for c in comparisons), np.zeros((7, 7), dtype=np.int64)))


def _class_numbers(classes: ArrayLike, n_beats: int, *, name: str) -> NDArray[np.intp]:
    """Return the row of every class in a class matrix."""
    letters = np.asarray(classes, dtype=np.str_).ravel() if np.size(classes) else np.empty(0, dtype=np.str_)
    if letters.size != n_beats:
        raise SignalError(f"{letters.size} {name} for {n_beats} beats, expected one for each")
    equal = letters[:, np.newaxis] == np.array(CLASS_ROWS[:5])
    if not equal.any(axis=1).all():
        raise SignalError(f"{name}: {letters[~equal.any(axis=1)][0]!s}, expected one of N, S, V, F, Q")
    return np.asarray(equal.argmax(axis=1))
