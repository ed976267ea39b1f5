"""A recorded signal as a device: the record's samples, in the bytes of any kind that can carry them.

A replay begins when it is first listened to, keeps the record's own rate, delivers every sample exactly once
and has then finished. What falls into a disconnection is lost, as on any device.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from firmware_sim.device import DeviceClock, SimulatedDevice
from firmware_sim.models.polar import polar_h10
from firmware_sim.models.prototype import prototype
from firmware_sim.models.waveforms import RecordedSignal
from firmware_sim.recordings import Recording, read_wfdb
from protocols.devices import polar
from protocols.devices.registry import device_kind
from protocols.errors import DefinitionError

__all__ = ["REPLAYABLE", "Recording", "read_wfdb", "replay_as", "replay_options"]

_UCUM: Final = {
    "V": "V",
    "mV": "mV",
    "uV": "uV",
    "mmHg": "mm[Hg]",
    "cmH2O": "cm[H2O]",
    "bpm": "/min",
    "degC": "Cel",
    "%": "%",
    "l": "L",
    "L": "L",
    "NU": "1",
    "nu": "1",
    "adu": "1",
}
"""UCUM code of the units that WFDB records name."""

_MICROVOLTS: Final = {"V": 1e6, "mV": 1e3, "uV": 1.0}
_MDC_ECG: Final = 131328
_INT16, _INT24 = 1 << 15, 1 << 23


def replay_as(
    recording: Recording, kind_name: str, *, name: str = "", drift_ppm: float = 0.0
) -> SimulatedDevice:
    """Return a device of a kind that sends the recording.

    As `fablab`: every channel's own converter units, at the record's own rate. As `polar-h10`: the first
    channel, resampled to 130 Hz, in whole uV.

    Parameters
    ----------
    kind_name
        One of `REPLAYABLE`.
    name
        Advertised name or port name; that of the record if empty.
    drift_ppm
        How fast the device's clock runs.

    Raises
    ------
    DefinitionError
        If the kind cannot carry such a signal; says why.
    """
    options = replay_options(recording, kind_name)
    make = REPLAYABLE[kind_name][1]
    return make(recording, name or f"{kind_name}-{recording.name}", options, DeviceClock(drift_ppm))


def replay_options(recording: Recording, kind_name: str) -> dict[str, Any]:
    """Return the kind's options for a gateway that is to understand the replay.

    Raises
    ------
    DefinitionError
        As `replay_as`.
    """
    if kind_name not in REPLAYABLE:
        raise DefinitionError(
            f"device kind {kind_name!r} cannot replay a recorded signal, expected one of {sorted(REPLAYABLE)}"
        )
    return REPLAYABLE[kind_name][0](recording)


def _fablab_options(recording: Recording) -> dict[str, Any]:
    low, high = int(recording.values.min()), int(recording.values.max())
    if low < -_INT24 or high >= _INT24:
        raise DefinitionError(f"{recording.name} holds values {low} to {high}, expected 24 bits for fablab")
    names = _channel_names(recording)
    return {
        "channels": [_channel(recording, names, index) for index in range(recording.n_channels)],
        "rate_hz": recording.rate_hz,
        "sample_type": "int16" if low >= -_INT16 and high < _INT16 else "int24",
        "stream": "signal",
    }


def _channel(recording: Recording, names: list[str], index: int) -> dict[str, Any]:
    unit = _UCUM.get(recording.units[index])
    if unit is None:
        raise DefinitionError(
            f"unit {recording.units[index]!r} of channel {recording.channel_names[index]} of {recording.name}, "
            f"expected one of {sorted(_UCUM)}"
        )
    gain, baseline = recording.gain[index], recording.baseline[index]
    channel = {"name": names[index], "unit": unit, "scale": 1 / gain, "offset": -baseline / gain}
    return channel | ({"mdc": _MDC_ECG} if unit in _MICROVOLTS else {})


def _channel_names(recording: Recording) -> list[str]:
    """Return the channels' names as identifiers, made different by a number where they are not."""
    names: list[str] = []
    for original in recording.channel_names:
        name = re.sub(r"[^a-z0-9]+", "_", (original or "").lower()).strip("_") or "channel"
        name = name if name[0].isalpha() else f"channel_{name}"
        while name in names:
            name = f"{name}_{len(names) + 1}"
        names.append(name)
    return names


def _fablab(recording: Recording, name: str, options: Mapping[str, Any], clock: DeviceClock) -> SimulatedDevice:
    signal = RecordedSignal(recording.values, recording.rate_hz)
    return prototype(device_kind("fablab", options), name, signal, clock, boot=1, origin_s=None)


def _polar_options(recording: Recording) -> dict[str, Any]:
    if recording.units[0] not in _MICROVOLTS:
        raise DefinitionError(
            f"unit {recording.units[0]!r} of channel {recording.channel_names[0]} of {recording.name}, "
            f"expected one of {sorted(_MICROVOLTS)} for polar-h10"
        )
    return {}


def _polar(recording: Recording, name: str, options: Mapping[str, Any], clock: DeviceClock) -> SimulatedDevice:
    signal = RecordedSignal(_microvolts_at(recording, polar.ECG_RATE_HZ), polar.ECG_RATE_HZ)
    return polar_h10(device_kind("polar-h10", options), name, signal, clock)


def _microvolts_at(recording: Recording, rate_hz: int) -> NDArray[np.int32]:
    """Return the first channel at another rate, in whole uV, shape (1, n_samples)."""
    from scipy.signal import resample_poly

    microvolts = (recording.values[0] - recording.baseline[0]) / recording.gain[0]
    microvolts = microvolts * _MICROVOLTS[recording.units[0]]
    ratio = (rate_hz / Fraction(recording.rate_hz)).limit_denominator(10_000)
    resampled = resample_poly(microvolts, ratio.numerator, ratio.denominator, padtype="line")
    whole: NDArray[np.int32] = np.clip(np.rint(resampled), -_INT24, _INT24 - 1).astype(np.int32)
    return whole[np.newaxis]


REPLAYABLE: Final[
    Mapping[
        str,
        tuple[
            Callable[[Recording], dict[str, Any]],
            Callable[[Recording, str, Mapping[str, Any], DeviceClock], SimulatedDevice],
        ],
    ]
] = {"fablab": (_fablab_options, _fablab), "polar-h10": (_polar_options, _polar)}
"""Kinds that can replay a recorded signal: their options for a recording, and what makes the device."""
