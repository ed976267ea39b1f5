"""What a study of glucose can be asked: shares, the worst of lots, special controls, facts of its sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from analysis.glucose_accuracy import ISO_15197_2013, mard_percent
from analysis.glucose_facts import BINS_MGDL, GLUCOSE_FACTS, bin_name, glucose_facts
from analysis.glucose_study import (
    STUDY,
    icgm_control,
    icgm_rate,
    share_in_zones,
    share_within_tolerance,
    worst_share_within,
)
from analysis.icgm import icgm_contradictions, icgm_controls, icgm_rates
from analysis.paired_study import PairedStudy
from protocols.clinical.criteria import Statistics

QUICK = Statistics(bootstrap_replicates=50)


def study(reference: Any, test: Any, *, subjects: Any = None, facts: Any = None, **further: Any) -> PairedStudy:
    """Return pairs of glucose, with columns where what is further given are numbers and labels where words."""
    pairs = PairedStudy.of_pairs("glucose", "S", "s", np.arange(len(reference)), reference, test)
    given = {name: np.asarray(values) for name, values in further.items()}
    return replace(
        pairs,
        subjects=np.asarray(subjects) if subjects is not None else pairs.subjects,
        columns={name: v.astype(np.float64) for name, v in given.items() if v.dtype.kind != "U"},
        labels={name: v for name, v in given.items() if v.dtype.kind == "U"},
        facts=facts or {},
    )


def random_pairs(rng: np.random.Generator, n: int = 600) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    reference = np.round(np.exp(rng.normal(4.9, 0.5, n)).clip(30, 500), 1)
    return reference, np.round(reference * rng.normal(1, 0.15, n), 1)


def test_metrics_agree_with_the_functions_they_stand_for(rng: np.random.Generator) -> None:
    reference, test = random_pairs(rng)
    true, sensed = rng.normal(0, 3, 600), rng.normal(0, 2, 600)
    subjects = np.array([f"S-{k % 20}" for k in range(600)])
    pairs = study(reference, test, subjects=subjects, reference_rate=true, rate=sensed)
    values = {name: metric.function(pairs, QUICK) for name, metric in STUDY.metrics.items() if "icgm" in name}
    controls = icgm_controls(reference, test, subject=subjects, replicates=50, seed=1)
    for control in controls:
        found = values[f"glucose_icgm_{control.control.lower()}"]
        assert found.value == control.within.percent
        assert found.low == control.within.lower_bound_percent
        assert found.details["lower_bound_by_subject"] == control.subject_lower_bound_percent
    both = icgm_contradictions(reference, test)
    assert values["glucose_icgm_h"].value == both.low_over_high
    assert values["glucose_icgm_i"].value == both.high_over_low
    rates = icgm_rates(true, sensed)
    assert values["glucose_icgm_j"].value == rates.rising_while_falling.percent
    assert values["glucose_icgm_k"].value == rates.falling_while_rising.percent
    mard = STUDY.metrics["glucose_mard"].function(pairs, QUICK)
    assert mard.value == pytest.approx(mard_percent(reference, test))


def test_a_sensor_exactly_at_the_limit_passes_as_seldom_as_an_exact_bound_allows(
    rng: np.random.Generator,
) -> None:
    control, n, trials = icgm_control("A"), 300, 400
    once = Statistics(bootstrap_replicates=1)
    passes = 0
    for _ in range(trials):
        test = np.where(rng.random(n) < 0.85, 60.0, 40.0)
        passes += control(study(np.full(n, 60.0), test), once).low > 85.0
    # exact bounds exceed at most 5 % of the time: 20 of 400 on average, 33 by chance in 1 of 500
    counts = np.arange(n + 1)
    lowest = next(int(k) for k in counts if stats.beta.ppf(0.05, k, n - k + 1) > 0.85)
    theory = stats.binom.sf(lowest - 1, n, 0.85)
    assert 0.0 < theory <= 0.05
    assert stats.binom.cdf(passes, trials, theory) > 0.001
    assert stats.binom.sf(passes - 1, trials, theory) > 0.001


@pytest.mark.parametrize("share", [95, 98, 99])
def test_a_share_exactly_at_its_limit_is_that_limit(share: int) -> None:
    for n in (100, 300, 700, 1100, 5800):
        test = np.full(n, 100.0)
        test[: n * (100 - share) // 100] = 400.0
        pairs = study(np.full(n, 100.0), test)
        assert share_within_tolerance(ISO_15197_2013)(pairs, QUICK).value == float(share)
        assert worst_share_within(ISO_15197_2013, "lot")(pairs, QUICK).value == float(share)


def test_ranges_are_the_devices_and_hold_their_edges_in_the_middle() -> None:
    pairs = study([100.0, 100.0, 100.0, 100.0], [69.9, 70.0, 180.0, 180.1])
    assert [icgm_control(letter)(pairs, QUICK).n for letter in "ABCG"] == [1, 2, 1, 4]


def test_the_tolerance_holds_its_edge_also_after_a_conversion() -> None:
    molar = np.array([5.6, 10.0, 7.0, 3.3])
    pairs = study(molar * 18.0182, molar * 1.15 * 18.0182)
    assert share_within_tolerance(ISO_15197_2013)(pairs, QUICK).value == 100.0
    pairs = study([99.9, 100.0], [114.9, 115.1])
    assert share_within_tolerance(ISO_15197_2013)(pairs, QUICK).value == 50.0


def test_the_order_of_pairs_and_names_of_lots_do_not_matter(rng: np.random.Generator) -> None:
    reference, test = random_pairs(rng)
    lots = np.array(["A", "B", "C"])[np.arange(600) % 3]
    subjects = np.array([f"S-{k % 40}" for k in range(600)])
    metric = worst_share_within(ISO_15197_2013, "lot")
    first = metric(study(reference, test, subjects=subjects, lot=lots), QUICK)
    order = rng.permutation(600)
    again = metric(study(reference[order], test[order], subjects=subjects[order], lot=lots[order]), QUICK)
    assert (again.value, again.n, again.low, again.high) == (first.value, first.n, first.low, first.high)
    assert min(first.details[f"lot {lot}"] for lot in "ABC") == first.value
    one = metric(study(reference, test, subjects=subjects), QUICK)
    assert one.value == share_within_tolerance(ISO_15197_2013)(study(reference, test), QUICK).value
    assert "worst" not in one.method


def test_a_share_of_all_has_the_subjects_bound_and_no_pairs_have_no_share() -> None:
    subjects = np.array([f"S-{k % 30}" for k in range(90)])
    found = share_in_zones("parkes_1", "AB")(
        study(np.full(90, 120.0), np.full(90, 121.0), subjects=subjects), QUICK
    )
    assert found.value == found.high == 100.0
    assert found.low == pytest.approx(100 * 0.025 ** (1 / 30))
    assert found.details["exact_low"] == pytest.approx(100 * 0.025 ** (1 / 90))
    nothing = share_in_zones("clarke", "A")(STUDY.nothing, QUICK)
    assert np.isnan(nothing.value)
    assert nothing.n == 0


def test_rates_that_nobody_can_have_or_that_are_missing_do_not_count() -> None:
    pairs = study(
        np.full(5, 100.0),
        np.full(5, 100.0),
        reference_rate=[-3, -3, -300, np.nan, -3],
        rate=[2, -2, 2, 2, np.nan],
    )
    found = icgm_rate("rising_while_falling")(pairs, QUICK)
    assert (found.value, found.n) == (50.0, 2)
    assert found.details["pairs_without_rates"] == 3
    facts = glucose_facts(pairs, QUICK)
    assert (facts["falling_moments"], facts["rising_moments"]) == (2, 0)


def test_what_is_not_stated_is_no_fact() -> None:
    facts = glucose_facts(study([100.0, 110.0], [101.0, 108.0]), QUICK)
    unknown = {
        "lots",
        "vials",
        "operators",
        "sites",
        "matrices",
        "fewest_lay_users_per_site",
        "naive_share_percent",
    }
    assert not (unknown | {"falling_moments", "rising_moments"}) & facts.keys()
    assert facts.keys() <= GLUCOSE_FACTS.keys()
    assert facts["fewest_pairs_per_lot"] == 2


def test_facts_of_subjects_count_those_of_whom_they_are_stated() -> None:
    facts = {
        "S-1": {"user_group": "patient", "naive": "yes"},
        "S-2": {"user_group": "nurse", "naive": "no"},
        "S-3": {"user_group": "carer"},
        "S-9": {"user_group": "lay", "naive": "yes"},
    }
    pairs = study(np.full(4, 100.0), np.full(4, 100.0), subjects=["S-1", "S-2", "S-3", "S-4"], facts=facts)
    found = glucose_facts(pairs, QUICK)
    assert found["fewest_lay_users_per_site"] == 2
    assert found["naive_share_percent"] == 25.0


def test_vials_are_told_apart_by_lot_and_altered_samples_are_no_extremes() -> None:
    pairs = study(
        [70.0, 79.9, 80.0, 250.0, 300.0],
        np.full(5, 100.0),
        lot=["A", "A", "B", "B", ""],
        vial=[1.0, 2.0, 1.0, np.nan, np.nan],
        altered=["yes", "no", "", "", "yes"],
        matrix=["capillary", "capillary", "capillary", "venous", "venous"],
    )
    found = glucose_facts(pairs, QUICK)
    assert (found["lots"], found["vials"], found["matrices"]) == (2, 3, 2)
    assert (found["fewest_below_80_per_site"], found["fewest_from_250_per_site"]) == (1, 1)
    assert (found["fewest_below_80_per_matrix"], found["fewest_from_300_per_matrix"]) == (0, 0)


def test_bins_hold_their_upper_edge_and_are_all_of_the_pairs(rng: np.random.Generator) -> None:
    reference = rng.uniform(20, 600, 200)
    found = glucose_facts(study(reference, reference), QUICK)
    assert sum(found[bin_name(*edges)] for edges in BINS_MGDL) == pytest.approx(100.0)
    found = glucose_facts(study([50.0, 80.0, 400.0, 400.1], np.full(4, 100.0)), QUICK)
    shares = [found[bin_name(*edges)] for edges in BINS_MGDL]
    assert shares == [25.0, 25.0, 0.0, 0.0, 0.0, 25.0, 25.0]


def test_left_out_are_moments_with_both_values_that_do_not_count() -> None:
    pairs = study([100.0, 100.0, np.nan, 100.0, 3000.0], [np.nan, 0.5, 100.0, 100.0, 100.0])
    found = glucose_facts(pairs, QUICK)
    assert (found["values_left_out"], found["excluded"], found["pairs"]) == (2, 4, 1)


def test_two_tables_of_which_one_numbers_its_lots_are_joined() -> None:
    numbered = study([100.0, 100.0], [100.0, 100.0], lot=[1.0, 2.0])
    named = study([100.0, 100.0], [100.0, 150.0], lot=["A", "2"])
    both = PairedStudy.gather([replace(numbered, sessions=np.array(["a", "a"])), named])
    found = worst_share_within(ISO_15197_2013, "lot")(both, QUICK)
    assert {k: v for k, v in found.details.items() if k.startswith("lot")} == {
        "lot 1": 100.0,
        "lot 2": 50.0,
        "lot A": 100.0,
    }
