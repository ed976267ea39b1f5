"""What a study may know of its subjects: the strata that clinical protocols ask for, and nothing else.

Subjects are pseudonyms. A fact is a number in a stated range or one of a few words; it is asked for only where
a protocol's design needs it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from protocols.errors import DefinitionError

SubjectFacts: TypeAlias = Mapping[str, Mapping[str, float | str]]
"""Pseudonym -> name of the fact -> its value."""
NOTHING_KNOWN: Final[SubjectFacts] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SubjectFact:
    """What one fact can be: a number of `least` to `most` in `unit`, or one of `words`."""

    title: str
    unit: str = ""
    least: float = -math.inf
    most: float = math.inf
    words: tuple[str, ...] = ()

    def check(self, name: str, value: object) -> float | str:
        """Return the value as it is kept.

        Raises
        ------
        DefinitionError
            Names the value and what is expected.
        """
        if self.words:
            if value not in self.words:
                raise DefinitionError(f"{name}={value!r}, expected one of {', '.join(self.words)}")
            return str(value)
        try:
            number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = math.nan
        if not self.least <= number <= self.most:
            expected = f"a number of {self.least:g} to {self.most:g} {self.unit}".strip()
            raise DefinitionError(f"{name}={value!r}, expected {expected}")
        return number


_YES_NO: Final = ("yes", "no")
_CUFFS: Final = ("neonate", "infant", "child", "small", "medium", "large", "extra_large")
_USERS: Final = ("patient", "lay", "carer", "nurse", "physician", "technician")

SUBJECT_FACTS: Final[Mapping[str, SubjectFact]] = MappingProxyType(
    {
        "sex": SubjectFact("sex", words=("female", "male")),
        "age_years": SubjectFact("age", "a", 0, 120),
        "height_cm": SubjectFact("height", "cm", 30, 250),
        "weight_kg": SubjectFact("weight", "kg", 0.3, 400),
        "leg_length_cm": SubjectFact("leg length", "cm", 15, 140),
        "arm_circumference_cm": SubjectFact("circumference of the limb", "cm", 5, 80),
        "cuff": SubjectFact("size of the cuff", words=_CUFFS),
        "skin_tone_mst": SubjectFact("skin tone on the Monk scale", "1", 1, 10),
        "fitzpatrick": SubjectFact("skin type after Fitzpatrick", "1", 1, 6),
        "ita_deg": SubjectFact("individual typology angle of the skin", "deg", -90, 90),
        "darkly_pigmented": SubjectFact("darkly pigmented, in the investigator's judgement", words=_YES_NO),
        "diabetes": SubjectFact("diabetes", words=("none", "type_1", "type_2", "gestational", "other")),
        "naive": SubjectFact("has never used such a device", words=_YES_NO),
        "user_group": SubjectFact("user group", words=_USERS),
    }
)
"""Name -> what it can be."""


def check_subjects(subjects: Mapping[str, Mapping[str, object]]) -> SubjectFacts:
    """Return the facts of subjects as they are kept; empty values are left out.

    Raises
    ------
    DefinitionError
        Names subject, fact, value and expectation.
    """
    checked: dict[str, dict[str, float | str]] = {}
    for subject, facts in subjects.items():
        checked[subject] = {}
        for name, value in facts.items():
            if name not in SUBJECT_FACTS:
                raise DefinitionError(
                    f"subject {subject}: fact {name!r}, expected one of {', '.join(SUBJECT_FACTS)}"
                )
            if value is None or value == "":
                continue
            try:
                checked[subject][name] = SUBJECT_FACTS[name].check(name, value)
            except DefinitionError as error:
                raise DefinitionError(f"subject {subject}: {error}") from error
    return checked
