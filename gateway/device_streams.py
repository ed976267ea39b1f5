"""All streams of one device: what was stored, what is missing, and whether they speak.

Which streams should bring samples is decided by what is known of them:

===========================  ==========================================================================
stream                       is missing
===========================  ==========================================================================
with a rate                  whenever it brings nothing, connected or not; unless this device has never
                             brought it and brings others: it was not started
without a rate (events)      while the device is not connected or, being watched, brings nothing at all; since
                             the device was last known to be well, not since the last event
===========================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.clock import BootIds
from gateway.device_health import RateMeter, StreamHealth
from gateway.gaps import StreamAccount
from gateway.silence import StreamSilence, is_watched
from gateway.spool import Position
from protocols.devices.kind import DeviceKind, Samples
from protocols.gaps import Gap, GapReason
from protocols.lab_clock import LabClock
from protocols.records import Record
from protocols.samples import SampleBlock, Stream

REDECLARE_S: Final = 10.0

_LASTING: Final = (GapReason.DISCONNECTED, GapReason.SILENT)
"""What began before the gateway stopped, and is not over because it started again."""


@dataclass(slots=True)
class _Entry:
    """One stream's books."""

    account: StreamAccount
    silence: StreamSilence
    meter: RateMeter = field(default_factory=RateMeter)
    samples: int = 0
    blocks: int = 0
    refused_samples: int = 0
    newest: SampleBlock | None = None

    @property
    def rated(self) -> bool:
        return self.account.stream.rate_hz is not None


class DeviceStreams:
    """Stores a device's blocks and declares what is missing from its streams.

    Parameters
    ----------
    device, kind
        Its name at the gateway, and what it is.
    store
        Takes a record; returns False if it was refused.
    position
        Where a stream stands in the spool; None if it was never there.
    clock
        Lab time.
    boot_ids
        Shared by all devices of the gateway.
    silence_s
        Lab seconds without samples after which a stream counts as silent; None to judge by its rate.
    """

    def __init__(
        self,
        device: str,
        kind: DeviceKind,
        *,
        store: Callable[[Record], bool],
        position: Callable[[Stream], Position | None],
        clock: LabClock,
        boot_ids: BootIds,
        silence_s: float | None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._boot_ids = boot_ids
        self._watched = is_watched(kind, silence_s)
        self._connected = False
        self._connected_s = self._well_s = 0.0
        self._declared_s = 0.0
        self._entries: dict[str, _Entry] = {}
        positions = {stream: position(stream) for stream in kind.streams}
        stored = [p.due_ns for p in positions.values() if p is not None and p.reason is None]
        for stream, known in positions.items():
            account = self._account(device, stream, known, max(stored, default=None))
            silence = StreamSilence(stream, silence_s=silence_s, speed=clock.speed)
            self._entries[stream.name] = _Entry(account, silence)
            if known is None:
                self._declare(account.begin())

    @property
    def heard(self) -> bool:
        """Whether the present connection has brought samples."""
        return any(entry.silence.brought for entry in self._entries.values())

    @property
    def whole_silent(self) -> bool:
        """Whether a device that should speak is connected and says nothing at all."""
        watched = self._watched and self._connected
        return watched and all(entry.silence.silent for entry in self._entries.values())

    @property
    def silent(self) -> bool:
        """Whether a stream that should bring samples over this connection does not."""
        return self.whole_silent or bool(self.silent_streams)

    @property
    def silent_streams(self) -> tuple[str, ...]:
        """The streams with a rate that should bring samples over this connection and do not."""
        return tuple(name for name, entry in self._entries.items() if self._silent(entry))

    @property
    def limit_s(self) -> float:
        """Real seconds without samples after which the device counts as silent."""
        return max(entry.silence.limit_s for entry in self._entries.values())

    @property
    def connected_s(self) -> float:
        """For how long it has been connected, in real seconds; 0 if it is not."""
        return self._connected_s

    def connected(self) -> None:
        """Begin a connection."""
        self._connected = True
        for entry in self._entries.values():
            entry.silence.connected()

    def disconnected(self) -> None:
        """Take note that the connection ended; all its blocks have been handed over."""
        self._connected = False
        self._connected_s = self._well_s = 0.0
        for entry in self._entries.values():
            entry.account.blame(GapReason.DISCONNECTED)

    def hear(self, samples: Samples) -> None:
        """Take note of what a frame brought for one stream."""
        n_samples = samples.values.shape[1]
        if n_samples:
            entry = self._entries[samples.stream]
            entry.silence.heard(n_samples)
            entry.meter.count(n_samples)

    def put(self, block: SampleBlock, *, follows: Callable[[int], bool]) -> bool:
        """Store a block, and before it the gap that it ends; return False if it was refused.

        Parameters
        ----------
        follows
            Tells whether the block's index goes on from the count with that boot id.
        """
        entry = self._entries[block.stream.name]
        same_count = follows(entry.account.position.boot_id)
        self._declare(entry.account.before(block, same_count=same_count))
        stored = self._store(block)
        if stored:
            entry.account.stored(block)
            entry.samples += block.n_samples
            entry.blocks += 1
            entry.newest = block
        else:
            entry.account.refused(block, same_count=same_count)
            self._declare(entry.account.declaration(again=False))
            entry.refused_samples += block.n_samples
        return stored

    def tick(self, elapsed_s: float) -> None:
        """Take note that so much real time has passed: gaps grow, and are declared."""
        self._connected_s += elapsed_s if self._connected else 0.0
        self._declared_s += elapsed_s
        again = self._declared_s >= REDECLARE_S
        if again:
            self._declared_s = 0.0
        now_ns = self._clock.now_ns()
        for entry in self._entries.values():
            entry.silence.tick(elapsed_s)
            entry.meter.tick(elapsed_s)
        self._well_s = 0.0 if self.whole_silent or not self._connected else self._well_s + elapsed_s
        for entry in self._entries.values():
            self._account_for(entry, now_ns)
            self._declare(entry.account.declaration(again=again))

    def health(self, duplicates: Callable[[str], int]) -> tuple[StreamHealth, ...]:
        """Return how the streams are; `duplicates` tells how many repeated frames each had."""
        return tuple(
            StreamHealth(
                stream=entry.account.stream,
                rate_hz=entry.meter.rate_hz(speed=self._clock.speed),
                samples=entry.samples,
                blocks=entry.blocks,
                lost_samples=entry.account.lost,
                gaps=entry.account.gaps,
                gap_open=entry.account.open,
                duplicate_frames=duplicates(name),
                refused_samples=entry.refused_samples,
                silent=self._silent(entry) or (self.whole_silent and entry.silence.brought),
                newest=entry.newest,
            )
            for name, entry in self._entries.items()
        )

    def _account(
        self, device: str, stream: Stream, known: Position | None, heard_ns: int | None
    ) -> StreamAccount:
        """Return the account of a stream whose device an earlier run heard until `heard_ns`."""
        if known is None:
            now_ns = self._clock.now_ns()
            known = Position(self._new_boot_id(), -1, now_ns, GapReason.DISCONNECTED)
        elif stream.rate_hz is None and heard_ns is not None and heard_ns > known.due_ns:
            over = known.reason is not None  # for the device was heard after that gap had begun
            known = Position(self._new_boot_id(), -1, heard_ns) if over else replace(known, due_ns=heard_ns)
        cause = known.reason if known.reason in _LASTING else GapReason.GATEWAY_STOPPED
        return StreamAccount(device, stream, known, cause, new_boot_id=self._new_boot_id)

    def _new_boot_id(self) -> int:
        return self._boot_ids.next(self._clock.now_ns())

    def _silent(self, entry: _Entry) -> bool:
        """Return whether a stream with a rate should bring samples over this connection and does not."""
        expected = entry.silence.ever_brought or not self.heard
        return self._connected and entry.rated and expected and entry.silence.silent

    def _account_for(self, entry: _Entry, now_ns: int) -> None:
        """Let the stream's gap grow, up to the moment before which nothing more can come."""
        if not entry.silence.unheard:
            return
        end_ns = now_ns - round(entry.silence.limit_s * self._clock.speed * 1e9)
        if self._missing(entry):
            if entry.silence.silent:
                entry.account.blame(GapReason.SILENT)
            entry.account.grow(end_ns)
        elif self._well_s > self.limit_s:
            entry.account.settle(end_ns)
            self._declare(entry.account.declaration(again=True))

    def _missing(self, entry: _Entry) -> bool:
        if not self._connected:
            return True
        if entry.rated:
            return entry.silence.ever_brought or entry.account.position.last_index >= 0 or not self.heard
        known = entry.silence.brought or entry.account.cause is not None
        return self.whole_silent and known

    def _declare(self, gap: Gap | None) -> None:
        if gap is not None:
            self._store(gap)
