"""The embedded MQTT broker: started for one command, on loopback only, and gone with it.

A `mosquitto` on the PATH is used if there is one; otherwise `amqtt`, which comes with this package. Either runs
as a child process that ends with its parent. Production names its own broker by URL instead.

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
from collections.abc import AsyncIterator
from pathlib import Path

from protocols.errors import TransportError

HOST = "127.0.0.1"
_START_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 5.0

_MOSQUITTO_CONF = """\
listener {port} {host}
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 0
log_dest none
"""


@contextlib.asynccontextmanager
async def embedded_broker(*, mosquitto: str | None = None) -> AsyncIterator[str]:
    """Run a broker on a free loopback port; yield its URL, such as `mqtt://127.0.0.1:40123`.

    Parameters
    ----------
    mosquitto
        Path of a mosquitto binary; by default one on the PATH. An empty string means to use amqtt.

    Raises
    ------
    TransportError
        If the broker does not start.
    """
    binary = shutil.which("mosquitto", path=_search_path()) if mosquitto is None else mosquitto
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="lab-broker-") as folder:
        if binary:
            configuration = Path(folder) / "mosquitto.conf"
            configuration.write_text(_MOSQUITTO_CONF.format(port=port, host=HOST))
            command = [sys.executable, "-m", __name__, binary, "-c", str(configuration)]
        else:
            command = [sys.executable, "-m", __name__, str(port)]
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
        try:
            await _listening(port, process)
            yield f"mqtt://{HOST}:{port}"
        finally:
            await _stop(process)


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
        await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
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
    """Run the broker named by `arguments` (a port for amqtt, or a command) until standard input closes."""
    if len(arguments) == 1:
        asyncio.run(_run_amqtt(int(arguments[0])))
    else:
        asyncio.run(_run_command(arguments))


async def _run_command(command: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    await asyncio.wait(
        [asyncio.create_task(_parent_gone()), asyncio.create_task(process.wait())],
        return_when=asyncio.FIRST_COMPLETED,
    )
    if process.returncode is None:
        process.terminate()
        await process.wait()


async def _run_amqtt(port: int) -> None:
    from amqtt.broker import Broker
    from amqtt.contexts import BrokerConfig

    configuration = BrokerConfig.from_dict(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    broker = Broker(configuration)
    await broker.start()
    await _parent_gone()
    await broker.shutdown()


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
