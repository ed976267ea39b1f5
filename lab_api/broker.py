"""The embedded MQTT broker: started for one command, on loopback only, and gone with it.

A `mosquitto` on the PATH is used if there is one; otherwise `amqtt`, which comes with this package. Either runs
as a child process that ends with its parent. Production names its own broker by URL instead.

With logins given, nobody enters without one, and each may do what `bridge.accounts.permissions` says, under
either broker; the passwords stay with the caller, the broker gets their hashes.

amqtt hands retained messages to clients that did not ask for them, and keeps no messages over a restart; the
platform relies on neither (the host's STATE is its only retained message, and what counts as delivered is what
the recorder has stored).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from lab_api.bridge.accounts import hash_password
from lab_api.bridge.files import owner_of, password_file, permission_file
from lab_api.settings import DEFAULT_HOST_ID
from protocols.errors import TransportError

HOST = "127.0.0.1"
_START_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 5.0

# 0 stands for no limit as well, but then Mosquitto 2.0.11 hangs up on a client whose message it denies
_MOSQUITTO_CONF = """\
listener {port} {host}
persistence false
max_queued_messages 10000000
max_inflight_messages 0
max_packet_size 16777216
log_dest none
"""
_ANYBODY = "allow_anonymous true\n"
_LOGINS = """\
user {user}
allow_anonymous false
password_file {folder}/passwords
acl_file {folder}/permissions
"""


@contextlib.asynccontextmanager
async def embedded_broker(
    logins: Mapping[str, str] | None = None,
    *,
    host_id: str = DEFAULT_HOST_ID,
    mosquitto: str | None = None,
) -> AsyncIterator[str]:
    """Run a broker on a free loopback port; yield its URL, such as `mqtt://127.0.0.1:40123`.

    Parameters
    ----------
    logins
        Identity to password of everybody who may log in; without, anybody may do anything.
    host_id
        Which identity is the host application.
    mosquitto
        Path of a mosquitto binary; by default one on the PATH. An empty string means to use amqtt.

    Raises
    ------
    TransportError
        If the broker does not start.
    """
    binary = shutil.which("mosquitto", path=_search_path()) if mosquitto is None else mosquitto
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="lab-broker-") as name:
        folder = Path(name)  # nobody else on this machine may look into it
        if logins is not None:
            hashes = [(identity, hash_password(password)) for identity, password in logins.items()]
            (folder / "passwords").write_text(password_file(hashes))
            (folder / "permissions").write_text(permission_file(logins, host_id))
        if binary:
            configuration = folder / "mosquitto.conf"
            configuration.write_text(_mosquitto_conf(folder, port, guarded=logins is not None))
            arguments = [binary, "-c", str(configuration)]
        else:
            arguments = [str(port)] if logins is None else [str(port), str(folder / "passwords"), host_id]
        command = [sys.executable, "-m", __name__, *arguments]
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
        try:
            await _listening(port, process)
            yield f"mqtt://{HOST}:{port}"
        finally:
            await _stop(process)


def _mosquitto_conf(folder: Path, port: int, *, guarded: bool) -> str:
    who = _LOGINS.format(folder=folder, user=owner_of(folder)) if guarded else _ANYBODY
    return _MOSQUITTO_CONF.format(port=port, host=HOST) + who


async def _listening(port: int, process: asyncio.subprocess.Process) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _START_TIMEOUT_S
    while loop.time() < deadline and process.returncode is None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.close()
            await writer.wait_closed()
            return
        await asyncio.sleep(0.02)
    raise TransportError(
        f"embedded broker does not listen on port {port}, expected it within {_START_TIMEOUT_S} s"
    )


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _main(arguments: list[str]) -> None:
    """Run amqtt on the port that `arguments` begins with, or else a command, until standard input closes."""
    if arguments[0].isdecimal():
        asyncio.run(_run_amqtt(*arguments))
    else:
        asyncio.run(_run_command(arguments))


async def _run_command(command: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    await asyncio.wait(
        [asyncio.create_task(_parent_gone()), asyncio.create_task(process.wait())],
        return_when=asyncio.FIRST_COMPLETED,
    )
    if process.returncode is None:
        process.terminate()
        await process.wait()


async def _run_amqtt(port: str, passwords: str = "", host_id: str = "") -> None:
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    broker = _amqtt_broker(f"{HOST}:{port}", passwords, host_id)
    await broker.start()
    await _parent_gone()
    await broker.shutdown()


def _amqtt_broker(address: str, passwords: str, host_id: str) -> Any:
    if passwords:
        from lab_api.bridge.amqtt_guard import GuardedBroker

        return GuardedBroker(address, password_file=Path(passwords), host=host_id)
    from amqtt.broker import Broker
    from amqtt.contexts import BrokerConfig

    anybody = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    listeners = {"default": {"type": "tcp", "bind": address}}
    return Broker(BrokerConfig.from_dict({"listeners": listeners, "plugins": anybody}))


async def _parent_gone() -> None:
    """Return when standard input closes, which it does however the parent ends."""
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        while sys.stdin.buffer.read(1):
            pass
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(gone.set)

    threading.Thread(target=wait, name="parent", daemon=True).start()
    await gone.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole terminal; the parent decides
    _main(sys.argv[1:])
