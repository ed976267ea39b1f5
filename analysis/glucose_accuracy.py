"""Accuracy of glucose meters and sensors: shares within a tolerance with exact bounds, MARD, the 20/20 rule.

Glucose is in mg/dL, above 0 to 2,000; a pair with a NaN is left out and counted. Tolerances include their
edge. Comparisons are made on products and forgive the last bits, so values on the edge count as within, also
after a conversion of units. The limits themselves are a clinical protocol's; what is here are the statistics
that it judges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_positive, as_series, as_signal
from analysis.counted_share import CountedShare, counted_share
from protocols.errors import SignalError

MGDL_PER_MMOLL: Final = 18.0182
"""The factor usually called exact; 180.156 g/mol gives 18.0156. `analysis.glucose` has its consensus' 18.0."""

_LARGEST_MGDL: Final = 2000.0  # no meter reads more than 1,000; above, the unit is wrong
_ROUNDING: Final = 1e-12  # of the reference: 11.5 mmol/L is within 15 % of 10, also after conversion
_Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a test value may be from its reference.

    Parameters
    ----------
    percent
        Of the reference, from `split_mgdl` upwards.
    mgdl
        In mg/dL, below `split_mgdl`.
    split_mgdl
        Where the one gives way to the other; 0 for percent throughout, infinity for mg/dL throughout.
    source
        Where it stands.
    """

    percent: float
    mgdl: float = 0.0
    split_mgdl: float = 0.0
    source: str = ""


ISO_15197_2013: Final = Tolerance(15.0, 15.0, 100.0, "ISO 15197:2013, criterion A: 95 %, each lot (secondary)")
FDA_OTC_95: Final = Tolerance(15.0, source="FDA self-monitoring OTC 2020: 95 % (read)")
FDA_OTC_99: Final = Tolerance(20.0, source="FDA self-monitoring OTC 2020: 99 % (read)")
FDA_POC_95: Final = Tolerance(12.0, 12.0, 75.0, "FDA point of care 2020: 95 % (read)")
FDA_POC_98: Final = Tolerance(15.0, 15.0, 75.0, "FDA point of care 2020: 98 % (read)")
AGREEMENT_20_20: Final = Tolerance(20.0, 20.0, 80.0, "20/20 rule; papers split at 70, 80 or 100 mg/dL")


def mgdl_from_mmoll(glucose_mmoll: ArrayLike) -> _Floats:
    """Return glucose in mg/dL from mmol/L, by 18.0182; shape (..., n).

    Raises
    ------
    SignalError
        If the values are not real and finite numbers.
    """
    return np.asarray(MGDL_PER_MMOLL * as_signal(glucose_mmoll, name="glucose_mmoll").astype(np.float64))


def within_tolerance(
    reference_mgdl: ArrayLike, test_mgdl: ArrayLike, tolerance: Tolerance, *, level: float = 0.95
) -> CountedShare:
    """Return the share of test values within a tolerance of their references.

    Parameters
    ----------
    reference_mgdl, test_mgdl
        Paired glucose in mg/dL, shape (n,).
    level
        Confidence level of the interval and of the bound.

    Raises
    ------
    SignalError
        If lengths differ, a value is infinite, not above 0 or above 2,000, or the level is out of range.
    """
    reference, test, excluded = glucose_pairs(reference_mgdl, test_mgdl)
    return counted_share(
        int(within(reference, test, tolerance).sum()), reference.size, excluded=excluded, level=level
    )


def mard_percent(reference_mgdl: ArrayLike, test_mgdl: ArrayLike) -> float:
    """Return the mean absolute relative difference in percent of the reference, NaN without pairs.

    Raises
    ------
    SignalError
        As `within_tolerance`.
    """
    reference, test, _ = glucose_pairs(reference_mgdl, test_mgdl)
    return float(100.0 * (np.abs(test - reference) / reference).mean()) if reference.size else float("nan")


def agreement_20_20(
    reference_mgdl: ArrayLike, test_mgdl: ArrayLike, *, split_mgdl: float = 80.0, level: float = 0.95
) -> CountedShare:
    """Return the share within 20 mg/dL below `split_mgdl`, within 20 % from there on.

    Raises
    ------
    SignalError
        As `within_tolerance`.
    """
    split = as_positive(split_mgdl, name="split_mgdl", unit="mg/dL")
    return within_tolerance(reference_mgdl, test_mgdl, Tolerance(20.0, 20.0, split), level=level)


def glucose_pairs(reference_mgdl: ArrayLike, test_mgdl: ArrayLike) -> tuple[_Floats, _Floats, int]:
    """Return the pairs without NaN, and how many were left out.

    Raises
    ------
    SignalError
        If lengths differ, or a value is infinite, not above 0 or above 2,000.
    """
    reference = _as_glucose(reference_mgdl, "reference_mgdl")
    test = _as_glucose(test_mgdl, "test_mgdl")
    if reference.size != test.size:
        raise SignalError(f"{reference.size} reference_mgdl for {test.size} test_mgdl, expected pairs")
    present = ~(np.isnan(reference) | np.isnan(test))
    return reference[present], test[present], int((~present).sum())


def _as_glucose(values: ArrayLike, name: str) -> _Floats:
    glucose = as_series(values, name=name)
    if glucose.size:
        least, largest = float(np.fmin.reduce(glucose)), float(np.fmax.reduce(glucose))
        if least <= 0.0 or largest > _LARGEST_MGDL:
            raise SignalError(f"{name} from {least:g} to {largest:g}, expected mg/dL above 0, to 2000")
    return glucose


def within(reference: _Floats, test: _Floats, tolerance: Tolerance) -> NDArray[np.bool_]:
    """Return which test values are within the tolerance, its edge included."""
    distance = np.abs(test - reference) - _ROUNDING * reference
    by_percent = 100.0 * distance <= tolerance.percent * reference
    return np.where(reference < tolerance.split_mgdl, distance <= tolerance.mgdl, by_percent)
