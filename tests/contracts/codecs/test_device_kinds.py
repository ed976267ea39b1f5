"""What every device kind keeps to, whatever its bytes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.devices import battery, device_information, fablab, heart_rate, nonin, polar, pulse_oximeter
from protocols.devices.kind import SERIAL_SOURCE, BleLink, Decoded, DeviceKind, SerialLink
from protocols.devices.registry import KINDS, device_kind
from protocols.errors import DecodeError

OPTIONS = {
    "fablab": {
        "channels": [{"name": "red", "unit": "nA"}, {"name": "infrared", "unit": "nA"}],
        "rate_hz": 500.0,
        "sample_type": "int24",
    }
}
GOOD = [
    heart_rate.MEASUREMENT.encode({"heart_rate": 60, "sensor_contact": 3, "rr": [1.0, 0.9]}),
    pulse_oximeter.CONTINUOUS.encode({"spo2": 98, "pulse_rate": 60, "pulse_amplitude_index": 2.5}),
    battery.LEVEL.encode({"level": 80}),
    device_information.STRING.encode({"text": "Living Lab"}),
    polar.ECG_FRAME.encode({"timestamp_ns": 10**18, "ecg": list(range(-36, 37))}),
    polar.control_reply(polar.QUERY_ECG, streaming=False),
    polar.control_reply(polar.START_ECG, streaming=True),
    nonin.PACKET.encode({"status": [0] * 25, "pleth": list(range(25)), "spo2": 97, "pulse_rate": 61}),
    fablab.encode_frame(np.arange(20).reshape(2, 10), boot=1, counter=2, device_us=3, sample_type="int24"),
]


@pytest.fixture(scope="module", params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> DeviceKind:
    return device_kind(request.param, OPTIONS.get(request.param))


def sources(kind: DeviceKind) -> list[str]:
    if isinstance(kind.link, SerialLink):
        return [SERIAL_SOURCE]
    return [c.uuid for service in kind.link.services for c in service.characteristics]


def check(kind: DeviceKind, decoded: Decoded) -> None:
    for samples in decoded.samples:
        stream = kind.stream(samples.stream)
        assert samples.values.dtype == np.dtype(stream.dtype)
        assert samples.values.ndim == 2
        assert samples.values.shape[0] == len(stream.channels)
        assert samples.values.shape[1] >= 1
        modulus = kind.counter_modulus.get(samples.stream)
        assert (samples.counter is None) == (modulus is None)
        assert modulus is None or 0 <= samples.counter < modulus
        if samples.offsets_ns is not None:
            assert stream.rate_hz is None
            assert samples.offsets_ns.shape == (samples.values.shape[1],)
            assert samples.offsets_ns.dtype == np.int64
            assert (samples.offsets_ns <= 0).all()
            assert (np.diff(samples.offsets_ns) >= 0).all()
        assert samples.device_ns is None or isinstance(samples.device_ns, int)
    assert all(isinstance(error, DecodeError) for error in decoded.errors)
    assert all(isinstance(text, str) for item in decoded.properties.items() for text in item)


def as_text(decoded: Decoded) -> list[str]:
    return [f"{s.stream} {s.counter} {s.device_ns} {s.values.tolist()}" for s in decoded.samples] + [
        str(error) for error in decoded.errors
    ]


@settings(max_examples=200)
@given(data=st.data())
def test_no_bytes_make_a_decoder_raise_or_break_its_streams(kind, data):
    decoder = kind.new_decoder()
    places = st.sampled_from(sources(kind)) | st.just("0000dead-0000-1000-8000-00805f9b34fb")
    pieces = st.binary(max_size=150) | st.sampled_from(GOOD)
    for source, piece in data.draw(st.lists(st.tuples(places, pieces), max_size=6)):
        check(kind, decoder.feed(source, piece))


@pytest.mark.parametrize("good", GOOD, ids=range(len(GOOD)))
def test_a_good_frame_cut_anywhere_makes_no_decoder_raise(kind, good):
    for source in sources(kind):
        decoder = kind.new_decoder()
        for length in range(len(good)):
            check(kind, decoder.feed(source, good[:length]))


@given(pieces=st.lists(st.sampled_from(GOOD) | st.binary(max_size=50), max_size=5), chunk=st.integers(1, 40))
def test_serial_decoders_do_not_care_how_the_stream_is_cut(kind, pieces, chunk):
    if not isinstance(kind.link, SerialLink):
        return
    stream = b"".join(pieces)
    whole = as_text(kind.new_decoder().feed(SERIAL_SOURCE, stream))
    decoder = kind.new_decoder()
    parts = [decoder.feed(SERIAL_SOURCE, stream[k : k + chunk]) for k in range(0, len(stream), chunk)]
    assert sorted(line for part in parts for line in as_text(part)) == sorted(whole)


def test_a_new_decoder_starts_afresh(kind):
    for source in sources(kind):
        for good in GOOD:
            used = kind.new_decoder()
            used.feed(source, good[: len(good) // 2])
            assert as_text(kind.new_decoder().feed(source, good)) == as_text(
                kind.new_decoder().feed(source, good)
            )


def test_the_kind_is_known_by_its_own_name(kind):
    assert kind.name in KINDS
    assert kind.title
    names = [stream.name for stream in kind.streams]
    assert len(set(names)) == len(names) >= 1
    assert set(kind.counter_modulus) <= set(names)


def test_the_link_is_usable(kind):
    if isinstance(kind.link, SerialLink):
        assert kind.link.baudrate > 0
        return
    assert isinstance(kind.link, BleLink)
    table = {c.uuid: c.properties for service in kind.link.services for c in service.characteristics}
    everything = [*table, *(service.uuid for service in kind.link.services)]
    assert len(set(everything)) == len(everything)
    for uuid in everything:
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", uuid)
    assert all("read" in table[uuid] for uuid in kind.link.reads)
    assert all("write" in table[write.characteristic] for write in kind.link.startup)


def test_every_characteristic_of_the_table_has_a_codec(kind):
    decoder = kind.new_decoder()
    for source in sources(kind):
        for error in decoder.feed(source, b"").errors:
            assert "expected one of the device kind" not in str(error)
