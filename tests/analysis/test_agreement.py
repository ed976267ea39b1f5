"""Bland-Altman against published answers, and the bootstrap by subject against theory."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import agreement
from analysis.agreement import BlandAltman, bland_altman
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


Z = 1.959963984540054
# 4 subjects, two methods; of the cardiac output data of Bland & Altman 1999, as Zou 2013 uses them
ZOU_SUBJECT = np.repeat([1, 2, 3, 4], [5, 4, 6, 5])
ZOU_X, ZOU_Y = np.loadtxt(
    [
        "7.83 7.42 7.89 7.12 7.88 6.16 7.26 6.71 6.54 4.75 5.24 4.86 4.78 6.05 5.42 4.21 3.61 3.72 3.87 3.92",
        "6.57 5.62 6.90 6.57 6.35 4.06 4.29 4.26 4.09 4.71 5.50 5.08 5.02 6.01 5.67 4.14 4.20 4.61 4.68 5.04",
    ]
)


def ends(*intervals: agreement.Interval) -> list[float]:
    return [end for interval in intervals for end in interval]


def figures(found: BlandAltman) -> list[np.ndarray]:  # type: ignore[type-arg]
    """Everything in the unit of the differences, in one list."""
    limits = [i for kind in (found.exact, found.mover, found.approximate) for i in (kind.lower, kind.upper)]
    return [np.asarray(f) for f in (found.bias, found.lower, found.upper, *ends(found.bias_interval, *limits))]


def covers(interval: agreement.Interval, truth: float) -> float:
    return float(np.mean((interval.low <= truth) & (truth <= interval.high)))


@pytest.mark.shared_data
def test_peak_flow_of_1986_has_the_published_intervals(shared: Path) -> None:
    data = columns(shared, "ba1986_pefr.csv")
    found = bland_altman(data["wright1"], data["mini1"])
    assert found.bias_interval == pytest.approx((-22.05, 17.81), abs=0.005)
    assert found.approximate.upper == pytest.approx((39.1, 108.6), abs=0.05)
    assert found.exact.upper == pytest.approx((48.86, 119.93), abs=0.005)
    assert found.mover.upper == pytest.approx((46.05, 118.24), abs=0.01)
    assert found.upper_interval == found.exact.upper
    assert (found.n_pairs, found.n_excluded, found.design) == (17, 0, "independent")
    # the paper's 2 for 1.96
    two = bland_altman(data["wright1"], data["mini1"], coverage=0.9544997361036416)
    assert (two.lower, two.upper) == pytest.approx((-79.65, 75.41), abs=0.005)


@pytest.mark.shared_data
def test_means_of_replicates_are_corrected_for_their_averaging(shared: Path) -> None:
    data = columns(shared, "ba1986_pefr.csv")
    wright, mini = (np.concatenate([data[f"{name}{k}"] for k in (1, 2)]) for name in ("wright", "mini"))
    found = bland_altman(wright, mini, subject=np.tile(data["subject"], 2), design="repeated_constant")
    assert found.sd == pytest.approx(37.7, abs=0.05)
    data = columns(shared, "ba1999_sbp.csv")
    observer, machine = (np.concatenate([data[f"{who}{k}"] for k in (1, 2, 3)]) for who in "JS")
    found = bland_altman(observer, machine, subject=np.tile(data["subject"], 3), design="repeated_constant")
    assert (found.bias, found.sd) == pytest.approx((-15.62, 20.95), abs=0.005)
    assert (found.lower, found.upper) == pytest.approx((-56.68, 25.44), abs=0.005)
    assert found.within_variance == pytest.approx(37.408 + 83.141, abs=0.001)
    assert np.isnan(found.exact.upper.high)
    assert found.upper_interval == found.mover.upper


def test_zou_2013_unlinked_replicates_of_unequal_number() -> None:
    y = ZOU_Y.copy()
    y[[4, 8]] = np.nan  # two readings of x have no partner, and count all the same
    found = bland_altman(ZOU_X, y, subject=ZOU_SUBJECT, design="repeated_constant")
    # printed to two decimals from data rounded likewise
    assert (found.bias, found.lower, found.upper) == pytest.approx((0.7152, -2.23, 3.66), abs=0.005)
    assert ends(found.mover.lower, found.mover.upper) == pytest.approx([-9.76, -0.48, 1.91, 11.20], abs=0.01)
    assert (found.n_pairs, found.n_subjects, found.n_excluded) == (18, 4, 2)
    assert any("2 pairs left out" in remark for remark in found.remarks)


def test_unlinked_replicates_follow_the_paper_written_out() -> None:
    y = ZOU_Y.copy()
    y[[4, 8, 9]] = np.nan
    found = bland_altman(ZOU_X, y, subject=ZOU_SUBJECT, design="repeated_constant")
    xs = [ZOU_X[s == ZOU_SUBJECT] for s in (1, 2, 3, 4)]
    ys = [y[(s == ZOU_SUBJECT) & np.isfinite(y)] for s in (1, 2, 3, 4)]
    means = np.array([a.mean() - b.mean() for a, b in zip(xs, ys, strict=True)])
    variance = means.var(ddof=1)
    for groups in (xs, ys):
        within = sum(((g - g.mean()) ** 2).sum() for g in groups) / sum(g.size - 1 for g in groups)
        variance += (1 - np.mean([1 / g.size for g in groups])) * within
    assert (found.bias, found.sd**2) == pytest.approx((means.mean(), variance))


def test_zou_2013_linked_pairs_weigh_subjects_and_bland_altman_2007_weigh_pairs() -> None:
    found = bland_altman(ZOU_X, ZOU_Y, subject=ZOU_SUBJECT, design="repeated_varying", weighting="subjects")
    assert (found.bias, found.lower, found.upper) == pytest.approx((0.7255, -2.14, 3.59), abs=0.005)
    assert ends(found.mover.lower, found.mover.upper) == pytest.approx([-9.83, -0.33, 1.77, 11.27], abs=0.011)
    pairs = bland_altman(ZOU_X, ZOU_Y, subject=ZOU_SUBJECT)
    assert pairs.design == "repeated_varying"
    assert pairs.bias == pytest.approx(0.5935, abs=1e-12)


@pytest.mark.shared_data
def test_plasma_volumes_of_1999_as_logarithms_and_ratios(shared: Path) -> None:
    data = columns(shared, "ba1999_plasma_volume.csv")
    logs = bland_altman(data["Nadler"], data["Hurley"], scale="log")
    assert (logs.bias, logs.lower, logs.upper) == pytest.approx((0.099, 0.056, 0.141), abs=0.0005)
    ratios = bland_altman(data["Nadler"], data["Hurley"], scale="ratio")
    assert (ratios.bias, ratios.lower, ratios.upper) == pytest.approx((1.10, 1.06, 1.15), abs=0.005)
    assert ratios.upper_interval == pytest.approx(np.exp(logs.upper_interval))
    assert ratios.sd == logs.sd


def test_percent_differences_are_of_the_mean_of_the_pair() -> None:
    found = bland_altman([110.0, 90.0], [90.0, 110.0], scale="percent")
    assert (found.bias, found.sd) == pytest.approx((0.0, 20.0 * np.sqrt(2.0)))


def test_equal_numbers_of_pairs_weigh_alike() -> None:
    rng = np.random.default_rng(4)
    subject = np.repeat(np.arange(9), 3)
    test = rng.normal(0, 2, 9)[subject] + rng.normal(0, 1, 27)
    by = [bland_altman(test, np.zeros(27), subject=subject, weighting=w) for w in ("pairs", "subjects")]
    np.testing.assert_allclose(figures(by[0]), figures(by[1]), rtol=1e-9)


@pytest.mark.parametrize("design", agreement.DESIGNS)
def test_a_batch_equals_its_rows(design: str, rng: np.random.Generator) -> None:
    subject = None if design == "independent" else rng.integers(0, 5, 24)
    test, reference = rng.normal(50, 5, (2, 3, 4, 24))
    test[rng.random(test.shape) < 0.2] = np.nan
    test[0, 0] = np.nan
    reference[1, 1] = test[1, 1] - 2.0
    batch = bland_altman(test, reference, subject=subject, design=design)
    for at in np.ndindex(3, 4):
        row = bland_altman(test[at], reference[at], subject=subject, design=design)
        for whole, one in zip(figures(batch), figures(row), strict=True):
            np.testing.assert_allclose(whole[at], one, rtol=1e-9)
        counts = (row.n_pairs, row.n_subjects, row.n_excluded, row.n_duplicates)
        assert counts == tuple(
            int(count[at]) for count in (batch.n_pairs, batch.n_subjects, batch.n_excluded, batch.n_duplicates)
        )


@pytest.mark.parametrize("design", agreement.DESIGNS)
def test_shift_scale_and_exchange_of_methods(design: str, rng: np.random.Generator) -> None:
    subject = None if design == "independent" else np.repeat(np.arange(6), 4)
    test, reference = rng.normal(50, 5, (2, 24))
    first = bland_altman(test, reference, subject=subject, design=design)
    moved = bland_altman(3.0 * test + 7.0, 3.0 * reference, subject=subject, design=design)
    np.testing.assert_allclose(figures(moved), [3.0 * f + 7.0 for f in figures(first)], rtol=1e-9)
    assert moved.between_variance == pytest.approx(9.0 * first.between_variance, nan_ok=True)
    back = bland_altman(reference, test, subject=subject, design=design)
    assert (back.bias, back.lower, back.upper) == pytest.approx((-first.bias, -first.upper, -first.lower))
    assert back.mover.lower == pytest.approx((-first.mover.upper.high, -first.mover.upper.low))


def test_a_large_common_value_costs_no_digits(rng: np.random.Generator) -> None:
    subject = np.repeat(np.arange(6), 4)
    d = np.round(rng.normal(0, 1, 24), 3) * 1024  # exact in binary after the shift
    near = bland_altman(d, np.zeros(24), subject=subject)
    far = bland_altman(d + 2.0**40, np.zeros(24), subject=subject)
    assert far.sd == pytest.approx(near.sd, rel=1e-6)


@pytest.mark.parametrize("n", [10, 40])
def test_intervals_of_independent_pairs_cover(n: int, rng: np.random.Generator) -> None:
    found = bland_altman(rng.normal(1.0, 2.0, (4000, n)), np.zeros((4000, n)))
    within = 4 * np.sqrt(0.95 * 0.05 / 4000)  # four Monte-Carlo standard errors
    for interval, truth in (
        (found.bias_interval, 1.0),
        (found.sd_interval, 2.0),
        (found.exact.lower, 1.0 - 2.0 * Z),
        (found.exact.upper, 1.0 + 2.0 * Z),
    ):
        assert covers(interval, truth) == pytest.approx(0.95, abs=within)
    # Zou's is somewhat wide in small samples, the approximate one somewhat narrow
    assert 0.95 - within < covers(found.mover.upper, 1.0 + 2.0 * Z) < 0.975
    assert 0.915 < covers(found.approximate.upper, 1.0 + 2.0 * Z) < 0.95 + within


@pytest.mark.parametrize(("n_subjects", "n_pairs", "between"), [(12, 5, 1.0), (30, 3, 2.0), (20, 4, 0.3)])
@pytest.mark.parametrize("design", agreement.DESIGNS[1:])
def test_intervals_of_repeated_pairs_cover(
    design: str, n_subjects: int, n_pairs: int, between: float, rng: np.random.Generator
) -> None:
    subject = np.repeat(np.arange(n_subjects), n_pairs)
    shape = (3000, subject.size)
    test = 1.0 + rng.normal(0, between, (3000, n_subjects))[:, subject] + rng.normal(0, 1, shape)
    # while the truth stands still both methods have errors of their own
    own = 0.5 if design == "repeated_constant" else 0.0
    found = bland_altman(test, rng.normal(0, own, shape), subject=subject, design=design)
    sd = np.sqrt(between**2 + 1.0 + own**2)
    for interval, truth in (
        (found.mover.lower, 1.0 - Z * sd),
        (found.mover.upper, 1.0 + Z * sd),
        (found.bias_interval, 1.0),
        (found.sd_interval, sd),
    ):
        # four Monte-Carlo standard errors; MOVER itself is within a point of 95 %
        assert covers(interval, truth) == pytest.approx(0.95, abs=0.016 + 0.01)
    assert np.mean(found.sd**2) == pytest.approx(sd**2, rel=0.03)


def test_equal_differences_have_limits_without_intervals() -> None:
    for scale in ("difference", "ratio"):
        x = np.array([0.1, 0.2, 0.4])
        y = x + 0.7 if scale == "difference" else 1.1 * x
        found = bland_altman(y, x, scale=scale)
        assert found.sd == 0.0
        assert found.lower == found.upper == pytest.approx(0.7 if scale == "difference" else 1.1)
        assert np.isnan(ends(found.bias_interval, found.sd_interval, found.upper_interval)).all()
        assert any("all differences are equal" in remark for remark in found.remarks)


@pytest.mark.parametrize(
    ("subject", "design", "says"),
    [
        (None, "independent", "fewer than 2 pairs"),
        (["a"] * 3, "repeated_varying", "fewer than 2 subjects"),
        (["a"] * 3, "repeated_constant", "fewer than 2 subjects"),
        (["a", "b", "c"], "repeated_varying", "single pair"),
        (["a", "b", "c"], "repeated_constant", "single pair"),
    ],
)
def test_too_little_data_give_nan_and_the_reason(subject: list[str] | None, design: str, says: str) -> None:
    test = [1.0, 2.0, 4.0] if subject else [1.0]
    found = bland_altman(test, np.zeros(len(test)), subject=subject, design=design)
    assert np.isnan([found.sd, found.lower, found.upper, *found.bias_interval, *found.sd_interval]).all()
    assert any(says in remark for remark in found.remarks)


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_nothing_gives_nan_with_or_without_subjects(shape: tuple[int, ...]) -> None:
    for subject in (None, np.arange(shape[-1])):
        found = bland_altman(np.zeros(shape), np.zeros(shape), subject=subject)
        assert np.shape(found.bias) == shape[:-1]
        assert np.isnan(found.bias).all()


def test_duplicated_pairs_and_truncation_are_told() -> None:
    subject = ["a", "a", "b", "b", "c"]
    found = bland_altman([1.0, 1.0, 1.0, -1.0, 1.0], np.zeros(5), subject=subject)
    assert found.n_duplicates == 1  # of a; the same values of another subject are no duplicates
    assert any("repeat an earlier pair" in remark for remark in found.remarks)
    found = bland_altman([1.0, -1.0, 1.0, -1.0], np.zeros(4), subject=subject[:4])
    assert any("below 0" in remark for remark in found.remarks)
    assert found.mover.upper.low <= found.upper <= found.mover.upper.high


def test_the_design_follows_from_the_subjects_unless_named() -> None:
    assert bland_altman([1.0, 2.0], [0.0, 0.0], subject=["a", "b"]).design == "independent"
    assert bland_altman([1.0, 2.0, 3.0], [0.0] * 3, subject=["a", "a", "b"]).design == "repeated_varying"
    # what is left out makes no repeat
    assert bland_altman([1.0, np.nan, 3.0], [0.0] * 3, subject=["a", "a", "b"]).design == "independent"


def test_integer_fortran_and_read_only_arrays_are_taken_as_they_are() -> None:
    test = np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 12) % 7)
    test.flags.writeable = False
    found = bland_altman(test, np.zeros((2, 12), dtype=np.uint8))
    assert found.bias == pytest.approx(test.mean(axis=1))


def test_many_pairs_are_no_matter(rng: np.random.Generator) -> None:
    test = rng.normal(0, 1, 200_000)
    found = bland_altman(test, np.zeros(test.size), subject=rng.integers(0, 20_000, test.size))
    assert found.sd == pytest.approx(1.0, abs=0.01)
    assert ends(found.mover.upper) == pytest.approx([Z, Z], abs=0.03)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"test": [1.0], "reference": [1.0, 2.0]}, "1 test values for 2"),
        ({"design": "linked"}, "design='linked'"),
        ({"design": "repeated_varying"}, "subject=None"),
        ({"design": "repeated_varying", "subject": ["a"]}, "one for each of 2 pairs"),
        ({"subject": [1.0, np.nan]}, "subject missing for 1"),
        ({"design": "independent", "subject": ["a", "a"]}, "2 pairs of one subject"),
        ({"level": 1.0}, "level=1.0"),
        ({"scale": "decibel"}, "scale='decibel'"),
        ({"weighting": "none"}, "weighting='none'"),
        ({"scale": "ratio"}, "2 values of reference not above 0"),
        ({"scale": "percent", "test": [1.0, -1.0]}, "not above 0"),
        ({"scale": "percent", "design": "repeated_constant", "subject": [1, 1]}, "scale='percent'"),
        ({"coverage": 95.0}, "coverage=95.0"),
        ({"test": [1.0, np.inf]}, "infinite"),
        ({"test": [[1.0, 2.0]]}, "test of shape"),
    ],
)
def test_misuse_is_named(arguments, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SignalError, match=re.escape(says)):
        bland_altman(**({"test": [1.0, 2.0], "reference": [0.0, 0.0]} | arguments))
