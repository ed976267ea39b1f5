"""The whole house in one process: simulated devices, gateway, broker, recorder, store and API.

`lab demo` and `lab replay` live in it. Everything is wired as in production: devices are reached over serial
ports and HCI, blocks travel over an MQTT broker, sessions are opened and closed over HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from firmware_sim.device import SimulatedDevice
from firmware_sim.pacing import power_on
from firmware_sim.serving import Placed, Served, serve_devices
from gateway.broker import PASSWORD_VARIABLE, USERNAME_VARIABLE, Broker
from gateway.config import DeviceConfig, GatewayConfig
from gateway.supervisor import Gateway
from lab_api.app import PREFIX, create_app
from lab_api.bridge.accounts import new_password
from lab_api.broker import embedded_broker
from lab_api.host import MqttHost
from lab_api.recorder import Recorder
from lab_api.serve import serving
from lab_api.settings import DEFAULT_HOST_ID, Settings
from lab_api.store.session_store import AnnotationSet, SessionStore
from lab_api.store.sqlite import SqliteSessionStore
from protocols.errors import TransportError
from protocols.lab_clock import LabClock

GROUP: Final = "lab"
GATEWAY: Final = "gateway-1"

_BROKER_TIMEOUT_S: Final = 15.0
_CONNECT_TIMEOUT_S: Final = 60.0
_QUIET_S: Final = 1.0
_HTTP_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Wiring:
    """A simulated device, the link it is on (`ble`, `pty`, `rfc2217`), and its name at the gateway."""

    device: SimulatedDevice
    link: str
    name: str


class Api:
    """The house's API as a client sees it.

    Parameters
    ----------
    address
        Such as `http://127.0.0.1:8710`.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    async def get(self, path: str) -> dict[str, Any]:
        """Return the JSON document at a path below the version prefix.

        Raises
        ------
        TransportError
            With the problem's detail, if the answer is an error.
        """
        return await asyncio.to_thread(self._request, "GET", path, None)

    async def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a JSON document to a path below the version prefix; errors as `get`."""
        return await asyncio.to_thread(self._request, "POST", path, body or {})

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the scheme is ours
            f"{self.address}{PREFIX}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=_HTTP_TIMEOUT_S) as answer:  # noqa: S310
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                detail = json.loads(error.read() or b"{}").get("detail", error.reason)
            raise TransportError(f"{method} {path}: {detail}") from error
        except OSError as error:
            raise TransportError(f"{method} {self.address}{PREFIX}{path}: {error}") from error
        assert isinstance(document, dict)
        return document


@dataclass(frozen=True, slots=True)
class House:
    """A running house."""

    api: Api
    store: SessionStore
    recorder: Recorder
    gateway: Gateway
    clock: LabClock
    served: tuple[Served, ...]
    broker: str
    _start: asyncio.Event

    async def connected(self) -> None:
        """Wait until gateway and recorder have met at the broker, and the gateway has connected every device.

        Raises
        ------
        TransportError
            If one cannot be connected in time; says which and why.
        """
        try:
            async with asyncio.timeout(_BROKER_TIMEOUT_S):
                while not self.gateway.health().host_online:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            why = self.gateway.health().last_error or "gateway and recorder have not met there"
            raise TransportError(
                f"broker {self.broker} not reached in {_BROKER_TIMEOUT_S:g} s: {why}"
            ) from None
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await self.gateway.online()
        except TimeoutError:
            missing = [d for d in self.gateway.health().devices if not d.connections]
            why = "; ".join(f"{d.name}: {d.last_error or d.state}" for d in missing)
            raise TransportError(f"not connected within {_CONNECT_TIMEOUT_S:g} s: {why}") from None

    def start(self) -> None:
        """Power on the devices: what they send begins now, for all at one lab time."""
        power_on([served.device for served in self.served], self.clock)
        self._start.set()

    async def open_session(self, subject: str, roles: dict[str, str], title: str = "") -> str:
        """Open a session for devices by their role; return its id."""
        devices = [{"role": role, "gateway": GATEWAY, "device": device} for role, device in roles.items()]
        session = await self.api.post("/sessions", {"subject": subject, "devices": devices, "title": title})
        return str(session["id"])

    async def close_session(self, session_id: str) -> None:
        """Close a session."""
        await self.api.post(f"/sessions/{session_id}/close")

    async def annotate(self, session_id: str, annotations: AnnotationSet) -> None:
        """Add reference annotations to a session."""
        await self.api.post(
            f"/sessions/{session_id}/annotations",
            {
                "name": annotations.name,
                "gateway": annotations.gateway,
                "device": annotations.device,
                "stream": annotations.stream,
                "rate_hz": annotations.rate_hz,
                "sample_indices": annotations.sample_indices.tolist(),
                "symbols": list(annotations.symbols),
                "boot_id": annotations.boot_id,
            },
        )

    async def sent_everything(self) -> None:
        """Wait until the devices have finished, the gateway has read what they sent, and it is stored."""
        while not all(served.device.finished for served in self.served):
            await asyncio.sleep(0.05)
        n_bytes = -1
        while n_bytes != (n_bytes := sum(device.bytes for device in self.gateway.health().devices)):
            await asyncio.sleep(_QUIET_S)
        await self.gateway.drained()


@contextlib.asynccontextmanager
async def running_house(
    wirings: Sequence[Wiring],
    *,
    folder: Path,
    clock: LabClock,
    broker_url: str | None = None,
    port: int = 0,
) -> AsyncIterator[House]:
    """Run a house for as long as the context lasts; its devices wait for `House.start`.

    Parameters
    ----------
    wirings
        The devices and their links.
    folder
        Where sessions, evaluations and the gateway's spool are kept.
    clock
        Lab time of everything in the house.
    broker_url
        An MQTT broker, with the login that the environment names; if None, an embedded one is started that lets
        nobody in but this house.
    port
        Of the API; 0 for any free one.

    Raises
    ------
    TransportError
        If broker or API cannot be started.
    StoreError
        If the folder cannot be used.
    """
    async with contextlib.AsyncExitStack() as stack:
        host_login, gateway_login = await _logins(stack, broker_url)
        settings = Settings(data_folder=folder)
        store = stack.enter_context(SqliteSessionStore(settings.sessions_folder))
        host = MqttHost(host_login, host_id=DEFAULT_HOST_ID, clock=clock)
        recorder = Recorder(store, host, clock)
        await asyncio.to_thread(recorder.start)
        stack.push_async_callback(asyncio.to_thread, recorder.stop)
        app = create_app(settings, store=store, recorder=recorder, clock=clock)
        api = Api(await stack.enter_async_context(serving(app, port=port)))
        start = asyncio.Event()
        placed = [Placed(wiring.device, wiring.link) for wiring in wirings]
        served = await stack.enter_async_context(serve_devices(placed, clock, start=start))
        devices = [_device_config(w, s) for w, s in zip(wirings, served, strict=True)]
        config = GatewayConfig(
            GROUP, GATEWAY, gateway_login, folder / "gateway", tuple(devices), host=DEFAULT_HOST_ID
        )
        gateway = await stack.enter_async_context(Gateway(config, clock=clock))
        yield House(api, store, recorder, gateway, clock, served, str(host_login), start)


async def _logins(stack: contextlib.AsyncExitStack, url: str | None) -> tuple[Broker, Broker]:
    """Return how host and gateway log in at the broker, which is started if there is no address."""
    if url is not None:
        username, password = os.environ.get(USERNAME_VARIABLE), os.environ.get(PASSWORD_VARIABLE)
        broker = Broker.from_url(url, username=username, password=password)
        return broker, broker
    passwords = {DEFAULT_HOST_ID: new_password(), f"{GROUP}/{GATEWAY}": new_password()}
    url = await stack.enter_async_context(embedded_broker(passwords))
    host, gateway = (Broker.from_url(url, username=name, password=word) for name, word in passwords.items())
    return host, gateway


def _device_config(wiring: Wiring, served: Served) -> DeviceConfig:
    kind = wiring.device.kind
    if served.link == "ble":
        return DeviceConfig(wiring.name, kind, address=served.address, adapter=served.adapter)
    return DeviceConfig(wiring.name, kind, port=served.address)
