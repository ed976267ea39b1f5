"""The watermark is the last block before which everything is done."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lab_api.progress import Progress


@given(start=st.integers(0, 5), seqs=st.lists(st.integers(1, 30), max_size=60))
def test_progress_is_the_same_as_a_set_of_all_done_blocks(start: int, seqs: list[int]) -> None:
    progress, done = Progress(start), set(range(-1, start + 1))
    for seq in seqs:
        progress.done(seq)
        done.add(seq)

        assert progress.watermark == next(i for i in range(-1, 99) if i + 1 not in done)
        assert [progress.is_done(i) for i in range(1, 32)] == [i in done for i in range(1, 32)]
        expected = [len(set(range(i)) - done) for i in range(1, 32)]
        assert [progress.missing_before(i) for i in range(1, 32)] == expected


def test_a_day_of_live_blocks_ahead_of_a_backlog_takes_no_room() -> None:
    progress = Progress(0)
    for seq in range(100_000, 200_000):
        progress.done(seq)

    assert progress.watermark == 0
    assert len(progress._ahead) == 1
