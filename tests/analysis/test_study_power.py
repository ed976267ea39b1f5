"""Sample sizes of protocols: enough and no more, every assumption said, and what cannot be planned named."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.sample_size import rms_error_sample_size
from analysis.share_power import share_trials
from analysis.study_power import StudyPlan, study_plan
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Criterion
from protocols.clinical.library import shipped
from protocols.errors import DefinitionError

ARMS = shipped()["iso-80601-2-61-2017"]
PRESSURE = shipped()["iso-81060-2-2018"].applied()
DEVICE = {"bias": 1.0, "sd": 3.5, "subject_sd": 1.5}
TRIALS = 4000


def with_criterion(protocol: ClinicalProtocol, **changes: object) -> ClinicalProtocol:
    return replace(protocol, criteria=(replace(protocol.criteria[0], **changes),))  # type: ignore[arg-type]


def heart_rate(*criteria: Criterion) -> ClinicalProtocol:
    claim = shipped()["respiratory-rate-claim"].applied(None, {"claimed_error": 2.0, "subjects": 2.0})
    return replace(claim, measurand="heart_rate", criteria=criteria, design=())


def criterion(metric: str, comparison: str, limit: float, unit: str, **more: object) -> Criterion:
    return replace(
        ARMS.criteria[0],
        id=metric,
        title=metric,
        metric=metric,
        comparison=comparison,
        limit=limit,
        unit=unit,
        **more,  # type: ignore[arg-type]
    )


def passed(rng: np.random.Generator, n_subjects: int, m: int, limit: float) -> float:
    """Return the share of simulated trials whose root mean square is within the limit."""
    within = np.sqrt(DEVICE["sd"] ** 2 - DEVICE["subject_sd"] ** 2)
    d = DEVICE["bias"] + rng.normal(0, DEVICE["subject_sd"], (TRIALS, n_subjects, 1))
    d = d + rng.normal(0, within, (TRIALS, n_subjects, m))
    return float((np.sqrt((d**2).mean((1, 2))) <= limit).mean())


def test_arms_needs_as_many_subjects_as_pass_in_simulated_trials(rng: np.random.Generator) -> None:
    plan = study_plan(ARMS, DEVICE, power=0.9)
    (arms,) = plan.criteria
    assert (arms.subjects, arms.pairs) == (9, 180)
    error = 4 * np.sqrt(0.09 / TRIALS)
    assert passed(rng, 9, 20, 4.0) == pytest.approx(arms.power, abs=error)
    assert passed(rng, 10, 20, 4.0) == pytest.approx(arms.power_at_design, abs=error)
    # alone 9 are enough; the design wants 10 in any case
    assert (plan.subjects, plan.pairs, plan.power) == (10, 200, arms.power_at_design)


def test_more_power_needs_more_subjects_and_one_fewer_is_not_enough() -> None:
    sizes = [study_plan(ARMS, DEVICE | {"sd": 3.7}, power=power).criteria[0] for power in (0.6, 0.8, 0.9, 0.99)]
    subjects = [size.subjects for size in sizes]
    assert subjects == sorted(set(subjects))
    assert all(size.power >= power for size, power in zip(sizes, (0.6, 0.8, 0.9, 0.99), strict=True))


def test_pairs_of_one_subject_that_resemble_one_another_cost_subjects() -> None:
    alike, unlike = (
        study_plan(ARMS, DEVICE | {"subject_sd": subject_sd}, power=0.9).criteria[0].subjects
        for subject_sd in (2.5, 0.5)
    )
    assert alike > 2 * unlike


def test_criteria_of_one_quantity_are_planned_together() -> None:
    plan = study_plan(PRESSURE, {"bias": 3.5, "sd": 7.6, "subject_sd": 4.0}, power=0.9)
    assert [c.criterion.id for c in plan.criteria] == [
        "sbp-mean-error",
        "sbp-sd",
        "dbp-mean-error",
        "dbp-sd",
        "sbp-subject-sd",
        "dbp-subject-sd",
    ]
    assert plan.subjects > max(c.subjects for c in plan.criteria)
    assert plan.power >= 0.9
    assert any("Bonferroni" in assumption for assumption in plan.assumptions)


def test_quantities_may_be_expected_to_differ() -> None:
    both = {"bias": 1.0, "sd": 6.0, "subject_sd": 3.0}
    plan = study_plan(PRESSURE, both | {"sbp_sd": 7.8}, power=0.9)
    of = {c.criterion.id: c for c in plan.criteria}
    assert of["sbp-sd"].subjects > of["dbp-sd"].subjects
    assert (
        "Differences of sbp are normal, with bias 1 and standard deviation 7.8, as stated." in plan.assumptions
    )


def test_the_claimed_accuracy_as_a_bound_needs_more_than_as_a_value() -> None:
    value, high = (
        study_plan(with_criterion(ARMS, judged=judged), DEVICE, power=0.9).criteria[0]
        for judged in ("value", "high")
    )
    assert high.subjects > 5 * value.subjects
    assert "high end of the 95% interval by theory" in high.says


def test_a_bound_of_arms_needs_as_many_as_the_sample_size_by_itself_says() -> None:
    (high,) = study_plan(with_criterion(ARMS, judged="high"), DEVICE, power=0.9).criteria
    alone = rms_error_sample_size(
        bias=1.0,
        between_sd=1.5,
        within_sd=np.sqrt(3.5**2 - 1.5**2),
        limit=4.0,
        pairs_per_subject=20,
        power=0.9,
        level=0.975,  # the upper end of a two-sided interval of 95 %
    )
    assert high.subjects == alone


def test_equivalence_is_planned_by_both_ends_of_the_bias() -> None:
    protocol = heart_rate(
        criterion("heart_rate_bias", "<=", 2.0, "/min", judged="high"),
        replace(criterion("heart_rate_bias", ">=", -2.0, "/min", judged="low"), id="low"),
    )
    plan = study_plan(protocol, {"bias": 0.0, "sd": 5.0, "pairs_per_subject": 1}, power=0.9)
    # two one-sided t tests at 2.5 %: (t(0.975) + z(0.95))² σ² / margin² = (1.99 + 1.645)² 6.25 = 82.6
    assert plan.subjects == pytest.approx(83, abs=2)


def test_limits_of_agreement_are_planned() -> None:
    protocol = heart_rate(
        criterion("heart_rate_upper_limit_of_agreement", "<=", 10.0, "/min"),
        criterion("heart_rate_lower_limit_of_agreement", ">=", -10.0, "/min"),
    )
    plan = study_plan(protocol, {"bias": 0.5, "sd": 4.3, "subject_sd": 2, "pairs_per_subject": 4}, power=0.9)
    assert 2 < plan.subjects < 200
    assert study_plan(protocol, {"bias": 0.5, "sd": 5.0}, power=0.9).subjects is None


def test_a_share_is_planned_with_the_design_effect_of_its_subjects() -> None:
    protocol = replace(PRESSURE, criteria=(replace(criterion("sbp_within_10", ">=", 85.0, "%"), id="s"),))
    alone = study_plan(protocol, {"within_share": 90.0, "pairs_per_subject": 3}, power=0.9)
    (share,) = alone.criteria
    alike = study_plan(
        protocol,
        {"sbp_within_10": 90.0, "bias": 0, "sd": 6, "subject_sd": 4, "pairs_per_subject": 3},
        power=0.9,
    ).criteria[0]
    effect = 1 + 2 * (4 / 6) ** 2
    assert alike.subjects == pytest.approx(share.subjects * effect, abs=2)
    assert f"design effect {effect:.3g}" in alike.says
    assert any("taken for independent" in assumption for assumption in alone.assumptions)
    from_normal = study_plan(protocol, {"bias": 0, "sd": 6, "subject_sd": 0}, power=0.9).criteria[0]
    assert "expected 90.44 % (of normal differences)" in from_normal.says


def test_a_share_by_its_exact_bound_needs_more_and_a_rate_of_errors_is_a_share_too() -> None:
    glucose = replace(heart_rate(criterion("x", ">=", 1.0, "%")), measurand="glucose")

    def size(metric: str, comparison: str, limit: float, judged: str, expected: float) -> int | None:
        protocol = replace(glucose, criteria=(criterion(metric, comparison, limit, "%", judged=judged),))
        return study_plan(protocol, {metric: expected}, power=0.9).criteria[0].pairs

    assert size("glucose_icgm_e", ">", 99.0, "low", 100.0) == 299
    assert size("glucose_icgm_d", ">", 98.0, "low", 100.0) == 149
    value, low = (size("glucose_within_iso_15197", ">=", 95.0, judged, 97.0) for judged in ("value", "low"))
    assert value < low
    # at most 5 % outside is at least 95 % inside
    assert size("glucose_icgm_j", "<=", 5.0, "value", 3.0) == value
    assert size("glucose_icgm_e", ">", 99.0, "high", 100.0) is None


def test_a_criterion_of_every_lot_counts_the_pairs_of_a_lot() -> None:
    meter = shipped()["iso-15197-2013"].applied()
    plan = study_plan(meter, {"within_share": 97.0, "glucose_parkes_1_ab": 99.9}, power=0.9)
    worst = plan.criteria[0]
    # 6 pairs of a subject are 2 in each of 3 lots; each fails in a thirtieth at most
    in_lot = share_trials(share=0.97, limit=0.95, power=1 - 0.1 / 3, judged="value")
    assert worst.subjects == math.ceil(in_lot / 2)
    assert "each of 3 lots has to pass, chances to fail added" in worst.says
    assert "Pairs spread evenly over 3 lots (as the design asks)." in plan.assumptions
    one = study_plan(meter, {"within_share": 97.0, "glucose_parkes_1_ab": 99.9, "lots": 1}, power=0.9)
    assert one.criteria[0].subjects < worst.subjects / 3


def test_the_power_of_the_whole_is_kept_with_a_few_subjects_more() -> None:
    meter = shipped()["fda-bgms-poc-2020"].applied()
    expected = {"within_share": 98.9, "matrices": 2, "pairs_per_subject": 1}
    plan = study_plan(meter, expected, power=0.9)
    assert (plan.design_subjects, plan.design_pairs) == (350, 700)  # 350 of each matrix
    assert plan.subjects >= 700
    assert plan.power >= 0.9
    more = []
    for extra in range(1, 60, 7):
        floor = replace(meter.design[0], fact="pairs", limit=float(plan.subjects + extra))
        more.append(study_plan(replace(meter, design=(floor, *meter.design[1:])), expected, power=0.9))
    assert all(p.power >= 0.9 for p in more)
    assert all(p.subjects == plan.subjects + extra for p, extra in zip(more, range(1, 60, 7), strict=True))


def test_a_range_counts_the_pairs_in_it_and_without_its_share_only_those_are_told() -> None:
    sensor = shipped()["icgm-21cfr862-1355"].applied(None, {"subjects": 10.0})
    expected = {"within_share": 99.8, "pairs_per_subject": 100, "low_share": 10.0, "high_share": 30.0}
    plan = study_plan(sensor, expected, power=0.9)
    of = {c.criterion.id: c for c in plan.criteria}
    in_range = share_trials(share=0.998, limit=0.98, power=0.9, judged="low")
    assert (of["control-d"].subjects, of["control-d"].pairs) == (
        math.ceil(in_range / 10),
        100 * math.ceil(in_range / 10),
    )
    middle = of["control-e"]
    assert (middle.subjects, middle.pairs) == (
        None,
        share_trials(share=0.998, limit=0.99, power=0.9, judged="low"),
    )
    assert middle.says.endswith("how many are is not known: middle_share is not stated")
    assert "Not among the criteria planned together: control-b, control-e." in plan.assumptions
    assert of["control-j"].says == "not planned: the share glucose_icgm_j is not stated"
    errors = study_plan(sensor, {"glucose_icgm_j": 0.3}, power=0.9).criteria[9]
    assert errors.pairs == share_trials(share=0.997, limit=0.99, power=0.9, judged="value")


def test_differences_between_skin_tones_are_planned_by_the_upper_end_of_their_interval() -> None:
    draft = shipped()["fda-pulse-oximeter-2025-draft"].applied()
    device = {"sd": 2.5, "subject_sd": 1.0, "tone_difference": 0.8, "ita_difference": 0.8}
    plan = study_plan(draft, device | {"ita_sd": 35.0}, power=0.9)
    of = {c.criterion.id: c for c in plan.criteria}
    assert of["tone-70-85"].subjects < of["tone-85-100"].subjects < plan.subjects
    assert of["ita-85-100"].power >= 0.9
    assert "Each range of saturation has 10 pairs of each subject" in plan.assumptions[1]
    without = {c.criterion.id: c.says for c in study_plan(draft, device, power=0.9).criteria}
    assert without["ita-70-85"] == "not planned: ita_sd not stated"
    beyond = study_plan(draft, device | {"tone_difference": 1.5}, power=0.9).criteria
    assert [c.subjects is None for c in beyond if c.criterion.id.startswith("tone")] == [False, True]


def sentence(protocol: ClinicalProtocol, expected: dict[str, float]) -> str:
    (only,) = study_plan(protocol, expected, power=0.9).criteria
    assert (only.subjects, only.pairs, only.power) == (None, None, None)
    return only.says


def test_what_cannot_be_planned_is_said_in_a_sentence() -> None:
    temperature = shipped()["iso-80601-2-56-2017"].applied("laboratory")
    assert "more pairs pass less often" in sentence(temperature, {"bias": 0.0, "sd": 0.1})
    assert sentence(ARMS, {}) == "not planned: bias and sd of spo2 are not stated"
    assert sentence(ARMS, {"sd": 2.0}) == "not planned: bias of spo2 is not stated"
    assert "no distribution of spo2_mae" in sentence(with_criterion(ARMS, metric="spo2_mae"), DEVICE)
    sus = shipped()["sus"].applied()
    assert "not of the measurand usability" in sentence(sus, {})
    beyond = sentence(ARMS, {"bias": 0.0, "sd": 4.0})
    assert beyond.startswith("no number is enough: expected 4 % against <= 4 %")
    grade = study_plan(shipped()["bhs-1993"], {"bias": 0.0, "sd": 5.0}, power=0.9)
    assert (grade.subjects, grade.power) == (None, None)
    assert all("no distribution of" in c.says for c in grade.criteria)


def test_one_criterion_that_cannot_pass_leaves_no_number_for_the_whole() -> None:
    plan = study_plan(PRESSURE, {"bias": 5.5, "sd": 6.0, "subject_sd": 3.0}, power=0.9)
    assert (plan.subjects, plan.power) == (None, None)
    assert [c.subjects is None for c in plan.criteria] == [True, False, True, False, True, True]


def test_nothing_is_assumed_silently() -> None:
    plan = study_plan(ARMS, {"bias": 0.5, "sd": 2.0}, power=0.9)
    assert plan.assumptions == (
        "20 pairs of each subject, as the design's 200 pairs of 10 subjects.",
        "Differences are normal, with bias 0.5 and standard deviation 2, as stated.",
        (
            "Pairs of one subject are taken for independent, as subject_sd is not stated; if they resemble one "
            "another, more subjects are needed."
        ),
    )
    stated = study_plan(ARMS, DEVICE | {"pairs_per_subject": 25}, power=0.9)
    assert stated.assumptions[0] == "25 pairs of each subject, as stated."
    assert "design effect of the mean 5.41, so 25 pairs of a subject are worth 4.62" in stated.assumptions[2]


@pytest.mark.parametrize("judged", ["value", "high"])
def test_a_device_without_any_scatter_is_planned_or_cannot_pass(judged: str) -> None:
    arms = with_criterion(ARMS, judged=judged)
    for bias, subjects in ((1.0, 2), (4.5, None)):
        (only,) = study_plan(arms, {"bias": bias, "sd": 0.0, "subject_sd": 0.0}, power=0.9).criteria
        assert only.subjects == subjects


def test_the_same_question_has_the_same_answer() -> None:
    one, other = (study_plan(PRESSURE, DEVICE, power=0.8) for _ in range(2))
    assert one == other
    assert isinstance(one, StudyPlan)


@pytest.mark.parametrize("protocol", shipped().values(), ids=shipped().keys())
def test_every_protocol_that_ships_is_planned_or_says_why_not(protocol: ClinicalProtocol) -> None:
    values = {p.id: p.default if p.default is not None else p.least for p in protocol.parameters}
    settled = {name: value if np.isfinite(value) else 1.0 for name, value in values.items()}
    applied = protocol.applied(protocol.variants[0] if protocol.variants else None, settled)
    plan = study_plan(applied, {}, power=0.9)
    assert all(c.says for c in plan.criteria)
    assert len(plan.criteria) == sum(c.comparison != "report" for c in applied.criteria)


@pytest.mark.parametrize(
    ("expected", "power", "says"),
    [
        ({"luck": 1.0}, 0.9, "expectation luck: unknown, expected one of bias, sd, subject_sd"),
        ({"sd": -1.0}, 0.9, r"expectation sd=-1\.0, expected a number of 0"),
        ({"sd": float("nan")}, 0.9, "expectation sd=nan"),
        ({"bias": float("inf")}, 0.9, "expectation bias=inf"),
        ({"within_share": 0.97}, 0.9, r"within_share=0\.97, expected a number of 1 to 100 %"),
        ({"pairs_per_subject": 2.5}, 0.9, r"pairs_per_subject=2\.5, expected a whole number"),
        ({"sd": 1.0, "subject_sd": 2.0}, 0.9, "subject_sd=2, expected at most sd=1"),
        ({"dbp_sd": 1.0}, 0.9, "expectation dbp_sd: unknown"),
        ({}, 1.0, r"power=1\.0, expected above 0 and below 1"),
        ({}, float("nan"), "power=nan"),
    ],
)
def test_an_expectation_that_makes_no_sense_is_named(
    expected: dict[str, float], power: float, says: str
) -> None:
    with pytest.raises(DefinitionError, match=says):
        study_plan(ARMS, expected, power=power)
