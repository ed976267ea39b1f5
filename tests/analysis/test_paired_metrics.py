"""Figures of agreement of a study's pairs, against plain arithmetic and known coverage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis import paired_metrics
from analysis.agreement import bland_altman
from analysis.paired_study import PairedStudy
from protocols.clinical.criteria import Statistics

FEW = Statistics(bootstrap_replicates=400, seed=9)
METRICS = {
    "bias": (paired_metrics.mean_difference, lambda d, r: d.mean()),
    "sd": (paired_metrics.sd_of_differences, lambda d, r: d.std(ddof=1)),
    "rms": (paired_metrics.root_mean_square, lambda d, r: np.sqrt((d**2).mean())),
    "mae": (paired_metrics.mean_absolute_difference, lambda d, r: np.abs(d).mean()),
    "mape": (paired_metrics.mean_absolute_percentage, lambda d, r: (100 * np.abs(d) / r).mean()),
}


def trial(
    rng: np.random.Generator, *, n_subjects: int = 12, per_subject: int = 8, spread: float = 1.0
) -> PairedStudy:
    parts = []
    for number in range(n_subjects):
        reference = rng.uniform(60, 120, per_subject)
        test = reference + 0.5 + rng.normal(0, 1) + rng.normal(0, 2, per_subject)
        parts.append(
            PairedStudy.of_pairs(
                "heart_rate", f"S-{number}", f"s-{number}", np.arange(per_subject), reference, test
            )
        )
    return PairedStudy.gather(parts)


@pytest.mark.parametrize("name", METRICS)
def test_a_figure_is_what_plain_arithmetic_gives(rng: np.random.Generator, name: str) -> None:
    study = trial(rng)
    make, plainly = METRICS[name]
    estimate = make("heart_rate")(study, FEW)
    assert estimate.value == pytest.approx(plainly(study.differences, study.reference))
    assert estimate.n == study.n_pairs
    assert estimate.low < estimate.value < estimate.high


@pytest.mark.parametrize("name", METRICS)
def test_without_pairs_there_is_no_figure_and_with_one_subject_no_interval(
    rng: np.random.Generator, name: str
) -> None:
    metric = METRICS[name][0]("heart_rate")
    assert np.isnan(metric(PairedStudy.empty(), FEW).value)
    alone = metric(trial(rng, n_subjects=1), FEW)
    assert (np.isfinite(alone.value), alone.low, alone.method) == (
        True,
        None,
        "no interval: fewer than 2 subjects",
    )


def test_shares_are_inclusive_even_where_floats_are_not_exact() -> None:
    study = PairedStudy.of_pairs(
        "temperature", "S-1", "a", np.arange(3), [36.6, 36.6, 36.6], [36.9, 36.3, 37.0]
    )
    within = paired_metrics.share_within("temperature", 0.3)(study, FEW)
    assert within.value == pytest.approx(200 / 3)


def test_a_reference_of_zero_has_no_percentage() -> None:
    study = PairedStudy.of_pairs("steps", "S-1", "a", np.arange(2), [0, 100], [1, 100])
    assert np.isnan(paired_metrics.mean_absolute_percentage("steps")(study, FEW).value)


def test_the_same_seed_gives_the_same_interval_and_the_order_of_subjects_does_not_move_the_value(
    rng: np.random.Generator,
) -> None:
    study = trial(rng)
    metric = paired_metrics.root_mean_square("heart_rate")
    assert metric(study, FEW) == metric(study, FEW)
    order = rng.permutation(study.n_pairs)
    shuffled = study.chosen(np.ones(study.n_pairs, dtype=bool)[order])
    assert metric(shuffled, FEW).value == pytest.approx(metric(study, FEW).value)


def test_limits_of_agreement_hold_the_share_of_differences_they_say(rng: np.random.Generator) -> None:
    study = trial(rng, n_subjects=400)
    lower, upper = (
        paired_metrics.limit_of_agreement("heart_rate", side)(study, FEW).value for side in ("lower", "upper")
    )
    inside = ((study.differences > lower) & (study.differences < upper)).mean()
    assert inside == pytest.approx(0.95, abs=0.015)  # 3,200 differences of 400 subjects: 2 sd of a share


def test_limits_of_agreement_have_the_intervals_of_their_design(rng: np.random.Generator) -> None:
    metric = paired_metrics.limit_of_agreement("heart_rate", "upper")
    study = trial(rng, n_subjects=12)
    several = bland_altman(study.test, study.reference, subject=study.subjects)
    found = metric(study, FEW)
    assert (found.low, found.high, found.level) == (*several.mover.upper, 0.95)
    assert "MOVER" in found.method

    _, first = np.unique(study.subjects, return_index=True)
    once = study.chosen(np.isin(np.arange(study.n_pairs), first))
    found = metric(once, FEW)
    assert (found.low, found.high) == tuple(bland_altman(once.test, once.reference).exact.upper)

    constant = metric(replace(study, test=study.reference + 2.0), FEW)
    assert constant.value == pytest.approx(2.0)
    assert (constant.low, constant.high) == (None, None)
    assert constant.method.endswith("no interval")


@pytest.mark.parametrize("n_subjects", [6, 30])
def test_the_interval_by_subject_covers_the_truth(rng: np.random.Generator, n_subjects: int) -> None:
    # bias 0.5; subjects' offsets of 1 and scatter of 2 make a standard deviation of sqrt(5)
    truth = {"bias": 0.5, "sd": np.sqrt(5.0), "rms": np.sqrt(5.25)}
    covered = dict.fromkeys(truth, 0)
    for _ in range(500):
        study = trial(rng, n_subjects=n_subjects, per_subject=8)
        for name, value in truth.items():
            estimate = METRICS[name][0]("heart_rate")(study, FEW)
            covered[name] += estimate.low <= value <= estimate.high
    # three standard errors of 500 trials are 3 points; the spread of 6 subjects is told a little short
    for name, hits in covered.items():
        assert 0.92 - 0.04 * (n_subjects < 10) <= hits / 500 <= 0.98, name


def test_where_all_subjects_say_the_same_no_interval_claims_to_know_more() -> None:
    studies = [
        PairedStudy.of_pairs("temperature", f"S-{k}", "a", np.arange(3), [36.6] * 3, [36.7] * 3)
        for k in range(4)
    ]
    within = paired_metrics.share_within("temperature", 0.3)(PairedStudy.gather(studies), FEW)
    assert (within.value, within.high) == (100.0, 100.0)
    assert within.low == pytest.approx(100 * 0.025 ** (1 / 4))  # exact for 4 of 4
    assert within.method == "exact, 4 subjects as trials: all pairs had the same result"
    for metric in (paired_metrics.mean_difference, paired_metrics.root_mean_square):
        same = metric("temperature")(PairedStudy.gather(studies), FEW)
        assert same.value == pytest.approx(0.1)
        assert (same.low, same.high) == (None, None)
        assert same.method == "no interval: all subjects say the same"
