"""Heart rate: conventions, gates, and a real record against its annotated beats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from analysis.heart_rate import (
    beat_to_beat_per_min,
    heart_rate_per_min,
    highest_heart_rate_per_min,
    lowest_heart_rate_per_min,
    mean_heart_rate_per_min,
)
from protocols.errors import SignalError


def test_mean_and_median_follow_the_intervals_and_not_the_rates() -> None:
    beats = np.array([0, 100, 200, 250, 400, 500, 600, 700, 800, 900])  # a premature beat and its pause
    options = {"rate_hz": 100.0, "n_samples": 1000}
    assert heart_rate_per_min(beats, **options).per_min == pytest.approx([60.0])  # type: ignore[arg-type]
    late = heart_rate_per_min(beats[:-1] + 0, rate_hz=100.0, n_samples=1000, statistic="median")
    assert late.per_min == pytest.approx([60.0])
    assert late.n_intervals.tolist() == [8]
    assert late.intervals.tolist() == [[0, 1000]]


def test_the_rate_from_beat_to_beat_leaves_out_what_is_none() -> None:
    per_min = beat_to_beat_per_min([0, 100, 110, 510], rate_hz=100.0)
    assert per_min[0] == pytest.approx(60.0)
    assert np.isnan(per_min[1:]).all()
    assert beat_to_beat_per_min([], rate_hz=100.0).shape == (0,)


@pytest.mark.parametrize(
    "beats",
    [
        [],
        [500],
        [100, 500],
        [0, 100, 200, 300],
        [0, 100, 500, 600, 700, 800],
        [0, 5, 100, 200, 300, 400, 600, 800],
    ],
)
def test_too_few_beats_a_pause_or_an_impossible_interval_give_nan(beats: list[int]) -> None:
    assert np.isnan(heart_rate_per_min(beats, rate_hz=100.0, n_samples=1000).per_min).all()


def test_windows_that_are_not_usable_give_nan() -> None:
    beats = np.arange(0, 3000, 80)
    usable = [True, False, True]
    rates = heart_rate_per_min(beats, rate_hz=100.0, n_samples=3000, usable=usable).per_min
    assert np.isfinite(rates).tolist() == usable
    assert rates[0] == pytest.approx(75.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statistic": "mode"}, "statistic='mode'"),
        ({"usable": [True]}, "expected .3,. windows"),
        ({"n_samples": 100}, "expected them within 100"),
        ({"rate_hz": -1.0}, "rate_hz=-1.0"),
    ],
)
def test_misuse_is_named(options: dict[str, object], message: str) -> None:
    settings: dict[str, object] = {"rate_hz": 100.0, "n_samples": 3000} | options
    with pytest.raises(SignalError, match=message):
        heart_rate_per_min(np.arange(0, 3000, 80), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("beats", [[3, 2], [1.0, 2.0], [[1, 2]]])
def test_beats_ascend(beats: object) -> None:
    with pytest.raises(SignalError, match="expected"):
        beat_to_beat_per_min(beats, rate_hz=100.0)  # type: ignore[arg-type]


@pytest.mark.shared_data
def test_a_record_has_the_rate_of_its_annotated_beats(mit_bih) -> None:  # type: ignore[no-untyped-def]
    lead, samples, symbols = mit_bih(103)
    end = 5 * 60 * 360
    beats = np.array([s for s, symbol in zip(samples, symbols, strict=True) if symbol in "NAV" and s < end])
    expected = heart_rate_per_min(beats.astype(np.int64), rate_hz=360.0, n_samples=end).per_min
    # a beat at a window's edge may fall on its other side where it is marked a few ms apart: 0.2 per min
    assert mean_heart_rate_per_min(lead[:end], rate_hz=360.0) == pytest.approx(np.mean(expected), abs=0.2)
    assert lowest_heart_rate_per_min(lead[:end], rate_hz=360.0) == pytest.approx(np.min(expected), abs=1.0)
    assert highest_heart_rate_per_min(lead[:end], rate_hz=360.0) == pytest.approx(np.max(expected), abs=1.0)


def test_noise_has_no_heart_rate(rng: np.random.Generator) -> None:
    assert np.isnan(mean_heart_rate_per_min(rng.standard_normal(10_000), rate_hz=250.0))
    assert np.isnan(lowest_heart_rate_per_min(np.zeros(10_000), rate_hz=250.0))


def beats_for(share: float) -> np.ndarray:
    """Return two minutes at 250 Hz of narrow beats at 70 per min, the first `share` of them only, in noise."""
    times_s = np.arange(120 * 250) / 250.0
    since_s = (times_s + 0.4) % (60.0 / 70.0) - 0.4
    pulse = np.exp(-0.5 * (since_s / 0.012) ** 2) * (times_s < share * 120.0)
    return np.asarray(pulse + 0.01 * np.random.default_rng(3).standard_normal(times_s.size))


@pytest.mark.parametrize(
    "figure", [mean_heart_rate_per_min, lowest_heart_rate_per_min, highest_heart_rate_per_min]
)
def test_a_recording_has_a_rate_only_where_half_of_it_has(figure: Callable[..., float]) -> None:
    assert figure(beats_for(0.75), rate_hz=250.0) == pytest.approx(70.0, abs=1.0)
    assert np.isnan(figure(beats_for(0.25), rate_hz=250.0))  # an asystole of three quarters of the time


@pytest.mark.parametrize("seed", range(3))
def test_mains_hum_with_a_little_noise_has_no_heart_rate(seed: int) -> None:
    times_s = np.arange(300 * 250) / 250.0
    noise = 0.01 * np.random.default_rng(seed).standard_normal(times_s.size)
    assert np.isnan(mean_heart_rate_per_min(np.sin(2.0 * np.pi * 60.0 * times_s) + noise, rate_hz=250.0))
