"""What a gateway records, as Sparkplug metrics: blocks of samples, gaps, and raw frames.

Every stream of a device has these metrics, told in the device's birth under an alias each:

===================  ===========  =====================================================================
name                 type         meaning
===================  ===========  =====================================================================
`stream/block`       Int64Array   the `BLOCK_FIELDS` of this block, in that order
`stream/times_ns`    Int64Array   UTC of every sample; only for a stream without rate
`stream/gap`         Int64Array   the `GAP_FIELDS` of this gap, in that order
`stream/channel`     typed array  raw samples of one channel; unit, code and scale are birth properties
===================  ===========  =====================================================================

An alias is `stream number << 10 | slot`; stream numbers are the edge node's and are kept with its spool, so
that a record stored before a restart still means the same after it. A data message carries one record. Those
of raw frames are in `raw_frames`.

The body of a message (its metrics) is stored in the spool as it goes out; publishing puts a header before it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from protocols.errors import DecodeError, DefinitionError
from protocols.frames import RAW, FrameBlock
from protocols.gaps import Gap, GapReason
from protocols.records import Record
from protocols.samples import Channel, SampleBlock, Stream
from protocols.sparkplug.payload import ARRAY_DTYPES, DataType, Metric, Properties, decode_array, parse
from protocols.sparkplug.raw_frames import FRAME_FIELDS, decode_frames, encode_frames, frame_metrics
from protocols.sparkplug.schema import PayloadMessage

BLOCK_FIELDS: Final = (
    "spool_seq",
    "boot_id",
    "first_index",
    "start_ns",
    "uncertainty_ns",
    "device_ns",
    "arrival_ns",
    "arrival_monotonic_ns",
)
"""Items of the `block` metric; a `device_ns` of -2^63 means that the device has no clock."""

GAP_FIELDS: Final = (
    "spool_seq",
    "after_boot_id",
    "after_index",
    "start_ns",
    "end_ns",
    "n_samples",
    "reason",
)
"""Items of the `gap` metric; `n_samples` is -1 where nobody knows, `reason` counts from 0 in `GapReason`."""

MAX_CHANNELS: Final = 1000

_BLOCK = struct.Struct("<8q")
_GAP = struct.Struct("<7q")
_NO_DEVICE_CLOCK = -(1 << 63)
_SLOT_BITS = 10
_BLOCK_SLOT, _TIMES_SLOT, _GAP_SLOT, _FIRST_CHANNEL_SLOT = 0, 1, 2, 16
_OWN_PARTS: Final = ("block", "times_ns", "gap")
_LEADING_PARTS: Final = {"block": _BLOCK.size, "gap": _GAP.size, "frames": 8 * len(FRAME_FIELDS)}
"""The parts that begin with the place in the spool, and their bytes."""
_REASONS: Final = tuple(GapReason)
_ARRAY_TYPE_OF: Final = {dtype: datatype for datatype, dtype in ARRAY_DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Received:
    """A record with its place in the sender's spool."""

    spool_seq: int
    record: Record
    is_historical: bool


def birth_metrics(stream: Stream, *, stream_number: int, timestamp_ms: int) -> list[Metric]:
    """Return the metrics that announce a stream (or `RAW`) in its device's birth, all null.

    Raises
    ------
    DefinitionError
        If the stream has more than `MAX_CHANNELS` channels, one named like a metric of the block itself, or
        the name of `RAW`.
    """
    base = stream_number << _SLOT_BITS
    if stream == RAW:
        return frame_metrics(base_alias=base, timestamp_ms=timestamp_ms)
    if stream.name == RAW.name:
        raise DefinitionError(f"stream {stream.name!r}, expected a name other than that of the raw frames")
    if len(stream.channels) > MAX_CHANNELS:
        n_channels = len(stream.channels)
        raise DefinitionError(f"{n_channels} channels in {stream.name}, expected at most {MAX_CHANNELS}")
    block_properties: dict[str, str | int | float | bool] = {"fields": ",".join(BLOCK_FIELDS)}
    if stream.rate_hz is not None:
        block_properties["rate_hz"] = stream.rate_hz
    gap_properties = {"fields": ",".join(GAP_FIELDS), "reasons": ",".join(_REASONS)}
    plan: list[tuple[str, int, DataType, Properties]] = [
        ("block", _BLOCK_SLOT, DataType.INT64_ARRAY, block_properties),
        ("gap", _GAP_SLOT, DataType.INT64_ARRAY, gap_properties),
    ]
    if stream.rate_hz is None:
        plan.append(("times_ns", _TIMES_SLOT, DataType.INT64_ARRAY, {}))
    for i, channel in enumerate(stream.channels):
        if channel.name in _OWN_PARTS:
            raise DefinitionError(f"channel {channel.name!r} of {stream.name}, expected a name not yet taken")
        datatype = _ARRAY_TYPE_OF[stream.dtype]
        plan.append((channel.name, _FIRST_CHANNEL_SLOT + i, datatype, _channel_properties(channel)))
    return [
        Metric(
            name=f"{stream.name}/{name}",
            alias=base + slot,
            datatype=datatype,
            timestamp_ms=timestamp_ms,
            properties=properties,
        )
        for name, slot, datatype, properties in plan
    ]


def encode_record(record: Record, *, spool_seq: int, stream_number: int) -> bytes:
    """Return the metrics of a data message that carries a record, as bytes to follow a message's header."""
    base = stream_number << _SLOT_BITS
    if isinstance(record, FrameBlock):
        return encode_frames(record, spool_seq=spool_seq, base_alias=base)
    if isinstance(record, Gap):
        return _encode_gap(record, spool_seq, base)
    return _encode_block(record, spool_seq, base)


def _encode_block(block: SampleBlock, spool_seq: int, base: int) -> bytes:
    timestamp_ms = max(0, block.start_ns // 1_000_000)
    payload = PayloadMessage()
    add = payload.metrics.add
    device_ns = _NO_DEVICE_CLOCK if block.device_ns is None else block.device_ns
    fields = _BLOCK.pack(
        spool_seq,
        block.boot_id,
        block.first_index,
        block.start_ns,
        block.uncertainty_ns,
        device_ns,
        block.arrival_ns,
        block.arrival_monotonic_ns,
    )
    add(alias=base + _BLOCK_SLOT, timestamp=timestamp_ms, bytes_value=fields)
    if block.times_ns is not None:
        times = block.times_ns.astype("<i8", copy=False).tobytes()
        add(alias=base + _TIMES_SLOT, timestamp=timestamp_ms, bytes_value=times)
    values = block.values.astype(block.values.dtype.newbyteorder("<"), copy=False)
    for i, row in enumerate(values):
        add(alias=base + _FIRST_CHANNEL_SLOT + i, timestamp=timestamp_ms, bytes_value=row.tobytes())
    return bytes(payload.SerializeToString())


def _encode_gap(gap: Gap, spool_seq: int, base: int) -> bytes:
    fields = _GAP.pack(
        spool_seq,
        gap.after_boot_id,
        gap.after_index,
        gap.start_ns,
        gap.end_ns,
        -1 if gap.n_samples is None else gap.n_samples,
        _REASONS.index(gap.reason),
    )
    payload = PayloadMessage()
    payload.metrics.add(alias=base + _GAP_SLOT, timestamp=max(0, gap.start_ns // 1_000_000), bytes_value=fields)
    return bytes(payload.SerializeToString())


def mark_historical(body: bytes) -> bytes:
    """Return a stored body with every metric flagged as stored data (specification 3.0, section 6.4.5)."""
    payload = parse(body)
    for metric in payload.metrics:
        metric.is_historical = True
    return bytes(payload.SerializeToString())


class RecordReader:
    """Turns a device's data messages back into records, by what its birth announced.

    Parameters
    ----------
    device
        The device's name.
    metrics
        Its birth's metrics; those that are not a stream's are left alone.

    Raises
    ------
    DecodeError
        If the birth announces a stream that cannot be.
    """

    def __init__(self, device: str, metrics: Sequence[Metric]) -> None:
        self.device = device
        self.aliases = frozenset(m.alias for m in metrics if m.alias is not None)
        streams = [_announced(m, metrics) for m in metrics if m.name is not None and m.name.endswith("/block")]
        streams += [_announced_frames(m, metrics) for m in metrics if m.name == f"{RAW.name}/frames"]
        self.streams: tuple[Stream, ...] = tuple(stream for stream, _ in streams)
        self._part_of = {
            alias: (i, part) for i, (_, parts) in enumerate(streams) for part, alias in parts.items()
        }

    def streams_by_alias(self) -> dict[int, Stream]:
        """Return the streams by the alias of their first metric."""
        first = ("block", "frames")
        return {alias: self.streams[i] for alias, (i, part) in self._part_of.items() if part in first}

    def spool_seq(self, message: Any) -> int | None:
        """Return the place in the spool that a parsed data message claims, even if `read` refuses it."""
        for metric in message.metrics:
            _, part = self._part_of.get(metric.alias, (0, ""))
            if part in _LEADING_PARTS and len(metric.bytes_value) == _LEADING_PARTS[part]:
                return int.from_bytes(metric.bytes_value[:8], "little", signed=True)
        return None

    def read(self, message: Any) -> list[Received]:
        """Return the records of a parsed data message; metrics of other kinds are left alone.

        Raises
        ------
        DecodeError
            If a record's parts are missing, contradict each other or do not fit the birth.
        """
        parts: dict[int, dict[str, Any]] = {}
        for metric in message.metrics:
            place = self._part_of.get(metric.alias)
            if place is not None:
                parts.setdefault(place[0], {})[place[1]] = metric
        return [self._record(self.streams[i], found) for i, found in parts.items()]

    def _record(self, stream: Stream, parts: dict[str, Any]) -> Received:
        historical = next(iter(parts.values())).is_historical
        if stream == RAW:
            return Received(*decode_frames(self.device, parts), is_historical=historical)
        if parts.keys() == {"gap"}:
            return Received(*_decode_gap(self.device, stream, parts["gap"]), is_historical=historical)
        return Received(*self._block(stream, parts), is_historical=historical)

    def _block(self, stream: Stream, parts: dict[str, Any]) -> tuple[int, SampleBlock]:
        expected = {"block", *(c.name for c in stream.channels)}
        if stream.rate_hz is None:
            expected.add("times_ns")
        if parts.keys() != expected:
            raise DecodeError(f"block of {stream.name} carries {sorted(parts)}, expected {sorted(expected)}")
        for name, metric in parts.items():
            if metric.WhichOneof("value") != "bytes_value":
                raise DecodeError(f"metric {stream.name}/{name} carries no array, expected one")
        fields = parts["block"].bytes_value
        if len(fields) != _BLOCK.size:
            raise DecodeError(f"metric {stream.name}/block of {len(fields)} bytes, expected {_BLOCK.size}")
        spool_seq, boot_id, first_index, start_ns, uncertainty_ns, device_ns, *arrival = _BLOCK.unpack(fields)
        rows = [decode_array(parts[c.name].bytes_value, stream.dtype) for c in stream.channels]
        if len({len(row) for row in rows}) != 1:
            raise DecodeError(
                f"channels of {stream.name} have {[len(r) for r in rows]} samples, expected equal"
            )
        times = None if stream.rate_hz is not None else decode_array(parts["times_ns"].bytes_value, "int64")
        try:
            block = SampleBlock(
                device=self.device,
                stream=stream,
                boot_id=boot_id,
                first_index=first_index,
                start_ns=start_ns,
                values=np.concatenate(rows).reshape(len(rows), -1),
                arrival_ns=arrival[0],
                arrival_monotonic_ns=arrival[1],
                uncertainty_ns=uncertainty_ns,
                device_ns=None if device_ns == _NO_DEVICE_CLOCK else device_ns,
                times_ns=times,
            )
        except DefinitionError as error:
            raise DecodeError(f"block of {stream.name}: {error}") from None
        return int(spool_seq), block


def _decode_gap(device: str, stream: Stream, metric: Any) -> tuple[int, Gap]:
    fields = metric.bytes_value
    if len(fields) != _GAP.size:
        raise DecodeError(f"metric {stream.name}/gap of {len(fields)} bytes, expected {_GAP.size}")
    spool_seq, after_boot_id, after_index, start_ns, end_ns, n_samples, reason = _GAP.unpack(fields)
    if not 0 <= reason < len(_REASONS):
        raise DecodeError(f"reason {reason} of a gap in {stream.name}, expected 0 to {len(_REASONS) - 1}")
    try:
        gap = Gap(
            device=device,
            stream=stream,
            after_boot_id=after_boot_id,
            after_index=after_index,
            start_ns=start_ns,
            end_ns=end_ns,
            n_samples=None if n_samples == -1 else n_samples,
            reason=_REASONS[reason],
        )
    except DefinitionError as error:
        raise DecodeError(f"gap in {stream.name}: {error}") from None
    return int(spool_seq), gap


def _channel_properties(channel: Channel) -> Properties:
    properties: dict[str, str | int | float | bool] = {
        "engUnit": channel.unit,
        "scale": channel.scale,
        "offset": channel.offset,
    }
    return properties if channel.mdc is None else {**properties, "mdc": channel.mdc}


def _announced(block: Metric, metrics: Sequence[Metric]) -> tuple[Stream, dict[str, int]]:
    """Return a stream and the alias of each of its parts, from the metrics of a birth."""
    stream_name = (block.name or "").removesuffix("/block")
    if block.properties.get("fields") != ",".join(BLOCK_FIELDS):
        raise DecodeError(f"metric {block.name} announces fields {block.properties.get('fields')!r}")
    own = sorted(
        (m for m in metrics if m.name is not None and m.name.rpartition("/")[0] == stream_name),
        key=lambda m: m.alias or 0,
    )
    parts = {(m.name or "").rpartition("/")[2]: m.alias for m in own}
    channels = [m for m in own if m.name not in {f"{stream_name}/{part}" for part in _OWN_PARTS}]
    dtypes = {ARRAY_DTYPES.get(m.datatype) if m.datatype is not None else None for m in channels}
    dtype = dtypes.pop() if len(dtypes) == 1 else None
    if dtype is None or None in parts.values():
        raise DecodeError(f"stream {stream_name}, expected channels of one array type, each with an alias")
    rate_hz = block.properties.get("rate_hz")
    try:
        stream = Stream(
            name=stream_name,
            channels=tuple(_channel(m) for m in channels),
            dtype=dtype,
            rate_hz=None if rate_hz is None else float(rate_hz),
        )
    except (DefinitionError, ValueError, TypeError, OverflowError) as error:
        raise DecodeError(f"stream {stream_name}: {error}") from None
    if (stream.rate_hz is None) != ("times_ns" in parts):
        raise DecodeError(f"stream {stream_name}, expected times_ns exactly where there is no rate_hz")
    return stream, {part: alias for part, alias in parts.items() if alias is not None}


def _announced_frames(frames: Metric, metrics: Sequence[Metric]) -> tuple[Stream, dict[str, int]]:
    """Return `RAW` and the alias of each of its parts, from the metrics of a birth."""
    if frames.properties.get("fields") != ",".join(FRAME_FIELDS):
        raise DecodeError(f"metric {frames.name} announces fields {frames.properties.get('fields')!r}")
    own = {m.name: m.alias for m in metrics if m.name is not None and m.name.rpartition("/")[0] == RAW.name}
    return RAW, {name.rpartition("/")[2]: alias for name, alias in own.items() if alias is not None}


def _channel(metric: Metric) -> Channel:
    properties = metric.properties
    mdc = properties.get("mdc")
    return Channel(
        name=(metric.name or "").rpartition("/")[2],
        unit=str(properties.get("engUnit", "")),
        mdc=None if mdc is None else int(mdc),
        scale=float(properties.get("scale", 1.0)),
        offset=float(properties.get("offset", 0.0)),
    )
