"""What is to be simulated: subjects, the devices on them and their links, from a TOML file or a command line.

::

    speed = 10                      # lab seconds per second
    hci_port = 9000                 # where gateways reach the BLE devices; 0 or absent: any free port

    [[subject]]
    name = "S01"
    seed = 1
    desaturation = { n_plateaus = 6, plateau_s = 40.0 }    # or sao2_percent = 98.0

    [[device]]
    kind = "nonin-7"
    name = "reference"
    subject = "S01"
    link = "rfc2217"                # pty, rfc2217; BLE kinds: ble
    oximeter = "reference"          # reference, good, poor, or a table of its errors

    [[device]]
    kind = "fablab"
    replay = "mitdb/100"            # a WFDB record, from the folder of this file
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from firmware_sim.catalogue import DEFAULT_OPTIONS, Setup, simulated_device
from firmware_sim.device import SimulatedDevice
from firmware_sim.replay import REPLAYABLE, read_wfdb, replay_as
from firmware_sim.signals.desaturation import (
    SaturationProfile,
    constant_saturation,
    controlled_desaturation,
)
from firmware_sim.signals.oximeter import GOOD, MODELS, OximeterModel
from firmware_sim.signals.subject import Subject
from protocols.devices.kind import BleLink
from protocols.devices.registry import device_kind
from protocols.errors import DefinitionError

SERIAL_LINKS: Final = ("pty", "rfc2217")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SubjectSettings:
    """A subject by name: its seed, and its saturation as one value or as a desaturation study."""

    name: str
    seed: int = 0
    sao2_percent: float = 98.0
    desaturation: Mapping[str, Any] | None = None
    resting_bpm: float | None = None
    variability: float = 0.04

    def make(self) -> Subject:
        """Return the subject."""
        return Subject(
            self.seed, self._saturation(), resting_bpm=self.resting_bpm, variability=self.variability
        )

    def _saturation(self) -> SaturationProfile:
        if self.desaturation is None:
            return constant_saturation(self.sao2_percent)
        parameters = inspect.signature(controlled_desaturation).parameters.values()
        types = {p.name: type(p.default) for p in parameters if p.name != "seed"}
        _check_keys("desaturation", self.desaturation, list(types))
        _check_types("desaturation", self.desaturation, types)
        return controlled_desaturation(self.seed, **self.desaturation)


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """A device: its kind and link, and either the subject that wears it or the record that it replays."""

    kind: str
    name: str = ""
    link: str = ""
    port: int = 0
    subject: str = ""
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    oximeter: OximeterModel = GOOD
    snr_db: float = 26.0
    drift_ppm: float = 0.0
    boot: int = 1
    replay: Path | None = None

    def __post_init__(self) -> None:
        kind = device_kind(self.kind, self.options or DEFAULT_OPTIONS.get(self.kind, {}))
        links = ("ble",) if isinstance(kind.link, BleLink) else SERIAL_LINKS
        if not self.link:
            object.__setattr__(self, "link", links[-1])
        if self.link not in links:
            raise DefinitionError(f"link={self.link!r} of {self.kind}, expected one of {list(links)}")
        if self.replay is not None and self.kind not in REPLAYABLE:
            raise DefinitionError(f"replay as {self.kind}, expected one of {sorted(REPLAYABLE)}")
        if not 0 <= self.port < 1 << 16:
            raise DefinitionError(f"port={self.port!r}, expected 0 to 65535")
        if self.port and self.link != "rfc2217":
            raise DefinitionError(f"port={self.port!r} with link {self.link}, expected one with rfc2217 only")


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything one simulator process serves.

    Raises
    ------
    DefinitionError
        If there is no device, two devices have one name, or a device's subject is not there.
    """

    devices: tuple[DeviceSettings, ...]
    subjects: tuple[SubjectSettings, ...] = ()
    speed: float = 1.0
    hci_port: int = 0

    def __post_init__(self) -> None:
        if not self.devices:
            raise DefinitionError("no device, expected at least 1")
        if not 1e-3 <= self.speed <= 1e4:
            raise DefinitionError(f"speed={self.speed!r}, expected 0.001 to 10000")
        if not 0 <= self.hci_port < 1 << 16:
            raise DefinitionError(f"hci_port={self.hci_port!r}, expected 0 to 65535")
        names = [subject.name for subject in self.subjects]
        if len(set(names)) != len(names):
            raise DefinitionError(f"subjects {names}, expected different names")
        for device in self.devices:
            if device.replay is None and device.subject and device.subject not in names:
                raise DefinitionError(f"subject={device.subject!r} of {device.kind}, expected one of {names}")

    def make_devices(self) -> list[SimulatedDevice]:
        """Return the devices in order; those of one subject share it.

        Raises
        ------
        DefinitionError
            If two devices have one name, or one cannot be made.
        StoreError, DecodeError
            If a record cannot be replayed.
        """
        subjects = {subject.name: subject.make() for subject in self.subjects}
        devices = [_make_device(settings, subjects) for settings in self.devices]
        names = [device.name for device in devices]
        if len(set(names)) != len(names):
            raise DefinitionError(f"devices {names}, expected different names")
        return devices


def load_scenario(path: Path) -> Scenario:
    """Return the scenario of a TOML file.

    Raises
    ------
    DefinitionError
        If it cannot be read or anything in it is wrong; names file, table and key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DefinitionError(f"{path}: {error}, expected a scenario in TOML") from error
    try:
        return _parse(document, path.parent)
    except DefinitionError as error:
        raise DefinitionError(f"{path}: {error}") from error


def _parse(document: Mapping[str, Any], folder: Path) -> Scenario:
    _check_keys("the file", document, ["speed", "hci_port", "subject", "device"])
    subjects = _tables(document, "subject", lambda table: SubjectSettings(**_settings(SubjectSettings, table)))
    devices = _tables(document, "device", lambda table: _parse_device(table, folder))
    others = {name: document[name] for name in ("speed", "hci_port") if name in document}
    _check_types("the file", others, {"speed": float, "hci_port": int})
    return Scenario(tuple(devices), tuple(subjects), **others)


def _parse_device(table: Mapping[str, Any], folder: Path) -> DeviceSettings:
    table = dict(table)
    replay, oximeter = table.pop("replay", None), table.pop("oximeter", "good")
    _check_types("a device", {"replay": replay or ""}, {"replay": str})
    return DeviceSettings(
        **_settings(DeviceSettings, table),
        replay=None if replay is None else folder / replay,
        oximeter=_oximeter(oximeter),
    )


def _oximeter(value: object) -> OximeterModel:
    if isinstance(value, str) and value in MODELS:
        return MODELS[value]
    if isinstance(value, Mapping):
        return OximeterModel(**_settings(OximeterModel, value))
    raise DefinitionError(f"oximeter={value!r}, expected one of {sorted(MODELS)} or a table of its errors")


def _make_device(settings: DeviceSettings, subjects: Mapping[str, Subject]) -> SimulatedDevice:
    if settings.replay is not None:
        recording = read_wfdb(settings.replay)
        return replay_as(recording, settings.kind, name=settings.name, drift_ppm=settings.drift_ppm)
    setup = Setup(
        subject=subjects[settings.subject] if settings.subject else Subject(settings.seed),
        name=settings.name,
        seed=settings.seed,
        options=settings.options,
        oximeter=settings.oximeter,
        snr_db=settings.snr_db,
        drift_ppm=settings.drift_ppm,
        boot=settings.boot,
    )
    return simulated_device(settings.kind, setup)


_TYPES: Final[Mapping[str, type]] = {
    "str": str,
    "int": int,
    "float": float,
    "float | None": float,
    "Mapping[str, Any]": dict,
    "Mapping[str, Any] | None": dict,
}


def _settings(record: Any, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table whose keys and types are those of a record of settings."""
    types = {item.name: _TYPES[str(item.type)] for item in fields(record) if str(item.type) in _TYPES}
    what = record.__name__.removesuffix("Settings").lower()
    _check_keys(what, table, list(types))
    _check_types(what, table, types)
    missing = [name for name in ("kind",) if name in types and name not in table]
    missing += ["name"] if record is SubjectSettings and "name" not in table else []
    if missing:
        raise DefinitionError(f"no {missing[0]} in {what}, expected one")
    return dict(table)


def _tables(document: Mapping[str, Any], name: str, make: Callable[[Mapping[str, Any]], _T]) -> list[_T]:
    tables = document.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise DefinitionError(f"{name}={tables!r}, expected tables [[{name}]]")
    made = []
    for number, table in enumerate(tables, start=1):
        try:
            made.append(make(table))
        except DefinitionError as error:
            raise DefinitionError(f"[[{name}]] number {number}: {error}") from error
    return made


def _check_keys(where: str, table: Mapping[str, Any], known: list[str]) -> None:
    for key in table:
        if key not in known:
            raise DefinitionError(f"{key!r} in {where}, expected one of {sorted(known)}")


def _check_types(where: str, table: Mapping[str, Any], types: Mapping[str, type]) -> None:
    for key, value in table.items():
        wanted = (int, float) if types[key] is float else types[key]
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise DefinitionError(f"{key}={value!r} in {where}, expected {types[key].__name__}")
