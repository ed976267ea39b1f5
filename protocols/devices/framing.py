"""Frames in a stream of bytes: finding them, and finding them again after garbage. No I/O.

Two ways of marking a frame:

- **sync bits and checksum** (`SyncFramer`): frames of one size, recognised by bits that are always the same;
- **COBS** (`CobsFramer`): frames of any size up to a limit, each ended by a zero byte. Consistent Overhead Byte
  Stuffing (Cheshire and Baker 1999, doi:10.1109/90.769765) takes the zeros out of a frame: each is replaced by
  the distance to the next, a first byte gives the distance to the first. 254 bytes without zero cost one byte
  more.

Both hold back less than one frame, look at every byte a bounded number of times, and give the same frames and
errors however the stream is cut into chunks.
"""

from __future__ import annotations

import re
from typing import Any, Final

from protocols.devices.frame import Frame
from protocols.errors import DecodeError

DELIMITER: Final = b"\0"
_DISTANCES = [bytes((length + 1,)) for length in range(254)]


class SyncFramer:
    """Takes frames of a fixed size out of a stream by their sync bits and checksum.

    Bytes that belong to no frame are reported when a frame follows, and as often as they fill a whole frame, so
    that each corrupted frame is one error.
    """

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._pattern = re.compile(_sync_pattern(frame), re.DOTALL)
        self._buffer = bytearray()
        self._skipped = 0
        self._reason = ""

    def feed(self, data: bytes) -> tuple[list[dict[str, Any]], list[DecodeError]]:
        """Return the values of the frames that `data` completes, and an error for each stretch without one."""
        buffer, size = self._buffer, self._frame.size
        buffer += data
        frames: list[dict[str, Any]] = []
        errors: list[DecodeError] = []
        start = 0
        while len(buffer) - start >= size:
            found = self._pattern.search(buffer, start)
            at = found.start() if found else len(buffer) - size + 1
            self._skip(at - start, "no sync", errors)
            start = at
            if not found:
                break
            try:
                frames.append(self._frame.decode(bytes(buffer[at : at + size])))
            except DecodeError as error:
                self._skip(1, str(error), errors)
                start += 1
            else:
                self._report(errors)
                start += size
        del buffer[:start]
        return frames, errors

    def _skip(self, count: int, reason: str, errors: list[DecodeError]) -> None:
        if count and not self._skipped:
            self._reason = reason
        self._skipped += count
        while self._skipped >= self._frame.size:
            rest = self._skipped - self._frame.size
            self._skipped = self._frame.size
            self._report(errors)
            self._skipped, self._reason = rest, reason

    def _report(self, errors: list[DecodeError]) -> None:
        if self._skipped:
            what = f"{self._skipped} bytes are no {self._frame.name}"
            errors.append(DecodeError(f"{what}: {self._reason}"))
            self._skipped = 0


def _sync_pattern(frame: Frame) -> bytes:
    """Return a regular expression of the bytes that a frame's sync bits allow."""
    allowed = [(0, 0)] * frame.size
    for byte, mask, value in frame.sync:
        allowed[byte] = allowed[byte][0] | mask, allowed[byte][1] | value
    return b"".join(
        b"[" + b"".join(re.escape(bytes((b,))) for b in range(256) if b & mask == value) + b"]"
        if mask
        else b"."
        for mask, value in allowed
    )


class CobsFramer:
    """Takes zero-delimited COBS frames of at most `max_length` decoded bytes out of a stream."""

    def __init__(self, max_length: int) -> None:
        self._max_encoded = max_length + max_length // 254 + 1
        self._buffer = bytearray()
        self._overlong = False

    def feed(self, data: bytes) -> tuple[list[bytes], list[DecodeError]]:
        """Return the frames that `data` completes, without their stuffing, and an error for each bad one."""
        frames: list[bytes] = []
        errors: list[DecodeError] = []
        first, *others = bytes(data).split(DELIMITER)
        self._extend(first, errors)
        for piece in others:
            if self._buffer:
                try:
                    frames.append(cobs_decode(bytes(self._buffer)))
                except DecodeError as error:
                    errors.append(error)
            self._buffer.clear()
            self._overlong = False
            self._extend(piece, errors)
        return frames, errors

    def _extend(self, piece: bytes, errors: list[DecodeError]) -> None:
        if self._overlong:
            return
        self._buffer += piece
        if len(self._buffer) > self._max_encoded:
            errors.append(
                DecodeError(f"more than {self._max_encoded} bytes without delimiter, expected a frame")
            )
            self._buffer.clear()
            self._overlong = True


def cobs_encode(data: bytes) -> bytes:
    """Return `data` without zero bytes; the delimiter is not part of it."""
    blocks = data.split(DELIMITER)
    if max(map(len, blocks)) < 254:
        return b"".join([_DISTANCES[len(block)] + block for block in blocks])
    pieces: list[bytes] = []
    for block in blocks:
        whole = len(block) // 254 * 254
        pieces += [b"\xff" + block[at : at + 254] for at in range(0, whole, 254)]
        pieces.append(_DISTANCES[len(block) - whole] + block[whole:])
    if len(blocks[-1]) and len(blocks[-1]) % 254 == 0:
        del pieces[-1]
    return b"".join(pieces)


def cobs_decode(data: bytes) -> bytes:
    """Return what `cobs_encode` was given.

    Raises
    ------
    DecodeError
        If a distance is 0 or leads beyond the end.
    """
    out = bytearray(data)
    at, end = 0, len(data)
    without_zero: list[int] = []
    while at < end:
        distance = out[at]
        if not distance:
            raise DecodeError(f"zero at byte {at} of a COBS frame of {end}, expected none")
        out[at] = 0
        at += distance
        if distance == 255:
            without_zero.append(at)
    if at != end:
        raise DecodeError(f"COBS distance to byte {at} of {end}, expected it to end with the frame")
    for position in reversed(without_zero):
        del out[position : position + 1]
    return bytes(out[1:])
