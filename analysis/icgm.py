"""Special controls of integrated continuous glucose monitors (iCGM): what 21 CFR 862.1355(b)(1)(v) judges.

Pairs are sorted by the sensor's value, not by the reference's; 70 and 180 mg/dL belong to the middle range.
Glucose, missing values and tolerances are as in `analysis.glucose_accuracy`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_series
from analysis.bootstrap import subject_numbers
from analysis.counted_share import CountedShare, counted_share
from analysis.glucose_accuracy import Tolerance, glucose_pairs, within
from analysis.proportions import share_by_subject
from protocols.errors import SignalError


@dataclass(frozen=True, slots=True)
class IcgmControl:
    """One special control of 21 CFR 862.1355(b)(1)(v) with its statistic.

    Parameters
    ----------
    control
        Letter of the paragraph, A to G.
    low_mgdl, high_mgdl
        Sensor values it is about: from `low_mgdl` to `high_mgdl`, each included where `at_low`, `at_high` say
        so.
    within
        Pairs within the tolerance; its one-sided lower bound takes pairs for independent.
    subject_lower_bound_percent
        One-sided lower bound by resampling subjects; NaN without subjects or with fewer than 2.
    bound_must_exceed_percent
        What the lower bound is judged against.
    """

    control: str
    low_mgdl: float
    high_mgdl: float
    tolerance: Tolerance
    within: CountedShare
    subject_lower_bound_percent: float
    bound_must_exceed_percent: float


@dataclass(frozen=True, slots=True)
class IcgmContradictions:
    """Pairs that the special controls H and I forbid: sensor and reference at opposite ends.

    Parameters
    ----------
    low_over_high
        H: sensor below 70 mg/dL, reference above 180.
    high_over_low
        I: sensor above 180 mg/dL, reference below 70.
    n, excluded
        Pairs judged and left out.
    """

    low_over_high: int
    high_over_low: int
    n: int
    excluded: int


@dataclass(frozen=True, slots=True)
class IcgmRates:
    """Special controls J and K: how often the sensor's rate of change says the opposite of the true one.

    Parameters
    ----------
    rising_while_falling
        J: share of moments with a sensor rate above +1 among those with a true rate below -2 mg/dL/min.
    falling_while_rising
        K: share with a sensor rate below -1 among those with a true rate above +2 mg/dL/min.
    """

    rising_while_falling: CountedShare
    falling_while_rising: CountedShare


_PERCENT_15, _PERCENT_40 = Tolerance(15.0), Tolerance(40.0)
_MGDL_15, _MGDL_40 = (Tolerance(0.0, mgdl, float("inf")) for mgdl in (15.0, 40.0))
_LOW, _MIDDLE, _HIGH, _ALL = (0.0, 70.0), (70.0, 180.0), (180.0, float("inf")), (0.0, float("inf"))
ICGM_CONTROLS: Final = (
    ("A", _LOW, _MGDL_15, 85.0),
    ("B", _MIDDLE, _PERCENT_15, 70.0),
    ("C", _HIGH, _PERCENT_15, 80.0),
    ("D", _LOW, _MGDL_40, 98.0),
    ("E", _MIDDLE, _PERCENT_40, 99.0),
    ("F", _HIGH, _PERCENT_40, 99.0),
    ("G", _ALL, Tolerance(20.0), 87.0),
)
"""Paragraph, sensor range in mg/dL, tolerance, and the percentage that the lower bound must exceed (read)."""


def icgm_controls(
    reference_mgdl: ArrayLike,
    icgm_mgdl: ArrayLike,
    *,
    subject: ArrayLike | None = None,
    replicates: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[IcgmControl, ...]:
    """Return the statistics of the special controls A to G of integrated continuous glucose monitors.

    Parameters
    ----------
    reference_mgdl, icgm_mgdl
        Paired glucose in mg/dL, shape (n,).
    subject
        Whose pair it is, shape (n,); bounds by resampling subjects are NaN without.
    replicates, seed
        Of that resampling.
    level
        One-sided level of the bounds.

    Raises
    ------
    SignalError
        As `within_tolerance`, or if there is not one subject for every pair.

    References
    ----------
    21 CFR 862.1355(b)(1)(v). Pairs are sorted by the sensor's value, not the reference's; 70 and 180 belong
    to the middle. The rule names no method for its bound: the exact one and the one by subjects are both
    given. Without a single error the exact one needs 149 pairs to exceed 98 % and 299 to exceed 99 %.
    """
    reference, test, excluded = glucose_pairs(reference_mgdl, icgm_mgdl)
    subjects = _subjects(subject, reference_mgdl, icgm_mgdl)
    controls = []
    for letter, (low, high), tolerance, must_exceed in ICGM_CONTROLS:
        there = sensor_range(test, low, high)
        good = there & within(reference, test, tolerance)
        found = counted_share(int(good.sum()), int(there.sum()), excluded=excluded, level=level)
        bound = None
        if subjects is not None:
            bound = share_by_subject(
                good[there], subjects[there], level=level, side="lower", replicates=replicates, seed=seed
            ).low
        controls.append(
            IcgmControl(
                letter,
                low,
                high,
                tolerance,
                found,
                100.0 * bound if bound is not None else float("nan"),
                must_exceed,
            )
        )
    return tuple(controls)


def sensor_range(icgm_mgdl: NDArray[np.float64], low_mgdl: float, high_mgdl: float) -> NDArray[np.bool_]:
    """Return which sensor values a control is about: the middle range has its edges, the outer ones do not."""
    if low_mgdl == 70.0:
        return np.asarray((icgm_mgdl >= low_mgdl) & (icgm_mgdl <= high_mgdl))
    return np.asarray((icgm_mgdl > low_mgdl) & (icgm_mgdl < high_mgdl))


def icgm_contradictions(reference_mgdl: ArrayLike, icgm_mgdl: ArrayLike) -> IcgmContradictions:
    """Return how many pairs the special controls H and I forbid.

    Raises
    ------
    SignalError
        As `within_tolerance`.
    """
    reference, test, excluded = glucose_pairs(reference_mgdl, icgm_mgdl)
    low_over_high = int(((test < 70.0) & (reference > 180.0)).sum())
    high_over_low = int(((test > 180.0) & (reference < 70.0)).sum())
    return IcgmContradictions(low_over_high, high_over_low, reference.size, excluded)


def icgm_rates(
    reference_rate_mgdl_per_min: ArrayLike, icgm_rate_mgdl_per_min: ArrayLike, *, level: float = 0.95
) -> IcgmRates:
    """Return the statistics of the special controls J and K; each share may be at most 1 %.

    Parameters
    ----------
    reference_rate_mgdl_per_min, icgm_rate_mgdl_per_min
        Rates of change at the same moments, shape (n,).

    Raises
    ------
    SignalError
        If lengths differ, a rate is infinite or the level is out of range.
    """
    true = as_series(reference_rate_mgdl_per_min, name="reference_rate_mgdl_per_min")
    sensed = as_series(icgm_rate_mgdl_per_min, name="icgm_rate_mgdl_per_min")
    if true.size != sensed.size:
        raise SignalError(f"{true.size} reference rates for {sensed.size} of the sensor, expected pairs")
    present = ~(np.isnan(true) | np.isnan(sensed))
    true, sensed, excluded = true[present], sensed[present], int((~present).sum())
    falling, rising = true < -2.0, true > 2.0
    return IcgmRates(
        counted_share(
            int((falling & (sensed > 1.0)).sum()), int(falling.sum()), excluded=excluded, level=level
        ),
        counted_share(int((rising & (sensed < -1.0)).sum()), int(rising.sum()), excluded=excluded, level=level),
    )


def _subjects(
    subject: ArrayLike | None, reference_mgdl: ArrayLike, icgm_mgdl: ArrayLike
) -> NDArray[np.intp] | None:
    """Return the number of the subject of every complete pair."""
    if subject is None:
        return None
    reference, test = as_series(reference_mgdl, name="reference_mgdl"), as_series(icgm_mgdl, name="icgm_mgdl")
    return subject_numbers(subject, reference.size)[~(np.isnan(reference) | np.isnan(test))]
