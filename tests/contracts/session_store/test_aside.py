"""What cannot be recorded is kept; what cannot be read is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab_api.store.session_store import SessionStore
from protocols.errors import StoreError
from tests.contracts.session_store.recordings import open_session


def test_what_is_set_aside_is_there_after_a_restart(make_store: Callable[[], SessionStore]) -> None:
    store = make_store()
    assert store.aside() == []
    names = ["lab.gw-1-77-5", "a/b ../c%", "ü"]
    for i, name in enumerate(names):
        store.set_aside(name, bytes([i]) * 1000)
    store.close()

    again = make_store()
    assert sorted(again.aside()) == sorted(names)
    assert [again.read_aside(name) for name in names] == [bytes([i]) * 1000 for i in range(3)]


def test_setting_aside_again_keeps_the_newest(store: SessionStore) -> None:
    store.set_aside("x", b"first")
    store.set_aside("x", b"second")

    assert (store.aside(), store.read_aside("x")) == (["x"], b"second")


def test_what_is_not_set_aside_is_named(store: SessionStore) -> None:
    with pytest.raises(StoreError, match="nothing-like-it"):
        store.read_aside("nothing-like-it")


def test_a_session_that_cannot_be_read_is_left_out_and_named_until_it_is_mended(
    make_store: Callable[[], SessionStore], damage: Callable[[str], Callable[[], None]]
) -> None:
    store = make_store()
    good, bad = open_session(store), open_session(store)
    store.close()
    mend = damage(bad.id)
    again = make_store()
    for _ in range(2):
        assert again.sessions() == [good]
        assert again.unreadable().keys() == {bad.id}
        assert bad.id in again.unreadable()[bad.id]

    mend()
    assert {session.id for session in again.sessions()} == {good.id, bad.id}
    assert again.unreadable() == {}


def test_nothing_is_unreadable_in_a_sound_store(store: SessionStore) -> None:
    open_session(store)
    store.sessions()

    assert store.unreadable() == {}
