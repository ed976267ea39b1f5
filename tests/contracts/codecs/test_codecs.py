"""What every codec keeps to, whatever its definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.devices import battery, device_information, fablab, heart_rate, nonin, polar, pulse_oximeter
from protocols.devices.frame import Frame
from protocols.devices.record import Record
from protocols.errors import DecodeError, DefinitionError

MODULES = (battery, device_information, fablab, heart_rate, nonin, polar, pulse_oximeter)
CODECS = {
    codec.name: codec
    for module in MODULES
    for codec in vars(module).values()
    if isinstance(codec, Record | Frame)
}
ANYTHING = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers() | st.floats())
)


@pytest.fixture(scope="module", params=sorted(CODECS))
def codec(request: pytest.FixtureRequest) -> Record | Frame:
    return CODECS[request.param]


@given(data=st.binary(max_size=140))
def test_arbitrary_bytes_raise_only_decode_errors_and_what_decodes_can_be_sent_again(codec, data):
    try:
        values = codec.decode(data)
    except DecodeError:
        return
    again = codec.encode(values)
    assert codec.encode(codec.decode(again)) == again


@given(data=st.data())
def test_arbitrary_values_raise_only_definition_errors(codec, data):
    names = sorted(codec.keys if isinstance(codec, Record) else {part.name for part in codec.fields})
    values = data.draw(st.dictionaries(st.sampled_from(names) | st.text(max_size=3), ANYTHING))
    try:
        data_sent = codec.encode(values)
    except DefinitionError as error:
        message = str(error)
    else:
        codec.decode(data_sent)
        return
    assert codec.name in message


def test_units_are_written_as_ucum(codec):
    assert {part.unit for part in codec.fields} <= {"1", "%", "/min", "s", "us", "ns", "kJ", "uV"}
