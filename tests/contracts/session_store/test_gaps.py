"""Gaps: kept as they were declared, found where nobody declared them, told with every session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab_api.store.session_gaps import SessionGap
from lab_api.store.session_store import Session, SessionNotFoundError, SessionStore, StreamKey
from protocols.gaps import Gap, GapReason
from tests.contracts.session_store.recordings import (
    DEVICE,
    GATEWAY,
    OPENED_NS,
    make_block,
    make_stream,
    open_session,
    write,
)

PERIOD_NS = 4_000_000
STREAM = make_stream()


def make_gap(after_index: int, n_samples: int | None, **changes: Any) -> Gap:
    """Return a gap in the stream of `make_block`, with times that follow from the indices."""
    start_ns = OPENED_NS + (after_index + 1) * PERIOD_NS
    fields: dict[str, Any] = {
        "device": DEVICE,
        "stream": STREAM,
        "after_boot_id": 7,
        "after_index": after_index,
        "start_ns": start_ns,
        "end_ns": start_ns + (n_samples or 0) * PERIOD_NS,
        "n_samples": n_samples,
        "reason": GapReason.LOST_ON_LINK,
    }
    return Gap(**(fields | changes))


def gaps(store: SessionStore, session: Session) -> list[Gap]:
    return [gap.gap for gap in store.gaps(session.id)]


def close(store: SessionStore, session: Session, n_samples: int) -> None:
    store.close_session(session.id, closed_ns=OPENED_NS + n_samples * PERIOD_NS)


def test_a_declared_gap_comes_back_bit_for_bit_after_a_restart(make_store: Callable[[], SessionStore]) -> None:
    store = make_store()
    session = open_session(store)
    declared = [
        make_gap(99, 50, reason=GapReason.SPOOL_FULL),
        make_gap(-1, None, after_boot_id=3, start_ns=OPENED_NS + 5, end_ns=OPENED_NS + 6),
        make_gap(4, None, stream=make_stream(rate_hz=None, name="rr"), end_ns=OPENED_NS + 10**10),
    ]
    result = write(store, session, make_block(0, 100), make_block(150, 100), *declared)

    assert result.gaps == 3
    assert make_store().gaps(session.id) == [SessionGap(GATEWAY, declared[i]) for i in (1, 0, 2)]
    assert [key.stream.name for key in store.streams(session.id)] == ["ecg", "rr"]


@pytest.mark.parametrize("reason", list(GapReason))
def test_every_reason_is_kept(store: SessionStore, session: Session, reason: GapReason) -> None:
    write(store, session, make_gap(3, 2, reason=reason))

    assert [gap.reason for gap in gaps(store, session)] == [reason]


def test_of_two_records_of_a_gap_the_one_that_ends_later_stays_in_whatever_order(store: SessionStore) -> None:
    grown = [make_gap(9, None, end_ns=OPENED_NS + (1 + i) * 10**9) for i in range(3)]
    counted = replace(grown[2], n_samples=700)
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        session = open_session(store)
        write(store, session, *(grown[i] for i in order))
        assert gaps(store, session) == [grown[2]]
        assert write(store, session, counted).gaps == 1
        assert write(store, session, grown[2], counted).gaps == 0
        assert gaps(store, session) == [counted]


def test_a_jump_of_the_index_that_nobody_declared_is_a_gap_with_an_exact_count(
    store: SessionStore, session: Session
) -> None:
    write(store, session, make_block(0, 100), make_block(130, 100))

    assert gaps(store, session) == [make_gap(99, 30, reason=GapReason.UNDECLARED)]


def test_only_what_no_gap_explains_is_undeclared(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(0, 100), make_block(200, 100), make_gap(119, 30))

    assert [(gap.reason.value, gap.after_index, gap.n_samples) for gap in gaps(store, session)] == [
        ("undeclared", 99, 20),
        ("lost-on-link", 119, 30),
        ("undeclared", 149, 50),
    ]


def test_a_gap_without_count_explains_the_samples_of_its_time(store: SessionStore, session: Session) -> None:
    silent = make_gap(99, None, end_ns=OPENED_NS + 200 * PERIOD_NS, reason=GapReason.SILENT)
    write(store, session, make_block(0, 100), make_block(200, 100), silent)

    assert gaps(store, session) == [silent]


def test_what_a_gap_without_count_leaves_unexplained_is_undeclared(
    store: SessionStore, session: Session
) -> None:
    silent = make_gap(99, None, end_ns=OPENED_NS + 150 * PERIOD_NS, reason=GapReason.SILENT)
    write(store, session, make_block(0, 100), make_block(200, 100), silent)
    _, rest = gaps(store, session)

    assert rest.reason is GapReason.UNDECLARED
    assert 47 <= (rest.n_samples or 0) <= 50


def test_time_between_two_boots_that_nobody_declared_is_a_gap_without_count(
    store: SessionStore, session: Session
) -> None:
    write(store, session, make_block(0, 100), make_block(0, 50, boot_id=8, offset_ns=10**9))
    (gap,) = gaps(store, session)

    assert (gap.reason, gap.n_samples, gap.after_boot_id, gap.after_index) == ("undeclared", None, 7, 99)
    assert (gap.start_ns, gap.end_ns) == (OPENED_NS + 100 * PERIOD_NS, OPENED_NS + 10**9)


def test_boots_that_follow_each_other_within_tolerance_leave_no_gap(store: SessionStore) -> None:
    for late_ns, uncertainty_ns, n_gaps in (
        (PERIOD_NS // 2 - 2000, 1000, 0),
        (10**8, 1000, 1),
        (10**8, 5 * 10**7, 0),
    ):
        session = open_session(store)
        write(
            store,
            session,
            make_block(0, 100, uncertainty_ns=uncertainty_ns),
            make_block(0, 9, boot_id=8, offset_ns=100 * PERIOD_NS + late_ns, uncertainty_ns=uncertainty_ns),
        )
        assert len(gaps(store, session)) == n_gaps


def test_a_gap_with_a_count_of_nothing_is_no_loss_and_joins_two_boots(
    store: SessionStore, session: Session
) -> None:
    joint = make_gap(99, 0, reason=GapReason.DEVICE_RESTARTED)
    write(store, session, make_block(0, 100), make_block(100, 50, boot_id=8, offset_ns=3600 * 10**9), joint)

    assert gaps(store, session) == []


def test_the_edges_of_a_closed_session_must_be_accounted_for(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(100, 100))
    assert [(gap.start_ns, gap.end_ns) for gap in gaps(store, session)] == [
        (OPENED_NS, OPENED_NS + 100 * PERIOD_NS)
    ]
    close(store, session, 300)

    first, last = gaps(store, session)
    assert (first.reason, first.n_samples, first.after_index) == ("undeclared", None, -1)
    assert (last.reason, last.n_samples, last.after_index) == ("undeclared", None, 199)
    assert (last.start_ns, last.end_ns) == (OPENED_NS + 200 * PERIOD_NS, OPENED_NS + 300 * PERIOD_NS)


@pytest.mark.parametrize(("uncertainty_ns", "n_gaps"), [(1000, 2), (20 * PERIOD_NS, 0)])
def test_the_edges_are_as_sharp_as_the_times_there(
    store: SessionStore, session: Session, uncertainty_ns: int, n_gaps: int
) -> None:
    write(store, session, make_block(10, 100, uncertainty_ns=uncertainty_ns))
    close(store, session, 120)

    assert len(gaps(store, session)) == n_gaps


def test_a_session_full_of_samples_has_no_gap(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(0, 100), make_block(100, 200))
    close(store, session, 300)

    assert gaps(store, session) == []


def test_a_gap_that_reaches_beyond_the_session_is_cut_and_loses_its_count(
    store: SessionStore, session: Session
) -> None:
    before = make_gap(-1, 100, after_boot_id=6, start_ns=OPENED_NS - 10**9, end_ns=OPENED_NS + 100 * PERIOD_NS)
    after = make_gap(199, 1000)
    outside = make_gap(1500, 9)
    write(store, session, before, make_block(100, 100), after, outside)
    close(store, session, 300)

    first, last = store.gaps(session.id)
    assert (first.is_part, last.is_part) == (True, True)
    assert first.gap == replace(before, start_ns=OPENED_NS, n_samples=None)
    assert last.gap == replace(after, end_ns=OPENED_NS + 300 * PERIOD_NS, n_samples=None)


def test_a_stream_without_rate_has_only_declared_gaps(store: SessionStore, session: Session) -> None:
    rr = make_stream(rate_hz=None, name="rr")
    write(store, session, make_block(0, 5, stream=rr), make_block(50, 5, stream=rr))
    assert gaps(store, session) == []

    declared = make_gap(4, None, stream=rr, end_ns=OPENED_NS + 10**10)
    write(store, session, declared)
    assert gaps(store, session) == [declared]


def test_samples_that_came_after_all_are_taken_off_a_gap(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(0, 100), make_block(200, 100), make_gap(99, 100))
    write(store, session, make_block(120, 30))
    assert gaps(store, session) == [replace(make_gap(99, 100), n_samples=70)]

    write(store, session, make_block(100, 100))
    assert gaps(store, session) == []


def test_gaps_of_one_stream_can_be_asked_for(store: SessionStore, session: Session) -> None:
    other = make_stream(name="ppg")
    write(store, session, make_gap(3, 2), make_gap(3, 5, stream=other))
    (gap,) = store.gaps(session.id, StreamKey(GATEWAY, DEVICE, other))

    assert gap.gap.n_samples == 5


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    pieces=st.lists(st.tuples(st.integers(0, 119), st.integers(1, 30)), min_size=1, max_size=8),
    counted=st.lists(st.tuples(st.integers(0, 119), st.integers(1, 20)), max_size=3),
    bounds=st.tuples(st.integers(-5, 130), st.integers(-5, 130)),
)
def test_the_gaps_of_a_range_are_what_the_whole_has_there(
    store: SessionStore,
    pieces: list[tuple[int, int]],
    counted: list[tuple[int, int]],
    bounds: tuple[int, int],
) -> None:
    session = open_session(store)
    write(store, session, *(make_block(first, n) for first, n in pieces))
    write(store, session, *(make_gap(first - 1, n) for first, n in counted))
    close(store, session, 150)
    start_ns, end_ns = (OPENED_NS + bound * PERIOD_NS for bound in bounds)
    key = StreamKey(GATEWAY, DEVICE, STREAM)

    whole = [gap.between(start_ns, end_ns) for gap in store.gaps(session.id, key)]

    part = store.gaps(session.id, key, start_ns=start_ns, end_ns=end_ns)
    assert part == [gap for gap in whole if gap is not None]


def test_gaps_of_an_unknown_session_are_not_found(store: SessionStore) -> None:
    with pytest.raises(SessionNotFoundError):
        store.gaps("0" * 32)


def test_the_content_hash_covers_gaps_as_far_as_they_lie_in_the_session(store: SessionStore) -> None:
    session = open_session(store)
    write(store, session, make_block(0, 100), make_block(150, 50))
    close(store, session, 300)
    without = store.content_hash(session.id)
    write(store, session, make_gap(99, 50))
    with_gap = store.content_hash(session.id)
    write(store, session, make_gap(199, None, end_ns=OPENED_NS + 400 * PERIOD_NS))
    grown = store.content_hash(session.id)
    write(store, session, make_gap(199, None, end_ns=OPENED_NS + 9000 * PERIOD_NS), make_gap(5000, 3))

    assert len({without, with_gap, grown}) == 3
    assert store.content_hash(session.id) == grown
