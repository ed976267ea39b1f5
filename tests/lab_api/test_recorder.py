"""Blocks from gateways end up in the right sessions, and gateways learn what is durable."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lab_api.recorder
from lab_api.recorder import Recorder
from lab_api.store.session_store import Session, SessionDevice, StreamNotFoundError
from lab_api.store.sqlite import SqliteSessionStore
from protocols import records
from protocols.errors import StoreError
from protocols.frames import RAW
from protocols.gaps import Gap, GapReason
from protocols.lab_clock import LabClock
from protocols.samples import SampleBlock, Stream
from protocols.sparkplug.blocks import encode_record
from protocols.sparkplug.host import HostDisconnected, NodeIdShared
from protocols.sparkplug.payload import parse
from protocols.sparkplug.topics import Message, NodeId
from tests.lab_api.direct_gateways import (
    ECG,
    INCARNATION,
    DirectGateway,
    DirectHost,
    ecg_block,
    frame_block,
    settled,
    wait_until,
)

CLOCK = LabClock(time.time_ns, time.monotonic_ns)
SECOND_NS = 1_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteSessionStore]:
    with SqliteSessionStore(tmp_path / "sessions") as store:
        yield store


@pytest.fixture
def host() -> DirectHost:
    return DirectHost()


@pytest.fixture
def recorder(store: SqliteSessionStore, host: DirectHost) -> Iterator[Recorder]:
    with Recorder(store, host, CLOCK) as recorder:
        yield recorder


@pytest.fixture
def gateway(recorder: Recorder, host: DirectHost) -> DirectGateway:
    gateway = DirectGateway(host)
    gateway.be_born()
    return gateway


def open_session(
    store: SqliteSessionStore, *, opened_ns: int | None = None, gateway: str = "gw-1", device: str = "strap"
) -> Session:
    return store.open_session(
        subject="S-001",
        devices=[SessionDevice("test", gateway, device)],
        opened_ns=CLOCK.now_ns() - 3600 * SECOND_NS if opened_ns is None else opened_ns,
    )


def stored(store: SqliteSessionStore, session: Session) -> list[int]:
    try:
        return store.read(session.id, "gw-1", "strap", "ecg").values()[0].tolist()
    except StreamNotFoundError:
        return []


def just_now_ns(seconds_ago: float = 1.0) -> int:
    return CLOCK.now_ns() - round(seconds_ago * SECOND_NS)


def test_a_block_is_in_its_session_when_the_gateway_is_told(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway
) -> None:
    session = open_session(store)
    block = ecg_block(just_now_ns())
    gateway.publish(1, block)
    wait_until(lambda: gateway.watermark() == 1)

    (segment,) = store.read(session.id, "gw-1", "strap", "ecg").segments
    assert np.array_equal(segment.values, block.values)
    assert np.array_equal(segment.times_ns, block.sample_times_ns())
    status = recorder.status()
    assert (status.blocks, status.new_samples, status.unassigned_samples) == (1, 50, 0)
    assert (status.nodes[0].watermark, status.nodes[0].online, status.fault) == (1, True, "")


def test_without_a_session_nothing_is_kept_and_the_gateway_may_forget(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway
) -> None:
    session = open_session(store, device="another")
    gateway.publish(1, ecg_block(just_now_ns()))
    wait_until(lambda: gateway.watermark() == 1)

    assert store.streams(session.id) == []
    assert recorder.status().unassigned_samples == 50


def test_only_samples_within_the_session_are_kept(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway
) -> None:
    start_ns = just_now_ns(10)
    session = open_session(store, opened_ns=start_ns + 10 * 4_000_000)
    store.close_session(session.id, closed_ns=start_ns + 80 * 4_000_000)
    gateway.publish(1, ecg_block(start_ns))
    gateway.publish(2, ecg_block(start_ns + 50 * 4_000_000, first_index=50))
    wait_until(lambda: gateway.watermark() == 2)

    assert stored(store, session) == list(range(10, 80))
    assert recorder.status().unassigned_samples == 30


def test_a_late_block_goes_where_its_times_belong(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway
) -> None:
    start_ns = just_now_ns(1000)
    early = open_session(store, opened_ns=start_ns)
    store.close_session(early.id, closed_ns=start_ns + 100 * SECOND_NS)
    now = open_session(store, opened_ns=start_ns + 100 * SECOND_NS)
    gateway.publish(1, ecg_block(start_ns + 5 * SECOND_NS))
    wait_until(lambda: gateway.watermark() == 1)

    assert stored(store, early) == list(range(50))
    assert stored(store, now) == []


def test_a_device_may_be_in_two_sessions(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway
) -> None:
    one, two = open_session(store), open_session(store)
    gateway.publish(1, ecg_block(just_now_ns()))
    wait_until(lambda: gateway.watermark() == 1)

    assert stored(store, one) == stored(store, two) == list(range(50))


def test_the_first_samples_of_a_session_are_kept_even_if_it_opens_slowly(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = lab_api.store.session_file.create

    def create_slowly(*arguments: Any) -> None:
        time.sleep(0.7)
        create(*arguments)

    monkeypatch.setattr("lab_api.store.session_file.create", create_slowly)
    opened: list[Session] = []
    opening = threading.Thread(target=lambda: opened.append(open_session(store, opened_ns=CLOCK.now_ns())))
    opening.start()
    time.sleep(0.02)
    gateway.publish(1, ecg_block(CLOCK.now_ns()))
    opening.join()
    wait_until(lambda: gateway.watermark() == 1)

    assert stored(store, opened[0]) == list(range(50))


def test_a_block_ahead_of_the_lab_clock_waits_for_a_session(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway
) -> None:
    gateway.publish(1, ecg_block(CLOCK.now_ns() + SECOND_NS // 2))
    time.sleep(0.4)
    assert gateway.watermark() == 0
    session = open_session(store, opened_ns=CLOCK.now_ns())
    wait_until(lambda: gateway.watermark() == 1)

    assert stored(store, session) == list(range(50))


def test_a_block_from_the_far_future_does_not_wait_for_ever(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway
) -> None:
    gateway.publish(1, ecg_block(CLOCK.now_ns() + 10**6 * SECOND_NS))

    wait_until(lambda: gateway.watermark() == 1)
    assert recorder.status().unassigned_samples == 50


def test_a_lost_block_holds_the_watermark_until_it_comes(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway
) -> None:
    session = open_session(store)
    blocks = {i: ecg_block(just_now_ns(60 - i), first_index=50 * i) for i in range(1, 6)}
    for seq in (1, 3, 5):
        gateway.publish(seq, blocks[seq])
    wait_until(settled(recorder, 3))
    assert gateway.watermark() == 1

    for seq in (2, 3, 4, 5):
        gateway.publish(seq, blocks[seq])
    wait_until(lambda: gateway.watermark() == 5)

    assert stored(store, session) == list(range(50, 300))
    assert recorder.status().duplicate_samples == 0


def test_a_block_that_comes_again_makes_the_recorder_repeat_itself(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway
) -> None:
    open_session(store)
    block = ecg_block(just_now_ns())
    gateway.publish(1, block)
    wait_until(lambda: gateway.watermark() == 1)
    told = len(gateway.watermarks())
    gateway.publish(1, block)

    wait_until(lambda: len(gateway.watermarks()) == told + 1)
    assert gateway.watermark() == 1
    assert recorder.status().new_samples == 50


def test_a_new_recorder_goes_on_where_the_gateway_says(store: SqliteSessionStore) -> None:
    session = open_session(store)
    blocks = {i: ecg_block(just_now_ns(60 - i), first_index=50 * i) for i in range(1, 5)}
    for first, oldest in ((1, 1), (3, 2)):
        host = DirectHost()
        gateway = DirectGateway(host)
        with Recorder(store, host, CLOCK) as recorder:
            gateway.be_born(oldest_seq=oldest)
            for seq in range(oldest, first + 2):
                gateway.publish(seq, blocks[seq])
            wait_until(lambda gateway=gateway, first=first: gateway.watermark() == first + 1)

    assert stored(store, session) == list(range(50, 250))
    assert recorder.status().duplicate_samples == 50


def test_a_new_spool_starts_its_own_count(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway, host: DirectHost
) -> None:
    session = open_session(store)
    gateway.publish(1, ecg_block(just_now_ns(9)))
    wait_until(lambda: gateway.watermark() == 1)
    replaced = DirectGateway(host, incarnation=78)
    replaced.be_born()
    replaced.publish(1, ecg_block(just_now_ns(8), boot_id=4))
    wait_until(lambda: replaced.watermark() == 1)

    assert [s.boot_id for s in store.read(session.id, "gw-1", "strap", "ecg").segments] == [3, 4]
    assert [node.incarnation for node in recorder.status().nodes] == [78]


def test_gateways_with_equal_device_names_are_kept_apart(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway, host: DirectHost
) -> None:
    session = open_session(store, gateway="gw-2")
    second = DirectGateway(host, "gw-2")
    second.be_born()
    gateway.publish(1, ecg_block(just_now_ns()))
    second.publish(1, ecg_block(just_now_ns(), first_index=7))
    wait_until(lambda: (gateway.watermark(), second.watermark()) == (1, 1))

    assert [key.gateway for key in store.streams(session.id)] == ["gw-2"]


def test_a_store_that_fails_holds_back_the_watermark_until_it_works(
    store: SqliteSessionStore,
    recorder: Recorder,
    gateway: DirectGateway,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = open_session(store)

    def full(_: object) -> None:
        raise StoreError("disk is full")

    with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
        patch.setattr(store, "write", full)
        gateway.publish(1, ecg_block(just_now_ns()))
        wait_until(lambda: recorder.status().fault == "disk is full")
        time.sleep(0.3)
        assert gateway.watermark() == 0
        assert recorder.status().backlog_blocks == 1
    wait_until(lambda: gateway.watermark() == 1)

    assert stored(store, session) == list(range(50))
    wait_until(lambda: recorder.status().fault == "")
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1


def test_a_damaged_session_holds_back_only_its_own_gateway(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway, host: DirectHost, tmp_path: Path
) -> None:
    bad, good = open_session(store), open_session(store, gateway="gw-2")
    other = DirectGateway(host, "gw-2")
    other.be_born()
    gateway.publish(1, ecg_block(just_now_ns(9)))
    wait_until(lambda: gateway.watermark() == 1)
    store.close()
    (path,) = (tmp_path / "sessions").glob(f"{bad.id}*")
    content = path.read_bytes()
    path.write_bytes(b"damaged" * 1000)

    gateway.publish(2, ecg_block(just_now_ns(8), first_index=50))
    other.publish(1, ecg_block(just_now_ns(8)))
    wait_until(lambda: other.watermark() == 1)
    wait_until(lambda: bad.id in recorder.status().fault)
    assert gateway.watermark() == 1
    assert store.read(good.id, "gw-2", "strap", "ecg").n_samples == 50

    path.write_bytes(content)
    wait_until(lambda: gateway.watermark() == 2)
    assert stored(store, bad) == list(range(100))


def test_an_erased_session_lets_go_of_its_blocks(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway, tmp_path: Path
) -> None:
    session = open_session(store)
    gateway.publish(1, ecg_block(just_now_ns(9)))
    wait_until(lambda: gateway.watermark() == 1)
    store.close()
    (tmp_path / "sessions" / f"{session.id}.session").unlink()
    gateway.publish(2, ecg_block(just_now_ns(8)))

    wait_until(lambda: gateway.watermark() == 2)
    assert recorder.status().unassigned_samples == 50


def test_contradicting_samples_are_counted_and_logged(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway, caplog: pytest.LogCaptureFixture
) -> None:
    session = open_session(store)
    gateway.publish(1, ecg_block(just_now_ns(9)))
    with caplog.at_level(logging.ERROR):
        gateway.publish(2, ecg_block(just_now_ns(3)))
        wait_until(lambda: gateway.watermark() == 2)

    assert recorder.status().conflicts == 1
    assert "contradict" in caplog.text
    assert session.id in caplog.text


def test_a_message_that_makes_no_sense_is_counted(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway, host: DirectHost
) -> None:
    session = open_session(store)
    host.receive(Message("spBv1.0/lab/DDATA/gw-1/strap", b"\xff not protobuf"))
    host.receive(Message("spBv1.0/lab/NONSENSE/gw-1", b""))
    gateway.publish(1, ecg_block(just_now_ns()))
    wait_until(lambda: gateway.watermark() == 1)

    assert recorder.status().rejected_payloads == 2
    assert stored(store, session) == list(range(50))


def test_a_block_that_never_makes_sense_is_set_aside_and_the_others_go_on(
    store: SqliteSessionStore,
    recorder: Recorder,
    gateway: DirectGateway,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("lab_api.recorder.REJECTED_S", 0.3)
    session = open_session(store)
    for seq in (1, 3):
        gateway.publish(seq, ecg_block(just_now_ns(9 - seq), first_index=50 * seq))
    gateway.publish_nonsense(2)
    gateway.publish_nonsense(2)
    gateway.publish_nonsense(2)
    wait_until(settled(recorder, 2))
    assert (gateway.watermark(), recorder.status().set_aside_blocks) == (1, 0)  # too soon to give it up

    time.sleep(0.3)
    gateway.be_born(oldest_seq=2)
    gateway.publish_nonsense(2)
    gateway.publish(3, ecg_block(just_now_ns(6), first_index=150))
    wait_until(lambda: gateway.watermark() == 3)
    assert recorder.status().set_aside_blocks == 1
    assert stored(store, session) == [*range(50, 100), *range(150, 200)]
    (aside,) = (tmp_path / "sessions" / "aside").iterdir()
    kept = json.loads(aside.read_text())
    assert (kept["gateway"], kept["device"], kept["spool_seq"]) == ("gw-1", "strap", 2)
    assert Stream.from_json(json.dumps(kept["streams"]["1024"])) == ECG
    assert base64.b64decode(kept["payload_base64"]) == gateway.nonsense
    assert [gap.gap.reason for gap in store.gaps(session.id)].count(GapReason.NOT_UNDERSTOOD) == 1


def bad_block(seq: int, block: SampleBlock) -> bytes:
    """Return a block's metrics with one more byte than its samples have."""
    message = parse(encode_record(block, spool_seq=seq, stream_number=1))
    message.metrics[-1].bytes_value += b"?"
    return bytes(message.SerializeToString())


def set_aside(recorder: Recorder, gateway: DirectGateway, body: bytes, seq: int, later: SampleBlock) -> None:
    """Send a record that makes no sense, after a later one that does, until it is given up."""
    gateway.publish(seq + 1, later)
    wait_until(settled(recorder, 2))
    for _ in range(lab_api.recorder.REJECTIONS):
        gateway.publish_body(body)
    wait_until(lambda: gateway.watermark() == seq + 1)


def test_a_gap_takes_the_place_of_a_block_that_is_set_aside(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab_api.recorder.REJECTED_S", 0.0)
    start_ns = just_now_ns(9)
    session = open_session(store, opened_ns=start_ns)
    gateway.publish(1, ecg_block(start_ns))
    bad = bad_block(2, ecg_block(start_ns + 50 * 4_000_000, first_index=50))
    set_aside(recorder, gateway, bad, 2, ecg_block(start_ns + 100 * 4_000_000, first_index=100))

    (gap,) = store.gaps(session.id)
    assert (gap.gap.reason, gap.gap.after_boot_id, gap.gap.after_index) == (GapReason.NOT_UNDERSTOOD, 3, 49)
    assert (gap.gap.start_ns, gap.gap.n_samples) == (start_ns + 50 * 4_000_000, 50)
    assert recorder.status().set_aside_blocks == 1


def test_a_block_that_comes_well_after_all_fills_the_gap_that_stood_in_for_it(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab_api.recorder.REJECTED_S", 0.0)
    start_ns = just_now_ns(9)
    session = open_session(store, opened_ns=start_ns)
    gateway.publish(1, ecg_block(start_ns))
    block = ecg_block(start_ns + 50 * 4_000_000, first_index=50)
    set_aside(recorder, gateway, bad_block(2, block), 2, ecg_block(start_ns + 100 * 4_000_000, first_index=100))
    gateway.be_born(oldest_seq=2)
    gateway.publish(2, block)
    wait_until(lambda: stored(store, session) == list(range(150)))

    assert store.gaps(session.id) == []


def test_a_true_block_takes_the_place_of_the_gap_that_waits_in_its_stead(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab_api.recorder.REJECTED_S", 0.0)
    start_ns = just_now_ns(9)
    session = open_session(store, opened_ns=start_ns)
    block = ecg_block(start_ns + 50 * 4_000_000, first_index=50)
    gateway.publish(1, ecg_block(start_ns))
    gateway.publish(3, ecg_block(start_ns + 100 * 4_000_000, first_index=100))
    wait_until(settled(recorder, 2))
    with monkeypatch.context() as patch:
        patch.setattr(store, "write", lambda _: (_ for _ in ()).throw(StoreError("disk full")))
        for _ in range(lab_api.recorder.REJECTIONS):
            gateway.publish_body(bad_block(2, block))
        wait_until(lambda: recorder.status().set_aside_blocks == 1)
        gateway.publish(2, block)
        time.sleep(0.3)
    wait_until(lambda: gateway.watermark() == 3)

    assert stored(store, session) == list(range(150))
    assert store.gaps(session.id) == []


def test_frames_that_are_set_aside_are_a_gap_in_the_frames(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab_api.recorder.REJECTED_S", 0.0)
    session = open_session(store)
    message = parse(encode_record(frame_block(just_now_ns(8)), spool_seq=2, stream_number=2))
    message.metrics[-1].bytes_value = b"torn"
    gateway.publish(1, frame_block(just_now_ns(9), first_frame=5, connection_id=8))
    set_aside(recorder, gateway, bytes(message.SerializeToString()), 2, ecg_block(just_now_ns(7)))
    found = [gap.gap for gap in store.gaps(session.id) if gap.gap.reason is GapReason.NOT_UNDERSTOOD]

    assert [(gap.stream, gap.after_boot_id, gap.after_index, gap.n_samples) for gap in found] == [
        (RAW, 9, -1, 5)
    ]


@pytest.mark.parametrize("true_block_waits", [False, True])
def test_nonsense_does_not_take_the_place_of_a_block_that_may_still_come(
    store: SqliteSessionStore,
    recorder: Recorder,
    gateway: DirectGateway,
    monkeypatch: pytest.MonkeyPatch,
    true_block_waits: bool,
) -> None:
    monkeypatch.setattr("lab_api.recorder.REJECTED_S", 0.0)
    session = open_session(store)
    with monkeypatch.context() as patch:
        if true_block_waits:
            gateway.publish(2, ecg_block(just_now_ns(7), first_index=100))
            wait_until(settled(recorder, 1))
            patch.setattr(store, "write", lambda _: (_ for _ in ()).throw(StoreError("disk full")))
            gateway.publish(1, ecg_block(just_now_ns(9), first_index=50))
            wait_until(lambda: recorder.status().fault == "disk full")
        for _ in range(5):
            gateway.publish_nonsense(1)
        wait_until(lambda: recorder.status().rejected_payloads == 5)
    gateway.publish(1, ecg_block(just_now_ns(9), first_index=50))
    wait_until(lambda: 50 in stored(store, session))

    assert recorder.status().set_aside_blocks == 0


def test_a_block_that_makes_sense_the_next_time_is_recorded(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway
) -> None:
    session = open_session(store)
    for _ in range(5):
        gateway.publish_nonsense(1)
    gateway.publish(1, ecg_block(just_now_ns()))
    wait_until(lambda: gateway.watermark() == 1)

    assert stored(store, session) == list(range(50))
    assert recorder.status().set_aside_blocks == 0


def test_a_forged_birth_is_forgotten_at_the_next_true_one(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway, host: DirectHost
) -> None:
    session = open_session(store)
    gateway.be_born(oldest_seq=10**12)
    wait_until(lambda: gateway.watermark() == 10**12 - 1)
    gateway.be_born(oldest_seq=1)
    gateway.publish(1, ecg_block(just_now_ns()))
    wait_until(lambda: gateway.watermark() == 1)

    assert stored(store, session) == list(range(50))


def test_a_session_that_cannot_be_read_holds_back_what_no_other_claims(
    store: SqliteSessionStore, host: DirectHost, tmp_path: Path
) -> None:
    session, other = open_session(store), open_session(store, gateway="gw-2")
    store.close()
    (path,) = (tmp_path / "sessions").glob(f"{session.id}*")
    content = path.read_bytes()
    path.write_bytes(b"damaged" * 1000)
    with SqliteSessionStore(tmp_path / "sessions") as restarted, Recorder(restarted, host, CLOCK) as recorder:
        gateway, claimed = DirectGateway(host), DirectGateway(host, "gw-2")
        for each in (gateway, claimed):
            each.be_born()
            each.publish(1, ecg_block(just_now_ns(9)))
        wait_until(lambda: claimed.watermark() == 1)
        wait_until(lambda: session.id in recorder.status().fault)
        time.sleep(1.5)
        assert gateway.watermark() == 0

        path.write_bytes(content)
        wait_until(lambda: gateway.watermark() == 1)
        assert stored(restarted, session) == list(range(50))
        assert restarted.read(other.id, "gw-2", "strap", "ecg").n_samples == 50
        wait_until(lambda: recorder.status().fault == "")


def test_a_full_backlog_drops_blocks_and_never_births(
    store: SqliteSessionStore, host: DirectHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_api.recorder, "MAX_BACKLOG_BLOCKS", 3)
    monkeypatch.setattr(lab_api.recorder, "_FULL_TIMEOUT_S", 0.01)
    monkeypatch.setattr(store, "write", lambda _: (_ for _ in ()).throw(StoreError("busy")))
    open_session(store)
    with Recorder(store, host, CLOCK) as recorder:
        gateway, late = DirectGateway(host), DirectGateway(host, "gw-2")
        gateway.be_born()
        for seq in range(1, 10):
            gateway.publish(seq, ecg_block(just_now_ns(60 - seq), first_index=50 * seq))
        late.be_born()
        wait_until(lambda: late.watermark() == 0)
        assert recorder.status().dropped_blocks > 0
        assert recorder.status().backlog_blocks <= 3
        assert gateway.watermark() == 0


def test_stopping_stores_what_has_arrived(store: SqliteSessionStore, host: DirectHost) -> None:
    session = open_session(store)
    with Recorder(store, host, CLOCK):
        gateway = DirectGateway(host)
        gateway.be_born()
        for seq in range(1, 20):
            gateway.publish(seq, ecg_block(just_now_ns(60 - seq), first_index=50 * seq))

    assert gateway.watermark() == 19
    assert len(stored(store, session)) == 19 * 50


def test_stopping_decides_nothing_about_what_no_session_claims(
    store: SqliteSessionStore, host: DirectHost
) -> None:
    with Recorder(store, host, CLOCK):
        gateway = DirectGateway(host)
        gateway.be_born()
        gateway.publish(1, ecg_block(just_now_ns()))

    assert gateway.watermark() == 0


def test_a_gateway_that_died_is_shown_offline(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway
) -> None:
    wait_until(lambda: [n.online for n in recorder.status().nodes] == [True])
    gateway.die()

    wait_until(lambda: [n.online for n in recorder.status().nodes] == [False])


def test_without_the_broker_no_gateway_is_shown_online(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway, host: DirectHost
) -> None:
    wait_until(lambda: [n.online for n in recorder.status().nodes] == [True])
    host.deliver(HostDisconnected(1))
    wait_until(lambda: [n.online for n in recorder.status().nodes] == [False])
    gateway.be_born()
    wait_until(lambda: [n.online for n in recorder.status().nodes] == [True])


def test_a_defect_is_shown_and_recording_goes_on(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(store)
    with monkeypatch.context() as patch:
        patch.setattr(store, "sessions", lambda: 1 / 0)
        gateway.publish(1, ecg_block(just_now_ns()))
        wait_until(lambda: "ZeroDivisionError" in recorder.status().fault)
    wait_until(lambda: gateway.watermark() == 1)

    assert stored(store, session) == list(range(50))


def test_lab_time_that_runs_fast_is_the_time_that_counts(store: SqliteSessionStore, host: DirectHost) -> None:
    clock = LabClock(time.time_ns, time.monotonic_ns, speed=3600.0, origin_ns=time.time_ns() - SECOND_NS)
    with Recorder(store, host, clock):
        gateway = DirectGateway(host)
        gateway.be_born()
        start_ns = clock.now_ns()
        session = open_session(store, opened_ns=start_ns)
        gateway.publish(1, ecg_block(start_ns + 60 * SECOND_NS))
        wait_until(lambda: gateway.watermark() == 1)

    assert stored(store, session) == list(range(50))


def gap_after(block: SampleBlock, seconds: float, **changes: Any) -> Gap:
    """Return a gap that begins after the last sample of a block."""
    end_index = block.first_index + block.n_samples
    start_ns = block.start_ns + block.n_samples * 4_000_000
    fields: dict[str, Any] = {
        "device": "strap",
        "stream": ECG,
        "after_boot_id": block.boot_id,
        "after_index": end_index - 1,
        "start_ns": start_ns,
        "end_ns": start_ns + round(seconds * SECOND_NS),
        "n_samples": None,
        "reason": GapReason.DISCONNECTED,
    }
    return Gap(**(fields | changes))


def test_a_gap_goes_to_every_session_that_it_touches_and_grows_there(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway
) -> None:
    block = ecg_block(just_now_ns(100))
    early = open_session(store, opened_ns=block.start_ns)
    store.close_session(early.id, closed_ns=block.start_ns + SECOND_NS)
    later = open_session(store, opened_ns=block.start_ns + 20 * SECOND_NS)
    elsewhere = open_session(store, device="another")
    gateway.publish(1, block)
    gateway.publish(2, gap_after(block, 10))
    wait_until(lambda: gateway.watermark() == 2)
    assert [len(store.gaps(session.id)) for session in (early, later, elsewhere)] == [1, 0, 0]

    gateway.publish(3, gap_after(block, 50))
    wait_until(lambda: gateway.watermark() == 3)
    (first,), (second,) = store.gaps(early.id), store.gaps(later.id)
    assert (first.gap.end_ns, first.is_part) == (block.start_ns + SECOND_NS, True)
    assert (second.gap.start_ns, second.is_part) == (later.opened_ns, True)
    assert second.gap.end_ns == gap_after(block, 50).end_ns
    assert recorder.status().gaps == 3


def test_a_gap_that_no_session_claims_is_let_go(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway
) -> None:
    gateway.publish(1, gap_after(ecg_block(just_now_ns(100)), 5))
    wait_until(lambda: gateway.watermark() == 1)

    assert recorder.status().unassigned_samples == 0


def test_frames_go_to_the_session_in_which_they_arrived(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway
) -> None:
    frames = frame_block(just_now_ns(10), n_frames=100)
    session = open_session(store, opened_ns=int(frames.arrival_ns[20]))
    store.close_session(session.id, closed_ns=int(frames.arrival_ns[50]))
    gateway.publish(1, frames)
    gateway.publish(2, frame_block(just_now_ns(1), first_frame=100))
    wait_until(lambda: gateway.watermark() == 2)

    assert list(store.frames(session.id, "gw-1", "strap")) == [frames.part(20, 50)]
    assert (recorder.status().new_frames, recorder.status().unassigned_samples) == (30, 0)


def test_what_a_gateway_says_of_itself_is_in_every_session_with_a_device_of_it(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway
) -> None:
    one, two = open_session(store), open_session(store, device="another")
    foreign = open_session(store, gateway="gw-2")
    now_ns = just_now_ns()
    values = np.array([[-5], [300], [1]], np.int64)
    clock = SampleBlock(
        records.GATEWAY_DEVICE,
        records.CLOCK,
        1,
        0,
        now_ns,
        values,
        now_ns,
        0,
        0,
        None,
        np.array([now_ns], np.int64),
    )
    gateway.publish(1, clock)
    wait_until(lambda: gateway.watermark() == 1)

    for session in (one, two):
        assert np.array_equal(store.read(session.id, "gw-1", records.GATEWAY_DEVICE, "clock").values(), values)
    assert store.streams(foreign.id) == []


def test_many_records_at_once_are_stored_without_waiting_for_more(
    store: SqliteSessionStore, host: DirectHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(store)
    with Recorder(store, host, CLOCK) as recorder:
        gateway = DirectGateway(host)
        gateway.be_born()
        wait_until(lambda: gateway.watermark() == 0)
        monkeypatch.setattr(lab_api.recorder, "GROUP_S", 60.0)
        n_waiting = lab_api.recorder.GROUP_BLOCKS - 1
        for seq in range(1, n_waiting + 1):
            gateway.publish(seq, ecg_block(just_now_ns(999 - seq), first_index=50 * seq))
        time.sleep(0.3)
        assert recorder.status().blocks == 0
        gateway.publish(n_waiting + 1, ecg_block(just_now_ns(), first_index=50 * n_waiting + 50))
        wait_until(lambda: recorder.status().blocks == n_waiting + 1, timeout_s=20.0)

    assert len(stored(store, session)) == 50 * (n_waiting + 1)


def test_records_that_a_birth_passes_over_are_counted_as_lost_until_they_come(
    store: SqliteSessionStore, recorder: Recorder, gateway: DirectGateway, caplog: pytest.LogCaptureFixture
) -> None:
    session = open_session(store)
    start_ns = just_now_ns(60)
    blocks = {i: ecg_block(start_ns + i * 200_000_000, first_index=50 * i) for i in range(1, 10)}
    for seq in (1, 4):
        gateway.publish(seq, blocks[seq])
    wait_until(settled(recorder, 2))
    gateway.be_born(oldest_seq=6)
    wait_until(lambda: recorder.status().nodes[0].lost_blocks == 3)
    assert "goes on at 6, and 3 records before never arrived" in caplog.text

    gateway.publish(6, blocks[6])
    wait_until(lambda: gateway.watermark() == 6)
    assert [(g.gap.reason, g.gap.n_samples) for g in store.gaps(session.id)[1:]] == [
        (GapReason.UNDECLARED, 100),
        (GapReason.UNDECLARED, 50),
    ]
    gateway.be_born(oldest_seq=2)
    wait_until(lambda: recorder.status().nodes[0].lost_blocks == 0)


def test_a_recorder_that_has_just_begun_knows_of_no_loss(recorder: Recorder, host: DirectHost) -> None:
    gateway = DirectGateway(host)
    gateway.be_born(oldest_seq=1000)
    wait_until(lambda: gateway.watermark() == 999)

    assert recorder.status().nodes[0].lost_blocks == 0


def test_two_gateways_with_one_id_are_shown(
    recorder: Recorder, gateway: DirectGateway, host: DirectHost
) -> None:
    host.deliver(NodeIdShared(NodeId("lab", "gw-1"), INCARNATION, 1))
    host.deliver(NodeIdShared(NodeId("lab", "never-born"), INCARNATION, 1))

    wait_until(lambda: [node.id_shared for node in recorder.status().nodes] == [True])


def test_two_gateways_that_take_turns_under_one_id_are_shown(
    recorder: Recorder, gateway: DirectGateway, host: DirectHost
) -> None:
    other = DirectGateway(host, incarnation=INCARNATION + 1)
    other.be_born()
    gateway.be_born()
    wait_until(lambda: [n.incarnation for n in recorder.status().nodes] == [INCARNATION])

    wait_until(lambda: [n.id_shared for n in recorder.status().nodes] == [True])


def test_a_flood_of_nonsense_disturbs_nobody_and_fills_no_log(
    store: SqliteSessionStore,
    recorder: Recorder,
    gateway: DirectGateway,
    host: DirectHost,
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = open_session(store)
    for i in range(3000):
        host.receive(Message("spBv1.0/lab/DDATA/gw-1/strap", b"\xff not protobuf"))
        host.receive(Message(f"spBv1.0/lab/DDATA/foreign-{i}/strap", b"\xff"))
        gateway.publish_nonsense(1 + i % 1500)
    gateway.be_born()
    gateway.publish(1, ecg_block(just_now_ns()))
    wait_until(lambda: gateway.watermark() == 1, timeout_s=20.0)

    assert stored(store, session) == list(range(50))
    assert recorder.status().rejected_payloads >= 3000
    assert [node.node.name for node in recorder.status().nodes] == ["gw-1"]
    assert len([r for r in caplog.records if r.name == "lab_api.recorder"]) <= 2
