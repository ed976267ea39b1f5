"""How a device and its streams are at one moment: what the terminal, the health report and the log show."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from protocols.devices.battery import STREAM as BATTERY
from protocols.samples import SampleBlock, Stream

RATE_WINDOW_S: Final = 5.0


class DeviceState(enum.StrEnum):
    """Where a device stands."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    """Connected; no sample came yet."""
    STREAMING = "streaming"
    SILENT = "silent"
    """Connected, and samples that should come do not."""
    WAITING = "waiting"
    """Not connected; the next attempt follows after a pause."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """What is known of one stream; counts are since the gateway started.

    Parameters
    ----------
    rate_hz
        Samples per lab second over the last `RATE_WINDOW_S`.
    samples, blocks
        Stored.
    lost_samples
        Missing, as far as their number is known; those refused by the spool included.
    gaps
        Stretches in which samples are missing, the present one included.
    gap_open
        Whether samples are missing now.
    duplicate_frames
        Left out because they repeated the one before.
    refused_samples
        Not stored because the spool was full.
    silent
        Whether the device is connected and this stream should bring samples and does not.
    newest
        The last block that was stored.
    """

    stream: Stream
    rate_hz: float = 0.0
    samples: int = 0
    blocks: int = 0
    lost_samples: int = 0
    gaps: int = 0
    gap_open: bool = False
    duplicate_frames: int = 0
    refused_samples: int = 0
    silent: bool = False
    newest: SampleBlock | None = None

    @property
    def name(self) -> str:
        """Name of the stream."""
        return self.stream.name

    @property
    def quality(self) -> float | None:
        """Share of the samples due in the last seconds that came, 0 to 1; None for a stream without rate."""
        return None if self.stream.rate_hz is None else min(1.0, self.rate_hz / self.stream.rate_hz)


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """What is known of a device at one moment; counts are since the gateway started.

    Parameters
    ----------
    state
        Streaming once samples came over the present connection and all streams that should come do.
    alarm
        What is wrong when everything that could be tried has been tried; empty if nothing is.
    silences
        How often the device fell silent while connected.
    lost_samples
        Missing in all streams, as far as their number is known.
    duplicate_frames
        Left out because they repeated the one before.
    refused_blocks, refused_frames
        Not stored because the spool was full: blocks of samples, and raw frames.
    last_error
        The latest decode or transport error; empty if none.
    """

    name: str
    kind: str
    state: DeviceState = DeviceState.CONNECTING
    connections: int = 0
    frames: int = 0
    bytes: int = 0
    samples: int = 0
    blocks: int = 0
    lost_samples: int = 0
    duplicate_frames: int = 0
    decode_errors: int = 0
    refused_blocks: int = 0
    refused_frames: int = 0
    silences: int = 0
    alarm: str = ""
    last_error: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    streams: tuple[StreamHealth, ...] = ()

    def stream(self, name: str) -> StreamHealth:
        """Return the stream called `name`; KeyError if there is none."""
        for stream in self.streams:
            if stream.name == name:
                return stream
        raise KeyError(f"stream {name!r} of {self.name}, expected one of {[s.name for s in self.streams]}")

    @property
    def battery_percent(self) -> float | None:
        """The last battery level in %; None if the device told none."""
        for stream in self.streams:
            if stream.stream == BATTERY and stream.newest is not None:
                return float(stream.newest.physical()[0, -1])
        return None


class RateMeter:
    """Rate of a stream over the last `RATE_WINDOW_S` real seconds."""

    def __init__(self) -> None:
        self._spans: deque[tuple[float, int]] = deque()
        self._window_s = 0.0
        self._samples = 0
        self._fresh = 0

    def count(self, n_samples: int) -> None:
        """Take note of samples."""
        self._fresh += n_samples

    def tick(self, elapsed_s: float) -> None:
        """Take note that so much real time has passed since the last tick."""
        self._spans.append((elapsed_s, self._fresh))
        self._window_s += elapsed_s
        self._samples += self._fresh
        self._fresh = 0
        while self._window_s - self._spans[0][0] >= RATE_WINDOW_S:
            span_s, samples = self._spans.popleft()
            self._window_s -= span_s
            self._samples -= samples

    def rate_hz(self, *, speed: float) -> float:
        """Return samples per lab second; 0 before the first tick."""
        return self._samples / (self._window_s * speed) if self._window_s > 0 else 0.0
