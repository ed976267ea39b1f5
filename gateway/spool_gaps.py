"""What spooled blocks hold, for when they have to go: which samples a missing block must have had.

Blocks of one stream follow each other by index, so its neighbours, or the position where the stream ended, tell
exactly what a lost block held. Raw frames are only counted: no gap can stand for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from gateway.spool_file import Position, SpooledBlock
from protocols.errors import DecodeError
from protocols.frames import RAW, FrameBlock
from protocols.gaps import Gap, GapReason
from protocols.records import Record
from protocols.samples import SampleBlock, Stream, sample_offsets_ns
from protocols.sparkplug.blocks import RecordReader, birth_metrics
from protocols.sparkplug.payload import parse
from protocols.sparkplug.schema import PayloadMessage

_SEQ_BYTES: Final = 8


class BodyReader:
    """Turns bodies back into records.

    Parameters
    ----------
    streams
        Device and stream by number.
    """

    def __init__(self, streams: Mapping[int, tuple[str, Stream]]) -> None:
        self._streams = streams
        self._readers: dict[int, RecordReader] = {}

    def read(self, block: SpooledBlock) -> Record:
        """Return the record; DecodeError if the body is none, or not of this block."""
        received = self._reader(block).read(parse(block.body))
        if len(received) != 1 or received[0].spool_seq != block.seq:
            raise DecodeError(f"body of block {block.seq}, expected one record of that number")
        return received[0].record

    def _reader(self, block: SpooledBlock) -> RecordReader:
        device, stream = self._streams.get(block.stream_number, ("", RAW))
        if device != block.device:
            raise DecodeError(f"stream {block.stream_number} of {block.device}, expected one that is known")
        reader = self._readers.get(block.stream_number)
        if reader is None:
            metrics = birth_metrics(stream, stream_number=block.stream_number, timestamp_ms=0)
            reader = self._readers[block.stream_number] = RecordReader(device, metrics)
        return reader


def renumbered(block: SpooledBlock, seq: int) -> SpooledBlock:
    """Return a block under another number, which its body tells too; DecodeError if it is no body."""
    if seq == block.seq:
        return block
    payload: PayloadMessage = parse(block.body)
    if not payload.metrics or len(payload.metrics[0].bytes_value) < _SEQ_BYTES:
        raise DecodeError(f"body of block {block.seq}, expected one that begins with its number")
    leading = payload.metrics[0]
    leading.bytes_value = seq.to_bytes(_SEQ_BYTES, "little") + leading.bytes_value[_SEQ_BYTES:]
    return replace(block, seq=seq, body=bytes(payload.SerializeToString()))


def expired(records: Iterable[Record]) -> Iterator[Gap]:
    """Yield the gaps that stand for records that are dropped; gaps stay, and raw frames go."""
    open_gaps: dict[tuple[str, Stream], Gap] = {}
    for record in records:
        if isinstance(record, FrameBlock):
            continue
        key = (record.device, record.stream)
        before = open_gaps.pop(key, None)
        if isinstance(record, SampleBlock):
            gap = _gap_of(record)
            open_gaps[key] = grown = _joined(before, gap)
            if before is not None and grown is gap:
                yield before
            continue
        if before is not None:
            yield before
        yield record
    yield from open_gaps.values()


def missing_between(before: Record, after: Record) -> Gap | None:
    """Return the gap between consecutive records of a stream of which some were lost, None if there is none.

    Where the count began anew in between nobody knows how many, unless a gap record covers it.
    """
    if isinstance(before, FrameBlock) or isinstance(after, FrameBlock):
        return None
    end = _end_of(before)
    boot_id, first_index, start_ns = _begins(after)
    if end is None or (end.boot_id != boot_id and (isinstance(before, Gap) or isinstance(after, Gap))):
        return None
    n_samples = first_index - end.last_index - 1 if end.boot_id == boot_id else None
    return _lost(before, end, start_ns, n_samples)


def missing_at_end(last: Record, position: Position) -> Gap | None:
    """Return the gap from a stream's last record to its position; None if there is none."""
    end = _end_of(last)
    if end is None or isinstance(last, FrameBlock):
        return None
    n_samples = position.last_index - end.last_index if end.boot_id == position.boot_id else None
    return _lost(last, end, position.due_ns, n_samples)


def missing_before(first: Record) -> Gap | None:
    """Return the gap that says that an unknown number may be missing before a stream's first record left."""
    if not isinstance(first, SampleBlock) or first.first_index == 0:
        return None
    start_ns = first.start_ns
    return Gap(first.device, first.stream, first.boot_id, -1, start_ns, start_ns, None, GapReason.SPOOL_DAMAGED)


def missing_stream(device: str, stream: Stream, position: Position) -> Gap:
    """Return the gap of a stream of which nothing is left but where it ended."""
    at_ns = position.due_ns
    return Gap(device, stream, position.boot_id, -1, at_ns, at_ns, None, GapReason.SPOOL_DAMAGED)


def _lost(before: SampleBlock | Gap, end: Position, until_ns: int, n_samples: int | None) -> Gap | None:
    if n_samples is not None and n_samples <= 0:
        return None
    return Gap(
        device=before.device,
        stream=before.stream,
        after_boot_id=end.boot_id,
        after_index=end.last_index,
        start_ns=end.due_ns,
        end_ns=max(end.due_ns, until_ns),
        n_samples=n_samples,
        reason=GapReason.SPOOL_DAMAGED,
    )


def _end_of(record: Record) -> Position | None:
    """Return the last sample that a record holds or misses; None of raw frames or a gap of unknown size."""
    match record:
        case SampleBlock():
            return Position(record.boot_id, record.first_index + record.n_samples - 1, _due_ns(record))
        case Gap(n_samples=int(n_samples)):
            return Position(record.after_boot_id, record.after_index + n_samples, record.end_ns)
        case _:
            return None


def _begins(record: SampleBlock | Gap) -> tuple[int, int, int]:
    """Return boot id, index and UTC of the first sample that a record holds or misses."""
    if isinstance(record, Gap):
        return record.after_boot_id, record.after_index + 1, record.start_ns
    return record.boot_id, record.first_index, record.start_ns


def _gap_of(block: SampleBlock) -> Gap:
    return Gap(
        device=block.device,
        stream=block.stream,
        after_boot_id=block.boot_id,
        after_index=block.first_index - 1,
        start_ns=block.start_ns,
        end_ns=max(block.start_ns, _due_ns(block)),
        n_samples=block.n_samples,
        reason=GapReason.SPOOL_FULL,
    )


def _joined(before: Gap | None, gap: Gap) -> Gap:
    """Return one gap for both if the second follows the first without a break, else the second."""
    if before is None or before.n_samples is None or gap.n_samples is None:
        return gap
    follows = (gap.after_boot_id, gap.after_index) == (
        before.after_boot_id,
        before.after_index + before.n_samples,
    )
    if not follows:
        return gap
    return replace(before, end_ns=max(before.end_ns, gap.end_ns), n_samples=before.n_samples + gap.n_samples)


def _due_ns(block: SampleBlock) -> int:
    if block.stream.rate_hz is None:
        return int(block.sample_times_ns()[-1]) + 1
    return block.start_ns + int(sample_offsets_ns(block.n_samples + 1, rate_hz=block.stream.rate_hz)[-1])
