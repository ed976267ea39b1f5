"""What the cells of a table say: numbers and words, each checked and named where it is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping

from protocols.errors import DefinitionError


def number(row: Mapping[str, str], column: str, *, where: str) -> float:
    """Return the number in a column; NaN where the cell is empty or the column is not there.

    Raises
    ------
    DefinitionError
        Names `where`, column, value and expectation.
    """
    text = row.get(column, "")
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise DefinitionError(
            f"{where}: {column} = {text!r}, expected a number, or nothing where none is known"
        )
    return value


def whole(row: Mapping[str, str], column: str, *, where: str, most: int) -> int:
    """Return the whole number of 0 to `most` in a column.

    Raises
    ------
    DefinitionError
        Names `where`, column, value and expectation.
    """
    text = row.get(column, "")
    if not (text.isascii() and text.isdigit() and int(text) <= most):
        raise DefinitionError(f"{where}: {column} = {text!r}, expected a whole number of 0 to {most}")
    return int(text)


def word(row: Mapping[str, str], column: str, words: Mapping[str, object], *, where: str) -> str:
    """Return the word in a column in lower case, one of `words`.

    Raises
    ------
    DefinitionError
        Names `where`, column, value and expectation.
    """
    text = row.get(column, "").lower()
    if text not in words:
        expected = ", ".join(known or "nothing" for known in words)
        raise DefinitionError(f"{where}: {column} = {row.get(column, '')!r}, expected one of {expected}")
    return text


def name(row: Mapping[str, str], column: str, *, where: str) -> str:
    """Return the name in a column.

    Raises
    ------
    DefinitionError
        If the cell is empty.
    """
    if not row.get(column, ""):
        raise DefinitionError(f"{where}: {column} is empty, expected a name")
    return row[column]
