from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from firmware_sim.device import AttError, DeviceClock, FrameDevice
from protocols.devices.kind import SERIAL_SOURCE
from protocols.errors import DefinitionError

NewCounter = Callable[..., FrameDevice]


def numbers(frames: list[tuple[str, bytes]]) -> list[int]:
    return [int.from_bytes(data[:4], "big") for _, data in frames]


def test_nothing_is_due_before_somebody_listens(new_counter: NewCounter) -> None:
    device = new_counter()
    assert device.next_due_s() == math.inf
    assert device.advance(100) == []


def test_frames_come_when_they_are_complete(new_counter: NewCounter) -> None:
    device = new_counter(origin_s=0.0)
    device.connect()
    device.advance(0)
    assert device.next_due_s() == pytest.approx(0.1)
    assert numbers(device.advance(0.35)) == [0, 1, 2]
    assert device.next_due_s() == pytest.approx(0.4)


def test_what_falls_into_a_disconnection_is_lost_and_the_count_goes_on(new_counter: NewCounter) -> None:
    device = new_counter(origin_s=0.0)
    device.connect()
    device.advance(0)
    assert numbers(device.advance(0.25)) == [0, 1]
    device.disconnect()
    assert device.advance(0.77) == []
    device.connect()
    assert device.advance(0.77) == []
    assert numbers(device.advance(1.0)) == [8, 9]


def test_a_source_without_origin_begins_when_it_is_first_listened_to(new_counter: NewCounter) -> None:
    device = new_counter(3)
    device.advance(5.0)
    device.connect()
    device.advance(5.03)
    assert numbers(device.advance(5.2)) == [0]
    assert not device.finished
    assert numbers(device.advance(9)) == [1, 2]
    assert device.finished
    assert device.next_due_s() == math.inf


def test_a_fast_clock_shortens_the_true_period(new_counter: NewCounter) -> None:
    device = new_counter(origin_s=0.0, clock=DeviceClock(drift_ppm=100))
    device.connect()
    device.advance(0)
    assert len(device.advance(1000)) == 10_001


def test_a_fast_clock_is_ahead_of_run_time() -> None:
    clock = DeviceClock(drift_ppm=100)
    assert clock.device_s(1000) == pytest.approx(1000.1)
    assert clock.run_s(1000.1) == pytest.approx(1000)


def test_a_change_is_told_to_whoever_drives(new_counter: NewCounter) -> None:
    device = new_counter()
    told = []
    device.on_change = lambda: told.append(True)
    device.connect()
    assert told


def test_reads_and_writes_that_a_device_does_not_know_are_att_errors(new_counter: NewCounter) -> None:
    device = new_counter()
    with pytest.raises(AttError) as read:
        device.read("2a19")
    assert read.value.code == 0x02
    with pytest.raises(AttError) as written:
        device.write(SERIAL_SOURCE, b"x")
    assert written.value.code == 0x03


def test_values_may_depend_on_run_time(new_counter: NewCounter) -> None:
    device = new_counter(values={"a": b"fixed", "b": lambda run_s: f"{run_s:.0f}".encode()})
    device.advance(12)
    assert (device.read("a"), device.read("b")) == (b"fixed", b"12")


def test_an_impossible_drift_is_refused() -> None:
    with pytest.raises(DefinitionError, match="drift_ppm"):
        DeviceClock(math.nan)
