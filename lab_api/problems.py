"""Every error of the API as a problem document (RFC 9457).

A problem's `type` is a stable URN and means the same in every version; `detail` is for people and may change.
What is a defect of ours, or would tell about the inside of the server, goes to the log and not into the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from lab_api.evaluation import EvaluationNotFoundError
from lab_api.store.session_store import (
    AmbiguousStreamError,
    AnnotationExistsError,
    SessionNotFoundError,
    StreamNotFoundError,
    TooManySamplesError,
)
from protocols.errors import DecodeError, DefinitionError, LivingLabError, SignalError, StoreError

MEDIA_TYPE: Final = "application/problem+json"
URN: Final = "urn:living-lab:problem:"

PROBLEMS: Final[Mapping[str, tuple[int, str]]] = {
    "ambiguous-stream": (409, "The stream's name stands for several descriptions"),
    "annotations-exist": (409, "Other annotations have that name"),
    "body-too-large": (413, "The request body is too large"),
    "evaluation-not-found": (404, "There is no such evaluation"),
    "internal-error": (500, "The server has a defect"),
    "invalid-request": (422, "The request is not valid"),
    "method-not-allowed": (405, "The resource does not know this method"),
    "not-acceptable": (406, "No representation is acceptable"),
    "session-not-found": (404, "There is no such session"),
    "store-unavailable": (503, "The session store cannot be used"),
    "stream-not-found": (404, "There is no such stream in the session"),
    "too-many-samples": (422, "The range holds too many samples"),
    "unknown-host": (421, "The server does not answer under this name"),
    "unknown-resource": (404, "There is no such resource"),
    "unusable-signal": (422, "The signal cannot be used for this"),
}
"""Name, status and title of every problem."""

_PROBLEM_OF: Final[Mapping[type[LivingLabError], str]] = {
    AmbiguousStreamError: "ambiguous-stream",
    AnnotationExistsError: "annotations-exist",
    DecodeError: "invalid-request",
    DefinitionError: "invalid-request",
    EvaluationNotFoundError: "evaluation-not-found",
    SessionNotFoundError: "session-not-found",
    SignalError: "unusable-signal",
    StreamNotFoundError: "stream-not-found",
    TooManySamplesError: "too-many-samples",
}
_PROBLEM_OF_STATUS: Final = {404: "unknown-resource", 405: "method-not-allowed", 413: "body-too-large"}

_log = logging.getLogger(__name__)


class FieldError(BaseModel):
    """What is wrong with one part of a request."""

    location: str = Field(description="Where: `body.subject`, `query.limit`", examples=["body.subject"])
    detail: str


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = Field(description="Stable identifier of the problem", examples=[f"{URN}session-not-found"])
    title: str = Field(examples=["There is no such session"])
    status: int = Field(examples=[404])
    detail: str = Field(description="This occurrence, for people", examples=["no session '17f2'"])
    errors: list[FieldError] | None = Field(default=None, description="Parts of the request at fault")


class ProblemError(Exception):
    """Ends a request with the problem `name` of `PROBLEMS`."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(detail)
        self.name = name
        self.detail = detail


def problem_response(
    name: str,
    detail: str,
    *,
    errors: Sequence[FieldError] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return the problem `name` of `PROBLEMS` as a response."""
    status, title = PROBLEMS[name]
    problem = Problem(
        type=URN + name, title=title, status=status, detail=detail, errors=None if errors is None else [*errors]
    )
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, status, headers=headers, media_type=MEDIA_TYPE)


def problem_responses(*names: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of a route's problems."""
    described: dict[int | str, dict[str, Any]] = {}
    for name in names:
        status, title = PROBLEMS[name]
        example = {"type": URN + name, "title": title, "status": status, "detail": "…"}
        content = described.setdefault(status, _described(HTTPStatus(status).phrase))["content"][MEDIA_TYPE]
        content["examples"][name] = {"value": example}
    return described


def describe_problems(openapi: dict[str, Any]) -> None:
    """Add the problem document to an OpenAPI document's schemas."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(schema.pop("$defs"))
    schemas["Problem"] = schema


def add_problem_handlers(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""
    app.exception_handler(ProblemError)(_on_problem)
    app.exception_handler(LivingLabError)(_on_living_lab_error)
    app.exception_handler(RequestValidationError)(_on_invalid_request)
    app.exception_handler(HTTPException)(_on_http_exception)
    app.exception_handler(Exception)(_on_defect)


def _described(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema, "examples": {}}}}


def _on_problem(_request: Request, error: ProblemError) -> JSONResponse:
    return problem_response(error.name, error.detail)


def _on_living_lab_error(request: Request, error: LivingLabError) -> JSONResponse:
    for kind in type(error).__mro__:
        if kind in _PROBLEM_OF:
            return problem_response(_PROBLEM_OF[kind], str(error))
    if isinstance(error, StoreError):
        _log.error("%s %s: %s", request.method, request.url.path, error)
        return problem_response("store-unavailable", "The server's log says why.", headers={"Retry-After": "5"})
    raise error


def _on_invalid_request(_request: Request, error: RequestValidationError) -> JSONResponse:
    errors = [
        FieldError(location=".".join(str(part) for part in e["loc"]), detail=str(e["msg"]))
        for e in error.errors()
    ]
    detail = "; ".join(f"{e.location}: {e.detail}" for e in errors[:3])
    return problem_response("invalid-request", detail, errors=errors)


def _on_http_exception(request: Request, error: HTTPException) -> JSONResponse:
    name = _PROBLEM_OF_STATUS.get(error.status_code, "invalid-request")
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return problem_response(name, detail, headers=error.headers)


def _on_defect(_request: Request, _error: Exception) -> JSONResponse:
    """Answer; the exception goes on to the server, which logs it."""
    return problem_response("internal-error", "The server's log says more.")
