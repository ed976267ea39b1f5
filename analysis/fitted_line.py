"""A straight line through pairs of two methods, as every regression of this project returns it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from analysis.arrays import as_series
from protocols.errors import SignalError

Floats: TypeAlias = NDArray[np.float64]

_LARGEST: Final = 1e100  # sums of squares stay finite
_LEAST_RANGE: Final = 1e-100  # squares do not vanish


@dataclass(frozen=True, slots=True)
class FittedLine:
    """A line y = intercept + slope x, in the units of the pairs.

    Parameters
    ----------
    method
        How it was fitted, in one line.
    slope, intercept
        NaN where the pairs do not determine a line; `reason` then says why.
    slope_se, intercept_se
        Standard errors; NaN for a method that has none.
    slope_low, slope_high, intercept_low, intercept_high
        Ends of the confidence intervals; infinite where the pairs do not bound them, NaN without an interval.
    level
        Confidence level of the intervals.
    n
        Pairs that the line rests on.
    excluded
        Pairs left out because a value is missing.
    reason
        Why there is no line, with the value at fault; empty where there is one.
    """

    method: str
    slope: float
    intercept: float
    slope_se: float
    intercept_se: float
    slope_low: float
    slope_high: float
    intercept_low: float
    intercept_high: float
    level: float
    n: int
    excluded: int
    reason: str = ""

    @property
    def slope_interval(self) -> tuple[float, float]:
        """Confidence interval of the slope, (low, high)."""
        return self.slope_low, self.slope_high

    @property
    def intercept_interval(self) -> tuple[float, float]:
        """Confidence interval of the intercept, (low, high)."""
        return self.intercept_low, self.intercept_high

    def at(self, x: ArrayLike) -> Floats:
        """Return y on the line at `x`, in the shape of `x`."""
        return np.asarray(self.intercept + self.slope * np.asarray(x, dtype=np.float64))


def no_line(method: str, level: float, n: int, excluded: int, reason: str) -> FittedLine:
    """Return the record of pairs that do not determine a line."""
    nan = float("nan")
    return FittedLine(method, nan, nan, nan, nan, nan, nan, nan, nan, level, n, excluded, reason)


def line_with_se(
    method: str,
    slope: tuple[float, float],
    intercept: tuple[float, float],
    level: float,
    n: int,
    excluded: int,
) -> FittedLine:
    """Return a line with intervals by Student's t, n - 2 degrees of freedom, from estimates and errors."""
    reach = float(special.stdtrit(n - 2, 0.5 + 0.5 * level)) if n > 2 else float("nan")
    slope_reach, intercept_reach = reach * slope[1], reach * intercept[1]
    return FittedLine(
        method,
        slope[0],
        intercept[0],
        slope[1],
        intercept[1],
        slope[0] - slope_reach,
        slope[0] + slope_reach,
        intercept[0] - intercept_reach,
        intercept[0] + intercept_reach,
        level,
        n,
        excluded,
    )


def complete_pairs(x: ArrayLike, y: ArrayLike, level: float, **more: ArrayLike) -> tuple[list[Floats], int]:
    """Return x, y and further columns without the rows in which one is NaN, and how many were left out.

    Raises
    ------
    SignalError
        If a column is not one-dimensional, holds an infinity or a value beyond 1e100 (whose square is not far
        from infinite), or differs in length, or the level is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise SignalError(f"level={level!r}, expected above 0 and below 1")
    columns = {name: as_series(values, name=name) for name, values in {"x": x, "y": y, **more}.items()}
    sizes = {name: column.size for name, column in columns.items()}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{size} of {name}" for name, size in sizes.items())
        raise SignalError(f"{said}, expected one of each for every pair")
    for name, column in columns.items():
        largest = float(np.fmax.reduce(np.abs(column), initial=0.0))
        if largest > _LARGEST:
            raise SignalError(f"{name} holds {largest:g}, expected at most {_LARGEST:g} in size")
    present = ~np.isnan(np.stack(list(columns.values()))).any(axis=0)
    return [column[present] for column in columns.values()], int((~present).sum())


def why_no_line(x: Floats, least: int = 3) -> str:
    """Return why pairs with these x determine no line, empty if they may."""
    if x.size < least:
        return f"{x.size} complete pairs, expected at least {least}"
    if x.min() == x.max():
        return f"x is {x[0]:g} in every pair, expected it to vary"
    if x.max() - x.min() < _LEAST_RANGE:
        return f"x varies by {x.max() - x.min():g} only, expected at least {_LEAST_RANGE:g}"
    return ""
