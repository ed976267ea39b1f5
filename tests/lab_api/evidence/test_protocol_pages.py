"""The tables and commands on the pages of spirometry, sleep and usability work as they are printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lab_api.cli import main

PAGES = Path(__file__).parents[3] / "docs/protocols"
COMMANDS = [
    (page, command)
    for page in ("spirometry", "sleep", "usability")
    for command in re.findall(
        r"^lab evaluate .*$", (PAGES / f"{page}.md").read_text(encoding="utf-8"), re.MULTILINE
    )
]


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda value: value.split(" --pairs")[0])
def test_a_printed_command_judges_the_printed_table(
    page: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    tables = re.findall(r"`([\w-]+\.csv)`[^\n`]*:\n\n```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for name, table in tables:
        (tmp_path / name).write_text(table, encoding="utf-8")
    (tmp_path / "subjects.csv").write_text("subject,sex,age_years\nS-1,female,40\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[1:]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(("PASS", "INCONCLUSIVE", "REPORTED"))


def test_every_page_prints_a_command() -> None:
    assert {page for page, _ in COMMANDS} == {"spirometry", "sleep", "usability"}
