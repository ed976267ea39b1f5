"""A Polar H10: ECG on demand, through its control point, beside what every strap sends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from firmware_sim.device import DeviceClock, FrameDevice, Outlet
from firmware_sim.models.heart_rate import LOCATION_VALUE
from firmware_sim.models.information import information
from firmware_sim.models.waveforms import FramedSignal, Signal
from protocols.devices import polar
from protocols.devices.kind import DeviceKind

CLOCK_START_NS: Final = 599_616_000 * 10**9
"""What the clock shows at power-on: 2019-01-01, in ns since 2000-01-01."""


class PolarEcgSource(FramedSignal):
    """Notifications of 73 samples of ECG in uV, stamped with the clock at the last one."""

    uuid = polar.DATA_UUID

    def __init__(self, signal: Signal) -> None:
        super().__init__(signal, polar.ECG_SAMPLES_PER_FRAME)

    def encode(self, frame: int, origin_s: float) -> bytes:
        """Return a notification."""
        first, n_samples = self.samples_of(frame)
        return polar.ECG_FRAME.encode(
            {
                "timestamp_ns": CLOCK_START_NS + round((origin_s + self.due_s(frame)) * 1e9),
                "ecg": self.signal.values(first, n_samples, origin_s)[0],
            }
        )


def polar_h10(
    kind: DeviceKind, name: str, ecg: Signal, clock: DeviceClock, others: Sequence[Outlet] = ()
) -> FrameDevice:
    """Return an H10.

    Parameters
    ----------
    ecg
        In uV, at 130 Hz; the first start command begins it.
    others
        What it sends besides.
    """
    return FrameDevice(
        kind,
        name,
        [Outlet(PolarEcgSource(ecg), on_connect=False), *others],
        clock=clock,
        values={
            **information(model="H10", serial_number=name),
            **LOCATION_VALUE,
            polar.CONTROL_UUID: polar.FEATURES.encode({"measurements": 1 << polar.ECG_TYPE}),
        },
        controls={polar.CONTROL_UUID: _answer_control},
    )


def _answer_control(device: FrameDevice, request: bytes) -> bytes:
    """Start or stop the ECG as the control point is told; return its reply."""
    outlet = device.outlet(polar.DATA_UUID)
    streaming = outlet.running or outlet.starting
    reply = polar.control_reply(request, streaming=streaming)
    if polar.ecg_streaming(reply, streaming=streaming):
        device.start(polar.DATA_UUID)
    else:
        device.stop(polar.DATA_UUID)
    return reply
