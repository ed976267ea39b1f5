"""Sparkplug B topics (specification 3.0, chapter 4).

`spBv1.0/group/TYPE/node[/device]` for nodes and their devices, `spBv1.0/STATE/host` for host applications.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass
from typing import Final

from protocols.errors import DecodeError, DefinitionError

NAMESPACE: Final = "spBv1.0"


class MessageType(enum.StrEnum):
    """The message types of nodes and devices."""

    NBIRTH = "NBIRTH"
    NDEATH = "NDEATH"
    NDATA = "NDATA"
    NCMD = "NCMD"
    DBIRTH = "DBIRTH"
    DDEATH = "DDEATH"
    DDATA = "DDATA"
    DCMD = "DCMD"


@dataclass(frozen=True, slots=True, order=True)
class NodeId:
    """An edge node: group and name, unique together."""

    group: str
    name: str

    def __post_init__(self) -> None:
        for what, value in (("group", self.group), ("node", self.name)):
            check_id(what, value)

    def __str__(self) -> str:
        return f"{self.group}/{self.name}"

    def topic(self, kind: MessageType, device: str | None = None) -> str:
        """Return the topic of a message of this node, or of one of its devices."""
        topic = f"{NAMESPACE}/{self.group}/{kind.value}/{self.name}"
        return topic if device is None else f"{topic}/{device}"


@dataclass(frozen=True, slots=True)
class NodeTopic:
    """A parsed topic of a node or, if `device` is given, of one of its devices."""

    node: NodeId
    kind: MessageType
    device: str | None


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be published."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


def state_topic(host_id: str) -> str:
    """Return the topic under which a host application says whether it is online."""
    check_id("host", host_id)
    return f"{NAMESPACE}/STATE/{host_id}"


@functools.lru_cache(maxsize=4096)
def parse_topic(topic: str) -> NodeTopic:
    """Return what a node's or device's topic says.

    Raises
    ------
    DecodeError
        If it is not such a topic.
    """
    parts = topic.split("/")
    device_level = len(parts) == 5
    if parts[0] != NAMESPACE or len(parts) not in (4, 5):
        raise DecodeError(f"topic {topic!r}, expected {NAMESPACE}/group/TYPE/node[/device]")
    try:
        kind = MessageType(parts[2])
        node = NodeId(parts[1], parts[3])
    except (ValueError, DefinitionError):
        raise DecodeError(f"topic {topic!r}, expected {NAMESPACE}/group/TYPE/node[/device]") from None
    if device_level != kind.value.startswith("D") or (device_level and not parts[4]):
        raise DecodeError(f"topic {topic!r}, expected a device exactly for device messages")
    return NodeTopic(node, kind, parts[4] if device_level else None)


def check_id(what: str, value: str) -> None:
    """Raise `DefinitionError` unless `value` may stand in a topic as a group, node, device or host id."""
    is_text = not any("\ud800" <= c <= "\udfff" for c in value)
    if not value or not is_text or any(c in value for c in "+/#\0"):
        raise DefinitionError(f"{what} id {value!r}, expected at least one character and none of + / #")
