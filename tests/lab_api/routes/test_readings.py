"""Readings that people enter: by request, table and form, and what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from httpx import Client

from lab_api.store.sqlite import SqliteSessionStore
from tests.lab_api.conftest import OPENED_NS, SettableClock
from tests.lab_api.requests import open_session, problem

OBSERVER = {"role": "reference", "gateway": "manual", "device": "observer-1"}
SECOND_NS = 1_000_000_000


@pytest.fixture
def session_id(client: Client, clock: SettableClock) -> str:
    opened = open_session(client, devices=[OBSERVER, {"role": "test", "gateway": "gw", "device": "cuff"}])
    clock.now_ns = OPENED_NS + 3600 * SECOND_NS
    return str(opened["id"])


def iso(seconds: float) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=OPENED_NS / 1e9 + seconds)).isoformat()


def reading(seconds: float, value: float, quantity: str = "sbp", unit: str = "") -> dict[str, object]:
    return {"time": iso(seconds), "quantity": quantity, "value": value, "unit": unit}


def enter(client: Client, session_id: str, *readings: dict[str, object], device: str = "observer-1"):  # type: ignore[no-untyped-def]
    return client.post(f"/v1/sessions/{session_id}/readings/{device}", json={"readings": list(readings)})


def values(store: SqliteSessionStore, session_id: str, quantity: str) -> dict[int, float]:
    kept = store.read(session_id, "manual", "observer-1", quantity)
    return dict(
        zip(((kept.times_ns() - OPENED_NS) // SECOND_NS).tolist(), kept.physical()[0].tolist(), strict=True)
    )


def test_readings_become_samples_of_the_session_once(
    client: Client, session_id: str, store: SqliteSessionStore
) -> None:
    first = [reading(60, 124), reading(60, 81, "dbp"), reading(30, 16.0, "sbp", "kPa")]
    assert enter(client, session_id, *first).json() == {"new": 3, "known": 0}
    assert enter(client, session_id, *first, reading(10, 120)).json() == {"new": 1, "known": 3}
    assert values(store, session_id, "sbp") == {60: 124.0, 30: pytest.approx(120.00992), 10: 120.0}
    assert values(store, session_id, "dbp") == {60: 81.0}
    streams = client.get(f"/v1/sessions/{session_id}").json()["streams"]
    assert {s["name"]: s["missing_samples"] for s in streams} == {"sbp": 0, "dbp": 0}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (reading(60, 500), "reading 2: sbp = 500 mm[Hg], expected 30 to 320 mm[Hg]"),
        (reading(60, float(12), "shoe"), "reading 2: quantity 'shoe', expected one of spo2"),
        (reading(60, 16, "sbp", "mL"), "reading 2: sbp in 'mL', expected one of mm[Hg], kPa"),
        (
            reading(-1, 120),
            "time 2026-09-21T14:13:19.000+00:00, expected within the session, 2026-09-21T14:13:20",
        ),
        (reading(3601, 120), "expected within the session"),
        (reading(0, 121), "reading 2: sbp at 2026-09-21T14:13:20.000+00:00 twice, expected one value"),
        ({"time": "9:30", "quantity": "sbp", "value": 120}, "reading 2: time = '9:30', expected ISO 8601"),
    ],
)
def test_nothing_is_kept_of_an_entry_with_a_mistake(
    client: Client, session_id: str, wrong: dict[str, object], says: str
) -> None:
    response = enter(client, session_id, reading(0, 120), wrong)
    assert problem(response) == (422, "invalid-request")
    assert says in response.json()["detail"]
    assert client.get(f"/v1/sessions/{session_id}").json()["streams"] == []


def test_what_is_recorded_is_never_overwritten(
    client: Client, session_id: str, store: SqliteSessionStore
) -> None:
    enter(client, session_id, reading(60, 124))
    response = enter(client, session_id, reading(90, 126), reading(60, 125))
    assert problem(response) == (422, "invalid-request")
    assert "is 124 mm[Hg] already, expected no other value" in response.json()["detail"]
    assert values(store, session_id, "sbp") == {60: 124.0}


def test_only_a_device_that_the_session_names_at_the_gateway_manual_takes_readings(
    client: Client, session_id: str
) -> None:
    for device in ("observer-2", "cuff"):
        response = enter(client, session_id, reading(0, 120), device=device)
        assert problem(response) == (422, "invalid-request")
        assert "expected one it names: observer-1" in response.json()["detail"]
    assert problem(enter(client, "17f2", reading(0, 120))) == (404, "session-not-found")


def test_two_people_may_enter_at_once(client: Client, session_id: str, store: SqliteSessionStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda s: enter(client, session_id, reading(s, 100 + s)), range(40)))
    assert all(answer.status_code == 200 for answer in answers)
    assert values(store, session_id, "sbp") == {s: 100.0 + s for s in range(40)}


def test_a_table_is_taken_and_its_mistakes_named_by_line(
    client: Client, session_id: str, store: SqliteSessionStore
) -> None:
    path = f"/v1/sessions/{session_id}/readings/observer-1/csv"
    table = f"time,quantity,value,unit\n{iso(0)},glucose,5.5,mmol/L\n{iso(60)},glucose,100,mg/dL\n"
    headers = {"Content-Type": "text/csv"}
    assert client.post(path, content=table, headers=headers).json() == {"new": 2, "known": 0}
    assert values(store, session_id, "glucose") == {0: pytest.approx(99.1001), 60: 100.0}
    wrong = client.post(path, content=table.replace("100", "many"), headers=headers)
    assert problem(wrong) == (422, "invalid-request")
    assert wrong.json()["detail"] == "table, line 3: value 'many', expected a number"


def test_the_form_keeps_a_reading_and_says_so(
    client: Client, session_id: str, store: SqliteSessionStore
) -> None:
    path = f"/v1/sessions/{session_id}/readings/observer-1/form"
    page = client.get(path)
    assert page.status_code == 200
    assert "subject S-001" in page.text
    assert "script" not in page.text
    assert 'required><option value="">choose</option>' in page.text  # nobody enters a pressure as SpO2 unasked
    assert '<option value="sbp mm[Hg]">sbp (mmHg)</option>' in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    kept = client.post(path, data={"quantity": "sbp mm[Hg]", "value": "124,5", "time": iso(60)})
    assert kept.status_code == 303
    assert "Kept: sbp 124.5 mm[Hg]" in client.get(kept.headers["Location"]).text
    assert values(store, session_id, "sbp") == {60: 124.5}


def test_a_form_of_another_site_is_refused(client: Client, session_id: str) -> None:
    path = f"/v1/sessions/{session_id}/readings/observer-1/form"
    data = {"quantity": "sbp mm[Hg]", "value": "124"}
    refused = client.post(path, data=data, headers={"Sec-Fetch-Site": "cross-site"})
    assert problem(refused) == (422, "invalid-request")
    assert problem(client.post(path, json=data)) == (422, "invalid-request")
    for origin in ("http://elsewhere.example", "null"):
        refused = client.post(path, data=data, headers={"Origin": origin})
        assert problem(refused) == (422, "invalid-request")


def test_what_the_form_says_is_escaped(client: Client, session_id: str) -> None:
    page = client.get(f"/v1/sessions/{session_id}/readings/observer-1/form", params={"said": "<b>hi</b>"})
    assert "&lt;b&gt;hi&lt;/b&gt;" in page.text
