"""Groups of skin tone: what is known of subjects, as groups that an oximeter's bias can be compared between.

The Monk scale has ten tones, judged against a card; the individual typology angle (ITA) is measured by a
colorimeter, `atan((L* - 50) / b*)`, and lower for darker skin. A study that knows Monk tones is grouped by
them, one that knows only angles by these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from analysis.metric import Fact
from analysis.paired_study import PairedStudy

_Floats: TypeAlias = NDArray[np.float64]
_Strings: TypeAlias = NDArray[np.str_]

LABEL: Final = "skin_tone"
"""Name of the label of pairs."""
MONK_GROUPS: Final = ((1, 4), (5, 7), (8, 10))
"""Tones of each group, both included (FDA draft of 2025, from secondary text)."""
DARK_ITA_DEG: Final = -50.0
"""At or below this angle a subject of the darkest group counts as measured dark (secondary)."""
_ITA_EDGES_DEG: Final = (-30.0, 30.0)
"""Edges of the groups by angle alone, as open scripts of oximeter studies cut them (secondary)."""
_MONK, _ITA = "skin_tone_mst", "ita_deg"

_MONK_NAMES: Final = tuple(f"Monk {low}-{high}" for low, high in MONK_GROUPS)
_ITA_NAMES: Final = ("ITA < -30", "ITA -30 to 30", "ITA > 30")


def monk_group(tones: _Floats) -> _Strings:
    """Return the group of each Monk tone, shape (...); empty where the tone is NaN. Half tones count up."""
    starts = [low for low, _ in MONK_GROUPS]
    place = np.searchsorted(starts, np.floor(np.nan_to_num(tones, nan=1.0) + 0.5), side="right") - 1
    return np.where(np.isnan(tones), "", np.array(_MONK_NAMES)[np.maximum(place, 0)])


def ita_group(ita_deg: _Floats) -> _Strings:
    """Return the group of each angle, shape (...): below -30, -30 to 30, above 30; empty where it is NaN."""
    low, high = _ITA_EDGES_DEG
    place = (ita_deg >= low).astype(np.intp) + (ita_deg > high)
    return np.where(np.isnan(ita_deg), "", np.array(_ITA_NAMES)[place])


def monk_groups(study: PairedStudy) -> _Strings:
    """Return the Monk group of each pair's subject, shape (n,); empty where it is not known."""
    return monk_group(_known(study, _MONK))


def ita_deg(study: PairedStudy) -> _Floats:
    """Return the angle of each pair's subject, shape (n,); NaN where it is not known."""
    return _known(study, _ITA)


def labelled(study: PairedStudy) -> PairedStudy:
    """Return the study with the label `skin_tone` for its pairs, where anything is known and none is there."""
    if LABEL in study.labels:
        return study
    if LABEL in study.columns:  # a table of numbers names groups all the same
        columns = {name: column for name, column in study.columns.items() if name != LABEL}
        words = ["" if np.isnan(tone) else f"{tone:g}" for tone in study.columns[LABEL]]
        return replace(study, columns=columns, labels={**study.labels, LABEL: np.array(words, dtype=np.str_)})
    groups = monk_groups(study)
    if not (groups != "").any():
        groups = ita_group(ita_deg(study))
    if not (groups != "").any():
        return study
    return replace(study, labels={**study.labels, LABEL: groups})


def _share(low: int, high: int) -> str:
    return f"monk_{low}_{high}_share_percent"


TONE_FACTS: Final[Mapping[str, Fact]] = MappingProxyType(
    {
        **{
            _share(low, high): Fact(
                f"share of subjects of Monk tone {low} to {high}",
                "%",
                "subjects",
                title_fr=f"part des sujets de teinte Monk {low} à {high}",
            )
            for low, high in MONK_GROUPS
        },
        "darkest_subjects": Fact("subjects of Monk tone 8 to 10", title_fr="sujets de teinte Monk 8 à 10"),
        "darkest_at_ita_mark_percent": Fact(
            "share of the subjects of Monk tone 8 to 10 with an ITA of -50 degrees or less",
            "%",
            "darkest_subjects",
            title_fr="part des sujets de teinte Monk 8 à 10 dont l'ITA est de -50 degrés ou moins",
        ),
        "subjects_without_tone": Fact(
            "subjects whose Monk tone is not known", title_fr="sujets de teinte Monk inconnue"
        ),
        "subjects_without_ita": Fact("subjects whose ITA is not known", title_fr="sujets d'ITA inconnu"),
    }
)
"""What `tone_facts` may know of a sample."""


def tone_facts(pairs: PairedStudy) -> dict[str, float]:
    """Return how the subjects of pairs spread over skin tones, in shares of all subjects.

    A subject whose tone is not known is in no group. Nothing is said where no tone is known.
    """
    first = np.unique(pairs.subjects, return_index=True)[1]
    of_subjects = pairs.chosen(np.isin(np.arange(pairs.n_pairs), first))
    groups, angles = monk_groups(of_subjects), ita_deg(of_subjects)
    facts: dict[str, float] = {}
    if (groups != "").any():
        for (low, high), name in zip(MONK_GROUPS, _MONK_NAMES, strict=True):
            facts[_share(low, high)] = 100.0 * float((groups == name).mean())
        facts["darkest_subjects"] = float((groups == _MONK_NAMES[-1]).sum())
        facts["subjects_without_tone"] = float((groups == "").sum())
    if np.isfinite(angles).any():
        facts["subjects_without_ita"] = float(np.isnan(angles).sum())
    if facts.get("darkest_subjects") and np.isfinite(angles).any():
        darkest = groups == _MONK_NAMES[-1]
        facts["darkest_at_ita_mark_percent"] = 100.0 * float((angles[darkest] <= DARK_ITA_DEG).mean())
    return facts


def _known(study: PairedStudy, name: str) -> _Floats:
    values: NDArray[Any] = study.fact(name)
    return np.asarray(values, dtype=np.float64)
