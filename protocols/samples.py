"""The one record that flows: a block of samples of one stream of one device, and what describes it.

Values stay in the device's own integer or float type; a `Channel` says how they become physical values
(`raw * scale + offset`, in a UCUM unit) and what they measure (IEEE 11073-10101 code). A regular stream has
a nominal rate; an irregular one (RR intervals, battery level, spot readings) carries a time for every sample.

A sample is identified by `(gateway, device, stream, boot_id, sample_index)`; whoever stores it twice under that
identity has stored it once.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocols.errors import DefinitionError

DTYPES: Final = (
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
)

MIN_RATE_HZ: Final = 1e-6
MAX_RATE_HZ: Final = 1e9

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_INT64_END = 1 << 63


@dataclass(frozen=True, slots=True)
class Channel:
    """One measured quantity: `raw * scale + offset` is its value in `unit`.

    Parameters
    ----------
    name
        Lower-case identifier, unique in its stream.
    unit
        UCUM code, case sensitive (`uV`, `%`, `/min`, `1` for a pure number).
    mdc
        IEEE 11073-10101 context-free code, `partition << 16 | term`; None where there is none.
    scale, offset
        Finite; `scale` is not zero.

    Raises
    ------
    DefinitionError
        Names the field at fault.
    """

    name: str
    unit: str
    mdc: int | None = None
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        _check_name("channel name", self.name)
        if not self.unit or not self.unit.isascii() or " " in self.unit:
            raise DefinitionError(f"unit={self.unit!r} of channel {self.name}, expected a UCUM code")
        if self.mdc is not None and not 0 < self.mdc < 1 << 32:
            raise DefinitionError(f"mdc={self.mdc!r} of channel {self.name}, expected 1 to 2^32-1 or None")
        if not (math.isfinite(self.scale) and self.scale != 0):
            raise DefinitionError(f"scale={self.scale!r} of channel {self.name}, expected finite and not 0")
        if not math.isfinite(self.offset):
            raise DefinitionError(f"offset={self.offset!r} of channel {self.name}, expected finite")


@dataclass(frozen=True, slots=True)
class Stream:
    """Channels that a device samples together.

    Parameters
    ----------
    name
        Lower-case identifier, unique in its device.
    channels
        At least one, with different names.
    dtype
        Numpy name of the raw values' type, one of `DTYPES`.
    rate_hz
        Nominal rate, `MIN_RATE_HZ` to `MAX_RATE_HZ`; None where every sample carries its own time.

    Raises
    ------
    DefinitionError
        Names the field at fault.
    """

    name: str
    channels: tuple[Channel, ...]
    dtype: str
    rate_hz: float | None

    def __post_init__(self) -> None:
        _check_name("stream name", self.name)
        if not self.channels:
            raise DefinitionError(f"stream {self.name} has no channels, expected at least 1")
        names = [channel.name for channel in self.channels]
        if len(set(names)) != len(names):
            raise DefinitionError(f"channels {names} of stream {self.name}, expected different names")
        if self.dtype not in DTYPES:
            raise DefinitionError(f"dtype={self.dtype!r} of stream {self.name}, expected one of {DTYPES}")
        if self.rate_hz is not None and not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:
            expected = f"{MIN_RATE_HZ:g} to {MAX_RATE_HZ:g} or None"
            raise DefinitionError(f"rate_hz={self.rate_hz!r} of stream {self.name}, expected {expected}")

    def to_json(self) -> str:
        """Return the description as canonical JSON, equal for equal streams."""
        channels = [
            {"name": c.name, "unit": c.unit, "mdc": c.mdc, "scale": c.scale, "offset": c.offset}
            for c in self.channels
        ]
        description = {"name": self.name, "channels": channels, "dtype": self.dtype, "rate_hz": self.rate_hz}
        return json.dumps(description, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Stream:
        """Return the stream that `to_json` described.

        Raises
        ------
        DefinitionError
            If the text is not such a description.
        """
        try:
            description = json.loads(text)
            channels = tuple(Channel(**channel) for channel in description.pop("channels"))
            return cls(channels=channels, **description)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DefinitionError(f"stream description {text[:80]!r}: {error}") from error

    def physical(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return raw values of shape (n_channels, ...) in the channels' units, as float64."""
        column = (len(self.channels),) + (1,) * (values.ndim - 1)
        scale = np.array([c.scale for c in self.channels]).reshape(column)
        offset = np.array([c.offset for c in self.channels]).reshape(column)
        return np.asarray(values * scale + offset, dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class SampleBlock:
    """Consecutive samples of one stream, with everything known about when they were taken.

    Parameters
    ----------
    device
        Name of the device at its gateway.
    stream
        What the samples are.
    boot_id
        Names one uninterrupted count of `sample_index`, 0 to 2^63-1; larger is later.
    first_index
        Index of the first sample within `boot_id`, 0 to 2^63-1.
    start_ns
        UTC of the first sample, ns since 1970.
    values
        Raw values, shape (n_channels, n_samples), at least one sample, of the stream's dtype. Kept read-only.
    arrival_ns, arrival_monotonic_ns
        When the gateway received the first of these samples: UTC, and its monotonic clock.
    uncertainty_ns
        Half width of the interval that holds the true `start_ns`, at least 0.
    device_ns
        The device's own clock at the first sample, in ns of its own epoch; None where it has none.
    times_ns
        UTC of every sample, shape (n_samples,), for a stream without rate; None otherwise. Kept read-only.

    Raises
    ------
    DefinitionError
        Names the field at fault.
    """

    device: str
    stream: Stream
    boot_id: int
    first_index: int
    start_ns: int
    values: NDArray[Any]
    arrival_ns: int
    arrival_monotonic_ns: int
    uncertainty_ns: int
    device_ns: int | None = None
    times_ns: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        check_device_name(self.device)
        for name in ("boot_id", "first_index"):
            _check_range(name, getattr(self, name), 0, _INT64_END)
        for name in ("start_ns", "arrival_ns", "arrival_monotonic_ns"):
            _check_range(name, getattr(self, name), -_INT64_END, _INT64_END)
        _check_range("uncertainty_ns", self.uncertainty_ns, 0, _INT64_END)
        if self.device_ns is not None:
            _check_range("device_ns", self.device_ns, 1 - _INT64_END, _INT64_END)
        n_channels = len(self.stream.channels)
        if self.values.ndim != 2 or self.values.shape[0] != n_channels or self.values.shape[1] == 0:
            expected = f"({n_channels}, at least 1)"
            raise DefinitionError(f"values of shape {self.values.shape}, expected {expected}")
        if self.values.dtype != np.dtype(self.stream.dtype):
            raise DefinitionError(f"values of dtype {self.values.dtype}, expected {self.stream.dtype}")
        object.__setattr__(self, "values", _read_only(self.values))
        _check_range("first_index + n_samples", self.first_index + self.n_samples, 1, _INT64_END + 1)
        if self.stream.rate_hz is not None:
            span_ns = round((self.n_samples - 1) * 1e9 / self.stream.rate_hz)
            for name, first_ns in (("start_ns", self.start_ns), ("device_ns", self.device_ns or 0)):
                _check_range(f"{name} of the last sample", first_ns + span_ns, -_INT64_END, _INT64_END)
        if (self.times_ns is None) != (self.stream.rate_hz is not None):
            raise DefinitionError(
                f"times_ns of stream {self.stream.name}, expected exactly where it has no rate_hz"
            )
        if self.times_ns is not None:
            if self.times_ns.shape != (self.n_samples,) or self.times_ns.dtype != np.int64:
                raise DefinitionError(
                    f"times_ns of shape {self.times_ns.shape} and dtype {self.times_ns.dtype}, "
                    f"expected ({self.n_samples},) and int64"
                )
            object.__setattr__(self, "times_ns", _read_only(self.times_ns))

    @property
    def n_samples(self) -> int:
        """Number of samples per channel."""
        return int(self.values.shape[1])

    def sample_times_ns(self) -> NDArray[np.int64]:
        """Return the UTC of every sample in ns, shape (n_samples,)."""
        if self.times_ns is not None:
            return self.times_ns
        return self.start_ns + sample_offsets_ns(self.n_samples, rate_hz=self.stream.rate_hz or math.nan)

    def physical(self) -> NDArray[np.float64]:
        """Return the values in the channels' units, shape (n_channels, n_samples)."""
        return self.stream.physical(self.values)

    def between(self, start_ns: int, end_ns: int) -> SampleBlock | None:
        """Return the samples with times in `[start_ns, end_ns)` as a block, or None if there are none."""
        times_ns = self.sample_times_ns()
        chosen = np.flatnonzero((times_ns >= start_ns) & (times_ns < end_ns))
        if chosen.size == 0:
            return None
        first, end = int(chosen[0]), int(chosen[-1]) + 1
        if (first, end) == (0, self.n_samples):
            return self
        device_ns = self.device_ns
        if device_ns is not None:
            device_ns += int(times_ns[first]) - self.start_ns
        return SampleBlock(
            device=self.device,
            stream=self.stream,
            boot_id=self.boot_id,
            first_index=self.first_index + first,
            start_ns=int(times_ns[first]),
            values=self.values[:, first:end],
            arrival_ns=self.arrival_ns,
            arrival_monotonic_ns=self.arrival_monotonic_ns,
            uncertainty_ns=self.uncertainty_ns,
            device_ns=device_ns,
            times_ns=None if self.times_ns is None else self.times_ns[first:end],
        )

    def __eq__(self, other: object) -> bool:
        """Bit-for-bit equality, NaN payloads included."""
        if not isinstance(other, SampleBlock):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        times = None if self.times_ns is None else self.times_ns.tobytes()
        return (
            self.device,
            self.stream,
            self.boot_id,
            self.first_index,
            self.start_ns,
            self.values.tobytes(),
            self.arrival_ns,
            self.arrival_monotonic_ns,
            self.uncertainty_ns,
            self.device_ns,
            times,
        )


def sample_offsets_ns(n_samples: int, *, rate_hz: float) -> NDArray[np.int64]:
    """Return the time of samples 0 to n-1 after the first, in ns, shape (n_samples,)."""
    offsets_ns: NDArray[np.int64] = np.rint(np.arange(n_samples) * (1e9 / rate_hz)).astype(np.int64)
    return offsets_ns


def check_device_name(name: str) -> None:
    """Raise `DefinitionError` unless `name` can stand in an MQTT topic and a file name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise DefinitionError(
            f"device name {name!r}, expected 1 to 64 of letters, digits, '_', '.', '-', first a letter or digit"
        )


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise DefinitionError(f"{what} {name!r}, expected lower-case letters, digits and '_', first a letter")


def _check_range(name: str, value: int, low: int, end: int) -> None:
    if not low <= value < end:
        raise DefinitionError(f"{name}={value!r}, expected {low} <= {name} < {end}")


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    if array.flags.writeable or not array.flags.c_contiguous:
        array = np.array(array, order="C")
        array.flags.writeable = False
    return array
