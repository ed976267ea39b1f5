"""The Fab Lab frame: an open serial format in which a prototype sends several channels at up to 2 kHz and more.

`docs/fablab_frame.md` tells firmware authors byte by byte. In short: COBS with a zero byte after each frame;
before COBS a header with boot id, sample counter and microsecond clock, samples channel by channel, and a CRC.
The counter makes every loss countable in samples; a new boot id tells that counter and clock have started
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from protocols.devices.framing import DELIMITER, CobsFramer, cobs_encode
from protocols.devices.kind import Decoded, DeviceKind, Samples, SerialLink
from protocols.devices.record import Field, Flag, Record
from protocols.errors import DecodeError, DefinitionError
from protocols.samples import Channel, Stream

SampleType = Literal["int16", "int24"]

VERSION: Final = 1
MAX_LENGTH: Final = 4096
"""Most bytes a frame may have before COBS."""
COUNTER_MODULUS: Final = 1 << 32
DEFAULT_BAUDRATE: Final = 921_600

FRAME = Record(
    "fablab_frame",
    (
        Field("version", "u8", constant=VERSION),
        Field("flags", "u8", flags=(Flag("int24", 0),)),
        Field("boot", "u16"),
        Field("counter", "u32"),
        Field("device_us", "u32", unit="us"),
        Field("n_channels", "u8"),
        Field("n_samples", "u8"),
        Field("samples", "i16", when="!int24", repeat="array"),
        Field("samples", "i24", when="int24", repeat="array"),
    ),
    crc=True,
)
"""A frame before COBS; `samples` holds the first sample of every channel, then the second of every channel."""

_DTYPES: dict[SampleType, str] = {"int16": "int16", "int24": "int32"}


def encode_frame(
    values: NDArray[np.integer[Any]],
    *,
    boot: int,
    counter: int,
    device_us: int,
    sample_type: SampleType = "int16",
) -> bytes:
    """Return a whole frame, COBS and delimiter included.

    Parameters
    ----------
    values
        Raw samples, shape (n_channels, n_samples), 1 to 255 each, at most `MAX_LENGTH` bytes in all.
    boot
        Number of the device's boot, 0 to 65535.
    counter
        Index of the first sample since boot; sent modulo 2^32.
    device_us
        Device clock at the first sample in us since boot; sent modulo 2^32.

    Raises
    ------
    DefinitionError
        If anything does not fit.
    """
    _check_sample_type(sample_type)
    values = np.asarray(values)
    if values.ndim != 2 or not values.size:
        raise DefinitionError(
            f"values of shape {values.shape}, expected (n_channels, n_samples), each at least 1"
        )
    data = FRAME.encode(
        {
            "int24": sample_type == "int24",
            "boot": boot,
            "counter": counter % COUNTER_MODULUS,
            "device_us": device_us % COUNTER_MODULUS,
            "n_channels": values.shape[0],
            "n_samples": values.shape[1],
            "samples": values.T.ravel(),
        }
    )
    if len(data) > MAX_LENGTH:
        raise DefinitionError(
            f"values of shape {values.shape} make {len(data)} bytes, expected at most {MAX_LENGTH}"
        )
    return cobs_encode(data) + DELIMITER


def decode_frame(data: bytes) -> dict[str, Any]:
    """Return the values of a frame (without COBS and delimiter), `samples` of shape (n_channels, n_samples).

    Raises
    ------
    DecodeError
        If checksum, version or length are wrong.
    """
    values = FRAME.decode(data)
    n_channels, n_samples, samples = values["n_channels"], values["n_samples"], values["samples"]
    if n_channels * n_samples != len(samples):
        raise DecodeError(f"{len(samples)} numbers in a fablab_frame, expected {n_channels} times {n_samples}")
    values["samples"] = samples.reshape(n_samples, n_channels).T
    return values


class FablabDecoder:
    """Decodes the frames of one connection into samples of `stream`."""

    def __init__(self, stream: Stream, sample_type: SampleType) -> None:
        self._stream = stream
        self._int24 = sample_type == "int24"
        self._framer = CobsFramer(MAX_LENGTH)
        self._boot: int | None = None
        self._clock_us = 0

    def feed(self, source: str, data: bytes) -> Decoded:  # noqa: ARG002 (a serial device has one source)
        """Return the samples of the frames that `data` completes."""
        frames, errors = self._framer.feed(data)
        samples: list[Samples] = []
        for frame in frames:
            try:
                samples.append(self._samples(decode_frame(frame)))
            except DecodeError as error:
                errors.append(error)
        return Decoded(samples=tuple(samples), errors=tuple(errors))

    def _samples(self, values: dict[str, Any]) -> Samples:
        n_channels = len(self._stream.channels)
        if values["n_channels"] != n_channels or values["int24"] != self._int24:
            bits = 24 if values["int24"] else 16
            what = f"fablab_frame of {values['n_channels']} channels of {bits} bits"
            raise DecodeError(f"{what}, expected {n_channels} of {24 if self._int24 else 16} as configured")
        return Samples(
            self._stream.name,
            values["samples"],
            counter=values["counter"],
            device_ns=1000 * self._unwrapped_us(values["boot"], values["device_us"]),
            boot=values["boot"],
        )

    def _unwrapped_us(self, boot: int, device_us: int) -> int:
        """Device clock without its wrap every 71.6 minutes, as long as the connection and the boot last."""
        if boot != self._boot:
            self._boot, self._clock_us = boot, device_us
        else:
            half = COUNTER_MODULUS // 2
            self._clock_us += (device_us - self._clock_us + half) % COUNTER_MODULUS - half
        return self._clock_us


def fablab(
    *,
    channels: Sequence[Channel],
    rate_hz: float,
    sample_type: SampleType = "int16",
    baudrate: int = DEFAULT_BAUDRATE,
    stream: str = "signal",
) -> DeviceKind:
    """Return the kind of a prototype that sends Fab Lab frames.

    Parameters
    ----------
    channels
        1 to 255, in the order of the frame.
    rate_hz
        Nominal rate.

    Raises
    ------
    DefinitionError
        If an option has a bad value.
    """
    _check_sample_type(sample_type)
    if len(channels) > 255:
        raise DefinitionError(f"{len(channels)} channels, expected at most 255")
    if baudrate < 1:
        raise DefinitionError(f"baudrate={baudrate!r}, expected at least 1")
    signal = Stream(stream, tuple(channels), _DTYPES[sample_type], rate_hz)
    return DeviceKind(
        name="fablab",
        title="Fab Lab prototype (open serial frame)",
        link=SerialLink(baudrate=baudrate),
        streams=(signal,),
        new_decoder=lambda: FablabDecoder(signal, sample_type),
        counter_modulus={signal.name: COUNTER_MODULUS},
    )


def _check_sample_type(sample_type: str) -> None:
    if sample_type not in _DTYPES:
        raise DefinitionError(f"sample_type={sample_type!r}, expected one of {sorted(_DTYPES)}")
