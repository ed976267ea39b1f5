"""What the specification demands of an edge node; `docs/sparkplug.md` says which test is for which rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from protocols.errors import DecodeError, DefinitionError
from protocols.samples import Channel, SampleBlock, Stream
from protocols.sparkplug.blocks import encode_record
from protocols.sparkplug.edge_node import (
    DeviceBirth,
    EdgeNodeSession,
    HostDoubted,
    HostState,
    Rebirth,
    Watermark,
    encode_state,
)
from protocols.sparkplug.payload import DataType, Metric, encode_payload, parse
from protocols.sparkplug.topics import Message, MessageType, NodeId

NODE = NodeId("lab", "gw-1")
ECG = Stream("ecg", (Channel("ecg", "uV", 131328, scale=2.0), Channel("vcg", "uV")), "int32", 130.0)
RR = Stream("rr", (Channel("rr", "s"),), "uint16", None)
BACKLOG = Metric("Health/backlog", datatype=DataType.INT64, value=3, properties={"engUnit": "1", "low": 2.5})
DISK = Metric("Health/disk", datatype=DataType.DOUBLE, value=None)
BATTERY = Metric("Health/battery", datatype=DataType.DOUBLE, value=0.5)
NOW_MS = 1_700_000_000_000
BIRTHS = (MessageType.NBIRTH, MessageType.DBIRTH)


def new_session(bd_seq: int = -1) -> EdgeNodeSession:
    session = EdgeNodeSession(NODE, host_id="lab", incarnation=5, bd_seq=bd_seq)
    session.connecting(NOW_MS)
    session.device_birth("strap", DeviceBirth({1: ECG, 2: RR}, {"Maker": "Fab Lab"}, [BATTERY]), NOW_MS)
    session.device_birth("cuff", DeviceBirth({3: ECG}), NOW_MS)
    return session


def births(session: EdgeNodeSession) -> list[Message]:
    return session.births(NOW_MS, oldest_seq=8, metrics=[BACKLOG, DISK])


def changed(metric: Metric, value: float, timestamp_ms: int | None = None) -> Metric:
    return Metric(metric.name, datatype=metric.datatype, value=value, timestamp_ms=timestamp_ms)


def record(session: EdgeNodeSession, *, historical: bool = False) -> Message:
    values = np.array([[1, -2], [3, 4]], np.int32)
    block = SampleBlock("strap", ECG, 1, 0, NOW_MS * 1_000_000, values, 0, 0, 0)
    body = encode_record(block, spool_seq=8, stream_number=1)
    return session.data("strap", body, NOW_MS, historical=historical)


def whole_session() -> list[Message]:
    """Return every kind of message, in an order in which they can come."""
    session = new_session()
    death = session.device_death
    return [
        *births(session),
        record(session),
        record(session, historical=True),
        session.node_data([changed(BACKLOG, 4)], NOW_MS),
        session.device_data("strap", [changed(BATTERY, 0.4)], NOW_MS),
        *[message for message in [death("cuff", NOW_MS)] if message is not None],
        session.device_birth("cuff", DeviceBirth({3: ECG}), NOW_MS),
        *[record(session) for _ in range(300)],
    ]


def kind_of(message: Message) -> MessageType:
    return MessageType(message.topic.split("/")[2])


def of_kind(messages: Sequence[Message], kind: MessageType) -> list[Message]:
    return [message for message in messages if kind_of(message) is kind]


def metric(message: Message, name: str) -> Any:
    (found,) = [m for m in parse(message.payload).metrics if m.name == name]
    return found


@pytest.mark.parametrize("kind", list(MessageType))
def test_every_kind_of_message_has_its_topic_at_qos_0_and_is_not_retained(kind: MessageType) -> None:
    for message in of_kind(whole_session(), kind):
        device = "/strap" if "/strap" in message.topic else "/cuff"
        expected = f"spBv1.0/lab/{kind}/gw-1{device if kind.startswith('D') else ''}"
        assert (message.topic, message.qos, message.retain) == (expected, 0, False)


def test_the_first_message_is_the_nbirth_and_all_dbirths_come_before_any_data() -> None:
    kinds = [kind_of(message) for message in whole_session()]
    assert kinds[:3] == [MessageType.NBIRTH, MessageType.DBIRTH, MessageType.DBIRTH]
    assert kinds[3:].count(MessageType.NBIRTH) == 0


def test_the_sequence_begins_with_0_at_the_nbirth_and_counts_every_message_of_node_and_devices() -> None:
    session = whole_session()
    assert all(parse(message.payload).HasField("seq") for message in session)
    assert [parse(message.payload).seq for message in session] == [i % 256 for i in range(len(session))]


def test_a_message_that_cannot_be_made_takes_no_number() -> None:
    session = new_session()
    births(session)
    with pytest.raises(DefinitionError):
        session.node_data([Metric("Health/backlog", datatype=DataType.INT64, value=2**70)], NOW_MS)
    assert parse(record(session).payload).seq == 3


def test_every_message_and_every_metric_tells_its_time() -> None:
    for message in whole_session():
        payload = parse(message.payload)
        assert payload.timestamp == NOW_MS
        assert all(m.HasField("timestamp") and m.timestamp == NOW_MS for m in payload.metrics)


def test_births_list_every_metric_with_name_type_and_present_value_or_null() -> None:
    messages = whole_session()
    for message in (m for kind in BIRTHS for m in of_kind(messages, kind)):
        for m in parse(message.payload).metrics:
            assert m.name
            assert m.datatype in list(DataType)
            assert m.is_null == (m.WhichOneof("value") is None)
    node_birth, strap_birth, _ = messages[:3]
    assert metric(node_birth, "Health/backlog").long_value == 3
    assert metric(node_birth, "Health/disk").is_null
    assert metric(strap_birth, "Health/battery").double_value == 0.5
    assert metric(strap_birth, "ecg/vcg").is_null
    told = {m.alias or m.name for message in messages[:3] for m in parse(message.payload).metrics}
    reported = {m.alias or m.name for message in messages[3:] for m in parse(message.payload).metrics}
    assert reported <= told


def test_a_metric_that_no_birth_has_announced_cannot_be_reported() -> None:
    session = new_session()
    with pytest.raises(DefinitionError, match="backlog"):
        session.node_data([BACKLOG], NOW_MS)
    births(session)
    with pytest.raises(DefinitionError, match="'speed'"):
        session.node_data([Metric("speed", datatype=DataType.INT64, value=1)], NOW_MS)
    with pytest.raises(DefinitionError, match="backlog"):
        session.node_data([Metric("Health/backlog", datatype=DataType.DOUBLE, value=1.0)], NOW_MS)
    with pytest.raises(DefinitionError, match="battery"):
        session.device_data("cuff", [BATTERY], NOW_MS)
    session.connecting(NOW_MS)
    with pytest.raises(DefinitionError, match="backlog"):
        session.node_data([BACKLOG], NOW_MS)


@pytest.mark.parametrize("name", ["", "bdSeq", "Node Control/Rebirth", "Spool/watermark", "Health/backlog"])
def test_a_node_metric_needs_a_name_of_its_own(name: str) -> None:
    with pytest.raises(DefinitionError, match="name"):
        new_session().births(
            NOW_MS, oldest_seq=1, metrics=[BACKLOG, Metric(name, datatype=DataType.INT64, value=1)]
        )


@pytest.mark.parametrize("name", ["ecg/quality", "ecg/ecg", "Properties/Maker"])
def test_a_metric_beside_a_device_s_streams_cannot_be_named_like_a_part_of_one(name: str) -> None:
    birth = DeviceBirth({1: ECG}, metrics=[Metric(name, datatype=DataType.INT64, value=1)])
    with pytest.raises(DefinitionError, match="name"):
        new_session().device_birth("strap", birth, NOW_MS)


def test_a_later_birth_tells_the_values_that_have_changed_since_but_not_stored_ones() -> None:
    session = new_session()
    births(session)
    session.device_data("strap", [changed(BATTERY, 0.4)], NOW_MS)
    old = Metric("Health/battery", datatype=DataType.DOUBLE, value=0.9, is_historical=True)
    session.device_data("strap", [old], NOW_MS)
    assert metric(births(session)[1], "Health/battery").double_value == 0.4


def test_data_leave_out_the_types_and_use_either_the_alias_or_the_name() -> None:
    messages = whole_session()
    for message in [*of_kind(messages, MessageType.NDATA), *of_kind(messages, MessageType.DDATA)]:
        for m in parse(message.payload).metrics:
            assert not m.HasField("datatype")
            assert m.HasField("name") != m.HasField("alias")


def test_no_alias_means_two_metrics_of_a_node_and_the_rebirth_metric_has_none() -> None:
    messages = births(new_session())
    aliases = [m.alias for message in messages for m in parse(message.payload).metrics if m.HasField("alias")]
    assert len(aliases) == len(set(aliases)) > 0
    assert not metric(messages[0], "Node Control/Rebirth").HasField("alias")
    assert all(m.name for message in messages for m in parse(message.payload).metrics)


def test_metrics_of_a_message_are_in_the_order_of_their_times() -> None:
    session = new_session()
    births(session)
    message = session.node_data([changed(BACKLOG, 5, NOW_MS), changed(BACKLOG, 4, NOW_MS - 9)], NOW_MS)
    assert [m.long_value for m in parse(message.payload).metrics] == [4, 5]
    times = [m.timestamp for message in births(session) for m in parse(message.payload).metrics]
    assert times == sorted(times)


def test_stored_data_are_marked_in_every_metric_and_keep_their_times() -> None:
    session = new_session()
    live, stored = parse(record(session).payload), parse(record(session, historical=True).payload)
    assert not any(m.is_historical for m in live.metrics)
    assert all(m.is_historical for m in stored.metrics)
    assert [m.timestamp for m in stored.metrics] == [m.timestamp for m in live.metrics]


def test_property_sets_have_a_typed_value_for_every_key() -> None:
    session = whole_session()
    sets = [m.properties for message in session[:3] for m in parse(message.payload).metrics]
    sets = [properties for properties in sets if properties.keys]
    assert sets
    basic = range(DataType.INT8, DataType.TEXT + 1)
    for properties in sets:
        assert len(properties.keys) == len(properties.values)
        assert all(value.type in basic and value.WhichOneof("value") for value in properties.values)


def test_the_will_is_an_ndeath_with_nothing_but_the_birth_death_number() -> None:
    session = EdgeNodeSession(NODE, host_id="lab", incarnation=5)
    will = session.connecting(NOW_MS)
    assert (will.topic, will.qos, will.retain) == ("spBv1.0/lab/NDEATH/gw-1", 1, False)
    for death in (will, session.death(NOW_MS)):
        payload = parse(death.payload)
        (bd_seq,) = payload.metrics
        assert (bd_seq.name, bd_seq.datatype, bd_seq.long_value) == ("bdSeq", DataType.INT64, 0)
        assert not payload.HasField("seq")
        assert payload.timestamp == NOW_MS


def test_birth_and_will_of_a_connection_share_a_number_that_counts_connections_from_0_to_255() -> None:
    session = EdgeNodeSession(NODE, host_id="lab", incarnation=5)
    for i in range(258):
        will = session.connecting(NOW_MS)
        for _ in range(2):
            birth = session.births(NOW_MS, oldest_seq=1)[0]
            numbers = [metric(message, "bdSeq").long_value for message in (will, birth, session.death(NOW_MS))]
            assert numbers == [i % 256] * 3
    assert metric(birth, "bdSeq").datatype == DataType.INT64


def test_a_kept_birth_death_number_goes_on_after_a_restart() -> None:
    assert metric(births(new_session(bd_seq=41))[0], "bdSeq").long_value == 42


def test_the_nbirth_offers_the_rebirth_metric_as_a_false_boolean() -> None:
    rebirth = metric(births(new_session())[0], "Node Control/Rebirth")
    assert (rebirth.datatype, rebirth.WhichOneof("value")) == (DataType.BOOLEAN, "boolean_value")
    assert rebirth.boolean_value is False


def test_the_nbirth_names_every_metric_that_a_host_writes() -> None:
    birth = births(new_session())[0]
    assert metric(birth, "Spool/watermark").long_value == 7
    assert metric(birth, "Spool/incarnation").long_value == 5


def test_births_after_a_request_are_complete_and_begin_anew_with_seq_0() -> None:
    session = new_session()
    first = births(session)
    record(session)
    again = births(session)
    assert [m.topic for m in again] == [m.topic for m in first]
    assert [m.payload for m in again] == [m.payload for m in first]


def test_a_device_is_in_the_births_from_its_birth_to_its_death() -> None:
    session = new_session()
    assert session.device_death("cuff", NOW_MS) is not None
    assert [m.topic for m in births(session)[1:]] == ["spBv1.0/lab/DBIRTH/gw-1/strap"]


def test_a_device_born_again_is_still_one_device() -> None:
    session = new_session()
    session.device_birth("strap", DeviceBirth({1: ECG}), NOW_MS)
    assert len(births(session)) == 3


def test_a_ddeath_has_its_place_in_the_sequence_and_its_time() -> None:
    session = new_session()
    births(session)
    death = session.device_death("strap", NOW_MS + 1)
    assert death is not None
    payload = parse(death.payload)
    assert (payload.seq, payload.timestamp, len(payload.metrics)) == (3, NOW_MS + 1, 0)


def test_commands_and_the_primary_host_s_state_are_subscribed_to_at_qos_1() -> None:
    assert new_session().subscriptions == [("spBv1.0/lab/NCMD/gw-1", 1), ("spBv1.0/STATE/lab", 1)]


@pytest.mark.parametrize("with_datatypes", [True, False])
def test_a_command_is_understood_with_and_without_data_types(with_datatypes: bool) -> None:
    metrics = [
        Metric("Node Control/Rebirth", datatype=DataType.BOOLEAN, value=True),
        Metric("Spool/incarnation", datatype=DataType.UINT64, value=5),
        Metric("Spool/watermark", datatype=DataType.UINT64, value=9),
    ]
    payload = encode_payload(metrics, timestamp_ms=0, with_datatypes=with_datatypes)
    assert new_session().receive(NODE.topic(MessageType.NCMD), payload) == [Rebirth(), Watermark(5, 9)]


def test_a_command_for_a_metric_that_nobody_announced_is_left_alone() -> None:
    payload = encode_payload(
        [Metric("Node Control/Reboot", datatype=DataType.BOOLEAN, value=True)], timestamp_ms=0
    )
    assert new_session().receive(NODE.topic(MessageType.NCMD), payload) == []


@pytest.mark.parametrize(
    "wrong",
    [
        Metric("Node Control/Rebirth", datatype=DataType.STRING, value="true"),
        Metric("Node Control/Rebirth", datatype=DataType.INT32, value=1),
        Metric("Spool/watermark", datatype=DataType.DOUBLE, value=7.0),
        Metric("Spool/watermark", datatype=DataType.UINT64, value=7),
    ],
)
@pytest.mark.parametrize("with_datatypes", [True, False])
def test_a_command_with_a_value_of_another_type_is_refused(wrong: Metric, with_datatypes: bool) -> None:
    payload = encode_payload([wrong], timestamp_ms=0, with_datatypes=with_datatypes)
    with pytest.raises(DecodeError):
        new_session().receive(NODE.topic(MessageType.NCMD), payload)


@pytest.mark.parametrize(
    "topic",
    ["spBv1.0/lab/NCMD/gw-2", "spBv1.0/lab/DCMD/gw-1/strap", "spBv1.0/STATE/other", "spBv1.0/lab/NBIRTH/gw-1"],
)
def test_what_is_for_somebody_else_is_left_alone(topic: str) -> None:
    assert new_session().receive(topic, encode_state(online=True, timestamp_ms=1)) == []


def heard(session: EdgeNodeSession, *statements: tuple[bool, int]) -> list[object]:
    return [
        command
        for online, timestamp_ms in statements
        for command in session.receive(
            "spBv1.0/STATE/lab", encode_state(online=online, timestamp_ms=timestamp_ms)
        )
    ]


def test_the_primary_host_is_online_only_once_it_has_said_so_here() -> None:
    session = new_session()
    assert not session.host_online
    assert heard(session, (True, 5)) == [HostState(online=True)]
    assert session.host_online
    session.connecting(NOW_MS)
    assert not session.host_online


def test_a_host_that_is_offline_from_the_beginning_is_told_so_that_another_server_is_tried() -> None:
    session = new_session()
    assert heard(session, (False, 5)) == [HostState(online=False)]
    assert heard(session, (False, 6)) == []


def test_an_online_statement_older_than_the_one_before_is_not_believed() -> None:
    session = new_session()
    assert heard(session, (False, 5), (True, 4)) == [HostState(online=False), HostDoubted()]
    assert not session.host_online
    assert heard(session, (True, 5)) == [HostState(online=True)]


def test_an_offline_statement_counts_from_the_time_of_the_last_online_one() -> None:
    session = new_session()
    assert heard(session, (True, 10), (False, 9)) == [HostState(online=True)]
    assert session.host_online
    assert heard(session, (False, 10)) == [HostState(online=False)]


def test_statements_at_one_server_say_nothing_about_another() -> None:
    session = new_session()
    heard(session, (True, 1000), (False, 1000))
    session.connecting(NOW_MS)
    assert heard(session, (True, 3)) == [HostState(online=True)]


def test_a_forged_statement_from_the_future_is_overcome_by_a_new_connection() -> None:
    session = new_session()
    assert heard(session, (True, 10), (False, 10**15), (True, 10))[-1] == HostDoubted()
    session.connecting(NOW_MS)
    assert heard(session, (True, 10)) == [HostState(online=True)]


def test_messages_of_two_gateways_with_one_name_can_be_told_apart() -> None:
    other = EdgeNodeSession(NODE, host_id="lab", incarnation=6)
    other.connecting(NOW_MS)
    session = new_session()
    sessions = {parse(message.payload).uuid for message in [*births(session), record(session)]}
    assert len(sessions) == 1
    assert parse(other.births(NOW_MS, oldest_seq=1)[0].payload).uuid not in sessions
    session.connecting(NOW_MS)
    assert parse(births(session)[0].payload).uuid not in sessions


@pytest.mark.parametrize(
    "make", [lambda s: births(s)[0], lambda s: s.death(NOW_MS), lambda s: record(s), lambda s: births(s)[1]]
)
def test_every_payload_is_protobuf(make: Callable[[EdgeNodeSession], Message]) -> None:
    assert parse(make(new_session()).payload).ListFields()
