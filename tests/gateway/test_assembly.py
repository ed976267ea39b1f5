"""Every sample a device brings is in exactly one block, at the right index and time."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.assembly import MAX_BLOCK_BYTES, DeviceAssembler, StreamAssembler
from gateway.clock import BootIds, WallClock
from gateway.spool import Position
from gateway.transport import Frame
from protocols.devices.kind import SERIAL_SOURCE, DeviceKind, Samples
from protocols.devices.registry import device_kind
from protocols.samples import SampleBlock, Stream
from tests.gateway.conftest import CLOCKED, COUNTED, EVENTS, PLAIN

UTC0_NS = 1_767_225_600_000_000_000


def assembler(stream: Stream, *, modulus: int | None = None) -> StreamAssembler:
    wall_clock = WallClock()
    wall_clock.observe(UTC0_NS, 0)
    return StreamAssembler(
        "dut", stream, BootIds(), wall_clock, counter_modulus=modulus, link_delay_ns=10_000_000
    )


def at(seconds: float, *, step_ns: int = 0) -> Frame:
    elapsed_ns = round(seconds * 1e9)
    return Frame(SERIAL_SOURCE, b"", UTC0_NS + elapsed_ns + step_ns, elapsed_ns)


def ramp(stream: Stream, first: int, n: int) -> Any:
    row = np.arange(first, first + n) % 30_000
    return np.array([row] * len(stream.channels), stream.dtype)


def indices(blocks: list[SampleBlock]) -> list[int]:
    return [b.first_index + i for b in blocks for i in range(b.n_samples)]


@given(
    st.lists(
        st.tuples(
            st.integers(1, 40),  # samples in the frame
            st.sampled_from([0, 0, 0, 0, 1, 7, 400]),  # samples lost before it
            st.booleans(),  # delivered twice
            st.booleans(),  # flush afterwards
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 999),
)
def test_counted_samples_are_neither_lost_nor_doubled_and_keep_their_place(
    frames: list[tuple[int, int, bool, bool]], first: int
) -> None:
    stream = assembler(COUNTED, modulus=1000)
    taken: list[int] = []
    blocks: list[SampleBlock] = []
    count = first
    for n, lost, twice, flush in frames:
        if taken:
            count += lost
        samples = Samples("counted", ramp(COUNTED, count, n), counter=count % 1000)
        for _ in range(1 + twice):
            blocks += stream.add(samples, at((count - first + n) / 250))
        taken += range(count, count + n)
        count += n
        if flush:
            blocks += stream.flush()
    blocks += stream.flush()
    assert indices(blocks) == taken
    assert np.concatenate([b.values for b in blocks], axis=1).tolist() == [[i % 30_000 for i in taken]] * 2
    assert len({b.boot_id for b in blocks}) == 1
    assert stream.duplicates == sum(twice for *_, twice, _ in frames)
    times = np.concatenate([b.sample_times_ns() for b in blocks])
    assert (np.diff(times) > 0).all()


def test_a_counter_that_ran_on_while_the_gateway_was_stopped_goes_on_under_its_boot_id() -> None:
    stream = assembler(COUNTED, modulus=1000)
    stream.resume(Position(77, 4321, UTC0_NS))
    blocks = stream.add(Samples("counted", ramp(COUNTED, 0, 10), counter=(4322 + 250) % 1000), at(1.04))
    blocks += stream.flush()
    assert [(b.boot_id, b.first_index) for b in blocks] == [(77, 4322 + 250)]
    assert blocks[0].start_ns > UTC0_NS - 4_000_000


def test_times_never_run_backwards_within_a_boot_however_late_the_first_frames_were() -> None:
    stream = assembler(COUNTED, modulus=1000)
    blocks: list[SampleBlock] = []
    for i in range(20):
        late_s = 0.3 if i < 5 else 0.0
        blocks += stream.add(
            Samples("counted", ramp(COUNTED, 25 * i, 25), counter=25 * i), at(0.1 * (i + 1) + late_s)
        )
        blocks += stream.flush()
    assert indices(blocks) == list(range(500))
    boots = sorted({b.boot_id for b in blocks})
    assert len(boots) == 2
    assert stream.follows(boots[1], boots[0])
    for boot_id in boots:
        times = np.concatenate([b.sample_times_ns() for b in blocks if b.boot_id == boot_id])
        assert (np.diff(times) > 0).all()


@pytest.mark.parametrize(
    ("counter", "seconds"),
    [
        pytest.param(0, 1.04, id="another count"),
        pytest.param((4322 + 250) % 1000, 4.0, id="a pause as long as half the counter's range"),
        pytest.param((4322 - 250) % 1000, 0.04, id="backwards"),
        pytest.param((4322 + 250) % 1000, -30.0, id="a clock that was set back"),
    ],
)
def test_a_counter_that_does_not_fit_the_pause_of_the_gateway_begins_anew(counter: int, seconds: float) -> None:
    stream = assembler(COUNTED, modulus=1000)
    stream.resume(Position(77, 4321, UTC0_NS))
    blocks = stream.add(Samples("counted", ramp(COUNTED, 0, 10), counter=counter), at(seconds))
    blocks += stream.flush()
    assert [b.first_index for b in blocks] == [counter]
    assert blocks[0].boot_id != 77


@pytest.mark.parametrize("stream", [COUNTED, PLAIN, CLOCKED, EVENTS])
@given(data=st.data())
def test_whatever_the_flushing_the_samples_are_the_same(stream: Stream, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 50), min_size=1, max_size=30))
    flushes = data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
    made = assembler(stream, modulus=1000 if stream is COUNTED else None)
    blocks: list[SampleBlock] = []
    count = 0
    for n, flush in zip(sizes, flushes, strict=True):
        counter = count % 1000 if stream is COUNTED else None
        device_ns = round(count / 130 * 1e9) if stream is CLOCKED else None
        samples = Samples(stream.name, ramp(stream, count, n), counter=counter, device_ns=device_ns)
        count += n
        blocks += made.add(samples, at(count / (stream.rate_hz or 10)))
        if flush:
            blocks += made.flush()
    blocks += made.flush()
    assert indices(blocks) == list(range(count))
    assert np.concatenate([b.values for b in blocks], axis=1)[0].tolist() == [i % 30_000 for i in range(count)]
    assert made.flush() == []
    assert not made.due(1 << 62)


def test_a_counter_that_wraps_goes_on_counting() -> None:
    stream = assembler(COUNTED, modulus=1000)
    blocks = stream.add(Samples("counted", ramp(COUNTED, 0, 10), counter=990), at(1))
    blocks += stream.add(Samples("counted", ramp(COUNTED, 10, 10), counter=0), at(1.04))
    blocks += stream.flush()
    assert indices(blocks) == list(range(990, 1010))
    assert len(blocks) == 1


def test_a_counter_that_goes_back_begins_a_later_boot() -> None:
    stream = assembler(COUNTED, modulus=1000)
    blocks = stream.add(Samples("counted", ramp(COUNTED, 0, 10), counter=400), at(1))
    blocks += stream.add(Samples("counted", ramp(COUNTED, 10, 10), counter=0), at(2))
    blocks += stream.flush()
    assert [b.first_index for b in blocks] == [400, 0]
    assert blocks[0].boot_id < blocks[1].boot_id


def test_another_boot_number_begins_a_boot_even_if_the_counter_fits() -> None:
    stream = assembler(COUNTED, modulus=1000)
    blocks = stream.add(Samples("counted", ramp(COUNTED, 0, 10), counter=400, boot=1), at(1))
    blocks += stream.add(Samples("counted", ramp(COUNTED, 10, 10), counter=410, boot=2), at(1.04))
    blocks += stream.flush()
    assert [b.first_index for b in blocks] == [400, 410]
    assert blocks[0].boot_id < blocks[1].boot_id


def test_a_counter_further_ahead_than_time_allows_begins_a_boot_and_is_no_loss() -> None:
    stream = assembler(COUNTED, modulus=10_000)
    blocks = stream.add(Samples("counted", ramp(COUNTED, 0, 10), counter=9000), at(1))
    blocks += stream.add(Samples("counted", ramp(COUNTED, 10, 10), counter=1000), at(1.04))
    blocks += stream.flush()
    assert [b.first_index for b in blocks] == [9000, 1000]
    assert blocks[0].boot_id < blocks[1].boot_id


def packets(lost: set[int], *, n: int = 40, stall: range = range(0), jitter_s: float = 0.004) -> Any:
    """Arrival time and number of 25-sample packets; those in `stall` arrive together at its end."""
    rng = np.random.default_rng(5)
    for k in range(n):
        if k not in lost:
            late = k if k not in stall else stall.stop
            yield k, (late + 1) / 3 + rng.uniform(0, jitter_s)


@pytest.mark.parametrize("lost", [{7}, {7, 8, 9}, {5, 20, 21}])
def test_without_a_counter_frames_lost_after_an_error_are_made_up_for(lost: set[int]) -> None:
    stream = assembler(PLAIN)
    blocks: list[SampleBlock] = []
    kept = []
    previous = -1
    for k, seconds in packets(lost):
        if k > previous + 1:
            blocks += stream.doubt()
        previous = k
        kept.append(k)
        blocks += stream.add(Samples("plain", ramp(PLAIN, 25 * k, 25)), at(seconds))
        if stream.due(round((seconds - 0.25) * 1e9)):
            blocks += stream.flush()
    blocks += stream.flush()
    assert indices(blocks) == [25 * k + i for k in kept for i in range(25)]
    assert len(blocks) > 10
    errors_ns = [b.start_ns - UTC0_NS - round((b.first_index + 1) / 75 * 1e9) for b in blocks]
    assert max(abs(e) for e in errors_ns) < 10_000_000


def test_without_a_counter_a_silence_in_which_frames_were_lost_is_made_up_for() -> None:
    stream = assembler(PLAIN)
    blocks: list[SampleBlock] = []
    for k, seconds in packets(set(range(10, 20))):
        blocks += stream.add(Samples("plain", ramp(PLAIN, 25 * k, 25)), at(seconds))
    blocks += stream.flush()
    assert indices(blocks) == [*range(250), *range(500, 1000)]


def test_a_stall_after_which_everything_arrives_is_no_loss() -> None:
    stream = assembler(PLAIN)
    blocks: list[SampleBlock] = []
    for k, seconds in packets(set(), stall=range(10, 20), jitter_s=0):
        blocks += stream.add(Samples("plain", ramp(PLAIN, 25 * k, 25)), at(seconds))
    blocks += stream.flush()
    assert indices(blocks) == list(range(1000))


@pytest.mark.parametrize("after_error", [True, False])
def test_a_device_that_catches_up_slowly_has_lost_nothing(after_error: bool) -> None:
    stream = assembler(PLAIN)
    blocks: list[SampleBlock] = []
    for k, seconds in packets(set(), jitter_s=0):
        late_s = max(0.0, 4 - 0.25 * (k - 10)) if k >= 10 else 0
        if k == 10 and after_error:
            blocks += stream.doubt()
        blocks += stream.add(Samples("plain", ramp(PLAIN, 25 * k, 25)), at(seconds + late_s))
        if stream.due(round((seconds + late_s - 0.25) * 1e9)):
            blocks += stream.flush()
    blocks += stream.flush()
    assert indices(blocks) == list(range(1000))


def test_samples_after_a_possible_loss_wait_no_longer_than_a_few_seconds() -> None:
    stream = assembler(PLAIN)
    stream.add(Samples("plain", ramp(PLAIN, 0, 25)), at(1))
    stream.doubt()
    stream.add(Samples("plain", ramp(PLAIN, 25, 25)), at(2))
    assert not stream.due(2_500_000_000)
    assert stream.due(5_000_000_000)


def test_at_twenty_times_the_speed_a_pause_of_the_machine_is_no_loss() -> None:
    wall_clock = WallClock(speed=20)
    wall_clock.observe(UTC0_NS, 0)
    stream = StreamAssembler("dut", PLAIN, BootIds(), wall_clock, link_delay_ns=10_000_000, speed=20)
    blocks: list[SampleBlock] = []
    for k, seconds in packets(set(), n=200, stall=range(50, 95), jitter_s=1.0):
        blocks += stream.add(Samples("plain", ramp(PLAIN, 25 * k, 25)), at(seconds))
        if stream.due(round((seconds - 5) * 1e9)):
            blocks += stream.flush()
    blocks += stream.flush()
    assert indices(blocks) == list(range(5000))


def test_a_large_correction_of_time_is_made_at_once() -> None:
    stream = assembler(COUNTED, modulus=1 << 32)
    blocks = stream.add(Samples("counted", ramp(COUNTED, 0, 250), counter=0), at(6))
    blocks += stream.flush()
    blocks += stream.add(Samples("counted", ramp(COUNTED, 250, 250), counter=250), at(6.1))
    blocks += stream.flush()
    blocks += stream.add(Samples("counted", ramp(COUNTED, 500, 250), counter=500), at(6.15))
    blocks += stream.flush()
    assert [round((b.start_ns - UTC0_NS) / 1e9, 2) for b in blocks] == [5.0, 5.1, 5.15]


def test_a_device_clock_that_jumps_moves_the_index_on() -> None:
    stream = assembler(CLOCKED)
    period_ns = 1e9 / 130
    blocks: list[SampleBlock] = []
    for k in (0, 1, 2, 5, 6):
        samples = Samples("clocked", ramp(CLOCKED, 73 * k, 73), device_ns=round(10**18 + 73 * k * period_ns))
        blocks += stream.add(samples, at(73 * (k + 1) / 130))
    blocks += stream.flush()
    assert indices(blocks) == [73 * k + i for k in (0, 1, 2, 5, 6) for i in range(73)]
    assert blocks[1].device_ns == round(10**18 + 73 * 5 * period_ns)


@pytest.mark.parametrize("true_rate_hz", [129.0, 131.0])
def test_a_device_clock_whose_rate_is_off_loses_nothing(true_rate_hz: float) -> None:
    stream = assembler(CLOCKED)
    blocks: list[SampleBlock] = []
    for k in range(100):
        samples = Samples("clocked", ramp(CLOCKED, 73 * k, 73), device_ns=round(73 * k / true_rate_hz * 1e9))
        blocks += stream.add(samples, at(73 * (k + 1) / true_rate_hz))
    blocks += stream.flush()
    assert indices(blocks) == list(range(7300))


@pytest.mark.parametrize("second_ns", [10**12, 9 * 10**17], ids=["back", "ahead"])
def test_a_device_clock_that_is_set_begins_a_boot(second_ns: int) -> None:
    stream = assembler(CLOCKED)
    blocks = stream.add(Samples("clocked", ramp(CLOCKED, 0, 73), device_ns=6 * 10**17), at(1))
    blocks += stream.add(Samples("clocked", ramp(CLOCKED, 73, 73), device_ns=second_ns), at(1.56))
    blocks += stream.flush()
    assert [b.first_index for b in blocks] == [0, 0]
    assert blocks[0].boot_id < blocks[1].boot_id
    assert abs(blocks[1].start_ns - blocks[0].start_ns - 560_000_000) < 5_000_000


@pytest.mark.parametrize("flush_between", [False, True])
def test_times_of_events_count_back_from_arrival_and_never_run_backwards(flush_between: bool) -> None:
    stream = assembler(EVENTS)
    first = Samples("events", ramp(EVENTS, 0, 2), offsets_ns=np.array([-900_000_000, -50_000_000]))
    second = Samples("events", ramp(EVENTS, 2, 2), offsets_ns=np.array([-950_000_000, 0]))
    blocks = stream.add(first, at(2))
    if flush_between:
        blocks += stream.flush()
    blocks += stream.add(second, at(2.8)) + stream.flush()
    assert len(blocks) == 1 + flush_between
    times_ns = np.concatenate([b.sample_times_ns() for b in blocks]) - UTC0_NS
    assert times_ns.tolist() == [1.1e9, 1.95e9, 1.95e9, 2.8e9]


def test_a_block_keeps_the_arrival_of_its_first_samples() -> None:
    stream = assembler(PLAIN)
    stream.add(Samples("plain", ramp(PLAIN, 0, 25)), at(1))
    assert stream.due(1_000_000_000)
    assert not stream.due(999_999_999)
    stream.add(Samples("plain", ramp(PLAIN, 25, 25)), at(1.3))
    (block,) = stream.flush()
    assert (block.arrival_ns, block.arrival_monotonic_ns) == (UTC0_NS + 1_000_000_000, 1_000_000_000)


def test_blocks_stay_small_enough_for_a_message() -> None:
    stream = assembler(COUNTED, modulus=1 << 32)
    blocks: list[SampleBlock] = []
    for k in range(200):
        blocks += stream.add(Samples("counted", ramp(COUNTED, 500 * k, 500), counter=500 * k), at(2 * k))
    blocks += stream.flush()
    assert max(b.values.nbytes for b in blocks) < MAX_BLOCK_BYTES + 2000
    assert indices(blocks) == list(range(100_000))


def frame_of(kind_json: dict[str, Any], frame: Frame) -> Frame:
    data = json.dumps(kind_json).encode()
    return Frame(frame.source, data, frame.arrival_ns, frame.arrival_monotonic_ns)


def test_a_wall_clock_that_was_set_begins_a_boot_for_every_stream(kind: DeviceKind) -> None:
    device = DeviceAssembler("dut", kind, BootIds())
    blocks: list[SampleBlock] = []
    for k in range(12):
        step_ns = -3_600_000_000_000 if k >= 6 else 0
        said = {
            "samples": {
                "counted": {"values": [[k] * 10] * 2, "counter": 10 * k},
                "plain": {"values": [[k] * 3]},
            }
        }
        blocks += device.feed(frame_of(said, at(0.04 * k, step_ns=step_ns)))[1]
    blocks += device.flush()
    for name, samples in (("counted", 120), ("plain", 36)):
        mine = [b for b in blocks if b.stream.name == name]
        assert sum(b.n_samples for b in mine) == samples
        assert len({b.boot_id for b in mine}) == 2
        assert mine[-1].start_ns < mine[0].start_ns - 3_500_000_000_000
        assert mine[-1].boot_id > mine[0].boot_id


def test_the_index_goes_on_when_the_wall_clock_was_set(kind: DeviceKind) -> None:
    device = DeviceAssembler("dut", kind, BootIds())
    blocks: list[SampleBlock] = []
    for k in range(12):
        step_ns = 3_600_000_000_000 if k >= 6 else 0
        said = {"samples": {"plain": {"values": [[k] * 3]}}}
        blocks += device.feed(frame_of(said, at(0.04 * k, step_ns=step_ns)))[1]
    blocks += device.flush()
    before, after = blocks
    assert indices(blocks) == list(range(36))
    assert device.follows(after, before.boot_id)
    assert device.follows(after, after.boot_id)
    assert not device.follows(after, before.boot_id - 1)


def counted_over(pause_s: float, counter: int, *, modulus: int = 1 << 16, **said: Any) -> list[SampleBlock]:
    """Return the blocks of two connections: index 0 to 249 in the first second, then those of `counter`."""
    stream = assembler(COUNTED, modulus=modulus)
    blocks: list[SampleBlock] = []
    for k in range(25):
        samples = Samples("counted", ramp(COUNTED, 10 * k, 10), counter=10 * k, **said)
        blocks += stream.add(samples, at(0.04 * (k + 1)))
    blocks += stream.flush()
    stream.reconnected()
    for k in range(3):
        samples = Samples("counted", ramp(COUNTED, counter, 10), counter=(counter + 10 * k) % modulus, **said)
        blocks += stream.add(samples, at(1 + pause_s + 0.04 * (k + 1)))
    return blocks + stream.flush()


def test_a_counter_that_went_on_over_a_pause_of_the_link_keeps_its_boot() -> None:
    first, second = counted_over(4, 1250)
    assert first.boot_id == second.boot_id
    assert indices([first, second]) == [*range(250), *range(1250, 1280)]
    assert abs(second.start_ns - first.start_ns - 5_000_000_000) < 1_000_000


@pytest.mark.parametrize(
    ("pause_s", "counter"),
    [(4, 0), (4, 600), (4, 1600), (4, 100), (140, 35_250)],
    ids=["at 0", "too far behind", "ahead of time", "back", "half the range"],
)
def test_a_counter_that_cannot_have_gone_on_begins_a_boot(pause_s: float, counter: int) -> None:
    first, second = counted_over(pause_s, counter)
    assert first.boot_id < second.boot_id
    assert second.first_index == counter


def test_a_boot_number_that_stays_tells_that_the_count_went_on_even_if_samples_come_late() -> None:
    first, second = counted_over(4, 600, boot=7)
    assert first.boot_id == second.boot_id
    assert second.first_index == 600


def test_after_a_pause_in_which_the_counter_may_have_wrapped_not_even_the_boot_number_tells_the_index() -> None:
    first, second = counted_over(300, (250 + 300 * 250) % (1 << 16), boot=7)
    assert first.boot_id < second.boot_id


def test_a_device_clock_that_went_on_over_a_pause_of_the_link_keeps_its_boot() -> None:
    stream = assembler(CLOCKED)
    blocks: list[SampleBlock] = []
    for k in (0, 1, 2, 9, 10):
        if k == 9:
            blocks += stream.flush()
            stream.reconnected()
        samples = Samples("clocked", ramp(CLOCKED, 73 * k, 73), device_ns=10**18 + round(73e9 * k / 130))
        blocks += stream.add(samples, at(73 * (k + 1) / 130))
    blocks += stream.flush()
    assert indices(blocks) == [73 * k + i for k in (0, 1, 2, 9, 10) for i in range(73)]
    assert len({b.boot_id for b in blocks}) == 1


def test_a_device_whose_clock_was_reset_over_a_pause_begins_a_boot() -> None:
    stream = assembler(CLOCKED)
    blocks: list[SampleBlock] = []
    for k in range(6):
        if k == 3:
            blocks += stream.flush()
            stream.reconnected()
        device_ns = round(73e9 * (k if k < 3 else k - 3) / 130)
        blocks += stream.add(Samples("clocked", ramp(CLOCKED, 73 * k, 73), device_ns=device_ns), at(k + 1))
    blocks += stream.flush()
    assert [b.first_index for b in blocks] == [0, 0]


@pytest.mark.parametrize("stream", [PLAIN, EVENTS])
def test_what_only_the_gateway_counts_begins_a_boot_at_every_connection(stream: Stream) -> None:
    made = assembler(stream)
    blocks = made.add(Samples(stream.name, ramp(stream, 0, 25)), at(1)) + made.flush()
    made.reconnected()
    blocks += made.add(Samples(stream.name, ramp(stream, 25, 25)), at(1.4))
    blocks += made.add(Samples(stream.name, ramp(stream, 50, 25)), at(1.8))
    blocks += made.flush()
    assert [(b.first_index, b.n_samples) for b in blocks] == [(0, 25), (0, 50)]


@pytest.mark.parametrize("name", ["heart-rate-strap", "polar-h10", "pulse-oximeter", "nonin-7"])
def test_every_kind_can_be_connected_again_and_again(name: str) -> None:
    device = DeviceAssembler("dut", device_kind(name), BootIds())
    for k in range(3):
        device.reconnected()
        device.feed(Frame(SERIAL_SOURCE, b"", *_times(k)))
        assert device.flush() == []


def test_a_frame_repeated_over_a_new_connection_is_kept_for_it_may_be_another() -> None:
    stream = assembler(COUNTED, modulus=1000)
    samples = Samples("counted", ramp(COUNTED, 0, 10), counter=0)
    blocks = stream.add(samples, at(1)) + stream.flush()
    stream.reconnected()
    blocks += stream.add(samples, at(2)) + stream.flush()
    assert stream.duplicates == 0
    assert [b.first_index for b in blocks] == [0, 0]
    assert blocks[0].boot_id < blocks[1].boot_id


def test_a_device_clock_that_wrapped_while_the_boot_lasted_gives_right_times() -> None:
    stream = assembler(COUNTED, modulus=1 << 32)
    blocks: list[SampleBlock] = []
    for k in range(20):
        if k == 10:
            blocks += stream.flush()
            stream.reconnected()
        wrapped_ns = 4_294_967_296_000 if k < 10 else 0  # a decoder unwraps only within its connection
        device_ns = wrapped_ns + 40_000_000 * k
        samples = Samples("counted", ramp(COUNTED, 10 * k, 10), counter=10 * k, device_ns=device_ns, boot=3)
        blocks += stream.add(samples, at(0.04 * (k + 1)))
    blocks += stream.flush()
    assert indices(blocks) == list(range(200))
    assert len({b.boot_id for b in blocks}) == 1
    assert abs(blocks[-1].start_ns - blocks[0].start_ns - 400_000_000) < 5_000_000


def test_a_single_odd_stamp_is_no_clock_step(kind: DeviceKind) -> None:
    device = DeviceAssembler("dut", kind, BootIds())
    blocks: list[SampleBlock] = []
    for k in range(10):
        step_ns = -800_000_000 if k == 5 else 0
        said = {"samples": {"counted": {"values": [[k] * 10] * 2, "counter": 10 * k}}}
        blocks += device.feed(frame_of(said, at(0.04 * k, step_ns=step_ns)))[1]
    blocks += device.flush()
    assert len(blocks) == 1


def test_flush_leaves_streams_whose_samples_are_young(kind: DeviceKind) -> None:
    device = DeviceAssembler("dut", kind, BootIds())
    device.feed(frame_of({"samples": {"plain": {"values": [[1, 2]]}}}, at(1)))
    device.feed(frame_of({"samples": {"clocked": {"values": [[1, 2]], "device_ns": 5}}}, at(2)))
    assert [b.stream.name for b in device.flush(1_500_000_000)] == ["plain"]
    assert [b.stream.name for b in device.flush()] == ["clocked"]


def test_errors_of_the_decoder_are_handed_on_and_disturb_no_counted_stream(kind: DeviceKind) -> None:
    device = DeviceAssembler("dut", kind, BootIds())
    counts = itertools.count(0, 10)
    blocks: list[SampleBlock] = []
    for k in range(20):
        if k % 3 == 2:
            decoded, more = device.feed(Frame(SERIAL_SOURCE, b"\xff", *_times(0.04 * k)))
            assert len(decoded.errors) == 1
            blocks += more
        said = {"samples": {"counted": {"values": [[k] * 10] * 2, "counter": next(counts)}}}
        blocks += device.feed(frame_of(said, at(0.04 * k)))[1]
    blocks += device.flush()
    assert indices(blocks) == list(range(200))
    assert len(blocks) == 1


def _times(seconds: float) -> tuple[int, int]:
    frame = at(seconds)
    return frame.arrival_ns, frame.arrival_monotonic_ns
