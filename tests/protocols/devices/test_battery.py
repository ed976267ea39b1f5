from __future__ import annotations

import pytest

from protocols.devices import battery, heart_rate
from protocols.errors import DecodeError, DefinitionError


def test_every_level_comes_back_and_every_reserved_one_is_refused():
    for level in range(256):
        if level <= 100:
            assert battery.LEVEL.decode(battery.LEVEL.encode({"level": level})) == {"level": level}
        else:
            with pytest.raises(DecodeError, match=f"level={level} of battery_level, expected 0 to 100"):
                battery.LEVEL.decode(bytes((level,)))


def test_a_level_above_100_is_not_sent():
    with pytest.raises(DefinitionError, match="level=101 of battery_level, expected 0 to 100 %"):
        battery.LEVEL.encode({"level": 101})


def test_reserved_levels_are_not_ok_among_many():
    many = battery.LEVEL.decode_many([b"\x64", b"\x65", b"", b"\x00\x01"])
    assert many["ok"].tolist() == [True, False, False, True]
    assert many["level"].tolist() == [100, 0, 0, 0]


def test_no_bytes_are_no_level():
    with pytest.raises(DecodeError, match="0 bytes"):
        battery.LEVEL.decode(b"")


def test_the_level_becomes_a_sample():
    (samples,) = heart_rate.heart_rate_strap().new_decoder().feed(battery.LEVEL_UUID, b"\x33").samples
    assert samples.stream == "battery"
    assert samples.values.tolist() == [[51]]
