"""Frames: a fixed number of bytes, values in bit slices, sync bits and checksums (serial devices).

A definition is plain data. `Bits` is one value, glued from slices `(byte, lowest bit, width)`, the most
significant first; `Lane` is an array that takes every `stride`-th byte or pair of bytes; `Sum8` is a checksum
that each of `count` equal parts of the frame carries. Values left out of `encode` are sent as their `missing`
code, or 0.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.devices.codec import MISFITS, Fitting, Source, divisor_of, fitting_number, physical, raw_value
from protocols.errors import DecodeError, DefinitionError


@dataclass(frozen=True, slots=True)
class Bits:
    """One value `raw * scale` in `unit`; the raw number `missing` is NaN."""

    name: str
    slices: tuple[tuple[int, int, int], ...]
    missing: int | None = None
    scale: float = 1
    unit: str = "1"
    mdc: int | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """Least and greatest raw number of a value."""
        greatest = (1 << sum(width for _, _, width in self.slices)) - 1
        return 0, greatest - (self.missing == greatest)


@dataclass(frozen=True, slots=True)
class Lane:
    """`count` whole numbers of `size` bytes (1 or 2, most significant first), `stride` bytes apart."""

    name: str
    offset: int
    stride: int
    count: int
    size: int = 1
    unit: str = "1"
    mdc: int | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """Least and greatest number."""
        return 0, (1 << 8 * self.size) - 1


@dataclass(frozen=True, slots=True)
class Sum8:
    """In each of `count` parts of `stride` bytes, byte `at` is the sum of the bytes before it, modulo 256."""

    at: int
    stride: int
    count: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A compiled definition.

    Parameters
    ----------
    name
        For messages.
    size
        Number of bytes.
    fields
        In any order.
    sync
        `(byte, mask, value)`: bits that are the same in every frame. They may lie within a lane, whose other
        bits are then what matters when encoding.
    check
        Its checksum.

    Raises
    ------
    DefinitionError
        If a field or a sync bit lies outside.
    """

    name: str
    size: int
    fields: tuple[Bits | Lane, ...]
    sync: tuple[tuple[int, int, int], ...] = ()
    check: Sum8 | None = None
    decode: Callable[[bytes], dict[str, Any]] = field(init=False, repr=False, compare=False)
    """Return the values of one frame, lanes as arrays; raises only `DecodeError`."""
    encode: Callable[[Mapping[str, Any]], bytes] = field(init=False, repr=False, compare=False)
    """Return the bytes of values; raises `DefinitionError` for those that do not fit."""

    def __post_init__(self) -> None:
        _check(self)
        object.__setattr__(self, "decode", _decode_source(self).compile("decode"))
        object.__setattr__(self, "encode", _encode_source(self).compile("encode"))

    def decode_many(self, frames: bytes | Sequence[bytes]) -> dict[str, NDArray[Any]]:
        """Return the values of many frames, end to end or in a sequence, as arrays.

        Returns
        -------
        By field name: shape (n_frames,), or (n_frames, count) for a lane; float64 with NaN where a value is
        missing or its frame is bad, int64 with 0 in bad frames for fields that cannot be missing. `ok` is False
        where `decode` would raise.

        Raises
        ------
        DecodeError
            If the bytes end to end are no whole number of frames.
        """
        return _decode_many(self, frames)


def _check(frame: Frame) -> None:
    for part in frame.fields:
        last = (
            part.offset + (part.count - 1) * part.stride + part.size - 1
            if isinstance(part, Lane)
            else max(byte for byte, _, _ in part.slices)
        )
        overlaps = isinstance(part, Lane) and part.stride < part.size
        if last >= frame.size or overlaps or not part.name.isidentifier():
            raise DefinitionError(
                f"field {part.name!r} of {frame.name}, expected an identifier within {frame.size} bytes"
            )
    for byte, mask, value in frame.sync:
        if byte >= frame.size or value & ~mask:
            raise DefinitionError(
                f"sync {(byte, mask, value)} of {frame.name}, expected bits within {frame.size} bytes"
            )
    if frame.check and frame.check.stride * frame.check.count != frame.size:
        raise DefinitionError(
            f"check={frame.check} of {frame.name}, expected parts that fill {frame.size} bytes"
        )


def _sync_numbers(frame: Frame) -> tuple[int, int]:
    """Mask and value of all sync bits, the whole frame taken as one number."""
    mask = sum(mask << 8 * byte for byte, mask, _ in frame.sync)
    return mask, sum(value << 8 * byte for byte, _, value in frame.sync)


def _check_weights(check: Sum8) -> NDArray[np.uint8]:
    """Weights with which the bytes of a part sum to 0 modulo 256."""
    weights = np.zeros(check.stride, np.uint8)
    weights[: check.at] = 1
    weights[check.at] = 255
    return weights


# Decoding


def _decode_source(frame: Frame) -> Source:
    source = Source(frame.name, "def decode(data):")
    message = f"{frame.name} of {{len(data)}} bytes, expected {frame.size}"
    source.add_block(f"if len(data) != {frame.size}:", f"raise DecodeError(f{message!r})")
    if frame.sync:
        mask, value = _sync_numbers(frame)
        message = f"{frame.name} {{bytes(data[:16]).hex()}} without its sync bits"
        source.names |= {"SYNC_MASK": mask, "SYNC": value}
        source.add_block(
            "if int.from_bytes(data, 'little') & SYNC_MASK != SYNC:", f"raise DecodeError(f{message!r})"
        )
    if frame.check:
        _add_checksum_test(source, frame, frame.check)
    items = []
    for part in frame.fields:
        if isinstance(part, Lane):
            read = source.name("read", _lane_reader(part))
            items.append(f"{part.name!r}: {read}(data)")
        elif part.missing is None:
            items.append(f"{part.name!r}: {physical(_bits(part), part.scale)}")
        else:
            test = f"(raw := {_bits(part)}) == {part.missing}"
            items.append(f"{part.name!r}: nan if {test} else {physical('raw', part.scale)}")
    source.add("return {")
    source.lines += [f"        {item}," for item in items]
    source.add("}")
    return source


def _add_checksum_test(source: Source, frame: Frame, check: Sum8) -> None:
    source.names |= {
        "ndarray": np.ndarray,
        "uint8": np.uint8,
        "WEIGHTS": _check_weights(check),
        "GOOD": bytes(check.count),
    }
    source.add(f"sums = (ndarray(({check.count}, {check.stride}), uint8, data) @ WEIGHTS).tobytes()")
    message = f"{frame.name} with a wrong checksum in {{{check.count} - sums.count(0)}} of {check.count} parts"
    source.add_block("if sums != GOOD:", f"raise DecodeError(f{message!r})")


def _lane_reader(part: Lane) -> Callable[[bytes], NDArray[Any]]:
    dtype = np.dtype(f">u{part.size}")
    native = dtype.newbyteorder("=")
    shape, offset, strides = (part.count,), part.offset, (part.stride,)

    def read(data: bytes) -> NDArray[Any]:
        return np.ndarray(shape, dtype, data, offset, strides).astype(native)

    return read


def _bits(part: Bits) -> str:
    """Return the expression of the raw number."""
    terms, shift = [], 0
    for byte, low, width in reversed(part.slices):
        term = f"data[{byte}]"
        if low:
            term = f"{term} >> {low}"
        if low + width < 8:
            term = f"{term} & {(1 << width) - 1}"
        terms.append(f"({term}) << {shift}" if shift else f"({term})" if len(part.slices) > 1 else term)
        shift += width
    expression = " | ".join(reversed(terms))
    return f"({expression})"


# Encoding


def _encode_source(frame: Frame) -> Source:
    source = Source(frame.name, "def encode(values):")
    names = frozenset(part.name for part in frame.fields)
    source.names |= {"MISFITS": MISFITS, "known": names}
    source.names["fitting"] = lambda values, cause: _fitting(frame, values, cause)
    source.add("try:")
    source.depth += 1
    source.add_block("if not values.keys() <= known:", "raise KeyError")
    source.add(f"data = bytearray({frame.size})")
    for part in frame.fields:
        if isinstance(part, Lane):
            _add_lane(source, part)
        else:
            _add_bits(source, part)
    if frame.sync:
        mask, value = _sync_numbers(frame)
        source.names |= {"FREE": (1 << 8 * frame.size) - 1 ^ mask, "SYNC": value}
        source.add(f"data = (int.from_bytes(data, 'little') & FREE | SYNC).to_bytes({frame.size}, 'little')")
    if frame.check:
        check = frame.check
        weights = _check_weights(check)
        weights[check.at] = 0
        source.names |= {"ndarray": np.ndarray, "uint8": np.uint8, "WEIGHTS": weights}
        source.add("data = bytearray(data)")
        sums = f"ndarray(({check.count}, {check.stride}), uint8, data) @ WEIGHTS"
        source.add(f"data[{check.at}::{check.stride}] = ({sums}).tobytes()")
    source.add("return bytes(data)")
    source.depth -= 1
    source.add_block("except MISFITS as error:", "cause = error")
    source.add("return encode(fitting(values, cause))")
    return source


def _add_lane(source: Source, part: Lane) -> None:
    source.add(f"numbers = values[{part.name!r}]")
    source.add_block("if hasattr(numbers, 'tolist'):", "numbers = numbers.tolist()")
    end = part.offset + part.stride * part.count
    if part.size == 1:
        source.add_block(f"if len(numbers) != {part.count}:", "raise ValueError")
        source.add(f"data[{part.offset}:{end}:{part.stride}] = bytes(numbers)")
        return
    pack = source.name("pack", struct.Struct(f">{part.count}H").pack)
    source.add(f"packed = {pack}(*numbers)")
    source.add(f"data[{part.offset}:{end}:{part.stride}] = packed[0::2]")
    source.add(f"data[{part.offset + 1}:{end + 1}:{part.stride}] = packed[1::2]")


def _add_bits(source: Source, part: Bits) -> None:
    low, high = part.limits
    default = 0 if part.missing is None else "nan"
    source.add(f"raw = values.get({part.name!r}, {default})")
    if part.missing is not None:
        source.add_block("if raw != raw:", f"raw = {part.missing}")
        source.add("else:")
        source.depth += 1
    if part.scale != 1:
        source.add(f"raw = {raw_value('raw', part.scale)}")
    source.add_block(f"if not {low} <= raw <= {high}:", "raise ValueError")
    source.depth -= part.missing is not None
    shift = sum(width for _, _, width in part.slices)
    for byte, lowest, width in part.slices:
        shift -= width
        bits = f"raw >> {shift} & {(1 << width) - 1}" if shift else f"raw & {(1 << width) - 1}"
        source.add(f"data[{byte}] |= ({bits}) << {lowest}" if lowest else f"data[{byte}] |= {bits}")


def _fitting(frame: Frame, values: Mapping[str, Any], cause: BaseException) -> Fitting:
    """Return the values in the form that the encoder takes, or say which one cannot be sent."""
    if isinstance(values, Fitting):
        raise DefinitionError(f"values of {frame.name}: {cause}") from cause
    if not isinstance(values, Mapping):
        raise DefinitionError(f"values={values!r} of {frame.name}, expected a mapping")
    parts = {part.name: part for part in frame.fields}
    for key in values:
        if key not in parts:
            raise DefinitionError(f"value {key!r} of {frame.name}, expected only {sorted(parts)}")
    fitting = Fitting()
    for name, part in parts.items():
        value = values.get(name)
        if isinstance(part, Lane):
            fitting[name] = _fitting_lane(frame, part, value)
        elif value is not None and not (part.missing is not None and value != value):
            number = fitting_number(
                frame.name, name, value, scale=part.scale, limits=part.limits, unit=part.unit
            )
            fitting[name] = number
    return fitting


def _fitting_lane(frame: Frame, part: Lane, value: Any) -> list[int | float]:
    numbers = np.asarray(value)
    if value is None or numbers.shape != (part.count,):
        raise DefinitionError(f"{part.name} of shape {numbers.shape} of {frame.name}, expected ({part.count},)")
    return [
        fitting_number(frame.name, f"{part.name}[{k}]", number, scale=1, limits=part.limits, unit=part.unit)
        for k, number in enumerate(numbers.tolist())
    ]


# Many frames at once


def _decode_many(frame: Frame, frames: bytes | Sequence[bytes]) -> dict[str, NDArray[Any]]:
    if isinstance(frames, bytes | bytearray | memoryview):
        if len(frames) % frame.size:
            raise DecodeError(f"{len(frames)} bytes, expected a multiple of {frame.size} for {frame.name}")
        octets = np.frombuffer(frames, np.uint8).reshape(-1, frame.size)
        ok = np.ones(len(octets), bool)
    else:
        ok = np.array([len(data) == frame.size for data in frames], bool)
        whole = [data if len(data) == frame.size else bytes(frame.size) for data in frames]
        octets = np.frombuffer(b"".join(whole), np.uint8).reshape(-1, frame.size)
    for byte, mask, value in frame.sync:
        ok &= (octets[:, byte] & mask) == value
    if frame.check:
        parts = octets.reshape(len(octets), frame.check.count, frame.check.stride)
        ok &= ~(parts @ _check_weights(frame.check)).any(axis=1)
    arrays = {part.name: _values(part, octets, ok) for part in frame.fields}
    return arrays | {"ok": ok}


def _values(part: Bits | Lane, octets: NDArray[np.uint8], ok: NDArray[np.bool_]) -> NDArray[Any]:
    if isinstance(part, Lane):
        end = part.offset + part.stride * part.count
        numbers = np.zeros((len(octets), part.count), np.int64)
        for k in range(part.size):
            numbers = numbers << 8 | octets[:, part.offset + k : end + k : part.stride]
        return np.where(ok[:, np.newaxis], numbers, 0)
    raw = np.zeros(len(octets), np.int64)
    for byte, low, width in part.slices:
        raw = raw << width | octets[:, byte] >> low & (1 << width) - 1
    divisor = divisor_of(part.scale)
    values = raw if part.scale == 1 else raw / divisor if divisor else raw * part.scale
    if part.missing is None and part.scale == 1:
        return np.where(ok, values, 0)
    return np.where(ok & (raw != part.missing), values, np.nan)
