"""Evaluations over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from httpx import Client

from lab_api.settings import Settings
from lab_api.store.session_store import AnnotationSet, SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.samples import Channel, SampleBlock, Stream

START_NS = 1_790_000_000_000_000_000
ECG = Stream("ecg", (Channel("ecg", "uV", 131328),), "int32", 250.0)


def problem(response: Any) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].rpartition(":")[2]


@pytest.fixture
def ecg_session(store: SqliteSessionStore) -> str:
    beats = np.arange(125, 400 * 250, 250)
    ecg = np.zeros((1, 400 * 250), np.int32)
    ecg[0, beats] = 1000
    session = store.open_session(
        subject="S-1", devices=[SessionDevice("test", "gw", "strap")], opened_ns=START_NS
    )
    block = SampleBlock("strap", ECG, 1, 0, START_NS, ecg, START_NS, 0, 0)
    store.write({session.id: [("gw", block)]})
    annotations = AnnotationSet("atr", "gw", "strap", "ecg", 250.0, beats.astype(np.int64), ("N",) * beats.size)
    store.annotate(session.id, annotations)
    return session.id


def test_an_evaluation_is_created_once_and_can_be_fetched_and_listed(client: Client, ecg_session: str) -> None:
    wanted = {"protocol": "ansi-aami-ec57", "sessions": [ecg_session]}
    created, again = client.post("/v1/evaluations", json=wanted), client.post("/v1/evaluations", json=wanted)
    assert (created.status_code, again.status_code) == (201, 200)
    assert created.json() == again.json()
    assert created.json()["verdict"]["outcome"] == "PASS"
    assert client.get(created.headers["Location"]).json() == created.json()
    (listed,) = client.get("/v1/evaluations").json()["evaluations"]
    assert listed == {
        "id": created.json()["id"],
        "protocol": "ansi-aami-ec57",
        "outcome": "PASS",
        "sessions": [ecg_session],
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"protocol": "iso-9999"}, (422, "invalid-request")),
        ({"variant": "toe"}, (422, "invalid-request")),
        ({"protocol": "iso-80601-2-61-2017"}, (422, "invalid-request")),
        ({"sessions": []}, (422, "invalid-request")),
        ({"sessions": ["0" * 32]}, (404, "session-not-found")),
        ({"sessions": ["../x"]}, (404, "session-not-found")),
        ({"seed": 1}, (422, "invalid-request")),
    ],
)
def test_what_cannot_be_evaluated_is_a_problem(
    client: Client, ecg_session: str, changes: dict[str, Any], expected: tuple[int, str]
) -> None:
    wanted = {"protocol": "ansi-aami-ec57", "sessions": [ecg_session]} | changes
    assert problem(client.post("/v1/evaluations", json=wanted)) == expected


@pytest.mark.parametrize("evaluation_id", ["0" * 64, "x", "..%2F..%2Fsecret"])
def test_an_unknown_evaluation_is_a_problem(client: Client, evaluation_id: str) -> None:
    status, _ = problem(client.get(f"/v1/evaluations/{evaluation_id}"))
    assert status == 404


def test_an_evaluation_has_a_page_for_people(client: Client, ecg_session: str) -> None:
    wanted = {"protocol": "ansi-aami-ec57", "sessions": [ecg_session]}
    created = client.post("/v1/evaluations", json=wanted)
    page = client.get(f"{created.headers['Location']}/report")

    assert page.headers["content-type"].startswith("text/html")
    assert ecg_session in page.text
    assert "No samples are missing from what this verdict rests on." in page.text
    assert problem(client.get(f"/v1/evaluations/{'0' * 64}/report")) == (404, "evaluation-not-found")


@pytest.mark.parametrize("change", [lambda _: "{}", lambda text: text.replace("PASS", "FAIL"), lambda _: "["])
def test_an_evaluation_that_was_changed_is_not_shown(
    client: Client, settings: Settings, ecg_session: str, change: Callable[[str], str]
) -> None:
    body = {"protocol": "ansi-aami-ec57", "sessions": [ecg_session]}
    evaluation_id = client.post("/v1/evaluations", json=body).json()["id"]
    path = settings.evaluations_folder / f"{evaluation_id}.json"
    path.write_text(change(path.read_text()))

    for url in (
        f"/v1/evaluations/{evaluation_id}",
        f"/v1/evaluations/{evaluation_id}/report",
        "/v1/evaluations",
    ):
        assert problem(client.get(url)) == (503, "store-unavailable")


PAIRS = "subject,reference,test\n" + "".join(f"S-{k % 4},{80 + k},{81 + k}\n" for k in range(16))


def test_a_table_is_judged_and_its_report_is_a_page_and_a_pdf(client: Client) -> None:
    wanted = {"protocol": "iso-80601-2-61-2017", "tables": [{"name": "pairs.csv", "csv": PAIRS}]}
    created = client.post("/v1/evaluations", json=wanted)
    assert created.status_code == 201, created.text
    assert created.json()["sources"][0]["id"] == "pairs.csv"
    assert created.json()["verdict"]["outcome"] == "INCONCLUSIVE"
    assert client.post("/v1/evaluations", json=wanted).json()["id"] == created.json()["id"]
    location = created.headers["Location"]
    for language, words in (("en", "INCONCLUSIVE"), ("fr", "NON CONCLUANT")):
        page = client.get(f"{location}/report", params={"language": language})
        assert (page.status_code, words in page.text) == (200, True)
        paper = client.get(f"{location}/report.pdf", params={"language": language})
        assert paper.headers["content-type"] == "application/pdf"
        assert paper.content.startswith(b"%PDF-")
    assert problem(client.get(f"{location}/report", params={"language": "de"})) == (422, "invalid-request")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tables": []}, "sessions and tables, expected one of the two"),
        ({"sessions": ["x"]}, "sessions and tables, expected one of the two"),
        ({"tables": [{"name": "p.csv", "csv": PAIRS}] * 2}, "expected each name once"),
        ({"tables": [{"name": "p.csv", "csv": "subject\nS-1\n"}]}, "p.csv, line 1: columns subject"),
        ({"tables": [{"name": "p.csv", "csv": PAIRS.replace("81", "high", 1)}]}, "p.csv, line 2"),
    ],
)
def test_a_mistake_in_a_table_is_a_problem_that_names_it(
    client: Client, changes: dict[str, Any], says: str
) -> None:
    wanted = {"protocol": "iso-80601-2-61-2017", "tables": [{"name": "pairs.csv", "csv": PAIRS}]} | changes
    response = client.post("/v1/evaluations", json=wanted)
    assert problem(response) == (422, "invalid-request")
    assert says in response.json()["detail"]


@pytest.mark.parametrize("name", ["../pairs.csv", "pairs.txt", "", "a/b.csv", ".csv"])
def test_a_name_that_is_no_plain_file_name_is_refused(client: Client, name: str) -> None:
    wanted = {"protocol": "iso-80601-2-61-2017", "tables": [{"name": name, "csv": PAIRS}]}
    assert problem(client.post("/v1/evaluations", json=wanted)) == (422, "invalid-request")
