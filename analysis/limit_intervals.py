"""Confidence intervals of limits of agreement, from the bias and the parts that its variance is made of.

A limit is `bias` -+ z `sd`, and `sd`^2 a sum of mean squares, each with a weight and its degrees of freedom:
one for independent pairs, two or three where subjects are measured repeatedly.

exact
    One mean square: bias and limits follow a noncentral t distribution (Carkeet 2015,
    doi:10.1097/OPX.0000000000000513). The interval is of one limit at a time.
MOVER
    Limits of the bias and of `sd`^2 (chi-square for each part, joined as roots of sums of squares) are joined
    likewise (Zou 2013, doi:10.1177/0962280211402548). Asymmetric, any number of parts. The bias of independent
    pairs enters by t, which is exact there; that of several parts by the normal quantile, as in Zou's examples.
approximate
    Bland & Altman 1999, doi:10.1177/096228029900800204, section 4: var(bias) + z^2 var(sd), with t. Symmetric;
    too narrow on the outside of small samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from analysis.estimates import Interval

Floats = NDArray[np.float64]

_LEAST_PAIRS: Final = 3
"""With 2 pairs the outer end of an exact interval lies some 160 standard deviations away: no information."""


class MeanSquare(NamedTuple):
    """A part of the variance: its weighted mean square and the degrees of freedom of it, both shape (...)."""

    part: Floats
    freedom: Floats


@dataclass(frozen=True, slots=True, eq=False)
class LimitIntervals:
    """Intervals of the lower and of the upper limit of agreement."""

    lower: Interval
    upper: Interval


def exact_factors(n: Floats, coverage: float, level: float) -> tuple[Floats, Floats]:
    """Return how many standard deviations from the bias the interval of a limit begins and ends, shape of `n`.

    The exact factors of Carkeet 2015: t'(p, n - 1, z sqrt n) / sqrt n with p at both tails of `level`. NaN
    below 3 pairs.
    """
    z = float(special.ndtri(0.5 + 0.5 * coverage))
    tails = np.array([0.5 - 0.5 * level, 0.5 + 0.5 * level])
    sizes, where = np.unique(n, return_inverse=True)
    ends = np.full((2, sizes.size), np.nan)
    usable = sizes >= _LEAST_PAIRS
    root = np.sqrt(sizes[usable])
    ends[:, usable] = stats.nct.ppf(tails[:, None], sizes[usable] - 1, z * root) / root
    inner, outer = ends[:, where.reshape(np.shape(n))]
    return inner, outer


def exact_intervals(bias: Floats, sd: Floats, n: Floats, coverage: float, level: float) -> LimitIntervals:
    """Return exact intervals of the limits of `n` independent pairs."""
    inner, outer = exact_factors(n, coverage, level)
    return LimitIntervals(
        Interval(bias - outer * sd, bias - inner * sd), Interval(bias + inner * sd, bias + outer * sd)
    )


def variance_interval(parts: Sequence[MeanSquare], level: float) -> Interval:
    """Return the interval of a sum of mean squares, by MOVER; exact where there is but one."""
    total = np.sum([p.part for p in parts], axis=0)
    below, above = np.zeros_like(total), np.zeros_like(total)
    for part, freedom in parts:
        some = np.where(freedom > 0, freedom, np.nan)
        less = part * (1.0 - some / special.chdtri(some, 0.5 - 0.5 * level))
        more = part * (some / special.chdtri(some, 0.5 + 0.5 * level) - 1.0)
        # a part of weight 0 has no degrees of freedom and adds nothing
        below, above = (
            below + np.where(part == 0, 0.0, less**2),
            above + np.where(part == 0, 0.0, more**2),
        )
    return Interval(np.maximum(total - np.sqrt(below), 0.0), total + np.sqrt(above))


def mover_intervals(
    bias: Floats,
    bias_variance: Floats,
    sd: Floats,
    parts: Sequence[MeanSquare],
    coverage: float,
    level: float,
) -> LimitIntervals:
    """Return intervals of the limits by MOVER."""
    z = float(special.ndtri(0.5 + 0.5 * coverage))
    low, high = variance_interval(parts, level)
    quantile = special.ndtri(0.5 + 0.5 * level)
    if len(parts) == 1:
        freedom = parts[0].freedom
        quantile = special.stdtrit(np.where(freedom > 0, freedom, np.nan), 0.5 + 0.5 * level)
    of_bias = quantile**2 * bias_variance
    # a component between subjects below 0 counts as 0 in `sd`, so the interval may not end before it
    inner = np.sqrt(of_bias + z**2 * (sd - np.minimum(np.sqrt(low), sd)) ** 2)
    outer = np.sqrt(of_bias + z**2 * (np.maximum(np.sqrt(high), sd) - sd) ** 2)
    lower, upper = bias - z * sd, bias + z * sd
    return LimitIntervals(Interval(lower - outer, lower + inner), Interval(upper - inner, upper + outer))


def approximate_intervals(
    bias: Floats,
    bias_variance: Floats,
    sd: Floats,
    parts: Sequence[MeanSquare],
    freedom: Floats,
    coverage: float,
    level: float,
) -> LimitIntervals:
    """Return symmetric intervals of the limits, with the t quantile of `freedom`."""
    z = float(special.ndtri(0.5 + 0.5 * coverage))
    spread = np.zeros_like(sd)
    for part, of_part in parts:
        some = np.where(of_part > 0, of_part, np.nan)
        spread = spread + np.where(part == 0, 0.0, 2.0 * part**2 / some)
    with np.errstate(invalid="ignore", divide="ignore"):
        sd_variance = np.where(sd > 0, spread / (4.0 * sd**2), 0.0)
    t = special.stdtrit(np.where(freedom > 0, freedom, np.nan), 0.5 + 0.5 * level)
    reach = t * np.sqrt(bias_variance + z**2 * sd_variance)
    lower, upper = bias - z * sd, bias + z * sd
    return LimitIntervals(Interval(lower - reach, lower + reach), Interval(upper - reach, upper + reach))
