"""Shares with their intervals: exact (Clopper & Pearson), Wilson's, and by subject where trials are not alike.

Exact intervals cover at least what they say; Wilson's covers it on average and is shorter. Trials of one
subject resemble one another: then subjects, not trials, are what is drawn.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.arrays import as_series
from analysis.bootstrap import percentile_interval, resampled_sums, subject_numbers
from analysis.estimates import Estimate, Figure, Interval, as_figure, as_share
from protocols.errors import SignalError

Floats = NDArray[np.float64]

SIDES: Final = ("both", "lower", "upper")


def clopper_pearson(
    successes: ArrayLike, trials: ArrayLike, *, level: float = 0.95, side: str = "both"
) -> Interval:
    """Return the exact binomial interval of a share.

    Parameters
    ----------
    successes, trials
        Counts, of shapes that broadcast.
    level
        Confidence level.
    side
        `both`, with half the error on each side; `lower` or `upper`, a one-sided bound with all of it, the
        other end being 1 or 0.

    Returns
    -------
    0 below if nothing succeeded, 1 above if all did; NaN without trials.

    Raises
    ------
    SignalError
        If counts are negative, no whole numbers, or more succeed than were tried, or an option is unknown.

    References
    ----------
    Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    x, n, tail = _counts(successes, trials, level, side)
    with np.errstate(invalid="ignore"):
        low = np.where(x > 0, special.betaincinv(np.maximum(x, 0.5), n - x + 1, tail), 0.0)
        high = np.where(x < n, special.betaincinv(x + 1, np.maximum(n - x, 0.5), 1.0 - tail), 1.0)
    return _sided(low, high, n, side)


def wilson(successes: ArrayLike, trials: ArrayLike, *, level: float = 0.95, side: str = "both") -> Interval:
    """Return Wilson's score interval of a share, without correction for continuity; all as `clopper_pearson`.

    References
    ----------
    Wilson 1927, doi:10.1080/01621459.1927.10502953; Newcombe 1998, method 3,
    doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E.
    """
    x, n, tail = _counts(successes, trials, level, side)
    z2 = special.ndtri(1.0 - tail) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (x + z2 / 2) / (n + z2)
        reach = np.sqrt(z2) * np.sqrt(x * (n - x) / n + z2 / 4) / (n + z2)
    # rounding may leave a hair outside 0..1
    low = np.where(x > 0, np.maximum(middle - reach, 0.0), 0.0)
    high = np.where(x < n, np.minimum(middle + reach, 1.0), 1.0)
    return _sided(low, high, n, side)


def share_by_subject(
    hits: ArrayLike,
    subject: ArrayLike,
    *,
    level: float = 0.95,
    side: str = "both",
    replicates: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Return the share of hits among all trials, with its interval by bootstrap of the subjects.

    Parameters
    ----------
    hits
        1 or True for a hit, 0 or False for none, NaN where missing, shape (n_trials,).
    subject
        Whose trial it is, shape (n_trials,).
    level, side
        As `clopper_pearson`.
    replicates, seed
        Of the bootstrap.

    Returns
    -------
    NaN without trials; no interval below 2 subjects. Where all trials or none hit, a bootstrap has nothing to
    vary: then the interval is exact with the subjects as trials, as if those of one subject were all alike.

    Raises
    ------
    SignalError
        If a hit is anything but 0, 1 or NaN, or there is not one subject for each.
    """
    as_share(level, name="level")
    if side not in SIDES:
        raise SignalError(f"side={side!r}, expected one of {', '.join(SIDES)}")
    hit = np.asarray(hits)
    hit = as_series(hit.astype(np.float64) if hit.dtype.kind == "b" else hit, name="hits")
    present = np.isfinite(hit)
    if not np.isin(hit[present], (0.0, 1.0)).all():
        raise SignalError("hits hold values other than 0 and 1, expected those (NaN where missing)")
    numbers = np.unique(subject_numbers(subject, hit.size)[present], return_inverse=True)[1]
    hit = hit[present]
    n_subjects = int(numbers.max(initial=-1)) + 1
    value = float(hit.mean()) if hit.size else float("nan")
    details = {"n_subjects": float(n_subjects), "n_excluded": float((~present).sum())}
    if n_subjects < 2:
        return Estimate(value, hit.size, method="no interval: fewer than 2 subjects", details=details)
    if value in (0.0, 1.0):
        low, high = clopper_pearson(n_subjects * value, n_subjects, level=level, side=side)
        how = f"exact, {n_subjects} subjects as trials: all trials had the same result"
        return Estimate(value, hit.size, low, high, level, method=how, details=details)
    n, found = resampled_sums(np.stack([np.ones_like(hit), hit]), numbers, replicates=replicates, seed=seed)
    low, high = percentile_interval(found / n, level if side == "both" else 2 * level - 1)
    if side != "both":
        low, high = (low, 1.0) if side == "lower" else (0.0, high)
    how = f"percentile bootstrap of {n_subjects} subjects with all their trials"
    how += f", {replicates} replicates, seed {seed}"
    return Estimate(value, hit.size, low, high, level, method=how, details=details)


def _counts(successes: ArrayLike, trials: ArrayLike, level: float, side: str) -> tuple[Floats, Floats, float]:
    """Return counts as floats, and the error on a side of the interval."""
    as_share(level, name="level")
    if side not in SIDES:
        raise SignalError(f"side={side!r}, expected one of {', '.join(SIDES)}")
    x, n = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    for name, counts in (("successes", x), ("trials", n)):
        if not (np.isfinite(counts) & (counts >= 0) & (counts == np.round(counts))).all():
            raise SignalError(f"{name} hold values that are no counts, expected whole numbers from 0")
    if (x > n).any():
        raise SignalError(
            f"more successes than trials at {int((x > n).sum())} places, expected at most as many"
        )
    return x, n, (1.0 - level) / (2 if side == "both" else 1)


def _sided(low: Floats, high: Floats, n: Floats, side: str) -> Interval:
    def end(values: Floats) -> Figure:
        return as_figure(np.where(n > 0, values, np.nan))

    return Interval(
        end(low if side != "upper" else np.zeros_like(low)),
        end(high if side != "lower" else np.ones_like(high)),
    )
