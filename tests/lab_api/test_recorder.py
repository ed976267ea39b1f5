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
from protocols.errors import StoreError
from protocols.lab_clock import LabClock
from protocols.samples import Stream
from protocols.sparkplug.topics import Message
from tests.lab_api.direct_gateways import ECG, DirectGateway, DirectHost, ecg_block, settled, wait_until

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
