"""What is known of the subjects of a study that compares nothing with a reference, for its design facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from analysis.metric import Fact
from analysis.paired_study import PAIRED_FACTS, PairedStudy, subject_facts
from protocols.clinical.subjects import SubjectFacts

_OF_PAIRS: Final = ("pairs", "reference", "excluded", "read_rate", "smallest_band")

SUBJECT_FACTS: Final[Mapping[str, Fact]] = MappingProxyType(
    {
        name: fact
        for name, fact in PAIRED_FACTS.items()
        if name != "subjects" and not any(word in name for word in _OF_PAIRS)
    }
)
"""What `known_of` may know."""


def known_of(subjects: Iterable[str], facts: SubjectFacts) -> dict[str, float]:
    """Return what the subjects of a study are like, as far as it is known of every one of them."""
    names = np.array(sorted(set(subjects)), dtype=np.str_)
    none = np.full(names.size, np.nan)
    of_subjects = PairedStudy(
        names, names, names, np.zeros(names.size, dtype=np.int64), none, none, facts=facts
    )
    return {name: value for name, value in subject_facts(of_subjects).items() if name in SUBJECT_FACTS}
