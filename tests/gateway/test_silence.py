"""Who is silent, for how long that is endured, and what is tried then."""

from __future__ import annotations

import pytest

from gateway.silence import LONGEST_TICK_S, SILENCE_S, Remedy, StreamSilence, Watchdog, is_watched
from protocols.devices.kind import DeviceKind
from protocols.devices.registry import device_kind
from protocols.samples import Channel, Stream


def stream(rate_hz: float | None) -> Stream:
    return Stream("signal", (Channel("a", "uV"),), "int16", rate_hz)


@pytest.mark.parametrize(
    ("rate_hz", "frame_samples", "silence_s", "speed", "limit_s"),
    [
        (250, 10, None, 1, SILENCE_S),
        (250, 10, None, 60, SILENCE_S),
        (1, 5, None, 1, 25),
        (0.1, 1, None, 1, 50),
        (0.1, 1, None, 20, SILENCE_S),
        (None, 1, None, 1, SILENCE_S),
        (250, 10, 30, 1, 30),
        (250, 10, 30, 10, 3),
        (250, 10, 1, 1000, 0.2),
    ],
)
def test_the_limit_follows_rate_frame_and_speed(
    rate_hz: float | None, frame_samples: int, silence_s: float | None, speed: float, limit_s: float
) -> None:
    silence = StreamSilence(stream(rate_hz), silence_s=silence_s, speed=speed)
    silence.heard(frame_samples)
    assert silence.limit_s == pytest.approx(limit_s)
    for _ in range(round(limit_s / 0.1) - 1):
        silence.tick(0.1)
    assert not silence.silent
    silence.tick(0.101)
    assert silence.silent
    assert silence.unheard


def test_a_machine_that_slept_takes_its_own_absence_for_no_silence() -> None:
    silence = StreamSilence(stream(250), silence_s=None, speed=1)
    silence.tick(3600)
    assert not silence.silent
    assert silence.silent_s == LONGEST_TICK_S


def test_a_new_connection_has_its_own_time_but_nothing_was_heard_all_the_same() -> None:
    silence = StreamSilence(stream(250), silence_s=None, speed=1)
    silence.heard(10)
    for _ in range(4):
        silence.tick(1)
    silence.connected()
    assert (silence.silent, silence.unheard, silence.brought, silence.ever_brought) == (
        False,
        True,
        False,
        True,
    )


def spot_kind() -> DeviceKind:
    strap = device_kind("heart-rate-strap")
    return DeviceKind("scale", "A scale", strap.link, strap.streams, strap.new_decoder)


@pytest.mark.parametrize("name", ["heart-rate-strap", "pulse-oximeter", "polar-h10", "nonin-7"])
def test_a_device_that_speaks_as_long_as_it_is_worn_is_watched(name: str) -> None:
    assert is_watched(device_kind(name), None)


def test_a_device_that_speaks_when_it_is_used_is_watched_only_if_so_configured() -> None:
    assert not is_watched(spot_kind(), None)
    assert is_watched(spot_kind(), 60)


def remedies(watchdog: Watchdog, seconds: int, *, whole: bool = True) -> list[tuple[int, Remedy]]:
    tried = [(s, watchdog.silent(1, limit_s=3, whole=whole)) for s in range(seconds)]
    return [(s, remedy) for s, remedy in tried if remedy is not None]


def test_each_remedy_is_given_its_time() -> None:
    watchdog = Watchdog()
    assert remedies(watchdog, 11) == [
        (0, Remedy.REVIVE),
        (3, Remedy.RECONNECT),
        (6, Remedy.POWER_CYCLE),
        (9, Remedy.RECONNECT),
    ]
    assert watchdog.alarm


def test_a_new_connection_is_not_kept_waiting_for_the_next_remedy() -> None:
    watchdog = Watchdog()
    assert remedies(watchdog, 4) == [(0, Remedy.REVIVE), (3, Remedy.RECONNECT)]
    watchdog.connected()
    assert remedies(watchdog, 1) == [(0, Remedy.POWER_CYCLE)]


def test_while_something_flows_the_link_is_cut_once_and_the_adapter_left_alone() -> None:
    watchdog = Watchdog()
    assert remedies(watchdog, 60, whole=False) == [(0, Remedy.REVIVE), (3, Remedy.RECONNECT)]
    assert watchdog.alarm


def test_a_device_that_is_well_again_begins_with_the_first_remedy_the_next_time() -> None:
    watchdog = Watchdog()
    remedies(watchdog, 30)
    watchdog.well()
    assert not watchdog.alarm
    assert remedies(watchdog, 1) == [(0, Remedy.REVIVE)]
