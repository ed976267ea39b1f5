"""Studies of questionnaires: every person counts once, and what has no score is listed."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.estimates import Estimate
from analysis.sleep import group_mean
from analysis.usability import sus_summary
from analysis.usability_study import ITEMS, USABILITY, Questionnaire, UsabilityStudy
from protocols.clinical.criteria import Statistics
from protocols.errors import SignalError

STATISTICS = Statistics()


def sus(subject: str, answers: list[float], session: str = "") -> Questionnaire:
    return Questionnaire("sus", subject, session, np.array(answers, dtype=np.float64))


def group(rng: np.random.Generator, n: int = 14) -> list[Questionnaire]:
    return [sus(f"P-{k}", rng.integers(1, 6, 10).tolist()) for k in range(n)]


def figure(study: UsabilityStudy, name: str) -> Estimate:
    return USABILITY.metrics[name].function(study, STATISTICS)


def test_the_mean_and_its_interval_are_those_of_the_scores(rng: np.random.Generator) -> None:
    study = UsabilityStudy.of_questionnaires(group(rng))
    summary = sus_summary(list(study.scores["sus"].values()))
    mean = figure(study, "sus_mean")
    assert (mean.value, mean.low, mean.high, mean.n) == pytest.approx(
        (summary.mean, summary.low, summary.high, 14)
    )
    grades = USABILITY.metrics["sus_grade"].grades
    for name, expected in (
        ("sus_grade", summary.grade),
        ("sus_grade_low", summary.grade_low),
        ("sus_grade_high", summary.grade_high),
    ):
        assert grades[int(figure(study, name).value) - 1] == expected


def test_intervals_stay_within_the_scale() -> None:
    best = [5.0, 1.0] * 5
    study = UsabilityStudy.of_questionnaires([sus("P-1", best), sus("P-2", best), sus("P-3", [3.0] * 10)])
    mean = figure(study, "sus_mean")
    assert mean.high == 100.0
    unbounded = group_mean([100.0, 100.0, 50.0])
    assert unbounded.high is not None
    assert unbounded.high > 100.0


def test_the_order_of_persons_is_of_no_effect(rng: np.random.Generator) -> None:
    people = group(rng)
    one, other = (UsabilityStudy.of_questionnaires(order) for order in (people, people[::-1]))
    assert figure(one, "sus_mean").value == pytest.approx(figure(other, "sus_mean").value)


def test_a_person_asked_twice_counts_once_and_an_occasion_only_once() -> None:
    first, second = [4.0, 2.0] * 5, [3.0] * 10
    study = UsabilityStudy.of_questionnaires(
        [sus("P-1", first, "a"), sus("P-1", second, "b"), sus("P-1", second, "b")]
    )
    assert study.scores["sus"] == {"P-1": 62.5}
    assert [e.reason for e in study.excluded] == ["the person answered it on this occasion before"]


def test_a_better_answer_that_follows_one_without_a_score_is_taken() -> None:
    study = UsabilityStudy.of_questionnaires([sus("P-1", [np.nan] * 10), sus("P-1", [3.0] * 10)])
    assert study.scores["sus"] == {"P-1": 50.0}
    assert [e.reason for e in study.excluded] == ["an item was not answered"]


def test_nothing_gives_no_figures_and_no_persons() -> None:
    for name in USABILITY.metrics:
        assert np.isnan(figure(UsabilityStudy(), name).value)
    assert USABILITY.design_facts(UsabilityStudy(), STATISTICS)["subjects"] == 0


def test_facts_count_the_persons_of_each_questionnaire(rng: np.random.Generator) -> None:
    tlx = Questionnaire("nasa_tlx", "P-1", "", np.full(6, 40.0))
    facts = {f"P-{k}": {"sex": ("female", "male")[k % 2]} for k in range(14)}
    found = USABILITY.design_facts(UsabilityStudy.of_questionnaires([*group(rng), tlx], facts), STATISTICS)
    assert (found["subjects"], found["sus_subjects"], found["nasa_tlx_subjects"]) == (14, 14, 1)
    assert found["smaller_sex_share_percent"] == 50.0
    assert found.keys() <= USABILITY.facts.keys()


def test_an_unknown_questionnaire_or_too_few_items_are_refused() -> None:
    for name, n in (("sus", 9), ("sas", 10)):
        with pytest.raises(SignalError, match="expected sus with 10 items"):
            Questionnaire(name, "P-1", "", np.zeros(n))
    assert [len(items) for items in ITEMS.values()] == [10, 26, 6]
