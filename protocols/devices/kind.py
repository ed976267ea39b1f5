"""What a kind of device is: its link, its streams, and a decoder from its bytes to samples.

One `DeviceKind` serves both ends. The gateway connects by its link, feeds every frame to a fresh decoder and
stamps the `Samples` that come out. The simulator offers the same link (GATT table or serial settings) and
encodes with the codecs that the decoder uses.

A decoder does no I/O and knows no time: it passes on what the device itself said (sample counter, device clock,
offsets from the moment of arrival) and leaves UTC to the gateway's clock model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.errors import DecodeError
from protocols.samples import Stream

SERIAL_SOURCE = "serial"
"""The source that a serial device's bytes are fed under."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What one frame said about one stream, before anyone knows the UTC.

    Parameters
    ----------
    stream
        Name of a stream of the kind.
    values
        Raw values, shape (n_channels, n_samples), of the stream's dtype.
    counter
        The device's own count of the first sample, modulo the kind's `counter_modulus[stream]`.
    device_ns
        The device's own clock at the first sample, in ns of its own epoch.
    offsets_ns
        For a stream without rate: time of every sample relative to the frame's arrival, at most 0, shape
        (n_samples,); None means that all happened at arrival.
    boot
        What the device calls the boot that `counter` and `device_ns` count from; None where it does not say.
    """

    stream: str
    values: NDArray[Any]
    counter: int | None = None
    device_ns: int | None = None
    offsets_ns: NDArray[np.int64] | None = None
    boot: int | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """What fed bytes turned out to be: samples, properties by name, and errors of the frames that were bad."""

    samples: tuple[Samples, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[DecodeError, ...] = ()


class Decoder(Protocol):
    """Turns one connection's bytes into samples; a new one for every connection."""

    def feed(self, source: str, data: bytes) -> Decoded:
        """Return what became known by `data` from `source` (a characteristic's UUID or `SERIAL_SOURCE`).

        Never raises for any bytes: what cannot be decoded is in `errors`, one for each bad frame.
        """


@dataclass(frozen=True, slots=True)
class GattCharacteristic:
    """A characteristic by its UUID (full 128-bit form, lower case) and properties (`read`, `notify`, …)."""

    uuid: str
    properties: frozenset[str]


@dataclass(frozen=True, slots=True)
class GattService:
    """A service by its UUID (full 128-bit form, lower case) and its characteristics."""

    uuid: str
    characteristics: tuple[GattCharacteristic, ...]


@dataclass(frozen=True, slots=True)
class GattWrite:
    """A start-up command, written with response; what it answers arrives as an indication and is fed."""

    characteristic: str
    data: bytes


@dataclass(frozen=True, slots=True)
class BleLink:
    """How a BLE device is used: every notifying characteristic is subscribed, then start-up commands are sent.

    `reads` are read once per connection and fed to the decoder (device information, battery level).
    `mtu` is the largest ATT MTU the device negotiates.
    """

    services: tuple[GattService, ...]
    reads: tuple[str, ...] = ()
    startup: tuple[GattWrite, ...] = ()
    mtu: int = 247


@dataclass(frozen=True, slots=True)
class SerialLink:
    """Settings of a serial port, and bytes to send once it is open."""

    baudrate: int
    bytesize: int = 8
    parity: str = "N"
    stopbits: int = 1
    startup: bytes = b""


@dataclass(frozen=True, slots=True)
class DeviceKind:
    """A kind of device.

    Parameters
    ----------
    name
        Lower case with hyphens, as written in a gateway's configuration.
    title
        For people.
    link
        How it is reached.
    streams
        What it can deliver.
    new_decoder
        Makes the decoder of one connection.
    counter_modulus
        By stream name, where the device counts its samples: the count after which it starts again at 0.
    """

    name: str
    title: str
    link: BleLink | SerialLink
    streams: tuple[Stream, ...]
    new_decoder: Callable[[], Decoder]
    counter_modulus: Mapping[str, int] = field(default_factory=dict)

    def stream(self, name: str) -> Stream:
        """Return the stream called `name`; KeyError if the kind has none such."""
        for stream in self.streams:
            if stream.name == name:
                return stream
        raise KeyError(f"stream {name!r} of {self.name}, expected one of {[s.name for s in self.streams]}")
