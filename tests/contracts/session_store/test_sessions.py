"""Sessions: opened, closed, listed, annotated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lab_api.store.session_store import (
    AnnotationExistsError,
    AnnotationSet,
    Session,
    SessionDevice,
    SessionNotFoundError,
    SessionStore,
    StreamKey,
    StreamNotFoundError,
)
from protocols.errors import DefinitionError, StoreError
from tests.contracts.session_store.recordings import (
    DEVICE,
    GATEWAY,
    OPENED_NS,
    make_block,
    make_stream,
    open_session,
    write,
)


def beats(name: str = "atr-1", indices: tuple[int, ...] = (10, 300), symbols: str = "NV") -> AnnotationSet:
    return AnnotationSet(name, GATEWAY, DEVICE, "ecg", 360.0, np.array(indices, dtype=np.int64), tuple(symbols))


def test_an_opened_session_is_there_after_a_restart(make_store: Callable[[], SessionStore]) -> None:
    devices = [SessionDevice("reference", "gw-1", "nonin"), SessionDevice("test", "gw-2", "ring")]
    opened = open_session(make_store(), devices=devices, title="Séance 1")

    assert make_store().session(opened.id) == opened
    assert (opened.subject, opened.title, opened.closed_ns) == ("S-001", "Séance 1", None)
    assert opened.devices == tuple(devices)
    assert opened.software_version


def test_closing_again_changes_nothing(store: SessionStore, session: Session) -> None:
    closed = store.close_session(session.id, closed_ns=OPENED_NS + 5)

    assert closed.closed_ns == OPENED_NS + 5
    assert store.close_session(session.id, closed_ns=OPENED_NS + 9) == closed
    assert store.session(session.id) == closed


def test_a_session_cannot_close_before_it_opened(store: SessionStore, session: Session) -> None:
    with pytest.raises(DefinitionError, match="closed_ns"):
        store.close_session(session.id, closed_ns=OPENED_NS - 1)

    assert store.session(session.id).closed_ns is None


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "Mme Jeanne Martin"},
        {"subject": ""},
        {"devices": []},
        {"devices": [SessionDevice("test", "g", "d")] * 2},
        {"opened_ns": -1},
        {"opened_ns": 1 << 63},
        {"title": "x" * 201},
    ],
)
def test_a_session_that_makes_no_sense_is_refused(store: SessionStore, changes: dict[str, object]) -> None:
    with pytest.raises(DefinitionError):
        open_session(store, **changes)

    assert store.sessions() == []


@pytest.mark.parametrize("role_gateway_device", [("Test", "g", "d"), ("test", "a/b", "d"), ("test", "g", "")])
def test_a_device_that_makes_no_sense_is_refused(role_gateway_device: tuple[str, str, str]) -> None:
    with pytest.raises(DefinitionError):
        SessionDevice(*role_gateway_device)


def test_sessions_are_listed_newest_first_and_page_by_page(store: SessionStore) -> None:
    opened = [open_session(store, opened_ns=OPENED_NS + i).id for i in (3, 1, 4, 0, 2)]
    newest_first = [opened[i] for i in (2, 0, 4, 1, 3)]

    assert [s.id for s in store.sessions()] == newest_first
    assert [s.id for s in store.sessions(limit=2)] == newest_first[:2]
    assert [s.id for s in store.sessions(limit=2, before=newest_first[1])] == newest_first[2:4]
    assert store.sessions(before=newest_first[-1]) == []


def test_two_sessions_of_one_moment_have_different_ids(store: SessionStore) -> None:
    assert open_session(store).id != open_session(store).id


@pytest.mark.parametrize("session_id", ["0" * 32, "", "../../etc/passwd", "é" * 32, "x" * 10_000])
def test_an_unknown_session_is_reported_as_not_found(store: SessionStore, session_id: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.session(session_id),
        lambda: store.close_session(session_id, closed_ns=OPENED_NS),
        lambda: store.write({session_id: [(GATEWAY, make_block(0, 1))]}),
        lambda: store.streams(session_id),
        lambda: store.read(session_id, GATEWAY, DEVICE, "ecg"),
        lambda: store.extent(session_id, StreamKey(GATEWAY, DEVICE, make_stream())),
        lambda: store.annotate(session_id, beats()),
        lambda: store.annotations(session_id),
        lambda: store.content_hash(session_id),
    ]
    for call in calls:
        with pytest.raises(SessionNotFoundError):
            call()


def test_annotations_come_back_as_they_were_given(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(0, 10))
    store.annotate(session.id, beats("b-2", (5, 5, 1 << 40), '"|~'))
    store.annotate(session.id, beats("a-1"))
    store.annotate(session.id, beats("a-1"))

    first, second = store.annotations(session.id)

    assert (first.name, first.symbols, first.rate_hz) == ("a-1", ("N", "V"), 360.0)
    assert (second.gateway, second.device, second.stream) == (GATEWAY, DEVICE, "ecg")
    assert second.sample_indices.tolist() == [5, 5, 1 << 40]
    assert second.sample_indices.dtype == np.int64


def test_another_set_of_annotations_needs_another_name(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(0, 10))
    store.annotate(session.id, beats())

    with pytest.raises(AnnotationExistsError, match="atr-1"):
        store.annotate(session.id, beats(symbols="NN"))

    assert store.annotations(session.id)[0].symbols == ("N", "V")


def test_annotations_of_a_stream_that_is_not_there_are_refused(store: SessionStore, session: Session) -> None:
    with pytest.raises(StreamNotFoundError, match="ecg"):
        store.annotate(session.id, beats())

    assert store.annotations(session.id) == []


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a b"},
        {"rate_hz": 0.0},
        {"rate_hz": float("nan")},
        {"sample_indices": np.array([3, 2], dtype=np.int64)},
        {"sample_indices": np.array([1], dtype=np.int64)},
        {"sample_indices": np.array([1, 2], dtype=np.int32)},
        {"symbols": ("N", "")},
    ],
)
def test_annotations_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    fields: dict[str, object] = {
        "name": "atr-1",
        "gateway": GATEWAY,
        "device": DEVICE,
        "stream": "ecg",
        "rate_hz": 360.0,
        "sample_indices": np.array([1, 2], dtype=np.int64),
        "symbols": ("N", "N"),
    }
    with pytest.raises(DefinitionError):
        AnnotationSet(**(fields | change))  # type: ignore[arg-type]


def test_not_found_is_a_store_error() -> None:
    assert issubclass(SessionNotFoundError, StoreError)
    assert issubclass(StreamNotFoundError, StoreError)


def test_annotations_may_name_the_boot_that_they_count(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(0, 50))
    plain, of_a_boot = beats("one"), replace(beats("two"), boot_id=7)
    for each in (plain, of_a_boot):
        store.annotate(session.id, each)
    assert [each.boot_id for each in store.annotations(session.id)] == [None, 7]
    assert "boot_id" not in plain.canonical()

    with pytest.raises(DefinitionError, match="boot_id"):
        replace(plain, boot_id=-1)
