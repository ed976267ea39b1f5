"""Health over HTTP."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest
from httpx import Client

from lab_api.app import create_app
from lab_api.host import HostCounts
from lab_api.recorder import Recorder
from lab_api.settings import Settings
from lab_api.store.sqlite import SqliteSessionStore
from protocols.errors import StoreError
from protocols.lab_clock import LabClock
from protocols.sparkplug.host import NodeIdShared
from protocols.sparkplug.topics import NodeId
from tests.lab_api.conftest import OPENED_NS, AppTransport
from tests.lab_api.direct_gateways import DirectGateway, DirectHost, ecg_block, wait_until
from tests.lab_api.requests import open_session

CLOCK = LabClock(time.time_ns, time.monotonic_ns)


def test_a_lab_without_recorder_is_well(client: Client) -> None:
    open_session(client)
    health = client.get("/v1/health").json()

    assert (health["status"], health["store_writable"], health["open_sessions"]) == ("ok", True, 1)
    assert health["now_ns"] == OPENED_NS
    assert health["recorder"] is None


def test_a_store_that_takes_nothing_is_not_well(client: Client, settings: Settings) -> None:
    with SqliteSessionStore(settings.sessions_folder) as elsewhere:
        assert elsewhere.is_writable()
        health = client.get("/v1/health").json()

    assert (health["status"], health["store_writable"]) == ("degraded", False)


def test_the_recorders_state_is_shown(
    settings: Settings, store: SqliteSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = DirectHost()
    with Recorder(store, host, CLOCK) as recorder:
        app = create_app(settings, store=store, recorder=recorder, clock=CLOCK)
        with httpx.Client(transport=AppTransport(app), base_url="http://localhost") as client:
            session = open_session(client)
            gateway = DirectGateway(host)
            gateway.be_born()
            gateway.publish(1, ecg_block(CLOCK.now_ns() + 10**7))
            wait_until(lambda: gateway.watermark() == 1)
            health = client.get("/v1/health").json()

            assert health["status"] == "ok"
            assert health["recorder"]["new_samples"] == 50
            (known,) = health["recorder"]["gateways"]
            assert (known["group"], known["name"], known["online"], known["watermark"]) == (
                "lab",
                "gw-1",
                True,
                1,
            )
            assert (known["lost_records"], known["id_shared"]) == (0, False)
            host.counted = HostCounts(rebirth_requests=3, id_conflicts=2)
            recorded = client.get("/v1/health").json()["recorder"]
            assert (recorded["rebirth_requests"], recorded["id_conflicts"]) == (3, 2)
            samples = client.get(f"/v1/sessions/{session['id']}/streams/gw-1/strap/ecg/samples").json()
            assert samples["segments"][0]["values"] == [list(range(50))]

            host.connected = False
            assert client.get("/v1/health").json()["status"] == "degraded"
            host.connected = True

            def broken(_: object) -> None:
                raise StoreError("disk is full")

            monkeypatch.setattr(store, "write", broken)
            gateway.publish(2, ecg_block(CLOCK.now_ns(), first_index=50))
            wait_until(lambda: client.get("/v1/health").json()["status"] == "degraded")
            recorder_health = client.get("/v1/health").json()["recorder"]
            assert recorder_health["fault"] == "disk is full"
            assert recorder_health["backlog_blocks"] == 1


def test_a_folder_that_is_gone_is_not_well(client: Client, settings: Settings, tmp_path: Path) -> None:
    open_session(client)
    settings.sessions_folder.rename(tmp_path / "elsewhere")

    health = client.get("/v1/health").json()

    assert (health["status"], health["store_writable"], health["open_sessions"]) == ("degraded", False, None)


def test_a_lab_with_something_set_aside_is_not_well_until_it_is_taken_care_of(
    client: Client, store: SqliteSessionStore, settings: Settings
) -> None:
    content = {"gateway": "gw-1", "device": "strap", "spool_seq": 7, "reason": "no array"}
    store.set_aside("lab.gw-1-77-7", json.dumps(content).encode())
    store.set_aside("older", b"not JSON")
    health = client.get("/v1/health").json()
    listed = client.get("/v1/aside").json()["aside"]

    assert (health["status"], health["set_aside"]) == ("degraded", 2)
    assert listed[0] == {"name": "lab.gw-1-77-7", **content}
    assert (listed[1]["name"], listed[1]["reason"]) == ("older", "")

    for path in (settings.sessions_folder / "aside").iterdir():
        path.unlink()
    assert client.get("/v1/health").json()["status"] == "ok"


def test_a_gateway_that_lost_records_or_shares_its_id_is_not_well(
    settings: Settings, store: SqliteSessionStore
) -> None:
    host = DirectHost()
    with Recorder(store, host, CLOCK) as recorder:
        app = create_app(settings, store=store, recorder=recorder, clock=CLOCK)
        with httpx.Client(transport=AppTransport(app), base_url="http://localhost") as client:
            gateway = DirectGateway(host)
            gateway.be_born(oldest_seq=1)
            gateway.be_born(oldest_seq=4)
            wait_until(lambda: client.get("/v1/health").json()["status"] == "degraded")
            assert client.get("/v1/health").json()["recorder"]["gateways"][0]["lost_records"] == 3

            gateway.be_born(oldest_seq=1)
            wait_until(lambda: client.get("/v1/health").json()["status"] == "ok")
            host.deliver(NodeIdShared(NodeId("lab", "gw-1"), 77, 1))
            wait_until(lambda: client.get("/v1/health").json()["status"] == "degraded")
            assert client.get("/v1/health").json()["recorder"]["gateways"][0]["id_shared"] is True
