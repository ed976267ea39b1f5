"""From gateways to sessions: what was received is stored durably, and then the gateway is told so.

Times decide where a record belongs: samples to every session of their device with
`opened_ns <= time < closed_ns`, whether that session is open or was closed before they arrived; raw frames
likewise by the moment they arrived at the gateway; a gap to every session that it touches. What a gateway says
of itself belongs to all sessions with a device of that gateway. What no session claims is not kept. Since a
session may just be opening while its first samples arrive, a record is let go only some time after its arrival,
and not before the lab clock has passed its last moment.

One thread takes what has arrived in groups, writes it, and after COMMIT sends each gateway its watermark: the
last record before which everything is done. A record is done when every session that claims it has it. One that
got lost on the way holds the watermark back, and the gateway sends again from there; so does one that cannot be
written or divided among sessions, while other sessions and gateways go on. One that never makes sense is set
aside, and a gap takes its place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self

from lab_api import rejected
from lab_api.gateway_figures import GatewayFigures
from lab_api.host import Host
from lab_api.progress import Progress
from lab_api.rare_log import RareLog
from lab_api.store.session_store import Session, SessionNotFoundError, SessionStore, WriteResult
from protocols.errors import StoreError
from protocols.lab_clock import LabClock
from protocols.records import GATEWAY_DEVICE, Record, span_ns
from protocols.samples import SampleBlock
from protocols.sparkplug.host import (
    Event,
    HostDisconnected,
    NodeBorn,
    NodeDied,
    NodeIdShared,
    PayloadRejected,
    RecordReceived,
    RecordRejected,
)
from protocols.sparkplug.topics import NodeId

GROUP_S: Final = 0.1
GROUP_BLOCKS: Final = 250
"""So many are stored without waiting for more; fewer than a gateway sends ahead of its watermark."""
GRACE_S: Final = 0.2
LONGEST_GRACE_S: Final = 1.0
MAX_BACKLOG_BLOCKS: Final = 50_000
REJECTIONS: Final = 3
REJECTED_S: Final = 5.0
"""A record that was not understood so often over so long a time, while later ones were, is set aside. That is
longer than a gateway takes to send again, so that no forged or damaged message takes a true one's place."""
MAX_REJECTIONS: Final = 1000

_FULL_TIMEOUT_S: Final = 2.0  # well below the host's keep-alive
_RETRY_S: Final = 1.0
_IDLE_S: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A gateway as the recorder knows it.

    Parameters
    ----------
    incarnation, watermark
        Every record of this spool up to `watermark` is done.
    lost_blocks
        Records that the gateway takes to be done, and this recorder never had.
    id_shared
        Whether another gateway goes by the same id.
    """

    node: NodeId
    online: bool
    incarnation: int
    watermark: int
    lost_blocks: int = 0
    id_shared: bool = False


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """The recorder at one moment; counts are since its start.

    Parameters
    ----------
    connected
        Whether the broker is reached.
    backlog_blocks, oldest_s
        Records of any kind received and not done, and how long the oldest has been waiting.
    blocks, new_samples, duplicate_samples, conflicts
        Records done; what the store said about their samples; runs of samples or frames that contradict stored
        ones.
    unassigned_samples
        Samples that no session claimed.
    dropped_blocks
        Records left to be sent again because the backlog was full.
    set_aside_blocks
        Records that made no sense however often they came, now kept by the store's `set_aside`.
    rejected_payloads
        Messages that could not be understood.
    fault
        Why the store takes nothing from some session; empty if all is well.
    nodes
        The gateways that have been born since the start.
    gaps, new_frames, duplicate_frames
        Records of gaps that were stored; what the store said about raw frames.
    rebirth_requests, id_conflicts
        How often a gateway was asked for its births; births that show that two gateways go by one id.
    """

    connected: bool
    backlog_blocks: int
    oldest_s: float
    blocks: int
    new_samples: int
    duplicate_samples: int
    conflicts: int
    unassigned_samples: int
    dropped_blocks: int
    set_aside_blocks: int
    rejected_payloads: int
    fault: str
    nodes: tuple[NodeStatus, ...]
    gaps: int = 0
    new_frames: int = 0
    duplicate_frames: int = 0
    rebirth_requests: int = 0
    id_conflicts: int = 0


@dataclass(slots=True)
class _Waiting:
    """A record that has arrived and is not done; or a gap that stands in for one that made no sense."""

    record: Record
    first_ns: int
    last_ns: int
    arrived_s: float
    stands_in: bool = False
    retry_s: float = 0.0

    @classmethod
    def now(cls, record: Record, *, stands_in: bool = False) -> _Waiting:
        return cls(record, *span_ns(record), time.monotonic(), stands_in)


@dataclass(slots=True)
class _Node:
    """What is known of a gateway.

    Over all births of one spool: `newest` is the newest record that made sense, `rejections` says since when
    (of the monotonic clock) and how often others did not, `lost` counts those that the births passed over, the
    first of which is `first_lost`.
    """

    incarnation: int
    progress: Progress
    online: bool = True
    id_shared: bool = False
    newest: int = 0
    rejections: dict[int, tuple[float, int]] = field(default_factory=dict)
    lost: int = 0
    first_lost: int = 0


_BlockId = tuple[NodeId, int, int]  # node, incarnation, place in the spool


class Recorder:
    """Records what gateways send into the sessions of a store, from `start` to `stop`.

    Parameters
    ----------
    store
        Where sessions are; they are opened and closed there by whoever likes, at lab time.
    host
        The way to the gateways; a gateway's name in a session is its node's name.
    clock
        The lab clock that sessions are opened and closed by.

    Attributes
    ----------
    figures
        What gateways say of their health.
    """

    def __init__(self, store: SessionStore, host: Host, clock: LabClock) -> None:
        self._store = store
        self.figures = GatewayFigures()
        self._host = host
        self._clock = clock
        self._changed = threading.Condition()
        self._inbox: deque[Event] = deque()
        self._full = False
        self._stopping = False
        self._dropped = 0
        self._thread = threading.Thread(target=self._record, name="recorder", daemon=True)
        # from here on, only the recorder's thread writes
        self._nodes: dict[NodeId, _Node] = {}
        self._waiting: dict[_BlockId, _Waiting] = {}
        self._sessions: list[Session] = []
        self._sessions_of: dict[tuple[str, str], list[Session]] = {}
        self._unreadable: dict[str, str] = {}
        self._blocks = self._rejected = self._unassigned = self._set_aside = 0
        self._written = WriteResult()
        self._conflicts = 0
        self._rare_log = RareLog(_log)
        self._fault = ""
        self._status = self._current_status()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to record."""
        self._thread.start()
        self._host.start(self.deliver)

    def stop(self) -> None:
        """Store what sessions claim of what has arrived, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()
        self._host.stop()

    def status(self) -> RecorderStatus:
        """Return the recorder's state, at most one group of records old."""
        counts = self._host.counts()
        return replace(
            self._status,
            connected=self._host.connected,
            rebirth_requests=counts.rebirth_requests,
            id_conflicts=counts.id_conflicts,
        )

    def deliver(self, event: Event) -> None:
        """Take an event; a record may have to wait for room, and is dropped if there is none in time."""
        self.figures.take(event)
        with self._changed:
            if isinstance(event, RecordReceived):
                timeout_s = 0.0 if self._full else _FULL_TIMEOUT_S
                self._full = not self._changed.wait_for(self._has_room, timeout_s)
                if self._full:
                    self._dropped += 1
                    return
            self._inbox.append(event)
            if len(self._inbox) in (1, GROUP_BLOCKS):  # nothing else is waited for
                self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._stopping or len(self._inbox) + len(self._waiting) < MAX_BACKLOG_BLOCKS

    def _record(self) -> None:
        """Take, store and acknowledge until stopped: the whole life of the recorder's thread."""
        while not self._stopping:
            with self._changed:
                self._changed.wait_for(lambda: self._inbox or self._waiting or self._stopping, _IDLE_S)
                self._changed.wait_for(lambda: self._stopping or len(self._inbox) >= GROUP_BLOCKS, GROUP_S)
            try:
                self._round()
            except Exception as error:  # noqa: BLE001 - a defect is shown, and does not end the recording
                _log.exception("defect in the recorder")
                self._fault = f"{type(error).__name__}: {error}"
                self._status = self._current_status()
                time.sleep(_RETRY_S)

    def _round(self) -> None:
        moved = self._take_events()
        moved |= self._store_blocks()
        self._status = self._current_status()
        for node in moved:
            known = self._nodes[node]
            self._host.send_watermark(node, known.incarnation, known.progress.watermark)

    def _take_events(self) -> set[NodeId]:
        """Take what has arrived; return the nodes that are to be told their watermark again."""
        with self._changed:
            events = list(self._inbox)
            self._inbox.clear()
            self._changed.notify_all()
        told: set[NodeId] = set()
        for event in events:
            match event:
                case RecordReceived(node=node):
                    if not self._take_record(event):
                        told.add(node)
                case NodeBorn(node=node):
                    self._take_birth(event)
                    told.add(node)
                case NodeDied(node=node) if node in self._nodes:
                    self._nodes[node].online = False
                case HostDisconnected():
                    for known in self._nodes.values():  # who is there is told again by births
                        known.online = False
                case NodeIdShared(node=node) if node in self._nodes:
                    self._nodes[node].id_shared = True
                case RecordRejected(node=node):
                    self._rejected += 1
                    if self._take_rejected(event):
                        told.add(node)
                case PayloadRejected():
                    self._rejected += 1
                case _:
                    pass
        return told

    def _take_birth(self, birth: NodeBorn) -> None:
        """Count on from where the gateway says, also if that is further back or ahead than what was known."""
        known = self._nodes.get(birth.node)
        progress = Progress(birth.oldest_seq - 1)
        if known is None or known.incarnation != birth.incarnation:
            id_shared = known is not None and known.id_shared
            self._nodes[birth.node] = _Node(birth.incarnation, progress, id_shared=id_shared)
            return
        if known.lost and birth.oldest_seq <= known.first_lost:
            known.lost = 0
        n_lost = known.progress.missing_before(birth.oldest_seq)
        if n_lost:
            known.first_lost = known.first_lost if known.lost else known.progress.watermark + 1
            known.lost += n_lost
            self._rare_log.line(
                logging.ERROR,
                "losses",
                f"{birth.node} goes on at {birth.oldest_seq}, and {n_lost} records before never arrived",
            )
        known.progress, known.online = progress, True

    def _take_rejected(self, event: RecordRejected) -> bool:
        """Set a record aside that never makes sense while later ones do; return whether it is done already."""
        known, seq, now_s = self._nodes.get(event.node), event.spool_seq, time.monotonic()
        if known is None or known.incarnation != event.incarnation:
            return False
        if seq > known.progress.watermark + MAX_REJECTIONS:
            return False
        if known.progress.is_done(seq):
            return True
        self._rare_log.line(
            logging.WARNING,
            "records not understood",
            f"record {seq} of {event.node} not understood: {event.reason}",
        )
        pending = {i: r for i, r in known.rejections.items() if i > known.progress.watermark}
        since_s, times = pending.get(seq, (now_s, 0))
        known.rejections = {**pending, seq: (since_s, times + 1)}
        hopeless = times + 1 >= REJECTIONS and now_s - since_s >= REJECTED_S and seq < known.newest
        if hopeless and (event.node, event.incarnation, seq) not in self._waiting:
            return self._set_record_aside(known, event)
        return False

    def _set_record_aside(self, known: _Node, event: RecordRejected) -> bool:
        """Keep a record that makes no sense, and let a gap take its place; return whether it is done."""
        seq = event.spool_seq
        name = f"{event.node.group}.{event.node.name}-{event.incarnation}-{seq}"
        try:
            self._store.set_aside(name, rejected.document(event))
        except StoreError as error:
            self._note_fault(str(error))
            return False
        self._rare_log.line(
            logging.ERROR, "records set aside", f"record {seq} of {event.node} is set aside as {name}"
        )
        self._set_aside += 1
        gap = rejected.stand_in(event, self._clock.now_ns())
        if gap is None:
            known.progress.done(seq)
            return True
        self._waiting[event.node, event.incarnation, seq] = _Waiting.now(gap, stands_in=True)
        return False

    def _take_record(self, event: RecordReceived) -> bool:
        """Let a record wait to be stored; False if it is done already."""
        record, seq = event.received.record, event.received.spool_seq
        known = self._nodes.get(event.node)
        if known is None:
            return True
        if known.incarnation != event.incarnation or known.progress.is_done(seq):
            return False
        block_id = (event.node, event.incarnation, seq)
        waiting = self._waiting.get(block_id)
        if waiting is None or waiting.stands_in:
            self._waiting[block_id] = _Waiting.now(record)
        return True

    def _store_blocks(self) -> set[NodeId]:
        """Store what can be stored; return the nodes of blocks that are done."""
        now_s, now_ns = time.monotonic(), self._clock.now_ns()
        ready = [block_id for block_id, waiting in self._waiting.items() if waiting.retry_s <= now_s]
        if not ready:
            return set()
        try:
            self._read_sessions()
        except StoreError as error:
            self._note_fault(str(error))
            return set()
        writes: dict[str, list[tuple[_BlockId, Record]]] = defaultdict(list)
        done: dict[_BlockId, int] = {}
        for block_id in ready:
            waiting = self._waiting[block_id]
            parts = self._parts(block_id[0], waiting)
            claimed = any(part is waiting.record for _, part in parts)
            if not claimed and not self._may_let_go(waiting, now_s, now_ns):
                continue
            done[block_id] = _n_unassigned(waiting.record, [part for _, part in parts])
            for session, part in parts:
                writes[session.id].append((block_id, part))
        for block_id in self._failing(writes):
            self._waiting[block_id].retry_s = now_s + _RETRY_S
            done.pop(block_id, None)
        for block_id, n_unassigned in done.items():
            self._finish(block_id, n_unassigned)
        failing = self._unreadable or any(waiting.retry_s for waiting in self._waiting.values())
        if self._fault and not failing:
            self._note_fault("")
        return {node for node, _, _ in done}

    def _read_sessions(self) -> None:
        sessions = self._store.sessions()
        listed = {session.id for session in sessions}
        sessions += [s for s in self._sessions if s.id not in listed and not self._is_erased(s)]
        known = {session.id for session in sessions}
        self._unreadable = {i: why for i, why in self._store.unreadable().items() if i not in known}
        for why in self._unreadable.values():
            self._note_fault(f"what no other session claims is held back for one that cannot be read: {why}")
            break
        if sessions == self._sessions:
            return
        self._sessions = sessions
        self._sessions_of = defaultdict(list)
        for session in sessions:
            devices = {(d.gateway, d.device) for d in session.devices}
            for gateway, device in devices | {(d.gateway, GATEWAY_DEVICE) for d in session.devices}:
                self._sessions_of[gateway, device].append(session)

    def _is_erased(self, session: Session) -> bool:
        """Return whether a session is gone; one that cannot be read keeps its claim."""
        try:
            self._store.session(session.id)
        except SessionNotFoundError:
            return True
        except StoreError:
            return False
        return False

    def _parts(self, node: NodeId, waiting: _Waiting) -> list[tuple[Session, Record]]:
        """Return the sessions that claim something of a record, each with that part."""
        parts: list[tuple[Session, Record]] = []
        for session in self._sessions_of.get((node.name, waiting.record.device), ()):
            opened_ns, closed_ns = session.interval_ns()
            if opened_ns <= waiting.first_ns and waiting.last_ns < closed_ns:
                parts.append((session, waiting.record))
            elif opened_ns <= waiting.last_ns and waiting.first_ns < closed_ns:
                part = waiting.record.between(opened_ns, closed_ns)
                if part is not None:
                    parts.append((session, part))
        return parts

    def _may_let_go(self, waiting: _Waiting, now_s: float, now_ns: int) -> bool:
        """Return whether no session can still turn up that claims something of this record."""
        if self._unreadable:
            return False
        age_s = now_s - waiting.arrived_s
        return age_s >= LONGEST_GRACE_S or (age_s >= GRACE_S and waiting.last_ns < now_ns)

    def _failing(self, writes: Mapping[str, Sequence[tuple[_BlockId, Record]]]) -> set[_BlockId]:
        """Write each session's records; return those of sessions that could not be written."""
        failing: set[_BlockId] = set()
        for session_id, records in writes.items():
            try:
                result = self._store.write({session_id: [(i[0].name, record) for i, record in records]})
            except SessionNotFoundError:
                continue  # erased since
            except StoreError as error:
                self._note_fault(str(error))
                failing.update(block_id for block_id, _ in records)
                continue
            self._written = WriteResult.total([self._written, replace(result, conflicts=())])
            self._conflicts += len(result.conflicts)
            for conflict in result.conflicts:
                self._rare_log.line(
                    logging.ERROR,
                    "conflicts",
                    f"samples contradict those stored before, which stay: {conflict}",
                )
        return failing

    def _finish(self, block_id: _BlockId, n_unassigned: int) -> None:
        node, incarnation, seq = block_id
        del self._waiting[block_id]
        self._blocks += 1
        self._unassigned += n_unassigned
        known = self._nodes[node]
        if known.incarnation == incarnation:
            known.progress.done(seq)
            known.newest = max(known.newest, seq)

    def _note_fault(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            _log.log(logging.ERROR if fault else logging.INFO, "recording: %s", fault or "all is well again")

    def _current_status(self) -> RecorderStatus:
        now_s = time.monotonic()
        return RecorderStatus(
            connected=False,
            backlog_blocks=len(self._inbox) + len(self._waiting),
            oldest_s=now_s - min((waiting.arrived_s for waiting in self._waiting.values()), default=now_s),
            blocks=self._blocks,
            new_samples=self._written.new,
            duplicate_samples=self._written.duplicate,
            conflicts=self._conflicts,
            unassigned_samples=self._unassigned,
            dropped_blocks=self._dropped,
            set_aside_blocks=self._set_aside,
            rejected_payloads=self._rejected,
            fault=self._fault,
            nodes=tuple(
                NodeStatus(
                    node,
                    known.online,
                    known.incarnation,
                    known.progress.watermark,
                    known.lost,
                    known.id_shared,
                )
                for node, known in self._nodes.items()
            ),
            gaps=self._written.gaps,
            new_frames=self._written.new_frames,
            duplicate_frames=self._written.duplicate_frames,
        )


def _n_unassigned(record: Record, parts: Sequence[Record]) -> int:
    """Return how many samples of a record are in none of its parts; gaps and frames have none."""
    if not isinstance(record, SampleBlock):
        return 0
    n_assigned = sum(part.n_samples for part in parts if isinstance(part, SampleBlock))
    return max(0, record.n_samples - n_assigned)
