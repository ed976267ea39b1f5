"""Performance of a beat detector over the records of a study, as EC57 reports it: gross and average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.agreement import Estimate, percentile_interval, resampled_sums
from analysis.detection import BeatComparison, ReferenceBeats, average, compare_beats, gross
from protocols.clinical.criteria import Pairing, Statistics


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
    """

    record: str
    comparison: BeatComparison
    paced: bool

    @property
    def n_reference(self) -> int:
        """Reference beats after the learning time."""
        return self.comparison.true_positives + self.comparison.false_negatives


def compare_record(
    record: str, reference: ReferenceBeats, test: ArrayLike, *, rate_hz: float, pairing: Pairing
) -> RecordResult:
    """Return the comparison of one record by a clinical protocol's pairing rule.

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


def design_facts(records: Sequence[RecordResult], statistics: Statistics) -> dict[str, float]:  # noqa: ARG001
    """Return what the sample of a study is like: records with and without beats, paced records, beats."""
    return {
        "records": sum(record.n_reference > 0 for record in records),
        "records_without_beats": sum(record.n_reference == 0 for record in records),
        "paced_records": sum(record.paced for record in records),
        "reference_beats": sum(record.n_reference for record in records),
    }


def gross_sensitivity(records: Sequence[RecordResult], statistics: Statistics) -> Estimate:
    """Return the share, in percent, of all reference beats that were found, with its interval by record."""
    counts = _counts(records)
    value = gross([r.comparison for r in records]).sensitivity_percent
    return _gross(value, counts[0], counts[1], statistics, details=_totals(records))


def gross_positive_predictivity(records: Sequence[RecordResult], statistics: Statistics) -> Estimate:
    """Return the share, in percent, of all detected beats that are beats, with its interval by record."""
    counts = _counts(records)
    value = gross([r.comparison for r in records]).positive_predictivity_percent
    return _gross(value, counts[0], counts[2], statistics, details=_totals(records))


def average_sensitivity(records: Sequence[RecordResult], statistics: Statistics) -> Estimate:  # noqa: ARG001
    """Return the mean of the records' sensitivities, in percent."""
    value = average([r.comparison for r in records]).sensitivity_percent
    return Estimate(value, len(records), method="mean over records")


def average_positive_predictivity(
    records: Sequence[RecordResult],
    statistics: Statistics,  # noqa: ARG001
) -> Estimate:
    """Return the mean of the records' positive predictivities, in percent."""
    value = average([r.comparison for r in records]).positive_predictivity_percent
    return Estimate(value, len(records), method="mean over records")


def median_offset(records: Sequence[RecordResult], statistics: Statistics) -> Estimate:  # noqa: ARG001
    """Return the median of detected minus reference time, in ms, over all matched beats."""
    offsets_s = np.concatenate([np.empty(0), *(r.comparison.offsets_s for r in records)])
    value = 1000.0 * float(np.median(offsets_s)) if offsets_s.size else float("nan")
    return Estimate(value, offsets_s.size, method="median over matched beats")


def jitter(records: Sequence[RecordResult], statistics: Statistics) -> Estimate:  # noqa: ARG001
    """Return the standard deviation of detected minus reference time within records, in ms, pooled."""
    offsets_s = [r.comparison.offsets_s for r in records]
    degrees = sum(max(0, offsets.size - 1) for offsets in offsets_s)
    squares = sum(float(((offsets - offsets.mean()) ** 2).sum()) for offsets in offsets_s if offsets.size)
    value = 1000.0 * float(np.sqrt(squares / degrees)) if degrees else float("nan")
    return Estimate(value, degrees, method="pooled standard deviation within records")


def _counts(records: Sequence[RecordResult]) -> NDArray[np.float64]:
    """Return true positives, false negatives and false positives, shape (3, n_records)."""
    counts = [(c.true_positives, c.false_negatives, c.false_positives) for c in (r.comparison for r in records)]
    return np.array(counts, dtype=np.float64).reshape(-1, 3).T


def _totals(records: Sequence[RecordResult]) -> dict[str, float]:
    matched, missed, extra = _counts(records).sum(axis=1)
    return {
        "true_positives": float(matched),
        "false_negatives": float(missed),
        "false_positives": float(extra),
    }


def _gross(
    value: float,
    matched: NDArray[np.float64],
    unmatched: NDArray[np.float64],
    statistics: Statistics,
    *,
    details: dict[str, float],
) -> Estimate:
    n = int(matched.sum() + unmatched.sum())
    if matched.size < 2 or n == 0:
        return Estimate(value, n, method="no interval: fewer than 2 records", details=details)
    sums = resampled_sums(
        np.stack([matched, matched + unmatched]),
        np.arange(matched.size),
        replicates=statistics.bootstrap_replicates,
        seed=statistics.seed,
    )
    share = 100.0 * sums[0] / np.where(sums[1] > 0, sums[1], np.nan)
    low, high = percentile_interval(share, statistics.confidence_level)
    method = (
        f"percentile bootstrap of {matched.size} records, {statistics.bootstrap_replicates} replicates, "
        f"seed {statistics.seed}"
    )
    return Estimate(value, n, low, high, statistics.confidence_level, method=method, details=details)
