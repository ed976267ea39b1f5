"""Heart rate under motion: the IEEE cup's recordings, synthetic runs of known rate, and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import io

from analysis.motion import heart_rate, mean_heart_rate_per_min
from analysis.motion_stream import MotionStream
from protocols.errors import SignalError

Floats = NDArray[np.float64]

JOSS_PER_MIN = 1.28  # Zhang 2015, doi:10.1109/TBME.2015.2406332: mean over the twelve training recordings


def run_of(
    rng: np.random.Generator, *, rate_hz: float = 50.0, duration_s: float = 120.0, motion: float = 3.0
) -> tuple[Floats, Floats, Floats]:
    """Return light, acceleration and true rate of windows: from 90 to 150 per min, with steps at 160."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    rate = 90.0 + 60.0 * time_s / duration_s
    turns = np.cumsum(rate) / 60.0 / rate_hz
    pulse = np.sin(2 * np.pi * turns) + 0.4 * np.sin(4 * np.pi * turns)
    steps = 2 * np.pi * 160.0 / 60.0 * time_s
    swing = np.stack([np.sin(steps), np.cos(steps / 2), np.sin(2 * steps)])
    light = np.stack([pulse + motion * swing[0] + 0.5 * swing[1], pulse + motion * swing[1]])
    light += 0.3 * rng.standard_normal(light.shape)
    accel = 9.81 + swing + 0.05 * rng.standard_normal(swing.shape)
    width = round(8.0 * rate_hz)
    truth = np.array(
        [rate[k : k + width].mean() for k in range(0, time_s.size - width + 1, round(2 * rate_hz))]
    )
    return light, accel, truth


@pytest.fixture(scope="module")
def cup(shared: Path) -> dict[str, tuple[Floats, Floats, Floats]]:
    folder = shared / "data/ppg/spc2015"
    records = {}
    for path in sorted(folder.glob("DATA_??_TYPE0?.mat")):
        rows = np.asarray(io.loadmat(path)["sig"], dtype=np.float64)
        truth = io.loadmat(folder / f"{path.stem}_BPMtrace.mat")["BPM0"].ravel()
        records[path.stem] = rows[1:3], rows[3:6], truth
    for path in sorted(folder.glob("TEST_*.mat")):
        rows = np.asarray(io.loadmat(path)["sig"], dtype=np.float64)
        truth = io.loadmat(folder / path.name.replace("TEST", "True"))["BPM0"].ravel()
        records[path.stem] = rows[:2], rows[2:5], truth
    return records


@pytest.mark.shared_data
@pytest.mark.parametrize("lookahead_s", [None, 4.0])
def test_cup_training_error_is_below_the_published_joss(
    cup: dict[str, tuple[Floats, Floats, Floats]], lookahead_s: float | None
) -> None:
    errors = [
        np.abs(heart_rate(light, accel, rate_hz=125.0, lookahead_s=lookahead_s).tracked_per_min - truth).mean()
        for name, (light, accel, truth) in cup.items()
        if name.startswith("DATA")
    ]
    assert len(errors) == 6
    assert np.mean(errors) < JOSS_PER_MIN / 2


@pytest.mark.shared_data
def test_where_the_quality_is_low_errors_are(cup: dict[str, tuple[Floats, Floats, Floats]]) -> None:
    light, accel, truth = cup["TEST_S01_T01"]  # nothing of the heart is seen in most of this recording
    found = heart_rate(light, accel, rate_hz=125.0, lookahead_s=0.0)
    error = np.abs(found.tracked_per_min - truth)
    known = np.isfinite(found.rate_per_min)
    assert known.mean() < 0.25  # most of it is not judged
    assert error[known].mean() < error[~known].mean()


def test_rate_is_tracked_through_steps_three_times_as_strong(rng: np.random.Generator) -> None:
    light, accel, truth = run_of(rng)
    found = heart_rate(light, accel, rate_hz=50.0)
    assert np.isfinite(found.rate_per_min).mean() > 0.9
    assert np.nanmean(np.abs(found.rate_per_min - truth)) < 1.0  # one bin of the grid


def test_without_acceleration_the_steps_are_mistaken_for_the_heart(rng: np.random.Generator) -> None:
    light, _, truth = run_of(rng)
    assert np.abs(heart_rate(light, None, rate_hz=50.0).tracked_per_min - truth).mean() > 10.0


@pytest.mark.parametrize("rate_hz", [25.0, 31.25, 64.0, 125.0, 500.0])
def test_any_sampling_rate_serves(rng: np.random.Generator, rate_hz: float) -> None:
    light, accel, truth = run_of(rng, rate_hz=rate_hz, motion=1.0)
    found = heart_rate(light, accel, rate_hz=rate_hz)
    n = min(truth.size, found.rate_per_min.size)
    assert np.nanmean(np.abs(found.rate_per_min[:n] - truth[:n])) < 1.0


def test_one_channel_or_several_one_axis_or_none_serve(rng: np.random.Generator) -> None:
    light, accel, truth = run_of(rng, motion=0.0)
    for channels, axes in ((light[0], accel), (light[:1], accel[:1]), (np.repeat(light, 2, 0), None)):
        found = heart_rate(channels, axes, rate_hz=50.0)
        assert np.nanmean(np.abs(found.rate_per_min - truth)) < 1.0


def test_unit_offset_polarity_and_type_do_not_matter(rng: np.random.Generator) -> None:
    light, accel, _ = run_of(rng)
    expected = heart_rate(light, accel, rate_hz=50.0)
    turned = heart_rate(1e5 - 300.0 * light, accel / 9.81, rate_hz=50.0)
    np.testing.assert_allclose(turned.rate_per_min, expected.rate_per_min, atol=1e-6)  # rounding
    counts = np.asfortranarray(np.rint(1000.0 * light).astype(np.int32))
    counts.setflags(write=False)
    found = heart_rate(counts, accel, rate_hz=50.0)
    np.testing.assert_allclose(found.tracked_per_min, expected.tracked_per_min, atol=0.1)  # quantised


@pytest.mark.parametrize("lookahead_s", [0.0, 4.0, 7.0])
def test_stream_equals_batch_however_it_is_cut(rng: np.random.Generator, lookahead_s: float) -> None:
    light, accel, _ = run_of(rng, rate_hz=31.25, duration_s=60.0)
    light[:, 700:900] = np.nan
    batch = heart_rate(light, accel, rate_hz=31.25, lookahead_s=lookahead_s)
    stream = MotionStream(31.25, lookahead_s=lookahead_s)
    cuts = np.sort(rng.integers(0, light.shape[1], 40))
    parts = zip(np.split(light, cuts, axis=1), np.split(accel, cuts, axis=1), strict=True)
    found = [stream.push(*part) for part in parts]
    found.append(stream.flush())
    for name in ("rate_per_min", "tracked_per_min", "quality", "intervals"):
        joined = np.concatenate([getattr(part, name) for part in found])
        np.testing.assert_allclose(
            joined, getattr(batch, name), atol=1e-9
        )  # products of matrices round by size


def test_stream_keeps_no_more_than_a_window(rng: np.random.Generator) -> None:
    stream = MotionStream(25.0, lookahead_s=4.0)
    for _ in range(50):
        stream.push(rng.standard_normal((2, 100)), rng.standard_normal((3, 100)))
    assert stream._light is not None
    assert stream._light.shape[1] <= 200 + 100
    assert len(stream._tracker._beliefs) <= 2
    assert stream.latency_s == 12.0


def test_causal_rate_does_not_know_the_future(rng: np.random.Generator) -> None:
    light, accel, _ = run_of(rng)
    whole = heart_rate(light, accel, rate_hz=50.0, lookahead_s=0.0).tracked_per_min
    half = heart_rate(light[:, :3000], accel[:, :3000], rate_hz=50.0, lookahead_s=0.0).tracked_per_min
    np.testing.assert_allclose(half, whole[: half.size], atol=1e-9)


def test_noise_has_a_rate_in_few_windows_only(rng: np.random.Generator) -> None:
    found = heart_rate(rng.standard_normal((2, 40_000)), rng.standard_normal((3, 40_000)), rate_hz=125.0)
    assert np.isfinite(found.rate_per_min).mean() < 0.3
    assert np.isnan(mean_heart_rate_per_min(rng.standard_normal(40_000), None, rate_hz=125.0))


@pytest.mark.parametrize("rate_hz", [50.0, 125.0])
@pytest.mark.parametrize("kind", ["white", "random walk"])
@pytest.mark.parametrize("seed", range(3))
def test_noise_of_a_still_wearer_has_no_mean_rate(seed: int, kind: str, rate_hz: float) -> None:
    noise = np.random.default_rng(seed)
    n = round(300 * rate_hz)
    light = noise.standard_normal((1, n))
    accel = np.array([[0.0], [0.0], [9.81]]) + 0.01 * noise.standard_normal((3, n))
    light = np.cumsum(light, axis=1) if kind == "random walk" else light
    assert np.isnan(mean_heart_rate_per_min(light, accel, rate_hz=rate_hz))


@pytest.mark.shared_data
def test_recordings_keep_their_mean_rate(cup: dict[str, tuple[Floats, Floats, Floats]]) -> None:
    for name, (light, accel, truth) in cup.items():
        mean = mean_heart_rate_per_min(light, accel, rate_hz=125.0)
        if name == "TEST_S01_T01":  # nothing of the heart is seen in most of it
            assert np.isnan(mean)
        else:  # windows without a rate are mostly at the start, where the heart is slower
            assert mean == pytest.approx(truth.mean(), abs=5.0)


@pytest.mark.parametrize("kind", ["constant", "missing", "railed"])
def test_light_without_a_pulse_gives_nan(rng: np.random.Generator, kind: str) -> None:
    light, accel, _ = run_of(rng)
    spoilt: dict[str, Any] = {
        "constant": np.full(light.shape, 7),
        "missing": np.full(light.shape, np.nan),
        "railed": np.clip(light, *np.quantile(light, (0.22, 0.78), axis=1)[:, :, np.newaxis]),
    }
    found = heart_rate(spoilt[kind], accel, rate_hz=50.0)
    assert np.isnan(found.rate_per_min).all()
    assert (found.quality == 0.0).all()


def test_a_hole_is_nan_and_its_surroundings_are_not(rng: np.random.Generator) -> None:
    light, accel, truth = run_of(rng)
    light[:, 2000:3000] = np.nan
    before = light.copy()
    found = heart_rate(light, accel, rate_hz=50.0)
    np.testing.assert_array_equal(light, before)
    touched = (found.intervals[:, 0] < 2950) & (found.intervals[:, 1] > 2050)
    assert np.isnan(found.rate_per_min[touched]).all()
    assert np.nanmean(np.abs(found.rate_per_min[~touched] - truth[~touched])) < 1.0


def test_light_held_between_slower_samples_is_not_taken_for_a_flat_line(rng: np.random.Generator) -> None:
    light, accel, truth = run_of(rng, motion=0.0)
    found = heart_rate(np.repeat(light, 5, axis=1), np.repeat(accel, 5, axis=1), rate_hz=250.0)
    assert np.nanmean(np.abs(found.rate_per_min - truth)) < 1.0
    assert np.isfinite(found.rate_per_min).mean() > 0.9


def test_a_dead_channel_is_left_out(rng: np.random.Generator) -> None:
    light, accel, truth = run_of(rng, motion=0.0)
    light[1] = 3.0
    found = heart_rate(light, accel, rate_hz=50.0)
    assert np.nanmean(np.abs(found.rate_per_min - truth)) < 1.0
    assert np.isfinite(found.rate_per_min).mean() > 0.9


def test_too_short_a_signal_has_no_window() -> None:
    assert heart_rate(np.ones((2, 300)), None, rate_hz=50.0).rate_per_min.size == 0
    assert np.isnan(mean_heart_rate_per_min(np.ones(300), None, rate_hz=50.0))


@pytest.mark.parametrize(
    ("ppg", "accel", "options", "named"),
    [
        (np.zeros((2, 900)), np.zeros((3, 800)), {}, "accel of shape"),
        (np.full((2, 900), np.inf), None, {}, "infinite"),
        (np.zeros((1, 2, 900)), None, {}, "ppg of shape"),
        (np.zeros((2, 900)), None, {"rate_hz": 10.0}, "rate_hz"),
        (np.zeros((2, 900)), None, {"rate_hz": float("nan")}, "rate_hz"),
        (np.zeros((2, 900)), None, {"window_s": 2.0}, "window_s"),
        (np.zeros((2, 900)), None, {"step_s": 9.0}, "step_s"),
        (np.zeros((2, 900)), None, {"lookahead_s": -1.0}, "lookahead_s"),
    ],
)
def test_misuse_is_named(ppg: Any, accel: Any, options: dict[str, Any], named: str) -> None:
    with pytest.raises(SignalError, match=named):
        heart_rate(ppg, accel, **{"rate_hz": 50.0, **options})


def test_stream_refuses_other_channels_and_a_push_after_the_end() -> None:
    stream = MotionStream(25.0)
    stream.push(np.zeros((2, 10)), np.zeros((3, 10)))
    with pytest.raises(SignalError, match="channels pushed before"):
        stream.push(np.zeros((1, 10)), np.zeros((3, 10)))
    with pytest.raises(SignalError, match="axes pushed before"):
        stream.push(np.zeros((2, 10)), np.zeros((2, 10)))
    stream.flush()
    with pytest.raises(SignalError, match="after flush"):
        stream.push(np.zeros((2, 10)), np.zeros((3, 10)))
