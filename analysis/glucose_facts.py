"""What the sample of a glucose study is like: lots, sites and matrices, lay users, ranges, rates of change.

Words about a pair are its labels, or its columns where they are numbers: `lot`, `vial`, `operator`, `site` (of
the puncture), `matrix` (capillary, venous, arterial, …), `altered` (`yes` where the glucose of the sample was
changed). Where a protocol asks something of every lot, site or matrix, the one that has fewest decides; pairs
without the word are one of their own, so that none escapes. A sample counts as unaltered unless it is said.

Facts of subjects count those of whom it is stated; a fact that is stated of nobody is left out, so that a
requirement on it is not met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.icgm import ICGM_CONTROLS, sensor_range
from analysis.metric import Fact
from analysis.paired_study import PairedStudy, facts_of, paired_facts, usable_by
from protocols.clinical.criteria import Statistics

_Floats: TypeAlias = NDArray[np.float64]

GLUCOSE: Final = "glucose"
"""The quantity."""
RATE: Final = "rate"
"""Column: rate of change that the device shows, in mg/dL per min."""
REFERENCE_RATE: Final = "reference_rate"
"""Column: rate of change of the reference, in mg/dL per min."""
NOT_STATED: Final = "not stated"
"""The lot, site or matrix of pairs of which none is stated."""
LAY_GROUPS: Final = ("patient", "lay", "carer")
"""User groups who are no professionals."""

_BINS: Final = ((0.0, 50.0), (50.0, 80.0), (80.0, 120.0), (120.0, 200.0), (200.0, 300.0), (300.0, 400.0))
_LAST_BIN: Final = (400.0, np.inf)
BINS_MGDL: Final = (*_BINS, _LAST_BIN)
"""Bins of the reference of ISO 15197:2013 (unconfirmed): above the first edge, up to the second."""
_FASTEST_MGDL_PER_MIN: Final = 50.0  # ten times the fastest seen in people; beyond, the unit is wrong (lab)


def words_of(pairs: PairedStudy, name: str) -> NDArray[np.str_]:
    """Return what is said of each pair under a name, as words, shape (n,); empty where nothing is."""
    words = pairs.labels.get(name, np.full(pairs.n_pairs, "", dtype=np.str_))
    numbers = pairs.columns.get(name)
    if numbers is None:
        return words
    named = np.array([f"{number:g}" if np.isfinite(number) else "" for number in numbers], dtype=np.str_)
    return np.where(words == "", named, words)


def strata(pairs: PairedStudy, name: str) -> dict[str, NDArray[np.bool_]]:
    """Return which pairs are of each lot, site or matrix; those without the word are one of their own."""
    words = words_of(pairs, name)
    return {word or NOT_STATED: words == word for word in np.unique(words).tolist()}


def rates_of(pairs: PairedStudy) -> tuple[_Floats, _Floats]:
    """Return the rates of change of reference and device of each pair, NaN where not known or impossible."""
    none = np.full(pairs.n_pairs, np.nan)
    true, sensed = (pairs.columns.get(name, none) for name in (REFERENCE_RATE, RATE))
    true, sensed = (np.where(np.abs(rate) <= _FASTEST_MGDL_PER_MIN, rate, np.nan) for rate in (true, sensed))
    return true, sensed


def bin_name(low_mgdl: float, high_mgdl: float) -> str:
    """Return the name of the share of a bin of `BINS_MGDL`."""
    if low_mgdl == 0.0:
        return f"up_to_{high_mgdl:g}_share_percent"
    if np.isinf(high_mgdl):
        return f"above_{low_mgdl:g}_share_percent"
    return f"above_{low_mgdl:g}_to_{high_mgdl:g}_share_percent"


_Count: TypeAlias = Callable[[PairedStudy], int]


def _subjects(pairs: PairedStudy) -> int:
    return int(np.unique(pairs.subjects).size)


def _lay_users(pairs: PairedStudy) -> int:
    return int(np.unique(pairs.subjects[np.isin(pairs.fact("user_group", missing=""), LAY_GROUPS)]).size)


def _unaltered(low_mgdl: float, high_mgdl: float) -> _Count:
    def count(pairs: PairedStudy) -> int:
        unaltered = ~np.isin(words_of(pairs, "altered"), ("yes", "1", "true"))
        return int((unaltered & (pairs.reference >= low_mgdl) & (pairs.reference < high_mgdl)).sum())

    return count


_FEWEST: Final[Mapping[str, tuple[str, _Count, str, str]]] = MappingProxyType(
    {
        "fewest_pairs_per_lot": (
            "lot",
            lambda pairs: pairs.n_pairs,
            "pairs of the lot that has fewest",
            "paires du lot qui en a le moins",
        ),
        "fewest_subjects_per_lot": (
            "lot",
            _subjects,
            "subjects of the lot that has fewest",
            "sujets du lot qui en a le moins",
        ),
        "fewest_subjects_per_site": (
            "site",
            _subjects,
            "subjects of the site that has fewest",
            "sujets du site qui en a le moins",
        ),
        "fewest_lay_users_per_site": (
            "site",
            _lay_users,
            "lay users of the site that has fewest",
            "utilisateurs profanes du site qui en a le moins",
        ),
        "fewest_subjects_per_matrix": (
            "matrix",
            _subjects,
            "subjects of the matrix that has fewest",
            "sujets de la matrice qui en a le moins",
        ),
        "fewest_below_80_per_site": (
            "site",
            _unaltered(-np.inf, 80.0),
            "unaltered samples below 80 mg/dL of the site that has fewest",
            "échantillons non modifiés sous 80 mg/dL du site qui en a le moins",
        ),
        "fewest_from_250_per_site": (
            "site",
            _unaltered(250.0, np.inf),
            "unaltered samples from 250 mg/dL of the site that has fewest",
            "échantillons non modifiés à partir de 250 mg/dL du site qui en a le moins",
        ),
        "fewest_below_80_per_matrix": (
            "matrix",
            _unaltered(-np.inf, 80.0),
            "unaltered samples below 80 mg/dL of the matrix that has fewest",
            "échantillons non modifiés sous 80 mg/dL de la matrice qui en a le moins",
        ),
        "fewest_from_300_per_matrix": (
            "matrix",
            _unaltered(300.0, np.inf),
            "unaltered samples from 300 mg/dL of the matrix that has fewest",
            "échantillons non modifiés à partir de 300 mg/dL de la matrice qui en a le moins",
        ),
    }
)
"""Fact -> label whose words tell strata, what is counted in each, titles."""
_KINDS: Final = MappingProxyType(
    {
        "lots": ("lot", "lots", "lots"),
        "sites": ("site", "sites of the puncture", "sites de prélèvement"),
        "matrices": ("matrix", "matrices of the sample", "matrices de l'échantillon"),
        "operators": ("operator", "operators", "opérateurs"),
        "vials": ("vial", "vials, those of different lots being different", "flacons, distingués par lot"),
    }
)
"""Fact -> label whose different words are counted, titles."""
_SENSOR_RANGES: Final = MappingProxyType(
    {
        "sensor_below_70": ("A", "pairs with a device below 70 mg/dL", "paires, dispositif sous 70 mg/dL"),
        "sensor_70_to_180": (
            "B",
            "pairs with a device of 70 to 180 mg/dL",
            "paires, dispositif de 70 à 180 mg/dL",
        ),
        "sensor_above_180": (
            "C",
            "pairs with a device above 180 mg/dL",
            "paires, dispositif au-dessus de 180 mg/dL",
        ),
    }
)
"""Fact -> special control whose range it is, titles."""


def _facts() -> dict[str, Fact]:
    facts = dict(facts_of(GLUCOSE))
    facts["sessions"] = Fact("sessions with pairs", title_fr="sessions avec des paires")
    facts["values_left_out"] = Fact(
        "moments with both values that were left out",
        title_fr="moments avec les deux valeurs qui ont été écartés",
    )
    facts["naive_share_percent"] = Fact(
        "share of the subjects who never used such a device",
        "%",
        "subjects",
        title_fr="part des sujets n'ayant jamais utilisé un tel dispositif",
    )
    facts["falling_moments"] = Fact(
        "pairs with a reference that falls by more than 2 mg/dL per min",
        title_fr="paires dont la référence baisse de plus de 2 mg/dL par min",
    )
    facts["rising_moments"] = Fact(
        "pairs with a reference that rises by more than 2 mg/dL per min",
        title_fr="paires dont la référence monte de plus de 2 mg/dL par min",
    )
    facts |= {name: Fact(title, title_fr=title_fr) for name, (_, title, title_fr) in _KINDS.items()}
    facts |= {name: Fact(title, title_fr=title_fr) for name, (*_, title, title_fr) in _FEWEST.items()}
    facts |= {name: Fact(title, title_fr=title_fr) for name, (_, title, title_fr) in _SENSOR_RANGES.items()}
    for low, high in BINS_MGDL:
        name = bin_name(low, high)
        said = name.removesuffix("_share_percent").replace("_", " ")
        said_fr = said.replace("up to", "jusqu'à").replace("above", "au-dessus de").replace(" to ", " à ")
        facts[name] = Fact(
            f"share of the pairs with a reference {said} mg/dL",
            "%",
            "pairs",
            title_fr=f"part des paires dont la référence est {said_fr} mg/dL",
        )
    return facts


GLUCOSE_FACTS: Final[Mapping[str, Fact]] = MappingProxyType(_facts())
"""What `glucose_facts` may know of a sample."""


def glucose_facts(study: PairedStudy, statistics: Statistics) -> dict[str, float]:
    """Return what the sample of a glucose study is like."""
    facts = paired_facts(study, GLUCOSE, statistics)
    pairs = usable_by(study.of(GLUCOSE), statistics)
    facts["sessions"] = float(len(set(zip(pairs.subjects.tolist(), pairs.sessions.tolist(), strict=True))))
    both = np.isfinite(study.of(GLUCOSE).differences)
    facts["values_left_out"] = float(both.sum() - pairs.n_pairs)
    for name, (label, _, _) in _KINDS.items():
        words = words_of(pairs, label)
        if (words != "").any():
            within = words_of(pairs, "lot") if label == "vial" else np.full(words.size, "")
            facts[name] = float(len({(a, b) for a, b in zip(within, words, strict=True) if b}))
    user_groups = pairs.fact("user_group", missing="")
    for name, (label, count, _, _) in _FEWEST.items():
        if count is _lay_users and not (user_groups != "").any():
            continue
        parts = strata(pairs, label)
        facts[name] = float(min((count(pairs.chosen(part)) for part in parts.values()), default=0))
    naive = {subject: facts_of_one.get("naive", "") for subject, facts_of_one in pairs.facts.items()}
    subjects = np.unique(pairs.subjects).tolist()
    answers = [naive.get(subject, "") for subject in subjects]
    if any(answers):
        facts["naive_share_percent"] = 100.0 * answers.count("yes") / len(answers)
    for low, high in BINS_MGDL:
        if pairs.n_pairs:
            inside = (pairs.reference > low) & (pairs.reference <= high)
            facts[bin_name(low, high)] = 100.0 * float(inside.mean())
    return facts | _sensor_facts(pairs)


def _sensor_facts(pairs: PairedStudy) -> dict[str, float]:
    """Return what the special controls of sensors are counted over."""
    ranges = {letter: edges for letter, edges, _, _ in ICGM_CONTROLS}
    facts = {
        name: float(sensor_range(pairs.test, *ranges[letter]).sum())
        for name, (letter, _, _) in _SENSOR_RANGES.items()
    }
    true, sensed = rates_of(pairs)
    known = np.isfinite(true) & np.isfinite(sensed)
    if known.any():
        facts["falling_moments"] = float((known & (true < -2.0)).sum())
        facts["rising_moments"] = float((known & (true > 2.0)).sum())
    return facts
