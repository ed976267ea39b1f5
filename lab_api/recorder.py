"""From gateways to sessions: what was received is stored durably, and then the gateway is told so.

Times decide where a sample belongs: to every session of its device with `opened_ns <= time < closed_ns`,
whether that session is open or was closed before the sample arrived. What no session claims is not kept. Since
a session may just be opening while its first samples arrive, a block is let go only some time after its
arrival, and not before the lab clock has passed its last sample.

One thread takes what has arrived in groups, writes it, and after COMMIT sends each gateway its watermark: the
last block before which everything is done. A block is done when every session that claims it has it. A block
that got lost on the way holds the watermark back, and the gateway sends again from there; so does a block whose
session cannot be written, while other sessions and gateways go on.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self

from lab_api.host import Host
from lab_api.progress import Progress
from lab_api.store.session_store import Session, SessionNotFoundError, SessionStore
from protocols.errors import StoreError
from protocols.lab_clock import LabClock
from protocols.samples import SampleBlock
from protocols.sparkplug.host import BlockReceived, BlockRejected, Event, NodeBorn, NodeDied, PayloadRejected
from protocols.sparkplug.topics import NodeId

GROUP_S: Final = 0.1
GROUP_BLOCKS: Final = 250
"""So many are stored without waiting for more; fewer than a gateway sends ahead of its watermark."""
GRACE_S: Final = 0.2
LONGEST_GRACE_S: Final = 1.0
MAX_BACKLOG_BLOCKS: Final = 50_000
REJECTIONS: Final = 3
REJECTED_S: Final = 5.0
"""A block that was not understood so often over so long a time, while later ones were, is set aside. That is
longer than a gateway takes to send again, so that no forged or damaged message takes a true one's place."""
MAX_REJECTIONS: Final = 1000

_FULL_TIMEOUT_S: Final = 2.0  # well below the host's keep-alive
_RETRY_S: Final = 1.0
_IDLE_S: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A gateway as the recorder knows it: every block of spool `incarnation` up to `watermark` is done."""

    node: NodeId
    online: bool
    incarnation: int
    watermark: int


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """The recorder at one moment; counts are since its start.

    Parameters
    ----------
    connected
        Whether the broker is reached.
    backlog_blocks, oldest_s
        Blocks received and not done, and how long the oldest has been waiting.
    blocks, new_samples, duplicate_samples, conflicts
        Blocks done; what the store said about their samples; runs of samples that contradict stored ones.
    unassigned_samples
        Samples that no session claimed.
    dropped_blocks
        Blocks left to be sent again because the backlog was full.
    set_aside_blocks
        Blocks that made no sense however often they came, now kept by the store's `set_aside`.
    rejected_payloads
        Messages that could not be understood.
    fault
        Why the store takes nothing from some session; empty if all is well.
    nodes
        The gateways that have been born since the start.
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


@dataclass(slots=True)
class _Waiting:
    """A block that has arrived and is not done."""

    block: SampleBlock
    first_ns: int
    last_ns: int
    arrived_s: float
    retry_s: float = 0.0


@dataclass(slots=True)
class _Node:
    """What is known of a gateway.

    Over all births of one spool: `newest` is the newest block that made sense, `rejections` says since when (of
    the monotonic clock) and how often others did not.
    """

    incarnation: int
    progress: Progress
    online: bool = True
    newest: int = 0
    rejections: dict[int, tuple[float, int]] = field(default_factory=dict)


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
    """

    def __init__(self, store: SessionStore, host: Host, clock: LabClock) -> None:
        self._store = store
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
        self._new = self._duplicate = self._conflicts = 0
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
        """Return the recorder's state, at most one group of blocks old."""
        return replace(self._status, connected=self._host.connected)

    def deliver(self, event: Event) -> None:
        """Take an event; a block may have to wait for room, and is dropped if there is none in time."""
        with self._changed:
            if isinstance(event, BlockReceived):
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
                case BlockReceived(node=node):
                    if not self._take_block(event):
                        told.add(node)
                case NodeBorn(node=node):
                    self._take_birth(event)
                    told.add(node)
                case NodeDied(node=node) if node in self._nodes:
                    self._nodes[node].online = False
                case BlockRejected(node=node):
                    self._rejected += 1
                    if self._take_rejected(event):
                        told.add(node)
                case PayloadRejected(topic=topic, reason=reason):
                    self._rejected += 1
                    _log.warning("message on %s not understood: %s", topic, reason)
                case _:
                    pass
        return told

    def _take_birth(self, birth: NodeBorn) -> None:
        """Count on from where the gateway says, also if that is further back than what was known."""
        known = self._nodes.get(birth.node)
        progress = Progress(birth.oldest_seq - 1)
        if known is None or known.incarnation != birth.incarnation:
            self._nodes[birth.node] = _Node(birth.incarnation, progress)
        else:
            known.progress, known.online = progress, True

    def _take_rejected(self, event: BlockRejected) -> bool:
        """Set a block aside that never makes sense while later ones do; return whether it is done."""
        known, seq, now_s = self._nodes[event.node], event.spool_seq, time.monotonic()
        if known.incarnation != event.incarnation or seq > known.progress.watermark + MAX_REJECTIONS:
            return False
        if known.progress.is_done(seq):
            return True
        _log.warning("block %d of %s not understood: %s", seq, event.node, event.reason)
        pending = {i: r for i, r in known.rejections.items() if i > known.progress.watermark}
        since_s, times = pending.get(seq, (now_s, 0))
        known.rejections = {**pending, seq: (since_s, times + 1)}
        hopeless = times + 1 >= REJECTIONS and now_s - since_s >= REJECTED_S and seq < known.newest
        if not hopeless or (event.node, event.incarnation, seq) in self._waiting:
            return False
        name = f"{event.node.group}.{event.node.name}-{event.incarnation}-{seq}"
        try:
            self._store.set_aside(name, _aside(event))
        except StoreError as error:
            self._note_fault(str(error))
            return False
        _log.error("block %d of %s is set aside as %s", seq, event.node, name)
        self._set_aside += 1
        known.progress.done(seq)
        return True

    def _take_block(self, event: BlockReceived) -> bool:
        """Let a block wait to be stored; False if it is done already."""
        block, seq = event.received.block, event.received.spool_seq
        known = self._nodes[event.node]
        if known.incarnation != event.incarnation or known.progress.is_done(seq):
            return False
        block_id = (event.node, event.incarnation, seq)
        if block_id not in self._waiting:
            times_ns = block.sample_times_ns()
            first_ns, last_ns = int(times_ns.min()), int(times_ns.max())
            self._waiting[block_id] = _Waiting(block, first_ns, last_ns, time.monotonic())
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
        writes: dict[str, list[tuple[_BlockId, SampleBlock]]] = defaultdict(list)
        done: dict[_BlockId, int] = {}
        for block_id in ready:
            waiting = self._waiting[block_id]
            parts = self._parts(block_id[0], waiting)
            if not any(part is waiting.block for _, part in parts) and not self._may_let_go(
                waiting, now_s, now_ns
            ):
                continue
            done[block_id] = max(0, waiting.block.n_samples - sum(part.n_samples for _, part in parts))
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
            for gateway, device in {(d.gateway, d.device) for d in session.devices}:
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

    def _parts(self, node: NodeId, waiting: _Waiting) -> list[tuple[Session, SampleBlock]]:
        """Return the sessions that claim samples of a block, each with these samples."""
        parts = []
        for session in self._sessions_of.get((node.name, waiting.block.device), ()):
            opened_ns, closed_ns = session.interval_ns()
            if opened_ns <= waiting.first_ns and waiting.last_ns < closed_ns:
                parts.append((session, waiting.block))
            elif opened_ns <= waiting.last_ns and waiting.first_ns < closed_ns:
                part = waiting.block.between(opened_ns, closed_ns)
                if part is not None:
                    parts.append((session, part))
        return parts

    def _may_let_go(self, waiting: _Waiting, now_s: float, now_ns: int) -> bool:
        """Return whether no session can still turn up that claims samples of this block."""
        if self._unreadable:
            return False
        age_s = now_s - waiting.arrived_s
        return age_s >= LONGEST_GRACE_S or (age_s >= GRACE_S and waiting.last_ns < now_ns)

    def _failing(self, writes: Mapping[str, Sequence[tuple[_BlockId, SampleBlock]]]) -> set[_BlockId]:
        """Write each session's blocks; return those of sessions that could not be written."""
        failing: set[_BlockId] = set()
        for session_id, blocks in writes.items():
            try:
                result = self._store.write({session_id: [(i[0].name, block) for i, block in blocks]})
            except SessionNotFoundError:
                continue  # erased since
            except StoreError as error:
                self._note_fault(str(error))
                failing.update(block_id for block_id, _ in blocks)
                continue
            self._new += result.new
            self._duplicate += result.duplicate
            self._conflicts += len(result.conflicts)
            for conflict in result.conflicts:
                _log.error("samples contradict those stored before, which stay: %s", conflict)
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
            new_samples=self._new,
            duplicate_samples=self._duplicate,
            conflicts=self._conflicts,
            unassigned_samples=self._unassigned,
            dropped_blocks=self._dropped,
            set_aside_blocks=self._set_aside,
            rejected_payloads=self._rejected,
            fault=self._fault,
            nodes=tuple(
                NodeStatus(node, known.online, known.incarnation, known.progress.watermark)
                for node, known in self._nodes.items()
            ),
        )


def _aside(event: BlockRejected) -> bytes:
    """Return everything that is known of a block that made no sense, as JSON."""
    document = {
        "group": event.node.group,
        "gateway": event.node.name,
        "incarnation": event.incarnation,
        "spool_seq": event.spool_seq,
        "device": event.device,
        "reason": event.reason,
        "streams": {alias: json.loads(stream.to_json()) for alias, stream in event.streams.items()},
        "payload_base64": base64.b64encode(event.payload).decode(),
    }
    return json.dumps(document, indent=1).encode()
