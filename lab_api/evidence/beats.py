"""Evidence of a beat detector: what it finds in a session or a WFDB record, against reference annotations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.beat_detection import RecordResult, compare_record
from analysis.detection import read_annotations
from analysis.heartbeats import detect_qrs
from firmware_sim.recordings import Recording
from lab_api.evidence.records import Part, Source, StreamAccount
from lab_api.evidence.waveforms import read_waveform
from lab_api.store.session_store import AnnotationSet, Session, SessionStore, StreamKey
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Pairing
from protocols.clinical.subjects import SubjectFacts
from protocols.errors import DefinitionError


def from_session(store: SessionStore, session: Session, protocol: ClinicalProtocol) -> Part:
    """Return the comparison of the beats detected in a session with its reference annotations."""
    annotations = _reference_annotations(store, session)
    key = _annotated_stream(store, session, annotations)
    ecg = read_waveform(store, session, key, 0, boot_id=annotations.boot_id)
    rate_hz = key.stream.rate_hz or 0.0
    offset = round(ecg.first_index * annotations.rate_hz / rate_hz)
    end = (ecg.first_index + ecg.values.size) * annotations.rate_hz / rate_hz
    inside = (annotations.sample_indices >= offset) & (annotations.sample_indices < end)
    result = _compare(
        session.id,
        ecg.values,
        rate_hz,
        annotations.sample_indices[inside] - offset,
        [s for s, is_inside in zip(annotations.symbols, inside, strict=True) if is_inside],
        annotations.rate_hz,
        protocol.pairing_rule,
    )
    account = StreamAccount.of(store, session, key, ecg.n_stored)
    notes = account.notes()
    n_outside = int((~inside).sum())
    if n_outside:
        notes.append(f"{n_outside} annotations lie outside what was recorded and are not counted")
    figures = _figures(result) | {"missing_samples": account.completeness.missing_samples}
    hash_ = store.content_hash(session.id)
    source = Source(session.id, session.subject, hash_, figures, tuple(notes), (account,))
    return Part(source, result)


def from_recording(recording: Recording, protocol: ClinicalProtocol) -> Part:
    """Return the comparison of the beats detected in the first channel of a record with its annotations.

    Raises
    ------
    DefinitionError
        If the protocol judges something else, or the record has no annotations.
    """
    if protocol.measurand != "qrs":
        raise DefinitionError(f"{protocol.id} judges {protocol.measurand}, expected a protocol for qrs")
    if not recording.annotation_symbols:
        raise DefinitionError(f"record {recording.name} has no reference annotations, expected an .atr file")
    result = _compare(
        recording.name,
        recording.values[0],
        recording.rate_hz,
        recording.annotation_samples,
        recording.annotation_symbols,
        recording.rate_hz,
        protocol.pairing_rule,
    )
    return Part(Source(recording.name, recording.name, _hash(recording), _figures(result)), result)


def joined(parts: Sequence[Part], _subjects: SubjectFacts) -> list[RecordResult]:
    """Return the comparisons of all sources."""
    return [part.measured for part in parts]


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
    return keys[0]


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


def _figures(result: RecordResult) -> dict[str, float]:
    comparison = result.comparison
    return {
        "true_positives": comparison.true_positives,
        "false_negatives": comparison.false_negatives,
        "false_positives": comparison.false_positives,
    }


def _hash(recording: Recording) -> str:
    digest = hashlib.sha256(f"{recording.rate_hz!r} {recording.gain!r} {recording.baseline!r}".encode())
    for part in (recording.values, recording.annotation_samples):
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(" ".join(recording.annotation_symbols).encode())
    return digest.hexdigest()
