"""A whole gateway in one process: ports to recorder, one device's trouble never another's."""

from __future__ import annotations

import asyncio
import os
import pty
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.config import Broker, DeviceConfig, GatewayConfig
from gateway.gaps import position_after
from gateway.supervisor import SPOOL_FILE, Gateway, run_gateway
from protocols.devices.fablab import encode_frame, fablab
from protocols.devices.registry import device_kind
from protocols.errors import DefinitionError, StoreError
from protocols.frames import FrameBlock
from protocols.gaps import Gap, GapReason
from protocols.lab_clock import LabClock
from protocols.records import CLOCK, GATEWAY_DEVICE
from protocols.samples import Channel, SampleBlock

FABLAB = fablab(channels=(Channel("mlii", "mV"), Channel("v5", "mV")), rate_hz=360)


class Prototype:
    """A device on a PTY that sends Fab Lab frames."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        tty.setraw(self.master)
        tty.setraw(self.slave)
        self.path = os.ttyname(self.slave)
        self.sent = 0
        self.written = bytearray()

    def send(self, n_frames: int = 1, *, corrupt: bool = False) -> None:
        for _ in range(n_frames):
            samples = np.arange(self.sent, self.sent + 18)
            values = np.stack([samples % 2000, -(samples % 2000)]).astype(np.int16)
            data = bytearray(
                encode_frame(values, boot=3, counter=self.sent, device_us=round(self.sent / 360 * 1e6) % 2**32)
            )
            if corrupt:
                data[5] ^= 0x55
            self.sent += 18
            self.written += data
            os.write(self.master, data)

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def prototype() -> Iterator[Prototype]:
    made = Prototype()
    yield made
    made.close()


@pytest.fixture
def config(tmp_path: Path) -> GatewayConfig:
    return GatewayConfig(
        group="lab",
        name="gateway-1",
        broker=Broker("127.0.0.1", 1),
        data=tmp_path / "data",
        devices=(),
        block_s=0.1,
        drain_s=5,
    )


@pytest.mark.mosquitto
def test_samples_flow_from_a_port_to_the_recorder_bit_for_bit(
    config: GatewayConfig,
    mosquitto: Any,
    recorders: Callable[..., Any],
    prototype: Prototype,
    until: Callable[..., Any],
) -> None:
    recorder = recorders(mosquitto.port)
    device = DeviceConfig("prototype", FABLAB, port=prototype.path)
    config = replace(config, broker=Broker("127.0.0.1", mosquitto.port), devices=(device,))

    async def run() -> None:
        async with Gateway(config) as gateway:
            await asyncio.wait_for(gateway.online("prototype"), 15)
            prototype.send()
            await asyncio.wait_for(gateway.streaming(), 15)
            for _ in range(20):
                await asyncio.sleep(18 / 360)
                prototype.send()
            await until(lambda: gateway.health().device("prototype").samples == 21 * 18)
            await asyncio.wait_for(gateway.drained(), 10)
            health = gateway.health()
            assert (health.backlog_blocks, health.broker_connected, health.host_online) == (0, True, True)
        assert gateway.health().device("prototype").state == "stopped"
        await until(lambda: recorder.devices == {})

    asyncio.run(run())
    blocks = recorded(recorder, SampleBlock)
    values = np.concatenate([b.values for b in blocks], axis=1)
    expected = np.arange(21 * 18) % 2000
    assert np.array_equal(values, np.stack([expected, -expected]))
    assert [b.first_index for b in blocks] == list(np.cumsum([0, *(b.n_samples for b in blocks[:-1])]))
    frames = recorded(recorder, FrameBlock)
    assert b"".join(data for f in frames for data in f.data) == bytes(prototype.written)
    assert len({f.connection_id for f in frames}) == 1
    gaps = recorded(recorder, Gap)
    assert len({(gap.after_boot_id, gap.after_index) for gap in gaps}) == 1
    assert gaps[-1].after_index == -1


def recorded(recorder: Any, kind: type[Any], device: str = "prototype") -> list[Any]:
    records = [recorder.blocks[seq] for seq in sorted(recorder.blocks)]
    return [r for r in records if isinstance(r, kind) and r.device == device]


@pytest.mark.mosquitto
def test_a_gateway_that_was_away_declares_what_it_missed_and_tells_of_its_own_clock(
    config: GatewayConfig,
    mosquitto: Any,
    recorders: Callable[..., Any],
    prototype: Prototype,
    until: Callable[..., Any],
) -> None:
    recorder = recorders(mosquitto.port)
    device = DeviceConfig("prototype", FABLAB, port=prototype.path)
    config = replace(config, broker=Broker("127.0.0.1", mosquitto.port), devices=(device,))

    async def run() -> None:
        async with Gateway(config) as gateway:
            await until(lambda: gateway.health().host_online)
            await gateway.online()
            for _ in range(10):
                prototype.send()
                await asyncio.sleep(18 / 360)
            await until(lambda: gateway.health().device("prototype").samples == 180)

    asyncio.run(run())
    first = recorded(recorder, SampleBlock)
    prototype.sent += 3 * 18  # which nobody heard
    asyncio.run(run())
    before, after = first[-1], recorded(recorder, SampleBlock)[len(first)]
    assert after.boot_id == before.boot_id, "the counter tells that the device ran on"
    position = position_after(before)
    assert position is not None
    due_ns = min(position.due_ns, after.start_ns)  # the prototype's bursts are ahead of time
    gap = recorded(recorder, Gap)[-1]
    assert (gap.reason, gap.n_samples) == (GapReason.GATEWAY_STOPPED, 3 * 18)
    assert gap.after_boot_id == before.boot_id
    assert gap.after_index == before.first_index + before.n_samples - 1
    assert (gap.start_ns, gap.end_ns) == (due_ns, after.start_ns)
    assert recorded(recorder, SampleBlock, GATEWAY_DEVICE)[0].stream == CLOCK


def test_no_device_may_have_the_gateways_own_name(config: GatewayConfig, prototype: Prototype) -> None:
    with pytest.raises(DefinitionError, match="another name"):
        Gateway(replace(config, devices=(DeviceConfig("gateway", FABLAB, port=prototype.path),)))


@pytest.mark.mosquitto
def test_a_stop_waits_until_the_recorder_has_the_last_sample(
    config: GatewayConfig,
    mosquitto: Any,
    recorders: Callable[..., Any],
    prototype: Prototype,
    until: Callable[..., Any],
) -> None:
    recorder = recorders(mosquitto.port)
    device = DeviceConfig("prototype", FABLAB, port=prototype.path)
    config = replace(config, broker=Broker("127.0.0.1", mosquitto.port), devices=(device,), block_s=30)

    async def run() -> None:
        async with Gateway(config) as gateway:
            await until(lambda: gateway.health().host_online)
            await gateway.online()
            prototype.send(40)
            await until(lambda: gateway.health().device("prototype").samples == 720)
            assert gateway.health().device("prototype").blocks == 0
        assert gateway.health().backlog_blocks == 0

    asyncio.run(run())
    assert sum(b.n_samples for b in recorded(recorder, SampleBlock)) == 720


def test_one_device_in_trouble_touches_no_other(
    config: GatewayConfig, prototype: Prototype, until: Callable[..., Any]
) -> None:
    devices = (
        DeviceConfig("missing", device_kind("nonin-7"), port="/dev/no-such-port"),
        DeviceConfig("no-radio", device_kind("pulse-oximeter"), address="X", adapter="tcp-client:127.0.0.1:1"),
        DeviceConfig("good", FABLAB, port=prototype.path),
    )

    async def run() -> None:
        async with Gateway(replace(config, devices=devices)) as gateway:
            await asyncio.wait_for(gateway.online("good"), 15)
            for k in range(20):
                prototype.send(1, corrupt=k % 5 == 4)
                await asyncio.sleep(0.01)
            await until(lambda: gateway.health().device("good").samples == 16 * 18)
            await until(lambda: gateway.health().device("no-radio").last_error)
            health = gateway.health()
            assert health.device("good").decode_errors >= 4
            await until(lambda: gateway.health().device("good").lost_samples == 3 * 18)
            assert "/dev/no-such-port" in health.device("missing").last_error
            assert not health.broker_connected
            await until(lambda: gateway.health().backlog_blocks > 0)
            assert health.device("missing").state in ("connecting", "waiting")

    asyncio.run(run())


def test_what_was_spooled_is_there_at_the_next_start_and_boots_grow_even_if_the_clock_was_set_back(
    config: GatewayConfig, prototype: Prototype, until: Callable[..., Any]
) -> None:
    config = replace(config, devices=(DeviceConfig("prototype", FABLAB, port=prototype.path),))

    async def run(set_back_s: int) -> tuple[int, int]:
        clock = LabClock(lambda: time.time_ns() - set_back_s * 10**9, time.monotonic_ns)
        async with Gateway(config, clock=clock) as gateway:
            await gateway.online()
            prototype.send(10)
            await until(lambda: gateway.health().device("prototype").samples == 180)
            boot_id = gateway._boot_ids.last
        return gateway.health().backlog_blocks, boot_id

    first_backlog, first_boot = asyncio.run(run(0))
    second_backlog, second_boot = asyncio.run(run(86_400))
    assert second_backlog > first_backlog > 0
    assert second_boot > first_boot


def test_a_spool_in_use_is_an_error_at_the_start(config: GatewayConfig) -> None:
    async def run() -> None:
        async with Gateway(config):
            with pytest.raises(StoreError, match=SPOOL_FILE):
                await run_gateway(config, stop=asyncio.Event())

    asyncio.run(run())


def test_run_gateway_reports_ready_stops_and_returns_how_it_ended(config: GatewayConfig) -> None:
    async def run() -> None:
        stop = asyncio.Event()
        seen = []
        task = asyncio.create_task(run_gateway(config, ready=seen.append, stop=stop))
        while not (seen and seen[0].health().last_error):
            await asyncio.sleep(0.01)
        assert len(seen) == 1
        assert not task.done()
        stop.set()
        health = await asyncio.wait_for(task, 15)
        assert health.devices == ()
        assert "cannot be reached" in health.last_error

    asyncio.run(run())


def test_an_unknown_device_is_named(config: GatewayConfig) -> None:
    async def run() -> None:
        async with Gateway(config) as gateway:
            with pytest.raises(KeyError, match="nobody"):
                gateway.health().device("nobody")
            with pytest.raises(KeyError, match="nobody"):
                await gateway.streaming("nobody")

    asyncio.run(run())
