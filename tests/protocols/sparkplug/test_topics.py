"""Sparkplug topics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import DecodeError, DefinitionError
from protocols.sparkplug.topics import MessageType, NodeId, parse_topic, state_topic


@pytest.mark.parametrize(("kind", "device"), [(MessageType.NBIRTH, None), (MessageType.DDATA, "strap-1")])
def test_a_topic_says_what_it_was_made_of(kind: MessageType, device: str | None) -> None:
    node = NodeId("lab", "gateway-1")
    parsed = parse_topic(node.topic(kind, device))
    assert (parsed.node, parsed.kind, parsed.device) == (node, kind, device)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "spBv1.0",
        "spAv1.0/lab/NBIRTH/gw",
        "spBv1.0/lab/BIRTH/gw",
        "spBv1.0/lab/DDATA/gw",
        "spBv1.0/lab/NDATA/gw/device",
        "spBv1.0/lab/DDATA/gw/",
        "spBv1.0//NDATA/gw",
        "spBv1.0/lab/DDATA/gw/device/more",
    ],
)
def test_what_is_not_a_topic_of_a_node_is_a_decode_error(topic: str) -> None:
    with pytest.raises(DecodeError, match="topic"):
        parse_topic(topic)


@given(st.text(st.characters(codec="utf-8", exclude_characters="+/#\0"), min_size=1))
def test_any_text_without_the_reserved_characters_is_an_id(name: str) -> None:
    parsed = parse_topic(NodeId(name, name).topic(MessageType.DDATA, name))
    assert (parsed.node, parsed.device) == (NodeId(name, name), name)
    assert parse_topic(NodeId(name, name).topic(MessageType.NBIRTH)).node == NodeId(name, name)


@pytest.mark.parametrize("name", ["", "a/b", "a+", "#", "\0", "\ud800"])
def test_ids_that_would_break_a_topic_are_refused(name: str) -> None:
    with pytest.raises(DefinitionError, match="id"):
        NodeId("lab", name)
    with pytest.raises(DefinitionError, match="id"):
        NodeId(name, "gw")
    with pytest.raises(DefinitionError, match="host id"):
        state_topic(name)
