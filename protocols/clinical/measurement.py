"""What was measured: the value of a metric with its interval, ready to be held against a limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from protocols.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Measurement:
    """The value of a metric, as computed from the evidence.

    Parameters
    ----------
    metric
        Its name.
    value
        In `unit`; NaN where there is too little data for one.
    unit
        UCUM code.
    n
        How many pairs, beats or records the value rests on.
    low, high
        Ends of its interval, both or neither.
    level
        Confidence level of the interval; None without one.
    method
        How value and interval were computed, in one line.
    label
        What the value is called where it stands for a grade; empty where it is a number.
    n_poor
        How many recordings or moments gave nothing because their signal was too poor.
    details
        Further figures by name, for the report.
    """

    metric: str
    value: float
    unit: str
    n: int
    low: float | None = None
    high: float | None = None
    level: float | None = None
    method: str = ""
    label: str = ""
    n_poor: int = 0
    details: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if len({self.low is None, self.high is None, self.level is None}) != 1:
            raise DefinitionError(
                f"interval low={self.low!r} high={self.high!r} level={self.level!r} of {self.metric}, "
                "expected all three or none"
            )
