"""Decodes many records at once: those of one length and the same flags have one layout and share each step."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protocols.devices.codec import CRC_SEED, array_dtype, divisor_of
from protocols.devices.medfloat import decode_floats, decode_sfloats
from protocols.errors import DefinitionError

if TYPE_CHECKING:
    from protocols.devices.record import Field, Record


def decode_many(record: Record, frames: Sequence[bytes]) -> dict[str, NDArray[Any]]:
    """Return the values of many records as arrays; see `Record.decode_many`."""
    if any(part.type == "text" for part in record.fields):
        raise DefinitionError(f"{record.name} holds text, expected numbers for decode_many")
    lengths = np.fromiter(map(len, frames), np.int64, len(frames))
    starts = np.cumsum(lengths) - lengths
    joined = np.frombuffer(b"".join(frames), np.uint8)
    sizes = lengths - 2 * record.crc
    shapes = sizes << 32 | _flags_of(record, joined, starts, sizes)
    columns = _Columns(record, len(frames))
    for shape in np.unique(shapes).tolist():
        index = np.flatnonzero(shapes == shape)
        size = shape >> 32
        rows = joined[starts[index][:, np.newaxis] + np.arange(max(size + 2 * record.crc, 0))]
        columns.add(index, rows, size, record.layout(shape & 0xFFFFFFFF))
    return columns.arrays()


def _flags_of(
    record: Record, joined: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the flags of every record, 0 where it is too short to have any."""
    flags = np.zeros(len(starts), np.int64)
    place = record.flags_place()
    if place:
        part, at = place
        whole = np.flatnonzero(sizes >= at + part.number.size)
        for k in range(part.number.size):
            flags[whole] |= joined[starts[whole] + at + k].astype(np.int64) << 8 * k
    return flags


class _Columns:
    """Arrays that grow group by group."""

    def __init__(self, record: Record, n_frames: int) -> None:
        self.record = record
        self.ok = np.zeros(n_frames, bool)
        self.singles: dict[str, NDArray[Any]] = {
            flag.name: np.zeros(n_frames, np.int64) for flag in record.value_flags
        }
        self.repeats: dict[str, list[tuple[NDArray[np.int64], NDArray[Any]]]] = {}
        for part in record.values:
            if part.repeat:
                self.repeats[part.name] = []
            elif part.when is None and part.scale == 1 and not part.number.medical:
                dtype = np.uint64 if part.type == "u64" else np.int64
                self.singles[part.name] = np.zeros(n_frames, dtype)
            else:
                self.singles[part.name] = np.full(n_frames, np.nan)

    def add(
        self, index: NDArray[np.int64], rows: NDArray[np.uint8], size: int, layout: list[tuple[Field, int]]
    ) -> None:
        """Decode the records `index`, whose bytes are `rows`, shape (n, length)."""
        if not _fits(layout, size):
            return
        ok = np.ones(len(index), bool)
        if self.record.crc:
            crcs = [crc_hqx(row[:-2].tobytes(), CRC_SEED) for row in rows]
            ok &= rows[:, -2:].copy().view("<u2")[:, 0] == crcs
        raws = [
            _raw_numbers(part, rows[:, at : at + part.number.size if part.single else size])
            for part, at in layout
        ]
        for (part, _), raw in zip(layout, raws, strict=True):
            if part.constant is not None:
                ok &= raw[:, 0] == part.constant
            elif part.limits:
                ok &= ((raw >= part.limits[0]) & (raw <= part.limits[1])).all(axis=1)
        self.ok[index] = ok
        for (part, _), raw in zip(layout, raws, strict=True):
            if part.flags:
                for flag in self.record.value_flags:
                    self.singles[flag.name][index[ok]] = (raw[ok, 0] & flag.mask) >> flag.bit
            elif part.repeat:
                self.repeats[part.name].append((index[ok], _values(part, raw[ok])))
            elif part.constant is None:
                self.singles[part.name][index[ok]] = _values(part, raw[ok, 0])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything added, the repeated numbers in the order of the records."""
        arrays = dict(self.singles)
        for name, pieces in self.repeats.items():
            counts = np.zeros(len(self.ok), np.int64)
            for index, values in pieces:
                counts[index] = values.shape[1]
            starts = np.cumsum(counts) - counts
            numbers = np.zeros(int(counts.sum()), pieces[0][1].dtype if pieces else np.float64)
            for index, values in pieces:
                numbers[starts[index][:, np.newaxis] + np.arange(values.shape[1])] = values
            arrays[name], arrays[f"{name}_count"] = numbers, counts
        return arrays | {"ok": self.ok}


def _fits(layout: list[tuple[Field, int]], size: int) -> bool:
    """Whether records of this size hold every field whole."""
    for part, at in layout:
        if part.single and at + part.number.size > size:
            return False
        if part.repeat and (size <= at or (size - at) % part.number.size):
            return False
    return True


def _raw_numbers(part: Field, octets: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the raw numbers in bytes of shape (n_frames, n_numbers * size), shape (n_frames, n_numbers)."""
    size = part.number.size
    dtype = array_dtype(part.number)
    padded = np.zeros((*octets.shape[:1], octets.shape[1] // size, dtype.itemsize), np.uint8)
    padded[:, :, dtype.itemsize - size :] = octets.reshape(octets.shape[0], -1, size)
    raw = padded.view(dtype)[:, :, 0] >> 8 * (dtype.itemsize - size)
    return raw.astype(dtype.newbyteorder("="))


def _values(part: Field, raw: NDArray[Any]) -> NDArray[Any]:
    if part.type == "sfloat":
        return decode_sfloats(raw)
    if part.type == "float":
        return decode_floats(raw)
    divisor = divisor_of(part.scale)
    if divisor:
        return np.asarray(raw / divisor)
    return raw if part.scale == 1 else np.asarray(raw * part.scale)
