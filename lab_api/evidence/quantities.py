"""What a measurand is made of: its quantities, the channels they come from, and the units these may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from analysis.paired_study import PLAUSIBLE
from protocols.errors import DefinitionError

MMOL_PER_L_IN_MGDL: Final = 18.0182
"""Molar mass of glucose, 180.182 g/mol, over 10."""


@dataclass(frozen=True, slots=True)
class Unit:
    """How a value in a unit becomes one in the quantity's own: `value * factor + offset`."""

    factor: float = 1.0
    offset: float = 0.0


_PRESSURE: Final = {"mm[Hg]": Unit(), "kPa": Unit(7.50062)}
_PER_MINUTE: Final = {"/min": Unit(), "Hz": Unit(60.0)}


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number that a pair compares.

    Parameters
    ----------
    name
        As in `analysis.paired_study.PLAUSIBLE`.
    channels
        What streams call it; the first that a device has is taken.
    units
        UCUM code -> how it becomes the quantity's own.
    """

    name: str
    channels: tuple[str, ...]
    units: Mapping[str, Unit]

    @property
    def unit(self) -> str:
        """UCUM code of the quantity's own unit."""
        return PLAUSIBLE[self.name][2]

    def convert(self, unit: str) -> Unit:
        """Return how a value in `unit` becomes one in the quantity's own.

        Raises
        ------
        DefinitionError
            If it cannot.
        """
        if unit not in self.units:
            raise DefinitionError(f"{self.name} in {unit!r}, expected one of {', '.join(self.units)}")
        return self.units[unit]


QUANTITIES: Final[Mapping[str, tuple[Quantity, ...]]] = MappingProxyType(
    {
        "spo2": (Quantity("spo2", ("spo2", "sao2"), {"%": Unit(), "1": Unit(100.0)}),),
        "blood_pressure": (
            Quantity("sbp", ("systolic", "sbp"), _PRESSURE),
            Quantity("dbp", ("diastolic", "dbp"), _PRESSURE),
        ),
        "heart_rate": (Quantity("heart_rate", ("heart_rate", "pulse_rate"), _PER_MINUTE),),
        "respiratory_rate": (Quantity("respiratory_rate", ("respiratory_rate",), _PER_MINUTE),),
        "temperature": (
            Quantity(
                "temperature",
                ("temperature",),
                {"Cel": Unit(), "K": Unit(1.0, -273.15), "[degF]": Unit(5 / 9, -160 / 9)},
            ),
        ),
        "glucose": (Quantity("glucose", ("glucose",), {"mg/dL": Unit(), "mmol/L": Unit(MMOL_PER_L_IN_MGDL)}),),
        "steps": (Quantity("steps", ("steps",), {"1": Unit(), "{steps}": Unit()}),),
    }
)
"""Measurand that is compared pair by pair -> its quantities."""
