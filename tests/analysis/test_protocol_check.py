"""A protocol that asks for what there is not is told so, with what it may have meant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.protocol_check import impossible_rules
from protocols.clinical.library import shipped

ISO = shipped()["iso-80601-2-61-2017"]


@pytest.mark.parametrize("protocol", shipped().values(), ids=shipped().keys())
def test_what_ships_can_be_carried_out(protocol) -> None:  # type: ignore[no-untyped-def]
    assert impossible_rules(protocol) == []


def test_an_unknown_metric_fact_or_unit_is_named_with_what_was_perhaps_meant() -> None:
    arms, subjects = ISO.criteria[0], ISO.design[0]
    wrong = replace(
        ISO,
        criteria=(replace(arms, metric="spo2_amrs"), replace(arms, id="b", unit="1")),
        design=(replace(subjects, fact="sujbects"), replace(subjects, id="d", unit="%")),
    )
    assert impossible_rules(wrong) == [
        "criterion arms: metric 'spo2_amrs' of spo2 does not exist, did you mean spo2_arms?",
        "criterion b: metric spo2_arms in '1', expected its unit '%'",
        "requirement subjects: fact 'sujbects' of spo2 does not exist, did you mean subjects?",
        "requirement d: fact subjects in '%', expected its unit '1'",
    ]
