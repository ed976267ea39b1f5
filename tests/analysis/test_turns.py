"""Turns from a gyroscope on the lower back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import io

from analysis.turns import detect_turns, turn_count
from protocols.errors import SignalError

RATE_HZ = 100.0
Floats = NDArray[np.float64]


def turning(*turns: tuple[float, float, float]) -> tuple[Floats, Floats]:
    """Half a minute upright (x up) with turns of (start s, duration s, angle deg), each a raised cosine."""
    t = np.arange(3000) / RATE_HZ
    yaw = np.zeros(t.size)
    for start_s, duration_s, angle_deg in turns:
        inside = (t >= start_s) & (t < start_s + duration_s)
        yaw += inside * angle_deg / duration_s * (1 - np.cos(2 * np.pi * (t - start_s) / duration_s))
    sway = 15 * np.sin(2 * np.pi * 3 * t)
    return np.stack([yaw, sway, sway]), np.stack([0 * t + 9.81, 0 * t, 0 * t])


def test_angle_side_duration_and_peak_of_known_turns() -> None:
    turns = detect_turns(*turning((5, 2, 90), (15, 3, -180)), rate_hz=RATE_HZ)
    np.testing.assert_allclose(turns.angle_deg, [90, -180], rtol=0.03)  # what lies below 5 degrees/s
    np.testing.assert_allclose(turns.duration_s, [2, 3], atol=0.4)  # the same, and the filter
    np.testing.assert_allclose(turns.peak_dps, [90, 120], rtol=0.1)  # the filter


def test_small_turns_do_not_count() -> None:
    assert turn_count(*turning((5, 2, 30)), rate_hz=RATE_HZ) == 0
    assert detect_turns(*turning((5, 2, 30)), rate_hz=RATE_HZ, least_angle_deg=20).angle_deg.size == 1


def test_orientation_of_the_sensor_does_not_matter() -> None:
    gyro, accel = turning((5, 2, 90), (15, 3, -180))
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))  # right-handed stays right-handed
    a, b = (detect_turns(g, f, rate_hz=RATE_HZ) for g, f in ((gyro, accel), (turn @ gyro, turn @ accel)))
    np.testing.assert_allclose(a.angle_deg, b.angle_deg)


def test_types_layout_and_read_only_arrays_do_not_matter() -> None:
    gyro, accel = (np.rint(x) for x in turning((5, 2, 90), (15, 3, -180)))
    expected = detect_turns(gyro, accel, rate_hz=RATE_HZ)
    frozen = [np.asfortranarray(x.astype(np.int16)) for x in (gyro, accel)]
    for array in frozen:
        array.flags.writeable = False
    found = detect_turns(*frozen, rate_hz=RATE_HZ)
    np.testing.assert_array_equal(found.intervals, expected.intervals)
    np.testing.assert_array_equal(found.angle_deg, expected.angle_deg)


def test_turn_across_missing_samples_is_left_out() -> None:
    gyro, accel = turning((5, 2, 90), (15, 3, -180))
    gyro[0, 590:600] = np.nan
    np.testing.assert_allclose(detect_turns(gyro, accel, rate_hz=RATE_HZ).angle_deg, [-180], rtol=0.03)
    gyro[:, :2000] = np.nan
    assert np.isnan(turn_count(gyro, accel, rate_hz=RATE_HZ))


def test_turns_of_a_recording_agree_with_the_motion_capture(shared: Path) -> None:
    data = io.loadmat(shared / "data/gait/mobgap/HA/001/data.mat", squeeze_me=True, struct_as_record=False)[
        "data"
    ]
    trial = data.TimeMeasure1.Test11.Trial1
    sensor = trial.SU.LowerBack
    turns = detect_turns(sensor.Gyr.T, sensor.Acc.T * 9.80665, rate_hz=RATE_HZ)
    middle_s = turns.intervals.mean(axis=1) / RATE_HZ
    for walk in trial.Standards.Stereophoto.ContinuousWalkingPeriod:
        starts, ends, angles = (np.atleast_1d(x) for x in (walk.Turn_Start, walk.Turn_End, walk.Turn_Angle))
        for start_s, end_s, angle_deg in zip(starts, ends, angles, strict=True):
            if abs(angle_deg) >= 100:  # smaller ones are cut by the ends of the reference's walking periods
                nearest = np.argmin(np.abs(middle_s - (start_s + end_s) / 2))
                assert turns.angle_deg[nearest] == pytest.approx(angle_deg, abs=60)  # feet against trunk


@pytest.mark.parametrize("n", [0, 1, 20])
def test_short_recordings_have_no_turns(n: int) -> None:
    assert detect_turns(np.zeros((3, n)), np.zeros((3, n)), rate_hz=RATE_HZ).angle_deg.size == 0


@pytest.mark.parametrize(
    ("shapes", "rate_hz", "named"), [((2, 3), 100, "shape"), ((3, 3), 5, "rate_hz=5"), ((3, 2), 100, "shape")]
)
def test_misuse_is_named(shapes: tuple[int, int], rate_hz: float, named: str) -> None:
    with pytest.raises(SignalError, match=named):
        detect_turns(np.zeros((shapes[0], 99)), np.zeros((shapes[1], 99)), rate_hz=rate_hz)
