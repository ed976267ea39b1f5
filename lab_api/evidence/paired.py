"""Evidence of paired readings: a device under test with its reference, session by session.

Both are read from the session: the reference is a device as well, be it a monitor, or the form into which an
observer enters what a manual instrument shows. How their readings meet is the protocol's pairing rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analysis.paired_study import Excluded, PairedStudy
from analysis.pairing import PairedReadings, estimate_lag, pair_bracketed, pair_nearest, pair_readings
from lab_api.evidence.examples import Readings, of_session
from lab_api.evidence.quantities import QUANTITIES, Quantity
from lab_api.evidence.records import (
    REFERENCE_ROLE,
    TEST_ROLE,
    Part,
    Source,
    StreamAccount,
    counted,
    the_device,
    the_stream,
)
from lab_api.store.session_store import Session, SessionStore, StreamKey
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Pairing
from protocols.clinical.subjects import SubjectFacts
from protocols.errors import DefinitionError

_LONGEST_LAG_S: Final = 20.0
"""As much is left out at either end of a session; more would leave out its first and last steps."""
_NS_PER_S: Final = 1_000_000_000


def from_session(store: SessionStore, session: Session, protocol: ClinicalProtocol) -> Part:
    """Return the pairs of all quantities of one session.

    Raises
    ------
    DefinitionError
        If the session lacks a device in either role, or one of the channels, has it twice or in a unit that
        cannot be converted.
    """
    rule = protocol.pairing_rule
    studies: list[PairedStudy] = []
    accounts: dict[StreamKey, StreamAccount] = {}
    figures: dict[str, float] = {}
    readings: dict[str, dict[str, Readings]] = {}
    notes: list[str] = []
    for quantity in QUANTITIES[protocol.measurand]:
        reference_ns, reference, reference_account = _readings(store, session, quantity, REFERENCE_ROLE)
        test_ns, test, test_account = _readings(store, session, quantity, TEST_ROLE)
        accounts |= {account.key: account for account in (reference_account, test_account)}
        lag = estimate_lag(reference_ns, reference, test_ns, test, max_lag_s=_LONGEST_LAG_S)
        if rule.align and np.isfinite(lag.lag_s):
            test_ns = test_ns - round(lag.lag_s * _NS_PER_S)
            notes.append(f"{quantity.name}: the device's times were moved back by its lag of {lag.lag_s:.2f} s")
        pairs = paired(rule, reference_ns, reference, test_ns, test)
        studies.append(_study(quantity, session, pairs))
        readings[quantity.name] = {REFERENCE_ROLE: (reference_ns, reference), TEST_ROLE: (test_ns, test)}
        named = quantity.name if len(QUANTITIES[protocol.measurand]) > 1 else ""
        for name, value in (
            ("pairs", pairs.times_ns.size),
            ("unpaired", pairs.n_unstable + len(pairs.unpaired)),
            ("lag_s", round(lag.lag_s, 2)),
        ):
            figures[f"{named}_{name}".lstrip("_")] = value
    notes += [note for account in accounts.values() for note in account.notes()]
    study = PairedStudy.gather(studies)
    source = Source(
        session.id,
        session.subject,
        store.content_hash(session.id),
        figures,
        tuple(notes),
        tuple(accounts.values()),
    )
    return Part(source, study, items_of(study), of_session(study, readings))


def joined(parts: Sequence[Part], subjects: SubjectFacts) -> PairedStudy:
    """Return the pairs of all sources, with what is known of their subjects."""
    known = {part.source.subject for part in parts} | {s for part in parts for s in part.measured.subjects}
    return PairedStudy.gather(
        (part.measured for part in parts), {s: facts for s, facts in subjects.items() if s in known}
    )


def paired(
    rule: Pairing,
    reference_ns: NDArray[np.int64],
    reference: NDArray[np.float64],
    test_ns: NDArray[np.int64],
    test: NDArray[np.float64],
) -> PairedReadings:
    """Return the pairs of readings by a protocol's rule.

    Raises
    ------
    DefinitionError
        If the rule does not pair readings.
    """
    if rule.rule == "windows":
        return pair_readings(
            reference_ns,
            reference,
            test_ns,
            test,
            window_s=rule.window_s,
            stable_s=rule.stable_s,
            stable_range=rule.stable_range,
        )
    of_readings = {"nearest": pair_nearest, "bracketed": pair_bracketed}
    if rule.rule not in of_readings:
        raise DefinitionError(
            f"pairing rule {rule.rule!r}, expected one of windows, nearest, bracketed for readings of a session"
        )
    return of_readings[rule.rule](reference_ns, reference, test_ns, test, window_s=rule.window_s)


def items_of(study: PairedStudy) -> dict[str, Sequence[Any]]:
    """Return the single pairs as columns, each leading back to its session and second."""
    columns: dict[str, Sequence[Any]] = {
        "session": study.sessions.tolist(),
        "subject": study.subjects.tolist(),
        "quantity": study.quantities.tolist(),
        "time_ns": study.times_ns.tolist(),
        "reference": plain(study.reference),
        "test": plain(study.test),
    }
    columns |= {name: plain(column) for name, column in study.columns.items()}
    return columns | {name: label.tolist() for name, label in study.labels.items()}


def plain(values: NDArray[np.float64]) -> list[float | None]:
    """Return numbers as a document holds them: rounded, and None where there is none."""
    return [None if np.isnan(value) else round(float(value), 6) for value in values]


def _study(quantity: Quantity, session: Session, pairs: PairedReadings) -> PairedStudy:
    study = PairedStudy.of_pairs(
        quantity.name,
        session.subject,
        session.id,
        pairs.times_ns,
        pairs.reference_percent,
        pairs.test_percent,
    )
    excluded = tuple(
        Excluded(session.subject, session.id, time_ns, quantity.name, reason)
        for time_ns, reason in pairs.unpaired
    )
    if pairs.n_unstable:
        reason = f"the reference was not stable in {counted(pairs.n_unstable, 'window')}"
        excluded += (Excluded(session.subject, session.id, session.opened_ns, quantity.name, reason),)
    columns: Mapping[str, NDArray[np.float64]] = {}
    if np.isfinite(pairs.change).any():
        columns = {"reference_change": pairs.change}
    return replace(study, excluded=excluded, columns=columns)


def _readings(
    store: SessionStore, session: Session, quantity: Quantity, role: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], StreamAccount]:
    """Return times and values, in the quantity's unit, that the device in a role measured, in time order."""
    device = the_device(session, role)
    key, channel = the_stream(store, session, device, quantity.channels)
    unit = quantity.convert(key.stream.channels[channel].unit)
    reading = store.read(session.id, device.gateway, device.device, key.stream)
    times_ns = reading.times_ns()
    order = np.argsort(times_ns, kind="stable")
    values = reading.physical()[channel][order] * unit.factor + unit.offset
    return times_ns[order], values, StreamAccount.of(store, session, key, reading.n_samples)
