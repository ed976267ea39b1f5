"""Episodes against a comparison sample by sample, and rhythm changes read from annotations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.detection_episodes import compare_episodes, gross_episodes, read_rhythm
from protocols.errors import SignalError

N_SAMPLES = 120
spans = st.lists(
    st.tuples(st.integers(0, 130), st.integers(0, 25)).map(lambda s: (s[0], s[0] + s[1])), max_size=6
)


def runs(mask: list[bool]) -> list[tuple[int, int]]:
    steps = np.diff(np.array([False, *mask, False]).astype(int))
    return list(zip(np.flatnonzero(steps > 0).tolist(), np.flatnonzero(steps < 0).tolist(), strict=True))


@given(spans, spans, spans, st.integers(0, 40))
def test_counts_and_durations_are_those_of_a_comparison_sample_by_sample(
    reference: list[tuple[int, int]], test: list[tuple[int, int]], excluded: list[tuple[int, int]], start: int
) -> None:
    def mask(intervals: list[tuple[int, int]]) -> list[bool]:
        return [
            any(a <= k < b for a, b in intervals) and k >= start and not any(a <= k < b for a, b in excluded)
            for k in range(N_SAMPLES)
        ]

    truth, found = mask(reference), mask(test)
    compared = compare_episodes(
        reference, test, rate_hz=1.0, n_samples=N_SAMPLES, learning_s=start, excluded=excluded
    )
    assert compared.reference_episodes == len(runs(truth))
    assert compared.test_episodes == len(runs(found))
    assert compared.found_episodes == sum(any(found[a:b]) for a, b in runs(truth))
    assert compared.true_episodes == sum(any(truth[a:b]) for a, b in runs(found))
    assert (compared.reference_s, compared.test_s) == (sum(truth), sum(found))
    assert compared.overlap_s == sum(a and b for a, b in zip(truth, found, strict=True))


def test_scores_pool_episodes_and_durations_and_are_undefined_of_nothing() -> None:
    first = compare_episodes([[0, 100], [200, 300]], [[50, 150]], rate_hz=10.0, n_samples=400, learning_s=0)
    assert first.sensitivity_percent == pytest.approx(50.0)
    assert first.positive_predictivity_percent == pytest.approx(100.0)
    assert first.duration_sensitivity_percent == pytest.approx(25.0)
    assert first.duration_positive_predictivity_percent == pytest.approx(50.0)
    both = gross_episodes([first, compare_episodes([], [[0, 100]], rate_hz=10.0, n_samples=400, learning_s=0)])
    assert both.positive_predictivity_percent == pytest.approx(50.0)
    assert both.duration_positive_predictivity_percent == pytest.approx(25.0)
    assert np.isnan(gross_episodes([]).sensitivity_percent)


def test_a_rhythm_lasts_to_the_next_change_or_the_end() -> None:
    notes = ["(N", "", "(AFIB", "MISSB", "(AFIB", "(N", "(AFL"]
    samples = [0, 5, 10, 12, 20, 30, 40]
    fibrillation = read_rhythm(samples, notes, starts_with=("(AFIB",), n_samples=60)
    assert fibrillation.tolist() == [[10, 30]]
    either = read_rhythm(samples, notes, starts_with=("(AFIB", "(AFL"), n_samples=60)
    assert either.tolist() == [[10, 30], [40, 60]]
    with pytest.raises(SignalError, match="1 notes for 2 samples"):
        read_rhythm([1, 2], ["(N"], starts_with=("(N",), n_samples=5)


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="end before it starts"):
        compare_episodes([[5, 1]], [], rate_hz=1.0, n_samples=10)
    with pytest.raises(SignalError, match=r"rate_hz=0\.0"):
        compare_episodes([], [], rate_hz=0.0, n_samples=10)
