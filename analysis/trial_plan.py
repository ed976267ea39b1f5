"""What a running trial still lacks before its protocol may conclude anything: how much, of whom, and where."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from analysis.metrics import STUDIES
from analysis.paired_study import PairedStudy, band_of, usable_by
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Requirement, Statistics
from protocols.clinical.verdict import DesignVerdict

MOST_NAMED: Final = 6
"""Subjects that a sentence names."""
_SUBJECT_FACTS: Final = (
    (re.compile(r"sexes|smaller_sex|female_|male_"), "sex"),
    (re.compile(r"age_|youngest_|oldest_"), "age_years"),
    (re.compile(r"darkly_pigmented_"), "darkly_pigmented"),
    (re.compile(r"(small|large)est_circumference|limb_"), "arm_circumference_cm"),
    (re.compile(r"cuffs|rarest_cuff"), "cuff"),
    (re.compile(r".*(_ita_|without_ita)"), "ita_deg"),
    (re.compile(r"monk_|darkest_|subjects_without_tone"), "skin_tone_mst"),
    (re.compile(r".*naive"), "naive"),
)
"""Beginning of a fact about a sample -> what has to be known of every subject for it."""


@dataclass(frozen=True, slots=True)
class Need:
    """One requirement on the sample, how far the trial is, and what would meet it.

    Parameters
    ----------
    requirement
        Of the protocol.
    value
        What the trial has; None where it is not known.
    met
        Whether that is enough.
    more
        How many more are wanted at the least; for a share, if every further one counts to it. None where
        nothing is wanted, it is not known, or adding cannot help.
    of
        What more of: such `pairs` or `subjects` where the requirement is on a share of them, else empty.
    where
        Which subjects or which range are short, as a sentence; empty where nothing is to be said.
    """

    requirement: Requirement
    value: float | None
    met: bool
    more: int | None
    of: str = ""
    where: str = ""

    def __str__(self) -> str:
        requirement = self.requirement
        unit = "" if requirement.unit == "1" else f" {requirement.unit}"
        has = "not known" if self.value is None else f"{self.value:.4g}{unit}"
        said = f"{requirement.title}: {has} of {requirement.comparison} {requirement.limit:g}{unit}"
        if self.met:
            return f"met: {said}"
        said += self._short()
        return f"missing: {said}; {self.where}" if self.where else f"missing: {said}"

    def _short(self) -> str:
        """Return by how much the trial is short of the limit, or beyond it."""
        requirement = self.requirement
        if self.more is not None:
            return f", at least {self.more} more{f' such {self.of}' if self.of else ''}"
        if self.value is None or requirement.limit is None:
            return ""
        apart, unit = abs(self.value - requirement.limit), requirement.unit
        if requirement.comparison[0] == "<":
            too_many = f"{apart:g} too many" if unit == "1" else f"{apart:.4g} {unit} too much"
            return f", {too_many}: more of it cannot help"
        return f", short by {apart:.4g} {unit}" if apart and unit != "1" else ""


def needs(protocol: ClinicalProtocol, facts: Mapping[str, float], measured: Any = None) -> list[Need]:
    """Return what every requirement of a protocol still wants, those that are met included.

    Parameters
    ----------
    protocol
        With variant and parameters settled.
    facts
        Of the trial so far, as `analysis.metrics.measure` returns them.
    measured
        The evidence they are of; where it is of pairs, needs say which subjects and ranges are short.
    """
    study = measured if isinstance(measured, PairedStudy) and measured.n_pairs else None
    return [_need(protocol, requirement, facts, study) for requirement in protocol.design]


def unknown_of(study: PairedStudy, name: str) -> list[str]:
    """Return the subjects with pairs of whom a fact is not known, in the order of their names."""
    subjects = np.unique(study.subjects).tolist()
    return [subject for subject in subjects if study.facts.get(subject, {}).get(name) in (None, "")]


def pairs_by_band(study: PairedStudy, statistics: Statistics) -> dict[tuple[float, float], int]:
    """Return how many usable pairs lie in each of a protocol's bands; empty where it has none."""
    edges = statistics.band_edges
    if not edges:
        return {}
    counts = np.bincount(band_of(usable_by(study, statistics).reference, edges), minlength=len(edges) - 1)
    return dict(zip(itertools.pairwise(edges), counts.tolist(), strict=True))


def sparse_subjects(study: PairedStudy, statistics: Statistics, least: int) -> dict[str, int]:
    """Return the subjects with fewer than `least` usable pairs of some quantity, and how many they have."""
    pairs = usable_by(study, statistics)
    sparse: dict[str, int] = {}
    for subject in np.unique(study.subjects).tolist():
        of_subject = pairs.quantities[pairs.subjects == subject]
        fewest = min(int((of_subject == quantity).sum()) for quantity in np.unique(study.quantities))
        if fewest < least:
            sparse[subject] = fewest
    return sparse


def _need(
    protocol: ClinicalProtocol, requirement: Requirement, facts: Mapping[str, float], study: PairedStudy | None
) -> Need:
    value = facts.get(requirement.fact)
    if value is not None and math.isnan(value):
        value = None
    met = DesignVerdict(requirement, value).met
    more = None
    of = STUDIES[protocol.measurand].facts[requirement.fact].of
    if (
        not met
        and value is not None
        and requirement.limit is not None
        and requirement.comparison in (">=", ">")
    ):
        if not of and requirement.unit == "1":
            more = _count(requirement.limit - value, strict=requirement.comparison == ">")
        elif of and (n := facts.get(of)) is not None and requirement.limit < 100.0:
            wanted, has = requirement.limit / 100.0, n * value / 100.0
            more = _count((wanted * n - has) / (1.0 - wanted), strict=requirement.comparison == ">")
    where = "" if met or study is None else _where(protocol, requirement, study, unknown=value is None)
    return Need(requirement, value, met, more, "" if more is None else _noun(of), where)


def _where(protocol: ClinicalProtocol, requirement: Requirement, study: PairedStudy, *, unknown: bool) -> str:
    """Return which subjects or ranges are short."""
    fact, statistics = requirement.fact, protocol.statistics
    asked = next((name for pattern, name in _SUBJECT_FACTS if pattern.match(fact)), None)
    if asked and (unknown or fact.startswith("subjects_without")):
        lacking = unknown_of(study, asked)
        if lacking:
            return f"{asked} is not known of {len(lacking)} of {study.n_subjects} subjects: {_named(lacking)}"
    if fact == "smallest_band_share_percent":
        bands = pairs_by_band(study, statistics).items()
        return "pairs by band: " + ", ".join(f"{low:g}-{high:g} {n}" for (low, high), n in bands)
    if fact in ("fewest_pairs_per_subject", "subjects_with_three_pairs"):
        least = 3 if fact == "subjects_with_three_pairs" else math.ceil(requirement.limit or 0)
        sparse = sparse_subjects(study, statistics, least)
        if sparse:
            return f"fewer than {least} pairs: {_named([f'{name} ({n})' for name, n in sparse.items()])}"
    return ""


def _noun(of: str) -> str:
    """Return `pairs` or `subjects` for a fact that counts the whole of a share."""
    return "subjects" if "subjects" in of else "pairs" if "pairs" in of else ""


def _named(subjects: Sequence[str]) -> str:
    rest = len(subjects) - MOST_NAMED
    return ", ".join(subjects[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _count(least: float, *, strict: bool) -> int:
    """Return the smallest whole number of at least (or, if strict, above) `least`, and of at least 1."""
    rounded = round(least, 9)  # a share times a count is whole but for the last bits
    return max(1, math.floor(rounded) + 1 if strict else math.ceil(rounded))
