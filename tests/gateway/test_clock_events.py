"""The connection interval is found from arrivals alone."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_sim.link_timing import BleTiming
from gateway.clock_events import ConnectionEvents

ORDINARY_NS = 50_000_000


def fed(events: ConnectionEvents, arrivals_ns: np.ndarray) -> list[float]:
    return [events.latency_ns(arrival_ns) for arrival_ns in arrivals_ns.tolist()]


@pytest.mark.parametrize("interval_ms", [7.5, 15.0, 20.0, 30.0, 37.5, 45.0, 48.75, 50.0])
@pytest.mark.parametrize("every_ms", [1e3 * 73 / 130, 171.3])
def test_the_interval_is_found_from_arrivals(
    interval_ms: float, every_ms: float, rng: np.random.Generator
) -> None:
    ready_ns = np.rint(np.arange(256) * every_ms * 1e6).astype(np.int64)
    events = ConnectionEvents(longest_ns=ORDINARY_NS)
    fed(events, BleTiming(interval_ms, central_ppm=20).arrivals_ns(ready_ns, rng))
    assert events.interval_ns == interval_ms * 1e6


def test_what_the_host_adds_is_told_from_the_wait_for_an_event(rng: np.random.Generator) -> None:
    event_ns = np.cumsum(rng.integers(5, 15, 500)) * 30_000_000
    latency_ns = np.rint(rng.exponential(300_000, 500)).astype(np.int64)
    found_ns = np.array(fed(ConnectionEvents(longest_ns=ORDINARY_NS), event_ns + latency_ns))
    assert np.median(np.abs(found_ns - latency_ns)[100:]) < 200_000


def test_arrivals_at_any_moment_have_no_interval(rng: np.random.Generator) -> None:
    events = ConnectionEvents(longest_ns=ORDINARY_NS)
    latencies = fed(events, np.cumsum(rng.integers(50_000_000, 900_000_000, 500)))
    assert events.interval_ns is None
    assert set(latencies) == {0.0}


def test_frames_equally_far_apart_leave_the_longest_interval_that_explains_them() -> None:
    events = ConnectionEvents(longest_ns=ORDINARY_NS)
    fed(events, np.arange(20) * 180_000_000)
    assert events.interval_ns == 45_000_000


def test_a_new_connection_has_its_own_events(rng: np.random.Generator) -> None:
    events = ConnectionEvents(longest_ns=ORDINARY_NS)
    ready_ns = np.rint(np.arange(64) * 561_538_461.5).astype(np.int64)
    fed(events, BleTiming(50.0).arrivals_ns(ready_ns, rng))
    events.forget()
    assert events.interval_ns is None
    fed(events, BleTiming(15.0).arrivals_ns(ready_ns + 10**12, rng))
    assert events.interval_ns == 15_000_000
