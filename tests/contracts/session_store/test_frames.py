"""Raw frames: bit for bit, once each, by the moment of their arrival."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab_api.store.session_store import Conflict, Session, SessionNotFoundError, SessionStore, StreamKey
from protocols.frames import RAW, FrameBlock
from protocols.gaps import Gap, GapReason
from tests.contracts.session_store.recordings import DEVICE, GATEWAY, OPENED_NS, make_block, open_session, write

STEP_NS = 10_000_000


def make_frames(first: int, n_frames: int, *, connection_id: int = 5, shift: int = 0) -> FrameBlock:
    """Return frames whose source, bytes and times follow from their index."""
    indices = np.arange(first, first + n_frames)
    return FrameBlock(
        device=DEVICE,
        connection_id=connection_id,
        first_frame=first,
        sources=tuple(f"source-{i % 3}" for i in indices),
        data=tuple(bytes([(int(i) + shift + k) % 256 for k in range(int(i) % 40)]) for i in indices),
        arrival_ns=OPENED_NS + indices * STEP_NS,
        arrival_monotonic_ns=indices * STEP_NS + (indices % 7),
    )


def read(store: SessionStore, session: Session) -> list[FrameBlock]:
    return list(store.frames(session.id, GATEWAY, DEVICE))


def joined(blocks: list[FrameBlock]) -> dict[tuple[int, int], FrameBlock]:
    """Return every frame by itself."""
    return {
        (block.connection_id, block.first_frame + i): block.part(i, i + 1)
        for block in blocks
        for i in range(block.n_frames)
    }


def test_frames_come_back_bit_for_bit_after_a_restart(make_store: Callable[[], SessionStore]) -> None:
    store = make_store()
    session = open_session(store)
    blocks = [make_frames(0, 1), make_frames(1, 300), make_frames(0, 60, connection_id=6)]
    result = write(store, session, blocks[2], *blocks[:2])

    assert (result.new_frames, result.duplicate_frames, result.new) == (361, 0, 0)
    again = make_store()
    assert read(again, session) == blocks
    assert again.framed_devices(session.id) == {(GATEWAY, DEVICE): 361}
    assert again.streams(session.id) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    pieces=st.lists(
        st.tuples(st.integers(0, 99), st.integers(1, 40), st.integers(0, 1)), min_size=1, max_size=10
    )
)
def test_any_arrangement_of_frames_reads_back_each_once(
    store: SessionStore, pieces: list[tuple[int, int, int]]
) -> None:
    session = open_session(store)
    blocks = [make_frames(first, n, connection_id=connection) for first, n, connection in pieces]
    result = write(store, session, *blocks)
    again = write(store, session, *blocks)

    expected = joined(blocks)
    assert joined(read(store, session)) == expected
    assert (result.new_frames, again.new_frames) == (len(expected), 0)
    assert again.duplicate_frames == sum(block.n_frames for block in blocks)
    assert result.conflicts == again.conflicts == ()


def test_frames_that_contradict_known_ones_are_reported_and_the_first_stay(
    store: SessionStore, session: Session
) -> None:
    write(store, session, make_frames(0, 50))
    result = write(store, session, make_frames(41, 20, shift=1))

    assert result.conflicts == (Conflict(session.id, GATEWAY, DEVICE, RAW.name, 5, 41, 9),)
    assert (result.new_frames, result.duplicate_frames) == (11, 0)
    assert joined(read(store, session))[5, 45] == make_frames(45, 1)


def test_frames_belong_to_a_session_by_arrival_cut_exactly(store: SessionStore) -> None:
    session = open_session(store, opened_ns=OPENED_NS + 10 * STEP_NS)
    write(store, session, make_frames(0, 100))
    store.close_session(session.id, closed_ns=OPENED_NS + 30 * STEP_NS)

    assert read(store, session) == [make_frames(10, 20)]


def test_frames_that_arrived_while_the_clock_was_set_back_are_cut_one_by_one(store: SessionStore) -> None:
    session = open_session(store)
    whole = make_frames(0, 30)
    arrival_ns = whole.arrival_ns.copy()
    arrival_ns[10:20] -= 3600 * 10**9
    write(
        store,
        session,
        FrameBlock(DEVICE, 5, 0, whole.sources, whole.data, arrival_ns, whole.arrival_monotonic_ns),
    )

    assert [(b.first_frame, b.n_frames) for b in read(store, session)] == [(0, 10), (20, 10)]


def test_missing_frames_of_a_connection_are_a_gap(store: SessionStore, session: Session) -> None:
    write(store, session, make_frames(0, 10), make_frames(25, 10), make_frames(40, 5, connection_id=6))
    (gap,) = store.gaps(session.id)

    assert (gap.gap.stream, gap.gap.reason, gap.gap.n_samples) == (RAW, GapReason.UNDECLARED, 15)
    assert (gap.gap.after_boot_id, gap.gap.after_index) == (5, 9)


def test_the_content_hash_covers_frames_in_whatever_pieces_they_came(store: SessionStore) -> None:
    session = open_session(store)
    write(store, session, make_block(0, 50))
    without = store.content_hash(session.id)
    write(store, session, make_frames(0, 50))
    whole = store.content_hash(session.id)
    write(store, session, make_frames(50, 1))
    more = store.content_hash(session.id)

    assert len({without, whole, more}) == 3
    other = open_session(store, opened_ns=session.opened_ns)
    write(store, other, *(make_frames(i, 10) for i in range(40, -1, -10)), make_block(0, 50))
    assert store.session(other.id).devices == session.devices
    assert joined(read(store, other)) == joined([make_frames(0, 50)])


def test_frames_of_an_unknown_session_are_not_found_before_any_is_asked_for(store: SessionStore) -> None:
    with pytest.raises(SessionNotFoundError):
        store.frames("0" * 32, GATEWAY, DEVICE)


def test_a_device_without_frames_has_none(store: SessionStore, session: Session) -> None:
    assert list(store.frames(session.id, GATEWAY, "other")) == []
    assert store.framed_devices(session.id) == {}


def test_frames_that_are_declared_missing_are_missing_once_until_they_come(
    store: SessionStore, session: Session
) -> None:
    declared = Gap(DEVICE, RAW, 5, 4, OPENED_NS + 1, OPENED_NS + 1, 5, GapReason.NOT_UNDERSTOOD)
    write(store, session, make_frames(0, 5), make_frames(10, 5), declared)
    assert [gap.gap for gap in store.gaps(session.id)] == [declared]
    assert [gap.gap for gap in store.gaps(session.id, StreamKey(GATEWAY, DEVICE, RAW))] == [declared]

    write(store, session, make_frames(5, 5))
    assert store.gaps(session.id) == []
