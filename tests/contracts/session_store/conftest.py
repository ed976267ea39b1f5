"""The stores that must pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab_api.store.session_store import Session, SessionStore
from lab_api.store.sqlite import SqliteSessionStore
from tests.contracts.session_store.recordings import open_session

STORES: dict[str, Callable[[Path], SessionStore]] = {"sqlite": SqliteSessionStore}


def _damage_file(folder: Path, session_id: str) -> Callable[[], None]:
    """Damage a session's file; return what mends it."""
    path = folder / f"{session_id}.session"
    content = path.read_bytes()
    path.write_bytes(b"damaged" * 1000)
    return lambda: path.write_bytes(content) and None


DAMAGE: dict[str, Callable[[Path, str], Callable[[], None]]] = {"sqlite": _damage_file}
"""For each store, what makes one of its sessions unreadable."""


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
def damage(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Callable[[], None]]:
    """Makes a session unreadable, and returns what mends it; no store may be open meanwhile."""
    kind = request.node.callspec.params["make_store"]
    return lambda session_id: DAMAGE[kind](tmp_path / "sessions", session_id)


@pytest.fixture
def store(make_store: Callable[[], SessionStore]) -> SessionStore:
    return make_store()


@pytest.fixture
def session(store: SessionStore) -> Session:
    return open_session(store)
