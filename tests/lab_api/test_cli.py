"""The `lab` command: every failure is one sentence and an exit code."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab_api import cli
from lab_api.store.sqlite import SqliteSessionStore
from protocols.errors import DefinitionError, TransportError


def failing_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `lab fail` raise an error."""

    class Room:
        @staticmethod
        def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
            def run(_options: argparse.Namespace) -> int:
                raise error

            subparsers.add_parser("fail").set_defaults(run=run)

    monkeypatch.setattr(cli, "ROOMS", ("room",))
    monkeypatch.setitem(sys.modules, "room", Room)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (DefinitionError("speed=0, expected > 0"), 2, "lab: speed=0, expected > 0"),
        (TransportError("no broker\nat all"), 1, "lab: no broker at all"),
        (ModuleNotFoundError("x", name="bumble.device"), 1, "pip install 'living-lab[sim]'"),
        (ModuleNotFoundError("x", name="uvicorn"), 1, "pip install 'living-lab[lab]'"),
        (RuntimeError("boom"), 1, "lab: unexpected RuntimeError: boom"),
        (KeyboardInterrupt(), 130, ""),
        (asyncio.CancelledError(), 130, ""),
    ],
)
def test_a_failure_is_one_sentence_and_an_exit_code(
    error: BaseException,
    code: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing_with(error, monkeypatch)
    assert cli.main(["fail"]) == code
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == bool(sentence)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--help"], ["demo", "--help"], ["replay", "--help"], ["evaluate", "--help"], ["serve", "--help"]),
        *(["gateway", "run", "--help"], ["sim", "list", "--help"], ["sim", "run", "--help"]),
    ],
)
def test_every_command_explains_itself(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 0
    assert "usage: lab" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["evaluate", "--protocol", "ansi-aami-ec57"], 2, "name either sessions or, with --wfdb, records"),
        (["evaluate", "--wfdb", "nowhere/100", "--protocol", "ansi-aami-ec57"], 1, "nowhere/100"),
        (["evaluate", "--wfdb", "100", "--protocol", "ec99"], 2, "clinical protocol 'ec99'"),
        (["evaluate", "0" * 32, "--protocol", "ansi-aami-ec57", "--data", "{tmp}"], 1, "no session"),
        (["replay", "nowhere/100", "--as", "fablab"], 1, "nowhere/100"),
        (["gateway", "run", "--config", "nowhere.toml"], 2, "nowhere.toml"),
        (["sim", "run", "toaster"], 2, "toaster"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    arguments: list[str],
    code: int,
    sentence: str,
    tmp_path: Callable[[], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([argument.replace("{tmp}", str(tmp_path)) for argument in arguments]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lab: ")
    assert sentence in line


def test_starting_the_command_loads_nothing_heavy() -> None:
    program = (
        "import sys, lab_api.cli, importlib\n"
        "for room in lab_api.cli.ROOMS: importlib.import_module(room)\n"
        "heavy = {'numpy', 'scipy', 'fastapi', 'bleak', 'bumble', 'paho', 'wfdb', 'serial'}\n"
        "sys.exit(', '.join(sorted(heavy & sys.modules.keys())))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.stderr.strip() in ("", "numpy")


def test_what_is_set_aside_is_listed_until_it_is_taken_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["aside", "--data", str(tmp_path)]
    assert cli.main(command) == 0
    assert capsys.readouterr().out.startswith("0 set aside in ")

    content = {"gateway": "gw-1", "device": "strap", "spool_seq": 7, "reason": "no array"}
    with SqliteSessionStore(tmp_path / "sessions") as store:
        store.set_aside("lab.gw-1-77-7", json.dumps(content).encode())
    assert cli.main(command) == 1
    assert "lab.gw-1-77-7: gw-1/strap: no array\n1 set aside" in capsys.readouterr().out
    assert cli.main([*command, "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == [{"name": "lab.gw-1-77-7", **content}]
