"""Clinical protocols as TOML: what a good document gives, and how each mistake is named."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.clinical.criteria import Criterion, Provenance
from protocols.clinical.library import load, parse, shipped
from protocols.errors import DefinitionError

DOCUMENT = """
id = "own-2026"
title = "Our own protocol"
edition = "2026"
status = "in_force"
measurand = "spo2"

[pairing]
window_s = 10
source = "our manual"
confidence = "lab"

[statistics]
seed = 5
band_edges = [70, 85, 100]

[[design]]
id = "subjects"
title = "subjects"
fact = "subjects"
comparison = ">="
limit = 5
unit = "1"
source = "our manual"
confidence = "lab"

[[criteria]]
id = "arms"
title = "accuracy"
metric = "spo2_arms"
comparison = "<="
limit = 3
unit = "%"
clause = "2.1"
source = "our manual"
confidence = "lab"
"""


def test_a_document_becomes_records_with_the_records_own_defaults() -> None:
    protocol = parse(DOCUMENT, name="own.toml")
    assert protocol.pairing.window_s == 10.0
    assert protocol.pairing.stable_s == 0.0
    assert (protocol.statistics.seed, protocol.statistics.band_edges) == (5, (70.0, 85.0, 100.0))
    assert protocol.criteria == (
        Criterion(
            "arms", "accuracy", "spo2_arms", "<=", "%", Provenance("our manual", "lab", "2.1"), limit=3.0
        ),
    )


def test_a_file_is_read_and_named_in_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(DOCUMENT)
    assert load(path) == parse(DOCUMENT, name="x")
    path.write_text(DOCUMENT.replace('"<="', '"=<"'))
    with pytest.raises(
        DefinitionError, match=r"own\.toml, line \d+: \[\[criteria\]\] number 1: comparison='=<', expected"
    ):
        load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DefinitionError, match=r"own\.toml"):
        load(path)
    with pytest.raises(DefinitionError, match=r"missing\.toml"):
        load(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('id = "own-2026"', "", "own.toml: id is missing, expected text"),
        ('id = "own-2026"', "id = 7", "own.toml: id = 7, expected text"),
        ('status = "in_force"', 'status = "old"', "status='old', expected one of in_force, superseded, draft"),
        ('status = "in_force"', 'status = "superseded"', "superseded_by=None with status='superseded'"),
        (
            'edition = "2026"',
            'edition = "2026"\nsuperseded_by = "x"',
            "superseded_by='x' with status='in_force'",
        ),
        ('measurand = "spo2"', 'measurand = "mood"', "measurand='mood', expected one of spo2, blood_pressure"),
        (
            'edition = "2026"',
            'edition = "2026"\nauthor = "me"',
            "own.toml: unknown key 'author', expected one of",
        ),
        ("window_s = 10", "", r"\[pairing\]: window_s is missing, expected a number"),
        ("window_s = 10", "window_s = true", r"\[pairing\]: window_s = True, expected a number"),
        ("window_s = 10", "window_s = 0", r"\[pairing\]: window_s=0.0, expected a finite number > 0"),
        ("window_s = 10", "window_s = inf", "window_s=inf"),
        ("window_s = 10", "window_s = 10\nstable_s = -1", "stable_s=-1.0"),
        ("window_s = 10", "window_s = 10\nwindow = 3", r"\[pairing\]: unknown key 'window', .*clause"),
        ("[pairing]", "[pairings]", "unknown key 'pairings'"),
        (
            '[pairing]\nwindow_s = 10\nsource = "our manual"\nconfidence = "lab"\n',
            "",
            "pairing=None with measurand='spo2', expected a rule",
        ),
        ('measurand = "spo2"', 'measurand = "signal"', "pairing=.* with measurand='signal'"),
        ("seed = 5", "seed = 5.5", r"\[statistics\]: seed = 5.5, expected a whole number"),
        ("seed = 5", "seed = -5", "seed=-5"),
        ("seed = 5", "seed = 5\nconfidence_level = 95", "confidence_level=95.0, expected above 0 and below 1"),
        ("seed = 5", "seed = 5\nbootstrap_replicates = 0", "bootstrap_replicates=0"),
        ("[70, 85, 100]", "70", "band_edges = 70, expected a list of numbers"),
        ("[70, 85, 100]", '[70, "x"]', "band_edges = 'x', expected a number"),
        ("[70, 85, 100]", "[70, 70]", r"band_edges=\[70.0, 70.0\], expected none, or two or more that ascend"),
        ("[70, 85, 100]", "[70]", "band_edges"),
        ("limit = 5", "limit = nan", r"\[\[design\]\] number 1: limit=nan, expected a finite number"),
        ('comparison = ">="', 'comparison = "report"', r"\[\[design\]\] number 1: comparison='report'"),
        ("limit = 3", "", r"\[\[criteria\]\] number 1: limits {} with comparison='<='"),
        ('comparison = "<="', 'comparison = "report"', "limits {'limit': 3.0} with comparison='report'"),
        ("limit = 3", 'limit = "3"', r"\[\[criteria\]\] number 1: limit = '3', expected a number"),
        ("limit = 3", 'limit = 3\njudged = "mean"', "judged='mean', expected one of value, low, high"),
        ("limit = 3", 'limit = 3\nvariant = "ear"', "variant of criterion arms='ear', expected one of none"),
        ('clause = "2.1"', 'confidance = "lab"', "unknown key 'confidance'"),
        ('metric = "spo2_arms"', "", "metric is missing, expected text"),
        ('id = "arms"', "[criteria.arms]", "no TOML|expected"),
        ("[[criteria]]", "[criteria]", r"\[\[criteria\]\] is \{.*, expected tables"),
        ('id = "own-2026"', 'id = "own-2026"\ndesign = [3]', "no TOML"),
        ("[pairing]", "design = [3]\n[pairing]", "no TOML"),
        ('title = "Our own protocol"', "title = ", "no TOML"),
    ],
)
def test_a_mistake_is_named_with_table_key_value_and_expectation(old: str, new: str, says: str) -> None:
    assert old in DOCUMENT
    with pytest.raises(DefinitionError, match=says):
        parse(DOCUMENT.replace(old, new, 1), name="own.toml")


def test_a_list_of_something_else_in_place_of_tables_is_named() -> None:
    without = DOCUMENT.replace("[[design]]", "[unused]")
    with pytest.raises(DefinitionError, match=r"own.toml: \[\[design\]\] number 1 is 3, expected a table"):
        parse("design = [3]\n" + without, name="own.toml")


@pytest.mark.parametrize(
    ("confidence", "says"),
    [('confidence = "sure"', "confidence='sure', expected one of read"), ("", "confidence is missing")],
)
def test_every_rule_states_how_sure_it_is(confidence: str, says: str) -> None:
    for table in ("[pairing]", "[[design]]", "[[criteria]]"):
        before, after = DOCUMENT.split(table, 1)
        with pytest.raises(DefinitionError, match=says):
            parse(before + table + after.replace('confidence = "lab"', confidence, 1), name="own.toml")
    with pytest.raises(DefinitionError, match="source is empty"):
        parse(DOCUMENT.replace('source = "our manual"', 'source = ""'), name="own.toml")


def test_a_document_needs_criteria_with_different_ids() -> None:
    before, criteria = DOCUMENT.split("[[criteria]]")
    with pytest.raises(DefinitionError, match="no criteria, expected at least one"):
        parse(before, name="own.toml")
    with pytest.raises(DefinitionError, match=r"ids \['arms', 'arms'\] of criteria, expected different ones"):
        parse(DOCUMENT + "[[criteria]]" + criteria, name="own.toml")


@given(st.text(alphabet=string.printable, max_size=200))
def test_any_text_gives_a_protocol_or_a_definition_error(text: str) -> None:
    with pytest.raises(DefinitionError):
        parse(text, name="any.toml")


def test_shipped_protocols_cannot_be_replaced_by_their_reader() -> None:
    with pytest.raises(TypeError):
        shipped()["x"] = None  # type: ignore[index]
