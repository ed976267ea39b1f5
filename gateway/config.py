"""A gateway's configuration: one TOML file, read once into frozen settings.

Every mistake is answered by a `DefinitionError` that names file, table, key, value and what was expected.
Credentials of the broker come from an enrolment or from the environment, never from this file.
"""

from __future__ import annotations

import datetime
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.broker import PASSWORD_VARIABLE, USERNAME_VARIABLE, Broker, Enrolment, load_enrolment
from protocols.devices.kind import BleLink, DeviceKind
from protocols.devices.registry import device_kind
from protocols.errors import DefinitionError
from protocols.lab_clock import parse_origin_ns
from protocols.samples import check_device_name
from protocols.sparkplug.topics import NodeId, check_id

__all__ = ["PASSWORD_VARIABLE", "USERNAME_VARIABLE", "Broker", "DeviceConfig", "GatewayConfig", "load_config"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """One device: `port` is set for a serial kind, `address` for a BLE kind.

    Parameters
    ----------
    name
        Unique at its gateway.
    kind
        What it is.
    port
        A pyserial URL.
    address
        BLE address or advertised name.
    adapter
        Which BLE radio; empty for the platform's own.
    silence_s
        Lab seconds without a frame after which a connected device counts as silent; None for its kind's own.
    """

    name: str
    kind: DeviceKind
    port: str | None = None
    address: str | None = None
    adapter: str = ""
    silence_s: float | None = None

    def __post_init__(self) -> None:
        check_device_name(self.name)
        wanted, other = ("address", "port") if isinstance(self.kind.link, BleLink) else ("port", "address")
        if not getattr(self, wanted):
            raise DefinitionError(f"no {wanted}, expected one because {self.kind.name} is reached by it")
        if getattr(self, other) is not None:
            raise DefinitionError(f"{other}={getattr(self, other)!r}, expected none for a {self.kind.name}")
        if self.silence_s is not None:
            _check_between("silence_s", self.silence_s, 0.1, 86_400)


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """All settings of one gateway.

    Parameters
    ----------
    group, name
        Its Sparkplug group and edge node id.
    broker
        Where it publishes.
    other_brokers
        Where it goes in turn while that one is not reached, or its host application is not there.
    data
        Folder of its spool.
    devices
        What it listens to; the names differ.
    host
        Id of the Sparkplug primary host application.
    block_s
        Longest real time for which samples wait to become a block.
    drain_s
        Longest real time for which a clean stop waits until the recorder has everything.
    max_spool_bytes
        Beyond this much backlog further blocks are refused and counted.
    max_spool_age_s
        Real age beyond which the oldest of the backlog is given up and declared a gap; None to keep it.
    health_host, health_port
        Where its state is served; None to serve it nowhere, 0 for any free port.
    speed, origin_ns
        Of lab time, see `LabClock`.
    """

    group: str
    name: str
    broker: Broker
    data: Path
    devices: tuple[DeviceConfig, ...]
    host: str = "lab"
    block_s: float = 0.5
    drain_s: float = 5.0
    max_spool_bytes: int = 4 << 30
    speed: float = 1.0
    origin_ns: int = 0
    other_brokers: tuple[Broker, ...] = ()
    max_spool_age_s: float | None = None
    health_host: str = "127.0.0.1"
    health_port: int | None = None

    def __post_init__(self) -> None:
        NodeId(self.group, self.name)
        check_id("host", self.host)
        _check_between("block_s", self.block_s, 0.01, 60)
        _check_between("drain_s", self.drain_s, 0, 3600)
        _check_between("max_spool_bytes", self.max_spool_bytes, 1 << 20, 1 << 50)
        _check_between("speed", self.speed, 1e-3, 1e4)
        if self.max_spool_age_s is not None:
            _check_between("max_spool_age_s", self.max_spool_age_s, 1, 1e9)
        if self.health_port is not None:
            _check_between("health_port", self.health_port, 0, 65_535)
        names = [device.name for device in self.devices]
        for name in names:
            if names.count(name) > 1:
                raise DefinitionError(f"{names.count(name)} devices named {name!r}, expected different names")

    @property
    def node(self) -> NodeId:
        """Its identity on the wire."""
        return NodeId(self.group, self.name)

    @property
    def brokers(self) -> tuple[Broker, ...]:
        """All servers, the preferred one first."""
        return (self.broker, *self.other_brokers)


def load_config(path: Path, environment: Mapping[str, str]) -> GatewayConfig:
    """Return the settings in the file at `path`.

    Raises
    ------
    DefinitionError
        Names the file, the table, the key, the value and what was expected.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DefinitionError(f"{path}: no such file, expected a gateway configuration") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DefinitionError(f"{path}: {error}, expected a TOML file") from error
    try:
        return _parse(document, path.parent, environment)
    except DefinitionError as error:
        raise DefinitionError(f"{path}: {error}") from error


def _parse(document: Mapping[str, Any], folder: Path, environment: Mapping[str, str]) -> GatewayConfig:
    root = _Table("top level", document)
    gateway = _Table("[gateway]", root.take("gateway", dict))
    clock = _Table("[clock]", root.take("clock", dict, {}))
    device_tables = root.take("device", list, [])
    root.end()
    speed, origin_ns = _parse_clock(clock)
    devices = tuple(_parse_device(i, table) for i, table in enumerate(device_tables, start=1))
    enrolment, enrolled = _parse_enrolment(gateway, folder)
    broker, *others = _parse_brokers(gateway, folder, environment, enrolment)
    return gateway.build(
        GatewayConfig,
        group=gateway.take_agreeing("group", enrolled),
        name=gateway.take_agreeing("name", enrolled),
        broker=broker,
        other_brokers=tuple(others),
        data=folder / gateway.take("data", str),
        devices=devices,
        host=gateway.take("host", str, enrolled.get("host", "lab")),
        block_s=gateway.take("block_s", float, 0.5),
        drain_s=gateway.take("drain_s", float, 5.0),
        max_spool_bytes=gateway.take("max_spool_bytes", int, 4 << 30),
        max_spool_age_s=gateway.take("max_spool_age_s", float, None),
        health_host=gateway.take("health_host", str, "127.0.0.1"),
        health_port=gateway.take("health_port", int, None),
        speed=speed,
        origin_ns=origin_ns,
    )


def _parse_enrolment(gateway: _Table, folder: Path) -> tuple[Enrolment | None, dict[str, str]]:
    """Return the enrolment that is named, and what it says of this gateway."""
    file = gateway.take("enrolment", str, None)
    if file is None:
        return None, {}
    try:
        enrolment = load_enrolment(folder / file)
        node = enrolment.node
    except DefinitionError as error:
        raise DefinitionError(f"{gateway.where}: enrolment: {error}") from error
    return enrolment, {"group": node.group, "name": node.name, "host": enrolment.host}


def _parse_brokers(
    gateway: _Table, folder: Path, environment: Mapping[str, str], enrolment: Enrolment | None
) -> tuple[Broker, ...]:
    """Return the servers that `broker`, `brokers` or the enrolment name, with the login to use there."""
    one, several = gateway.take("broker", str, None), gateway.take("brokers", list, [])
    files = {key: gateway.take(key, str, None) for key in ("ca", "certificate", "key")}
    paths = {key: folder / file for key, file in files.items() if file is not None}
    urls = [*([] if one is None else [one]), *several]
    if not all(isinstance(url, str) for url in urls):
        raise DefinitionError(f"{gateway.where}: brokers={several!r}, expected texts")
    if enrolment is not None and paths:
        raise DefinitionError(f"{gateway.where}: {next(iter(paths))} beside enrolment, expected either")
    if enrolment is None and not urls:
        raise DefinitionError(f"{gateway.where}: no broker, expected an address or an enrolment")
    login = {"username": environment.get(USERNAME_VARIABLE), "password": environment.get(PASSWORD_VARIABLE)}
    try:
        if enrolment is None:
            brokers = tuple(replace(Broker.from_url(url, **login), **paths) for url in urls)
        else:
            brokers = tuple(enrolment.brokers[0].moved_to(url) for url in urls) or enrolment.brokers
        for broker in brokers:
            broker.tls_context()
    except DefinitionError as error:
        raise DefinitionError(f"{gateway.where}: broker: {error}") from error
    return brokers


def _parse_clock(clock: _Table) -> tuple[float, int]:
    speed = clock.take("speed", float, 1.0)
    origin = clock.take("origin", datetime.datetime, None)
    clock.end()
    try:
        return speed, parse_origin_ns("origin", origin, speed)
    except DefinitionError as error:
        raise DefinitionError(f"[clock]: {error}") from error


def _parse_device(number: int, values: object) -> DeviceConfig:
    where = f"[[device]] {number}"
    if not isinstance(values, dict):
        raise DefinitionError(f"device={values!r}, expected tables [[device]]")
    table = _Table(where, values)
    name = table.take("name", str)
    table.where = f"[[device]] {name!r}"
    kind_name = table.take("kind", str)
    options = table.take("options", dict, {})
    try:
        kind = device_kind(kind_name, options)
    except DefinitionError as error:
        raise DefinitionError(f"{table.where}: kind={kind_name!r}: {error}") from error
    return table.build(
        DeviceConfig,
        name=name,
        kind=kind,
        port=table.take("port", str, None),
        address=table.take("address", str, None),
        adapter=table.take("adapter", str, ""),
        silence_s=table.take("silence_s", float, None),
    )


@dataclass(slots=True)
class _Table:
    """A TOML table whose keys are taken one by one; what is left over at the end is unknown."""

    where: str
    values: Mapping[str, Any]
    taken: set[str] = field(default_factory=set)

    def take(self, key: str, kind: type[Any], default: Any = ...) -> Any:
        """Return a value of the given type; an integer serves as a float, a boolean never as a number."""
        self.taken.add(key)
        if key not in self.values:
            if default is ...:
                raise DefinitionError(f"{self.where}: no {key}, expected {_NAMES[kind]}")
            return default
        value = self.values[key]
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise DefinitionError(f"{self.where}: {key}={value!r}, expected {_NAMES[kind]}")
        return value

    def take_agreeing(self, key: str, known: Mapping[str, str]) -> str:
        """Return a text that the enrolment knows as well; it may be left out then, but not differ."""
        value: str = self.take(key, str, known.get(key, ...))
        if value != known.get(key, value):
            raise DefinitionError(f"{self.where}: {key}={value!r}, expected {known[key]!r} as enrolled")
        return value

    def build(self, record: type[_T], **settings: Any) -> _T:
        """Return the record; its complaints are placed at this table, and no key may be left over."""
        self.end()
        try:
            return record(**settings)
        except DefinitionError as error:
            raise DefinitionError(f"{self.where}: {error}") from error

    def end(self) -> None:
        """Raise DefinitionError if a key was not taken."""
        unknown = sorted(set(self.values) - self.taken)
        if unknown:
            known = ", ".join(sorted(self.taken))
            raise DefinitionError(f"{self.where}: unknown key {unknown[0]!r}, expected only {known}")


_NAMES: Final[Mapping[type, str]] = {
    str: "a text",
    float: "a number",
    int: "a whole number",
    dict: "a table",
    list: "tables",
    datetime.datetime: "a date and time",
}


def _check_between(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise DefinitionError(f"{name}={value!r}, expected {low:g} to {high:g}")
