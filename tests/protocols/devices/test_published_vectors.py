"""Bytes that others have published with their meaning, read from the shared recordings."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from protocols.devices import battery, device_information, heart_rate, medfloat, polar, pulse_oximeter
from protocols.errors import DecodeError

pytestmark = pytest.mark.shared_data


@pytest.fixture
def vectors(shared: Path) -> list[dict[str, Any]]:
    return json.loads((shared / "data" / "vectors" / "device_bytes.json").read_text())


def of_kind(vectors: list[dict[str, Any]], kind: str) -> list[tuple[str, bytes, dict[str, Any]]]:
    chosen = [(v["name"], bytes.fromhex(v["hex"]), v["expected"]) for v in vectors if v["kind"] == kind]
    assert chosen, kind
    return chosen


def test_heart_rate_measurements(vectors):
    for name, data, expected in of_kind(vectors, "hrs_2a37"):
        if "error" in expected:
            with pytest.raises(DecodeError):
                heart_rate.MEASUREMENT.decode(data)
            continue
        values = heart_rate.MEASUREMENT.decode(data)
        assert values["heart_rate"] == expected["hr"], name
        assert values.get("energy") == expected.get("energy"), name
        assert [rr * 1024 for rr in values.get("rr", [])] == expected.get("rr_1024", []), name
        if "contact_supported" in expected:
            assert bool(values["sensor_contact"] & 2) == expected["contact_supported"], name
        if "contact" in expected:
            assert values["sensor_contact"] == 2 + expected["contact"], name


def test_oximeter_measurements_the_one_of_a_non_conforming_library_included(vectors):
    names = {
        "spo2": "spo2",
        "pulse": "pulse_rate",
        "spo2_fast": "spo2_fast",
        "pulse_fast": "pulse_rate_fast",
        "spo2_slow": "spo2_slow",
        "pulse_slow": "pulse_rate_slow",
    }
    for name, data, expected in of_kind(vectors, "plx_2a5f"):
        values = pulse_oximeter.CONTINUOUS.decode(data)
        wanted = {names[key]: value for key, value in expected.items() if key in names}
        assert values.keys() == wanted.keys(), name
        for key, value in wanted.items():
            assert math.isnan(values[key]) if value == "NaN" else values[key] == value, (name, key)


def test_battery_levels(vectors):
    for name, data, expected in of_kind(vectors, "bas_2a19"):
        assert battery.LEVEL.decode(data) == expected, name


def test_device_information(vectors):
    for name, data, expected in of_kind(vectors, "dis_2a23"):
        assert device_information.SYSTEM_ID.decode(data) == expected, name
    for name, data, expected in of_kind(vectors, "dis_2a29"):
        assert device_information.STRING.decode(data) == expected, name


@pytest.mark.parametrize(
    ("kind", "decode"), [("sfloat", medfloat.decode_sfloat), ("float32", medfloat.decode_float)]
)
def test_medical_floats(vectors, kind, decode):
    for name, data, expected in of_kind(vectors, kind):
        value = decode(int.from_bytes(data, "little"))
        assert value == pytest.approx(expected["value"], rel=expected["rtol"]), name


def test_polar_ecg_and_the_other_measurements_are_told_apart(vectors):
    for name, data, expected in of_kind(vectors, "polar_pmd"):
        if expected["type"] != "ecg":
            with pytest.raises(DecodeError):
                polar.ECG_FRAME.decode(data)
            continue
        values = polar.ECG_FRAME.decode(data)
        assert values["timestamp_ns"] == expected["timestamp"], name
        assert values["ecg"].tolist() == expected["uV"], name
        assert polar.ECG_FRAME.encode(values) == data
