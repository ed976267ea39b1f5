"""IEEE 11073 medical floats: SFLOAT (16 bit) and FLOAT (32 bit), lossless in their special values.

Both hold a signed mantissa and a signed power of ten: SFLOAT 12 bits and 4 bits, FLOAT 24 bits and 8 bits, the
exponent in the most significant bits, both parts in two's complement (IEEE 11073-20601, annex F). With exponent
0 five mantissas are no numbers: NaN, NRes (not at this resolution), a reserved one, and plus and minus
infinity.

Decoding is exactly rounded: `365e-1` is 36.5, not 36.50000000000001, because the mantissa is divided by a power
of ten instead of multiplied by an inexact 0.1. The three codes that are not a number become NaNs with different
payloads, which survive numpy arrays and float32, so that encoding gives the very same code again.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocols.errors import DefinitionError

_EXACT_POWERS = 22
"""10**22 is the last power of ten that float64 holds exactly."""
_PAYLOAD_BIT = 29
"""The lowest payload bit of a NaN that float32 keeps."""


def _nan(payload: int) -> float:
    bits = 0x7FF8000000000000 | payload << _PAYLOAD_BIT
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


NAN: Final = math.nan
"""The device has no number."""
NRES: Final = _nan(1)
"""The device cannot give the number at this resolution; a NaN with payload 1."""
RESERVED: Final = _nan(2)
"""The code reserved for future use; a NaN with payload 2."""


@dataclass(frozen=True, slots=True)
class _Format:
    """Widths of one medical float and what follows from them."""

    name: str
    mantissa_bits: int
    exponent_bits: int

    @property
    def half(self) -> int:
        return 1 << (self.mantissa_bits - 1)

    @property
    def exponents(self) -> range:
        end = 1 << (self.exponent_bits - 1)
        return range(-end, end)

    @property
    def specials(self) -> dict[int, float]:
        """Value of each special code."""
        half = self.half
        return {half - 1: NAN, half: NRES, half + 1: RESERVED, half - 2: math.inf, half + 2: -math.inf}

    def code(self, mantissa: int, exponent: int) -> int:
        mantissa_mask = (1 << self.mantissa_bits) - 1
        exponent_mask = (1 << self.exponent_bits) - 1
        return (exponent & exponent_mask) << self.mantissa_bits | mantissa & mantissa_mask

    def fits(self, mantissa: int, exponent: int) -> bool:
        """Whether the pair is a number: every mantissa, but with exponent 0 the special ones are taken."""
        if exponent == 0:
            return abs(mantissa) <= self.half - 3
        return -self.half <= mantissa < self.half


_SFLOAT = _Format("SFLOAT", mantissa_bits=12, exponent_bits=4)
_FLOAT = _Format("FLOAT", mantissa_bits=24, exponent_bits=8)


def decode_sfloat(code: int) -> float:
    """Return the value of a 16-bit SFLOAT code, exactly rounded; `NRES` and `RESERVED` are NaNs.

    Raises
    ------
    IndexError
        If `code` is not 0 to 65535.
    """
    return SFLOATS[code]


def decode_float(code: int) -> float:
    """Return the value of a 32-bit FLOAT code, exactly rounded; `NRES` and `RESERVED` are NaNs."""
    special = _FLOAT_SPECIALS.get(code)
    if special is not None:
        return special
    mantissa = (code & 0xFFFFFF ^ 0x800000) - 0x800000
    exponent = (code >> 24 ^ 0x80) - 0x80
    return _scaled(mantissa, exponent)


def encode_sfloat(value: float, exponent: int | None = None) -> int:
    """Return the 16-bit SFLOAT code of `value`.

    Parameters
    ----------
    value
        Any number of magnitude up to 2047e7, plus or minus infinity, or a NaN (its payload chooses among NaN,
        `NRES` and `RESERVED`).
    exponent
        Power of ten of the device's resolution, to which the value is rounded. Without it the value is kept as
        exactly as 12 bits allow, with the exponent closest to 0 that does so.

    Raises
    ------
    DefinitionError
        If the value does not fit.
    """
    return _encode(_SFLOAT, value, exponent)


def encode_float(value: float, exponent: int | None = None) -> int:
    """Return the 32-bit FLOAT code of `value`; as `encode_sfloat`, with 24 bits and exponents -128 to 127."""
    return _encode(_FLOAT, value, exponent)


def decode_sfloats(codes: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return the values of SFLOAT codes (integers 0 to 65535, any shape) as float64 of the same shape."""
    values: NDArray[np.float64] = _SFLOAT_TABLE[codes]
    return values


def decode_floats(codes: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return the values of FLOAT codes (integers 0 to 2^32-1, any shape) as float64 of the same shape."""
    wide = np.asarray(codes, dtype=np.int64)
    mantissa = (wide & 0xFFFFFF ^ 0x800000) - 0x800000
    exponent = (wide >> 24 ^ 0x80) - 0x80
    near = np.clip(exponent, -_EXACT_POWERS, _EXACT_POWERS)
    up, down = 10.0 ** np.maximum(near, 0), 10.0 ** np.maximum(-near, 0)
    values = np.asarray(np.where(near < 0, mantissa / down, mantissa * up), dtype=np.float64)
    rare = (near != exponent) | (exponent == 0) & (np.abs(mantissa) >= 0x7FFFFE)
    values[rare] = [decode_float(code) for code in wide[rare].tolist()]
    return values


def encode_sfloats(values: NDArray[np.float64], exponent: int | None = None) -> NDArray[np.uint16]:
    """Return the SFLOAT codes of `values`, same shape; raises as `encode_sfloat`."""
    return np.array(_encode_each(_SFLOAT, values, exponent), dtype=np.uint16).reshape(np.shape(values))


def encode_floats(values: NDArray[np.float64], exponent: int | None = None) -> NDArray[np.uint32]:
    """Return the FLOAT codes of `values`, same shape; raises as `encode_float`."""
    return np.array(_encode_each(_FLOAT, values, exponent), dtype=np.uint32).reshape(np.shape(values))


class _SfloatCodes(dict[float, int]):
    """Codes of the whole numbers; `codes[value]` encodes every other value."""

    def __missing__(self, value: float) -> int:
        return encode_sfloat(value)


def _encode_each(form: _Format, values: NDArray[np.float64], exponent: int | None) -> Iterable[int]:
    return [_encode(form, value, exponent) for value in np.asarray(values, dtype=np.float64).ravel().tolist()]


def _encode(form: _Format, value: float, exponent: int | None) -> int:
    value = float(value)
    if not math.isfinite(value):
        return _special_code(form, value)
    decimal = Decimal(repr(value)).normalize()
    mantissa, power = _parts(form, decimal) if exponent is None else (_rounded(decimal, exponent), exponent)
    if power not in form.exponents or not form.fits(mantissa, power):
        at = "" if exponent is None else f" at exponent {exponent}"
        raise DefinitionError(f"value={value!r}, expected one that fits {form.name}{at}")
    return form.code(mantissa, power)


def _parts(form: _Format, value: Decimal) -> tuple[int, int]:
    """Mantissa and exponent: all digits of the value if they fit, then the exponent closest to 0."""
    power = max(int(value.as_tuple().exponent), form.exponents[0])
    while power < form.exponents[-1] and not form.fits(_rounded(value, power), power):
        power += 1
    while power > 0 and form.fits(_rounded(value, power - 1), power - 1):
        power -= 1
    return _rounded(value, power), power


def _rounded(value: Decimal, exponent: int) -> int:
    """Whole number of 10**exponent closest to a value."""
    return int(value.scaleb(-exponent).to_integral_value())


def _special_code(form: _Format, value: float) -> int:
    if value == math.inf:
        return form.half - 2
    if value == -math.inf:
        return form.half + 2
    bits = struct.unpack("<Q", struct.pack("<d", value))[0]
    payload = bits >> _PAYLOAD_BIT & 0x3FFFFF
    return form.half - 1 + payload if payload in (1, 2) else form.half - 1


def _scaled(mantissa: int, exponent: int) -> float:
    """Exactly rounded: Python divides and converts whole numbers of any size so."""
    return float(mantissa * 10**exponent) if exponent >= 0 else mantissa / 10**-exponent


def _sfloat_table() -> NDArray[np.float64]:
    codes = np.arange(1 << 16)
    mantissa = (codes & 0xFFF ^ 0x800) - 0x800
    exponent = (codes >> 12 ^ 8) - 8
    up, down = 10.0 ** np.maximum(exponent, 0), 10.0 ** np.maximum(-exponent, 0)
    table: NDArray[np.float64] = np.where(exponent < 0, mantissa / down, mantissa * up)
    for code, value in _SFLOAT.specials.items():
        table[code] = value
    return table


_FLOAT_SPECIALS = _FLOAT.specials
_SFLOAT_TABLE = _sfloat_table()
SFLOATS: Final[list[float]] = _SFLOAT_TABLE.tolist()
"""Value of every SFLOAT code."""
SFLOAT_CODES: Final[dict[float, int]] = _SfloatCodes({float(m): _SFLOAT.code(m, 0) for m in range(-2045, 2046)})
"""`SFLOAT_CODES[value]` is `encode_sfloat(value)`, faster for whole numbers."""
