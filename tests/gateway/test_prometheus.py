"""The gateway's endpoint as Prometheus, a browser and a rude client meet it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gateway import prometheus
from gateway.clock_offset import UNKNOWN
from gateway.health import Report, values_of
from gateway.health_figures import FIGURES, Sort
from gateway.prometheus import HealthServer, series_name
from protocols.sparkplug.topics import NodeId
from tests.gateway.health_snapshots import finger, gateway, snapshot, strap, with_stream

NODE = NodeId("lab", "bench-1")


def report(*, age_s: float = 0.0, **changes: object) -> Report:
    device = with_stream(strap(frames=7), "ecg", samples=12, rate_hz=130.0)
    taken = snapshot(device, finger(), **changes)
    return Report(time.monotonic() - age_s, values_of(taken, ()))


Serve = Callable[[Report | None], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(latest: Report | None) -> str:
            return stack.enter_context(HealthServer(NODE, "127.0.0.1", 0, lambda: latest)).address

        yield start


def get(address: str, **headers: str) -> tuple[int, str, str]:
    answer = httpx.get(address, headers=headers, timeout=10)
    return answer.status_code, answer.headers["Content-Type"], answer.text


def test_a_scrape_is_understood_by_the_parser_of_the_format(serve: Serve) -> None:
    status, content_type, text = get(serve(report()) + "/metrics")
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    strap_ecg = {"group": "lab", "gateway": "bench-1", "device": "strap", "stream": "ecg"}
    samples = {
        (s.name, s.labels.get("device"), s.labels.get("stream")): s
        for f in text_string_to_metric_families(text)
        for s in f.samples
    }
    rate = samples["lab_stream_rate_hertz", "strap", "ecg"]
    assert (rate.labels, rate.value) == (strap_ecg, 130)
    assert samples["lab_stream_samples_total", "strap", "ecg"].value == 12
    assert samples["lab_device_frames_total", "strap", None].value == 7
    assert samples["lab_gateway_broker_connected", None, None].value == 1
    assert samples["lab_gateway_clock_offset_seconds", None, None].value == pytest.approx(120e-6)
    assert 0 <= samples["lab_gateway_report_age_seconds", None, None].value < 10


def test_the_two_formats_of_prometheus_tell_the_same(serve: Serve) -> None:
    address = serve(report()) + "/metrics"
    _, content_type, text = get(address, Accept="application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in parse_openmetrics(text)}
    assert families["lab_stream_samples"].type == "counter"
    assert families["lab_stream_rate_hertz"].type == "gauge"


def test_every_series_has_help_type_and_a_conventional_name(serve: Serve) -> None:
    _, _, text = get(serve(report()) + "/metrics")
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("counter", "gauge")
        names = {sample.name for sample in family.samples}
        assert names == {family.name + ("_total" if family.type == "counter" else "")}


def test_base_units_are_used() -> None:
    names = {f.name: series_name(f) for f in FIGURES if f.sort is not Sort.TEXT}
    assert names["buffer_left_h"] == "lab_gateway_buffer_left_seconds"
    assert names["battery_percent"] == "lab_device_battery_ratio"
    assert names["received_bytes"] == "lab_device_received_bytes_total"


def test_a_percentage_becomes_a_ratio_and_hours_become_seconds(serve: Serve) -> None:
    values = [
        v._replace(value={"buffer_left_h": 2.0, "battery_percent": 80.0}[v.figure.name])
        for v in report().values
        if v.figure.name in ("buffer_left_h", "battery_percent") and v.device in ("", "strap")
    ]
    _, _, text = get(serve(Report(time.monotonic(), values)) + "/metrics")
    samples = {s.name: s.value for f in text_string_to_metric_families(text) for s in f.samples}
    assert samples["lab_gateway_buffer_left_seconds"] == 7200
    assert samples["lab_device_battery_ratio"] == pytest.approx(0.8)


def test_what_is_not_known_has_no_series(serve: Serve) -> None:
    _, _, text = get(serve(report(clock=UNKNOWN)) + "/metrics")
    assert "lab_gateway_clock_offset_seconds" not in text
    assert "lab_gateway_clock_doubtful" in text


def test_health_is_ok_when_all_is_well(serve: Serve) -> None:
    status, content_type, text = get(serve(report()) + "/health")
    health = json.loads(text)
    assert (status, content_type) == (200, "application/json")
    assert (health["status"], health["gateway"], health["warnings"]) == ("ok", "bench-1", [])
    assert health["figures"]["broker_connected"] is True
    assert health["devices"]["strap"]["figures"]["state"] == "streaming"
    assert health["devices"]["strap"]["streams"]["ecg"]["rate_hz"] == 130


def test_health_names_its_warnings(serve: Serve) -> None:
    ill = gateway(strap(alarm="radio is gone"), spool_fault="disk I/O error")
    status, _, text = get(serve(report(gateway=ill)) + "/health")
    health = json.loads(text)
    assert (status, health["status"]) == (200, "warning")
    assert [(w["figure"], w["device"]) for w in health["warnings"]] == [
        ("spool_failing", ""),
        ("failing", "strap"),
    ]


@pytest.mark.parametrize(("age_s", "status"), [(None, "starting"), (20.0, "stale")])
def test_a_gateway_that_hangs_or_has_not_begun_is_unavailable(
    serve: Serve, age_s: float | None, status: str
) -> None:
    code, _, text = get(serve(None if age_s is None else report(age_s=age_s)) + "/health")
    assert (code, json.loads(text)["status"]) == (503, status)


def test_before_the_first_figures_a_scrape_is_empty(serve: Serve) -> None:
    assert get(serve(None) + "/metrics")[::2] == (200, "")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/etc/passwd", "/health?x=1/../"])
def test_only_two_paths_are_there(serve: Serve, path: str) -> None:
    expected = 200 if path.startswith("/health?") else 404
    assert get(serve(report()) + path)[0] == expected


@pytest.mark.parametrize("path", ["/metrics", "/health"])
def test_nothing_can_be_sent_to_it(serve: Serve, path: str) -> None:
    assert httpx.post(serve(report()) + path, data={"x": "1"}).status_code == 405


def test_rude_clients_are_dropped_and_others_are_served(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prometheus._Handler.timeout is not None  # what the library has it at: it would wait for ever
    monkeypatch.setattr(prometheus._Handler, "timeout", 0.3)
    address = serve(report())
    port = int(address.rpartition(":")[2])
    with ExitStack() as stack:
        for sent in (b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nX: ", b"\x16\x03\x01\x00\xff" * 100) * 3:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(sent)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                status, _, _ = get(address + "/metrics")
                break
            except httpx.TransportError:  # turned away: all places are taken
                time.sleep(0.05)
        assert status == 200
    assert sum(thread.name != "MainThread" for thread in threading.enumerate()) < 20


def test_a_port_that_is_taken_is_said_so(serve: Serve) -> None:
    port = int(serve(report()).rpartition(":")[2])
    with pytest.raises(OSError, match="in use"), HealthServer(NODE, "127.0.0.1", port, lambda: None):
        pass


def test_it_serves_over_ipv6() -> None:
    try:
        server = HealthServer(NODE, "::1", 0, report)
        with server:
            assert server.address.startswith("http://[::1]:")
            assert get(server.address + "/health")[0] == 200
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


def test_stopping_frees_the_port_at_once() -> None:
    with HealthServer(NODE, "127.0.0.1", 0, lambda: None) as server:
        port = int(server.address.rpartition(":")[2])
    with HealthServer(NODE, "127.0.0.1", port, lambda: None):
        pass
