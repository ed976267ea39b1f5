"""From a device's own time to lab time, with an uncertainty that holds.

A frame can only arrive after its last sample was taken::

    arrival = device time + offset + delay,   delay >= 0

Radio and operating system add a varying delay, never a negative one, so the smallest `arrival - device time` of
a recent window is the best estimate of the offset (a lower envelope). The window slides, so that a device whose
oscillator is off by tens of ppm is followed. `ClockModel` works on the gateway's monotonic clock, which no
wall-clock step disturbs; `WallClock` knows its difference to UTC and notices when UTC was set.

The uncertainty adds what is known: the delay that even the fastest frame may have had (a property of the link),
how far the smallest of so many observations may still lie above the true smallest, and the drift since then.

Where lab time runs faster than real time, so do the delays of this machine: everything here that stands for
them is multiplied by `speed`.

Not modelled here: drift within the window as a fitted line, and the constant part of a link's delay.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

WINDOW_NS: Final = 30_000_000_000
DRIFT_PPM: Final = 100

CLOCK_STEP_NS: Final = 100_000_000
"""UTC that differs by more than this from what it should be was set by somebody."""

_STEP_FRAMES: Final = 3
_FOLLOW: Final = 1024
_BUCKET_NS: Final = 250_000_000
_PRIOR_JITTER_NS: Final = 20_000_000
_EXCESS_FACTOR: Final = 6
"""For n uniform delays of mean m the smallest exceeds zero by more than 6 m / n in under 5 % of cases (for
exponential ones in under 1 %)."""


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment on the monotonic clock, and half the width of the interval that holds the truth."""

    monotonic_ns: int
    uncertainty_ns: int


@dataclass(slots=True)
class _Bucket:
    """Observations of a quarter second: their least offset and when it was, in device time."""

    start_ns: int
    least_offset_ns: int
    least_device_ns: int
    offset_sum_ns: int = 0
    count: int = 0


class ClockModel:
    """Follows one uninterrupted device time; make a new one at every reboot or reconnection.

    Parameters
    ----------
    link_delay_ns
        The longest delay that the fastest frames of this link may have.
    speed
        Lab seconds per real second.
    """

    def __init__(self, *, link_delay_ns: int, speed: float = 1.0) -> None:
        self._link_delay_ns = link_delay_ns
        self._window_ns = round(WINDOW_NS * speed)
        self._bucket_ns = round(_BUCKET_NS * speed)
        self._prior_jitter_ns = round(_PRIOR_JITTER_NS * speed)
        self._buckets: deque[_Bucket] = deque()

    @property
    def empty(self) -> bool:
        """Whether nothing was observed yet."""
        return not self._buckets

    def observe(self, device_ns: int, arrival_monotonic_ns: int) -> None:
        """Learn that the sample taken at `device_ns` arrived then; device time must not run backwards."""
        offset_ns = arrival_monotonic_ns - device_ns
        bucket = self._buckets[-1] if self._buckets else None
        if bucket is None or device_ns - bucket.start_ns >= self._bucket_ns:
            bucket = _Bucket(device_ns, offset_ns, device_ns)
            self._buckets.append(bucket)
        elif offset_ns <= bucket.least_offset_ns:
            bucket.least_offset_ns = offset_ns
            bucket.least_device_ns = device_ns
        bucket.offset_sum_ns += offset_ns
        bucket.count += 1
        while self._buckets[0].start_ns < device_ns - self._window_ns:
            self._buckets.popleft()

    def lateness_ns(self, device_ns: int, arrival_monotonic_ns: int) -> int:
        """Return how much later than the fastest frames something from `device_ns` arrived; 0 if unknown."""
        if self.empty:
            return 0
        return arrival_monotonic_ns - device_ns - self._least().least_offset_ns

    def instant(self, device_ns: int) -> Instant:
        """Return when on the monotonic clock it was `device_ns`; only after something was observed."""
        least = self._least()
        count = sum(bucket.count for bucket in self._buckets)
        total_ns = sum(bucket.offset_sum_ns for bucket in self._buckets)
        mean_excess_ns = (total_ns - count * least.least_offset_ns + self._prior_jitter_ns) // (count + 1)
        drift_ns = abs(device_ns - least.least_device_ns) * DRIFT_PPM // 1_000_000
        uncertainty_ns = self._link_delay_ns + _EXCESS_FACTOR * mean_excess_ns // count + drift_ns
        return Instant(device_ns + least.least_offset_ns, uncertainty_ns)

    def _least(self) -> _Bucket:
        return min(self._buckets, key=lambda bucket: bucket.least_offset_ns)


class WallClock:
    """Follows the difference between UTC and the monotonic clock, as the stamps of frames tell it.

    Whoever stamps reads UTC first. A pause between the readings makes the difference look smaller, so a larger
    one is believed at once and a smaller one slowly. A difference that has jumped for several frames in a row
    means that UTC was set; it holds from `accept` on.

    Parameters
    ----------
    speed
        Lab seconds per real second.

    Attributes
    ----------
    difference_ns
        UTC minus monotonic clock; None before the first frame.
    """

    def __init__(self, *, speed: float = 1.0) -> None:
        self.difference_ns: int | None = None
        self._step_ns = round(CLOCK_STEP_NS * speed)
        self._set_to_ns = 0
        self._odd_frames = 0

    def observe(self, arrival_ns: int, arrival_monotonic_ns: int) -> bool:
        """Take the stamps of a frame; return whether UTC was set."""
        difference_ns = arrival_ns - arrival_monotonic_ns
        if self.difference_ns is None:
            self.difference_ns = difference_ns
        change_ns = difference_ns - self.difference_ns
        if abs(change_ns) <= self._step_ns:
            self._odd_frames = 0
            self.difference_ns += change_ns if change_ns > 0 else -(-change_ns // _FOLLOW)
            return False
        self._odd_frames += 1
        self._set_to_ns = difference_ns
        return self._odd_frames >= _STEP_FRAMES

    def accept(self) -> None:
        """Take over what UTC was set to."""
        self.difference_ns = self._set_to_ns
        self._odd_frames = 0

    def utc_ns(self, monotonic_ns: int) -> int:
        """Return the UTC of a moment on the monotonic clock; only after a frame was observed."""
        return monotonic_ns + (self.difference_ns or 0)


class BootIds:
    """Gives every uninterrupted count of samples a larger number than any before: ms of lab time, or one more.

    Parameters
    ----------
    last
        The largest one ever given at this gateway, so that a clock set back gives none twice.
    """

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def next(self, now_ns: int) -> int:
        """Return a new one."""
        self.last = max(self.last + 1, now_ns // 1_000_000)
        return self.last
