"""The record that flows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import DefinitionError
from protocols.samples import Channel, SampleBlock, Stream

ECG = Stream("ecg", (Channel("lead_i", "uV", 131329, scale=2.5), Channel("lead_ii", "uV")), "int16", 250.0)
RR = Stream("rr", (Channel("rr_interval", "s", scale=1 / 1024),), "uint16", None)


def ecg_block(n: int = 10, **changes: object) -> SampleBlock:
    values = np.arange(2 * n, dtype=np.int16).reshape(2, n)
    fields: dict[str, object] = {
        "device": "strap-1",
        "stream": ECG,
        "boot_id": 7,
        "first_index": 1000,
        "start_ns": 1_700_000_000_000_000_000,
        "values": values,
        "arrival_ns": 1_700_000_000_100_000_000,
        "arrival_monotonic_ns": 5,
        "uncertainty_ns": 1_000_000,
        "device_ns": 42,
    }
    return SampleBlock(**{**fields, **changes})  # type: ignore[arg-type]


def test_values_become_physical_by_the_scale_and_offset_of_their_channel() -> None:
    physical = ecg_block().physical()
    assert physical[0, 3] == 7.5
    assert physical[1, 3] == 13.0


def test_a_block_owns_its_values_whatever_becomes_of_the_array_it_was_made_from() -> None:
    values = np.zeros((2, 4), np.int16)
    block = ecg_block(values=values)
    values[:] = 9
    assert not block.values.any()
    with pytest.raises(ValueError, match="read-only"):
        block.values[0, 0] = 1


def test_samples_are_spaced_by_the_rate() -> None:
    times_ns = ecg_block().sample_times_ns()
    assert times_ns[0] == 1_700_000_000_000_000_000
    assert set(np.diff(times_ns)) == {4_000_000}


@given(start=st.integers(-5, 15), end=st.integers(-5, 15))
def test_cutting_keeps_exactly_the_samples_in_the_half_open_interval(start: int, end: int) -> None:
    block = ecg_block()
    step_ns = 4_000_000
    cut = block.between(block.start_ns + start * step_ns, block.start_ns + end * step_ns)
    wanted = [i for i in range(10) if start <= i < end]
    if not wanted:
        assert cut is None
        return
    assert cut is not None
    assert cut.first_index == 1000 + wanted[0]
    assert cut.device_ns == 42 + wanted[0] * step_ns
    np.testing.assert_array_equal(cut.values, block.values[:, wanted])
    np.testing.assert_array_equal(cut.sample_times_ns(), block.sample_times_ns()[wanted])


def test_equality_is_bit_for_bit_even_between_nans() -> None:
    stream = Stream("spo2", (Channel("spo2", "%"),), "float64", 1.0)
    bits = np.array([0x7FF8000000000001, 0x7FF8000000000002], np.uint64).view(np.float64)
    first, second = (ecg_block(stream=stream, values=bits[i : i + 1].reshape(1, 1)) for i in (0, 1))
    assert first == ecg_block(stream=stream, values=bits[:1].reshape(1, 1))
    assert first != second


def test_a_stream_survives_its_description() -> None:
    for stream in (ECG, RR):
        assert Stream.from_json(stream.to_json()) == stream


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"name": "x"}', '{"channels": 5}', '{"channels": [{"nam": 1}]}']
)
def test_what_is_not_a_stream_description_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError, match="stream description"):
        Stream.from_json(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.zeros((1, 4), np.int16)}, "shape"),
        ({"values": np.zeros((2, 0), np.int16)}, "at least 1"),
        ({"values": np.zeros((2, 4), np.int32)}, "dtype int32, expected int16"),
        ({"device": "a/b"}, "device name"),
        ({"device": "+"}, "device name"),
        ({"boot_id": -1}, "boot_id=-1"),
        ({"first_index": 1 << 63}, "first_index"),
        ({"first_index": (1 << 63) - 1}, "n_samples=9223372036854775817"),
        ({"start_ns": (1 << 63) - 1}, "start_ns of the last sample"),
        ({"device_ns": (1 << 63) - 1}, "device_ns of the last sample"),
        ({"uncertainty_ns": -1}, "uncertainty_ns=-1"),
        ({"times_ns": np.zeros(10, np.int64)}, "times_ns"),
        ({"stream": RR, "values": np.zeros((1, 3), np.uint16)}, "times_ns"),
        ({"stream": RR, "values": np.zeros((1, 3), np.uint16), "times_ns": np.zeros(2, np.int64)}, "shape"),
    ],
)
def test_a_block_that_cannot_be_names_the_field_at_fault(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        ecg_block(**changes)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Channel("Lead I", "uV"), "channel name"),
        (lambda: Channel("lead", ""), "UCUM"),
        (lambda: Channel("lead", "uV", mdc=0), "mdc=0"),
        (lambda: Channel("lead", "uV", scale=0), "scale=0"),
        (lambda: Channel("lead", "uV", scale=float("nan")), "scale=nan"),
        (lambda: Channel("lead", "uV", offset=float("inf")), "offset=inf"),
        (lambda: Stream("ecg", (), "int16", 1.0), "no channels"),
        (lambda: Stream("ecg", (Channel("a", "1"), Channel("a", "1")), "int16", 1.0), "different names"),
        (lambda: Stream("ecg", (Channel("a", "1"),), "complex64", 1.0), "dtype='complex64'"),
        (lambda: Stream("ecg", (Channel("a", "1"),), "int16", 0.0), "rate_hz=0.0"),
        (lambda: Stream("ecg", (Channel("a", "1"),), "int16", 5e-324), "rate_hz=5e-324"),
        (lambda: Stream("ecg", (Channel("a", "1"),), "int16", 1e308), "rate_hz=1e\\+308"),
    ],
)
def test_a_description_that_cannot_be_names_the_field_at_fault(build: object, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        build()  # type: ignore[operator]
