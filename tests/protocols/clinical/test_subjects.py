"""Facts about subjects: what is kept, and what is refused by name."""

from __future__ import annotations

import pytest

from protocols.clinical.subjects import check_subjects
from protocols.errors import DefinitionError


def test_facts_are_kept_as_numbers_and_words_and_empty_ones_left_out() -> None:
    facts = check_subjects(
        {"S-1": {"age_years": "34", "sex": "female", "cuff": "", "ita_deg": None}, "S-2": {}}
    )
    assert facts == {"S-1": {"age_years": 34.0, "sex": "female"}, "S-2": {}}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("shoe_size", 42, "subject S-1: fact 'shoe_size', expected one of sex, age_years"),
        ("sex", "f", "subject S-1: sex='f', expected one of female, male"),
        ("age_years", -1, "age_years=-1, expected a number of 0 to 120 a"),
        ("age_years", "old", "age_years='old', expected a number"),
        ("age_years", float("nan"), "age_years=nan, expected a number"),
        ("skin_tone_mst", 11, "skin_tone_mst=11, expected a number of 1 to 10"),
        ("skin_tone_mst", True, "skin_tone_mst=True, expected a number"),
    ],
)
def test_a_mistake_is_named_with_subject_value_and_expectation(name: str, value: object, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        check_subjects({"S-1": {name: value}})
