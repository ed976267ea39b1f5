"""How far this machine's clock is from UTC, as far as the machine itself knows.

Whatever keeps the clock is asked, the best informed first: chrony, ntpd, systemd-timesyncd, and last the
kernel, which each of them tells how sure it is. Their bounds are worst-case ones (root distance: half the round
trip to the reference plus dispersion), so they hold, and are often ten times wider than the error.

Two gateways line up through UTC: see `ahead_of`.

References
----------
chronyc(1), `tracking`; RFC 5905, 11.2 and A.5.5.2 (root distance) and 6 (sign of an offset); adjtimex(2);
timedatectl(1), `timesync-status`.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

TIMEOUT_S: Final = 2.0

_UNITS_NS: Final = {
    "us": 1e3,
    "\N{MICRO SIGN}s": 1e3,
    "\N{GREEK SMALL LETTER MU}s": 1e3,
    "ms": 1e6,
    "s": 1e9,
    "min": 60e9,
    "h": 3600e9,
}
_NUMBER: Final = r"\d{1,12}(?:\.\d{0,12})?"
_DURATION: Final = re.compile(rf"({_NUMBER})\s*([a-zµμ]+)")
_STA_UNSYNC: Final = 0x0040
_STA_NANO: Final = 0x2000
_TIME_ERROR: Final = 5


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """How far a clock is ahead of UTC.

    Parameters
    ----------
    offset_ns
        The clock minus UTC, positive if it is fast; None if unknown.
    uncertainty_ns
        Half the width of the interval that holds the true offset; None if unknown.
    source
        Who says so: `chrony`, `ntpd`, `timesyncd`, `kernel`, or `unknown`.
    synchronised
        Whether the clock is being kept on UTC.
    """

    offset_ns: int | None
    uncertainty_ns: int | None
    source: str
    synchronised: bool


UNKNOWN: Final = ClockOffset(None, None, "unknown", False)


@dataclass(frozen=True, slots=True)
class Lead:
    """How far one clock is ahead of another, and half the width of the interval that holds the truth."""

    lead_ns: int
    uncertainty_ns: int


def ahead_of(clock: ClockOffset, other: ClockOffset) -> Lead | None:
    """Return how far a gateway's clock is ahead of another gateway's; None if either does not know its own.

    Times of the first, less `lead_ns`, are on the other's clock; its uncertainty adds to that of the times.
    """
    if clock.offset_ns is None or other.offset_ns is None:
        return None
    if clock.uncertainty_ns is None or other.uncertainty_ns is None:
        return None
    return Lead(clock.offset_ns - other.offset_ns, clock.uncertainty_ns + other.uncertainty_ns)


def read_clock_offset() -> ClockOffset:
    """Return what this machine knows; never raises, and takes at most some seconds.

    A source that is not synchronised counts only if no other is.
    """
    best = UNKNOWN
    for read in _SOURCES:
        try:
            offset = read()
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
        if offset is not None and offset.synchronised:
            return offset
        if offset is not None and best is UNKNOWN:
            best = offset
    return best


def parse_chrony(text: str) -> ClockOffset | None:
    """Return what `chronyc tracking` printed; None if it is not that. The `-c` form leaves the sign open."""
    values = dict(_pairs(text, ":"))
    said = re.match(rf"({_NUMBER}) seconds (slow|fast)", values.get("System time", ""))
    delay_s, dispersion_s = (_leading_number(values.get(f"Root {name}")) for name in ("delay", "dispersion"))
    if said is None or delay_s is None or dispersion_s is None:
        return None
    if values.get("Leap status", "Not synchronised") == "Not synchronised":
        return ClockOffset(None, None, "chrony", False)
    offset_s = float(said[1]) * (1 if said[2] == "fast" else -1)
    return _synchronised(offset_s * 1e9, (delay_s / 2 + dispersion_s) * 1e9, "chrony")


def parse_ntpq(text: str) -> ClockOffset | None:
    """Return what `ntpq -c rv` printed, in ms; None if it is not that."""
    values = {name: value for part in text.split(",") for name, value in _pairs(part, "=")}
    numbers = [_leading_number(values.get(name)) for name in ("offset", "rootdelay", "rootdisp")]
    offset_ms, delay_ms, dispersion_ms = numbers
    if offset_ms is None or delay_ms is None or dispersion_ms is None:
        return None
    if "leap_alarm" in text or "sync_unspec" in text:
        return ClockOffset(None, None, "ntpd", False)
    return _synchronised(-offset_ms * 1e6, (delay_ms / 2 + dispersion_ms) * 1e6, "ntpd")


def parse_timesyncd(text: str) -> ClockOffset | None:
    """Return what `timedatectl timesync-status` printed; None if it is not that or nothing was received yet.

    Its offset is the one last measured, of which an unknown part has been corrected since.
    """
    values = dict(_pairs(text, ":"))
    offset_ns = _duration_ns(values.get("Offset"))
    if offset_ns is None:
        return None
    others_ns = [_duration_ns(values.get(name)) for name in ("Root distance", "Delay", "Jitter")]
    distance_ns, delay_ns, jitter_ns = others_ns
    if distance_ns is None or delay_ns is None:
        return None
    uncertainty_ns = distance_ns + delay_ns / 2 + (jitter_ns or 0) + abs(offset_ns)
    return _synchronised(-offset_ns, uncertainty_ns, "timesyncd")


def parse_kernel(state: int, *, status: int, offset: int, maxerror_us: int) -> ClockOffset:
    """Return what adjtimex(2) gave; `offset` is what is still to be added to the clock, in us or ns."""
    if state < 0 or state == _TIME_ERROR or status & _STA_UNSYNC:
        return ClockOffset(None, None, "kernel", False)
    offset_ns = offset if status & _STA_NANO else 1000 * offset
    return _synchronised(-offset_ns, 1000 * maxerror_us, "kernel")


def _synchronised(offset_ns: float, uncertainty_ns: float, source: str) -> ClockOffset:
    return ClockOffset(round(offset_ns), round(abs(uncertainty_ns)), source, True)


def _pairs(text: str, separator: str) -> list[tuple[str, str]]:
    parts = (line.partition(separator) for line in text.splitlines())
    return [(name.strip(), value.strip()) for name, found, value in parts if found]


def _leading_number(text: str | None) -> float | None:
    found = re.match(rf"[+-]?{_NUMBER}", text or "")
    return None if found is None else float(found[0])


def _duration_ns(text: str | None) -> float | None:
    """Read systemd's form of a duration, such as `-1min 2.345ms (max: 5s)`."""
    if not text:
        return None
    parts = _DURATION.findall(text.partition("(")[0])
    if not parts or any(unit not in _UNITS_NS for _, unit in parts):
        return None
    return float(sum(float(number) * _UNITS_NS[unit] for number, unit in parts) * (-1 if text[0] == "-" else 1))


def _output(*command: str) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(  # noqa: S603 (fixed commands)
        command, capture_output=True, env=environment, timeout=TIMEOUT_S, check=True, stdin=subprocess.DEVNULL
    )
    return done.stdout.decode("utf-8", "replace")


class _Timex(ctypes.Structure):
    """`struct timex` of Linux; the rest of it is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("frequency", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_byte * 256),
    )


def _read_kernel() -> ClockOffset | None:
    if not sys.platform.startswith("linux"):
        return None
    timex = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except AttributeError:
        return None
    return parse_kernel(state, status=timex.status, offset=timex.offset, maxerror_us=timex.maxerror)


_SOURCES: Sequence[Callable[[], ClockOffset | None]] = (
    lambda: parse_chrony(_output("chronyc", "-n", "tracking")),
    lambda: parse_ntpq(_output("ntpq", "-c", "rv")),
    lambda: parse_timesyncd(_output("timedatectl", "timesync-status")),
    _read_kernel,
)
