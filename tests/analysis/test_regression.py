"""Lines between two methods against published answers, theory and their own symmetries."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis import passing_bablok as pairwise
from analysis.fitted_line import FittedLine
from analysis.regression import (
    deming,
    deming_known_errors,
    ols,
    passing_bablok,
    theil_sen,
    weighted_deming,
    weighted_ols,
)
from protocols.errors import SignalError

Fit = Callable[..., FittedLine]

FITS: dict[str, Fit] = {
    "LinReg": ols,
    "WLinReg": weighted_ols,
    "Deming": deming,
    "WDeming": weighted_deming,
    "PaBa": passing_bablok,
    "PaBaLarge": passing_bablok,
}
ALL: dict[str, Fit] = {
    "ols": ols,
    "weighted_ols": weighted_ols,
    "deming": partial(deming, error_ratio=1.0),
    "weighted_deming": partial(weighted_deming, error_ratio=1.0),
    "known_errors": lambda x, y, **more: deming_known_errors(
        x, y, x_se=np.ones(len(x)), y_se=np.ones(len(y)), **more
    ),
    "passing_bablok": passing_bablok,
    "theil_sen": theil_sen,
}
# Digits of the reference programs: estimates to 1e-10 and better, their t quantile and their end of the
# weighted iteration to some 1e-7, Passing-Bablok's to 6 decimals (intercept limits of one case to 3).
TOLERANCES = {"LinReg": 2e-8, "WLinReg": 2e-8, "Deming": 3e-8, "WDeming": 5e-7, "PaBa": 5e-7, "PaBaLarge": 5e-7}


def columns(shared: Path, name: str) -> np.ndarray:  # type: ignore[type-arg]
    return np.genfromtxt(shared / "oracles" / name, delimiter=",", names=True)


def numbers(line: FittedLine) -> tuple[float, ...]:
    return (
        line.slope,
        line.slope_se,
        *line.slope_interval,
        line.intercept,
        line.intercept_se,
        *line.intercept_interval,
    )


def two_methods(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    truth = rng.uniform(20.0, 100.0, n)
    return truth + rng.normal(0.0, 3.0, n), 2.0 + 1.1 * truth + rng.normal(0.0, 3.0, n)


@pytest.mark.shared_data
@pytest.mark.parametrize("method", FITS)
def test_reference_results_of_seven_data_sets(method: str, shared: Path) -> None:
    with (shared / "oracles/mcr_cases_data.csv").open() as file:
        data = [(row["case"], float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
    with (shared / "oracles/mcr_cases_expected.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["reg_method"] == method]
    assert rows
    for row in rows:
        x, y = np.array([pair[1:] for pair in data if pair[0] == row["case"]]).T
        ratio = {"error_ratio": float(row["error_ratio"])} if row["error_ratio"] else {}
        line = FITS[method](x, y, **ratio)
        tolerance = TOLERANCES[method]
        expected = [float(row[name]) for name in ("slope", "slope_lo", "slope_hi")]
        assert (line.slope, *line.slope_interval) == pytest.approx(expected, abs=tolerance), row["name"]
        expected = [float(row[name]) for name in ("intercept", "intercept_lo", "intercept_hi")]
        intercepts = (line.intercept, *line.intercept_interval)
        rounded_to_3_decimals = 5e-4 if row["case"] == "INTRANET01" else 0.0
        allowed = max(tolerance * np.ptp(y), rounded_to_3_decimals)
        assert intercepts == pytest.approx(expected, abs=allowed), row["name"]


@pytest.mark.shared_data
def test_ripley_and_thompson_1987_with_known_errors(shared: Path) -> None:
    data = columns(shared, "ripley_thompson_arsenate.csv")
    line = deming_known_errors(data["aas"], data["aes"], x_se=data["se_aas"], y_se=data["se_aes"])
    assert line.intercept == pytest.approx(0.10645, abs=5e-6)
    assert line.slope == pytest.approx(0.9730, abs=5e-5)
    # the lines of least squares that the paper compares with, to its digits
    assert (ols(data["aas"], data["aes"]).intercept, ols(data["aas"], data["aes"]).slope) == pytest.approx(
        (0.544, 0.845), abs=5e-4
    )
    weighted = weighted_ols(data["aas"], data["aes"], weights=data["se_aes"] ** -2.0)
    assert (weighted.intercept, weighted.slope) == pytest.approx((0.005, 0.890), abs=1e-3)


@pytest.mark.shared_data
def test_sen_1968(shared: Path) -> None:
    data = columns(shared, "sen1968_monotone.csv")
    line = theil_sen(data["t"], data["y"], level=0.93)
    assert (line.slope, line.intercept) == (4.0, 6.0)
    assert line.slope_interval == (26 / 7, 35 / 8)
    line = passing_bablok(data["t"], data["y"])
    assert (line.slope, line.intercept) == (4.0, 6.0)


def test_deming_example_of_the_ncss_manual() -> None:
    # NCSS Statistical Software, "Deming regression", example 1; its lambda is ours at 4
    x = [7.0, 8.3, 10.5, 9.0, 5.1, 8.2, 10.2, 10.3, 7.1, 5.9]
    y = [7.9, 8.2, 9.6, 9.0, 6.5, 7.3, 10.2, 10.6, 6.3, 5.2]
    line = deming(x, y, error_ratio=4.0)
    assert (line.slope, line.intercept) == pytest.approx((1.0012, -0.0897), abs=5e-5)
    assert deming(x, y, error_ratio=0.25).slope == pytest.approx(0.8906, abs=5e-5)


def test_error_ratio_is_x_over_y() -> None:
    # With y free of error the line is that of x on y, with x free of error that of y on x.
    x, y = two_methods(np.random.default_rng(1), 60)
    assert deming(x, y, error_ratio=1e9).slope == pytest.approx(1.0 / ols(y, x).slope, rel=1e-6)
    assert deming(x, y, error_ratio=1e-9).slope == pytest.approx(ols(x, y).slope, rel=1e-6)


def test_weighted_lines_with_equal_weights_are_the_plain_ones() -> None:
    x, y = two_methods(np.random.default_rng(2), 40)
    plain, weighted = ols(x, y), weighted_ols(x, y, weights=np.full(40, 7.0))
    assert numbers(weighted) == pytest.approx(numbers(plain), rel=1e-12)
    known = deming_known_errors(x, y, x_se=np.full(40, 2.0), y_se=np.full(40, 4.0))
    assert numbers(known) == pytest.approx(numbers(deming(x, y, error_ratio=0.25)), rel=1e-8)


def test_jackknife_is_that_of_refitted_lines() -> None:
    x, y = two_methods(np.random.default_rng(3), 25)
    for fit in (partial(deming, error_ratio=2.0), partial(weighted_deming, error_ratio=2.0)):
        slopes = np.array([fit(np.delete(x, i), np.delete(y, i)).slope for i in range(25)])
        by_hand = np.sqrt(24 / 25 * ((slopes - slopes.mean()) ** 2).sum())
        assert fit(x, y).slope_se == pytest.approx(by_hand, rel=1e-8)


def test_slopes_of_all_pairs_by_brute_force(rng: np.random.Generator) -> None:
    for n in (6, 7, 30, 31):  # 15, 21, 435, 465 slopes: one in the middle
        x, y = rng.uniform(0.0, 10.0, n), rng.uniform(0.0, 10.0, n)
        if (x - x.mean()) @ (y - y.mean()) < 0.0:
            y = -y
        i, j = np.triu_indices(n, 1)
        slopes = np.sort((y[j] - y[i]) / (x[j] - x[i]))
        assert theil_sen(x, y).slope == slopes[slopes.size // 2]
        from_minus_one = np.concatenate([slopes[slopes >= -1.0], slopes[slopes < -1.0]])
        assert (slopes < -1.0).any()
        assert passing_bablok(x, y).slope == from_minus_one[slopes.size // 2]


def test_a_slope_of_minus_one_counts_half_and_the_mean_is_of_angles() -> None:
    # Slopes between these: -1, 2/3, 1, 5/4, 3/2, 3; the one of -1 shifts the median of six by half a rank.
    x, y = [0.0, 1.0, 2.0, 4.0], [0.0, 3.0, 2.0, 5.0]
    slopes = sorted((y[j] - y[i]) / (x[j] - x[i]) for i in range(4) for j in range(i))
    assert slopes.count(-1.0) == 1
    assert passing_bablok(x, y).slope == slopes[3] == 1.25
    # the same in tenths, whose differences are not exact
    tenths = [0.1 * value + 0.7 for value in x], [0.1 * value + 0.3 for value in y]
    assert (tenths[1][2] - tenths[1][1]) / (tenths[0][2] - tenths[0][1]) != -1.0
    assert passing_bablok(*tenths).slope == pytest.approx(1.25, rel=1e-9)
    # without it, two middle slopes
    x, y = [0.0, 1.0, 2.0, 4.0], [0.0, 3.0, 2.5, 5.0]
    slopes = sorted((y[j] - y[i]) / (x[j] - x[i]) for i in range(4) for j in range(i))
    assert passing_bablok(x, y).slope == pytest.approx(
        np.tan((np.arctan(slopes[2]) + np.arctan(slopes[3])) / 2)
    )


def test_slopes_that_do_not_fit_in_memory_give_the_same_line(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for x, y in (two_methods(rng, 801), two_methods(rng, 700)):
        for order in (np.arange(x.size), np.argsort(x)):
            whole = [repr(fit(x[order], y[order])) for fit in (passing_bablok, theil_sen)]
            with monkeypatch.context() as patched:
                patched.setattr(pairwise, "_KEPT_AT_ONCE", 1000)
                assert [repr(fit(x[order], y[order])) for fit in (passing_bablok, theil_sen)] == whole
    tied = np.round(two_methods(rng, 500)[0] / 20.0), np.round(two_methods(rng, 500)[0] / 20.0)
    whole_tied = repr(passing_bablok(*tied))
    monkeypatch.setattr(pairwise, "_KEPT_AT_ONCE", 1000)
    assert repr(passing_bablok(*tied)) == whole_tied


values = st.lists(
    st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=5, max_size=25, unique_by=lambda pair: pair[0]
)


@settings(max_examples=15, deadline=None)
@given(values, st.randoms(use_true_random=False))
def test_order_of_pairs_does_not_matter(pairs, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(pairs, len(pairs))
    for name, fit in ALL.items():
        first, second = (fit(*np.array(rows, dtype=float).T) for rows in (pairs, shuffled))
        assert first.n == second.n, name
        if not first.reason:
            assume(
                first.slope_se < 1e3 or np.isnan(first.slope_se)
            )  # all but undetermined lines amplify rounding
            assert numbers(second) == pytest.approx(numbers(first), rel=1e-5, abs=1e-7, nan_ok=True), name


@settings(max_examples=40, deadline=None)
@given(values, st.sampled_from([0.25, 2.0, 8.0]), st.integers(-100, 100))
def test_scale_and_shift_of_both_methods_pass_through(pairs, scale, shift) -> None:  # type: ignore[no-untyped-def]
    x, y = np.array(pairs, dtype=float).T
    for name in ("ols", "deming", "passing_bablok", "theil_sen"):
        line = ALL[name](x, y)
        assume(not line.reason)
        assume(abs(line.slope) < 1e3)
        assume(
            not abs(x @ y - x.sum() * y.sum() / x.size) < 1e-9
        )  # mirrored or not is then a matter of rounding
        scaled = ALL[name](x * scale, y * scale)
        assert scaled.slope == pytest.approx(line.slope, rel=1e-9, abs=1e-12), name
        assert scaled.intercept == pytest.approx(line.intercept * scale, rel=1e-6, abs=1e-6), name
        moved = ALL[name](x + shift, y + shift)
        assert moved.slope == pytest.approx(line.slope, rel=1e-7, abs=1e-9), name
        assert moved.intercept == pytest.approx(
            line.intercept + shift * (1.0 - line.slope), rel=1e-5, abs=1e-5 * (1 + abs(line.slope))
        ), name


@settings(max_examples=40, deadline=None)
@given(values, st.sampled_from([0.5, 1.0, 3.0]))
def test_swapping_the_methods_inverts_the_slope(pairs, ratio) -> None:  # type: ignore[no-untyped-def]
    x, y = np.array(pairs, dtype=float).T
    assume(np.ptp(y) > 0)
    forth, back = deming(x, y, error_ratio=ratio), deming(y, x, error_ratio=1.0 / ratio)
    assume(not forth.reason)
    assume(1e-3 < abs(forth.slope) < 1e3)
    assert back.slope == pytest.approx(1.0 / forth.slope, rel=1e-9)
    forth, back = passing_bablok(x, y), passing_bablok(y, x)
    assume(not forth.reason)
    assume(not back.reason)
    assume(1e-3 < abs(forth.slope) < 1e3)
    assert back.slope == pytest.approx(1.0 / forth.slope, rel=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_a_perfect_line_is_found(name: str) -> None:
    x = np.arange(1.0, 21.0)
    line = ALL[name](x, 3.0 + 2.0 * x)
    assert (line.slope, line.intercept) == pytest.approx((2.0, 3.0))
    assert line.slope_interval == pytest.approx((2.0, 2.0), abs=1e-6)
    assert line.at([0.0, 10.0]) == pytest.approx([3.0, 23.0])


def test_falling_lines_are_mirrored() -> None:
    x, y = two_methods(np.random.default_rng(4), 41)
    rising, falling = passing_bablok(x, y), passing_bablok(x, -y)
    assert falling.slope == -rising.slope
    assert falling.slope_interval == (-rising.slope_high, -rising.slope_low)
    assert falling.intercept_interval == (-rising.intercept_high, -rising.intercept_low)


@pytest.mark.parametrize("name", ["ols", "deming", "passing_bablok"])
def test_intervals_cover_the_truth_as_often_as_they_say(name: str) -> None:
    # 2,000 trials: within 3 standard errors, 0.0146. The jackknife with t is near its level at n = 40.
    rng = np.random.default_rng(20261130)
    covered = 0
    for _ in range(2000):
        truth = rng.uniform(20.0, 100.0, 40)
        x = truth if name == "ols" else truth + rng.normal(0.0, 4.0, 40)
        line = ALL[name](x, 5.0 + truth + rng.normal(0.0, 4.0, 40))
        covered += line.slope_low <= 1.0 <= line.slope_high
    assert covered / 2000 == pytest.approx(0.95, abs=0.0146)


def test_weighted_deming_covers_the_truth_with_errors_in_proportion() -> None:
    rng = np.random.default_rng(20261201)
    covered = 0
    for _ in range(400):
        truth = rng.uniform(10.0, 200.0, 40)
        x, y = (truth * (1.0 + rng.normal(0.0, 0.05, 40)) for _ in range(2))
        line = weighted_deming(x, y, error_ratio=1.0)
        covered += line.slope_low <= 1.0 <= line.slope_high
    assert covered / 400 == pytest.approx(0.95, abs=0.033)  # 3 standard errors


@pytest.mark.parametrize("name", ALL)
def test_missing_values_are_left_out_and_counted(name: str) -> None:
    x, y = two_methods(np.random.default_rng(5), 30)
    holed_x, holed_y = np.append(x, [np.nan, 50.0]), np.append(y, [50.0, np.nan])
    whole, holed = ALL[name](x, y), ALL[name](holed_x, holed_y)
    assert (holed.n, holed.excluded) == (30, 2)
    assert numbers(holed) == pytest.approx(numbers(whole), rel=1e-9, nan_ok=True)
    assert np.isnan(holed_x[-2])  # inputs are not altered


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        ([], [], "0 complete pairs"),
        ([1.0, 2.0], [1.0, 2.0], "2 complete pairs"),
        ([1.0, np.nan, 3.0], [1.0, 2.0, np.nan], "1 complete pairs"),
        ([5.0, 5.0, 5.0, 5.0], [1.0, 2.0, 3.0, 4.0], "x is 5 in every pair"),
    ],
)
def test_pairs_that_give_no_line_say_why(name: str, x: list[float], y: list[float], says: str) -> None:
    line = ALL[name](x, y)
    assert says in line.reason
    assert np.isnan(numbers(line)).all()


def test_unrelated_values_give_no_deming_line() -> None:
    line = deming([1.0, -1.0, 1.0, -1.0], [2.0, 2.0, -2.0, -2.0], error_ratio=1.0)
    assert np.isnan(line.slope)
    assert "without going together" in line.reason


def test_too_few_pairs_leave_the_interval_open() -> None:
    line = passing_bablok([1.0, 2.0, 3.0], [1.1, 1.9, 3.2])
    assert np.isfinite(line.slope)
    assert line.slope_interval == line.intercept_interval == (-np.inf, np.inf)


def test_a_pair_that_alone_makes_the_line_leaves_no_standard_error() -> None:
    # without the last pair x does not vary: the jackknife has nothing to say, and says so
    x, y = [1.0, 1.0, 1.0, 5.0], [1.0, 2.0, 3.0, 9.0]
    for name in ("deming", "weighted_deming", "known_errors"):
        line = ALL[name](x, y)
        assert np.isfinite(line.slope), name
        assert np.isnan([line.slope_se, *line.slope_interval, line.intercept_se]).all(), name


def test_half_of_the_points_above_one_another_give_no_slope() -> None:
    line = passing_bablok([1.0, 1.0, 1.0, 1.0, 1.0, 1.1], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert np.isnan(line.slope)
    assert "above one another" in line.reason


@pytest.mark.parametrize("kind", ["int32", "fortran", "readonly", "list"])
def test_kinds_of_arrays_do_not_matter(kind: str) -> None:
    x, y = (np.round(values) for values in two_methods(np.random.default_rng(6), 20))
    made = {
        "int32": (x.astype(np.int32), y.astype(np.int32)),
        "fortran": tuple(np.asfortranarray(np.stack([x, y]))),
        "readonly": (x.copy(), y.copy()),
        "list": (x.tolist(), y.tolist()),
    }[kind]
    if kind == "readonly":
        for column in made:
            column.flags.writeable = False
    for name, fit in ALL.items():
        assert numbers(fit(*made)) == pytest.approx(numbers(fit(x, y)), rel=1e-12, nan_ok=True), name


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("x", "y", "more", "says"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0], {}, "3 of x, 2 of y|2 of y"),
        ([1.0, 2.0, np.inf], [1.0, 2.0, 3.0], {}, "x holds infinite"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 1e200], {}, "y holds .*1e.200"),
        ([[1.0, 2.0, 3.0]], [1.0], {}, "one dimension"),
        (["a", "b", "c"], [1.0, 2.0, 3.0], {}, "dtype"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 4.0], {"level": 95}, "level=95"),
    ],
)
def test_misuse_is_named(name: str, x, y, more, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SignalError, match=says):
        ALL[name](x, y, **more)


def test_misuse_of_weights_errors_and_ratio_is_named() -> None:
    x, y = [1.0, 2.0, 3.0], [1.0, 2.0, 4.0]
    for call, says in (
        (lambda: deming(x, y, error_ratio=0.0), "error_ratio=0.0"),
        (lambda: weighted_deming(x, y, error_ratio=float("nan")), "error_ratio=nan"),
        (lambda: weighted_deming([-1.0, 2.0, 3.0], y, error_ratio=1.0), "x holds -1"),
        (lambda: weighted_ols([0.0, 2.0, 3.0], y), "x holds 0"),
        (lambda: weighted_ols(x, y, weights=[1.0, 0.0, 1.0]), "weights holds 0"),
        (lambda: deming_known_errors(x, y, x_se=[-1.0, 1.0, 1.0], y_se=[1.0] * 3), "x_se holds -1"),
        (lambda: deming_known_errors(x, y, x_se=[0.0, 1.0, 1.0], y_se=[0.0] * 3), "both 0"),
    ):
        with pytest.raises(SignalError, match=says):
            call()


def test_extreme_units_do_not_matter() -> None:
    x, y = two_methods(np.random.default_rng(7), 30)
    for name, fit in ALL.items():
        if name == "known_errors":
            continue  # its errors have a unit of their own
        line = fit(x, y)
        for unit in (1e-9, 1e12):
            assert fit(x * unit, y * unit).slope == pytest.approx(line.slope, rel=1e-9), name
        assert fit(x * 1e-160, y * 1e-160).reason.startswith("x varies by"), name
