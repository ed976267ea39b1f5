"""Sessions become evidence, evidence a verdict, and the verdict a document that anyone can derive again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lab_api.evaluate import described
from lab_api.evaluation import EvaluationFolder, EvaluationNotFoundError, clinical_protocol, evaluate
from lab_api.evidence.sources import from_sessions
from lab_api.report.page import html
from lab_api.store.session_store import AnnotationSet, SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.clinical.verdict import Outcome
from protocols.errors import DefinitionError, StoreError
from protocols.gaps import Gap, GapReason
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


def test_devices_of_one_name_at_two_gateways_are_not_mistaken_for_each_other(store: SqliteSessionStore) -> None:
    protocol = clinical_protocol("iso-80601-2-61-2017")
    devices = [SessionDevice("reference", "gw-1", "oximeter"), SessionDevice("test", "gw-2", "oximeter")]
    session = store.open_session(subject="S-1", devices=devices, opened_ns=START_NS)
    blocks = [("gw-1", readings("oximeter", LEVELS)), ("gw-2", readings("oximeter", LEVELS - 5))]
    store.write({session.id: blocks})
    items = from_sessions(store, [session.id], protocol).items

    assert {r - t for r, t in zip(items["reference"], items["test"], strict=True)} == {5.0}


def test_a_device_that_changed_its_stream_is_not_judged_by_one_part(store: SqliteSessionStore) -> None:
    protocol = clinical_protocol("iso-80601-2-61-2017")
    session_id = oximetry_session(store, 1)
    changed = replace(readings("plx", LEVELS), stream=replace(SPO2, channels=(Channel("spo2", "%"),)))
    store.write({session_id: [("gw", replace(changed, boot_id=2))]})
    with pytest.raises(DefinitionError, match=r"gw/plx of session .* has 2 streams with a channel spo2"):
        from_sessions(store, [session_id], protocol)


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
    assert items["reference"][0] == pytest.approx(window.mean())
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
    assert source["notes"] == [
        "strap/ecg is not whole: 5000 samples are missing, 96.67 % is there (1 gap: undeclared)"
    ]
    assert "rests on data with 1 gap, in 1 of 1 source;" in evaluation.document["gaps"]
    (stream,) = source["streams"]
    (gap,) = stream["gaps"]
    assert (gap["n_samples"], gap["reason"]) == (5000, "undeclared")
    assert gap["start_ns"] == START_NS + 400 * SECOND_NS
    assert source["figures"]["false_negatives"] == 20
    assert source["figures"]["false_positives"] == 0


def test_annotations_that_name_a_boot_are_compared_with_its_samples(store: SqliteSessionStore) -> None:
    protocol = clinical_protocol("ansi-aami-ec57")
    session_id = ecg_session(store)
    later = SampleBlock(
        "strap", ECG, 2, 0, START_NS + 700 * SECOND_NS, np.zeros((1, 9), np.int32), START_NS, 0, 0
    )
    store.write({session_id: [("gw", later)]})
    with pytest.raises(DefinitionError, match="2 boots of the device in session"):
        from_sessions(store, [session_id], protocol)

    (annotations,) = store.annotations(session_id)
    other = store.open_session(
        subject="S-2", devices=[SessionDevice("test", "gw", "strap")], opened_ns=START_NS
    )
    values = store.read(session_id, "gw", "strap", "ecg").segments[0].values
    blocks = [SampleBlock("strap", ECG, 1, 0, START_NS, values, START_NS, 0, 0), later]
    store.write({other.id: [("gw", block) for block in blocks]})
    store.annotate(other.id, replace(annotations, boot_id=1))
    (source,) = from_sessions(store, [other.id], protocol).sources
    assert source.figures["true_positives"] == 300


def test_what_is_missing_from_a_study_is_said_with_its_verdict(store: SqliteSessionStore) -> None:
    protocol = clinical_protocol("iso-80601-2-61-2017")
    sessions = study(store)
    whole = evaluate(from_sessions(store, sessions, protocol), protocol)
    assert whole.document["gaps"] == "No samples are missing from what this verdict rests on."

    off = Gap("plx", SPO2, 1, 9, START_NS + 10, START_NS + 11 * SECOND_NS, None, GapReason.DISCONNECTED)
    store.write({sessions[3]: [("gw", off)]})
    lacking = evaluate(from_sessions(store, sessions, protocol), protocol)
    assert lacking.id != whole.id
    assert "rests on data with 1 gap, in 1 of 12 sources" in lacking.document["gaps"]
    assert "plx/oximetry is not whole: 11 s without samples, uncounted" in " ".join(
        lacking.document["sources"][3]["notes"]
    )
    assert any("rests on data with 1 gap" in line for line in described(lacking.document))


def test_the_report_is_a_page_that_names_every_gap_and_runs_nothing(store: SqliteSessionStore) -> None:
    protocol = clinical_protocol("ansi-aami-ec57")
    session_id = ecg_session(store, lose=slice(400 * 250, 420 * 250))
    document = evaluate(from_sessions(store, [session_id], protocol), protocol).document
    document["sources"][0]["subject"] = "<script>alert(1)</script>"
    page = html(document)

    assert page == html(document)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for said in ("rests on data with 1 gap,", "gw/strap/ecg", "20 s", "5000", "undeclared", "96.67 %"):
        assert said in page
    assert document["id"] in page


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
