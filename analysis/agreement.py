"""How far a method of measurement is from its reference: bias and limits of agreement, with their intervals.

Differences are test minus reference. Pairs of one subject resemble one another, so the subject is an argument
wherever it changes the answer, and the design says what the pairs of one subject have in common:

independent
    One pair of each subject. Bland & Altman 1986, doi:10.1016/S0140-6736(86)90837-8, with 1.96 for their 2.
repeated_constant
    Several readings of each subject by either method while the true value stands still, so that no reading of
    one method belongs to a certain reading of the other (unlinked replicates; their numbers may differ). Bland
    & Altman 2007, doi:10.1080/10543400701329422, section 2: the variance of the subjects' mean differences,
    plus what averaging took from it, (1 - mean 1/m) s_w^2 for each method.
repeated_varying
    Several pairs of each subject while the true value varies; a pair belongs together (linked). Bland & Altman
    2007, section 3: components by one-way analysis of variance of the differences; one between subjects below
    0 counts as 0, and the result says so.

The other statistics of agreement have modules of their own; those that a study asks for by name are found
here too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.agreement_designs import Components, constant_truth, independent, varying_truth
from analysis.agreement_remarks import conventions, remarks
from analysis.arrays import as_signal
from analysis.bootstrap import percentile_interval, resampled_sums, subject_numbers
from analysis.concordance import lin_ccc, within_subject_correlation
from analysis.estimates import Estimate, Figure, Interval, as_count, as_figure, as_share
from analysis.limit_intervals import (
    LimitIntervals,
    approximate_intervals,
    exact_intervals,
    mover_intervals,
    variance_interval,
)
from analysis.reliability import icc, repeatability
from protocols.errors import SignalError

__all__ = [
    "DESIGNS",
    "SCALES",
    "BlandAltman",
    "Estimate",
    "Interval",
    "LimitIntervals",
    "bland_altman",
    "icc",
    "lin_ccc",
    "percentile_interval",
    "repeatability",
    "resampled_sums",
    "within_subject_correlation",
]

DESIGNS: Final = ("independent", "repeated_constant", "repeated_varying")
SCALES: Final = ("difference", "log", "ratio", "percent")
WEIGHTINGS: Final = ("pairs", "subjects")

Floats = NDArray[np.float64]

_ROUNDING: Final = 8 * np.finfo(np.float64).eps
"""Differences that vary by less than this share of the values are equal: the rest is rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class BlandAltman:
    """Bias and limits of agreement, in the unit of the pairs or of the scale; NaN where there are too few.

    Floats and ints for one set of pairs, arrays of shape (...) for several.

    Parameters
    ----------
    bias
        Mean difference (on the ratio scale: geometric mean ratio).
    sd
        Standard deviation of a single difference, between and within subjects together (on the ratio scale: of
        its natural logarithm).
    lower, upper
        Limits of agreement, `bias` -+ z `sd`.
    between_variance, within_variance
        Components of the variance; NaN for independent pairs.
    n_pairs, n_subjects
        Size of the sample: pairs with both values present, and subjects that count.
    n_excluded
        Pairs left out because a value is missing. With `repeated_constant` a value without a partner still
        counts for its own method, but not as a pair.
    n_duplicates
        Pairs equal to an earlier pair of the same subject in both values; they are used, but a study that
        wrote rows twice shows here.
    bias_interval, sd_interval
        By t and by chi-square (more than one mean square: MOVER).
    exact, mover, approximate
        Intervals of the limits, see `analysis.limit_intervals`; `exact` is NaN for repeated designs.
    design, scale, weighting, coverage, level
        As asked for, or found.
    conventions
        What the field does in more than one way, and which was chosen.
    remarks
        What a reader must know of these data: exclusions, truncation, why figures are NaN.
    """

    bias: Figure
    sd: Figure
    lower: Figure
    upper: Figure
    between_variance: Figure
    within_variance: Figure
    n_pairs: Figure
    n_subjects: Figure
    n_excluded: Figure
    n_duplicates: Figure
    bias_interval: Interval
    sd_interval: Interval
    exact: LimitIntervals
    mover: LimitIntervals
    approximate: LimitIntervals
    design: str
    scale: str
    weighting: str
    coverage: float
    level: float
    conventions: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def lower_interval(self) -> Interval:
        """Interval of the lower limit: exact for independent pairs, MOVER otherwise."""
        return (self.exact if self.design == "independent" else self.mover).lower

    @property
    def upper_interval(self) -> Interval:
        """Interval of the upper limit: exact for independent pairs, MOVER otherwise."""
        return (self.exact if self.design == "independent" else self.mover).upper


def bland_altman(
    test: ArrayLike,
    reference: ArrayLike,
    *,
    subject: ArrayLike | None = None,
    design: str | None = None,
    coverage: float = 0.95,
    level: float = 0.95,
    scale: str = "difference",
    weighting: str = "pairs",
) -> BlandAltman:
    """Return bias and limits of agreement, with intervals.

    Parameters
    ----------
    test, reference
        Paired values, shape (..., n_pairs); NaN where missing. A pair with a NaN is left out and counted.
    subject
        Whose pair it is, shape (n_pairs,); needed for repeated designs.
    design
        One of `DESIGNS`, as the module explains. None: `repeated_varying`, which supposes least, where a
        subject has several pairs, else `independent`.
    coverage
        Share of the differences that the limits are to hold.
    level
        Confidence level of the intervals.
    scale
        `difference`; `log`, differences of natural logarithms; `ratio`, the same turned back into ratios of
        test to reference; `percent`, differences in percent of the pair's mean.
    weighting
        Of `repeated_varying`: `pairs`, every pair counts once in the bias (Bland & Altman 2007); `subjects`,
        every subject counts once and the variance is that of the subjects' means plus (1 - mean 1/m) s_w^2
        (Zou 2013). They differ where subjects have unequal numbers of pairs.

    Returns
    -------
    NaN figures, with the reason in `remarks`, where the pairs are too few: below 2 pairs, or with a repeated
    design below 2 subjects or without a subject that has two pairs. Where all differences are equal, `sd` is 0
    and the intervals are NaN, as nothing is known of the spread.

    Raises
    ------
    SignalError
        If shapes differ, values are infinite, a value is not positive on a scale that needs it, an option is
        unknown, a repeated design lacks its subjects, or `independent` is asked for a subject with several
        pairs.

    Notes
    -----
    The limits use the normal quantile, as published, not t. With `repeated_constant` the variance is not
    truncated: where the component between subjects is below 0, it is reported as 0 and `sd` is as the paper's
    formula gives it.
    """
    x, y = _pairs(test, reference)
    as_share(coverage, name="coverage")
    as_share(level, name="level")
    for value, name, known in ((scale, "scale", SCALES), (weighting, "weighting", WEIGHTINGS)):
        if value not in known:
            raise SignalError(f"{name}={value!r}, expected one of {', '.join(known)}")
    numbers = None if subject is None else subject_numbers(subject, x.shape[-1])
    design = _design(design, x, y, numbers, scale)
    n_duplicates = _duplicates(x, y, numbers)
    u, v = _on_scale(x, y, scale)
    present = np.isfinite(u) & np.isfinite(v)
    largest = np.where(present, np.maximum(np.abs(u), np.abs(v)), 0.0).max(axis=-1, initial=0.0)
    if design == "independent":
        found = independent(u - v)
    elif design == "repeated_constant":
        found = constant_truth(u, v, _known(numbers))
    else:
        found = varying_truth(u - v, _known(numbers), weighting)
    return _result(
        found,
        largest,
        n_excluded=(~present).sum(axis=-1),
        n_duplicates=n_duplicates,
        design=design,
        scale=scale,
        weighting=weighting,
        coverage=coverage,
        level=level,
    )


def _pairs(test: ArrayLike, reference: ArrayLike) -> tuple[Floats, Floats]:
    x = np.asarray(as_signal(test, name="test"), dtype=np.float64)
    y = np.asarray(as_signal(reference, name="reference"), dtype=np.float64)
    if x.shape != y.shape:
        if x.ndim == y.ndim == 1:
            raise SignalError(f"{x.size} test values for {y.size} of the reference, expected pairs")
        raise SignalError(f"test of shape {x.shape}, reference {y.shape}, expected pairs")
    return x, y


def _design(design: str | None, x: Floats, y: Floats, numbers: NDArray[np.intp] | None, scale: str) -> str:
    """Return the design, once it is known to fit the pairs."""
    if design is not None and design not in DESIGNS:
        raise SignalError(f"design={design!r}, expected one of {', '.join(DESIGNS)}")
    if design in DESIGNS[1:] and numbers is None:
        raise SignalError(f"subject=None with design={design!r}, expected the subject of every pair")
    if design == "repeated_constant" and scale == "percent":
        raise SignalError(
            "scale='percent' with design='repeated_constant', expected a scale of single readings"
        )
    if numbers is None or design in DESIGNS[1:]:
        return design or "independent"
    used = (np.isfinite(x) & np.isfinite(y)).reshape(math.prod(x.shape[:-1]), x.shape[-1])
    most = max((int(np.bincount(numbers[row]).max(initial=0)) for row in used), default=0)
    if design == "independent" and most > 1:
        raise SignalError(
            f"design='independent' with {most} pairs of one subject, expected one of each, "
            "or a repeated design, or no subject"
        )
    return design or ("repeated_varying" if most > 1 else "independent")


def _known(numbers: NDArray[np.intp] | None) -> NDArray[np.intp]:
    assert numbers is not None  # _design has asked for them
    return numbers


def _on_scale(x: Floats, y: Floats, scale: str) -> tuple[Floats, Floats]:
    """Return two arrays whose difference is the difference on the scale."""
    if scale == "difference":
        return x, y
    if scale == "percent":
        middle = (x + y) / 2.0
        _ask_positive(middle, "mean of test and reference", scale)
        return 100.0 * x / middle, 100.0 * y / middle
    _ask_positive(x, "test", scale)
    _ask_positive(y, "reference", scale)
    return np.log(x), np.log(y)


def _ask_positive(values: Floats, name: str, scale: str) -> None:
    if (values <= 0).any():
        raise SignalError(
            f"{int((values <= 0).sum())} values of {name} not above 0 with scale={scale!r}, "
            "expected all positive"
        )


def _duplicates(x: Floats, y: Floats, numbers: NDArray[np.intp] | None) -> NDArray[np.intp]:
    """Return how many pairs repeat an earlier one of the same subject; without subjects none is known to."""
    counts = np.zeros(x.shape[:-1], dtype=np.intp)
    if numbers is None or x.shape[-1] < 2:
        return counts
    subject = np.broadcast_to(numbers, x.shape)
    order = np.lexsort((y, x, subject), axis=-1)
    a, b, s = (np.take_along_axis(values, order, axis=-1) for values in (x, y, subject))
    same = (np.diff(a, axis=-1) == 0) & (np.diff(b, axis=-1) == 0) & (np.diff(s, axis=-1) == 0)
    return np.asarray(same.sum(axis=-1))


def _result(
    found: Components,
    largest: Floats,
    *,
    n_excluded: NDArray[np.intp],
    n_duplicates: NDArray[np.intp],
    design: str,
    scale: str,
    weighting: str,
    coverage: float,
    level: float,
) -> BlandAltman:
    known = np.isfinite(found.variance)
    equal = known & (found.spread <= _ROUNDING * largest)
    sd = np.where(equal, 0.0, np.sqrt(found.variance))
    z = float(special.ndtri(0.5 + 0.5 * coverage))
    lower, upper = found.bias - z * sd, found.bias + z * sd
    # no interval comes of differences that are all equal
    spread = np.where(equal, np.nan, sd)
    bias_variance = np.where(equal, np.nan, found.bias_variance)
    t = special.stdtrit(np.where(found.freedom > 0, found.freedom, np.nan), 0.5 + 0.5 * level)
    reach = t * np.sqrt(np.where(known, bias_variance, np.nan))
    low, high = variance_interval(found.parts, level)
    sds = Interval(
        np.where(np.isfinite(spread), np.minimum(np.sqrt(low), sd), np.nan),
        np.where(np.isfinite(spread), np.maximum(np.sqrt(high), sd), np.nan),
    )
    mover = mover_intervals(found.bias, bias_variance, spread, found.parts, coverage, level)
    approximate = approximate_intervals(
        found.bias, bias_variance, spread, found.parts, found.freedom, coverage, level
    )
    nothing = Interval(np.full_like(sd, np.nan), np.full_like(sd, np.nan))
    exact = LimitIntervals(nothing, nothing)
    if design == "independent":
        exact = exact_intervals(found.bias, spread, found.n_pairs, coverage, level)
    back = np.exp if scale == "ratio" else np.asarray
    truncated = (found.between < 0) & known

    def turned(values: Floats) -> Figure:
        return as_figure(back(values))

    def both(intervals: LimitIntervals) -> LimitIntervals:
        return LimitIntervals(Interval(*map(turned, intervals.lower)), Interval(*map(turned, intervals.upper)))

    return BlandAltman(
        bias=turned(found.bias),
        sd=as_figure(sd),
        lower=turned(lower),
        upper=turned(upper),
        between_variance=as_figure(np.where(known, np.maximum(found.between, 0.0), np.nan)),
        within_variance=as_figure(np.where(known, found.within, np.nan)),
        n_pairs=as_count(found.n_pairs),
        n_subjects=as_count(found.n_subjects),
        n_excluded=as_count(n_excluded),
        n_duplicates=as_count(n_duplicates),
        bias_interval=Interval(turned(found.bias - reach), turned(found.bias + reach)),
        sd_interval=Interval(as_figure(sds.low), as_figure(sds.high)),
        exact=both(exact),
        mover=both(mover),
        approximate=both(approximate),
        design=design,
        scale=scale,
        weighting=weighting,
        coverage=coverage,
        level=level,
        conventions=conventions(design, scale, weighting, coverage),
        remarks=remarks(found, n_excluded, n_duplicates, equal, truncated, design, weighting),
    )
