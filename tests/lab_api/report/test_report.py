"""The evidence report: page and paper say the same, in two languages, the same every time, and run nothing."""

from __future__ import annotations

import io
import re
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.figures import Axis, Bars, Line, recruitment_figure
from analysis.metrics import STUDIES
from lab_api.evaluate import described
from lab_api.evaluation import evaluate
from lab_api.evidence.sources import from_tables
from lab_api.report.content import Drawing, Heading, Paragraph, Table, content
from lab_api.report.document_figures import agreement_figures
from lab_api.report.drawing import HEIGHT, WIDTH, Stroke, Text, height_of, layout, ticks
from lab_api.report.page import html
from lab_api.report.paper import pdf
from lab_api.report.phrases import LANGUAGES, Phrases
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Criterion, Pairing, Provenance, Requirement, Statistics

LAB = Provenance("the lab's handbook, <page 3>", "unconfirmed", "4.2")
GLUCOSE = ClinicalProtocol(
    id="own",
    title="Own glucose",
    title_fr="Glycémie maison",
    edition="1",
    status="draft",
    measurand="glucose",
    pairing=Pairing(300.0, LAB, rule="nearest"),
    statistics=Statistics(bootstrap_replicates=200, band_edges=(20.0, 100.0, 600.0)),
    design=(Requirement("subjects", "subjects", "subjects", ">=", "1", LAB, limit=10, title_fr="sujets"),),
    criteria=(
        Criterion("mape", "mean relative difference", "glucose_mape", "<=", "%", LAB, limit=10.0),
        Criterion("bias", "mean bias", "glucose_bias", "report", "mg/dL", LAB),
    ),
    notes=("Read the labels.",),
    notes_fr=("Lire les étiquettes.",),
)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    lines = ["subject,time,reference,test"]
    for subject in range(12):
        for k in range(5):
            reference = float(np.exp(rng.normal(4.8, 0.4)))
            test = "" if (subject, k) == (3, 2) else f"{reference * rng.normal(1, 0.06):.1f}"
            lines.append(f"S-{subject},2026-03-{1 + subject:02}T09:{k:02}:00+01:00,{reference:.1f},{test}")
    path = tmp_path_factory.mktemp("study") / "pairs.csv"
    path.write_text("\n".join(lines))
    return evaluate(from_tables([path], GLUCOSE), GLUCOSE, {"firmware": "1.4.2 <b>"}).document


class Checker(HTMLParser):
    """Notes what a page consists of and what it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "col", "br", "input"):
            self.open.append(tag)
        self.loads += [f"{name}={value}" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_whole_and_loads_and_runs_nothing(document: dict[str, Any], language: str) -> None:
    page = html(document, language)
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert checker.loads == []
    assert "script" not in checker.tags
    assert "<b>" not in page
    assert "1.4.2 <b>" in "".join(checker.text)
    assert checker.tags.count("svg") >= 4
    assert checker.tags.count("h1") == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_and_paper_are_the_same_every_time(document: dict[str, Any], language: str) -> None:
    assert html(document, language) == html(document, language)
    assert pdf(document, language) == pdf(document, language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_paper_is_a_pdf_that_names_its_evaluation_and_language(document: dict[str, Any], language: str) -> None:
    paper = pdf(document, language)
    assert paper.startswith(b"%PDF-")
    assert paper.rstrip().endswith(b"%%EOF")
    assert document["id"].encode() in paper
    assert len(re.findall(rb"/Type /Page\b", paper)) >= 2
    assert io.BytesIO(paper).getbuffer().nbytes < 1_000_000


def test_the_report_says_all_that_a_reviewer_needs(document: dict[str, Any]) -> None:
    said = spoken(document, "en")
    for words in (
        "PASS: Own glucose",
        "edition 1, draft",
        "firmware: 1.4.2 <b>",
        "4.2, the lab's handbook, <page 3>",
        "memory, UNCONFIRMED",
        "From memory, to be confirmed against the standard: pairing, subjects, mape, bias.",
        "Read the labels.",
        "the device showed no value",
        "jackknife of 12 subjects with all their pairs, log scale",
        document["id"],
        document["protocol_hash"],
        document["sources"][0]["content_hash"],
        "not a medical device",
    ):
        assert words in said, words


def test_the_french_report_is_french(document: dict[str, Any]) -> None:
    said = spoken(document, "fr")
    for words in (
        "CONFORME : Glycémie maison",
        "Lire les étiquettes.",
        "De mémoire, à confirmer dans la norme",
        "mémoire, NON CONFIRMÉ",
        "le dispositif n'a rien affiché",
        "sujets",
        "pas un dispositif médical",
    ):
        assert words in said, words
    value = document["verdict"]["criteria"][0]["value"]
    assert f"{value:.4g}".replace(".", ",") in said


def test_older_documents_still_make_a_report(document: dict[str, Any]) -> None:
    added = ("measurand", "about", "statistics", "pairing", "examples", "excluded")
    older = {key: value for key, value in document.items() if key not in added}
    assert "mean relative difference" in html(older)
    assert pdf(older).startswith(b"%PDF-")


def test_classes_of_beats_are_a_table_of_reference_by_test(document: dict[str, Any]) -> None:
    criterion = document["verdict"]["criteria"][0]
    cells = {"Nn": 90.0, "Nv": 2.0, "No": 1.0, "Vn": 3.0, "Vv": 40.0, "Vo": 0.0, "On": 5.0, "Ov": 0.0}
    verdict = document["verdict"] | {"criteria": [criterion | {"details": {**cells, "records": 4.0}}]}
    tables = [b for b in content(document | {"verdict": verdict}, Phrases("en")) if isinstance(b, Table)]
    (table,) = (t for t in tables if t.heads[1:] == ("n", "v", "o"))
    assert table.rows == (("N", "90", "2", "1"), ("V", "3", "40", "0"), ("O", "5", "0", ""))
    assert ("mean relative difference", "records", "4") in {row for t in tables for row in t.rows}


def test_a_long_list_is_cut_and_says_how_much_is_left(document: dict[str, Any]) -> None:
    moment = document["excluded"][0]
    longer = document | {"excluded": [moment | {"time_ns": k} for k in range(100)]}
    assert "and 40 more, in the report as JSON" in spoken(longer, "en")


def test_every_phrase_exists_in_both_languages_with_the_same_gaps_to_fill() -> None:
    text = (resources.files("lab_api.report") / "phrases.toml").read_text(encoding="utf-8")
    for key, phrases in tomllib.loads(text).items():
        assert len(phrases) == len(LANGUAGES), key
        assert all(phrases), key
        names = [sorted(re.findall(r"\{(\w+)", phrase)) for phrase in phrases]
        assert names[0] == names[1], key


def test_every_fact_of_a_sample_has_a_french_title() -> None:
    lacking = [name for study in STUDIES.values() for name, fact in study.facts.items() if not fact.title_fr]
    assert lacking == []


OXIMETER = replace(
    GLUCOSE,
    measurand="spo2",
    statistics=Statistics(bootstrap_replicates=200, band_edges=(70.0, 80.0, 100.0)),
    criteria=(
        Criterion("bias", "mean bias", "spo2_bias", "report", "%", LAB),
        Criterion("upper", "upper limit", "spo2_upper_limit_of_agreement", "report", "%", LAB),
    ),
)


def test_figures_show_the_pairs_that_the_criteria_rest_on(tmp_path: Path, rng: np.random.Generator) -> None:
    lines = ["subject,reference,test"]
    for subject in range(8):
        lines += [f"S-{subject},{70 + 3.5 * k},{71 + 3.5 * k + rng.normal():.2f}" for k in range(8)]
    lines += ["S-1,99,130", "S-2,60,90", "S-3,95,"]  # impossible, out of range, nothing shown
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(lines))
    found = evaluate(from_tables([path], OXIMETER), OXIMETER).document
    agreement, bands = agreement_figures(found)
    drawn = [mark.y[0] for mark in agreement.marks if isinstance(mark, Line)]
    bias, upper = (criterion["value"] for criterion in found["verdict"]["criteria"])
    assert drawn[1:] == pytest.approx([bias, upper], abs=1e-6)
    (bars,) = bands.marks
    assert isinstance(bars, Bars)
    assert bars.labels == ("70-80 % (n = 24)", "80-100 % (n = 40)")

    said = "\n".join(described(found))
    assert "left out: 1 of spo2: the device's value is impossible" in said
    assert "left out: 1 of spo2: the reference is out of the protocol's range" in said


def test_units_and_colons_are_written_as_people_write_them(document: dict[str, Any]) -> None:
    assert Phrases("fr").with_unit(5.5, "mm[Hg]") == "5,5 mmHg"
    assert Phrases("en").with_unit(37, "Cel") == "37 °C"
    assert "CONFORME : Glycémie maison" in spoken(document, "fr")


def test_labels_of_many_bars_do_not_overlap() -> None:
    labels = [f"a long requirement with a number of words in it, number {k}, of the sample" for k in range(22)]
    figure = recruitment_figure(labels, [50.0] * 22, [10.0] * 22)
    assert figure is not None
    say = Phrases("en")
    rows = [p.y for p in layout(figure, say=say, number=say.number) if isinstance(p, Text) and p.size == 7.5]
    assert len(rows) == 66
    assert np.diff(rows).min() > 7.5
    assert HEIGHT < max(rows) < height_of(figure) < 700


def test_figures_stay_on_their_sheet(document: dict[str, Any]) -> None:
    say = Phrases("en")
    for block in content(document, say):
        if not isinstance(block, Drawing):
            continue
        for primitive in layout(block.figure, say=say, number=say.number):
            places = primitive.points if isinstance(primitive, Stroke) else [(primitive.x, primitive.y)]
            height = height_of(block.figure)
            assert all(-0.01 <= x <= WIDTH and -0.01 <= y <= height for x, y in places), primitive


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-40, 43.7), (97.1, 97.4), (0, 550), (1e-6, 3e-6), (5, 5)])
def test_ticks_are_round_ascending_and_within_the_axis(low: float, high: float) -> None:
    found = ticks(Axis("x", "", low, high))
    assert found == sorted(set(found))
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
    assert 1 <= len(found) <= 11


def spoken(document: dict[str, Any], language: str) -> str:
    """Return every word of the report's blocks."""
    words: list[str] = []
    for block in content(document, Phrases(language)):
        if isinstance(block, Heading | Paragraph):
            words.append(block.words)
        elif isinstance(block, Table):
            words += [*block.heads, *(cell for row in block.rows for cell in row)]
    return "\n".join(words)
