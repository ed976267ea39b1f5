"""Sample sizes for a clinical protocol: how many subjects its criteria need, for a device as it is expected.

What is expected is stated, never guessed: `bias`, `sd` (of all differences), `subject_sd` (of the subjects' own
offsets, a part of `sd`), `within_share` (percent), `pairs_per_subject`; with a quantity before it where two
differ (`sbp_bias`), and a share by its metric's own name where several do. What was not stated and matters is
listed among the assumptions with the value that was taken. A criterion that the theory here does not cover says
so in a sentence, and counts for nothing.

The theory: differences are normal, equally many pairs of each subject (`normal_study`); shares are binomial,
subjects taken into account by their design effect (`share_power`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from analysis.criterion_power import Covered, covered
from analysis.estimates import as_share
from analysis.expectations import PARTS, check_expected, limited, number_of
from analysis.normal_study import studies
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Criterion
from protocols.errors import DefinitionError, SignalError

MOST_SUBJECTS: Final = 100_000
"""Where a search gives up."""
_LONGEST_PERIOD: Final = 400
"""Subjects over which a power is checked to be kept."""
_OF_PART = re.compile(r"fewest_(subjects|lay_users|pairs)_per_(lot|site|matrix)")


@dataclass(frozen=True, slots=True)
class CriterionPlan:
    """What one criterion needs.

    Parameters
    ----------
    criterion
        Of the protocol.
    subjects, pairs
        So many reach the wanted power, alone; None where it is not planned or no number is enough. Pairs alone
        where the criterion counts but a part of them, and which part is not known: then they are of that part.
    power
        At that number.
    power_at_design
        At the smallest sample that the protocol's design allows; None where the design names none.
    says
        How it was planned, or why not, as a sentence.
    """

    criterion: Criterion
    subjects: int | None
    pairs: int | None
    power: float | None
    power_at_design: float | None
    says: str


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """What all criteria need.

    Parameters
    ----------
    wanted_power
        Of the whole.
    criteria
        One entry for each criterion with a limit.
    assumptions
        Everything that the numbers rest on, as sentences.
    design_subjects, design_pairs
        The smallest sample that the protocol's design allows; None where it names none.
    subjects, pairs
        With so many, and never fewer than the design asks for, all planned criteria pass together with the
        wanted power; None where nothing is planned, or no number is enough for one of them.
    power
        At that number, of all planned criteria together.
    """

    wanted_power: float
    criteria: tuple[CriterionPlan, ...]
    assumptions: tuple[str, ...]
    design_subjects: int | None
    design_pairs: int | None
    subjects: int | None
    pairs: int | None
    power: float | None


def study_plan(protocol: ClinicalProtocol, expected: Mapping[str, float], *, power: float) -> StudyPlan:
    """Return how many subjects and pairs a clinical protocol's criteria need for a wanted power.

    Parameters
    ----------
    protocol
        With variant and parameters settled.
    expected
        Name -> value, of the device that is to be studied and of the study; as the module says.
    power
        How probably all criteria are to be met, above 0 and below 1.

    Raises
    ------
    DefinitionError
        If an expectation is of nothing in the protocol or out of range, or the power is no share.
    """
    try:
        as_share(power, name="power")
    except SignalError as error:
        raise DefinitionError(str(error)) from error
    check_expected(protocol, expected)
    design_subjects, design_pairs = _least(protocol, expected)
    m, of_pairs = _pairs_per_subject(expected, design_subjects, design_pairs)
    assumptions = [of_pairs]
    floor = design_subjects or math.ceil((design_pairs or 0) / m)
    if design_pairs:
        floor = max(floor, math.ceil(design_pairs / m))
    plans: list[CriterionPlan] = []
    planned: list[Covered] = []
    for criterion in limited(protocol):
        found = covered(protocol, criterion, expected, m, assumptions)
        if isinstance(found, str):
            plans.append(CriterionPlan(criterion, None, None, None, None, found))
            continue
        planned.append(found)
        plans.append(_plan_of(found, power, m, floor))
    of_all = [p for p in planned if p.part is not None]
    if len(of_all) < len(planned):
        apart = ", ".join(p.criterion.id for p in planned if p.part is None)
        assumptions.append(f"Not among the criteria planned together: {apart}.")
    subjects, reached = _together(of_all, power, floor)
    if len({p.quantity for p in planned}) > 1 or any(p.passes is None for p in planned[1:]):
        assumptions.append(
            "Criteria of one quantity are judged together; across quantities and shares their chances to fail "
            "are added (Bonferroni), so the power of the whole is at least what is said."
        )
    return StudyPlan(
        power,
        tuple(plans),
        tuple(dict.fromkeys(assumptions)),
        design_subjects,
        design_pairs,
        subjects,
        None if subjects is None else subjects * m,
        reached,
    )


def _least(protocol: ClinicalProtocol, expected: Mapping[str, float]) -> tuple[int | None, int | None]:
    """Return the smallest numbers of subjects and of pairs that the design asks for, in all.

    A number of subjects of each lot, site or matrix is one of pairs in each: a subject may be in several.
    """
    subjects: list[int] = []
    pairs: list[int] = []
    for rule in protocol.design:
        if rule.comparison != ">=" or rule.limit is None:
            continue
        least = math.ceil(rule.limit)
        if rule.fact in ("subjects", "pairs"):
            (subjects if rule.fact == "subjects" else pairs).append(least)
        elif part := _OF_PART.fullmatch(rule.fact):
            number, _ = number_of(protocol, PARTS[part[2]], expected)
            pairs.append(least * number)
            if part[1] != "pairs":
                subjects.append(least)
    return max(subjects, default=None), max(pairs, default=None)


def _pairs_per_subject(
    expected: Mapping[str, float], subjects: int | None, pairs: int | None
) -> tuple[int, str]:
    stated = expected.get("pairs_per_subject")
    if stated is not None:
        return round(stated), f"{stated:.0f} pairs of each subject, as stated."
    if subjects and pairs:
        m = math.ceil(pairs / subjects)
        return m, f"{m} pairs of each subject, as the design's {pairs} pairs of {subjects} subjects."
    return 1, "1 pair of each subject: pairs_per_subject was not stated and the design names none."


def _plan_of(planned: Covered, power: float, m: int, floor: int) -> CriterionPlan:
    known = planned.part is not None
    at_design = planned.power(floor) if floor >= 2 and known else None
    none = CriterionPlan(planned.criterion, None, None, None, at_design, f"no number is enough: {planned.says}")
    if not planned.can_pass:
        return none
    try:
        if planned.trials:
            counted = planned.trials(power)
            if planned.part is None:
                return CriterionPlan(planned.criterion, None, counted, power, None, planned.says)
            k = math.ceil(counted / (m * planned.part) - 1e-9)
        else:
            k = _smallest(lambda k: planned.power(k) >= power)
    except SignalError as error:
        return replace(none, says=f"{none.says}; {error}")
    k = max(k, 2)
    return CriterionPlan(planned.criterion, k, k * m, planned.power(k), at_design, planned.says)


def _together(planned: list[Covered], power: float, floor: int) -> tuple[int | None, float | None]:
    """Return how many subjects give all planned criteria the wanted power, and the power with so many."""
    if not planned or not all(p.can_pass for p in planned):
        return None, None

    def together(k: int) -> float:
        missed = sum(1.0 - p.power(k) for p in planned if p.passes is None)
        return 1.0 - missed - sum(1.0 - joint(k) for joint in of_quantities)

    of_quantities = [
        _joint([p for p in planned if p.quantity == quantity and p.passes is not None])
        for quantity in dict.fromkeys(p.quantity for p in planned if p.passes is not None)
    ]
    try:
        k = _smallest(lambda k: together(k) >= power)
    except SignalError:
        return None, None
    k = max(k, floor)
    # counts are whole, so the power of a share falls back now and then: it has to be kept over such a period
    kept = 0
    window = min(max(p.period for p in planned), _LONGEST_PERIOD)
    while kept <= window and k <= MOST_SUBJECTS:
        kept, k = (kept + 1, k) if together(k + kept) >= power else (0, k + kept + 1)
    return k, together(k)


def _joint(planned: list[Covered]) -> Callable[[int], float]:
    """Return how probably criteria of one quantity are met together, for a number of subjects."""

    def power(k: int) -> float:
        found = studies(planned[0].device, k) if planned[0].device else None
        return float(np.logical_and.reduce([p.passes(found) for p in planned if p.passes and found]).mean())

    return power


def _smallest(enough: Callable[[int], bool]) -> int:
    """Return a number of subjects that is enough where one less is not.

    Raises
    ------
    SignalError
        If more than `MOST_SUBJECTS` are needed.
    """
    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
        if high > MOST_SUBJECTS:
            raise SignalError(f"more than {MOST_SUBJECTS} subjects")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
