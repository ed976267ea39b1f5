"""Evidence from tables: pairs that were not recorded here, and facts about subjects, as CSV.

A table has a line of names and one line for each pair. `subject`, `reference` and `test` must be there; `unit`
where the values come in another than the quantity's own; `quantity` where there are several (`sbp` and `dbp`);
`time` (ISO 8601 with offset, or ns since 1970) where known. An empty `test` says that the device showed
nothing. Any further column is kept with the pair: as a number where all its values are, else as words.

A mistake is named with file, line, column, value and expectation, and nothing is taken from such a table.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from analysis.paired_study import PairedStudy
from lab_api.evidence.paired import items_of
from lab_api.evidence.quantities import QUANTITIES, Quantity
from lab_api.evidence.records import Part, Source, counted
from protocols.clinical.clinical_protocol import ClinicalProtocol
from protocols.clinical.subjects import SubjectFacts, check_subjects
from protocols.errors import DefinitionError, StoreError

MAX_LINES: Final = 1_000_000
_NEEDED: Final = ("subject", "reference", "test")
_NO_SEPARATORS: Final = {";": "semicolons", "\t": "tabs"}
_OWN: Final = (*_NEEDED, "quantity", "unit", "time", "session")

Row = Mapping[str, str]


def read_table(path: Path, needed: Sequence[str]) -> tuple[list[Row], str]:
    """Return the lines of a CSV file by name of the column, and the SHA-256 of the file.

    Raises
    ------
    StoreError
        If the file cannot be read.
    DefinitionError
        If it is no table with the needed columns.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"table {path}: {error.strerror}") from error
    return parse_table(content, needed, name=path.name), hashlib.sha256(content).hexdigest()


def parse_table(content: bytes, needed: Sequence[str], *, name: str) -> list[Row]:
    """Return the lines of a CSV document by name of the column.

    Raises
    ------
    DefinitionError
        If it is no table with the needed columns; names `name`, line and expectation.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DefinitionError(
            f"{name}: byte {error.start} is no UTF-8, expected a CSV file in UTF-8"
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    try:
        names = [column.strip() for column in next(reader, [])]
        lacking = [column for column in needed if column not in names]
        if lacking or len(set(names)) != len(names):
            wanted = f"{', '.join(needed)} among them, each once"
            given = ", ".join(filter(None, names)) or "none"
            separator = next((s for s in _NO_SEPARATORS if len(names) == 1 and s in given), None)
            if separator:
                wanted = f"commas between them, not {_NO_SEPARATORS[separator]}, and points in decimals"
            raise DefinitionError(f"{name}, line 1: columns {given}, expected {wanted}")
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(names):
                raise DefinitionError(
                    f"{name}, line {reader.line_num}: {counted(len(values), 'value')}, expected {len(names)}"
                )
            if len(rows) == MAX_LINES:
                raise DefinitionError(f"{name}: more than {MAX_LINES:,} lines, expected a smaller table")
            rows.append({column: value.strip() for column, value in zip(names, values, strict=True)})
    except csv.Error as error:
        raise DefinitionError(f"{name}, line {reader.line_num}: {error}") from error
    return rows


def read_subjects(path: Path) -> SubjectFacts:
    """Return the facts about subjects in a CSV file with a column `subject` and one for each fact.

    Raises
    ------
    StoreError
        If the file cannot be read.
    DefinitionError
        If a subject is there twice, a fact is unknown, or a value is not one it can have.
    """
    rows, _ = read_table(path, ("subject",))
    subjects: dict[str, dict[str, object]] = {}
    for number, row in enumerate(rows, start=2):
        subject = row["subject"]
        if not subject or subject in subjects:
            raise DefinitionError(f"{path.name}, line {number}: subject {subject!r}, expected each once")
        subjects[subject] = {name: value for name, value in row.items() if name != "subject"}
    try:
        return check_subjects(subjects)
    except DefinitionError as error:
        raise DefinitionError(f"{path.name}: {error}") from error


def from_table(path: Path, protocol: ClinicalProtocol) -> Part:
    """Return the pairs in a CSV file.

    Raises
    ------
    StoreError
        If the file cannot be read.
    DefinitionError
        If the protocol does not judge pairs of readings, or the table has a mistake.
    """
    if protocol.measurand not in QUANTITIES:
        raise DefinitionError(
            f"{protocol.id} judges {protocol.measurand}, expected one of {', '.join(QUANTITIES)}"
        )
    rows, sha256 = read_table(path, _NEEDED)
    return of_rows(rows, protocol, path=path, sha256=sha256)


def of_rows(rows: Sequence[Row], protocol: ClinicalProtocol, *, path: Path, sha256: str) -> Part:
    """Return the pairs in the lines of a table that have `subject`, `reference` and `test`; as `from_table`."""
    quantities = {quantity.name: quantity for quantity in QUANTITIES[protocol.measurand]}
    studies: dict[str, list[_Pair]] = {name: [] for name in quantities}
    for number, row in enumerate(rows, start=2):
        pair = _pair(row, quantities, where=f"{path.name}, line {number}")
        studies[pair.quantity].append(pair)
    extra = [column for column in (rows[0] if rows else {}) if column not in _OWN]
    study = PairedStudy.gather(_study(pairs, path.stem, extra) for pairs in studies.values() if pairs)
    figures = {"pairs": float(study.n_pairs), "subjects": float(study.n_subjects)}
    source = Source(path.name, "", sha256, figures, ("pairs as a table gives them; not recorded here",))
    return Part(source, study, items_of(study))


@dataclass(frozen=True, slots=True)
class _Pair:
    """One line of a table, checked and in the quantity's own unit; `row` holds all that it says."""

    quantity: str
    reference: float
    test: float
    time_ns: int | None
    row: Row


def _pair(row: Row, quantities: Mapping[str, Quantity], *, where: str) -> _Pair:
    if not row["subject"]:
        raise DefinitionError(f"{where}: subject is empty, expected a pseudonym")
    name = row.get("quantity") or (next(iter(quantities)) if len(quantities) == 1 else "")
    if name not in quantities:
        raise DefinitionError(f"{where}: quantity {name!r}, expected one of {', '.join(quantities)}")
    try:
        unit = quantities[name].convert(row.get("unit") or quantities[name].unit)
    except DefinitionError as error:
        raise DefinitionError(f"{where}: {error}") from error
    values = {
        column: _number(row[column], name=column, where=where) * unit.factor + unit.offset
        for column in ("reference", "test")
    }
    return _Pair(name, values["reference"], values["test"], time_ns(row.get("time", ""), where=where), row)


def _study(pairs: Sequence[_Pair], document: str, extra: Sequence[str]) -> PairedStudy:
    """Return pairs of one quantity; those without a time are told apart by their place in the table."""
    times_ns = [number if pair.time_ns is None else pair.time_ns for number, pair in enumerate(pairs)]
    study = PairedStudy(
        np.array([pair.quantity for pair in pairs]),
        np.array([pair.row["subject"] for pair in pairs]),
        np.array([pair.row.get("session") or document for pair in pairs]),
        np.array(times_ns, dtype=np.int64),
        np.array([pair.reference for pair in pairs], dtype=np.float64),
        np.array([pair.test for pair in pairs], dtype=np.float64),
    )
    columns, labels = {}, {}
    for name in extra:
        words = [pair.row[name] for pair in pairs]
        numbers = [_number_or_none(word) for word in words]
        if all(number is not None for number in numbers):
            columns[name] = np.array(numbers, dtype=np.float64)
        else:
            labels[name] = np.array(words, dtype=np.str_)
    return replace(study, columns=columns, labels=labels)


def _number(text: str, *, name: str, where: str) -> float:
    number = _number_or_none(text)
    if number is None or math.isinf(number):
        raise DefinitionError(
            f"{where}: {name} = {text!r}, expected a number such as 97.5, or nothing where none was shown"
        )
    return number


def _number_or_none(text: str) -> float | None:
    """Return a number, NaN for an empty text, None for any other."""
    if not text:
        return math.nan
    try:
        return float(text) if "_" not in text else None  # Python's 1_0 is nobody's 10
    except ValueError:
        return None


def time_ns(text: str, *, where: str) -> int | None:
    """Return UTC in ns of ISO 8601 with its offset or of ns since 1970; None of an empty text.

    Raises
    ------
    DefinitionError
        If it is neither; names `where`, value and expectation.
    """
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 19:
        return int(text)
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise DefinitionError(
            f"{where}: time = {text!r}, expected ISO 8601 with its offset such as 2026-03-01T09:30:00+01:00, "
            "or ns since 1970"
        )
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
