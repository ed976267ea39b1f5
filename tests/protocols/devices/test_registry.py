from __future__ import annotations

import pytest

from protocols.devices.kind import SerialLink
from protocols.devices.registry import KINDS, device_kind
from protocols.errors import DefinitionError

CHANNEL = {"name": "lead_i", "unit": "mV", "mdc": 131329, "scale": 0.005, "offset": -5.12}


def test_a_prototype_is_set_up_by_its_options():
    options = {
        "channels": [CHANNEL],
        "rate_hz": 360,
        "sample_type": "int24",
        "baudrate": 115200,
        "stream": "ecg",
    }
    kind = device_kind("fablab", options)
    assert kind.link == SerialLink(baudrate=115200)
    stream = kind.stream("ecg")
    assert (stream.rate_hz, stream.dtype) == (360.0, "int32")
    assert (stream.channels[0].scale, stream.channels[0].offset) == (0.005, -5.12)
    assert kind.counter_modulus == {"ecg": 2**32}


def test_a_prototype_is_fast_and_16_bit_unless_told_otherwise():
    kind = device_kind("fablab", {"channels": [CHANNEL], "rate_hz": 360})
    assert kind.link == SerialLink(baudrate=921600)
    assert kind.streams[0].name == "signal"
    assert kind.streams[0].dtype == "int16"


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(DefinitionError) as caught:
        device_kind("toaster")
    assert all(name in str(caught.value) for name in KINDS)


@pytest.mark.parametrize("name", sorted(set(KINDS)))
def test_an_unknown_option_is_refused_by_name(name):
    with pytest.raises(DefinitionError, match=f"option 'colour' of {name}"):
        device_kind(name, {"colour": "red"})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fablab", {"rate_hz": 1}, "no channels in the options of fablab"),
        ("fablab", {"channels": [CHANNEL]}, "no rate_hz"),
        ("fablab", {"channels": [], "rate_hz": 1}, "no channels"),
        ("fablab", {"channels": "x", "rate_hz": 1}, "channels='x'"),
        ("fablab", {"channels": ["x"], "rate_hz": 1}, "channel 'x'"),
        ("fablab", {"channels": [{"unit": "mV"}], "rate_hz": 1}, "channel {'unit': 'mV'}"),
        ("fablab", {"channels": [CHANNEL | {"colour": 1}], "rate_hz": 1}, "colour"),
        ("fablab", {"channels": [CHANNEL | {"scale": "1"}], "rate_hz": 1}, "scale"),
        ("fablab", {"channels": [CHANNEL | {"unit": 5}], "rate_hz": 1}, "unit"),
        ("fablab", {"channels": [CHANNEL, CHANNEL], "rate_hz": 1}, "expected different names"),
        ("fablab", {"channels": [CHANNEL], "rate_hz": 0}, "rate_hz=0"),
        ("fablab", {"channels": [CHANNEL], "rate_hz": "1"}, "rate_hz='1'"),
        ("fablab", {"channels": [CHANNEL], "rate_hz": True}, "rate_hz=True"),
        ("fablab", {"channels": [CHANNEL], "rate_hz": 1, "sample_type": "int8"}, "sample_type='int8'"),
        ("fablab", {"channels": [CHANNEL], "rate_hz": 1, "baudrate": 0}, "baudrate=0"),
        ("fablab", {"channels": [CHANNEL], "rate_hz": 1, "baudrate": 9600.5}, "baudrate=9600.5"),
        ("fablab", {"channels": [CHANNEL], "rate_hz": 1, "stream": "My Signal"}, "stream name 'My Signal'"),
        ("fablab", {"channels": [CHANNEL] * 256, "rate_hz": 1}, "256 channels"),
        ("nonin-7", {"timer": 1}, "timer=1"),
    ],
)
def test_a_bad_option_is_refused_by_name_and_value(name, options, message):
    with pytest.raises(DefinitionError, match=message):
        device_kind(name, options)
