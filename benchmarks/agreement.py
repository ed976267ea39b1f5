"""Statistics of agreement: coverage of their intervals in simulated trials, time against loops and peers.

Coverage is of 95 % intervals in 4,000 trials each (Monte-Carlo error 0.34 points), of the bound of the
deviation index in 2,000. The trial that is resampled has 85 subjects with three pairs, as blood pressure
protocols ask for. The peer is pingouin.

    PYTHONPATH=. .venv-bench/bin/python benchmarks/agreement.py
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from costs import shortest_in_turns_s
from numpy.typing import NDArray
from report import Report

from analysis.agreement import bland_altman, icc, lin_ccc, percentile_interval, resampled_sums
from analysis.concordance import within_subject_correlation
from analysis.rms_error import mean_square_interval
from analysis.tolerance import total_deviation_index
from analysis.variance_components import one_way

Floats = NDArray[np.float64]

TRIALS = 4000
SEED = 20260917
REPLICATES = 10_000
Z = 1.959963984540054
COVERAGE_LEAST = 0.97  # of what is meant: 92.2 %


def main() -> int:
    report = Report()
    rng = np.random.default_rng(SEED)
    coverage(report, rng)
    bootstrap(report, rng)
    peers(report, rng)
    return report.exit_code


def say_coverage(report: Report, name: str, inside: Any) -> None:
    share = float(np.mean(inside))
    report.figure(
        f"coverage, {name}", 100 * share, "%", ratio=share / 0.95, of="95 % meant", at_least=COVERAGE_LEAST
    )


def coverage(report: Report, rng: np.random.Generator) -> None:
    def holds(interval: Any, truth: float) -> Any:
        return (interval.low <= truth) & (truth <= interval.high)

    test = rng.normal(1.0, 2.0, (TRIALS, 10))
    found = bland_altman(test, np.zeros_like(test))
    for name in ("exact", "mover", "approximate"):
        say_coverage(report, f"limits of 10 pairs, {name}", holds(getattr(found, name).upper, 1.0 + 2.0 * Z))
    for design, own in (("repeated_varying", 0.0), ("repeated_constant", 0.5)):
        subject = np.repeat(np.arange(12), 5)
        test = rng.normal(0, 1, (TRIALS, 12))[:, subject] + rng.normal(0, 1, (TRIALS, 60))
        found = bland_altman(test, rng.normal(0, own, test.shape), subject=subject, design=design)
        say_coverage(report, f"limits of 12 x 5, {design}", holds(found.mover.upper, Z * np.sqrt(2.0 + own**2)))
    subject = np.repeat(np.arange(12), rng.integers(1, 9, 12))
    test = rng.normal(0, 1, (TRIALS, 12))[:, subject] + rng.normal(0, 1, (TRIALS, subject.size))
    for weighting in ("pairs", "subjects"):
        found = bland_altman(test, np.zeros_like(test), subject=subject, weighting=weighting)
        upper = holds(found.mover.upper, Z * np.sqrt(2.0))
        say_coverage(report, f"limits of 12 unequal subjects, by {weighting}", upper)
    ratings = rng.normal(0, 1, (TRIALS, 20, 1)) + rng.normal(0, 0.5, (TRIALS, 1, 4))
    say_coverage(
        report, "ICC(2,1), 20 x 4", holds(icc(ratings + rng.normal(0, 1, (TRIALS, 20, 4))).icc_2_1, 1 / 2.25)
    )
    x = rng.normal(0, 1, (TRIALS, 40))
    y = 0.2 + 0.8 * x + rng.normal(0, 0.4, x.shape)
    say_coverage(report, "Lin's concordance, 40 pairs", holds(lin_ccc(x, y), 1.6 / 1.84))
    subject = np.repeat(np.arange(10), 20)
    for bias in (0.0, 2.0):
        test = bias + rng.normal(0, 1, (TRIALS, 10))[:, subject] + rng.normal(0, 1, (TRIALS, 200))
        squares = mean_square_interval(one_way(test, subject), 0.95)
        say_coverage(report, f"rms error of 10 x 20, bias {bias:g}", holds(squares, bias**2 + 2.0))
        held = 0
        for row in test[: TRIALS // 2]:
            held += total_deviation_index(row, np.zeros(200), subject=subject).bound >= index_of(bias)
        say_coverage(report, f"bound of the deviation index, bias {bias:g}", held / (TRIALS // 2))


def index_of(bias: float) -> float:
    """Return what holds 90 % of |N(bias, 2)|, by halving; independent of the module under test."""
    from math import erf

    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        held = (erf((middle - bias) / 2) - erf((-middle - bias) / 2)) / 2  # sd sqrt 2, so / (sqrt 2 sqrt 2)
        low, high = (low, middle) if held >= 0.9 else (middle, high)
    return high


def bootstrap(report: Report, rng: np.random.Generator) -> None:
    subject = np.repeat(np.arange(85), 3)
    test = rng.normal(2, 5, 85)[subject] + rng.normal(0, 6, 255)
    rows = np.stack([np.ones(255), test, test**2])

    def ours() -> tuple[float, float]:
        n, total, squares = resampled_sums(rows, subject, replicates=REPLICATES, seed=1)
        return percentile_interval(np.sqrt((squares - total**2 / n) / (n - 1)), 0.95)

    def loop() -> tuple[float, float]:
        draw = np.random.default_rng(1)
        of_subject = test.reshape(85, 3)
        sds = [of_subject[draw.integers(0, 85, 85)].std(ddof=1) for _ in range(REPLICATES // 10)]
        return percentile_interval(np.array(sds), 0.95)

    took, looped = race(ours, loop)
    looped *= 10
    report.figure(
        "10,000 replicates by subject, 255 pairs, sd",
        1e3 * took,
        "ms",
        ratio=looped / took,
        of=f"{1e3 * looped:.0f} ms of a loop over replicates",
        at_least=10.0,
    )
    peer(
        report,
        "10,000 replicates by subject, against pairs",
        ours,
        lambda pg: pg.compute_bootci(test, func="std", n_boot=REPLICATES, seed=1, method="per"),
    )


def peers(report: Report, rng: np.random.Generator) -> None:
    ratings = rng.normal(0, 1, (85, 1)) + rng.normal(0, 1, (85, 3))

    def their_icc(pg: Any) -> Any:
        pd = importlib.import_module("pandas")
        table = pd.DataFrame(ratings).reset_index().melt(id_vars="index")
        return pg.intraclass_corr(table, targets="index", raters="variable", ratings="value")

    peer(report, "ICC, 85 x 3", lambda: icc(ratings), their_icc)
    subject = np.repeat(np.arange(85), 3)
    x, y = rng.normal(0, 1, (2, 255))

    def their_correlation(pg: Any) -> Any:
        pd = importlib.import_module("pandas")
        return pg.rm_corr(pd.DataFrame({"x": x, "y": y, "s": subject}), x="x", y="y", subject="s")

    peer(
        report,
        "correlation within subjects, 255 pairs",
        lambda: within_subject_correlation(x, y, subject),
        their_correlation,
    )


def peer(report: Report, name: str, ours: Callable[[], Any], theirs: Callable[[Any], Any]) -> None:
    """Report our time and how many times longer pingouin takes, where it is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pingouin = importlib.import_module("pingouin")
        except ImportError:
            report.skip(name, "pingouin is not installed; it belongs to benchmarks/requirements.txt")
            return
        took, longer = race(ours, lambda: theirs(pingouin))
    of = f"{1e3 * longer:.2f} ms of pingouin"
    report.figure(name, 1e3 * took, "ms", ratio=longer / took, of=of, at_least=10.0)


def race(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int = 15) -> tuple[float, float]:
    """Return the shortest time of either in s; they take turns, so that both meet the same load."""
    ours()
    theirs()
    times_s = shortest_in_turns_s({"ours": ours, "theirs": theirs}, rounds=rounds)
    return times_s["ours"], times_s["theirs"]


if __name__ == "__main__":
    sys.exit(main())
