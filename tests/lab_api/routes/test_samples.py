"""Samples over HTTP, exact in both forms."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from httpx import Client

from lab_api.store.sqlite import SqliteSessionStore
from protocols.samples import DTYPES, Channel, SampleBlock, Stream
from tests.lab_api.conftest import OPENED_NS
from tests.lab_api.direct_gateways import ecg_block
from tests.lab_api.requests import open_session, problem

NPZ = {"Accept": "application/x-npz"}


@pytest.fixture
def session_id(client: Client) -> str:
    return str(open_session(client)["id"])


def address(session_id: str, stream: str = "ecg") -> str:
    return f"/v1/sessions/{session_id}/streams/gw-1/strap/{stream}/samples"


def write(store: SqliteSessionStore, session_id: str, *blocks: SampleBlock) -> None:
    store.write({session_id: [("gw-1", block) for block in blocks]})


def load(response: Any) -> dict[str, np.ndarray]:
    assert response.status_code == 200, response.text
    with np.load(io.BytesIO(response.content), allow_pickle=False) as archive:
        return dict(archive)


def test_samples_are_read_as_json(client: Client, store: SqliteSessionStore, session_id: str) -> None:
    write(store, session_id, ecg_block(OPENED_NS, n_samples=3), ecg_block(OPENED_NS + 10**9, first_index=250))

    response = client.get(address(session_id))

    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body["stream"]["channels"][0]["unit"] == "uV"
    assert body["segments"][0] == {
        "boot_id": 3,
        "first_index": 0,
        "start_ns": OPENED_NS,
        "uncertainty_ns": 1000,
        "times_ns": [OPENED_NS, OPENED_NS + 4_000_000, OPENED_NS + 8_000_000],
        "values": [[0, 1, 2]],
    }
    assert body["segments"][1]["first_index"] == 250


def test_a_range_is_half_open(client: Client, store: SqliteSessionStore, session_id: str) -> None:
    write(store, session_id, ecg_block(OPENED_NS))
    limits = {"start_ns": OPENED_NS + 4_000_000, "end_ns": OPENED_NS + 12_000_000}

    (segment,) = client.get(address(session_id), params=limits).json()["segments"]

    assert segment["values"] == [[1, 2]]
    assert client.get(address(session_id), params={"end_ns": 5}).json()["segments"] == []
    assert len(client.get(address(session_id), params={"end_ns": 10**30}).json()["segments"]) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_archive_holds_every_bit(
    client: Client, store: SqliteSessionStore, session_id: str, rng: np.random.Generator, dtype: str
) -> None:
    stream = Stream("raw", (Channel("a", "1"), Channel("b", "mV", scale=0.5)), dtype, 360.0)
    values = rng.integers(0, 256, (2, 100 * np.dtype(dtype).itemsize), dtype=np.uint8).view(dtype)
    blocks = [
        SampleBlock("strap", stream, (1 << 63) - 1, i, OPENED_NS + i * 10**7, values[:, i : i + 50], 0, 0, i)
        for i in (0, 50)
    ]
    write(
        store, session_id, blocks[0], SampleBlock("strap", stream, 1, 7, OPENED_NS, values, 0, 0, 9), blocks[1]
    )

    arrays = load(client.get(address(session_id, "raw"), headers=NPZ))

    assert arrays["values"].dtype == np.dtype(dtype)
    assert arrays["values"].tobytes() == np.concatenate([values, values], axis=1).tobytes()
    assert arrays["segment_start"].tolist() == [0, 100]
    assert arrays["boot_id"].tolist() == [1, (1 << 63) - 1]
    assert arrays["first_index"].tolist() == [7, 0]
    assert arrays["uncertainty_ns"].tolist() == [9, 50]
    assert arrays["times_ns"][100:].tolist() == [*blocks[0].sample_times_ns(), *blocks[1].sample_times_ns()]
    assert Stream.from_json(str(arrays["stream"])) == stream


def test_the_same_content_is_the_same_archive(
    client: Client, store: SqliteSessionStore, session_id: str
) -> None:
    write(store, session_id, ecg_block(OPENED_NS))

    first, second = (client.get(address(session_id), headers=NPZ).content for _ in range(2))

    assert first == second


def test_an_empty_range_is_an_empty_archive(client: Client, store: SqliteSessionStore, session_id: str) -> None:
    write(store, session_id, ecg_block(OPENED_NS))

    arrays = load(client.get(address(session_id), params={"end_ns": 0}, headers=NPZ))

    assert (arrays["values"].shape, arrays["values"].dtype) == ((1, 0), np.int16)
    assert arrays["times_ns"].size == arrays["segment_start"].size == 0


def test_a_float_that_is_no_number_is_null_in_json(
    client: Client, store: SqliteSessionStore, session_id: str
) -> None:
    stream = Stream("spo2", (Channel("spo2", "%"),), "float32", None)
    values = np.array([[97.5, np.nan, np.inf, -0.0]], dtype=np.float32)
    times_ns = OPENED_NS + np.arange(4, dtype=np.int64)
    write(store, session_id, SampleBlock("strap", stream, 0, 0, OPENED_NS, values, 0, 0, 0, None, times_ns))

    response = client.get(address(session_id, "spo2"))

    (segment,) = json.loads(response.text, parse_constant=pytest.fail)["segments"]
    assert segment["values"] == [[97.5, None, None, 0.0]]
    assert segment["times_ns"] == times_ns.tolist()


def test_64_bit_integers_are_exact_in_json(client: Client, store: SqliteSessionStore, session_id: str) -> None:
    stream = Stream("count", (Channel("count", "1"),), "uint64", 1.0)
    values = np.array([[(1 << 64) - 1, (1 << 53) + 1]], dtype=np.uint64)
    write(store, session_id, SampleBlock("strap", stream, 0, 0, OPENED_NS, values, 0, 0, 0))

    assert client.get(address(session_id, "count")).json()["segments"][0]["values"] == values.tolist()


def test_more_than_fits_an_answer_is_refused_with_advice(
    client: Client, store: SqliteSessionStore, session_id: str
) -> None:
    write(store, session_id, *(ecg_block(OPENED_NS + i * 4_000_000, first_index=i) for i in range(0, 6000, 50)))

    as_json = client.get(address(session_id))
    as_npz = client.get(address(session_id), headers=NPZ)

    assert problem(as_json) == problem(as_npz) == (422, "too-many-samples")
    assert "1000 values" in as_json.json()["detail"]
    assert "x-npz" in as_json.json()["detail"]
    assert "5000 values" in as_npz.json()["detail"]
    enough = {"end_ns": OPENED_NS + 1000 * 4_000_000}
    assert client.get(address(session_id), params=enough).status_code == 200


def test_the_limit_counts_the_values_of_all_channels(
    client: Client, store: SqliteSessionStore, session_id: str
) -> None:
    stream = Stream("accel", tuple(Channel(axis, "m/s2") for axis in "xyz"), "int16", 100.0)
    for boot_id, n_samples in ((1, 333), (2, 1)):
        values = np.zeros((3, n_samples), np.int16)
        write(store, session_id, SampleBlock("strap", stream, boot_id, 0, OPENED_NS, values, 0, 0, 0))
        response = client.get(address(session_id, "accel"))
        assert response.status_code == (200 if boot_id == 1 else 422)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/*;q=0.5", "application/json"),
        ("application/x-npz", "application/x-npz"),
        ("application/octet-stream", "application/x-npz"),
        ("text/html, application/x-npz;q=0.9", "application/x-npz"),
        ("application/json;q=0, application/x-npz", "application/x-npz"),
    ],
)
def test_the_accept_header_chooses_the_form(
    client: Client, store: SqliteSessionStore, session_id: str, accept: str, expected: str
) -> None:
    write(store, session_id, ecg_block(OPENED_NS))

    assert client.get(address(session_id), headers={"Accept": accept}).headers["content-type"] == expected


def test_a_form_we_do_not_have_is_a_problem(client: Client, session_id: str) -> None:
    response = client.get(address(session_id), headers={"Accept": "text/csv"})

    assert problem(response) == (406, "not-acceptable")


def test_an_unknown_stream_is_a_problem(client: Client, store: SqliteSessionStore, session_id: str) -> None:
    write(store, session_id, ecg_block(OPENED_NS))

    assert problem(client.get(address(session_id, "x"))) == (404, "stream-not-found")


def test_a_stream_that_changed_is_a_problem_not_a_mixture(
    client: Client, store: SqliteSessionStore, session_id: str
) -> None:
    changed = Stream("ecg", (Channel("lead_i", "mV"),), "int16", 125.0)
    block = SampleBlock("strap", changed, 9, 0, OPENED_NS, np.zeros((1, 5), np.int16), 0, 0, 0)
    write(store, session_id, ecg_block(OPENED_NS), block)

    assert problem(client.get(address(session_id))) == (409, "ambiguous-stream")


@pytest.mark.parametrize("query", ["start_ns=soon", "end_ns=1.5"])
def test_a_range_that_makes_no_sense_is_a_problem(client: Client, session_id: str, query: str) -> None:
    assert problem(client.get(f"{address(session_id)}?{query}")) == (422, "invalid-request")
