"""Continuous signals, live from a subject or out of a recording, and how they are cut into frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from firmware_sim.device import DeviceClock
from firmware_sim.signals.ecg import EcgLead
from firmware_sim.signals.ppg import red_infrared
from firmware_sim.signals.subject import Subject


class Signal(Protocol):
    """Integer samples at a steady rate of the device's clock."""

    @property
    def rate_hz(self) -> float:
        """Samples per second of the device's clock."""

    @property
    def n_samples(self) -> int | None:
        """How many there are; None for no end."""

    def values(self, first: int, n_samples: int, origin_s: float) -> NDArray[Any]:
        """Return samples, shape (n_channels, n_samples); sample 0 is taken at device time `origin_s`."""


@dataclass(frozen=True, slots=True)
class LiveEcg:
    """The ECG of a subject's leads in whole uV."""

    leads: Sequence[EcgLead]
    rate_hz: float
    clock: DeviceClock
    n_samples: None = None

    def values(self, first: int, n_samples: int, origin_s: float) -> NDArray[np.int32]:
        """Return samples, shape (n_leads, n_samples)."""
        run_s = _run_s(self.clock, origin_s, self.rate_hz, first, n_samples)
        return np.stack([np.rint(lead.samples_uv(run_s, first)) for lead in self.leads]).astype(np.int32)


@dataclass(frozen=True, slots=True)
class LivePpg:
    """Red and infrared light of a finger sensor in whole counts."""

    subject: Subject
    rate_hz: float
    clock: DeviceClock
    n_samples: None = None

    def values(self, first: int, n_samples: int, origin_s: float) -> NDArray[np.int32]:
        """Return samples, shape (2, n_samples)."""
        run_s = _run_s(self.clock, origin_s, self.rate_hz, first, n_samples)
        return np.rint(red_infrared(run_s, self.subject)).astype(np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class RecordedSignal:
    """Samples that are known beforehand, shape (n_channels, n_samples)."""

    samples: NDArray[Any]
    rate_hz: float

    @property
    def n_samples(self) -> int:
        """How many there are per channel."""
        return int(self.samples.shape[1])

    def values(self, first: int, n_samples: int, origin_s: float) -> NDArray[Any]:  # noqa: ARG002
        """Return samples, shape (n_channels, n_samples)."""
        return self.samples[:, first : first + n_samples]


class FramedSignal:
    """A signal cut into frames of equally many samples; the last one of a signal with an end may be shorter.

    A frame is due when its last sample is taken.
    """

    def __init__(self, signal: Signal, samples_per_frame: int) -> None:
        self.signal = signal
        self.samples_per_frame = samples_per_frame

    @property
    def period_s(self) -> float:
        """Device seconds between frames."""
        return self.samples_per_frame / self.signal.rate_hz

    @property
    def n_frames(self) -> int | None:
        """How many frames there are; None for no end."""
        n_samples = self.signal.n_samples
        return None if n_samples is None else -(-n_samples // self.samples_per_frame)

    def due_s(self, frame: int) -> float:
        """Return when the frame's last sample is taken."""
        first, n_samples = self.samples_of(frame)
        return (first + n_samples - 1) / self.signal.rate_hz

    def samples_of(self, frame: int) -> tuple[int, int]:
        """Return index of the first sample and number of samples of a frame."""
        first = frame * self.samples_per_frame
        if self.signal.n_samples is None:
            return first, self.samples_per_frame
        return first, min(self.samples_per_frame, self.signal.n_samples - first)


def _run_s(
    clock: DeviceClock, origin_s: float, rate_hz: float, first: int, n_samples: int
) -> NDArray[np.float64]:
    """Return the run times of samples."""
    device_s = origin_s + np.arange(first, first + n_samples, dtype=np.float64) / rate_hz
    return device_s / clock.device_s(1.0)
