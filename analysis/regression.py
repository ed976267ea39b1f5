"""Straight lines between two methods of measurement: least squares, Deming, Passing-Bablok.

`ols` and `weighted_ols` take x as free of error. Deming's lines (`analysis.deming`) allow for error in both
and need to know the ratio of the errors; Passing-Bablok and Theil-Sen (`analysis.passing_bablok`) need no
distribution. All are functions of this module. A pair in which a value is NaN is left out and counted; too
few pairs or an x that does not vary give a line of NaN with its reason.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from analysis.deming import deming, deming_known_errors, weighted_deming
from analysis.fitted_line import FittedLine, Floats, complete_pairs, line_with_se, no_line, why_no_line
from analysis.passing_bablok import passing_bablok, theil_sen
from protocols.errors import SignalError

__all__ = [
    "FittedLine",
    "deming",
    "deming_known_errors",
    "ols",
    "passing_bablok",
    "theil_sen",
    "weighted_deming",
    "weighted_ols",
]


def ols(x: ArrayLike, y: ArrayLike, *, level: float = 0.95) -> FittedLine:
    """Return the line of ordinary least squares of y on x.

    Parameters
    ----------
    x, y
        Paired values, shape (n,).
    level
        Confidence level of the intervals (Student's t, n - 2 degrees of freedom).

    Raises
    ------
    SignalError
        If the lengths differ, a value is infinite or the level is not between 0 and 1.
    """
    (xs, ys), excluded = complete_pairs(x, y, level)
    return _least_squares("ordinary least squares", xs, ys, np.ones(xs.size), level, excluded)


def weighted_ols(
    x: ArrayLike, y: ArrayLike, *, weights: ArrayLike | None = None, level: float = 0.95
) -> FittedLine:
    """Return the line of weighted least squares of y on x.

    Parameters
    ----------
    x, y
        Paired values, shape (n,).
    weights
        Positive weights, shape (n,); 1 / x^2 without them: a standard deviation of y in proportion to x.
    level
        Confidence level of the intervals.

    Raises
    ------
    SignalError
        As `ols`; if a weight is not above 0, or an x is 0 where the weights come from x.
    """
    columns, excluded = complete_pairs(x, y, level, **({} if weights is None else {"weights": weights}))
    xs, ys = columns[:2]
    if weights is None:
        if (xs == 0.0).any():
            raise SignalError("x holds 0, expected values other than 0 for weights of 1 / x^2")
        w = (np.abs(xs).min(initial=np.inf) / xs) ** 2  # up to a factor, which does not matter
    else:
        w = columns[2]
        if (w <= 0.0).any():
            raise SignalError(f"weights holds {w.min():g}, expected values above 0")
    method = "weighted least squares, " + ("weights 1 / x^2" if weights is None else "given weights")
    return _least_squares(method, xs, ys, w, level, excluded)


def _least_squares(method: str, x: Floats, y: Floats, w: Floats, level: float, excluded: int) -> FittedLine:
    n = x.size
    if reason := why_no_line(x):
        return no_line(method, level, n, excluded, reason)
    w = w / w.sum()
    mean_x, mean_y = float(w @ x), float(w @ y)
    dx, dy = x - mean_x, y - mean_y
    sxx = float(w @ (dx * dx))
    slope = float(w @ (dx * dy)) / sxx
    residual_variance = float(w @ (dy - slope * dx) ** 2) / (n - 2)
    slope_se = (residual_variance / sxx) ** 0.5
    intercept_se = (residual_variance * (1.0 + mean_x * mean_x / sxx)) ** 0.5
    return line_with_se(method, (slope, slope_se), (mean_y - slope * mean_x, intercept_se), level, n, excluded)
