"""Health figures for Prometheus, and a small server that tells them.

The text comes from the official client library, from values that are there already: a scrape reads nothing else
and waits for nobody. The server runs in threads of its own, serves a few requests at a time and drops a client
that keeps it waiting, so whatever a client does delays no device.
"""

from __future__ import annotations

import json
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.health import Report, Value, warnings_of
from gateway.health_figures import Figure, Scope, Sort
from protocols.sparkplug.topics import NodeId

STALE_S: Final = 15.0
"""Values older than this mean that the gateway hangs."""

_LABELS: Final[Mapping[Scope, Sequence[str]]] = {
    Scope.GATEWAY: ("group", "gateway"),
    Scope.DEVICE: ("group", "gateway", "device"),
    Scope.STREAM: ("group", "gateway", "device", "stream"),
}
_BASE_UNITS: Final[Mapping[str, tuple[str, float]]] = {
    "1": ("", 1),
    "Hz": ("_hertz", 1),
    "s": ("_seconds", 1),
    "h": ("_seconds", 3600),
    "By": ("_bytes", 1),
    "%": ("_ratio", 0.01),
}
_CLIENT_TIMEOUT_S: Final = 5.0
_MAX_CLIENTS: Final = 8
_POLL_S: Final = 0.1

_log = logging.getLogger(__name__)

Family = CounterMetricFamily | GaugeMetricFamily
StartResponse = Callable[[str, list[tuple[str, str]]], object]
WsgiApp = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


def series_name(figure: Figure[Any]) -> str:
    """Return the name of a figure's series: base units, `_total` for counters."""
    suffix, _ = _BASE_UNITS[figure.unit]
    total = "_total" if figure.sort is Sort.COUNTER else ""
    return f"lab_{figure.scope}_{figure.stem}{suffix}{total}"


def families(gateways: Iterable[tuple[NodeId, Iterable[Value]]]) -> Iterator[Family]:
    """Yield the metric families of gateways by their values; texts and what is not known are left out."""
    found: dict[str, Family] = {}
    for node, values in gateways:
        for figure, device, stream, value in values:
            if value is None or figure.sort is Sort.TEXT:
                continue
            name = series_name(figure)
            if name not in found:
                found[name] = _family(name, figure)
            labels = [node.group, node.name, device, stream][: len(_LABELS[figure.scope])]
            found[name].add_metric(labels, float(value) * _BASE_UNITS[figure.unit][1])
    yield from found.values()


class HealthServer:
    """Answers `GET /metrics` (Prometheus) and `GET /health` (JSON) while its context lasts.

    Parameters
    ----------
    node
        The gateway, for the labels.
    host, port
        Where to listen; port 0 for any free one.
    latest
        Returns the newest report, None before the first; called in other threads.

    Raises
    ------
    OSError
        On entering, if nobody can listen there.
    """

    def __init__(self, node: NodeId, host: str, port: int, latest: Callable[[], Report | None]) -> None:
        self._node = node
        self._host, self._port = host, port
        self._latest = latest

    def __enter__(self) -> Self:
        self._server = _Server(self._host, self._port, self._answer)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="health", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def address(self) -> str:
        """Where it listens, as `http://host:port`."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.server_port}"

    def _answer(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET":
            return _text(start_response, "405 Method Not Allowed", "expected GET\n", ("Allow", "GET"))
        if environ["PATH_INFO"] == "/metrics":
            return _metrics_app(self._collect)(environ, start_response)
        if environ["PATH_INFO"] == "/health":
            return self._health(start_response)
        return _text(start_response, "404 Not Found", "expected /metrics or /health\n")

    def _collect(self) -> Iterator[Family]:
        report = self._latest()
        if report is None:
            return
        yield from families([(self._node, report.values)])
        age = GaugeMetricFamily(
            "lab_gateway_report_age_seconds",
            "Age of the figures of this gateway; more than a few seconds mean that it hangs",
            labels=_LABELS[Scope.GATEWAY],
        )
        age.add_metric([self._node.group, self._node.name], _now_s() - report.taken_s)
        yield age

    def _health(self, start_response: StartResponse) -> Iterable[bytes]:
        report = self._latest()
        document = {"status": "starting"} if report is None else health_document(self._node, report, _now_s())
        up = document["status"] in ("ok", "warning")
        body = json.dumps(document, indent=1) + "\n"
        start_response(
            "200 OK" if up else "503 Service Unavailable",
            [("Content-Type", "application/json"), ("Cache-Control", "no-store")],
        )
        return [body.encode()]


def health_document(node: NodeId, report: Report, now_s: float) -> dict[str, Any]:
    """Return a report as plain values: `status` is `ok`, `warning`, or `stale` if the gateway hangs."""
    warnings = [
        {"figure": w.figure.name, "device": w.device, "stream": w.stream, "meaning": w.figure.help}
        for w in warnings_of(report.values)
    ]
    age_s = now_s - report.taken_s
    document: dict[str, Any] = {
        "status": "stale" if age_s > STALE_S else "warning" if warnings else "ok",
        "group": node.group,
        "gateway": node.name,
        "age_s": round(age_s, 3),
        "warnings": warnings,
        "figures": {},
        "devices": {},
    }
    for value in report.values:
        part = document
        if value.device:
            part = part["devices"].setdefault(value.device, {"figures": {}, "streams": {}})
        figures = part["streams"].setdefault(value.stream, {}) if value.stream else part["figures"]
        figures[value.figure.name] = value.value
    return document


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """Serves at most `_MAX_CLIENTS` at a time; further ones are turned away."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, app: WsgiApp) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._free = threading.Semaphore(_MAX_CLIENTS)
        super().__init__((host, port), _Handler)
        self.set_app(app)

    def server_bind(self) -> None:
        """Bind without asking the name service who we are, which can take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a client in a thread of its own, if there is one left."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a client to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """Note a client that went away or kept us waiting."""
        _log.debug("health request of %s failed", client_address, exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = _CLIENT_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the overridden one
        _log.debug(format, *args)


class _Collected(Collector):
    """What the library makes text from, in place of its global registry."""

    def __init__(self, collect: Callable[[], Iterable[Family]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Family]:
        return self._collect()


def _metrics_app(collect: Callable[[], Iterable[Family]]) -> WsgiApp:
    return make_wsgi_app(_Collected(collect))


def _family(name: str, figure: Figure[Any]) -> Family:
    make = CounterMetricFamily if figure.sort is Sort.COUNTER else GaugeMetricFamily
    return make(name, figure.help, labels=_LABELS[figure.scope])


def _text(start_response: StartResponse, status: str, text: str, *headers: tuple[str, str]) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), *headers])
    return [text.encode()]


def _now_s() -> float:
    return time.monotonic()
