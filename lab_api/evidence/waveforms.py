"""One channel of a stream as an array, however long the session and however wide the stream.

The session is read piece by piece, so that only the wanted channel is ever held as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lab_api.store.session_store import Session, SessionStore, StreamKey
from protocols.errors import DefinitionError

_AT_ONCE: Final = 2_000_000
"""Values of all channels that are read at once, some 16 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Waveform:
    """Raw values of one channel, from the first to the last sample of a boot.

    Parameters
    ----------
    values
        In the stream's own type, or float64 with NaN where a sample is missing; shape (n,).
    first_index
        The device's count of the first sample.
    start_ns
        UTC of the first sample.
    n_stored
        Samples that are there.
    """

    values: NDArray[Any]
    first_index: int
    start_ns: int
    n_stored: int

    def times_ns(self, rate_hz: float) -> NDArray[np.int64]:
        """Return the UTC of every sample by the nominal rate, counted from the first."""
        elapsed_ns = np.rint(np.arange(self.values.size) * (1e9 / rate_hz))
        return np.asarray(self.start_ns + elapsed_ns.astype(np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A run of samples of the wanted channel."""

    boot_id: int
    first_index: int
    start_ns: int
    values: NDArray[Any]


def read_waveform(
    store: SessionStore, session: Session, key: StreamKey, channel: int, *, boot_id: int | None = None
) -> Waveform:
    """Return one channel of a regular stream.

    Parameters
    ----------
    channel
        Its number in the stream.
    boot_id
        The boot to read; None where the session has only one.

    Raises
    ------
    DefinitionError
        If the stream has no rate, or the session does not hold one such boot.
    """
    rate_hz = key.stream.rate_hz
    if rate_hz is None:
        raise DefinitionError(f"stream {key.stream.name} has no rate, expected a waveform")
    step_ns = round(_AT_ONCE / len(key.stream.channels) / rate_hz * 1e9)
    pieces: list[_Piece] = []
    extent = store.extent(session.id, key)
    start_ns, last_ns = (extent.first_ns, extent.last_ns) if extent else (0, -1)
    while start_ns <= last_ns:
        reading = store.read(
            session.id,
            key.gateway,
            key.device,
            key.stream,
            start_ns=start_ns,
            end_ns=min(start_ns + step_ns, last_ns + 1),
        )
        pieces += [
            _Piece(s.boot_id, s.first_index, s.start_ns, s.values[channel].copy()) for s in reading.segments
        ]
        start_ns += step_ns
    n_stored = sum(piece.values.size for piece in pieces)
    chosen = [piece for piece in pieces if boot_id is None or piece.boot_id == boot_id]
    n_boots = len({piece.boot_id for piece in chosen})
    if n_boots != 1:
        which = "" if boot_id is None else f" with id {boot_id}"
        raise DefinitionError(f"{n_boots} boots of the device{which} in session {session.id}, expected one")
    return _assembled(chosen, n_stored)


def _assembled(pieces: list[_Piece], n_stored: int) -> Waveform:
    first = min(pieces, key=lambda piece: piece.first_index)
    n_samples = max(piece.first_index + piece.values.size for piece in pieces) - first.first_index
    whole = n_samples == sum(piece.values.size for piece in pieces)
    joined = np.empty(n_samples, dtype=first.values.dtype) if whole else np.full(n_samples, np.nan)
    for piece in pieces:
        start = piece.first_index - first.first_index
        joined[start : start + piece.values.size] = piece.values
    return Waveform(joined, first.first_index, first.start_ns, n_stored)
