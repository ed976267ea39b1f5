"""Blood pressures that people entered into sessions, from observers' readings to verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lab_api.evaluation import evaluate
from lab_api.evidence.sources import from_sessions
from lab_api.manual_readings import ManualReading, enter
from lab_api.report.page import html
from lab_api.store.session_store import SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.clinical.verdict import Outcome
from tests.lab_api.protocols.pressure_studies import (
    SECOND_NS,
    START_NS,
    People,
    applied,
    judged,
    sequential,
    unmet,
)

OBSERVERS = [
    SessionDevice("reference", "manual", "observer-1"),
    SessionDevice("reference-2", "manual", "observer-2"),
    SessionDevice("test", "manual", "cuff"),
]
FIRST_READING_S = 60


def measured(
    store: SqliteSessionStore,
    subject: str,
    reference: Mapping[str, Sequence[float]],
    test: Mapping[str, Sequence[float]],
    *,
    second: Mapping[str, Sequence[float]] | None = None,
    devices: Sequence[SessionDevice] = OBSERVERS,
) -> str:
    """Open a session of readings in turn, a minute apart: observers, device, observers, and so on."""
    opened = store.open_session(subject=subject, devices=devices, opened_ns=START_NS)
    end_ns = START_NS + 3600 * SECOND_NS

    def readings(values: Mapping[str, Sequence[float]], after_s: int) -> list[ManualReading]:
        return [
            ManualReading(START_NS + (FIRST_READING_S + after_s + 120 * k) * SECOND_NS, quantity, value)
            for quantity, of_quantity in values.items()
            for k, value in enumerate(of_quantity)
        ]

    enter(store, opened.id, "observer-1", readings(reference, 0), now_ns=end_ns)
    if any(device.device == "observer-2" for device in devices):
        enter(store, opened.id, "observer-2", readings(second or reference, 4), now_ns=end_ns)
    enter(store, opened.id, "cuff", readings(test, 60), now_ns=end_ns)
    store.close_session(opened.id, closed_ns=end_ns)
    return opened.id


def pressures(sbp: Sequence[float], dbp: Sequence[float]) -> dict[str, Sequence[float]]:
    return {"sbp": sbp, "dbp": dbp}


STEADY = pressures((120, 122, 124, 122), (80, 80, 82, 80))
CUFF = pressures((122, 124, 121), (79, 82, 80))


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[SqliteSessionStore]:
    with SqliteSessionStore(tmp_path / "sessions") as store:
        yield store


def test_two_observers_in_a_session_make_the_reference(kept: SqliteSessionStore) -> None:
    second = pressures((122, 122, 124, 124), (80, 82, 82, 80))
    session = measured(kept, "S-1", STEADY, CUFF, second=second)
    protocol = applied("iso-81060-2-2018")
    evidence = from_sessions(kept, [session], protocol)
    assert evidence.measured.of("sbp").reference.tolist() == [121.5, 123.0, 123.5]
    assert evidence.measured.of("dbp").reference.tolist() == [80.5, 81.5, 81.0]
    assert evidence.items["observer_1"][:3] == [121, 123, 123]
    assert evidence.items["observers_apart"][:3] == [2, 0, 2]
    assert "the reference is the mean of two observers" in evidence.sources[0].notes
    devices = {account.key.device for account in evidence.sources[0].streams}
    assert devices == {"observer-1", "observer-2", "cuff"}
    assert evidence.examples[0]["reference"] in evidence.measured.reference
    document = evaluate(evidence, protocol).document
    assert "brassard" in html(document, "fr")


def test_reasons_are_said_in_french(tmp_path: Path) -> None:
    rows = sequential(People(3).pairs(), change=14.0)
    page = html(judged(tmp_path, "iso-81060-2-2018", rows).document, "fr")
    assert "la référence du sujet a varié de plus de 12 mmHg" in page


def test_a_reading_on_which_observers_differ_takes_both_its_pairs(kept: SqliteSessionStore) -> None:
    second = pressures((120, 127, 124, 122), (80, 80, 82, 80))  # 5 apart in the second reading
    session = measured(kept, "S-1", STEADY, CUFF, second=second)
    evidence = from_sessions(kept, [session], applied("iso-81060-2-2018"))
    assert evidence.measured.of("sbp").test.tolist() == [121]
    assert [e.reason for e in evidence.measured.of("sbp").excluded] == [
        "the observers differ by more than 4 mmHg"
    ] * 2
    assert evidence.measured.of("dbp").n_pairs == 3


def test_an_observer_who_misses_a_reading_leaves_pairs_that_are_listed(kept: SqliteSessionStore) -> None:
    second = pressures((120, 122), (80, 80, 82, 80))
    session = measured(kept, "S-1", STEADY, CUFF, second=second)
    evidence = from_sessions(kept, [session], applied("iso-81060-2-2018"))
    assert evidence.measured.of("sbp").test.tolist() == [122]
    reasons = [e.reason for e in evidence.measured.of("sbp").excluded]
    assert reasons == ["the second observer has no reading at that time"] * 2


def test_an_unsteady_subject_of_a_session_is_excluded_under_the_sequential_protocol(
    kept: SqliteSessionStore,
) -> None:
    rising = pressures((120, 124, 129, 133), (80, 80, 82, 80))
    sessions = [measured(kept, "S-1", rising, CUFF), measured(kept, "S-2", STEADY, CUFF)]
    evidence = from_sessions(kept, sessions, applied("iso-81060-2-2018"))
    assert set(evidence.measured.subjects) == {"S-2"}
    assert len(evidence.measured.excluded) == 6
    esh = from_sessions(kept, sessions, applied("esh-ip-2010"))
    assert set(esh.measured.subjects) == {"S-1", "S-2"}


def test_sessions_of_35_subjects_come_to_a_verdict(kept: SqliteSessionStore) -> None:
    one = [OBSERVERS[0], OBSERVERS[2]]
    good = [measured(kept, f"S-{n}", STEADY, CUFF, devices=one) for n in range(35)]
    far = pressures((147, 148, 145), (79, 82, 80))  # 25 too high
    bad = [measured(kept, f"S-{n}", STEADY, far, devices=one) for n in range(10)]
    protocol = applied("iso-81060-2-2018-special")
    few = replace(protocol, statistics=replace(protocol.statistics, bootstrap_replicates=50))
    outcomes = []
    for sessions in (good, bad + good[10:], bad):
        evaluation = evaluate(from_sessions(kept, sessions, few), few)
        outcomes.append(evaluation.verdict.outcome)
        assert (unmet(evaluation) == []) == (len(sessions) == 35)
    assert outcomes == [Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE]


def test_an_arterial_line_in_a_session_gives_mean_and_spread_of_the_time_before(
    kept: SqliteSessionStore,
) -> None:
    devices = [SessionDevice("reference", "manual", "line"), SessionDevice("test", "manual", "cuff")]
    opened = kept.open_session(subject="S-1", devices=devices, opened_ns=START_NS)
    end_ns = START_NS + 3600 * SECOND_NS
    beats = [(s, "sbp", 118.0 + 4 * (s % 2)) for s in range(100)] + [(s, "dbp", 70.0) for s in range(100)]
    read = [(60, "sbp", 125.0), (60, "dbp", 71.0), (300, "sbp", 120.0)]
    for device, values in (("line", beats), ("cuff", read)):
        entries = [ManualReading(START_NS + s * SECOND_NS, quantity, value) for s, quantity, value in values]
        enter(kept, opened.id, device, entries, now_ns=end_ns)
    kept.close_session(opened.id, closed_ns=end_ns)
    protocol = applied("iso-81060-2-2018-invasive")
    evidence = from_sessions(kept, [opened.id], protocol)
    sbp = evidence.measured.of("sbp")
    assert sbp.reference.tolist() == [120.0]
    assert sbp.columns["reference_sd"].tolist() == pytest.approx([2.0 * np.sqrt(30 / 29)])
    assert evidence.measured.of("dbp").columns["reference_sd"].tolist() == [0.0]
    assert [e.reason for e in sbp.excluded] == [
        "fewer than two readings of the reference in the 30 s before it"
    ]
    assert evaluate(evidence, protocol).document["facts"]["pairs_without_reference_sd"] == 0


# ---- two observers, readings before and after
