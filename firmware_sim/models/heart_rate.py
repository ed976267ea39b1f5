"""The Heart Rate Measurement of a chest strap: once a second, with the RR intervals since the last one."""

from __future__ import annotations

from typing import Final

import numpy as np

from firmware_sim.device import DeviceClock, FrameDevice, Outlet
from firmware_sim.models.information import battery_outlet, information
from firmware_sim.signals.subject import Subject
from protocols.devices import heart_rate
from protocols.devices.kind import DeviceKind

SKIN_CONTACT: Final = 3

_AVERAGING_S: Final = 8.0
_TICKS_PER_S: Final = 1024
_LOCATION: Final = heart_rate.BODY_SENSOR_LOCATION.encode({"location": heart_rate.LOCATIONS.index("chest")})

LOCATION_VALUE: Final = {heart_rate.BODY_SENSOR_LOCATION_UUID: _LOCATION}


class HeartRateSource:
    """One measurement a second: the mean rate of the last 8 s, and the RR intervals that ended in the last one.

    Intervals are differences of beat times on the device's own grid of 1/1024 s, so that they add up without
    drifting away from the beats.
    """

    uuid = heart_rate.MEASUREMENT_UUID
    period_s = 1.0
    n_frames = None

    def __init__(self, subject: Subject, clock: DeviceClock) -> None:
        self._subject = subject
        self._clock = clock

    def due_s(self, frame: int) -> float:
        """Return when the second is over."""
        return (frame + 1) * self.period_s

    def encode(self, frame: int, origin_s: float) -> bytes:
        """Return the measurement of second number `frame`."""
        start_s, end_s = (origin_s + self.period_s * k for k in (frame, frame + 1))
        beats_s = self._subject.beats_s(self._clock.run_s(start_s) - _AVERAGING_S, self._clock.run_s(end_s))
        ticks = np.rint(self._clock.device_s(1.0) * beats_s * _TICKS_PER_S)
        intervals = np.diff(ticks)
        values: dict[str, object] = {"heart_rate": 0, "sensor_contact": SKIN_CONTACT}
        if intervals.size:
            values["heart_rate"] = round(60 * _TICKS_PER_S / float(intervals.mean()))
        new = intervals[beats_s[1:] >= self._clock.run_s(start_s)]
        if new.size:
            values["rr"] = [float(rr) for rr in new / _TICKS_PER_S]
        return heart_rate.MEASUREMENT.encode(values)


def heart_rate_strap(kind: DeviceKind, name: str, subject: Subject, clock: DeviceClock) -> FrameDevice:
    """Return a chest strap on the subject."""
    return FrameDevice(
        kind,
        name,
        [Outlet(HeartRateSource(subject, clock), origin_s=0.0), battery_outlet()],
        clock=clock,
        values={**information(model="Strap", serial_number=name), **LOCATION_VALUE},
    )
