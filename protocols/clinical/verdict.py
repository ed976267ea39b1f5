"""Judgement: design facts and measurements against a clinical protocol, a pure comparison.

A verdict has three parts: the design (was the sample allowed?), the statistics (value and interval), and the
outcome.

* One criterion: without a value NOT_MEASURED, or INCONCLUSIVE where there was a signal but it was too poor for
  one; REPORTED where there is no limit; PASS or FAIL by comparison; but INCONCLUSIVE in place of PASS or FAIL
  where the design is insufficient. Neither an insufficient design nor bad contact ever makes a FAIL.
* The whole: NOT_MEASURED if no criterion was measured; else INCONCLUSIVE if the design is insufficient; else
  FAIL if any criterion fails; else INCONCLUSIVE if any is, or NOT_MEASURED if any was not measured; else PASS;
  REPORTED if there is no limit at all. A figure that is only reported, and of which the sample held no case
  (n = 0), decides nothing: a record without ventricular beats is no less a record.
* A requirement whose fact is not known is not met: a study has to show its design.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Criterion, Provenance, Requirement
from protocols.clinical.measurement import Measurement
from protocols.errors import DefinitionError

_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}
_ROUNDING: Final = 1e-9  # far below any limit's last digit, far above what sums of floats lose
_JUDGED_AS: Final = {
    "value": "",
    "low": "for the interval's lower end ",
    "high": "for the interval's upper end ",
}
_UNSURE: Final = {
    "secondary": "From public secondary text, the standard itself not read:",
    "unconfirmed": "From memory, to be confirmed against the standard:",
    "lab": "Set by the lab, not by the standard:",
}
_UNSURE_FR: Final = {
    "secondary": "D'après un texte public secondaire, la norme elle-même n'a pas été lue :",
    "unconfirmed": "De mémoire, à confirmer dans la norme :",
    "lab": "Fixé par le laboratoire, pas par la norme :",
}
"""Confidence in a rule -> what is said of it."""


class Outcome(StrEnum):
    """What a judgement came to."""

    PASS = "PASS"  # noqa: S105 - an outcome, no password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_MEASURED = "NOT_MEASURED"
    REPORTED = "REPORTED"


@dataclass(frozen=True, slots=True)
class DesignVerdict:
    """Whether the sample met one requirement; `value` is None where the fact is not known."""

    requirement: Requirement
    value: float | None

    @property
    def met(self) -> bool:
        """Whether the fact is known and on the right side of the limit."""
        requirement = self.requirement
        if self.value is None or math.isnan(self.value) or requirement.limit is None:
            return False
        return _holds(self.value, requirement.comparison, requirement.limit)

    def __str__(self) -> str:
        requirement = self.requirement
        known = "not known" if self.value is None else _with_unit(self.value, requirement.unit)
        wanted = f"{requirement.comparison} {_limit(requirement)}"
        mark = "met" if self.met else "NOT MET"
        return f"{mark}: {requirement.title}: {known}, required {wanted} [{requirement.provenance}]"

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as plain values that JSON can hold."""
        return {
            "id": self.requirement.id,
            "title": self.requirement.title,
            "title_fr": self.requirement.title_fr,
            "fact": self.requirement.fact,
            "value": _plain(self.value),
            "comparison": self.requirement.comparison,
            "limit": self.requirement.limit,
            "unit": self.requirement.unit,
            **_provenance(self.requirement.provenance),
            "met": self.met,
            "text": str(self),
        }


@dataclass(frozen=True, slots=True)
class CriterionVerdict:
    """What one criterion came to, the measurement it rests on, and the limit that held."""

    criterion: Criterion
    measurement: Measurement | None
    outcome: Outcome
    meets_limit: bool | None
    limit: float | None = None

    def __str__(self) -> str:
        return f"{self.outcome}: {self.criterion.title}: {self._figures()}{self._reason()}"

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as plain values that JSON can hold."""
        criterion, measurement = self.criterion, self.measurement
        return {
            "id": criterion.id,
            "title": criterion.title,
            "title_fr": criterion.title_fr,
            "metric": criterion.metric,
            "outcome": self.outcome.value,
            "meets_limit": self.meets_limit,
            "judged": criterion.judged,
            "comparison": criterion.comparison,
            "limit": _plain(self.limit),
            "unit": criterion.unit,
            **_provenance(criterion.provenance),
            "value": _plain(measurement.value) if measurement else None,
            "low": _plain(measurement.low) if measurement else None,
            "high": _plain(measurement.high) if measurement else None,
            "level": measurement.level if measurement else None,
            "n": measurement.n if measurement else None,
            "method": measurement.method if measurement else None,
            "label": measurement.label if measurement else "",
            "n_poor": measurement.n_poor if measurement else 0,
            "details": {k: _plain(v) for k, v in measurement.details.items()} if measurement else {},
            "text": str(self),
        }

    def _figures(self) -> str:
        criterion, measurement = self.criterion, self.measurement
        if measurement is None:
            figures = "not measured"
        elif math.isnan(measurement.value):
            figures = f"no value from n = {measurement.n}{_poor(measurement)}"
        else:
            value = measurement.label or _with_unit(measurement.value, criterion.unit)
            figures = f"{value} (n = {measurement.n}{_poor(measurement)}{_interval(measurement)})"
        if criterion.comparison == "report":
            return f"{figures}, to be reported [{criterion.provenance}]"
        limit = f"{criterion.comparison} {_limit(criterion, self.limit)}"
        return f"{figures}, limit {_JUDGED_AS[criterion.judged]}{limit} [{criterion.provenance}]"

    def _reason(self) -> str:
        if self.outcome is Outcome.INCONCLUSIVE and self.meets_limit is not None:
            met = "met" if self.meets_limit else "not met"
            return f"; the limit is {met}, but the design of the sample does not allow a conclusion"
        return ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a study came to under one edition of a clinical protocol."""

    protocol: ClinicalProtocol
    design: tuple[DesignVerdict, ...]
    criteria: tuple[CriterionVerdict, ...]
    outcome: Outcome

    @property
    def design_sufficient(self) -> bool:
        """Whether every requirement on the sample is met."""
        return all(requirement.met for requirement in self.design)

    @property
    def cautions(self) -> tuple[str, ...]:
        """What to know of the protocol itself: its status, unconfirmed rules, the lab's own limits."""
        protocol = self.protocol
        status = {
            "superseded": f"{protocol.title} was superseded by {protocol.superseded_by}.",
            "draft": f"{protocol.title} is a draft, not for implementation.",
        }
        return self._cautions(status, protocol.notes, _UNSURE)

    @property
    def cautions_fr(self) -> tuple[str, ...]:
        """The same in French."""
        protocol = self.protocol
        title = protocol.title_fr or protocol.title
        status = {
            "superseded": f"{title} a été remplacé par {protocol.superseded_by}.",
            "draft": f"{title} est un projet, pas encore applicable.",
        }
        return self._cautions(status, protocol.notes_fr or protocol.notes, _UNSURE_FR)

    def _cautions(
        self, status: Mapping[str, str], notes: Sequence[str], unsure: Mapping[str, str]
    ) -> tuple[str, ...]:
        protocol = self.protocol
        rules = [("pairing", protocol.pairing.provenance)] if protocol.pairing else []
        rules += [(r.requirement.id, r.requirement.provenance) for r in self.design]
        rules += [(c.criterion.id, c.criterion.provenance) for c in self.criteria]
        cautions = [status[protocol.status]] if protocol.status in status else []
        cautions += notes
        for confidence, says in unsure.items():
            names = [name for name, provenance in rules if provenance.confidence == confidence]
            if names:
                cautions.append(f"{says} {', '.join(names)}.")
        return tuple(cautions)

    def __str__(self) -> str:
        lines = [f"{self.outcome}: {self.protocol.title}, edition {self.protocol.edition}"]
        lines += [f"  {verdict}" for verdict in self.criteria]
        lines += [f"  design {verdict}" for verdict in self.design]
        lines += [f"  note: {caution}" for caution in self.cautions]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as plain values that JSON can hold."""
        return {
            "protocol": self.protocol.id,
            "title": self.protocol.title,
            "title_fr": self.protocol.title_fr,
            "edition": self.protocol.edition,
            "status": self.protocol.status,
            "superseded_by": self.protocol.superseded_by,
            "outcome": self.outcome.value,
            "design_sufficient": self.design_sufficient,
            "design": [verdict.as_dict() for verdict in self.design],
            "criteria": [verdict.as_dict() for verdict in self.criteria],
            "cautions": list(self.cautions),
            "cautions_fr": list(self.cautions_fr),
            "text": str(self),
        }


def judge(
    criterion: Criterion, measurement: Measurement | None, *, limit: Measurement | None = None
) -> CriterionVerdict:
    """Return what `criterion` comes to, taking the design of the sample as sufficient.

    Parameters
    ----------
    criterion
        With its parameter, if it has one, settled.
    measurement
        Of its metric; None if there is none.
    limit
        The measurement of `criterion.limit_metric`, where that is the limit.

    Raises
    ------
    DefinitionError
        If the measurement or the limit is of another metric or in another unit, or the measurement lacks the
        interval that is judged.
    """
    if measurement is None:
        return CriterionVerdict(criterion, None, Outcome.NOT_MEASURED, None, criterion.limit)
    for name in ("metric", "unit"):
        if getattr(measurement, name) != getattr(criterion, name):
            raise DefinitionError(
                f"measured {name} {getattr(measurement, name)!r}, "
                f"expected {getattr(criterion, name)!r} of criterion {criterion.id}"
            )
    bound = _bound(criterion, limit)
    judged: float | None = getattr(measurement, criterion.judged)
    if math.isnan(measurement.value) or (judged is not None and math.isnan(judged)):
        outcome = Outcome.INCONCLUSIVE if measurement.n_poor else Outcome.NOT_MEASURED
        return CriterionVerdict(criterion, measurement, outcome, None, bound)
    if criterion.comparison == "report":
        return CriterionVerdict(criterion, measurement, Outcome.REPORTED, None)
    if judged is None:
        raise DefinitionError(f"{measurement.metric} without interval, expected one: {criterion.id} judges it")
    if bound is None or math.isnan(bound):
        return CriterionVerdict(criterion, measurement, Outcome.NOT_MEASURED, None)
    meets_limit = _holds(judged, criterion.comparison, bound)
    outcome = Outcome.PASS if meets_limit else Outcome.FAIL
    return CriterionVerdict(criterion, measurement, outcome, meets_limit, bound)


def judge_protocol(
    protocol: ClinicalProtocol, facts: Mapping[str, float], measurements: Sequence[Measurement]
) -> Verdict:
    """Return what a study comes to.

    Parameters
    ----------
    protocol
        Without variants or parameters, or with one selected and all settled.
    facts
        Design facts by name, in the units of the requirements that ask for them.
    measurements
        At most one of each metric.

    Raises
    ------
    DefinitionError
        If a variant has still to be selected or a parameter to be settled, a metric was measured twice, or a
        unit does not fit.
    """
    if protocol.variants:
        raise DefinitionError(f"variant of {protocol.id} not selected, expected one of {protocol.variants}")
    if protocol.parameters:
        names = ", ".join(parameter.id for parameter in protocol.parameters)
        raise DefinitionError(f"parameters {names} of {protocol.id} not settled, expected values for them")
    by_metric = {measurement.metric: measurement for measurement in measurements}
    if len(by_metric) != len(measurements):
        raise DefinitionError(f"metrics {[m.metric for m in measurements]}, expected each to be measured once")
    design = tuple(DesignVerdict(r, facts.get(r.fact)) for r in protocol.design)
    sufficient = all(requirement.met for requirement in design)
    criteria = tuple(
        judge(
            criterion,
            by_metric.get(criterion.metric),
            limit=by_metric.get(criterion.limit_metric) if criterion.limit_metric else None,
        )
        for criterion in protocol.criteria
    )
    if not sufficient:
        criteria = tuple(
            verdict if verdict.meets_limit is None else replace(verdict, outcome=Outcome.INCONCLUSIVE)
            for verdict in criteria
        )
    return Verdict(protocol, design, criteria, _overall(criteria, sufficient=sufficient))


def _overall(criteria: Sequence[CriterionVerdict], *, sufficient: bool) -> Outcome:
    if {verdict.outcome for verdict in criteria} == {Outcome.NOT_MEASURED}:
        return Outcome.NOT_MEASURED
    outcomes = {verdict.outcome for verdict in criteria if not _no_case(verdict)}
    if not sufficient:
        return Outcome.INCONCLUSIVE
    for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.NOT_MEASURED, Outcome.PASS):
        if outcome in outcomes:
            return outcome
    return Outcome.REPORTED


def _holds(value: float, comparison: str, limit: float) -> bool:
    """Return whether a value is on the right side of a limit; 38.2 - 37.9 is 0.3, as written, not as floats."""
    if math.isclose(value, limit, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
        value = limit
    return bool(_COMPARE[comparison](value, limit))  # numpy compares to its own


def _no_case(verdict: CriterionVerdict) -> bool:
    """Return whether a figure that is only reported has nothing in the sample to be of."""
    measurement = verdict.measurement
    without_value = verdict.outcome is Outcome.NOT_MEASURED and measurement is not None and measurement.n == 0
    return verdict.criterion.comparison == "report" and without_value


def _provenance(provenance: Provenance) -> dict[str, str]:
    return {
        "clause": provenance.clause,
        "source": provenance.source,
        "confidence": provenance.confidence,
    }


def _bound(criterion: Criterion, limit: Measurement | None) -> float | None:
    """Return the limit that holds; None where there is none, or it was not measured."""
    if criterion.limit_metric is None or limit is None:
        return criterion.limit
    if (limit.metric, limit.unit) != (criterion.limit_metric, criterion.unit):
        raise DefinitionError(
            f"limit {limit.metric!r} in {limit.unit!r}, expected {criterion.limit_metric!r} in "
            f"{criterion.unit!r} of criterion {criterion.id}"
        )
    return None if math.isnan(limit.value) else limit.value


def _limit(rule: Requirement | Criterion, bound: float | None = None) -> str:
    """Return the limit for people: the number, or what is to give it."""
    number = rule.limit if bound is None else bound
    if number is not None:
        return _with_unit(number, rule.unit)
    return rule.limit_parameter or "a limit that was not measured"


def _poor(measurement: Measurement) -> str:
    return f", signal too poor in {measurement.n_poor} more" if measurement.n_poor else ""


def _plain(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _with_unit(value: float, unit: str) -> str:
    return f"{value:.6g}" if unit == "1" else f"{value:.6g} {unit}"


def _interval(measurement: Measurement) -> str:
    if measurement.low is None or measurement.high is None or measurement.level is None:
        return ""
    if math.isnan(measurement.low) and math.isnan(measurement.high):
        return ", no interval"
    return f", {measurement.level:.0%} interval {measurement.low:.4g} to {measurement.high:.4g}"
