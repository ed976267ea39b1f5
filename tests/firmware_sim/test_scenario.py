from __future__ import annotations

from pathlib import Path

import pytest

from firmware_sim.scenario import load_scenario
from protocols.errors import DefinitionError

WARD = """
[[subject]]
name = "S01"
seed = 3
desaturation = { n_plateaus = 2, plateau_s = 10 }
[[device]]
kind = "nonin-7"
name = "reference"
subject = "S01"
oximeter = "reference"
options = { timer = true }
[[device]]
kind = "fablab"
subject = "S01"
"""


def load(tmp_path: Path, text: str) -> object:
    file = tmp_path / "ward.toml"
    file.write_text(text)
    return load_scenario(file).make_devices()


def test_devices_of_a_file_are_made_in_order(tmp_path: Path) -> None:
    file = tmp_path / "ward.toml"
    file.write_text(WARD)
    scenario = load_scenario(file)
    reference, prototype = scenario.make_devices()
    assert [d.link for d in scenario.devices] == ["rfc2217", "rfc2217"]
    assert (reference.name, prototype.name) == ("reference", "fablab-0")
    assert reference.kind.counter_modulus != {}


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("", "colour = 1\n", "'colour' in the file"),
        ("", "speed = 'fast'\n", "speed='fast'"),
        ("", "speed = -1\n", "speed=-1"),
        ("", "hci_port = 70000\n", "hci_port=70000"),
        ("", "[broken", "expected a scenario in TOML"),
        ('kind = "nonin-7"', "", r"\[\[device\]\] number 1: no kind in device"),
        ('kind = "nonin-7"', 'kind = "toaster"', r"number 1: device kind 'toaster'"),
        ('name = "S01"\nseed', "seed", r"\[\[subject\]\] number 1: no name in subject"),
        ("seed = 3", "seed = true", "seed=True in subject, expected int"),
        ("seed = 3", "seed = -3", "seed=-3"),
        ("seed = 3", "age = 3", "'age' in subject, expected one of"),
        ("n_plateaus = 2", "n_plateaus = 0", "n_plateaus=0"),
        ("n_plateaus = 2", "n = 2", "'n' in desaturation"),
        ("n_plateaus = 2", "n_plateaus = 2.5", r"n_plateaus=2\.5 in desaturation, expected int"),
        ("plateau_s = 10", "plateau_s = 'long'", "plateau_s='long' in desaturation, expected float"),
        ('"reference"\noptions', '"best"\noptions', "oximeter='best'"),
        ('"reference"\noptions', "{ bias = 2 }\noptions", "'bias' in oximetermodel"),
        ("timer = true", "timer = 3", "timer=3"),
        ('subject = "S01"\noximeter', 'subject = "S02"\noximeter', "subject='S02' of nonin-7"),
        ('kind = "fablab"', 'kind = "fablab"\nname = "reference"', "expected different names"),
        ('kind = "fablab"', 'kind = "fablab"\nlink = "ble"', "link='ble' of fablab"),
        ('kind = "fablab"', 'kind = "fablab"\nlink = "pty"\nport = 5', "port=5 with link pty"),
        ('kind = "fablab"', 'kind = "fablab"\nreplay = 5', "replay=5"),
        ('kind = "fablab"', 'kind = "fablab"\nboot = 70000', "boot=70000"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    text = WARD.replace(old, new, 1) if old else new + WARD
    assert text != WARD
    with pytest.raises(DefinitionError, match=named):
        load(tmp_path, text)


def test_a_scenario_without_devices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"ward\.toml: no device"):
        load(tmp_path, "speed = 1\n")
