"""What each identity may publish and receive at the broker, and how its password is kept.

A gateway's identity is its Sparkplug `group/name`; the host application's is its id, without a slash. Brokers
know it as the username, which is the login's own or the common name of its certificate.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final

from protocols.errors import DefinitionError
from protocols.sparkplug.topics import NAMESPACE, MessageType, NodeId, state_topic

MAX_IDENTITY_LENGTH: Final = 64
"""Of a common name in a certificate (RFC 5280, appendix A.1)."""

_ITERATIONS: Final = 1000
"""Few, because passwords are 256 random bits, and the broker computes this while all others wait."""
_SALT_BYTES: Final = 12
"""What Mosquitto 2 expects."""
_IDENTITY: Final = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Permissions:
    """Topic filters that an identity may publish to, and receive from."""

    publish: tuple[str, ...]
    receive: tuple[str, ...]

    def may_publish(self, topic: str) -> bool:
        """Whether a message to this topic is let through."""
        return any(covers(allowed, topic) for allowed in self.publish)

    def may_receive(self, topic: str) -> bool:
        """Whether every topic that this topic or filter stands for may be received."""
        return any(covers(allowed, topic) for allowed in self.receive)


def permissions(identity: str, host: str) -> Permissions:
    """Return what an identity may do where `host` is the host application's id.

    A gateway speaks only as itself and hears only commands to itself and the host's state; the host hears
    everything, states itself and commands; anybody else may do nothing.
    """
    if identity == host:
        commands = (f"{NAMESPACE}/+/{MessageType.NCMD}/+", f"{NAMESPACE}/+/{MessageType.DCMD}/+/+")
        return Permissions((state_topic(host), *commands), (f"{NAMESPACE}/#",))
    group, slash, name = identity.partition("/")
    if not slash:
        return Permissions((), ())
    node = NodeId(group, name)
    of_node = (MessageType.NBIRTH, MessageType.NDEATH, MessageType.NDATA)
    of_device = (MessageType.DBIRTH, MessageType.DDEATH, MessageType.DDATA)
    return Permissions(
        (*(node.topic(kind) for kind in of_node), *(f"{node.topic(kind)}/+" for kind in of_device)),
        (node.topic(MessageType.NCMD), f"{node.topic(MessageType.DCMD)}/+", state_topic(host)),
    )


def covers(allowed: str, requested: str) -> bool:
    """Whether everything that a topic or filter stands for lies in the filter `allowed`."""
    inside, wanted = allowed.split("/"), requested.split("/")
    for i, level in enumerate(inside):
        if level == "#":
            return True
        if i == len(wanted):
            return inside[i:] == ["#"]
        if wanted[i] == "#" or (level != wanted[i] and level != "+"):
            return False
    return len(inside) == len(wanted)


def check_identity(identity: str) -> str:
    """Return `identity` if it is a gateway's `group/name` or a host's id that a broker's files can hold.

    Raises
    ------
    DefinitionError
        If it is anything else.
    """
    if not _IDENTITY.fullmatch(identity) or len(identity) > MAX_IDENTITY_LENGTH:
        raise DefinitionError(
            f"identity {identity!r}, expected group/name of letters, digits and . _ - "
            f"and at most {MAX_IDENTITY_LENGTH} characters"
        )
    return identity


def new_password() -> str:
    """Return 256 random bits as text."""
    return secrets.token_urlsafe(32)


def hash_password(password: str) -> str:
    """Return what a broker keeps of a password: PBKDF2-HMAC-SHA512 in the form of `mosquitto_passwd`."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"$7${_ITERATIONS}${_base64(salt)}${_base64(_derive(password, salt, _ITERATIONS))}"


def is_password(password: str, kept: str) -> bool:
    """Whether a password is the one of which `hash_password` made `kept`."""
    try:
        _, scheme, iterations, salt, expected = kept.split("$")
        derived = _derive(password, base64.b64decode(salt), int(iterations))
        return scheme == "7" and hmac.compare_digest(derived, base64.b64decode(expected))
    except ValueError:
        return False


def _derive(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
