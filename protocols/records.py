"""What a gateway hands to the recorder, in the order of its spool: samples, gaps, and raw frames."""

from __future__ import annotations

from typing import Final

from protocols.frames import RAW, FrameBlock
from protocols.gaps import Gap
from protocols.samples import Channel, SampleBlock, Stream

Record = SampleBlock | Gap | FrameBlock
"""Each knows its `device`, and its part `between(start_ns, end_ns)`."""


GATEWAY_DEVICE: Final = "gateway"
"""The device name under which a gateway records what it knows of itself; every session has it."""

CLOCK: Final = Stream(
    "clock",
    (Channel("offset", "ns"), Channel("uncertainty", "ns"), Channel("synchronised", "1")),
    "int64",
    None,
)
"""How far a gateway's clock was ahead of UTC (`offset`), as it knew itself; an `uncertainty` of 2^63-1 means
that it did not know."""


def stream_of(record: Record) -> Stream:
    """Return the stream under which a record is numbered and announced."""
    return RAW if isinstance(record, FrameBlock) else record.stream


def span_ns(record: Record) -> tuple[int, int]:
    """Return the UTC of the first and of the last moment that a record speaks of, in ns."""
    if isinstance(record, Gap):
        return record.start_ns, max(record.start_ns, record.end_ns - 1)
    times_ns = record.arrival_ns if isinstance(record, FrameBlock) else record.sample_times_ns()
    return int(times_ns.min()), int(times_ns.max())
