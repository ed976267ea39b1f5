"""One-way analysis of variance against sums written out."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.variance_components import one_way


def test_mean_squares_are_those_of_the_textbook(rng: np.random.Generator) -> None:
    numbers = rng.permutation(np.repeat([0, 1, 2, 3], [2, 5, 3, 1]))
    values = rng.normal(10, 3, 11)
    found = one_way(values, numbers)
    groups = [values[numbers == g] for g in range(4)]
    within = sum(((g - g.mean()) ** 2).sum() for g in groups) / 7
    between = sum(g.size * (g.mean() - values.mean()) ** 2 for g in groups) / 3
    assert (found.within, found.between) == pytest.approx((within, between))
    means = np.array([g.mean() for g in groups])
    assert (found.mean_of_means, found.variance_of_means) == pytest.approx((means.mean(), means.var(ddof=1)))
    assert found.size == pytest.approx((11 - (4 + 25 + 9 + 1) / 11) / 3)
    assert found.mean_inverse_size == pytest.approx((1 / 2 + 1 / 5 + 1 / 3 + 1) / 4)


def test_missing_values_count_for_nothing(rng: np.random.Generator) -> None:
    numbers, values = np.array([0, 0, 1, 1, 2]), rng.normal(0, 1, 5)
    gone = values.copy()
    gone[4] = np.nan
    found, short = one_way(gone, numbers), one_way(values[:4], numbers[:4])
    assert (found.n_values, found.n_subjects) == (4, 2)
    assert found.between_component == pytest.approx(short.between_component)


def test_without_degrees_of_freedom_there_is_nan() -> None:
    found = one_way(np.array([[1.0, 2.0], [np.nan, np.nan]]), np.array([0, 1]))
    assert np.isnan(found.within).all()
    assert np.isnan(found.between[1])
    assert found.between[0] == pytest.approx(0.5)
