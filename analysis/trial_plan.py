"""What a running trial still lacks before its protocol may conclude anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.metrics import STUDIES
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Requirement
from protocols.clinical.verdict import DesignVerdict


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
    """

    requirement: Requirement
    value: float | None
    met: bool
    more: int | None

    def __str__(self) -> str:
        requirement = self.requirement
        unit = "" if requirement.unit == "1" else f" {requirement.unit}"
        has = "not known" if self.value is None else f"{self.value:.4g}{unit}"
        said = f"{requirement.title}: {has} of {requirement.comparison} {requirement.limit:g}{unit}"
        if self.met:
            return f"met: {said}"
        if self.more is not None:
            return f"missing: {said}, at least {self.more} more"
        return f"missing: {said}"


def needs(protocol: ClinicalProtocol, facts: Mapping[str, float]) -> list[Need]:
    """Return what every requirement of a protocol still wants, those that are met included.

    Parameters
    ----------
    protocol
        With variant and parameters settled.
    facts
        Of the trial so far, as `analysis.metrics.measure` returns them.
    """
    return [_need(protocol, requirement, facts) for requirement in protocol.design]


def _need(protocol: ClinicalProtocol, requirement: Requirement, facts: Mapping[str, float]) -> Need:
    value = facts.get(requirement.fact)
    if value is not None and math.isnan(value):
        value = None
    met = DesignVerdict(requirement, value).met
    more = None
    if (
        not met
        and value is not None
        and requirement.limit is not None
        and requirement.comparison in (">=", ">")
    ):
        of = STUDIES[protocol.measurand].facts[requirement.fact].of
        if not of:
            more = _count(requirement.limit - value, strict=requirement.comparison == ">")
        elif (n := facts.get(of)) is not None and requirement.limit < 100.0:
            wanted, has = requirement.limit / 100.0, n * value / 100.0
            more = _count((wanted * n - has) / (1.0 - wanted), strict=requirement.comparison == ">")
        if requirement.unit not in ("1", "%"):
            more = None
    return Need(requirement, value, met, more)


def _count(least: float, *, strict: bool) -> int:
    """Return the smallest whole number of at least (or, if strict, above) `least`, and of at least 1."""
    rounded = round(least, 9)  # a share times a count is whole but for the last bits
    return max(1, math.floor(rounded) + 1 if strict else math.ceil(rounded))
