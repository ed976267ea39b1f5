"""Step counters bout by bout: conditions, percentages, and bouts that say nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.estimates import Estimate
from analysis.paired_study import PairedStudy
from analysis.steps_study import STUDY, condition_of, steps_facts
from protocols.clinical.criteria import Statistics

STATISTICS = Statistics(bootstrap_replicates=2000, seed=5)


def study(bouts: list[tuple[str, str, float, float]]) -> PairedStudy:
    """Return bouts of subject, condition, steps and counted steps."""
    pairs = PairedStudy.of_pairs(
        "steps", "S", "a", range(len(bouts)), [bout[2] for bout in bouts], [bout[3] for bout in bouts]
    )
    return replace(
        pairs,
        subjects=np.array([bout[0] for bout in bouts]),
        labels={"condition": np.array([bout[1] for bout in bouts])},
    )


def figure(name: str, pairs: PairedStudy) -> Estimate:
    return STUDY.metrics[name].function(pairs, STATISTICS)


BOUTS = study(
    [
        ("S-1", "walk", 100, 95),
        ("S-1", "Walking", 1000, 1150),
        ("S-2", "walking", 200, 200),
        ("S-1", "jog", 300, 270),
        ("S-2", "run", 500, 500),
    ]
)


def test_every_bout_weighs_the_same_in_its_condition() -> None:
    found = figure("steps_mape_walking", BOUTS)
    assert found.value == pytest.approx((5 + 15 + 0) / 3)
    assert found.n == 3
    assert found.details["mean_error_percent"] == pytest.approx(10 / 3)
    assert found.details["largest_error_percent"] == pytest.approx(15.0)
    assert figure("steps_mape_jogging", BOUTS).value == pytest.approx(10.0)
    assert figure("steps_mape_running", BOUTS).value == 0.0


def test_the_interval_is_by_subject() -> None:
    found = figure("steps_mape_walking", BOUTS)
    assert (found.low, found.high) == (pytest.approx(0.0), pytest.approx(10.0))
    assert figure("steps_mape_jogging", BOUTS).low is None


def test_facts_count_subjects_by_condition_and_bouts_that_say_nothing() -> None:
    facts = steps_facts(BOUTS, STATISTICS)
    assert (facts["walking_subjects"], facts["jogging_subjects"], facts["fewest_condition_subjects"]) == (
        2,
        1,
        1,
    )
    assert (facts["unlabelled_bouts"], facts["bouts_without_steps"]) == (0, 0)
    odd = study([("S-1", "stairs", 50, 50), ("S-1", "", 50, 50), ("S-2", "walk", 0, 3)])
    facts = steps_facts(odd, STATISTICS)
    assert (facts["unlabelled_bouts"], facts["bouts_without_steps"]) == (2, 1)
    assert np.isnan(figure("steps_mape_walking", odd).value)
    assert facts.keys() <= STUDY.facts.keys()


def test_a_table_without_conditions_has_none() -> None:
    bare = replace(BOUTS, labels={})
    assert set(condition_of(bare).tolist()) == {""}
    assert np.isnan(figure("steps_mape_walking", bare).value)
    assert steps_facts(STUDY.nothing, STATISTICS)["fewest_condition_subjects"] == 0


def test_impossible_missing_and_repeated_counts_decide_nothing() -> None:
    odd = study([("S-1", "walk", 100, -5), ("S-2", "walk", 100, np.nan), ("S-3", "walk", np.nan, 5)])
    assert figure("steps_mape_walking", odd).n == 0
    twice = study([("S-1", "walk", 100, 90), ("S-1", "walk", 100, 90)])
    twice = replace(twice, times_ns=np.array([7, 7]))
    assert figure("steps_mape_walking", twice).n == 1
