"""Compiles a record's definition into `encode`, by writing the function's source text.

The function trusts its values and lets `struct` and missing keys refuse them; it counts the keys it has `used`,
so that a misspelt one does not pass unseen. Values that were refused go to `_fitting`, which mends what can be
mended (whole numbers given as floats, absent ones as None) or says which value cannot be sent, and why.
"""

from __future__ import annotations

import struct
from binascii import crc_hqx
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from protocols.devices.codec import (
    CRC_SEED,
    MISFITS,
    TRAILING,
    Fitting,
    Source,
    array_dtype,
    fitting_number,
    raw_value,
)
from protocols.devices.medfloat import SFLOAT_CODES, encode_float, encode_sfloat
from protocols.errors import DefinitionError

if TYPE_CHECKING:
    from protocols.devices.record import Field, Flag, Record


def compile_encode(record: Record) -> Callable[[Mapping[str, Any]], bytes]:
    """Return the record's `encode`."""
    return encode_source(record).compile("encode")


def encode_source(record: Record) -> Source:
    """Return the source of the record's `encode`, to be read when in doubt."""
    source = Source(record.name, "def encode(values):")
    source.names |= {
        "MISFITS": MISFITS,
        "SFLOAT_CODES": SFLOAT_CODES,
        "encode_sfloat": encode_sfloat,
        "encode_float": encode_float,
        "crc_hqx": crc_hqx,
        "fitting": lambda values, cause: _fitting(record, values, cause),
    }
    source.add("try:")
    source.depth += 1
    n_required = len({part.name for part in record.values if _is_required(record, part)})
    if record.flags:
        _add_flags(source, record, n_required)
    for position, (when, parts) in enumerate(record.groups()):
        if when is not None:
            source.add(f"if {record.condition(when)}:")
            source.depth += 1
        packed = _packed(source, record, parts)
        source.add(f"data {'+=' if position else '='} {packed}")
        source.depth -= when is not None
    _add_trailing(source, record, "used" if record.flags else str(n_required))
    if record.crc:
        source.add(f"data += crc_hqx(data, {CRC_SEED}).to_bytes(2, 'little')")
    source.add("return data")
    source.depth -= 1
    source.add_block("except MISFITS as error:", "cause = error")
    source.add("return encode(fitting(values, cause))")
    return source


def _is_required(record: Record, part: Field) -> bool:
    """Whether the values must hold the field: it is always there, or only its width or type is selected."""
    flag = record.flags.get(part.guard or "")
    return flag is None or flag.above is not None or flag in record.value_flags


def _add_flags(source: Source, record: Record, n_required: int) -> None:
    """Derive the flags, and read the values that they depend on."""
    source.add("flags = 0")
    source.add(f"used = {n_required}")
    optional = [flag for flag in record.flags.values() if flag.above is None]
    for flag in record.flags.values():
        if flag.above is not None:
            name = next(part.name for part in record.fields if part.guard == flag.name)
            source.add_block(f"if values[{name!r}] > {flag.above}:", f"flags |= {flag.mask}")
    if optional:
        source.add(f"if len(values) > {n_required}:")
        source.depth += 1
        for flag in optional:
            if flag in record.value_flags:
                _add_value_flag(source, flag)
            else:
                _add_presence_flag(source, flag, [part for part in record.fields if part.when == flag.name])
        source.depth -= 1


def _add_value_flag(source: Source, flag: Flag) -> None:
    source.add(f"bits = values.get({flag.name!r})")
    source.add_block(
        "if bits is not None:",
        f"if bits >> {flag.width}:",
        "    raise ValueError",
        f"flags |= bits << {flag.bit}",
        "used += 1",
    )


def _add_presence_flag(source: Source, flag: Flag, guarded: list[Field]) -> None:
    for part in guarded:
        source.add(f"{part.name} = values.get({part.name!r})")
    given = " or ".join(f"{part.name} is not None" for part in guarded)
    if guarded[0].single:
        source.add_block(f"if {given}:", f"flags |= {flag.mask}", f"used += {len(guarded)}")
    else:
        source.add_block(
            f"if {given}:", f"if len({guarded[0].name}):", f"    flags |= {flag.mask}", "used += 1"
        )


def _packed(source: Source, record: Record, parts: list[Field]) -> str:
    """Return the expression of the bytes of fields that are written at once."""
    part = parts[0]
    reads = [f"values[{p.name!r}]" if _is_required(record, p) else p.name for p in parts]
    if part.type == "text":
        return f"{reads[0]}.encode()"
    if part.repeat == "array":
        return f"{source.name('write', _array_writer(part))}({reads[0]})"
    if part.repeat == "list":
        source.add(f"numbers = {reads[0]}")
        pack = source.name("pack", _Packers(part.number.letter))
        return f"{pack}[len(numbers)](*[{_raw(part, 'number')} for number in numbers])"
    raws = [_checked_raw(source, p, read) for p, read in zip(parts, reads, strict=True)]
    layout = struct.Struct("<" + "".join(p.number.letter for p in parts))
    return f"{source.name('pack', layout.pack)}({', '.join(raws)})"


def _checked_raw(source: Source, part: Field, read: str) -> str:
    """Return the expression of the raw number; add a test of its limits where the type does not imply them."""
    if part.flags:
        return "flags"
    if part.constant is not None:
        return str(part.constant)
    if not part.limits:
        return _raw(part, read)
    low, high = part.limits
    source.add(f"{part.name} = {_raw(part, read)}")
    source.add_block(f"if not {low} <= {part.name} <= {high}:", "raise ValueError")
    return part.name


def _raw(part: Field, value: str) -> str:
    if part.type == "sfloat":
        return f"SFLOAT_CODES[{value}]" if part.exponent is None else f"encode_sfloat({value}, {part.exponent})"
    if part.type == "float":
        return f"encode_float({value}, {part.exponent})"
    raw = raw_value(value, part.scale)
    if part.number.odd:
        return f"({raw}).to_bytes({part.number.size}, 'little', signed={part.number.signed})"
    return raw


def _add_trailing(source: Source, record: Record, used: str) -> None:
    """Append trailing bytes, the only key that may be left over."""
    if record.takes_rest:
        source.add_block(f"if len(values) != {used}:", "raise KeyError")
        return
    left_over = f"if len(values) != {used} + 1:"
    source.add_block(
        f"if len(values) != {used}:", f"data += values[{TRAILING!r}]", left_over, "    raise KeyError"
    )


class _Packers(dict[int, Callable[..., bytes]]):
    """`pack` of so many numbers, made once for each count."""

    def __init__(self, letter: str) -> None:
        super().__init__()
        self._letter = letter

    def __missing__(self, count: int) -> Callable[..., bytes]:
        self[count] = struct.Struct(f"<{count}{self._letter}").pack
        return self[count]


def _array_writer(part: Field) -> Callable[[Any], bytes]:
    """Make what writes an array of the field's values; raises ValueError where they do not fit."""
    if part.type == "sfloat":
        return lambda values: np.array([encode_sfloat(v, part.exponent) for v in values], "<u2").tobytes()
    if part.type == "float":
        return lambda values: np.array([encode_float(v, part.exponent) for v in values], "<u4").tobytes()
    dtype = array_dtype(part.number)
    low, high = part.limits_raw
    size = part.number.size

    def write(values: Any) -> bytes:
        raw = np.asarray(values)
        if part.scale != 1 or raw.dtype.kind == "f":
            raw = np.rint(raw / part.scale)
        if raw.ndim != 1 or raw.dtype.kind not in "iuf":
            raise ValueError(f"shape {raw.shape}, dtype {raw.dtype}")
        if not (np.minimum.reduce(raw) >= low and np.maximum.reduce(raw) <= high):
            raise ValueError(f"expected {low} to {high}")
        octets = raw.astype(dtype)
        if size != dtype.itemsize:
            octets = octets.view(np.uint8).reshape(-1, dtype.itemsize)[:, :size]
        return octets.tobytes()

    return write


# Values that were refused


def _fitting(record: Record, values: Mapping[str, Any], cause: BaseException) -> Fitting:
    """Return the values in the form that the encoder takes, or say which one cannot be sent."""
    if isinstance(values, Fitting):
        raise DefinitionError(f"values of {record.name}: {cause}") from cause
    if not isinstance(values, Mapping):
        raise DefinitionError(f"values={values!r} of {record.name}, expected a mapping")
    for key in values:
        if key not in record.keys:
            raise DefinitionError(f"value {key!r} of {record.name}, expected only {sorted(record.keys)}")
    given = {key: value for key, value in values.items() if value is not None}
    fitting = Fitting()
    for flag in record.value_flags:
        limits = (0, (1 << flag.width) - 1)
        bits = given.get(flag.name, 0)
        fitting[flag.name] = fitting_number(record.name, flag.name, bits, scale=1, limits=limits, unit="1")
    for part in record.values:
        if part.name in given and not _is_empty(part, given[part.name]):
            fitting[part.name] = _fitting_value(record, part, given[part.name])
    if TRAILING in given:
        fitting[TRAILING] = _fitting_trailing(record, given[TRAILING])
    _check_complete(record, fitting)
    return fitting


def _is_empty(part: Field, value: Any) -> bool:
    """Whether it is an optional list without numbers, which counts as absent."""
    return part.when is not None and part.repeat is not None and np.size(value) == 0


def _fitting_trailing(record: Record, value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray):
        raise DefinitionError(f"{TRAILING}={value!r} of {record.name}, expected bytes")
    return bytes(value)


def _fitting_value(record: Record, part: Field, value: Any) -> Any:
    if part.type == "text":
        try:
            value.encode()
        except (AttributeError, UnicodeEncodeError) as error:
            message = f"{part.name}={value!r} of {record.name}, expected text that UTF-8 can hold"
            raise DefinitionError(message) from error
        return value
    if part.single:
        return _fitting_single(record, part, value)
    numbers = np.asarray(value)
    if numbers.ndim != 1 or not numbers.size:
        raise DefinitionError(f"{part.name} of shape {numbers.shape} of {record.name}, expected (at least 1,)")
    return [_fitting_single(record, part, number) for number in numbers.tolist()]


def _fitting_single(record: Record, part: Field, value: Any) -> int | float:
    if part.number.medical:
        try:
            (encode_sfloat if part.type == "sfloat" else encode_float)(value, part.exponent)
        except (DefinitionError, TypeError, ValueError) as error:
            raise DefinitionError(f"{part.name} of {record.name}: {error}") from error
        return float(value)
    same = [p for p in record.fields if p.name == part.name and _is_alternative(record, p)] or [part]
    limits = min(p.limits_raw[0] for p in same), max(p.limits_raw[1] for p in same)
    return fitting_number(record.name, part.name, value, scale=part.scale, limits=limits, unit=part.unit)


def _is_alternative(record: Record, part: Field) -> bool:
    """Whether the value itself selects this field."""
    flag = record.flags.get(part.guard or "")
    return flag is not None and flag.above is not None


def _check_complete(record: Record, values: Fitting) -> None:
    """Raise where a field is missing that is always there, or beside which another one is given."""
    for part in record.values:
        if part.name in values:
            continue
        if _is_required(record, part):
            raise DefinitionError(f"{part.name} of {record.name} is missing")
        beside = [p.name for p in record.values if p.guard == part.guard and p.name in values]
        if beside:
            raise DefinitionError(f"{part.name} of {record.name} is missing, expected beside {beside[0]}")
