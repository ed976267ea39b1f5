"""What evidence is: parts from sessions or records, each with its source, joined for a clinical protocol.

Each source of evidence (a session, a record) is named with the hash of its content, so that a verdict leads
back to the bytes it rests on. What a reader must know of a source, such as missing samples, becomes a note,
never a silent choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lab_api.store.session_gaps import Completeness, SessionGap, completeness
from lab_api.store.session_store import Session, SessionDevice, SessionStore, StreamKey
from protocols.errors import DefinitionError

REFERENCE_ROLE: Final = "reference"
TEST_ROLE: Final = "test"


@dataclass(frozen=True, slots=True)
class StreamAccount:
    """How much of a stream that evidence was taken from is there, and where it is not."""

    key: StreamKey
    completeness: Completeness
    gaps: tuple[SessionGap, ...]
    largest_uncertainty_ns: int | None = None
    """Of the times of its samples, as the gateway stated it when it recorded them."""

    @classmethod
    def of(cls, store: SessionStore, session: Session, key: StreamKey, n_samples: int) -> StreamAccount:
        """Return the account of a stream of which `n_samples` were read."""
        gaps = store.gaps(session.id, key)
        uncertainty_ns = store.arrivals(session.id, key).uncertainty_ns
        largest_ns = int(uncertainty_ns.max()) if uncertainty_ns.size else None
        return cls(key, completeness(key.stream, n_samples, gaps), tuple(gaps), largest_ns)

    @property
    def name(self) -> str:
        """Device and stream."""
        return f"{self.key.device}/{self.key.stream.name}"

    def notes(self) -> list[str]:
        """Return a sentence on what is missing, if anything is."""
        return [f"{self.name} is not whole: {self._missing()}"] if self.gaps else []

    def _missing(self) -> str:
        whole = self.completeness
        reasons = ", ".join(dict.fromkeys(gap.gap.reason.value for gap in self.gaps))
        parts = [f"{whole.missing_samples} samples are missing"] if whole.missing_samples else []
        if whole.uncounted_gaps:
            parts.append(f"{whole.uncounted_ns / 1e9:.3g} s without samples, uncounted")
        held = "" if whole.fraction is None else f", {100 * whole.fraction:.4g} % is there"
        return f"{' and '.join(parts)}{held} ({counted(whole.n_gaps, 'gap')}: {reasons})"


@dataclass(frozen=True, slots=True)
class Source:
    """One session or record that evidence was taken from.

    Parameters
    ----------
    id, subject
        The session's id and subject; for a record both are its name.
    content_hash
        SHA-256 of its content.
    figures
        What it contributed, by name.
    notes
        What a reader must know of it, such as what is missing.
    streams
        The streams of a session that were used, with their gaps.
    """

    id: str
    subject: str
    content_hash: str
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    streams: tuple[StreamAccount, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What one source contributes.

    Parameters
    ----------
    source
        Whence.
    measured
        What the metrics of the measurand take.
    items
        Its single items as columns.
    examples
        The largest differences, each with the readings around it.
    """

    source: Source
    measured: Any
    items: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    examples: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What `analysis.metrics.measure` takes, where it comes from, its single items and examples of them."""

    measured: Any
    sources: tuple[Source, ...]
    items: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    examples: tuple[Mapping[str, Any], ...] = ()


def the_device(session: Session, role: str) -> SessionDevice:
    """Return the session's one device in a role.

    Raises
    ------
    DefinitionError
        If there is none, or more than one.
    """
    found = [device for device in session.devices if device.role == role]
    if len(found) != 1:
        raise DefinitionError(
            f"{len(found)} devices in the role {role!r} in session {session.id}, expected one"
        )
    return found[0]


def the_stream(
    store: SessionStore, session: Session, device: SessionDevice, channels: Sequence[str]
) -> tuple[StreamKey, int]:
    """Return the one stream of a device that has one of the channels, and the channel's number in it.

    Parameters
    ----------
    channels
        Names of the channel; the first that the device has is taken.

    Raises
    ------
    DefinitionError
        If there is none, or more than one.
    """
    of_device = [
        key for key in store.streams(session.id) if (key.gateway, key.device) == (device.gateway, device.device)
    ]
    for channel in channels:
        found = [
            (key, number)
            for key in of_device
            for number, described in enumerate(key.stream.channels)
            if described.name == channel
        ]
        if found:
            break
    if len(found) != 1:
        raise DefinitionError(
            f"device {device.gateway}/{device.device} of session {session.id} has {len(found)} streams with a "
            f"channel {' or '.join(channels)}, expected one"
        )
    return found[0]


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not one."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
