"""Disparity: by how much a device's bias differs between groups of people, or along a covariate of theirs.

Each subject counts once, by the mean of its differences, so pairs of one subject cannot make an interval too
narrow and a subject with many pairs cannot rule. Both figures are without sign. Their upper end is that of a
two-sided interval of the signed difference that lies farther from zero. It bounds the largest of several
differences as well: to lie within a limit all of them must, each by an interval of its own (an
intersection-union test), so a device whose largest difference is exactly the limit passes in (1 - level) / 2 of
the studies at most.
"""

from __future__ import annotations

import itertools
import math
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.arrays import as_series
from analysis.bootstrap import subject_numbers
from analysis.estimates import Estimate, as_share
from protocols.errors import SignalError

_Floats: TypeAlias = NDArray[np.float64]

_NAN: Final = float("nan")
_ROUNDING: Final = 64 * float(np.finfo(np.float64).eps)
"""Of means of differences that are all equal, relative to the largest."""


def largest_group_difference(
    differences: ArrayLike, group: ArrayLike, *, subject: ArrayLike, level: float = 0.95
) -> Estimate:
    """Return the largest absolute difference of mean bias between any two groups.

    Parameters
    ----------
    differences
        Test minus reference of each pair, shape (n,); NaN is left out.
    group
        Name of the group of each pair's subject, shape (n,); pairs with an empty name are left out.
    subject
        Whose pair it is, shape (n,).
    level
        Confidence level of the two-sided interval of each difference.

    Returns
    -------
    NaN below two groups; ends NaN where a group has a single subject. The lower end is of intervals at a level
    raised for their number (Bonferroni), 0 where one of them holds 0. `details` holds each group's `bias_`,
    `subjects_` and, of each two, `difference_`; `n` counts pairs.

    Raises
    ------
    SignalError
        If shapes differ, values are infinite, the level is no share, or a subject is in two groups.

    References
    ----------
    Welch 1947, doi:10.1093/biomet/34.1-2.28: intervals of groups that vary unequally. Berger 1982,
    doi:10.1080/00401706.1982.10487790: intersection-union tests.
    """
    level = as_share(level, name="level")
    values, numbers = _pairs(differences, subject)
    names = np.asarray(group)
    if names.shape != values.shape:
        raise SignalError(f"group of shape {names.shape}, expected one for each of {values.size} pairs")
    present = np.isfinite(values) & (names != "")
    values, numbers, names = values[present], numbers[present], names[present]
    means, first = _subject_means(values, numbers)
    of_subject = names[first]
    if values.size and (names != _spread(of_subject, numbers)).any():
        raise SignalError("a subject in two groups, expected one group for each")
    groups = np.unique(of_subject).tolist()
    details: dict[str, float] = {}
    samples = []
    for name in groups:
        sample = means[of_subject == name]
        samples.append(sample)
        details[f"bias_{_key(name)}"] = float(sample.mean())
        details[f"subjects_{_key(name)}"] = float(sample.size)
    method = f"means of {means.size} subjects, Welch's interval of each two of {len(groups)} groups"
    if len(groups) < 2:
        return Estimate(_NAN, values.size, _NAN, _NAN, level, method, details)
    found, lows, highs = [], [], []
    contrasts = list(itertools.combinations(range(len(groups)), 2))
    for one, other in contrasts:
        difference = float(samples[other].mean() - samples[one].mean())
        details[f"difference_{_key(groups[one])}_to_{_key(groups[other])}"] = difference
        found.append(abs(difference))
        highs.append(_farther(difference, _welch_reach(samples[one], samples[other], level)))
        raised = 1.0 - (1.0 - level) / len(contrasts)
        lows.append(_nearer(difference, _welch_reach(samples[one], samples[other], raised)))
    return Estimate(max(found), values.size, float(np.max(lows)), float(np.max(highs)), level, method, details)


def slope_difference(
    differences: ArrayLike, covariate: ArrayLike, *, subject: ArrayLike, per: float, level: float = 0.95
) -> Estimate:
    """Return the absolute change of mean bias for a change of a subject's covariate by `per`.

    Parameters
    ----------
    differences
        Test minus reference of each pair, shape (n,); NaN is left out.
    covariate
        Of each pair's subject, shape (n,); pairs without are left out. One that varies within a subject enters
        by its mean.
    subject
        Whose pair it is, shape (n,).
    per
        In the covariate's unit.
    level
        Confidence level of the two-sided interval of the slope.

    Returns
    -------
    Least squares through the subjects' means; NaN below three subjects or with a constant covariate. `details`
    holds the signed `slope_per_unit` and `n_subjects`; `n` counts pairs.

    Raises
    ------
    SignalError
        If shapes differ, values are infinite, or an option is out of range.

    References
    ----------
    MacKinnon & White 1985, doi:10.1016/0304-4076(85)90158-7: HC3 errors, for subjects that scatter unequally.
    """
    level = as_share(level, name="level")
    if not (math.isfinite(per) and per > 0):
        raise SignalError(f"per={per!r}, expected a finite number > 0")
    values, numbers = _pairs(differences, subject)
    x = as_series(covariate, name="covariate")
    if x.shape != values.shape:
        raise SignalError(f"{x.size} values of the covariate, expected one for each of {values.size} pairs")
    present = np.isfinite(values) & np.isfinite(x)
    y, _ = _subject_means(values[present], numbers[present])
    x, _ = _subject_means(x[present], numbers[present])
    n = int(present.sum())
    method = f"least squares through the means of {y.size} subjects, HC3 errors"
    if y.size < 3 or np.ptp(x) == 0.0:
        return Estimate(_NAN, n, _NAN, _NAN, level, method, {"n_subjects": float(y.size)})
    from_mean = x - x.mean()
    power = float(from_mean @ from_mean)
    slope = float(from_mean @ y) / power
    residual = y - y.mean() - slope * from_mean
    leverage = 1.0 / y.size + from_mean**2 / power
    # a subject that alone holds an end of the line has leverage 1 and no residual: nothing is known of it
    free = np.where(1.0 - leverage > 1e-9, 1.0 - leverage, np.nan)
    error = math.sqrt(float(((from_mean * residual / free) ** 2).sum())) / power
    reach = float(special.stdtrit(y.size - 2, 0.5 + 0.5 * level)) * error * per
    details = {"slope_per_unit": slope, "n_subjects": float(y.size)}
    low, high = _nearer(slope * per, reach), _farther(slope * per, reach)
    return Estimate(abs(slope) * per, n, low, high, level, method, details)


def _pairs(differences: ArrayLike, subject: ArrayLike) -> tuple[_Floats, NDArray[np.intp]]:
    values = as_series(differences, name="differences")
    return values, subject_numbers(subject, values.size)


def _subject_means(values: _Floats, numbers: NDArray[np.intp]) -> tuple[_Floats, NDArray[np.intp]]:
    """Return each subject's mean, and where its first value is, in the order of the numbers."""
    _, first, place, counts = np.unique(numbers, return_index=True, return_inverse=True, return_counts=True)
    return np.bincount(place, weights=values, minlength=counts.size) / counts, first


def _spread(of_subject: NDArray[np.str_], numbers: NDArray[np.intp]) -> NDArray[np.str_]:
    """Return what is each subject's as of each pair."""
    return np.asarray(of_subject[np.unique(numbers, return_inverse=True)[1]])


def _welch_reach(one: _Floats, other: _Floats, level: float) -> float:
    """Return by how much the interval of the difference of two means reaches to either side, or NaN."""
    if min(one.size, other.size) < 2:
        return _NAN
    parts = [_variance(sample) / sample.size for sample in (one, other)]
    total = sum(parts)
    if total == 0.0:
        return 0.0
    degrees = total**2 / sum(
        part**2 / (sample.size - 1) for part, sample in zip(parts, (one, other), strict=True)
    )
    return float(special.stdtrit(degrees, 0.5 + 0.5 * level)) * math.sqrt(total)


def _variance(sample: _Floats) -> float:
    equal = np.ptp(sample) <= _ROUNDING * np.abs(sample).max()
    return 0.0 if equal else float(sample.var(ddof=1))


def _farther(value: float, reach: float) -> float:
    return abs(value) + reach


def _nearer(value: float, reach: float) -> float:
    return _NAN if math.isnan(reach) else max(0.0, abs(value) - reach)


def _key(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")
