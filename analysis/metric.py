"""What a clinical protocol can ask of a study: metrics, and facts about its sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.estimates import Estimate
from protocols.clinical.criteria import Statistics


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure with its interval.

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


@dataclass(frozen=True, slots=True)
class Fact:
    """What can be known of a study's sample.

    Parameters
    ----------
    title
        For people.
    unit
        UCUM code.
    of
        Where it is a percentage: the fact that says of how many, such as `pairs`. So a plan can tell how many
        more are wanted.
    title_fr
        The title in French.
    """

    title: str
    unit: str = "1"
    of: str = ""
    title_fr: str = ""


@dataclass(frozen=True, slots=True)
class Study:
    """Everything that evidence of one measurand can be asked.

    Parameters
    ----------
    metrics
        By name.
    facts
        By name: what `design_facts` may know.
    design_facts
        Returns the facts that evidence gives; a fact that is not known is left out.
    nothing
        Evidence of a study that has not begun.
    """

    metrics: Mapping[str, Metric]
    facts: Mapping[str, Fact]
    design_facts: Callable[[Any, Statistics], dict[str, float]]
    nothing: Any
