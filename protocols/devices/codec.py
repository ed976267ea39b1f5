"""What records and frames share: numbers on the wire, their units, and generated functions.

A codec is defined once, as plain data (names, numbers, tuples), and compiled once into Python functions by
writing their source text and executing it, as `dataclasses` does: nothing is interpreted for each frame.

- `decode(data)` returns a dict of physical values and raises only `DecodeError`.
- `encode(values)` returns the bytes of such a dict. It takes anything number-like and rounds to the resolution
  of the wire; what does not fit raises `DefinitionError` naming field, value and range. Nothing ever wraps.
- `decode_many(frames)` returns a dict of arrays and the mask `ok`, and raises for no frame.

Encoding has a fast path that trusts its input and lets `struct` refuse what is wrong, and `fitting`, which is
asked only after such a refusal: it either mends the values (rounds, unwraps arrays) or says which one cannot be
sent.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from operator import index
from typing import Any, Final

import numpy as np

from protocols.errors import DecodeError, DefinitionError

TRAILING: Final = "trailing"
"""Key of the bytes after a record's last field."""
CRC_SEED: Final = 0xFFFF
"""Start of the CRC-16/IBM-3740 (`binascii.crc_hqx`)."""
MISFITS: Final = (struct.error, TypeError, ValueError, KeyError, OverflowError, AttributeError)
"""What the generated encoders may meet in values that do not fit."""


class Fitting(dict[str, Any]):
    """Values that have been checked against a definition."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number on the wire, least significant byte first."""

    size: int
    letter: str
    """Its `struct` format; numbers of 3 and 5 bytes are taken as bytes."""
    signed: bool = False
    medical: bool = False

    @property
    def odd(self) -> bool:
        """Whether `struct` has no such number."""
        return self.letter.endswith("s")

    @property
    def limits(self) -> tuple[int, int]:
        """Least and greatest raw value."""
        bits = 8 * self.size
        return (-1 << bits - 1, (1 << bits - 1) - 1) if self.signed else (0, (1 << bits) - 1)


NUMBERS: Final[dict[str, Number]] = {
    "u8": Number(1, "B"),
    "i8": Number(1, "b", signed=True),
    "u16": Number(2, "H"),
    "i16": Number(2, "h", signed=True),
    "u24": Number(3, "3s"),
    "i24": Number(3, "3s", signed=True),
    "u32": Number(4, "I"),
    "i32": Number(4, "i", signed=True),
    "u40": Number(5, "5s"),
    "u64": Number(8, "Q"),
    "i64": Number(8, "q", signed=True),
    "sfloat": Number(2, "H", medical=True),
    "float": Number(4, "I", medical=True),
}


def array_dtype(number: Number) -> np.dtype[Any]:
    """Return the numpy type that holds such numbers."""
    size = 1 << (number.size - 1).bit_length()
    return np.dtype(f"<{'i' if number.signed else 'u'}{size}")


class Source:
    """Source text of one function, grown line by line, and the objects it names."""

    def __init__(self, title: str, header: str) -> None:
        self.title = title
        self.lines = [header]
        self.names: dict[str, Any] = {"DecodeError": DecodeError, "nan": math.nan}
        self.depth = 1

    def add(self, line: str) -> None:
        """Append a line at the present depth."""
        self.lines.append("    " * self.depth + line)

    def add_block(self, opening: str, *lines: str) -> None:
        """Append an opening line and lines one level deeper."""
        self.add(opening)
        self.lines.extend("    " * (self.depth + 1) + line for line in lines)

    def name(self, prefix: str, thing: Any) -> str:
        """Return a name under which the function finds `thing`."""
        name = f"{prefix}_{len(self.names)}"
        self.names[name] = thing
        return name

    @property
    def text(self) -> str:
        """The whole function."""
        return "\n".join(self.lines)

    def compile(self, function: str) -> Callable[..., Any]:
        """Return the function called `function` that the text defines."""
        exec(compile(self.text, f"<{self.title}.{function}>", "exec"), self.names)  # noqa: S102 (our own text)
        compiled: Callable[..., Any] = self.names[function]
        return compiled


def divisor_of(scale: float) -> int | None:
    """Return n where `scale` is 1/n: dividing by n is exactly rounded where multiplying by `scale` is not."""
    if scale == 0 or abs(scale) >= 1:
        return None
    divisor = round(1 / scale)
    return divisor if 1 / divisor == scale else None


def physical(raw: str, scale: float) -> str:
    """Return the expression of the physical value of the expression `raw`."""
    if scale == 1:
        return raw
    divisor = divisor_of(scale)
    return f"{raw} / {divisor}" if divisor else f"{raw} * {scale!r}"


def raw_value(value: str, scale: float) -> str:
    """Return the expression of the whole number on the wire for the expression `value`."""
    if scale == 1:
        return value
    divisor = divisor_of(scale)
    return f"round({value} * {divisor})" if divisor else f"round({value} / {scale!r})"


def fitting_number(
    codec: str, name: str, value: Any, *, scale: float, limits: tuple[int, int], unit: str
) -> int | float:
    """Return `value` as a whole multiple of `scale` whose raw number is within `limits`.

    Raises
    ------
    DefinitionError
        If it is not a number or does not fit.
    """
    low, high = limits
    try:
        raw = index(value) if scale == 1 and hasattr(value, "__index__") else round(float(value) / scale)
    except (TypeError, ValueError, OverflowError) as error:
        raise DefinitionError(f"{name}={value!r} of {codec}, expected a number") from error
    divisor = divisor_of(scale)
    if not low <= raw <= high:
        suffix = "" if unit == "1" else f" {unit}"
        raise DefinitionError(
            f"{name}={value!r} of {codec}, expected {low * scale:.10g} to {high * scale:.10g}{suffix}"
        )
    return raw / divisor if divisor else raw * scale
