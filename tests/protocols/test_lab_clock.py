"""Lab time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from protocols.errors import DefinitionError
from protocols.lab_clock import LabClock, parse_origin_ns


def test_at_speed_one_lab_time_is_utc() -> None:
    clock = LabClock(lambda: 123, lambda: 7)
    assert (clock.now_ns(), clock.monotonic_ns(), clock.real_s(2.0)) == (123, 7, 2.0)


def test_two_clocks_of_one_origin_and_speed_agree_wherever_they_started() -> None:
    utc_ns = 1_700_000_100_000_000_000
    first, second = (
        LabClock(lambda: utc_ns, lambda start=start: 5 - start, speed=20, origin_ns=1_700_000_000_000_000_000)
        for start in (0, 3)
    )
    assert first.now_ns() == second.now_ns() == 1_700_002_000_000_000_000


def test_a_lab_second_takes_a_fraction_of_a_real_one() -> None:
    assert LabClock(lambda: 0, lambda: 0, speed=20).real_s(1.0) == 0.05


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
def test_an_impossible_speed_is_refused(speed: float) -> None:
    with pytest.raises(DefinitionError, match="speed"):
        LabClock(lambda: 0, lambda: 0, speed=speed)


@pytest.mark.parametrize(
    "origin", ["2026-01-01T01:00:00.000001+01:00", datetime(2026, 1, 1, microsecond=1, tzinfo=UTC)]
)
def test_an_origin_is_read_to_the_microsecond(origin: str | datetime) -> None:
    assert parse_origin_ns("--origin", origin, 20) == 1_767_225_600_000_001_000


def test_only_at_speed_one_does_lab_time_need_no_origin() -> None:
    assert parse_origin_ns("--origin", None) == 0
    with pytest.raises(DefinitionError, match="no --origin at speed 2, expected"):
        parse_origin_ns("--origin", None, 2)


@pytest.mark.parametrize("origin", ["noon", "2026-01-01T00:00:00", datetime(2026, 1, 1), ""])
def test_an_origin_that_is_no_moment_is_refused(origin: str | datetime) -> None:
    with pytest.raises(DefinitionError, match=r"--origin .*, expected a moment with its time zone"):
        parse_origin_ns("--origin", origin)
