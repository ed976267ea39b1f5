from __future__ import annotations

from collections.abc import Callable

import pytest

from firmware_sim.device import DeviceVanishedError, FrameDevice
from firmware_sim.faults import Faulty, flip_bits, truncate
from protocols.errors import DefinitionError

NewCounter = Callable[..., FrameDevice]


def sent(device: Faulty, until_s: float) -> list[bytes]:
    device.connect()
    device.advance(0)
    return [data for _, data in device.advance(until_s)]


def test_every_third_frame_is_cut_short(new_counter: NewCounter) -> None:
    frames = sent(Faulty(new_counter(9, repeat=5), truncate(every=3, keep=7)), 10)
    assert [len(frame) for frame in frames] == [20, 20, 7] * 3


def test_one_bit_of_every_second_frame_flips_and_always_the_same(new_counter: NewCounter) -> None:
    sound = sent(Faulty(new_counter(6)), 10)
    broken = sent(Faulty(new_counter(6), flip_bits(every=2, seed=1)), 10)
    changed = [
        (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()
        for a, b in zip(sound, broken, strict=True)
    ]
    assert changed == [0, 1] * 3
    assert broken == sent(Faulty(new_counter(6), flip_bits(every=2, seed=1)), 10)


def test_a_device_vanishes_in_mid_frame(new_counter: NewCounter) -> None:
    device = Faulty(new_counter(9, repeat=5), vanish_after_bytes=50)
    assert b"".join(sent(device, 10)) == b"".join(sent(Faulty(new_counter(9, repeat=5)), 10))[:50]
    assert device.next_due_s() == 0.0
    assert not device.finished
    with pytest.raises(DeviceVanishedError, match="counter-1"):
        device.advance(11)


def test_impossible_faults_are_refused(new_counter: NewCounter) -> None:
    with pytest.raises(DefinitionError, match="every=0"):
        flip_bits(every=0)
    with pytest.raises(DefinitionError, match="vanish_after_bytes=-1"):
        Faulty(new_counter(), vanish_after_bytes=-1)
