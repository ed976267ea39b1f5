"""The figures of a gateway's health: one table that Sparkplug, Prometheus and people read alike.

What is not known has no value: `None`, never a guess. Rates and ages of samples are in lab time; what concerns
this machine (spool, disk, its clock) is in real time.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from gateway.health_snapshot import OfDevice, OfGateway, OfStream
from protocols.devices import heart_rate, nonin
from protocols.samples import SampleBlock, Stream

SHORTEST_S: Final = 5.0
BUFFER_SHORTEST_S: Final = 60.0
"""What was seen for less time than this makes no share, and no hours of buffer."""

DISK_LOW_BYTES: Final = 1 << 30
BUFFER_LOW_H: Final = 24.0
BACKLOG_OLD_S: Final = 60.0
CLOCK_DOUBTFUL_S: Final = 0.05
BATTERY_LOW_PERCENT: Final = 20.0

Scalar = int | float | bool | str
_T = TypeVar("_T")

_SUFFIXES: Final = {"": "", "1": "", "Hz": "_hz", "s": "_s", "h": "_h", "By": "_bytes", "%": "_percent"}


class Scope(enum.StrEnum):
    """What a figure speaks of."""

    GATEWAY = "gateway"
    DEVICE = "device"
    STREAM = "stream"


class Sort(enum.StrEnum):
    """What sort of value a figure has."""

    COUNTER = "counter"
    """A whole number that only grows while the gateway runs."""
    GAUGE = "gauge"
    FLAG = "flag"
    WARNING = "warning"
    """A flag that somebody should act on while it is set."""
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Figure(Generic[_T]):
    """One figure.

    Parameters
    ----------
    stem
        Its name without unit, unique among the figures of its scope.
    unit
        UCUM code; empty for a text.
    help
        What it says, for people.
    read
        Returns its value, None where it is not known.
    """

    scope: Scope
    stem: str
    unit: str
    sort: Sort
    help: str
    read: Callable[[_T], Scalar | None] = field(repr=False)

    @property
    def name(self) -> str:
        """The name with its unit, such as `rate_hz`."""
        return self.stem + _SUFFIXES[self.unit]


def _buffer_left_h(g: OfGateway) -> float | None:
    """Return the real hours until spool or disk are full, at the rate of the last minutes."""
    if g.before is None or g.now.disk is None:
        return None
    elapsed_s = g.now.taken_s - g.before.taken_s
    put_bytes = g.now.put_bytes - g.before.put_bytes
    if elapsed_s < BUFFER_SHORTEST_S or put_bytes <= 0:
        return None
    in_spool = max(0, g.now.max_spool_bytes - g.now.gateway.backlog_bytes)
    return min(in_spool, g.now.disk.free_bytes) * elapsed_s / put_bytes / 3600


def _buffer_low(g: OfGateway) -> bool | None:
    left_h = _buffer_left_h(g)
    return None if left_h is None else left_h < BUFFER_LOW_H


def _spool_losing(g: OfGateway) -> bool:
    before = 0 if g.before is None else g.before.given_up_blocks
    return g.now.given_up_blocks > before


def _clock_doubtful(g: OfGateway) -> bool | None:
    if g.now.clock is None or g.now.speed != 1:  # simulated time is what it is said to be
        return None
    uncertainty_s = _clock_uncertainty_s(g)
    return not g.now.clock.synchronised or uncertainty_s is None or uncertainty_s > CLOCK_DOUBTFUL_S


def _clock_offset_s(g: OfGateway) -> float | None:
    offset_ns = None if g.now.clock is None else g.now.clock.offset_ns
    return None if offset_ns is None else offset_ns / 1e9


def _clock_uncertainty_s(g: OfGateway) -> float | None:
    uncertainty_ns = None if g.now.clock is None else g.now.clock.uncertainty_ns
    return None if uncertainty_ns is None else uncertainty_ns / 1e9


def _decode_error_ratio(d: OfDevice) -> float | None:
    name = d.device.name
    if d.before is None or name not in d.before.frames:
        return None
    frames = d.device.frames - d.before.frames[name]
    return (d.device.decode_errors - d.before.decode_errors[name]) / frames if frames > 0 else None


def _missing(d: OfDevice) -> bool | None:
    if d.before is None or d.now.taken_s - d.before.taken_s < SHORTEST_S:  # it may be about to connect
        return None
    return any(stream.gap_open for stream in d.device.streams)


def _battery_low(d: OfDevice) -> bool | None:
    percent = d.device.battery_percent
    said = d.device.properties.get("low_battery")
    if percent is None:
        return None if said is None else said == "yes"
    return percent < BATTERY_LOW_PERCENT


def _lab_seconds(s: OfStream) -> float | None:
    """Return how many lab seconds have passed since the counts of a minute ago."""
    if s.before is None or (s.device.name, s.stream.name) not in s.before.samples:
        return None
    elapsed_s = s.now.taken_s - s.before.taken_s
    return elapsed_s * s.now.speed if elapsed_s >= SHORTEST_S else None


def _received_ratio(s: OfStream) -> float | None:
    lab_s, nominal_hz = _lab_seconds(s), s.stream.stream.rate_hz
    if s.before is None or lab_s is None or nominal_hz is None:
        return None
    received = s.stream.samples - s.before.samples[s.device.name, s.stream.name]
    return received / (lab_s * nominal_hz)


def _newest_age_s(s: OfStream) -> float | None:
    if s.stream.newest is None:
        return None
    return max(0.0, (s.now.now_ns - int(s.stream.newest.sample_times_ns()[-1])) / 1e9)


def _uncertainty_s(s: OfStream) -> float | None:
    return None if s.stream.newest is None else s.stream.newest.uncertainty_ns / 1e9


def _contact(s: OfStream) -> bool | None:
    newest = s.stream.newest
    says = None if newest is None else _CONTACT.get(newest.stream)
    return None if newest is None or says is None else says(newest)


def _strap_contact(block: SampleBlock) -> bool | None:
    contact = int(block.values[1, -1])
    return contact == 3 if contact >= 2 else None


def _finger_contact(block: SampleBlock) -> bool:
    return not int(block.values[1, -1]) & nonin.SENSOR_ALARM


_CONTACT: Final[Mapping[Stream, Callable[[SampleBlock], bool | None]]] = {
    heart_rate.HEART_RATE: _strap_contact,
    nonin.PLETH: _finger_contact,
}
"""Streams with a channel in which the device says whether its sensor has contact."""

# fmt: off
_G, _D, _S = Scope.GATEWAY, Scope.DEVICE, Scope.STREAM

GATEWAY_FIGURES: Final[tuple[Figure[OfGateway], ...]] = (
    Figure(_G, "backlog_blocks", "1", Sort.GAUGE, "Blocks not yet known to be durable at the recorder",
           lambda g: g.now.gateway.backlog_blocks),
    Figure(_G, "backlog", "By", Sort.GAUGE, "Size of the backlog",
           lambda g: g.now.gateway.backlog_bytes),
    Figure(_G, "oldest_unsent", "s", Sort.GAUGE, "Age of the oldest block of the backlog, 0 if there is none",
           lambda g: g.now.gateway.oldest_unsent_s),
    Figure(_G, "buffer_left", "h", Sort.GAUGE,
           "Time until spool or disk are full if nobody takes anything, at the rate of the last 5 minutes",
           _buffer_left_h),
    Figure(_G, "spooled", "By", Sort.COUNTER, "Put into the spool",
           lambda g: g.now.put_bytes),
    Figure(_G, "spool_file", "By", Sort.GAUGE, "Size of the spool's files",
           lambda g: None if g.now.disk is None else g.now.disk.spool_bytes),
    Figure(_G, "disk_free", "By", Sort.GAUGE, "Free on the spool's disk",
           lambda g: None if g.now.disk is None else g.now.disk.free_bytes),
    Figure(_G, "refused_blocks", "1", Sort.COUNTER, "Blocks that the spool had no room for",
           lambda g: g.now.gateway.refused_blocks),
    Figure(_G, "expired_blocks", "1", Sort.COUNTER,
           "Blocks given up because they were older than the spool may keep",
           lambda g: g.now.gateway.expired_blocks),
    Figure(_G, "sent_blocks", "1", Sort.COUNTER, "Blocks published",
           lambda g: g.now.gateway.sent_blocks),
    Figure(_G, "resent_blocks", "1", Sort.COUNTER, "Blocks published again",
           lambda g: g.now.gateway.resent_blocks),
    Figure(_G, "broker_connected", "1", Sort.FLAG, "Whether the broker is connected",
           lambda g: g.now.gateway.broker_connected),
    Figure(_G, "recorder_online", "1", Sort.FLAG, "Whether the recorder has said that it is there",
           lambda g: g.now.gateway.host_online),
    Figure(_G, "refused_logins", "1", Sort.COUNTER, "Times that the broker did not accept the login",
           lambda g: g.now.gateway.refused_logins),
    Figure(_G, "clock_offset", "s", Sort.GAUGE, "How far the machine's clock is ahead of UTC, by itself",
           _clock_offset_s),
    Figure(_G, "clock_uncertainty", "s", Sort.GAUGE, "By how much that may be wrong",
           _clock_uncertainty_s),
    Figure(_G, "clock_synchronised", "1", Sort.FLAG, "Whether a time service keeps the machine's clock",
           lambda g: None if g.now.clock is None else g.now.clock.synchronised),
    Figure(_G, "clock_source", "", Sort.TEXT, "Which time service tells how the clock is",
           lambda g: None if g.now.clock is None else g.now.clock.source),
    Figure(_G, "clock_doubtful", "1", Sort.WARNING,
           f"The clock is not synchronised, or its uncertainty unknown or above {CLOCK_DOUBTFUL_S * 1e3:g} ms",
           _clock_doubtful),
    Figure(_G, "disk_low", "1", Sort.WARNING,
           f"Less than {DISK_LOW_BYTES >> 20} MiB are free on the spool's disk",
           lambda g: None if g.now.disk is None else g.now.disk.free_bytes < DISK_LOW_BYTES),
    Figure(_G, "buffer_low", "1", Sort.WARNING, f"Less than {BUFFER_LOW_H:g} h of buffer are left",
           _buffer_low),
    Figure(_G, "backlog_old", "1", Sort.WARNING,
           f"The oldest block of the backlog has waited for more than {BACKLOG_OLD_S:g} s",
           lambda g: g.now.gateway.oldest_unsent_s > BACKLOG_OLD_S),
    Figure(_G, "spool_losing", "1", Sort.WARNING,
           "Blocks were refused, or given up as too old, in the last 5 minutes",
           _spool_losing),
    Figure(_G, "spool_failing", "1", Sort.WARNING, "The disk takes nothing",
           lambda g: bool(g.now.gateway.spool_fault)),
    Figure(_G, "spool_damaged", "1", Sort.WARNING, "A spool file was damaged and put aside",
           lambda g: bool(g.now.gateway.spool_damage)),
    Figure(_G, "spool_damage", "", Sort.TEXT, "Which file was put aside, and what was lost",
           lambda g: g.now.gateway.spool_damage),
    Figure(_G, "spool_fault", "", Sort.TEXT, "Why the disk takes nothing",
           lambda g: g.now.gateway.spool_fault),
    Figure(_G, "last_error", "", Sort.TEXT, "Why the latest connection to the broker failed or ended",
           lambda g: g.now.gateway.last_error),
)

DEVICE_FIGURES: Final[tuple[Figure[OfDevice], ...]] = (
    Figure(_D, "connected", "1", Sort.FLAG, "Whether it is connected",
           lambda d: d.device.state in ("connected", "streaming", "silent")),
    Figure(_D, "streaming", "1", Sort.FLAG, "Whether it has brought samples over the present connection",
           lambda d: d.device.state == "streaming"),
    Figure(_D, "connections", "1", Sort.COUNTER, "Connections made",
           lambda d: d.device.connections),
    Figure(_D, "frames", "1", Sort.COUNTER, "Frames received",
           lambda d: d.device.frames),
    Figure(_D, "received", "By", Sort.COUNTER, "Received in frames",
           lambda d: d.device.bytes),
    Figure(_D, "decode_errors", "1", Sort.COUNTER, "Times that bytes did not make sense",
           lambda d: d.device.decode_errors),
    Figure(_D, "decode_error_ratio", "1", Sort.GAUGE, "Decode errors per frame received in the last minute",
           _decode_error_ratio),
    Figure(_D, "refused_blocks", "1", Sort.COUNTER, "Its blocks of samples that the spool had no room for",
           lambda d: d.device.refused_blocks),
    Figure(_D, "refused_frames", "1", Sort.COUNTER, "Its raw frames that the spool had no room for",
           lambda d: d.device.refused_frames),
    Figure(_D, "battery", "%", Sort.GAUGE, "Charge of its battery, as it said last",
           lambda d: d.device.battery_percent),
    Figure(_D, "battery_low", "1", Sort.WARNING,
           f"Its battery has less than {BATTERY_LOW_PERCENT:g} %, or it says that it is low",
           _battery_low),
    Figure(_D, "silences", "1", Sort.COUNTER, "Times that it fell silent while connected",
           lambda d: d.device.silences),
    Figure(_D, "missing", "1", Sort.WARNING, "It is not there or silent, or one of its streams is",
           _missing),
    Figure(_D, "failing", "1", Sort.WARNING, "It does not stream after everything was tried",
           lambda d: bool(d.device.alarm)),
    Figure(_D, "alarm", "", Sort.TEXT, "What is wrong after everything was tried",
           lambda d: d.device.alarm),
    Figure(_D, "state", "", Sort.TEXT, "Where it stands",
           lambda d: str(d.device.state)),
    Figure(_D, "last_error", "", Sort.TEXT, "The latest decode or transport error",
           lambda d: d.device.last_error),
)

STREAM_FIGURES: Final[tuple[Figure[OfStream], ...]] = (
    Figure(_S, "rate", "Hz", Sort.GAUGE, "Samples per lab second in the last seconds",
           lambda s: s.stream.rate_hz),
    Figure(_S, "received_ratio", "1", Sort.GAUGE,
           "Share of the samples due by the nominal rate that were stored in the last minute",
           _received_ratio),
    Figure(_S, "samples", "1", Sort.COUNTER, "Samples stored",
           lambda s: s.stream.samples),
    Figure(_S, "lost_samples", "1", Sort.COUNTER, "Samples missing, as far as their number is known",
           lambda s: s.stream.lost_samples),
    Figure(_S, "gaps", "1", Sort.COUNTER, "Gaps, for whatever reason",
           lambda s: s.stream.gaps),
    Figure(_S, "gap_open", "1", Sort.FLAG, "Whether its samples are missing now",
           lambda s: s.stream.gap_open),
    Figure(_S, "refused_samples", "1", Sort.COUNTER, "Samples that the spool had no room for",
           lambda s: s.stream.refused_samples),
    Figure(_S, "duplicate_frames", "1", Sort.COUNTER, "Frames left out because they repeated the one before",
           lambda s: s.stream.duplicate_frames),
    Figure(_S, "silent", "1", Sort.WARNING, "The device is connected, and brings none of this stream",
           lambda s: s.stream.silent),
    Figure(_S, "newest_age", "s", Sort.GAUGE, "Lab time since the newest sample in a block was taken",
           _newest_age_s),
    Figure(_S, "uncertainty", "s", Sort.GAUGE,
           "Half the width of the interval that holds the true time of the newest block",
           _uncertainty_s),
    Figure(_S, "contact", "1", Sort.FLAG, "Whether the device says that its sensor has contact",
           _contact),
)
# fmt: on

FIGURES: Final[tuple[Figure[Any], ...]] = (*GATEWAY_FIGURES, *DEVICE_FIGURES, *STREAM_FIGURES)
