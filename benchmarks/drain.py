"""How fast a backlog drains, and what that does to live data: the same chain as in `chain.py`.

The recorder was away while five devices went on at an ordinary rate, each with a 250 Hz channel in blocks of
half a second and the raw frames beside it. When it is back the backlog drains while the devices still stream.
Live latency is the time from a block's put into the spool until the store has committed it; it is compared with
the latency of the same devices without a backlog, and the drain rate with the rate at which the data came.

    python benchmarks/drain.py                # a quarter of an hour
    python benchmarks/drain.py --hours 24
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from chain import CLOCK, HOST, NODE, put
from report import Report

from gateway.config import Broker
from gateway.edge_node import EdgeNode
from gateway.spool import Spool
from lab_api.broker import embedded_broker
from lab_api.host import MqttHost
from lab_api.recorder import Recorder
from lab_api.store.session_store import SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.frames import FrameBlock
from protocols.samples import Channel, SampleBlock, Stream

DEVICES = ("strap-1", "strap-2", "strap-3", "strap-4", "strap-5")
ECG = Stream("ecg", (Channel("lead_i", "uV", scale=2.5),), "int16", 250.0)
BLOCK_S = 0.5
N_SAMPLES = round(BLOCK_S * (ECG.rate_hz or 0))
FRAMES_A_BLOCK = 5
PER_S = 2 * len(DEVICES) / BLOCK_S
LATENCY_LIMIT = 4.0
DRAIN_LIMIT = 20.0
SHORT_HOURS = 0.25
QUIET_S = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hours", type=float, default=SHORT_HOURS, help="length of the outage, lab hours")
    hours = parser.parse_args().hours
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(compare(Path(folder), hours))


async def compare(folder: Path, hours: float) -> int:
    """Measure without and with the backlog; print the figures and return the exit code."""
    live = LiveDevices()
    (folder / "store").mkdir()
    backlog_start_ns = CLOCK.now_ns() - round((hours + 0.1) * 3600 * 1e9)
    async with embedded_broker() as url:
        broker = Broker.from_url(url)
        with TimedStore(folder / "store", live) as store:
            devices = [SessionDevice(name, NODE.name, name) for name in DEVICES]
            session = store.open_session(subject="S-001", devices=devices, opened_ns=backlog_start_ns)
            with Recorder(store, MqttHost(broker, host_id=HOST, clock=CLOCK), CLOCK):
                quiet_ms, _ = await streamed(folder / "spool", broker, live, at_least_s=QUIET_S)
                n_backlog = await asyncio.to_thread(fill, folder / "spool", hours, backlog_start_ns)
                busy_ms, elapsed_s = await streamed(folder / "spool", broker, live, at_least_s=0.0)
            n_stored = sum(
                store.read(session.id, NODE.name, name, ECG.name).values().shape[1] for name in DEVICES
            )
    if n_stored != live.n_samples + n_backlog // 2 * N_SAMPLES:
        raise AssertionError(f"{n_stored} samples stored, expected {live.n_samples} and those of the backlog")
    report = Report()
    name = f"drain: {hours:g} h of {len(DEVICES)} devices"
    rate_per_s = n_backlog / elapsed_s
    report.figure(
        name, rate_per_s, "records/s", ratio=rate_per_s / PER_S, of=f"{PER_S:g}/s put", at_least=DRAIN_LIMIT
    )
    for what, pick in (("median", statistics.median), ("p95", p95)):
        report.figure(
            f"{name}, live latency, {what}",
            pick(busy_ms),
            "ms",
            ratio=pick(busy_ms) / pick(quiet_ms),
            of=f"{pick(quiet_ms):.0f} ms without a backlog",
            at_most=LATENCY_LIMIT,
        )
    return report.exit_code


def p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[18]


class LiveDevices:
    """Puts a block of each device when its half second is over; knows when each was put and stored."""

    def __init__(self) -> None:
        self.boot_id = 0
        self.put_s: dict[tuple[str, int, int], float] = {}
        self.latencies_ms: list[float] = []
        self.n_samples = 0
        self._lock = threading.Lock()

    async def stream(self, spool: Spool) -> None:
        """Stream until cancelled."""
        self.boot_id += 1
        for k in range(1 << 40):
            for name in DEVICES:
                block, frames = records(name, self.boot_id, k, CLOCK.now_ns() - round(BLOCK_S * 1e9))
                with self._lock:
                    self.put_s[name, self.boot_id, block.first_index] = time.perf_counter()
                self.n_samples += block.n_samples
                put(spool, block)
                put(spool, frames)
                await asyncio.sleep(BLOCK_S / len(DEVICES))

    def stored(self, record: Any) -> None:
        """Take note that a record is durable."""
        if isinstance(record, SampleBlock):
            with self._lock:
                put_s = self.put_s.pop((record.device, record.boot_id, record.first_index), None)
            if put_s is not None:
                self.latencies_ms.append(1e3 * (time.perf_counter() - put_s))


class TimedStore(SqliteSessionStore):
    """A store that says when it has committed a record."""

    def __init__(self, folder: Path, live: LiveDevices) -> None:
        super().__init__(folder)
        self._live = live

    def write(self, records: Mapping[str, Sequence[tuple[str, Any]]]) -> Any:
        """Write, then say so."""
        result = super().write(records)
        for written in records.values():
            for _, record in written:
                self._live.stored(record)
        return result


def records(device: str, boot_id: int, k: int, start_ns: int) -> tuple[SampleBlock, FrameBlock]:
    """Return half a second of a device: samples that look like noise on a slow wave, and their frames."""
    times = np.arange(k * N_SAMPLES, (k + 1) * N_SAMPLES)
    values = (400 * np.sin(times / 40) + np.random.default_rng(k).normal(0, 4, N_SAMPLES)).astype(np.int16)
    block = SampleBlock(
        device, ECG, boot_id, k * N_SAMPLES, start_ns, values[np.newaxis], start_ns, start_ns, 1000
    )
    data = values.tobytes()
    step = len(data) // FRAMES_A_BLOCK
    arrivals = start_ns + np.arange(FRAMES_A_BLOCK, dtype=np.int64) * 10**8
    frames = FrameBlock(
        device,
        boot_id,
        k * FRAMES_A_BLOCK,
        ("serial",) * FRAMES_A_BLOCK,
        tuple(data[i * step : (i + 1) * step] for i in range(FRAMES_A_BLOCK)),
        arrivals,
        arrivals,
    )
    return block, frames


def fill(folder: Path, hours: float, start_ns: int) -> int:
    """Put what the devices took during the outage into the spool; return how many records that is."""
    spool = Spool(folder / "spool.sqlite", max_bytes=1 << 40)
    n_blocks = round(hours * 3600 / BLOCK_S)
    for k in range(n_blocks):
        for name in DEVICES:
            for record in records(name, 1_000_000, k, start_ns + round(k * BLOCK_S * 1e9)):
                while not put(spool, record):
                    time.sleep(0.01)
    spool.close()
    return 2 * n_blocks * len(DEVICES)


async def streamed(
    folder: Path, broker: Broker, live: LiveDevices, *, at_least_s: float
) -> tuple[list[float], float]:
    """Stream so long, and until the backlog there was is durable; return live latencies in ms, and seconds."""
    folder.mkdir(exist_ok=True)
    loop = asyncio.get_running_loop()
    spool = Spool(
        folder / "spool.sqlite",
        max_bytes=1 << 40,
        on_commit=lambda: loop.call_soon_threadsafe(lambda: edge_node.committed()),
    )
    backlog_end = spool.newest
    edge_node = EdgeNode(NODE, host=HOST, brokers=[broker], spool=spool, clock=CLOCK)
    publishing = asyncio.create_task(edge_node.run())
    while not edge_node.health().host_online:
        await asyncio.sleep(0.01)
    live.latencies_ms.clear()
    streaming = asyncio.create_task(live.stream(spool))
    started = time.perf_counter()
    while spool.acknowledged < backlog_end or time.perf_counter() - started < at_least_s:
        await asyncio.sleep(0.01)
    elapsed_s = time.perf_counter() - started
    streaming.cancel()
    await asyncio.gather(streaming, return_exceptions=True)
    latencies_ms = list(live.latencies_ms)
    await edge_node.drained()
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    await asyncio.to_thread(spool.close)
    return latencies_ms, elapsed_s


if __name__ == "__main__":
    sys.exit(main())
