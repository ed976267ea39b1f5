"""A study of records: gross and average figures, intervals by record, facts of the sample."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import beat_detection
from analysis.beat_detection import RecordResult, compare_record
from analysis.detection import BeatComparison, read_annotations
from protocols.clinical.criteria import Pairing, Provenance, Statistics

STATISTICS = Statistics(bootstrap_replicates=2000, seed=3)
PAIRING = Pairing(window_s=0.15, learning_s=0.0, provenance=Provenance("test", "lab"))


def result(
    matched: int, missed: int, extra: int, *, offset_s: float = 0.0, paced: bool = False
) -> RecordResult:
    comparison = BeatComparison(np.full(matched, offset_s), np.arange(missed), np.arange(extra))
    return RecordResult("r", comparison, paced)


def test_gross_figures_carry_their_counts_and_an_interval_by_record() -> None:
    records = [result(90, 10, 0), result(300, 0, 100), result(100, 0, 0)]
    found = beat_study.gross_sensitivity(records, STATISTICS)
    assert found.value == pytest.approx(98.0)
    assert (found.low, found.high) == (pytest.approx(90.0), pytest.approx(100.0))
    assert found.details == {"true_positives": 490, "false_negatives": 10, "false_positives": 100}
    predictive = beat_study.gross_positive_predictivity(records, STATISTICS)
    assert predictive.value == pytest.approx(100 * 490 / 590)
    assert predictive.n == 590


def test_average_figures_are_means_over_records() -> None:
    records = [result(90, 10, 0), result(300, 0, 100)]
    assert beat_study.average_sensitivity(records, STATISTICS).value == pytest.approx(95.0)
    assert beat_study.average_positive_predictivity(records, STATISTICS).value == pytest.approx(87.5)


def test_one_record_gives_a_value_without_interval() -> None:
    found = beat_study.gross_sensitivity([result(9, 1, 0)], STATISTICS)
    assert found.value == 90.0
    assert found.low is None


def test_offset_and_jitter_pool_within_records() -> None:
    records = [
        RecordResult("a", BeatComparison(np.array([0.00, 0.02]), np.arange(0), np.arange(0)), paced=False),
        RecordResult("b", BeatComparison(np.array([0.10, 0.12]), np.arange(0), np.arange(0)), paced=False),
        result(0, 5, 5),
    ]
    assert beat_study.median_offset(records, STATISTICS).value == pytest.approx(60.0)
    assert beat_study.jitter(records, STATISTICS).value == pytest.approx(np.sqrt(200.0))


def test_facts_tell_empty_and_paced_records() -> None:
    facts = beat_detection.design_facts(
        [result(9, 1, 0), result(0, 0, 3), result(1, 0, 0, paced=True)], STATISTICS
    )
    assert facts == {"records": 2, "records_without_beats": 1, "paced_records": 1, "reference_beats": 11}


def test_no_records_give_no_values() -> None:
    for figure in (
        beat_study.gross_sensitivity,
        beat_study.gross_positive_predictivity,
        beat_study.average_sensitivity,
        beat_study.average_positive_predictivity,
        beat_study.median_offset,
        beat_study.jitter,
    ):
        assert np.isnan(figure([], STATISTICS).value)


def test_a_record_is_compared_by_the_protocols_rule() -> None:
    reference = read_annotations([100, 500, 900], ["N", "/", "N"])
    found = compare_record("x", reference, [100, 500, 955], rate_hz=360.0, pairing=PAIRING)
    assert (found.record, found.paced, found.n_reference) == ("x", True, 3)
    assert found.comparison.false_positives == 1
