"""One record of a study of beats: test against reference, by beats, classes, episodes and heart rate (EC57).

What a study of such records comes to is in `beat_study`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.beat_marks import BeatMarks
from analysis.beat_matching import inside
from analysis.detection import BeatComparison, ReferenceBeats, compare_beats
from analysis.detection_classes import ClassComparison, compare_classes
from analysis.detection_episodes import EpisodeComparison, compare_episodes
from analysis.heart_rate_error import HeartRateErrors, compare_heart_rates
from analysis.intervals import intersection, total_length, union
from protocols.clinical.criteria import Pairing


def _no_rates() -> HeartRateErrors:
    return HeartRateErrors(np.empty(0), np.empty(0))


@dataclass(frozen=True, slots=True, eq=False)
class RecordResult:
    """The comparison of one record.

    Parameters
    ----------
    record
        Its name.
    comparison
        Test beats against reference beats.
    paced
        Whether the reference has paced beats.
    subject
        Whose record it is; empty where every record is of another subject.
    classes
        Classes of test beats against those of reference beats; None where a side tells none.
    atrial_fibrillation, ventricular_fibrillation
        Test episodes against reference episodes, the latter with flutter; None where a side says nothing of
        rhythms.
    heart_rates
        Of windows, by both sides' beats.
    judged_s, undetermined_s
        Time after the learning time, and how much of it the test's side called too poor or had no samples of.
    """

    record: str
    comparison: BeatComparison
    paced: bool
    subject: str = ""
    classes: ClassComparison | None = None
    atrial_fibrillation: EpisodeComparison | None = None
    ventricular_fibrillation: EpisodeComparison | None = None
    heart_rates: HeartRateErrors = field(default_factory=_no_rates)
    judged_s: float = 0.0
    undetermined_s: float = 0.0

    @property
    def n_reference(self) -> int:
        """Reference beats after the learning time."""
        return self.comparison.true_positives + self.comparison.false_negatives


def compare_record(
    record: str, reference: ReferenceBeats, test: ArrayLike, *, rate_hz: float, pairing: Pairing
) -> RecordResult:
    """Return the comparison of the beats alone of one record, by a clinical protocol's pairing rule.

    Parameters
    ----------
    record
        Its name.
    reference
        What the annotator says.
    test
        Sample indices of the detected beats, ascending, shape (n_test,).
    rate_hz
        Samples per second of both.
    pairing
        Match window and learning time.

    Raises
    ------
    SignalError
        As `compare_beats`.
    """
    comparison = compare_beats(
        reference.samples,
        test,
        rate_hz=rate_hz,
        window_s=pairing.window_s,
        learning_s=pairing.learning_s,
        flutter=reference.flutter,
    )
    return RecordResult(record, comparison, reference.paced)


def compare_marks(
    record: str,
    reference: BeatMarks,
    test: BeatMarks,
    *,
    rate_hz: float,
    n_samples: int,
    pairing: Pairing,
    subject: str = "",
) -> RecordResult:
    """Return the comparison of all that both sides say of one record, by a clinical protocol's pairing rule.

    Parameters
    ----------
    record, subject
        Its name, and whose it is.
    reference, test
        What the two sides say, counted at one rate.
    rate_hz, n_samples
        Samples per second of both, and length of the record.
    pairing
        Match window and learning time.

    Raises
    ------
    SignalError
        As `compare_beats`.
    """
    flutter = _or_none(reference.ventricular_fibrillation)
    outside = ~inside(reference.samples, flutter)
    beats, learning_s = reference.samples[outside], pairing.learning_s
    heard = test.samples[test.samples < n_samples]  # rounding to another rate may reach beyond the last sample
    start = min(round(learning_s * rate_hz), n_samples)
    silent = union(test.off, test.undetermined)
    return RecordResult(
        record,
        compare_beats(
            beats,
            heard,
            rate_hz=rate_hz,
            window_s=pairing.window_s,
            learning_s=learning_s,
            flutter=flutter,
        ),
        reference.paced,
        subject,
        _classes(reference, test, outside, rate_hz, n_samples, pairing),
        _episodes(
            reference.atrial_fibrillation,
            test.atrial_fibrillation,
            rate_hz,
            n_samples,
            learning_s,
            excluded=reference.atrial_flutter,
        ),
        _episodes(
            reference.ventricular_fibrillation, test.ventricular_fibrillation, rate_hz, n_samples, learning_s
        ),
        compare_heart_rates(
            beats,
            heard,
            rate_hz=rate_hz,
            n_samples=n_samples,
            learning_s=learning_s,
            excluded=flutter,
            test_silent=silent,
        ),
        (n_samples - start) / rate_hz,
        total_length(intersection(silent, [[start, n_samples]])) / rate_hz,
    )


def _classes(
    reference: BeatMarks,
    test: BeatMarks,
    outside: NDArray[np.bool_],
    rate_hz: float,
    n_samples: int,
    pairing: Pairing,
) -> ClassComparison | None:
    if reference.classes is None or test.classes is None:
        return None
    heard = test.samples < n_samples
    return compare_classes(
        reference.samples[outside],
        reference.classes[outside],
        test.samples[heard],
        test.classes[heard],
        rate_hz=rate_hz,
        window_s=pairing.window_s,
        learning_s=pairing.learning_s,
        flutter=_or_none(reference.ventricular_fibrillation),
        test_off=test.off,
    )


def _episodes(
    reference: ArrayLike | None,
    test: ArrayLike | None,
    rate_hz: float,
    n_samples: int,
    learning_s: float,
    excluded: ArrayLike = (),
) -> EpisodeComparison | None:
    if reference is None or test is None:
        return None
    return compare_episodes(
        reference, test, rate_hz=rate_hz, n_samples=n_samples, learning_s=learning_s, excluded=excluded
    )


def _or_none(intervals: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return np.empty((0, 2), dtype=np.int64) if intervals is None else intervals
