"""What two observers and readings around make of a reference, and which pairs decide nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.paired_study import PairedStudy
from analysis.pressure_reference import (
    NOT_THE_MEAN,
    OBSERVERS_DIFFER,
    ONE_OBSERVER,
    nearer_errors,
    prepared,
    steady,
    unsteady,
    with_reference,
)


def pairs(
    reference: list[float], test: list[float], quantity: str = "sbp", **columns: list[float]
) -> PairedStudy:
    made = PairedStudy.of_pairs(quantity, "S-1", "session", np.arange(len(test)), reference, test)
    return replace(made, columns={name: np.array(column) for name, column in columns.items()})


NAN = float("nan")


def test_the_mean_of_both_observers_is_the_reference_up_to_4_mmhg_apart() -> None:
    study = pairs([NAN] * 4, [120.0] * 4, observer_1=[120, 120, 120, NAN], observer_2=[124, 124.5, NAN, NAN])
    found = with_reference(study)
    assert found.reference.tolist() == pytest.approx([122.0, NAN], nan_ok=True)
    assert [e.reason for e in found.excluded] == [ONE_OBSERVER, OBSERVERS_DIFFER]
    assert study.reference[0] != study.reference[0]  # the input is not altered


def test_a_stated_reference_may_be_rounded_but_not_contradict_its_readings() -> None:
    study = pairs([122.0, 124.0, 121.0], [120.0] * 3, observer_1=[121.0] * 3, observer_2=[123.0] * 3)
    found = with_reference(study)
    assert found.reference.tolist() == [122.0, 122.0]
    assert [(e.time_ns, e.reason) for e in found.excluded] == [(1, NOT_THE_MEAN)]


def test_before_and_after_make_reference_and_change() -> None:
    found = with_reference(
        pairs([NAN, 118.0], [120.0] * 2, reference_before=[120.0, NAN], reference_after=[126.0, NAN])
    )
    assert found.reference.tolist() == [123.0, 118.0]
    assert found.columns["reference_change"].tolist() == pytest.approx([6.0, NAN], nan_ok=True)
    assert found.excluded == ()


@pytest.mark.parametrize(("quantity", "range_mmhg"), [("sbp", 12.0), ("dbp", 8.0)])
def test_a_subject_is_steady_up_to_the_limit_of_either_pressure(quantity: str, range_mmhg: float) -> None:
    level = 80.0
    others = pairs([120.0] * 2, [120.0] * 2, "dbp" if quantity == "sbp" else "sbp", reference_change=[0.0, 0.0])
    for beyond in (0.0, 0.1):
        # from the lowest reading, before the first, to the highest, after the second
        change = (range_mmhg + beyond) / 2
        study = pairs([level, level + change], [level] * 2, quantity, reference_change=[change, change])
        both = PairedStudy.gather([study, others])
        assert unsteady(both).tolist() == [beyond > 0] * 4
        assert steady(both).n_pairs == (0 if beyond else 4)
    assert not unsteady(pairs([80.0, 180.0], [80.0] * 2, quantity)).any()  # nothing tells


def test_another_session_of_the_subject_is_another_matter() -> None:
    first = pairs([120.0], [120.0], reference_change=[20.0])
    second = replace(pairs([120.0], [120.0], reference_change=[2.0]), sessions=np.array(["later"]))
    assert unsteady(PairedStudy.gather([first, second])).tolist() == [True, False]


def test_the_nearer_reading_is_taken_where_both_are_known() -> None:
    study = pairs([120.0] * 4, [128.0, 113.0, 120.0, 126.0], reference_change=[6.0, 6.0, 6.0, NAN])
    assert nearer_errors(study).tolist() == [5.0, -4.0, 3.0, 6.0]


def test_a_protocol_says_what_is_asked() -> None:
    study = pairs([120.0], [120.0], reference_change=[20.0])
    assert prepared(study, {}).n_pairs == 1
    assert prepared(study, {"unsteady_subjects": 0.0}).n_pairs == 0
    limbs = prepared(study, {"smallest_circumference_cm": 22.0, "largest_circumference_cm": 32.0})
    assert limbs.columns["limb_high_cm"].tolist() == [32.0]
    assert prepared(PairedStudy.empty(), {"unsteady_subjects": 0.0}).n_pairs == 0
