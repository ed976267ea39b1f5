"""Over a real broker: every spooled block reaches the recorder, whatever dies in between."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.config import Broker
from gateway.edge_node import EdgeNode
from gateway.spool import Spool
from protocols.errors import DefinitionError
from protocols.gaps import Gap, GapReason
from protocols.lab_clock import LabClock
from protocols.samples import Channel, SampleBlock, Stream
from protocols.sparkplug.edge_node import REBIRTH
from protocols.sparkplug.payload import DataType, Metric, encode_payload
from protocols.sparkplug.topics import MessageType, NodeId
from tests.gateway.conftest import put_record

pytestmark = pytest.mark.mosquitto

ECG = Stream("ecg", (Channel("ecg", "uV"),), "int16", 250.0)
FAST_ECG = Stream("ecg", (Channel("ecg", "uV"),), "int16", 500.0)
NODE = NodeId("lab", "gateway-1")
REBIRTH_COMMAND = encode_payload(
    [Metric(REBIRTH, datatype=DataType.BOOLEAN, value=True, timestamp_ms=1)], timestamp_ms=1
)


def block(k: int, stream: Stream = ECG, device: str = "dut") -> SampleBlock:
    values = (np.arange(64, dtype=np.int16) + k).reshape(1, 64)
    start_ns = 1_767_225_600_000_000_000 + k * 256_000_000
    return SampleBlock(device, stream, 1, 64 * k, start_ns, values, start_ns, 5, 1000)


class Bench:
    """An edge node on its spool."""

    def __init__(self, folder: Path, port: int, **options: Any) -> None:
        self.folder = folder
        self.port = port
        self.other_ports: list[int] = []
        self.spool_options: dict[str, Any] = {}
        self.options = {"stall_s": 0.4, **options}
        self.put = 0

    @asynccontextmanager
    async def running(self) -> Any:
        loop = asyncio.get_running_loop()
        self.spool = Spool(
            self.folder / "spool.sqlite",
            commit_s=0.02,
            **self.spool_options,
            on_commit=lambda: loop.call_soon_threadsafe(lambda: self.edge_node.committed()),
        )
        self.edge_node = EdgeNode(
            NODE,
            host="lab",
            brokers=[Broker("127.0.0.1", port) for port in (self.port, *self.other_ports)],
            spool=self.spool,
            clock=LabClock(time.time_ns, time.monotonic_ns),
            **self.options,
        )
        self.task = asyncio.create_task(self.edge_node.run())
        try:
            yield self.edge_node
        finally:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            self.spool.close()

    def spool_blocks(self, n: int, stream: Stream = ECG, device: str = "dut") -> None:
        for _ in range(n):
            put_record(self.spool, block(self.put, stream, device))
            self.put += 1


@pytest.fixture
def mosquitto_2(mosquitto: Any, tmp_path: Path) -> Iterator[Any]:
    """Another broker of the same kind."""
    folder = tmp_path / "second broker"
    folder.mkdir()
    second = type(mosquitto)(mosquitto.binary, folder)
    second.start()
    yield second
    second.kill()


def test_blocks_arrive_in_order_bit_for_bit_and_leave_the_spool(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, mosquitto.port)
    recorder = recorders(mosquitto.port)

    async def run() -> None:
        async with bench.running() as edge_node:
            edge_node.device_online("dut", (ECG,), {"battery_percent": "80"})
            bench.spool_blocks(300)
            await asyncio.wait_for(edge_node.drained(), 15)
            assert bench.spool.backlog().blocks == 0
            assert edge_node.health().resent_blocks == 0
            assert (edge_node.health().connected, edge_node.health().host_online) == (True, True)
            assert recorder.devices["dut"].properties == {"battery_percent": "80"}
            assert recorder.devices["dut"].streams == (ECG,)

    asyncio.run(run())
    assert recorder.received == list(range(1, 301))
    assert [recorder.blocks[k + 1] for k in range(300)] == [block(k) for k in range(300)]


def test_a_planned_end_says_goodbye(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port)
    recorder = recorders(mosquitto.port)

    async def run() -> None:
        async with bench.running():
            await until(lambda: recorder.births)
        await until(lambda: "NodeDied" in recorder.log)

    asyncio.run(run())


def test_an_error_on_the_way_out_does_not_take_the_place_of_the_cancellation(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port)
    recorder = recorders(mosquitto.port)

    async def run() -> None:
        async with bench.running() as edge_node:
            await until(lambda: recorder.births)

            def fail(_now_ms: int) -> None:
                raise DefinitionError("a death that cannot be said")

            edge_node._session.death = fail
            bench.task.cancel()
            done, _ = await asyncio.wait({bench.task}, timeout=10)
            del edge_node._session.death
            assert done
            assert bench.task.cancelled()

    asyncio.run(run())


def test_without_a_recorder_nothing_is_published_and_everything_kept(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port)

    async def run() -> None:
        async with bench.running() as edge_node:
            await until(lambda: edge_node.health().connected)
            bench.spool_blocks(50)
            await asyncio.sleep(0.5)
            assert edge_node.health().sent_blocks == 0
            assert bench.spool.backlog().blocks == 50
            recorder = recorders(mosquitto.port)
            await asyncio.wait_for(edge_node.drained(), 15)
            assert sorted(recorder.blocks) == list(range(1, 51))
            assert all(recorder.historical)
            bench.spool_blocks(1)
            await asyncio.wait_for(edge_node.drained(), 15)
            assert not recorder.historical[-1]

    asyncio.run(run())


def test_a_broker_that_is_not_there_is_named_once_and_found_when_it_comes(
    mosquitto: Any,
    recorders: Callable[..., Any],
    tmp_path: Path,
    until: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    mosquitto.kill()
    bench = Bench(tmp_path, mosquitto.port)

    async def run() -> None:
        async with bench.running() as edge_node:
            edge_node.device_online("dut", (ECG,), {})
            bench.spool_blocks(20)
            await until(lambda: edge_node.health().last_error)
            await asyncio.sleep(1.2)  # for several attempts
            assert not edge_node.health().connected
            assert f"127.0.0.1:{mosquitto.port} cannot be reached" in edge_node.health().last_error
            mosquitto.start()
            recorder = recorders(mosquitto.port)
            await asyncio.wait_for(edge_node.drained(), 15)
            assert sorted(recorder.blocks) == list(range(1, 21))

    asyncio.run(run())
    assert len([r for r in caplog.records if "cannot be reached" in r.message]) == 1


def test_a_broker_killed_again_and_again_costs_no_block(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port)
    recorder = recorders(mosquitto.port)

    async def run() -> None:
        async with bench.running() as edge_node:
            edge_node.device_online("dut", (ECG,), {})
            for _ in range(3):
                for _ in range(10):
                    bench.spool_blocks(20)
                    await asyncio.sleep(0.02)
                mosquitto.kill()
                bench.spool_blocks(100)
                mosquitto.start()
                await until(lambda: edge_node.health().host_online)
            await asyncio.wait_for(edge_node.drained(), 20)

    asyncio.run(run())
    assert sorted(recorder.blocks) == list(range(1, 901))
    assert all(recorder.blocks[k + 1] == block(k) for k in range(900))
    numbers = [birth.incarnation for birth in recorder.births]
    assert len(set(numbers)) == 1


def test_blocks_that_got_lost_are_sent_again_as_historical(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port)
    recorder = recorders(mosquitto.port)

    async def run() -> None:
        async with bench.running() as edge_node:
            edge_node.device_online("dut", (ECG,), {})
            await until(lambda: recorder.births)
            recorder.mute = True
            bench.spool_blocks(30)
            await until(lambda: recorder.unheard >= 30)
            recorder.mute = False
            await asyncio.wait_for(edge_node.drained(), 15)
            assert edge_node.health().resent_blocks >= 30

    asyncio.run(run())
    assert sorted(recorder.blocks) == list(range(1, 31))
    assert all(recorder.historical)


def test_no_more_than_the_window_is_ahead_of_the_watermark(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port, window_blocks=25, stall_s=60)
    recorder = recorders(mosquitto.port)
    recorder.acknowledging = False

    async def run() -> None:
        async with bench.running() as edge_node:
            bench.spool_blocks(100)
            await until(lambda: len(recorder.received) == 25)
            await asyncio.sleep(0.3)
            assert len(recorder.received) == 25
            recorder.acknowledge(10)
            await until(lambda: len(recorder.received) == 35)
            await asyncio.sleep(0.2)
            assert len(recorder.received) == 35
            recorder.acknowledging = True
            recorder.acknowledge(35)
            await asyncio.wait_for(edge_node.drained(), 15)

    asyncio.run(run())
    assert recorder.received == list(range(1, 101))


def test_a_recorder_that_asks_for_a_rebirth_gets_births_and_all_that_is_not_durable(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port, stall_s=60)
    recorder = recorders(mosquitto.port)
    recorder.acknowledging = False

    async def run() -> None:
        async with bench.running():
            bench.spool_blocks(10)
            await until(lambda: len(recorder.received) == 10)
            recorder.acknowledge(4)
            await until(lambda: bench.spool.acknowledged == 4)
            recorder.publish_raw(NODE.topic(MessageType.NCMD), REBIRTH_COMMAND)
            await until(lambda: len(recorder.received) == 16)
            assert recorder.births[-1].oldest_seq == 5
            assert recorder.received[10:] == [5, 6, 7, 8, 9, 10]

    asyncio.run(run())


def test_a_rebirth_asked_for_while_the_primary_host_is_offline_is_not_answered(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port)
    stranger = recorders(mosquitto.port, host="another")

    async def run() -> None:
        async with bench.running() as edge_node:
            bench.spool_blocks(5)
            await until(lambda: edge_node.health().connected)
            await asyncio.sleep(0.2)
            stranger.publish_raw(NODE.topic(MessageType.NCMD), REBIRTH_COMMAND)
            await asyncio.sleep(0.3)
            assert edge_node.health().sent_blocks == 0
            assert stranger.births == []

    asyncio.run(run())


def test_false_watermarks_and_rubbish_change_nothing(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port)
    recorder = recorders(mosquitto.port)
    recorder.acknowledging = False

    async def run() -> None:
        async with bench.running() as edge_node:
            bench.spool_blocks(10)
            await until(lambda: len(set(recorder.received)) == 10)
            recorder.acknowledge(5, incarnation=12345)
            recorder.acknowledge(999_999)
            recorder.publish_raw(NODE.topic(MessageType.NCMD), b"\xff not protobuf")
            recorder.publish_raw("spBv1.0/STATE/lab", b"not json")
            await asyncio.sleep(0.3)
            assert bench.spool.acknowledged == 0
            recorder.acknowledging = True
            recorder.acknowledge(10)
            await asyncio.wait_for(edge_node.drained(), 15)

    asyncio.run(run())


def test_a_watermark_beyond_what_was_sent_trims_nothing(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port, window_blocks=5)
    recorder = recorders(mosquitto.port)
    recorder.acknowledging = False

    async def run() -> None:
        async with bench.running() as edge_node:
            bench.spool_blocks(50)
            await until(lambda: len(set(recorder.received)) == 5)
            recorder.acknowledge(40)
            await asyncio.sleep(0.3)
            assert bench.spool.acknowledged == 0
            recorder.acknowledging = True
            await asyncio.wait_for(edge_node.drained(), 15)

    asyncio.run(run())
    assert sorted(recorder.blocks) == list(range(1, 51))


def test_a_forged_statement_that_the_recorder_is_offline_is_overcome(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port)
    forger = recorders(mosquitto.port, host="another")

    async def run() -> None:
        async with bench.running() as edge_node:
            await until(lambda: edge_node.health().connected)
            await asyncio.sleep(0.3)
            forger.publish_raw("spBv1.0/STATE/lab", b'{"online": false, "timestamp": 99999999999999}')
            await asyncio.sleep(0.3)
            recorders(mosquitto.port)
            bench.spool_blocks(5)
            await asyncio.wait_for(edge_node.drained(), 15)

    asyncio.run(run())


def test_a_recorder_that_goes_offline_stops_publishing_until_it_is_back(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port)
    recorder = recorders(mosquitto.port)

    async def run() -> None:
        async with bench.running() as edge_node:
            bench.spool_blocks(5)
            await asyncio.wait_for(edge_node.drained(), 15)
            recorder.mute = True  # a real host that says offline is no longer there to object
            recorder.go_offline()
            await until(lambda: not edge_node.health().host_online)
            sent = edge_node.health().sent_blocks
            bench.spool_blocks(5)
            await asyncio.sleep(0.5)
            assert edge_node.health().sent_blocks == sent
            recorder.mute = False
            recorder.come_back()
            await asyncio.wait_for(edge_node.drained(), 15)

    asyncio.run(run())
    assert sorted(recorder.blocks) == list(range(1, 11))
    assert len(recorder.births) == 2


def test_a_device_that_leaves_is_buried_only_after_its_last_block(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port, stall_s=60)
    recorder = recorders(mosquitto.port)
    recorder.acknowledging = False

    async def run() -> None:
        async with bench.running() as edge_node:
            edge_node.device_online("dut", (ECG,), {})
            bench.spool_blocks(10)
            edge_node.device_offline("dut")
            await until(lambda: len(recorder.received) == 10)
            await asyncio.sleep(0.3)
            assert "DeviceDied" not in recorder.log
            recorder.acknowledge(10)
            await until(lambda: "DeviceDied" in recorder.log)
            edge_node.device_online("dut", (ECG,), {})
            await until(lambda: "dut" in recorder.devices)

    asyncio.run(run())


def test_what_an_earlier_run_left_is_delivered_under_its_own_description(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, mosquitto.port)

    async def earlier() -> None:
        async with bench.running():
            bench.spool_blocks(5, ECG)
            bench.spool_blocks(5, ECG, device="removed")

    async def later() -> None:
        async with bench.running() as edge_node:
            edge_node.device_online("dut", (FAST_ECG,), {})
            bench.spool_blocks(5, FAST_ECG)
            await asyncio.wait_for(edge_node.drained(), 15)

    asyncio.run(earlier())
    recorder = recorders(mosquitto.port)
    asyncio.run(later())
    streams = [(recorder.blocks[seq].device, recorder.blocks[seq].stream) for seq in range(1, 16)]
    assert streams == [("dut", ECG)] * 5 + [("removed", ECG)] * 5 + [("dut", FAST_ECG)] * 5


def test_live_blocks_are_not_held_up_by_a_backlog_that_cannot_drain(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port, window_blocks=10, stall_s=60)

    async def run() -> None:
        async with bench.running() as edge_node:
            edge_node.device_online("dut", (ECG,), {})
            bench.spool_blocks(100)
            await until(lambda: bench.spool.committed == 100)
            recorder = recorders(mosquitto.port)
            recorder.acknowledging = False
            await until(lambda: len(recorder.received) == 10)
            bench.spool_blocks(20)
            await until(lambda: set(range(101, 121)) <= set(recorder.received))
            live = [h for seq, h in zip(recorder.received, recorder.historical, strict=True) if seq > 100]
            assert not any(live)
            recorder.acknowledging = True
            recorder.acknowledge(10)
            await asyncio.wait_for(edge_node.drained(), 15)
            assert edge_node.health().resent_blocks == 0
            assert sorted(recorder.received) == list(range(1, 121))

    asyncio.run(run())


def test_one_server_at_a_time_and_the_next_one_when_the_recorder_is_not_there(
    mosquitto: Any,
    mosquitto_2: Any,
    recorders: Callable[..., Any],
    tmp_path: Path,
    until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.edge_node.HOST_SILENT_S", 0.3)
    bench = Bench(tmp_path, mosquitto.port)
    bench.other_ports = [mosquitto_2.port]
    second = recorders(mosquitto_2.port)

    async def run() -> None:
        async with bench.running() as edge_node:
            bench.spool_blocks(20)
            await asyncio.wait_for(edge_node.drained(), 15)
            assert edge_node.health().broker.endswith(str(mosquitto_2.port))
            first = recorders(mosquitto.port)
            await asyncio.sleep(0.3)
            assert first.births == []
            second.mute = True
            second.go_offline()
            bench.spool_blocks(20)
            await asyncio.wait_for(edge_node.drained(), 15)
            assert edge_node.health().broker.endswith(str(mosquitto.port))
            assert set(range(21, 41)) <= set(first.blocks)
            numbers = [birth.oldest_seq for birth in first.births]
            assert numbers == [21]
            mosquitto.kill()
            second.mute = False
            second.come_back()
            bench.spool_blocks(20)
            await asyncio.wait_for(edge_node.drained(), 15)

    asyncio.run(run())


def test_health_figures_are_in_the_births_and_travel_when_they_change(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port)
    recorder = recorders(mosquitto.port)
    told: list[tuple[str, dict[str, Any]]] = []
    receive = recorder.application.receive

    def listen(topic: str, payload: bytes, now_ms: int) -> Any:
        events = receive(topic, payload, now_ms)
        told.extend((type(e).__name__, dict(e.metrics)) for e in events if type(e).__name__.endswith("Metrics"))
        return events

    recorder.application.receive = listen

    def backlog(value: int) -> list[Metric]:
        return [
            Metric("Health/backlog", datatype=DataType.INT64, value=value),
            Metric("Health/fault", datatype=DataType.STRING, value=""),
        ]

    def battery(value: float) -> dict[str, list[Metric]]:
        return {"dut": [Metric("Health/battery", datatype=DataType.DOUBLE, value=value)], "away": backlog(1)}

    async def run() -> None:
        async with bench.running() as edge_node:
            edge_node.report(backlog(1), battery(80.0))
            edge_node.device_online("dut", (ECG,), {})
            await until(lambda: len(told) == 2)
            assert told[0] == ("NodeMetrics", {"Health/backlog": 1, "Health/fault": ""})
            assert told[1] == ("DeviceMetrics", {"Health/battery": 80.0})
            edge_node.report(backlog(1), battery(80.0))
            edge_node.report(backlog(2), battery(79.5))
            await until(lambda: len(told) == 4)
            assert told[2] == ("NodeMetrics", {"Health/backlog": 2})
            assert told[3] == ("DeviceMetrics", {"Health/battery": 79.5})
            edge_node.report([*backlog(2), Metric("Health/new", datatype=DataType.INT64, value=7)])
            await until(lambda: len(recorder.births) == 2)
            await until(lambda: len(told) == 6)
            assert told[4][1] == {"Health/backlog": 2, "Health/fault": "", "Health/new": 7}
            assert told[5] == ("DeviceMetrics", {"Health/battery": 79.5})
            bench.spool_blocks(3)
            await asyncio.wait_for(edge_node.drained(), 15)

    asyncio.run(run())


def test_damaged_and_huge_commands_are_counted_and_logged_once_in_a_while(
    mosquitto: Any,
    recorders: Callable[..., Any],
    tmp_path: Path,
    until: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(tmp_path, mosquitto.port)
    recorder = recorders(mosquitto.port)

    async def run() -> None:
        async with bench.running() as edge_node:
            await until(lambda: recorder.births)
            for _ in range(20):
                recorder.publish_raw(NODE.topic(MessageType.NCMD), b"\xff not protobuf")
                recorder.acknowledge(5, incarnation=12345)
            recorder.publish_raw(NODE.topic(MessageType.NCMD), bytes(1 << 20))
            recorder.acknowledge((1 << 63) - 1)
            await until(lambda: edge_node.health().rejected_commands == 21)
            await until(lambda: edge_node.health().ignored_watermarks == 21)
            bench.spool_blocks(5)
            await asyncio.wait_for(edge_node.drained(), 15)

    asyncio.run(run())
    assert len([r for r in caplog.records if r.name == "gateway.edge_node" and "ignored" in r.message]) == 2


def test_births_asked_for_again_and_again_are_given_once_in_a_while(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port)
    recorder = recorders(mosquitto.port)

    async def run() -> None:
        async with bench.running() as edge_node:
            await until(lambda: recorder.births)
            started = time.monotonic()
            for _ in range(200):
                recorder.publish_raw(NODE.topic(MessageType.NCMD), REBIRTH_COMMAND)
                await asyncio.sleep(0.005)
            await until(lambda: len(recorder.births) >= 2)
            assert len(recorder.births) <= 2 + (time.monotonic() - started)
            bench.spool_blocks(5)
            await asyncio.wait_for(edge_node.drained(), 15)

    asyncio.run(run())


def test_a_spool_that_has_to_be_replaced_goes_on_as_another_one(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port, window_blocks=10, stall_s=60)
    recorder = recorders(mosquitto.port)
    recorder.acknowledging = False

    async def run() -> None:
        async with bench.running() as edge_node:
            edge_node.device_online("dut", (ECG,), {})
            bench.spool_blocks(60)
            await until(lambda: len(recorder.received) == 10)
            before = bench.spool.incarnation
            bench.spool._suspect("a test says so")
            await until(lambda: bench.spool.incarnation != before)
            recorder.blocks.clear()
            recorder.births.clear()
            recorder._contiguous = 0
            recorder.acknowledging = True
            await until(lambda: recorder.births)
            assert recorder.births[0].incarnation == bench.spool.incarnation
            bench.spool_blocks(10)
            await asyncio.wait_for(edge_node.drained(), 15)

    asyncio.run(run())
    assert [recorder.blocks[k + 1] for k in range(70)] == [block(k) for k in range(70)]


def test_blocks_that_became_too_old_are_not_waited_for(
    mosquitto: Any, recorders: Callable[..., Any], tmp_path: Path, until: Callable[..., Any]
) -> None:
    bench = Bench(tmp_path, mosquitto.port)
    bench.spool_options = {"max_age_s": 0.5}

    async def run() -> None:
        async with bench.running() as edge_node:
            edge_node.device_online("dut", (ECG,), {})
            recorder = recorders(mosquitto.port)
            await until(lambda: recorder.births)
            recorder.acknowledging = False
            bench.spool_blocks(30)
            await until(lambda: bench.spool.expired_blocks >= 30)
            recorder.blocks.clear()  # they could not be stored
            recorder.acknowledging = True
            await until(lambda: len(recorder.births) > 1)
            bench.spool_blocks(5)
            await until(lambda: bench.spool.acknowledged >= 35)
            gaps = [r for r in recorder.blocks.values() if isinstance(r, Gap)]
            assert sum(gap.n_samples or 0 for gap in gaps) >= 30 * 64
            assert {gap.reason for gap in gaps} == {GapReason.SPOOL_FULL}

    asyncio.run(run())


def test_every_login_that_the_broker_refuses_is_counted(tmp_path: Path, strict_broker: int) -> None:
    async def run() -> None:
        async with Bench(tmp_path, strict_broker).running() as edge_node:
            while edge_node.health().refused_logins < 2:
                await asyncio.sleep(0.05)
            assert "Not authorized" in edge_node.health().last_error

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.fixture
def strict_broker() -> Iterator[int]:
    """A server that answers every CONNECT with `not authorized`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as link:
                        link.recv(4096)
                        link.sendall(b"\x20\x02\x00\x05")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
