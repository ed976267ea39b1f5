"""Evidence of beats and rhythms: what a device or this software finds, against reference annotations.

In a session, the annotation sets whose name begins with `test` are the device's own findings, and the others
are a reference; one whose name begins with `reference` comes before those that are called anything else. Of a
WFDB record, the device's findings are a second annotation file. Where there are none, this software's own
detector is under test, on the first lead.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analysis.beat_detection import RecordResult, compare_marks
from analysis.beat_marks import BeatMarks, marks_of_lead, read_marks
from firmware_sim.recordings import Recording, read_annotations
from lab_api.evidence.annotated import annotated_stream, annotated_times_ns, timeline
from lab_api.evidence.records import REFERENCE_ROLE, TEST_ROLE, Part, Source, StreamAccount, counted
from lab_api.evidence.waveforms import read_waveform
from lab_api.store.session_store import AnnotationSet, Session, SessionStore
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.subjects import SubjectFacts
from protocols.errors import DefinitionError

_OF_BEATS_ALONE: Final = ("qrs_",)
"""How the names of metrics begin that need neither classes nor rhythms."""
_NO_CLASSES: Final = "the device's annotations hold no class but N: it may tell none"
_NO_RHYTHMS: Final = "the device's annotations say nothing of rhythms: no episodes are compared"


def from_session(store: SessionStore, session: Session, protocol: ClinicalProtocol) -> Part:
    """Return the comparison of a session's device, or of this software's detector, with its reference.

    Raises
    ------
    DefinitionError
        If the session has not one reference, more than one annotation set of the device, or not the stream that
        one of them marks.
    """
    annotations, of_device = _annotation_sets(store, session)
    key = annotated_stream(store, session, annotations)
    ecg = read_waveform(store, session, key, 0, boot_id=annotations.boot_id)
    rate_hz, count_hz = key.stream.rate_hz or 0.0, annotations.rate_hz
    first = round(ecg.first_index * count_hz / rate_hz)
    n_samples = round((ecg.first_index + ecg.values.size) * count_hz / rate_hz) - first
    reference, n_outside = _marks(annotations.sample_indices - first, annotations.symbols, n_samples=n_samples)
    account = StreamAccount.of(store, session, key, ecg.n_stored)
    notes = account.notes()
    if n_outside:
        notes.append(f"{n_outside} annotations lie outside what was recorded and are not counted")
    if of_device is None:
        test = marks_of_lead(ecg.values, rate_hz=rate_hz, rhythms=_asks_rhythms(protocol))
        test = test.resampled(count_hz / rate_hz)
    else:
        indices = _counted_alike(store, session, of_device, annotations)
        test, n_outside = _marks(indices - first, of_device.symbols, n_samples=n_samples)
        notes += _said_of_device(test, reference, f"annotation set {of_device.name}", n_outside)
    result = compare_marks(
        session.id,
        reference,
        test,
        rate_hz=count_hz,
        n_samples=n_samples,
        pairing=protocol.pairing_rule,
        subject=session.subject,
    )
    figures = _figures(result) | {"missing_samples": account.completeness.missing_samples}
    hash_ = store.content_hash(session.id)
    source = Source(session.id, session.subject, hash_, figures, tuple(notes), (account,))
    return Part(source, result, _line(result))


def from_recording(
    recording: Recording,
    protocol: ClinicalProtocol,
    *,
    of_device: tuple[NDArray[np.int64], Sequence[str]] | None = None,
    named: str = "annotations",
) -> Part:
    """Return the comparison of a device, or of this software's detector, with a record's annotations.

    Parameters
    ----------
    recording
        With its reference annotations.
    protocol
        Whose rules hold.
    of_device
        Sample index and symbol of the device's own annotations; None to put this software's detector to the
        test, on the first channel.
    named
        What the device's annotations are called.

    Raises
    ------
    DefinitionError
        If the protocol judges something else, or the record has no annotations.
    """
    if protocol.measurand != "qrs":
        raise DefinitionError(f"{protocol.id} judges {protocol.measurand}, expected a protocol for qrs")
    if not recording.annotation_symbols:
        raise DefinitionError(f"record {recording.name} has no reference annotations, expected an .atr file")
    n_samples, rate_hz = recording.n_samples, recording.rate_hz
    reference = read_marks(recording.annotation_samples, recording.annotation_symbols, n_samples=n_samples)
    notes: list[str] = []
    if of_device is None:
        test = marks_of_lead(recording.values[0], rate_hz=rate_hz, rhythms=_asks_rhythms(protocol))
    else:
        test, n_outside = _marks(*of_device, n_samples=n_samples)
        notes = _said_of_device(test, reference, named, n_outside)
    result = compare_marks(
        recording.name, reference, test, rate_hz=rate_hz, n_samples=n_samples, pairing=protocol.pairing_rule
    )
    hash_ = _hash(recording, of_device)
    return Part(
        Source(recording.name, recording.name, hash_, _figures(result), tuple(notes)), result, _line(result)
    )


def from_record_file(path: Path, recording: Recording, protocol: ClinicalProtocol, annotator: str) -> Part:
    """Return the same of the device's annotation file beside a record.

    Raises
    ------
    DefinitionError
        As `from_recording`, or if there is no such file.
    """
    base = path.with_name(recording.name)
    samples, symbols = read_annotations(base, annotator, n_samples=recording.n_samples)
    if not symbols:
        raise DefinitionError(
            f"record {recording.name} has no annotations of the device, expected .{annotator}"
        )
    return from_recording(
        recording, protocol, of_device=(samples, symbols), named=f"annotation file .{annotator}"
    )


def joined(parts: Sequence[Part], _subjects: SubjectFacts) -> list[RecordResult]:
    """Return the comparisons of all sources."""
    return [part.measured for part in parts]


def _annotation_sets(store: SessionStore, session: Session) -> tuple[AnnotationSet, AnnotationSet | None]:
    """Return the reference's set, and the device's if there is one."""
    sets = store.annotations(session.id)
    of_device = [annotations for annotations in sets if annotations.name.startswith(TEST_ROLE)]
    others = [annotations for annotations in sets if annotations not in of_device]
    called = [annotations for annotations in others if annotations.name.startswith(REFERENCE_ROLE)]
    references = called or others
    if len(references) != 1 or len(of_device) > 1:
        names = [annotations.name for annotations in sets]
        raise DefinitionError(
            f"annotation sets {names} in session {session.id}, expected one reference, and at most one of the "
            f"device, whose name begins with {TEST_ROLE!r}"
        )
    return references[0], of_device[0] if of_device else None


def _counted_alike(
    store: SessionStore, session: Session, of_device: AnnotationSet, reference: AnnotationSet
) -> NDArray[np.int64]:
    """Return where the device's marks are as the reference counts: by sample in one stream, else by time."""
    key = annotated_stream(store, session, reference)
    same_boot = of_device.boot_id == reference.boot_id
    if annotated_stream(store, session, of_device) == key and same_boot:
        indices = of_device.sample_indices * (reference.rate_hz / of_device.rate_hz)
    else:
        of_stream = timeline(store, session, key, boot_id=reference.boot_id)
        times_ns = annotated_times_ns(store, session, of_device)
        indices = of_stream.indices(times_ns) * (reference.rate_hz / of_stream.rate_hz)
    return np.asarray(np.rint(indices).astype(np.int64))


def _marks(indices: NDArray[np.int64], symbols: Sequence[str], *, n_samples: int) -> tuple[BeatMarks, int]:
    """Return what marks say, and how many of them lie outside the record and say nothing."""
    inside = (indices >= 0) & (indices < n_samples)
    kept = [symbol for symbol, is_inside in zip(symbols, inside, strict=True) if is_inside]
    return read_marks(indices[inside], kept, n_samples=n_samples), int((~inside).sum())


def _said_of_device(test: BeatMarks, reference: BeatMarks, named: str, n_outside: int) -> list[str]:
    """Return what a reader must know of the device's own annotations."""
    notes = [f"under test: the device's own {named}"]
    if n_outside:
        notes.append(f"{counted(n_outside, 'annotation')} of the device outside what was recorded, not counted")
    if test.samples.size and test.classes is not None and set(test.classes.tolist()) == {"N"}:
        notes.append(_NO_CLASSES)
    if test.atrial_fibrillation is None and reference.atrial_fibrillation is not None:
        notes.append(_NO_RHYTHMS)
    return notes


def _asks_rhythms(protocol: ClinicalProtocol) -> bool:
    """Return whether a protocol asks for more than where beats are."""
    return not all(criterion.metric.startswith(_OF_BEATS_ALONE) for criterion in protocol.criteria)


def _figures(result: RecordResult) -> dict[str, float]:
    comparison = result.comparison
    return {
        "true_positives": comparison.true_positives,
        "false_negatives": comparison.false_negatives,
        "false_positives": comparison.false_positives,
    }


def _line(result: RecordResult) -> dict[str, Sequence[Any]]:
    """Return the line of a record in EC57's table, None where there was nothing of the kind."""
    comparison, rate_error = result.comparison, result.heart_rates.rms_percent
    line: dict[str, Any] = {
        "record": result.record,
        "reference_beats": result.n_reference,
        "qrs_sensitivity_percent": _plain(comparison.sensitivity_percent),
        "qrs_positive_predictivity_percent": _plain(comparison.positive_predictivity_percent),
    }
    if result.classes is not None:
        for name, score in (("veb", result.classes.veb), ("sveb", result.classes.sveb)):
            line[f"{name}_sensitivity_percent"] = _plain(score.sensitivity_percent)
            line[f"{name}_positive_predictivity_percent"] = _plain(score.positive_predictivity_percent)
            line[f"{name}_false_positive_rate_percent"] = _plain(score.false_positive_rate_percent)
    line["heart_rate_error_percent"] = _plain(rate_error)
    return {name: [value] for name, value in line.items()}


def _plain(value: float) -> float | None:
    """Return a figure as a document holds it."""
    return None if math.isnan(value) else round(value, 4)


def _hash(recording: Recording, of_device: tuple[NDArray[np.int64], Sequence[str]] | None) -> str:
    digest = hashlib.sha256(f"{recording.rate_hz!r} {recording.gain!r} {recording.baseline!r}".encode())
    for part in (recording.values, recording.annotation_samples):
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(" ".join(recording.annotation_symbols).encode())
    if of_device is not None:
        digest.update(np.ascontiguousarray(of_device[0]).tobytes())
        digest.update(" ".join(of_device[1]).encode())
    return digest.hexdigest()
