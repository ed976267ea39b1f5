"""The SaO2 of a controlled desaturation study: plateaus of stable saturation, spread over the range under test.

Volunteers breathe reduced oxygen so that their arterial saturation steps down through plateaus and back up;
pairs of readings are taken on the plateaus. Levels are stratified: the range is cut into as many equal bands as
there are plateaus, and each plateau lies at a random place of its band, so that a study's pairs spread evenly.

References
----------
ISO 80601-2-61, annex on the evaluation of SpO2 accuracy on human subjects: controlled desaturation from 100 %
to 70 % SaO2 with stable plateaus. Durations here are chosen for simulation and are parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.errors import DefinitionError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plateau:
    """A stretch `[start_s, end_s)` of constant SaO2, in run time."""

    start_s: float
    end_s: float
    sao2_percent: float


@dataclass(frozen=True, slots=True)
class SaturationProfile:
    """SaO2 over time: plateaus in order of time, joined by smooth transitions.

    Before the first plateau its level holds, after the last one that one's.

    Raises
    ------
    DefinitionError
        If there is no plateau, two overlap, or a level is outside 0 to 100 %.
    """

    plateaus: tuple[Plateau, ...]

    def __post_init__(self) -> None:
        if not self.plateaus:
            raise DefinitionError("plateaus is empty, expected at least 1")
        end_s = -np.inf
        for plateau in self.plateaus:
            if not end_s <= plateau.start_s < plateau.end_s:
                raise DefinitionError(f"{plateau}, expected to begin at {end_s} s or later and before its end")
            if not 0 <= plateau.sao2_percent <= 100:
                raise DefinitionError(f"sao2_percent={plateau.sao2_percent!r}, expected 0 to 100")
            end_s = plateau.end_s

    @property
    def end_s(self) -> float:
        """End of the last plateau."""
        return self.plateaus[-1].end_s

    def sao2_percent(self, times_s: FloatArray) -> FloatArray:
        """Return the SaO2 in % at run times in s, same shape."""
        knots_s = np.array([t for p in self.plateaus for t in (p.start_s, p.end_s)])
        levels = np.repeat([p.sao2_percent for p in self.plateaus], 2)
        after = np.clip(np.searchsorted(knots_s, times_s, side="right"), 1, knots_s.size - 1)
        span_s = np.maximum(knots_s[after] - knots_s[after - 1], 1e-9)
        way = np.clip((times_s - knots_s[after - 1]) / span_s, 0, 1)
        smooth = way * way * (3 - 2 * way)
        sao2: FloatArray = levels[after - 1] + smooth * (levels[after] - levels[after - 1])
        return sao2


def constant_saturation(sao2_percent: float = 98.0) -> SaturationProfile:
    """Return the profile of somebody who breathes room air throughout."""
    return SaturationProfile((Plateau(0.0, 1.0, sao2_percent),))


def controlled_desaturation(
    seed: int,
    *,
    n_plateaus: int = 6,
    lowest_percent: float = 70.0,
    highest_percent: float = 100.0,
    baseline_s: float = 40.0,
    plateau_s: float = 40.0,
    transition_s: float = 20.0,
    baseline_percent: float = 98.5,
) -> SaturationProfile:
    """Return one subject's profile: baseline, plateaus stepping down, recovery to the baseline.

    Parameters
    ----------
    seed
        Of the levels within their bands.
    n_plateaus
        Between baseline and recovery, at least 1.
    lowest_percent, highest_percent
        The range of SaO2 that the plateaus are spread over.
    baseline_s, plateau_s, transition_s
        Durations; the recovery lasts as long as the baseline.
    baseline_percent
        SaO2 at baseline and after recovery.

    Raises
    ------
    DefinitionError
        Names the value at fault.
    """
    if seed < 0:
        raise DefinitionError(f"seed={seed!r}, expected at least 0")
    if n_plateaus < 1:
        raise DefinitionError(f"n_plateaus={n_plateaus!r}, expected at least 1")
    if not 0 <= lowest_percent < highest_percent <= 100:
        raise DefinitionError(
            f"lowest_percent={lowest_percent!r} and highest_percent={highest_percent!r}, "
            "expected 0 <= lowest < highest <= 100"
        )
    for name, value in (("baseline_s", baseline_s), ("plateau_s", plateau_s), ("transition_s", transition_s)):
        if not value > 0:
            raise DefinitionError(f"{name}={value!r}, expected > 0")
    band = (highest_percent - lowest_percent) / n_plateaus
    places = np.random.default_rng([seed, 1]).uniform(0, 1, n_plateaus)
    levels = highest_percent - band * (np.arange(n_plateaus) + places)
    plateaus = [Plateau(0.0, baseline_s, baseline_percent)]
    for level, length_s in [(float(v), plateau_s) for v in levels] + [(baseline_percent, baseline_s)]:
        start_s = plateaus[-1].end_s + transition_s
        plateaus.append(Plateau(start_s, start_s + length_s, level))
    return SaturationProfile(tuple(plateaus))
