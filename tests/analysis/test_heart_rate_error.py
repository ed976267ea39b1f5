"""Errors of heart rates by two sides' beats: published form, windows, and what has no rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.heart_rate_error import HeartRateErrors, compare_heart_rates
from analysis.intervals import mask_of
from protocols.errors import SignalError

RATE_HZ = 250.0
N_SAMPLES = int(100 * RATE_HZ)
EVERY_SECOND = np.arange(125, N_SAMPLES, 250)


def compared(test: np.ndarray, **options: object) -> HeartRateErrors:  # type: ignore[type-arg]
    return compare_heart_rates(
        EVERY_SECOND,
        test,
        rate_hz=RATE_HZ,
        n_samples=N_SAMPLES,
        **{"learning_s": 0.0, **options},  # type: ignore[arg-type]
    )


def test_equal_beats_have_no_error_and_a_shift_makes_none() -> None:
    for test in (EVERY_SECOND, EVERY_SECOND + 20):
        found = compared(test)
        assert found.n_windows == 10
        assert found.reference_per_min == pytest.approx(60.0)
        assert found.rms_percent == pytest.approx(0.0, abs=1e-9)


def test_the_error_is_in_percent_of_the_mean_reference() -> None:
    found = compared(np.arange(125, N_SAMPLES, 200))  # 75 instead of 60 per min
    assert found.normalised_percent == pytest.approx(25.0)
    assert found.rms_percent == pytest.approx(25.0)
    mixed = HeartRateErrors(np.array([60.0, 100.0]), np.array([64.0, 92.0]))
    assert mixed.normalised_percent == pytest.approx([5.0, -10.0])
    assert mixed.rms_percent == pytest.approx(np.sqrt(62.5))


def test_every_second_beat_missed_halves_the_rate() -> None:
    assert compared(EVERY_SECOND[::2]).normalised_percent == pytest.approx(-50.0)


def test_learning_time_and_what_is_excluded_are_left_out() -> None:
    assert compared(EVERY_SECOND, learning_s=40.0).n_windows == 6
    assert compared(EVERY_SECOND, learning_s=300.0).n_windows == 0
    assert compared(EVERY_SECOND, excluded=[[2400, 2600]]).n_windows == 8
    silent = compared(EVERY_SECOND, test_silent=[[2400, 2600]])
    assert silent.n_windows == 10
    assert np.isnan(silent.test_per_min).tolist() == [True, True] + [False] * 8


@given(
    st.lists(st.tuples(st.integers(0, N_SAMPLES), st.integers(0, 3000)), max_size=6),
)
def test_windows_are_left_out_exactly_where_they_hold_any_of_an_interval(pieces: list[tuple[int, int]]) -> None:
    intervals = [[start, min(start + n, N_SAMPLES)] for start, n in pieces]
    inside = mask_of(np.array(intervals, dtype=np.int64).reshape(-1, 2), N_SAMPLES)
    clear = [not inside[start : start + 2500].any() for start in range(0, N_SAMPLES, 2500)]
    assert compared(EVERY_SECOND, excluded=intervals).n_windows == sum(clear)
    silent = np.isnan(compared(EVERY_SECOND, test_silent=intervals).test_per_min)
    assert silent.tolist() == [not is_clear for is_clear in clear]


def test_a_side_without_beats_has_no_rate_and_makes_no_error() -> None:
    none = np.empty(0, dtype=np.int64)
    found = compared(none)
    assert found.n_windows == 10
    assert np.isnan(found.rms_percent)
    assert compare_heart_rates(none, EVERY_SECOND, rate_hz=RATE_HZ, n_samples=N_SAMPLES).n_windows == 0


def test_two_annotations_of_one_sample_are_one_beat() -> None:
    assert compared(np.repeat(EVERY_SECOND, 2)).rms_percent == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"excluded": [[5, 1]]}, "excluded hold"),
        ({"test_silent": [1, 2]}, "test_silent of shape"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(SignalError, match=says):
        compared(EVERY_SECOND, **options)
    with pytest.raises(SignalError, match="expected them within"):
        compared(EVERY_SECOND + N_SAMPLES)
    with pytest.raises(SignalError, match="rate_hz"):
        compare_heart_rates(EVERY_SECOND, EVERY_SECOND, rate_hz=0.0, n_samples=N_SAMPLES)
