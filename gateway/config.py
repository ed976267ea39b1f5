"""A gateway's configuration: one TOML file, read once into frozen settings.

Every mistake is answered by a `DefinitionError` that names file, table, key, value and what was expected.
Credentials of the broker come from the environment, never from the file.
"""

from __future__ import annotations

import datetime
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from protocols.devices.kind import BleLink, DeviceKind
from protocols.devices.registry import device_kind
from protocols.errors import DefinitionError
from protocols.samples import check_device_name
from protocols.sparkplug.topics import NodeId, check_id

USERNAME_VARIABLE: Final = "LAB_MQTT_USERNAME"
PASSWORD_VARIABLE: Final = "LAB_MQTT_PASSWORD"  # noqa: S105 - the name of a variable

_DEFAULT_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the MQTT broker listens, and as whom to log in."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"

    @classmethod
    def from_url(cls, url: str, *, username: str | None = None, password: str | None = None) -> Broker:
        """Return the broker at `mqtt://host[:port]` or `mqtts://host[:port]`.

        Raises
        ------
        DefinitionError
            If the address is anything else, or carries credentials.
        """
        expected = "expected mqtt://host[:port] or mqtts://host[:port]"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise DefinitionError(f"{url!r}, {expected} ({error})") from error
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
            raise DefinitionError(f"{url!r}, {expected}")
        if parts.username or parts.password:
            raise DefinitionError(
                f"an address with credentials, {expected}; set {USERNAME_VARIABLE} and {PASSWORD_VARIABLE}"
            )
        port = port or _DEFAULT_PORTS[parts.scheme]
        return cls(parts.hostname, port, parts.scheme == "mqtts", username or None, password or None)


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
    """

    name: str
    kind: DeviceKind
    port: str | None = None
    address: str | None = None
    adapter: str = ""

    def __post_init__(self) -> None:
        check_device_name(self.name)
        wanted, other = ("address", "port") if isinstance(self.kind.link, BleLink) else ("port", "address")
        if not getattr(self, wanted):
            raise DefinitionError(f"no {wanted}, expected one because {self.kind.name} is reached by it")
        if getattr(self, other) is not None:
            raise DefinitionError(f"{other}={getattr(self, other)!r}, expected none for a {self.kind.name}")


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """All settings of one gateway.

    Parameters
    ----------
    group, name
        Its Sparkplug group and edge node id.
    broker
        Where it publishes.
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

    def __post_init__(self) -> None:
        NodeId(self.group, self.name)
        check_id("host", self.host)
        _check_between("block_s", self.block_s, 0.01, 60)
        _check_between("drain_s", self.drain_s, 0, 3600)
        _check_between("max_spool_bytes", self.max_spool_bytes, 1 << 20, 1 << 50)
        _check_between("speed", self.speed, 1e-3, 1e4)
        names = [device.name for device in self.devices]
        for name in names:
            if names.count(name) > 1:
                raise DefinitionError(f"{names.count(name)} devices named {name!r}, expected different names")

    @property
    def node(self) -> NodeId:
        """Its identity on the wire."""
        return NodeId(self.group, self.name)


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
    return gateway.build(
        GatewayConfig,
        group=gateway.take("group", str),
        name=gateway.take("name", str),
        broker=gateway.take_broker("broker", environment),
        data=folder / gateway.take("data", str),
        devices=devices,
        host=gateway.take("host", str, "lab"),
        block_s=gateway.take("block_s", float, 0.5),
        drain_s=gateway.take("drain_s", float, 5.0),
        max_spool_bytes=gateway.take("max_spool_bytes", int, 4 << 30),
        speed=speed,
        origin_ns=origin_ns,
    )


def _parse_clock(clock: _Table) -> tuple[float, int]:
    speed = clock.take("speed", float, 1.0)
    origin = clock.take("origin", datetime.datetime, None)
    clock.end()
    if origin is None:
        if speed != 1:
            raise DefinitionError(f"[clock]: speed={speed!r} without origin, expected the UTC where it starts")
        return speed, 0
    if origin.tzinfo is None:
        raise DefinitionError(f"[clock]: origin={origin.isoformat()}, expected a time zone such as Z")
    since = origin - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return speed, (since // datetime.timedelta(microseconds=1)) * 1000


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

    def take_broker(self, key: str, environment: Mapping[str, str]) -> Broker:
        """Return the broker that a URL names."""
        url = self.take(key, str)
        username, password = environment.get(USERNAME_VARIABLE), environment.get(PASSWORD_VARIABLE)
        try:
            return Broker.from_url(url, username=username, password=password)
        except DefinitionError as error:
            raise DefinitionError(f"{self.where}: {key}: {error}") from error

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
