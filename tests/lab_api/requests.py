"""What tests ask the API again and again."""

from __future__ import annotations

from typing import Any

from httpx import Client, Response

STRAP = {"role": "test", "gateway": "gw-1", "device": "strap"}
NEW = {"subject": "S-001", "devices": [STRAP], "title": "Run 1"}


def open_session(client: Client, **changes: Any) -> dict[str, Any]:
    response = client.post("/v1/sessions", json=NEW | changes)
    assert response.status_code == 201, response.text
    return dict(response.json())


def problem(response: Response) -> tuple[int, str]:
    """Return status and name of a problem document, which the response must be."""
    body = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == response.status_code
    assert body["title"]
    return response.status_code, body["type"].removeprefix("urn:living-lab:problem:")
