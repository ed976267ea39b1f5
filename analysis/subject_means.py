"""The mean over subjects of each one's mean: subjects count the same, however often each was measured."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from analysis.estimates import Estimate
from analysis.jackknife import jackknife_interval

_SAME: Final = 1e-12  # of the mean: what the order of a sum makes of it


def mean_of_subjects(
    values: ArrayLike, subjects: ArrayLike, *, level: float, scale: str = "linear"
) -> Estimate:
    """Return the mean over subjects of their means, with the interval that `analysis.jackknife` gives it.

    Parameters
    ----------
    values
        Finite figures, shape (n,).
    subjects
        Whose each is, shape (n,).
    level
        Confidence level of the interval.
    scale
        Of the interval, as `jackknife_interval` has it: `log` for figures above 0.

    Returns
    -------
    `n` is the number of values, `details` holds `subjects`; NaN without a value, no interval below 2 subjects,
    where all subjects' means are the same, or where the scale does not hold them.

    Raises
    ------
    SignalError
        If an option is unknown.
    """
    figures = np.asarray(values, dtype=np.float64)
    if not figures.size:
        return Estimate(float("nan"), 0, method="no subject has a value")
    numbers = np.unique(np.asarray(subjects), return_inverse=True)[1]
    means = np.bincount(numbers, weights=figures) / np.bincount(numbers)
    value, k = float(means.mean()), means.size
    details, said = {"subjects": float(k)}, f"mean of {k} subjects' means"
    if k < 2 or np.ptp(means) <= _SAME * abs(value):
        why = "fewer than 2 subjects" if k < 2 else "all subjects say the same"
        return Estimate(value, figures.size, method=f"{said}; no interval: {why}", details=details)
    without = (means.sum() - means) / (k - 1)
    low, high = jackknife_interval(value, without, level=level, scale=scale)
    if np.isnan(low):
        method = f"{said}; no interval: a mean without one subject has none on a {scale} scale"
        return Estimate(value, figures.size, method=method, details=details)
    method = f"{said}; jackknife of subjects, {scale} scale"
    return Estimate(value, figures.size, low, high, level, method, details)
