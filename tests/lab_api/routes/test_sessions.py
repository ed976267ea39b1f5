"""Sessions over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from httpx import Client

from lab_api.settings import Settings
from lab_api.store.sqlite import SqliteSessionStore
from tests.lab_api.conftest import OPENED_NS, SettableClock
from tests.lab_api.direct_gateways import ecg_block
from tests.lab_api.requests import NEW, STRAP, open_session, problem


def test_a_session_is_opened_at_lab_time_and_has_an_address(client: Client, store: SqliteSessionStore) -> None:
    response = client.post("/v1/sessions", json=NEW)
    body = response.json()

    assert response.headers["Location"] == f"/v1/sessions/{body['id']}"
    assert body["opened_ns"] == OPENED_NS
    assert body["closed_ns"] is None
    assert (body["subject"], body["title"], body["devices"]) == ("S-001", "Run 1", [STRAP])
    nothing = {"streams": [], "frames": [], "unheard": [STRAP]}
    assert client.get(response.headers["Location"]).json() == body | nothing
    assert store.session(body["id"]).subject == "S-001"


def test_a_session_is_closed_at_lab_time_and_once(client: Client, clock: SettableClock) -> None:
    session = open_session(client)
    clock.now_ns += 10**9
    closed = client.post(f"/v1/sessions/{session['id']}/close")
    clock.now_ns += 10**9
    again = client.post(f"/v1/sessions/{session['id']}/close")

    assert closed.status_code == again.status_code == 200
    assert closed.json() == again.json() == session | {"closed_ns": OPENED_NS + 10**9}


def test_a_clock_that_was_set_back_still_closes_a_session(client: Client, clock: SettableClock) -> None:
    session = open_session(client)
    clock.now_ns -= 10**9

    assert client.post(f"/v1/sessions/{session['id']}/close").json()["closed_ns"] == OPENED_NS


@pytest.mark.parametrize(
    ("change", "location"),
    [
        ({"subject": "Mme Jeanne Martin"}, "Jeanne"),
        ({"subject": None}, "body.subject"),
        ({"devices": []}, "body.devices"),
        ({"devices": [STRAP, STRAP]}, "each once"),
        ({"devices": [{"role": "test", "gateway": "a/b", "device": "d"}]}, "a/b"),
        ({"devices": [{"role": "test"}]}, "body.devices.0.gateway"),
        ({"title": "x" * 201}, "body.title"),
        ({"opened_ns": 5}, "body.opened_ns"),
    ],
)
def test_a_session_that_makes_no_sense_is_refused(
    client: Client, change: dict[str, Any], location: str
) -> None:
    response = client.post("/v1/sessions", json=NEW | change)

    assert problem(response) == (422, "invalid-request")
    assert location in response.json()["detail"]
    assert client.get("/v1/sessions").json() == {"sessions": []}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{", "application/json"),
        (b"\xff", "application/json"),
        (b"a=1", "text/plain"),
        (b"", "application/json"),
    ],
)
def test_a_body_that_is_no_json_is_refused(client: Client, body: bytes, content_type: str) -> None:
    response = client.post("/v1/sessions", content=body, headers={"content-type": content_type})

    assert problem(response) == (422, "invalid-request")


def test_sessions_are_listed_page_by_page(client: Client, clock: SettableClock) -> None:
    opened = []
    for _ in range(5):
        opened.append(open_session(client)["id"])
        clock.now_ns += 1

    seen: list[str] = []
    address: str | None = "/v1/sessions?limit=2"
    while address is not None:
        response = client.get(address)
        page = [session["id"] for session in response.json()["sessions"]]
        assert len(page) <= 2
        seen += page
        address = response.links.get("next", {}).get("url")

    assert seen == opened[::-1]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "cursor=" + "x" * 65])
def test_a_page_that_makes_no_sense_is_refused(client: Client, query: str) -> None:
    assert problem(client.get(f"/v1/sessions?{query}")) == (422, "invalid-request")


def test_a_session_tells_what_streams_it_holds(client: Client, store: SqliteSessionStore) -> None:
    session = open_session(client)
    store.write({session["id"]: [("gw-1", ecg_block(OPENED_NS)), ("gw-2", ecg_block(OPENED_NS - 10**12))]})

    first, second = client.get(f"/v1/sessions/{session['id']}").json()["streams"]

    assert first == {
        "gateway": "gw-1",
        "device": "strap",
        "name": "ecg",
        "dtype": "int16",
        "rate_hz": 250.0,
        "channels": [{"name": "lead_i", "unit": "uV", "mdc": 131329, "scale": 2.5, "offset": 0.0}],
        "n_samples": 50,
        "first_ns": OPENED_NS,
        "last_ns": OPENED_NS + 49 * 4_000_000,
        "n_gaps": 0,
        "missing_samples": 0,
        "uncounted_gaps": 0,
        "uncounted_ns": 0,
        "completeness": 1.0,
    }
    assert (second["gateway"], second["n_samples"], second["first_ns"]) == ("gw-2", 0, None)


BEATS = {
    "name": "atr-1",
    "gateway": "gw-1",
    "device": "strap",
    "stream": "ecg",
    "rate_hz": 360.0,
    "sample_indices": [77, 370],
    "symbols": ["N", "V"],
    "boot_id": None,
}


def test_annotations_are_added_and_listed(client: Client, store: SqliteSessionStore) -> None:
    address = f"/v1/sessions/{(session := open_session(client))['id']}/annotations"
    store.write({session["id"]: [("gw-1", ecg_block(OPENED_NS))]})

    assert client.post(address, json=BEATS).status_code == 201
    assert client.post(address, json=BEATS).status_code == 201
    assert problem(client.post(address, json=BEATS | {"symbols": ["N", "N"]})) == (409, "annotations-exist")
    assert client.get(address).json() == {"annotations": [BEATS]}
    assert store.annotations(session["id"])[0].sample_indices.dtype == np.int64


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"stream": "x"}, (404, "stream-not-found")),
        ({"symbols": ["N"]}, (422, "invalid-request")),
        ({"sample_indices": [370, 77]}, (422, "invalid-request")),
        ({"sample_indices": [1 << 63, 1 << 63]}, (422, "invalid-request")),
        ({"rate_hz": 0}, (422, "invalid-request")),
        ({"name": "a b"}, (422, "invalid-request")),
        ({"gateway": ""}, (422, "invalid-request")),
        ({"boot_id": -1}, (422, "invalid-request")),
    ],
)
def test_annotations_that_make_no_sense_are_refused(
    client: Client, store: SqliteSessionStore, change: dict[str, Any], expected: tuple[int, str]
) -> None:
    address = f"/v1/sessions/{(session := open_session(client))['id']}/annotations"
    store.write({session["id"]: [("gw-1", ecg_block(OPENED_NS))]})

    assert problem(client.post(address, json=BEATS | change)) == expected


@pytest.mark.parametrize("session_id", ["0" * 32, "nonsense", "..%2F..%2Fetc%2Fpasswd", "%00"])
def test_an_unknown_session_is_a_problem_everywhere(client: Client, session_id: str) -> None:
    address = f"/v1/sessions/{session_id}"
    responses = [
        client.get(address),
        client.post(f"{address}/close"),
        client.get(f"{address}/annotations"),
        client.post(f"{address}/annotations", json=BEATS),
        client.get(f"{address}/streams/gw-1/strap/ecg/samples"),
        client.get(f"{address}/gaps"),
        client.get(f"{address}/frames/gw-1/strap"),
    ]

    assert {problem(r) for r in responses} <= {(404, "session-not-found"), (404, "unknown-resource")}


def test_a_damaged_session_is_a_problem_that_tells_nothing_of_the_inside(
    client: Client, settings: Settings
) -> None:
    good, bad = open_session(client), open_session(client)
    path: Path = settings.sessions_folder / f"{bad['id']}.session"
    path.write_bytes(b"damaged" * 1000)

    response = client.get(f"/v1/sessions/{bad['id']}")

    assert problem(response) == (503, "store-unavailable")
    assert str(settings.data_folder) not in response.text
    assert client.get(f"/v1/sessions/{good['id']}").status_code == 200
    assert [s["id"] for s in client.get("/v1/sessions").json()["sessions"]] == [good["id"]]


def test_a_device_that_was_never_heard_is_named(client: Client, store: SqliteSessionStore) -> None:
    reference = {"role": "reference", "gateway": "gw-2", "device": "strap"}
    session = open_session(client, devices=[STRAP, reference])
    assert client.get(f"/v1/sessions/{session['id']}").json()["unheard"] == [STRAP, reference]

    store.write({session["id"]: [("gw-1", ecg_block(OPENED_NS))]})
    assert client.get(f"/v1/sessions/{session['id']}").json()["unheard"] == [reference]
