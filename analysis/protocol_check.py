"""Whether a clinical protocol can be carried out: it asks only for metrics and facts that there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from analysis.metrics import STUDIES
from protocols.clinical.clinical_protocol import ClinicalProtocol


def impossible_rules(protocol: ClinicalProtocol) -> list[str]:
    """Return a sentence for every metric, fact or unit that a protocol's measurand does not have."""
    study = STUDIES[protocol.measurand]
    said: list[str] = []
    metrics = {name: metric.unit for name, metric in study.metrics.items()}
    for criterion in protocol.criteria:
        for name in filter(None, (criterion.metric, criterion.limit_metric)):
            said += _checked(f"criterion {criterion.id}: metric", name, criterion.unit, metrics, protocol)
    for requirement in protocol.design:
        units = {name: fact.unit for name, fact in study.facts.items()}
        said += _checked(
            f"requirement {requirement.id}: fact", requirement.fact, requirement.unit, units, protocol
        )
    return said


def _checked(
    what: str, name: str, unit: str, known: Mapping[str, str], protocol: ClinicalProtocol
) -> Iterable[str]:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"
        yield f"{what} {name!r} of {protocol.measurand} does not exist, {hint}"
    elif known[name] != unit:
        yield f"{what} {name} in {unit!r}, expected its unit {known[name]!r}"
