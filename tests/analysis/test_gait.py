"""Gait from one sensor on the lower back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import io
from scipy.optimize import linear_sum_assignment

from analysis.gait import (
    cadence,
    cadence_per_min,
    contact_sides,
    initial_contacts,
    median_stride_time_ms,
    regularity,
    step_lengths_m,
    stride_times_s,
    walking_speed_mps,
)
from analysis.resampling import resample_to_clock
from protocols.errors import SignalError

RATE_HZ = 100.0
LEG_M = 0.9
Floats = NDArray[np.float64]


def walk(step_hz: float, *, rise_m: float = 0.03, limp: float = 0.0) -> Floats:
    """Half a minute of a sensor that rises and falls by `rise_m` with each step, x up; limp adds the stride."""
    t = np.arange(3000) / RATE_HZ
    w = 2 * np.pi * step_hz
    up = 9.80665 + rise_m / 2 * w**2 * (np.cos(w * t) + limp * np.cos(w * t / 2))
    return np.stack([up, 0 * t, 0 * t])


@pytest.fixture(scope="module")
def trials(shared: Path) -> list[Any]:
    path = shared / "data/gait/mobgap/HA/001/data.mat"
    measure = io.loadmat(path, squeeze_me=True, struct_as_record=False)["data"].TimeMeasure1
    return [measure.Test5.Trial1, measure.Test5.Trial2, measure.Test11.Trial1]


@pytest.mark.parametrize("step_hz", [1.3, 1.8, 2.4])
def test_contacts_lie_on_the_lowest_points_of_a_known_walk(step_hz: float) -> None:
    contacts = initial_contacts(walk(step_hz), rate_hz=RATE_HZ)
    phase = contacts / RATE_HZ * step_hz % 1
    assert np.abs(phase - np.rint(phase)).max() <= step_hz / RATE_HZ  # a sample
    assert cadence_per_min(contacts, rate_hz=RATE_HZ) == pytest.approx(60 * step_hz, rel=0.002)


def test_contacts_of_recordings_within_250_ms(trials: list[Any]) -> None:
    true = found = matched = 0
    for trial in trials:
        accel = trial.SU.LowerBack.Acc.T * 9.80665
        periods = np.atleast_1d(trial.Standards.INDIP.ContinuousWalkingPeriod)
        bouts = [[round(100 * p.Start) - 30, round(100 * p.End) + 31] for p in periods]
        contacts = initial_contacts(accel, rate_hz=RATE_HZ, bouts=bouts) / RATE_HZ
        reference = np.concatenate([p.InitialContact_Event for p in periods])
        true, found = true + reference.size, found + contacts.size
        pairs = linear_sum_assignment(np.minimum(np.abs(contacts[:, None] - reference), 1.0))
        matched += int((np.abs(contacts[pairs[0]] - reference[pairs[1]]) <= 0.25).sum())
    assert 2 * matched / (true + found) >= 0.93  # 0.944 on these eight bouts, some of three steps between turns


def test_walking_is_found_among_turns_too(trials: list[Any]) -> None:
    true = matched = 0
    for trial in trials:
        contacts = initial_contacts(trial.SU.LowerBack.Acc.T * 9.80665, rate_hz=RATE_HZ) / RATE_HZ
        for period in np.atleast_1d(trial.Standards.INDIP.ContinuousWalkingPeriod):
            reference = np.asarray(period.InitialContact_Event)
            true += reference.size
            matched += int((np.abs(contacts[:, None] - reference).min(axis=0) <= 0.25).sum())
    assert matched / true >= 0.8  # 0.86 here: one bout of five steps in five seconds is missed


def test_a_weak_step_between_two_is_found_and_a_pause_holds_none() -> None:
    accel = walk(1.8)
    at = np.rint(np.arange(54) / 1.8 * RATE_HZ).astype(int)
    accel[0, at[20] - 25 : at[20] + 25] = 9.80665 + 0.08 * (accel[0, at[20] - 25 : at[20] + 25] - 9.80665)
    accel[0, at[35] : at[40]] = 9.80665
    contacts = initial_contacts(accel, rate_hz=RATE_HZ)
    apart = np.abs(contacts - at[:, None]).min(axis=1)
    assert (apart[np.r_[2:34, 42:52]] <= 3).all()  # the bump beside the weakened step moves its maximum
    assert not ((contacts > at[36]) & (contacts < at[39])).any()


def test_straight_walks_agree_with_the_reference(trials: list[Any]) -> None:
    for trial in trials[:2]:
        accel = trial.SU.LowerBack.Acc.T * 9.80665
        period = trial.Standards.INDIP.ContinuousWalkingPeriod
        contacts = initial_contacts(accel, rate_hz=RATE_HZ)
        contacts = contacts[(contacts > 100 * period.Start - 30) & (contacts < 100 * period.End + 30)]
        stride_s = np.nanmean(stride_times_s(contacts, rate_hz=RATE_HZ))
        assert stride_s == pytest.approx(
            np.mean(period.Stride_Duration), abs=0.02
        )  # two samples of the reference
        speed = walking_speed_mps(accel, rate_hz=RATE_HZ, leg_length_m=0.964)
        assert speed == pytest.approx(
            period.WalkingSpeed, abs=0.12
        )  # 0.07 and 0.01 here: two bouts of nine steps


def test_sides_of_recordings(trials: list[Any]) -> None:
    right = total = 0
    for trial in trials:
        sensor = trial.SU.LowerBack
        accel = sensor.Acc.T * 9.80665
        for period in np.atleast_1d(trial.Standards.INDIP.ContinuousWalkingPeriod):
            at = np.asarray(100 * period.InitialContact_Event, dtype=np.int64)
            sides = contact_sides(at, sensor.Gyr.T, accel, rate_hz=RATE_HZ)
            truth = np.where(period.InitialContact_LeftRight == "Left", -1, 1)
            right, total = right + int((sides == truth).sum()), total + at.size
    assert right / total >= 0.75  # from chance, 0.5; turning hides the pelvis' rotation


def test_pendulum_gives_the_published_step_length() -> None:
    accel = walk(1.8, rise_m=0.03)
    contacts = initial_contacts(accel, rate_hz=RATE_HZ)
    lengths = step_lengths_m(accel, rate_hz=RATE_HZ, contacts=contacts, leg_length_m=LEG_M)
    expected = 4.587 / 4 * 2 * np.sqrt(2 * LEG_M * 0.03 - 0.03**2)  # Soltani et al. (2021)
    assert np.nanmedian(lengths) == pytest.approx(expected, rel=0.02)  # 1 Hz high-pass, integral by sums
    speed = walking_speed_mps(accel, rate_hz=RATE_HZ, leg_length_m=LEG_M)
    assert speed == pytest.approx(expected * 1.8, rel=0.05)  # the ends


def test_regularity_is_one_for_an_even_walk_and_less_per_step_for_a_limp() -> None:
    for limp, least, most in ((0.0, 0.98, 1.02), (0.8, -1.0, 0.7)):
        accel = walk(1.8, limp=limp)
        contacts = np.rint(np.arange(3, 50) / 1.8 * RATE_HZ).astype(np.int64)
        of_step, of_stride, symmetry = regularity(accel, rate_hz=RATE_HZ, contacts=contacts)
        assert of_stride == pytest.approx(1, abs=0.05)  # the walk ends within a stride
        assert least <= of_step <= most
        assert symmetry == pytest.approx(of_step / of_stride)


def test_stride_times_leave_out_pauses_and_lost_steps() -> None:
    contacts = np.array([0, 50, 100, 150, 250, 300, 1000, 1050, 1100])
    nan = np.nan
    np.testing.assert_array_equal(stride_times_s(contacts, rate_hz=RATE_HZ), [1, 1, 1.5, 1.5, nan, nan, 1.0])


def test_tilt_does_not_matter() -> None:
    accel = walk(1.8)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    np.testing.assert_allclose(
        initial_contacts(turn @ accel, rate_hz=RATE_HZ), initial_contacts(accel, rate_hz=RATE_HZ), atol=1
    )  # rounding of equal neighbours


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_types_layout_and_read_only_arrays_do_not_matter(dtype: type) -> None:
    accel = np.rint(walk(1.8)).astype(dtype)
    frozen = np.asfortranarray(accel)
    frozen.flags.writeable = False
    expected = initial_contacts(accel.astype(np.float64), rate_hz=RATE_HZ)
    assert expected.size > 40
    np.testing.assert_array_equal(initial_contacts(frozen, rate_hz=RATE_HZ), expected)
    lengths = step_lengths_m(frozen, rate_hz=RATE_HZ, contacts=expected, leg_length_m=LEG_M)
    np.testing.assert_allclose(
        lengths,
        step_lengths_m(accel.astype(np.float64), rate_hz=RATE_HZ, contacts=expected, leg_length_m=LEG_M),
    )


@pytest.mark.parametrize("rate_hz", [25.0, 50.0, 200.0])
def test_contacts_do_not_depend_on_the_rate(trials: list[Any], rate_hz: float) -> None:
    trial = trials[0]
    accel = trial.SU.LowerBack.Acc.T * 9.80665
    times_ns = np.arange(accel.shape[1]) * 10_000_000
    n_samples = int(accel.shape[1] / RATE_HZ * rate_hz) - round(rate_hz)
    other = resample_to_clock(
        accel, times_ns, start_ns=0, rate_hz=rate_hz, n_samples=n_samples, longest_gap_s=0.1
    )
    found = initial_contacts(other, rate_hz=rate_hz) / rate_hz
    expected = initial_contacts(accel, rate_hz=RATE_HZ) / RATE_HZ
    assert found.size == expected.size
    np.testing.assert_allclose(found, expected, atol=1 / rate_hz + 0.01)  # a sample of each


def test_figures_of_a_recording_and_nan_where_nobody_walks() -> None:
    assert cadence(*walk(1.8), rate_hz=RATE_HZ) == pytest.approx(108, rel=0.002)
    assert median_stride_time_ms(*walk(1.8), rate_hz=RATE_HZ) == pytest.approx(2000 / 1.8, abs=10)  # a sample
    rest = np.zeros((3, 3000)) + np.array([[9.81], [0], [0]])
    for still in (rest, rest[:, :0], np.full((3, 3000), np.nan)):
        assert np.isnan(cadence(*still, rate_hz=RATE_HZ))
        assert np.isnan(median_stride_time_ms(*still, rate_hz=RATE_HZ))
        assert np.isnan(walking_speed_mps(still, rate_hz=RATE_HZ, leg_length_m=LEG_M))


@pytest.mark.parametrize("rate_hz", [50.0, 100.0])
@pytest.mark.parametrize("seed", range(3))
def test_noise_and_a_few_steps_have_no_figure(seed: int, rate_hz: float) -> None:
    noise = 2.0 * np.random.default_rng(seed).standard_normal((3, round(300 * rate_hz)))
    noise += np.array([[9.81], [0.0], [0.0]])
    assert initial_contacts(noise, rate_hz=rate_hz).size > 10
    few = walk(1.3)
    few[0, :1000] = few[0, 1600:] = 9.80665  # six seconds
    assert 5 <= initial_contacts(few, rate_hz=RATE_HZ).size < 10
    for figure in (cadence, median_stride_time_ms):
        assert np.isnan(figure(*noise, rate_hz=rate_hz))
        assert np.isnan(figure(*few, rate_hz=RATE_HZ))


@pytest.mark.shared_data
def test_recordings_keep_their_figures(trials: list[Any]) -> None:
    for trial in trials:
        accel = trial.SU.LowerBack.Acc.T * 9.80665
        contacts = initial_contacts(accel, rate_hz=RATE_HZ)
        assert cadence(*accel, rate_hz=RATE_HZ) == cadence_per_min(contacts, rate_hz=RATE_HZ)
        median_s = np.nanmedian(stride_times_s(contacts, rate_hz=RATE_HZ))
        assert median_stride_time_ms(*accel, rate_hz=RATE_HZ) == pytest.approx(1000 * median_s)


def test_missing_samples_take_their_steps_out() -> None:
    accel = walk(1.8)
    contacts = initial_contacts(accel, rate_hz=RATE_HZ)
    accel[0, 1500:1510] = np.nan
    lengths = step_lengths_m(accel, rate_hz=RATE_HZ, contacts=contacts, leg_length_m=LEG_M)
    assert 1 <= np.isnan(lengths).sum() <= 2


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda a: initial_contacts(a[:2], rate_hz=100), "accel of shape"),
        (lambda a: initial_contacts(a, rate_hz=1), "rate_hz=1"),
        (lambda a: step_lengths_m(a, rate_hz=100, contacts=[5, 3], leg_length_m=1), "contacts"),
        (
            lambda a: step_lengths_m(a, rate_hz=100, contacts=[5, 9999], leg_length_m=1),
            "contacts from 5 to 9999",
        ),
        (lambda a: step_lengths_m(a, rate_hz=100, contacts=[5, 9], leg_length_m=-1), "leg_length_m=-1"),
        (lambda a: contact_sides([5], a[:, :9], a, rate_hz=100), "gyro_dps of shape"),
        (lambda a: stride_times_s(a, rate_hz=100), "contacts of shape"),
    ],
)
def test_misuse_is_named(call: Any, named: str) -> None:
    with pytest.raises(SignalError, match=named):
        call(walk(1.8))
