"""What a gateway has committed to its spool, seen from outside: the truth that the session must agree with."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from protocols.records import Record
from protocols.samples import Stream
from protocols.sparkplug.blocks import RecordReader, birth_metrics
from protocols.sparkplug.payload import parse


@dataclass
class SpoolWitness:
    """Sees every record that the gateway has committed, by reading its spool beside it."""

    path: Path
    records: dict[int, Record] = field(default_factory=dict)
    incarnation: int = 0
    _readers: dict[int, RecordReader] = field(default_factory=dict)

    def look(self) -> None:
        """Take note of new records."""
        with self._database() as database:
            newest = max(self.records, default=0)
            query = "SELECT seq, device, stream, body FROM block WHERE seq > ? ORDER BY seq"
            for seq, device, number, body in database.execute(query, (newest,)).fetchall():
                self._note(database, seq, device, number, body)
            (self.incarnation,) = database.execute(
                "SELECT value FROM fact WHERE name = 'incarnation'"
            ).fetchone()

    def oldest(self) -> int:
        """Return the first record that the gateway still keeps."""
        with self._database() as database:
            query = "SELECT coalesce(min(seq), 1 << 62) FROM block"
            return int(database.execute(query).fetchone()[0])

    def _database(self) -> contextlib.closing[sqlite3.Connection]:
        return contextlib.closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True))

    def _note(self, database: sqlite3.Connection, seq: int, device: str, number: int, body: bytes) -> None:
        if number not in self._readers:
            query = "SELECT description FROM stream WHERE number = ?"
            stream = Stream.from_json(database.execute(query, (number,)).fetchone()[0])
            births = birth_metrics(stream, stream_number=number, timestamp_ms=0)
            self._readers[number] = RecordReader(device, births)
        (received,) = self._readers[number].read(parse(body))
        assert received.spool_seq == seq
        self.records[seq] = received.record
