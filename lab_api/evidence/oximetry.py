"""Evidence of a pulse oximeter: the device under test paired with the reference, session by session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.oximetry import OximeterPairs
from analysis.pairing import estimate_lag, pair_readings
from lab_api.evidence.records import (
    REFERENCE_ROLE,
    TEST_ROLE,
    Part,
    Source,
    StreamAccount,
    the_device,
    the_stream,
)
from lab_api.store.session_store import Session, SessionStore
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.subjects import SubjectFacts

_SPO2: Final = "spo2"
_LONGEST_LAG_S: Final = 20.0
"""As much is left out at either end of a session; more would leave out its first and last steps."""
_OXIMETER_AS_REFERENCE: Final = "the reference is a pulse oximeter, not the saturation of arterial blood"


def from_session(store: SessionStore, session: Session, protocol: ClinicalProtocol) -> Part:
    """Return the pairs of one session."""
    pairing = protocol.pairing_rule
    reference_ns, reference, reference_account = _saturation(store, session, REFERENCE_ROLE)
    test_ns, test, test_account = _saturation(store, session, TEST_ROLE)
    pairs = pair_readings(
        reference_ns,
        reference,
        test_ns,
        test,
        window_s=pairing.window_s,
        stable_s=pairing.stable_s,
        stable_range=pairing.stable_range,
    )
    lag = estimate_lag(reference_ns, reference, test_ns, test, max_lag_s=_LONGEST_LAG_S)
    n_pairs = pairs.times_ns.size
    figures = {"pairs": n_pairs, "unstable_windows": pairs.n_unstable, "lag_s": round(lag.lag_s, 2)}
    accounts = (reference_account, test_account)
    notes = (_OXIMETER_AS_REFERENCE, *(note for account in accounts for note in account.notes()))
    source = Source(session.id, session.subject, store.content_hash(session.id), figures, notes, accounts)
    items = {
        "session": [session.id] * n_pairs,
        "time_ns": pairs.times_ns.tolist(),
        "reference_percent": _plain(pairs.reference_percent),
        "test_percent": _plain(pairs.test_percent),
    }
    return Part(source, pairs, items)


def joined(parts: Sequence[Part], _subjects: SubjectFacts) -> OximeterPairs:
    """Return the pairs of all sessions, each with its subject."""
    return OximeterPairs.gather((part.source.subject, part.measured) for part in parts)


def _saturation(
    store: SessionStore, session: Session, role: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], StreamAccount]:
    """Return times and values of the saturation that the device in a role measured, in time order."""
    device = the_device(session, role)
    key, channel = the_stream(store, session, device, (_SPO2,))
    reading = store.read(session.id, device.gateway, device.device, key.stream)
    times_ns = reading.times_ns()
    order = np.argsort(times_ns, kind="stable")
    saturation = reading.physical()[channel][order]
    return times_ns[order], saturation, StreamAccount.of(store, session, key, reading.n_samples)


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 6) for value in values]
