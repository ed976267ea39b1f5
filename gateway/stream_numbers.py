"""The numbers that stand for a gateway's streams, in the spool and in the aliases of what it publishes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocols.samples import Stream

_MOST_SEEN: Final = 1000


class StreamNumbers:
    """Numbers streams by device and description, from 1 on; none is ever given to another stream.

    Parameters
    ----------
    streams
        Device and stream by number, as far as known.

    Attributes
    ----------
    streams
        All of them by now.
    """

    def __init__(self, streams: Mapping[int, tuple[str, Stream]]) -> None:
        self.streams = dict(streams)
        self._numbers = {key: number for number, key in self.streams.items()}
        self._seen: dict[tuple[str, int], tuple[Stream, int]] = {}

    def of(self, device: str) -> dict[int, Stream]:
        """Return the streams of a device by number."""
        return {number: stream for number, (owner, stream) in self.streams.items() if owner == device}

    def find(self, device: str, stream: Stream) -> int | None:
        """Return the number of a stream; None if it has none."""
        seen = self._seen.get((device, id(stream)))  # hashing a description takes as long as all the rest
        if seen is not None:
            return seen[1]
        number = self._numbers.get((device, stream))
        if number is not None:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen[device, id(stream)] = (
                stream,
                number,
            )  # the reference keeps the id from being given again
        return number

    def add(self, device: str, stream: Stream) -> int:
        """Return a new number for a stream that has none."""
        number = max(self.streams, default=0) + 1
        self._numbers[device, stream] = number
        self.streams[number] = (device, stream)
        return number
