"""Records that never made sense: what is kept of them, and the gap that stands in for them."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lab_api.store.session_store import SessionStore
from protocols.errors import DecodeError, DefinitionError
from protocols.frames import RAW
from protocols.gaps import Gap, GapReason
from protocols.samples import Stream
from protocols.sparkplug.blocks import BLOCK_FIELDS
from protocols.sparkplug.host import RecordRejected
from protocols.sparkplug.payload import parse
from protocols.sparkplug.raw_frames import FRAME_FIELDS, PARTS

_LENGTHS: Final = list(PARTS).index("length")
_TIMES: Final = 1  # place of a block's times after the block itself


@dataclass(frozen=True, slots=True)
class SetAside:
    """A record that is set aside under a name; the reason is empty if what is kept does not tell it."""

    name: str
    gateway: str = ""
    device: str = ""
    spool_seq: int = 0
    reason: str = ""


def document(event: RecordRejected) -> bytes:
    """Return everything that is known of a record that made no sense, as JSON."""
    return json.dumps(
        {
            "group": event.node.group,
            "gateway": event.node.name,
            "incarnation": event.incarnation,
            "spool_seq": event.spool_seq,
            "device": event.device,
            "reason": event.reason,
            "streams": {alias: json.loads(stream.to_json()) for alias, stream in event.streams.items()},
            "payload_base64": base64.b64encode(event.payload).decode(),
        },
        indent=1,
    ).encode()


def listed(store: SessionStore) -> list[SetAside]:
    """Return what is set aside in a store."""
    return [_listed(name, store.read_aside(name)) for name in store.aside()]


def stand_in(event: RecordRejected, now_ns: int) -> Gap | None:
    """Return the gap that takes the place of a record that made no sense; None if its device has no stream.

    Which samples are missing, and when they were taken, is told as far as the record's own words agree with
    each other. Otherwise the gap is at the time that its message bears, or else at `now_ns`, and has no count.
    """
    try:
        metrics = {metric.alias: metric for metric in parse(event.payload).metrics}
    except DecodeError:
        metrics = {}
    leading = min((alias for alias in metrics if alias in event.streams), default=None)
    if leading is None:
        before = [known for known in event.streams if any(known <= alias for alias in metrics)]
        leading = max(before, default=min(event.streams, default=None))
    if leading is None:
        return None
    stream = event.streams[leading]
    timestamp_ms = max((metric.timestamp for metric in metrics.values()), default=0)
    start_ns = timestamp_ms * 1_000_000 if 0 < timestamp_ms < 1 << 43 else now_ns
    boot_id, first, said_ns, count = _said(stream, leading, metrics)
    if said_ns is not None and said_ns // 1_000_000 == start_ns // 1_000_000:
        start_ns = said_ns
    lasts_ns = 0 if count is None or stream.rate_hz is None else round(count * 1e9 / stream.rate_hz)
    try:
        return Gap(
            event.device, stream, boot_id, first - 1, start_ns, start_ns + lasts_ns, count, _NOT_UNDERSTOOD
        )
    except DefinitionError:
        own_id = (event.incarnation ^ event.spool_seq) & ((1 << 63) - 1)
        return Gap(event.device, stream, own_id, -1, start_ns, start_ns, None, _NOT_UNDERSTOOD)


_NOT_UNDERSTOOD: Final = GapReason.NOT_UNDERSTOOD


def _said(stream: Stream, leading: int, metrics: Mapping[int, Any]) -> tuple[int, int, int | None, int | None]:
    """Return boot id, index and time of the first sample (or frame) and the count; -1 and None where untold."""
    names = FRAME_FIELDS if stream == RAW else BLOCK_FIELDS
    content = metrics[leading].bytes_value if leading in metrics else b""
    if len(content) != 8 * len(names):
        return -1, -1, None, None
    fields = dict(zip(names, struct.unpack(f"<{len(names)}q", content), strict=True))
    if stream == RAW:
        lengths = metrics[leading + _LENGTHS].bytes_value if leading + _LENGTHS in metrics else b""
        return fields["connection_id"], fields["first_frame"], None, len(lengths) // 4 or None
    end = leading + (1 << 10)
    rows = {len(m.bytes_value) for alias, m in metrics.items() if leading + _TIMES < alias < end}
    itemsize = np.dtype(stream.dtype).itemsize
    count = rows.pop() // itemsize if len(rows) == 1 else None
    return fields["boot_id"], fields["first_index"], fields["start_ns"], count or None


def _listed(name: str, content: bytes) -> SetAside:
    try:
        kept = json.loads(content)
        return SetAside(name, kept["gateway"], kept["device"], kept["spool_seq"], kept["reason"])
    except (ValueError, KeyError, TypeError):
        return SetAside(name)
