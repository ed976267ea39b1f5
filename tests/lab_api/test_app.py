"""The application as a whole: its errors, its guards, its description of itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import Client

from lab_api.problems import PROBLEMS
from lab_api.store.sqlite import SqliteSessionStore
from protocols.errors import TransportError
from tests.lab_api.requests import NEW, problem


def test_an_unknown_route_is_a_problem(client: Client) -> None:
    assert problem(client.get("/v1/nothing")) == (404, "unknown-resource")
    assert problem(client.get("/elsewhere")) == (404, "unknown-resource")


def test_an_unknown_method_is_a_problem_that_names_the_known_ones(client: Client) -> None:
    response = client.delete("/v1/sessions")

    assert problem(response) == (405, "method-not-allowed")
    assert response.headers["Allow"]


@pytest.mark.parametrize("defect", [KeyError("secret"), TransportError("secret")])
def test_a_defect_is_a_problem_that_tells_nothing_of_the_inside(
    client: Client, store: SqliteSessionStore, monkeypatch: pytest.MonkeyPatch, defect: Exception
) -> None:
    def broken(**_: object) -> None:
        raise defect

    monkeypatch.setattr(store, "sessions", broken)

    response = client.get("/v1/sessions")

    assert problem(response) == (500, "internal-error")
    assert "secret" not in response.text


def test_a_full_disk_is_a_problem_to_try_again_later(
    client: Client, store: SqliteSessionStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lab_api.store.session_file.create", full)
    with caplog.at_level(logging.ERROR):
        response = client.post("/v1/sessions", json=NEW)

    assert problem(response) == (503, "store-unavailable")
    assert response.headers["Retry-After"]
    assert "No space left" not in response.text
    assert "No space left" in caplog.text


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8710", "[::1]:8710", "[::1]", "LOCALHOST:1"])
def test_this_machines_own_names_are_answered(client: Client, host: str) -> None:
    assert client.get("/v1/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8710", "", "127.0.0.1:x", "[::1"])
def test_another_name_is_refused(client: Client, host: str) -> None:
    assert problem(client.get("/v1/health", headers={"Host": host})) == (421, "unknown-host")


def test_a_body_beyond_the_limit_is_refused(client: Client) -> None:
    response = client.post("/v1/sessions", json=NEW | {"title": "x" * 30_000})

    assert problem(response) == (413, "body-too-large")


def test_a_body_of_unknown_length_beyond_the_limit_is_refused(client: Client) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b'{"subject": "'
        for _ in range(100):
            sent += 1000
            yield b"x" * 1000

    response = client.post("/v1/sessions", content=endless(), headers={"Content-Type": "application/json"})

    assert problem(response) == (413, "body-too-large")


def test_the_front_page_leads_to_the_api(client: Client) -> None:
    links = client.get("/").json()

    assert all(client.get(links[name]).status_code == 200 for name in ("sessions", "health", "openapi"))


@pytest.fixture
def openapi(client: Client) -> dict[str, Any]:
    return dict(client.get("/v1/openapi.json").json())


def operations(openapi: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]


def test_openapi_names_and_describes_every_operation(openapi: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(openapi)]

    assert {"open_session", "close_session", "list_sessions", "get_session", "read_samples"} <= set(ids)
    assert len(set(ids)) == len(ids)
    assert all(operation["description"] for _, operation in operations(openapi))
    assert all(path.startswith("/v1/") for path in openapi["paths"])


def test_openapi_describes_every_error_as_a_problem(openapi: dict[str, Any]) -> None:
    for name, operation in operations(openapi):
        errors = {status: r for status, r in operation["responses"].items() if not status.startswith("2")}
        assert "500" in errors, name
        for status, response in errors.items():
            assert list(response["content"]) == ["application/problem+json"], (name, status)
            schema = response["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}
    assert "HTTPValidationError" not in openapi["components"]["schemas"]
    assert openapi["components"]["schemas"]["Problem"]["properties"]["errors"]


def test_openapi_has_no_dangling_references(openapi: dict[str, Any]) -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for child in node.values():
                yield from references(child)
        elif isinstance(node, list):
            for child in node:
                yield from references(child)

    known = {f"#/components/schemas/{name}" for name in openapi["components"]["schemas"]}
    assert set(references(openapi)) <= known


def test_openapi_gives_an_example_of_every_request_and_parameter(openapi: dict[str, Any]) -> None:
    schemas = openapi["components"]["schemas"]
    for name in ("NewSession", "AnnotationModel", "DeviceModel"):
        for field, schema in schemas[name]["properties"].items():
            assert "examples" in schema or "items" in schema, f"{name}.{field}"


def test_every_problem_has_a_status_of_its_kind_and_a_title() -> None:
    for name, (status, title) in PROBLEMS.items():
        assert 400 <= status < 600
        assert title
        assert name == name.lower()


def test_the_description_can_be_asked_for_twice(app: FastAPI) -> None:
    assert app.openapi() == app.openapi()
