"""Evidence of recorded signals: the metrics of the device under test, computed session by session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from analysis.signal_metrics import SIGNAL_METRICS, figure
from analysis.signal_study import Signal, SignalFigures
from lab_api.evidence.records import TEST_ROLE, Part, Source, StreamAccount, the_device, the_stream
from lab_api.evidence.waveforms import read_waveform
from lab_api.store.session_store import Session, SessionDevice, SessionStore
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.subjects import SubjectFacts
from protocols.errors import DefinitionError, SignalError

_ACCELERATION: Final = {"m/s2": 1.0, "m[g]": 9.80665e-3, "[g]": 9.80665}
_ROTATION: Final = {"deg/s": 1.0, "rad/s": 57.29577951308232}
_FACTORS: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "ecg": {"mV": 1.0, "uV": 1e-3, "V": 1e3},
        "accel_x": _ACCELERATION,
        "accel_y": _ACCELERATION,
        "accel_z": _ACCELERATION,
        "gyro_x": _ROTATION,
        "gyro_y": _ROTATION,
        "gyro_z": _ROTATION,
        "pressure_mmhg": {"mm[Hg]": 1.0, "kPa": 7.50062},
        "cuff_mmhg": {"mm[Hg]": 1.0, "kPa": 7.50062},
        "flow_lps": {"L/s": 1.0, "mL/s": 1e-3, "L/min": 1 / 60},
        "rr_ms": {"ms": 1.0, "s": 1e3},
        "spo2": {"%": 1.0},
        "heart_rate": {"/min": 1.0},
        "glucose_mgdl": {"mg/dL": 1.0, "mmol/L": 18.0182},
        "temperature_celsius": {"Cel": 1.0},
    }
)
"""Channel as metrics name it -> UCUM units it may come in, and the factor to the metrics' own; light and breath
have any unit."""

_STREAM_CHANNELS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "ppg": ("ppg", "pleth"),
        "pressure_mmhg": ("arterial_pressure", "pressure"),
        "cuff_mmhg": ("cuff_pressure",),
        "flow_lps": ("flow",),
        "rr_ms": ("rr_interval",),
        "heart_rate": ("heart_rate", "pulse_rate"),
        "glucose_mgdl": ("glucose",),
        "temperature_celsius": ("temperature",),
    }
)
"""Channel as metrics name it -> what streams call it, where they call it otherwise."""


def from_session(store: SessionStore, session: Session, protocol: ClinicalProtocol) -> Part:
    """Return what the metrics of a protocol come to in one session.

    A signal that is too short or of the wrong kind for a metric gives no figure and a note.

    Raises
    ------
    DefinitionError
        If the device under test has no such channel, has it twice, or in a unit that cannot be converted.
    """
    metrics = dict.fromkeys(criterion.metric for criterion in protocol.criteria)
    unknown = [name for name in metrics if name not in SIGNAL_METRICS]
    if unknown:
        raise DefinitionError(f"metric {unknown[0]!r} in {protocol.id}, expected one of signals")
    channels = dict.fromkeys(channel for name in metrics for channel in SIGNAL_METRICS[name].channels)
    device = the_device(session, TEST_ROLE)
    signals, accounts = {}, {}
    for channel in channels:
        signals[channel], account = _signal(store, session, device, channel)
        accounts[account.key] = account
    figures: dict[str, float] = {}
    notes = [note for account in accounts.values() for note in account.notes()]
    for name in metrics:
        try:
            figures[name] = figure(name, signals)
        except SignalError as error:
            figures[name] = float("nan")
            notes.append(f"{name}: {error}")
    source = Source(
        session.id,
        session.subject,
        store.content_hash(session.id),
        {name: round(value, 6) for name, value in figures.items()},
        tuple(notes),
        tuple(accounts.values()),
    )
    items: dict[str, Sequence[Any]] = {
        "session": [session.id] * len(figures),
        "metric": [*figures],
        "value": _plain(figures),
    }
    spans_ns = [int(s.times_ns[-1] - s.times_ns[0]) for s in signals.values() if s.times_ns.size]
    duration_s = max(spans_ns, default=0) / 1e9
    return Part(source, SignalFigures(session.subject, figures, duration_s), items)


def joined(parts: Sequence[Part], _subjects: SubjectFacts) -> list[SignalFigures]:
    """Return the figures of all sessions."""
    return [part.measured for part in parts]


def _signal(
    store: SessionStore, session: Session, device: SessionDevice, channel: str
) -> tuple[Signal, StreamAccount]:
    """Return a channel of a device in the metrics' unit, and how much of its stream is there."""
    key, number = the_stream(store, session, device, _STREAM_CHANNELS.get(channel, (channel,)))
    described = key.stream.channels[number]
    factors = _FACTORS.get(channel)
    if factors is not None and described.unit not in factors:
        raise DefinitionError(
            f"channel {described.name} of {device.gateway}/{device.device} in {described.unit}, "
            f"expected one of {', '.join(factors)}"
        )
    factor = factors[described.unit] if factors else 1.0
    if key.stream.rate_hz is None:
        reading = store.read(session.id, key.gateway, key.device, key.stream)
        raw, times_ns, n_stored = reading.values()[number], reading.times_ns(), reading.n_samples
        order = np.argsort(times_ns, kind="stable")
        raw, times_ns = raw[order], times_ns[order]
    else:
        waveform = read_waveform(store, session, key, number)
        raw, times_ns, n_stored = waveform.values, waveform.times_ns(key.stream.rate_hz), waveform.n_stored
    values = (raw * described.scale + described.offset) * factor
    account = StreamAccount.of(store, session, key, n_stored)
    return Signal(values, times_ns, key.stream.rate_hz), account


def _plain(figures: Mapping[str, float]) -> list[float | None]:
    return [None if np.isnan(value) else round(value, 6) for value in figures.values()]
