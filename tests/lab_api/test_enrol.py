"""`lab enrol` as an operator uses it."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.broker import load_enrolment
from gateway.config import load_config
from lab_api import cli
from lab_api.bridge.accounts import check_identity, covers, hash_password, is_password, permissions
from lab_api.bridge.folder import BrokerFolder
from protocols.errors import DefinitionError, StoreError

SECRET = re.compile(r"password = \"(.+)\"|BEGIN PRIVATE KEY")


@pytest.fixture
def enrol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs `lab enrol` in an empty folder; returns the exit code and all that it said."""
    monkeypatch.setattr(cli, "ROOMS", ("lab_api.enrol",))
    monkeypatch.setenv("LAB_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        code = cli.main(["enrol", *arguments])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.mark.parametrize("url", ["mqtt://127.0.0.1:1883", "mqtts://broker.lab"])
def test_one_command_makes_a_file_that_a_gateways_configuration_refers_to(
    tmp_path: Path, enrol: Callable[..., tuple[int, str]], url: str
) -> None:
    code, said = enrol("lab/gateway-1", "--broker", url)
    assert code == 0
    assert "gateway-1.enrolment" in said
    (tmp_path / "gateway.toml").write_text(
        '[gateway]\nenrolment = "gateway-1.enrolment"\ndata = "spool"\n', encoding="utf-8"
    )
    config = load_config(tmp_path / "gateway.toml", {})
    assert (str(config.node), config.host) == ("lab/gateway-1", "lab")
    assert str(config.broker) == (url if "1883" in url else f"{url}:8883")
    assert config.broker.tls == url.startswith("mqtts")


@pytest.mark.parametrize("url", ["mqtt://127.0.0.1:1883", "mqtts://broker.lab"])
def test_secrets_are_read_by_their_owner_alone_and_never_said(
    tmp_path: Path, enrol: Callable[..., tuple[int, str]], url: str
) -> None:
    _, said = enrol("lab/gateway-1", "--broker", url)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    assert stat.S_IMODE((tmp_path / "data/broker").stat().st_mode) == 0o700
    enrolment = (tmp_path / "gateway-1.enrolment").read_text()
    secret = SECRET.search(enrolment)
    assert secret is not None
    assert "PRIVATE KEY" not in said
    if password := secret[1]:
        assert len(password) >= 43
        elsewhere = [p for p in written if p.name != "gateway-1.enrolment" and password in p.read_text()]
        assert elsewhere == []
        assert password not in said
    else:
        key = enrolment.partition("BEGIN PRIVATE KEY")[2]
        assert all(key not in path.read_text() for path in written if path.name != "gateway-1.enrolment")


def test_who_is_enrolled_is_listed_until_revoked(enrol: Callable[..., tuple[int, str]]) -> None:
    enrol("lab/gateway-1", "--broker", "mqtts://broker.lab")
    enrol("ward/gateway-1", "--out", "ward.enrolment")
    _, listed = enrol("--list")
    assert [line.split()[0] for line in listed.splitlines()] == ["lab", "lab/gateway-1", "ward/gateway-1"]
    assert all("certificate until 20" in line for line in listed.splitlines())
    code, said = enrol("lab/gateway-1", "--revoke")
    assert code == 0
    assert "lab/gateway-1 is revoked" in said
    assert "lab/gateway-1" not in enrol("--list")[1]
    assert enrol("lab/gateway-1", "--revoke") == (
        2,
        "lab: 'lab/gateway-1' is not enrolled, expected one of lab, ward/gateway-1\n",
    )


def test_enrolling_again_ends_the_earlier_login(tmp_path: Path, enrol: Callable[..., tuple[int, str]]) -> None:
    enrol("lab/gateway-1", "--broker", "mqtt://127.0.0.1")
    first = load_enrolment(tmp_path / "gateway-1.enrolment").brokers[0].password
    enrol("lab/gateway-1")
    second = load_enrolment(tmp_path / "gateway-1.enrolment").brokers[0].password
    lines = (tmp_path / "data/broker/passwords").read_text().splitlines()
    (kept,) = [line.removeprefix("lab/gateway-1:") for line in lines if line.startswith("lab/gateway-1:")]
    assert first is not None
    assert second is not None
    assert is_password(second, kept)
    assert not is_password(first, kept)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "expected a gateway to enrol"),
        (("lab/gateway-1", "--list"), "expected a gateway to enrol"),
        (("--revoke",), "expected a gateway to enrol"),
        (("lab/gate way",), "identity 'lab/gate way', expected group/name"),
        (("lab/a/b",), "identity 'lab/a/b', expected group/name"),
        (("lab/" + "x" * 61,), "at most 64 characters"),
        (("somebody",), "identity 'somebody', expected group/name or the host 'lab'"),
        (("lab/g", "--broker", "mqtt://broker.lab"), "expected mqtts:// because passwords must not cross"),
        (
            ("lab/g", "--broker", "mqtts://a", "--broker", "mqtt://127.0.0.1"),
            "expected all mqtts:// or all mqtt://",
        ),
        (("lab/g", "--broker", "http://a"), "expected mqtt://"),
        (("lab/g", "--out", "absent/x.enrolment"), "absent/x.enrolment cannot be written"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    enrol: Callable[..., tuple[int, str]], arguments: tuple[str, ...], sentence: str
) -> None:
    code, said = enrol(*arguments)
    assert code != 0
    assert sentence in said.splitlines()[-1]


def test_without_a_broker_folder_there_is_nobody_to_list_or_revoke(
    enrol: Callable[..., tuple[int, str]],
) -> None:
    for arguments in (("--list",), ("lab/gateway-1", "--revoke")):
        code, said = enrol(*arguments)
        assert code == 1
        assert "expected a folder made by lab enrol" in said


def test_a_broker_moves_to_another_address_but_not_to_another_kind_of_login(
    tmp_path: Path, enrol: Callable[..., tuple[int, str]]
) -> None:
    enrol("lab/gateway-1", "--broker", "mqtts://broker.lab")
    before = (tmp_path / "data/broker/server.crt").read_text()
    _, said = enrol("lab/gateway-2", "--broker", "mqtts://broker.lab", "--broker", "mqtts://10.0.0.9")
    assert "start it again" not in said
    code, said = enrol("lab/gateway-2", "--broker", "mqtts://broker.lab", "--broker", "mqtts://10.0.0.9:8884")
    assert (code, "start it again" in said) == (0, True)
    assert (tmp_path / "data/broker/server.crt").read_text() != before
    brokers = load_enrolment(tmp_path / "gateway-2.enrolment").brokers
    assert [str(broker) for broker in brokers] == ["mqtts://broker.lab:8883", "mqtts://10.0.0.9:8884"]
    configuration = (tmp_path / "data/broker/mosquitto.conf").read_text()
    assert re.findall(r"^listener (\d+)", configuration, re.MULTILINE) == ["8883", "8884"]
    code, said = enrol("lab/gateway-3", "--broker", "mqtt://127.0.0.1")
    assert (code, "or another folder" in said) == (2, True)


def test_what_is_in_the_way_of_an_enrolment_is_kept(
    tmp_path: Path, enrol: Callable[..., tuple[int, str]]
) -> None:
    enrol("lab/gateway-1", "--broker", "mqtts://broker.lab")
    for path in (tmp_path / "gateway-1.enrolment", tmp_path / "data/broker/authority.key"):
        before = path.read_text()
        code, said = enrol("ward/gateway-1", "--out", str(path))
        assert (code, "is there already and is" in said, "another --out" in said) == (2, True, True)
        assert path.read_text() == before
    assert "ward/gateway-1" not in enrol("--list")[1]
    assert enrol("ward/gateway-1", "--out", "ward.enrolment")[0] == 0


def test_an_enrolment_that_cannot_be_put_in_its_place_leaves_no_secret(
    tmp_path: Path, enrol: Callable[..., tuple[int, str]]
) -> None:
    (tmp_path / "folder").mkdir()
    code, said = enrol("lab/gateway-1", "--out", "folder")
    assert (code, "cannot be written" in said) == (1, True)
    assert list(tmp_path.glob("*.partial")) == []


def test_a_symlink_in_the_place_of_an_enrolment_is_not_followed(
    tmp_path: Path, enrol: Callable[..., tuple[int, str]]
) -> None:
    (tmp_path / "gateway-1.enrolment").symlink_to(tmp_path / "elsewhere")
    assert enrol("lab/gateway-1")[0] == 0
    assert not (tmp_path / "gateway-1.enrolment").is_symlink()
    assert not (tmp_path / "elsewhere").exists()


def test_a_revocation_that_came_half_way_is_finished_by_the_next(
    tmp_path: Path, enrol: Callable[..., tuple[int, str]]
) -> None:
    enrol("lab/gateway-1", "--broker", "mqtts://broker.lab")
    folder = tmp_path / "data/broker"
    half = {name: (folder / name).read_text() for name in ("permissions", "revoked.crl")}
    enrol("lab/gateway-1", "--revoke")
    for name, text in half.items():
        (folder / name).write_text(text)
    code, said = enrol("lab/gateway-1", "--revoke")
    assert (code, "is not enrolled" in said) == (2, True)
    assert "gateway-1" not in (folder / "permissions").read_text()
    assert (folder / "revoked.crl").read_text() != half["revoked.crl"]


@pytest.mark.parametrize("url", ["mqtt://127.0.0.1", "mqtts://broker.lab"])
def test_it_says_that_a_running_broker_leaves_open_connections_over_tls(
    enrol: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(BrokerFolder, "reload", lambda _self: True)
    said = [enrol("lab/gateway-1", "--broker", url), enrol("lab/gateway-1"), enrol("lab/gateway-1", "--revoke")]
    told = ["when the broker is started again" in text for _, text in said]
    assert told == ([False, True, True] if url.startswith("mqtts") else [False, False, False])


def test_a_mistyped_first_one_makes_no_broker(tmp_path: Path, enrol: Callable[..., tuple[int, str]]) -> None:
    code, said = enrol("gateway-1")
    assert (code, "expected group/name or the host 'lab'" in said) == (2, True)
    assert not (tmp_path / "data").exists()


def test_a_recorder_of_another_name_is_told_how_to_start(enrol: Callable[..., tuple[int, str]]) -> None:
    _, said = enrol("lab/gateway-1", "--host-id", "clinic")
    assert re.search(r"recorder: lab serve --enrolment \S+ --host-id clinic$", said, re.MULTILINE)
    assert "--host-id clinic" in enrol("clinic")[1]


@pytest.mark.parametrize(
    ("url", "listener"),
    [
        ("mqtt://localhost", "1883 127.0.0.1"),
        ("mqtt://127.0.0.2:99", "99 127.0.0.2"),
        ("mqtt://[::1]", "1883 ::1"),
        ("mqtts://10.0.0.9", "8883"),
    ],
)
def test_a_broker_listens_where_it_is_said_to_be(
    tmp_path: Path, enrol: Callable[..., tuple[int, str]], url: str, listener: str
) -> None:
    enrol("lab/gateway-1", "--broker", url)
    assert f"\nlistener {listener}\n" in (tmp_path / "data/broker/mosquitto.conf").read_text()


def test_the_recorder_finds_its_new_login_where_the_old_one_was(
    tmp_path: Path, enrol: Callable[..., tuple[int, str]]
) -> None:
    enrol("lab/gateway-1", "--broker", "mqtt://127.0.0.1")
    path = tmp_path / "data/broker/lab.enrolment"
    before = path.read_text()
    code, said = enrol("lab")
    assert (code, "lab serve --enrolment" in said) == (0, True)
    assert path.read_text() != before


@pytest.mark.parametrize("name", ["authority.crt", "authority.key"])
def test_a_damaged_authority_is_named(tmp_path: Path, name: str) -> None:
    folder = BrokerFolder(tmp_path / "broker")
    folder.create(["mqtts://broker.lab"], "lab")
    (folder.path / name).write_text("nothing")
    with pytest.raises(StoreError, match=r"authority\.crt and authority\.key"):
        folder.enrol("lab/gateway-1", tmp_path / "out")


def test_gateways_enrolled_at_the_same_time_are_all_enrolled(tmp_path: Path) -> None:
    folder = BrokerFolder(tmp_path / "broker")
    folder.create(["mqtt://127.0.0.1"], "lab")
    names = [f"lab/gateway-{k}" for k in range(20)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: BrokerFolder(folder.path).enrol(name, tmp_path / name[4:]), names))
    assert {account.identity for account in folder.accounts} == {"lab", *names}
    assert (folder.path / "permissions").read_text().count("user ") == 21


def test_a_damaged_account_file_is_named_and_kept(tmp_path: Path) -> None:
    folder = BrokerFolder(tmp_path / "broker")
    folder.create(["mqtt://127.0.0.1"], "lab")
    for damage in ("", "[]", '{"host": "lab"}', json.dumps({"host": 1, "accounts": [{}]})):
        (folder.path / "accounts.json").write_text(damage)
        with pytest.raises(StoreError, match=r"accounts\.json"):
            folder.enrol("lab/gateway-1", tmp_path / "out")
        assert (folder.path / "accounts.json").read_text() == damage


def test_no_process_is_mistaken_for_the_broker(tmp_path: Path) -> None:
    folder = BrokerFolder(tmp_path / "broker")
    folder.create(["mqtt://127.0.0.1"], "lab")
    assert not folder.reload()
    for pid in (str(os.getpid()), "nonsense", "0", "99999999"):
        (folder.path / "mosquitto.pid").write_text(pid)
        assert not folder.reload()


@pytest.mark.mosquitto
def test_passwords_are_kept_in_the_form_of_mosquitto_passwd(tmp_path: Path) -> None:
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no mosquitto_passwd on the PATH")
    file = tmp_path / "passwords"
    subprocess.run([tool, "-c", "-b", str(file), "lab/gateway-1", "päss"], check=True, capture_output=True)
    kept = file.read_text().strip().removeprefix("lab/gateway-1:")
    assert is_password("päss", kept)
    assert not is_password("pass", kept)
    assert kept.split("$")[1] == hash_password("x").split("$")[1]
    assert not is_password("x", "no hash")


@pytest.mark.parametrize("identity", ["lab", "lab/gateway-1", "Fab-Lab_2/pi.4"])
def test_an_identity_fits_into_every_file_of_a_broker(identity: str) -> None:
    assert check_identity(identity) == identity


@pytest.mark.parametrize(
    "identity", ["", "/", "a/", "/b", "a b", "a:b", "a\nb", "a/#", "a/+", "ä/b", "a/b/c", "$a"]
)
def test_an_identity_that_would_say_something_else_in_a_file_is_refused(identity: str) -> None:
    with pytest.raises(DefinitionError, match="identity"):
        check_identity(identity)


@pytest.mark.parametrize(
    ("allowed", "requested", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b", "a", False),
        ("a/+", "a/b", True),
        ("a/+", "a/+", True),
        ("a/+", "a/#", False),
        ("a/+", "a", False),
        ("a/+/c", "a/b/c", True),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "a/#", True),
        ("a/#", "+/b", False),
        ("a/b", "+/b", False),
        ("a/b", "#", False),
        ("#", "a", True),
        ("a/b/#", "a", False),
    ],
)
def test_a_filter_covers_what_lies_wholly_inside_it(allowed: str, requested: str, expected: bool) -> None:
    assert covers(allowed, requested) is expected


def test_who_is_neither_a_gateway_nor_the_host_may_do_nothing() -> None:
    assert permissions("somebody", "lab").publish == permissions("somebody", "lab").receive == ()


LEVEL = st.text("ab+", min_size=1, max_size=1)
FILTER = st.lists(LEVEL, min_size=1, max_size=4).flatmap(
    lambda levels: st.sampled_from(["/".join(levels), "/".join([*levels, "#"])])
)
TOPIC = st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map("/".join)


@given(FILTER, FILTER, TOPIC)
def test_a_covered_filter_matches_no_topic_that_the_allowed_one_does_not(
    allowed: str, requested: str, topic: str
) -> None:
    if covers(allowed, requested) and mqtt.topic_matches_sub(requested, topic):
        assert mqtt.topic_matches_sub(allowed, topic)
    assert covers(allowed, topic) == mqtt.topic_matches_sub(allowed, topic)


NAME = st.text("abc.-_", min_size=1, max_size=3)
GATEWAY = st.builds("{}/{}".format, NAME, NAME)


@given(GATEWAY, GATEWAY)
def test_no_gateway_speaks_or_hears_for_another(one: str, other: str) -> None:
    allowed, foreign = permissions(one, "lab"), permissions(other, "lab")
    commands = [topic for topic in foreign.receive if "CMD" in topic]
    assert any(allowed.may_publish(topic) for topic in foreign.publish) == (one == other)
    assert any(allowed.may_receive(topic) for topic in commands) == (one == other)
    assert not any(allowed.may_publish(topic) for topic in allowed.receive)
