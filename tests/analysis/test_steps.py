"""Steps counted by an accelerometer in any position."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from analysis.steps import StepStream, count_steps, detect_steps, step_count, walking_bouts
from protocols.errors import SignalError

RATE_HZ = 100.0
Floats = NDArray[np.float64]


def walk(step_hz: float, duration_s: float, *, rate_hz: float = RATE_HZ, swing: float = 1.0) -> Floats:
    """A walk between 10 s of standing: step, second harmonic, and the stride of a swinging arm."""
    t = np.arange(round((duration_s + 20) * rate_hz)) / rate_hz
    on = (t >= 10) & (t < 10 + duration_s)
    phase = 2 * np.pi * step_hz * (t - 10)
    up = 9.81 + on * (2.5 * np.sin(phase) + 0.8 * np.sin(2 * phase) + swing * np.sin(phase / 2))
    return np.stack([0.2 * on * np.cos(phase / 2), 0 * t, up])


def read(path: Path) -> tuple[Floats, Floats, int]:
    with gzip.open(path) as text:
        rows = np.loadtxt(text, delimiter=",")
    return (rows[:, 0] - rows[0, 0]) / 1e9, rows[:, 1:4].T, int(rows[-1, 5])


@pytest.fixture(scope="module")
def hand(shared: Path) -> tuple[Floats, Floats, int]:
    return read(next((shared / "data/steps/oxford_validation").glob("user1_hand_*")))


@pytest.mark.parametrize("step_hz", [1.2, 1.7, 2.1, 2.8])
@pytest.mark.parametrize("rate_hz", [15.0, 33.3, 100.0, 1000.0])
def test_counts_the_steps_of_a_known_walk(step_hz: float, rate_hz: float) -> None:
    found = count_steps(walk(step_hz, 40, rate_hz=rate_hz), rate_hz=rate_hz)
    assert found == pytest.approx(
        40 * step_hz, abs=3
    )  # a step and a half at each end, where bouts are whole seconds


@pytest.mark.parametrize("position", ["hand", "armband", "bag", "frontpocket", "backpocket", "neckpouch"])
def test_real_walk_is_within_two_percent_of_the_hand_count(shared: Path, position: str) -> None:
    times_s, accel, counted = read(next((shared / "data/steps/oxford_validation").glob(f"user1_{position}_*")))
    # two percent: what the phones' own counters reach on these walks
    assert count_steps(accel, rate_hz=RATE_HZ, times_s=times_s) == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize("swing", [0.0, 2.5])
def test_swinging_arm_neither_hides_nor_doubles_steps(swing: float) -> None:
    steps = detect_steps(walk(1.8, 40, swing=swing), rate_hz=RATE_HZ)
    inner = np.diff(steps[(steps > 1500) & (steps < 4500)]) / RATE_HZ
    # evenly spaced, as the filter's zero is at the stride; 30 ms is what the zero misses between its centres
    np.testing.assert_allclose(inner, 1 / 1.8, atol=0.03)


def test_steps_come_at_the_step_frequency() -> None:
    steps = detect_steps(walk(1.7, 40), rate_hz=RATE_HZ)
    assert steps.dtype == np.int64
    assert np.median(np.diff(steps)) / RATE_HZ == pytest.approx(1 / 1.7, abs=0.01)  # a sample


def test_rotation_polarity_and_layout_do_not_matter() -> None:
    accel = walk(1.8, 30)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    steps = detect_steps(accel, rate_hz=RATE_HZ)
    turned = detect_steps(turn @ accel, rate_hz=RATE_HZ)
    np.testing.assert_allclose(turned, steps, atol=1)  # rounding to the sample
    frozen = np.asfortranarray(-accel)
    frozen.flags.writeable = False
    np.testing.assert_array_equal(detect_steps(frozen, rate_hz=RATE_HZ), steps)


@pytest.mark.parametrize("hz", [0.3, 0.5, 4.0, 5.0, 6.0, 8.0])
def test_shaking_slower_or_faster_than_steps_counts_nothing(hz: float) -> None:
    accel = np.zeros((3, 6000))
    accel[2] = 9.81 + 5 * np.sin(2 * np.pi * hz * np.arange(6000) / RATE_HZ)
    assert count_steps(accel, rate_hz=RATE_HZ) == 0


@pytest.mark.parametrize("sd_mps2", [0.0, 0.1, 0.5])
def test_rest_and_vibration_count_nothing(sd_mps2: float) -> None:
    accel = np.random.default_rng(2).normal(0, sd_mps2, (3, 60_000)) + np.array([[0], [0], [9.81]])
    assert count_steps(accel, rate_hz=RATE_HZ) == 0


@pytest.mark.parametrize(("width_s", "most_per_min"), [(0.05, 5.0), (0.15, 15.0)])
def test_gestures_are_hardly_ever_steps(width_s: float, most_per_min: float) -> None:
    # smooth random movement, as strong as a walk and in its band; by their spectrum alone they were 70 a minute
    shaken = ndimage.gaussian_filter1d(
        np.random.default_rng(5).normal(size=(3, 60_000)), width_s * RATE_HZ, axis=1
    )
    accel = 1.5 * shaken / shaken.std() + np.array([[0], [0], [9.81]])
    assert count_steps(accel, rate_hz=RATE_HZ) <= 10 * most_per_min


def test_bouts_are_the_walk_within_seconds() -> None:
    bouts = walking_bouts(walk(1.8, 30), rate_hz=RATE_HZ)
    # the spectrum looks 3 s to each side, and whole seconds are given
    np.testing.assert_allclose(bouts / RATE_HZ, [[10, 40]], atol=2)


def test_given_bouts_hold_all_steps() -> None:
    steps = detect_steps(walk(1.8, 30), rate_hz=RATE_HZ, bouts=[[1500, 2500]])
    assert steps.min() >= 1500
    assert steps.max() < 2500
    assert steps.size == pytest.approx(18, abs=1)


@pytest.mark.parametrize("rate_hz", [15.0, 33.3, 100.0])
def test_stream_equals_batch_for_any_chunks(hand: tuple[Floats, Floats, int], rate_hz: float) -> None:
    accel = hand[1].copy()
    accel[:, 5000:5300] = np.nan
    rng = np.random.default_rng(3)
    stream, found, at = StepStream(rate_hz), [], 0
    while at < accel.shape[1]:
        end = at + int(rng.integers(0, rng.choice([3, 500, 9000])))
        found.append(stream.push(accel[:, at:end]))
        assert stream._kept.size <= 90 * rate_hz  # pushed 30 s, reach twice, and the seconds between
        at = end
    found.append(stream.flush())
    np.testing.assert_array_equal(np.concatenate(found), detect_steps(accel, rate_hz=rate_hz))


def test_stream_reports_within_its_latency() -> None:
    accel, stream = walk(1.8, 60), StepStream(RATE_HZ)
    late = [
        (k + 50 - step) / RATE_HZ
        for k in range(0, accel.shape[1], 50)
        for step in stream.push(accel[:, k : k + 50])
    ]
    assert len(late) > 50
    assert max(late) <= stream.latency_s + 0.5  # half a second: the chunks


def test_stretches_of_a_long_recording_join_without_seam() -> None:
    long = np.tile(walk(1.7, 40), 25)  # 25 minutes: two seams
    halves = [detect_steps(np.tile(walk(1.7, 40), n), rate_hz=RATE_HZ).size for n in (1, 25)]
    assert halves[1] == 25 * halves[0]
    assert np.diff(detect_steps(long, rate_hz=RATE_HZ)).min() > 0.3 * RATE_HZ


def test_missing_samples_hold_no_steps_and_leave_the_rest() -> None:
    accel = walk(1.8, 60)
    whole = detect_steps(accel, rate_hz=RATE_HZ)
    accel[1, 3000:4000] = np.nan
    steps = detect_steps(accel, rate_hz=RATE_HZ)
    assert not ((steps >= 3000) & (steps < 4000)).any()
    assert np.isin(whole[whole < 2500], steps).all()
    accel[:, 1000:] = np.nan
    assert np.isnan(step_count(*accel, rate_hz=RATE_HZ))


def test_uneven_times_give_the_same_steps() -> None:
    accel = walk(1.8, 40)
    rng = np.random.default_rng(4)
    keep = np.sort(rng.choice(accel.shape[1], 5000, replace=False))
    steps = keep[detect_steps(accel[:, keep], rate_hz=RATE_HZ, times_s=keep / RATE_HZ)]
    even = detect_steps(accel, rate_hz=RATE_HZ)
    assert steps.size == even.size
    np.testing.assert_allclose(steps, even, atol=5)  # a sixth of samples left out at random


@pytest.mark.parametrize("n", [0, 1, 50])
def test_short_recordings_have_no_steps(n: int) -> None:
    assert count_steps(np.ones((3, n)), rate_hz=RATE_HZ) == 0
    stream = StepStream(RATE_HZ)
    assert stream.push(np.ones((3, n))).size == stream.flush().size == 0


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_other_types_are_taken(dtype: type) -> None:
    accel = (walk(1.8, 30) + 0.5).astype(dtype)
    assert count_steps(accel, rate_hz=RATE_HZ) == pytest.approx(54, abs=3)


@pytest.mark.parametrize(
    ("accel", "options", "named"),
    [
        (np.ones((2, 9)), {"rate_hz": 100}, "accel of shape"),
        (np.ones(9), {"rate_hz": 100}, "accel of shape"),
        (np.full((3, 9), np.inf), {"rate_hz": 100}, "infinite"),
        (np.ones((3, 9)), {"rate_hz": 5}, "rate_hz=5"),
        (np.ones((3, 9)), {"rate_hz": float("nan")}, "rate_hz=nan"),
        (np.ones((3, 9)), {"rate_hz": 100, "worn": "head"}, "worn='head'"),
        (np.ones((3, 9)), {"rate_hz": 100, "times_s": np.arange(8)}, "times_s of shape"),
        (np.ones((3, 9)), {"rate_hz": 100, "times_s": -np.arange(9)}, "times_s of shape"),
        (np.ones((3, 9)), {"rate_hz": 100, "times_s": np.arange(9), "bouts": [[0, 9]]}, "bouts and times_s"),
    ],
)
def test_misuse_is_named(accel: Floats, options: dict[str, float], named: str) -> None:
    with pytest.raises(SignalError, match=named):
        detect_steps(accel, **options)


def test_nothing_is_pushed_after_the_end() -> None:
    stream = StepStream(RATE_HZ)
    stream.flush()
    with pytest.raises(SignalError, match="push after flush"):
        stream.push(np.ones((3, 5)))
