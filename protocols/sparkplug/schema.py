"""The Sparkplug B payload as protobuf messages, from field numbers and types (specification 3.0, chapter 6).

Built at import from the table below, so that neither generated code nor a protobuf compiler is needed.
Extensions of the published schema are left out: unknown fields survive a round trip in protobuf anyway.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "org.eclipse.tahu.protobuf"
_PAYLOAD = f".{_PACKAGE}.Payload"
_METRIC = f"{_PAYLOAD}.Metric"

_Field = descriptor_pb2.FieldDescriptorProto
_TYPES: Final = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}

_SCALAR_VALUES: Final = (
    "uint32 int_value",
    "uint64 long_value",
    "float float_value",
    "double double_value",
    "bool boolean_value",
    "string string_value",
)

# Message -> (field number, "type name"); "*" marks a repeated field, "|" a member of the oneof `value`.
_MESSAGES: Final[dict[str, list[tuple[int, str]]]] = {
    "Payload": [
        (1, "uint64 timestamp"),
        (2, f"*{_METRIC} metrics"),
        (3, "uint64 seq"),
        (4, "string uuid"),
        (5, "bytes body"),
    ],
    "Payload.PropertyValue": [
        (1, "uint32 type"),
        (2, "bool is_null"),
        *((3 + i, f"|{value}") for i, value in enumerate(_SCALAR_VALUES)),
        (9, f"|{_PAYLOAD}.PropertySet propertyset_value"),
        (10, f"|{_PAYLOAD}.PropertySetList propertysets_value"),
    ],
    "Payload.PropertySet": [(1, "*string keys"), (2, f"*{_PAYLOAD}.PropertyValue values")],
    "Payload.PropertySetList": [(1, f"*{_PAYLOAD}.PropertySet propertyset")],
    "Payload.MetaData": [
        (1, "bool is_multi_part"),
        (2, "string content_type"),
        (3, "uint64 size"),
        (4, "uint64 seq"),
        (5, "string file_name"),
        (6, "string file_type"),
        (7, "string md5"),
        (8, "string description"),
    ],
    "Payload.Metric": [
        (1, "string name"),
        (2, "uint64 alias"),
        (3, "uint64 timestamp"),
        (4, "uint32 datatype"),
        (5, "bool is_historical"),
        (6, "bool is_transient"),
        (7, "bool is_null"),
        (8, f"{_PAYLOAD}.MetaData metadata"),
        (9, f"{_PAYLOAD}.PropertySet properties"),
        *((10 + i, f"|{value}") for i, value in enumerate(_SCALAR_VALUES)),
        (16, "|bytes bytes_value"),
    ],
}


def _payload_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="living_lab/sparkplug_b.proto", package=_PACKAGE, syntax="proto2"
    )
    messages = {"Payload": file.message_type.add(name="Payload")}
    for path, fields in _MESSAGES.items():
        if path not in messages:
            messages[path] = messages["Payload"].nested_type.add(name=path.split(".")[1])
        for number, declaration in fields:
            _add_field(messages[path], number, declaration)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


def _add_field(message: descriptor_pb2.DescriptorProto, number: int, declaration: str) -> None:
    type_name, name = declaration.lstrip("*|").split()
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if declaration.startswith("*"):
        field.label = _Field.LABEL_REPEATED
    if declaration.startswith("|"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="value")
        field.oneof_index = 0
    if type_name in _TYPES:
        field.type = _TYPES[type_name]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = type_name


PayloadMessage: Final[Any] = _payload_class()
"""The protobuf class of a whole payload; its sub-messages are reached through its fields."""
