"""Sessions become evidence, evidence a verdict, and the verdict a document that anyone can derive again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lab_api.evaluation import EvaluationFolder, EvaluationNotFoundError, clinical_protocol, evaluate
from lab_api.evidence import from_sessions
from lab_api.store.session_store import AnnotationSet, SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.clinical.verdict import Outcome
from protocols.errors import DefinitionError, StoreError
from protocols.samples import Channel, SampleBlock, Stream

START_NS = 1_790_000_000_000_000_000
SECOND_NS = 1_000_000_000
SPO2 = Stream("oximetry", (Channel("spo2", "%", 150456),), "float64", None)
ECG = Stream("ecg", (Channel("ecg", "uV", 131328),), "int32", 250.0)
OXIMETERS = [SessionDevice("reference", "gw", "nonin"), SessionDevice("test", "gw", "plx")]
LEVELS = np.repeat([98.0, 92.0, 87.0, 82.0, 76.0, 72.0], 100)


def readings(device: str, percent: NDArray[np.float64]) -> SampleBlock:
    times_ns = START_NS + np.arange(percent.size, dtype=np.int64) * SECOND_NS
    return SampleBlock(
        device, SPO2, 1, 0, START_NS, percent[np.newaxis], START_NS, 0, 0, None, times_ns
    )  # one reading a second


def oximetry_session(store: SqliteSessionStore, number: int, *, bias_percent: float = 0.0) -> str:
    rng = np.random.default_rng(number)
    session = store.open_session(subject=f"S-{number}", devices=OXIMETERS, opened_ns=START_NS)
    test = np.minimum(LEVELS + bias_percent + rng.normal(0, 1, LEVELS.size), 100.0)
    store.write({session.id: [("gw", readings("nonin", LEVELS)), ("gw", readings("plx", test))]})
    store.close_session(session.id, closed_ns=START_NS + LEVELS.size * SECOND_NS)
    return session.id


def study(store: SqliteSessionStore, *, n_subjects: int = 12, bias_percent: float = 0.0) -> list[str]:
    return [oximetry_session(store, number, bias_percent=bias_percent) for number in range(n_subjects)]


def ecg_session(store: SqliteSessionStore, *, lose: slice | None = None) -> str:
    """Ten minutes of spikes once a second at 250 Hz, with the spikes as reference beats."""
    ecg = np.zeros(600 * 250, np.int32)
    beats = np.arange(125, ecg.size, 250)
    ecg[beats] = 1000
    ecg[beats + 1] = -400
    session = store.open_session(
        subject="S-1", devices=[SessionDevice("test", "gw", "strap")], opened_ns=START_NS
    )
    pieces = [(0, ecg)] if lose is None else [(0, ecg[: lose.start]), (lose.stop, ecg[lose.stop :])]
    blocks = [
        SampleBlock("strap", ECG, 1, first, START_NS + first * 4_000_000, piece[np.newaxis], START_NS, 0, 0)
        for first, piece in pieces
    ]
    store.write({session.id: [("gw", block) for block in blocks]})
    symbols = ("N",) * beats.size
    store.annotate(
        session.id, AnnotationSet("atr", "gw", "strap", "ecg", 250.0, beats.astype(np.int64), symbols)
    )
    return session.id


def test_a_device_within_the_limit_passes_and_one_beyond_it_fails(store: SqliteSessionStore) -> None:
    protocol = clinical_protocol("iso-80601-2-61-2017")
    good = evaluate(from_sessions(store, study(store), protocol), protocol)
    bad = evaluate(from_sessions(store, study(store, bias_percent=6.0), protocol), protocol)
    assert (good.verdict.outcome, bad.verdict.outcome) == (Outcome.PASS, Outcome.FAIL)


def test_too_few_subjects_are_inconclusive_whatever_the_accuracy(store: SqliteSessionStore) -> None:
    protocol = clinical_protocol("iso-80601-2-61-2017")
    evaluation = evaluate(
        from_sessions(store, study(store, n_subjects=3, bias_percent=9.0), protocol), protocol
    )
    assert evaluation.verdict.outcome is Outcome.INCONCLUSIVE


def test_every_pair_leads_back_to_its_session_and_second(store: SqliteSessionStore) -> None:
    protocol = clinical_protocol("iso-80601-2-61-2017")
    sessions = study(store)
    evaluation = evaluate(from_sessions(store, sessions, protocol), protocol)
    items = evaluation.document["items"]
    assert {len(column) for column in items.values()} == {len(items["session"])}
    assert set(items["session"]) == set(sessions)
    second = (items["time_ns"][0] - START_NS) // SECOND_NS
    window = LEVELS[second : second + round(protocol.pairing.window_s)]
    assert items["reference_percent"][0] == pytest.approx(window.mean())
    for source in evaluation.document["sources"]:
        assert source["content_hash"] == store.content_hash(source["id"])
        assert "not the saturation of arterial blood" in source["notes"][0]


def test_the_same_sessions_give_the_same_document_byte_for_byte(store: SqliteSessionStore) -> None:
    protocol = clinical_protocol("iso-80601-2-61-2017")
    sessions = study(store)
    first, second = (evaluate(from_sessions(store, sessions, protocol), protocol) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert first.id != evaluate(from_sessions(store, sessions[1:], protocol), protocol).id


def test_beats_of_a_session_are_compared_with_its_annotations(store: SqliteSessionStore) -> None:
    protocol = clinical_protocol("ansi-aami-ec57")
    evaluation = evaluate(from_sessions(store, [ecg_session(store)], protocol), protocol)
    (source,) = evaluation.document["sources"]
    assert source["figures"]["true_positives"] == 300
    assert source["figures"]["false_negatives"] == source["figures"]["false_positives"] == 0
    assert evaluation.verdict.outcome is Outcome.PASS


def test_a_gap_is_named_and_its_beats_count_as_missed(store: SqliteSessionStore) -> None:
    protocol = clinical_protocol("ansi-aami-ec57")
    lost = slice(400 * 250, 420 * 250)
    evaluation = evaluate(from_sessions(store, [ecg_session(store, lose=lost)], protocol), protocol)
    (source,) = evaluation.document["sources"]
    assert source["notes"] == [f"{20 * 250} of {600 * 250} samples are missing"]
    assert source["figures"]["false_negatives"] == 20
    assert source["figures"]["false_positives"] == 0


def test_beats_beyond_the_recording_are_not_held_against_the_detector(store: SqliteSessionStore) -> None:
    protocol = clinical_protocol("ansi-aami-ec57")
    session_id = ecg_session(store)
    closed = store.close_session(session_id, closed_ns=START_NS + 500 * SECOND_NS)
    evaluation = evaluate(from_sessions(store, [closed.id], protocol), protocol)
    (source,) = evaluation.document["sources"]
    assert source["figures"]["false_negatives"] == 0
    assert source["notes"] == ["100 annotations lie outside what was recorded and are not counted"]


@pytest.mark.parametrize(
    ("protocol", "variant", "message"),
    [
        ("iso-9999", None, "clinical protocol 'iso-9999', expected one of ansi-aami-ec57"),
        ("fda-pulse-oximeter-2013", None, "needs a variant, expected one of transmittance"),
        ("fda-pulse-oximeter-2013", "toe", "variant='toe', expected one of transmittance"),
        ("ansi-aami-ec57", "toe", "has no variants"),
    ],
)
def test_a_protocol_that_cannot_be_had_is_named(protocol: str, variant: str | None, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        clinical_protocol(protocol, variant)


def test_sessions_that_lack_what_the_measurand_needs_are_named(store: SqliteSessionStore) -> None:
    oximetry, beats = clinical_protocol("iso-80601-2-61-2017"), clinical_protocol("ansi-aami-ec57")
    ecg, saturation = ecg_session(store), oximetry_session(store, 1)
    for sessions, protocol, message in (
        ([], beats, "no sessions"),
        ([ecg, ecg], beats, "named twice"),
        ([ecg], oximetry, "0 devices in the role 'reference'"),
        ([saturation], beats, r"annotation sets \[\] in session"),
        (["0" * 32], beats, "no session"),
    ):
        with pytest.raises((DefinitionError, StoreError), match=message):
            from_sessions(store, sessions, protocol)


def test_an_evaluation_is_kept_once_and_found_again(store: SqliteSessionStore, tmp_path: Path) -> None:
    protocol = clinical_protocol("ansi-aami-ec57")
    evaluation = evaluate(from_sessions(store, [ecg_session(store)], protocol), protocol)
    folder = EvaluationFolder(tmp_path / "evaluations")
    assert [folder.keep(evaluation), folder.keep(evaluation)] == [True, False]
    assert folder.find(evaluation.id) == json.loads(evaluation.to_json())
    assert [document["id"] for document in folder.documents()] == [evaluation.id]


@pytest.mark.parametrize("evaluation_id", ["0" * 64, "../../etc/passwd", "", "x"])
def test_an_evaluation_that_is_not_there_is_not_found(tmp_path: Path, evaluation_id: str) -> None:
    with pytest.raises(EvaluationNotFoundError):
        EvaluationFolder(tmp_path).find(evaluation_id)
