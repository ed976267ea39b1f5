"""Faults of a device: frames cut short or with flipped bits, and a device that is gone in mid-frame.

`Faulty` wraps any simulated device and has its shape, so that every link serves it alike. Faults are seeded and
counted in frames or bytes: the same device fails in the same way every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from firmware_sim.device import DeviceVanishedError, Frame, SimulatedDevice
from protocols.devices.kind import DeviceKind
from protocols.errors import DefinitionError

Fault = Callable[[int, bytes], bytes]
"""Returns what becomes of the frame with this number, counted from 0."""


def truncate(*, every: int, keep: int) -> Fault:
    """Return the fault that cuts every `every`-th frame down to `keep` bytes."""
    _check_every(every)

    def cut(number: int, data: bytes) -> bytes:
        return data[:keep] if (number + 1) % every == 0 else data

    return cut


def flip_bits(*, every: int, n_bits: int = 1, seed: int = 0) -> Fault:
    """Return the fault that flips `n_bits` random bits of every `every`-th frame."""
    _check_every(every)

    def flip(number: int, data: bytes) -> bytes:
        if (number + 1) % every or not data:
            return data
        flipped = bytearray(data)
        rng = np.random.default_rng([seed, number])
        for position in rng.choice(len(data) * 8, size=min(n_bits, len(data) * 8), replace=False):
            flipped[position // 8] ^= 1 << position % 8
        return bytes(flipped)

    return flip


class Faulty:
    """A simulated device with faults.

    Parameters
    ----------
    device
        The sound one.
    faults
        Applied to each frame in this order.
    vanish_after_bytes
        The device is gone once it has sent so many bytes, be it in mid-frame; None: it stays.

    Raises
    ------
    DefinitionError
        If `vanish_after_bytes` is negative.
    """

    def __init__(self, device: SimulatedDevice, *faults: Fault, vanish_after_bytes: int | None = None) -> None:
        if vanish_after_bytes is not None and vanish_after_bytes < 0:
            raise DefinitionError(f"vanish_after_bytes={vanish_after_bytes!r}, expected at least 0")
        self._device = device
        self._faults: Sequence[Fault] = faults
        self._bytes_left = vanish_after_bytes
        self._n_frames = 0
        self.name = device.name

    @property
    def kind(self) -> DeviceKind:
        """What it is."""
        return self._device.kind

    @property
    def finished(self) -> bool:
        """Whether it has sent everything and is still there."""
        return self._device.finished and not self._is_gone()

    @property
    def powered_on_ns(self) -> int | None:
        """Lab time of run time 0."""
        return self._device.powered_on_ns

    @powered_on_ns.setter
    def powered_on_ns(self, powered_on_ns: int | None) -> None:
        self._device.powered_on_ns = powered_on_ns

    @property
    def on_change(self) -> Callable[[], None]:
        """What is called when something may have become due earlier."""
        return self._device.on_change

    @on_change.setter
    def on_change(self, on_change: Callable[[], None]) -> None:
        self._device.on_change = on_change

    def connect(self) -> None:
        """Take note that somebody listens now."""
        self._device.connect()

    def disconnect(self) -> None:
        """Take note that nobody listens any more."""
        self._device.disconnect()

    def read(self, uuid: str) -> bytes:
        """Return a characteristic's value."""
        return self._device.read(uuid)

    def write(self, uuid: str, data: bytes) -> bytes | None:
        """Take a written value."""
        return self._device.write(uuid, data)

    def next_due_s(self) -> float:
        """Return the run time of the next frame, or of now once the device is gone."""
        return 0.0 if self._is_gone() else self._device.next_due_s()

    def advance(self, until_s: float) -> list[Frame]:
        """Return the frames due, with their faults; raises DeviceVanishedError once the device is gone."""
        if self._is_gone():
            raise DeviceVanishedError(f"{self.name} vanished")
        frames = []
        for source, sound in self._device.advance(until_s):
            data = self._left_of(self._faulty(sound))
            if data:
                frames.append((source, data))
            if self._is_gone():
                break
        return frames

    def _is_gone(self) -> bool:
        return self._bytes_left == 0

    def _faulty(self, data: bytes) -> bytes:
        for fault in self._faults:
            data = fault(self._n_frames, data)
        self._n_frames += 1
        return data

    def _left_of(self, data: bytes) -> bytes:
        if self._bytes_left is not None:
            data = data[: self._bytes_left]
            self._bytes_left -= len(data)
        return data


def _check_every(every: int) -> None:
    if every < 1:
        raise DefinitionError(f"every={every!r}, expected at least 1")
