"""How many differences lie within a margin, and which margin holds a share of them: with one-sided bounds.

Differences are taken as normal with mean m and standard deviation s.

coverage probability
    P(|d| < margin) = Phi((margin - m) / s) - Phi((-margin - m) / s).
total deviation index
    The margin that holds a share of the differences: the inverse of the above. Lin 2000 (Statistics in
    Medicine 19:255) approximates it by z sqrt(m^2 + s^2); here it is solved.

Bounds come from the exact two-sided tolerance interval m -+ k s, which holds at least a share of the
differences with a given confidence: so does the wider -(|m| + k s) .. |m| + k s, hence the index's upper bound
|m| + k s, and the probability's lower bound is the share for which that equals the margin. They never promise
too much; the further m is from 0, the more they hold back. With several pairs of each subject the bounds are percentiles of a
bootstrap by subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.arrays import as_positive, as_series
from analysis.bootstrap import resampled_sums, subject_numbers
from analysis.estimates import as_share
from protocols.errors import SignalError

Floats = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_REACH: Final = 8.0  # standard errors of a mean beyond which nothing is left
_HALVINGS: Final = 60  # of an interval of some 10 units: below 1e-15


@dataclass(frozen=True, slots=True)
class BoundedEstimate:
    """A figure with a one-sided confidence bound; NaN where there are too few pairs.

    Parameters
    ----------
    value, bound
        The figure, and its bound on the side that matters.
    level
        One-sided confidence level of the bound.
    mean, sd
        Of the differences.
    n_pairs, n_subjects, n_excluded
        Size of the sample; pairs left out because a value is missing.
    method
        How the bound was computed.
    """

    value: float
    bound: float
    level: float
    mean: float
    sd: float
    n_pairs: int
    n_subjects: int
    n_excluded: int
    method: str


def tolerance_factor(n: ArrayLike, *, share: float, level: float) -> Floats:
    """Return the k by which mean -+ k sd of `n` normal values holds at least `share` with confidence `level`.

    Parameters
    ----------
    n
        Sample sizes, shape (...); NaN below 2.
    share, level
        Content and confidence of the two-sided interval.

    References
    ----------
    Exact, by the integral over the sample mean: Odeh & Owen 1980; ISO 16269-6 (unconfirmed) tabulates it.
    Howe's approximation, doi:10.1080/01621459.1969.10500999, is below it by less than 1 % from 5 values.
    """
    as_share(share, name="share")
    as_share(level, name="level")
    sizes, where = np.unique(np.asarray(n, dtype=np.float64), return_inverse=True)
    factors = np.full(sizes.size, np.nan)
    usable = sizes >= 2
    some = sizes[usable]
    # from far below the quantile of a large sample to n = 2 at a confidence of 0.9999
    log_low, log_high = np.full(some.size, np.log(1e-6)), np.full(some.size, np.log(1e6))
    for _ in range(_HALVINGS):
        middle = (log_low + log_high) / 2
        enough = _confidence(np.exp(middle), some, share) >= level
        log_low, log_high = np.where(enough, log_low, middle), np.where(enough, middle, log_high)
    factors[usable] = np.exp(log_high)
    return factors[where.reshape(np.shape(n))]


def coverage_probability(
    test: ArrayLike,
    reference: ArrayLike,
    *,
    margin: float,
    subject: ArrayLike | None = None,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> BoundedEstimate:
    """Return the share of differences within -+ `margin`, with its lower bound.

    Parameters
    ----------
    test, reference
        Paired values, shape (n_pairs,); a pair with a NaN is left out and counted.
    margin
        In the unit of the pairs.
    subject
        Whose pair it is; needed where a subject has several.
    level
        One-sided confidence level of the bound.
    replicates, seed
        Of the bootstrap; used only where a subject has several pairs.

    Returns
    -------
    NaN below 2 pairs. Where all differences are equal, 0 or 1 without bound.

    Raises
    ------
    SignalError
        If shapes differ, values are infinite, or an option is out of range.
    """
    margin = as_positive(margin, name="margin", unit="the pairs")
    d, numbers, n_excluded = _differences(test, reference, subject, level)
    mean, sd = _moments(d)
    value = float(_probability(np.array(mean), np.array(sd), margin))
    bound, method = float("nan"), _no_bound(d, sd)
    if not method and numbers is None:
        factor = (margin - abs(mean)) / sd
        bound = float(_share_of_factor(np.array(factor), np.array(float(d.size)), level))
        method = "exact two-sided tolerance interval about 0"
    elif not method:
        means, sds = _resampled_moments(d, numbers, replicates, seed)
        shares = _probability(means, sds, margin)
        bound = float(np.quantile(shares, 1.0 - level))
        method = _bootstrap_method(numbers, replicates, seed)
    return BoundedEstimate(value, bound, level, mean, sd, d.size, _n_subjects(d, numbers), n_excluded, method)


def total_deviation_index(
    test: ArrayLike,
    reference: ArrayLike,
    *,
    share: float = 0.9,
    subject: ArrayLike | None = None,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> BoundedEstimate:
    """Return the margin that holds `share` of the absolute differences, with its upper bound.

    Parameters and errors as `coverage_probability`; `share` is what the margin is to hold.
    """
    as_share(share, name="share")
    d, numbers, n_excluded = _differences(test, reference, subject, level)
    mean, sd = _moments(d)
    value = float(_index(np.array(mean), np.array(sd), share))
    bound, method = float("nan"), _no_bound(d, sd)
    if not method and numbers is None:
        bound = abs(mean) + float(tolerance_factor(d.size, share=share, level=level)) * sd
        method = "exact two-sided tolerance interval about 0"
    elif not method:
        means, sds = _resampled_moments(d, numbers, replicates, seed)
        bound = float(np.quantile(_index(means, sds, share), level))
        method = _bootstrap_method(numbers, replicates, seed)
    return BoundedEstimate(value, bound, level, mean, sd, d.size, _n_subjects(d, numbers), n_excluded, method)


def _differences(
    test: ArrayLike, reference: ArrayLike, subject: ArrayLike | None, level: float
) -> tuple[Floats, NDArray[np.intp] | None, int]:
    """Return differences, the subject of each where one has several, and how many pairs were left out."""
    as_share(level, name="level")
    x, y = as_series(test, name="test"), as_series(reference, name="reference")
    if x.shape != y.shape:
        raise SignalError(f"{x.size} test values for {y.size} of the reference, expected pairs")
    present = np.isfinite(x) & np.isfinite(y)
    d = (x - y)[present]
    if d.size and np.ptp(d) <= 8 * np.finfo(np.float64).eps * np.abs(np.stack([x, y])[:, present]).max():
        d = np.full(d.size, d[0])
    numbers = None
    if subject is not None:
        numbers = subject_numbers(subject, x.size)[present]
        if np.bincount(numbers).max(initial=0) < 2:
            numbers = None
    return d, numbers, int((~present).sum())


def _moments(d: Floats) -> tuple[float, float]:
    mean = float(d.mean()) if d.size else float("nan")
    if d.size < 2:
        return mean, float("nan")
    return mean, 0.0 if np.ptp(d) == 0 else float(d.std(ddof=1))


def _n_subjects(d: Floats, numbers: NDArray[np.intp] | None) -> int:
    return d.size if numbers is None else np.unique(numbers).size


def _no_bound(d: Floats, sd: float) -> str:
    if d.size < 2:
        return "no figure: fewer than 2 pairs"
    return "no bound: all differences are equal" if sd == 0 else ""


def _bootstrap_method(numbers: NDArray[np.intp] | None, replicates: int, seed: int) -> str:
    n_subjects = 0 if numbers is None else np.unique(numbers).size
    subjects = f"percentile bootstrap of {n_subjects} subjects with all their pairs"
    return f"{subjects}, {replicates} replicates, seed {seed}"


def _resampled_moments(
    d: Floats, numbers: NDArray[np.intp] | None, replicates: int, seed: int
) -> tuple[Floats, Floats]:
    assert numbers is not None  # asked for only where subjects have several pairs
    centre = d.mean()
    about = d - centre
    n, total, squares = resampled_sums(
        np.stack([np.ones_like(d), about, about**2]), numbers, replicates=replicates, seed=seed
    )
    return centre + total / n, np.sqrt(np.maximum(squares - total**2 / n, 0.0) / (n - 1))


def _probability(mean: Floats, sd: Floats, margin: float) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = special.ndtr((margin - mean) / sd) - special.ndtr((-margin - mean) / sd)
    return np.asarray(np.where(sd == 0, np.where(np.isfinite(mean), np.abs(mean) < margin, np.nan), spread))


def _index(mean: Floats, sd: Floats, share: float) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.abs(mean) / sd
        return np.asarray(np.where(sd == 0, np.abs(mean), sd * _half_width(away, share)))


def _half_width(away: Floats, share: ArrayLike) -> Floats:
    """Return r with Phi(away + r) - Phi(away - r) = share: half the width about a point `away` from the mean."""
    p = np.asarray(share)
    # this start is too wide, and the left side concave beyond `away`: Newton goes down, then climbs
    r = away + special.ndtri(0.5 + 0.5 * p)
    for _ in range(12):
        excess = special.ndtr(away + r) - special.ndtr(away - r) - p
        slope = (np.exp(-((away + r) ** 2) / 2) + np.exp(-((away - r) ** 2) / 2)) / np.sqrt(2 * np.pi)
        r = np.maximum(r - excess / slope, 0.0)
    return np.asarray(r)


def _confidence(factor: Floats, n: Floats, share: ArrayLike) -> Floats:
    """Return with which confidence mean -+ factor sd of n values holds at least the share."""
    at = (_NODES + 1.0) / 2.0 * _REACH
    weights = _WEIGHTS * _REACH / 2.0 * 2.0 * np.exp(-(at**2) / 2.0) / np.sqrt(2.0 * np.pi)
    freedom = (n - 1.0)[..., None]
    half = _half_width(at / np.sqrt(n)[..., None], np.asarray(share)[..., None])
    with np.errstate(divide="ignore", over="ignore"):
        chance = special.chdtrc(freedom, freedom * (half / factor[..., None]) ** 2)
    return np.asarray(chance @ weights)


def _share_of_factor(factor: Floats, n: Floats, level: float) -> Floats:
    """Return the share that mean -+ factor sd of n values holds with confidence `level`; 0 for none."""
    low, high = np.zeros_like(factor), np.ones_like(factor)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = _confidence(np.maximum(factor, 1e-300), n, np.clip(middle, 1e-12, 1 - 1e-15)) >= level
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return np.where(factor > 0, low, 0.0)
