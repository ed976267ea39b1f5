"""Who cannot say who it is does not enter, is told why in one sentence, and does not hammer at the door."""

from __future__ import annotations

import asyncio
import datetime
import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.broker import Broker, load_enrolment
from gateway.mqtt_connection import LoginError, MqttConnection
from lab_api.bridge.authority import Authority
from protocols.errors import TransportError
from protocols.sparkplug.topics import Message

HOST, A, B = "lab", "lab/gateway-a", "lab/gateway-b"
WILL = Message("spBv1.0/lab/NDEATH/gateway-a", b"will", 1)
BY_PASSWORD = ["mosquitto", "embedded mosquitto", "embedded amqtt"]


def refusal(broker: Broker, will: Message = WILL) -> str:
    """Return in which words a gateway is told that it may not log in."""

    try:
        asyncio.run(entered(broker, will))
    except LoginError as error:
        return str(error)
    pytest.fail("logged in")


def enters(broker: Broker) -> bool:
    try:
        asyncio.run(entered(broker))
    except LoginError:
        return False
    return True


@pytest.mark.parametrize("site", BY_PASSWORD, indirect=True)
@pytest.mark.parametrize(
    "login",
    [
        {"password": "wrong"},
        {"password": ""},
        {"password": None},
        {"username": B},
        {"username": "lab/unknown"},
        {"username": "", "password": ""},
        {"username": None, "password": None},
    ],
    ids=str,
)
def test_a_wrong_login_is_refused(site: Any, login: dict[str, str | None]) -> None:
    sentence = refusal(replace(site.logins[A], **login))
    assert str(site.logins[A]) in sentence
    assert "refused the connection: Not authorized" in sentence
    assert enters(site.logins[A])


@pytest.mark.parametrize("site", ["mosquitto over TLS"], indirect=True)
def test_a_client_without_our_certificate_does_not_enter_over_tls(site: Any, tmp_path: Path) -> None:
    login = site.logins[A]
    nobody = replace(login, certificate=None)
    assert "expected a certificate" in refusal(nobody)
    assert "expected a certificate" in refusal(replace(nobody, username=A, password=WILL.topic))
    foreign, _ = Authority.create("somebody else's")
    certified = write_pem(tmp_path / "foreign.pem", foreign.client(A))
    assert "expected a certificate" in refusal(replace(login, certificate=certified))
    plain = replace(login, tls=False, ca=None, certificate=None)
    with pytest.raises(TransportError, match="refused the connection"):
        asyncio.run(entered(plain))


@pytest.mark.parametrize("site", ["mosquitto over TLS"], indirect=True)
def test_a_certificate_that_has_ended_does_not_enter(site: Any, tmp_path: Path) -> None:
    folder = site.folder.path
    authority = Authority((folder / "authority.crt").read_text(), (folder / "authority.key").read_text())
    ended = write_pem(tmp_path / "ended.pem", authority.client(A, -datetime.timedelta(minutes=1)))
    sentence = refusal(replace(site.logins[A], certificate=ended))
    assert "expected a certificate that is neither revoked nor expired" in sentence
    lasting = write_pem(tmp_path / "lasting.pem", authority.client(A, datetime.timedelta(minutes=1)))
    assert enters(replace(site.logins[A], certificate=lasting))


@pytest.mark.filterwarnings(
    "ignore:unclosed <ssl:ResourceWarning"
)  # paho drops a socket that it does not trust
@pytest.mark.parametrize("site", ["mosquitto over TLS"], indirect=True)
def test_a_broker_that_is_not_ours_learns_nothing(site: Any, tmp_path: Path) -> None:
    foreign, _ = Authority.create("somebody else's")
    (tmp_path / "foreign.crt").write_text(foreign.certificate)
    with pytest.raises(TransportError, match="certificate verify failed"):
        asyncio.run(entered(replace(site.logins[A], ca=tmp_path / "foreign.crt")))
    with pytest.raises(TransportError, match="certificate verify failed: Hostname mismatch"):
        asyncio.run(entered(replace(site.logins[A], host="localhost")))
    gc.collect()


@pytest.mark.parametrize("kind", ["mosquitto over TLS", "mosquitto"])
def test_a_revoked_gateway_is_silenced_at_once_and_does_not_come_back(
    own_site: Callable[[str], Any], kind: str, peer: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    site = own_site(kind)
    host = peer(site.logins[HOST])
    host.subscribe("spBv1.0/#")
    revoked, other = peer(site.logins[A]), peer(site.logins[B])
    site.folder.revoke(A)
    assert site.folder.reload()
    eventually(lambda: not enters(site.logins[A]))
    host.received.clear()
    revoked.publish("spBv1.0/lab/NDATA/gateway-a")
    other.publish("spBv1.0/lab/NDATA/gateway-b")
    eventually(lambda: "spBv1.0/lab/NDATA/gateway-b" in host.topics)
    assert "spBv1.0/lab/NDATA/gateway-a" not in host.topics


@pytest.mark.parametrize("kind", ["mosquitto over TLS", "mosquitto"])
def test_a_gateway_that_is_enrolled_while_the_broker_runs_enters_and_its_earlier_login_ends(
    own_site: Callable[[str], Any], kind: str, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    site = own_site(kind)
    site.folder.enrol(A, tmp_path / "again.enrolment")
    assert site.folder.reload()
    eventually(lambda: not enters(site.logins[A]))
    assert enters(load_enrolment(tmp_path / "again.enrolment").brokers[0])
    assert enters(site.logins[B])


@pytest.mark.parametrize("site", ["embedded amqtt"], indirect=True)
def test_amqtt_refuses_a_will_in_the_name_of_another_and_a_session_that_would_stay(
    site: Any, peer: Callable[..., Any]
) -> None:
    assert peer(site.logins[A], session="kept").refused == "Not authorized"
    assert "Not authorized" in refusal(site.logins[A], Message("spBv1.0/lab/NDEATH/gateway-b", b"", 1))
    assert enters(site.logins[A])


async def entered(broker: Broker, will: Message = WILL) -> None:
    async with MqttConnection(broker, will):
        pass


def write_pem(path: Path, issued: Any) -> Path:
    path.write_text(issued.certificate + issued.key)
    path.chmod(0o600)
    return path
