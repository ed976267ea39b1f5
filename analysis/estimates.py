"""What a statistic hands back: a figure with its interval, and how both came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.errors import SignalError

Figure: TypeAlias = Any
"""A float for one sample, a float64 array of shape (...) for several: they share no static type in numpy."""


class Interval(NamedTuple):
    """Ends of an interval; NaN where there is none, infinite where it has no such end."""

    low: Figure
    high: Figure


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, what it rests on, and its interval where it has one.

    Parameters
    ----------
    value
        NaN where there is too little data for one.
    n
        Pairs, beats or records that it rests on.
    low, high, level
        Ends and confidence level of its interval; None without one.
    method
        How it was computed, in one line.
    details
        Further figures by name.
    n_poor
        Recordings or moments that gave nothing because their signal was too poor.
    """

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    level: float | None = None
    method: str = ""
    details: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    n_poor: int = 0


def as_share(value: float, *, name: str) -> float:
    """Return a confidence level, coverage or power.

    Raises
    ------
    SignalError
        If it is not above 0 and below 1.
    """
    if not 0 < value < 1:
        raise SignalError(f"{name}={value!r}, expected above 0 and below 1")
    return float(value)


def as_figure(values: NDArray[np.float64]) -> Figure:
    """Return a float for a single figure, the array for several."""
    return float(values) if np.ndim(values) == 0 else values


def as_count(values: NDArray[Any]) -> Figure:
    """Return an int for a single count, an integer array for several."""
    return int(values) if np.ndim(values) == 0 else values.astype(np.intp)
