"""Every missing sample is accounted for exactly once, whatever was declared and whatever was not."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from lab_api.store.session_gaps import Run, SessionGap, completeness, stream_gaps
from protocols.gaps import Gap, GapReason
from protocols.samples import Channel, Stream

PERIOD_NS = 10_000_000
ECG = Stream("ecg", (Channel("lead_i", "uV"),), "int16", 1e9 / PERIOD_NS)
N = 200


def runs_of(kept: list[bool]) -> list[Run]:
    """Return the runs of samples that were kept, at the times that their indices say."""
    runs: list[Run] = []
    for i, keep in enumerate(kept):
        if keep and runs and runs[-1].end_index == i:
            runs[-1] = runs[-1]._replace(end_index=i + 1, last_ns=i * PERIOD_NS)
        elif keep:
            runs.append(Run(1, i, i + 1, i * PERIOD_NS, i * PERIOD_NS, 100, 100))
    return runs


def declared(first: int, n_samples: int | None, end: int) -> Gap:
    return Gap("d", ECG, 1, first - 1, first * PERIOD_NS, end * PERIOD_NS, n_samples, GapReason.SPOOL_FULL)


LOSSES = st.lists(st.tuples(st.integers(1, N - 2), st.integers(1, 30), st.booleans()), max_size=12)


@given(losses=LOSSES)
def test_each_missing_sample_is_in_exactly_one_gap(losses: list[tuple[int, int, bool]]) -> None:
    kept = [True] * N
    for first, n, _ in losses:
        kept[first : min(first + n, N - 1)] = [False] * (min(first + n, N - 1) - first)
    covered: set[int] = set()
    gaps = []
    for first, n, is_declared in losses:  # each declares what no other has declared before it
        own = [i for i in range(first, min(first + n, N - 1)) if i not in covered]
        if is_declared and own and own == list(range(own[0], own[-1] + 1)):
            gaps.append(declared(own[0], len(own), own[-1] + 1))
            covered |= set(own)

    found = stream_gaps("gw", "d", ECG, runs_of(kept), gaps, (0, N * PERIOD_NS))

    missing = [i for i, keep in enumerate(kept) if not keep]
    said = [
        i
        for each in found
        for i in range(each.gap.after_index + 1, each.gap.after_index + 1 + (each.gap.n_samples or 0))
    ]
    assert sorted(said) == missing
    assert {each.gap for each in found if each.gap.reason is not GapReason.UNDECLARED} == set(gaps)
    whole = completeness(ECG, sum(kept), found)
    assert (whole.missing_samples, whole.uncounted_gaps) == (len(missing), 0)
    assert whole.fraction == sum(kept) / N


@given(first=st.integers(0, N - 2), n=st.integers(1, N), bounds=st.tuples(st.integers(0, N), st.integers(0, N)))
def test_a_part_of_a_gap_lies_within_what_was_asked_for(first: int, n: int, bounds: tuple[int, int]) -> None:
    low_ns, high_ns = sorted(bound * PERIOD_NS for bound in bounds)
    gap = declared(first, n, first + n)
    part = SessionGap("gw", gap).between(low_ns, high_ns)

    touches = low_ns < high_ns and first * PERIOD_NS < high_ns and low_ns < (first + n) * PERIOD_NS
    assert (part is not None) == touches
    if part is not None:
        assert low_ns <= part.gap.start_ns < part.gap.end_ns <= high_ns
        assert part.is_part == ((part.gap.start_ns, part.gap.end_ns) != (gap.start_ns, gap.end_ns))
        assert part.gap.n_samples == (None if part.is_part else n)


def test_overlapping_gaps_without_count_are_measured_once() -> None:
    gaps = [SessionGap("gw", declared(10, None, 60)), SessionGap("gw", declared(40, None, 110))]
    whole = completeness(ECG, 100, gaps)

    assert (whole.uncounted_gaps, whole.uncounted_ns, whole.estimated_samples) == (2, 100 * PERIOD_NS, 100)
    assert whole.fraction == 0.5


def test_of_a_stream_without_rate_an_uncounted_gap_leaves_completeness_unknown() -> None:
    events = Stream("rr", (Channel("rr", "ms"),), "uint16", None)
    gap = SessionGap("gw", Gap("d", events, 1, 5, 0, 10**9, None, GapReason.DISCONNECTED))

    assert completeness(events, 100, [gap]).fraction is None
    assert completeness(events, 100, []).fraction == 1.0
    assert completeness(events, 0, []).fraction is None


def test_a_device_that_never_sent_anything_has_what_was_declared_and_no_more() -> None:
    gap = Gap("d", ECG, 9, -1, -(10**9), 10**9, None, GapReason.DISCONNECTED)
    (found,) = stream_gaps("gw", "d", ECG, [], [gap], (0, 10 * 10**9))

    assert (found.gap.start_ns, found.gap.end_ns, found.is_part) == (0, 10**9, True)
    assert completeness(ECG, 0, [found]).fraction == 0.0


def test_samples_that_two_gaps_name_are_missing_once() -> None:
    kept = [not 10 <= i < 40 for i in range(N)]
    gaps = [declared(10, 20, 30), declared(25, 15, 40), declared(12, 3, 15)]
    found = stream_gaps("gw", "d", ECG, runs_of(kept), gaps, (0, N * PERIOD_NS))

    assert [(each.gap.after_index, each.gap.n_samples) for each in found] == [(9, 20), (24, 10)]
    assert completeness(ECG, sum(kept), found).missing_samples == 30


def test_time_of_which_the_count_is_known_is_not_estimated_again() -> None:
    gaps = [SessionGap("gw", declared(10, 50, 60)), SessionGap("gw", declared(40, None, 110))]
    whole = completeness(ECG, 100, gaps)

    assert (whole.missing_samples, whole.uncounted_ns, whole.estimated_samples) == (50, 70 * PERIOD_NS, 50)
    assert whole.fraction == 0.5


def test_what_another_boot_lost_explains_no_jump_of_the_index() -> None:
    kept = [not 10 <= i < 40 for i in range(N)]
    elsewhere = Gap("d", ECG, 8, 3, 0, N * PERIOD_NS, 0, GapReason.CLOCK_SET)
    (found,) = stream_gaps("gw", "d", ECG, runs_of(kept), [elsewhere], (0, N * PERIOD_NS))

    assert (found.gap.reason, found.gap.n_samples) == (GapReason.UNDECLARED, 30)


def test_ten_thousand_gaps_are_told_in_good_time() -> None:
    kept = [i % 3 != 1 for i in range(30_000)]
    gaps = [declared(i, 1, i + 1) for i in range(1, 30_000, 3)]
    started_s = time.process_time()
    found = stream_gaps("gw", "d", ECG, runs_of(kept), gaps, (0, 30_000 * PERIOD_NS))

    assert [each.gap for each in found] == gaps
    assert time.process_time() - started_s < 10
