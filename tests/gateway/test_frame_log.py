"""Raw frames keep their bytes, their order and their numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.frame_log import MAX_BLOCK_BYTES, MAX_BLOCK_FRAMES, FrameLog
from gateway.transport import Frame
from protocols.frames import FrameBlock

UTC0_NS = 1_767_225_600_000_000_000


def frame(at_ns: int, data: bytes, source: str = "serial") -> Frame:
    return Frame(source, data, UTC0_NS + at_ns, at_ns)


@given(
    st.lists(st.tuples(st.binary(max_size=20), st.sampled_from(["2a37", "2a19"]), st.booleans()), max_size=40)
)
def test_every_frame_is_in_exactly_one_block(frames: list[tuple[bytes, str, bool]]) -> None:
    log = FrameLog("dut")
    log.connected(7)
    blocks: list[FrameBlock] = []
    for k, (data, source, flush) in enumerate(frames):
        log.add(frame(k, data, source))
        if flush:
            blocks += filter(None, [log.flush()])
    blocks += filter(None, [log.flush()])
    assert log.flush() is None
    assert [data for b in blocks for data in b.data] == [data for data, _, _ in frames]
    assert [source for b in blocks for source in b.sources] == [source for _, source, _ in frames]
    assert [b.first_frame + i for b in blocks for i in range(b.n_frames)] == list(range(len(frames)))
    assert [int(t) for b in blocks for t in b.arrival_monotonic_ns] == list(range(len(frames)))
    assert [int(t) for b in blocks for t in b.arrival_ns] == [UTC0_NS + k for k in range(len(frames))]
    assert {b.connection_id for b in blocks} <= {7}


def test_numbers_begin_anew_with_a_connection() -> None:
    log = FrameLog("dut")
    for connection_id in (7, 9):
        log.connected(connection_id)
        for k in range(3):
            log.add(frame(k, b"x"))
        block = log.flush()
        assert block is not None
        assert (block.connection_id, block.first_frame, block.n_frames) == (connection_id, 0, 3)


def test_a_block_is_full_by_bytes_or_by_frames() -> None:
    log = FrameLog("dut")
    log.add(frame(0, bytes(MAX_BLOCK_BYTES - 1)))
    assert not log.full
    log.add(frame(1, b"x"))
    assert log.full
    log.flush()
    for k in range(MAX_BLOCK_FRAMES):
        assert not log.full
        log.add(frame(k, b""))
    assert log.full


def test_frames_are_due_by_the_oldest_that_waits() -> None:
    log = FrameLog("dut")
    assert not log.due(1 << 62)
    log.add(frame(100, b"x"))
    log.add(frame(200, b"x"))
    assert not log.due(99)
    assert log.due(100)
