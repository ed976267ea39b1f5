"""Points of pulse waves whose shape is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.pulses import detect_pulses, pulse_points
from protocols.errors import SignalError

BEATS_S = np.arange(0.517, 28.0, 0.8131)


def ramps(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return pulses that rise as half a cosine for 200 ms from their onset and then decay to the next.

    Steepest at 100 ms with slope pi / 2 per 200 ms; so the tangent meets the onset's level 200 / pi ms earlier.
    """
    since_s = times_s - BEATS_S[np.maximum(np.searchsorted(BEATS_S, times_s, side="right") - 1, 0)]
    rise = 0.5 - 0.5 * np.cos(np.pi * since_s / 0.2)
    left_s = BEATS_S[1] - BEATS_S[0]
    fall = 0.5 + 0.5 * np.cos(np.pi * (since_s - 0.2) / (left_s - 0.2))
    return np.where(times_s < BEATS_S[0], 0.0, np.where(since_s < 0.2, rise, fall))


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(
    ("rate_hz", "tolerance_s"),
    [(30.0, 0.010), (125.0, 0.002), (500.0, 0.001)],  # a third of a sample, a quarter, half
)
def test_points_of_a_known_wave(rate_hz: float, tolerance_s: float, sign: float) -> None:
    signal = 100.0 + sign * ramps(np.arange(round(28.0 * rate_hz)) / rate_hz)
    pulses = detect_pulses(signal, rate_hz=rate_hz)
    points = pulse_points(signal, pulses, rate_hz=rate_hz)
    assert pulses.size == BEATS_S.size
    inner = slice(1, -1)
    np.testing.assert_allclose(points.steepest_s[inner], BEATS_S[inner] + 0.1, atol=tolerance_s)
    np.testing.assert_allclose(points.feet_s[inner], BEATS_S[inner] + 0.1 - 0.2 / np.pi, atol=tolerance_s)
    np.testing.assert_allclose(points.peaks_s[inner], BEATS_S[inner] + 0.2, atol=max(0.010, 0.6 / rate_hz))
    # ^ a flat top between two curvatures, of which a parabola knows one
    # where the fall meets the rise the slope is 0 on both sides: the onset is the least certain point
    np.testing.assert_allclose(points.onsets_s[inner], BEATS_S[inner], atol=max(0.010, 0.6 / rate_hz))
    np.testing.assert_allclose(points.heights[inner], sign, rtol=0.05)  # smoothing and sampling cut the top


def test_points_are_nan_where_the_rise_is_missing() -> None:
    signal = ramps(np.arange(2800) / 100.0)
    pulses = detect_pulses(signal, rate_hz=100.0)
    rise = pulses[10]
    signal[rise - 20 : rise - 5] = np.nan
    points = pulse_points(signal, pulses, rate_hz=100.0)
    for times_s in (points.onsets_s, points.feet_s, points.steepest_s, points.peaks_s):
        assert np.isnan(times_s[10])
        assert np.isfinite(times_s[[8, 9, 11, 12]]).all()


def test_many_pulses_equal_few() -> None:
    signal = np.tile(ramps(np.arange(2800) / 100.0)[51:2734], 60)  # 33 pulses and a seam, sixty times
    pulses = detect_pulses(signal, rate_hz=100.0)
    assert pulses.size > 1500  # more than are looked at together
    whole = pulse_points(signal, pulses, rate_hz=100.0)
    part = pulse_points(signal, pulses[1000:1100], rate_hz=100.0)
    np.testing.assert_array_equal(whole.feet_s[1001:1100], part.feet_s[1:])


def test_no_pulses_have_no_points() -> None:
    assert pulse_points(np.zeros(10), [], rate_hz=100.0).feet_s.shape == (0,)


@pytest.mark.parametrize(
    ("ppg", "pulses", "message"),
    [
        (np.zeros((2, 9)), [1], "shape"),
        (np.zeros(9), [1.5], "integers"),
        (np.zeros(9), [4, 4], "ascending"),
        (np.zeros(9), [9], "ascending inside 0 to 8"),
    ],
)
def test_misuse_is_named(ppg: NDArray[Any], pulses: list[Any], message: str) -> None:
    with pytest.raises(SignalError, match=message):
        pulse_points(ppg, pulses, rate_hz=100.0)
