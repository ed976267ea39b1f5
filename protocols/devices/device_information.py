"""Device Information Service 1.1: who made the device, and which one it is."""

from __future__ import annotations

from functools import partial

from protocols.devices.gatt import Handler, service, uuid
from protocols.devices.kind import Decoded
from protocols.devices.record import Field, Record

STRING_UUIDS = {
    "manufacturer": uuid(0x2A29),
    "model": uuid(0x2A24),
    "serial_number": uuid(0x2A25),
    "hardware_revision": uuid(0x2A27),
    "firmware_revision": uuid(0x2A26),
    "software_revision": uuid(0x2A28),
}
"""Characteristic of each string, by the property it becomes."""
SYSTEM_ID_UUID = uuid(0x2A23)
PNP_ID_UUID = uuid(0x2A50)
READS = (*STRING_UUIDS.values(), SYSTEM_ID_UUID, PNP_ID_UUID)
SERVICE = service(uuid(0x180A), dict.fromkeys(READS, "read"))

STRING = Record("device_information_string", (Field("text", "text"),))
"""Every string of the service: `text`, without the NULs some devices fill up with."""

SYSTEM_ID = Record("system_id", (Field("manufacturer", "u40"), Field("oui", "u24")))
"""System ID 2A23: `manufacturer` (its own number of the device) and `oui` (the manufacturer's IEEE number)."""

PNP_ID = Record(
    "pnp_id",
    (Field("vendor_source", "u8"), Field("vendor", "u16"), Field("product", "u16"), Field("version", "u16")),
)
"""PnP ID 2A50: `vendor_source` 1 means a number of the Bluetooth SIG, 2 one of the USB forum."""

_SOURCES = {1: "bluetooth", 2: "usb"}


def _handle_string(name: str, data: bytes) -> Decoded:
    return Decoded(properties={name: STRING.decode(data)["text"]})


def _handle_system_id(data: bytes) -> Decoded:
    values = SYSTEM_ID.decode(data)
    return Decoded(properties={"system_id": f"{values['oui']:06x}-{values['manufacturer']:010x}"})


def _handle_pnp_id(data: bytes) -> Decoded:
    values = PNP_ID.decode(data)
    source = _SOURCES.get(values["vendor_source"], str(values["vendor_source"]))
    text = f"{source}:{values['vendor']:04x}:{values['product']:04x}:{values['version']:04x}"
    return Decoded(properties={"pnp_id": text})


HANDLERS: dict[str, Handler] = {
    **{string_uuid: partial(_handle_string, name) for name, string_uuid in STRING_UUIDS.items()},
    SYSTEM_ID_UUID: _handle_system_id,
    PNP_ID_UUID: _handle_pnp_id,
}
