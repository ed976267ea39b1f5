"""An edge node and a host application, back to back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocols.errors import DecodeError, DefinitionError
from protocols.samples import DTYPES, Channel, SampleBlock, Stream
from protocols.sparkplug.blocks import birth_metrics, encode_record
from protocols.sparkplug.edge_node import (
    DeviceBirth,
    EdgeNodeSession,
    HostDoubted,
    HostState,
    Rebirth,
    Watermark,
)
from protocols.sparkplug.host import (
    MAX_NODES,
    REORDER_TIMEOUT_MS,
    DeviceBorn,
    DeviceDied,
    DeviceMetrics,
    Event,
    HostApplication,
    NodeBorn,
    NodeDied,
    NodeMetrics,
    PayloadRejected,
    RecordReceived,
    RecordRejected,
    SendMessage,
)
from protocols.sparkplug.payload import DataType, Metric, encode_payload
from protocols.sparkplug.topics import Message, MessageType, NodeId

NODE = NodeId("lab", "gateway-1")
ECG = Stream("ecg", (Channel("ecg", "uV", 131328, scale=2.0, offset=-1.0),), "int32", 130.0)


def ecg_block(first_index: int = 0, values: Sequence[int] = (1, -2, 3)) -> SampleBlock:
    return SampleBlock(
        device="strap",
        stream=ECG,
        boot_id=1,
        first_index=first_index,
        start_ns=10**18,
        values=np.array([values], np.int32),
        arrival_ns=10**18 + 5,
        arrival_monotonic_ns=17,
        uncertainty_ns=3,
    )


class Pair:
    """An edge node and a host on a wire that can lose messages."""

    def __init__(self) -> None:
        self.edge = EdgeNodeSession(NODE, host_id="lab", incarnation=99)
        self.host = HostApplication("lab")
        self.will = self.edge.connecting(0)
        self.edge.device_birth("strap", DeviceBirth({1: ECG}, {"Manufacturer": "Fab Lab"}), 0)

    def to_host(self, *messages: Message | None, now_ms: int = 0) -> list[Event]:
        events: list[Event] = []
        for message in messages:
            if message is not None:
                events += self.host.receive(message.topic, message.payload, now_ms)
        return events

    def born(self) -> list[Event]:
        return self.to_host(*self.edge.births(0, oldest_seq=5))

    def data(self, block: SampleBlock, spool_seq: int, *, historical: bool = False) -> Message:
        body = encode_record(block, spool_seq=spool_seq, stream_number=1)
        return self.edge.data("strap", body, 0, historical=historical)


def channels(n: int) -> st.SearchStrategy[tuple[Channel, ...]]:
    number = st.floats(-1e6, 1e6, allow_nan=False).filter(bool)
    mdc = st.none() | st.integers(1, 2**32 - 1)
    one = st.builds(Channel, st.just("c"), st.sampled_from(["uV", "%", "1", "/min"]), mdc, number, number)
    return st.lists(one, min_size=n, max_size=n).map(
        lambda found: tuple(Channel(f"c{i}", c.unit, c.mdc, c.scale, c.offset) for i, c in enumerate(found))
    )


@st.composite
def blocks(draw: st.DrawFn) -> SampleBlock:
    n_channels, n_samples = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    dtype = draw(st.sampled_from(DTYPES))
    rate_hz = draw(st.none() | st.floats(0.01, 4000))
    stream = Stream("signal", draw(channels(n_channels)), dtype, rate_hz)
    raw = draw(st.binary(min_size=64 * 9, max_size=64 * 9))
    values = np.frombuffer(raw, dtype)[: n_channels * n_samples].reshape(n_channels, n_samples)
    int64 = st.integers(-(2**63) + 1, 2**63 - 1)
    times = None if rate_hz else draw(hnp.arrays(np.int64, n_samples))
    return SampleBlock(
        device="strap",
        stream=stream,
        boot_id=draw(st.integers(0, 2**63 - 1)),
        first_index=draw(st.integers(0, 2**63 - n_samples)),
        start_ns=draw(st.integers(-(2**63), 2**62)),
        values=values,
        arrival_ns=draw(int64),
        arrival_monotonic_ns=draw(int64),
        uncertainty_ns=draw(st.integers(0, 2**63 - 1)),
        device_ns=draw(st.none() | st.integers(1 - 2**63, 2**62)),
        times_ns=times,
    )


@settings(max_examples=300)
@given(blocks(), st.booleans(), st.integers(0, 2**63 - 1), st.integers(1, 2**40))
def test_every_block_survives_the_wire_bit_for_bit(
    block: SampleBlock, historical: bool, spool_seq: int, number: int
) -> None:
    pair = Pair()
    pair.edge.device_birth("strap", DeviceBirth({number: block.stream}), 0)
    pair.born()
    body = encode_record(block, spool_seq=spool_seq, stream_number=number)
    events = pair.to_host(pair.edge.data("strap", body, 0, historical=historical))
    assert len(events) == 1
    event = events[0]
    assert isinstance(event, RecordReceived)
    assert event.received.record == block
    assert event.received.spool_seq == spool_seq
    assert event.received.is_historical is historical


def test_a_birth_tells_the_spool_and_every_device_with_its_streams() -> None:
    assert Pair().born() == [
        NodeBorn(NODE, incarnation=99, oldest_seq=5),
        DeviceBorn(NODE, "strap", (ECG,), {"Manufacturer": "Fab Lab"}),
    ]


def test_two_streams_of_one_device_are_told_apart() -> None:
    pair = Pair()
    rr = Stream("rr", (Channel("rr_interval", "s", scale=1 / 1024),), "uint16", None)
    pair.edge.device_birth("strap", DeviceBirth({1: ECG, 2: rr}), 0)
    pair.born()
    beat = SampleBlock("strap", rr, 1, 0, 0, np.array([[800]], np.uint16), 0, 0, 0, times_ns=np.array([12]))
    events = pair.to_host(
        pair.edge.data("strap", encode_record(beat, spool_seq=1, stream_number=2), 0), pair.data(ecg_block(), 2)
    )
    assert [e.received.record for e in events if isinstance(e, RecordReceived)] == [beat, ecg_block()]


def test_data_before_a_birth_makes_the_host_ask_for_it_and_asking_is_rate_limited() -> None:
    pair = Pair()
    pair.edge.births(0, oldest_seq=1)
    events = pair.to_host(*(pair.data(ecg_block(i), i) for i in range(20)), now_ms=1000)
    requests = [e.message for e in events if isinstance(e, SendMessage)]
    assert len(requests) == 1
    assert len(events) == 1
    assert pair.edge.receive(requests[0].topic, requests[0].payload) == [Rebirth()]


def test_a_lost_message_shows_in_the_sequence_and_is_answered_by_a_rebirth_request() -> None:
    pair = Pair()
    pair.born()
    pair.data(ecg_block(), 1)
    assert [type(e) for e in pair.to_host(pair.data(ecg_block(3), 2))] == [RecordReceived]
    assert pair.host.tick(REORDER_TIMEOUT_MS - 1) == []
    assert [type(e) for e in pair.host.tick(REORDER_TIMEOUT_MS)] == [SendMessage]
    assert [type(e) for e in pair.to_host(pair.data(ecg_block(4), 3))] == [RecordReceived]


def test_the_message_sequence_wraps_without_anyone_noticing() -> None:
    pair = Pair()
    pair.born()
    events = pair.to_host(*(pair.data(ecg_block(i), i) for i in range(600)))
    assert [type(e) for e in events] == [RecordReceived] * 600


def test_a_rebirth_keeps_the_birth_death_number_and_a_new_connection_raises_it() -> None:
    edge = EdgeNodeSession(NODE, host_id="lab", incarnation=1, bd_seq=254)
    edge.connecting(0)
    assert edge.bd_seq == 255
    edge.births(0, oldest_seq=1)
    edge.births(0, oldest_seq=1)
    assert edge.bd_seq == 255
    edge.connecting(0)
    assert edge.bd_seq == 0


def test_the_will_of_an_earlier_connection_does_not_kill_the_present_one() -> None:
    pair = Pair()
    pair.born()
    old_will = pair.will
    new_will = pair.edge.connecting(1)
    pair.born()
    assert pair.to_host(old_will) == []
    assert pair.to_host(new_will, now_ms=7) == [NodeDied(NODE, timestamp_ms=7)]
    assert (new_will.qos, new_will.retain) == (1, False)


def test_after_a_device_s_death_its_data_are_not_taken() -> None:
    pair = Pair()
    pair.born()
    late = encode_record(ecg_block(), spool_seq=1, stream_number=1)
    assert pair.to_host(pair.edge.device_death("strap", 0)) == [DeviceDied(NODE, "strap")]
    assert pair.edge.device_death("strap", 0) is None
    assert [type(e) for e in pair.to_host(pair.edge.data("strap", late, 0))] == [SendMessage]


def test_a_watermark_reaches_the_gateway_that_it_is_for_and_no_other() -> None:
    pair = Pair()
    message = pair.host.watermark(NODE, incarnation=99, seq=2**40, now_ms=0)
    assert pair.edge.receive(message.topic, message.payload) == [Watermark(99, 2**40)]
    other = EdgeNodeSession(NodeId("lab", "gateway-2"), host_id="lab", incarnation=1)
    assert other.receive(message.topic, message.payload) == []


def test_the_host_s_state_is_known_to_the_edge_and_an_older_statement_is_ignored() -> None:
    pair = Pair()
    will = pair.host.connecting(1000)
    online = pair.host.online()
    assert (online.qos, online.retain, will.retain) == (1, True, True)
    assert pair.edge.receive(online.topic, online.payload) == [HostState(online=True)]
    assert pair.edge.receive(online.topic, b'{"online": false, "timestamp": 999}') == []
    assert pair.edge.receive(online.topic, b'{"online": false, "timestamp": 1000}') == [HostState(online=False)]


def test_a_host_that_reads_that_it_is_offline_says_again_that_it_is_not() -> None:
    host = HostApplication("lab")
    will = host.connecting(1000)
    assert host.receive(will.topic, will.payload, 1001) == []
    online = host.online()
    assert host.receive(will.topic, will.payload, 1001) == [SendMessage(online)]
    assert host.receive(will.topic, b'{"online": false, "timestamp": 1}', 1001) == [SendMessage(online)]
    assert host.receive(host.online().topic, host.online().payload, 1001) == []


@pytest.mark.parametrize(
    "payload", [b"", b"OFFLINE", b"[]", b'{"online": 1, "timestamp": 1}', b'{"online": true}']
)
def test_a_state_that_is_none_is_a_decode_error(payload: bytes) -> None:
    edge = EdgeNodeSession(NODE, host_id="lab", incarnation=1)
    with pytest.raises(DecodeError, match="STATE"):
        edge.receive("spBv1.0/STATE/lab", payload)


def test_an_edge_node_of_another_maker_is_understood_but_never_said_to_be_a_gateway() -> None:
    host, press = HostApplication("lab"), NodeId("plant", "press")
    bd_seq = Metric("bdSeq", datatype=DataType.INT64, value=0, timestamp_ms=0)
    force = Metric("Force", alias=7, datatype=DataType.FLOAT, value=1.5)
    speed = Metric("Speed", alias=8, datatype=DataType.INT16, value=-3)
    changed = Metric(alias=8, datatype=DataType.INT16, value=-4)

    def heard(kind: str, *metrics: Metric, seq: int | None, births: bool = False) -> list[Event]:
        device = "/motor" if kind.startswith("D") else ""
        payload = encode_payload(metrics, timestamp_ms=9, seq=seq, with_datatypes=births)
        return host.receive(f"spBv1.0/plant/{kind}/press{device}", payload, 10)

    assert heard("NBIRTH", bd_seq, force, seq=0, births=True) == [
        NodeMetrics(press, {"Force": 1.5}, 9, is_birth=True)
    ]
    born = DeviceMetrics(press, "motor", {"Speed": -3}, 9)
    assert heard("DBIRTH", speed, seq=1, births=True) == [born]
    assert heard("DDATA", changed, seq=2) == [DeviceMetrics(press, "motor", {"Speed": -4}, 9)]
    assert heard("DDEATH", seq=3) == [DeviceDied(press, "motor", 9)]
    assert heard("NDEATH", bd_seq, seq=None, births=True) == [NodeDied(press, 10)]


def test_a_host_that_was_said_to_be_offline_by_a_later_statement_is_in_doubt() -> None:
    pair = Pair()
    pair.edge.receive("spBv1.0/STATE/lab", b'{"online": false, "timestamp": 9999999999999}')
    pair.host.connecting(1000)
    assert pair.edge.receive("spBv1.0/STATE/lab", pair.host.online().payload) == [HostDoubted()]
    pair.edge.connecting(0)
    assert pair.edge.receive("spBv1.0/STATE/lab", pair.host.online().payload) == [HostState(online=True)]


SESSION = "63/0"
"""Of spool 99 and the first connection."""


def forged(*metrics: Metric, seq: int | None = 0) -> bytes:
    return encode_payload(metrics, timestamp_ms=0, seq=seq, uuid=SESSION)


@pytest.mark.parametrize("incarnation", [-1, 0, True, 2**63])
@pytest.mark.parametrize("oldest_seq", [-1, 0, 2**63])
def test_a_birth_with_impossible_numbers_is_rejected(incarnation: int, oldest_seq: int) -> None:
    payload = forged(
        Metric("bdSeq", datatype=DataType.INT64, value=0),
        Metric("Spool/incarnation", datatype=_integer_type(incarnation), value=incarnation),
        Metric("Spool/oldest_seq", datatype=_integer_type(oldest_seq), value=oldest_seq),
    )
    events = HostApplication("lab").receive(NODE.topic(MessageType.NBIRTH), payload, 0)
    assert [type(e) for e in events] == [PayloadRejected]


def _integer_type(value: int) -> DataType:
    if value is True:
        return DataType.BOOLEAN
    return DataType.INT64 if value < 0 else DataType.UINT64


@pytest.mark.parametrize("payload", [forged(Metric("bdSeq", datatype=DataType.INT64, value=0)), b"\xff"])
def test_a_false_birth_changes_nothing_about_a_known_gateway(payload: bytes) -> None:
    pair = Pair()
    pair.born()
    assert [type(e) for e in pair.host.receive(NODE.topic(MessageType.NBIRTH), payload, 0)] == [PayloadRejected]
    assert [type(e) for e in pair.to_host(pair.data(ecg_block(), 1))] == [RecordReceived]


def test_names_that_are_no_text_are_rejected() -> None:
    pair = Pair()
    pair.born()
    payload = forged(Metric("ecg/block", datatype=DataType.INT64_ARRAY), seq=2).replace(b"ecg/", b"ecg\xff")
    (event,) = pair.host.receive(NODE.topic(MessageType.DBIRTH, "strap"), payload, 0)
    assert isinstance(event, PayloadRejected)
    assert "UTF-8" in event.reason


def test_a_death_whose_number_is_an_array_kills_nobody() -> None:
    pair = Pair()
    pair.born()
    number = Metric("bdSeq", datatype=DataType.INT64_ARRAY, value=np.array([0, 0]))
    events = pair.host.receive(NODE.topic(MessageType.NDEATH), forged(number, seq=None), 0)
    assert [type(e) for e in events] == [PayloadRejected]
    assert [type(e) for e in pair.to_host(pair.data(ecg_block(), 1))] == [RecordReceived]


def test_a_stream_with_an_infinite_code_is_rejected() -> None:
    pair = Pair()
    pair.born()
    metrics = birth_metrics(ECG, stream_number=1, timestamp_ms=0)
    channel = replace(metrics[-1], properties={"engUnit": "uV", "mdc": float("inf")})
    payload = forged(*metrics[:-1], channel, seq=2)
    events = pair.host.receive(NODE.topic(MessageType.DBIRTH, "strap"), payload, 0)
    assert [type(e) for e in events] == [PayloadRejected]


def test_a_block_that_makes_no_sense_is_reported_with_its_place() -> None:
    pair = Pair()
    pair.born()
    body = encode_record(ecg_block(first_index=7), spool_seq=42, stream_number=1)
    wrong = body.replace((7).to_bytes(8, "little"), (-7).to_bytes(8, "little", signed=True))
    message = pair.edge.data("strap", wrong, 0)
    (event,) = pair.to_host(message)
    assert isinstance(event, RecordRejected)
    assert (event.node, event.incarnation, event.device, event.spool_seq) == (NODE, 99, "strap", 42)
    assert (event.payload, event.streams) == (message.payload, {1 << 10: ECG})
    assert "first_index=-7" in event.reason


def test_a_rejected_message_does_not_swallow_the_request_for_what_was_lost_before_it() -> None:
    pair = Pair()
    pair.born()
    pair.data(ecg_block(), 1)  # lost
    body = encode_record(ecg_block(first_index=7), spool_seq=2, stream_number=1)
    wrong = body.replace((7).to_bytes(8, "little"), (-7).to_bytes(8, "little", signed=True))
    assert [type(e) for e in pair.to_host(pair.edge.data("strap", wrong, 0))] == [RecordRejected]
    assert [type(e) for e in pair.host.tick(REORDER_TIMEOUT_MS)] == [SendMessage]


def test_nodes_that_were_never_born_are_not_remembered_for_ever() -> None:
    pair = Pair()
    pair.born()
    for i in range(MAX_NODES + 10):
        pair.host.receive(f"spBv1.0/lab/NDATA/forged-{i}", b"", 0)
    assert len(pair.host._nodes) <= MAX_NODES
    assert [type(e) for e in pair.to_host(pair.data(ecg_block(), 1))] == [RecordReceived]


@given(st.binary(max_size=100), st.sampled_from(["NBIRTH", "NDEATH", "DBIRTH", "DDATA", "DDEATH", "NCMD", "X"]))
def test_the_host_survives_any_payload_on_any_topic(payload: bytes, kind: str) -> None:
    pair = Pair()
    pair.born()
    device = "/strap" if kind.startswith("D") else ""
    pair.host.receive(f"spBv1.0/lab/{kind}/gateway-1{device}", payload, 0)
    pair.host.receive("spBv1.0/STATE/lab", payload, 0)


@given(st.data())
def test_a_damaged_data_message_is_rejected_or_read_but_never_raises(data: st.DataObject) -> None:
    pair = Pair()
    pair.born()
    message = pair.data(ecg_block(), 1)
    position = data.draw(st.integers(0, len(message.payload) - 1))
    damaged = bytearray(message.payload)
    damaged[position] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    pair.host.receive(message.topic, bytes(damaged), 0)
    pair.host.receive(message.topic, bytes(damaged[:cut]), 0)


def test_a_channel_may_not_be_named_like_a_part_of_the_block() -> None:
    stream = Stream("s", (Channel("block", "1"),), "int16", 1.0)
    with pytest.raises(DefinitionError, match="'block'"):
        birth_metrics(stream, stream_number=1, timestamp_ms=0)
