"""Intervals by leaving out subjects: plain arithmetic, coverage beside the bootstrap, and what has none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.bootstrap import resampled_sums, sums_without_each
from analysis.jackknife import jackknife_interval
from protocols.errors import SignalError

TRIALS = 2000


def test_of_a_mean_it_is_students_interval_of_the_subjects(rng: np.random.Generator) -> None:
    values = rng.normal(3.0, 2.0, 9)
    total, n = sums_without_each(np.stack([values, np.ones(9)]), np.arange(9))
    low, high = jackknife_interval(values.mean(), total / n, level=0.9)
    expected = stats.t.interval(0.9, 8, values.mean(), stats.sem(values))
    assert (low, high) == pytest.approx(expected)


def test_one_study_is_the_same_as_a_row_of_many(rng: np.random.Generator) -> None:
    values, without = rng.uniform(1, 2, 5), rng.uniform(1, 2, (5, 7))
    many = jackknife_interval(values, without, scale="log")
    for row in range(5):
        one = jackknife_interval(values[row], without[row], scale="log")
        assert one == pytest.approx((many.low[row], many.high[row]))


def test_a_change_of_unit_scales_the_interval_and_the_order_of_subjects_does_not_move_it(
    rng: np.random.Generator,
) -> None:
    without = rng.uniform(1, 2, 8)
    for scale in ("linear", "log"):
        low, high = jackknife_interval(1.5, without, scale=scale)
        assert jackknife_interval(15.0, 10 * without, scale=scale) == pytest.approx((10 * low, 10 * high))
        assert jackknife_interval(1.5, without[::-1], scale=scale) == pytest.approx((low, high), rel=1e-12)


def figures(rng: np.random.Generator, n_subjects: int, m: int) -> dict[str, tuple]:  # type: ignore[type-arg]
    """Return for each figure: sums per subject (n_sums, TRIALS, n_subjects), its function, scale and truth."""
    bias, between, within = 0.5, 1.5, 2.0
    d = bias + rng.normal(0, between, (TRIALS, n_subjects, 1)) + rng.normal(0, within, (TRIALS, n_subjects, m))
    n, sd = np.full(d.shape[:2], float(m)), np.hypot(between, within)

    def spread(t: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(t[2] - t[1] ** 2 / t[0], 0.0) / (t[0] - 1))

    share = float(stats.norm.cdf((3 - bias) / sd) - stats.norm.cdf((-3 - bias) / sd))
    squares = (d**2).sum(2)
    return {
        "mean": (np.stack([n, d.sum(2)]), lambda t: t[1] / t[0], "linear", bias),
        "sd": (np.stack([n, d.sum(2), squares]), spread, "log", sd),
        "rms": (np.stack([n, squares]), lambda t: np.sqrt(t[1] / t[0]), "log", np.hypot(bias, sd)),
        "share": (np.stack([n, (np.abs(d) <= 3).sum(2)]), lambda t: t[1] / t[0], "logit", share),
    }


@pytest.mark.parametrize(
    ("n_subjects", "m", "jackknife", "bootstrap"),
    [
        # how often 95 % intervals hold the truth, in the order mean, sd, rms, share
        (10, 20, (0.95, 0.89, 0.90, 0.94), (0.90, 0.76, 0.83, 0.87)),
        (20, 10, (0.95, 0.93, 0.93, 0.95), (0.93, 0.85, 0.88, 0.91)),
        (85, 3, (0.95, 0.945, 0.945, 0.955), (0.94, 0.935, 0.935, 0.95)),
    ],
)
def test_few_subjects_are_covered_better_than_by_percentiles_of_the_bootstrap(
    rng: np.random.Generator,
    n_subjects: int,
    m: int,
    jackknife: tuple[float, ...],
    bootstrap: tuple[float, ...],
) -> None:
    error = 4 * np.sqrt(0.1 * 0.9 / TRIALS)
    for number, (sums, value, scale, truth) in enumerate(figures(rng, n_subjects, m).values()):
        whole = sums.sum(2)
        low, high = jackknife_interval(value(whole), value(whole[..., None] - sums), scale=scale)
        known = np.isfinite(low)
        covered = ((low <= truth) & (truth <= high))[known].mean()
        assert covered == pytest.approx(jackknife[number], abs=error)
        drawn = resampled_sums(
            sums.reshape(-1, n_subjects), np.arange(n_subjects), replicates=400, seed=7
        ).reshape(len(sums), TRIALS, -1)
        low, high = np.percentile(value(drawn), [2.5, 97.5], axis=1)
        by_percentiles = ((low <= truth) & (truth <= high)).mean()
        assert by_percentiles == pytest.approx(bootstrap[number], abs=error)
        if n_subjects <= 20:
            assert covered > by_percentiles


@pytest.mark.parametrize(
    ("value", "left_out", "scale"),
    [
        (1.0, [1.0, 1.0, 0.99], "logit"),
        (0.9, [0.9, 1.0, 0.8], "logit"),
        (0.0, [0.0, 0.0], "log"),
        (-1.0, [-1.0, -1.1], "log"),
        (1.0, [1.0], "linear"),
        (np.nan, [1.0, 2.0], "linear"),
        (1.0, [1.0, np.nan], "linear"),
    ],
)
def test_what_does_not_say_how_it_varies_has_no_interval(
    value: float, left_out: list[float], scale: str
) -> None:
    assert np.isnan(jackknife_interval(value, left_out, scale=scale)).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [({"scale": "root"}, "scale='root'"), ({"level": 1.0}, r"level=1\.0"), ({"left_out": 1.0}, "shape")],
)
def test_misuse_is_named(options: dict[str, object], says: str) -> None:
    with pytest.raises(SignalError, match=says):
        jackknife_interval(1.0, **{"left_out": [1.0, 2.0]} | options)  # type: ignore[arg-type]
