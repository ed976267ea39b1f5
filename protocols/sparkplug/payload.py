"""Sparkplug B payloads as values: metrics with name, alias, type and value, to bytes and back.

Signed integers travel in unsigned protobuf fields as two's complement. The field leaves open whether an Int8 or
Int16 is extended to 32 bits; we extend when encoding (as Eclipse Tahu does) and accept both when decoding.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError as ProtobufDecodeError
from numpy.typing import NDArray

from protocols.errors import DecodeError, DefinitionError
from protocols.sparkplug.schema import PayloadMessage


class DataType(enum.IntEnum):
    """Sparkplug data types (specification 3.0, section 6.4.16) that this platform speaks."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14
    UUID = 15
    BYTES = 17
    INT8_ARRAY = 22
    INT16_ARRAY = 23
    INT32_ARRAY = 24
    INT64_ARRAY = 25
    UINT8_ARRAY = 26
    UINT16_ARRAY = 27
    UINT32_ARRAY = 28
    UINT64_ARRAY = 29
    FLOAT_ARRAY = 30
    DOUBLE_ARRAY = 31


ARRAY_DTYPES: Final[Mapping[DataType, str]] = {
    DataType.INT8_ARRAY: "int8",
    DataType.INT16_ARRAY: "int16",
    DataType.INT32_ARRAY: "int32",
    DataType.INT64_ARRAY: "int64",
    DataType.UINT8_ARRAY: "uint8",
    DataType.UINT16_ARRAY: "uint16",
    DataType.UINT32_ARRAY: "uint32",
    DataType.UINT64_ARRAY: "uint64",
    DataType.FLOAT_ARRAY: "float32",
    DataType.DOUBLE_ARRAY: "float64",
}
"""Array data types and the numpy type of their items; on the wire they are packed little-endian."""

_TEXT_TYPES: Final = (DataType.STRING, DataType.TEXT, DataType.UUID)
_FIELD_OF: Final[Mapping[DataType, str]] = {
    **dict.fromkeys((DataType.INT8, DataType.INT16, DataType.INT32), "int_value"),
    **dict.fromkeys((DataType.UINT8, DataType.UINT16, DataType.UINT32), "int_value"),
    **dict.fromkeys((DataType.INT64, DataType.UINT64, DataType.DATETIME), "long_value"),
    DataType.FLOAT: "float_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    **dict.fromkeys(_TEXT_TYPES, "string_value"),
    DataType.BYTES: "bytes_value",
    **dict.fromkeys(ARRAY_DTYPES, "bytes_value"),
}
_SIGNED_BITS: Final = {DataType.INT8: 8, DataType.INT16: 16, DataType.INT32: 32, DataType.INT64: 64}
_UNSIGNED_BITS: Final = {DataType.UINT8: 8, DataType.UINT16: 16, DataType.UINT32: 32, DataType.UINT64: 64}

Properties = Mapping[str, str | int | float | bool]
"""Of a metric, in its birth."""

Value = int | float | bool | str | bytes | NDArray[Any]

Datatypes = Mapping[int | str | None, DataType]
"""What births have declared, by a metric's alias and by its name."""


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric of a payload.

    Parameters
    ----------
    name, alias
        At least one of the two; data messages carry the alias alone.
    datatype
        None in data messages, where the birth has told it.
    value
        None means null. Arrays are one-dimensional, of the data type's numpy type.
    timestamp_ms
        UTC, ms since 1970.
    properties
        Birth only: name to a string, number, boolean or integer.
    """

    name: str | None = None
    alias: int | None = None
    datatype: DataType | None = None
    value: Value | None = None
    timestamp_ms: int | None = None
    is_historical: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """A decoded payload; `seq` is None in deaths and commands."""

    timestamp_ms: int | None
    seq: int | None
    metrics: tuple[Metric, ...]


def encode_payload(
    metrics: Sequence[Metric],
    *,
    timestamp_ms: int,
    seq: int | None = None,
    uuid: str | None = None,
    with_datatypes: bool = True,
) -> bytes:
    """Return the payload's bytes; data and commands leave out the data types, which the birth has told.

    Raises
    ------
    DefinitionError
        If a metric has no data type, or a value that its type cannot hold.
    """
    payload = PayloadMessage(timestamp=timestamp_ms, seq=seq, uuid=uuid)
    for metric in metrics:
        _put_metric(payload.metrics.add(), metric, with_datatype=with_datatypes)
    return bytes(payload.SerializeToString())


def encode_header(*, timestamp_ms: int, seq: int, uuid: str | None = None) -> bytes:
    """Return a payload with no metrics; followed by the bytes of one with metrics it is their union."""
    return bytes(PayloadMessage(timestamp=timestamp_ms, seq=seq, uuid=uuid).SerializeToString())


def parse(data: bytes) -> Any:
    """Return the protobuf message.

    Raises
    ------
    DecodeError
        If the bytes are not a Sparkplug B payload.
    """
    try:
        return PayloadMessage.FromString(data)
    except (ProtobufDecodeError, RuntimeError) as error:
        raise DecodeError(f"{len(data)} bytes are not a Sparkplug B payload: {error}") from None


def decode_payload(data: bytes, *, datatypes: Datatypes | None = None) -> Payload:
    """Return the payload; `datatypes` tells what is declared, since data and commands leave it out.

    Raises
    ------
    DecodeError
        If the bytes are not a payload, or a value or type contradicts what is declared.
    """
    return read_payload(parse(data), datatypes or {})


def read_payload(message: Any, datatypes: Datatypes) -> Payload:
    """Return the payload of a protobuf message; raises like `decode_payload`."""
    return Payload(
        timestamp_ms=message.timestamp if message.HasField("timestamp") else None,
        seq=message.seq if message.HasField("seq") else None,
        metrics=tuple(_get_metric(metric, datatypes) for metric in message.metrics),
    )


def _put_metric(message: Any, metric: Metric, *, with_datatype: bool) -> None:
    if metric.name is not None:
        message.name = metric.name
    if metric.alias is not None:
        message.alias = metric.alias
    if metric.timestamp_ms is not None:
        message.timestamp = metric.timestamp_ms
    if metric.datatype is None:
        raise DefinitionError(f"metric {metric.name or metric.alias} has no data type, expected one")
    if with_datatype:
        message.datatype = metric.datatype
    if metric.is_historical:
        message.is_historical = True
    for key, value in metric.properties.items():
        message.properties.keys.append(key)
        _put_property(message.properties.values.add(), value)
    if metric.value is None:
        message.is_null = True
    else:
        raw = _to_wire(metric.datatype, metric.value, metric.name)
        setattr(message, _FIELD_OF[metric.datatype], raw)


def _to_wire(datatype: DataType, value: Value, name: str | None) -> Any:
    if datatype in ARRAY_DTYPES:
        dtype = np.dtype(ARRAY_DTYPES[datatype])
        if not isinstance(value, np.ndarray) or value.dtype != dtype or value.ndim != 1:
            raise DefinitionError(f"value of metric {name}, expected a one-dimensional {dtype} array")
        return value.astype(dtype.newbyteorder("<"), copy=False).tobytes()
    bits = _SIGNED_BITS.get(datatype)
    if bits is not None and isinstance(value, int):
        _check_fits(name, value, -(1 << (bits - 1)), 1 << (bits - 1))
        return value & ((1 << max(bits, 32)) - 1)
    bits = _UNSIGNED_BITS.get(datatype)
    if bits is not None and isinstance(value, int):
        _check_fits(name, value, 0, 1 << bits)
    return value


def _check_fits(name: str | None, value: int, low: int, end: int) -> None:
    if not low <= value < end:
        raise DefinitionError(f"value {value} of metric {name}, expected {low} to {end - 1}")


def _put_property(message: Any, value: str | int | float | bool) -> None:
    if isinstance(value, bool):
        message.type, message.boolean_value = DataType.BOOLEAN, value
    elif isinstance(value, int):
        message.type, message.long_value = DataType.INT64, value & (1 << 64) - 1
    elif isinstance(value, float):
        message.type, message.double_value = DataType.DOUBLE, value
    else:
        message.type, message.string_value = DataType.STRING, value


def _get_metric(message: Any, datatypes: Datatypes) -> Metric:
    alias = message.alias if message.HasField("alias") else None
    name = _text("name", message.name) if message.HasField("name") else None
    datatype = _get_datatype(message, datatypes.get(name if alias is None else alias))
    return Metric(
        name=name,
        alias=alias,
        datatype=datatype,
        value=_get_value(message, datatype),
        timestamp_ms=message.timestamp if message.HasField("timestamp") else None,
        is_historical=message.is_historical,
        properties=_get_properties(message.properties) if message.HasField("properties") else {},
    )


def _get_datatype(message: Any, declared: DataType | None) -> DataType | None:
    if not message.HasField("datatype"):
        return declared
    if declared is not None and message.datatype != declared:
        what = message.name or message.alias
        raise DecodeError(
            f"metric {what} of data type {message.datatype}, expected {declared.value}: {declared.name}"
        )
    try:
        return DataType(message.datatype)
    except ValueError:
        return None


def _get_value(message: Any, datatype: DataType | None) -> Value | None:
    present = message.WhichOneof("value")
    if message.is_null or present is None or datatype is None:
        return None
    if present != _FIELD_OF[datatype]:
        what = message.name or f"alias {message.alias}"
        raise DecodeError(f"metric {what} carries {present}, expected {_FIELD_OF[datatype]}: {datatype.name}")
    return _from_wire(datatype, getattr(message, present))


def _from_wire(datatype: DataType, raw: Any) -> Value:
    if datatype in ARRAY_DTYPES:
        return decode_array(raw, ARRAY_DTYPES[datatype])
    bits = _SIGNED_BITS.get(datatype)
    if bits is not None:
        value = int(raw) & (1 << bits) - 1
        return value - (1 << bits) if value >> (bits - 1) else value
    bits = _UNSIGNED_BITS.get(datatype)
    if bits is not None:
        return int(raw) & (1 << bits) - 1
    result: Value = _text("string", raw) if datatype in _TEXT_TYPES else raw
    return result


def decode_array(data: bytes, dtype: str) -> NDArray[Any]:
    """Return packed little-endian items of a numpy type as a read-only array.

    Raises
    ------
    DecodeError
        If the bytes are not a whole number of items.
    """
    item = np.dtype(dtype).newbyteorder("<")
    if len(data) % item.itemsize:
        raise DecodeError(f"array of {len(data)} bytes, expected a multiple of {item.itemsize} for {dtype}")
    return np.frombuffer(data, item).astype(dtype, copy=False)


def _get_properties(message: Any) -> dict[str, str | int | float | bool]:
    properties: dict[str, str | int | float | bool] = {}
    for key, value in zip(message.keys, message.values, strict=False):
        _text("property key", key)
        present = value.WhichOneof("value")
        if present == "long_value":
            signed = value.long_value - (1 << 64) if value.long_value >> 63 else value.long_value
            properties[key] = signed if value.type == DataType.INT64 else value.long_value
        elif present == "string_value":
            properties[key] = _text(f"property {key}", value.string_value)
        elif present in ("int_value", "float_value", "double_value", "boolean_value"):
            properties[key] = getattr(value, present)
    return properties


def _text(what: str, value: object) -> str:
    """Return a protobuf string, which comes as bytes where it is not UTF-8."""
    if not isinstance(value, str):
        raise DecodeError(f"{what} {value!r}, expected UTF-8")
    return value
