from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.devices import medfloat, pulse_oximeter
from protocols.devices.pulse_oximeter import CONTINUOUS, FEATURES
from protocols.errors import DecodeError, DefinitionError

CODES = st.integers(0, 65535).map(medfloat.decode_sfloat)


def pair(suffix: str):
    return st.fixed_dictionaries({f"spo2_{suffix}": CODES, f"pulse_rate_{suffix}": CODES}) | st.just({})


VALUES = st.builds(
    lambda *parts: {key: value for part in parts for key, value in part.items()},
    st.fixed_dictionaries({"spo2": CODES, "pulse_rate": CODES}),
    pair("fast"),
    pair("slow"),
    st.fixed_dictionaries(
        {},
        optional={
            "measurement_status": st.integers(0, 65535),
            "device_status": st.integers(0, 2**24 - 1),
            "pulse_amplitude_index": CODES,
        },
    ),
)


def bits(values):
    return {name: np.float64(value).tobytes() for name, value in values.items()}


@given(VALUES)
def test_a_measurement_comes_back_bit_for_bit_special_values_included(values):
    assert bits(CONTINUOUS.decode(CONTINUOUS.encode(values))) == bits(values)


@given(VALUES)
def test_a_measurement_cut_short_never_passes_for_a_whole_one(values):
    data = CONTINUOUS.encode(values)
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            CONTINUOUS.decode(data[:length])


def test_the_three_sorts_of_nan_are_told_apart_on_the_wire():
    for special, code in ((math.nan, "ff07"), (medfloat.NRES, "0008"), (medfloat.RESERVED, "0108")):
        data = CONTINUOUS.encode({"spo2": special, "pulse_rate": 72})
        assert data.hex() == f"00{code}4800"
        assert CONTINUOUS.encode(CONTINUOUS.decode(data)) == data


def test_half_a_pair_is_refused():
    with pytest.raises(DefinitionError, match="pulse_rate_fast of plx_continuous_measurement is missing"):
        CONTINUOUS.encode({"spo2": 98, "pulse_rate": 72, "spo2_fast": 97})


def test_a_saturation_beyond_sfloat_is_refused_by_name():
    with pytest.raises(DefinitionError, match=r"spo2 of plx_continuous_measurement: value=1e\+30"):
        CONTINUOUS.encode({"spo2": 1e30, "pulse_rate": 72})


def test_samples_hold_nan_where_the_device_gives_no_amplitude():
    decoder = pulse_oximeter.pulse_oximeter().new_decoder()
    data = CONTINUOUS.encode({"spo2": 97.5, "pulse_rate": 72})
    (samples,) = decoder.feed(pulse_oximeter.CONTINUOUS_UUID, data).samples
    np.testing.assert_array_equal(samples.values, [[97.5], [72], [math.nan]])
    assert samples.values.dtype == np.float64
    with_index = CONTINUOUS.encode({"spo2": 97, "pulse_rate": 72, "pulse_amplitude_index": 2.5})
    (samples,) = decoder.feed(pulse_oximeter.CONTINUOUS_UUID, with_index).samples
    assert samples.values[2, 0] == 2.5


def test_the_device_not_having_a_resolution_reaches_the_samples():
    data = CONTINUOUS.encode({"spo2": medfloat.NRES, "pulse_rate": 72})
    decoder = pulse_oximeter.pulse_oximeter().new_decoder()
    (samples,) = decoder.feed(pulse_oximeter.CONTINUOUS_UUID, data).samples
    assert medfloat.encode_sfloats(samples.values[0])[0] == 0x0800


def test_features_become_a_property():
    data = FEATURES.encode({"fast": 1, "pulse_amplitude_index": 1, "device_status": 7})
    assert data.hex() == "5200070000"
    decoded = pulse_oximeter.pulse_oximeter().new_decoder().feed(pulse_oximeter.FEATURES_UUID, data)
    assert decoded.properties == {"plx_features": "fast, pulse_amplitude_index"}
