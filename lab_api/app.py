"""The API: all wiring in one place."""

from __future__ import annotations

import importlib.metadata
import time
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from lab_api.guards import BodyLimit, HostGuard
from lab_api.problems import add_problem_handlers, describe_problems, problem_responses
from lab_api.recorder import Recorder
from lab_api.routes import (
    answers,
    aside,
    evaluations,
    frames,
    gaps,
    health,
    metrics,
    plans,
    readings,
    samples,
    sessions,
)
from lab_api.settings import Settings
from lab_api.state import Lab
from lab_api.store.session_store import SessionStore
from protocols.lab_clock import LabClock

PREFIX = "/v1"

_DESCRIPTION = """\
Sessions of a health Living Lab: what devices said about a subject, sample by sample, and what follows from it.

Times are UTC in nanoseconds since 1970 and intervals are half-open. Values are the device's own integers or
floats; each channel says how they become physical values (`raw * scale + offset`, in a UCUM unit). Errors are
problem documents (RFC 9457) with a stable `type`.
"""


def create_app(
    settings: Settings,
    *,
    store: SessionStore,
    recorder: Recorder | None = None,
    clock: LabClock | None = None,
) -> FastAPI:
    """Return the API over `store`.

    Parameters
    ----------
    store, recorder
        Run by the caller, before and after the application.
    clock
        The lab clock by which sessions are opened and closed; by default UTC.
    """
    app = FastAPI(
        title="Living Lab",
        version=importlib.metadata.version("living-lab"),
        description=_DESCRIPTION,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # Swagger UI and ReDoc load their scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        responses=problem_responses("internal-error", "invalid-request"),
    )
    clock = clock or LabClock(time.time_ns, time.monotonic_ns)
    app.state.lab = Lab(settings, store, clock, recorder)
    add_problem_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(HostGuard, allowed_hosts=settings.allowed_hosts)
    for routes in (sessions, samples, gaps, frames, readings, answers, evaluations, plans, health, aside):
        app.include_router(routes.router, prefix=PREFIX)
    app.include_router(metrics.router)
    app.get("/", include_in_schema=False)(_front_page)
    _describe(app)
    return app


def _front_page() -> dict[str, str]:
    """Lead someone who opens the bare address to the API."""
    return {
        "title": "Living Lab",
        "sessions": f"{PREFIX}/sessions",
        "health": f"{PREFIX}/health",
        "openapi": f"{PREFIX}/openapi.json",
    }


def _operation_id(route: APIRoute) -> str:
    return route.name


def _describe(app: FastAPI) -> None:
    """Make the application's OpenAPI document know the problem document."""
    openapi = app.openapi

    def openapi_with_problems() -> dict[str, Any]:
        document = openapi()
        describe_problems(document)
        return document

    app.openapi = openapi_with_problems  # type: ignore[method-assign]
