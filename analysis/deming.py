"""Deming's lines: both methods err, and the ratio of their error variances is known.

`error_ratio` is the variance of the errors of x over that of the errors of y throughout (the convention of
the mcr package). NCSS and others use the inverse; so does the word lambda in many papers. Standard errors are
of the jackknife, sqrt((n - 1) / n sum (estimate without pair i - their mean)^2), intervals of Student's t
with n - 2 degrees of freedom about the estimate from all pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from analysis.arrays import as_positive
from analysis.fitted_line import FittedLine, Floats, complete_pairs, line_with_se, no_line, why_no_line
from protocols.errors import SignalError

_MOST_STEPS: Final = 500  # linear convergence; some 10 steps are usual
_SETTLED: Final = 1e-11  # relative change of the slope; rounding alone reaches some 1e-14
_AT_ONCE: Final = 1 << 18  # pairs times left-out pairs in one block: some 2 MB an array

_Step = Callable[[Floats, Floats, Floats], tuple[Floats, Floats]]


def deming(x: ArrayLike, y: ArrayLike, *, error_ratio: float, level: float = 0.95) -> FittedLine:
    """Return Deming's line: errors of constant size in x and y.

    Parameters
    ----------
    x, y
        Paired values, shape (n,).
    error_ratio
        Variance of the errors of x over the variance of the errors of y.
    level
        Confidence level of the jackknife intervals.

    Raises
    ------
    SignalError
        If the lengths differ, a value is infinite, or the ratio or the level is out of range.

    References
    ----------
    Linnet 1993, doi:10.1093/clinchem/39.3.424.
    """
    ratio = as_positive(error_ratio, name="error_ratio", unit="variance of x over variance of y")
    (xs, ys), excluded = complete_pairs(x, y, level)
    method = f"Deming, error ratio {ratio:g} (x over y), jackknife"
    n = xs.size
    if reason := why_no_line(xs):
        return no_line(method, level, n, excluded, reason)
    dx, dy = xs - xs.mean(), ys - ys.mean()
    products = np.stack([dx * dx, dx * dy, dy * dy])
    sums = products.sum(axis=1, keepdims=True)
    slope = float(_slope(sums, ratio)[0])
    # without pair i a sum of products about the mean falls by n / (n - 1) times that pair's own product
    slopes = _slope(sums - n / (n - 1) * products, ratio)
    intercepts = ys.mean() - dy / (n - 1) - slopes * (xs.mean() - dx / (n - 1))
    return _jackknifed(method, slope, float(ys.mean() - slope * xs.mean()), slopes, intercepts, level, excluded)


def weighted_deming(x: ArrayLike, y: ArrayLike, *, error_ratio: float, level: float = 0.95) -> FittedLine:
    """Return Deming's weighted line: errors in proportion to size in both methods.

    Parameters
    ----------
    x, y
        Paired values of 0 and above, shape (n,).
    error_ratio
        Variance of the errors of x over the variance of the errors of y, the same at every size.
    level
        Confidence level of the jackknife intervals.

    Raises
    ------
    SignalError
        As `deming`, and if a value is negative.

    Notes
    -----
    Weights are 1 / ((x + ratio y) / (1 + ratio))^2 of the estimated true values, repeated until the slope
    settles. Published programs stop earlier (mcr: change of 1e-6), hence differ in the seventh digit.

    References
    ----------
    Linnet 1990, doi:10.1002/sim.4780091210.
    """
    ratio = as_positive(error_ratio, name="error_ratio", unit="variance of x over variance of y")
    (xs, ys), excluded = complete_pairs(x, y, level)
    method = f"weighted Deming, error ratio {ratio:g} (x over y), jackknife"
    for name, values in (("x", xs), ("y", ys)):
        if (values < 0.0).any():
            raise SignalError(f"{name} holds {values.min():g}, expected values of 0 and above")

    def step(kept: Floats, slopes: Floats, intercepts: Floats) -> tuple[Floats, Floats]:
        b, a = slopes[:, None], intercepts[:, None]
        shares = (ys - a - b * xs) / (1.0 + ratio * b * b)
        size = (xs + ratio * b * shares + ratio * (ys - shares)) / (1.0 + ratio)
        below = (size <= 0.0) & (kept > 0.0)
        weights = kept / np.where(size > 0.0, size * size, np.inf)
        weights[below.any(axis=1)] = np.nan  # a true value at or below 0 has no size to be in proportion to
        return _weighted_line(xs, ys, weights, ratio)

    return _iterated(method, xs, ys, step, level, excluded)


def deming_known_errors(
    x: ArrayLike, y: ArrayLike, *, x_se: ArrayLike, y_se: ArrayLike, level: float = 0.95
) -> FittedLine:
    """Return the line of greatest likelihood where the standard errors of every x and y are known.

    Parameters
    ----------
    x, y
        Paired values, shape (n,).
    x_se, y_se
        Their standard errors, shape (n,), of 0 and above, not both 0.
    level
        Confidence level of the jackknife intervals.

    Raises
    ------
    SignalError
        As `deming`, and if a standard error is negative or both of a pair are 0.

    References
    ----------
    Ripley & Thompson 1987, doi:10.1039/AN9871200377; solved by the iteration of York et al. 2004,
    doi:10.1119/1.1632486, without correlation of the errors. Their standard error rests on the stated errors;
    ours is of the jackknife.
    """
    (xs, ys, x_ses, y_ses), excluded = complete_pairs(x, y, level, x_se=x_se, y_se=y_se)
    for name, values in (("x_se", x_ses), ("y_se", y_ses)):
        if (values < 0.0).any():
            raise SignalError(f"{name} holds {values.min():g}, expected standard errors of 0 and above")
    if ((x_ses == 0.0) & (y_ses == 0.0)).any():
        raise SignalError("x_se and y_se are both 0 for one pair, expected one of them above 0")
    x_variance, y_variance = x_ses * x_ses, y_ses * y_ses

    def step(kept: Floats, slopes: Floats, intercepts: Floats) -> tuple[Floats, Floats]:  # noqa: ARG001
        b = slopes[:, None]
        weights = kept / (y_variance + b * b * x_variance)
        total = weights.sum(axis=1)
        mean_x, mean_y = weights @ xs / total, weights @ ys / total
        dx, dy = xs - mean_x[:, None], ys - mean_y[:, None]
        true_dx = weights * (dx * y_variance + b * dy * x_variance)
        next_slopes = (weights * true_dx * dy).sum(axis=1) / (weights * true_dx * dx).sum(axis=1)
        return next_slopes, mean_y - next_slopes * mean_x

    return _iterated("Deming with known errors, jackknife", xs, ys, step, level, excluded)


def _iterated(
    method: str,
    x: Floats,
    y: Floats,
    step: _Step,
    level: float,
    excluded: int,
) -> FittedLine:
    """Repeat `step(kept, slopes, intercepts)` for all pairs, then for all without each, until it settles."""
    n = x.size
    if reason := why_no_line(x):
        return no_line(method, level, n, excluded, reason)
    everything = np.ones((1, n))
    slope, intercept = _settled(step, everything, *_weighted_line(x, y, everything, 1.0))
    if not np.isfinite(slope[0]):
        return no_line(method, level, n, excluded, f"no line settled within {_MOST_STEPS} steps")
    slopes, intercepts = np.empty(n), np.empty(n)
    rows = max(1, _AT_ONCE // n)
    for start in range(0, n, rows):
        left_out = np.arange(start, min(start + rows, n))
        kept = np.ones((left_out.size, n))
        kept[np.arange(left_out.size), left_out] = 0.0
        near = np.full(left_out.size, slope[0]), np.full(left_out.size, intercept[0])
        slopes[left_out], intercepts[left_out] = _settled(step, kept, *near)
    return _jackknifed(method, float(slope[0]), float(intercept[0]), slopes, intercepts, level, excluded)


def _settled(
    step: _Step,
    kept: Floats,
    slopes: Floats,
    intercepts: Floats,
) -> tuple[Floats, Floats]:
    """Return slopes and intercepts that no longer change, NaN where they do not settle or there are none."""
    for _ in range(_MOST_STEPS):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # NaN then, which stays
            next_slopes, next_intercepts = step(kept, slopes, intercepts)
            change = np.abs(next_slopes - slopes)
        slopes, intercepts = next_slopes, next_intercepts
        moving = change > _SETTLED * np.abs(slopes)
        if not moving.any():  # NaN does not move
            break
    else:
        slopes = np.where(moving, np.nan, slopes)
    settled = np.isfinite(slopes) & np.isfinite(intercepts)
    return np.where(settled, slopes, np.nan), np.where(settled, intercepts, np.nan)


def _weighted_line(x: Floats, y: Floats, weights: Floats, ratio: float) -> tuple[Floats, Floats]:
    """Return slopes and intercepts for rows of weights, shape (n_rows, n)."""
    total = weights.sum(axis=1)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    dx, dy = x - mean_x[:, None], y - mean_y[:, None]
    weighted_dx = weights * dx
    sums = np.stack([np.vecdot(weighted_dx, dx), np.vecdot(weighted_dx, dy), np.vecdot(weights * dy, dy)])
    slopes = _slope(sums, ratio)
    return slopes, mean_y - slopes * mean_x


def _slope(sums: Floats, ratio: float) -> Floats:
    """Return slopes for sums of xx, xy and yy about the means, shape (3, ...), NaN where they say none.

    The root is the one with the sign of the sum of xy, in the form without cancellation.
    """
    sxx, sxy, syy = sums
    lead = ratio * syy - sxx
    root = np.hypot(lead, 2.0 * np.sqrt(ratio) * sxy)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.where(lead > 0.0, (lead + root) / (2.0 * ratio * sxy), 2.0 * sxy / (root - lead))
    return np.asarray(np.where(np.isfinite(slopes), slopes, np.nan))


def _jackknifed(
    method: str,
    slope: float,
    intercept: float,
    slopes: Floats,
    intercepts: Floats,
    level: float,
    excluded: int,
) -> FittedLine:
    n = slopes.size
    if not np.isfinite(slope):
        return no_line(method, level, n, excluded, "x and y vary without going together, expected a relation")
    slope_se, intercept_se = (
        float(np.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum())) for values in (slopes, intercepts)
    )
    return line_with_se(method, (slope, slope_se), (intercept, intercept_se), level, n, excluded)
