"""Every block is sent, live ones first, and again only what may be missing."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.send_window import FIRST_AGAIN_BLOCKS, Kind, SendWindow


@dataclass
class Recorder:
    """Has what arrived, and a cumulative watermark."""

    watermark: int = 0
    ahead: set[int] = field(default_factory=set)

    def take(self, seq: int) -> None:
        self.ahead.add(seq)
        while self.watermark + 1 in self.ahead:
            self.watermark += 1
            self.ahead.discard(self.watermark)


def publish(window: SendWindow, committed: int, limit: int, now_s: float = 0.0) -> list[tuple[Kind, int]]:
    chunk = window.next(committed, limit)
    if chunk is None:
        return []
    sent = [(chunk.kind, seq) for seq in range(chunk.after_seq + 1, chunk.after_seq + chunk.limit + 1)]
    for kind, seq in sent:
        window.sent(kind, seq, now_s)
    return sent


def test_live_blocks_go_before_history_however_much_there_is() -> None:
    window = SendWindow(0, window_blocks=100)
    window.born(0, 10_000, 0.0)
    assert publish(window, 10_000, 30) == [(Kind.HISTORY, seq) for seq in range(1, 31)]
    assert publish(window, 10_005, 30) == [(Kind.LIVE, seq) for seq in range(10_001, 10_006)]
    assert publish(window, 10_005, 30)[0] == (Kind.HISTORY, 31)


def test_live_blocks_go_on_while_the_window_of_history_is_full() -> None:
    window = SendWindow(0, window_blocks=50)
    window.born(0, 1000, 0.0)
    assert len(publish(window, 1000, 500)) == 50
    assert publish(window, 1000, 500) == []
    assert publish(window, 1001, 500) == [(Kind.LIVE, 1001)]
    window.acknowledge(20, 0.0)
    assert [seq for _, seq in publish(window, 1001, 500)] == list(range(51, 71))


def test_without_history_no_more_than_the_window_is_in_flight() -> None:
    window = SendWindow(0, window_blocks=50)
    window.born(0, 0, 0.0)
    assert len(publish(window, 500, 100)) == 50
    assert publish(window, 500, 100) == []
    window.acknowledge(10, 0.0)
    assert [seq for _, seq in publish(window, 500, 100)] == list(range(51, 61))


def test_when_history_meets_the_live_run_the_watermark_jumps_over_it() -> None:
    window = SendWindow(0, window_blocks=50)
    window.born(0, 10, 0.0)
    publish(window, 30, 20)
    publish(window, 30, 20)
    window.acknowledge(30, 0.0)
    assert publish(window, 30, 20) == []
    assert publish(window, 31, 20) == [(Kind.LIVE, 31)]


def test_a_watermark_over_live_blocks_is_not_believed_while_history_is_not_sent() -> None:
    window = SendWindow(0, window_blocks=5)
    window.born(0, 100, 0.0)
    publish(window, 110, 20)
    publish(window, 110, 20)
    assert window.believes(5)
    assert not window.believes(6)
    assert not window.believes(105)


def test_what_an_earlier_connection_sent_is_still_believed() -> None:
    window = SendWindow(0, window_blocks=50)
    window.born(0, 100, 0.0)
    publish(window, 100, 30)
    window.born(0, 100, 1.0)
    assert window.believes(30)
    assert window.sent(Kind.HISTORY, 1, 1.0)
    assert not window.sent(Kind.HISTORY, 31, 1.0)


def test_one_lost_block_costs_the_first_few_and_not_the_window() -> None:
    window = SendWindow(0, window_blocks=500, stall_s=2.0)
    window.born(0, 0, 0.0)
    recorder = Recorder()
    for _, seq in publish(window, 500, 500):
        if seq != 100:
            recorder.take(seq)
    window.acknowledge(recorder.watermark, 1.0)
    window.go_back_if_stalled(2.9)
    assert publish(window, 500, 500) == []
    window.go_back_if_stalled(3.1)
    again = publish(window, 500, 500, 3.1)
    assert again == [(Kind.AGAIN, seq) for seq in range(100, 100 + FIRST_AGAIN_BLOCKS)]
    for _, seq in again:
        recorder.take(seq)
    assert recorder.watermark == 500
    window.acknowledge(500, 3.2)
    assert publish(window, 500, 500) == []


def test_when_everything_was_lost_the_watermark_itself_asks_for_more() -> None:
    window = SendWindow(0, window_blocks=500, stall_s=2.0)
    window.born(0, 0, 0.0)
    publish(window, 500, 500)
    window.go_back_if_stalled(2.1)
    resent = 0
    while sent := publish(window, 500, 500, 2.2):  # no stall has to pass in between
        resent += len(sent)
        window.acknowledge(sent[-1][1], 2.2)
    assert resent == 500


def test_a_recorder_that_says_nothing_is_asked_less_and_less_often() -> None:
    window = SendWindow(0, window_blocks=500, stall_s=2.0)
    window.born(0, 0, 0.0)
    publish(window, 500, 500)
    resent = 0
    for tick in range(400):
        window.go_back_if_stalled(tick / 4)
        resent += len(publish(window, 500, 500, tick / 4))
    assert resent == 6 * FIRST_AGAIN_BLOCKS


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 32), loss=st.sampled_from([0.0, 0.02, 0.3]), backlog=st.integers(0, 300))
def test_whatever_is_lost_and_however_often_births_are_given_everything_arrives(
    seed: int, loss: float, backlog: int
) -> None:
    rng = random.Random(seed)
    window = SendWindow(0, window_blocks=40, stall_s=2.0)
    committed, now_s, recorder, seen = backlog, 0.0, Recorder(), 0
    for step in range(4000):
        if step == 0 or (rng.random() < 0.01 and step < 400):
            window.born(window.acknowledged, committed, now_s)
            recorder = Recorder(window.acknowledged)  # births make the recorder count anew
        committed += rng.randrange(4) if step < 400 else 0
        for _, seq in publish(window, committed, rng.randrange(1, 30), now_s):
            assert seq <= committed
            if rng.random() >= (loss if step < 1500 else 0.0):
                recorder.take(seq)
        if rng.random() < 0.5 and recorder.watermark > window.acknowledged:
            assert window.believes(recorder.watermark)
            window.acknowledge(recorder.watermark, now_s)
        window.go_back_if_stalled(now_s)
        now_s += 0.25
        seen = max(seen, recorder.watermark)
        if step > 400 and window.acknowledged == committed:
            break
    assert window.acknowledged == committed
