"""Sessions and blocks for the contract: what a sample says follows from its index, so any loss shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from lab_api.store.session_store import Session, SessionDevice, SessionStore
from protocols.samples import Channel, SampleBlock, Stream

OPENED_NS = 1_790_000_000_000_000_000
GATEWAY = "gw-1"
DEVICE = "strap"


def open_session(store: SessionStore, **changes: Any) -> Session:
    fields: dict[str, Any] = {
        "subject": "S-001",
        "devices": [SessionDevice("test", GATEWAY, DEVICE)],
        "opened_ns": OPENED_NS,
    }
    return store.open_session(**(fields | changes))


def make_stream(
    *, dtype: str = "int16", rate_hz: float | None = 250.0, n_channels: int = 2, name: str = "ecg"
) -> Stream:
    channels = tuple(Channel(f"lead_{i}", "uV", scale=2.5) for i in range(n_channels))
    return Stream(name, channels, dtype, rate_hz)


def make_block(
    first_index: int,
    n_samples: int,
    *,
    stream: Stream | None = None,
    boot_id: int = 7,
    device: str = DEVICE,
    shift: int = 0,
    offset_ns: int = 0,
    uncertainty_ns: int = 1000,
) -> SampleBlock:
    stream = stream or make_stream()
    indices = np.arange(first_index, first_index + n_samples)
    row = (indices * 31 + shift) % 97
    values = np.stack([row + i for i in range(len(stream.channels))]).astype(stream.dtype)
    times_ns = None
    start_ns = OPENED_NS + offset_ns
    if stream.rate_hz is None:
        times_ns = start_ns + indices * 800_000_000 + (indices % 3) * 1_000
        start_ns = int(times_ns[0])
    else:
        start_ns += round(first_index * 1e9 / stream.rate_hz)
    return SampleBlock(
        device=device,
        stream=stream,
        boot_id=boot_id,
        first_index=first_index,
        start_ns=start_ns,
        values=values,
        arrival_ns=start_ns + 5_000_000,
        arrival_monotonic_ns=start_ns - OPENED_NS,
        uncertainty_ns=uncertainty_ns,
        device_ns=start_ns - OPENED_NS,
        times_ns=times_ns,
    )


def write(store: SessionStore, session: Session, *blocks: SampleBlock) -> Any:
    return store.write({session.id: [(GATEWAY, block) for block in blocks]})


def read(store: SessionStore, session: Session, stream: str | Stream = "ecg", **limits: Any) -> Any:
    return store.read(session.id, GATEWAY, DEVICE, stream, **limits)


def indices_of(reading: Any) -> list[tuple[int, int]]:
    """Return (boot_id, sample_index) of every sample read."""
    return [(s.boot_id, s.first_index + i) for s in reading.segments for i in range(s.n_samples)]
