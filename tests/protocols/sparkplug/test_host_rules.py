"""What the specification demands of a host application, and how ours meets what it must not believe."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.samples import Channel, SampleBlock, Stream
from protocols.sparkplug.blocks import birth_metrics, encode_record
from protocols.sparkplug.edge_node import DeviceBirth, EdgeNodeSession, Rebirth, Watermark, encode_state
from protocols.sparkplug.host import (
    MAX_NODES,
    REBIRTH_INTERVAL_MS,
    REORDER_TIMEOUT_MS,
    DeviceBorn,
    DeviceDied,
    DeviceMetrics,
    Event,
    HostApplication,
    HostDisconnected,
    NodeBorn,
    NodeDied,
    NodeIdShared,
    NodeMetrics,
    PayloadRejected,
    RecordReceived,
    SendMessage,
)
from protocols.sparkplug.live import LiveDevice, LiveMetrics
from protocols.sparkplug.payload import DataType, Metric, encode_payload, parse
from protocols.sparkplug.topics import Message, MessageType, NodeId

NODE = NodeId("lab", "gw-1")
ECG = Stream("ecg", (Channel("ecg", "uV"),), "int32", 130.0)
BACKLOG = Metric("Health/backlog", datatype=DataType.INT64, value=3)
BATTERY = Metric("Health/battery", datatype=DataType.DOUBLE, value=0.5)


class Lab:
    """A host, and gateways whose messages reach it as the test likes."""

    def __init__(self, reorder_timeout_ms: int = REORDER_TIMEOUT_MS) -> None:
        self.host = HostApplication("lab", reorder_timeout_ms=reorder_timeout_ms)
        self.live = LiveMetrics()
        self.host.connecting(0)
        self.host.online()

    def hear(self, *messages: Message | None, now_ms: int = 0) -> list[Event]:
        events: list[Event] = []
        for message in messages:
            assert message is not None
            events += self.host.receive(message.topic, message.payload, now_ms)
        self.note(events)
        return events

    def note(self, events: Sequence[Event]) -> None:
        for event in events:
            self.live.take(event)


class Gateway:
    """An edge node with a device whose records are numbered."""

    def __init__(self, incarnation: int = 5, bd_seq: int = -1, node: NodeId = NODE) -> None:
        self.session = EdgeNodeSession(node, host_id="lab", incarnation=incarnation, bd_seq=bd_seq)
        self.will = self.session.connecting(0)
        self.session.device_birth("strap", DeviceBirth({1: ECG}, metrics=[BATTERY]), 0)

    def births(self, now_ms: int = 0) -> list[Message]:
        return self.session.births(now_ms, oldest_seq=1, metrics=[BACKLOG])

    def record(self, spool_seq: int) -> Message:
        block = SampleBlock("strap", ECG, 1, spool_seq, 0, np.array([[7]], np.int32), 0, 0, 0)
        return self.session.data("strap", encode_record(block, spool_seq=spool_seq, stream_number=1), 0)

    def backlog(self, value: int, now_ms: int = 0) -> Message:
        return self.session.node_data([Metric("Health/backlog", datatype=DataType.INT64, value=value)], now_ms)

    def battery(self, value: float, now_ms: int = 0) -> Message:
        metric = Metric("Health/battery", datatype=DataType.DOUBLE, value=value)
        return self.session.device_data("strap", [metric], now_ms)


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def records(events: Sequence[Event]) -> list[int]:
    return [event.received.spool_seq for event in events if isinstance(event, RecordReceived)]


def requests(events: Sequence[Event]) -> list[Message]:
    return [event.message for event in events if isinstance(event, SendMessage)]


# its own birth and death


def test_will_and_birth_say_on_one_topic_with_one_time_that_it_is_off_and_online() -> None:
    host = HostApplication("lab")
    for now_ms in (1000, 2000):
        will, birth = host.connecting(now_ms), host.online()
        assert (will.topic, will.qos, will.retain) == ("spBv1.0/STATE/lab", 1, True)
        assert (birth.topic, birth.qos, birth.retain) == ("spBv1.0/STATE/lab", 1, True)
        assert json.loads(will.payload) == {"online": False, "timestamp": now_ms}
        assert json.loads(birth.payload) == {"online": True, "timestamp": now_ms}


def test_its_goodbye_says_when_it_went() -> None:
    host = HostApplication("lab")
    host.connecting(1000)
    host.online()
    goodbye = host.offline(1500)
    assert (goodbye.topic, goodbye.qos, goodbye.retain) == ("spBv1.0/STATE/lab", 1, True)
    assert json.loads(goodbye.payload) == {"online": False, "timestamp": 1500}
    assert host.receive(goodbye.topic, goodbye.payload, 1501) == []


def test_it_hears_its_own_state_and_all_nodes() -> None:
    assert HostApplication("lab").subscriptions == [("spBv1.0/#", 1)]


@pytest.mark.parametrize("timestamp_ms", [0, 1000, 10**15])
def test_whoever_says_that_it_is_offline_is_contradicted_with_the_time_of_its_will(timestamp_ms: int) -> None:
    host = HostApplication("lab")
    host.connecting(1000)
    online = host.online()
    forged = encode_state(online=False, timestamp_ms=timestamp_ms)
    assert host.receive("spBv1.0/STATE/lab", forged, 5000) == [SendMessage(online)]
    assert json.loads(online.payload)["timestamp"] == 1000


@pytest.mark.parametrize("payload", [b"", b"\xff", b"OFFLINE", b'{"online": 0, "timestamp": 0}'])
def test_a_state_that_is_none_is_rejected(lab: Lab, payload: bytes) -> None:
    assert [type(e) for e in lab.hear(Message("spBv1.0/STATE/lab", payload))] == [PayloadRejected]


def test_another_host_s_state_is_left_alone(lab: Lab) -> None:
    assert lab.hear(Message("spBv1.0/STATE/other", encode_state(online=False, timestamp_ms=1))) == []


# births, deaths and stale metrics


def test_births_tell_the_node_s_and_the_device_s_metrics_and_data_what_changed(
    lab: Lab, gateway: Gateway
) -> None:
    assert lab.hear(*gateway.births()) == [
        NodeBorn(NODE, 5, 1),
        NodeMetrics(NODE, {"Health/backlog": 3}, 0, is_birth=True),
        DeviceBorn(NODE, "strap", (ECG,), {}),
        DeviceMetrics(NODE, "strap", {"Health/battery": 0.5}, 0),
    ]
    changes = lab.hear(gateway.backlog(4, 10), gateway.battery(0.4, 11))
    assert changes == [
        NodeMetrics(NODE, {"Health/backlog": 4}, 10),
        DeviceMetrics(NODE, "strap", {"Health/battery": 0.4}, 11),
    ]


def test_an_ndeath_makes_node_and_devices_stale_since_the_host_s_time(lab: Lab, gateway: Gateway) -> None:
    lab.hear(*gateway.births())
    assert lab.hear(gateway.session.death(70), now_ms=100) == [NodeDied(NODE, 100)]
    node = lab.live.nodes()[NODE]
    assert (node.stale_since_ms, node.devices["strap"].stale_since_ms) == (100, 100)
    assert node.metrics == {"Health/backlog": 3}


def test_a_ddeath_makes_one_device_stale_since_the_time_it_tells(lab: Lab, gateway: Gateway) -> None:
    lab.hear(*gateway.births())
    assert lab.hear(gateway.session.device_death("strap", 70), now_ms=100) == [DeviceDied(NODE, "strap", 70)]
    node = lab.live.nodes()[NODE]
    assert (node.stale_since_ms, node.devices["strap"].stale_since_ms) == (None, 70)
    lab.hear(gateway.session.death(80), now_ms=200)
    assert lab.live.nodes()[NODE].devices["strap"].stale_since_ms == 70


def test_only_the_death_of_the_present_session_counts(lab: Lab, gateway: Gateway) -> None:
    lab.hear(*gateway.births())
    old_will = gateway.will
    gateway.session.connecting(1)
    lab.hear(*gateway.births())
    assert lab.hear(old_will) == []
    assert lab.live.nodes()[NODE].stale_since_ms is None


def test_a_birth_makes_a_dead_node_s_metrics_good_again(lab: Lab, gateway: Gateway) -> None:
    lab.hear(*gateway.births())
    lab.hear(gateway.session.death(70), now_ms=100)
    gateway.session.connecting(200)
    lab.hear(gateway.births(300)[0])
    node = lab.live.nodes()[NODE]
    assert (node.stale_since_ms, node.timestamp_ms, node.devices) == (None, 300, {})


def test_when_the_host_was_cut_off_everything_is_stale_until_births_and_the_host_asks_for_them(
    lab: Lab, gateway: Gateway
) -> None:
    lab.hear(*gateway.births())
    lab.note(lab.host.disconnected(50))
    lab.host.connecting(60)
    lab.host.online()
    events = lab.hear(gateway.backlog(9), gateway.battery(0.1), gateway.record(1), now_ms=70)
    assert records(events) == [1]
    assert len(requests(events)) == 1
    node = lab.live.nodes()[NODE]
    assert (node.stale_since_ms, node.devices["strap"].stale_since_ms) == (50, 50)
    assert node.metrics == {"Health/backlog": 3}

    lab.hear(*gateway.births(80))
    node = lab.live.nodes()[NODE]
    assert (node.stale_since_ms, node.devices) == (None, {"strap": LiveDevice({"Health/battery": 0.1}, 80)})
    assert lab.host.disconnected(90) == [HostDisconnected(90)]


def test_stored_values_do_not_move_the_live_ones(lab: Lab, gateway: Gateway) -> None:
    lab.hear(*gateway.births())
    old = Metric("Health/backlog", datatype=DataType.INT64, value=77, is_historical=True)
    assert lab.hear(gateway.session.node_data([old], 1)) == []
    assert lab.live.nodes()[NODE].metrics == {"Health/backlog": 3}


def test_a_null_says_that_a_value_is_not_known(lab: Lab, gateway: Gateway) -> None:
    lab.hear(*gateway.births())
    nothing = Metric("Health/backlog", datatype=DataType.INT64, value=None)
    lab.hear(gateway.session.node_data([nothing], 1))
    assert lab.live.nodes()[NODE].metrics == {"Health/backlog": None}


# the order of messages


def test_records_are_taken_at_once_whatever_is_missing_before_them(lab: Lab, gateway: Gateway) -> None:
    lab.hear(*gateway.births())
    late, *early = [gateway.record(i) for i in range(1, 5)]
    assert records(lab.hear(*early)) == [2, 3, 4]
    assert records(lab.hear(late)) == [1]
    assert lab.host.tick(10 * REORDER_TIMEOUT_MS) == []


def test_everything_else_waits_for_its_turn(lab: Lab, gateway: Gateway) -> None:
    lab.hear(*gateway.births())
    first, second, third = gateway.backlog(1), gateway.battery(0.2), gateway.backlog(3)
    assert lab.hear(third, second) == []
    assert lab.hear(first) == [
        NodeMetrics(NODE, {"Health/backlog": 1}, 0),
        DeviceMetrics(NODE, "strap", {"Health/battery": 0.2}, 0),
        NodeMetrics(NODE, {"Health/backlog": 3}, 0),
    ]


def test_data_that_came_before_their_device_s_birth_wait_for_it(lab: Lab, gateway: Gateway) -> None:
    birth, device_birth = gateway.births()
    assert lab.hear(birth, gateway.record(1), gateway.record(2))[2:] == []
    events = lab.hear(device_birth)
    assert isinstance(events[0], DeviceBorn)
    assert records(events) == [1, 2]
    assert lab.host.tick(10 * REORDER_TIMEOUT_MS) == []


def test_a_message_missing_for_the_reorder_timeout_is_answered_by_one_request_and_life_goes_on(
    gateway: Gateway,
) -> None:
    lab = Lab(reorder_timeout_ms=300)
    lab.hear(*gateway.births())
    gateway.backlog(1)  # lost
    assert lab.hear(gateway.backlog(2), now_ms=1000) == []
    assert lab.host.tick(1299) == []
    given_up = lab.host.tick(1300)
    assert given_up[0] == NodeMetrics(NODE, {"Health/backlog": 2}, 0)
    (request,) = requests(given_up)
    assert gateway.session.receive(request.topic, request.payload) == [Rebirth()]
    assert lab.hear(gateway.backlog(3), now_ms=1301) == [NodeMetrics(NODE, {"Health/backlog": 3}, 0)]
    assert lab.host.tick(9999) == []


def test_without_a_timeout_a_missing_message_is_answered_at_once(gateway: Gateway) -> None:
    lab = Lab(reorder_timeout_ms=0)
    lab.hear(*gateway.births())
    gateway.backlog(1)  # lost
    assert len(requests(lab.hear(gateway.backlog(2)))) == 1


def test_so_many_early_messages_that_their_numbers_could_repeat_end_the_wait(
    lab: Lab, gateway: Gateway
) -> None:
    lab.hear(*gateway.births())
    gateway.backlog(1)  # lost
    events = lab.hear(*[gateway.record(i) for i in range(300)])
    assert records(events) == list(range(300))
    assert len(requests(events)) == 1


def test_a_clock_that_is_set_back_does_not_prolong_the_wait(lab: Lab, gateway: Gateway) -> None:
    lab.hear(*gateway.births())
    gateway.backlog(1)  # lost
    lab.hear(gateway.backlog(2), now_ms=10**9)
    assert len(requests(lab.host.tick(5))) == 1


def test_data_of_a_session_whose_nbirth_was_lost_make_the_host_ask_for_it(lab: Lab, gateway: Gateway) -> None:
    lab.hear(*gateway.births())
    gateway.session.connecting(1)
    gateway.births()  # lost
    assert [type(e) for e in lab.hear(gateway.record(1))] == [SendMessage]


@settings(max_examples=200)
@given(st.permutations(range(8)), st.data())
def test_in_whatever_order_messages_come_none_is_lost_and_live_values_are_the_latest(
    order: Sequence[int], data: st.DataObject
) -> None:
    lab, gateway = Lab(), Gateway()
    lab.hear(*gateway.births())
    kinds = data.draw(st.lists(st.booleans(), min_size=8, max_size=8))
    messages = [gateway.record(i) if kind else gateway.backlog(i) for i, kind in enumerate(kinds)]
    events = lab.hear(*(messages[i] for i in order))
    assert sorted(records(events)) == [i for i in range(8) if kinds[i]]
    told = [e.metrics["Health/backlog"] for e in events if isinstance(e, NodeMetrics)]
    assert told == [i for i in range(8) if not kinds[i]]
    assert requests(events + lab.host.tick(10**6)) == []


# commands


def test_a_request_for_births_is_an_ncmd_with_the_rebirth_metric_true(lab: Lab) -> None:
    (request,) = requests(lab.hear(Gateway().record(1), now_ms=1234))
    assert (request.topic, request.qos, request.retain) == ("spBv1.0/lab/NCMD/gw-1", 0, False)
    payload = parse(request.payload)
    (metric,) = payload.metrics
    assert (metric.name, metric.boolean_value, metric.HasField("alias")) == (
        "Node Control/Rebirth",
        True,
        False,
    )
    assert (payload.timestamp, payload.HasField("seq")) == (1234, False)


def test_a_watermark_is_an_ncmd_for_metrics_of_the_nbirth_without_their_types(
    lab: Lab, gateway: Gateway
) -> None:
    birth = parse(gateway.births()[0].payload)
    command = lab.host.watermark(NODE, 5, 7, now_ms=1234)
    assert (command.topic, command.qos, command.retain) == ("spBv1.0/lab/NCMD/gw-1", 0, False)
    payload = parse(command.payload)
    assert {m.name for m in payload.metrics} < {m.name for m in birth.metrics}
    assert not any(m.HasField("datatype") for m in payload.metrics)
    assert (payload.timestamp, payload.HasField("seq")) == (1234, False)
    assert gateway.session.receive(command.topic, command.payload) == [Watermark(5, 7)]


def test_a_node_is_asked_again_only_after_a_while_however_much_it_sends(lab: Lab) -> None:
    gateway = Gateway()
    times_ms = range(0, 3 * REBIRTH_INTERVAL_MS, 10)
    asked = [ms for ms in times_ms if requests(lab.hear(gateway.record(1), now_ms=ms))]
    assert asked == [0, REBIRTH_INTERVAL_MS, 2 * REBIRTH_INTERVAL_MS]


def test_a_flood_from_one_node_does_not_keep_another_from_being_asked(lab: Lab, gateway: Gateway) -> None:
    stranger = Message("spBv1.0/lab/DDATA/gw-2/strap", gateway.record(1).payload)
    events = lab.hear(*[stranger] * 100, gateway.record(1))
    assert [m.topic for m in requests(events)] == ["spBv1.0/lab/NCMD/gw-2", "spBv1.0/lab/NCMD/gw-1"]


def test_others_commands_are_left_alone(lab: Lab, gateway: Gateway) -> None:
    lab.hear(*gateway.births())
    for kind, device in ((MessageType.NCMD, None), (MessageType.DCMD, "strap")):
        assert lab.hear(Message(NODE.topic(kind, device), b"\xff")) == []


# several gateways


def test_one_device_name_at_two_gateways_means_two_devices(lab: Lab, gateway: Gateway) -> None:
    other = Gateway(incarnation=6, node=NodeId("lab", "gw-2"))
    lab.hear(*gateway.births(), *other.births(), gateway.session.device_death("strap", 0))
    assert [e.node.name for e in lab.hear(other.record(1)) if isinstance(e, RecordReceived)] == ["gw-2"]
    assert lab.live.nodes()[NodeId("lab", "gw-2")].devices["strap"].stale_since_ms is None


def test_two_gateways_with_one_id_are_noticed_and_no_record_is_counted_for_the_wrong_spool(lab: Lab) -> None:
    one, two = Gateway(incarnation=1), Gateway(incarnation=2)
    assert not any(isinstance(e, NodeIdShared) for e in lab.hear(*one.births(), *two.births()))
    events = lab.hear(one.record(1), two.record(1), one.record(2), two.record(2), now_ms=10)
    assert [(e.incarnation, e.received.spool_seq) for e in events if isinstance(e, RecordReceived)] == [
        (2, 1),
        (2, 2),
    ]
    assert len(requests(events)) == 1
    assert NodeIdShared(NODE, 1, 0) in lab.hear(*one.births())
    events = lab.hear(one.record(1), one.record(2), two.record(3), now_ms=20)
    assert [(e.incarnation, e.received.spool_seq) for e in events if isinstance(e, RecordReceived)] == [
        (1, 1),
        (1, 2),
    ]


def test_a_copied_spool_is_noticed_by_its_connections_that_go_back(lab: Lab) -> None:
    original, copy = Gateway(bd_seq=3), Gateway(bd_seq=9)
    lab.hear(*original.births(), *copy.births())
    assert NodeIdShared(NODE, 5, 4) in lab.hear(*original.births())


def test_a_gateway_that_connects_again_and_again_is_no_other(lab: Lab, gateway: Gateway) -> None:
    for _ in range(600):
        gateway.session.connecting(0)
        assert not any(isinstance(e, NodeIdShared) for e in lab.hear(*gateway.births()))


def test_a_gateway_with_a_new_spool_is_no_other(lab: Lab) -> None:
    for incarnation in range(1, 20):
        assert not any(isinstance(e, NodeIdShared) for e in lab.hear(*Gateway(incarnation).births()))


# what is not to be believed


def test_an_alias_that_no_birth_told_makes_the_host_ask_for_births(lab: Lab, gateway: Gateway) -> None:
    lab.hear(*gateway.births())
    block = SampleBlock("strap", ECG, 1, 0, 0, np.array([[7]], np.int32), 0, 0, 0)
    body = encode_record(block, spool_seq=1, stream_number=99)
    assert [type(e) for e in lab.hear(gateway.session.data("strap", body, 0))] == [SendMessage]
    assert records(lab.hear(gateway.record(2))) == [2]


@pytest.mark.parametrize("name", ["Health/backlog", "ecg/ecg"])
@pytest.mark.parametrize("with_datatypes", [True, False])
def test_a_metric_of_another_type_than_its_birth_declared_is_rejected_and_nothing_else(
    lab: Lab, gateway: Gateway, name: str, with_datatypes: bool
) -> None:
    lab.hear(*gateway.births())
    session = parse(gateway.births()[0].payload).uuid
    lab.hear(*gateway.births())
    if name == "ecg/ecg":
        alias = birth_metrics(ECG, stream_number=1, timestamp_ms=0)[-1].alias
        wrong, topic = Metric(alias=alias, datatype=DataType.DOUBLE, value=1.0), "spBv1.0/lab/DDATA/gw-1/strap"
    else:
        wrong, topic = Metric(name, datatype=DataType.DOUBLE, value=1.0), "spBv1.0/lab/NDATA/gw-1"
    payload = encode_payload([wrong], timestamp_ms=0, seq=2, uuid=session, with_datatypes=with_datatypes)
    assert [type(e) for e in lab.hear(Message(topic, payload))] == [PayloadRejected]
    assert lab.live.nodes()[NODE].metrics == {"Health/backlog": 3}
    gateway.record(0)  # its number is the wrong message's
    assert lab.hear(gateway.backlog(4)) == [NodeMetrics(NODE, {"Health/backlog": 4}, 0)]


@pytest.mark.parametrize("kind", ["NBIRTH", "NDEATH", "NDATA", "DBIRTH/strap", "DDATA/strap", "DDEATH/strap"])
@pytest.mark.parametrize("payload", [b"\xff", b"\x12\x03\x0a\x01\xff", b"not protobuf at all"])
def test_a_payload_that_is_not_protobuf_disturbs_nothing(
    lab: Lab, gateway: Gateway, kind: str, payload: bytes
) -> None:
    lab.hear(*gateway.births())
    verb, _, device = kind.partition("/")
    topic = NODE.topic(MessageType(verb), device or None)
    assert all(isinstance(e, PayloadRejected | SendMessage) for e in lab.hear(Message(topic, payload)))
    assert records(lab.hear(gateway.record(1))) == [1]
    assert lab.live.nodes()[NODE].stale_since_ms is None


def test_a_message_without_a_place_in_the_sequence_is_rejected(lab: Lab, gateway: Gateway) -> None:
    births = gateway.births()
    lab.hear(*births)
    session = parse(births[0].payload).uuid
    for seq in (None, 256):
        payload = encode_payload([], timestamp_ms=0, seq=seq, uuid=session)
        assert [type(e) for e in lab.hear(Message("spBv1.0/lab/NDATA/gw-1", payload))] == [PayloadRejected]


def test_a_forged_death_or_birth_of_a_device_without_the_session_s_mark_is_not_believed(
    lab: Lab, gateway: Gateway
) -> None:
    lab.hear(*gateway.births())
    forged = encode_payload([], timestamp_ms=0, seq=2)
    for kind in (MessageType.DDEATH, MessageType.DBIRTH):
        events = lab.hear(Message(NODE.topic(kind, "strap"), forged))
        assert not any(isinstance(e, DeviceDied | DeviceBorn) for e in events)
    assert records(lab.hear(gateway.record(1))) == [1]


def test_births_of_ever_more_nodes_are_refused_at_last(lab: Lab, gateway: Gateway) -> None:
    lab.hear(*gateway.births())
    birth = encode_payload([Metric("bdSeq", datatype=DataType.INT64, value=0)], timestamp_ms=0, seq=0)
    events = lab.hear(*[Message(f"spBv1.0/plant/NBIRTH/n{i}", birth) for i in range(MAX_NODES + 5)])
    assert sum(isinstance(e, PayloadRejected) for e in events) == 6
    assert records(lab.hear(gateway.record(1))) == [1]


def test_a_record_whose_array_claims_another_type_than_announced_is_rejected(
    lab: Lab, gateway: Gateway
) -> None:
    lab.hear(*gateway.births())
    message = gateway.record(1)
    payload = parse(message.payload)
    payload.metrics[-1].datatype = DataType.FLOAT_ARRAY
    wrong = Message(message.topic, payload.SerializeToString())
    assert [type(e) for e in lab.hear(wrong)] == [PayloadRejected]
    right = parse(gateway.record(2).payload)
    right.metrics[-1].datatype = DataType.INT32_ARRAY
    assert records(lab.hear(Message(message.topic, right.SerializeToString()))) == [2]
