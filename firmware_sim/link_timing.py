"""When frames arrive at a gateway, in simulated time: what a radio or a serial line does to known moments.

::

    device:   sampling clock with drift and slow wander -> moments at which frames are ready
    BLE:      the next connection event that is free and not lost, on the central's own clock
    serial:   the line's transmission time, then the receiver's latency timer
    host:     a little latency, seldom a pause; never out of order

Nothing here waits: moments in, moments out, as int64 ns of true time, which is the gateway's monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

_WANDER_PERIOD_S = 7200.0


@dataclass(frozen=True, slots=True)
class DeviceClock:
    """A device's oscillator: `drift_ppm` fast, and up to `wander_ppm` more or less as it warms and cools."""

    drift_ppm: float = 0.0
    wander_ppm: float = 0.0
    phase_rad: float = 0.0

    def true_ns(self, device_ns: IntArray) -> IntArray:
        """Return the true time of moments of the device's clock; 0 is 0."""
        elapsed_s = device_ns * 1e-9
        turns = 2 * np.pi / _WANDER_PERIOD_S
        wander_s = np.cos(self.phase_rad) - np.cos(self.phase_rad + turns * elapsed_s)
        ahead_s = 1e-6 * (self.drift_ppm * elapsed_s + self.wander_ppm / turns * wander_s)
        true_ns: IntArray = device_ns - np.rint(1e9 * ahead_s).astype(np.int64)
        return true_ns


@dataclass(frozen=True, slots=True)
class Host:
    """What an operating system adds: exponential latency of a mean, and with a probability a pause."""

    latency_ms: float = 0.3
    pause_probability: float = 0.002
    pause_ms: tuple[float, float] = (5.0, 50.0)

    def delivered_ns(self, received_ns: IntArray, rng: np.random.Generator) -> IntArray:
        """Return when a process has what the hardware received."""
        n = len(received_ns)
        latency_ms = rng.exponential(self.latency_ms, n)
        latency_ms += (rng.random(n) < self.pause_probability) * rng.uniform(*self.pause_ms, n)
        return np.maximum.accumulate(received_ns + np.rint(1e6 * latency_ms).astype(np.int64))


@dataclass(frozen=True, slots=True)
class BleTiming:
    """A BLE connection.

    Parameters
    ----------
    interval_ms
        Connection interval, on the central's clock, which is `central_ppm` fast.
    loss
        Probability that a packet is lost at an event and sent again at the next.
    congestion_every_s, congestion_s
        Mean time between episodes in which nothing gets through, and the longest such episode.
    """

    interval_ms: float
    central_ppm: float = 0.0
    loss: float = 0.02
    congestion_every_s: float = 120.0
    congestion_s: float = 0.5
    host: Host = Host()

    def arrivals_ns(self, ready_ns: IntArray, rng: np.random.Generator) -> IntArray:
        """Return when frames that are ready then, in order, reach the process."""
        interval_ns = 1e6 * self.interval_ms * (1 - 1e-6 * self.central_ppm)
        first_ns = int(ready_ns[0]) - rng.uniform(0, interval_ns)
        free_ns = self._after_congestion(ready_ns, rng)
        events = np.ceil((free_ns - first_ns) / interval_ns) + rng.geometric(1 - self.loss, len(ready_ns)) - 1
        events = np.maximum.accumulate(events)
        received_ns = np.rint(first_ns + events * interval_ns).astype(np.int64)
        return self.host.delivered_ns(received_ns, rng)

    def _after_congestion(self, ready_ns: IntArray, rng: np.random.Generator) -> IntArray:
        """Move what is ready during an episode to its end."""
        span_s = (int(ready_ns[-1]) - int(ready_ns[0])) * 1e-9
        n = rng.poisson(span_s / self.congestion_every_s)
        starts = np.sort(ready_ns[0] + np.rint(rng.uniform(0, 1e9 * span_s, n)).astype(np.int64))
        ends = starts + np.rint(rng.uniform(0, 1e9 * self.congestion_s, n)).astype(np.int64)
        if n == 0:
            return ready_ns
        episode = np.searchsorted(starts, ready_ns, side="right") - 1
        return np.where(episode >= 0, np.maximum(ready_ns, ends[episode]), ready_ns)


@dataclass(frozen=True, slots=True)
class SerialTiming:
    """A serial line that carries frames of `frame_bytes`.

    Parameters
    ----------
    timer_ms
        Period at which a USB adapter hands over what it has; 0 for a UART that tells of a frame's end at once.
    adapter_ppm
        How fast the adapter's clock is.
    """

    baudrate: int
    frame_bytes: int
    timer_ms: float = 0.0
    adapter_ppm: float = 0.0
    host: Host = Host(latency_ms=0.1)

    @property
    def transmission_ns(self) -> int:
        """How long a frame is on the line: ten bits to a byte."""
        return round(10e9 * self.frame_bytes / self.baudrate)

    def arrivals_ns(self, ready_ns: IntArray, rng: np.random.Generator) -> IntArray:
        """Return when frames that are ready then, in order, reach the process."""
        sent_ns: NDArray[Any] = ready_ns + self.transmission_ns
        if self.timer_ms:
            period_ns = 1e6 * self.timer_ms * (1 - 1e-6 * self.adapter_ppm)
            first_ns = int(sent_ns[0]) - rng.uniform(0, period_ns)
            ticks = np.ceil((sent_ns - first_ns) / period_ns)
            sent_ns = np.rint(first_ns + ticks * period_ns).astype(np.int64)
        return self.host.delivered_ns(sent_ns, rng)
