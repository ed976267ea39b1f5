"""Studies of spirometry: grades by age, the worst session, and what is left out."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from analysis.estimates import Estimate
from analysis.proportions import clopper_pearson
from analysis.spirometry import Expiration, acceptable, repeatability_l
from analysis.spirometry_study import GRADES, SPIROMETRY, Manoeuvre, Spirogram, SpirometryStudy
from protocols.clinical.criteria import Statistics
from protocols.errors import SignalError

STATISTICS = Statistics(bootstrap_replicates=500)
NOTHING = Expiration(*[float("nan")] * len(fields(Expiration)))


def blow(fev1_l: float, fvc_l: float | None = None, **other: float) -> Expiration:
    given = {"extrapolated_l": 0.08, "last_second_l": 0.02, **other}
    return replace(NOTHING, fev1_l=fev1_l, fvc_l=fev1_l + 1.0 if fvc_l is None else fvc_l, **given)


def session(*fev1_l: float, subject: str = "S-1", age_years: float = 40.0) -> Spirogram:
    manoeuvres = tuple(Manoeuvre(str(n), blow(one)) for n, one in enumerate(fev1_l, start=1))
    return Spirogram(subject, "s", manoeuvres, age_years)


def figure(study: SpirometryStudy, name: str) -> Estimate:
    return SPIROMETRY.metrics[name].function(study, STATISTICS)


def grade(*fev1_l: float, age_years: float = 40.0) -> str:
    study = SpirometryStudy.of_sessions([session(*fev1_l, age_years=age_years)])
    return GRADES[int(figure(study, "spirometry_fev1_worst_grade").value) - 1]


@pytest.mark.parametrize(
    ("fev1_l", "adult", "child"),
    [
        ((3.00, 3.15, 2.90), "A", "A"),  # at a child's best of 3.15 L 10 % are more than 0.100 L
        ((3.00, 3.15), "B", "B"),
        ((3.00, 3.20), "C", "B"),
        ((3.00, 3.25), "D", "B"),
        ((3.00, 3.26), "E", "B"),
        ((0.80, 0.90, 0.70), "A", "A"),
        ((0.80, 0.91), "B", "C"),
        ((0.75, 0.95), "C", "D"),
        ((0.70, 0.91), "D", "E"),
        ((3.00,), "E", "E"),
        ((), "F", "F"),
    ],
)
def test_grades_follow_the_age(fev1_l: tuple[float, ...], adult: str, child: str) -> None:
    assert grade(*fev1_l) == grade(*fev1_l, age_years=6.1) == adult
    assert grade(*fev1_l, age_years=6.0) == child


def test_the_order_of_manoeuvres_is_of_no_effect(rng: np.random.Generator) -> None:
    values = rng.normal(3.0, 0.1, 5)
    for _ in range(10):
        assert grade(*rng.permutation(values)) == grade(*values)


def test_of_several_sessions_the_worst_decides_by_its_own_limit() -> None:
    child = session(1.00, 1.13, 0.95, subject="S-2", age_years=5.0)  # 0.13 of 0.113 L
    adult = session(3.00, 3.14, 2.95)  # 0.14 of 0.150 L
    study = SpirometryStudy.of_sessions([adult, child])
    assert figure(study, "spirometry_fev1_difference").value == pytest.approx(0.13)
    assert figure(study, "spirometry_fev1_difference_allowed").value == pytest.approx(0.113)
    assert figure(study, "spirometry_fev1_difference").details["age_years"] == 5.0
    assert figure(study, "spirometry_fev1_worst_grade").details == {"grade_A": 1.0, "grade_C": 1.0}
    share = figure(study, "spirometry_fev1_repeatable_share")
    assert (share.value, share.n) == (50.0, 2)
    low, high = clopper_pearson(1, 2)
    assert (share.low, share.high) == pytest.approx((100 * float(low), 100 * float(high)))


def test_the_best_values_are_means_of_subjects() -> None:
    study = SpirometryStudy.of_sessions(
        [session(3.0, 3.1), session(3.3, 3.2), session(2.0, 2.1, subject="S-2")]
    )
    best = figure(study, "spirometry_fev1_best")
    assert best.value == pytest.approx(((3.1 + 3.3) / 2 + 2.1) / 2)
    assert best.low is not None
    assert best.high is not None
    assert 0.0 < best.low < 2.1  # two subjects tell less than their own range
    assert best.high > 3.2
    assert figure(study, "spirometry_fvc_best").value == pytest.approx(best.value + 1.0)
    alone = figure(SpirometryStudy.of_sessions([session(3.0)]), "spirometry_fev1_best")
    assert alone.low is None


def test_acceptable_for_fev1_and_for_fvc_are_two_things() -> None:
    short = blow(3.0, 3.2, last_second_l=0.3)  # ended early
    slow = blow(3.0, 4.0, extrapolated_l=0.5)
    shallow = blow(3.0, 4.0, fivc_l=4.5)  # more came in than had been out
    whole = blow(3.0, 4.0)
    for_fev1, for_fvc = acceptable([short, slow, shallow, whole], age_years=40.0)
    assert for_fev1 == [True, False, False, True]
    assert for_fvc == [False, False, False, True]
    assert acceptable([whole], age_years=40.0, usable=[False]) == ([False], [False])


def test_decimal_values_at_a_limit_are_within_it() -> None:
    for low, high in ((2.95, 3.10), (3.00, 3.15), (1.1, 1.25), (2.3, 2.45)):
        assert grade(low, high, low - 0.2) == "A", (low, high)
    assert blow(2.0, 2.2, extrapolated_l=0.11).starts_well  # 5 % of 2.2 L
    assert blow(3.0, 3.85).ends_well(largest_fvc_l=4.0)


def test_what_is_allowed_grows_with_a_small_childs_best() -> None:
    assert repeatability_l(3.0, age_years=40.0) == repeatability_l(0.5, age_years=40.0) == 0.15
    assert repeatability_l(0.5, age_years=6.0) == 0.1
    assert repeatability_l(1.5, age_years=6.0) == pytest.approx(0.15)
    with pytest.raises(SignalError, match="age_years"):
        repeatability_l(3.0, age_years=0.0)


def test_ages_come_from_the_subjects_where_the_session_has_none() -> None:
    unknown = session(0.80, 0.91, age_years=float("nan"))
    child = SpirometryStudy.of_sessions([unknown], {"S-1": {"age_years": 4.0}})
    assert figure(child, "spirometry_fev1_worst_grade").details == {"grade_C": 1.0}
    facts = SPIROMETRY.design_facts(child, STATISTICS)
    assert (facts["sessions_up_to_6_years"], facts["sessions_over_6_years"]) == (1, 0)
    nobody = SpirometryStudy.of_sessions([unknown])
    assert [e.reason for e in nobody.excluded] == ["the subject's age is not known"]
    assert figure(nobody, "spirometry_fev1_worst_grade").n == 0


def test_a_manoeuvre_without_values_is_counted_and_listed() -> None:
    gap = Spirogram("S-1", "s", (*session(3.0, 3.1, 2.95).manoeuvres, Manoeuvre("4", NOTHING)), 40.0)
    study = SpirometryStudy.of_sessions([gap])
    assert study.n_poor == 1
    assert figure(study, "spirometry_fev1_worst_grade").n_poor == 1
    assert SPIROMETRY.design_facts(study, STATISTICS)["fewest_acceptable_fev1"] == 3


def test_nothing_gives_no_figures() -> None:
    for name in SPIROMETRY.metrics:
        assert np.isnan(figure(SpirometryStudy(), name).value)
    assert SPIROMETRY.design_facts(SpirometryStudy(), STATISTICS)["sessions"] == 0
