"""Evidence of what is counted over spans of time, such as steps in bouts of walking: one pair for each span.

Where spans are comes from an annotation set whose name begins with `spans`: each of its marks begins one, named
by its symbol, which lasts to the next mark; `-` ends one without beginning another. Where there is no such set,
each tally that people entered for the reference closes one, begun by the tally before or the session's opening.

What was counted in a span is, of a device, the rise of its running counter from one border to the other, and of
people the tally that they entered between the span's beginning and the next one's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.paired_study import Excluded, PairedStudy
from lab_api.evidence import paired
from lab_api.evidence.annotated import annotated_times_ns
from lab_api.evidence.examples import Readings, of_session
from lab_api.evidence.quantities import QUANTITIES, Quantity
from lab_api.evidence.records import (
    REFERENCE_ROLE,
    TEST_ROLE,
    Part,
    Source,
    StreamAccount,
    the_device,
    the_stream,
)
from lab_api.manual_readings import GATEWAY
from lab_api.store.session_store import Session, SessionStore
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.errors import DefinitionError

SPANS: Final = "spans"
"""How the name of the annotation set begins."""
NO_SPAN: Final = "-"
"""The mark that ends a span without beginning another."""


@dataclass(frozen=True, slots=True, eq=False)
class _Spans:
    """Spans `[start, end)` in UTC of ns, and what is done in each; until `until_ns` a tally belongs to it."""

    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    until_ns: NDArray[np.int64]
    conditions: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """What one side counted in each span, NaN where it cannot be told, and why not."""

    values: NDArray[np.float64]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """Readings of the device in one role, in time order."""

    times_ns: NDArray[np.int64]
    values: NDArray[np.float64]
    entered: bool
    account: StreamAccount


def from_session(store: SessionStore, session: Session, protocol: ClinicalProtocol) -> Part:
    """Return the pairs of one session, one for each span; by another rule, as `paired.from_session`.

    Raises
    ------
    DefinitionError
        If a device or stream is missing or there twice, there is more than one set of spans, or nothing tells
        where spans are.
    """
    rule = protocol.pairing_rule
    if rule.rule != "spans":
        return paired.from_session(store, session, protocol)
    (quantity,) = QUANTITIES[protocol.measurand]
    sides = {role: _side(store, session, quantity, role) for role in (REFERENCE_ROLE, TEST_ROLE)}
    reference, test = sides[REFERENCE_ROLE], sides[TEST_ROLE]
    spans = _marked_spans(store, session)
    if spans is None:
        spans = _entered_spans(session, reference)
        of_reference = _Counts(reference.values, ("",) * reference.values.size)
        of_test = _in_turn(reference, test) if test.entered else _risen(test, spans, rule.window_s)
    else:
        of_reference, of_test = (
            _tallied(side, spans) if side.entered else _risen(side, spans, rule.window_s)
            for side in (reference, test)
        )
    study = _study(session, quantity, spans, of_reference, of_test)
    figures = {"pairs": study.n_pairs, "unpaired": len(study.excluded)}
    accounts = (reference.account, test.account)
    source = Source(
        session.id,
        session.subject,
        store.content_hash(session.id),
        figures,
        tuple(note for account in accounts for note in account.notes()),
        accounts,
    )
    readings: dict[str, Readings] = {role: (side.times_ns, side.values) for role, side in sides.items()}
    return Part(source, study, paired.items_of(study), of_session(study, {quantity.name: readings}))


def _side(store: SessionStore, session: Session, quantity: Quantity, role: str) -> _Side:
    device = the_device(session, role)
    key, channel = the_stream(store, session, device, quantity.channels)
    unit = quantity.convert(key.stream.channels[channel].unit)
    reading = store.read(session.id, device.gateway, device.device, key.stream)
    times_ns = reading.times_ns()
    order = np.argsort(times_ns, kind="stable")
    values = reading.physical()[channel][order] * unit.factor + unit.offset
    account = StreamAccount.of(store, session, key, reading.n_samples)
    return _Side(times_ns[order], values, device.gateway == GATEWAY, account)


def _marked_spans(store: SessionStore, session: Session) -> _Spans | None:
    sets = [annotations for annotations in store.annotations(session.id) if annotations.name.startswith(SPANS)]
    if not sets:
        return None
    if len(sets) > 1:
        names = [annotations.name for annotations in sets]
        raise DefinitionError(f"annotation sets {names} in session {session.id}, expected one of spans")
    marks_ns = annotated_times_ns(store, session, sets[0])
    closed_ns = session.interval_ns()[1]
    ends_ns = np.append(marks_ns[1:], closed_ns)
    begins = np.array([symbol != NO_SPAN for symbol in sets[0].symbols], dtype=bool)
    start_ns = marks_ns[begins]
    return _Spans(
        start_ns,
        ends_ns[begins],
        np.append(start_ns[1:], closed_ns),
        tuple(symbol for symbol in sets[0].symbols if symbol != NO_SPAN),
    )


def _entered_spans(session: Session, reference: _Side) -> _Spans:
    if not reference.entered:
        raise DefinitionError(
            f"nothing tells the spans of session {session.id}, expected an annotation set whose name begins "
            f"with {SPANS!r}, or tallies of the reference that people entered"
        )
    end_ns = reference.times_ns
    start_ns = np.append(session.opened_ns, end_ns)[:-1]
    return _Spans(start_ns, end_ns, end_ns, ("",) * end_ns.size)


def _tallied(side: _Side, spans: _Spans) -> _Counts:
    """Return the one tally that was entered from each span's beginning to the next one's."""
    first = np.searchsorted(side.times_ns, spans.start_ns)
    last = np.searchsorted(side.times_ns, spans.until_ns)
    n = last - first
    reasons = tuple(("no tally was entered", "", "more than one tally was entered")[min(k, 2)] for k in n)
    values = np.full(n.size, np.nan)
    values[n == 1] = side.values[first[n == 1]]
    return _Counts(values, reasons)


def _in_turn(reference: _Side, test: _Side) -> _Counts:
    """Return the device's tallies in the order of the reference's, where each lies between its neighbours."""
    n = reference.values.size
    if test.values.size != n:
        raise DefinitionError(
            f"{_entries(test.values.size)} of the device for {n} of the reference, expected one for each, or "
            f"an annotation set whose name begins with {SPANS!r}"
        )
    before = np.append(np.iinfo(np.int64).min, reference.times_ns[:-1])
    after = np.append(reference.times_ns[1:], np.iinfo(np.int64).max)
    between = (test.times_ns > before) & (test.times_ns < after)
    reasons = tuple("" if right else "the tally belongs to another span" for right in between)
    return _Counts(np.where(between, test.values, np.nan), reasons)


def _risen(side: _Side, spans: _Spans, oldest_s: float) -> _Counts:
    """Return the rise of a running counter in each span, of its last reading at either border."""
    borders_ns = np.stack([spans.start_ns, spans.end_ns])
    place = np.searchsorted(side.times_ns, borders_ns, side="right") - 1
    if side.values.size == 0:
        return _Counts(np.full(spans.start_ns.size, np.nan), ("no reading",) * spans.start_ns.size)
    at = np.maximum(place, 0)
    stale = (place < 0) | (borders_ns - side.times_ns[at] > oldest_s * 1e9)
    fallen = np.append(0, np.cumsum(np.diff(side.values) < 0))
    missing = np.append(0, np.cumsum(np.isnan(side.values)))
    reasons = []
    for k in range(spans.start_ns.size):
        first, last = at[0, k], at[1, k]
        reason = ""
        if stale[:, k].any():
            reason = "no reading of the counter shortly before a border of the span"
        elif fallen[last] > fallen[first]:
            reason = "the counter fell within the span"
        elif missing[last + 1] > missing[first]:
            reason = "the counter showed no value within the span"
        reasons.append(reason)
    told = np.array([not reason for reason in reasons], dtype=bool)
    return _Counts(np.where(told, side.values[at[1]] - side.values[at[0]], np.nan), tuple(reasons))


def _study(
    session: Session, quantity: Quantity, spans: _Spans, reference: _Counts, test: _Counts
) -> PairedStudy:
    """Return the pairs; a span that one side says nothing of is excluded by that side's reason."""
    why = [
        f"reference: {of_reference}" if of_reference else f"device: {of_test}" if of_test else ""
        for of_reference, of_test in zip(reference.reasons, test.reasons, strict=True)
    ]
    study = PairedStudy.of_pairs(
        quantity.name, session.subject, session.id, spans.start_ns, reference.values, test.values
    )
    study = replace(
        study,
        columns={"duration_s": (spans.end_ns - spans.start_ns) / 1e9},
        labels={"condition": np.array(spans.conditions, dtype=np.str_)},
    )
    kept = study.chosen(np.array([not reason for reason in why], dtype=bool))
    excluded = tuple(
        Excluded(session.subject, session.id, int(start_ns), quantity.name, reason)
        for start_ns, reason in zip(spans.start_ns, why, strict=True)
        if reason
    )
    return replace(kept, excluded=excluded)


def _entries(n: int) -> str:
    return "1 entry" if n == 1 else f"{n} entries"
