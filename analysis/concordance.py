"""One figure for how well two methods go together: Lin's concordance, and the correlation within subjects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.arrays import as_signal
from analysis.bootstrap import subject_numbers
from analysis.estimates import Figure, Interval, as_count, as_figure, as_share
from analysis.variance_components import recentred, sums_by_subject
from protocols.errors import SignalError

Floats = NDArray[np.float64]

DIVISORS: Final = ("n-1", "n")


@dataclass(frozen=True, slots=True, eq=False)
class Concordance:
    """Lin's concordance correlation coefficient; floats, or arrays of shape (...) for several sets of pairs.

    Parameters
    ----------
    value
        2 s_xy / (s_x^2 + s_y^2 + (mean x - mean y)^2).
    low, high, level
        Its interval by Fisher's z, also as `interval`; NaN below 4 pairs, without correlation, and where the
        pairs are on one line (then the z has no spread).
    correlation
        Pearson's r, the precision.
    bias_correction
        C_b = value / r, the accuracy; `scale_shift` s_x / s_y and `location_shift` (mean x - mean y) /
        sqrt(s_x s_y) are what it is made of. All NaN where x or y does not vary.
    n_pairs, n_excluded
        Pairs used, and pairs left out because a value is missing.
    divisor
        Of variances and covariance.
    """

    value: Figure
    low: Figure
    high: Figure
    level: float
    correlation: Figure
    bias_correction: Figure
    scale_shift: Figure
    location_shift: Figure
    n_pairs: Figure
    n_excluded: Figure
    divisor: str

    @property
    def interval(self) -> Interval:
        """Interval of the coefficient."""
        return Interval(self.low, self.high)


def lin_ccc(x: ArrayLike, y: ArrayLike, *, divisor: str = "n-1", level: float = 0.95) -> Concordance:
    """Return Lin's concordance correlation coefficient.

    Parameters
    ----------
    x, y
        Paired values, shape (..., n_pairs); a pair with a NaN is left out and counted.
    divisor
        `n-1`, or `n` as Lin 1989 has it. They differ by the order of 1/n, and only where the means differ.
    level
        Confidence level of the interval.

    Returns
    -------
    NaN below 2 pairs, or where neither x nor y varies.

    Raises
    ------
    SignalError
        If shapes differ, values are infinite, or an option is unknown.

    References
    ----------
    Lin 1989, doi:10.2307/2532051; the variance as corrected in Lin 2000, doi:10.1111/j.0006-341X.2000.00324.x.
    """
    if divisor not in DIVISORS:
        raise SignalError(f"divisor={divisor!r}, expected one of {', '.join(DIVISORS)}")
    as_share(level, name="level")
    a, b, present = _paired(x, y)
    n = present.sum(axis=-1).astype(np.float64)
    over = np.where(n > 1, n - 1 if divisor == "n-1" else n, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_a, a = _centred(a, present, n)
        mean_b, b = _centred(b, present, n)
        var_a, var_b = (a**2).sum(axis=-1) / over, (b**2).sum(axis=-1) / over
        covariance = (a * b).sum(axis=-1) / over
        apart = mean_a - mean_b
        value = 2.0 * covariance / np.where(var_a + var_b > 0, var_a + var_b + apart**2, np.nan)
        sd_a, sd_b = np.sqrt(var_a), np.sqrt(var_b)  # the product of the variances may vanish
        both_vary = np.where((sd_a > 0) & (sd_b > 0), 1.0, np.nan)
        r = both_vary * np.clip(covariance / sd_a / sd_b, -1.0, 1.0)
        shift = both_vary * apart / np.sqrt(sd_a) / np.sqrt(sd_b)
        low, high = _lin_interval(value, r, shift, n, level)
        return Concordance(
            value=as_figure(value),
            low=as_figure(low),
            high=as_figure(high),
            level=level,
            correlation=as_figure(r),
            bias_correction=as_figure(value / r),
            scale_shift=as_figure(both_vary * sd_a / sd_b),
            location_shift=as_figure(shift),
            n_pairs=as_count(n),
            n_excluded=as_count((~present).sum(axis=-1)),
            divisor=divisor,
        )


@dataclass(frozen=True, slots=True, eq=False)
class WithinSubjectCorrelation:
    """Correlation of changes within subjects; floats, or arrays of shape (...) for several sets of pairs.

    Parameters
    ----------
    value
        Correlation, with the sign of the common slope.
    low, high, level
        Its interval by Fisher's z with standard error 1 / sqrt(freedom - 1).
    p
        Two-sided, of no correlation.
    freedom
        Degrees of freedom, n_pairs - n_subjects - 1.
    slope
        Common slope of y on x.
    n_pairs, n_subjects, n_excluded
        Size of the sample, and pairs left out because a value is missing.
    """

    value: Figure
    low: Figure
    high: Figure
    level: float
    p: Figure
    freedom: Figure
    slope: Figure
    n_pairs: Figure
    n_subjects: Figure
    n_excluded: Figure


def within_subject_correlation(
    x: ArrayLike, y: ArrayLike, subject: ArrayLike, *, level: float = 0.95
) -> WithinSubjectCorrelation:
    """Return the repeated-measures correlation, of how x and y change together within subjects.

    Parameters
    ----------
    x, y
        Paired values, shape (..., n_pairs); a pair with a NaN is left out and counted.
    subject
        Whose pair it is, shape (n_pairs,).
    level
        Confidence level of the interval.

    Returns
    -------
    NaN without a degree of freedom, or where x or y does not vary within subjects.

    Raises
    ------
    SignalError
        If shapes differ or values are infinite.

    References
    ----------
    Bland & Altman 1995, doi:10.1136/bmj.310.6977.446; Bakdash & Marusich 2017, doi:10.3389/fpsyg.2017.00456:
    an analysis of covariance with parallel lines, one of each subject. (R's rmcorr has freedom - 3 for
    freedom - 1 in the interval, which is then a little wider.)
    """
    as_share(level, name="level")
    a, b, present = _paired(x, y)
    numbers = subject_numbers(subject, a.shape[-1])
    counts = sums_by_subject(present.astype(np.float64), numbers)
    n = counts.sum(axis=-1)
    n_subjects = (counts > 0).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (_about_subject(values, present, numbers, counts) for values in (a, b))
        over_x, over_y, over_xy = (a**2).sum(axis=-1), (b**2).sum(axis=-1), (a * b).sum(axis=-1)
        freedom = np.where(n - n_subjects - 1 > 0, n - n_subjects - 1, np.nan)
        # roots apart: the product of two small sums vanishes
        r = np.clip(over_xy / np.sqrt(over_x) / np.sqrt(over_y), -1.0, 1.0)
        r = np.where(np.isfinite(freedom), r, np.nan)
        t = np.abs(r) * np.sqrt(freedom / (1.0 - r**2))
        reach = special.ndtri(0.5 + 0.5 * level) / np.sqrt(np.where(freedom > 1, freedom - 1, np.nan))
        return WithinSubjectCorrelation(
            value=as_figure(r),
            low=as_figure(np.tanh(np.arctanh(r) - reach)),
            high=as_figure(np.tanh(np.arctanh(r) + reach)),
            level=level,
            p=as_figure(2.0 * special.stdtr(freedom, -t)),
            freedom=as_figure(freedom),
            slope=as_figure(np.where(np.isfinite(r), over_xy / over_x, np.nan)),
            n_pairs=as_count(n),
            n_subjects=as_count(n_subjects),
            n_excluded=as_count((~present).sum(axis=-1)),
        )


def _paired(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    a = np.asarray(as_signal(x, name="x"), dtype=np.float64)
    b = np.asarray(as_signal(y, name="y"), dtype=np.float64)
    if a.shape != b.shape:
        raise SignalError(f"x of shape {a.shape}, y {b.shape}, expected pairs")
    present = np.isfinite(a) & np.isfinite(b)
    return np.where(present, a, 0.0), np.where(present, b, 0.0), present


def _centred(values: Floats, present: NDArray[np.bool_], n: Floats) -> tuple[Floats, Floats]:
    """Return the mean and the values about it, 0 where missing and where all are equal but for rounding."""
    mean = values.sum(axis=-1) / n
    mean, centred = recentred(mean, np.where(present, values - mean[..., None], 0.0), present, n)
    return mean, _without_rounding(centred, values)


def _about_subject(
    values: Floats, present: NDArray[np.bool_], numbers: NDArray[np.intp], counts: Floats
) -> Floats:
    means = sums_by_subject(values, numbers) / counts
    return _without_rounding(np.where(present, values - means[..., numbers], 0.0), values)


def _without_rounding(centred: Floats, values: Floats) -> Floats:
    largest = np.abs(values).max(axis=-1, initial=0.0, keepdims=True)
    varies = np.abs(centred).max(axis=-1, initial=0.0, keepdims=True) > 8 * np.finfo(np.float64).eps * largest
    return np.where(varies, centred, 0.0)


def _lin_interval(value: Floats, r: Floats, shift: Floats, n: Floats, level: float) -> tuple[Floats, Floats]:
    of_z = (
        (1 - r**2) * value**2 / ((1 - value**2) * r**2)
        + 2 * value**3 * (1 - value) * shift**2 / (r * (1 - value**2) ** 2)
        - value**4 * shift**4 / (2 * r**2 * (1 - value**2) ** 2)
    ) / np.where(n > 3, n - 2, np.nan)
    on_line = 1 - r**2 < 8 * np.finfo(np.float64).eps
    reach = special.ndtri(0.5 + 0.5 * level) * np.sqrt(np.where(on_line | (of_z < 0), np.nan, of_z))
    z = np.arctanh(value)
    return np.tanh(z - reach), np.tanh(z + reach)
