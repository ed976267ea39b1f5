"""Regression and error grids: time against peers in the same run, and the coverage of intervals.

Passing-Bablok on 2,000 pairs and error grids of a million pairs against methcomp (Parkes' timed on a twentieth,
in proportion to which its time grows), Theil-Sen against scipy, least squares against statsmodels. Coverage is
that of 95 % intervals over 2,000 simulated trials of 40 pairs: its distance from 95 % in units of three
standard errors.

    PYTHONPATH=. .venv-bench/bin/python benchmarks/regression.py
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from costs import shortest_s
from numpy.typing import NDArray
from report import Report
from scipy import stats

from analysis.error_grids import clarke_zones, parkes_zones
from analysis.fitted_line import FittedLine
from analysis.regression import deming, ols, passing_bablok, theil_sen

PAIRS = 2_000
GRID_PAIRS = 1_000_000
GRID_PAIRS_OF_PEER = GRID_PAIRS // 20
ROUNDS = 5
TRIALS = 2_000
PAIRS_OF_TRIAL = 40
AHEAD = 0.1  # at most a tenth of the peer's time
NO_SLOWER = 1.0


def main() -> int:
    report = Report()
    rng = np.random.default_rng(20261130)
    x, y = two_methods(rng, PAIRS)
    reference = rng.uniform(30.0, 450.0, GRID_PAIRS)
    test = np.clip(reference * rng.lognormal(0.0, 0.25, GRID_PAIRS), 1.0, 590.0)
    some = slice(0, GRID_PAIRS_OF_PEER)
    methcomp = peer("methcomp")
    runs: list[tuple[str, Callable[[], object], Callable[[], object] | None, float]] = [
        (
            f"Passing-Bablok, {PAIRS:,} pairs",
            lambda: passing_bablok(x, y),
            methcomp and (lambda: peer_passing_bablok(methcomp, x, y)),
            1.0,
        ),
        (
            f"Clarke's grid, {GRID_PAIRS:,} pairs",
            lambda: clarke_zones(reference, test),
            methcomp and (lambda: methcomp.glucose.clarkezones(reference, test, "mg/dl")),
            1.0,
        ),
        (
            f"Parkes' grid, {GRID_PAIRS:,} pairs",
            lambda: parkes_zones(reference, test, diabetes_type=1),
            methcomp and (lambda: methcomp.glucose.parkeszones(1, reference[some], test[some], "mg/dl")),
            GRID_PAIRS / GRID_PAIRS_OF_PEER,
        ),
    ]
    for name, ours, theirs, scale in runs:
        if theirs is None:
            report.skip(name, "methcomp is not installed")
            continue
        theirs_s = scale * shortest_s(theirs, rounds=1)
        ours_s = shortest_s(ours, rounds=ROUNDS)
        report.figure(
            name,
            1000 * ours_s,
            "ms",
            ratio=ours_s / theirs_s,
            of=f"methcomp's {1000 * theirs_s:,.0f}",
            at_most=AHEAD,
        )
    ours_s, theirs_s = in_turn_s(lambda: theil_sen(x, y), lambda: stats.theilslopes(y, x))
    report.figure(
        f"Theil-Sen, {PAIRS:,} pairs",
        1000 * ours_s,
        "ms",
        ratio=ours_s / theirs_s,
        of=f"scipy's {1000 * theirs_s:,.0f}",
        at_most=NO_SLOWER,
    )
    statsmodels = peer("statsmodels")
    if statsmodels is None:
        report.skip(f"least squares, {PAIRS:,} pairs", "statsmodels is not installed")
    else:
        import statsmodels.api as sm

        design = sm.add_constant(x)
        ours_s, theirs_s = in_turn_s(lambda: ols(x, y), lambda: sm.OLS(y, design).fit().conf_int())
        report.figure(
            f"least squares, {PAIRS:,} pairs",
            1000 * ours_s,
            "ms",
            ratio=ours_s / theirs_s,
            of=f"statsmodels' {1000 * theirs_s:.2g}",
            at_most=NO_SLOWER,
        )
    for name, fit in (
        ("Passing-Bablok", passing_bablok),
        ("Deming", lambda x, y: deming(x, y, error_ratio=1.0)),
    ):
        share = coverage(fit, rng)
        three_errors = 3.0 * (0.95 * 0.05 / TRIALS) ** 0.5
        report.figure(
            f"{name}: coverage over {TRIALS:,} trials",
            100 * share,
            "%",
            ratio=abs(share - 0.95) / three_errors,
            of="three standard errors off 95",
            at_most=1.0,
        )
    return report.exit_code


def peer(name: str) -> Any:
    """Return the module, None if it is not installed."""
    if importlib.util.find_spec(name) is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def peer_passing_bablok(methcomp: Any, x: NDArray[np.float64], y: NDArray[np.float64]) -> object:
    """Fit methcomp's line without its plot."""
    return methcomp.regression._PassingBablok(x, y, "", "", "", 0.95, False, False, False, "", "")


def two_methods(rng: np.random.Generator, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    truth = rng.uniform(20.0, 200.0, n)
    return truth + rng.normal(0.0, 5.0, n), 1.0 + truth + rng.normal(0.0, 5.0, n)


def coverage(fit: Callable[..., FittedLine], rng: np.random.Generator) -> float:
    covered = 0
    for _ in range(TRIALS):
        line = fit(*two_methods(rng, PAIRS_OF_TRIAL))
        covered += line.slope_low <= 1.0 <= line.slope_high
    return covered / TRIALS


def in_turn_s(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Return the shortest times of two runs in turn."""
    times_s = [(shortest_s(ours, rounds=1), shortest_s(theirs, rounds=1)) for _ in range(ROUNDS)]
    return min(ours_s for ours_s, _ in times_s), min(theirs_s for _, theirs_s in times_s)


if __name__ == "__main__":
    sys.exit(main())
