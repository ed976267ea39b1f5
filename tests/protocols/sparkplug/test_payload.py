"""Sparkplug payloads as values."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import DecodeError, DefinitionError
from protocols.sparkplug.payload import (
    ARRAY_DTYPES,
    DataType,
    Metric,
    decode_payload,
    encode_header,
    encode_payload,
)

INTEGERS = {
    DataType.INT8: (-(2**7), 2**7),
    DataType.INT16: (-(2**15), 2**15),
    DataType.INT32: (-(2**31), 2**31),
    DataType.INT64: (-(2**63), 2**63),
    DataType.UINT8: (0, 2**8),
    DataType.UINT16: (0, 2**16),
    DataType.UINT32: (0, 2**32),
    DataType.UINT64: (0, 2**64),
    DataType.DATETIME: (0, 2**64),
}


def round_trip(metric: Metric) -> Metric:
    payload = decode_payload(encode_payload([metric], timestamp_ms=1, seq=2))
    assert (payload.timestamp_ms, payload.seq) == (1, 2)
    return payload.metrics[0]


@given(st.sampled_from(list(INTEGERS)), st.data())
def test_integers_of_every_type_survive(datatype: DataType, data: st.DataObject) -> None:
    low, end = INTEGERS[datatype]
    value = data.draw(st.integers(low, end - 1))
    assert round_trip(Metric("m", datatype=datatype, value=value)).value == value


@pytest.mark.parametrize("extended", [0xFFA9, 0xFFFFFFA9])
def test_both_encodings_of_a_negative_int16_in_the_field_are_understood(extended: int) -> None:
    from protocols.sparkplug.schema import PayloadMessage

    message = PayloadMessage()
    message.metrics.add(name="m", datatype=2, int_value=extended)
    assert decode_payload(message.SerializeToString()).metrics[0].value == -87


@pytest.mark.parametrize(("datatype", "dtype"), ARRAY_DTYPES.items())
def test_arrays_are_packed_little_endian_and_come_back_bit_for_bit(datatype: DataType, dtype: str) -> None:
    values = np.random.default_rng(1).integers(0, 256, 64, np.uint8).view(dtype)
    back = round_trip(Metric("m", datatype=datatype, value=values)).value
    assert isinstance(back, np.ndarray)
    assert back.dtype == np.dtype(dtype)
    assert back.tobytes() == values.tobytes()


def test_the_specification_s_array_example_has_the_specification_s_bytes() -> None:
    """Int32Array [123456789, 987654321], Sparkplug 3.0 section 6.4.16."""
    values = np.array([123456789, 987654321], np.int32)
    data = encode_payload([Metric("m", datatype=DataType.INT32_ARRAY, value=values)], timestamp_ms=0)
    assert bytes.fromhex("15CD5B07B168DE3A") in data


def test_null_properties_and_history_survive() -> None:
    properties = {"engUnit": "uV", "scale": 0.5, "mdc": 131329, "on": True, "below": -3}
    metric = round_trip(Metric("m", 5, DataType.FLOAT, None, 99, is_historical=True, properties=properties))
    assert metric.value is None
    assert metric.properties == properties
    assert (metric.alias, metric.timestamp_ms, metric.is_historical) == (5, 99, True)


def test_a_header_and_a_body_are_one_payload() -> None:
    body = encode_payload([Metric("m", datatype=DataType.STRING, value="x")], timestamp_ms=1)
    payload = decode_payload(encode_header(timestamp_ms=7, seq=255) + body)
    assert (payload.seq, payload.metrics[0].value) == (255, "x")


@pytest.mark.parametrize(
    ("datatype", "value"),
    [(DataType.INT8, 128), (DataType.UINT16, -1), (DataType.INT16_ARRAY, np.zeros(2, np.int32)), (None, 1)],
)
def test_a_value_that_its_type_cannot_hold_is_refused(datatype: DataType | None, value: object) -> None:
    with pytest.raises(DefinitionError, match="metric m"):
        encode_payload([Metric("m", datatype=datatype, value=value)], timestamp_ms=0)  # type: ignore[arg-type]


def test_a_value_that_contradicts_its_type_is_a_decode_error() -> None:
    from protocols.sparkplug.schema import PayloadMessage

    message = PayloadMessage()
    message.metrics.add(name="m", datatype=DataType.STRING, int_value=1)
    with pytest.raises(DecodeError, match="metric m carries int_value"):
        decode_payload(message.SerializeToString())


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_decode_errors(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode_payload(data)
