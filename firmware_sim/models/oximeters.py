"""Pulse oximeters: the Bluetooth Pulse Oximeter Service once a second, and Nonin's serial format 7."""

from __future__ import annotations

from typing import Final

import numpy as np

from firmware_sim.device import DeviceClock, FrameDevice, Outlet
from firmware_sim.models.information import battery_outlet, information
from firmware_sim.signals.oximeter import Oximeter
from firmware_sim.signals.ppg import pleth
from protocols.devices import nonin, pulse_oximeter
from protocols.devices.kind import SERIAL_SOURCE, DeviceKind

_PLETH_COUNTS: Final = 20_000
_PULSE_ABOVE: Final = 0.5
_REVISION: Final = 48


class PlxSource:
    """One PLX Continuous Measurement a second; SpO2 and pulse rate are NaN while there is no reading."""

    uuid = pulse_oximeter.CONTINUOUS_UUID
    period_s = 1.0
    n_frames = None

    def __init__(self, oximeter: Oximeter, clock: DeviceClock) -> None:
        self._oximeter = oximeter
        self._clock = clock

    def due_s(self, frame: int) -> float:
        """Return when the second is over."""
        return (frame + 1) * self.period_s

    def encode(self, frame: int, origin_s: float) -> bytes:
        """Return the reading at the end of second number `frame`."""
        return pulse_oximeter.CONTINUOUS.encode(
            _reading(self._oximeter, self._clock.run_s(origin_s + self.due_s(frame)))
        )


class NoninSource:
    """Three packets a second: 25 samples of the pulse wave each, and the reading at their end."""

    uuid = SERIAL_SOURCE
    period_s = 1 / nonin.PACKET_RATE_HZ
    n_frames = None

    def __init__(self, oximeter: Oximeter, clock: DeviceClock) -> None:
        self._oximeter = oximeter
        self._clock = clock

    def due_s(self, frame: int) -> float:
        """Return when the packet's last sample has been taken."""
        return (frame + 1) / nonin.PACKET_RATE_HZ

    def encode(self, frame: int, origin_s: float) -> bytes:
        """Return packet number `frame`."""
        samples = frame * nonin.FRAMES + np.arange(nonin.FRAMES)
        rate_hz = nonin.FRAMES * nonin.PACKET_RATE_HZ
        run_s = (origin_s + samples / rate_hz) / self._clock.device_s(1.0)
        wave = pleth(run_s, self._oximeter.subject)
        reading = _reading(self._oximeter, self._clock.run_s(origin_s + self.due_s(frame)))
        tracking = reading["spo2"] == reading["spo2"]
        pulse = np.where(wave > _PULSE_ABOVE, nonin.GREEN_PERFUSION, 0)
        values: dict[str, object] = {
            "pleth": np.rint(wave * _PLETH_COUNTS).astype(np.uint16),
            "status": pulse if tracking else np.full(nonin.FRAMES, nonin.OUT_OF_TRACK),
            "timer": frame % nonin.TIMER_MODULUS,
            "revision": _REVISION,
        }
        for suffix in ("", "_display", "_extended", "_extended_display"):
            values["spo2" + suffix] = reading["spo2"]
            values["pulse_rate" + suffix] = reading["pulse_rate"]
        values["spo2_fast"] = values["spo2_beat_to_beat"] = reading["spo2"]
        return nonin.PACKET.encode(values)


def plx_oximeter(kind: DeviceKind, name: str, oximeter: Oximeter, clock: DeviceClock) -> FrameDevice:
    """Return a Bluetooth oximeter."""
    values = dict(information(model="Oximeter", serial_number=name))
    values[pulse_oximeter.FEATURES_UUID] = pulse_oximeter.FEATURES.encode({})
    outlets = [Outlet(PlxSource(oximeter, clock), origin_s=0.0), battery_outlet()]
    return FrameDevice(kind, name, outlets, clock=clock, values=values)


def nonin_oximeter(kind: DeviceKind, name: str, oximeter: Oximeter, clock: DeviceClock) -> FrameDevice:
    """Return a Nonin oximeter set to serial data format 7."""
    return FrameDevice(kind, name, [Outlet(NoninSource(oximeter, clock), origin_s=0.0)], clock=clock)


def _reading(oximeter: Oximeter, run_s: float) -> dict[str, float]:
    """Return SpO2 and pulse rate shown at a run time, NaN for none."""
    shown = {"spo2": oximeter.spo2_percent(run_s), "pulse_rate": oximeter.pulse_rate_bpm(run_s)}
    return {name: float("nan") if value is None else float(value) for name, value in shown.items()}
