"""Stored chunks of a stream, and how they become segments again.

A chunk is what was stored of one block at a time. Chunks of a stream never share a sample; where they follow
one another without a missing index, their bytes and times are joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lab_api.store import chunk_codec
from lab_api.store.session_store import Segment
from protocols.samples import Stream, sample_offsets_ns


class Chunk(NamedTuple):
    """Samples `[first_index, first_index + n_samples)` of a boot, as stored.

    `times` are the samples' UTC in ns as little-endian int64, None where `start_ns` and the rate say it.
    """

    boot_id: int
    first_index: int
    n_samples: int
    start_ns: int
    earliest_ns: int
    latest_ns: int
    uncertainty_ns: int
    codec: int
    samples: bytes
    times: bytes | None


def cut(stream: Stream, chunk: Chunk, low_ns: int, high_ns: int) -> Iterator[Chunk]:
    """Yield the parts of a chunk with times in `[low_ns, high_ns)`."""
    if low_ns <= chunk.earliest_ns and chunk.latest_ns < high_ns:
        yield chunk
        return
    times_ns = joined_times_ns(stream, [chunk])
    values = joined_values(stream, [chunk])
    for i, j in runs((times_ns >= low_ns) & (times_ns < high_ns)):
        part_ns = times_ns[i:j]
        yield chunk._replace(
            first_index=chunk.first_index + i,
            n_samples=j - i,
            start_ns=int(part_ns[0]),
            earliest_ns=int(part_ns.min()),
            latest_ns=int(part_ns.max()),
            codec=chunk_codec.RAW,
            samples=chunk_codec.raw(values[:, i:j]),
            times=part_ns.astype("<i8", copy=False).tobytes(),
        )


def segments(stream: Stream, chunks: Sequence[Chunk]) -> Iterator[Segment]:
    """Yield the segments that chunks in the order of boot id and index make up.

    Raises
    ------
    ValueError
        If a chunk's bytes are not what they must be.
    """
    run: list[Chunk] = []
    for chunk in chunks:
        if run and (run[-1].boot_id, run[-1].first_index + run[-1].n_samples) != chunk[:2]:
            yield _segment(stream, run)
            run = []
        run.append(chunk)
    if run:
        yield _segment(stream, run)


def joined_values(stream: Stream, run: Sequence[Chunk]) -> NDArray[Any]:
    """Return the raw values of neighbouring chunks, shape (n_channels, n_samples), read-only."""
    dtype = np.dtype(stream.dtype)
    n_channels = len(stream.channels)
    joined = b"".join(
        [chunk_codec.unpack(c.codec, c.samples, itemsize=dtype.itemsize, n_channels=n_channels) for c in run]
    )
    n_samples = sum(c.n_samples for c in run)
    stored = np.frombuffer(joined, dtype=dtype.newbyteorder("<")).reshape(n_samples, n_channels)
    values = np.ascontiguousarray(stored.T).astype(dtype, copy=False)
    values.flags.writeable = False
    return values


def joined_times_ns(stream: Stream, run: Sequence[Chunk]) -> NDArray[np.int64]:
    """Return the UTC of every sample of neighbouring chunks in ns, shape (n_samples,), read-only."""
    lengths = [c.n_samples for c in run]
    offsets_ns = sample_offsets_ns(max(lengths), rate_hz=stream.rate_hz or 1.0)
    offsets = [
        offsets_ns[: c.n_samples] if c.times is None else np.frombuffer(c.times, dtype="<i8") for c in run
    ]
    origins_ns = [c.start_ns if c.times is None else 0 for c in run]
    times_ns = np.concatenate(offsets) + np.repeat(np.array(origins_ns, dtype=np.int64), lengths)
    times_ns.flags.writeable = False
    return times_ns


def runs(mask: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield `[i, j)` of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _segment(stream: Stream, run: Sequence[Chunk]) -> Segment:
    times_ns = joined_times_ns(stream, run)
    return Segment(
        boot_id=run[0].boot_id,
        first_index=run[0].first_index,
        start_ns=int(times_ns[0]),
        values=joined_values(stream, run),
        times_ns=times_ns,
        uncertainty_ns=max(c.uncertainty_ns for c in run),
    )
