"""What the documents show is there: links lead somewhere, commands are understood, configurations load."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from gateway.config import load_config
from lab_api import cli

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert missing == []


def commands() -> list[str]:
    lines = "\n".join(blocks(README, "")).splitlines()
    return [line.removeprefix("$ ") for line in lines if line.removeprefix("$ ").startswith("lab ")]


@pytest.mark.parametrize("command", commands())
def test_every_lab_command_in_the_readme_is_understood(command: str) -> None:
    options = cli.command_parser().parse_args(shlex.split(command, comments=True)[1:])
    assert callable(options.run)


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_gateway_configuration_in_the_readme_loads(tmp_path: Path) -> None:
    (configuration,) = blocks(README, "toml")
    path = tmp_path / "gateway.toml"
    path.write_text(configuration, encoding="utf-8")
    config = load_config(path, {})
    assert [device.name for device in config.devices] == ["reference", "strap"]


def test_the_fab_lab_device_in_its_document_loads(tmp_path: Path) -> None:
    (device, *_) = blocks((ROOT / "docs/fablab_frame.md").read_text(encoding="utf-8"), "toml")
    path = tmp_path / "gateway.toml"
    path.write_text(
        f'[gateway]\ngroup = "lab"\nname = "g"\nbroker = "mqtt://localhost"\ndata = "d"\n{device}',
        encoding="utf-8",
    )
    assert load_config(path, {}).devices[0].kind.name == "fablab"
