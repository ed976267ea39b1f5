"""A study of records: gross and average figures, intervals by subject, the beat table, facts of the sample."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.beat_detection import RecordResult
from analysis.beat_study import STUDY, class_table, design_facts
from analysis.detection import BeatComparison
from analysis.detection_classes import CLASS_ROWS, ClassComparison
from analysis.detection_episodes import EpisodeComparison
from analysis.estimates import Estimate
from analysis.heart_rate_error import HeartRateErrors
from protocols.clinical.criteria import Statistics

STATISTICS = Statistics(bootstrap_replicates=2000, seed=3)


def figure(name: str, records: list[RecordResult]) -> Estimate:
    return STUDY.metrics[name].function(records, STATISTICS)


def result(
    matched: int, missed: int, extra: int, *, offset_s: float = 0.0, paced: bool = False, subject: str = ""
) -> RecordResult:
    comparison = BeatComparison(np.full(matched, offset_s), np.arange(missed), np.arange(extra))
    return RecordResult("r", comparison, paced, subject)


def classed(subject: str = "", **cells: int) -> RecordResult:
    counts = np.zeros((7, 7), dtype=np.int64)
    for cell, n in cells.items():
        counts[CLASS_ROWS.index(cell[0]), CLASS_ROWS.index(cell[1].upper())] = n
    comparison = BeatComparison(np.zeros(1), np.arange(0), np.arange(0))
    return RecordResult("r", comparison, paced=False, subject=subject, classes=ClassComparison(counts))


def test_gross_figures_carry_their_counts_and_an_interval_by_record() -> None:
    records = [result(90, 10, 0), result(300, 0, 100), result(100, 0, 0)]
    found = figure("qrs_sensitivity_gross", records)
    assert found.value == pytest.approx(98.0)
    assert (found.low, found.high) == (pytest.approx(90.0), pytest.approx(100.0))
    assert found.details == {"true_positives": 490, "false_negatives": 10, "false_positives": 100}
    predictive = figure("qrs_positive_predictivity_gross", records)
    assert predictive.value == pytest.approx(100 * 490 / 590)
    assert predictive.n == 590


def test_average_figures_are_means_over_records() -> None:
    records = [result(90, 10, 0), result(300, 0, 100)]
    assert figure("qrs_sensitivity_average", records).value == pytest.approx(95.0)
    assert figure("qrs_positive_predictivity_average", records).value == pytest.approx(87.5)


def test_one_record_gives_a_value_without_interval() -> None:
    found = figure("qrs_sensitivity_gross", [result(9, 1, 0)])
    assert (found.value, found.low) == (90.0, None)


def test_records_of_one_subject_are_drawn_together() -> None:
    alike = [result(90, 10, 0, subject="S-1"), result(50, 50, 0, subject="S-1")]
    assert figure("qrs_sensitivity_gross", alike).low is None
    three = [*alike, result(99, 1, 0, subject="S-2")]
    assert figure("qrs_sensitivity_gross", three).low == pytest.approx(70.0)


def test_where_all_beats_were_found_the_interval_is_not_a_point() -> None:
    found = figure("qrs_sensitivity_gross", [result(100, 0, 0)] * 10)
    assert found.value == found.high == 100.0
    assert found.low == pytest.approx(100 * 0.025 ** (1 / 10))  # Clopper-Pearson, 10 of 10
    none = figure("qrs_sensitivity_gross", [result(0, 100, 0)] * 10)
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(100 - found.low)


def test_figures_of_classes_are_those_of_the_beat_table() -> None:
    records = [
        classed(Nn=900, Nv=10, Vv=80, Vn=10, Vo=10, Ov=5, Fv=50, Qv=7, On=2),
        classed(Nn=1000, Ss=20, Sn=20, Ns=5),
    ]
    # Vv / (Vn + Vv + Vo), Vv / (Nv + Vv + Ov), (Nv + Ov) / (Nv + Ov + all that is rightly not called V)
    assert figure("veb_sensitivity_gross", records).value == pytest.approx(80.0)
    assert figure("veb_positive_predictivity_gross", records).value == pytest.approx(100 * 80 / 95)
    negative = 900 + 2 + 1000 + 20 + 20 + 5
    assert figure("veb_false_positive_rate_gross", records).value == pytest.approx(100 * 15 / (15 + negative))
    assert figure("veb_false_positive_rate_average", records).value == pytest.approx(50 * 15 / (15 + 902))
    assert figure("sveb_sensitivity_average", records).value == pytest.approx(50.0)
    assert figure("sveb_positive_predictivity_gross", records).value == pytest.approx(80.0)
    table = figure("veb_sensitivity_gross", records).details
    assert (table["Nn"], table["Nv"], table["Vo"], table["Ov"]) == (1900, 10, 10, 5)
    assert sum(table.values()) == 900 + 10 + 80 + 10 + 10 + 5 + 50 + 7 + 2 + 1000 + 45


def test_the_beat_table_shows_what_was_switched_off_only_where_there_is_any() -> None:
    counts = np.zeros((7, 7), dtype=np.int64)
    assert len(class_table(ClassComparison(counts))) == 35
    counts[CLASS_ROWS.index("V"), CLASS_ROWS.index("X")] = 3
    assert class_table(ClassComparison(counts))["Vx"] == 3


def test_figures_of_episodes_are_of_numbers_and_of_time() -> None:
    records = [
        RecordResult(
            "a", BeatComparison(np.zeros(1), np.arange(0), np.arange(0)), paced=False, **{kind: episodes}
        )
        for kind, episodes in (
            ("atrial_fibrillation", EpisodeComparison(4, 3, 5, 3, 1000.0, 800.0, 600.0)),
            ("atrial_fibrillation", EpisodeComparison(1, 1, 1, 1, 100.0, 100.0, 100.0)),
            ("ventricular_fibrillation", EpisodeComparison(1, 0, 0, 0, 10.0, 0.0, 0.0)),
        )
    ]
    assert figure("af_episode_sensitivity_gross", records).value == pytest.approx(80.0)
    assert figure("af_episode_sensitivity_average", records).value == pytest.approx(87.5)
    assert figure("af_episode_positive_predictivity_gross", records).value == pytest.approx(100 * 4 / 6)
    assert figure("af_duration_sensitivity_gross", records).value == pytest.approx(100 * 700 / 1100)
    assert figure("af_duration_positive_predictivity_average", records).value == pytest.approx(87.5)
    assert figure("vf_duration_sensitivity_gross", records).value == 0.0
    nothing_called = figure("vf_episode_positive_predictivity_gross", records)
    assert (np.isnan(nothing_called.value), nothing_called.n) == (True, 0)
    assert figure("af_episode_sensitivity_gross", records).details["overlap_s"] == 700.0


def test_heart_rate_errors_are_normalised_record_by_record() -> None:
    def with_rates(reference: list[float], test: list[float]) -> RecordResult:
        rates = HeartRateErrors(np.array(reference), np.array(test))
        return RecordResult("r", result(1, 0, 0).comparison, paced=False, heart_rates=rates)

    records = [with_rates([50.0, 50.0], [55.0, 45.0]), with_rates([200.0] * 3, [240.0, np.nan, 160.0])]
    assert figure("qrs_heart_rate_error_average", records).value == pytest.approx(15.0)
    assert figure("qrs_heart_rate_error_gross", records).value == pytest.approx(np.sqrt(250.0))
    assert figure("qrs_heart_rate_read_rate", records).value == pytest.approx(80.0)


def test_offset_and_jitter_pool_within_records() -> None:
    records = [
        RecordResult("a", BeatComparison(np.array([0.00, 0.02]), np.arange(0), np.arange(0)), paced=False),
        RecordResult("b", BeatComparison(np.array([0.10, 0.12]), np.arange(0), np.arange(0)), paced=False),
        result(0, 5, 5),
    ]
    assert figure("qrs_offset_median", records).value == pytest.approx(60.0)
    assert figure("qrs_jitter", records).value == pytest.approx(np.sqrt(200.0))


def test_facts_tell_empty_and_paced_records() -> None:
    facts = design_facts([result(9, 1, 0), result(0, 0, 3), result(1, 0, 0, paced=True)], STATISTICS)
    assert facts == {
        "records": 2,
        "subjects": 3,
        "records_without_beats": 1,
        "records_without_signal": 0,
        "paced_records": 1,
        "reference_beats": 11,
        "undetermined_percent": 0.0,
    }
    assert design_facts([classed(Vv=3, Vo=2, Sn=1)], STATISTICS)["reference_ventricular_beats"] == 5


@pytest.mark.parametrize("name", STUDY.metrics)
def test_no_records_give_no_value_and_no_case(name: str) -> None:
    found = figure(name, [])
    assert np.isnan(found.value)
    assert found.n == 0
