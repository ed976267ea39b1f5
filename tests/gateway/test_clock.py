"""Device time becomes lab time within the stated uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from firmware_sim.link_timing import BleTiming, DeviceClock, Host, SerialTiming
from gateway.clock import BootIds, ClockModel, WallClock

UTC0_NS = 1_767_225_600_000_000_000
OFFSET_NS = 77_000_000_000
BLE_NS = 50_000_000
ECG_MS = 1e3 * 73 / 130
"""A notification of 73 samples at 130 Hz: hits 13 phases of a 50 ms interval only."""


def observe(model: ClockModel, device_ns: int, delay_ns: int, *, true_ns: int | None = None) -> None:
    model.observe(device_ns, (device_ns if true_ns is None else true_ns) + OFFSET_NS + delay_ns)


@dataclass
class Followed:
    """Errors in ms after every frame, and whether the stated uncertainty held."""

    error_ms: np.ndarray
    covered: np.ndarray
    model: ClockModel

    def after(self, share: float) -> np.ndarray:
        return np.abs(self.error_ms[int(share * len(self.error_ms)) :])


def follow(model: ClockModel, device_ns: np.ndarray, true_ns: np.ndarray, arrival_ns: np.ndarray) -> Followed:
    errors_ns, stated_ns = [], []
    for device, true, arrival in zip(device_ns.tolist(), true_ns.tolist(), arrival_ns.tolist(), strict=True):
        model.observe(device, arrival)
        instant = model.instant(device)
        errors_ns.append(instant.monotonic_ns - true)
        stated_ns.append(instant.uncertainty_ns)
    covered = np.abs(errors_ns) <= np.array(stated_ns)
    return Followed(np.array(errors_ns) / 1e6, covered, model)


def frames(n: int, *, every_ms: float = ECG_MS, drift_ppm: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    """Device time and true time of frames."""
    device_ns = np.rint(np.arange(n) * every_ms * 1e6).astype(np.int64)
    return device_ns, OFFSET_NS + DeviceClock(drift_ppm, 1.0, 1.0).true_ns(device_ns)


def ble_model() -> ClockModel:
    return ClockModel(link_delay_ns=BLE_NS, scheduled=True)


def test_without_jitter_the_time_is_exact_up_to_the_delay() -> None:
    model = ClockModel(link_delay_ns=10_000_000)
    observe(model, 0, 3_000_000)
    assert model.instant(0).monotonic_ns == OFFSET_NS + 3_000_000
    assert model.instant(1_000_000).monotonic_ns == OFFSET_NS + 4_000_000


def test_a_late_frame_does_not_move_the_time_and_an_early_one_does() -> None:
    model = ClockModel(link_delay_ns=10_000_000)
    observe(model, 0, 5_000_000)
    observe(model, 100_000_000, 900_000_000)
    a_drift_ns = 30_000  # so far the offset may have drifted meanwhile
    assert model.instant(0).monotonic_ns == pytest.approx(OFFSET_NS + 5_000_000, abs=a_drift_ns)
    late_ns = model.lateness_ns(200_000_000, 200_000_000 + OFFSET_NS + 45_000_000)
    assert late_ns == pytest.approx(40_000_000, abs=a_drift_ns)
    observe(model, 200_000_000, 1_000_000)
    assert model.instant(0).monotonic_ns == pytest.approx(OFFSET_NS + 1_000_000, abs=a_drift_ns)


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
    assert abs(instant.monotonic_ns - OFFSET_NS - true_ns) <= 100_000


def test_uncertainty_shrinks_as_frames_arrive(rng: np.random.Generator) -> None:
    model = ClockModel(link_delay_ns=0)
    seen = []
    for k in range(100):
        observe(model, k * 100_000_000, int(rng.integers(0, 20_000_000)))
        seen.append(model.instant(k * 100_000_000).uncertainty_ns)
    assert seen[0] > 10 * seen[-1] > 0


@pytest.mark.parametrize("interval_ms", [15.0, 30.0, 50.0])
@pytest.mark.parametrize("loss", [0.0, 0.02, 0.2])
def test_a_ble_device_is_known_to_a_fraction_of_the_connection_interval(
    interval_ms: float, loss: float, rng: np.random.Generator
) -> None:
    device_ns, true_ns = frames(1500)
    link = BleTiming(interval_ms, central_ppm=-15, loss=loss)
    followed = follow(ble_model(), device_ns, true_ns, link.arrivals_ns(true_ns, rng))
    assert followed.covered.mean() >= 0.95
    assert np.median(followed.after(0.5)) < interval_ms / 50
    assert followed.model.instant(int(device_ns[-1])).uncertainty_ns < 2_000_000


def test_a_device_in_step_with_the_events_leaves_the_interval_open_and_says_so(
    rng: np.random.Generator,
) -> None:
    device_ns, true_ns = frames(600, every_ms=180.0, drift_ppm=2.0)
    followed = follow(ble_model(), device_ns, true_ns, BleTiming(30.0).arrivals_ns(true_ns, rng))
    assert followed.covered.all()
    assert followed.model.instant(int(device_ns[-1])).uncertainty_ns > 15_000_000


@pytest.mark.parametrize(("before_ms", "after_ms"), [(15.0, 50.0), (15.0, 30.0), (50.0, 15.0)])
def test_an_interval_changed_in_mid_connection_is_followed(
    before_ms: float, after_ms: float, rng: np.random.Generator
) -> None:
    device_ns, true_ns = frames(2000)
    arrivals = [
        BleTiming(before_ms).arrivals_ns(true_ns[:1000], rng),
        BleTiming(after_ms).arrivals_ns(true_ns[1000:], rng),
    ]
    arrival_ns = np.maximum.accumulate(np.concatenate(arrivals))
    followed = follow(ble_model(), device_ns, true_ns, arrival_ns)
    assert followed.covered.mean() >= 0.95
    assert np.median(followed.after(0.9)) < 0.5


def test_an_interval_longer_than_ordinary_is_found_in_the_end(rng: np.random.Generator) -> None:
    device_ns, true_ns = frames(2000)
    followed = follow(ble_model(), device_ns, true_ns, BleTiming(100.0).arrivals_ns(true_ns, rng))
    assert followed.covered.mean() >= 0.95
    assert np.median(followed.after(0.8)) < 4


def test_a_busy_host_does_no_harm() -> None:
    link = BleTiming(30.0, host=Host(latency_ms=1.0, pause_probability=0.05))
    device_ns, true_ns = frames(1500)
    for seed in range(6):
        arrival_ns = link.arrivals_ns(true_ns, np.random.default_rng(seed))
        followed = follow(ble_model(), device_ns, true_ns, arrival_ns)
        assert followed.covered.mean() >= 0.98
        assert np.median(followed.after(0.5)) < 1.5


@pytest.mark.parametrize("drift_ppm", [-10_000, -1000, 1000, 10_000])
def test_a_device_without_a_quartz_is_followed_after_a_minute_or_two(
    drift_ppm: float, rng: np.random.Generator
) -> None:
    device_ns, true_ns = frames(3000, every_ms=100.0, drift_ppm=drift_ppm)
    link = SerialTiming(921_600, 60)
    model = ClockModel(link_delay_ns=20_000_000)
    followed = follow(model, device_ns, true_ns, link.arrivals_ns(true_ns, rng))
    assert np.quantile(followed.after(0.5), 0.95) < 1.5
    assert followed.covered[1500:].all()


@pytest.mark.parametrize("jump_ms", [-200, -20, 20, 200])
def test_a_device_clock_that_is_set_is_followed_again(jump_ms: int, rng: np.random.Generator) -> None:
    device_ns, true_ns = frames(2000)
    arrival_ns = BleTiming(30.0).arrivals_ns(true_ns, rng)
    device_ns[1000:] += jump_ms * 1_000_000
    followed = follow(ble_model(), device_ns, true_ns, arrival_ns)
    assert np.median(followed.after(0.8)) < 0.5
    assert followed.covered[1200:].mean() >= 0.95


@pytest.mark.parametrize("every_ms", [ECG_MS, 40.0])
@pytest.mark.parametrize("scheduled", [True, False])
def test_a_link_that_is_congested_for_seconds_does_not_move_the_clock(
    every_ms: float, scheduled: bool, rng: np.random.Generator
) -> None:
    device_ns, true_ns = frames(5000, every_ms=every_ms)
    arrival_ns = BleTiming(30.0).arrivals_ns(true_ns, rng)
    late = (true_ns > true_ns[3000]) & (true_ns < true_ns[3000] + 5_000_000_000)
    arrival_ns[late] += 500_000_000
    followed = follow(ClockModel(link_delay_ns=BLE_NS, scheduled=scheduled), device_ns, true_ns, arrival_ns)
    assert followed.after(0.1).max() < 15.5, "half an interval"
    assert followed.covered.mean() >= 0.98


@pytest.mark.parametrize("seed", range(6))
def test_after_a_reconnection_the_clock_and_its_drift_are_still_known(seed: int) -> None:
    rng = np.random.default_rng(seed)
    device_ns, true_ns = frames(1100, drift_ppm=50.0)
    pause = np.where(np.arange(1100) >= 1000, 120_000_000_000, 0)
    device_ns, true_ns = device_ns + pause, true_ns + np.rint(pause * (1 - 50e-6)).astype(np.int64)
    model = ble_model()
    before_ns = BleTiming(50.0).arrivals_ns(true_ns[:1000], rng)
    follow(model, device_ns[:1000], true_ns[:1000], before_ns)
    model.reconnected()
    after_ns = BleTiming(30.0).arrivals_ns(true_ns[1000:], rng)
    assert model.continues(int(device_ns[1000]), int(after_ns[0]))
    followed = follow(model, device_ns[1000:], true_ns[1000:], after_ns)
    assert followed.covered.all()
    assert np.abs(followed.error_ms).max() < 3


@pytest.mark.parametrize(
    ("set_by_ms", "kept_ms", "allowed_ms", "expected"),
    [(0, 0, 0, True), (300, 0, 0, False), (-300, 0, 0, False), (0, 300, 0, False), (0, 300, 1000, True)],
)
def test_what_was_sent_after_a_pause_continues_the_clock_or_does_not(
    set_by_ms: int, kept_ms: int, allowed_ms: int, expected: bool, rng: np.random.Generator
) -> None:
    device_ns, true_ns = frames(300)
    model = ble_model()
    assert model.continues(0, 0)
    follow(model, device_ns, true_ns, BleTiming(30.0).arrivals_ns(true_ns, rng))
    later_ns = int(device_ns[-1]) + 60_000_000_000
    arrival_ns = int(true_ns[-1]) + 60_000_000_000 + (10 + kept_ms) * 1_000_000
    said_ns = later_ns + set_by_ms * 1_000_000
    assert model.continues(said_ns, arrival_ns, delayed_ns=allowed_ms * 1_000_000) == expected
    assert not model.continues(0, arrival_ns, delayed_ns=1 << 60)


def test_streams_of_one_device_clock_share_what_they_know(rng: np.random.Generator) -> None:
    ecg_ns, _ = frames(700)
    acc_ns, _ = frames(2000, every_ms=180.0)
    device_ns = np.sort(np.concatenate([ecg_ns, acc_ns + 7_000_000]))
    true_ns = OFFSET_NS + DeviceClock(20.0, 1.0, 1.0).true_ns(device_ns)
    arrival_ns = BleTiming(30.0).arrivals_ns(true_ns, rng)
    swapped = np.arange(len(device_ns))
    swapped[100:102] = [101, 100]
    followed = follow(ble_model(), device_ns[swapped], true_ns[swapped], arrival_ns)
    assert followed.covered.mean() >= 0.95
    assert np.median(followed.after(0.5)) < 0.5


def test_where_lab_time_runs_faster_so_do_this_machines_delays(rng: np.random.Generator) -> None:
    device_ns, true_ns = frames(1000)
    arrival_ns = BleTiming(30.0).arrivals_ns(true_ns, rng)
    real = follow(ble_model(), device_ns, true_ns, arrival_ns)
    fast = ClockModel(link_delay_ns=10 * BLE_NS, speed=10.0, scheduled=True)
    faster = follow(fast, 10 * device_ns, 10 * true_ns, 10 * arrival_ns)
    assert faster.error_ms == pytest.approx(10 * real.error_ms, abs=1e-3)
    assert (faster.covered == real.covered).all()


def test_a_pause_while_stamping_does_not_move_utc() -> None:
    wall_clock = WallClock()
    for k in range(100):
        pause_ns = 50_000_000 if k % 20 == 1 else 0
        assert not wall_clock.observe(UTC0_NS + k, OFFSET_NS + k + pause_ns)
        assert wall_clock.utc_ns(OFFSET_NS) == UTC0_NS


@pytest.mark.parametrize("slew_ppm", [-500, 500])
def test_utc_that_is_slewed_is_followed(slew_ppm: int) -> None:
    wall_clock = WallClock()
    for k in range(1000):
        elapsed_ns = k * 500_000_000
        utc_ns = UTC0_NS + elapsed_ns + elapsed_ns * slew_ppm // 1_000_000
        assert not wall_clock.observe(utc_ns, OFFSET_NS + elapsed_ns)
        assert abs(wall_clock.utc_ns(OFFSET_NS + elapsed_ns) - utc_ns) <= 2_000_000


@pytest.mark.parametrize("step_ns", [3_600_000_000_000, -150_000_000])
def test_utc_that_was_set_is_noticed_at_the_third_frame_and_holds_once_accepted(step_ns: int) -> None:
    wall_clock = WallClock()
    assert not wall_clock.observe(UTC0_NS, OFFSET_NS)
    noticed = [wall_clock.observe(UTC0_NS + step_ns + k, OFFSET_NS + k) for k in range(3)]
    assert noticed == [False, False, True]
    assert wall_clock.utc_ns(OFFSET_NS) == UTC0_NS
    wall_clock.accept()
    assert wall_clock.utc_ns(OFFSET_NS) == UTC0_NS + step_ns
    assert not wall_clock.observe(UTC0_NS + step_ns, OFFSET_NS)
    assert wall_clock.utc_ns(OFFSET_NS) == UTC0_NS + step_ns


def test_boot_ids_grow_even_when_the_clock_goes_back() -> None:
    ids = BootIds()
    assert ids.next(5_000_000_000) == 5000
    assert ids.next(5_000_000_000) == 5001
    assert ids.next(1_000_000_000) == 5002
    assert BootIds(ids.last).next(0) == 5003
