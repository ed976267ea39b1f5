"""One edition of a clinical protocol: its rules together, as they stand and as they are applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from protocols.clinical.criteria import (
    MEASURANDS,
    STATUSES,
    UNPAIRED,
    Criterion,
    Pairing,
    Parameter,
    Requirement,
    Statistics,
    check_choice,
)
from protocols.errors import DefinitionError


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
        check_choice("status", self.status, STATUSES)
        check_choice("measurand", self.measurand, tuple(MEASURANDS))
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
                check_choice(f"limit_parameter of {rule.id}", rule.limit_parameter, known)
        for criterion in self.criteria:
            if criterion.variant is not None:
                check_choice(f"variant of criterion {criterion.id}", criterion.variant, self.variants)

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
        check_choice("variant", variant, self.variants)
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
            check_choice("parameter", name, tuple(parameter.id for parameter in self.parameters))
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
            says = f"{value:g}" if parameter.unit == "1" else f"{value:g} {parameter.unit}"
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


_Rule = TypeVar("_Rule", Requirement, Criterion)


def _settled(rule: _Rule, stated: Mapping[str, float]) -> _Rule:
    if rule.limit_parameter is None:
        return rule
    return replace(rule, limit=stated[rule.limit_parameter], limit_parameter=None)
