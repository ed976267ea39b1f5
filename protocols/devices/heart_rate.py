"""Heart Rate Service 1.0: heart rate, skin contact and RR intervals of a chest strap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.devices import battery, device_information
from protocols.devices.gatt import GattDecoder, Handler, service, uuid
from protocols.devices.kind import BleLink, Decoded, DeviceKind, Samples
from protocols.devices.record import Field, Flag, Record
from protocols.errors import DecodeError
from protocols.samples import Channel, Stream

MEASUREMENT_UUID = uuid(0x2A37)
BODY_SENSOR_LOCATION_UUID = uuid(0x2A38)
SERVICE = service(uuid(0x180D), {MEASUREMENT_UUID: "notify", BODY_SENSOR_LOCATION_UUID: "read"})

RR_SCALE_S = 1 / 1024

MEASUREMENT = Record(
    "heart_rate_measurement",
    (
        Field(
            "flags",
            "u8",
            flags=(
                Flag("wide", 0, above=255),
                Flag("sensor_contact", 1, width=2),
                Flag("energy_present", 3),
                Flag("rr_present", 4),
            ),
        ),
        Field("heart_rate", "u8", when="!wide", unit="/min", mdc=147842),
        Field("heart_rate", "u16", when="wide", unit="/min", mdc=147842),
        Field("energy", "u16", when="energy_present", unit="kJ"),
        Field("rr", "u16", when="rr_present", repeat="list", scale=RR_SCALE_S, unit="s"),
    ),
)
"""Heart Rate Measurement 2A37: `heart_rate`, `sensor_contact` (0 and 1: not supported, 2: none, 3: contact)
and, where sent, `energy` (kJ since reset) and `rr` (s, oldest first)."""

BODY_SENSOR_LOCATION = Record("body_sensor_location", (Field("location", "u8"),))
"""Body Sensor Location 2A38: `location`, an index of `LOCATIONS`."""
LOCATIONS = ("other", "chest", "wrist", "finger", "hand", "ear lobe", "foot")

HEART_RATE = Stream(
    "heart_rate", (Channel("heart_rate", "/min", mdc=147842), Channel("sensor_contact", "1")), "uint16", None
)
RR = Stream("rr", (Channel("rr_interval", "s", mdc=147240, scale=RR_SCALE_S),), "uint16", None)
STREAMS = (HEART_RATE, RR)


def beat_offsets_ns(rr_raw: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Return the time of the beat that ends each interval relative to the last beat, in ns, shape (n_beats,).

    The service gives beats no time: the last one is taken to be at arrival, the others lie before it by the
    intervals that follow them.
    """
    after = np.cumsum(rr_raw[::-1], dtype=np.int64)[::-1] - rr_raw
    offsets_ns: NDArray[np.int64] = -np.rint(after * (RR_SCALE_S * 1e9)).astype(np.int64)
    return offsets_ns


def _handle_measurement(data: bytes) -> Decoded:
    values = MEASUREMENT.decode(data)
    rate = np.array([[values["heart_rate"]], [values["sensor_contact"]]], np.uint16)
    samples = [Samples(HEART_RATE.name, rate)]
    if "rr" in values:
        rr_raw = np.rint(np.array(values["rr"]) / RR_SCALE_S).astype(np.uint16)
        samples.append(Samples(RR.name, rr_raw[np.newaxis], offsets_ns=beat_offsets_ns(rr_raw)))
    return Decoded(samples=tuple(samples))


def _handle_location(data: bytes) -> Decoded:
    location = BODY_SENSOR_LOCATION.decode(data)["location"]
    if location >= len(LOCATIONS):
        raise DecodeError(f"location={location} of body_sensor_location, expected 0 to {len(LOCATIONS) - 1}")
    return Decoded(properties={"body_sensor_location": LOCATIONS[location]})


HANDLERS: dict[str, Handler] = {
    MEASUREMENT_UUID: _handle_measurement,
    BODY_SENSOR_LOCATION_UUID: _handle_location,
}


def heart_rate_strap() -> DeviceKind:
    """Return the kind of every strap that speaks the Heart Rate Service."""
    handlers = HANDLERS | battery.HANDLERS | device_information.HANDLERS
    return DeviceKind(
        name="heart-rate-strap",
        title="Heart rate strap (Bluetooth Heart Rate Service)",
        link=BleLink(
            services=(SERVICE, battery.SERVICE, device_information.SERVICE),
            reads=(BODY_SENSOR_LOCATION_UUID, battery.LEVEL_UUID, *device_information.READS),
        ),
        streams=(*STREAMS, battery.STREAM),
        new_decoder=lambda: GattDecoder(handlers),
    )
