"""Clinical protocols from TOML: those that ship, and a lab's own.

A document has the fields of `ClinicalProtocol` at its top, a table for each of `pairing` and `statistics`, and
one table for each of `[[design]]`, `[[criteria]]` and `[[parameters]]`. Wherever a rule stands, so do its
`source`, `confidence` and, where it is known, `clause`. What a document does not say has the records' own
defaults; a key that no record knows is an error, so that a misspelt one is not silently without effect.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.criteria import Criterion, Pairing, Parameter, Provenance, Requirement, Statistics
from protocols.errors import DefinitionError

_TYPES: Final = {
    "float": (float, int),
    "float | None": (float, int),
    "int": (int,),
    "str": (str,),
    "str | None": (str,),
    "bool": (bool,),
    "tuple[float, ...]": (list,),
    "tuple[str, ...]": (list,),
}
_SAID: Final = {
    "float": "a number",
    "float | None": "a number",
    "int": "a whole number",
    "str": "text",
    "str | None": "text",
    "bool": "true or false",
    "tuple[float, ...]": "a list of numbers",
    "tuple[str, ...]": "a list of texts",
}
_TABLES: Final[Mapping[str, Any]] = {"design": Requirement, "criteria": Criterion, "parameters": Parameter}
_ITEMS: Final = {"tuple[float, ...]": "float", "tuple[str, ...]": "str"}
_PROVENANCE: Final = tuple(field.name for field in dataclasses.fields(Provenance))

_Rule = TypeVar("_Rule", ClinicalProtocol, Criterion, Pairing, Parameter, Provenance, Requirement, Statistics)


@functools.cache
def shipped() -> Mapping[str, ClinicalProtocol]:
    """Return the clinical protocols that come with the platform, by id, in alphabetical order."""
    folder = resources.files("protocols.clinical") / "shipped"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    protocols = [parse(file.read_text(encoding="utf-8"), name=file.name) for file in files]
    return MappingProxyType({protocol.id: protocol for protocol in protocols})


def load(path: Path) -> ClinicalProtocol:
    """Return the clinical protocol in the file at `path`.

    Raises
    ------
    DefinitionError
        If the file cannot be read or does not describe a clinical protocol; names file, table, key and
        expectation.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"clinical protocol {path}: {error}") from error
    return parse(text, name=str(path))


def parse(text: str, *, name: str) -> ClinicalProtocol:
    """Return the clinical protocol that a TOML document describes.

    Parameters
    ----------
    text
        The document.
    name
        How errors call it.

    Raises
    ------
    DefinitionError
        Names document, table, key, value and expectation.
    """
    protocol, mistakes = _read(text, name)
    if protocol is None:
        raise DefinitionError(mistakes[0])
    return protocol


def mistakes_in(text: str, *, name: str) -> list[str]:
    """Return every mistake in a TOML document that is to describe a clinical protocol, in the order of reading.

    Each names document, line and table, key, value and expectation; none if `parse` takes the document.
    """
    return _read(text, name)[1]


def _read(text: str, name: str) -> tuple[ClinicalProtocol | None, list[str]]:
    """Return the protocol, or None and every mistake: what can be read is read on."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return None, [f"{name}: no TOML: {error}"]
    mistakes: list[str] = []
    parts: dict[str, Any] = {}
    for key, kind in _TABLES.items():
        rules: list[Any] = []
        tables = document.pop(key, [])
        if not isinstance(tables, list):
            mistakes.append(f"{name}: [[{key}]] is {tables!r}, expected tables")
            continue
        for number, table in enumerate(tables, start=1):
            line = _line_of(text, f"[[{key}]]", number)
            with _noting(mistakes):
                rules.append(_rule(kind, table, where=f"{name}{line}: [[{key}]] number {number}"))
        parts[key] = tuple(rules)
    parts["pairing"] = None
    if "pairing" in document:
        with _noting(mistakes):
            where = f"{name}{_line_of(text, '[pairing]')}: [pairing]"
            parts["pairing"] = _rule(Pairing, document.pop("pairing"), where=where)
    with _noting(mistakes):
        where = f"{name}{_line_of(text, '[statistics]')}: [statistics]"
        parts["statistics"] = _record(Statistics, document.pop("statistics", {}), where=where)
    if mistakes:
        return None, mistakes
    try:
        return _record(ClinicalProtocol, document, where=name, parts=parts), []
    except DefinitionError as error:
        return None, [str(error)]


@contextlib.contextmanager
def _noting(mistakes: list[str]) -> Iterator[None]:
    try:
        yield
    except DefinitionError as error:
        mistakes.append(str(error))


def _line_of(text: str, header: str, number: int = 1) -> str:
    """Return `, line N` of the header of a table; nothing where it is written in another way."""
    lines = [n for n, line in enumerate(text.splitlines(), start=1) if line.strip().startswith(header)]
    return f", line {lines[number - 1]}" if len(lines) >= number else ""


def _rule(kind: type[_Rule], table: object, *, where: str) -> _Rule:
    """Return a record that has a provenance, whose keys stand in the same table."""
    if not isinstance(table, dict):
        raise DefinitionError(f"{where} is {table!r}, expected a table")
    origin = {key: table[key] for key in _PROVENANCE if key in table}
    rest = {key: value for key, value in table.items() if key not in origin}
    provenance = _record(Provenance, origin, where=where)
    return _record(kind, rest, where=where, parts={"provenance": provenance})


def _record(
    kind: type[_Rule], table: object, *, where: str, parts: Mapping[str, Any] = MappingProxyType({})
) -> _Rule:
    """Return a record of the values in a table, with `parts` that were read before."""
    if not isinstance(table, dict):
        raise DefinitionError(f"{where} is {table!r}, expected a table")
    fields: dict[str, dataclasses.Field[Any]] = {
        field.name: field for field in dataclasses.fields(kind) if field.name not in parts
    }
    for key in table:
        if key not in fields:
            known = ", ".join([*fields, *(_PROVENANCE if "provenance" in parts else ())])
            raise DefinitionError(f"{where}: unknown key {key!r}, expected one of {known}")
    values: dict[str, Any] = {}
    for key, field in fields.items():
        if key in table:
            values[key] = _value(str(field.type), table[key], where=f"{where}: {key}")
        elif _is_required(field):
            raise DefinitionError(f"{where}: {key} is missing, expected {_SAID[str(field.type)]}")
    try:
        return kind(**values, **parts)
    except DefinitionError as error:
        raise DefinitionError(f"{where}: {error}") from error


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(type_name: str, value: object, *, where: str) -> object:
    if not isinstance(value, _TYPES[type_name]) or isinstance(value, bool) != (type_name == "bool"):
        raise DefinitionError(f"{where} = {value!r}, expected {_SAID[type_name]}")
    if isinstance(value, list):
        return tuple(_value(_ITEMS[type_name], item, where=where) for item in value)
    return float(value) if type_name.startswith("float") and isinstance(value, int) else value
