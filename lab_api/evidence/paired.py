"""Evidence of paired readings: a device under test with its reference, session by session.

Both are read from the session: the reference is a device as well, be it a monitor, or the form into which an
observer enters what a manual instrument shows. How their readings meet is the protocol's pairing rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analysis.paired_study import POOR_SIGNAL, SIGNAL_LABEL, Excluded, PairedStudy
from analysis.pairing import (
    Lag,
    PairedReadings,
    estimate_lag,
    pair_bracketed,
    pair_nearest,
    pair_preceding,
    pair_readings,
)
from analysis.skin_tone import labelled
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
from lab_api.evidence.signal_quality import reported_poor
from lab_api.manual_readings import GATEWAY
from lab_api.store.session_store import Session, SessionStore, StreamKey
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Pairing
from protocols.clinical.subjects import SubjectFacts
from protocols.errors import DefinitionError

_LONGEST_LAG_S: Final = 40.0
"""At a finger blood and oximeter may be half a minute late, as recordings of five oximeters show. As much is
left out at either end of a session; more would leave out its first and last steps."""
_NS_PER_S: Final = 1_000_000_000
_LEAST_SAID_S: Final = 1.0
"""The lag's grid: a reference that is later by less may as well be at the same time."""
_OXIMETER_AS_REFERENCE: Final = "the reference is a pulse oximeter, not the saturation of arterial blood"
_ENTERED: Final = "people entered the reference and answer for its having been stable at each sample"
_NOT_STABLE: Final = "the reference was not stable"
_POOR_REFERENCE: Final = "the reference reported a poor signal"


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
        of_reference = _readings(store, session, quantity, REFERENCE_ROLE)
        of_test = _readings(store, session, quantity, TEST_ROLE)
        accounts |= {read.account.key: read.account for read in (of_reference, of_test)}
        reference_ns, reference, test_ns, test = *of_reference.good, *of_test.good
        lag = Lag(float("nan"), float("nan"))
        # single readings, taken in turn: what lies between them tells of no lag
        if rule.rule not in ("bracketed", "preceding"):
            lag = estimate_lag(reference_ns, reference, test_ns, test, max_lag_s=_LONGEST_LAG_S)
        if rule.align and np.isfinite(lag.lag_s):
            of_test = of_test.earlier(round(lag.lag_s * _NS_PER_S))
            test_ns = of_test.times_ns
            notes.append(f"{quantity.name}: the device's times were moved back by its lag of {lag.lag_s:.2f} s")
        elif lag.lag_s < -_LEAST_SAID_S:
            notes.append(f"{quantity.name}: the reference is {-lag.lag_s:.2f} s later than the device")
        notes += _on_reference(quantity, of_reference, rule)
        pairs = paired(_for(rule, of_reference), reference_ns, reference, test_ns, test)
        studies.append(_study(quantity, session, pairs, of_reference, of_test, rule))
        readings[quantity.name] = {REFERENCE_ROLE: (reference_ns, reference), TEST_ROLE: (test_ns, test)}
        named = quantity.name if len(QUANTITIES[protocol.measurand]) > 1 else ""
        for name, value in (
            ("pairs", pairs.times_ns.size),
            ("unpaired", pairs.unstable_ns.size + len(pairs.unpaired)),
            ("poor_signal", int(of_reference.poor.sum() + of_test.poor.sum())),
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
    study = PairedStudy.gather(
        (part.measured for part in parts), {s: facts for s, facts in subjects.items() if s in known}
    )
    return labelled(study)


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
    of_readings = {"nearest": pair_nearest, "bracketed": pair_bracketed, "preceding": pair_preceding}
    if rule.rule not in of_readings:
        known = ", ".join(["windows", *of_readings])
        raise DefinitionError(f"pairing rule {rule.rule!r}, expected one of {known} for readings of a session")
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


@dataclass(frozen=True, slots=True)
class _Read:
    """What the device in a role measured: times and values in the quantity's unit, in time order.

    `poor` tells at which readings the device itself reported a poor signal; `channel` is what it calls them.
    """

    times_ns: NDArray[np.int64]
    values: NDArray[np.float64]
    poor: NDArray[np.bool_]
    account: StreamAccount
    channel: str

    @property
    def good(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Times and values, NaN where the signal was poor."""
        return self.times_ns, np.where(self.poor, np.nan, self.values)

    @property
    def by_hand(self) -> bool:
        """Whether people entered it."""
        return self.account.key.gateway == GATEWAY

    def earlier(self, by_ns: int) -> _Read:
        """Return the same at earlier times."""
        return replace(self, times_ns=self.times_ns - by_ns)

    def poor_stretches_ns(self) -> list[int]:
        """Return when each stretch of readings of a poor signal begins."""
        begins = self.poor & ~np.append(False, self.poor[:-1])
        return [int(time_ns) for time_ns in self.times_ns[begins]]


def _for(rule: Pairing, reference: _Read) -> Pairing:
    """Return a rule as it applies: single samples show no plateau, whoever takes them answers for one."""
    return replace(rule, stable_s=0.0) if reference.by_hand else rule


def _on_reference(quantity: Quantity, reference: _Read, rule: Pairing) -> list[str]:
    """Return what a reader must know of a reference."""
    if reference.by_hand:
        return [_ENTERED] if rule.rule == "windows" and rule.stable_s else []
    return [_OXIMETER_AS_REFERENCE] if reference.channel == quantity.name == "spo2" else []


def _study(
    quantity: Quantity, session: Session, pairs: PairedReadings, reference: _Read, test: _Read, rule: Pairing
) -> PairedStudy:
    study = PairedStudy.of_pairs(
        quantity.name, session.subject, session.id, pairs.times_ns, pairs.reference, pairs.test
    )
    reasons = [
        *pairs.unpaired,
        *((int(time_ns), _NOT_STABLE) for time_ns in pairs.unstable_ns),
        *((time_ns, _POOR_REFERENCE) for time_ns in reference.poor_stretches_ns()),
    ]
    excluded = tuple(
        Excluded(session.subject, session.id, time_ns, quantity.name, reason)
        for time_ns, reason in sorted(reasons)
    )
    known = {"reference_change": pairs.change, "reference_sd": pairs.spread}
    columns = {name: column for name, column in known.items() if np.isfinite(column).any()}
    labels: Mapping[str, NDArray[np.str_]] = {}
    if test.poor.any():
        labels = {SIGNAL_LABEL: np.where(_poor_at(pairs, test, rule), POOR_SIGNAL, "")}
    return replace(study, excluded=excluded, columns=columns, labels=labels)


def _poor_at(pairs: PairedReadings, test: _Read, rule: Pairing) -> NDArray[np.bool_]:
    """Return at which moments without a value of the device it had one, of a poor signal."""
    window_ns = round(rule.window_s * _NS_PER_S)
    before_ns = 0 if rule.rule == "windows" else window_ns
    poor_ns = test.times_ns[test.poor & np.isfinite(test.values)]
    first = np.searchsorted(poor_ns, pairs.times_ns - before_ns)
    there = np.searchsorted(poor_ns, pairs.times_ns + window_ns) > first
    return np.asarray(there & np.isnan(pairs.test))


def _readings(store: SessionStore, session: Session, quantity: Quantity, role: str) -> _Read:
    """Return what the device in a role measured of a quantity."""
    device = the_device(session, role)
    key, channel = the_stream(store, session, device, quantity.channels)
    described = key.stream.channels[channel]
    unit = quantity.convert(described.unit)
    reading = store.read(session.id, device.gateway, device.device, key.stream)
    times_ns = reading.times_ns()
    order = np.argsort(times_ns, kind="stable")
    times_ns = times_ns[order]
    return _Read(
        times_ns,
        reading.physical()[channel][order] * unit.factor + unit.offset,
        reported_poor(store, session, device, quantity.name, times_ns),
        StreamAccount.of(store, session, key, reading.n_samples),
        described.name,
    )
