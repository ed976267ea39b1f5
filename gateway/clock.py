"""From a device's own time to lab time, with an uncertainty that holds.

A frame can only arrive after its last sample was taken::

    arrival = device time + offset + delay,   delay >= 0

so every frame's `arrival - device time` is an upper bound of the offset, which lies at their lower envelope.
Between frames a bound moves with the drift that the device's oscillator may have::

    upper(t) = min(upper before + fastest drift, arrival - device time)

On a BLE link there is a lower bound as well. A frame waits for the next connection event, so its delay is less
than the connection interval, unless it was lost and sent again, which few are. `gateway.clock_events` finds the
interval and takes the host's share out of the arrival. A lower bound is believed once three frames claim it and
none has come earlier meanwhile; a frame that comes earlier disproves it, however many had claimed it::

    lower(t) = max(lower before + slowest drift, arrival - device time - interval)

The time given is the middle between the bounds, the uncertainty half their distance. This is what copes with
beats: a device that sends every 561.5 ms on a 50 ms interval hits only 13 phases of it, and the earliest may be
3.8 ms late for minutes. Other links have the upper bound only.

What drift is possible follows from the bounds themselves: between those of some minutes ago and the present
ones it can have been no more and no less. So memory grows from seconds to minutes as the drift becomes known,
at a constant cost per frame.

`ClockModel` works on the gateway's monotonic clock, which no wall-clock step disturbs; `WallClock` knows its
difference to UTC and notices when UTC was set. Where lab time runs faster than real time, so do the delays of
this machine: everything here that stands for them is multiplied by `speed`.

Not modelled here: the constant part of a link's delay, which no arrival can tell; a monotonic clock whose rate
somebody changes by more than a device's drift wanders.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from gateway.clock_events import ConnectionEvents

DRIFT_PPM: Final = 100
"""A quartz may be off by this; a device that is off by more is recognised by contradictions."""

CLOCK_STEP_NS: Final = 100_000_000
"""UTC that differs by more than this from what it should be was set by somebody."""

_MOST_DRIFT_PPM: Final = 30_000
_WIDEN: Final = 4
_WANDER_PER_S: Final = 1e-9
"""So much a drift may change in a second; a body-worn quartz that warms by 10 K in ten minutes changes less."""
_ANCHOR_NS: Final = 10_000_000_000
_ANCHORS: Final = 120

_SLACK_NS: Final = 300_000
"""What may be left of the host's latency in a bound."""
_CLAIMS: Final = 3
_CONTRADICTION: Final = 2
_CONTRADICTIONS: Final = 16
_LATEST: Final = 8
"""What goes against the bounds counts 2, other frames -1; at 16 they are not believed any more."""
_PATIENCE_NS: Final = 30_000_000_000
"""A link may be congested for so long; if every frame is late for longer, the device's clock is another."""
_DOUBTS: Final = 3
"""So many connection intervals within that time, none of which fits, say the same. Then, or when frames come
earlier than they can, the bounds begin anew with the latest 8 frames."""

_RECENT: Final = 32
_LARGEST_LEFT_OUT: Final = 2
_LEAST_SPREAD_NS: Final = 1_000_000
_PRIOR_EXCESS_NS: Final = 20_000_000
_EXCESS_FACTOR: Final = 6
"""For n uniform delays of mean m the smallest exceeds zero by more than 6 m / n in under 5 % of cases (for
exponential ones in under 1 %)."""

_STEP_FRAMES: Final = 3
READINGS: Final = 8
"""Of so many stamps of UTC and monotonic clock the largest difference is believed."""


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment on the monotonic clock, and half the width of the interval that holds the truth."""

    monotonic_ns: int
    uncertainty_ns: int


class ClockModel:
    """Follows one uninterrupted device time; make a new one at every reboot.

    It lives on over reconnections of a device whose clock runs on, and several streams may share one if they
    are on the same device clock.

    Parameters
    ----------
    link_delay_ns
        The longest delay that the fastest frames of this link may have; of a scheduled link, the longest
        connection interval.
    speed
        Lab seconds per real second.
    scheduled
        Whether frames wait for events at a fixed interval, as on a BLE connection.
    backward
        Whether observations come latest first.
    """

    def __init__(
        self, *, link_delay_ns: int, speed: float = 1.0, scheduled: bool = False, backward: bool = False
    ) -> None:
        self._link_delay_ns = link_delay_ns
        self._speed = speed
        self._slack_ns = _SLACK_NS * speed
        self._events = ConnectionEvents(longest_ns=link_delay_ns, speed=speed) if scheduled else None
        self._direction = -1 if backward else 1
        self._most_drift = DRIFT_PPM * 1e-6
        self._offset0_ns: int | None = None
        self._latest_ns: deque[float] = deque(maxlen=_LATEST)
        self._now_ns = 0

    @property
    def empty(self) -> bool:
        """Whether nothing was observed yet."""
        return self._offset0_ns is None

    @property
    def bounded(self) -> bool:
        """Whether there is a lower bound that arrivals tell, beside what is said of the link."""
        return self._events is not None and not self.empty and math.isfinite(self._lower_ns)

    def observe(self, device_ns: int, arrival_monotonic_ns: int) -> None:
        """Learn that the sample taken at `device_ns` arrived then.

        Device time must not run backwards further than frames of one device overlap.
        """
        latency_ns = 0.0 if self._events is None else self._events.latency_ns(arrival_monotonic_ns)
        first = self._offset0_ns is None
        if self._offset0_ns is None:
            self._offset0_ns = arrival_monotonic_ns - device_ns
        offset_ns = arrival_monotonic_ns - device_ns - self._offset0_ns - latency_ns
        self._latest_ns.append(offset_ns)
        if first:
            self._begin(self._direction * device_ns)
        self._advance(self._direction * device_ns)
        self._learn(offset_ns, arrival_monotonic_ns)
        if self._impossible >= _CONTRADICTIONS or self._late_for_ns > _PATIENCE_NS * self._speed:
            self._restart()
        elif self._contradictions >= _CONTRADICTIONS and not self._late_for_ns and self._events is not None:
            self._doubt_interval(self._events)
        elif self._now_ns >= self._next_anchor_ns:
            self._learn_drift()

    def reconnected(self) -> None:
        """Take note that the link was made anew: its events are others, the device's clock is the same."""
        if self._events is not None:
            self._events.forget()
            self._claims_ns.clear()

    def continues(self, device_ns: int, arrival_monotonic_ns: int, *, delayed_ns: int = 0) -> bool:
        """Return whether the device clock that was followed so far, never set, can have sent that.

        Parameters
        ----------
        delayed_ns
            How long device and link may have kept it beyond their ordinary delay.
        """
        if self.empty:
            return True
        if self._direction * device_ns < self._now_ns:
            return False
        offset_ns = arrival_monotonic_ns - device_ns
        lower_ns, upper_ns = self.bounds_ns(device_ns)
        return lower_ns <= offset_ns <= upper_ns + self._link_delay_ns + delayed_ns

    def lateness_ns(self, device_ns: int, arrival_monotonic_ns: int) -> int:
        """Return how much later than the fastest frames something from `device_ns` arrived; 0 if unknown."""
        if self._offset0_ns is None:
            return 0
        return arrival_monotonic_ns - device_ns - self._offset0_ns - round(self._upper_ns)

    def instant(self, device_ns: int) -> Instant:
        """Return when on the monotonic clock it was `device_ns`; only after something was observed."""
        return instant_between(*self.bounds_ns(device_ns), device_ns=device_ns, bounded=self.bounded)

    def bounds_ns(self, device_ns: int) -> tuple[int, int]:
        """Return the limits of monotonic clock minus device time at `device_ns`; only after an observation."""
        assert self._offset0_ns is not None, "nothing was observed"
        ahead_ns = self._direction * device_ns - self._now_ns
        drifted_ns = (self._least_drift + self._greatest_drift) / 2 * ahead_ns
        margin_ns = (self._greatest_drift - self._least_drift) / 2 * abs(ahead_ns)
        if self.bounded:
            margin_ns += self._slack_ns
            lower_ns = math.floor(self._lower_ns + drifted_ns - margin_ns)
            upper_ns = math.ceil(self._upper_ns + drifted_ns + margin_ns)
            return self._offset0_ns + lower_ns, self._offset0_ns + upper_ns
        mean_ns = (self._excess_sum_ns + _PRIOR_EXCESS_NS * self._speed) / (self._n_excesses + 1)
        width_ns = self._link_delay_ns + _EXCESS_FACTOR * mean_ns / max(self._n_excesses, 1) + 2 * margin_ns
        upper_ns = self._offset0_ns + round(self._upper_ns + drifted_ns)
        return upper_ns - math.ceil(width_ns), upper_ns

    def _begin(self, now_ns: int) -> None:
        """Bounds from the latest observations alone."""
        self._now_ns = now_ns
        self._upper_ns = min(self._latest_ns)
        self._lower_ns = -math.inf
        self._claims_ns: list[float] = []
        self._contradictions = self._impossible = 0
        self._doubts, self._doubted_ns = 0, now_ns
        self._late_since_ns: int | None = None
        self._late_for_ns = 0
        self._excesses_ns: list[float] = []
        self._excess_sum_ns = 0.0
        self._n_excesses = 0
        self._spread_ns = _LEAST_SPREAD_NS * self._speed if self._events is None else self._link_delay_ns
        self._least_drift, self._greatest_drift = -self._most_drift, self._most_drift
        self._anchors: deque[tuple[int, float, float]] = deque(maxlen=_ANCHORS)
        self._next_anchor_ns = now_ns + round(_ANCHOR_NS * self._speed)

    def _restart(self) -> None:
        """Begin anew after contradictions, prepared for more drift than before."""
        self._most_drift = min(_WIDEN * self._most_drift, _MOST_DRIFT_PPM * 1e-6)
        if self._events is not None:
            self._events.contradict()
        self._begin(self._now_ns)

    def _doubt_interval(self, events: ConnectionEvents) -> None:
        """Begin the lower bound anew: some frames are late by more than the interval, others are not."""
        recently = self._now_ns - self._doubted_ns < _PATIENCE_NS * self._speed
        self._doubts = self._doubts + 1 if recently else 1
        self._doubted_ns = self._now_ns
        if self._doubts == _DOUBTS:
            self._begin(self._now_ns)
            return
        events.contradict()
        self._lower_ns = -math.inf
        self._claims_ns.clear()
        self._contradictions = 0

    def _advance(self, now_ns: int) -> None:
        """Let the bounds drift apart until then."""
        elapsed_ns = max(now_ns - self._now_ns, 0)
        self._now_ns += elapsed_ns
        fall_ns = self._least_drift * elapsed_ns
        self._upper_ns += self._greatest_drift * elapsed_ns
        self._lower_ns += fall_ns
        self._claims_ns = [claim_ns + fall_ns for claim_ns in self._claims_ns]

    def _learn(self, offset_ns: float, arrival_monotonic_ns: int) -> None:
        self._upper_ns = min(self._upper_ns, offset_ns)
        excess_ns = offset_ns - self._upper_ns
        if self._events is None or self._events.interval_ns is None:
            self._note_late(excess_ns > self._spread_ns, arrival_monotonic_ns)
            self._learn_spread(excess_ns)
        else:
            late = excess_ns > self._events.interval_ns + self._slack_ns
            self._note_late(late, arrival_monotonic_ns)
            self._contradictions = _counted(self._contradictions, late)
            if not self._events.odd:
                self._claim(offset_ns - self._events.interval_ns)
        impossible = self._events is not None and self._lower_ns > self._upper_ns
        self._impossible = _counted(self._impossible, impossible)
        if impossible:
            self._lower_ns = -math.inf

    def _note_late(self, late: bool, arrival_monotonic_ns: int) -> None:
        """Learn since when every frame has been later than the link explains."""
        if not late:
            self._late_since_ns, self._late_for_ns = None, 0
        elif self._late_since_ns is None:
            self._late_since_ns = arrival_monotonic_ns
        else:
            self._late_for_ns = abs(arrival_monotonic_ns - self._late_since_ns)

    def _claim(self, claim_ns: float) -> None:
        """Take a claim that the offset is no less; one as high as the upper bound is of a frame sent again."""
        highest_ns = self._upper_ns - self._slack_ns
        claims_ns = sorted((*self._claims_ns, claim_ns), reverse=True)
        self._claims_ns = [claim_ns for claim_ns in claims_ns if claim_ns <= highest_ns][:_CLAIMS]
        if len(self._claims_ns) == _CLAIMS:
            self._lower_ns = max(self._lower_ns, self._claims_ns[-1])

    def _learn_spread(self, excess_ns: float) -> None:
        """Learn how much delays vary, as a lower bound that serves to estimate the drift, and no more."""
        self._excess_sum_ns += excess_ns
        self._n_excesses += 1
        self._excesses_ns.append(excess_ns)
        if len(self._excesses_ns) == _RECENT:
            ordered_ns = sorted(self._excesses_ns)
            self._excesses_ns.clear()
            spread_ns = ordered_ns[-1 - _LARGEST_LEFT_OUT] + _LEAST_SPREAD_NS * self._speed
            self._spread_ns = min(max(self._spread_ns, spread_ns), self._link_delay_ns)
        if self._n_excesses > 2 * _RECENT:
            self._n_excesses //= 2
            self._excess_sum_ns /= 2
        if self._events is None:
            self._lower_ns = self._upper_ns - self._spread_ns

    def _learn_drift(self) -> None:
        """Narrow the possible drift by the bounds of earlier times."""
        self._next_anchor_ns = self._now_ns + round(_ANCHOR_NS * self._speed)
        least, greatest = -self._most_drift, self._most_drift
        wander = _WANDER_PER_S * 1e-9 / self._speed * self._most_drift / (DRIFT_PPM * 1e-6)
        for then_ns, lower_ns, upper_ns in self._anchors:
            lag_ns = self._now_ns - then_ns
            greatest = min(greatest, (self._upper_ns - lower_ns + self._slack_ns) / lag_ns + wander * lag_ns)
            least = max(least, (self._lower_ns - upper_ns - self._slack_ns) / lag_ns - wander * lag_ns)
        if least >= greatest:
            self._restart()
            return
        self._least_drift, self._greatest_drift = least, greatest
        self._anchors.append((self._now_ns, self._lower_ns, self._upper_ns))


def _counted(count: int, contradicts: bool) -> int:
    """Return a count that grows when over a third of what is seen contradicts."""
    return max(count + (_CONTRADICTION if contradicts else -1), 0)


def instant_between(lower_ns: int, upper_ns: int, *, device_ns: int, bounded: bool) -> Instant:
    """Return the moment that limits of the offset give: their middle if both are `bounded`, else the upper."""
    if bounded:
        return Instant(device_ns + (lower_ns + upper_ns) // 2, (upper_ns - lower_ns + 1) // 2)
    return Instant(device_ns + upper_ns, upper_ns - lower_ns)


class WallClock:
    """Follows the difference between UTC and the monotonic clock, as the stamps of frames tell it.

    Whoever stamps reads UTC first. A pause between the readings makes the difference look smaller, so the
    largest of the latest few is believed. UTC that is slewed is followed within these few. A difference that
    has jumped for several frames in a row means that UTC was set; it holds from `accept` on.

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
        self._readings_ns: deque[int] = deque(maxlen=READINGS)
        self._odd_ns: deque[int] = deque(maxlen=_STEP_FRAMES)

    def observe(self, arrival_ns: int, arrival_monotonic_ns: int) -> bool:
        """Take the stamps of a frame; return whether UTC was set."""
        difference_ns = arrival_ns - arrival_monotonic_ns
        if self.difference_ns is None:
            self.difference_ns = difference_ns
        if abs(difference_ns - self.difference_ns) > self._step_ns:
            self._odd_ns.append(difference_ns)
            return len(self._odd_ns) == _STEP_FRAMES
        self._odd_ns.clear()
        self._readings_ns.append(difference_ns)
        self.difference_ns = max(self._readings_ns)
        return False

    def accept(self) -> None:
        """Take over what UTC was set to."""
        self.difference_ns = max(self._odd_ns)
        self._odd_ns.clear()
        self._readings_ns.clear()

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
