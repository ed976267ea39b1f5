"""`lab protocol`: list, show, check and plan, as a person at a terminal sees them."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from lab_api.cli import main
from protocols.clinical.library import shipped

Capture = pytest.CaptureFixture[str]


def run(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = main(["protocol", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_list_names_every_protocol_and_its_status(capsys: Capture) -> None:
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(shipped())
    assert "2017 (superseded)" in out
    listed = json.loads(run(capsys, "list", "--json")[1])
    assert {entry["id"]: entry["status"] for entry in listed} == {p.id: p.status for p in shipped().values()}


@pytest.mark.parametrize("protocol", shipped().values(), ids=shipped().keys())
def test_show_gives_every_rule_with_limit_source_and_confidence(protocol, capsys) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = run(capsys, "show", protocol.id)
    assert code == 0
    for rule in (*protocol.design, *protocol.criteria):
        (line,) = {
            line for line in out.splitlines() if f": {rule.title}: " in line and str(rule.provenance) in line
        }
        assert rule.comparison in line or "to be reported" in line
    assert all(note in out for note in protocol.notes)


def test_check_explains_every_mistake_at_once_by_line(tmp_path: Path, capsys: Capture) -> None:
    text = (resources.files("protocols.clinical") / "shipped/iso-80601-2-61-2017.toml").read_text()
    own = tmp_path / "own.toml"
    own.write_text(text)
    assert run(capsys, "check", str(own))[0] == 0
    own.write_text(
        text.replace("limit = 4.0", 'limit = "4"').replace('comparison = ">="', 'comparison = "=>"', 1)
    )
    code, out, _ = run(capsys, "check", str(own))
    assert code == 1
    first = text.splitlines().index("[[design]]") + 1
    arms = text.splitlines().index("[[criteria]]") + 1
    assert out.splitlines() == [
        f"own.toml, line {first}: [[design]] number 1: comparison='=>', expected one of <=, <, >=, >",
        f"own.toml, line {arms}: [[criteria]] number 1: limit = '4', expected a number",
    ]
    own.write_text(text.replace("spo2_arms", "spo2_amrs"))
    code, out, _ = run(capsys, "check", str(own))
    assert (code, "did you mean spo2_arms" in out) == (1, True)


def test_a_plan_says_what_a_table_of_pairs_still_lacks(tmp_path: Path, capsys: Capture) -> None:
    code, out, _ = run(capsys, "plan", "fda-pulse-oximeter-2013", "--variant", "ear_clip")
    assert code == 0
    assert "missing: healthy subjects with pairs: 0 of >= 10, at least 10 more" in out


def test_mistakes_are_one_sentence_and_a_code(tmp_path: Path, capsys: Capture) -> None:
    for arguments, says in (
        (("show", "iso-1"), "clinical protocol 'iso-1', expected one of ansi-aami-ec57"),
        (("show", "none.toml"), "No such file"),
        (("check", str(tmp_path / "none.toml")), "No such file"),
        (("plan", "fda-pulse-oximeter-2013"), "needs a variant, expected one of transmittance"),
        (("plan", "iso-80601-2-61-2017", "--set", "claim"), "--set claim, expected NAME=NUMBER"),
    ):
        code, out, err = run(capsys, *arguments)
        assert code in (1, 2)
        assert out == ""
        assert says in err
        assert len(err.strip().splitlines()) == 1
