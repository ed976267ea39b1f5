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
from typing import Final, TypeVar

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
}
"""Kind of evidence -> what it is."""
UNPAIRED: Final = ("signal",)
"""Measurands that compare nothing with a reference."""
PAIRING_RULES: Final = {
    "windows": "means over windows of equal length in which the reference is stable",
    "nearest": "each reading of the reference with the nearest of the device",
    "bracketed": "each reading of the device with the mean of the reference's readings before and after it",
    "annotations": "detected beats with annotated ones, in time order",
    "spans": "one value for each stated span of time",
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
        _check_choice("comparison", self.comparison, COMPARISONS[:-1])
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
        _check_choice("comparison", self.comparison, COMPARISONS)
        _check_choice("judged", self.judged, JUDGED)
        _check_one_limit(self, wanted=self.comparison != "report")


@dataclass(frozen=True, slots=True)
class Pairing:
    """How readings of the device under test meet the reference.

    Parameters
    ----------
    window_s
        `windows`: length of the windows of which each gives one pair. `nearest`, `bracketed`, `annotations`:
        largest distance of a pair, inclusive. `spans`: without effect.
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
        _check_choice("rule", self.rule, tuple(PAIRING_RULES))
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
    parameters
        Numbers that it leaves open; `settle` them before judging.
    notes
        What a reader of a verdict must know besides.
    title_fr, notes_fr
        The same in French: as many notes, or none.
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
    parameters: tuple[Parameter, ...] = ()
    notes: tuple[str, ...] = ()
    title_fr: str = ""
    notes_fr: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_choice("status", self.status, STATUSES)
        _check_choice("measurand", self.measurand, tuple(MEASURANDS))
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
        if len(self.notes_fr) not in (0, len(self.notes)):
            raise DefinitionError(
                f"{len(self.notes_fr)} notes_fr, expected none or {len(self.notes)} as of notes"
            )
        for name in ("design", "criteria", "parameters"):
            ids = [rule.id for rule in getattr(self, name)]
            if len(set(ids)) != len(ids):
                raise DefinitionError(f"ids {ids} of {name}, expected different ones")
        known = tuple(parameter.id for parameter in self.parameters)
        rules: tuple[Requirement | Criterion, ...] = (*self.design, *self.criteria)
        for rule in rules:
            if rule.limit_parameter is not None:
                _check_choice(f"limit_parameter of {rule.id}", rule.limit_parameter, known)
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
        of_variant = f" ({variant.replace('_', ' ')})"
        title_fr = self.title_fr and self.title_fr + of_variant
        return replace(self, title=self.title + of_variant, title_fr=title_fr, criteria=criteria, variants=())

    def applied(
        self, variant: str | None = None, values: Mapping[str, float] = MappingProxyType({})
    ) -> ClinicalProtocol:
        """Return the protocol as it judges: a variant selected, its parameters settled.

        Raises
        ------
        DefinitionError
            If there is no such variant or parameter, or a needed one was not named.
        """
        if variant is not None:
            return self.select(variant).settle(values)
        if self.variants:
            raise DefinitionError(f"{self.id} needs a variant, expected one of {', '.join(self.variants)}")
        return self.settle(values)

    def settle(self, values: Mapping[str, float] = MappingProxyType({})) -> ClinicalProtocol:
        """Return the protocol with its parameters stated: limits in their place, and a note that says so.

        Raises
        ------
        DefinitionError
            If a value is of no parameter or out of its range, or a parameter without default has no value.
        """
        for name in values:
            _check_choice("parameter", name, tuple(parameter.id for parameter in self.parameters))
        stated: dict[str, float] = {}
        notes, notes_fr = list(self.notes), list(self.notes_fr or self.notes)
        for parameter in self.parameters:
            value = values.get(parameter.id, parameter.default)
            if value is None:
                raise DefinitionError(
                    f"parameter {parameter.id} of {self.id} is not stated, "
                    f"expected {parameter.title} in {parameter.unit}"
                )
            parameter.check(value)
            stated[parameter.id] = float(value)
            given = parameter.id in values
            how = "stated for this evaluation" if given else "by default"
            how_fr = "indiqué pour cette évaluation" if given else "par défaut"
            says = f"{value:g} {parameter.unit}"
            notes.append(f"{parameter.title}: {says}, {how} ({parameter.provenance}).")
            title_fr = parameter.title_fr or parameter.title
            notes_fr.append(f"{title_fr} : {says}, {how_fr} ({parameter.provenance}).")
        return replace(
            self,
            design=tuple(_settled(rule, stated) for rule in self.design),
            criteria=tuple(_settled(rule, stated) for rule in self.criteria),
            parameters=(),
            notes=tuple(notes),
            notes_fr=tuple(notes_fr),
        )


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


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
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


_Rule = TypeVar("_Rule", Requirement, Criterion)


def _settled(rule: _Rule, stated: Mapping[str, float]) -> _Rule:
    if rule.limit_parameter is None:
        return rule
    return replace(rule, limit=stated[rule.limit_parameter], limit_parameter=None)
