"""Records: fields one after another, their presence said by flags (BLE characteristics, PMD, Fab Lab frame).

A definition is plain data::

    Record("heart_rate_measurement", (
        Field("flags", "u8", flags=(Flag("wide", 0, above=255), Flag("contact", 1, width=2), Flag("beats", 4))),
        Field("heart_rate", "u8", when="!wide", unit="/min"),
        Field("heart_rate", "u16", when="wide", unit="/min"),
        Field("rr", "u16", when="beats", repeat="list", scale=1 / 1024, unit="s"),
    ))

How a flag is meant follows from who refers to it. One that only guards fields (`when="beats"`) says that they
are present: decoding shows it by the fields' presence, encoding sets it where one of them is given. With
`above` it selects the wider of two fields of one name. Any other flag is a value of its own, here `contact`.

Bytes after the last field come from a later edition of a specification: they are kept under `trailing`, and
encoding puts them back. A repeated field takes the rest and must fill it with whole numbers, at least one. Flag
bits that no definition names are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from numpy.typing import NDArray

from protocols.devices.codec import NUMBERS, TRAILING, Number
from protocols.devices.record_arrays import decode_many
from protocols.devices.record_decoder import compile_decode
from protocols.devices.record_encoder import compile_encode
from protocols.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Flag:
    """Bits of a flags field, from `bit` upwards.

    Parameters
    ----------
    name
        What fields refer to by `when`, or the key of its value.
    above
        The flag is set where the value of the field it guards exceeds this.
    """

    name: str
    bit: int
    width: int = 1
    above: int | None = None

    @property
    def mask(self) -> int:
        """The flag's bits within the flags field."""
        return ((1 << self.width) - 1) << self.bit


@dataclass(frozen=True, slots=True)
class Field:
    """One field; its value is `raw * scale` in `unit`.

    Parameters
    ----------
    name
        Key of its value.
    type
        One of `NUMBERS`, or "text" (UTF-8 to the end, padding NULs dropped).
    when
        Name of the flag that must be set, or "!name" where it must not; None for a field that is always there.
    repeat
        "list" or "array" for as many numbers as there are bytes left.
    unit, mdc
        UCUM unit and IEEE 11073-10101 code.
    limits
        Least and greatest raw value where the type would allow more.
    exponent
        Resolution of a medical float, as power of ten; None for as many digits as fit.
    constant
        The only raw value allowed; it is no key of the values.
    flags
        Makes this the flags field.
    """

    name: str
    type: str
    when: str | None = None
    repeat: Literal["list", "array"] | None = None
    unit: str = "1"
    mdc: int | None = None
    scale: float = 1
    limits: tuple[int, int] | None = None
    exponent: int | None = None
    constant: int | None = None
    flags: tuple[Flag, ...] = ()

    @property
    def number(self) -> Number:
        """How the field's numbers look on the wire."""
        return NUMBERS[self.type]

    @property
    def single(self) -> bool:
        """Whether it is one number."""
        return self.repeat is None and self.type != "text"

    @property
    def guard(self) -> str | None:
        """Name of the flag it depends on."""
        return self.when.removeprefix("!") if self.when else None

    @property
    def limits_raw(self) -> tuple[int, int]:
        """Least and greatest raw value."""
        return self.limits or self.number.limits


@dataclass(frozen=True, slots=True)
class Record:
    """A compiled definition.

    Parameters
    ----------
    name
        For messages.
    fields
        In their order on the wire; at most one has flags, before every field that depends on them.
    crc
        Whether a CRC-16/IBM-3740 of everything before it ends the record, least significant byte first.

    Raises
    ------
    DefinitionError
        If the fields contradict each other.
    """

    name: str
    fields: tuple[Field, ...]
    crc: bool = False
    decode: Callable[[bytes], dict[str, Any]] = field(init=False, repr=False, compare=False)
    """Return the values of one record; raises only `DecodeError`."""
    encode: Callable[[Mapping[str, Any]], bytes] = field(init=False, repr=False, compare=False)
    """Return the bytes of values; raises `DefinitionError` for those that do not fit."""

    def __post_init__(self) -> None:
        _check(self)
        object.__setattr__(self, "decode", compile_decode(self))
        object.__setattr__(self, "encode", compile_encode(self))

    def decode_many(self, frames: Sequence[bytes]) -> dict[str, NDArray[Any]]:
        """Return the values of many records as arrays.

        Returns
        -------
        By field name: shape (n_frames,), whole numbers where the field is always there and unscaled (0 where a
        frame is bad), else float64 (NaN where absent or bad). Of a repeated field, the numbers of all good
        frames end to end, and how many each frame has as `<name>_count`. `ok` is False where `decode` would
        raise.

        Raises
        ------
        DefinitionError
            If the record holds text.
        """
        return decode_many(self, frames)

    @property
    def flags(self) -> dict[str, Flag]:
        """The flags by name."""
        return {flag.name: flag for part in self.fields for flag in part.flags}

    @property
    def value_flags(self) -> tuple[Flag, ...]:
        """The flags that are values of their own."""
        guards = {part.when for part in self.fields}
        return tuple(
            flag
            for flag in self.flags.values()
            if flag.above is None and (flag.name not in guards or f"!{flag.name}" in guards)
        )

    @property
    def values(self) -> tuple[Field, ...]:
        """The fields whose names are keys of the values."""
        return tuple(part for part in self.fields if part.constant is None and not part.flags)

    @property
    def takes_rest(self) -> bool:
        """Whether the last field takes all bytes that are left."""
        return any(part.when is None and not part.single for part in self.fields)

    @property
    def keys(self) -> frozenset[str]:
        """What values may hold."""
        names = [part.name for part in self.values] + [flag.name for flag in self.value_flags]
        return frozenset(names if self.takes_rest else [*names, TRAILING])

    def groups(self) -> Iterator[tuple[str | None, list[Field]]]:
        """Yield runs of single numbers under one condition, read and written at once, and each other field."""
        for (when, single), run in groupby(self.fields, key=lambda part: (part.when, part.single)):
            if single:
                yield when, list(run)
            else:
                yield from ((when, [part]) for part in run)

    def condition(self, when: str) -> str:
        """Return the expression that tells of `flags` whether fields under `when` are present."""
        mask = self.flags[when.removeprefix("!")].mask
        return f"not flags & {mask}" if when.startswith("!") else f"flags & {mask}"

    def layout(self, flags: int) -> list[tuple[Field, int]]:
        """Return the fields that a record with these flags has, with their offsets."""
        layout, at = [], 0
        for part in self.fields:
            guard = self.flags.get(part.guard or "")
            if guard is None or bool(flags & guard.mask) != (part.when or "").startswith("!"):
                layout.append((part, at))
                at += part.number.size if part.single else 0
        return layout

    def flags_place(self) -> tuple[Field, int] | None:
        """Return the flags field with its offset."""
        return next(((part, at) for part, at in self.layout(0) if part.flags), None)


def _check(record: Record) -> None:
    seen: set[str] = set()
    for part in record.fields:
        _check_field(f"field {part.name!r} of {record.name}", part, seen)
        seen.update(flag.name for flag in part.flags)
    if any(part is not record.fields[-1] for part in record.fields if part.when is None and not part.single):
        raise DefinitionError(f"fields of {record.name}, expected only the last to take the rest")
    if not record.fields or sum(bool(part.flags) for part in record.fields) > 1:
        raise DefinitionError(f"fields of {record.name}, expected at least one, and at most one with flags")


def _check_field(where: str, part: Field, flags: set[str]) -> None:
    if not part.name.isidentifier():
        raise DefinitionError(f"{where}, expected an identifier as name")
    if part.type != "text" and part.type not in NUMBERS:
        raise DefinitionError(f"type={part.type!r} of {where}, expected text or one of {sorted(NUMBERS)}")
    if part.guard is not None and part.guard not in flags:
        raise DefinitionError(f"when={part.when!r} of {where}, expected a flag of an earlier field")
    if not part.scale > 0 or (part.scale != 1 and (part.type == "text" or part.number.medical)):
        raise DefinitionError(
            f"scale={part.scale!r} of {where}, expected > 0, and 1 for text and medical floats"
        )
    if part.repeat and part.number.odd and part.number.size != 3:
        raise DefinitionError(f"repeat={part.repeat!r} of {where}, expected numbers of 1, 2, 3, 4 or 8 bytes")
    if part.repeat == "list" and part.number.odd:
        raise DefinitionError(f"repeat={part.repeat!r} of {where}, expected array for numbers of 3 bytes")
    width = 8 * part.number.size if part.flags else 0
    for flag in part.flags:
        if flag.bit < 0 or flag.width < 1 or flag.bit + flag.width > width:
            raise DefinitionError(f"flag {flag.name!r} of {where}, expected bits 0 to {width - 1}")
