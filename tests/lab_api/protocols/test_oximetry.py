"""Studies of pulse oximeters from tables and sessions to verdicts: known truth, theory, lag, poor signals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, stats

from analysis.oximetry import arms_percent
from firmware_sim.signals.desaturation import controlled_desaturation
from firmware_sim.signals.oximeter import REFERENCE, Oximeter, OximeterModel
from firmware_sim.signals.subject import Subject
from lab_api import cli
from lab_api.evaluation import Evaluation, clinical_protocol, evaluate
from lab_api.evidence.sources import from_sessions, from_tables
from lab_api.evidence.tables import read_subjects
from lab_api.manual_readings import ManualReading, enter
from lab_api.report.document_figures import agreement_figures
from lab_api.report.page import html
from lab_api.report.phrases import Phrases
from lab_api.store.session_store import SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.library import shipped
from protocols.clinical.verdict import Outcome
from protocols.devices import nonin, pulse_oximeter
from protocols.errors import DefinitionError
from protocols.samples import SampleBlock, Stream

START_NS = 1_790_000_000_000_000_000
SECOND_NS = 1_000_000_000
ISO, FDA, DRAFT = "iso-80601-2-61-2017", "fda-pulse-oximeter-2013", "fda-pulse-oximeter-2025-draft"
TONES = tuple(range(1, 11))
REFERENCES = np.linspace(71.0, 98.0, 20)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteSessionStore]:
    with SqliteSessionStore(tmp_path / "sessions") as store:
        yield store


def pairs_file(
    folder: Path, biases: Sequence[float] | NDArray[np.float64], *, dark_bias_low: float = 0.0, sd: float = 0.8
) -> Path:
    """Write 20 pairs of each subject; subjects of Monk tone 8 and above read higher below 85 %."""
    rng = np.random.default_rng(5)
    lines = ["subject,reference,test"]
    for subject, bias in enumerate(biases):
        dark = TONES[subject % 10] >= 8
        extra = np.where(dark & (REFERENCES <= 85), dark_bias_low, 0.0)
        test = np.minimum(REFERENCES + bias + extra + rng.normal(0, sd, REFERENCES.size), 100.0)
        lines += [f"S-{subject:03},{r:.3f},{t:.3f}" for r, t in zip(REFERENCES, test, strict=True)]
    path = folder / "pairs.csv"
    path.write_text("\n".join(lines))
    return path


def subjects_file(folder: Path, n: int) -> Path:
    """Write subjects of all tones, with the angles that go with them."""
    lines = ["subject,sex,age_years,darkly_pigmented,skin_tone_mst,ita_deg"]
    for subject in range(n):
        tone = TONES[subject % 10]
        dark = "yes" if tone >= 8 else "no"
        lines.append(
            f"S-{subject:03},{('female', 'male')[subject % 2]},{20 + subject % 30},{dark},{tone},"
            f"{60 - 13 * tone}"
        )
    path = folder / "subjects.csv"
    path.write_text("\n".join(lines))
    return path


def judged(protocol: ClinicalProtocol, pairs: Path, subjects: Path | None = None) -> Evaluation:
    return evaluate(from_tables([pairs], protocol, read_subjects(subjects) if subjects else {}), protocol)


def outcomes(evaluation: Evaluation) -> dict[str, str]:
    return {c["id"]: c["outcome"] for c in evaluation.document["verdict"]["criteria"]}


@pytest.mark.parametrize(
    ("n", "bias", "outcome"), [(12, 1.0, "PASS"), (12, 5.0, "FAIL"), (9, 5.0, "INCONCLUSIVE")]
)
def test_a_table_is_judged_by_iso(tmp_path: Path, n: int, bias: float, outcome: str) -> None:
    verdict = judged(clinical_protocol(ISO), pairs_file(tmp_path, [bias] * n)).verdict
    assert verdict.outcome.value == outcome


def test_the_fda_of_2013_asks_for_dark_skin_by_sensor(tmp_path: Path) -> None:
    pairs, subjects = pairs_file(tmp_path, [-3.1] * 12, sd=0.4), subjects_file(tmp_path, 12)
    clip, ear = (clinical_protocol(FDA, variant) for variant in ("transmittance", "ear_clip"))
    assert judged(clip, pairs, subjects).verdict.outcome is Outcome.FAIL
    assert judged(ear, pairs, subjects).verdict.outcome is Outcome.PASS
    without = judged(ear, pairs)
    assert without.verdict.outcome is Outcome.INCONCLUSIVE
    unmet = {rule["id"] for rule in without.document["verdict"]["design"] if not rule["met"]}
    assert unmet == {"dark-skin-number", "dark-skin-share", "sexes", "ages"}


def test_the_draft_passes_a_device_that_reads_all_skin_alike(tmp_path: Path) -> None:
    biases = np.random.default_rng(3).normal(0.3, 1.0, 150)
    evaluation = judged(clinical_protocol(DRAFT), pairs_file(tmp_path, biases), subjects_file(tmp_path, 150))
    assert evaluation.verdict.design_sufficient
    assert evaluation.verdict.outcome is Outcome.PASS
    (share,) = (r for r in evaluation.document["verdict"]["design"] if r["id"] == "dark-ita")
    assert share["value"] == pytest.approx(200 / 3)  # tones 9 and 10 of 8, 9 and 10 are below -50 degrees


def test_the_draft_fails_a_device_that_reads_dark_skin_higher_at_low_saturation(tmp_path: Path) -> None:
    biases = np.random.default_rng(3).normal(0.3, 1.0, 150)
    pairs = pairs_file(tmp_path, biases, dark_bias_low=2.9)
    evaluation = judged(clinical_protocol(DRAFT), pairs, subjects_file(tmp_path, 150))
    assert evaluation.verdict.outcome is Outcome.FAIL
    found = outcomes(evaluation)
    assert (found["tone-70-85"], found["tone-85-100"]) == ("FAIL", "PASS")
    (criterion,) = (c for c in evaluation.document["verdict"]["criteria"] if c["id"] == "tone-70-85")
    assert criterion["value"] == pytest.approx(2.9, abs=0.6)  # 45 and 60 subjects of sd 1: 3 errors of 0.2
    assert criterion["value"] < criterion["limit"] < criterion["high"]
    assert criterion["judged"] == "high"


@pytest.mark.parametrize("lacking", ["subjects", "tones", "angles"])
def test_the_draft_concludes_nothing_from_a_sample_it_does_not_allow(tmp_path: Path, lacking: str) -> None:
    n = 140 if lacking == "subjects" else 150
    pairs, subjects = pairs_file(tmp_path, [0.0] * n), subjects_file(tmp_path, n)
    if lacking == "tones":  # nobody of Monk 5 to 7
        subjects.write_text(subjects.read_text().replace(",5,-5", ",4,8").replace(",6,-18", ",8,-44"))
    if lacking == "angles":
        lines = [line.rpartition(",")[0] + "," for line in subjects.read_text().splitlines()[1:]]
        subjects.write_text("\n".join(["subject,sex,age_years,darkly_pigmented,skin_tone_mst,ita_deg", *lines]))
    evaluation = judged(clinical_protocol(DRAFT), pairs, subjects)
    assert not evaluation.verdict.design_sufficient
    assert evaluation.verdict.outcome is Outcome.INCONCLUSIVE
    assert outcomes(evaluation)["ita-70-85"] == ("NOT_MEASURED" if lacking == "angles" else "INCONCLUSIVE")


def test_accuracy_is_drawn_by_skin_tone_and_read_in_french(tmp_path: Path) -> None:
    pairs, subjects = pairs_file(tmp_path, [0.5] * 12), subjects_file(tmp_path, 12)
    document = judged(clinical_protocol(ISO), pairs, subjects).document
    assert set(document["items"]["skin_tone"]) == {"Monk 1-4", "Monk 5-7", "Monk 8-10"}
    plain = judged(clinical_protocol(ISO), pairs).document
    assert len(agreement_figures(document)) == len(agreement_figures(plain)) + 1
    page = html(document, "fr")
    assert "exactitude en moyenne quadratique de 70 à 100 %" in page
    assert "Monk 8-10" in page


def test_every_detail_has_words_in_french(tmp_path: Path) -> None:
    evaluation = judged(clinical_protocol(DRAFT), pairs_file(tmp_path, [0.5] * 20), subjects_file(tmp_path, 20))
    french = Phrases("fr")
    names = {name for c in evaluation.document["verdict"]["criteria"] for name in c["details"]}
    assert len(names) > 20
    assert [name for name in sorted(names) if french(name) == name.replace("_", " ")] == []


@pytest.mark.parametrize("protocol_id", [ISO, FDA, DRAFT])
def test_everything_people_read_is_there_in_french(protocol_id: str) -> None:
    protocol = shipped()[protocol_id]
    assert protocol.title_fr
    assert len(protocol.notes_fr) == len(protocol.notes) > 0
    assert all(rule.title_fr for rule in (*protocol.design, *protocol.criteria))


@pytest.mark.shared_data
def test_limits_are_those_of_the_collected_criteria(shared: Path) -> None:
    collected = json.loads((shared / "protocol_criteria.json").read_text())["fda_pulse_ox_2025_draft"]
    protocol = shipped()[DRAFT]
    limits = {c.metric: c.limit for c in protocol.criteria}
    low, high = (collected["nondisparity_upper95"][key] for key in ("70-85", ">85-100"))
    for name in ("tone", "ita"):
        assert limits[f"spo2_{name}_difference_70_85"] == low
        assert limits[f"spo2_{name}_difference_85_100"] == high
    least = {rule.fact: rule.limit for rule in protocol.design}
    assert (least["subjects"], least["pairs"]) == (collected["min_subjects"], collected["pairs_about"])
    for first, last in collected["mst_groups"]:
        assert least[f"monk_{first}_{last}_share_percent"] == 100 * collected["mst_min_share"]
    assert protocol.status == collected["status"]


def test_a_device_exactly_at_the_limit_of_arms_passes_as_often_as_theory_says(rng: np.random.Generator) -> None:
    # 10 subjects of 20 pairs, between them 2 and within them sqrt(12): Arms is 4. The sum of squares is
    # (12 + 20 * 4) chi2(10) + 12 chi2(190), and the device passes where it is at most 200 * 16.
    trials, subjects, pairs = 4000, 10, 20
    between, within = 2.0, np.sqrt(12.0)

    def passes_given(x: float) -> float:
        rest = (subjects * pairs * 16.0 - (within**2 + pairs * between**2) * x) / within**2
        return float(stats.chi2.cdf(rest, subjects * (pairs - 1)) * stats.chi2.pdf(x, subjects))

    expected, _ = integrate.quad(passes_given, 0.0, 60.0)
    errors = rng.normal(0, between, (trials, subjects, 1)) + rng.normal(0, within, (trials, subjects, pairs))
    errors = errors.reshape(trials, -1)
    passed = (arms_percent(85.0 + errors, np.full_like(errors, 85.0)) <= 4.0).mean()
    assert passed == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / trials))


def test_bad_pairs_are_named_and_decide_nothing(tmp_path: Path) -> None:
    path = pairs_file(tmp_path, [0.0] * 12)
    lines = path.read_text().splitlines()
    lines = [lines[0] + ",session,time", *(f"{line},s,{n}" for n, line in enumerate(lines[1:]))]
    bad = {
        "S-000,,90,s,9000": "the reference has no value",
        "S-000,90,,s,9001": "the device showed no value",
        "S-000,90,127,s,9002": "the device's value is impossible",
        "S-000,-4,90,s,9003": "the reference is impossible",
        "S-000,65,66,s,9004": "the reference is out of the protocol's range",
        lines[1]: "the pair is there twice",
    }
    path.write_text("\n".join([*lines, *bad]))
    document = judged(clinical_protocol(ISO), path).document
    assert sorted(m["reason"] for m in document["excluded"]) == sorted(bad.values())
    assert document["facts"]["pairs"] == 240
    path.write_text("subject,reference,test,unit\nS,90,91,mm[Hg]\n")
    with pytest.raises(DefinitionError, match=r"line 2: spo2 in 'mm\[Hg\]', expected one of %"):
        judged(clinical_protocol(ISO), path)
    path.write_text("subject,reference,test\n" + "S,90,90\n" * 2)
    constant = judged(clinical_protocol(ISO), path)
    assert constant.verdict.outcome is Outcome.INCONCLUSIVE


def test_the_commands_of_the_page_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, subjects = pairs_file(tmp_path, [0.5] * 12), subjects_file(tmp_path, 12)
    asked = ["--pairs", str(pairs), "--subjects", str(subjects)]
    page = tmp_path / "report.html"
    assert cli.main(["evaluate", "--protocol", ISO, *asked, "--html", str(page)]) == 0
    assert "PASS: ISO 80601-2-61" in capsys.readouterr().out
    assert page.stat().st_size > 1000
    assert cli.main(["evaluate", "--protocol", FDA, "--variant", "reflectance", *asked]) == 0
    assert cli.main(["protocol", "show", DRAFT]) == 0
    assert "is a draft" not in capsys.readouterr().err
    cli.main(["protocol", "plan", DRAFT, *asked])
    assert "Monk tone 8 to 10" in capsys.readouterr().out


# Sessions


def block(
    device: str, stream: Stream, times_s: NDArray[np.float64], values: NDArray[np.float64]
) -> SampleBlock:
    """Return samples of a stream; those of a stream with a rate lie at it."""
    times_ns = START_NS + np.rint(times_s * SECOND_NS).astype(np.int64)
    values = values.astype(stream.dtype)
    explicit = None if stream.rate_hz else times_ns
    return SampleBlock(device, stream, 1, 0, int(times_ns[0]), values, START_NS, 0, 0, None, explicit)


def shown(model: OximeterModel, subject: Subject, seed: int, end_s: float) -> NDArray[np.float64]:
    oximeter = Oximeter(subject, model, seed)
    seconds = np.arange(0.0, end_s)
    return np.array(
        [np.nan if (v := oximeter.spo2_percent(t)) is None else v for t in seconds], dtype=np.float64
    )


def plx(device: str, percent: NDArray[np.float64], index: NDArray[np.float64] | float = np.nan) -> SampleBlock:
    values = np.stack([percent, np.full(percent.size, 70.0), np.broadcast_to(index, percent.shape)])
    return block(device, pulse_oximeter.OXIMETRY, np.arange(percent.size, dtype=np.float64), values)


def session(store: SqliteSessionStore, number: int, *blocks: SampleBlock, gateway: str = "gw") -> str:
    devices = [SessionDevice("reference", gateway, "ref"), SessionDevice("test", "gw", "dut")]
    opened = store.open_session(subject=f"S-{number:02}", devices=devices, opened_ns=START_NS)
    store.write({opened.id: [("gw", made) for made in blocks]})
    return opened.id


def arms(
    store: SqliteSessionStore, number: int, model: OximeterModel, n_subjects: int = 4
) -> tuple[float, float]:
    """Return Arms of a device on simulated desaturations, and the lag that was estimated, at its median."""
    ids = []
    for subject_number in range(number, number + n_subjects):
        profile = controlled_desaturation(subject_number)
        subject = Subject(subject_number, profile)
        reference = shown(REFERENCE, subject, 1, profile.end_s)
        test = shown(model, subject, 2, profile.end_s)
        ids.append(session(store, subject_number, plx("ref", reference), plx("dut", test)))
    evaluation = evaluate(from_sessions(store, ids, clinical_protocol(ISO)), clinical_protocol(ISO))
    (found,) = (c for c in evaluation.document["verdict"]["criteria"] if c["id"] == "arms")
    lags = [source["figures"]["lag_s"] for source in evaluation.document["sources"]]
    return float(found["value"]), float(np.median(lags))


def test_the_lag_of_a_device_is_reported_and_does_not_move_its_accuracy(store: SqliteSessionStore) -> None:
    error = OximeterModel(bias_percent=1.0, between_percent=1.0, random_percent=1.0)
    late = OximeterModel(bias_percent=1.0, between_percent=1.0, random_percent=1.0, delay_s=15.0)
    (at_once, none), (later, lag) = arms(store, 1, error), arms(store, 1, late)
    assert (none, lag) == (pytest.approx(0.0, abs=0.5), pytest.approx(15.0, abs=0.5))
    # Between plateaus readings move by up to a quarter of a point a second: pairs taken at any time would err
    # by 4 points. On plateaus what is left are their edges, within the 2 points that the rule allows.
    assert later == pytest.approx(at_once, abs=0.25)


def test_every_pair_leads_back_and_every_other_window_is_listed(store: SqliteSessionStore) -> None:
    profile = controlled_desaturation(3)
    percent = np.round(profile.sao2_percent(np.arange(profile.end_s)))
    session_id = session(store, 3, plx("ref", percent), plx("dut", percent))
    evaluation = evaluate(from_sessions(store, [session_id], clinical_protocol(ISO)), clinical_protocol(ISO))
    items, excluded = evaluation.document["items"], evaluation.document["excluded"]
    assert items["session"] == [session_id] * len(items["time_ns"])
    for time_ns, reference in zip(items["time_ns"], items["reference"], strict=True):
        second = (time_ns - START_NS) // SECOND_NS
        assert percent[second : second + 5].mean() == pytest.approx(reference)
        assert np.ptp(percent[second - 25 : second + 5]) <= 2
    assert {m["reason"] for m in excluded} == {"the reference was not stable"}
    moments = sorted([*items["time_ns"], *(m["time_ns"] for m in excluded)])
    assert moments == [START_NS + n * 5 * SECOND_NS for n in range(len(moments))]
    (example, *_) = evaluation.document["examples"]
    assert {series["role"] for series in example["series"]} == {"reference", "test"}
    assert "not the saturation of arterial blood" in evaluation.document["sources"][0]["notes"][0]


def test_moments_of_a_poor_signal_are_no_pairs_whoever_reports_it(store: SqliteSessionStore) -> None:
    percent = np.full(200, 95.0)
    wrong = np.where((np.arange(200) >= 100) & (np.arange(200) < 120), 60.0, percent)  # the finger slips out
    index = np.where(wrong < 90, 0.0, 4.0)
    status = np.where(np.repeat(np.arange(200) >= 160, 75), nonin.OUT_OF_TRACK, nonin.GREEN_PERFUSION)
    pleth = block("ref", nonin.PLETH, np.arange(status.size) / 75.0, np.stack([status * 0, status]))
    spo2 = np.full((len(nonin.OXIMETRY.channels), 600), 95.0)
    oximetry = block("ref", nonin.OXIMETRY, np.arange(600) / 3.0, spo2)
    session_id = session(store, 1, pleth, oximetry, plx("dut", wrong, index))
    evaluation = evaluate(from_sessions(store, [session_id], clinical_protocol(ISO)), clinical_protocol(ISO))
    document = evaluation.document
    assert set(document["items"]["test"]) == {95.0, None}
    at_s = {m["reason"]: (m["time_ns"] - START_NS) / SECOND_NS for m in reversed(document["excluded"])}
    # reports hold for a second around them, so the windows from 100 s to 120 s are without a value
    assert at_s["the device reported a poor signal"] == pytest.approx(100.0)
    assert at_s["the reference reported a poor signal"] == pytest.approx(159.0, abs=0.4)
    n_poor = sum(m["reason"] == "the device reported a poor signal" for m in document["excluded"])
    assert n_poor == 4
    assert document["facts"]["read_rate_percent"] == pytest.approx(
        100 * (1 - 4 / (document["facts"]["pairs"] + 4))
    )
    assert max(document["items"]["time_ns"]) < START_NS + 160 * SECOND_NS


def test_blood_samples_that_people_enter_pair_where_they_were_taken(store: SqliteSessionStore) -> None:
    percent = np.repeat([97.0, 88.0, 79.0], 60)
    devices = [SessionDevice("reference", "manual", "ref"), SessionDevice("test", "gw", "dut")]
    opened = store.open_session(subject="S-1", devices=devices, opened_ns=START_NS)
    store.write({opened.id: [("gw", plx("dut", percent))]})
    samples = [
        ManualReading(START_NS + s * SECOND_NS, "spo2", v - 1) for s, v in ((40, 97), (100, 88), (160, 79))
    ]
    enter(store, opened.id, "ref", samples, now_ns=START_NS + 300 * SECOND_NS)
    protocol = clinical_protocol(ISO)
    evidence = from_sessions(store, [opened.id], protocol)
    assert evidence.measured.differences.tolist() == [1.0, 1.0, 1.0]
    (source,) = evidence.sources
    assert source.notes == (
        "people entered the reference and answer for its having been stable at each sample",
    )


def test_a_reference_that_is_later_than_the_device_is_named(store: SqliteSessionStore) -> None:
    profile = controlled_desaturation(5)
    percent = profile.sao2_percent(np.arange(profile.end_s))
    session_id = session(store, 5, plx("ref", np.roll(percent, 12)), plx("dut", percent))
    (source,) = from_sessions(store, [session_id], clinical_protocol(ISO)).sources
    assert source.figures["lag_s"] == pytest.approx(-12.0, abs=0.2)
    assert any("the reference is 12.0" in note for note in source.notes)
