"""A configuration is read whole, or the mistake is named where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Broker, DeviceConfig, GatewayConfig, load_config
from protocols.devices.kind import DeviceKind
from protocols.devices.registry import device_kind
from protocols.errors import DefinitionError

GOOD = """
[gateway]
group = "lab"
name = "gateway-1"
broker = "mqtt://127.0.0.1:1884"
data = "spool"

[clock]
speed = 20
origin = 2026-01-01T00:00:00Z

[[device]]
name = "reference"
kind = "nonin-7"
port = "/dev/ttyUSB0"

[[device]]
name = "dut"
kind = "pulse-oximeter"
address = "PLX 1"
adapter = "tcp-client:127.0.0.1:9401"

[[device]]
name = "prototype"
kind = "fablab"
port = "rfc2217://127.0.0.1:4000"
[device.options]
rate_hz = 360
channels = [{ name = "mlii", unit = "mV" }]
"""

LOGIN = {"LAB_MQTT_USERNAME": "g1", "LAB_MQTT_PASSWORD": "secret"}


def load(tmp_path: Path, text: str, **environment: str) -> GatewayConfig:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    return load_config(path, environment)


def test_a_whole_file_becomes_settings(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD, **LOGIN)
    assert str(config.node) == "lab/gateway-1"
    assert config.broker == Broker("127.0.0.1", 1884, username="g1", password=LOGIN["LAB_MQTT_PASSWORD"])
    assert config.data == tmp_path / "spool"
    assert (config.host, config.block_s, config.drain_s) == ("lab", 0.5, 5.0)
    assert (config.speed, config.origin_ns) == (20.0, 1_767_225_600_000_000_000)
    assert [d.name for d in config.devices] == ["reference", "dut", "prototype"]
    assert [d.kind.name for d in config.devices] == ["nonin-7", "pulse-oximeter", "fablab"]
    assert config.devices[1] == DeviceConfig(
        "dut", config.devices[1].kind, address="PLX 1", adapter="tcp-client:127.0.0.1:9401"
    )
    assert config.devices[2].kind.streams[0].rate_hz == 360


def test_a_password_never_shows(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD, **LOGIN)
    assert "secret" not in repr(config)


def test_without_clock_and_devices_lab_time_is_utc(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD.partition("[clock]")[0])
    assert (config.speed, config.origin_ns, config.devices) == (1.0, 0, ())


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("mqtt://broker.lab", Broker("broker.lab", 1883)),
        ("mqtts://broker.lab", Broker("broker.lab", 8883, tls=True)),
        ("mqtt://[::1]:99", Broker("::1", 99)),
    ],
)
def test_broker_addresses(url: str, broker: Broker) -> None:
    assert Broker.from_url(url) == broker


MISTAKES = [
    (
        'broker = "mqtt://127.0.0.1:1884"',
        'broker = "http://x"',
        r"\[gateway\]: broker: 'http://x', expected mqtt://",
    ),
    (
        'broker = "mqtt://127.0.0.1:1884"',
        'broker = "mqtt://x:99999"',
        r"broker: 'mqtt://x:99999', expected mqtt",
    ),
    ('broker = "mqtt://127.0.0.1:1884"', 'broker = "mqtt://me:pw@x"', r"credentials.*LAB_MQTT_USERNAME"),
    ('data = "spool"', "", r"\[gateway\]: no data, expected a text"),
    (
        'data = "spool"',
        'data = "spool"\ndta = 1',
        r"\[gateway\]: unknown key 'dta', expected only block_s, broker",
    ),
    ('data = "spool"', 'data = "spool"\nblock_s = "1"', r"\[gateway\]: block_s='1', expected a number"),
    ('data = "spool"', 'data = "spool"\nblock_s = true', r"\[gateway\]: block_s=True, expected a number"),
    ('data = "spool"', 'data = "spool"\nblock_s = 0', r"\[gateway\]: block_s=0.0, expected 0.01 to 60"),
    ('data = "spool"', 'data = "spool"\nmax_spool_bytes = 5', r"max_spool_bytes=5, expected"),
    ('group = "lab"', 'group = "a/b"', r"\[gateway\]: group id 'a/b', expected"),
    ('name = "gateway-1"', "name = 7", r"\[gateway\]: name=7, expected a text"),
    ("[clock]", "[clck]", r"top level: unknown key 'clck', expected only clock, device, gateway"),
    ("speed = 20", "speed = 0", r"speed=0.0, expected"),
    ("speed = 20", "speed = nan", r"speed=nan, expected"),
    ("origin = 2026-01-01T00:00:00Z", "", r"\[clock\]: speed=20.0 without origin"),
    (
        "origin = 2026-01-01T00:00:00Z",
        "origin = 2026-01-01T00:00:00",
        r"\[clock\]: origin=.*expected a time zone",
    ),
    ("origin = 2026-01-01T00:00:00Z", 'origin = "now"', r"\[clock\]: origin='now', expected a date and time"),
    ('kind = "nonin-7"', 'kind = "nonin-8"', r"\[\[device\]\] 'reference': kind='nonin-8'.*expected one of"),
    ('kind = "nonin-7"', "", r"\[\[device\]\] 'reference': no kind, expected a text"),
    ('name = "reference"', "", r"\[\[device\]\] 1: no name, expected a text"),
    ('name = "reference"', 'name = "a b"', r"\[\[device\]\] 'a b': device name 'a b', expected"),
    ('name = "reference"', 'name = "dut"', r"2 devices named 'dut', expected different names"),
    ('port = "/dev/ttyUSB0"', "", r"'reference': no port, expected one because nonin-7 is reached by it"),
    ('port = "/dev/ttyUSB0"', 'prt = "/dev/ttyUSB0"', r"'reference': unknown key 'prt'"),
    ('address = "PLX 1"', "", r"'dut': no address, expected one because pulse-oximeter"),
    (
        'address = "PLX 1"',
        'address = "PLX 1"\nport = "x"',
        r"'dut': port='x', expected none for a pulse-oximeter",
    ),
    ("rate_hz = 360", "", r"'prototype': kind='fablab': no rate_hz"),
    ("rate_hz = 360", 'rate_hz = "fast"', r"'prototype': kind='fablab': rate_hz='fast'"),
    ("rate_hz = 360", "rate_hz = 360\nrat = 1", r"'prototype': kind='fablab': option 'rat'"),
    ("[gateway]", "[gateway", r"expected a TOML file"),
    ("[[device]]", "[device]", r"device="),
]


@pytest.mark.parametrize(("before", "after", "complaint"), MISTAKES, ids=[m[2][:50] for m in MISTAKES])
def test_a_mistake_is_named_with_file_place_value_and_expectation(
    tmp_path: Path, before: str, after: str, complaint: str
) -> None:
    assert before in GOOD
    text = GOOD.replace(before, after, 1)
    if after == "[device]":
        text = GOOD.partition("[[device]]")[0] + '[device]\nname = "x"\n'
    with pytest.raises(DefinitionError, match=complaint) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "gateway.toml"))
    assert "expected" in str(caught.value)
    assert "pw" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"absent\.toml: no such file"):
        load_config(tmp_path / "absent.toml", {})


def test_settings_made_in_code_are_checked_as_well(kind: DeviceKind) -> None:
    with pytest.raises(DefinitionError, match="no port"):
        DeviceConfig("dut", kind)
    with pytest.raises(DefinitionError, match="no address"):
        DeviceConfig("dut", device_kind("pulse-oximeter"))
