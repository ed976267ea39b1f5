"""What a clinical protocol says, and what was measured: the records that judgement compares.

A limit is never a bare number: it carries the clause it stands in, the source it was taken from, and how sure
we are of it (`CONFIDENCES`). Records hold what was said and check only that it can be meant; comparing is
`verdict.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from protocols.errors import DefinitionError

STATUSES: Final = ("in_force", "superseded", "draft")
MEASURANDS: Final = ("spo2", "qrs", "signal")
"""Saturation against a reference, beats against an annotator, or the recorded signals by themselves."""
UNPAIRED: Final = ("signal",)
"""Measurands that compare nothing with a reference."""
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
        _check_choice("confidence", self.confidence, tuple(CONFIDENCES))

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
    limit
        In `unit`.
    unit
        UCUM code.
    provenance
        Where it is written.
    """

    id: str
    title: str
    fact: str
    comparison: str
    limit: float
    unit: str
    provenance: Provenance

    def __post_init__(self) -> None:
        _check_choice("comparison", self.comparison, COMPARISONS[:-1])
        _check_finite("limit", self.limit)


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
    limit
        In `unit`; None exactly where the comparison is `report`.
    judged
        What is held against the limit: the `value`, or the `low` or `high` end of its interval.
    variant
        The kind of device that the criterion is for, one of the protocol's variants; None for all.
    """

    id: str
    title: str
    metric: str
    comparison: str
    unit: str
    provenance: Provenance
    limit: float | None = None
    judged: str = "value"
    variant: str | None = None

    def __post_init__(self) -> None:
        _check_choice("comparison", self.comparison, COMPARISONS)
        _check_choice("judged", self.judged, JUDGED)
        if (self.limit is None) != (self.comparison == "report"):
            raise DefinitionError(
                f"limit={self.limit!r} with comparison={self.comparison!r}, "
                "expected a limit exactly where the comparison is not 'report'"
            )
        if self.limit is not None:
            _check_finite("limit", self.limit)


@dataclass(frozen=True, slots=True)
class Pairing:
    """How readings of the device under test meet the reference.

    Parameters
    ----------
    window_s
        Oximetry: length of the windows of which each gives one pair. Beats: largest distance of a pair,
        inclusive.
    provenance
        Where it is written.
    learning_s
        Beats: time at the start of a record that is left out.
    stable_s, stable_range
        Oximetry: a window makes a pair only if the reference stayed within `stable_range` (largest minus
        smallest, in the measurand's unit) over the `stable_s` that end with it; without effect at 0 s.
    """

    window_s: float
    provenance: Provenance
    learning_s: float = 0.0
    stable_s: float = 0.0
    stable_range: float = math.inf

    def __post_init__(self) -> None:
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
class ClinicalProtocol:
    """One edition of a protocol.

    Parameters
    ----------
    id
        Lower case with hyphens, names the edition as well.
    title, edition
        For people.
    status
        One of `STATUSES`.
    measurand
        One of `MEASURANDS`: what kind of evidence it judges.
    design, criteria, pairing, statistics
        Its rules; a pairing rule exactly where the measurand is not one of `UNPAIRED`.
    superseded_by
        The edition that replaced it; given exactly where the status is `superseded`.
    variants
        Kinds of device with criteria of their own; `select` one before judging. Empty where there are none.
    notes
        What a reader of a verdict must know besides.
    """

    id: str
    title: str
    edition: str
    status: str
    measurand: str
    design: tuple[Requirement, ...]
    criteria: tuple[Criterion, ...]
    pairing: Pairing | None = None
    statistics: Statistics = field(default_factory=Statistics)
    superseded_by: str | None = None
    variants: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_choice("status", self.status, STATUSES)
        _check_choice("measurand", self.measurand, MEASURANDS)
        if (self.pairing is None) != (self.measurand in UNPAIRED):
            raise DefinitionError(
                f"pairing={self.pairing!r} with measurand={self.measurand!r}, "
                f"expected a rule exactly where the measurand is none of {', '.join(UNPAIRED)}"
            )
        if (self.superseded_by is None) != (self.status != "superseded"):
            raise DefinitionError(
                f"superseded_by={self.superseded_by!r} with status={self.status!r}, "
                "expected it exactly where the status is 'superseded'"
            )
        if not self.criteria:
            raise DefinitionError("no criteria, expected at least one")
        for name, rules in (("design", self.design), ("criteria", self.criteria)):
            ids = [rule.id for rule in rules]
            if len(set(ids)) != len(ids):
                raise DefinitionError(f"ids {ids} of {name}, expected different ones")
        for criterion in self.criteria:
            if criterion.variant is not None:
                _check_choice(f"variant of criterion {criterion.id}", criterion.variant, self.variants)

    @property
    def pairing_rule(self) -> Pairing:
        """The pairing rule of a protocol that compares with a reference.

        Raises
        ------
        DefinitionError
            If it does not.
        """
        if self.pairing is None:
            raise DefinitionError(f"{self.id} judges {self.measurand} and pairs nothing")
        return self.pairing

    def select(self, variant: str) -> ClinicalProtocol:
        """Return the protocol as it applies to one of its variants.

        Raises
        ------
        DefinitionError
            If there is no such variant.
        """
        if not self.variants:
            raise DefinitionError(f"variant={variant!r}, but {self.id} has no variants")
        _check_choice("variant", variant, self.variants)
        criteria = tuple(replace(c, variant=None) for c in self.criteria if c.variant in (None, variant))
        title = f"{self.title} ({variant.replace('_', ' ')})"
        return replace(self, title=title, criteria=criteria, variants=())


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
    details: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if len({self.low is None, self.high is None, self.level is None}) != 1:
            raise DefinitionError(
                f"interval low={self.low!r} high={self.high!r} level={self.level!r} of {self.metric}, "
                "expected all three or none"
            )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise DefinitionError(f"{name}={value!r}, expected one of {', '.join(choices) or 'none'}")


def _check_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise DefinitionError(f"{name}={value!r}, expected a finite number")
