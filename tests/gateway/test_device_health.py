"""Figures of a device's health."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.device_health import DeviceHealth, RateMeter, StreamHealth
from protocols.devices import battery
from protocols.devices.heart_rate import RR
from protocols.devices.polar import ECG
from protocols.samples import SampleBlock


def battery_block(*levels: int) -> SampleBlock:
    return SampleBlock(
        device="strap",
        stream=battery.STREAM,
        boot_id=1,
        first_index=0,
        start_ns=0,
        values=np.array([levels], np.uint8),
        arrival_ns=0,
        arrival_monotonic_ns=0,
        uncertainty_ns=0,
        times_ns=np.zeros(len(levels), np.int64),
    )


def test_the_rate_is_that_of_the_last_seconds_of_lab_time() -> None:
    meter = RateMeter()
    assert meter.rate_hz(speed=1) == 0
    for _ in range(20):
        meter.count(25)
        meter.tick(0.25)
    assert meter.rate_hz(speed=1) == pytest.approx(100)
    assert meter.rate_hz(speed=10) == pytest.approx(10)
    for _ in range(10):
        meter.tick(0.25)
    assert meter.rate_hz(speed=1) == pytest.approx(50)
    for _ in range(10):
        meter.tick(0.25)
    assert meter.rate_hz(speed=1) == 0


def test_the_battery_level_is_the_last_one_told() -> None:
    assert DeviceHealth("strap", "polar-h10").battery_percent is None
    streams = (StreamHealth(ECG), StreamHealth(battery.STREAM, newest=battery_block(81, 80)))
    assert DeviceHealth("strap", "polar-h10", streams=streams).battery_percent == 80


def test_quality_is_the_share_of_samples_that_came() -> None:
    assert StreamHealth(RR, rate_hz=1.2).quality is None
    assert StreamHealth(ECG, rate_hz=65).quality == pytest.approx(0.5)
    assert StreamHealth(ECG, rate_hz=131).quality == 1


def test_a_stream_is_found_by_name_and_an_unknown_one_is_named() -> None:
    health = DeviceHealth("strap", "polar-h10", streams=(StreamHealth(ECG), StreamHealth(RR)))
    assert health.stream("rr").name == "rr"
    with pytest.raises(KeyError, match="expected one of"):
        health.stream("pleth")
