"""What the recorder's side knows of its gateways' health."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gateway.health import Value
from lab_api.gateway_figures import GatewayFigures
from protocols.sparkplug.host_events import (
    DeviceDied,
    DeviceMetrics,
    HostDisconnected,
    NodeBorn,
    NodeDied,
    NodeMetrics,
)
from protocols.sparkplug.topics import NodeId

NODE = NodeId("lab", "gw-1")
Told = Mapping[tuple[str, str, str], object]


@pytest.fixture
def figures() -> GatewayFigures:
    figures = GatewayFigures()
    figures.take(NodeBorn(NODE, 7, 1))
    figures.take(NodeMetrics(NODE, {"Health/backlog_blocks": 3.0, "Vendor/thing": 9}, 1, is_birth=True))
    figures.take(DeviceMetrics(NODE, "strap", {"Health/frames": 7, "Health/ecg/rate_hz": 130.0}, 1))
    return figures


def told(values: list[Value]) -> Told:
    return {(v.device, v.stream, v.figure.name): v.value for v in values}


def test_the_latest_value_of_every_figure_holds(figures: GatewayFigures) -> None:
    figures.take(NodeMetrics(NODE, {"Health/backlog_blocks": 4.0}, 2))
    figures.take(DeviceMetrics(NODE, "strap", {"Health/ecg/rate_hz": 65.0}, 2))
    assert told(figures.values()[NODE]) == {
        ("", "", "backlog_blocks"): 4.0,
        ("strap", "", "frames"): 7,
        ("strap", "ecg", "rate_hz"): 65.0,
    }
    assert figures.stale() == {NODE: False}


def test_a_figure_that_is_not_known_any_more_has_no_value(figures: GatewayFigures) -> None:
    figures.take(NodeMetrics(NODE, {"Health/backlog_blocks": None}, 2))
    assert ("", "", "backlog_blocks") not in told(figures.values()[NODE])


def test_a_device_that_is_offline_says_nothing(figures: GatewayFigures) -> None:
    figures.take(DeviceDied(NODE, "strap", 5))
    assert told(figures.values()[NODE]) == {("", "", "backlog_blocks"): 3.0}


@pytest.mark.parametrize("end", [NodeDied(NODE, 5), HostDisconnected(5)], ids=["died", "disconnected"])
def test_the_last_words_of_a_gateway_are_not_taken_for_the_present(
    figures: GatewayFigures, end: NodeDied | HostDisconnected
) -> None:
    figures.take(end)
    assert figures.values() == {NODE: []}
    assert figures.stale() == {NODE: True}
    figures.take(NodeBorn(NODE, 7, 9))
    assert figures.stale() == {NODE: False}


def test_a_node_of_another_maker_is_left_out() -> None:
    figures = GatewayFigures()
    figures.take(NodeMetrics(NodeId("plant", "plc"), {"Health/backlog_blocks": 3.0}, 1, is_birth=True))
    assert (figures.values(), figures.stale()) == ({}, {})
