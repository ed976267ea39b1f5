"""Plans over HTTP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from httpx import Client

from lab_api.store.session_store import SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.samples import Channel, SampleBlock, Stream

START_NS = 1_790_000_000_000_000_000
SPO2 = Stream("oximetry", (Channel("spo2", "%", 150456),), "float64", None)
LEVELS = np.repeat([98.0, 92.0, 87.0], 100)


@pytest.fixture
def oximetry_session(store: SqliteSessionStore) -> str:
    devices = [SessionDevice("reference", "gw", "nonin"), SessionDevice("test", "gw", "plx")]
    session = store.open_session(subject="S-1", devices=devices, opened_ns=START_NS)
    times_ns = START_NS + np.arange(LEVELS.size, dtype=np.int64) * 1_000_000_000
    for device, percent in (("nonin", LEVELS), ("plx", LEVELS + 1.0)):
        block = SampleBlock(device, SPO2, 1, 0, START_NS, percent[np.newaxis], START_NS, 0, 0, None, times_ns)
        store.write({session.id: [("gw", block)]})
    store.close_session(session.id, closed_ns=START_NS + LEVELS.size * 1_000_000_000)
    return session.id


def test_a_trial_that_has_not_begun_is_planned(client: Client) -> None:
    answer = client.post(
        "/v1/plans",
        json={
            "protocol": "iso-80601-2-61-2017",
            "power": 0.9,
            "expected": {"bias": 1, "sd": 3.5, "subject_sd": 1.5},
        },
    )
    assert answer.status_code == 200
    plan = answer.json()
    assert (plan["begun"], plan["so_far"], plan["n_missing"]) == (False, [], 3)
    assert [need["more"] for need in plan["design"]] == [10, 200, None]
    size = plan["sample_size"]
    assert size["subjects"] == 10  # 9 have the power, the design asks for 10
    assert size["power"] > 0.9
    assert "20 pairs of each subject" in size["assumptions"][0]


def test_sessions_so_far_give_figures_that_are_no_verdict(client: Client, oximetry_session: str) -> None:
    answer = client.post("/v1/plans", json={"protocol": "iso-80601-2-61-2017", "sessions": [oximetry_session]})
    plan = answer.json()
    assert plan["begun"]
    (arms,) = [figure for figure in plan["so_far"] if figure["id"] == "arms"]
    assert (arms["value"], arms["low"], arms["limit"]) == (pytest.approx(1.0), None, 4.0)
    assert "so far, no verdict" in arms["text"]
    assert "outcome" not in str(plan)
    assert plan["sample_size"] is None
    assert client.get("/v1/evaluations").json() == {"evaluations": []}


PAIRS = "subject,reference,test\nS-1,97,96\nS-1,81,82\nS-2,75,\n"


def test_a_table_so_far_is_planned_as_sessions_are(client: Client) -> None:
    table = {"name": "pairs.csv", "csv": PAIRS}
    plan = client.post("/v1/plans", json={"protocol": "iso-80601-2-61-2017", "tables": [table]}).json()
    assert [need["value"] for need in plan["design"][:2]] == [1.0, 2.0]
    assert plan["excluded"] == {"the device showed no value": 1}
    assert plan["read_rate_percent"] == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tables": [{"name": "p.csv", "csv": "subject\nS-1\n"}]}, (422, "invalid-request")),
        ({"tables": [{"name": "../p.csv", "csv": PAIRS}]}, (422, "invalid-request")),
        ({"sessions": ["0" * 32], "tables": [{"name": "p.csv", "csv": PAIRS}]}, (422, "invalid-request")),
        ({"protocol": "iso-9999"}, (422, "invalid-request")),
        ({"variant": "toe"}, (422, "invalid-request")),
        ({"sessions": ["0" * 32]}, (404, "session-not-found")),
        ({"sessions": ["../x"]}, (404, "session-not-found")),
        ({"subjects": {"S-1": {"shoe": 43}}}, (422, "invalid-request")),
        ({"power": 1.0}, (422, "invalid-request")),
        ({"power": 0.9, "expected": {"sd": -1}}, (422, "invalid-request")),
        ({"power": 0.9, "expected": {"luck": 1}}, (422, "invalid-request")),
        ({"expected": {"sd": 1}}, (422, "invalid-request")),
        ({"seed": 1}, (422, "invalid-request")),
    ],
)
def test_what_cannot_be_planned_is_a_problem(
    client: Client, changes: dict[str, Any], expected: tuple[int, str]
) -> None:
    answer = client.post("/v1/plans", json={"protocol": "iso-80601-2-61-2017"} | changes)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == expected
