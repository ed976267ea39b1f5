"""The rules of a clinical protocol: what is required of a sample, what is held against which limit, and whence.

A limit is never a bare number: it carries the clause it stands in, the source it was taken from, and how sure
we are of it (`CONFIDENCES`). Records hold what was said and check only that it can be meant; comparing is
`verdict.py`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Final

from protocols.errors import DefinitionError

STATUSES: Final = ("in_force", "superseded", "draft")
MEASURANDS: Final = {
    "spo2": "oxygen saturation against a reference",
    "blood_pressure": "systolic and diastolic pressure against a reference",
    "heart_rate": "heart or pulse rate against a reference",
    "respiratory_rate": "breaths per minute against a reference",
    "temperature": "body temperature against a reference",
    "glucose": "glucose against a reference",
    "steps": "steps counted against a reference",
    "qrs": "heartbeats, their classes and rhythms against an annotator",
    "signal": "the recorded signals by themselves",
    "sleep": "hypnograms against a reference, by night and by epoch",
    "spirometry": "forced expirations by themselves",
    "usability": "answers to questionnaires",
    "use_errors": "what participants did in the tasks of a summative evaluation",
}
"""Kind of evidence -> what it is."""
UNPAIRED: Final = ("signal", "spirometry", "usability", "use_errors")
"""Measurands that compare nothing with a reference."""
PAIRING_RULES: Final = {
    "windows": "means over windows of equal length in which the reference is stable",
    "nearest": "each reading of the reference with the nearest of the device",
    "bracketed": "each reading of the device with the mean of the reference's readings before and after it",
    "preceding": "each reading of the device with mean and spread of the reference's in the time before it",
    "annotations": "detected beats with annotated ones, in time order",
    "spans": "one value for each stated span of time",
    "epochs": "each epoch of the reference with the epoch of the device that holds its middle",
}
"""Rule of pairing -> what it does."""
COMPARISONS: Final = ("<=", "<", ">=", ">", "report")
JUDGED: Final = ("value", "low", "high")
CONFIDENCES: Final = {
    "read": "the legal or guidance text itself was read",
    "secondary": "stated in public secondary text",
    "unconfirmed": "from memory; confirm against the standard",
    "lab": "set by the lab, not by a standard",
}
"""Confidence in a limit -> what it means."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a rule comes from.

    Parameters
    ----------
    source
        Document or page it was taken from.
    confidence
        One of `CONFIDENCES`.
    clause
        Clause or section in the protocol's own document; empty where it is not known.
    """

    source: str
    confidence: str
    clause: str = ""

    def __post_init__(self) -> None:
        if not self.source:
            raise DefinitionError("source is empty, expected where the rule was taken from")
        check_choice("confidence", self.confidence, tuple(CONFIDENCES))

    def __str__(self) -> str:
        clause = f"{self.clause}, " if self.clause else ""
        return f"{clause}{self.source} ({self.confidence})"


@dataclass(frozen=True, slots=True)
class Requirement:
    """What the sample of a study must be like before its statistics decide anything.

    Parameters
    ----------
    id
        Unique among the protocol's requirements.
    title
        For people.
    fact
        Name of the design fact that is compared.
    comparison
        How the fact relates to the limit, one of `<=`, `<`, `>=`, `>`.
    unit
        UCUM code of fact and limit.
    provenance
        Where it is written.
    limit
        In `unit`.
    limit_parameter
        The protocol's parameter that is the limit, in place of a number.
    title_fr
        The title in French; the English one serves where it is empty.
    """

    id: str
    title: str
    fact: str
    comparison: str
    unit: str
    provenance: Provenance
    limit: float | None = None
    limit_parameter: str | None = None
    title_fr: str = ""

    def __post_init__(self) -> None:
        check_choice("comparison", self.comparison, COMPARISONS[:-1])
        _check_one_limit(self, wanted=True)


@dataclass(frozen=True, slots=True)
class Criterion:
    """A metric and the limit it is held against, or a metric that only has to be reported.

    Parameters
    ----------
    id
        Unique among the protocol's criteria.
    title
        For people.
    metric
        Name of the metric, an entry of `analysis.metrics.METRICS`.
    comparison
        How the metric relates to the limit: `<=`, `<`, `>=`, `>`, or `report` where there is no limit.
    unit
        UCUM code of metric and limit.
    provenance
        Where it is written.
    limit, limit_parameter, limit_metric
        The limit in `unit`, or the protocol's parameter or the metric that is the limit; one of the three, and
        none exactly where the comparison is `report`.
    judged
        What is held against the limit: the `value`, or the `low` or `high` end of its interval.
    variant
        The kind of device that the criterion is for, one of the protocol's variants; None for all.
    title_fr
        As of a `Requirement`.
    """

    id: str
    title: str
    metric: str
    comparison: str
    unit: str
    provenance: Provenance
    limit: float | None = None
    limit_parameter: str | None = None
    limit_metric: str | None = None
    judged: str = "value"
    variant: str | None = None
    title_fr: str = ""

    def __post_init__(self) -> None:
        check_choice("comparison", self.comparison, COMPARISONS)
        check_choice("judged", self.judged, JUDGED)
        _check_one_limit(self, wanted=self.comparison != "report")


@dataclass(frozen=True, slots=True)
class Pairing:
    """How readings of the device under test meet the reference.

    Parameters
    ----------
    window_s
        `windows`: length of the windows of which each gives one pair. `nearest`, `bracketed`, `annotations`:
        largest distance of a pair, inclusive. `preceding`: length of the time before a reading. `spans`: how
        old the reading of a running counter may be at a span's borders, without effect elsewhere. `epochs`:
        length of an epoch where the readings carry no rate.
    provenance
        Where it is written.
    rule
        One of `PAIRING_RULES`.
    learning_s
        `annotations`: time at the start of a record that is left out.
    stable_s, stable_range
        `windows`: a window makes a pair only if the reference stayed within `stable_range` (largest minus
        smallest, in the measurand's unit) over the `stable_s` that end with it; without effect at 0 s.
    align
        Whether the lag of the device under test is estimated from the readings and taken out before pairing.
        It is reported in either case where it can be told.
    """

    window_s: float
    provenance: Provenance
    rule: str = "windows"
    learning_s: float = 0.0
    stable_s: float = 0.0
    stable_range: float = math.inf
    align: bool = False

    def __post_init__(self) -> None:
        check_choice("rule", self.rule, tuple(PAIRING_RULES))
        if not (math.isfinite(self.window_s) and self.window_s > 0):
            raise DefinitionError(f"window_s={self.window_s!r}, expected a finite number > 0")
        for name in ("learning_s", "stable_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise DefinitionError(f"{name}={value!r}, expected a finite number >= 0")
        if not self.stable_range > 0:
            raise DefinitionError(f"stable_range={self.stable_range!r}, expected > 0")


@dataclass(frozen=True, slots=True)
class Statistics:
    """How the statistics are computed; part of the document, so that the same sessions give the same report.

    Parameters
    ----------
    confidence_level
        Of every interval, above 0 and below 1.
    bootstrap_replicates, seed
        Of the bootstrap by subject.
    band_edges
        Edges of the reference's bands, ascending, in the measurand's unit: half-open but for the last, which
        includes its upper edge. Reference values outside all bands are excluded and counted. Empty for no
        bands.
    """

    confidence_level: float = 0.95
    bootstrap_replicates: int = 10_000
    seed: int = 1
    band_edges: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.confidence_level < 1:
            raise DefinitionError(f"confidence_level={self.confidence_level!r}, expected above 0 and below 1")
        if not 1 <= self.bootstrap_replicates <= 1_000_000:
            raise DefinitionError(f"bootstrap_replicates={self.bootstrap_replicates!r}, expected 1 to 1000000")
        if not 0 <= self.seed < 1 << 63:
            raise DefinitionError(f"seed={self.seed!r}, expected 0 to 2^63-1")
        edges = self.band_edges
        if len(edges) == 1 or any(low >= high for low, high in itertools.pairwise(edges)):
            raise DefinitionError(f"band_edges={list(edges)}, expected none, or two or more that ascend")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that a protocol leaves open: a maker's claim, or a size that the study's plan states.

    Parameters
    ----------
    id
        Unique among the protocol's parameters.
    title
        For people.
    unit
        UCUM code.
    provenance
        Where it is written that the number is to be stated.
    default
        What holds where none is stated; None if one has to be.
    least, most
        The range it is to lie in, inclusive.
    title_fr
        As of a `Requirement`.
    """

    id: str
    title: str
    unit: str
    provenance: Provenance
    default: float | None = None
    least: float = -math.inf
    most: float = math.inf
    title_fr: str = ""

    def __post_init__(self) -> None:
        if self.default is not None:
            self.check(self.default)

    def check(self, value: float) -> None:
        """Refuse a value out of range.

        Raises
        ------
        DefinitionError
            Names value and range.
        """
        if not (math.isfinite(value) and self.least <= value <= self.most):
            expected = f"{self.least:g} to {self.most:g} {self.unit}"
            raise DefinitionError(f"parameter {self.id}={value!r}, expected a number of {expected}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not one of those that a key may hold.

    Raises
    ------
    DefinitionError
        Names key, value and choices.
    """
    if value not in choices:
        raise DefinitionError(f"{name}={value!r}, expected one of {', '.join(choices) or 'none'}")


def _check_one_limit(rule: Requirement | Criterion, *, wanted: bool) -> None:
    """Refuse a rule that has no limit though one is wanted, more than one, or one that is no finite number."""
    limits = {
        name: getattr(rule, name, None)
        for name in ("limit", "limit_parameter", "limit_metric")
        if getattr(rule, name, None) is not None
    }
    if len(limits) != wanted:
        raise DefinitionError(
            f"limits {limits} with comparison={rule.comparison!r}, "
            "expected one limit, and none exactly where the comparison is 'report'"
        )
    if rule.limit is not None and not math.isfinite(rule.limit):
        raise DefinitionError(f"limit={rule.limit!r}, expected a finite number")
