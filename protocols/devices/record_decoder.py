"""Compiles a record's definition into `decode`, by writing the function's source text.

What is always there is read first, with one `struct` call, into the dict that is returned. Where fields depend
on flags, an offset `at` moves on from group to group, and running out of bytes shows as `struct.error`, as
IndexError or as an offset beyond the end. Only then is it worked out which field was missing.
"""

from __future__ import annotations

import struct
from binascii import crc_hqx
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protocols.devices.codec import CRC_SEED, TRAILING, Source, array_dtype, physical
from protocols.devices.medfloat import SFLOATS, decode_float, decode_floats, decode_sfloats
from protocols.errors import DecodeError

if TYPE_CHECKING:
    from protocols.devices.record import Field, Flag, Record


def compile_decode(record: Record) -> Callable[[bytes], dict[str, Any]]:
    """Return the record's `decode`."""
    return decode_source(record).compile("decode")


def decode_source(record: Record) -> Source:
    """Return the source of the record's `decode`, to be read when in doubt."""
    source = Source(record.name, "def decode(data):")
    source.names |= {
        "crc_hqx": crc_hqx,
        "struct_error": struct.error,
        "SFLOATS": SFLOATS,
        "decode_float": decode_float,
        "too_short": lambda data: _too_short(record, data),
    }
    prefix, groups = _prefix(record)
    size = sum(part.number.size for part in prefix)
    source.add("size = len(data) - 2" if record.crc else "size = len(data)")
    if size:
        source.add_block(f"if size < {size}:", "raise too_short(data)")
    if record.crc:
        _add_crc_check(source, record)
    items = _add_prefix(source, record, prefix)
    if groups and groups[0][0] is None:
        part = groups[0][1][0]
        items.append(f"{part.name!r}: {_rest(source, record, part, str(size))}")
        source.add(f"return {{{', '.join(items)}}}")
        return source
    source.add(f"values = {{{', '.join(items)}}}")
    if groups:
        _add_conditional(source, record, groups, size)
    else:
        source.add_block(f"if size > {size}:", f"values[{TRAILING!r}] = bytes(data[{size}:size])")
    source.add("return values")
    return source


def _prefix(record: Record) -> tuple[list[Field], list[tuple[str | None, list[Field]]]]:
    """Return the numbers that are always there, first, and the groups that follow."""
    groups = list(record.groups())
    when, first = groups[0]
    return (first, groups[1:]) if when is None and first[0].single else ([], groups)


def _too_short(record: Record, data: bytes) -> DecodeError:
    """Say which field these bytes have no room for."""
    size = len(data) - 2 * record.crc
    what = f"{record.name} of {len(data)} bytes ({bytes(data[:32]).hex()})"
    place = record.flags_place()
    flags = data[place[1]] if place and place[1] < size else 0
    for part, at in record.layout(flags):
        if not part.single:
            return DecodeError(f"{what}, expected whole numbers {part.type} for {part.name} from byte {at} on")
        if at + part.number.size > size:
            least = at + part.number.size + 2 * record.crc
            return DecodeError(f"{what}, expected at least {least} for {part.name}")
    return DecodeError(f"{what}, expected a whole record")


def _add_crc_check(source: Source, record: Record) -> None:
    source.add_block("if size < 0:", "raise too_short(data)")
    source.add(f"crc = crc_hqx(data[:size], {CRC_SEED})")
    found, wanted = "{data[size:].hex()}", "{crc.to_bytes(2, 'little').hex()}"
    message = f"{record.name} of {{len(data)}} bytes with CRC {found}, expected {wanted}"
    source.add_block("if data[size] | data[size + 1] << 8 != crc:", f"raise DecodeError(f{message!r})")


def _add_prefix(source: Source, record: Record, prefix: list[Field]) -> list[str]:
    """Read the numbers that are always there; returns the items of the dict of values."""
    raws = _add_unpack(source, prefix, 0, "0") if prefix else []
    _add_checks(source, record, zip(prefix, raws, strict=True))
    items: list[str] = []
    for part, raw in zip(prefix, raws, strict=True):
        if part.flags:
            items += [_flag_item(flag) for flag in record.value_flags]
        elif part.constant is None:
            items.append(f"{part.name!r}: {_value(part, raw)}")
    return items


def _flag_item(flag: Flag) -> str:
    return f"{flag.name!r}: flags >> {flag.bit} & {(1 << flag.width) - 1}"


def _add_unpack(source: Source, parts: list[Field], index: int, at: str) -> list[str]:
    """Read numbers at an offset; returns the names of the raw numbers."""
    raws = ["flags" if part.flags else f"raw_{index + k}" for k, part in enumerate(parts)]
    if [part.type for part in parts] == ["u8"]:
        source.add(f"{raws[0]} = data[{at}]")
        return raws
    layout = struct.Struct("<" + "".join(part.number.letter for part in parts))
    unpack = source.name("unpack", layout.unpack_from)
    source.add(f"{', '.join(raws)}, = {unpack}(data{'' if at == '0' else ', ' + at})")
    for part, raw in zip(parts, raws, strict=True):
        if part.number.odd:
            source.add(f"{raw} = int.from_bytes({raw}, 'little', signed={part.number.signed})")
    return raws


def _add_checks(source: Source, record: Record, parts: Iterable[tuple[Field, str]]) -> None:
    for part, raw in parts:
        if part.constant is not None:
            test, expected = f"{raw} != {part.constant}", str(part.constant)
        elif part.limits:
            low, high = part.limits
            above_only = low == 0 and not part.number.signed
            test = f"{raw} > {high}" if above_only else f"not {low} <= {raw} <= {high}"
            expected = f"{low} to {high}"
        else:
            continue
        message = f"{part.name}={{{raw}}} of {record.name}, expected {expected}"
        source.add_block(f"if {test}:", f"raise DecodeError(f{message!r})")


def _value(part: Field, raw: str) -> str:
    if part.type == "sfloat":
        return f"SFLOATS[{raw}]"
    if part.type == "float":
        return f"decode_float({raw})"
    return physical(raw, part.scale)


def _add_conditional(
    source: Source, record: Record, groups: list[tuple[str | None, list[Field]]], size: int
) -> None:
    """Read what depends on flags, moving `at` on, and keep what trails."""
    source.add(f"at = {size}")
    source.add("try:")
    source.depth += 1
    previous, index = "", len(record.fields)
    for when, parts in groups:
        if when is not None:
            opposite = when == f"!{previous}" or previous == f"!{when}"
            source.add("else:" if opposite else f"if {record.condition(when)}:")
            source.depth += 1
        if parts[0].single:
            _add_numbers(source, record, parts, index)
        else:
            source.add(f"values[{parts[0].name!r}] = {_rest(source, record, parts[0], 'at')}")
            source.add("at = size")
        source.depth -= when is not None
        previous, index = when or "", index + len(parts)
    source.depth -= 1
    source.add_block("except (struct_error, IndexError):", "raise too_short(data) from None")
    trailing = f"values[{TRAILING!r}] = bytes(data[at:size])"
    source.add_block("if at != size:", "if at > size:", "    raise too_short(data)", trailing)


def _add_numbers(source: Source, record: Record, parts: list[Field], index: int) -> None:
    """Read numbers at the offset `at` into `values`."""
    raws = _add_unpack(source, parts, index, "at")
    _add_checks(source, record, zip(parts, raws, strict=True))
    for part, raw in zip(parts, raws, strict=True):
        if part.constant is None:
            source.add(f"values[{part.name!r}] = {_value(part, raw)}")
    source.add(f"at += {sum(part.number.size for part in parts)}")


def _rest(source: Source, record: Record, part: Field, at: str) -> str:
    """Return the expression of what takes the bytes from `at` to the end."""
    if part.type == "text":
        octets = "data" if at == "0" and not record.crc else f"data[{at}:size]"
        message = f"{record.name} {{bytes({octets})!r}}, expected UTF-8"
        source.add_block("try:", f"text = {octets}.decode()")
        source.add_block("except UnicodeDecodeError as error:", f"raise DecodeError(f{message!r}) from error")
        return "text.rstrip('\\0')"
    source.add(f"count, rest = divmod(size - {at}, {part.number.size})")
    source.add_block("if rest or count < 1:", "raise too_short(data)")
    if part.repeat == "list":
        unpack = source.name("unpack", _Unpackers(part.number.letter))
        return f"[{_value(part, 'raw')} for raw in {unpack}[count](data, {at})]"
    return f"{source.name('read', _array_reader(part))}(data, {at}, count)"


class _Unpackers(dict[int, Callable[..., Any]]):
    """`unpack_from` of so many numbers, made once for each count."""

    def __init__(self, letter: str) -> None:
        super().__init__()
        self._letter = letter

    def __missing__(self, count: int) -> Callable[..., Any]:
        self[count] = struct.Struct(f"<{count}{self._letter}").unpack_from
        return self[count]


def _array_reader(part: Field) -> Callable[[bytes, int, int], NDArray[Any]]:
    """Make what reads `count` numbers from an offset as an array of the field's values."""
    read = _read_3_bytes(part) if part.number.size == 3 else _read_whole(part)
    if part.type == "sfloat":
        return lambda data, at, count: decode_sfloats(read(data, at, count))
    if part.type == "float":
        return lambda data, at, count: decode_floats(read(data, at, count))
    if part.scale != 1:
        return lambda data, at, count: read(data, at, count) * part.scale
    return read


def _read_whole(part: Field) -> Callable[[bytes, int, int], NDArray[Any]]:
    dtype = array_dtype(part.number)
    return lambda data, at, count: np.frombuffer(data, dtype, count, at)


def _read_3_bytes(part: Field) -> Callable[[bytes, int, int], NDArray[Any]]:
    """Read each number with the byte before it, which the shift drops while it keeps the sign."""
    dtype = array_dtype(part.number)

    def read(data: bytes, at: int, count: int) -> NDArray[Any]:
        padded = b"\0" + data[at : at + 3 * count]
        numbers: NDArray[Any] = np.ndarray(count, dtype, padded, 0, 3)
        return np.asarray(numbers >> 8)

    return read
