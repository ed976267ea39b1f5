"""A study of oximeters: accuracy and its parts, bands, exclusions, intervals, groups of skin tone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.metrics import METRICS
from analysis.oximetry_study import DISPARITY_RANGES, OXIMETRY, accuracy
from analysis.paired_study import PairedStudy, usable_by
from protocols.clinical.criteria import Statistics

BANDS = Statistics(band_edges=(70.0, 80.0, 90.0, 100.0), bootstrap_replicates=1000, seed=7)
QUICK = Statistics(bootstrap_replicates=10)


def study(test, reference, subjects=None) -> PairedStudy:  # type: ignore[no-untyped-def]
    test, reference = np.asarray(test, dtype=float), np.asarray(reference, dtype=float)
    names = np.asarray(subjects if subjects is not None else ["s"] * test.size, dtype=np.str_)
    made = PairedStudy.of_pairs("spo2", "", "session", np.arange(test.size), reference, test)
    return replace(made, subjects=names)


def simulated(
    rng: np.random.Generator, n_subjects: int, *, bias: float, between: float, within: float
) -> PairedStudy:
    subjects = np.repeat(np.arange(n_subjects), 20)
    reference = np.tile(np.linspace(70.5, 99.5, 20), n_subjects)
    offset = rng.normal(0, between, n_subjects)[subjects]
    # below 0 and above 100 % no device shows anything; the true differences are kept by staying away from it
    test = reference + bias + offset + rng.normal(0, within, subjects.size)
    return study(test - 10.0, reference - 10.0, [f"s{k}" for k in subjects])


def value(name: str, pairs: PairedStudy, statistics: Statistics = QUICK) -> float:
    return METRICS[name].function(pairs, statistics).value


def with_tones(pairs: PairedStudy, tones: NDArray[np.float64]) -> PairedStudy:
    """Give subjects Monk tones, and angles that fall with them."""
    subjects = sorted(set(pairs.subjects.tolist()))
    facts = {
        subject: {"skin_tone_mst": float(tone), "ita_deg": 60.0 - 12.0 * float(tone)}
        for subject, tone in zip(subjects, tones, strict=True)
    }
    return replace(pairs, facts=facts)


def test_simulated_truth_is_recovered(rng: np.random.Generator) -> None:
    pairs = simulated(rng, 2000, bias=1.0, between=1.0, within=2.0)
    # 40,000 pairs of 2,000 subjects: the standard error of the bias is 0.025, the others' are smaller
    assert value("spo2_bias", pairs) == pytest.approx(1.0, abs=0.1)
    assert value("spo2_precision", pairs) == pytest.approx(np.sqrt(5.0), abs=0.1)
    assert value("spo2_arms", pairs) == pytest.approx(np.sqrt(6.0), abs=0.1)
    assert value("spo2_between_subject_variance", pairs) == pytest.approx(1.0, abs=0.15)
    assert value("spo2_within_subject_variance", pairs) == pytest.approx(4.0, abs=0.15)
    width = value("spo2_upper_limit_of_agreement", pairs) - value("spo2_lower_limit_of_agreement", pairs)
    assert width == pytest.approx(2 * 1.96 * np.sqrt(5.0), abs=0.3)


def test_the_interval_by_subject_covers_the_true_bias(rng: np.random.Generator) -> None:
    trials, hits = 600, 0
    quick = Statistics(bootstrap_replicates=400)
    bias = METRICS["spo2_bias"].function
    for _ in range(trials):
        estimate = bias(simulated(rng, 40, bias=0.5, between=1.0, within=1.0), quick)
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= 0.5 <= estimate.high
    # The Monte-Carlo standard error of 600 trials is 0.9 points; pairs taken without regard to subjects would
    # cover about 40 %.
    assert hits / trials == pytest.approx(0.95, abs=3 * 0.009)


def test_equal_seeds_give_equal_intervals_and_order_does_not_matter(rng: np.random.Generator) -> None:
    pairs = simulated(rng, 12, bias=1.0, between=1.0, within=1.0)
    shuffled = rng.permutation(pairs.n_pairs)
    again = replace(
        pairs,
        **{name: getattr(pairs, name)[shuffled] for name in ("subjects", "times_ns", "reference", "test")},
    )
    edges = replace(BANDS, band_edges=(60.0, 70.0, 80.0, 90.0))
    first, second = accuracy(pairs, edges), accuracy(again, edges)
    assert first.low == pytest.approx(second.low)
    assert first.high == pytest.approx(second.high)
    assert accuracy(pairs, edges) == first


def test_accuracy_is_also_given_in_every_band() -> None:
    details = accuracy(study([71, 83, 95, 97], [70, 80, 91, 100]), BANDS).details
    assert (details["n_70_80"], details["n_80_90"], details["n_90_100"]) == (1, 1, 2)
    assert details["arms_70_80"] == 1.0
    assert details["bias_90_100"] == 0.5
    assert np.isnan(details["precision_80_90"])


def test_every_exclusion_is_listed_once_under_its_reason() -> None:
    pairs = study([90, 90, np.nan, 101, -1, 90, np.nan], [np.nan, 69.9, 90, 90, 90, 90, 100.0])
    usable = usable_by(pairs, BANDS)
    assert usable.times_ns.tolist() == [5]
    assert {moment.time_ns: moment.reason for moment in usable.excluded} == {
        0: "the reference has no value",
        1: "the reference is out of the protocol's range",
        2: "the device showed no value",
        3: "the device's value is impossible",
        4: "the device's value is impossible",
        6: "the device showed no value",
    }
    facts = OXIMETRY.design_facts(pairs, BANDS)
    assert (facts["pairs"], facts["excluded"]) == (1, 6)
    assert facts["read_rate_percent"] == pytest.approx(60.0)


def test_a_poor_signal_that_the_device_reports_makes_no_pair_and_lowers_the_read_rate() -> None:
    pairs = replace(
        study([90, 91, 50, 92], [90, 90, 90, 90]), labels={"test_signal": np.array(["", "", "poor", ""])}
    )
    usable = usable_by(pairs, BANDS)
    assert usable.times_ns.tolist() == [0, 1, 3]
    assert [moment.reason for moment in usable.excluded] == ["the device reported a poor signal"]
    assert value("spo2_read_rate", pairs, BANDS) == 75.0


def test_the_range_is_inclusive_at_both_ends() -> None:
    assert usable_by(study([71, 99], [70, 100]), BANDS).n_pairs == 2


def test_design_facts_count_subjects_and_the_poorest_band() -> None:
    saturations = [75] * 6 + [85] * 2 + [95] * 2
    facts = OXIMETRY.design_facts(study(saturations, saturations, ["a"] * 4 + ["b"] * 6), BANDS)
    assert (facts["subjects"], facts["pairs"]) == (2, 10)
    assert facts["smallest_band_share_percent"] == 20.0
    assert not any("monk" in name or "ita" in name for name in facts)


def test_a_study_without_pairs_has_facts_and_no_values() -> None:
    assert OXIMETRY.design_facts(OXIMETRY.nothing, BANDS)["pairs"] == 0
    for metric in OXIMETRY.metrics.values():
        assert np.isnan(metric.function(OXIMETRY.nothing, BANDS).value)


def test_one_subject_gives_a_value_without_interval() -> None:
    estimate = accuracy(study([91, 92], [90, 90]), BANDS)
    assert estimate.low is None
    assert "fewer than 2 subjects" in estimate.method


def test_a_reference_of_85_percent_belongs_to_the_lower_range_of_the_disparity() -> None:
    (low, middle), (above, high) = DISPARITY_RANGES.values()
    assert (low, middle, high) == (70.0, 85.0, 100.0)
    assert 85.0 < above < 85.0 + 1e-9


def test_the_bias_of_skin_tones_is_compared_in_each_range(rng: np.random.Generator) -> None:
    tones = np.tile([1.0, 4.0, 5.0, 7.0, 8.0, 10.0], 30)
    pairs = simulated(rng, tones.size, bias=0.0, between=0.1, within=0.1)
    pairs = replace(pairs, reference=pairs.reference + 10.0, test=pairs.test + 10.0)
    pairs = with_tones(pairs, tones)
    dark = np.isin(pairs.fact("skin_tone_mst"), [8.0, 10.0])
    pairs = replace(
        pairs, test=np.minimum(pairs.test + np.where(dark & (pairs.reference <= 85), 2.0, 0.0), 100.0)
    )
    # 60 subjects a group of sd 0.1: the standard error of a difference is 0.02
    assert value("spo2_tone_difference_70_85", pairs) == pytest.approx(2.0, abs=0.1)
    assert value("spo2_tone_difference_85_100", pairs) == pytest.approx(0.0, abs=0.1)
    assert value("spo2_ita_difference_70_85", pairs) > 1.0
    assert value("spo2_ita_difference_85_100", pairs) == pytest.approx(0.0, abs=0.1)


def test_subjects_without_a_tone_are_left_out_of_the_comparison_and_said(rng: np.random.Generator) -> None:
    pairs = simulated(rng, 9, bias=0.0, between=0.5, within=0.5)
    pairs = replace(pairs, reference=pairs.reference + 10.0, test=pairs.test + 9.0)
    pairs = with_tones(pairs, np.repeat([2.0, 6.0, 9.0], 3))
    unknown = replace(pairs, facts={s: f for s, f in pairs.facts.items() if s != "s0"})
    estimate = METRICS["spo2_tone_difference_85_100"].function(unknown, QUICK)
    assert estimate.method.endswith("; 1 without a known Monk tone left out")
    assert estimate.details["subjects_monk_1_4"] == 2
    facts = OXIMETRY.design_facts(unknown, QUICK)
    assert facts["subjects_without_tone"] == facts["subjects_without_ita"] == 1
    assert facts["monk_1_4_share_percent"] == pytest.approx(100 * 2 / 9)
    assert facts["monk_8_10_share_percent"] == pytest.approx(100 * 3 / 9)
    assert facts["darkest_at_ita_mark_percent"] == 0.0  # 60 - 12 * 9 = -48 degrees


def test_a_subject_with_one_pair_and_data_that_do_not_vary_are_no_error() -> None:
    single = study([91, 92, 95, 80], [90, 90, 96, 81], list("abcd"))
    assert value("spo2_bias", single) == 0.25
    assert np.isnan(value("spo2_within_subject_variance", single))  # nobody has two pairs
    constant = study([90.0] * 6, [90.0] * 6, list("aabbcc"))
    assert value("spo2_arms", constant) == value("spo2_within_subject_variance", constant) == 0.0
