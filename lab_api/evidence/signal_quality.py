"""What a device says of its own signal: readings that it gave in spite of a poor one are no readings.

Bad contact is never a clinical failure. Only what a device reports counts; nothing is judged here from values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lab_api.store.session_store import Session, SessionDevice, SessionStore
from protocols.devices import nonin

_NEAR_NS: Final = 1_000_000_000
"""A report holds for readings within a second of it: oximeters report at least once a second."""


@dataclass(frozen=True, slots=True)
class _Report:
    """A channel in which a device reports on its signal, and which of its values say that it is poor."""

    stream: str
    channel: str
    poor: Callable[[NDArray[Any]], NDArray[np.bool_]]


def _nonin_poor(status: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where the sensor is off or faulty, the signal lost, or the perfusion low: red without green."""
    bits = np.nan_to_num(status).astype(np.int64)
    colour = bits & (nonin.RED_PERFUSION | nonin.GREEN_PERFUSION)
    off = (bits & (nonin.SENSOR_ALARM | nonin.OUT_OF_TRACK)) != 0
    return np.asarray(off | (colour == nonin.RED_PERFUSION))


_REPORTS: Final[Mapping[str, tuple[_Report, ...]]] = MappingProxyType(
    {
        "spo2": (
            _Report("pleth", "status", _nonin_poor),
            _Report("oximetry", "pulse_amplitude_index", lambda index: np.asarray(index <= 0.0)),
        )
    }
)
"""Quantity -> where devices report on the signal that it is made of. A pulse amplitude of 0 is no pulse; how
small a good one may be is each maker's own scale."""


def reported_poor(
    store: SessionStore, session: Session, device: SessionDevice, quantity: str, times_ns: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return for which readings of a device, at `times_ns` (n,), it reported a poor signal."""
    poor = np.zeros(times_ns.size, dtype=bool)
    for report in _REPORTS.get(quantity, ()):
        for key in store.streams(session.id):
            if (key.gateway, key.device, key.stream.name) != (device.gateway, device.device, report.stream):
                continue
            names = [channel.name for channel in key.stream.channels]
            if report.channel not in names:
                continue
            reading = store.read(session.id, device.gateway, device.device, key.stream)
            values = reading.physical()[names.index(report.channel)]
            poor |= _near(times_ns, reading.times_ns()[report.poor(values)])
    return poor


def _near(times_ns: NDArray[np.int64], reports_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which times have a report within a second."""
    reports_ns = np.sort(reports_ns)
    first = np.searchsorted(reports_ns, times_ns - _NEAR_NS)
    return np.asarray(np.searchsorted(reports_ns, times_ns + _NEAR_NS, side="right") > first)
