"""A simulated link delays frames as its radio or line would, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_sim.link_timing import BleTiming, DeviceClock, Host, SerialTiming

QUIET = Host(latency_ms=0.0, pause_probability=0.0)
READY_NS = np.arange(1, 3001, dtype=np.int64) * 171_300_000


@pytest.mark.parametrize(
    "link", [BleTiming(50.0, loss=0.2), SerialTiming(9600, 5), SerialTiming(921_600, 60, timer_ms=16.0)]
)
def test_frames_arrive_in_order_and_never_early(
    link: BleTiming | SerialTiming, rng: np.random.Generator
) -> None:
    arrivals_ns = link.arrivals_ns(READY_NS, rng)
    assert arrivals_ns.dtype == np.int64
    assert (arrivals_ns >= READY_NS).all()
    assert (np.diff(arrivals_ns) >= 0).all()


def test_a_ble_frame_waits_for_the_next_event_on_the_centrals_clock(rng: np.random.Generator) -> None:
    link = BleTiming(30.0, central_ppm=50.0, loss=0.0, congestion_every_s=1e9, host=QUIET)
    arrivals_ns = link.arrivals_ns(READY_NS, rng)
    delays_ms = (arrivals_ns - READY_NS) / 1e6
    assert 0 <= delays_ms.min() < 1
    assert 29 < delays_ms.max() <= 30
    phases_ns = np.mod(arrivals_ns - arrivals_ns[0] + 1000, 30e6 * (1 - 50e-6))
    assert np.abs(phases_ns - 1000).max() < 10


def test_what_is_lost_is_sent_again_an_interval_later(rng: np.random.Generator) -> None:
    link = BleTiming(30.0, loss=0.1, congestion_every_s=1e9, host=QUIET)
    delays_ms = (link.arrivals_ns(READY_NS, rng) - READY_NS) / 1e6
    assert (delays_ms > 30).mean() == pytest.approx(0.1, abs=0.02)
    assert (delays_ms > 60).mean() == pytest.approx(0.01, abs=0.01)


def test_a_serial_frame_takes_ten_bits_a_byte_and_waits_for_the_adapter(rng: np.random.Generator) -> None:
    uart = SerialTiming(9600, 5, host=QUIET)
    assert set(uart.arrivals_ns(READY_NS, rng) - READY_NS) == {uart.transmission_ns} == {5_208_333}
    slow = SerialTiming(9600, 5, timer_ms=16.0, host=QUIET)
    waits_ms = (slow.arrivals_ns(READY_NS, rng) - READY_NS - slow.transmission_ns) / 1e6
    assert waits_ms.min() >= 0
    assert 15 < waits_ms.max() <= 16


def test_a_fast_device_clock_reaches_a_moment_early() -> None:
    hour_ns = np.array([3_600 * 10**9])
    assert (hour_ns - DeviceClock(50.0).true_ns(hour_ns))[0] == 180_000_000
    assert DeviceClock(50.0, 2.0, 1.0).true_ns(np.zeros(1, np.int64))[0] == 0
    wandering = DeviceClock(0.0, 1.0).true_ns(np.array([7_200 * 10**9]))[0]
    assert wandering == pytest.approx(7_200 * 10**9, abs=1000)
