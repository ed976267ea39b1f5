"""Raw frames over HTTP."""

from __future__ import annotations

import json

from httpx import Client

from lab_api.store.sqlite import SqliteSessionStore
from tests.lab_api.conftest import OPENED_NS
from tests.lab_api.direct_gateways import frame_block
from tests.lab_api.requests import open_session, problem


def test_frames_are_read_line_by_line(client: Client, store: SqliteSessionStore) -> None:
    session = open_session(client)
    block = frame_block(OPENED_NS, n_frames=700)
    store.write({session["id"]: [("gw-1", block)]})

    answer = client.get(f"/v1/sessions/{session['id']}/frames/gw-1/strap")
    lines = [json.loads(line) for line in answer.text.splitlines()]

    assert answer.headers["content-type"] == "application/jsonl"
    assert [bytes.fromhex(line["data"]) for line in lines] == list(block.data)
    assert [line["frame"] for line in lines] == list(range(700))
    assert lines[1] == {
        "connection_id": block.connection_id,
        "frame": 1,
        "source": block.sources[1],
        "arrival_ns": int(block.arrival_ns[1]),
        "arrival_monotonic_ns": int(block.arrival_monotonic_ns[1]),
        "data": block.data[1].hex(),
    }
    expected = [{"gateway": "gw-1", "device": "strap", "n_frames": 700}]
    assert client.get(f"/v1/sessions/{session['id']}").json()["frames"] == expected


def test_frames_that_are_not_there_are_a_problem(client: Client, store: SqliteSessionStore) -> None:
    session = open_session(client)

    answer = client.get(f"/v1/sessions/{session['id']}/frames/gw-1/strap")

    assert problem(answer) == (404, "stream-not-found")


def test_damaged_frames_are_a_problem(client: Client, store: SqliteSessionStore) -> None:
    session = open_session(client)
    store.write({session["id"]: [("gw-1", frame_block(OPENED_NS))]})
    with store._writing(session["id"]) as writer:
        writer.db.execute("UPDATE frames SET content = zeroblob(9)")

    assert problem(client.get(f"/v1/sessions/{session['id']}/frames/gw-1/strap")) == (503, "store-unavailable")
