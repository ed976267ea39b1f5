"""For Prometheus: the recorder, and the health of its gateways as they tell it themselves.

The series of gateways have the same names and labels as at a gateway's own endpoint. A gateway or device that
is offline has none, so that nobody takes its last words for the present.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Final, NamedTuple

from fastapi import APIRouter, Header, Response
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway.prometheus import Family, families
from lab_api.recorder import Recorder, RecorderStatus
from lab_api.state import Lab, LabState
from protocols.sparkplug.topics import NodeId

router = APIRouter(tags=["health"])


class _Series(NamedTuple):
    make: type[CounterMetricFamily] | type[GaugeMetricFamily]
    name: str
    help: str
    read: Callable[[RecorderStatus], float]


_C, _G = CounterMetricFamily, GaugeMetricFamily
_RECORDER: Final = (
    _Series(_G, "connected", "Whether the broker is reached", lambda r: r.connected),
    _Series(_G, "backlog_blocks", "Records received and not done", lambda r: r.backlog_blocks),
    _Series(_G, "oldest_seconds", "How long the oldest of them has waited", lambda r: r.oldest_s),
    _Series(_G, "failing", "Whether the store takes nothing from some session", lambda r: bool(r.fault)),
    _Series(_C, "blocks", "Records done", lambda r: r.blocks),
    _Series(_C, "new_samples", "Samples stored", lambda r: r.new_samples),
    _Series(_C, "duplicate_samples", "Samples that were stored already", lambda r: r.duplicate_samples),
    _Series(_C, "conflicts", "Samples or frames that contradict stored ones", lambda r: r.conflicts),
    _Series(_C, "unassigned_samples", "Samples that no session claimed", lambda r: r.unassigned_samples),
    _Series(_C, "dropped_blocks", "Records left to be sent again", lambda r: r.dropped_blocks),
    _Series(_C, "set_aside_blocks", "Records set aside: they made no sense", lambda r: r.set_aside_blocks),
    _Series(_C, "gaps", "Records of gaps stored", lambda r: r.gaps),
    _Series(_C, "new_frames", "Raw frames stored", lambda r: r.new_frames),
    _Series(_C, "duplicate_frames", "Raw frames that were stored already", lambda r: r.duplicate_frames),
    _Series(_C, "rejected_payloads", "Messages not understood", lambda r: r.rejected_payloads),
    _Series(_C, "rebirth_requests", "How often a gateway was asked to be born", lambda r: r.rebirth_requests),
    _Series(_C, "id_conflicts", "Births that show two gateways of one id", lambda r: r.id_conflicts),
)


class _Lab(Collector):
    """What the text is made from, in place of the client library's global registry."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def collect(self) -> Iterator[Family]:
        yield GaugeMetricFamily(
            "lab_store_writable", "Whether sessions can be written", float(self._lab.store.is_writable())
        )
        if self._lab.recorder is not None:
            yield from _recorder_families(self._lab.recorder)


@router.get("/metrics", include_in_schema=False)
def get_metrics(lab: LabState, accept: Annotated[str, Header()] = "") -> Response:
    """Return all figures in the format that Prometheus asks for."""
    encode, content_type = choose_encoder(accept)
    return Response(encode(_Lab(lab)), media_type=content_type, headers={"Cache-Control": "no-store"})


def _recorder_families(recorder: Recorder) -> Iterator[Family]:
    status = recorder.status()
    for series in _RECORDER:
        yield series.make(f"lab_recorder_{series.name}", series.help, float(series.read(status)))
    yield _of_gateways(
        "lab_gateway_online",
        "Whether the gateway is online, by the recorder",
        ((n.node, n.online) for n in status.nodes),
    )
    yield _of_gateways(
        "lab_gateway_watermark",
        "Every block up to this place in its spool is durable",
        ((n.node, n.watermark) for n in status.nodes),
    )
    yield _of_gateways(
        "lab_gateway_stale", "Whether what it said last no longer holds", recorder.figures.stale().items()
    )
    yield from families(recorder.figures.values().items())


def _of_gateways(name: str, text: str, values: Iterable[tuple[NodeId, float]]) -> Family:
    family = GaugeMetricFamily(name, text, labels=("group", "gateway"))
    for node, value in values:
        family.add_metric([node.group, node.name], float(value))
    return family
