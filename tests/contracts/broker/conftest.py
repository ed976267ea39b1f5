"""Brokers as labs run them, each with a host and two gateways that may log in, and clients to try them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from gateway.broker import Broker, load_enrolment
from lab_api.bridge.folder import BrokerFolder
from lab_api.broker import embedded_broker

HOST = "lab"
A = "lab/gateway-a"
B = "lab/gateway-b"


@dataclass
class Site:
    """A running broker, and how each identity logs in at it; a folder if it runs from one."""

    logins: dict[str, Broker]
    folder: BrokerFolder | None = None

    @property
    def tls(self) -> bool:
        return self.logins[HOST].tls


@dataclass
class Peer:
    """A client that notes everything."""

    broker: Broker
    will: str = ""
    session: str = ""
    context: ssl.SSLContext | None = None
    received: list[tuple[str, bytes]] = field(default_factory=list)
    granted: list[bool] = field(default_factory=list)
    refused: str = ""
    client: mqtt.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=self.session,
            clean_session=not self.session,
            reconnect_on_failure=False,
        )
        if self.broker.username is not None:
            self.client.username_pw_set(self.broker.username, self.broker.password)
        if (context := self.context or self.broker.tls_context()) is not None:
            self.client.tls_set_context(context)
        if self.will:
            self.client.will_set(self.will, b"will", 1)
        self.client.on_connect = self._on_connect
        self.client.on_message = lambda _c, _d, message: self.received.append((message.topic, message.payload))
        self.client.on_subscribe = lambda _c, _d, _m, codes, _p: self.granted.extend(
            not code.is_failure for code in codes
        )
        self.client.connect(self.broker.host, self.broker.port, 10)
        self.client.loop_start()
        wait_until(lambda: self.client.is_connected() or bool(self.refused))

    @property
    def topics(self) -> list[str]:
        return [topic for topic, _ in self.received]

    def subscribe(self, *topics: str) -> list[bool]:
        """Subscribe; return which of them the broker says it granted."""
        before = len(self.granted)
        self.client.subscribe([(topic, 1) for topic in topics])
        wait_until(lambda: len(self.granted) == before + len(topics))
        return self.granted[before:]

    def publish(self, topic: str, payload: bytes = b"x", qos: int = 0, *, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos, retain)

    def cut(self) -> None:
        """Vanish without a word."""
        link = self.client.socket()
        assert isinstance(link, socket.socket)
        socket.socket.shutdown(link, socket.SHUT_RDWR)  # an SSL socket's own would say goodbye

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client.on_connect = self.client.on_message = self.client.on_subscribe = None

    def _on_connect(self, _c: object, _d: object, _f: object, reason: mqtt.ReasonCode, _p: object) -> None:
        if reason.is_failure:
            self.refused = str(reason)


def wait_until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.005)


@pytest.fixture
def eventually() -> Callable[..., None]:
    return wait_until


def mosquitto_binary() -> str:
    binary = shutil.which("mosquitto", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if binary is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no mosquitto binary on the PATH")
    return str(binary)


@contextlib.contextmanager
def mosquitto_from_folder(scheme: str, path: Path) -> Iterator[Site]:
    """A Mosquitto that runs from the folder that enrolments made."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = BrokerFolder(path / "broker")
    folder.create([f"{scheme}://127.0.0.1:{port}"], HOST)
    logins = {HOST: load_enrolment(folder.host_enrolment).brokers[0]}
    for identity in (A, B):
        out = path / f"{identity.rpartition('/')[2]}.enrolment"
        folder.enrol(identity, out)
        logins[identity] = load_enrolment(out).brokers[0]
    with mosquitto_running(folder.path, path / "mosquitto.log"):
        yield Site(logins, folder)


@contextlib.contextmanager
def mosquitto_running(folder: Path, log: Path) -> Iterator[Path]:
    """A Mosquitto with the configuration in a folder; yields its log."""
    configuration = folder / "mosquitto.conf"
    port = int(configuration.read_text().partition("\nlistener ")[2].split()[0])
    with log.open("w") as stderr:
        process = subprocess.Popen([mosquitto_binary(), "-c", str(configuration)], stderr=stderr)
        try:
            wait_until(lambda: listening(port))
            yield log
        finally:
            process.terminate()
            process.wait()


@pytest.fixture
def mosquitto_from(tmp_path: Path) -> Callable[[Path], AbstractContextManager[Path]]:
    return lambda folder: mosquitto_running(folder, tmp_path / "mosquitto.log")


def listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
        return True
    return False


@contextlib.contextmanager
def embedded(mosquitto: str) -> Iterator[Site]:
    """The embedded broker, in a loop of its own thread."""
    passwords = {identity: f"secret of {identity}" for identity in (HOST, A, B)}
    urls: list[str] = []
    stop = threading.Event()

    async def run() -> None:
        async with embedded_broker(passwords, host_id=HOST, mosquitto=mosquitto) as url:
            urls.append(url)
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        wait_until(lambda: bool(urls))
        yield Site({i: Broker.from_url(urls[0], username=i, password=p) for i, p in passwords.items()})
    finally:
        stop.set()
        thread.join()


KINDS: dict[str, Callable[[Path], AbstractContextManager[Site]]] = {
    "mosquitto over TLS": lambda path: mosquitto_from_folder("mqtts", path),
    "mosquitto": lambda path: mosquitto_from_folder("mqtt", path),
    "embedded mosquitto": lambda _: embedded(mosquitto_binary()),
    "embedded amqtt": lambda _: embedded(""),
}


@pytest.fixture(scope="module", params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with KINDS[request.param](tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    """Starts a broker for one test, which may change who is enrolled."""
    with contextlib.ExitStack() as stack:
        yield lambda kind: stack.enter_context(KINDS[kind](tmp_path))


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    """Connects clients that are gone after the test."""
    peers: list[Peer] = []

    def connect(broker: Broker, **options: object) -> Peer:
        peers.append(Peer(broker, **options))  # type: ignore[arg-type]
        return peers[-1]

    yield connect
    for each in peers:
        each.close()


@pytest.fixture
def host(site: Site, peer: Callable[..., Peer]) -> Peer:
    """The host application's client, which hears everything."""
    client = peer(site.logins[HOST])
    client.subscribe("spBv1.0/#")
    return client
