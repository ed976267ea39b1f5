"""Frames decoded again meet the samples that came from them, whatever happened to the connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from gateway.assembly import DeviceAssembler
from gateway.clock import BootIds
from gateway.transport import Frame
from lab_api.redecoding import StreamComparison, best, candidates, redecode
from lab_api.store.session_store import Session, SessionDevice
from lab_api.store.sqlite import SqliteSessionStore
from protocols.devices.fablab import encode_frame, fablab
from protocols.devices.kind import SERIAL_SOURCE
from protocols.devices.nonin import nonin_7
from protocols.errors import DefinitionError
from protocols.frames import FrameBlock
from protocols.gaps import Gap, GapReason
from protocols.samples import Channel

OPENED_NS = 1_790_000_000_000_000_000
KIND = fablab(channels=[Channel("red", "1"), Channel("infrared", "1")], rate_hz=100.0, sample_type="int24")
N_SAMPLES = 10  # to a frame
STEP_NS = N_SAMPLES * 10_000_000


def serial_bytes(number: int) -> bytes:
    values = np.random.default_rng(number).integers(-9000, 9000, (2, N_SAMPLES), dtype=np.int32)
    counter, device_us = number * N_SAMPLES, number * STEP_NS // 1000
    return encode_frame(values, boot=1, counter=counter, device_us=device_us, sample_type="int24")


def arrivals(numbers: Sequence[int]) -> Iterator[Frame]:
    """Yield what a port brings: two reads for every frame, so that a connection may end within one."""
    for number in numbers:
        data, arrival_ns = serial_bytes(number), OPENED_NS + (number + 1) * STEP_NS + number % 3 * 100_000
        for i, part in enumerate((data[:20], data[20:])):
            yield Frame(SERIAL_SOURCE, part, arrival_ns + i, arrival_ns + i - OPENED_NS)


def frame_blocks(connections: Sequence[Sequence[Frame]]) -> list[FrameBlock]:
    return [
        FrameBlock(
            "ppg",
            connection_id,
            0,
            tuple(frame.source for frame in frames),
            tuple(frame.data for frame in frames),
            np.array([frame.arrival_ns for frame in frames], np.int64),
            np.array([frame.arrival_monotonic_ns for frame in frames], np.int64),
        )
        for connection_id, frames in enumerate(connections, 1)
    ]


def record(
    store: SqliteSessionStore, connections: Sequence[Sequence[Frame]], *, opened_ns: int = OPENED_NS
) -> Session:
    """Store frames and what the gateway makes of them, in blocks of several frames."""
    session = store.open_session(
        subject="S-1", devices=[SessionDevice("test", "gw", "ppg")], opened_ns=opened_ns
    )
    assembler = DeviceAssembler("ppg", KIND, BootIds())
    blocks = []
    for i, frames in enumerate(connections):
        if i:
            assembler.reconnected()
        for n, frame in enumerate(frames):
            blocks += assembler.feed(frame)[1]
            if n % 7 == 6:
                blocks += assembler.flush()
        blocks += assembler.flush()
    parts = [part for block in blocks if (part := block.between(opened_ns, 1 << 62)) is not None]
    frames_parts = [p for b in frame_blocks(connections) if (p := b.between(opened_ns, 1 << 62)) is not None]
    store.write({session.id: [("gw", record) for record in (*parts, *frames_parts)]})
    return session


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteSessionStore]:
    with SqliteSessionStore(tmp_path) as store:
        yield store


def compared(store: SqliteSessionStore, session: Session) -> StreamComparison:
    (comparison,) = redecode(store, session.id, "gw", "ppg", KIND).streams
    return comparison


def counts(comparison: StreamComparison) -> tuple[int, int, int, int]:
    c = comparison
    return c.identical, c.differing, c.only_stored, c.only_redecoded


def test_all_samples_are_identical(store: SqliteSessionStore) -> None:
    session = record(store, [list(arrivals(range(100)))])

    assert counts(compared(store, session)) == (1000, 0, 0, 0)
    assert best(store, session.id, "gw", "ppg").kind.streams == KIND.streams


def test_a_connection_that_ended_within_a_frame_does_not_disturb_the_next(store: SqliteSessionStore) -> None:
    first, second = list(arrivals(range(41)))[:-1], list(arrivals(range(60, 100)))
    session = record(store, [first, second])
    result = redecode(store, session.id, "gw", "ppg", KIND)

    assert counts(result.streams[0]) == (800, 0, 0, 0)
    assert result.n_errors == 0


def test_a_session_that_opened_within_a_connection_is_matched_by_index(store: SqliteSessionStore) -> None:
    opened_ns = OPENED_NS + 30 * STEP_NS + 53_000_000
    session = record(store, [list(arrivals(range(100)))], opened_ns=opened_ns)
    identical, differing, only_stored, only_redecoded = counts(compared(store, session))

    assert (differing, only_redecoded) == (0, 0)
    assert identical >= 690
    assert only_stored <= 10


def test_samples_whose_frames_are_missing_are_only_stored(store: SqliteSessionStore) -> None:
    frames = list(arrivals(range(100)))
    session = record(store, [frames])
    other = store.open_session(subject="S-1", devices=session.devices, opened_ns=OPENED_NS)
    (key,) = store.streams(session.id)
    assembler = DeviceAssembler("ppg", KIND, BootIds())
    blocks = [block for frame in frames for block in assembler.feed(frame)[1] + assembler.flush()]
    store.write({other.id: [("gw", block) for block in (*blocks, *frame_blocks([frames[:180]]))]})

    assert counts(compared(store, other)) == (900, 0, 100, 0)
    assert key.stream == KIND.streams[0]


def test_samples_that_were_never_stored_are_only_redecoded(store: SqliteSessionStore) -> None:
    session = store.open_session(
        subject="S-1", devices=[SessionDevice("test", "gw", "ppg")], opened_ns=OPENED_NS
    )
    store.write({session.id: [("gw", block) for block in frame_blocks([list(arrivals(range(100)))])]})
    comparison = compared(store, session)

    assert (comparison.identical, comparison.only_stored) == (0, 0)
    assert comparison.only_redecoded >= 950
    assert not comparison.agrees


@pytest.mark.parametrize(
    ("reason", "expected"), [(GapReason.GATEWAY_STOPPED, (900, 0, 0, 0, 100)), (None, (900, 0, 0, 100, 0))]
)
def test_samples_that_the_session_says_are_missing_do_not_contradict_it(
    store: SqliteSessionStore, reason: GapReason | None, expected: tuple[int, ...]
) -> None:
    frames = list(arrivals(range(100)))
    session = store.open_session(
        subject="S-1", devices=[SessionDevice("test", "gw", "ppg")], opened_ns=OPENED_NS
    )
    assembler = DeviceAssembler("ppg", KIND, BootIds())
    blocks = [block for frame in frames for block in assembler.feed(frame)[1] + assembler.flush()]
    store.write({session.id: [("gw", record) for record in (*blocks[:90], *frame_blocks([frames]))]})
    if reason is not None:
        last = blocks[89]
        start_ns, end_ns = last.start_ns + STEP_NS, OPENED_NS + 200 * STEP_NS
        index = last.first_index + N_SAMPLES - 1
        gap = Gap("ppg", last.stream, last.boot_id, index, start_ns, end_ns, None, reason)
        store.write({session.id: [("gw", gap)]})
    comparison = compared(store, session)

    assert (*counts(comparison), comparison.in_gaps) == expected
    assert comparison.agrees == (reason is not None)


def test_only_kinds_with_the_recorded_streams_are_tried() -> None:
    assert {kind.name for kind in candidates(KIND.streams)} == {"fablab"}
    nonin = candidates(nonin_7().streams)
    assert [(kind.name, bool(kind.counter_modulus)) for kind in nonin] == [
        ("nonin-7", True),
        ("nonin-7", False),
    ]
    with pytest.raises(DefinitionError, match="kind 'toaster', expected one of fablab"):
        candidates(KIND.streams, "toaster")
    with pytest.raises(DefinitionError, match="no kind polar-h10 has the recorded streams"):
        candidates(KIND.streams, "polar-h10")
