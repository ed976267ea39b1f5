"""The recorder's figures as Prometheus scrapes them."""

from __future__ import annotations

import time

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gateway.health import sparkplug_metrics, values_of
from lab_api.app import create_app
from lab_api.host import HostCounts
from lab_api.recorder import Recorder
from lab_api.settings import Settings
from lab_api.store.sqlite import SqliteSessionStore
from protocols.devices import polar
from protocols.lab_clock import LabClock
from protocols.sparkplug.edge_node import DeviceBirth, EdgeNodeSession
from protocols.sparkplug.topics import NodeId
from tests.gateway.health_snapshots import gateway, snapshot, strap, with_stream
from tests.lab_api.conftest import AppTransport
from tests.lab_api.direct_gateways import DirectHost, wait_until

CLOCK = LabClock(time.time_ns, time.monotonic_ns)
NODE = NodeId("lab", "gw-1")
OF_GATEWAY = {"group": "lab", "gateway": "gw-1"}


def scrape(app: FastAPI) -> list[Sample]:
    with httpx.Client(transport=AppTransport(app), base_url="http://localhost") as client:
        answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return [s for family in text_string_to_metric_families(answer.text) for s in family.samples]


def value(samples: list[Sample], name: str, **labels: str) -> float | None:
    found = [s.value for s in samples if s.name == name and s.labels == labels]
    return found[0] if found else None


def test_a_lab_without_recorder_tells_of_its_store(app: FastAPI) -> None:
    assert [(s.name, s.value) for s in scrape(app)] == [("lab_store_writable", 1)]


def test_recorder_and_gateways_are_told(settings: Settings, store: SqliteSessionStore) -> None:
    host = DirectHost()
    host.counted = HostCounts(rebirth_requests=3, id_conflicts=2)
    session = EdgeNodeSession(NODE, host_id="lab", incarnation=7)
    session.connecting(0)
    device = with_stream(strap(frames=9), "ecg", rate_hz=130.0)
    of_node, of_devices = sparkplug_metrics(values_of(snapshot(gateway=gateway(device, backlog_bytes=512)), ()))
    session.device_birth("strap", DeviceBirth({1: polar.ECG}, metrics=of_devices["strap"]), 0)
    with Recorder(store, host, CLOCK) as recorder:
        app = create_app(settings, store=store, recorder=recorder, clock=CLOCK)
        for message in session.births(0, oldest_seq=4, metrics=of_node):
            host.receive(message)
        wait_until(lambda: len(recorder.status().nodes) == 1)

        samples = scrape(app)
        assert len({(s.name, *sorted(s.labels.items())) for s in samples}) == len(samples)
        assert value(samples, "lab_recorder_connected") == 1
        assert value(samples, "lab_recorder_blocks_total") == 0
        assert value(samples, "lab_recorder_rebirth_requests_total") == 3
        assert value(samples, "lab_recorder_id_conflicts_total") == 2
        assert value(samples, "lab_gateway_online", **OF_GATEWAY) == 1
        assert value(samples, "lab_gateway_watermark", **OF_GATEWAY) == 3
        assert value(samples, "lab_gateway_stale", **OF_GATEWAY) == 0
        assert value(samples, "lab_gateway_backlog_bytes", **OF_GATEWAY) == 512
        assert value(samples, "lab_device_frames_total", **OF_GATEWAY, device="strap") == 9
        assert value(samples, "lab_stream_rate_hertz", **OF_GATEWAY, device="strap", stream="ecg") == 130

        host.receive(session.death(0))
        wait_until(lambda: not recorder.status().nodes[0].online)
        samples = scrape(app)
        assert value(samples, "lab_gateway_online", **OF_GATEWAY) == 0
        assert value(samples, "lab_gateway_stale", **OF_GATEWAY) == 1
        assert value(samples, "lab_gateway_backlog_bytes", **OF_GATEWAY) is None
        assert not [s for s in samples if "device" in s.labels]


def test_openmetrics_is_spoken_to_whoever_asks_for_it(app: FastAPI) -> None:
    with httpx.Client(transport=AppTransport(app), base_url="http://localhost") as client:
        answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert [family.name for family in parse_openmetrics(answer.text)] == ["lab_store_writable"]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_it_can_only_be_read(app: FastAPI, method: str) -> None:
    with httpx.Client(transport=AppTransport(app), base_url="http://localhost") as client:
        assert client.request(method, "/metrics").status_code == 405
