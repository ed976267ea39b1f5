"""What a gateway's health figures say, and that Sparkplug carries them there and back."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from gateway.clock_offset import UNKNOWN, ClockOffset
from gateway.device_health import DeviceState
from gateway.health import HealthWatch, Value, sparkplug_metrics, value_of_metric, values_of, warnings_of
from gateway.health_figures import FIGURES, Scope, Sort
from gateway.health_snapshot import Disk
from gateway.prometheus import series_name
from protocols.devices import battery, heart_rate, nonin, polar
from protocols.sparkplug.edge_node import DeviceBirth, EdgeNodeSession
from protocols.sparkplug.payload import DataType, decode_payload
from protocols.sparkplug.topics import NodeId
from tests.gateway.health_snapshots import (
    block,
    finger,
    gateway,
    said,
    snapshot,
    strap,
    with_stream,
)

MINUTE = range(0, 61, 5)
DOCUMENT = Path(__file__).parents[2] / "docs" / "health.md"


def test_every_figure_has_one_value_for_each_thing_it_speaks_of() -> None:
    values = values_of(snapshot(strap(), finger()), ())
    counted = Counter(v.figure.scope for v in values)
    per_scope = Counter(f.scope for f in FIGURES)
    assert counted[Scope.GATEWAY] == per_scope[Scope.GATEWAY]
    assert counted[Scope.DEVICE] == 2 * per_scope[Scope.DEVICE]
    assert counted[Scope.STREAM] == 5 * per_scope[Scope.STREAM]
    assert len({(v.device, v.metric_name) for v in values}) == len(values)


def test_names_are_unique_and_the_two_spellings_agree() -> None:
    for name_of in (lambda f: (f.scope, f.name), series_name):
        figures = [f for f in FIGURES if f.sort is not Sort.TEXT]
        assert len({name_of(f) for f in figures}) == len(figures)


def test_a_gateway_that_is_well_warns_of_nothing() -> None:
    assert warnings_of(values_of(snapshot(strap(), finger()), ())) == []


def test_a_device_of_which_anything_is_missing_now_is_warned_of() -> None:
    absent = with_stream(strap(state=DeviceState.WAITING), "ecg", gap_open=True)
    watch, warnings = HealthWatch(), []
    for after_s in (0, 2, 4, 6):
        values = watch.values(snapshot(absent, finger(), after_s=after_s))
        warnings += [(after_s, w.figure.name, w.device) for w in warnings_of(values)]
    assert warnings == [(6, "missing", "strap")]


@pytest.mark.parametrize("change", ["refused_blocks", "expired_blocks"])
def test_blocks_that_the_spool_gave_up_are_warned_of_for_five_minutes(change: str) -> None:
    watch, losing = HealthWatch(), []
    for after_s in range(0, 601, 5):
        given_up = max(0, min(after_s, 60) - 30)
        values = watch.values(snapshot(after_s=after_s, gateway=gateway(**{change: given_up})))
        if said(values, "spool_losing"):
            losing.append(after_s)
    assert losing == list(range(35, 360, 5))


def test_blocks_that_the_spool_gave_up_in_its_first_seconds_are_warned_of() -> None:
    assert said(values_of(snapshot(gateway=gateway(refused_blocks=1)), ()), "spool_losing") is True


def test_the_share_received_is_of_what_the_nominal_rate_promised_in_the_last_minute() -> None:
    watch = HealthWatch()
    for after_s in range(0, 121, 5):
        received = 130 * after_s if after_s <= 60 else 130 * 60 + 65 * (after_s - 60)
        values = watch.values(snapshot(with_stream(strap(), "ecg", samples=received), after_s=after_s))
    assert said(values, "received_ratio", "strap", "ecg") == pytest.approx(0.5)
    assert said(values, "received_ratio", "strap", "heart_rate") is None  # it has no rate


def test_the_share_received_is_in_lab_time() -> None:
    watch = HealthWatch()
    for after_s in MINUTE:
        device = with_stream(strap(), "ecg", samples=130 * 20 * after_s)
        values = watch.values(snapshot(device, after_s=after_s, speed=20.0))
    assert said(values, "received_ratio", "strap", "ecg") == pytest.approx(1.0)


def test_shares_and_hours_are_not_told_before_they_are_known() -> None:
    watch = HealthWatch()
    for after_s in (0, 2, 4):
        values = watch.values(snapshot(strap(), after_s=after_s, put_bytes=1000 * after_s))
        assert said(values, "received_ratio", "strap", "ecg") is None
        assert said(values, "decode_error_ratio", "strap") is None
        assert said(values, "buffer_left_h") is None
        assert said(values, "buffer_low") is None


def hours_left(
    *, max_spool_bytes: int, free_bytes: int, backlog_bytes: int, rate: int
) -> tuple[object, object]:
    watch = HealthWatch()
    for after_s in range(0, 301, 2):
        now = snapshot(
            after_s=after_s,
            gateway=gateway(backlog_bytes=backlog_bytes),
            max_spool_bytes=max_spool_bytes,
            put_bytes=rate * after_s,
            disk=Disk(free_bytes, 0),
        )
        values = watch.values(now)
    return said(values, "buffer_left_h"), said(values, "buffer_low")


def test_hours_of_buffer_are_the_free_room_of_the_spool_by_the_rate_of_what_is_put_in() -> None:
    left, low = hours_left(max_spool_bytes=72 * 3_600_000, free_bytes=1 << 40, backlog_bytes=0, rate=1000)
    assert (left, low) == (pytest.approx(72), False)
    left, low = hours_left(
        max_spool_bytes=72 * 3_600_000, free_bytes=1 << 40, backlog_bytes=60 * 3_600_000, rate=1000
    )
    assert (left, low) == (pytest.approx(12), True)


def test_a_disk_that_is_fuller_than_the_spool_limits_the_hours() -> None:
    left, low = hours_left(max_spool_bytes=1 << 40, free_bytes=3_600_000, backlog_bytes=0, rate=1000)
    assert (left, low) == (pytest.approx(1), True)


def test_a_full_spool_leaves_no_hours() -> None:
    left, _ = hours_left(max_spool_bytes=1000, free_bytes=1 << 40, backlog_bytes=2000, rate=1000)
    assert left == 0


def test_nothing_put_in_means_that_the_hours_are_unknown() -> None:
    left, low = hours_left(max_spool_bytes=1 << 30, free_bytes=1 << 40, backlog_bytes=0, rate=0)
    assert (left, low) == (None, None)


def test_decode_errors_are_told_for_each_frame_of_the_last_minute() -> None:
    watch = HealthWatch()
    for after_s in range(0, 181, 5):
        errors = min(after_s, 60) // 5  # none for two minutes now
        values = watch.values(snapshot(strap(frames=10 * after_s, decode_errors=errors), after_s=after_s))
        if after_s == 60:
            assert said(values, "decode_error_ratio", "strap") == pytest.approx(12 / 600)
    assert said(values, "decode_error_ratio", "strap") == 0


def test_the_newest_block_tells_age_and_uncertainty() -> None:
    newest = block(polar.ECG, [1], [2], age_s=1.5, uncertainty_ns=2_000_000)
    values = values_of(snapshot(with_stream(strap(), "ecg", newest=newest)), ())
    assert said(values, "newest_age_s", "strap", "ecg") == pytest.approx(1.5)
    assert said(values, "uncertainty_s", "strap", "ecg") == pytest.approx(0.002)
    assert said(values, "newest_age_s", "strap", "heart_rate") is None


@pytest.mark.parametrize(("flag", "contact"), [(0, None), (1, None), (2, False), (3, True)])
def test_a_strap_says_whether_it_touches_the_skin(flag: int, contact: bool | None) -> None:
    newest = block(heart_rate.HEART_RATE, [60, 3 - flag], [61, flag])
    values = values_of(snapshot(with_stream(strap(), "heart_rate", newest=newest)), ())
    assert said(values, "contact", "strap", "heart_rate") is contact
    assert said(values, "contact", "strap", "ecg") is None


@pytest.mark.parametrize(("status", "contact"), [(0x80, True), (0x80 | nonin.SENSOR_ALARM, False)])
def test_an_oximeter_says_whether_there_is_a_finger_in_it(status: int, contact: bool) -> None:
    newest = block(nonin.PLETH, [100, 0x80], [101, status])
    values = values_of(snapshot(with_stream(finger(), "pleth", newest=newest)), ())
    assert said(values, "contact", "finger", "pleth") is contact


@pytest.mark.parametrize(("level", "low"), [(100, False), (20, False), (19, True)])
def test_a_low_battery_is_warned_of(level: int, low: bool) -> None:
    values = values_of(snapshot(with_stream(strap(), "battery", newest=block(battery.STREAM, [level]))), ())
    assert said(values, "battery_percent", "strap") == level
    assert said(values, "battery_low", "strap") is low


def test_a_device_may_say_that_its_battery_is_low_without_a_level() -> None:
    values = values_of(snapshot(finger(properties={"low_battery": "yes"}), strap()), ())
    assert said(values, "battery_percent", "finger") is None
    assert said(values, "battery_low", "finger") is True
    assert said(values, "battery_low", "strap") is None


@pytest.mark.parametrize(
    ("clock", "doubtful"),
    [
        (ClockOffset(0, 50_000_000, "chrony", synchronised=True), False),
        (ClockOffset(0, 50_100_000, "chrony", synchronised=True), True),
        (ClockOffset(0, 1_000, "chrony", synchronised=False), True),
        (ClockOffset(None, None, "chrony", synchronised=True), True),
        (UNKNOWN, True),
        (None, None),
    ],
)
def test_a_clock_that_nobody_vouches_for_is_warned_of(clock: ClockOffset | None, doubtful: bool | None) -> None:
    values = values_of(snapshot(clock=clock), ())
    assert said(values, "clock_doubtful") is doubtful


def test_an_unknown_clock_has_no_offset() -> None:
    values = values_of(snapshot(clock=UNKNOWN), ())
    assert {said(values, n) for n in ("clock_offset_s", "clock_uncertainty_s")} == {None}
    assert (said(values, "clock_synchronised"), said(values, "clock_source")) == (False, "unknown")


def test_disk_and_spool_are_warned_of() -> None:
    ill = gateway(spool_fault="disk I/O error", oldest_unsent_s=61.0, spool_damage="spool.sqlite.bad put aside")
    values = values_of(snapshot(gateway=ill, disk=Disk((1 << 30) - 1, 5)), ())
    assert {w.figure.name for w in warnings_of(values)} == {
        "spool_failing",
        "spool_damaged",
        "backlog_old",
        "disk_low",
    }
    assert said(values, "disk_free_bytes") == (1 << 30) - 1
    assert said(values, "spool_fault") == "disk I/O error"


def test_a_disk_that_cannot_be_read_has_no_free_bytes() -> None:
    values = values_of(snapshot(disk=None), ())
    assert said(values, "disk_free_bytes") is None
    assert said(values, "disk_low") is None


@pytest.mark.parametrize(
    ("state", "connected", "streaming"),
    [
        (DeviceState.CONNECTING, False, False),
        (DeviceState.CONNECTED, True, False),
        (DeviceState.STREAMING, True, True),
        (DeviceState.SILENT, True, False),
        (DeviceState.WAITING, False, False),
        (DeviceState.STOPPED, False, False),
    ],
)
def test_the_state_of_a_device_is_told_in_two_flags(
    state: DeviceState, connected: bool, streaming: bool
) -> None:
    values = values_of(snapshot(strap(state=state)), ())
    assert said(values, "connected", "strap") is connected
    assert said(values, "streaming", "strap") is streaming
    assert said(values, "state", "strap") == state.value


def some_values() -> tuple[Value, ...]:
    device = with_stream(strap(frames=7, last_error="no route"), "ecg", samples=12, rate_hz=129.98765)
    return values_of(snapshot(device, finger(), gateway=gateway(device, finger(), backlog_blocks=3)), ())


def test_measured_numbers_are_rounded_so_that_noise_is_not_news() -> None:
    assert said(some_values(), "rate_hz", "strap", "ecg") == 129.99


def test_a_sparkplug_birth_tells_every_figure_and_the_way_back_gives_it_again() -> None:
    values = some_values()
    of_node, of_devices = sparkplug_metrics(values)
    session = EdgeNodeSession(NodeId("lab", "g"), host_id="lab", incarnation=5)
    for device, metrics in of_devices.items():
        session.device_birth(device, DeviceBirth({1: polar.ECG}, metrics=metrics), 0)
    births = session.births(0, oldest_seq=1, metrics=of_node)

    found = [
        value_of_metric(metric.name or "", metric.value, device=device)
        for device, birth in zip(("", *of_devices), births, strict=True)
        for metric in decode_payload(birth.payload).metrics
        if metric.value is not None
    ]
    told = [v for v in found if v is not None]
    assert sorted(told, key=str) == sorted((v for v in values if v.value is not None), key=str)


def test_what_is_not_known_travels_as_null() -> None:
    of_node, _ = sparkplug_metrics(values_of(snapshot(clock=None), ()))
    (offset,) = [m for m in of_node if m.name == "Health/clock_offset_s"]
    assert (offset.value, offset.datatype, offset.properties) == (None, DataType.DOUBLE, {"engUnit": "s"})


@pytest.mark.parametrize(
    ("name", "value", "device"),
    [
        ("Health/backlog_blocks", "many", ""),
        ("Health/broker_connected", 1, ""),
        ("Health/sent_blocks", True, ""),
        ("Health/sent_blocks", 1.5, ""),
        ("Health/backlog_blocks", None, ""),
        ("Health/backlog_blocks", 1.0, "strap"),
        ("Health/rate_hz", 1.0, "strap"),
        ("Health/ecg/rate_hz", 1.0, ""),
        ("Health/unheard_of", 1.0, ""),
        ("Health/", 1.0, ""),
        ("Spool/oldest_seq", 1, ""),
    ],
)
def test_a_foreign_metric_is_no_figure(name: str, value: object, device: str) -> None:
    assert value_of_metric(name, value, device=device) is None


def test_the_document_lists_every_figure() -> None:
    rows = re.findall(r"^\| `\w+` \|.*$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    expected = [
        f"| `{figure.name}` | {figure.unit or 'text'} | {figure.sort} | "
        + ("" if figure.sort is Sort.TEXT else f"`{series_name(figure)}`")
        + f" | {figure.help} |"
        for figure in FIGURES
    ]
    assert rows == expected
