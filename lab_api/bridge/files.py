"""The texts of the files that a broker, or somebody who logs in there, reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from lab_api.bridge.accounts import permissions

_PLAIN_LISTENER: Final = "listener {port} {host}\n"
_TLS_LISTENER: Final = """\
listener {port}
cafile {folder}/authority.crt
certfile {folder}/server.crt
keyfile {folder}/server.key
crlfile {folder}/revoked.crl
require_certificate true
use_identity_as_username true
"""


def password_file(hashes: Iterable[tuple[str, str]]) -> str:
    """Return Mosquitto's password file: a line for each identity with its hash."""
    return "".join(f"{identity}:{kept}\n" for identity, kept in hashes)


def permission_file(identities: Iterable[str], host: str) -> str:
    """Return Mosquitto's `acl_file`; whoever it does not name may do nothing."""
    lines = []
    for identity in identities:
        allowed = permissions(identity, host)
        lines.append(f"user {identity}")
        lines += [f"topic write {topic}" for topic in allowed.publish]
        lines += [f"topic read {topic}" for topic in allowed.receive]
    return "".join(f"{line}\n" for line in lines)


def mosquitto_conf(folder: Path, addresses: Iterable[tuple[str, int]], *, tls: bool) -> str:
    """Return the shipped configuration for a Mosquitto that runs from `folder`, as the user who owns it.

    Over TLS it listens on the ports of all interfaces; without, on the loopback addresses alone.
    """
    if tls:
        listeners = "\n".join(_TLS_LISTENER.format(port=port, folder=folder) for port in _ports(addresses))
    else:
        places = dict.fromkeys(("127.0.0.1" if host == "localhost" else host, port) for host, port in addresses)
        listeners = "\n".join(_PLAIN_LISTENER.format(port=port, host=host) for host, port in places)
    shipped = files("lab_api.bridge").joinpath("mosquitto.conf").read_text(encoding="utf-8")
    return shipped.format(folder=folder, user=owner_of(folder), listeners=listeners)


def _ports(addresses: Iterable[tuple[str, int]]) -> list[int]:
    return list(dict.fromkeys(port for _, port in addresses))


def owner_of(folder: Path) -> str:
    """Return the user whom Mosquitto is to be if it is started as root: the folder's owner."""
    try:
        return folder.owner()
    except KeyError:  # an owner without a name, as in containers
        return "mosquitto"


def enrolment_file(identity: str, host: str, urls: Sequence[str], login: Mapping[str, str]) -> str:
    """Return an enrolment for `gateway.broker.load_enrolment`.

    A PEM block begins at the start of a line, where OpenSSL looks for it.

    Parameters
    ----------
    identity, host
        Whose it is, and the id of the host application.
    urls
        Where the broker is reached.
    login
        `password`; or `certificate`, `key` and `authority` as PEM, in this order.
    """
    lines = [
        f"# The login of {identity} at its broker. Whoever reads this file can be {identity} there.",
        f"identity = {json.dumps(identity)}",
        f"host = {json.dumps(host)}",
        f"brokers = {json.dumps(list(urls))}",
    ]
    for key, value in login.items():
        lines.append(f'{key} = """\n{value}"""' if "\n" in value else f"{key} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"
