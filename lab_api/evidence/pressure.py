"""Evidence of a blood pressure monitor: pairs whose reference two observers, or readings around, make up.

In a session the reference may be two people: the roles `reference` and `reference-2`. Each is paired by the
protocol's rule, and what both heard at the same time makes the reference. In a table the columns of
`analysis.pressure_reference` say the same; a column `reference` is then not needed.

What decides nothing (observers who differ, subjects whose reference was not steady) is excluded here, so that
neither figures nor statistics show it, and listed.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.paired_study import Excluded, PairedStudy
from analysis.pressure_reference import PRESSURE_COLUMNS, prepared
from lab_api.evidence import paired
from lab_api.evidence.quantities import QUANTITIES
from lab_api.evidence.records import REFERENCE_ROLE, Part
from lab_api.evidence.tables import Row, of_rows, read_table
from lab_api.store.session_store import Session, SessionStore
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.errors import DefinitionError

SECOND_ROLE: Final = "reference-2"
_FIRST_ROLE: Final = "reference-1"
_SAME_TIME_NS: Final = 30_000_000_000
"""Two people note the time of what they both heard; the next measurement comes a minute later (lab)."""
_ALONE: Final = "the second observer has no reading at that time"
_STANDS_FOR_REFERENCE: Final = (("observer_1", "observer_2"), ("reference_before", "reference_after"))


def from_session(store: SessionStore, session: Session, protocol: ClinicalProtocol) -> Part:
    """Return the pairs of both pressures of one session.

    Raises
    ------
    DefinitionError
        If a role, stream or unit is missing or there twice; says which.
    """
    part = paired.from_session(store, session, protocol)
    if any(device.role == SECOND_ROLE for device in session.devices):
        part = _of_both(part, paired.from_session(store, _with_second(session), protocol))
    return _prepared(part, protocol)


def from_table(path: Path, protocol: ClinicalProtocol) -> Part:
    """Return the pairs in a CSV file.

    Raises
    ------
    StoreError
        If the file cannot be read.
    DefinitionError
        If the table has a mistake; names file, line and column.
    """
    rows, sha256 = read_table(path, ("subject", "test"))
    columns = rows[0] if rows else {"reference": ""}
    if "reference" not in columns and not any(set(pair) <= set(columns) for pair in _STANDS_FOR_REFERENCE):
        wanted = " or ".join(["reference", *(" and ".join(pair) for pair in _STANDS_FOR_REFERENCE)])
        raise DefinitionError(
            f"{path.name}, line 1: columns {', '.join(columns)}, expected {wanted} among them"
        )
    rows = [_in_mmhg(row, f"{path.name}, line {number}") for number, row in enumerate(rows, start=2)]
    return _prepared(of_rows(rows, protocol, path=path, sha256=sha256), protocol)


def _prepared(part: Part, protocol: ClinicalProtocol) -> Part:
    limits = {rule.fact: rule.limit for rule in protocol.design if rule.limit is not None}
    study = prepared(part.measured, limits)
    shown = prepared(part.measured, {name: limit for name, limit in limits.items() if not name.endswith("_cm")})
    kept = {(str(q), int(t)): k for k, (q, t) in enumerate(zip(study.quantities, study.times_ns, strict=True))}
    examples = tuple(
        {**example, "reference": round(float(study.reference[kept[key]]), 6)}
        for example in part.examples
        if (key := (example["quantity"], example["time_ns"])) in kept
    )
    return replace(part, measured=study, items=paired.items_of(shown), examples=examples)


def _with_second(session: Session) -> Session:
    """Return the session with the second observer in the role of the reference."""
    roles = {REFERENCE_ROLE: _FIRST_ROLE, SECOND_ROLE: REFERENCE_ROLE}
    devices = tuple(replace(device, role=roles.get(device.role, device.role)) for device in session.devices)
    return replace(session, devices=devices)


def _of_both(first: Part, second: Part) -> Part:
    """Return the pairs of two observers, each with what either read."""
    studies = [
        _both(first.measured.of(quantity.name), second.measured.of(quantity.name))
        for quantity in QUANTITIES["blood_pressure"]
    ]
    source, other = first.source, second.source
    streams = {account.key: account for account in (*source.streams, *other.streams)}
    figures = {**source.figures}
    for quantity, study in zip(QUANTITIES["blood_pressure"], studies, strict=True):
        figures[f"{quantity.name}_pairs"] = study.n_pairs
    notes = (*dict.fromkeys((*source.notes, *other.notes)), "the reference is the mean of two observers")
    merged = replace(source, figures=figures, notes=notes, streams=tuple(streams.values()))
    return Part(merged, PairedStudy.gather(studies), examples=first.examples)


def _both(first: PairedStudy, second: PairedStudy) -> PairedStudy:
    """Return the pairs of one quantity that both observers have."""
    at = _same_time(first.times_ns, second.times_ns)
    known = {(e.time_ns, e.reason) for e in first.excluded}
    excluded: tuple[Excluded, ...] = tuple(
        e for e in second.excluded if (e.time_ns, e.reason) not in known and e.time_ns not in first.times_ns
    )
    pairs = first.without(at < 0, _ALONE)
    pairs = replace(pairs, excluded=(*pairs.excluded, *excluded))
    at = at[at >= 0]
    one, other = pairs.reference, second.reference[at]
    columns: dict[str, NDArray[np.float64]] = {"observer_1": one, "observer_2": other}
    if "reference_change" in pairs.columns and "reference_change" in second.columns:
        change, other_change = pairs.columns["reference_change"], second.columns["reference_change"][at]
        apart = np.abs(one - other) + np.abs(change - other_change) / 2.0  # the larger of before and after
        columns |= {"observers_apart": apart, "reference_change": (change + other_change) / 2.0}
    return replace(pairs, reference=(one + other) / 2.0, columns={**pairs.columns, **columns})


def _same_time(first_ns: NDArray[np.int64], second_ns: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return for each of the first times the nearest of the second, -1 if it is too far away."""
    if not second_ns.size:
        return np.full(first_ns.size, -1)
    after = np.minimum(np.searchsorted(second_ns, first_ns), second_ns.size - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(second_ns[before] - first_ns) <= np.abs(second_ns[after] - first_ns)
    at = np.where(nearer, before, after)
    return np.where(np.abs(second_ns[at] - first_ns) <= _SAME_TIME_NS, at, -1)


def _in_mmhg(row: Row, where: str) -> Row:
    """Return a line whose further pressures are in mmHg, as the line's unit says, with a reference if empty."""
    stated = row.get("unit") or "mm[Hg]"
    try:
        factor = QUANTITIES["blood_pressure"][0].convert(stated).factor
    except DefinitionError as error:
        raise DefinitionError(f"{where}: {error}") from error
    changed: dict[str, str] = {"reference": "", **row}
    for name in set(PRESSURE_COLUMNS) & row.keys():
        if row[name]:
            changed[name] = repr(_number(row[name], name, where) * factor)
    return changed


def _number(text: str, name: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.inf
    if not math.isfinite(number):
        raise DefinitionError(f"{where}: {name} = {text!r}, expected a number in the line's unit, or nothing")
    return number
