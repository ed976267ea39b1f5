"""Gaps over HTTP: in their own list, in the session's document, and with every read."""

from __future__ import annotations

import io

import numpy as np
import pytest
from httpx import Client

from lab_api.store.sqlite import SqliteSessionStore
from protocols.gaps import Gap, GapReason
from tests.lab_api.conftest import OPENED_NS, SettableClock
from tests.lab_api.direct_gateways import ECG, ecg_block
from tests.lab_api.requests import open_session

SECOND_NS = 10**9


@pytest.fixture
def session_id(client: Client, store: SqliteSessionStore, clock: SettableClock) -> str:
    """Ten seconds: samples 0-249, a declared gap of 250, samples 500-999, an undeclared one, 1250-2499."""
    session = open_session(client)
    blocks = [
        ecg_block(OPENED_NS + first * 4_000_000, first_index=first, n_samples=n)
        for first, n in ((0, 250), (500, 500), (1250, 1250))
    ]
    declared = Gap(
        "strap", ECG, 3, 249, OPENED_NS + SECOND_NS, OPENED_NS + 2 * SECOND_NS, 250, GapReason.SPOOL_FULL
    )
    store.write({session["id"]: [("gw-1", record) for record in (*blocks, declared)]})
    clock.now_ns += 10 * SECOND_NS
    client.post(f"/v1/sessions/{session['id']}/close")
    return str(session["id"])


def test_a_sessions_gaps_are_listed_declared_or_not(client: Client, session_id: str) -> None:
    first, second = client.get(f"/v1/sessions/{session_id}/gaps").json()["gaps"]

    assert first == {
        "gateway": "gw-1",
        "device": "strap",
        "stream": "ecg",
        "reason": "spool-full",
        "start_ns": OPENED_NS + SECOND_NS,
        "end_ns": OPENED_NS + 2 * SECOND_NS,
        "n_samples": 250,
        "is_part": False,
        "after_boot_id": 3,
        "after_index": 249,
    }
    assert (second["reason"], second["n_samples"], second["after_index"]) == ("undeclared", 250, 999)


def test_the_sessions_document_says_how_complete_it_is(client: Client, session_id: str) -> None:
    (stream,) = client.get(f"/v1/sessions/{session_id}").json()["streams"]

    assert (stream["n_samples"], stream["missing_samples"], stream["n_gaps"]) == (2000, 500, 2)
    assert stream["completeness"] == 0.8


def test_samples_come_with_the_gaps_of_the_asked_for_range(client: Client, session_id: str) -> None:
    address = f"/v1/sessions/{session_id}/streams/gw-1/strap/ecg/samples"
    limits = {"start_ns": OPENED_NS + SECOND_NS * 3 // 2, "end_ns": OPENED_NS + 3 * SECOND_NS}
    (gap,) = client.get(address, params=limits).json()["gaps"]
    answer = client.get(address, params=limits, headers={"Accept": "application/x-npz"})

    assert (gap["start_ns"], gap["end_ns"]) == (limits["start_ns"], OPENED_NS + 2 * SECOND_NS)
    assert (gap["n_samples"], gap["is_part"]) == (None, True)
    with np.load(io.BytesIO(answer.content), allow_pickle=False) as archive:
        assert archive["gap_start_ns"].tolist() == [limits["start_ns"]]
        assert archive["gap_end_ns"].tolist() == [OPENED_NS + 2 * SECOND_NS]
        assert archive["gap_reason"].tolist() == ["spool-full"]
        assert archive["gap_n_samples"].tolist() == [-1]


def test_a_range_without_gaps_says_so(client: Client, session_id: str) -> None:
    address = f"/v1/sessions/{session_id}/streams/gw-1/strap/ecg/samples"
    answer = client.get(address, params={"end_ns": OPENED_NS + SECOND_NS // 2})

    assert answer.json()["gaps"] == []


@pytest.mark.parametrize("end_s", [1.5, 0.0])
def test_a_range_that_is_empty_or_upside_down_has_no_gaps(
    client: Client, session_id: str, end_s: float
) -> None:
    address = f"/v1/sessions/{session_id}/streams/gw-1/strap/ecg/samples"
    limits = {"start_ns": OPENED_NS + SECOND_NS * 3 // 2, "end_ns": OPENED_NS + round(end_s * SECOND_NS)}

    assert client.get(address, params=limits).json()["gaps"] == []
