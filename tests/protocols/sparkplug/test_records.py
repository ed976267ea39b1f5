"""Gaps and raw frames on the wire: what arrives is what was sent, or a clear refusal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import DecodeError, DefinitionError
from protocols.frames import RAW, FrameBlock
from protocols.gaps import Gap, GapReason
from protocols.records import Record, span_ns, stream_of
from protocols.samples import Channel, Stream
from protocols.sparkplug.blocks import Received, RecordReader, birth_metrics, encode_record
from protocols.sparkplug.payload import decode_payload, encode_payload, parse

ECG = Stream("ecg", (Channel("ecg", "uV"),), "int32", 130.0)
RR = Stream("rr", (Channel("rr", "ms"),), "uint16", None)
INT64 = st.integers(0, (1 << 63) - 1)


def reader() -> RecordReader:
    metrics = [
        metric
        for number, stream in ((1, ECG), (2, RR), (3, RAW))
        for metric in birth_metrics(stream, stream_number=number, timestamp_ms=0)
    ]
    return RecordReader("strap", decode_payload(encode_payload(metrics, timestamp_ms=0)).metrics)


def sent(record: Record, number: int, spool_seq: int = 7) -> list[Received]:
    return reader().read(parse(encode_record(record, spool_seq=spool_seq, stream_number=number)))


@st.composite
def gaps(draw: st.DrawFn) -> Gap:
    start_ns, end_ns = sorted(draw(st.tuples(INT64, INT64)))
    return Gap(
        device="strap",
        stream=draw(st.sampled_from([ECG, RR])),
        after_boot_id=draw(INT64),
        after_index=draw(st.integers(-1, (1 << 63) - 1)),
        start_ns=start_ns,
        end_ns=end_ns,
        n_samples=draw(st.none() | INT64),
        reason=draw(st.sampled_from(GapReason)),
    )


@st.composite
def frame_blocks(draw: st.DrawFn) -> FrameBlock:
    data = draw(st.lists(st.binary(max_size=40), min_size=1, max_size=12))
    source = st.sampled_from(["serial", "00002a37-0000-1000-8000-00805f9b34fb", ""])
    return FrameBlock(
        device="strap",
        connection_id=draw(INT64),
        first_frame=draw(st.integers(0, (1 << 63) - 12)),
        sources=tuple(draw(st.lists(source, min_size=len(data), max_size=len(data)))),
        data=tuple(data),
        arrival_ns=np.array(draw(st.lists(INT64, min_size=len(data), max_size=len(data))), dtype=np.int64),
        arrival_monotonic_ns=np.arange(len(data), dtype=np.int64),
    )


@given(gaps(), st.integers(1, (1 << 63) - 1))
def test_a_gap_arrives_as_it_was_declared(gap: Gap, spool_seq: int) -> None:
    number = 1 if gap.stream is ECG else 2
    assert sent(gap, number, spool_seq) == [Received(spool_seq, gap, is_historical=False)]


@given(frame_blocks(), st.integers(1, (1 << 63) - 1))
def test_raw_frames_arrive_byte_for_byte(block: FrameBlock, spool_seq: int) -> None:
    assert sent(block, 3, spool_seq) == [Received(spool_seq, block, is_historical=False)]
    assert stream_of(block) == RAW


def test_the_raw_streams_are_announced_beside_the_decoded_ones() -> None:
    assert reader().streams == (ECG, RR, RAW)


@given(frame_blocks(), st.data())
def test_damaged_raw_frames_are_refused_and_their_place_is_known(
    block: FrameBlock, data: st.DataObject
) -> None:
    message = parse(encode_record(block, spool_seq=9, stream_number=3))
    victim = data.draw(st.sampled_from(list(message.metrics)[1:]))
    if victim.WhichOneof("value") == "string_value":
        victim.string_value = ""
        if set(block.sources) == {""}:
            return
    else:
        victim.bytes_value += b"\x01"
    known = reader()
    assert known.spool_seq(message) == 9
    if victim.WhichOneof("value") == "string_value" and len(set(block.sources)) == 1:
        return  # a single source may have any name
    with pytest.raises(DecodeError):
        known.read(message)


def test_a_reason_keeps_its_number_for_ever_because_spools_hold_it() -> None:
    assert list(GapReason) == [
        "lost-on-link",
        "disconnected",
        "silent",
        "device-restarted",
        "clock-set",
        "gateway-stopped",
        "spool-full",
        "spool-damaged",
        "not-understood",
        "undeclared",
    ]


def test_a_gap_for_a_reason_that_nobody_knows_is_refused() -> None:
    gap = Gap("strap", ECG, 5, 6, 0, 10, 3, GapReason.SILENT)
    body = encode_record(gap, spool_seq=1, stream_number=1)
    unknown = body.replace(
        list(GapReason).index(GapReason.SILENT).to_bytes(8, "little"), (99).to_bytes(8, "little")
    )
    with pytest.raises(DecodeError, match="reason 99"):
        reader().read(parse(unknown))


def test_a_device_stream_cannot_take_the_name_of_the_raw_frames() -> None:
    stream = Stream("raw", (Channel("ecg", "uV"),), "int32", 130.0)
    with pytest.raises(DefinitionError, match="'raw'"):
        birth_metrics(stream, stream_number=1, timestamp_ms=0)


def test_of_two_records_of_one_gap_the_one_that_ends_later_holds() -> None:
    begun = Gap("strap", ECG, 5, 6, 100, 200, None, GapReason.DISCONNECTED)
    ended = Gap("strap", ECG, 5, 6, 100, 300, 17, GapReason.DISCONNECTED)
    assert ended.outlasts(begun)
    assert not begun.outlasts(ended)
    assert not ended.outlasts(ended)


def test_a_gap_belongs_to_every_interval_that_it_touches() -> None:
    gap = Gap("strap", ECG, 5, 6, 100, 200, None, GapReason.SILENT)
    assert gap.between(0, 100) is None
    assert gap.between(0, 101) is gap
    assert gap.between(199, 300) is gap
    assert gap.between(200, 300) is None
    assert span_ns(gap) == (100, 199)


@given(frame_blocks())
def test_frames_are_cut_by_their_arrival(block: FrameBlock) -> None:
    ordered = np.sort(block.arrival_ns)
    block = FrameBlock(
        block.device, block.connection_id, block.first_frame % 1000, block.sources, block.data, ordered, ordered
    )
    middle = int(ordered[len(ordered) // 2])
    before, after = block.between(0, middle), block.between(middle, (1 << 63) - 1)
    data = (before.data if before else ()) + (after.data if after else ())
    n_last = int(np.count_nonzero(ordered == (1 << 63) - 1))
    assert data == block.data[: len(block.data) - n_last] if n_last else data == block.data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"end_ns": 99}, "in order"),
        ({"n_samples": -1}, "n_samples=-1"),
        ({"after_index": -2}, "after_index=-2"),
        ({"device": "no name"}, "device name"),
    ],
)
def test_a_gap_that_cannot_be_names_the_field(change: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {
        "device": "strap",
        "stream": ECG,
        "after_boot_id": 1,
        "after_index": 2,
        "start_ns": 100,
        "end_ns": 200,
        "n_samples": 3,
        "reason": GapReason.SILENT,
    }
    with pytest.raises(DefinitionError, match=message):
        Gap(**{**fields, **change})  # type: ignore[arg-type]
