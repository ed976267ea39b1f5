from __future__ import annotations

import binascii
import re
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocols.devices import fablab
from protocols.devices.framing import cobs_decode, cobs_encode
from protocols.devices.kind import SERIAL_SOURCE
from protocols.devices.registry import device_kind
from protocols.errors import DecodeError, DefinitionError

DOCUMENT = Path(__file__).parents[3] / "docs" / "fablab_frame.md"
WIDTHS = {"int16": 16, "int24": 24}


def prototype(n_channels: int, sample_type: str, rate_hz: float = 500.0):
    channels = [{"name": f"ch{k}", "unit": "uV"} for k in range(n_channels)]
    return device_kind("fablab", {"channels": channels, "rate_hz": rate_hz, "sample_type": sample_type})


@st.composite
def frames(draw):
    sample_type = draw(st.sampled_from(["int16", "int24"]))
    half = 1 << WIDTHS[sample_type] - 1
    shape = draw(st.tuples(st.integers(1, 8), st.integers(1, 20)))
    values = draw(hnp.arrays(np.int32, shape, elements=st.integers(-half, half - 1)))
    return values, {
        "boot": draw(st.integers(0, 65535)),
        "counter": draw(st.integers(0, 2**40)),
        "device_us": draw(st.integers(0, 2**40)),
        "sample_type": sample_type,
    }


@given(frames())
def test_a_frame_comes_back_as_it_was_sent(frame):
    values, header = frame
    data = fablab.encode_frame(values, **header)
    assert data.count(0) == 1
    decoded = prototype(len(values), header["sample_type"]).new_decoder().feed(SERIAL_SOURCE, data)
    (samples,) = decoded.samples
    np.testing.assert_array_equal(samples.values, values)
    assert samples.boot == header["boot"]
    assert samples.counter == header["counter"] % 2**32
    assert samples.device_ns == header["device_us"] % 2**32 * 1000


@pytest.mark.parametrize("sample_type", ["int16", "int24"])
def test_every_single_flipped_bit_of_a_frame_is_detected(sample_type):
    values = np.arange(-20, 20).reshape(4, 10) * 1000
    data = fablab.encode_frame(values, boot=1, counter=2, device_us=3, sample_type=sample_type)
    for bit in range(8 * len(data)):
        octets = bytearray(data)
        octets[bit // 8] ^= 1 << bit % 8
        decoder = prototype(4, sample_type).new_decoder()
        decoded = decoder.feed(SERIAL_SOURCE, bytes(octets) + b"\0")
        assert not decoded.samples, bit
        assert decoded.errors, bit
        assert decoder.feed(SERIAL_SOURCE, data).samples


@given(frames(), st.data())
def test_a_frame_cut_short_anywhere_is_one_error(frame, data):
    values, header = frame
    encoded = fablab.encode_frame(values, **header)
    length = data.draw(st.integers(1, len(encoded) - 2))
    decoder = prototype(len(values), header["sample_type"]).new_decoder()
    decoded = decoder.feed(SERIAL_SOURCE, encoded[:length] + b"\0" + encoded)
    assert len(decoded.samples) == 1
    assert len(decoded.errors) == 1


@pytest.mark.parametrize(
    ("values", "change", "message"),
    [
        ([[1 << 15]], {}, "samples=32768 of fablab_frame, expected -32768 to 32767"),
        ([[-(1 << 23) - 1]], {"sample_type": "int24"}, "samples=-8388609"),
        ([[1]], {"boot": 65536}, "boot=65536"),
        ([[1]], {"boot": -1}, "boot=-1"),
        ([1, 2], {}, r"values of shape \(2,\), expected \(n_channels, n_samples\)"),
        (np.zeros((0, 4), int), {}, r"values of shape \(0, 4\)"),
        (np.zeros((1, 256), int), {}, "n_samples=256"),
        (np.zeros((256, 1), int), {}, "n_channels=256"),
        (np.zeros((20, 200), int), {}, "make 8016 bytes, expected at most 4096"),
        ([[0.5, float("nan")]], {}, "samples=nan"),
        ([[1]], {"sample_type": "int32"}, "sample_type='int32'"),
    ],
)
def test_what_does_not_fit_a_frame_is_not_sent(values, change, message):
    with pytest.raises(DefinitionError, match=message):
        fablab.encode_frame(np.asarray(values), **({"boot": 1, "counter": 2, "device_us": 3} | change))


def test_the_devices_clock_runs_on_beyond_32_bits_until_it_boots_again():
    decoder = prototype(1, "int16").new_decoder()
    stamps = []
    for boot, device_us in ((5, 2**32 - 10), (5, 2**32 + 20), (5, 2**32 + 15), (5, 2**33 + 1), (6, 4)):
        data = fablab.encode_frame(np.array([[1]]), boot=boot, counter=0, device_us=device_us)
        (samples,) = decoder.feed(SERIAL_SOURCE, data).samples
        stamps.append((samples.boot, samples.device_ns))
    in_us = [(boot, device_ns // 1000) for boot, device_ns in stamps]
    assert in_us[:3] == [(5, 2**32 - 10), (5, 2**32 + 20), (5, 2**32 + 15)]
    assert in_us[4] == (6, 4)


def test_a_frame_that_contradicts_the_configuration_is_an_error_that_names_both():
    decoder = prototype(2, "int16").new_decoder()
    header = {"boot": 1, "counter": 2, "device_us": 3}
    for values, sample_type in (([[1]], "int16"), ([[1], [2]], "int24")):
        data = fablab.encode_frame(np.array(values), **header, sample_type=sample_type)
        (error,) = decoder.feed(SERIAL_SOURCE, data).errors
        assert "expected 2 of 16 as configured" in str(error)


def test_counts_that_contradict_the_length_are_refused():
    good = {"int24": 0, "boot": 1, "counter": 2, "device_us": 3, "n_channels": 2, "n_samples": 2}
    with pytest.raises(DecodeError, match="3 numbers in a fablab_frame, expected 2 times 2"):
        fablab.decode_frame(fablab.FRAME.encode(good | {"samples": [1, 2, 3]}))


def test_8_channels_of_24_bits_at_2_khz_are_decoded_in_a_fraction_of_the_time():
    values = np.random.default_rng(1).integers(-(1 << 23), 1 << 23, (8, 20))
    stream = b"".join(
        fablab.encode_frame(values, boot=1, counter=20 * k, device_us=10_000 * k, sample_type="int24")
        for k in range(100)
    )
    decoder = prototype(8, "int24", 2000.0).new_decoder()
    start = time.perf_counter()
    decoded = decoder.feed(SERIAL_SOURCE, stream)
    assert time.perf_counter() - start < 0.5
    assert sum(samples.values.shape[1] for samples in decoded.samples) == 2000
    assert 10 * len(stream) < 921_600


@settings(max_examples=50)
@given(st.lists(st.tuples(frames(), st.binary(max_size=20)), max_size=4), st.lists(st.integers(0, 10_000)))
def test_samples_and_errors_do_not_depend_on_how_the_stream_is_cut(pieces, cuts):
    stream = b"".join(
        noise + b"\0" + fablab.encode_frame(values, **header) for (values, header), noise in pieces
    )
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    whole = prototype(2, "int16").new_decoder().feed(SERIAL_SOURCE, stream)
    decoder = prototype(2, "int16").new_decoder()
    parts = [decoder.feed(SERIAL_SOURCE, stream[a:b]) for a, b in pairwise(edges)]
    errors = sorted(str(error) for part in parts for error in part.errors)
    assert errors == sorted(str(error) for error in whole.errors)
    counters = [samples.counter for part in parts for samples in part.samples]
    assert counters == [samples.counter for samples in whole.samples]


def test_the_crc_has_its_published_check_value():
    assert binascii.crc_hqx(b"123456789", 0xFFFF) == 0x29B1


def test_the_documents_worked_example_is_what_the_encoder_makes():
    before, after = (
        bytes.fromhex("".join(re.findall(r"\b[0-9a-f]{2}\b", block)))
        for block in re.findall(r"```hex\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    )
    values = np.array([[1, 2, 3], [-1, 0, 256]])
    assert fablab.encode_frame(values, boot=0x1234, counter=1000, device_us=2_000_000) == after
    assert cobs_decode(after[:-1]) == before
    assert cobs_encode(before) + b"\0" == after
    np.testing.assert_array_equal(fablab.decode_frame(before)["samples"], values)
