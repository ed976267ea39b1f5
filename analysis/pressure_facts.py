"""What the sample of a blood pressure study is like: pressures, pairs of each subject, limbs and cuffs.

Shares of pressures are of the pairs of that pressure; subjects in a band of pressure are counted by the mean of
their reference. Limbs are counted over the range of circumferences that the device's cuffs are for, which the
protocol states; lower parts leave out their upper edge, upper parts include both. What is not known of every
subject is left out, so that a requirement on it is not met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.metric import Fact
from analysis.paired_study import PAIRED_FACTS, PairedStudy, paired_facts, subject_facts, usable_by
from analysis.pressure_reference import (
    LARGEST_CIRCUMFERENCE,
    LEAST_CIRCUMFERENCE,
    LIMB_COLUMNS,
    UNSTEADY_SUBJECTS,
    unsteady,
)
from analysis.variance_components import one_way
from protocols.clinical.criteria import Statistics

_Floats: TypeAlias = NDArray[np.float64]

PRESSURES: Final[Mapping[str, str]] = MappingProxyType({"sbp": "systolic", "dbp": "diastolic"})
"""Quantity -> its name."""
PAIRS_EACH: Final = 3
"""Pairs of each subject that studies of intermittent monitors ask for."""

_SHARES: Final = (
    *(("sbp", "up_to", 100), ("sbp", "from", 140), ("sbp", "from", 160)),
    *(("dbp", "up_to", 60), ("dbp", "up_to", 70), ("dbp", "from", 85), ("dbp", "from", 100)),
)
"""Pressure, side and edge (inclusive) of the shares that protocols ask for."""
_BANDS: Final[Mapping[str, tuple[tuple[float, float, str], ...]]] = MappingProxyType(
    {
        # whole mmHg, as the protocols state them: 130 to 160 ends below 161
        "sbp": (
            (-np.inf, 90, "below_90"),
            (90, 130, "90_to_129"),
            (-np.inf, 130, "below_130"),
            (130, 161, "130_to_160"),
            (161, 181, "161_to_180"),
            (161, np.inf, "above_160"),
            (181, np.inf, "above_180"),
        ),
        "dbp": (
            (-np.inf, 60, "below_60"),
            (60, 80, "60_to_79"),
            (-np.inf, 80, "below_80"),
            (80, 101, "80_to_100"),
            (101, 111, "101_to_110"),
            (101, np.inf, "above_100"),
            (111, np.inf, "above_110"),
        ),
    }
)
"""Pressure -> bands of the subject's mean reference: from, below, name."""
_LIMB_PARTS: Final[Mapping[str, Callable[[_Floats], NDArray[np.bool_]]]] = MappingProxyType(
    {
        "lower_half": lambda place: (place >= 0) & (place < 1 / 2),
        "upper_half": lambda place: (place >= 1 / 2) & (place <= 1),
        "lower_quarter": lambda place: (place >= 0) & (place < 1 / 4),
        "upper_quarter": lambda place: (place >= 3 / 4) & (place <= 1),
        "lower_octile": lambda place: (place >= 0) & (place < 1 / 8),
        "upper_octile": lambda place: (place >= 7 / 8) & (place <= 1),
    }
)
"""Part of the cuffs' range of circumferences -> whether a limb, placed between 0 and 1, lies in it."""
_PRESSURES_FR: Final[Mapping[str, str]] = MappingProxyType({"sbp": "systolique", "dbp": "diastolique"})
_SIDES_FR: Final[Mapping[str, str]] = MappingProxyType({"up_to": "jusqu'à", "from": "à partir de"})
_LIMB_PARTS_FR: Final[Mapping[str, str]] = MappingProxyType(
    {
        "lower_half": "la moitié inférieure",
        "upper_half": "la moitié supérieure",
        "lower_quarter": "le quart inférieur",
        "upper_quarter": "le quart supérieur",
        "lower_octile": "le huitième inférieur",
        "upper_octile": "le huitième supérieur",
    }
)
_OWN_FACTS: Final[Mapping[str, Fact]] = MappingProxyType(
    {
        "pairs": Fact(
            "pairs of the pressure that has fewer", title_fr="paires de la pression qui en a le moins"
        ),
        "subjects_with_three_pairs": Fact(
            "subjects with three pairs or more of each pressure",
            title_fr="sujets avec au moins trois paires pour chaque pression",
        ),
        "most_pairs_per_subject": Fact(
            "pairs of a pressure of the subject that has most",
            title_fr="paires d'une pression du sujet qui en a le plus",
        ),
        "fewest_pairs_per_subject": Fact(
            "pairs of a pressure of the subject that has fewest",
            title_fr="paires d'une pression du sujet qui en a le moins",
        ),
        UNSTEADY_SUBJECTS: Fact(
            "subjects judged though their reference varied by more than 12 or 8 mmHg",
            title_fr="sujets jugés bien que leur référence ait varié de plus de 12 ou 8 mmHg",
        ),
        "pairs_without_reference_sd": Fact(
            "pairs without the standard deviation of the reference",
            title_fr="paires sans écart-type de la référence",
        ),
        LEAST_CIRCUMFERENCE: Fact(
            "smallest circumference of a limb", "cm", title_fr="plus petite circonférence d'un membre"
        ),
        LARGEST_CIRCUMFERENCE: Fact(
            "largest circumference of a limb", "cm", title_fr="plus grande circonférence d'un membre"
        ),
        "cuffs": Fact("sizes of cuff", title_fr="tailles de brassard"),
        "rarest_cuff_percent": Fact(
            "subjects with the rarest of n cuffs, of 1/(2n) of all",
            "%",
            title_fr="sujets avec le brassard le plus rare parmi n, rapportés à 1/(2n) du total",
        ),
        "n_independent": Fact(
            "independent pairs that the pairs of the pressure with fewer are worth",
            title_fr="paires indépendantes équivalentes, pour la pression qui en a le moins",
        ),
    }
)


def _facts() -> dict[str, Fact]:
    facts = {**PAIRED_FACTS, **_OWN_FACTS}
    for part, part_fr in _LIMB_PARTS_FR.items():
        facts[f"limb_{part}_share_percent"] = Fact(
            f"subjects with a limb in the {part.replace('_', ' ')} of the range",
            "%",
            "subjects",
            title_fr=f"sujets dont le membre est dans {part_fr} de la plage",
        )
    for quantity, name in PRESSURES.items():
        name_fr = _PRESSURES_FR[quantity]
        facts[f"{quantity}_pairs"] = Fact(f"{name} pairs", title_fr=f"paires de pression {name_fr}")
        for low, below, band in _BANDS[quantity]:
            facts[f"{quantity}_subjects_{band}"] = Fact(
                f"subjects of {name} pressure {band.replace('_', ' ')}",
                title_fr=f"sujets de pression {name_fr} {_band_fr(low, below)}",
            )
    for quantity, side, edge in _SHARES:
        facts[_share_name(quantity, side, edge)] = Fact(
            f"{PRESSURES[quantity]} references {side.replace('_', ' ')} {edge}",
            "%",
            f"{quantity}_pairs",
            title_fr=f"références de pression {_PRESSURES_FR[quantity]} {_SIDES_FR[side]} {edge}",
        )
    return facts


def _band_fr(low: float, below: float) -> str:
    if np.isinf(low):
        return f"inférieure à {below:g}"
    return f"supérieure à {low - 1:g}" if np.isinf(below) else f"de {low:g} à {below - 1:g}"


def _share_name(quantity: str, side: str, edge: int) -> str:
    return f"{quantity}_{side}_{edge}_share_percent"


PRESSURE_FACTS: Final[Mapping[str, Fact]] = MappingProxyType(_facts())
"""What `pressure_facts` may know of a sample."""


def accuracy_pairs(study: PairedStudy) -> PairedStudy:
    """Return the pairs that tell of accuracy: those without a `phase`, or of the phase `accuracy`."""
    phase = study.labels.get("phase")
    return study if phase is None else study.chosen((phase == "") | (phase == "accuracy"))


def pressure_facts(study: PairedStudy, statistics: Statistics) -> dict[str, float]:
    """Return what the sample of a blood pressure study is like."""
    study = accuracy_pairs(study)
    by_quantity = {quantity: usable_by(study.of(quantity), statistics) for quantity in PRESSURES}
    both = usable_by(study, statistics)
    facts = {
        name: value
        for name, value in paired_facts(study, "sbp", statistics).items()
        if name in ("reference_smallest", "reference_largest")
    }
    counts = _pairs_each(both, by_quantity)
    several = counts if counts.size else np.zeros(1)
    facts |= {
        "subjects": float(both.n_subjects),
        "pairs": float(min(part.n_pairs for part in by_quantity.values())),
        "subjects_with_three_pairs": float((counts >= PAIRS_EACH).all(axis=0).sum()),
        "fewest_pairs_per_subject": float(several.min()),
        "most_pairs_per_subject": float(several.max()),
        "excluded": float(len(both.excluded)),
        "read_rate_percent": _read_rate_percent(both),
        UNSTEADY_SUBJECTS: float(np.unique(both.subjects[unsteady(both)]).size),
        "pairs_without_reference_sd": float(_without_sd(both)),
    }
    for quantity, part in by_quantity.items():
        facts[f"{quantity}_pairs"] = float(part.n_pairs)
        facts |= _bands(part, quantity)
    for quantity, side, edge in _SHARES:
        reference = by_quantity[quantity].reference
        if reference.size:
            inside = reference <= edge if side == "up_to" else reference >= edge
            facts[_share_name(quantity, side, edge)] = 100.0 * float(inside.mean())
    worth = [independent_pairs(part) for part in by_quantity.values()]
    if np.isfinite(worth).all():
        facts["n_independent"] = min(worth)
    return facts | subject_facts(both) | _limbs(both) | _cuffs(both)


def independent_pairs(pairs: PairedStudy) -> float:
    """Return the number of independent pairs that pairs of one pressure are worth; NaN if it cannot be told.

    References
    ----------
    ISO 81060-3:2022 (secondary), as `continuous_pressure.iso_81060_3`.
    """
    n, k = pairs.n_pairs, pairs.n_subjects
    if k < 2 or n == k:
        return float("nan")
    parts = one_way(pairs.differences, np.unique(pairs.subjects, return_inverse=True)[1])
    between, within = max(0.0, float(parts.between_component)), float(parts.within)
    icc = between / (between + within) if between + within > 0.0 else float("nan")
    return k * (1.0 + (1.0 - icc) * (n / k - 1.0))


def _pairs_each(both: PairedStudy, by_quantity: Mapping[str, PairedStudy]) -> NDArray[np.intp]:
    """Return the pairs of each pressure of each subject, shape (2, n_subjects)."""
    names = np.unique(both.subjects)
    return np.array(
        [
            np.bincount(np.searchsorted(names, part.subjects), minlength=names.size)
            for part in by_quantity.values()
        ]
    )


def _read_rate_percent(both: PairedStudy) -> float:
    silent = sum(excluded.reason == "the device showed no value" for excluded in both.excluded)
    impossible = sum(excluded.reason == "the device's value is impossible" for excluded in both.excluded)
    moments = both.n_pairs + silent + impossible
    return 100.0 * (moments - silent) / moments if moments else float("nan")


def _without_sd(both: PairedStudy) -> int:
    sd = both.columns.get("reference_sd")
    return both.n_pairs if sd is None else int((~(sd >= 0.0)).sum())


def _bands(pairs: PairedStudy, quantity: str) -> dict[str, float]:
    numbers = np.unique(pairs.subjects, return_inverse=True)[1]
    means = (
        np.bincount(numbers, weights=pairs.reference) / np.bincount(numbers) if numbers.size else np.empty(0)
    )
    return {
        f"{quantity}_subjects_{name}": float(((means >= low) & (means < below)).sum())
        for low, below, name in _BANDS[quantity]
    }


def _limbs(both: PairedStudy) -> dict[str, float]:
    """Return how the limbs of the subjects lie in the range that the cuffs are for."""
    first = np.unique(both.subjects, return_index=True)[1]
    circumference = both.fact("arm_circumference_cm").astype(np.float64)[first]
    if not circumference.size or np.isnan(circumference).any():
        return {}
    facts = {LEAST_CIRCUMFERENCE: float(circumference.min()), LARGEST_CIRCUMFERENCE: float(circumference.max())}
    if all(name in both.columns for name in LIMB_COLUMNS):
        low, high = (float(both.columns[name][0]) for name in LIMB_COLUMNS)
        place = (circumference - low) / (high - low) if high > low else np.full(circumference.size, np.nan)
        for part, holds in _LIMB_PARTS.items():
            facts[f"limb_{part}_share_percent"] = 100.0 * float(holds(place).mean())
    return facts


def _cuffs(both: PairedStudy) -> dict[str, float]:
    """Return how many cuffs were used; one where none is named, nothing where only some are."""
    if not both.n_pairs:
        return {}
    cuffs = both.fact("cuff", missing="").astype(np.str_)
    of_pairs = both.columns.get("cuff", both.labels.get("cuff"))  # a table may number its cuffs
    if of_pairs is not None:
        cuffs = np.where(cuffs == "", of_pairs.astype(np.str_), cuffs)
    used = {(str(subject), str(cuff)) for subject, cuff in zip(both.subjects, cuffs, strict=True)}
    names = {cuff for _, cuff in used}
    if "" in names and len(names) > 1:
        return {}
    rarest = min(sum(cuff == name for _, cuff in used) for name in names)
    even = both.n_subjects / (2.0 * len(names))
    return {"cuffs": float(len(names)), "rarest_cuff_percent": 100.0 * rarest / even}
