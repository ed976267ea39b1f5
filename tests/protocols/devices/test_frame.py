from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.devices.frame import Bits, Frame, Lane, Sum8
from protocols.errors import DecodeError, DefinitionError

FRAME = Frame(
    "oximeter",
    8,
    (
        Bits("rate", ((1, 6, 1), (2, 0, 7)), missing=255, unit="/min"),
        Bits("level", ((1, 0, 4),)),
        Bits("temperature", ((4, 0, 8), (5, 0, 8)), scale=0.1, unit="Cel"),
        Lane("wave", 6, 1, 1),
    ),
    sync=((0, 0xFF, 0xA5), (1, 0x80, 0), (2, 0x80, 0)),
    check=Sum8(at=7, stride=8, count=1),
)
VALUES = st.fixed_dictionaries(
    {
        "rate": st.integers(0, 254),
        "level": st.integers(0, 15),
        "temperature": st.integers(0, 65535).map(lambda raw: raw / 10),
        "wave": st.lists(st.integers(0, 255), min_size=1, max_size=1),
    }
)


def plain(values):
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


@given(VALUES)
def test_values_come_back_as_they_were_sent(values):
    assert plain(FRAME.decode(FRAME.encode(values))) == values


@given(VALUES, st.integers(0, 63))
def test_every_flipped_bit_is_detected(values, bit):
    octets = bytearray(FRAME.encode(values))
    octets[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecodeError, match="oximeter"):
        FRAME.decode(bytes(octets))


@given(st.binary(max_size=12))
def test_arbitrary_bytes_raise_only_decode_errors(data):
    try:
        FRAME.decode(data)
    except DecodeError:
        return
    assert len(data) == FRAME.size


def test_a_wrong_sync_bit_is_refused_even_with_a_right_checksum():
    octets = bytearray(FRAME.encode({"level": 3, "wave": [1]}))
    octets[0] -= 1
    octets[7] -= 1
    with pytest.raises(DecodeError, match="sync"):
        FRAME.decode(bytes(octets))
    assert not FRAME.decode_many(bytes(octets))["ok"][0]


def test_a_missing_value_is_nan_both_ways():
    data = FRAME.encode({"level": 3, "wave": [1]})
    assert math.isnan(FRAME.decode(data)["rate"])
    assert FRAME.encode({"level": 3, "wave": [1], "rate": math.nan}) == data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 255}, r"rate=255 of oximeter, expected 0 to 254 /min"),
        ({"rate": -1}, "rate=-1"),
        ({"level": 16}, "level=16"),
        ({"level": math.nan}, "level=nan"),
        ({"temperature": 6553.6}, r"temperature=6553.6 of oximeter, expected 0 to 6553.5 Cel"),
        ({"wave": [256]}, r"wave\[0\]=256"),
        ({"wave": [1, 2]}, r"wave of shape \(2,\) of oximeter, expected \(1,\)"),
        ({"wave": None}, "wave of shape"),
        ({"other": 1}, "value 'other'"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name_value_and_range(change, message):
    with pytest.raises(DefinitionError, match=message):
        FRAME.encode({"wave": [0]} | change)


def test_whole_numbers_given_as_floats_are_rounded():
    values = FRAME.decode(FRAME.encode({"rate": 71.6, "wave": np.array([3.2]), "temperature": 36.64}))
    assert plain(values) == {"rate": 72, "level": 0, "temperature": 36.6, "wave": [3]}


@given(st.lists(VALUES, max_size=9), st.data())
def test_many_frames_decode_like_each_of_them(rows, data):
    frames = [
        FRAME.encode(row if k % 3 else {n: v for n, v in row.items() if n != "rate"})
        for k, row in enumerate(rows)
    ]
    for k in range(len(frames)):
        spoil = data.draw(st.sampled_from(["no", "no", "sync", "sum", "cut"]))
        if spoil != "no":
            frames[k] = {
                "sync": b"\0" + frames[k][1:],
                "sum": frames[k][:-1] + bytes((frames[k][-1] ^ 1,)),
                "cut": frames[k][:-1],
            }[spoil]
    many = FRAME.decode_many(frames)
    for k, frame in enumerate(frames):
        try:
            values = plain(FRAME.decode(frame))
        except DecodeError:
            assert not many["ok"][k]
            assert math.isnan(many["rate"][k])
            assert many["level"][k] == 0
            continue
        assert many["ok"][k]
        row = {name: column[k] for name, column in many.items() if name != "ok"}
        np.testing.assert_equal(plain(row), values)
    whole = [frame for frame in frames if len(frame) == FRAME.size]
    np.testing.assert_array_equal(FRAME.decode_many(b"".join(whole))["ok"], FRAME.decode_many(whole)["ok"])


def test_bytes_that_are_no_whole_number_of_frames_are_refused():
    with pytest.raises(DecodeError, match="multiple of 8"):
        FRAME.decode_many(bytes(9))


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ((Bits("x", ((4, 0, 8),)),), {}, "field 'x'"),
        ((Lane("x", 0, 2, 3),), {}, "field 'x'"),
        ((Bits("x y", ((0, 0, 8),)),), {}, "identifier"),
        ((), {"sync": ((0, 0x80, 0x81),)}, "sync"),
        ((), {"sync": ((4, 0x80, 0x80),)}, "sync"),
        ((), {"check": Sum8(at=1, stride=2, count=3)}, "check"),
    ],
)
def test_a_definition_that_contradicts_itself_is_refused(fields, options, message):
    with pytest.raises(DefinitionError, match=message):
        Frame("f", 4, fields, **options)
