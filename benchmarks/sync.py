"""How far the times of sample blocks are from the truth, in simulated time, against what we promise.

Devices sample by a clock that drifts (up to 50 ppm, wandering by 1 ppm), their frames travel over a simulated
link to the gateway's own `StreamAssembler`, and every block's `start_ns` is compared with when its first sample
was taken. Nothing waits: an hour takes about a second.

BLE: connection intervals of 15 to 50 ms on the central's own clock (up to 20 ppm off), 2 % of packets lost and
sent again, moments of congestion; serial: UART, or a USB adapter that hands over each millisecond or each 16;
host: a latency of 0.3 ms (serial 0.1) in the mean, seldom a pause of 5 to 50. The radio's own few milliseconds
on the air are constant and no arrival can tell them: they are left out here, and so is the time for which a
frame is on a serial line; the stated uncertainty has to cover the latter all the same.

The 16 ms adapter and the accelerometer alone are shown with what they state, not with what we promise: a device
in step with the link's own period leaves open when within the period it sampled.

    python benchmarks/sync.py [--every]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from report import Report

from firmware_sim.link_timing import BleTiming, DeviceClock, SerialTiming
from gateway.assembly import BLE_DELAY_NS, SERIAL_DELAY_NS, StreamAssembler
from gateway.clock import BootIds, ClockModel, WallClock
from gateway.clock_hindsight import block_times_in_hindsight
from gateway.transport import Frame
from protocols.devices.kind import Samples
from protocols.samples import Channel, SampleBlock, Stream

BLE_MEDIAN_MS, BLE_P95_MS = 0.5, 2.0
SERIAL_MEDIAN_MS = 0.2
PAIR_MEDIAN_MS, PAIR_P95_MS = 1.0, 2.0
COVERAGE = 0.95
CPU_LIMIT_PERCENT = 1.0

INTERVALS_MS = (15.0, 20.0, 30.0, 37.5, 45.0, 48.75, 50.0)
DRIFTS_PPM = (-50.0, -25.0, -5.0, 0.0, 5.0, 25.0, 50.0)
WANDER_PPM = 1.0
CENTRAL_PPM = 20.0
TEN_MINUTES_S = 600.0
DAY_S = 86_400.0
SETTLED_NS = 10 * 10**9
FLUSH_NS = 250_000_000
UTC0_NS = 1_790_000_000 * 10**9
MONOTONIC0_NS = 5_000 * 10**9
SEED = 3_026_1124

Link = BleTiming | SerialTiming
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pattern:
    """How a kind of device sends: samples to a frame, and what it says about when they were taken."""

    name: str
    rate_hz: float | None
    frame_samples: int
    clock: bool
    modulus: int | None = None
    frame_bytes: int = 0
    baudrate: int = 921_600


ECG = Pattern("H10 ECG", 130.0, 73, clock=True)
ACC = Pattern("H10 ACC", 200.0, 36, clock=True)
OXIMETER = Pattern("oximeter, no clock", None, 1, clock=False)
NONIN = Pattern("Nonin", 75.0, 25, clock=False, modulus=25 << 14, frame_bytes=5, baudrate=9600)
FABLAB_10 = Pattern("Fab Lab", 250.0, 10, clock=True, modulus=1 << 32, frame_bytes=38)
FABLAB_25 = replace(FABLAB_10, frame_samples=25, frame_bytes=68)


@dataclass(frozen=True, eq=False)
class Run:
    """What came of one run: errors and stated uncertainties of its blocks in ms, and when, since its start.

    `whole_error_ms` has in it what a link adds to every frame alike.
    """

    blocks: Sequence[SampleBlock]
    truth_ns: NDArray[np.int64]
    at_ns: NDArray[np.int64]
    error_ms: Floats
    whole_error_ms: Floats
    uncertainty_ms: Floats

    @property
    def covered(self) -> NDArray[np.bool_]:
        """Whether the stated uncertainty holds, for every block."""
        return np.abs(self.whole_error_ms) <= self.uncertainty_ms


def run(pattern: Pattern, link: Link, *, drift_ppm: float, span_s: float, seed: int) -> Run:
    """Send a device's frames over a link to the gateway's assembler."""
    rng = np.random.default_rng(seed)
    clock = DeviceClock(drift_ppm, WANDER_PPM, rng.uniform(0, 2 * np.pi))
    period_ns = 1e9 / (pattern.rate_hz or 1.0)
    n_frames = int(span_s * 1e9 / (period_ns * pattern.frame_samples))
    starts = np.arange(n_frames, dtype=np.int64) * pattern.frame_samples
    first_ns = np.rint(starts * period_ns).astype(np.int64)
    last_ns = np.rint((starts + pattern.frame_samples - 1) * period_ns).astype(np.int64)
    arrivals_ns = MONOTONIC0_NS + link.arrivals_ns(clock.true_ns(last_ns), rng)
    blocks = list(_assembled(pattern, link, first_ns, arrivals_ns))
    index = np.array([block.first_index for block in blocks], np.int64)
    truth_ns = UTC0_NS + MONOTONIC0_NS + clock.true_ns(np.rint(index * period_ns).astype(np.int64))
    whole_ns = np.array([block.start_ns for block in blocks], np.int64) - truth_ns
    constant_ns = link.transmission_ns if isinstance(link, SerialTiming) else 0
    uncertainty_ns = np.array([block.uncertainty_ns for block in blocks], np.int64)
    at_ns = truth_ns - truth_ns[0]
    return Run(blocks, truth_ns, at_ns, (whole_ns - constant_ns) / 1e6, whole_ns / 1e6, uncertainty_ns / 1e6)


def _assembled(
    pattern: Pattern, link: Link, first_ns: NDArray[np.int64], arrivals_ns: NDArray[np.int64]
) -> Iterator[SampleBlock]:
    """Yield blocks as a gateway makes them that closes them every quarter of a second."""
    stream = Stream("signal", (Channel("signal", "1"),), "int16", pattern.rate_hz)
    wall_clock = WallClock()
    scheduled = isinstance(link, BleTiming)
    assembler = StreamAssembler(
        "device",
        stream,
        BootIds(),
        wall_clock,
        counter_modulus=pattern.modulus,
        link_delay_ns=BLE_DELAY_NS if scheduled else SERIAL_DELAY_NS,
        scheduled=scheduled,
    )
    for k, (device_ns, arrival_ns) in enumerate(zip(first_ns.tolist(), arrivals_ns.tolist(), strict=True)):
        if assembler.due(arrival_ns - FLUSH_NS):
            yield from assembler.flush()
        start = k * pattern.frame_samples
        values = np.full((1, pattern.frame_samples), k % 30_000, np.int16)
        counter = None if pattern.modulus is None else start % pattern.modulus
        samples = Samples("signal", values, counter=counter, device_ns=device_ns if pattern.clock else None)
        frame = Frame("link", b"", UTC0_NS + arrival_ns, arrival_ns)
        wall_clock.observe(frame.arrival_ns, frame.arrival_monotonic_ns)
        yield from assembler.add(samples, frame)
    yield from assembler.flush()


def ble_runs(
    pattern: Pattern, drifts_ppm: Sequence[float], *, span_s: float, seed: int = SEED
) -> Iterator[tuple[float, float, Run]]:
    """Yield interval in ms, drift in ppm and what came of it, for all of them or, of a day, one drift each."""
    for i, interval_ms in enumerate(INTERVALS_MS):
        for j, drift_ppm in enumerate(drifts_ppm):
            if span_s > TEN_MINUTES_S and j != i % len(drifts_ppm):
                continue
            seed_ij = seed + 1000 * i + j
            central_ppm = np.random.default_rng(seed_ij).uniform(-CENTRAL_PPM, CENTRAL_PPM)
            link = BleTiming(interval_ms, central_ppm=central_ppm)
            yield interval_ms, drift_ppm, run(pattern, link, drift_ppm=drift_ppm, span_s=span_s, seed=seed_ij)


def serial_runs(
    patterns: Sequence[Pattern],
    timers_ms: Sequence[float],
    drifts_ppm: Sequence[float],
    *,
    span_s: float,
    seed: int = SEED,
) -> Iterator[Run]:
    """Yield what came of every pattern with every adapter and drift."""
    for i, pattern in enumerate(patterns):
        for timer_ms in timers_ms:
            for j, drift_ppm in enumerate(drifts_ppm):
                seed_ij = seed + 1000 * i + 100 * round(timer_ms) + j
                adapter_ppm = np.random.default_rng(seed_ij).uniform(-CENTRAL_PPM, CENTRAL_PPM)
                link = SerialTiming(pattern.baudrate, pattern.frame_bytes, timer_ms, adapter_ppm)
                yield run(pattern, link, drift_ppm=drift_ppm, span_s=span_s, seed=seed_ij)


def pooled(runs: Sequence[Run], *, settled: bool = True) -> tuple[float, float, float]:
    """Return median and 95th percentile of |error| in ms, and the covered share of all blocks."""
    errors = [np.abs(r.error_ms[r.at_ns >= SETTLED_NS] if settled else r.error_ms) for r in runs]
    median_ms, p95_ms = np.quantile(np.concatenate(errors), [0.5, 0.95])
    return float(median_ms), float(p95_ms), float(np.concatenate([r.covered for r in runs]).mean())


def pair_errors_ms(one: Run, other: Run) -> Floats:
    """Return by how much the times of two devices are apart that ought to be equal, once both have settled."""
    at_ns = one.at_ns[one.at_ns >= SETTLED_NS]
    errors_ms: Floats = one.error_ms[one.at_ns >= SETTLED_NS] - np.interp(at_ns, other.at_ns, other.error_ms)
    return errors_ms


def hindsight_errors_ms(r: Run, *, frame_samples: int) -> Floats:
    """Return the errors of the times computed again from the blocks of a BLE run."""
    times = block_times_in_hindsight(
        r.blocks, link_delay_ns=BLE_DELAY_NS, scheduled=True, frame_samples=frame_samples
    )
    errors_ms: Floats = (times.time_ns - r.truth_ns) / 1e6
    return errors_ms


def cpu_percent(n_frames_per_s: int = 400) -> float:
    """Return what 20 devices with 20 frames a second each cost of a core."""
    rng = np.random.default_rng(SEED)
    ready_ns = np.arange(20_000, dtype=np.int64) * 50_000_000
    arrivals_ns = BleTiming(48.75).arrivals_ns(ready_ns, rng)
    model = ClockModel(link_delay_ns=BLE_DELAY_NS, scheduled=True)
    started_s = time.process_time()
    for device_ns, arrival_ns in zip(ready_ns.tolist(), arrivals_ns.tolist(), strict=True):
        model.observe(device_ns, arrival_ns)
        model.instant(device_ns)
    return 100 * n_frames_per_s * (time.process_time() - started_s) / len(ready_ns)


def main() -> int:
    report = Report()
    every = "--every" in sys.argv[1:]
    for span_s, span in ((TEN_MINUTES_S, "10 min"), (DAY_S, "24 h")):
        ble = list(ble_runs(ECG, DRIFTS_PPM, span_s=span_s))
        if every:
            show(ble)
        runs = [r for *_, r in ble]
        against_limits(report, f"BLE {span}", runs, BLE_MEDIAN_MS, BLE_P95_MS)
        if span_s == TEN_MINUTES_S:
            pairs_and_hindsight(report, runs)
    short = list(serial_runs((FABLAB_10, FABLAB_25, NONIN), (0, 1), DRIFTS_PPM, span_s=TEN_MINUTES_S))
    against_limits(report, "serial 10 min", short, SERIAL_MEDIAN_MS, None)
    long = list(serial_runs((NONIN,), (0, 1), (-50.0, 20.0), span_s=DAY_S))
    against_limits(report, "serial 24 h", long, SERIAL_MEDIAN_MS, None)
    slow = list(serial_runs((FABLAB_10, FABLAB_25, NONIN), (16,), DRIFTS_PPM, span_s=TEN_MINUTES_S))
    against_statement(report, "serial, 16 ms adapter", slow)
    for pattern in (ACC, OXIMETER):
        runs = [r for *_, r in ble_runs(pattern, (-50.0, 5.0, 25.0), span_s=TEN_MINUTES_S)]
        against_statement(report, pattern.name, runs)
    percent = cpu_percent()
    report.figure(
        "sync: 20 devices, 20 frames/s each",
        percent,
        "% of a core",
        ratio=percent / CPU_LIMIT_PERCENT,
        of=f"{CPU_LIMIT_PERCENT:g} % of a core",
        at_most=1.0,
    )
    return report.exit_code


def against_limits(
    report: Report, name: str, runs: Sequence[Run], median_limit_ms: float, p95_limit_ms: float | None
) -> None:
    for settled, when in ((True, ""), (False, ", with first 10 s")):
        median_ms, p95_ms, covered = pooled(runs, settled=settled)
        error_figure(report, f"{name}: median{when}", median_ms, median_limit_ms)
        if p95_limit_ms is not None:
            error_figure(report, f"{name}: p95{when}", p95_ms, p95_limit_ms)
    coverage_figure(report, name, covered)


def against_statement(report: Report, name: str, runs: Sequence[Run]) -> None:
    """Show a median error against the uncertainty that was stated with it."""
    median_ms, _, covered = pooled(runs)
    stated_ms = float(np.median(np.concatenate([r.uncertainty_ms for r in runs])))
    error_figure(report, f"{name}: median", median_ms, stated_ms, of="ms stated")
    coverage_figure(report, name, covered)


def pairs_and_hindsight(report: Report, runs: Sequence[Run]) -> None:
    apart_ms = np.abs(np.concatenate([pair_errors_ms(a, b) for a, b in zip(runs, runs[9:], strict=False)]))
    error_figure(report, "two BLE devices: median", float(np.median(apart_ms)), PAIR_MEDIAN_MS)
    error_figure(report, "two BLE devices: p95", float(np.quantile(apart_ms, 0.95)), PAIR_P95_MS)
    before_ms = np.abs(np.concatenate([r.error_ms for r in runs]))
    after_ms = np.concatenate([hindsight_errors_ms(r, frame_samples=ECG.frame_samples) for r in runs])
    for what, quantile in (("median", 0.5), ("p95", 0.95)):
        before, after = float(np.quantile(before_ms, quantile)), float(np.quantile(np.abs(after_ms), quantile))
        error_figure(report, f"BLE 10 min in hindsight: {what}", after, before, of="ms as it came")


def error_figure(
    report: Report, name: str, error_ms: float, limit_ms: float, *, of: str = "ms promised"
) -> None:
    ratio = error_ms / limit_ms
    report.figure(f"sync: {name}", error_ms, "ms", ratio=ratio, of=f"{limit_ms:.3g} {of}", at_most=1.0)


def coverage_figure(report: Report, name: str, covered: float) -> None:
    report.figure(
        f"sync: {name}: stated uncertainty holds",
        100 * covered,
        "%",
        ratio=covered / COVERAGE,
        of=f"{100 * COVERAGE:g} %",
        at_least=1.0,
    )


def show(runs: Sequence[tuple[float, float, Run]]) -> None:
    """Print every run, then every interval."""
    for interval_ms, drift_ppm, r in runs:
        line(f"interval {interval_ms:5g} ms, drift {drift_ppm:+4g} ppm", [r])
    for interval_ms in INTERVALS_MS:
        line(f"interval {interval_ms:5g} ms", [r for interval, _, r in runs if interval == interval_ms])


def line(name: str, runs: Sequence[Run]) -> None:
    median_ms, p95_ms, covered = pooled(runs)
    stated_ms = float(np.median(np.concatenate([r.uncertainty_ms for r in runs])))
    print(
        f"{name:34} median {median_ms:6.3f} ms   p95 {p95_ms:6.3f} ms   stated {stated_ms:6.3f} ms   "
        f"holds in {100 * covered:6.2f} %"
    )


if __name__ == "__main__":
    sys.exit(main())
