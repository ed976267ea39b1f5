"""How long a device that comes back takes until it streams again, against the 5 s that are promised.

A whole gateway listens to a BLE strap and a serial oximeter, and no broker is there. Ten times over, each of
these happens; the time runs from the moment that the device could be reached again to its first new samples:

- the strap's link is lost, as at the edge of its range;
- the strap is switched off, and on again 1 to 3 s later;
- the oximeter's USB adapter is pulled out, and put in again 1 to 3 s later as another port.

The strap advertises every 100 ms and has a connection interval of 30 ms. It sends ECG every 0.56 s.

    python benchmarks/reconnect.py
"""

from __future__ import annotations

import asyncio
import logging
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from report import Report

from firmware_sim.catalogue import Setup, simulated_device
from firmware_sim.links.pty import serve_pty
from firmware_sim.links.virtual_ble import serve_ble
from firmware_sim.signals.subject import Subject
from gateway.config import Broker, DeviceConfig, GatewayConfig
from gateway.device_session import DeviceState
from gateway.supervisor import Gateway
from protocols.lab_clock import LabClock

PROMISED_S = 5.0
RETURNS = 10
CLOCK = LabClock(time.time_ns, time.monotonic_ns)

Return = Callable[[], Awaitable[float]]
"""Takes a device away and brings it back; returns the moment it was there again, by `time.monotonic`."""


async def measure(folder: Path) -> int:
    """Print the figures; return the exit code."""
    logging.disable(logging.WARNING)  # losses are what this is about
    straps = [simulated_device("polar-h10", Setup(Subject(seed), name=f"strap-{seed}")) for seed in (1, 2)]
    rng = random.Random(1)
    async with (
        asyncio.timeout(300),
        serve_ble(straps, CLOCK, advertising_interval_ms=100, connection_interval_s=0.03) as air,
        _Plug(folder / "by-id") as plug,
    ):
        addresses = [
            DeviceConfig(strap.name, strap.kind, address=strap.name, adapter=air.adapter) for strap in straps
        ]
        port = DeviceConfig("finger", plug.device.kind, port=str(plug.path))
        broker = Broker("127.0.0.1", 9)
        config = GatewayConfig("lab", "bench", broker, folder / "spool", (*addresses, port), drain_s=0)

        async def lose_link() -> float:
            air.link_loss(straps[0])
            return time.monotonic()

        async def switch_off_and_on() -> float:
            await air.switch_off(straps[1])
            await asyncio.sleep(rng.uniform(1, 3))
            await air.switch_on(straps[1])
            return time.monotonic()

        async def replug() -> float:
            await plug.pull_out()
            await asyncio.sleep(rng.uniform(1, 3))
            await plug.put_in()
            return time.monotonic()

        async with Gateway(config) as gateway:
            await gateway.streaming()
            times_s = await asyncio.gather(
                _returns(gateway, straps[0].name, lose_link),
                _returns(gateway, straps[1].name, switch_off_and_on),
                _returns(gateway, "finger", replug),
            )
    report = Report()
    for what, took_s in zip(("BLE link lost", "BLE off and on", "serial, another port"), times_s, strict=True):
        for which, value_s in (("median", statistics.median(took_s)), ("slowest", max(took_s))):
            name = f"reconnect: {what}, {which} of {RETURNS}"
            of = f"the {PROMISED_S:g} s promised"
            report.figure(name, value_s, "s", ratio=value_s / PROMISED_S, of=of, at_most=1.0)
    return report.exit_code


async def _returns(gateway: Gateway, name: str, return_: Return) -> list[float]:
    """Return how long each return took, in s."""
    took_s = []
    for _ in range(RETURNS):
        connections = gateway.health().device(name).connections
        back_s = await return_()
        while not _streams_again(gateway, name, connections):
            await asyncio.sleep(0.005)
        took_s.append(time.monotonic() - back_s)
        await asyncio.sleep(0.5)
    return took_s


def _streams_again(gateway: Gateway, name: str, connections_before: int) -> bool:
    health = gateway.health().device(name)
    return health.connections > connections_before and health.state is DeviceState.STREAMING


class _Plug:
    """A serial device at a stable name; every time it is put in, it is another port."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.path = folder / "usb-Nonin_7"
        self.device = simulated_device("nonin-7", Setup(Subject(3)))
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> _Plug:
        await self.put_in()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pull_out()

    async def put_in(self) -> None:
        self.path.symlink_to(await self._stack.enter_async_context(serve_pty(self.device, CLOCK)))

    async def pull_out(self) -> None:
        self.path.unlink(missing_ok=True)
        await self._stack.aclose()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        raise SystemExit(asyncio.run(measure(Path(temporary))))
