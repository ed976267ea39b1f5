"""The stores that must pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab_api.store.session_store import Session, SessionStore
from lab_api.store.sqlite import SqliteSessionStore
from tests.contracts.session_store.recordings import open_session

STORES: dict[str, Callable[[Path], SessionStore]] = {"sqlite": SqliteSessionStore}


@pytest.fixture(params=sorted(STORES))
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], SessionStore]]:
    """Makes a store over the same place each time it is called, as a process that starts again would."""
    stores: list[SessionStore] = []

    def make() -> SessionStore:
        stores.append(STORES[request.param](tmp_path / "sessions"))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(make_store: Callable[[], SessionStore]) -> SessionStore:
    return make_store()


@pytest.fixture
def session(store: SessionStore) -> Session:
    return open_session(store)
