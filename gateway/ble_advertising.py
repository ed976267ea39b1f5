"""What BLE devices say of themselves before anybody connects: advertising data in bleak's form."""

from __future__ import annotations

from bleak.backends.scanner import AdvertisementData
from bleak.uuids import normalize_uuid_str
from bumble.core import UUID, AdvertisingData

_SERVICE_LISTS = {0x02: 2, 0x03: 2, 0x04: 4, 0x05: 4, 0x06: 16, 0x07: 16}
_SERVICE_DATA = {0x16: 2, 0x20: 4, 0x21: 16}
"""Bytes of a UUID by type of advertising structure (Bluetooth Assigned Numbers, 2.3)."""


def uuid_text(uuid: UUID) -> str:
    """Return the full 128-bit form, lower case."""
    return normalize_uuid_str(uuid.to_hex_str("-").lower())


def parse_advertising_data(data: AdvertisingData, *, rssi_dbm: int) -> AdvertisementData:
    """Return what one advertising packet says, in bleak's form."""
    name: str | None = None
    tx_power: int | None = None
    manufacturer_data: dict[int, bytes] = {}
    service_data: dict[str, bytes] = {}
    service_uuids: list[str] = []
    for kind, value in data.ad_structures:
        if width := _SERVICE_LISTS.get(kind):
            service_uuids += (_uuid_at(value, at, width) for at in range(0, len(value) - width + 1, width))
        elif (width := _SERVICE_DATA.get(kind, 0)) and len(value) >= width:
            service_data[_uuid_at(value, 0, width)] = value[width:]
        elif kind == AdvertisingData.COMPLETE_LOCAL_NAME or (
            kind == AdvertisingData.SHORTENED_LOCAL_NAME and name is None
        ):
            name = value.decode("utf-8", "replace")
        elif kind == AdvertisingData.TX_POWER_LEVEL and value:
            tx_power = int.from_bytes(value[:1], "little", signed=True)
        elif kind == AdvertisingData.MANUFACTURER_SPECIFIC_DATA and len(value) >= 2:
            manufacturer_data[int.from_bytes(value[:2], "little")] = value[2:]
    return AdvertisementData(name, manufacturer_data, service_data, service_uuids, tx_power, rssi_dbm, (data,))


def _uuid_at(value: bytes, at: int, width: int) -> str:
    return uuid_text(UUID.from_bytes(value[at : at + width]))


def merged(old: AdvertisementData | None, new: AdvertisementData) -> AdvertisementData:
    """Return what both packets say together, the newer one first."""
    if old is None:
        return new
    return new._replace(
        local_name=new.local_name or old.local_name,
        manufacturer_data={**old.manufacturer_data, **new.manufacturer_data},
        service_data={**old.service_data, **new.service_data},
        service_uuids=list(dict.fromkeys([*old.service_uuids, *new.service_uuids])),
        tx_power=old.tx_power if new.tx_power is None else new.tx_power,
    )
