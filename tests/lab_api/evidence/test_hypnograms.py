"""Hypnograms from tables and sessions to a report: figures of known truth, and mistakes that are named."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.sleep import sleep_measures
from lab_api.evaluation import Evaluation, clinical_protocol, evaluate
from lab_api.evidence.hypnograms import from_session, joined
from lab_api.evidence.sources import from_sessions, from_tables
from lab_api.report.page import html
from lab_api.store.session_store import SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.errors import DefinitionError
from protocols.samples import Channel, SampleBlock, Stream

PROTOCOL = clinical_protocol("sleep-menghini-2021", None, {"planned_subjects": 6})
SLEEP_WAKE = clinical_protocol("sleep-wake-menghini-2021", None, {"planned_subjects": 6})
START_NS = 1_790_000_000_000_000_000
EPOCH_NS = 30_000_000_000
WORDS = ("W", "N2", "N3", "R")
Night = NDArray[np.int8]


def night(rng: np.random.Generator, n: int = 900) -> Night:
    """Stages that last some minutes, from awake to awake."""
    stages = np.repeat(rng.integers(0, 4, n // 10), 10).astype(np.int8)
    stages[:20] = stages[-10:] = 0
    return stages


def device(rng: np.random.Generator, reference: Night) -> Night:
    """What a device makes of a night: 15 % of its epochs at random."""
    return np.where(rng.random(reference.size) < 0.85, reference, rng.integers(0, 4, reference.size)).astype(
        np.int8
    )


def nights(rng: np.random.Generator, n: int = 8) -> list[tuple[Night, Night]]:
    references = [night(rng) for _ in range(n)]
    return [(reference, device(rng, reference)) for reference in references]


def table(folder: Path, lines: list[str], head: str = "subject,epoch,reference,test") -> Path:
    path = folder / "epochs.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


def lines_of(pairs: list[tuple[Night, Night]]) -> list[str]:
    return [
        f"S-{number},{epoch},{WORDS[one]},{WORDS[other]}"
        for number, (reference, test) in enumerate(pairs)
        for epoch, (one, other) in enumerate(zip(reference, test, strict=True))
    ]


def judged(path: Path, protocol=PROTOCOL) -> Evaluation:  # type: ignore[no-untyped-def]
    return evaluate(from_tables([path], protocol), protocol)


def values(evaluation: Evaluation) -> dict[str, float]:
    return {v.measurement.metric: v.measurement.value for v in evaluation.verdict.criteria if v.measurement}


def test_a_table_of_nights_is_reported_with_the_figures_of_its_nights(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    pairs = nights(rng)
    evaluation = judged(table(tmp_path, lines_of(pairs)))
    assert evaluation.verdict.outcome == "REPORTED"
    found = values(evaluation)
    durations = [
        float(sleep_measures(test).total_sleep_min - sleep_measures(reference).total_sleep_min)
        for reference, test in pairs
    ]
    assert found["sleep_duration_bias"] == pytest.approx(np.mean(durations))
    sensitivities = [100 * np.mean(test[reference > 0] > 0) for reference, test in pairs]
    assert found["sleep_epoch_sensitivity"] == pytest.approx(np.mean(sensitivities))
    deep = [100 * np.mean(test[reference == 2] == 2) for reference, test in pairs]
    assert found["deep_epoch_sensitivity"] == pytest.approx(np.mean(deep))
    assert found["stages_epoch_accuracy"] == pytest.approx(
        np.mean([100 * np.mean(reference == test) for reference, test in pairs])
    )


def test_the_report_draws_the_nights_in_both_languages(tmp_path: Path, rng: np.random.Generator) -> None:
    document = judged(table(tmp_path, lines_of(nights(rng)))).document
    english, french = (html(document, language) for language in ("en", "fr"))
    assert english.count("<svg") >= 7
    assert "Total sleep time".lower() in english.lower()
    assert "temps total de sommeil" in french


def test_too_few_subjects_or_too_little_scored_concludes_nothing(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    few = judged(table(tmp_path, lines_of(nights(rng, 3))))
    assert few.verdict.outcome == "INCONCLUSIVE"
    lost = [line if rng.random() < 0.7 else line.rsplit(",", 1)[0] + "," for line in lines_of(nights(rng))]
    assert judged(table(tmp_path, lost)).verdict.outcome == "INCONCLUSIVE"


def test_lost_epochs_are_listed_and_take_nothing_from_the_sleep_of_either(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    reference = night(rng)
    pairs = [(reference, reference.copy()) for _ in range(6)]
    lines = lines_of(pairs)
    lost = [line.rsplit(",", 1)[0] + "," if ",40" in line else line for line in lines]
    lost = [line for line in lost if ",500," not in line]
    evaluation = judged(table(tmp_path, lost))
    assert values(evaluation)["sleep_duration_bias"] == 0.0
    reasons = [e["reason"] for e in evaluation.document["excluded"] if e["subject"] == "S-0"]
    n_lost = sum(str(epoch).startswith("40") for epoch in range(900))
    assert reasons.count("the device did not score the epoch") == n_lost
    assert reasons.count("neither hypnogram scored the epoch") == 1


def test_a_device_without_stages_is_judged_on_sleep_and_wake_alone(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    pairs = nights(rng)
    lines = [line.rsplit(",", 1)[0] + (",W" if line.endswith("W") else ",S") for line in lines_of(pairs)]
    evaluation = judged(table(tmp_path, lines), SLEEP_WAKE)
    assert evaluation.verdict.outcome == "REPORTED"
    assert values(evaluation)["sleep_epoch_accuracy"] == pytest.approx(
        np.mean([100 * np.mean((reference > 0) == (test > 0)) for reference, test in pairs])
    )
    staged = judged(table(tmp_path, lines))
    outcomes = {v.criterion.metric: v.outcome for v in staged.verdict.criteria}
    assert outcomes["deep_epoch_sensitivity"] == outcomes["rem_sleep_bias"] == "NOT_MEASURED"
    assert outcomes["sleep_epoch_sensitivity"] == "REPORTED"
    assert np.isnan(values(staged)["deep_epoch_sensitivity"])
    assert np.isnan(values(staged)["light_sleep_bias"])


def test_an_epoch_that_is_there_twice_counts_once(tmp_path: Path, rng: np.random.Generator) -> None:
    lines = lines_of(nights(rng))
    evaluation = judged(table(tmp_path, [*lines, "S-0,5,R,R"]))
    assert values(evaluation) == values(judged(table(tmp_path, lines)))
    twice = [e for e in evaluation.document["excluded"] if e["reason"] == "the epoch is there twice"]
    assert [(e["subject"], e["time_ns"]) for e in twice] == [("S-0", 5)]


def test_nights_of_one_subject_are_told_apart(tmp_path: Path, rng: np.random.Generator) -> None:
    lines = [f"{line},{'first' if n % 2 else 'second'}" for n, line in enumerate(lines_of(nights(rng)))]
    evaluation = judged(table(tmp_path, lines, "subject,epoch,reference,test,session"))
    assert evaluation.document["facts"]["nights"] == 16
    assert evaluation.document["facts"]["subjects"] == 8


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("S-1,1,N5,W", "line 2: reference = 'N5', expected one of w, wake, 0"),
        ("S-1,1,W,5", "line 2: test = '5', expected one of"),
        ("S-1,1.5,W,W", "line 2: epoch = '1.5', expected a whole number of 0 to 100000"),
        ("S-1,999999999,W,W", "line 2: epoch = '999999999', expected a whole number"),
        (",1,W,W", "line 2: subject is empty"),
    ],
)
def test_a_mistake_is_named_with_line_and_column(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        from_tables([table(tmp_path, [line])], PROTOCOL)


def test_numbers_are_read_as_stages_and_the_reader_is_told_which(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    pairs = nights(rng)
    numbers = [line.replace("W", "0").replace("N2", "1").replace("N3", "2") for line in lines_of(pairs)]
    evaluation = judged(table(tmp_path, [line.replace("R", "3") for line in numbers]))
    assert values(evaluation) == values(judged(table(tmp_path, lines_of(pairs))))
    assert "numbers are read as 0 wake, 1 light, 2 deep, 3 REM" in evaluation.document["sources"][0]["notes"]


def blocks(name: str, stages: Night, *, rate_hz: float | None, start_ns: int, boot: int = 1) -> SampleBlock:
    stream = Stream("hypnogram", (Channel("sleep_stage", "1"),), "int8", rate_hz)
    times_ns = None if rate_hz else start_ns + EPOCH_NS * np.arange(stages.size, dtype=np.int64)
    return SampleBlock(name, stream, boot, 0, start_ns, stages[np.newaxis], start_ns, 0, 0, None, times_ns)


def session(store: SqliteSessionStore, subject: str, *records: SampleBlock) -> str:
    devices = [SessionDevice("reference", "gw", "psg"), SessionDevice("test", "gw", "watch")]
    opened = store.open_session(subject=subject, devices=devices, opened_ns=START_NS)
    store.write({opened.id: [("gw", block) for block in records]})
    store.close_session(opened.id, closed_ns=START_NS + 40_000 * 1_000_000_000)
    return opened.id


@pytest.mark.parametrize("rate_hz", [None, 1 / 30])
def test_sessions_give_what_their_table_gives(
    store: SqliteSessionStore, tmp_path: Path, rng: np.random.Generator, rate_hz: float | None
) -> None:
    pairs = nights(rng)
    ids = [
        session(
            store,
            f"S-{number}",
            blocks("psg", reference, rate_hz=rate_hz, start_ns=START_NS),
            blocks("watch", test, rate_hz=rate_hz, start_ns=START_NS + 5_000_000_000),  # 5 s late
        )
        for number, (reference, test) in enumerate(pairs)
    ]
    evaluation = evaluate(from_sessions(store, ids, PROTOCOL), PROTOCOL)
    assert values(evaluation) == pytest.approx(values(judged(table(tmp_path, lines_of(pairs)))))
    assert evaluation.document["sources"][0]["figures"]["epochs"] == 900


def test_a_gap_in_a_session_is_no_sleep_and_no_wake(
    store: SqliteSessionStore, rng: np.random.Generator
) -> None:
    reference = night(rng)
    first = blocks("watch", reference[:300], rate_hz=1 / 30, start_ns=START_NS)
    rest = blocks("watch", reference[360:], rate_hz=1 / 30, start_ns=START_NS + 360 * EPOCH_NS)
    rest = replace(rest, first_index=360)
    ident = session(store, "S-1", blocks("psg", reference, rate_hz=1 / 30, start_ns=START_NS), first, rest)
    evidence = from_sessions(store, [ident], PROTOCOL)
    (there,) = evidence.measured.nights
    assert int(there.scored.sum()) == 840
    assert evidence.measured.rates["stages_epoch_accuracy"].tolist() == [100.0]
    reasons = [e.reason for e in evidence.measured.excluded]
    assert reasons == ["the device did not score the epoch"] * 60
    assert "not whole" in " ".join(evidence.sources[0].notes)


def test_a_part_can_be_sent_from_another_process(store: SqliteSessionStore, rng: np.random.Generator) -> None:
    reference = night(rng)
    records = [blocks(name, reference, rate_hz=1 / 30, start_ns=START_NS) for name in ("psg", "watch")]
    part = from_session(store, store.session(session(store, "S-1", *records)), PROTOCOL)
    sent = pickle.loads(pickle.dumps(part))  # noqa: S301 - our own
    assert joined([sent], {}).rates["sleep_epoch_accuracy"].tolist() == [100.0]


def test_a_device_that_starts_late_is_compared_where_both_recorded(
    store: SqliteSessionStore, rng: np.random.Generator
) -> None:
    reference = night(rng)
    late = blocks("watch", reference[100:], rate_hz=1 / 30, start_ns=START_NS + 100 * EPOCH_NS)
    ident = session(store, "S-1", blocks("psg", reference, rate_hz=1 / 30, start_ns=START_NS), late)
    evidence = from_sessions(store, [ident], PROTOCOL)
    assert evidence.measured.rates["sleep_epoch_accuracy"].tolist() == [100.0]
    assert "100 epochs of the reference lie outside" in " ".join(evidence.sources[0].notes)


def test_a_session_without_a_hypnogram_or_with_no_stage_is_named(
    store: SqliteSessionStore, rng: np.random.Generator
) -> None:
    psg = blocks("psg", night(rng), rate_hz=1 / 30, start_ns=START_NS)
    with pytest.raises(DefinitionError, match="has 0 streams with a channel sleep_stage"):
        from_sessions(store, [session(store, "S-1", psg)], PROTOCOL)
    other = blocks("watch", np.full(900, 7, dtype=np.int8), rate_hz=1 / 30, start_ns=START_NS)
    with pytest.raises(DefinitionError, match=r"watch/hypnogram of session .* with stages \[7\.?\]"):
        from_sessions(store, [session(store, "S-1", psg, other)], PROTOCOL)


def test_the_same_table_gives_the_same_document(tmp_path: Path, rng: np.random.Generator) -> None:
    path = table(tmp_path, lines_of(nights(rng)))
    assert judged(path).to_json() == judged(path).to_json()
