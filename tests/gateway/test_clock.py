"""Device time becomes lab time within the stated uncertainty."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.clock import BootIds, ClockModel, WallClock

UTC0_NS = 1_767_225_600_000_000_000
OFFSET_NS = 77_000_000_000


def observe(model: ClockModel, device_ns: int, delay_ns: int, *, true_ns: int | None = None) -> None:
    model.observe(device_ns, (device_ns if true_ns is None else true_ns) + OFFSET_NS + delay_ns)


def test_without_jitter_the_time_is_exact_up_to_the_delay() -> None:
    model = ClockModel(link_delay_ns=10_000_000)
    observe(model, 0, 3_000_000)
    assert model.instant(0).monotonic_ns == OFFSET_NS + 3_000_000
    assert model.instant(1_000_000).monotonic_ns == OFFSET_NS + 4_000_000


def test_a_late_frame_does_not_move_the_time_and_an_early_one_does() -> None:
    model = ClockModel(link_delay_ns=10_000_000)
    observe(model, 0, 5_000_000)
    observe(model, 100_000_000, 900_000_000)
    assert model.instant(0).monotonic_ns == OFFSET_NS + 5_000_000
    assert model.lateness_ns(200_000_000, 200_000_000 + OFFSET_NS + 45_000_000) == 40_000_000
    observe(model, 200_000_000, 1_000_000)
    assert model.instant(0).monotonic_ns == OFFSET_NS + 1_000_000


@pytest.mark.parametrize("jitter", ["uniform", "exponential"])
@pytest.mark.parametrize("drift_ppm", [-50, 0, 50])
def test_uncertainty_covers_the_truth_in_95_of_100_cases(
    jitter: str, drift_ppm: int, rng: np.random.Generator
) -> None:
    link_delay_ns = 10_000_000
    n_covered = n_total = 0
    for _ in range(60):
        model = ClockModel(link_delay_ns=link_delay_ns)
        constant_ns = int(rng.integers(0, link_delay_ns))
        scale_ns = int(rng.integers(100_000, 30_000_000))
        for k in range(400):
            true_ns = k * 300_000_000
            device_ns = round(true_ns * (1 + drift_ppm * 1e-6))
            extra_ns = rng.uniform(0, scale_ns) if jitter == "uniform" else rng.exponential(scale_ns)
            observe(model, device_ns, constant_ns + int(extra_ns), true_ns=true_ns)
            instant = model.instant(device_ns)
            n_covered += abs(instant.monotonic_ns - OFFSET_NS - true_ns) <= instant.uncertainty_ns
            n_total += 1
    assert n_covered / n_total >= 0.95


def test_drift_is_followed_so_that_hours_do_not_add_up() -> None:
    model = ClockModel(link_delay_ns=1_000_000)
    for k in range(20_000):
        true_ns = k * 500_000_000
        device_ns = round(true_ns * (1 - 50e-6))
        observe(model, device_ns, 0, true_ns=true_ns)
    instant = model.instant(device_ns)
    assert abs(instant.monotonic_ns - OFFSET_NS - true_ns) <= 1_500_000 < instant.uncertainty_ns + 1_000_000


def test_a_pause_while_stamping_hardly_moves_utc() -> None:
    wall_clock = WallClock()
    for k in range(100):
        pause_ns = 50_000_000 if k % 20 == 0 else 0
        assert not wall_clock.observe(UTC0_NS + k, OFFSET_NS + k + pause_ns)
    assert abs(wall_clock.utc_ns(OFFSET_NS) - UTC0_NS) < 60_000


@pytest.mark.parametrize("step_ns", [3_600_000_000_000, -150_000_000])
def test_utc_that_was_set_is_noticed_at_the_third_frame_and_holds_once_accepted(step_ns: int) -> None:
    wall_clock = WallClock()
    assert not wall_clock.observe(UTC0_NS, OFFSET_NS)
    noticed = [wall_clock.observe(UTC0_NS + step_ns + k, OFFSET_NS + k) for k in range(3)]
    assert noticed == [False, False, True]
    assert wall_clock.utc_ns(OFFSET_NS) == UTC0_NS
    wall_clock.accept()
    assert wall_clock.utc_ns(OFFSET_NS) == UTC0_NS + step_ns


def test_uncertainty_shrinks_as_frames_arrive(rng: np.random.Generator) -> None:
    model = ClockModel(link_delay_ns=0)
    seen = []
    for k in range(100):
        observe(model, k * 100_000_000, int(rng.integers(0, 20_000_000)))
        seen.append(model.instant(k * 100_000_000).uncertainty_ns)
    assert seen[0] > 10 * seen[-1] > 0


def test_boot_ids_grow_even_when_the_clock_goes_back() -> None:
    ids = BootIds()
    assert ids.next(5_000_000_000) == 5000
    assert ids.next(5_000_000_000) == 5001
    assert ids.next(1_000_000_000) == 5002
    assert BootIds(ids.last).next(0) == 5003
