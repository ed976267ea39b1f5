"""Oximeter accuracy: formulas on simulated truth, bands, exclusions, intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import oximetry
from analysis.oximetry import OximeterPairs, arms_percent, bias_percent, precision_percent
from analysis.pairing import PairedReadings
from protocols.clinical.criteria import Statistics
from protocols.errors import SignalError

BANDS = Statistics(band_edges=(70.0, 80.0, 90.0, 100.0), bootstrap_replicates=1000, seed=7)

saturations = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=40)


def study(test, reference, subjects=None) -> OximeterPairs:  # type: ignore[no-untyped-def]
    test, reference = np.asarray(test, dtype=float), np.asarray(reference, dtype=float)
    names = np.asarray(subjects if subjects is not None else ["s"] * test.size, dtype=np.str_)
    return OximeterPairs(names, np.arange(test.size), reference, test)


def simulated(
    rng: np.random.Generator, n_subjects: int, *, bias: float, between: float, within: float
) -> OximeterPairs:
    subjects = np.repeat(np.arange(n_subjects), 20)
    reference = np.tile(np.linspace(70.5, 99.5, 20), n_subjects)
    offset = rng.normal(0, between, n_subjects)[subjects]
    test = reference + bias + offset + rng.normal(0, within, subjects.size)
    return study(test, reference, [f"s{k}" for k in subjects])


@given(saturations)
def test_arms_squared_is_bias_squared_plus_the_spread(pairs: list[tuple[float, float]]) -> None:
    test, reference = np.array(pairs).T
    n = len(pairs)
    spread = precision_percent(test, reference) ** 2 * (n - 1) / n
    expected = bias_percent(test, reference) ** 2 + spread
    assert arms_percent(test, reference) ** 2 == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(saturations, st.floats(-20, 20))
def test_a_shift_moves_bias_alone(pairs: list[tuple[float, float]], shift: float) -> None:
    test, reference = np.array(pairs).T
    assert bias_percent(test + shift, reference) == pytest.approx(
        bias_percent(test, reference) + shift, abs=1e-9
    )
    assert precision_percent(test + shift, reference) == pytest.approx(
        precision_percent(test, reference), abs=1e-6
    )


def test_a_batch_equals_its_rows_and_missing_values_are_left_out(rng: np.random.Generator) -> None:
    test, reference = rng.uniform(70, 100, (2, 5, 50))
    test[rng.random(test.shape) < 0.2] = np.nan
    for figure in (arms_percent, bias_percent, precision_percent):
        rows = [float(figure(t[~np.isnan(t)], r[~np.isnan(t)])) for t, r in zip(test, reference, strict=True)]
        assert figure(test, reference) == pytest.approx(rows, rel=1e-12)


def test_too_few_pairs_give_nan() -> None:
    assert np.isnan(arms_percent([], []))
    assert np.isnan(bias_percent([np.nan], [90.0]))
    assert np.isnan(precision_percent([91.0], [90.0]))


def test_simulated_truth_is_recovered(rng: np.random.Generator) -> None:
    pairs = simulated(rng, 2000, bias=1.0, between=1.0, within=2.0)
    # 40,000 pairs of 2,000 subjects: the standard error of the bias is 0.025, the others' are smaller
    quick = Statistics(bootstrap_replicates=10)
    assert oximetry.bias(pairs, quick).value == pytest.approx(1.0, abs=0.1)
    assert oximetry.precision(pairs, quick).value == pytest.approx(np.sqrt(5.0), abs=0.1)
    assert oximetry.accuracy(pairs, quick).value == pytest.approx(np.sqrt(6.0), abs=0.1)
    limits = oximetry.agreement(pairs, Statistics())
    assert limits.between_variance == pytest.approx(1.0, abs=0.15)
    assert limits.within_variance == pytest.approx(4.0, abs=0.15)


def test_the_interval_by_subject_covers_the_true_bias(rng: np.random.Generator) -> None:
    trials, hits = 1000, 0
    quick = Statistics(bootstrap_replicates=400)
    for _ in range(trials):
        estimate = oximetry.bias(simulated(rng, 40, bias=0.5, between=1.0, within=1.0), quick)
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= 0.5 <= estimate.high
    # A percentile bootstrap of 40 subjects covers 93.9 % where 95 % is meant, P(|t| < 1.96 sqrt(39/40)), and
    # with 400 replicates half a point less; the Monte-Carlo standard error of 1,000 trials is 0.8 points. Pairs
    # resampled without regard to subjects would cover about 40 %.
    assert hits / trials == pytest.approx(0.935, abs=3 * 0.008)


def test_equal_seeds_give_equal_intervals_and_order_does_not_matter(rng: np.random.Generator) -> None:
    pairs = simulated(rng, 12, bias=1.0, between=1.0, within=1.0)
    shuffled = rng.permutation(pairs.subjects.size)
    again = OximeterPairs(
        pairs.subjects[shuffled],
        pairs.times_ns[shuffled],
        pairs.reference_percent[shuffled],
        pairs.test_percent[shuffled],
    )
    first, second = oximetry.accuracy(pairs, BANDS), oximetry.accuracy(again, BANDS)
    assert (first.low, first.high) == pytest.approx((second.low, second.high))
    assert oximetry.accuracy(pairs, BANDS) == first


def test_bands_are_half_open_but_the_last_has_its_upper_edge() -> None:
    values = [69.99, 70.0, 79.99, 80.0, 90.0, 100.0, 100.01, np.nan]
    assert oximetry.band_of(values, BANDS.band_edges).tolist() == [-1, 0, 0, 1, 2, 2, -1, -1]


def test_accuracy_is_also_given_in_every_band() -> None:
    details = oximetry.accuracy(study([71, 83, 95, 97], [70, 80, 91, 100]), BANDS).details
    assert (details["n_70_80"], details["n_80_90"], details["n_90_100"]) == (1, 1, 2)
    assert details["arms_70_80"] == 1.0
    assert details["bias_90_100"] == 0.5
    assert np.isnan(details["precision_80_90"])


def test_every_exclusion_is_counted_once_under_its_reason() -> None:
    pairs = study(
        [90, 90, np.nan, 101, -1, 90, np.nan],
        [np.nan, 69.9, 90, 90, 90, 90, 100.5],
    )
    usable, exclusions = oximetry.usable_pairs(pairs, BANDS.band_edges)
    assert usable.times_ns.tolist() == [5]
    assert exclusions == oximetry.Exclusions(
        reference_missing=1, reference_out_of_range=2, test_missing=1, test_no_saturation=2
    )
    facts = oximetry.design_facts(pairs, BANDS)
    assert facts["pairs"] == 1
    assert facts["excluded_reference_out_of_range"] == 2
    assert facts["read_rate_percent"] == 75.0


def test_the_range_is_inclusive_at_both_ends() -> None:
    usable, _ = oximetry.usable_pairs(study([71, 99], [70, 100]), BANDS.band_edges)
    assert usable.times_ns.size == 2


def test_design_facts_count_subjects_and_the_poorest_band() -> None:
    pairs = study([75] * 6 + [85] * 2 + [95] * 2, [75] * 6 + [85] * 2 + [95] * 2, ["a"] * 4 + ["b"] * 6)
    facts = oximetry.design_facts(pairs, BANDS)
    assert (facts["subjects"], facts["pairs"]) == (2, 10)
    assert facts["smallest_band_share_percent"] == 20.0


def test_a_study_without_pairs_has_facts_and_no_values() -> None:
    empty = OximeterPairs.gather([])
    assert oximetry.design_facts(empty, BANDS)["pairs"] == 0
    for figure in (oximetry.accuracy, oximetry.bias, oximetry.precision, oximetry.read_rate):
        estimate = figure(empty, BANDS)
        assert np.isnan(estimate.value)
        assert estimate.low is None
    assert np.isnan(oximetry.agreement(empty, BANDS).bias)


def test_one_subject_gives_a_value_without_interval() -> None:
    estimate = oximetry.accuracy(study([91, 92], [90, 90]), BANDS)
    assert estimate.low is None
    assert "fewer than 2 subjects" in estimate.method


def test_recordings_are_gathered_with_their_subjects() -> None:
    def recording(start: int, n: int) -> PairedReadings:
        return PairedReadings(np.arange(start, start + n), np.full(n, 90.0), np.full(n, 91.0), 0)

    pairs = OximeterPairs.gather([("anna", recording(0, 2)), ("bo", recording(10, 1)), ("cy", recording(0, 0))])
    assert pairs.subjects.tolist() == ["anna", "anna", "bo"]
    assert pairs.times_ns.tolist() == [0, 1, 10]


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(SignalError, match="the same for all columns"):
        OximeterPairs(np.array(["a"]), np.arange(2), np.zeros(2), np.zeros(2))
    with pytest.raises(SignalError, match="expected pairs"):
        arms_percent([1.0, 2.0], [1.0])
