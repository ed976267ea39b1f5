from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.devices.record import Field, Flag, Record
from protocols.errors import DecodeError, DefinitionError

EVERYTHING = Record(
    "everything",
    (
        Field("magic", "u16", constant=0xBEEF),
        Field(
            "flags",
            "u16",
            flags=(
                Flag("mode", 0, width=3),
                Flag("wide", 3, above=255),
                Flag("extra", 4),
                Flag("signed", 5),
                Flag("beats", 9),
            ),
        ),
        Field("big", "u64"),
        Field("id", "u40"),
        Field("weight", "u16", scale=0.005, unit="kg"),
        Field("percent", "u8", limits=(0, 100), unit="%"),
        Field("rate", "u8", when="!wide"),
        Field("rate", "u16", when="wide"),
        Field("temperature", "float", when="extra", exponent=-1, unit="Cel"),
        Field("angle", "i24", when="extra"),
        Field("offset", "i16", when="signed", limits=(-100, 100)),
        Field("beats", "u16", when="beats", repeat="list", scale=1 / 1024, unit="s"),
    ),
    crc=True,
)


def multiples(scale: float, low: int, high: int):
    divisor = round(1 / scale)
    return st.integers(low, high).map(lambda raw: raw / divisor)


VALUES = st.fixed_dictionaries(
    {
        "big": st.integers(0, 2**64 - 1),
        "id": st.integers(0, 2**40 - 1),
        "weight": multiples(0.005, 0, 65535),
        "percent": st.integers(0, 100),
        "rate": st.integers(0, 65535),
        "mode": st.integers(0, 7),
    },
    optional={
        "offset": st.integers(-100, 100),
        "beats": st.lists(multiples(1 / 1024, 0, 65535), min_size=1, max_size=9),
    },
).flatmap(
    lambda values: st.one_of(
        st.just(values),
        st.builds(
            lambda temperature, angle: values | {"temperature": temperature, "angle": angle},
            st.integers(-500, 500).map(lambda raw: raw / 10),
            st.integers(-(2**23), 2**23 - 1),
        ),
    )
)
GOOD = {"big": 1, "id": 2, "weight": 0.5, "percent": 3, "rate": 4}


@given(VALUES)
def test_values_come_back_as_they_were_sent(values):
    assert EVERYTHING.decode(EVERYTHING.encode(values)) == values


@given(VALUES, st.binary(max_size=5))
def test_trailing_bytes_are_kept_and_put_back(values, trailing):
    values.pop("beats", None)
    if trailing:
        values["trailing"] = trailing
    data = EVERYTHING.encode(values)
    assert EVERYTHING.decode(data) == values
    assert EVERYTHING.encode(EVERYTHING.decode(data)) == data


@given(VALUES)
def test_a_record_cut_short_anywhere_is_refused_unless_its_crc_fits(values):
    data = EVERYTHING.encode(values)
    accepted = 0
    for length in range(len(data)):
        try:
            found = EVERYTHING.decode(data[:length])
        except DecodeError:
            continue
        else:  # one in 65536 is a whole record by chance, and then it is nothing else
            assert EVERYTHING.encode(found) == data[:length]
            accepted += 1
    assert accepted <= 1


@given(VALUES, st.data())
def test_no_flipped_bit_passes_the_crc(values, data):
    octets = bytearray(EVERYTHING.encode(values))
    bit = data.draw(st.integers(0, 8 * len(octets) - 1))
    octets[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecodeError):
        EVERYTHING.decode(bytes(octets))


@given(st.binary(max_size=60))
def test_arbitrary_bytes_raise_only_decode_errors(data):
    with pytest.raises(DecodeError):
        EVERYTHING.decode(data)


@given(st.lists(VALUES, max_size=12), st.data())
def test_many_records_decode_like_each_of_them(rows, data):
    frames = [EVERYTHING.encode(row) for row in rows]
    for k in range(len(frames)):
        spoil = data.draw(st.sampled_from(["no", "no", "no", "cut", "flip", "empty"]))
        if spoil == "cut":
            frames[k] = frames[k][:-3]
        elif spoil == "flip":
            frames[k] = frames[k][:4] + bytes((frames[k][4] ^ 1,)) + frames[k][5:]
        elif spoil == "empty":
            frames[k] = b""
    assert_same_as_one_by_one(EVERYTHING, frames)


def assert_same_as_one_by_one(record: Record, frames: list[bytes]) -> None:
    many = record.decode_many(frames)
    rest = {name: list(many[name]) for name in many if f"{name}_count" in many}
    for k, frame in enumerate(frames):
        try:
            values = record.decode(frame)
        except DecodeError:
            values = None
        assert many["ok"][k] == (values is not None)
        for name, column in many.items():
            if name == "ok" or name.endswith("_count"):
                continue
            expected = (values or {}).get(name)
            if name in rest:
                count = many[f"{name}_count"][k]
                numbers, rest[name] = rest[name][:count], rest[name][count:]
                assert numbers == (expected or [])
            elif expected is None:
                assert column[k] == 0 or math.isnan(column[k])
            else:
                assert column[k] == expected
    assert not any(rest.values())


def test_whole_numbers_stay_whole_in_arrays():
    many = EVERYTHING.decode_many([EVERYTHING.encode(GOOD | {"big": 2**64 - 1})])
    assert many["big"].dtype == np.uint64
    assert many["big"][0] == 2**64 - 1
    assert many["percent"].dtype == np.int64
    assert many["weight"].dtype == np.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"percent": 101}, r"percent=101 of everything, expected 0 to 100 %"),
        ({"percent": -1}, r"percent=-1"),
        ({"rate": 65536}, r"rate=65536 of everything, expected 0 to 65535"),
        ({"rate": "fast"}, r"rate='fast' of everything, expected a number"),
        ({"rate": math.nan}, r"rate=nan of everything, expected a number"),
        ({"big": -1}, r"big=-1"),
        ({"big": 2**64}, r"big=18446744073709551616"),
        ({"id": 2**40}, r"id=1099511627776"),
        ({"weight": 327.68}, r"weight=327.68 of everything, expected 0 to 327.675 kg"),
        ({"mode": 8}, r"mode=8 of everything, expected 0 to 7"),
        ({"mode": -1}, r"mode=-1"),
        ({"offset": 101}, r"offset=101 of everything, expected -100 to 100"),
        ({"beats": [64.0]}, r"beats=64.0 of everything, expected 0 to 63.99\d* s"),
        ({"beats": [[1.0]]}, r"beats of shape \(1, 1\)"),
        ({"angle": 5}, r"temperature of everything is missing, expected beside angle"),
        ({"temperature": 36.6}, r"angle of everything is missing"),
        ({"temperature": 1e9, "angle": 1}, r"temperature of everything: .*FLOAT at exponent -1"),
        ({"temprature": 36.6}, r"value 'temprature' of everything, expected only \['angle'"),
        ({"trailing": "text"}, r"trailing='text'"),
        ({"rate": None}, r"rate of everything is missing"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name_value_and_range(change, message):
    with pytest.raises(DefinitionError, match=message):
        EVERYTHING.encode(GOOD | change)


def test_whatever_is_no_mapping_is_refused():
    with pytest.raises(DefinitionError, match="expected a mapping"):
        EVERYTHING.encode(7)


def test_numbers_of_any_sort_are_rounded_to_the_resolution_of_the_wire():
    values = GOOD | {"rate": np.float32(71.6), "percent": 99.7, "weight": 0.5012, "big": np.int64(2**62 + 1)}
    sent = EVERYTHING.decode(EVERYTHING.encode(values))
    assert (sent["rate"], sent["percent"], sent["weight"], sent["big"]) == (72, 100, 0.5, 2**62 + 1)


def test_absent_values_may_be_given_as_none_or_as_an_empty_list():
    absent = {"beats": [], "temperature": None, "angle": None, "offset": None}
    assert EVERYTHING.encode(GOOD | absent) == EVERYTHING.encode(GOOD)


def test_unknown_flag_bits_are_ignored():
    record = Record("r", (Field("flags", "u8", flags=(Flag("present", 0),)), Field("x", "u8", when="present")))
    assert record.decode(b"\xfe") == {}
    assert record.decode(b"\xff\x07") == {"x": 7}


def test_a_number_scaled_by_a_tenth_decodes_exactly_rounded():
    record = Record("r", (Field("x", "u16", scale=0.1),))
    assert record.decode(b"\x6f\x01") == {"x": 36.7}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((), "at least one"),
        ((Field("x", "u7"),), "type='u7'"),
        ((Field("x y", "u8"),), "identifier"),
        ((Field("x", "u8", when="flag"),), "when='flag'"),
        ((Field("x", "u8", scale=0),), "scale=0"),
        ((Field("x", "sfloat", scale=0.5),), "scale=0.5"),
        ((Field("x", "u8", repeat="list"), Field("y", "u8")), "only the last"),
        ((Field("x", "i24", repeat="list"),), "repeat='list'"),
        ((Field("f", "u8", flags=(Flag("a", 7, width=2),)),), "flag 'a'"),
        ((Field("f", "u8", flags=(Flag("a", 0),)), Field("g", "u8", flags=(Flag("b", 0),))), "at most one"),
    ],
)
def test_a_definition_that_contradicts_itself_is_refused(fields, message):
    with pytest.raises(DefinitionError, match=message):
        Record("r", fields)


def test_text_cannot_be_decoded_as_arrays():
    with pytest.raises(DefinitionError, match="text"):
        Record("r", (Field("x", "text"),)).decode_many([b"a"])


@pytest.mark.parametrize("repeat", ["sfloat", "float", "u8", "i16", "u32", "i64", "u24"])
def test_arrays_of_every_type_come_back(repeat):
    record = Record("r", (Field("x", repeat, repeat="array"),))
    numbers = np.array([1, 2, 100])
    np.testing.assert_array_equal(record.decode(record.encode({"x": numbers}))["x"], numbers)
    assert_same_arrays = record.decode_many([record.encode({"x": numbers}), b""])
    np.testing.assert_array_equal(assert_same_arrays["x"], numbers)
    assert assert_same_arrays["x_count"].tolist() == [3, 0]


def test_an_array_of_scaled_numbers_comes_back():
    record = Record("r", (Field("x", "i16", repeat="array", scale=0.25),))
    np.testing.assert_array_equal(record.decode(record.encode({"x": [1.25, -3.0]}))["x"], [1.25, -3.0])


def test_equal_definitions_are_equal_and_can_be_keys():
    fields = (Field("x", "u8"),)
    assert Record("r", fields) == Record("r", fields)
    assert len({Record("r", fields), Record("r", fields)}) == 1
