"""Surveillance error grid: the risk of a wrong glucose reading, looked up in a table that the caller brings.

The grid of Klonoff et al. 2014 (doi:10.1177/1932296814539589) has no formula: it is a table of 601 x 601 risks,
one for each pair of whole mg/dL from 0 to 600. The table is public (R package segtools, data set RiskPairData)
but not part of this project. Glucose is in mg/dL.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arrays import as_signal
from protocols.errors import SignalError

LARGEST_MGDL: Final = 600
"""The table ends here; pairs beyond it are not part of the grid."""
RISK_LEVELS: Final = (
    "none",
    "slight, lower",
    "slight, higher",
    "moderate, lower",
    "moderate, higher",
    "severe, lower",
    "severe, upper",
    "extreme",
)
"""Names of the levels 0 to 7, each half a unit of risk wide, the last from 3.5 (secondary: segtools)."""

_LEVEL_WIDTH: Final = 0.5
_Floats: TypeAlias = NDArray[np.float64]


def surveillance_risk(reference_mgdl: ArrayLike, test_mgdl: ArrayLike, *, risk_table: ArrayLike) -> _Floats:
    """Return the risk of every pair, signed as in the table; NaN where a value is missing or beyond 600 mg/dL.

    Parameters
    ----------
    reference_mgdl, test_mgdl
        Glucose in mg/dL, of one shape (...); rounded to whole mg/dL, halves up.
    risk_table
        Risks, shape (601, 601): row by reference, column by test. Its risks are 0 on the diagonal.

    Raises
    ------
    SignalError
        If the shapes differ, a value is infinite or negative, or the table is of another shape, holds a NaN, or
        has a risk on its diagonal (then rows and columns are not what they should be).
    """
    table = np.asarray(as_signal(risk_table, name="risk_table"), dtype=np.float64)
    if table.shape != (LARGEST_MGDL + 1, LARGEST_MGDL + 1):
        raise SignalError(f"risk_table of shape {table.shape}, expected (601, 601): reference by test")
    if np.isnan(table).any() or np.diagonal(table).any():
        raise SignalError(
            "risk_table holds NaN or a risk for equal values, expected numbers and 0 on the diagonal"
        )
    reference, test = (
        np.asarray(as_signal(np.atleast_1d(values), name=name), dtype=np.float64)
        for name, values in (("reference_mgdl", reference_mgdl), ("test_mgdl", test_mgdl))
    )
    if reference.shape != test.shape:
        raise SignalError(f"{reference.shape} reference_mgdl for {test.shape} test_mgdl, expected one shape")
    for name, glucose in (("reference_mgdl", reference), ("test_mgdl", test)):
        if (glucose < 0.0).any():
            raise SignalError(f"{name} holds {np.nanmin(glucose):g}, expected 0 mg/dL and above")
    row, column = np.floor(reference + 0.5), np.floor(test + 0.5)
    known = (row <= LARGEST_MGDL) & (column <= LARGEST_MGDL)  # False for NaN
    risk = np.full(reference.shape, np.nan)
    risk[known] = table[row[known].astype(np.intp), column[known].astype(np.intp)]
    return risk


def surveillance_levels(risk: ArrayLike) -> NDArray[np.int8]:
    """Return the level of every risk, 0 (none) to 7 (extreme), -1 for NaN; a level includes its upper edge.

    Raises
    ------
    SignalError
        If a risk is infinite.
    """
    size = np.abs(np.asarray(as_signal(np.atleast_1d(risk), name="risk"), dtype=np.float64))
    levels = np.clip(np.ceil(size / _LEVEL_WIDTH) - 1.0, 0.0, len(RISK_LEVELS) - 1.0)
    return np.where(np.isnan(size), -1.0, levels).astype(np.int8)
