"""What a recorded session is, and what every store of sessions promises.

A session has a subject, devices in roles, and an interval of lab time `[opened_ns, closed_ns)`. Its content is
what those devices and their gateways recorded in that interval, once each, written in any order and as often as
one likes:

- samples, known by `(gateway, device, stream, boot_id, sample_index)`; the first value stored under that
  identity stays. They are read back as arrays in which neighbours are joined and a missing index always starts
  a new segment.
- gaps, known by `(gateway, device, stream, after_boot_id, after_index)`; of two records of one gap the one that
  outlasts the other stays. Also what nobody declared is reported (see `session_gaps`).
- raw frames, known by `(gateway, device, connection_id, frame index)`, by the moment of their arrival.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from lab_api.store.session_gaps import SessionGap
from protocols.errors import DefinitionError, StoreError
from protocols.frames import FrameBlock
from protocols.records import Record
from protocols.samples import Stream, check_device_name

MAX_TEXT: Final = 200
"""Longest title, role or annotation symbol, in characters."""

_PSEUDONYM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,63}")


class SessionNotFoundError(StoreError, LookupError):
    """The store has no session of that id."""


class StreamNotFoundError(StoreError, LookupError):
    """The session has no stream of that name from that device."""


class AmbiguousStreamError(StoreError, LookupError):
    """The device changed the stream's description during the session, so its name alone does not say which."""


class TooManySamplesError(StoreError):
    """The asked-for range holds more samples than the reader wants to receive."""


class AnnotationExistsError(StoreError):
    """The session has a different annotation set of that name; a new version needs a new name."""


@dataclass(frozen=True, slots=True)
class SessionDevice:
    """A device at its gateway, and the part it plays in a session (`reference`, `test`, …).

    Raises
    ------
    DefinitionError
        Names the field at fault.
    """

    role: str
    gateway: str
    device: str

    def __post_init__(self) -> None:
        _check_match("role", self.role, _ROLE, "lower-case letters, digits, '_', '-', first a letter")
        check_device_name(self.gateway)
        check_device_name(self.device)


@dataclass(frozen=True, slots=True)
class Session:
    """One recording of one subject.

    Parameters
    ----------
    id
        Unguessable; later sessions sort after earlier ones.
    subject
        Pseudonym, never a name.
    devices
        At least one; only these are recorded.
    opened_ns, closed_ns
        The session's interval `[opened_ns, closed_ns)` in lab time, ns since 1970; None while it is open.
    software_version
        Version of this software that opened it.
    title
        For people; no part of the content.

    Raises
    ------
    DefinitionError
        Names the field at fault.
    """

    id: str
    subject: str
    devices: tuple[SessionDevice, ...]
    opened_ns: int
    closed_ns: int | None
    software_version: str
    title: str = ""

    def __post_init__(self) -> None:
        _check_match(
            "subject", self.subject, _PSEUDONYM, "a pseudonym of 1 to 64 letters, digits, '_', '.', '-'"
        )
        if not self.devices or len(set(self.devices)) != len(self.devices):
            raise DefinitionError(f"devices={self.devices}, expected at least one and each once")
        if not 0 <= self.opened_ns < 1 << 63:
            raise DefinitionError(f"opened_ns={self.opened_ns}, expected 0 <= opened_ns < 2^63")
        if self.closed_ns is not None and not self.opened_ns <= self.closed_ns < 1 << 63:
            raise DefinitionError(f"closed_ns={self.closed_ns}, expected at least opened_ns={self.opened_ns}")
        if len(self.title) > MAX_TEXT:
            raise DefinitionError(f"title of {len(self.title)} characters, expected at most {MAX_TEXT}")

    def interval_ns(self) -> tuple[int, int]:
        """Return `(opened_ns, closed_ns)`, with the end of time for a session that is open."""
        return self.opened_ns, (1 << 63) - 1 if self.closed_ns is None else self.closed_ns


@dataclass(frozen=True, slots=True)
class StreamKey:
    """A stream of one device at one gateway."""

    gateway: str
    device: str
    stream: Stream


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a stream a session holds: samples per channel, UTC of the first and the last in ns."""

    n_samples: int
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Samples without a missing index between them.

    Parameters
    ----------
    boot_id, first_index
        Identity of the first sample.
    start_ns
        UTC of the first sample, ns since 1970.
    values
        Raw values, shape (n_channels, n_samples), read-only.
    times_ns
        UTC of every sample, shape (n_samples,), read-only.
    uncertainty_ns
        The largest half width stated for any of these times.
    """

    boot_id: int
    first_index: int
    start_ns: int
    values: NDArray[Any]
    times_ns: NDArray[np.int64]
    uncertainty_ns: int

    @property
    def n_samples(self) -> int:
        """Number of samples per channel."""
        return int(self.values.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """What is known of when the samples of a stream reached their gateway, one entry for each stored piece.

    Parameters
    ----------
    boot_id, first_index
        Identity of the piece's first sample, shape (n,).
    start_ns, uncertainty_ns
        Its time as it was stored, and the half width stated for it, shape (n,).
    arrival_monotonic_ns
        The gateway's monotonic clock when the frame with it was received, shape (n,).
    """

    boot_id: NDArray[np.int64]
    first_index: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    uncertainty_ns: NDArray[np.int64]
    arrival_monotonic_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a session holds of one stream in the asked-for range, ordered by boot id and sample index."""

    stream: Stream
    segments: tuple[Segment, ...]

    @property
    def n_samples(self) -> int:
        """Number of samples per channel in all segments."""
        return sum(segment.n_samples for segment in self.segments)

    def values(self) -> NDArray[Any]:
        """Return the raw values of all segments one after another, shape (n_channels, n_samples)."""
        if len(self.segments) == 1:
            return self.segments[0].values
        empty = np.empty((len(self.stream.channels), 0), dtype=self.stream.dtype)
        return np.concatenate([empty, *(segment.values for segment in self.segments)], axis=1)

    def physical(self) -> NDArray[np.float64]:
        """Return `values()` in the channels' units, shape (n_channels, n_samples)."""
        return self.stream.physical(self.values())

    def times_ns(self) -> NDArray[np.int64]:
        """Return the UTC of every sample of `values()` in ns, shape (n_samples,)."""
        empty = np.empty(0, dtype=np.int64)
        return np.concatenate([empty, *(segment.times_ns for segment in self.segments)])


@dataclass(frozen=True, slots=True, eq=False)
class AnnotationSet:
    """Marks on the samples of one stream, under a name that says whose they are and which version.

    Parameters
    ----------
    name
        Unique in its session, such as `atr-1`.
    gateway, device, stream
        The stream's device and name.
    rate_hz
        Rate of the count of `sample_indices`; it differs from the stream's where the marks were made on
        another sampling of the same signal.
    sample_indices
        Position of every mark, counted at `rate_hz` from the device's sample 0, shape (n,), int64, in order.
    symbols
        One for each mark, such as WFDB's beat codes.
    boot_id
        The boot whose samples are counted; None where the device has only one in the session.

    Raises
    ------
    DefinitionError
        Names the field at fault.
    """

    name: str
    gateway: str
    device: str
    stream: str
    rate_hz: float
    sample_indices: NDArray[np.int64]
    symbols: tuple[str, ...]
    boot_id: int | None = None

    def __post_init__(self) -> None:
        _check_match("annotation set", self.name, _PSEUDONYM, "1 to 64 letters, digits, '_', '.', '-'")
        check_device_name(self.gateway)
        check_device_name(self.device)
        if not 0 < self.rate_hz < float("inf"):
            raise DefinitionError(f"rate_hz={self.rate_hz!r} of annotation set {self.name}, expected > 0")
        if self.boot_id is not None and not 0 <= self.boot_id < 1 << 63:
            raise DefinitionError(f"boot_id={self.boot_id} of annotation set {self.name}, expected 0 to 2^63-1")
        indices = self.sample_indices
        if indices.shape != (len(self.symbols),) or indices.dtype != np.int64:
            raise DefinitionError(
                f"sample_indices of shape {indices.shape} and dtype {indices.dtype}, "
                f"expected ({len(self.symbols)},) as there are symbols, and int64"
            )
        if np.any(indices[1:] < indices[:-1]):
            raise DefinitionError(f"sample_indices of annotation set {self.name}, expected in order")
        for symbol in set(self.symbols):
            if not 0 < len(symbol) <= MAX_TEXT:
                raise DefinitionError(f"symbol {symbol[:20]!r}, expected 1 to {MAX_TEXT} characters")
        object.__setattr__(self, "sample_indices", _read_only(indices))

    def canonical(self) -> str:
        """Return the set as JSON text, equal for equal sets."""
        document: dict[str, object] = {
            "name": self.name,
            "gateway": self.gateway,
            "device": self.device,
            "stream": self.stream,
            "rate_hz": float(self.rate_hz),
            "sample_indices": self.sample_indices.tolist(),
            "symbols": self.symbols,
        }
        return canonical_json(document if self.boot_id is None else {**document, "boot_id": self.boot_id})

    @classmethod
    def from_canonical(cls, text: str) -> AnnotationSet:
        """Return the set that `canonical` described."""
        fields = json.loads(text)
        indices = np.array(fields.pop("sample_indices"), dtype=np.int64)
        return cls(sample_indices=indices, symbols=tuple(fields.pop("symbols")), **fields)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Samples that came again under a known identity with another value or time; the first ones were kept.

    Of frames the stream is `protocols.frames.RAW`, and the connection stands for the boot.
    """

    session_id: str
    gateway: str
    device: str
    stream: str
    boot_id: int
    first_index: int
    n_samples: int


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a write changed, in samples per channel.

    Parameters
    ----------
    new
        Samples stored now and not before.
    duplicate
        Samples that were stored already and said the same.
    conflicts
        Runs of samples or frames that were stored already and said something else.
    new_frames, duplicate_frames
        The same of raw frames.
    gaps
        Records of gaps that were stored, of which some may have taken the place of earlier ones.
    """

    new: int = 0
    duplicate: int = 0
    conflicts: tuple[Conflict, ...] = ()
    new_frames: int = 0
    duplicate_frames: int = 0
    gaps: int = 0

    @classmethod
    def total(cls, results: Iterable[WriteResult]) -> WriteResult:
        """Return the sum of results."""
        results = list(results)
        return cls(
            new=sum(r.new for r in results),
            duplicate=sum(r.duplicate for r in results),
            conflicts=tuple(conflict for r in results for conflict in r.conflicts),
            new_frames=sum(r.new_frames for r in results),
            duplicate_frames=sum(r.duplicate_frames for r in results),
            gaps=sum(r.gaps for r in results),
        )


class SessionStore(Protocol):
    """Keeps sessions. Every method may be called from any thread, also while another one writes."""

    def open_session(
        self, *, subject: str, devices: Sequence[SessionDevice], opened_ns: int, title: str = ""
    ) -> Session:
        """Return a new session; it is durable. DefinitionError names a field at fault."""

    def close_session(self, session_id: str, *, closed_ns: int) -> Session:
        """Return the session, closed; one that was closed already stays as it is.

        DefinitionError if `closed_ns` is before the opening, SessionNotFoundError if there is no such session.
        """

    def session(self, session_id: str) -> Session:
        """Return the session; SessionNotFoundError if there is none such."""

    def sessions(self, *, before: str | None = None, limit: int | None = None) -> list[Session]:
        """Return the sessions, newest first: at most `limit`, and only those older than the id `before`.

        Waits for a session that is just being opened by another thread. A session that cannot be read is left
        out and logged; `unreadable` and `session` say what is wrong with it.
        """

    def unreadable(self) -> dict[str, str]:
        """Return what was wrong with the sessions that the last call of `sessions` left out, by their ids."""

    def write(self, writes: Mapping[str, Sequence[tuple[str, Record]]]) -> WriteResult:
        """Store records, given as (gateway, record) for each session id; they are durable on return.

        What is known already is not stored again. After an error some sessions may have been written and
        others not; writing everything again is always right.
        """

    def set_aside(self, name: str, content: bytes) -> None:
        """Keep bytes that cannot be recorded, under a name; they are durable on return."""

    def aside(self) -> list[str]:
        """Return the names of what is set aside, in order; empty once somebody has taken care of it."""

    def read_aside(self, name: str) -> bytes:
        """Return what is set aside under a name; StoreError if there is none such."""

    def streams(self, session_id: str) -> list[StreamKey]:
        """Return the streams of which samples or gaps were written, in the order of their first record."""

    def gaps(
        self,
        session_id: str,
        key: StreamKey | None = None,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[SessionGap]:
        """Return where the session, or one stream of it, is not whole in `[start_ns, end_ns)`, in order.

        Gaps that reach beyond that or the session are cut, and their count within it is unknown. What nobody
        declared is among them (see `session_gaps`), also jumps of the frame index, as gaps of the stream `RAW`.
        """

    def frames(self, session_id: str, gateway: str, device: str) -> Iterator[FrameBlock]:
        """Yield the raw frames of a device that arrived in the session's interval, by connection and index."""

    def framed_devices(self, session_id: str) -> dict[tuple[str, str], int]:
        """Return how many frames were written for every (gateway, device) that has any."""

    def arrivals(self, session_id: str, key: StreamKey) -> Arrivals:
        """Return when the stored samples of a stream reached their gateway, by boot id and index."""

    def extent(self, session_id: str, key: StreamKey) -> Extent | None:
        """Return how much of the stream lies in the session's interval, or None if nothing does."""

    def read(
        self,
        session_id: str,
        gateway: str,
        device: str,
        stream_name: str | Stream,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        max_samples: int | None = None,
    ) -> Reading:
        """Return the samples with times in `[start_ns, end_ns)` and in the session's interval.

        Parameters
        ----------
        stream_name
            The stream's name, or its description where the device changed that during the session.
        max_samples
            Most samples per channel that the caller is ready for.

        Raises
        ------
        SessionNotFoundError, StreamNotFoundError, AmbiguousStreamError, TooManySamplesError, StoreError
        """

    def annotate(self, session_id: str, annotations: AnnotationSet) -> None:
        """Keep a set of annotations; the same set again changes nothing.

        AnnotationExistsError if another set has its name, StreamNotFoundError if its stream is not there.
        """

    def annotations(self, session_id: str) -> list[AnnotationSet]:
        """Return the session's annotation sets by name."""

    def content_hash(self, session_id: str) -> str:
        """Return `content_hash.content_hash` of the session as it is now."""

    def is_writable(self) -> bool:
        """Return whether the store takes anything right now; the log says why not."""

    def close(self) -> None:
        """Release what the store holds open."""


def canonical_json(document: object) -> str:
    """Return a document as JSON text, equal for equal documents."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _check_match(what: str, text: str, pattern: re.Pattern[str], expected: str) -> None:
    if not pattern.fullmatch(text):
        raise DefinitionError(f"{what} {text[:80]!r}, expected {expected}")


def _read_only(array: NDArray[np.int64]) -> NDArray[np.int64]:
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array
