"""Reads the rows that are left in a damaged SQLite file, without SQLite.

Every leaf page is looked at by itself, wherever it lies: in the file, or in its write-ahead log, whether or not
header, schema and inner pages still make sense. So rows come in no order, old versions of a row beside the
newest, and rows that were deleted: whoever asks must know how to tell. Layout: "Database File Format" and
"WAL-mode File Format" of the SQLite documentation.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Value = None | int | float | str | bytes

WAL_HEADER_BYTES: Final = 32
WAL_FRAME_BYTES: Final = 24
WAL_MAGICS: Final = (0x377F0682, 0x377F0683)

_TABLE_LEAF, _INDEX_LEAF = 0x0D, 0x0A
_PAGE_SIZES: Final = tuple(1 << bits for bits in range(9, 17))
_DEFAULT_PAGE_SIZE: Final = 4096
_INT_BYTES: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_MAX_PAYLOAD_BYTES: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class Row:
    """What a cell holds; `rowid` is None in an index or a table without rowid."""

    rowid: int | None
    values: tuple[Value, ...]


def wal_path(path: Path) -> Path:
    """Return the write-ahead log of a database file."""
    return Path(f"{path}-wal")


def rows(path: Path) -> Iterator[Row]:
    """Yield every row that any version of any leaf page still holds; never raises for what the bytes say."""
    with _View(path) as main, _View(wal_path(path)) as wal:
        pages = _Pages(main.data, wal.data)
        for number, page in pages.versions():
            yield from _rows_of(pages, number, page)


def count_commits_after(path: Path, n_frames: int) -> int:
    """Return how many commits the log holds behind its first `n_frames` frames, in the same run of the log."""
    with _View(wal_path(path)) as wal:
        pages = _Pages(b"", wal.data)
        return sum(1 for frame in pages.frames[n_frames:] if frame.commits and frame.salts == pages.salts)


def log_is_headless(path: Path) -> bool:
    """Return whether there is a log that holds frames, and whose header SQLite would not believe."""
    with _View(wal_path(path)) as wal:
        data = wal.data
        if len(data) < WAL_HEADER_BYTES + WAL_FRAME_BYTES:
            return False
        magic, *words = struct.unpack(">8I", data[:WAL_HEADER_BYTES])
        if magic not in WAL_MAGICS:
            return True
        order = ">" if magic & 1 else "<"
        return _checksum(struct.unpack(f"{order}6I", data[:24])) != tuple(words[5:])


def _checksum(words: tuple[int, ...]) -> tuple[int, int]:
    first = second = 0
    for i in range(0, len(words), 2):
        first = (first + words[i] + second) & 0xFFFFFFFF
        second = (second + words[i + 1] + first) & 0xFFFFFFFF
    return first, second


class _View:
    """A file's bytes, mapped; none if it is missing or empty."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _View:
        self._map: mmap.mmap | None = None
        if self._path.exists() and os.path.getsize(self._path) > 0:
            with self._path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.data: mmap.mmap | bytes = b"" if self._map is None else self._map
        return self

    def __exit__(self, *_: object) -> None:
        if self._map is not None:
            self._map.close()


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame of the log: where its page begins, whether it ends a commit, and in which run of the log."""

    page_number: int
    at: int
    commits: bool
    salts: bytes


class _Pages:
    """All versions of all pages; `latest` is the one that SQLite would read."""

    def __init__(self, main: mmap.mmap | bytes, wal: mmap.mmap | bytes) -> None:
        self.size = _page_size(main, wal)
        self._main, self._wal = main, wal
        self.frames = list(self._read_frames())
        believed = len(wal) >= WAL_HEADER_BYTES and struct.unpack(">I", wal[:4])[0] in WAL_MAGICS
        self.salts = wal[16:24] if believed else (self.frames[0].salts if self.frames else b"")
        self._newest = {frame.page_number: frame.at for frame in self.frames if frame.salts == self.salts}

    def latest(self, number: int) -> bytes:
        """Return a page; shorter than a page, or empty, where the file ends before it does."""
        at = self._newest.get(number)
        if at is not None:
            return self._wal[at : at + self.size]
        return self._main[(number - 1) * self.size : number * self.size]

    def versions(self) -> Iterator[tuple[int, bytes]]:
        """Yield the number and the bytes of every version of every whole page."""
        for number in range(1, len(self._main) // self.size + 1):
            yield number, self._main[(number - 1) * self.size : number * self.size]
        for frame in self.frames:
            yield frame.page_number, self._wal[frame.at : frame.at + self.size]

    def _read_frames(self) -> Iterator[_Frame]:
        step = WAL_FRAME_BYTES + self.size
        for at in range(WAL_HEADER_BYTES, len(self._wal) - step + 1, step):
            number, pages_after_commit = struct.unpack(">2I", self._wal[at : at + 8])
            salts = self._wal[at + 8 : at + 16]
            yield _Frame(number, at + WAL_FRAME_BYTES, pages_after_commit > 0, salts)


def _page_size(main: mmap.mmap | bytes, wal: mmap.mmap | bytes) -> int:
    said = struct.unpack(">H", main[16:18])[0] if len(main) >= 18 else 0
    in_log = struct.unpack(">I", wal[8:12])[0] if len(wal) >= WAL_HEADER_BYTES else 0
    for size in (1 << 16 if said == 1 else said, in_log):
        if size in _PAGE_SIZES:
            return int(size)
    return _DEFAULT_PAGE_SIZE


def _rows_of(pages: _Pages, number: int, page: bytes) -> Iterator[Row]:
    base = 100 if number == 1 else 0
    kind = page[base]
    if kind not in (_TABLE_LEAF, _INDEX_LEAF):
        return
    n_cells = min(int.from_bytes(page[base + 3 : base + 5], "big"), pages.size // 2)
    for i in range(n_cells):
        pointer = base + 8 + 2 * i
        at = int.from_bytes(page[pointer : pointer + 2], "big")
        try:
            row = _row(pages, page, at, with_rowid=kind == _TABLE_LEAF)
        except (IndexError, ValueError, struct.error):  # damaged
            continue
        yield row


def _row(pages: _Pages, page: bytes, at: int, *, with_rowid: bool) -> Row:
    n_bytes, at = _varint(page, at)
    rowid = None
    if with_rowid:
        rowid, at = _varint(page, at)
        rowid -= (rowid >> 63) << 64
    return Row(rowid, _values(_payload(pages, page, at, n_bytes, is_table=with_rowid)))


def _payload(pages: _Pages, page: bytes, at: int, n_bytes: int, *, is_table: bool) -> bytes:
    """Return a cell's payload, with what overflowed into other pages."""
    if n_bytes > _MAX_PAYLOAD_BYTES:
        raise ValueError(f"payload of {n_bytes} bytes, expected at most {_MAX_PAYLOAD_BYTES}")
    usable = pages.size
    largest = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
    if n_bytes <= largest:
        return _exactly(page[at : at + n_bytes], n_bytes)
    least = (usable - 12) * 32 // 255 - 23
    here = least + (n_bytes - least) % (usable - 4)
    here = here if here <= largest else least
    parts = [_exactly(page[at : at + here], here)]
    (overflow,) = struct.unpack(">I", page[at + here : at + here + 4])
    missing = n_bytes - here
    while missing > 0:
        content = pages.latest(overflow)
        part = content[4 : 4 + min(missing, usable - 4)]
        parts.append(_exactly(part, min(missing, usable - 4)))
        missing -= len(part)
        (overflow,) = struct.unpack(">I", content[:4])
    return b"".join(parts)


def _exactly(data: bytes, n_bytes: int) -> bytes:
    if len(data) != n_bytes:
        raise ValueError(f"{len(data)} bytes, expected {n_bytes}")
    return data


def _values(payload: bytes) -> tuple[Value, ...]:
    """Return the values of a record (file format, section 2.1)."""
    header_bytes, at = _varint(payload, 0)
    content, values = header_bytes, []
    while at < header_bytes:
        kind, at = _varint(payload, at)
        value, n_bytes = _value(kind, payload, content)
        values.append(value)
        content += n_bytes
    if content != len(payload):
        raise ValueError(f"record of {content} bytes, expected {len(payload)}")
    return tuple(values)


def _value(kind: int, payload: bytes, at: int) -> tuple[Value, int]:
    if kind == 0:
        return None, 0
    if kind in (8, 9):
        return kind - 8, 0
    if kind == 7:
        return float(struct.unpack_from(">d", payload, at)[0]), 8
    n_bytes = _INT_BYTES.get(kind)
    if n_bytes is not None:
        return int.from_bytes(_exactly(payload[at : at + n_bytes], n_bytes), "big", signed=True), n_bytes
    if kind < 12:
        raise ValueError(f"serial type {kind}, expected none of the reserved ones")
    n_bytes = (kind - 12) // 2
    data = _exactly(payload[at : at + n_bytes], n_bytes)
    return (data.decode() if kind % 2 else data), n_bytes


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        byte = data[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9
