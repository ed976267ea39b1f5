"""Pairs of a device and its reference from sessions: roles, units, rules, lag, and what makes no pair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lab_api.evidence.sources import from_sessions
from lab_api.store.session_store import SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Criterion, Pairing, Provenance
from protocols.errors import DefinitionError
from protocols.samples import Channel, SampleBlock, Stream

START_NS = 1_790_000_000_000_000_000
SECOND_NS = 1_000_000_000
LAB = Provenance("the lab", "lab")
DEVICES = [SessionDevice("reference", "gw", "monitor"), SessionDevice("test", "gw", "cuff")]
PRESSURE = Stream("pressure", (Channel("systolic", "mm[Hg]"), Channel("diastolic", "mm[Hg]")), "float64", None)
KILOPASCAL = Stream("pressure", (Channel("systolic", "kPa"), Channel("diastolic", "kPa")), "float64", None)


def protocol(measurand: str, metric: str, unit: str, rule: Pairing) -> ClinicalProtocol:
    criterion = Criterion("bias", "bias", metric, "report", unit, LAB)
    return ClinicalProtocol("own", "Own", "1", "in_force", measurand, (), (criterion,), rule)


BRACKETED = protocol("blood_pressure", "sbp_bias", "mm[Hg]", Pairing(90.0, LAB, rule="bracketed"))


def readings(device: str, stream: Stream, times_s, values) -> SampleBlock:  # type: ignore[no-untyped-def]
    times_ns = START_NS + np.asarray(np.asarray(times_s) * SECOND_NS, dtype=np.int64)
    return SampleBlock(
        device, stream, 1, 0, int(times_ns[0]), np.atleast_2d(values), START_NS, 0, 0, None, times_ns
    )


def session(store: SqliteSessionStore, *blocks: SampleBlock) -> str:
    opened = store.open_session(subject="S-1", devices=DEVICES, opened_ns=START_NS)
    store.write({opened.id: [("gw", block) for block in blocks]})
    store.close_session(opened.id, closed_ns=START_NS + 10_000 * SECOND_NS)
    return opened.id


def test_both_pressures_are_bracketed_and_units_converted(store: SqliteSessionStore) -> None:
    reference = readings("monitor", PRESSURE, [0, 60, 120], [[120.0, 124.0, 128.0], [80.0, 80.0, 82.0]])
    test = readings(
        "cuff", KILOPASCAL, [30, 90, 300], np.array([[122.0, 127.0, 130.0], [79.0, 82.0, 90.0]]) / 7.50062
    )
    session_id = session(store, reference, test)
    evidence = from_sessions(store, [session_id], BRACKETED)
    study = evidence.measured
    assert study.of("sbp").reference.tolist() == [122.0, 126.0]
    assert study.of("sbp").differences == pytest.approx([0.0, 1.0])
    assert study.of("dbp").differences == pytest.approx([-1.0, 1.0])
    assert [e.reason for e in study.of("sbp").excluded] == [
        "no reading of the reference before or after it within 90 s"
    ]
    assert evidence.items["session"] == [session_id] * 4
    assert evidence.items["reference_change"] == [4.0, 4.0, 0.0, 2.0]
    assert evidence.sources[0].figures["sbp_pairs"] == 2


def test_the_lag_is_reported_and_taken_out_where_the_protocol_says_so(
    store: SqliteSessionStore, rng: np.random.Generator
) -> None:
    rate = Stream("rate", (Channel("heart_rate", "/min"),), "float64", None)
    times_s = np.arange(600.0)
    truth = 80 + np.convolve(rng.normal(0, 10, 700), np.hanning(30) / 5, mode="valid")
    truth, late = truth[8:608], truth[:600]
    session_id = session(
        store, readings("monitor", rate, times_s, truth), readings("cuff", rate, times_s, late)
    )
    rule = Pairing(5.0, LAB)
    spreads = []
    for align in (False, True):
        judged = protocol("heart_rate", "heart_rate_bias", "/min", replace(rule, align=align))
        evidence = from_sessions(store, [session_id], judged)
        assert evidence.sources[0].figures["lag_s"] == pytest.approx(8, abs=0.1)
        spreads.append(np.nanstd(evidence.measured.differences))
        assert any("moved back by its lag of 8.0" in note for note in evidence.sources[0].notes) == align
    # what is left: a reading a second that falls into the next window of 5 s
    assert spreads[1] < 0.2 * spreads[0]


def test_a_missing_role_channel_or_unit_is_named(store: SqliteSessionStore) -> None:
    rate = Stream("rate", (Channel("heart_rate", "/min"),), "float64", None)
    reference = readings("monitor", PRESSURE, [0, 60], [[120.0, 124.0], [80.0, 80.0]])
    with pytest.raises(DefinitionError, match="has 0 streams with a channel systolic or sbp"):
        from_sessions(store, [session(store, reference, readings("cuff", rate, [1], [70.0]))], BRACKETED)
    wrong = replace(PRESSURE, channels=(Channel("systolic", "Pa"), Channel("diastolic", "Pa")))
    test = readings("cuff", wrong, [30], [[16000.0], [10000.0]])
    with pytest.raises(DefinitionError, match="sbp in 'Pa', expected one of"):
        from_sessions(store, [session(store, reference, test)], BRACKETED)
