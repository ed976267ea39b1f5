"""The real application over an embedded store, on a clock that tests set."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from lab_api.app import create_app
from lab_api.settings import Settings
from lab_api.store.sqlite import SqliteSessionStore
from protocols.lab_clock import LabClock

OPENED_NS = 1_790_000_000_000_000_000


@dataclass
class SettableClock:
    """Reads `now_ns` until it is set anew."""

    now_ns: int = OPENED_NS

    def lab_clock(self) -> LabClock:
        return LabClock(lambda: self.now_ns, lambda: self.now_ns)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_folder=tmp_path, max_json_values=1000, max_binary_values=5000, max_body_bytes=20_000)


@pytest.fixture
def store(settings: Settings) -> Iterator[SqliteSessionStore]:
    with SqliteSessionStore(settings.sessions_folder) as store:
        yield store


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def app(settings: Settings, store: SqliteSessionStore, clock: SettableClock) -> FastAPI:
    return create_app(settings, store=store, clock=clock.lab_clock())


class AppTransport(httpx.BaseTransport):
    """Hands requests to an application in this process."""

    def __init__(self, app: FastAPI) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return asyncio.run(self._answer(request))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        return httpx.Response(response.status_code, headers=response.headers, content=await response.aread())


@pytest.fixture
def client(app: FastAPI) -> Iterator[httpx.Client]:
    with httpx.Client(transport=AppTransport(app), base_url="http://localhost:8710") as client:
        yield client
