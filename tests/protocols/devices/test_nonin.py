from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.devices import nonin
from protocols.devices.kind import SERIAL_SOURCE
from protocols.devices.nonin import PACKET
from protocols.errors import DecodeError

SATURATIONS = (
    "spo2",
    "spo2_display",
    "spo2_fast",
    "spo2_beat_to_beat",
    "spo2_extended",
    "spo2_extended_display",
)
RATES = ("pulse_rate", "pulse_rate_extended", "pulse_rate_display", "pulse_rate_extended_display")
VALUES = st.fixed_dictionaries(
    {
        "status": st.lists(st.integers(0, 63).map(lambda flags: flags << 1), min_size=25, max_size=25),
        "pleth": st.lists(st.integers(0, 65535), min_size=25, max_size=25),
        **{name: st.integers(0, 126) | st.just(math.nan) for name in SATURATIONS},
        **{name: st.integers(0, 510) | st.just(math.nan) for name in RATES},
        "revision": st.integers(0, 127),
        "timer": st.integers(0, nonin.TIMER_MODULUS - 1),
        "smart_point": st.integers(0, 1),
        "low_battery": st.integers(0, 1),
    }
)
PLAIN = {"status": [0] * 25, "pleth": list(range(25)), "spo2": 98, "pulse_rate": 72}


def packet_by_hand(pleth: list[int], slow: dict[int, int]) -> bytes:
    """A packet from Nonin's table: frames counted from 1."""
    data = b""
    for k in range(25):
        frame = bytes((0x81 if k == 0 else 0x80, pleth[k] >> 8, pleth[k] & 255, slow.get(k + 1, 0)))
        data += frame + bytes((sum(frame) % 256,))
    return data


@given(VALUES)
def test_a_packet_comes_back_as_it_was_sent(values):
    back = PACKET.decode(PACKET.encode(values))
    sync = [0x81] + [0x80] * 24
    assert back.pop("status").tolist() == [
        flags | bits for flags, bits in zip(values.pop("status"), sync, strict=True)
    ]
    assert back.pop("pleth").tolist() == values.pop("pleth")
    np.testing.assert_equal(back, values)


@given(VALUES)
def test_sync_bits_in_the_status_do_no_harm(values):
    data = PACKET.encode(values)
    assert PACKET.encode(PACKET.decode(data)) == data


def test_a_packet_written_by_nonins_table_is_understood():
    slow = {
        1: 1,
        2: 0x48,
        3: 97,
        4: 48,
        6: 2,
        7: 3,
        8: 0x21,
        9: 96,
        10: 95,
        11: 94,
        14: 3,
        15: 127,
        16: 93,
        17: 127,
    }
    values = PACKET.decode(
        packet_by_hand([256 * k + 7 for k in range(25)], slow | {20: 0, 21: 60, 22: 2, 23: 1})
    )
    assert values["pleth"].tolist() == [256 * k + 7 for k in range(25)]
    assert values["pulse_rate"] == 128 + 0x48
    assert (values["spo2"], values["spo2_display"], values["spo2_fast"]) == (97, 96, 95)
    assert (values["spo2_beat_to_beat"], values["spo2_extended"]) == (94, 93)
    assert math.isnan(values["pulse_rate_extended"])
    assert math.isnan(values["spo2_extended_display"])
    assert (values["pulse_rate_display"], values["pulse_rate_extended_display"]) == (60, 257)
    assert (values["revision"], values["timer"], values["smart_point"], values["low_battery"]) == (
        48,
        259,
        1,
        1,
    )


def test_every_single_flipped_bit_is_detected():
    data = PACKET.encode(PLAIN)
    for bit in range(8 * len(data)):
        octets = bytearray(data)
        octets[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecodeError, match="nonin_packet"):
            PACKET.decode(bytes(octets))


def test_a_connection_opened_in_mid_packet_finds_the_next_one():
    decoder = nonin.nonin_7().new_decoder()
    data = PACKET.encode(PLAIN)
    decoded = decoder.feed(SERIAL_SOURCE, data[60:] + data + data[:10])
    assert [samples.stream for samples in decoded.samples] == ["pleth", "oximetry"]
    assert len(decoded.errors) == 1
    assert len(decoder.feed(SERIAL_SOURCE, data[10:]).samples) == 2


def test_samples_carry_what_the_packet_says():
    decoder = nonin.nonin_7().new_decoder()
    pleth, oximetry = decoder.feed(SERIAL_SOURCE, PACKET.encode(PLAIN)).samples
    assert pleth.values.dtype == np.uint16
    assert pleth.values[0].tolist() == list(range(25))
    assert pleth.values[1].tolist() == [0x81] + [0x80] * 24
    np.testing.assert_array_equal(oximetry.values[:, 0], [98, 72, *[math.nan] * 4])
    assert pleth.counter is None


def test_a_device_that_counts_packets_gives_counters_of_samples():
    kind = nonin.nonin_7(timer=True)
    pleth, oximetry = kind.new_decoder().feed(SERIAL_SOURCE, PACKET.encode(PLAIN | {"timer": 16383})).samples
    assert oximetry.counter == 16383
    assert pleth.counter == 16383 * 25
    assert pleth.counter + 25 == kind.counter_modulus["pleth"]


def test_battery_and_revision_are_told_once_and_when_they_change():
    decoder = nonin.nonin_7().new_decoder()
    told = [
        dict(decoder.feed(SERIAL_SOURCE, PACKET.encode(PLAIN | change)).properties)
        for change in ({"revision": 7}, {"revision": 7}, {"revision": 7, "low_battery": 1})
    ]
    assert told == [{"firmware_revision": "7", "low_battery": "no"}, {}, {"low_battery": "yes"}]
