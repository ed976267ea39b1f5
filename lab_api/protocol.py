"""`lab protocol`: list and show clinical protocols, check a lab's own, and plan what a trial still needs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from lab_api.asked import (
    add_evidence_options,
    add_power_options,
    add_protocol_options,
    asked_evidence,
    asked_expectations,
    asked_protocol,
    named_protocol,
)
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import CONFIDENCES, MEASURANDS, PAIRING_RULES, Criterion, Requirement
from protocols.clinical.library import mistakes_in, parse, shipped
from protocols.errors import DefinitionError, StoreError


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `lab protocol`."""
    parser = subparsers.add_parser("protocol", help="clinical protocols: list, show, check, plan")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="one line for each protocol that ships")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(run=_list)
    showing = actions.add_parser("show", help="everything a protocol says, with the source of each limit")
    showing.add_argument("protocol", metavar="ID", help="such as iso-81060-2-2018, or a file.toml")
    showing.set_defaults(run=_show)
    checking = actions.add_parser("check", help="explain the mistakes in a protocol of your own")
    checking.add_argument("file", type=Path, metavar="FILE", help="a TOML document")
    checking.set_defaults(run=_check)
    planning = actions.add_parser("plan", help="what a trial still needs before the protocol may conclude")
    planning.add_argument("protocol", metavar="ID", help="such as iso-81060-2-2018, or a file.toml")
    add_protocol_options(planning)
    add_evidence_options(planning)
    add_power_options(planning)
    planning.add_argument("--json", action="store_true", help="as JSON")
    planning.set_defaults(run=_plan)


def described(protocol: ClinicalProtocol) -> list[str]:
    """Return everything that a clinical protocol says, as lines for people."""
    status = protocol.status.replace("_", " ")
    if protocol.superseded_by:
        status += f" by {protocol.superseded_by}"
    lines = [
        f"{protocol.title}, edition {protocol.edition}",
        f"  id {protocol.id}, {status}; {MEASURANDS[protocol.measurand]}",
    ]
    if protocol.variants:
        lines.append(f"  variants: {', '.join(protocol.variants)}")
    lines += [
        f"  to be stated: {p.title} ({p.id}) in {p.unit}"
        + (f", else {p.default:g}" if p.default is not None else "")
        + f" [{p.provenance}]"
        for p in protocol.parameters
    ]
    if protocol.pairing:
        rule = protocol.pairing
        lines.append(f"  pairing: {PAIRING_RULES[rule.rule]}; {rule.window_s:g} s [{rule.provenance}]")
    lines += [f"  design: {r.title}: {_wanted(r)} [{r.provenance}]" for r in protocol.design]
    for criterion in protocol.criteria:
        variant = f" ({criterion.variant})" if criterion.variant else ""
        lines.append(f"  criterion{variant}: {criterion.title}: {_wanted(criterion)} [{criterion.provenance}]")
    lines += [f"  note: {note}" for note in protocol.notes]
    return lines


def _list(options: argparse.Namespace) -> int:
    protocols = shipped().values()
    if options.json:
        print(json.dumps([_summary(protocol) for protocol in protocols], indent=2, ensure_ascii=False))
        return 0
    width = max(len(protocol.id) for protocol in protocols)
    for protocol in protocols:
        mark = {"in_force": "", "superseded": " (superseded)", "draft": " (draft)"}[protocol.status]
        print(f"{protocol.id:{width}}  {protocol.title}, {protocol.edition}{mark}")
    return 0


def _show(options: argparse.Namespace) -> int:
    print("\n".join(described(named_protocol(options.protocol))))
    return 0


def _check(options: argparse.Namespace) -> int:
    from analysis.protocol_check import impossible_rules

    text, name = _text(options.file), options.file.name
    mistakes = mistakes_in(text, name=name)
    if not mistakes:
        protocol = parse(text, name=name)
        mistakes = [f"{name}: {said}" for said in impossible_rules(protocol)]
    for mistake in mistakes:
        print(mistake)
    if mistakes:
        return 1
    rules: list[Requirement | Criterion] = [*protocol.design, *protocol.criteria]
    unsure = [rule.id for rule in rules if rule.provenance.confidence == "unconfirmed"]
    print(f"{name}: {len(protocol.design)} requirements, {len(protocol.criteria)} criteria, no mistake found")
    if unsure:
        print(f"{name}: {CONFIDENCES['unconfirmed']}: {', '.join(unsure)}")
    return 0


def _plan(options: argparse.Namespace) -> int:
    from lab_api import planning

    protocol = asked_protocol(options)
    expected = asked_expectations(options)
    begun = options.sessions or options.wfdb or options.pairs
    if options.subjects and not begun:
        raise DefinitionError("--subjects without sessions or --pairs, expected the pairs of those subjects")
    evidence = asked_evidence(options, protocol) if begun else None
    document = planning.plan(protocol, evidence, power=options.power, expected=expected)
    if options.json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return 0
    print("\n".join(planning.described(document)))
    return 0


def _summary(protocol: ClinicalProtocol) -> dict[str, Any]:
    return {
        "id": protocol.id,
        "title": protocol.title,
        "edition": protocol.edition,
        "status": protocol.status,
        "superseded_by": protocol.superseded_by,
        "measurand": protocol.measurand,
        "variants": list(protocol.variants),
        "parameters": [parameter.id for parameter in protocol.parameters],
    }


def _wanted(rule: Requirement | Criterion) -> str:
    if rule.comparison == "report":
        return "to be reported"
    judged = getattr(rule, "judged", "value")
    side = "" if judged == "value" else f"{judged} end of the interval "
    limit = rule.limit_parameter or getattr(rule, "limit_metric", None) or f"{rule.limit:g}"
    unit = "" if rule.unit == "1" else f" {rule.unit}"
    return f"{side}{rule.comparison} {limit}{unit}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise StoreError(f"clinical protocol {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DefinitionError(f"clinical protocol {path}: no UTF-8 at byte {error.start}") from error
