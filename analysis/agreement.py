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

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.arrays import as_signal
from analysis.bootstrap import percentile_interval, resampled_sums, subject_numbers
from analysis.concordance import lin_ccc, within_subject_correlation
from analysis.estimates import Estimate, Figure, Interval, as_count, as_figure, as_share
from analysis.limit_intervals import (
    LimitIntervals,
    MeanSquare,
    approximate_intervals,
    exact_intervals,
    mover_intervals,
    variance_interval,
)
from analysis.reliability import icc, repeatability
from analysis.variance_components import OneWay, one_way, sums_by_subject
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
        found = _independent(u - v)
    elif design == "repeated_constant":
        found = _constant_truth(u, v, _known(numbers))
    else:
        found = _varying_truth(u - v, _known(numbers), weighting)
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


class _Components(NamedTuple):
    """What the intervals need to know of a design; all of shape (...)."""

    bias: Floats
    bias_variance: Floats
    freedom: Floats
    variance: Floats
    parts: tuple[MeanSquare, ...]
    between: Floats
    within: Floats
    n_pairs: Floats
    n_subjects: Floats
    spread: Floats  # largest distance of a difference from the bias


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
    used = (np.isfinite(x) & np.isfinite(y)).reshape(-1, x.shape[-1])
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


def _spread(differences: Floats, bias: Floats) -> Floats:
    away = np.where(np.isfinite(differences), np.abs(differences - bias[..., None]), 0.0)
    return np.asarray(away.max(axis=-1, initial=0.0))


def _independent(d: Floats) -> _Components:
    every = one_way(d, np.arange(d.shape[-1]))
    n = every.n_values
    variance = every.variance_of_means
    none = np.full_like(n, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        bias_variance = variance / n
    return _Components(
        every.mean,
        bias_variance,
        n - 1,
        variance,
        (MeanSquare(variance, n - 1),),
        none,
        none,
        n,
        n,
        _spread(d, every.mean),
    )


def _constant_truth(x: Floats, y: Floats, numbers: NDArray[np.intp]) -> _Components:
    """Return the components of unlinked replicates; only subjects with readings of both methods count."""
    both = _read_by(x, numbers) & _read_by(y, numbers)
    x, y = np.where(both, x, np.nan), np.where(both, y, np.nan)
    of_x, of_y = one_way(x, numbers), one_way(y, numbers)
    d = _subject_means(x, numbers) - _subject_means(y, numbers)
    means = one_way(d, np.arange(d.shape[-1]))
    k = means.n_values
    parts = [MeanSquare(means.variance_of_means, k - 1)]
    within, between = np.zeros_like(k), means.variance_of_means
    for method in (of_x, of_y):
        # without a replicate there is nothing to give back: its weight is 0
        square = np.where(method.n_values > method.n_subjects, method.within, 0.0)
        parts.append(MeanSquare((1.0 - method.mean_inverse_size) * square, method.n_values - k))
        within, between = within + square, between - method.mean_inverse_size * square
    replicated = (of_x.n_values > k) | (of_y.n_values > k)
    variance = np.where(replicated, np.sum([p.part for p in parts], axis=0), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        bias_variance = means.variance_of_means / k
    spread = _spread(d, means.mean)
    for values in (x, y):
        away = np.where(
            np.isfinite(values), np.abs(values - _subject_means(values, numbers)[..., numbers]), 0.0
        )
        spread = np.maximum(spread, away.max(axis=-1, initial=0.0))
    return _Components(
        means.mean,
        bias_variance,
        k - 1,
        variance,
        tuple(parts),
        between,
        within,
        (np.isfinite(x) & np.isfinite(y)).sum(axis=-1).astype(np.float64),
        k,
        spread,
    )


def _varying_truth(d: Floats, numbers: NDArray[np.intp], weighting: str) -> _Components:
    """Return the components of linked pairs, by one-way analysis of variance of the differences."""
    found = one_way(d, numbers)
    if weighting == "subjects":
        return _by_subject_means(found, _spread(d, found.mean))
    rest = 1.0 - 1.0 / found.size
    between = np.maximum(found.between_component, 0.0)
    return _Components(
        found.mean,
        between * found.sum_squared_sizes / found.n_values**2 + found.within / found.n_values,
        found.n_subjects - 1,
        between + found.within,
        (
            MeanSquare(found.between / found.size, found.n_subjects - 1),
            MeanSquare(rest * found.within, found.n_values - found.n_subjects),
        ),
        found.between_component,
        found.within,
        found.n_values,
        found.n_subjects,
        _spread(d, found.mean),
    )


def _by_subject_means(found: OneWay, spread: Floats) -> _Components:
    rest = (1.0 - found.mean_inverse_size) * found.within
    return _Components(
        found.mean_of_means,
        found.variance_of_means / found.n_subjects,
        found.n_subjects - 1,
        found.variance_of_means + rest,
        (
            MeanSquare(found.variance_of_means, found.n_subjects - 1),
            MeanSquare(rest, found.n_values - found.n_subjects),
        ),
        found.variance_of_means - found.mean_inverse_size * found.within,
        found.within,
        found.n_values,
        found.n_subjects,
        spread,
    )


def _read_by(values: Floats, numbers: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return at each reading whether its subject has a reading that is present, shape of `values`."""
    means = _subject_means(values, numbers)
    return np.asarray(np.isfinite(means)[..., numbers])


def _subject_means(values: Floats, numbers: NDArray[np.intp]) -> Floats:
    present = np.isfinite(values)
    counts = sums_by_subject(present.astype(np.float64), numbers)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Floats = sums_by_subject(np.where(present, values, 0.0), numbers) / counts
    return means


def _result(
    found: _Components,
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
        conventions=_conventions(design, scale, weighting, coverage),
        remarks=_remarks(found, n_excluded, n_duplicates, equal, truncated, design, weighting),
    )


def _conventions(design: str, scale: str, weighting: str, coverage: float) -> tuple[str, ...]:
    z = special.ndtri(0.5 + 0.5 * coverage)
    told = [
        "differences are test - reference",
        f"limits are bias -+ {z:.4g} sd, by the normal quantile; divisors of variances are n - 1",
    ]
    if design == "repeated_constant":
        told.append("unlinked replicates, subjects' means count once each; divisors m are harmonic means")
    elif design == "repeated_varying" and weighting == "pairs":
        told.append("linked pairs, each counts once in the bias; components by analysis of variance")
    elif design == "repeated_varying":
        told.append("linked pairs, each subject counts once in the bias; harmonic mean of pairs (Zou 2013)")
    if scale != "difference":
        told.append(
            {
                "log": "natural logarithms of test and reference",
                "ratio": "test / reference; bias is the geometric mean ratio; sd in natural logarithms",
                "percent": "in percent of the mean of test and reference",
            }[scale]
        )
    return tuple(told)


def _remarks(
    found: _Components,
    n_excluded: NDArray[np.intp],
    n_duplicates: NDArray[np.intp],
    equal: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    design: str,
    weighting: str,
) -> tuple[str, ...]:
    many = f" in {{}} of {equal.size} samples" if equal.ndim else ""

    def where(these: Any) -> str:
        return many.format(int(np.count_nonzero(these)))

    told = []
    if np.any(n_excluded):
        told.append(f"{int(np.sum(n_excluded))} pairs left out: a value is missing")
    if np.any(n_duplicates):
        told.append(f"{int(np.sum(n_duplicates))} pairs repeat an earlier pair of the same subject")
    few = ~np.isfinite(found.variance)
    if design == "independent":
        if few.any():
            told.append(f"no limits: fewer than 2 pairs{where(few)}")
    else:
        alone = few & (found.n_subjects >= 2)
        if (few & ~alone).any():
            told.append(f"no limits: fewer than 2 subjects{where(few & ~alone)}")
        if alone.any():
            told.append(
                f"no limits: every subject has a single pair; as independent pairs they have{where(alone)}"
            )
    if equal.any():
        told.append(f"no intervals: all differences are equal{where(equal)}")
    if truncated.any():
        part = "variance between subjects came out below 0 and counts as 0"
        as_is = (
            "" if design == "repeated_varying" and weighting == "pairs" else "; sd is as the formula gives it"
        )
        told.append(f"{part}{where(truncated)}{as_is}")
    return tuple(told)
