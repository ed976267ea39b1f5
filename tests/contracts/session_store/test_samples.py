"""Samples: written in any order and as often as one likes, read back once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab_api.store.content_hash import content_hash
from lab_api.store.session_store import (
    AmbiguousStreamError,
    AnnotationSet,
    Extent,
    Segment,
    Session,
    SessionDevice,
    SessionStore,
    StreamKey,
    StreamNotFoundError,
    TooManySamplesError,
    WriteResult,
)
from protocols.samples import DTYPES, Channel, SampleBlock, Stream
from tests.contracts.session_store.recordings import (
    DEVICE,
    GATEWAY,
    OPENED_NS,
    indices_of,
    make_block,
    make_stream,
    open_session,
    read,
    write,
)

REUSE_STORE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_neighbouring_blocks_are_read_as_one_segment(store: SessionStore, session: Session) -> None:
    result = write(store, session, make_block(0, 250), make_block(250, 100), make_block(350, 1))

    (segment,) = read(store, session).segments
    whole = make_block(0, 351)
    assert result == WriteResult(new=351)
    assert (segment.boot_id, segment.first_index, segment.start_ns) == (7, 0, OPENED_NS)
    assert np.array_equal(segment.values, whole.values)
    assert np.array_equal(segment.times_ns, whole.sample_times_ns())


def test_a_missing_index_starts_a_new_segment(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(0, 50), make_block(51, 49))

    segments = read(store, session).segments

    assert [(s.first_index, s.n_samples) for s in segments] == [(0, 50), (51, 49)]


def test_a_new_boot_starts_a_new_segment(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(10, 10, boot_id=8), make_block(0, 10), make_block(10, 10, boot_id=9))

    segments = read(store, session).segments

    assert [(s.boot_id, s.first_index) for s in segments] == [(7, 0), (8, 10), (9, 10)]


def test_a_reading_can_be_taken_as_one_array(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(0, 50), make_block(60, 40))

    reading = read(store, session)

    assert reading.n_samples == 90
    assert np.array_equal(reading.values(), np.delete(make_block(0, 100).values, np.s_[50:60], axis=1))
    assert np.array_equal(reading.physical(), reading.values() * 2.5)
    assert np.array_equal(reading.times_ns(), np.delete(make_block(0, 100).sample_times_ns(), np.s_[50:60]))


def test_an_empty_range_reads_as_an_empty_array(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(0, 50))

    reading = read(store, session, start_ns=OPENED_NS + 10**12)

    assert reading.segments == ()
    assert (reading.values().shape, reading.values().dtype) == ((2, 0), np.int16)
    assert (reading.times_ns().shape, reading.times_ns().dtype) == ((0,), np.int64)


def test_what_is_read_cannot_be_altered(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(0, 50))
    (segment,) = read(store, session).segments

    with pytest.raises(ValueError, match="read-only"):
        segment.values[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        segment.times_ns[0] = 1


def test_the_same_blocks_again_are_counted_as_duplicates(store: SessionStore, session: Session) -> None:
    blocks = [make_block(0, 50), make_block(50, 50)]
    write(store, session, *blocks)

    assert write(store, session, *reversed(blocks)) == WriteResult(duplicate=100)
    assert read(store, session).n_samples == 100


def test_duplicates_are_known_after_a_restart(make_store: Callable[[], SessionStore]) -> None:
    store = make_store()
    session = open_session(store)
    write(store, session, make_block(0, 50))
    store.close()

    assert write(make_store(), session, make_block(40, 20)) == WriteResult(new=10, duplicate=10)


def test_an_overlap_is_stored_once(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(10, 10), make_block(30, 10))

    assert write(store, session, make_block(0, 60)) == WriteResult(new=40, duplicate=20)
    assert indices_of(read(store, session)) == [(7, i) for i in range(60)]


def test_another_value_under_a_known_identity_is_a_conflict(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(0, 50))
    other = make_block(40, 30, shift=1)

    result = write(store, session, other)

    (conflict,) = result.conflicts
    assert (result.new, result.duplicate) == (20, 0)
    assert (conflict.boot_id, conflict.first_index, conflict.n_samples) == (7, 40, 10)
    assert (conflict.session_id, conflict.gateway, conflict.device, conflict.stream) == (
        session.id,
        GATEWAY,
        DEVICE,
        "ecg",
    )
    assert np.array_equal(read(store, session).values()[:, :50], make_block(0, 50).values)


def test_another_time_under_a_known_identity_is_a_conflict(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(0, 50))

    result = write(store, session, make_block(0, 50, offset_ns=1_000_000))

    assert [c.n_samples for c in result.conflicts] == [50]
    assert read(store, session).times_ns()[0] == OPENED_NS


def test_one_changed_bit_is_a_conflict_even_in_a_nan(store: SessionStore, session: Session) -> None:
    stream = make_stream(dtype="float64", n_channels=1)
    payloads = np.array([[0x7FF8_0000_0000_0001, 0xFFF8_0000_0000_0002]], dtype=np.uint64)
    first = float_block(stream, payloads.view(np.float64))
    second = float_block(stream, (payloads ^ np.array([[0, 1]], dtype=np.uint64)).view(np.float64))
    write(store, session, first)

    (conflict,) = write(store, session, second).conflicts

    assert (conflict.first_index, conflict.n_samples) == (1, 1)
    assert read(store, session).values().tobytes() == payloads.tobytes()


def float_block(stream: Stream, values: np.ndarray) -> SampleBlock:
    return SampleBlock(DEVICE, stream, 0, 0, OPENED_NS, values, 0, 0, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_samples", [1, 3, 400])
def test_any_bits_come_back_unchanged(
    store: SessionStore, session: Session, rng: np.random.Generator, dtype: str, n_samples: int
) -> None:
    itemsize = np.dtype(dtype).itemsize
    for n_channels, scale in ((1, 1), (3, 1), (3, 0)):
        stream = make_stream(dtype=dtype, n_channels=n_channels, name=f"s{n_channels}{scale}")
        noise = rng.integers(0, 256, (n_channels, n_samples * itemsize), dtype=np.uint8) * np.uint8(scale)
        block = float_block(stream, noise.view(dtype))
        write(store, session, block)
        (segment,) = read(store, session, stream.name).segments
        assert segment.values.dtype == np.dtype(dtype)
        assert segment.values.tobytes() == block.values.tobytes()


def test_the_ends_of_an_integer_type_come_back_unchanged(store: SessionStore, session: Session) -> None:
    for dtype in ("int8", "int16", "int32", "int64", "uint64"):
        limits = np.iinfo(dtype)
        stream = make_stream(dtype=dtype, n_channels=1, name=dtype)
        values = np.array([[limits.min, limits.max] * 400], dtype=dtype)
        write(store, session, float_block(stream, values))
        assert np.array_equal(read(store, session, dtype).values(), values)


@pytest.mark.parametrize("boot_id", [0, (1 << 63) - 1])
@pytest.mark.parametrize("first_index", [0, (1 << 63) - 10])
def test_identities_may_use_all_63_bits(
    store: SessionStore, session: Session, boot_id: int, first_index: int
) -> None:
    values = np.zeros((1, 10), np.int16)
    block = SampleBlock(DEVICE, make_stream(n_channels=1), boot_id, first_index, OPENED_NS, values, 0, 0, 0)
    write(store, session, block)

    assert write(store, session, block) == WriteResult(duplicate=10)
    (segment,) = read(store, session).segments
    assert (segment.boot_id, segment.first_index) == (boot_id, first_index)


def test_irregular_samples_keep_their_own_times(store: SessionStore, session: Session) -> None:
    stream = make_stream(rate_hz=None, name="rr", n_channels=1)
    write(store, session, make_block(3, 4, stream=stream), make_block(0, 3, stream=stream))

    (segment,) = read(store, session, "rr").segments

    assert np.array_equal(segment.times_ns, make_block(0, 7, stream=stream).times_ns)
    assert np.array_equal(segment.values, make_block(0, 7, stream=stream).values)


def test_a_segment_states_the_largest_uncertainty(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(0, 5, uncertainty_ns=9), make_block(5, 5, uncertainty_ns=3))

    assert [s.uncertainty_ns for s in read(store, session).segments] == [9]


def test_a_range_is_half_open(store: SessionStore, session: Session) -> None:
    write(store, session, *(make_block(i, 50) for i in range(0, 500, 50)))
    times_ns = make_block(0, 500).sample_times_ns()

    reading = read(store, session, start_ns=int(times_ns[33]), end_ns=int(times_ns[217]))

    assert indices_of(reading) == [(7, i) for i in range(33, 217)]
    assert np.array_equal(reading.times_ns(), times_ns[33:217])
    assert read(store, session, start_ns=int(times_ns[33]), end_ns=int(times_ns[33])).n_samples == 0
    assert read(store, session, start_ns=int(times_ns[40]), end_ns=int(times_ns[33])).n_samples == 0
    assert read(store, session, start_ns=-(10**30), end_ns=10**30).n_samples == 500


def test_only_the_sessions_own_interval_is_read(store: SessionStore) -> None:
    session = open_session(store, opened_ns=OPENED_NS + 4_000_000)
    write(store, session, make_block(0, 100))
    hash_open = store.content_hash(session.id)
    store.close_session(session.id, closed_ns=OPENED_NS + 4_000_000 * 60)

    assert indices_of(read(store, session)) == [(7, i) for i in range(1, 60)]
    assert read(store, session, start_ns=0, end_ns=1 << 62).n_samples == 59
    key = StreamKey(GATEWAY, DEVICE, make_stream())
    assert store.extent(session.id, key) == Extent(59, OPENED_NS + 4_000_000, OPENED_NS + 4_000_000 * 59)
    assert store.content_hash(session.id) != hash_open


def test_the_extent_of_a_stream_is_known(store: SessionStore, session: Session) -> None:
    blocks = [make_block(0, 50), make_block(100, 50)]
    write(store, session, *blocks)

    extent = store.extent(session.id, StreamKey(GATEWAY, DEVICE, make_stream()))

    assert extent == Extent(100, OPENED_NS, int(blocks[1].sample_times_ns()[-1]))


def test_a_stream_outside_the_sessions_interval_has_no_extent(store: SessionStore) -> None:
    session = open_session(store, opened_ns=OPENED_NS + 10**12)
    write(store, session, make_block(0, 50))

    assert store.extent(session.id, StreamKey(GATEWAY, DEVICE, make_stream())) is None
    assert read(store, session).segments == ()


def test_more_samples_than_wanted_are_refused(store: SessionStore, session: Session) -> None:
    write(store, session, *(make_block(i, 50) for i in range(0, 500, 50)))

    assert read(store, session, max_samples=500).n_samples == 500
    with pytest.raises(TooManySamplesError, match="499"):
        read(store, session, max_samples=499)
    assert read(store, session, max_samples=50, end_ns=OPENED_NS + 200_000_000).n_samples == 50


def test_streams_are_listed_in_the_order_of_their_first_block(store: SessionStore, session: Session) -> None:
    pleth, spo2 = make_stream(name="pleth"), make_stream(name="spo2", rate_hz=None)
    write(store, session, make_block(0, 5, stream=spo2), make_block(0, 5, stream=pleth))
    store.write({session.id: [("gw-2", make_block(0, 5, stream=pleth))]})

    assert store.streams(session.id) == [
        StreamKey(GATEWAY, DEVICE, spo2),
        StreamKey(GATEWAY, DEVICE, pleth),
        StreamKey("gw-2", DEVICE, pleth),
    ]


def test_the_same_names_at_another_gateway_are_another_stream(store: SessionStore, session: Session) -> None:
    write(store, session, make_block(0, 5))
    store.write({session.id: [("gw-2", make_block(0, 9, shift=4))]})

    assert read(store, session).n_samples == 5
    assert store.read(session.id, "gw-2", DEVICE, "ecg").n_samples == 9


@pytest.mark.parametrize("where", [("gw-2", DEVICE, "ecg"), (GATEWAY, "x", "ecg"), (GATEWAY, DEVICE, "x")])
def test_an_unknown_stream_is_reported_as_not_found(
    store: SessionStore, session: Session, where: tuple[str, str, str]
) -> None:
    write(store, session, make_block(0, 5))

    with pytest.raises(StreamNotFoundError, match="/".join(where)):
        store.read(session.id, *where)


def test_a_stream_that_changed_is_read_by_its_description(store: SessionStore, session: Session) -> None:
    slow, fast = make_stream(rate_hz=125.0), make_stream(rate_hz=250.0)
    write(store, session, make_block(0, 5, stream=slow), make_block(0, 9, stream=fast, boot_id=8))

    with pytest.raises(AmbiguousStreamError, match="2 descriptions"):
        read(store, session)
    assert read(store, session, slow).n_samples == 5
    assert read(store, session, fast).n_samples == 9


def test_one_write_may_serve_several_sessions(store: SessionStore) -> None:
    one, two = open_session(store), open_session(store)

    result = store.write({one.id: [(GATEWAY, make_block(0, 5))], two.id: [(GATEWAY, make_block(0, 7))]})

    assert result == WriteResult(new=12)
    assert (read(store, one).n_samples, read(store, two).n_samples) == (5, 7)


def test_a_closed_session_still_takes_late_blocks(store: SessionStore, session: Session) -> None:
    store.close_session(session.id, closed_ns=OPENED_NS + 10**9)
    write(store, session, make_block(0, 50))

    assert read(store, session).n_samples == 50


N_SAMPLES = 120
PIECES = st.lists(
    st.tuples(st.integers(0, N_SAMPLES - 1), st.integers(1, 40), st.integers(0, 1)), min_size=1, max_size=12
)


@REUSE_STORE
@given(pieces=PIECES, rate_hz=st.sampled_from([250.0, 130.0, 360.0, None]), order=st.randoms())
def test_any_arrangement_of_blocks_reads_back_each_sample_once(
    store: SessionStore, pieces: list[tuple[int, int, int]], rate_hz: float | None, order: object
) -> None:
    stream = make_stream(rate_hz=rate_hz)
    blocks = [
        make_block(first, min(n, N_SAMPLES - first), stream=stream, boot_id=boot) for first, n, boot in pieces
    ]
    shuffled = list(blocks)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    session, other = open_session(store), open_session(store)

    result = write(store, session, *blocks)
    for block in shuffled:
        write(store, other, block)

    expected = sorted({(b.boot_id, b.first_index + i) for b in blocks for i in range(b.n_samples)})
    for reading in (read(store, session), read(store, other)):
        assert indices_of(reading) == expected
        for s in reading.segments:
            whole = make_block(s.first_index, s.n_samples, stream=stream, boot_id=s.boot_id)
            assert np.array_equal(s.values, whole.values)
            assert np.abs(s.times_ns - whole.sample_times_ns()).max() <= 1
    assert result.new == len(expected)
    assert result.new + result.duplicate == sum(b.n_samples for b in blocks)
    assert result.conflicts == ()


@REUSE_STORE
@given(pieces=PIECES, rate_hz=st.sampled_from([250.0, None]), bounds=st.tuples(*[st.integers(-5, 125)] * 2))
def test_any_range_reads_what_the_whole_holds_of_it(
    store: SessionStore,
    pieces: list[tuple[int, int, int]],
    rate_hz: float | None,
    bounds: tuple[int, int],
) -> None:
    stream = make_stream(rate_hz=rate_hz)
    session = open_session(store)
    write(store, session, *(make_block(f, n, stream=stream, boot_id=b) for f, n, b in pieces))
    start_ns, end_ns = (OPENED_NS + bound * 4_000_000 for bound in bounds)

    whole, part = read(store, session), read(store, session, start_ns=start_ns, end_ns=end_ns)

    inside = (whole.times_ns() >= start_ns) & (whole.times_ns() < end_ns)
    assert np.array_equal(part.values(), whole.values()[:, inside])
    assert np.array_equal(part.times_ns(), whole.times_ns()[inside])
    assert indices_of(part) == [i for i, keep in zip(indices_of(whole), inside, strict=True) if keep]


def test_content_hash_depends_on_content_alone(store: SessionStore) -> None:
    session = open_session(store)
    marks = AnnotationSet("atr-1", GATEWAY, DEVICE, "ecg", 250.0, np.array([1], dtype=np.int64), ("N",))
    write(store, session, make_block(100, 50), make_block(0, 20))
    partial = store.content_hash(session.id)
    write(store, session, make_block(10, 90))
    complete = store.content_hash(session.id)
    write(store, session, make_block(0, 150))

    assert len(complete) == 64
    assert complete != partial
    assert store.content_hash(session.id) == complete
    store.annotate(session.id, marks)
    assert store.content_hash(session.id) != complete


def test_content_hash_is_the_same_in_whatever_pieces_content_came(store: SessionStore) -> None:
    session = open_session(store)
    write(store, session, *(make_block(i, 7) for i in range(98, -7, -7)))
    key = StreamKey(GATEWAY, DEVICE, make_stream())
    whole, boot = make_block(0, 105), make_block(0, 105).boot_id
    segment = Segment(boot, 0, OPENED_NS, whole.values, whole.sample_times_ns(), 1000)

    assert store.content_hash(session.id) == content_hash(session, [(key, [segment])], [])


def test_live_reads_see_only_whole_writes(store: SessionStore, session: Session) -> None:
    counts: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            reading = read(store, session)
            assert len(reading.segments) == 1
            counts.append(reading.n_samples)

    write(store, session, make_block(0, 10))
    watcher = threading.Thread(target=watch)
    watcher.start()
    for i in range(1, 200):
        write(store, session, make_block(i * 10, 5), make_block(i * 10 + 5, 5))
    stop.set()
    watcher.join()

    assert counts == sorted(counts)
    assert all(count % 10 == 0 for count in counts)
    assert len(counts) > 1


def test_a_day_of_one_channel_is_written_and_read_in_seconds(store: SessionStore, session: Session) -> None:
    stream = make_stream(n_channels=1)
    values = (np.arange(86_400 * 250) % 1021).astype(np.int16)[np.newaxis]
    blocks = [
        SampleBlock(
            DEVICE, stream, 1, i * 250, OPENED_NS + i * 10**9, values[:, i * 250 : i * 250 + 250], 0, 0, 0
        )
        for i in range(86_400)
    ]
    started = time.perf_counter()
    for i in range(0, len(blocks), 1000):
        write(store, session, *blocks[i : i + 1000])
    written = time.perf_counter()
    (segment,) = read(store, session).segments
    done = time.perf_counter()

    assert np.array_equal(segment.values, values)
    assert written - started < 60
    assert done - written < 20


def test_devices_of_a_session_do_not_limit_what_is_written(store: SessionStore) -> None:
    session = open_session(store, devices=[SessionDevice("test", "elsewhere", "d")])

    assert write(store, session, make_block(0, 5)).new == 5


def test_channels_keep_their_description(store: SessionStore, session: Session) -> None:
    stream = Stream("spo2", (Channel("spo2", "%", mdc=150456, scale=0.1, offset=-3.5),), "uint16", 1.0)
    block = SampleBlock(DEVICE, stream, 0, 0, OPENED_NS, np.array([[971]], np.uint16), 0, 0, 0)
    write(store, session, block)

    reading = read(store, session, "spo2")

    assert reading.stream == stream
    assert reading.physical()[0, 0] == pytest.approx(93.6)
