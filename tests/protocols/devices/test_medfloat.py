from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.devices import medfloat
from protocols.errors import DefinitionError

SFLOAT_SPECIALS = {0x07FF: "nan", 0x0800: "nres", 0x0801: "reserved", 0x07FE: "+inf", 0x0802: "-inf"}
FLOAT_SPECIALS = (0x007FFFFF, 0x00800000, 0x00800001, 0x007FFFFE, 0x00800002)


def sfloat_by_the_standard(code: int) -> Fraction:
    mantissa, exponent = code & 0xFFF, code >> 12
    mantissa -= 0x1000 if mantissa >= 0x800 else 0
    exponent -= 16 if exponent >= 8 else 0
    return mantissa * Fraction(10) ** exponent


def test_every_sfloat_code_decodes_to_the_float_nearest_its_value():
    for code in range(1 << 16):
        if code not in SFLOAT_SPECIALS:
            assert medfloat.decode_sfloat(code) == float(sfloat_by_the_standard(code)), hex(code)


def test_every_sfloat_code_keeps_its_value_through_decode_and_encode():
    for code in range(1 << 16):
        value = medfloat.decode_sfloat(code)
        again = medfloat.encode_sfloat(value)
        if code in SFLOAT_SPECIALS:
            assert again == code, hex(code)
        else:
            assert medfloat.decode_sfloat(again) == value, hex(code)


def test_every_sfloat_code_keeps_its_bits_when_its_exponent_is_given():
    for code in range(1 << 16):
        exponent = (code >> 12 ^ 8) - 8
        assert medfloat.encode_sfloat(medfloat.decode_sfloat(code), exponent) == code, hex(code)


def test_the_fast_table_of_sfloat_codes_agrees_with_the_encoder():
    for value in (*range(-2060, 2060), 97.5, math.inf, medfloat.NRES):
        assert medfloat.SFLOAT_CODES[value] == medfloat.encode_sfloat(value)


@pytest.mark.parametrize("code", FLOAT_SPECIALS)
def test_special_float_codes_keep_their_bits(code: int):
    value = medfloat.decode_float(code)
    assert not math.isfinite(value)
    assert medfloat.encode_float(value) == code


def test_special_codes_survive_numpy_and_single_precision():
    codes = np.array(list(SFLOAT_SPECIALS), np.uint16)
    values = medfloat.decode_sfloats(codes)
    np.testing.assert_array_equal(medfloat.encode_sfloats(values.astype(np.float32).astype(np.float64)), codes)
    wide = np.array(FLOAT_SPECIALS)
    np.testing.assert_array_equal(medfloat.encode_floats(medfloat.decode_floats(wide)), wide)


def test_any_nan_of_python_or_numpy_is_sent_as_nan():
    assert medfloat.encode_sfloat(math.nan) == 0x07FF
    assert medfloat.encode_sfloat(-math.nan) == 0x07FF
    assert medfloat.encode_sfloat(np.float64("nan")) == 0x07FF
    assert medfloat.encode_float(math.inf - math.inf) == 0x007FFFFF


@given(st.integers(-(1 << 23) + 3, (1 << 23) - 3), st.integers(-128, 127))
def test_floats_decode_exactly_rounded_and_keep_their_value(mantissa: int, exponent: int):
    code = (exponent & 0xFF) << 24 | mantissa & 0xFFFFFF
    value = medfloat.decode_float(code)
    assert value == float(mantissa * Fraction(10) ** exponent)
    assert medfloat.decode_float(medfloat.encode_float(value)) == value


@given(st.lists(st.integers(0, (1 << 32) - 1), max_size=20))
def test_float_arrays_decode_like_single_floats(codes: list[int]):
    one_by_one = np.array([medfloat.decode_float(code) for code in codes], np.float64)
    at_once = medfloat.decode_floats(np.array(codes, np.uint32))
    assert at_once.tobytes() == one_by_one.tobytes()


@given(st.floats(-2.045e10, 2.045e10))
def test_a_number_is_sent_as_its_nearest_sfloat(value: float):
    sent = medfloat.decode_sfloat(medfloat.encode_sfloat(value))
    assert abs(sent - value) <= max(abs(value) / 2044 * 5.01, 0.51e-8)


@pytest.mark.parametrize(
    ("value", "exponent", "code"),
    [
        (98, None, 0x0062),
        (98.0, 0, 0x0062),
        (98, -1, 0xF3D4),
        (97.5, None, 0xF3CF),
        (36.6, None, 0xF16E),
        (97.6, 0, 0x0062),
        (0.0, None, 0x0000),
        (-1, None, 0x0FFF),
        (20470, None, 0x17FF),
    ],
)
def test_sfloat_encoding_takes_the_plainest_code_or_the_given_resolution(value, exponent, code):
    assert medfloat.encode_sfloat(value, exponent) == code


@pytest.mark.parametrize(("value", "exponent"), [(2.1e10, None), (-1e300, None), (300, -1), (2047, 0), (5, 9)])
def test_a_number_that_does_not_fit_an_sfloat_is_refused(value, exponent):
    with pytest.raises(DefinitionError, match="expected"):
        medfloat.encode_sfloat(value, exponent)


def test_a_number_that_does_not_fit_a_float_is_refused():
    with pytest.raises(DefinitionError, match="FLOAT"):
        medfloat.encode_float(1e140)
