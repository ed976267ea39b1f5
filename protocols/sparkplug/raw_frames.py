"""A `FrameBlock` as Sparkplug metrics.

Announced in a device's birth under the name `raw`; the frames' bytes follow each other in `raw/data`:

==========================  ===========  ==================================================================
name                        type         meaning
==========================  ===========  ==================================================================
`raw/frames`                Int64Array   the `FRAME_FIELDS` of this block, in that order
`raw/arrival_ns`            Int64Array   UTC at which each frame was received
`raw/arrival_monotonic_ns`  Int64Array   the same on the gateway's monotonic clock
`raw/length`                UInt32Array  bytes of each frame
`raw/source_index`          UInt8Array   which of `raw/source` each frame came from
`raw/source`                String       the sources, separated by commas
`raw/data`                  Bytes        the bytes of all frames
==========================  ===========  ==================================================================
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from protocols.errors import DecodeError, DefinitionError
from protocols.frames import FrameBlock
from protocols.sparkplug.payload import DataType, Metric, decode_array
from protocols.sparkplug.schema import PayloadMessage

FRAME_FIELDS: Final = ("spool_seq", "connection_id", "first_frame")
"""Items of the `frames` metric."""

PARTS: Final[Mapping[str, DataType]] = {
    "frames": DataType.INT64_ARRAY,
    "arrival_ns": DataType.INT64_ARRAY,
    "arrival_monotonic_ns": DataType.INT64_ARRAY,
    "length": DataType.UINT32_ARRAY,
    "source_index": DataType.UINT8_ARRAY,
    "source": DataType.STRING,
    "data": DataType.BYTES,
}
"""The metrics in the order of their aliases."""

_FIELDS = struct.Struct("<3q")


def frame_metrics(*, base_alias: int, timestamp_ms: int) -> list[Metric]:
    """Return the metrics that announce a device's raw frames in its birth, all null."""
    fields = {"fields": ",".join(FRAME_FIELDS)}
    return [
        Metric(
            name=f"raw/{part}",
            alias=base_alias + i,
            datatype=datatype,
            timestamp_ms=timestamp_ms,
            properties=fields if part == "frames" else {},
        )
        for i, (part, datatype) in enumerate(PARTS.items())
    ]


def encode_frames(block: FrameBlock, *, spool_seq: int, base_alias: int) -> bytes:
    """Return the metrics of a data message that carries raw frames, as bytes to follow a message's header."""
    sources = sorted(set(block.sources))
    values: dict[str, bytes | str] = {
        "frames": _FIELDS.pack(spool_seq, block.connection_id, block.first_frame),
        "arrival_ns": block.arrival_ns.astype("<i8", copy=False).tobytes(),
        "arrival_monotonic_ns": block.arrival_monotonic_ns.astype("<i8", copy=False).tobytes(),
        "length": np.array([len(data) for data in block.data], dtype="<u4").tobytes(),
        "source_index": bytes(sources.index(source) for source in block.sources),
        "source": ",".join(sources),
        "data": b"".join(block.data),
    }
    payload = PayloadMessage()
    timestamp_ms = max(0, int(block.arrival_ns[0]) // 1_000_000)
    for i, part in enumerate(PARTS):
        value = values[part]
        metric = payload.metrics.add(alias=base_alias + i, timestamp=timestamp_ms)
        if isinstance(value, str):
            metric.string_value = value
        else:
            metric.bytes_value = value
    return bytes(payload.SerializeToString())


def decode_frames(device: str, parts: Mapping[str, Any]) -> tuple[int, FrameBlock]:
    """Return the place in the spool and the frames that a message's metrics, by part, carry.

    Raises
    ------
    DecodeError
        If parts are missing, contradict each other or are of another type.
    """
    if parts.keys() != PARTS.keys():
        raise DecodeError(f"raw frames carry {sorted(parts)}, expected {sorted(PARTS)}")
    for part, metric in parts.items():
        expected = "string_value" if part == "source" else "bytes_value"
        if metric.WhichOneof("value") != expected:
            raise DecodeError(f"metric raw/{part} carries {metric.WhichOneof('value')}, expected {expected}")
    fields = parts["frames"].bytes_value
    if len(fields) != _FIELDS.size:
        raise DecodeError(f"metric raw/frames of {len(fields)} bytes, expected {_FIELDS.size}")
    spool_seq, connection_id, first_frame = _FIELDS.unpack(fields)
    data = parts["data"].bytes_value
    ends = np.cumsum(decode_array(parts["length"].bytes_value, "uint32"), dtype=np.int64).tolist()
    if not ends or ends[-1] != len(data):
        raise DecodeError(f"raw frames of {len(data)} bytes, expected the sum of their lengths")
    text = parts["source"].string_value
    sources = text.split(",") if isinstance(text, str) else []
    indices = parts["source_index"].bytes_value
    if not indices or max(indices) >= len(sources):
        raise DecodeError(f"raw frames name source {max(indices, default=0)} of {len(sources)}, expected less")
    try:
        block = FrameBlock(
            device=device,
            connection_id=connection_id,
            first_frame=first_frame,
            sources=tuple(sources[i] for i in indices),
            data=tuple(data[i:j] for i, j in zip([0, *ends[:-1]], ends, strict=True)),
            arrival_ns=decode_array(parts["arrival_ns"].bytes_value, "int64"),
            arrival_monotonic_ns=decode_array(parts["arrival_monotonic_ns"].bytes_value, "int64"),
        )
    except DefinitionError as error:
        raise DecodeError(f"raw frames: {error}") from None
    return int(spool_seq), block
