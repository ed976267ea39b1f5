"""A configuration is read whole, or the mistake is named where it stands."""

from __future__ import annotations

import os
import re
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


def test_what_is_not_configured_has_a_default(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert (config.max_spool_age_s, config.health_host, config.health_port) == (None, "127.0.0.1", None)
    assert config.brokers == (Broker("127.0.0.1", 1884),)
    assert config.devices[0].silence_s is None


def test_age_health_and_silence_are_settings(tmp_path: Path) -> None:
    text = GOOD.replace(
        'data = "spool"', 'data = "spool"\nmax_spool_age_s = 86400\nhealth_port = 9100\nhealth_host = "::1"'
    ).replace('port = "/dev/ttyUSB0"', 'port = "/dev/ttyUSB0"\nsilence_s = 3')
    config = load(tmp_path, text)
    assert (config.max_spool_age_s, config.health_host, config.health_port) == (86_400.0, "::1", 9100)
    assert [device.silence_s for device in config.devices] == [3.0, None, None]


def test_several_brokers_are_kept_in_their_order_with_one_login(tmp_path: Path) -> None:
    urls = '"mqtt://127.0.0.1", "mqtts://b:99"'
    config = load(tmp_path, GOOD.replace('broker = "mqtt://127.0.0.1:1884"', f"brokers = [{urls}]"), **LOGIN)
    login = {"username": "g1", "password": LOGIN["LAB_MQTT_PASSWORD"]}
    assert config.brokers == (Broker("127.0.0.1", 1883, **login), Broker("b", 99, tls=True, **login))
    assert config.broker == config.brokers[0]
    both = GOOD.replace("[clock]", 'brokers = ["mqtt://b"]\n[clock]')
    assert [str(broker) for broker in load(tmp_path, both).brokers] == [
        "mqtt://127.0.0.1:1884",
        "mqtt://b:1883",
    ]


ENROLMENT = """
identity = "lab/gateway-1"
host = "recorder"
brokers = ["mqtt://127.0.0.1", "mqtt://localhost"]
password = "secret"
"""

ENROLLED = '[gateway]\nenrolment = "gateway-1.enrolment"\ndata = "spool"\n'


def enrol(folder: Path, text: str = ENROLMENT, mode: int = 0o600) -> None:
    path = folder / "gateway-1.enrolment"
    path.write_text(text)
    path.chmod(mode)


def test_an_enrolment_says_who_the_gateway_is_and_where_it_logs_in(tmp_path: Path) -> None:
    enrol(tmp_path)
    config = load(tmp_path, ENROLLED, **LOGIN)
    assert (str(config.node), config.host) == ("lab/gateway-1", "recorder")
    login = {"username": "lab/gateway-1", "password": LOGIN["LAB_MQTT_PASSWORD"]}
    assert config.brokers == (Broker("127.0.0.1", 1883, **login), Broker("localhost", 1883, **login))
    assert "secret" not in repr(config)


def test_an_enrolments_login_serves_at_another_address(tmp_path: Path) -> None:
    enrol(tmp_path)
    config = load(tmp_path, ENROLLED + 'broker = "mqtts://moved:99"\nname = "gateway-1"')
    assert config.brokers == (
        Broker("moved", 99, tls=True, username="lab/gateway-1", password=LOGIN["LAB_MQTT_PASSWORD"]),
    )


def test_a_password_does_not_cross_a_network_in_the_clear(tmp_path: Path) -> None:
    expected = "expected mqtts:// because it must not cross a network in the clear"
    elsewhere = GOOD.replace("mqtt://127.0.0.1:1884", "mqtt://broker.lab")
    with pytest.raises(DefinitionError, match=rf"broker: a password for mqtt://broker.lab:1883, {expected}"):
        load(tmp_path, elsewhere, **LOGIN)
    assert load(tmp_path, elsewhere).broker == Broker("broker.lab", 1883)
    enrol(tmp_path)
    with pytest.raises(DefinitionError, match=expected):
        load(tmp_path, ENROLLED + 'broker = "mqtt://10.0.0.9"')
    for here in ("localhost", "127.0.0.2", "[::1]"):
        assert load(tmp_path, ENROLLED + f'broker = "mqtt://{here}"').broker.password == "secret"


@pytest.mark.parametrize(
    ("enrolment", "setting", "complaint"),
    [
        (ENROLMENT, 'name = "gateway-2"', "name='gateway-2', expected 'gateway-1' as enrolled"),
        (ENROLMENT, 'group = "ward"', "group='ward', expected 'lab' as enrolled"),
        (ENROLMENT, 'ca = "x.pem"', "ca beside enrolment, expected either"),
        (ENROLMENT.replace("lab/gateway-1", "lab"), "", "an enrolment of 'lab', expected a gateway's"),
        (ENROLMENT.replace("lab/gateway-1", "a/b/c"), "", "id 'b/c', expected"),
        (ENROLMENT.replace('password = "secret"', ""), "", "no certificate, expected an enrolment"),
        (
            re.sub("brokers = .*", "brokers = []", ENROLMENT),
            "",
            r"brokers=\[\], expected a list",
        ),
        (ENROLMENT.replace("mqtt://127.0.0.1", "http://a"), "", "'http://a', expected mqtt://"),
        ("identity", "", "expected an enrolment made by lab enrol"),
    ],
)
def test_an_enrolment_that_does_not_fit_is_refused(
    tmp_path: Path, enrolment: str, setting: str, complaint: str
) -> None:
    enrol(tmp_path, enrolment)
    with pytest.raises(DefinitionError, match=complaint) as caught:
        load(tmp_path, ENROLLED + setting)
    assert "secret" not in str(caught.value)


def test_an_enrolment_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"gateway-1\.enrolment: no such file"):
        load(tmp_path, ENROLLED)


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_a_secret_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    enrol(tmp_path, mode=0o604)
    with pytest.raises(DefinitionError, match=r"mode 604, expected .*: chmod 600 .*gateway-1\.enrolment"):
        load(tmp_path, ENROLLED)
    enrol(tmp_path, mode=0o640)
    assert load(tmp_path, ENROLLED).name == "gateway-1"


def test_certificate_files_are_looked_for_beside_the_configuration_and_must_be_usable(tmp_path: Path) -> None:
    text = GOOD.replace("mqtt://127.0.0.1:1884", "mqtts://127.0.0.1").replace(
        "[clock]", 'ca = "ca.pem"\n[clock]'
    )
    with pytest.raises(DefinitionError, match=rf"broker: {tmp_path}/ca\.pem: .*No such file"):
        load(tmp_path, text)
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(DefinitionError, match=rf"broker: {tmp_path}/ca\.pem: .*expected PEM"):
        load(tmp_path, text)


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
    ('data = "spool"', 'data = "spool"\nmax_spool_age_s = 0.5', r"max_spool_age_s=0.5, expected"),
    ('data = "spool"', 'data = "spool"\nhealth_port = 65536', r"health_port=65536, expected"),
    (
        'data = "spool"',
        'data = "spool"\nca = "x"',
        r"broker: a certificate for mqtt://.*expected an address mqtts",
    ),
    ('data = "spool"', 'data = "spool"\nkey = "x"', r"broker: key=.* without certificate, expected both"),
    ('data = "spool"', 'data = "spool"\nbrokers = [7]', r"\[gateway\]: brokers=\[7\], expected texts"),
    ('broker = "mqtt://127.0.0.1:1884"', "", r"\[gateway\]: no broker, expected an address or an enrolment"),
    ('port = "/dev/ttyUSB0"', 'port = "x"\nsilence_s = 0', r"'reference': silence_s=0.0, expected"),
    ('group = "lab"', 'group = "a/b"', r"\[gateway\]: group id 'a/b', expected"),
    ('name = "gateway-1"', "name = 7", r"\[gateway\]: name=7, expected a text"),
    ("[clock]", "[clck]", r"top level: unknown key 'clck', expected only clock, device, gateway"),
    ("speed = 20", "speed = 0", r"speed=0.0, expected"),
    ("speed = 20", "speed = nan", r"speed=nan, expected"),
    ("origin = 2026-01-01T00:00:00Z", "", r"\[clock\]: no origin at speed 20.0, expected"),
    (
        "origin = 2026-01-01T00:00:00Z",
        "origin = 2026-01-01T00:00:00",
        r"\[clock\]: origin 2026-01-01 00:00:00, expected a moment with its time zone",
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


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_a_key_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    for name in ("own.crt", "own.key"):
        (tmp_path / name).write_text("PEM")
        (tmp_path / name).chmod(0o644)
    text = GOOD.replace("mqtt://127.0.0.1:1884", "mqtts://127.0.0.1")
    text = text.replace("[clock]", 'certificate = "own.crt"\nkey = "own.key"\n[clock]')
    with pytest.raises(DefinitionError, match=r"own\.key: mode 644, expected"):
        load(tmp_path, text)
    (tmp_path / "own.key").chmod(0o600)
    with pytest.raises(DefinitionError, match=r"own\.crt: .*expected PEM that goes with its key"):
        load(tmp_path, text)
