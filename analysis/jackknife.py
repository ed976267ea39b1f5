"""Intervals by leaving out one subject at a time: nothing is drawn, and few subjects are told as few.

The figure without each subject tells how much it depends on who took part (the jackknife). Its standard error
with Student's t for the number of subjects covers better than percentiles of a bootstrap where subjects are
few, and costs nothing. A figure that cannot be negative is treated on its logarithm, a share on its logit:
there it varies more evenly, and the ends stay possible.

Coverage of 95 % intervals, 6,000 studies of normal differences with bias 0.5 and standard deviations 1.5
between and 2 within subjects (10 subjects of 20 pairs; 85 of 3), beside percentiles of 1,000 bootstrap samples:

=======================  ===========  ===========
figure (scale)           10 subjects  85 subjects
=======================  ===========  ===========
mean (linear)            95 (90)      95 (94)
standard deviation (log) 89 (76)      95 (94)
root mean square (log)   90 (83)      94 (94)
mean absolute (log)      92 (86)      95 (95)
share (logit)            94 (87)      96 (95)
=======================  ===========  ===========
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.estimates import Interval, as_figure, as_share
from protocols.errors import SignalError

Floats = NDArray[np.float64]

SCALES: Final[Mapping[str, tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]]] = MappingProxyType(
    {"linear": (np.asarray, np.asarray), "log": (np.log, np.exp), "logit": (special.logit, special.expit)}
)
"""Scale -> to it and back: `log` for figures above 0, `logit` for shares between 0 and 1."""


def jackknife_interval(
    value: ArrayLike, left_out: ArrayLike, *, level: float = 0.95, scale: str = "linear"
) -> Interval:
    """Return the interval of a figure from what it is without each subject.

    Parameters
    ----------
    value
        The figure, shape (...).
    left_out
        The figure with one subject left out at a time, shape (..., n_subjects), as of
        `analysis.bootstrap.sums_without_each`.
    level
        Confidence level.
    scale
        One of `SCALES`.

    Returns
    -------
    NaN below 2 subjects, and where a figure is not inside the scale (a share of 0 or 1, a standard deviation of
    0, whether of all subjects or without one): there nothing is known of how it varies.

    Raises
    ------
    SignalError
        If shapes do not fit or an option is unknown.

    References
    ----------
    Tukey 1958, doi:10.1214/aoms/1177706647 (abstract); Efron & Tibshirani 1993, chapter 11.
    """
    as_share(level, name="level")
    if scale not in SCALES:
        raise SignalError(f"scale={scale!r}, expected one of {', '.join(SCALES)}")
    figure, without = np.asarray(value, dtype=np.float64), np.asarray(left_out, dtype=np.float64)
    if without.ndim == 0 or without.shape[:-1] != figure.shape:
        raise SignalError(
            f"left_out of shape {without.shape} for values of shape {figure.shape}, "
            "expected one more axis, of subjects"
        )
    to, back = SCALES[scale]
    n = without.shape[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        middle, each = to(figure), to(without)
        inside = np.isfinite(middle) & np.isfinite(each).all(axis=-1) & (n > 1)
        each = np.where(inside[..., None], each, 0.0)
        spread = ((each - each.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
        error = np.sqrt(spread * (n - 1) / max(n, 1))
        reach = special.stdtrit(max(n - 1, 1), 0.5 + 0.5 * level) * error
        low, high = (np.where(inside, back(middle + side * reach), np.nan) for side in (-1, 1))
    return Interval(as_figure(low), as_figure(high))
