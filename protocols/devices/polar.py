"""Polar measurement data (PMD): ECG of a Polar H10, beside its heart rate and RR intervals.

A measurement is started by a write to the control point, which answers with an indication: the request's
command and measurement type, and a status. Data then arrive as notifications: measurement type, the device's
clock in ns since 2000-01-01, frame type and samples. **The clock marks the last sample of its notification.**
`Samples.device_ns` is that of the first, at the nominal rate.

References
----------
Polar, Online Measurement Specification and `polar-ble-sdk` (PmdControlPointResponse.kt, EcgData.kt).
"""

from __future__ import annotations

import numpy as np

from protocols.devices import battery, device_information, heart_rate
from protocols.devices.codec import TRAILING
from protocols.devices.gatt import GattDecoder, Handler, service
from protocols.devices.kind import BleLink, Decoded, DeviceKind, GattWrite, Samples
from protocols.devices.record import Field, Record
from protocols.errors import DecodeError
from protocols.samples import Channel, Stream

CONTROL_UUID = "fb005c81-02e7-f387-1cad-8acd2d8df0c8"
DATA_UUID = "fb005c82-02e7-f387-1cad-8acd2d8df0c8"
SERVICE = service(
    "fb005c80-02e7-f387-1cad-8acd2d8df0c8", {CONTROL_UUID: "read write indicate", DATA_UUID: "notify"}
)
MTU = 232

GET_SETTINGS, START, STOP = 1, 2, 3
"""Commands of the control point."""
ECG_TYPE = 0
MEASUREMENT_TYPES = ("ecg", "ppg", "acc", "ppi", "bioz", "gyro", "magnetometer", "barometer", "ambient")
STATUS = (
    "success",
    "invalid command",
    "invalid measurement type",
    "not supported",
    "invalid length",
    "invalid parameter",
    "already in state",
    "invalid resolution",
    "invalid sample rate",
    "invalid range",
    "invalid MTU",
    "invalid number of channels",
    "invalid state",
    "device in charger",
    "disk full",
)
"""Meaning of a reply's status."""
ECG_RATE_HZ = 130
ECG_RESOLUTION_BITS = 14
ECG_SAMPLES_PER_FRAME = 73
"""As many as an H10 sends in one notification; fills its MTU."""

_RATE, _RESOLUTION = 0, 1
_SETTING_SIZES = {_RATE: 2, _RESOLUTION: 2, 2: 2, 3: 4, 4: 1, 5: 4}

FEATURES = Record("pmd_features", (Field("kind", "u8", constant=0x0F), Field("measurements", "u16")))
"""What a read of the control point gives: `measurements`, a bit for each of `MEASUREMENT_TYPES`."""

CONTROL_REQUEST = Record("pmd_request", (Field("command", "u8"), Field("measurement", "u8")))
"""A write to the control point: `command`, `measurement`, and settings in `trailing`."""

CONTROL_REPLY = Record(
    "pmd_reply",
    (
        Field("kind", "u8", constant=0xF0),
        Field("command", "u8"),
        Field("measurement", "u8"),
        Field("status", "u8"),
    ),
)
"""An indication of the control point: `command` and `measurement` of the request, `status` (an index of
`STATUS`); after success `trailing` holds a byte that tells of further indications, then settings."""

ECG_FRAME = Record(
    "pmd_ecg",
    (
        Field("type", "u8", constant=ECG_TYPE),
        Field("timestamp_ns", "u64", unit="ns"),
        Field("frame_type", "u8", constant=0),
        Field("ecg", "i24", repeat="array", unit="uV", mdc=131328),
    ),
)
"""ECG data of frame type 0: `timestamp_ns` of the last sample, ns since 2000-01-01, and `ecg` in uV."""

ECG = Stream("ecg", (Channel("ecg", "uV", mdc=131328),), "int32", float(ECG_RATE_HZ))


def encode_settings(settings: dict[int, int]) -> bytes:
    """Return settings (type to value) as the control point writes them: type, number of values, values."""
    return b"".join(
        bytes((kind, 1)) + value.to_bytes(_SETTING_SIZES[kind], "little") for kind, value in settings.items()
    )


def decode_settings(data: bytes) -> dict[int, list[int]]:
    """Return the values allowed for each type of setting.

    Raises
    ------
    DecodeError
        If a type is unknown or its values are cut short.
    """
    settings: dict[int, list[int]] = {}
    at = 0
    while at < len(data):
        size = _SETTING_SIZES.get(data[at])
        count = data[at + 1] if at + 1 < len(data) else 0
        end = at + 2 + (size or 0) * count
        if size is None or end > len(data) or not count:
            raise DecodeError(f"PMD settings {data.hex()}, expected a known type with its values at byte {at}")
        settings[data[at]] = [int.from_bytes(data[k : k + size], "little") for k in range(at + 2, end, size)]
        at = end
    return settings


ECG_SETTINGS = {_RATE: ECG_RATE_HZ, _RESOLUTION: ECG_RESOLUTION_BITS}
QUERY_ECG = CONTROL_REQUEST.encode({"command": GET_SETTINGS, "measurement": ECG_TYPE})
START_ECG = CONTROL_REQUEST.encode(
    {"command": START, "measurement": ECG_TYPE, TRAILING: encode_settings(ECG_SETTINGS)}
)
STOP_ECG = CONTROL_REQUEST.encode({"command": STOP, "measurement": ECG_TYPE})


def control_reply(request: bytes, *, streaming: bool, mtu: int = MTU) -> bytes:
    """Return what an H10 indicates after a write to its control point.

    Parameters
    ----------
    request
        The bytes written.
    streaming
        Whether it sends ECG at the moment.
    mtu
        The connection's MTU; ECG needs room for a whole frame.
    """
    try:
        values = CONTROL_REQUEST.decode(request)
    except DecodeError:
        return _reply({"command": request[0] if request else 0, "measurement": 0}, "invalid length")
    settings = values.pop(TRAILING, b"")
    status = _status(values, settings, streaming=streaming, mtu=mtu)
    offered = encode_settings(ECG_SETTINGS) if values["command"] == GET_SETTINGS else b""
    return _reply(values, status, offered)


def ecg_streaming(reply: bytes, *, streaming: bool) -> bool:
    """Return whether the device that gave this control reply sends ECG from now on."""
    values = CONTROL_REPLY.decode(reply)
    if values["status"] or values["measurement"] != ECG_TYPE:
        return streaming
    return {START: True, STOP: False}.get(values["command"], streaming)


def _status(values: dict[str, int], settings: bytes, *, streaming: bool, mtu: int) -> str:
    command = values["command"]
    if command not in (GET_SETTINGS, START, STOP):
        return "invalid command"
    if values["measurement"] != ECG_TYPE:
        return "not supported" if values["measurement"] < len(MEASUREMENT_TYPES) else "invalid measurement type"
    if command == START:
        return _start_status(settings, streaming=streaming, mtu=mtu)
    return "already in state" if command == STOP and not streaming else "success"


def _start_status(settings: bytes, *, streaming: bool, mtu: int) -> str:
    try:
        asked = decode_settings(settings)
    except DecodeError:
        return "invalid parameter"
    if asked.get(_RATE) != [ECG_RATE_HZ]:
        return "invalid sample rate"
    if asked.get(_RESOLUTION) != [ECG_RESOLUTION_BITS]:
        return "invalid resolution"
    if mtu < MTU:
        return "invalid MTU"
    return "already in state" if streaming else "success"


def _reply(values: dict[str, int], status: str, settings: bytes = b"") -> bytes:
    code = STATUS.index(status)
    trailing = b"\0" + settings if code == 0 else b""
    return CONTROL_REPLY.encode({**values, "status": code, TRAILING: trailing})


def _handle_data(data: bytes) -> Decoded:
    values = ECG_FRAME.decode(data)
    ecg = values["ecg"]
    first_ns = values["timestamp_ns"] - round((len(ecg) - 1) * 1e9 / ECG_RATE_HZ)
    return Decoded(samples=(Samples(ECG.name, ecg[np.newaxis], device_ns=first_ns),))


def _handle_control(data: bytes) -> Decoded:
    if data[:1] == b"\x0f":
        bits = FEATURES.decode(data)["measurements"]
        names = [name for k, name in enumerate(MEASUREMENT_TYPES) if bits >> k & 1]
        return Decoded(properties={"pmd_measurements": ", ".join(names)})
    values = CONTROL_REPLY.decode(data)
    command, measurement, status = values["command"], values["measurement"], values["status"]
    if status:
        meaning = STATUS[status] if status < len(STATUS) else "unknown status"
        what = f"PMD command {command} for measurement {measurement}"
        raise DecodeError(f"{what} refused with status {status} ({meaning}), expected success")
    if command == GET_SETTINGS and measurement == ECG_TYPE:
        offered = decode_settings(values.get(TRAILING, b"")[1:])
        rates = ", ".join(map(str, offered.get(_RATE, [])))
        return Decoded(properties={"ecg_rates_hz": rates})
    return Decoded()


def polar_h10() -> DeviceKind:
    """Return the kind of the Polar H10 chest strap, with 130 Hz ECG."""
    handlers: dict[str, Handler] = {CONTROL_UUID: _handle_control, DATA_UUID: _handle_data}
    handlers |= heart_rate.HANDLERS | battery.HANDLERS | device_information.HANDLERS
    return DeviceKind(
        name="polar-h10",
        title="Polar H10 chest strap (heart rate, RR intervals, 130 Hz ECG)",
        link=BleLink(
            services=(heart_rate.SERVICE, SERVICE, battery.SERVICE, device_information.SERVICE),
            reads=(
                CONTROL_UUID,
                heart_rate.BODY_SENSOR_LOCATION_UUID,
                battery.LEVEL_UUID,
                *device_information.READS,
            ),
            startup=(GattWrite(CONTROL_UUID, QUERY_ECG), GattWrite(CONTROL_UUID, START_ECG)),
            mtu=MTU,
        ),
        streams=(*heart_rate.STREAMS, ECG, battery.STREAM),
        new_decoder=lambda: GattDecoder(handlers),
    )
