from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.devices import heart_rate
from protocols.devices.heart_rate import MEASUREMENT
from protocols.errors import DecodeError, DefinitionError

VALUES = st.fixed_dictionaries(
    {"heart_rate": st.integers(0, 65535), "sensor_contact": st.integers(0, 3)},
    optional={
        "energy": st.integers(0, 65535),
        "rr": st.lists(st.integers(0, 65535).map(lambda raw: raw / 1024), min_size=1, max_size=9),
    },
)


@given(VALUES)
def test_a_measurement_comes_back_as_it_was_sent(values):
    assert MEASUREMENT.decode(MEASUREMENT.encode(values)) == values


def test_a_heart_rate_above_255_takes_two_bytes():
    assert MEASUREMENT.encode({"heart_rate": 255}).hex() == "00ff"
    assert MEASUREMENT.encode({"heart_rate": 256}).hex() == "010001"


def test_energy_and_intervals_set_their_flags():
    values = {"heart_rate": 60, "sensor_contact": 3, "energy": 5, "rr": [1.0]}
    assert MEASUREMENT.encode(values).hex() == "1e3c05000004"


def test_an_interval_cut_in_half_is_refused():
    with pytest.raises(DecodeError, match=r"heart_rate_measurement of 5 bytes.*rr"):
        MEASUREMENT.decode(bytes.fromhex("103c000400"))


def test_the_energy_flag_without_energy_is_refused_by_name():
    with pytest.raises(DecodeError, match="expected at least 4 for energy"):
        MEASUREMENT.decode(bytes.fromhex("083c01"))


def test_an_interval_too_long_for_the_wire_is_refused():
    with pytest.raises(DefinitionError, match=r"rr=64\.5"):
        MEASUREMENT.encode({"heart_rate": 60, "rr": [1.0, 64.5]})


def test_the_last_beat_is_at_arrival_and_the_others_lie_before_it_by_the_intervals_that_follow():
    decoder = heart_rate.heart_rate_strap().new_decoder()
    data = MEASUREMENT.encode({"heart_rate": 60, "sensor_contact": 3, "rr": [1.0, 0.5, 0.75]})
    rate, rr = decoder.feed(heart_rate.MEASUREMENT_UUID, data).samples
    assert rate.values.tolist() == [[60], [3]]
    assert rr.values.tolist() == [[1024, 512, 768]]
    assert rr.offsets_ns is not None
    assert rr.offsets_ns.tolist() == [-1_250_000_000, -750_000_000, 0]
    assert heart_rate.RR.physical(rr.values).tolist() == [[1.0, 0.5, 0.75]]


def test_every_raw_interval_reaches_the_stream_unchanged():
    decoder = heart_rate.heart_rate_strap().new_decoder()
    for raw in range(0, 65536, 7):
        data = b"\x10\x3c" + raw.to_bytes(2, "little")
        rr = decoder.feed(heart_rate.MEASUREMENT_UUID, data).samples[1]
        assert rr.values.dtype == np.uint16
        assert rr.values[0, 0] == raw


def test_a_measurement_without_intervals_gives_no_beats():
    decoded = heart_rate.heart_rate_strap().new_decoder().feed(heart_rate.MEASUREMENT_UUID, b"\x00\x3c")
    assert [samples.stream for samples in decoded.samples] == ["heart_rate"]


def test_the_sensor_location_becomes_a_property():
    decoder = heart_rate.heart_rate_strap().new_decoder()
    decoded = decoder.feed(heart_rate.BODY_SENSOR_LOCATION_UUID, b"\x01")
    assert decoded.properties == {"body_sensor_location": "chest"}
    assert decoder.feed(heart_rate.BODY_SENSOR_LOCATION_UUID, b"\x07").errors


def test_a_value_of_a_foreign_characteristic_is_an_error_that_names_it():
    (error,) = heart_rate.heart_rate_strap().new_decoder().feed("0000ffff-0000", b"\x01").errors
    assert "0000ffff-0000" in str(error)
