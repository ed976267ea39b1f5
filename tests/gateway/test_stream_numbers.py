"""A stream's number stands for that stream and no other, however many there are."""

from __future__ import annotations

import pytest

from gateway import stream_numbers
from gateway.stream_numbers import StreamNumbers
from protocols.samples import Channel, Stream


def stream(rate_hz: float) -> Stream:
    return Stream("ecg", (Channel("ecg", "uV"),), "int16", rate_hz)


def test_a_stream_is_known_by_its_device_and_description() -> None:
    numbers = StreamNumbers({3: ("strap", stream(130.0))})
    assert numbers.find("strap", stream(130.0)) == 3
    assert numbers.find("strap", stream(250.0)) is None
    assert numbers.find("other", stream(130.0)) is None
    assert numbers.add("strap", stream(250.0)) == 4
    assert numbers.of("strap") == {3: stream(130.0), 4: stream(250.0)}


def test_descriptions_that_come_and_go_in_memory_keep_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_numbers, "_MOST_SEEN", 5)
    numbers = StreamNumbers({})
    given = {rate: numbers.add("strap", stream(rate)) for rate in range(1, 30)}
    for _ in range(20):
        assert {rate: numbers.find("strap", stream(rate)) for rate in given} == given
