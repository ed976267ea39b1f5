"""Bland-Altman against published answers, and the bootstrap by subject against theory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.agreement import bland_altman, percentile_interval, resampled_sums
from protocols.errors import SignalError

finite = st.floats(-1e3, 1e3, allow_subnormal=False)


def columns(shared: Path, name: str) -> np.ndarray:  # type: ignore[type-arg]
    return np.genfromtxt(shared / "oracles" / name, delimiter=",", names=True)


@pytest.mark.shared_data
def test_giavarina_2015(shared: Path) -> None:
    data = columns(shared, "giavarina2015.csv")
    found = bland_altman(data["method_a"], data["method_b"])
    assert found.bias == pytest.approx(-27.17, abs=0.005)
    assert found.sd == pytest.approx(34.81, abs=0.005)
    assert found.lower == pytest.approx(-95.39, abs=0.01)
    assert found.upper == pytest.approx(41.05, abs=0.01)


@pytest.mark.shared_data
def test_bland_altman_1986_and_1999(shared: Path) -> None:
    peak_flow = columns(shared, "ba1986_pefr.csv")
    found = bland_altman(peak_flow["wright1"], peak_flow["mini1"])
    assert (found.bias, found.sd) == (pytest.approx(-2.1, abs=0.05), pytest.approx(38.8, abs=0.05))
    pressure = columns(shared, "ba1999_sbp.csv")
    found = bland_altman(pressure["J1"], pressure["S1"])
    assert (found.bias, found.sd) == (pytest.approx(-16.29, abs=0.005), pytest.approx(19.61, abs=0.005))
    assert (found.lower, found.upper) == (pytest.approx(-54.7, abs=0.05), pytest.approx(22.1, abs=0.05))


@pytest.mark.shared_data
def test_several_pairs_of_each_subject_give_the_variance_components(shared: Path) -> None:
    # The oracle's s_corr is the root of between-subject plus within-subject variance of machine - observers.
    data = columns(shared, "ba1999_sbp.csv")
    machine = np.concatenate([data["S1"], data["S2"], data["S3"]])
    observers = np.concatenate([(data[f"J{k}"] + data[f"R{k}"]) / 2 for k in (1, 2, 3)])
    subject = np.tile(data["subject"], 3)
    found = bland_altman(machine, observers, subject=subject, design="repeated_varying")
    assert found.bias == pytest.approx(15.663, abs=0.0005)
    assert found.sd == pytest.approx(20.319, abs=0.0005)
    assert (found.n_pairs, found.n_subjects) == (255, 85)
    icc = found.between_variance / (found.between_variance + found.within_variance)
    assert 85 * (1 + (1 - icc) * 2) == pytest.approx(120.49, abs=0.005)


def test_unequal_numbers_of_pairs_recover_the_true_components(rng: np.random.Generator) -> None:
    subject = np.repeat(np.arange(4000), rng.integers(1, 9, 4000))
    between = rng.normal(0.0, 2.0, 4000)[subject]
    test = 1.0 + between + rng.normal(0.0, 3.0, subject.size)
    found = bland_altman(test, np.zeros(subject.size), subject=subject, design="repeated_varying")
    # standard errors here: about 0.12 of the variance between subjects, 0.1 of the one within
    assert found.between_variance == pytest.approx(4.0, abs=0.5)
    assert found.within_variance == pytest.approx(9.0, abs=0.4)


def test_a_negative_component_between_subjects_counts_as_none() -> None:
    subject = ["a", "a", "b", "b"]
    found = bland_altman([1.0, -1.0, 1.0, -1.0], np.zeros(4), subject=subject, design="repeated_varying")
    assert found.between_variance == 0.0
    assert found.sd == pytest.approx(np.sqrt(2.0))


@settings(max_examples=50)
@given(st.lists(st.tuples(finite, finite, st.integers(0, 3)), min_size=6, max_size=30), st.randoms())
def test_order_of_pairs_and_names_of_subjects_do_not_matter(pairs, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(pairs, len(pairs))
    results = []
    for rows, names in ((pairs, "abcd"), (shuffled, "zyxw")):
        test, reference, subject = zip(*rows, strict=True)
        found = bland_altman(test, reference, subject=[names[s] for s in subject], design="repeated_varying")
        results.append((found.bias, found.sd, found.lower, found.upper))
    assert results[0] == pytest.approx(results[1], rel=1e-9, abs=1e-9, nan_ok=True)


def test_pairs_with_nan_are_left_out_and_too_few_give_nan() -> None:
    found = bland_altman([1.0, np.nan, 4.0], [0.0, 0.0, 1.0])
    assert (found.bias, found.n_pairs) == (2.0, 2)
    assert np.isnan(bland_altman([1.0], [0.0]).sd)
    assert np.isnan(bland_altman([], []).bias)
    one_each = bland_altman([1.0, 2.0], [0.0, 0.0], subject=["a", "b"], design="repeated_varying")
    assert one_each.bias == 1.5
    assert np.isnan(one_each.sd)


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


def test_undefined_replicates_are_left_out_of_the_interval() -> None:
    low, high = percentile_interval(np.array([np.nan, *range(101)], dtype=float), 0.95)
    assert (low, high) == pytest.approx((2.5, 97.5))
    assert np.isnan(percentile_interval(np.array([np.nan]), 0.95)).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"test": [1.0], "reference": [1.0, 2.0]}, "1 test values for 2"),
        ({"design": "linked"}, "design='linked'"),
        ({"design": "repeated_varying"}, "subject=None"),
        ({"design": "repeated_varying", "subject": ["a"]}, "one for each of 2 pairs"),
        ({"coverage": 95.0}, "coverage=95.0"),
        ({"test": [1.0, np.inf]}, "infinite"),
        ({"test": [[1.0, 2.0]]}, "test of shape"),
    ],
)
def test_misuse_is_named(arguments, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SignalError, match=says):
        bland_altman(**({"test": [1.0, 2.0], "reference": [0.0, 0.0]} | arguments))
