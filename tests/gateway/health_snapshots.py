"""Snapshots of a gateway with one strap and one oximeter, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gateway.clock_offset import ClockOffset
from gateway.device_health import DeviceHealth, DeviceState, StreamHealth
from gateway.health import Value
from gateway.health_snapshot import Disk, Snapshot
from gateway.supervisor import GatewayHealth
from protocols.devices import battery, heart_rate, nonin, polar
from protocols.samples import SampleBlock, Stream

NOW_NS = 1_790_000_000_000_000_000
START_S = 1000.0


def block(
    stream: Stream, *samples: Sequence[float], age_s: float = 0.0, uncertainty_ns: int = 0
) -> SampleBlock:
    """Return a block of samples, each a sequence of its channels, the last taken `age_s` ago."""
    values = np.array(samples, stream.dtype).T
    step_ns = round(1e9 / stream.rate_hz) if stream.rate_hz else 0
    start_ns = NOW_NS - round(age_s * 1e9) - step_ns * (len(samples) - 1)
    times_ns = None if stream.rate_hz else np.full(len(samples), start_ns, np.int64)
    return SampleBlock("strap", stream, 1, 0, start_ns, values, start_ns, 0, uncertainty_ns, times_ns=times_ns)


def strap(**changes: Any) -> DeviceHealth:
    """Return a streaming chest strap."""
    streams = tuple(StreamHealth(s) for s in (polar.ECG, heart_rate.HEART_RATE, battery.STREAM))
    health = DeviceHealth("strap", "polar-h10", state=DeviceState.STREAMING, streams=streams)
    return replace(health, **changes)


def finger(**changes: Any) -> DeviceHealth:
    """Return a streaming oximeter."""
    streams = tuple(StreamHealth(s) for s in (nonin.PLETH, nonin.OXIMETRY))
    health = DeviceHealth("finger", "nonin-7", state=DeviceState.STREAMING, streams=streams)
    return replace(health, **changes)


def with_stream(device: DeviceHealth, name: str, **changes: Any) -> DeviceHealth:
    """Return the device with one stream changed."""
    streams = tuple(replace(s, **changes) if s.name == name else s for s in device.streams)
    return replace(device, streams=streams)


def gateway(*devices: DeviceHealth, **changes: Any) -> GatewayHealth:
    """Return a gateway that is well."""
    well = GatewayHealth(
        devices=devices,
        backlog_blocks=0,
        backlog_bytes=0,
        oldest_unsent_s=0.0,
        refused_blocks=0,
        spool_fault="",
        broker_connected=True,
        host_online=True,
        sent_blocks=0,
        resent_blocks=0,
        last_error="",
    )
    return replace(well, **changes)


def snapshot(*devices: DeviceHealth, after_s: float = 0.0, **changes: Any) -> Snapshot:
    """Return a snapshot of a gateway that is well, on a good disk, with a good clock."""
    well = Snapshot(
        gateway=gateway(*devices),
        taken_s=START_S + after_s,
        now_ns=NOW_NS,
        max_spool_bytes=4 << 30,
        put_bytes=0,
        disk=Disk(free_bytes=100 << 30, spool_bytes=65536),
        clock=ClockOffset(120_000, 900_000, "chrony", synchronised=True),
    )
    return replace(well, **changes)


def said(values: Sequence[Value], name: str, device: str = "", stream: str = "") -> object:
    """Return the value of a figure."""
    (found,) = [v for v in values if (v.figure.name, v.device, v.stream) == (name, device, stream)]
    return found.value
