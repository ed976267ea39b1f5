"""A Fab Lab prototype: a signal in open serial frames."""

from __future__ import annotations

from typing import Final

from firmware_sim.device import DeviceClock, FrameDevice, Outlet
from firmware_sim.models.waveforms import FramedSignal, Signal
from protocols.devices import fablab
from protocols.devices.kind import SERIAL_SOURCE, DeviceKind

_FRAMES_PER_S: Final = 20
_MOST_SAMPLES: Final = 255
_SAMPLE_BYTES: Final = 4000


class FablabSource(FramedSignal):
    """Fab Lab frames, about 20 a second; they carry the device's boot number, sample counter and clock."""

    uuid = SERIAL_SOURCE

    def __init__(self, signal: Signal, *, n_channels: int, boot: int, sample_type: fablab.SampleType) -> None:
        most = min(_MOST_SAMPLES, _SAMPLE_BYTES // (3 * n_channels))
        super().__init__(signal, min(most, max(1, round(signal.rate_hz / _FRAMES_PER_S))))
        self._boot = boot
        self._sample_type = sample_type

    def encode(self, frame: int, origin_s: float) -> bytes:
        """Return a frame, COBS and delimiter included."""
        first, n_samples = self.samples_of(frame)
        return fablab.encode_frame(
            self.signal.values(first, n_samples, origin_s),
            boot=self._boot,
            counter=first,
            device_us=round((origin_s + first / self.signal.rate_hz) * 1e6),
            sample_type=self._sample_type,
        )


def prototype(
    kind: DeviceKind, name: str, signal: Signal, clock: DeviceClock, *, boot: int, origin_s: float | None
) -> FrameDevice:
    """Return a Fab Lab prototype.

    Parameters
    ----------
    kind
        Its one stream has as many channels as the signal.
    boot
        Number of the device's boot, 0 to 65535.
    origin_s
        Device time of the signal's first sample; None: when somebody first listens.
    """
    stream = kind.streams[0]
    source = FablabSource(
        signal,
        n_channels=len(stream.channels),
        boot=boot,
        sample_type="int24" if stream.dtype == "int32" else "int16",
    )
    return FrameDevice(kind, name, [Outlet(source, origin_s=origin_s)], clock=clock)
