"""`lab enrol`: a new gateway's login at the broker, in one file to carry to it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lab_api.settings import DEFAULT_BROKER, DEFAULT_HOST_ID, Settings, default_data_folder
from protocols.errors import DefinitionError

if TYPE_CHECKING:
    from lab_api.bridge.folder import BrokerFolder

_EXAMPLE: Final = "lab/gateway-1"


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `lab enrol`."""
    parser = subparsers.add_parser(
        "enrol",
        help="give a gateway its login at the broker",
        description="Give a gateway its login at the broker, in one file to carry to it; an earlier one ends. "
        "The first use makes the broker's configuration; with an address mqtts:// logins are certificates.",
    )
    parser.add_argument("identity", nargs="?", metavar="GROUP/NAME", help=f"the gateway, as {_EXAMPLE}")
    parser.add_argument("--revoke", action="store_true", help="end its login instead")
    parser.add_argument("--list", action="store_true", help="say who is enrolled")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to put it (NAME.enrolment)")
    parser.add_argument(
        "--broker",
        action="append",
        metavar="URL",
        help=f"where the broker is reached; several if given again (at first {DEFAULT_BROKER}, then as before)",
    )
    parser.add_argument(
        "--host-id", default=DEFAULT_HOST_ID, help="the recorder's name, at first (%(default)s)"
    )
    parser.add_argument("--data", type=Path, help="folder of everything kept (LAB_DATA, else .lab)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from lab_api.bridge.folder import BrokerFolder

    if (options.identity is None) != options.list or (options.revoke and options.list):
        raise DefinitionError(f"expected a gateway to enrol or --revoke, as {_EXAMPLE}, or --list alone")
    folder = BrokerFolder(Settings(options.data or default_data_folder()).broker_folder)
    if options.list:
        _list(folder)
    elif options.revoke:
        try:
            folder.revoke(options.identity)
        except DefinitionError:  # not enrolled, perhaps because an earlier attempt came only so far
            folder.reload()
            raise
        print(f"{options.identity} is revoked")
        _reload(folder, ended=True)
    else:
        _enrol(folder, options)
    return 0


def _enrol(folder: BrokerFolder, options: argparse.Namespace) -> None:
    from lab_api.bridge.accounts import check_identity
    from lab_api.bridge.folder import ENROLMENT_SUFFIX

    name = check_identity(options.identity).rpartition("/")[2]
    is_host = "/" not in options.identity
    if not folder.exists:
        if is_host and options.identity != options.host_id:  # before anything is made for a mistyped gateway
            raise DefinitionError(
                f"identity {options.identity!r}, expected group/name or the host {options.host_id!r}"
            )
        folder.create(options.broker or [DEFAULT_BROKER], options.host_id)
        print(f"broker: mosquitto -c {folder.path}/mosquitto.conf")
        print(f"recorder: {_serve(folder.host_enrolment, options.host_id)}")
    elif options.broker and folder.move(options.broker):
        print("the broker is to listen elsewhere: start it again")
    again = any(account.identity == options.identity for account in folder.accounts)
    out = options.out or (folder.host_enrolment if is_host else Path(f"{name}{ENROLMENT_SUFFIX}"))
    account = folder.enrol(options.identity, out)
    until = f" until {account.expires:.10}" if account.expires else ""
    use = _serve(out, options.identity) if is_host else f'enrolment = "{out.name}" in its gateway.toml'
    print(f"{options.identity} is enrolled{until}: carry {out} to it; {use}")
    _reload(folder, ended=again)


def _serve(enrolment: Path, host: str) -> str:
    """Return the command with which the recorder runs."""
    named = "" if host == DEFAULT_HOST_ID else f" --host-id {host}"
    return f"lab serve --enrolment {enrolment}{named}"


def _list(folder: BrokerFolder) -> None:
    for account in folder.accounts:
        login = f"certificate until {account.expires:.10}" if account.expires else "password"
        print(f"{account.identity:24}{login}, enrolled {account.enrolled:.10}")


def _reload(folder: BrokerFolder, *, ended: bool) -> None:
    """Tell the running broker, and say what it does not do by itself when a login has ended."""
    if folder.reload():
        print("the running broker knows")
        if ended and any(account.expires for account in folder.accounts):
            print(
                "a connection that is open with the earlier certificate ends when the broker is started again"
            )
    else:
        print(
            "no broker runs from this folder here; one elsewhere needs a copy of it, and: pkill -HUP mosquitto"
        )
