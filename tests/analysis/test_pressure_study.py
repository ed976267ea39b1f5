"""Metrics of a blood pressure study against the plain statistics, and intervals that cover the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.continuous_pressure import change_errors, iso_81060_3
from analysis.metric import Metric
from analysis.paired_study import PairedStudy
from analysis.pressure_accuracy import invasive_errors, iso_81060_2, pressure_errors
from analysis.pressure_facts import PRESSURE_FACTS
from analysis.pressure_grades import esh_2010, pressure_grades
from analysis.pressure_study import PRESSURE_STUDY
from protocols.clinical.criteria import Statistics

STATISTICS = Statistics(bootstrap_replicates=300, seed=4)
METRICS = PRESSURE_STUDY.metrics


def study(
    rng: np.random.Generator,
    *,
    sizes: list[int] | None = None,
    quantity: str = "sbp",
    bias: float = 1.0,
    subject_sd: float = 3.0,
    sd: float = 4.0,
) -> PairedStudy:
    """Return pairs with errors of known components, subjects of the given sizes in mixed order."""
    counts = sizes or [3] * 85
    numbers = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    reference = rng.uniform(90.0, 190.0, numbers.size)
    errors = bias + rng.normal(0.0, subject_sd, len(counts))[numbers] + rng.normal(0.0, sd, numbers.size)
    subjects = np.array([f"S-{number}" for number in numbers])
    times_ns = np.arange(numbers.size, dtype=np.int64)
    return PairedStudy(
        np.full(numbers.size, quantity), subjects, subjects, times_ns, reference, reference + errors
    )


def value(name: str, pairs: PairedStudy) -> float:
    return METRICS[name].function(pairs, STATISTICS).value


@pytest.mark.parametrize("sizes", [None, [1, 2, 3, 4, 5, 9] * 5])
def test_figures_of_sums_are_the_plain_statistics(rng: np.random.Generator, sizes: list[int] | None) -> None:
    pairs = study(rng, sizes=sizes)
    plain = iso_81060_2(pairs.test, pairs.reference, subject=pairs.subjects)
    assert value("sbp_bias", pairs) == pytest.approx(plain.mean)
    assert value("sbp_abs_bias", pairs) == pytest.approx(abs(plain.mean))
    assert value("sbp_sd", pairs) == pytest.approx(plain.sd)
    assert value("sbp_subject_sd", pairs) == pytest.approx(plain.subject_sd)
    assert value("sbp_subject_sd_limit", pairs) == plain.subject_sd_limit
    continuous = iso_81060_3(pairs.test, pairs.reference, subject=pairs.subjects)
    assert value("sbp_s_corr", pairs) == pytest.approx(continuous.s_corr)
    assert value("sbp_n_independent", pairs) == pytest.approx(continuous.n_independent)


def test_invasive_errors_and_their_statistics(rng: np.random.Generator) -> None:
    pairs = study(rng, bias=-4.0)
    sd = rng.uniform(0.0, 4.0, pairs.n_pairs)
    sd[3] = np.nan
    pairs = replace(pairs, columns={"reference_sd": sd})
    known = ~np.isnan(sd)
    errors = invasive_errors(pairs.test[known], pairs.reference[known], sd[known])
    plain = pressure_errors(errors, subject=pairs.subjects[known])
    assert value("sbp_invasive_bias", pairs) == pytest.approx(plain.mean)
    assert value("sbp_invasive_abs_bias", pairs) == pytest.approx(-plain.mean)
    assert value("sbp_invasive_sd", pairs) == pytest.approx(plain.sd)
    facts = PRESSURE_STUDY.design_facts(pairs, STATISTICS)
    assert facts["pairs_without_reference_sd"] == 1
    assert np.isnan(value("sbp_invasive_sd", replace(pairs, columns={})))


def test_grades_and_counts_are_the_plain_ones(rng: np.random.Generator) -> None:
    pairs = study(rng, sizes=[3] * 33, bias=2.0)
    grades = pressure_grades(pairs.test, pairs.reference)
    for name, letter in (("sbp_bhs_grade", grades.bhs), ("sbp_ieee_1708_2014_grade", grades.ieee_2014)):
        assert METRICS[name].grades[int(value(name, pairs)) - 1] == letter
    assert value("sbp_mae", pairs) == pytest.approx(grades.mad)
    assert value("sbp_mape", pairs) == pytest.approx(grades.mapd_percent)
    for limit, share in zip((5, 10, 15), grades.within_percent, strict=True):
        assert value(f"sbp_within_{limit}", pairs) == pytest.approx(share)
    esh = esh_2010(pairs.test, pairs.reference, subject=pairs.subjects)
    assert tuple(value(f"sbp_esh_within_{limit}", pairs) for limit in (5, 10, 15)) == esh.within
    assert value("sbp_esh_subjects_with_two", pairs) == esh.subjects_with_two
    assert value("sbp_esh_subjects_with_none", pairs) == esh.subjects_with_none


def test_the_worse_of_both_pressures_is_the_grade(rng: np.random.Generator) -> None:
    good, bad = study(rng, sd=1.0, subject_sd=1.0), study(rng, quantity="dbp", bias=9.0)
    for joint in ("bhs_grade", "ieee_1708_2014_grade"):
        assert np.isnan(value(joint, good))  # nothing is known of diastolic pressure
        assert value(joint, PairedStudy.gather([good, bad])) == 4
    assert value("sbp_bhs_grade", PairedStudy.gather([good, bad])) == 1


def test_changes_are_the_plain_ones_and_small_ones_left_out(rng: np.random.Generator) -> None:
    pairs = study(rng, sizes=[4, 6, 9, 1])
    reference_change = rng.uniform(-40.0, 40.0, pairs.n_pairs)
    test_change = reference_change * rng.uniform(0.5, 1.5, pairs.n_pairs)
    reference_change[0] = np.nan
    columns = {
        "reference_baseline": pairs.reference - reference_change,
        "test_baseline": pairs.test - test_change,
    }
    pairs = replace(pairs, columns=columns)
    plain = change_errors(test_change, reference_change, subject=pairs.subjects, threshold_mmhg=15.0)
    assert value("sbp_change_error_median", pairs) == pytest.approx(plain.median_percent)
    assert value("sbp_change_error_p85", pairs) == pytest.approx(plain.p85_percent)
    assert METRICS["sbp_change_error_p85"].function(pairs, STATISTICS).n == plain.n_changes
    stability = replace(pairs, labels={"phase": np.full(pairs.n_pairs, "stability")})
    assert np.isnan(value("sbp_change_error_median", stability))


def test_phases_are_told_apart(rng: np.random.Generator) -> None:
    pairs = study(rng)
    stable = study(rng, sizes=[5] * 20, bias=30.0, sd=1.0)
    phases = [("", pairs.n_pairs), ("stability", stable.n_pairs)]
    both = replace(PairedStudy.gather([pairs, stable]), labels={"phase": np.repeat(*zip(*phases, strict=True))})
    assert value("sbp_bias", both) == pytest.approx(value("sbp_bias", pairs))
    assert value("sbp_s_corr", both) == pytest.approx(value("sbp_s_corr", pairs))
    assert value("sbp_stability_s_corr", both) == pytest.approx(value("sbp_s_corr", stable))
    assert PRESSURE_STUDY.design_facts(both, STATISTICS)["sbp_pairs"] == pairs.n_pairs
    assert np.isnan(value("sbp_stability_s_corr", pairs))


@pytest.mark.parametrize("name", METRICS)
def test_order_and_names_of_subjects_change_nothing_and_nothing_gives_nothing(
    rng: np.random.Generator, name: str
) -> None:
    pairs = PairedStudy.gather([study(rng, sizes=[3] * 20), study(rng, sizes=[3] * 20, quantity="dbp")])
    pairs = replace(
        pairs,
        reference=np.where(pairs.quantities == "dbp", pairs.reference - 40.0, pairs.reference),
        test=np.where(pairs.quantities == "dbp", pairs.test - 40.0, pairs.test),
        columns={
            "reference_sd": np.full(pairs.n_pairs, 1.0),
            "reference_baseline": np.full(pairs.n_pairs, 60.0),
            "test_baseline": np.full(pairs.n_pairs, 62.0),
        },
    )
    metric: Metric = METRICS[name]
    order = rng.permutation(pairs.n_pairs)
    renamed = np.char.add("T", pairs.subjects)
    moved = pairs.chosen(order)
    assert metric.function(moved, STATISTICS).value == pytest.approx(
        metric.function(pairs, STATISTICS).value, nan_ok=True
    )
    assert metric.function(replace(pairs, subjects=renamed), STATISTICS).value == pytest.approx(
        metric.function(pairs, STATISTICS).value, nan_ok=True
    )
    assert np.isnan(metric.function(PairedStudy.empty(), STATISTICS).value)
    one = pairs.chosen(np.arange(pairs.n_pairs) == 0)
    metric.function(one, STATISTICS)


def test_the_interval_of_the_subjects_spread_covers_it_about_as_often_as_it_says() -> None:
    # 95 % percentile bootstrap of 85 subjects: known to be a little short; 300 trials have a
    # standard error of 1.3 points
    covered = []
    for seed in range(300):
        pairs = study(np.random.default_rng(seed), subject_sd=5.0, sd=3.0)
        found = METRICS["sbp_subject_sd"].function(pairs, replace(STATISTICS, seed=seed))
        assert found.low is not None
        assert found.high is not None
        covered.append(found.low <= np.sqrt(5.0**2 + 3.0**2 / 3) <= found.high)
    assert 0.89 <= np.mean(covered) <= 0.985


def test_every_fact_that_may_be_known_is_described(rng: np.random.Generator) -> None:
    pairs = PairedStudy.gather([study(rng), study(rng, quantity="dbp")])
    facts = {
        str(subject): {"sex": "female", "age_years": 50.0, "arm_circumference_cm": 30.0, "cuff": "medium"}
        for subject in np.unique(pairs.subjects)
    }
    limbs = {
        name: np.full(pairs.n_pairs, limit) for name, limit in (("limb_low_cm", 22.0), ("limb_high_cm", 42.0))
    }
    known = PRESSURE_STUDY.design_facts(replace(pairs, facts=facts, columns=limbs), STATISTICS)
    assert known.keys() <= PRESSURE_FACTS.keys()
    assert known["limb_lower_half_share_percent"] == 100.0
    assert known["limb_lower_quarter_share_percent"] == 0.0
    assert (known["cuffs"], known["rarest_cuff_percent"]) == (1, 200)
    for fact in PRESSURE_FACTS.values():
        assert not fact.of or fact.of in PRESSURE_FACTS


def test_shares_bands_and_limbs_at_their_edges() -> None:
    subjects = np.array(["A", "B", "C", "D", "E", "F", "G", "H"])
    reference = np.array([100.0, 140.0, 160.0, 101.0, 130.0, 160.9, 161.0, 181.0])
    pairs = PairedStudy(
        np.full(8, "sbp"),
        subjects,
        subjects,
        np.arange(8),
        reference,
        reference,
        columns={"limb_low_cm": np.full(8, 20.0), "limb_high_cm": np.full(8, 36.0)},
    )
    limbs = (20.0, 21.9, 22.0, 23.9, 24.0, 28.0, 32.0, 36.0)
    pairs = replace(
        pairs,
        facts={s: {"arm_circumference_cm": cm} for s, cm in zip(subjects.tolist(), limbs, strict=True)},
    )
    facts = PRESSURE_STUDY.design_facts(pairs, STATISTICS)
    shares = {name: facts[f"sbp_{name}_share_percent"] for name in ("up_to_100", "from_140", "from_160")}
    assert shares == {"up_to_100": 12.5, "from_140": 62.5, "from_160": 50.0}
    assert facts["sbp_subjects_130_to_160"] == 4
    assert facts["sbp_subjects_161_to_180"] == 1
    assert facts["sbp_subjects_above_160"] == 2
    assert "dbp_from_85_share_percent" not in facts
    parts = {n: facts[f"limb_{n}_share_percent"] for n in ("lower_octile", "lower_quarter", "lower_half")}
    assert parts == {"lower_octile": 25.0, "lower_quarter": 50.0, "lower_half": 62.5}
    upper = {n: facts[f"limb_{n}_share_percent"] for n in ("upper_octile", "upper_quarter", "upper_half")}
    assert upper == {"upper_octile": 12.5, "upper_quarter": 25.0, "upper_half": 37.5}
