"""Decode a session's raw frames again, with the decoders as they are today, and compare with what was stored.

The frames are fed as the gateway fed them. Stored and re-decoded samples are brought together by the frame that
they came in: each stored piece knows when its first frame arrived, to the nanosecond, which names the same
frame here; so indices agree also where the session began in the middle of a connection. A piece that was cut at
the session's opening begins within a frame and would mislead, so what two neighbouring pieces say alike is
believed.

Samples that were taken in the session and whose frame arrived after it closed are only stored. The first
samples after the opening may be too, where the decoder must first find its way into the bytes. Where a gateway
was killed, frames may be durable and the samples in them not: the session says so with a gap, and is not wrong.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from gateway.assembly import BLE_DELAY_NS, SERIAL_DELAY_NS, DeviceAssembler
from gateway.clock import BootIds
from gateway.clock_hindsight import block_times_in_hindsight
from gateway.transport import Frame
from lab_api.store.session_gaps import SessionGap
from lab_api.store.session_store import Arrivals, Reading, Segment, SessionStore, StreamKey
from protocols.devices.fablab import SampleType, fablab
from protocols.devices.kind import BleLink, DeviceKind
from protocols.devices.nonin import nonin_7
from protocols.devices.registry import KINDS
from protocols.errors import DefinitionError
from protocols.gaps import GapReason
from protocols.samples import SampleBlock, Stream

_EMPTY: Final = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class TimeDifference:
    """How far times computed again lie from the stored ones, over the re-decoded blocks of a stream.

    `covered` is the share of blocks that differ by no more than both uncertainties together.
    """

    n_blocks: int
    median_ns: float
    p95_ns: float
    largest_ns: int
    covered: float


@dataclass(frozen=True, slots=True)
class StreamComparison:
    """Samples of a stream, stored and decoded again, in each channel.

    Parameters
    ----------
    identical, differing
        There in both, with the same bits or not.
    only_stored, only_redecoded
        There in one of both; of the re-decoded ones only those taken in the session and in none of its gaps.
    times
        None unless asked for.
    in_gaps
        Re-decoded samples that the session itself says are missing.
    """

    stream: Stream
    identical: int
    differing: int
    only_stored: int
    only_redecoded: int
    times: TimeDifference | None = None
    in_gaps: int = 0

    @property
    def agrees(self) -> bool:
        """Whether decoding again gives nothing else, and nothing more, than what is stored."""
        return self.differing == 0 and self.only_redecoded == 0


@dataclass(frozen=True, slots=True)
class Redecoded:
    """What became of one device's frames."""

    gateway: str
    device: str
    kind: DeviceKind
    n_frames: int
    n_errors: int
    streams: tuple[StreamComparison, ...]


@dataclass(slots=True)
class _Decoded:
    """The blocks of a device in the order of arrival, each with its connection, by stream."""

    n_frames: int = 0
    n_errors: int = 0
    blocks: dict[Stream, list[tuple[int, SampleBlock]]] = field(default_factory=dict)

    def add(self, connection_id: int, blocks: Sequence[SampleBlock]) -> None:
        for block in blocks:
            self.blocks.setdefault(block.stream, []).append((connection_id, block))


def redecode(
    store: SessionStore,
    session_id: str,
    gateway: str,
    device: str,
    kind: DeviceKind,
    *,
    speed: float = 1.0,
    times: bool = False,
) -> Redecoded:
    """Return how a session's samples of a device compare with what its frames say today.

    Parameters
    ----------
    speed
        Lab seconds per real second at which the session was recorded.
    times
        Whether to compute the times again too, with the whole recording in view.

    Raises
    ------
    SessionNotFoundError, StoreError
    """
    decoded = _decode(store, session_id, gateway, device, kind, speed)
    keys = [key for key in store.streams(session_id) if (key.gateway, key.device) == (gateway, device)]
    known = {key.stream for key in keys}
    keys += [StreamKey(gateway, device, stream) for stream in decoded.blocks if stream not in known]
    interval_ns = store.session(session_id).interval_ns()
    comparisons = []
    for key in keys:
        blocks = decoded.blocks.get(key.stream, [])
        if key.stream in known:
            reading = store.read(session_id, gateway, device, key.stream)
            arrivals, gaps = store.arrivals(session_id, key), store.gaps(session_id, key)
        else:
            reading, arrivals, gaps = Reading(key.stream, ()), Arrivals(*[_EMPTY] * 5), []
        placed = _placed([block for _, block in blocks], arrivals)
        comparison = _compared(reading, placed, [block for _, block in blocks], interval_ns, gaps)
        if times and key.stream.rate_hz is not None and blocks:
            difference = _time_difference(reading, placed, blocks, kind, speed)
            comparison = replace(comparison, times=difference)
        comparisons.append(comparison)
    return Redecoded(gateway, device, kind, decoded.n_frames, decoded.n_errors, tuple(comparisons))


def candidates(streams: Sequence[Stream], name: str | None = None) -> list[DeviceKind]:
    """Return the kinds of device, or the variants of the one that is named, that have such streams.

    Raises
    ------
    DefinitionError
        If there is none.
    """
    if name is not None and name not in KINDS:
        raise DefinitionError(f"kind {name!r}, expected one of {', '.join(sorted(KINDS))}")
    kinds = [
        kind for kind in _variants(streams) if set(streams) <= set(kind.streams) and name in (None, kind.name)
    ]
    if not kinds:
        names = ", ".join(stream.name for stream in streams) or "no streams"
        raise DefinitionError(f"no kind {name or 'of device'} has the recorded streams ({names})")
    return kinds


def _variants(streams: Sequence[Stream]) -> Iterator[DeviceKind]:
    yield nonin_7(timer=True)
    for name, factory in KINDS.items():
        if name != "fablab":
            yield factory({})
    for stream in streams:
        for sample_type in get_args(SampleType):
            if stream.rate_hz is not None:
                yield fablab(
                    channels=stream.channels,
                    rate_hz=stream.rate_hz,
                    sample_type=sample_type,
                    stream=stream.name,
                )


def _decode(
    store: SessionStore, session_id: str, gateway: str, device: str, kind: DeviceKind, speed: float
) -> _Decoded:
    decoded = _Decoded()
    assembler = DeviceAssembler(device, kind, BootIds(), speed=speed)
    connection_id = None
    for frames in store.frames(session_id, gateway, device):
        if connection_id is not None and frames.connection_id != connection_id:
            decoded.add(connection_id, assembler.flush())
            assembler.reconnected()
        connection_id = frames.connection_id
        arrivals = zip(frames.arrival_ns.tolist(), frames.arrival_monotonic_ns.tolist(), strict=True)
        for source, data, (utc_ns, monotonic_ns) in zip(frames.sources, frames.data, arrivals, strict=True):
            said, blocks = assembler.feed(Frame(source, data, utc_ns, monotonic_ns))
            decoded.n_frames += 1
            decoded.n_errors += len(said.errors)
            decoded.add(connection_id, blocks)
            decoded.add(connection_id, assembler.flush(monotonic_ns))
    if connection_id is not None:
        decoded.add(connection_id, assembler.flush())
    return decoded


def _placed(blocks: Sequence[SampleBlock], arrivals: Arrivals) -> list[tuple[int, int] | None]:
    """Return for each block the stored boot id and index of its first sample; None where nothing tells."""
    pieces: dict[int, tuple[int, int]] = {}
    rows = zip(arrivals.arrival_monotonic_ns, arrivals.boot_id, arrivals.first_index, strict=True)
    for arrival, boot_id, first_index in rows:
        pieces.setdefault(int(arrival), (int(boot_id), int(first_index)))
    placed: list[tuple[int, int] | None] = [None] * len(blocks)
    for _, numbered in itertools.groupby(enumerate(blocks), key=lambda item: item[1].boot_id):
        own = list(numbered)
        shifts = [
            (
                i,
                (
                    pieces[block.arrival_monotonic_ns][0],
                    pieces[block.arrival_monotonic_ns][1] - block.first_index,
                ),
            )
            for i, block in own
            if block.arrival_monotonic_ns in pieces
        ]
        believed = dict(_confirmed(shifts))
        shift = next(iter(believed.values()), None)
        for i, block in own:
            shift = believed.get(i, shift)
            placed[i] = None if shift is None else (shift[0], shift[1] + block.first_index)
    return placed


def _confirmed(shifts: list[tuple[int, tuple[int, int]]]) -> list[tuple[int, tuple[int, int]]]:
    """Return the shifts that a neighbour shares, or if there is no such pair the last one."""
    said = [None, *(shift for _, shift in shifts), None]
    pairs = [item for i, item in enumerate(shifts, 1) if item[1] in (said[i - 1], said[i + 1])]
    return pairs or shifts[-1:]


def _compared(
    reading: Reading,
    placed: Sequence[tuple[int, int] | None],
    blocks: Sequence[SampleBlock],
    interval_ns: tuple[int, int],
    gaps: Sequence[SessionGap],
) -> StreamComparison:
    segments = _Segments(reading.segments)
    declared = _Declared(gaps)
    there = [np.zeros(segment.n_samples, np.bool_) for segment in reading.segments]
    same = [np.zeros(segment.n_samples, np.bool_) for segment in reading.segments]
    only_redecoded = in_gaps = 0
    for place, block in zip(placed, blocks, strict=True):
        found = np.zeros(block.n_samples, np.bool_)
        for i in () if place is None else segments.holding(*place, block.n_samples):
            segment = reading.segments[i]
            ahead = place[1] - segment.first_index if place else 0
            low, high = max(ahead, 0), min(ahead + block.n_samples, segment.n_samples)
            own = slice(low - ahead, high - ahead)
            found[own] = there[i][low:high] = True
            same[i][low:high] |= _equal(segment.values[:, low:high], block.values[:, own])
        more, in_gap = ~found & _inside(block, interval_ns), declared.holding(block)
        only_redecoded += int((more & ~in_gap).sum())
        in_gaps += int((more & in_gap).sum())
    identical = sum(int(part.sum()) for part in same)
    differing = sum(int(part.sum()) for part in there) - identical
    only_stored = reading.n_samples - identical - differing
    return StreamComparison(reading.stream, identical, differing, only_stored, only_redecoded, in_gaps=in_gaps)


class _Segments:
    """Finds segments, which are in the order of boot id and index."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._starts = [(segment.boot_id, segment.first_index) for segment in segments]
        self._ends = [segment.first_index + segment.n_samples for segment in segments]

    def holding(self, boot_id: int, first_index: int, n_samples: int = 1) -> range:
        """Return the places of the segments that hold any of the samples from `first_index`."""
        end = bisect_right(self._starts, (boot_id, first_index + n_samples - 1))
        first = max(0, bisect_right(self._starts, (boot_id, first_index)) - 1)
        while first < end and (self._starts[first][0] < boot_id or self._ends[first] <= first_index):
            first += 1
        return range(first, end)


class _Declared:
    """Finds the gaps that somebody declared, which are in the order of time."""

    def __init__(self, gaps: Sequence[SessionGap]) -> None:
        declared = [each.gap for each in gaps if each.gap.reason is not GapReason.UNDECLARED]
        self._starts_ns = np.array([gap.start_ns for gap in declared], np.int64)
        ends_ns = np.array([gap.end_ns for gap in declared], np.int64)
        self._ends_ns = np.maximum.accumulate(ends_ns)  # of all gaps up to each

    def holding(self, block: SampleBlock) -> NDArray[np.bool_]:
        """Return which samples of a block may, by their uncertainty, lie in a gap."""
        if not self._starts_ns.size:
            return np.zeros(block.n_samples, np.bool_)
        times_ns, margin_ns = block.sample_times_ns(), 2 * block.uncertainty_ns
        n_begun = np.searchsorted(self._starts_ns, times_ns + margin_ns, side="right")
        held: NDArray[np.bool_] = (n_begun > 0) & (self._ends_ns[n_begun - 1] > times_ns - margin_ns)
        return held


def _equal(stored: NDArray[Any], decoded: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which samples have the same bits in all channels."""
    bits = f"u{stored.dtype.itemsize}"
    same = np.ascontiguousarray(stored).view(bits) == np.ascontiguousarray(decoded).view(bits)
    equal: NDArray[np.bool_] = np.all(same, axis=0)
    return equal


def _inside(block: SampleBlock, interval_ns: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which samples were surely taken in the session, whatever their uncertainty."""
    times_ns, margin_ns = block.sample_times_ns(), 2 * block.uncertainty_ns
    surely: NDArray[np.bool_] = (times_ns >= interval_ns[0] + margin_ns) & (
        times_ns < interval_ns[1] - margin_ns
    )
    return surely


def _time_difference(
    reading: Reading,
    placed: Sequence[tuple[int, int] | None],
    blocks: Sequence[tuple[int, SampleBlock]],
    kind: DeviceKind,
    speed: float,
) -> TimeDifference | None:
    """Return how far the stored times of the blocks' first samples lie from those computed in hindsight."""
    scheduled = isinstance(kind.link, BleLink)
    segments = _Segments(reading.segments)
    differences, covered = [], []
    numbered = zip(blocks, placed, strict=True)
    for _, group in itertools.groupby(numbered, key=lambda item: item[0][1].boot_id):
        own = list(group)
        times = block_times_in_hindsight(
            [block for (_, block), _ in own],
            link_delay_ns=BLE_DELAY_NS if scheduled else SERIAL_DELAY_NS,
            scheduled=scheduled,
            connections=np.array([connection_id for (connection_id, _), _ in own], np.int64),
            speed=speed,
        )
        for (_, place), time_ns, uncertainty_ns in zip(
            own, times.time_ns.tolist(), times.uncertainty_ns.tolist(), strict=True
        ):
            for i in () if place is None else segments.holding(*place):
                segment = reading.segments[i]
                difference = abs(int(segment.times_ns[(place or (0, 0))[1] - segment.first_index]) - time_ns)
                differences.append(difference)
                covered.append(difference <= uncertainty_ns + segment.uncertainty_ns)
    if not differences:
        return None
    median_ns, p95_ns = np.percentile(differences, (50, 95)).tolist()
    return TimeDifference(len(differences), median_ns, p95_ns, max(differences), sum(covered) / len(covered))


def best(
    store: SessionStore,
    session_id: str,
    gateway: str,
    device: str,
    *,
    kind: str | None = None,
    speed: float = 1.0,
    times: bool = False,
) -> Redecoded:
    """Return `redecode` for the kind of device, of those that have the recorded streams, that agrees best.

    Raises
    ------
    DefinitionError
        If no kind, or none of the given name, has such streams.
    SessionNotFoundError, StoreError
    """
    streams = [
        key.stream for key in store.streams(session_id) if (key.gateway, key.device) == (gateway, device)
    ]
    tried = [
        redecode(store, session_id, gateway, device, each, speed=speed, times=times)
        for each in candidates(streams, kind)
    ]
    return max(tried, key=lambda r: sum(c.identical - c.differing for c in r.streams))
