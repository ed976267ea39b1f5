"""Beats of a session or record: this software's detector, or a device's annotations, against a reference."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_sim.recordings import read_wfdb
from lab_api.evaluation import clinical_protocol, evaluate
from lab_api.evidence.sources import from_record_files, from_sessions
from lab_api.store.session_store import AnnotationSet, SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.clinical.verdict import Outcome
from protocols.errors import DefinitionError
from protocols.samples import Channel, SampleBlock, Stream

START_NS = 1_790_000_000_000_000_000
SECONDS = 420
RATE_HZ = 250.0
ECG = Stream("ecg", (Channel("ecg", "uV"),), "int16", RATE_HZ)
PATCH = Stream("beats", (Channel("ecg", "uV"),), "int16", 125.0)
EC57 = clinical_protocol("ansi-aami-ec57")
BEATS = np.arange(125, SECONDS * 250, 250)


def session_of(
    store: SqliteSessionStore, sets: dict[str, tuple[NDArray[np.int64], list[str]]], *, subject: str = "S-1"
) -> str:
    """Return a session of spikes once a second, with annotation sets by name."""
    ecg = np.zeros((1, SECONDS * 250), np.int16)
    ecg[0, BEATS], ecg[0, BEATS + 1] = 1000, -400
    devices = [SessionDevice("test", "gw", "strap"), SessionDevice("patch", "gw", "patch")]
    session = store.open_session(subject=subject, devices=devices, opened_ns=START_NS)
    store.write({session.id: [("gw", SampleBlock("strap", ECG, 1, 0, START_NS, ecg, START_NS, 0, 0))]})
    for name, (samples, symbols) in sets.items():
        store.annotate(
            session.id,
            AnnotationSet(name, "gw", "strap", "ecg", RATE_HZ, samples.astype(np.int64), tuple(symbols)),
        )
    return session.id


def symbols(*, ventricular: int = 10, called: str = "V") -> list[str]:
    """Return normal beats, of which every one in so many is ventricular."""
    return [called if k % ventricular == 0 else "N" for k in range(BEATS.size)]


def with_rhythm(
    beats: list[str], text: str, start_s: float, end_s: float
) -> tuple[NDArray[np.int64], list[str]]:
    marks = {int(sample): symbol for sample, symbol in zip(BEATS, beats, strict=True)}
    marks |= {1: "(N", int(start_s * RATE_HZ): text, int(end_s * RATE_HZ): "(N"}
    samples = sorted(marks)
    return np.array(samples), [marks[sample] for sample in samples]


def test_a_devices_own_annotations_are_judged_in_place_of_the_detector(store: SqliteSessionStore) -> None:
    missed = np.flatnonzero(np.arange(BEATS.size) % 40 != 5)
    session_id = session_of(
        store,
        {
            "reference-1": (BEATS, symbols()),
            "test-1": (BEATS[missed] + 10, [symbols()[k] for k in missed]),
        },
    )
    evaluation = evaluate(from_sessions(store, [session_id], EC57), EC57)
    (source,) = evaluation.document["sources"]
    after = BEATS >= 300 * RATE_HZ
    n_missed = int((after & (np.arange(BEATS.size) % 40 == 5)).sum())
    assert source["figures"]["false_negatives"] == n_missed == 3
    assert evaluation.document["items"]["veb_sensitivity_percent"] == [100.0]
    assert evaluation.document["items"]["reference_beats"] == [120]
    assert source["notes"] == ["under test: the device's own annotation set test-1"]
    assert evaluation.verdict.outcome is Outcome.FAIL
    values = {c["metric"]: c["value"] for c in evaluation.document["verdict"]["criteria"]}
    assert values["qrs_sensitivity_gross"] == pytest.approx(100 * 117 / 120)


def test_classes_and_episodes_reach_the_document_with_the_whole_beat_table(store: SqliteSessionStore) -> None:
    device = symbols()
    device[310], device[311], device[320] = (
        "N",
        "V",
        "A",
    )  # two ventricular beats missed, two normal ones called
    sessions = [
        session_of(
            store,
            {
                "reference": with_rhythm(symbols(), "(AFIB", 330, 390),
                "test": with_rhythm(device, "(AFIB", 345, 405),
            },
            subject=subject,
        )
        for subject in ("S-1", "S-2")
    ]
    evaluation = evaluate(from_sessions(store, sessions, EC57), EC57)
    criteria = {c["metric"]: c for c in evaluation.document["verdict"]["criteria"]}
    table = criteria["veb_sensitivity_gross"]["details"]
    assert (table["Vv"], table["Vn"], table["Vs"], table["Nv"], table["Nn"]) == (20, 2, 2, 2, 214)
    assert criteria["veb_sensitivity_gross"]["value"] == pytest.approx(100 * 20 / 24)
    assert criteria["af_duration_sensitivity_average"]["value"] == pytest.approx(75.0)
    assert criteria["af_duration_positive_predictivity_gross"]["value"] == pytest.approx(75.0)
    assert criteria["af_episode_sensitivity_gross"]["details"]["overlap_s"] == pytest.approx(90.0)
    assert criteria["vf_episode_sensitivity_gross"]["outcome"] == "NOT_MEASURED"
    assert evaluation.verdict.outcome is Outcome.PASS  # what there was no case of decides nothing


def test_a_device_that_tells_no_classes_or_rhythms_is_said_to(store: SqliteSessionStore) -> None:
    session_id = session_of(
        store,
        {"reference": with_rhythm(symbols(), "(AFIB", 330, 390), "test": (BEATS, ["N"] * BEATS.size)},
    )
    evidence = from_sessions(store, [session_id], EC57)
    notes = " ".join(evidence.sources[0].notes)
    assert "hold no class but N" in notes
    assert "say nothing of rhythms" in notes
    assert evidence.measured[0].atrial_fibrillation is None


def test_a_device_that_counts_in_a_stream_of_its_own_is_compared_by_time(store: SqliteSessionStore) -> None:
    session_id = session_of(store, {"reference": (BEATS, symbols())})
    later_ns = 2_000_000_000
    n_pieces, piece = 41, 1250
    drifting_ns = 10_001_000_000  # a piece of 10 s by its own count lasts 1 ms longer: 100 ppm
    blocks = [
        SampleBlock(
            "patch",
            PATCH,
            1,
            k * piece,
            START_NS + later_ns + k * drifting_ns,
            np.zeros((1, piece), np.int16),
            START_NS,
            0,
            0,
        )
        for k in range(n_pieces)
    ]
    store.write({session_id: [("gw", block) for block in blocks]})
    beats_s = BEATS / RATE_HZ
    own = np.rint((beats_s[2:410] - 2.0) * 125.0 / 1.0001).astype(np.int64)
    store.annotate(
        session_id, AnnotationSet("test", "gw", "patch", "beats", 125.0, own, ("N",) * own.size, boot_id=1)
    )
    (result,) = from_sessions(store, [session_id], EC57).measured
    assert result.comparison.true_positives == 110
    assert np.abs(result.comparison.offsets_s).max() < 0.010


def test_a_session_that_is_too_short_or_paced_is_inconclusive_whatever_was_found(
    store: SqliteSessionStore,
) -> None:
    early = BEATS[BEATS < 200 * RATE_HZ]
    short = session_of(store, {"reference": (early, ["N"] * early.size), "test": (BEATS[:3], ["N"] * 3)})
    long = session_of(store, {"reference": (BEATS, symbols()), "test": (BEATS, symbols())})
    paced = session_of(store, {"reference": (BEATS, symbols(called="/")), "test": (BEATS[:3], ["N"] * 3)})
    for sessions, fact in (([short, long], "records_without_beats"), ([paced, long], "paced_records")):
        evaluation = evaluate(from_sessions(store, sessions, EC57), EC57)
        assert evaluation.verdict.outcome is Outcome.INCONCLUSIVE
        assert [r["fact"] for r in evaluation.document["verdict"]["design"] if not r["met"]] == [fact]


def test_a_lead_without_signal_is_inconclusive_and_no_failure_of_the_detector(
    store: SqliteSessionStore,
) -> None:
    flat = np.zeros((1, SECONDS * 250), np.int16)
    session = store.open_session(
        subject="S-1", devices=[SessionDevice("test", "gw", "strap")], opened_ns=START_NS
    )
    store.write({session.id: [("gw", SampleBlock("strap", ECG, 1, 0, START_NS, flat, START_NS, 0, 0))]})
    marks = AnnotationSet("atr", "gw", "strap", "ecg", RATE_HZ, BEATS.astype(np.int64), tuple(symbols()))
    store.annotate(session.id, marks)
    evaluation = evaluate(from_sessions(store, [session.id], EC57), EC57)
    assert evaluation.document["facts"]["undetermined_percent"] == 100.0
    assert evaluation.verdict.outcome is Outcome.INCONCLUSIVE
    criteria = {c["metric"]: c for c in evaluation.document["verdict"]["criteria"]}
    assert criteria["qrs_heart_rate_read_rate"]["value"] == 0.0
    assert criteria["qrs_heart_rate_error_gross"]["value"] is None
    assert criteria["qrs_sensitivity_gross"]["value"] == 0.0


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["test-1", "test-2", "atr"], "expected one reference, and at most one of the device"),
        (["test-1"], "expected one reference"),
        (["atr", "other"], "expected one reference"),
        (["reference-1", "reference-2", "test"], "expected one reference"),
    ],
)
def test_annotation_sets_that_cannot_be_told_apart_are_named(
    store: SqliteSessionStore, names: list[str], says: str
) -> None:
    session_id = session_of(store, dict.fromkeys(names, (BEATS, symbols())))
    with pytest.raises(DefinitionError, match=says):
        from_sessions(store, [session_id], EC57)


def test_a_named_reference_comes_before_other_sets(store: SqliteSessionStore) -> None:
    wrong = (BEATS[:10], ["N"] * 10)
    session_id = session_of(store, {"reference": (BEATS, symbols()), "draft": wrong})
    assert from_sessions(store, [session_id], EC57).measured[0].n_reference == 120


def test_annotations_of_the_device_outside_the_recording_are_not_counted(store: SqliteSessionStore) -> None:
    beyond = np.append(BEATS, [SECONDS * 250 + 5, SECONDS * 250 + 300])
    session_id = session_of(store, {"reference": (BEATS, symbols()), "test": (beyond, [*symbols(), "N", "V"])})
    evidence = from_sessions(store, [session_id], EC57)
    assert "2 annotations of the device outside what was recorded, not counted" in evidence.sources[0].notes
    assert evidence.measured[0].comparison.false_positives == 0


@pytest.mark.shared_data
def test_a_test_annotator_beside_a_record_is_the_device(shared: Path, tmp_path: Path) -> None:
    source = shared / "data/ecg/mitdb"
    for suffix in ("hea", "dat", "atr"):
        (tmp_path / f"100.{suffix}").write_bytes((source / f"100.{suffix}").read_bytes())
    reference = read_wfdb(tmp_path / "100")
    samples, symbols_ = reference.annotation_samples, np.array(reference.annotation_symbols)
    beats = np.flatnonzero(symbols_ != "(N")
    kept = beats[beats % 50 != 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own use of pandas
        import wfdb

        wfdb.wrann("100", "dev", samples[kept], symbols_[kept].tolist(), write_dir=str(tmp_path))
    with_device = from_record_files([tmp_path / "100"], EC57, workers=None, annotator="dev")
    (result,) = with_device.measured
    lost = np.setdiff1d(beats, kept)
    assert result.comparison.false_negatives == int((samples[lost] >= 300 * 360).sum())
    assert result.comparison.false_positives == 0
    assert with_device.sources[0].notes[0] == "under test: the device's own annotation file .dev"
    own = from_record_files([tmp_path / "100"], EC57, workers=None)
    assert own.sources[0].content_hash != with_device.sources[0].content_hash
    with pytest.raises(DefinitionError, match=r"no annotations of the device, expected \.none"):
        from_record_files([tmp_path / "100"], EC57, workers=None, annotator="none")
