"""Glucose from sessions: a sensor beside a venous line, a meter beside a laboratory, two weeks of a sensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lab_api.cli import main
from lab_api.evaluation import clinical_protocol, evaluate
from lab_api.evidence.records import Evidence
from lab_api.evidence.sources import from_sessions, from_tables
from lab_api.settings import Settings
from lab_api.store.session_store import SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.clinical.verdict import Outcome, Verdict
from protocols.errors import DefinitionError
from protocols.samples import Channel, SampleBlock, Stream

Floats = NDArray[np.float64]

START_NS = 1_790_000_000_000_000_000
MINUTE_NS = 60_000_000_000
DEVICES = [SessionDevice("reference", "gw", "laboratory"), SessionDevice("test", "gw", "sensor")]
ICGM = "icgm-21cfr862-1355"


def block(device: str, times_min: Floats, values: Floats, unit: str = "mg/dL") -> SampleBlock:
    stream = Stream("glucose", (Channel("glucose", unit),), "float64", None)
    times_ns = START_NS + np.round(times_min * MINUTE_NS).astype(np.int64)
    return SampleBlock(
        device, stream, 1, 0, int(times_ns[0]), np.atleast_2d(values), START_NS, 0, 0, None, times_ns
    )


def session(store: SqliteSessionStore, *blocks: SampleBlock, subject: str = "S-1") -> str:
    opened = store.open_session(subject=subject, devices=DEVICES, opened_ns=START_NS)
    store.write({opened.id: [("gw", each) for each in blocks]})
    store.close_session(opened.id, closed_ns=START_NS + 20_200 * MINUTE_NS)
    return opened.id


def truth(times_min: Floats) -> Floats:
    """Three meals in eight hours: as fast as 3 mg/dL per min."""
    return np.asarray(160.0 + 75.0 * np.sin(2 * np.pi * times_min / 160.0))


def worn(store: SqliteSessionStore, *, lag_min: float = 8.0, unit: str = "mg/dL") -> Evidence:
    rng = np.random.default_rng(5)
    drawn, shown = np.arange(30.0, 480.0, 15.0), np.arange(1.0, 500.0, 5.0)
    sensed = truth(shown - lag_min) * rng.normal(1, 0.02, shown.size)
    factor = 18.0182 if unit == "mmol/L" else 1.0
    session_id = session(
        store, block("laboratory", drawn, truth(drawn)), block("sensor", shown, sensed / factor, unit)
    )
    return from_sessions(store, [session_id], clinical_protocol(ICGM))


@pytest.mark.parametrize("unit", ["mg/dL", "mmol/L"])
def test_the_lag_of_a_sensor_is_reported_in_minutes(store: SqliteSessionStore, unit: str) -> None:
    figures = worn(store, unit=unit).sources[0].figures
    assert "lag_s" not in figures
    # 30 draws: the jackknife says how well they tell
    assert abs(figures["sensor_lag_min"] - 8.0) < 3 * figures["sensor_lag_standard_error_min"] < 4.0


def test_each_pair_has_rates_and_tells_which_side_its_reading_is_on(store: SqliteSessionStore) -> None:
    evidence = worn(store, lag_min=0.0)
    columns = evidence.measured.columns
    at_min = (evidence.measured.times_ns - START_NS) / MINUTE_NS
    # the slope over 15 min is the mean rate of it
    expected = (truth(at_min) - truth(at_min - 15.0)) / 15.0
    assert columns["reference_rate"][1:] == pytest.approx(expected[1:])
    assert np.isnan(columns["reference_rate"][0])
    # noise of 2 % of 160 mg/dL through a line over 15 min: some 0.3 mg/dL per min
    assert columns["rate"] == pytest.approx(expected, abs=1.2)
    # draws at 30, 45, … and readings at 31, 46, …: a minute later each
    assert columns["offset_s"] == pytest.approx(60.0)
    assert evidence.items["offset_s"] == [60.0] * 30
    assert not any("taken after" in note for note in evidence.sources[0].notes)


def test_the_largest_differences_are_shown_with_the_hours_around(store: SqliteSessionStore) -> None:
    examples = worn(store).examples
    assert len(examples) == 3
    times_s = np.array([t for s in examples[0]["series"] for t in s["times_s"] if s["role"] == "test"])
    assert np.ptp(times_s) > 7200.0
    assert np.abs(times_s).max() <= 7200.0


def test_a_reference_later_than_its_reading_is_paired_and_counted_as_the_protocol_says(
    store: SqliteSessionStore,
) -> None:
    drawn, shown = np.array([10.0, 40.0, 70.0, 100.0]), np.array([7.0, 42.0, 65.0, 106.0])
    session_id = session(store, block("laboratory", drawn, truth(drawn)), block("sensor", shown, truth(shown)))
    protocol = clinical_protocol("iso-15197-2013")
    found = evaluate(from_sessions(store, [session_id], protocol), protocol)
    # 3 min before, 2 min after, 5 min before (inclusive), 6 min after: no pair
    assert found.document["items"]["offset_s"] == [-180.0, 120.0, -300.0, None]
    assert found.document["facts"]["pairs"] == 3
    notes = found.document["sources"][0]["notes"]
    assert "2 pairs: the reference was taken after the device's reading, as the pairing allows" in notes
    (left_out,) = found.document["excluded"]
    assert left_out["reason"] == "the device showed no value"
    assert left_out["time_ns"] == START_NS + 100 * MINUTE_NS


def test_a_gap_of_the_sensor_makes_no_pair_and_no_rate(store: SqliteSessionStore) -> None:
    drawn, shown = np.arange(30.0, 480.0, 15.0), np.arange(1.0, 500.0, 5.0)
    shown = shown[(shown < 200) | (shown > 300)]
    session_id = session(store, block("laboratory", drawn, truth(drawn)), block("sensor", shown, truth(shown)))
    study = from_sessions(store, [session_id], clinical_protocol(ICGM)).measured
    at_min = (study.times_ns - START_NS) / MINUTE_NS
    inside = (at_min > 202) & (at_min < 296)
    assert np.isnan(study.test[inside]).all()
    assert np.isfinite(study.test[~inside]).all()
    assert np.isnan(study.columns["rate"][inside]).all()


def test_impossible_readings_disturb_neither_lag_nor_rates(store: SqliteSessionStore) -> None:
    drawn, shown = np.arange(30.0, 480.0, 15.0), np.arange(1.0, 500.0, 5.0)
    sensed = truth(shown - 8.0)
    sensed[::7] = 0.0
    session_id = session(store, block("laboratory", drawn, truth(drawn)), block("sensor", shown, sensed))
    evidence = from_sessions(store, [session_id], clinical_protocol(ICGM))
    assert evidence.sources[0].figures["sensor_lag_min"] == pytest.approx(8.0, abs=1.0)
    assert np.nanmax(np.abs(evidence.measured.columns["rate"])) < 4.0


def test_days_beside_a_laboratory_are_paired(store: SqliteSessionStore) -> None:
    drawn, shown = np.arange(30.0, 4_000.0, 240.0), np.arange(0.0, 4_000.0, 5.0)
    session_id = session(store, block("laboratory", drawn, truth(drawn)), block("sensor", shown, truth(shown)))
    study = from_sessions(store, [session_id], clinical_protocol(ICGM)).measured
    assert study.n_pairs == drawn.size
    assert np.isfinite(study.columns["rate"]).all()
    assert "reference_rate" not in study.columns  # one draw in four hours has no rate


def consensus(
    store: SqliteSessionStore, *, mean: float, days: float = 14.0, worn_share: float = 1.0
) -> Verdict:
    protocol = clinical_protocol("cgm-consensus-2019")
    rng = np.random.default_rng(6)
    ids = []
    for subject in range(3):
        times = np.arange(0.0, days * 1440.0, 5.0)
        values = np.clip(
            mean + 30.0 * np.sin(2 * np.pi * times / 300.0) + rng.normal(0, 5, times.size), 40, 400
        )
        kept = (times % 1440.0) <= 1440.0 * worn_share
        ids.append(session(store, block("sensor", times[kept], values[kept]), subject=f"S-{subject}"))
    return evaluate(from_sessions(store, ids, protocol), protocol).verdict


@pytest.mark.parametrize(
    ("mean", "outcome", "expected"),
    [
        (125.0, Outcome.PASS, set()),
        (190.0, Outcome.FAIL, {"in-range", "above-180"}),
        (80.0, Outcome.FAIL, {"in-range", "below-70", "below-54"}),
    ],
)
def test_two_weeks_are_held_against_the_targets(
    store: SqliteSessionStore, mean: float, outcome: Outcome, expected: set[str]
) -> None:
    verdict = consensus(store, mean=mean)
    assert verdict.outcome is outcome
    found = {c.criterion.id: c.measurement.value for c in verdict.criteria}
    assert found["mean"] == pytest.approx(mean, abs=0.5)
    assert found["gmi"] == pytest.approx(3.31 + 0.02392 * found["mean"])
    missed = {c.criterion.id for c in verdict.criteria if c.outcome is Outcome.FAIL}
    assert missed == expected


@pytest.mark.parametrize(
    ("days", "worn_share"), [(0.5, 1.0), (13.0, 1.0), (14.0, 0.6)], ids=["half a day", "13 days", "60 % worn"]
)
def test_too_little_wear_is_inconclusive(store: SqliteSessionStore, days: float, worn_share: float) -> None:
    verdict = consensus(store, mean=250.0, days=days, worn_share=worn_share)
    assert verdict.outcome in (Outcome.INCONCLUSIVE, Outcome.NOT_MEASURED)
    assert not verdict.design_sufficient


def test_targets_of_people_are_not_judged_from_pairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("subject,reference,test\nS-1,100,101\n")
    assert main(["evaluate", "--protocol", "cgm-consensus-2019", "--pairs", str(path)]) != 0
    assert "judges signal, expected one of" in capsys.readouterr().err


def test_the_command_judges_a_session(
    settings: Settings, store: SqliteSessionStore, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn, shown = np.arange(30.0, 480.0, 15.0), np.arange(1.0, 500.0, 5.0)
    session_id = session(
        store, block("laboratory", drawn, truth(drawn)), block("sensor", shown, truth(shown - 8.0))
    )
    asked = ["evaluate", session_id, "--data", str(settings.data_folder), "--jobs", "1", "--protocol", ICGM]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert said.startswith("INCONCLUSIVE: Integrated continuous glucose monitors")
    assert "sensor lag min 8" in said


def test_a_table_in_mmol_per_litre_that_does_not_say_so_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("subject,reference,test\nS-1,5.5,5.6\nS-2,24.1,23.0\n")
    protocol = clinical_protocol("iso-15197-2013")
    with pytest.raises(DefinitionError, match=r"pairs.csv: references up to 24.1 mg/dL, expected mg/dL, or"):
        from_tables([path], protocol)
    path.write_text("subject,reference,test,unit\nS-1,5.5,5.6,mmol/L\nS-2,24.1,23.0,mmol/L\n")
    assert from_tables([path], protocol).measured.reference.tolist() == pytest.approx([99.1001, 434.2386])
