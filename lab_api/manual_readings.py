"""Readings that people enter: what an observer heard, what a laboratory found, what an instrument showed.

They become samples of the session like any device's: the gateway is `manual`, the device is the observer or
instrument that the session names in a role, and each quantity is a stream of its own. So pairing, gaps, reports
and exports need not know who measured. Each value is checked against what a living person can have, each time
against the session's interval, and nothing is kept of an entry with a mistake. Entering the same reading again
changes nothing; another value for the same moment is refused, as nothing recorded is ever overwritten. Answers
to a questionnaire are a stream of its name, with a channel for each item.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from analysis.paired_study import PLAUSIBLE
from analysis.usability_study import ITEMS, TLX_WEIGHTS
from lab_api.evidence.quantities import QUANTITIES, Quantity
from lab_api.store.session_store import Session, SessionStore, StreamKey, StreamNotFoundError
from protocols.errors import DefinitionError
from protocols.samples import Channel, SampleBlock, Stream

GATEWAY: Final = "manual"
MAX_READINGS: Final = 10_000
_UNCERTAINTY_NS: Final = 500_000_000
"""People state times to the second."""

ANSWERS: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {"sus": (1.0, 5.0), "ueq": (1.0, 7.0), "nasa_tlx": (0.0, 100.0)}
)
"""Questionnaire -> smallest and largest answer."""
_QUANTITIES: Final[Mapping[str, Quantity]] = MappingProxyType(
    {quantity.name: quantity for quantities in QUANTITIES.values() for quantity in quantities}
)
_writing = threading.Lock()


@dataclass(frozen=True, slots=True)
class ManualReading:
    """One value at one moment; `unit` is a UCUM code, by default the quantity's own."""

    time_ns: int
    quantity: str
    value: float
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Entered:
    """How many readings were new, and how many were known already."""

    new: int
    known: int


def enter(
    store: SessionStore, session_id: str, device: str, readings: Sequence[ManualReading], *, now_ns: int
) -> Entered:
    """Keep readings of a device of the gateway `manual`; all of them or, if one has a mistake, none.

    Raises
    ------
    DefinitionError
        If the session does not name the device, or a reading has no quantity, unit, value or time that it can
        have, or another value than one that is there; says which.
    SessionNotFoundError
        If there is no such session.
    StoreError
        If nothing can be written.
    """
    session = _session_of(store, session_id, device)
    if len(readings) > MAX_READINGS:
        raise DefinitionError(f"{len(readings)} readings, expected at most {MAX_READINGS}")
    by_quantity: dict[str, dict[int, float]] = {}
    for number, reading in enumerate(readings, start=1):
        where = f"reading {number}"
        value = _checked(session, reading, now_ns, where)
        values = by_quantity.setdefault(reading.quantity, {})
        if values.setdefault(reading.time_ns, value) != value:
            raise DefinitionError(
                f"{where}: {reading.quantity} at {_utc(reading.time_ns)} twice, expected one value"
            )
    with _writing:
        blocks, known = [], 0
        for name, values in by_quantity.items():
            block = _block(store, session, device, _QUANTITIES[name], values, now_ns)
            known += len(values) - (block.n_samples if block else 0)
            blocks += [block] if block else []
        if blocks:
            store.write({session_id: [(GATEWAY, block) for block in blocks]})
    return Entered(sum(block.n_samples for block in blocks), known)


def enter_answers(
    store: SessionStore,
    session_id: str,
    device: str,
    questionnaire: str,
    answers: Mapping[str, float],
    *,
    now_ns: int,
) -> Entered:
    """Keep the answers to a questionnaire, given now by the session's subject, as one sample of a stream.

    Parameters
    ----------
    device
        Of the gateway `manual`: who asked, or the sheet.
    questionnaire
        One of `analysis.usability_study.ITEMS`.
    answers
        Item -> answer; an item that is left out was not answered. NASA-TLX may have its weights.

    Raises
    ------
    DefinitionError
        As `enter`; also where an item or an answer is none of the questionnaire's.
    """
    session = _session_of(store, session_id, device)
    if questionnaire not in ITEMS:
        raise DefinitionError(f"questionnaire {questionnaire!r}, expected one of {', '.join(ITEMS)}")
    items = (*ITEMS[questionnaire], *(TLX_WEIGHTS if questionnaire == "nasa_tlx" else ()))
    low, high = ANSWERS[questionnaire]
    for item, answer in answers.items():
        if item not in items:
            raise DefinitionError(f"item {item!r} of {questionnaire}, expected one of {', '.join(items)}")
        least, most = (0.0, 5.0) if item in TLX_WEIGHTS else (low, high)
        if not least <= answer <= most:
            raise DefinitionError(f"{item} = {answer:g}, expected {least:g} to {most:g}")
    if session.closed_ns is not None and now_ns >= session.closed_ns:
        raise DefinitionError(f"session {session_id} is closed, expected one that is open")
    given = items if any(item in TLX_WEIGHTS for item in answers) else ITEMS[questionnaire]
    stream = Stream(questionnaire, tuple(Channel(item, "1") for item in given), "float64", None)
    with _writing:
        key = StreamKey(GATEWAY, device, stream)
        extent = store.extent(session_id, key) if key in store.streams(session_id) else None
        block = SampleBlock(
            device,
            stream,
            boot_id=1,
            first_index=extent.n_samples if extent else 0,
            start_ns=now_ns,
            values=np.array([[answers.get(item, np.nan)] for item in given]),
            arrival_ns=now_ns,
            arrival_monotonic_ns=0,
            uncertainty_ns=_UNCERTAINTY_NS,
            times_ns=np.array([now_ns], dtype=np.int64),
        )
        store.write({session_id: [(GATEWAY, block)]})
    return Entered(1, 0)


def _session_of(store: SessionStore, session_id: str, device: str) -> Session:
    """Return the session, if it names the device at the gateway `manual`."""
    session = store.session(session_id)
    if not any((d.gateway, d.device) == (GATEWAY, device) for d in session.devices):
        named = ", ".join(d.device for d in session.devices if d.gateway == GATEWAY) or "none"
        raise DefinitionError(
            f"device {device!r} of gateway {GATEWAY} in session {session_id}, expected one it names: {named}"
        )
    return session


def _checked(session: Session, reading: ManualReading, now_ns: int, where: str) -> float:
    """Return the value in the quantity's own unit."""
    if reading.quantity not in _QUANTITIES:
        raise DefinitionError(
            f"{where}: quantity {reading.quantity!r}, expected one of {', '.join(_QUANTITIES)}"
        )
    quantity = _QUANTITIES[reading.quantity]
    try:
        unit = quantity.convert(reading.unit or quantity.unit)
    except DefinitionError as error:
        raise DefinitionError(f"{where}: {error}") from error
    low, high, own = PLAUSIBLE[reading.quantity]
    value = reading.value * unit.factor + unit.offset
    if not low <= value <= high:
        raise DefinitionError(
            f"{where}: {reading.quantity} = {reading.value:g} {reading.unit or own}, "
            f"expected {low:g} to {high:g} {own}"
        )
    end_ns = now_ns + 1 if session.closed_ns is None else session.closed_ns
    if not session.opened_ns <= reading.time_ns < end_ns:
        raise DefinitionError(
            f"{where}: time {_utc(reading.time_ns)}, expected within the session, "
            f"{_utc(session.opened_ns)} to {_utc(end_ns)}"
        )
    return round(value, 6)


def _utc(time_ns: int) -> str:
    """Return a moment as people wrote it, to the millisecond."""
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(
        microseconds=time_ns // 1_000
    )
    return moment.isoformat(timespec="milliseconds")


def _block(
    store: SessionStore,
    session: Session,
    device: str,
    quantity: Quantity,
    values: Mapping[int, float],
    now_ns: int,
) -> SampleBlock | None:
    """Return what is not yet stored; None if all is."""
    stream = Stream(quantity.name, (Channel(quantity.channels[0], quantity.unit),), "float64", None)
    there: dict[int, float] = {}
    if StreamKey(GATEWAY, device, stream) in store.streams(session.id):
        try:
            reading = store.read(session.id, GATEWAY, device, stream)
            there = dict(zip(reading.times_ns().tolist(), reading.physical()[0].tolist(), strict=True))
        except StreamNotFoundError:
            there = {}
    for time_ns, value in values.items():
        if there.get(time_ns, value) != value:
            said = f"{quantity.name} at {_utc(time_ns)} is {there[time_ns]:g} {quantity.unit} already"
            raise DefinitionError(f"{said}, expected no other value")
    new = sorted(time_ns for time_ns in values if time_ns not in there)
    if not new:
        return None
    return SampleBlock(
        device,
        stream,
        boot_id=1,
        first_index=len(there),
        start_ns=new[0],
        values=np.array([[values[time_ns] for time_ns in new]]),
        arrival_ns=now_ns,
        arrival_monotonic_ns=0,
        uncertainty_ns=_UNCERTAINTY_NS,
        times_ns=np.array(new, dtype=np.int64),
    )
