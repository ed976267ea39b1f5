"""Pulse Oximeter Service 1.0.1: continuous oxygen saturation and pulse rate."""

from __future__ import annotations

import math

import numpy as np

from protocols.devices import battery, device_information
from protocols.devices.gatt import GattDecoder, Handler, service, uuid
from protocols.devices.kind import BleLink, Decoded, DeviceKind, Samples
from protocols.devices.record import Field, Flag, Record
from protocols.samples import Channel, Stream

CONTINUOUS_UUID = uuid(0x2A5F)
FEATURES_UUID = uuid(0x2A60)
SERVICE = service(uuid(0x1822), {CONTINUOUS_UUID: "notify", FEATURES_UUID: "read"})

MDC_SPO2 = 150456
MDC_PULSE_RATE = 149530

CONTINUOUS = Record(
    "plx_continuous_measurement",
    (
        Field(
            "flags",
            "u8",
            flags=(
                Flag("fast", 0),
                Flag("slow", 1),
                Flag("measurement_status_present", 2),
                Flag("device_status_present", 3),
                Flag("pulse_amplitude_index_present", 4),
            ),
        ),
        Field("spo2", "sfloat", unit="%", mdc=MDC_SPO2),
        Field("pulse_rate", "sfloat", unit="/min", mdc=MDC_PULSE_RATE),
        Field("spo2_fast", "sfloat", when="fast", unit="%", mdc=MDC_SPO2),
        Field("pulse_rate_fast", "sfloat", when="fast", unit="/min", mdc=MDC_PULSE_RATE),
        Field("spo2_slow", "sfloat", when="slow", unit="%", mdc=MDC_SPO2),
        Field("pulse_rate_slow", "sfloat", when="slow", unit="/min", mdc=MDC_PULSE_RATE),
        Field("measurement_status", "u16", when="measurement_status_present"),
        Field("device_status", "u24", when="device_status_present"),
        Field("pulse_amplitude_index", "sfloat", when="pulse_amplitude_index_present", unit="%"),
    ),
)
"""PLX Continuous Measurement 2A5F: `spo2` and `pulse_rate`, NaN (of SFLOAT's three sorts) where the device has
none, and where sent the pairs `spo2_fast`, `pulse_rate_fast` and `spo2_slow`, `pulse_rate_slow`,
`measurement_status`, `device_status` and `pulse_amplitude_index`."""

FEATURES = Record(
    "plx_features",
    (
        Field(
            "features",
            "u16",
            flags=(
                Flag("measurement_status_present", 0),
                Flag("device_status_present", 1),
                Flag("spot_check_storage", 2),
                Flag("spot_check_time", 3),
                Flag("fast", 4),
                Flag("slow", 5),
                Flag("pulse_amplitude_index", 6),
                Flag("multiple_bonds", 7),
            ),
        ),
        Field("measurement_status", "u16", when="measurement_status_present"),
        Field("device_status", "u24", when="device_status_present"),
    ),
)
"""PLX Features 2A60: what the device supports, a 0 or 1 each, and the status bits it may set."""

OXIMETRY = Stream(
    "oximetry",
    (
        Channel("spo2", "%", mdc=MDC_SPO2),
        Channel("pulse_rate", "/min", mdc=MDC_PULSE_RATE),
        Channel("pulse_amplitude_index", "%"),
    ),
    "float64",
    None,
)


def _handle_continuous(data: bytes) -> Decoded:
    values = CONTINUOUS.decode(data)
    row = [values.get(channel.name, math.nan) for channel in OXIMETRY.channels]
    return Decoded(samples=(Samples(OXIMETRY.name, np.array(row)[:, np.newaxis]),))


def _handle_features(data: bytes) -> Decoded:
    values = FEATURES.decode(data)
    supported = [flag.name for flag in FEATURES.value_flags if values[flag.name]]
    return Decoded(properties={"plx_features": ", ".join(supported)})


HANDLERS: dict[str, Handler] = {CONTINUOUS_UUID: _handle_continuous, FEATURES_UUID: _handle_features}


def pulse_oximeter() -> DeviceKind:
    """Return the kind of every oximeter that speaks the Pulse Oximeter Service."""
    handlers = HANDLERS | battery.HANDLERS | device_information.HANDLERS
    return DeviceKind(
        name="pulse-oximeter",
        title="Pulse oximeter (Bluetooth Pulse Oximeter Service)",
        link=BleLink(
            services=(SERVICE, battery.SERVICE, device_information.SERVICE),
            reads=(FEATURES_UUID, battery.LEVEL_UUID, *device_information.READS),
        ),
        streams=(OXIMETRY, battery.STREAM),
        new_decoder=lambda: GattDecoder(handlers),
    )
