"""How far readings of the same thing repeat themselves: intraclass correlations, repeatability."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.arrays import as_signal
from analysis.bootstrap import subject_numbers
from analysis.estimates import Figure, Interval, as_count, as_figure, as_share
from analysis.variance_components import one_way
from protocols.errors import SignalError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class IntraclassCorrelation:
    """One form of the coefficient; floats, or arrays of shape (...) for several tables.

    Parameters
    ----------
    name
        Shrout & Fleiss's, such as ICC(2,1).
    value
        Negative where raters differ more within a target than targets do.
    low, high, level
        Its interval by F; also as `interval`.
    f, freedom, p
        Test of no correlation: F, its two degrees of freedom, and the share beyond it.
    """

    name: str
    value: Figure
    low: Figure
    high: Figure
    level: float
    f: Figure
    freedom: tuple[Figure, Figure]
    p: Figure

    @property
    def interval(self) -> Interval:
        """Interval of the coefficient."""
        return Interval(self.low, self.high)


@dataclass(frozen=True, slots=True, eq=False)
class IntraclassCorrelations:
    """The six forms of Shrout & Fleiss 1979, in their order when iterated.

    Parameters
    ----------
    icc_1_1, icc_1_k
        Each target is rated by other raters (one-way): a single rating, the mean of all k.
    icc_2_1, icc_2_k
        The raters are a sample of all raters; they must agree (absolute agreement).
    icc_3_1, icc_3_k
        These raters and no others; they need only be consistent.
    n_targets, n_raters, n_excluded
        Targets used, raters, and targets left out because a rating is missing.
    remarks
        Why figures are NaN.
    """

    icc_1_1: IntraclassCorrelation
    icc_2_1: IntraclassCorrelation
    icc_3_1: IntraclassCorrelation
    icc_1_k: IntraclassCorrelation
    icc_2_k: IntraclassCorrelation
    icc_3_k: IntraclassCorrelation
    n_targets: Figure
    n_raters: int
    n_excluded: Figure
    remarks: tuple[str, ...]

    def __iter__(self) -> Iterator[IntraclassCorrelation]:
        return iter((self.icc_1_1, self.icc_2_1, self.icc_3_1, self.icc_1_k, self.icc_2_k, self.icc_3_k))

    def __getitem__(self, name: str) -> IntraclassCorrelation:
        """Return the form of Shrout & Fleiss's name, such as ICC(2,1)."""
        for form in self:
            if form.name == name:
                return form
        raise SignalError(f"{name!r}, expected one of {', '.join(form.name for form in self)}")


def icc(ratings: ArrayLike, *, level: float = 0.95) -> IntraclassCorrelations:
    """Return the six intraclass correlation coefficients.

    Parameters
    ----------
    ratings
        Shape (..., n_targets, n_raters); NaN where missing. A target with a missing rating is left out and
        counted: the F intervals hold for complete tables only.
    level
        Confidence level of the intervals.

    Returns
    -------
    NaN below 2 complete targets, and where all ratings are equal.

    Raises
    ------
    SignalError
        If the table has fewer than 2 axes or 2 raters, or holds infinite values.

    Notes
    -----
    Where raters agree perfectly, the coefficients are 1 and their intervals (1, 1). The interval of ICC(2,k)
    is that of ICC(2,1) carried over by Spearman & Brown's formula.

    References
    ----------
    Shrout & Fleiss 1979, doi:10.1037/0033-2909.86.2.420; degrees of freedom of ICC(2,1) after Satterthwaite,
    McGraw & Wong 1996, doi:10.1037/1082-989X.1.1.30.
    """
    as_share(level, name="level")
    table = np.asarray(as_signal(ratings, name="ratings"), dtype=np.float64)
    if table.ndim < 2 or table.shape[-1] < 2:
        raise SignalError(f"ratings of shape {table.shape}, expected (..., targets, at least 2 raters)")
    complete = np.asarray(np.isfinite(table).all(axis=-1))
    n = complete.sum(axis=-1).astype(np.float64)
    k = table.shape[-1]
    n_used = np.where(n > 1, n, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        targets, raters, error, within, equal = _mean_squares(table, complete, n_used, k)
        forms = [*_one_way_forms(targets, within, n_used, k, level)]
        forms += _agreement_forms(targets, raters, error, n_used, k, level)
        forms += _consistency_forms(targets, error, n_used, k, level)
    one_1, one_k, two_1, two_k, three_1, three_k = forms
    remarks = []
    if np.any(complete.shape[-1] - n):
        remarks.append(f"{int(np.sum(complete.shape[-1] - n))} targets left out: a rating is missing")
    if np.any(n < 2):
        remarks.append("no coefficient: fewer than 2 complete targets")
    if equal.any():
        remarks.append("no coefficient: all ratings are equal")
    return IntraclassCorrelations(
        one_1,
        two_1,
        three_1,
        one_k,
        two_k,
        three_k,
        n_targets=as_count(n),
        n_raters=k,
        n_excluded=as_count(complete.shape[-1] - n),
        remarks=tuple(remarks),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Repeatability:
    """How far two readings of one subject by one method lie apart; floats, or arrays of shape (...).

    Parameters
    ----------
    within_sd
        Within-subject standard deviation s_w, by one-way analysis of variance.
    within_sd_interval
        By chi-square.
    coefficient, coefficient_interval
        Repeatability coefficient, z sqrt 2 s_w.
    n_values, n_subjects, n_excluded
        Size of the sample, and missing values left out.
    freedom
        n_values - n_subjects.
    coverage, level
        As asked for.
    """

    within_sd: Figure
    within_sd_interval: Interval
    coefficient: Figure
    coefficient_interval: Interval
    n_values: Figure
    n_subjects: Figure
    n_excluded: Figure
    freedom: Figure
    coverage: float
    level: float


def repeatability(
    values: ArrayLike, subject: ArrayLike, *, coverage: float = 0.95, level: float = 0.95
) -> Repeatability:
    """Return the within-subject standard deviation and the repeatability coefficient.

    Parameters
    ----------
    values
        Readings by one method while the true value stands still, shape (..., n); NaN where missing.
    subject
        Whose reading it is, shape (n,).
    coverage
        Share of the differences of two readings that the coefficient is to hold.
    level
        Confidence level of the intervals.

    Returns
    -------
    NaN where no subject has two readings. Where all repeats are equal, 0 without interval.

    Raises
    ------
    SignalError
        If there is not one subject for each value, or values are infinite.

    References
    ----------
    Bland & Altman 1999, doi:10.1177/096228029900800204, section 2: 1.96 sqrt 2 s_w. Bland & Altman 1986 have
    2 for 1.96 and two readings of each subject: s_w^2 = sum d^2 / 2n, the same.
    """
    as_share(coverage, name="coverage")
    as_share(level, name="level")
    x = np.asarray(as_signal(values, name="values"), dtype=np.float64)
    found = one_way(x, subject_numbers(subject, x.shape[-1]))
    freedom = np.where(found.n_values > found.n_subjects, found.n_values - found.n_subjects, np.nan)
    variance = np.where(np.isfinite(freedom), found.within, np.nan)
    spread = np.where(variance > 0, variance, np.nan)
    low = np.sqrt(spread * freedom / special.chdtri(freedom, 0.5 - 0.5 * level))
    high = np.sqrt(spread * freedom / special.chdtri(freedom, 0.5 + 0.5 * level))
    reach = float(special.ndtri(0.5 + 0.5 * coverage)) * np.sqrt(2.0)
    sd = np.sqrt(variance)
    return Repeatability(
        within_sd=as_figure(sd),
        within_sd_interval=Interval(as_figure(low), as_figure(high)),
        coefficient=as_figure(reach * sd),
        coefficient_interval=Interval(as_figure(reach * low), as_figure(reach * high)),
        n_values=as_count(found.n_values),
        n_subjects=as_count(found.n_subjects),
        n_excluded=as_count(x.shape[-1] - found.n_values),
        freedom=as_figure(freedom),
        coverage=coverage,
        level=level,
    )


def _mean_squares(
    table: Floats, complete: NDArray[np.bool_], n: Floats, k: int
) -> tuple[Floats, Floats, Floats, Floats, NDArray[np.bool_]]:
    """Return mean squares of targets, raters, error and within targets, and which tables hold equal ratings."""
    used = np.where(complete[..., None], table, 0.0)
    largest = np.abs(used).max(axis=(-2, -1), initial=0.0)
    mean = used.sum(axis=(-2, -1)) / (n * k)
    centred = np.where(complete[..., None], used - mean[..., None, None], 0.0)
    equal = np.isfinite(n) & (
        np.abs(centred).max(axis=(-2, -1), initial=0.0) <= 8 * np.finfo(np.float64).eps * largest
    )
    of_target, of_rater = centred.mean(axis=-1), centred.sum(axis=-2) / n[..., None]
    rest = np.where(complete[..., None], centred - of_target[..., :, None] - of_rater[..., None, :], 0.0)
    sum_within = ((centred - of_target[..., None]) ** 2).sum(axis=(-2, -1))
    defined = np.where(equal, np.nan, 1.0)
    return (
        defined * k * (of_target**2).sum(axis=-1) / (n - 1),
        defined * n * (of_rater**2).sum(axis=-1) / (k - 1),
        # what rounding leaves of a perfect fit is none
        defined * _unless_rounding((rest**2).sum(axis=(-2, -1)), largest) / ((n - 1) * (k - 1)),
        defined * _unless_rounding(sum_within, largest) / (n * (k - 1)),
        equal,
    )


def _unless_rounding(sum_of_squares: Floats, largest: Floats) -> Floats:
    return np.where(sum_of_squares > (16 * np.finfo(np.float64).eps * largest) ** 2, sum_of_squares, 0.0)


def _tails(f: Floats, d1: Floats, d2: Floats, level: float) -> tuple[Floats, Floats]:
    """Return F divided and multiplied by the quantiles of its interval."""
    tail = 0.5 + 0.5 * level
    return f / special.fdtri(d1, d2, tail), f * special.fdtri(d2, d1, tail)


def _one_way_forms(
    targets: Floats, within: Floats, n: Floats, k: int, level: float
) -> list[IntraclassCorrelation]:
    f, d1, d2 = targets / within, n - 1, n * (k - 1)
    low, high = _tails(f, d1, d2, level)
    return [
        _form("ICC(1,1)", _single(f, k), _single(low, k), _single(high, k), level, f, d1, d2),
        _form("ICC(1,k)", 1 - 1 / f, 1 - 1 / low, 1 - 1 / high, level, f, d1, d2),
    ]


def _consistency_forms(
    targets: Floats, error: Floats, n: Floats, k: int, level: float
) -> list[IntraclassCorrelation]:
    f, d1, d2 = targets / error, n - 1, (n - 1) * (k - 1)
    low, high = _tails(f, d1, d2, level)
    return [
        _form("ICC(3,1)", _single(f, k), _single(low, k), _single(high, k), level, f, d1, d2),
        _form("ICC(3,k)", 1 - 1 / f, 1 - 1 / low, 1 - 1 / high, level, f, d1, d2),
    ]


def _agreement_forms(
    targets: Floats, raters: Floats, error: Floats, n: Floats, k: int, level: float
) -> list[IntraclassCorrelation]:
    value = (targets - error) / (targets + (k - 1) * error + k * (raters - error) / n)
    larger = np.maximum(raters, error)  # squares of small mean squares would vanish
    of_raters = k * value * (raters / larger)
    of_error = (n * (1 + (k - 1) * value) - k * value) * (error / larger)
    freedom = (of_raters + of_error) ** 2 / (of_raters**2 / (k - 1) + of_error**2 / ((n - 1) * (k - 1)))
    tail = 0.5 + 0.5 * level
    less, more = special.fdtri(n - 1, freedom, tail), special.fdtri(freedom, n - 1, tail)
    rest = k * raters + (k * n - k - n) * error
    perfect = (error == 0) & (raters == 0) & (targets > 0)
    low = np.where(perfect, 1.0, n * (targets - less * error) / (less * rest + n * targets))
    high = np.where(perfect, 1.0, n * (more * targets - error) / (rest + n * more * targets))
    f, d1, d2 = targets / error, n - 1, (n - 1) * (k - 1)
    mean = (targets - error) / (targets + (raters - error) / n)
    return [
        _form("ICC(2,1)", value, low, high, level, f, d1, d2),
        _form("ICC(2,k)", mean, _stepped_up(low, k), _stepped_up(high, k), level, f, d1, d2),
    ]


def _single(f: Floats, k: int) -> Floats:
    """Return the reliability of one rating from F; 1 - 2/f has the limit 1 where raters agree perfectly."""
    return np.asarray((1 - 1 / f) / (1 + (k - 1) / f))


def _stepped_up(single: Floats, k: int) -> Floats:
    """Return the reliability of the mean of `k` ratings (Spearman & Brown)."""
    return np.asarray(k * single / (1 + (k - 1) * single))


def _form(
    name: str, value: Floats, low: Floats, high: Floats, level: float, f: Floats, d1: Floats, d2: Floats
) -> IntraclassCorrelation:
    return IntraclassCorrelation(
        name,
        as_figure(value),
        as_figure(low),
        as_figure(high),
        level,
        as_figure(f),
        (as_figure(d1), as_figure(d2)),
        as_figure(special.fdtrc(d1, d2, f)),
    )
