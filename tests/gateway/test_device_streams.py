"""Whatever happens to device, link, spool and gateway: every sample is stored, or declared missing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.assembly import DeviceAssembler
from gateway.clock import BootIds
from gateway.device_streams import REDECLARE_S, DeviceStreams
from gateway.gaps import position_after
from gateway.silence import SILENCE_S
from gateway.spool import Position
from gateway.transport import Frame
from protocols.devices.kind import SERIAL_SOURCE, Decoded, DeviceKind, Samples, SerialLink
from protocols.gaps import Gap, GapReason
from protocols.lab_clock import LabClock
from protocols.records import Record
from protocols.samples import Channel, SampleBlock, Stream

UTC0_NS = 1_767_225_600_000_000_000
MODULUS = 1 << 16
SWITCHED_ON = {"counted": MODULUS - 2500, "clocked": 0}
RESTARTED = {"counted": MODULUS - 5500, "clocked": 0}
"""Where it begins to count: close to the wrap; after a restart so that no story reaches that count again."""
COUNTED = Stream("counted", (Channel("a", "uV"),), "int32", 250.0)
CLOCKED = Stream("clocked", (Channel("b", "uV"),), "int32", 130.0)
EVENTS = Stream("events", (Channel("rr", "ms"),), "int32", None)
FRAME_S = 0.1
TICK_S = 0.25


class Decoder:
    def feed(self, source: str, data: bytes) -> Decoded:
        said = json.loads(data)
        return Decoded(tuple(_samples(name, part) for name, part in said.items()))


def _samples(name: str, part: dict[str, Any]) -> Samples:
    return Samples(name, np.array([part["values"]], np.int32), part.get("counter"), part.get("device_ns"))


KIND = DeviceKind(
    "test-kind",
    "A device that counts, one that has a clock, and events",
    SerialLink(115200),
    (COUNTED, CLOCKED, EVENTS),
    Decoder,
    {"counted": MODULUS},
)


@dataclass
class Device:
    """Takes samples all the time, each with a value that no other of its stream has."""

    now_s: float = 0.0
    started_s: float = 0.0
    taken: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("counted", "clocked", "events"), 0))
    since_start: dict[str, int] = field(default_factory=SWITCHED_ON.copy)
    clock0_ns: int = 10**17

    def restart(self) -> None:
        self.started_s = self.now_s
        self.since_start = RESTARTED.copy()
        self.clock0_ns -= 10**15

    def frame(self) -> bytes:
        """Return what was taken in the next `FRAME_S`."""
        self.now_s += FRAME_S
        said: dict[str, Any] = {"counted": self._take("counted", 25), "clocked": self._take("clocked", 13)}
        said["counted"]["counter"] = (self.since_start["counted"] - 25) % MODULUS
        said["clocked"]["device_ns"] = self.clock0_ns + round((self.since_start["clocked"] - 13) * 1e9 / 130)
        if round(self.now_s / FRAME_S) % 10 == 0:
            said["events"] = self._take("events", 1)
        return json.dumps(said).encode()

    def _take(self, stream: str, n_samples: int) -> dict[str, Any]:
        first = self.taken[stream]
        self.taken[stream] += n_samples
        if stream in self.since_start:
            self.since_start[stream] += n_samples
        return {"values": list(range(first, first + n_samples))}


class Lab:
    """A device, its gateway and a spool, on a clock of their own."""

    def __init__(self) -> None:
        self.device = Device()
        self.step_ns = 0
        self.room = True
        self.records: list[Record] = []
        self.positions: dict[str, Position] = {}
        self.boot_ids = BootIds()
        self.connected = False
        self._ticked_s = 0.0
        self.start_gateway()

    @property
    def utc_ns(self) -> int:
        return UTC0_NS + round(self.device.now_s * 1e9) + self.step_ns

    @property
    def monotonic_ns(self) -> int:
        return round(self.device.now_s * 1e9)

    def _check_all_is_accounted_for(self) -> None:
        """A stream with a rate was stored, or declared missing, up to a few seconds ago."""
        lately_s = SILENCE_S + REDECLARE_S + 1
        if self.step_ns or self.device.now_s - self._gateway_started_s < lately_s:
            return
        for stream in (COUNTED, CLOCKED):
            position = self.positions[stream.name]
            key = (position.boot_id, position.last_index)
            ends = [g.end_ns for g in self.declarations(stream) if (g.after_boot_id, g.after_index) == key]
            assert max(position.due_ns, *ends, 0) > self.utc_ns - lately_s * 1e9

    def start_gateway(self) -> None:
        self._gateway_started_s = self.device.now_s
        self.assembler = DeviceAssembler("dut", KIND, self.boot_ids)
        self.streams = DeviceStreams(
            "dut",
            KIND,
            store=self._store,
            position=lambda stream: self.positions.get(stream.name),
            clock=LabClock(lambda: self.utc_ns, lambda: self.monotonic_ns),
            boot_ids=self.boot_ids,
            silence_s=None,
        )

    def connect(self) -> None:
        if not self.connected:
            self.connected = True
            self.assembler.reconnected()
            self.streams.connected()

    def disconnect(self) -> None:
        if self.connected:
            self.connected = False
            self.flush()
            self.streams.disconnected()

    def kill_gateway(self) -> None:
        self.connected = False
        self.start_gateway()

    def stop_gateway(self) -> None:
        self.disconnect()
        self.start_gateway()

    def run(self, seconds: float, *, delivered: bool = True) -> None:
        for _ in range(round(seconds / FRAME_S)):
            data = self.device.frame()
            if delivered and self.connected:
                decoded, blocks = self.assembler.feed(
                    Frame(SERIAL_SOURCE, data, self.utc_ns, self.monotonic_ns)
                )
                for samples in decoded.samples:
                    self.streams.hear(samples)
                self._hand_over(blocks)
            if self.device.now_s - self._ticked_s >= TICK_S:
                self._hand_over(self.assembler.flush(self.monotonic_ns - 250_000_000))
                self.streams.tick(self.device.now_s - self._ticked_s)
                self._ticked_s = self.device.now_s
                self._check_all_is_accounted_for()

    def end(self) -> None:
        """Let everything come to rest."""
        self.room = True
        self.connect()
        self.run(3)
        self.flush()

    def flush(self) -> None:
        self._hand_over(self.assembler.flush())

    def blocks(self, stream: Stream) -> list[SampleBlock]:
        return [r for r in self.records if isinstance(r, SampleBlock) and r.stream == stream]

    def declarations(self, stream: Stream) -> list[Gap]:
        return [r for r in self.records if isinstance(r, Gap) and r.stream == stream]

    def gaps(self, stream: Stream) -> list[Gap]:
        """Return the gaps as the recorder would know them."""
        known: dict[tuple[int, int], Gap] = {}
        for gap in self.declarations(stream):
            key = (gap.after_boot_id, gap.after_index)
            if key not in known or gap.outlasts(known[key]):
                known[key] = gap
        return list(known.values())

    def _hand_over(self, blocks: list[SampleBlock]) -> None:
        for block in blocks:
            self.streams.put(block, follows=lambda boot, block=block: self.assembler.follows(block, boot))

    def _store(self, record: Record) -> bool:
        if not self.room and not isinstance(record, Gap):
            return False
        self.records.append(record)
        position = position_after(record)
        if position is not None:
            self.positions[record.stream.name] = position  # type: ignore[union-attr]
        return True


def act(lab: Lab, deed: str, seconds: float) -> None:
    match deed:
        case "run":
            lab.run(seconds)
        case "lose":
            lab.run(seconds, delivered=False)
        case "refuse":
            lab.flush()
            lab.room = False
            lab.run(seconds)
            lab.flush()
            lab.room = True
        case "fill":
            lab.room = not lab.room
        case "connect":
            lab.connect()
        case "disconnect":
            lab.disconnect()
            lab.run(seconds)
        case "restart device":
            if lab.device.now_s - lab.device.started_s > 2:  # sooner a counter may seem to have gone on
                lab.device.restart()
        case "kill gateway":
            lab.kill_gateway()
            lab.run(seconds)
        case "stop gateway":
            lab.stop_gateway()
        case "set clock":
            lab.step_ns += round((seconds - 10) * 100e9)


def steps(stream: Stream, lab: Lab) -> Iterator[tuple[tuple[int, int, int, int], tuple[int, int, int, int]]]:
    """Yield neighbouring stored samples, each as boot id, index, value and time."""
    samples = [
        (b.boot_id, b.first_index + i, int(b.values[0, i]), int(t))
        for b in lab.blocks(stream)
        for i, t in enumerate(b.sample_times_ns())
    ]
    yield from itertools.pairwise(samples)


DEEDS = (
    *("run", "run", "run", "connect", "connect", "lose", "refuse", "fill", "disconnect"),
    *("restart device", "kill gateway", "stop gateway", "set clock"),
)
STORY = st.lists(
    st.tuples(st.sampled_from(DEEDS), st.sampled_from([0.1, 0.3, 1.0, 2.7, 5.0, 14.0])), max_size=14
)


@given(STORY)
@example([("connect", 1.0), ("run", 1.0), ("lose", 0.1), ("run", 1.0), ("refuse", 5.0), ("run", 1.0)])
@example([("connect", 1.0), ("run", 5.0), ("disconnect", 5.0), ("restart device", 0.1), ("kill gateway", 1.0)])
@example([("connect", 1.0), ("run", 1.0), ("set clock", 0.1), ("run", 1.0), ("set clock", 14.0), ("run", 1.0)])
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_was_produced_is_stored_or_declared_missing(story: list[tuple[str, float]]) -> None:
    lab = Lab()
    for deed, seconds in story:
        act(lab, deed, seconds)
    lab.end()
    deeds = {deed for deed, _ in story}
    clock_set = "set clock" in deeds
    begun_anew = not deeds.isdisjoint({"kill gateway", "stop gateway"})
    # a gap declared by the gateway before it may end later, if the clock was set back meanwhile
    forgotten = clock_set and begun_anew
    for stream in (COUNTED, CLOCKED, EVENTS):
        countable = stream is not EVENTS or "lose" not in deeds  # of a lost event nothing tells
        gaps = {(gap.after_boot_id, gap.after_index): gap for gap in lab.gaps(stream)}
        used = {key for key in gaps if key[1] == -1}
        for (boot, index, value, time_ns), (next_boot, next_index, next_value, next_ns) in steps(stream, lab):
            gap = gaps.get((boot, index))
            used.add((boot, index))
            missing = next_value - value - 1
            assert missing >= 0, "in order and not doubled"
            if (next_boot, next_index) != (boot, index + 1):
                assert gap is not None, f"{missing} missing after {boot}/{index}, declared"
            if gap is None:
                assert missing == 0 or not countable
                continue
            if next_boot == boot and stream.rate_hz is not None:
                assert gap.n_samples is not None
            if gap.n_samples is not None and countable and not forgotten:
                assert gap.n_samples == missing
            if not clock_set and stream.rate_hz is not None and gap.n_samples != 0:
                due_ns = time_ns + round(1e9 / stream.rate_hz)
                assert abs(gap.start_ns - due_ns) < 1_000_000
                assert abs(gap.end_ns - next_ns) < 1_000_000
        assert {key for key, gap in gaps.items() if gap.n_samples != 0} <= used
        for key, declared in _by_gap(lab.declarations(stream)).items():
            ends = [gap.end_ns for gap in declared]
            assert clock_set or begun_anew or ends == sorted(ends), f"{key} only grows"


def _by_gap(declarations: list[Gap]) -> dict[tuple[int, int], list[Gap]]:
    known: dict[tuple[int, int], list[Gap]] = {}
    for gap in declarations:
        known.setdefault((gap.after_boot_id, gap.after_index), []).append(gap)
    return known


def told(*story: tuple[str, float], stream: Stream = COUNTED) -> list[tuple[GapReason, int | None]]:
    """Return reason and number of every gap after the first sample."""
    lab = Lab()
    lab.connect()
    lab.run(2)
    for deed, seconds in story:
        act(lab, deed, seconds)
    lab.end()
    return [(gap.reason, gap.n_samples) for gap in lab.gaps(stream) if gap.after_index >= 0]


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ([("run", 5.0)], []),
        ([("lose", 1.0), ("run", 1.0)], [(GapReason.LOST_ON_LINK, 250)]),
        ([("lose", 7.0), ("run", 1.0)], [(GapReason.SILENT, 1750)]),
        ([("disconnect", 5.0), ("connect", 0.0)], [(GapReason.DISCONNECTED, 1250)]),
        ([("disconnect", 0.0), ("connect", 0.0)], []),
        (
            [("disconnect", 140.0), ("connect", 0.0)],
            [(GapReason.DISCONNECTED, None)],
        ),  # half the counter's range
        ([("restart device", 0.0), ("run", 1.0)], [(GapReason.DEVICE_RESTARTED, None)]),
        ([("disconnect", 1.0), ("restart device", 0.0)], [(GapReason.DISCONNECTED, None)]),
        ([("stop gateway", 0.0)], [(GapReason.GATEWAY_STOPPED, None)]),
        ([("kill gateway", 60.0)], [(GapReason.GATEWAY_STOPPED, None)]),
        ([("disconnect", 60.0), ("kill gateway", 5.0)], [(GapReason.DISCONNECTED, None)]),
        ([("refuse", 5.0), ("run", 1.0)], [(GapReason.SPOOL_FULL, 1250)]),
        ([("disconnect", 1.0), ("connect", 0.0), ("refuse", 5.0)], [(GapReason.SPOOL_FULL, 1500)]),
        ([("set clock", 14.0), ("run", 1.0)], [(GapReason.CLOCK_SET, 0)]),
        ([("set clock", 2.7), ("run", 1.0)], [(GapReason.CLOCK_SET, 0)]),
    ],
)
def test_every_gap_tells_its_reason_and_where_it_can_its_number(
    story: list[tuple[str, float]], expected: list[tuple[GapReason, int | None]]
) -> None:
    assert told(*story) == expected


def test_a_device_that_was_never_seen_is_missing_since_the_gateway_started_and_stays_so_over_a_restart() -> (
    None
):
    lab = Lab()
    lab.run(20)
    (gap,) = lab.gaps(COUNTED)
    assert (gap.after_index, gap.reason, gap.n_samples) == (-1, GapReason.DISCONNECTED, None)
    assert gap.start_ns == UTC0_NS
    assert 5e9 < gap.end_ns - gap.start_ns < 20e9
    lab.kill_gateway()
    lab.run(20)
    (grown,) = lab.gaps(COUNTED)
    assert grown.end_ns > gap.end_ns
    lab.end()
    (ended,) = lab.gaps(COUNTED)
    assert ended.end_ns == lab.blocks(COUNTED)[0].start_ns


@pytest.mark.parametrize("stream", [COUNTED, EVENTS])
def test_a_clock_set_back_meanwhile_does_not_move_the_begin_of_a_gap(stream: Stream) -> None:
    lab = Lab()
    lab.connect()
    lab.run(50)
    lab.disconnect()
    lab.run(20)
    lab.step_ns -= 40_000_000_000
    lab.end()
    (_, gap) = (gap for gap in lab.gaps(stream) if gap.reason is GapReason.DISCONNECTED)
    assert gap.start_ns == pytest.approx(UTC0_NS + 50_000_000_000, abs=4_000_000_000)
    assert gap.end_ns < UTC0_NS + 71_000_000_000


def test_a_gap_that_goes_on_is_declared_again_only_every_few_seconds() -> None:
    lab = Lab()
    lab.connect()
    lab.run(2)
    lab.disconnect()
    lab.run(60)
    declared = [g for g in lab.declarations(COUNTED) if g.after_index >= 0]
    assert 5 <= len(declared) <= 8
    assert declared[-1].end_ns > lab.utc_ns - 15e9


def test_a_link_that_comes_and_goes_without_a_sample_is_a_gap_that_goes_on() -> None:
    lab = Lab()
    lab.connect()
    lab.run(2)
    for _ in range(20):
        lab.disconnect()
        lab.run(1)
        lab.connect()
        lab.run(2, delivered=False)
    for stream in (COUNTED, CLOCKED, EVENTS):
        assert lab.gaps(stream)[-1].end_ns > lab.utc_ns - 15e9


def test_a_gap_is_declared_before_the_block_that_ends_it() -> None:
    lab = Lab()
    lab.connect()
    lab.run(2)
    lab.disconnect()
    lab.run(1)
    lab.end()
    mine = [r for r in lab.records if not isinstance(r, SampleBlock) or r.stream == COUNTED]
    after = [i for i, r in enumerate(mine) if isinstance(r, Gap) and r.stream == COUNTED and r.after_index >= 0]
    ended = mine[after[-1] + 1 :]
    assert isinstance(ended[0], SampleBlock)
    assert ended[0].first_index == SWITCHED_ON["counted"] + 500 + 250


def test_events_that_do_not_come_are_no_gap_while_the_device_speaks() -> None:
    lab = Lab()
    lab.connect()
    lab.run(2)
    lab.device.taken["events"] = 10**6
    for _ in range(30):
        lab.run(0.9)
        lab.device.now_s += FRAME_S  # steps over the frames that carry an event
        lab.device.frame()
    assert [gap for gap in lab.gaps(EVENTS) if gap.after_index >= 0] == []


def test_the_gap_of_events_ends_when_the_device_is_back_even_if_no_event_comes() -> None:
    lab = Lab()
    lab.connect()
    lab.run(2)
    lab.disconnect()
    lab.run(20)
    back_ns = lab.utc_ns
    lab.connect()
    for _ in range(20):
        lab.run(0.9)
        lab.device.frame()
    (gap,) = (gap for gap in lab.gaps(EVENTS) if gap.after_index >= 0)
    assert gap.reason is GapReason.DISCONNECTED
    assert abs(gap.end_ns - back_ns) < 1_000_000_000
    assert not lab.streams.health(lambda _: 0)[2].gap_open


def speak(lab: Lab, seconds: float) -> None:
    """Run without an event."""
    for _ in range(round(seconds)):
        lab.run(0.9)
        lab.device.frame()


def event_gaps(lab: Lab) -> list[tuple[Any, ...]]:
    """Return reason and whole seconds, since `UTC0_NS`, of the gaps of the events after the first second."""
    spans = [(g.reason, g.start_ns - UTC0_NS, g.end_ns - UTC0_NS) for g in lab.gaps(EVENTS)]
    return [(reason, round(s / 1e9), round(e / 1e9)) for reason, s, e in spans if s > 1e9]


def test_events_are_missing_only_while_the_device_could_not_have_brought_them() -> None:
    lab = Lab()
    lab.connect()
    lab.run(2)
    speak(lab, 28)
    lab.disconnect()
    lab.run(30)
    lab.connect()
    speak(lab, 60)
    lab.run(20, delivered=False)
    speak(lab, 10)
    first, second = event_gaps(lab)
    assert first == (GapReason.DISCONNECTED, pytest.approx(30, abs=4), pytest.approx(60, abs=1))
    assert second == (GapReason.SILENT, pytest.approx(120, abs=4), pytest.approx(140, abs=1))
    assert lab.streams.health(lambda _: 0)[2].gaps == 3  # with the one before the first sample
    speak(lab, 20)
    lab.run(1)
    assert event_gaps(lab) == [first, second]


def test_the_end_of_a_gap_of_events_is_told_before_the_next_one_begins() -> None:
    lab = Lab()
    lab.connect()
    lab.run(2)
    speak(lab, 2)
    for _ in range(2):
        lab.disconnect()
        lab.run(18)
        lab.connect()
        speak(lab, 5)
    lab.disconnect()
    lab.run(5)
    assert [end_s for _, _, end_s in event_gaps(lab)][:2] == [
        pytest.approx(22, abs=1),
        pytest.approx(45, abs=1),
    ]


def test_events_are_missing_after_a_stop_of_the_gateway_since_the_device_was_last_heard() -> None:
    lab = Lab()
    lab.connect()
    lab.run(2)
    speak(lab, 18)
    lab.disconnect()
    lab.run(20)
    lab.connect()
    speak(lab, 60)
    lab.flush()
    lab.kill_gateway()
    lab.run(20)
    lab.connect()
    speak(lab, 20)
    assert event_gaps(lab) == [
        (GapReason.DISCONNECTED, pytest.approx(20, abs=4), pytest.approx(40, abs=1)),
        (GapReason.GATEWAY_STOPPED, pytest.approx(100, abs=4), pytest.approx(120, abs=1)),
    ]


def test_late_samples_of_a_stream_thought_silent_withdraw_the_gap() -> None:
    lab = Lab()
    lab.connect()
    lab.run(2)
    late = [Frame(SERIAL_SOURCE, lab.device.frame(), lab.utc_ns, lab.monotonic_ns) for _ in range(50)]
    for _ in range(30):
        lab.streams.tick(TICK_S)
    assert lab.gaps(COUNTED)[-1].reason is GapReason.SILENT
    for frame in late:
        decoded, blocks = lab.assembler.feed(frame)
        for samples in decoded.samples:
            lab.streams.hear(samples)
        lab._hand_over(blocks)
    lab._hand_over(lab.assembler.flush())
    assert lab.gaps(COUNTED)[-1].n_samples == 0
    assert lab.streams.health(lambda _: 0)[0].gaps == 1  # the one before the first sample


def test_a_stream_that_was_never_started_is_not_missing_while_others_flow() -> None:
    lab = Lab()
    lab.connect()
    for _ in range(300):
        said = json.loads(lab.device.frame())
        del said["clocked"]
        frame = Frame(SERIAL_SOURCE, json.dumps(said).encode(), lab.utc_ns, lab.monotonic_ns)
        decoded, blocks = lab.assembler.feed(frame)
        for samples in decoded.samples:
            lab.streams.hear(samples)
        lab._hand_over([*blocks, *lab.assembler.flush()])
        lab.streams.tick(FRAME_S)
    assert not lab.streams.silent
    (gap,) = lab.gaps(CLOCKED)
    assert gap.end_ns - UTC0_NS < 5e9
    assert lab.streams.health(lambda _: 0)[0].rate_hz == pytest.approx(250, rel=0.02)


def test_a_stream_that_is_started_late_is_missing_from_the_first_moment_on() -> None:
    lab = Lab()
    lab.connect()
    for _ in range(300):
        said = json.loads(lab.device.frame())
        del said["clocked"]
        frame = Frame(SERIAL_SOURCE, json.dumps(said).encode(), lab.utc_ns, lab.monotonic_ns)
        decoded, blocks = lab.assembler.feed(frame)
        for samples in decoded.samples:
            lab.streams.hear(samples)
        lab._hand_over([*blocks, *lab.assembler.flush()])
        lab.streams.tick(FRAME_S)
    lab._gateway_started_s = lab.device.now_s  # no reason to complain: it was not started
    lab.run(3)
    lab.flush()
    (gap,) = lab.gaps(CLOCKED)
    assert (gap.start_ns, gap.end_ns) == (UTC0_NS, lab.blocks(CLOCKED)[0].start_ns)


def test_a_stream_that_stops_while_others_flow_is_silent_and_missing() -> None:
    lab = Lab()
    lab.connect()
    lab.run(3)
    for _ in range(50):
        said = json.loads(lab.device.frame())
        del said["clocked"]
        frame = Frame(SERIAL_SOURCE, json.dumps(said).encode(), lab.utc_ns, lab.monotonic_ns)
        for samples in lab.assembler.feed(frame)[0].samples:
            lab.streams.hear(samples)
        lab.streams.tick(FRAME_S)
    assert lab.streams.silent_streams == ("clocked",)
    assert not lab.streams.whole_silent
    assert lab.gaps(CLOCKED)[-1].reason is GapReason.SILENT
    counted, clocked, _ = lab.streams.health(lambda _: 0)
    assert (counted.silent, clocked.silent, clocked.gap_open) == (False, True, True)
