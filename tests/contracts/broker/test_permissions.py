"""Every broker we start lets a gateway speak as itself alone, and hear what is meant for it alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

HOST, A, B = "lab", "lab/gateway-a", "lab/gateway-b"
OF_NODE = ("NBIRTH", "NDEATH", "NDATA")
OF_DEVICE = ("DBIRTH", "DDEATH", "DDATA")


def topics_of(gateway: str) -> list[str]:
    """Everything that a gateway publishes."""
    group, name = gateway.split("/")
    return [
        *(f"spBv1.0/{group}/{kind}/{name}" for kind in OF_NODE),
        *(f"spBv1.0/{group}/{kind}/{name}/strap" for kind in OF_DEVICE),
    ]


FOREIGN = [
    *topics_of(B),
    *topics_of("other/gateway-a"),
    "spBv1.0/STATE/lab",
    "spBv1.0/STATE/other",
    "spBv1.0/lab/NCMD/gateway-b",
    "spBv1.0/lab/DCMD/gateway-b/strap",
    "spBv1.0/lab/NCMD/gateway-a",
    "spBv1.0/lab/DDATA/gateway-a",
    "spBv1.0/lab/DDATA/gateway-a/strap/more",
    "spBv1.0/lab/NDATA/gateway-a/strap",
    "spBv1.0/lab/NDATA/gateway-a2",
    "lab/other",
]


def test_a_gateway_says_everything_it_has_to_say(
    site: Any, host: Any, peer: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    gateway = peer(site.logins[A])
    for topic in topics_of(A):
        gateway.publish(topic)
    eventually(lambda: host.topics == topics_of(A))


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("retain", [False, True])
def test_a_gateway_cannot_speak_as_anybody_else(
    site: Any, host: Any, peer: Callable[..., Any], eventually: Callable[..., None], qos: int, retain: bool
) -> None:
    gateway = peer(site.logins[A])
    for topic in FOREIGN:
        gateway.publish(topic, qos=qos, retain=retain)
    gateway.publish("spBv1.0/lab/NDATA/gateway-a", qos=qos)
    eventually(lambda: bool(host.received))
    assert host.topics == ["spBv1.0/lab/NDATA/gateway-a"]


def test_a_gateways_own_will_is_published(
    site: Any, host: Any, peer: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    peer(site.logins[A], will="spBv1.0/lab/NDEATH/gateway-a").cut()
    eventually(lambda: ("spBv1.0/lab/NDEATH/gateway-a", b"will") in host.received)


@pytest.mark.parametrize("will", ["spBv1.0/lab/NDEATH/gateway-b", "spBv1.0/STATE/lab", "anything"])
def test_a_will_in_the_name_of_another_is_not_published(
    site: Any, host: Any, peer: Callable[..., Any], eventually: Callable[..., None], will: str
) -> None:
    forger = peer(site.logins[A], will=will)
    if not forger.refused:
        forger.cut()
    peer(site.logins[B], will="spBv1.0/lab/NDEATH/gateway-b").cut()
    eventually(lambda: bool(host.received))
    assert host.received == [("spBv1.0/lab/NDEATH/gateway-b", b"will")]


def test_a_gateway_hears_its_commands_and_the_hosts_state(
    site: Any, host: Any, peer: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    gateway = peer(site.logins[A])
    expected = ["spBv1.0/lab/NCMD/gateway-a", "spBv1.0/lab/DCMD/gateway-a/strap", "spBv1.0/STATE/lab"]
    assert all(
        gateway.subscribe("spBv1.0/lab/NCMD/gateway-a", "spBv1.0/lab/DCMD/gateway-a/+", "spBv1.0/STATE/lab")
    )
    for topic in expected:
        host.publish(topic, qos=1)
    eventually(lambda: sorted(gateway.topics) == sorted(expected))


@pytest.mark.parametrize(
    "wanted",
    [["#"], ["spBv1.0/#"], ["spBv1.0/lab/+/+"], ["+/+/+/+/+"], [*topics_of(B), "spBv1.0/lab/NCMD/gateway-b"]],
)
def test_a_gateway_cannot_listen_to_another(
    site: Any, host: Any, peer: Callable[..., Any], eventually: Callable[..., None], wanted: list[str]
) -> None:
    spy, gateway = peer(site.logins[A]), peer(site.logins[B])
    spy.subscribe(*wanted)
    assert spy.subscribe("spBv1.0/lab/NCMD/gateway-a") == [True]
    for topic in topics_of(B):
        gateway.publish(topic)
    eventually(lambda: host.topics == topics_of(B))
    host.publish("spBv1.0/lab/NCMD/gateway-b", qos=1)
    host.publish("spBv1.0/lab/NCMD/gateway-a", b"end", qos=1)
    eventually(lambda: bool(spy.received))
    assert set(spy.received) == {("spBv1.0/lab/NCMD/gateway-a", b"end")}


def test_what_a_gateway_has_retained_reaches_no_other(
    site: Any, host: Any, peer: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    peer(site.logins[B]).publish("spBv1.0/lab/NBIRTH/gateway-b", b"kept", 1, retain=True)
    eventually(lambda: bool(host.received))
    host.publish("spBv1.0/STATE/lab", b"online", 1, retain=True)
    eventually(lambda: "spBv1.0/STATE/lab" in host.topics)
    spy = peer(site.logins[A])
    spy.subscribe("spBv1.0/lab/#", "spBv1.0/STATE/lab")
    eventually(lambda: ("spBv1.0/STATE/lab", b"online") in spy.received)
    assert set(spy.topics) == {"spBv1.0/STATE/lab"}
    peer(site.logins[B]).publish("spBv1.0/lab/NBIRTH/gateway-b", b"", 1, retain=True)
    eventually(lambda: host.topics.count("spBv1.0/lab/NBIRTH/gateway-b") == 2)
    host.publish("spBv1.0/STATE/lab", b"", 1, retain=True)
    eventually(lambda: host.topics.count("spBv1.0/STATE/lab") == 2)


@pytest.mark.parametrize("site", ["mosquitto over TLS", "mosquitto", "embedded mosquitto"], indirect=True)
def test_a_payload_beyond_all_reason_ends_its_senders_connection_alone(
    site: Any, host: Any, peer: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    flooder, other = peer(site.logins[A]), peer(site.logins[B])
    flooder.publish("spBv1.0/lab/NDATA/gateway-a", bytes(17 << 20))
    eventually(lambda: not flooder.client.is_connected())
    other.publish("spBv1.0/lab/NDATA/gateway-b")
    eventually(lambda: bool(host.received))
    assert host.topics == ["spBv1.0/lab/NDATA/gateway-b"]


@pytest.mark.parametrize("site", ["mosquitto over TLS", "mosquitto", "embedded mosquitto"], indirect=True)
def test_who_takes_over_anothers_client_id_and_session_hears_nothing_of_it(
    site: Any, host: Any, peer: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    ours = peer(site.logins[B], session="gateway-b's session")
    ours.subscribe("spBv1.0/lab/NCMD/gateway-b")
    thief = peer(site.logins[A], session="gateway-b's session")
    eventually(lambda: not ours.client.is_connected())
    assert thief.subscribe("spBv1.0/lab/NCMD/gateway-a") == [True]
    host.publish("spBv1.0/lab/NCMD/gateway-b", qos=1)
    host.publish("spBv1.0/lab/NCMD/gateway-a", b"end", qos=1)
    eventually(lambda: bool(thief.received))
    assert thief.received == [("spBv1.0/lab/NCMD/gateway-a", b"end")]


def test_the_host_cannot_speak_as_a_gateway(
    site: Any, host: Any, peer: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    for topic in topics_of(A):
        host.publish(topic, b"forged")
    host.publish("spBv1.0/STATE/lab", b"true")
    eventually(lambda: bool(host.received))
    assert host.received == [("spBv1.0/STATE/lab", b"true")]
