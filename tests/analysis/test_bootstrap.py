"""The bootstrap of subjects against what can be drawn, and its intervals against theory."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from analysis.bootstrap import (
    bca_interval,
    percentile_interval,
    resampled_statistic,
    resampled_sums,
    subject_numbers,
    sums_without_each,
)
from protocols.errors import SignalError


def test_resampled_sums_are_sums_over_drawn_subjects() -> None:
    subject = np.array(["b", "a", "b", "c"])
    sums = resampled_sums(np.array([[1.0, 10.0, 1.0, 100.0]]), subject, replicates=2000, seed=5)
    possible = {2 * b + 10 * a + 100 * (3 - a - b) for a in range(4) for b in range(4 - a)}
    assert set(sums[0].tolist()) == possible
    assert np.array_equal(
        sums, resampled_sums(np.array([[1.0, 10.0, 1.0, 100.0]]), subject, replicates=2000, seed=5)
    )
    assert not np.array_equal(
        sums, resampled_sums(np.array([[1.0, 10.0, 1.0, 100.0]]), subject, replicates=2000, seed=6)
    )


@pytest.mark.parametrize("n_subjects", [2, 3, 4, 5, 85, 256, 257, 300])
def test_samples_hold_as_many_subjects_as_there_are_each_as_often(n_subjects: int) -> None:
    subject = np.repeat(np.arange(n_subjects), 2)
    rows = np.stack([np.ones(subject.size), *(subject == who for who in (0, 1, n_subjects - 1)), subject])
    ones, first, second, last, numbers = resampled_sums(rows, subject, replicates=6000, seed=3)
    assert (ones == 2 * n_subjects).all()
    assert set(first.tolist()) <= set(range(0, 2 * n_subjects + 1, 2))  # always with both of its values
    chance = 1.0 / n_subjects
    for times in (first / 2, second / 2, last / 2):  # binomial, n draws of chance 1 / n
        assert times.mean() == pytest.approx(1.0, abs=4.5 / np.sqrt(6000))
        assert times.var() == pytest.approx(1.0 - chance, abs=0.12)
    mean = (n_subjects - 1) / 2
    error = np.sqrt((n_subjects**2 - 1) / 12 / n_subjects)
    assert (numbers / 2 / n_subjects).mean() == pytest.approx(mean, abs=4.5 * error / np.sqrt(6000))
    assert (numbers / 2 / n_subjects).std() == pytest.approx(error, rel=0.05)
    if n_subjects > 2:
        together = np.corrcoef(first, second)[0, 1]  # of two cells of a multinomial
        assert together == pytest.approx(-1.0 / (n_subjects - 1), abs=4.5 / np.sqrt(6000))


def test_no_subject_sums_to_nothing_and_one_to_itself() -> None:
    assert (
        resampled_sums(np.zeros((2, 0)), np.array([], dtype=str), replicates=3, seed=0).tolist()
        == [[0.0] * 3] * 2
    )
    assert resampled_sums(np.array([[1.0, 2.5]]), ["a", "a"], replicates=2, seed=0).tolist() == [[3.5, 3.5]]


def test_a_missing_sum_of_one_row_leaves_the_others_alone() -> None:
    rows = np.array([[1.0, np.nan, 3.0], [1.0, 2.0, 3.0], [np.inf, 2.0, 3.0]])
    of_all = resampled_sums(rows, [1, 2, 3], replicates=200, seed=1)
    alone = resampled_sums(rows[1:2], [1, 2, 3], replicates=200, seed=1)
    assert np.array_equal(of_all[1], alone[0])


def test_undefined_replicates_are_left_out_of_the_interval() -> None:
    low, high = percentile_interval(np.array([np.nan, *range(101)], dtype=float), 0.95)
    assert (low, high) == pytest.approx((2.5, 97.5))
    assert np.isnan(percentile_interval(np.array([np.nan]), 0.95)).all()


def test_sums_and_any_statistic_are_resampled_alike(rng: np.random.Generator) -> None:
    subject = np.repeat(np.arange(30), 4)
    values = rng.normal(0, 1, 30)[subject] + rng.normal(0, 1, 120)
    n, total = resampled_sums(np.stack([np.ones(120), values]), subject, replicates=4000, seed=1)
    means = resampled_statistic(
        lambda rows: float(rows[0].mean()), values[None], subject, replicates=4000, seed=1
    )
    # both estimate the same standard error, each to 1 in sqrt(2 * 4000)
    assert means.std() == pytest.approx((total / n).std(), rel=0.06)
    assert means.mean() == pytest.approx(values.mean(), abs=4 * means.std() / np.sqrt(4000))
    of_subject = values.reshape(30, 4).mean(axis=1)
    assert means.std() == pytest.approx(of_subject.std() / np.sqrt(30), rel=0.06)


def test_each_subject_is_left_out_once() -> None:
    assert sums_without_each(np.array([[1.0, 10.0, 1.0, 100.0]]), ["b", "a", "b", "c"]).tolist() == [
        [102, 110, 12]
    ]


def test_the_bca_interval_is_the_percentile_interval_of_a_symmetric_statistic(rng: np.random.Generator) -> None:
    resampled = np.sort(rng.normal(0, 1, 20_000))
    resampled = np.concatenate([resampled, -resampled])
    assert bca_interval(0.0, resampled, np.array([-1.0, 1.0]), 0.95) == pytest.approx(
        percentile_interval(resampled, 0.95), abs=1e-3
    )


def test_the_bca_interval_moves_by_twice_the_bias_and_by_the_acceleration() -> None:
    resampled = np.arange(10_001.0)
    # 30 % of the samples below the value: z0 = -0.5244; ends at Phi(2 z0 -+ 1.6449) without acceleration
    low, high = bca_interval(3000.0, resampled, np.array([-1.0, 1.0]), 0.9)
    assert (low, high) == pytest.approx((35.3, 7244.5), abs=2.0)
    # left-out values of mean 0, cubes 6 -> a = 6 / (6 * 6^1.5) = 0.068, turned by the sign of mean - value
    _, turned = bca_interval(5000.0, resampled, np.array([-2.0, 1.0, 1.0]), 0.9)
    acceleration = 6.0 / (6.0 * 6.0**1.5)
    assert turned == pytest.approx(1e4 * ndtr(1.6449 / (1 - 1.6449 * acceleration)), abs=2.0)


def test_the_bca_interval_covers_a_variance_better_than_percentiles(rng: np.random.Generator) -> None:
    hits, trials, n = np.zeros(2), 500, 20
    for trial in range(trials):
        x = rng.normal(0, 1, n)
        rows, subject = np.stack([np.ones(n), x, x**2]), np.arange(n)
        sums = resampled_sums(rows, subject, replicates=500, seed=trial)
        without = sums_without_each(rows, subject)
        resampled, left_out = ((s[2] - s[1] ** 2 / s[0]) / (s[0] - 1) for s in (sums, without))
        for which, (low, high) in enumerate(
            (percentile_interval(resampled, 0.9), bca_interval(float(x.var(ddof=1)), resampled, left_out, 0.9))
        ):
            hits[which] += low <= 1.0 <= high
    percentiles, bca = hits / trials
    # at 20 values either is too narrow; the difference is some three standard errors of 1.3 points, paired
    assert 0.75 < percentiles < bca < 0.93


def test_what_does_not_vary_has_no_bca_interval() -> None:
    assert np.isnan(bca_interval(1.0, np.ones(9), np.ones(5), 0.95)).all()
    assert np.isnan(bca_interval(9.0, np.arange(9.0) - 1, np.arange(5.0), 0.95)).all()


def test_misuse_is_named() -> None:
    with pytest.raises(SignalError, match="one for each of 2 pairs"):
        subject_numbers(["a"], 2)
    with pytest.raises(SignalError, match="names of one type"):
        subject_numbers(np.array(["a", 1], dtype=object), 2)
    with pytest.raises(SignalError, match="0 pairs"):
        resampled_statistic(np.mean, np.empty((1, 0)), [], replicates=3, seed=1)
