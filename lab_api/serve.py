"""`lab serve`: the API and the recorder as a process of their own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lab_api.settings import (
    DEFAULT_BROKER,
    DEFAULT_HOST,
    DEFAULT_HOST_ID,
    DEFAULT_PORT,
    Settings,
    check_loopback,
    default_data_folder,
)
from protocols.errors import DefinitionError, TransportError
from protocols.lab_clock import LabClock

if TYPE_CHECKING:
    from fastapi import FastAPI

_GRACEFUL_S: Final = 3


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `lab serve`."""
    parser = subparsers.add_parser(
        "serve",
        help="record sessions from gateways and serve the API",
        description="Record sessions from gateways and serve the API until interrupted.",
    )
    parser.add_argument("--host", default=DEFAULT_HOST, help="loopback address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 for any free one (%(default)s)")
    parser.add_argument("--data", type=Path, help="folder of everything kept (LAB_DATA, else .lab)")
    parser.add_argument("--broker", default=DEFAULT_BROKER, help="URL of the MQTT broker (%(default)s)")
    parser.add_argument("--host-id", default=DEFAULT_HOST_ID, help="name that gateways wait for (%(default)s)")
    parser.add_argument("--speed", type=float, default=1.0, help="lab seconds per second (%(default)s)")
    parser.add_argument("--origin", help="UTC at which lab time equals UTC, for another speed than 1")
    parser.set_defaults(run=_serve)


@contextlib.asynccontextmanager
async def serving(app: FastAPI, *, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT) -> AsyncIterator[str]:
    """Serve `app` in the running loop; yield its address, such as `http://127.0.0.1:8710`.

    Raises
    ------
    DefinitionError
        If `host` is no loopback address.
    TransportError
        If the port cannot be had.
    """
    import uvicorn

    class Server(uvicorn.Server):
        """Leaves signals to whoever runs the loop."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    check_loopback(host)
    listener = _listen(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=_GRACEFUL_S,
    )
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        yield f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


async def run_server(app: FastAPI, *, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT) -> None:
    """Serve `app` until SIGINT or SIGTERM, and say where."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with serving(app, host=host, port=port) as address:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        print(f"lab: serving {address}/v1", flush=True)
        await stopped.wait()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _serve(options: argparse.Namespace) -> int:
    from gateway.config import PASSWORD_VARIABLE, USERNAME_VARIABLE, Broker
    from lab_api.app import create_app
    from lab_api.host import MqttHost
    from lab_api.recorder import Recorder
    from lab_api.store.sqlite import SqliteSessionStore

    check_loopback(options.host)
    clock = LabClock(time.time_ns, time.monotonic_ns, options.speed, _origin_ns(options.origin, options.speed))
    credentials = {"username": os.environ.get(USERNAME_VARIABLE), "password": os.environ.get(PASSWORD_VARIABLE)}
    broker = Broker.from_url(options.broker, **credentials)
    settings = Settings(data_folder=options.data or default_data_folder())
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    host = MqttHost(broker, host_id=options.host_id, clock=clock)
    with SqliteSessionStore(settings.sessions_folder) as store, Recorder(store, host, clock) as recorder:
        app = create_app(settings, store=store, recorder=recorder, clock=clock)
        asyncio.run(run_server(app, host=options.host, port=options.port))
    return 0


def _origin_ns(origin: str | None, speed: float) -> int:
    """Return the lab clock's origin in ns since 1970."""
    if origin is None:
        if speed != 1:
            raise DefinitionError(f"--speed {speed} without --origin, expected the UTC where it starts")
        return 0
    try:
        moment = datetime.datetime.fromisoformat(origin)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise DefinitionError(f"--origin {origin!r}, expected a time with its zone, as 2026-11-23T09:00:00Z")
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return since // datetime.timedelta(microseconds=1) * 1000


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise TransportError(f"cannot listen on {host} port {port}: {reason}; --port names another") from error
    return listener
