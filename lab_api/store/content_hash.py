"""The content hash: one number for what a session says, whatever store holds it and in whatever pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from lab_api.store.session_gaps import SessionGap
from lab_api.store.session_store import (
    AnnotationSet,
    Segment,
    Session,
    StreamKey,
    canonical_json,
)
from protocols.frames import FrameBlock


def content_hash(
    session: Session,
    streams: Iterable[tuple[StreamKey, Iterable[Segment]]],
    annotations: Iterable[AnnotationSet],
    *,
    gaps: Iterable[SessionGap] = (),
    frames: Iterable[tuple[str, str, Iterable[FrameBlock]]] = (),
) -> str:
    """Return the SHA-256 of a session's content, in hex, whatever store holds it and in whatever pieces.

    The content is one JSON text: identity, subject, devices and interval of the session; for every stream with
    samples its description, the runs of its sample indices `[boot_id, first_index, n_samples]`, the SHA-256 of
    its values (little-endian, sample after sample, channels together) and of its times (int64, little-endian),
    both in the order of boot id and index; and the annotation sets. Title and software version are no content.

    A session with gaps or frames is of format 2, which adds to this each declared gap, cut to the session, and
    for every device with frames the runs of their indices `[connection_id, first_frame, n_frames]`, the SHA-256
    of their bytes (frame after frame: source, a zero byte, length as uint32, bytes) and of their arrivals
    (int64, UTC and monotonic clock of frame after frame, little-endian). A session without them is of format 1,
    so what was hashed before there were any has the same hash for ever. What nobody declared follows from the
    rest and is not hashed.

    Parameters
    ----------
    streams
        Segments of each stream in the order of boot id and index; how long each one is does not matter.
    gaps
        The declared ones, as far as they lie in the session.
    frames
        (gateway, device, blocks in the order of connection and index); how long each one is does not matter.
    """
    described = [_described(key, segments) for key, segments in streams]
    described_frames = [_described_frames(*device) for device in frames]
    document: dict[str, object] = {
        "format": "living-lab session content 1",
        "id": session.id,
        "subject": session.subject,
        "devices": sorted((d.role, d.gateway, d.device) for d in session.devices),
        "opened_ns": session.opened_ns,
        "closed_ns": session.closed_ns,
        "streams": sorted(text for text in described if text is not None),
        "annotations": sorted(annotation.canonical() for annotation in annotations),
    }
    added = {
        "gaps": sorted(_described_gap(gap) for gap in gaps),
        "frames": sorted(text for text in described_frames if text is not None),
    }
    if any(added.values()):
        document |= {"format": "living-lab session content 2", **added}
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def _described_gap(gap: SessionGap) -> str:
    return canonical_json(
        {
            "gateway": gap.gateway,
            "device": gap.gap.device,
            "stream": gap.gap.stream.to_json(),
            "after": [gap.gap.after_boot_id, gap.gap.after_index],
            "interval": [gap.gap.start_ns, gap.gap.end_ns],
            "n_samples": gap.gap.n_samples,
            "reason": gap.gap.reason.value,
            "is_part": gap.is_part,
        }
    )


def _described_frames(gateway: str, device: str, blocks: Iterable[FrameBlock]) -> str | None:
    data, times = hashlib.sha256(), hashlib.sha256()
    runs: list[list[int]] = []
    for block in blocks:
        for source, content in zip(block.sources, block.data, strict=True):
            data.update(b"%s\0%s" % (source.encode(), len(content).to_bytes(4, "little")))
            data.update(content)
        arrivals = np.stack([block.arrival_ns, block.arrival_monotonic_ns], axis=1)
        times.update(arrivals.astype("<i8", copy=False).tobytes())
        _extend(runs, block.connection_id, block.first_frame, block.n_frames)
    if not runs:
        return None
    return canonical_json(
        {
            "gateway": gateway,
            "device": device,
            "runs": runs,
            "data": data.hexdigest(),
            "times": times.hexdigest(),
        }
    )


def _extend(runs: list[list[int]], count_id: int, first: int, n: int) -> None:
    """Add `n` items from `first` of a count to the runs, joined to the last one if they follow it."""
    last = runs[-1] if runs else None
    if last is not None and (last[0], last[1] + last[2]) == (count_id, first):
        last[2] += n
    else:
        runs.append([count_id, first, n])


def _described(key: StreamKey, segments: Iterable[Segment]) -> str | None:
    values, times = hashlib.sha256(), hashlib.sha256()
    runs: list[list[int]] = []
    dtype = np.dtype(key.stream.dtype).newbyteorder("<")
    for segment in segments:
        values.update(segment.values.T.astype(dtype, copy=False).tobytes())
        times.update(segment.times_ns.astype("<i8", copy=False).tobytes())
        _extend(runs, segment.boot_id, segment.first_index, segment.n_samples)
    if not runs:
        return None
    return canonical_json(
        {
            "gateway": key.gateway,
            "device": key.device,
            "stream": key.stream.to_json(),
            "runs": runs,
            "values": values.hexdigest(),
            "times": times.hexdigest(),
        }
    )
