"""Answers to questionnaires, by request and form, to their score."""

from __future__ import annotations

import pytest
from httpx import Client

from tests.lab_api.conftest import OPENED_NS, SettableClock
from tests.lab_api.requests import open_session, problem

SHEET = {"role": "test", "gateway": "manual", "device": "sheet"}
SECOND_NS = 1_000_000_000
SUS = dict(zip([f"item_{k}" for k in range(1, 11)], [4, 2, 4, 2, 5, 1, 4, 2, 4, 2], strict=True))


@pytest.fixture
def session_id(client: Client, clock: SettableClock) -> str:
    opened = open_session(client, devices=[SHEET])
    clock.now_ns = OPENED_NS + 60 * SECOND_NS
    return str(opened["id"])


def path(session_id: str, questionnaire: str = "sus", device: str = "sheet") -> str:
    return f"/v1/sessions/{session_id}/answers/{device}/{questionnaire}"


def scores(client: Client, session_id: str, protocol: str = "sus") -> dict[str, float]:
    judged = client.post("/v1/evaluations", json={"protocol": protocol, "sessions": [session_id]})
    assert judged.status_code == 201, judged.text
    items = judged.json()["items"]
    return dict(zip(items["score"], items["value"], strict=True))


def test_answers_become_a_score(client: Client, session_id: str) -> None:
    assert client.post(path(session_id), json={"answers": SUS}).json() == {"new": 1, "known": 0}
    # 2.5 times the sum of odd items less 1 (16) and of 5 less even items (16)
    assert scores(client, session_id) == {"sus": 80.0}


def test_the_form_keeps_answers(client: Client, session_id: str) -> None:
    form = client.get(path(session_id) + "/form")
    assert form.status_code == 200
    assert form.text.count("<input") == 10
    assert "script" not in form.text
    kept = client.post(path(session_id) + "/form", data={item: str(answer) for item, answer in SUS.items()})
    assert kept.status_code == 303
    assert "Kept: 10 answers" in client.get(kept.headers["Location"]).text
    assert scores(client, session_id) == {"sus": 80.0}


def test_a_weighted_load_needs_its_weights(client: Client, session_id: str) -> None:
    scales = ("mental", "physical", "temporal", "performance", "effort", "frustration")
    answers = dict.fromkeys(scales, 40.0) | {"mental": 100.0}
    weights = dict(zip([f"weight_{scale}" for scale in scales], [5, 4, 3, 2, 1, 0], strict=True))
    client.post(path(session_id, "nasa_tlx"), json={"answers": answers | weights})
    assert scores(client, session_id, "nasa-tlx-weighted")["nasa_tlx_weighted"] == pytest.approx(60.0)


def test_an_item_that_was_left_out_gives_no_score_and_is_listed(client: Client, session_id: str) -> None:
    lacking = {item: answer for item, answer in SUS.items() if item != "item_3"}
    client.post(path(session_id), json={"answers": lacking})
    judged = client.post("/v1/evaluations", json={"protocol": "sus", "sessions": [session_id]}).json()
    assert judged["items"]["value"] == []
    assert len(judged["excluded"]) == 1


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"item_1": 6}, "item_1 = 6, expected 1 to 5"),
        ({"item_11": 1}, "item 'item_11' of sus, expected one of item_1"),
        ({"weight_mental": 1}, "item 'weight_mental' of sus"),
    ],
)
def test_an_answer_that_cannot_be_given_is_refused(
    client: Client, session_id: str, answers: dict[str, float], says: str
) -> None:
    response = client.post(path(session_id), json={"answers": answers})
    assert problem(response) == (422, "invalid-request")
    assert says in response.json()["detail"]
    assert client.get(f"/v1/sessions/{session_id}").json()["streams"] == []


def test_other_questionnaires_devices_and_closed_sessions_are_refused(
    client: Client, session_id: str, clock: SettableClock
) -> None:
    assert problem(client.post(path(session_id, "mood"), json={"answers": SUS})) == (422, "invalid-request")
    refused = client.post(path(session_id, device="other"), json={"answers": SUS})
    assert "expected one it names: sheet" in refused.json()["detail"]
    assert problem(client.post(path("17f2"), json={"answers": SUS})) == (404, "session-not-found")
    client.post(f"/v1/sessions/{session_id}/close")
    clock.now_ns += SECOND_NS
    closed = client.post(path(session_id), json={"answers": SUS})
    assert "is closed, expected one that is open" in closed.json()["detail"]
