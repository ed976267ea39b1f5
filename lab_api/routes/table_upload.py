"""Tables that come with a request, as files for as long as it is answered: so readers of evidence take them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict, Field

from protocols.errors import DefinitionError

MAX_TABLES = 20


class TableModel(BaseModel):
    """A CSV document; its name stands for it in errors and as the source's id."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,60}\.csv$", examples=["pairs.csv"])
    csv: str = Field(examples=["subject,reference,test\nS-001,97,96\n"])


@contextmanager
def table_files(tables: Sequence[TableModel]) -> Iterator[list[Path]]:
    """Return the tables as files of a folder that goes again.

    Raises
    ------
    DefinitionError
        If two have one name.
    """
    names = [table.name for table in tables]
    if len(set(names)) != len(names):
        raise DefinitionError(f"tables {', '.join(names)}, expected each name once")
    with TemporaryDirectory(prefix="lab-tables-") as folder:
        paths = [Path(folder) / name for name in names]
        for path, table in zip(paths, tables, strict=True):
            path.write_text(table.csv, encoding="utf-8")
        yield paths
