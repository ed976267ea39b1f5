"""A device that comes back streams again; how soon, `benchmarks/reconnect.py` measures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from firmware_sim.catalogue import Setup, simulated_device
from firmware_sim.links.pty import serve_pty
from firmware_sim.links.virtual_ble import serve_ble
from firmware_sim.signals.subject import Subject
from gateway.config import Broker, DeviceConfig, GatewayConfig
from gateway.device_session import DeviceState
from gateway.supervisor import Gateway
from protocols.lab_clock import LabClock

CLOCK = LabClock(time.time_ns, time.monotonic_ns)
NO_BROKER = Broker("127.0.0.1", 9)


@asynccontextmanager
async def listening(folder: Path, device: DeviceConfig) -> AsyncIterator[Gateway]:
    config = GatewayConfig("lab", "bench", NO_BROKER, folder, (device,), drain_s=0)
    async with asyncio.timeout(90), Gateway(config) as gateway:
        await gateway.streaming(device.name)
        yield gateway


async def comes_back(gateway: Gateway, name: str, bring_back: Callable[[], Awaitable[None]]) -> None:
    """Wait until the device is lost, bring it back, and wait until it has brought new samples."""
    while gateway.health().device(name).state is DeviceState.STREAMING:
        await asyncio.sleep(0.005)
    before = gateway.health().device(name)
    await bring_back()
    await gateway.streaming(name)
    after = gateway.health().device(name)
    assert after.connections == before.connections + 1
    assert after.samples > before.samples


async def at_once() -> None:
    """What comes back by itself needs nothing."""


def test_a_ble_device_streams_again_after_link_losses_and_after_being_switched_off(tmp_path: Path) -> None:
    async def run() -> None:
        strap = simulated_device("heart-rate-strap", Setup(Subject(1), name="strap"))
        async with serve_ble([strap], CLOCK, connection_interval_s=0.03) as air:
            config = DeviceConfig("strap", strap.kind, address="strap", adapter=air.adapter)
            async with listening(tmp_path, config) as gateway:
                for _ in range(2):
                    air.link_loss(strap)
                    await comes_back(gateway, "strap", at_once)
                await air.switch_off(strap)
                await comes_back(gateway, "strap", lambda: air.switch_on(strap))

    asyncio.run(run())


def test_a_serial_device_streams_again_when_its_adapter_comes_back_as_another_port(tmp_path: Path) -> None:
    async def run() -> None:
        oximeter = simulated_device("nonin-7", Setup(Subject(1)))
        by_id = tmp_path / "usb-Nonin_7"
        plug = AsyncExitStack()

        async def put_in() -> None:
            by_id.unlink(missing_ok=True)
            by_id.symlink_to(await plug.enter_async_context(serve_pty(oximeter, CLOCK)))

        await put_in()
        async with listening(tmp_path, DeviceConfig("finger", oximeter.kind, port=str(by_id))) as gateway:
            for _ in range(2):
                await plug.aclose()
                await comes_back(gateway, "finger", put_in)
        await plug.aclose()

    asyncio.run(run())
