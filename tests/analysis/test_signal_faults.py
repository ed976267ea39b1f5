"""Faults of any signal: missing, flat, clipped, off the body, moved; and the record that holds them."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.signal_faults import (
    Quality,
    clipping,
    flat_line,
    in_motion,
    missing_share,
    motion_mps2,
    off_contact,
)
from protocols.errors import SignalError

CUT = {"rate_hz": 100.0, "window_s": 1.0, "step_s": 1.0}


@pytest.fixture
def noise(rng: np.random.Generator) -> np.ndarray:  # type: ignore[type-arg]
    return rng.standard_normal(350)


def test_missing_share_counts_whole_windows_only(noise) -> None:  # type: ignore[no-untyped-def]
    noise[[0, 5, 120]], noise[310:] = np.nan, np.nan
    assert missing_share(noise, **CUT) == pytest.approx([0.02, 0.01, 0.0])


def test_a_flat_line_is_one_value_for_more_than_half_of_the_window(noise) -> None:  # type: ignore[no-untyped-def]
    noise[100:151], noise[200:250] = 3.0, 3.0
    assert flat_line(noise, **CUT).tolist() == [False, True, False]
    assert flat_line(np.full(200, np.nan), **CUT).all()
    assert flat_line(np.zeros((2, 200)), **CUT).shape == (2, 2)


def test_a_coarse_converter_is_no_flat_line() -> None:
    steps = np.repeat(np.arange(35), 10) % 4  # 100 ms each
    assert not flat_line(steps, **CUT).any()


def test_clipping_is_time_at_the_ends_of_the_range(noise) -> None:  # type: ignore[no-untyped-def]
    assert not clipping(noise, **CUT).any()
    assert clipping(np.clip(noise, -9, 0.5), **CUT).all()
    noise[110:113] = 50.0
    assert clipping(noise, **CUT).tolist() == [False, True, False]
    assert clipping(noise, **CUT, limits=(-60, 40)).tolist() == [False, True, False]
    assert not clipping(np.zeros(300), **CUT).any()  # a flat line, which is another fault
    with pytest.raises(SignalError, match="a lower and a higher"):
        clipping(noise, **CUT, limits=(1, 1))


def test_motion_is_the_spread_of_acceleration_whatever_the_attitude(rng: np.random.Generator) -> None:
    accel = np.zeros((3, 300))
    accel[2] = 9.81
    accel[:, 100:200] += 2.0 * np.sqrt(2) * np.sin(np.arange(100) * 2 * np.pi / 25) / np.sqrt(3)
    expected = [0.0, 2.0, 0.0]  # 2 m/s2 root mean square along the diagonal
    assert motion_mps2(accel, **CUT) == pytest.approx(expected, abs=1e-6)
    rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    assert motion_mps2(rotation @ accel, **CUT) == pytest.approx(expected, abs=1e-6)
    assert in_motion(accel, **CUT).tolist() == [False, True, False]
    accel[0, :20] = np.nan
    assert np.isnan(motion_mps2(accel, **CUT)[0])
    assert motion_mps2(np.stack([accel, accel]), **CUT).shape == (2, 3)
    with pytest.raises(SignalError, match="n_axes"):
        motion_mps2(accel[0], **CUT)


def test_contact_missing_counts_as_off() -> None:
    contact = np.ones(300)
    contact[100:120], contact[200:205] = 0, np.nan
    assert off_contact(contact, **CUT).tolist() == [False, True, False]


def test_good_samples_are_those_of_good_windows() -> None:
    reasons = {"a": np.array([False, True, False]), "b": np.array([False, False, False])}
    quality = Quality(np.ones(3), reasons, {}, np.array([[0, 2], [2, 4], [4, 6]]))
    assert quality.good.tolist() == [True, False, True]
    assert quality.good_samples(7).tolist() == [True, True, False, False, True, True, False]


def test_too_short_a_signal_has_no_window() -> None:
    assert missing_share(np.zeros(99), **CUT).shape == (0,)
    assert flat_line(np.zeros(3), **CUT).shape == (0,)
    assert clipping(np.zeros((2, 0)), **CUT).shape == (2, 0)
    assert clipping(np.zeros((4, 0)) + 0.0, rate_hz=1.0, window_s=1.0, step_s=1.0, limits=(0, 1)).shape == (
        4,
        0,
    )
