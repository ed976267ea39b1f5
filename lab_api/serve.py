"""`lab serve`: the API and the recorder as a process of their own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
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
from protocols.lab_clock import LabClock, parse_origin_ns

if TYPE_CHECKING:
    from fastapi import FastAPI

    from gateway.broker import Broker

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
    parser.add_argument(
        "--broker", metavar="URL", help=f"the MQTT broker (the enrolment's, else {DEFAULT_BROKER})"
    )
    parser.add_argument(
        "--enrolment",
        type=Path,
        metavar="FILE",
        help="the recorder's login, made by lab enrol (the one in the data folder, if there is one)",
    )
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
    from lab_api.app import create_app
    from lab_api.host import MqttHost
    from lab_api.recorder import Recorder
    from lab_api.store.sqlite import SqliteSessionStore

    check_loopback(options.host)
    origin_ns = parse_origin_ns("--origin", options.origin, options.speed)
    clock = LabClock(time.time_ns, time.monotonic_ns, options.speed, origin_ns)
    settings = Settings(data_folder=options.data or default_data_folder())
    broker = _broker(options, settings)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    host = MqttHost(broker, host_id=options.host_id, clock=clock)
    with SqliteSessionStore(settings.sessions_folder) as store, Recorder(store, host, clock) as recorder:
        app = create_app(settings, store=store, recorder=recorder, clock=clock)
        asyncio.run(run_server(app, host=options.host, port=options.port))
    return 0


def _broker(options: argparse.Namespace, settings: Settings) -> Broker:
    """Return the broker that is named, with the login of the enrolment or else of the environment."""
    from gateway.broker import PASSWORD_VARIABLE, USERNAME_VARIABLE, Broker, load_enrolment

    own = settings.broker_folder / f"{options.host_id}.enrolment"
    path = options.enrolment or (own if options.broker is None and own.exists() else None)
    if path is None:
        login = {"username": os.environ.get(USERNAME_VARIABLE), "password": os.environ.get(PASSWORD_VARIABLE)}
        return Broker.from_url(options.broker or DEFAULT_BROKER, **login)
    enrolment = load_enrolment(path)
    if enrolment.identity != options.host_id:
        raise DefinitionError(
            f"{path} enrols {enrolment.identity!r}, expected the recorder {options.host_id!r}"
        )
    broker = enrolment.brokers[0]
    return broker if options.broker is None else broker.moved_to(options.broker)


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
