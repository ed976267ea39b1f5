"""Times computed again from what is stored are no worse than those of the moment, and always the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from firmware_sim.link_timing import BleTiming, DeviceClock, SerialTiming
from gateway.assembly import BLE_DELAY_NS, DeviceAssembler
from gateway.clock import BootIds, ClockModel
from gateway.clock_hindsight import Times, block_times_in_hindsight, times_in_hindsight
from gateway.transport import Frame
from protocols.devices.polar import DATA_UUID, ECG, ECG_FRAME, polar_h10
from protocols.errors import SignalError
from protocols.samples import SampleBlock

UTC0_NS = 1_767_225_600_000_000_000
N_FRAMES = 600


def recording(
    link: BleTiming | SerialTiming, rng: np.random.Generator, *, drift_ppm: float = 30.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Device time, true time and arrival of frames of 73 samples at 130 Hz."""
    device_ns = np.rint(np.arange(1, N_FRAMES + 1) * 1e9 * 73 / 130).astype(np.int64)
    true_ns = 10**12 + DeviceClock(drift_ppm, 1.0, 2.0).true_ns(device_ns)
    return device_ns, true_ns, link.arrivals_ns(true_ns, rng)


@pytest.mark.parametrize("interval_ms", [15.0, 30.0, 50.0])
def test_ble_times_are_better_in_hindsight_and_covered(interval_ms: float, rng: np.random.Generator) -> None:
    device_ns, true_ns, arrival_ns = recording(BleTiming(interval_ms), rng)
    model = ClockModel(link_delay_ns=BLE_DELAY_NS, scheduled=True)
    causal_ns = []
    for device, arrival in zip(device_ns.tolist(), arrival_ns.tolist(), strict=True):
        model.observe(device, arrival)
        causal_ns.append(model.instant(device).monotonic_ns)
    times = times_in_hindsight(device_ns, arrival_ns, device_ns, link_delay_ns=BLE_DELAY_NS, scheduled=True)
    errors_ns = np.abs(times.time_ns - true_ns)
    for quantile in (0.5, 0.95):
        assert np.quantile(errors_ns, quantile) <= np.quantile(np.abs(causal_ns - true_ns), quantile)
    assert (errors_ns <= times.uncertainty_ns).mean() >= 0.95
    assert np.quantile(errors_ns[:20], 0.95) < 2_000_000  # the first seconds, which nobody could know then


def test_serial_times_lie_at_the_fastest_frames(rng: np.random.Generator) -> None:
    link = SerialTiming(921_600, 60)
    device_ns, true_ns, arrival_ns = recording(link, rng)
    times = times_in_hindsight(device_ns, arrival_ns, device_ns, link_delay_ns=20_000_000)
    errors_ns = times.time_ns - true_ns
    assert np.abs(errors_ns - link.transmission_ns).max() < 200_000
    assert (np.abs(errors_ns) <= times.uncertainty_ns).all()


def test_the_same_arrays_give_the_same_times_bit_for_bit(rng: np.random.Generator) -> None:
    device_ns, _, arrival_ns = recording(BleTiming(50.0), rng)
    kept = device_ns.copy(), arrival_ns.copy()

    def once() -> Times:
        return times_in_hindsight(
            device_ns, arrival_ns, device_ns[::7], link_delay_ns=BLE_DELAY_NS, scheduled=True
        )

    one, other = once(), once()
    assert one.time_ns.tobytes() == other.time_ns.tobytes()
    assert one.uncertainty_ns.tobytes() == other.uncertainty_ns.tobytes()
    assert (device_ns == kept[0]).all()
    assert (arrival_ns == kept[1]).all()


@pytest.mark.parametrize("seed", range(3))
def test_several_connections_of_one_device_clock_are_one_recording(seed: int) -> None:
    rng = np.random.default_rng(seed)
    device_ns, true_ns, arrival_ns = recording(BleTiming(50.0), rng)
    arrival_ns[300:] = BleTiming(15.0).arrivals_ns(true_ns[300:], rng)
    connections = (np.arange(N_FRAMES) >= 300).astype(np.int64)
    times = times_in_hindsight(
        device_ns,
        arrival_ns,
        device_ns,
        link_delay_ns=BLE_DELAY_NS,
        scheduled=True,
        connections=connections,
    )
    errors_ns = np.abs(times.time_ns - true_ns)
    assert (errors_ns <= times.uncertainty_ns).mean() >= 0.98
    assert np.quantile(errors_ns, 0.95) < 1_000_000


def test_blocks_of_a_real_device_are_timed_again_from_what_they_carry(rng: np.random.Generator) -> None:
    blocks, truth_ns = strap_blocks(rng)
    times = block_times_in_hindsight(blocks, link_delay_ns=BLE_DELAY_NS, scheduled=True)
    before_ns = np.abs(np.array([block.start_ns for block in blocks]) - truth_ns)
    errors_ns = np.abs(times.time_ns - truth_ns)
    assert np.quantile(errors_ns, 0.95) <= np.quantile(before_ns, 0.95)
    assert np.quantile(errors_ns, 0.95) < 1_500_000
    assert (errors_ns <= times.uncertainty_ns).mean() >= 0.95


def strap_blocks(rng: np.random.Generator) -> tuple[list[SampleBlock], np.ndarray]:
    """Blocks that a gateway makes of a Polar H10's bytes, and the true UTC of their first samples."""
    device_ns, _, arrival_ns = recording(BleTiming(50.0), rng)
    strap = DeviceAssembler("strap", polar_h10(), BootIds())
    blocks: list[SampleBlock] = []
    for stamp_ns, arrived_ns in zip(device_ns.tolist(), arrival_ns.tolist(), strict=True):
        data = ECG_FRAME.encode({"timestamp_ns": stamp_ns, "ecg": rng.integers(-500, 500, 73)})
        blocks += strap.feed(Frame(DATA_UUID, data, UTC0_NS + arrived_ns, arrived_ns))[1]
        blocks += strap.flush()
    first_ns = np.array([block.device_ns for block in blocks], np.int64)
    return blocks, UTC0_NS + 10**12 + DeviceClock(30.0, 1.0, 2.0).true_ns(first_ns)


def test_the_gateways_own_times_of_a_real_device_are_right_too(rng: np.random.Generator) -> None:
    blocks, truth_ns = strap_blocks(rng)
    assert {block.stream for block in blocks} == {ECG}
    assert sum(block.n_samples for block in blocks) == 73 * N_FRAMES
    errors_ns = np.abs(np.array([block.start_ns for block in blocks]) - truth_ns)
    assert np.median(errors_ns) < 1_000_000
    stated_ns = np.array([block.uncertainty_ns for block in blocks])
    assert np.mean(errors_ns <= stated_ns) >= 0.95
    assert np.median(stated_ns) < 3_000_000


def test_what_is_no_recording_is_refused(rng: np.random.Generator) -> None:
    none = np.zeros(0, np.int64)
    with pytest.raises(SignalError, match="at least 1 frame"):
        times_in_hindsight(none, none, none, link_delay_ns=1)
    with pytest.raises(SignalError, match="one shape"):
        times_in_hindsight(np.zeros(2, np.int64), np.zeros(3, np.int64), none, link_delay_ns=1)
    with pytest.raises(SignalError, match="one stream with a rate"):
        block_times_in_hindsight([], link_delay_ns=1)
    blocks, _ = strap_blocks(rng)
    two_boots = [blocks[0], dataclasses.replace(blocks[1], boot_id=blocks[1].boot_id + 1)]
    with pytest.raises(SignalError, match="one boot id"):
        block_times_in_hindsight(two_boots, link_delay_ns=1)
