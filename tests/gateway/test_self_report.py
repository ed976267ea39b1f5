"""What a gateway records of its own clock."""

from __future__ import annotations

from gateway.clock import BootIds
from gateway.clock_offset import UNKNOWN, ClockOffset
from gateway.self_report import UNKNOWN_NS, SelfReport
from protocols.lab_clock import LabClock
from protocols.records import CLOCK, GATEWAY_DEVICE
from protocols.sparkplug.blocks import RecordReader, birth_metrics, encode_record
from protocols.sparkplug.payload import parse
from tests.gateway.conftest import ManualClock

GOOD = ClockOffset(-1_200_000, 300_000, "chrony", synchronised=True)


def test_each_block_says_offset_uncertainty_and_whether_the_clock_is_kept(machine: ManualClock) -> None:
    block = SelfReport(machine.lab, BootIds()).block(GOOD)
    assert (block.device, block.stream) == (GATEWAY_DEVICE, CLOCK)
    assert block.values.tolist() == [[-1_200_000], [300_000], [1]]
    assert block.sample_times_ns().tolist() == [machine.utc_ns]


def test_blocks_follow_each_other(machine: ManualClock) -> None:
    report = SelfReport(machine.lab, BootIds())
    first = report.block(GOOD)
    machine.advance(60)
    second = report.block(GOOD)
    assert (first.boot_id, first.first_index, second.first_index) == (second.boot_id, 0, 1)
    assert second.start_ns - first.start_ns == 60_000_000_000


def test_a_clock_set_back_begins_a_new_count(machine: ManualClock) -> None:
    boot_ids = BootIds()
    report = SelfReport(machine.lab, boot_ids)
    first = report.block(GOOD)
    machine.utc_ns -= 3_600_000_000_000
    second = report.block(GOOD)
    assert second.boot_id > first.boot_id
    assert second.first_index == 0


def test_a_gateway_that_starts_again_begins_a_new_count(machine: ManualClock) -> None:
    boot_ids = BootIds()
    first = SelfReport(machine.lab, boot_ids).block(GOOD)
    second = SelfReport(machine.lab, BootIds(boot_ids.last)).block(GOOD)
    assert second.boot_id > first.boot_id


def test_an_unknown_clock_is_said_to_be_unknown(machine: ManualClock) -> None:
    assert SelfReport(machine.lab, BootIds()).block(UNKNOWN).values.tolist() == [[0], [UNKNOWN_NS], [0]]


def test_an_error_of_the_clock_counts_as_often_as_lab_time_is_faster(machine: ManualClock) -> None:
    fast = LabClock(lambda: machine.utc_ns, lambda: machine.monotonic_ns, 20.0, machine.utc_ns)
    assert SelfReport(fast, BootIds()).block(GOOD).values.tolist() == [[-24_000_000], [6_000_000], [1]]


def test_an_absurd_offset_is_cut_to_what_the_stream_can_say(machine: ManualClock) -> None:
    absurd = ClockOffset(-(1 << 70), 1 << 70, "chrony", synchronised=False)
    assert SelfReport(machine.lab, BootIds()).block(absurd).values.tolist() == [
        [-UNKNOWN_NS],
        [UNKNOWN_NS],
        [0],
    ]


def test_a_block_survives_the_wire(machine: ManualClock) -> None:
    block = SelfReport(machine.lab, BootIds()).block(GOOD)
    reader = RecordReader(GATEWAY_DEVICE, birth_metrics(CLOCK, stream_number=4, timestamp_ms=0))
    (received,) = reader.read(parse(encode_record(block, spool_seq=9, stream_number=4)))
    assert received.record == block
