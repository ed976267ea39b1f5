"""Where a broker is, and as whom to log in there.

A login is a username with a password, or a certificate with its key. `lab enrol` puts either, together with
the broker's address and its authority's certificate, into one file for the gateway: an enrolment.
It is TOML whose texts hold PEM blocks, so OpenSSL reads certificate and key out of the same file.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from protocols.errors import DefinitionError
from protocols.sparkplug.topics import NodeId, check_id

USERNAME_VARIABLE: Final = "LAB_MQTT_USERNAME"
PASSWORD_VARIABLE: Final = "LAB_MQTT_PASSWORD"  # noqa: S105 - the name of a variable

_DEFAULT_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the MQTT broker listens, and as whom to log in.

    Parameters
    ----------
    host, port, tls
        Its address.
    username, password
        A login; needs no certificate.
    ca
        PEM file of the authority that signed the broker's certificate; the system's authorities if None.
    certificate, key
        PEM files of a login by certificate; the key may be in the certificate's file.
    """

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if self.key is not None and self.certificate is None:
            raise DefinitionError(f"key={str(self.key)!r} without certificate, expected both")
        if not self.tls and (self.ca or self.certificate):
            raise DefinitionError(f"a certificate for {self}, expected an address mqtts://")
        if self.password is not None and not self.tls and not is_loopback(self.host):
            raise DefinitionError(
                f"a password for {self}, expected mqtts:// because it must not cross a network in the clear"
            )

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"

    @classmethod
    def from_url(cls, url: str, *, username: str | None = None, password: str | None = None) -> Broker:
        """Return the broker at `mqtt://host[:port]` or `mqtts://host[:port]`.

        Raises
        ------
        DefinitionError
            If the address is anything else, or carries credentials.
        """
        expected = "expected mqtt://host[:port] or mqtts://host[:port]"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise DefinitionError(f"{url!r}, {expected} ({error})") from error
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
            raise DefinitionError(f"{url!r}, {expected}")
        if parts.username or parts.password:
            raise DefinitionError(
                f"an address with credentials, {expected}; set {USERNAME_VARIABLE} and {PASSWORD_VARIABLE}"
            )
        port = port or _DEFAULT_PORTS[parts.scheme]
        return cls(parts.hostname, port, parts.scheme == "mqtts", username or None, password or None)

    def moved_to(self, url: str) -> Broker:
        """Return the broker at another address with the same login; DefinitionError as `from_url`."""
        address = Broker.from_url(url)
        return replace(self, host=address.host, port=address.port, tls=address.tls)

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what both ends of the bridge encrypt and log in with; None over plain TCP.

        The files are read anew at each call, so a renewed certificate needs no restart.

        Raises
        ------
        DefinitionError
            If a file cannot be used, or if anybody on this machine may read the key.
        """
        if not self.tls:
            return None
        reading = self.ca
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
            if self.certificate is not None:
                reading = self.certificate
                check_secret(self.key or self.certificate)
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise DefinitionError(f"{reading}: {error}, expected PEM that goes with its key") from error
        return context


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Who somebody is at the brokers, as `lab enrol` wrote it.

    Parameters
    ----------
    identity
        `group/name` of a gateway, or the id of a host application.
    host
        Id of the host application that the gateway answers to.
    brokers
        With their login; at least one.
    """

    identity: str
    host: str
    brokers: tuple[Broker, ...]

    @property
    def node(self) -> NodeId:
        """The gateway's identity on the wire; DefinitionError if it is not a gateway's."""
        group, slash, name = self.identity.partition("/")
        if not slash:
            raise DefinitionError(f"an enrolment of {self.identity!r}, expected a gateway's, as group/name")
        return NodeId(group, name)


def load_enrolment(path: Path) -> Enrolment:
    """Return what an enrolment file says.

    Raises
    ------
    DefinitionError
        If there is none, if it is no enrolment, or if anybody on this machine may read it.
    """
    try:
        check_secret(path)
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DefinitionError(f"{path}: no such file, expected an enrolment made by lab enrol") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DefinitionError(f"{path}: {error}, expected an enrolment made by lab enrol") from error
    try:
        return _enrolment(document, path)
    except DefinitionError as error:
        raise DefinitionError(f"{path}: {error}") from error


def check_secret(path: Path) -> None:
    """Raise DefinitionError if everybody on this machine may read a secret; OSError if there is none.

    Its group may: a service often reads its key by group.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & stat.S_IRWXO:
        raise DefinitionError(
            f"{path}: mode {mode:o}, expected a secret that only its owner reads: chmod 600 {path}"
        )


def _enrolment(document: Mapping[str, Any], path: Path) -> Enrolment:
    identity, host = _text(document, "identity"), _text(document, "host")
    for part in (host, *identity.split("/", 1)):
        check_id("enrolled", part)
    urls = document.get("brokers")
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        raise DefinitionError(f"brokers={urls!r}, expected a list of addresses")
    password = document.get("password")
    if password is not None:
        login = {"username": identity, "password": _text(document, "password")}
        return Enrolment(identity, host, tuple(Broker.from_url(url, **login) for url in urls))
    _text(document, "certificate"), _text(document, "key"), _text(document, "authority")
    brokers = [replace(Broker.from_url(url), ca=path, certificate=path) for url in urls]
    return Enrolment(identity, host, tuple(brokers))


def is_loopback(host: str) -> bool:
    """Whether `host` can only be reached from this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not value:
        raise DefinitionError(f"no {key}, expected an enrolment made by lab enrol")
    return value
