"""`lab protocol plan`: what a trial lacks and of whom, its figures so far, and sample sizes."""

from __future__ import annotations

import json
import math
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from lab_api import planning
from lab_api.cli import main
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.library import shipped

DOCUMENT = Path(__file__).parents[2] / "docs/protocols/planning.md"
Capture = pytest.CaptureFixture[str]


def run(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = main(["protocol", "plan", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def write_trial(folder: Path) -> None:
    """Write the tables of a trial of 8 subjects that is not done; the skin of two is not known."""
    rng = np.random.default_rng(2)
    pairs = ["subject,time,reference,test"]
    subjects = ["subject,sex,age_years,darkly_pigmented"]
    for s in range(8):
        offset = rng.normal(0.5, 1.0)
        for k in range(10):
            reference = 71.0 + 3.0 * k if k or s < 4 else 81.0
            test = "" if (s, k) == (2, 3) else f"{min(reference + offset + rng.normal(0, 1.0), 100.0):.1f}"
            pairs.append(f"S-{s},2026-03-01T{8 + s:02}:{k:02}:00+00:00,{reference},{test}")
        subjects.append(f"S-{s},{'female' if s % 2 else 'male'},{20 + s},{'' if s > 5 else 'no'}")
    for name, lines in (("pairs", pairs), ("subjects", subjects)):
        (folder / f"{name}.csv").write_text("\n".join(lines))


@pytest.fixture
def trial(tmp_path: Path) -> list[str]:
    """Return the options for the trial."""
    write_trial(tmp_path)
    return ["--pairs", str(tmp_path / "pairs.csv"), "--subjects", str(tmp_path / "subjects.csv")]


def test_a_running_trial_is_told_what_it_lacks_and_of_whom(capsys: Capture, trial: list[str]) -> None:
    code, out, _ = run(capsys, "fda-pulse-oximeter-2013", "--variant", "ear_clip", *trial)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].endswith("edition 2013: design, 4 requirements of 6 not met")
    assert "  missing: healthy subjects with pairs: 8 of >= 10, at least 2 more" in lines
    assert "  missing: pairs with a reference of 70 to 100 %: 79 of >= 200, at least 121 more" in lines
    skin = "not known of >= 2; darkly_pigmented is not known of 2 of 8 subjects: S-6, S-7"
    assert f"  missing: darkly pigmented subjects: {skin}" in lines
    assert "  met: sexes among the subjects: 2 of >= 2" in lines
    assert "excluded: 1: the device showed no value (1)" in lines
    assert "read rate: 98.75 % of the moments with a usable reference" in lines


def test_figures_so_far_are_marked_as_no_verdict(capsys: Capture, trial: list[str]) -> None:
    out = run(capsys, "iso-80601-2-61-2017", *trial)[1]
    after = out.splitlines()[out.splitlines().index("figures so far, no verdict:") + 1 :]
    assert len(after) == 4
    assert all("so far, no verdict (n = " in line for line in after)
    assert "95% interval" in after[0]
    assert "limit <= 4 %" in after[0]
    assert not any(word in out for word in ("PASS", "FAIL", "INCONCLUSIVE"))


def test_the_range_that_is_short_is_named_by_band(capsys: Capture, trial: list[str]) -> None:
    out = run(capsys, "iso-80601-2-61-2017", *trial)[1]
    # of 79 pairs 20 lie from 70 to 80 and 24 from 90 on: each is at least a fifth
    assert "met: share of the pairs in the band that has fewest" in out
    pairs = Path(trial[1])
    kept = [line for line in pairs.read_text().splitlines() if not line.split(",")[2].startswith("9")]
    pairs.write_text("\n".join(kept))
    out = run(capsys, "iso-80601-2-61-2017", *trial)[1]
    assert "0 % of >= 20 %, at least 14 more such pairs; pairs by band: 70-80 20, 80-90 35, 90-100 0" in out


def test_a_plan_as_json_holds_the_same(capsys: Capture, trial: list[str]) -> None:
    options = ["--power", "0.9", "--expect", "bias=1", "--expect", "sd=3.5", "--expect", "subject_sd=1.5"]
    text = run(capsys, "iso-80601-2-61-2017", *trial, *options)[1]
    plan = json.loads(run(capsys, "iso-80601-2-61-2017", *trial, *options, "--json")[1])
    for part in (plan["design"], plan["so_far"], plan["sample_size"]["criteria"]):
        assert part
        assert all(f"  {entry['text']}" in text.splitlines() for entry in part)
    assert plan["design"][0]["title_fr"]
    assert plan["excluded"] == {"the device showed no value": 1}
    assert (plan["sample_size"]["subjects"], plan["sample_size"]["pairs"]) == (10, 200)


def test_sample_sizes_say_what_they_rest_on_and_what_is_not_planned(capsys: Capture) -> None:
    options = ["--power", "0.9", "--expect", "bias=1", "--expect", "sd=6", "--expect", "subject_sd=3"]
    lines = run(capsys, "iso-81060-2-2018", *options)[1].splitlines()
    assert "sample size for a power of 0.9:" in lines
    assert any(line.startswith("  all planned criteria together: 85 subjects, 255 pairs") for line in lines)
    assert "  the design asks for at least 85 subjects and 255 pairs, whatever the power" in lines
    assert sum(line.startswith("  assumed: ") for line in lines) == 4
    lines = run(capsys, "bhs-1993", *options)[1].splitlines()
    assert sum("not planned: the theory here has no distribution of" in line for line in lines) == 2
    beyond = run(capsys, "iso-80601-2-61-2017", "--power", "0.9", "--expect", "bias=0", "--expect", "sd=5")[1]
    assert "no number is enough: expected 5 % against <= 4 %" in beyond
    assert "all planned criteria together: no number is enough" in beyond


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--expect", "bias=1"), "--expect without --power"),
        (("--power", "0.9", "--expect", "bias"), "--expect bias, expected NAME=NUMBER"),
        (("--power", "0.9", "--expect", "bias=1", "--expect", "bias=2"), "--expect bias is there twice"),
        (("--power", "0.9", "--expect", "luck=1"), "expectation luck: unknown, expected one of bias, sd"),
        (("--power", "2"), "power=2.0, expected above 0 and below 1"),
        (("--subjects", "subjects.csv"), "--subjects without sessions or --pairs"),
        (("--pairs", "none.csv"), "table none.csv: No such file"),
    ],
)
def test_mistakes_are_one_sentence_and_a_code(capsys: Capture, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = run(capsys, "iso-80601-2-61-2017", *arguments)
    assert code in (1, 2)
    assert out == ""
    assert says in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "rows", ["", "S-1,2026-03-01T08:00:00+00:00,85,\n", "S-1,2026-03-01T08:00:00+00:00,85,86\n"]
)
def test_a_trial_of_next_to_nothing_is_planned_too(capsys: Capture, tmp_path: Path, rows: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("subject,time,reference,test\n" + rows)
    for protocol in ("iso-80601-2-61-2017", "iso-81060-2-2018-special"):
        table = rows if protocol.startswith("iso-8060") else rows.replace(",85,", ",sbp,85,")
        header = "subject,time,reference,test\n" if table == rows else "subject,time,quantity,reference,test\n"
        path.write_text(header + table)
        code, out, err = run(capsys, protocol, "--pairs", str(path))
        assert (code, err) == (0, "")
        assert "figures so far, no verdict:" in out


@pytest.mark.parametrize("protocol", shipped().values(), ids=shipped().keys())
def test_every_protocol_that_ships_is_planned_before_its_trial_begins(protocol: ClinicalProtocol) -> None:
    values = {
        p.id: next(v for v in (p.default, p.least, 1.0) if v is not None and math.isfinite(v))
        for p in protocol.parameters
    }
    applied = protocol.applied(protocol.variants[0] if protocol.variants else None, values)
    document = planning.plan(applied, power=0.9, expected={"pairs_per_subject": 3})
    lines = planning.described(document)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert len(document["design"]) == len(applied.design)
    assert all(f"  {entry['text']}" in lines for entry in document["sample_size"]["criteria"])
    assert not any("nan" in line.split() for line in lines)


def examples() -> list[tuple[str, str]]:
    """Return the commands that the document shows, each with the output that it shows."""
    blocks: list[tuple[str, str]] = re.findall(
        r"^```\n\$ (lab .*?)\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    return blocks


def test_the_document_shows_commands() -> None:
    assert len(examples()) == 3


@pytest.mark.parametrize(("command", "output"), examples(), ids=lambda text: text[:60])
def test_the_document_shows_what_the_commands_print(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, output: str
) -> None:
    write_trial(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(capsys, *shlex.split(command)[3:]) == (0, output, "")
