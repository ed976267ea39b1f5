"""Whether bias or spread change with the size of what is measured, and limits of agreement that follow them.

Two regressions, as Bland & Altman 1999, doi:10.1177/096228029900800204, section 3.2: differences on size (the
proportional bias), and absolute residuals on size (heteroscedasticity); limits are the line of the bias -+ z
times the line of the spread. Absolute values of a normal variable have the mean sd sqrt(2/pi), hence the
factor sqrt(pi/2) and the paper's 2.46 = 1.96 sqrt(pi/2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.arrays import as_series
from analysis.bootstrap import subject_numbers
from analysis.estimates import Interval, as_share
from analysis.variance_components import sums_by_subject
from protocols.errors import SignalError

Floats = NDArray[np.float64]

SIZES: Final = ("mean", "reference")
_LEAST_PAIRS: Final = 3  # a line through two has no residuals


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line on size, its interval and test; NaN where it cannot be known.

    Parameters
    ----------
    intercept, slope
        Of the line.
    slope_interval, p
        Of the slope by t; two-sided, of no slope.
    residual_sd
        Standard deviation about the line, divisor n - 2.
    freedom
        Degrees of freedom of the interval.
    """

    intercept: float
    slope: float
    slope_interval: Interval
    p: float
    residual_sd: float
    freedom: int

    def at(self, size: ArrayLike) -> Floats:
        """Return the line's height at `size`."""
        return np.asarray(self.intercept + self.slope * np.asarray(size, dtype=np.float64))


@dataclass(frozen=True, slots=True)
class AgreementTrend:
    """How differences and their spread follow size.

    Parameters
    ----------
    bias
        Line of the differences.
    spread
        Line of the absolute residuals of `bias`.
    size
        `mean` of test and reference, or `reference`.
    coverage, level
        As asked for.
    n_pairs, n_subjects, n_excluded
        Size of the sample (subjects: of pairs where none are given), and pairs left out for a missing value.
    remarks
        What a reader must know of these data.
    """

    bias: Line
    spread: Line
    size: str
    coverage: float
    level: float
    n_pairs: int
    n_subjects: int
    n_excluded: int
    remarks: tuple[str, ...]

    def limits_at(self, size: ArrayLike, *, constant_spread: bool = False) -> tuple[Floats, Floats]:
        """Return lower and upper limit of agreement at `size`.

        Parameters
        ----------
        size
            Where, shape (...).
        constant_spread
            Use the residual standard deviation everywhere, not the line of the spread.

        Returns
        -------
        NaN where the line of the spread is below 0.
        """
        at = np.asarray(size, dtype=np.float64)
        z = float(special.ndtri(0.5 + 0.5 * self.coverage))
        if constant_spread:
            sd = np.full(at.shape, self.bias.residual_sd)
        else:
            sd = np.sqrt(np.pi / 2.0) * self.spread.at(at)
        reach = z * np.where(sd >= 0, sd, np.nan)
        return self.bias.at(at) - reach, self.bias.at(at) + reach


def agreement_trend(
    test: ArrayLike,
    reference: ArrayLike,
    *,
    subject: ArrayLike | None = None,
    size: str = "mean",
    coverage: float = 0.95,
    level: float = 0.95,
) -> AgreementTrend:
    """Return proportional bias and heteroscedasticity.

    Parameters
    ----------
    test, reference
        Paired values, shape (n_pairs,); a pair with a NaN is left out and counted.
    subject
        Whose pair it is; then errors of the slopes are by subject (sandwich with the correction
        k / (k - 1) (n - 1) / (n - 2), t with k - 1 degrees of freedom), else by pair.
    size
        What stands for size: `mean`, or `reference` where it is (nearly) without error. Against an erroneous
        reference the slope is biased downwards (Bland & Altman 1995, doi:10.1016/S0140-6736(95)91748-9);
        against the mean it also differs from 0 where the two methods' variances do.
    coverage, level
        Share of the differences that limits are to hold; confidence level of the intervals.

    Returns
    -------
    Lines of NaN below 3 pairs or where the size does not vary; NaN intervals where all points lie on a line.

    Raises
    ------
    SignalError
        If shapes differ, values are infinite, or an option is unknown.

    Notes
    -----
    Residuals are not divided by n - 2 before the second regression, as in the paper.
    """
    as_share(coverage, name="coverage")
    as_share(level, name="level")
    if size not in SIZES:
        raise SignalError(f"size={size!r}, expected one of {', '.join(SIZES)}")
    x, y = as_series(test, name="test"), as_series(reference, name="reference")
    if x.shape != y.shape:
        raise SignalError(f"{x.size} test values for {y.size} of the reference, expected pairs")
    numbers = np.arange(x.size) if subject is None else subject_numbers(subject, x.size)
    present = np.isfinite(x) & np.isfinite(y)
    x, y = x[present], y[present]
    numbers = np.unique(numbers[present], return_inverse=True)[1]
    by_subject = subject is not None
    at = (x + y) / 2.0 if size == "mean" else y
    bias, residuals = _line(at, x - y, numbers, by_subject, level)
    spread, _ = _line(at, np.abs(residuals), numbers, by_subject, level)
    remarks = []
    if not present.all():
        remarks.append(f"{int((~present).sum())} pairs left out: a value is missing")
    if x.size < _LEAST_PAIRS:
        remarks.append(f"no lines: fewer than {_LEAST_PAIRS} pairs")
    elif not np.isfinite(bias.slope):
        remarks.append("no lines: size does not vary")
    elif not np.isfinite(bias.p):
        remarks.append("no intervals: all differences on a line, or fewer than 2 subjects")
    n_subjects = int(numbers.max(initial=-1)) + 1
    return AgreementTrend(
        bias, spread, size, coverage, level, x.size, n_subjects, int((~present).sum()), tuple(remarks)
    )


def _line(
    at: Floats, values: Floats, numbers: NDArray[np.intp], by_subject: bool, level: float
) -> tuple[Line, Floats]:
    """Return the least-squares line of `values` on `at`, and the residuals."""
    nan = float("nan")
    n = at.size
    away = at - at.mean() if n else at
    rounding = 8 * np.finfo(np.float64).eps
    over = float((away**2).sum())
    if n < _LEAST_PAIRS or over == 0 or np.abs(away).max() <= rounding * np.abs(at).max():
        return Line(nan, nan, Interval(nan, nan), nan, nan, 0), np.full(n, nan)
    slope = float((away * values).sum()) / over
    intercept = float(values.mean()) - slope * float(at.mean())
    residuals = values - values.mean() - slope * away
    residual_sd = float(np.sqrt((residuals**2).sum() / (n - 2)))
    if np.abs(residuals).max() <= rounding * max(np.abs(at).max(), np.abs(values).max()):
        return Line(intercept, slope, Interval(nan, nan), nan, 0.0, 0), np.zeros(n)
    if by_subject:
        k = int(numbers.max()) + 1
        scores = sums_by_subject(away * residuals, numbers)
        freedom = k - 1
        error = float(np.sqrt((scores**2).sum() * k / (k - 1) * (n - 1) / (n - 2))) / over if k > 1 else nan
    else:
        freedom, error = n - 2, residual_sd / float(np.sqrt(over))
    reach = float(special.stdtrit(freedom, 0.5 + 0.5 * level)) * error if freedom > 0 else nan
    p = float(2.0 * special.stdtr(freedom, -abs(slope) / error)) if freedom > 0 else nan
    return Line(intercept, slope, Interval(slope - reach, slope + reach), p, residual_sd, freedom), residuals
