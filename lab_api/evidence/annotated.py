"""When the marks of an annotation set were, and which sample of another stream was then.

Marks are counted in samples. Times come from what was stored with the samples around a mark, piece by piece, so
that a device's clock that runs fast or slow over a day moves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab_api.store.session_store import AnnotationSet, Session, SessionStore, StreamKey
from protocols.errors import DefinitionError


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """First sample and its UTC in ns of every stored piece of one boot, shape (n_pieces,) each, in order."""

    first_index: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    rate_hz: float

    def times_ns(self, indices: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Return the UTC of samples in ns; beyond the pieces by the nominal rate."""
        piece = self._piece(self.first_index, indices)
        elapsed_ns = np.rint((indices - self.first_index[piece]) * (1e9 / self.rate_hz)).astype(np.int64)
        return np.asarray(self.start_ns[piece] + elapsed_ns)

    def indices(self, times_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return which sample it was at times, in fractions; beyond the pieces by the nominal rate."""
        piece = self._piece(self.start_ns, times_ns)
        elapsed_s = (times_ns - self.start_ns[piece]) / 1e9
        return np.asarray(self.first_index[piece] + elapsed_s * self.rate_hz)

    @staticmethod
    def _piece(
        starts: NDArray[np.int64], at: NDArray[np.floating[Any]] | NDArray[np.int64]
    ) -> NDArray[np.intp]:
        return np.clip(np.searchsorted(starts, at, side="right") - 1, 0, None)


def annotated_stream(store: SessionStore, session: Session, annotations: AnnotationSet) -> StreamKey:
    """Return the stream that an annotation set marks.

    Raises
    ------
    DefinitionError
        If the session does not hold it, or its device changed it on the way.
    """
    named = annotations.gateway, annotations.device, annotations.stream
    keys = [k for k in store.streams(session.id) if (k.gateway, k.device, k.stream.name) == named]
    if len(keys) != 1:
        raise DefinitionError(
            f"{len(keys)} streams {'/'.join(named)} in session {session.id}, expected the one that is annotated"
        )
    return keys[0]


def timeline(store: SessionStore, session: Session, key: StreamKey, *, boot_id: int | None = None) -> Timeline:
    """Return when the samples of a regular stream were.

    Raises
    ------
    DefinitionError
        If the stream has no rate, or the session does not hold one such boot.
    """
    if key.stream.rate_hz is None:
        raise DefinitionError(
            f"stream {key.stream.name} has no rate, expected one whose samples can be counted"
        )
    arrivals = store.arrivals(session.id, key)
    chosen = np.ones(arrivals.boot_id.size, bool) if boot_id is None else arrivals.boot_id == boot_id
    n_boots = np.unique(arrivals.boot_id[chosen]).size
    if n_boots != 1:
        which = "" if boot_id is None else f" with id {boot_id}"
        raise DefinitionError(f"{n_boots} boots of {key.device}{which} in session {session.id}, expected one")
    order = np.argsort(arrivals.first_index[chosen], kind="stable")
    return Timeline(
        arrivals.first_index[chosen][order], arrivals.start_ns[chosen][order], float(key.stream.rate_hz)
    )


def annotated_times_ns(store: SessionStore, session: Session, annotations: AnnotationSet) -> NDArray[np.int64]:
    """Return the UTC of every mark in ns.

    Raises
    ------
    DefinitionError
        As `annotated_stream` and `timeline`.
    """
    key = annotated_stream(store, session, annotations)
    of_stream = timeline(store, session, key, boot_id=annotations.boot_id)
    return of_stream.times_ns(annotations.sample_indices * (of_stream.rate_hz / annotations.rate_hz))
