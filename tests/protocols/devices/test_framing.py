from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocols.devices.frame import Bits, Frame, Sum8
from protocols.devices.framing import CobsFramer, SyncFramer, cobs_decode, cobs_encode
from protocols.errors import DecodeError

FRAME = Frame(
    "probe",
    5,
    (Bits("value", ((1, 0, 8), (2, 0, 8))), Bits("spare", ((3, 0, 7),))),
    sync=((0, 0x81, 0x81),),
    check=Sum8(at=4, stride=5, count=1),
)


def frames_of(values: list[int]) -> bytes:
    return b"".join(FRAME.encode({"value": value}) for value in values)


def fed(framer, stream: bytes, cuts: list[int]):
    frames, errors = [], []
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        more, worse = framer.feed(stream[start:end])
        frames += more
        errors += [str(error) for error in worse]
    return frames, errors


@example(b"\x81" + bytes(10), [0, 0, 0, 0, 0], [110])
@given(st.binary(max_size=60), st.lists(st.integers(0, 65535), max_size=6), st.lists(st.integers(0, 200)))
def test_sync_frames_and_errors_do_not_depend_on_how_the_stream_is_cut(noise, values, cuts):
    stream = noise + frames_of(values) + noise
    whole, cut = fed(SyncFramer(FRAME), stream, []), fed(SyncFramer(FRAME), stream, cuts)
    assert cut == whole


@given(st.binary(max_size=60), st.lists(st.integers(0, 65535), max_size=6), st.lists(st.integers(0, 200)))
def test_cobs_frames_and_errors_do_not_depend_on_how_the_stream_is_cut(noise, values, cuts):
    stream = noise + b"\0" + b"".join(cobs_encode(bytes((v % 256, 0, 3))) + b"\0" for v in values) + noise
    whole, cut = fed(CobsFramer(20), stream, []), fed(CobsFramer(20), stream, cuts)
    assert cut == whole


@given(st.binary(max_size=100).filter(lambda noise: not any(octet & 0x81 == 0x81 for octet in noise)))
def test_the_next_good_frame_after_garbage_is_decoded(noise):
    frames, errors = SyncFramer(FRAME).feed(noise + frames_of([7, 8]))
    assert [frame["value"] for frame in frames] == [7, 8]
    assert len(errors) == -(-len(noise) // FRAME.size)


def test_each_corrupted_frame_is_one_error_and_costs_no_other():
    stream = bytearray(frames_of(list(range(10))))
    stream[5 * 3 + 2] ^= 0x10
    stream[5 * 4 + 2] ^= 0x10
    stream[5 * 8 + 4] ^= 0x01
    frames, errors = SyncFramer(FRAME).feed(bytes(stream))
    assert [frame["value"] for frame in frames] == [0, 1, 2, 5, 6, 7, 9]
    assert len(errors) == 3
    assert all("checksum" in str(error) for error in errors)


@pytest.mark.parametrize("noise", [b"\x00", b"\x81"])
@pytest.mark.parametrize("chunk", [1, 100_000])
def test_long_garbage_costs_linear_time_and_no_memory(noise, chunk):
    framer = SyncFramer(FRAME)
    start = time.perf_counter()
    for _ in range(100_000 // chunk):
        framer.feed(noise * chunk)
        assert len(framer._buffer) < FRAME.size
    assert time.perf_counter() - start < 5


def test_an_overlong_cobs_frame_is_one_error_and_the_next_frame_is_found():
    framer = CobsFramer(100)
    errors = []
    for _ in range(1000):
        frames, more = framer.feed(b"\x01" * 100)
        assert not frames
        assert len(framer._buffer) <= 110
        errors += more
    assert len(errors) == 1
    assert framer.feed(b"\0" + cobs_encode(b"good\0one") + b"\0") == ([b"good\0one"], [])


def test_a_cobs_frame_of_the_greatest_length_passes_and_one_byte_more_does_not():
    assert CobsFramer(300).feed(cobs_encode(b"\x07" * 300) + b"\0") == ([b"\x07" * 300], [])
    frames, errors = CobsFramer(300).feed(cobs_encode(b"\x07" * 301) + b"\0")
    assert not frames
    assert len(errors) == 1


@given(st.binary(max_size=1200) | st.integers(0, 1100).map(lambda n: b"\x05" * n))
def test_cobs_takes_out_every_zero_and_gives_the_data_back(data):
    encoded = cobs_encode(data)
    assert 0 not in encoded
    assert len(encoded) <= len(data) + len(data) // 254 + 1
    assert cobs_decode(encoded) == data


@pytest.mark.parametrize(
    ("data", "encoded"),
    [
        ("", "01"),
        ("00", "0101"),
        ("0000", "010101"),
        ("11220033", "0311220233"),
        ("11223344", "0511223344"),
        ("11000000", "0211010101"),
        ("01" * 254, "ff" + "01" * 254),
        ("00" + "01" * 254, "01ff" + "01" * 254),
        ("01" * 254 + "00", "ff" + "01" * 254 + "0101"),
        ("01" * 255, "ff" + "01" * 254 + "0201"),
    ],
)
def test_cobs_agrees_with_the_published_examples(data, encoded):
    assert cobs_encode(bytes.fromhex(data)).hex() == encoded
    assert cobs_decode(bytes.fromhex(encoded)).hex() == data


@given(st.binary(max_size=40))
def test_bytes_that_are_no_cobs_raise_only_decode_errors(data):
    try:
        decoded = cobs_decode(data)
    except DecodeError:
        return
    assert cobs_decode(cobs_encode(decoded)) == decoded
