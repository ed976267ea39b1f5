"""A trial's plan: what its protocol still wants, how the figures stand so far, and how many subjects would do.

Nothing here is a verdict: the figures of a running trial are what they are so far, and say so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Final

from analysis.metrics import STUDIES, excluded, measure
from analysis.study_power import CriterionPlan, StudyPlan, study_plan
from analysis.trial_plan import Need, needs
from lab_api.evidence.records import Evidence, counted
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Criterion
from protocols.clinical.measurement import Measurement

SO_FAR: Final = "so far, no verdict"


def plan(
    protocol: ClinicalProtocol,
    evidence: Evidence | None = None,
    *,
    power: float | None = None,
    expected: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return what a trial needs, as plain values that JSON can hold.

    Parameters
    ----------
    protocol
        With variant and parameters settled.
    evidence
        Of the trial so far; None where it has not begun.
    power, expected
        How probably the device is to pass, and what is expected of it (`analysis.study_power`); without a power
        no sample sizes.

    Raises
    ------
    DefinitionError
        If an expectation is of nothing in the protocol or out of range, or the power is no share.
    SignalError
        If a metric cannot be computed from such evidence.
    """
    sizes = None if power is None else study_plan(protocol, expected, power=power)
    study = STUDIES[protocol.measurand]
    measured = study.nothing if evidence is None else evidence.measured
    facts: Mapping[str, float] = study.design_facts(measured, protocol.statistics)
    measurements: list[Measurement] = []
    if evidence is not None:
        facts, measurements = measure(protocol, measured)
    wanted = needs(protocol, facts, measured)
    reasons = Counter(moment.reason for moment in excluded(protocol, measured))
    return {
        "protocol": protocol.id,
        "title": protocol.title,
        "title_fr": protocol.title_fr,
        "edition": protocol.edition,
        "measurand": protocol.measurand,
        "begun": evidence is not None,
        "design": [_need(need) for need in wanted],
        "n_missing": sum(not need.met for need in wanted),
        "excluded": dict(sorted(reasons.items())),
        "read_rate_percent": _finite(facts.get("read_rate_percent")),
        "so_far": _so_far(protocol, measurements),
        "sample_size": None if sizes is None else _sizes(sizes),
    }


def described(document: Mapping[str, Any]) -> list[str]:
    """Return a plan as lines for people."""
    missing = document["n_missing"]
    says = f"{counted(missing, 'requirement')} of {len(document['design'])} not met" if missing else "all met"
    lines = [f"{document['title']}, edition {document['edition']}: design, {says}"]
    lines += [f"  {need['text']}" for need in document["design"]]
    if document["begun"]:
        n = sum(document["excluded"].values())
        reasons = ", ".join(f"{reason} ({count})" for reason, count in document["excluded"].items())
        lines.append(f"excluded: {n}" + (f": {reasons}" if reasons else ""))
        if document["read_rate_percent"] is not None:
            lines.append(
                f"read rate: {document['read_rate_percent']:.4g} % of the moments with a usable reference"
            )
        lines.append(f"figures {SO_FAR}:")
        lines += [f"  {figure['text']}" for figure in document["so_far"]]
    if document["sample_size"] is not None:
        lines += _described_sizes(document["sample_size"])
    return lines


def _described_sizes(sizes: Mapping[str, Any]) -> list[str]:
    lines = [f"sample size for a power of {sizes['wanted_power']:g}:"]
    lines += [f"  {criterion['text']}" for criterion in sizes["criteria"]]
    if sizes["subjects"] is not None:
        lines.append(
            f"  all planned criteria together: {sizes['subjects']} subjects, {sizes['pairs']} pairs "
            f"(power {_power(sizes['power'])})"
        )
    elif any(criterion["power_at_design"] is not None for criterion in sizes["criteria"]):
        lines.append("  all planned criteria together: no number is enough")
    if sizes["design_subjects"] is not None or sizes["design_pairs"] is not None:
        least = [
            f"{sizes[f'design_{what}']} {what}" for what in ("subjects", "pairs") if sizes[f"design_{what}"]
        ]
        lines.append(f"  the design asks for at least {' and '.join(least)}, whatever the power")
    return [*lines, *(f"  assumed: {assumption}" for assumption in sizes["assumptions"])]


def _need(need: Need) -> dict[str, Any]:
    requirement = need.requirement
    return {
        "id": requirement.id,
        "title": requirement.title,
        "title_fr": requirement.title_fr,
        "fact": requirement.fact,
        "value": _finite(need.value),
        "comparison": requirement.comparison,
        "limit": requirement.limit,
        "unit": requirement.unit,
        "met": need.met,
        "more": need.more,
        "of": need.of,
        "where": need.where,
        **asdict(requirement.provenance),
        "text": str(need),
    }


def _so_far(protocol: ClinicalProtocol, measurements: list[Measurement]) -> list[dict[str, Any]]:
    by_metric = {measurement.metric: measurement for measurement in measurements}
    figures = []
    for criterion in protocol.criteria:
        if criterion.metric not in by_metric:
            continue
        measurement = by_metric[criterion.metric]
        limit = criterion.limit
        if criterion.limit_metric in by_metric:
            limit = _finite(by_metric[criterion.limit_metric].value)
        figures.append(
            {
                "id": criterion.id,
                "title": criterion.title,
                "title_fr": criterion.title_fr,
                "metric": criterion.metric,
                "value": _finite(measurement.value),
                "low": _finite(measurement.low),
                "high": _finite(measurement.high),
                "level": measurement.level,
                "n": measurement.n,
                "label": measurement.label,
                "unit": criterion.unit,
                "judged": criterion.judged,
                "comparison": criterion.comparison,
                "limit": limit,
                "text": _figure_text(criterion, measurement, limit),
            }
        )
    return figures


def _figure_text(criterion: Criterion, measurement: Measurement, limit: float | None) -> str:
    unit = "" if criterion.unit == "1" else f" {criterion.unit}"
    if math.isnan(measurement.value):
        return f"{criterion.title}: no value yet from n = {measurement.n}"
    value = measurement.label or f"{measurement.value:.4g}{unit}"
    low, high = _finite(measurement.low), _finite(measurement.high)
    interval = ""
    if low is not None and high is not None and measurement.level is not None:
        interval = f", {measurement.level:.0%} interval {low:.4g} to {high:.4g}"
    against = ""
    if criterion.comparison != "report":
        known = "not known yet" if limit is None else f"{limit:.4g}{unit}"
        end = "" if criterion.judged == "value" else f" for the interval's {criterion.judged} end"
        against = f", limit{end} {criterion.comparison} {known}"
    return f"{criterion.title}: {value} {SO_FAR} (n = {measurement.n}{interval}{against})"


def _sizes(sizes: StudyPlan) -> dict[str, Any]:
    return {
        "wanted_power": sizes.wanted_power,
        "criteria": [_criterion(criterion) for criterion in sizes.criteria],
        "subjects": sizes.subjects,
        "pairs": sizes.pairs,
        "power": sizes.power,
        "design_subjects": sizes.design_subjects,
        "design_pairs": sizes.design_pairs,
        "assumptions": list(sizes.assumptions),
    }


def _criterion(planned: CriterionPlan) -> dict[str, Any]:
    criterion = planned.criterion
    text = f"{criterion.title}: "
    if planned.subjects is not None and planned.power is not None:
        text += f"{planned.subjects} subjects, {planned.pairs} pairs (power {_power(planned.power)}); "
    elif planned.pairs is not None:
        text += f"{planned.pairs} pairs that it counts; "
    text += planned.says
    if planned.power_at_design is not None:
        text += f"; at the design's smallest sample {_power(planned.power_at_design)}"
    return {
        "id": criterion.id,
        "title": criterion.title,
        "title_fr": criterion.title_fr,
        "subjects": planned.subjects,
        "pairs": planned.pairs,
        "power": planned.power,
        "power_at_design": planned.power_at_design,
        "text": text,
    }


def _power(power: float) -> str:
    """Return a power to tenths of a percent, as it is known: never a certainty."""
    return "above 0.999" if power > 0.999 else "below 0.001" if power < 0.001 else f"{power:.3f}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
