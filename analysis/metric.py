"""One entry of the table of metrics: what a clinical protocol can ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from analysis.agreement import Estimate
from protocols.clinical.criteria import Statistics


@dataclass(frozen=True, slots=True)
class Metric:
    """One entry of the table.

    Parameters
    ----------
    measurand
        What kind of evidence it is computed from.
    unit
        UCUM code of its value.
    function
        Computes it from evidence and a protocol's statistics.
    channels
        What the evidence is taken from: names of a recording's channels.
    source
        Where it is defined.
    grades
        Names of the values 1, 2, … where it is a grade, the best first; empty where it is a number.
    """

    measurand: str
    unit: str
    function: Callable[[Any, Statistics], Estimate]
    channels: tuple[str, ...]
    source: str
    grades: tuple[str, ...] = ()
