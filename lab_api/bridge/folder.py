"""The folder from which a Mosquitto runs for one lab: who is enrolled, and all files made from that.

::

    accounts.json                     the truth: addresses, host id, accounts, revoked certificates
    mosquitto.conf  passwords  permissions  revoked.crl       made from it, anew at every change
    authority.crt  authority.key  server.crt  server.key      only if the broker is reached over TLS
    <host>.enrolment                  the login of the recorder

No password is kept, only its hash; a client's key is only in the enrolment that is handed out. Every file can
be read by the folder's owner alone, which is also the user that the broker runs as.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import signal
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from gateway.broker import Broker, is_loopback
from lab_api.bridge.accounts import check_identity, hash_password, new_password
from lab_api.bridge.files import enrolment_file, mosquitto_conf, password_file, permission_file
from protocols.errors import DefinitionError, StoreError

ENROLMENT_SUFFIX: Final = ".enrolment"

_ACCOUNTS: Final = "accounts.json"
_AUTHORITY: Final = ("authority.crt", "authority.key")
_SERVER: Final = ("server.crt", "server.key")


@dataclass(frozen=True, slots=True)
class Account:
    """Who is enrolled, with either a password or a certificate.

    Parameters
    ----------
    identity
        `group/name` of a gateway, or the host's id.
    enrolled, expires
        UTC, ISO 8601; a password does not expire (empty).
    password_hash, serial
        Of the login.
    """

    identity: str
    enrolled: str
    expires: str = ""
    password_hash: str = ""
    serial: int = 0


@dataclass(frozen=True, slots=True)
class _State:
    host: str
    urls: list[str]
    accounts: dict[str, Account]
    revoked: list[int]

    @property
    def tls(self) -> bool:
        return Broker.from_url(self.urls[0]).tls


class BrokerFolder:
    """Enrols and revokes. A change is whole on the disk before the running broker is told of it.

    Parameters
    ----------
    path
        The folder, which `create` has made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def exists(self) -> bool:
        """Whether there is a broker's folder."""
        return (self.path / _ACCOUNTS).exists()

    @property
    def host_enrolment(self) -> Path:
        """The file with which the recorder logs in."""
        return self.path / f"{self._read().host}{ENROLMENT_SUFFIX}"

    @property
    def accounts(self) -> list[Account]:
        """Everybody who may log in, the host first."""
        state = self._read()
        return sorted(state.accounts.values(), key=lambda account: ("/" in account.identity, account.identity))

    def create(self, urls: Sequence[str], host: str) -> None:
        """Make the folder of a broker that is reached at `urls`, and enrol its host application.

        Raises
        ------
        DefinitionError
            If the addresses are not all `mqtts://`, or all `mqtt://` on this machine.
        StoreError
            If the folder cannot be written.
        """
        _check_urls(urls)
        check_identity(host)
        with self._storing():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            if self.exists:  # somebody else was faster
                return
            state = _State(host, list(urls), {}, [])
            if state.tls:
                self._create_authority()
                self._certify_server(state)
            self._write(state)
        self.enrol(host, self.path / f"{host}{ENROLMENT_SUFFIX}")

    def move(self, urls: Sequence[str]) -> bool:
        """Have the broker reached at other addresses of the same kind; enrolments made before keep theirs.

        Returns whether a running broker has to be started again, because it is to listen elsewhere.
        """
        _check_urls(urls)
        with self._locked():
            state = self._read()
            if state.urls == list(urls):
                return False
            moved = _State(state.host, list(urls), state.accounts, state.revoked)
            if moved.tls != state.tls:
                raise DefinitionError(
                    f"{', '.join(urls)}, expected the kind of {', '.join(state.urls)}, or another folder"
                )
            listened = self._text("mosquitto.conf")
            if moved.tls:
                self._certify_server(moved)
            self._write(moved)
            return self._text("mosquitto.conf") != listened

    def enrol(self, identity: str, out: Path) -> Account:
        """Give `identity` a new login, in an enrolment file at `out`; the one it had before ends.

        Raises
        ------
        DefinitionError
            If it is neither a gateway's identity nor the host's, or if `out` is there and is not its enrolment.
        StoreError
            If a file cannot be written.
        """
        check_identity(identity)
        with self._locked():
            state = self._read()
            if "/" not in identity and identity != state.host:
                raise DefinitionError(f"identity {identity!r}, expected group/name or the host {state.host!r}")
            _check_out(out, identity)
            revoked = self._revoked_with(state, identity)
            account, login = self._certificate(identity) if state.tls else _password(identity)
            self._write_secret(out, enrolment_file(identity, state.host, state.urls, login))
            self._write(_State(state.host, state.urls, {**state.accounts, identity: account}, revoked))
        return account

    def revoke(self, identity: str) -> None:
        """End a login; DefinitionError if there is none.

        Even then all files are written anew: an earlier attempt may have failed between two of them.
        """
        with self._locked():
            state = self._read()
            if identity not in state.accounts:
                self._write(state)
                raise DefinitionError(
                    f"{identity!r} is not enrolled, expected one of {', '.join(state.accounts)}"
                )
            accounts = {name: account for name, account in state.accounts.items() if name != identity}
            self._write(_State(state.host, state.urls, accounts, self._revoked_with(state, identity)))

    def reload(self) -> bool:
        """Tell the broker that runs from this folder to read it again; False if none does."""
        try:
            pid = int((self.path / "mosquitto.pid").read_text())
            if Path(f"/proc/{pid}/comm").read_text().strip() != "mosquitto":
                return False
            os.kill(pid, signal.SIGHUP)
        except (OSError, ValueError):
            return False
        return True

    def _certificate(self, identity: str) -> tuple[Account, dict[str, str]]:
        issued = self._authority().client(identity)
        account = Account(identity, _now(), issued.expires.isoformat(), serial=issued.serial)
        login = {"certificate": issued.certificate, "key": issued.key}
        return account, {**login, "authority": self._text(_AUTHORITY[0])}

    def _create_authority(self) -> None:
        from lab_api.bridge.authority import Authority

        authority, key = Authority.create(f"Living Lab broker authority of {datetime.date.today():%Y-%m-%d}")
        self._put(_AUTHORITY[0], authority.certificate)
        self._put(_AUTHORITY[1], key)

    def _certify_server(self, state: _State) -> None:
        names = list(dict.fromkeys(Broker.from_url(url).host for url in state.urls))
        issued = self._authority().server(names)
        self._put(_SERVER[0], issued.certificate)
        self._put(_SERVER[1], issued.key)

    def _authority(self) -> Any:
        from lab_api.bridge.authority import Authority

        certificate, key = (self._text(name) for name in _AUTHORITY)
        try:
            return Authority(certificate, key)
        except ValueError as error:
            raise StoreError(f"{self.path}: {' and '.join(_AUTHORITY)}: {error}, expected PEM") from error

    @staticmethod
    def _revoked_with(state: _State, identity: str) -> list[int]:
        account = state.accounts.get(identity)
        return [*state.revoked, account.serial] if account is not None and account.serial else state.revoked

    def _read(self) -> _State:
        try:
            document = json.loads(self._text(_ACCOUNTS))
            accounts = {row["identity"]: Account(**row) for row in document.pop("accounts")}
            return _State(accounts=accounts, **document)
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(f"{self.path / _ACCOUNTS}: {error!r}, expected what lab enrol wrote") from error

    def _write(self, state: _State) -> None:
        document = {**asdict(state), "accounts": [asdict(account) for account in state.accounts.values()]}
        hashes = [(a.identity, a.password_hash) for a in state.accounts.values() if a.password_hash]
        self._put(_ACCOUNTS, json.dumps(document, indent=1))
        self._put("passwords", password_file(hashes))
        self._put("permissions", permission_file(state.accounts, state.host))
        if state.tls:
            self._put("revoked.crl", self._authority().revocations(state.revoked))
        brokers = [Broker.from_url(url) for url in state.urls]
        addresses = [(broker.host, broker.port) for broker in brokers]
        self._put("mosquitto.conf", mosquitto_conf(self.path, addresses, tls=state.tls))

    def _text(self, name: str) -> str:
        with self._storing():
            return (self.path / name).read_text(encoding="utf-8")

    def _put(self, name: str, text: str) -> None:
        self._write_secret(self.path / name, text)

    def _write_secret(self, path: Path, text: str) -> None:
        """Write a file whole or not at all, for one reader: in the folder its owner, even if root writes."""
        partial = path.with_name(f"{path.name}.partial")
        try:
            partial.unlink(missing_ok=True)
            with open(
                os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
            ) as file:
                if os.geteuid() == 0 and path.absolute().parent == self.path:
                    owner = self.path.stat()
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise StoreError(f"{path} cannot be written: {error}, expected a folder for secrets") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other changes out until this one is whole."""
        with self._storing():
            descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.path}: {error}, expected a folder made by lab enrol") from error


def _check_urls(urls: Sequence[str]) -> None:
    brokers = [Broker.from_url(url) for url in urls]
    if len({broker.tls for broker in brokers}) != 1:
        raise DefinitionError(f"brokers {', '.join(urls)}, expected all mqtts:// or all mqtt://")
    for broker in brokers:
        if not broker.host.isascii():
            raise DefinitionError(f"broker {broker}, expected a name of ASCII characters")
        if not broker.tls and not is_loopback(broker.host):
            raise DefinitionError(
                f"broker {broker}, expected mqtts:// because passwords must not cross a network in the clear"
            )


def _check_out(out: Path, identity: str) -> None:
    """Raise DefinitionError if an enrolment of `identity` at `out` would overwrite anything else.

    Somebody's key may exist nowhere but in the file that is there.
    """
    if not out.is_file():
        return
    try:
        found = tomllib.loads(out.read_text(encoding="utf-8")).get("identity")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        found = None
    if found != identity:
        what = f"the enrolment of {found!r}" if isinstance(found, str) else "no enrolment"
        raise DefinitionError(f"{out} is there already and is {what}, expected another --out for {identity!r}")


def _password(identity: str) -> tuple[Account, dict[str, str]]:
    password = new_password()
    return Account(identity, _now(), password_hash=hash_password(password)), {"password": password}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
