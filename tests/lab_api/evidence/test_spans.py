"""Steps over spans of a session: marked or entered, of running counters and of tallies."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from analysis.paired_study import PairedStudy
from lab_api.evaluation import clinical_protocol
from lab_api.evidence.records import Evidence
from lab_api.evidence.sources import from_sessions
from lab_api.manual_readings import ManualReading, enter
from lab_api.store.session_store import AnnotationSet, SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.errors import DefinitionError
from protocols.samples import Channel, SampleBlock, Stream

START_NS = 1_790_000_000_000_000_000
SECOND_NS = 1_000_000_000
CLOSED_S = 600
CTA_2056 = clinical_protocol("cta-2056", parameters={"participants": 2})
COUNTER = Stream("pedometer", (Channel("steps", "{steps}"),), "float64", None)
CAMERA = Stream("camera", (Channel("brightness", "1"),), "float32", 25.0)


def steps_session(
    store: SqliteSessionStore,
    *,
    tallies: dict[float, float],
    counter: tuple[ArrayLike, ArrayLike] | None = None,
    entered: dict[float, float] | None = None,
    marks: dict[float, str] | None = None,
) -> str:
    """Return a session with tallies of the reference, a counter or tallies of the device, and marked spans."""
    gateway = "gw" if counter is not None else "manual"
    devices = [
        SessionDevice("reference", "manual", "observer"),
        SessionDevice("test", gateway, "wristband"),
        SessionDevice("video", "gw", "camera"),
    ]
    session = store.open_session(subject="S-1", devices=devices, opened_ns=START_NS)
    if counter is not None:
        times_ns = START_NS + (np.asarray(counter[0]) * SECOND_NS).astype(np.int64)
        values = np.asarray(counter[1], dtype=np.float64)[np.newaxis]
        block = SampleBlock(
            "wristband", COUNTER, 1, 0, int(times_ns[0]), values, START_NS, 0, 0, None, times_ns
        )
        store.write({session.id: [("gw", block)]})
    if marks is not None:
        video = np.zeros((1, CLOSED_S * 25), dtype=np.float32)
        store.write(
            {session.id: [("gw", SampleBlock("camera", CAMERA, 1, 0, START_NS, video, START_NS, 0, 0))]}
        )
        indices = np.array([round(second * 25) for second in marks], dtype=np.int64)
        store.annotate(
            session.id, AnnotationSet("spans-1", "gw", "camera", "camera", 25.0, indices, tuple(marks.values()))
        )
    store.close_session(session.id, closed_ns=START_NS + CLOSED_S * SECOND_NS)
    for device, readings in (("observer", tallies), ("wristband", entered or {})):
        if readings:
            enter(
                store,
                session.id,
                device,
                [ManualReading(START_NS + round(t * SECOND_NS), "steps", n) for t, n in readings.items()],
                now_ns=START_NS + CLOSED_S * SECOND_NS,
            )
    return session.id


def evidence_of(store: SqliteSessionStore, session_id: str) -> tuple[PairedStudy, Evidence]:
    evidence = from_sessions(store, [session_id], CTA_2056)
    return evidence.measured, evidence


MARKS = {10.0: "walking", 110.0: "-", 200.0: "jogging", 260.0: "running", 300.0: "-"}
TALLIES = {115.0: 180.0, 259.0: 150.0, 310.0: 120.0}
SECONDS = np.arange(CLOSED_S)
TRUE_COUNT = np.interp(SECONDS, [10, 110, 200, 260, 300], [1000, 1180, 1180, 1330, 1450])


def test_a_running_counter_meets_the_tally_of_every_marked_span(store: SqliteSessionStore) -> None:
    session_id = steps_session(store, tallies=TALLIES, counter=(SECONDS, TRUE_COUNT), marks=MARKS)
    study, evidence = evidence_of(store, session_id)
    assert study.labels["condition"].tolist() == ["walking", "jogging", "running"]
    assert study.reference.tolist() == [180.0, 150.0, 120.0]
    assert study.test == pytest.approx([180.0, 150.0, 120.0])
    assert study.columns["duration_s"].tolist() == [100.0, 60.0, 40.0]
    assert ((study.times_ns - START_NS) / SECOND_NS).tolist() == [10.0, 200.0, 260.0]
    assert evidence.items["condition"] == ["walking", "jogging", "running"]
    assert evidence.sources[0].figures["pairs"] == 3


def test_a_counter_that_stands_still_or_starts_anew_is_read_where_it_can_be(store: SqliteSessionStore) -> None:
    reset = np.where(SECONDS >= 230, TRUE_COUNT - 1100, TRUE_COUNT)  # within the bout of jogging
    study, _ = evidence_of(store, steps_session(store, tallies=TALLIES, counter=(SECONDS, reset), marks=MARKS))
    assert study.test == pytest.approx([180.0, 120.0])
    assert [e.reason for e in study.excluded] == ["device: the counter fell within the span"]

    lost = (SECONDS < 150) | (SECONDS > 255)
    study, evidence = evidence_of(
        store, steps_session(store, tallies=TALLIES, counter=(SECONDS[lost], TRUE_COUNT[lost]), marks=MARKS)
    )
    assert study.labels["condition"].tolist() == ["walking", "running"]
    assert [e.reason for e in study.excluded] == [
        "device: no reading of the counter shortly before a border of the span"
    ]
    assert evidence.sources[0].figures["unpaired"] == 1

    blank = np.where((SECONDS > 20) & (SECONDS < 30), np.nan, TRUE_COUNT)
    study, _ = evidence_of(store, steps_session(store, tallies=TALLIES, counter=(SECONDS, blank), marks=MARKS))
    assert [e.reason for e in study.excluded] == ["device: the counter showed no value within the span"]


def test_a_span_without_its_one_tally_makes_no_pair(store: SqliteSessionStore) -> None:
    tallies = {115.0: 180.0, 120.0: 181.0, 310.0: 120.0}
    study, _ = evidence_of(
        store, steps_session(store, tallies=tallies, counter=(SECONDS, TRUE_COUNT), marks=MARKS)
    )
    assert study.reference.tolist() == [120.0]
    assert [e.reason for e in study.excluded] == [
        "reference: more than one tally was entered",
        "reference: no tally was entered",
    ]


def test_without_marks_every_tally_closes_a_span_of_unknown_condition(store: SqliteSessionStore) -> None:
    tallies = {110.0: 1180.0 - 1000.0, 260.0: 150.0, 300.0: 120.0}
    study, _ = evidence_of(store, steps_session(store, tallies=tallies, counter=(SECONDS, TRUE_COUNT)))
    assert study.differences == pytest.approx([0.0, 0.0, 0.0])
    assert set(study.labels["condition"].tolist()) == {""}


def test_tallies_of_both_sides_meet_in_turn(store: SqliteSessionStore) -> None:
    both = steps_session(store, tallies={100.0: 50.0, 200.0: 60.0}, entered={110.0: 49.0, 190.0: 61.0})
    assert evidence_of(store, both)[0].test.tolist() == [49.0, 61.0]
    late = steps_session(store, tallies={100.0: 50.0, 200.0: 60.0}, entered={210.0: 49.0, 220.0: 61.0})
    study, _ = evidence_of(store, late)
    assert [e.reason for e in study.excluded] == ["device: the tally belongs to another span"]
    marked = steps_session(
        store, tallies={115.0: 180.0, 310.0: 270.0}, entered={116.0: 175.0}, marks={10.0: "walk", 200.0: "run"}
    )
    study, _ = evidence_of(store, marked)
    assert study.test.tolist() == [175.0]
    assert [e.reason for e in study.excluded] == ["device: no tally was entered"]


def test_what_a_session_lacks_is_named(store: SqliteSessionStore) -> None:
    unequal = steps_session(store, tallies={100.0: 50.0, 200.0: 60.0}, entered={110.0: 49.0})
    with pytest.raises(DefinitionError, match="1 entry of the device for 2 of the reference"):
        from_sessions(store, [unequal], CTA_2056)
    session_id = steps_session(store, tallies=TALLIES, counter=(SECONDS, TRUE_COUNT), marks=MARKS)
    (spans,) = store.annotations(session_id)
    fields = {name: getattr(spans, name) for name in spans.__slots__}
    store.annotate(session_id, AnnotationSet(**(fields | {"name": "spans-2"})))
    with pytest.raises(DefinitionError, match=r"\['spans-1', 'spans-2'\] in session .*, expected one of spans"):
        from_sessions(store, [session_id], CTA_2056)
    devices = [SessionDevice(role, "gw", role) for role in ("reference", "test")]
    session = store.open_session(subject="S-1", devices=devices, opened_ns=START_NS)
    times_ns = START_NS + SECONDS * SECOND_NS
    blocks = [
        SampleBlock(name, COUNTER, 1, 0, START_NS, TRUE_COUNT[np.newaxis], START_NS, 0, 0, None, times_ns)
        for name in ("reference", "test")
    ]
    store.write({session.id: [("gw", block) for block in blocks]})
    with pytest.raises(DefinitionError, match="nothing tells the spans of session"):
        from_sessions(store, [session.id], CTA_2056)
