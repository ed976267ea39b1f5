"""Every kind of device that can be simulated, by name, and how it is put on a subject."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from firmware_sim.device import DeviceClock, Outlet, SimulatedDevice
from firmware_sim.models.heart_rate import HeartRateSource, heart_rate_strap
from firmware_sim.models.information import battery_outlet
from firmware_sim.models.oximeters import nonin_oximeter, plx_oximeter
from firmware_sim.models.polar import polar_h10
from firmware_sim.models.prototype import prototype
from firmware_sim.models.waveforms import LiveEcg, LivePpg, Signal
from firmware_sim.signals.ecg import EcgLead
from firmware_sim.signals.oximeter import GOOD, Oximeter, OximeterModel
from firmware_sim.signals.subject import Subject
from protocols.devices import polar
from protocols.devices.kind import DeviceKind
from protocols.devices.registry import device_kind
from protocols.errors import DefinitionError

ECG_OPTIONS: Final[Mapping[str, object]] = {
    "channels": [
        {"name": "lead_ii", "unit": "uV", "mdc": 131330},
        {"name": "lead_v5", "unit": "uV", "mdc": 131335},
    ],
    "rate_hz": 500,
    "stream": "ecg",
}
"""Options of a prototype that measures two ECG leads; what a Fab Lab device is unless told otherwise."""

PPG_OPTIONS: Final[Mapping[str, object]] = {
    "channels": [{"name": "red", "unit": "1"}, {"name": "infrared", "unit": "1"}],
    "rate_hz": 100,
    "sample_type": "int24",
    "stream": "ppg",
}
"""Options of a prototype that measures red and infrared light at the finger."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a simulated device is like.

    Parameters
    ----------
    subject
        Who wears it.
    name
        Advertised name or port name; `KIND-SEED` if empty.
    seed
        Of its own errors and noise, at least 0.
    options
        Of its kind, as in a gateway's configuration.
    oximeter
        How it errs, if it is an oximeter.
    snr_db
        Signal-to-noise ratio of its ECG.
    drift_ppm
        How fast its clock runs.
    boot
        Number of its boot, where it tells one, 0 to 65535.
    """

    subject: Subject
    name: str = ""
    seed: int = 0
    options: Mapping[str, object] = field(default_factory=dict)
    oximeter: OximeterModel = GOOD
    snr_db: float = 26.0
    drift_ppm: float = 0.0
    boot: int = 1

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise DefinitionError(f"seed={self.seed!r}, expected at least 0")
        if not 0 <= self.boot < 1 << 16:
            raise DefinitionError(f"boot={self.boot!r}, expected 0 to 65535")


def gateway_options(kind: DeviceKind) -> dict[str, Any]:
    """Return the options with which a gateway's configuration names this very kind."""
    if kind.name == "nonin-7":
        return {"timer": True} if kind.counter_modulus else {}
    if kind.name != "fablab":
        return {}
    stream = kind.streams[0]
    channels = [dataclasses.asdict(channel) for channel in stream.channels]
    return {
        "channels": [{k: v for k, v in channel.items() if v is not None} for channel in channels],
        "rate_hz": stream.rate_hz,
        "sample_type": "int24" if stream.dtype == "int32" else "int16",
        "stream": stream.name,
    }


Make = Callable[[DeviceKind, str, Setup], SimulatedDevice]


def simulated_device(kind_name: str, setup: Setup) -> SimulatedDevice:
    """Return a device of a kind.

    Raises
    ------
    DefinitionError
        If there is no such kind, or its setup does not suit it.
    """
    make = CATALOGUE.get(kind_name)
    if make is None:
        raise DefinitionError(f"device kind {kind_name!r}, expected one of {sorted(CATALOGUE)}")
    kind = device_kind(kind_name, setup.options or DEFAULT_OPTIONS.get(kind_name, {}))
    return make(kind, setup.name or f"{kind_name}-{setup.seed}", setup)


def _heart_rate_strap(kind: DeviceKind, name: str, setup: Setup) -> SimulatedDevice:
    return heart_rate_strap(kind, name, setup.subject, DeviceClock(setup.drift_ppm))


def _pulse_oximeter(kind: DeviceKind, name: str, setup: Setup) -> SimulatedDevice:
    return plx_oximeter(kind, name, _oximeter(setup), DeviceClock(setup.drift_ppm))


def _nonin_7(kind: DeviceKind, name: str, setup: Setup) -> SimulatedDevice:
    return nonin_oximeter(kind, name, _oximeter(setup), DeviceClock(setup.drift_ppm))


def _polar_h10(kind: DeviceKind, name: str, setup: Setup) -> SimulatedDevice:
    clock = DeviceClock(setup.drift_ppm)
    lead = EcgLead(setup.subject, snr_db=setup.snr_db, seed=setup.seed)
    ecg = LiveEcg([lead], polar.ECG_RATE_HZ, clock)
    others = [Outlet(HeartRateSource(setup.subject, clock), origin_s=0.0), battery_outlet()]
    return polar_h10(kind, name, ecg, clock, others)


def _fablab(kind: DeviceKind, name: str, setup: Setup) -> SimulatedDevice:
    clock = DeviceClock(setup.drift_ppm)
    stream = kind.streams[0]
    rate_hz = stream.rate_hz or 0.0
    signal: Signal
    if all(channel.unit == "uV" and channel.scale == 1 for channel in stream.channels):
        leads = [
            EcgLead(setup.subject, gain=1 / (k + 1), snr_db=setup.snr_db, seed=setup.seed * 256 + k)
            for k in range(len(stream.channels))
        ]
        signal = LiveEcg(leads, rate_hz, clock)
    elif [channel.name for channel in stream.channels] == ["red", "infrared"] and stream.dtype == "int32":
        signal = LivePpg(setup.subject, rate_hz, clock)
    else:
        raise DefinitionError(
            f"channels {[channel.name for channel in stream.channels]} of a simulated fablab device, expected "
            "ECG leads in uV of scale 1, or red and infrared of sample_type int24"
        )
    return prototype(kind, name, signal, clock, boot=setup.boot, origin_s=0.0)


def _oximeter(setup: Setup) -> Oximeter:
    return Oximeter(setup.subject, setup.oximeter, setup.seed)


CATALOGUE: Final[Mapping[str, Make]] = {
    "heart-rate-strap": _heart_rate_strap,
    "pulse-oximeter": _pulse_oximeter,
    "polar-h10": _polar_h10,
    "nonin-7": _nonin_7,
    "fablab": _fablab,
}
"""Name of every kind, and what makes a simulated device of it."""

DEFAULT_OPTIONS: Final[Mapping[str, Mapping[str, object]]] = {"fablab": ECG_OPTIONS}
"""Options of kinds that cannot do without."""
