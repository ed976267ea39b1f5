"""From decoded frames to sample blocks: which sample is which, and when it was taken; without I/O.

A `StreamAssembler` places every sample of one stream on an index that counts what the device took, lost samples
included, so that index and time stay together::

    what the device says    index                           a loss shows as
    ----------------------  ------------------------------  -------------------------------------------------
    a sample counter        the counter, unwrapped          a jump of the counter
    its own clock           advances where the clock jumps  a jump of the clock
    neither, but a rate     counted here                    frames that stay late after an error or silence
    no rate                 counted here, with its time     nothing

A boot number that changes, a counter or clock that runs backwards or further ahead than the moment of arrival
allows: all mean that the device has started anew, under a new boot id. A new connection means the same, unless
counter or clock plausibly go on; a new run of the gateway too, unless a counter does. A wall clock that was set
gives all streams of the device a new boot id as well, but the index goes on. So does a correction that would
let times run backwards for long.

Not seen here: a loss of more than half the counter's range, which looks like a new start; and, between two
connections, a new start within a second of the last one, which without a boot number looks like none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gateway.clock import BootIds, ClockModel, WallClock
from gateway.spool import Position
from gateway.transport import Frame
from protocols.devices.kind import BleLink, Decoded, DeviceKind, Samples
from protocols.samples import SampleBlock, Stream

MAX_BLOCK_BYTES: Final = 1 << 16
BLE_DELAY_NS: Final = 50_000_000
"""The longest ordinary connection interval: a device in step with it may always be that late."""
SERIAL_DELAY_NS: Final = 20_000_000
"""The latency timer of a USB serial port, and a short frame at 9600 baud."""

_SILENT_FRAMES: Final = 2.5
_DECIDING_FRAMES: Final = 3
"""A loss is believed when the frames after it stay late for so many arrivals; one that catches up is none."""

# What this machine may do to a frame, in real time
_LATE_NS: Final = 2_000_000
_LATE_AFTER_ERROR_NS: Final = 20_000_000
_LATE_AFTER_SILENCE_NS: Final = 250_000_000
_SILENCE_NS: Final = 1_000_000_000
_PATIENCE_NS: Final = 3_000_000_000
_AHEAD_NS: Final = 1_000_000_000
_KEPT_NS: Final = 1_000_000_000
"""So old may be what a device sends first over a new connection."""
_HOLD_NS: Final = 100_000_000
"""So far times are held back to keep them increasing; a larger correction is made under a new boot id."""


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Samples of one frame, placed: `device_ns` is the time of the first on the axis of the clock model."""

    index: int
    device_ns: int
    values: NDArray[Any]
    said: Samples
    frame: Frame

    @property
    def n_samples(self) -> int:
        return int(self.values.shape[1])


class StreamAssembler:
    """Makes blocks of one stream's samples, over all connections to its device.

    Every sample that is fed is in exactly one block, in the order fed; only an exact repeat of the frame before
    (a notification delivered twice) is left out and counted in `duplicates`.

    Parameters
    ----------
    device, stream
        Whose samples.
    boot_ids
        Gives the number of every count.
    wall_clock
        Turns the monotonic clock into UTC.
    counter_modulus
        Where the device's counter starts again at 0; None where it has none.
    link_delay_ns
        The longest delay that the link's fastest frames may have.
    scheduled
        Whether frames wait for events at a fixed interval, as on a BLE connection.
    speed
        Lab seconds per real second.
    """

    def __init__(
        self,
        device: str,
        stream: Stream,
        boot_ids: BootIds,
        wall_clock: WallClock,
        *,
        counter_modulus: int | None = None,
        link_delay_ns: int,
        scheduled: bool = False,
        speed: float = 1.0,
    ) -> None:
        self.device = device
        self.stream = stream
        self.duplicates = 0
        self._boot_ids = boot_ids
        self._wall_clock = wall_clock
        self._modulus = counter_modulus
        self._link_delay_ns = link_delay_ns + round(_LATE_NS * speed)
        self._scheduled = scheduled
        self._speed = speed
        self._pending: list[_Piece] = []
        self._pending_bytes = 0
        self._tolerated_ns: int | None = None
        self._frame_samples = 0
        self._renumbered: tuple[int, int] | None = None
        self._earlier: Position | None = None
        self.restart()

    def resume(self, earlier: Position) -> None:
        """Take note of the last sample that an earlier run of the gateway stored; before the first samples."""
        self._earlier = earlier if earlier.last_index >= 0 else None

    def due(self, arrived_before_ns: int) -> bool:
        """Return whether samples wait that arrived before that, on the monotonic clock.

        After a possible loss they wait longer, until it is known whether it was one.
        """
        if not self._pending:
            return False
        undecided = self._tolerated_ns is not None and len(self._arrivals(self._pending)) < _DECIDING_FRAMES
        patience_ns = round(_PATIENCE_NS * self._speed) if undecided else 0
        return self._pending[0].frame.arrival_monotonic_ns <= arrived_before_ns - patience_ns

    def restart(self) -> list[SampleBlock]:
        """Begin a new count with the next samples; return what was still waiting."""
        blocks = self.flush()
        self._model = self._new_model()
        self._boot_id: int | None = None
        self._next_index = 0
        self._last: _Piece | None = None
        self._last_time_ns: int | None = None
        self._reconnected = False
        return blocks

    def renumber(self, now_ns: int) -> list[SampleBlock]:
        """Go on counting under a new boot id, because UTC was set; return what was still waiting."""
        blocks = self.flush()
        self._count_anew(now_ns)
        return blocks

    def _count_anew(self, now_ns: int) -> None:
        """Go on with the index under a new boot id, whose times may lie before those of the one before."""
        if self._boot_id is not None:
            before, self._boot_id = self._boot_id, self._boot_ids.next(now_ns)
            self._renumbered = before, self._boot_id
        self._last_time_ns = None

    def follows(self, boot_id: int, earlier_boot_id: int) -> bool:
        """Return whether the index under one boot id goes on from that under the other."""
        return boot_id == earlier_boot_id or self._renumbered == (earlier_boot_id, boot_id)

    def reconnected(self) -> None:
        """Take note of a new connection; what was waiting must have been flushed."""
        self._reconnected = self._last is not None
        if not self._model.empty:
            self._model.reconnected()

    def doubt(self) -> list[SampleBlock]:
        """Take note that bytes before the next samples made no sense; return what was waiting, if apart."""
        if self._last is None or not self._counted_here(self._last.said):
            return []
        return self._begin_doubt(_LATE_AFTER_ERROR_NS)

    def add(self, samples: Samples, frame: Frame) -> list[SampleBlock]:
        """Take samples; return the blocks that they completed."""
        if samples.values.shape[1] == 0:
            return []
        if not self._reconnected and self._repeats(samples):
            self.duplicates += 1
            return []
        blocks = self._make_room(samples, frame)
        if self._boot_id is None and not self._resumes(samples, frame):
            self._boot_id = self._boot_ids.next(frame.arrival_ns)
            self._next_index = samples.counter or 0
        piece = _Piece(self._next_index, self._device_ns(samples), samples.values, samples, frame)
        self._pending.append(piece)
        self._pending_bytes += samples.values.nbytes
        self._last = piece
        self._next_index += piece.n_samples
        self._frame_samples = min(self._frame_samples or piece.n_samples, piece.n_samples)
        if self._pending_bytes >= MAX_BLOCK_BYTES:
            blocks += self.flush()
        return blocks

    def flush(self) -> list[SampleBlock]:
        """Return what is waiting as a block, or nothing."""
        if not self._pending:
            return []
        pieces, self._pending, self._pending_bytes = self._pending, [], 0
        if self._tolerated_ns is not None:
            pieces = self._make_up_for_loss(pieces, self._tolerated_ns)
            self._tolerated_ns = None
        return [self._irregular_block(pieces) if self.stream.rate_hz is None else self._regular_block(pieces)]

    def _counted_here(self, samples: Samples) -> bool:
        """Return whether only the nominal rate and the moments of arrival can tell that something was lost."""
        known = self._modulus is not None or samples.device_ns is not None
        return self.stream.rate_hz is not None and not known

    def _repeats(self, samples: Samples) -> bool:
        last = self._last.said if self._last is not None else None
        if last is None or (samples.counter is None and samples.device_ns is None):
            return False
        return (
            (samples.boot, samples.counter, samples.device_ns) == (last.boot, last.counter, last.device_ns)
            and samples.values.shape == last.values.shape
            and samples.values.tobytes() == last.values.tobytes()
        )

    def _make_room(self, samples: Samples, frame: Frame) -> list[SampleBlock]:
        """Move the next index to where these samples belong; return what that cuts off."""
        if self._last is not None and samples.boot != self._last.said.boot:
            return self.restart()
        reconnected, self._reconnected = self._reconnected, False
        if reconnected and self._last is not None and not self._goes_on(self._last, samples, frame):
            return self.restart()
        if self._last is None or self.stream.rate_hz is None:
            return []
        if self._counted_here(samples):
            silence_ns = frame.arrival_monotonic_ns - self._last.frame.arrival_monotonic_ns
            frames_ns = _SILENT_FRAMES * self._span_ns(self._frame_samples)
            silent = silence_ns > max(frames_ns, _SILENCE_NS * self._speed)
            return self._begin_doubt(_LATE_AFTER_SILENCE_NS) if silent else []
        missing = self._missing(self._last, samples)
        if missing == 0:
            return []
        blocks = self.flush()
        if missing < 0 or self._ahead(missing, samples, frame):
            return blocks + self.restart()
        self._next_index += missing
        return blocks

    def _goes_on(self, last: _Piece, samples: Samples, frame: Frame) -> bool:
        """Return whether the first samples of a new connection belong to the count before it.

        A clock model that they do not fit, though the device says that it is the same boot, is begun anew.
        """
        if self.stream.rate_hz is None or self._counted_here(samples):
            return False
        missing = self._missing(last, samples)
        pause_ns = frame.arrival_monotonic_ns - last.frame.arrival_monotonic_ns
        if missing < 0 or (self._modulus is not None and pause_ns >= self._span_ns(self._modulus // 2)):
            return False
        first_ns = samples.device_ns
        if first_ns is None:
            first_ns = self._span_ns(self._next_index + missing)
        newest_ns = first_ns + self._span_ns(samples.values.shape[1] - 1)
        kept_ns = round(_KEPT_NS * self._speed)
        fits = self._model.continues(newest_ns, frame.arrival_monotonic_ns, delayed_ns=kept_ns)
        if not fits and samples.boot is not None:
            self._model = self._new_model()
        return fits or samples.boot is not None

    def _resumes(self, samples: Samples, frame: Frame) -> bool:
        """Go on with an earlier run's count if the device's counter moved on by as much as time did."""
        earlier, self._earlier = self._earlier, None
        if earlier is None or self._modulus is None or samples.counter is None:
            return False
        missing = (samples.counter - earlier.last_index - 1) % self._modulus
        pause_ns = frame.arrival_ns - earlier.due_ns
        late_ns = pause_ns - self._span_ns(missing + samples.values.shape[1])
        if pause_ns >= self._span_ns(self._modulus // 2) or abs(late_ns) > _KEPT_NS * self._speed:
            return False
        self._boot_id, self._next_index = earlier.boot_id, earlier.last_index + 1 + missing
        self._last_time_ns = earlier.due_ns - self._span_ns(1)
        return True

    def _new_model(self) -> ClockModel:
        return ClockModel(link_delay_ns=self._link_delay_ns, speed=self._speed, scheduled=self._scheduled)

    def _begin_doubt(self, tolerated_ns: int) -> list[SampleBlock]:
        """Keep the next samples apart until it is known whether they stay later than the machine explains."""
        blocks = self.flush()
        tolerated_ns = round(tolerated_ns * self._speed)
        self._tolerated_ns = min(tolerated_ns, self._tolerated_ns or tolerated_ns)
        return blocks

    def _missing(self, last: _Piece, samples: Samples) -> int:
        """Return how many samples lie between the last ones and these; negative if the device went back."""
        if self._modulus is not None and samples.counter is not None:
            missing = (samples.counter - self._next_index) % self._modulus
            return missing if missing < self._modulus // 2 else missing - self._modulus
        if samples.device_ns is None:
            return 0
        gap_ns = samples.device_ns - last.device_ns - self._span_ns(last.n_samples)
        if abs(gap_ns) <= self._span_ns(last.n_samples) / 2:
            return 0
        return round(gap_ns * (self.stream.rate_hz or 0) / 1e9)

    def _ahead(self, missing: int, samples: Samples, frame: Frame) -> bool:
        """Return whether samples that much later could not have been taken yet when these arrived."""
        if samples.device_ns is not None:
            device_ns = samples.device_ns
        else:
            device_ns = self._span_ns(self._next_index + missing)
        return self._model.lateness_ns(device_ns, frame.arrival_monotonic_ns) < -_AHEAD_NS * self._speed

    def _make_up_for_loss(self, pieces: list[_Piece], tolerated_ns: int) -> list[_Piece]:
        """Move doubtful samples on by as many whole frames as even the least late of them is late."""
        arrivals = self._arrivals(pieces)
        frame_ns = self._span_ns(self._frame_samples)
        least_ns = min(arrivals)
        missing = round(least_ns / frame_ns) * self._frame_samples
        catching_up = arrivals[-1] < arrivals[0] - frame_ns / 2
        if len(arrivals) < _DECIDING_FRAMES or catching_up or least_ns <= tolerated_ns or missing <= 0:
            return pieces
        self._next_index += missing
        moved = [
            _Piece(p.index + missing, self._span_ns(p.index + missing), p.values, p.said, p.frame)
            for p in pieces
        ]
        self._last = moved[-1]
        return moved

    def _arrivals(self, pieces: Sequence[_Piece]) -> list[int]:
        """Return how late each arrival was; of frames that arrived together the last one counts."""
        lateness_ns = {
            p.frame.arrival_monotonic_ns: self._model.lateness_ns(
                self._last_sample_ns(p), p.frame.arrival_monotonic_ns
            )
            for p in pieces
        }
        return list(lateness_ns.values())

    def _regular_block(self, pieces: Sequence[_Piece]) -> SampleBlock:
        for piece in pieces:
            self._model.observe(self._last_sample_ns(piece), piece.frame.arrival_monotonic_ns)
        start = self._model.instant(pieces[0].device_ns)
        modelled_ns = self._wall_clock.utc_ns(start.monotonic_ns)
        start_ns = self._held_back(modelled_ns)
        if self._last_time_ns is not None and start_ns <= self._last_time_ns:
            self._count_anew(pieces[0].frame.arrival_ns)
        uncertainty_ns = start.uncertainty_ns + start_ns - modelled_ns
        block = self._block(pieces, start_ns, uncertainty_ns, None)
        self._last_time_ns = start_ns + self._span_ns(block.n_samples - 1)
        return block

    def _held_back(self, start_ns: int) -> int:
        """Return the start, or if it lies a little before the last sample's time, the moment after that."""
        if self._last_time_ns is None or start_ns > self._last_time_ns:
            return start_ns
        earliest_ns = self._last_time_ns + 1
        return earliest_ns if earliest_ns - start_ns <= _HOLD_NS * self._speed else start_ns

    def _irregular_block(self, pieces: Sequence[_Piece]) -> SampleBlock:
        times_ns = np.concatenate([self._event_times_ns(piece) for piece in pieces])
        if self._last_time_ns is not None:
            times_ns[0] = max(times_ns[0], self._last_time_ns)
        times_ns = np.maximum.accumulate(times_ns)
        self._last_time_ns = int(times_ns[-1])
        return self._block(pieces, int(times_ns[0]), self._link_delay_ns, times_ns)

    def _event_times_ns(self, piece: _Piece) -> NDArray[np.int64]:
        arrival_ns = self._wall_clock.utc_ns(piece.frame.arrival_monotonic_ns)
        if piece.said.offsets_ns is None:
            return np.full(piece.n_samples, arrival_ns, dtype=np.int64)
        return arrival_ns + piece.said.offsets_ns.astype(np.int64)

    def _block(
        self,
        pieces: Sequence[_Piece],
        start_ns: int,
        uncertainty_ns: int,
        times_ns: NDArray[np.int64] | None,
    ) -> SampleBlock:
        first = pieces[0]
        values = first.values if len(pieces) == 1 else np.concatenate([p.values for p in pieces], axis=1)
        return SampleBlock(
            device=self.device,
            stream=self.stream,
            boot_id=self._boot_id or 0,
            first_index=first.index,
            start_ns=start_ns,
            values=values,
            arrival_ns=first.frame.arrival_ns,
            arrival_monotonic_ns=first.frame.arrival_monotonic_ns,
            uncertainty_ns=uncertainty_ns,
            device_ns=first.said.device_ns,
            times_ns=times_ns,
        )

    def _device_ns(self, samples: Samples) -> int:
        if samples.device_ns is not None:
            return samples.device_ns
        return self._span_ns(self._next_index)

    def _last_sample_ns(self, piece: _Piece) -> int:
        return piece.device_ns + self._span_ns(piece.n_samples - 1)

    def _span_ns(self, n_samples: int) -> int:
        return 0 if self.stream.rate_hz is None else round(n_samples * 1e9 / self.stream.rate_hz)


class DeviceAssembler:
    """Decodes a device's frames and makes blocks of all its streams, over all connections to it.

    Parameters
    ----------
    device
        Its name at the gateway.
    kind
        What it is.
    boot_ids
        Shared by all devices of the gateway.
    speed
        Lab seconds per real second.
    """

    def __init__(self, device: str, kind: DeviceKind, boot_ids: BootIds, *, speed: float = 1.0) -> None:
        scheduled = isinstance(kind.link, BleLink)
        self._kind = kind
        self._decoder = kind.new_decoder()
        self._wall_clock = WallClock(speed=speed)
        self._streams = {
            stream.name: StreamAssembler(
                device,
                stream,
                boot_ids,
                self._wall_clock,
                counter_modulus=kind.counter_modulus.get(stream.name),
                link_delay_ns=BLE_DELAY_NS if scheduled else SERIAL_DELAY_NS,
                scheduled=scheduled,
                speed=speed,
            )
            for stream in kind.streams
        }

    def resume(self, position: Callable[[Stream], Position | None]) -> None:
        """Take note of where an earlier run of the gateway ended; before the first frame."""
        for assembler in self._streams.values():
            earlier = position(assembler.stream)
            if earlier is not None:
                assembler.resume(earlier)

    def duplicates(self, stream: str) -> int:
        """Return how many repeated frames of a stream were left out."""
        return self._streams[stream].duplicates

    def follows(self, block: SampleBlock, earlier_boot_id: int) -> bool:
        """Return whether a block's index goes on from that under the other boot id."""
        return self._streams[block.stream.name].follows(block.boot_id, earlier_boot_id)

    def reconnected(self) -> None:
        """Take note of a new connection; what was waiting must have been flushed."""
        self._decoder = self._kind.new_decoder()
        for stream in self._streams.values():
            stream.reconnected()

    def feed(self, frame: Frame) -> tuple[Decoded, list[SampleBlock]]:
        """Return what a frame said, and the blocks that it completed."""
        decoded = self._decoder.feed(frame.source, frame.data)
        blocks: list[SampleBlock] = []
        if self._wall_clock.observe(frame.arrival_ns, frame.arrival_monotonic_ns):
            for stream in self._streams.values():
                blocks += stream.renumber(frame.arrival_ns)
            self._wall_clock.accept()
        for _ in decoded.errors[:1]:
            for stream in self._streams.values():
                blocks += stream.doubt()
        for samples in decoded.samples:
            blocks += self._streams[samples.stream].add(samples, frame)
        return decoded, blocks

    def flush(self, arrived_before_ns: int | None = None) -> list[SampleBlock]:
        """Return all waiting samples of streams in which some arrived before that (on the monotonic clock)."""
        blocks: list[SampleBlock] = []
        for stream in self._streams.values():
            if arrived_before_ns is None or stream.due(arrived_before_ns):
                blocks += stream.flush()
        return blocks
