"""From what was recorded to what a clinical protocol judges: sessions or WFDB records -> evidence.

Each source of evidence (a session, a record) is named with the hash of its content, so that a verdict leads
back to the bytes it rests on. What a reader must know of a source, such as missing samples, becomes a note,
never a silent choice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analysis.beat_detection import RecordResult, compare_record
from analysis.detection import read_annotations
from analysis.heartbeats import detect_qrs
from analysis.oximetry import OximeterPairs
from analysis.pairing import estimate_lag, pair_readings
from firmware_sim.recordings import Recording
from lab_api.store.session_gaps import Completeness, SessionGap, completeness
from lab_api.store.session_store import (
    AnnotationSet,
    Reading,
    Session,
    SessionDevice,
    SessionStore,
    StreamKey,
)
from protocols.clinical.criteria import ClinicalProtocol, Pairing
from protocols.errors import DefinitionError

REFERENCE_ROLE: Final = "reference"
TEST_ROLE: Final = "test"

_SPO2: Final = "spo2"
_LONGEST_LAG_S: Final = 20.0
"""As much is left out at either end of a session; more would leave out its first and last steps."""
_OXIMETER_AS_REFERENCE: Final = "the reference is a pulse oximeter, not the saturation of arterial blood"


@dataclass(frozen=True, slots=True)
class StreamAccount:
    """How much of a stream that evidence was taken from is there, and where it is not."""

    key: StreamKey
    completeness: Completeness
    gaps: tuple[SessionGap, ...]

    @property
    def name(self) -> str:
        """Device and stream."""
        return f"{self.key.device}/{self.key.stream.name}"


@dataclass(frozen=True, slots=True)
class Source:
    """One session or record that evidence was taken from.

    Parameters
    ----------
    id, subject
        The session's id and subject; for a record both are its name.
    content_hash
        SHA-256 of its content.
    figures
        What it contributed, by name.
    notes
        What a reader must know of it, such as what is missing.
    streams
        The streams of a session that were used, with their gaps.
    """

    id: str
    subject: str
    content_hash: str
    figures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()
    streams: tuple[StreamAccount, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What `analysis.metrics.measure` takes, where it comes from, and its single items as columns."""

    measured: Any
    sources: tuple[Source, ...]
    items: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def from_sessions(store: SessionStore, session_ids: Sequence[str], protocol: ClinicalProtocol) -> Evidence:
    """Return the evidence that sessions hold for a protocol's measurand.

    Raises
    ------
    DefinitionError
        If there are no sessions, one is named twice, or one lacks what the measurand needs; says what.
    SessionNotFoundError
        If there is no such session.
    """
    if not session_ids:
        raise DefinitionError("no sessions, expected at least one")
    if len(set(session_ids)) != len(session_ids):
        raise DefinitionError("a session is named twice, expected each once")
    return _FROM_SESSIONS[protocol.measurand](store, [store.session(i) for i in session_ids], protocol)


def from_recordings(recordings: Sequence[Recording], protocol: ClinicalProtocol) -> Evidence:
    """Return the evidence that WFDB records with beat annotations hold for a beat detector.

    Raises
    ------
    DefinitionError
        If the protocol judges something else, or a record has no annotations.
    """
    if protocol.measurand != "qrs":
        raise DefinitionError(f"{protocol.id} judges {protocol.measurand}, expected a protocol for qrs")
    results, sources = [], []
    for recording in recordings:
        if not recording.annotation_symbols:
            raise DefinitionError(
                f"record {recording.name} has no reference annotations, expected an .atr file"
            )
        result = _compare(
            recording.name,
            recording.values[0],
            recording.rate_hz,
            recording.annotation_samples,
            recording.annotation_symbols,
            recording.rate_hz,
            protocol.pairing,
        )
        results.append(result)
        sources.append(
            Source(recording.name, recording.name, _recording_hash(recording), _beat_figures(result))
        )
    return Evidence(results, tuple(sources))


def _oximetry(store: SessionStore, sessions: Sequence[Session], protocol: ClinicalProtocol) -> Evidence:
    """Pair the device under test with the reference device, session by session."""
    pairing = protocol.pairing
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("session", "time", "reference", "test")}
    subjects, sources = [], []
    for session in sessions:
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
        subjects.append(np.full(n_pairs, session.subject))
        columns["session"].append(np.full(n_pairs, session.id))
        columns["time"].append(pairs.times_ns)
        columns["reference"].append(pairs.reference_percent)
        columns["test"].append(pairs.test_percent)
        figures = {"pairs": n_pairs, "unstable_windows": pairs.n_unstable, "lag_s": round(lag.lag_s, 2)}
        accounts = (reference_account, test_account)
        notes = (_OXIMETER_AS_REFERENCE, *_notes_on(accounts))
        hash_ = store.content_hash(session.id)
        sources.append(Source(session.id, session.subject, hash_, figures, notes, accounts))
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    measured = OximeterPairs(np.concatenate(subjects), joined["time"], joined["reference"], joined["test"])
    items = {
        "session": joined["session"].tolist(),
        "time_ns": joined["time"].tolist(),
        "reference_percent": _plain(joined["reference"]),
        "test_percent": _plain(joined["test"]),
    }
    return Evidence(measured, tuple(sources), items)


def _saturation(
    store: SessionStore, session: Session, role: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], StreamAccount]:
    """Return times and values of the saturation that the device in a role measured, in time order."""
    device = _device(session, role)
    keys = [
        key
        for key in store.streams(session.id)
        if (key.gateway, key.device) == (device.gateway, device.device)
        and _SPO2 in (channel.name for channel in key.stream.channels)
    ]
    if len(keys) != 1:
        raise DefinitionError(
            f"device {device.gateway}/{device.device} of session {session.id} has {len(keys)} streams with a "
            f"channel {_SPO2}, expected one"
        )
    reading = store.read(session.id, device.gateway, device.device, keys[0].stream)
    times_ns = reading.times_ns()
    order = np.argsort(times_ns, kind="stable")
    channel = [channel.name for channel in keys[0].stream.channels].index(_SPO2)
    saturation = reading.physical()[channel][order]
    return times_ns[order], saturation, _account(store, session, keys[0], reading)


def _account(store: SessionStore, session: Session, key: StreamKey, reading: Reading) -> StreamAccount:
    gaps = store.gaps(session.id, key)
    return StreamAccount(key, completeness(key.stream, reading.n_samples, gaps), tuple(gaps))


def _notes_on(accounts: Sequence[StreamAccount]) -> list[str]:
    """Return a sentence on each stream that is not whole."""
    return [f"{account.name} is not whole: {_missing(account)}" for account in accounts if account.gaps]


def _missing(account: StreamAccount) -> str:
    whole = account.completeness
    reasons = ", ".join(dict.fromkeys(gap.gap.reason.value for gap in account.gaps))
    parts = [f"{whole.missing_samples} samples are missing"] if whole.missing_samples else []
    if whole.uncounted_gaps:
        parts.append(f"{whole.uncounted_ns / 1e9:.3g} s without samples, uncounted")
    held = "" if whole.fraction is None else f", {100 * whole.fraction:.4g} % is there"
    return f"{' and '.join(parts)}{held} ({counted(whole.n_gaps, 'gap')}: {reasons})"


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not one."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _device(session: Session, role: str) -> SessionDevice:
    found = [device for device in session.devices if device.role == role]
    if len(found) != 1:
        raise DefinitionError(
            f"{len(found)} devices in the role {role!r} in session {session.id}, expected one"
        )
    return found[0]


def _beats(store: SessionStore, sessions: Sequence[Session], protocol: ClinicalProtocol) -> Evidence:
    """Compare the beats detected in each session with its reference annotations."""
    results, sources = [], []
    for session in sessions:
        annotations = _reference_annotations(store, session)
        key = _annotated_stream(store, session, annotations)
        reading = store.read(session.id, key.gateway, key.device, key.stream)
        ecg, first_index = _continuous(reading, session, annotations.boot_id)
        rate_hz = key.stream.rate_hz or 0.0
        offset = round(first_index * annotations.rate_hz / rate_hz)
        end = (first_index + ecg.size) * annotations.rate_hz / rate_hz
        inside = (annotations.sample_indices >= offset) & (annotations.sample_indices < end)
        result = _compare(
            session.id,
            ecg,
            rate_hz,
            annotations.sample_indices[inside] - offset,
            [s for s, is_inside in zip(annotations.symbols, inside, strict=True) if is_inside],
            annotations.rate_hz,
            protocol.pairing,
        )
        account = _account(store, session, key, reading)
        notes = _notes_on([account])
        n_outside = int((~inside).sum())
        if n_outside:
            notes.append(f"{n_outside} annotations lie outside what was recorded and are not counted")
        figures = _beat_figures(result) | {"missing_samples": account.completeness.missing_samples}
        hash_ = store.content_hash(session.id)
        results.append(result)
        sources.append(Source(session.id, session.subject, hash_, figures, tuple(notes), (account,)))
    return Evidence(results, tuple(sources))


def _reference_annotations(store: SessionStore, session: Session) -> AnnotationSet:
    sets = store.annotations(session.id)
    if len(sets) != 1:
        names = [annotations.name for annotations in sets]
        raise DefinitionError(f"annotation sets {names} in session {session.id}, expected one with the beats")
    return sets[0]


def _annotated_stream(store: SessionStore, session: Session, annotations: AnnotationSet) -> StreamKey:
    named = annotations.gateway, annotations.device, annotations.stream
    keys = [k for k in store.streams(session.id) if (k.gateway, k.device, k.stream.name) == named]
    if len(keys) != 1:
        raise DefinitionError(
            f"{len(keys)} streams {'/'.join(named)} in session {session.id}, expected the one that is annotated"
        )
    if keys[0].stream.rate_hz is None:
        raise DefinitionError(f"stream {annotations.stream} has no rate, expected a waveform")
    return keys[0]


def _continuous(reading: Reading, session: Session, boot_id: int | None) -> tuple[NDArray[Any], int]:
    """Return the first channel from first to last sample of a boot, or of the only one, and the first's index.

    It is NaN where a sample is missing.
    """
    segments = [s for s in reading.segments if boot_id is None or s.boot_id == boot_id]
    n_boots = len({segment.boot_id for segment in segments})
    if n_boots != 1:
        which = "" if boot_id is None else f" with id {boot_id}"
        raise DefinitionError(f"{n_boots} boots of the device{which} in session {session.id}, expected one")
    if len(segments) == 1:
        return segments[0].values[0], segments[0].first_index
    first = segments[0].first_index
    end = max(segment.first_index + segment.n_samples for segment in segments)
    ecg = np.full(end - first, np.nan)
    for segment in segments:
        start = segment.first_index - first
        ecg[start : start + segment.n_samples] = segment.values[0]
    return ecg, first


def _compare(
    name: str,
    ecg: NDArray[Any],
    rate_hz: float,
    reference: NDArray[np.int64],
    symbols: Sequence[str],
    reference_rate_hz: float,
    pairing: Pairing,
) -> RecordResult:
    """Detect beats in raw samples and compare them with annotations, counted at the annotations' rate."""
    beats = detect_qrs(ecg, rate_hz=rate_hz)
    if rate_hz != reference_rate_hz:
        beats = np.rint(beats * (reference_rate_hz / rate_hz)).astype(np.int64)
    annotations = read_annotations(reference, symbols)
    return compare_record(name, annotations, beats, rate_hz=reference_rate_hz, pairing=pairing)


def _beat_figures(result: RecordResult) -> dict[str, float]:
    comparison = result.comparison
    return {
        "true_positives": comparison.true_positives,
        "false_negatives": comparison.false_negatives,
        "false_positives": comparison.false_positives,
    }


def _recording_hash(recording: Recording) -> str:
    digest = hashlib.sha256(f"{recording.rate_hz!r} {recording.gain!r} {recording.baseline!r}".encode())
    for part in (recording.values, recording.annotation_samples):
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(" ".join(recording.annotation_symbols).encode())
    return digest.hexdigest()


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 6) for value in values]


_FROM_SESSIONS: Final[Mapping[str, Callable[[SessionStore, Sequence[Session], ClinicalProtocol], Evidence]]] = (
    MappingProxyType({"spo2": _oximetry, "qrs": _beats})
)
