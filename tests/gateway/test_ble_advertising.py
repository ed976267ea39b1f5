"""Advertising data in bleak's form."""

from __future__ import annotations

from bumble.core import AdvertisingData
from hypothesis import given
from hypothesis import strategies as st

from gateway.ble_advertising import merged, parse_advertising_data


def test_advertising_data_are_understood_in_all_their_parts() -> None:
    data = AdvertisingData.from_bytes(
        bytes.fromhex("02010603030d181106c8f08d2dcd8aad1c87f3e702805c00fb")
        + bytes([5, 0x09]) + b"Ring" + bytes([2, 0x0A, 0xF4]) + bytes([4, 0xFF, 0x6B, 0x00, 0x07])
        + bytes([4, 0x16, 0x0F, 0x18, 0x57])
    )  # fmt: skip
    parsed = parse_advertising_data(data, rssi_dbm=-61)
    assert (parsed.local_name, parsed.tx_power, parsed.rssi) == ("Ring", -12, -61)
    assert parsed.manufacturer_data == {0x006B: b"\x07"}
    assert parsed.service_data == {"0000180f-0000-1000-8000-00805f9b34fb": b"\x57"}
    assert parsed.service_uuids == [
        "0000180d-0000-1000-8000-00805f9b34fb",
        "fb005c80-02e7-f387-1cad-8acd2d8df0c8",
    ]


@given(st.binary(max_size=62))
def test_advertising_data_of_any_content_are_taken(data: bytes) -> None:
    parsed = parse_advertising_data(AdvertisingData.from_bytes(data), rssi_dbm=-50)
    assert parsed.rssi == -50


def test_a_scan_response_adds_to_the_advertisement_it_follows() -> None:
    service = parse_advertising_data(AdvertisingData.from_bytes(bytes.fromhex("03030d18")), rssi_dbm=-70)
    name = parse_advertising_data(AdvertisingData.from_bytes(b"\x05\x09Ring\x02\x0a\x04"), rssi_dbm=-60)
    for both in (merged(service, name), merged(merged(service, name), service)):
        assert (both.local_name, both.tx_power) == ("Ring", 4)
        assert both.service_uuids == ["0000180d-0000-1000-8000-00805f9b34fb"]
    assert merged(service, name).rssi == -60
