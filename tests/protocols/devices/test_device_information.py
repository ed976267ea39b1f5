from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.devices import device_information as dis
from protocols.devices import heart_rate
from protocols.errors import DecodeError, DefinitionError


@given(st.text(st.characters(exclude_categories=("Cs",))).map(lambda text: text.rstrip("\0")))
def test_text_comes_back_as_it_was_sent(text):
    assert dis.STRING.decode(dis.STRING.encode({"text": text})) == {"text": text}


def test_padding_is_dropped():
    assert dis.STRING.decode(b"Wahoo\0\0\0") == {"text": "Wahoo"}


def test_bytes_that_are_no_utf8_are_refused():
    with pytest.raises(DecodeError, match="expected UTF-8"):
        dis.STRING.decode(b"\xff\xfe")


@pytest.mark.parametrize("text", ["\ud800", 5])
def test_what_utf8_cannot_hold_is_not_sent(text):
    with pytest.raises(DefinitionError, match="expected text"):
        dis.STRING.encode({"text": text})


def test_a_missing_text_is_named():
    with pytest.raises(DefinitionError, match="text of device_information_string is missing"):
        dis.STRING.encode({})


@given(st.integers(0, 2**40 - 1), st.integers(0, 2**24 - 1))
def test_a_system_id_comes_back(manufacturer, oui):
    values = {"manufacturer": manufacturer, "oui": oui}
    assert dis.SYSTEM_ID.decode(dis.SYSTEM_ID.encode(values)) == values


def test_everything_becomes_a_property():
    decoder = heart_rate.heart_rate_strap().new_decoder()
    properties: dict[str, str] = {}
    for name, uuid in dis.STRING_UUIDS.items():
        properties |= decoder.feed(uuid, dis.STRING.encode({"text": f"my {name}"})).properties
    assert properties == {name: f"my {name}" for name in dis.STRING_UUIDS}
    pnp = dis.PNP_ID.encode({"vendor_source": 1, "vendor": 0x6B, "product": 2, "version": 0x110})
    assert decoder.feed(dis.PNP_ID_UUID, pnp).properties == {"pnp_id": "bluetooth:006b:0002:0110"}
    system = dis.SYSTEM_ID.encode({"manufacturer": 0x0102030405, "oui": 0xA0B0C0})
    assert system.hex() == "0504030201c0b0a0"
    assert decoder.feed(dis.SYSTEM_ID_UUID, system).properties == {"system_id": "a0b0c0-0102030405"}
